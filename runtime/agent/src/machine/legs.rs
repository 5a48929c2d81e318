//! Connections that managers carry on in others' names: what the agent has sent for them is all that is left of
//! them when their manager dies. Both ends are then reset in the numbers that they wait for.
//!
//! They are known by what was injected. A SYN of the forward part and an acknowledgement of the reply part begin
//! one, and so does a client's segment that its manager has taken in (see `heard`): what answers clients' SYNs
//! costs nothing. An entry of its own, a RST or idleness ends one. Does not know what services do with them.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::reset::reset_with;
use super::shares::{Owner, Share};
use super::timers::Timer;
use super::{Agent, SessionId};
use crate::entry::{Packet, PacketMeta};
use crate::flow::{PacketKind, Part, Tuple};
use crate::packet::{self, View, proto};

/// Connections at once; what is beyond them is not remembered.
const MOST: usize = 16_384;
/// Between two looks for idle ones.
const LOOK: Duration = Duration::from_secs(30);

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// What a manager may send again: further back than that, a number is another connection's.
const BEHIND: u32 = 1 << 21;

/// All of an agent.
#[derive(Debug, Default)]
pub(super) struct Legs {
    /// By service and forward match.
    all: FxHashMap<(u8, Tuple), Legged>,
    /// A look for idle ones is due.
    looks: bool,
}

impl Legs {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether it is remembered.
    pub fn has(&self, service: u8, forward: Tuple) -> bool {
        self.all.contains_key(&(service, forward))
    }

    /// The switch has it, or it is over.
    pub fn remove(&mut self, service: u8, forward: Tuple) {
        self.all.remove(&(service, forward));
    }

    /// Its client has ended it. Of one that the server knows that is for the manager to say.
    pub fn abandoned(&mut self, service: u8, forward: Tuple) {
        let known = (self.all.get(&(service, forward))).is_some_and(|leg| leg.said[0].is_some());
        if !known {
            self.remove(service, forward);
        }
    }

    /// Services have other places; connections of those that are gone are forgotten.
    pub fn move_services(&mut self, to: impl Fn(u8) -> Option<u8>) {
        let all = std::mem::take(&mut self.all).into_iter();
        self.all = all
            .filter_map(|((service, forward), mut leg)| {
                let service = to(service)?;
                leg.owner.share.service = service;
                for said in leg.said.iter_mut().flatten() {
                    said.meta.stage = service + 1;
                }
                Some(((service, forward), leg))
            })
            .collect();
    }

    /// What its client waits for, unless something was said to it: that tells it better, since nobody but the
    /// manager has it. Says whether the connection is remembered.
    pub fn heard(&mut self, service: u8, forward: Tuple, waits: Said) -> bool {
        let leg = self.all.get_mut(&(service, forward));
        leg.map(|leg| leg.said[1].get_or_insert(waits)).is_some()
    }
}

/// One connection.
#[derive(Debug)]
struct Legged {
    owner: Owner,
    /// The manager's process.
    instance: u64,
    until: Duration,
    /// What went to the server and to the client.
    said: [Option<Said>; 2],
}

/// What was sent last in one direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    meta: PacketMeta,
    /// The number that comes next.
    next: u32,
    fin: bool,
}

impl Said {
    /// Everything before that number was said, and goes that way.
    pub fn up_to(next: u32, meta: PacketMeta) -> Self {
        Self {
            meta,
            next,
            fin: false,
        }
    }
}

impl Agent {
    /// A manager sends this at the stage of a service.
    pub(super) fn leg_said(&mut self, id: SessionId, share: Share, service: u8, packet: &Packet) {
        let part = Part::from_number(packet.meta.part);
        let (Some(part), Some(view)) = (part, packet::view(&packet.bytes)) else {
            return;
        };
        let is_whole = view.tuple.proto == proto::TCP && view.kind == PacketKind::Whole;
        let tuple = match part {
            Part::Forward => view.tuple,
            Part::Reply => view.tuple.reversed(),
        };
        let key = (service, tuple);
        let begins = match part {
            Part::Forward => view.flags & (SYN | RST) == SYN,
            Part::Reply => view.flags & (SYN | RST | ACK) == ACK,
        };
        let room = self.legs.len() < MOST;
        if !is_whole || !(self.legs.all.contains_key(&key) || (begins && room)) {
            return;
        }
        if view.flags & RST != 0 {
            return self.legs.remove(service, tuple);
        }
        let Some(next) = next_number(&packet.bytes, &view) else {
            return;
        };
        let (now, rests) = (self.now, self.rests(service));
        let Some(leg) = self.leg(id, share, key) else {
            return;
        };
        let [forward, reply] = &mut leg.said;
        let said = if part == Part::Forward {
            forward
        } else {
            reply
        };
        let before = said.map(|s| s.next);
        let again = before.filter(|before| before.wrapping_sub(next) < BEHIND);
        *said = Some(Said {
            meta: packet.meta,
            next: again.unwrap_or(next),
            fin: view.flags & FIN != 0 || said.is_some_and(|s| s.fin),
        });
        let is_closed = leg.said.iter().all(|s| s.is_some_and(|s| s.fin));
        let [idle, closed] = rests;
        leg.until = now + if is_closed { closed } else { idle };
    }

    /// A manager carries on a connection whose client waits for this.
    pub(super) fn leg_carries(&mut self, id: SessionId, share: Share, forward: Tuple, waits: Said) {
        let service = share.service;
        if self.legs.heard(service, forward, waits) || self.legs.len() >= MOST {
            return;
        }
        let (now, [idle, _]) = (self.now, self.rests(service));
        if let Some(leg) = self.leg(id, share, (service, forward)) {
            leg.said = [None, Some(waits)];
            leg.until = now + idle;
        }
    }

    /// How long a service's connections rest, idle and closed.
    fn rests(&self, service: u8) -> [Duration; 2] {
        let limits = (self.plan.services.get(usize::from(service))).map(|s| &s.limits);
        let rests = limits.map_or([0; 2], |l| [l.idle_ms, l.closed_ms]);
        rests.map(Duration::from_millis)
    }

    /// One connection, which begins if it is not there.
    fn leg(&mut self, id: SessionId, share: Share, key: (u8, Tuple)) -> Option<&mut Legged> {
        let teller = self.sessions.get(&id)?;
        let (manager, instance) = (teller.manager.clone()?, teller.instance);
        self.look_at_legs();
        Some(self.legs.all.entry(key).or_insert(Legged {
            owner: Owner { share, manager },
            instance,
            until: Duration::ZERO,
            said: [None; 2],
        }))
    }

    /// Sees to it that idle ones are forgotten.
    pub(super) fn look_at_legs(&mut self) {
        if !std::mem::replace(&mut self.legs.looks, true) {
            self.timers.at(self.now + LOOK, Timer::Legs);
        }
    }

    /// Idle ones are forgotten.
    pub(super) fn legs_due(&mut self) {
        let now = self.now;
        self.legs.all.retain(|_, leg| leg.until > now);
        self.heard.forget(now);
        self.legs.looks = false;
        if self.legs.len() + self.heard.len() > 0 {
            self.look_at_legs();
        }
    }

    /// A manager's process is gone: the ends of what it has carried on are told, and clients of whom it may not
    /// have heard.
    pub(super) fn cut_legs(
        &mut self,
        is_lost: impl Fn(&Owner, u64) -> bool,
        is_unheard: impl Fn(&Owner) -> bool,
    ) {
        let unheard = self.cut_heard(is_unheard);
        let mut lost: Vec<_> = (self.legs.all)
            .extract_if(|_, leg| is_lost(&leg.owner, leg.instance))
            .collect();
        lost.sort_by_key(|(key, _)| *key);
        for ((_, tuple), leg) in lost {
            let [forward, reply] = leg.said;
            self.reset(forward, &tuple);
            self.reset(reply, &tuple.reversed());
        }
        for (tuple, waits) in unheard {
            self.reset(Some(waits), &tuple.reversed());
        }
    }

    fn reset(&mut self, said: Option<Said>, from: &Tuple) {
        if let Some(Said { meta, next, .. }) = said
            && let Some(frame) = self.reset_frame(&meta, from, next)
        {
            self.counters.legs_cut += 1;
            let bytes = frame.into();
            self.packet_out(Packet { meta, bytes });
        }
    }

    fn reset_frame(&self, meta: &PacketMeta, from: &Tuple, seq: u32) -> Option<Vec<u8>> {
        let mac = self.port_mac(meta.port)?;
        let ip = reset_with(from, seq)?;
        let (_, _, ether_type) = packet::addresses(&ip)?;
        Some(packet::frame(mac, mac, ether_type, &ip))
    }
}

/// The number after a segment.
fn next_number(frame: &[u8], view: &View) -> Option<u32> {
    let segment = frame.get(view.l4..view.end)?;
    let header = usize::from(packet::u8_at(segment, 12)? >> 4) * 4;
    let payload = u32::try_from(segment.len().checked_sub(header)?).ok()?;
    let marks = [SYN, FIN].map(|flag| u32::from(view.flags & flag != 0));
    let length = payload.wrapping_add(marks.iter().sum());
    Some(packet::u32_at(segment, 4)?.wrapping_add(length))
}
