//! Leases, closed flows, and when a tuple is free again.

use super::*;

/// How long a flow lives that was answered or not, and is silent then; in seconds, to within `step`.
fn lives(flow: &Tuple, answered: bool, reset: bool, step: u64) -> u64 {
    let mut net = Net::new(&site(Inbound::Answers), 1);
    let out = net.pass(0, flow, flags::SYN).unwrap();
    if answered {
        net.pass(0, &out.reversed(), flags::SYN | flags::ACK)
            .unwrap();
    }
    if reset {
        assert_eq!(net.pass(0, flow, flags::RST), Some(out));
        assert_eq!(net.tuples(), (1, 0), "A2.19: it is not deleted");
        let back = net.pass(0, &out.reversed(), flags::ACK);
        assert_eq!(back, Some(flow.reversed()), "A2.19: and goes on");
    }
    let begin = net.now;
    while net.tuples().0 > 0 {
        net.advance(Duration::from_secs(step));
    }
    (net.now - begin).as_secs()
}

fn about(seconds: u64, lease: u64) {
    // An agent looks twice a lease.
    assert!(
        (lease..=lease + lease / 2 + 30).contains(&seconds),
        "{seconds} s for a lease of {lease} s"
    );
}

// A2.18
#[test]
fn udp_flows_live_for_5_minutes_and_icmp_for_60_seconds() {
    for answered in [false, true] {
        about(
            lives(&flow(17, A, 4000, REMOTE, 53), answered, false, 5),
            300,
        );
        about(lives(&flow(1, A, 4000, REMOTE, 0), answered, false, 5), 60);
    }
}

// A2.18
#[test]
fn tcp_flows_live_for_4_minutes_half_open_and_for_2_hours_4_minutes_established() {
    about(lives(&flow(6, A, 4000, REMOTE, 80), false, false, 5), 240);
    about(lives(&flow(6, A, 4000, REMOTE, 80), true, false, 30), 7440);
}

// A2.19
#[test]
fn a_reset_moves_a_tcp_flow_to_transitory_and_does_not_delete_it() {
    about(lives(&flow(6, A, 4000, REMOTE, 80), true, true, 5), 240);
}

// A2.10, A2.19
#[test]
fn a_connection_anew_on_a_reset_flow_has_the_same_outside_tuple() {
    let mut net = Net::new(&site(Inbound::Answers), 1);
    let flow = flow(6, A, 4000, REMOTE, 80);
    let out = net.pass(0, &flow, flags::SYN);
    net.pass(0, &flow, flags::RST);
    assert_eq!(net.pass(0, &flow, flags::SYN), out);
    net.advance(SECOND);
    assert_eq!(net.tuples(), (1, 0));
    assert_eq!(net.status().counts.decided, 2);
}

/// One outside port, so that whoever has it keeps others from it.
pub(super) fn one_port() -> Plan {
    let mut plan = site(Inbound::Answers);
    let nat = plan.services[0].nat.as_mut().unwrap();
    nat.source = ports("203.0.113.100", "203.0.113.100", 5000, 5000);
    plan
}

pub(super) fn udp(src: &str) -> Tuple {
    flow(17, src, 4000, REMOTE, 53)
}

// When no outside port or identifier is left, or all that are left rest
// A2.15
#[test]
fn a_tuple_rests_for_120_seconds_after_its_last_flow() {
    let mut net = Net::new(&one_port(), 1);
    assert!(net.pass(0, &udp(A), 0).is_some());
    while net.tuples().0 > 0 {
        net.advance(SECOND);
    }
    assert_eq!(net.tuples(), (0, 1));
    net.advance(118 * SECOND);
    assert_eq!(net.pass(0, &udp(B), 0), None);
    net.advance(3 * SECOND);
    assert!(net.pass(0, &udp(B), 0).is_some());
}

// A2.14
#[test]
fn a_tuple_that_two_agents_hold_is_free_only_when_both_have_ended_it() {
    let mut net = Net::new(&one_port(), 2);
    let out = net.pass(0, &udp(A), 0);
    net.advance(100 * SECOND);
    // The flow moves to the other agent.
    assert_eq!(net.pass(1, &udp(A), 0), out);
    let mut first_gone = false;
    for _ in 0..700 {
        net.advance(SECOND);
        let held: Vec<bool> = (net.agents.iter())
            .map(|w| !w.switch.fixed.is_empty())
            .collect();
        first_gone |= held == [false, true];
        if held.contains(&true) {
            assert_eq!(net.tuples(), (1, 0));
            assert_eq!(net.pass(usize::from(held[0]), &udp(B), 0), None);
        }
    }
    assert!(first_gone, "one agent has ended it before the other");
    assert!(net.pass(0, &udp(B), 0).is_some());
}

// A2.10, A2.14
#[test]
fn a_flow_that_goes_on_while_its_agent_ends_it_keeps_its_tuple_from_others() {
    for proto in [6, 17] {
        let mut net = Net::new(&one_port(), 1);
        let first = flow(proto, A, 4000, REMOTE, 53);
        let out = net.pass(0, &first, flags::SYN).unwrap();
        // Its entries have left the switch, and the agent reads their counters a last time.
        while !net.agents[0].switch.fixed.is_empty() {
            net.advance(Duration::from_millis(1));
        }
        assert_eq!(net.tuples(), (1, 0), "the manager has not heard of it");
        assert_eq!(net.pass(0, &first, flags::SYN), Some(out));
        net.advance(SECOND);
        assert!(!net.agents[0].switch.fixed.is_empty());
        assert_eq!(net.tuples(), (1, 0), "the agent holds it");
        let other = flow(proto, B, 4000, REMOTE, 53);
        assert_eq!(net.pass(0, &other, flags::SYN), None);
        // The end of the second stay is heard.
        while !net.agents[0].switch.fixed.is_empty() {
            net.advance(SECOND);
        }
        net.advance(SECOND);
        assert_eq!(net.tuples(), (0, 1));
    }
}

// When an agent vanishes
// A2.14
#[test]
fn an_agent_that_is_away_holds_its_tuples_however_long_it_stays_away() {
    let mut net = Net::new(&one_port(), 2);
    net.pass(0, &udp(A), 0).unwrap();
    assert_eq!(net.manager.status().agents.len(), 2);
    net.cut(0);
    assert_eq!(net.manager.status().agents.len(), 1);
    net.advance(3600 * SECOND);
    assert!(net.agents[0].switch.fixed.is_empty(), "the lease is over");
    assert_eq!(net.pass(1, &udp(B), 0), None, "but nobody has said so");
    net.mend(0);
    net.settle();
    assert_eq!(net.manager.status().agents.len(), 2);
    assert_eq!(net.tuples(), (0, 1));
    net.advance(119 * SECOND);
    assert_eq!(net.pass(1, &udp(B), 0), None, "A2.15");
    net.advance(2 * SECOND);
    assert!(net.pass(1, &udp(B), 0).is_some());
}

// A2.14
#[test]
fn an_agent_that_holds_a_flow_is_not_forgotten_when_another_one_opens_it_anew() {
    let mut net = Net::new(&one_port(), 2);
    let old = flow(6, A, 4000, REMOTE, 80);
    let out = net.pass(0, &old, flags::SYN).unwrap();
    net.pass(0, &out.reversed(), flags::SYN | flags::ACK)
        .unwrap();
    // The connection goes on at the other agent, ends there and is opened again.
    assert_eq!(net.pass(1, &old, flags::ACK), Some(out));
    net.pass(1, &old, flags::RST);
    assert_eq!(net.pass(1, &old, flags::SYN), Some(out));
    net.pass(1, &old, flags::RST);
    // The one ends after some minutes, the other after two hours.
    net.advance(3000 * SECOND);
    let held: Vec<bool> = (net.agents.iter())
        .map(|w| !w.switch.fixed.is_empty())
        .collect();
    assert_eq!(held, [true, false]);
    assert_eq!(net.tuples(), (1, 0));
    assert_eq!(net.pass(1, &flow(6, B, 4000, REMOTE, 80), flags::SYN), None);
}

#[test]
fn a_flow_that_agents_deny_takes_no_tuple_from_others() {
    let mut plan = one_port();
    // What the manager gives out the policy does not let it install.
    let reply = plan.services[0].reply.as_mut().unwrap();
    for criterion in &mut reply.criteria {
        criterion.cubes[0].dst = address("203.0.113.101", 32);
    }
    let mut net = Net::new(&plan, 1);
    for n in 0..5 {
        assert_eq!(net.pass(0, &flow(17, A, 4000 + n, REMOTE, 53), 0), None);
    }
    let status = net.status();
    assert_eq!((status.counts.decided, status.counts.denied), (5, 5));
    assert_eq!(net.tuples(), (0, 0));
    assert_eq!(net.counted(), BTreeMap::new());
}

#[test]
fn a_flow_that_goes_on_after_its_lease_has_its_tuple_again() {
    let mut net = Net::new(&site(Inbound::Answers), 1);
    let out = net.pass(0, &udp(A), 0);
    while net.tuples().0 > 0 {
        net.advance(SECOND);
    }
    assert_eq!(net.pass(0, &udp(A), 0), out, "A8.7");
    assert_eq!(net.tuples(), (1, 0));
    let counts = net.status().counts;
    assert_eq!((counts.decided, counts.repeated), (1, 1));
}

#[test]
fn a_tcp_packet_of_a_flow_whose_tuple_another_host_has_is_not_translated() {
    let mut plan = one_port();
    plan.services[0]
        .nat
        .as_mut()
        .unwrap()
        .leases
        .tcp_established_ms = 10_000;
    plan.services[0].nat.as_mut().unwrap().hold_back_ms = 1000;
    let mut net = Net::new(&plan, 1);
    let old = flow(6, A, 4000, REMOTE, 80);
    let out = net.pass(0, &old, flags::SYN).unwrap();
    net.pass(0, &out.reversed(), flags::SYN | flags::ACK);
    while net.tuples() != (0, 0) {
        net.advance(Duration::from_millis(100));
    }
    let new = flow(6, B, 4000, REMOTE, 81);
    assert!(net.pass(0, &new, flags::SYN).is_some());
    assert_eq!(net.pass(0, &old, flags::ACK), None);
    assert_eq!(net.tuples(), (1, 0));
}

// A2.10
#[test]
fn a_flow_that_goes_on_after_its_host_got_another_tuple_does_not_get_the_old_one() {
    for (proto, dport) in [(6, 80), (17, 53)] {
        let mut plan = site(Inbound::Answers);
        plan.services[0]
            .nat
            .as_mut()
            .unwrap()
            .leases
            .tcp_established_ms = 10_000;
        let mut net = Net::new(&plan, 1);
        let old = flow(proto, A, 4000, REMOTE, dport);
        let out = net.pass(0, &old, flags::SYN).unwrap();
        net.pass(0, &out.reversed(), flags::SYN | flags::ACK);
        while net.tuples().0 > 0 {
            net.advance(SECOND);
        }
        let other = flow(proto, A, 4000, REMOTE, dport + 1);
        let new = net.pass(0, &other, flags::SYN).unwrap();
        assert_ne!(new.sport, out.sport, "A2.15");
        // A TCP flow in mid-stream would only confuse its server with another address.
        let late = net.pass(0, &old, flags::ACK).map(|t| t.sport);
        assert_eq!(late, (proto == 17).then_some(new.sport));
        assert_eq!(net.tuples(), (1, 1));
    }
}

// A2.14, A2.15
#[test]
fn a_flow_that_goes_on_when_its_entries_have_just_gone_has_its_tuple_and_nobody_else_gets_it() {
    let flow = flow(6, A, 4000, REMOTE, 80);
    let opened = || {
        let mut net = Net::new(&site(Inbound::Answers), 1);
        let out = net.pass(0, &flow, flags::SYN).unwrap();
        (net, out)
    };
    let is_held = |net: &Net| !net.agents[0].switch.fixed.is_empty();
    let (mut net, _) = opened();
    while is_held(&net) {
        net.advance(SECOND);
    }
    let (mut again, out) = opened();
    again.advance(net.now - again.now - 2 * SECOND);
    while is_held(&again) {
        again.advance(Duration::from_millis(1));
    }
    // The agent reads the last counts yet, and has not said that the flow is over.
    assert_eq!(again.tuples(), (1, 0));
    assert_eq!(again.pass(0, &flow, flags::ACK), Some(out));
    again.advance(SECOND);
    assert!(is_held(&again));
    assert_eq!(again.tuples(), (1, 0));
    while is_held(&again) {
        again.advance(SECOND);
    }
    again.advance(SECOND);
    assert_eq!(again.tuples(), (0, 1));
}
