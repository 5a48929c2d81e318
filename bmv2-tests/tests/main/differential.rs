//! The evaluator and the embedded switch on the examples, and on random policies.

use std::collections::BTreeMap;

use bmv2_tests::differential::{Draw, Pair, policy};
use bmv2_tests::image::{Compiler, Image, example_names};
use proptest::prelude::*;

/// Compares random packets and counts them by what became of them; the error says where they differ.
fn compare(
    image: &Image,
    draw: &mut Draw,
    packets: usize,
) -> Result<BTreeMap<&'static str, usize>, String> {
    let pair = Pair::new(image, draw);
    let mut met = BTreeMap::new();
    for _ in 0..packets {
        let (port, frame) = pair.frame(draw);
        *met.entry(pair.compare(port, &frame)?).or_default() += 1;
    }
    Ok(met)
}

/// Random policies to try; many more with `SOAK=1`.
fn cases() -> u32 {
    if crate::soaks() { 2_000 } else { 48 }
}

// A10.1
#[test]
fn evaluator_and_switch_agree_on_the_examples() {
    for name in example_names() {
        let image = Image::example(&name, Compiler::Ours);
        for seed in 0..4 {
            match compare(&image, &mut Draw::new(seed), 1_000) {
                Ok(met) => {
                    // Traffic that shows nothing would agree on everything.
                    let enough = met.len() == 3 && met.values().all(|count| *count > 20);
                    assert!(enough, "{name}, seed {seed}: {met:?}");
                }
                Err(difference) => panic!("{name}, seed {seed}: {difference}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    // A4.1, A10.1
    #[test]
    fn evaluator_and_switch_agree_on_random_policies_and_packets(seed in any::<u64>()) {
        let mut draw = Draw::new(seed);
        let text = policy(&mut draw);
        // Rules that nothing can match, or that contradict each other, are not the switch's matter.
        let valid = signalbox_policy::check(&text, "random.policy").policy.is_some();
        prop_assume!(valid);
        let image = Image::of("random.policy", &text, Compiler::Ours);
        if let Err(difference) = compare(&image, &mut draw, 300) {
            prop_assert!(false, "{difference}\n{text}");
        }
    }
}
