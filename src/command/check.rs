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
    let mut reports = String::new();
    for path in &arguments.policies {
        match policy_input::load(path, format) {
            Ok(_) => {}
            Err(Failure::Input(report)) => reports.push_str(&report),
            Err(other) => return Err(other),
        }
    }
    if reports.is_empty() {
        Ok(())
    } else {
        Err(Failure::Input(reports))
    }
}
