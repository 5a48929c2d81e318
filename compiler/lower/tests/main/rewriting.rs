//! Checksums after translation and routing: right for every packet that was right before.

use crate::frames::{frame, look, seal, tuple};
use crate::rig::{Rig, Tuple};
use crate::{DUAL, WEB};

const CLIENT: &str = "203.0.113.9";
const SERVER: &str = "10.0.1.10";

/// Numbers that look random and are always the same.
pub fn numbers() -> impl Iterator<Item = u32> {
    let mut x = 0x9e37_79b9u32;
    std::iter::repeat_with(move || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x
    })
}

/// Flows of a protocol to an outside address, each translated at both ends and ports.
fn translating(policy: &str, proto: u8, count: u16) -> (Rig, Vec<(Tuple, Tuple)>) {
    let mut rig = Rig::new(policy);
    rig.route("10.0.1.10/32", 3, 2);
    let mut n = numbers();
    let mut next = || n.next().unwrap();
    let flows: Vec<_> = (0..count)
        .map(|i| {
            let client = format!("203.0.113.{}", 2 + i % 70);
            let inside = format!("172.16.{}.{}", next() % 256, next() % 256);
            let (sport, dport) = (next() as u16, if proto == 1 { 0 } else { next() as u16 });
            let (to_sport, to_dport) = (next() as u16, if proto == 1 { 0 } else { next() as u16 });
            (
                tuple(&client, sport.max(1), "203.0.113.99", dport, proto),
                tuple(&inside, to_sport.max(1), SERVER, to_dport, proto),
            )
        })
        .collect();
    for (from, to) in &flows {
        rig.translate("web_lb", *from, *to, (0, 0));
    }
    (rig, flows)
}

fn check(policy: &str, proto: u8) {
    let (mut rig, flows) = translating(policy, proto, 300);
    let mut n = numbers();
    for (i, (from, to)) in flows.into_iter().enumerate() {
        let payload: Vec<u8> = (&mut n).take(i % 67).map(|x| x as u8).collect();
        let ttl = 2 + (i % 254) as u8;
        let mut packet = frame(1, from, 16, ttl, &payload);
        if i % 3 == 0 {
            // Four to forty bytes of options.
            let options = vec![1; 4 * (1 + i % 10)];
            packet.splice(34..34, options.iter().copied());
            packet[14] += (options.len() / 4) as u8;
            let total = u16::from_be_bytes([packet[16], packet[17]]) + options.len() as u16;
            packet[16..18].copy_from_slice(&total.to_be_bytes());
            seal(&mut packet);
        }
        let seen = look(&rig.forwarded(1, &packet, 2));
        assert_eq!(
            (seen.from, seen.to, seen.ttl),
            ((to.0, to.3), (to.1, to.4), ttl - 1)
        );
        assert_eq!(seen.payload, look(&packet).payload);
    }
}

// A2.7
#[test]
fn tcp_checksums_are_right_after_translation() {
    check(WEB, 6);
    check(DUAL, 6);
}

// A2.7
#[test]
fn udp_checksums_are_right_after_translation() {
    check(WEB, 17);
    check(DUAL, 17);
}

// A2.8
#[test]
fn an_echos_identifier_is_translated_with_its_checksum() {
    let (mut rig, flows) = translating(WEB, 1, 100);
    for (i, (from, to)) in flows.into_iter().enumerate() {
        // In an echo the frame's second number is the sequence, which is nobody's port.
        let packet = frame(
            1,
            Tuple(from.0, from.1, 1, from.3, i as u16),
            0,
            64,
            b"ping!",
        );
        let seen = look(&rig.forwarded(1, &packet, 2));
        assert_eq!((seen.from, seen.to.0), ((to.0, to.3), to.1));
    }
}

/// A rig that translates one UDP flow, how its packets come, and how they leave: over IPv4 in a program of
/// one family and in one of both, and over IPv6.
fn udp_flows() -> [(Rig, Tuple, Tuple); 3] {
    let to6 = "2001:db8:2::10";
    [
        (WEB, CLIENT, "203.0.113.99", SERVER),
        (DUAL, CLIENT, "203.0.113.99", SERVER),
        (DUAL, "2001:db8:1::9", "2001:db8:1::99", to6),
    ]
    .map(|(policy, client, called, server)| {
        let mut rig = Rig::new(policy);
        rig.route("10.0.1.10/32", 3, 2);
        if policy == DUAL {
            rig.route("2001:db8:2::10/128", 4, 2);
        }
        let from = tuple(client, 1, called, 2, 17);
        let to = tuple(client, 3, server, 4, 17);
        rig.translate("web_lb", from, to, (0, 0));
        (rig, from, to)
    })
}

/// Where the checksum of a UDP packet without options stands.
fn udp_checksum(flow: Tuple) -> std::ops::Range<usize> {
    if flow.0.is_ipv4() { 40..42 } else { 60..62 }
}

// A2.7
#[test]
fn a_udp_checksum_of_zero_stays_zero() {
    for (mut rig, from, to) in udp_flows() {
        let at = udp_checksum(from);
        let mut packet = frame(1, from, 0, 64, b"abc");
        packet[at.clone()].fill(0);
        if from.0.is_ipv6() {
            // RFC 8200, section 8.1: over IPv6 there is no such packet; it stays what it is.
            let out = rig.forwarded(1, &packet, 2);
            assert_eq!(out[at], [0, 0]);
            continue;
        }
        let out = rig.forwarded(1, &packet, 2);
        assert_eq!((&out[at], look(&out).to), (&[0, 0][..], (to.1, to.4)));
    }
}

// A2.7
#[test]
fn a_udp_checksum_that_comes_to_zero_is_sent_as_ones() {
    for (mut rig, from, to) in udp_flows() {
        let at = udp_checksum(from);
        // The payload that makes the sum of the translated packet come to zero: etherparse sends it as ones.
        let payload = (0..=u16::MAX)
            .map(u16::to_be_bytes)
            .find(|p| frame(2, to, 0, 64, p)[at.clone()] == [0xff, 0xff])
            .unwrap();
        let out = rig.forwarded(1, &frame(1, from, 0, 64, &payload), 2);
        assert_eq!(out[at], [0xff, 0xff]);
        assert_eq!(look(&out).to, (to.1, to.4));
    }
}

/// Every checksum that a header can have comes out right when the TTL goes down by one.
// A2.7
#[test]
fn the_ipv4_checksum_follows_the_ttl_for_every_identification() {
    let mut rig = Rig::new(WEB);
    rig.route("10.0.1.10/32", 3, 2);
    for identification in (0..=u16::MAX).step_by(7).chain(0xfe00..=0xffff) {
        let mut packet = frame(1, tuple(CLIENT, 1, SERVER, 2, 17), 0, 64, b"");
        packet[18..20].copy_from_slice(&identification.to_be_bytes());
        seal(&mut packet);
        assert_eq!(look(&rig.forwarded(1, &packet, 2)).ttl, 63);
    }
}
