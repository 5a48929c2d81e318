//! The switch comes and goes.

use super::*;
use crate::entry::Entry;
use crate::machine::WriteError;

#[test]
fn the_pipeline_is_opened_last_of_all() {
    let mut w = World::down(plan(), Target::switch());
    assert!(!w.agent.is_ready());
    w.switch_up();
    assert!(w.agent.is_ready());
    assert_eq!(w.switch.log.last().unwrap().entry, Entry::Ready);
}

// When a switch returns
// A1.7
#[test]
fn state_outlives_the_switchs_absence_and_totals_go_on() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    w.receive(1, &tcp(1, &flow, flags::ACK, b"abc"));
    w.feed(Input::Refresh);
    let reason = "the device closed the stream".to_owned();
    w.feed(Input::SwitchDown { reason });
    assert_eq!(w.lines.len(), 1, "one clear line");
    w.receive(1, &tcp(1, &client(9, 7), flags::SYN, b""));
    // It comes back empty.
    w.switch = crate::testing::FakeSwitch::new(plan().into());
    w.switch_up();
    assert!(w.agent.is_ready());
    assert_eq!(w.switch.fixed.len(), 2);
    assert_eq!(w.switch.criteria.len(), 4);
    w.take_left();
    w.receive(1, &tcp(1, &flow, flags::ACK, b"abc"));
    assert_eq!(w.take_left(), [(2, to_server(flow))]);
    w.feed(Input::Refresh);
    assert_eq!(w.agent.flows()[0].forward.packets, 3);
}

// When an agent returns
#[test]
fn a9_11_an_agent_that_starts_again_adopts_what_is_there_and_ends_what_is_overdue() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    let back = to_server(flow).reversed();
    w.receive(2, &tcp(2, &back, flags::SYN | flags::ACK, b""));
    let switch = w.switch.clone();

    let mut again = World::down(plan(), Target::switch());
    again.switch = switch;
    again.switch_up();
    assert_eq!(again.switch.fixed.len(), 2);
    assert_eq!(again.agent.flows()[0].flow, flow);
    assert_eq!(
        again.switch.next_hops, w.switch.next_hops,
        "neighbours are not asked for again before packets go on"
    );
    again.receive(1, &tcp(1, &flow, flags::ACK, b""));
    assert_eq!(again.take_left(), [(2, to_server(flow))]);
    again.hosts.clear();
    again.advance(10 * S);
    assert!(again.switch.next_hops.is_empty(), "but they are asked");
    again.advance(Duration::from_secs(460));
    assert!(again.switch.fixed.is_empty());
    assert_eq!(again.agent.counters().leases_expired, 1, "one flow");
}

#[test]
fn an_entry_without_its_partner_does_not_survive_a_restart() {
    let mut w = served();
    connect(&mut w, 1000);
    let mut again = World::down(plan(), Target::switch());
    again.switch = w.switch.clone();
    again.switch.fixed.retain(|k, _| k.part == Part::Forward);
    again.switch_up();
    assert!(again.switch.fixed.is_empty());
}

#[test]
fn a_decision_made_while_the_switch_went_away_goes_in_when_it_is_back() {
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
    w.feed(Input::SwitchDown {
        reason: "gone".into(),
    });
    w.slow = false;
    w.switch_up();
    assert_eq!(w.switch.fixed.len(), 2);
    assert_eq!(w.agent.counters().held.now, 0);
}

#[test]
fn a_flow_decided_while_the_switch_went_away_has_its_hard_lease_and_its_reports() {
    let mut w = served();
    w.slow = true;
    let flow = client(9, 1000);
    let mut list = balanced(flow, 1, SERVER);
    for a in &mut list {
        a.leases.hard_ms = Some(5000);
        a.statistics.every_ms = Some(1000);
    }
    let body = ManagerBody::Install {
        request: 1,
        affinities: list,
    };
    say(&mut w, LB, 1, body);
    let reason = "gone".to_owned();
    w.feed(Input::SwitchDown { reason });
    w.slow = false;
    w.switch_up();
    assert_eq!(w.switch.fixed.len(), 2);
    for _ in 0..6 {
        w.receive(2, &tcp(2, &to_server(flow).reversed(), flags::ACK, b"x"));
        w.advance(S);
    }
    assert!(reports(&w).len() >= 4);
    assert!(w.switch.fixed.is_empty());
    assert!(w.agent.flows().is_empty());
}

#[test]
fn a_switch_that_refuses_to_open_is_given_up_in_one_clear_line() {
    let mut w = World::down(plan(), Target::switch());
    w.switch.refuses = |u| {
        let why = || WriteError::Refused("no such action".into());
        (u.entry == Entry::Ready).then(why)
    };
    w.switch_up();
    assert!(!w.agent.is_ready());
    let why = "the switch refused the entry that opens the pipeline: no such action";
    assert_eq!(w.unusable.as_deref(), Some(why));
}

#[test]
fn a_refresh_is_answered_when_its_own_reads_are_done_and_when_they_never_will_be() {
    let mut w = served();
    w.feed(Input::Refresh);
    assert_eq!(w.refreshed, 1, "nothing to read");
    connect(&mut w, 1000);
    w.slow = true;
    // A write is under way all the time, as in a flood.
    w.receive(1, &tcp(1, &client(9, 2000), flags::SYN, b""));
    let asked = interests(&mut w);
    let affinities = balanced(client(9, 2000), 2, SERVER);
    verdict(&mut w, asked[0].request, Decision::Resume, affinities);
    w.feed(Input::Refresh);
    assert_eq!(w.refreshed, 2);
    w.slow_reads = true;
    w.feed(Input::Refresh);
    assert_eq!(w.refreshed, 2);
    let reason = "gone".to_owned();
    w.feed(Input::SwitchDown { reason });
    assert_eq!(w.refreshed, 3);
}
