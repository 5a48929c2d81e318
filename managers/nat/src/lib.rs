//! The nat manager: chooses an outside address and port for each inside one.
//!
//! [`Nat`] is a service's decisions as pure functions of its plan, of what it has decided, and of the time it
//! is told. A flow and its outside tuples are told from the flow's own affinities, so that what agents list
//! rebuilds the mappings; cookies are empty.
//!
//! A hairpin, a flow from inside to an outside tuple of another inside host, has two outside tuples and
//! translates both ends (RFC 4787, REQ-9). What `inbound` says of packets from outside does not concern it.

mod blocks;
mod outside;
mod pairs;
mod pool;
mod ports;
mod space;
mod subscribers;

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use signalbox_agent::flow::Tuple;
use signalbox_agent::message::{Action, Capability, Leases};
use signalbox_agent::packet::{self, proto};
use signalbox_lower::plan::{AddressRange, Inbound, NatPlan, NatSource, Pair, ServicePlan};
use signalbox_manager::{Blocks, Choice, Decide, Decided, Opening, OutsideStatus};
use siphasher::sip::SipHasher13;

use outside::{Claim, End, Outside, Protocol, Refusal};
use ports::Range;

/// Between two lines that say that no tuple of a protocol is left.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// Lines for the operator that wait at most.
const MAX_NEWS: usize = 8;

/// What becomes of the source.
#[derive(Debug)]
enum Source {
    Kept,
    Ports(Box<Outside>),
    OneToOne(Vec<Pair>),
}

/// Why a flow is not translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// No outside tuple is free that it could have.
    Exhausted,
    /// Its source has as many outside tuples as the policy allows.
    PerSource,
    /// It is to an outside tuple that stands for nobody.
    Unmapped,
    /// Its protocol, or its packet, has nothing to translate, or its family is another.
    Unsupported,
    /// Its source is in no pair.
    NoPair,
    /// Its replies would look like those of a flow that is alive.
    ReplyTaken,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::PerSource => "per_source",
            Self::Unmapped => "unmapped",
            Self::Unsupported => "unsupported",
            Self::NoPair => "no_pair",
            Self::ReplyTaken => "reply_taken",
        }
    }
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Exhausted => Self::Exhausted,
            Refusal::Limited => Self::PerSource,
        }
    }
}

/// The decisions of one nat service.
#[derive(Debug)]
pub struct Nat {
    source: Source,
    plan: NatPlan,
    now: Duration,
    counted: BTreeMap<&'static str, u64>,
    news: Vec<String>,
    /// When it was last said that a protocol has no tuple left.
    said: BTreeMap<Protocol, Duration>,
}

impl Nat {
    /// The decisions for a service of the plan; `None` if it is of another kind. Ports are given out in an
    /// order that follows from the service's name, unless [`Nat::seeded`].
    #[must_use]
    pub fn new(service: &ServicePlan) -> Option<Self> {
        let plan = service.nat.clone()?;
        let source = match plan.source.clone() {
            None => Source::Kept,
            Some(NatSource::OneToOne { pairs }) => Source::OneToOne(pairs),
            Some(NatSource::Ports {
                addresses,
                first_port,
                last_port,
            }) => {
                let mut seed = SipHasher13::new();
                seed.write(service.name.as_bytes());
                Source::Ports(Box::new(Outside::new(
                    addresses.into_iter().flat_map(range),
                    Range {
                        first: first_port,
                        last: last_port,
                    },
                    plan.hold_back_ms,
                    plan.per_source,
                    seed.finish(),
                )))
            }
        };
        Some(Self {
            source,
            plan,
            now: Duration::ZERO,
            counted: BTreeMap::new(),
            news: Vec::new(),
            said: BTreeMap::new(),
        })
    }

    /// Gives out ports in an order that only who knows the seed can foretell (RFC 6056): a secret one keeps
    /// others from guessing the ports of inside hosts.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        if let Source::Ports(outside) = &mut self.source {
            outside.reseed(seed);
        }
        self
    }

    /// What a flow from inside becomes.
    fn outward(&mut self, opening: &Opening<'_>) -> Result<Tuple, Reason> {
        let flow = opening.flow;
        let protocol = protocol(&flow);
        let mut to = flow;
        match self.plan.destination {
            Some(destination) => {
                if destination.address.is_ipv4() != flow.dst.is_ipv4() {
                    return Err(Reason::Unsupported);
                }
                to.dst = destination.address;
                if let Some(port) = destination.port {
                    let has_ports = matches!(protocol, Some(Protocol::Tcp | Protocol::Udp));
                    to.dport = has_ports.then_some(port).ok_or(Reason::Unsupported)?;
                }
            }
            None if self.is_outside(flow.dst) => {
                let end = (flow.dst, flow.dport);
                (to.dst, to.dport) = self.inward(protocol, end).ok_or(Reason::Unmapped)?;
            }
            None => {}
        }
        match &mut self.source {
            Source::Kept => {}
            Source::OneToOne(pairs) => {
                to.src = pairs::outward(pairs, flow.src).ok_or(Reason::NoPair)?;
            }
            Source::Ports(outside) => {
                let protocol = protocol
                    .filter(|p| *p != Protocol::Icmp || is_echo_request(opening))
                    .filter(|_| outside.is_ipv4() == flow.src.is_ipv4())
                    .ok_or(Reason::Unsupported)?;
                (to.src, to.sport) = outside.map(protocol, (flow.src, flow.sport))?;
                if to.dst != flow.dst && self.plan.destination.is_none() {
                    outside.hold(protocol, (flow.dst, flow.dport));
                }
            }
        }
        Ok(to)
    }

    fn is_outside(&self, address: IpAddr) -> bool {
        match &self.source {
            Source::Kept => false,
            Source::Ports(outside) => outside.has(address),
            Source::OneToOne(pairs) => pairs::inward(pairs, address).is_some(),
        }
    }

    /// Whom an outside tuple stands for.
    fn inward(&self, protocol: Option<Protocol>, outside: End) -> Option<End> {
        match &self.source {
            Source::Kept => None,
            Source::Ports(all) => all.owner(protocol?, outside),
            Source::OneToOne(pairs) => Some((pairs::inward(pairs, outside.0)?, outside.1)),
        }
    }

    /// The outside tuples that a flow has, each with the inside tuple it stands for.
    fn tuples(&self, decided: &Decided) -> impl Iterator<Item = (Protocol, End, End)> + use<> {
        let flow = decided.forward.0;
        let to = decided.forward.1.iter().find_map(|a| match a {
            Action::Translate(to) => Some(*to),
            _ => None,
        });
        let own = |to: Tuple| ((to.src, to.sport), (flow.src, flow.sport));
        let other = |to: Tuple| ((flow.dst, flow.dport), (to.dst, to.dport));
        let hairpin = to.filter(|to| self.plan.destination.is_none() && to.dst != flow.dst);
        let protocol = protocol(&flow).filter(|_| matches!(self.source, Source::Ports(_)));
        (to.map(own).into_iter())
            .chain(hairpin.map(other))
            .filter_map(move |(outside, inside)| Some((protocol?, outside, inside)))
    }

    fn decision(&self, flow: Tuple, to: Tuple) -> Decided {
        Decided {
            forward: (flow, vec![Action::Translate(to)]),
            reply: Some((to.reversed(), vec![Action::Translate(flow.reversed())])),
            leases: Some(self.leases(flow.proto)),
            statistics: None,
            cookie: Bytes::new(),
        }
    }

    fn leases(&self, protocol: u8) -> Leases {
        let leases = &self.plan.leases;
        let queries = |ms| Leases {
            idle_ms: Some(ms),
            ..Leases::default()
        };
        match protocol {
            proto::TCP => Leases {
                half_open_ms: Some(leases.tcp_transitory_ms),
                idle_ms: Some(leases.tcp_established_ms),
                closed_ms: Some(leases.tcp_transitory_ms),
                hard_ms: None,
            },
            proto::ICMP | proto::ICMPV6 => queries(leases.icmp_ms),
            _ => queries(leases.udp_ms),
        }
    }

    /// Counts a flow that is not translated, and says what becomes of it.
    fn refuse(&mut self, reason: Reason, flow: &Tuple) -> Choice {
        *self.counted.entry(reason.name()).or_default() += 1;
        match reason {
            Reason::Unmapped => return Choice::Drop,
            Reason::Exhausted => self.say_exhausted(flow),
            _ => {}
        }
        Choice::Fallback
    }

    fn say_exhausted(&mut self, flow: &Tuple) {
        let (Some(protocol), Source::Ports(outside)) = (protocol(flow), &self.source) else {
            return;
        };
        let now = self.now;
        if (self.said.get(&protocol)).is_some_and(|at| now < *at + SAY_AGAIN) {
            return;
        }
        self.said.insert(protocol, now);
        let (name, mapped) = (protocol.name(), outside.mapped(protocol));
        let what_helps = if outside.has_all() {
            "give `source` more addresses or ports, or a shorter `hold-back`"
        } else {
            "other blocks of ports are not this manager's, or not yet"
        };
        self.news.push(format!(
            "no outside {name} port is left for {}; {mapped} are mapped; {what_helps}",
            flow.src
        ));
    }

    fn end(&mut self, decided: &Decided, carried_out: bool) {
        for (protocol, outside, inside) in self.tuples(decided) {
            if let Source::Ports(all) = &mut self.source {
                all.end(protocol, outside, inside, carried_out);
            }
        }
    }

    /// What an agent claims contradicts what is known already.
    fn contradiction(&mut self, text: String) {
        *self.counted.entry("contradictions").or_default() += 1;
        if self.news.len() < MAX_NEWS {
            self.news.push(text);
        }
    }
}

impl Decide for Nat {
    /// Of the same outside tuples what is mapped stays so, and what rests rests on.
    fn update(&mut self, service: &ServicePlan) -> bool {
        let Some(plan) = service.nat.clone() else {
            return false;
        };
        let former = &self.plan;
        let same = (&plan.source, &plan.destination) == (&former.source, &former.destination)
            && (plan.hold_back_ms, plan.per_source) == (former.hold_back_ms, former.per_source);
        if !same {
            return false;
        }
        self.plan = plan;
        true
    }

    fn decide(
        &mut self,
        now: Duration,
        opening: &Opening<'_>,
        taken: &dyn Fn(&Tuple) -> bool,
    ) -> Choice {
        self.tick(now);
        let flow = opening.flow;
        match self.outward(opening) {
            Err(reason) => self.refuse(reason, &flow),
            Ok(to) => {
                let decided = self.decision(flow, to);
                if taken(&to.reversed()) {
                    self.refused(&decided);
                    return self.refuse(Reason::ReplyTaken, &flow);
                }
                Choice::Install(decided)
            }
        }
    }

    fn opens_inbound(&self) -> bool {
        self.plan.destination.is_none()
            && match self.source {
                Source::Kept => false,
                Source::Ports(_) => self.plan.inbound == Inbound::Mapped,
                Source::OneToOne(_) => true,
            }
    }

    fn decide_inbound(&mut self, now: Duration, opening: &Opening<'_>) -> Choice {
        self.tick(now);
        let arrived = opening.flow;
        let protocol = protocol(&arrived);
        let end = (arrived.dst, arrived.dport);
        // An echo reply that nobody has asked for opens nothing.
        let sound = protocol != Some(Protocol::Icmp)
            || matches!(self.source, Source::OneToOne(_))
            || is_echo_request(opening);
        let Some((src, sport)) = self.inward(protocol, end).filter(|_| sound) else {
            return self.refuse(Reason::Unmapped, &arrived);
        };
        if let (Source::Ports(outside), Some(protocol)) = (&mut self.source, protocol) {
            outside.hold(protocol, end);
        }
        let to = arrived.reversed();
        let flow = Tuple { src, sport, ..to };
        Choice::Install(self.decision(flow, to))
    }

    fn hold_back(&self) -> Option<Duration> {
        matches!(self.source, Source::Ports(_))
            .then_some(Duration::from_millis(self.plan.hold_back_ms))
    }

    fn tick(&mut self, now: Duration) {
        self.now = self.now.max(now);
        if let Source::Ports(outside) = &mut self.source {
            outside.tick(now);
        }
    }

    fn stands(&self, decided: &Decided) -> bool {
        let Source::Ports(all) = &self.source else {
            return true;
        };
        (self.tuples(decided))
            .all(|(protocol, outside, inside)| all.stands(protocol, outside, inside))
    }

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::Translate]
    }

    fn ended(&mut self, decided: &Decided) {
        self.end(decided, true);
    }

    fn refused(&mut self, decided: &Decided) {
        self.end(decided, false);
    }

    fn adopted(&mut self, decided: &Decided) {
        for (protocol, outside, inside) in self.tuples(decided) {
            let Source::Ports(all) = &mut self.source else {
                return;
            };
            let end = |(address, port): End| match address {
                IpAddr::V4(a) => format!("{a}:{port}"),
                IpAddr::V6(a) => format!("[{a}]:{port}"),
            };
            let name = protocol.name();
            match all.claim(protocol, outside, inside) {
                Claim::Granted | Claim::Foreign => {}
                Claim::OfAnother(owner) => self.contradiction(format!(
                    "agents use outside {name} tuple {} for {} and for {}; the former keeps it, and it is not \
                     given out again before both have ended",
                    end(outside),
                    end(owner),
                    end(inside)
                )),
                Claim::HasAnother(first) => self.contradiction(format!(
                    "agents use outside {name} tuples {} and {} for {}; new flows get the former, and the \
                     latter is not given out before it has ended",
                    end(first),
                    end(outside),
                    end(inside)
                )),
            }
        }
    }

    fn blocks(&mut self) -> Option<&mut dyn Blocks> {
        match &mut self.source {
            Source::Ports(outside) => Some(&mut **outside),
            _ => None,
        }
    }

    fn outside(&self) -> Vec<OutsideStatus> {
        let Source::Ports(outside) = &self.source else {
            return Vec::new();
        };
        (outside.uses().into_iter())
            .map(|u| OutsideStatus {
                address: u.address,
                protocol: u.protocol.name(),
                mappings: u.mapped.into(),
                free: u.free.into(),
                held_back: u.resting.into(),
            })
            .collect()
    }

    fn counted(&self) -> BTreeMap<&'static str, u64> {
        self.counted.clone()
    }

    fn news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }
}

/// A flow's protocol, if it has ports or what stands for them.
fn protocol(flow: &Tuple) -> Option<Protocol> {
    match (flow.proto, flow.src) {
        (proto::TCP, _) => Some(Protocol::Tcp),
        (proto::UDP, _) => Some(Protocol::Udp),
        (proto::ICMP, IpAddr::V4(_)) | (proto::ICMPV6, IpAddr::V6(_)) => Some(Protocol::Icmp),
        _ => None,
    }
}

fn is_echo_request(opening: &Opening<'_>) -> bool {
    let kind = packet::view(opening.packet).map(|view| view.icmp);
    match opening.flow.src {
        IpAddr::V4(_) => kind == Some(8),
        IpAddr::V6(_) => kind == Some(128),
    }
}

/// The addresses of a range.
fn range(range: AddressRange) -> Box<dyn Iterator<Item = IpAddr>> {
    match (range.first, range.last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            Box::new((first.to_bits()..=last.to_bits()).map(|a| IpAddr::from(a.to_be_bytes())))
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            Box::new((first.to_bits()..=last.to_bits()).map(|a| IpAddr::from(a.to_be_bytes())))
        }
        _ => Box::new(std::iter::empty()),
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod scenarios;
