//! Random expressions: what the emitter makes of them must equal the exact value, cut on store.

use crate::code::emit::Emitter;
use crate::code::expr::{BinOp, Bool, Cmp, Num, Target};
use crate::code::layout::{Layout, Place, Slot, WORDS, Words};
use crate::code::op::Op;
use crate::code::program::Effect;
use crate::exec::alu::{self, Stop};
use crate::exec::exact::{Reader, load, store};
use crate::exec::state::State;
use num_bigint::BigInt;
use proptest::prelude::*;

const WIDTHS: [u32; 14] = [1, 3, 8, 16, 31, 32, 33, 63, 64, 65, 100, 128, 129, 200];

/// The places of fields, one a width and sign; 8 words each.
fn place(index: usize, signed: bool) -> Place {
    let signed = signed && WIDTHS[index] > 1;
    let slot = (index * 2 + usize::from(signed)) as Slot * 8;
    Place {
        slot,
        width: WIDTHS[index],
        signed,
    }
}

fn num() -> impl Strategy<Value = Num> {
    let leaf = prop_oneof![
        (0..WIDTHS.len(), any::<bool>()).prop_map(|(i, signed)| Num::Load(place(i, signed))),
        (0..WIDTHS.len(), Just(false)).prop_map(|(i, signed)| Num::Load(place(i, signed))),
        any::<u8>().prop_map(|n| Num::Const(BigInt::from(n))),
        any::<u64>().prop_map(|n| Num::Const(BigInt::from(n))),
        any::<i128>().prop_map(|n| Num::Const(BigInt::from(n))),
    ];
    leaf.prop_recursive(5, 24, 3, |inner| {
        let ops = [BinOp::Add, BinOp::Sub, BinOp::Mul, BinOp::Div, BinOp::Rem, BinOp::And,
            BinOp::Or, BinOp::Xor];
        let width = prop::sample::select(WIDTHS.to_vec());
        let cmp = prop::sample::select(vec![Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge]);
        prop_oneof![
            4 => (prop::sample::select(ops.to_vec()), inner.clone(), inner.clone())
                .prop_map(|(op, a, b)| Num::Binary(op, Box::new(a), Box::new(b))),
            2 => (inner.clone(), width.clone()).prop_map(|(a, w)| {
                let mask = (BigInt::from(1) << w) - 1;
                Num::Binary(BinOp::And, Box::new(a), Box::new(Num::Const(mask)))
            }),
            1 => (prop::sample::select(vec![BinOp::Shl, BinOp::Shr]), inner.clone(), 0u32..140)
                .prop_map(|(op, a, n)| {
                    Num::Binary(op, Box::new(a), Box::new(Num::Const(BigInt::from(n))))
                }),
            1 => (prop::sample::select(vec![BinOp::Shl, BinOp::Shr]), inner.clone(), 0usize..4)
                .prop_map(|(op, a, i)| {
                    Num::Binary(op, Box::new(a), Box::new(Num::Load(place(i, false))))
                }),
            1 => inner.clone().prop_map(|a| Num::Complement(Box::new(a))),
            1 => (inner.clone(), width.clone()).prop_map(|(a, w)| Num::TwoComplement(Box::new(a), w)),
            1 => (inner.clone(), width.clone())
                .prop_map(|(a, w)| Num::SaturateUnsigned(Box::new(a), w)),
            1 => (inner.clone(), width).prop_map(|(a, w)| Num::SaturateSigned(Box::new(a), w)),
            1 => (cmp, inner.clone(), inner.clone(), inner.clone(), inner).prop_map(
                |(cmp, a, b, c, d)| {
                    let condition = Bool::Compare(cmp, Box::new(a), Box::new(b));
                    Num::Choose(Box::new(condition), Box::new(c), Box::new(d))
                }
            ),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn machine_arithmetic_equals_unbounded_arithmetic_cut_on_store(
        value in num(),
        target in (0..WIDTHS.len(), any::<bool>()),
        fields in prop::collection::vec(prop_oneof![Just(0u64), Just(u64::MAX), any::<u64>(), 0u64..9], WIDTHS.len() * 8),
    ) {
        let base = WIDTHS.len() as Slot * 2 * 8;
        let mut words = vec![0; base as usize + 8];
        for index in 0..WIDTHS.len() {
            for signed in [false, true] {
                let place = place(index, signed);
                let digits = &fields[index * 4..index * 4 + 4];
                let number = digits.iter().fold(BigInt::ZERO, |n, d| (n << 64) + d);
                store(&mut words, place, &number);
            }
        }
        let layout = Layout::default();
        let state = State::default();
        let target = Place { slot: base, width: WIDTHS[target.0], signed: target.1 && WIDTHS[target.0] > 1 };

        let mut expected = words.clone();
        let exact = Reader { layout: &layout, words: &words, state: &state }.num(&value);
        store(&mut expected, target, &exact);

        let mut emitter = Emitter::new(&layout, words);
        emitter.assign(&Target::Place(target), &value);
        emitter.push(Op::End);
        let mut all = vec![0; WORDS];
        all[..emitter.words.len()].copy_from_slice(&emitter.words);
        let mut words: Box<Words> = all.into_boxed_slice().try_into().unwrap();
        let mut pc = 0;
        loop {
            match alu::run::<false>(&emitter.code, pc, &mut words) {
                Stop::End => break,
                Stop::Next { next } => pc = next,
                Stop::Endless => panic!("no loops here"),
                Stop::Effect { index, next } => {
                    let reader = Reader { layout: &layout, words: &words[..], state: &state };
                    match &emitter.effects[index as usize] {
                        Effect::Assign { target: Target::Place(place), value } => {
                            let value = reader.num(value);
                            store(&mut words[..], *place, &value);
                        }
                        Effect::Decide { slot, value } => {
                            let value = reader.bool(value);
                            words[*slot as usize] = u64::from(value);
                        }
                        other => panic!("unexpected {other:?}"),
                    }
                    pc = next;
                }
            }
        }
        prop_assert_eq!(load(&words[..], target), load(&expected, target));
        // Nothing but the target has changed.
        prop_assert_eq!(&words[..base as usize], &expected[..base as usize]);
    }
}
