//! What goes to every agent, and what only to one that must know it.

use super::*;

/// How many messages each agent has been sent that are about flows.
fn about_flows(net: &mut Net, flows: u16) -> Vec<usize> {
    net.told.clear();
    for n in 0..flows {
        let flow = client(9, 2000 + n);
        assert!(net.send(0, &flow, flags::SYN).is_some());
        assert!(net.send(0, &flow, flags::ACK).is_some());
        net.advance(Duration::from_millis(20));
    }
    let about = |m: &ManagerBody| {
        matches!(
            m,
            ManagerBody::Verdict(_) | ManagerBody::Install { .. } | ManagerBody::Delete { .. }
        )
    };
    (0..net.agents.len())
        .map(|a| {
            (net.told.iter())
                .filter(|(to, body)| *to == a && about(body))
                .count()
        })
        .collect()
}

#[test]
fn a8_1_criteria_go_to_every_agent() {
    let plan = plan();
    let net = calm(&plan, 7);
    let asked = &net.agents[0].switch.criteria;
    assert!(!asked.is_empty());
    for world in &net.agents {
        assert_eq!(&world.switch.criteria, asked);
    }
}

#[test]
fn a8_2_what_is_decided_of_a_flow_goes_only_to_agents_that_have_asked() {
    let plan = plan();
    for agents in [1, 2, 20] {
        let mut net = calm(&plan, agents);
        let told = about_flows(&mut net, 30);
        assert_eq!(told[0], 30, "one message a flow, with {agents} agents");
        assert!(told[1..].iter().all(|n| *n == 0), "{told:?}");
        assert!(net.agents[1..].iter().all(|w| w.switch.fixed.is_empty()));
    }
}
