//! Operators with two operands: which types they take and what they yield (section 8).

use num_bigint::BigInt;
use num_traits::{One, Signed, ToPrimitive, Zero};

use crate::diagnostics::Diagnostic;
use crate::front::ast::BinaryOp;
use crate::ir::{self, Expr, Handle, HeaderRef, Type};
use crate::source::Span;

use super::lower::Lower;
use super::operand::{Operand, OperandKind};
use super::types::{Ty, TyKind};

/// The most bits that a number of type `int` may have.
const MAX_BITS: u64 = 8192;

fn ir_op(op: BinaryOp) -> ir::BinaryOp {
    match op {
        BinaryOp::Mul => ir::BinaryOp::Mul,
        BinaryOp::Div => ir::BinaryOp::Div,
        BinaryOp::Mod => ir::BinaryOp::Mod,
        BinaryOp::Add | BinaryOp::Concat => ir::BinaryOp::Add,
        BinaryOp::Sub => ir::BinaryOp::Sub,
        BinaryOp::AddSat => ir::BinaryOp::AddSat,
        BinaryOp::SubSat => ir::BinaryOp::SubSat,
        BinaryOp::Shl => ir::BinaryOp::Shl,
        BinaryOp::Shr => ir::BinaryOp::Shr,
        BinaryOp::Lt => ir::BinaryOp::Lt,
        BinaryOp::Le => ir::BinaryOp::Le,
        BinaryOp::Gt => ir::BinaryOp::Gt,
        BinaryOp::Ge => ir::BinaryOp::Ge,
        BinaryOp::Eq => ir::BinaryOp::Eq,
        BinaryOp::Ne => ir::BinaryOp::Ne,
        BinaryOp::BitAnd => ir::BinaryOp::And,
        BinaryOp::BitXor => ir::BinaryOp::Xor,
        BinaryOp::BitOr => ir::BinaryOp::Or,
        BinaryOp::And => ir::BinaryOp::LogicalAnd,
        BinaryOp::Or => ir::BinaryOp::LogicalOr,
    }
}

impl<'a> Lower<'a> {
    /// An unsigned number divided by a constant power of two: a shift or a mask.
    fn by_power_of_two(
        &mut self,
        op: BinaryOp,
        number: Handle<Expr>,
        by: Handle<Expr>,
    ) -> Option<Handle<Expr>> {
        let ty = self.ir.exprs.ty(number);
        let by = self.ir.exprs.constant(by)?.clone();
        let power = by.trailing_zeros()?;
        if ty.is_signed() || by != BigInt::one() << power {
            return None;
        }
        Some(if op == BinaryOp::Div {
            let power = self.ir.exprs.bits(power, 32);
            self.ir.exprs.binary(ir::BinaryOp::Shr, number, power)
        } else {
            let mask = self.ir.exprs.number(&(by - 1), ty);
            self.ir.exprs.binary(ir::BinaryOp::And, number, mask)
        })
    }

    /// The type with which a value takes part in arithmetic: an enumeration's representation.
    pub fn arithmetic_type(&self, ty: Ty) -> Ty {
        match self.types[ty] {
            TyKind::SerEnum(def) => self.types.enums[def].underlying.unwrap_or(ty),
            _ => ty,
        }
    }

    /// `left op right`, both of which are evaluated already; not `&&` and `||`.
    pub fn binary(
        &mut self,
        op: BinaryOp,
        left: Operand<'a>,
        left_span: Span,
        right: Operand<'a>,
        right_span: Span,
        span: Span,
    ) -> Operand<'a> {
        if left.is_poison() || right.is_poison() {
            return self.poison();
        }
        match op {
            BinaryOp::Shl | BinaryOp::Shr => {
                return self.shift(op, left, left_span, right, right_span, span);
            }
            BinaryOp::Concat => return self.concat(left, left_span, right, right_span, span),
            BinaryOp::Eq | BinaryOp::Ne => {
                return self.equality(op, left, left_span, right, right_span, span);
            }
            _ => {}
        }
        if let (OperandKind::Int(a), OperandKind::Int(b)) = (&left.kind, &right.kind) {
            return self.integers(op, &a.clone(), &b.clone(), span);
        }
        let (mut l, mut r) = (
            self.arithmetic_type(left.ty),
            self.arithmetic_type(right.ty),
        );
        let (mut left, mut right) = (left, right);
        if matches!(left.kind, OperandKind::Int(_)) {
            left = self.coerce(left, r, left_span);
            l = r;
        } else if matches!(right.kind, OperandKind::Int(_)) {
            right = self.coerce(right, l, right_span);
            r = l;
        }
        if left.is_poison() || right.is_poison() {
            return self.poison();
        }
        if l != r || !matches!(self.types[l], TyKind::Bits { .. }) {
            return self.mismatch(op, l, left_span, r, right_span, span);
        }
        let (a, b) = (
            self.value_of(&left, left_span),
            self.value_of(&right, right_span),
        );
        if matches!(op, BinaryOp::Div | BinaryOp::Mod) {
            if self.ir.exprs.constant(b).is_some_and(Zero::is_zero) {
                return self.bad(right_span, "division by zero");
            }
            if self.ir.exprs.constant(a).is_none() || self.ir.exprs.constant(b).is_none() {
                return match self.by_power_of_two(op, a, b) {
                    Some(value) => Operand::value(l, value),
                    None => self.bad(
                        span,
                        format!(
                            "`{}` works only on numbers known at compile time, and on unsigned \
                             ones by powers of two",
                            op.symbol()
                        ),
                    ),
                };
            }
        }
        let op = ir_op(op);
        let value = self.ir.exprs.binary(op, a, b);
        let ty = if op.yields_bool() {
            self.types.bool()
        } else {
            l
        };
        Operand::value(ty, value)
    }

    fn mismatch(
        &mut self,
        op: BinaryOp,
        l: Ty,
        left_span: Span,
        r: Ty,
        right_span: Span,
        span: Span,
    ) -> Operand<'a> {
        let (a, b) = (self.types.name(l), self.types.name(r));
        let mut report = Diagnostic::error(
            span,
            format!("`{}` can't take `{a}` and `{b}`", op.symbol()),
        )
        .with_code("type")
        .with_label(left_span, format!("`{a}`"))
        .with_label(right_span, format!("`{b}`"));
        if matches!(
            (&self.types[l], &self.types[r]),
            (TyKind::Bits { .. }, TyKind::Bits { .. })
        ) {
            report = report.with_help(format!("cast one of them: `({a})` or `({b})`"));
        } else if matches!(self.types[l], TyKind::New(_)) || matches!(self.types[r], TyKind::New(_))
        {
            report = report.with_help(
                "a value of a type made with `type` must be cast to what it is made of first",
            );
        }
        self.report(report);
        self.poison()
    }

    fn integers(&mut self, op: BinaryOp, a: &BigInt, b: &BigInt, span: Span) -> Operand<'a> {
        let value = match op {
            BinaryOp::Mul => a * b,
            BinaryOp::Add => a + b,
            BinaryOp::Sub => a - b,
            BinaryOp::Div | BinaryOp::Mod => {
                if !b.is_positive() || a.is_negative() {
                    return self.bad(span, format!("`{a} {} {b}` is not defined", op.symbol()));
                }
                if op == BinaryOp::Div { a / b } else { a % b }
            }
            BinaryOp::BitAnd => a & b,
            BinaryOp::BitOr => a | b,
            BinaryOp::BitXor => a ^ b,
            BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => {
                let value = match op {
                    BinaryOp::Lt => a < b,
                    BinaryOp::Le => a <= b,
                    BinaryOp::Gt => a > b,
                    _ => a >= b,
                };
                let ty = self.types.bool();
                let value = self.ir.exprs.bool(value);
                return Operand::value(ty, value);
            }
            _ => {
                return self.bad(
                    span,
                    format!("`{}` needs numbers of known width", op.symbol()),
                );
            }
        };
        if value.bits() > MAX_BITS {
            return self.bad(span, "this number is larger than is supported");
        }
        self.int(value)
    }

    fn shift(
        &mut self,
        op: BinaryOp,
        left: Operand<'a>,
        left_span: Span,
        right: Operand<'a>,
        right_span: Span,
        span: Span,
    ) -> Operand<'a> {
        let right_value = match &right.kind {
            OperandKind::Int(by) => {
                if by.is_negative() {
                    return self.bad(right_span, "a number can't be shifted by less than 0");
                }
                let by = by.clone();
                if let OperandKind::Int(value) = &left.kind {
                    let Some(by) = by.to_u32().filter(|by| *by <= super::resolve::MAX_WIDTH) else {
                        return self.bad(right_span, "this shifts too far");
                    };
                    let value = if op == BinaryOp::Shl {
                        value << by
                    } else {
                        value >> by
                    };
                    return self.int(value);
                }
                let width = u32::try_from(by.bits()).unwrap_or(u32::MAX).clamp(8, 64);
                self.ir
                    .exprs
                    .number(&by.min(BigInt::from(u64::MAX)), Type::bits(width))
            }
            _ => self.value_of(&right, right_span),
        };
        if matches!(left.kind, OperandKind::Int(_)) {
            return self.bad(
                left_span,
                "the width of the number that is shifted must be known",
            );
        }
        let l = self.arithmetic_type(left.ty);
        let by = self.ir.exprs.ty(right_value);
        if !matches!(self.types[l], TyKind::Bits { .. })
            || !matches!(by, Type::Bits { signed: false, .. })
        {
            let r = self.arithmetic_type(right.ty);
            return self.mismatch(op, l, left_span, r, right_span, span);
        }
        let value = self.value_of(&left, left_span);
        if let Some(by) = self.ir.exprs.constant(right_value) {
            let width = self.ir.exprs.ty(value).width();
            if *by >= BigInt::from(width) && width > 0 {
                let report = Diagnostic::warning(
                    span,
                    format!("shifting {width} bits by {by} leaves nothing of them"),
                )
                .with_code("overflow");
                self.report(report);
            }
        }
        let value = self.ir.exprs.binary(ir_op(op), value, right_value);
        Operand::value(l, value)
    }

    fn concat(
        &mut self,
        left: Operand<'a>,
        left_span: Span,
        right: Operand<'a>,
        right_span: Span,
        span: Span,
    ) -> Operand<'a> {
        let (l, r) = (
            self.arithmetic_type(left.ty),
            self.arithmetic_type(right.ty),
        );
        for (operand, at) in [(&left, left_span), (&right, right_span)] {
            if let OperandKind::Int(value) = &operand.kind {
                let report =
                    Diagnostic::error(at, format!("the width of `{value}` is not known here"))
                        .with_help(format!("write it with its width, as in `8w{value}`"));
                self.report(report);
                return self.poison();
            }
        }
        if !matches!(
            (&self.types[l], &self.types[r]),
            (TyKind::Bits { .. }, TyKind::Bits { .. })
        ) {
            return self.mismatch(BinaryOp::Concat, l, left_span, r, right_span, span);
        }
        let (a, b) = (
            self.value_of(&left, left_span),
            self.value_of(&right, right_span),
        );
        let value = self.ir.exprs.concat(a, b);
        let (width, signed) = (
            self.ir.exprs.ty(value).width(),
            self.ir.exprs.ty(a).is_signed(),
        );
        if width > super::resolve::MAX_WIDTH {
            return self.bad(span, "the result is wider than is supported");
        }
        let ty = self.types.make(TyKind::Bits { width, signed });
        Operand::value(ty, value)
    }

    fn equality(
        &mut self,
        op: BinaryOp,
        left: Operand<'a>,
        left_span: Span,
        right: Operand<'a>,
        right_span: Span,
        span: Span,
    ) -> Operand<'a> {
        let bool_ty = self.types.bool();
        if let (OperandKind::Int(a), OperandKind::Int(b)) = (&left.kind, &right.kind) {
            let value = self.ir.exprs.bool((a == b) == (op == BinaryOp::Eq));
            return Operand::value(bool_ty, value);
        }
        let open = |operand: &Operand<'a>| {
            matches!(
                operand.kind,
                OperandKind::Int(_)
                    | OperandKind::Record(..)
                    | OperandKind::OpenList(_)
                    | OperandKind::HeaderValue(None)
                    | OperandKind::Default
            )
        };
        let (mut left, mut right) = (left, right);
        let mixed = |this: &Self, a: &Operand<'a>, b: &Operand<'a>| {
            matches!(this.types[a.ty], TyKind::SerEnum(_)) && a.ty != b.ty
        };
        if mixed(self, &left, &right) {
            left.ty = self.arithmetic_type(left.ty);
        }
        if mixed(self, &right, &left) {
            right.ty = self.arithmetic_type(right.ty);
        }
        let tuple = |this: &Self, o: &Operand<'a>| matches!(this.types[o.ty], TyKind::Tuple(_));
        // A list whose numbers have no width yet takes the type of the other side.
        let loose = |operand: &Operand<'a>| {
            let mut loose = false;
            operand.leaves(&mut |leaf| loose |= matches!(leaf.kind, OperandKind::Int(_)));
            loose
        };
        let adapts = |this: &Self, a: &Operand<'a>, b: &Operand<'a>| {
            open(a) || (tuple(this, a) && (!tuple(this, b) || (loose(a) && !loose(b))))
        };
        if adapts(self, &left, &right) {
            left = self.coerce(left, right.ty, left_span);
        } else if adapts(self, &right, &left) {
            right = self.coerce(right, left.ty, right_span);
        }
        if left.is_poison() || right.is_poison() {
            return self.poison();
        }
        if left.ty != right.ty && !tuple(self, &left) {
            return self.mismatch(op, left.ty, left_span, right.ty, right_span, span);
        }
        let Some(equal) = self.equal(&left, &right, span) else {
            return self.poison();
        };
        let value = if op == BinaryOp::Eq {
            equal
        } else {
            self.ir.exprs.not(equal)
        };
        Operand::value(bool_ty, value)
    }

    /// Whether two operands of one type are equal.
    fn equal(
        &mut self,
        left: &Operand<'a>,
        right: &Operand<'a>,
        span: Span,
    ) -> Option<Handle<Expr>> {
        if let (OperandKind::Parts(a), OperandKind::Parts(b)) = (&left.kind, &right.kind) {
            if a.len() != b.len() {
                self.error(span, "these have different numbers of parts");
                return None;
            }
            let mut all = self.ir.exprs.bool(true);
            for (a, b) in a.iter().zip(b) {
                let equal = self.equal(a, b, span)?;
                all = self.ir.exprs.binary(ir::BinaryOp::LogicalAnd, all, equal);
            }
            return Some(all);
        }
        if let (OperandKind::String(a), OperandKind::String(b)) = (&left.kind, &right.kind) {
            return Some(self.ir.exprs.bool(a == b));
        }
        match self.types[left.ty].clone() {
            TyKind::Header(_) => {
                let (a, b) = (self.validity(left)?, self.validity(right)?);
                let count = self.types.fields(left.ty).map_or(0, <[_]>::len);
                let mut fields = self.ir.exprs.bool(true);
                for position in 0..count {
                    let (x, y) = (
                        self.nth_field(left.clone(), position, span),
                        self.nth_field(right.clone(), position, span),
                    );
                    let equal = self.equal(&x, &y, span)?;
                    fields = self
                        .ir
                        .exprs
                        .binary(ir::BinaryOp::LogicalAnd, fields, equal);
                }
                let both = self.ir.exprs.binary(ir::BinaryOp::LogicalAnd, a, b);
                let both = self.ir.exprs.binary(ir::BinaryOp::LogicalAnd, both, fields);
                let (not_a, not_b) = (self.ir.exprs.not(a), self.ir.exprs.not(b));
                let none = self.ir.exprs.binary(ir::BinaryOp::LogicalAnd, not_a, not_b);
                Some(self.ir.exprs.binary(ir::BinaryOp::LogicalOr, none, both))
            }
            TyKind::Stack(element, size) => {
                let (OperandKind::Stack(a), OperandKind::Stack(b)) = (&left.kind, &right.kind)
                else {
                    self.error(span, "these can't be compared");
                    return None;
                };
                let mut all = self.ir.exprs.bool(true);
                for position in 0..size as usize {
                    let (x, y) = (
                        *self.ir.stacks[*a].elements.get(position)?,
                        *self.ir.stacks[*b].elements.get(position)?,
                    );
                    let x = Operand::new(element, OperandKind::Header(HeaderRef::Instance(x)));
                    let y = Operand::new(element, OperandKind::Header(HeaderRef::Instance(y)));
                    let equal = self.equal(&x, &y, span)?;
                    all = self.ir.exprs.binary(ir::BinaryOp::LogicalAnd, all, equal);
                }
                Some(all)
            }
            TyKind::Varbit(_) => {
                self.unsupported(span, "comparing values of variable width is not supported");
                None
            }
            _ if self.types.scalar(left.ty).is_some() => {
                let (a, b) = (self.value_of(left, span), self.value_of(right, span));
                if self.ir.exprs.ty(a) != self.ir.exprs.ty(b) {
                    self.error(span, "these can't be compared");
                    return None;
                }
                Some(self.ir.exprs.binary(ir::BinaryOp::Eq, a, b))
            }
            _ => {
                let name = self.types.name(left.ty);
                self.unsupported(
                    span,
                    format!("comparing values of type `{name}` is not supported"),
                );
                None
            }
        }
    }

    /// Whether a header is valid.
    pub fn validity(&mut self, operand: &Operand<'a>) -> Option<Handle<Expr>> {
        Some(match &operand.kind {
            OperandKind::Header(header) => self.ir.exprs.is_valid(*header),
            OperandKind::HeaderValue(fields) => self.ir.exprs.bool(fields.is_some()),
            OperandKind::Union(union) => self.ir.exprs.is_union_valid(*union),
            _ => return None,
        })
    }
}
