//! `signalbox move`: gives a service, or a part of a divided one, to another manager where the policy runs. It is
//! the policy with one name changed, applied; so flows that there are stay as they are.

use std::path::PathBuf;

use clap::Args;
use signalbox_policy::model::Policy;
use signalbox_policy::parse::parse;
use signalbox_policy::render::render;
use signalbox_policy::tree::{Item, ManagerClause, Name};

use super::{ErrorFormat, apply, policy_input};
use crate::failure::Failure;
use crate::service::Wanted;
use crate::{files, output};

/// What `move` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The policy
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// The service, or the number of its part as `status` shows it
    #[arg(value_name = "SERVICE[/PART]")]
    part: String,
    /// Who serves it from now on
    #[arg(value_name = "MANAGER")]
    manager: String,
    /// Change the policy's file as well, once it is in force
    #[arg(long)]
    write: bool,
    /// A control socket of the policy's `run`, `agent` or `manager`; once for each. Without it, all of
    /// them that run here
    #[arg(long, value_name = "PATH")]
    control: Vec<PathBuf>,
    /// Only say what would change
    #[arg(long, conflicts_with = "write")]
    dry_run: bool,
    /// Print a JSON list, an object for each process
    #[arg(long)]
    json: bool,
}

/// Moves it, and says how the policy's text goes along.
pub fn run(arguments: &Arguments, format: ErrorFormat) -> Result<(), Failure> {
    let policy = policy_input::load(&arguments.policy, format)?;
    let file = arguments.policy.display().to_string();
    let text = files::read_text(&arguments.policy)?;
    let (service, from) = owner(&policy, &arguments.part).map_err(Failure::Usage)?;
    if from == arguments.manager {
        return Err(Failure::Usage(format!(
            "`{from}` serves `{}` already",
            arguments.part
        )));
    }
    let moved = moved(&text, &service, &from, &arguments.manager).map_err(Failure::Failed)?;
    let checked = signalbox_policy::check(&moved.text, &file);
    if checked.policy.is_none() {
        let report = render(
            &checked.diagnostics,
            &moved.text,
            &file,
            format.for_policies(),
        );
        let (part, to) = (&arguments.part, &arguments.manager);
        return Err(Failure::Input(format!(
            "with `{part}` at `{to}` and not at `{from}` the policy would be wrong; change what is said here first:\n{report}"
        )));
    }
    let wanted = Wanted {
        file: file.clone(),
        text: moved.text.clone(),
        dry_run: arguments.dry_run,
    };
    apply::bring(&policy.name, &wanted, &arguments.control, arguments.json)?;
    if arguments.write {
        files::write_whole(&arguments.policy, moved.text.as_bytes())?;
        output::note(&format!("{file}:{}: {}\n", moved.line, moved.now));
    } else {
        output::note(&format!(
            "to keep it, write in {file}, line {}: {}\n",
            moved.line, moved.now
        ));
    }
    Ok(())
}

/// The service that a part is of, and who serves it.
fn owner(policy: &Policy, part: &str) -> Result<(String, String), String> {
    let (name, number) = match part.split_once('/') {
        Some((name, number)) => {
            let number: usize = (number.parse())
                .map_err(|_| format!("expected SERVICE or SERVICE/NUMBER, found `{part}`"))?;
            (name, Some(number))
        }
        None => (part, None),
    };
    let service = (policy.services.iter().find(|s| s.name == name)).ok_or_else(|| {
        let names: Vec<&str> = policy.services.iter().map(|s| s.name.as_str()).collect();
        format!(
            "policy `{}` has no service `{name}`; it has {}",
            policy.name,
            names.join(", ")
        )
    })?;
    let managers: Vec<&str> = (policy.shares_of(service.index))
        .map(|(_, manager, _)| manager.name.as_str())
        .collect();
    let found = match (managers.as_slice(), number) {
        ([], _) => return Err(format!("no manager serves `{name}`")),
        ([one], None) => Some(*one),
        (many, None) => {
            return Err(format!(
                "`{name}` is divided; name a part of it, {name}/0 to {name}/{}",
                many.len() - 1
            ));
        }
        (many, Some(number)) => many.get(number).copied(),
    };
    match found {
        Some(manager) => Ok((name.to_owned(), manager.to_owned())),
        None if managers.len() == 1 => Err(format!(
            "`{name}` has no part {}: it is not divided; name it alone",
            number.unwrap_or(0)
        )),
        None => Err(format!(
            "`{name}` has no part {}; its parts are {name}/0 to {name}/{}",
            number.unwrap_or(0),
            managers.len() - 1
        )),
    }
}

/// A policy's text in which another manager serves something.
#[derive(Debug, PartialEq, Eq)]
struct Moved {
    text: String,
    /// The line that is another one, from 1.
    line: usize,
    /// What stands there now.
    now: String,
}

/// The text in which `to` serves what `from` does of a service.
fn moved(text: &str, service: &str, from: &str, to: &str) -> Result<Moved, String> {
    let file = parse(text).file;
    let clauses = file.items.iter().filter_map(|item| match item {
        Item::Managers(managers) => Some(&managers.clauses),
        _ => None,
    });
    let serving = |clause: &ManagerClause| match clause {
        ManagerClause::Serves {
            name,
            services,
            part,
        } if name.value == from => {
            let of_it: Option<Name> = services.iter().find(|s| s.value == service).cloned();
            of_it.map(|of_it| (name.clone(), of_it, services.clone(), part.is_some()))
        }
        _ => None,
    };
    let (name, of_it, services, has_part) = (clauses.flatten().find_map(serving))
        .ok_or_else(|| format!("no line says that `{from}` serves `{service}`"))?;
    let (start, end, new) = if services.len() == 1 {
        (name.span.start, name.span.end, to.to_owned())
    } else if has_part {
        return Err(format!(
            "`{from}` serves `{service}` and others by one condition; write a line for each first"
        ));
    } else {
        let others: Vec<&str> = (services.iter())
            .filter(|s| s.value != service)
            .map(|s| s.value.as_str())
            .collect();
        let last = services.last().map_or(of_it.span.end, |s| s.span.end);
        let before = text.get(..name.span.start).unwrap_or_default();
        let indent = before.rsplit('\n').next().unwrap_or_default();
        let indent = if indent.trim().is_empty() {
            indent
        } else {
            "  "
        };
        let new = format!(
            "{to} serves {service}\n{indent}{from} serves {}",
            others.join(", ")
        );
        (name.span.start, last, new)
    };
    let (Some(before), Some(after)) = (text.get(..start), text.get(end..)) else {
        return Err("the policy's text has changed".to_owned());
    };
    let text = format!("{before}{new}{after}");
    let line = before.matches('\n').count();
    let now = text.lines().nth(line).unwrap_or_default().trim().to_owned();
    Ok(Moved {
        text,
        line: line + 1,
        now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
managers {
  m-1 serves web where ip.src in 10.0.0.0/9  # the lower half
  m-2 serves web where ip.src in 10.128.0.0/9
  m-3 serves one, two, three
}
";

    #[test]
    fn one_name_changes_and_all_else_stays() {
        let moved = moved(TEXT, "web", "m-2", "m-9").unwrap();
        assert_eq!(moved.text, TEXT.replace("  m-2", "  m-9"));
        assert_eq!(moved.line, 3);
        assert_eq!(moved.now, "m-9 serves web where ip.src in 10.128.0.0/9");
    }

    #[test]
    fn of_several_services_of_a_line_one_gets_its_own() {
        let moved = moved(TEXT, "two", "m-3", "m-9").unwrap();
        let wanted = "  m-9 serves two\n  m-3 serves one, three\n";
        assert_eq!(
            moved.text,
            TEXT.replace("  m-3 serves one, two, three\n", wanted)
        );
        assert_eq!((moved.line, &*moved.now), (4, "m-9 serves two"));
    }

    #[test]
    fn a_part_that_is_not_there_is_told_with_those_that_are() {
        let text = include_str!("../../examples/divided.policy");
        let divided = signalbox_policy::check(text, "divided.policy")
            .policy
            .unwrap();
        let error = owner(&divided, "shop/2").unwrap_err();
        assert_eq!(
            error,
            "`shop` has no part 2; its parts are shop/0 to shop/1"
        );
        let undivided = text.replace("  west serves shop where ip.src in 128.0.0.0/1\n", "");
        let undivided = undivided.replace("shop where ip.src in 0.0.0.0/1", "shop");
        let whole = signalbox_policy::check(&undivided, "whole.policy")
            .policy
            .unwrap();
        let served = owner(&whole, "shop/0").unwrap();
        assert_eq!(served, ("shop".to_owned(), "east".to_owned()));
        let error = owner(&whole, "shop/1").unwrap_err();
        assert_eq!(
            error,
            "`shop` has no part 1: it is not divided; name it alone"
        );
    }

    #[test]
    fn what_nobody_serves_so_cannot_be_moved() {
        let error = moved(TEXT, "one", "m-1", "m-9").unwrap_err();
        assert_eq!(error, "no line says that `m-1` serves `one`");
        let both = TEXT.replace(
            "web where ip.src in 10.0.0.0/9",
            "web, one where ip.src in 10.0.0.0/9",
        );
        let error = moved(&both, "web", "m-1", "m-9").unwrap_err();
        assert!(error.contains("a line for each"), "{error}");
    }
}
