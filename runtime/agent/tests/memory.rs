//! What a fixed affinity costs an agent in memory, as the operating system sees it: 1,000,000 of them must
//! fit, with the switch, into 1 GB.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use signalbox_agent::flow::{PacketKind, Part, Tuple};
use signalbox_agent::message::{
    Action, Claim, FixedAffinity, Hello, InterestMask, Leases, ManagerBody, Statistics, ToAgent,
    VERSION,
};
use signalbox_agent::testing::{SERVICE, plan};
use signalbox_agent::{Agent, Input, Output, SessionId, Target};
use signalbox_lower::plan::Plan;

const SESSION: SessionId = 1;
/// Flows with two directions, or twice as many with one.
const FLOWS: u32 = 50_000;
/// Bytes of an affinity.
const MOST: usize = 350;

/// Resident memory of this process in bytes; `None` where it cannot be told.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// An agent whose switch takes everything and remembers nothing.
struct Rig {
    agent: Agent,
    installed: u32,
}

impl Rig {
    fn new(mut plan: Plan) -> Self {
        for service in &mut plan.services {
            for part in std::iter::once(&mut service.forward).chain(&mut service.reply) {
                part.fixed_size = 1 << 20;
            }
        }
        let agent = Agent::new("agent-1", Arc::new(plan), Target::switch());
        let mut rig = Self {
            agent,
            installed: 0,
        };
        rig.feed(Input::SwitchUp(signalbox_agent::Found::default()));
        rig.feed(Input::SessionOpened(SESSION));
        rig.say(ManagerBody::Hello(Hello {
            instance: 0,
            version: VERSION,
            manager: "lb-1".into(),
            plan_hash: 0,
            claims: vec![Claim {
                service: "web-lb".into(),
                share: 0,
                epoch: 1,
                standby: false,
            }],
        }));
        rig
    }

    fn say(&mut self, body: ManagerBody) {
        let service = match body {
            ManagerBody::Hello(_) => "",
            _ => "web-lb",
        };
        let message = ToAgent {
            service: service.into(),
            share: 0,
            epoch: 1,
            body,
        };
        self.feed(Input::Message(SESSION, message));
    }

    fn feed(&mut self, input: Input) {
        let mut todo = vec![input];
        while let Some(input) = todo.pop() {
            for output in self.agent.handle(Duration::from_secs(1), input) {
                match output {
                    Output::Reconcile(_) => todo.push(Input::Reconciled),
                    Output::Write { batch, updates } => todo.push(Input::WriteDone {
                        batch,
                        results: vec![Ok(()); updates.len()],
                    }),
                    Output::Message(_, m) => assert!(
                        !matches!(m.body, signalbox_agent::message::AgentBody::Denied(_)),
                        "{m:?}"
                    ),
                    _ => {}
                }
            }
        }
    }

    /// Installs flow `n`, with a way back or without.
    fn install(&mut self, n: u32, both: bool) {
        let address = |n: u32| std::net::IpAddr::from((0x0a40_0000 + (n >> 14)).to_be_bytes());
        let there = Tuple {
            src: address(n),
            dst: SERVICE.into(),
            proto: 6,
            sport: 1024 + (n % (1 << 14)) as u16,
            dport: 443,
        };
        let to = Tuple {
            dst: [10, 0, 1, 10].into(),
            dport: 8080,
            ..there
        };
        let one = |part, tuple: Tuple, actions, partner| FixedAffinity {
            part,
            tuple,
            kind: PacketKind::Whole,
            actions,
            flow: u64::from(n) + 1,
            partner,
            cookie: Bytes::from_static(b"v1 web-1"),
            leases: Leases {
                half_open_ms: Some(10_000),
                idle_ms: Some(300_000),
                closed_ms: Some(10_000),
                hard_ms: None,
            },
            interest: InterestMask::default(),
            track_close: true,
            statistics: Statistics {
                count: true,
                every_ms: Some(10_000),
                on_close: true,
                flags: true,
            },
        };
        let affinities = if both {
            let (go, back) = (Action::Translate(to), Action::Translate(there.reversed()));
            vec![
                one(Part::Forward, there, vec![go], Some(to.reversed())),
                one(Part::Reply, to.reversed(), vec![back], Some(there)),
            ]
        } else {
            vec![one(Part::Forward, there, vec![Action::Forward], None)]
        };
        self.installed += affinities.len() as u32;
        let request = u64::from(n) + 1;
        self.say(ManagerBody::Install {
            request,
            affinities,
        });
    }
}

/// Bytes of an affinity, over all of so many flows.
fn cost(flows: u32, both: bool) -> Option<usize> {
    let mut rig = Rig::new(plan());
    // What is allocated once: buffers, tables of some size.
    for n in 0..1000 {
        rig.install(n, both);
    }
    let (before, first) = (resident()?, rig.installed);
    for n in 1000..flows {
        rig.install(n, both);
    }
    let grown = resident()?.saturating_sub(before);
    assert_eq!(rig.agent.counters().fixed.now, u64::from(rig.installed));
    // Nothing of this may be freed before it was measured.
    drop(rig.agent);
    Some(grown / (rig.installed - first) as usize)
}

#[test]
fn a_fixed_affinity_costs_an_agent_at_most_350_bytes() {
    // In this order: what the second measurement reuses of the first would make it look cheaper.
    let Some(single) = cost(2 * FLOWS, false) else {
        eprintln!("skipped: this system does not tell a process's resident memory");
        return;
    };
    println!("{single} bytes each for flows of one direction");
    assert!(single <= MOST, "{single} bytes each");
}

#[test]
fn a_fixed_affinity_of_a_pair_costs_an_agent_at_most_350_bytes() {
    // A process of its own: nextest or not, the two tests' memory must not mix.
    if std::env::var_os("SIGNALBOX_MEMORY_OF_PAIRS").is_none() {
        let own = std::env::current_exe().expect("the test's own path");
        let child = std::process::Command::new(own)
            .args(["--exact", "--nocapture"])
            .arg("a_fixed_affinity_of_a_pair_costs_an_agent_at_most_350_bytes")
            .env("SIGNALBOX_MEMORY_OF_PAIRS", "1")
            .output()
            .expect("the test runs itself");
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success(), "{said}");
        println!("{said}");
        return;
    }
    let Some(pair) = cost(FLOWS, true) else {
        eprintln!("skipped: this system does not tell a process's resident memory");
        return;
    };
    println!("{pair} bytes each for flows of two directions");
    assert!(pair <= MOST, "{pair} bytes each");
}
