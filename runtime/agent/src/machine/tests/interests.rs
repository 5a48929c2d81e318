//! Held packets and verdicts.

use super::*;
use crate::counters::Drop;
use crate::entry::{Change, Entry};
use crate::flow::events;
use crate::listing::FlowState;

// A4.8, A6.17
#[test]
fn a6_1_the_first_packet_meets_the_manager_and_later_ones_do_not() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    assert_eq!(w.take_left(), [(2, to_server(flow))]);
    let back = to_server(flow).reversed();
    w.receive(2, &tcp(2, &back, flags::SYN | flags::ACK, b""));
    w.receive(1, &tcp(1, &flow, flags::ACK, b"GET /"));
    assert_eq!(
        w.take_left(),
        [(1, flow.reversed()), (2, to_server(flow))],
        "A4.8: the reply has the addresses that the client knows"
    );
    assert!(interests(&mut w).is_empty());
}

#[test]
fn a10_6_the_manager_is_asked_once_and_held_packets_leave_in_the_order_of_arrival() {
    let mut w = served();
    let flow = client(9, 1000);
    for n in 0..5u8 {
        w.receive(1, &tcp(1, &flow, flags::SYN, &[n]));
    }
    let asked = interests(&mut w);
    assert_eq!(asked.len(), 1);
    assert_eq!(w.agent.counters().held.now, 5);
    verdict(
        &mut w,
        asked[0].request,
        Decision::Resume,
        balanced(flow, 1, SERVER),
    );
    let last_bytes: Vec<u8> = w.left.iter().map(|(_, f)| *f.last().unwrap()).collect();
    assert_eq!(last_bytes, [0, 1, 2, 3, 4]);
    let c = w.agent.counters();
    assert_eq!((c.held.now, c.held.most), (0, 5));
    assert_eq!((c.misses, c.interests, c.resumed), (5, 1, 5));
}

#[test]
fn the_reply_entry_goes_in_before_the_forward_one_and_packets_after_both() {
    let mut w = served();
    w.slow = true;
    let flow = client(9, 1000);
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    let asked = interests(&mut w);
    verdict(
        &mut w,
        asked[0].request,
        Decision::Resume,
        balanced(flow, 1, SERVER),
    );
    assert!(w.left.is_empty());
    w.release();
    let parts: Vec<Part> = (w.switch.log.iter())
        .filter_map(|u| match &u.entry {
            Entry::Fixed(e) if u.change == Change::Insert => Some(e.key.part),
            _ => None,
        })
        .collect();
    assert_eq!(parts, [Part::Reply, Part::Forward]);
    assert_eq!(w.take_left().len(), 1);
}

#[test]
fn a4_4_a_packet_is_handed_back_with_all_that_it_carried() {
    let mut w = served();
    let flow = client(9, 1000);
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    let asked = interests(&mut w);
    assert_eq!(asked[0].state.ingress_port, 1);
    assert_eq!(asked[0].state.entry, 1, "the manager's own number");
    assert_eq!(asked[0].stage, 1);
    assert_eq!(asked[0].events, events::ALL | events::SYN);

    let carried = crate::entry::PacketMeta {
        kind: crate::entry::packet_in::INTEREST,
        part: Part::Forward as u8,
        reply: false,
        answered: false,
        mark_set: true,
        mark: 46,
        stage: 1,
        port: 2,
        next_hop: 7,
        tunnel: 3,
        notices: 0b1000,
        entry: 99,
    };
    let other = client(9, 1001);
    let out = w.agent.handle(
        w.now,
        Input::PacketIn(crate::entry::Packet {
            meta: carried,
            bytes: tcp(1, &other, flags::SYN, b""),
        }),
    );
    let request = out
        .iter()
        .find_map(|o| match o {
            crate::Output::Message(_, m) => match &m.body {
                AgentBody::Interest(i) => Some(i.request),
                _ => None,
            },
            _ => None,
        })
        .unwrap();
    let body = ManagerBody::Verdict(Verdict {
        request,
        decision: Decision::Resume,
        affinities: Vec::new(),
    });
    let message = ToAgent {
        service: "web-lb".into(),
        share: 0,
        epoch: 1,
        body,
    };
    let out = w.agent.handle(w.now, Input::Message(LB, message));
    let resumed = out
        .iter()
        .find_map(|o| match o {
            crate::Output::PacketOut(p) => Some(p.meta),
            _ => None,
        })
        .unwrap();
    let expected = crate::entry::PacketMeta {
        kind: crate::entry::packet_out::RESUME,
        answered: true,
        ..carried
    };
    assert_eq!(resumed, expected);
}

// When a manager does not answer within 200 ms
// When a manager answers late
#[test]
fn a10_5_without_a_timely_answer_the_packet_takes_the_floor_and_a_late_verdict_sends_nothing() {
    let mut w = served();
    let flow = client(9, 1000);
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    let asked = interests(&mut w);
    w.advance(201 * MS);
    let c = w.agent.counters();
    assert_eq!((c.unanswered, c.drops[&Drop::Floor]), (1, 1));
    assert_eq!(c.interests_repeated, 1, "the question may have been lost");
    verdict(
        &mut w,
        asked[0].request,
        Decision::Resume,
        balanced(flow, 1, SERVER),
    );
    assert!(w.left.is_empty());
    assert_eq!(w.agent.counters().late_verdicts, 1);
    // The client tries again, and meets the entry.
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    assert_eq!(w.take_left(), [(2, to_server(flow))]);
}

// When a manager answers twice
#[test]
fn a_second_verdict_is_ignored() {
    let mut w = served();
    let flow = client(9, 1000);
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    let asked = interests(&mut w);
    for server in [SERVER, ([10, 0, 2, 10], 8080)] {
        verdict(
            &mut w,
            asked[0].request,
            Decision::Resume,
            balanced(flow, 1, server),
        );
    }
    assert_eq!(w.take_left(), [(2, to_server(flow))]);
    assert_eq!(w.agent.counters().repeated_verdicts, 1);
    assert_eq!(w.agent.flows().len(), 1);
    assert_eq!(w.agent.flows()[0].translated, Some(to_server(flow)));
}

// When too many packets wait for answers, or answers are late
#[test]
fn held_packets_are_bounded_a_service() {
    let mut w = served();
    for port in 0..100 {
        w.receive(1, &tcp(1, &client(9, 1000 + port), flags::SYN, b""));
    }
    let c = w.agent.counters();
    assert_eq!((c.held.now, c.drops[&Drop::HoldFull]), (64, 36));
    assert_eq!(c.drops.get(&Drop::Floor), None);
    assert_eq!(interests(&mut w).len(), 64);
    w.advance(S);
    let c = w.agent.counters();
    assert_eq!((c.held.now, c.drops[&Drop::Floor]), (0, 64));
}

#[test]
fn drop_consume_and_fallback_send_nothing_on() {
    let mut w = served();
    for (n, decision) in [Decision::Drop, Decision::Consume, Decision::Fallback]
        .into_iter()
        .enumerate()
    {
        let flow = client(9, 1000 + n as u16);
        w.receive(1, &tcp(1, &flow, flags::SYN, b""));
        let asked = interests(&mut w);
        verdict(&mut w, asked[0].request, decision, Vec::new());
    }
    assert!(w.left.is_empty());
    let c = w.agent.counters();
    for why in [Drop::Verdict, Drop::Consumed, Drop::Floor] {
        assert_eq!(c.drops[&why], 1);
    }
    assert_eq!(c.held.now, 0);
}

#[test]
fn without_a_manager_packets_take_the_floor_at_once() {
    let mut w = served();
    w.feed(Input::SessionClosed(LB));
    w.receive(1, &tcp(1, &client(9, 1000), flags::SYN, b""));
    assert_eq!(w.agent.counters().unanswered, 1);
    assert!(interests(&mut w).is_empty());
}

#[test]
fn a_packet_that_was_on_its_way_while_the_entry_went_in_is_sent_on_and_counted() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    w.take_left();
    let criterion = w.switch.criteria[0].entry;
    w.feed(Input::PacketIn(crate::entry::Packet {
        meta: crate::entry::PacketMeta {
            kind: crate::entry::packet_in::INTEREST,
            part: Part::Forward as u8,
            stage: 1,
            port: 1,
            entry: criterion,
            ..Default::default()
        },
        bytes: tcp(1, &flow, flags::ACK, b"x"),
    }));
    assert_eq!(w.take_left(), [(2, to_server(flow))]);
    assert_eq!(w.agent.counters().overtaken, 1);
}

// A6.15
#[test]
fn a_flow_that_its_servers_last_words_have_brought_back_is_opened_anew_by_its_client() {
    let mut w = served();
    let flow = client(9, 1000);
    let back = to_server(flow).reversed();
    let fin = flags::FIN | flags::ACK;
    w.receive(2, &tcp(2, &back, fin, b""));
    let asked = interests(&mut w);
    let list = balanced(flow, 1000, SERVER);
    verdict(&mut w, asked[0].request, Decision::Resume, list);
    w.receive(2, &tcp(2, &back, fin, b""));
    w.receive(1, &tcp(1, &flow, fin, b""));
    assert_eq!(w.agent.flows()[0].state, FlowState::Closed);
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    assert_eq!(interests(&mut w).len(), 1, "decided afresh");
}
