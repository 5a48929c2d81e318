//! Managers that start again, and what agents tell them.

use super::*;

fn udp(src: &str, remote: u16) -> Tuple {
    flow(17, src, 4000, REMOTE, remote)
}

// A2.10, A2.14
#[test]
fn a_manager_that_starts_again_knows_who_has_which_tuple() {
    let mut net = Net::new(&site(Inbound::Answers), 2);
    let flows: Vec<Tuple> = (0..40).map(|n| flow(17, A, 3000 + n, REMOTE, 53)).collect();
    let outs: Vec<Tuple> = (flows.iter().enumerate())
        .map(|(n, f)| net.pass(n % 2, f, 0).unwrap())
        .collect();
    net.restart(&[0, 1]);
    net.settle();
    assert_eq!(net.tuples(), (40, 0));
    for (n, (flow, out)) in flows.iter().zip(&outs).enumerate() {
        assert_eq!(net.pass(n % 2, flow, 0), Some(*out), "it goes on");
        let other = Tuple { dport: 54, ..*flow };
        let new = net.pass(1 - n % 2, &other, 0).unwrap();
        assert_eq!((new.src, new.sport), (out.src, out.sport), "A2.10");
    }
    assert_eq!(net.counted(), BTreeMap::new());
}

// A2.14
#[test]
fn nothing_is_decided_before_every_agent_has_said_what_it_holds() {
    let mut plan = site(Inbound::Answers);
    let nat = plan.services[0].nat.as_mut().unwrap();
    nat.source = ports("203.0.113.100", "203.0.113.100", 5000, 5001);
    let mut net = Net::new(&plan, 2);
    net.pass(0, &udp(A, 1), 0).unwrap();
    net.restart(&[0, 1]);
    // The second agent is there before the first has spoken, and asks at once.
    let greeting: Vec<_> = std::mem::take(&mut net.agents[0].said);
    assert!(!greeting.is_empty());
    net.settle();
    assert_eq!(net.pass(1, &udp(B, 1), 0), None, "the question waits");
    net.agents[0].said = greeting;
    net.settle();
    let (_, out) = net.agents[1].take_left()[0];
    assert_eq!(out.sport, 5001, "and gets what is free");
    assert_eq!(net.agents[1].agent.counters().unanswered, 0);
    assert_eq!(net.tuples(), (2, 0));
}

#[test]
fn an_agent_that_never_says_who_it_is_stops_nobody_for_long() {
    let mut net = Net::new(&site(Inbound::Answers), 1);
    // A way that nobody answers on.
    net.tell(Input::Connected(99));
    assert_eq!(net.pass(0, &udp(A, 1), 0), None);
    net.advance(6 * SECOND);
    assert!(net.pass(0, &udp(A, 2), 0).is_some());
}

// A2.14
#[test]
fn an_agent_that_a_restarted_manager_did_not_know_is_heard_and_its_tuple_kept() {
    let mut plan = site(Inbound::Answers);
    let nat = plan.services[0].nat.as_mut().unwrap();
    nat.source = ports("203.0.113.100", "203.0.113.100", 5000, 5001);
    let mut net = Net::new(&plan, 2);
    let third = udp("10.0.2.11", 1);
    let others = net.pass(0, &third, 0).unwrap();
    let old = net.pass(0, &udp(A, 1), 0).unwrap();
    assert_eq!((others.sport, old.sport), (5000, 5001), "A2.12");
    // Only the second agent finds the new manager, and A's flow goes there.
    net.restart(&[1]);
    net.settle();
    let new = net.pass(1, &udp(A, 1), 0).unwrap();
    assert_eq!(new.sport, 5000, "the manager cannot know better");
    net.mend(0);
    net.settle();
    assert_eq!(net.counted()["contradictions"], 2);
    // All go on as they were, and neither tuple is anybody else's.
    assert_eq!(net.pass(0, &udp(A, 1), 0), Some(old));
    assert_eq!(net.pass(1, &udp(A, 1), 0), Some(new));
    assert_eq!(net.pass(0, &third, 0), Some(others));
    assert_eq!(net.tuples(), (2, 0));
    assert_eq!(net.pass(1, &udp(B, 1), 0), None);
    // What the first agent had is free once that has ended it and it has rested, what goes on is not.
    for _ in 0..20 {
        net.advance(60 * SECOND);
        assert_eq!(net.pass(1, &udp(A, 1), 0), Some(new));
    }
    assert!(net.agents[0].switch.fixed.is_empty());
    assert_eq!(net.tuples(), (1, 0));
    let other = net.pass(0, &udp(B, 1), 0).unwrap();
    assert_eq!(other.sport, old.sport);
    assert_eq!(net.pass(0, &third, 0), None);
    while net.tuples().0 > 0 {
        net.advance(10 * SECOND);
    }
    net.advance(121 * SECOND);
    assert_eq!(net.tuples(), (0, 0));
}
