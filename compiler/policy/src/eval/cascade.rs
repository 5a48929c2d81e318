//! A packet's way through the stages: reply part, forward part, route.

use std::net::IpAddr;

use signalbox_proofs::{Family, Header, PacketKind};

use super::packet::{Flow, Parsed};
use super::{
    Adjust, Dispatch, DropReason, Evaluator, FixedAction, Message, Outcome, Part, Replies, key,
    rewrite,
};
use crate::model::{
    Fallback, FilterVerdict, Gate, Observe, ServiceIndex, ServiceKind, address_bits,
};

/// Packets from here on in the cascade; see `place` in p4/lib/types.p4.
pub(super) const MIDDLE: usize = 64;

/// A packet on its way through the stages.
pub(super) struct Packet<'f> {
    pub frame: &'f [u8],
    pub parsed: Parsed,
    pub flow: Flow,
    pub in_port: u16,
    pub place: usize,
    pub answered_at: Option<usize>,
    pub reply: bool,
    pub translated: bool,
    /// What gates have added up.
    pub adjust: Option<Adjust>,
    /// The next hop that a stage has chosen.
    pub dispatch: Option<Dispatch>,
    /// The observe services that have counted it.
    pub counted: Vec<ServiceIndex>,
}

impl Evaluator<'_> {
    /// Reply part, forward part, route.
    pub(super) fn cascade(&self, way: &mut Packet<'_>) -> Outcome {
        for service in self.policy.services.iter().rev() {
            let here = MIDDLE - (service.index.0 + 1).min(MIDDLE);
            if let Some(Some(replies)) = self.replies.get(service.index.0)
                && way.place <= here
                && let Some(end) = self.reply_stage(way, service.index, replies, here)
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
                ServiceKind::Observe(observe) => {
                    self.observe_stage(way, service.index, observe, here)
                }
                ServiceKind::Balance(_) | ServiceKind::Gate(_) | ServiceKind::Nat(_)
                    if way.reply =>
                {
                    None
                }
                ServiceKind::Balance(balance) => {
                    let matches = balance.criteria.matches(&way.header());
                    self.forward_stage(way, service.index, matches, here)
                }
                ServiceKind::Gate(gate) => self.gate_stage(way, service.index, gate, here),
                ServiceKind::Nat(nat) => {
                    let matches = nat.criteria.matches(&way.header());
                    self.forward_stage(way, service.index, matches, here)
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
        way: &mut Packet<'_>,
        service: ServiceIndex,
        replies: &Replies,
        here: usize,
    ) -> Option<Outcome> {
        if let Some(action) = self.exact(way, service, Part::Reply) {
            return fixed_action(way, service, Part::Reply, action);
        }
        let header = way.header();
        let passes = replies.pass.iter().any(|c| c.matches(&header));
        if passes {
            None
        } else if !replies.of.iter().any(|c| c.matches(&header)) {
            let shut = replies.shut.iter().any(|c| c.matches(&header));
            shut.then(|| dropped(service))
        } else if replies.asks {
            self.ask(way, service, Part::Reply, here)
        } else {
            Some(dropped(service))
        }
    }

    fn forward_stage(
        &self,
        way: &mut Packet<'_>,
        service: ServiceIndex,
        matches: bool,
        here: usize,
    ) -> Option<Outcome> {
        match self.exact(way, service, Part::Forward) {
            Some(action) => fixed_action(way, service, Part::Forward, action),
            None if matches => self.ask(way, service, Part::Forward, here),
            None => None,
        }
    }

    /// Of what it matches the manager is asked about those that some clause allows.
    fn gate_stage(
        &self,
        way: &mut Packet<'_>,
        service: ServiceIndex,
        gate: &Gate,
        here: usize,
    ) -> Option<Outcome> {
        if let Some(action) = self.exact(way, service, Part::Forward) {
            return fixed_action(way, service, Part::Forward, action);
        }
        let header = way.header();
        if gate.allow.iter().any(|a| a.criteria.matches(&header)) {
            self.ask(way, service, Part::Forward, here)
        } else {
            gate.criteria.matches(&header).then(|| dropped(service))
        }
    }

    fn observe_stage(
        &self,
        way: &mut Packet<'_>,
        service: ServiceIndex,
        observe: &Observe,
        here: usize,
    ) -> Option<Outcome> {
        let matches = observe.criteria.matches(&way.header());
        if !observe.per_flow {
            way.counted.extend(matches.then_some(service));
            return None;
        }
        if self.exact(way, service, Part::Forward) == Some(FixedAction::Forward) {
            way.counted.push(service);
        }
        self.forward_stage(way, service, matches, here)
    }

    fn exact(&self, way: &Packet<'_>, service: ServiceIndex, part: Part) -> Option<FixedAction> {
        // Affinities are those of whole packets.
        let whole = way.flow.kind == PacketKind::Whole;
        let key = key(&way.parsed, &way.flow);
        whole
            .then(|| self.fixed.get(&(service, part, key)).copied())
            .flatten()
    }

    /// The manager's criteria if they are there, else the floor.
    fn ask(
        &self,
        way: &Packet<'_>,
        service: ServiceIndex,
        part: Part,
        here: usize,
    ) -> Option<Outcome> {
        let reply = part == Part::Reply;
        let managed = (self.policy)
            .asked_about(service, reply, &way.header())
            .is_some()
            && !self.silent.contains(&service);
        if managed {
            // What the manager has answered for goes on to the next stage.
            return (way.answered_at != Some(here))
                .then(|| way.to_agent(Message::Interest, Some((service, part)), self.dual()));
        }
        match self.policy.service(service).map(|s| s.fallback()) {
            Some(Fallback::Route) => None,
            Some(Fallback::Drop) | None => Some(dropped(service)),
        }
    }

    fn route(&self, way: &Packet<'_>) -> Outcome {
        let drop = |reason| Outcome::Drop {
            reason,
            service: None,
        };
        let network = &self.policy.network;
        if let Some(to) = way.dispatch {
            // A tunnel's packet is routed to its other end; the server itself must be a neighbour.
            let hop = match (to.tunnel, network.next_hop(to.next_hop)) {
                (Some(_), Some((via, _))) if !self.neighbours.contains_key(&to.next_hop) => via,
                _ => to.next_hop,
            };
            let sent = self
                .neighbours
                .get(&hop)
                .and_then(|(number, mac)| self.send(way, *number, mac.0));
            return match (sent, to.tunnel) {
                (None, _) => drop(DropReason::NoNextHop),
                (Some((port, packet)), None) => Outcome::Forward { port, packet },
                (Some((port, packet)), Some(tunnel)) => Outcome::Tunnelled {
                    port,
                    tunnel,
                    to: to.next_hop,
                    packet,
                },
            };
        }
        let dst: IpAddr = way.family().address(way.flow.dst);
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
        match self.send(way, *number, mac.0) {
            Some((port, packet)) => Outcome::Forward { port, packet },
            None => drop(DropReason::NoRoute),
        }
    }

    /// The frame as it leaves by a port to that Ethernet address.
    fn send(&self, way: &Packet<'_>, number: u16, mac: [u8; 6]) -> Option<(u16, Vec<u8>)> {
        let port = self.policy.network.port(number)?;
        let mut packet = way.frame.to_vec();
        rewrite::spend_ttl(&mut packet, way.parsed.v6);
        rewrite::ethernet(&mut packet, mac, port.mac().0);
        way.rewrite(&mut packet, self.dual());
        Some((number, packet))
    }
}

fn fixed_action(
    way: &mut Packet<'_>,
    service: ServiceIndex,
    part: Part,
    action: FixedAction,
) -> Option<Outcome> {
    match action {
        FixedAction::Forward => None,
        FixedAction::Discard => Some(dropped(service)),
        FixedAction::Dispatch(to) => {
            way.dispatch = Some(to);
            None
        }
        FixedAction::Adjust(by) => {
            let so_far = way.adjust.unwrap_or_default();
            way.adjust = Some(Adjust {
                sequence: so_far.sequence.wrapping_add(by.sequence),
                acknowledgement: so_far.acknowledgement.wrapping_add(by.acknowledgement),
                window_shift: so_far.window_shift.wrapping_add(by.window_shift),
            });
            way.reply |= part == Part::Reply;
            None
        }
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

impl<'f> Packet<'f> {
    pub(super) fn new(frame: &'f [u8], parsed: Parsed, in_port: u16) -> Packet<'f> {
        let flow = parsed.flow;
        Packet {
            frame,
            parsed,
            flow,
            in_port,
            place: 0,
            answered_at: None,
            reply: false,
            translated: false,
            adjust: None,
            dispatch: None,
            counted: Vec::new(),
        }
    }

    pub(super) fn family(&self) -> Family {
        if self.parsed.v6 {
            Family::V6
        } else {
            Family::V4
        }
    }

    /// The packet as criteria see it now.
    pub(super) fn header(&self) -> Header {
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

    /// Brings what the stages have made of it into the frame.
    fn rewrite(&self, frame: &mut [u8], dual: bool) {
        if self.translated {
            rewrite::rewrite(frame, &self.parsed, &self.flow, dual);
        }
        if let Some(by) = self.adjust {
            rewrite::adjust(frame, &self.parsed, by);
        }
    }

    pub(super) fn to_agent(
        &self,
        message: Message,
        stage: Option<(ServiceIndex, Part)>,
        dual: bool,
    ) -> Outcome {
        let mut packet = self.frame.to_vec();
        self.rewrite(&mut packet, dual);
        Outcome::ToAgent {
            message,
            stage,
            reply: self.reply,
            dispatch: self.dispatch,
            packet,
        }
    }
}

fn dropped(service: ServiceIndex) -> Outcome {
    Outcome::Drop {
        reason: DropReason::Service,
        service: Some(service),
    }
}
