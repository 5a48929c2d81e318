//! More packets than a manager can answer, where each is a question of its own: what waits for the manager is
//! bounded, SYNs take a part of it only, and what is refused is counted.

use super::*;
use crate::counters::Drop;

/// What may wait for the manager, and what of that may be SYNs.
const ROOM: usize = 64;
const SYNS: usize = 8;

/// The manager says what it asks about: every packet is a question.
fn asks_of_every_packet(w: &mut World, session: SessionId) {
    let mut all = criteria(&plan(), 2);
    for one in &mut all.list {
        one.asking = Asking::EveryPacket;
    }
    say(w, session, 1, ManagerBody::Criteria(all));
    w.said.clear();
}

fn flooded() -> World {
    let mut w = served();
    asks_of_every_packet(&mut w, LB);
    w
}

/// So many packets of different flows; the questions that they lead to.
fn send(w: &mut World, flags: u8, count: u16) -> Vec<u64> {
    for port in 0..count {
        w.receive(1, &tcp(1, &client(9, 1000 + port), flags, b""));
    }
    interests(w).iter().map(|i| i.request).collect()
}

fn consume(w: &mut World, requests: &[u64]) {
    for request in requests {
        verdict(w, *request, Decision::Consume, Vec::new());
    }
}

fn hold_full(w: &World) -> u64 {
    let c = w.agent.counters();
    c.drops.get(&Drop::HoldFull).copied().unwrap_or(0)
}

#[test]
fn a_question_of_every_packet_is_never_put_again() {
    let mut w = flooded();
    assert_eq!(send(&mut w, flags::ACK, 1).len(), 1);
    for _ in 0..30 {
        beat(&mut w, 2);
        w.advance(S);
    }
    assert_eq!(interests(&mut w).len(), 0);
    let c = w.agent.counters();
    assert_eq!((c.interests_repeated, c.unanswered), (0, 1));
    assert_eq!(c.drops[&Drop::Floor], 1, "it took the floor in time");
}

#[test]
fn syns_take_a_part_of_the_room_and_the_rest_is_for_what_follows_them() {
    let mut w = flooded();
    let syns = send(&mut w, flags::SYN, 100);
    assert_eq!((syns.len(), hold_full(&w)), (SYNS, 100 - SYNS as u64));
    let back = to_server(client(9, 1)).reversed();
    let rest = ROOM - SYNS;
    let acks = send(&mut w, flags::ACK, rest as u16 - 1);
    w.receive(2, &tcp(2, &back, flags::SYN | flags::ACK, b""));
    assert_eq!((acks.len(), interests(&mut w).len()), (rest - 1, 1));
    assert_eq!(
        send(&mut w, flags::ACK, 1).len(),
        0,
        "all of the room is taken"
    );
    assert_eq!(hold_full(&w), 100 - SYNS as u64 + 1);
    // An answer makes room for another one of its kind.
    consume(&mut w, &syns[..1]);
    assert_eq!(send(&mut w, flags::SYN, 2).len(), 1);
}

#[test]
fn what_is_late_keeps_its_place_until_it_is_answered() {
    let mut w = flooded();
    let syns = send(&mut w, flags::SYN, 100);
    let acks = send(&mut w, flags::ACK, 100);
    w.advance(201 * MS);
    let c = w.agent.counters();
    assert_eq!((c.held.now, c.unanswered), (0, ROOM as u64));
    // However long the flood, the manager's queue does not grow.
    for _ in 0..9 {
        assert_eq!(send(&mut w, flags::SYN, 50).len(), 0);
        assert_eq!(send(&mut w, flags::ACK, 50).len(), 0);
        beat(&mut w, 2);
        w.advance(S);
    }
    consume(&mut w, &acks[..3]);
    assert_eq!(w.agent.counters().late_verdicts, 3);
    assert_eq!(
        send(&mut w, flags::SYN, 5).len(),
        0,
        "no SYN has been answered"
    );
    assert_eq!(send(&mut w, flags::ACK, 5).len(), 3);
    consume(&mut w, &syns);
    assert_eq!(send(&mut w, flags::SYN, 100).len(), SYNS);
}

#[test]
fn a_question_whose_answer_is_lost_keeps_its_place_for_ten_seconds() {
    let mut w = flooded();
    send(&mut w, flags::SYN, 100);
    send(&mut w, flags::ACK, 100);
    let mut seconds = 0;
    while send(&mut w, flags::SYN, 1).is_empty() {
        beat(&mut w, 2);
        w.advance(S);
        seconds += 1;
        assert!(seconds < 20);
    }
    assert_eq!(seconds, 11);
    assert_eq!(w.agent.in_use().questions, 1);
}

#[test]
fn a_manager_that_comes_anew_has_the_whole_room() {
    let mut w = flooded();
    // Some are late already, others will be.
    send(&mut w, flags::SYN, 100);
    send(&mut w, flags::ACK, 20);
    w.advance(201 * MS);
    send(&mut w, flags::ACK, 100);
    w.feed(Input::SessionClosed(LB));
    let anew = LB + 10;
    w.feed(Input::SessionOpened(anew));
    say(&mut w, anew, 1, hello("lb-1", 1));
    asks_of_every_packet(&mut w, anew);
    assert_eq!(send(&mut w, flags::SYN, 100).len(), SYNS);
    w.advance(201 * MS);
    let held = w.agent.counters().held.now;
    assert_eq!(held, 0);
    assert_eq!(send(&mut w, flags::ACK, 100).len(), ROOM - SYNS);
    assert_eq!(w.agent.in_use().questions, ROOM);
}

// When too many packets wait for answers, or answers are late
#[test]
fn late_questions_of_flows_count_too_where_the_manager_is_asked_once_a_flow() {
    let mut w = served();
    assert_eq!(send(&mut w, flags::SYN, 100).len(), ROOM);
    w.advance(201 * MS);
    interests(&mut w);
    for second in 0..9 {
        assert_eq!(send(&mut w, flags::SYN, 50).len(), 0, "{second}");
        pass(&mut w, 1);
    }
    pass(&mut w, 2);
    assert_eq!(send(&mut w, flags::SYN, 100).len(), ROOM);
}
