//! What the policy reference says under "What happens when" of answers that are wrong, of tables that are
//! full and of a switch that goes: the outcome for the flow and for its packet, and the counter.

use super::acceptance::two_doors;
use super::*;
use crate::counters::Drop;

/// A new flow of which the manager has been asked.
fn ask(w: &mut World, port: u16) -> (Tuple, u64) {
    let flow = client(9, port);
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    let asked = interests(w);
    assert_eq!(asked.len(), 1);
    (flow, asked[0].request)
}

/// The answer was denied for this reason: the manager knows it, nothing is in, the packet took the floor.
#[track_caller]
fn assert_denied(w: &mut World, reason: Reason, flows_before: usize) {
    let denied = denials(w);
    assert_eq!(denied.iter().map(|d| d.1).collect::<Vec<_>>(), [reason]);
    assert!(w.take_left().is_empty(), "the packet went on");
    let c = w.agent.counters();
    assert_eq!(c.denials[&reason], 1);
    assert_eq!(c.drops[&Drop::Floor], 1, "{:?}", c.drops);
    assert_eq!(c.held.now, 0);
    assert_eq!(w.agent.flows().len(), flows_before);
    assert_eq!(w.switch.fixed.len(), 2 * flows_before);
    assert_eq!(w.agent.in_use().slots, 2 * flows_before);
}

// When a table of the switch is full
#[test]
fn a_flow_for_which_a_table_has_no_room_takes_the_floor_and_those_that_are_in_stay() {
    let mut w = served();
    w.switch.fixed_size = 2;
    let first = connect(&mut w, 1000);
    w.take_left();
    let (second, request) = ask(&mut w, 1001);
    let affinities = balanced(second, 2, SERVER);
    verdict(&mut w, request, Decision::Resume, affinities);
    assert_denied(&mut w, Reason::TableFull, 1);
    w.receive(1, &tcp(1, &first, flags::ACK, b"data"));
    assert_eq!(w.take_left(), [(2, to_server(first))]);
}

// When a table of the switch is full
#[test]
fn a_flow_beyond_the_plans_number_of_affinities_takes_a_floor_that_lets_it_pass() {
    let mut p = plan();
    p.services[0].forward.fixed_size = 1;
    p.services[0].fallback = signalbox_lower::plan::Fallback::Route;
    let mut w = served_with(p);
    connect(&mut w, 1000);
    w.take_left();
    let (second, request) = ask(&mut w, 1001);
    let affinities = balanced(second, 2, SERVER);
    verdict(&mut w, request, Decision::Resume, affinities);
    let c = w.agent.counters();
    assert_eq!((c.denials[&Reason::TableFull], c.floor_passed), (1, 1));
    assert_eq!(w.agent.flows().len(), 1);
}

// When a manager asks for what the policy does not let its service install
#[test]
fn an_answer_that_no_criteria_cover_leaves_the_packet_to_the_floor() {
    let mut w = served();
    let (flow, request) = ask(&mut w, 1000);
    let stranger = balanced(flow, 1, ([10, 0, 9, 9], 8080));
    verdict(&mut w, request, Decision::Resume, stranger);
    assert_denied(&mut w, Reason::NotCovered, 0);
}

// When a manager asks for what the target cannot do
#[test]
fn an_answer_that_the_target_cannot_carry_out_leaves_the_packet_to_the_floor() {
    let mut w = served();
    let (flow, request) = ask(&mut w, 1000);
    let mut affinities = balanced(flow, 1, SERVER);
    affinities[0].actions.push(Action::MarkDscp(46));
    verdict(&mut w, request, Decision::Resume, affinities);
    assert_denied(&mut w, Reason::Unsupported, 0);
}

// When a manager asks for what would end another live flow
#[test]
fn an_answer_that_takes_another_live_flows_replies_leaves_the_packet_to_the_floor() {
    let mut w = served_with(two_doors());
    let first = connect(&mut w, 1000);
    let back = to_server(first).reversed();
    w.receive(2, &tcp(2, &back, flags::SYN | flags::ACK, b""));
    w.take_left();
    let second = Tuple { dport: 80, ..first };
    w.receive(1, &tcp(1, &second, flags::SYN, b""));
    let request = interests(&mut w)[0].request;
    let affinities = balanced(second, 2, SERVER);
    verdict(&mut w, request, Decision::Resume, affinities);
    assert_denied(&mut w, Reason::Conflict, 1);
    w.receive(2, &tcp(2, &back, flags::ACK, b"data"));
    assert_eq!(w.take_left(), [(1, first.reversed())]);
}

// When a manager answers for a service that it does not serve, or with an old epoch
#[test]
fn an_answer_of_an_old_epoch_has_no_effect_and_the_packet_takes_the_floor_when_its_time_is_up() {
    let mut w = served();
    let (flow, request) = ask(&mut w, 1000);
    let heartbeat = Heartbeat {
        sequence: 2,
        criteria_version: 1,
    };
    say(&mut w, LB, 5, ManagerBody::Heartbeat(heartbeat));
    w.said.clear();
    let affinities = balanced(flow, 1, SERVER);
    verdict(&mut w, request, Decision::Resume, affinities);
    w.advance(201 * MS);
    assert_denied(&mut w, Reason::OldEpoch, 0);
}

// When a manager answers for a service that it does not serve, or with an old epoch
#[test]
fn an_answer_of_who_does_not_serve_the_service_has_no_effect() {
    let mut p = plan();
    p.managers.push(signalbox_lower::plan::ManagerPlan {
        name: "other".into(),
        serves: Vec::new(),
        backs: Vec::new(),
    });
    let mut w = served_with(p);
    let stranger = 2;
    w.feed(Input::SessionOpened(stranger));
    let greeting = Hello {
        version: VERSION,
        manager: "other".into(),
        plan_hash: 0,
        claims: Vec::new(),
        instance: 0,
    };
    say(&mut w, stranger, 1, ManagerBody::Hello(greeting));
    w.said.clear();
    let (flow, request) = ask(&mut w, 1000);
    let answer = Verdict {
        request,
        decision: Decision::Resume,
        affinities: balanced(flow, 1, SERVER),
    };
    say(&mut w, stranger, 1, ManagerBody::Verdict(answer));
    w.advance(201 * MS);
    assert_denied(&mut w, Reason::NotServing, 0);
}

// When a manager's message makes no sense
#[test]
fn an_answer_that_contradicts_itself_leaves_the_packet_to_the_floor() {
    let mut w = served();
    let (flow, request) = ask(&mut w, 1000);
    let mut affinities = balanced(flow, 1, SERVER);
    affinities.extend(balanced(flow, 2, ([10, 0, 2, 10], 8080)));
    verdict(&mut w, request, Decision::Resume, affinities);
    assert_denied(&mut w, Reason::Malformed, 0);
}

// When a switch vanishes
#[test]
fn packets_that_wait_when_the_switch_vanishes_are_dropped_and_what_is_decided_is_kept() {
    let mut w = served();
    connect(&mut w, 1000);
    w.take_left();
    let (second, request) = ask(&mut w, 1001);
    let reason = "gone".into();
    w.feed(Input::SwitchDown { reason });
    let c = w.agent.counters();
    assert_eq!((c.switch_lost, c.drops[&Drop::NoSwitch]), (1, 1));
    assert_eq!(c.held.now, 0);
    assert_eq!(w.agent.flows().len(), 1);
    // An answer that comes nevertheless has no effect: the next packet asks again.
    w.said.clear();
    let affinities = balanced(second, 2, SERVER);
    verdict(&mut w, request, Decision::Resume, affinities);
    assert_eq!(denials(&w), [(Subject::Verdict(request), Reason::NoSwitch)]);
    w.switch_up();
    assert_eq!(w.switch.fixed.len(), 2);
    assert!(w.take_left().is_empty(), "what was dropped is not sent");
    assert_eq!(ask(&mut w, 1001).0, second);
}

// When a switch vanishes
#[test]
fn questions_for_neighbours_that_find_no_switch_are_no_dropped_packets() {
    let mut w = served();
    connect(&mut w, 1000);
    w.take_left();
    let reason = "gone".into();
    w.feed(Input::SwitchDown { reason });
    w.advance(Duration::from_secs(3600));
    assert_eq!(w.agent.counters().drops.get(&Drop::NoSwitch), None);
}

// When a switch returns
#[test]
fn a_switch_that_returns_gets_what_it_lacks_and_loses_what_is_over() {
    let mut w = served();
    let kept = connect(&mut w, 1000);
    let over = connect(&mut w, 1001);
    w.take_left();
    let reason = "gone".into();
    w.feed(Input::SwitchDown { reason });
    w.switch.fixed.retain(|key, _| key.tuple != kept);
    // The half-open lease of both ends meanwhile, and one is decided anew.
    w.advance(11 * S);
    beat(&mut w, 1);
    w.switch.ready = false;
    w.switch_up();
    assert!(w.agent.is_ready() && w.switch.ready);
    w.advance(20 * S);
    assert!(w.switch.fixed.is_empty(), "{kept} and {over} are over");
    assert_eq!(w.agent.counters().refused_updates, 0);
}
