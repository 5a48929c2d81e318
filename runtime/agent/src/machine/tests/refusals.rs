//! What the switch refuses, and what it cannot tell.

use super::*;
use crate::counters::Drop;
use crate::entry::{Change, Entry, Update};
use crate::machine::WriteError;

const REFUSED: WriteError = WriteError::Full;

fn no_deletion(u: &Update) -> Option<WriteError> {
    (u.change == Change::Delete && matches!(u.entry, Entry::Fixed(_))).then_some(REFUSED)
}

/// Installs a flow unasked, as request 7, and says what was denied.
fn install(w: &mut World, port: u16) -> Vec<(Subject, Reason)> {
    w.said.clear();
    let affinities = balanced(client(9, port), u64::from(port), SERVER);
    let request = 7;
    let body = ManagerBody::Install {
        request,
        affinities,
    };
    say(w, LB, 1, body);
    denials(w)
}

fn delete_all(w: &mut World) {
    say(
        w,
        LB,
        1,
        ManagerBody::Delete {
            request: 5,
            which: Which::All,
        },
    );
}

#[test]
fn an_entry_that_the_switch_would_not_delete_is_tried_again_and_keeps_its_slot_meanwhile() {
    let mut p = plan();
    p.services[0].forward.fixed_size = 1;
    let mut w = served_with(p);
    let flow = connect(&mut w, 1000);
    w.switch.refuses = no_deletion;
    delete_all(&mut w);
    assert_eq!(w.lines.len(), 1, "one line, not one an attempt");
    w.advance(5 * S);
    assert_eq!((w.switch.fixed.len(), w.lines.len()), (2, 1));
    let ended = |m: &AgentBody| matches!(m, AgentBody::Deleted(_));
    assert!(!w.said.iter().any(|(_, m)| ended(&m.body)));
    assert_eq!(
        install(&mut w, 2000),
        [(Subject::Install(7), Reason::TableFull)]
    );
    w.receive(1, &tcp(1, &flow, flags::ACK, b"abc"));

    w.switch.refuses = |_| None;
    w.advance(60 * S);
    assert!(w.switch.fixed.is_empty());
    assert!(w.said.iter().any(|(_, m)| ended(&m.body)));
    assert_eq!(
        reports(&w).last().unwrap().forward.unwrap().totals.packets,
        2
    );
}

#[test]
fn a_deletion_that_is_late_leaves_the_successor_on_the_same_tuple_alone() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    w.switch.refuses = no_deletion;
    delete_all(&mut w);
    say(
        &mut w,
        LB,
        1,
        ManagerBody::Install {
            request: 6,
            affinities: balanced(flow, 2, SERVER),
        },
    );
    w.switch.refuses = |_| None;
    w.advance(5 * S);
    assert_eq!(w.switch.fixed.len(), 2);
    assert_eq!(w.agent.flows().len(), 1);
}

#[test]
fn a_slot_whose_last_count_could_not_be_read_is_not_given_out_with_a_stale_base() {
    let mut p = plan();
    p.services[0].forward.fixed_size = 1;
    let mut w = served_with(p.clone());
    let flow = connect(&mut w, 1000);
    w.receive(1, &tcp(1, &flow, flags::ACK, b"abc"));
    w.unreadable = true;
    delete_all(&mut w);
    w.advance(2 * S);
    w.unreadable = false;
    w.advance(2 * S);
    assert_eq!(install(&mut w, 2000), []);
    w.receive(1, &tcp(1, &client(9, 2000), flags::SYN, b""));
    w.feed(Input::Refresh);
    assert_eq!(w.agent.flows()[0].forward.packets, 1);

    // It never comes back: the flow ends, the slot waits until the switch is read anew.
    w.unreadable = true;
    delete_all(&mut w);
    w.advance(20 * S);
    assert!(w.agent.flows().is_empty());
    w.unreadable = false;
    assert_eq!(
        install(&mut w, 3000),
        [(Subject::Install(7), Reason::TableFull)]
    );
    let reason = "restart".to_owned();
    w.feed(Input::SwitchDown { reason });
    w.switch_up();
    assert_eq!(install(&mut w, 3000), []);
    w.feed(Input::Refresh);
    assert_eq!(w.agent.flows()[0].forward.packets, 0);
}

// A1.2
#[test]
fn free_slots_count_from_nothing_after_the_switch_has_started_afresh() {
    let mut p = plan();
    p.services[0].forward.fixed_size = 2;
    let mut w = served_with(p.clone());
    connect(&mut w, 1000);
    let flow = connect(&mut w, 2000);
    w.receive(1, &tcp(1, &flow, flags::ACK, b"abc"));
    let which = Which::Flow(2000);
    say(&mut w, LB, 1, ManagerBody::Delete { request: 5, which });
    w.advance(S);
    let reason = "restart".to_owned();
    w.feed(Input::SwitchDown { reason });
    w.switch = crate::testing::FakeSwitch::new(p.into());
    w.switch_up();
    connect(&mut w, 3000);
    w.feed(Input::Refresh);
    let flows = w.agent.flows();
    let new = flows.iter().find(|f| f.flow.sport == 3000).unwrap();
    assert_eq!(new.forward.packets, 1);
}

#[test]
fn a_flow_whose_counters_cannot_be_read_is_not_taken_for_idle() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    let back = to_server(flow).reversed();
    w.receive(2, &tcp(2, &back, flags::SYN | flags::ACK, b""));
    w.advance(20 * S);
    w.unreadable = true;
    w.advance(300 * S);
    assert_eq!(w.agent.flows().len(), 1);
    w.unreadable = false;
    w.advance(100 * S);
    assert!(w.agent.flows().is_empty());
}

// When a switch refuses an entry
#[test]
fn a_flow_of_which_the_switch_refuses_an_entry_is_not_set_up_and_its_packet_takes_the_floor() {
    let mut w = served();
    w.switch.refuses = |u| {
        let forward = matches!(&u.entry, Entry::Fixed(e) if e.key.part == Part::Forward);
        forward.then(|| WriteError::Refused("no such action".into()))
    };
    w.receive(1, &tcp(1, &client(9, 1000), flags::SYN, b""));
    let request = interests(&mut w)[0].request;
    let affinities = balanced(client(9, 1000), 1, SERVER);
    verdict(&mut w, request, Decision::Resume, affinities);
    w.advance(S);
    let told = (Subject::Verdict(request), Reason::TargetRefused);
    assert_eq!(denials(&w), [told]);
    assert!(w.switch.fixed.is_empty() && w.left.is_empty());
    let c = w.agent.counters();
    assert_eq!(c.denials[&Reason::TargetRefused], 1);
    assert_eq!((c.refused_updates, c.drops[&Drop::Floor]), (1, 1));
}

#[test]
fn a_refused_forward_entry_takes_the_reply_entry_along_and_nothing_leaks() {
    let mut w = served();
    w.switch.refuses = |u| {
        let forward = matches!(&u.entry, Entry::Fixed(e) if e.key.part == Part::Forward);
        forward.then_some(REFUSED)
    };
    assert_eq!(
        install(&mut w, 1000),
        [(Subject::Install(7), Reason::TableFull)]
    );
    w.advance(S);
    assert!(w.switch.fixed.is_empty());
    assert_eq!(w.agent.counters().fixed.now, 0);
    assert_eq!(w.said.len(), 1, "the denial is all that is said");
}

#[test]
fn a_request_of_two_flows_of_which_the_switch_refuses_one_has_no_effect() {
    let mut w = served();
    w.switch.fixed_size = 2;
    let mut affinities = balanced(client(9, 1000), 1, SERVER);
    affinities.extend(balanced(client(9, 2000), 2, SERVER));
    let request = 7;
    say(
        &mut w,
        LB,
        1,
        ManagerBody::Install {
            request,
            affinities,
        },
    );
    w.advance(S);
    assert!(w.switch.fixed.is_empty());
    assert!(w.agent.flows().is_empty());
    assert_eq!(
        denials(&w).first(),
        Some(&(Subject::Install(7), Reason::TableFull))
    );
}

/// The plan's criteria with something else instead of the first server's.
fn without_the_first_server(version: u64) -> Criteria {
    let mut c = criteria(&plan(), version);
    c.list.remove(1);
    c.list[0].interest.packet_events = flags::SYN.into();
    c.list[1].priority += 1;
    c
}

#[test]
fn criteria_of_which_the_switch_refuses_one_leave_the_old_version_in_force() {
    let mut w = served();
    let before = w.switch.criteria.clone();
    w.switch.refuses = |u| {
        let raised = matches!(&u.entry, Entry::Criterion(c) if c.priority == 1001);
        (raised && u.change == Change::Insert).then_some(REFUSED)
    };
    let new = without_the_first_server(2);
    say(&mut w, LB, 1, ManagerBody::Criteria(new.clone()));
    assert_eq!(denials(&w), [(Subject::Criteria(2), Reason::TableFull)]);
    let in_order = |w: &World| {
        let mut list = w.switch.criteria.clone();
        list.sort_by_key(|c| (c.part, c.entry, format!("{:?}", c.cube)));
        list
    };
    assert_eq!(in_order(&w), {
        let mut list = before;
        list.sort_by_key(|c| (c.part, c.entry, format!("{:?}", c.cube)));
        list
    });
    assert_eq!(w.agent.counters().criteria.now, 4);

    w.said.clear();
    beat(&mut w, 2);
    let in_force = Heartbeat {
        sequence: 1,
        criteria_version: 1,
    };
    assert_eq!(w.said[0].1.body, AgentBody::HeartbeatAck(in_force));
    w.advance(S);
    beat(&mut w, 2);
    let resync = |m: &AgentBody| matches!(m, AgentBody::Resync { have_version: 1 });
    assert!(w.said.iter().any(|(_, m)| resync(&m.body)), "tried again");
    w.switch.refuses = |_| None;
    say(&mut w, LB, 1, ManagerBody::Criteria(new));
    assert_eq!(w.switch.criteria.len(), 3);
    assert!(w.switch.criteria.iter().any(|c| c.priority == 1001));
}

/// A second passes; the manager beats, and sends its criteria if it is asked for them.
fn beats_for(w: &mut World, seconds: u32, wanted: &Criteria) -> u32 {
    let mut asked = 0;
    for _ in 0..seconds {
        w.advance(S);
        let before = w.said.len();
        beat(w, wanted.version);
        let resync = |m: &AgentBody| matches!(m, AgentBody::Resync { .. });
        if w.said[before..].iter().any(|(_, m)| resync(&m.body)) {
            asked += 1;
            say(w, LB, 1, ManagerBody::Criteria(wanted.clone()));
        }
    }
    asked
}

// A2.2
#[test]
fn criteria_that_cannot_go_in_are_denied_once_and_tried_again_with_a_growing_pause() {
    let mut uncovered = criteria(&plan(), 2);
    uncovered.list[0].cubes = vec![signalbox_lower::plan::Cube::default()];
    for (wanted, reason) in [
        (without_the_first_server(2), Reason::TableFull),
        (uncovered, Reason::NotCovered),
    ] {
        let mut w = served();
        w.switch.refuses = |u| {
            let raised = matches!(&u.entry, Entry::Criterion(c) if c.priority == 1001);
            (raised && u.change == Change::Insert).then_some(REFUSED)
        };
        say(&mut w, LB, 1, ManagerBody::Criteria(wanted.clone()));
        assert_eq!(
            beats_for(&mut w, 120, &wanted),
            6,
            "after 1, 3, 7, 15, 31 and 63 s"
        );
        assert_eq!(denials(&w), [(Subject::Criteria(2), reason)]);
        assert_eq!(w.agent.counters().denials[&reason], 1);
        assert_eq!(w.switch.criteria.len(), 4, "the former ones stay");
    }
}

#[test]
fn criteria_go_in_when_the_switch_has_room_again_or_is_another() {
    let wanted = without_the_first_server(2);
    for another in [false, true] {
        let mut w = served();
        w.switch.refuses = |u| {
            let raised = matches!(&u.entry, Entry::Criterion(c) if c.priority == 1001);
            (raised && u.change == Change::Insert).then_some(REFUSED)
        };
        say(&mut w, LB, 1, ManagerBody::Criteria(wanted.clone()));
        beats_for(&mut w, 20, &wanted);
        w.switch.refuses = |_| None;
        if another {
            w.feed(Input::SwitchDown {
                reason: "gone".into(),
            });
            w.switch_up();
            assert_eq!(beats_for(&mut w, 1, &wanted), 1, "asked for at once");
        } else {
            assert_eq!(beats_for(&mut w, 12, &wanted), 1, "31 s after the first");
        }
        assert!(w.switch.criteria.iter().any(|c| c.priority == 1001));
        assert_eq!(beats_for(&mut w, 9, &wanted), 0, "acknowledged");
    }
}

#[test]
fn a_manager_that_comes_back_is_told_again_what_was_refused() {
    let wanted = without_the_first_server(2);
    let mut w = served();
    w.switch.refuses = |u| {
        let raised = matches!(&u.entry, Entry::Criterion(c) if c.priority == 1001);
        (raised && u.change == Change::Insert).then_some(REFUSED)
    };
    say(&mut w, LB, 1, ManagerBody::Criteria(wanted.clone()));
    beats_for(&mut w, 4, &wanted);
    let tried = w.switch.log.len();
    w.said.clear();
    w.feed(Input::SessionOpened(9));
    say(&mut w, 9, 1, hello("lb-1", 1));
    for _ in 0..2 {
        say(&mut w, 9, 1, ManagerBody::Criteria(wanted.clone()));
    }
    assert_eq!(denials(&w), [(Subject::Criteria(2), Reason::TableFull)]);
    assert_eq!(w.switch.log.len(), tried, "and the switch is left alone");
}

#[test]
fn the_newest_of_the_versions_that_come_while_one_goes_in_is_the_one_in_force() {
    let mut w = served();
    w.slow = true;
    for version in [2, 4, 3] {
        let mut c = without_the_first_server(version);
        c.list.truncate(version as usize - 1);
        say(&mut w, LB, 1, ManagerBody::Criteria(c));
    }
    w.release();
    assert_eq!(w.switch.criteria.len(), 3);
    w.said.clear();
    beat(&mut w, 4);
    assert!(matches!(w.said[0].1.body, AgentBody::HeartbeatAck(_)));
}

#[test]
fn one_managers_lease_does_not_end_what_another_wants_too() {
    let p = backed(3_000);
    let mut w = served_with(p.clone());
    w.advance(2 * S);
    w.feed(Input::SessionOpened(2));
    say(&mut w, 2, 2, hello("lb-2", 2));
    say(&mut w, 2, 2, ManagerBody::Criteria(criteria(&p, 1)));
    assert_eq!(w.switch.criteria.len(), 4);
    w.advance(2 * S);
    assert_eq!(w.switch.criteria.len(), 4, "the first one's lease is over");
    w.receive(1, &tcp(1, &client(9, 1000), flags::SYN, b""));
    assert_eq!(interests(&mut w).len(), 1);
    let reason = "restart".to_owned();
    w.feed(Input::SwitchDown { reason });
    w.switch_up();
    assert_eq!(w.switch.criteria.len(), 4);
    w.advance(2 * S);
    assert!(w.switch.criteria.is_empty(), "nothing outlives its lease");
}
