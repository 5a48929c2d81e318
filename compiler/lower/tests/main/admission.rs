//! What gets as far as the first stage, and where the rest goes.

use crate::WEB;
use crate::frames::{HOST, frame, icmp, mac, seal, tuple};
use crate::rig::{Meta, Rig, one_port};

const CLIENT: &str = "203.0.113.9";
const SERVICE: &str = "203.0.113.80";

fn syn() -> Vec<u8> {
    frame(1, tuple(CLIENT, 40_000, SERVICE, 80, 6), 2, 64, b"")
}

#[test]
fn nothing_passes_before_the_ready_entry() {
    let mut rig = Rig::bare(WEB);
    rig.install_static();
    rig.dropped(1, &syn(), 1, "a packet");
    assert_eq!(
        rig.packet_out(
            Meta {
                kind: 2,
                port: 2,
                ..Meta::default()
            },
            &syn()
        ),
        []
    );
    assert_eq!(rig.drops(1), 2);
    rig.insert(&rig.plan.ready_entry());
    rig.route("203.0.113.9/32", 1, 1);
    assert_eq!(
        rig.send(1, &syn()),
        [],
        "the floor drops it, with no manager"
    );
    assert_eq!((rig.drops(1), rig.drops(10)), (2, 1));
}

#[test]
fn what_is_no_ip_packet_for_us_does_not_enter() {
    let mut rig = Rig::new(WEB);
    rig.dropped(9, &syn(), 3, "a port that the policy does not name");
    let vlan = [&syn()[..12], &[0x81, 0, 0, 1], &syn()[12..]].concat();
    rig.dropped(1, &vlan, 4, "a VLAN tag");
    rig.dropped(1, &syn()[..10], 4, "half an Ethernet header");
    let v6 = frame(1, tuple("2001:db8::1", 1, "2001:db8::2", 2, 6), 2, 64, b"");
    rig.dropped(1, &v6, 4, "IPv6 in a policy of IPv4");
    let mut foreign = syn();
    foreign[..6].copy_from_slice(&mac(2));
    rig.dropped(1, &foreign, 6, "another host's frame");
}

#[test]
fn malformed_packets_are_dropped_as_such() {
    let mut rig = Rig::new(WEB);
    type Damage = fn(&mut Vec<u8>);
    let cases: &[(&str, Damage)] = &[
        ("header checksum", |f| f[24] ^= 1),
        ("version", |f| (f[14] = 0x65, seal(f)).1),
        ("header length of 16 bytes", |f| (f[14] = 0x44, seal(f)).1),
        ("header length beyond the frame", |f| f[14] = 0x4f),
        ("total length within the IP header", |f| {
            (f[17] = 19, seal(f)).1
        }),
        ("total length within the TCP header", |f| {
            (f[17] = 39, seal(f)).1
        }),
        ("total length beyond the frame", |f| (f[17] = 41, seal(f)).1),
        ("data offset of 16 bytes", |f| f[46] = 0x40),
        ("data offset beyond the packet", |f| f[46] = 0x60),
        ("truncated TCP header", |f| f.truncate(50)),
        ("truncated IP header", |f| f.truncate(30)),
    ];
    for (what, damage) in cases {
        let mut bad = syn();
        damage(&mut bad);
        rig.dropped(1, &bad, 5, what);
    }
}

#[test]
fn padding_after_the_packet_is_no_damage() {
    let mut rig = Rig::new(WEB);
    let padded = [syn().as_slice(), &[0; 6]].concat();
    assert_eq!(rig.diverted(1, &padded), (interest(), padded));
}

/// What the agent is told of the service's new flows.
fn interest() -> Meta {
    Meta {
        kind: 1,
        part: 2,
        stage: 2,
        port: 1,
        entry: 77,
        ..Meta::default()
    }
}

#[test]
fn what_is_the_agents_goes_to_the_agent_unchanged() {
    let mut rig = Rig::new(WEB);
    let arp = [
        &[0xff; 6],
        &HOST[..],
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &[0; 20],
    ]
    .concat();
    let mut first = frame(1, tuple(CLIENT, 1, SERVICE, 2, 17), 0, 64, &[7; 24]);
    first[20] = 0x20;
    seal(&mut first);
    let mut later = first.clone();
    later[20..22].copy_from_slice(&[0, 4]);
    seal(&mut later);
    let mut fragment_of_an_error = icmp(1, CLIENT, SERVICE, 3, 64, &[0; 40]);
    fragment_of_an_error[20] = 0x20;
    seal(&mut fragment_of_an_error);
    let cases: &[(&str, u64, Vec<u8>)] = &[
        ("ARP", 4, arp),
        (
            "echo to a port's address",
            3,
            frame(1, tuple(CLIENT, 1, "203.0.113.1", 1, 1), 0, 64, b"x"),
        ),
        (
            "echo to another port's address",
            3,
            frame(1, tuple(CLIENT, 1, "10.0.2.1", 1, 1), 0, 1, b"x"),
        ),
        (
            "echo to the service",
            3,
            frame(1, tuple(CLIENT, 1, SERVICE, 1, 1), 0, 64, b"x"),
        ),
        (
            "an answer to the agent",
            3,
            frame(1, tuple(CLIENT, 80, "203.0.113.1", 61_440, 6), 18, 64, b""),
        ),
        (
            "a spent TTL",
            8,
            frame(1, tuple(CLIENT, 1, SERVICE, 80, 6), 2, 1, b""),
        ),
        ("a first fragment", 6, first),
        ("a later fragment", 6, later),
        ("a fragment of an ICMP error", 6, fragment_of_an_error),
        (
            "an ICMP error",
            7,
            icmp(1, CLIENT, SERVICE, 3, 64, &syn()[14..42]),
        ),
    ];
    for (what, kind, packet) in cases {
        let expected = Meta {
            kind: *kind,
            port: 1,
            ..Meta::default()
        };
        assert_eq!(
            rig.diverted(1, packet),
            (expected, packet.clone()),
            "{what}"
        );
    }
    rig.undelivered(
        1,
        &frame(1, tuple(CLIENT, 5, "203.0.113.1", 22, 6), 2, 64, b""),
        9,
        "nobody's port",
    );
    rig.dropped(
        1,
        &frame(1, tuple(CLIENT, 5, SERVICE, 22, 6), 2, 64, b""),
        9,
        "a port that the service does not have",
    );
}

#[test]
fn a_sent_packet_leaves_as_it_is() {
    let mut rig = Rig::new(WEB);
    for packet in [
        b"anything at all, of any length".to_vec(),
        syn(),
        vec![8; 1514],
    ] {
        let out = rig.packet_out(
            Meta {
                kind: 2,
                port: 3,
                ..Meta::default()
            },
            &packet,
        );
        assert_eq!(one_port(out, 3), packet);
    }
}

#[test]
fn a_packet_out_that_makes_no_sense_is_dropped() {
    let mut rig = Rig::new(WEB);
    let resume = Meta {
        kind: 1,
        part: 2,
        port: 1,
        ..Meta::default()
    };
    let arp = [&[0xff; 6], &HOST[..], &[8, 6], &[0; 28]].concat();
    for (meta, packet) in [
        (Meta::default(), syn()),
        (Meta { kind: 4, ..resume }, syn()),
        (Meta { kind: 3, ..resume }, arp.clone()),
        (Meta { part: 0, ..resume }, syn()),
        (Meta { part: 3, ..resume }, syn()),
        (resume, arp),
        (resume, syn()[..40].to_vec()),
    ] {
        let before = rig.drops(2);
        assert_eq!(rig.packet_out(meta, &packet), [], "{meta:?}");
        assert_eq!(rig.drops(2), before + 1, "{meta:?}");
    }
}
