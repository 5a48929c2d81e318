//! Nothing outlives its lease, and what is alive does not end.

use super::*;

// When a manager vanishes
// A9.4, A9.10
#[test]
fn criteria_end_with_their_lease_and_fixed_affinities_live_on() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    w.take_left();
    w.advance(2 * S);
    beat(&mut w, 1);
    w.advance(2 * S);
    assert_eq!(w.switch.criteria.len(), 4, "a heartbeat renews all of them");
    assert_eq!(w.agent.counters().leases_expired, 0);
    w.advance(2 * S);
    assert!(w.switch.criteria.is_empty());
    assert_eq!(w.agent.counters().leases_expired, 4);
    w.receive(1, &tcp(1, &flow, flags::ACK, b""));
    assert_eq!(w.take_left().len(), 1);
    w.receive(1, &tcp(1, &client(9, 2000), flags::SYN, b""));
    assert_eq!(w.dropped, ["floor"], "A9.10: the floor stays");
}

#[test]
fn a_clock_that_goes_back_ends_nothing_and_after_one_that_leaps_managers_are_heard_again() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    w.take_left();
    w.advance(2 * S);
    beat(&mut w, 1);
    let now = w.now;
    w.now = Duration::from_millis(1);
    w.feed(Input::Tick);
    beat(&mut w, 1);
    w.receive(1, &tcp(1, &flow, flags::ACK, b""));
    assert_eq!(w.take_left().len(), 1);
    assert_eq!(w.switch.criteria.len(), 4);
    assert_eq!(w.agent.counters().leases_expired, 0);
    // Hours later at once: leases are over as if every second had been counted, and the floor stays.
    w.now = now + 5 * 3600 * S;
    w.feed(Input::Tick);
    assert!(w.switch.criteria.is_empty());
    w.receive(1, &tcp(1, &client(9, 2000), flags::SYN, b""));
    assert_eq!(w.dropped, ["floor"]);
    w.said.clear();
    beat(&mut w, 1);
    assert!(matches!(w.said[0].1.body, AgentBody::Resync { .. }));
    say(&mut w, LB, 1, ManagerBody::Criteria(criteria(&plan(), 2)));
    connect(&mut w, 3000);
    assert_eq!(w.take_left().len(), 1);
}

// When a manager returns
#[test]
fn a8_5_an_agent_without_criteria_asks_for_them_at_the_next_heartbeat() {
    let mut w = World::new(plan());
    w.feed(Input::SessionOpened(LB));
    say(&mut w, LB, 1, hello("lb-1", 1));
    w.said.clear();
    beat(&mut w, 4);
    assert!(matches!(
        w.said[0].1.body,
        AgentBody::Resync { have_version: 0 }
    ));
    say(&mut w, LB, 1, ManagerBody::Criteria(criteria(&plan(), 4)));
    w.said.clear();
    beat(&mut w, 4);
    assert!(matches!(w.said[0].1.body, AgentBody::HeartbeatAck(_)));
}

#[test]
fn a8_6_criteria_that_come_twice_or_late_change_nothing() {
    let mut w = served();
    let mut fewer = criteria(&plan(), 3);
    fewer.list.truncate(1);
    say(&mut w, LB, 1, ManagerBody::Criteria(fewer.clone()));
    let log = w.switch.log.len();
    say(&mut w, LB, 1, ManagerBody::Criteria(criteria(&plan(), 2)));
    say(&mut w, LB, 1, ManagerBody::Criteria(fewer));
    assert_eq!(w.switch.criteria.len(), 1);
    assert_eq!(w.switch.log.len(), log);
}

#[test]
fn a_flow_that_nobody_answers_ends_with_the_half_open_lease() {
    let mut w = served();
    connect(&mut w, 1000);
    assert_eq!(w.agent.counters().half_open.now, 1);
    w.advance(11 * S);
    assert!(w.agent.flows().is_empty());
    assert!(w.switch.fixed.is_empty());
    let c = w.agent.counters();
    assert_eq!((c.half_open.now, c.fixed.now, c.fixed.most), (0, 0, 2));
    let expired = |m: &AgentBody| matches!(m, AgentBody::Expired(e) if e.flow == 1000);
    assert!(w.said.iter().any(|(_, m)| expired(&m.body)));
}

#[test]
fn a_half_open_flow_is_not_kept_alive_by_the_one_who_asks() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    for _ in 0..11 {
        w.receive(1, &tcp(1, &flow, flags::SYN, b""));
        w.advance(S);
    }
    assert!(w.agent.flows().is_empty());
}

#[test]
fn a_flow_is_idle_only_when_both_directions_are() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    let back = to_server(flow).reversed();
    w.receive(2, &tcp(2, &back, flags::SYN | flags::ACK, b""));
    for _ in 0..20 {
        w.advance(20 * S);
        w.receive(2, &tcp(2, &back, flags::ACK, b"more"));
    }
    assert_eq!(w.agent.flows().len(), 1, "only replies kept it alive");
    w.advance(59 * S);
    assert_eq!(w.agent.flows().len(), 1, "the lease is not over");
    w.advance(32 * S);
    assert!(w.agent.flows().is_empty(), "one and a half leases are");
}

// A1.6
#[test]
fn a_closed_flow_ends_with_the_closed_lease() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    let back = to_server(flow).reversed();
    w.receive(2, &tcp(2, &back, flags::SYN | flags::ACK, b""));
    w.receive(1, &tcp(1, &flow, flags::FIN | flags::ACK, b""));
    assert_ne!(w.agent.flows()[0].state, crate::listing::FlowState::Closed);
    w.receive(2, &tcp(2, &back, flags::FIN | flags::ACK, b""));
    assert_eq!(w.agent.flows()[0].state, crate::listing::FlowState::Closed);
    assert_eq!(reports(&w).len(), 1, "A1.6");
    w.advance(6 * S);
    assert!(w.agent.flows().is_empty());
    assert!(interests(&mut w).is_empty(), "its own notices stay its own");
}

#[test]
fn a6_15_a_syn_on_a_closed_tuple_is_asked_afresh_and_one_on_a_live_tuple_is_not() {
    const FIN: u8 = flags::FIN | flags::ACK;
    const CLIENT: u16 = 1;
    const RACK: u16 = 2;
    for (closing, closes) in [
        (&[][..], false),
        (&[(CLIENT, FIN)], false),
        (&[(RACK, FIN)], false),
        (&[(CLIENT, FIN), (CLIENT, FIN)], false),
        (&[(CLIENT, FIN), (RACK, FIN)], true),
        (&[(RACK, FIN), (CLIENT, FIN)], true),
        (&[(CLIENT, flags::RST)], true),
        (&[(RACK, flags::RST | flags::ACK)], true),
    ] {
        let mut w = served();
        let flow = connect(&mut w, 1000);
        let back = to_server(flow).reversed();
        w.receive(RACK, &tcp(RACK, &back, flags::SYN | flags::ACK, b""));
        for (port, flags) in closing {
            let tuple = if *port == CLIENT { flow } else { back };
            w.receive(*port, &tcp(*port, &tuple, *flags, b""));
        }
        w.take_left();
        w.receive(CLIENT, &tcp(CLIENT, &flow, flags::SYN, b""));
        let asked = interests(&mut w);
        assert_eq!(asked.len(), usize::from(closes), "{closing:?}");
        let Some(asked) = asked.first() else {
            assert_eq!(w.take_left(), [(2, to_server(flow))], "the old decision");
            continue;
        };
        let other = ([10, 0, 2, 10], 8080);
        let affinities = balanced(flow, 2, other);
        verdict(&mut w, asked.request, Decision::Resume, affinities);
        assert_eq!(w.take_left()[0].1.dst, IpAddr::from(other.0));
        w.advance(S);
        assert_eq!(w.agent.flows().len(), 1);
        assert_eq!(w.switch.fixed.len(), 2);
    }
}

// A1.5
#[test]
fn a_hard_lease_ends_a_busy_flow() {
    let mut w = served();
    let flow = client(9, 1000);
    let mut list = balanced(flow, 1, SERVER);
    for a in &mut list {
        a.leases.hard_ms = Some(3000);
    }
    say(
        &mut w,
        LB,
        1,
        ManagerBody::Install {
            request: 1,
            affinities: list,
        },
    );
    for _ in 0..4 {
        w.receive(1, &tcp(1, &flow, flags::ACK, b"x"));
        w.advance(S);
    }
    assert!(w.agent.flows().is_empty());
    assert_eq!(reports(&w).last().unwrap().cause, ReportCause::HardLease);
}

#[test]
fn an_idle_notice_is_only_a_wake_up() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    let back = to_server(flow).reversed();
    w.receive(2, &tcp(2, &back, flags::SYN | flags::ACK, b""));
    w.advance(40 * S);
    w.receive(1, &tcp(1, &flow, flags::ACK, b"x"));
    let keys: Vec<_> = w.switch.fixed.keys().copied().collect();
    for _ in 0..10 {
        w.feed(Input::IdleNotice(keys.clone()));
    }
    assert_eq!(w.agent.flows().len(), 1);
}
