//! `signalbox status`: what runs, and its counters.

use std::path::PathBuf;

use clap::Args;

use super::listing;
use crate::control::{self, Request};
use crate::failure::Failure;
use crate::output;

/// What `status` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The service's control socket; needed when several services run
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let path = control::find(arguments.control.as_deref())?;
    let status = control::ask(&path, &Request::Status)?;
    if arguments.json {
        output::line(&status)
    } else {
        output::print(&listing::lines(&status))
    }
}
