//! A backup that is told of outside tuples as they are taken and given back.

use std::collections::BTreeSet;

use signalbox_agent::testing::with_backup;
use signalbox_lower::plan::Replicate;

use super::division::{Pair, served, whole};
use super::*;

const A: &str = "10.0.1.10";
const B: &str = "10.0.2.10";

/// nat-1 has eight ports, and nat-2 stands by.
fn backed(replicate: Option<Replicate>) -> Plan {
    with_backup(whole(), "nat-2", 1_000, replicate)
}

fn pair(plan: &Plan) -> Pair {
    let mut pair = Pair::new(plan);
    pair.join(2, Manager::new("nat-2", plan, served(plan, 0)));
    for (session, other) in [(1, 2), (2, 1)] {
        pair.tell(session, Input::PeerConnected(other));
    }
    pair.advance(Duration::from_millis(5));
    pair
}

/// Four flows come and end; nat-1 dies; and these ports are given out by who stands by for it.
fn given_out_after(replicate: Option<Replicate>) -> (BTreeSet<u16>, BTreeSet<u16>) {
    let plan = backed(replicate);
    let mut pair = pair(&plan);
    let first: BTreeSet<u16> = (0..4).map(|n| pair.out(A, 4000 + n).unwrap()).collect();
    let mut waited = Duration::ZERO;
    while !pair.agent.switch.fixed.is_empty() {
        pair.advance(SECOND / 4);
        waited += SECOND / 4;
        assert!(waited < 1_000 * SECOND, "their lease");
    }
    pair.managers.remove(&1);
    pair.tell(2, Input::PeerDisconnected(1));
    pair.agent.feed(ToTheAgent::SessionClosed(1));
    for _ in 0..8 {
        pair.advance(SECOND / 4);
    }
    // The first packet is what it takes over with.
    pair.out(B, 6000);
    let second: BTreeSet<u16> = (0..8).filter_map(|n| pair.out(B, 6000 + n)).collect();
    (first, second)
}

// A2.15, A9.7
#[test]
fn a_backup_that_is_told_does_not_give_out_a_tuple_that_rests() {
    for how in [Replicate::Sync, Replicate::Async] {
        let (first, second) = given_out_after(Some(how));
        assert_eq!((first.len(), second.len()), (4, 4));
        assert!(first.is_disjoint(&second), "{first:?} rest, {second:?}");
    }
    let (first, second) = given_out_after(None);
    assert!(!first.is_disjoint(&second), "nobody has told it");
}

// A2.15
#[test]
fn what_a_first_one_that_is_back_is_told_rests_as_well_and_for_its_time() {
    let plan = backed(Some(Replicate::Sync));
    let mut pair = pair(&plan);
    let first: BTreeSet<u16> = (0..4).map(|n| pair.out(A, 4000 + n).unwrap()).collect();
    while !pair.agent.switch.fixed.is_empty() {
        pair.advance(SECOND / 4);
    }
    // A new process, which knows nothing.
    pair.managers.remove(&1);
    pair.tell(2, Input::PeerDisconnected(1));
    pair.agent.feed(ToTheAgent::SessionClosed(1));
    pair.join(
        3,
        Manager::new("nat-1", &plan, served(&plan, 0)).with_instance(1),
    );
    for (session, other) in [(3, 2), (2, 3)] {
        pair.tell(session, Input::PeerConnected(other));
    }
    for _ in 0..8 {
        pair.advance(SECOND / 4);
    }
    let second: BTreeSet<u16> = (0..8).filter_map(|n| pair.out(B, 6000 + n)).collect();
    assert_eq!(second.len(), 4);
    assert!(first.is_disjoint(&second));
    let decided = pair.managers[&3].status().services[0].counts.decided;
    assert_eq!(decided, 4, "by the first one");
    for _ in 0..130 {
        pair.advance(SECOND);
        // Those that live go on.
        for n in 0..8 {
            pair.out(B, 6000 + n);
        }
    }
    let all: BTreeSet<u16> = (0..8).filter_map(|n| pair.out(B, 6000 + n)).collect();
    assert_eq!(all, (5000..5008).collect());
}
