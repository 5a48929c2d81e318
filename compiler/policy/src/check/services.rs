//! Services and the cascade: names, kinds, order.

use super::Checker;
use super::criteria::Scope;
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::model::{AddressSet, MAX_SERVICES, Network, Pool, Service, ServiceIndex, Span};
use crate::tree::{Item, Name, ServiceItem};

const KINDS: [&str; 5] = ["balance", "filter", "gate", "nat", "observe"];

/// Names that would collide with the generated program's own (with `-` as `_`).
const RESERVED: [&str; 62] = [
    "abstract",
    "action",
    "actions",
    "and",
    "apply",
    "bit",
    "bool",
    "const",
    "control",
    "counter",
    "default",
    "default_action",
    "drops",
    "else",
    "entries",
    "enum",
    "error",
    "exit",
    "extern",
    "false",
    "flow",
    "fixed",
    "header",
    "header_union",
    "host",
    "if",
    "in",
    "inout",
    "int",
    "key",
    "list",
    "log",
    "match_kind",
    "meta",
    "next_hop",
    "not",
    "or",
    "out",
    "package",
    "parser",
    "pragma",
    "priority",
    "port",
    "ready",
    "return",
    "route",
    "select",
    "size",
    "standard_metadata",
    "state",
    "stats",
    "string",
    "struct",
    "switch",
    "table",
    "this",
    "transition",
    "true",
    "tuple",
    "type",
    "typedef",
    "void",
];

impl Checker<'_> {
    /// The services in cascade order.
    pub(super) fn services(
        &mut self,
        network: &Network,
        sets: &[AddressSet],
        pools: &[Pool],
    ) -> Vec<Service> {
        let mut services: Vec<Service> = Vec::new();
        let mut declared: Vec<&Name> = Vec::new();
        for item in self.items() {
            let Item::Service(item) = item else { continue };
            let name = &item.name;
            if !self.service_name(name, &declared) {
                continue;
            }
            declared.push(name);
            let scope = Scope { network, sets };
            let kind = match item.kind.value.as_str() {
                "balance" => self.balance(scope, pools, item),
                "filter" => self.filter(scope, item),
                "gate" => self.gate(scope, item),
                "nat" => self.nat(scope, item),
                "observe" => self.observe(scope, item),
                other => {
                    self.kind(item, other);
                    None
                }
            };
            if let Some(kind) = kind {
                services.push(Service {
                    name: name.value.clone(),
                    index: ServiceIndex(services.len()),
                    kind,
                    span: name.span,
                });
            }
        }
        if let Some(extra) = declared.get(MAX_SERVICES) {
            self.report(
                Diagnostic::error(
                    "too-many-services",
                    extra.span,
                    format!("the policy has {} services", declared.len()),
                )
                .label(format!("expected at most {MAX_SERVICES}")),
            );
        }
        if declared.is_empty() && self.parse.errors.is_empty() {
            let start = Span {
                start: 0,
                end: self.text.len().min(1),
            };
            self.report(
                Diagnostic::warning(
                    "no-services",
                    start,
                    "the policy has no service, and only routes",
                )
                .help("declare one, such as `service NAME : filter { … }`"),
            );
        }
        self.cascade(services, &declared)
    }

    fn service_name(&mut self, name: &Name, declared: &[&Name]) -> bool {
        let program_name = |n: &str| n.replace('-', "_");
        let own = program_name(&name.value);
        if let Some(other) = declared.iter().find(|n| n.value == name.value) {
            self.duplicate("service", name, other.span);
            return false;
        }
        let collides = |other: &str| {
            let other = program_name(other);
            own == other || own == format!("{other}_reply") || other == format!("{own}_reply")
        };
        if let Some(other) = declared.iter().find(|n| collides(&n.value)) {
            self.report(
                Diagnostic::error(
                    "duplicate-name",
                    name.span,
                    format!(
                        "`{}` and `{}` would have the same name in the program",
                        name.value, other.value
                    ),
                )
                .related(other.span, "the other one")
                .note("in the program `-` becomes `_`, and a reply part is called NAME_reply"),
            );
        }
        if RESERVED.contains(&own.as_str()) {
            self.report(
                Diagnostic::error(
                    "reserved-name",
                    name.span,
                    format!("a service cannot be called `{}`", name.value),
                )
                .note("the generated program gives this name another meaning")
                .help(format!("call it `my-{}`", name.value)),
            );
        }
        true
    }

    fn kind(&mut self, item: &ServiceItem, kind: &str) {
        let span = item.kind.span;
        let mut d = Diagnostic::error(
            "unknown-word",
            span,
            format!("`{kind}` is not a kind of service"),
        )
        .label("expected `balance`, `filter`, `gate`, `nat` or `observe`");
        if let Some(meant) = did_you_mean(kind, KINDS) {
            d = d.help(format!("did you mean `{meant}`?"));
        }
        self.report(d);
    }

    /// Puts the services in the cascade's order.
    fn cascade(&mut self, services: Vec<Service>, declared: &[&Name]) -> Vec<Service> {
        let mut cascade = None;
        for item in self.items() {
            let Item::Cascade(item) = item else { continue };
            match cascade {
                None => cascade = Some(item),
                Some(first) => self.repeated("cascade", item.span, first.span),
            }
        }
        let Some(cascade) = cascade else {
            if let (Some(second), true) = (declared.get(1), self.parse.errors.is_empty()) {
                let names: Vec<&str> = declared.iter().map(|n| n.value.as_str()).collect();
                self.report(
                    Diagnostic::error(
                        "no-cascade",
                        second.span,
                        "the order of the services is not said",
                    )
                    .help(format!(
                        "add `cascade {}` in the order you want",
                        names.join(" > ")
                    )),
                );
            }
            return services;
        };
        let mut seen: Vec<&Name> = Vec::new();
        for name in &cascade.names {
            if let Some(first) = seen.iter().find(|n| n.value == name.value) {
                self.report(
                    Diagnostic::error(
                        "twice-in-cascade",
                        name.span,
                        format!("`{}` stands twice in the cascade", name.value),
                    )
                    .related(first.span, "first here"),
                );
            } else if declared.iter().all(|n| n.value != name.value) {
                self.unknown("service", name, declared.iter().map(|n| n.value.as_str()));
            }
            seen.push(name);
        }
        for name in declared {
            if cascade.names.iter().all(|n| n.value != name.value) {
                self.report(
                    Diagnostic::error(
                        "not-in-cascade",
                        name.span,
                        format!("service `{}` is not in the cascade", name.value),
                    )
                    .related(cascade.span, "the cascade names every service once"),
                );
            }
        }
        let place = |s: &Service| cascade.names.iter().position(|n| n.value == s.name);
        let mut ordered = services;
        ordered.sort_by_key(|s| place(s).unwrap_or(usize::MAX));
        for (i, service) in ordered.iter_mut().enumerate() {
            service.index = ServiceIndex(i);
        }
        ordered
    }
}
