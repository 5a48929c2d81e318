//! Agents that go, come back and start again, and managers that must know what still lives.

use std::sync::Arc;

use signalbox_agent::message::{Denied, Reason, Subject};
use signalbox_agent::{Agent, Target};
use signalbox_lower::plan::Masked;

use super::*;

fn short_leases() -> Plan {
    let mut plan = plan();
    let limits = &mut plan.services[0].limits;
    limits.half_open_ms = 200;
    limits.idle_ms = 400;
    plan
}

#[test]
fn a_flow_that_ended_while_its_agent_was_away_is_gone_when_the_agent_is_back() {
    let mut net = calm(&short_leases(), 1);
    net.send(0, &client(9, 2000), flags::SYN).unwrap();
    net.cut(0, 0);
    net.advance(Duration::from_millis(300));
    assert!(net.agents[0].switch.fixed.is_empty(), "its lease is over");
    assert_eq!(net.live(0), 1, "nobody has told");
    net.mend(0, 0);
    assert_eq!(net.live(0), 0);
    // A new connection on the tuple is decided afresh.
    net.send(0, &client(9, 2000), flags::SYN).unwrap();
    assert_eq!(net.counts(0).decided, 2);
}

#[test]
fn a_flow_that_lives_on_while_its_agent_is_away_is_known_when_the_agent_is_back() {
    let mut net = calm(&plan(), 1);
    let server = net.send(0, &client(9, 2000), flags::SYN);
    net.cut(0, 0);
    net.advance(Duration::from_millis(100));
    net.mend(0, 0);
    assert_eq!(net.live(0), 1);
    assert_eq!(net.send(0, &client(9, 2000), flags::ACK), server);
    assert_eq!(net.counts(0).decided, 1);
    // What the agent says of it now still counts.
    net.advance(Duration::from_secs(16));
    assert_eq!(net.live(0), 0);
}

#[test]
fn an_agent_that_does_not_come_back_takes_its_flows_with_it() {
    let mut net = calm(&short_leases(), 2);
    net.send(0, &client(9, 2000), flags::SYN).unwrap();
    net.cut(0, 0);
    net.advance(Duration::from_millis(700));
    assert_eq!(net.live(0), 1);
    net.advance(Duration::from_millis(200));
    assert_eq!(net.live(0), 0, "after two idle leases");
    // It is remembered for as long again, and looked for with the next heartbeat.
    net.advance(Duration::from_secs(2));
    assert_eq!(net.managers[0].status().services[0].flows, 0);
}

#[test]
fn a_flow_that_a_restarted_agent_found_on_its_switch_ends_like_any_other() {
    let plan = short_leases();
    let mut net = calm(&plan, 1);
    let flow = client(9, 2000);
    let server = net.send(0, &flow, flags::SYN).unwrap();
    net.cut(0, 0);
    net.agents[0].agent = Agent::new("agent-1", Arc::new(plan), Target::switch());
    net.agents[0].switch_up();
    net.mend(0, 0);
    assert_eq!(net.send(0, &flow, flags::ACK), Some(server));
    assert_eq!(net.live(0), 1);
    net.advance(Duration::from_millis(700));
    assert!(net.agents[0].switch.fixed.is_empty());
    assert_eq!(net.live(0), 0);
    net.send(0, &flow, flags::SYN).unwrap();
    assert_eq!(net.counts(0).decided, 2, "not the old decision for ever");
}

/// The plan for UDP, with checks of the servers.
fn udp() -> Plan {
    let mut plan = short_leases();
    let service = &mut plan.services[0];
    let reply = service.reply.as_mut().unwrap();
    for criterion in service
        .forward
        .criteria
        .iter_mut()
        .chain(&mut reply.criteria)
    {
        for cube in &mut criterion.cubes {
            cube.proto = Some(Masked {
                value: 17,
                mask: 0xff,
            });
        }
    }
    service.balance.as_mut().unwrap().check = Some(CheckPlan {
        kind: CheckKind::Tcp,
        every_ms: 20,
        timeout_ms: 20,
        rise: 2,
        fall: 2,
    });
    plan
}

#[test]
fn a8_7_a_udp_flow_that_is_gone_keeps_its_server_unless_that_is_dead() {
    let flow = Tuple {
        proto: 17,
        ..client(9, 2000)
    };
    let mut net = calm(&udp(), 1);
    let server = net.send(0, &flow, 0).unwrap();
    net.advance(Duration::from_millis(350));
    assert_eq!(net.live(0), 0, "its lease is over");
    assert_eq!(net.send(0, &flow, 0), Some(server), "and it goes on");
    net.alive.retain(|alive| *alive != server);
    net.advance(Duration::from_millis(350));
    let other = net.send(0, &flow, 0).unwrap();
    assert_ne!(other, server);
    assert_eq!(net.counts(0).decided, 2);
}

#[test]
fn a_denial_of_something_else_forgets_no_flow() {
    let mut net = calm(&plan(), 1);
    let flow = client(9, 2000);
    net.send(0, &flow, flags::SYN).unwrap();
    net.cut(0, 0);
    net.mend(0, 0);
    // The agent's first question had number 1.
    for subject in [
        Subject::Criteria(1),
        Subject::Inject(1),
        Subject::Inject(0),
        Subject::Heartbeat(1),
        Subject::List(1),
        Subject::Verdict(0),
        Subject::Verdict(1),
    ] {
        let denied = Denied {
            subject,
            reason: Reason::NoSwitch,
            text: "no".into(),
        };
        net.hear(0, 0, AgentBody::Denied(denied));
    }
    assert_eq!(net.live(0), 1);
    net.agents[0].switch.fixed.clear();
    assert_eq!(net.managers[0].status().services[0].flows, 1);
}

#[test]
fn a_denied_decision_is_forgotten_and_one_that_was_repeated_is_not() {
    let mut net = calm(&plan(), 2);
    // The agent of this flow denies: its table is full.
    net.agents[0].switch.fixed_size = 0;
    let flow = client(9, 2000);
    assert_eq!(net.send(0, &flow, flags::SYN), None);
    assert_eq!((net.live(0), net.counts(0).denied), (0, 1));
    let server = net.send(1, &flow, flags::SYN);
    assert_eq!(net.counts(0).decided, 2);
    // Now it is another agent's as well, which goes on.
    assert_eq!(net.send(0, &flow, flags::SYN), None);
    assert_eq!((net.live(0), net.counts(0).denied), (1, 2));
    assert_eq!(net.send(1, &flow, flags::ACK), server);
    assert_eq!(net.counts(0).decided, 2);
}
