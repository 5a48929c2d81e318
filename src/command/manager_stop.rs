//! `signalbox manager-stop`: ends one manager of a running service, for tests of what happens then.

use std::path::PathBuf;

use clap::Args;

use crate::control::{self, Request};
use crate::failure::Failure;

/// What `manager-stop` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The manager's name in the policy
    name: String,
    /// The service's control socket
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let path = control::find(arguments.control.as_deref())?;
    control::ask(
        &path,
        &Request::ManagerStop {
            name: arguments.name.clone(),
        },
    )
    .map(|_| ())
}
