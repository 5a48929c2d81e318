//! Servers that die, and what becomes of their flows (A6.16).

use bytes::Bytes;
use signalbox_agent::flow::{Part, events};
use signalbox_lower::plan::{OnDeath, Way};

use super::*;

const DEAD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 1, 10));

/// Checks every 200 ms, twice 100 ms of silence, and a quick end of what has closed.
fn deadly(on_death: OnDeath) -> Plan {
    let mut plan = plan();
    let service = &mut plan.services[0];
    service.limits.closed_ms = 2_000;
    service.limits.half_open_ms = 60_000;
    let balance = service.balance.as_mut().unwrap();
    balance.on_death = on_death;
    balance.check = Some(CheckPlan {
        kind: CheckKind::Tcp,
        every_ms: 200,
        timeout_ms: 100,
        rise: 2,
        fall: 2,
    });
    plan
}

/// Twelve flows at each agent, and those of the server that is going to die.
fn open(net: &mut Net) -> (Vec<(Tuple, IpAddr)>, usize) {
    let mut flows = Vec::new();
    for n in 0..12 {
        let flow = client(9, 2000 + n);
        let server = net.send(0, &flow, flags::SYN).unwrap();
        flows.push((flow, server));
    }
    let dead = flows.iter().filter(|(_, s)| *s == DEAD).count();
    assert_eq!(dead, 6);
    (flows, dead)
}

fn kill(net: &mut Net) {
    net.alive.retain(|a| *a != DEAD);
    net.advance(Duration::from_millis(700));
    assert!(!net.managers[0].status().services[0].targets[0].up);
}

fn revive(net: &mut Net) {
    net.alive.push(DEAD);
    net.advance(Duration::from_millis(1000));
    assert!(net.managers[0].status().services[0].targets[0].up);
}

/// A segment with numbers.
fn segment(flow: &Tuple, flags: u8, seq: u32, ack: u32) -> Bytes {
    let mut frame = tcp(1, flow, flags, b"").to_vec();
    frame[38..42].copy_from_slice(&seq.to_be_bytes());
    frame[42..46].copy_from_slice(&ack.to_be_bytes());
    frame.into()
}

/// What came out of the clients' port: flow, flags, sequence number.
fn at_client(net: &mut Net, agent: usize) -> Vec<(Tuple, u8, u32)> {
    std::mem::take(&mut net.agents[agent].left)
        .into_iter()
        .filter(|(port, _)| *port == 1)
        .map(|(_, f)| {
            let view = signalbox_agent::packet::view(&f).unwrap();
            let seq = u32::from_be_bytes(f[38..42].try_into().unwrap());
            (view.tuple, view.flags, seq)
        })
        .collect()
}

#[test]
fn a6_16_by_default_flows_stay_with_their_dead_server() {
    let mut net = calm(&deadly(OnDeath::Keep), 1);
    let (flows, _) = open(&mut net);
    kill(&mut net);
    for (flow, server) in &flows {
        assert_eq!(net.send(0, flow, flags::ACK), Some(*server));
    }
    assert_eq!(net.counts(0).doomed, 0);
}

// A6.15, A6.16
#[test]
fn a_syn_on_a_dropped_tuple_is_a_new_connection_at_once_and_nothing_else_is() {
    let mut net = calm(&deadly(OnDeath::Drop), 1);
    let (flows, _) = open(&mut net);
    kill(&mut net);
    let (flow, _) = flows.iter().find(|(_, s)| *s == DEAD).unwrap();
    let asked = net.counts(0).interest_packets;
    assert_eq!(net.send(0, flow, flags::ACK), None);
    assert_eq!(net.counts(0).interest_packets, asked);
    let server = net.send(0, flow, flags::SYN).unwrap();
    assert_ne!(server, DEAD);
    assert_eq!(net.send(0, flow, flags::ACK), Some(server));
    assert_eq!(net.counts(0).interest_packets, asked + 1);
    // What agents are told again of dropped flows does not touch the new one.
    net.advance(Duration::from_secs(6));
    assert_eq!(net.send(0, flow, flags::ACK), Some(server));
}

#[test]
fn a6_16_drop_drops_the_flows_of_a_dead_server_and_no_other() {
    let mut net = calm(&deadly(OnDeath::Drop), 1);
    let (flows, dead) = open(&mut net);
    kill(&mut net);
    assert_eq!(net.counts(0).doomed, dead as u64);
    let asked = net.counts(0).interest_packets;
    let try_all = |net: &mut Net| {
        for (flow, server) in &flows {
            let wanted = (*server != DEAD).then_some(*server);
            assert_eq!(net.send(0, flow, flags::ACK), wanted);
        }
    };
    try_all(&mut net);
    assert_eq!(
        net.counts(0).interest_packets,
        asked,
        "the switch drops them alone"
    );
    // Its packets do not reach clients either.
    let (flow, _) = flows.iter().find(|(_, s)| *s == DEAD).unwrap();
    let back = Tuple {
        src: DEAD,
        sport: 8080,
        ..flow.reversed()
    };
    net.agents[0].receive(2, &tcp(2, &back, flags::ACK, b"late"));
    net.settle();
    assert!(net.agents[0].take_left().is_empty());
    // Alive again, it knows nothing of them; nor does another server, ever.
    revive(&mut net);
    try_all(&mut net);
    // Idle, they are gone from the switch, and their late packets still reach no server.
    net.advance(Duration::from_secs(9));
    let held = |net: &Net| net.agents[0].switch.fixed.len();
    assert_eq!(held(&net), 2 * (flows.len() - dead));
    try_all(&mut net);
    assert_eq!(held(&net), 2 * (flows.len() - dead));
    // A SYN is a new connection, also for the tuple of one that was dropped long ago.
    let (flow, _) = flows.iter().find(|(_, s)| *s == DEAD).unwrap();
    let server = net.send(0, flow, flags::SYN).unwrap();
    assert_eq!(net.send(0, flow, flags::ACK), Some(server));
    assert_eq!(net.live(0), (flows.len() - dead + 1) as u64);
}

// When a pool has no live server
#[test]
fn a6_16_reset_answers_the_next_packet_with_a_reset_that_the_client_accepts() {
    let mut net = calm(&deadly(OnDeath::Reset), 1);
    let (flows, dead) = open(&mut net);
    kill(&mut net);
    assert_eq!(net.counts(0).doomed, dead as u64);
    assert!(at_client(&mut net, 0).is_empty(), "nobody is reset unasked");
    for (n, (flow, server)) in flows.iter().enumerate() {
        let ack = 5000 + n as u32;
        net.agents[0].receive(1, &segment(flow, flags::ACK, 77, ack));
        net.settle();
        if *server != DEAD {
            assert_eq!(net.agents[0].take_left()[0].1.dst, *server);
            continue;
        }
        let got = at_client(&mut net, 0);
        assert_eq!(got, [(flow.reversed(), flags::RST, ack)], "A6.16");
    }
    net.advance(Duration::from_millis(100));
    let alive = flows.len() - dead;
    assert_eq!(net.agents[0].switch.fixed.len(), 2 * alive, "deleted");
    assert_eq!(net.live(0), alive as u64);
    assert_eq!(net.counts(0).resets, dead as u64);
    // What was under way behind that packet is answered, too, and makes no flow again.
    let (flow, _) = flows.iter().find(|(_, s)| *s == DEAD).unwrap();
    net.agents[0].receive(1, &segment(flow, flags::FIN, 78, 0));
    net.settle();
    let got = at_client(&mut net, 0);
    assert_eq!(got, [(flow.reversed(), flags::RST | flags::ACK, 0)]);
    // A RST is not.
    net.agents[0].receive(1, &segment(flow, flags::RST, 79, 0));
    net.settle();
    assert!(net.agents[0].left.is_empty());
    assert_eq!(net.agents[0].switch.fixed.len(), 2 * alive);
    assert_eq!(net.agents[0].agent.counters().held.now, 0);
    // The client connects again from the same port.
    let server = net.send(0, flow, flags::SYN).unwrap();
    assert_ne!(server, DEAD);
    assert_eq!(net.send(0, flow, flags::ACK), Some(server));
}

#[test]
fn a6_16_a_client_that_resets_first_ends_its_flow_without_an_answer() {
    let mut net = calm(&deadly(OnDeath::Reset), 1);
    let (flows, dead) = open(&mut net);
    kill(&mut net);
    let (flow, _) = flows.iter().find(|(_, s)| *s == DEAD).unwrap();
    assert_eq!(net.send(0, flow, flags::RST), None);
    net.advance(Duration::from_millis(100));
    assert_eq!(net.live(0), flows.len() as u64 - 1);
    assert_eq!((net.counts(0).resets, dead), (0, 6));
}

#[test]
fn a6_16_a_syn_that_is_repeated_because_its_server_died_opens_the_connection_at_another() {
    let mut net = calm(&deadly(OnDeath::Reset), 1);
    let (flows, _) = open(&mut net);
    kill(&mut net);
    for (flow, _) in flows.iter().filter(|(_, s)| *s == DEAD) {
        let server = net.send(0, flow, flags::SYN).unwrap();
        assert_ne!(server, DEAD);
        assert_eq!(net.send(0, flow, flags::ACK), Some(server));
    }
    // Nor do later words about the old flows harm the new ones.
    net.advance(Duration::from_secs(8));
    for (flow, server) in &flows {
        let went = net.send(0, flow, flags::ACK);
        assert!(went.is_some() && (*server == DEAD || went == Some(*server)));
    }
    assert_eq!(net.live(0), flows.len() as u64);
    assert_eq!(net.agents[0].switch.fixed.len(), 2 * flows.len());
}

#[test]
fn a6_16_at_every_agent_that_holds_the_flow_and_at_those_it_moves_to() {
    for on_death in [OnDeath::Drop, OnDeath::Reset] {
        let mut net = calm(&deadly(on_death), 3);
        let (flows, _) = open(&mut net);
        let (flow, _) = *flows.iter().find(|(_, s)| *s == DEAD).unwrap();
        assert_eq!(net.send(1, &flow, flags::ACK), Some(DEAD));
        kill(&mut net);
        for agent in 0..3 {
            net.agents[agent].receive(1, &segment(&flow, flags::ACK, 1, 9000));
            net.settle();
            let wanted = match on_death {
                OnDeath::Reset => vec![(flow.reversed(), flags::RST, 9000)],
                _ => vec![],
            };
            assert_eq!(at_client(&mut net, agent), wanted, "agent {agent}");
        }
        if on_death == OnDeath::Drop {
            let entry = net.agents[2].switch.fixed.values().next();
            assert!(entry.is_some(), "the third agent drops by itself");
        }
    }
}

#[test]
fn a6_16_an_agent_that_was_away_hears_of_it_on_its_return_and_lost_messages_are_repeated() {
    let mut net = calm(&deadly(OnDeath::Drop), 2);
    let (flows, _) = open(&mut net);
    let (flow, _) = *flows.iter().find(|(_, s)| *s == DEAD).unwrap();
    net.cut(0, 0);
    kill(&mut net);
    assert_eq!(net.send(0, &flow, flags::ACK), Some(DEAD), "it cannot know");
    net.mend(0, 0);
    net.advance(Duration::from_millis(50));
    assert_eq!(net.send(0, &flow, flags::ACK), None);

    for seed in 1..4 {
        let mut net = Net::new(&deadly(OnDeath::Drop), 1, rough(seed));
        net.advance(Duration::from_secs(3));
        let flows: Vec<(Tuple, IpAddr)> = (0..12)
            .map(|n| (client(9, 2000 + n), net.connect(0, &client(9, 2000 + n))))
            .collect();
        net.alive.retain(|a| *a != DEAD);
        net.advance(Duration::from_secs(8));
        for (flow, server) in &flows {
            net.agents[0].take_left();
            let wanted = (*server != DEAD).then_some(*server);
            assert_eq!(net.send(0, flow, flags::ACK), wanted, "seed {seed}");
        }
    }
}

#[test]
fn a6_16_a_manager_that_starts_again_goes_on_with_what_it_finds() {
    let plan = deadly(OnDeath::Drop);
    let mut net = calm(&plan, 2);
    let (flows, _) = open(&mut net);
    kill(&mut net);
    let (dead, _) = *flows.iter().find(|(_, s)| *s == DEAD).unwrap();
    net.stop(0);
    net.start(manager(&plan, 2), Faults::none());
    net.advance(Duration::from_millis(50));
    assert_eq!(net.send(0, &dead, flags::ACK), None);
    // The other agent knows nothing of the flow: it is told to drop it, too, and a SYN is a new connection.
    assert_eq!(net.send(1, &dead, flags::ACK), None);
    let counts = net.managers[1].status().services[0].counts;
    assert_eq!((counts.mid_flow_known, counts.mid_flow_unknown), (1, 0));
    let mut net = calm(&plan, 2);
    let (flows, _) = open(&mut net);
    kill(&mut net);
    let (dead, _) = *flows.iter().find(|(_, s)| *s == DEAD).unwrap();
    net.stop(0);
    net.start(manager(&plan, 2), Faults::none());
    net.advance(Duration::from_millis(50));
    let server = net.send(1, &dead, flags::SYN);
    assert!(server.is_some());
    assert_eq!(net.send(1, &dead, flags::ACK), server);
    assert_eq!(net.managers[1].status().services[0].counts.decided, 1);
}

#[test]
fn a6_16_udp_is_dropped_whatever_the_policy_says_and_decided_afresh_when_it_has_been_idle() {
    for on_death in [OnDeath::Drop, OnDeath::Reset] {
        let mut plan = deadly(on_death);
        let service = &mut plan.services[0];
        for part in [&mut service.forward, service.reply.as_mut().unwrap()] {
            for cube in part.criteria.iter_mut().flat_map(|c| &mut c.cubes) {
                cube.proto = Some(signalbox_lower::plan::Masked {
                    value: 17,
                    mask: 0xff,
                });
            }
        }
        let mut net = calm(&plan, 1);
        let flow = Tuple {
            proto: 17,
            ..client(9, 2000)
        };
        assert_eq!(net.send(0, &flow, 0), Some(DEAD));
        kill(&mut net);
        for _ in 0..3 {
            assert_eq!(net.send(0, &flow, 0), None, "{on_death:?}");
            net.advance(Duration::from_millis(500));
        }
        assert!(at_client(&mut net, 0).is_empty());
        net.advance(Duration::from_secs(9));
        let other = net.send(0, &flow, 0);
        assert!(other.is_some() && other != Some(DEAD), "{on_death:?}");
    }
}

#[test]
fn a6_16_a6_21_a_flow_that_was_dispatched_is_reset_in_its_servers_name() {
    let mut plan = deadly(OnDeath::Reset);
    plan.services[0].reply = None;
    plan.services[0].balance.as_mut().unwrap().way = Way::Mac;
    let mut net = calm(&plan, 1);
    let flow = client(9, 2000);
    net.agents[0].receive(1, &tcp(1, &flow, flags::SYN, b""));
    net.settle();
    let entry = |net: &Net| net.agents[0].switch.fixed.values().next().copied();
    let (port, went) = net.agents[0].take_left()[0];
    assert_eq!((port, went), (2, flow), "dispatched to the first rack");
    assert_eq!(entry(&net).unwrap().packet_events & events::ALL, 0);
    kill(&mut net);
    net.agents[0].receive(1, &segment(&flow, flags::ACK, 1, 4242));
    net.settle();
    assert_eq!(
        at_client(&mut net, 0),
        [(flow.reversed(), flags::RST, 4242)]
    );
    net.advance(Duration::from_millis(100));
    assert_eq!(entry(&net), None);
}

#[test]
fn a_dead_servers_flows_ask_for_their_packets_in_the_clients_direction_only() {
    let mut net = calm(&deadly(OnDeath::Reset), 1);
    open(&mut net);
    kill(&mut net);
    for (key, entry) in &net.agents[0].switch.fixed {
        let of_dead = key.tuple.src == DEAD
            || matches!(entry.action, signalbox_agent::entry::FixedAction::Translate(to) if to.dst == DEAD);
        let asks = entry.packet_events & events::ALL != 0;
        assert_eq!(asks, of_dead && key.part == Part::Forward);
    }
}
