//! Balance services: what they match, the addresses they stand for, how they choose and keep.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Checker;
use super::clauses::{Bounded, LONGEST, Limits, SHORTEST, Seen};
use super::criteria::Scope;
use super::network::usable_unicast;
use crate::diagnostic::Diagnostic;
use crate::model::{
    Balance, Criteria, Cube, Destination, Fallback, Family, HashBy, Keep, MAX_CUBES, Network,
    OnDeath, Pick, Pool, PoolIndex, ServiceKind, Span, Way,
};
use crate::tree::{ClauseBody, Expr, Name, ServiceItem};

const TCP: u8 = 6;
const WAYS: [(&str, Way); 4] = [
    ("translate", Way::Translate),
    ("mac", Way::Mac),
    ("ipip", Way::Ipip),
    ("gue", Way::Gue),
];
const ON_DEATH: [(&str, OnDeath); 3] = [
    ("keep", OnDeath::Keep),
    ("drop", OnDeath::Drop),
    ("reset", OnDeath::Reset),
];

impl Checker<'_> {
    pub(super) fn balance(
        &mut self,
        scope: Scope<'_>,
        pools: &[Pool],
        item: &ServiceItem,
    ) -> Option<ServiceKind> {
        let mut matches: Vec<&Expr> = Vec::new();
        let mut picked: Option<(Option<PoolIndex>, Option<Pick>)> = None;
        let mut keep = Keep::default();
        let mut half_open: Option<Span> = None;
        let mut fallback = Fallback::Drop;
        let (mut stick, mut slow_start) = (None, Duration::ZERO);
        let (mut way, mut on_death) = (Way::default(), OnDeath::default());
        let mut limits = Limits::default();
        let mut seen = Seen::default();
        for clause in &item.clauses {
            self.once(&mut seen, clause);
            match (&clause.body, clause.keyword.value.as_str()) {
                (ClauseBody::Match(expr), _) => matches.push(expr),
                (
                    ClauseBody::Pick {
                        pool,
                        method,
                        argument,
                    },
                    _,
                ) => {
                    let found = self.pool_named(pools, pool);
                    picked = Some((found, self.pick(method, argument.as_ref())));
                }
                (ClauseBody::Keep(times), _) => {
                    let said = self.times(times, ["idle", "closed", "half-open"]);
                    let [idle, closed, open] = said;
                    keep.idle = idle.unwrap_or(keep.idle);
                    keep.closed = closed.unwrap_or(keep.closed);
                    keep.half_open = open.unwrap_or(keep.half_open);
                    half_open = open.map(|_| clause.span);
                }
                (ClauseBody::Fallback(word), _) => fallback = self.fallback(word),
                (ClauseBody::Time(time), "stick") => {
                    stick = Some(self.time(time.span, time.value, SHORTEST, LONGEST));
                }
                (ClauseBody::Time(time), "slow-start") => {
                    slow_start = self.time(time.span, time.value, Duration::ZERO, LONGEST);
                }
                (ClauseBody::Choice(word), "way") => {
                    way = self.choice("a way to a server", word, &WAYS).unwrap_or(way);
                }
                (ClauseBody::Choice(word), "on-death") => {
                    let what = "what becomes of a dead server's flows";
                    on_death = self.choice(what, word, &ON_DEATH).unwrap_or(on_death);
                }
                (ClauseBody::Limits(list), _) => self.limits(list, Bounded::HalfOpen, &mut limits),
                _ => self.misplaced(
                    clause,
                    "balance",
                    "`match`, `pick`, `keep`, `stick`, `slow-start`, `way`, `on-death`, `limit` or \
                     `fallback`",
                ),
            }
        }
        let unread = !self.parse.errors.is_empty();
        if matches.is_empty() && !unread {
            self.missing(
                "balance",
                &item.name,
                "`match`",
                "match tcp.dst 203.0.113.80:443",
            );
        }
        if picked.is_none() && !unread {
            self.missing(
                "balance",
                &item.name,
                "`pick`",
                "pick from @web by maglev(flow)",
            );
        }
        let criteria = self.criteria(scope, &matches);
        let (pool, pick) = picked?;
        let (criteria, pool, pick) = (criteria?, pool?, pick?);
        let servers = pools.get(pool.0)?;
        let family = Family::of(servers.servers.first()?.address);
        let destinations = self.destinations(&criteria, family)?;
        let balance = Balance {
            criteria,
            destinations,
            pool,
            pick,
            keep,
            fallback,
            stick,
            slow_start,
            way,
            on_death,
            bounds: limits.bounds,
        };
        if let Some(at) = seen.get("way") {
            let bounded = [half_open, limits.half_open()].into_iter().flatten();
            self.dispatch(scope.network, &balance, servers, at, bounded);
        }
        if let (OnDeath::Reset, Some(at)) = (on_death, seen.get("on-death"))
            && balance.destinations.iter().all(|d| d.proto != TCP)
        {
            self.report(
                Diagnostic::error("no-tcp", at, "only TCP connections can be reset")
                    .related(balance.criteria.span, "matches UDP only")
                    .help("write `on-death drop` or `on-death keep`"),
            );
        }
        Some(ServiceKind::Balance(balance))
    }

    /// What holds only of a service that leaves its packets as they are.
    fn dispatch(
        &mut self,
        network: &Network,
        balance: &Balance,
        pool: &Pool,
        at: Span,
        half_open: impl Iterator<Item = Span>,
    ) {
        if balance.way == Way::Translate {
            return;
        }
        for span in half_open {
            self.report(
                Diagnostic::error(
                    "no-half-open",
                    span,
                    "with direct return the switch does not see whether a server has answered",
                )
                .related(at, "servers answer clients directly")
                .help("leave `half-open` out; limit the rate instead, as `limit 1000/s`"),
            );
        }
        let mut ports: Vec<u16> = balance.destinations.iter().map(|d| d.port).collect();
        ports.sort_unstable();
        ports.dedup();
        if let [first, second, ..] = ports.as_slice() {
            self.report(
                Diagnostic::error(
                    "port-translation",
                    balance.criteria.span,
                    "this matches several ports, and a server has one",
                )
                .label(format!("matches {first} and {second}"))
                .related(at, "leaves the port as it is")
                .help("make a service and a pool for each port, or use `way translate`"),
            );
            return;
        }
        for server in &pool.servers {
            if let Some(port) = ports.first().filter(|p| **p != server.port) {
                self.report(
                    Diagnostic::error(
                        "port-translation",
                        at,
                        format!(
                            "packets keep port {port}, and server `{}` has port {}",
                            server.name, server.port
                        ),
                    )
                    .related(server.span, "the server")
                    .help(format!(
                        "write `{}` in the pool, or use `way translate`",
                        std::net::SocketAddr::new(server.address, *port)
                    )),
                );
            }
            if balance.way == Way::Mac && network.port_of(server.address).is_none() {
                self.report(
                    Diagnostic::error(
                        "unreachable",
                        at,
                        format!("server `{}` is behind a router", server.name),
                    )
                    .label("`mac` reaches only servers in connected subnets")
                    .related(server.span, "the server")
                    .help("use `way ipip` or `way gue`"),
                );
            }
        }
    }

    /// The pool of that name.
    pub(super) fn pool_named(&mut self, pools: &[Pool], name: &Name) -> Option<PoolIndex> {
        let found = pools
            .iter()
            .position(|p| p.name == name.value)
            .map(PoolIndex);
        match found {
            Some(_) => {
                self.used_pools.insert(name.value.clone());
            }
            None => self.unknown("pool", name, pools.iter().map(|p| p.name.as_str())),
        }
        found
    }

    fn pick(&mut self, method: &Name, argument: Option<&Name>) -> Option<Pick> {
        let pick = match (method.value.as_str(), argument) {
            ("round-robin", None) => Pick::RoundRobin,
            ("weighted", None) => Pick::Weighted,
            ("least-connections", None) => Pick::LeastConnections,
            ("round-robin" | "weighted" | "least-connections", Some(argument)) => {
                self.error(
                    "no-value",
                    argument.span,
                    format!("`{}` takes no argument", method.value),
                );
                return None;
            }
            ("maglev", None) => {
                self.report(
                    Diagnostic::error(
                        "missing-argument",
                        method.span,
                        "it is not said what `maglev` hashes",
                    )
                    .help("write `maglev(flow)` or `maglev(source)`"),
                );
                return None;
            }
            ("maglev", Some(by)) => match by.value.as_str() {
                "flow" => Pick::Maglev { by: HashBy::Flow },
                "source" => Pick::Maglev { by: HashBy::Source },
                _ => {
                    self.unknown_word("what Maglev can hash", by, &["flow", "source"]);
                    return None;
                }
            },
            ("sticky", _) => {
                self.report(
                    Diagnostic::error(
                        "unknown-word",
                        method.span,
                        "stickiness is a clause of its own",
                    )
                    .help("pick by another method, and add `stick source 10m`"),
                );
                return None;
            }
            _ => {
                self.unknown_word(
                    "a way to pick",
                    method,
                    &["round-robin", "weighted", "least-connections", "maglev"],
                );
                return None;
            }
        };
        Some(pick)
    }

    /// The addresses and ports a service stands for; reports a condition that leaves them open.
    fn destinations(&mut self, criteria: &Criteria, family: Family) -> Option<Vec<Destination>> {
        let mut out = BTreeSet::new();
        for cube in &criteria.cubes {
            if cube.family != family {
                self.report(
                    Diagnostic::error(
                        "family",
                        criteria.span,
                        format!(
                            "this matches {} packets, and the pool's servers are {family}",
                            cube.family
                        ),
                    )
                    .help("a balance service and its pool are of one family"),
                );
                return None;
            }
            let Some(found) = destinations_of(cube) else {
                self.report(
                    Diagnostic::error(
                        "open-destination",
                        criteria.span,
                        "a balance service matches exact destination addresses and ports",
                    )
                    .label("leaves address, protocol or port open")
                    .help("write `tcp.dst 203.0.113.80:443`; several with `or` or `{ …, … }`"),
                );
                return None;
            };
            if !cube.tcp_flags.is_any() {
                self.flags_in_match(criteria.span, "a balance");
                return None;
            }
            let bad = found
                .iter()
                .find(|d| !usable_unicast(d.address) || d.port == 0);
            if let Some(bad) = bad {
                self.error(
                    "bad-address",
                    criteria.span,
                    format!(
                        "`{}` cannot be a service's address",
                        std::net::SocketAddr::new(bad.address, bad.port)
                    ),
                );
                return None;
            }
            out.extend(found);
            if out.len() > MAX_CUBES {
                self.too_many_destinations(criteria.span);
                return None;
            }
        }
        Some(out.into_iter().collect())
    }

    fn too_many_destinations(&mut self, span: Span) {
        self.report(
            Diagnostic::error(
                "too-many-entries",
                span,
                "this service stands for too many addresses and ports",
            )
            .label(format!("expected at most {MAX_CUBES} of them"))
            .help("divide them among several services"),
        );
    }
}

/// The addresses and ports of a box; `None` if they are open. Neighbours may have been made one box, so
/// a few open bits are spelled out.
fn destinations_of(cube: &Cube) -> Option<Vec<Destination>> {
    let open_bits = cube.family.full_mask() & !cube.dst.mask;
    let open_port = !cube.dst_port.mask;
    let count = open_bits.count_ones() + open_port.count_ones();
    let known = cube.proto.mask == u8::MAX && matches!(cube.proto.value, 6 | 17);
    if !known || count > MAX_CUBES.ilog2() + 1 {
        return None;
    }
    let mut out = Vec::with_capacity(1 << count);
    for bits in subsets(open_bits) {
        for port in subsets(open_port.into()) {
            out.push(Destination {
                address: cube.family.address(cube.dst.value | bits),
                proto: cube.proto.value,
                port: cube.dst_port.value | port as u16,
            });
        }
    }
    Some(out)
}

/// All numbers with no other bits than those, ascending.
fn subsets(bits: u128) -> impl Iterator<Item = u128> {
    let next = move |last: &u128| Some((last | !bits).wrapping_add(1) & bits).filter(|n| *n != 0);
    std::iter::successors(Some(0), next)
}
