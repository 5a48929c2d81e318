//! A manager's memory of what it has decided, longer than any agent's lease (A8.7).
//!
//! A flow is live while an agent holds it, closed when an agent has seen its end, and gone when no agent holds
//! it any more; a gone one is remembered for a while, so that a late packet gets the old decision. An agent
//! that is away still holds what it held: its sessions come and go, its flows stay.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;
use signalbox_agent::flow::{PacketKind, Part, Tuple};
use signalbox_agent::message::FixedAffinity;
use signalbox_agent::packet::proto;

use crate::decide::{Decided, Reaction};
use crate::session::SessionId;

pub use told::Change;

mod told;

/// Names an agent, by whichever session it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentId(pub usize);

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

/// Who gets a decision, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipient {
    /// The agent.
    pub agent: AgentId,
    /// Counts the agent's sessions up: a flow that an agent does not list in a later session it has lost.
    pub session: u64,
    /// The question that the decision answers; `None` when the agent told of the flow itself.
    pub question: Option<(SessionId, u64)>,
}

/// An agent that holds a flow.
#[derive(Debug, Clone, Copy)]
struct Holding {
    to: Recipient,
    /// What the agent calls the flow. Each question is answered with another number, so that what an agent says
    /// of an earlier stay of the flow is not taken for the end of this one; and an agent that has found it on
    /// its switch knows no number.
    number: u64,
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
    /// How it ends, once its target has died. That is final: a target that comes back knows it no more.
    pub doom: Option<Reaction>,
    holdings: Vec<Holding>,
    /// The question that it was decided for, if this manager decided it.
    origin: Option<(SessionId, u64)>,
    forget: Duration,
    /// Another manager's telling in which it was told last; 0 for none.
    told: u32,
}

impl Remembered {
    fn holding(&self, agent: AgentId) -> Option<&Holding> {
        self.holdings.iter().find(|h| h.to.agent == agent)
    }

    /// Whether nobody else holds it than an agent that asks about it in a session after that in which it was given it:
    /// it never got it, or holds it no more.
    pub fn is_left_by(&self, to: Recipient) -> bool {
        let before = |held: &Holding| held.to.agent == to.agent && held.to.session < to.session;
        self.holdings.iter().all(before)
    }

    /// The agents that hold it.
    pub fn holders(&self) -> impl Iterator<Item = AgentId> {
        self.holdings.iter().map(|h| h.to.agent)
    }
}

/// What an agent carries out though it contradicts what is remembered.
#[derive(Debug)]
struct Stray {
    agent: AgentId,
    session: u64,
    /// What the agent calls it.
    called: u64,
    decided: Decided,
}

impl Stray {
    /// Whether it has this reply match, for another flow than that of `forward`.
    fn has(&self, reply: Tuple, forward: Tuple) -> bool {
        let own = self.decided.reply.as_ref().map(|(tuple, _)| *tuple);
        own == Some(reply) && self.decided.forward.0 != forward
    }
}

/// Decisions by number and by tuple.
#[derive(Debug)]
pub struct Memory {
    strays: Vec<Stray>,
    /// Boxed, so that the map's empty places cost little: there may be a million.
    flows: FxHashMap<u64, Box<Remembered>>,
    by_tuple: FxHashMap<(Part, Tuple, PacketKind), u64>,
    by_question: FxHashMap<(SessionId, u64), u64>,
    gone: VecDeque<(Duration, u64)>,
    next: u64,
    keep: Duration,
    /// What another manager must be told of, if there is one that wants it.
    changes: Option<Vec<Change>>,
    /// Agents' sessions up to this one are of before another manager decided.
    reign: u64,
}

impl Memory {
    /// Remembers gone flows for `keep`; numbers flows from `first` on.
    #[must_use]
    pub fn new(keep: Duration, first: u64) -> Self {
        Self {
            strays: Vec::new(),
            flows: FxHashMap::default(),
            by_tuple: FxHashMap::default(),
            by_question: FxHashMap::default(),
            gone: VecDeque::new(),
            next: first,
            keep,
            changes: None,
            reign: 0,
        }
    }

    /// Numbers the flows to come from `first` on, unless they are beyond that already.
    pub fn number_from(&mut self, first: u64) {
        self.next = self.next.max(first);
    }

    /// Another manager has decided until now, and may have decided anew about whatever no agent holds: that is
    /// forgotten unless that manager has told of it, and so will be what agents do not list in their sessions
    /// after this one.
    pub fn reigns_anew(&mut self, session: u64) {
        self.reign = session;
        for (at, number) in std::mem::take(&mut self.gone) {
            let flow = self.flows.get(&number);
            if flow.is_some_and(|f| f.life == Life::Gone && f.told == 0) {
                self.remove(number);
            } else {
                self.gone.push_back((at, number));
            }
        }
    }

    /// Every decision, and where its flow is in its life.
    pub fn decisions(&self) -> impl Iterator<Item = (Life, &Decided)> {
        self.flows.values().map(|f| (f.life, &f.decided))
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

    /// The flow with that number.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Remembered> {
        self.flows.get(&number).map(Box::as_ref)
    }

    /// The flows whose decision says so and that are not doomed yet, in order.
    pub fn dead(&self, is_dead: impl Fn(&Decided) -> bool) -> Vec<u64> {
        let mut numbers: Vec<u64> = (self.flows.iter())
            .filter(|(_, f)| f.doom.is_none() && is_dead(&f.decided))
            .map(|(number, _)| *number)
            .collect();
        numbers.sort_unstable();
        numbers
    }

    /// A flow's target has died. Says whether an agent holds the flow and must be told.
    pub fn doom(&mut self, number: u64, reaction: Reaction) -> bool {
        let Some(flow) = self.flows.get_mut(&number) else {
            return false;
        };
        let tcp = flow.decided.forward.0.proto == proto::TCP;
        flow.doom = Some(if tcp { reaction } else { Reaction::Drop });
        !flow.holdings.is_empty()
    }

    /// What was decided for this direction.
    #[must_use]
    pub fn find(&self, part: Part, tuple: Tuple, kind: PacketKind) -> Option<(u64, &Remembered)> {
        let number = *self.by_tuple.get(&(part, tuple, kind))?;
        Some((number, &**self.flows.get(&number)?))
    }

    /// Forgets what was decided for this direction, and returns it.
    pub fn take(&mut self, part: Part, tuple: Tuple, kind: PacketKind) -> Option<Remembered> {
        let number = *self.by_tuple.get(&(part, tuple, kind))?;
        let flow = self.remove(number)?;
        self.refused(&flow);
        Some(flow)
    }

    fn refused(&mut self, flow: &Remembered) {
        if let Some(changes) = &mut self.changes {
            let what = (flow.decided.clone(), flow.kind);
            changes.push(Change::Refused(Box::new(what)));
        }
    }

    /// Whether another live flow than that of `forward` has this reply match.
    #[must_use]
    pub fn taken(&self, reply: Tuple, forward: Tuple, kind: PacketKind) -> bool {
        let live = (self.find(Part::Reply, reply, kind))
            .is_some_and(|(_, f)| f.life == Life::Live && f.decided.forward.0 != forward);
        live || self.strays.iter().any(|s| s.has(reply, forward))
    }

    /// Whether an agent carries out something else that has the reply match of this.
    #[must_use]
    pub fn is_astray(&self, decided: &Decided) -> bool {
        let (reply, forward) = (decided.reply.as_ref(), decided.forward.0);
        reply.is_some_and(|(reply, _)| self.strays.iter().any(|s| s.has(*reply, forward)))
    }

    /// Whether a live flow has one of a decision's matches and not the other; `asked` is the direction that
    /// the decision is about.
    #[must_use]
    pub fn in_the_way(&self, asked: Part, decided: &Decided, kind: PacketKind) -> bool {
        let reply = decided.reply.as_ref().map(|(tuple, _)| *tuple);
        let forward = decided.forward.0;
        match asked {
            Part::Forward => reply.is_some_and(|reply| self.taken(reply, forward, kind)),
            Part::Reply => (self.find(Part::Forward, forward, kind)).is_some_and(|(_, f)| {
                f.life == Life::Live && f.decided.reply.as_ref().map(|(t, _)| *t) != reply
            }),
        }
    }

    /// Whether some agent holds a flow with this reply match.
    #[must_use]
    pub fn held(&self, reply: Tuple, kind: PacketKind) -> bool {
        (self.find(Part::Reply, reply, kind)).is_some_and(|(_, f)| f.life != Life::Gone)
    }

    /// An agent lists something else than what it was given in a session before: that it does not hold. Returns
    /// it, if nobody does.
    pub fn contradicted(
        &mut self,
        now: Duration,
        to: Recipient,
        listed: &FixedAffinity,
    ) -> Option<Decided> {
        let (number, flow) = self.find(listed.part, listed.tuple, listed.kind)?;
        let held = flow.holding(to.agent)?.to.session;
        if flow.decided.forward.1 == listed.actions || held >= to.session {
            return None;
        }
        Some(self.ended(now, number, to.agent)?.decided.clone())
    }

    /// Remembers that an agent carries out what contradicts the rest; says whether that is new.
    pub fn astray(&mut self, to: Recipient, called: u64, decided: Decided) -> bool {
        let known = (self.strays.iter_mut())
            .find(|s| (s.agent, s.called) == (to.agent, called) && s.decided == decided);
        if let Some(stray) = known {
            stray.session = to.session;
            return false;
        }
        self.strays.push(Stray {
            agent: to.agent,
            session: to.session,
            called,
            decided,
        });
        true
    }

    /// An agent has ended what contradicted the rest; that is returned.
    pub fn stray_ended(
        &mut self,
        agent: AgentId,
        called: u64,
        forward: Option<Tuple>,
    ) -> Option<Decided> {
        let at = self.strays.iter().position(|s| {
            (s.agent, s.called) == (agent, called) && Some(s.decided.forward.0) == forward
        })?;
        Some(self.strays.swap_remove(at).decided)
    }

    /// Remembers a decision; what was remembered of the same tuples gives way and is returned. `number` is
    /// what the agent calls it, if it told of the flow itself.
    pub fn remember(
        &mut self,
        decided: Decided,
        kind: PacketKind,
        to: Recipient,
        number: Option<u64>,
    ) -> (u64, Vec<Remembered>) {
        let former = self.make_way(&decided, kind);
        // Other agents that carry out the very same go on with it.
        let holdings = (former.iter())
            .filter(|f| f.decided.forward == decided.forward && f.decided.reply == decided.reply)
            .flat_map(|f| &f.holdings)
            .filter(|h| h.to.agent != to.agent)
            .map(|held| Holding {
                to: Recipient {
                    question: None,
                    ..held.to
                },
                ..*held
            })
            .collect();
        let own = self.insert(decided, kind);
        if let Some(flow) = self.flows.get_mut(&own) {
            flow.holdings = holdings;
            flow.origin = to.question;
        }
        self.given(own, to, Some(number.unwrap_or(own)));
        (own, former)
    }

    /// Takes out what is remembered of a decision's tuples.
    fn make_way(&mut self, decided: &Decided, kind: PacketKind) -> Vec<Remembered> {
        let mut former = Vec::new();
        for key in keys(decided, kind).into_iter().flatten() {
            if let Some(number) = self.by_tuple.get(&key).copied() {
                former.extend(self.remove(number));
            }
        }
        former
    }

    /// A live flow of a new number, which nobody holds yet.
    fn insert(&mut self, decided: Decided, kind: PacketKind) -> u64 {
        self.next += 1;
        let own = self.next;
        for key in keys(&decided, kind).into_iter().flatten() {
            self.by_tuple.insert(key, own);
        }
        self.flows.insert(
            own,
            Box::new(Remembered {
                decided,
                kind,
                life: Life::Live,
                doom: None,
                holdings: Vec::new(),
                origin: None,
                forget: Duration::MAX,
                told: 0,
            }),
        );
        own
    }

    /// An agent has got the decision (again), and calls it `called`: a number of its own where none is said,
    /// unless it asks the same question again. A flow that was gone comes back to life, and is returned.
    pub fn given(
        &mut self,
        number: u64,
        to: Recipient,
        called: Option<u64>,
    ) -> Option<&Remembered> {
        let flow = self.flows.get_mut(&number)?;
        let held = (flow.holdings.iter_mut()).find(|h| h.to.agent == to.agent);
        let same = (held.as_ref())
            .filter(|held| to.question.is_some() && held.to.question == to.question)
            .map(|held| held.number);
        let called = called.or(same).unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        let holding = Holding { to, number: called };
        let mut new = false;
        match held {
            Some(held) => {
                if let Some(question) = held.to.question {
                    self.by_question.remove(&question);
                }
                *held = holding;
            }
            None => {
                // Mostly it is the only one.
                flow.holdings.reserve_exact(1);
                flow.holdings.push(holding);
                new = true;
            }
        }
        if let Some(question) = to.question {
            self.by_question.insert(question, number);
        }
        flow.forget = Duration::MAX;
        let revived = flow.life == Life::Gone;
        if revived {
            flow.life = Life::Live;
        }
        if (new || revived)
            && let Some(changes) = &mut self.changes
        {
            changes.push(Change::Of(number));
        }
        revived.then_some(flow)
    }

    /// The flow that an agent speaks of. Numbers alone do not do: a manager before this one may have given the
    /// same, and an agent that has found a flow on its switch has none.
    #[must_use]
    pub fn meant(&self, agent: AgentId, called: u64, forward: Option<Tuple>) -> Option<u64> {
        let Some(forward) = forward else {
            return self.flows.contains_key(&called).then_some(called);
        };
        let (number, flow) = self.find(Part::Forward, forward, PacketKind::Whole)?;
        (flow.holding(agent)?.number == called).then_some(number)
    }

    /// The flow that a question was answered with, unless another one about it came since.
    #[must_use]
    pub fn answered(&self, question: (SessionId, u64)) -> Option<u64> {
        self.by_question.get(&question).copied()
    }

    /// What an agent calls a flow that it holds, or is about to.
    #[must_use]
    pub fn called(&self, number: u64, agent: AgentId) -> Option<u64> {
        Some(self.flows.get(&number)?.holding(agent)?.number)
    }

    /// Where a flow is in its life.
    #[must_use]
    pub fn life(&self, number: u64) -> Option<Life> {
        self.flows.get(&number).map(|flow| flow.life)
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
        let at = flow.holdings.iter().position(|h| h.to.agent == agent)?;
        if let Some(question) = flow.holdings.swap_remove(at).to.question {
            self.by_question.remove(&question);
        }
        if !flow.holdings.is_empty() || flow.life == Life::Gone {
            return None;
        }
        flow.life = Life::Gone;
        flow.origin = None;
        flow.forget = now + self.keep;
        self.gone.push_back((flow.forget, number));
        if let Some(changes) = &mut self.changes {
            changes.push(Change::Of(number));
        }
        Some(flow)
    }

    /// An agent holds none of the flows that it was given or told of in sessions before this one: it was
    /// away, and does not list them, or does not come back (`session` is then the largest there is). Returns
    /// those that are gone.
    pub fn lost(&mut self, now: Duration, agent: AgentId, session: u64) -> Vec<Decided> {
        let mut numbers: Vec<(u64, bool)> = (self.flows.iter())
            .filter_map(|(number, f)| {
                let held = f.holding(agent).map(|h| h.to.session)?;
                let is_old = held <= self.reign && self.reign < session && f.told == 0;
                (held < session).then_some((*number, is_old))
            })
            .collect();
        numbers.sort_unstable();
        let strays = (self.strays).extract_if(.., |s| s.agent == agent && s.session < session);
        let mut over: Vec<Decided> = strays.map(|s| s.decided).collect();
        over.extend((numbers.into_iter()).filter_map(|(number, is_old)| {
            let decided = self.ended(now, number, agent)?.decided.clone();
            if is_old
                && let Some(flow) = self.remove(number)
                && let Some(changes) = &mut self.changes
            {
                changes.push(Change::Gone(Box::new((flow.decided, flow.kind))));
            }
            Some(decided)
        }));
        over
    }

    /// An agent has refused what answered its question. A flow that was decided for it is forgotten, and so is one
    /// that the agent asked about again in its session before it had carried it out (`refused`: the switch had no
    /// place for it); one that this agent only got again it does not hold. Returns what had been alive, and is
    /// no more, and whether no agent has ever carried it out.
    pub fn denied(
        &mut self,
        now: Duration,
        session: SessionId,
        question: u64,
        refused: bool,
    ) -> Option<(Decided, bool)> {
        let question = (session, question);
        let number = self.by_question.get(&question).copied()?;
        let flow = self.flows.get(&number)?;
        let alone = flow.holdings.len() == 1;
        let began = flow.origin == Some(question)
            || refused && flow.origin.is_some_and(|(of, _)| of == session);
        if began && alone {
            let flow = self.remove(number)?;
            self.refused(&flow);
            return (flow.life != Life::Gone).then_some((flow.decided, true));
        }
        let holding = (flow.holdings.iter()).find(|h| h.to.question == Some(question))?;
        let agent = holding.to.agent;
        Some((self.ended(now, number, agent)?.decided.clone(), false))
    }

    /// Forgets which questions a session had: they are not spoken of any more.
    pub fn session_over(&mut self, session: SessionId) {
        self.by_question.retain(|(of, _), _| *of != session);
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
        for question in flow.holdings.iter().filter_map(|h| h.to.question) {
            self.by_question.remove(&question);
        }
        Some(*flow)
    }
}

fn keys(decided: &Decided, kind: PacketKind) -> [Option<(Part, Tuple, PacketKind)>; 2] {
    [
        Some((Part::Forward, decided.forward.0, kind)),
        (decided.reply.as_ref()).map(|(tuple, _)| (Part::Reply, *tuple, kind)),
    ]
}

#[cfg(test)]
mod tests;
