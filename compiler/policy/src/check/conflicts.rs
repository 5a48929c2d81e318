//! What no clause shows by itself: services that claim the same packets, addresses that are another's,
//! declarations that nothing uses. What rules of one filter are to each other is in `rules`.

use std::net::IpAddr;

use signalbox_proofs::{Bdds, Cube, PacketSets, Set, Ternary};

use super::Checker;
use super::witness::{describe, wishes};
use crate::diagnostic::Diagnostic;
use crate::model::{Balance, Criteria, Network, Policy, Service, ServiceKind, Span, address_bits};

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

    /// A packet of both unions that can come in, in words.
    pub fn overlap(&self, one: &[Cube], two: &[Cube]) -> Option<String> {
        let meet = one
            .iter()
            .any(|a| two.iter().any(|b| a.intersect(b).is_some()));
        if !meet {
            return None;
        }
        self.in_both(&self.sets.union_of(one), &self.sets.union_of(two))
    }

    /// A packet that can come in and is of the first union only, in words.
    pub fn left_out(&self, one: &[Cube], two: &[Cube]) -> Option<String> {
        let (one, two) = (self.sets.union_of(one), self.sets.union_of(two));
        self.in_both(&one, &self.sets.complement(&two))
    }
}

impl Checker<'_> {
    pub(super) fn conflicts(&mut self, policy: &Policy) {
        if policy.network.ports.is_empty() {
            return;
        }
        if self.few_addresses(policy) {
            self.host_routes(policy);
        }
        let proofs = Proofs::new(policy);
        for service in &policy.services {
            match &service.kind {
                ServiceKind::Filter(filter) => self.filter_rules(&proofs, filter),
                ServiceKind::Balance(balance) => {
                    for address in service.addresses() {
                        let range = (address, address);
                        self.own_addresses(policy, service, balance.criteria.span, range);
                    }
                }
                ServiceKind::Nat(nat) => self.nat_by_itself(&proofs, policy, service, nat),
                ServiceKind::Gate(gate) => self.gate_in_place(&proofs, policy, service, gate),
                ServiceKind::Observe(_) => {}
            }
        }
        for (i, later) in policy.services.iter().enumerate() {
            for earlier in policy.services.iter().take(i) {
                match (&earlier.kind, &later.kind) {
                    (ServiceKind::Balance(one), ServiceKind::Balance(two)) => {
                        self.balances(&proofs, policy, (earlier, one), (later, two));
                    }
                    (ServiceKind::Nat(_), ServiceKind::Nat(_) | ServiceKind::Balance(_))
                    | (ServiceKind::Balance(_), ServiceKind::Nat(_)) => {
                        self.with_nat(&proofs, policy, earlier, later);
                    }
                    _ => {}
                }
            }
        }
        self.divisions(&proofs, policy);
        let first_translating = policy.services.iter().find(|s| s.translates());
        if let Some(above) = first_translating {
            for below in policy.services.iter().filter(|s| s.index > above.index) {
                let kind = match below.kind {
                    ServiceKind::Filter(_) => "filter",
                    ServiceKind::Observe(_) => "observe",
                    ServiceKind::Balance(_) | ServiceKind::Gate(_) | ServiceKind::Nat(_) => {
                        continue;
                    }
                };
                self.report(
                    Diagnostic::warning(
                        "below-translation",
                        below.span,
                        format!(
                            "{kind} `{}` stands below `{}`, which translates",
                            below.name, above.name
                        ),
                    )
                    .label(
                        "requests come here translated, replies as they looked before translation",
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

    /// A service's addresses are neither the switch's nor anybody else's who is known.
    pub(super) fn own_addresses(
        &mut self,
        policy: &Policy,
        service: &Service,
        at: Span,
        (first, last): (IpAddr, IpAddr),
    ) {
        let network = &policy.network;
        let within = |ip: IpAddr| {
            ip.is_ipv4() == first.is_ipv4()
                && (address_bits(first)..=address_bits(last)).contains(&address_bits(ip))
        };
        let subnets = network.ports.iter().flat_map(|p| &p.addresses);
        let edges = subnets.flat_map(|s| [s.network(), s.broadcast()]);
        for edge in edges.filter(|e| within(*e)) {
            if self.reserved_address(network, at, edge) {
                return;
            }
        }
        for port in &network.ports {
            if let Some(own) = port.addresses.iter().map(|a| a.addr()).find(|a| within(*a)) {
                self.report(
                    Diagnostic::error(
                        "own-address",
                        at,
                        format!("`{own}` is the switch's own address on `{}`", port.name),
                    )
                    .related(port.span, "declared here")
                    .help("give the service an address of its own"),
                );
            }
        }
        for pool in &policy.pools {
            if let Some(server) = pool.servers.iter().find(|s| within(s.address)) {
                self.report(
                    Diagnostic::error(
                        "service-is-server",
                        at,
                        format!(
                            "`{}` is the address of `{}` and of a server",
                            server.address, service.name
                        ),
                    )
                    .related(server.span, "the server"),
                );
            }
        }
        let neighbours = network
            .neighbours
            .iter()
            .map(|n| (n.address, n.span, "neighbour"));
        let routers = network.routes.iter().map(|r| (r.via, r.span, "next hop"));
        if let Some((ip, span, what)) = neighbours.chain(routers).find(|(ip, ..)| within(*ip)) {
            self.report(
                Diagnostic::error(
                    "own-address",
                    at,
                    format!(
                        "`{ip}` is the address of `{}` and of a {what}",
                        service.name
                    ),
                )
                .related(span, format!("the {what}")),
            );
        }
    }

    /// Two balance services: neither claims the other's packets, nor the other's replies.
    fn balances(
        &mut self,
        proofs: &Proofs<'_>,
        policy: &Policy,
        (first, one): (&Service, &Balance),
        (second, two): (&Service, &Balance),
    ) {
        self.same_packets(proofs, (first, &one.criteria), (second, &two.criteria));
        // With direct return the switch has no part in a reply.
        if !first.translates() || !second.translates() {
            return;
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

    /// Reports packets that two services of one purpose match.
    pub(super) fn same_packets(
        &mut self,
        proofs: &Proofs<'_>,
        (first, one): (&Service, &Criteria),
        (second, two): (&Service, &Criteria),
    ) {
        if let Some(packet) = proofs.overlap(&one.cubes, &two.cubes) {
            self.report(
                Diagnostic::error(
                    "same-packets",
                    two.span,
                    format!(
                        "`{}` and `{}` claim the same packets",
                        first.name, second.name
                    ),
                )
                .related(one.span, format!("`{}` matches them too", first.name))
                .note(format!("both match {packet}"))
                .help("take the overlap out of one, with `and not …`"),
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
