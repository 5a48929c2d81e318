//! `signalbox check`: says what is wrong with policies, or nothing.

use std::path::PathBuf;

use clap::Args;

use super::{ErrorFormat, policy_input};
use crate::failure::Failure;

/// What `check` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The policies
    #[arg(required = true, value_name = "POLICY")]
    policies: Vec<PathBuf>,
}

pub fn run(arguments: &Arguments, format: ErrorFormat) -> Result<(), Failure> {
    // Each policy is told of when its turn comes; the command ends as the worst of them says.
    let mut wrong: Option<Failure> = None;
    for path in &arguments.policies {
        let Err(failure) = policy_input::load(path, format) else {
            continue;
        };
        let Some(before) = wrong.take() else {
            wrong = Some(failure);
            continue;
        };
        wrong = Some(match (before, failure) {
            (Failure::Failed(before), Failure::Failed(line)) => {
                Failure::Failed(format!("{before}\nsignalbox: {line}"))
            }
            (before, failure) => Failure::Input(before.text() + &failure.text()),
        });
    }
    wrong.map_or(Ok(()), Err)
}
