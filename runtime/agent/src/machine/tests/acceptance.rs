//! What an agent denies, and that a denial has no effect.

use super::*;

fn install(w: &mut World, affinities: Vec<FixedAffinity>) {
    say(
        w,
        LB,
        1,
        ManagerBody::Install {
            request: 77,
            affinities,
        },
    );
}

fn assert_denied(w: &mut World, reason: Reason) {
    assert_eq!(denials(w), [(Subject::Install(77), reason)]);
    assert!(w.switch.fixed.is_empty());
    assert_eq!(w.agent.counters().denials[&reason], 1);
    assert_eq!(w.agent.counters().fixed.now, 0);
}

#[test]
fn an_affinity_that_no_criteria_cover_is_denied() {
    let mut w = served();
    let elsewhere = Tuple {
        dport: 80,
        ..client(9, 1000)
    };
    install(&mut w, balanced(elsewhere, 1, SERVER));
    assert_denied(&mut w, Reason::NotCovered);
}

#[test]
fn a_translation_to_a_stranger_is_denied() {
    let mut w = served();
    let mut list = balanced(client(9, 1000), 1, ([10, 0, 9, 9], 8080));
    list.truncate(1);
    install(&mut w, list);
    assert_denied(&mut w, Reason::NotCovered);
}

#[test]
fn a2_2_an_action_that_the_target_cannot_do_is_denied() {
    for action in [Action::Adjust(Adjust::default()), Action::MarkDscp(46)] {
        let mut w = served();
        let mut list = balanced(client(9, 1000), 1, SERVER);
        list[0].actions = vec![action];
        install(&mut w, list);
        assert_denied(&mut w, Reason::Unsupported);
    }
}

#[test]
fn a_full_table_is_denied_and_the_reply_entry_taken_back() {
    let mut w = served();
    w.switch.fixed_size = 0;
    install(&mut w, balanced(client(9, 1000), 1, SERVER));
    assert_denied(&mut w, Reason::TableFull);
    assert!(w.agent.flows().is_empty());
}

#[test]
fn a_manager_that_does_not_serve_the_service_is_refused() {
    let mut w = served();
    w.feed(Input::SessionOpened(2));
    say(&mut w, 2, 1, hello("lb-2", 1));
    assert_eq!(w.closed, [2]);
    assert_eq!(w.agent.counters().refused_logins, 1);
}

#[test]
fn a9_9_an_old_epoch_is_denied_and_a_new_one_takes_over() {
    let mut w = served();
    beat(&mut w, 1);
    say(
        &mut w,
        LB,
        5,
        ManagerBody::Heartbeat(Heartbeat {
            sequence: 2,
            criteria_version: 1,
        }),
    );
    w.said.clear();
    install(&mut w, balanced(client(9, 1000), 1, SERVER));
    assert_denied(&mut w, Reason::OldEpoch);
}

#[test]
fn criteria_beyond_the_plan_are_denied() {
    let mut w = World::new(plan());
    w.feed(Input::SessionOpened(LB));
    say(&mut w, LB, 1, hello("lb-1", 1));
    let mut wide = criteria(&plan(), 3);
    wide.list[0].cubes[0].dport = None;
    say(&mut w, LB, 1, ManagerBody::Criteria(wide));
    assert_eq!(denials(&w), [(Subject::Criteria(3), Reason::NotCovered)]);
    assert!(w.switch.criteria.is_empty());
}

#[test]
fn a1_7_installing_again_loses_and_doubles_nothing() {
    let mut w = served();
    let flow = connect(&mut w, 1000);
    w.receive(1, &tcp(1, &flow, flags::ACK, b"abc"));
    let before = w.switch.fixed.clone();
    install(&mut w, balanced(flow, 1000, SERVER));
    assert_eq!(w.switch.fixed, before);
    w.feed(Input::Refresh);
    assert_eq!(w.agent.flows()[0].forward.packets, 2);
    assert_eq!(w.agent.counters().fixed.now, 2);
}

/// A plan whose service listens on two ports.
pub(super) fn two_doors() -> Plan {
    let mut p = plan();
    let mut cube = p.services[0].forward.criteria[0].cubes[0].clone();
    cube.dport = Some(signalbox_lower::plan::Masked {
        value: 80,
        mask: 0xffff,
    });
    p.services[0].forward.criteria[0].cubes.push(cube);
    p
}

#[test]
fn a_second_connection_of_a_client_does_not_end_the_first_when_the_server_sees_them_alike() {
    // Same client port, same server, another port of the service: the replies look the same.
    let mut w = served_with(two_doors());
    let flow = connect(&mut w, 1000);
    let back = to_server(flow).reversed();
    w.receive(2, &tcp(2, &back, flags::SYN | flags::ACK, b""));
    w.take_left();
    let second = Tuple { dport: 80, ..flow };
    let elsewhere = ([10, 0, 2, 10], 8080);
    install(&mut w, balanced(second, 2, SERVER));
    assert_eq!(denials(&w), [(Subject::Install(77), Reason::Conflict)]);
    w.receive(2, &tcp(2, &back, flags::ACK, b"data"));
    assert_eq!(w.take_left(), [(1, flow.reversed())]);
    w.receive(1, &tcp(1, &flow, flags::ACK, b"data"));
    assert_eq!(w.take_left(), [(2, to_server(flow))]);

    install(&mut w, balanced(second, 2, elsewhere));
    assert_eq!(w.agent.flows().len(), 2);

    // Once the first has closed, its tuple is free.
    w.receive(1, &tcp(1, &flow, flags::RST, b""));
    w.said.clear();
    let third = client(9, 1000);
    install(&mut w, balanced(third, 3, SERVER));
    assert_eq!(denials(&w), []);
}

#[test]
fn a_request_that_is_denied_for_its_second_flow_has_not_installed_the_first() {
    let mut p = plan();
    p.services[0].forward.fixed_size = 1;
    let mut w = served_with(p);
    let mut list = balanced(client(9, 1000), 1, SERVER);
    list.extend(balanced(client(9, 2000), 2, SERVER));
    install(&mut w, list);
    assert_denied(&mut w, Reason::TableFull);
    install(&mut w, balanced(client(9, 1000), 1, SERVER));
    assert_eq!(w.switch.fixed.len(), 2, "no slot has leaked");
}

#[test]
fn two_flows_of_a_request_cannot_want_one_tuple() {
    let mut w = served_with(two_doors());
    let flow = client(9, 1000);
    let mut list = balanced(flow, 1, SERVER);
    list.extend(balanced(Tuple { dport: 80, ..flow }, 2, SERVER));
    install(&mut w, list);
    assert_denied(&mut w, Reason::Malformed);
}

#[test]
fn a_decision_for_which_there_is_no_room_leaves_the_old_one_in_force() {
    let mut p = plan();
    p.services[0].forward.fixed_size = 1;
    let mut w = served_with(p);
    let flow = connect(&mut w, 1000);
    let other = ([10, 0, 2, 10], 8080);
    install(&mut w, balanced(flow, 2, other));
    assert_eq!(denials(&w), [(Subject::Install(77), Reason::TableFull)]);
    w.take_left();
    w.receive(1, &tcp(1, &flow, flags::ACK, b"x"));
    assert_eq!(w.take_left(), [(2, to_server(flow))]);
}

#[test]
fn a_denied_dispatch_pins_no_neighbour() {
    let mut w = served();
    let mut list = balanced(client(9, 1000), 1, SERVER);
    let next_hop = IpAddr::from([10, 0, 2, 11]);
    let tunnel = Tunnel::None;
    list[0].actions = vec![Action::Dispatch { next_hop, tunnel }];
    list[1].actions = vec![Action::MarkDscp(1)];
    let asked = w.switch.log.len();
    install(&mut w, list);
    assert_denied(&mut w, Reason::Unsupported);
    assert_eq!(w.switch.log.len(), asked);
    assert!(
        w.agent.next_deadline().is_none_or(|d| d > w.now + 2 * S),
        "nobody is asked for"
    );
}

#[test]
fn another_protocol_version_and_another_plan_are_refused() {
    for (version, plan_hash, reason) in [
        (2, 0, Reason::WrongVersion),
        (VERSION, 5, Reason::WrongPlan),
    ] {
        let mut w = World::new(plan());
        w.feed(Input::SessionOpened(LB));
        let hello = Hello {
            instance: 0,
            version,
            manager: "lb-1".into(),
            plan_hash,
            claims: Vec::new(),
        };
        say(&mut w, LB, 0, ManagerBody::Hello(hello));
        assert!(matches!(
            &w.said[0].1.body,
            AgentBody::Refused { reason: r, .. } if *r == reason
        ));
    }
}
