//! What only a dual-stack policy has.

use crate::frames::{frame, icmp, ip, look, tuple};
use crate::rig::{Meta, Rig};
use crate::{DUAL, WEB};

const CLIENT: &str = "2001:db8:1::9";
const SERVICE: &str = "2001:db8:1::80";
const SERVER: &str = "2001:db8:2::10";

fn query(payload: &[u8]) -> Vec<u8> {
    frame(1, tuple(CLIENT, 5000, SERVICE, 53, 17), 0, 64, payload)
}

/// Puts extension headers (each: its number and all its bytes but the first) before the transport header.
fn extended(packet: &[u8], extensions: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = packet.to_vec();
    let mut next = packet[20];
    for (number, rest) in extensions.iter().rev() {
        out.splice(54..54, std::iter::once(next).chain(rest.iter().copied()));
        next = *number;
    }
    out[20] = next;
    let length = (out.len() - 54) as u16;
    out[18..20].copy_from_slice(&length.to_be_bytes());
    out
}

/// An option, routing or authentication header that is `length` units long.
fn extension(number: u8, length: u8) -> (u8, Vec<u8>) {
    let bytes = if number == 51 {
        (usize::from(length) + 2) * 4
    } else {
        (usize::from(length) + 1) * 8
    };
    let mut rest = vec![0x5a; bytes - 1];
    rest[0] = length;
    (number, rest)
}

fn fragment(offset: u16, more: bool) -> (u8, Vec<u8>) {
    let [a, b] = (offset << 3 | u16::from(more)).to_be_bytes();
    (44, vec![0, a, b, 0, 0, 0, 9])
}

fn rig() -> Rig {
    let mut rig = Rig::new(DUAL);
    rig.route("2001:db8:2::10/128", 7, 2);
    rig.route("2001:db8:1::9/128", 8, 1);
    rig.translate(
        "dns_lb",
        tuple(CLIENT, 5000, SERVICE, 53, 17),
        tuple(CLIENT, 5000, SERVER, 8080, 17),
        (0, 0),
    );
    rig.translate(
        "dns_lb_reply",
        tuple(SERVER, 8080, CLIENT, 5000, 17),
        tuple(SERVICE, 53, CLIENT, 5000, 17),
        (0, 0),
    );
    rig
}

// A10.8
#[test]
fn a_new_flow_asks_and_an_established_one_is_translated() {
    let mut rig = rig();
    let new = frame(1, tuple(CLIENT, 5001, SERVICE, 53, 17), 0, 64, b"?");
    assert_eq!(
        rig.diverted(1, &new),
        (
            Meta {
                kind: 1,
                part: 2,
                stage: 3,
                port: 1,
                entry: 77,
                ..Meta::default()
            },
            new.clone(),
        )
    );
    let there = look(&rig.forwarded(1, &query(b"name?"), 2));
    assert_eq!((there.to, there.ttl), ((ip(SERVER), 8080), 63));
    let back = frame(2, tuple(SERVER, 8080, CLIENT, 5000, 17), 0, 64, b"address!");
    assert_eq!(look(&rig.forwarded(2, &back, 1)).from, (ip(SERVICE), 53));
}

// A10.8
#[test]
fn up_to_four_extension_headers_are_passed_over() {
    let mut rig = rig();
    let chains: &[&[(u8, u8)]] = &[
        &[(0, 0)],
        &[(0, 1), (43, 2)],
        &[(0, 0), (60, 3), (51, 4)],
        &[(0, 0), (60, 31), (43, 0), (51, 5)],
    ];
    for chain in chains {
        let extensions: Vec<_> = chain.iter().map(|(n, l)| extension(*n, *l)).collect();
        let packet = extended(&query(b"name?"), &extensions);
        let out = rig.forwarded(1, &packet, 2);
        let seen = look(&out);
        assert_eq!(
            (seen.to, seen.payload),
            ((ip(SERVER), 8080), b"name?".to_vec()),
            "{chain:?}"
        );
        assert_eq!(
            out[54..out.len() - 13],
            packet[54..packet.len() - 13],
            "the headers stay as they are"
        );
    }
}

/// What is behind more headers, a very long one, or encryption has no ports for us.
// A10.8
#[test]
fn what_cannot_be_seen_through_is_matched_by_its_addresses() {
    let mut rig = rig();
    let to_server = frame(1, tuple(CLIENT, 5000, SERVER, 53, 17), 0, 64, b"x");
    for extensions in [
        vec![extension(60, 0); 5],
        vec![extension(60, 32)],
        vec![(50, vec![0x77; 31])],
    ] {
        let out = rig.forwarded(1, &extended(&to_server, &extensions), 2);
        assert_eq!(out[21], 63);
        // To the service's address such a packet is no new flow.
        rig.dropped(1, &extended(&query(b"x"), &extensions), 9, "to the service");
    }
}

#[test]
fn fragments_go_to_the_agent_and_atomic_ones_are_whole() {
    let mut rig = rig();
    for (offset, more) in [(0, true), (3, true), (3, false)] {
        for before in [vec![], vec![extension(0, 0)]] {
            let chain = [before, vec![fragment(offset, more)]].concat();
            let packet = extended(&query(&[1; 16]), &chain);
            assert_eq!(
                rig.diverted(1, &packet),
                (
                    Meta {
                        kind: 6,
                        port: 1,
                        ..Meta::default()
                    },
                    packet.clone()
                )
            );
        }
    }
    let atomic = extended(&query(b"x"), &[fragment(0, false)]);
    assert_eq!(look(&rig.forwarded(1, &atomic, 2)).to, (ip(SERVER), 8080));
}

#[test]
fn neighbour_discovery_errors_echo_and_spent_hops_go_to_the_agent() {
    let mut rig = rig();
    let mut cases: Vec<(u64, Vec<u8>)> = Vec::new();
    for kind in 133..=137 {
        let mut packet = icmp(1, "fe80::9", "ff02::1:ff00:1", kind, 255, &[0; 20]);
        packet[..6].copy_from_slice(&[0x33, 0x33, 0xff, 0, 0, 1]);
        cases.push((5, packet));
    }
    cases.extend((1..=4).map(|kind| (7, icmp(1, CLIENT, SERVICE, kind, 64, &[0; 60]))));
    cases.extend(
        [SERVICE, "2001:db8:2::1"]
            .map(|to| (3, frame(1, tuple(CLIENT, 1, to, 1, 58), 0, 64, b"x"))),
    );
    cases.push((8, frame(1, tuple(CLIENT, 1, SERVER, 2, 17), 0, 1, b"x")));
    for (kind, packet) in cases {
        let expected = Meta {
            kind,
            port: 1,
            ..Meta::default()
        };
        assert_eq!(rig.diverted(1, &packet), (expected, packet.clone()));
    }
    // Neighbour discovery never crosses a router: with another hop limit it is a packet like others.
    rig.forwarded(1, &icmp(1, CLIENT, SERVER, 135, 64, &[0; 20]), 2);
}

#[test]
fn icmpv6_checksums_cover_the_addresses() {
    let mut rig = rig();
    rig.translate(
        "web_lb",
        tuple(CLIENT, 77, SERVICE, 0, 58),
        tuple(CLIENT, 4321, SERVER, 0, 58),
        (0, 0),
    );
    rig.translate(
        "web_lb",
        tuple(CLIENT, 0, "2001:db8:9::1", 0, 58),
        tuple(SERVICE, 0, SERVER, 0, 58),
        (0, 0),
    );
    // An echo to the service is the agent's, so go in behind it.
    let echo = frame(1, tuple(CLIENT, 77, SERVICE, 5, 58), 0, 64, b"ping");
    let resume = Meta {
        kind: 1,
        part: 2,
        port: 1,
        ..Meta::default()
    };
    let out = crate::rig::one_port(rig.packet_out(resume, &echo), 2);
    assert_eq!((look(&out).from.1, look(&out).to.0), (4321, ip(SERVER)));
    let other = rig.forwarded(
        1,
        &icmp(1, CLIENT, "2001:db8:9::1", 200, 64, b"whatever"),
        2,
    );
    assert_eq!(
        (look(&other).from.0, look(&other).to.0),
        (ip(SERVICE), ip(SERVER))
    );
}

#[test]
fn malformed_and_mapped_packets_are_dropped() {
    let mut rig = rig();
    for mapped in [
        tuple("::ffff:198.51.100.7", 1, SERVER, 2, 17),
        tuple(CLIENT, 1, "::ffff:10.0.1.10", 2, 17),
    ] {
        rig.dropped(
            1,
            &frame(1, mapped, 0, 64, b""),
            5,
            "a mapped address on the wire",
        );
    }
    let cases: &[(&str, usize, u8)] = &[
        ("version", 14, 0x70),
        ("length beyond the frame", 19, 64),
        ("length within the UDP header", 19, 7),
    ];
    for (what, at, value) in cases {
        let mut packet = query(b"name?");
        packet[*at] = *value;
        rig.dropped(1, &packet, 5, what);
    }
}

// A10.8
#[test]
fn ipv4_is_the_same_in_a_dual_stack_policy() {
    let flow = tuple("203.0.113.9", 40_000, "203.0.113.80", 80, 6);
    for policy in [WEB, DUAL] {
        let mut rig = Rig::new(policy);
        rig.route("10.0.1.10/32", 3, 2);
        rig.dropped(
            1,
            &frame(
                1,
                tuple("198.51.100.7", 1, "203.0.113.80", 80, 6),
                2,
                64,
                b"",
            ),
            10,
            "denied",
        );
        assert_eq!(rig.diverted(1, &frame(1, flow, 2, 64, b"")).0.entry, 77);
        rig.translate(
            "web_lb",
            flow,
            tuple("203.0.113.9", 40_000, "10.0.1.10", 8080, 6),
            (0, 0),
        );
        let seen = look(&rig.forwarded(1, &frame(1, flow, 16, 64, b"x"), 2));
        assert_eq!(seen.to, (ip("10.0.1.10"), 8080));
    }
}
