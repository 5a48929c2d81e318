//! What a manager's sessions cost it: a question, and the end of its flow, with one agent and with ten thousand;
//! and the heartbeats of as many. Only the manager is there; what agents say is made up.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench, like a test, may panic"
)]

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use signalbox_agent::flow::{PacketKind, Part, events};
use signalbox_agent::message::{
    AgentBody, CarriedState, Ended, Interest, ManagerBody, ToManager, VERSION, Welcome,
};
use signalbox_agent::testing::{client, plan};
use signalbox_balance::Balance;
use signalbox_manager::{Input, Manager, Output};

const AGENTS: [u64; 3] = [1, 100, 10_000];

/// A manager, and the time.
struct Site {
    manager: Manager,
    now: Duration,
    agents: u64,
    beat: Duration,
    asked: u64,
}

impl Site {
    /// All agents have said who they are, and that they hold nothing.
    fn new(agents: u64) -> Self {
        let mut plan = plan();
        plan.services[0].balance.as_mut().unwrap().check = None;
        let balance = Balance::new(&plan.services[0]).unwrap();
        let served = vec![("web-lb".into(), 0, 1, Box::new(balance) as _)];
        let lease = plan.services[0].limits.criteria_lease_ms;
        let mut site = Self {
            manager: Manager::new("lb-1", &plan, served),
            now: Duration::ZERO,
            agents,
            beat: Duration::from_millis(lease / 3),
            asked: 0,
        };
        for id in 0..agents {
            site.manager.handle(site.now, Input::Connected(id));
            let agent = format!("agent-{id}").into();
            site.hear(
                id,
                AgentBody::Welcome(Welcome {
                    version: VERSION,
                    agent,
                    plan_hash: 0,
                    shares: Vec::new(),
                }),
            );
            site.hear(
                id,
                AgentBody::Affinities {
                    request: 1,
                    piece: 0,
                    list: Vec::new(),
                    last: true,
                },
            );
        }
        site
    }

    fn hear(&mut self, id: u64, body: AgentBody) -> Vec<Output> {
        let message = ToManager {
            service: "web-lb".into(),
            share: 0,
            epoch: 1,
            body,
        };
        (self.manager).handle(self.now, Input::Message(id, message))
    }

    /// A flow is asked about, and ends.
    fn flow(&mut self) {
        self.asked += 1;
        let (n, id) = (self.asked, self.asked % self.agents);
        let flow = client(100 + (n / 50_000 % 100) as u8, 1_000 + (n % 50_000) as u16);
        let out = self.hear(
            id,
            AgentBody::Interest(Interest {
                request: n,
                stage: 1,
                part: Part::Forward,
                flow,
                kind: PacketKind::Whole,
                events: events::ALL | events::SYN,
                packet: Bytes::new(),
                state: CarriedState::default(),
            }),
        );
        let verdict = out.iter().find_map(|o| match o {
            Output::Message(_, m) => match &m.body {
                ManagerBody::Verdict(verdict) => verdict.affinities.first(),
                _ => None,
            },
            _ => None,
        });
        let number = verdict.unwrap().flow;
        black_box(self.manager.next_deadline());
        self.hear(
            id,
            AgentBody::Expired(Ended {
                flow: number,
                forward: Some(flow),
                reply: None,
                cookie: Bytes::new(),
                request: 0,
            }),
        );
        black_box(self.manager.next_deadline());
    }

    /// A period of heartbeats, each of them answered. Returns how many there were.
    fn beats(&mut self) -> u64 {
        let (end, mut beats) = (self.now + self.beat, 0);
        while self.now < end {
            let due = self.manager.next_deadline().unwrap();
            self.now = due.max(self.now + Duration::from_millis(1)).min(end);
            for output in self.manager.handle(self.now, Input::Tick) {
                if let Output::Message(id, message) = output
                    && let ManagerBody::Heartbeat(beat) = message.body
                {
                    beats += 1;
                    self.hear(id, AgentBody::HeartbeatAck(beat));
                }
            }
        }
        beats
    }
}

fn questions(bencher: &mut Criterion) {
    let mut group = bencher.benchmark_group("a flow asked about and ended");
    group.throughput(Throughput::Elements(1));
    for agents in AGENTS {
        let mut site = Site::new(agents);
        group.bench_function(format!("agents/{agents}"), |bencher| {
            bencher.iter(|| site.flow());
        });
    }
    group.finish();
}

fn heartbeats(bencher: &mut Criterion) {
    let mut group = bencher.benchmark_group("a period of heartbeats");
    group.sample_size(20);
    for agents in AGENTS {
        let mut site = Site::new(agents);
        assert_eq!(site.beats(), agents, "one each");
        group.throughput(Throughput::Elements(agents));
        group.bench_function(format!("agents/{agents}"), |bencher| {
            bencher.iter(|| site.beats());
        });
    }
    group.finish();
}

criterion_group!(benches, questions, heartbeats);
criterion_main!(benches);
