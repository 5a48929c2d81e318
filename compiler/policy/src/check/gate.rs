//! Gate services: the servers they stand before, whom they let in and when, times and bounds. What they
//! look at is in `look`, their place among other services in `gate_place`.

use std::time::Duration;

use signalbox_proofs::absorb;

use super::Checker;
use super::clauses::{LARGEST_TABLE, LONGEST, Limits, MOST_FLOWS, SHORTEST, Seen};
use super::criteria::Scope;
use super::formula::MAX_UNION;
use crate::diagnostic::Diagnostic;
use crate::model::{
    Allow, Criteria, DAY, DAYS, Families, GATE_KEEP, Gate, GateBounds, GateTimes, Look, MAX_CUBES,
    Refuse, ServiceKind, Span, When,
};
use crate::tree::{ClauseBody, Expr, Limit, Name, ServiceClause, ServiceItem, Spanned, WhenClause};

const TCP: u8 = 6;
const REFUSALS: [(&str, Refuse); 2] = [("drop", Refuse::Drop), ("reset", Refuse::Reset)];
/// Bounds of `buffer`, in bytes.
const BUFFER: (u64, u64) = (4_096, 1 << 20);
/// The highest shift of a window (RFC 7323, section 2.3).
const MOST_SHIFT: u64 = 14;
/// The most connections that may go through a manager at once.
const MOST_PROXIED: u32 = 1_000_000;
/// The least segments that every host takes, over IPv4 and IPv6 (RFC 9293, section 3.7.1).
const LEAST_MSS: [(Families, u64); 2] = [(Families::V4, 536), (Families::Dual, 1_220)];
/// The headers of IPv4 and TCP, in bytes.
const HEADERS: u16 = 40;

impl Checker<'_> {
    pub(super) fn gate(&mut self, scope: Scope<'_>, item: &ServiceItem) -> Option<ServiceKind> {
        let mut matches: Vec<&Expr> = Vec::new();
        let mut allows: Vec<(&ServiceClause, &Expr, &WhenClause)> = Vec::new();
        let mut look: Vec<Look> = Vec::new();
        let mut limits = Limits::default();
        let mut bounds = GateBounds::default();
        let mut times = GateTimes::default();
        let mut keep = GATE_KEEP;
        let (mut refuse, mut mss, mut window_scale, mut buffer) =
            (Refuse::default(), None, 7, 32_768);
        let mut seen = Seen::default();
        for clause in &item.clauses {
            self.once(&mut seen, clause);
            match (&clause.body, clause.keyword.value.as_str()) {
                (ClauseBody::Match(expr), _) => matches.push(expr),
                (ClauseBody::Allow(expr, when), _) => allows.push((clause, expr, when)),
                (ClauseBody::Look(clause), _) => look.extend(self.look(clause)),
                (ClauseBody::Limits(list), _) => {
                    for limit in list {
                        self.gate_limit(limit, &mut limits, &mut bounds);
                    }
                }
                (ClauseBody::Choice(word), "refuse") => {
                    let what = "what becomes of refused packets";
                    refuse = self.choice(what, word, &REFUSALS).unwrap_or(refuse);
                }
                (ClauseBody::Time(time), "connect") => times.connect = self.gate_time(time),
                (ClauseBody::Time(time), "speak") => times.speak = self.gate_time(time),
                (ClauseBody::Time(time), "hand-over") => times.hand_over = self.gate_time(time),
                (ClauseBody::Keep(said), _) => {
                    let [idle, closed, proxied] = self.times(said, ["idle", "closed", "proxied"]);
                    keep.idle = idle.unwrap_or(keep.idle);
                    keep.half_open = keep.idle;
                    keep.closed = closed.unwrap_or(keep.closed);
                    times.proxied = proxied.unwrap_or(times.proxied);
                }
                (ClauseBody::Number(n), "mss") => mss = Some(self.mss(scope, n)),
                (ClauseBody::Number(n), "window-scale") => {
                    window_scale = self.between(n, 0, MOST_SHIFT) as u8;
                }
                (ClauseBody::Number(n), "buffer") => {
                    buffer = self.between(n, BUFFER.0, BUFFER.1) as u32;
                }
                (_, "fallback") => self.stays_shut(clause),
                _ => self.misplaced(
                    clause,
                    "gate",
                    "`match`, `allow`, `limit`, `look`, `refuse`, `connect`, `speak`, `hand-over`, \
                     `keep`, `mss`, `window-scale` or `buffer`",
                ),
            }
        }
        if let (Some(at), None) = (seen.get("speak"), first_look(item)) {
            self.report(
                Diagnostic::error("no-look", at, "a client's first data are not looked at").help(
                    "leave it out, or say what they must be, as `look tls.name \"example.org\"`",
                ),
            );
        }
        let unread = !self.parse.errors.is_empty();
        if matches.is_empty() && !unread {
            self.missing("gate", &item.name, "`match`", "match tcp.dst 10.0.1.5:22");
        }
        if allows.is_empty() && !unread {
            self.report(
                Diagnostic::error(
                    "missing-clause",
                    item.name.span,
                    format!("gate `{}` lets nobody in: it has no `allow`", item.name.value),
                )
                .help("say who may come in, such as `allow ip.src in 192.0.2.0/24`; everybody: `allow ip`"),
            );
        }
        let criteria = self.criteria(scope, &matches);
        let criteria = criteria.filter(|c| self.servers_of(c));
        // All are looked at before a failure counts, so that all errors are found.
        let allow: Vec<Option<Allow>> = allows
            .iter()
            .map(|(clause, expr, when)| self.allow(scope, criteria.as_ref(), clause, expr, when))
            .collect();
        Some(ServiceKind::Gate(Gate {
            criteria: criteria?,
            allow: allow.into_iter().collect::<Option<_>>()?,
            refuse,
            look,
            bounds,
            mss,
            window_scale,
            times,
            keep,
            buffer,
        }))
    }

    /// Whether a gate can stand before what a condition matches; reports what keeps it from that.
    fn servers_of(&mut self, criteria: &Criteria) -> bool {
        let any = |of: fn(&signalbox_proofs::Cube) -> bool| criteria.cubes.iter().any(of);
        let d = if any(|c| (c.proto.mask, c.proto.value) != (u8::MAX, TCP)) {
            Diagnostic::error(
                "not-tcp",
                criteria.span,
                "a gate answers TCP connections, and this matches other packets too",
            )
            .help("write `tcp.dst 10.0.1.5:22`; put a filter beside the gate for the rest")
        } else if any(|c| c.dst.is_any() || c.dst_port.is_any()) {
            Diagnostic::error(
                "open-destination",
                criteria.span,
                "a gate matches the addresses and ports of servers",
            )
            .label("leaves address or port open")
            .note("packets that come from there are the servers', and are asked about too")
            .help("write `tcp.dst 10.0.1.5:22`, or `ip.dst in 10.0.1.0/24 and tcp.dst 22`")
        } else if any(|c| !c.in_port.is_any()) {
            Diagnostic::error(
                "port-in-match",
                criteria.span,
                "a gate does not match by ingress port",
            )
            .note("a server's packets do not tell by which port its client's came")
            .help("say it of clients, as `allow port clients`, or match by `ip.src`")
        } else if any(|c| !c.tcp_flags.is_any()) {
            self.flags_in_match(criteria.span, "a gate");
            return false;
        } else {
            return true;
        };
        self.report(d);
        false
    }

    /// Which of the connections that the service matches a clause allows, and when.
    fn allow(
        &mut self,
        scope: Scope<'_>,
        of: Option<&Criteria>,
        clause: &ServiceClause,
        expr: &Expr,
        when: &WhenClause,
    ) -> Option<Allow> {
        let when = self.when(when);
        let said = self.criteria(scope, &[expr])?;
        if said.cubes.iter().any(|c| !c.tcp_flags.is_any()) {
            self.flags_in_match(said.span, "a gate");
            return None;
        }
        let of = of?;
        let both = of.cubes.iter().flat_map(|a| {
            let allowed = said.cubes.iter();
            allowed.filter_map(|b| a.intersect(b))
        });
        // What is far too much is not put in order first.
        let cubes = absorb(both.take(MAX_UNION + 1).collect());
        if cubes.len() > MAX_CUBES {
            self.too_many(said.span, Some(cubes.len()));
            return None;
        }
        if cubes.is_empty() {
            self.report(
                Diagnostic::error(
                    "matches-nothing",
                    said.span,
                    "this allows none of the connections that the service matches",
                )
                .related(of.span, "matches these"),
            );
            return None;
        }
        Some(Allow {
            criteria: Criteria { cubes, ..said },
            when: when?,
            span: clause.span,
        })
    }

    /// When a clause holds: `Some(None)` for always, `None` after reporting what is wrong.
    fn when(&mut self, when: &WhenClause) -> Option<Option<When>> {
        let days = self.days(&when.days);
        let (from, to) = match &when.hours {
            None => (0, DAY),
            Some(hours) => {
                let (from, to) = hours.value;
                if from == DAY || from == to {
                    let d = Diagnostic::error("bad-time", hours.span, "this is no time of the day");
                    self.report(if from == to {
                        d.help("the whole day needs no `from` and `to`")
                    } else {
                        d.help("the day begins at `00:00`")
                    });
                    return None;
                }
                (from, to)
            }
        };
        let when = When {
            from,
            to,
            days: days?,
        };
        let always = (when.from, when.to, when.days) == (0, DAY, When::ALL_DAYS);
        Some((!always).then_some(when))
    }

    /// Days as bits; every day if none is said.
    fn days(&mut self, days: &[(Name, Option<Name>)]) -> Option<u8> {
        if days.is_empty() {
            return Some(When::ALL_DAYS);
        }
        let mut bits = 0u8;
        for (first, last) in days {
            let choices: Vec<(&str, usize)> = DAYS
                .iter()
                .enumerate()
                .map(|(i, name)| (*name, i))
                .collect();
            let from = self.choice("a day", first, &choices)?;
            let to = match last {
                None => from,
                Some(last) => self.choice("a day", last, &choices)?,
            };
            let count = (to + DAYS.len() - from) % DAYS.len();
            for day in (from..=from + count).map(|d| d % DAYS.len()) {
                let bit = 1 << day;
                if bits & bit != 0 {
                    self.error(
                        "repeated-clause",
                        first.span,
                        format!("`{}` is said twice", DAYS.get(day).unwrap_or(&"")),
                    );
                    return None;
                }
                bits |= bit;
            }
        }
        Some(bits)
    }

    fn gate_limit(&mut self, limit: &Limit, seen: &mut Limits, into: &mut GateBounds) {
        let what = limit.what.as_ref().map(|w| w.value.as_str());
        let n = limit.count.value;
        let (name, place) = match (limit.rate, what, limit.per_source) {
            (true, None, false) => ("new connections", &mut into.new_per_second),
            (true, None, true) => (
                "new connections per source",
                &mut into.new_per_second_per_source,
            ),
            (false, Some("connections"), false) => ("connections", &mut into.connections),
            (false, Some("connections"), true) => {
                ("connections per source", &mut into.connections_per_source)
            }
            (false, Some("proxied"), false) => {
                if self.first_limit(limit, "proxied connections", seen) {
                    into.proxied = self.count(limit.count.span, n, MOST_PROXIED);
                }
                return;
            }
            _ => return self.bad_gate_limit(limit),
        };
        let most = if name == "connections" {
            LARGEST_TABLE
        } else {
            MOST_FLOWS
        };
        if self.first_limit(limit, name, seen) {
            *place = Some(self.count(limit.count.span, n, most));
        }
    }

    fn bad_gate_limit(&mut self, limit: &Limit) {
        let n = limit.count.value;
        let known = ["connections", "proxied"];
        match &limit.what {
            Some(what) if !known.contains(&what.value.as_str()) => {
                self.unknown_word("what can be limited", what, &known);
            }
            Some(what) if limit.rate => self.report(
                Diagnostic::error(
                    "bad-limit",
                    what.span,
                    format!("`{n}/s` limits new connections, not what is there"),
                )
                .help(format!("write `limit {n}/s`, or `limit {n} {}`", what.value)),
            ),
            Some(what) => self.report(
                Diagnostic::error(
                    "bad-limit",
                    what.span,
                    "what goes through the manager is limited for all sources together",
                )
                .help(format!(
                    "write `limit {n} proxied`, or `limit {n} connections per source`"
                )),
            ),
            None => self.report(
                Diagnostic::error("bad-limit", limit.span, "it is not said what is limited").help(
                    format!(
                        "write `limit {n}/s` for new connections in a second, `limit {n} connections` \
                         for those at once, either with `per source` after it"
                    ),
                ),
            ),
        }
    }

    fn gate_time(&mut self, time: &Spanned<Duration>) -> Duration {
        self.time(time.span, time.value, SHORTEST, LONGEST)
    }

    fn mss(&mut self, scope: Scope<'_>, n: &Spanned<u64>) -> u16 {
        let least = LEAST_MSS.iter().find(|(f, _)| *f == self.families);
        let most = u16::MAX - HEADERS;
        let mss = self.between(n, least.map_or(0, |(_, n)| *n), most.into()) as u16;
        let smallest = scope.network.ports.iter().min_by_key(|p| p.mtu);
        if let Some(port) = smallest.filter(|p| p.mtu.saturating_sub(HEADERS) < mss) {
            self.report(
                Diagnostic::warning(
                    "mss-above-mtu",
                    n.span,
                    format!(
                        "segments of {mss} bytes do not fit into the packets of port `{}`",
                        port.name
                    ),
                )
                .related(port.span, format!("has an MTU of {}", port.mtu))
                .help("leave it out: then it is what fits every port"),
            );
        }
        mss
    }

    /// A number within bounds; reports another.
    fn between(&mut self, n: &Spanned<u64>, low: u64, high: u64) -> u64 {
        if !(low..=high).contains(&n.value) {
            self.report(
                Diagnostic::error(
                    "out-of-range",
                    n.span,
                    format!("`{}` is out of range", n.value),
                )
                .label(format!("expected {low} to {high}")),
            );
            return low;
        }
        n.value
    }

    fn stays_shut(&mut self, clause: &ServiceClause) {
        self.report(
            Diagnostic::error(
                "misplaced-clause",
                clause.keyword.span,
                "a gate has no fallback: without its manager it stays shut",
            )
            .help("leave it out"),
        );
    }
}

/// Where the first data are said, if they are.
fn first_look(item: &ServiceItem) -> Option<Span> {
    let mut clauses = item.clauses.iter();
    let found = clauses.find(|c| c.keyword.value == "look");
    found.map(|c| c.span)
}
