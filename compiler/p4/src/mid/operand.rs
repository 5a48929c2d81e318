//! What an expression stands for while a program is lowered: a number of any size, a value, a place
//! that can be written, or several of them under one type.

use std::rc::Rc;
use std::sync::Arc;

use num_bigint::BigInt;

use crate::ir::{
    Counter, DirectCounter, DirectMeter, Expr, Handle, HeaderRef, Meter, Place, Profile, Register,
    Stack, Union,
};
use crate::source::Span;

use super::scope::BlockInstance;
use super::types::Ty;

/// What an expression stands for, with its type.
#[derive(Debug, Clone, PartialEq)]
pub struct Operand<'a> {
    pub ty: Ty,
    pub kind: OperandKind<'a>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum OperandKind<'a> {
    /// A number of type `int`.
    Int(BigInt),
    /// A string.
    String(Arc<str>),
    /// A scalar that can only be read.
    Value(Handle<Expr>),
    /// A scalar that can be written.
    Place(Place),
    /// Bits `hi` to `lo` of a scalar that can be written.
    Slice(Place, u32, u32),
    /// The fields of a struct, or the parts of a tuple or list, in order.
    Parts(Vec<Operand<'a>>),
    /// `{ a = x, … }` whose type is not known yet; and whether it ends in `...`.
    Record(Vec<(Arc<str>, Operand<'a>, Span)>, bool),
    /// A list that ends in `...`.
    OpenList(Vec<Operand<'a>>),
    /// A header.
    Header(HeaderRef),
    /// A valid header with these fields, or an invalid one.
    HeaderValue(Option<Vec<Operand<'a>>>),
    /// A header stack.
    Stack(Handle<Stack>),
    /// A header union.
    Union(Handle<Union>),
    /// `...`
    Default,
    /// An object.
    Object(Object<'a>),
    /// Something wrong, of which the user has been told.
    Poison,
}

/// An object: something with methods.
#[derive(Debug, Clone)]
pub enum Object<'a> {
    PacketIn,
    PacketOut,
    Counter(Handle<Counter>),
    DirectCounter(Handle<DirectCounter>),
    Meter(Handle<Meter>),
    DirectMeter(Handle<DirectMeter>),
    Register(Handle<Register>),
    Profile(Handle<Profile>),
    Block(Rc<BlockInstance<'a>>),
}

impl PartialEq for Object<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::PacketIn, Self::PacketIn) | (Self::PacketOut, Self::PacketOut) => true,
            (Self::Counter(a), Self::Counter(b)) => a == b,
            (Self::DirectCounter(a), Self::DirectCounter(b)) => a == b,
            (Self::Meter(a), Self::Meter(b)) => a == b,
            (Self::DirectMeter(a), Self::DirectMeter(b)) => a == b,
            (Self::Register(a), Self::Register(b)) => a == b,
            (Self::Profile(a), Self::Profile(b)) => a == b,
            (Self::Block(a), Self::Block(b)) => Rc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl<'a> Operand<'a> {
    pub fn new(ty: Ty, kind: OperandKind<'a>) -> Self {
        Self { ty, kind }
    }

    pub fn value(ty: Ty, value: Handle<Expr>) -> Self {
        Self::new(ty, OperandKind::Value(value))
    }

    pub fn is_poison(&self) -> bool {
        matches!(self.kind, OperandKind::Poison)
    }

    /// Whether the operand can be written.
    pub fn is_lvalue(&self) -> bool {
        match &self.kind {
            OperandKind::Place(_)
            | OperandKind::Slice(..)
            | OperandKind::Header(_)
            | OperandKind::Stack(_)
            | OperandKind::Union(_)
            | OperandKind::Poison => true,
            OperandKind::Parts(parts) => parts.iter().all(Operand::is_lvalue),
            _ => false,
        }
    }

    /// Calls `visit` with every operand in it that is not made of parts.
    pub fn leaves<'s>(&'s self, visit: &mut impl FnMut(&'s Operand<'a>)) {
        match &self.kind {
            OperandKind::Parts(parts)
            | OperandKind::OpenList(parts)
            | OperandKind::HeaderValue(Some(parts)) => {
                for part in parts {
                    part.leaves(visit);
                }
            }
            OperandKind::Record(fields, _) => {
                for (_, field, _) in fields {
                    field.leaves(visit);
                }
            }
            _ => visit(self),
        }
    }
}
