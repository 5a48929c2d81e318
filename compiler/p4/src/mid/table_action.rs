//! Actions of tables: the list, the default, and the data that entries give.

use std::rc::Rc;
use std::sync::Arc;

use num_bigint::BigInt;

use crate::front::ast::{self, Direction, ExprKind, PropertyValue};
use crate::ir::{self, ActionScope, DefaultAction, Handle, TableAction, Type};
use crate::source::Span;

use super::annotation::{id_annotation, name_annotation};
use super::bind::CopyOut;
use super::inline::leaves_by_exit;
use super::lower::Lower;
use super::operand::Operand;
use super::scope::{ActionDef, Entity, Scope, TableDef};
use super::types::TyKind;

impl<'a> Lower<'a> {
    pub fn table_actions(&mut self, def: &Rc<TableDef<'a>>) -> Vec<TableAction> {
        let mut actions: Vec<TableAction> = Vec::new();
        if let Some(ast::TableProperty {
            value: PropertyValue::Actions(list),
            ..
        }) = Self::property(def, "actions")
        {
            for item in list {
                let Some(action) = self.listed_action(def, item) else {
                    continue;
                };
                if actions.iter().any(|a| a.action == action) {
                    self.error(
                        item.span,
                        format!("the action `{}` is listed twice", item.path.name),
                    );
                    continue;
                }
                let annotations = self.annotations(&def.scope, &item.annotations);
                let has = |name: &str| annotations.iter().any(|a| a.name() == name);
                let scope = match (has("tableonly"), has("defaultonly")) {
                    (true, true) => {
                        self.error(
                            item.span,
                            "`@tableonly` and `@defaultonly` exclude each other",
                        );
                        ActionScope::Both
                    }
                    (true, false) => ActionScope::TableOnly,
                    (false, true) => ActionScope::DefaultOnly,
                    (false, false) => ActionScope::Both,
                };
                def.actions
                    .borrow_mut()
                    .push((Arc::clone(&item.path.name.name), action));
                actions.push(TableAction {
                    action,
                    scope,
                    annotations,
                });
            }
        }
        if Self::property(def, "default_action").is_none() {
            let known = def
                .actions
                .borrow()
                .iter()
                .any(|(name, _)| &**name == "NoAction");
            if !known && let Some(action) = self.no_action(def.decl.span) {
                def.actions.borrow_mut().push(("NoAction".into(), action));
                let annotations = vec![ir::Annotation::Unstructured {
                    name: "defaultonly".into(),
                    body: None,
                    string: None,
                }];
                actions.push(TableAction {
                    action,
                    scope: ActionScope::DefaultOnly,
                    annotations,
                });
            }
        }
        actions
    }

    /// core.p4's action that does nothing.
    pub fn no_action(&mut self, span: Span) -> Option<Handle<ir::Action>> {
        match self.globals.find("NoAction") {
            Some(Entity::Action(def)) => Some(self.lower_action(&def, Vec::new(), span)),
            _ => {
                self.error(
                    span,
                    "this table needs the action `NoAction` of core.p4, which is not there",
                );
                None
            }
        }
    }

    pub fn listed_action(
        &mut self,
        def: &Rc<TableDef<'a>>,
        item: &'a ast::ActionRef,
    ) -> Option<Handle<ir::Action>> {
        let action = self.action_named(&def.scope, &item.path)?;
        let params = &action.action.params;
        let directional = params
            .iter()
            .take_while(|p| p.direction != Direction::None)
            .count();
        let given = item.args.as_deref().unwrap_or_default();
        if given.len() != directional {
            self.error(
                item.span,
                format!(
                    "the action `{}` needs {directional} arguments here, {} are given",
                    item.path.name,
                    given.len()
                ),
            );
            return None;
        }
        let what = format!("the action `{}`", item.path.name);
        let scope = def.scope.clone();
        let bound_params = params.get(..directional).unwrap_or_default();
        let bound = self.bind(
            &scope,
            &action.scope,
            &what,
            bound_params,
            &[],
            &[],
            given,
            item.span,
        )?;
        Some(self.lower_action(&action, bound.values, item.span))
    }

    pub fn action_named(
        &mut self,
        scope: &Scope<'a>,
        path: &'a ast::Path,
    ) -> Option<Rc<ActionDef<'a>>> {
        match self.lookup(scope, path)? {
            Entity::Action(action) => Some(action),
            Entity::Poison => None,
            other => {
                self.error(
                    path.span,
                    format!("`{}` is {}, not an action", path.name, other.describe()),
                );
                None
            }
        }
    }

    /// The form that an action has in a table that binds these arguments to its first parameters.
    pub fn lower_action(
        &mut self,
        def: &Rc<ActionDef<'a>>,
        bound: Vec<Operand<'a>>,
        span: Span,
    ) -> Handle<ir::Action> {
        let known = def
            .lowered
            .borrow()
            .iter()
            .find(|(args, _)| *args == bound)
            .map(|(_, handle)| *handle);
        if let Some(known) = known {
            self.check_exit(known, span);
            return known;
        }
        let outer = std::mem::replace(&mut self.prefix, Arc::clone(&def.prefix));
        let annotations = self.annotations(&def.scope, &def.decl.annotations);
        let name = self.full_name(&annotations, def.action.name.as_str());
        let mut values = bound.clone();
        let mut params: Vec<ir::Param> = Vec::new();
        let mut ids = Vec::new();
        for param in def.action.params.iter().skip(bound.len()) {
            if param.direction != Direction::None {
                self.error(
                    param.span,
                    "parameters with a direction must stand before those without",
                );
            }
            let ty = self.resolve_type(&def.scope, &param.ty);
            let annotations = self.annotations(&def.scope, &param.annotations);
            let Some(scalar @ (Type::Bool | Type::Bits { .. })) = self.types.scalar(ty) else {
                if self.types[ty] != TyKind::Unknown {
                    let name = self.types.name(ty);
                    self.error(
                        param.ty.span,
                        format!("an entry can't give a parameter of type `{name}`"),
                    );
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
            ids.push((id_annotation(&annotations), param.span));
            params.push(ir::Param {
                name: name_annotation(&annotations).unwrap_or_else(|| Arc::clone(&param.name.name)),
                ty: scalar,
                width,
                type_name,
                id: id_annotation(&annotations),
                annotations,
            });
        }
        self.distinct_ids(&ids);
        let spans = vec![span; values.len()];
        let bound_all = super::bind::Bound {
            values,
            spans,
            types: def.scope.clone(),
        };
        let ((), body) = self.collect(|this| {
            this.deeper(span, |this| {
                this.inline_action(def, &bound_all, def.decl.span)
            });
        });
        let exits = leaves_by_exit(&body);
        let hidden = annotations.iter().any(|a| a.name() == "hidden");
        let names = self.names_of(&name, annotations);
        self.prefix = outer;
        let handle = self.ir.actions.append(ir::Action {
            names,
            params,
            body,
            hidden,
            unlisted: false,
            span: def.decl.span,
        });
        def.lowered.borrow_mut().push((bound, handle));
        if exits {
            let copies = self.copies_at_exit();
            self.names.exits.insert(handle, copies);
        }
        handle
    }

    /// What `exit` here has to copy out, for the calls around.
    fn copies_at_exit(&self) -> Vec<CopyOut<'a>> {
        let pending = self.pending.iter().filter(|copies| !copies.is_empty());
        pending.cloned().collect()
    }

    /// An action that ends with `exit` copies out what the calls around it have changed, so it can't
    /// serve calls of other blocks.
    pub fn check_exit(&mut self, action: Handle<ir::Action>, span: Span) {
        let here = self.copies_at_exit();
        if self
            .names
            .exits
            .get(&action)
            .is_some_and(|known| *known != here)
        {
            let name = Arc::clone(&self.ir.actions[action].names.name);
            self.unsupported(
                span,
                format!("`{name}`, which can `exit`, is used in two places with different arguments to copy out"),
            );
        }
    }

    pub fn default_action(
        &mut self,
        def: &Rc<TableDef<'a>>,
        actions: &[TableAction],
    ) -> DefaultAction {
        let fallback = |this: &mut Self| {
            let none = this.no_action(def.decl.span);
            let action = none.unwrap_or_else(|| this.dummy_action());
            DefaultAction {
                action,
                arguments: Vec::new(),
                constant: false,
            }
        };
        let Some(property) = Self::property(def, "default_action") else {
            return fallback(self);
        };
        let PropertyValue::Expr(expr) = &property.value else {
            return fallback(self);
        };
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
        let Some((action, arguments)) =
            self.action_with_data(def, path, args, given, expr.span, actions)
        else {
            return fallback(self);
        };
        if actions
            .iter()
            .any(|a| a.action == action && a.scope == ActionScope::TableOnly)
        {
            self.error(
                expr.span,
                format!("`{}` is listed with `@tableonly`", path.name),
            );
        }
        DefaultAction {
            action,
            arguments,
            constant: property.is_const,
        }
    }

    pub fn dummy_action(&mut self) -> Handle<ir::Action> {
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
        let listed = def
            .actions
            .borrow()
            .iter()
            .find(|(name, _)| *name == path.name.name)
            .map(|(_, h)| *h);
        let Some(handle) = listed
            .filter(|handle| actions.is_empty() || actions.iter().any(|a| a.action == *handle))
        else {
            self.error(
                span,
                format!(
                    "the action `{}` is not in the list of the table's actions",
                    path.name
                ),
            );
            return None;
        };
        let params = &action.action.params;
        let directional = params
            .iter()
            .take_while(|p| p.direction != Direction::None)
            .count();
        if !given && params.len() > directional {
            self.error(
                span,
                format!(
                    "the action `{}` needs {} arguments",
                    path.name,
                    params.len() - directional
                ),
            );
            return None;
        }
        // Arguments of parameters with a direction are those of the list; they may be left out.
        let skipped = if args.len() == params.len() - directional {
            directional
        } else {
            0
        };
        let what = format!("the action `{}`", path.name);
        let scope = def.scope.clone();
        let wanted = if given {
            params.get(skipped..).unwrap_or_default()
        } else {
            &[]
        };
        let (bound, block) = self
            .collect(|this| this.bind(&scope, &action.scope, &what, wanted, &[], &[], args, span));
        let bound = bound?;
        if !block.is_empty() {
            self.error(span, "the data of an action must be known at compile time");
            return None;
        }
        let mut data = Vec::new();
        for (value, at) in bound
            .values
            .iter()
            .zip(&bound.spans)
            .skip(directional.saturating_sub(skipped))
        {
            match self.constant_of(value) {
                Some(number) => {
                    // Signed numbers travel in two's complement.
                    let width = self.types.scalar(value.ty).map_or(0, Type::width);
                    data.push(if width > 0 {
                        Type::bits(width).wrap(&number)
                    } else {
                        number
                    });
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
}
