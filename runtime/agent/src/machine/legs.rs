//! Connections that managers carry on in others' names: what the agent has sent for them is all that is left of
//! them when their manager dies. Both ends are then reset in the numbers that they wait for.
//!
//! They are known by what was injected. A SYN of the forward part and an acknowledgement of the reply part begin
//! one, so that what answers clients' SYNs costs nothing; an entry of its own, a RST or idleness ends one. Does
//! not know what services do with them.

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

    /// The switch has it, or it is over.
    pub fn remove(&mut self, service: u8, forward: Tuple) {
        self.all.remove(&(service, forward));
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
struct Said {
    meta: PacketMeta,
    /// The number that comes next.
    next: u32,
    fin: bool,
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
        let teller = self.sessions.get(&id);
        let teller = teller.and_then(|s| Some((s.manager.clone()?, s.instance)));
        let next = next_number(&packet.bytes, &view);
        let (Some((manager, instance)), Some(next)) = (teller, next) else {
            return;
        };
        let limits = (self.plan.services.get(usize::from(service))).map(|s| &s.limits);
        let (idle, closed) = limits.map_or((0, 0), |l| (l.idle_ms, l.closed_ms));
        if !std::mem::replace(&mut self.legs.looks, true) {
            self.timers.at(self.now + LOOK, Timer::Legs);
        }
        let leg = self.legs.all.entry(key).or_insert(Legged {
            owner: Owner { share, manager },
            instance,
            until: Duration::ZERO,
            said: [None; 2],
        });
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
        let rest = if is_closed { closed } else { idle };
        leg.until = self.now + Duration::from_millis(rest);
    }

    /// Idle ones are forgotten.
    pub(super) fn legs_due(&mut self) {
        let now = self.now;
        self.legs.all.retain(|_, leg| leg.until > now);
        self.legs.looks = !self.legs.all.is_empty();
        if self.legs.looks {
            self.timers.at(now + LOOK, Timer::Legs);
        }
    }

    /// A manager's connections have nobody any more: their ends are told.
    pub(super) fn cut_legs(&mut self, is_lost: impl Fn(&Owner, u64) -> bool) {
        let mut lost: Vec<_> = (self.legs.all)
            .extract_if(|_, leg| is_lost(&leg.owner, leg.instance))
            .collect();
        lost.sort_by_key(|(key, _)| *key);
        for ((_, tuple), leg) in lost {
            let [forward, reply] = leg.said;
            for (said, from) in [(forward, tuple), (reply, tuple.reversed())] {
                if let Some(Said { meta, next, .. }) = said
                    && let Some(frame) = self.reset_frame(&meta, &from, next)
                {
                    self.counters.legs_cut += 1;
                    let bytes = frame.into();
                    self.packet_out(Packet { meta, bytes });
                }
            }
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
