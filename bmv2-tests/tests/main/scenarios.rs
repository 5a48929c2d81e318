//! Every scenario, for every service of every example policy, on every target.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bmv2_tests::image::{Compiler, Image, example_names};
use bmv2_tests::needs::{has, note_skip};
use bmv2_tests::scenarios::all;
use bmv2_tests::targets::Target;
use bmv2_tests::world::{World, left_out};

/// Runs every scenario on one target. Those whose needs the target does not meet are noted by name; a
/// scenario that fails does not keep the others from running.
fn run_all(test: &str, target: Target, compiler: Compiler) {
    if !crate::can_run(test, target, compiler) {
        return;
    }
    let (mut ran, mut failed) = (0, Vec::new());
    let mut skipped: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in example_names() {
        let image = Image::example(&name, compiler);
        if left_out(&image).is_some() {
            continue;
        }
        for world in World::all(&image) {
            let mut of_this_world = 0;
            for scenario in all() {
                if !scenario.settings.iter().all(|one| world.has(*one)) {
                    continue;
                }
                if let Some(need) = scenario.needs.iter().find(|need| !target.has(**need)) {
                    let what = format!("{} on {target:?}: it has no {need:?}", scenario.name);
                    skipped.entry(what).or_default().push(world.name());
                    continue;
                }
                let run = AssertUnwindSafe(|| (scenario.run)(target, &image, &world));
                match catch_unwind(run) {
                    Ok(()) => of_this_world += 1,
                    Err(_) => failed.push(format!(
                        "{} with {} on {target:?}",
                        scenario.name,
                        world.name()
                    )),
                }
            }
            assert!(of_this_world > 0, "no scenario is about {}", world.name());
            ran += of_this_world;
        }
    }
    for (what, worlds) in &skipped {
        note_skip(&format!("SKIPPED {what} ({})", worlds.join(", ")));
    }
    let skipped: usize = skipped.values().map(Vec::len).sum();
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
fn every_scenario_is_about_some_example() {
    let mut worlds = Vec::new();
    for name in example_names() {
        let image = Image::example(&name, Compiler::Ours);
        if left_out(&image).is_none() {
            worlds.extend(World::all(&image));
        }
    }
    for scenario in all() {
        let met = worlds
            .iter()
            .any(|world| scenario.settings.iter().all(|one| world.has(*one)));
        assert!(met, "no example is as {} asks", scenario.name);
    }
    assert!(
        worlds.iter().any(|world| world.service.is_ipv6()),
        "no example balances IPv6"
    );
}

/// The others are compared packet by packet with the evaluator, all of them, and `tests/main/site.rs` runs
/// one of each kind with its hosts.
#[test]
fn examples_that_scenarios_leave_out_have_a_service_that_they_do_not_know() {
    let reasons: Vec<String> = example_names()
        .into_iter()
        .filter_map(|name| {
            let why = left_out(&Image::example(&name, Compiler::Ours))?;
            Some(format!("{name}: {why}"))
        })
        .collect();
    let expected = [
        "cascade: meter is observe",
        "dispatch: web-lb dispatches",
        "divided: egress is nat",
        "gate: admin is gate",
        "nat: mail is nat",
        "observe: meter is observe",
    ];
    assert_eq!(reasons, expected);
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
