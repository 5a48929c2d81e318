//! The way between an agent and a manager's process: two lines with faults, and whether it is cut.

use std::collections::BTreeSet;
use std::time::Duration;

use signalbox_agent::channel::{FaultLine, Faults};
use signalbox_agent::message::{ToAgent, ToManager};

/// What a manager has said, with what the one who watches wants to know of that moment.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The number of the process.
    pub by: u64,
    /// Counts all that managers say.
    pub order: u64,
    /// The epoch that the manager said it under.
    pub epoch: u64,
    /// Agents of which the process knew all that they hold of the service.
    pub knew: BTreeSet<usize>,
    /// The message.
    pub message: ToAgent,
}

/// A connection.
#[derive(Debug)]
pub struct Session {
    /// Its number at both ends.
    pub id: u64,
    /// Whether the agent has taken the manager in.
    pub welcomed: bool,
    /// Towards the manager.
    pub up: FaultLine<ToManager>,
    /// Towards the agent.
    pub down: FaultLine<Sent>,
}

impl Session {
    /// A new one over lines with faults.
    #[must_use]
    pub fn new(id: u64, faults: Faults) -> Self {
        let seed = faults.seed.wrapping_add(id << 8);
        let up = Faults { seed, ..faults };
        let down = Faults {
            seed: seed + 1,
            ..faults
        };
        Self {
            id,
            welcomed: false,
            up: FaultLine::new(up),
            down: FaultLine::new(down),
        }
    }

    /// From now on nothing is lost, and what was late arrives.
    pub fn calm(&mut self, now: Duration) {
        let (mut up, mut down) = (
            FaultLine::new(Faults::none()),
            FaultLine::new(Faults::none()),
        );
        while let Some(message) = self.up.pop(Duration::MAX) {
            up.push(now, message);
        }
        while let Some(message) = self.down.pop(Duration::MAX) {
            down.push(now, message);
        }
        (self.up, self.down) = (up, down);
    }
}

/// How a way is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Both ends know.
    Noticed,
    /// What is said is lost.
    Silent,
}

/// The way between an agent and a manager, whichever process that is.
#[derive(Debug, Default)]
pub struct Link {
    /// How it is broken, if it is.
    pub cut: Option<Cut>,
    /// The connection, if there is one.
    pub session: Option<Session>,
    /// When the manager may connect again.
    pub again: Duration,
}

impl Link {
    /// Whether messages get through.
    #[must_use]
    pub fn carries(&self) -> bool {
        self.cut.is_none()
    }
}
