//! What the agent tells the senders of packets that cannot go on.

use proptest::prelude::*;

use super::frames::{Error, PLAIN, Shape, framed, icmp_error, ip_packet, sound_error};
use super::site::*;
use super::*;
use crate::counters::{Drop, Sent, Withheld};
use crate::entry::{FixedAction, Packet, PacketMeta, packet_in};

/// The one error that has left, and its port.
#[track_caller]
fn told(w: &mut World) -> (u16, Error) {
    let left = std::mem::take(&mut w.left);
    assert_eq!(left.len(), 1, "{:?}", w.agent.counters());
    (left[0].0, sound_error(&left[0].1))
}

fn withheld(w: &World, why: Withheld) -> u64 {
    let all = w.agent.counters().errors_withheld;
    all.get(&why).copied().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_sends_a_packet_whose_ttl_runs_out_here_learns_it_from_the_port_it_came_in_by(
        v6 in any::<bool>(),
        proto in prop::sample::select(vec![1u8, 6, 17]),
        options in 0u8..=10,
        ttl in 0u8..=1,
        payload in prop::collection::vec(any::<u8>(), 0..1400),
    ) {
        let a = addresses(v6);
        let mut w = site();
        let sent = flow(proto, (a.inside, 33_000), (a.remote, 33_434));
        let packet = ip_packet(&sent, &Shape { ttl, options, ..PLAIN }, &payload);
        w.receive(INSIDE, &framed(INSIDE, &packet));
        let (port, got) = told(&mut w);
        prop_assert_eq!(port, INSIDE);
        prop_assert_eq!((got.src, got.dst, got.ttl), (a.own[1], a.inside, 64));
        prop_assert_eq!((got.kind, got.code, got.word), if v6 { (3, 0, 0) } else { (11, 0, 0) });
        // RFC 1812, 4.3.2.3; RFC 4443, 2.4 c.
        let room = if v6 { 1280 - 48 } else { 576 - 28 };
        prop_assert_eq!(&got.quote[..], &packet[..room.min(packet.len())]);
        prop_assert_eq!(w.agent.counters().errors_sent[&Sent::TimeExceeded], 1);
        prop_assert_eq!(w.agent.counters().drops[&Drop::Ttl], 1);
    }
}

#[test]
fn ethernet_padding_is_no_part_of_the_quote() {
    let a = addresses(false);
    let mut w = site();
    let sent = flow(17, (a.inside, 5), (a.remote, 6));
    let packet = ip_packet(&sent, &Shape { ttl: 1, ..PLAIN }, b"");
    let mut frame = framed(INSIDE, &packet).to_vec();
    frame.resize(60, 0xee);
    w.receive(INSIDE, &frame.into());
    assert_eq!(told(&mut w).1.quote, packet);
}

#[test]
fn nobody_is_told_of_errors_later_fragments_groups_and_senders_that_are_no_single_host() {
    let spent = Shape { ttl: 1, ..PLAIN };
    for v6 in [false, true] {
        let a = addresses(v6);
        let mut w = site();
        let sent = flow(17, (a.inside, 5), (a.remote, 6));
        let good = framed(INSIDE, &ip_packet(&sent, &spent, b"x"));

        let mut error = icmp_error(
            if v6 { (3, 0, 0) } else { (11, 0, 0) },
            a.inside,
            a.remote,
            &good[14..],
            64,
        );
        error[if v6 { 7 } else { 8 }] = 1;
        w.receive(INSIDE, &framed(INSIDE, &error));
        assert_eq!(withheld(&w, Withheld::AboutError), 1);

        let whole = ip_packet(&sent, &spent, &[0; 40]);
        let later = super::frames::cut(&whole, 7, &[16]).remove(1);
        w.receive(INSIDE, &framed(INSIDE, &later));
        assert_eq!(withheld(&w, Withheld::AboutFragment), 1);

        let mut to_all = good.to_vec();
        to_all[..6].fill(0xff);
        arrives(&mut w, packet_in::TTL, INSIDE, &to_all.into());
        let groups: &[&str] = if v6 {
            &["ff02::1", "ff0e::7"]
        } else {
            &["224.0.0.9", "255.255.255.255", "203.0.113.255", "10.0.1.0"]
        };
        for group in groups {
            let packet = ip_packet(
                &Tuple {
                    dst: ip(group),
                    ..sent
                },
                &spent,
                b"x",
            );
            w.receive(INSIDE, &framed(INSIDE, &packet));
        }
        assert_eq!(withheld(&w, Withheld::AboutGroup), 1 + groups.len() as u64);

        let nobodies: &[&str] = if v6 {
            &["::", "::1", "ff02::1", "fd00:2::1"]
        } else {
            &[
                "0.0.0.0",
                "127.0.0.1",
                "224.0.0.1",
                "255.255.255.255",
                "10.0.1.255",
                "241.0.0.1",
                "10.0.2.1",
            ]
        };
        for nobody in nobodies {
            let packet = ip_packet(
                &Tuple {
                    src: ip(nobody),
                    ..sent
                },
                &spent,
                b"x",
            );
            w.receive(INSIDE, &framed(INSIDE, &packet));
        }
        assert_eq!(withheld(&w, Withheld::NoSender), nobodies.len() as u64);
        assert!(w.left.is_empty());
        assert_eq!(w.agent.counters().errors_sent.len(), 0);
        w.receive(INSIDE, &good);
        told(&mut w);
    }
}

#[test]
fn a_flood_of_spent_packets_is_answered_fifty_times_and_then_a_hundred_times_a_second() {
    let a = addresses(false);
    let mut w = site();
    let sent = flow(17, (a.inside, 5), (a.remote, 6));
    let frame = framed(INSIDE, &ip_packet(&sent, &Shape { ttl: 1, ..PLAIN }, b"x"));
    for _ in 0..1000 {
        w.receive(INSIDE, &frame);
    }
    assert_eq!(w.left.len(), 50);
    assert_eq!(withheld(&w, Withheld::Rate), 950);
    w.left.clear();
    for _ in 0..500 {
        w.advance(2 * MS);
        w.receive(INSIDE, &frame);
    }
    assert_eq!(w.left.len(), 100);
    w.left.clear();
    w.advance(60 * S);
    for _ in 0..1000 {
        w.receive(INSIDE, &frame);
    }
    assert_eq!(w.left.len(), 50, "a rest saves up no more than one burst");
    assert_eq!(w.agent.counters().drops[&Drop::Ttl], 2500);
}

/// A packet that is too long for its way out, as the pipeline hands it over.
fn too_long(w: &mut World, from: u16, hop: IpAddr, tunnel: u16, packet: &[u8]) {
    let next_hop = w.agent.take_next_hop(hop).unwrap();
    w.feed(Input::PacketIn(Packet {
        meta: PacketMeta {
            kind: packet_in::TOO_BIG,
            port: from,
            next_hop,
            tunnel,
            ..PacketMeta::default()
        },
        bytes: framed(from, packet),
    }));
}

#[test]
fn a_sender_whose_packet_is_too_long_for_the_next_link_learns_what_it_takes() {
    for v6 in [false, true] {
        let a = addresses(v6);
        let mut w = site();
        // It went through two translations; what is quoted is what was sent.
        let sent = flow(6, (a.inside, 1000), (a.service, 80));
        let between = flow(6, (a.translated, 2000), (a.service, 80));
        let left_as = flow(6, (a.translated, 2000), (a.server, 8080));
        translate(&mut w, NAT, sent, between);
        translate(&mut w, BALANCED, between, left_as);
        let original = ip_packet(&sent, &PLAIN, &[1; 1400]);
        let packet = ip_packet(&left_as, &PLAIN, &[1; 1400]);
        too_long(&mut w, INSIDE, a.server, 0, &packet);
        let (port, got) = told(&mut w);
        assert_eq!(port, INSIDE);
        assert_eq!((got.src, got.dst), (a.own[1], a.inside));
        assert_eq!((got.kind, got.code), if v6 { (2, 0) } else { (3, 4) });
        assert_eq!(got.word, 1403, "the MTU of the servers' port");
        assert!(original.starts_with(&got.quote) && got.quote.len() > 500);
        assert_eq!(w.agent.counters().drops[&Drop::TooBig], 1);
    }
}

#[test]
fn a_tunnels_headers_are_taken_off_the_mtu_that_the_client_is_told() {
    use signalbox_lower::plan::Way;
    for (way, server, overhead) in [
        (Way::Mac, "10.0.2.10", 0),
        (Way::Ipip, "10.0.2.10", 20),
        (Way::Gue, "10.0.2.10", 32),
        (Way::Ipip, "fd00:2::10", 40),
        (Way::Gue, "fd00:2::10", 52),
    ] {
        let mut plan = site_plan();
        let balance = plan.services[usize::from(BALANCED)]
            .balance
            .as_mut()
            .unwrap();
        balance.way = way;
        balance.servers.truncate(1);
        balance.servers[0].address = ip(server);
        let mut w = World::new(plan);
        let a = addresses(false);
        let sent = flow(6, (a.remote, 1000), (a.service, 80));
        let next_hop = w.agent.take_next_hop(ip(server)).unwrap();
        put(
            &mut w.agent,
            BALANCED,
            (
                sent,
                FixedAction::Dispatch {
                    next_hop,
                    tunnel: 0,
                },
            ),
            None,
        );
        let packet = ip_packet(&sent, &PLAIN, &[1; 1400]);
        let tunnel = u16::from(way != Way::Mac);
        too_long(&mut w, OUTSIDE, ip(server), tunnel, &packet);
        let (port, got) = told(&mut w);
        assert_eq!(
            (port, got.word),
            (OUTSIDE, 1403 - overhead),
            "{way:?} {server}"
        );
    }
}

// A2.9
#[test]
fn who_sends_to_a_host_that_does_not_answer_learns_it_and_finds_its_own_packet_quoted() {
    let mut plan = site_plan();
    plan.neighbours.retain(|n| n.address != ip("203.0.113.9"));
    let mut w = World::new(plan);
    w.hosts.clear();
    let a = addresses(false);
    let sent = flow(17, (a.inside, 1000), (a.remote, 53));
    translate(
        &mut w,
        NAT,
        sent,
        flow(17, (a.translated, 2000), (a.remote, 53)),
    );
    let left_as = ip_packet(
        &flow(17, (a.translated, 2000), (a.remote, 53)),
        &PLAIN,
        b"query",
    );
    let gleaned = |w: &mut World, from, to: u16, bytes: &[u8]| {
        w.feed(Input::PacketIn(Packet {
            meta: PacketMeta {
                kind: packet_in::GLEAN,
                port: from,
                next_hop: to,
                ..PacketMeta::default()
            },
            bytes: framed(from, bytes),
        }));
    };
    gleaned(&mut w, INSIDE, OUTSIDE, &left_as);
    assert!(told_nothing(&w));
    w.advance(2500 * MS);
    assert!(told_nothing(&w), "it may still answer");
    w.advance(S);
    let left: Vec<_> = w
        .left
        .drain(..)
        .filter(|(_, f)| f[12..14] == [8, 0])
        .collect();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].0, INSIDE);
    let got = sound_error(&left[0].1);
    assert_eq!((got.src, got.dst), (a.own[1], a.inside));
    assert_eq!((got.kind, got.code), (3, 1));
    assert_eq!(got.quote, ip_packet(&sent, &PLAIN, b"query"));
    assert_eq!(w.agent.counters().drops[&Drop::Unresolved], 1);
}

fn told_nothing(w: &World) -> bool {
    w.left.iter().all(|(_, f)| f[12..14] == [8, 6])
}

#[test]
fn an_error_waits_for_the_way_to_its_receiver_like_any_packet() {
    let mut w = World::new(plan());
    let sent = Tuple {
        dst: ip("10.0.1.10"),
        ..client(9, 1000)
    };
    let packet = ip_packet(&sent, &Shape { ttl: 1, ..PLAIN }, b"");
    w.receive(1, &framed(1, &packet));
    // The client was asked for, and has answered.
    let (port, got) = told(&mut w);
    assert_eq!((port, got.dst), (1, sent.src));
}
