//! Balance services: what they match, the addresses they stand for, how they choose and keep.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Checker;
use super::criteria::Scope;
use super::network::usable_unicast;
use crate::diagnostic::Diagnostic;
use crate::model::{
    Balance, Bounds, Criteria, Cube, Destination, Fallback, Family, HashBy, Keep, MAX_CUBES,
    OnDeath, Pick, Pool, PoolIndex, ServiceKind, Span, Way,
};
use crate::tree::{ClauseBody, Expr, Name, ServiceItem, Spanned};

const LONGEST: Duration = Duration::from_secs(24 * 3_600);

impl Checker<'_> {
    pub(super) fn balance(
        &mut self,
        scope: Scope<'_>,
        pools: &[Pool],
        item: &ServiceItem,
    ) -> Option<ServiceKind> {
        let mut matches: Vec<&Expr> = Vec::new();
        let mut picked: Option<(Option<PoolIndex>, Option<Pick>, Span)> = None;
        let mut keep: Option<(Keep, Span)> = None;
        let mut fallback: Option<(Fallback, Span)> = None;
        for clause in &item.clauses {
            let again = |first: Span| (clause.keyword.value.as_str(), clause.span, first);
            let repeated = match (&clause.body, &picked, &keep, &fallback) {
                (ClauseBody::Pick { .. }, Some((.., first)), ..) => Some(again(*first)),
                (ClauseBody::Keep(_), _, Some((_, first)), _) => Some(again(*first)),
                (ClauseBody::Fallback(_), .., Some((_, first))) => Some(again(*first)),
                _ => None,
            };
            if let Some((what, span, first)) = repeated {
                self.repeated(what, span, first);
            }
            match &clause.body {
                ClauseBody::Match(expr) => matches.push(expr),
                ClauseBody::Pick {
                    pool,
                    method,
                    argument,
                } => {
                    let found = self.pool_named(pools, pool);
                    let pick = self.pick(method, argument.as_ref());
                    picked = Some((found, pick, clause.span));
                }
                ClauseBody::Keep(times) => keep = Some((self.keep(times), clause.span)),
                ClauseBody::Fallback(word) => {
                    let value = match word.value.as_str() {
                        "route" => Fallback::Route,
                        "drop" => Fallback::Drop,
                        _ => {
                            self.unknown_word("a fallback", word, &["drop", "route"]);
                            Fallback::Drop
                        }
                    };
                    fallback = Some((value, clause.span));
                }
                _ => self.misplaced(clause, "balance", "`match`, `pick`, `keep` or `fallback`"),
            }
        }
        let unread = !self.parse.errors.is_empty();
        if matches.is_empty() && !unread {
            self.missing(&item.name, "match", "match tcp.dst 203.0.113.80:443");
        }
        if picked.is_none() && !unread {
            self.missing(&item.name, "pick", "pick from @web by maglev(flow)");
        }
        let criteria = self.criteria(scope, &matches);
        let (pool, pick, _) = picked?;
        let (criteria, pool, pick) = (criteria?, pool?, pick?);
        let family = Family::of(pools.get(pool.0)?.servers.first()?.address);
        let destinations = self.destinations(&criteria, family)?;
        Some(ServiceKind::Balance(Balance {
            criteria,
            destinations,
            pool,
            pick,
            keep: keep.map_or_else(Keep::default, |k| k.0),
            fallback: fallback.map_or(Fallback::Drop, |f| f.0),
            stick: None,
            slow_start: std::time::Duration::ZERO,
            way: Way::default(),
            on_death: OnDeath::default(),
            bounds: Bounds::default(),
        }))
    }

    fn missing(&mut self, service: &Name, clause: &str, example: &str) {
        self.report(
            Diagnostic::error(
                "missing-clause",
                service.span,
                format!("balance service `{}` has no `{clause}`", service.value),
            )
            .help(format!("add one, such as `{example}`")),
        );
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
            ("round-robin" | "weighted", Some(argument)) => {
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
            ("least-connections" | "sticky", _) => {
                self.unsupported(method.span, &format!("`{}`", method.value));
                return None;
            }
            _ => {
                self.unknown_word(
                    "a way to pick",
                    method,
                    &["round-robin", "weighted", "maglev"],
                );
                return None;
            }
        };
        Some(pick)
    }

    fn keep(&mut self, times: &[(Name, Spanned<Duration>)]) -> Keep {
        let mut keep = Keep::default();
        let mut seen: Vec<&Name> = Vec::new();
        for (name, time) in times {
            if let Some(first) = seen.iter().find(|n| n.value == name.value) {
                self.repeated(&name.value, name.span, first.span);
            }
            seen.push(name);
            let value = self.time(time.span, time.value, Duration::from_secs(1), LONGEST);
            match name.value.as_str() {
                "idle" => keep.idle = value,
                "closed" => keep.closed = value,
                "half-open" => keep.half_open = value,
                _ => self.unknown_word("a time to keep", name, &["idle", "closed", "half-open"]),
            }
        }
        keep
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
                self.report(
                    Diagnostic::error(
                        "flags-in-match",
                        criteria.span,
                        "a balance service matches whole connections, not single packets",
                    )
                    .help("leave the TCP flags out"),
                );
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
