//! A gate among its own clauses and the other services: whether its packets get to it, what leads past it,
//! and what a flood of SYNs meets before it.

use std::net::IpAddr;

use ipnet::IpNet;
use signalbox_proofs::{Cube, Family, PacketSets, Set, Ternary, prefix_mask};

use super::Checker;
use super::conflicts::Proofs;
use crate::diagnostic::Diagnostic;
use crate::model::{
    Allow, Balance, Criteria, Gate, Nat, NatSource, Observe, Policy, Service, ServiceKind, Way,
    address_bits,
};

const TCP: u8 = 6;

impl Checker<'_> {
    /// What is wrong with a gate by itself and in its cascade.
    pub(super) fn gate_in_place(
        &mut self,
        proofs: &Proofs<'_>,
        policy: &Policy,
        service: &Service,
        gate: &Gate,
    ) {
        self.gate_addresses(policy, service, gate);
        self.redundant_allows(proofs, gate);
        for other in &policy.services {
            match &other.kind {
                ServiceKind::Balance(balance) => {
                    self.gate_and_balance(proofs, policy, (service, gate), (other, balance));
                }
                ServiceKind::Nat(nat) => {
                    self.gate_and_nat(proofs, policy, (service, gate), (other, nat));
                }
                ServiceKind::Observe(observe) => {
                    self.gate_and_observe(proofs, (service, gate), (other, observe));
                }
                ServiceKind::Filter(_) | ServiceKind::Gate(_) => {}
            }
        }
    }

    /// The addresses that it names are servers': not the switch's, and somewhere to go.
    fn gate_addresses(&mut self, policy: &Policy, service: &Service, gate: &Gate) {
        let named = gate.criteria.cubes.iter();
        let mut named: Vec<IpAddr> = named
            .filter(|c| c.dst.mask == c.family.full_mask())
            .map(|c| c.family.address(c.dst.value))
            .collect();
        named.sort_unstable();
        named.dedup();
        let network = &policy.network;
        for address in named {
            let mut ports = network.ports.iter();
            let own = ports.find(|p| p.addresses.iter().any(|a| a.addr() == address));
            if let Some(port) = own {
                self.report(
                    Diagnostic::error(
                        "own-address",
                        gate.criteria.span,
                        format!("`{address}` is the switch's own address on `{}`", port.name),
                    )
                    .related(port.span, "declared here")
                    .help("a gate stands before servers, or before a balance service's address"),
                );
                continue;
            }
            let served = policy.services.iter().any(|s| s.owns(address));
            if !served && network.next_hop(address).is_none() && !self.subnets_unknown {
                self.report(
                    Diagnostic::warning(
                        "unreachable",
                        gate.criteria.span,
                        format!(
                            "no route leads to `{address}`, which `{}` stands before",
                            service.name
                        ),
                    )
                    .help("give a port an address in its network, or add a `route`"),
                );
            }
        }
    }

    /// Warns of clauses that allow only what others do.
    fn redundant_allows(&mut self, proofs: &Proofs<'_>, gate: &Gate) {
        let mut left: Vec<(&Allow, Set)> = gate
            .allow
            .iter()
            .map(|a| (a, proofs.sets.union_of(&a.criteria.cubes)))
            .collect();
        for i in (0..left.len()).rev() {
            let Some((allow, set)) = left.get(i).cloned() else {
                continue;
            };
            // A clause of one time says nothing of another, but always is always.
            let others: Vec<&(&Allow, Set)> = left
                .iter()
                .filter(|(a, _)| a.span.start != allow.span.start)
                .filter(|(a, _)| a.when.is_none() || a.when == allow.when)
                .collect();
            let mut union = proofs.sets.empty();
            for (_, set) in &others {
                union = proofs.sets.union(&union, set);
            }
            let possible = proofs.sets.intersect(&set, &proofs.possible);
            if others.is_empty() || !proofs.sets.is_subset(&possible, &union) {
                continue;
            }
            let only = match others.as_slice() {
                [(one, _)] => Some(one.span),
                _ => None,
            };
            left.remove(i);
            let mut d = Diagnostic::warning("redundant", allow.span, "this clause changes nothing")
                .label("others allow all of these connections, at these times");
            if let Some(one) = only {
                d = d.related(one, "allows them");
            }
            self.report(d.help("leave it out"));
        }
    }

    fn gate_and_balance(
        &mut self,
        proofs: &Proofs<'_>,
        policy: &Policy,
        (service, gate): (&Service, &Gate),
        (other, balance): (&Service, &Balance),
    ) {
        let above = other.index < service.index;
        let shared = proofs.overlap(&balance.criteria.cubes, &gate.criteria.cubes);
        if balance.way != Way::Translate {
            if shared.is_none() {
                return;
            }
            self.report(
                Diagnostic::warning(
                    "direct-return",
                    service.span,
                    format!(
                        "servers of `{}` answer clients directly, and `{}` must see their packets",
                        other.name, service.name
                    ),
                )
                .related(other.span, "answers go another way")
                .help("use `way translate`, or route the servers' answers through the switch"),
            );
            if above {
                self.flood_before((service, gate), other);
            }
            return;
        }
        if above && let Some(packet) = shared {
            self.translated_before((service, gate), (other, &balance.criteria), &packet);
            return;
        }
        let servers = policy.pool(balance.pool).map_or(&[][..], |p| &p.servers);
        let to: Vec<Cube> = servers
            .iter()
            .map(|s| Cube {
                proto: Ternary::<u8>::exact(TCP),
                dst_port: Ternary::<u16>::exact(s.port),
                ..to_net(s.address.into())
            })
            .collect();
        let tcp = balance.destinations.iter().any(|d| d.proto == TCP);
        if tcp && proofs.overlap(&to, &gate.criteria.cubes).is_some() {
            if above {
                self.flood_before((service, gate), other);
            } else {
                self.leads_past(proofs, policy, (service, gate), (other, &balance.criteria));
            }
        }
    }

    fn gate_and_nat(
        &mut self,
        proofs: &Proofs<'_>,
        policy: &Policy,
        (service, gate): (&Service, &Gate),
        (other, nat): (&Service, &Nat),
    ) {
        let above = other.index < service.index;
        if let Some(NatSource::OneToOne { pairs }) = &nat.source {
            for (inside, outside) in pairs {
                let to = [to_net(*inside), to_net(*outside)];
                if let Some(packet) = proofs.overlap(&to, &gate.criteria.cubes) {
                    self.report(
                        Diagnostic::error(
                            "past-gate",
                            gate.criteria.span,
                            format!(
                                "connections to `{outside}` come in through `{}`, past `{}`",
                                other.name, service.name
                            ),
                        )
                        .related(other.span, "translates one to one")
                        .note(format!("it stands for the address of {packet}"))
                        .note("what comes to an outside address is translated before any gate sees it")
                        .help("leave the server out of `one-to-one`, and lead to it by a `destination` above the gate"),
                    );
                    return;
                }
            }
        }
        let shared = proofs.overlap(&nat.criteria.cubes, &gate.criteria.cubes);
        let Some(to) = &nat.destination else {
            if above && nat.source.is_some() && shared.is_some() {
                self.report(
                    Diagnostic::warning(
                        "translated-source",
                        service.span,
                        format!(
                            "`{}` stands below `{}`, which translates sources",
                            service.name, other.name
                        ),
                    )
                    .label("`allow` and limits per source meet outside addresses here")
                    .related(other.span, "translates")
                    .help(format!(
                        "put `{}` before `{}` in the cascade",
                        service.name, other.name
                    )),
                );
                self.flood_before((service, gate), other);
            }
            return;
        };
        if above && let Some(packet) = shared {
            self.translated_before((service, gate), (other, &nat.criteria), &packet);
            return;
        }
        let translated: Vec<Cube> = nat
            .criteria
            .cubes
            .iter()
            .map(|c| Cube {
                dst_port: to.port.map_or(c.dst_port, Ternary::<u16>::exact),
                src: Ternary::<u128>::ANY,
                proto: c.proto,
                kind: c.kind,
                ..to_net(to.address.into())
            })
            .collect();
        if proofs.overlap(&translated, &gate.criteria.cubes).is_some() {
            if above {
                self.flood_before((service, gate), other);
            } else {
                self.leads_past(proofs, policy, (service, gate), (other, &nat.criteria));
            }
        }
    }

    /// A gate's answer to every SYN is a packet that is counted, too.
    fn gate_and_observe(
        &mut self,
        proofs: &Proofs<'_>,
        (service, gate): (&Service, &Gate),
        (other, observe): (&Service, &Observe),
    ) {
        if !observe.per_flow {
            return;
        }
        let cubes = &observe.criteria.cubes;
        let above = other.index < service.index;
        let asked = above && proofs.overlap(cubes, &gate.criteria.cubes).is_some();
        let sets = &proofs.sets;
        let (counted, replies) = (sets.union_of(cubes), sets.union_of(&gate.reply_cubes()));
        // A server that spoke to itself would be on both sides.
        let to_others = sets.complement(&sets.union_of(&gate.criteria.cubes));
        let answers = proofs
            .in_both(&sets.intersect(&counted, &replies), &to_others)
            .is_some();
        if asked || answers {
            self.report(
                Diagnostic::warning(
                    "before-gate",
                    other.span,
                    format!(
                        "`{}` counts a flow for every SYN of a flood that `{}` answers",
                        other.name, service.name
                    ),
                )
                .label(match (asked, answers) {
                    (true, false) => "it stands above the gate",
                    (false, true) => "it matches the gate's answers",
                    _ => "it stands above the gate, and matches the gate's answers",
                })
                .related(service.span, "the gate")
                .help(format!(
                    "put it below `{}`, and match clients' packets only; or leave `per flow` out",
                    service.name
                )),
            );
        }
    }

    fn translated_before(
        &mut self,
        (service, gate): (&Service, &Gate),
        (other, criteria): (&Service, &Criteria),
        packet: &str,
    ) {
        self.report(
            Diagnostic::error(
                "past-gate",
                gate.criteria.span,
                format!(
                    "`{}` translates these packets before `{}` sees them",
                    other.name, service.name
                ),
            )
            .related(criteria.span, "matches them first")
            .note(format!("both match {packet}"))
            .help(format!(
                "put `{}` before `{}` in the cascade, or match what they become",
                service.name, other.name
            )),
        );
    }

    /// Warns of a service above a gate that keeps flows of what nobody has shown to be a client's.
    fn flood_before(&mut self, (service, gate): (&Service, &Gate), other: &Service) {
        self.report(
            Diagnostic::warning(
                "before-gate",
                other.span,
                format!(
                    "`{}` keeps a flow for every SYN of a flood, before `{}` has answered it",
                    other.name, service.name
                ),
            )
            .related(gate.criteria.span, "the gate is asked after it")
            .help(format!(
                "put `{}` before `{}` in the cascade, and match the addresses that clients know",
                service.name, other.name
            )),
        );
    }

    /// Warns of a service below a gate by which others get to the gate's servers.
    fn leads_past(
        &mut self,
        proofs: &Proofs<'_>,
        policy: &Policy,
        (service, gate): (&Service, &Gate),
        (other, criteria): (&Service, &Criteria),
    ) {
        let gates = policy.services.iter().take(other.index.0);
        let gated: Vec<Cube> = gates
            .filter_map(|s| match &s.kind {
                ServiceKind::Gate(gate) => Some(gate.criteria.cubes.iter().copied()),
                _ => None,
            })
            .flatten()
            .collect();
        let tcp: Vec<Cube> = criteria
            .cubes
            .iter()
            .filter_map(|c| {
                c.intersect(&Cube {
                    proto: Ternary::<u8>::exact(TCP),
                    ..Cube::all(c.family)
                })
            })
            .collect();
        if let Some(packet) = proofs.left_out(&tcp, &gated) {
            self.report(
                Diagnostic::warning(
                    "past-gate",
                    other.span,
                    format!(
                        "`{}` leads to a server behind `{}`, past the gate",
                        other.name, service.name
                    ),
                )
                .related(gate.criteria.span, "the gate")
                .note(format!("no gate matches {packet}"))
                .help(format!(
                    "match these packets in `{}`, too, or put `{}` above it",
                    service.name, other.name
                )),
            );
        }
    }
}

/// Packets to a network.
fn to_net(net: IpNet) -> Cube {
    let family = Family::of(net.addr());
    let mask = prefix_mask(family.bits(), net.prefix_len().into());
    Cube {
        dst: Ternary::<u128>::masked(address_bits(net.network()), mask),
        ..Cube::all(family)
    }
}
