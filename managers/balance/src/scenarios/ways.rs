//! Ways to the server without translation (A6.18 to A6.21): the client's packets as they are, and nothing of
//! the service on their way back.

use signalbox_agent::entry::FixedAction;
use signalbox_agent::message::{Action, Capability, ManagerBody, Tunnel};
use signalbox_lower::plan::Way;

use super::*;

fn direct(way: Way) -> Plan {
    let mut plan = plan();
    let service = &mut plan.services[0];
    service.reply = None;
    service.limits.half_open_ms = 300;
    service.limits.closed_ms = 500;
    service.balance.as_mut().unwrap().way = way;
    plan
}

/// Where a packet of a client goes; again if the neighbour was not known yet, as a client would.
fn port(net: &mut Net, flow: &Tuple, flags: u8) -> Option<u16> {
    for _ in 0..2 {
        net.agents[0].receive(1, &tcp(1, flow, flags, b""));
        net.settle();
        if let Some((port, went)) = net.agents[0].take_left().first() {
            assert_eq!(went, flow, "addresses unchanged");
            return Some(*port);
        }
    }
    None
}

#[test]
fn a6_18_a6_21_dispatched_packets_keep_their_addresses_and_answers_pass_untouched() {
    let mut net = calm(&direct(Way::Mac), 1);
    let flow = client(9, 2000);
    assert_eq!(port(&mut net, &flow, flags::SYN), Some(2));
    let entries: Vec<_> = net.agents[0].switch.fixed.values().collect();
    assert_eq!(entries.len(), 1, "no entry for the way back");
    assert!(matches!(entries[0].action, FixedAction::Dispatch { .. }));
    // The server answers from the service's address; nobody asks about it.
    let asked = net.counts(0).interest_packets;
    net.agents[0].receive(2, &tcp(2, &flow.reversed(), flags::SYN | flags::ACK, b""));
    net.settle();
    assert_eq!(net.agents[0].take_left(), [(1, flow.reversed())]);
    assert_eq!(net.counts(0).interest_packets, asked);
    // No answer is ever seen, and so none is waited for.
    net.advance(Duration::from_secs(2));
    assert_eq!(net.live(0), 1, "no half-open lease");
    net.agents[0].receive(1, &tcp(1, &flow, flags::ACK, b""));
    assert_eq!(net.agents[0].take_left(), [(2, flow)]);
}

#[test]
fn a6_15_with_direct_return_a_flow_ends_with_the_clients_fin_and_idleness() {
    let mut net = calm(&direct(Way::Mac), 1);
    let flow = client(9, 2000);
    let port = |net: &mut Net, flags| port(net, &flow, flags);
    let first = port(&mut net, flags::SYN);
    assert!(first.is_some());
    // On a live one the old decision, however often it is asked.
    for _ in 0..4 {
        assert_eq!(port(&mut net, flags::SYN), first);
    }
    assert_eq!(net.counts(0).decided, 1);
    assert_eq!(port(&mut net, flags::FIN | flags::ACK), first);
    // The client still acknowledges what the server has to say.
    for _ in 0..5 {
        net.advance(Duration::from_millis(200));
        assert_eq!(port(&mut net, flags::ACK), first);
    }
    assert_eq!(net.live(0), 1);
    net.advance(Duration::from_millis(1500));
    assert!(net.agents[0].switch.fixed.is_empty(), "idle for its lease");
    assert_eq!(net.live(0), 0);
    assert!(port(&mut net, flags::SYN).is_some());
    assert_eq!(net.counts(0).decided, 2, "a fresh decision");
}

#[test]
fn dispatched_flows_are_known_again_after_a_managers_death() {
    let plan = direct(Way::Mac);
    let mut net = calm(&plan, 1);
    let before: Vec<(u16, Tuple)> = (0..8)
        .map(|n| client(9, 2000 + n))
        .map(|flow| (port(&mut net, &flow, flags::SYN).unwrap(), flow))
        .collect();
    net.stop(0);
    net.start(manager(&plan, 2), Faults::none());
    net.advance(Duration::from_millis(50));
    let flows = |net: &Net, m: usize| -> Vec<u64> {
        let status = net.managers[m].status();
        status.services[0].targets.iter().map(|t| t.flows).collect()
    };
    assert_eq!(flows(&net, 1), [4, 2, 2]);
    assert_eq!(flows(&net, 1), flows(&net, 0));
    for (port, flow) in before {
        net.agents[0].receive(1, &tcp(1, &flow, flags::ACK, b""));
        assert_eq!(net.agents[0].take_left(), [(port, flow)]);
    }
}

#[test]
fn a6_19_a6_20_tunnels_are_asked_for_by_name_and_with_what_they_need() {
    for (way, tunnel, needs) in [
        (
            Way::Ipip,
            Tunnel::Ipip,
            [Capability::Dispatch, Capability::Ipip],
        ),
        (
            Way::Gue,
            Tunnel::Gue,
            [Capability::Dispatch, Capability::Gue],
        ),
    ] {
        let plan = direct(way);
        let mut manager = manager(&plan, 1);
        let mut world = agent(0, &plan);
        let mut said = Vec::new();
        let mut outputs = manager.handle(Duration::ZERO, Input::Connected(0));
        world.feed(ToTheAgent::SessionOpened(1));
        for _ in 0..10 {
            for output in std::mem::take(&mut outputs) {
                if let Output::Message(_, message) = output {
                    said.push(message.body.clone());
                    world.feed(ToTheAgent::Message(1, message));
                }
            }
            for (_, message) in std::mem::take(&mut world.said) {
                outputs.extend(manager.handle(Duration::ZERO, Input::Message(0, message)));
            }
        }
        let criteria = said.iter().find_map(|body| match body {
            ManagerBody::Criteria(criteria) => Some(criteria.list.clone()),
            _ => None,
        });
        assert_eq!(criteria.unwrap()[0].needs, needs);
        // The question of an agent whose target can do it.
        let question = signalbox_agent::message::Interest {
            request: 1,
            stage: 1,
            part: signalbox_agent::flow::Part::Forward,
            flow: client(9, 2000),
            kind: signalbox_agent::flow::PacketKind::Whole,
            events: signalbox_agent::flow::events::SYN,
            packet: tcp(1, &client(9, 2000), flags::SYN, b""),
            state: signalbox_agent::message::CarriedState::default(),
        };
        let message = ToManager {
            service: "web-lb".into(),
            share: 0,
            epoch: 1,
            body: AgentBody::Interest(question),
        };
        let out = manager.handle(Duration::ZERO, Input::Message(0, message));
        let affinities = out.iter().find_map(|o| match o {
            Output::Message(_, message) => match &message.body {
                ManagerBody::Verdict(verdict) => Some(&verdict.affinities),
                _ => None,
            },
            _ => None,
        });
        let [only] = affinities.unwrap().as_slice() else {
            panic!("one direction");
        };
        let next_hop = IpAddr::from([10, 0, 1, 10]);
        assert_eq!(only.actions, [Action::Dispatch { next_hop, tunnel }]);
        assert_eq!((only.partner, only.leases.half_open_ms), (None, None));
        assert!(only.track_close);
    }
}
