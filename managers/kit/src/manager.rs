//! A manager as a deterministic state machine: agents' messages and the time go in, messages come out.
//!
//! It keeps sessions, remembers what it has decided, and asks a [`Decide`] only about flows that are new.
//! It does not know what the services do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::Serialize;
use signalbox_agent::flow::{Part, events};
use signalbox_agent::message::{
    AgentBody, Criterion, Decision, FixedAffinity, Inject, InstalledAffinity, Interest,
    InterestMask, Leases, ManagerBody, Place, ReportCause, Statistics, ToAgent, ToManager, Verdict,
};
use signalbox_agent::packet::proto;
use signalbox_lower::plan::{CriterionAction, Limits, PartPlan, Plan, ServicePlan};

use crate::decide::{Choice, Decide, Decided, Opening, TargetStatus};
use crate::health::{Checker, Verdict as Health};
use crate::memory::{AgentId, Life, Memory};
use crate::session::{Offer, Session};

/// Anything that happens to a manager.
#[derive(Debug, Clone)]
pub enum Input {
    /// There is a way to an agent.
    Connected(AgentId),
    /// It is gone.
    Disconnected(AgentId),
    /// An agent has said something.
    Message(AgentId, ToManager),
    /// Time has passed.
    Tick,
}

/// Anything that a manager wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Say something to an agent.
    Message(AgentId, ToAgent),
    /// One line for the operator.
    Log(String),
}

/// What a manager has counted of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Packets that agents asked about.
    pub interest_packets: u64,
    /// Of those, first packets that were decided.
    pub decided: u64,
    /// Of those, first packets of flows decided before: retransmissions, and flows new to that agent.
    pub repeated: u64,
    /// Of those, packets in mid-flow of flows that were decided before.
    pub mid_flow_known: u64,
    /// Of those, packets in mid-flow of unknown flows; never given a new decision (A8.4).
    pub mid_flow_unknown: u64,
    /// Flows that found nobody to serve them.
    pub no_choice: u64,
    /// Notices.
    pub notices: u64,
    /// Refusals by agents.
    pub denied: u64,
}

/// A service's state, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceStatus {
    /// Its name.
    pub service: String,
    /// This manager's epoch for it.
    pub epoch: u64,
    /// Flows remembered.
    pub flows: usize,
    /// What was counted.
    pub counts: Counts,
    /// Its targets.
    pub targets: Vec<TargetStatus>,
}

/// A manager's state, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Its name.
    pub manager: String,
    /// Agents with an open session.
    pub agents: Vec<String>,
    /// Its services.
    pub services: Vec<ServiceStatus>,
}

struct Service {
    limits: Limits,
    decide: Box<dyn Decide>,
    memory: Memory,
    checker: Checker,
    counts: Counts,
}

/// A manager of one or more services.
pub struct Manager {
    name: Arc<str>,
    plan_hash: u64,
    now: Duration,
    offers: Vec<Offer>,
    services: Vec<Service>,
    by_name: FxHashMap<Arc<str>, usize>,
    sessions: BTreeMap<AgentId, Session>,
    next_request: u64,
    out: Vec<Output>,
}

/// A decision is remembered for so many idle leases after its flow is gone.
const KEEP_LEASES: u64 = 2;
/// Set in the ids of fixed affinities' entries.
const FIXED_ENTRY: u32 = 0x8000_0000;
/// Requests of a manager's own; agents' questions are numbered from 1.
const OWN_REQUESTS: u64 = 1 << 63;

impl Manager {
    /// A manager of that name in the plan, with the decisions and the epoch of each service that it serves.
    /// Services of the plan without a decision here are left alone.
    #[must_use]
    pub fn new(name: &str, plan: &Plan, services: Vec<(String, u64, Box<dyn Decide>)>) -> Self {
        let mut manager = Self {
            name: name.into(),
            plan_hash: signalbox_agent::plan_hash(plan),
            now: Duration::ZERO,
            offers: Vec::new(),
            services: Vec::new(),
            by_name: FxHashMap::default(),
            sessions: BTreeMap::new(),
            next_request: OWN_REQUESTS,
            out: Vec::new(),
        };
        for (service, epoch, decide) in services {
            let Some(s) = plan.services.iter().find(|s| s.name == service) else {
                continue;
            };
            let name: Arc<str> = service.into();
            let index = manager.services.len();
            manager.by_name.insert(name.clone(), index);
            manager.offers.push(Offer {
                service: name,
                epoch,
                version: 1,
                criteria: criteria_of(s),
                beat: Duration::from_millis((s.limits.criteria_lease_ms / 3).max(1)),
            });
            let keep = Duration::from_millis(s.limits.idle_ms * KEEP_LEASES);
            manager.services.push(Service {
                checker: Checker::new(plan, &decide.targets(), index),
                limits: s.limits.clone(),
                decide,
                memory: Memory::new(keep, epoch << 40),
                counts: Counts::default(),
            });
        }
        manager
    }

    /// Takes in what has happened and says what is to be done. `now` never goes back.
    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<Output> {
        self.now = self.now.max(now);
        match input {
            Input::Connected(id) => {
                let session =
                    Session::new(self.now, self.name.clone(), self.plan_hash, &self.offers);
                self.sessions.insert(id, session);
            }
            Input::Disconnected(id) => {
                self.sessions.remove(&id);
            }
            Input::Message(id, message) => self.message(id, message),
            Input::Tick => {}
        }
        self.tick();
        std::mem::take(&mut self.out)
    }

    /// When [`Input::Tick`] is due, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let sessions = self.sessions.values().filter_map(Session::next);
        let checks = (self.speaker().is_some())
            .then(|| self.services.iter().filter_map(|s| s.checker.next()))
            .into_iter()
            .flatten();
        sessions.chain(checks).min()
    }

    /// Its state, for people.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            manager: self.name.to_string(),
            agents: (self.sessions.values())
                .filter_map(|s| s.agent().map(ToString::to_string))
                .collect(),
            services: (self.services.iter().zip(&self.offers))
                .map(|(s, offer)| ServiceStatus {
                    service: offer.service.to_string(),
                    epoch: offer.epoch,
                    flows: s.memory.len(),
                    counts: s.counts,
                    targets: s.decide.status(),
                })
                .collect(),
        }
    }

    /// The agent through which checks go: the first one that is there.
    fn speaker(&self) -> Option<AgentId> {
        (self.sessions.iter())
            .find(|(_, s)| s.agent().is_some())
            .map(|(id, _)| *id)
    }

    fn tick(&mut self) {
        let now = self.now;
        let mut said = Vec::new();
        for (id, session) in &mut self.sessions {
            session.tick(now, &self.offers, &mut said);
            (self.out).extend(said.drain(..).map(|m| Output::Message(*id, m)));
        }
        for service in &mut self.services {
            service.memory.forget(now);
        }
        let Some(speaker) = self.speaker() else {
            return;
        };
        for index in 0..self.services.len() {
            let Some(service) = self.services.get_mut(index) else {
                continue;
            };
            if service.checker.next().is_some_and(|at| at <= now) {
                let steps = service.checker.tick(now);
                self.checked(speaker, index, steps);
            }
        }
    }

    /// Carries out what checks want: packets out, and news to the service.
    fn checked(&mut self, agent: AgentId, index: usize, steps: Vec<Health>) {
        for step in steps {
            match step {
                Health::Send(packet) => {
                    let place = Place::Route;
                    self.say(agent, index, ManagerBody::Inject(Inject { packet, place }));
                }
                Health::Changed { target, up } => {
                    if let Some(service) = self.services.get_mut(index) {
                        service.decide.health(target, up);
                        let status = service.decide.status();
                        let name = status.get(target).map_or("", |t| t.name.as_str());
                        let word = if up { "up" } else { "down" };
                        let offer = self.offers.get(index).map_or("", |o| &o.service);
                        self.out
                            .push(Output::Log(format!("{offer}: {name} is {word}")));
                    }
                }
            }
        }
    }

    fn say(&mut self, agent: AgentId, index: usize, body: ManagerBody) {
        if let Some(offer) = self.offers.get(index) {
            self.out.push(Output::Message(
                agent,
                ToAgent {
                    service: offer.service.clone(),
                    epoch: offer.epoch,
                    body,
                },
            ));
        }
    }

    fn message(&mut self, id: AgentId, message: ToManager) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let mut said = Vec::new();
        let opened = session.handle(
            now,
            &message.service,
            &message.body,
            &self.offers,
            &mut said,
        );
        if let Some(text) = session.refused() {
            let text = format!("an agent refuses this manager: {text}");
            self.sessions.remove(&id);
            self.out.push(Output::Log(text));
            return;
        }
        (self.out).extend(said.into_iter().map(|m| Output::Message(id, m)));
        if opened {
            // What was decided before, by this manager or another, is not decided again.
            for index in 0..self.offers.len() {
                self.next_request += 1;
                let request = self.next_request;
                self.say(id, index, ManagerBody::ListAffinities { request });
            }
        }
        if let AgentBody::Arrived { packet, .. } = &message.body {
            for index in 0..self.services.len() {
                let steps = (self.services.get_mut(index))
                    .map(|s| s.checker.arrived(now, packet))
                    .unwrap_or_default();
                self.checked(id, index, steps);
            }
            return;
        }
        let Some(index) = self.by_name.get(&message.service).copied() else {
            return;
        };
        let Some(service) = self.services.get_mut(index) else {
            return;
        };
        match message.body {
            AgentBody::Interest(interest) if interest.request == 0 => service.counts.notices += 1,
            AgentBody::Interest(interest) => self.interest(id, index, &interest),
            AgentBody::Report(report) => {
                if report.cause == ReportCause::Closed
                    && let Some(number) = service.memory.meant(report.flow, report.forward)
                {
                    service.memory.closed(number);
                }
            }
            AgentBody::Expired(ended) | AgentBody::Deleted(ended) => {
                if let Some(number) = service.memory.meant(ended.flow, ended.forward)
                    && let Some(flow) = service.memory.ended(now, number, id)
                {
                    service.decide.ended(&flow.decided);
                }
            }
            AgentBody::Denied(denied) => {
                service.counts.denied += 1;
                if let Some(flow) = service.memory.denied(id, denied.request)
                    && flow.life != Life::Gone
                {
                    service.decide.ended(&flow.decided);
                }
                let text = format!("{}: denied: {}", message.service, denied.text);
                self.out.push(Output::Log(text));
            }
            AgentBody::Affinities { list, .. } => {
                for affinity in list {
                    service.adopt(id, &affinity);
                }
            }
            _ => {}
        }
    }

    fn interest(&mut self, id: AgentId, index: usize, interest: &Interest) {
        let now = self.now;
        let Some(service) = self.services.get_mut(index) else {
            return;
        };
        service.counts.interest_packets += 1;
        let (decision, affinities) = service.answer(now, id, interest);
        let verdict = Verdict {
            request: interest.request,
            decision,
            affinities,
        };
        self.say(id, index, ManagerBody::Verdict(verdict));
    }
}

impl Service {
    fn answer(
        &mut self,
        now: Duration,
        agent: AgentId,
        interest: &Interest,
    ) -> (Decision, Vec<FixedAffinity>) {
        let flags = interest.events & (events::SYN | events::ACK);
        let tcp = interest.flow.proto == proto::TCP;
        let opens = interest.part == Part::Forward && (!tcp || flags == events::SYN);
        let known = (self.memory)
            .find(interest.part, interest.flow, interest.kind)
            .map(|(number, flow)| (number, flow.life));
        // An entry diverts an opening packet itself only once its flow has closed.
        let closed = interest.state.entry & FIXED_ENTRY != 0;
        if let Some((number, life)) = known
            && !(opens && tcp && (closed || life != Life::Live))
        {
            // The same flow gets the same decision (A6.3, A8.7).
            if opens {
                self.counts.repeated += 1;
            } else {
                self.counts.mid_flow_known += 1;
            }
            if let Some(flow) = self.memory.given(number, agent) {
                self.decide.adopted(&flow.decided);
            }
            let affinities = self.affinities(number, interest);
            return (Decision::Resume, affinities);
        }
        if !opens {
            self.counts.mid_flow_unknown += 1;
            return (Decision::Drop, Vec::new());
        }
        let choice = self.decide.decide(
            now,
            &Opening {
                flow: interest.flow,
                kind: interest.kind,
                ingress_port: interest.state.ingress_port,
                packet: &interest.packet,
            },
        );
        match choice {
            Choice::Install(decided) => {
                self.counts.decided += 1;
                let (number, former) =
                    self.memory
                        .remember(decided, interest.kind, agent, interest.request);
                for flow in former {
                    if flow.life != Life::Gone {
                        self.decide.ended(&flow.decided);
                    }
                }
                (Decision::Resume, self.affinities(number, interest))
            }
            Choice::Drop => {
                self.counts.no_choice += 1;
                (Decision::Drop, Vec::new())
            }
            Choice::Fallback => {
                self.counts.no_choice += 1;
                (Decision::Fallback, Vec::new())
            }
        }
    }

    /// A remembered decision as an agent wants it.
    fn affinities(&self, number: u64, interest: &Interest) -> Vec<FixedAffinity> {
        let Some((_, flow)) = (self.memory)
            .find(interest.part, interest.flow, interest.kind)
            .filter(|(n, _)| *n == number)
        else {
            return Vec::new();
        };
        let decided = &flow.decided;
        let reply = decided.reply.as_ref();
        let make = |part, tuple, actions: &Vec<_>, partner| FixedAffinity {
            part,
            tuple,
            kind: flow.kind,
            actions: actions.clone(),
            flow: number,
            partner,
            cookie: decided.cookie.clone(),
            leases: Leases {
                half_open_ms: Some(self.limits.half_open_ms),
                idle_ms: Some(self.limits.idle_ms),
                closed_ms: Some(self.limits.closed_ms),
                hard_ms: None,
            },
            interest: InterestMask::default(),
            track_close: tuple.proto == proto::TCP,
            statistics: Statistics {
                count: true,
                every_ms: None,
                on_close: true,
            },
        };
        let (forward, actions) = &decided.forward;
        let mut list = Vec::with_capacity(2);
        if let Some((tuple, actions)) = reply {
            list.push(make(Part::Reply, *tuple, actions, Some(*forward)));
        }
        let partner = reply.map(|(tuple, _)| *tuple);
        list.push(make(Part::Forward, *forward, actions, partner));
        list
    }

    /// Learns a decision that an agent holds already.
    fn adopt(&mut self, agent: AgentId, installed: &InstalledAffinity) {
        let a = &installed.affinity;
        if a.part != Part::Forward {
            return;
        }
        if let Some((number, _)) = self.memory.find(a.part, a.tuple, a.kind) {
            self.memory.given(number, agent);
            return;
        }
        let reply = a.partner.map(|partner| {
            let back = signalbox_agent::message::Action::Translate(a.tuple.reversed());
            (partner, vec![back])
        });
        let decided = Decided {
            forward: (a.tuple, a.actions.clone()),
            reply,
            cookie: a.cookie.clone(),
        };
        self.decide.adopted(&decided);
        let (number, _) = self.memory.remember(decided, a.kind, agent, 0);
        if installed.closed {
            self.memory.closed(number);
        }
    }
}

/// The plan's criteria that ask a manager, as a manager installs them.
fn criteria_of(service: &ServicePlan) -> Vec<Criterion> {
    let of_part = |part: Part, plan: &PartPlan| -> Vec<Criterion> {
        (plan.criteria.iter())
            .filter_map(|c| match c.action {
                CriterionAction::Ask {
                    packet_events,
                    notice_events,
                } => Some(Criterion {
                    id: c.id,
                    part,
                    priority: c.priority,
                    interest: InterestMask {
                        packet_events,
                        notice_events,
                    },
                    // A packet that comes back without an affinity must not get past the service.
                    else_drop: service.fallback == signalbox_lower::plan::Fallback::Drop,
                    count: false,
                    cubes: c.cubes.clone(),
                }),
                CriterionAction::Pass | CriterionAction::Discard => None,
            })
            .collect()
    };
    let mut list = of_part(Part::Forward, &service.forward);
    if let Some(reply) = &service.reply {
        list.extend(of_part(Part::Reply, reply));
    }
    list
}
