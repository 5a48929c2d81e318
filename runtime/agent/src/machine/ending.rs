//! A fixed affinity's way out: delete, let the pipeline drain, read the counters, free the slots.
//!
//! P4Runtime cannot read and delete at once; packets that met the entry just before it went are counted a
//! moment later, so the last report waits for them.

use std::time::Duration;

use super::shares::Share;
use super::store::{FlowRef, Phase, Progress};
use super::timers::Timer;
use super::watch::Purpose;
use super::writer::Token;
use super::{Agent, Link, Output, WriteError};
use crate::entry::{Change, FixedAction};
use crate::flow::{FlowKey, Part};
use crate::message::{Action, AgentBody, Ended, ReportCause, Tunnel, Which};

/// Before the second attempt at what the switch would not do; it doubles, up to 32 of them.
const RETRY: Duration = Duration::from_secs(1);
/// Attempts to read a flow's cells for the last time.
const LAST_READS: u8 = 5;

impl Agent {
    /// A lease is over: the idle one, or the hard one.
    pub(super) fn expire(&mut self, at: FlowRef, lease: ReportCause) {
        let live = self.store.get(at).is_some_and(|f| f.phase == Phase::Live);
        if live {
            self.counters.leases_expired += 1;
            self.end(at, lease, 0);
        }
    }

    /// Takes a flow's entries out. Its tuple is free for another decision at once.
    pub(super) fn end(&mut self, at: FlowRef, cause: ReportCause, request: u64) {
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        if matches!(flow.phase, Phase::Ending { .. } | Phase::Draining { .. }) {
            return;
        }
        let was_live = flow.phase == Phase::Live;
        let held = std::mem::take(&mut flow.held);
        let (service, progress) = (flow.service, flow.progress);
        let parts: Vec<Part> = [Part::Forward, Part::Reply]
            .into_iter()
            .filter(|p| flow.direction(*p).is_some())
            .collect();
        flow.phase = Phase::Ending {
            cause,
            request,
            pending: u8::try_from(parts.len()).unwrap_or(2),
        };
        self.store.unlink(at);
        if was_live && progress == Progress::HalfOpen {
            self.counters.half_open.sub(1);
        }
        self.floor_all(held, service);
        if self.link == Link::Down {
            return self.finish(at);
        }
        // Forward first: with the way out shut, nothing new can ask for the way back.
        for part in parts {
            self.delete_direction(at, part);
        }
    }

    pub(super) fn delete_direction(&mut self, at: FlowRef, part: Part) {
        if let Some(entry) = self.store.get(at).and_then(|f| f.entry(at, part)) {
            self.writer
                .push(Change::Delete, entry, Token::Remove(at, part));
        }
    }

    /// The switch has answered a deletion. What it would not delete is still there, and counts into its
    /// slot: it is tried again until it goes.
    pub(super) fn removed(&mut self, at: FlowRef, part: Part, result: &Result<(), WriteError>) {
        let now = self.now;
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        if let Err(error) = result {
            if flow.retries == 0 {
                let line = format!("the switch would not delete an entry: {error}");
                self.out.push(Output::Log(line));
            }
            let pause = RETRY * (1 << flow.retries.min(5));
            flow.retries = flow.retries.saturating_add(1);
            return self.timers.at(now + pause, Timer::Remove(at, part));
        }
        self.entry_gone(at);
    }

    /// Time to delete again what the switch would not delete.
    pub(super) fn remove_again(&mut self, at: FlowRef, part: Part) {
        let Some(flow) = self.store.get(at) else {
            return;
        };
        if !matches!(flow.phase, Phase::Ending { .. }) || self.link == Link::Down {
            return;
        }
        let successor = (flow.key(part))
            .and_then(|key| self.store.find(&key))
            .and_then(|at| self.store.get(at))
            .map(|f| f.phase);
        match successor {
            None => self.delete_direction(at, part),
            // Its successor's entry has overwritten it.
            Some(Phase::Live) => self.entry_gone(at),
            Some(_) => self.timers.at(self.now + RETRY, Timer::Remove(at, part)),
        }
    }

    /// One of its entries is gone.
    fn entry_gone(&mut self, at: FlowRef) {
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        let Phase::Ending {
            cause,
            request,
            pending,
        } = flow.phase
        else {
            return;
        };
        if pending > 1 {
            flow.phase = Phase::Ending {
                cause,
                request,
                pending: pending - 1,
            };
            return;
        }
        flow.phase = Phase::Draining { cause, request };
        flow.retries = 0;
        self.timers
            .at(self.now + self.target.drain, Timer::Drained(at));
    }

    pub(super) fn drained(&mut self, at: FlowRef) {
        let has_cells = self.store.get(at).is_some_and(|f| {
            [&f.forward, &f.reply]
                .into_iter()
                .flatten()
                .any(|d| d.slot != 0)
        });
        if has_cells && self.link != Link::Down {
            self.read_cells(at, Purpose::Last);
        } else {
            self.finish(at);
        }
    }

    /// A flow's cells have been read for the last time, or could not be.
    pub(super) fn last_read(&mut self, at: FlowRef, complete: bool) {
        let now = self.now;
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        if complete || flow.retries >= LAST_READS {
            if !complete {
                self.hold_back_slots(at);
            }
            return self.finish(at);
        }
        flow.retries += 1;
        self.timers.at(now + RETRY, Timer::Drained(at));
    }

    /// Nobody knows what its cells hold: they are not given out before the switch is read anew.
    fn hold_back_slots(&mut self, at: FlowRef) {
        for part in [Part::Forward, Part::Reply] {
            let Some(flow) = self.store.get_mut(at) else {
                return;
            };
            let service = flow.service;
            let Some(d) = flow.direction_mut(part) else {
                continue;
            };
            let slot = std::mem::take(&mut d.slot);
            if let Some(s) = self.service(service) {
                s.slots(part).hold_back(slot);
            }
        }
    }

    /// The last words about a flow.
    pub(super) fn finish(&mut self, at: FlowRef) {
        let Some(Phase::Ending { cause, request, .. } | Phase::Draining { cause, request }) =
            self.store.get(at).map(|f| f.phase)
        else {
            return;
        };
        let reported = (self.store.get(at)).is_some_and(|f| f.statistics.count && !f.refused);
        if reported {
            self.report(at, cause, true);
        }
        let Some(flow) = self.store.remove(at) else {
            return;
        };
        self.release(&flow);
        for d in [&flow.forward, &flow.reply].into_iter().flatten() {
            self.counters.hits += d.totals.packets;
        }
        if flow.refused {
            return;
        }
        let ended = Ended {
            flow: flow.number,
            forward: flow.forward.as_ref().map(|d| d.tuple),
            reply: flow.reply.as_ref().map(|d| d.tuple),
            cookie: flow.cookie.clone(),
            request,
        };
        let body = match cause {
            ReportCause::Expired | ReportCause::HardLease => AgentBody::Expired(ended),
            _ => AgentBody::Deleted(ended),
        };
        self.tell(flow.share(), body);
    }

    /// A manager's wish.
    pub(super) fn delete(&mut self, share: Share, request: u64, which: Which) {
        let service = share.service;
        let found: Vec<FlowRef> = match which {
            Which::Match { part, tuple, kind } => self
                .store
                .find(&FlowKey {
                    service,
                    part,
                    tuple,
                    kind,
                })
                .into_iter()
                .collect(),
            Which::Flow(number) => (self.store.iter())
                .filter(|(_, f)| f.service == service && f.number == number)
                .map(|(at, _)| at)
                .collect(),
            Which::All => (self.store.iter())
                .filter(|(_, f)| f.service == service)
                .map(|(at, _)| at)
                .collect(),
        };
        if found.is_empty() {
            // Gone already: say so, the first answer may have been lost.
            let ended = Ended {
                flow: if let Which::Flow(n) = which { n } else { 0 },
                forward: None,
                reply: None,
                cookie: bytes::Bytes::new(),
                request,
            };
            self.tell(share, AgentBody::Deleted(ended));
        }
        for at in found {
            self.end(at, ReportCause::Deleted, request);
        }
    }

    /// An entry's action in the protocol's words.
    pub(super) fn actions_of(&self, action: FixedAction) -> Vec<Action> {
        match action {
            FixedAction::Forward => vec![Action::Forward],
            FixedAction::Discard => vec![Action::Drop],
            FixedAction::Translate(to) => vec![Action::Translate(to)],
            FixedAction::Dispatch { next_hop } => (self.neighbours.address_of(next_hop))
                .map(|address| Action::Dispatch {
                    next_hop: address,
                    tunnel: Tunnel::None,
                })
                .into_iter()
                .collect(),
        }
    }
}
