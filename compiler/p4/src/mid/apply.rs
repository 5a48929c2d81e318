//! Applications of tables, and what depends on their outcome.

use std::rc::Rc;
use std::sync::Arc;

use crate::diagnostics::Diagnostic;
use crate::front::ast::{self, ExprKind};
use crate::ir::{self, After, Handle, StmtKind, Table, Type};
use crate::source::Span;

use super::lower::{Inside, Lower, Part};
use super::operand::{Operand, OperandKind};
use super::scope::{Scope, TableDef};

impl<'a> Lower<'a> {
    /// `table.apply()`, with what depends on its outcome.
    pub fn apply_table(
        &mut self,
        def: &Rc<TableDef<'a>>,
        args: &'a [ast::Argument],
        span: Span,
        after: After,
    ) {
        let Some(handle) = self.ready_table(def, args, span) else {
            return;
        };
        // Keys that are no fields are computed each time.
        let computed = def.computed.borrow().clone();
        let outer = std::mem::replace(&mut self.prefix, Arc::clone(&def.prefix));
        for (place, expr) in computed {
            let value = self.expr(&def.scope, expr);
            let value = self.coerce(value, place.ty, expr.span);
            self.assign(&place, value, expr.span);
        }
        self.prefix = outer;
        self.emit(
            span,
            StmtKind::Apply {
                table: handle,
                after,
            },
        );
    }

    pub fn ready_table(
        &mut self,
        def: &Rc<TableDef<'a>>,
        args: &'a [ast::Argument],
        span: Span,
    ) -> Option<Handle<Table>> {
        if !matches!(self.part, Part::Ingress | Part::Egress) {
            self.error(
                span,
                format!("a table can't be applied in {}", self.part.describe()),
            );
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
            Some(handle) => {
                let actions: Vec<Handle<ir::Action>> = self.ir.tables[handle]
                    .actions
                    .iter()
                    .map(|a| a.action)
                    .collect();
                for action in actions {
                    self.check_exit(action, span);
                }
                Some(handle)
            }
            None => {
                let handle = self.lower_table(def);
                def.lowered.set(Some(handle));
                Some(handle)
            }
        }
    }

    /// `table.apply().hit` and its kin in any expression.
    pub fn apply_result(
        &mut self,
        def: &Rc<TableDef<'a>>,
        args: &'a [ast::Argument],
        member: &ast::Ident,
        span: Span,
    ) -> Operand<'a> {
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
        let set = |value| {
            vec![ir::Stmt {
                span,
                kind: StmtKind::Assign { to: result, value },
            }]
        };
        self.apply_table(
            def,
            args,
            span,
            After::HitOrMiss {
                hit: set(hit),
                miss: set(miss),
            },
        );
        let ty = self.types.bool();
        Operand::new(ty, OperandKind::Place(result))
    }

    /// Refuses labels behind `default` (section 12.7).
    pub fn default_is_last(&mut self, cases: &[ast::SwitchCase]) {
        let mut labels = cases.iter().skip_while(|case| case.label.is_some());
        let default = labels.next();
        if let (Some(default), Some(after)) = (default, labels.next()) {
            let report = Diagnostic::error(after.span, "no case can follow `default`")
                .with_label(default.span, "this default");
            self.report(report);
        }
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
                Some(ast::Expr {
                    kind: ExprKind::Path(path),
                    span: at,
                }) => {
                    let found = def
                        .actions
                        .borrow()
                        .iter()
                        .find(|(name, _)| *name == path.name.name)
                        .map(|(_, h)| *h);
                    match found {
                        Some(handle) if seen.contains(&handle) => {
                            self.error(*at, "this case is covered before")
                        }
                        Some(handle) => {
                            seen.push(handle);
                            labels.push(handle);
                        }
                        None if ready.is_none() => {}
                        None => {
                            let report = Diagnostic::error(
                                *at,
                                format!(
                                    "`{}` is no action of the table `{}`",
                                    path.name, def.table.name
                                ),
                            )
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
                After::ByAction {
                    cases: lowered,
                    otherwise,
                }
            };
            self.apply_table(def, args, span, after);
        }
    }
}
