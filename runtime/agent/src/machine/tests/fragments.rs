//! Fragments follow the first one of their datagram, whenever they come.

use proptest::prelude::*;

use super::frames::{PLAIN, Shape, cut, framed, ip_packet, joined};
use super::site::*;
use super::*;
use crate::counters::Drop;
use crate::flow::events;
use crate::testing::World;

fn dropped(w: &World, why: Drop) -> u64 {
    w.agent.counters().drops.get(&why).copied().unwrap_or(0)
}

/// Takes what has left; all of it by that port.
#[track_caller]
fn left_by(w: &mut World, port: u16) -> Vec<Bytes> {
    let left = std::mem::take(&mut w.left);
    assert!(left.iter().all(|(p, _)| *p == port), "{left:?}");
    left.into_iter().map(|(_, frame)| frame).collect()
}

fn send(w: &mut World, port: u16, pieces: &[Vec<u8>]) {
    for piece in pieces {
        w.receive(port, &framed(port, piece));
    }
}

/// A UDP datagram of `length` bytes from an inside host, in fragments.
fn datagram(sport: u16, dport: u16, length: usize, size: usize) -> Vec<Vec<u8>> {
    let a = addresses(false);
    let sent = flow(17, (a.inside, sport), (a.remote, dport));
    let whole = ip_packet(&sent, &PLAIN, &vec![7; length]);
    cut(&whole, u32::from(sport), &vec![size; 100])
}

/// A site where that datagram's flow is translated.
fn translating(sport: u16, dport: u16) -> World {
    let a = addresses(false);
    let mut w = site();
    translate(
        &mut w,
        NAT,
        flow(17, (a.inside, sport), (a.remote, dport)),
        flow(17, (a.translated, 40_000), (a.remote, dport)),
    );
    w
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    // A10.7, A10.8, A2.7, A1.2
    #[test]
    fn a_datagram_in_fragments_is_translated_as_if_it_had_come_in_one_piece_and_counted(
        v6 in any::<bool>(),
        proto in prop::sample::select(vec![1u8, 6, 17]),
        ports in (1u16.., 1u16.., 1u16..),
        (options, no_checksum) in (0u8..=10, any::<bool>()),
        payload in prop::collection::vec(any::<u8>(), 60..900),
        sizes in prop::collection::vec(4usize..20, 1..40),
        identification in any::<u32>(),
        shuffle in any::<u64>(),
        back in any::<bool>(),
    ) {
        let a = addresses(v6);
        let (sport, dport, other) = ports;
        // ICMP crosses one translation, the others two.
        let (sent, left_as) = if proto == 1 {
            (flow(1, (a.inside, sport), (a.remote, 0)), flow(1, (a.translated, other), (a.remote, 0)))
        } else {
            (
                flow(proto, (a.inside, sport), (a.service, dport)),
                flow(proto, (a.translated, other), (a.server, sport)),
            )
        };
        let mut w = site();
        let met = if proto == 1 {
            vec![translate(&mut w, NAT, sent, left_as)]
        } else {
            let between = flow(proto, (a.translated, other), (a.service, dport));
            vec![translate(&mut w, NAT, sent, between), translate(&mut w, BALANCED, between, left_as)]
        };
        let (from, to, came, expected, part) = if back {
            let from = if proto == 1 { OUTSIDE } else { SERVERS };
            (from, INSIDE, left_as.reversed(), sent.reversed(), Part::Reply)
        } else {
            let to = if proto == 1 { OUTSIDE } else { SERVERS };
            (INSIDE, to, sent, left_as, Part::Forward)
        };
        let shape = Shape {
            options: if v6 { 0 } else { options },
            identification: identification as u16,
            no_checksum: no_checksum && !v6,
            ..PLAIN
        };
        let mut sizes: Vec<usize> = sizes.iter().map(|s| s * 8).collect();
        sizes[0] = sizes[0].min(56);
        let mut pieces = cut(&ip_packet(&came, &shape, &payload), identification, &sizes);
        let mut random = shuffle;
        if shuffle % 3 > 0 {
            pieces.sort_by_cached_key(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                random >> 33
            });
        }
        send(&mut w, from, &pieces);
        let left = left_by(&mut w, to);
        prop_assert_eq!(left.len(), pieces.len());
        prop_assert_eq!(joined(&left), ip_packet(&expected, &shape, &payload));
        let bytes: usize = pieces.iter().map(|p| 14 + p.len()).sum();
        for at in met {
            let totals = Totals { packets: pieces.len() as u64, bytes: bytes as u64 };
            prop_assert_eq!(counted(&w, at, part), totals);
            prop_assert_eq!(counted(&w, at, part.other()), Totals::default());
        }
        prop_assert_eq!(w.agent.counters().datagrams.now, 0, "nothing is kept of a complete one");
        prop_assert_eq!(w.agent.counters().fragments, pieces.len() as u64);
    }
}

// A10.7
#[test]
fn later_fragments_wait_for_the_first_and_follow_it_in_the_order_of_arrival() {
    let mut w = translating(1000, 53);
    let pieces = datagram(1000, 53, 400, 104);
    send(&mut w, INSIDE, &pieces[2..]);
    assert!(w.left.is_empty());
    send(&mut w, INSIDE, &pieces[..1]);
    let left = left_by(&mut w, OUTSIDE);
    let offsets: Vec<u8> = left.iter().map(|f| f[21]).collect();
    assert_eq!(offsets, [0, 26, 39], "the first, then those that were held");
    send(&mut w, INSIDE, &pieces[1..2]);
    assert_eq!(left_by(&mut w, OUTSIDE).len(), 1);
}

/// A balanced TCP connection's first segment, in fragments, and the flow.
fn opening(port: u16) -> (Tuple, Vec<Vec<u8>>) {
    let flow = client(9, port);
    let shape = Shape {
        tcp_flags: flags::SYN,
        ..PLAIN
    };
    let whole = ip_packet(&flow, &shape, &[5; 200]);
    (flow, cut(&whole, u32::from(port), &[64, 64, 64]))
}

// A10.7
#[test]
fn a_first_fragment_of_a_new_flow_is_decided_like_its_first_packet_and_the_rest_follows() {
    let mut w = served();
    let (flow, pieces) = opening(1000);
    send(&mut w, 1, &pieces[1..2]);
    assert!(interests(&mut w).is_empty());
    send(&mut w, 1, &pieces[..1]);
    send(&mut w, 1, &pieces[2..3]);
    let asked = interests(&mut w);
    assert_eq!(asked.len(), 1, "asked once");
    assert_eq!((asked[0].flow, asked[0].kind), (flow, PacketKind::Whole));
    assert_eq!(asked[0].events & events::SYN, events::SYN);
    assert_eq!(asked[0].events & events::FRAGMENT, events::FRAGMENT);
    verdict(
        &mut w,
        asked[0].request,
        Decision::Resume,
        balanced(flow, 1, SERVER),
    );
    send(&mut w, 1, &pieces[3..]);
    let left = left_by(&mut w, 2);
    assert_eq!(left.len(), pieces.len());
    let shape = Shape {
        tcp_flags: flags::SYN,
        identification: 1000,
        ..PLAIN
    };
    assert_eq!(
        joined(&left),
        ip_packet(&to_server(flow), &shape, &[5; 200])
    );
    let flows = w.agent.flows();
    assert_eq!(flows.len(), 1);
    let key = crate::flow::FlowKey {
        service: 0,
        part: Part::Forward,
        tuple: flow,
        kind: PacketKind::Whole,
    };
    let at = w.agent.store.find(&key).unwrap();
    assert_eq!(
        counted(&w, at, Part::Forward).packets,
        pieces.len() as u64,
        "A1.2"
    );
    let held = w.agent.counters().held;
    assert_eq!((held.now, held.most), (0, 1));
}

// A10.7, A10.5
#[test]
fn a_datagram_whose_flow_nobody_decides_takes_the_floor_with_all_of_its_fragments() {
    for fallback in [
        signalbox_lower::plan::Fallback::Drop,
        signalbox_lower::plan::Fallback::Route,
    ] {
        let mut p = plan();
        p.services[0].fallback = fallback;
        let mut w = served_with(p.clone());
        if fallback == signalbox_lower::plan::Fallback::Route {
            let mut pass = criteria(&p, 2);
            for c in &mut pass.list {
                c.action = StaticAction::Pass;
            }
            say(&mut w, LB, 1, ManagerBody::Criteria(pass));
        }
        let (_, pieces) = opening(1000);
        send(&mut w, 1, &pieces[..2]);
        w.advance(199 * MS);
        assert_eq!((w.left.len(), dropped(&w, Drop::Floor)), (0, 0));
        w.advance(2 * MS);
        send(&mut w, 1, &pieces[2..]);
        if fallback == signalbox_lower::plan::Fallback::Drop {
            assert_eq!(dropped(&w, Drop::Floor), pieces.len() as u64);
            assert_eq!(w.agent.counters().fragments, 0);
        } else {
            assert_eq!(w.agent.counters().fragments, pieces.len() as u64);
            assert_eq!(w.agent.counters().floor_passed, 1);
        }
        assert_eq!(w.agent.counters().datagrams.now, 0);
    }
}

// A10.7, A1.2
#[test]
fn a_datagram_whose_flow_a_late_answer_has_let_in_meets_the_entry_and_not_the_floor() {
    let mut p = plan();
    p.services[0].fallback = signalbox_lower::plan::Fallback::Route;
    let mut w = served_with(p.clone());
    let mut pass = criteria(&p, 2);
    for c in &mut pass.list {
        c.action = StaticAction::Pass;
    }
    say(&mut w, LB, 1, ManagerBody::Criteria(pass));
    let (flow, pieces) = opening(1000);
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    let first = interests(&mut w).remove(0);
    w.advance(201 * MS);
    assert_eq!(w.agent.counters().floor_passed, 1);
    send(&mut w, 1, &pieces);
    let answer = balanced(flow, 1, SERVER);
    verdict(&mut w, first.request, Decision::Resume, answer);
    w.advance(201 * MS);
    assert_eq!(left_by(&mut w, 2).len(), pieces.len());
    assert_eq!(w.agent.counters().floor_passed, 1, "the SYN alone");
    assert_eq!(w.agent.counters().datagrams.now, 0);
}

// A10.7
#[test]
fn a_verdict_that_drops_the_first_fragment_drops_them_all() {
    let mut w = served();
    let (_, pieces) = opening(1000);
    send(&mut w, 1, &pieces[..2]);
    let asked = interests(&mut w);
    verdict(&mut w, asked[0].request, Decision::Drop, Vec::new());
    send(&mut w, 1, &pieces[2..]);
    assert_eq!(dropped(&w, Drop::Verdict), pieces.len() as u64);
    assert!(w.left.is_empty());
}

// A10.7
#[test]
fn what_a_filter_drops_it_drops_in_fragments_too() {
    for first in [0, 2] {
        let mut w = translating(1000, 666);
        let mut pieces = datagram(1000, 666, 400, 104);
        pieces.rotate_left(first);
        send(&mut w, INSIDE, &pieces);
        assert!(w.left.is_empty());
        assert_eq!(dropped(&w, Drop::Service), pieces.len() as u64);
    }
    // The same datagram to another port passes.
    let mut w = translating(1000, 667);
    send(&mut w, INSIDE, &datagram(1000, 667, 400, 104));
    assert_eq!(w.left.len(), 4);
}

#[test]
fn a_fragment_by_another_port_does_not_follow_a_verdict_that_was_not_its_own() {
    let mut w = translating(1000, 53);
    let pieces = datagram(1000, 53, 400, 104);
    send(&mut w, INSIDE, &pieces[..1]);
    send(&mut w, SERVERS, &pieces[1..2]);
    assert_eq!(w.left.len(), 1);
}

#[test]
fn fragments_that_nobody_inside_has_asked_for_do_not_come_in() {
    let a = addresses(false);
    let mut w = site();
    let inbound = flow(17, (a.remote, 53), (a.translated, 4000));
    let pieces = cut(&ip_packet(&inbound, &PLAIN, &[1; 300]), 9, &[104, 104]);
    send(&mut w, OUTSIDE, &pieces);
    assert!(w.left.is_empty());
    assert_eq!(dropped(&w, Drop::Service), 3);
}

// A10.7
#[test]
fn later_fragments_are_held_five_seconds_and_no_longer() {
    let mut w = translating(1000, 53);
    let pieces = datagram(1000, 53, 400, 104);
    send(&mut w, INSIDE, &pieces[1..]);
    w.advance(4999 * MS);
    assert_eq!(dropped(&w, Drop::FragmentTimeout), 0);
    w.advance(MS);
    assert_eq!(dropped(&w, Drop::FragmentTimeout), 3);
    assert_eq!(w.agent.counters().datagrams.now, 0);
    assert_eq!(w.agent.next_deadline(), None, "nothing is left to wait for");
    // The first one alone goes on, and asks for nothing more.
    send(&mut w, INSIDE, &pieces[..1]);
    assert_eq!(w.left.len(), 1);
    // A datagram that follows when others are long gone is not cut short by their timer.
    w.advance(3 * S);
    send(&mut w, INSIDE, &datagram(1001, 53, 400, 104)[1..2]);
    w.advance(3 * S);
    assert_eq!(w.agent.counters().datagrams.now, 1);
    assert_eq!(dropped(&w, Drop::FragmentTimeout), 3);
}

#[test]
fn overlapping_fragments_end_their_datagram_and_doubled_ones_only_themselves() {
    // RFC 5722: nothing of it goes on any more, whatever comes.
    let a = addresses(false);
    let sent = flow(17, (a.inside, 1000), (a.remote, 53));
    let whole = ip_packet(&sent, &PLAIN, &[7; 400]);
    let pieces = cut(&whole, 1000, &[104, 104, 104]);
    let shifted = cut(&whole, 1000, &[96, 104, 104]);
    for held in [false, true] {
        let mut w = translating(1000, 53);
        let first = if held { 2 } else { 0 };
        send(&mut w, INSIDE, &pieces[first..first + 1]);
        send(&mut w, INSIDE, &shifted[first.max(1)..first.max(1) + 1]);
        send(&mut w, INSIDE, &pieces[1..2]);
        assert_eq!(w.left.len(), usize::from(!held));
        assert_eq!(dropped(&w, Drop::FragmentOverlap), 2 + u64::from(held));
    }
    let mut w = translating(1000, 53);
    for piece in &pieces {
        send(&mut w, INSIDE, &pieces[..1]);
        send(&mut w, INSIDE, std::slice::from_ref(piece));
    }
    let left = left_by(&mut w, OUTSIDE);
    assert_eq!(left.len(), pieces.len());
    joined(&left);
    assert_eq!(dropped(&w, Drop::FragmentDuplicate), 4);
}

#[test]
fn fragments_beyond_the_end_of_their_datagram_contradict_it() {
    let a = addresses(false);
    let sent = flow(17, (a.inside, 1000), (a.remote, 53));
    let short = cut(&ip_packet(&sent, &PLAIN, &[7; 200]), 1000, &[104]);
    let long = cut(&ip_packet(&sent, &PLAIN, &[7; 400]), 1000, &[104, 104, 104]);
    for (one, other) in [(&short[1], &long[3]), (&long[3], &short[1])] {
        let mut w = translating(1000, 53);
        send(&mut w, INSIDE, &[one.clone(), other.clone()]);
        assert_eq!(dropped(&w, Drop::FragmentOverlap), 2);
    }
}

#[test]
fn a_first_fragment_too_short_for_its_transport_header_is_dropped_with_its_datagram() {
    // RFC 1858: flags in the second fragment would escape every rule.
    let a = addresses(false);
    for (proto, size, tiny) in [(6u8, 16, true), (6, 24, false), (17, 8, false)] {
        let mut w = site();
        let sent = flow(proto, (a.inside, 1000), (a.remote, 80));
        translate(
            &mut w,
            NAT,
            sent,
            flow(proto, (a.translated, 4), (a.remote, 80)),
        );
        let pieces = cut(&ip_packet(&sent, &PLAIN, &[7; 100]), 3, &[size]);
        send(&mut w, INSIDE, &pieces);
        assert_eq!(dropped(&w, Drop::FragmentTiny), if tiny { 2 } else { 0 });
        assert_eq!(w.left.len(), if tiny { 0 } else { 2 });
    }
}

#[test]
fn fragments_that_would_make_no_datagram_are_malformed() {
    let pieces = datagram(1000, 53, 400, 104);
    let mut w = translating(1000, 53);
    // Not in units of eight bytes, beyond 64 KiB, empty.
    let mut odd = pieces[0][..20 + 100].to_vec();
    odd[3] = 120;
    let mut beyond = pieces[3].clone();
    beyond[6..8].copy_from_slice(&0x1fff_u16.to_be_bytes());
    let mut empty = pieces[1][..20].to_vec();
    empty[2..4].copy_from_slice(&[0, 20]);
    send(&mut w, INSIDE, &[odd, beyond, empty]);
    assert_eq!(dropped(&w, Drop::Malformed), 3);
    assert_eq!(w.agent.counters().datagrams.most, 0);
}

// A10.7
#[test]
fn a_flood_of_orphans_is_bounded_in_number_and_a_datagram_in_order_still_passes() {
    let mut w = translating(1000, 53);
    for n in 0..5000 {
        send(&mut w, INSIDE, &datagram(2000 + n, 53, 40, 32)[1..]);
    }
    let c = w.agent.counters();
    assert_eq!((c.datagrams.now, c.datagrams.most), (256, 256));
    assert_eq!(c.datagrams_evicted, 5000 - 256);
    assert_eq!(dropped(&w, Drop::FragmentsFull), 5000 - 256);
    send(&mut w, INSIDE, &datagram(1000, 53, 400, 104));
    assert_eq!(w.left.len(), 4);
}

// A10.7
#[test]
fn what_is_held_is_bounded_in_bytes() {
    let mut w = site();
    let mut sent = 0;
    for n in 0..100 {
        let pieces = datagram(2000 + n, 53, 30_000, 1480);
        sent += pieces.len() - 1;
        send(&mut w, INSIDE, &pieces[1..]);
    }
    let held = w.agent.fragments.held_bytes();
    assert!(held <= 1 << 20 && held > 900_000, "{held}");
    let gone = dropped(&w, Drop::FragmentsFull);
    assert!(gone > 1000 && gone < sent as u64);
    w.advance(5 * S);
    assert_eq!(gone + dropped(&w, Drop::FragmentTimeout), sent as u64);
    assert_eq!(w.agent.fragments.held_bytes(), 0);
}

#[test]
fn a_datagram_of_very_many_small_pieces_is_given_up() {
    let mut w = translating(1000, 53);
    let pieces = datagram(1000, 53, 4000, 8);
    let pieces: Vec<_> = pieces.into_iter().take(100).collect();
    assert_eq!(pieces.len(), 100);
    let a = addresses(false);
    let sent = flow(17, (a.inside, 1000), (a.remote, 53));
    let many = cut(&ip_packet(&sent, &PLAIN, &[7; 4000]), 1000, &[8; 500]);
    send(&mut w, INSIDE, &many);
    assert_eq!(w.left.len(), 256);
    assert_eq!(dropped(&w, Drop::FragmentsFull), many.len() as u64 - 256);
}

#[test]
fn the_rest_of_a_big_ping_to_the_service_is_not_kept() {
    let a = addresses(false);
    let mut w = site();
    let ping = flow(1, (a.remote, 77), (a.service, 0));
    let pieces = cut(&ip_packet(&ping, &PLAIN, &[1; 300]), 9, &[104, 104]);
    send(&mut w, OUTSIDE, &pieces);
    assert!(w.left.is_empty());
    assert_eq!(dropped(&w, Drop::Fragment), 3);
    assert_eq!(w.agent.counters().datagrams.now, 0);
}

#[test]
fn who_sends_fragments_to_nowhere_learns_it_once() {
    let a = addresses(false);
    let mut w = site();
    let lost = flow(17, (a.remote, 1000), (ip("198.18.5.5"), 53));
    let whole = ip_packet(&lost, &PLAIN, &[1; 300]);
    let pieces = cut(&whole, 9, &[104, 104]);
    send(&mut w, OUTSIDE, &pieces);
    let left = left_by(&mut w, OUTSIDE);
    assert_eq!(left.len(), 1);
    let error = super::frames::sound_error(&left[0]);
    assert_eq!((error.kind, error.code, error.dst), (3, 0, a.remote));
    assert_eq!(error.quote, pieces[0]);
    assert_eq!(dropped(&w, Drop::NoRoute), 3);
}

#[test]
fn the_switchs_going_takes_what_is_held_with_it() {
    let mut w = translating(1000, 53);
    let pieces = datagram(1000, 53, 400, 104);
    send(&mut w, INSIDE, &pieces[1..]);
    w.feed(Input::SwitchDown {
        reason: "gone".into(),
    });
    assert_eq!(dropped(&w, Drop::NoSwitch), 3);
    assert_eq!(w.agent.counters().datagrams.now, 0);
}

// A1.2, A4.4
#[test]
fn a_first_fragment_with_a_fin_is_noticed_like_any_packet_with_one() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    w.take_left();
    for (from, tuple) in [(1, flow), (2, to_server(flow).reversed())] {
        let shape = Shape {
            tcp_flags: flags::FIN | flags::ACK,
            ..PLAIN
        };
        let pieces = cut(&ip_packet(&tuple, &shape, &[5; 100]), 7, &[64]);
        send(&mut w, from, &pieces);
    }
    assert_eq!(
        w.agent.flows()[0].state,
        crate::listing::FlowState::Closed,
        "both FINs were seen"
    );
}

// A1.2, A1.3
#[test]
fn a_counted_criterion_counts_the_fragments_of_its_flows_and_those_that_it_lets_go_on_itself() {
    let mut w = World::new(plan());
    w.feed(Input::SessionOpened(LB));
    say(&mut w, LB, 1, hello("lb-1", 1));
    let mut counted = criteria(&plan(), 1);
    counted.list[0].statistics = Statistics {
        count: true,
        every_ms: Some(1000),
        ..Statistics::default()
    };
    counted.list[0].interest.packet_events = events::SYN;
    say(&mut w, LB, 1, ManagerBody::Criteria(counted));
    let (flow, pieces) = opening(1000);
    send(&mut w, 1, &pieces);
    let asked = interests(&mut w);
    verdict(
        &mut w,
        asked[0].request,
        Decision::Resume,
        balanced(flow, 1, SERVER),
    );
    // Without a SYN nobody is asked: the criterion's own action drops it, and counts it.
    let other = ip_packet(&client(9, 2000), &PLAIN, &[5; 100]);
    let unasked = cut(&other, 8, &[64]);
    send(&mut w, 1, &unasked[1..]);
    send(&mut w, 1, &unasked[..1]);
    w.advance(S);
    let totals = w.said.iter().find_map(|(_, m)| match &m.body {
        AgentBody::CriterionReport(r) => Some(r.totals),
        _ => None,
    });
    let sent = pieces.iter().chain(&unasked);
    let bytes: usize = sent.clone().map(|p| 14 + p.len()).sum();
    assert_eq!(
        totals,
        Some(Totals {
            packets: sent.count() as u64,
            bytes: bytes as u64
        })
    );
}

// A10.7, A6.20
#[test]
fn fragments_of_a_dispatched_flow_go_to_its_server_by_its_tunnel() {
    use crate::entry::{FixedAction, Wrap};
    let a = addresses(false);
    let mut w = site();
    let next_hop = w.agent.take_next_hop(a.server).unwrap();
    w.switch.tunnels.insert(5, (Wrap::Gue, a.own[2], a.server));
    let sent = flow(17, (a.remote, 1000), (a.service, 53));
    let to = FixedAction::Dispatch {
        next_hop,
        tunnel: 5,
    };
    put(&mut w.agent, BALANCED, (sent, to), None);
    let pieces = cut(&ip_packet(&sent, &PLAIN, &[1; 300]), 9, &[104, 104]);
    send(&mut w, OUTSIDE, &pieces);
    let left = left_by(&mut w, SERVERS);
    assert_eq!(w.switch.wrapped, [5, 5, 5]);
    let shape = Shape {
        identification: 9,
        ..PLAIN
    };
    assert_eq!(joined(&left), ip_packet(&sent, &shape, &[1; 300]));
}
