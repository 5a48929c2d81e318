//! `signalbox agent`: a policy's agent on its target; the managers are processes of their own.

use std::net::SocketAddr;

use clap::Args;

use super::ErrorFormat;
use super::serving::{self, Alone, Serving};
use crate::failure::Failure;

/// What `agent` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    serving: Serving,
    /// Where managers come in; an address of loopback
    #[arg(long, default_value = "127.0.0.1:9570", value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// The agent's name, its own among all agents of the policy
    #[arg(long, default_value = "agent-1", value_name = "NAME", value_parser = name)]
    name: String,
}

/// A name that can be a part of a file's.
fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match text {
        "" => Err("expected a name".to_owned()),
        _ if text.len() > 64 => Err("expected at most 64 characters".to_owned()),
        _ if text.chars().all(fits) && !text.starts_with('.') => Ok(text.to_owned()),
        _ => Err("expected letters, digits, `-`, `_` and `.`".to_owned()),
    }
}

/// Runs until a signal ends it, or the target goes away.
pub fn run(arguments: &Arguments, format: ErrorFormat) -> Result<(), Failure> {
    let alone = Alone {
        name: &arguments.name,
        listen: arguments.listen,
    };
    serving::run(&arguments.serving, Some(&alone), None, format)
}
