//! Dispatch through tunnels, byte by byte, and what is too long for a link.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4Header, Ipv6Header};
use signalbox_lower::entries::{Match as Planned, PlannedEntry, Value};
use signalbox_policy::model::Policy;

use crate::WEB;
use crate::frames::{frame, ip, look, mac, seal, tuple};
use crate::kinds::{dispatching, dispatching6};
use crate::rig::{Meta, Out, Rig, Tuple, bits, one_agent, one_port, tail};

const CLIENT: &str = "203.0.113.9";
const CLIENT6: &str = "2001:db8:1::9";
const VIP: &str = "203.0.113.81";
const VIP6: &str = "2001:db8:1::81";
/// The id of the next hop and of the tunnel.
const HOP: u16 = 5;
const TUNNEL: u16 = 9;

/// A tunnel's action, the switch's end and the server's, and what it adds.
const TUNNELS: [(&str, &str, &str, usize); 4] = [
    ("ipip4", "10.0.2.1", "10.0.2.10", 20),
    ("gue4", "10.0.2.1", "10.0.2.10", 32),
    ("ipip6", "2001:db8:3::1", "2001:db8:3::10", 40),
    ("gue6", "2001:db8:3::1", "2001:db8:3::10", 52),
];

/// One tunnel, and flows of the service that go by it.
fn rig(policy: &Policy, action: &str, src: &str, dst: &str, mtu: u16) -> Rig {
    let mut rig = Rig::load(policy).started();
    rig.next_hop(HOP, 2, mtu);
    // IPv4 ends are 32 bits wide in every program.
    let end = |s: &str| match ip(s) {
        IpAddr::V4(a) => bits(u32::from(a), 32),
        six => Value::Addr(six),
    };
    rig.insert(&PlannedEntry {
        table: "Ingress.tunnel".into(),
        matches: vec![("tunnel", Planned::Exact(bits(TUNNEL, 16)))],
        priority: 0,
        action: format!("Ingress.{action}"),
        params: vec![("src", end(src)), ("dst", end(dst))],
    });
    rig
}

fn dispatch(rig: &mut Rig, flow: Tuple, tunnel: u16) {
    let mut params = vec![("next_hop", bits(HOP, 16)), ("tunnel", bits(tunnel, 16))];
    params.extend(tail((0, 0), 5000));
    rig.fix("by_ipip", flow, "dispatch", &params);
}

fn flows(sport: u16) -> [Tuple; 2] {
    [
        tuple(CLIENT, sport, VIP, 80, 6),
        tuple(CLIENT6, sport, VIP6, 80, 6),
    ]
}

/// A frame with a traffic class of EF and ECT(1).
fn marked(flow: Tuple, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame(1, flow, 24, ttl, payload);
    if flow.0.is_ipv4() {
        frame[15] = 0xb9;
        seal(&mut frame);
    } else {
        frame[14..16].copy_from_slice(&[0x6b, 0x90]);
    }
    frame
}

/// CRC-16/ARC, as v1model's crc16.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |c, _| {
            if c & 1 == 1 { c >> 1 ^ 0xa001 } else { c >> 1 }
        })
    })
}

/// The outer headers and GUE as the RFCs have them, in front of the inner packet.
fn wrapped(action: &str, src: &str, dst: &str, flow: Tuple, dual: bool, inner: &[u8]) -> Vec<u8> {
    let inner_number = if flow.0.is_ipv4() { 4 } else { 41 };
    let mut payload = Vec::new();
    let mut protocol = inner_number;
    if action.starts_with("gue") {
        let mut key = Vec::new();
        for address in [flow.0, flow.1] {
            match address {
                IpAddr::V4(a) if dual => key.extend(a.to_ipv6_mapped().octets()),
                IpAddr::V4(a) => key.extend(a.octets()),
                IpAddr::V6(a) => key.extend(a.octets()),
            }
        }
        key.push(flow.2);
        key.extend([flow.3, flow.4].iter().flat_map(|p| p.to_be_bytes()));
        let port = 49_152 + crc16(&key) % 16_384;
        let length = (12 + inner.len()) as u16;
        payload.extend([port, 6080, length, 0].iter().flat_map(|f| f.to_be_bytes()));
        payload.extend([0, inner_number, 0, 0]);
        protocol = 17;
    }
    payload.extend(inner);
    let mut out = [[2, 0xaa, 0, 0, 0, HOP as u8], mac(2)].concat();
    match (ip(src), ip(dst)) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let mut outer = Ipv4Header::new(
                payload.len() as u16,
                64,
                IpNumber(protocol),
                s.octets(),
                d.octets(),
            )
            .unwrap();
            outer.dont_fragment = true;
            outer.dscp = etherparse::IpDscp::try_new(46).unwrap();
            outer.ecn = etherparse::IpEcn::try_new(1).unwrap();
            outer.header_checksum = outer.calc_header_checksum();
            out.extend([8, 0]);
            out.extend(outer.to_bytes());
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let outer = Ipv6Header {
                traffic_class: 0xb9,
                flow_label: etherparse::Ipv6FlowLabel::ZERO,
                payload_length: payload.len() as u16,
                next_header: IpNumber(protocol),
                hop_limit: 64,
                source: s.octets(),
                destination: d.octets(),
            };
            out.extend([0x86, 0xdd]);
            out.extend(outer.to_bytes());
        }
        _ => panic!("families mixed"),
    }
    out.extend(payload);
    out
}

// A6.19, A6.20
#[test]
fn a_tunnelled_packet_is_what_the_rfcs_say_and_the_inner_one_lost_one_hop_only() {
    for (policy, dual) in [(dispatching(), false), (dispatching6(), true)] {
        for (action, src, dst, _) in TUNNELS {
            if !dual && ip(src).is_ipv6() {
                continue;
            }
            let mut rig = rig(&policy, action, src, dst, 1500);
            for flow in flows(4000).into_iter().filter(|f| dual || f.0.is_ipv4()) {
                dispatch(&mut rig, flow, TUNNEL);
                for length in [0, 1, 7, 600] {
                    let payload = vec![length as u8; length];
                    let out = rig.forwarded(1, &marked(flow, 9, &payload), 2);
                    let inner = &marked(flow, 8, &payload)[14..];
                    let expected = wrapped(action, src, dst, flow, dual, inner);
                    assert_eq!(out, expected, "{action} {flow:?} {length}");
                }
            }
        }
    }
}

#[test]
fn gue_spreads_flows_over_source_ports_and_keeps_each_on_its_own() {
    let (action, src, dst, _) = TUNNELS[1];
    let mut rig = rig(&dispatching(), action, src, dst, 1500);
    let mut ports = Vec::new();
    for sport in 1..=200 {
        let flow = flows(sport)[0];
        dispatch(&mut rig, flow, TUNNEL);
        let mut port = |payload: &[u8]| {
            let out = rig.forwarded(1, &frame(1, flow, 24, 64, payload), 2);
            u16::from_be_bytes([out[34], out[35]])
        };
        let first = port(b"first");
        assert_eq!(first, port(b"second"));
        assert!(first >= 49_152);
        ports.push(first);
    }
    ports.sort_unstable();
    ports.dedup();
    assert!(ports.len() > 180, "{} ports for 200 flows", ports.len());
}

#[test]
fn a_packet_that_a_tunnel_makes_too_long_goes_to_the_agent_as_it_came() {
    for (action, src, dst, overhead) in TUNNELS {
        let mut rig = rig(&dispatching6(), action, src, dst, 1300);
        for flow in flows(4000) {
            dispatch(&mut rig, flow, TUNNEL);
            let headers = if flow.0.is_ipv4() { 40 } else { 60 };
            let fits = vec![1; 1300 - overhead - headers];
            let out = rig.forwarded(1, &frame(1, flow, 24, 64, &fits), 2);
            assert_eq!(out.len(), 14 + 1300, "{action}");
            let long = frame(1, flow, 24, 64, &[&fits[..], b"x"].concat());
            let too_big = Meta {
                kind: 11,
                port: 1,
                next_hop: HOP.into(),
                tunnel: TUNNEL.into(),
                ..Meta::default()
            };
            assert_eq!(rig.diverted(1, &long), (too_big, long), "{action}");
        }
    }
}

#[test]
fn a_tunnel_is_carried_over_the_agent_and_back() {
    let (action, src, dst, _) = TUNNELS[0];
    let mut rig = rig(&dispatching(), action, src, dst, 1500);
    let flow = flows(4000)[0];
    let packet = marked(flow, 64, b"hello");
    let order = Meta {
        kind: 3,
        port: 1,
        next_hop: HOP.into(),
        tunnel: TUNNEL.into(),
        ..Meta::default()
    };
    let expected = wrapped(
        action,
        src,
        dst,
        flow,
        false,
        &marked(flow, 63, b"hello")[14..],
    );
    assert_eq!(one_port(rig.packet_out(order, &packet), 2), expected);
    // A later stage's manager is asked in between: the choice of the earlier one holds.
    let later = Meta {
        kind: 1,
        part: 2,
        stage: 3,
        ..order
    };
    let udp = tuple(CLIENT, 4000, "203.0.113.82", 53, 17);
    let (meta, bytes) = one_agent(rig.packet_out(later, &frame(1, udp, 0, 64, b"q")));
    assert_eq!((meta.next_hop, meta.tunnel), (HOP.into(), TUNNEL.into()));
    let resume = Meta {
        answered: 1,
        ..meta
    };
    let out = one_port(rig.packet_out(resume, &bytes), 2);
    assert_eq!(
        (out[23], &out[26..34]),
        (4, &[10, 0, 2, 1, 10, 0, 2, 10][..])
    );
}

#[test]
fn a_notice_of_a_tunnelled_packet_is_the_packet_that_arrived() {
    let (action, src, dst, _) = TUNNELS[1];
    let mut rig = rig(&dispatching(), action, src, dst, 1500);
    let flow = flows(4000)[0];
    let mut params = vec![("next_hop", bits(HOP, 16)), ("tunnel", bits(TUNNEL, 16))];
    params.extend(tail((0, 512), 5000));
    rig.fix("by_ipip", flow, "dispatch", &params);
    let packet = frame(1, flow, 24, 64, b"hello");
    let out = rig.send(1, &packet);
    assert_eq!(out.len(), 2, "{out:?}");
    assert!(
        out.iter()
            .any(|o| matches!(o, Out::Agent(m, b) if m.kind == 2 && *b == packet))
    );
}

// A10.4
#[test]
fn a_tunnel_to_nowhere_drops() {
    let (action, src, dst, _) = TUNNELS[0];
    let mut rig = rig(&dispatching(), action, src, dst, 1500);
    let [one, _] = flows(4000);
    dispatch(&mut rig, one, TUNNEL + 1);
    rig.dropped(1, &frame(1, one, 2, 64, b""), 8, "no such tunnel");
    let order = Meta {
        kind: 3,
        port: 1,
        tunnel: TUNNEL.into(),
        ..Meta::default()
    };
    assert_eq!(rig.packet_out(order, &frame(1, one, 2, 64, b"")), []);
    assert_eq!(rig.drops(8), 2, "a tunnel without a next hop");
}

// A6.18
#[test]
fn dispatch_by_mac_changes_no_address() {
    let mut rig = Rig::load(&dispatching()).started();
    rig.next_hop(HOP, 2, 1500);
    let flow = tuple(CLIENT, 4000, "203.0.113.80", 80, 6);
    let mut params = vec![("next_hop", bits(HOP, 16)), ("tunnel", bits(0u8, 16))];
    params.extend(tail((0, 0), 5000));
    rig.fix("by_mac", flow, "dispatch", &params);
    let out = rig.forwarded(1, &frame(1, flow, 24, 64, b"GET /"), 2);
    assert_eq!(out[14..], frame(1, flow, 24, 63, b"GET /")[14..]);
    assert_eq!(
        (&out[..6], &out[6..12]),
        (&[2, 0xaa, 0, 0, 0, 5][..], &mac(2)[..])
    );
}

// A6.21
#[test]
fn servers_answer_past_the_service_whatever_the_way_to_them() {
    let mut rig = Rig::load(&dispatching()).started();
    rig.route("203.0.113.9/32", 1, 1);
    for (way, service, port, proto) in [
        ("mac", "203.0.113.80", 80, 6),
        ("ipip", "203.0.113.81", 80, 6),
        ("gue", "203.0.113.82", 53, 17),
    ] {
        // In the service's name, and to nobody's notice: known flow or not, only the hop is counted off.
        let answer = tuple(service, port, CLIENT, 4000, proto);
        let out = rig.forwarded(2, &frame(2, answer, 18, 64, b"200 OK"), 1);
        assert_eq!(
            out[14..],
            frame(2, answer, 18, 63, b"200 OK")[14..],
            "{way}"
        );
    }
}

#[test]
fn a_packet_longer_than_the_links_mtu_goes_to_the_agent_as_the_stages_left_it() {
    let mut rig = Rig::new(WEB);
    rig.route_only("10.0.1.10/32", 3);
    rig.next_hop(3, 2, 600);
    let from = tuple(CLIENT, 4000, "203.0.113.80", 80, 6);
    let to = tuple(CLIENT, 4000, "10.0.1.10", 8080, 6);
    rig.translate("web_lb", from, to, (0, 0));
    // Padding after the IP packet is not part of it.
    let mut fits = frame(1, from, 24, 64, &[1; 560]);
    fits.extend([0; 20]);
    rig.forwarded(1, &fits, 2);
    let (meta, bytes) = rig.diverted(1, &frame(1, from, 24, 64, &[1; 561]));
    let too_big = Meta {
        kind: 11,
        port: 1,
        next_hop: 3,
        ..Meta::default()
    };
    assert_eq!(meta, too_big);
    let seen = look(&bytes);
    assert_eq!((seen.to, seen.ttl), ((ip("10.0.1.10"), 8080), 64));
}
