//! Who takes a manager's place when it is gone.

use std::time::Duration;

use super::Checker;
use crate::diagnostic::Diagnostic;
use crate::model::{Backup, Manager, Replicate, Span};
use crate::tree::{Item, ManagerClause, Name, Spanned};

/// Before a backup takes over, if the policy does not say.
const AFTER: Duration = Duration::from_secs(3);
/// A few heartbeats that may be lost.
const SHORTEST: Duration = Duration::from_millis(300);
const LONGEST: Duration = Duration::from_secs(3_600);

impl Checker<'_> {
    /// Adds who stands by, after all that managers serve is known: clauses stand in any order.
    pub(super) fn backups(&mut self, managers: &mut Vec<Manager>) {
        let serving = managers.len();
        for item in self.items() {
            let Item::Managers(item) = item else { continue };
            for clause in &item.clauses {
                if let ManagerClause::Backup {
                    name,
                    with,
                    after,
                    replicate,
                    span,
                } = clause
                {
                    let (after, replicate) =
                        self.terms_of_backup(after.as_ref(), replicate.as_ref());
                    self.backup(managers, serving, (name, with), |manager| Backup {
                        manager,
                        after,
                        replicate,
                        span: *span,
                    });
                }
            }
        }
    }

    fn terms_of_backup(
        &mut self,
        after: Option<&Spanned<Duration>>,
        replicate: Option<&Name>,
    ) -> (Duration, Option<Replicate>) {
        let after = after.map_or(AFTER, |t| self.time(t.span, t.value, SHORTEST, LONGEST));
        let choices = [("sync", Replicate::Sync), ("async", Replicate::Async)];
        let chosen = replicate.and_then(|word| self.choice("a way to replicate", word, &choices));
        (after, chosen)
    }

    fn backup(
        &mut self,
        managers: &mut Vec<Manager>,
        serving: usize,
        (name, with): (&Name, &Name),
        backup: impl FnOnce(usize) -> Backup,
    ) {
        let place =
            |managers: &[Manager], name: &Name| managers.iter().position(|m| m.name == name.value);
        let Some(first) = place(managers, name) else {
            let known = managers.iter().take(serving).map(|m| m.name.as_str());
            self.unknown("manager", name, known);
            return;
        };
        if first >= serving {
            self.report(
                Diagnostic::error(
                    "serves-nothing",
                    name.span,
                    format!("`{}` serves nothing that another could take over", name.value),
                )
                .help(format!("only managers with a `serves` need a backup; leave it out, or add `{} serves …`", name.value)),
            );
            return;
        }
        if name.value == with.value {
            self.report(
                Diagnostic::error(
                    "own-backup",
                    with.span,
                    format!("`{}` cannot stand by for itself", with.value),
                )
                .help("name another manager; one that serves nothing may only stand by"),
            );
            return;
        }
        let said: Option<Span> = (managers.get(first))
            .and_then(|m| m.backup.as_ref())
            .map(|b| b.span);
        if let Some(said) = said {
            return self.repeated(&format!("backup {}", name.value), name.span, said);
        }
        let second = place(managers, with).unwrap_or_else(|| {
            managers.push(Manager {
                name: with.value.clone(),
                serves: Vec::new(),
                parts: Vec::new(),
                backup: None,
                span: with.span,
            });
            managers.len() - 1
        });
        if let Some(first) = managers.get_mut(first) {
            first.backup = Some(backup(second));
        }
    }
}
