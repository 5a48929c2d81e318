//! Packets that the switch has dropped for want of a route, or of somebody who listens at its own addresses.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::frames::{Error, PLAIN, Shape, framed, icmp_error, ip_packet, sound_error};
use super::site::*;
use super::*;
use crate::counters::{Drop, Sent, Withheld};
use crate::entry::{Packet, PacketMeta, packet_in};
use crate::flow::Part;
use crate::packet;
use crate::testing::flags;

/// The one frame that has left, and its port.
#[track_caller]
fn left(w: &mut World) -> (u16, Bytes) {
    let left = std::mem::take(&mut w.left);
    assert_eq!(left.len(), 1, "{:?}", w.agent.counters());
    left[0].clone()
}

#[track_caller]
fn told(w: &mut World) -> (u16, Error) {
    let (port, frame) = left(w);
    (port, sound_error(&frame))
}

// A10.7
#[test]
fn who_sends_to_where_no_route_leads_learns_it_from_the_port_it_came_in_by() {
    for v6 in [false, true] {
        let a = addresses(v6);
        let nowhere = ip(if v6 { "2001:db8:ffff::1" } else { "198.18.5.5" });
        for proto in [1, 6, 17] {
            let mut w = site();
            let sent = flow(proto, (a.remote, 1000), (nowhere, 53));
            let packet = ip_packet(&sent, &PLAIN, b"who is there");
            w.receive(OUTSIDE, &framed(OUTSIDE, &packet));
            let (port, got) = told(&mut w);
            assert_eq!((port, got.src, got.dst), (OUTSIDE, a.own[0], a.remote));
            assert_eq!((got.kind, got.code), if v6 { (1, 0) } else { (3, 0) });
            assert_eq!(got.quote, packet);
            assert_eq!(w.agent.counters().errors_sent[&Sent::Unreachable], 1);
        }
    }
}

// A2.9
#[test]
fn a_translated_sender_without_a_route_finds_its_own_packet_quoted() {
    let a = addresses(false);
    let mut w = site();
    let sent = flow(17, (a.inside, 1000), (ip("198.18.5.5"), 53));
    let outside = flow(17, (a.translated, 2000), (ip("198.18.5.5"), 53));
    translate(&mut w, NAT, sent, outside);
    let left_as = ip_packet(&outside, &PLAIN, b"query");
    let bytes = framed(INSIDE, &left_as);
    arrives(&mut w, packet_in::UNDELIVERED, INSIDE, &bytes);
    let (port, got) = told(&mut w);
    assert_eq!((port, got.src, got.dst), (INSIDE, a.own[1], a.inside));
    assert_eq!(got.quote, ip_packet(&sent, &PLAIN, b"query"));
}

#[test]
fn a_flood_to_nowhere_is_answered_fifty_times() {
    let a = addresses(false);
    let mut w = site();
    let sent = flow(17, (a.remote, 1000), (ip("198.18.5.5"), 53));
    let frame = framed(OUTSIDE, &ip_packet(&sent, &PLAIN, b""));
    for _ in 0..1000 {
        w.receive(OUTSIDE, &frame);
    }
    assert_eq!(w.left.len(), 50);
    assert_eq!(w.agent.counters().errors_withheld[&Withheld::Rate], 950);
}

#[test]
fn an_error_without_a_route_is_answered_with_none() {
    let a = addresses(false);
    let mut w = site();
    let about = flow(17, (ip("198.18.5.5"), 53), (a.remote, 1000));
    let error = icmp_error(
        (3, 3, 0),
        a.remote,
        ip("198.18.5.5"),
        &ip_packet(&about, &PLAIN, b""),
        64,
    );
    w.receive(OUTSIDE, &framed(OUTSIDE, &error));
    assert!(w.left.is_empty());
    let withheld = w.agent.counters().errors_withheld;
    assert_eq!(withheld[&Withheld::AboutError], 1);
}

#[test]
fn udp_to_a_port_of_the_switch_that_nobody_has_is_unreachable() {
    for v6 in [false, true] {
        for dport in [53, 61_500] {
            let a = addresses(v6);
            let mut w = site();
            let sent = flow(17, (a.server_router, 53), (a.own[2], dport));
            let packet = ip_packet(&sent, &PLAIN, b"late");
            // A packet to the agent's own ports comes by another way.
            if dport < signalbox_lower::entries::AGENT_PORTS {
                w.receive(SERVERS, &framed(SERVERS, &packet));
            } else {
                let bytes = framed(SERVERS, &packet);
                arrives(&mut w, packet_in::LOCAL, SERVERS, &bytes);
                assert_eq!(w.agent.counters().drops[&Drop::NotWanted], 1);
            }
            let (port, got) = told(&mut w);
            assert_eq!(
                (port, got.src, got.dst),
                (SERVERS, a.own[2], a.server_router)
            );
            assert_eq!((got.kind, got.code), if v6 { (1, 4) } else { (3, 3) });
            assert_eq!(got.quote, packet);
        }
    }
}

/// A segment of a TCP connection.
struct Segment {
    flags: u8,
    seq: u32,
    ack: u32,
    payload: &'static [u8],
}

/// A segment to a port of the switch, as an IP packet.
fn segment(tuple: &Tuple, s: &Segment) -> Vec<u8> {
    let shape = Shape {
        tcp_flags: s.flags,
        ..PLAIN
    };
    let mut packet = ip_packet(tuple, &shape, s.payload);
    let l4 = packet.len() - 20 - s.payload.len();
    packet[l4 + 4..l4 + 8].copy_from_slice(&s.seq.to_be_bytes());
    packet[l4 + 8..l4 + 12].copy_from_slice(&s.ack.to_be_bytes());
    let framed = framed(SERVERS, &packet);
    let sliced = SlicedPacket::from_ethernet(&framed).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else {
        panic!("no TCP");
    };
    let sum = sum_of(&sliced, tcp);
    packet[l4 + 16..l4 + 18].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn sum_of(sliced: &SlicedPacket, tcp: &etherparse::TcpSlice) -> u16 {
    match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => tcp
            .calc_checksum_ipv4(ip.header().source(), ip.header().destination())
            .unwrap(),
        Some(NetSlice::Ipv6(ip)) => tcp
            .calc_checksum_ipv6(ip.header().source(), ip.header().destination())
            .unwrap(),
        other => panic!("{other:?}"),
    }
}

/// RFC 9293, section 3.10.7.1.
#[test]
fn tcp_to_a_port_of_the_switch_that_nobody_has_is_reset() {
    const SYN: u8 = flags::SYN;
    const ACK: u8 = flags::ACK;
    const FIN: u8 = flags::FIN;
    let cases = [
        (SYN, 7, 0, &b""[..], (flags::RST | ACK, 0, 8)),
        (SYN | FIN, u32::MAX, 0, b"x", (flags::RST | ACK, 0, 2)),
        (ACK, 7, 99, b"data", (flags::RST, 99, 0)),
        (SYN | ACK, 7, 99, b"", (flags::RST, 99, 0)),
    ];
    for v6 in [false, true] {
        let a = addresses(v6);
        for (flags, seq, ack, payload, expected) in cases {
            let mut w = site();
            let sent = flow(6, (a.server_router, 1000), (a.own[2], 22));
            let packet = segment(
                &sent,
                &Segment {
                    flags,
                    seq,
                    ack,
                    payload,
                },
            );
            w.receive(SERVERS, &framed(SERVERS, &packet));
            let (port, frame) = left(&mut w);
            assert_eq!(port, SERVERS);
            assert_eq!(packet::view(&frame).unwrap().tuple, sent.reversed());
            let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else {
                panic!("no TCP");
            };
            assert_eq!(tcp.checksum(), sum_of(&sliced, tcp));
            if let Some(NetSlice::Ipv4(ip)) = &sliced.net {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
            }
            let flags = frame[packet::view(&frame).unwrap().l4 + 13];
            let got = (flags, tcp.sequence_number(), tcp.acknowledgment_number());
            assert_eq!(got, expected);
            assert!(tcp.payload().is_empty());
            assert_eq!(w.agent.counters().errors_sent[&Sent::Reset], 1);
        }
    }
}

#[test]
fn no_reset_answers_a_reset_or_a_segment_that_is_damaged() {
    let a = addresses(false);
    let mut w = site();
    let sent = flow(6, (a.server_router, 1000), (a.own[2], 22));
    let reset = Shape {
        tcp_flags: flags::RST,
        ..PLAIN
    };
    w.receive(SERVERS, &framed(SERVERS, &ip_packet(&sent, &reset, b"")));
    let mut damaged = ip_packet(&sent, &PLAIN, b"data");
    *damaged.last_mut().unwrap() ^= 1;
    w.receive(SERVERS, &framed(SERVERS, &damaged));
    assert!(w.left.is_empty());
}

#[test]
fn nobody_is_told_at_an_address_that_a_service_serves() {
    for v6 in [false, true] {
        let a = addresses(v6);
        let mut w = site();
        for (proto, to) in [(6, a.translated), (17, a.translated)] {
            let sent = flow(proto, (a.remote, 1000), (to, 22));
            w.receive(OUTSIDE, &framed(OUTSIDE, &ip_packet(&sent, &PLAIN, b"")));
        }
        assert!(w.left.is_empty());
    }
}

// A6.15
#[test]
fn a_packet_without_a_route_still_tells_of_its_flows_end() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    w.take_left();
    let fin = Shape {
        tcp_flags: flags::FIN | flags::ACK,
        ..PLAIN
    };
    w.receive(1, &framed(1, &ip_packet(&flow, &fin, b"")));
    let entry = (w.switch.fixed.values().find(|e| e.key.part == Part::Reply))
        .map(|e| e.entry)
        .unwrap();
    // The server's FIN has come through the stages, and the client's network is gone.
    w.feed(Input::PacketIn(Packet {
        meta: PacketMeta {
            kind: packet_in::UNDELIVERED,
            port: 2,
            part: Part::Reply as u8,
            stage: 1,
            reply: true,
            notices: 1,
            entry,
            ..PacketMeta::default()
        },
        bytes: framed(2, &ip_packet(&flow.reversed(), &fin, b"")),
    }));
    let closed = crate::listing::FlowState::Closed;
    assert_eq!(w.agent.flows()[0].state, closed);
}
