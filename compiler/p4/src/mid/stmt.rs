//! Statements of controls, actions, functions and parser states.

use num_bigint::BigInt;

use crate::diagnostics::Diagnostic;
use crate::front::ast::{self, DeclKind, ExprKind, ForCollection, UnaryOp};
use crate::ir::{self, After, Block, Handle, Stmt, StmtKind};
use crate::source::Span;

use super::lower::{Inside, LoopTarget, Lower};
use super::operand::{Operand, OperandKind};
use super::scope::{Entity, Scope};
use super::types::TyKind;

/// How often the body of a loop may be repeated.
const MAX_ROUNDS: usize = 4096;

/// How many cases of a `switch` are nested in each other.
const MAX_CHAIN: usize = 64;

impl<'a> Lower<'a> {
    /// Statements, in the given scope.
    pub fn statements(&mut self, scope: &Scope<'a>, stmts: &'a [ast::Stmt]) {
        let mut rest = stmts.iter();
        for stmt in rest.by_ref() {
            self.statement(scope, stmt);
            if leaves(&self.block) {
                break;
            }
        }
        // What can't be reached is only checked.
        self.dead += 1;
        self.collect(|this| rest.for_each(|stmt| this.statement(scope, stmt)));
        self.dead -= 1;
    }

    pub fn statement(&mut self, scope: &Scope<'a>, stmt: &'a ast::Stmt) {
        if self.goes_on(stmt.span) {
            self.deeper(stmt.span, |this| this.statement_inner(scope, stmt));
        }
    }

    fn statement_inner(&mut self, scope: &Scope<'a>, stmt: &'a ast::Stmt) {
        let span = stmt.span;
        match &stmt.kind {
            ast::StmtKind::Empty => {}
            ast::StmtKind::Block(block) => self.statements(&scope.inside(), &block.stmts),
            ast::StmtKind::Decl(decl) => self.local(scope, decl),
            ast::StmtKind::Assign { op, target, value } => {
                self.assignment(scope, *op, target, value, span)
            }
            ast::StmtKind::Call(call) => {
                self.expr(scope, call);
            }
            ast::StmtKind::If {
                condition,
                then,
                otherwise,
            } => {
                self.if_statement(scope, condition, then, otherwise.as_deref(), span);
            }
            ast::StmtKind::Switch { subject, cases } => self.switch(scope, subject, cases, span),
            ast::StmtKind::Return(value) => self.return_statement(scope, value.as_ref(), span),
            ast::StmtKind::Exit => self.exit(span),
            ast::StmtKind::Break | ast::StmtKind::Continue => {
                let target = self.loops.last().map(|l| {
                    if stmt.kind == ast::StmtKind::Break {
                        l.end
                    } else {
                        l.next
                    }
                });
                match target {
                    Some(label) => self.emit(span, StmtKind::Break(label)),
                    None => self.error(span, "this stands in no loop"),
                }
            }
            ast::StmtKind::For(inner) => self.for_loop(scope, inner, span),
            ast::StmtKind::ForIn(inner) => self.for_in(scope, inner, span),
        }
    }

    /// `exit` ends the calls around it too, and what they changed is copied out all the same
    /// (section 12.5).
    fn exit(&mut self, span: Span) {
        for copies in self.pending.clone().into_iter().rev() {
            self.copy_out(copies, span);
        }
        self.emit(span, StmtKind::Exit);
    }

    fn local(&mut self, scope: &Scope<'a>, decl: &'a ast::Decl) {
        match &decl.kind {
            DeclKind::Var(var) => {
                let operand = self.declare_variable(scope, var);
                if let Some(init) = &var.init {
                    let value = self.expr(&scope.inside(), init);
                    let value = self.coerce(value, operand.ty, init.span);
                    self.assign(&operand, value, decl.span);
                } else {
                    self.invalidate(&operand, decl.span);
                }
                self.declare(scope, &var.name, Entity::Value(operand, None));
            }
            DeclKind::Const(_) => self.declare_type_or_constant(scope, decl),
            DeclKind::Instance(instance) => {
                let entity = match self.instantiate_decl(scope, decl, instance) {
                    Some(object) => Entity::Object(object),
                    None => Entity::Poison,
                };
                self.declare(scope, &instance.name, entity);
            }
            _ => self.error(decl.span, "this can't be declared in a block"),
        }
    }

    /// The storage of a variable; its first value is the caller's business.
    pub fn declare_variable(&mut self, scope: &Scope<'a>, var: &'a ast::VarDecl) -> Operand<'a> {
        let ty = self.resolve_type(scope, &var.ty);
        if matches!(self.types[ty], TyKind::Int) {
            return self.bad(
                var.ty.span,
                "a variable can't have the type `int`; give it a width",
            );
        }
        let name = self.qualified(var.name.as_str());
        self.variable(ty, &name, var.name.span)
    }

    fn assignment(
        &mut self,
        scope: &Scope<'a>,
        op: Option<ast::BinaryOp>,
        target: &'a ast::Expr,
        value: &'a ast::Expr,
        span: Span,
    ) {
        if !self.check_writable(scope, target) {
            return;
        }
        let mut place = self.expr(scope, target);
        let mut mark = self.block.len();
        let given = self.expr(scope, value);
        mark += self.pin_before(&mut place, mark, target.span);
        let given = match op {
            Some(op) => {
                let old = self.protect(place.clone(), mark, target.span);
                self.binary(op, old, target.span, given, value.span, span)
            }
            None => given,
        };
        if place.is_poison() || given.is_poison() {
            return;
        }
        if !place.is_lvalue() {
            let report = Diagnostic::error(target.span, "this can't be written")
                .with_note_here("expected a variable or a field");
            self.report(report);
            return;
        }
        let given = self.coerce(given, place.ty, value.span);
        self.assign(&place, given, span);
    }

    fn if_statement(
        &mut self,
        scope: &Scope<'a>,
        condition: &'a ast::Expr,
        then: &'a ast::Stmt,
        otherwise: Option<&'a ast::Stmt>,
        span: Span,
    ) {
        // `if (t.apply().hit)` asks the table itself.
        let (mut inner, mut negated) = (condition, false);
        while let ExprKind::Unary {
            op: UnaryOp::Not,
            operand,
        } = &inner.kind
        {
            inner = operand;
            negated = !negated;
        }
        if let ExprKind::Member { base, member } = &inner.kind
            && let ExprKind::Call { callee, args, .. } = &base.kind
            && let Some(table) = self.applied_table(scope, callee)
        {
            let negated = match member.as_str() {
                "hit" => negated,
                "miss" => !negated,
                other => {
                    self.error(
                        member.span,
                        format!("`{other}` is no truth value; a table has `hit` and `miss`"),
                    );
                    return;
                }
            };
            let ((), first) = self.collect(|this| this.statement(&scope.inside(), then));
            let ((), second) = self.collect(|this| {
                if let Some(otherwise) = otherwise {
                    this.statement(&scope.inside(), otherwise);
                }
            });
            let (hit, miss) = if negated {
                (second, first)
            } else {
                (first, second)
            };
            self.apply_table(&table, args, span, After::HitOrMiss { hit, miss });
            return;
        }
        let condition_span = condition.span;
        let condition = self.condition(scope, condition);
        let known = self.ir.exprs.constant_bool(condition);
        let then = self.branch(scope, then, known == Some(false));
        let otherwise = match otherwise {
            Some(otherwise) => self.branch(scope, otherwise, known == Some(true)),
            None => Block::new(),
        };
        match known {
            Some(true) => self.block.extend(then),
            Some(false) => self.block.extend(otherwise),
            None => self.emit(
                condition_span,
                StmtKind::If {
                    condition,
                    then,
                    otherwise,
                },
            ),
        }
    }

    /// One side of a choice; when it can't run, it is only checked.
    fn branch(&mut self, scope: &Scope<'a>, stmt: &'a ast::Stmt, dead: bool) -> Block {
        if dead {
            self.dead += 1;
        }
        let ((), block) = self.collect(|this| this.statement(&scope.inside(), stmt));
        if dead {
            self.dead -= 1;
        }
        block
    }

    fn switch(
        &mut self,
        scope: &Scope<'a>,
        subject: &'a ast::Expr,
        cases: &'a [ast::SwitchCase],
        span: Span,
    ) {
        self.default_is_last(cases);
        if let ExprKind::Member { base, member } = &subject.kind
            && let ExprKind::Call { callee, args, .. } = &base.kind
            && let Some(table) = self.applied_table(scope, callee)
            && member.as_str() == "action_run"
        {
            self.switch_on_action(scope, &table, args, cases, span);
            return;
        }
        if self.inside == Inside::Function && cases.is_empty() {
            return;
        }
        let operand = self.expr(scope, subject);
        if operand.is_poison() {
            return;
        }
        if matches!(operand.kind, OperandKind::Int(_)) || self.types.scalar(operand.ty).is_none() {
            let name = self.types.name(operand.ty);
            self.error(subject.span, format!("`switch` can't look at `{name}`"));
            return;
        }
        // The cases may change what the subject is made of.
        let operand = self.save(&operand, subject.span);
        let mut chain: Vec<(Handle<ir::Expr>, Block)> = Vec::new();
        let mut otherwise = Block::new();
        let mut pending: Vec<Option<&'a ast::Expr>> = Vec::new();
        let mut seen: Vec<BigInt> = Vec::new();
        for case in cases {
            pending.push(case.label.as_ref());
            let Some(body) = &case.body else { continue };
            let mut equals = Vec::new();
            let mut is_default = false;
            for label in pending.drain(..) {
                let Some(label) = label else {
                    is_default = true;
                    continue;
                };
                let value = self.expr(scope, label);
                let value = self.coerce(value, operand.ty, label.span);
                match self.constant_of(&value) {
                    Some(number) if seen.contains(&number) => {
                        self.error(label.span, "this case is covered before")
                    }
                    Some(number) => seen.push(number),
                    None if value.is_poison() => continue,
                    None => self.error(
                        label.span,
                        "the value of a case must be known at compile time",
                    ),
                }
                let equal = self.binary(
                    ast::BinaryOp::Eq,
                    operand.clone(),
                    subject.span,
                    value,
                    label.span,
                    label.span,
                );
                equals.push(self.truth(equal, label.span));
            }
            let any = self.any_of(&equals);
            let ((), block) = self.collect(|this| this.statements(&scope.inside(), &body.stmts));
            if is_default {
                // A default with other labels is the default alone.
                otherwise = block;
            } else {
                chain.push((any, block));
            }
        }
        if chain.len() > MAX_CHAIN {
            self.flat_chain(chain, otherwise, span);
            return;
        }
        for (condition, then) in chain.into_iter().rev() {
            otherwise = match self.ir.exprs.constant_bool(condition) {
                Some(true) => then,
                Some(false) => otherwise,
                None => vec![Stmt {
                    span,
                    kind: StmtKind::If {
                        condition,
                        then,
                        otherwise,
                    },
                }],
            };
        }
        self.block.extend(otherwise);
    }

    /// Whether one of many conditions holds, as an expression of little depth.
    fn any_of(&mut self, conditions: &[Handle<ir::Expr>]) -> Handle<ir::Expr> {
        match conditions {
            [] => self.ir.exprs.bool(false),
            [one] => *one,
            many => {
                let (left, right) = many.split_at(many.len() / 2);
                let (left, right) = (self.any_of(left), self.any_of(right));
                self.ir.exprs.binary(ir::BinaryOp::LogicalOr, left, right)
            }
        }
    }

    /// The first block whose condition holds: one after the other instead of one in the other, so
    /// that a `switch` of many cases is not as deep as it is long.
    fn flat_chain(&mut self, chain: Vec<(Handle<ir::Expr>, Block)>, otherwise: Block, span: Span) {
        let end = self.label();
        let mut flat = Block::new();
        for (condition, mut then) in chain {
            let leave = StmtKind::Break(end);
            then.push(Stmt { span, kind: leave });
            let otherwise = Block::new();
            flat.push(Stmt {
                span,
                kind: StmtKind::If {
                    condition,
                    then,
                    otherwise,
                },
            });
        }
        flat.extend(otherwise);
        self.emit(span, StmtKind::Labelled(end, flat));
    }

    fn return_statement(&mut self, scope: &Scope<'a>, value: Option<&'a ast::Expr>, span: Span) {
        let Some(target) = self.returns.last() else {
            self.error(span, "there is nothing to return from");
            return;
        };
        let (label, ty, slot) = (target.label, target.ty, target.slot.clone());
        let ty = ty.filter(|ty| !matches!(self.types[*ty], TyKind::Void));
        match (ty, value) {
            (Some(ty), Some(value)) => {
                let operand = self.expr(scope, value);
                let operand = self.coerce(operand, ty, value.span);
                let slot = match slot {
                    Some(slot) => slot,
                    None => self.variable(ty, "result", span),
                };
                self.assign(&slot, operand, span);
                if let Some(target) = self.returns.last_mut() {
                    target.slot = Some(slot);
                }
            }
            (Some(ty), None) => {
                let name = self.types.name(ty);
                self.error(span, format!("a value of type `{name}` must be returned"));
            }
            (None, Some(value)) => self.error(value.span, "no value can be returned here"),
            (None, None) => {}
        }
        if let Some(target) = self.returns.last_mut() {
            target.used = true;
        }
        self.emit(span, StmtKind::Break(label));
    }

    /// A loop whose rounds are counted by a variable with constant bounds, written out.
    fn for_loop(&mut self, scope: &Scope<'a>, inner: &'a ast::ForLoop, span: Span) {
        let outer = scope.inside();
        let [
            ast::Stmt {
                kind: ast::StmtKind::Decl(decl),
                ..
            },
        ] = inner.init.as_slice()
        else {
            self.unsupported(span, "only loops that declare their counter, as in `for (bit<8> i = 0; …)`, are supported");
            return;
        };
        let DeclKind::Var(ast::VarDecl {
            ty,
            name,
            init: Some(init),
        }) = &decl.kind
        else {
            self.unsupported(
                decl.span,
                "the counter of a loop needs a first value that is known at compile time",
            );
            return;
        };
        let [
            ast::Stmt {
                kind: ast::StmtKind::Assign { op, target, value },
                ..
            },
        ] = inner.update.as_slice()
        else {
            self.unsupported(
                span,
                "only loops that update their counter by one assignment are supported",
            );
            return;
        };
        if !matches!(&target.kind, ExprKind::Path(path) if path.name.name == name.name) {
            self.unsupported(
                target.span,
                format!("only `{name}`, the counter of the loop, can be updated here"),
            );
            return;
        }
        let ty = self.resolve_type(scope, ty);
        let first = self.expr(scope, init);
        let mut counter = self.coerce(first, ty, init.span);
        let end = self.label();
        let ((), block) = self.collect(|this| {
            for round in 0.. {
                let round_scope = outer.inside();
                round_scope.put(&name.name, Entity::Value(counter.clone(), Some("the counter of a loop that is written out")), name.span);
                let condition = this.condition(&round_scope, &inner.condition);
                match this.ir.exprs.constant_bool(condition) {
                    Some(false) => break,
                    Some(true) if round < MAX_ROUNDS => {}
                    Some(true) => {
                        this.unsupported(span, format!("a loop of more than {MAX_ROUNDS} rounds is not supported"));
                        break;
                    }
                    None => {
                        this.unsupported(inner.condition.span, "only loops whose number of rounds is known at compile time are supported");
                        break;
                    }
                }
                this.round(&round_scope, &inner.body, end, span);
                let next = this.expr(&round_scope, value);
                let next = match op {
                    Some(op) => this.binary(*op, counter.clone(), target.span, next, value.span, value.span),
                    None => next,
                };
                counter = this.coerce(next, ty, value.span);
                if !this.is_constant(&counter) || counter.is_poison() {
                    this.unsupported(value.span, "only loops whose number of rounds is known at compile time are supported");
                    break;
                }
            }
        });
        self.finish_labelled(end, block, span);
    }

    fn round(&mut self, scope: &Scope<'a>, body: &'a ast::Stmt, end: ir::Label, span: Span) {
        let next = self.label();
        self.loops.push(LoopTarget { end, next });
        let ((), block) = self.collect(|this| this.statement(&scope.inside(), body));
        self.loops.pop();
        self.finish_labelled(next, block, span);
    }

    fn for_in(&mut self, scope: &Scope<'a>, inner: &'a ast::ForIn, span: Span) {
        let Some(ty) = &inner.ty else {
            self.unsupported(span, "only loops that declare their variable are supported");
            return;
        };
        let ty = self.resolve_type(scope, ty);
        let mut items: Vec<Operand<'a>> = Vec::new();
        match &inner.collection {
            ForCollection::Range(low, high) => {
                let (Some(low_value), Some(high_value)) = (
                    self.constant_int(scope, low, "the bound of a loop"),
                    self.constant_int(scope, high, "the bound of a loop"),
                ) else {
                    return;
                };
                let mut value = low_value;
                while value <= high_value {
                    if items.len() >= MAX_ROUNDS {
                        self.unsupported(
                            span,
                            format!("a loop of more than {MAX_ROUNDS} rounds is not supported"),
                        );
                        return;
                    }
                    let item = self.int(value.clone());
                    items.push(self.coerce(item, ty, low.span));
                    value += 1;
                }
            }
            ForCollection::Expr(expr) => {
                let collection = self.expr(scope, expr);
                match (collection.kind, self.types[collection.ty].clone()) {
                    (OperandKind::Parts(parts), TyKind::Tuple(_) | TyKind::List(_)) => {
                        for part in parts {
                            let part = self.save(&part, expr.span);
                            items.push(self.coerce(part, ty, expr.span));
                        }
                    }
                    (OperandKind::Stack(stack), TyKind::Stack(element, _)) => {
                        for header in self.ir.stacks[stack].elements.clone() {
                            let kind = OperandKind::Header(ir::HeaderRef::Instance(header));
                            let item = self.coerce(Operand::new(element, kind), ty, expr.span);
                            items.push(item);
                        }
                    }
                    (OperandKind::Poison, _) => {}
                    _ => self.error(
                        expr.span,
                        "a loop can run over a list, a header stack or a range",
                    ),
                }
            }
        }
        let end = self.label();
        let ((), block) = self.collect(|this| {
            for item in items {
                let round_scope = scope.inside();
                round_scope.put(
                    &inner.name.name,
                    Entity::Value(item, Some("the variable of a loop")),
                    inner.name.span,
                );
                this.round(&round_scope, &inner.body, end, span);
            }
        });
        self.finish_labelled(end, block, span);
    }
}

/// Whether what follows a block can't be reached.
fn leaves(block: &Block) -> bool {
    match block.last().map(|stmt| &stmt.kind) {
        Some(StmtKind::Exit | StmtKind::Break(_)) => true,
        Some(StmtKind::If {
            then, otherwise, ..
        }) => leaves(then) && leaves(otherwise),
        _ => false,
    }
}
