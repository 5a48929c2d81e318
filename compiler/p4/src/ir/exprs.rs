//! The arena of all expressions. Its constructors fold constants and drop operations that do nothing,
//! so nobody has to look for them later.

use num_bigint::BigInt;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::arena::{Handle, UniqueArena};
use super::expr::{BinaryOp, Expr, HeaderRef, Place, Type, UnaryOp, mask};
use super::{Stack, Union};

/// All expressions of a program, with their types.
#[derive(Debug, Clone, Default)]
pub struct Exprs {
    arena: UniqueArena<Expr>,
    types: Vec<Type>,
}

impl std::ops::Index<Handle<Expr>> for Exprs {
    type Output = Expr;
    fn index(&self, handle: Handle<Expr>) -> &Expr {
        &self.arena[handle]
    }
}

impl Exprs {
    fn put(&mut self, expr: Expr, ty: Type) -> Handle<Expr> {
        let (handle, new) = self.arena.insert(expr);
        if new {
            self.types.push(ty);
        }
        handle
    }

    /// The type of an expression.
    #[must_use]
    pub fn ty(&self, expr: Handle<Expr>) -> Type {
        self.types.get(expr.index()).copied().unwrap_or(Type::Bool)
    }

    /// The number, if the expression is a constant one.
    #[must_use]
    pub fn constant(&self, expr: Handle<Expr>) -> Option<&BigInt> {
        match &self.arena[expr] {
            Expr::Const { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The truth value, if the expression is a constant one.
    #[must_use]
    pub fn constant_bool(&self, expr: Handle<Expr>) -> Option<bool> {
        match self.arena[expr] {
            Expr::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// Whether the expression is a constant of any type.
    #[must_use]
    pub fn is_constant(&self, expr: Handle<Expr>) -> bool {
        matches!(self.arena[expr], Expr::Const { .. } | Expr::Bool(_))
    }

    /// A number, cut to the type.
    pub fn number(&mut self, value: &BigInt, ty: Type) -> Handle<Expr> {
        self.put(
            Expr::Const {
                value: ty.wrap(value),
                ty,
            },
            ty,
        )
    }

    /// An unsigned number.
    pub fn bits(&mut self, value: u64, width: u32) -> Handle<Expr> {
        self.number(&BigInt::from(value), Type::bits(width))
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) -> Handle<Expr> {
        self.put(Expr::Bool(value), Type::Bool)
    }

    /// What a field of the given type holds.
    pub fn read(&mut self, place: Place, ty: Type) -> Handle<Expr> {
        self.put(Expr::Read(place), ty)
    }

    /// A parameter of the action.
    pub fn param(&mut self, position: u32, ty: Type) -> Handle<Expr> {
        self.put(Expr::Param(position, ty), ty)
    }

    /// Whether a header is valid.
    pub fn is_valid(&mut self, header: HeaderRef) -> Handle<Expr> {
        self.put(Expr::IsValid(header), Type::Bool)
    }

    /// Whether a union has a valid member.
    pub fn is_union_valid(&mut self, union: Handle<Union>) -> Handle<Expr> {
        self.put(Expr::IsUnionValid(union), Type::Bool)
    }

    /// The index of the last header of a stack.
    pub fn last_index(&mut self, stack: Handle<Stack>) -> Handle<Expr> {
        self.put(Expr::LastIndex(stack), Type::bits(32))
    }

    /// Logical not.
    pub fn not(&mut self, operand: Handle<Expr>) -> Handle<Expr> {
        match self.arena[operand] {
            Expr::Bool(value) => self.bool(!value),
            Expr::Unary {
                op: UnaryOp::Not,
                operand,
            } => operand,
            Expr::Binary {
                op: BinaryOp::Eq,
                left,
                right,
            } => self.put(
                Expr::Binary {
                    op: BinaryOp::Ne,
                    left,
                    right,
                },
                Type::Bool,
            ),
            Expr::Binary {
                op: BinaryOp::Ne,
                left,
                right,
            } => self.put(
                Expr::Binary {
                    op: BinaryOp::Eq,
                    left,
                    right,
                },
                Type::Bool,
            ),
            _ => self.put(
                Expr::Unary {
                    op: UnaryOp::Not,
                    operand,
                },
                Type::Bool,
            ),
        }
    }

    /// One operand and an operator.
    pub fn unary(&mut self, op: UnaryOp, operand: Handle<Expr>) -> Handle<Expr> {
        let ty = self.ty(operand);
        match op {
            UnaryOp::Not => return self.not(operand),
            UnaryOp::Complement | UnaryOp::Negate => {
                if let Some(value) = self.constant(operand) {
                    let value = if op == UnaryOp::Negate {
                        -value
                    } else {
                        -value - 1
                    };
                    return self.number(&value, ty);
                }
                if let Expr::Unary { op: inner, operand } = self.arena[operand]
                    && inner == op
                {
                    return operand;
                }
            }
        }
        self.put(Expr::Unary { op, operand }, ty)
    }

    /// Two operands and an operator. Division and remainder by a constant zero stay as they are;
    /// whoever makes the expression has to refuse them.
    pub fn binary(
        &mut self,
        op: BinaryOp,
        left: Handle<Expr>,
        right: Handle<Expr>,
    ) -> Handle<Expr> {
        let ty = self.ty(left);
        let result = if op.yields_bool() { Type::Bool } else { ty };
        if let Some(folded) = self.fold(op, left, right, ty) {
            return folded;
        }
        self.put(Expr::Binary { op, left, right }, result)
    }

    fn fold(
        &mut self,
        op: BinaryOp,
        left: Handle<Expr>,
        right: Handle<Expr>,
        ty: Type,
    ) -> Option<Handle<Expr>> {
        if let (Some(a), Some(b)) = (self.constant_bool(left), self.constant_bool(right)) {
            return match op {
                BinaryOp::Eq => Some(self.bool(a == b)),
                BinaryOp::Ne => Some(self.bool(a != b)),
                BinaryOp::LogicalAnd => Some(self.bool(a && b)),
                BinaryOp::LogicalOr => Some(self.bool(a || b)),
                _ => None,
            };
        }
        match (op, self.constant_bool(left), self.constant_bool(right)) {
            (BinaryOp::LogicalAnd, Some(true), _) | (BinaryOp::LogicalOr, Some(false), _) => {
                return Some(right);
            }
            (BinaryOp::LogicalAnd, _, Some(true)) | (BinaryOp::LogicalOr, _, Some(false)) => {
                return Some(left);
            }
            (BinaryOp::LogicalAnd, Some(false), _) | (BinaryOp::LogicalAnd, _, Some(false)) => {
                return Some(self.bool(false));
            }
            (BinaryOp::LogicalOr, Some(true), _) | (BinaryOp::LogicalOr, _, Some(true)) => {
                return Some(self.bool(true));
            }
            (BinaryOp::Eq, Some(b), _) => return Some(if b { right } else { self.not(right) }),
            (BinaryOp::Eq, _, Some(b)) => return Some(if b { left } else { self.not(left) }),
            (BinaryOp::Ne, Some(b), _) => return Some(if b { self.not(right) } else { right }),
            (BinaryOp::Ne, _, Some(b)) => return Some(if b { self.not(left) } else { left }),
            _ => {}
        }
        if left == right {
            match op {
                BinaryOp::Eq | BinaryOp::Le | BinaryOp::Ge => return Some(self.bool(true)),
                BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Gt => return Some(self.bool(false)),
                BinaryOp::And | BinaryOp::Or | BinaryOp::LogicalAnd | BinaryOp::LogicalOr => {
                    return Some(left);
                }
                BinaryOp::Sub | BinaryOp::Xor => return Some(self.number(&BigInt::zero(), ty)),
                _ => {}
            }
        }
        let (a, b) = (self.constant(left).cloned(), self.constant(right).cloned());
        if let (Some(a), Some(b)) = (&a, &b) {
            return self.fold_numbers(op, a, b, ty);
        }
        let full = ty.wrap(&mask(ty.width()));
        match op {
            BinaryOp::Add | BinaryOp::Or | BinaryOp::Xor | BinaryOp::AddSat
                if a.as_ref().is_some_and(Zero::is_zero) =>
            {
                Some(right)
            }
            BinaryOp::Add
            | BinaryOp::Or
            | BinaryOp::Xor
            | BinaryOp::AddSat
            | BinaryOp::Sub
            | BinaryOp::SubSat
            | BinaryOp::Shl
            | BinaryOp::Shr
                if b.as_ref().is_some_and(Zero::is_zero) =>
            {
                Some(left)
            }
            BinaryOp::Shl if b.as_ref().is_some_and(|b| *b >= BigInt::from(ty.width())) => {
                Some(self.number(&BigInt::zero(), ty))
            }
            BinaryOp::Shr
                if !ty.is_signed()
                    && b.as_ref().is_some_and(|b| *b >= BigInt::from(ty.width())) =>
            {
                Some(self.number(&BigInt::zero(), ty))
            }
            BinaryOp::And | BinaryOp::Mul
                if a.as_ref().or(b.as_ref()).is_some_and(Zero::is_zero) =>
            {
                Some(self.number(&BigInt::zero(), ty))
            }
            BinaryOp::And if a.as_ref() == Some(&full) => Some(right),
            BinaryOp::And if b.as_ref() == Some(&full) => Some(left),
            BinaryOp::Or if a.as_ref() == Some(&full) || b.as_ref() == Some(&full) => {
                Some(self.number(&full, ty))
            }
            BinaryOp::Mul if a.as_ref().is_some_and(One::is_one) => Some(right),
            BinaryOp::Mul | BinaryOp::Div if b.as_ref().is_some_and(One::is_one) => Some(left),
            _ => None,
        }
    }

    fn fold_numbers(
        &mut self,
        op: BinaryOp,
        a: &BigInt,
        b: &BigInt,
        ty: Type,
    ) -> Option<Handle<Expr>> {
        let value = match op {
            BinaryOp::Add => a + b,
            BinaryOp::Sub => a - b,
            BinaryOp::Mul => a * b,
            BinaryOp::Div if !b.is_zero() => a / b,
            BinaryOp::Mod if !b.is_zero() => a % b,
            BinaryOp::AddSat => saturate(&(a + b), ty),
            BinaryOp::SubSat => saturate(&(a - b), ty),
            BinaryOp::And => a & b,
            BinaryOp::Or => a | b,
            BinaryOp::Xor => a ^ b,
            BinaryOp::Shl => match b.to_u32() {
                Some(by) if by < ty.width() => a << by,
                _ => BigInt::zero(),
            },
            BinaryOp::Shr => match b.to_u32() {
                Some(by) if by < ty.width() => a >> by,
                _ if a.is_negative() => BigInt::from(-1),
                _ => BigInt::zero(),
            },
            BinaryOp::Eq => return Some(self.bool(a == b)),
            BinaryOp::Ne => return Some(self.bool(a != b)),
            BinaryOp::Lt => return Some(self.bool(a < b)),
            BinaryOp::Le => return Some(self.bool(a <= b)),
            BinaryOp::Gt => return Some(self.bool(a > b)),
            BinaryOp::Ge => return Some(self.bool(a >= b)),
            BinaryOp::Div | BinaryOp::Mod | BinaryOp::LogicalAnd | BinaryOp::LogicalOr => {
                return None;
            }
        };
        Some(self.number(&value, ty))
    }

    /// The operand as a value of another type.
    pub fn cast(&mut self, to: Type, operand: Handle<Expr>) -> Handle<Expr> {
        let from = self.ty(operand);
        if from == to {
            return operand;
        }
        match (self.arena[operand].clone(), to) {
            (Expr::Const { value, .. }, Type::Bits { .. }) => return self.number(&value, to),
            (Expr::Const { value, .. }, Type::Bool) => return self.bool(!value.is_zero()),
            (Expr::Bool(value), Type::Bits { .. }) => {
                return self.number(&BigInt::from(u8::from(value)), to);
            }
            // Extending twice without signs, or cutting twice, is doing it once.
            (Expr::Cast(middle, inner), Type::Bits { width, .. }) => {
                let first = self.ty(inner);
                let unsigned =
                    matches!(first, Type::Bits { signed: false, .. }) && !middle.is_signed();
                let cuts = width <= middle.width()
                    && middle.width() <= first.width()
                    && middle != Type::Bool;
                if first != Type::Bool && ((unsigned && middle.width() >= first.width()) || cuts) {
                    return self.cast(to, inner);
                }
            }
            _ => {}
        }
        self.put(Expr::Cast(to, operand), to)
    }

    /// Bits `hi` to `lo`; `lo <= hi` and `hi` within the operand.
    pub fn slice(&mut self, base: Handle<Expr>, hi: u32, lo: u32) -> Handle<Expr> {
        let from = self.ty(base);
        let ty = Type::bits(hi.saturating_sub(lo) + 1);
        if lo == 0 && ty == from {
            return base;
        }
        match self.arena[base].clone() {
            Expr::Const { value, .. } => return self.number(&(value >> lo), ty),
            Expr::Slice {
                base, lo: inner, ..
            } => return self.slice(base, hi + inner, lo + inner),
            Expr::Concat(left, right) => {
                let split = self.ty(right).width();
                if hi < split {
                    return self.slice(right, hi, lo);
                }
                if lo >= split {
                    return self.slice(left, hi - split, lo - split);
                }
            }
            Expr::Cast(_, inner) if hi < self.ty(inner).width() && self.ty(inner) != Type::Bool => {
                return self.slice(inner, hi, lo);
            }
            _ => {}
        }
        self.put(Expr::Slice { base, hi, lo }, ty)
    }

    /// The bits of both, left before right.
    pub fn concat(&mut self, left: Handle<Expr>, right: Handle<Expr>) -> Handle<Expr> {
        let (l, r) = (self.ty(left).width(), self.ty(right).width());
        let ty = Type::Bits {
            width: l + r,
            signed: self.ty(left).is_signed(),
        };
        if let (Some(a), Some(b)) = (self.constant(left), self.constant(right)) {
            let value = (a << r) | Type::bits(r).wrap(b);
            return self.number(&value, ty);
        }
        if self.constant(left).is_some_and(Zero::is_zero)
            && !ty.is_signed()
            && !self.ty(right).is_signed()
        {
            return self.cast(ty, right);
        }
        self.put(Expr::Concat(left, right), ty)
    }

    /// One of two.
    pub fn select(
        &mut self,
        condition: Handle<Expr>,
        then: Handle<Expr>,
        otherwise: Handle<Expr>,
    ) -> Handle<Expr> {
        match self.constant_bool(condition) {
            Some(true) => return then,
            Some(false) => return otherwise,
            None if then == otherwise => return then,
            None => {}
        }
        let ty = self.ty(then);
        self.put(
            Expr::Select {
                condition,
                then,
                otherwise,
            },
            ty,
        )
    }

    /// The operands of an expression; those inside a [`HeaderRef`] included.
    #[must_use]
    pub fn operands(&self, expr: Handle<Expr>) -> Vec<Handle<Expr>> {
        let header = |h: &HeaderRef| match h {
            HeaderRef::Element(_, index) => vec![*index],
            _ => Vec::new(),
        };
        match &self.arena[expr] {
            Expr::Read(place) => header(&place.header),
            Expr::IsValid(h) => header(h),
            Expr::Unary { operand, .. }
            | Expr::Cast(_, operand)
            | Expr::Slice { base: operand, .. } => vec![*operand],
            Expr::Binary { left, right, .. } | Expr::Concat(left, right) => vec![*left, *right],
            Expr::Select {
                condition,
                then,
                otherwise,
            } => vec![*condition, *then, *otherwise],
            Expr::Const { .. }
            | Expr::Bool(_)
            | Expr::Param(..)
            | Expr::IsUnionValid(_)
            | Expr::LastIndex(_) => Vec::new(),
        }
    }

    /// Calls `visit` with the expression and everything in it, once each time it occurs.
    pub fn walk(&self, expr: Handle<Expr>, visit: &mut impl FnMut(Handle<Expr>, &Expr)) {
        visit(expr, &self.arena[expr]);
        for operand in self.operands(expr) {
            self.walk(operand, visit);
        }
    }
}

fn saturate(value: &BigInt, ty: Type) -> BigInt {
    let width = ty.width();
    let (low, high) = if ty.is_signed() && width > 0 {
        (-(BigInt::one() << (width - 1)), mask(width - 1))
    } else {
        (BigInt::zero(), mask(width))
    };
    value.clone().clamp(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_expressions_are_held_once() {
        let mut e = Exprs::default();
        let (a, b) = (e.param(0, Type::bits(8)), e.param(1, Type::bits(8)));
        assert_eq!(e.binary(BinaryOp::Add, a, b), e.binary(BinaryOp::Add, a, b));
        assert_ne!(e.binary(BinaryOp::Add, a, b), e.binary(BinaryOp::Add, b, a));
    }

    #[test]
    fn constants_wrap_at_their_width() {
        let mut e = Exprs::default();
        let (a, b) = (e.bits(250, 8), e.bits(10, 8));
        let sum = e.binary(BinaryOp::Add, a, b);
        assert_eq!(e.constant(sum), Some(&BigInt::from(4)));
        let difference = e.binary(BinaryOp::Sub, b, a);
        assert_eq!(e.constant(difference), Some(&BigInt::from(16)));
        let top = e.binary(BinaryOp::AddSat, a, b);
        assert_eq!(e.constant(top), Some(&BigInt::from(255)));
    }

    #[test]
    fn a_signed_number_keeps_its_sign_when_it_is_shifted_or_extended() {
        let mut e = Exprs::default();
        let ty = Type::Bits {
            width: 8,
            signed: true,
        };
        let minus = e.number(&BigInt::from(0xf0), ty);
        assert_eq!(e.constant(minus), Some(&BigInt::from(-16)));
        let two = e.bits(2, 8);
        let shifted = e.binary(BinaryOp::Shr, minus, two);
        assert_eq!(e.constant(shifted), Some(&BigInt::from(-4)));
        let wide = e.cast(
            Type::Bits {
                width: 16,
                signed: true,
            },
            minus,
        );
        assert_eq!(e.constant(wide), Some(&BigInt::from(-16)));
        let cut = e.cast(Type::bits(4), minus);
        assert_eq!(e.constant(cut), Some(&BigInt::zero()));
    }

    #[test]
    fn a_slice_of_a_concatenation_is_a_slice_of_the_part_it_lies_in() {
        let mut e = Exprs::default();
        let (a, b) = (e.param(0, Type::bits(8)), e.param(1, Type::bits(4)));
        let both = e.concat(a, b);
        assert_eq!(e.slice(both, 3, 0), b);
        assert_eq!(e.slice(both, 11, 4), a);
        let inner = e.slice(a, 5, 2);
        assert_eq!(e.slice(both, 9, 6), inner);
    }
}
