//! `signalbox test`: runs a policy's own tests, on the evaluator and on the embedded switch.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;
use signalbox_policy::render::line_column;
use signalbox_policy::testing::{self, TestResult};

use super::{ErrorFormat, policy_input};
use crate::failure::Failure;
use crate::files;
use crate::output;
use crate::service::policy_test::OnSwitch;

/// What `test` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The policies
    #[arg(required = true, value_name = "POLICY")]
    policies: Vec<PathBuf>,
    /// What the tests run on
    #[arg(long, value_enum, default_value_t = On::Both)]
    on: On,
    /// Print one JSON object a test
    #[arg(long)]
    json: bool,
}

/// What tests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    /// The executable meaning of policies
    Evaluator,
    /// The embedded switch, with agent and managers
    Switch,
    /// One after the other
    Both,
}

pub fn run(arguments: &Arguments, format: ErrorFormat) -> Result<(), Failure> {
    let mut failed = 0;
    let mut passed = 0;
    for path in &arguments.policies {
        let policy = policy_input::load(path, format)?;
        let text = files::read_text(path)?;
        let mut runs: Vec<(&str, Vec<TestResult>)> = Vec::new();
        if arguments.on != On::Switch {
            runs.push(("evaluator", testing::run(&policy)));
        }
        if arguments.on != On::Evaluator && !policy.tests.is_empty() {
            let mut target = OnSwitch::new(testing::prepared(&policy))?;
            let results = testing::run_on(&policy, &mut target);
            if let Some(problem) = target.problem() {
                return Err(problem);
            }
            runs.push(("switch", results));
        }
        for (on, results) in &runs {
            for result in results {
                print(path, &text, on, result, arguments.json)?;
                if result.passed() {
                    passed += 1;
                } else {
                    failed += 1;
                }
            }
        }
    }
    if !arguments.json {
        output::line(format_args!("{passed} passed, {failed} failed"))?;
    }
    if failed > 0 {
        Err(Failure::Test)
    } else {
        Ok(())
    }
}

fn print(
    path: &std::path::Path,
    text: &str,
    on: &str,
    result: &TestResult,
    as_json: bool,
) -> Result<(), Failure> {
    let place = |start: usize| {
        let (line, column) = line_column(text, start);
        format!("{}:{line}:{column}", path.display())
    };
    if as_json {
        let failures: Vec<_> = result
            .failures
            .iter()
            .map(|failure| json!({ "at": place(failure.span.start), "message": failure.message }))
            .collect();
        return output::line(
            json!({ "test": result.name, "at": place(result.span.start), "on": on, "passed": result.passed(), "failures": failures }),
        );
    }
    let word = if result.passed() { "ok  " } else { "FAIL" };
    output::line(format_args!("{word} {on:9} {}", result.name))?;
    for failure in &result.failures {
        output::line(format_args!(
            "     {}: {}",
            place(failure.span.start),
            failure.message
        ))?;
    }
    Ok(())
}
