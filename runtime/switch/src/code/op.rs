//! The instructions. Operands are word indices; constants are words as well, so that no operand
//! needs a case distinction. `…2` works on pairs of words (128 bits).

use super::layout::Slot;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// `d = a`
    Mov {
        d: Slot,
        a: Slot,
    },
    /// `d = a & mask`
    Mask {
        d: Slot,
        a: Slot,
        mask: u64,
    },
    Add {
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Sub {
        d: Slot,
        a: Slot,
        b: Slot,
    },
    And {
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Or {
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Xor {
        d: Slot,
        a: Slot,
        b: Slot,
    },
    /// `d = (a == b) ? 1 : 0`
    Equal {
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Unequal {
        d: Slot,
        a: Slot,
        b: Slot,
    },
    /// The operations that are rarer than those above.
    /// `d = a op b` on 64 wrapping bits.
    Alu {
        op: Alu,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    /// `d = a op n`
    AluImm {
        op: Alu,
        d: Slot,
        a: Slot,
        n: u32,
    },
    /// `d = (a op b) ? 1 : 0`: the tests that are rarer than those above.
    Test {
        op: Test,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Not {
        d: Slot,
        a: Slot,
    },
    IsZero {
        d: Slot,
        a: Slot,
    },
    /// The lowest `n` bits with their sign.
    SignExtend {
        d: Slot,
        a: Slot,
        n: u32,
    },
    /// `d = min(a, max)`
    Min {
        d: Slot,
        a: Slot,
        max: u64,
    },
    /// `d = clamp(a, low, high)` of signed values whose bounds are `bits` wide.
    ClampSigned {
        d: Slot,
        a: Slot,
        bits: u32,
    },
    /// Clamp a signed value to 0 up to `max`.
    ClampUnsigned {
        d: Slot,
        a: Slot,
        max: u64,
    },
    Jump {
        to: u32,
    },
    JumpIfZero {
        a: Slot,
        to: u32,
    },
    /// `d = a` zero-extended to a pair.
    Widen2 {
        d: Slot,
        a: Slot,
    },
    /// `d = a` sign-extended to a pair.
    WidenSigned2 {
        d: Slot,
        a: Slot,
    },
    Alu2 {
        op: Alu,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    /// Shifts of a pair by a word.
    Shift2 {
        op: Alu,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Test2 {
        op: Test,
        d: Slot,
        a: Slot,
        b: Slot,
    },
    Not2 {
        d: Slot,
        a: Slot,
    },
    SignExtend2 {
        d: Slot,
        a: Slot,
        n: u32,
    },
    /// `d = a` cut to `n` bits (65 to 128).
    Mask2 {
        d: Slot,
        a: Slot,
        n: u32,
    },
    /// `n` words from `a` to `d`.
    Copy {
        d: Slot,
        a: Slot,
        n: u32,
    },
    /// Two moves, one after the other.
    Mov2 {
        moves: [(Slot, Slot); 2],
    },
    Mov3 {
        moves: [(Slot, Slot); 3],
    },
    /// `t = !a`, `d = t & mask`
    NotMask {
        t: Slot,
        d: Slot,
        a: Slot,
        mask: u64,
    },
    /// `d = (a != b)`, and a jump if that is 0.
    UnequalJump {
        d: Slot,
        a: Slot,
        b: Slot,
        to: u32,
    },
    EqualJump {
        d: Slot,
        a: Slot,
        b: Slot,
        to: u32,
    },
    /// What needs more than words: see `Effect`.
    Effect {
        index: u32,
    },
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    And,
    Or,
    Xor,
    Shl,
    /// Logical.
    Shr,
    /// Arithmetic.
    Sar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Eq,
    Ne,
    LtUnsigned,
    LeUnsigned,
    LtSigned,
    LeSigned,
}

/// Puts instructions that often follow each other into one, in place: the first of them does the
/// work of all and goes on behind them. The others stay, for who jumps to them.
pub(crate) fn fuse(code: &mut [Op]) {
    for i in 0..code.len() {
        let fused = match code.get(i..) {
            Some(
                [
                    Op::Mov { d: d0, a: a0 },
                    Op::Mov { d: d1, a: a1 },
                    Op::Mov { d: d2, a: a2 },
                    ..,
                ],
            ) => Some(Op::Mov3 {
                moves: [(*d0, *a0), (*d1, *a1), (*d2, *a2)],
            }),
            Some([Op::Mov { d: d0, a: a0 }, Op::Mov { d: d1, a: a1 }, ..]) => Some(Op::Mov2 {
                moves: [(*d0, *a0), (*d1, *a1)],
            }),
            Some([Op::Not { d: t, a }, Op::Mask { d, a: b, mask }, ..]) if t == b => {
                Some(Op::NotMask {
                    t: *t,
                    d: *d,
                    a: *a,
                    mask: *mask,
                })
            }
            Some([Op::Unequal { d, a, b }, Op::JumpIfZero { a: c, to }, ..]) if c == d => {
                Some(Op::UnequalJump {
                    d: *d,
                    a: *a,
                    b: *b,
                    to: *to,
                })
            }
            Some([Op::Equal { d, a, b }, Op::JumpIfZero { a: c, to }, ..]) if c == d => {
                Some(Op::EqualJump {
                    d: *d,
                    a: *a,
                    b: *b,
                    to: *to,
                })
            }
            _ => None,
        };
        if let (Some(fused), Some(op)) = (fused, code.get_mut(i)) {
            *op = fused;
        }
    }
}

impl Op {
    /// The instruction for `d = a op b`.
    pub(crate) fn alu(op: Alu, d: Slot, a: Slot, b: Slot) -> Op {
        match op {
            Alu::Add => Op::Add { d, a, b },
            Alu::Sub => Op::Sub { d, a, b },
            Alu::And => Op::And { d, a, b },
            Alu::Or => Op::Or { d, a, b },
            Alu::Xor => Op::Xor { d, a, b },
            op => Op::Alu { op, d, a, b },
        }
    }

    /// The instruction for `d = (a op b)`.
    pub(crate) fn test(op: Test, d: Slot, a: Slot, b: Slot) -> Op {
        match op {
            Test::Eq => Op::Equal { d, a, b },
            Test::Ne => Op::Unequal { d, a, b },
            op => Op::Test { op, d, a, b },
        }
    }
}
