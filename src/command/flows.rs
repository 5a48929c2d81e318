//! `signalbox flows`: the flows that a running service's agent knows, and what became of them.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::listing;
use crate::control::{self, Request};
use crate::failure::Failure;
use crate::output;

/// What `flows` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only flows that have this text in their tuples, their state, or a name: an address, a port, a
    /// service, a server, a manager
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
            let mut fields = SEARCHED.iter().filter_map(|field| row.get(field));
            fields.any(|value| listing::contains(value, text))
        });
    }
    if arguments.json {
        output::line(Value::Array(rows))
    } else if rows.is_empty() {
        output::line("no flows")
    } else {
        let rows: Vec<Value> = rows.iter().map(for_people).collect();
        output::print(&listing::table(&rows))
    }
}

/// What a text is looked for in: counts and ages would match any number.
const SEARCHED: [&str; 6] = ["service", "text", "decision", "server", "manager", "state"];

/// A flow as one line: each tuple once, in words.
fn for_people(flow: &Value) -> Value {
    let field = |name: &str| flow.get(name).cloned().unwrap_or_default();
    json!({
        "service": field("service"),
        "flow": field("text"),
        "server": field("server"),
        "decision": field("decision"),
        "forward": field("forward"),
        "reply": field("reply"),
        "manager": field("manager"),
        "state": field("state"),
        "age_ms": field("age_ms"),
    })
}
