//! A manager and the one that stands by for it.

use bytes::Bytes;
use signalbox_agent::flow::{PacketKind, Part, events};
use signalbox_agent::message::{CarriedState, Interest, Reason};
use signalbox_agent::testing::backed;

use super::*;

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A process of the backup.
pub(super) fn backup(plan: &Plan) -> Manager {
    let balance = Balance::new(&plan.services[0]).unwrap();
    Manager::new(
        "lb-2",
        plan,
        vec![("web-lb".into(), 0, 0, Box::new(balance))],
    )
}

/// Both managers, each with a session to each agent.
fn two(agents: usize) -> (Net, Plan) {
    let plan = backed(1_000);
    let mut net = calm(&plan, agents);
    net.start(backup(&plan), Faults::none());
    net.advance(5 * MS);
    (net, plan)
}

/// The criteria's lease, and a little.
pub(super) fn lease(plan: &Plan) -> Duration {
    Duration::from_millis(plan.services[0].lease_ms(0)) + 50 * MS
}

/// Whether a manager stands by, and its epoch.
pub(super) fn standing(net: &Net, m: usize) -> (bool, u64) {
    let service = &net.managers[m].status().services[0];
    (service.stands_by, service.epoch)
}

#[test]
fn a9_1_while_the_first_manager_lives_its_backup_gets_no_packet() {
    let (mut net, plan) = two(2);
    for n in 0..30 {
        let flow = client(9, 2000 + n);
        assert!(net.send(usize::from(n % 2), &flow, flags::SYN).is_some());
        net.advance(lease(&plan) / 8);
    }
    assert_eq!(net.counts(0).decided, 30);
    assert_eq!(net.counts(1).interest_packets, 0);
    assert_eq!(
        (standing(&net, 0), standing(&net, 1)),
        ((false, 1), (true, 1))
    );
}

// A9.4: what is established loses nothing meanwhile.
#[test]
fn a9_2_when_it_stops_its_backup_is_asked_once_its_lease_is_over() {
    let (mut net, plan) = two(2);
    let flows: Vec<Tuple> = (0..10).map(|n| client(9, 2000 + n)).collect();
    let servers: Vec<_> = (flows.iter().map(|f| net.send(0, f, flags::SYN))).collect();
    net.advance(10 * MS);
    net.stop(0);
    let (mut waited, mut new) = (Duration::ZERO, None);
    while new.is_none() {
        assert!(waited <= lease(&plan), "within the criteria's lease");
        for (flow, server) in flows.iter().zip(&servers) {
            assert_eq!(net.send(0, flow, flags::ACK), *server, "A9.4");
        }
        net.advance(20 * MS);
        waited += 20 * MS;
        let ms = u16::try_from(waited.as_millis()).unwrap();
        new = net.send(0, &client(8, 2000 + ms), flags::SYN);
    }
    assert!(net.send(1, &client(8, 1000), flags::SYN).is_some());
    assert_eq!(standing(&net, 1), (false, 2));
    for (flow, server) in flows.iter().zip(&servers) {
        assert_eq!(net.send(0, flow, flags::ACK), *server, "A9.4");
    }
}

#[test]
fn a9_3_a_manager_that_says_goodbye_is_followed_at_once() {
    let (mut net, _) = two(2);
    let out = net.managers[0].farewell(net.now);
    net.carry(0, out);
    net.settle();
    net.stop(0);
    for a in 0..2 {
        assert!(
            net.send(a, &client(9, 2000 + a as u16), flags::SYN)
                .is_some()
        );
    }
    assert_eq!(standing(&net, 1), (false, 2));
}

#[test]
fn a9_6_the_backup_answers_for_old_flows_with_the_first_ones_decisions() {
    let (mut net, plan) = two(2);
    let flows: Vec<Tuple> = (0..12).map(|n| client(9, 2000 + n)).collect();
    let servers: Vec<_> = (flows.iter().map(|f| net.send(0, f, flags::SYN))).collect();
    net.stop(0);
    net.advance(lease(&plan));
    // They move to the other agent in mid-stream: the first packet is what the backup takes over with.
    for (flow, server) in flows.iter().zip(&servers) {
        assert_eq!(net.send(1, flow, flags::ACK), *server);
    }
    assert_eq!(net.counts(1).mid_flow_known, 12);
    assert_eq!(net.counts(1).decided, 0);
}

#[test]
fn a9_6_what_ended_while_it_stood_by_the_backup_does_not_take_for_alive() {
    let (mut net, plan) = two(1);
    let old = client(9, 2000);
    net.send(0, &old, flags::SYN);
    net.send(0, &old, flags::RST);
    net.advance(Duration::from_millis(plan.services[0].limits.closed_ms) + S);
    net.stop(0);
    net.advance(lease(&plan));
    assert!(net.send(0, &client(9, 2001), flags::SYN).is_some());
    assert_eq!(net.live(1), 1);
    assert_eq!(net.send(0, &old, flags::ACK), None, "A8.4");
}

#[test]
fn a9_8_the_first_ones_return_breaks_no_flow() {
    let (mut net, plan) = two(2);
    let first: Vec<Tuple> = (0..6).map(|n| client(9, 2000 + n)).collect();
    let mut servers: Vec<_> = (first.iter().map(|f| net.send(0, f, flags::SYN))).collect();
    net.stop(0);
    net.advance(lease(&plan));
    let second: Vec<Tuple> = (0..6).map(|n| client(8, 2000 + n)).collect();
    servers.extend(second.iter().map(|f| net.send(0, f, flags::SYN)));
    // As a new process, which knows no epoch and no flow.
    net.start(manager(&plan, 0), Faults::none());
    // The backup hears of it with the answer to its next heartbeat.
    net.advance(lease(&plan) / 3);
    assert_eq!(
        (standing(&net, 2), standing(&net, 1)),
        ((false, 3), (true, 3))
    );
    let asked = net.counts(1).interest_packets;
    for agent in [0, 1] {
        for (flow, server) in first.iter().chain(&second).zip(&servers) {
            assert!(server.is_some());
            assert_eq!(net.send(agent, flow, flags::ACK), *server);
        }
        net.advance(lease(&plan));
    }
    assert!(net.send(1, &client(7, 2000), flags::SYN).is_some());
    assert_eq!(net.counts(1).interest_packets, asked);
    assert_eq!(net.counts(2).decided, 1);
}

// A9.9: what the first one says under its old epoch is denied.
#[test]
fn a9_5_around_its_end_each_packet_is_decided_by_one_manager() {
    let (mut net, plan) = two(1);
    // It hangs: its sessions stay, and it says nothing.
    net.hung.insert(0);
    let mut through = Vec::new();
    for n in 0..lease(&plan).as_millis() as u16 + 100 {
        net.advance(MS);
        let flow = client(9, 2000 + n);
        if let Some(server) = net.send(0, &flow, flags::SYN) {
            through.push((flow, server));
        }
    }
    assert_eq!(standing(&net, 1), (false, 2));
    assert_eq!(net.counts(1).decided, through.len() as u64);
    // It goes on, with all that it was asked meanwhile.
    net.hung.remove(&0);
    net.advance(S);
    let denials = net.agents[0].agent.counters().denials.clone();
    assert!(denials[&Reason::OldEpoch] > 100, "{denials:?}");
    assert_eq!(net.agents[0].switch.fixed.len(), 2 * through.len());
    for (flow, server) in &through {
        assert_eq!(net.send(0, flow, flags::ACK), Some(*server));
    }
    assert_eq!(
        (standing(&net, 0), standing(&net, 1)),
        ((false, 3), (true, 3))
    );
}

#[test]
fn a9_9_a_backup_that_slept_while_the_first_one_came_back_takes_another_epoch_than_it_has() {
    let (mut net, plan) = two(2);
    net.hung.insert(1);
    let out = net.managers[0].farewell(net.now);
    net.carry(0, out);
    net.settle();
    net.stop(0);
    // The backup will hear of this question when it is long over.
    assert_eq!(net.send(0, &client(9, 2000), flags::SYN), None);
    net.start(manager(&plan, 0), Faults::none());
    net.advance(10 * MS);
    net.hung.remove(&1);
    net.settle();
    let (_, first) = standing(&net, 2);
    assert_eq!(standing(&net, 1), (true, first), "its own was denied");
    let flow = client(9, 2001);
    let server = net.send(0, &flow, flags::SYN);
    assert!(server.is_some());
    assert_eq!(
        net.send(1, &flow, flags::ACK),
        server,
        "one decides for both"
    );
}

#[test]
fn a9_9_a_backup_that_stands_by_again_leaves_what_it_was_asked_before_unanswered() {
    let (mut net, plan) = two(2);
    net.stop(0);
    net.advance(lease(&plan));
    assert!(net.send(0, &client(9, 2000), flags::SYN).is_some());
    net.start(manager(&plan, 0), Faults::none());
    net.advance(lease(&plan) / 3);
    assert_eq!(standing(&net, 1), (true, 3));
    let (said, decided) = (net.told.len(), net.counts(1).decided);
    let late = Interest {
        request: 1,
        stage: 1,
        part: Part::Forward,
        flow: client(9, 2001),
        kind: PacketKind::Whole,
        events: events::ALL | events::SYN,
        packet: Bytes::new(),
        state: CarriedState::default(),
    };
    net.hear(1, 1, AgentBody::Interest(late));
    let verdict = |(_, body): &(usize, ManagerBody)| matches!(body, ManagerBody::Verdict(_));
    assert!(!net.told[said..].iter().any(verdict));
    assert_eq!(net.counts(1).decided, decided);
}

#[test]
fn a9_6_what_the_first_one_has_decided_anew_the_backup_does_not_know_better() {
    let (mut net, plan) = two(1);
    let idle = Duration::from_millis(plan.services[0].limits.half_open_ms) + S;
    let flow = client(9, 2000);
    net.stop(0);
    net.advance(lease(&plan));
    let of_backup = net.send(0, &flow, flags::SYN).unwrap();
    net.advance(idle);
    // The first one is back, and knows nothing of a connection that nobody holds.
    net.start(manager(&plan, 0), Faults::none());
    net.advance(2 * S);
    net.send(0, &client(8, 2000), flags::SYN);
    let of_first = net.send(0, &flow, flags::SYN).unwrap();
    assert_ne!(of_first, of_backup, "servers take turns");
    net.advance(idle);
    net.stop(2);
    net.advance(lease(&plan));
    let late = net.send(0, &flow, flags::ACK);
    assert_ne!(late, Some(of_backup));
}

#[test]
fn a9_9_two_that_reach_different_agents_raise_epochs_ever_more_seldom() {
    let (mut net, plan) = two(2);
    net.cut(1, 0);
    let mut lost = 0;
    for n in 0..600u16 {
        net.advance(200 * MS);
        for agent in [0, 1] {
            let flow = client(9 - agent as u8, 2000 + n);
            lost += u32::from(net.send(agent, &flow, flags::SYN).is_none());
        }
    }
    // Two minutes: the first one waits 1, 2, 4, 8 and then 10 s each time.
    let (_, epoch) = standing(&net, 1).max(standing(&net, 0));
    assert!((3..=32).contains(&epoch), "{epoch}");
    assert!(lost <= lease(&plan).as_millis() as u32 / 200 + 20, "{lost}");
}
