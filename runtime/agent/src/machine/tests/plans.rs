//! Another plan for an agent that runs.

use signalbox_lower::plan::{
    Cube, Fallback, Kind, Masked, MaskedAddr, NeighbourPlan, PartPlan, RoutePlan, ServicePlan,
};

use super::*;
use crate::machine::PlanChange;

const OTHER: ([u8; 4], u16) = ([10, 0, 2, 10], 8080);

fn change(kept: usize, ended: usize) -> Vec<Result<PlanChange, String>> {
    vec![Ok(PlanChange {
        kept,
        ended,
        refused: Vec::new(),
    })]
}

/// Flows to two servers, both answered.
fn two_flows(w: &mut World) -> [Tuple; 2] {
    [(1000, SERVER), (1001, OTHER)].map(|(port, server)| {
        let flow = client(9, port);
        w.receive(1, &tcp(1, &flow, flags::SYN, b""));
        let asked = interests(w);
        let affinities = balanced(flow, u64::from(port), server);
        verdict(w, asked[0].request, Decision::Resume, affinities);
        flow
    })
}

fn passes(w: &mut World, flow: &Tuple) -> bool {
    w.take_left();
    w.receive(1, &tcp(1, flow, flags::ACK, b"data"));
    w.take_left().len() == 1
}

/// The plan without the server of `OTHER`.
fn with_one_server_less(mut plan: Plan) -> Plan {
    let service = &mut plan.services[0];
    let gone = IpAddr::from(OTHER.0);
    (service.balance.as_mut().unwrap().servers).retain(|s| s.address != gone);
    let is_gone = |c: &Cube| c.src.is_some_and(|s| s.value == gone);
    (service.reply.as_mut().unwrap().criteria).retain(|c| !c.cubes.iter().any(is_gone));
    plan
}

/// The plan with a filter before the service, which lets everything pass but one source.
pub(super) fn with_a_guard(mut plan: Plan) -> Plan {
    plan.program_id += 1;
    for service in &mut plan.services {
        service.stage += 1;
    }
    let deny = Cube {
        src: Some(MaskedAddr {
            value: IpAddr::from([203, 0, 113, 66]),
            mask: IpAddr::from([255; 4]),
        }),
        proto: Some(Masked {
            value: 6,
            mask: 255,
        }),
        ..Cube::default()
    };
    let criterion = |id, priority, action, cube| signalbox_lower::plan::Criterion {
        id,
        label: "rule".into(),
        priority,
        action,
        cubes: vec![cube],
    };
    let limits = plan.services[0].limits.clone();
    let guard = ServicePlan {
        name: "guard".into(),
        kind: Kind::Filter,
        stage: 1,
        shares: Vec::new(),
        forward: PartPlan {
            fixed: None,
            fixed_size: 0,
            criteria_table: "Cascade.guard.wildcard".into(),
            criteria_size: 64,
            stats: "Cascade.guard.stats".into(),
            criteria: vec![
                criterion(1, 1000, CriterionAction::Discard, deny),
                criterion(2, 1, CriterionAction::Pass, Cube::default()),
            ],
        },
        reply: None,
        addresses: Vec::new(),
        fallback: Fallback::Route,
        limits,
        balance: None,
        nat: None,
        gate: None,
        observe: None,
    };
    plan.services.insert(0, guard);
    plan
}

#[test]
fn a_server_less_ends_its_flows_with_a_line_and_no_others() {
    let mut w = served();
    let [kept, ended] = two_flows(&mut w);
    assert!(passes(&mut w, &kept) && passes(&mut w, &ended));
    w.apply(with_one_server_less(plan()));
    assert_eq!(w.plan_changes, change(1, 1));
    assert!(passes(&mut w, &kept));
    assert!(!passes(&mut w, &ended));
    let lines: Vec<_> = w.lines.iter().filter(|l| l.contains("web-lb")).collect();
    assert_eq!(lines.len(), 1, "{:?}", w.lines);
    assert!(lines[0].contains("1 flows"));
    assert_eq!(w.switch.fixed.len(), 2);
}

#[test]
fn routes_and_neighbours_change_in_place_and_nothing_else_is_written() {
    let mut w = served();
    let [flow, _] = two_flows(&mut w);
    let before = w.switch.clone();
    w.switch.log.clear();
    let mut new = plan();
    new.routes.push(RoutePlan {
        prefix: "198.51.100.0/24".parse().unwrap(),
        via: IpAddr::from([10, 0, 1, 10]),
        port: 2,
    });
    new.neighbours.push(NeighbourPlan {
        address: IpAddr::from([10, 0, 2, 77]),
        mac: [2, 7, 7, 7, 7, 7],
        port: 3,
    });
    w.apply(new.clone());
    assert_eq!(w.plan_changes, change(2, 0));
    assert_eq!(w.switch.log.len(), 3, "{:?}", w.switch.log);
    assert_eq!(w.switch.fixed, before.fixed);
    let route = |net: &str| w.switch.routes.get(&net.parse().unwrap()).copied();
    assert_eq!(route("198.51.100.0/24"), route("10.0.1.10/32"));
    let stated = route("10.0.2.77/32").unwrap();
    assert_eq!(w.switch.next_hops[&stated], (3, [2, 7, 7, 7, 7, 7]));
    assert!(passes(&mut w, &flow));
    // And back again: who is not stated any more is asked, and goes only if it does not answer.
    w.apply(plan());
    w.plan_changes.clear();
    assert_eq!(
        w.switch.routes.get(&"198.51.100.0/24".parse().unwrap()),
        None
    );
    assert_eq!(
        w.switch.next_hops.get(&stated).map(|(port, _)| *port),
        Some(3)
    );
    w.advance(10 * S);
    assert_eq!(w.switch.next_hops.get(&stated), None);
    assert_eq!(w.switch.statics, before.statics);
}

#[test]
fn entries_of_the_plan_are_those_of_the_new_one_whichever_came_before() {
    let mut plans = vec![plan(), with_one_server_less(plan())];
    let mut open = plan();
    open.services[0].fallback = Fallback::Route;
    open.services[0]
        .addresses
        .push(IpAddr::from([203, 0, 113, 81]));
    plans.push(open);
    let mut moved = plan();
    moved.ports[2].addresses = vec!["10.0.3.1/24".parse().unwrap()];
    moved.ports[1].mac = [2, 9, 9, 9, 9, 9];
    moved.routes.clear();
    plans.push(moved);
    for a in &plans {
        for b in &plans {
            let mut w = served_with(a.clone());
            two_flows(&mut w);
            w.apply(b.clone());
            assert!(matches!(w.plan_changes.as_slice(), [Ok(c)] if c.refused.is_empty()));
            let fresh = World::new(b.clone());
            assert_eq!(w.switch.statics, fresh.switch.statics);
            // Of neighbours only those that the new plan has on their port.
            for (prefix, id) in &w.switch.routes {
                assert!(
                    w.switch.next_hops.contains_key(id)
                        || b.routes.iter().any(|r| r.prefix == *prefix)
                );
            }
        }
    }
}

#[test]
fn a_service_more_carries_flows_neighbours_and_criteria_over_to_the_new_program() {
    for empty in [false, true] {
        let mut w = served();
        let [one, two] = two_flows(&mut w);
        passes(&mut w, &one);
        w.loads = Some(empty);
        let arps = |w: &World| w.agent.neighbours_known();
        let known = arps(&w);
        w.apply(with_a_guard(plan()));
        assert_eq!(w.plan_changes, change(2, 0), "empty: {empty}");
        assert!(w.agent.is_ready() && w.switch.ready);
        assert_eq!(arps(&w), known);
        assert!(passes(&mut w, &one) && passes(&mut w, &two));
        let back = to_server(one).reversed();
        w.receive(2, &tcp(2, &back, flags::ACK, b""));
        assert_eq!(w.take_left().len(), 1);
        // Every packet has been counted once: a SYN, two more, and the reply.
        w.feed(Input::Refresh);
        let flows = w.agent.flows();
        assert_eq!((flows[0].forward.packets, flows[0].reply.packets), (3, 1));
        assert_eq!(flows[0].stage, 2);
        // The criteria are there until their lease ends, and then they are not.
        assert!(w.switch.criteria.iter().all(|c| c.service == 1));
        assert_eq!(w.switch.criteria.len(), 4);
        w.advance(4 * S);
        assert!(w.switch.criteria.is_empty());
    }
}

#[test]
fn counts_go_on_where_a_larger_table_moves_the_cells() {
    for empty in [false, true] {
        let mut w = served();
        let [one, _] = two_flows(&mut w);
        passes(&mut w, &one);
        w.loads = Some(empty);
        let mut larger = plan();
        larger.program_id += 1;
        larger.services[0].forward.criteria_size *= 2;
        // Somebody before has used the cells that the flows get now.
        for slot in larger.services[0].forward.first_fixed_slot()..8300 {
            let part = Part::Forward;
            let cell = crate::entry::Cell {
                service: 0,
                part,
                slot,
            };
            let totals = Totals {
                packets: 77,
                bytes: 7777,
            };
            w.switch.cells.insert(cell, totals);
        }
        w.apply(larger);
        assert_eq!(w.plan_changes, change(2, 0));
        assert!(passes(&mut w, &one));
        w.feed(Input::Refresh);
        assert_eq!(w.agent.flows()[0].forward.packets, 3, "empty: {empty}");
    }
}

#[test]
fn a_service_less_ends_its_flows_and_its_table_is_left_alone() {
    let mut w = served();
    two_flows(&mut w);
    w.apply(with_a_guard(plan()));
    w.plan_changes.clear();
    let mut only = with_a_guard(plan());
    only.program_id += 1;
    only.services.truncate(1);
    only.managers.clear();
    w.apply(only);
    assert_eq!(w.plan_changes, change(0, 2));
    assert!(w.agent.flows().is_empty() && w.switch.fixed.is_empty());
    assert!(w.agent.is_ready());
}

#[test]
fn a_program_that_the_switch_refuses_changes_nothing() {
    let mut w = served();
    let [flow, _] = two_flows(&mut w);
    w.loads = None;
    let before = w.switch.clone();
    w.apply(with_a_guard(plan()));
    assert_eq!(w.plan_changes, [Err("the switch will not".to_owned())]);
    assert_eq!(w.switch.fixed, before.fixed);
    assert_eq!(w.switch.criteria, before.criteria);
    assert!(passes(&mut w, &flow));
    // And its manager is still heard.
    w.said.clear();
    connect(&mut w, 1002);
    assert_eq!(w.agent.flows().len(), 3);
}

#[test]
fn a_plan_for_a_switch_that_is_away_is_refused() {
    let mut w = served();
    w.feed(Input::SwitchDown {
        reason: "gone".into(),
    });
    w.apply(with_one_server_less(plan()));
    assert!(matches!(w.plan_changes.as_slice(), [Err(why)] if why.contains("away")));
}

#[test]
fn a_manager_is_refused_until_it_has_the_new_plan_and_then_decides_again() {
    let new = with_one_server_less(plan());
    let mut w = served();
    w.apply(new.clone());
    assert_eq!(w.closed, [LB]);
    let greet = |w: &mut World, session, plan: &Plan| {
        w.said.clear();
        w.feed(Input::SessionOpened(session));
        let ManagerBody::Hello(mut hello) = hello("lb-1", 1) else {
            panic!("a hello")
        };
        hello.plan_hash = crate::plan_hash(plan);
        say(w, session, 1, ManagerBody::Hello(hello));
        w.said.iter().find_map(|(_, m)| match m.body {
            AgentBody::Refused { reason, .. } => Some(reason),
            _ => None,
        })
    };
    assert_eq!(greet(&mut w, 7, &plan()), Some(Reason::WrongPlan));
    assert_eq!(greet(&mut w, 8, &new), None);
    say(&mut w, 8, 1, ManagerBody::Criteria(criteria(&new, 2)));
    let flow = client(9, 1003);
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    assert_eq!(interests(&mut w).len(), 1);
}

#[test]
fn a_decision_that_is_on_its_way_when_another_program_comes_is_not_lost() {
    let mut w = served();
    w.slow = true;
    let flow = client(9, 1000);
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    let asked = interests(&mut w);
    verdict(
        &mut w,
        asked[0].request,
        Decision::Resume,
        balanced(flow, 1, SERVER),
    );
    w.apply(with_a_guard(plan()));
    assert!(w.plan_changes.is_empty(), "it waits for the write");
    w.release();
    assert_eq!(w.plan_changes, change(1, 0));
    assert_eq!(w.switch.fixed.len(), 2);
    assert!(passes(&mut w, &flow));
}

#[test]
fn of_two_processes_of_one_name_the_later_one_stays() {
    let mut w = World::new(plan());
    let greet = |w: &mut World, session, instance| {
        w.feed(Input::SessionOpened(session));
        let ManagerBody::Hello(mut hello) = hello("lb-1", 0) else {
            panic!("a hello")
        };
        hello.instance = instance;
        say(w, session, 0, ManagerBody::Hello(hello));
    };
    greet(&mut w, 1, 100);
    greet(&mut w, 2, 200);
    assert_eq!(w.closed, [1], "the later one has taken over");
    greet(&mut w, 3, 100);
    assert_eq!(w.closed, [1, 3], "and is not thrown out again");
    let refused = w.said.iter().any(|(to, m)| {
        *to == 3
            && matches!(
                m.body,
                AgentBody::Refused {
                    reason: Reason::Superseded,
                    ..
                }
            )
    });
    assert!(refused);
    // Its own former session may hang.
    greet(&mut w, 4, 200);
    assert_eq!(w.closed, [1, 3, 2]);
}
