//! ICMP errors that arrive: each reaches the end that it concerns, as an error about the packet that end
//! has sent.

use proptest::prelude::*;

use super::frames::{Error, PLAIN, Shape, framed, icmp_error, ip_packet, sound_error};
use super::site::*;
use super::*;
use crate::counters::Drop;
use crate::entry::FixedAction;
use crate::testing::World;

fn unreachable(v6: bool) -> (u8, u8, u32) {
    if v6 { (1, 4, 0) } else { (3, 3, 0) }
}

fn too_big(v6: bool) -> (u8, u8, u32) {
    if v6 { (2, 0, 1300) } else { (3, 4, 1300) }
}

/// The one frame that has left, and its port.
#[track_caller]
fn left(w: &mut World) -> (u16, Error) {
    let left = std::mem::take(&mut w.left);
    assert_eq!(left.len(), 1, "{:?}", w.agent.counters());
    (left[0].0, sound_error(&left[0].1))
}

#[derive(Debug, Clone)]
struct Case {
    v6: bool,
    proto: u8,
    shape: Shape,
    ports: (u16, u16, u16),
    payload: Vec<u8>,
    room: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    (
        any::<bool>(),
        prop::sample::select(vec![1u8, 6, 17]),
        (0u8..=4, any::<u16>(), any::<bool>()),
        (1u16.., 1u16.., 1u16..),
        prop::collection::vec(any::<u8>(), 0..90),
        0usize..140,
    )
        .prop_map(
            |(v6, proto, (options, identification, no_checksum), ports, payload, room)| Case {
                v6,
                proto,
                shape: Shape {
                    ttl: 3,
                    options,
                    identification,
                    no_checksum: no_checksum && !v6,
                    ..PLAIN
                },
                ports,
                payload,
                room,
            },
        )
}

/// Enough of a quote to know the flow: its headers, and eight bytes. It is not cut within the TCP checksum,
/// of which one byte says nothing.
fn enough(case: &Case) -> usize {
    let options = usize::from(case.shape.options);
    let header = if case.v6 {
        40 + options * 8
    } else {
        20 + options * 4
    };
    header + 8 + if case.room == 9 { 10 } else { case.room }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    // A2.9
    #[test]
    fn an_error_about_a_translated_packet_reaches_the_inside_host_quoting_what_it_sent(case in cases()) {
        let a = addresses(case.v6);
        let (sport, dport, outside) = case.ports;
        let sent = flow(case.proto, (a.inside, sport), (a.remote, dport));
        let left_as = flow(case.proto, (a.translated, outside), (a.remote, dport));
        let mut w = site();
        translate(&mut w, NAT, sent, left_as);
        let original = ip_packet(&sent, &case.shape, &case.payload);
        let translated = ip_packet(&left_as, &case.shape, &case.payload);
        for (from, expected) in [(a.far_router, a.far_router), (a.remote, a.remote)] {
            let error = icmp_error(unreachable(case.v6), from, a.translated, &translated, enough(&case));
            w.receive(OUTSIDE, &framed(OUTSIDE, &error));
            let (port, got) = left(&mut w);
            prop_assert_eq!(port, INSIDE);
            prop_assert_eq!((got.src, got.dst), (expected, a.inside));
            prop_assert_eq!((got.kind, got.code, got.word), unreachable(case.v6));
            let room = enough(&case).min(original.len());
            prop_assert_eq!(&got.quote[..], &original[..room]);
        }
    }

    // A6.22
    #[test]
    fn an_error_about_a_packet_to_a_server_reaches_the_client_who_knows_only_the_service(case in cases()) {
        let a = addresses(case.v6);
        let proto = if case.proto == 1 { 6 } else { case.proto };
        let (sport, dport, server_port) = case.ports;
        let sent = flow(proto, (a.remote, sport), (a.service, dport));
        let left_as = flow(proto, (a.remote, sport), (a.server, server_port));
        let mut w = site();
        translate(&mut w, BALANCED, sent, left_as);
        let original = ip_packet(&sent, &case.shape, &case.payload);
        let translated = ip_packet(&left_as, &case.shape, &case.payload);
        // The server speaks as the service; a router before it is not shown.
        for (from, expected) in [(a.server, a.service), (a.server_router, a.own[0])] {
            let error = icmp_error(too_big(case.v6), from, a.remote, &translated, enough(&case));
            w.receive(SERVERS, &framed(SERVERS, &error));
            let (port, got) = left(&mut w);
            prop_assert_eq!(port, OUTSIDE);
            prop_assert_eq!((got.src, got.dst), (expected, a.remote));
            prop_assert_eq!((got.kind, got.code, got.word), too_big(case.v6));
            let room = enough(&case).min(original.len());
            prop_assert_eq!(&got.quote[..], &original[..room]);
        }
        // About a reply: a router between the service and the client tells the server.
        let reply = ip_packet(&left_as.reversed(), &case.shape, &case.payload);
        let seen = ip_packet(&sent.reversed(), &case.shape, &case.payload);
        let error = icmp_error(too_big(case.v6), a.far_router, a.service, &seen, enough(&case));
        w.receive(OUTSIDE, &framed(OUTSIDE, &error));
        let (port, got) = left(&mut w);
        prop_assert_eq!(port, SERVERS);
        prop_assert_eq!((got.src, got.dst), (a.far_router, a.server));
        let room = enough(&case).min(reply.len());
        prop_assert_eq!(&got.quote[..], &reply[..room]);
    }

    // A2.9, A4.8
    #[test]
    fn an_error_about_a_packet_of_two_translations_goes_back_through_both(case in cases()) {
        let a = addresses(case.v6);
        let proto = if case.proto == 1 { 6 } else { case.proto };
        let (sport, dport, other) = case.ports;
        let sent = flow(proto, (a.inside, sport), (a.service, dport));
        let between = flow(proto, (a.translated, other), (a.service, dport));
        let left_as = flow(proto, (a.translated, other), (a.server, sport));
        let mut w = site();
        translate(&mut w, NAT, sent, between);
        translate(&mut w, BALANCED, between, left_as);
        let original = ip_packet(&sent, &case.shape, &case.payload);
        let seen = ip_packet(&left_as, &case.shape, &case.payload);
        let error = icmp_error(unreachable(case.v6), a.server, a.translated, &seen, enough(&case));
        w.receive(SERVERS, &framed(SERVERS, &error));
        let (port, got) = left(&mut w);
        prop_assert_eq!(port, INSIDE);
        prop_assert_eq!((got.src, got.dst), (a.service, a.inside));
        let room = enough(&case).min(original.len());
        prop_assert_eq!(&got.quote[..], &original[..room]);

        // The other way: an inside router's error about a reply reaches the server, and shows nothing inside.
        let original = ip_packet(&left_as.reversed(), &case.shape, &case.payload);
        let seen = ip_packet(&sent.reversed(), &case.shape, &case.payload);
        let error = icmp_error(unreachable(case.v6), a.inside_router, a.service, &seen, enough(&case));
        w.receive(INSIDE, &framed(INSIDE, &error));
        let (port, got) = left(&mut w);
        prop_assert_eq!(port, SERVERS);
        prop_assert_eq!((got.src, got.dst), (a.own[2], a.server));
        let room = enough(&case).min(original.len());
        prop_assert_eq!(&got.quote[..], &original[..room]);
    }

    // A2.9, A2.13
    #[test]
    fn errors_of_a_hairpin_reach_the_inside_host_that_sent_the_packet(case in cases()) {
        let a = addresses(case.v6);
        let proto = if case.proto == 1 { 17 } else { case.proto };
        let (sport, dport, mapped) = case.ports;
        let other = mapped ^ 1;
        let sent = flow(proto, (a.inside, sport), (a.translated, mapped));
        let left_as = flow(proto, (a.translated, other), (a.other_inside, dport));
        let mut w = site();
        translate(&mut w, NAT, sent, left_as);
        for (original, seen, from, to, speaks_as) in [
            (sent, left_as, a.other_inside, a.inside, a.translated),
            (left_as.reversed(), sent.reversed(), a.inside, a.other_inside, a.translated),
        ] {
            let original = ip_packet(&original, &case.shape, &case.payload);
            let seen = ip_packet(&seen, &case.shape, &case.payload);
            let error = icmp_error(unreachable(case.v6), from, a.translated, &seen, enough(&case));
            w.receive(INSIDE, &framed(INSIDE, &error));
            let (port, got) = left(&mut w);
            prop_assert_eq!(port, INSIDE);
            prop_assert_eq!((got.src, got.dst), (speaks_as, to));
            let room = enough(&case).min(original.len());
            prop_assert_eq!(&got.quote[..], &original[..room]);
        }
    }

    #[test]
    fn no_bytes_that_call_themselves_an_error_or_a_fragment_do_harm(
        kind in prop::sample::select(vec![3u8, 6, 7, 8, 9, 10, 11]),
        v6 in any::<bool>(),
        mut bytes in prop::collection::vec(any::<u8>(), 0..140),
        next in prop::sample::select(vec![0u8, 1, 4, 6, 17, 41, 43, 44, 51, 58, 60]),
    ) {
        let mut frame = port_mac_frame(v6);
        // Half a header, so that most get further than its first field.
        let (at, version) = if v6 { (6, 0x60) } else { (9, 0x45) };
        if bytes.len() > at {
            bytes[0] = version;
            bytes[at] = next;
        }
        frame.extend_from_slice(&bytes);
        let mut w = site();
        for _ in 0..2 {
            arrives(&mut w, kind, OUTSIDE, &frame.clone().into());
        }
        w.advance(6 * S);
        prop_assert_eq!(w.agent.counters().datagrams.now, 0);
    }
}

fn port_mac_frame(v6: bool) -> Vec<u8> {
    let mut f = crate::testing::port_mac(1).to_vec();
    f.extend_from_slice(&[2, 0, 0, 0, 0, 9]);
    f.extend_from_slice(if v6 { &[0x86, 0xdd] } else { &[8, 0] });
    f
}

/// An error about a packet from `translated` to `remote`, from a router outside.
fn about(w: &mut World, quoted: &Tuple) {
    let a = addresses(quoted.src.is_ipv6());
    let seen = ip_packet(quoted, &PLAIN, b"");
    let error = icmp_error(
        unreachable(!quoted.src.is_ipv4()),
        a.far_router,
        quoted.src,
        &seen,
        600,
    );
    w.receive(OUTSIDE, &framed(OUTSIDE, &error));
}

// A2.9
#[test]
fn an_error_that_quotes_nothing_known_gets_no_further_than_the_translation() {
    for v6 in [false, true] {
        let a = addresses(v6);
        let mut w = site();
        for owner in [a.translated, a.service] {
            about(&mut w, &flow(17, (owner, 4000), (a.remote, 53)));
        }
        assert!(w.left.is_empty());
        assert_eq!(w.agent.counters().drops[&Drop::IcmpError], 2);
        // Nobody translates for this host: its errors are routed as they are.
        let plain = flow(17, (a.server, 4000), (a.remote, 53));
        about(&mut w, &plain);
        let (port, got) = left(&mut w);
        assert_eq!(port, SERVERS);
        assert_eq!((got.src, got.dst), (a.far_router, a.server));
        assert_eq!(got.quote, ip_packet(&plain, &PLAIN, b""));
        assert_eq!(w.agent.counters().errors_routed, 1);
    }
}

/// A site with one translated flow, and how its packets leave.
fn translating() -> (World, Tuple) {
    let a = addresses(false);
    let mut w = site();
    let sent = flow(17, (a.inside, 1000), (a.remote, 53));
    let left_as = flow(17, (a.translated, 2000), (a.remote, 53));
    translate(&mut w, NAT, sent, left_as);
    (w, left_as)
}

#[test]
fn a_quote_too_short_for_its_ports_is_not_guessed_at() {
    let a = addresses(false);
    let (mut w, left_as) = translating();
    let seen = ip_packet(&left_as, &PLAIN, b"x");
    let error = icmp_error((3, 1, 0), a.far_router, a.translated, &seen, 22);
    w.receive(OUTSIDE, &framed(OUTSIDE, &error));
    assert!(w.left.is_empty());
    assert_eq!(w.agent.counters().drops[&Drop::IcmpError], 1);
}

#[test]
fn an_error_whose_checksum_is_wrong_is_not_made_right() {
    let a = addresses(false);
    let (mut w, left_as) = translating();
    let seen = ip_packet(&left_as, &PLAIN, b"x");
    let mut error = icmp_error((3, 1, 0), a.far_router, a.translated, &seen, 600);
    error[22] ^= 0x10;
    w.receive(OUTSIDE, &framed(OUTSIDE, &error));
    assert!(w.left.is_empty());
    assert_eq!(w.agent.counters().drops[&Drop::Malformed], 1);
}

#[test]
fn a_filter_drops_the_errors_that_its_rules_name() {
    let a = addresses(false);
    let (mut w, left_as) = translating();
    let seen = ip_packet(&left_as, &PLAIN, b"x");
    let quench = icmp_error((4, 0, 0), a.far_router, a.translated, &seen, 600);
    w.receive(OUTSIDE, &framed(OUTSIDE, &quench));
    let blocked = icmp_error((3, 1, 0), ip("198.51.100.7"), a.translated, &seen, 600);
    w.receive(OUTSIDE, &framed(OUTSIDE, &blocked));
    assert!(w.left.is_empty());
    assert_eq!(w.agent.counters().drops[&Drop::Service], 2);
    let redirect = icmp_error((5, 1, 0), a.far_router, a.translated, &seen, 600);
    w.receive(OUTSIDE, &framed(OUTSIDE, &redirect));
    assert!(
        w.left.is_empty(),
        "a redirect is for a host on its own link"
    );
}

#[test]
fn a_flood_of_errors_costs_no_more_than_its_rate_and_is_counted() {
    let (mut w, left_as) = translating();
    for _ in 0..1000 {
        about(&mut w, &left_as);
    }
    assert_eq!(w.left.len(), 200);
    assert_eq!(w.agent.counters().drops[&Drop::IcmpErrorRate], 800);
    w.advance(10 * MS);
    for _ in 0..100 {
        about(&mut w, &left_as);
    }
    assert_eq!(w.left.len(), 210);
    assert_eq!(w.agent.counters().errors_translated, 210);
}

/// A site whose balanced address is reached in tunnels.
fn tunnelled(way: signalbox_lower::plan::Way) -> World {
    let mut plan = site_plan();
    let a = addresses(false);
    let balance = plan.services[usize::from(BALANCED)]
        .balance
        .as_mut()
        .unwrap();
    balance.way = way;
    balance.servers.truncate(1);
    balance.servers[0].address = a.server;
    plan.services[usize::from(BALANCED)].reply = None;
    World::new(plan)
}

/// A flow that goes to the server as it is, or in this tunnel.
fn dispatch(w: &mut World, flow: Tuple, tunnel: u16) {
    let next_hop = w.agent.take_next_hop(addresses(false).server).unwrap();
    let action = FixedAction::Dispatch { next_hop, tunnel };
    put(&mut w.agent, BALANCED, (flow, action), None);
}

// A6.21, A6.22
#[test]
fn an_error_about_a_direct_answer_reaches_the_server_of_the_flow() {
    use crate::entry::Wrap;
    use signalbox_lower::plan::Way;
    for (way, wrap) in [
        (Way::Mac, None),
        (Way::Ipip, Some(Wrap::Ipip)),
        (Way::Gue, Some(Wrap::Gue)),
    ] {
        for v6 in [false, true] {
            let (a, outer) = (addresses(v6), addresses(false));
            let mut w = tunnelled(way);
            let tunnel = wrap.map_or(0, |wrap| {
                w.switch
                    .tunnels
                    .insert(5, (wrap, outer.own[2], outer.server));
                5
            });
            let flow = flow(6, (a.remote, 1000), (a.service, 80));
            dispatch(&mut w, flow, tunnel);
            let answer = ip_packet(&flow.reversed(), &PLAIN, b"from the server, directly");
            let error = icmp_error(too_big(v6), a.far_router, a.service, &answer, 600);
            w.receive(OUTSIDE, &framed(OUTSIDE, &error));
            let (port, got) = left(&mut w);
            assert_eq!(port, SERVERS);
            assert_eq!((got.dst, got.word), (a.service, 1300), "addresses stay");
            assert_eq!(got.quote, answer);
            // As the flow's own packets go.
            let wrapped: Vec<u16> = wrap.map(|_| tunnel).into_iter().collect();
            assert_eq!(w.switch.wrapped, wrapped, "{way:?}");
        }
    }
}

/// A packet in a tunnel from the switch to a server.
fn wrapped(inner: &[u8], gue: bool) -> Vec<u8> {
    let a = addresses(false);
    let proto = if inner[0] >> 4 == 4 { 4 } else { 41 };
    if gue {
        let mut payload = vec![0, proto, 0, 0];
        payload.extend_from_slice(inner);
        let outer = flow(17, (a.own[2], 50_000), (a.server, 6080));
        return ip_packet(&outer, &PLAIN, &payload);
    }
    let outer = flow(17, (a.own[2], 0), (a.server, 0));
    let mut out = ip_packet(&outer, &PLAIN, b"")[..20].to_vec();
    out[9] = proto;
    out.extend_from_slice(inner);
    out
}

// A6.22
#[test]
fn a_tunnel_that_is_too_narrow_makes_the_client_send_less() {
    use signalbox_lower::plan::Way;
    for (way, overhead) in [(Way::Ipip, 20), (Way::Gue, 32)] {
        for v6 in [false, true] {
            let a = addresses(v6);
            let outer = addresses(false);
            let mut w = tunnelled(way);
            let flow = flow(6, (a.remote, 1000), (a.service, 80));
            dispatch(&mut w, flow, 0);
            let inner = ip_packet(&flow, &PLAIN, &[7; 900]);
            let seen = wrapped(&inner, way == Way::Gue);
            let error = icmp_error((3, 4, 1400), outer.server_router, outer.own[2], &seen, 540);
            w.receive(SERVERS, &framed(SERVERS, &error));
            let (port, got) = left(&mut w);
            assert_eq!(port, OUTSIDE);
            assert_eq!((got.src, got.dst), (a.own[0], a.remote));
            assert_eq!((got.kind, got.code), if v6 { (2, 0) } else { (3, 4) });
            assert_eq!(got.word, 1400 - overhead);
            assert!(inner.starts_with(&got.quote) && got.quote.len() > 400);

            // Eight bytes of the inner packet say nothing of its sender; another flow's are no client's.
            let error = icmp_error((3, 4, 1400), outer.server_router, outer.own[2], &seen, 28);
            w.receive(SERVERS, &framed(SERVERS, &error));
            let other = ip_packet(
                &Tuple {
                    sport: 1001,
                    ..flow
                },
                &PLAIN,
                b"",
            );
            let seen = wrapped(&other, way == Way::Gue);
            let error = icmp_error((3, 4, 1400), outer.server_router, outer.own[2], &seen, 540);
            w.receive(SERVERS, &framed(SERVERS, &error));
            assert!(w.left.is_empty());
            assert_eq!(w.agent.counters().drops[&Drop::IcmpError], 2);
        }
    }
}

// A6.22
#[test]
fn a_client_whose_packets_do_not_come_through_a_tunnel_learns_that_its_server_is_not_reached() {
    use signalbox_lower::plan::Way;
    for (way, v6) in [
        (Way::Ipip, false),
        (Way::Ipip, true),
        (Way::Gue, false),
        (Way::Gue, true),
    ] {
        let a = addresses(v6);
        let outer = addresses(false);
        let mut w = tunnelled(way);
        let next_hop = w.agent.take_next_hop(outer.server).unwrap();
        let flow = flow(6, (a.remote, 1000), (a.service, 80));
        let action = FixedAction::Dispatch {
            next_hop,
            tunnel: 0,
        };
        put(&mut w.agent, BALANCED, (flow, action), None);
        let inner = ip_packet(&flow, &PLAIN, &[7; 900]);
        let seen = wrapped(&inner, way == Way::Gue);
        let unreachable = if v6 { (1, 3) } else { (3, 1) };
        let gue = way == Way::Gue;
        // Net, host, protocol, port, time; then what says nothing of the packet inside.
        for (kind, code, told) in [
            (3, 0, true),
            (3, 1, true),
            (3, 2, true),
            (3, 3, gue),
            (11, 0, true),
            (3, 5, false),
            (3, 13, false),
            (11, 1, false),
            (12, 0, false),
        ] {
            let error = (kind, code, 0);
            let error = icmp_error(error, outer.server_router, outer.own[2], &seen, 540);
            let before = w.agent.counters().drops.get(&Drop::IcmpError).copied();
            w.receive(SERVERS, &framed(SERVERS, &error));
            if told {
                let (port, got) = left(&mut w);
                assert_eq!((port, got.src, got.dst), (OUTSIDE, a.own[0], a.remote));
                assert_eq!((got.kind, got.code), unreachable, "{kind} {code}");
                assert!(inner.starts_with(&got.quote) && got.quote.len() > 400);
            } else {
                assert!(w.left.is_empty(), "{kind} {code}");
                let after = w.agent.counters().drops[&Drop::IcmpError];
                assert_eq!(after, before.unwrap_or(0) + 1);
            }
        }
    }
}
