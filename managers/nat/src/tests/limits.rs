//! Bounds: tuples of a subscriber, and tuples altogether.

use super::*;

fn udp(src: &str, sport: u16) -> Tuple {
    flow(17, src, sport, "198.51.100.7", 53)
}

// When an inside address has all the tuples it may have
// A2.16
#[test]
fn a_subscriber_has_so_many_outside_tuples_at_once_and_others_are_not_concerned() {
    let mut plan = nat_plan(ports("203.0.113.100", "203.0.113.103", 1024, 65_535), None);
    plan.per_source = Some(3);
    let mut nat = nat(plan);
    let mine: Vec<Decided> = (0..3)
        .map(|n| decided(ask(&mut nat, udp("10.0.1.10", 5000 + n))))
        .collect();
    for sport in [6000, 6001] {
        assert_eq!(ask(&mut nat, udp("10.0.1.10", sport)), Choice::Fallback);
    }
    assert_eq!(nat.counted()["per_source"], 2);
    // Another protocol is no way round it; more flows of a tuple that it has are none.
    let tcp = flow(6, "10.0.1.10", 7000, "192.0.2.1", 80);
    assert_eq!(ask(&mut nat, tcp), Choice::Fallback);
    to(&mut nat, flow(17, "10.0.1.10", 5000, "192.0.2.1", 99));
    to(&mut nat, udp("10.0.1.11", 5000));
    // What has ended does not count.
    nat.ended(&mine[1]);
    to(&mut nat, udp("10.0.1.10", 6000));
    assert_eq!(ask(&mut nat, udp("10.0.1.10", 6001)), Choice::Fallback);
}

// When no outside port or identifier is left, or all that are left rest
// A2.17
#[test]
fn when_no_tuple_is_left_a_flow_takes_the_floor_and_it_is_counted_and_reported() {
    let mut nat = nat(nat_plan(
        ports("203.0.113.100", "203.0.113.101", 2000, 2031),
        None,
    ));
    let all: Vec<Decided> = (0..64)
        .map(|n| decided(ask(&mut nat, udp(&format!("10.0.1.{n}"), 5000))))
        .collect();
    assert!(nat.news().is_empty());
    for n in 0..5 {
        assert_eq!(ask(&mut nat, udp("10.0.2.1", 5000 + n)), Choice::Fallback);
    }
    assert_eq!(nat.counted()["exhausted"], 5);
    let news = nat.news();
    assert_eq!(news.len(), 1, "one line, not one a flow");
    assert!(news[0].contains("no outside udp port is left for 10.0.2.1; 64 are mapped"));
    for row in nat.outside() {
        let udp = row.protocol == "udp";
        let wanted = if udp { (32, 0) } else { (0, 32) };
        assert_eq!(
            (row.mappings, row.free, row.held_back),
            (wanted.0, wanted.1, 0)
        );
    }
    // Other protocols have theirs, and what is mapped goes on.
    to(&mut nat, flow(6, "10.0.2.9", 5000, "192.0.2.1", 80));
    to(&mut nat, flow(17, "10.0.1.7", 5000, "192.0.2.1", 80));
    // One that has rested is given to whoever comes, on whichever address it is.
    nat.ended(&all[40]);
    nat.tick(121 * SECOND);
    let out = to(&mut nat, udp("10.0.2.1", 5000));
    let freed = target(&all[40]);
    assert_eq!((out.src, out.sport), (freed.src, freed.sport));
    assert_eq!(ask(&mut nat, udp("10.0.2.2", 5000)), Choice::Fallback);
    assert_eq!(nat.news().len(), 1, "said again after a while");
}

#[test]
fn the_last_of_65_536_addresses_is_used_too() {
    let mut nat = nat(nat_plan(
        ports("198.18.0.0", "198.18.255.255", 5000, 5000),
        None,
    ));
    for n in 0..=65_535u32 {
        let host = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        to(&mut nat, udp(&host.to_string(), 5));
    }
    assert_eq!(ask(&mut nat, udp("10.9.9.9", 5)), Choice::Fallback);
    assert_eq!(nat.outside().len(), 65_536);
}
