//! A service that two managers share, and its division while they run.

use std::collections::BTreeMap;

use proptest::prelude::*;
use signalbox_lower::plan::{Asks, ManagerPlan, MaskedAddr, SharePlan};

use super::*;

const MS: Duration = Duration::from_millis(1);

/// lb-1 has the clients with an even address, lb-2 those with an odd one.
fn halves() -> Plan {
    among(&[0, 1])
}

fn served(plan: &Plan, share: u32, epoch: u64) -> Vec<signalbox_manager::Served> {
    let balance = Balance::new(&plan.services[0]).unwrap();
    vec![("web-lb".into(), share, epoch, Box::new(balance))]
}

fn sharing(plan: &Plan) -> Manager {
    Manager::new("lb-2", plan, served(plan, 1, 0))
}

/// Both managers, each with sessions to two agents.
fn divided() -> Net {
    let plan = halves();
    let mut net = calm(&plan, 2);
    net.start(sharing(&plan), Faults::none());
    net.advance(5 * MS);
    net
}

/// Questions that each manager has answered.
fn asked(net: &Net) -> [u64; 2] {
    [0, 1].map(|m| net.counts(m).interest_packets)
}

#[test]
fn a7_1_each_flow_is_asked_about_with_one_manager_at_whichever_agent() {
    let mut net = divided();
    let mut servers = BTreeMap::new();
    for n in 0..40u16 {
        let flow = client(n as u8, 2000 + n);
        let before = asked(&net);
        let server = net.send(usize::from(n) % 2, &flow, flags::SYN).unwrap();
        servers.insert(flow, server);
        let mut wanted = before;
        wanted[usize::from(n) % 2] += 1;
        assert_eq!(asked(&net), wanted, "{flow}");
    }
    assert_eq!(
        [0, 1].map(|m| (net.live(m), net.counts(m).decided)),
        [(20, 20); 2]
    );
    // Nor is either asked about packets of the flows, from whichever side.
    let before = asked(&net);
    for (flow, server) in servers {
        let agent = usize::from(flow.sport) % 2;
        assert_eq!(net.send(agent, &flow, flags::ACK), Some(server));
    }
    assert_eq!(asked(&net), before);
}

#[test]
fn a7_6_a_reply_that_no_agent_knows_is_asked_about_with_the_clients_manager() {
    let mut net = divided();
    for (host, manager) in [(8, 0), (9, 1)] {
        let flow = client(host, 3000);
        let server = net.send(0, &flow, flags::SYN).unwrap();
        // The client's flow goes on at the other agent, and the server answers there first.
        let back = Tuple {
            src: server,
            dst: flow.src,
            sport: 8080,
            dport: flow.sport,
            ..flow
        };
        net.agents[1]
            .hosts
            .extend([(flow.src, [4, 0, 0, 1, 1, host])]);
        let before = asked(&net);
        net.agents[1].receive(2, &tcp(2, &back, flags::ACK, b""));
        net.settle();
        let mut wanted = before;
        wanted[manager] += 1;
        assert_eq!(asked(&net), wanted);
        let left = net.agents[1].take_left();
        assert_eq!(
            left.first().map(|(_, t)| t.src),
            Some(flow.dst),
            "it is translated back"
        );
    }
}

#[test]
fn a7_4_a_manager_that_gets_a_part_answers_for_its_flows_with_what_was_decided() {
    let mut net = calm(&plan(), 2);
    let flows: Vec<(Tuple, IpAddr)> = (0..20u16)
        .map(|n| client(n as u8, 2000 + n))
        .map(|flow| (flow, net.send(0, &flow, flags::SYN).unwrap()))
        .collect();
    let new = halves();
    for agent in &mut net.agents {
        agent.apply(new.clone());
        agent.said.clear();
    }
    net.managers[0].replan(net.now, &new, served(&new, 0, 0));
    for agent in [0, 1] {
        net.mend(agent, 0);
    }
    net.start(sharing(&new), Faults::none());
    net.advance(10 * MS);
    assert_eq!([0, 1].map(|m| net.live(m)), [10, 10]);
    // In mid-flow at the other agent, which has never seen them.
    for (flow, server) in flows {
        assert_eq!(net.send(1, &flow, flags::ACK), Some(server), "{flow}");
    }
    assert_eq!(
        [0, 1].map(|m| net.counts(m).decided),
        [20, 0],
        "nothing is decided again"
    );
    // Both agents tell of their end.
    net.advance(Duration::from_secs(16));
    assert_eq!([0, 1].map(|m| net.live(m)), [0, 0]);
}

/// A plan in which managers have these parts, in order: all clients, the even and the odd ones, or the odd ones
/// in two.
fn among(order: &[usize]) -> Plan {
    let cuts: &[(u8, u8)] = match order.len() {
        1 => &[(0, 0)],
        2 => &[(0, 1), (1, 1)],
        _ => &[(0, 1), (1, 3), (3, 3)],
    };
    let mut plan = plan();
    let names: Vec<String> = (1..=3).map(|n| format!("lb-{n}")).collect();
    plan.managers = (names.iter().enumerate())
        .map(|(n, name)| ManagerPlan {
            name: name.clone(),
            serves: (order.contains(&n).then(|| "web-lb".into()).into_iter()).collect(),
            backs: Vec::new(),
        })
        .collect();
    let service = &plan.services[0];
    let shares = order.iter().zip(cuts).map(|(n, (value, mask))| {
        let client = Some(MaskedAddr {
            value: IpAddr::from([0, 0, 0, *value]),
            mask: IpAddr::from([0, 0, 0, *mask]),
        });
        let mut asks = Asks {
            forward: service.forward.criteria.clone(),
            reply: service.reply.as_ref().unwrap().criteria.clone(),
        };
        for cube in asks.forward.iter_mut().flat_map(|c| &mut c.cubes) {
            cube.src = client;
        }
        for cube in asks.reply.iter_mut().flat_map(|c| &mut c.cubes) {
            cube.dst = client;
        }
        SharePlan {
            asks: Some(asks),
            ..SharePlan::whole(&names[*n])
        }
    });
    plan.services[0].shares = shares.collect();
    plan
}

/// What a manager serves by a plan.
fn served_by(plan: &Plan, n: usize) -> Vec<signalbox_manager::Served> {
    let name = format!("lb-{}", n + 1);
    let mut shares = (0u32..).zip(&plan.services[0].shares);
    let own = shares.find(|(_, share)| share.manager == name);
    own.map_or_else(Vec::new, |(number, _)| served(plan, number, 0))
}

#[derive(Debug, Clone)]
enum Step {
    /// A client's new flow, at an agent.
    New(u8, usize),
    /// A packet of an old one, at an agent.
    Old(usize, usize),
    /// Another division.
    Divide(Vec<usize>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..16, 0usize..2).prop_map(|(host, agent)| Step::New(host, agent)),
        4 => (0usize..100, 0usize..2).prop_map(|(flow, agent)| Step::Old(flow, agent)),
        1 => (Just(vec![0, 1, 2]).prop_shuffle(), 1usize..4).prop_map(|(mut order, n)| {
            order.truncate(n);
            Step::Divide(order)
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    // A7.3, A7.4, A7.5
    #[test]
    fn whatever_divisions_follow_each_other_a_flow_has_one_manager_and_one_server(
        steps in proptest::collection::vec(step(), 1..40)
    ) {
        let first = among(&[0]);
        let start = |n: usize| Manager::new(&format!("lb-{}", n + 1), &first, served_by(&first, n));
        let mut net = Net::new(&first, 2, Faults::none());
        net.stop(0);
        net.managers.clear();
        net.sessions.clear();
        for n in 0..3 {
            net.start(start(n), Faults::none());
        }
        net.advance(10 * MS);
        let mut flows: Vec<(Tuple, IpAddr)> = Vec::new();
        for step in steps {
            match step {
                Step::New(host, agent) => {
                    let flow = client(host, 2000 + flows.len() as u16);
                    let server = net.send(agent, &flow, flags::SYN);
                    prop_assert!(server.is_some(), "{} is let in", flow);
                    flows.extend(server.map(|server| (flow, server)));
                }
                Step::Old(..) if flows.is_empty() => {}
                Step::Old(which, agent) => {
                    let (flow, server) = flows[which % flows.len()];
                    prop_assert_eq!(net.send(agent, &flow, flags::ACK), Some(server), "{}", flow);
                }
                Step::Divide(order) => {
                    let plan = among(&order);
                    for agent in &mut net.agents {
                        agent.apply(plan.clone());
                        agent.said.clear();
                    }
                    for n in 0..3 {
                        net.managers[n].replan(net.now, &plan, served_by(&plan, n));
                        for agent in [0, 1] {
                            net.mend(agent, n);
                        }
                    }
                    net.advance(10 * MS);
                }
            }
            let services = || net.managers.iter().flat_map(|m| m.status().services);
            let live: u64 = services().flat_map(|s| s.targets).map(|t| t.flows).sum();
            prop_assert_eq!(live, flows.len() as u64, "each flow is one manager's");
        }
        for world in &net.agents {
            let denials = &world.agent.counters().denials;
            prop_assert!(denials.is_empty(), "{:?}", denials);
        }
    }
}
