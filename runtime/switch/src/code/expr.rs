//! Expressions as the JSON has them, with names resolved.

use super::layout::{HeaderId, Place, Slot};
use num_bigint::BigInt;

/// A number of any size.
#[derive(Clone, Debug)]
pub(crate) enum Num {
    Const(BigInt),
    Load(Place),
    Binary(BinOp, Box<Num>, Box<Num>),
    /// `~`
    Complement(Box<Num>),
    Choose(Box<Bool>, Box<Num>, Box<Num>),
    FromBool(Box<Bool>),
    /// Cut to so many bits, as two's complement.
    TwoComplement(Box<Num>, u32),
    SaturateUnsigned(Box<Num>, u32),
    SaturateSigned(Box<Num>, u32),
    /// A field of a header that is known only when the packet is there.
    FieldOf(Box<HeaderRef>, usize),
    Register(u32, Box<Num>),
    /// Index of the last element of a stack.
    LastIndex(Slot),
    /// How many elements of a stack are in use.
    StackCount(Slot),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BinOp {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Shl,
    Shr,
    And,
    Or,
    Xor,
}

#[derive(Clone, Debug)]
pub(crate) enum Bool {
    Const(bool),
    Compare(Cmp, Box<Num>, Box<Num>),
    Same(bool, Box<Bool>, Box<Bool>),
    /// Both valid and equal in every field; negated if the flag is false.
    HeadersEqual(bool, HeaderRef, HeaderRef),
    UnionsEqual(bool, u32, u32),
    And(Box<Bool>, Box<Bool>),
    Or(Box<Bool>, Box<Bool>),
    Not(Box<Bool>),
    Valid(HeaderRef),
    ValidUnion(u32),
    FromNum(Box<Num>),
    Choose(Box<Bool>, Box<Bool>, Box<Bool>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Clone, Debug)]
pub(crate) enum HeaderRef {
    Fixed(HeaderId),
    /// An element of a stack by index.
    Element(u32, Box<Num>),
    /// The last used element of a stack.
    Last(u32),
    /// A member of an element of a stack of unions.
    UnionElement(u32, Box<Num>, usize),
    /// A member of the last used element of a stack of unions.
    UnionLast(u32, usize),
}

/// Where an assignment goes.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Place(Place),
    FieldOf(HeaderRef, usize),
}
