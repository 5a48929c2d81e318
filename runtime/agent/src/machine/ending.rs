//! A fixed affinity's way out: delete, let the pipeline drain, read the counters, free the slots.
//!
//! P4Runtime cannot read and delete at once; packets that met the entry just before it went are counted a
//! moment later, so the last report waits for them.

use std::time::Duration;

use super::flow_record::Phase;
use super::shares::Share;
use super::store::FlowRef;
use super::timers::{About, Timer};
use super::watch::Purpose;
use super::writer::Token;
use super::{Agent, Link, Output, WriteError};
use crate::counters::Drop;
use crate::entry::{Change, FixedAction, Packet};
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

    /// A hard lease may be over, unless it has been made longer since.
    pub(super) fn hard_due(&mut self, at: FlowRef) {
        let over = (self.store.get(at)).is_some_and(|f| {
            let hard = f.terms.leases.hard_ms.map(Duration::from_millis);
            hard.is_some_and(|hard| self.now >= Duration::from(f.created) + hard)
        });
        if over {
            self.expire(at, ReportCause::HardLease);
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
        let held = flow.take_held();
        let service = flow.service;
        let parts: Vec<Part> = flow.parts().collect();
        flow.phase = Phase::Ending {
            cause,
            pending: u8::try_from(parts.len()).unwrap_or(2),
        };
        flow.transit_mut().request = request;
        self.leave_half_open(at);
        self.store.unlink(at);
        self.floor_all(held, service);
        if self.link == Link::Down {
            return self.finish(at);
        }
        // Forward first: with the way out shut, nothing new can ask for the way back.
        for part in parts {
            self.delete_direction(at, part);
        }
    }

    /// A packet that opens another connection waits until this one's entries are gone. A manager that answers
    /// it would else see its own packets, or what answers them, carried away by these.
    pub(super) fn ask_when_gone(&mut self, at: FlowRef, packet: Packet) {
        let Some(service) = self.store.get(at).map(|f| f.service) else {
            return self.counters.drop(Drop::NoSwitch, 1);
        };
        if self.reserve(&packet, service, None)
            && let Some(flow) = self.store.get_mut(at)
        {
            flow.transit_mut().held.push(packet);
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
            let (held, service) = (flow.take_held(), flow.service);
            let tried = &mut flow.transit_mut().retries;
            let pause = RETRY * (1 << (*tried).min(5));
            *tried = tried.saturating_add(1);
            if *tried == 1 {
                let line = format!("the switch would not delete an entry: {error}");
                self.out.push(Output::Log(line));
            }
            let timer = Timer::Flow(at, About::Remove(part));
            self.timers.at(now + pause, timer);
            return self.floor_all(held, service);
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
            Some(_) => {
                let timer = Timer::Flow(at, About::Remove(part));
                self.timers.at(self.now + RETRY, timer);
            }
        }
    }

    /// One of its entries is gone.
    fn entry_gone(&mut self, at: FlowRef) {
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        let Phase::Ending { cause, pending } = flow.phase else {
            return;
        };
        if pending > 1 {
            flow.phase = Phase::Ending {
                cause,
                pending: pending - 1,
            };
            return;
        }
        flow.phase = Phase::Draining { cause };
        flow.transit_mut().retries = 0;
        let (held, service) = (flow.take_held(), flow.service);
        let due = self.now + self.target.drain;
        self.timers.at(due, Timer::Flow(at, About::Drained));
        self.unreserve(&held, service);
        for packet in held {
            self.diverted(packet);
        }
    }

    pub(super) fn drained(&mut self, at: FlowRef) {
        let has_cells = (self.store.get(at)).is_some_and(|f| f.directions().any(|d| d.slot != 0));
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
        let tried = &mut flow.transit_mut().retries;
        if complete || *tried >= LAST_READS {
            if !complete {
                self.hold_back_slots(at);
            }
            return self.finish(at);
        }
        *tried += 1;
        self.timers.at(now + RETRY, Timer::Flow(at, About::Drained));
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
        let Some(flow) = self.store.get(at) else {
            return;
        };
        let (Phase::Ending { cause, .. } | Phase::Draining { cause }) = flow.phase else {
            return;
        };
        let request = flow.transit.as_ref().map_or(0, |t| t.request);
        let reported = flow.terms.statistics.count && !flow.is_refused();
        if reported {
            self.report(at, cause, true);
        }
        let Some(flow) = self.store.remove(at) else {
            return;
        };
        self.release(&flow);
        for d in flow.directions() {
            self.counters.hits += d.totals(0).packets;
        }
        if flow.is_refused() {
            return;
        }
        let ended = Ended {
            flow: flow.number,
            forward: flow.forward.as_ref().map(|d| d.tuple),
            reply: flow.reply.as_ref().map(|d| d.tuple),
            cookie: flow.cookie.bytes(),
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
            // Managers of one service number their flows each for itself.
            Which::Flow(number) => (self.store.numbered(service, number).into_iter())
                .filter(|at| (self.store.get(*at)).is_some_and(|f| f.share() == share))
                .collect(),
            Which::All => (self.store.iter())
                .filter(|(_, f)| f.share() == share)
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
            FixedAction::Adjust(by) => vec![Action::Adjust(by)],
            FixedAction::Dispatch { next_hop, tunnel } => {
                let (to, tunnel) = match self.tunnels.of(tunnel) {
                    Some((server, tunnel)) => (Some(server), tunnel),
                    None => (self.neighbours.address_of(next_hop), Tunnel::None),
                };
                (to.map(|next_hop| Action::Dispatch { next_hop, tunnel }))
                    .into_iter()
                    .collect()
            }
        }
    }
}
