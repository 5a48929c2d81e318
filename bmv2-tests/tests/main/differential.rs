//! The evaluator and the embedded switch on the examples, and on random policies.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bmv2_tests::differential::{Draw, Interleaving, Pair, cascade, policy};
use bmv2_tests::image::{Compiler, Image, example_names};
use bmv2_tests::world::left_out;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use signalbox_lower::plan::ServicePlan;

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

/// Random policies that show something of everything, in some seconds of a debug build.
const FEW: u32 = 24;

/// Random policies to try; many more with `SOAK=1`, and as many as `SIGNALBOX_CASES` says.
fn cases() -> u32 {
    let wanted = std::env::var("SIGNALBOX_CASES").ok();
    match wanted.and_then(|number| number.parse().ok()) {
        Some(number) => number,
        None if crate::soaks() => 2_000,
        None => FEW,
    }
}

/// One random cascade under random packets and verdicts, and how often each thing became of a packet.
fn interleave(seed: u64) -> Result<BTreeMap<&'static str, usize>, String> {
    let mut draw = Draw::new(seed);
    let text = cascade(&mut draw);
    let image = Image::of("random.policy", &text, Compiler::Ours);
    interleave_on(&image, &mut draw, 400).map_err(|why| format!("seed {seed}: {why}\n{text}"))
}

/// The same of one policy.
fn interleave_on(
    image: &Image,
    draw: &mut Draw,
    steps: usize,
) -> Result<BTreeMap<&'static str, usize>, String> {
    let mut both = Interleaving::new(image, draw);
    let mut met = BTreeMap::new();
    for _ in 0..steps {
        *met.entry(both.step(draw)?).or_default() += 1;
    }
    Ok(met)
}

// A4.1, A4.2, A4.4, A4.5, A4.8, A10.1
#[test]
fn evaluator_and_switch_agree_on_random_cascades_and_interleavings_of_verdicts() {
    let met = RefCell::new(BTreeMap::<&str, usize>::new());
    let config = ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        // A seed says nothing by being small.
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new(config);
    let run = runner.run(&any::<u64>(), |seed| {
        let one = interleave(seed).map_err(TestCaseError::fail)?;
        for (word, times) in one {
            *met.borrow_mut().entry(word).or_default() += times;
        }
        Ok(())
    });
    if let Err(failed) = run {
        panic!("{failed}");
    }
    if cases() < FEW {
        return;
    }
    // Traffic that shows nothing would agree on everything.
    let met = met.into_inner();
    let words = [
        "adjusted",
        "asked about",
        "dropped",
        "dropped by the verdict",
        "forwarded",
        "late",
        "to the agent",
        "tunnelled",
    ];
    let seldom = words
        .into_iter()
        .filter(|word| met.get(word).is_none_or(|times| *times < 10));
    assert_eq!(seldom.collect::<Vec<_>>(), Vec::<&str>::new(), "{met:?}");
}

// A4.2, A4.4, A4.5, A4.8, A10.1
#[test]
fn evaluator_and_switch_agree_on_the_examples_whatever_managers_answer() {
    for name in example_names() {
        let image = Image::example(&name, Compiler::Ours);
        let services = &image.plan.services;
        let mut met = BTreeMap::<&str, usize>::new();
        for seed in 0..u64::from(cases() / 8).max(1) {
            match interleave_on(&image, &mut Draw::new(seed), 700) {
                Ok(one) => {
                    for (word, times) in one {
                        *met.entry(word).or_default() += times;
                    }
                }
                Err(difference) => panic!("{name}, seed {seed}: {difference}"),
            }
        }
        if cases() < FEW {
            continue;
        }
        // Traffic that shows nothing would agree on everything.
        let mut words = vec!["dropped", "to the agent"];
        let balances = |one: &ServicePlan| one.balance.is_some();
        if !services
            .iter()
            .all(|one| balances(one) && one.reply.is_none())
        {
            words.push("forwarded");
        }
        if services
            .iter()
            .any(|one| balances(one) && one.reply.is_none())
        {
            words.push("tunnelled");
        }
        if services.iter().any(|one| !one.shares.is_empty()) {
            words.extend(["asked about", "dropped by the verdict", "late"]);
        }
        let seldom = words
            .into_iter()
            .filter(|word| met.get(word).is_none_or(|times| *times < 10));
        assert_eq!(
            seldom.collect::<Vec<_>>(),
            Vec::<&str>::new(),
            "{name}: {met:?}"
        );
    }
}

// A10.1
#[test]
fn evaluator_and_switch_agree_on_the_examples() {
    for name in example_names() {
        let image = Image::example(&name, Compiler::Ours);
        // The other kinds need verdicts, as in the test above.
        if left_out(&image).is_some() {
            continue;
        }
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
