//! Expressions. What they stand for is an [`Operand`]; what they do on the way (calls) is emitted
//! into the current block, in the order of evaluation of P4_16 section 8.1.

use std::sync::Arc;

use num_bigint::BigInt;

use crate::diagnostics::Diagnostic;
use crate::front::ast::{self, BinaryOp, ExprKind, UnaryOp};
use crate::ir::{self, Expr, Handle, HeaderRef, StmtKind, Type};
use crate::source::Span;

use super::effects::Footprint;
use super::lower::Lower;
use super::operand::{Operand, OperandKind};
use super::scope::{Entity, Scope};
use super::types::{Ty, TyKind};

impl<'a> Lower<'a> {
    /// What an expression stands for.
    pub fn expr(&mut self, scope: &Scope<'a>, expr: &'a ast::Expr) -> Operand<'a> {
        let Some(operand) = self.deeper(expr.span, |this| this.expr_inner(scope, expr)) else {
            return self.poison();
        };
        operand
    }

    pub fn expr_inner(&mut self, scope: &Scope<'a>, expr: &'a ast::Expr) -> Operand<'a> {
        match &expr.kind {
            ExprKind::Bool(value) => {
                let ty = self.types.bool();
                let value = self.ir.exprs.bool(*value);
                Operand::value(ty, value)
            }
            ExprKind::Int(lit) => self.literal(lit, expr.span),
            ExprKind::String(text) => {
                let ty = self.types.make(TyKind::String);
                Operand::new(ty, OperandKind::String(Arc::clone(text)))
            }
            ExprKind::Path(path) => self.path(scope, path),
            ExprKind::This => {
                self.unsupported(expr.span, "`this` is not supported");
                self.poison()
            }
            ExprKind::Type(ty) => {
                let ty = self.resolve_type(scope, ty);
                let name = self.types.name(ty);
                self.bad(expr.span, format!("the type `{name}` is no value"))
            }
            ExprKind::Dots => {
                let ty = self.types.unknown();
                Operand::new(ty, OperandKind::Default)
            }
            ExprKind::InvalidHeader => {
                let ty = self.types.unknown();
                Operand::new(ty, OperandKind::HeaderValue(None))
            }
            ExprKind::List(items) => self.list(scope, items),
            ExprKind::Record { fields, dots } => {
                let mut values: Vec<(Arc<str>, Operand<'a>, Span)> = Vec::new();
                for field in fields {
                    let mark = self.block.len();
                    let value = self.expr(scope, &field.value);
                    for (_, earlier, span) in &mut values {
                        *earlier = self.protect(earlier.clone(), mark, *span);
                    }
                    values.push((Arc::clone(&field.name.name), value, field.span));
                }
                let ty = self.types.unknown();
                Operand::new(ty, OperandKind::Record(values, *dots))
            }
            ExprKind::Index { base, index } => self.index(scope, base, index, expr.span),
            ExprKind::Slice { base, hi, lo } => {
                let base_operand = self.expr(scope, base);
                let (Some(hi), Some(lo)) = (
                    self.constant_u32(scope, hi, "the bound of a slice"),
                    self.constant_u32(scope, lo, "the bound of a slice"),
                ) else {
                    return self.poison();
                };
                self.slice(base_operand, hi, lo, expr.span)
            }
            ExprKind::PlusSlice { base, lo, width } => {
                self.plus_slice(scope, base, lo, width, expr.span)
            }
            ExprKind::Member { base, member } => self.member(scope, base, member, expr.span),
            ExprKind::Unary { op, operand } => {
                let operand = self.expr(scope, operand);
                self.unary(*op, operand, expr.span)
            }
            ExprKind::Binary { op, left, right } => {
                self.binary_expr(scope, *op, left, right, expr.span)
            }
            ExprKind::Ternary {
                condition,
                then,
                otherwise,
            } => self.ternary(scope, condition, then, otherwise, expr.span),
            ExprKind::Cast { ty, operand } => {
                let to = self.resolve_type(scope, ty);
                let operand = self.expr(scope, operand);
                self.cast(operand, to, expr.span)
            }
            ExprKind::Call {
                callee,
                type_args,
                args,
            } => self.call(scope, callee, type_args, args, expr.span),
        }
    }

    pub fn literal(&mut self, lit: &ast::IntLit, span: Span) -> Operand<'a> {
        let Some(width) = lit.width else {
            return self.int(lit.value.clone());
        };
        if width > super::resolve::MAX_WIDTH {
            return self.bad(
                span,
                format!("a width of {width} bits is more than is supported"),
            );
        }
        let ty = self.types.make(TyKind::Bits {
            width,
            signed: lit.signed,
        });
        self.fit(&lit.value, ty, span)
    }

    pub fn path(&mut self, scope: &Scope<'a>, path: &'a ast::Path) -> Operand<'a> {
        match self.lookup(scope, path) {
            Some(Entity::Value(operand, _)) => operand,
            Some(Entity::Object(object)) => {
                let ty = self.types.unknown();
                Operand::new(ty, OperandKind::Object(object))
            }
            Some(Entity::Poison) | None => self.poison(),
            Some(other) => {
                let report = Diagnostic::error(
                    path.span,
                    format!("`{}` is {}", path.name, other.describe()),
                )
                .with_note_here("expected a value");
                self.report(report);
                self.poison()
            }
        }
    }

    pub fn list(&mut self, scope: &Scope<'a>, items: &'a [ast::Expr]) -> Operand<'a> {
        let mut parts: Vec<Operand<'a>> = Vec::new();
        let mut open = false;
        for item in items {
            if matches!(item.kind, ExprKind::Dots) {
                open = true;
                continue;
            }
            let mark = self.block.len();
            let part = self.expr(scope, item);
            for earlier in &mut parts {
                *earlier = self.protect(earlier.clone(), mark, item.span);
            }
            parts.push(part);
        }
        if open {
            let ty = self.types.unknown();
            return Operand::new(ty, OperandKind::OpenList(parts));
        }
        let types = parts.iter().map(|part| part.ty).collect();
        let ty = self.types.make(TyKind::Tuple(types));
        Operand::new(ty, OperandKind::Parts(parts))
    }

    /// The operand, kept in a variable if the statements behind `mark` change what it reads.
    pub fn protect(&mut self, operand: Operand<'a>, mark: usize, span: Span) -> Operand<'a> {
        let Some(later) = self.block.get(mark..).filter(|later| !later.is_empty()) else {
            return operand;
        };
        let mut writes = Footprint::default();
        writes.writes(&self.ir, later);
        if writes.overlaps(&self.reads_of(&operand)) {
            let (saved, mut saving) = self.collect(|this| this.save(&operand, span));
            let at = mark.min(self.block.len());
            let later = self.block.split_off(at);
            self.block.append(&mut saving);
            self.block.extend(later);
            return saved;
        }
        operand
    }

    /// What an operand reads.
    pub fn reads_of(&self, operand: &Operand<'a>) -> Footprint {
        let mut reads = Footprint::default();
        operand.leaves(&mut |leaf| match &leaf.kind {
            OperandKind::Value(value) => reads.reads(&self.ir, *value),
            OperandKind::Place(place) | OperandKind::Slice(place, ..) => {
                reads.place(&self.ir, *place);
                self.reads_of_header(place.header, &mut reads);
            }
            OperandKind::Header(header) => {
                reads.header(&self.ir, *header, super::effects::Part::All);
                self.reads_of_header(*header, &mut reads);
            }
            OperandKind::Stack(stack) => {
                for element in &self.ir.stacks[*stack].elements {
                    reads.header(
                        &self.ir,
                        HeaderRef::Instance(*element),
                        super::effects::Part::All,
                    );
                }
            }
            OperandKind::Union(union) => {
                for member in &self.ir.unions[*union].members {
                    reads.header(
                        &self.ir,
                        HeaderRef::Instance(*member),
                        super::effects::Part::All,
                    );
                }
            }
            _ => {}
        });
        reads
    }

    pub fn reads_of_header(&self, header: HeaderRef, reads: &mut Footprint) {
        if let HeaderRef::Element(_, index) = header {
            reads.reads(&self.ir, index);
        }
    }

    /// The scalar that the operand holds now. Says so if it is none.
    pub fn value_of(&mut self, operand: &Operand<'a>, span: Span) -> Handle<Expr> {
        match &operand.kind {
            OperandKind::Value(value) => *value,
            OperandKind::Place(place) => self.read(*place),
            OperandKind::Slice(place, hi, lo) => {
                let whole = self.read(*place);
                self.ir.exprs.slice(whole, *hi, *lo)
            }
            OperandKind::Int(value) => {
                if self.dead == 0 {
                    let report = Diagnostic::error(
                        span,
                        format!("the width of `{value}` is not known here"),
                    )
                    .with_help(format!("write it with its width, as in `32w{value}`"));
                    self.report(report);
                }
                self.ir.exprs.bits(0, 32)
            }
            OperandKind::Poison => self.poison_value(operand.ty),
            _ => {
                let name = self.types.name(operand.ty);
                self.error(span, format!("a single value is needed here, not `{name}`"));
                self.poison_value(operand.ty)
            }
        }
    }

    pub fn poison_value(&mut self, ty: Ty) -> Handle<Expr> {
        let scalar = self.types.scalar(ty).unwrap_or(Type::bits(1));
        match scalar {
            Type::Bool => self.ir.exprs.bool(false),
            Type::Bits { .. } => self.ir.exprs.number(&BigInt::from(0), scalar),
            Type::Varbit(_) => self.ir.exprs.bits(0, 1),
        }
    }

    /// An expression that must be a truth value.
    pub fn condition(&mut self, scope: &Scope<'a>, expr: &'a ast::Expr) -> Handle<Expr> {
        let operand = self.expr(scope, expr);
        self.truth(operand, expr.span)
    }

    /// An operand that must be a truth value.
    pub fn truth(&mut self, operand: Operand<'a>, span: Span) -> Handle<Expr> {
        let ty = self.types.bool();
        let operand = self.coerce(operand, ty, span);
        if operand.is_poison() {
            return self.ir.exprs.bool(false);
        }
        let value = self.value_of(&operand, span);
        if self.ir.exprs.ty(value) == Type::Bool {
            value
        } else {
            self.ir.exprs.bool(false)
        }
    }

    pub fn binary_expr(
        &mut self,
        scope: &Scope<'a>,
        op: BinaryOp,
        left: &'a ast::Expr,
        right: &'a ast::Expr,
        span: Span,
    ) -> Operand<'a> {
        if matches!(op, BinaryOp::And | BinaryOp::Or) {
            let a = self.condition(scope, left);
            let (b, rest) = self.collect(|this| this.condition(scope, right));
            let ty = self.types.bool();
            if rest.is_empty() {
                let op = if op == BinaryOp::And {
                    ir::BinaryOp::LogicalAnd
                } else {
                    ir::BinaryOp::LogicalOr
                };
                let value = self.ir.exprs.binary(op, a, b);
                return Operand::value(ty, value);
            }
            // The right side does something, so it must not run when the left side decides.
            let result = self.temporary(Type::Bool);
            self.emit(
                span,
                StmtKind::Assign {
                    to: result,
                    value: a,
                },
            );
            let mut inner = rest;
            inner.push(ir::Stmt {
                span,
                kind: StmtKind::Assign {
                    to: result,
                    value: b,
                },
            });
            let first = self.read(result);
            let condition = if op == BinaryOp::And {
                first
            } else {
                self.ir.exprs.not(first)
            };
            self.emit(
                span,
                StmtKind::If {
                    condition,
                    then: inner,
                    otherwise: Vec::new(),
                },
            );
            return Operand::new(ty, OperandKind::Place(result));
        }
        let a = self.expr(scope, left);
        let mark = self.block.len();
        let b = self.expr(scope, right);
        let a = self.protect(a, mark, left.span);
        self.binary(op, a, left.span, b, right.span, span)
    }

    pub fn ternary(
        &mut self,
        scope: &Scope<'a>,
        condition: &'a ast::Expr,
        then: &'a ast::Expr,
        otherwise: &'a ast::Expr,
        span: Span,
    ) -> Operand<'a> {
        let condition = self.condition(scope, condition);
        let known = self.ir.exprs.constant_bool(condition);
        let (a, mut first) = self.collect(|this| this.expr(scope, then));
        let (b, mut second) = self.collect(|this| this.expr(scope, otherwise));
        if let Some(known) = known {
            let (chosen, mut block) = if known { (a, first) } else { (b, second) };
            self.block.append(&mut block);
            return chosen;
        }
        let ty = if matches!(a.kind, OperandKind::Int(_))
            || matches!(self.types[a.ty], TyKind::Unknown)
        {
            b.ty
        } else {
            a.ty
        };
        if matches!(self.types[ty], TyKind::Int) {
            return self.bad(
                span,
                "the width of the result is not known: write one of the numbers with its width",
            );
        }
        let (a, b) = (
            self.coerce(a, ty, then.span),
            self.coerce(b, ty, otherwise.span),
        );
        if a.is_poison() || b.is_poison() {
            return self.poison();
        }
        let scalar = self.types.scalar(ty);
        if let (Some(Type::Bool | Type::Bits { .. }), true, true) =
            (scalar, first.is_empty(), second.is_empty())
        {
            let (a, b) = (
                self.value_of(&a, then.span),
                self.value_of(&b, otherwise.span),
            );
            let value = self.ir.exprs.select(condition, a, b);
            return Operand::value(ty, value);
        }
        let result = self.variable(ty, "tmp", span);
        let ((), mut store) = self.collect(|this| this.assign(&result, a, then.span));
        first.append(&mut store);
        let ((), mut store) = self.collect(|this| this.assign(&result, b, otherwise.span));
        second.append(&mut store);
        self.emit(
            span,
            StmtKind::If {
                condition,
                then: first,
                otherwise: second,
            },
        );
        result
    }

    pub fn unary(&mut self, op: UnaryOp, operand: Operand<'a>, span: Span) -> Operand<'a> {
        if operand.is_poison() {
            return operand;
        }
        if op == UnaryOp::Not {
            let value = self.truth(operand, span);
            let value = self.ir.exprs.not(value);
            let ty = self.types.bool();
            return Operand::value(ty, value);
        }
        if let OperandKind::Int(value) = &operand.kind {
            let value = match op {
                UnaryOp::Minus => -value,
                UnaryOp::Complement => -value - 1,
                UnaryOp::Plus | UnaryOp::Not => value.clone(),
            };
            return self.int(value);
        }
        let ty = self.arithmetic_type(operand.ty);
        if !matches!(self.types[ty], TyKind::Bits { .. }) {
            let name = self.types.name(operand.ty);
            return self.bad(
                span,
                format!("`{}` needs a number, not `{name}`", op.symbol()),
            );
        }
        let value = self.value_of(&operand, span);
        let value = match op {
            UnaryOp::Minus => self.ir.exprs.unary(ir::UnaryOp::Negate, value),
            UnaryOp::Complement => self.ir.exprs.unary(ir::UnaryOp::Complement, value),
            UnaryOp::Plus | UnaryOp::Not => value,
        };
        Operand::value(ty, value)
    }
}
