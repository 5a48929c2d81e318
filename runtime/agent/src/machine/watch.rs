//! A fixed affinity's life: whether it is busy, answered or closed, and what its counters say.
//!
//! The agent sees no packet of an established flow. It reads the counters of both directions, twice a
//! lease, and what has moved has been busy; so a flow ends between one lease and one and a half after its
//! last packet, and only when both directions rest. The switch's idle notices only bring the next look
//! forward: bmv2 repeats them, and misses some when many entries are idle.

use std::collections::VecDeque;
use std::time::Duration;

use super::shares::Share;
use super::store::{FlowRef, Phase, Progress};
use super::timers::Timer;
use super::{Agent, Link, Output, totals_of};
use crate::entry::{Cell, FixedAction};
use crate::flow::{FlowKey, Part};
use crate::message::{
    AgentBody, DirectionReport, FixedAffinity, InstalledAffinity, Report, ReportCause, Totals,
};

/// Before cells that could not be read are tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Why a flow's cells are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Look,
    Report(ReportCause),
    Last,
    Refresh,
}

#[derive(Debug)]
struct Item {
    at: FlowRef,
    purpose: Purpose,
    /// The last of a refresh.
    refreshed: bool,
    forward: Option<Cell>,
    reply: Option<Cell>,
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
        let mut cells = Vec::new();
        let mut items = Vec::new();
        while cells.len() + 2 <= limit.max(2) {
            let Some(item) = self.queue.pop_front() else {
                break;
            };
            cells.extend(item.forward);
            cells.extend(item.reply);
            items.push(item);
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
        self.reads.queue.push_back(Item {
            at,
            purpose,
            refreshed: false,
            forward: cell(Part::Forward),
            reply: cell(Part::Reply),
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
            let mut complete = true;
            for (part, cell) in [(Part::Forward, item.forward), (Part::Reply, item.reply)] {
                if cell.is_none() {
                    continue;
                }
                let Some(Some(holds)) = totals.next() else {
                    complete = false;
                    continue;
                };
                if let Some(d) = (self.store.get_mut(item.at)).and_then(|f| f.direction_mut(part)) {
                    d.holds = holds;
                    d.totals = totals_of(&self.target, d);
                }
            }
            match item.purpose {
                Purpose::Look if complete => self.looked(item.at),
                Purpose::Look => self.look_failed(item.at),
                Purpose::Report(ReportCause::Closed) => self.closed_at(item.at),
                Purpose::Report(cause) => self.report(item.at, cause, false),
                Purpose::Last => self.last_read(item.at, complete),
                Purpose::Refresh => {}
            }
            if item.refreshed {
                self.out.push(Output::Refreshed);
            }
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
        flow.look = look;
        self.timers.at(look, Timer::Idle(at));
    }

    pub(super) fn look(&mut self, at: FlowRef) {
        let now = self.now;
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        if flow.phase != Phase::Live || flow.looking || now < flow.look {
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
        flow.look = look;
        self.timers.at(look, Timer::Idle(at));
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
        for d in [&mut flow.forward, &mut flow.reply].into_iter().flatten() {
            moved |= d.totals.packets > d.watched;
            d.watched = d.watched.max(d.totals.packets);
        }
        if moved {
            flow.active = now;
        }
        let answered = flow.reply.as_ref().is_some_and(|d| d.totals.packets > 0);
        if flow.progress == Progress::HalfOpen && answered {
            flow.progress = Progress::Established;
            self.counters.half_open.sub(1);
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
                f.lease()
                    .is_some_and(|lease| f.look > now && f.look - now < lease * 3 / 8)
            });
            if due {
                if let Some(flow) = self.store.get_mut(at) {
                    flow.look = now;
                }
                self.look(at);
            }
        }
    }

    /// Both FINs or a RST were seen.
    pub(super) fn closed(&mut self, at: FlowRef) {
        let now = self.now;
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        let half_open = flow.progress == Progress::HalfOpen;
        flow.progress = Progress::Closed;
        flow.active = now;
        let parts: Vec<Part> = [Part::Forward, Part::Reply]
            .into_iter()
            .filter(|p| flow.direction(*p).is_some())
            .collect();
        if half_open {
            self.counters.half_open.sub(1);
        }
        for part in parts {
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
        for d in [&mut flow.forward, &mut flow.reply].into_iter().flatten() {
            d.watched = d.totals.packets;
        }
        if flow.statistics.on_close {
            self.report(at, ReportCause::Closed, false);
        }
    }

    pub(super) fn report_due(&mut self, at: FlowRef) {
        let Some(flow) = self.store.get(at) else {
            return;
        };
        let Some(every) = flow.statistics.every_ms else {
            return;
        };
        if flow.phase != Phase::Live {
            return;
        }
        self.timers.at(
            self.now + Duration::from_millis(every.max(1)),
            Timer::Report(at),
        );
        self.read_cells(at, Purpose::Report(ReportCause::Period));
    }

    pub(super) fn report(&mut self, at: FlowRef, cause: ReportCause, last: bool) {
        let now = self.now;
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        flow.report_sequence += 1;
        let direction = |d: &super::store::Direction| DirectionReport {
            tuple: d.tuple,
            translated: match d.action {
                FixedAction::Translate(to) => Some(to),
                _ => None,
            },
            totals: d.totals,
            tcp_flags: 0,
        };
        let report = Report {
            flow: flow.number,
            forward: flow.forward.as_ref().map(direction),
            reply: flow.reply.as_ref().map(direction),
            cookie: flow.cookie.clone(),
            sequence: flow.report_sequence,
            cause,
            last,
            age_ms: millis(now.saturating_sub(flow.created)),
            idle_ms: millis(now.saturating_sub(flow.active)),
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
                .is_some_and(|f| {
                    [&f.forward, &f.reply]
                        .into_iter()
                        .flatten()
                        .any(|d| d.slot != 0)
                });
            if counted {
                self.read_cells(at, Purpose::Refresh);
                any = true;
            }
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
            if flow.service != share.service
                || matches!(flow.phase, Phase::Ending { .. } | Phase::Draining { .. })
            {
                continue;
            }
            for part in [Part::Reply, Part::Forward] {
                let Some(d) = flow.direction(part) else {
                    continue;
                };
                list.push(InstalledAffinity {
                    affinity: FixedAffinity {
                        part,
                        tuple: d.tuple,
                        kind: d.kind,
                        actions: self.actions_of(d.action),
                        flow: flow.number,
                        partner: flow.direction(part.other()).map(|p| p.tuple),
                        cookie: flow.cookie.clone(),
                        leases: flow.leases,
                        interest: d.interest,
                        track_close: flow.track_close,
                        statistics: flow.statistics,
                    },
                    share: flow.share,
                    age_ms: millis(self.now.saturating_sub(flow.created)),
                    totals: d.totals,
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
