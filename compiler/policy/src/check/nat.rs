//! Nat services: what becomes of source and destination, and that there is something to give out.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::Checker;
use super::clauses::{Bounded, LONGEST, Limits, Seen};
use super::criteria::Scope;
use super::network::usable_unicast;
use crate::diagnostic::Diagnostic;
use crate::model::{
    AddressSet, Criteria, Fallback, Family, Inbound, MAX_ADDRESSES, MAX_CUBES, Nat, NatDestination,
    NatLeases, NatSource, ServiceKind, Span, address_bits,
};
use crate::tree::{ClauseBody, Expr, Field, ServiceItem, Spanned, Value};

const INBOUND: [(&str, Inbound); 2] = [("answers", Inbound::Answers), ("mapped", Inbound::Mapped)];

/// Clauses that are about outside tuples, and what they are about.
const NEEDS_SOURCE: [&str; 2] = ["inbound", "hold-back"];

impl Checker<'_> {
    pub(super) fn nat(&mut self, scope: Scope<'_>, item: &ServiceItem) -> Option<ServiceKind> {
        let mut matches: Vec<&Expr> = Vec::new();
        let mut source: Option<Option<NatSource>> = None;
        let mut pairs: Vec<(IpNet, IpNet, Span)> = Vec::new();
        let mut one_to_one: Option<Span> = None;
        let mut destination: Option<Option<NatDestination>> = None;
        let mut leases = NatLeases::default();
        let mut hold_back = Duration::from_secs(120);
        let mut inbound = None;
        let mut fallback = Fallback::Drop;
        let mut limits = Limits::default();
        let mut seen = Seen::default();
        for clause in &item.clauses {
            self.once(&mut seen, clause);
            match (&clause.body, clause.keyword.value.as_str()) {
                (ClauseBody::Match(expr), _) => matches.push(expr),
                (ClauseBody::Source { addresses, ports }, _) => {
                    source = Some(self.source(addresses, ports.as_ref()));
                }
                (ClauseBody::OneToOne { inside, outside }, _) => {
                    one_to_one.get_or_insert(clause.span);
                    pairs.extend(self.pair(&pairs, inside, outside, clause.span));
                }
                (ClauseBody::Destination(end), _) => {
                    destination = Some(self.new_destination(scope, end));
                }
                (ClauseBody::Keep(times), _) => {
                    let known = ["established", "transitory", "udp", "icmp"];
                    let [established, transitory, udp, icmp] = self.times(times, known);
                    leases = NatLeases {
                        tcp_established: established.unwrap_or(leases.tcp_established),
                        tcp_transitory: transitory.unwrap_or(leases.tcp_transitory),
                        udp: udp.unwrap_or(leases.udp),
                        icmp: icmp.unwrap_or(leases.icmp),
                    };
                }
                (ClauseBody::Time(time), "hold-back") => {
                    hold_back = self.time(time.span, time.value, Duration::ZERO, LONGEST);
                }
                (ClauseBody::Choice(word), "inbound") => {
                    inbound = self.choice("who may send in", word, &INBOUND);
                }
                (ClauseBody::Limits(list), _) => self.limits(list, Bounded::Tuples, &mut limits),
                (ClauseBody::Fallback(word), _) => fallback = self.fallback(word),
                _ => self.misplaced(
                    clause,
                    "nat",
                    "`match`, `source`, `one-to-one`, `destination`, `keep`, `hold-back`, `inbound`, \
                     `limit` or `fallback`",
                ),
            }
        }
        let unread = !self.parse.errors.is_empty();
        if matches.is_empty() && !unread {
            self.missing("nat", &item.name, "`match`", "match ip.src in 10.0.0.0/8");
        }
        let translates = source.is_some() || one_to_one.is_some() || destination.is_some();
        if !translates && !unread {
            let what = "`source`, `one-to-one` or `destination`";
            self.missing("nat", &item.name, what, "source 203.0.113.100");
        }
        let criteria = self.criteria(scope, &matches);
        if let (Some(at), Some(first)) = (one_to_one, seen.get("source")) {
            self.report(
                Diagnostic::error(
                    "two-sources",
                    at,
                    "a source becomes a port of an address, or an address of its own, not both",
                )
                .related(first, "`source` is here")
                .help("make two services of it"),
            );
            return None;
        }
        self.only_with_source(&seen, &limits, source.is_some(), one_to_one.is_some());
        if let (Some(at), Some(Inbound::Answers)) = (one_to_one, inbound) {
            self.report(
                Diagnostic::error(
                    "open-pair",
                    seen.get("inbound").unwrap_or(at),
                    "an address of its own can be reached from outside",
                )
                .related(at, "one to one")
                .help("leave `inbound` out, and put a filter before the service"),
            );
        }
        let count_written = item.clauses.iter();
        let written = count_written
            .filter(|c| matches!(c.body, ClauseBody::OneToOne { .. }))
            .count();
        // What was refused has been said.
        let source = match source {
            Some(refused_or_not) => Some(refused_or_not?),
            None if pairs.len() < written => return None,
            None if pairs.is_empty() => None,
            None => Some(NatSource::OneToOne {
                pairs: pairs
                    .iter()
                    .map(|(inside, outside, _)| (*inside, *outside))
                    .collect(),
            }),
        };
        let destination = match destination {
            Some(refused_or_not) => Some(refused_or_not?),
            None => None,
        };
        let criteria = criteria?;
        if source.is_none() && destination.is_none() {
            return None;
        }
        let one_to_one = matches!(source, Some(NatSource::OneToOne { .. }));
        let default = if one_to_one {
            Inbound::Mapped
        } else {
            Inbound::Answers
        };
        let mut nat = Nat {
            criteria,
            source,
            destination,
            destinations: Vec::new(),
            leases,
            hold_back,
            per_source: limits.tuples,
            inbound: inbound.unwrap_or(default),
            fallback,
            bounds: limits.bounds,
        };
        self.nat_matches(&nat)?;
        if nat.destination.is_some() {
            nat.destinations = self.named_destinations(scope.sets, &matches, &nat.criteria)?;
        }
        let reply = nat.reply_cubes().len();
        if reply > MAX_CUBES {
            self.too_many_tuples(item.name.span, reply);
            return None;
        }
        let hairpin = nat.hairpin_cubes();
        if hairpin.len() > MAX_CUBES {
            self.too_many_tuples(item.name.span, hairpin.len());
            return None;
        }
        if hairpin.iter().any(|c| c.src.is_any() && c.in_port.is_any()) {
            self.report(
                Diagnostic::warning(
                    "from-anywhere",
                    nat.criteria.span,
                    "this matches packets from outside as well, sent to the outside addresses",
                )
                .help("say who is inside: `ip.src in 10.0.0.0/8`, or `port` and a port's name"),
            );
        }
        Some(ServiceKind::Nat(nat))
    }

    /// Reports clauses about outside tuples in a service that gives none out.
    fn only_with_source(&mut self, seen: &Seen<'_>, limits: &Limits, source: bool, pairs: bool) {
        if source || !self.parse.errors.is_empty() {
            return;
        }
        let clauses = NEEDS_SOURCE
            .iter()
            .filter(|word| !(pairs && **word == "inbound"));
        let mut found: Vec<(&str, Span)> = clauses
            .filter_map(|word| Some((*word, seen.get(word)?)))
            .collect();
        found.extend(limits.tuples_span().map(|span| ("tuples per source", span)));
        for (what, span) in found {
            self.report(
                Diagnostic::error(
                    "no-tuples",
                    span,
                    format!(
                        "`{what}` is about addresses and ports that are given out, and none are"
                    ),
                )
                .help("leave it out, or add `source`"),
            );
        }
    }

    /// `source ADDRESSES [ports LOW..HIGH]`
    fn source(
        &mut self,
        addresses: &[Spanned<Value>],
        ports: Option<&Spanned<(u64, u64)>>,
    ) -> Option<NatSource> {
        let mut ranges: Vec<(IpAddr, IpAddr, Span)> = Vec::new();
        let mut fine = true;
        for element in addresses {
            match self.outside_range(element) {
                Some((first, last)) => ranges.push((first, last, element.span)),
                None => fine = false,
            }
        }
        let (low, high) = ports.map_or((1_024, 65_535), |p| p.value);
        if low == 0 || low > high || high > 65_535 {
            let at = ports.map_or(Span::default(), |p| p.span);
            self.report(
                Diagnostic::error(
                    "out-of-range",
                    at,
                    format!("`{}` is not a range of ports", self.slice(at)),
                )
                .label("expected 1 to 65535, low before high"),
            );
            fine = false;
        }
        if let Some((first, rest)) = ranges.split_first()
            && let Some(other) = rest.iter().find(|r| r.0.is_ipv4() != first.0.is_ipv4())
        {
            self.report(
                Diagnostic::error("family", other.2, "outside addresses are all of one family")
                    .related(first.2, "the first is of the other")
                    .help("make a service for each family"),
            );
            fine = false;
        }
        ranges.sort_unstable_by_key(|(first, last, _)| (*first, *last));
        for pair in ranges.windows(2) {
            if let [(_, end, before), (start, _, span)] = pair
                && start <= end
            {
                self.report(
                    Diagnostic::error(
                        "duplicate-address",
                        *span,
                        format!("`{start}` stands here twice"),
                    )
                    .related(*before, "it is also among these"),
                );
                fine = false;
            }
        }
        let counts = ranges.iter().map(|(first, last, _)| width(*first, *last));
        let count = counts.fold(0, u128::saturating_add);
        let whole = addresses.first().zip(addresses.last()).map(|(a, b)| Span {
            start: a.span.start,
            end: b.span.end,
        });
        fine &= self.countable(whole.unwrap_or_default(), count);
        if !fine || ranges.is_empty() {
            return None;
        }
        Some(NatSource::Ports {
            addresses: ranges
                .into_iter()
                .map(|(first, last, _)| (first, last))
                .collect(),
            first_port: u16::try_from(low).ok()?,
            last_port: u16::try_from(high).ok()?,
        })
    }

    /// The outside addresses of an element; reports what is none.
    fn outside_range(&mut self, element: &Spanned<Value>) -> Option<(IpAddr, IpAddr)> {
        let (first, last) = match &element.value {
            Value::Address(a) => (*a, *a),
            Value::AddressRange(low, high) if low.is_ipv4() == high.is_ipv4() && low <= high => {
                (*low, *high)
            }
            Value::AddressRange(low, high) => {
                self.error(
                    "bad-range",
                    element.span,
                    format!("`{low}..{high}` is not a range of addresses from low to high"),
                );
                return None;
            }
            Value::Prefix(address, length) => {
                let net = self.clean_net(element.span, *address, *length)?;
                ends(net)
            }
            _ => {
                let written = self.slice(element.span).to_owned();
                let mut d = Diagnostic::error(
                    "wrong-value",
                    element.span,
                    format!("`{written}` is not an outside address"),
                )
                .label("expected an address, a range or a prefix");
                if let Value::Endpoint(a, port) = &element.value {
                    d = d.help(format!(
                        "ports stand behind: `source {a} ports {port}..{port}`"
                    ));
                }
                self.report(d);
                return None;
            }
        };
        match [first, last].into_iter().find(|a| !usable_unicast(*a)) {
            Some(bad) => {
                self.error(
                    "bad-address",
                    element.span,
                    format!("`{bad}` is no host's address"),
                );
                None
            }
            None => Some((first, last)),
        }
    }

    /// `one-to-one INSIDE = OUTSIDE`
    fn pair(
        &mut self,
        before: &[(IpNet, IpNet, Span)],
        inside: &Spanned<(IpAddr, u8)>,
        outside: &Spanned<(IpAddr, u8)>,
        span: Span,
    ) -> Option<(IpNet, IpNet, Span)> {
        let here = self.clean_net(inside.span, inside.value.0, inside.value.1);
        let there = self.clean_net(outside.span, outside.value.0, outside.value.1);
        let (here, there) = (here?, there?);
        if here.addr().is_ipv4() != there.addr().is_ipv4() {
            self.error(
                "family",
                span,
                "an inside and an outside prefix are of one family",
            );
            return None;
        }
        if here.prefix_len() != there.prefix_len() {
            self.report(
                Diagnostic::error(
                    "unequal-prefixes",
                    span,
                    "an inside and an outside prefix are of one length",
                )
                .label(format!("`{here}` = `{there}`"))
                .help(format!(
                    "each inside address needs an outside one: make both `/{}`",
                    { here.prefix_len().max(there.prefix_len()) }
                )),
            );
            return None;
        }
        if let Some(bad) = [ends(here), ends(there)]
            .into_iter()
            .flat_map(|(a, b)| [a, b])
            .find(|a| !usable_unicast(*a))
        {
            self.error("bad-address", span, format!("`{bad}` is no host's address"));
            return None;
        }
        let overlap = |a: IpNet, b: IpNet| a.contains(&b.network()) || b.contains(&a.network());
        if overlap(here, there) {
            self.error(
                "overlapping-prefixes",
                span,
                "an inside and an outside prefix overlap",
            );
            return None;
        }
        let clash = before
            .iter()
            .find(|(a, b, _)| overlap(*a, here) || overlap(*b, there));
        if let Some((.., other)) = clash {
            self.report(
                Diagnostic::error(
                    "overlapping-prefixes",
                    span,
                    "two pairs have an inside or an outside address in common",
                )
                .related(*other, "the other pair"),
            );
            return None;
        }
        let earlier = before.iter().map(|(_, o, _)| ends(*o));
        let counts = earlier.chain([ends(there)]).map(|(a, b)| width(a, b));
        let count = counts.fold(0, u128::saturating_add);
        self.countable(outside.span, count)
            .then_some((here, there, span))
    }

    fn clean_net(&mut self, span: Span, address: IpAddr, length: u8) -> Option<IpNet> {
        let net = IpNet::new(address, length).ok()?;
        if net.trunc() != net {
            self.report(
                Diagnostic::error(
                    "host-bits",
                    span,
                    format!("`{net}` has bits outside its length"),
                )
                .help(format!("write `{}`", net.trunc())),
            );
            return None;
        }
        Some(net)
    }

    /// Whether so many addresses can be a policy's own; reports if not.
    pub(super) fn countable(&mut self, span: Span, count: u128) -> bool {
        if count <= MAX_ADDRESSES as u128 {
            return true;
        }
        self.report(
            Diagnostic::error(
                "too-many-addresses",
                span,
                "these are too many outside addresses",
            )
            .label(format!(
                "comes to {count}, expected at most {MAX_ADDRESSES}"
            ))
            .note("the agent answers ARP or NDP and pings for each of them")
            .help("use fewer: each has up to 64,512 ports to give out"),
        );
        false
    }

    /// `destination ADDRESS[:PORT]`
    fn new_destination(
        &mut self,
        scope: Scope<'_>,
        end: &Spanned<(IpAddr, Option<u16>)>,
    ) -> Option<NatDestination> {
        let (address, port) = end.value;
        if port == Some(0) {
            self.error(
                "no-port",
                end.span,
                "`0` is not a port: ports are 1 to 65535",
            );
            return None;
        }
        self.reachable_host(scope.network, end.span, address, "destination")
            .then_some(NatDestination { address, port })
    }

    /// What a nat service matches can be translated; reports what cannot.
    fn nat_matches(&mut self, nat: &Nat) -> Option<()> {
        let span = nat.criteria.span;
        let source = nat
            .outside_ranges()
            .into_iter()
            .map(|(first, _)| Family::of(first));
        let to = nat.destination.map(|d| Family::of(d.address));
        let mut families: Vec<Family> = source.collect();
        families.sort_unstable();
        families.dedup();
        let wrong = nat.criteria.cubes.iter().find(|c| {
            (!families.is_empty() && !families.contains(&c.family))
                || to.is_some_and(|f| f != c.family)
        });
        if let Some(cube) = wrong {
            let word = match cube.family {
                Family::V4 => "ipv6",
                Family::V6 => "ipv4",
            };
            self.report(
                Diagnostic::error(
                    "family",
                    span,
                    format!(
                        "this matches {} packets, and they have nothing to become",
                        cube.family
                    ),
                )
                .note("addresses are translated within one family")
                .help(format!(
                    "narrow it: `{word} and …`, and make a service for each family"
                )),
            );
            return None;
        }
        if nat.criteria.cubes.iter().any(|c| !c.tcp_flags.is_any()) {
            self.flags_in_match(span, "a nat");
            return None;
        }
        let port = nat.destination.and_then(|d| d.port);
        let pinned = |p: u8, mask: u8| mask == u8::MAX && matches!(p, 6 | 17);
        if let Some(port) = port
            && !nat
                .criteria
                .cubes
                .iter()
                .all(|c| pinned(c.proto.value, c.proto.mask))
        {
            self.report(
                Diagnostic::error(
                    "open-protocol",
                    span,
                    format!(
                        "this matches packets without ports, and their port is to become {port}"
                    ),
                )
                .help("match TCP or UDP, as `tcp.dst 203.0.113.80:443`, or leave the port out"),
            );
            return None;
        }
        Some(())
    }

    /// The destinations that a condition names one by one and matches, ascending.
    fn named_destinations(
        &mut self,
        sets: &[AddressSet],
        matches: &[&Expr],
        criteria: &Criteria,
    ) -> Option<Vec<IpAddr>> {
        let mut ranges = Vec::new();
        matches
            .iter()
            .for_each(|e| named(sets, e, true, &mut ranges));
        let counts = ranges.iter().map(|(first, last)| width(*first, *last));
        let count = counts.fold(0, u128::saturating_add);
        if count > MAX_CUBES as u128 {
            self.report(
                Diagnostic::error(
                    "too-many-addresses",
                    criteria.span,
                    "this names too many destination addresses",
                )
                .label(format!("comes to {count}, expected at most {MAX_CUBES}"))
                .help("name a prefix, for which somebody else answers, or fewer addresses"),
            );
            return None;
        }
        let mut out: Vec<IpAddr> = Vec::new();
        for (first, last) in ranges {
            let family = Family::of(first);
            for bits in address_bits(first)..=address_bits(last) {
                let matched =
                    |c: &&signalbox_proofs::Cube| c.family == family && c.dst.matches(bits);
                if criteria.cubes.iter().any(|c| matched(&c)) {
                    out.push(family.address(bits));
                }
            }
        }
        out.sort_unstable();
        out.dedup();
        if let Some(bad) = out.iter().find(|a| !usable_unicast(**a)) {
            let message = format!("`{bad}` cannot be a service's address");
            self.error("bad-address", criteria.span, message);
            return None;
        }
        Some(out)
    }

    fn too_many_tuples(&mut self, span: Span, count: usize) {
        self.report(
            Diagnostic::error(
                "too-many-entries",
                span,
                "what may come back to this service is too big for a table",
            )
            .label(format!("comes to {count} entries"))
            .note(format!("it may come to {MAX_CUBES}"))
            .help(
                "a range of ports costs up to 30 entries, one of addresses up to 62, and they multiply \
                 with each other and with `match`: write prefixes, and ports from a power of two on",
            ),
        );
    }
}

/// The first and last address of a prefix.
fn ends(net: IpNet) -> (IpAddr, IpAddr) {
    let family = Family::of(net.addr());
    let length = net.prefix_len().into();
    let host = family.full_mask() & !signalbox_proofs::prefix_mask(family.bits(), length);
    let first = address_bits(net.network());
    (net.network(), family.address(first | host))
}

/// How many addresses a range has.
fn width(first: IpAddr, last: IpAddr) -> u128 {
    address_bits(last)
        .saturating_sub(address_bits(first))
        .saturating_add(1)
}

/// The destination addresses that a condition names one by one, or as a range, where it asks for them.
fn named(sets: &[AddressSet], expr: &Expr, asked: bool, out: &mut Vec<(IpAddr, IpAddr)>) {
    match expr {
        Expr::Or(parts) | Expr::And(parts) => {
            parts.iter().for_each(|e| named(sets, e, asked, out));
        }
        Expr::Not(inner, _) => named(sets, inner, !asked, out),
        Expr::Test(test) => {
            let of_destination = matches!(test.field, Field::IpDst | Field::TcpDst | Field::UdpDst);
            if let Some(value) = &test.value
                && of_destination
                && asked != test.negated
            {
                named_values(sets, &value.value, out);
            }
        }
    }
}

fn named_values(sets: &[AddressSet], value: &Value, out: &mut Vec<(IpAddr, IpAddr)>) {
    match value {
        Value::Address(a) | Value::Endpoint(a, _) => out.push((*a, *a)),
        Value::AddressRange(low, high) => out.push((*low, *high)),
        Value::Prefix(a, length) if *length == if a.is_ipv4() { 32 } else { 128 } => {
            out.push((*a, *a));
        }
        Value::Set(name) => {
            let set = sets
                .iter()
                .filter(|s| s.name == *name)
                .flat_map(|s| &s.prefixes);
            let single = set.filter(|p| p.prefix_len() == p.max_prefix_len());
            out.extend(single.map(|p| (p.addr(), p.addr())));
        }
        Value::List(elements) => {
            elements
                .iter()
                .for_each(|e| named_values(sets, &e.value, out));
        }
        _ => {}
    }
}
