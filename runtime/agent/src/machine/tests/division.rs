//! A service that several managers decide for: each has a share with an epoch of its own, and is asked
//! about what its own criteria match.

use std::net::Ipv4Addr;

use signalbox_lower::plan::{Asks, ManagerPlan, MaskedAddr, SharePlan};

use super::*;
use crate::entry::Entry;
use crate::machine::WriteError;

const OTHER: SessionId = 2;

/// lb-1 has the clients with an even address, lb-2 those with an odd one.
fn halves() -> Plan {
    let mut plan = plan();
    plan.managers.push(ManagerPlan {
        name: "lb-2".into(),
        serves: vec!["web-lb".into()],
        backs: Vec::new(),
    });
    let of = |odd: u8| {
        let mut forward = plan.services[0].forward.criteria[0].clone();
        forward.cubes[0].src = Some(MaskedAddr {
            value: Ipv4Addr::new(0, 0, 0, odd).into(),
            mask: Ipv4Addr::new(0, 0, 0, 1).into(),
        });
        let mut reply = plan.services[0].reply.as_ref().unwrap().criteria.clone();
        for cube in reply.iter_mut().flat_map(|c| &mut c.cubes) {
            cube.dst = forward.cubes[0].src;
        }
        Some(Asks {
            forward: vec![forward],
            reply,
        })
    };
    let shares = [("lb-1", of(0)), ("lb-2", of(1))].map(|(manager, asks)| SharePlan {
        asks,
        ..SharePlan::whole(manager)
    });
    plan.services[0].shares = shares.to_vec();
    plan
}

fn claim(manager: &str, share: u32, epoch: u64, standby: bool) -> ManagerBody {
    ManagerBody::Hello(Hello {
        version: VERSION,
        manager: manager.into(),
        plan_hash: 0,
        instance: 0,
        claims: vec![Claim {
            service: "web-lb".into(),
            share,
            epoch,
            standby,
        }],
    })
}

/// What a share's manager asks about in the forward part.
fn half(plan: &Plan, share: u32) -> ManagerBody {
    let mut criteria = criteria(plan, 1);
    criteria.list.retain(|c| c.part == Part::Forward);
    let (forward, _) = plan.services[0].asks(share);
    criteria.list[0].cubes = forward[0].cubes.clone();
    ManagerBody::Criteria(criteria)
}

/// lb-1 has share 0 with epoch 1, the even clients; lb-2 has share 1 with epoch 7, the odd ones.
fn divided() -> World {
    let plan = halves();
    let mut w = World::new(plan.clone());
    for (session, manager, share, epoch) in [(LB, "lb-1", 0, 1), (OTHER, "lb-2", 1, 7)] {
        w.feed(Input::SessionOpened(session));
        say(&mut w, session, 0, claim(manager, share, epoch, false));
        let criteria = half(&plan, share);
        say_of(&mut w, session, share, epoch, criteria);
    }
    assert_eq!(denials(&w), []);
    w.said.clear();
    w
}

fn syn(w: &mut World, host: u8, port: u16) -> Tuple {
    let flow = client(host, port);
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    flow
}

/// Who was asked, with the share and its epoch.
fn asked(w: &World) -> Vec<(SessionId, u32, u64)> {
    (w.said.iter())
        .filter(|(_, m)| matches!(m.body, AgentBody::Interest(_)))
        .map(|(session, m)| (*session, m.share, m.epoch))
        .collect()
}

#[test]
fn a7_1_the_manager_whose_criterion_matches_is_asked() {
    let mut w = divided();
    syn(&mut w, 8, 1000);
    syn(&mut w, 9, 1000);
    assert_eq!(asked(&w), [(LB, 0, 1), (OTHER, 1, 7)]);
    // Once more, half-way to the time-out.
    w.said.clear();
    w.advance(110 * MS);
    assert_eq!(asked(&w), [(LB, 0, 1), (OTHER, 1, 7)]);
}

#[test]
fn a7_5_only_the_manager_that_was_asked_answers() {
    let mut w = divided();
    let flow = syn(&mut w, 9, 1000);
    let request = interests(&mut w)[0].request;
    let body = |to| {
        ManagerBody::Verdict(Verdict {
            request,
            decision: Decision::Resume,
            affinities: balanced(flow, 1, to),
        })
    };
    say_of(&mut w, LB, 0, 1, body(([10, 0, 2, 10], 8080)));
    assert!(w.take_left().is_empty());
    say_of(&mut w, OTHER, 1, 7, body(SERVER));
    assert_eq!(w.take_left(), [(2, to_server(flow))]);
    // What becomes of the flow is told to its share.
    w.said.clear();
    w.receive(1, &tcp(1, &flow, flags::RST, b""));
    w.advance(S);
    let told: Vec<(SessionId, u32)> = (w.said.iter())
        .filter(|(_, m)| matches!(m.body, AgentBody::Report(_)))
        .map(|(session, m)| (*session, m.share))
        .collect();
    assert_eq!(told, [(OTHER, 1)]);
}

#[test]
fn a9_9_an_epoch_of_one_share_is_none_of_another() {
    let mut w = divided();
    beat(&mut w, 1);
    assert_eq!(denials(&w), [], "share 0 is at epoch 1");
    let old = ManagerBody::Heartbeat(Heartbeat {
        sequence: 4,
        criteria_version: 1,
    });
    say_of(&mut w, OTHER, 1, 6, old);
    assert_eq!(denials(&w), [(Subject::Heartbeat(4), Reason::OldEpoch)]);
    let (_, denial) = w.said.last().unwrap();
    assert_eq!((denial.share, denial.epoch), (1, 7));
}

#[test]
fn a9_9_criteria_of_an_older_epoch_ask_whoever_has_the_newer_one() {
    let plan = backed(3_000);
    let mut w = served_with(plan);
    w.feed(Input::SessionOpened(OTHER));
    say(&mut w, OTHER, 0, claim("lb-2", 0, 2, false));
    syn(&mut w, 9, 1000);
    assert_eq!(asked(&w), [(OTHER, 0, 2)]);
}

// A7.1
#[test]
fn a9_2_a_part_whose_manager_has_gone_is_asked_about_nowhere_while_its_lease_lasts() {
    let mut w = divided();
    w.feed(Input::SessionClosed(LB));
    syn(&mut w, 8, 1000);
    assert_eq!(asked(&w), [], "the other part's manager is none of it");
    syn(&mut w, 9, 1000);
    assert_eq!(asked(&w), [(OTHER, 1, 7)]);
}

// A9.3
#[test]
fn a9_1_one_that_stands_by_is_asked_nothing_while_the_first_one_lives() {
    let mut w = served_with(backed(3_000));
    w.feed(Input::SessionOpened(OTHER));
    say(&mut w, OTHER, 0, claim("lb-2", 0, 1, true));
    let mut lower = criteria(&backed(3_000), 1);
    for criterion in &mut lower.list {
        criterion.priority -= 1;
    }
    say(&mut w, OTHER, 1, ManagerBody::Criteria(lower));
    assert_eq!(denials(&w), []);
    w.said.clear();
    syn(&mut w, 9, 1000);
    assert_eq!(asked(&w), [(LB, 0, 1)]);

    // A9.3: a goodbye is quicker than the end of a lease.
    w.said.clear();
    say(&mut w, LB, 1, ManagerBody::Goodbye);
    syn(&mut w, 9, 1001);
    assert_eq!(asked(&w), [(OTHER, 0, 1)]);
}

#[test]
fn a7_5_no_manager_gets_criteria_of_anothers_share() {
    let plan = halves();
    let mut w = World::new(plan.clone());
    w.feed(Input::SessionOpened(LB));
    say(&mut w, LB, 0, claim("lb-1", 0, 1, false));
    say_of(&mut w, LB, 0, 1, half(&plan, 1));
    assert_eq!(denials(&w), [(Subject::Criteria(1), Reason::NotCovered)]);
    say_of(&mut w, LB, 1, 1, half(&plan, 1));
    assert_eq!(
        denials(&w)[1..],
        [(Subject::Criteria(1), Reason::NotServing)]
    );
    assert!(w.switch.criteria.is_empty(), "a denial has no effect");
}

/// A manager decides about a client's new flow.
fn decide(w: &mut World, who: (SessionId, u32, u64), host: u8, number: u64) -> Tuple {
    let flow = syn(w, host, 1000);
    answer(w, who, flow, number);
    w.said.clear();
    flow
}

/// Whoever was asked about a flow decides, and that counts.
fn answer(w: &mut World, who: (SessionId, u32, u64), flow: Tuple, number: u64) {
    let request = interests(w)[0].request;
    let body = ManagerBody::Verdict(Verdict {
        request,
        decision: Decision::Resume,
        affinities: balanced(flow, number, SERVER),
    });
    let (session, share, epoch) = who;
    say_of(w, session, share, epoch, body);
    assert_eq!(w.take_left(), [(2, to_server(flow))]);
}

/// lb-1 alone has decided about a flow of an even and one of an odd client, and is divided then.
fn redivided() -> (World, [Tuple; 2]) {
    let mut w = served();
    let flows = [8, 9].map(|host| decide(&mut w, (LB, 0, 1), host, u64::from(host)));
    divide(&mut w);
    (w, flows)
}

/// What lb-1 has had alone is divided; both managers have the new plan and their criteria in.
fn divide(w: &mut World) {
    let plan = halves();
    w.apply(plan.clone());
    w.said.clear();
    for (session, manager, share) in [(3, "lb-1", 0), (4, "lb-2", 1)] {
        w.feed(Input::SessionOpened(session));
        say(w, session, 0, claim(manager, share, 1, false));
        say_of(w, session, share, 1, half(&plan, share));
    }
    assert_eq!(denials(w), []);
    w.said.clear();
}

fn listed(w: &mut World, session: SessionId, share: u32) -> Vec<Tuple> {
    w.said.clear();
    let body = ManagerBody::ListAffinities { request: 3 };
    say_of(w, session, share, 1, body);
    let lists = w.said.iter().filter_map(|(_, m)| match &m.body {
        AgentBody::Affinities { list, .. } => Some(list),
        _ => None,
    });
    let forward = lists.flatten().filter(|a| a.affinity.part == Part::Forward);
    forward.map(|a| a.affinity.tuple).collect()
}

#[test]
fn a7_3_a_division_leaves_flows_alone_and_moves_new_ones() {
    let (mut w, flows) = redivided();
    for flow in flows {
        w.receive(1, &tcp(1, &flow, flags::ACK, b"x"));
        assert_eq!(w.take_left(), [(2, to_server(flow))], "{flow}");
    }
    assert_eq!(asked(&w), []);
    syn(&mut w, 8, 1001);
    syn(&mut w, 9, 1001);
    assert_eq!(asked(&w), [(3, 0, 1), (4, 1, 1)]);
}

#[test]
fn a7_4_what_becomes_of_a_flow_is_told_to_whoever_has_flows_like_it_now() {
    let (mut w, flows) = redivided();
    assert_eq!(listed(&mut w, 3, 0), [flows[0]]);
    assert_eq!(listed(&mut w, 4, 1), [flows[1]]);
    w.said.clear();
    for flow in flows {
        w.receive(1, &tcp(1, &flow, flags::RST, b""));
    }
    w.advance(S);
    let told: Vec<(SessionId, u32)> = (w.said.iter())
        .filter(|(_, m)| matches!(m.body, AgentBody::Report(_)))
        .map(|(session, m)| (*session, m.share))
        .collect();
    assert_eq!(told, [(3, 0), (4, 1)]);
}

#[test]
fn a7_4_a_division_that_is_taken_back_leaves_no_flow_without_a_manager() {
    let (mut w, flows) = redivided();
    w.apply(plan());
    w.feed(Input::SessionOpened(5));
    say(&mut w, 5, 0, claim("lb-1", 0, 1, false));
    assert_eq!(listed(&mut w, 5, 0), flows);
}

#[test]
fn a7_5_what_a_manager_asked_about_before_a_division_it_is_asked_no_more() {
    let mut w = served();
    w.apply(halves());
    w.said.clear();
    // Nobody has come back: the floor has it, and not the former criteria.
    syn(&mut w, 9, 1000);
    assert_eq!(asked(&w), []);
    assert!(w.switch.criteria.is_empty());
}

#[test]
fn a7_1_a_question_whose_criterion_has_ended_meanwhile_stays_with_its_share() {
    let mut w = divided();
    w.advance(2_950 * MS);
    let flow = syn(&mut w, 9, 1000);
    assert_eq!(asked(&w), [(OTHER, 1, 7)]);
    w.said.clear();
    w.advance(110 * MS);
    assert!(w.switch.criteria.is_empty());
    assert_eq!(asked(&w), [(OTHER, 1, 7)]);
    answer(&mut w, (OTHER, 1, 7), flow, 1);
}

#[test]
fn a7_1_a_packet_whose_criterion_has_ended_on_its_way_is_asked_about_at_its_share() {
    let mut w = divided();
    let criteria = w.switch.criteria.clone();
    w.advance(4 * S);
    w.said.clear();
    w.switch.criteria = criteria;
    syn(&mut w, 8, 1000);
    syn(&mut w, 9, 1000);
    assert_eq!(asked(&w), [(LB, 0, 1), (OTHER, 1, 7)]);
}

#[test]
fn a7_3_a_question_that_is_open_at_a_division_goes_to_the_share_of_its_packet() {
    let mut w = served();
    let flow = syn(&mut w, 9, 1000);
    assert_eq!(asked(&w), [(LB, 0, 1)]);
    divide(&mut w);
    w.advance(110 * MS);
    assert_eq!(asked(&w), [(4, 1, 1)]);
    answer(&mut w, (4, 1, 1), flow, 1);
}

// A6.15
#[test]
fn a9_2_a_syn_on_a_closed_tuple_is_asked_about_at_no_other_share() {
    for (gone, asks) in [(OTHER, &[][..]), (LB, &[(OTHER, 1, 7)])] {
        let mut w = divided();
        let flow = decide(&mut w, (OTHER, 1, 7), 9, 1);
        w.receive(1, &tcp(1, &flow, flags::RST, b""));
        w.feed(Input::SessionClosed(gone));
        w.said.clear();
        syn(&mut w, 9, 1000);
        assert_eq!(asked(&w), asks);
    }
}

/// lb-1 comes anew after a division is taken back, and asks for all clients in its first version.
fn alone_again(w: &mut World) {
    w.apply(plan());
    w.feed(Input::SessionOpened(5));
    say(w, 5, 0, claim("lb-1", 0, 1, false));
    say(w, 5, 1, ManagerBody::Criteria(criteria(&plan(), 1)));
}

#[test]
fn a7_3_a_new_process_numbers_its_criteria_anew_after_a_division() {
    let mut w = divided();
    alone_again(&mut w);
    w.said.clear();
    syn(&mut w, 9, 1000);
    assert_eq!(asked(&w), [(5, 0, 1)]);
}

// A8.6
#[test]
fn a7_3_criteria_on_their_way_at_a_division_do_not_stand_against_those_after_it() {
    let mut w = divided();
    let ManagerBody::Criteria(mut later) = half(&halves(), 0) else {
        panic!("criteria")
    };
    let first = later.list[0].priority;
    w.switch.refuses = |u| {
        let raised = matches!(&u.entry, Entry::Criterion(c) if c.priority == 1234);
        raised.then_some(WriteError::Full)
    };
    w.slow = true;
    for (version, priority) in [(2, 1234), (3, first)] {
        later.version = version;
        later.list[0].priority = priority;
        say_of(&mut w, LB, 0, 1, ManagerBody::Criteria(later.clone()));
    }
    alone_again(&mut w);
    w.release();
    w.said.clear();
    syn(&mut w, 9, 1000);
    assert_eq!(asked(&w), [(5, 0, 1)]);
}

#[test]
fn a7_5_a_manager_ends_no_flow_of_anothers_share() {
    let mut w = divided();
    // Each numbers its flows for itself.
    let even = decide(&mut w, (LB, 0, 1), 8, 1);
    let odd = decide(&mut w, (OTHER, 1, 7), 9, 1);
    for which in [Which::Flow(1), Which::All] {
        say_of(&mut w, LB, 0, 1, ManagerBody::Delete { request: 1, which });
        w.advance(S);
        let left: Vec<Tuple> = w.agent.flows().iter().map(|f| f.flow).collect();
        assert!(left.contains(&odd) && !left.contains(&even), "{left:?}");
    }
}

// A7.4
#[test]
fn a_flow_that_an_agent_finds_on_its_switch_belongs_to_its_share() {
    let (w, flows) = redivided();
    let mut later = World::down(halves(), Target::switch());
    later.switch = w.switch.clone();
    later.switch_up();
    for (session, manager, share) in [(3, "lb-1", 0), (4, "lb-2", 1)] {
        later.feed(Input::SessionOpened(session));
        say(&mut later, session, 0, claim(manager, share, 1, false));
        let found = listed(&mut later, session, share);
        assert_eq!(found, [flows[share as usize]]);
    }
}

#[test]
fn shares_without_end_are_denied() {
    let mut w = served();
    let body = ManagerBody::ListAffinities { request: 3 };
    say_of(&mut w, LB, 1_000_000, 1, body);
    assert_eq!(denials(&w), [(Subject::List(3), Reason::NotServing)]);
}

#[test]
fn a_criterion_can_ask_about_every_packet() {
    let mut w = World::new(plan());
    w.feed(Input::SessionOpened(LB));
    say(&mut w, LB, 1, hello("lb-1", 1));
    let mut every = criteria(&plan(), 1);
    for criterion in &mut every.list {
        criterion.asking = Asking::EveryPacket;
    }
    say(&mut w, LB, 1, ManagerBody::Criteria(every));
    for _ in 0..3 {
        syn(&mut w, 9, 1000);
    }
    let questions: Vec<u64> = interests(&mut w).iter().map(|i| i.request).collect();
    assert_eq!(questions, [1, 2, 3]);
    for request in questions {
        verdict(&mut w, request, Decision::Consume, Vec::new());
    }
    assert_eq!(w.agent.counters().held.now, 0);
}

fn dispatch_to(c: &mut Criterion, next_hop: [u8; 4]) {
    c.action = StaticAction::Dispatch {
        next_hop: next_hop.into(),
        tunnel: Tunnel::None,
    };
}

#[test]
fn what_the_agent_cannot_do_for_a_criterion_is_denied_with_a_reason() {
    type Change = fn(&mut Criterion);
    let changes: [(Change, Reason); 7] = [
        (|c| dispatch_to(c, [10, 0, 1, 99]), Reason::NotCovered),
        (|c| dispatch_to(c, [198, 51, 100, 1]), Reason::NotCovered),
        (|c| c.statistics.flags = true, Reason::Unsupported),
        (|c| c.statistics.on_close = true, Reason::Unsupported),
        (|c| c.statistics.every_ms = Some(99), Reason::Malformed),
        // A2.2
        (|c| c.needs.push(Capability::Adjust), Reason::Unsupported),
        (|c| c.needs.push(Capability::MarkDscp), Reason::Unsupported),
    ];
    for (change, reason) in changes {
        let mut w = World::new(plan());
        w.feed(Input::SessionOpened(LB));
        say(&mut w, LB, 1, hello("lb-1", 1));
        let mut wanted = criteria(&plan(), 1);
        change(&mut wanted.list[0]);
        say(&mut w, LB, 1, ManagerBody::Criteria(wanted));
        assert_eq!(denials(&w), [(Subject::Criteria(1), reason)]);
        assert!(w.switch.criteria.is_empty(), "a denial has no effect");
    }
}
