//! The agent as a deterministic state machine: everything that happens comes in as an [`Input`] with the
//! time, everything that it wants done goes out as [`Output`]s.
//!
//! It has no clock, no sockets and no randomness, and it does not know which kinds of manager exist. The
//! files beneath are one concern each: `sessions` (who may speak), `criteria` (wildcard affinities and
//! their leases) and `refused` (those that cannot go in), `shares` (who decides for which part of a service), `interest` (held packets and verdicts; `room` bounds them), `install`, `watch` and `ending` (a fixed
//! affinity's life; its record is `flow_record`, and `accept` says what may go in), `limits` (of new flows), `tallies` (what criteria
//! count), `host` and `neighbours` (the agent as a small host), `legs` and `heard` (what managers carry on in others' names), `icmp`, `reset`, `quoted` and `fragments` (what the
//! pipeline leaves to it; `walk` is the cascade as it knows it), `tunnels`, `startup`.

mod accept;
mod arp;
mod criteria;
mod ending;
mod flow_record;
mod fragments;
mod heard;
mod host;
mod icmp;
mod in_use;
mod install;
mod interest;
mod io;
mod legs;
mod limits;
mod ndp;
mod neighbours;
mod path;
mod plan_change;
mod quoted;
mod refused;
mod reset;
mod room;
mod sessions;
mod shares;
mod slots;
mod startup;
mod store;
mod tallies;
mod timers;
mod translate;
mod tunnels;
mod walk;
mod watch;
mod writer;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use signalbox_lower::plan::{PartPlan, Plan, ServicePlan};

/// What `listing` shows of the store.
pub(crate) mod listed {
    pub(crate) use super::flow_record::Flow;
}

pub use flow_record::Progress;
pub use in_use::InUse;
pub use io::{Found, Input, Output, SessionId, WriteError};
pub use plan_change::PlanChange;

pub(crate) use translate::renumber;

use crate::counters::{Counters, Drop};
use crate::entry::{Cell, Change, Entry, FixedAction, Packet, packet_in, packet_out};
use crate::flow::{FlowKey, Part};
use crate::listing::{FlowState, FlowStatus};
use crate::message::{AgentBody, Denied, Reason, Subject, ToManager, Tunnel};
use crate::target::Target;

use criteria::CriteriaSet;
use flow_record::Phase;
use fragments::Fragments;
use heard::Heard;
use icmp::Bucket;
use interest::Question;
use legs::Legs;
use limits::Door;
use neighbours::Neighbours;
use plan_change::{Coming, Entering};
use refused::Refusal;
use room::{Late, Room};
use sessions::Session;
use shares::{Origin, Owner, Share, Tenure};
use slots::Slots;
use store::{FlowRef, Store};
use tallies::{Tally, TallyId};
use timers::{About, Timer, Timers};
use tunnels::Tunnels;
use watch::Reads;
use writer::{Token, Writer};

/// ICMP errors of the agent's own: so many a second, and so many at once.
const ERRORS_OUT: Bucket = Bucket::new(100, 50);
/// ICMP errors that it leads on to where they belong.
const ERRORS_THROUGH: Bucket = Bucket::new(1000, 200);

/// Where the switch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Down,
    Reconciling,
    Opening,
    Ready,
}

/// What the agent keeps of a service.
#[derive(Debug)]
struct Service {
    name: Arc<str>,
    shares: BTreeMap<u32, Tenure>,
    criteria: BTreeMap<Owner, CriteriaSet>,
    refusals: BTreeMap<Owner, Refusal>,
    slots: [Slots; 2],
    criteria_slots: [Slots; 2],
    door: Door,
    fixed: [u32; 2],
    room: Room,
}

impl Service {
    fn new(plan: &ServicePlan) -> Self {
        Self {
            name: plan.name.as_str().into(),
            shares: BTreeMap::from([(0, Tenure::default())]),
            criteria: BTreeMap::new(),
            refusals: BTreeMap::new(),
            slots: [
                Slots::new(plan.forward.first_fixed_slot(), plan.forward.fixed_size),
                (plan.reply.as_ref()).map_or_else(Slots::default, |r| {
                    Slots::new(r.first_fixed_slot(), r.fixed_size)
                }),
            ],
            criteria_slots: [
                tallies::criteria_slots(&plan.forward),
                (plan.reply.as_ref()).map_or_else(Slots::default, tallies::criteria_slots),
            ],
            door: Door::default(),
            fixed: [0; 2],
            room: Room::default(),
        }
    }

    fn slots(&mut self, part: Part) -> &mut Slots {
        let [forward, reply] = &mut self.slots;
        match part {
            Part::Forward => forward,
            Part::Reply => reply,
        }
    }

    fn criteria_slots(&mut self, part: Part) -> &mut Slots {
        let [forward, reply] = &mut self.criteria_slots;
        match part {
            Part::Forward => forward,
            Part::Reply => reply,
        }
    }

    /// How many criteria can yet have a cell.
    fn criteria_room(&self, part: Part) -> usize {
        let [forward, reply] = &self.criteria_slots;
        match part {
            Part::Forward => forward.room(),
            Part::Reply => reply.room(),
        }
    }

    fn fixed(&mut self, part: Part) -> &mut u32 {
        let [forward, reply] = &mut self.fixed;
        match part {
            Part::Forward => forward,
            Part::Reply => reply,
        }
    }
}

/// The forwarding agent of one switch.
#[derive(Debug)]
pub struct Agent {
    name: Arc<str>,
    plan: Arc<Plan>,
    plan_hash: u64,
    target: Target,
    now: Duration,
    link: Link,
    out: Vec<Output>,
    writer: Writer,
    timers: Timers,
    reads: Reads,
    services: Vec<Service>,
    sessions: BTreeMap<SessionId, Session>,
    store: Store,
    /// Flows of one request, by its number, while one of them may yet be refused.
    batches: FxHashMap<u64, Vec<FlowRef>>,
    next_batch: u64,
    tallies: BTreeMap<TallyId, Tally>,
    tunnels: Tunnels,
    questions: FxHashMap<u64, Question>,
    asked: FxHashMap<FlowKey, u64>,
    /// Questions that had timed out: a verdict for one installs and sends nothing.
    late: FxHashMap<u64, Late>,
    next_request: u64,
    /// Criteria by entry id.
    criteria_ids: FxHashMap<u32, Origin>,
    next_criterion: u32,
    criteria_changes: u64,
    neighbours: Neighbours,
    fragments: Fragments,
    errors_out: Bucket,
    errors_through: Bucket,
    /// Whose connection a packet for our own address belongs to: (own address, protocol, own port).
    injected: FxHashMap<(IpAddr, u8, u16), SessionId>,
    /// What managers carry on in others' names.
    legs: Legs,
    /// What clients have said to whom nothing was said.
    heard: Heard,
    counters: Counters,
    /// A plan that waits for its program, and one whose entries are on their way.
    coming: Option<Coming>,
    entering: Option<Entering>,
}

impl Agent {
    /// An agent named `name` that carries out `plan` on a target, which is not connected yet.
    #[must_use]
    pub fn new(name: &str, plan: Arc<Plan>, target: Target) -> Self {
        let services = plan.services.iter().map(Service::new).collect();
        let tallies = tallies::of_plan(&plan).into_iter().collect();
        Self {
            name: name.into(),
            plan_hash: crate::plan_hash(&plan),
            neighbours: Neighbours::new(&plan),
            plan,
            target,
            now: Duration::ZERO,
            link: Link::Down,
            out: Vec::new(),
            writer: Writer::default(),
            timers: Timers::default(),
            reads: Reads::default(),
            services,
            sessions: BTreeMap::new(),
            store: Store::default(),
            batches: FxHashMap::default(),
            next_batch: 0,
            tallies,
            tunnels: Tunnels::default(),
            questions: FxHashMap::default(),
            asked: FxHashMap::default(),
            late: FxHashMap::default(),
            next_request: 0,
            criteria_ids: FxHashMap::default(),
            next_criterion: criteria::FIRST_ID,
            criteria_changes: 0,
            fragments: Fragments::default(),
            errors_out: ERRORS_OUT,
            errors_through: ERRORS_THROUGH,
            injected: FxHashMap::default(),
            legs: Legs::default(),
            heard: Heard::default(),
            counters: Counters::default(),
            coming: None,
            entering: None,
        }
    }

    /// Takes in what has happened and says what is to be done, in order. `now` never goes back.
    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<Output> {
        self.now = self.now.max(now);
        match input {
            Input::SwitchUp(found) => self.switch_up(found),
            Input::Reconciled => self.reconciled(),
            Input::SwitchDown { reason } => self.switch_down(&reason),
            Input::PacketIn(_) if self.is_between_programs() => {
                self.counters.drop(Drop::NoSwitch, 1);
            }
            Input::PacketIn(packet) => self.packet_in(packet),
            Input::WriteDone { batch, results } => self.write_done(batch, results),
            Input::ReadDone { read, totals } => self.read_done(read, &totals),
            Input::IdleNotice(keys) => self.idle_notice(&keys),
            Input::SessionOpened(id) => {
                self.sessions.insert(id, Session::default());
            }
            Input::SessionClosed(id) => self.session_closed(id),
            Input::Message(id, message) => self.message(id, message),
            Input::NewPlan(plan) => self.new_plan(plan),
            Input::ProgramLoaded { found, kept } => self.program_loaded(found, kept),
            Input::ProgramRefused { reason } => self.program_refused(reason),
            Input::Refresh => self.refresh(),
            Input::Tick => {}
        }
        self.run_timers();
        if self.link != Link::Down && self.link != Link::Reconciling {
            if !self.writes_wait()
                && let Some((batch, updates)) = self.writer.start(self.target.batch)
            {
                self.out.push(Output::Write { batch, updates });
            }
            if !self.is_between_programs()
                && let Some((read, cells)) = self.reads.start(self.target.read_batch)
            {
                self.out.push(Output::Read { read, cells });
            }
        }
        self.load_when_quiet();
        std::mem::take(&mut self.out)
    }

    /// When [`Input::Tick`] is due, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Whether the switch forwards.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.link == Link::Ready
    }

    /// What it has counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut c = self.counters.clone();
        let flows = self.store.iter().map(|(_, f)| f);
        for flow in flows {
            c.hits += flow.directions().map(|d| d.totals(0).packets).sum::<u64>();
        }
        c.floor_hits = self.floor_packets();
        c
    }

    /// Its flows, in the order of their tuples. Counts are those of the last reading.
    #[must_use]
    pub fn flows(&self) -> Vec<FlowStatus> {
        let mut list: Vec<FlowStatus> = self
            .store
            .iter()
            .filter_map(|(_, flow)| {
                let state = match flow.phase {
                    Phase::Installing(_) => FlowState::Installing,
                    Phase::Live => match flow.progress {
                        Progress::HalfOpen => FlowState::HalfOpen,
                        Progress::Established => FlowState::Established,
                        Progress::Closed => FlowState::Closed,
                    },
                    Phase::Ending { .. } | Phase::Draining { .. } => FlowState::Ending,
                };
                let service = self.services.get(usize::from(flow.service))?;
                let age = self.now.saturating_sub(flow.created.into());
                let header = self.target.header();
                let hop = |action| self.hop_of_entry(action);
                FlowStatus::new(flow, &service.name, state, age, header, hop)
            })
            .collect();
        list.sort_by(|a, b| (&a.service, &a.flow).cmp(&(&b.service, &b.flow)));
        list
    }

    /// Where an entry dispatches to, and how.
    fn hop_of_entry(&self, action: FixedAction) -> Option<(IpAddr, Tunnel)> {
        match action {
            FixedAction::Dispatch {
                next_hop,
                tunnel: 0,
            } => Some((self.neighbours.address_of(next_hop)?, Tunnel::None)),
            FixedAction::Dispatch { tunnel, .. } => self.tunnels.of(tunnel),
            _ => None,
        }
    }

    // ------------------------------------------------------------ what the concerns share

    fn part_plan(&self, service: u8, part: Part) -> Option<&PartPlan> {
        let s = self.plan.services.get(usize::from(service))?;
        match part {
            Part::Forward => Some(&s.forward),
            Part::Reply => s.reply.as_ref(),
        }
    }

    fn service(&mut self, service: u8) -> Option<&mut Service> {
        self.services.get_mut(usize::from(service))
    }

    fn send(&mut self, session: SessionId, share: Share, body: AgentBody) {
        let epoch = self.epoch(share);
        if let Some(s) = self.services.get(usize::from(share.service)) {
            self.out.push(Output::Message(
                session,
                ToManager {
                    service: s.name.clone(),
                    share: share.number,
                    epoch,
                    body,
                },
            ));
        }
    }

    /// To whoever decides for the share now; says whether there is anybody.
    fn tell(&mut self, share: Share, body: AgentBody) -> bool {
        let holder = self.holder(share);
        if let Some(session) = holder {
            self.send(session, share, body);
        }
        holder.is_some()
    }

    fn denied(&mut self, reason: Reason) {
        *self.counters.denials.entry(reason).or_default() += 1;
    }

    fn deny(
        &mut self,
        session: SessionId,
        share: Share,
        subject: Subject,
        reason: Reason,
        text: String,
    ) {
        self.denied(reason);
        let denied = Denied {
            subject,
            reason,
            text,
        };
        self.send(session, share, AgentBody::Denied(denied));
    }

    fn packet_out(&mut self, packet: Packet) {
        if self.target.header() > 0 && packet.meta.kind == packet_out::RESUME {
            self.note_headers(&packet);
        }
        if self.link == Link::Ready || self.link == Link::Opening {
            self.out.push(Output::PacketOut(packet));
        } else {
            self.counters.drop(Drop::NoSwitch, 1);
        }
    }

    fn packet_in(&mut self, packet: Packet) {
        match packet.meta.kind {
            packet_in::INTEREST => self.diverted(packet),
            packet_in::NOTICE => self.noticed(&packet),
            packet_in::LOCAL => self.local(&packet),
            packet_in::ARP => self.arp(&packet),
            packet_in::NDP => self.ndp(&packet),
            packet_in::GLEAN | packet_in::UNRESOLVED => self.unresolved(packet),
            packet_in::FRAGMENT => self.fragment(packet),
            packet_in::ICMP_ERROR => self.icmp_error(&packet),
            packet_in::TTL => self.ttl_spent(&packet),
            packet_in::TOO_BIG => self.too_big(&packet),
            packet_in::UNDELIVERED => self.undelivered(&packet),
            _ => self.counters.drop(Drop::Malformed, 1),
        }
    }

    fn write_done(&mut self, batch: u64, results: Vec<Result<(), WriteError>>) {
        let Some(ops) = self.writer.finish(batch) else {
            return;
        };
        let mut results = results.into_iter();
        for op in ops {
            let mut result = results
                .next()
                .unwrap_or_else(|| Err(WriteError::Refused("no result".into())));
            if op.update.change == Change::Delete && result == Err(WriteError::NotFound) {
                result = Ok(());
            }
            // What is there already was left by an agent before this one: make it ours.
            if op.update.change == Change::Insert && result == Err(WriteError::AlreadyExists) {
                self.writer.push(Change::Modify, op.update.entry, op.token);
                continue;
            }
            if result.is_err() {
                self.counters.refused_updates += 1;
            }
            match op.token {
                Token::None => {
                    if let Err(error) = result {
                        self.out
                            .push(Output::Log(format!("the switch refused an entry: {error}")));
                    }
                }
                Token::Install(at, part) => self.installed(at, part, result),
                Token::Remove(at, part) => self.removed(at, part, &result),
                Token::Neighbour(id) => self.neighbour_installed(id, &result),
                Token::Criterion(owner, number) => self.criterion_written(&owner, number, result),
                Token::CriterionGone(id) => self.tally_entry_gone(id),
                Token::Tunnel(id) => self.tunnel_written(id, result),
                Token::Ready => self.opened(&result),
                Token::Plan => self.plan_written(result),
            }
        }
    }

    fn run_timers(&mut self) {
        while let Some((when, timer)) = self.timers.due(self.now) {
            match timer {
                Timer::Question(request) => self.question_due(request),
                Timer::Forget(request) => {
                    self.question_answered_late(request);
                }
                Timer::Flow(at, About::Idle) => self.look(at),
                Timer::Flow(at, About::Hard) => self.hard_due(at),
                Timer::Flow(at, About::Report) => self.report_due(at, when),
                Timer::Flow(at, About::Remove(part)) => self.remove_again(at, part),
                Timer::Flow(at, About::Drained) => self.drained(at),
                Timer::Criteria(service) => self.criteria_due(service),
                Timer::Tally(id) => self.tally_due(id, when),
                Timer::Neighbour(address) => self.neighbour_due(address),
                Timer::Fragments => self.fragments_due(),
                Timer::Legs => self.legs_due(),
            }
        }
        if self.timers.wants_sweep() {
            let store = &self.store;
            self.timers.sweep(|when, at, about| {
                store.get(at).is_some_and(|flow| match about {
                    About::Idle => flow.look == when,
                    About::Report => flow.report == when,
                    About::Hard => flow.terms.leases.hard_ms.is_some(),
                    About::Remove(_) | About::Drained => flow.phase != Phase::Live,
                })
            });
        }
    }

    fn insert(&mut self, entry: Entry, token: Token) {
        self.writer.push(Change::Insert, entry, token);
    }

    fn cell(service: u8, part: Part, slot: u32) -> Option<Cell> {
        (slot != 0).then_some(Cell {
            service,
            part,
            slot,
        })
    }
}

impl std::fmt::Display for WriteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AlreadyExists => f.write_str("it exists already"),
            Self::NotFound => f.write_str("it does not exist"),
            Self::Full => f.write_str("the table is full"),
            Self::Refused(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests;
