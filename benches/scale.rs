//! Many of everything in one process: agents with a switch each, a service divided among twenty managers, and a
//! million flows. Prints the messages a flow, the rate at which flows are set up and what a flow takes in memory,
//! with few agents and with many; writes the figures where `ci/bench` finds them, and fails if what is said about
//! a flow grows with the number of agents.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench that cannot run is to stop with its place"
)]

mod running;

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel as line};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use running::{ACK, SYN, answer};
use signalbox::image::Compiled;
use signalbox::service::{RunningTarget, Service};
use signalbox_agent::channel::{self, Channel, Closed, Memory, Sender};
use signalbox_agent::message::{AgentBody, ManagerBody, ToAgent, ToManager};
use signalbox_balance::Balance;
use signalbox_lower::plan::Plan;
use signalbox_manager::{Manager, shell};
use signalbox_switch::ports::MemoryPort;
use tokio::runtime::Runtime;

/// The divisions of all sources among managers, as first address and length.
const PARTS: usize = 20;
/// SYNs on their way at once, over all agents.
const OUTSTANDING: usize = 512;
/// Longer than any packet takes.
const PATIENCE: Duration = Duration::from_secs(5);

fn part(n: usize) -> (u32, u8) {
    match n {
        0..16 => ((n as u32) << 27, 5),
        16 => (128 << 24, 4),
        17 => (144 << 24, 4),
        18 => (160 << 24, 3),
        _ => (192 << 24, 2),
    }
}

/// A service with a manager for each part of its clients.
fn divided() -> String {
    let mut text = String::from(
        "network {
  port 1 internet { address 203.0.113.1/24 }
  port 2 servers { address 10.2.0.1/24 }
  route 0.0.0.0/0 via 203.0.113.254
  neighbour 203.0.113.254 at 02:00:00:00:01:fe on internet
  neighbour 10.2.0.10 at 02:00:00:00:02:10 on servers
  neighbour 10.2.0.11 at 02:00:00:00:02:11 on servers
}

pool web {
  10.2.0.10:8080
  10.2.0.11:8080
}

service shop : balance {
  match tcp.dst 203.0.113.80:80
  pick from @web by maglev(flow)
  keep idle 1h, half-open 1h
}

cascade shop

managers {
",
    );
    for n in 0..PARTS {
        let (first, length) = part(n);
        let first = std::net::Ipv4Addr::from(first);
        writeln!(text, "  m{n} serves shop where ip.src in {first}/{length}").expect("a line");
    }
    text + "}\n"
}

/// Messages about flows, and those that keep sessions alive.
#[derive(Debug, Default)]
struct Count {
    flows: AtomicU64,
    beats: AtomicU64,
}

impl Count {
    fn note(&self, is_beat: bool) {
        let count = if is_beat { &self.beats } else { &self.flows };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// A manager's end of a session that counts what crosses it.
struct Counted {
    end: Memory<ToAgent, ToManager>,
    count: Arc<Count>,
}

struct CountedSender(Box<dyn Sender<ToAgent>>, Arc<Count>);
struct CountedReceiver(Box<dyn channel::Receiver<ToManager>>, Arc<Count>);

impl Channel<ToAgent, ToManager> for Counted {
    fn split(
        self: Box<Self>,
    ) -> (
        Box<dyn Sender<ToAgent>>,
        Box<dyn channel::Receiver<ToManager>>,
    ) {
        let (tx, rx) = Box::new(self.end).split();
        (
            Box::new(CountedSender(tx, Arc::clone(&self.count))),
            Box::new(CountedReceiver(rx, self.count)),
        )
    }
}

impl Sender<ToAgent> for CountedSender {
    fn send(&self, message: ToAgent) -> Result<(), Closed> {
        self.1
            .note(matches!(message.body, ManagerBody::Heartbeat(_)));
        self.0.send(message)
    }
}

#[async_trait]
impl channel::Receiver<ToManager> for CountedReceiver {
    async fn recv(&mut self) -> Option<ToManager> {
        let message = self.0.recv().await?;
        self.1
            .note(matches!(message.body, AgentBody::HeartbeatAck(_)));
        Some(message)
    }
}

/// Agents with their switches, and the managers of all of them.
struct Site {
    agents: Vec<Service>,
    /// Their ends stop them.
    _managers: Vec<shell::Handle>,
    count: Arc<Count>,
    /// What leaves: by agent, with its port.
    left: Receiver<(usize, u16, Vec<u8>)>,
}

impl Site {
    async fn start(compiled: &Compiled, agents: usize) -> Self {
        let mut plan = compiled.lowered.plan.clone();
        plan.services[0]
            .balance
            .as_mut()
            .expect("a pool of servers")
            .check = None;
        plan.services[0].limits.hold_ms = 5_000;
        let plan = Arc::new(plan);
        let (tell, left) = line();
        let mut services = Vec::new();
        for n in 0..agents {
            let numbers: Vec<u16> = plan.ports.iter().map(|port| port.number).collect();
            let target = RunningTarget::of_plan(&plan).await.expect("a switch");
            let name = format!("agent-{n}");
            let pipeline = compiled.pipeline();
            let service =
                Service::start_agent(&name, Arc::clone(&plan), compiled, target, pipeline)
                    .await
                    .expect("an agent");
            let ports = numbers.into_iter().map(|number| {
                let tell = tell.clone();
                let sink = move |packet: &[u8]| {
                    let _ = tell.send((n, number, packet.to_vec()));
                };
                (number, Box::new(MemoryPort::new(sink)) as _)
            });
            service.attach(ports.collect()).expect("the ports");
            services.push(service);
        }
        let count = Arc::new(Count::default());
        let managers = (plan.managers.iter())
            .map(|manager| {
                let handle = start_manager(&plan, &manager.name);
                for service in &services {
                    let (agent_end, end) = channel::memory();
                    service.view().agent().attach(Box::new(agent_end));
                    let count = Arc::clone(&count);
                    handle.attach(Box::new(Counted { end, count }));
                }
                handle
            })
            .collect();
        let site = Self {
            agents: services,
            _managers: managers,
            count,
            left,
        };
        site.wait_for_criteria().await;
        site
    }

    /// Four criteria of each manager at each agent would be missed by the first packets.
    async fn wait_for_criteria(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        for service in &self.agents {
            loop {
                let status = service
                    .view()
                    .agent()
                    .status(false)
                    .await
                    .expect("a status");
                if status.managers == PARTS && status.counters.criteria.now >= PARTS as u64 {
                    break;
                }
                assert!(Instant::now() < deadline, "{status:?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Opens these connections, each at the next agent, and waits until all are answered.
    fn open(&self, syns: &[Vec<u8>]) -> Duration {
        let views: Vec<_> = self.agents.iter().map(Service::view).collect();
        let inject = |agent: usize, port: u16, packet: Vec<u8>| {
            let switch = views[agent].switch().expect("the embedded switch");
            switch.inject(port, packet).expect("a running switch");
        };
        let mut syns = syns.iter().enumerate();
        let (mut under_way, begin) = (0, Instant::now());
        loop {
            while under_way < OUTSTANDING
                && let Some((n, syn)) = syns.next()
            {
                inject(n / PARTS % views.len(), 1, syn.clone());
                under_way += 1;
            }
            if under_way == 0 {
                return begin.elapsed();
            }
            let (agent, port, packet) = (self.left.recv_timeout(PATIENCE))
                .expect("packets leave as long as some are under way");
            match port {
                1 => under_way -= 1,
                _ => inject(agent, port, answer(packet, SYN | ACK)),
            }
        }
    }
}

fn start_manager(plan: &Plan, name: &str) -> shell::Handle {
    let service = &plan.services[0];
    let served = (service.shares_of(name))
        .map(|(number, _)| {
            let balance = Balance::new(&service.of_share(number)).expect("a pool of servers");
            (service.name.clone(), number, 0, Box::new(balance) as _)
        })
        .collect();
    shell::start(Manager::new(name, plan, served).with_instance(1)).0
}

/// What so many agents and flows come to.
struct Figures {
    agents: usize,
    flows: usize,
    set_up: f64,
    messages: f64,
    beats: f64,
    bytes: u64,
}

fn measure(runtime: &Runtime, compiled: &Compiled, agents: usize, syns: &[Vec<u8>]) -> Figures {
    let site = runtime.block_on(Site::start(compiled, agents));
    let of = |count: &AtomicU64| count.swap(0, Ordering::Relaxed) as f64;
    let before = running::resident();
    // What was said to begin with.
    of(&site.count.flows);
    of(&site.count.beats);
    let took = site.open(syns).as_secs_f64();
    let flows = syns.len();
    Figures {
        agents,
        flows,
        set_up: flows as f64 / took,
        messages: of(&site.count.flows) / flows as f64,
        beats: of(&site.count.beats) / took,
        bytes: (running::resident() - before) / flows as u64,
    }
}

fn main() {
    let policy = signalbox_policy::check(&divided(), "scale.policy")
        .policy
        .expect("a policy without errors");
    let compiled = running::compiled(&policy);
    let runtime = Runtime::new().expect("a runtime");
    let million: Vec<Vec<u8>> = {
        let each = 1_000_000 / PARTS as u64;
        let mut parts: Vec<_> = (0..PARTS)
            .map(|n| {
                // One address further on is no part's first, and no network's own.
                let clients = (part(n).0 + (1 << 24) + 1, 4_000);
                running::segments(&policy, clients, [203, 0, 113, 80], each, SYN).into_iter()
            })
            .collect();
        (0..each)
            .flat_map(|_| {
                parts
                    .iter_mut()
                    .filter_map(Iterator::next)
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    let sizes = [(1, 60_000), (10, 100_000), (100, 100_000), (100, 1_000_000)];
    let mut lines = Vec::new();
    let mut messages = Vec::new();
    for (agents, flows) in sizes {
        let f = measure(&runtime, &compiled, agents, &million[..flows]);
        println!(
            "{} agents, {PARTS} managers, {} flows: {:.0} flows a second, {:.3} messages a flow, {:.0} heartbeats a second, {} bytes a flow",
            f.agents, f.flows, f.set_up, f.messages, f.beats, f.bytes
        );
        let name = format!("scale/agents/{agents}/flows/{flows}");
        lines.push(serde_json::json!({
            "bench": name, "median_ns": 1e9 / f.set_up, "per_second": f.set_up.round() as u64,
        }));
        let taken = f.bytes * f.flows as u64 / 1_000_000;
        lines.push(serde_json::json!({"bench": format!("{name}/memory"), "megabytes": taken}));
        messages.push(f.messages);
    }
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/scale.json");
    std::fs::write(file, serde_json::json!(lines).to_string()).expect("figures for ci/bench");
    let (few, many) = (messages[0], messages[messages.len() - 1]);
    assert!(
        many < few * 1.1,
        "{few} messages a flow with one agent, {many} with a hundred"
    );
}
