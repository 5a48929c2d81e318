//! What an agent holds at a moment for flows, questions and packets: when all of their leases are over,
//! nothing of it is left.

use serde::Serialize;

use super::Agent;

/// How many of each an agent holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct InUse {
    /// Flows, those that go in or out among them.
    pub flows: usize,
    /// Counter cells of fixed affinities.
    pub slots: usize,
    /// Questions that managers have not answered, and those whose answer may yet come late.
    pub questions: usize,
    /// Packets that wait for answers.
    pub held: u64,
    /// Requests of which an affinity may yet be refused.
    pub requests: usize,
    /// Deadlines of flows.
    pub deadlines: usize,
    /// Tunnels.
    pub tunnels: usize,
    /// Connections that managers carry on.
    pub legs: usize,
}

impl Agent {
    /// What it holds now.
    #[must_use]
    pub fn in_use(&self) -> InUse {
        let services = self.services.iter();
        InUse {
            flows: self.store.len(),
            slots: services.flat_map(|s| &s.slots).map(|s| s.in_use()).sum(),
            questions: self.questions.len() + self.asked.len() + self.late.len() + self.heard.len(),
            held: self.counters.held.now,
            requests: self.batches.len(),
            deadlines: self.timers.of_flows(),
            tunnels: self.tunnels.len(),
            legs: self.legs.len(),
        }
    }
}
