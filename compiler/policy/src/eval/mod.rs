//! The evaluator: what a policy means, packet by packet, down to the byte.
//!
//! It mirrors the generated pipeline and the entries that a plan installs, and knows nothing of P4,
//! agents or time. The decisions made so far (fixed affinities) and the neighbours known are its
//! state; everything else comes from the policy. A differential test compares it with the switch.
//!
//! What it leaves out: the MTU of ports (a packet that is too big leaves all the same), and the outer
//! headers of tunnels (it tells what goes into which tunnel, see [`Outcome::Tunnelled`]).

mod cascade;
mod packet;
mod rewrite;

use std::collections::BTreeMap;
use std::net::IpAddr;

use signalbox_proofs::{Cube, Family, PacketKind};

use crate::model::{Families, Mac, Policy, Service, ServiceIndex, ServiceKind, Way};
use cascade::{MIDDLE, Packet};
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
        /// The next hop that a stage has chosen.
        dispatch: Option<Dispatch>,
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
    /// It leaves in a tunnel.
    Tunnelled {
        /// The port's number.
        port: u16,
        /// The kind of tunnel.
        tunnel: Tunnel,
        /// The tunnel's other end.
        to: IpAddr,
        /// What goes into the tunnel, in the Ethernet frame in which the tunnel's packet leaves.
        packet: Vec<u8>,
    },
}

/// A next hop that a stage has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dispatch {
    /// The server.
    pub next_hop: IpAddr,
    /// The tunnel to it; `None` for its Ethernet address.
    pub tunnel: Option<Tunnel>,
}

/// A kind of tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tunnel {
    /// IP in IP (RFC 2003, RFC 2473).
    Ipip,
    /// Generic UDP Encapsulation, version 0.
    Gue,
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

impl FlowKey {
    /// The key of the answers.
    pub fn reversed(self) -> FlowKey {
        FlowKey {
            src: self.dst,
            dst: self.src,
            proto: self.proto,
            sport: self.dport,
            dport: self.sport,
        }
    }
}

/// What a fixed affinity does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixedAction {
    /// On to the next stage.
    Forward,
    /// The whole new tuple; of the key's protocol.
    Translate(FlowKey),
    /// Unchanged, to this next hop.
    Dispatch(Dispatch),
    /// Other numbers of TCP.
    Adjust(Adjust),
    /// Dropped.
    Discard,
}

/// What a gate's affinity does to TCP headers. Those of several gates add up, and are applied once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adjust {
    /// Added to the sequence number, modulo 2^32.
    pub sequence: u32,
    /// Added to the acknowledgement number where the ACK flag is set, modulo 2^32.
    pub acknowledgement: u32,
    /// -14 to 14: how far the window moves to the left, to the right if negative; but not a SYN's
    /// (RFC 7323, section 2.2).
    pub window_shift: i8,
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
    /// The next hop that had been chosen.
    pub dispatch: Option<Dispatch>,
}

/// A policy's meaning, with the decisions made so far.
#[derive(Clone, Debug)]
pub struct Evaluator<'p> {
    policy: &'p Policy,
    fixed: BTreeMap<(ServiceIndex, Part, FlowKey), FixedAction>,
    neighbours: BTreeMap<IpAddr, (u16, Mac)>,
    silent: Vec<ServiceIndex>,
    /// By service.
    replies: Vec<Option<Replies>>,
}

/// The criteria of a service's reply part.
#[derive(Clone, Debug)]
struct Replies {
    /// What is left to the forward part: one end of a hairpin.
    pass: Vec<Cube>,
    /// What comes back.
    of: Vec<Cube>,
    /// Whether the manager is asked about what has no fixed affinity; else it is dropped.
    asks: bool,
    /// What is dropped otherwise.
    shut: Vec<Cube>,
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
            replies: policy.services.iter().map(|s| replies(policy, s)).collect(),
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
    /// same: the other flow lives on, and this one needs another server. Of a service that dispatches
    /// one direction is installed, and the port stays.
    #[must_use]
    pub fn balance(
        &mut self,
        service: ServiceIndex,
        flow: FlowKey,
        server: IpAddr,
        port: u16,
    ) -> bool {
        let kind = self.policy.service(service).map(|s| &s.kind);
        let tunnel = match kind {
            Some(ServiceKind::Balance(b)) => match b.way {
                Way::Translate => None,
                Way::Mac => Some(None),
                Way::Ipip => Some(Some(Tunnel::Ipip)),
                Way::Gue => Some(Some(Tunnel::Gue)),
            },
            _ => None,
        };
        if let Some(tunnel) = tunnel {
            let to = Dispatch {
                next_hop: server,
                tunnel,
            };
            self.install(service, Part::Forward, flow, FixedAction::Dispatch(to));
            return true;
        }
        let to = FlowKey {
            dst: server,
            dport: port,
            ..flow
        };
        self.translate(service, Part::Forward, flow, to)
    }

    /// Installs a translation: packets of the flow become `to`, and answers become the flow's. `part` is
    /// where its first packet came: `Forward` from inside, `Reply` from outside. A hairpin is one
    /// translation of both ends. `false`, and nothing is installed, when the answers are another flow's.
    #[must_use]
    pub fn translate(
        &mut self,
        service: ServiceIndex,
        part: Part,
        flow: FlowKey,
        to: FlowKey,
    ) -> bool {
        let other = match part {
            Part::Reply => Part::Forward,
            Part::Forward => Part::Reply,
        };
        let back = to.reversed();
        let home = FixedAction::Translate(flow.reversed());
        let held = self.fixed.get(&(service, other, back));
        if held.is_some_and(|action| *action != home) {
            return false;
        }
        self.install(service, other, back, home);
        self.install(service, part, flow, FixedAction::Translate(to));
        true
    }

    /// Installs a gate's decision: the client's flow and the server's go on with other numbers.
    pub fn hand_over(
        &mut self,
        service: ServiceIndex,
        flow: FlowKey,
        forward: Adjust,
        reply: Adjust,
    ) {
        self.install(service, Part::Forward, flow, FixedAction::Adjust(forward));
        let back = flow.reversed();
        self.install(service, Part::Reply, back, FixedAction::Adjust(reply));
    }

    /// Installs an observe service's decision: one direction of a flow is counted by itself.
    pub fn observe(&mut self, service: ServiceIndex, flow: FlowKey) {
        self.install(service, Part::Forward, flow, FixedAction::Forward);
    }

    /// The flow of a frame: its key and, of TCP, its flags. `None` if it is not sound IP.
    pub fn flow(&self, frame: &[u8]) -> Option<(FlowKey, u8)> {
        let parsed = parse(frame, self.dual());
        (parsed.class == Class::Ip && !parsed.malformed)
            .then(|| (key(&parsed, &parsed.flow), parsed.flow.flags))
    }

    /// The manager that a service asks about a frame, as [`Outcome::ToAgent`] has it, by its place among the
    /// policy's managers.
    pub fn asked_about(
        &self,
        port: u16,
        frame: &[u8],
        service: ServiceIndex,
        part: Part,
    ) -> Option<usize> {
        let packet = Packet::new(frame, parse(frame, self.dual()), port);
        let reply = part == Part::Reply;
        self.policy.asked_about(service, reply, &packet.header())
    }

    /// What becomes of a frame that comes in by a port.
    pub fn receive(&self, port: u16, frame: &[u8]) -> Outcome {
        self.receive_counted(port, frame).0
    }

    /// The same, and the observe services that count it on this pass.
    pub fn receive_counted(&self, port: u16, frame: &[u8]) -> (Outcome, Vec<ServiceIndex>) {
        let mut packet = Packet::new(frame, parse(frame, self.dual()), port);
        let outcome = self.enter(&mut packet);
        (outcome, packet.counted)
    }

    fn enter(&self, way: &mut Packet<'_>) -> Outcome {
        let (port, frame) = (way.in_port, way.frame);
        let drop = |reason| Outcome::Drop {
            reason,
            service: None,
        };
        let Some(own) = self.policy.network.port(port) else {
            return drop(DropReason::UnknownPort);
        };
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
            _ if self.is_local(way) => Some(Message::Local),
            _ if way.parsed.ttl <= 1 => Some(Message::Ttl),
            PacketKind::IcmpError => Some(Message::IcmpError),
            PacketKind::FirstFragment | PacketKind::LaterFragment => Some(Message::Fragment),
            PacketKind::Whole => None,
        };
        match for_agent {
            Some(message) => way.to_agent(message, None, self.dual()),
            None => self.cascade(way),
        }
    }

    /// What becomes of a frame that the agent hands back.
    pub fn resume(&self, frame: &[u8], from: Resume) -> Outcome {
        self.resume_counted(frame, from).0
    }

    /// The same, and the observe services that count it on this pass.
    pub fn resume_counted(&self, frame: &[u8], from: Resume) -> (Outcome, Vec<ServiceIndex>) {
        let parsed = parse(frame, self.dual());
        if parsed.class != Class::Ip || parsed.parser_error {
            let drop = Outcome::Drop {
                reason: DropReason::BadPacketOut,
                service: None,
            };
            return (drop, Vec::new());
        }
        let mut way = Packet::new(frame, parsed, from.port);
        let stage = from.service.0 + 1;
        way.place = match from.part {
            Part::Reply => MIDDLE - stage.min(MIDDLE),
            Part::Forward => MIDDLE + stage,
        };
        way.reply = from.reply;
        way.dispatch = from.dispatch;
        way.answered_at = from.answered.then_some(way.place);
        let outcome = self.cascade(&mut way);
        (outcome, way.counted)
    }

    fn dual(&self) -> bool {
        self.policy.families == Families::Dual
    }

    /// Echo to any address of ours, and the agent's own connections.
    fn is_local(&self, way: &Packet<'_>) -> bool {
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
        (echo && (own || self.answers_echo_for(dst))) || (own && agents)
    }

    fn is_service(&self, address: IpAddr) -> bool {
        self.policy.services.iter().any(|s| s.owns(address))
    }

    /// Whether an echo request to a service's address is the agent's, and not for the service to translate.
    fn answers_echo_for(&self, address: IpAddr) -> bool {
        self.policy.services.iter().any(|s| {
            let translates =
                matches!(&s.kind, ServiceKind::Nat(nat) if nat.translates_echo_to(address));
            s.owns(address) && !translates
        })
    }
}

/// What a service's reply part matches, if it has one.
fn replies(policy: &Policy, service: &Service) -> Option<Replies> {
    match &service.kind {
        ServiceKind::Balance(balance) if service.translates() => Some(Replies {
            pass: Vec::new(),
            of: balance.reply_cubes(policy.pool(balance.pool)?),
            asks: true,
            shut: Vec::new(),
        }),
        ServiceKind::Gate(gate) => Some(Replies {
            pass: Vec::new(),
            of: gate.reply_cubes(),
            asks: true,
            shut: gate.all_reply_cubes(),
        }),
        ServiceKind::Nat(nat) => Some(Replies {
            pass: nat.hairpin_cubes(),
            of: nat.reply_cubes(),
            asks: nat.asks_about_replies(),
            shut: Vec::new(),
        }),
        _ => None,
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
