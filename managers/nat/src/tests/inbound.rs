//! Flows that are opened from outside, and what agents tell of flows that were decided before.

use super::*;

fn arrive(nat: &mut Nat, flow: Tuple) -> Choice {
    let packet = match flow.proto {
        1 => icmp(&flow, if flow.dport == 0 { 8 } else { 0 }),
        _ => Bytes::new(),
    };
    let now = nat.now;
    nat.decide_inbound(
        now,
        &Opening {
            flow,
            kind: PacketKind::Whole,
            ingress_port: 1,
            packet: &packet,
        },
    )
}

fn mapped() -> Nat {
    let mut plan = nat_plan(ports("203.0.113.100", "203.0.113.100", 1024, 65_535), None);
    plan.inbound = Inbound::Mapped;
    nat(plan)
}

#[test]
fn anybody_may_come_in_to_a_mapped_tuple_and_nobody_to_another() {
    let mut nat = mapped();
    assert!(nat.opens_inbound());
    assert!(!egress().opens_inbound(), "only answers come in");
    let own = decided(ask(&mut nat, flow(17, "10.0.1.10", 5000, "192.0.2.1", 53)));
    let x = target(&own);
    let in_port = x.sport;
    let stranger = flow(17, "198.51.100.9", 777, "203.0.113.100", in_port);
    let inside = decided(arrive(&mut nat, stranger));
    let back = flow(17, "10.0.1.10", 5000, "198.51.100.9", 777);
    assert_eq!(inside.forward.0, back);
    assert_eq!(target(&inside), stranger.reversed());
    assert_eq!(
        inside.reply,
        Some((stranger, vec![Action::Translate(back.reversed())]))
    );
    // It keeps the tuple while it lives.
    nat.ended(&own);
    assert_eq!(
        to(&mut nat, flow(17, "10.0.1.10", 5000, "192.0.2.9", 1)).sport,
        in_port
    );
    for other in [
        flow(17, "198.51.100.9", 777, "203.0.113.100", in_port ^ 2),
        flow(6, "198.51.100.9", 777, "203.0.113.100", in_port),
        flow(1, "198.51.100.9", 777, "203.0.113.100", 0),
        flow(47, "198.51.100.9", 0, "203.0.113.100", 0),
    ] {
        assert_eq!(arrive(&mut nat, other), Choice::Drop, "{other}");
    }
    assert_eq!(nat.counted()["unmapped"], 4);
}

#[test]
fn an_echo_reply_that_nobody_has_asked_for_stays_outside() {
    let mut nat = mapped();
    let out = to(&mut nat, flow(1, "10.0.1.10", 5, "192.0.2.1", 0));
    let reply = flow(1, "198.51.100.9", 0, "203.0.113.100", out.sport);
    assert_eq!(arrive(&mut nat, reply), Choice::Drop);
}

// A2.5
#[test]
fn one_to_one_takes_flows_from_outside() {
    let mut nat = nat(nat_plan(
        Some(NatSource::OneToOne {
            pairs: vec![Pair {
                inside: "10.0.1.0/24".parse().unwrap(),
                outside: "203.0.113.0/24".parse().unwrap(),
            }],
        }),
        None,
    ));
    assert!(nat.opens_inbound());
    for proto in [6, 17, 1, 47] {
        let arrived = flow(proto, "198.51.100.9", 777, "203.0.113.10", 0);
        let inside = decided(arrive(&mut nat, arrived));
        assert_eq!(
            inside.forward.0,
            flow(proto, "10.0.1.10", 0, "198.51.100.9", 777)
        );
        assert_eq!(target(&inside), arrived.reversed());
    }
}

#[test]
fn what_an_agent_tells_of_is_mapped_again() {
    let mut before = egress().seeded(5);
    let told: Vec<Decided> = (0..50)
        .map(|n| {
            decided(ask(
                &mut before,
                flow(6, "10.0.1.10", 3000 + n, "192.0.2.1", 80),
            ))
        })
        .collect();
    let mut nat = egress();
    for decided in &told {
        nat.adopted(decided);
    }
    for decided in &told {
        let old = target(decided);
        let other = Tuple {
            dport: 81,
            ..decided.forward.0
        };
        let new = to(&mut nat, other);
        assert_eq!((new.src, new.sport), (old.src, old.sport), "A2.10");
    }
    // Nobody else gets one of them.
    let taken: Vec<(IpAddr, u16)> = told.iter().map(target).map(|t| (t.src, t.sport)).collect();
    for n in 0..2000 {
        let t = to(&mut nat, flow(6, "10.0.3.10", n, "192.0.2.1", 80));
        assert!(!taken.contains(&(t.src, t.sport)));
    }
    assert_eq!(nat.counted(), BTreeMap::new());
}

fn claim(inside: &str, remote: u16, outside: &str, port: u16) -> Decided {
    let flow = flow(6, inside, 4000, "192.0.2.1", remote);
    let to = Tuple {
        src: ip(outside),
        sport: port,
        ..flow
    };
    egress().decision(flow, to)
}

#[test]
fn a_tuple_that_two_inside_hosts_have_stays_the_first_ones_until_both_have_ended() {
    let mut nat = egress();
    let first = claim("10.0.1.10", 1, "203.0.113.100", 5000);
    let second = claim("10.0.1.11", 2, "203.0.113.100", 5000);
    nat.adopted(&first);
    nat.adopted(&second);
    assert_eq!(nat.counted()["contradictions"], 1);
    assert!(nat.news()[0].contains("203.0.113.100:5000 for 10.0.1.10:4000 and for 10.0.1.11:4000"));
    // The later one's new flows get another.
    let other = to(&mut nat, flow(6, "10.0.1.11", 4000, "192.0.2.1", 3));
    assert_ne!((other.src, other.sport), (ip("203.0.113.100"), 5000));
    nat.ended(&first);
    let held = |nat: &Nat| nat.outside().iter().map(|o| o.held_back).sum::<u64>();
    assert_eq!(held(&nat), 0, "an agent still has it");
    // A2.14: nor do the first one's, old or new, while only the other has it.
    assert!(!nat.stands(&first));
    let new = to(&mut nat, flow(6, "10.0.1.10", 4000, "192.0.2.1", 4));
    assert_ne!((new.src, new.sport), (ip("203.0.113.100"), 5000));
    nat.ended(&second);
    assert_eq!(held(&nat), 1);
}

// A2.10
#[test]
fn a_tuple_that_its_inside_host_has_no_more_is_that_of_the_other_that_uses_it() {
    let mut nat = egress();
    let first = claim("10.0.1.10", 1, "203.0.113.100", 5000);
    let second = claim("10.0.1.11", 2, "203.0.113.100", 5000);
    nat.adopted(&first);
    nat.adopted(&second);
    nat.ended(&first);
    let new = to(&mut nat, flow(6, "10.0.1.11", 4000, "192.0.2.1", 3));
    assert_eq!((new.src, new.sport), (ip("203.0.113.100"), 5000));
    let new = to(&mut nat, flow(6, "10.0.1.10", 4000, "192.0.2.1", 4));
    assert_ne!((new.src, new.sport), (ip("203.0.113.100"), 5000));
}

#[test]
fn an_inside_tuple_that_has_two_outside_ones_keeps_the_first_for_new_flows() {
    let mut nat = egress();
    let first = claim("10.0.1.10", 1, "203.0.113.100", 5000);
    let second = claim("10.0.1.10", 2, "203.0.113.101", 6000);
    nat.adopted(&first);
    nat.adopted(&second);
    assert_eq!(nat.counted()["contradictions"], 1);
    let new = to(&mut nat, flow(6, "10.0.1.10", 4000, "192.0.2.1", 3));
    assert_eq!((new.src, new.sport), (ip("203.0.113.100"), 5000));
    let mapped: u64 = nat.outside().iter().map(|o| o.mappings).sum();
    assert_eq!(mapped, 2, "the second is not given out either");
    nat.ended(&second);
    let held: u64 = nat.outside().iter().map(|o| o.held_back).sum();
    assert_eq!(held, 1);
}

// A2.10
#[test]
fn an_inside_tuple_whose_first_outside_one_has_ended_goes_on_with_the_other() {
    let mut nat = egress();
    let first = claim("10.0.1.10", 1, "203.0.113.100", 5000);
    let second = claim("10.0.1.10", 2, "203.0.113.101", 6000);
    nat.adopted(&first);
    nat.adopted(&second);
    nat.ended(&first);
    let new = to(&mut nat, flow(6, "10.0.1.10", 4000, "192.0.2.1", 3));
    assert_eq!((new.src, new.sport), (ip("203.0.113.101"), 6000));
}

#[test]
fn a_tuple_that_the_policy_no_longer_has_is_left_alone() {
    let mut nat = egress();
    let old = claim("10.0.1.10", 1, "198.51.100.1", 5000);
    let low = claim("10.0.1.10", 1, "203.0.113.100", 80);
    for decided in [&old, &low] {
        nat.adopted(decided);
        assert!(!nat.stands(decided));
        nat.ended(decided);
    }
    assert!(nat.outside().iter().all(|o| o.mappings + o.held_back == 0));
}
