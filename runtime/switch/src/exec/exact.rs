//! The exact evaluator: bmv2's unbounded arithmetic, for what machine words cannot do.

use super::state::State;
use crate::code::expr::{BinOp, Bool, Cmp, HeaderRef, Num};
use crate::code::layout::{HeaderId, Layout, Place, Slot};
use num_bigint::{BigInt, BigUint, Sign};
use num_traits::{One, Signed, ToPrimitive, Zero};

/// Bits beyond which a shift gives up: nothing a program can store is wider.
const MAX_SHIFT: u64 = 1 << 18;

/// What an expression may read.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) words: &'a [u64],
    pub(crate) state: &'a State,
}

/// The value that `place` holds.
pub(crate) fn load(words: &[u64], place: Place) -> BigInt {
    let first = place.slot as usize;
    let digits = words
        .get(first..first + place.words() as usize)
        .unwrap_or_default();
    let value = BigInt::from_biguint(Sign::Plus, from_digits(digits));
    if place.signed && place.width > 0 && value.bit(u64::from(place.width) - 1) {
        value - (BigInt::one() << place.width)
    } else {
        value
    }
}

fn from_digits(digits: &[u64]) -> BigUint {
    BigUint::new(
        digits
            .iter()
            .flat_map(|d| [*d as u32, (*d >> 32) as u32])
            .collect(),
    )
}

/// Cuts `value` to the place's width and stores it.
pub(crate) fn store(words: &mut [u64], place: Place, value: &BigInt) {
    let count = place.words();
    let digits = crate::code::emit::low_words(value, count);
    let first = place.slot as usize;
    if let Some(target) = words.get_mut(first..first + count as usize) {
        target.copy_from_slice(&digits);
        if let Some(top) = target.last_mut() {
            *top &= place.top_mask();
        }
    }
}

impl Reader<'_> {
    pub(crate) fn num(&self, num: &Num) -> BigInt {
        match num {
            Num::Const(value) => value.clone(),
            Num::Load(place) => load(self.words, *place),
            Num::Binary(op, a, b) => binary(*op, self.num(a), self.num(b)),
            Num::Complement(a) => -self.num(a) - 1,
            Num::Choose(condition, a, b) => {
                if self.bool(condition) {
                    self.num(a)
                } else {
                    self.num(b)
                }
            }
            Num::FromBool(value) => BigInt::from(u8::from(self.bool(value))),
            Num::TwoComplement(a, bits) => {
                let value = self.num(a);
                let modulus = BigInt::one() << *bits;
                let low = ((value % &modulus) + &modulus) % &modulus;
                if low.bit(u64::from(*bits) - 1) {
                    low - modulus
                } else {
                    low
                }
            }
            Num::SaturateUnsigned(a, bits) => self
                .num(a)
                .clamp(BigInt::zero(), (BigInt::one() << *bits) - 1),
            Num::SaturateSigned(a, bits) => {
                let half = BigInt::one() << (*bits - 1);
                self.num(a).clamp(-&half, half - 1)
            }
            Num::FieldOf(header, field) => {
                let place = self.header(header).and_then(|header| {
                    self.layout.headers.get(header as usize)?.fields.get(*field)
                });
                place.map_or_else(BigInt::zero, |field| load(self.words, field.place))
            }
            Num::Register(register, index) => {
                let index = self.num(index).to_usize();
                let cell = index.and_then(|index| self.state.register(*register as usize, index));
                cell.map_or_else(BigInt::zero, |cell| {
                    BigInt::from_biguint(Sign::Plus, from_digits(cell))
                })
            }
            Num::LastIndex(next) => BigInt::from(self.word(*next)) - 1,
            Num::StackCount(next) => BigInt::from(self.word(*next)),
        }
    }

    fn word(&self, slot: Slot) -> u64 {
        self.words.get(slot as usize).copied().unwrap_or(0)
    }

    pub(crate) fn bool(&self, value: &Bool) -> bool {
        match value {
            Bool::Const(value) => *value,
            Bool::Compare(cmp, a, b) => {
                let (a, b) = (self.num(a), self.num(b));
                match cmp {
                    Cmp::Eq => a == b,
                    Cmp::Ne => a != b,
                    Cmp::Lt => a < b,
                    Cmp::Le => a <= b,
                    Cmp::Gt => a > b,
                    Cmp::Ge => a >= b,
                }
            }
            Bool::Same(equal, a, b) => (self.bool(a) == self.bool(b)) == *equal,
            Bool::HeadersEqual(equal, a, b) => {
                let same = match (self.header(a), self.header(b)) {
                    (Some(a), Some(b)) => self.headers_equal(a, b),
                    _ => false,
                };
                same == *equal
            }
            Bool::UnionsEqual(equal, a, b) => self.unions_equal(*a, *b) == *equal,
            Bool::And(a, b) => self.bool(a) && self.bool(b),
            Bool::Or(a, b) => self.bool(a) || self.bool(b),
            Bool::Not(a) => !self.bool(a),
            Bool::Valid(header) => self.header(header).is_some_and(|header| self.valid(header)),
            Bool::ValidUnion(union) => {
                let members = self.layout.unions.get(*union as usize);
                members.is_some_and(|members| members.iter().any(|header| self.valid(*header)))
            }
            Bool::FromNum(num) => !self.num(num).is_zero(),
            Bool::Choose(condition, a, b) => {
                if self.bool(condition) {
                    self.bool(a)
                } else {
                    self.bool(b)
                }
            }
        }
    }

    fn valid(&self, header: HeaderId) -> bool {
        self.word(self.layout.header(header).valid) != 0
    }

    /// The header that is meant; none if the index is outside of the stack.
    pub(crate) fn header(&self, header: &HeaderRef) -> Option<HeaderId> {
        let element = |stack: &crate::code::layout::Stack, index: Option<usize>, member: usize| {
            stack.elements.get(index?)?.get(member).copied()
        };
        let last = |next: Slot| (self.word(next) as usize).checked_sub(1);
        match header {
            HeaderRef::Fixed(header) => Some(*header),
            HeaderRef::Element(stack, index) => element(
                self.layout.stacks.get(*stack as usize)?,
                self.num(index).to_usize(),
                0,
            ),
            HeaderRef::Last(stack) => {
                let stack = self.layout.stacks.get(*stack as usize)?;
                element(stack, last(stack.next), 0)
            }
            HeaderRef::UnionElement(stack, index, member) => {
                let stack = self.layout.union_stacks.get(*stack as usize)?;
                element(stack, self.num(index).to_usize(), *member)
            }
            HeaderRef::UnionLast(stack, member) => {
                let stack = self.layout.union_stacks.get(*stack as usize)?;
                element(stack, last(stack.next), *member)
            }
        }
    }

    fn headers_equal(&self, a: HeaderId, b: HeaderId) -> bool {
        let (a, b) = (self.layout.header(a), self.layout.header(b));
        let words = |h: &crate::code::layout::Header| {
            self.words
                .get(h.base as usize..h.base as usize + h.words as usize)
        };
        // The words include the validity, so equal and valid is all that is needed.
        a.type_name == b.type_name && self.word(a.valid) != 0 && words(a) == words(b)
    }

    fn unions_equal(&self, a: u32, b: u32) -> bool {
        let unions = &self.layout.unions;
        let (Some(a), Some(b)) = (unions.get(a as usize), unions.get(b as usize)) else {
            return false;
        };
        let valid = |members: &[HeaderId]| members.iter().position(|h| self.valid(*h));
        match (valid(a), valid(b)) {
            (Some(i), Some(j)) if i == j => match (a.get(i), b.get(j)) {
                (Some(a), Some(b)) => self.headers_equal(*a, *b),
                _ => false,
            },
            _ => false,
        }
    }
}

pub(crate) fn binary(op: BinOp, a: BigInt, b: BigInt) -> BigInt {
    match op {
        BinOp::Add => a + b,
        BinOp::Sub => a - b,
        BinOp::Mul => a * b,
        BinOp::Div if b.is_zero() => BigInt::zero(),
        BinOp::Div => a / b,
        BinOp::Rem if b.is_zero() => BigInt::zero(),
        BinOp::Rem => a % b,
        BinOp::Shl => match b.to_u64() {
            Some(n) if n <= MAX_SHIFT => a << n,
            _ => BigInt::zero(),
        },
        // num-bigint shifts towards negative infinity, as bmv2 does.
        BinOp::Shr => match b.to_u64() {
            Some(n) if n <= MAX_SHIFT => a >> n,
            _ if a.is_negative() => -BigInt::one(),
            _ => BigInt::zero(),
        },
        BinOp::And => a & b,
        BinOp::Or => a | b,
        BinOp::Xor => a ^ b,
    }
}
