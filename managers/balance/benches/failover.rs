//! Many agents, and many flows to take over: how long a manager's criteria need to reach a hundred agents, and a
//! backup that is asked for the first time to decide, with all that its agent holds listed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench, like a test, may panic"
)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use signalbox_agent::Input as ToTheAgent;
use signalbox_agent::testing::{World, backed, client, flags, tcp};
use signalbox_balance::Balance;
use signalbox_lower::plan::Plan;
use signalbox_manager::{Input, Manager, Output};

const AGENTS: u64 = 100;
const FLOWS: u32 = 100_000;
/// Client ports of a host.
const PORTS: u32 = 50_000;

/// web-lb with room for all flows, lb-1 and its backup lb-2.
fn roomy() -> Plan {
    let mut plan = backed(1_000);
    let service = &mut plan.services[0];
    service.forward.fixed_size = 2 * FLOWS;
    service.reply.as_mut().unwrap().fixed_size = 2 * FLOWS;
    // Nobody answers here.
    service.limits.half_open_ms = 3_600_000;
    service.balance.as_mut().unwrap().check = None;
    plan
}

fn manager(name: &str, plan: &Plan, instance: u64) -> Manager {
    let balance = Balance::new(&plan.services[0]).unwrap();
    let served = vec![("web-lb".into(), 0, 0, Box::new(balance) as _)];
    Manager::new(name, plan, served).with_instance(instance)
}

/// Carries messages between a manager and its agents, each by the session of its number, until all is said.
fn settle(
    now: Duration,
    manager: &mut Manager,
    agents: &mut [World],
    session: u64,
    out: Vec<Output>,
) {
    let mut said: VecDeque<Output> = out.into();
    loop {
        while let Some(output) = said.pop_front() {
            if let Output::Message(agent, message) = output {
                agents[agent as usize].feed(ToTheAgent::Message(session, message));
            }
        }
        for (number, agent) in agents.iter_mut().enumerate() {
            for (to, message) in std::mem::take(&mut agent.said) {
                if to == session {
                    let input = Input::Message(number as u64, message);
                    said.extend(manager.handle(now, input));
                }
            }
        }
        if said.is_empty() {
            return;
        }
    }
}

/// Opens a session with each agent, as all of them number it.
fn connect(now: Duration, manager: &mut Manager, agents: &mut [World], session: u64) {
    for number in 0..agents.len() {
        agents[number].feed(ToTheAgent::SessionOpened(session));
        let out = manager.handle(now, Input::Connected(number as u64));
        settle(now, manager, agents, session, out);
    }
}

fn criteria(bencher: &mut Criterion) {
    let plan = roomy();
    let mut group = bencher.benchmark_group("criteria to agents");
    group
        .throughput(Throughput::Elements(AGENTS))
        .sample_size(20);
    group.bench_function(format!("agents/{AGENTS}"), |bencher| {
        bencher.iter_custom(|iterations| {
            let mut took = Duration::ZERO;
            for _ in 0..iterations {
                let mut agents: Vec<World> = (0..AGENTS)
                    .map(|n| World::named(&format!("agent-{n}"), plan.clone()))
                    .collect();
                let mut first = manager("lb-1", &plan, 1);
                let begin = Instant::now();
                connect(Duration::ZERO, &mut first, &mut agents, 1);
                took += begin.elapsed();
                assert!(agents.iter().all(|a| a.switch.criteria.len() == 4));
            }
            took
        });
    });
    group.finish();
}

/// An agent that holds so many flows that lb-1 has decided, and lb-1 is gone.
fn left_behind(plan: &Plan) -> World {
    let mut agents = [World::named("agent-1", plan.clone())];
    let mut first = manager("lb-1", plan, 1);
    connect(Duration::ZERO, &mut first, &mut agents, 1);
    for n in 0..FLOWS {
        let flow = client(100 + (n / PORTS) as u8, 1_000 + (n % PORTS) as u16);
        agents[0].receive(1, &tcp(1, &flow, flags::SYN, b""));
        settle(Duration::ZERO, &mut first, &mut agents, 1, Vec::new());
        agents[0].left.clear();
    }
    let [mut agent] = agents;
    assert_eq!(agent.switch.fixed.len(), 2 * FLOWS as usize);
    agent.feed(ToTheAgent::SessionClosed(1));
    agent
}

fn takeover(bencher: &mut Criterion) {
    let plan = roomy();
    let mut agents = [left_behind(&plan)];
    let mut session = 1;
    let mut group = bencher.benchmark_group("takeover");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.bench_function(format!("flows/{FLOWS}"), |bencher| {
        bencher.iter_custom(|iterations| {
            let mut took = Duration::ZERO;
            for _ in 0..iterations {
                // A new process of the backup each time; the former one is gone like the first manager.
                session += 1;
                let mut backup = manager("lb-2", &plan, session);
                let now = agents[0].now;
                connect(now, &mut backup, &mut agents, session);
                agents[0].advance(Duration::from_millis(1_100));
                let now = agents[0].now;
                let out = backup.handle(now, Input::Tick);
                settle(now, &mut backup, &mut agents, session, out);
                let flow = client(9, session as u16);
                agents[0].receive(1, &tcp(1, &flow, flags::SYN, b""));
                assert!(agents[0].take_left().is_empty(), "it has yet to take over");
                let begin = Instant::now();
                settle(now, &mut backup, &mut agents, session, Vec::new());
                took += begin.elapsed();
                assert_eq!(agents[0].take_left().len(), 1, "the new flow's packet");
                agents[0].feed(ToTheAgent::SessionClosed(session));
            }
            took
        });
    });
    group.finish();
}

criterion_group!(benches, criteria, takeover);
criterion_main!(benches);
