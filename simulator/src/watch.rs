//! What is compared with docs/semantics.md beyond packets: who is asked, what takes effect under which epoch,
//! and who holds which outside tuple.
//!
//! A manager can keep tuples apart only as far as it knows who holds them (ARCHITECTURE.md). So each decision is
//! judged by what its process knew of which agents: of one whose list it has under its epoch, all, until
//! another process is heard there under a newer one, or decides there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use signalbox_agent::entry::{FixedAction, FixedEntry};
use signalbox_agent::flow::{FlowKey, Part};
use signalbox_agent::testing::World;

use crate::division::Division;
use crate::hosts::{Broken, Hosts};
use crate::link::Sent;
use crate::site::HOLD_BACK;

type End = (IpAddr, u16);

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The statement of docs/semantics.md, or what else was expected.
    pub statement: &'static str,
    /// When.
    pub at: Duration,
    /// How.
    pub text: String,
}

/// By whose word an agent holds an outside tuple.
#[derive(Debug, Clone)]
struct Given {
    by: u64,
    order: u64,
    knew: BTreeSet<usize>,
}

/// Everything that is remembered to judge by.
#[derive(Debug, Default)]
pub struct Watch {
    /// The first broken promise.
    pub violation: Option<Violation>,
    /// The highest epoch that an agent was shown of a share of a service.
    seen: BTreeMap<(usize, String, u32), u64>,
    /// Agent, outside and inside end: by whose word.
    given: BTreeMap<(usize, End, End), Given>,
    /// Outside ends that nobody holds: since when, whose they were, and by whose word.
    rests: BTreeMap<End, Rest>,
    /// What agents held of established flows when services were divided last.
    established: BTreeSet<(usize, FlowKey)>,
    /// That has happened.
    divided: bool,
    /// Managers share a store: what one has given out rests for all of them.
    shared: bool,
}

/// An outside end that nobody holds.
#[derive(Debug)]
struct Rest {
    since: Duration,
    whose: End,
    by: u64,
    /// The agent that held it last.
    agent: usize,
}

impl Watch {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(shared: bool) -> Self {
        Self {
            shared,
            ..Self::default()
        }
    }

    /// Notes that something is not as it should be, unless something was before.
    pub fn broken(&mut self, at: Duration, (statement, text): Broken) {
        self.violation.get_or_insert(Violation {
            statement,
            at,
            text,
        });
    }

    /// A manager's word is about to reach an agent that has taken it in. Says whether its epoch is over.
    pub fn shown(&mut self, agent: usize, sent: &Sent) -> bool {
        let message = &sent.message;
        let key = (agent, message.service.to_string(), message.share);
        let seen = self.seen.entry(key).or_default();
        let old = sent.epoch < *seen;
        *seen = (*seen).max(sent.epoch);
        old
    }

    /// The highest epoch that an agent was shown of a share of a service.
    #[must_use]
    pub fn epoch(&self, agent: usize, service: &str, share: u32) -> u64 {
        let key = (agent, service.to_owned(), share);
        self.seen.get(&key).copied().unwrap_or(0)
    }

    /// An agent's process has begun anew, and knows no epoch.
    pub fn restarted(&mut self, agent: usize) {
        self.seen.retain(|(of, ..), _| *of != agent);
    }

    /// Services are divided otherwise from now on. What rests of a part that moves, or is cut otherwise, nobody knows
    /// (docs/policy.md), nor who holds what of it before agents have told.
    pub fn divided(&mut self, agents: &[World], hosts: &Hosts, from: Division, to: Division) {
        self.divided = true;
        let moves = |outside: &End| {
            let part = |division: Division| {
                let mut shares = 0..division.shares();
                let share = shares.find(|share| division.gives(*share, outside.0))?;
                Some((division.who(share), division.outside(share)))
            };
            part(from) != part(to)
        };
        (self.rests).retain(|outside, _| !moves(outside));
        for ((_, outside, _), given) in &mut self.given {
            if moves(outside) {
                given.by = 0;
            }
        }
        self.established.clear();
        for (agent, world) in agents.iter().enumerate() {
            let keys = world.switch.fixed.keys();
            let keys = keys.filter(|key| key.part == Part::Forward && hosts.has(&key.tuple));
            self.established.extend(keys.map(|key| (agent, *key)));
        }
    }

    /// A manager's word has reached an agent: what was established before a division stays as it was.
    pub fn goes_on(
        &mut self,
        now: Duration,
        agent: usize,
        before: &BTreeMap<FlowKey, FixedEntry>,
        world: &World,
        hosts: &Hosts,
    ) {
        (self.established).retain(|(at, key)| *at != agent || before.contains_key(key));
        let own =
            (self.established.iter()).filter(|(at, key)| *at == agent && hosts.has(&key.tuple));
        let action =
            |of: &BTreeMap<_, FixedEntry>, key| of.get(key).map(|entry: &FixedEntry| entry.action);
        let mut changed =
            own.filter(|(_, key)| action(before, key) != action(&world.switch.fixed, key));
        if let Some((_, key)) = changed.next() {
            let text = format!("agent {agent} does not go on with {} as it was", key.tuple);
            self.broken(now, ("A7.3", text));
        }
    }

    /// Looks at who holds which outside tuple now. `nat` is the place of the nat service in the plan; `sent`
    /// was the last word to an agent, after which it may hold more.
    pub fn tuples(
        &mut self,
        now: Duration,
        nat: u8,
        division: Division,
        agents: &[World],
        sent: Option<(usize, &Sent)>,
    ) {
        let mut held: BTreeSet<(usize, End, End)> = BTreeSet::new();
        for (agent, world) in agents.iter().enumerate() {
            for (key, entry) in &world.switch.fixed {
                if let FixedAction::Translate(to) = entry.action
                    && (key.service, key.part) == (nat, Part::Forward)
                {
                    let inside = (key.tuple.src, key.tuple.sport);
                    held.insert((agent, (to.src, to.sport), inside));
                }
            }
        }
        let new: Vec<_> = (held.iter())
            .filter(|key| !self.given.contains_key(key))
            .copied()
            .collect();
        for key in new {
            self.is_given(now, key, sent, division, &held);
        }
        let over = self.given.extract_if(.., |key, _| !held.contains(key));
        for ((agent, outside, whose), given) in over.collect::<Vec<_>>() {
            if !held.iter().any(|(_, x, _)| *x == outside) {
                let rest = Rest {
                    since: now,
                    whose,
                    by: given.by,
                    agent,
                };
                self.rests.insert(outside, rest);
            }
        }
    }

    fn is_given(
        &mut self,
        now: Duration,
        key: (usize, End, End),
        sent: Option<(usize, &Sent)>,
        division: Division,
        held: &BTreeSet<(usize, End, End)>,
    ) {
        let (agent, outside, inside) = key;
        let Some((_, sent)) = sent.filter(|(to, _)| *to == agent) else {
            let text = format!("agent {agent} holds {outside:?}, and nobody has said so");
            return self.broken(now, ("A2.14", text));
        };
        let own = Given {
            by: sent.by,
            order: sent.order,
            knew: sent.knew.clone(),
        };
        let share = sent.message.share;
        let is_repeated =
            (held.iter()).any(|(at, x, i)| *at != agent && (*x, *i) == (outside, inside));
        if !division.gives(share, outside.0) && !is_repeated {
            let (address, port) = outside;
            let text = format!("{address}:{port} was given out by the manager of share {share}");
            self.broken(now, ("A7.7", text));
        }
        for other @ (at, x, i) in held {
            let contradicts = if *x == outside {
                (*i != inside).then_some("A2.14")
            } else {
                // What two have been given apart is the first one's, and the other gets another (docs/policy.md).
                let is_shared = || held.iter().any(|(_, y, j)| y == x && j != i);
                // What is another part's from now on stays with its flows, and new ones get another.
                let is_former = || self.divided && (is_repeated || !division.gives(share, x.0));
                (*i == inside && !is_shared() && !is_former()).then_some("A2.10")
            };
            let (Some(statement), Some(theirs)) = (contradicts, self.given.get(other)) else {
                continue;
            };
            let knew = match own.order > theirs.order {
                true => own.knew.contains(at),
                false => theirs.knew.contains(&agent),
            };
            if knew || own.by == theirs.by {
                let text = format!(
                    "{}:{} is {}:{} at agent {agent}, and at agent {at} {}:{} is {}:{}",
                    inside.0, inside.1, outside.0, outside.1, i.0, i.1, x.0, x.1
                );
                self.broken(now, (statement, text));
            }
        }
        if let Some(rest) = self.rests.remove(&outside)
            && (rest.by == own.by || self.shared && own.knew.contains(&rest.agent))
            && (rest.whose != inside && now < rest.since + HOLD_BACK)
        {
            let text = format!(
                "{}:{} was given out after {:?}",
                outside.0,
                outside.1,
                now - rest.since
            );
            self.broken(now, ("A2.15", text));
        }
        self.given.insert(key, own);
    }
}
