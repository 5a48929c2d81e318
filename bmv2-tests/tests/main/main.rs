//! Scenarios on every target with the images of both compilers, the evaluator against the switch, and
//! the fuzz corpora.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "test code: a failure is to stop the test with its place"
)]

mod differential;
mod fuzz_corpora;
mod gates;
mod naming;
mod outcomes;
mod scenarios;
mod site;

use bmv2_tests::image::Compiler;
use bmv2_tests::needs::has;
use bmv2_tests::targets::Target;

/// True when this machine has the programs that a target and a compiler are.
fn can_run(test: &str, target: Target, compiler: Compiler) -> bool {
    let mut programs: Vec<&str> = target.program().into_iter().collect();
    if compiler == Compiler::P4c {
        programs.push("p4c-bm2-ss");
    }
    has(test, &programs)
}

/// Whether the long versions of the tests were asked for.
fn soaks() -> bool {
    std::env::var("SOAK").is_ok_and(|value| value == "1")
}
