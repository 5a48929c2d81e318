//! What it costs to tell a backup of decisions: how many flows agent and manager set up a second without it, with it,
//! and waiting for it; how many decisions a backup takes in; and how much later a verdict leaves over gRPC.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench, like a test, may panic"
)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use signalbox_agent::channel::{self, Channel, Receiver, Sender};
use signalbox_agent::flow::{PacketKind, Part, Tuple, events};
use signalbox_agent::message::{
    AgentBody, CarriedState, Interest, ManagerBody, ToAgent, ToManager, VERSION, Welcome,
};
use signalbox_agent::testing::{World, client, flags, plan, tcp, with_backup};
use signalbox_agent::{Input as ToTheAgent, plan_hash};
use signalbox_balance::Balance;
use signalbox_lower::plan::{Plan, Replicate};
use signalbox_manager::peer::{self, PeerHello, PeerMessage};
use signalbox_manager::{Input, LinkState, Manager, Output, shell};
use tokio::sync::mpsc;

const FLOWS: u32 = 20_000;
/// Client ports of a host.
const PORTS: u32 = 50_000;
/// Acknowledged together where nobody waits for it.
const TOGETHER: u64 = 64;

/// lb-1 decides for web-lb, and lb-2 stands by.
fn backed(replicate: Option<Replicate>) -> Plan {
    let mut plan = with_backup(plan(), "lb-2", 3_600_000, replicate);
    let service = &mut plan.services[0];
    service.forward.fixed_size = 2 * FLOWS;
    service.reply.as_mut().unwrap().fixed_size = 2 * FLOWS;
    service.limits.half_open_ms = 3_600_000;
    service.balance.as_mut().unwrap().check = None;
    plan
}

fn manager(name: &str, plan: &Plan) -> Manager {
    let balance = Balance::new(&plan.services[0]).unwrap();
    let served = vec![("web-lb".into(), 0, 0, Box::new(balance) as _)];
    Manager::new(name, plan, served)
}

fn flow(n: u32) -> Tuple {
    client(100 + (n / PORTS) as u8, 1_000 + (n % PORTS) as u16)
}

/// The first manager's agent, and what stands for its backup: it acknowledges.
struct Site {
    agent: World,
    first: Manager,
    hash: u64,
    /// Tellings that are acknowledged together.
    together: u64,
    owed: u64,
    /// What the backup was told, if that is wanted.
    told: Option<Vec<PeerMessage>>,
}

impl Site {
    fn new(replicate: Option<Replicate>) -> Self {
        let plan = backed(replicate);
        let mut site = Self {
            agent: World::named("agent-1", plan.clone()),
            first: manager("lb-1", &plan),
            hash: plan_hash(&plan),
            together: match replicate {
                Some(Replicate::Sync) => 1,
                _ => TOGETHER,
            },
            owed: 0,
            told: None,
        };
        if replicate.is_some() {
            site.tell(Input::PeerConnected(9));
        }
        site.agent.feed(ToTheAgent::SessionOpened(1));
        site.tell(Input::Connected(1));
        site
    }

    /// What the other one answers.
    fn peer(&mut self, message: PeerMessage) -> Option<PeerMessage> {
        if let Some(told) = &mut self.told {
            told.push(message.clone());
        }
        match message {
            PeerMessage::Hello(_) => Some(PeerMessage::Hello(PeerHello {
                version: peer::VERSION,
                manager: "lb-2".into(),
                plan_hash: self.hash,
                instance: 0,
                heard: true,
                open: true,
                have: (0, 0),
            })),
            // It remembers nothing.
            PeerMessage::Recall {
                service,
                share,
                request,
            } => Some(PeerMessage::Telling(peer::Telling {
                stream: 1,
                sequence: request,
                service,
                share,
                epoch: 0,
                leads: false,
                body: peer::Told::Whole { request },
            })),
            PeerMessage::Telling(telling) => {
                self.owed += 1;
                self.owed
                    .is_multiple_of(self.together)
                    .then_some(PeerMessage::Ack {
                        stream: telling.stream,
                        sequence: telling.sequence,
                    })
            }
            _ => None,
        }
    }

    /// The manager hears of something; what is said is carried until all is said.
    fn tell(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for output in self.first.handle(Duration::ZERO, input) {
                match output {
                    Output::Message(_, message) => {
                        self.agent.feed(ToTheAgent::Message(1, message));
                    }
                    Output::Peer(_, message) => {
                        let answer = self.peer(message);
                        inputs.extend(answer.map(|m| Input::Peer(9, m)));
                    }
                    _ => {}
                }
            }
            for (session, message) in std::mem::take(&mut self.agent.said) {
                inputs.push_back(Input::Message(session, message));
            }
        }
    }

    /// A new flow.
    fn open(&mut self, n: u32) {
        self.agent.receive(1, &tcp(1, &flow(n), flags::SYN, b""));
        for (session, message) in std::mem::take(&mut self.agent.said) {
            self.tell(Input::Message(session, message));
        }
        self.agent.left.clear();
    }
}

fn set_up(bencher: &mut Criterion) {
    let mut group = bencher.benchmark_group("replication");
    (group.sampling_mode(SamplingMode::Flat).sample_size(10))
        .throughput(Throughput::Elements(FLOWS.into()));
    let ways = [
        ("none", None),
        ("async", Some(Replicate::Async)),
        ("sync", Some(Replicate::Sync)),
    ];
    for (name, replicate) in ways {
        group.bench_function(format!("set-up/{name}"), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut took = Duration::ZERO;
                for _ in 0..iterations {
                    let mut site = Site::new(replicate);
                    let begin = Instant::now();
                    for n in 0..FLOWS {
                        site.open(n);
                    }
                    took += begin.elapsed();
                    assert_eq!(site.agent.switch.fixed.len(), 2 * FLOWS as usize);
                    let told = site.first.status().links.first().map(|l| l.counts.told);
                    assert!(replicate.is_none() || told >= Some(FLOWS.into()));
                }
                took
            });
        });
    }
    group.finish();
}

fn take_in(bencher: &mut Criterion) {
    let mut site = Site::new(Some(Replicate::Async));
    site.told = Some(Vec::new());
    for n in 0..FLOWS {
        site.open(n);
    }
    let mut told = site.told.take().unwrap();
    told.retain(|m| matches!(m, PeerMessage::Telling(_)));
    for (n, message) in (1..).zip(&mut told) {
        if let PeerMessage::Telling(telling) = message {
            (telling.stream, telling.sequence) = (1, n);
        }
    }
    let plan = backed(Some(Replicate::Async));
    let hello = PeerMessage::Hello(PeerHello {
        version: peer::VERSION,
        manager: "lb-1".into(),
        plan_hash: plan_hash(&plan),
        instance: 0,
        heard: true,
        open: true,
        have: (0, 0),
    });
    let mut group = bencher.benchmark_group("replication");
    (group.sampling_mode(SamplingMode::Flat).sample_size(10))
        .throughput(Throughput::Elements(FLOWS.into()));
    group.bench_function("backup takes in", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut took = Duration::ZERO;
            for _ in 0..iterations {
                let mut backup = manager("lb-2", &plan);
                backup.handle(Duration::ZERO, Input::PeerConnected(9));
                backup.handle(Duration::ZERO, Input::Peer(9, hello.clone()));
                let told = told.clone();
                let begin = Instant::now();
                for message in told {
                    backup.handle(Duration::ZERO, Input::Peer(9, message));
                }
                took += begin.elapsed();
                assert_eq!(backup.status().services[0].flows, FLOWS as usize);
            }
            took
        });
    });
    group.finish();
}

/// An agent that answers for itself and asks.
struct Asker {
    tx: Box<dyn Sender<ToManager>>,
    rx: Box<dyn Receiver<ToAgent>>,
    hash: u64,
    epoch: u64,
    asked: u64,
}

impl Asker {
    fn say(&self, body: AgentBody) {
        let message = ToManager {
            service: "web-lb".into(),
            share: 0,
            epoch: self.epoch,
            body,
        };
        self.tx.send(message).unwrap();
    }

    /// Answers what the manager says until there is a verdict.
    async fn verdict(&mut self, flow: Tuple) {
        self.asked += 1;
        self.say(AgentBody::Interest(Interest {
            request: self.asked,
            stage: 1,
            part: Part::Forward,
            flow,
            kind: PacketKind::Whole,
            events: events::ALL | events::SYN,
            packet: Bytes::new(),
            state: CarriedState::default(),
        }));
        loop {
            let message = self.rx.recv().await.unwrap();
            self.epoch = self.epoch.max(message.epoch);
            match message.body {
                ManagerBody::Hello(_) => self.say(AgentBody::Welcome(Welcome {
                    version: VERSION,
                    agent: "agent-1".into(),
                    plan_hash: self.hash,
                    shares: Vec::new(),
                })),
                ManagerBody::ListAffinities { request } => self.say(AgentBody::Affinities {
                    request,
                    piece: 0,
                    list: Vec::new(),
                    last: true,
                }),
                ManagerBody::Verdict(verdict) if verdict.request == self.asked => {
                    assert_eq!(verdict.affinities.len(), 2);
                    return;
                }
                _ => {}
            }
        }
    }
}

/// Until the agent has said who it is, what it asks is not heard: so it begins without a question.
async fn asker(plan: &Plan, first: &shell::Handle) -> Asker {
    let (agent, manager) = channel::memory();
    first.attach(Box::new(manager));
    let (tx, mut rx) = Box::new(agent).split();
    loop {
        let message = rx.recv().await.unwrap();
        if matches!(message.body, ManagerBody::Hello(_)) {
            break;
        }
    }
    let asker = Asker {
        tx,
        rx,
        hash: plan_hash(plan),
        epoch: 0,
        asked: 0,
    };
    asker.say(AgentBody::Welcome(Welcome {
        version: VERSION,
        agent: "agent-1".into(),
        plan_hash: asker.hash,
        shares: Vec::new(),
    }));
    asker
}

/// lb-1 and, if it is told of decisions, lb-2 behind a port of loopback.
async fn pair(plan: &Plan, linked: bool) -> Vec<shell::Handle> {
    let (first, _) = shell::start(manager("lb-1", plan));
    if !linked {
        return vec![first];
    }
    let (second, _) = shell::start(manager("lb-2", plan));
    let (tx, mut ways) = mpsc::unbounded_channel();
    let (address, _) = peer::grpc::serve(([127, 0, 0, 1], 0).into(), tx)
        .await
        .unwrap();
    let way = peer::grpc::connect(&format!("http://{address}")).await;
    second.link(Box::new(way.unwrap()));
    first.link(ways.recv().await.unwrap());
    vec![first, second]
}

fn latency(bencher: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut group = bencher.benchmark_group("replication");
    for (name, replicate) in [("none", None), ("sync", Some(Replicate::Sync))] {
        let plan = Arc::new(backed(replicate));
        let (handles, mut asker) = runtime.block_on(async {
            let handles = pair(&plan, replicate.is_some()).await;
            let asker = asker(&plan, &handles[0]).await;
            loop {
                let links = handles[0].status().await.unwrap().links;
                if links.iter().all(|l| l.state == LinkState::InSync) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            (handles, asker)
        });
        let mut n = 0;
        group.bench_function(format!("verdict over gRPC/{name}"), |bencher| {
            bencher.iter_custom(|iterations| {
                let begin = Instant::now();
                runtime.block_on(async {
                    for _ in 0..iterations {
                        asker.verdict(flow(n % (100 * PORTS))).await;
                        n += 1;
                    }
                });
                begin.elapsed()
            });
        });
        drop(handles);
    }
    group.finish();
}

criterion_group!(benches, set_up, take_in, latency);
criterion_main!(benches);
