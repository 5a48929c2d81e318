//! How much may wait for a service's managers: held packets, and questions that are late.
//!
//! Bounds are a service's own, in packets and bytes, so that one that is flooded takes nothing from the
//! others. A question whose packet has been let go is still on its way to its manager, and keeps its place
//! until it is answered: else a manager that cannot follow would get a queue without an end. A place is one in
//! the queue of whoever was asked, so that one that hangs takes none from its backup. Does not know what the
//! questions are about, but for packets that open a connection.

use std::collections::BTreeMap;
use std::time::Duration;

use signalbox_lower::plan::Fallback;

use super::timers::Timer;
use super::{Agent, SessionId};
use crate::counters::Drop;
use crate::entry::Packet;

/// How long a question that had timed out is remembered for its late verdict.
const LATE: Duration = Duration::from_secs(10);

/// Where every packet is a question of its own, those about SYNs get this part of a service's room. Anybody
/// can send SYNs, and what waits behind them in a manager's queue must be answered before it is let go.
const OPENINGS: u32 = 8;

/// What of a service waits.
#[derive(Debug, Default)]
pub(super) struct Room {
    packets: u32,
    bytes: u64,
    queues: BTreeMap<SessionId, Queue>,
}

/// What waits for the answers of one session.
#[derive(Debug, Default)]
struct Queue {
    /// Questions that are late.
    late: u32,
    /// Of all questions that are not answered, those about SYNs that have only a part of the room.
    openings: u32,
}

/// A question whose packet has been let go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Late {
    pub service: u8,
    /// Whom it was asked.
    pub session: SessionId,
    /// It has a place among the openings.
    pub opens: bool,
}

impl Agent {
    /// Takes room for a held packet, and if it is a question of its own a place among those that its session
    /// is asked. Without room the packet takes the floor: `false`.
    pub(super) fn reserve(
        &mut self,
        packet: &Packet,
        service: u8,
        asked: Option<(SessionId, bool)>,
    ) -> bool {
        if self.take_room(packet, service, asked) {
            return true;
        }
        match self.fallback(service) {
            Fallback::Drop => self.let_go(packet, Drop::HoldFull),
            Fallback::Route => self.floor(packet.clone(), service),
        }
        false
    }

    /// The same, and a packet for which there is none stays with the caller.
    pub(super) fn take_room(
        &mut self,
        packet: &Packet,
        service: u8,
        asked: Option<(SessionId, bool)>,
    ) -> bool {
        let Some(limits) = (self.plan.services.get(usize::from(service))).map(|s| &s.limits) else {
            return false;
        };
        let (packets, bytes) = (limits.hold_packets, u64::from(limits.hold_bytes));
        let size = packet.bytes.len() as u64;
        if let Some(room) = self.service(service).map(|s| &mut s.room) {
            let queue = asked.and_then(|(session, _)| room.queues.get(&session));
            let (late, openings) = queue.map_or((0, 0), |queue| (queue.late, queue.openings));
            let opens = asked.is_some_and(|(_, opens)| opens);
            if room.packets + late < packets
                && room.bytes + size <= bytes
                && (!opens || openings < packets / OPENINGS)
            {
                room.packets += 1;
                room.bytes += size;
                if let Some((session, true)) = asked {
                    room.queues.entry(session).or_default().openings += 1;
                }
                self.counters.held.add(1);
                return true;
            }
        }
        false
    }

    /// Gives the room of held packets back.
    pub(super) fn unreserve(&mut self, held: &[Packet], service: u8) {
        let bytes: u64 = held.iter().map(|p| p.bytes.len() as u64).sum();
        if let Some(state) = self.service(service) {
            let packets = u32::try_from(held.len()).unwrap_or(u32::MAX);
            state.room.packets = state.room.packets.saturating_sub(packets);
            state.room.bytes = state.room.bytes.saturating_sub(bytes);
        }
        self.counters.held.sub(held.len() as u64);
    }

    /// A question has an answer, or nobody is left to give one.
    pub(super) fn leave_opening(&mut self, late: Late) {
        let queue = (self.service(late.service))
            .and_then(|state| state.room.queues.get_mut(&late.session))
            .filter(|_| late.opens);
        if let Some(queue) = queue {
            queue.openings = queue.openings.saturating_sub(1);
        }
    }

    /// A question's packet has been let go; its answer may yet come.
    pub(super) fn question_late(&mut self, request: u64, late: Late) {
        if !self.sessions.contains_key(&late.session) {
            return self.leave_opening(late);
        }
        if let Some(state) = self.service(late.service) {
            state.room.queues.entry(late.session).or_default().late += 1;
        }
        self.late.insert(request, late);
        self.timers.at(self.now + LATE, Timer::Forget(request));
    }

    /// A late question has its answer, or is forgotten; says whether there was one.
    pub(super) fn question_answered_late(&mut self, request: u64) -> bool {
        let Some(late) = self.late.remove(&request) else {
            return false;
        };
        let queue =
            (self.service(late.service)).and_then(|state| state.room.queues.get_mut(&late.session));
        if let Some(queue) = queue {
            queue.late = queue.late.saturating_sub(1);
        }
        self.leave_opening(late);
        true
    }

    /// A session is over, and with it all that was on its way.
    pub(super) fn answers_nothing_more(&mut self, session: SessionId) {
        let late = self.late.iter().filter(|(_, late)| late.session == session);
        for request in late.map(|(request, _)| *request).collect::<Vec<_>>() {
            self.question_answered_late(request);
        }
        for service in &mut self.services {
            service.room.queues.remove(&session);
        }
    }
}
