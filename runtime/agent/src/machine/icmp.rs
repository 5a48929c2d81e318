//! What the agent tells the sender of a packet that cannot go on: Time Exceeded, Destination Unreachable and
//! Packet Too Big (RFC 792, RFC 1812 section 4.3, RFC 4443).
//!
//! The sender finds its own packet in the error, as it sent it. When to say nothing is decided here too.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use signalbox_lower::plan::{Plan, Way};

use super::Agent;
use super::host::own_packet;
use super::reset::reset_for;
use super::translate::{renumber, retarget};
use crate::adjust::Adjust;
use crate::counters::{Drop, Sent, Withheld};
use crate::cover::covers_flow;
use crate::entry::{Packet, packet_in};
use crate::flow::{PacketKind, Tuple};
use crate::packet::{self, ETHERNET, View, proto};

/// An IPv4 error is no longer than this (RFC 1812, section 4.3.2.3).
const LONGEST_V4: usize = 576;
/// An IPv6 error is no longer than this (RFC 4443, section 2.4 c).
const LONGEST_V6: usize = 1280;
/// Precedence 6, internetwork control (RFC 1812, section 4.3.2.5).
const PRECEDENCE: u8 = 0xc0;
/// The smallest MTU that IPv6 knows (RFC 8200, section 5): no smaller one is told.
pub(super) const LEAST_MTU_V6: u32 = 1280;
/// UDP and GUE headers, in bytes.
const GUE: u32 = 12;

/// A rate with room for bursts, on a clock that is handed in.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    every: Duration,
    burst: u32,
    /// When it will be full again.
    full_at: Duration,
}

impl Bucket {
    /// `per_second` at length, `burst` at once.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        Self {
            every: Duration::from_nanos(1_000_000_000 / per_second as u64),
            burst,
            full_at: Duration::ZERO,
        }
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, now: Duration) -> bool {
        let full_at = self.full_at.max(now) + self.every;
        let fits = full_at - now <= self.every * self.burst;
        if fits {
            self.full_at = full_at;
        }
        fits
    }
}

/// What a sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem {
    /// TTL or hop limit has run out in transit.
    TimeExceeded,
    /// There is no route.
    NetUnreachable,
    /// The destination, or the router to it, does not answer.
    HostUnreachable,
    /// Nobody is at that port.
    PortUnreachable,
    /// The longest IP packet that the next link takes, in bytes.
    TooBig(u32),
}

impl Problem {
    /// Type, code and the word after the checksum.
    fn v4(self) -> (u8, u8, u32) {
        match self {
            Self::TimeExceeded => (11, 0, 0),
            Self::NetUnreachable => (3, 0, 0),
            Self::HostUnreachable => (3, 1, 0),
            Self::PortUnreachable => (3, 3, 0),
            // RFC 1191, section 4.
            Self::TooBig(mtu) => (3, 4, mtu.min(0xffff)),
        }
    }

    fn v6(self) -> (u8, u8, u32) {
        match self {
            Self::TimeExceeded => (3, 0, 0),
            Self::NetUnreachable => (1, 0, 0),
            Self::HostUnreachable => (1, 3, 0),
            Self::PortUnreachable => (1, 4, 0),
            Self::TooBig(mtu) => (2, 0, mtu.max(LEAST_MTU_V6)),
        }
    }

    fn counted_as(self) -> Sent {
        match self {
            Self::TimeExceeded => Sent::TimeExceeded,
            Self::NetUnreachable | Self::HostUnreachable | Self::PortUnreachable => {
                Sent::Unreachable
            }
            Self::TooBig(_) => Sent::TooBig,
        }
    }
}

/// An error as an IP packet; it quotes as much of `about`, an IP packet, as an error may. All of one family.
pub(super) fn error(problem: Problem, about: &[u8], src: IpAddr, dst: IpAddr) -> Option<Vec<u8>> {
    match (src, dst) {
        (IpAddr::V4(_), IpAddr::V4(_)) => {
            let message = message_v4(problem.v4(), about);
            own_packet((src, dst), proto::ICMP, PRECEDENCE, &message)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let message = message_v6(problem.v6(), about, from, to);
            own_packet((src, dst), proto::ICMPV6, 0, &message)
        }
        _ => None,
    }
}

fn message((kind, code, word): (u8, u8, u32), about: &[u8], room: usize) -> Vec<u8> {
    let quote = about.get(..room.saturating_sub(8)).unwrap_or(about);
    let mut out = vec![kind, code, 0, 0];
    out.extend_from_slice(&word.to_be_bytes());
    out.extend_from_slice(quote);
    out
}

fn message_v4(what: (u8, u8, u32), about: &[u8]) -> Vec<u8> {
    let mut message = message(what, about, LONGEST_V4 - 20);
    let sum = packet::checksum(&[&message]);
    packet::put(&mut message, 2, &sum.to_be_bytes());
    message
}

fn message_v6(what: (u8, u8, u32), about: &[u8], src: Ipv6Addr, dst: Ipv6Addr) -> Vec<u8> {
    let mut message = message(what, about, LONGEST_V6 - 40);
    let pseudo = packet::pseudo_v6(src, dst, proto::ICMPV6, message.len());
    let sum = packet::checksum(&[&pseudo, &message]);
    packet::put(&mut message, 2, &sum.to_be_bytes());
    message
}

/// Whether a packet, or the first fragment of one, is an ICMP error. A redirect of IPv6 counts as one.
pub(super) fn is_icmp_error(view: &View) -> bool {
    match (view.tuple.proto, view.tuple.src.is_ipv4()) {
        (proto::ICMP, true) => matches!(view.icmp, 3 | 4 | 5 | 11 | 12),
        (proto::ICMPV6, false) => view.icmp < 128 || view.icmp == 137,
        _ => false,
    }
}

/// Whether its sender may be told of a packet at all (RFC 1812, section 4.3.2.7; RFC 4443, section 2.4 e).
fn may_tell(plan: &Plan, frame: &[u8], view: &View) -> Result<(), Withheld> {
    if view.kind == PacketKind::LaterFragment {
        return Err(Withheld::AboutFragment);
    }
    if is_icmp_error(view) {
        return Err(Withheld::AboutError);
    }
    let to_group = packet::u8_at(frame, 0).is_none_or(|b| b & 1 == 1);
    if to_group || is_group(plan, view.tuple.dst) {
        return Err(Withheld::AboutGroup);
    }
    let src = view.tuple.src;
    let nobody = match src {
        // This network, loopback, and what was class E.
        IpAddr::V4(a) => {
            let [first, ..] = a.octets();
            first == 0 || a.is_loopback() || first >= 240
        }
        IpAddr::V6(a) => a.is_unspecified() || a.is_loopback(),
    };
    if nobody || is_group(plan, src) {
        return Err(Withheld::NoSender);
    }
    Ok(())
}

/// Multicast, or a broadcast as far as one can see.
fn is_group(plan: &Plan, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            let directed = |net: &IpNet| match net {
                IpNet::V4(net) => {
                    net.prefix_len() < 31 && (net.broadcast() == a || net.network() == a)
                }
                IpNet::V6(_) => false,
            };
            a.is_multicast()
                || a.is_broadcast()
                || (plan.ports.iter()).any(|p| p.addresses.iter().any(directed))
        }
        IpAddr::V6(a) => a.is_multicast(),
    }
}

impl Agent {
    /// The switch would have sent it on, but its TTL is spent.
    pub(super) fn ttl_spent(&mut self, packet: &Packet) {
        self.counters.drop(Drop::Ttl, 1);
        self.tell_sender(Problem::TimeExceeded, packet);
    }

    /// A packet that is too long for the link that it should leave by, tunnel included.
    pub(super) fn too_big(&mut self, packet: &Packet) {
        self.counters.drop(Drop::TooBig, 1);
        self.take_notices(packet);
        let hop = packet.meta.next_hop;
        let (Some(view), Some(mtu)) = (packet::view(&packet.bytes), self.mtu_of(hop)) else {
            return;
        };
        let overhead = if packet.meta.tunnel == 0 {
            0
        } else {
            self.tunnel_overhead(&view.tuple)
        };
        let mtu = u32::from(mtu).saturating_sub(overhead);
        self.tell_sender(Problem::TooBig(mtu), packet);
    }

    /// The switch has dropped and counted a packet without a route, or for an address of its own at which
    /// nobody listens: its sender is told as a router (RFC 1812, section 5.2.7.1; RFC 4443, section 3.1) or
    /// a host (RFC 1122, section 3.2.2.1; RFC 9293, section 3.10.7.1) would.
    pub(super) fn undelivered(&mut self, packet: &Packet) {
        self.take_notices(packet);
        match packet::view(&packet.bytes).map(|view| view.tuple) {
            None => {}
            Some(to) if self.is_own(to.dst) => self.nobody_listens(packet, to.proto),
            Some(_) => self.tell_sender(Problem::NetUnreachable, packet),
        }
    }

    /// For an address of the switch, and nobody is there.
    pub(super) fn nobody_listens(&mut self, packet: &Packet, proto: u8) {
        match proto {
            proto::UDP => self.tell_sender(Problem::PortUnreachable, packet),
            proto::TCP => self.reset_sender(packet),
            _ => {}
        }
    }

    /// A packet that ends here has carried its notices to the agent: they are what a clone would be.
    fn take_notices(&mut self, packet: &Packet) {
        if packet.meta.notices != 0
            && let Some((bytes, _)) = self.as_sent(packet)
        {
            let meta = packet.meta;
            let bytes = bytes.into();
            self.noticed(&Packet { meta, bytes });
        }
    }

    /// Bytes that the tunnel adds in which a packet goes to its server.
    fn tunnel_overhead(&self, tuple: &Tuple) -> u32 {
        let tunnels = || {
            self.plan.services.iter().filter_map(|s| {
                let balance = s.balance.as_ref()?;
                let wraps = matches!(balance.way, Way::Ipip | Way::Gue);
                (wraps && s.addresses.contains(&tuple.dst)).then_some((s, balance))
            })
        };
        let exact = tunnels()
            .find(|(s, _)| covers_flow(&s.forward.criteria, tuple, PacketKind::Whole))
            .or_else(|| tunnels().next());
        exact.map_or(0, |(_, balance)| {
            let v6 = (balance.servers.first()).is_some_and(|s| s.address.is_ipv6());
            let outer = if v6 { 40 } else { 20 };
            outer + if balance.way == Way::Gue { GUE } else { 0 }
        })
    }

    /// A packet as its sender sent it, without padding: the pipeline may have translated it since.
    fn as_sent(&self, packet: &Packet) -> Option<(Vec<u8>, View)> {
        let view = packet::view(&packet.bytes)?;
        let untouched = matches!(
            packet.meta.kind,
            packet_in::TTL | packet_in::LOCAL | packet_in::FRAGMENT
        );
        let (tuple, back) = if untouched {
            (view.tuple, Adjust::default())
        } else {
            self.origin(view.tuple)
        };
        let end = view.end.min(packet.bytes.len());
        let mut frame = packet.bytes.get(..end)?.to_vec();
        retarget(&mut frame, ETHERNET, &view, &tuple);
        renumber(&mut frame, &view, back);
        Some((frame, View { tuple, ..view }))
    }

    /// Tells the sender of a packet what became of it. A packet that has been through the stages is quoted
    /// as it was before them.
    pub(super) fn tell_sender(&mut self, problem: Problem, packet: &Packet) {
        let Some((frame, sent)) = self.as_sent(packet) else {
            return;
        };
        if let Err(why) = may_tell(&self.plan, &frame, &sent) {
            return self.withhold(why);
        }
        let to = sent.tuple.src;
        let own = self.own_address(packet.meta.port, to);
        self.send_error(problem, frame.get(ETHERNET..).unwrap_or(&[]), own, to);
    }

    /// Answers a TCP segment with a RST.
    fn reset_sender(&mut self, packet: &Packet) {
        let Some((frame, sent)) = self.as_sent(packet) else {
            return;
        };
        if let Err(why) = may_tell(&self.plan, &frame, &sent) {
            return self.withhold(why);
        }
        if let Some(reset) = reset_for(&frame, &sent) {
            self.send_answer(Sent::Reset, reset, sent.tuple.src);
        }
    }

    /// Sends an error from `own` to the sender of `about`, unless there have been too many.
    pub(super) fn send_error(
        &mut self,
        problem: Problem,
        about: &[u8],
        own: Option<IpAddr>,
        to: IpAddr,
    ) {
        match own.and_then(|own| error(problem, about, own, to)) {
            Some(error) => self.send_answer(problem.counted_as(), error, to),
            None => self.withhold(Withheld::NoAddress),
        }
    }

    /// Sends an IP packet that says why another one ended here, unless there have been too many.
    fn send_answer(&mut self, what: Sent, ip: Vec<u8>, to: IpAddr) {
        if self.is_own(to) {
            return self.withhold(Withheld::NoSender);
        }
        if !self.errors_out.take(self.now) {
            return self.withhold(Withheld::Rate);
        }
        *self.counters.errors_sent.entry(what).or_default() += 1;
        self.send_ip(None, Bytes::from(ip));
    }

    fn withhold(&mut self, why: Withheld) {
        *self.counters.errors_withheld.entry(why).or_default() += 1;
    }

    /// The address of a port from which a host is spoken to; of another port if it has none of the family.
    pub(super) fn own_address(&self, port: u16, to: IpAddr) -> Option<IpAddr> {
        let same = |net: &&IpNet| net.addr().is_ipv4() == to.is_ipv4();
        self.source_for(port, to).or_else(|| {
            let all = self.plan.ports.iter().flat_map(|p| &p.addresses);
            all.into_iter().find(same).map(IpNet::addr)
        })
    }
}
