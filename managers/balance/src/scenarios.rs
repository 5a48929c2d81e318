//! The balance manager with agents on stand-in switches, over channels that lose, double and delay.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use signalbox_agent::Input as ToTheAgent;
use signalbox_agent::channel::{FaultLine, Faults};
use signalbox_agent::flow::Tuple;
use signalbox_agent::message::{AgentBody, ManagerBody, ToAgent, ToManager};
use signalbox_agent::testing::{World, client, flags, plan, tcp};
use signalbox_lower::plan::{CheckKind, CheckPlan, Pick, Plan};
use signalbox_manager::peer::PeerMessage;
use signalbox_manager::{Counts, Input, Manager, Output};

use crate::Balance;

mod death;
mod division;
mod endpoints;
mod failover;
mod need_to_know;
mod replication;
mod restarts;
mod servers;
mod split;
mod succession;
mod ways;

const STEP: Duration = Duration::from_millis(1);

/// Managers of one name, each with its own line to each agent.
struct Net {
    now: Duration,
    agents: Vec<World>,
    managers: Vec<Manager>,
    up: Vec<((usize, usize), FaultLine<ToManager>)>,
    down: Vec<((usize, usize), FaultLine<ToAgent>)>,
    /// Ways between managers: from one, which the other knows by its number here, to the other.
    across: Vec<((usize, usize), FaultLine<PeerMessage>)>,
    /// So many messages arrive yet, and then none.
    fuse: usize,
    /// Sessions as each agent numbers them: (agent, session) to manager.
    sessions: BTreeMap<(usize, u64), usize>,
    /// What was said to each agent.
    told: Vec<(usize, ManagerBody)>,
    /// Managers that hear and say nothing.
    hung: BTreeSet<usize>,
    /// Servers that answer SYNs to them.
    alive: Vec<IpAddr>,
    /// What they answer to a GET: a body, which comes with status 200, or all of the answer.
    bodies: BTreeMap<IpAddr, &'static str>,
}

fn manager(plan: &Plan, epoch: u64) -> Manager {
    let balance = Balance::new(&plan.services[0]).unwrap();
    Manager::new(
        "lb-1",
        plan,
        vec![("web-lb".into(), 0, epoch, Box::new(balance))],
    )
}

fn agent(number: usize, plan: &Plan) -> World {
    World::named(&format!("agent-{}", number + 1), plan.clone())
}

impl Net {
    fn new(plan: &Plan, agents: usize, faults: Faults) -> Self {
        let mut net = Self {
            now: Duration::ZERO,
            agents: (0..agents).map(|a| agent(a, plan)).collect(),
            managers: Vec::new(),
            up: Vec::new(),
            down: Vec::new(),
            across: Vec::new(),
            fuse: usize::MAX,
            sessions: BTreeMap::new(),
            told: Vec::new(),
            hung: BTreeSet::new(),
            alive: (plan.services[0].balance.as_ref().unwrap().servers.iter())
                .map(|s| s.address)
                .collect(),
            bodies: BTreeMap::new(),
        };
        net.start(manager(plan, 1), faults);
        net
    }

    fn start(&mut self, manager: Manager, faults: Faults) {
        let m = self.managers.len();
        self.managers.push(manager);
        for a in 0..self.agents.len() {
            let session = m as u64 + 1;
            self.sessions.insert((a, session), m);
            let seed = faults.seed + 100 * m as u64 + a as u64;
            let faults = Faults { seed, ..faults };
            self.up.push(((a, m), FaultLine::new(faults)));
            self.down.push(((a, m), FaultLine::new(faults)));
            self.agents[a].feed(ToTheAgent::SessionOpened(session));
            let out = self.managers[m].handle(self.now, Input::Connected(a as u64));
            self.carry(m, out);
        }
    }

    /// There is a way between two managers.
    fn link(&mut self, m: usize, n: usize, faults: Faults) {
        for (from, to) in [(m, n), (n, m)] {
            let seed = faults.seed + 1000 * from as u64 + to as u64;
            let faults = Faults { seed, ..faults };
            self.across.push(((from, to), FaultLine::new(faults)));
        }
        for (m, n) in [(m, n), (n, m)] {
            let out = self.managers[m].handle(self.now, Input::PeerConnected(n as u64));
            self.carry(m, out);
        }
    }

    /// It is gone.
    fn unlink(&mut self, m: usize, n: usize) {
        let there = self.across.len();
        (self.across).retain(|(of, _)| ![(m, n), (n, m)].contains(of));
        if self.across.len() == there {
            return;
        }
        for (m, n) in [(m, n), (n, m)] {
            let out = self.managers[m].handle(self.now, Input::PeerDisconnected(n as u64));
            self.carry(m, out);
        }
    }

    fn stop(&mut self, m: usize) {
        self.up.retain(|((_, to), _)| *to != m);
        self.down.retain(|((_, from), _)| *from != m);
        for n in 0..self.managers.len() {
            self.unlink(m, n);
        }
        for a in 0..self.agents.len() {
            self.agents[a].feed(ToTheAgent::SessionClosed(m as u64 + 1));
        }
    }

    /// The way between an agent and the manager breaks.
    fn cut(&mut self, a: usize, m: usize) {
        self.agents[a].feed(ToTheAgent::SessionClosed(m as u64 + 1));
        self.agents[a].said.clear();
        let out = self.managers[m].handle(self.now, Input::Disconnected(a as u64));
        self.carry(m, out);
    }

    /// It is mended.
    fn mend(&mut self, a: usize, m: usize) {
        self.agents[a].feed(ToTheAgent::SessionOpened(m as u64 + 1));
        let out = self.managers[m].handle(self.now, Input::Connected(a as u64));
        self.carry(m, out);
        self.settle();
    }

    /// The manager hears this from an agent.
    fn hear(&mut self, a: usize, m: usize, body: AgentBody) {
        let message = ToManager {
            service: "web-lb".into(),
            share: 0,
            epoch: 1,
            body,
        };
        let out = self.managers[m].handle(self.now, Input::Message(a as u64, message));
        self.carry(m, out);
    }

    /// What a manager has counted.
    fn counts(&self, m: usize) -> Counts {
        self.managers[m].status().services[0].counts
    }

    /// Flows that the manager believes alive, by server.
    fn live(&self, m: usize) -> u64 {
        let status = self.managers[m].status();
        status.services[0].targets.iter().map(|t| t.flows).sum()
    }

    fn carry(&mut self, m: usize, out: Vec<Output>) {
        for output in out {
            match &output {
                Output::Peer(to, message) => {
                    let key = (m, *to as usize);
                    if let Some((_, line)) = self.across.iter_mut().find(|(k, _)| *k == key) {
                        line.push(self.now, message.clone());
                    }
                }
                Output::PeerClose(to) => self.unlink(m, *to as usize),
                _ => {}
            }
            if let Output::Message(agent, message) = output {
                let key = (agent as usize, m);
                self.told.push((key.0, message.body.clone()));
                if let Some((_, line)) = self.down.iter_mut().find(|(k, _)| *k == key) {
                    line.push(self.now, message);
                }
            }
        }
    }

    /// Everything that is due now.
    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            for a in 0..self.agents.len() {
                for (session, message) in std::mem::take(&mut self.agents[a].said) {
                    quiet = false;
                    let Some(m) = self.sessions.get(&(a, session)).copied() else {
                        continue;
                    };
                    if let Some((_, line)) = self.up.iter_mut().find(|(k, _)| *k == (a, m)) {
                        line.push(self.now, message);
                    }
                }
            }
            for i in 0..self.up.len() {
                let (a, m) = self.up[i].0;
                if self.hung.contains(&m) {
                    continue;
                }
                while self.fuse > 0
                    && let Some(message) = self.up[i].1.pop(self.now)
                {
                    (quiet, self.fuse) = (false, self.fuse - 1);
                    let out = self.managers[m].handle(self.now, Input::Message(a as u64, message));
                    self.carry(m, out);
                }
            }
            for i in 0..self.across.len() {
                let Some((from, to)) = self.across.get(i).map(|(of, _)| *of) else {
                    break;
                };
                if self.hung.contains(&to) {
                    continue;
                }
                while self.fuse > 0
                    && let Some((_, line)) = self.across.get_mut(i)
                    && let Some(message) = line.pop(self.now)
                {
                    (quiet, self.fuse) = (false, self.fuse - 1);
                    let input = Input::Peer(from as u64, message);
                    let out = self.managers[to].handle(self.now, input);
                    self.carry(to, out);
                }
            }
            for i in 0..self.down.len() {
                let (a, m) = self.down[i].0;
                while self.fuse > 0
                    && let Some(message) = self.down[i].1.pop(self.now)
                {
                    (quiet, self.fuse) = (false, self.fuse - 1);
                    let session = m as u64 + 1;
                    self.agents[a].feed(ToTheAgent::Message(session, message));
                }
            }
            quiet &= !self.answer_checks();
            if quiet {
                return;
            }
        }
    }

    /// Servers answer SYNs from the switch's own addresses.
    fn answer_checks(&mut self) -> bool {
        let mut any = false;
        for world in &mut self.agents {
            let (checks, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut world.left)
                .into_iter()
                .partition(|(_, f)| {
                    signalbox_agent::packet::view(f)
                        .is_some_and(|v| v.tuple.sport >= 61_440 && v.tuple.src != v.tuple.dst)
                });
            world.left = rest;
            for (port, frame) in checks {
                let view = signalbox_agent::packet::view(&frame).unwrap();
                if !self.alive.contains(&view.tuple.dst) {
                    continue;
                }
                let (flags, payload) = match view.flags {
                    flags::SYN => (flags::SYN | flags::ACK, String::new()),
                    flag if flag & flags::RST != 0 => continue,
                    _ => match self.bodies.get(&view.tuple.dst) {
                        Some(body) if frame[54..].starts_with(b"GET ") => (
                            flags::FIN | flags::ACK,
                            match body.starts_with("HTTP/") {
                                true => (*body).to_owned(),
                                false => format!("HTTP/1.0 200 OK\r\n\r\n{body}"),
                            },
                        ),
                        _ => continue,
                    },
                };
                any = true;
                let seq = u32::from_be_bytes(frame[38..42].try_into().unwrap());
                let back = view.tuple.reversed();
                let mut answer = tcp(port, &back, flags, payload.as_bytes()).to_vec();
                // The SYN has number 0.
                answer[38..42].copy_from_slice(&u32::from(!payload.is_empty()).to_be_bytes());
                answer[42..46].copy_from_slice(&seq.wrapping_add(1).to_be_bytes());
                world.receive(port, &answer.into());
            }
        }
        any
    }

    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while self.now < end {
            self.now += STEP;
            for world in &mut self.agents {
                let lag = self.now.saturating_sub(world.now);
                world.advance(lag);
            }
            for m in 0..self.managers.len() {
                let due = self.managers[m].next_deadline();
                if due.is_some_and(|d| d <= self.now) && !self.hung.contains(&m) {
                    let out = self.managers[m].handle(self.now, Input::Tick);
                    self.carry(m, out);
                }
            }
            self.settle();
        }
    }

    /// A packet of a client at an agent; where it went, if it went.
    fn send(&mut self, agent: usize, flow: &Tuple, flags: u8) -> Option<IpAddr> {
        self.agents[agent].receive(1, &tcp(1, flow, flags, b""));
        self.settle();
        let left = self.agents[agent].take_left();
        left.first().map(|(_, t)| t.dst)
    }

    /// Sends a SYN until it arrives, as a client does.
    fn connect(&mut self, agent: usize, flow: &Tuple) -> IpAddr {
        for _ in 0..50 {
            if let Some(server) = self.send(agent, flow, flags::SYN) {
                return server;
            }
            for _ in 0..10 {
                self.advance(Duration::from_millis(100));
                if let Some((_, t)) = self.agents[agent].take_left().first() {
                    return t.dst;
                }
            }
        }
        panic!("{flow} never got through");
    }
}

fn calm(plan: &Plan, agents: usize) -> Net {
    let mut net = Net::new(plan, agents, Faults::none());
    net.advance(Duration::from_millis(5));
    net
}

fn maglev() -> Plan {
    let mut plan = plan();
    plan.services[0].balance.as_mut().unwrap().pick = Pick::MaglevFlow;
    plan
}

fn rough(seed: u64) -> Faults {
    Faults {
        seed,
        lose: 150,
        double: 150,
        delay: 300,
        by: Duration::from_millis(80),
    }
}

// A6.5
#[test]
fn a6_1_one_decision_a_connection() {
    let mut net = calm(&plan(), 1);
    for n in 0..40 {
        let flow = client(9, 2000 + n);
        let server = net.send(0, &flow, flags::SYN).unwrap();
        for _ in 0..5 {
            assert_eq!(net.send(0, &flow, flags::ACK), Some(server));
        }
    }
    let status = net.managers[0].status();
    let counts = status.services[0].counts;
    assert_eq!((counts.interest_packets, counts.decided), (40, 40));
    let chosen: Vec<u64> = status.services[0]
        .targets
        .iter()
        .map(|t| t.chosen)
        .collect();
    assert_eq!(chosen, [20, 10, 10], "A6.5");
    assert_eq!(status.agents, ["agent-1"]);
}

#[test]
fn a6_2_several_agents_and_managers_give_a_flow_the_same_server() {
    let plan = maglev();
    let mut one = calm(&plan, 2);
    let mut other = calm(&plan, 1);
    for n in 0..50 {
        let flow = client(9, 2000 + n);
        let server = one.send(0, &flow, flags::SYN);
        assert_eq!(one.send(1, &flow, flags::SYN), server);
        assert_eq!(other.send(0, &flow, flags::SYN), server);
    }
}

#[test]
fn a6_3_a_second_syn_before_the_affinity_is_in_gets_the_same_server() {
    let mut net = calm(&plan(), 2);
    let flow = client(9, 2000);
    net.agents[0].slow = true;
    assert_eq!(net.send(0, &flow, flags::SYN), None);
    // The other agent sees the retransmission.
    let server = net.send(1, &flow, flags::SYN).unwrap();
    net.agents[0].release();
    assert_eq!(net.agents[0].take_left()[0].1.dst, server);
    assert_eq!(net.managers[0].status().services[0].counts.repeated, 1);
}

#[test]
fn a8_3_a_flow_that_moves_to_another_agent_in_mid_stream_keeps_its_server() {
    let mut net = calm(&plan(), 2);
    let flow = client(9, 2000);
    let server = net.send(0, &flow, flags::SYN);
    assert_eq!(net.send(1, &flow, flags::ACK), server);
    let counts = net.managers[0].status().services[0].counts;
    assert_eq!(counts.mid_flow_known, 1);
}

#[test]
fn a8_3_a_flow_that_is_opened_anew_where_it_moved_to_does_not_meet_its_former_self_where_it_was() {
    let mut net = calm(&plan(), 2);
    let flow = client(9, 2000);
    let former = net.send(0, &flow, flags::SYN);
    assert_eq!(net.send(1, &flow, flags::ACK), former);
    net.send(1, &flow, flags::RST);
    let server = net.send(1, &flow, flags::SYN);
    assert!(server.is_some() && server != former, "A6.15");
    assert_eq!(net.send(0, &flow, flags::ACK), server);
}

// When a packet in mid-flow that nobody knows
#[test]
fn a8_4_an_unknown_packet_in_mid_flow_never_gets_a_server() {
    let mut net = calm(&plan(), 1);
    for flags in [flags::ACK, flags::SYN | flags::ACK, flags::FIN | flags::ACK] {
        assert_eq!(net.send(0, &client(9, 2000), flags), None);
    }
    let counts = net.managers[0].status().services[0].counts;
    assert_eq!((counts.mid_flow_unknown, counts.decided), (3, 0));
    let server: Tuple = Tuple {
        src: IpAddr::from([10, 0, 1, 10]),
        dst: IpAddr::from([203, 0, 113, 9]),
        proto: 6,
        sport: 8080,
        dport: 2000,
    };
    net.agents[0].receive(2, &tcp(2, &server, flags::ACK, b""));
    net.settle();
    assert!(
        net.agents[0].take_left().is_empty(),
        "nor a reply an address"
    );
}

#[test]
fn a8_7_when_the_entry_has_gone_and_the_flow_goes_on_the_decision_is_repeated() {
    let mut p = plan();
    p.services[0].limits.half_open_ms = 100;
    p.services[0].limits.idle_ms = 100;
    p.services[0].limits.hold_ms = 20;
    let mut net = calm(&p, 1);
    for n in 0..4 {
        let flow = client(9, 2000 + n);
        let server = net.send(0, &flow, flags::SYN);
        net.advance(Duration::from_millis(180));
        assert!(net.agents[0].switch.fixed.is_empty(), "its lease is over");
        assert_eq!(net.send(0, &flow, flags::ACK), server);
    }
    net.advance(Duration::from_secs(1));
    assert_eq!(
        net.send(0, &client(9, 2000), flags::ACK),
        None,
        "nothing is remembered for ever"
    );
}

#[test]
fn a6_15_a_syn_on_a_closed_tuple_gets_a_fresh_decision() {
    let mut net = calm(&plan(), 1);
    let flow = client(9, 2000);
    let servers: Vec<IpAddr> = (0..4)
        .map(|_| {
            let server = net.send(0, &flow, flags::SYN).unwrap();
            assert_eq!(net.send(0, &flow, flags::SYN), Some(server), "live");
            net.send(0, &flow, flags::RST);
            server
        })
        .collect();
    assert_eq!(net.managers[0].status().services[0].counts.decided, 4);
    assert!(servers.windows(2).any(|w| w[0] != w[1]));
}

#[test]
fn a8_5_a_late_agent_has_every_criterion_within_one_heartbeat() {
    let mut net = calm(&plan(), 2);
    let reason = "gone".to_owned();
    net.agents[1].feed(ToTheAgent::SwitchDown { reason });
    net.agents[1] = agent(1, &plan());
    net.agents[1].now = net.now;
    net.agents[1].feed(ToTheAgent::SessionOpened(1));
    let out = net.managers[0].handle(net.now, Input::Connected(1));
    net.carry(0, out);
    net.advance(Duration::from_millis(1000));
    assert_eq!(net.agents[1].switch.criteria.len(), 4);
}

#[test]
fn a8_6_lost_doubled_and_late_messages_heal_by_themselves() {
    for seed in 1..6 {
        let plan = maglev();
        let mut calm = calm(&plan, 1);
        let mut net = Net::new(&plan, 2, rough(seed));
        net.advance(Duration::from_secs(5));
        for n in 0..30 {
            let flow = client(9, 2000 + n);
            let server = calm.send(0, &flow, flags::SYN).unwrap();
            assert_eq!(net.connect(0, &flow), server, "seed {seed}");
            assert_eq!(net.connect(1, &flow), server, "seed {seed}");
        }
        let status = net.managers[0].status();
        assert_eq!(
            status.services[0]
                .targets
                .iter()
                .map(|t| t.chosen)
                .sum::<u64>(),
            30
        );
        for world in &net.agents {
            assert_eq!(world.agent.counters().held.now, 0);
        }
    }
}

// When a manager returns
// When a manager vanishes
// A9.10
#[test]
fn a9_4_a9_8_a_managers_death_breaks_no_flow_and_its_return_decides_nothing_anew() {
    let plan = plan();
    let mut net = calm(&plan, 1);
    let flows: Vec<Tuple> = (0..8).map(|n| client(9, 2000 + n)).collect();
    let servers: Vec<IpAddr> = (flows.iter())
        .map(|f| net.send(0, f, flags::SYN).unwrap())
        .collect();
    net.stop(0);
    net.advance(Duration::from_secs(4));
    assert!(net.agents[0].switch.criteria.is_empty());
    for (flow, server) in flows.iter().zip(&servers) {
        assert_eq!(net.send(0, flow, flags::ACK), Some(*server));
    }
    assert_eq!(net.send(0, &client(9, 3000), flags::SYN), None, "A9.10");

    net.start(manager(&plan, 2), Faults::none());
    net.advance(Duration::from_millis(50));
    assert!(net.send(0, &client(9, 3000), flags::SYN).is_some());
    let status = net.managers[1].status();
    assert_eq!(status.services[0].flows, 9, "it knows what was decided");
    // An old flow's packet at a point where its entry is gone.
    net.agents[0].switch.fixed.clear();
    let (flow, server) = (&flows[3], servers[3]);
    let again = Manager::status(&net.managers[1]).services[0].counts.decided;
    let went = net.send(0, flow, flags::ACK);
    assert!(went.is_none() || went == Some(server));
    assert_eq!(net.managers[1].status().services[0].counts.decided, again);
}

#[test]
fn a6_11_a6_13_a_silent_server_is_taken_out_and_comes_back() {
    let mut p = plan();
    p.services[0].balance.as_mut().unwrap().check = Some(CheckPlan {
        kind: CheckKind::Tcp,
        every_ms: 200,
        timeout_ms: 100,
        rise: 2,
        fall: 2,
    });
    let mut net = calm(&p, 1);
    let dead = IpAddr::from([10, 0, 1, 10]);
    net.advance(Duration::from_secs(1));
    let up = |net: &Net| -> Vec<bool> {
        let status = net.managers[0].status();
        status.services[0].targets.iter().map(|t| t.up).collect()
    };
    assert_eq!(up(&net), [true, true, true]);
    let old = client(9, 1999);
    while net.send(0, &old, flags::SYN) != Some(dead) {
        net.send(0, &old, flags::RST);
    }
    net.alive.retain(|a| *a != dead);
    net.advance(Duration::from_millis(700));
    assert_eq!(up(&net), [false, true, true]);
    for n in 0..20 {
        assert_ne!(net.send(0, &client(9, 2000 + n), flags::SYN), Some(dead));
    }
    assert_eq!(
        net.send(0, &old, flags::ACK),
        Some(dead),
        "old ones live on"
    );
    net.alive.push(dead);
    net.advance(Duration::from_millis(700));
    assert_eq!(up(&net), [true, true, true]);
}
