//! A fixed affinity's life: whether it is busy, answered or closed, and what its counters say.
//!
//! The agent sees no packet of an established flow. It reads the counters of both directions, twice a
//! lease, and what has moved has been busy; so a flow ends between one lease and one and a half after its
//! last packet, and only when both directions rest. The switch's idle notices only bring the next look
//! forward: bmv2 repeats them, and misses some when many entries are idle.

use std::collections::VecDeque;
use std::time::Duration;

use super::flow_record::{Direction, Moment, Phase, Progress, minus};
use super::shares::Share;
use super::store::FlowRef;
use super::tallies::TallyId;
use super::timers::{About, Timer, on_grid};
use super::{Agent, Link, Output};
use crate::entry::{Cell, FixedAction};
use crate::flow::{FlowKey, Part};
use crate::message::{
    AgentBody, DirectionReport, FixedAffinity, InstalledAffinity, Report, ReportCause, Totals,
};
use crate::packet::proto;

/// Before cells that could not be read are tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Looks are rounded up to this part of a lease, so that many flows are read at once.
const LOOK_GROUPS: u32 = 64;
/// But not by more than this.
const LOOK_GRID: Duration = Duration::from_millis(250);

/// Why cells are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Look,
    Report(ReportCause),
    Last,
    /// A criterion's report.
    Tally,
    Refresh,
}

/// Whose cells are read.
#[derive(Debug, Clone, Copy)]
enum Whose {
    /// A flow's, in these parts.
    Flow {
        at: FlowRef,
        forward: Option<Cell>,
        reply: Option<Cell>,
    },
    Tally(TallyId, Cell),
}

#[derive(Debug)]
struct Item {
    whose: Whose,
    purpose: Purpose,
    /// The last of a refresh.
    refreshed: bool,
}

impl Item {
    fn cells(&self) -> impl Iterator<Item = Cell> {
        let (a, b) = match self.whose {
            Whose::Flow { forward, reply, .. } => (forward, reply),
            Whose::Tally(_, cell) => (Some(cell), None),
        };
        a.into_iter().chain(b)
    }
}

/// Reads of counter cells, gathered like writes.
#[derive(Debug, Default)]
pub(super) struct Reads {
    queue: VecDeque<Item>,
    under_way: Option<(u64, Vec<Item>)>,
    next: u64,
}

impl Reads {
    pub fn start(&mut self, limit: usize) -> Option<(u64, Vec<Cell>)> {
        if self.under_way.is_some() || self.queue.is_empty() {
            return None;
        }
        let most = limit.max(2).min(2 * self.queue.len());
        let mut cells = Vec::with_capacity(most);
        let mut items = Vec::with_capacity(most);
        while cells.len() + 2 <= limit.max(2) {
            let Some(item) = self.queue.pop_front() else {
                break;
            };
            cells.extend(item.cells());
            items.push(item);
        }
        if self.queue.is_empty() {
            self.queue.shrink_to(limit);
        }
        self.next += 1;
        self.under_way = Some((self.next, items));
        Some((self.next, cells))
    }

    /// Whether no read is under way or waits.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_none() && self.queue.is_empty()
    }

    /// Forgets everything: the switch is gone. Says how many refreshes were under way.
    pub fn clear(&mut self) -> usize {
        let under_way = self
            .under_way
            .take()
            .map_or_else(Vec::new, |(_, items)| items);
        let all = under_way.into_iter().chain(self.queue.drain(..));
        all.filter(|item| item.refreshed).count()
    }
}

impl Agent {
    pub(super) fn read_cells(&mut self, at: FlowRef, purpose: Purpose) {
        let Some(flow) = self.store.get(at) else {
            return;
        };
        let cell = |part| {
            flow.direction(part)
                .and_then(|d| Self::cell(flow.service, part, d.slot))
        };
        let whose = Whose::Flow {
            at,
            forward: cell(Part::Forward),
            reply: cell(Part::Reply),
        };
        self.read(whose, purpose);
    }

    pub(super) fn read_tally(&mut self, id: TallyId, purpose: Purpose) {
        if let Some(cell) = self.tally_cell(id) {
            self.read(Whose::Tally(id, cell), purpose);
        }
    }

    fn read(&mut self, whose: Whose, purpose: Purpose) {
        self.reads.queue.push_back(Item {
            whose,
            purpose,
            refreshed: false,
        });
    }

    pub(super) fn read_done(&mut self, read: u64, totals: &[Option<Totals>]) {
        if self
            .reads
            .under_way
            .as_ref()
            .is_none_or(|(r, _)| *r != read)
        {
            return;
        }
        let Some((_, items)) = self.reads.under_way.take() else {
            return;
        };
        let mut totals = totals.iter().copied();
        for item in items {
            match item.whose {
                Whose::Flow { at, forward, reply } => {
                    let mut complete = true;
                    for (part, cell) in [(Part::Forward, forward), (Part::Reply, reply)] {
                        if cell.is_none() {
                            continue;
                        }
                        match totals.next().flatten() {
                            Some(holds) => self.counted(at, part, holds),
                            None => complete = false,
                        }
                    }
                    self.flow_read(at, item.purpose, complete);
                }
                Whose::Tally(id, _) => {
                    let holds = totals.next().flatten();
                    self.tally_read(id, holds, item.purpose == Purpose::Tally);
                }
            }
            if item.refreshed {
                self.out.push(Output::Refreshed);
            }
        }
    }

    /// A direction's cell holds that much now.
    fn counted(&mut self, at: FlowRef, part: Part, holds: Totals) {
        let header = self.target.header();
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        let criterion = flow.criterion;
        let Some(d) = flow.direction_mut(part) else {
            return;
        };
        let before = d.totals(header);
        d.holds = holds;
        let more = minus(d.totals(header), before);
        self.tally_fixed(criterion, more);
    }

    fn flow_read(&mut self, at: FlowRef, purpose: Purpose, complete: bool) {
        match purpose {
            Purpose::Look if complete => self.looked(at),
            Purpose::Look => self.look_failed(at),
            Purpose::Report(ReportCause::Closed) => self.closed_at(at),
            Purpose::Report(cause) => self.report(at, cause, false),
            Purpose::Last => self.last_read(at, complete),
            Purpose::Refresh | Purpose::Tally => {}
        }
    }

    /// Plans the next look at a flow.
    pub(super) fn look_later(&mut self, at: FlowRef) {
        let now = self.now;
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        let Some(lease) = flow.lease() else { return };
        let look = (now + lease / 2)
            .min(flow.resting_since() + lease)
            .max(now + Duration::from_millis(1));
        let look = on_grid(look, (lease / LOOK_GROUPS).min(LOOK_GRID));
        flow.look = look.into();
        self.timers.at(look, Timer::Flow(at, About::Idle));
    }

    pub(super) fn look(&mut self, at: FlowRef) {
        let now = self.now;
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        if flow.phase != Phase::Live || flow.looking || Moment::from(now) < flow.look {
            return;
        }
        flow.looking = true;
        self.read_cells(at, Purpose::Look);
    }

    /// Its cells could not be read: what nobody has seen resting does not end for it.
    fn look_failed(&mut self, at: FlowRef) {
        let look = self.now + LOOK_AGAIN;
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        flow.looking = false;
        flow.look = look.into();
        self.timers.at(look, Timer::Flow(at, About::Idle));
    }

    fn looked(&mut self, at: FlowRef) {
        let now = self.now;
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        flow.looking = false;
        if flow.phase != Phase::Live {
            return;
        }
        let mut moved = false;
        for d in flow.directions_mut() {
            moved |= d.has_moved();
        }
        if moved {
            flow.active = now.into();
        }
        if flow.has_answer() {
            self.answered_flow(at);
        }
        let idle = (self.store.get(at)).is_some_and(|f| {
            f.lease()
                .is_some_and(|lease| now >= f.resting_since() + lease)
        });
        if idle {
            self.expire(at, ReportCause::Expired);
        } else {
            self.look_later(at);
        }
    }

    pub(super) fn idle_notice(&mut self, keys: &[FlowKey]) {
        let now = self.now;
        for key in keys {
            let Some(at) = self.store.find(key) else {
                continue;
            };
            // A repeated notice must not make a read of its own every time.
            let due = self.store.get(at).is_some_and(|f| {
                f.lease().is_some_and(|lease| {
                    let look = Duration::from(f.look);
                    look > now && look - now < lease * 3 / 8
                })
            });
            if due {
                if let Some(flow) = self.store.get_mut(at) {
                    flow.look = now.into();
                }
                self.look(at);
            }
        }
    }

    /// The other side of a flow has answered.
    pub(super) fn answered_flow(&mut self, at: FlowRef) {
        self.leave_half_open(at);
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        if flow.progress != Progress::HalfOpen {
            return;
        }
        flow.progress = Progress::Established;
        let part = flow.opener.other();
        let tcp = (flow.direction(part)).is_some_and(|d| d.tuple.proto == proto::TCP);
        if flow.terms.watch_answer && !tcp {
            // Every packet of it is told of until now.
            self.modify_direction(at, part);
        }
    }

    /// Both FINs or a RST were seen.
    pub(super) fn closed(&mut self, at: FlowRef, reset: bool) {
        let now = self.now;
        self.leave_half_open(at);
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        flow.progress = Progress::Closed;
        flow.reset = reset;
        flow.active = now.into();
        for part in flow.parts() {
            self.modify_direction(at, part);
        }
        self.look_later(at);
        self.read_cells(at, Purpose::Report(ReportCause::Closed));
    }

    /// What a flow had counted when it closed: more than that is life.
    fn closed_at(&mut self, at: FlowRef) {
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        for d in flow.directions_mut() {
            d.look();
        }
        if flow.terms.statistics.on_close {
            self.report(at, ReportCause::Closed, false);
        }
    }

    pub(super) fn report_due(&mut self, at: FlowRef, due: Duration) {
        let now = self.now;
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        let Some(every) = flow.terms.statistics.every_ms else {
            return;
        };
        if flow.phase != Phase::Live || flow.report != Moment::from(due) {
            return;
        }
        let every = Duration::from_millis(every.max(1));
        let next = latest_before(due, every, now) + every;
        flow.report = next.into();
        self.timers.at(next, Timer::Flow(at, About::Report));
        if self.link != Link::Down {
            self.read_cells(at, Purpose::Report(ReportCause::Period));
        }
    }

    pub(super) fn report(&mut self, at: FlowRef, cause: ReportCause, last: bool) {
        let (now, header) = (self.now, self.target.header());
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        flow.report_sequence += 1;
        let flags = flow.terms.statistics.flags;
        let flow = &*flow;
        let direction = |part| {
            let d: &Direction = flow.direction(part)?;
            Some(DirectionReport {
                tuple: d.tuple,
                translated: match flow.action(part) {
                    Some(FixedAction::Translate(to)) => Some(to),
                    _ => None,
                },
                totals: d.totals(header),
                tcp_flags: if flags { d.tcp_flags } else { 0 },
            })
        };
        let report = Report {
            flow: flow.number,
            forward: direction(Part::Forward),
            reply: direction(Part::Reply),
            cookie: flow.cookie.bytes(),
            sequence: flow.report_sequence.into(),
            cause,
            last,
            age_ms: millis(now.saturating_sub(flow.created.into())),
            idle_ms: millis(now.saturating_sub(flow.active.into())),
        };
        let share = flow.share();
        self.tell(share, AgentBody::Report(Box::new(report)));
    }

    pub(super) fn refresh(&mut self) {
        if self.link == Link::Down {
            return self.out.push(Output::Refreshed);
        }
        let mut any = false;
        for at in self.store.refs() {
            let counted = (self.store.get(at))
                .filter(|f| f.phase == Phase::Live)
                .is_some_and(|f| f.directions().any(|d| d.slot != 0));
            if counted {
                self.read_cells(at, Purpose::Refresh);
                any = true;
            }
        }
        for id in self.tally_ids() {
            self.read_tally(id, Purpose::Refresh);
            any = true;
        }
        match self.reads.queue.back_mut() {
            Some(item) if any => item.refreshed = true,
            _ => self.out.push(Output::Refreshed),
        }
    }

    /// Answers a manager that takes over: all affinities of its service, in pieces.
    pub(super) fn list(&mut self, id: super::SessionId, share: Share, request: u64) {
        const PIECE: usize = 256;
        let mut list = Vec::new();
        for (_, flow) in self.store.iter() {
            if flow.share() != share
                || matches!(flow.phase, Phase::Ending { .. } | Phase::Draining { .. })
            {
                continue;
            }
            for part in [Part::Reply, Part::Forward] {
                let (Some(d), Some(action)) = (flow.direction(part), flow.action(part)) else {
                    continue;
                };
                list.push(InstalledAffinity {
                    affinity: FixedAffinity {
                        part,
                        tuple: d.tuple,
                        kind: d.kind,
                        actions: self.actions_of(action),
                        flow: flow.number,
                        partner: flow.direction(part.other()).map(|p| p.tuple),
                        cookie: flow.cookie.bytes(),
                        leases: flow.terms.leases,
                        interest: d.interest,
                        track_close: flow.terms.track_close,
                        statistics: flow.terms.statistics,
                    },
                    share: flow.share,
                    age_ms: millis(self.now.saturating_sub(flow.created.into())),
                    totals: d.totals(self.target.header()),
                    established: flow.progress == Progress::Established,
                    closed: flow.progress == Progress::Closed,
                });
            }
        }
        let mut pieces = list.chunks(PIECE).peekable();
        let mut out = Vec::new();
        while let Some(piece) = pieces.next() {
            out.push((piece.to_vec(), pieces.peek().is_none()));
        }
        if out.is_empty() {
            out.push((Vec::new(), true));
        }
        for ((list, last), piece) in out.into_iter().zip(0..) {
            self.send(
                id,
                share,
                AgentBody::Affinities {
                    request,
                    piece,
                    list,
                    last,
                },
            );
        }
    }
}

pub(super) fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// The last of the times `due`, `due + every`, ... that has come: those between were missed.
pub(super) fn latest_before(due: Duration, every: Duration, now: Duration) -> Duration {
    let missed = now.saturating_sub(due).as_nanos() / every.as_nanos().max(1);
    let missed = u32::try_from(missed).unwrap_or(u32::MAX);
    due.saturating_add(every.saturating_mul(missed))
}
