//! Between which bounds an expression's exact value lies, whatever the packet: the proof behind
//! machine arithmetic.

use super::expr::{BinOp, Num};
use super::layout::Place;
use num_bigint::BigInt;
use num_traits::{One, Signed, ToPrimitive, Zero};
use rustc_hash::FxHashMap;

/// Bounds, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) low: BigInt,
    pub(crate) high: BigInt,
}

fn power(bits: u32) -> BigInt {
    BigInt::one() << bits
}

impl Interval {
    fn new(low: BigInt, high: BigInt) -> Self {
        Interval { low, high }
    }

    fn unsigned(bits: u32) -> Self {
        Interval::new(BigInt::zero(), power(bits) - 1)
    }

    fn signed(bits: u32) -> Self {
        let half = power(bits.saturating_sub(1));
        Interval::new(-&half, half - 1)
    }

    fn hull(points: impl IntoIterator<Item = BigInt>) -> Option<Self> {
        let mut points = points.into_iter();
        let first = points.next()?;
        let start = Interval::new(first.clone(), first);
        Some(points.fold(start, |hull, p| {
            Interval::new(hull.low.min(p.clone()), hull.high.max(p))
        }))
    }

    /// Whether every value fits into `bits` unsigned bits.
    pub(crate) fn fits_unsigned(&self, bits: u32) -> bool {
        !self.low.is_negative() && self.high < power(bits)
    }

    /// Whether every value fits into `bits` bits as two's complement.
    pub(crate) fn fits_signed(&self, bits: u32) -> bool {
        let half = power(bits.saturating_sub(1));
        self.low >= -&half && self.high < half
    }
}

/// The bounds of what `place` holds.
pub(crate) fn of_place(place: Place) -> Interval {
    if place.signed {
        Interval::signed(place.width)
    } else {
        Interval::unsigned(place.width)
    }
}

/// The bounds of `num`; `None` when they are unknown or astronomical (a shift by a variable of
/// many bits), which leaves the expression to the exact evaluator.
///
/// `known` remembers the bounds of subexpressions by address: it must not outlive the expression.
pub(crate) fn of(num: &Num, known: &mut Known) -> Option<Interval> {
    let address = std::ptr::from_ref(num) as usize;
    if let Some(found) = known.get(&address) {
        return found.clone();
    }
    let found = compute(num, known);
    known.insert(address, found.clone());
    found
}

/// Bounds of the subexpressions of one expression.
pub(crate) type Known = FxHashMap<usize, Option<Interval>>;

fn compute(num: &Num, known: &mut Known) -> Option<Interval> {
    Some(match num {
        Num::Const(value) => Interval::new(value.clone(), value.clone()),
        Num::Load(place) => of_place(*place),
        Num::FromBool(_) => Interval::unsigned(1),
        Num::LastIndex(_) => Interval::new(-BigInt::one(), power(32)),
        Num::StackCount(_) => Interval::unsigned(32),
        Num::Complement(a) => {
            let a = of(a, known)?;
            Interval::new(-a.high - 1, -a.low - 1)
        }
        Num::Choose(_, a, b) => {
            let (a, b) = (of(a, known)?, of(b, known)?);
            Interval::new(a.low.min(b.low), a.high.max(b.high))
        }
        Num::TwoComplement(_, bits) | Num::SaturateSigned(_, bits) => Interval::signed(*bits),
        Num::SaturateUnsigned(_, bits) => Interval::unsigned(*bits),
        Num::FieldOf(..) | Num::Register(..) => return None,
        Num::Binary(op, a, b) => binary(*op, of(a, known), of(b, known))?,
    })
}

fn binary(op: BinOp, a: Option<Interval>, b: Option<Interval>) -> Option<Interval> {
    if op == BinOp::And {
        // What is not negative bounds the result, even if nothing is known of the other side.
        let bounds = [&a, &b]
            .into_iter()
            .flatten()
            .filter(|i| !i.low.is_negative());
        if let Some(high) = bounds.map(|i| i.high.clone()).min() {
            return Some(Interval::new(BigInt::zero(), high));
        }
    }
    let (a, b) = (a?, b?);
    Some(match op {
        BinOp::Add => Interval::new(a.low + b.low, a.high + b.high),
        BinOp::Sub => Interval::new(a.low - b.high, a.high - b.low),
        BinOp::Mul => Interval::hull([
            &a.low * &b.low,
            &a.low * &b.high,
            &a.high * &b.low,
            &a.high * &b.high,
        ])?,
        BinOp::Div => {
            let most = a.low.abs().max(a.high.abs());
            let low = if a.low.is_negative() || b.low.is_negative() {
                -&most
            } else {
                BigInt::zero()
            };
            Interval::new(low, most)
        }
        BinOp::Rem => {
            let most = a
                .low
                .abs()
                .max(a.high.abs())
                .min(b.low.abs().max(b.high.abs()));
            let low = if a.low.is_negative() {
                -&most
            } else {
                BigInt::zero()
            };
            Interval::new(low, most)
        }
        BinOp::Shl => {
            let most = b.high.to_u32().filter(|n| *n <= 4096)?;
            let least = b.low.to_u32()?;
            Interval::hull([
                &a.low << least,
                &a.low << most,
                &a.high << least,
                &a.high << most,
            ])?
        }
        BinOp::Shr => {
            if b.low.is_negative() {
                return None;
            }
            let shift = |value: &BigInt, by: &BigInt| match by.to_u32() {
                Some(n) if n <= 1 << 16 => value >> n,
                _ if value.is_negative() => -BigInt::one(),
                _ => BigInt::zero(),
            };
            Interval::hull([
                shift(&a.low, &b.low),
                shift(&a.low, &b.high),
                shift(&a.high, &b.low),
                shift(&a.high, &b.high),
            ])?
        }
        BinOp::And | BinOp::Or | BinOp::Xor => {
            // The bits of two's complement that either side needs bound the result.
            let bits = [&a.low, &a.high, &b.low, &b.high]
                .into_iter()
                .map(|v| {
                    if v.is_negative() {
                        (-v - 1u32).bits()
                    } else {
                        v.bits()
                    }
                })
                .max()?;
            let bits = u32::try_from(bits).ok()?;
            if a.low.is_negative() || b.low.is_negative() {
                Interval::signed(bits + 1)
            } else {
                Interval::unsigned(bits)
            }
        }
    })
}
