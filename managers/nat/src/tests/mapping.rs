//! Who gets which outside tuple, and for how long.

use std::collections::BTreeSet;

use super::*;

fn tcp(src: &str, sport: u16, remote: u16) -> Tuple {
    flow(6, src, sport, "198.51.100.7", remote)
}

fn outside(t: Tuple) -> (IpAddr, u16) {
    (t.src, t.sport)
}

// A2.10
#[test]
fn an_inside_tuple_has_the_same_outside_tuple_towards_every_remote() {
    let mut nat = egress();
    let first = outside(to(&mut nat, tcp("10.0.1.10", 40_000, 1)));
    for n in 0..100 {
        let other = flow(6, "10.0.1.10", 40_000, &format!("192.0.2.{n}"), 1000 + n);
        assert_eq!(outside(to(&mut nat, other)), first);
    }
    // Of another protocol or port it is another.
    assert_ne!(outside(to(&mut nat, tcp("10.0.1.10", 40_002, 1))), first);
}

// A2.10
#[test]
fn a_mapping_lasts_as_long_as_one_of_its_flows() {
    let mut nat = egress();
    let flows: Vec<Decided> = (1..=3)
        .map(|r| decided(ask(&mut nat, tcp("10.0.1.10", 40_000, r))))
        .collect();
    let first = outside(target(&flows[0]));
    for flow in &flows[..2] {
        nat.ended(flow);
        assert_eq!(outside(to(&mut nat, tcp("10.0.1.10", 40_000, 9))), first);
        let more = decided(ask(&mut nat, tcp("10.0.1.10", 40_000, 9)));
        nat.ended(&more);
    }
    // One of remote 3 and two of remote 9 are left.
    assert_eq!(nat.outside().iter().map(|o| o.mappings).sum::<u64>(), 1);
}

// A2.11
#[test]
fn an_inside_address_keeps_its_outside_address_in_all_protocols() {
    let mut nat = egress();
    let mut used = BTreeSet::new();
    for host in 1..=40 {
        let src = format!("10.0.1.{host}");
        let first = to(&mut nat, tcp(&src, 1000, 1)).src;
        used.insert(first);
        for n in 0..20 {
            for proto in [6, 17, 1] {
                let t = flow(proto, &src, 2000 + n, "198.51.100.7", 0);
                assert_eq!(to(&mut nat, t).src, first);
            }
        }
    }
    assert_eq!(used.len(), 2, "both addresses are used");
}

// A2.11
#[test]
fn an_inside_address_without_mappings_gets_the_same_address_whatever_came_before() {
    let mut one = egress();
    let mut other = egress().seeded(99);
    for host in (1..=40).rev() {
        to(&mut other, tcp(&format!("10.0.1.{host}"), 7, 7));
    }
    for host in 1..=40 {
        let src = format!("10.0.1.{host}");
        let t = tcp(&src, 1000, 1);
        assert_eq!(to(&mut one, t).src, to(&mut other, t).src);
    }
}

// A2.11
#[test]
fn a_host_whose_address_is_full_gets_no_other_while_it_has_mappings() {
    let mut nat = nat(nat_plan(
        ports("203.0.113.100", "203.0.113.101", 5000, 5003),
        None,
    ));
    let mine: Vec<Tuple> = (0..4)
        .map(|n| to(&mut nat, tcp("10.0.1.10", 7000 + n, 1)))
        .collect();
    assert!(mine.iter().all(|t| t.src == mine[0].src));
    assert_eq!(ask(&mut nat, tcp("10.0.1.10", 8000, 1)), Choice::Fallback);
    assert_eq!(nat.counted()["exhausted"], 1);
    // Somebody without mappings takes the other address, wherever the hash points.
    for host in 20..24 {
        let src = format!("10.0.1.{host}");
        assert_ne!(to(&mut nat, tcp(&src, 7000, 1)).src, mine[0].src);
    }
}

// A2.12
#[test]
fn parity_and_range_of_a_port_are_kept() {
    let mut nat = nat(nat_plan(
        ports("203.0.113.100", "203.0.113.100", 1, 65_535),
        None,
    ));
    for port in (1..2000).chain(60_000..60_500) {
        let out = to(&mut nat, tcp("10.0.1.10", port, 1)).sport;
        assert_eq!(out % 2, port % 2, "{port} -> {out}");
        assert_eq!(out < 1024, port < 1024, "{port} -> {out}");
    }
}

#[test]
fn ports_follow_from_the_seed_and_not_from_one_another() {
    let series = |seed| -> Vec<u16> {
        let mut nat = egress().seeded(seed);
        (0..200)
            .map(|n| to(&mut nat, tcp("10.0.1.10", 2000 + 2 * n, 1)).sport)
            .collect()
    };
    assert_eq!(series(1), series(1));
    let one = series(1);
    let equal = one.iter().zip(series(2)).filter(|(a, b)| *a == b).count();
    assert!(equal < 10, "{equal} of 200 are equal under another seed");
    let steps: BTreeSet<i32> = one
        .windows(2)
        .map(|w| i32::from(w[1]) - i32::from(w[0]))
        .collect();
    assert!(steps.len() > 180, "only {} different steps", steps.len());
}

// A2.13
#[test]
fn a_hairpin_translates_both_ends_and_has_both_outside_tuples() {
    let mut nat = egress();
    let b = decided(ask(&mut nat, tcp("10.0.2.10", 9000, 1)));
    let x_b = outside(target(&b));
    let hairpin = Tuple {
        src: ip("10.0.1.10"),
        dst: x_b.0,
        proto: 6,
        sport: 4000,
        dport: x_b.1,
    };
    let across = decided(ask(&mut nat, hairpin));
    let to = target(&across);
    assert_eq!((to.dst, to.dport), (ip("10.0.2.10"), 9000));
    let x_a = outside(to);
    assert_eq!(
        outside(self::to(&mut nat, tcp("10.0.1.10", 4000, 5))),
        x_a,
        "A2.10"
    );
    // As long as the hairpin lives, the tuple stands for the host behind it.
    nat.ended(&b);
    assert_eq!(target(&decided(ask(&mut nat, hairpin))), to);
    nat.ended(&across);
    nat.ended(&across);
    assert_eq!(ask(&mut nat, hairpin), Choice::Drop);
    assert_eq!(nat.counted()["unmapped"], 1);
    let held: u64 = nat.outside().iter().map(|o| o.held_back).sum();
    let mapped: u64 = nat.outside().iter().map(|o| o.mappings).sum();
    assert_eq!(
        (held, mapped),
        (1, 1),
        "the second host's rests, the first one's lives"
    );
}

// A2.13
#[test]
fn a_hairpin_works_one_to_one_too() {
    let mut nat = nat(nat_plan(
        Some(NatSource::OneToOne {
            pairs: vec![Pair {
                inside: "10.0.0.0/16".parse().unwrap(),
                outside: "198.18.0.0/16".parse().unwrap(),
            }],
        }),
        None,
    ));
    for proto in [6, 17, 1] {
        let t = flow(proto, "10.0.1.10", 4000, "198.18.2.10", 0);
        let to = to(&mut nat, t);
        assert_eq!((to.src, to.dst), (ip("198.18.1.10"), ip("10.0.2.10")));
    }
}

fn one_port() -> Nat {
    nat(nat_plan(
        ports("203.0.113.100", "203.0.113.100", 5000, 5000),
        None,
    ))
}

// A2.15
#[test]
fn an_outside_tuple_is_not_given_out_again_before_its_hold_back_is_over() {
    let mut nat = one_port();
    nat.tick(Duration::from_micros(10_000_300));
    let first = decided(ask(&mut nat, tcp("10.0.1.10", 1, 1)));
    nat.ended(&first);
    let over = Duration::from_micros(130_000_300);
    for now in [Duration::from_secs(11), over - Duration::from_micros(1)] {
        nat.tick(now);
        assert_eq!(ask(&mut nat, tcp("10.0.1.11", 1, 1)), Choice::Fallback);
        assert_eq!(ask(&mut nat, tcp("10.0.1.10", 1, 1)), Choice::Fallback);
    }
    assert_eq!(nat.outside()[0].held_back, 1);
    nat.tick(over + Duration::from_millis(1));
    to(&mut nat, tcp("10.0.1.11", 1, 1));
}

// A2.15
#[test]
fn what_rests_rests_on_by_another_plan_of_the_same_outside_tuples() {
    let mut nat = one_port();
    let first = decided(ask(&mut nat, tcp("10.0.1.10", 1, 1)));
    nat.ended(&first);
    let mut plan = nat.plan.clone();
    plan.leases.udp_ms += 1;
    assert!(nat.update(&service(plan.clone())));
    assert_eq!(nat.plan, plan);
    assert_eq!(ask(&mut nat, tcp("10.0.1.11", 1, 1)), Choice::Fallback);
    assert_eq!(nat.outside()[0].held_back, 1);
    // Of others it knows nothing.
    plan.source = ports("203.0.113.105", "203.0.113.105", 5000, 5000);
    assert!(!nat.update(&service(plan)));
}

#[test]
fn a_flow_that_goes_on_in_the_hold_back_has_its_tuple_again_unless_another_stands_for_it() {
    let mut nat = egress();
    let old = decided(ask(&mut nat, flow(17, "10.0.1.10", 5000, "192.0.2.1", 53)));
    nat.ended(&old);
    assert!(nat.stands(&old));
    nat.adopted(&old);
    let other = flow(17, "10.0.1.10", 5000, "192.0.2.2", 53);
    let again = decided(ask(&mut nat, other));
    assert_eq!(outside(target(&again)), outside(target(&old)), "A2.10");
    nat.ended(&old);
    nat.ended(&again);
    // It rests for its whole time from now on.
    nat.tick(119 * SECOND);
    assert!(nat.stands(&old));
    let new = decided(ask(&mut nat, other));
    assert_ne!(outside(target(&new)), outside(target(&old)));
    assert!(!nat.stands(&old), "it would be a second one");
    nat.tick(121 * SECOND);
    nat.ended(&new);
    assert!(!nat.stands(&old), "it is not its own any more");
}

#[test]
fn a_decision_that_no_agent_has_carried_out_leaves_nothing_behind() {
    let mut nat = one_port();
    for host in 1..=100 {
        let refused = decided(ask(&mut nat, tcp(&format!("10.0.1.{host}"), 1, 1)));
        nat.refused(&refused);
    }
    // Where another flow has had the tuple, it rests.
    let first = decided(ask(&mut nat, tcp("10.0.1.1", 1, 1)));
    let second = decided(ask(&mut nat, tcp("10.0.1.1", 1, 2)));
    nat.ended(&first);
    nat.refused(&second);
    assert_eq!(ask(&mut nat, tcp("10.0.1.2", 1, 1)), Choice::Fallback);
}
