//! A manager's memory of what it has decided, longer than any agent's lease (A8.7).
//!
//! A flow is live while an agent holds it, closed when an agent has seen its end, and gone when no agent holds
//! it any more; a gone one is remembered for a while, so that a late packet gets the old decision.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;
use signalbox_agent::flow::{PacketKind, Part, Tuple};

use crate::decide::Decided;

/// Names an agent's session.
pub type AgentId = u64;

/// Where a flow is in its life, as far as agents have told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Held by some agent.
    Live,
    /// Both FINs or a RST were seen.
    Closed,
    /// No agent holds it any more.
    Gone,
}

/// A decision and what has become of it.
#[derive(Debug, Clone)]
pub struct Remembered {
    /// The decision.
    pub decided: Decided,
    /// What it is for.
    pub kind: PacketKind,
    /// Where it is in its life.
    pub life: Life,
    /// The agents that hold it.
    pub agents: Vec<AgentId>,
    /// The request that brought it to an agent, to find it again when that is denied.
    pub request: (AgentId, u64),
    forget: Duration,
}

/// Decisions by number and by tuple.
#[derive(Debug)]
pub struct Memory {
    flows: FxHashMap<u64, Remembered>,
    by_tuple: FxHashMap<(Part, Tuple, PacketKind), u64>,
    by_request: FxHashMap<(AgentId, u64), u64>,
    gone: VecDeque<(Duration, u64)>,
    next: u64,
    keep: Duration,
}

impl Memory {
    /// Remembers gone flows for `keep`; numbers flows from `first` on.
    #[must_use]
    pub fn new(keep: Duration, first: u64) -> Self {
        Self {
            flows: FxHashMap::default(),
            by_tuple: FxHashMap::default(),
            by_request: FxHashMap::default(),
            gone: VecDeque::new(),
            next: first,
            keep,
        }
    }

    /// Flows that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// What was decided for this direction.
    #[must_use]
    pub fn find(&self, part: Part, tuple: Tuple, kind: PacketKind) -> Option<(u64, &Remembered)> {
        let number = *self.by_tuple.get(&(part, tuple, kind))?;
        Some((number, self.flows.get(&number)?))
    }

    /// Remembers a decision; what was remembered of the same tuples gives way and is returned.
    pub fn remember(
        &mut self,
        decided: Decided,
        kind: PacketKind,
        agent: AgentId,
        request: u64,
    ) -> (u64, Vec<Remembered>) {
        let mut former = Vec::new();
        let keys = keys(&decided, kind);
        for key in keys.into_iter().flatten() {
            if let Some(number) = self.by_tuple.get(&key).copied() {
                former.extend(self.remove(number));
            }
        }
        self.next += 1;
        let number = self.next;
        for key in keys.into_iter().flatten() {
            self.by_tuple.insert(key, number);
        }
        self.by_request.insert((agent, request), number);
        self.flows.insert(
            number,
            Remembered {
                decided,
                kind,
                life: Life::Live,
                agents: vec![agent],
                request: (agent, request),
                forget: Duration::MAX,
            },
        );
        (number, former)
    }

    /// An agent has got the decision (again). A flow that was gone comes back to life, and is returned.
    pub fn given(&mut self, number: u64, agent: AgentId) -> Option<&Remembered> {
        let flow = self.flows.get_mut(&number)?;
        if !flow.agents.contains(&agent) {
            flow.agents.push(agent);
        }
        flow.forget = Duration::MAX;
        let revived = flow.life == Life::Gone;
        if revived {
            flow.life = Life::Live;
        }
        revived.then_some(flow)
    }

    /// The flow that an agent speaks of: by its number, or by its tuple if it was decided before this
    /// manager started and has the number of another.
    #[must_use]
    pub fn meant(&self, number: u64, forward: Option<Tuple>) -> Option<u64> {
        if self.flows.contains_key(&number) {
            return Some(number);
        }
        let (found, flow) = self.find(Part::Forward, forward?, PacketKind::Whole)?;
        (flow.request.1 == 0).then_some(found)
    }

    /// An agent has seen the flow close.
    pub fn closed(&mut self, number: u64) {
        if let Some(flow) = self.flows.get_mut(&number)
            && flow.life == Life::Live
        {
            flow.life = Life::Closed;
        }
    }

    /// An agent holds the flow no more. When it was the last one, the flow is gone, and returned.
    pub fn ended(&mut self, now: Duration, number: u64, agent: AgentId) -> Option<&Remembered> {
        let flow = self.flows.get_mut(&number)?;
        flow.agents.retain(|a| *a != agent);
        if !flow.agents.is_empty() || flow.life == Life::Gone {
            return None;
        }
        flow.life = Life::Gone;
        flow.forget = now + self.keep;
        self.gone.push_back((flow.forget, number));
        Some(flow)
    }

    /// An agent has refused what a request brought; forgets the flow if it came by that request.
    pub fn denied(&mut self, agent: AgentId, request: u64) -> Option<Remembered> {
        let number = self.by_request.get(&(agent, request)).copied()?;
        self.remove(number)
    }

    /// Forgets flows that are gone long enough.
    pub fn forget(&mut self, now: Duration) {
        while let Some((at, number)) = self.gone.front().copied() {
            if at > now {
                return;
            }
            self.gone.pop_front();
            if self.flows.get(&number).is_some_and(|f| f.forget <= now) {
                self.remove(number);
            }
        }
    }

    fn remove(&mut self, number: u64) -> Option<Remembered> {
        let flow = self.flows.remove(&number)?;
        for key in keys(&flow.decided, flow.kind).into_iter().flatten() {
            if self.by_tuple.get(&key) == Some(&number) {
                self.by_tuple.remove(&key);
            }
        }
        self.by_request.remove(&flow.request);
        Some(flow)
    }
}

fn keys(decided: &Decided, kind: PacketKind) -> [Option<(Part, Tuple, PacketKind)>; 2] {
    [
        Some((Part::Forward, decided.forward.0, kind)),
        (decided.reply.as_ref()).map(|(tuple, _)| (Part::Reply, *tuple, kind)),
    ]
}
