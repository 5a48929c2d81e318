//! Managers: who decides for which service, and for which part of it. That the parts of a service fit
//! together is proved in `division`.

use super::Checker;
use super::criteria::Scope;
use crate::diagnostic::Diagnostic;
use crate::model::{Criteria, Manager, Pool, Service, ServiceIndex, ServiceKind, Span};
use crate::tree::{Expr, Item, ManagerClause, Name};

/// A manager's word that it decides for a service.
pub(super) struct Claim<'t> {
    pub service: ServiceIndex,
    /// Its place among the managers.
    pub manager: usize,
    /// The service's name, as it stands there.
    pub span: Span,
    /// The condition of a part; without criteria if something in it is wrong.
    pub part: Option<(&'t Expr, Option<Criteria>)>,
}

impl<'a> Checker<'a> {
    pub(super) fn managers(
        &mut self,
        scope: Scope<'_>,
        pools: &[Pool],
        services: &[Service],
    ) -> Vec<Manager> {
        let mut managers: Vec<Manager> = Vec::new();
        let mut claims: Vec<Claim<'a>> = Vec::new();
        // Where a line was refused, what the others leave out need not be told.
        let mut refused: Vec<ServiceIndex> = Vec::new();
        let mut unsure = !self.parse.errors.is_empty();
        let mut first: Option<Span> = None;
        for item in self.items() {
            let Item::Managers(item) = item else { continue };
            if let Some(first) = first {
                self.repeated("managers", item.span, first);
            }
            first.get_or_insert(item.span);
            for clause in &item.clauses {
                let ManagerClause::Serves {
                    name,
                    services: names,
                    part,
                } = clause
                else {
                    continue;
                };
                let known = managers.iter().position(|m| m.name == name.value);
                let manager = known.unwrap_or(managers.len());
                if known.is_none() {
                    managers.push(Manager {
                        name: name.value.clone(),
                        serves: Vec::new(),
                        parts: Vec::new(),
                        backup: None,
                        span: name.span,
                    });
                }
                let part = (part.as_ref()).map(|expr| (expr, self.criteria(scope, &[expr])));
                for name in names {
                    let service = self.served(services, name);
                    unsure |= part.is_some() && service.is_none();
                    if let Some(service) = service {
                        let (part, span) = (part.clone(), name.span);
                        let fits = self.claim(
                            &mut claims,
                            Claim {
                                service,
                                manager,
                                span,
                                part,
                            },
                            name,
                        );
                        refused.extend((!fits).then_some(service));
                    }
                }
            }
        }
        for service in services {
            let of_it: Vec<&Claim<'a>> = (claims.iter())
                .filter(|claim| claim.service == service.index)
                .collect();
            self.unserved(service, &of_it);
            for claim in &of_it {
                if let Some(manager) = managers.get_mut(claim.manager) {
                    manager.serves.push(service.index);
                }
            }
            let parts = self.divide(pools, service, &of_it);
            if unsure || refused.contains(&service.index) {
                continue;
            }
            for (manager, part) in parts {
                if let Some(manager) = managers.get_mut(manager) {
                    manager.parts.push((service.index, part));
                }
            }
        }
        managers
    }

    /// Adds a claim; says whether it can stand beside those before it.
    fn claim(&mut self, claims: &mut Vec<Claim<'a>>, new: Claim<'a>, name: &Name) -> bool {
        let before = |c: &&Claim<'a>| c.service == new.service;
        let twice = (claims.iter().filter(before))
            .find(|c| c.manager == new.manager || (c.part.is_none() && new.part.is_none()));
        if let Some(twice) = twice {
            self.report(
                Diagnostic::error(
                    "served-twice",
                    name.span,
                    format!("`{}` is served twice", name.value),
                )
                .related(twice.span, "first here")
                .help("divide it with `where`, a part for each manager; or leave one out"),
            );
            return false;
        }
        let mixed = (claims.iter().filter(before)).find(|c| c.part.is_none() != new.part.is_none());
        if let Some(other) = mixed {
            let (all, part) = match new.part {
                None => (new.span, other.span),
                Some(_) => (other.span, new.span),
            };
            self.report(
                Diagnostic::error(
                    "served-twice",
                    all,
                    format!(
                        "`{}` is served here as a whole, and there in part",
                        name.value
                    ),
                )
                .related(part, "a part of it")
                .help("say with `where` which part of it this manager serves"),
            );
            return false;
        }
        claims.push(new);
        true
    }

    fn unserved(&mut self, service: &Service, claims: &[&Claim<'_>]) {
        let decides = !matches!(service.kind, ServiceKind::Filter(_));
        if decides && claims.is_empty() && self.parse.errors.is_empty() {
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

    /// The service of that name, if it is one that a manager can decide for.
    fn served(&mut self, services: &[Service], name: &Name) -> Option<ServiceIndex> {
        let Some(service) = services.iter().find(|s| s.name == name.value) else {
            self.unknown_service(services, name);
            return None;
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
            return None;
        }
        Some(service.index)
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
