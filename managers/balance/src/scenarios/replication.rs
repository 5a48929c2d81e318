//! A manager that tells its backup of decisions as they are made.

use bytes::Bytes;
use signalbox_agent::flow::{PacketKind, Part, events};
use signalbox_agent::message::{CarriedState, Interest, Reason};
use signalbox_agent::testing::{backed, with_backup};
use signalbox_lower::plan::Replicate;
use signalbox_manager::peer::{self, PeerHello, PeerReason};
use signalbox_manager::{LinkState, LinkStatus};

use super::failover::{backup, lease, standing};
use super::*;

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

pub(super) fn replicated(how: Replicate) -> Plan {
    with_backup(plan(), "lb-2", 1_000, Some(how))
}

/// Both managers, each with a session to each agent, and a way between them.
pub(super) fn two(plan: &Plan, agents: usize, faults: Faults) -> Net {
    let mut net = Net::new(plan, agents, Faults::none());
    net.start(backup(plan), Faults::none());
    net.link(0, 1, faults);
    net.advance(5 * MS);
    net
}

fn link(net: &Net, m: usize) -> LinkStatus {
    net.managers[m].status().links.remove(0)
}

/// An agent and its switch start anew, with nothing, where one manager is left.
fn restart(net: &mut Net, a: usize, plan: &Plan, m: usize) {
    let session = m as u64 + 1;
    net.agents[a] = agent(a, plan);
    net.agents[a].now = net.now;
    let out = net.managers[m].handle(net.now, Input::Disconnected(a as u64));
    net.carry(m, out);
    net.agents[a].feed(ToTheAgent::SessionOpened(session));
    let out = net.managers[m].handle(net.now, Input::Connected(a as u64));
    net.carry(m, out);
    net.settle();
}

/// An agent and its switch start anew, with nothing, where no manager is left.
fn restart_without_managers(net: &mut Net, a: usize, plan: &Plan) {
    net.agents[a] = agent(a, plan);
    net.agents[a].now = net.now;
}

/// Where the SYNs of flows went whose decision took effect.
fn effects(net: &mut Net) -> Vec<(Tuple, IpAddr)> {
    let left = net.agents[0].take_left();
    (left.iter().filter(|(_, t)| t.sport >= 2000))
        .map(|(_, t)| (client(9, t.sport), t.dst))
        .collect()
}

/// lb-1 dies when so many messages have arrived; its agents have lost what they had. Returns whether it had
/// said all by then.
fn die_after(messages: usize, faults: Faults) -> bool {
    let plan = replicated(Replicate::Sync);
    let mut net = two(&plan, 2, faults);
    net.advance(2 * S);
    assert_eq!(link(&net, 0).state, LinkState::InSync);
    for n in 0..6 {
        let flow = client(9, 2000 + n);
        net.agents[0].receive(1, &tcp(1, &flow, flags::SYN, b""));
    }
    net.fuse = messages;
    net.advance(if faults == Faults::none() {
        MS
    } else {
        600 * MS
    });
    let done = net.fuse > 0;
    let went = effects(&mut net);
    net.stop(0);
    net.fuse = usize::MAX;
    for a in [0, 1] {
        restart(&mut net, a, &plan, 1);
    }
    net.advance(lease(&plan));
    for (flow, server) in &went {
        let there = net.send(1, flow, flags::ACK);
        assert_eq!(there, Some(*server), "{flow} after {messages} messages");
    }
    if !went.is_empty() {
        assert_eq!(standing(&net, 1), (false, 2));
    }
    done && went.len() == 6
}

#[test]
fn a9_7_whenever_the_first_one_dies_its_backup_knows_every_decision_that_took_effect() {
    let mut messages = 0;
    while !die_after(messages, Faults::none()) {
        messages += 1;
        assert!(messages < 200, "all is said at last");
    }
    assert!(messages > 12, "decisions, acknowledgements and verdicts");
}

// A9.7: also where what the two say to each other is lost, doubled and late.
#[test]
fn a9_7_a_faulty_way_between_the_two_costs_time_and_no_decision() {
    let mut all = 0;
    for seed in 1..5 {
        for messages in (0..60).step_by(3) {
            all += usize::from(die_after(messages, rough(seed)));
        }
    }
    assert!(all > 0, "all decisions took effect in the end");
}

#[test]
fn a9_7_no_verdict_leaves_before_the_backup_knows_the_decision() {
    let plan = replicated(Replicate::Sync);
    let mut net = two(&plan, 2, Faults::none());
    net.hung.insert(1);
    let flow = client(9, 2000);
    assert_eq!(net.send(0, &flow, flags::SYN), None);
    // The same flow, asked about at another agent: its decision waits, too.
    assert_eq!(net.send(1, &flow, flags::SYN), None);
    assert_eq!(link(&net, 0).behind, 2);
    net.hung.remove(&1);
    net.settle();
    let server = net.agents[0].take_left()[0].1.dst;
    assert_eq!(net.agents[1].take_left()[0].1.dst, server);
    assert_eq!(link(&net, 0).behind, 0);
    assert_eq!(link(&net, 0).counts.without, 0);
}

#[test]
fn a9_7_a_dead_backup_does_not_stop_the_service_and_is_told_everything_when_it_is_back() {
    let plan = replicated(Replicate::Sync);
    let mut net = two(&plan, 2, Faults::none());
    // It hangs: nobody says that it is gone.
    net.hung.insert(1);
    let flow = client(9, 2000);
    assert_eq!(net.send(0, &flow, flags::SYN), None);
    net.advance(lease(&plan) / 2);
    assert_eq!(net.send(0, &flow, flags::SYN), None, "within the bound");
    net.advance(lease(&plan) / 2);
    let server = net.send(0, &flow, flags::SYN);
    assert!(server.is_some());
    assert_eq!(link(&net, 0).state, LinkState::Behind);
    assert!(link(&net, 0).counts.without > 0);
    let second = net.send(0, &client(9, 2001), flags::SYN);
    assert!(second.is_some(), "nothing more waits");

    // It is gone, and its process with it.
    net.stop(1);
    assert_eq!(link(&net, 0).state, LinkState::Away);
    let third = net.send(0, &client(9, 2002), flags::SYN);
    assert!(third.is_some());
    net.start(backup(&plan), Faults::none());
    net.link(0, 2, Faults::none());
    net.advance(5 * MS);
    assert_eq!(link(&net, 0).state, LinkState::InSync);
    net.stop(0);
    for a in [0, 1] {
        restart(&mut net, a, &plan, 2);
    }
    net.advance(lease(&plan));
    for (n, server) in (0..).zip([server, second, third]) {
        assert_eq!(net.send(1, &client(9, 2000 + n), flags::ACK), server);
    }
}

// A9.7: the window is measured.
#[test]
fn a9_7_without_sync_a_verdict_leaves_at_once_and_the_window_is_told() {
    let plan = replicated(Replicate::Async);
    let mut net = two(&plan, 2, Faults::none());
    net.advance(S);
    assert_eq!(link(&net, 0).state, LinkState::InSync);
    net.hung.insert(1);
    for n in 0..5 {
        assert!(net.send(0, &client(9, 2000 + n), flags::SYN).is_some());
    }
    net.advance(500 * MS);
    let behind = link(&net, 0);
    assert_eq!((behind.behind, behind.most_behind), (5, 5));
    // As of its last heartbeat.
    assert!((150..=500).contains(&behind.oldest_ms), "{behind:?}");
    assert_eq!(behind.state, LinkState::Behind);
    net.hung.remove(&1);
    net.advance(30 * MS);
    let after = link(&net, 0);
    assert_eq!(
        (after.behind, after.most_behind, after.oldest_ms),
        (0, 5, 0)
    );
    assert_eq!(after.state, LinkState::InSync);
}

#[test]
fn a9_7_a_flow_that_has_ended_is_not_alive_to_the_backup() {
    let mut plan = replicated(Replicate::Sync);
    // Nobody answers here.
    plan.services[0].limits.half_open_ms = 3_600_000;
    let mut net = two(&plan, 1, Faults::none());
    for n in 0..4 {
        net.send(0, &client(9, 2000 + n), flags::SYN);
    }
    assert_eq!((net.live(0), net.live(1)), (4, 4));
    net.send(0, &client(9, 2000), flags::RST);
    net.advance(Duration::from_millis(plan.services[0].limits.closed_ms) + S);
    assert_eq!((net.live(0), net.live(1)), (3, 3));
    // And what the agents do not hold when it takes over.
    net.stop(0);
    restart(&mut net, 0, &plan, 1);
    net.advance(lease(&plan));
    assert!(net.send(0, &client(9, 3000), flags::SYN).is_some());
    assert_eq!(net.live(1), 1);
}

// A9.8
#[test]
fn a9_7_the_first_one_that_is_back_learns_what_its_backup_has_decided_and_no_agent_holds() {
    let plan = replicated(Replicate::Sync);
    let mut net = two(&plan, 2, Faults::none());
    let first = net.send(0, &client(9, 2000), flags::SYN);
    net.stop(0);
    net.advance(lease(&plan));
    let second = net.send(0, &client(9, 2001), flags::SYN);
    assert!(first.is_some() && second.is_some());
    // All agents forget.
    for a in [0, 1] {
        restart(&mut net, a, &plan, 1);
    }
    net.start(manager(&plan, 0), Faults::none());
    net.link(2, 1, Faults::none());
    net.advance(lease(&plan));
    let (stands_by, epoch) = standing(&net, 1);
    assert_eq!((standing(&net, 2), stands_by), ((false, epoch), true));
    assert_eq!(net.send(0, &client(9, 2000), flags::ACK), first);
    assert_eq!(net.send(1, &client(9, 2001), flags::ACK), second);
    assert_eq!(net.counts(2).mid_flow_known, 2);
    assert_eq!(net.live(2), net.live(1));
    assert_eq!(link(&net, 2).state, LinkState::InSync);
}

// No new flow waits for the change.
#[test]
fn a9_8_the_first_one_that_is_back_learns_first_and_claims_its_share_then() {
    let plan = replicated(Replicate::Sync);
    let mut net = two(&plan, 2, Faults::none());
    net.stop(0);
    net.advance(lease(&plan));
    let first = net.send(0, &client(9, 2000), flags::SYN);
    net.start(manager(&plan, 0), Faults::none());
    for n in 1..100 {
        assert!(net.send(0, &client(9, 2000 + n), flags::SYN).is_some());
        net.advance(MS);
    }
    assert_eq!(standing(&net, 1), (false, 2));
    assert_eq!(net.counts(1).decided, 100, "while it learns");
    net.link(2, 1, Faults::none());
    for n in 100..200 {
        assert!(net.send(1, &client(9, 2000 + n), flags::SYN).is_some());
        net.advance(MS);
    }
    assert_eq!(standing(&net, 2), (false, 3));
    assert!(net.counts(2).decided > 90, "and then decides");
    assert_eq!(net.send(1, &client(9, 2000), flags::ACK), first);
}

// A8.3: else nobody would hear of the flows that this agent has.
#[test]
fn an_agent_that_was_greeted_before_the_claim_and_knows_its_epoch_from_before_is_told_another() {
    let plan = replicated(Replicate::Sync);
    let mut net = two(&plan, 2, Faults::none());
    net.send(1, &client(9, 2000), flags::SYN);
    net.stop(0);
    net.stop(1);
    restart_without_managers(&mut net, 0, &plan);
    net.start(manager(&plan, 0), Faults::none());
    net.start(backup(&plan), Faults::none());
    for (of, line) in &mut net.up {
        if of.0 == 1 {
            *line = FaultLine::new(Faults {
                delay: 1_000,
                by: 100 * MS,
                ..rough(1)
            });
        }
    }
    net.link(2, 3, Faults::none());
    net.advance(20 * MS);
    assert_eq!(standing(&net, 2), (false, 1), "as agent 0 has it");
    net.advance(S);
    assert_eq!(standing(&net, 2), (false, 3));
    assert_eq!(net.live(2), 1);
    net.send(1, &client(9, 2000), flags::RST);
    net.advance(Duration::from_millis(plan.services[0].limits.closed_ms) + S);
    assert_eq!(net.live(2), 0);
}

#[test]
fn a_first_one_that_learns_checks_no_server_and_goes_on_learning_by_another_plan() {
    let mut plan = replicated(Replicate::Sync);
    plan.services[0].balance.as_mut().unwrap().check = Some(CheckPlan {
        kind: CheckKind::Tcp,
        every_ms: 200,
        timeout_ms: 100,
        rise: 2,
        fall: 2,
    });
    let mut net = two(&plan, 1, Faults::none());
    net.advance(S);
    let first = net.send(0, &client(9, 2000), flags::SYN);
    assert!(first.is_some());
    net.stop(0);
    net.advance(lease(&plan));
    net.send(0, &client(9, 2001), flags::SYN);
    net.start(manager(&plan, 0), Faults::none());
    net.advance(10 * MS);
    let served = |plan: &Plan| {
        let balance = Balance::new(&plan.services[0]).unwrap();
        vec![("web-lb".into(), 0, 0, Box::new(balance) as _)]
    };
    let denials = |net: &Net| {
        let denials = &net.agents[0].agent.counters().denials;
        denials.get(&Reason::OldEpoch).copied().unwrap_or(0)
    };
    let before = denials(&net);
    // As `apply` has it.
    net.managers[2].replan(net.now, &plan, served(&plan));
    net.mend(0, 2);
    net.advance(lease(&plan) / 2);
    assert!(standing(&net, 2).0, "it has heard nothing yet");
    assert_eq!(denials(&net), before, "checks would be");
    net.link(2, 1, Faults::none());
    net.advance(S);
    assert_eq!(standing(&net, 2), (false, 3));
    assert_eq!(net.live(2), 2);
}

#[test]
fn what_is_asked_of_a_first_one_that_learns_waits() {
    let plan = replicated(Replicate::Sync);
    let mut net = two(&plan, 1, Faults::none());
    net.stop(0);
    net.start(manager(&plan, 0), Faults::none());
    net.advance(5 * MS);
    let told = net.told.len();
    // By the criteria of its former process.
    assert_eq!(net.send(0, &client(9, 2000), flags::SYN), None);
    net.advance(50 * MS);
    net.link(2, 1, Faults::none());
    net.advance(10 * MS);
    assert_eq!(net.agents[0].take_left().len(), 1);
    assert_eq!(net.counts(1).interest_packets, 0);
    let is_criteria = |(_, body): &(usize, ManagerBody)| matches!(body, ManagerBody::Criteria(_));
    assert!(net.told[told..].iter().any(is_criteria), "its own");
    // Where the other one is not there, for as long as it might be asked.
    net.stop(2);
    net.stop(1);
    net.start(manager(&plan, 0), Faults::none());
    net.advance(lease(&plan) - 100 * MS);
    assert!(standing(&net, 3).0);
    net.advance(100 * MS);
    assert_eq!(standing(&net, 3), (false, 5));
    assert!(net.send(0, &client(9, 2001), flags::SYN).is_some());
}

// A9.7
#[test]
fn a9_9_what_is_decided_under_an_old_epoch_a_backup_that_has_taken_over_denies() {
    let plan = replicated(Replicate::Sync);
    let mut net = two(&plan, 1, Faults::none());
    net.hung.insert(0);
    net.advance(lease(&plan));
    let flow = client(9, 2000);
    let server = net.send(0, &flow, flags::SYN);
    assert!(server.is_some());
    assert_eq!(standing(&net, 1), (false, 2));
    // The first one goes on, has not heard of it, and is asked about the same flow and another one.
    net.hung.remove(&0);
    net.up.retain(|((_, m), _)| *m != 0);
    for (request, flow) in [(90, flow), (91, client(9, 2001))] {
        let interest = Interest {
            request,
            stage: 1,
            part: Part::Forward,
            flow,
            kind: PacketKind::Whole,
            events: events::ALL | events::SYN,
            packet: Bytes::new(),
            state: CarriedState::default(),
        };
        net.hear(0, 0, AgentBody::Interest(interest));
    }
    net.settle();
    assert_eq!(standing(&net, 0), (false, 1));
    assert_eq!(net.counts(0).decided, 2);
    assert!(link(&net, 1).counts.old >= 2, "{:?}", link(&net, 1));
    assert_eq!(net.managers[1].status().services[0].flows, 1);
    assert_eq!(net.send(0, &flow, flags::ACK), server);
    assert_eq!(net.agents[0].switch.fixed.len(), 2, "and so does the agent");
}

// A9.7
#[test]
fn a_manager_that_starts_decides_nothing_anew_before_the_other_has_told_or_is_late() {
    let plan = replicated(Replicate::Sync);
    let mut net = Net::new(&plan, 1, Faults::none());
    net.advance(lease(&plan) / 2);
    assert_eq!(net.send(0, &client(9, 2000), flags::SYN), None);
    net.advance(lease(&plan));
    assert!(net.send(0, &client(9, 2001), flags::SYN).is_some());
    assert_eq!(link(&net, 0).state, LinkState::Away);
    assert_eq!(link(&net, 0).counts.without, 1);
}

#[test]
fn what_the_first_one_does_not_know_of_its_backup_does_not_take_for_alive() {
    let mut plan = replicated(Replicate::Sync);
    plan.services[0].limits.half_open_ms = 3_600_000;
    let mut net = two(&plan, 1, Faults::none());
    for n in 0..4 {
        net.send(0, &client(9, 2000 + n), flags::SYN);
    }
    net.unlink(0, 1);
    net.send(0, &client(9, 2000), flags::RST);
    net.advance(Duration::from_millis(plan.services[0].limits.closed_ms) + S);
    assert_eq!(net.live(1), 4, "nobody has told it");
    // Another process follows on the first one, and hears in vain for what the backup remembers.
    net.stop(0);
    net.start(manager(&plan, 0), Faults::none());
    net.advance(lease(&plan) * 2);
    assert_eq!(standing(&net, 1), (true, 3));
    net.link(2, 1, Faults::none());
    net.advance(10 * MS);
    assert_eq!((net.live(2), net.live(1)), (3, 3));
}

// A9.7: what is forgotten cannot be told by itself any more.
#[test]
fn what_ended_and_was_forgotten_while_the_two_were_apart_the_other_one_hears_of_all_the_same() {
    let mut plan = replicated(Replicate::Async);
    plan.services[0].limits.half_open_ms = 3_600_000;
    plan.services[0].limits.idle_ms = 2_000;
    let mut net = two(&plan, 1, Faults::none());
    let flows = [2000, 2001].map(|port| client(9, port));
    for flow in &flows {
        net.send(0, flow, flags::SYN);
    }
    net.advance(S);
    assert_eq!((net.live(0), net.live(1)), (2, 2));
    net.unlink(0, 1);
    net.send(0, &flows[0], flags::RST);
    // Gone flows are remembered for two idle leases.
    let closed = Duration::from_millis(plan.services[0].limits.closed_ms);
    net.advance(closed + 5 * S);
    assert_eq!((net.live(0), net.live(1)), (1, 2));
    net.link(0, 1, Faults::none());
    net.advance(S);
    assert_eq!(link(&net, 0).state, LinkState::InSync);
    assert_eq!((net.live(0), net.live(1)), (1, 1));
}

// A9.8
#[test]
fn what_an_agent_out_of_reach_holds_the_first_one_learns_from_its_backup() {
    let mut plan = replicated(Replicate::Sync);
    plan.services[0].limits.half_open_ms = 3_600_000;
    let mut net = two(&plan, 2, Faults::none());
    net.stop(0);
    net.advance(lease(&plan));
    let servers = [0, 1].map(|a| net.send(a, &client(9, 2000 + a as u16), flags::SYN));
    assert!(servers.iter().all(Option::is_some));
    net.start(manager(&plan, 0), Faults::none());
    net.cut(1, 2);
    net.advance(10 * MS);
    net.link(2, 1, Faults::none());
    net.advance(lease(&plan));
    assert_eq!((net.live(2), net.live(1)), (2, 2));
    assert_eq!(net.send(0, &client(9, 2001), flags::SYN), servers[1]);
    // It is back, and does not hold it any more.
    restart(&mut net, 1, &plan, 2);
    net.advance(10 * MS);
    assert_eq!(net.live(2), 2, "the other agent has it now");
}

#[test]
fn a_backup_that_an_agent_is_away_from_is_told_of_its_flows_all_the_same() {
    let mut plan = replicated(Replicate::Sync);
    plan.services[0].limits.half_open_ms = 3_600_000;
    plan.services[0].limits.idle_ms = 500;
    let mut net = two(&plan, 2, Faults::none());
    net.send(0, &client(9, 2000), flags::SYN);
    net.cut(0, 1);
    net.advance(3 * S);
    assert_eq!((net.live(0), net.live(1)), (1, 1));
    // Once it decides, that agent has two idle leases to come back in.
    net.stop(0);
    net.advance(lease(&plan));
    assert!(net.send(1, &client(9, 2001), flags::SYN).is_some());
    assert_eq!(net.live(1), 2);
    net.advance(S + 10 * MS);
    assert_eq!(net.live(1), 1);
}

/// What a manager answers to another that greets it so.
fn greet(plan: &Plan, hello: &PeerHello) -> Option<PeerReason> {
    let mut net = Net::new(plan, 1, Faults::none());
    let out = [
        Input::PeerConnected(7),
        Input::Peer(7, PeerMessage::Hello(hello.clone())),
    ]
    .into_iter()
    .flat_map(|input| net.managers[0].handle(MS, input))
    .collect::<Vec<_>>();
    let reason = out.iter().find_map(|o| match o {
        Output::Peer(7, PeerMessage::Refused { reason, .. }) => Some(*reason),
        _ => None,
    });
    assert_eq!(reason.is_some(), out.contains(&Output::PeerClose(7)));
    let counted = net.managers[0].status().peers_refused;
    assert_eq!(counted.into_keys().next(), reason);
    reason
}

#[test]
fn a_peer_of_another_plan_name_or_version_is_refused_and_counted() {
    let plan = replicated(Replicate::Sync);
    let hello = PeerHello {
        version: peer::VERSION,
        manager: "lb-2".into(),
        plan_hash: signalbox_agent::plan_hash(&plan),
        instance: 0,
        heard: false,
        open: false,
        have: (0, 0),
    };
    assert_eq!(greet(&plan, &hello), None);
    let other = PeerHello {
        plan_hash: 1,
        ..hello.clone()
    };
    assert_eq!(greet(&plan, &other), Some(PeerReason::Plan));
    let other = PeerHello {
        manager: "lb-3".into(),
        ..hello.clone()
    };
    assert_eq!(greet(&plan, &other), Some(PeerReason::Stranger));
    assert_eq!(greet(&backed(1_000), &hello), Some(PeerReason::Stranger));
    let other = PeerHello {
        version: 9,
        ..hello
    };
    assert_eq!(greet(&plan, &other), Some(PeerReason::Version));
}

#[test]
fn of_two_processes_of_one_name_the_later_one_is_linked() {
    let plan = replicated(Replicate::Sync);
    let mut net = Net::new(&plan, 1, Faults::none());
    for instance in [5, 9, 7] {
        let second = backup(&plan).with_instance(instance);
        net.start(second, Faults::none());
    }
    net.link(0, 1, Faults::none());
    net.advance(10 * MS);
    assert_eq!(link(&net, 1).state, LinkState::InSync);
    net.link(0, 2, Faults::none());
    net.advance(10 * MS);
    assert_eq!(link(&net, 1).state, LinkState::Away);
    assert_eq!(link(&net, 2).state, LinkState::InSync);
    net.link(0, 3, Faults::none());
    net.advance(10 * MS);
    assert_eq!(link(&net, 2).state, LinkState::InSync);
    assert_eq!(link(&net, 3).state, LinkState::Away);
    let refused = net.managers[0].status().peers_refused;
    assert_eq!(refused[&PeerReason::Superseded], 2);
}

#[test]
fn with_another_policy_two_share_decisions_or_do_so_no_more() {
    let plan = replicated(Replicate::Sync);
    let mut net = two(&plan, 1, Faults::none());
    assert!(net.send(0, &client(9, 2000), flags::SYN).is_some());
    for (shares, plan) in [(0, backed(1_000)), (1, plan)] {
        net.unlink(0, 1);
        net.agents[0].apply(plan.clone());
        // What it said to sessions that have ended.
        net.agents[0].said.clear();
        for m in [0, 1] {
            let balance = Balance::new(&plan.services[0]).unwrap();
            let served = vec![("web-lb".into(), 0, 0, Box::new(balance) as _)];
            net.managers[m].replan(net.now, &plan, served);
            net.mend(0, m);
        }
        net.advance(S);
        assert_eq!(net.managers[0].status().links.len(), shares);
        if shares == 1 {
            net.link(0, 1, Faults::none());
            net.advance(S);
            assert_eq!(link(&net, 0).state, LinkState::InSync);
        }
        let flow = client(9, 2001 + shares as u16);
        assert!(net.send(0, &flow, flags::SYN).is_some());
    }
    assert_eq!(net.live(0), 3);
}
