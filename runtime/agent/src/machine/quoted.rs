//! ICMP errors that arrive: led to the end of the flow that they quote, and translated as its packets are
//! (RFC 5508, section 4; SEMANTICS A2.9, A6.22).
//!
//! An error about a packet travels the other way: the quoted tuple, reversed, walks the cascade as a packet
//! of that direction would, and what comes out, reversed again, is the packet as its sender sent it.

use std::net::IpAddr;

use bytes::Bytes;
use signalbox_lower::plan::{Kind, NatSource, ServicePlan};

use super::Agent;
use super::icmp::{LEAST_MTU_V6, Problem};
use super::translate::{icmp_is_sound, readdress, renumber, retarget};
use super::walk::{End, Traveller, Walk};
use crate::counters::Drop;
use crate::entry::{FixedAction, Packet, packet_out};
use crate::flow::{FlowKey, PacketKind, Part, Tuple};
use crate::packet::{self, View, proto};

/// Type, code, checksum and one word stand before the quote.
const BEFORE_QUOTE: usize = 8;
/// ICMP's redirect is for a host on the link it came by, and goes no further (RFC 1812, section 5.2.7.2).
const REDIRECT: u8 = 5;
/// UDP port of Generic UDP Encapsulation.
const GUE_PORT: u16 = 6080;
/// UDP header and GUE header.
const GUE_HEADERS: usize = 8 + 4;
/// What a router that does not know of path MTU discovery is taken to mean (RFC 1191, section 4 has it
/// send 0): every host takes so much (RFC 791).
const MTU_UNSAID: u32 = 576;
/// The smallest MTU of IPv4 (RFC 791).
const LEAST_MTU_V4: u32 = 68;

impl Agent {
    /// An ICMP error on its way through the switch, or to it.
    pub(super) fn icmp_error(&mut self, packet: &Packet) {
        let frame = &packet.bytes;
        let sound = packet::view(frame)
            .filter(|v| v.kind == PacketKind::IcmpError && icmp_is_sound(frame, v));
        let Some(view) = sound else {
            return self.counters.drop(Drop::Malformed, 1);
        };
        if (view.tuple.proto, view.icmp) == (proto::ICMP, REDIRECT) {
            return self.counters.drop(Drop::IcmpError, 1);
        }
        if !self.errors_through.take(self.now) {
            return self.counters.drop(Drop::IcmpErrorRate, 1);
        }
        let port = packet.meta.port;
        let quote = quote_of(frame, &view);
        let about = quote.filter(|q| q.tuple.src == view.tuple.dst && names_flow(frame, &view, q));
        let mut walk = Walk::of_error(&view, port, about.map(|q| q.tuple));
        let end = self.walk(&mut walk);
        let known = !walk.met.is_empty();
        let dst = view.tuple.dst;
        if end != End::Route {
            return self.counters.drop(Drop::Service, 1);
        }
        match about.filter(|_| known) {
            Some(quote) => self.translate_error(packet, &view, &quote, &walk),
            None if self.is_own(dst) => match quote {
                Some(tunnel) if self.is_own(tunnel.tuple.src) => {
                    self.tunnel_error(packet, &view, &tunnel);
                }
                _ => self.counters.drop(Drop::NotWanted, 1),
            },
            None if self.plan.services.iter().any(|s| stands_for(s, dst)) => {
                self.counters.drop(Drop::IcmpError, 1);
            }
            None => {
                self.counters.errors_routed += 1;
                self.route_error(packet, frame.clone(), &walk);
            }
        }
    }

    fn translate_error(&mut self, packet: &Packet, view: &View, quote: &View, walk: &Walk) {
        let Traveller::Error { src, dst, .. } = walk.traveller else {
            return;
        };
        // Who speaks from behind a translation, and is not the end itself, is not shown (RFC 5508, REQ-5).
        let hidden = src == view.tuple.src && quote.tuple.dst != walk.tuple.src;
        let src = if hidden {
            let way_out = self
                .next_hop(dst)
                .map_or(packet.meta.port, |(port, _)| port);
            self.own_address(way_out, dst).unwrap_or(walk.tuple.src)
        } else {
            src
        };
        let Some(mut frame) = packet.bytes.get(..view.end).map(<[u8]>::to_vec) else {
            return;
        };
        retarget(
            &mut frame,
            view.l4 + BEFORE_QUOTE,
            quote,
            &walk.tuple.reversed(),
        );
        renumber(&mut frame, quote, walk.adjust);
        readdress(&mut frame, view, src, dst);
        self.counters.errors_translated += 1;
        self.route_error(packet, frame.into(), walk);
    }

    /// On at the route, or at the next hop that a stage has chosen.
    fn route_error(&mut self, packet: &Packet, bytes: Bytes, walk: &Walk) {
        let mut meta = walk.meta;
        meta.kind = packet_out::ROUTE;
        meta.port = packet.meta.port;
        self.packet_out(Packet { meta, bytes });
    }

    /// An error about a tunnel's packet, which we sent. That it is too big for the tunnel's way, or does not
    /// arrive, is the client's to know, who sent the inner one; what else befalls a tunnel ends here, and is
    /// counted.
    fn tunnel_error(&mut self, packet: &Packet, view: &View, tunnel: &View) {
        let frame = &packet.bytes;
        let quoted = frame.get(..view.end).unwrap_or(&[]);
        let at = match tunnel.tuple.proto {
            4 | 41 => tunnel.l4,
            proto::UDP if tunnel.tuple.dport == GUE_PORT => tunnel.l4 + GUE_HEADERS,
            _ => return self.counters.drop(Drop::NotWanted, 1),
        };
        let inner = packet::view_at(quoted, at).filter(|q| names_flow(quoted, view, q));
        let problem = problem_of_inner(quoted, view, tunnel.tuple.proto, at);
        let dispatched = inner.filter(|q| self.is_dispatched(&q.tuple));
        let (Some(problem), Some(inner)) = (problem, dispatched) else {
            return self.counters.drop(Drop::IcmpError, 1);
        };
        let (sent, back) = self.origin(inner.tuple);
        let problem = match problem {
            Problem::TooBig(mtu) if sent.src.is_ipv4() => Problem::TooBig(mtu.max(LEAST_MTU_V4)),
            Problem::TooBig(mtu) => Problem::TooBig(mtu.max(LEAST_MTU_V6)),
            other => other,
        };
        let mut about = quoted.to_vec();
        retarget(&mut about, at, &inner, &sent);
        renumber(&mut about, &inner, back);
        let way_out = (self.next_hop(sent.src)).map_or(packet.meta.port, |(port, _)| port);
        let own = self.own_address(way_out, sent.src);
        let about = about.get(at..).unwrap_or(&[]);
        self.send_error(problem, about, own, sent.src);
    }

    /// Whether some service sends a flow's packets on to a next hop of its choice.
    fn is_dispatched(&self, tuple: &Tuple) -> bool {
        let services = (0u8..).take(self.plan.services.len());
        let keys = services.map(|service| FlowKey {
            service,
            part: Part::Forward,
            tuple: *tuple,
            kind: PacketKind::Whole,
        });
        keys.filter_map(|key| self.store.get(self.store.find(&key)?))
            .any(|flow| {
                matches!(
                    flow.action(Part::Forward),
                    Some(FixedAction::Dispatch { .. })
                )
            })
    }
}

/// What an error about a tunnel means for the packet inside, which begins at `at` (RFC 2003, section 4; RFC 4213,
/// section 3.4; RFC 2473, section 8). The client knows nothing of the tunnel, and takes its server for a host
/// of our network: whatever does not arrive has not reached that host.
fn problem_of_inner(frame: &[u8], view: &View, tunnel: u8, at: usize) -> Option<Problem> {
    let code = packet::u8_at(frame, view.l4 + 1)?;
    let overhead = u32::try_from(at - (view.l4 + BEFORE_QUOTE)).unwrap_or(0);
    let too_big = |mtu: u32| {
        let mtu = if mtu == 0 { MTU_UNSAID } else { mtu };
        Problem::TooBig(mtu.saturating_sub(overhead))
    };
    match (view.tuple.proto, view.icmp, code) {
        (proto::ICMP, 3, 4) => packet::u16_at(frame, view.l4 + 6).map(|mtu| too_big(mtu.into())),
        (proto::ICMPV6, 2, _) => packet::u32_at(frame, view.l4 + 4).map(too_big),
        // No network, host or protocol; no route or address; spent in transit.
        (proto::ICMP, 3, 0..=2)
        | (proto::ICMPV6, 1, 0 | 3)
        | (proto::ICMP, 11, 0)
        | (proto::ICMPV6, 3, 0) => Some(Problem::HostUnreachable),
        // Nobody takes GUE there. Other tunnels have no ports.
        (proto::ICMP, 3, 3) | (proto::ICMPV6, 1, 4) if tunnel == proto::UDP => {
            Some(Problem::HostUnreachable)
        }
        _ => None,
    }
}

/// The packet that an ICMP error quotes, as far as it does.
fn quote_of(frame: &[u8], view: &View) -> Option<View> {
    packet::view_at(frame.get(..view.end)?, view.l4 + BEFORE_QUOTE)
}

/// Whether a quote says which flow it is of: ports and identifiers are there, where the protocol has them.
/// An error is never about an error.
fn names_flow(frame: &[u8], view: &View, quote: &View) -> bool {
    let end = view.end.min(frame.len());
    let needed = match (quote.tuple.proto, quote.icmp) {
        (proto::TCP | proto::UDP, _) => 4,
        (proto::ICMP, 0 | 8) | (proto::ICMPV6, 128 | 129) => 6,
        _ => 0,
    };
    matches!(quote.kind, PacketKind::Whole | PacketKind::FirstFragment) && quote.l4 + needed <= end
}

/// Whether a service translates what comes to an address.
fn stands_for(service: &ServicePlan, address: IpAddr) -> bool {
    let outside = |nat: &signalbox_lower::plan::NatPlan| match &nat.source {
        Some(NatSource::Ports { addresses, .. }) => {
            (addresses.iter()).any(|r| r.first <= address && address <= r.last)
        }
        Some(NatSource::OneToOne { pairs }) => pairs.iter().any(|p| p.outside.contains(&address)),
        None => false,
    };
    !matches!(service.kind, Kind::Filter | Kind::Observe)
        && (service.addresses.contains(&address) || service.nat.as_ref().is_some_and(outside))
}
