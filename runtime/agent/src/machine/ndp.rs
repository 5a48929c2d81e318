//! Neighbour discovery (RFC 4861) as far as a router's host side needs it: solicitations are answered for
//! our addresses, advertisements believed when they were asked for, and a known neighbour that says it
//! has moved is followed.

use std::net::{IpAddr, Ipv6Addr};

use super::Agent;
use crate::counters::Drop;
use crate::entry::Packet;
use crate::packet::{self, TYPE_IPV6, proto};

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_OPTION: u8 = 1;
const TARGET_OPTION: u8 = 2;
/// Router, solicited, override.
const FLAGS: u8 = 0xe0;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

impl Agent {
    pub(super) fn ndp(&mut self, packet: &Packet) {
        let b = &packet.bytes;
        let port = packet.meta.port;
        let fields = (|| {
            let view = packet::view(b)?;
            let (IpAddr::V6(src), IpAddr::V6(dst)) = (view.tuple.src, view.tuple.dst) else {
                return None;
            };
            let body = b.get(view.l4..view.end)?;
            // RFC 4861, 7.1: the checksum must be right.
            let pseudo = packet::pseudo_v6(src, dst, proto::ICMPV6, body.len());
            (packet::checksum(&[&pseudo, body]) == 0).then_some(())?;
            Some((src, body, packet::v6_at(body, 8)?))
        })();
        let (Some((src, body, target)), Some(mac)) = (fields, self.port_mac(port)) else {
            return self.counters.drop(Drop::Malformed, 1);
        };
        match packet::u8_at(body, 0) {
            Some(SOLICITATION) if self.answers_for(port, target.into()) => {
                let asker = option(body, 24, SOURCE_OPTION).or_else(|| packet::mac_at(b, 6));
                if let Some(theirs) = option(body, 24, SOURCE_OPTION)
                    && !self.is_own(src.into())
                {
                    // RFC 4861, 7.2.3.
                    self.heard(port, src.into(), theirs);
                }
                let frame = if src.is_unspecified() {
                    // Somebody checks whether the address is taken (RFC 4862, 5.4).
                    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
                    advertisement(multicast_mac(all), mac, target, all, FLAGS & !SOLICITED)
                } else if let Some(asker) = asker {
                    advertisement(asker, mac, target, src, FLAGS)
                } else {
                    return self.counters.drop(Drop::Malformed, 1);
                };
                self.send_frame(port, frame);
            }
            Some(ADVERTISEMENT) if body.get(4).is_some_and(|f| f & SOLICITED != 0) => {
                match option(body, 24, TARGET_OPTION).or_else(|| packet::mac_at(b, 6)) {
                    Some(theirs) => self.answered(port, target.into(), theirs),
                    None => self.counters.drop(Drop::Malformed, 1),
                }
            }
            // RFC 4861, 7.2.6: unsolicited, from somebody whose address has changed.
            Some(ADVERTISEMENT) if body.get(4).is_some_and(|f| f & OVERRIDE != 0) => {
                match option(body, 24, TARGET_OPTION) {
                    Some(theirs) if !self.answers_for(port, target.into()) => {
                        self.heard(port, target.into(), theirs);
                    }
                    _ => self.counters.drop(Drop::NotWanted, 1),
                }
            }
            _ => self.counters.drop(Drop::NotWanted, 1),
        }
    }
}

/// A link-layer address option; options begin at `at`.
fn option(body: &[u8], mut at: usize, wanted: u8) -> Option<[u8; 6]> {
    loop {
        let kind = packet::u8_at(body, at)?;
        let length = usize::from(packet::u8_at(body, at + 1)?) * 8;
        if length == 0 {
            return None;
        }
        if kind == wanted && length == 8 {
            return packet::mac_at(body, at + 2);
        }
        at += length;
    }
}

fn multicast_mac(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// Asks for `target`, sent to its solicited-node group (RFC 4291, 2.7.1).
pub(super) fn solicitation(mac: [u8; 6], own: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let [.., x, y, z] = target.octets();
    let low = u16::from_be_bytes([y, z]);
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), low);
    let to = multicast_mac(group);
    message(to, mac, own, group, SOLICITATION, 0, target, SOURCE_OPTION)
}

fn advertisement(to: [u8; 6], mac: [u8; 6], target: Ipv6Addr, dst: Ipv6Addr, flags: u8) -> Vec<u8> {
    message(
        to,
        mac,
        target,
        dst,
        ADVERTISEMENT,
        flags,
        target,
        TARGET_OPTION,
    )
}

#[allow(
    clippy::too_many_arguments,
    reason = "one a field of the message, and two callers"
)]
fn message(
    to: [u8; 6],
    mac: [u8; 6],
    src: Ipv6Addr,
    dst: Ipv6Addr,
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    option: u8,
) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    body.extend_from_slice(&target.octets());
    body.extend_from_slice(&[option, 1]);
    body.extend_from_slice(&mac);
    let pseudo = packet::pseudo_v6(src, dst, proto::ICMPV6, body.len());
    let sum = packet::checksum(&[&pseudo, &body]);
    packet::put(&mut body, 2, &sum.to_be_bytes());

    let length = u16::try_from(body.len()).unwrap_or(0);
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend_from_slice(&length.to_be_bytes());
    ip.extend_from_slice(&[proto::ICMPV6, 255]);
    ip.extend_from_slice(&src.octets());
    ip.extend_from_slice(&dst.octets());
    ip.extend_from_slice(&body);
    packet::frame(to, mac, TYPE_IPV6, &ip)
}
