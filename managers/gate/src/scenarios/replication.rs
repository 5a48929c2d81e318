//! A gate whose manager has a backup, and tells it of connections as it hands them over.

use signalbox_lower::plan::Replicate;
use signalbox_manager::LinkState;

use super::pair::*;
use super::*;

fn synced() -> Pair {
    Pair::calm(backed(Some(Replicate::Sync)))
}

/// A client's first data.
fn said(port: u16, cookie: u32) -> Segment {
    of(port, hello(cookie))
}

/// The clients whose data went to the server, in order of their ports.
fn heard_by_server(left: Vec<Segment>) -> Vec<u16> {
    let data = left.into_iter().filter(|s| s.payload == b"hello"[..]);
    let mut ports: Vec<u16> = data.map(|s| s.src.1).collect();
    ports.sort_unstable();
    ports
}

#[test]
fn a9_7_no_connection_is_the_switchs_before_the_backup_knows_it() {
    let mut pair = synced();
    let cookies = [4001, 4002].map(|port| (port, pair.called(0, port)));
    // Data of the first client are there before its server is, and wait for it.
    pair.send(0, &said(4001, cookies[0].1));
    pair.hung.insert(GATE_2);
    for (port, cookie) in cookies {
        let left = pair.send(0, &syn_ack(port));
        assert_eq!(left.len(), 1, "the gate's own acknowledgement: {left:?}");
        assert_eq!((left[0].flags, left[0].ack), (ACK, SERVER_ISN + 1));
        assert_eq!(pair.send(0, &said(port, cookie)), []);
    }
    assert_eq!(pair.count(GATE_1, "switched over"), 2);
    assert_eq!(pair.agents[0].switch.fixed.len(), 0);
    assert_eq!(pair.link_of(GATE_1).behind, 2);
    pair.hung.remove(&GATE_2);
    pair.settle();
    assert_eq!(heard_by_server(pair.left(0)), [4001, 4001, 4002]);
    assert_eq!(pair.agents[0].switch.fixed.len(), 4);
    assert_eq!(pair.status(GATE_2).flows, 2);
    let link = pair.link_of(GATE_1);
    assert_eq!((link.behind, link.counts.without), (0, 0));
    for (port, cookie) in cookies {
        assert!(pair.talks(0, port, cookie));
    }
}

/// gate-1 dies when so many messages have arrived since four servers have answered; its agents have lost what they
/// had. Returns whether it had said all by then.
fn die_after(messages: usize) -> bool {
    let mut pair = synced();
    let cookies = [4001, 4002, 4003, 4004].map(|port| (port, pair.called(0, port)));
    let (early, late) = cookies.split_at(2);
    for (port, cookie) in early {
        pair.send(0, &said(*port, *cookie));
    }
    for (port, _) in cookies {
        pair.come(0, &syn_ack(port));
    }
    for (port, cookie) in late {
        pair.come(0, &said(*port, *cookie));
    }
    pair.fuse = messages;
    pair.settle();
    let is_done = pair.fuse > 0;
    let went = heard_by_server(pair.left(0));
    pair.fuse = usize::MAX;
    pair.kill(GATE_1);
    for a in [0, 1] {
        pair.forget(a);
    }
    pair.pass_lease();
    for (port, cookie) in cookies {
        if went.contains(&port) {
            assert!(pair.talks(1, port, cookie), "{port}, {messages} messages");
        }
    }
    assert_eq!(pair.count(GATE_2, "strange segment"), 0, "{messages}");
    is_done && went.len() == cookies.len()
}

#[test]
fn a9_7_whenever_the_first_one_dies_its_backup_knows_every_connection_that_the_switch_got() {
    let mut messages = 0;
    while !die_after(messages) {
        messages += 1;
        assert!(messages < 200, "all is said at last");
    }
    assert!(messages > 12, "hand-overs, acknowledgements and verdicts");
}

#[test]
fn a9_7_without_sync_a_connection_is_handed_over_at_once() {
    let mut pair = Pair::calm(backed(Some(Replicate::Async)));
    pair.hung.insert(GATE_2);
    let cookie = pair.connected(0, 4001);
    assert!(pair.talks(0, 4001, cookie));
    assert_eq!(pair.link_of(GATE_1).behind, 1);
    assert_eq!(pair.status(GATE_2).flows, 0);
    pair.hung.remove(&GATE_2);
    pair.pass(30 * MS);
    assert_eq!(pair.link_of(GATE_1).behind, 0);
    assert_eq!(pair.status(GATE_2).flows, 1);
}

// A9.7
#[test]
fn a_gate_whose_backup_hangs_goes_on_without_it() {
    let mut pair = synced();
    let cookie = pair.called(0, 4001);
    pair.hung.insert(GATE_2);
    pair.send(0, &syn_ack(4001));
    pair.pass(900 * MS);
    assert_eq!(pair.agents[0].switch.fixed.len(), 0);
    pair.pass(200 * MS);
    assert!(pair.talks(0, 4001, cookie));
    assert_eq!(pair.link_of(GATE_1).counts.without, 1);
}

// A9.4, A9.6
#[test]
fn a3_13_connections_of_the_switch_outlive_the_first_one_and_its_backup_says_the_same_of_them() {
    for how in [None, Some(Replicate::Async), Some(Replicate::Sync)] {
        let mut pair = Pair::calm(backed(how));
        let cookie = pair.connected(0, 4001);
        pair.pass(SECOND);
        pair.kill(GATE_1);
        let asked = pair.asked;
        for _ in 0..15 {
            assert!(pair.talks(0, 4001, cookie));
            pair.pass(100 * MS);
        }
        assert_eq!((pair.asked, pair.standing(GATE_2)), (asked, (true, 1)));
        // It moves to the other agent in mid-stream: its packet is what the backup takes over with.
        assert!(pair.talks(1, 4001, cookie), "{how:?}");
        assert_eq!(pair.standing(GATE_2), (false, 2));
        assert_eq!(pair.count(GATE_2, "strange segment"), 0);
        assert_eq!(pair.status(GATE_2).flows, 1);
        assert!(pair.talks(0, 4001, cookie));
        let cookie = pair.connected(1, 4002);
        assert!(pair.talks(1, 4002, cookie));
    }
}

// A9.6
#[test]
fn a_servers_segment_at_another_agent_is_answered_as_the_first_one_did() {
    for how in [None, Some(Replicate::Async), Some(Replicate::Sync)] {
        let mut pair = Pair::calm(backed(how));
        let cookie = pair.connected(0, 4001);
        pair.pass(SECOND);
        pair.kill(GATE_1);
        pair.pass_lease();
        let left = pair.send(1, &of(4001, server(ACK, SERVER_ISN + 1, ISN + 1, b"")));
        assert_eq!(left.len(), 1, "{how:?}: {left:?}");
        let expected = ((CLIENT.0, 4001), cookie + 1, 1000 >> (7 - SCALE));
        assert_eq!((left[0].dst, left[0].seq, left[0].window), expected);
    }
}

// A9.2
#[test]
fn a3_13_what_the_first_one_had_in_hand_is_reset_when_its_backups_time_comes() {
    for (place, comes, of_client, of_server) in PLACES {
        let mut pair = Pair::calm(plan_for(place, backed(Some(Replicate::Sync))));
        let cookie = pair.send(0, &client(SYN, ISN, 0, b""))[0].seq;
        for segment in comes(cookie) {
            pair.come(0, &segment);
            if place != UNHEARD {
                pair.settle();
            }
        }
        pair.left(0);
        pair.kill(GATE_1);
        assert_eq!(pair.left(0), [], "{place}");
        pair.pass_lease();
        let expected = due(cookie, of_client, of_server);
        assert_eq!(resets(pair.left(0)), expected, "{place}");
        assert_eq!(pair.status(GATE_2).flows, 0);
        // It comes again.
        let left = pair.send(0, &client(SYN, ISN + 9, 0, b""));
        assert_eq!((left[0].dst, left[0].flags), (CLIENT, SYN | ACK));
        assert_eq!(pair.standing(GATE_2), (false, 2));
    }
}

#[test]
fn whoever_has_only_been_answered_begins_anew() {
    let mut pair = synced();
    let cookie = pair.send(0, &client(SYN, ISN, 0, b""))[0].seq;
    pair.kill(GATE_1);
    pair.pass_lease();
    assert_eq!(pair.left(0), []);
    pair.send(0, &client(ACK, ISN + 1, cookie + 1, b""));
    pair.pass(100 * MS);
    assert!(resets(pair.left(0)).contains(&(CLIENT, cookie + 1)));
}

// A9.8
#[test]
fn a9_7_the_first_one_that_is_back_learns_what_its_backup_has_handed_over() {
    let mut pair = synced();
    let first = pair.connected(0, 4001);
    pair.kill(GATE_1);
    pair.pass_lease();
    let second = pair.connected(0, 4002);
    // All agents forget.
    for a in [0, 1] {
        pair.forget(a);
    }
    pair.start(3, "gate-1");
    pair.link(3, GATE_2);
    pair.pass_lease();
    assert_eq!(pair.standing(3), (false, 3));
    assert_eq!(pair.standing(GATE_2), (true, 3));
    assert!(pair.talks(0, 4001, first));
    assert!(pair.talks(1, 4002, second));
    assert_eq!(pair.count(3, "strange segment"), 0);
    assert_eq!((pair.status(3).flows, pair.status(GATE_2).flows), (2, 2));
    assert_eq!(pair.link_of(3).state, LinkState::InSync);
}

/// A connection that stays with whoever decides, and has said something.
fn proxied(pair: &mut Pair, port: u16) -> u32 {
    let cookie = pair.called(0, port);
    pair.send(0, &of(port, small_syn_ack()));
    assert_eq!(heard_by_server(pair.send(0, &said(port, cookie))), [port]);
    cookie
}

// A9.8
#[test]
fn what_a_backup_has_in_hand_is_reset_once_the_first_one_is_back_and_an_end_speaks() {
    for speaks in [CLIENT, SERVER] {
        let mut pair = synced();
        pair.kill(GATE_1);
        pair.pass_lease();
        let handed = pair.connected(0, 4001);
        let cookie = proxied(&mut pair, 4002);
        pair.start(3, "gate-1");
        pair.link(3, GATE_2);
        pair.pass_lease();
        assert_eq!(pair.standing(3), (false, 3));
        pair.left(0);
        let segment = match speaks == CLIENT {
            true => client(ACK | PSH, ISN + 6, cookie + 1, b"more"),
            false => server(ACK | PSH, SERVER_ISN + 1, ISN + 6, b"hi"),
        };
        let mut left = pair.send(0, &of(4002, segment));
        if speaks == SERVER {
            let asked = left.iter().any(|s| s.dst.0 == CLIENT.0 && s.flags == ACK);
            assert!(
                asked,
                "what is out of place makes the client tell its numbers"
            );
            left.extend(pair.send(0, &of(4002, client(ACK, ISN + 6, cookie + 1, b""))));
        }
        pair.pass(100 * MS);
        left.extend(pair.left(0));
        let resets = resets(left);
        for reset in [(SERVER, ISN + 6), ((CLIENT.0, 4002), cookie + 1)] {
            assert!(resets.contains(&reset), "{speaks:?}: {resets:?}");
        }
        assert!(pair.talks(1, 4001, handed));
    }
}

#[test]
fn a_first_one_that_hung_does_not_take_its_backups_connection_for_one_of_its_own() {
    let mut pair = synced();
    proxied(&mut pair, 4001);
    pair.hung.insert(GATE_1);
    pair.pass_lease();
    assert_eq!(resets(pair.left(0)).len(), 2, "its lease is over");
    let cookie = pair.connected(0, 4001);
    assert_eq!(pair.standing(GATE_2), (false, 2));
    pair.hung.remove(&GATE_1);
    pair.pass(SECOND);
    assert_eq!(pair.standing(GATE_1), (false, 3));
    pair.left(0);
    assert!(pair.talks(1, 4001, cookie));
    assert_eq!(pair.count(GATE_1, "proxied"), 0);
}

#[test]
fn connections_that_a_backup_was_told_of_count_where_a_policy_limits_them() {
    let mut plan = backed(Some(Replicate::Sync));
    plan.services[0].gate.as_mut().unwrap().bounds.connections = Some(2);
    let mut pair = Pair::calm(plan);
    let cookie = pair.connected(0, 4001);
    pair.connected(1, 4002);
    pair.kill(GATE_1);
    pair.pass_lease();
    let syn = of(4003, client(SYN, ISN, 0, b""));
    assert_eq!(pair.send(0, &syn), []);
    assert_eq!(pair.count(GATE_2, "too many connections"), 1);
    pair.send(0, &of(4001, client(RST, ISN + 1, cookie + 1, b"")));
    pair.pass(Duration::from_millis(pair.plan.services[0].limits.closed_ms) + SECOND);
    assert_eq!(pair.send(0, &syn)[0].flags, SYN | ACK);
    assert_eq!(pair.count(GATE_2, "too many connections"), 1);
}

// A3.11
#[test]
fn a_switch_without_room_leaves_a_connection_to_the_manager_also_after_the_backups_word() {
    for (waits, slow) in [(0, false), (0, true), (600, false), (1_100, false)] {
        let mut pair = synced();
        pair.agents[0].switch.refuses = |update| {
            matches!(update.entry, signalbox_agent::entry::Entry::Fixed(_))
                .then_some(WriteError::Full)
        };
        let cookie = pair.called(0, 4001);
        pair.hung.insert(GATE_2);
        pair.agents[0].slow = slow;
        pair.send(0, &syn_ack(4001));
        pair.send(0, &said(4001, cookie));
        pair.pass(waits * MS);
        pair.hung.remove(&GATE_2);
        pair.settle();
        pair.agents[0].release();
        pair.settle();
        pair.left(0);
        let about = format!("{waits} ms, a slow switch: {slow}");
        assert_eq!(pair.count(GATE_1, "proxied"), 1, "{about}");
        assert_eq!(heard_by_server(pair.send(0, &said(4001, cookie))), [4001]);
        assert_eq!(pair.status(GATE_2).flows, 0, "{about}");
    }
}
