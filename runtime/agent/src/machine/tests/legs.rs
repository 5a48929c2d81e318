//! What a manager carries on in others' names, when it dies: both ends are reset in the numbers that they wait
//! for, and nobody else is.

use super::adjusting::{gate, joined_flow, to_server};
use super::*;
use crate::packet::{self, u32_at};

pub(super) const BEFORE: SessionId = LB;
pub(super) const AFTER: SessionId = LB + 10;

/// A manager's process comes.
pub(super) fn comes(w: &mut World, session: SessionId, instance: u64) {
    w.feed(Input::SessionOpened(session));
    let ManagerBody::Hello(mut hello) = hello("lb-1", 1) else {
        panic!("a hello");
    };
    hello.instance = instance;
    say(w, session, 1, ManagerBody::Hello(hello));
    let mut criteria = criteria(&gate(), instance);
    for one in &mut criteria.list {
        (one.asking, one.action) = (Asking::EveryPacket, StaticAction::Pass);
    }
    say(w, session, 1, ManagerBody::Criteria(criteria));
}

pub(super) fn world() -> World {
    let mut w = World::new(gate());
    comes(&mut w, BEFORE, 1);
    w
}

/// The manager sends a segment in the name of one end to the other.
pub(super) fn inject(w: &mut World, part: Part, flags: u8, seq: u32, payload: &[u8]) {
    let flow = to_server(1000);
    let (from, port) = match part {
        Part::Forward => (flow, 1),
        Part::Reply => (flow.reversed(), 2),
    };
    let mut ip = tcp(1, &from, flags, payload)[14..].to_vec();
    ip[24..28].copy_from_slice(&seq.to_be_bytes());
    let body = ManagerBody::Inject(Inject {
        request: 1,
        packet: ip.into(),
        place: Place::Stage {
            stage: 1,
            part,
            state: CarriedState {
                ingress_port: port,
                reply: part == Part::Reply,
                ..CarriedState::default()
            },
            answered: true,
        },
    });
    say(w, BEFORE, 1, body);
    w.left.clear();
}

/// The RSTs that have left: the port, where they go, and their numbers.
pub(super) fn resets(w: &mut World) -> Vec<(u16, IpAddr, u32)> {
    let left = std::mem::take(&mut w.left).into_iter();
    left.filter_map(|(port, frame)| {
        let view = packet::view(&frame)?;
        let seq = u32_at(&frame, view.l4 + 4)?;
        (view.flags == flags::RST).then_some((port, view.tuple.dst, seq))
    })
    .collect()
}

/// A connection is open at both ends, with data both ways.
fn carried(w: &mut World) {
    inject(w, Part::Forward, flags::SYN, 99, b"");
    inject(w, Part::Forward, flags::ACK, 100, b"hello");
    inject(w, Part::Reply, flags::ACK, 700, b"hi");
    // Sent again, and an end is asked whether it is there.
    inject(w, Part::Forward, flags::ACK, 100, b"he");
    inject(w, Part::Reply, flags::ACK, 701, b"");
}

fn both() -> [(u16, IpAddr, u32); 2] {
    let flow = to_server(1000);
    [(2, flow.dst, 105), (1, flow.src, 702)]
}

// A3.13
#[test]
fn the_next_manager_finds_what_the_last_one_carried_on_reset_at_both_ends() {
    let mut w = world();
    carried(&mut w);
    w.feed(Input::SessionClosed(BEFORE));
    assert_eq!(resets(&mut w), [], "it may come back");
    comes(&mut w, AFTER, 2);
    assert_eq!(resets(&mut w), both());
    assert_eq!(w.agent.counters().legs_cut, 2);
    assert_eq!(w.agent.in_use().legs, 0);
}

// A3.13
#[test]
fn with_no_other_manager_they_are_reset_when_its_criteria_end() {
    let mut w = world();
    carried(&mut w);
    w.feed(Input::SessionClosed(BEFORE));
    w.advance(2 * S);
    assert_eq!(resets(&mut w), []);
    w.advance(2 * S);
    assert_eq!(resets(&mut w), both());
}

#[test]
fn a_manager_that_only_loses_its_session_for_a_moment_goes_on() {
    let mut w = world();
    carried(&mut w);
    w.feed(Input::SessionClosed(BEFORE));
    w.advance(S);
    comes(&mut w, AFTER, 1);
    assert_eq!((resets(&mut w), w.agent.in_use().legs), (vec![], 1));
}

// A3.13
#[test]
fn what_the_switch_has_or_is_over_is_left_alone() {
    let over: [fn(&mut World); 3] = [
        |w| {
            let body = ManagerBody::Install {
                request: 7,
                affinities: joined_flow(to_server(1000)),
            };
            say(w, BEFORE, 1, body);
        },
        |w| inject(w, Part::Forward, flags::RST, 105, b""),
        |w| inject(w, Part::Reply, flags::RST, 702, b""),
    ];
    for end in over {
        let mut w = world();
        carried(&mut w);
        end(&mut w);
        comes(&mut w, AFTER, 2);
        assert_eq!((resets(&mut w), w.agent.in_use().legs), (vec![], 0));
    }
}

#[test]
fn another_connection_on_the_tuple_is_reset_in_its_own_numbers() {
    let mut w = world();
    carried(&mut w);
    // One before the old number, one behind it.
    inject(&mut w, Part::Reply, flags::ACK, 50_000_000, b"");
    inject(&mut w, Part::Forward, flags::SYN, 0xe000_0000, b"");
    comes(&mut w, AFTER, 2);
    let numbers: Vec<_> = resets(&mut w).iter().map(|(.., seq)| *seq).collect();
    assert_eq!(numbers, [0xe000_0001, 50_000_000]);
}

#[test]
fn answers_to_syns_begin_nothing_and_idle_ones_are_forgotten() {
    let mut w = world();
    for (part, flags) in [
        (Part::Reply, flags::SYN | flags::ACK),
        (Part::Reply, flags::RST | flags::ACK),
        (Part::Forward, flags::ACK),
    ] {
        inject(&mut w, part, flags, 699, b"");
        assert_eq!(w.agent.in_use().legs, 0, "{part:?} {flags}");
    }
    carried(&mut w);
    pass(&mut w, 299);
    assert_eq!(w.agent.in_use().legs, 1);
    pass(&mut w, 40);
    assert_eq!(w.agent.in_use().legs, 0);
    // Both FINs: it is over soon.
    carried(&mut w);
    inject(&mut w, Part::Forward, flags::FIN | flags::ACK, 105, b"");
    inject(&mut w, Part::Reply, flags::FIN | flags::ACK, 702, b"");
    pass(&mut w, 41);
    assert_eq!(w.agent.in_use().legs, 0);
}

// A3.13
#[test]
fn a_service_that_has_another_stage_by_another_plan_finds_its_connections_there() {
    let mut w = world();
    carried(&mut w);
    w.apply(super::plans::with_a_guard(gate()));
    assert!(w.agent.is_ready());
    assert_eq!(
        resets(&mut w),
        [],
        "its manager comes back with the new plan"
    );
    w.advance(4 * S);
    assert_eq!(resets(&mut w), both());
    assert_eq!(w.agent.in_use().legs, 0);
}
