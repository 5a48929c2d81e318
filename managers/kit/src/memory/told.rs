//! What another manager has told of its decisions: remembered like what was decided here, and held by the
//! agents that it has named, by no session of this manager's own.
//!
//! An agent's list settles which of those it holds, as it does for sessions that are over. None of this is
//! noted as a change: the other one knows it.

use std::time::Duration;

use signalbox_agent::flow::{PacketKind, Part};

use super::{AgentId, Holding, Life, Memory, Recipient, Remembered, keys};
use crate::decide::Decided;

/// The session of what an agent holds by somebody else's word: before any that this manager has with it.
const TOLD: u64 = 0;

fn holding(agent: AgentId) -> Holding {
    Holding {
        to: Recipient {
            agent,
            session: TOLD,
            question: None,
        },
        number: 0,
    }
}

/// A change that the other manager must be told of.
#[derive(Debug, Clone)]
pub enum Change {
    /// This flow is not what it was.
    Of(u64),
    /// No agent holds this any more, and it is not remembered here.
    Gone(Box<(Decided, PacketKind)>),
    /// This decision was taken back.
    Refused(Box<(Decided, PacketKind)>),
}

impl Memory {
    /// Notes changes from now on, for another manager; or no more.
    pub fn note_changes(&mut self, wanted: bool) {
        self.changes = wanted.then(Vec::new);
    }

    /// What has changed since it was asked last.
    pub fn changes(&mut self) -> Vec<Change> {
        (self.changes.as_mut()).map_or_else(Vec::new, std::mem::take)
    }

    /// The numbers of all flows, in order.
    #[must_use]
    pub fn numbers(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.flows.keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    /// The flow that has exactly this decision.
    #[must_use]
    pub fn same(&self, decided: &Decided, kind: PacketKind) -> Option<u64> {
        let (number, flow) = self.find(Part::Forward, decided.forward.0, kind)?;
        let same = flow.decided.forward == decided.forward && flow.decided.reply == decided.reply;
        same.then_some(number)
    }

    /// Whether anything is remembered of one of a decision's matches.
    #[must_use]
    pub fn knows(&self, decided: &Decided, kind: PacketKind) -> bool {
        let known = |key| self.by_tuple.contains_key(&key);
        keys(decided, kind).into_iter().flatten().any(known)
    }

    /// Whether all that is remembered of a decision's matches is of before this manager decided: no agent has
    /// spoken of it since.
    #[must_use]
    pub fn is_of_former_reign(&self, decided: &Decided, kind: PacketKind) -> bool {
        let known = |key| self.flows.get(self.by_tuple.get(&key)?);
        let mut flows = keys(decided, kind).into_iter().flatten().filter_map(known);
        flows.all(|flow| flow.holdings.iter().all(|h| h.to.session <= self.reign))
    }

    /// Remembers a decision that agents hold by another manager's word, told in its telling of that number;
    /// what was remembered of the same tuples gives way and is returned.
    pub fn remember_told(
        &mut self,
        decided: Decided,
        kind: PacketKind,
        agents: &[AgentId],
        telling: u32,
    ) -> Vec<Remembered> {
        let former = self.make_way(&decided, kind);
        let number = self.insert(decided, kind);
        if let Some(flow) = self.flows.get_mut(&number) {
            flow.told = telling;
            flow.holdings = agents.iter().copied().map(holding).collect();
        }
        former
    }

    /// Remembers a decision that no agent holds any more.
    pub fn remember_gone(&mut self, now: Duration, decided: Decided, kind: PacketKind) {
        let number = self.insert(decided, kind);
        self.depart(now, number);
    }

    /// Another manager has told, in its telling of that number, which agents hold a flow. A flow that was gone
    /// comes back to life, and is returned.
    pub fn retold(&mut self, number: u64, agents: &[AgentId], telling: u32) -> Option<&Remembered> {
        self.let_go(number, false);
        let flow = self.flows.get_mut(&number)?;
        flow.told = telling;
        for agent in agents {
            if flow.holding(*agent).is_none() {
                flow.holdings.push(holding(*agent));
            }
        }
        flow.forget = Duration::MAX;
        let revived = flow.life == Life::Gone;
        if revived {
            flow.life = Life::Live;
        }
        revived.then_some(flow)
    }

    /// By another manager's word no agent holds a flow any more; one that this manager knows of by its own
    /// sessions does if `besides`. Returns the flow if it is gone by that.
    pub fn told_gone(&mut self, now: Duration, number: u64, besides: bool) -> Option<&Remembered> {
        self.let_go(number, besides);
        let flow = self.flows.get_mut(&number)?;
        flow.told = 0;
        if !flow.holdings.is_empty() || flow.life == Life::Gone {
            return None;
        }
        self.depart(now, number);
        self.get(number)
    }

    /// A decision was taken back; returns it if it had been alive.
    pub fn told_refused(&mut self, number: u64) -> Option<Decided> {
        let flow = self.remove(number)?;
        (flow.life != Life::Gone).then_some(flow.decided)
    }

    /// Another manager's telling of that number is whole: what it does not contain no agent holds. Returns
    /// what is gone by that.
    pub fn told_whole(&mut self, now: Duration, telling: u32) -> Vec<Decided> {
        let numbers: Vec<u64> = (self.flows.iter())
            .filter(|(_, f)| f.life != Life::Gone && f.told != telling)
            .map(|(number, _)| *number)
            .collect();
        (numbers.into_iter())
            .filter_map(|n| Some(self.told_gone(now, n, false)?.decided.clone()))
            .collect()
    }

    /// Forgets who holds a flow, but for what this manager knows by its own sessions if `besides`.
    fn let_go(&mut self, number: u64, besides: bool) {
        let Some(flow) = self.flows.get_mut(&number) else {
            return;
        };
        for held in (flow.holdings).extract_if(.., |h| !besides || h.to.session == TOLD) {
            if let Some(question) = held.to.question {
                self.by_question.remove(&question);
            }
        }
    }

    fn depart(&mut self, now: Duration, number: u64) {
        if let Some(flow) = self.flows.get_mut(&number) {
            flow.life = Life::Gone;
            flow.forget = now + self.keep;
            self.gone.push_back((flow.forget, number));
        }
    }
}
