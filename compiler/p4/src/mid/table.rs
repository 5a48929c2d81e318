//! Tables: their properties, and what an application of one does.

use std::rc::Rc;
use std::sync::Arc;

use num_bigint::BigInt;
use num_traits::ToPrimitive;

use crate::diagnostics::Diagnostic;
use crate::front::ast::{self, Direction, ExprKind, PropertyValue};
use crate::ir::{
    self, ActionScope, After, DefaultAction, Expr, Handle, HeaderRef, Key, KeyValue, MatchKind, Place, StmtKind, Table, TableAction,
    Type,
};
use crate::source::Span;

use super::lower::{Inside, Lower, Part};
use super::operand::{Object, Operand, OperandKind};
use super::resolve::{id_annotation, name_annotation};
use super::scope::{ActionDef, Entity, Scope, TableDef};
use super::types::{Ty, TyKind};

impl<'a> Lower<'a> {
    /// `table.apply()`, with what depends on its outcome.
    pub fn apply_table(&mut self, def: &Rc<TableDef<'a>>, args: &'a [ast::Argument], span: Span, after: After) {
        let Some(handle) = self.ready_table(def, args, span) else { return };
        // Keys that are no fields are computed each time.
        let computed = def.computed.borrow().clone();
        let outer = std::mem::replace(&mut self.prefix, Arc::clone(&def.prefix));
        for (place, expr) in computed {
            let value = self.expr(&def.scope, expr);
            let value = self.coerce(value, place.ty, expr.span);
            self.assign(&place, value, expr.span);
        }
        self.prefix = outer;
        self.emit(span, StmtKind::Apply { table: handle, after });
    }

    fn ready_table(&mut self, def: &Rc<TableDef<'a>>, args: &'a [ast::Argument], span: Span) -> Option<Handle<Table>> {
        if !matches!(self.part, Part::Ingress | Part::Egress) {
            self.error(span, format!("a table can't be applied in {}", self.part.describe()));
            return None;
        }
        if self.inside != Inside::Body {
            self.error(span, "a table can be applied only in the body of a control");
            return None;
        }
        if let Some(arg) = args.first() {
            self.error(arg.span, "`apply` of a table takes no arguments");
        }
        if self.dead > 0 {
            return None;
        }
        match def.lowered.get() {
            Some(handle) => Some(handle),
            None => {
                let handle = self.lower_table(def);
                def.lowered.set(Some(handle));
                Some(handle)
            }
        }
    }

    /// `table.apply().hit` and its kin in any expression.
    pub fn apply_result(&mut self, def: &Rc<TableDef<'a>>, args: &'a [ast::Argument], member: &ast::Ident, span: Span) -> Operand<'a> {
        let (on_hit, on_miss) = match member.as_str() {
            "hit" => (true, false),
            "miss" => (false, true),
            "action_run" => return self.bad(span, "`action_run` can stand only in `switch`"),
            other => {
                return self.bad(member.span, format!("the result of a table has no member `{other}`; it has `hit`, `miss` and `action_run`"));
            }
        };
        let result = self.temporary(Type::Bool);
        let (hit, miss) = (self.ir.exprs.bool(on_hit), self.ir.exprs.bool(on_miss));
        let set = |value| vec![ir::Stmt { span, kind: StmtKind::Assign { to: result, value } }];
        self.apply_table(def, args, span, After::HitOrMiss { hit: set(hit), miss: set(miss) });
        let ty = self.types.bool();
        Operand::new(ty, OperandKind::Place(result))
    }

    /// `switch (table.apply().action_run) { … }`
    pub fn switch_on_action(
        &mut self,
        scope: &Scope<'a>,
        def: &Rc<TableDef<'a>>,
        args: &'a [ast::Argument],
        cases: &'a [ast::SwitchCase],
        span: Span,
    ) {
        let ready = self.ready_table(def, args, span);
        let mut lowered: Vec<(Vec<Handle<ir::Action>>, ir::Block)> = Vec::new();
        let mut otherwise = ir::Block::new();
        let mut labels: Vec<Handle<ir::Action>> = Vec::new();
        let mut seen: Vec<Handle<ir::Action>> = Vec::new();
        let mut is_default = false;
        for case in cases {
            match &case.label {
                None => is_default = true,
                Some(ast::Expr { kind: ExprKind::Path(path), span: at }) => {
                    let found = def.actions.borrow().iter().find(|(name, _)| *name == path.name.name).map(|(_, h)| *h);
                    match found {
                        Some(handle) if seen.contains(&handle) => self.error(*at, "this case is covered before"),
                        Some(handle) => {
                            seen.push(handle);
                            labels.push(handle);
                        }
                        None if ready.is_none() => {}
                        None => {
                            let report = Diagnostic::error(*at, format!("`{}` is no action of the table `{}`", path.name, def.table.name))
                                .with_label(def.table.name.span, "this table");
                            self.report(report);
                        }
                    }
                }
                Some(other) => self.error(other.span, "a case must name an action of the table"),
            }
            let Some(body) = &case.body else { continue };
            let ((), block) = self.collect(|this| this.statements(&scope.inside(), &body.stmts));
            let taken = std::mem::take(&mut labels);
            if std::mem::take(&mut is_default) {
                otherwise = block;
            } else if !taken.is_empty() {
                lowered.push((taken, block));
            }
        }
        if ready.is_some() {
            let after = if lowered.is_empty() && otherwise.is_empty() {
                After::Nothing
            } else {
                After::ByAction { cases: lowered, otherwise }
            };
            self.apply_table(def, args, span, after);
        }
    }

    fn property(def: &TableDef<'a>, name: &str) -> Option<&'a ast::TableProperty> {
        def.table.properties.iter().find(|p| p.name.as_str() == name)
    }

    /// Makes the table of the program from its declaration.
    pub fn lower_table(&mut self, def: &Rc<TableDef<'a>>) -> Handle<Table> {
        let outer = std::mem::replace(&mut self.prefix, Arc::clone(&def.prefix));
        let annotations = self.annotations(&def.scope, &def.decl.annotations);
        let name = self.full_name(&annotations, def.table.name.as_str());
        let hidden = annotations.iter().any(|a| a.name() == "hidden");
        let names = self.names_of(&name, annotations);
        self.check_properties(def);
        let mut keys = Vec::new();
        let mut key_types = Vec::new();
        if let Some(ast::TableProperty { value: PropertyValue::Key(elements), .. }) = Self::property(def, "key") {
            for element in elements {
                if let Some((key, ty)) = self.key(def, element) {
                    keys.push(key);
                    key_types.push(ty);
                }
            }
        }
        let actions = self.table_actions(def);
        let default = self.default_action(def, &actions);
        let size = Self::property(def, "size").and_then(|p| match &p.value {
            PropertyValue::Expr(size) => self.constant_int(&def.scope, size, "the size of a table"),
            _ => None,
        });
        let entries = match Self::property(def, "entries") {
            Some(property) => match &property.value {
                PropertyValue::Entries(entries) => {
                    Some(self.entries(def, property, entries, &keys, &key_types))
                }
                _ => None,
            },
            None => None,
        };
        let support_timeout = match Self::property(def, "support_timeout") {
            Some(ast::TableProperty { value: PropertyValue::Expr(value), .. }) => {
                let condition = self.condition(&def.scope, value);
                self.ir.exprs.constant_bool(condition).unwrap_or(false)
            }
            _ => false,
        };
        let objects: Vec<Option<(Object<'a>, Span)>> = ["counters", "meters", "implementation"]
            .into_iter()
            .map(|property| self.table_object(def, property))
            .collect();
        let mut table = Table {
            names,
            keys,
            actions,
            default,
            size: size.and_then(|size| size.to_u64()).filter(|size| *size > 0),
            entries,
            counter: None,
            meter: None,
            profile: None,
            support_timeout,
            hidden,
            span: def.decl.span,
        };
        for object in objects.into_iter().flatten() {
            match object {
                (Object::DirectCounter(counter), _) => table.counter = Some(counter),
                (Object::DirectMeter(meter), _) => table.meter = Some(meter),
                (Object::Profile(profile), _) => table.profile = Some(profile),
                (_, span) => self.error(span, "this object can't be attached to a table"),
            }
        }
        if let Some(key) = table.keys.iter().find(|k| k.kind == MatchKind::Selector) {
            if table.profile.is_none_or(|p| self.ir.profiles[p].selector.is_none()) {
                let span = key.span;
                self.error(span, "a key of kind `selector` needs `implementation = action_selector(…)`");
            }
        }
        let (counter, meter, profile) = (table.counter, table.meter, table.profile);
        let handle = self.ir.tables.append(table);
        let twice = "this object is attached to two tables";
        if let Some(counter) = counter {
            if self.ir.direct_counters[counter].table.replace(handle).is_some() {
                self.error(def.decl.span, twice);
            }
        }
        if let Some(meter) = meter {
            if self.ir.direct_meters[meter].table.replace(handle).is_some() {
                self.error(def.decl.span, twice);
            }
            if self.ir.direct_meters[meter].target.is_none() {
                self.error(def.decl.span, "the table's meter is never read, so its result has no place; call `read` in an action");
            }
        }
        if let Some(profile) = profile {
            self.ir.profiles[profile].tables.push(handle);
        }
        self.prefix = outer;
        handle
    }

    fn check_properties(&mut self, def: &TableDef<'a>) {
        const KNOWN: [&str; 9] = [
            "key", "actions", "default_action", "size", "entries", "counters", "meters", "implementation", "support_timeout",
        ];
        const ENTRY_PRIORITIES: [&str; 2] = ["largest_priority_wins", "priority_delta"];
        for (position, property) in def.table.properties.iter().enumerate() {
            let name = property.name.as_str();
            if def.table.properties.iter().take(position).any(|p| p.name.as_str() == name) {
                self.error(property.name.span, format!("the property `{name}` is given twice"));
            }
            if ENTRY_PRIORITIES.contains(&name) {
                continue;
            }
            if !KNOWN.contains(&name) {
                let similar = KNOWN.iter().find(|known| super::scope::edit_distance(known, name) <= 2);
                let mut report = Diagnostic::error(property.name.span, format!("v1model has no table property `{name}`"))
                    .with_code("unsupported");
                if let Some(similar) = similar {
                    report = report.with_help(format!("is `{similar}` meant?"));
                }
                self.report(report);
            }
        }
        if Self::property(def, "actions").is_none() {
            self.error(def.table.name.span, format!("the table `{}` has no property `actions`", def.table.name));
        }
    }

    fn key(&mut self, def: &TableDef<'a>, element: &'a ast::KeyElement) -> Option<(Key, Ty)> {
        let kind = match element.match_kind.as_str() {
            "exact" => MatchKind::Exact,
            "lpm" => MatchKind::Lpm,
            "ternary" => MatchKind::Ternary,
            "range" => MatchKind::Range,
            "optional" => MatchKind::Optional,
            "selector" => MatchKind::Selector,
            other => {
                let known = matches!(def.scope.find(other), Some(Entity::MatchKind));
                let message = if known { format!("the match kind `{other}` is not supported") } else { format!("`{other}` is no match kind") };
                self.error(element.match_kind.span, message);
                return None;
            }
        };
        let annotations = self.annotations(&def.scope, &element.annotations);
        let (operand, block) = self.collect(|this| this.expr(&def.scope, &element.expr));
        if operand.is_poison() {
            return None;
        }
        let mut ty = operand.ty;
        if let OperandKind::Int(_) = operand.kind {
            self.error(element.expr.span, "the width of this key is not known");
            return None;
        }
        let Some(scalar) = self.types.scalar(ty) else {
            let name = self.types.name(ty);
            self.error(element.expr.span, format!("a key can't be of type `{name}`"));
            return None;
        };
        if scalar.width() == 0 || matches!(scalar, Type::Varbit(_)) {
            self.unsupported(element.expr.span, "a key without a fixed width is not supported");
            return None;
        }
        if kind == MatchKind::Lpm && scalar == Type::Bool {
            ty = self.types.bits(1);
        }
        let value = match self.key_value(&operand) {
            Some(value) if block.is_empty() => value,
            _ => {
                let name = self.qualified(&format!("{}.key", def.table.name));
                let place = self.scalar(&name, scalar);
                let holder = Operand::new(operand.ty, OperandKind::Place(place));
                def.computed.borrow_mut().push((holder, &element.expr));
                KeyValue::Field(place)
            }
        };
        let name = match name_annotation(&annotations) {
            Some(name) => name,
            None => match key_text(&element.expr) {
                Some(text) => text.into(),
                None => {
                    let report = Diagnostic::error(element.expr.span, "this key needs a name")
                        .with_help("write `@name(\"…\")` behind the match kind");
                    self.report(report);
                    return None;
                }
            },
        };
        let (width, type_name) = self.control_plane_type(ty);
        let id = id_annotation(&annotations);
        Some((Key { name, kind, value, width, type_name, id, annotations, span: element.span }, ty))
    }

    /// The field or validity that a key is, if it is one.
    fn key_value(&self, operand: &Operand<'a>) -> Option<KeyValue> {
        match &operand.kind {
            OperandKind::Place(place @ Place { header: HeaderRef::Instance(_), .. }) => Some(KeyValue::Field(*place)),
            OperandKind::Value(value) => match self.ir.exprs[*value] {
                Expr::IsValid(HeaderRef::Instance(header)) => Some(KeyValue::Valid(header)),
                Expr::Read(place @ Place { header: HeaderRef::Instance(_), .. }) => Some(KeyValue::Field(place)),
                _ => None,
            },
            _ => None,
        }
    }

    fn table_actions(&mut self, def: &Rc<TableDef<'a>>) -> Vec<TableAction> {
        let mut actions: Vec<TableAction> = Vec::new();
        if let Some(ast::TableProperty { value: PropertyValue::Actions(list), .. }) = Self::property(def, "actions") {
            for item in list {
                let Some(action) = self.listed_action(def, item) else { continue };
                if actions.iter().any(|a| a.action == action) {
                    self.error(item.span, format!("the action `{}` is listed twice", item.path.name));
                    continue;
                }
                let annotations = self.annotations(&def.scope, &item.annotations);
                let has = |name: &str| annotations.iter().any(|a| a.name() == name);
                let scope = match (has("tableonly"), has("defaultonly")) {
                    (true, true) => {
                        self.error(item.span, "`@tableonly` and `@defaultonly` exclude each other");
                        ActionScope::Both
                    }
                    (true, false) => ActionScope::TableOnly,
                    (false, true) => ActionScope::DefaultOnly,
                    (false, false) => ActionScope::Both,
                };
                def.actions.borrow_mut().push((Arc::clone(&item.path.name.name), action));
                actions.push(TableAction { action, scope, annotations });
            }
        }
        if Self::property(def, "default_action").is_none() {
            let known = def.actions.borrow().iter().any(|(name, _)| &**name == "NoAction");
            if !known {
                if let Some(action) = self.no_action(def.decl.span) {
                    def.actions.borrow_mut().push(("NoAction".into(), action));
                    let annotations = vec![ir::Annotation::Unstructured { name: "defaultonly".into(), body: None, string: None }];
                    actions.push(TableAction { action, scope: ActionScope::DefaultOnly, annotations });
                }
            }
        }
        actions
    }

    /// core.p4's action that does nothing.
    fn no_action(&mut self, span: Span) -> Option<Handle<ir::Action>> {
        match self.globals.find("NoAction") {
            Some(Entity::Action(def)) => Some(self.lower_action(&def, Vec::new(), span)),
            _ => {
                self.error(span, "this table needs the action `NoAction` of core.p4, which is not there");
                None
            }
        }
    }

    fn listed_action(&mut self, def: &Rc<TableDef<'a>>, item: &'a ast::ActionRef) -> Option<Handle<ir::Action>> {
        let action = self.action_named(&def.scope, &item.path)?;
        let params = &action.action.params;
        let directional = params.iter().take_while(|p| p.direction != Direction::None).count();
        let given = item.args.as_deref().unwrap_or_default();
        if given.len() != directional {
            self.error(
                item.span,
                format!("the action `{}` needs {directional} arguments here, {} are given", item.path.name, given.len()),
            );
            return None;
        }
        let what = format!("the action `{}`", item.path.name);
        let scope = def.scope.clone();
        let bound_params = params.get(..directional).unwrap_or_default();
        let bound = self.bind(&scope, &action.scope, &what, bound_params, &[], &[], given, item.span)?;
        Some(self.lower_action(&action, bound.values, item.span))
    }

    pub fn action_named(&mut self, scope: &Scope<'a>, path: &'a ast::Path) -> Option<Rc<ActionDef<'a>>> {
        match self.lookup(scope, path)? {
            Entity::Action(action) => Some(action),
            Entity::Poison => None,
            other => {
                self.error(path.span, format!("`{}` is {}, not an action", path.name, other.describe()));
                None
            }
        }
    }

    /// The form that an action has in a table that binds these arguments to its first parameters.
    pub fn lower_action(&mut self, def: &Rc<ActionDef<'a>>, bound: Vec<Operand<'a>>, span: Span) -> Handle<ir::Action> {
        let known = def.lowered.borrow().iter().find(|(args, _)| *args == bound).map(|(_, handle)| *handle);
        if let Some(known) = known {
            return known;
        }
        let outer = std::mem::replace(&mut self.prefix, Arc::clone(&def.prefix));
        let annotations = self.annotations(&def.scope, &def.decl.annotations);
        let name = self.full_name(&annotations, def.action.name.as_str());
        let mut values = bound.clone();
        let mut params: Vec<ir::Param> = Vec::new();
        for param in def.action.params.iter().skip(bound.len()) {
            if param.direction != Direction::None {
                self.error(param.span, "parameters with a direction must stand before those without");
            }
            let ty = self.resolve_type(&def.scope, &param.ty);
            let annotations = self.annotations(&def.scope, &param.annotations);
            let Some(scalar @ (Type::Bool | Type::Bits { .. })) = self.types.scalar(ty) else {
                if self.types[ty] != TyKind::Unknown {
                    let name = self.types.name(ty);
                    self.error(param.ty.span, format!("an entry can't give a parameter of type `{name}`"));
                }
                values.push(self.poison());
                continue;
            };
            let position = u32::try_from(params.len()).unwrap_or(u32::MAX);
            let expr = self.ir.exprs.param(position, scalar);
            values.push(Operand::value(ty, expr));
            let (width, type_name) = self.control_plane_type(ty);
            let (width, type_name) = match self.types[ty] {
                TyKind::Enum(def) => (0, Some(Arc::clone(&self.types.enums[def].name))),
                _ => (width, type_name),
            };
            params.push(ir::Param {
                name: name_annotation(&annotations).unwrap_or_else(|| Arc::clone(&param.name.name)),
                ty: scalar,
                width,
                type_name,
                id: id_annotation(&annotations),
                annotations,
            });
        }
        let spans = vec![span; values.len()];
        let bound_all = super::call::Bound { values, spans, types: def.scope.clone() };
        let ((), body) = self.collect(|this| {
            this.deeper(span, |this| this.inline_action(def, &bound_all, def.decl.span));
        });
        let hidden = annotations.iter().any(|a| a.name() == "hidden");
        let names = self.names_of(&name, annotations);
        self.prefix = outer;
        let handle = self.ir.actions.append(ir::Action { names, params, body, hidden, unlisted: false, span: def.decl.span });
        def.lowered.borrow_mut().push((bound, handle));
        handle
    }

    fn default_action(&mut self, def: &Rc<TableDef<'a>>, actions: &[TableAction]) -> DefaultAction {
        let fallback = |this: &mut Self| {
            let none = this.no_action(def.decl.span);
            let action = none.unwrap_or_else(|| this.dummy_action());
            DefaultAction { action, arguments: Vec::new(), constant: false }
        };
        let Some(property) = Self::property(def, "default_action") else { return fallback(self) };
        let PropertyValue::Expr(expr) = &property.value else { return fallback(self) };
        let (path, args, given): (&'a ast::Path, &'a [ast::Argument], bool) = match &expr.kind {
            ExprKind::Path(path) => (path, &[], false),
            ExprKind::Call { callee, args, .. } => match &callee.kind {
                ExprKind::Path(path) => (path, args, true),
                _ => {
                    self.error(expr.span, "the default action must be an action");
                    return fallback(self);
                }
            },
            _ => {
                self.error(expr.span, "the default action must be an action");
                return fallback(self);
            }
        };
        let Some((action, arguments)) = self.action_with_data(def, path, args, given, expr.span, actions) else {
            return fallback(self);
        };
        if actions.iter().any(|a| a.action == action && a.scope == ActionScope::TableOnly) {
            self.error(expr.span, format!("`{}` is listed with `@tableonly`", path.name));
        }
        DefaultAction { action, arguments, constant: property.is_const }
    }

    fn dummy_action(&mut self) -> Handle<ir::Action> {
        self.ir.actions.append(ir::Action {
            names: ir::Names::default(),
            params: Vec::new(),
            body: Vec::new(),
            hidden: true,
            unlisted: true,
            span: Span::default(),
        })
    }

    /// An action of the table, and the data that a default or an entry gives it.
    pub fn action_with_data(
        &mut self,
        def: &Rc<TableDef<'a>>,
        path: &'a ast::Path,
        args: &'a [ast::Argument],
        given: bool,
        span: Span,
        actions: &[TableAction],
    ) -> Option<(Handle<ir::Action>, Vec<BigInt>)> {
        let action = self.action_named(&def.scope, path)?;
        let listed = def.actions.borrow().iter().find(|(name, _)| *name == path.name.name).map(|(_, h)| *h);
        let Some(handle) = listed.filter(|handle| actions.is_empty() || actions.iter().any(|a| a.action == *handle)) else {
            self.error(span, format!("the action `{}` is not in the list of the table's actions", path.name));
            return None;
        };
        let params = &action.action.params;
        let directional = params.iter().take_while(|p| p.direction != Direction::None).count();
        if !given && params.len() > directional {
            self.error(span, format!("the action `{}` needs {} arguments", path.name, params.len() - directional));
            return None;
        }
        // Arguments of parameters with a direction are those of the list; they may be left out.
        let skipped = if args.len() == params.len() - directional { directional } else { 0 };
        let what = format!("the action `{}`", path.name);
        let scope = def.scope.clone();
        let wanted = if given { params.get(skipped..).unwrap_or_default() } else { &[] };
        let (bound, block) = self.collect(|this| this.bind(&scope, &action.scope, &what, wanted, &[], &[], args, span));
        let bound = bound?;
        if !block.is_empty() {
            self.error(span, "the data of an action must be known at compile time");
            return None;
        }
        let mut data = Vec::new();
        for (value, at) in bound.values.iter().zip(&bound.spans).skip(directional.saturating_sub(skipped)) {
            match self.constant_of(value) {
                Some(number) => {
                    // Signed numbers travel in two's complement.
                    let width = self.types.scalar(value.ty).map_or(0, Type::width);
                    data.push(if width > 0 { Type::bits(width).wrap(&number) } else { number });
                }
                None if value.is_poison() => return None,
                None => {
                    self.error(*at, "the data of an action must be known at compile time");
                    return None;
                }
            }
        }
        Some((handle, data))
    }

    fn table_object(&mut self, def: &Rc<TableDef<'a>>, property: &str) -> Option<(Object<'a>, Span)> {
        let property = Self::property(def, property)?;
        let PropertyValue::Expr(expr) = &property.value else { return None };
        let annotations = self.annotations(&def.scope, &property.annotations);
        if let ExprKind::Call { callee, type_args, args } = &expr.kind {
            if let ExprKind::Path(path) = &callee.kind {
                let own = format!("{}.{}", def.table.name, property.name);
                let name = self.full_name(&annotations, &own);
                let scope = def.scope.clone();
                self.declared.push(Vec::new());
                let object = self.construct(&scope, path, type_args, args, &name, annotations, expr.span);
                self.declared.pop();
                return object.map(|object| (object, expr.span));
            }
        }
        let operand = self.expr(&def.scope.clone(), expr);
        match operand.kind {
            OperandKind::Object(object) => Some((object, expr.span)),
            OperandKind::Poison => None,
            _ => {
                self.error(expr.span, format!("`{}` needs an object", property.name));
                None
            }
        }
    }
}

/// What the control plane calls a key without `@name`: its text in one form of writing.
fn key_text(expr: &ast::Expr) -> Option<String> {
    Some(match &expr.kind {
        ExprKind::Path(path) if path.absolute => format!(".{}", path.name),
        ExprKind::Path(path) => path.name.to_string(),
        ExprKind::Member { base, member } => format!("{}.{member}", key_text(base)?),
        ExprKind::Index { base, index } => format!("{}[{}]", key_text(base)?, key_text(index)?),
        ExprKind::Slice { base, hi, lo } => format!("{}[{}:{}]", key_text(base)?, key_text(hi)?, key_text(lo)?),
        ExprKind::Int(lit) => lit.value.to_string(),
        ExprKind::Binary { op: ast::BinaryOp::BitAnd, left, right } => format!("{} & {}", key_text(left)?, key_text(right)?),
        ExprKind::Call { callee, args, .. } => match &callee.kind {
            ExprKind::Member { base, member } if member.as_str() == "isValid" && args.is_empty() => {
                format!("{}.$valid$", key_text(base)?)
            }
            _ => return None,
        },
        _ => return None,
    })
}
