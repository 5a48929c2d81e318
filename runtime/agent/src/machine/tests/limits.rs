//! Limits on new flows: what is beyond them takes the floor before anybody is asked, and what is
//! established stays.

use super::*;
use crate::counters::Drop;
use crate::listing::FlowState;

fn limited(change: fn(&mut signalbox_lower::plan::Limits)) -> World {
    let mut p = plan();
    change(&mut p.services[0].limits);
    let mut w = served_with(p);
    for n in 0..16 {
        w.hosts.insert(client(n, 0).src, [4, 0, 0, 0, 113, n]);
    }
    w
}

fn syn(w: &mut World, host: u8, port: u16) -> bool {
    w.receive(1, &tcp(1, &client(host, port), flags::SYN, b""));
    let asked = interests(w);
    let Some(asked) = asked.first() else {
        return false;
    };
    let affinities = balanced(asked.flow, u64::from(host) << 16 | u64::from(port), SERVER);
    verdict(w, asked.request, Decision::Resume, affinities);
    true
}

fn answer(w: &mut World, host: u8, port: u16) {
    let back = to_server(client(host, port)).reversed();
    w.receive(2, &tcp(2, &back, flags::SYN | flags::ACK, b""));
}

fn limited_so_far(w: &World) -> u64 {
    w.agent
        .counters()
        .denials
        .get(&Reason::Limited)
        .copied()
        .unwrap_or(0)
}

// When a bound of new flows is reached
#[test]
fn no_more_flows_are_half_open_at_once_than_the_policy_says() {
    let mut w = limited(|l| l.half_open = Some(3));
    let got: Vec<bool> = (2..7).map(|n| syn(&mut w, n, 1000)).collect();
    assert_eq!(got, [true, true, true, false, false]);
    let c = w.agent.counters();
    assert_eq!((limited_so_far(&w), c.drops[&Drop::Floor]), (2, 2));
    assert_eq!((c.half_open.now, c.half_open.most), (3, 3));
    // An answer makes room at once, not when the counters are looked at.
    answer(&mut w, 2, 1000);
    assert_eq!(w.agent.counters().half_open.now, 2);
    assert!(syn(&mut w, 5, 1000));
    assert!(!syn(&mut w, 6, 1000));
    assert_eq!(
        w.agent.flows().len(),
        4,
        "the established one is not evicted"
    );
    // So does the end of the lease.
    pass(&mut w, 11);
    assert!(syn(&mut w, 6, 1000));
    let established = w
        .agent
        .flows()
        .iter()
        .filter(|f| f.state == FlowState::Established)
        .count();
    assert_eq!(established, 1);
}

#[test]
fn flows_that_nobody_has_decided_yet_count_as_half_open() {
    let mut w = limited(|l| l.half_open = Some(2));
    for n in 0..4 {
        w.receive(1, &tcp(1, &client(n, 1000), flags::SYN, b""));
    }
    assert_eq!(interests(&mut w).len(), 2);
    assert_eq!(limited_so_far(&w), 2);
    w.advance(S);
    assert!(syn(&mut w, 5, 1000), "they took the floor");
}

#[test]
fn a_denied_flow_leaves_its_place() {
    let mut w = limited(|l| l.half_open = Some(1));
    w.switch.fixed_size = 0;
    for port in 1000..1005 {
        assert!(syn(&mut w, 9, port));
    }
    assert_eq!(w.agent.counters().half_open.now, 0);
}

#[test]
fn one_source_cannot_take_all_half_open_flows() {
    let mut w = limited(|l| l.half_open_per_source = Some(2));
    let got: Vec<bool> = (1000..1004).map(|port| syn(&mut w, 9, port)).collect();
    assert_eq!(got, [true, true, false, false]);
    assert!(syn(&mut w, 10, 1000), "another source");
    answer(&mut w, 9, 1000);
    assert!(syn(&mut w, 9, 1002));
    // A connection that is reset while half open leaves its place too.
    w.receive(1, &tcp(1, &client(9, 1002), flags::RST, b""));
    assert!(syn(&mut w, 9, 1003));
}

#[test]
fn new_flows_of_a_second_are_limited_and_packets_of_known_ones_are_not() {
    let mut w = limited(|l| l.new_per_second = Some(10));
    let mut admitted = 0;
    for n in 0..100u16 {
        admitted += u32::from(syn(&mut w, 9, 1000 + n));
        w.advance(10 * MS);
    }
    // One second's flows at once, and one every 100 ms after that.
    assert_eq!(admitted, 19);
    w.take_left();
    w.receive(1, &tcp(1, &client(9, 1000), flags::ACK, b"x"));
    assert_eq!(w.take_left().len(), 1);
    assert_eq!(limited_so_far(&w), 81);
}

#[test]
fn new_flows_of_one_source_in_a_second_are_limited_and_others_go_on() {
    let mut w = limited(|l| l.new_per_second_per_source = Some(5));
    let flood = (0..50).filter(|n| syn(&mut w, 9, 1000 + n)).count();
    assert_eq!(flood, 5);
    assert!((0..5).all(|n| syn(&mut w, 10, 1000 + n)));
    w.advance(S);
    assert_eq!((0..50).filter(|n| syn(&mut w, 9, 2000 + n)).count(), 5);
}

// When a bound of new flows is reached
#[test]
fn a_flow_beyond_a_limit_goes_on_where_the_floor_lets_it() {
    let mut p = plan();
    p.services[0].fallback = signalbox_lower::plan::Fallback::Route;
    p.services[0].limits.new_per_second = Some(0);
    let mut w = served_with(p);
    let flow = client(9, 1000);
    let elsewhere = Tuple {
        dst: IpAddr::from([10, 0, 1, 10]),
        ..flow
    };
    w.switch.criteria.clear();
    assert!(!syn(&mut w, 9, 1000));
    w.receive(1, &tcp(1, &elsewhere, flags::SYN, b""));
    assert_eq!(w.take_left(), [(2, elsewhere)]);
}
