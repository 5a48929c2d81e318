//! What no clause shows by itself: services that claim the same packets, addresses that are another's,
//! declarations that nothing uses. What rules of one filter are to each other is in `rules`.

use signalbox_proofs::{Bdds, Cube, PacketSets, Set, Ternary};

use super::Checker;
use super::witness::{describe, wishes};
use crate::diagnostic::Diagnostic;
use crate::model::{Balance, Network, Policy, Service, ServiceKind, address_bits};

/// The packets that can come in, and how to show one of them.
pub(super) struct Proofs<'p> {
    pub sets: Bdds,
    pub possible: Set,
    network: &'p Network,
}

impl<'p> Proofs<'p> {
    fn new(policy: &'p Policy) -> Proofs<'p> {
        let sets = Bdds::new(policy.families.list());
        let ports: Vec<Cube> = policy
            .network
            .ports
            .iter()
            .flat_map(|p| {
                let in_port = Ternary::<u16>::masked(p.number, 0x1ff);
                policy.families.list().iter().map(move |f| Cube {
                    in_port,
                    ..Cube::all(*f)
                })
            })
            .collect();
        let possible = sets.intersect(&sets.feasible(), &sets.union_of(&ports));
        Proofs {
            sets,
            possible,
            network: &policy.network,
        }
    }

    /// A packet of both that can come in, in words.
    pub fn in_both(&self, a: &Set, b: &Set) -> Option<String> {
        let both = self
            .sets
            .intersect(&self.sets.intersect(a, b), &self.possible);
        let packet = self.sets.witness_like(&both, &wishes(self.network))?;
        Some(describe(&packet, self.network))
    }
}

impl Checker<'_> {
    pub(super) fn conflicts(&mut self, policy: &Policy) {
        if policy.network.ports.is_empty() {
            return;
        }
        self.host_routes(policy);
        let proofs = Proofs::new(policy);
        for service in &policy.services {
            match &service.kind {
                ServiceKind::Filter(filter) => self.filter_rules(&proofs, filter),
                ServiceKind::Balance(balance) => self.own_addresses(policy, service, balance),
                ServiceKind::Nat(_) | ServiceKind::Observe(_) => {}
            }
        }
        let balances: Vec<(&Service, &Balance)> = policy
            .services
            .iter()
            .filter_map(|s| match &s.kind {
                ServiceKind::Balance(b) => Some((s, b)),
                ServiceKind::Filter(_) | ServiceKind::Nat(_) | ServiceKind::Observe(_) => None,
            })
            .collect();
        for (i, later) in balances.iter().enumerate() {
            for earlier in balances.iter().take(i) {
                self.same_packets(&proofs, policy, *earlier, *later);
            }
        }
        let first_translating = policy.services.iter().find(|s| s.translates());
        if let Some(above) = first_translating {
            for below in policy
                .services
                .iter()
                .filter(|s| s.index > above.index && !s.translates())
            {
                self.report(
                    Diagnostic::warning(
                        "below-translation",
                        below.span,
                        format!(
                            "filter `{}` stands below `{}`, which translates",
                            below.name, above.name
                        ),
                    )
                    .label(
                        "requests come here with the server's address, replies with the service's",
                    )
                    .related(above.span, "translates")
                    .help(format!(
                        "put `{}` before `{}` in the cascade",
                        below.name, above.name
                    )),
                );
            }
        }
    }

    /// A route to one address would have the same key as that address's own entry.
    fn host_routes(&mut self, policy: &Policy) {
        let owned = policy.owned_addresses();
        for route in &policy.network.routes {
            if route.prefix.prefix_len() < route.prefix.max_prefix_len() {
                continue;
            }
            let ip = route.prefix.addr();
            let neighbour = policy.network.neighbours.iter().find(|n| n.address == ip);
            let owner = match neighbour {
                Some(_) => "a neighbour's",
                None if owned.contains(&ip) => "the policy's own",
                None => continue,
            };
            self.report(
                Diagnostic::error(
                    "route-to-owned",
                    route.span,
                    format!("this routes `{ip}`, which is {owner} address"),
                )
                .help("leave the route out"),
            );
        }
    }

    /// A service's address is neither the switch's nor a server's, nor out of reach of its port.
    fn own_addresses(&mut self, policy: &Policy, service: &Service, balance: &Balance) {
        let mut told = Vec::new();
        for destination in &balance.destinations {
            let ip = destination.address;
            if told.contains(&ip) {
                continue;
            }
            told.push(ip);
            if self.reserved_address(&policy.network, balance.criteria.span, ip) {
                continue;
            }
            let port = policy
                .network
                .ports
                .iter()
                .find(|p| p.addresses.iter().any(|a| a.addr() == ip));
            if let Some(port) = port {
                self.report(
                    Diagnostic::error(
                        "own-address",
                        balance.criteria.span,
                        format!("`{ip}` is the switch's own address on `{}`", port.name),
                    )
                    .related(port.span, "declared here")
                    .help("give the service an address of its own"),
                );
            }
            for pool in &policy.pools {
                if let Some(server) = pool.servers.iter().find(|s| s.address == ip) {
                    self.report(
                        Diagnostic::error(
                            "service-is-server",
                            balance.criteria.span,
                            format!(
                                "`{ip}` is the address of `{}` and of a server",
                                service.name
                            ),
                        )
                        .related(server.span, "the server"),
                    );
                }
            }
            if let Some(neighbour) = policy.network.neighbours.iter().find(|n| n.address == ip) {
                self.report(
                    Diagnostic::error(
                        "own-address",
                        balance.criteria.span,
                        format!(
                            "`{ip}` is the address of `{}` and of a neighbour",
                            service.name
                        ),
                    )
                    .related(neighbour.span, "the neighbour"),
                );
            }
        }
    }

    fn same_packets(
        &mut self,
        proofs: &Proofs<'_>,
        policy: &Policy,
        (first, one): (&Service, &Balance),
        (second, two): (&Service, &Balance),
    ) {
        let overlap = one
            .criteria
            .cubes
            .iter()
            .any(|a| two.criteria.cubes.iter().any(|b| a.intersect(b).is_some()));
        let witness = if overlap {
            proofs.in_both(
                &proofs.sets.union_of(&one.criteria.cubes),
                &proofs.sets.union_of(&two.criteria.cubes),
            )
        } else {
            None
        };
        if let Some(packet) = witness {
            self.report(
                Diagnostic::error(
                    "same-packets",
                    two.criteria.span,
                    format!(
                        "`{}` and `{}` claim the same packets",
                        first.name, second.name
                    ),
                )
                .related(
                    one.criteria.span,
                    format!("`{}` matches them too", first.name),
                )
                .note(format!("both match {packet}"))
                .help("take the overlap out of one, with `and not …`"),
            );
        }
        // A reply is told by its source alone, so no two services may expect it of one server.
        let protos = |b: &Balance| b.destinations.iter().map(|d| d.proto).collect::<Vec<_>>();
        if !protos(one).iter().any(|p| protos(two).contains(p)) {
            return;
        }
        let (Some(a), Some(b)) = (policy.pool(one.pool), policy.pool(two.pool)) else {
            return;
        };
        let shared = a.servers.iter().find_map(|s| {
            b.servers
                .iter()
                .find(|t| (address_bits(t.address), t.port) == (address_bits(s.address), s.port))
                .map(|t| (s, t))
        });
        if let Some((server, again)) = shared {
            self.report(
                Diagnostic::error(
                    "shared-server",
                    second.span,
                    format!(
                        "`{}` and `{}` both pick `{}`, so its replies could belong to either",
                        first.name,
                        second.name,
                        std::net::SocketAddr::new(server.address, server.port)
                    ),
                )
                .related(again.span, "the server")
                .help("let the server listen on a port for each service, or let one service match both addresses"),
            );
        }
    }

    /// Warns of declarations that nothing uses.
    pub(super) fn unused(&mut self, policy: &Policy) {
        let pools = policy
            .pools
            .iter()
            .map(|p| ("pool", &p.name, p.span, &self.used_pools));
        let sets = policy
            .sets
            .iter()
            .map(|s| ("set", &s.name, s.span, &self.used_sets));
        let found: Vec<Diagnostic> = pools
            .chain(sets)
            .filter(|(_, name, _, used)| !used.contains(name.as_str()))
            .map(|(what, name, span, _)| {
                Diagnostic::warning("unused", span, format!("{what} `{name}` is never used"))
            })
            .collect();
        self.diagnostics.extend(found);
    }
}
