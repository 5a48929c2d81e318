//! The ways to agents: who is there, whose session is due when, and who has listed what it holds. With many agents
//! a message concerns one of them, so that nothing here looks at all of them for each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::memory::AgentId;
use crate::session::{Session, SessionId};

/// How long an agent that does not say who it is keeps a service from deciding.
const WELCOME: Duration = Duration::from_secs(5);

/// A way to an agent.
pub(super) struct Way {
    pub session: Session,
    /// When its session wants to be ticked, as it was noted last.
    due: Option<Duration>,
    since: Duration,
    /// Once the agent has said who it is: the agent, and which of its sessions this is.
    pub agent: Option<(AgentId, u64)>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Ways {
    ways: BTreeMap<SessionId, Way>,
    due: BTreeSet<(Duration, SessionId)>,
    /// Agents that have listed what they hold of a service.
    listed: BTreeSet<(AgentId, usize)>,
    /// Services of which every agent has, as long as no session comes or goes.
    listed_by_all: BTreeSet<usize>,
}

impl Ways {
    pub fn open(&mut self, id: SessionId, now: Duration, session: Session) {
        let way = Way {
            session,
            due: None,
            since: now,
            agent: None,
        };
        self.ways.insert(id, way);
        self.listed_by_all.clear();
        self.with(id, |_| ());
    }

    pub fn close(&mut self, id: SessionId) -> Option<Way> {
        let way = self.ways.remove(&id)?;
        self.listed_by_all.clear();
        if let Some(at) = way.due {
            self.due.remove(&(at, id));
        }
        Some(way)
    }

    /// Does something with a session, and notes when it is due after that.
    pub fn with<T>(&mut self, id: SessionId, what: impl FnOnce(&mut Way) -> T) -> Option<T> {
        let way = self.ways.get_mut(&id)?;
        let done = what(way);
        let next = way.session.next();
        let noted = std::mem::replace(&mut way.due, next);
        if noted != next {
            if let Some(at) = noted {
                self.due.remove(&(at, id));
            }
            self.due.extend(next.map(|at| (at, id)));
        }
        Some(done)
    }

    /// The agent of a session has said who it is.
    pub fn name(&mut self, id: SessionId, agent: (AgentId, u64)) {
        if let Some(way) = self.ways.get_mut(&id) {
            way.agent = Some(agent);
            self.listed_by_all.clear();
        }
    }

    pub fn get(&self, id: SessionId) -> Option<&Way> {
        self.ways.get(&id)
    }

    /// The agent of a session, and which of its sessions this is.
    pub fn agent(&self, id: SessionId) -> Option<(AgentId, u64)> {
        self.ways.get(&id)?.agent
    }

    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &Way)> {
        self.ways.iter().map(|(id, way)| (*id, way))
    }

    pub fn ids(&self) -> Vec<SessionId> {
        self.ways.keys().copied().collect()
    }

    /// Sessions with agents that have said who they are.
    pub fn known(&self) -> impl Iterator<Item = (SessionId, AgentId)> {
        self.iter().filter_map(|(id, way)| Some((id, way.agent?.0)))
    }

    /// The session with an agent.
    pub fn to(&self, agent: AgentId) -> Option<SessionId> {
        self.known().find(|(_, a)| *a == agent).map(|(id, _)| id)
    }

    /// When a session is due.
    pub fn next(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The sessions that are due.
    pub fn due(&self, now: Duration) -> Vec<SessionId> {
        (self.due.iter())
            .take_while(|(at, _)| *at <= now)
            .map(|(_, id)| *id)
            .collect()
    }

    /// An agent has listed what it holds of a service.
    pub fn lists(&mut self, agent: AgentId, index: usize) {
        self.listed.insert((agent, index));
    }

    /// Whether it has.
    pub fn has_listed(&self, agent: AgentId, index: usize) -> bool {
        self.listed.contains(&(agent, index))
    }

    /// Whether every agent that there is has.
    pub fn all_have_listed(&mut self, index: usize, now: Duration) -> bool {
        if self.listed_by_all.contains(&index) {
            return true;
        }
        let all = self.ways.values().all(|way| match way.agent {
            Some((agent, _)) => self.has_listed(agent, index),
            None => now >= way.since + WELCOME,
        });
        if all {
            self.listed_by_all.insert(index);
        }
        all
    }

    /// Lists of one service count no more, or those of all: also those of agents that are away.
    pub fn list_anew(&mut self, of: Option<usize>) {
        let other = |index: usize| of.is_some_and(|of| of != index);
        self.listed.retain(|(_, index)| other(*index));
        self.listed_by_all.retain(|index| other(*index));
    }
}
