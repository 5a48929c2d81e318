//! Managers: who decides for which service.

use super::Checker;
use crate::diagnostic::Diagnostic;
use crate::model::{Manager, Service, ServiceIndex, ServiceKind, Span};
use crate::tree::{Item, ManagerClause, Name};

impl Checker<'_> {
    pub(super) fn managers(&mut self, services: &[Service]) -> Vec<Manager> {
        let mut managers: Vec<Manager> = Vec::new();
        let mut served: Vec<(ServiceIndex, Span)> = Vec::new();
        let mut first: Option<Span> = None;
        for item in self.items() {
            let Item::Managers(item) = item else { continue };
            if let Some(first) = first {
                self.repeated("managers", item.span, first);
            }
            first.get_or_insert(item.span);
            for clause in &item.clauses {
                match clause {
                    ManagerClause::Backup { .. } => {}
                    ManagerClause::Serves {
                        name,
                        services: names,
                        part,
                    } => {
                        if let Some(part) = part {
                            self.unsupported(
                                part.span(),
                                "a service divided among managers (`where`)",
                            );
                        }
                        if let Some(other) = managers.iter().find(|m| m.name == name.value) {
                            self.duplicate("manager", name, other.span);
                            continue;
                        }
                        let serves = self.serves(services, names, &mut served);
                        managers.push(Manager {
                            name: name.value.clone(),
                            serves,
                            backup: None,
                            span: name.span,
                        });
                    }
                }
            }
        }
        for service in services {
            let decides = !matches!(service.kind, ServiceKind::Filter(_));
            let has_one = served.iter().any(|(index, _)| *index == service.index);
            if decides && !has_one && self.parse.errors.is_empty() {
                self.report(
                    Diagnostic::error(
                        "no-manager",
                        service.span,
                        format!("no manager serves `{}`", service.name),
                    )
                    .note("without one every new flow meets the fallback")
                    .help(format!("add `managers {{ lb-1 serves {} }}`", service.name)),
                );
            }
        }
        managers
    }

    fn serves(
        &mut self,
        services: &[Service],
        names: &[Name],
        served: &mut Vec<(ServiceIndex, Span)>,
    ) -> Vec<ServiceIndex> {
        let mut out = Vec::new();
        for name in names {
            let Some(service) = services.iter().find(|s| s.name == name.value) else {
                self.unknown_service(services, name);
                continue;
            };
            if matches!(service.kind, ServiceKind::Filter(_)) {
                self.report(
                    Diagnostic::error(
                        "needs-no-manager",
                        name.span,
                        format!("`{}` is a filter, and needs no manager", name.value),
                    )
                    .help("leave it out: the agent installs a filter's rules by itself"),
                );
                continue;
            }
            if let Some((_, first)) = served.iter().find(|(index, _)| *index == service.index) {
                self.report(
                    Diagnostic::error(
                        "served-twice",
                        name.span,
                        format!("`{}` is served twice", name.value),
                    )
                    .related(*first, "first here"),
                );
                continue;
            }
            served.push((service.index, name.span));
            out.push(service.index);
        }
        out.sort();
        out
    }

    /// Reports a service that is not there, unless it is only that its own text is wrong.
    pub(super) fn unknown_service(&mut self, services: &[Service], name: &Name) {
        let declared = self.items().iter().any(|i| match i {
            Item::Service(item) => item.name.value == name.value,
            _ => false,
        });
        if !declared {
            self.unknown("service", name, services.iter().map(|s| s.name.as_str()));
        }
    }
}
