//! `signalbox flows`: the flows that a running service's agent knows, and what became of them.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::listing;
use crate::control::{self, Request};
use crate::failure::Failure;

/// What `flows` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only flows that have this text in a field: an address, a port, a service, a server
    #[arg(value_name = "TEXT")]
    containing: Option<String>,
    /// The service's control socket; needed when several services run
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Print a JSON list
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let path = control::find(arguments.control.as_deref())?;
    let flows = control::ask(&path, &Request::Flows)?;
    let mut rows: Vec<Value> = flows.as_array().cloned().unwrap_or_default();
    if let Some(text) = &arguments.containing {
        rows.retain(|row| {
            row.as_object()
                .is_some_and(|fields| fields.values().any(|value| listing::contains(value, text)))
        });
    }
    if arguments.json {
        println!("{}", Value::Array(rows));
    } else if rows.is_empty() {
        println!("no flows");
    } else {
        print!("{}", listing::table(&rows));
    }
    Ok(())
}
