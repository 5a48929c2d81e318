//! Every scenario, for every example policy, on every target, with the images of both compilers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "test code: a failure is to stop the test with its place"
)]

mod naming;

use std::collections::BTreeMap;

use bmv2_tests::differential::{Draw, Pair, policy};
use bmv2_tests::image::{Compiler, Image, example_names};
use bmv2_tests::needs::has;
use bmv2_tests::scenarios::all;
use bmv2_tests::targets::Target;
use bmv2_tests::world::balance;
use proptest::prelude::*;

/// Runs every scenario on one target. Those whose needs the target does not meet are printed by name
/// and counted; a scenario that fails does not keep the others from running.
fn run_all(test: &str, target: Target, compiler: Compiler) {
    let mut programs: Vec<&str> = target.program().into_iter().collect();
    if compiler == Compiler::P4c {
        programs.push("p4c-bm2-ss");
    }
    if !has(test, &programs) {
        return;
    }
    let (mut ran, mut skipped, mut failed) = (0, 0, Vec::new());
    for name in example_names() {
        let image = Image::example(&name, compiler);
        if balance(&image.plan).is_none() {
            eprintln!("SKIPPED {name} on {target:?}: the scenarios need a balance service");
            skipped += 1;
            continue;
        }
        for scenario in all() {
            let place = format!("{} with {name} on {target:?}", scenario.name);
            if let Some(need) = scenario.needs.iter().find(|need| !target.has(**need)) {
                eprintln!("SKIPPED {place}: the target has no {need:?}");
                skipped += 1;
                continue;
            }
            let run = std::panic::AssertUnwindSafe(|| (scenario.run)(target, &image));
            match std::panic::catch_unwind(run) {
                Ok(()) => ran += 1,
                Err(_) => failed.push(place),
            }
        }
    }
    eprintln!(
        "{test}: {ran} scenarios passed, {skipped} skipped, {} failed",
        failed.len()
    );
    assert!(failed.is_empty(), "failed: {failed:#?}");
}

macro_rules! matrix {
    ($($test:ident: $target:ident, $compiler:ident;)*) => {$(
        #[test]
        fn $test() {
            run_all(stringify!($test), Target::$target, Compiler::$compiler);
        }
    )*};
}

matrix! {
    scenarios_hold_on_the_embedded_switch: Embedded, Ours;
    scenarios_hold_with_the_limits_of_simple_switch_grpc: Quirks, Ours;
    scenarios_hold_over_grpc: Grpc, Ours;
    scenarios_hold_on_bmv2: Bmv2, Ours;
    scenarios_hold_with_p4cs_image_on_the_embedded_switch: Embedded, P4c;
    scenarios_hold_with_p4cs_image_on_bmv2: Bmv2, P4c;
}

#[test]
fn p4c_compiles_every_example_without_a_warning_to_the_same_p4info() {
    let test = "p4c_compiles_every_example_without_a_warning_to_the_same_p4info";
    if !has(test, &["p4c-bm2-ss"]) {
        return;
    }
    for name in example_names() {
        let theirs = Image::example(&name, Compiler::P4c);
        assert_eq!(theirs.warnings, "", "{name}");
        let ours = Image::example(&name, Compiler::Ours);
        assert_eq!(ours.p4info, theirs.p4info, "{name}");
    }
}

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
    if std::env::var("SOAK").is_ok_and(|value| value == "1") {
        2_000
    } else {
        48
    }
}

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

/// What the fuzz targets do, on the inputs that are kept.
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

#[test]
fn the_fuzz_corpora_pass() {
    type Run = fn(&[u8]);
    let targets: [(&str, Run); 4] = [
        ("policy_parser", fuzz::policy_parser),
        ("p4_front", fuzz::p4_front),
        ("json_loader", fuzz::json_loader),
        ("packet_path", fuzz::packet_path),
    ];
    for (name, run) in targets {
        let folder = format!("{}/../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut inputs = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            run(&std::fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs >= 3, "{name} has {inputs} inputs");
    }
}
