//! What becomes of packets, to the byte.

use std::net::IpAddr;

use proptest::prelude::*;
use signalbox_policy::eval::{DropReason, Evaluator, Message, Outcome, Part, Resume};
use signalbox_policy::model::{Mac, Policy, ServiceIndex};
use signalbox_policy::testing::{neighbour_mac, prepared};

use crate::frames::{HOST, echo, mac, sound, summary, tcp, udp};
use crate::texts::{BALANCE, DUAL_NETWORK, NETWORK, POOL, policy};

const GUARD: ServiceIndex = ServiceIndex(0);
const LB: ServiceIndex = ServiceIndex(1);

fn web() -> Policy {
    let guard =
        "service guard : filter { deny ip.src in 198.51.100.0/24 or ip.dst 198.51.100.9 }\n";
    prepared(&policy(&format!(
        "{NETWORK}{POOL}{guard}{BALANCE}cascade guard > web-lb\n"
    )))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn dropped(reason: DropReason) -> Outcome {
    let service = (reason == DropReason::Service).then_some(GUARD);
    Outcome::Drop { reason, service }
}

fn message(outcome: &Outcome) -> Option<Message> {
    match outcome {
        Outcome::ToAgent { message, .. } => Some(*message),
        _ => None,
    }
}

#[track_caller]
fn forwarded(outcome: Outcome) -> (u16, Vec<u8>) {
    match outcome {
        Outcome::Forward { port, packet } => (port, packet),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_connection_goes_to_the_manager_as_it_came() {
    let policy = web();
    let e = Evaluator::new(&policy);
    let frame = tcp(
        mac(&policy, 1),
        "192.0.2.9:4000",
        "203.0.113.80:443",
        true,
        b"",
    );
    let expected = Outcome::ToAgent {
        message: Message::Interest,
        stage: Some((LB, Part::Forward)),
        reply: false,
        dispatch: None,
        packet: frame.clone(),
    };
    assert_eq!(e.receive(1, &frame), expected);
}

// A6.17
#[test]
fn a_decided_flow_goes_to_its_server_and_its_replies_come_from_the_service() {
    let policy = web();
    let mut e = Evaluator::new(&policy);
    let frame = tcp(
        mac(&policy, 1),
        "192.0.2.9:4000",
        "203.0.113.80:443",
        false,
        b"odd",
    );
    let (flow, flags) = e.flow(&frame).unwrap();
    assert_eq!(flags, 16);
    assert!(e.balance(LB, flow, ip("10.0.2.10"), 8080));

    let (port, out) = forwarded(e.receive(1, &frame));
    assert_eq!(
        (port, summary(&out).as_str()),
        (3, "tcp 192.0.2.9:4000 -> 10.0.2.10:8080 ttl 63")
    );
    assert_eq!(out[..6], neighbour_mac(ip("10.0.2.10")).0);
    assert_eq!(out[6..12], mac(&policy, 3));
    sound(&out);

    let reply = tcp(
        mac(&policy, 3),
        "10.0.2.10:8080",
        "192.0.2.9:4000",
        false,
        b"answer",
    );
    let (port, out) = forwarded(e.receive(3, &reply));
    assert_eq!(
        (port, summary(&out).as_str()),
        (1, "tcp 203.0.113.80:443 -> 192.0.2.9:4000 ttl 63")
    );
    assert_eq!(
        out[..6],
        neighbour_mac(ip("203.0.113.254")).0,
        "by the router"
    );
    sound(&out);
}

// A4.4
#[test]
fn a_packet_handed_back_goes_on_where_it_was() {
    let policy = web();
    let e = Evaluator::new(&policy);
    let resume = |part, service, answered| Resume {
        port: 1,
        part,
        service,
        reply: false,
        answered,
        dispatch: None,
    };
    // A blocked source: had it to pass the guard again, it would be dropped there.
    let frame = tcp(
        mac(&policy, 1),
        "198.51.100.9:4000",
        "203.0.113.80:443",
        true,
        b"",
    );
    let again = e.resume(&frame, resume(Part::Forward, LB, false));
    assert_eq!(message(&again), Some(Message::Interest));
    // Answered without a decision, it leaves the service, and nobody else takes it.
    let answered = e.resume(&frame, resume(Part::Forward, LB, true));
    assert_eq!(
        answered,
        Outcome::Drop {
            reason: DropReason::NotServed,
            service: None
        }
    );
    // From the reply part it crosses the whole forward part.
    assert_eq!(
        e.resume(&frame, resume(Part::Reply, LB, true)),
        dropped(DropReason::Service)
    );
    let runt = &frame[..30];
    assert_eq!(
        e.resume(runt, resume(Part::Forward, LB, true)),
        dropped(DropReason::BadPacketOut)
    );
}

#[test]
fn a_server_packet_of_no_known_flow_is_asked_about_in_the_reply_part() {
    let policy = web();
    let e = Evaluator::new(&policy);
    let frame = tcp(
        mac(&policy, 2),
        "10.0.1.10:8080",
        "192.0.2.9:4000",
        false,
        b"",
    );
    match e.receive(2, &frame) {
        Outcome::ToAgent {
            message: Message::Interest,
            stage,
            ..
        } => {
            assert_eq!(stage, Some((LB, Part::Reply)));
        }
        other => panic!("{other:?}"),
    }
    // From another port of the server it is nobody's.
    let frame = tcp(
        mac(&policy, 2),
        "10.0.1.10:22",
        "192.0.2.9:4000",
        false,
        b"",
    );
    assert_eq!(forwarded(e.receive(2, &frame)).0, 1);
}

// A9.10
#[test]
fn without_a_manager_the_floor_acts() {
    let policy = web();
    let mut e = Evaluator::new(&policy);
    let frame = tcp(
        mac(&policy, 1),
        "192.0.2.9:4000",
        "203.0.113.80:443",
        true,
        b"",
    );
    e.set_manager(LB, false);
    assert_eq!(
        e.receive(1, &frame),
        Outcome::Drop {
            reason: DropReason::Service,
            service: Some(LB)
        }
    );
    e.set_manager(LB, true);
    assert_eq!(message(&e.receive(1, &frame)), Some(Message::Interest));
}

// A4.5, A4.8
#[test]
fn a_filter_meets_replies_as_the_client_sees_them() {
    // The guard drops what goes to 198.51.100.9; a reply to it is dropped, though its source is a server.
    let policy = web();
    let mut e = Evaluator::new(&policy);
    let frame = tcp(
        mac(&policy, 1),
        "198.51.100.9:4000",
        "203.0.113.80:443",
        true,
        b"",
    );
    let (flow, _) = e.flow(&frame).unwrap();
    assert!(e.balance(LB, flow, ip("10.0.1.10"), 8080));
    let reply = tcp(
        mac(&policy, 2),
        "10.0.1.10:8080",
        "198.51.100.9:4000",
        false,
        b"",
    );
    assert_eq!(e.receive(2, &reply), dropped(DropReason::Service));
}

#[test]
fn what_cannot_enter_is_dropped_for_its_reason() {
    let policy = web();
    let e = Evaluator::new(&policy);
    let good = udp(mac(&policy, 1), "192.0.2.9:1", "10.0.1.9:2", b"payload");
    let with = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    assert_eq!(e.receive(9, &good), dropped(DropReason::UnknownPort));
    assert_eq!(e.receive(1, &with(0, 6)), dropped(DropReason::WrongMac));
    assert_eq!(
        e.receive(1, &with(12, 0x81)),
        dropped(DropReason::NotIp),
        "a VLAN tag"
    );
    assert_eq!(
        e.receive(1, &good[..13]),
        dropped(DropReason::NotIp),
        "no whole Ethernet header"
    );
    assert_eq!(
        e.receive(1, &good[..33]),
        dropped(DropReason::Malformed),
        "no whole IPv4 header"
    );
    assert_eq!(
        e.receive(1, &good[..40]),
        dropped(DropReason::Malformed),
        "shorter than its length"
    );
    assert_eq!(
        e.receive(1, &with(14, 0x44)),
        dropped(DropReason::Malformed),
        "header length"
    );
    assert_eq!(
        e.receive(1, &with(14, 0x65)),
        dropped(DropReason::Malformed),
        "version"
    );
    assert_eq!(
        e.receive(1, &with(24, !good[24])),
        dropped(DropReason::Malformed),
        "checksum"
    );
    let six = udp(mac(&policy, 1), "[2001:db8::1]:1", "[2001:db8::2]:2", b"");
    assert_eq!(
        e.receive(1, &six),
        dropped(DropReason::NotIp),
        "IPv6 in an IPv4 policy"
    );
}

#[test]
fn trailing_bytes_do_not_matter_and_are_kept() {
    let policy = web();
    let mut e = Evaluator::new(&policy);
    e.learn(ip("10.0.1.9"), 2, Mac([2, 0, 0, 0, 0, 9]));
    let mut frame = udp(mac(&policy, 1), "192.0.2.9:1", "10.0.1.9:2", b"x");
    frame.extend([0xee; 7]);
    let (_, out) = forwarded(e.receive(1, &frame));
    assert_eq!(out[out.len() - 7..], [0xee; 7]);
}

#[test]
fn the_agent_gets_what_is_its_own() {
    let policy = web();
    let e = Evaluator::new(&policy);
    let of = |frame: &[u8]| message(&e.receive(1, frame));
    let m = mac(&policy, 1);
    assert_eq!(
        of(&echo(m, "192.0.2.9", "203.0.113.1")),
        Some(Message::Local)
    );
    assert_eq!(of(&echo(m, "192.0.2.9", "10.0.2.1")), Some(Message::Local));
    assert_eq!(
        of(&echo(m, "192.0.2.9", "203.0.113.80")),
        Some(Message::Local)
    );
    assert_eq!(
        of(&tcp(m, "10.0.1.10:80", "203.0.113.1:61440", false, b"")),
        Some(Message::Local)
    );
    assert_eq!(
        of(&tcp(m, "10.0.1.10:80", "203.0.113.1:61439", false, b"")),
        None
    );
    let mut arp = vec![0xff; 6];
    arp.extend(HOST);
    arp.extend([8, 6]);
    assert_eq!(of(&arp), Some(Message::Arp));

    // TTL 1, a fragment and an ICMP error; the header's checksum is mended by hand.
    let patched = |frame: &[u8], at: usize, value: u8| {
        let mut frame = frame.to_vec();
        let word = |f: &[u8], at: usize| u16::from_be_bytes([f[at & !1], f[(at & !1) + 1]]);
        let old = word(&frame, at);
        frame[at] = value;
        let new = word(&frame, at);
        let sum = u32::from(!word(&frame, 24)) + u32::from(!old) + u32::from(new);
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = !(((folded & 0xffff) + (folded >> 16)) as u16);
        frame[24..26].copy_from_slice(&folded.to_be_bytes());
        frame
    };
    let plain = udp(m, "192.0.2.9:1", "10.0.1.9:2", b"payload");
    assert_eq!(of(&patched(&plain, 22, 1)), Some(Message::Ttl));
    assert_eq!(of(&patched(&plain, 20, 0x20)), Some(Message::Fragment));
    assert_eq!(of(&patched(&plain, 21, 1)), Some(Message::Fragment));
    let mut error = echo(m, "192.0.2.9", "10.0.1.9");
    error[34] = 3;
    assert_eq!(of(&error), Some(Message::IcmpError));
}

#[test]
fn unknown_neighbours_are_asked_for_and_own_addresses_go_nowhere() {
    let policy = policy(&format!(
        "{NETWORK}service f : filter {{ default allow }}\n"
    ));
    let mut e = Evaluator::new(&policy);
    let m = mac(&policy, 2);
    let to = |dst: &str| udp(m, "10.0.1.9:1", &format!("{dst}:2"), b"");
    assert_eq!(
        message(&e.receive(2, &to("10.0.2.7"))),
        Some(Message::Glean)
    );
    assert_eq!(
        message(&e.receive(2, &to("8.8.8.8"))),
        Some(Message::Unresolved)
    );
    assert_eq!(
        e.receive(2, &to("203.0.113.1")),
        dropped(DropReason::NotServed)
    );
    e.learn(ip("203.0.113.254"), 1, Mac([2, 0, 0, 0, 1, 1]));
    assert_eq!(forwarded(e.receive(2, &to("8.8.8.8"))).0, 1);
}

// A10.8
#[test]
fn an_ipv6_flow_is_translated_both_ways() {
    let text = format!(
        "{DUAL_NETWORK}pool six {{ [2001:db8:2::10]:8080 }}\n\
         service lb : balance {{ match udp.dst [2001:db8:1::80]:53\n pick from @six by round-robin }}\n\
         managers {{ m serves lb }}\n"
    );
    let policy = prepared(&policy(&text));
    let mut e = Evaluator::new(&policy);
    e.learn(ip("2001:db8:1::9"), 1, Mac([2, 0, 0, 0, 0, 9]));
    let lb = ServiceIndex(0);
    let query = udp(
        mac(&policy, 1),
        "[2001:db8:1::9]:4000",
        "[2001:db8:1::80]:53",
        b"query",
    );
    assert_eq!(message(&e.receive(1, &query)), Some(Message::Interest));
    let (flow, _) = e.flow(&query).unwrap();
    assert!(e.balance(lb, flow, ip("2001:db8:2::10"), 8080));
    let (port, out) = forwarded(e.receive(1, &query));
    assert_eq!(
        (port, summary(&out).as_str()),
        (2, "udp 2001:db8:1::9:4000 -> 2001:db8:2::10:8080 ttl 63")
    );
    sound(&out);
    let reply = udp(
        mac(&policy, 2),
        "[2001:db8:2::10]:8080",
        "[2001:db8:1::9]:4000",
        b"answer",
    );
    let (_, out) = forwarded(e.receive(2, &reply));
    assert_eq!(
        summary(&out),
        "udp 2001:db8:1::80:53 -> 2001:db8:1::9:4000 ttl 63"
    );
    sound(&out);
    assert_eq!(
        message(&e.receive(1, &echo(mac(&policy, 1), "2001:db8:1::9", "2001:db8:1::80"))),
        Some(Message::Local)
    );
}

/// A2.7: checksums stay right on random packets, and a UDP packet without one gets none.
fn translated(udp_packet: bool, from: u32, sport: u16, payload: &[u8], zero: bool) {
    let text = format!(
        "{NETWORK}{POOL}service lb : balance {{\n match tcp.dst 203.0.113.80:443\n match udp.dst 203.0.113.80:443\n \
         pick from @web by weighted\n}}\nmanagers {{ m serves lb }}\n"
    );
    let policy = prepared(&policy(&text));
    let mut e = Evaluator::new(&policy);
    let src = format!("{}:{sport}", std::net::Ipv4Addr::from(from));
    let m = mac(&policy, 1);
    let mut frame = if udp_packet {
        udp(m, &src, "203.0.113.80:443", payload)
    } else {
        tcp(m, &src, "203.0.113.80:443", false, payload)
    };
    if zero && udp_packet {
        frame[40..42].copy_from_slice(&[0, 0]);
    }
    let (flow, _) = e.flow(&frame).unwrap();
    assert!(e.balance(ServiceIndex(0), flow, ip("10.0.1.10"), 8080));
    let (_, out) = forwarded(e.receive(1, &frame));
    sound(&out);
    if udp_packet {
        assert_eq!(
            out[40..42] == [0, 0],
            zero,
            "zero stays zero, and nothing else becomes it"
        );
    }
    let l4 = if udp_packet { 42 } else { 52 };
    assert_eq!(out[l4..], frame[l4..], "the rest is as it was");
}

proptest! {
    // A2.7
    #[test]
    fn checksums_stay_right(
        udp_packet in any::<bool>(),
        from in 0x0b00_0000u32..0x7e00_0000,
        sport in any::<u16>(),
        payload in proptest::collection::vec(any::<u8>(), 0..64),
        zero in any::<bool>(),
    ) {
        translated(udp_packet, from, sport, &payload, zero);
    }

    #[test]
    fn no_frame_makes_the_evaluator_panic(
        port in 0u16..5,
        head in prop_oneof![Just(vec![8u8, 0]), Just(vec![0x86, 0xdd]), Just(vec![8, 6])],
        body in proptest::collection::vec(any::<u8>(), 0..120),
        cut in 0usize..140,
    ) {
        let four = web();
        let six = policy(&format!("{DUAL_NETWORK}service f : filter {{ default allow }}\n"));
        let mut body = body;
        if let Some(first) = body.first_mut() {
            *first = if head[0] == 8 { 0x45 } else { 0x60 };
        }
        for policy in [&four, &six] {
            let mut frame = mac(policy, port).to_vec();
            frame.extend(HOST);
            frame.extend(&head);
            frame.extend(&body);
            frame.truncate(cut);
            let e = Evaluator::new(policy);
            let _ = e.receive(port, &frame);
            let _ = e.flow(&frame);
            let resume = Resume { port, part: Part::Forward, service: ServiceIndex(0), reply: false, answered: true, dispatch: None };
            let _ = e.resume(&frame, resume);
        }
    }
}
