//! `signalbox run`: a policy as a running service: switch, agent and managers in one process.

use clap::Args;

use super::ErrorFormat;
use super::reports::ReportArgs;
use super::serving::{self, Serving};
use crate::failure::Failure;

/// What `run` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    serving: Serving,
    #[command(flatten)]
    reports: ReportArgs,
}

/// Runs until a signal ends it, the target goes away, or all of the input has been read.
pub fn run(arguments: &Arguments, format: ErrorFormat) -> Result<(), Failure> {
    serving::run(&arguments.serving, None, Some(&arguments.reports), format)
}
