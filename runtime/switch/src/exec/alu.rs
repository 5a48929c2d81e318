//! The instructions that work on words alone.

use crate::code::layout::{Slot, Words, mask};
use crate::code::op::{Alu, Op, Test};

/// What ended a run of arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Where to go on, when just one instruction was to run.
    Next {
        next: usize,
    },
    End,
    /// The effect to run, and where to go on.
    Effect {
        index: u32,
        next: usize,
    },
    /// More backward jumps than any finite action makes.
    Endless,
}

/// Backward jumps that one run may make.
const MAX_LOOPS: u32 = 1 << 20;

/// Runs instructions from `pc` up to the next effect or end; if `ONE`, just one instruction.
#[expect(
    clippy::indexing_slicing,
    reason = "the emitter hands out every slot and jump target"
)]
#[inline(always)]
pub(crate) fn run<const ONE: bool>(code: &[Op], mut pc: usize, words: &mut Words) -> Stop {
    let mut loops = 0;
    loop {
        match code[pc] {
            Op::Mov { d, a } => words[d as usize] = words[a as usize],
            Op::Mask { d, a, mask } => words[d as usize] = words[a as usize] & mask,
            Op::Add { d, a, b } => {
                words[d as usize] = words[a as usize].wrapping_add(words[b as usize]);
            }
            Op::Sub { d, a, b } => {
                words[d as usize] = words[a as usize].wrapping_sub(words[b as usize]);
            }
            Op::And { d, a, b } => words[d as usize] = words[a as usize] & words[b as usize],
            Op::Or { d, a, b } => words[d as usize] = words[a as usize] | words[b as usize],
            Op::Xor { d, a, b } => words[d as usize] = words[a as usize] ^ words[b as usize],
            Op::Equal { d, a, b } => {
                words[d as usize] = u64::from(words[a as usize] == words[b as usize]);
            }
            Op::Unequal { d, a, b } => {
                words[d as usize] = u64::from(words[a as usize] != words[b as usize]);
            }
            Op::Alu { op, d, a, b } => {
                words[d as usize] = alu(op, words[a as usize], words[b as usize]);
            }
            Op::AluImm { op, d, a, n } => {
                words[d as usize] = alu(op, words[a as usize], u64::from(n));
            }
            Op::Test { op, d, a, b } => {
                words[d as usize] = u64::from(test(op, words[a as usize], words[b as usize]));
            }
            Op::Not { d, a } => words[d as usize] = !words[a as usize],
            Op::IsZero { d, a } => words[d as usize] = u64::from(words[a as usize] == 0),
            Op::SignExtend { d, a, n } => words[d as usize] = sign_extend(words[a as usize], n),
            Op::Min { d, a, max } => words[d as usize] = words[a as usize].min(max),
            Op::ClampSigned { d, a, bits } => {
                let high = (mask(bits) >> 1) as i64;
                words[d as usize] = (words[a as usize] as i64).clamp(!high, high) as u64;
            }
            Op::ClampUnsigned { d, a, max } => {
                let value = words[a as usize];
                words[d as usize] = if (value as i64) < 0 {
                    0
                } else {
                    value.min(max)
                };
            }
            Op::Jump { to } => {
                if (to as usize) <= pc {
                    loops += 1;
                    if loops > MAX_LOOPS {
                        return Stop::Endless;
                    }
                }
                pc = to as usize;
                if ONE {
                    return Stop::Next { next: pc };
                }
                continue;
            }
            Op::JumpIfZero { a, to } => {
                if words[a as usize] == 0 {
                    if (to as usize) <= pc {
                        loops += 1;
                        if loops > MAX_LOOPS {
                            return Stop::Endless;
                        }
                    }
                    pc = to as usize;
                    if ONE {
                        return Stop::Next { next: pc };
                    }
                    continue;
                }
            }
            Op::Widen2 { d, a } => set2(words, d, u128::from(words[a as usize])),
            Op::WidenSigned2 { d, a } => {
                let value = i128::from(words[a as usize] as i64);
                set2(words, d, value as u128);
            }
            Op::Alu2 { op, d, a, b } => {
                let value = alu2(op, get2(words, a), get2(words, b));
                set2(words, d, value);
            }
            Op::Shift2 { op, d, a, b } => {
                let value = shift2(op, get2(words, a), words[b as usize]);
                set2(words, d, value);
            }
            Op::Test2 { op, d, a, b } => {
                words[d as usize] = u64::from(test2(op, get2(words, a), get2(words, b)));
            }
            Op::Not2 { d, a } => set2(words, d, !get2(words, a)),
            Op::SignExtend2 { d, a, n } => {
                let shift = 128 - n.clamp(1, 128);
                let value = ((get2(words, a) << shift) as i128) >> shift;
                set2(words, d, value as u128);
            }
            Op::Mask2 { d, a, n } => {
                let low = words[a as usize];
                words[d as usize + 1] = words[a as usize + 1] & mask(n - 64);
                words[d as usize] = low;
            }
            Op::Copy { d, a, n } => {
                let (d, a, n) = (d as usize, a as usize, n as usize);
                words.copy_within(a..a + n, d);
            }
            // In single steps a fused instruction is the first of those that it is made of.
            Op::Mov2 {
                moves: [(d0, a0), (d1, a1)],
            } => {
                words[d0 as usize] = words[a0 as usize];
                if !ONE {
                    words[d1 as usize] = words[a1 as usize];
                    pc += 1;
                }
            }
            Op::Mov3 {
                moves: [(d0, a0), (d1, a1), (d2, a2)],
            } => {
                words[d0 as usize] = words[a0 as usize];
                if !ONE {
                    words[d1 as usize] = words[a1 as usize];
                    words[d2 as usize] = words[a2 as usize];
                    pc += 2;
                }
            }
            Op::NotMask { t, d, a, mask } => {
                words[t as usize] = !words[a as usize];
                if !ONE {
                    words[d as usize] = words[t as usize] & mask;
                    pc += 1;
                }
            }
            Op::UnequalJump { d, a, b, to } => {
                let unequal = words[a as usize] != words[b as usize];
                words[d as usize] = u64::from(unequal);
                if !ONE {
                    if !unequal && to as usize > pc {
                        pc = to as usize;
                        continue;
                    }
                    // A jump back is left to the jump itself, which counts it.
                    pc += usize::from(unequal);
                }
            }
            Op::EqualJump { d, a, b, to } => {
                let equal = words[a as usize] == words[b as usize];
                words[d as usize] = u64::from(equal);
                if !ONE {
                    if !equal && to as usize > pc {
                        pc = to as usize;
                        continue;
                    }
                    pc += usize::from(equal);
                }
            }
            Op::Effect { index } => {
                return Stop::Effect {
                    index,
                    next: pc + 1,
                };
            }
            Op::End => return Stop::End,
        }
        pc += 1;
        if ONE {
            return Stop::Next { next: pc };
        }
    }
}

#[inline]
fn alu(op: Alu, a: u64, b: u64) -> u64 {
    match op {
        Alu::Add => a.wrapping_add(b),
        Alu::Sub => a.wrapping_sub(b),
        Alu::Mul => a.wrapping_mul(b),
        // Division by zero has no meaning in P4; it gives 0 here.
        Alu::Div => a.checked_div(b).unwrap_or(0),
        Alu::Rem => a.checked_rem(b).unwrap_or(0),
        Alu::And => a & b,
        Alu::Or => a | b,
        Alu::Xor => a ^ b,
        Alu::Shl => {
            if b < 64 {
                a << b
            } else {
                0
            }
        }
        Alu::Shr => {
            if b < 64 {
                a >> b
            } else {
                0
            }
        }
        Alu::Sar => ((a as i64) >> b.min(63)) as u64,
    }
}

fn alu2(op: Alu, a: u128, b: u128) -> u128 {
    match op {
        Alu::Add => a.wrapping_add(b),
        Alu::Sub => a.wrapping_sub(b),
        Alu::Mul => a.wrapping_mul(b),
        Alu::Div => a.checked_div(b).unwrap_or(0),
        Alu::Rem => a.checked_rem(b).unwrap_or(0),
        Alu::And => a & b,
        Alu::Or => a | b,
        Alu::Xor => a ^ b,
        Alu::Shl | Alu::Shr | Alu::Sar => shift2(op, a, b as u64),
    }
}

fn shift2(op: Alu, a: u128, b: u64) -> u128 {
    match op {
        Alu::Shl => {
            if b < 128 {
                a << b
            } else {
                0
            }
        }
        Alu::Sar => ((a as i128) >> b.min(127)) as u128,
        _ => {
            if b < 128 {
                a >> b
            } else {
                0
            }
        }
    }
}

#[inline]
pub(crate) fn test(op: Test, a: u64, b: u64) -> bool {
    match op {
        Test::Eq => a == b,
        Test::Ne => a != b,
        Test::LtUnsigned => a < b,
        Test::LeUnsigned => a <= b,
        Test::LtSigned => (a as i64) < (b as i64),
        Test::LeSigned => (a as i64) <= (b as i64),
    }
}

fn test2(op: Test, a: u128, b: u128) -> bool {
    match op {
        Test::Eq => a == b,
        Test::Ne => a != b,
        Test::LtUnsigned => a < b,
        Test::LeUnsigned => a <= b,
        Test::LtSigned => (a as i128) < (b as i128),
        Test::LeSigned => (a as i128) <= (b as i128),
    }
}

fn sign_extend(value: u64, bits: u32) -> u64 {
    let shift = 64 - bits.clamp(1, 64);
    (((value << shift) as i64) >> shift) as u64
}

#[expect(clippy::indexing_slicing, reason = "the emitter reserves pairs whole")]
fn get2(words: &Words, at: Slot) -> u128 {
    u128::from(words[at as usize]) | u128::from(words[at as usize + 1]) << 64
}

#[expect(clippy::indexing_slicing, reason = "the emitter reserves pairs whole")]
fn set2(words: &mut Words, at: Slot, value: u128) {
    words[at as usize] = value as u64;
    words[at as usize + 1] = (value >> 64) as u64;
}
