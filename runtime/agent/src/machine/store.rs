//! The affinity store: flows, each with up to two fixed entries, and their counter slots.
//!
//! It keeps them; what happens to them is decided in `install`, `ending` and `watch`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::shares::Share;
use crate::entry::{Entry, FixedAction, FixedEntry, Packet};
use crate::flow::{FlowKey, PacketKind, Part, Tuple};
use crate::message::{InterestMask, Leases, ReportCause, Statistics, Subject, Totals};
use crate::packet::proto;

/// Names a flow of the store; stale ones are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FlowRef {
    index: u32,
    generation: u32,
}

/// Bits of an entry id: top bit set, generation 8, index 22, part 1.
const FIXED_BIT: u32 = 0x8000_0000;
const INDEX_BITS: u32 = 22;
/// Flows that a store can hold.
pub(super) const MAX_FLOWS: usize = 1 << INDEX_BITS;

/// Where a flow is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its entry of this direction is being written.
    Installing(Part),
    /// Its entries are in.
    Live,
    /// Its entries are being deleted; so many deletions are not acknowledged.
    Ending {
        cause: ReportCause,
        request: u64,
        pending: u8,
    },
    /// Its entries are gone; the last packets leave the pipeline.
    Draining { cause: ReportCause, request: u64 },
}

/// How far a connection has come, as far as the agent can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// The other side has not answered.
    HalfOpen,
    /// It has.
    Established,
    /// Both FINs or a RST were seen.
    Closed,
}

/// One direction of a flow.
#[derive(Debug, Clone)]
pub(crate) struct Direction {
    pub tuple: Tuple,
    pub kind: PacketKind,
    pub action: FixedAction,
    pub interest: InterestMask,
    /// 0 for none.
    pub slot: u32,
    /// What the slot held when it was given out.
    pub base: Totals,
    /// What was counted on a switch that has started afresh since.
    pub carried: Totals,
    /// What the slot held when it was last read.
    pub holds: Totals,
    /// Running totals as last read.
    pub totals: Totals,
    /// Packets that the agent resumed into this entry.
    pub resumed: u64,
    /// Packets of `totals` at the last look for activity.
    pub watched: u64,
    /// A FIN has passed.
    pub fin: bool,
    /// It has a new slot, and nobody knows yet what that held before.
    pub moved: bool,
}

/// A flow.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    pub service: u8,
    /// The share of the service under which it was decided.
    pub share: u32,
    pub number: u64,
    pub manager: Arc<str>,
    /// The epoch under which that manager decided; 0 for a flow that was found on the switch.
    pub epoch: u64,
    pub cookie: Bytes,
    pub forward: Option<Direction>,
    pub reply: Option<Direction>,
    pub phase: Phase,
    pub progress: Progress,
    pub leases: Leases,
    pub track_close: bool,
    pub statistics: Statistics,
    /// What installs it, named in a denial; `None` if it was found on the switch.
    pub subject: Option<Subject>,
    /// Other flows came in the same request: they go if the switch refuses this one.
    pub together: bool,
    /// The switch has refused it, or one of its request: its manager knows, and hears no more of it.
    pub refused: bool,
    /// Attempts in vain to delete its entries or to read its cells for the last time.
    pub retries: u8,
    pub created: Duration,
    /// The latest time at which it may have been active.
    pub active: Duration,
    /// When it is looked at next.
    pub look: Duration,
    /// A look is under way.
    pub looking: bool,
    pub report_sequence: u64,
    /// Packets that wait for its entries.
    pub held: Vec<Packet>,
}

impl Flow {
    pub fn share(&self) -> Share {
        Share {
            service: self.service,
            number: self.share,
        }
    }

    pub fn direction(&self, part: Part) -> Option<&Direction> {
        match part {
            Part::Forward => self.forward.as_ref(),
            Part::Reply => self.reply.as_ref(),
        }
    }

    pub fn direction_mut(&mut self, part: Part) -> Option<&mut Direction> {
        match part {
            Part::Forward => self.forward.as_mut(),
            Part::Reply => self.reply.as_mut(),
        }
    }

    pub fn key(&self, part: Part) -> Option<FlowKey> {
        self.direction(part).map(|d| FlowKey {
            service: self.service,
            part,
            tuple: d.tuple,
            kind: d.kind,
        })
    }

    /// The lease that counts now.
    pub fn lease(&self) -> Option<Duration> {
        let ms = match self.progress {
            Progress::HalfOpen => self.leases.half_open_ms.or(self.leases.idle_ms),
            Progress::Established => self.leases.idle_ms,
            Progress::Closed => self.leases.closed_ms.or(self.leases.idle_ms),
        };
        ms.map(Duration::from_millis)
    }

    /// From when its lease counts. The asker's own packets do not keep a TCP flow half open: without an
    /// answer it ends, however often they are repeated.
    pub fn resting_since(&self) -> Duration {
        let tcp = (self.forward.as_ref()).is_some_and(|d| d.tuple.proto == proto::TCP);
        let unanswered =
            self.progress == Progress::HalfOpen && self.leases.half_open_ms.is_some() && tcp;
        if unanswered {
            self.created
        } else {
            self.active
        }
    }

    /// The entry of one direction as it should be on the switch now.
    pub fn entry(&self, at: FlowRef, part: Part) -> Option<Entry> {
        use crate::flow::events::{FIN, RST, SYN};
        let d = self.direction(part)?;
        let mut packet_events = d.interest.packet_events;
        let mut notice_events = d.interest.notice_events;
        if self.track_close {
            if self.progress == Progress::Closed {
                // A new connection on the old tuple must be decided afresh (A6.15).
                if part == Part::Forward {
                    packet_events |= SYN;
                }
            } else {
                notice_events |= FIN | RST;
            }
        }
        Some(Entry::Fixed(FixedEntry {
            key: self.key(part)?,
            action: d.action,
            packet_events,
            notice_events,
            entry: at.entry_id(part),
            slot: d.slot,
            idle: self.leases.idle_ms.map(Duration::from_millis),
        }))
    }
}

impl FlowRef {
    /// The id that packets of this flow's entry carry.
    pub fn entry_id(self, part: Part) -> u32 {
        let part_bit = u32::from(part == Part::Forward);
        FIXED_BIT | ((self.generation & 0xff) << (INDEX_BITS + 1)) | (self.index << 1) | part_bit
    }
}

/// All flows.
#[derive(Debug, Default)]
pub(super) struct Store {
    flows: Vec<Option<(u32, Flow)>>,
    free: Vec<u32>,
    generations: Vec<u32>,
    by_key: FxHashMap<FlowKey, FlowRef>,
    live: usize,
}

impl Store {
    pub fn len(&self) -> usize {
        self.live
    }

    /// Adds a flow under the keys of its directions; `None` when the store is full.
    pub fn insert(&mut self, flow: Flow) -> Option<FlowRef> {
        let index = match self.free.pop() {
            Some(i) => i,
            None if self.flows.len() < MAX_FLOWS => {
                self.flows.push(None);
                self.generations.push(0);
                u32::try_from(self.flows.len() - 1).ok()?
            }
            None => return None,
        };
        let generation = {
            let g = self.generations.get_mut(index as usize)?;
            *g = g.wrapping_add(1);
            *g
        };
        let at = FlowRef { index, generation };
        for part in [Part::Forward, Part::Reply] {
            if let Some(key) = flow.key(part) {
                self.by_key.insert(key, at);
            }
        }
        *self.flows.get_mut(index as usize)? = Some((generation, flow));
        self.live += 1;
        Some(at)
    }

    pub fn get(&self, at: FlowRef) -> Option<&Flow> {
        match self.flows.get(at.index as usize)? {
            Some((generation, flow)) if *generation == at.generation => Some(flow),
            _ => None,
        }
    }

    pub fn get_mut(&mut self, at: FlowRef) -> Option<&mut Flow> {
        match self.flows.get_mut(at.index as usize)? {
            Some((generation, flow)) if *generation == at.generation => Some(flow),
            _ => None,
        }
    }

    pub fn find(&self, key: &FlowKey) -> Option<FlowRef> {
        self.by_key.get(key).copied()
    }

    /// Whose entry a packet met.
    pub fn by_entry_id(&self, id: u32) -> Option<(FlowRef, Part)> {
        if id & FIXED_BIT == 0 {
            return None;
        }
        let part = if id & 1 == 1 {
            Part::Forward
        } else {
            Part::Reply
        };
        let index = (id >> 1) & ((1 << INDEX_BITS) - 1);
        let (generation, _) = self.flows.get(index as usize)?.as_ref()?;
        if generation & 0xff != (id >> (INDEX_BITS + 1)) & 0xff {
            return None;
        }
        Some((
            FlowRef {
                index,
                generation: *generation,
            },
            part,
        ))
    }

    /// Frees the flow's keys for a successor; the flow itself stays.
    pub fn unlink(&mut self, at: FlowRef) {
        let Some(flow) = self.get(at) else { return };
        let keys = [flow.key(Part::Forward), flow.key(Part::Reply)];
        for key in keys.into_iter().flatten() {
            if self.by_key.get(&key) == Some(&at) {
                self.by_key.remove(&key);
            }
        }
    }

    pub fn remove(&mut self, at: FlowRef) -> Option<Flow> {
        self.unlink(at);
        self.get(at)?;
        let (_, flow) = self.flows.get_mut(at.index as usize)?.take()?;
        self.free.push(at.index);
        self.live -= 1;
        Some(flow)
    }

    pub fn iter(&self) -> impl Iterator<Item = (FlowRef, &Flow)> {
        self.flows.iter().enumerate().filter_map(|(i, slot)| {
            let (generation, flow) = slot.as_ref()?;
            let index = u32::try_from(i).ok()?;
            Some((
                FlowRef {
                    index,
                    generation: *generation,
                },
                flow,
            ))
        })
    }

    /// Gives every flow's service another place. None of them may be on its way out.
    pub fn move_services(&mut self, to: impl Fn(u8) -> u8) {
        self.by_key.clear();
        for (index, place) in self.flows.iter_mut().enumerate() {
            let (Some((generation, flow)), Ok(index)) = (place, u32::try_from(index)) else {
                continue;
            };
            flow.service = to(flow.service);
            let at = FlowRef {
                index,
                generation: *generation,
            };
            for key in [flow.key(Part::Forward), flow.key(Part::Reply)] {
                if let Some(key) = key {
                    self.by_key.insert(key, at);
                }
            }
        }
    }

    pub fn refs(&self) -> Vec<FlowRef> {
        self.iter().map(|(at, _)| at).collect()
    }
}

/// The counter cells of one part of a service that fixed entries may use.
#[derive(Debug, Default)]
pub(super) struct Slots {
    free: Vec<u32>,
    first: u32,
    next: u32,
    end: u32,
    values: FxHashMap<u32, Totals>,
    /// Not in use, but nobody knows what they hold.
    doubtful: Vec<u32>,
}

impl Slots {
    /// So many cells from `first` on.
    pub fn new(first: u32, count: u32) -> Self {
        Self {
            first,
            next: first,
            end: first + count,
            ..Self::default()
        }
    }

    /// Whether both are the same cells.
    pub fn has_range_of(&self, other: &Self) -> bool {
        (self.first, self.end) == (other.first, other.end)
    }

    /// A cell and what it holds already.
    pub fn allocate(&mut self) -> Option<(u32, Totals)> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.next < self.end => {
                self.next += 1;
                self.next - 1
            }
            None => return None,
        };
        Some((slot, self.values.get(&slot).copied().unwrap_or_default()))
    }

    /// Gives a cell back, with what was read last.
    pub fn release(&mut self, slot: u32, holds: Totals) {
        if slot != 0 {
            self.values.insert(slot, holds);
            self.free.push(slot);
        }
    }

    /// Keeps back a cell whose last value could not be read: its next flow would count wrong.
    pub fn hold_back(&mut self, slot: u32) {
        if slot != 0 {
            self.doubtful.push(slot);
        }
    }

    /// How many cells are free.
    pub fn room(&self) -> usize {
        self.free.len() + (self.end - self.next) as usize
    }

    /// Forgets what the cells held: all of them are about to be read.
    pub fn forget(&mut self) {
        self.values.clear();
        self.free.append(&mut self.doubtful);
    }

    /// Notes what a cell was found to hold.
    pub fn found(&mut self, slot: u32, holds: Totals) {
        self.values.insert(slot, holds);
    }

    /// Takes cells that found entries use already.
    pub fn take(&mut self, used: &[u32]) {
        let used: rustc_hash::FxHashSet<u32> = used.iter().copied().collect();
        let top = used.iter().map(|s| s + 1).max().unwrap_or(0);
        self.next = top.clamp(self.first, self.end);
        self.free = (self.first..self.next)
            .filter(|s| !used.contains(s))
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_slot_comes_back_with_what_it_holds() {
        let mut slots = Slots::new(1, 1);
        assert_eq!(slots.allocate(), Some((1, Totals::default())));
        assert_eq!(slots.allocate(), None);
        let held = Totals {
            packets: 3,
            bytes: 180,
        };
        slots.release(1, held);
        assert_eq!(slots.allocate(), Some((1, held)));
    }
}
