//! Another policy for what runs: what would change, said before anything does.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use signalbox_agent::shell::Applied;
use signalbox_lower::diff::{Edits, diff};
use signalbox_lower::plan::Plan;
use signalbox_policy::render::{Format, render};

use crate::image::{self, Compiled};

/// A policy that somebody wants to have in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The name of its file: the policy is called by it.
    pub file: String,
    /// Its text.
    pub text: String,
    /// Whether only to say what would change.
    pub dry_run: bool,
}

impl Wanted {
    /// Checks and compiles it for the target of what runs.
    ///
    /// # Errors
    /// What is wrong with it, or that it is not the policy that runs.
    pub async fn compile(&self, running: &Plan) -> Result<Compiled, String> {
        let (wanted, name, cpu_port) = (self.clone(), running.policy.clone(), running.cpu_port);
        let compiled = tokio::task::spawn_blocking(move || wanted.compile_now(&name, cpu_port));
        compiled.await.map_err(|error| error.to_string())?
    }

    fn compile_now(&self, name: &str, cpu_port: u16) -> Result<Compiled, String> {
        let checked = signalbox_policy::check(&self.text, &self.file);
        let Some(policy) = checked.policy else {
            let report = render(&checked.diagnostics, &self.text, &self.file, Format::Plain);
            return Err(report.trim_end().to_owned());
        };
        if policy.name != name {
            return Err(format!(
                "policy `{name}` runs here, and this is `{}`: a policy is called by its file's name",
                policy.name
            ));
        }
        image::compile_for(policy, cpu_port).map_err(|failure| failure.text().trim_end().to_owned())
    }
}

/// What changes from one plan to another, and what has become of it, as `apply` tells it.
pub fn report(old: &Plan, new: &Plan, notes: &[String], applied: Option<&Applied>) -> Value {
    let found = diff(old, new);
    let entries = Edits::between(&old.static_entries(), &new.static_entries(), |e| e.key());
    json!({
        "policy": new.policy,
        "program": found.program,
        "changes": found.changes(),
        "entries": {
            "added": entries.added.len(),
            "changed": entries.changed.len(),
            "removed": entries.removed.len(),
        },
        "notes": notes,
        "applied": applied,
    })
}

/// Whether nothing changes from one plan to another.
pub fn is_same(old: &Plan, new: &Arc<Plan>) -> bool {
    diff(old, new).is_empty()
}
