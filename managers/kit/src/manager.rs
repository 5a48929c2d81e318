//! A manager as a deterministic state machine: agents' messages and the time go in, messages come out.
//!
//! It keeps sessions and knows agents by their names, so that one that comes back is the same; what a service
//! answers is in `service`. It does not know what the services do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use signalbox_agent::message::{
    AgentBody, Interest, ManagerBody, Reason, ReportCause, Subject, ToAgent, ToManager, Verdict,
};
use signalbox_lower::plan::Plan;

use crate::decide::Decide;
use crate::memory::{AgentId, Life, Recipient};
use crate::peer::{PeerId, PeerMessage, PeerReason};
use crate::proxy::Diverted;
use crate::react::Ports;
use crate::record::{Record, Reported};
use crate::service::{Asked, Service};
use crate::session::{News, Offer, Session, SessionId};
use crate::state::{Found, Round, StateError};

pub(crate) use failover::Passing;
pub use peers::{LinkCounts, LinkState, LinkStatus};
pub(crate) use shared::Held;
use shared::Shared;
pub use shared::{AliveStatus, BlockStatus, StoreCounts, StoreStatus};
pub use status::{ServiceStatus, Status};
use ways::{Way, Ways};

mod checks;
mod claim;
mod ending;
mod failover;
mod peers;
mod proxies;
mod recollection;
mod replication;
mod services;
mod shared;
mod status;
mod succession;
mod ways;

/// Anything that happens to a manager.
#[derive(Debug, Clone)]
pub enum Input {
    /// There is a new way to an agent.
    Connected(SessionId),
    /// It is gone.
    Disconnected(SessionId),
    /// An agent has said something.
    Message(SessionId, ToManager),
    /// There is a new way to another manager, whichever it is.
    PeerConnected(PeerId),
    /// It is gone.
    PeerDisconnected(PeerId),
    /// Another manager has said something.
    Peer(PeerId, PeerMessage),
    /// The store has answered the round with this number.
    Store(u64, Result<Found, StateError>),
    /// Time has passed.
    Tick,
}

/// Anything that a manager wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Say something to an agent.
    Message(SessionId, ToAgent),
    /// An agent has said who it is: its session is open.
    Opened {
        /// The session.
        session: SessionId,
        /// The agent's name.
        agent: Arc<str>,
    },
    /// The agent will not have this manager; the session is over.
    Refused {
        /// The session.
        session: SessionId,
        /// Why.
        reason: Reason,
        /// The same for people.
        text: String,
    },
    /// End a session: it is to be opened anew.
    Close(SessionId),
    /// Say something to another manager.
    Peer(PeerId, PeerMessage),
    /// The other manager will not have this one; the way is over.
    PeerRefused {
        /// The way.
        peer: PeerId,
        /// Why.
        reason: PeerReason,
        /// The same for people.
        text: String,
    },
    /// End a way to another manager, once all is said.
    PeerClose(PeerId),
    /// One line for the operator.
    Log(String),
    /// Do this with the store that managers share, and give its answer back.
    Store(Round),
    /// The manager is over: another process has taken its place. One line for the operator.
    End(String),
    /// Something that an agent has counted, to be kept for who wants to know.
    Record(Record),
}

/// An agent that is away: at this time it counts as lost, and what it holds of the service with it.
struct Away {
    until: Duration,
    agent: AgentId,
    service: usize,
}

/// A question that cannot be answered yet.
struct Waiting {
    until: Duration,
    way: SessionId,
    service: usize,
    to: Recipient,
    interest: Interest,
}

/// A manager of one or more services.
pub struct Manager {
    name: Arc<str>,
    instance: u64,
    plan: Plan,
    plan_hash: u64,
    now: Duration,
    offers: Vec<Offer>,
    services: Vec<Service>,
    by_name: FxHashMap<(Arc<str>, u32), usize>,
    ways: Ways,
    /// Agents that have ever been there, by [`AgentId`].
    agents: Vec<Arc<str>>,
    away: Vec<Away>,
    /// Questions that wait until every agent has.
    waiting: VecDeque<Waiting>,
    /// Sessions that have been opened.
    opened: u64,
    injected: u64,
    /// Installations and deletions that nobody asked for.
    unasked: u64,
    ports: Ports,
    /// Other managers with which it shares decisions.
    links: Vec<peers::Link>,
    /// Ways to managers.
    doors: BTreeMap<PeerId, peers::Door>,
    peers_refused: BTreeMap<PeerReason, u64>,
    /// The store that it shares with others, if there is one.
    shared: Option<Shared>,
    out: Vec<Output>,
}

/// What a manager serves: the service's name, the number of the share (0 if the service is not divided), the
/// epoch, and what decides. An epoch of 0 is not known yet: the manager takes it from what agents tell it.
pub type Served = (String, u32, u64, Box<dyn Decide>);

impl Manager {
    /// A manager of that name in the plan, with what it serves. Services and shares of the plan that are not
    /// here are left alone.
    #[must_use]
    pub fn new(name: &str, plan: &Plan, services: Vec<Served>) -> Self {
        let mut manager = Self {
            name: name.into(),
            instance: 0,
            plan: plan.clone(),
            plan_hash: signalbox_agent::plan_hash(plan),
            now: Duration::ZERO,
            offers: Vec::new(),
            services: Vec::new(),
            by_name: FxHashMap::default(),
            ways: Ways::default(),
            agents: Vec::new(),
            away: Vec::new(),
            waiting: VecDeque::new(),
            opened: 0,
            injected: 0,
            unasked: 0,
            ports: Ports::new(plan),
            links: Vec::new(),
            doors: BTreeMap::new(),
            peers_refused: BTreeMap::new(),
            shared: None,
            out: Vec::new(),
        };
        for (service, share, epoch, decide) in services {
            manager.add((&service, share), epoch, epoch == 0, 1, decide);
        }
        manager.link();
        manager.learn_first(None);
        // Whoever was there before may have left what only the other one knows.
        manager.wish_to_recall(None);
        manager
    }

    /// Takes in what has happened and says what is to be done. `now` never goes back.
    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<Output> {
        self.now = self.now.max(now);
        for service in &mut self.services {
            service.decide.tick(self.now);
        }
        match input {
            Input::Connected(id) => {
                self.disconnected(id);
                let name = self.name.clone();
                let (instance, hash) = (self.instance, self.plan_hash);
                let session = Session::new(self.now, name, instance, hash, &self.offers);
                self.ways.open(id, self.now, session);
            }
            Input::Disconnected(id) => self.disconnected(id),
            Input::Message(id, message) => self.message(id, message),
            Input::PeerConnected(id) => self.peer_connected(id),
            Input::PeerDisconnected(id) => self.peer_gone(id),
            Input::Peer(id, message) => self.peer_said(id, message),
            Input::Store(number, result) => self.answered(number, result),
            Input::Tick => {}
        }
        self.tick();
        self.share();
        for index in 0..self.services.len() {
            self.proxy_steps(index);
        }
        self.replicate();
        for (service, offer) in self.services.iter_mut().zip(&self.offers) {
            let lines = service.decide.news().into_iter();
            (self.out).extend(lines.map(|l| Output::Log(format!("{}: {l}", offer.service))));
        }
        std::mem::take(&mut self.out)
    }

    /// When [`Input::Tick`] is due, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let sessions = self.ways.next().into_iter();
        let away = self.away.iter().map(|a| a.until);
        let checks = (self.speaker().is_some())
            .then(|| {
                let services = self.services.iter().zip(&self.offers);
                services.filter_map(|(s, offer)| s.checker.next().filter(|_| !offer.learning))
            })
            .into_iter()
            .flatten();
        let waiting = self.waiting.iter().map(|w| w.until);
        let own = (self.services.iter())
            .flat_map(|s| {
                let held = s.held.next(self.now);
                [s.decide.next(), s.reactions.next(), s.passing.next(), held]
            })
            .flatten();
        sessions
            .chain(self.shared.as_ref().map(Shared::next))
            .chain(checks)
            .chain(away)
            .chain(waiting)
            .chain(own)
            .chain(self.next_of_peers())
            .min()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn tick(&mut self) {
        let now = self.now;
        let mut said = Vec::new();
        for id in self.ways.due(now) {
            let tick = |way: &mut Way| way.session.tick(now, &self.offers, &mut said);
            self.ways.with(id, tick);
            (self.out).extend(said.drain(..).map(|m| Output::Message(id, m)));
        }
        let due = self.away.extract_if(.., |a| a.until <= now);
        for Away { agent, service, .. } in due.collect::<Vec<_>>() {
            // Who stands by for another one is told of flows' ends.
            if !self.is_told(service) {
                self.lost(agent, service, u64::MAX);
            }
        }
        self.claim();
        for index in 0..self.services.len() {
            self.retake(index);
            self.react(index);
        }
        self.answer_waiting();
        self.check();
    }

    fn say(&mut self, id: SessionId, index: usize, body: ManagerBody) {
        if let Some(offer) = self.offers.get(index) {
            self.out.push(Output::Message(
                id,
                ToAgent {
                    service: offer.service.clone(),
                    share: offer.share,
                    epoch: offer.epoch,
                    body,
                },
            ));
        }
    }

    /// The agent that a new session is with: one that was there before is the same.
    fn opened(&mut self, name: &Arc<str>) -> (AgentId, u64) {
        let at = self.agents.iter().position(|known| known == name);
        let agent = AgentId(at.unwrap_or(self.agents.len()));
        if at.is_none() {
            self.agents.push(name.clone());
        }
        self.away.retain(|a| a.agent != agent);
        self.opened += 1;
        (agent, self.opened)
    }

    /// A way to an agent is gone. What the agent holds it holds on: its switch goes on by itself.
    fn disconnected(&mut self, id: SessionId) {
        let Some(way) = self.ways.close(id) else {
            return;
        };
        self.unsaid(id);
        for service in &mut self.services {
            service.memory.session_over(id);
            service.turned_down.session_over(id);
        }
        let Some((agent, _)) = way.agent else { return };
        if self.ways.to(agent).is_some() {
            return;
        }
        for (service, state) in self.services.iter().enumerate() {
            if state.decide.hold_back().is_some() {
                continue;
            }
            self.away.push(Away {
                until: self.now + keep(state.limits.idle_ms),
                agent,
                service,
            });
        }
    }

    /// What an agent was given before this session of it, and does not tell of now, it holds no more.
    fn lost(&mut self, agent: AgentId, index: usize, session: u64) {
        if let Some(service) = self.services.get_mut(index) {
            for decided in service.memory.lost(self.now, agent, session) {
                service.decide.ended(&decided);
            }
        }
    }

    fn message(&mut self, id: SessionId, message: ToManager) {
        let now = self.now;
        if let AgentBody::Welcome(welcome) = &message.body {
            let opens = (self.ways.get(id)).is_some_and(|way| way.session.agent().is_none());
            if opens {
                self.learn_epochs(id, welcome);
            }
        }
        let mut said = Vec::new();
        let heard = self.ways.with(id, |way| {
            let news = way.session.handle(now, &message, &self.offers, &mut said);
            (
                news,
                way.session.refused().cloned(),
                way.session.agent().cloned(),
            )
        });
        let Some((news, refused, name)) = heard else {
            return;
        };
        if let Some((reason, text)) = refused {
            self.disconnected(id);
            return self.out.push(Output::Refused {
                session: id,
                reason,
                text,
            });
        }
        (self.out).extend(said.into_iter().map(|m| Output::Message(id, m)));
        if let (News::Opened, Some(name)) = (news, name) {
            let agent = self.opened(&name);
            self.out.push(Output::Opened {
                session: id,
                agent: name.clone(),
            });
            if self.ways.to(agent.0).is_some() {
                let text = format!(
                    "two agents call themselves `{name}`, or one is reached twice; each needs its own `--name`"
                );
                self.out.push(Output::Log(text));
            }
            self.ways.name(id, agent);
        }
        // Before it has said who it is, nothing that an agent says can be remembered.
        let Some((agent, session)) = self.ways.agent(id) else {
            return;
        };
        if let AgentBody::Arrived { packet, .. } = &message.body {
            return self.arrived(id, packet);
        }
        let key = (message.service, message.share);
        let Some(index) = self.by_name.get(&key).copied() else {
            return;
        };
        if matches!(&message.body, AgentBody::Interest(i) if i.request != 0)
            && let Some(name) = self.agents.get(agent.0).cloned()
        {
            self.asked(index, message.epoch, &name);
        }
        self.heard(index, message.epoch);
        // Taking over has begun a new count of what agents list.
        let session = self.ways.agent(id).map_or(session, |(_, now)| now);
        let Some(service) = self.services.get_mut(index) else {
            return;
        };
        match message.body {
            AgentBody::Interest(interest) if interest.request == 0 => service.counts.notices += 1,
            // It was asked before its own manager came back, which decides: its word under that one's epoch would
            // be taken.
            AgentBody::Interest(_)
                if (self.offers.get(index)).is_some_and(|o| o.stands_by && !o.learning) => {}
            AgentBody::Interest(interest) => {
                let to = Recipient {
                    agent,
                    session,
                    question: Some((id, interest.request)),
                };
                self.interest(id, index, to, &interest);
            }
            AgentBody::Report(report) => {
                let forward = report.forward.map(|d| d.tuple);
                let number = service.memory.meant(agent, report.flow, forward);
                if report.cause == ReportCause::Closed
                    && let Some(number) = number
                {
                    service.memory.closed(number);
                }
                let closed = report.cause == ReportCause::Closed
                    || number.and_then(|n| service.memory.life(n)) == Some(Life::Closed);
                let of = Reported::Flow { report, closed };
                self.record(agent, index, of);
            }
            AgentBody::CriterionReport(report) => {
                self.record(agent, index, Reported::Criterion(report));
            }
            AgentBody::Expired(ended) | AgentBody::Deleted(ended) => {
                if let Some(number) = service.memory.meant(agent, ended.flow, ended.forward)
                    && let Some(flow) = service.memory.ended(now, number, agent)
                {
                    service.decide.ended(&flow.decided);
                } else if let Some(stray) =
                    (service.memory).stray_ended(agent, ended.flow, ended.forward)
                {
                    service.decide.ended(&stray);
                }
            }
            AgentBody::Denied(denied) => {
                service.counts.denied += 1;
                // Of one that the switch refused it may hold a part for a moment yet.
                let half = matches!(denied.reason, Reason::TableFull | Reason::TargetRefused);
                // What was said under an older epoch the lists settle: meanwhile the same question may have
                // been answered anew.
                if let Subject::Verdict(question) = denied.subject
                    && denied.reason != Reason::OldEpoch
                    && let Some((decided, never)) = service.memory.denied(now, id, question, half)
                {
                    if never && (!half || service.decide.is_proxy()) {
                        service.decide.refused(&decided);
                    } else {
                        service.decide.ended(&decided);
                    }
                }
                let text = format!("{}: denied: {}", key.0, denied.text);
                self.out.push(Output::Log(text));
            }
            AgentBody::Affinities { list, .. } => {
                let to = Recipient {
                    agent,
                    session,
                    question: None,
                };
                for affinity in list {
                    service.adopt(now, to, &affinity);
                }
                if let News::Listed(index) = news {
                    self.lost(agent, index, session);
                    self.ways.lists(agent, index);
                    if self.ways.all_have_listed(index, now)
                        && let Some(service) = self.services.get_mut(index)
                    {
                        service.passing.lists_until = None;
                    }
                }
            }
            _ => {}
        }
    }

    fn record(&mut self, agent: AgentId, index: usize, of: Reported) {
        let (Some(agent), Some(offer), Some(service)) = (
            self.agents.get(agent.0),
            self.offers.get(index),
            self.services.get(index),
        ) else {
            return;
        };
        self.out.push(Output::Record(Record {
            agent: agent.clone(),
            service: offer.service.clone(),
            stage: service.stage,
            of,
        }));
    }

    fn interest(&mut self, id: SessionId, index: usize, to: Recipient, interest: &Interest) {
        let now = self.now;
        let may_decide = self.may_decide(index);
        let is_learning = self.is_learning(index);
        let Some(service) = self.services.get_mut(index) else {
            return;
        };
        // What it remembers of before it took over may be another decision by now.
        let follows = service.passing.lists_until.is_some() && !may_decide;
        let asked = match is_learning {
            true => Asked::Later,
            false => service.asked(interest, may_decide),
        };
        let answer = match asked {
            Asked::Proxy(proxy) => {
                proxy.packet(now, &Diverted::of(id, interest));
                service.counts.interest_packets += 1;
                return;
            }
            Asked::Memory if !follows => service.answer(now, to, interest, may_decide),
            Asked::Memory | Asked::Later => None,
        };
        let Some(answer) = answer else {
            let bound = usize::try_from(service.limits.hold_packets).unwrap_or(usize::MAX);
            if self.waiting.len() < bound {
                self.waiting.push_back(Waiting {
                    until: now + Duration::from_millis(service.limits.hold_ms),
                    way: id,
                    service: index,
                    to,
                    interest: interest.clone(),
                });
            }
            return;
        };
        service.counts.interest_packets += 1;
        for (agent, tuple) in answer.replaced {
            self.replaced(index, agent, tuple, interest.kind);
        }
        let verdict = Verdict {
            request: interest.request,
            decision: answer.decision,
            affinities: answer.affinities,
        };
        let number =
            (self.services.get(index)).and_then(|s| s.memory.answered((id, interest.request)));
        self.verdict(id, index, number, verdict);
        if let Some(reset) = answer.reset {
            self.reset(id, index, interest, reset);
        }
    }

    /// Whether a service may decide anew: one that takes what agents may hold already waits for their lists,
    /// and so does one that has just taken over.
    fn may_decide(&mut self, index: usize) -> bool {
        let at_once = |s: &Service| {
            let passing = s.passing.lists_until;
            s.decide.hold_back().is_none() && passing.is_none_or(|until| self.now >= until)
        };
        !self.is_recalling(index)
            && (self.services.get(index).is_none_or(at_once)
                || self.ways.all_have_listed(index, self.now))
    }

    /// Answers questions that had to wait, but for those that their agents hold no more.
    fn answer_waiting(&mut self) {
        let now = self.now;
        for _ in 0..self.waiting.len() {
            let Some(waiting) = self.waiting.pop_front() else {
                return;
            };
            let open = (self.ways.agent(waiting.way))
                .is_some_and(|(_, session)| session == waiting.to.session);
            if now >= waiting.until || !open {
                continue;
            }
            if !self.may_decide(waiting.service) {
                self.waiting.push_back(waiting);
                continue;
            }
            let Waiting {
                way,
                service,
                to,
                interest,
                ..
            } = waiting;
            self.interest(way, service, to, &interest);
        }
    }
}

/// How long what is gone is remembered: two idle leases.
fn keep(idle_ms: u64) -> Duration {
    Duration::from_millis(idle_ms.saturating_mul(2))
}
