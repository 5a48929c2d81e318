//! A story: who is there, and what happens when. All of it follows from a number; any part of it may be
//! taken away, and the rest is a story yet, since an event that finds nothing to happen to does nothing.

use std::time::Duration;

use signalbox_agent::channel::Faults;
use signalbox_lower::plan::Replicate;

use crate::division::Division;
use crate::random::Random;

/// Who is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Agents, 1 to 4.
    pub agents: usize,
    /// Whether there is a balance service.
    pub balance: bool,
    /// Whether there is a nat service.
    pub nat: bool,
    /// Whether each manager has a backup.
    pub backed: bool,
    /// Whether it is told of decisions, and when.
    pub replicate: Option<Replicate>,
    /// Outside ports of an address.
    pub ports: u16,
    /// Whether nothing ever goes wrong.
    pub calm: bool,
    /// What the lines do to messages before there is peace.
    pub lines: Faults,
    /// Whether managers share a store, and whether that is away now and then.
    pub shared: Option<bool>,
    /// Whether managers that have a backup and are dead at the end stay so.
    pub dead_stay_dead: bool,
    /// How services are divided, if each has two managers.
    pub division: Option<Division>,
}

/// One thing that happens. Agents and managers are named by their place, flows by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A host opens a flow: a client's to the service, or one from inside.
    Open {
        /// The flow.
        flow: usize,
        /// Where its packets come in.
        agent: usize,
        /// From inside.
        nat: bool,
    },
    /// A client opens it once more between the same ends, when it is over.
    Again(usize),
    /// Its opener sends: until it is answered the SYN again, and then data.
    Send(usize),
    /// The other end answers.
    Answer(usize),
    /// It ends: by a RST, or by a FIN of each end.
    End {
        /// The flow.
        flow: usize,
        /// Whether by a RST.
        reset: bool,
    },
    /// Its packets come to another agent from now on, if it is established.
    Move {
        /// The flow.
        flow: usize,
        /// The agent.
        agent: usize,
    },
    /// While nothing has gone wrong: its SYN comes to another agent, too.
    Elsewhere {
        /// The flow.
        flow: usize,
        /// The agent.
        agent: usize,
    },
    /// A packet in mid-flow that nobody knows.
    Stranger {
        /// Where.
        agent: usize,
        /// Its port.
        port: u16,
    },
    /// The way between an agent and a manager breaks.
    Cut {
        /// The agent.
        agent: usize,
        /// The manager.
        manager: usize,
        /// Whether both ends notice. Else messages are lost.
        noticed: bool,
    },
    /// It is whole again.
    Mend {
        /// The agent.
        agent: usize,
        /// The manager.
        manager: usize,
    },
    /// A manager's process dies.
    Kill(usize),
    /// A manager ends in order.
    Stop(usize),
    /// A new process of it, which knows nothing.
    Start(usize),
    /// It hears and says nothing, and its sessions stay.
    Hang(usize),
    /// It goes on.
    GoOn(usize),
    /// An agent's process dies and a new one finds the switch as it was.
    Restart(usize),
    /// An agent's switch loses everything, and both start anew.
    Wipe(usize),
    /// The way between a manager and its backup breaks; whether it stays so.
    Part {
        /// The manager.
        manager: usize,
        /// Whether until they rejoin.
        stays: bool,
    },
    /// It is whole again.
    Rejoin(usize),
    /// Another plan: services are divided otherwise.
    Divide {
        /// How.
        division: Division,
        /// Agents, and then managers, hear of it so long after each other.
        pace: Duration,
    },
}

/// An event, and how long after the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Time that passes first.
    pub wait: Duration,
    /// The event.
    pub event: Event,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// Its number.
    pub seed: u64,
    /// Who is there.
    pub setup: Setup,
    /// What happens.
    pub steps: Vec<Step>,
}

impl Story {
    /// The story of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // Drawn by itself: stories without it are what they were.
        let mut own = Random::new(seed ^ 0xd171);
        let (divided, changes) = (own.happens(15), own.happens(50));
        let division = match changes {
            true => Division::any(&mut own),
            false => Division::halves(&mut own),
        };
        let setup = Setup {
            division: divided.then_some(division),
            ..setup(&mut random, seed)
        };
        let count = 30 + random.below(31);
        let mut flows = 0;
        let mut steps: Vec<Step> = (0..count)
            .map(|_| Step {
                wait: wait(&mut random),
                event: event(&mut random, &setup, &mut flows),
            })
            .collect();
        if setup.replicate.is_some() && !setup.calm {
            share(&mut Random::new(!seed), &setup, &mut steps);
        }
        if divided && changes {
            divide(&mut own, &mut steps);
        }
        Self { seed, setup, steps }
    }
}

/// Adds what happens to managers that share decisions.
fn share(random: &mut Random, setup: &Setup, steps: &mut Vec<Step>) {
    for _ in 0..4 + random.below(6) {
        let manager = random.below(crate::site::roles(setup).len());
        let event = match random.below(10) {
            0..4 => Event::Wipe(random.below(setup.agents)),
            4..7 => Event::Part {
                manager,
                stays: random.happens(50),
            },
            _ => Event::Rejoin(manager),
        };
        let wait = wait(random);
        steps.insert(random.below(steps.len()), Step { wait, event });
    }
}

/// Adds changes of plan.
fn divide(random: &mut Random, steps: &mut Vec<Step>) {
    for _ in 0..1 + random.below(2) {
        let late = random.happens(50);
        let event = Event::Divide {
            division: Division::any(random),
            pace: Duration::from_millis(if late { 1 + random.below(30) as u64 } else { 0 }),
        };
        let wait = wait(random);
        steps.insert(random.below(steps.len()), Step { wait, event });
    }
}

fn setup(random: &mut Random, seed: u64) -> Setup {
    let services = random.below(5);
    let calm = random.happens(20);
    let lines = match random.below(3) {
        _ if calm => Faults::none(),
        0 => Faults::none(),
        // As a stream does it: nothing is lost, and much is late.
        1 => Faults {
            seed,
            delay: 300,
            by: Duration::from_millis(120),
            ..Faults::none()
        },
        _ => Faults {
            seed,
            lose: 80,
            double: 80,
            delay: 200,
            by: Duration::from_millis(80),
        },
    };
    let agents = 1 + random.below(4);
    let backed = random.happens(65);
    let shared = match seed % 4 {
        0 => Some(!calm),
        2 => Some(false),
        _ => None,
    };
    // Drawn by itself: stories without it are what they were.
    let replicate = match Random::new(seed ^ 0x0a97).below(10) {
        0..3 if backed => Some(Replicate::Sync),
        3..6 if backed => Some(Replicate::Async),
        _ => None,
    };
    Setup {
        calm,
        shared,
        agents,
        balance: services != 0 && services != 1,
        nat: services != 2 && services != 3,
        backed,
        replicate,
        ports: if lines.lose == 0 { 10 } else { 60 },
        lines,
        dead_stay_dead: random.happens(50),
        division: None,
    }
}

fn wait(random: &mut Random) -> Duration {
    let ms = match random.below(20) {
        0..9 => 0,
        9..15 => random.below(60),
        15..18 => random.below(500),
        18 => 500 + random.below(1_500),
        _ => 2_000 + random.below(6_000),
    };
    Duration::from_millis(ms as u64)
}

fn event(random: &mut Random, setup: &Setup, flows: &mut usize) -> Event {
    let agent = random.below(setup.agents);
    let manager = random.below(crate::site::roles(setup).len());
    let flow = random.below(*flows);
    let yes = random.happens(50);
    match random.below(if setup.calm { 77 } else { 103 }) {
        0..24 => {
            *flows += 1;
            Event::Open {
                flow: *flows - 1,
                agent,
                nat: setup.nat && (yes || !setup.balance),
            }
        }
        24..38 => Event::Send(flow),
        38..55 => Event::Answer(flow),
        55..61 => Event::End { flow, reset: yes },
        61..71 => Event::Move { flow, agent },
        71..73 => Event::Again(flow),
        73..75 => Event::Elsewhere { flow, agent },
        75..77 => Event::Stranger {
            agent,
            port: 60_000 + random.below(1_000) as u16,
        },
        77..82 => Event::Cut {
            agent,
            manager,
            noticed: yes,
        },
        82..86 => Event::Mend { agent, manager },
        86..89 => Event::Kill(manager),
        89..91 => Event::Stop(manager),
        91..95 => Event::Start(manager),
        95..98 => Event::Hang(manager),
        98..100 => Event::GoOn(manager),
        _ => Event::Restart(agent),
    }
}
