//! Expressions: values of fixed width without side effects.

use num_bigint::BigInt;
use num_traits::One;

use super::arena::Handle;
use super::{Header, Stack, Union};

/// What an expression yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Type {
    /// A truth value.
    Bool,
    /// A number of `width` bits, in two's complement if signed.
    Bits {
        /// In bits; 0 is allowed and holds only 0.
        width: u32,
        /// Whether the highest bit counts negative.
        signed: bool,
    },
    /// A string of at most so many bits, whose length is part of its value.
    Varbit(u32),
}

impl Type {
    /// An unsigned number.
    #[must_use]
    pub fn bits(width: u32) -> Self {
        Self::Bits {
            width,
            signed: false,
        }
    }

    /// The width in bits; 1 for a truth value, the greatest for a varbit.
    #[must_use]
    pub fn width(self) -> u32 {
        match self {
            Self::Bool => 1,
            Self::Bits { width, .. } | Self::Varbit(width) => width,
        }
    }

    /// Whether it is a signed number.
    #[must_use]
    pub fn is_signed(self) -> bool {
        matches!(self, Self::Bits { signed: true, .. })
    }

    /// The number cut to this type: kept modulo 2^width, and read in two's complement if signed.
    #[must_use]
    pub fn wrap(self, value: &BigInt) -> BigInt {
        let Self::Bits { width, signed } = self else {
            return value.clone();
        };
        let cut = value & mask(width);
        if signed && width > 0 && cut.bit(u64::from(width) - 1) {
            cut - (BigInt::one() << width)
        } else {
            cut
        }
    }

    /// Whether the number can be written in this type.
    #[must_use]
    pub fn holds(self, value: &BigInt) -> bool {
        self.wrap(value) == *value
    }
}

/// A number of so many one bits.
#[must_use]
pub fn mask(width: u32) -> BigInt {
    (BigInt::one() << width) - BigInt::one()
}

/// Which header is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HeaderRef {
    /// This one.
    Instance(Handle<Header>),
    /// The last one extracted into the stack (parsers only).
    Last(Handle<Stack>),
    /// The first not yet extracted one of the stack (parsers only, and only to extract into it).
    Next(Handle<Stack>),
    /// The one whose index the expression gives at run time.
    Element(Handle<Stack>, Handle<Expr>),
}

/// One field of a header: what can be read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The header.
    pub header: HeaderRef,
    /// The position of the field in the header's type.
    pub field: u32,
}

/// Operators with one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// Logical not.
    Not,
    /// Every bit turned round.
    Complement,
    /// Zero minus the operand.
    Negate,
}

/// Operators with two operands of one type, except where noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of P4_16 section 8")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    AddSat,
    SubSat,
    And,
    Or,
    Xor,
    /// The right operand is of any width.
    Shl,
    /// The right operand is of any width; keeps the sign of a signed left operand.
    Shr,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    LogicalAnd,
    LogicalOr,
}

impl BinaryOp {
    /// Whether the result is a truth value.
    #[must_use]
    pub fn yields_bool(self) -> bool {
        matches!(
            self,
            Self::Eq
                | Self::Ne
                | Self::Lt
                | Self::Le
                | Self::Gt
                | Self::Ge
                | Self::LogicalAnd
                | Self::LogicalOr
        )
    }
}

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expr {
    /// A number of the given type.
    Const {
        /// Within the range of the type.
        value: BigInt,
        /// [`Type::Bits`].
        ty: Type,
    },
    /// A truth value.
    Bool(bool),
    /// What a field holds now. The field of an invalid header yields an unspecified value.
    Read(Place),
    /// The parameter of the enclosing action with this position.
    Param(u32, Type),
    /// Whether the header is valid.
    IsValid(HeaderRef),
    /// Whether one member of the union is valid.
    IsUnionValid(Handle<Union>),
    /// The index of the last header extracted into the stack, in 32 bits.
    LastIndex(Handle<Stack>),
    /// One operand.
    Unary {
        /// The operator.
        op: UnaryOp,
        /// The operand.
        operand: Handle<Expr>,
    },
    /// Two operands.
    Binary {
        /// The operator.
        op: BinaryOp,
        /// The left operand.
        left: Handle<Expr>,
        /// The right operand.
        right: Handle<Expr>,
    },
    /// The operand cut or extended (by its sign, if signed) to the type; between `bool` and
    /// one bit too.
    Cast(Type, Handle<Expr>),
    /// The bits `hi` to `lo`, both included, unsigned.
    Slice {
        /// What is cut.
        base: Handle<Expr>,
        /// The highest bit.
        hi: u32,
        /// The lowest bit.
        lo: u32,
    },
    /// The bits of the left operand before those of the right one.
    Concat(Handle<Expr>, Handle<Expr>),
    /// One of two, both of which have the same type.
    Select {
        /// Which one.
        condition: Handle<Expr>,
        /// When it holds.
        then: Handle<Expr>,
        /// When not.
        otherwise: Handle<Expr>,
    },
}
