//! What nat services are to the rest of a policy: whose their addresses are, and that no two services
//! claim one outside tuple or one server's replies.

use signalbox_proofs::{Cube, Ternary, prefix_mask};

use super::Checker;
use super::conflicts::Proofs;
use crate::diagnostic::Diagnostic;
use crate::model::{
    Criteria, Family, MAX_ADDRESSES, Nat, NatSource, Policy, Service, ServiceKind, Span,
    address_bits,
};
use crate::tree::Item;

/// By what a service knows packets that come back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// By a server's address: balance, and nat with a new destination.
    BySource,
    /// By an outside tuple: nat with a new source.
    ByDestination,
}

impl Checker<'_> {
    /// Whether the services stand for no more addresses than the agent can answer for; reports if not.
    pub(super) fn few_addresses(&mut self, policy: &Policy) -> bool {
        let mut count = 0u128;
        for service in &policy.services {
            let ServiceKind::Nat(nat) = &service.kind else {
                continue;
            };
            for (first, last) in nat.outside_ranges() {
                count += address_bits(last) - address_bits(first) + 1;
            }
            if count > MAX_ADDRESSES as u128 {
                let at = self.clause_of(service, &["source", "one-to-one"]);
                return self.countable(at, count);
            }
        }
        true
    }

    /// Where one of these clauses of a service stands first; else its name.
    fn clause_of(&self, service: &Service, keywords: &[&str]) -> Span {
        let clauses = self.items().iter().filter_map(|i| match i {
            Item::Service(item) if item.name.value == service.name => Some(&item.clauses),
            _ => None,
        });
        let mut clauses = clauses.flatten();
        let found = clauses.find(|c| keywords.contains(&c.keyword.value.as_str()));
        found.map_or(service.span, |c| c.span)
    }

    /// What is wrong with a nat service whatever the others are.
    pub(super) fn nat_by_itself(
        &mut self,
        proofs: &Proofs<'_>,
        policy: &Policy,
        service: &Service,
        nat: &Nat,
    ) {
        let at = self.clause_of(service, &["source", "one-to-one"]);
        for range in nat.outside_ranges() {
            self.own_addresses(policy, service, at, range);
        }
        for address in &nat.destinations {
            self.own_addresses(policy, service, nat.criteria.span, (*address, *address));
        }
        if let Some(NatSource::OneToOne { pairs }) = &nat.source {
            let inside: Vec<Cube> = pairs
                .iter()
                .map(|(inside, _)| {
                    let family = Family::of(inside.addr());
                    let mask = prefix_mask(family.bits(), inside.prefix_len().into());
                    Cube {
                        src: Ternary::<u128>::masked(address_bits(inside.network()), mask),
                        ..Cube::all(family)
                    }
                })
                .collect();
            if let Some(packet) = proofs.left_out(&nat.criteria.cubes, &inside) {
                let names: Vec<String> = pairs.iter().map(|(i, _)| i.to_string()).collect();
                let list = match names.as_slice() {
                    [one] => one.clone(),
                    _ => format!("{{ {} }}", names.join(", ")),
                };
                self.report(
                    Diagnostic::error(
                        "no-pair",
                        nat.criteria.span,
                        "this matches sources that have no outside address",
                    )
                    .related(at, "the pairs")
                    .note(format!("one such packet is {packet}"))
                    .help(format!("narrow it: `ip.src in {list}`")),
                );
            }
        }
    }

    /// Two services of which one or both are nat, in the order of the cascade.
    pub(super) fn with_nat(
        &mut self,
        proofs: &Proofs<'_>,
        policy: &Policy,
        first: &Service,
        second: &Service,
    ) {
        let (Some(one), Some(two)) = (criteria(first), criteria(second)) else {
            return;
        };
        let shares = |told| tells(first).contains(&told) && tells(second).contains(&told);
        let purpose = [Told::BySource, Told::ByDestination]
            .into_iter()
            .any(shares)
            || (gives_destination(first) && gives_destination(second));
        if purpose {
            self.same_packets(proofs, (first, one), (second, two));
            let replies = proofs.overlap(&comes_back(policy, first), &comes_back(policy, second));
            if let Some(packet) = replies {
                self.claimed_twice(first, second, &packet, shares(Told::ByDestination));
            }
        }
        for (source, other) in [(first, second), (second, first)] {
            self.tuple_of_another(proofs, policy, source, other);
        }
    }

    fn claimed_twice(&mut self, first: &Service, second: &Service, packet: &str, tuples: bool) {
        let keywords: &[&str] = if tuples {
            &["source", "one-to-one"]
        } else {
            &["destination", "pick"]
        };
        let (here, there) = (
            self.clause_of(second, keywords),
            self.clause_of(first, keywords),
        );
        let (what, help) = if tuples {
            (
                "have outside addresses and ports in common",
                "give each its own addresses, or its own `ports` of them",
            )
        } else {
            (
                "would both know this server's packets for answers",
                "let the server listen on a port for each service",
            )
        };
        self.report(
            Diagnostic::error(
                "same-tuples",
                here,
                format!("`{}` and `{}` {what}", first.name, second.name),
            )
            .related(there, format!("of `{}`", first.name))
            .note(format!("both would take {packet}"))
            .help(help),
        );
    }

    /// An outside tuple that is another service's address and port.
    fn tuple_of_another(
        &mut self,
        proofs: &Proofs<'_>,
        policy: &Policy,
        source: &Service,
        other: &Service,
    ) {
        let ServiceKind::Nat(nat) = &source.kind else {
            return;
        };
        let stands_for: Vec<Cube> = match &other.kind {
            ServiceKind::Balance(balance) => balance.criteria.cubes.clone(),
            ServiceKind::Nat(to) => {
                let named = to.destinations.iter().flat_map(|address| {
                    let family = Family::of(*address);
                    let host = Cube {
                        dst: Ternary::<u128>::masked(address_bits(*address), family.full_mask()),
                        ..Cube::all(family)
                    };
                    let cubes = to.criteria.cubes.iter();
                    cubes.filter_map(move |c| c.intersect(&host))
                });
                named.collect()
            }
            ServiceKind::Filter(_) | ServiceKind::Gate(_) | ServiceKind::Observe(_) => return,
        };
        if nat.source.is_none() {
            return;
        }
        let tuples = comes_back(policy, source);
        if let Some(packet) = proofs.overlap(&tuples, &stands_for) {
            let at = self.clause_of(source, &["source", "one-to-one"]);
            self.report(
                Diagnostic::error(
                    "same-tuples",
                    at,
                    format!(
                        "`{}` gives out what `{}` stands for",
                        source.name, other.name
                    ),
                )
                .related(
                    criteria(other).map_or(other.span, |c| c.span),
                    format!("`{}` matches it", other.name),
                )
                .note(format!("both would take {packet}"))
                .help("leave those ports out of `source`, or give it another address"),
            );
        }
    }
}

fn criteria(service: &Service) -> Option<&Criteria> {
    match &service.kind {
        ServiceKind::Balance(balance) => Some(&balance.criteria),
        ServiceKind::Nat(nat) => Some(&nat.criteria),
        ServiceKind::Filter(_) | ServiceKind::Gate(_) | ServiceKind::Observe(_) => None,
    }
}

fn gives_destination(service: &Service) -> bool {
    match &service.kind {
        ServiceKind::Balance(_) => true,
        ServiceKind::Nat(nat) => nat.destination.is_some(),
        ServiceKind::Filter(_) | ServiceKind::Gate(_) | ServiceKind::Observe(_) => false,
    }
}

fn tells(service: &Service) -> Vec<Told> {
    match &service.kind {
        ServiceKind::Balance(_) if service.translates() => vec![Told::BySource],
        ServiceKind::Nat(nat) => {
            let to = nat.destination.map(|_| Told::BySource);
            let from = nat.source.as_ref().map(|_| Told::ByDestination);
            to.into_iter().chain(from).collect()
        }
        _ => Vec::new(),
    }
}

fn comes_back(policy: &Policy, service: &Service) -> Vec<Cube> {
    match &service.kind {
        ServiceKind::Balance(balance) if service.translates() => policy
            .pool(balance.pool)
            .map_or_else(Vec::new, |pool| balance.reply_cubes(pool)),
        ServiceKind::Nat(nat) => nat.reply_cubes(),
        _ => Vec::new(),
    }
}
