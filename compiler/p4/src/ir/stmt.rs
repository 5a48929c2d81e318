//! Statements. Control flow is structured: a [`StmtKind::Labelled`] block may be left early by
//! [`StmtKind::Break`] from anywhere inside it, which is how `return` of an inlined control, action
//! or function is said.

use std::sync::Arc;

use crate::source::Span;

use super::arena::Handle;
use super::expr::{Expr, HeaderRef, Place};
use super::{
    Action, Calculation, Checksum, Counter, DigestList, FieldList, Header, Meter, Register, Stack,
    Table, Union,
};

/// Statements in the order of their execution.
pub type Block = Vec<Stmt>;

/// The name of a [`StmtKind::Labelled`] block; unique in a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(pub u32);

/// One statement and the place in the source that it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stmt {
    /// Where it comes from.
    pub span: Span,
    /// What it does.
    pub kind: StmtKind,
}

/// What a statement does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StmtKind {
    /// Writes a field. Writing the field of an invalid header has no effect.
    Assign {
        /// The field.
        to: Place,
        /// Its new value, of the field's type.
        value: Handle<Expr>,
    },
    /// Copies validity and all fields between headers of one type.
    CopyHeader {
        /// The header that changes.
        to: HeaderRef,
        /// The header that is read.
        from: HeaderRef,
    },
    /// Copies all headers between stacks of one type and size.
    CopyStack {
        /// The stack that changes.
        to: Handle<Stack>,
        /// The stack that is read.
        from: Handle<Stack>,
    },
    /// Copies the valid member between unions of one type.
    CopyUnion {
        /// The union that changes.
        to: Handle<Union>,
        /// The union that is read.
        from: Handle<Union>,
    },
    /// Makes a header valid; its fields are unspecified if it was not.
    SetValid(HeaderRef),
    /// Makes a header invalid.
    SetInvalid(HeaderRef),
    /// Moves the elements up by so many; the first become invalid.
    Push(Handle<Stack>, u32),
    /// Moves the elements down by so many; the last become invalid.
    Pop(Handle<Stack>, u32),
    /// Calls on the architecture.
    Call(Primitive),
    /// One of two blocks.
    If {
        /// A truth value.
        condition: Handle<Expr>,
        /// Done when it holds.
        then: Block,
        /// Done when it does not.
        otherwise: Block,
    },
    /// Applies a table (controls only).
    Apply {
        /// The table.
        table: Handle<Table>,
        /// What depends on the outcome.
        after: After,
    },
    /// A block that can be left early.
    Labelled(Label, Block),
    /// Goes on behind the enclosing block of that name.
    Break(Label),
    /// Ends the processing of the packet by the whole parser, ingress or egress.
    Exit,
    /// Takes a header from the packet (parsers only).
    Extract {
        /// Where it goes; [`HeaderRef::Next`] for the next one of a stack.
        to: HeaderRef,
        /// The size in bits of its variable part, 32 bits wide.
        length: Option<Handle<Expr>>,
    },
    /// Skips so many bits of the packet (parsers only).
    Advance(Handle<Expr>),
    /// Reads the next `width` bits without moving (parsers only). Ends parsing with the error
    /// `PacketTooShort` when there are fewer.
    Lookahead {
        /// The field that takes them, unsigned.
        to: Place,
        /// In bits.
        width: u32,
    },
    /// Appends a header to the packet (only while the deparser is lowered).
    Emit(Handle<Header>),
    /// A checksum (only while the checksum controls are lowered).
    Checksum(Checksum),
    /// Ends parsing with the error unless the condition holds (parsers only).
    Verify {
        /// A truth value.
        condition: Handle<Expr>,
        /// An error's number.
        error: Handle<Expr>,
    },
}

/// What depends on a table's outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    Nothing,
    /// Whether an entry matched.
    HitOrMiss {
        /// Done when an entry matched.
        hit: Block,
        /// Done when none did.
        miss: Block,
    },
    /// Which action ran.
    ByAction {
        /// For these actions, this block.
        cases: Vec<(Vec<Handle<Action>>, Block)>,
        /// For all others.
        otherwise: Block,
    },
}

/// What the v1model architecture does for a program.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields are the parameters of the v1model extern of the same name"
)]
pub enum Primitive {
    /// `counter.count`
    Count {
        counter: Handle<Counter>,
        index: Handle<Expr>,
    },
    /// `meter.execute_meter`
    ExecuteMeter {
        meter: Handle<Meter>,
        index: Handle<Expr>,
        to: Place,
    },
    /// `register.read`
    RegisterRead {
        to: Place,
        register: Handle<Register>,
        index: Handle<Expr>,
    },
    /// `register.write`
    RegisterWrite {
        register: Handle<Register>,
        index: Handle<Expr>,
        value: Handle<Expr>,
    },
    /// `hash`
    Hash {
        to: Place,
        base: Handle<Expr>,
        calculation: Handle<Calculation>,
        max: Handle<Expr>,
    },
    /// `random`
    Random {
        to: Place,
        low: Handle<Expr>,
        high: Handle<Expr>,
    },
    /// `digest`
    Digest {
        receiver: Handle<Expr>,
        list: Handle<DigestList>,
    },
    /// `clone`, `clone_preserving_field_list`
    Clone {
        egress: bool,
        session: Handle<Expr>,
        list: Handle<FieldList>,
    },
    /// `resubmit_preserving_field_list`
    Resubmit { list: Handle<FieldList> },
    /// `recirculate_preserving_field_list`
    Recirculate { list: Handle<FieldList> },
    /// `truncate`
    Truncate { length: Handle<Expr> },
    /// `mark_to_drop`
    MarkToDrop,
    /// `log_msg`
    LogMessage {
        format: Arc<str>,
        values: Vec<Handle<Expr>>,
    },
    /// `assert`
    Assert(Handle<Expr>),
    /// `assume`
    Assume(Handle<Expr>),
}

impl Primitive {
    /// The field that the primitive writes, if any.
    #[must_use]
    pub fn target(&self) -> Option<Place> {
        match self {
            Self::ExecuteMeter { to, .. }
            | Self::RegisterRead { to, .. }
            | Self::Hash { to, .. }
            | Self::Random { to, .. } => Some(*to),
            _ => None,
        }
    }

    /// The primitive with its expressions replaced.
    #[must_use]
    pub fn map(self, mut f: impl FnMut(Handle<Expr>) -> Handle<Expr>) -> Self {
        match self {
            Self::Count { counter, index } => Self::Count {
                counter,
                index: f(index),
            },
            Self::ExecuteMeter { meter, index, to } => Self::ExecuteMeter {
                meter,
                index: f(index),
                to,
            },
            Self::RegisterRead {
                to,
                register,
                index,
            } => Self::RegisterRead {
                to,
                register,
                index: f(index),
            },
            Self::RegisterWrite {
                register,
                index,
                value,
            } => Self::RegisterWrite {
                register,
                index: f(index),
                value: f(value),
            },
            Self::Hash {
                to,
                base,
                calculation,
                max,
            } => Self::Hash {
                to,
                base: f(base),
                calculation,
                max: f(max),
            },
            Self::Random { to, low, high } => Self::Random {
                to,
                low: f(low),
                high: f(high),
            },
            Self::Digest { receiver, list } => Self::Digest {
                receiver: f(receiver),
                list,
            },
            Self::Clone {
                egress,
                session,
                list,
            } => Self::Clone {
                egress,
                session: f(session),
                list,
            },
            Self::Truncate { length } => Self::Truncate { length: f(length) },
            Self::LogMessage { format, values } => Self::LogMessage {
                format,
                values: values.into_iter().map(f).collect(),
            },
            Self::Assert(condition) => Self::Assert(f(condition)),
            Self::Assume(condition) => Self::Assume(f(condition)),
            other @ (Self::Resubmit { .. } | Self::Recirculate { .. } | Self::MarkToDrop) => other,
        }
    }

    /// The expressions that the primitive reads. What calculations and lists hold is not among them.
    #[must_use]
    pub fn operands(&self) -> Vec<Handle<Expr>> {
        match self {
            Self::Count { index, .. }
            | Self::ExecuteMeter { index, .. }
            | Self::RegisterRead { index, .. } => vec![*index],
            Self::RegisterWrite { index, value, .. } => vec![*index, *value],
            Self::Hash { base, max, .. } => vec![*base, *max],
            Self::Random { low, high, .. } => vec![*low, *high],
            Self::Digest { receiver, .. } => vec![*receiver],
            Self::Clone { session, .. } => vec![*session],
            Self::Truncate { length } => vec![*length],
            Self::LogMessage { values, .. } => values.clone(),
            Self::Assert(condition) | Self::Assume(condition) => vec![*condition],
            Self::Resubmit { .. } | Self::Recirculate { .. } | Self::MarkToDrop => Vec::new(),
        }
    }
}
