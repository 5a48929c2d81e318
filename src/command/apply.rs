//! `signalbox apply`: brings another text of a policy into force where it runs, or says what would change.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::{ErrorFormat, policy_input};
use crate::control::{self, Request};
use crate::failure::Failure;
use crate::service::Wanted;
use crate::{files, output};

/// What `apply` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The policy
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// A control socket of the policy's `run`, `agent` or `manager`; once for each. Without it, all of
    /// them that run here
    #[arg(long, value_name = "PATH")]
    control: Vec<PathBuf>,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    /// Print a JSON list, an object for each process
    #[arg(long)]
    json: bool,
}

/// Applies the policy.
pub fn run(arguments: &Arguments, format: ErrorFormat) -> Result<(), Failure> {
    let policy = policy_input::load(&arguments.policy, format)?;
    let wanted = Wanted {
        file: arguments.policy.display().to_string(),
        text: files::read_text(&arguments.policy)?,
        dry_run: arguments.dry_run,
    };
    bring(&policy.name, &wanted, &arguments.control, arguments.json)
}

/// Brings a policy into force everywhere or nowhere, as far as that can be known before.
pub(super) fn bring(
    policy: &str,
    wanted: &Wanted,
    control: &[PathBuf],
    json: bool,
) -> Result<(), Failure> {
    let paths = match control {
        [] => running(policy)?,
        given => given.to_vec(),
    };
    let question = Wanted {
        dry_run: true,
        ..wanted.clone()
    };
    // All of them are asked before one of them changes.
    let mut targets = Vec::new();
    for path in paths {
        let would = control::ask(&path, &Request::Apply(question.clone()))?;
        targets.push((path, would));
    }
    // Agents first: they end their managers' sessions, which open again with the new plan.
    targets.sort_by_key(|(_, would)| would.get("role").and_then(Value::as_str) == Some("manager"));
    let mut problems = Vec::new();
    let mut said = Vec::new();
    for (path, would) in targets {
        let report = if wanted.dry_run {
            would
        } else {
            control::ask(&path, &Request::Apply(wanted.clone()))?
        };
        let refused = report.pointer("/applied/refused").and_then(Value::as_array);
        for what in refused.into_iter().flatten() {
            problems.push(format!(
                "{}: {}",
                name(&report),
                what.as_str().unwrap_or_default()
            ));
        }
        if json {
            said.push(report);
        } else {
            output::print(&text(&report, wanted.dry_run))?;
        }
    }
    if json {
        output::line(Value::Array(said))?;
    }
    match problems.as_slice() {
        [] => Ok(()),
        [first, ..] => Err(Failure::Failed(format!(
            "the policy is in force, but for {} entries: {first}",
            problems.len()
        ))),
    }
}

/// The sockets of everything that runs this policy here.
fn running(policy: &str) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for path in control::live()? {
        // One that does not answer is none of ours to wait for.
        let status = control::ask(&path, &Request::Status);
        if status.is_ok_and(|status| status.get("policy") == Some(&json!(policy))) {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(Failure::Failed(format!(
            "nothing that runs policy `{policy}` was found; name its socket with `--control PATH`"
        )));
    }
    Ok(found)
}

fn name(report: &Value) -> String {
    let field = |name: &str| report.get(name).and_then(Value::as_str).unwrap_or("?");
    match field("role") {
        "run" => field("policy").to_owned(),
        role => format!("{role} {} of {}", field("name"), field("policy")),
    }
}

/// What a process says, for people.
fn text(report: &Value, dry_run: bool) -> String {
    let list = |name: &str| report.get(name).and_then(Value::as_array);
    let number = |path: &str| report.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let is = |path: &str| report.pointer(path).and_then(Value::as_bool) == Some(true);
    let changes = list("changes").map_or(&[][..], Vec::as_slice);
    let who = name(report);
    if changes.is_empty() && !is("/program") {
        return format!("{who}: nothing changes\n");
    }
    let mut out = format!(
        "{who}: {} changes, {}\n",
        changes.len(),
        if is("/program") {
            "and another P4 program"
        } else {
            "and the P4 program stays"
        }
    );
    for change in changes {
        out.push_str(&line(change));
    }
    for note in list("notes").into_iter().flatten() {
        out.push_str(&format!("  note: {}\n", note.as_str().unwrap_or_default()));
    }
    if report.get("role") == Some(&json!("manager")) {
        return out;
    }
    out.push_str(&format!(
        "  entries of the policy: {} new, {} changed, {} gone\n",
        number("/entries/added"),
        number("/entries/changed"),
        number("/entries/removed"),
    ));
    if dry_run || report.get("applied").is_none_or(Value::is_null) {
        return out;
    }
    out.push_str(&format!(
        "  flows: {} go on, {} have ended\n",
        number("/applied/kept"),
        number("/applied/ended"),
    ));
    if is("/applied/program") {
        let us = number("/applied/gap_us");
        out.push_str(&format!(
            "  the switch forwarded nothing for at most {}.{:03} ms\n",
            us / 1000,
            us % 1000
        ));
    }
    out
}

/// A change as one line: `+`, `-` or `~`, what it belongs to, and what it is.
fn line(change: &Value) -> String {
    let field = |name: &str| change.get(name).and_then(Value::as_str);
    let sign = match field("change") {
        Some("added") => '+',
        Some("removed") => '-',
        _ => '~',
    };
    let of = field("service").map_or_else(String::new, |service| format!("{service}: "));
    let what = field("what").unwrap_or_default();
    let name = match field("name") {
        Some("") | None => String::new(),
        Some(name) => format!(" {name}"),
    };
    match (field("from"), field("to")) {
        (Some(from), Some(to)) => format!("  {sign} {of}{what}{name}: {from} -> {to}\n"),
        _ => format!("  {sign} {of}{what}{name}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_few_lines_that_say_what_changes() {
        let report = json!({
            "role": "agent", "name": "agent-1", "policy": "web", "program": true,
            "changes": [
                { "change": "added", "what": "service", "service": null, "name": "guard", "from": null, "to": null },
                { "change": "changed", "what": "server", "service": "web-lb", "name": "a", "from": "weight 1", "to": "weight 2" },
            ],
            "entries": { "added": 3, "changed": 1, "removed": 0 },
            "notes": [],
            "applied": { "kept": 7, "ended": 1, "program": true, "gap_us": 12_034, "refused": [] },
        });
        assert_eq!(
            text(&report, false),
            "agent agent-1 of web: 2 changes, and another P4 program\n  + service guard\n  \
             ~ web-lb: server a: weight 1 -> weight 2\n  entries of the policy: 3 new, 1 changed, 0 gone\n  \
             flows: 7 go on, 1 have ended\n  the switch forwarded nothing for at most 12.034 ms\n"
        );
    }
}
