//! Managers that stand in for the real ones when a test runs on the evaluator: they decide at once and
//! in the plainest way, so that what a test may rely on is what any manager would do.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::frames;
use super::translation::{End, inward, outward};
use crate::eval::{Adjust, Evaluator, FlowKey, Part};
use crate::model::{
    Balance, Family, Nat, NatSource, Policy, ServiceIndex, ServiceKind, address_bits,
};

/// An inside address and port of a protocol, by service.
type Inside = (ServiceIndex, u8, IpAddr, u16);

/// How far a gate's numbers are ahead of the server's, but for the client's port.
const GATE_AHEAD: u32 = 0x9e37_0000;

/// The managers of a policy, and the outside tuples that they have given out.
pub(super) struct StandIns<'p> {
    policy: &'p Policy,
    given: BTreeMap<Inside, End>,
}

impl<'p> StandIns<'p> {
    pub(super) fn new(policy: &'p Policy) -> StandIns<'p> {
        StandIns {
            policy,
            given: BTreeMap::new(),
        }
    }

    /// Decides about a packet, and installs the decision; `false` leaves the packet to the fallback. In
    /// mid-flow nothing new is ever chosen, but that a meter begins to count.
    pub(super) fn decide(
        &mut self,
        evaluator: &mut Evaluator<'_>,
        service: ServiceIndex,
        manager: Option<usize>,
        part: Part,
        packet: &[u8],
    ) -> bool {
        let Some((flow, flags)) = evaluator.flow(packet) else {
            return false;
        };
        let first = flow.proto != 6 || flags & 0x16 == 2;
        match (self.policy.service(service).map(|s| &s.kind), part) {
            (Some(ServiceKind::Observe(_)), _) => {
                evaluator.observe(service, flow);
                true
            }
            (Some(ServiceKind::Balance(balance)), Part::Forward) if first => {
                self.server(evaluator, service, balance, flow)
            }
            (Some(ServiceKind::Gate(_)), Part::Forward) if first => {
                hand_over(evaluator, service, flow);
                true
            }
            (Some(ServiceKind::Nat(nat)), Part::Forward) if first => {
                let nat = &*self.own(service, manager, nat);
                let to = self.outward(service, nat, flow, packet);
                to.is_some_and(|to| evaluator.translate(service, part, flow, to))
            }
            (Some(ServiceKind::Nat(nat)), Part::Reply) if first => {
                let to = inward(nat, flow, self.host_at(service, nat, flow));
                to.is_some_and(|to| evaluator.translate(service, part, flow, to))
            }
            _ => false,
        }
    }

    /// A nat service with the outside tuples that the manager has.
    fn own(&self, service: ServiceIndex, manager: Option<usize>, nat: &'p Nat) -> Cow<'p, Nat> {
        let manager = manager.and_then(|place| self.policy.managers.get(place));
        let part = manager.and_then(|manager| manager.part_of(service));
        match part.and_then(|part| part.outside.clone()) {
            None => Cow::Borrowed(nat),
            Some(outside) => Cow::Owned(Nat {
                source: Some(outside),
                ..nat.clone()
            }),
        }
    }

    /// The first server that takes new flows and can tell this one from the client's others.
    fn server(
        &self,
        evaluator: &mut Evaluator<'_>,
        service: ServiceIndex,
        balance: &Balance,
        flow: FlowKey,
    ) -> bool {
        let servers = self
            .policy
            .pool(balance.pool)
            .map_or(&[][..], |p| &p.servers);
        let mut taking = servers.iter().filter(|server| server.weight > 0);
        taking.any(|server| evaluator.balance(service, flow, server.address, server.port))
    }

    /// What a flow from inside becomes; `None` if it cannot be translated.
    fn outward(
        &mut self,
        service: ServiceIndex,
        nat: &Nat,
        flow: FlowKey,
        packet: &[u8],
    ) -> Option<FlowKey> {
        let host = self.host_at(service, nat, flow);
        outward(nat, flow, host, || {
            let has_ports = matches!(flow.proto, 6 | 17);
            if !has_ports && !frames::read(self.policy, packet)?.is_echo_request() {
                return None;
            }
            self.outside_of(service, nat, flow)
        })
    }

    /// The inside host that has the outside tuple to which a flow goes.
    fn host_at(&self, service: ServiceIndex, nat: &Nat, flow: FlowKey) -> Option<End> {
        let paired = (nat.source.as_ref()).and_then(|source| source.inside_of(flow.dst));
        if let Some(inside) = paired {
            return Some((inside, flow.dport));
        }
        let outside = (flow.dst, flow.dport);
        let mut given = self.given.iter();
        let found = given.find(|((s, proto, ..), tuple)| {
            (*s, *proto) == (service, flow.proto) && **tuple == outside
        });
        found.map(|((_, _, address, port), _)| (*address, *port))
    }

    /// The outside tuple of a flow's inside end: always the same one for the same end, all of a host's at
    /// one address, with the inside port if that is free, else with one of its parity.
    fn outside_of(&mut self, service: ServiceIndex, nat: &Nat, flow: FlowKey) -> Option<End> {
        let inside = (service, flow.proto, flow.src, flow.sport);
        if let Some(tuple) = self.given.get(&inside) {
            return Some(*tuple);
        }
        let Some(NatSource::Ports {
            addresses,
            first_port,
            last_port,
        }) = &nat.source
        else {
            return None;
        };
        let mine = |key: &Inside| key.0 == service && key.2 == flow.src;
        let of_host: Vec<IpAddr> = (self.given.iter())
            .filter(|(key, _)| mine(key))
            .map(|(_, (address, _))| *address)
            .collect();
        let most = nat.per_source.unwrap_or(u32::MAX) as usize;
        if of_host.len() >= most {
            return None;
        }
        let ports = *first_port..=*last_port;
        let same_parity = |port: &u16| port % 2 == flow.sport % 2;
        let choices: Vec<u16> = (ports
            .contains(&flow.sport)
            .then_some(flow.sport)
            .into_iter())
        .chain(ports.clone().filter(same_parity))
        .chain(ports)
        .collect();
        let all = addresses.iter().flat_map(|(first, last)| {
            let family = Family::of(*first);
            (address_bits(*first)..=address_bits(*last)).map(move |bits| family.address(bits))
        });
        let paired = of_host.first().copied();
        let mut candidates = all.filter(|a| paired.is_none_or(|p| p == *a));
        let taken: Vec<(IpAddr, u16)> = (self.given.iter())
            .filter(|((s, proto, ..), _)| (*s, *proto) == (service, flow.proto))
            .map(|(_, tuple)| *tuple)
            .collect();
        let tuple = candidates.find_map(|address| {
            let mut ports = choices.iter();
            let port = ports.find(|port| !taken.contains(&(address, **port)))?;
            Some((address, *port))
        })?;
        self.given.insert(inside, tuple);
        Some(tuple)
    }
}

/// The gate has opened both connections at once, with numbers of its own towards the client: whoever
/// comes at whatever time, and whatever is said first.
fn hand_over(evaluator: &mut Evaluator<'_>, service: ServiceIndex, flow: FlowKey) {
    let ahead = GATE_AHEAD.wrapping_add(flow.sport.into());
    let forward = Adjust {
        acknowledgement: ahead.wrapping_neg(),
        ..Adjust::default()
    };
    let reply = Adjust {
        sequence: ahead,
        ..Adjust::default()
    };
    evaluator.hand_over(service, flow, forward, reply);
}
