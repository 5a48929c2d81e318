//! ARP (RFC 826) as far as a router's host side needs it: requests are answered for our addresses, answers
//! believed when they were asked for, and a known neighbour that says it has moved is followed.

use std::net::{IpAddr, Ipv4Addr};

use super::Agent;
use crate::counters::Drop;
use crate::entry::Packet;
use crate::packet::{self, TYPE_ARP, TYPE_IPV4};

impl Agent {
    pub(super) fn arp(&mut self, packet: &Packet) {
        let b = &packet.bytes;
        let at = packet::ETHERNET;
        let port = packet.meta.port;
        let fields = (|| {
            let sane = packet::u16_at(b, at)? == 1
                && packet::u16_at(b, at + 2)? == TYPE_IPV4
                && packet::u16_at(b, at + 4)? == 0x0604;
            sane.then_some(())?;
            Some((
                packet::u16_at(b, at + 6)?,
                packet::mac_at(b, at + 8)?,
                packet::v4_at(b, at + 14)?,
                packet::v4_at(b, at + 24)?,
                packet::mac_at(b, 0)?,
            ))
        })();
        let Some((operation, sender_mac, sender, target, to)) = fields else {
            return self.counters.drop(Drop::Malformed, 1);
        };
        let Some(mac) = self.port_mac(port) else {
            return self.counters.drop(Drop::NotWanted, 1);
        };
        let theirs = IpAddr::V4(sender);
        if !self.is_own(theirs) && !self.answers_for(port, theirs) {
            self.heard(port, theirs, sender_mac);
        }
        match operation {
            1 if self.answers_for(port, target.into()) && !self.is_own(theirs) => {
                self.send_frame(
                    port,
                    arp_frame(2, sender_mac, mac, target, sender_mac, sender),
                );
            }
            2 if to == mac => self.answered(port, sender.into(), sender_mac),
            _ => self.counters.drop(Drop::NotWanted, 1),
        }
    }
}

pub(super) fn arp_frame(
    operation: u16,
    to: [u8; 6],
    mac: [u8; 6],
    own: Ipv4Addr,
    target_mac: [u8; 6],
    target: Ipv4Addr,
) -> Vec<u8> {
    let mut b = Vec::with_capacity(28);
    b.extend_from_slice(&[0, 1, 8, 0, 6, 4]);
    b.extend_from_slice(&operation.to_be_bytes());
    b.extend_from_slice(&mac);
    b.extend_from_slice(&own.octets());
    b.extend_from_slice(&target_mac);
    b.extend_from_slice(&target.octets());
    packet::frame(to, mac, TYPE_ARP, &b)
}
