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
    /// A control socket of the policy's `run`, `agent` or `manager`; once for each. Without it, all of them
    /// that run here
    #[arg(long, value_name = "PATH")]
    control: Vec<PathBuf>,
    /// Print a JSON object a line, one for each process
    #[arg(long)]
    json: bool,
}

/// Every process is asked before one is printed, so that a wrong path says nothing but that.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut all = Vec::new();
    for path in control::find_all(&arguments.control)? {
        all.push(control::ask(&path, &Request::Status)?);
    }
    for (place, status) in all.iter().enumerate() {
        if arguments.json {
            output::line(status)?;
            continue;
        }
        if place > 0 {
            output::line("")?;
        }
        output::print(&listing::lines(status))?;
    }
    Ok(())
}
