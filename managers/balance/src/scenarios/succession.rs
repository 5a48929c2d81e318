//! A manager that follows on another of its name, and one that gets another plan.

use std::sync::Arc;

use signalbox_agent::message::Reason;

use super::*;

/// The epoch of the manager's one service.
fn epoch(net: &Net, m: usize) -> u64 {
    net.managers[m].status().services[0].epoch
}

fn denied(net: &Net) -> u64 {
    (net.agents.iter())
        .flat_map(|w| w.agent.counters().denials.into_values())
        .sum()
}

/// The plan without its last server.
fn smaller() -> Plan {
    let mut plan = plan();
    let service = &mut plan.services[0];
    let gone = service.balance.as_mut().unwrap().servers.pop().unwrap();
    service.reply.as_mut().unwrap().criteria.retain(|c| {
        let of_it = |cube: &signalbox_lower::plan::Cube| {
            cube.src.is_some_and(|src| src.value == gone.address)
        };
        !c.cubes.iter().any(of_it)
    });
    plan
}

#[test]
fn a_restarted_manager_without_a_store_is_not_denied_as_old() {
    let plan = plan();
    let mut net = calm(&plan, 2);
    let flow = client(9, 2000);
    let server = net.send(0, &flow, flags::SYN);
    for (m, expected) in [(1, 2), (2, 3)] {
        net.stop(m - 1);
        net.start(manager(&plan, 0), Faults::none());
        net.settle();
        assert_eq!(epoch(&net, m), expected);
        net.advance(Duration::from_secs(5));
        // It decides, and knows what was decided before it.
        assert!(
            net.send(1, &client(9, 3000 + m as u16), flags::SYN)
                .is_some()
        );
        assert_eq!(net.send(1, &flow, flags::ACK), server);
    }
    assert_eq!(denied(&net), 0);
}

#[test]
fn an_agent_that_was_out_of_reach_and_remembers_a_higher_epoch_is_outbid_once() {
    let plan = plan();
    let mut net = calm(&plan, 2);
    net.stop(0);
    // Someone has been with the second agent only, many times.
    net.start(manager(&plan, 9), Faults::none());
    net.cut(0, 1);
    net.settle();
    net.stop(1);
    // The next one reaches the first agent only, and later the second.
    net.start(manager(&plan, 0), Faults::none());
    net.cut(1, 2);
    net.settle();
    assert_eq!(epoch(&net, 2), 2);
    net.mend(1, 2);
    assert_eq!(epoch(&net, 2), 10);
    net.advance(Duration::from_secs(5));
    assert_eq!(epoch(&net, 2), 10, "and no higher");
    for a in 0..2 {
        assert!(
            net.send(a, &client(9, 2000 + a as u16), flags::SYN)
                .is_some()
        );
    }
    assert_eq!(denied(&net), 0);
}

#[test]
fn of_two_managers_of_one_name_the_earlier_one_is_told_so_once_and_no_epoch_rises() {
    let plan = plan();
    let mut net = calm(&plan, 1);
    net.stop(0);
    net.start(manager(&plan, 0).with_instance(100), Faults::none());
    net.settle();
    net.start(manager(&plan, 0).with_instance(200), Faults::none());
    net.settle();
    assert_eq!((epoch(&net, 1), epoch(&net, 2)), (2, 3));
    // The earlier one comes back, as its program does when a session ends.
    net.agents[0].feed(ToTheAgent::SessionOpened(2));
    net.managers[1].handle(net.now, Input::Disconnected(0));
    let out = net.managers[1].handle(net.now, Input::Connected(0));
    for output in out {
        if let Output::Message(_, message) = output {
            net.agents[0].feed(ToTheAgent::Message(2, message));
        }
    }
    let refusal = (net.agents[0].said.iter())
        .find(|(to, m)| *to == 2 && matches!(m.body, AgentBody::Refused { .. }))
        .map(|(_, m)| m.clone())
        .unwrap();
    let said = net.managers[1].handle(net.now, Input::Message(0, refusal));
    let superseded = |o: &Output| {
        matches!(
            o,
            Output::Refused {
                reason: Reason::Superseded,
                ..
            }
        )
    };
    assert!(said.iter().any(superseded), "{said:?}");
    net.advance(Duration::from_secs(5));
    assert_eq!(epoch(&net, 2), 3);
    assert!(net.send(0, &client(9, 2000), flags::SYN).is_some());
}

#[test]
fn another_plan_leaves_a_manager_its_memory_and_what_it_knows_of_its_servers() {
    let old = plan();
    let mut net = calm(&old, 1);
    let flow = client(9, 2000);
    let server = net.send(0, &flow, flags::SYN).unwrap();
    net.managers[0].handle(net.now, Input::Tick);
    let new = smaller();
    net.agents[0].apply(new.clone());
    // What it said to the session that has ended.
    net.agents[0].said.clear();
    let balance = Balance::new(&new.services[0]).unwrap();
    let out = net.managers[0].replan(
        net.now,
        &new,
        vec![("web-lb".into(), 0, 0, Box::new(balance) as _)],
    );
    assert!(out.contains(&Output::Close(0)), "sessions are opened anew");
    net.mend(0, 0);
    assert_eq!(epoch(&net, 0), 1, "it is the same manager");
    let status = net.managers[0].status();
    assert_eq!(status.services[0].targets.len(), 2);
    assert_eq!(net.send(0, &flow, flags::ACK), Some(server));
    assert_eq!((net.live(0), net.counts(0).decided), (1, 1));
    // New flows go to the servers that are left.
    let plan = Arc::new(new);
    let servers = &plan.services[0].balance.as_ref().unwrap().servers;
    for port in 3000..3012 {
        let to = net.send(0, &client(9, port), flags::SYN).unwrap();
        assert!(servers.iter().any(|s| s.address == to), "{to}");
    }
}
