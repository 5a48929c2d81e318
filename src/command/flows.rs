//! `signalbox flows`: the connections that a running agent knows, and what each service does to them.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::listing;
use crate::control::{self, Request};
use crate::failure::Failure;
use crate::flows::search::{Part, matches};
use crate::flows::{Connection, Step, connections};
use crate::output;

/// What `flows` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only flows that have all of these: an address, a prefix, a port as `:443`, an end as
    /// `10.0.1.10:8080`, a protocol, or a part of a name (service, server, manager) or of a state; before
    /// or after any translation
    #[arg(value_name = "PART")]
    parts: Vec<String>,
    /// The control socket of a `run` or `agent`; needed when several run
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Print a JSON list
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let path = control::find(arguments.control.as_deref())?;
    let flows = control::ask(&path, &Request::Flows)?;
    let steps: Vec<Step> = serde_json::from_value(flows).map_err(|error| {
        Failure::Failed(format!(
            "the answer from `{}` was not understood, is it of another version? ({error})",
            path.display()
        ))
    })?;
    let parts: Vec<Part> = arguments.parts.iter().map(|word| Part::of(word)).collect();
    let mut found = connections(steps);
    found.retain(|connection| matches(connection, &parts));
    if arguments.json {
        let list = serde_json::to_value(&found).map_err(Failure::failed)?;
        output::line(list)
    } else if found.is_empty() {
        output::line("no flows")
    } else {
        let rows: Vec<Value> = found.iter().flat_map(rows).collect();
        output::print(&listing::table(&rows))
    }
}

/// A connection as a line a service; what belongs to the whole stands on the first.
fn rows(connection: &Connection) -> Vec<Value> {
    (connection.steps.iter().enumerate())
        .map(|(place, step)| {
            let flow = &step.flow;
            let name = match (place, step.way_back) {
                (0, _) => connection.text.as_str(),
                (_, false) => "  then",
                (_, true) => "  way back",
            };
            let decided = match flow.manager.as_str() {
                "" => "found on the switch".to_owned(),
                manager => format!("{manager} (epoch {})", flow.epoch),
            };
            json!({
                "flow": name,
                "service": flow.service,
                "server": step.server,
                "decision": flow.decision,
                "forward": flow.forward,
                "reply": flow.reply,
                "decided_by": decided,
                "state": flow.state,
                "age_ms": flow.age_ms,
            })
        })
        .collect()
}
