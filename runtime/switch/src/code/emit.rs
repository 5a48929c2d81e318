//! Expressions to instructions: machine arithmetic where it is proved equal to bmv2's unbounded
//! one, the exact evaluator elsewhere.
//!
//! The proof: `+ - * & | ^ ~ <<` and cuts to n bits need of their operands no more low bits than
//! they give, so wrapping words are right whenever only low bits are asked for. Comparisons, `>>`,
//! `/`, `%` and saturation need whole values: there the interval of each operand has to fit.

use super::expr::{BinOp, Bool, Cmp, HeaderRef, Num, Target};
use super::interval::{self, Interval, Known};
use super::layout::{Layout, Place, Slot, mask};
use super::op::{Alu, Op, Test};
use super::program::{Effect, Entry};
use num_bigint::BigInt;
use num_traits::Signed;
use rustc_hash::FxHashMap;

/// Collects code and gives out words.
#[derive(Debug)]
pub(crate) struct Emitter {
    pub(crate) code: Vec<Op>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) words: Vec<u64>,
    constants: FxHashMap<Vec<u64>, Slot>,
    free: FxHashMap<u32, Vec<Slot>>,
    bounds: Known,
    taken: Vec<(u32, Slot)>,
    /// Validity words, to read `valid` of a fixed header.
    valid: Vec<Slot>,
    union_members: Vec<Vec<Slot>>,
}

impl Emitter {
    pub(crate) fn new(layout: &Layout, words: Vec<u64>) -> Self {
        Emitter {
            code: Vec::new(),
            effects: Vec::new(),
            words,
            constants: FxHashMap::default(),
            free: FxHashMap::default(),
            bounds: Known::default(),
            taken: Vec::new(),
            valid: layout.headers.iter().map(|h| h.valid).collect(),
            union_members: layout
                .unions
                .iter()
                .map(|u| u.iter().map(|h| layout.header(*h).valid).collect())
                .collect(),
        }
    }

    pub(crate) fn here(&self) -> Entry {
        self.code.len() as Entry
    }

    /// New words that are never given back.
    pub(crate) fn reserve(&mut self, words: u32) -> Slot {
        // More than a slot can name is an error once all is read.
        let slot = self.words.len() as Slot;
        self.words.resize(self.words.len() + words as usize, 0);
        slot
    }

    /// Words for this statement only; see [`Emitter::release`].
    pub(crate) fn temp(&mut self, words: u32) -> Slot {
        let slot = match self.free.get_mut(&words).and_then(Vec::pop) {
            Some(slot) => slot,
            None => self.reserve(words),
        };
        self.taken.push((words, slot));
        slot
    }

    /// Gives the temporaries of a finished statement back.
    pub(crate) fn release(&mut self) {
        for (words, slot) in self.taken.drain(..) {
            self.free.entry(words).or_default().push(slot);
        }
    }

    /// A constant; negative ones as two's complement of all the words.
    pub(crate) fn constant(&mut self, value: &BigInt, words: u32) -> Slot {
        let words = low_words(value, words);
        if let Some(slot) = self.constants.get(&words) {
            return *slot;
        }
        // More than a slot can name is an error once all is read.
        let slot = self.words.len() as Slot;
        self.words.extend_from_slice(&words);
        self.constants.insert(words, slot);
        slot
    }

    pub(crate) fn push(&mut self, op: Op) {
        self.code.push(op);
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        let index = self.effects.len() as u32;
        self.effects.push(effect);
        self.code.push(Op::Effect { index });
    }

    fn of(&mut self, num: &Num) -> Option<Interval> {
        interval::of(num, &mut self.bounds)
    }

    /// A word with the lowest 64 bits of `num`, exact if the value fits.
    pub(crate) fn value(&mut self, num: &Num) -> Slot {
        self.bounds.clear();
        let start = self.code.len();
        if let Some(slot) = self.low64(num) {
            return slot;
        }
        self.code.truncate(start);
        let slot = self.temp(1);
        self.effect(Effect::Evaluate {
            slot,
            words: 1,
            value: num.clone(),
        });
        slot
    }

    /// The value of `num` cut to `width` bits, as a place.
    pub(crate) fn place(&mut self, num: &Num, width: u32) -> Place {
        if let Num::Load(place) = num
            && place.width == width
            && !place.signed
        {
            return *place;
        }
        let place = Place::unsigned(self.temp(width.div_ceil(64).max(1)), width);
        self.assign(&Target::Place(place), num);
        place
    }

    /// `target = num`, cut to the target's width.
    pub(crate) fn assign(&mut self, target: &Target, num: &Num) {
        self.bounds.clear();
        let Target::Place(place) = target else {
            return self.effect(Effect::Assign {
                target: target.clone(),
                value: num.clone(),
            });
        };
        let start = self.code.len();
        let done = match place.words() {
            0 => Some(()),
            1 => self.assign64(*place, num),
            2 => self.assign128(*place, num),
            _ => self.assign_wide(*place, num),
        };
        if done.is_none() {
            self.code.truncate(start);
            self.effect(Effect::Assign {
                target: target.clone(),
                value: num.clone(),
            });
        }
    }

    fn assign64(&mut self, place: Place, num: &Num) -> Option<()> {
        let start = self.code.len();
        let a = self.low64(num)?;
        let d = place.slot;
        let fits = self.of(num).is_some_and(|i| i.fits_unsigned(place.width));
        if fits || place.width == 64 {
            // Let the last instruction write to the target itself if its value came from there.
            let last = self.code.len().checked_sub(1).filter(|last| *last >= start);
            let temporary = self.taken.iter().any(|(_, slot)| *slot == a);
            if let Some(op) = last.and_then(|last| self.code.get_mut(last))
                && temporary
                && !matches!(num, Num::Choose(..))
                && retarget(op, a, d)
            {
                return Some(());
            }
            self.push(Op::Mov { d, a });
        } else {
            self.push(Op::Mask {
                d,
                a,
                mask: mask(place.width),
            });
        }
        Some(())
    }

    fn assign128(&mut self, place: Place, num: &Num) -> Option<()> {
        let a = self.low128(num)?;
        self.push(Op::Mask2 {
            d: place.slot,
            a,
            n: place.width,
        });
        Some(())
    }

    fn assign_wide(&mut self, place: Place, num: &Num) -> Option<()> {
        match num {
            Num::Load(from) if from.width == place.width && from.signed == place.signed => {
                self.push(Op::Copy {
                    d: place.slot,
                    a: from.slot,
                    n: place.words(),
                });
                Some(())
            }
            Num::Const(value) if self.of(num)?.fits_unsigned(place.width) => {
                let a = self.constant(value, place.words());
                self.push(Op::Copy {
                    d: place.slot,
                    a,
                    n: place.words(),
                });
                Some(())
            }
            _ => None,
        }
    }

    /// A word with the lowest 64 bits.
    fn low64(&mut self, num: &Num) -> Option<Slot> {
        Some(match num {
            Num::Const(value) => self.constant(value, 1),
            Num::Load(place) => {
                if place.signed && place.width < 64 {
                    let d = self.temp(1);
                    self.push(Op::SignExtend {
                        d,
                        a: place.slot,
                        n: place.width,
                    });
                    d
                } else {
                    place.slot
                }
            }
            Num::Binary(op, a, b) => return self.binary64(*op, a, b),
            Num::Complement(a) => {
                let a = self.low64(a)?;
                let d = self.temp(1);
                self.push(Op::Not { d, a });
                d
            }
            Num::Choose(condition, a, b) => {
                let d = self.temp(1);
                self.choose(condition, a, b, |emitter, value| {
                    let a = emitter.low64(value)?;
                    emitter.push(Op::Mov { d, a });
                    Some(())
                })?;
                d
            }
            Num::FromBool(value) => match value.as_ref() {
                Bool::FromNum(num) if self.of(num).is_some_and(|i| i.fits_unsigned(1)) => {
                    return self.low64(num);
                }
                value => self.truth(value),
            },
            Num::TwoComplement(a, bits) if *bits <= 64 => {
                let exact = self.of(a).is_some_and(|i| i.fits_signed(*bits));
                let a = self.low64(a)?;
                if exact {
                    return Some(a);
                }
                let d = self.temp(1);
                self.push(Op::SignExtend { d, a, n: *bits });
                d
            }
            Num::TwoComplement(a, _) => return self.low64(a),
            Num::SaturateUnsigned(a, bits) if *bits <= 64 => {
                let interval = self.of(a)?;
                let max = mask(*bits);
                let a = self.low64(a)?;
                let d = self.temp(1);
                if interval.fits_unsigned(64) {
                    self.push(Op::Min { d, a, max });
                } else if interval.fits_signed(64) {
                    self.push(Op::ClampUnsigned { d, a, max });
                } else {
                    return None;
                }
                d
            }
            Num::SaturateSigned(a, bits) if *bits <= 64 => {
                if !self.of(a)?.fits_signed(64) {
                    return None;
                }
                let a = self.low64(a)?;
                let d = self.temp(1);
                self.push(Op::ClampSigned { d, a, bits: *bits });
                d
            }
            Num::LastIndex(next) => {
                let one = self.constant(&BigInt::from(1), 1);
                let d = self.temp(1);
                self.push(Op::alu(Alu::Sub, d, *next, one));
                d
            }
            Num::StackCount(next) => *next,
            Num::SaturateUnsigned(..)
            | Num::SaturateSigned(..)
            | Num::FieldOf(..)
            | Num::Register(..) => return None,
        })
    }

    fn binary64(&mut self, op: BinOp, a: &Num, b: &Num) -> Option<Slot> {
        let small_shift = match b {
            Num::Const(n) => u32::try_from(n).ok().filter(|n| *n < 64),
            _ => None,
        };
        if let (BinOp::And, Num::Const(c)) = (op, b)
            && let Ok(mask) = u64::try_from(c)
        {
            // p4c widens by masking: such a mask changes nothing.
            let ones = mask.trailing_ones();
            let idle = mask.count_ones() == ones
                && self.of(a).is_some_and(|bounds| bounds.fits_unsigned(ones));
            let a = self.low64(a)?;
            if idle {
                return Some(a);
            }
            let d = self.temp(1);
            self.push(Op::Mask { d, a, mask });
            return Some(d);
        }
        let op = match op {
            BinOp::Add => Alu::Add,
            BinOp::Sub => Alu::Sub,
            BinOp::Mul => Alu::Mul,
            BinOp::And => Alu::And,
            BinOp::Or => Alu::Or,
            BinOp::Xor => Alu::Xor,
            BinOp::Shl => {
                if !self.of(b)?.fits_unsigned(64) {
                    return None;
                }
                Alu::Shl
            }
            BinOp::Shr => {
                if !self.of(b)?.fits_unsigned(64) {
                    return None;
                }
                let of_a = self.of(a)?;
                if of_a.fits_unsigned(64) {
                    Alu::Shr
                } else if of_a.fits_signed(64) {
                    Alu::Sar
                } else {
                    return None;
                }
            }
            BinOp::Div | BinOp::Rem => {
                if !self.of(a)?.fits_unsigned(64) || !self.of(b)?.fits_unsigned(64) {
                    return None;
                }
                if op == BinOp::Div { Alu::Div } else { Alu::Rem }
            }
        };
        let a = self.low64(a)?;
        if let (Some(n), Alu::Shl | Alu::Shr | Alu::Sar) = (small_shift, op) {
            let d = self.temp(1);
            self.push(Op::AluImm { op, d, a, n });
            return Some(d);
        }
        let b = self.low64(b)?;
        let d = self.temp(1);
        self.push(Op::alu(op, d, a, b));
        Some(d)
    }

    /// A pair with the lowest 128 bits.
    fn low128(&mut self, num: &Num) -> Option<Slot> {
        if let Some(interval) = self.of(num)
            && !matches!(num, Num::Const(_))
        {
            let signed = !interval.fits_unsigned(64);
            if !signed || interval.fits_signed(64) {
                let start = self.code.len();
                if let Some(a) = self.low64(num) {
                    let d = self.temp(2);
                    self.push(if signed {
                        Op::WidenSigned2 { d, a }
                    } else {
                        Op::Widen2 { d, a }
                    });
                    return Some(d);
                }
                self.code.truncate(start);
            }
        }
        Some(match num {
            Num::Const(value) => self.constant(value, 2),
            Num::Load(place) if place.width > 64 => {
                if place.signed && place.width < 128 {
                    let d = self.temp(2);
                    self.push(Op::SignExtend2 {
                        d,
                        a: place.slot,
                        n: place.width,
                    });
                    d
                } else {
                    place.slot
                }
            }
            Num::Binary(op, a, b) => return self.binary128(*op, a, b),
            Num::Complement(a) => {
                let a = self.low128(a)?;
                let d = self.temp(2);
                self.push(Op::Not2 { d, a });
                d
            }
            Num::Choose(condition, a, b) => {
                let d = self.temp(2);
                self.choose(condition, a, b, |emitter, value| {
                    let a = emitter.low128(value)?;
                    emitter.push(Op::Copy { d, a, n: 2 });
                    Some(())
                })?;
                d
            }
            Num::TwoComplement(a, bits) if *bits <= 128 => {
                let a = self.low128(a)?;
                let d = self.temp(2);
                self.push(Op::SignExtend2 { d, a, n: *bits });
                d
            }
            _ => return None,
        })
    }

    fn binary128(&mut self, op: BinOp, a: &Num, b: &Num) -> Option<Slot> {
        let op = match op {
            BinOp::Add => Alu::Add,
            BinOp::Sub => Alu::Sub,
            BinOp::Mul => Alu::Mul,
            BinOp::And => Alu::And,
            BinOp::Or => Alu::Or,
            BinOp::Xor => Alu::Xor,
            BinOp::Shl | BinOp::Shr => {
                if !self.of(b)?.fits_unsigned(64) {
                    return None;
                }
                let of_a = self.of(a)?;
                let op = match op {
                    BinOp::Shl => Alu::Shl,
                    _ if of_a.fits_unsigned(128) => Alu::Shr,
                    _ if of_a.fits_signed(128) => Alu::Sar,
                    _ => return None,
                };
                let a = self.low128(a)?;
                let b = self.low64(b)?;
                let d = self.temp(2);
                self.push(Op::Shift2 { op, d, a, b });
                return Some(d);
            }
            BinOp::Div | BinOp::Rem => {
                if !self.of(a)?.fits_unsigned(128) || !self.of(b)?.fits_unsigned(128) {
                    return None;
                }
                if op == BinOp::Div { Alu::Div } else { Alu::Rem }
            }
        };
        let a = self.low128(a)?;
        let b = self.low128(b)?;
        let d = self.temp(2);
        self.push(Op::Alu2 { op, d, a, b });
        Some(d)
    }

    fn choose<T>(
        &mut self,
        condition: &Bool,
        a: &T,
        b: &T,
        mut branch: impl FnMut(&mut Self, &T) -> Option<()>,
    ) -> Option<()> {
        let condition = self.truth(condition);
        let to_else = self.code.len();
        self.push(Op::End);
        branch(self, a)?;
        let to_end = self.code.len();
        self.push(Op::End);
        let otherwise = self.here();
        branch(self, b)?;
        let end = self.here();
        if let Some(op) = self.code.get_mut(to_else) {
            *op = Op::JumpIfZero {
                a: condition,
                to: otherwise,
            };
        }
        if let Some(op) = self.code.get_mut(to_end) {
            *op = Op::Jump { to: end };
        }
        Some(())
    }

    /// A word with 1 or 0.
    pub(crate) fn decide(&mut self, value: &Bool) -> Slot {
        self.bounds.clear();
        self.truth(value)
    }

    fn truth(&mut self, value: &Bool) -> Slot {
        let start = self.code.len();
        if let Some(slot) = self.decide_fast(value) {
            return slot;
        }
        self.code.truncate(start);
        let slot = self.temp(1);
        self.effect(Effect::Decide {
            slot,
            value: value.clone(),
        });
        slot
    }

    fn decide_fast(&mut self, value: &Bool) -> Option<Slot> {
        Some(match value {
            Bool::Const(value) => self.constant(&BigInt::from(u8::from(*value)), 1),
            Bool::Compare(cmp, a, b) => return self.compare(*cmp, a, b),
            Bool::Same(equal, a, b) => {
                let (a, b) = (self.truth(a), self.truth(b));
                let d = self.temp(1);
                self.push(Op::test(if *equal { Test::Eq } else { Test::Ne }, d, a, b));
                d
            }
            Bool::And(a, b) => self.logic(Alu::And, a, b),
            Bool::Or(a, b) => self.logic(Alu::Or, a, b),
            Bool::Not(a) => {
                let a = self.truth(a);
                let d = self.temp(1);
                self.push(Op::IsZero { d, a });
                d
            }
            Bool::Valid(HeaderRef::Fixed(header)) => *self.valid.get(*header as usize)?,
            Bool::ValidUnion(union) => {
                let d = self.temp(1);
                let zero = self.constant(&BigInt::ZERO, 1);
                self.push(Op::Mov { d, a: zero });
                for valid in self.union_members.get(*union as usize)?.clone() {
                    self.push(Op::alu(Alu::Or, d, d, valid));
                }
                d
            }
            Bool::FromNum(num) => {
                if let Num::FromBool(value) = num.as_ref() {
                    return Some(self.truth(value));
                }
                let bound = self.of(num)?;
                if let (Num::Load(place), true) = (num.as_ref(), bound.fits_unsigned(1)) {
                    return Some(place.slot);
                }
                if !bound.fits_unsigned(64) && !bound.fits_signed(64) {
                    return None;
                }
                let a = self.low64(num)?;
                let zero = self.constant(&BigInt::ZERO, 1);
                let d = self.temp(1);
                self.push(Op::test(Test::Ne, d, a, zero));
                d
            }
            Bool::Choose(condition, a, b) => {
                let d = self.temp(1);
                self.choose(condition, a, b, |emitter, value| {
                    let a = emitter.truth(value);
                    emitter.push(Op::Mov { d, a });
                    Some(())
                })?;
                d
            }
            Bool::Valid(_) | Bool::HeadersEqual(..) | Bool::UnionsEqual(..) => return None,
        })
    }

    fn logic(&mut self, op: Alu, a: &Bool, b: &Bool) -> Slot {
        let (a, b) = (self.truth(a), self.truth(b));
        let d = self.temp(1);
        self.push(Op::alu(op, d, a, b));
        d
    }

    fn compare(&mut self, cmp: Cmp, a: &Num, b: &Num) -> Option<Slot> {
        let (of_a, of_b) = (self.of(a)?, self.of(b)?);
        // Greater is less with the sides changed.
        let (cmp, a, b) = match cmp {
            Cmp::Gt => (Cmp::Lt, b, a),
            Cmp::Ge => (Cmp::Le, b, a),
            other => (other, a, b),
        };
        let both = |fits: &dyn Fn(&Interval) -> bool| fits(&of_a) && fits(&of_b);
        let test = |signed: bool| match (cmp, signed) {
            (Cmp::Eq, _) => Test::Eq,
            (Cmp::Ne, _) => Test::Ne,
            (Cmp::Lt | Cmp::Gt, false) => Test::LtUnsigned,
            (Cmp::Le | Cmp::Ge, false) => Test::LeUnsigned,
            (Cmp::Lt | Cmp::Gt, true) => Test::LtSigned,
            (Cmp::Le | Cmp::Ge, true) => Test::LeSigned,
        };
        let d;
        if both(&|i| i.fits_unsigned(64)) || both(&|i| i.fits_signed(64)) {
            let signed = of_a.low.is_negative() || of_b.low.is_negative();
            let (a, b) = (self.low64(a)?, self.low64(b)?);
            d = self.temp(1);
            self.push(Op::test(test(signed), d, a, b));
        } else if both(&|i| i.fits_unsigned(128)) || both(&|i| i.fits_signed(128)) {
            let signed = of_a.low.is_negative() || of_b.low.is_negative();
            let (a, b) = (self.low128(a)?, self.low128(b)?);
            d = self.temp(1);
            self.push(Op::Test2 {
                op: test(signed),
                d,
                a,
                b,
            });
        } else {
            return None;
        }
        Some(d)
    }
}

/// Makes an instruction that writes `from` write `to` instead; false if it is not such a one.
fn retarget(op: &mut Op, from: Slot, to: Slot) -> bool {
    let d = match op {
        Op::Mask { d, .. }
        | Op::Add { d, .. }
        | Op::Sub { d, .. }
        | Op::And { d, .. }
        | Op::Or { d, .. }
        | Op::Xor { d, .. }
        | Op::Equal { d, .. }
        | Op::Unequal { d, .. }
        | Op::Alu { d, .. }
        | Op::AluImm { d, .. }
        | Op::Test { d, .. }
        | Op::Not { d, .. }
        | Op::IsZero { d, .. }
        | Op::SignExtend { d, .. }
        | Op::Min { d, .. }
        | Op::ClampSigned { d, .. }
        | Op::ClampUnsigned { d, .. } => d,
        _ => return false,
    };
    if *d != from {
        return false;
    }
    *d = to;
    true
}

/// The lowest `words` words of a number as two's complement.
pub(crate) fn low_words(value: &BigInt, words: u32) -> Vec<u64> {
    let modulus = BigInt::from(1) << (64 * words);
    let mut low = value % &modulus;
    if low.is_negative() {
        low += modulus;
    }
    let mut result = low.to_biguint().unwrap_or_default().to_u64_digits();
    result.resize(words as usize, 0);
    result
}
