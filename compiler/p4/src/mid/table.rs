//! Tables: their properties, and what an application of one does.

use std::rc::Rc;
use std::sync::Arc;

use num_traits::ToPrimitive;

use crate::diagnostics::Diagnostic;
use crate::front::ast::{self, ExprKind, PropertyValue};
use crate::ir::{Expr, Handle, HeaderRef, Key, KeyValue, MatchKind, Place, Table, Type};
use crate::source::Span;

use super::annotation::{id_annotation, name_annotation};
use super::lower::Lower;
use super::operand::{Object, Operand, OperandKind};
use super::scope::{Entity, TableDef};
use super::types::{Ty, TyKind};

impl<'a> Lower<'a> {
    pub fn property(def: &TableDef<'a>, name: &str) -> Option<&'a ast::TableProperty> {
        def.table
            .properties
            .iter()
            .find(|p| p.name.as_str() == name)
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
        if let Some(ast::TableProperty {
            value: PropertyValue::Key(elements),
            ..
        }) = Self::property(def, "key")
        {
            for element in elements {
                if let Some((key, ty)) = self.key(def, element) {
                    keys.push(key);
                    key_types.push(ty);
                }
            }
        }
        let ids: Vec<_> = keys.iter().map(|key| (key.id, key.span)).collect();
        self.distinct_ids(&ids);
        let actions = self.table_actions(def);
        let default = self.default_action(def, &actions);
        let size = Self::property(def, "size").and_then(|p| match &p.value {
            PropertyValue::Expr(size) => self.constant_int(&def.scope, size, "the size of a table"),
            _ => None,
        });
        let entries = match Self::property(def, "entries") {
            Some(property) => match &property.value {
                PropertyValue::Entries(entries) => {
                    Some(self.entries(def, property, entries, &keys, &key_types, &actions))
                }
                _ => None,
            },
            None => None,
        };
        let support_timeout = match Self::property(def, "support_timeout") {
            Some(ast::TableProperty {
                value: PropertyValue::Expr(value),
                ..
            }) => {
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
        if let Some(key) = table.keys.iter().find(|k| k.kind == MatchKind::Selector)
            && table
                .profile
                .is_none_or(|p| self.ir.profiles[p].selector.is_none())
        {
            let span = key.span;
            self.error(
                span,
                "a key of kind `selector` needs `implementation = action_selector(…)`",
            );
        }
        let (counter, meter, profile) = (table.counter, table.meter, table.profile);
        let handle = self.ir.tables.append(table);
        let twice = "this object is attached to two tables";
        if let Some(counter) = counter
            && self.ir.direct_counters[counter]
                .table
                .replace(handle)
                .is_some()
        {
            self.error(def.decl.span, twice);
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

    pub fn check_properties(&mut self, def: &TableDef<'a>) {
        const KNOWN: [&str; 9] = [
            "key",
            "actions",
            "default_action",
            "size",
            "entries",
            "counters",
            "meters",
            "implementation",
            "support_timeout",
        ];
        const ENTRY_PRIORITIES: [&str; 2] = ["largest_priority_wins", "priority_delta"];
        for (position, property) in def.table.properties.iter().enumerate() {
            let name = property.name.as_str();
            if def
                .table
                .properties
                .iter()
                .take(position)
                .any(|p| p.name.as_str() == name)
            {
                self.error(
                    property.name.span,
                    format!("the property `{name}` is given twice"),
                );
            }
            if ENTRY_PRIORITIES.contains(&name) {
                continue;
            }
            if !KNOWN.contains(&name) {
                let similar = KNOWN
                    .iter()
                    .find(|known| super::scope::edit_distance(known, name) <= 2);
                let mut report = Diagnostic::error(
                    property.name.span,
                    format!("v1model has no table property `{name}`"),
                )
                .with_code("unsupported");
                if let Some(similar) = similar {
                    report = report.with_help(format!("is `{similar}` meant?"));
                }
                self.report(report);
            }
        }
        if Self::property(def, "actions").is_none() {
            self.error(
                def.table.name.span,
                format!("the table `{}` has no property `actions`", def.table.name),
            );
        }
    }

    pub fn key(&mut self, def: &TableDef<'a>, element: &'a ast::KeyElement) -> Option<(Key, Ty)> {
        let kind = match element.match_kind.as_str() {
            "exact" => MatchKind::Exact,
            "lpm" => MatchKind::Lpm,
            "ternary" => MatchKind::Ternary,
            "range" => MatchKind::Range,
            "optional" => MatchKind::Optional,
            "selector" => MatchKind::Selector,
            other => {
                let known = matches!(def.scope.find(other), Some(Entity::MatchKind));
                let message = if known {
                    format!("the match kind `{other}` is not supported")
                } else {
                    format!("`{other}` is no match kind")
                };
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
        if let TyKind::Enum(_) = self.types[ty] {
            let name = self.types.name(ty);
            let report = Diagnostic::error(
                element.expr.span,
                format!("a key can't be of type `{name}`, which has no representation"),
            )
            .with_help(format!("declare it as `enum bit<…> {name}`"));
            self.report(report);
            return None;
        }
        let Some(scalar) = self.types.scalar(ty) else {
            let name = self.types.name(ty);
            self.error(
                element.expr.span,
                format!("a key can't be of type `{name}`"),
            );
            return None;
        };
        if scalar.width() == 0 || matches!(scalar, Type::Varbit(_)) {
            self.unsupported(
                element.expr.span,
                "a key without a fixed width is not supported",
            );
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
            None => match self.key_name(&def.scope, &element.expr) {
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
        Some((
            Key {
                name,
                kind,
                value,
                width,
                type_name,
                id,
                annotations,
                span: element.span,
            },
            ty,
        ))
    }

    /// The field or validity that a key is, if it is one.
    pub fn key_value(&self, operand: &Operand<'a>) -> Option<KeyValue> {
        match &operand.kind {
            OperandKind::Place(
                place @ Place {
                    header: HeaderRef::Instance(_),
                    ..
                },
            ) => Some(KeyValue::Field(*place)),
            OperandKind::Value(value) => match self.ir.exprs[*value] {
                Expr::IsValid(HeaderRef::Instance(header)) => Some(KeyValue::Valid(header)),
                Expr::Read(
                    place @ Place {
                        header: HeaderRef::Instance(_),
                        ..
                    },
                ) => Some(KeyValue::Field(place)),
                _ => None,
            },
            _ => None,
        }
    }

    pub fn table_object(
        &mut self,
        def: &Rc<TableDef<'a>>,
        property: &str,
    ) -> Option<(Object<'a>, Span)> {
        let property = Self::property(def, property)?;
        let PropertyValue::Expr(expr) = &property.value else {
            return None;
        };
        let annotations = self.annotations(&def.scope, &property.annotations);
        if let ExprKind::Call {
            callee,
            type_args,
            args,
        } = &expr.kind
            && let ExprKind::Path(path) = &callee.kind
        {
            // Its name is not prefixed by those of the instances around it.
            let Some(name) = name_annotation(&annotations) else {
                let report =
                    Diagnostic::error(expr.span, "this object needs a name for controllers")
                        .with_help(format!("write `@name(\"…\")` before `{}`", property.name));
                self.report(report);
                return None;
            };
            let name = name.strip_prefix('.').unwrap_or(&name);
            let scope = def.scope.clone();
            let object =
                self.construct(&scope, path, type_args, args, name, annotations, expr.span);
            return object.map(|object| (object, expr.span));
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
