//! The evaluator: what a policy means, packet by packet, down to the byte.
//!
//! It mirrors the generated pipeline and the entries that a plan installs, and knows nothing of P4,
//! agents or time. The decisions made so far (fixed affinities) and the neighbours known are its
//! state; everything else comes from the policy. A differential test compares it with the switch.

mod packet;
mod rewrite;

use std::collections::BTreeMap;
use std::net::IpAddr;

use signalbox_proofs::{Family, Header, PacketKind};

use crate::model::{
    Balance, Fallback, Families, FilterVerdict, Mac, Policy, ServiceIndex, ServiceKind,
    address_bits,
};
pub(crate) use packet::sum as ones_complement_sum;
use packet::{Class, Flow, Parsed, parse};

/// Our own TCP and UDP ports from here on are the agent's connections (health checks).
const AGENT_PORTS: u16 = 61_440;

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is dropped.
    Drop {
        /// Why.
        reason: DropReason,
        /// The service whose stage dropped it.
        service: Option<ServiceIndex>,
    },
    /// It goes to the agent.
    ToAgent {
        /// Why.
        message: Message,
        /// The service that diverted it, and in which part; for [`Message::Interest`] only.
        stage: Option<(ServiceIndex, Part)>,
        /// Whether a reply part has translated it.
        reply: bool,
        /// The packet as the stage found it.
        packet: Vec<u8>,
    },
    /// It leaves.
    Forward {
        /// The port's number.
        port: u16,
        /// The frame as it leaves.
        packet: Vec<u8>,
    },
}

/// Why a packet was dropped; the numbers are the cells of the counter `drops`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// The agent's packet-out said nothing sensible.
    BadPacketOut = 2,
    /// It came by a port that the policy does not have.
    UnknownPort = 3,
    /// It is neither IP (of a family that the policy speaks) nor ARP.
    NotIp = 4,
    /// Its headers are cut short, or contradict each other.
    Malformed = 5,
    /// It is not addressed to our Ethernet address.
    WrongMac = 6,
    /// No route leads to its destination.
    NoRoute = 7,
    /// A stage chose a next hop that is not there.
    NoNextHop = 8,
    /// It is for an address of ours, and nobody took it.
    NotServed = 9,
    /// A service dropped it.
    Service = 10,
}

/// Why a packet goes to the agent; the numbers are those of `packet_in.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Message {
    /// A service's manager is asked.
    Interest = 1,
    /// It is for the agent itself: echo, or its own connections.
    Local = 3,
    /// Address resolution, IPv4.
    Arp = 4,
    /// Neighbour discovery, IPv6.
    Ndp = 5,
    /// A fragment.
    Fragment = 6,
    /// An ICMP error.
    IcmpError = 7,
    /// Its TTL is spent.
    Ttl = 8,
    /// Its destination is connected and not yet resolved.
    Glean = 9,
    /// Its route's next hop is not yet resolved.
    Unresolved = 10,
}

/// The two parts of the cascade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// From the server: translating services in reverse order.
    Reply = 1,
    /// From the client: all services in order.
    Forward = 2,
}

/// The exact key of a fixed affinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol.
    pub proto: u8,
    /// Source port, or an echo request's identifier.
    pub sport: u16,
    /// Destination port, or an echo reply's identifier.
    pub dport: u16,
}

/// What a fixed affinity does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixedAction {
    /// On to the next stage.
    Forward,
    /// The whole new tuple; of the key's protocol.
    Translate(FlowKey),
    /// Dropped.
    Discard,
}

/// What the agent gives back with a packet that it hands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The original ingress port.
    pub port: u16,
    /// The part to go on in.
    pub part: Part,
    /// The service to go on at.
    pub service: ServiceIndex,
    /// Whether the reply part had translated it.
    pub reply: bool,
    /// Whether that service's manager has answered: it diverts no more.
    pub answered: bool,
}

/// Packets from here on in the cascade; see `place` in p4/lib/types.p4.
const MIDDLE: usize = 64;

/// A policy's meaning, with the decisions made so far.
#[derive(Clone, Debug)]
pub struct Evaluator<'p> {
    policy: &'p Policy,
    fixed: BTreeMap<(ServiceIndex, Part, FlowKey), FixedAction>,
    neighbours: BTreeMap<IpAddr, (u16, Mac)>,
    silent: Vec<ServiceIndex>,
}

/// A packet on its way through the stages.
struct Way<'f> {
    frame: &'f [u8],
    parsed: Parsed,
    flow: Flow,
    in_port: u16,
    place: usize,
    answered_at: Option<usize>,
    reply: bool,
    translated: bool,
}

impl<'p> Evaluator<'p> {
    /// The policy with every manager alive, no decision made, and its static neighbours known.
    pub fn new(policy: &'p Policy) -> Evaluator<'p> {
        let neighbours = policy
            .network
            .neighbours
            .iter()
            .map(|n| (n.address, (n.port, n.mac)))
            .collect();
        Evaluator {
            policy,
            fixed: BTreeMap::new(),
            neighbours,
            silent: Vec::new(),
        }
    }

    /// Makes a neighbour known.
    pub fn learn(&mut self, address: IpAddr, port: u16, mac: Mac) {
        self.neighbours.insert(address, (port, mac));
    }

    /// Sets whether a service's manager has criteria installed; without them the floor acts.
    pub fn set_manager(&mut self, service: ServiceIndex, alive: bool) {
        self.silent.retain(|s| *s != service);
        if !alive {
            self.silent.push(service);
        }
    }

    /// Installs a fixed affinity of a service.
    pub fn install(
        &mut self,
        service: ServiceIndex,
        part: Part,
        key: FlowKey,
        action: FixedAction,
    ) {
        self.fixed.insert((service, part, key), action);
    }

    /// Installs a balance service's decision: both directions of the flow. `false`, and nothing is
    /// installed, when the server's packets to this client and to another flow of it would look the
    /// same: the other flow lives on, and this one needs another server.
    #[must_use]
    pub fn balance(
        &mut self,
        service: ServiceIndex,
        flow: FlowKey,
        server: IpAddr,
        port: u16,
    ) -> bool {
        let there = FlowKey {
            dst: server,
            dport: port,
            ..flow
        };
        let back = FlowKey {
            src: server,
            sport: port,
            dst: flow.src,
            dport: flow.sport,
            ..flow
        };
        let home = FlowKey {
            src: flow.dst,
            sport: flow.dport,
            ..back
        };
        let home = FixedAction::Translate(home);
        let held = self.fixed.get(&(service, Part::Reply, back));
        if held.is_some_and(|other| *other != home) {
            return false;
        }
        self.install(service, Part::Reply, back, home);
        self.install(service, Part::Forward, flow, FixedAction::Translate(there));
        true
    }

    /// The flow of a frame: its key and, of TCP, its flags. `None` if it is not sound IP.
    pub fn flow(&self, frame: &[u8]) -> Option<(FlowKey, u8)> {
        let parsed = parse(frame, self.dual());
        (parsed.class == Class::Ip && !parsed.malformed)
            .then(|| (key(&parsed, &parsed.flow), parsed.flow.flags))
    }

    /// What becomes of a frame that comes in by a port.
    pub fn receive(&self, port: u16, frame: &[u8]) -> Outcome {
        let drop = |reason| Outcome::Drop {
            reason,
            service: None,
        };
        let Some(own) = self.policy.network.port(port) else {
            return drop(DropReason::UnknownPort);
        };
        let parsed = parse(frame, self.dual());
        let mut way = Way::new(frame, parsed, port);
        let to_us = frame.get(..6) == Some(&own.mac().0[..]);
        match way.parsed.class {
            Class::Arp => return way.to_agent(Message::Arp, None, self.dual()),
            Class::Other => return drop(DropReason::NotIp),
            _ if way.parsed.malformed => return drop(DropReason::Malformed),
            Class::Ndp => return way.to_agent(Message::Ndp, None, self.dual()),
            Class::Ip if !to_us => return drop(DropReason::WrongMac),
            Class::Ip => {}
        }
        let for_agent = match way.flow.kind {
            _ if self.is_local(&way) => Some(Message::Local),
            _ if way.parsed.ttl <= 1 => Some(Message::Ttl),
            PacketKind::IcmpError => Some(Message::IcmpError),
            PacketKind::FirstFragment | PacketKind::LaterFragment => Some(Message::Fragment),
            PacketKind::Whole => None,
        };
        match for_agent {
            Some(message) => way.to_agent(message, None, self.dual()),
            None => self.cascade(&mut way),
        }
    }

    /// What becomes of a frame that the agent hands back.
    pub fn resume(&self, frame: &[u8], from: Resume) -> Outcome {
        let parsed = parse(frame, self.dual());
        if parsed.class != Class::Ip || parsed.parser_error {
            return Outcome::Drop {
                reason: DropReason::BadPacketOut,
                service: None,
            };
        }
        let mut way = Way::new(frame, parsed, from.port);
        let stage = from.service.0 + 1;
        way.place = match from.part {
            Part::Reply => MIDDLE - stage.min(MIDDLE),
            Part::Forward => MIDDLE + stage,
        };
        way.reply = from.reply;
        way.answered_at = from.answered.then_some(way.place);
        self.cascade(&mut way)
    }

    fn dual(&self) -> bool {
        self.policy.families == Families::Dual
    }

    /// Echo to any address of ours, and the agent's own connections.
    fn is_local(&self, way: &Way<'_>) -> bool {
        let family = way.family();
        let dst = family.address(way.flow.dst);
        let icmp = if family == Family::V4 {
            (1, 8)
        } else {
            (58, 128)
        };
        let own = self
            .policy
            .network
            .ports
            .iter()
            .any(|p| p.addresses.iter().any(|a| a.addr() == dst));
        let echo = (way.flow.proto, way.flow.icmp) == icmp;
        let agents =
            matches!(way.flow.proto, 6 | 17) && way.flow.dport & AGENT_PORTS == AGENT_PORTS;
        (echo && (own || self.is_service(dst))) || (own && agents)
    }

    fn is_service(&self, address: IpAddr) -> bool {
        self.policy.services.iter().any(|s| match &s.kind {
            ServiceKind::Balance(b) => b.destinations.iter().any(|d| d.address == address),
            ServiceKind::Filter(_) | ServiceKind::Nat(_) | ServiceKind::Observe(_) => false,
        })
    }

    /// Reply part, forward part, route.
    fn cascade(&self, way: &mut Way<'_>) -> Outcome {
        for service in self.policy.services.iter().rev() {
            let here = MIDDLE - (service.index.0 + 1).min(MIDDLE);
            if let ServiceKind::Balance(balance) = &service.kind
                && way.place <= here
                && let Some(end) = self.reply_stage(way, service.index, balance, here)
            {
                return end;
            }
        }
        for service in &self.policy.services {
            let here = MIDDLE + service.index.0 + 1;
            if way.place > here {
                continue;
            }
            let end = match &service.kind {
                ServiceKind::Filter(filter) => {
                    let header = way.header();
                    let rule = filter.rules.iter().find(|r| r.criteria.matches(&header));
                    let verdict = rule.map_or(filter.default, |r| r.verdict);
                    (verdict == FilterVerdict::Deny).then(|| dropped(service.index))
                }
                ServiceKind::Balance(_) if way.reply => None,
                ServiceKind::Nat(_) | ServiceKind::Observe(_) => None,
                ServiceKind::Balance(balance) => {
                    self.forward_stage(way, service.index, balance, here)
                }
            };
            if let Some(end) = end {
                return end;
            }
        }
        self.route(way)
    }

    fn reply_stage(
        &self,
        way: &mut Way<'_>,
        service: ServiceIndex,
        balance: &Balance,
        here: usize,
    ) -> Option<Outcome> {
        match self.exact(way, service, Part::Reply) {
            Some(action) => self.fixed_action(way, service, Part::Reply, action),
            None => {
                let pool = self.policy.pool(balance.pool)?;
                let header = way.header();
                let matches = balance.reply_cubes(pool).iter().any(|c| c.matches(&header));
                let part = Part::Reply;
                if matches {
                    self.ask(way, service, part, balance, here)
                } else {
                    None
                }
            }
        }
    }

    fn forward_stage(
        &self,
        way: &mut Way<'_>,
        service: ServiceIndex,
        balance: &Balance,
        here: usize,
    ) -> Option<Outcome> {
        match self.exact(way, service, Part::Forward) {
            Some(action) => self.fixed_action(way, service, Part::Forward, action),
            None if balance.criteria.matches(&way.header()) => {
                self.ask(way, service, Part::Forward, balance, here)
            }
            None => None,
        }
    }

    fn exact(&self, way: &Way<'_>, service: ServiceIndex, part: Part) -> Option<FixedAction> {
        // Affinities are those of whole packets.
        let whole = way.flow.kind == PacketKind::Whole;
        let key = key(&way.parsed, &way.flow);
        whole
            .then(|| self.fixed.get(&(service, part, key)).copied())
            .flatten()
    }

    fn fixed_action(
        &self,
        way: &mut Way<'_>,
        service: ServiceIndex,
        part: Part,
        action: FixedAction,
    ) -> Option<Outcome> {
        match action {
            FixedAction::Forward => None,
            FixedAction::Discard => Some(dropped(service)),
            FixedAction::Translate(to) => {
                way.flow.src = address_bits(to.src);
                way.flow.dst = address_bits(to.dst);
                way.flow.sport = to.sport;
                way.flow.dport = to.dport;
                way.translated = true;
                way.reply |= part == Part::Reply;
                None
            }
        }
    }

    /// The manager's criteria if they are there, else the floor.
    fn ask(
        &self,
        way: &Way<'_>,
        service: ServiceIndex,
        part: Part,
        balance: &Balance,
        here: usize,
    ) -> Option<Outcome> {
        let managed = self.policy.manager_of(service).is_some() && !self.silent.contains(&service);
        if managed {
            // What the manager has answered for goes on to the next stage.
            return (way.answered_at != Some(here))
                .then(|| way.to_agent(Message::Interest, Some((service, part)), self.dual()));
        }
        match balance.fallback {
            Fallback::Drop => Some(dropped(service)),
            Fallback::Route => None,
        }
    }

    fn route(&self, way: &Way<'_>) -> Outcome {
        let drop = |reason| Outcome::Drop {
            reason,
            service: None,
        };
        let network = &self.policy.network;
        let dst = way.family().address(way.flow.dst);
        let own = network
            .ports
            .iter()
            .any(|p| p.addresses.iter().any(|a| a.addr() == dst));
        if own || self.is_service(dst) {
            return drop(DropReason::NotServed);
        }
        let (neighbour, missing) = match (self.neighbours.get(&dst), network.next_hop(dst)) {
            // A known neighbour's own address is as long a prefix as there can be.
            (Some(known), _) => (Some(known), Message::Glean),
            (None, Some((via, _))) if via == dst => (None, Message::Glean),
            (None, Some((via, _))) => (self.neighbours.get(&via), Message::Unresolved),
            (None, None) => return drop(DropReason::NoRoute),
        };
        let Some((number, mac)) = neighbour else {
            return way.to_agent(missing, None, self.dual());
        };
        let Some(port) = network.port(*number) else {
            return drop(DropReason::NoRoute);
        };
        let mut packet = way.frame.to_vec();
        rewrite::spend_ttl(&mut packet, way.parsed.v6);
        rewrite::ethernet(&mut packet, mac.0, port.mac().0);
        if way.translated {
            rewrite::rewrite(&mut packet, &way.parsed, &way.flow, self.dual());
        }
        Outcome::Forward {
            port: *number,
            packet,
        }
    }
}

impl<'f> Way<'f> {
    fn new(frame: &'f [u8], parsed: Parsed, in_port: u16) -> Way<'f> {
        let flow = parsed.flow;
        Way {
            frame,
            parsed,
            flow,
            in_port,
            place: 0,
            answered_at: None,
            reply: false,
            translated: false,
        }
    }

    fn family(&self) -> Family {
        if self.parsed.v6 {
            Family::V6
        } else {
            Family::V4
        }
    }

    /// The packet as criteria see it now.
    fn header(&self) -> Header {
        Header {
            family: self.family(),
            in_port: self.in_port,
            src: self.flow.src,
            dst: self.flow.dst,
            proto: self.flow.proto,
            kind: self.flow.kind,
            src_port: self.flow.sport,
            dst_port: self.flow.dport,
            tcp_flags: self.flow.flags,
            icmp_type: self.flow.icmp,
        }
    }

    fn to_agent(
        &self,
        message: Message,
        stage: Option<(ServiceIndex, Part)>,
        dual: bool,
    ) -> Outcome {
        let mut packet = self.frame.to_vec();
        if self.translated {
            rewrite::rewrite(&mut packet, &self.parsed, &self.flow, dual);
        }
        Outcome::ToAgent {
            message,
            stage,
            reply: self.reply,
            packet,
        }
    }
}

fn key(parsed: &Parsed, flow: &Flow) -> FlowKey {
    let family = if parsed.v6 { Family::V6 } else { Family::V4 };
    FlowKey {
        src: family.address(flow.src),
        dst: family.address(flow.dst),
        proto: flow.proto,
        sport: flow.sport,
        dport: flow.dport,
    }
}

fn dropped(service: ServiceIndex) -> Outcome {
    Outcome::Drop {
        reason: DropReason::Service,
        service: Some(service),
    }
}
