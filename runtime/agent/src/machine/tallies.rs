//! What criteria count: the packets that an entry of theirs lets go on, and those of the fixed affinities
//! made under them, living and ended (A1.3).
//!
//! A manager's criterion has a cell of its own while it is in force, if its statistics ask for it. A plan's
//! static criteria and floors have the cell of their number; of a service that only counts, the static
//! criteria are reported too.

use std::collections::BTreeMap;
use std::time::Duration;

use signalbox_lower::plan::{CriterionAction, Plan};

use super::flow_record::{minus, plus};
use super::shares::{Owner, Share};
use super::slots::Slots;
use super::store::FlowRef;
use super::timers::Timer;
use super::walk::Met;
use super::watch::{Purpose, millis};
use super::{Agent, Link};
use crate::entry::{Cell, Packet};
use crate::flow::{FlowKey, Part};
use crate::message::{AgentBody, Criterion, CriterionReport, Statistics, Totals};
use crate::packet;

/// Before cells that could not be read are tried again, and how often.
const RETRY: Duration = Duration::from_secs(1);
const TRIES: u8 = 5;

/// Names what counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TallyId {
    /// An entry of the plan's own, by service, part and number.
    Static(u8, Part, u32),
    /// A manager's criterion, by the id of its entries.
    Manager(u32),
}

/// Where a tally is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Counting,
    /// So many of its entries are not yet gone from the switch.
    Going(u32),
    /// They are; so many attempts to read the cell were in vain.
    Draining(u8),
}

#[derive(Debug)]
pub(super) struct Tally {
    share: Share,
    part: Part,
    /// The number in reports.
    number: u32,
    slot: u32,
    holds: Totals,
    /// As a direction's: the running totals less `holds`.
    offset: Totals,
    /// Packets that the agent resumed into the criterion's entries.
    resumed: u64,
    /// What the affinities made under it have counted.
    fixed: Totals,
    statistics: Statistics,
    /// Whether anybody is to be told.
    reported: bool,
    since: Duration,
    /// When the next report is due.
    due: Duration,
    sequence: u64,
    life: Life,
}

impl Tally {
    fn own(&self, header: u64) -> Totals {
        let sum = plus(self.holds, self.offset);
        Totals {
            packets: sum.packets,
            bytes: sum.bytes.saturating_sub(self.resumed * header),
        }
    }

    fn rebase(&mut self, holds: Totals, header: u64) {
        if holds.packets < self.holds.packets {
            self.offset = self.own(header);
            self.resumed = 0;
        }
        self.holds = holds;
    }
}

/// The tallies of a plan's own entries: floors, and what a service that only counts lets pass.
pub(super) fn of_plan(plan: &Plan) -> Vec<(TallyId, Tally)> {
    let mut list = Vec::new();
    for (service, number) in plan.services.iter().zip(0..) {
        let every_ms = match &service.observe {
            Some(observe) if !observe.per_flow => Some(observe.every_ms),
            _ => None,
        };
        let parts = [
            (Part::Forward, Some(&service.forward)),
            (Part::Reply, service.reply.as_ref()),
        ];
        for (part, p) in parts {
            let Some(p) = p else { continue };
            let passes = (p.criteria.iter())
                .filter(|c| every_ms.is_some() && c.action == CriterionAction::Pass)
                .map(|c| (c.id, true));
            let floors = p
                .floors(service.fallback)
                .into_iter()
                .map(|c| (c.id, false));
            for (id, reported) in passes.chain(floors) {
                let tally = Tally {
                    share: Share {
                        service: number,
                        number: 0,
                    },
                    part,
                    number: id,
                    slot: id,
                    holds: Totals::default(),
                    offset: Totals::default(),
                    resumed: 0,
                    fixed: Totals::default(),
                    statistics: Statistics {
                        count: true,
                        every_ms: every_ms.flatten(),
                        ..Statistics::default()
                    },
                    reported,
                    since: Duration::ZERO,
                    due: Duration::ZERO,
                    sequence: 0,
                    life: Life::Counting,
                };
                list.push((TallyId::Static(number, part, id), tally));
            }
        }
    }
    list
}

/// The cells that managers' criteria may use: those of the plan's own are below.
pub(super) fn criteria_slots(part: &signalbox_lower::plan::PartPlan) -> Slots {
    let own = u32::try_from(2 * part.criteria.len()).unwrap_or(u32::MAX);
    Slots::new(own + 1, part.criteria_size.saturating_sub(own))
}

pub(super) fn is_counted(s: &Statistics) -> bool {
    s.count || s.every_ms.is_some()
}

impl Agent {
    fn header(&self) -> u64 {
        self.target.header()
    }

    /// Another plan: its own entries count for themselves, and go on counting where they say what they
    /// said. `places` are the services' in the new plan by those in the old one.
    pub(super) fn retarget_tallies(&mut self, old: &Plan, new: &Plan, places: &BTreeMap<u8, u8>) {
        let label = |plan: &Plan, service: u8, part, number| {
            let part = super::plan_change::part_of(plan, service, part)?;
            let mut criteria = part.criteria.iter();
            (criteria.find(|c| c.id == number)).map(|c| (c.label.clone(), c.cubes.clone()))
        };
        let former = std::mem::take(&mut self.tallies);
        let mut own = BTreeMap::new();
        for (id, mut tally) in former {
            let from = tally.share.service;
            let Some(to) = places.get(&from).copied() else {
                continue;
            };
            tally.share.service = to;
            match id {
                TallyId::Manager(_) => {
                    self.tallies.insert(id, tally);
                }
                TallyId::Static(_, part, number) => {
                    if label(old, from, part, number) != label(new, to, part, number) {
                        tally.offset = minus(Totals::default(), tally.holds);
                        tally.resumed = 0;
                        tally.fixed = Totals::default();
                        tally.since = self.now;
                        tally.sequence = 0;
                    }
                    own.insert(TallyId::Static(to, part, number), tally);
                }
            }
        }
        for (id, fresh) in of_plan(new) {
            let tally = match own.remove(&id) {
                None => fresh,
                Some(kept) => Tally {
                    statistics: fresh.statistics,
                    reported: fresh.reported,
                    ..kept
                },
            };
            self.tallies.insert(id, tally);
        }
    }

    /// The cell of a manager's criterion: the one that it has, a new one, or 0 when it counts nothing.
    pub(super) fn criterion_slot(&mut self, owner: &Owner, criterion: &Criterion, id: u32) -> u32 {
        let now = self.now;
        if !is_counted(&criterion.statistics) {
            return 0;
        }
        let key = TallyId::Manager(id);
        if let Some(tally) = self.tallies.get_mut(&key) {
            let every = criterion.statistics.every_ms;
            let changed = tally.statistics.every_ms != every;
            tally.number = criterion.id;
            tally.statistics = criterion.statistics;
            let slot = tally.slot;
            if changed {
                self.tally_later(key, now);
            }
            return slot;
        }
        let free = (self.service(owner.share.service))
            .and_then(|s| s.criteria_slots(criterion.part).allocate());
        // `check_criteria` has seen that there is one.
        let Some((slot, holds)) = free else { return 0 };
        let tally = Tally {
            share: owner.share,
            part: criterion.part,
            number: criterion.id,
            slot,
            holds,
            offset: minus(Totals::default(), holds),
            resumed: 0,
            fixed: Totals::default(),
            statistics: criterion.statistics,
            reported: true,
            since: now,
            due: now,
            sequence: 0,
            life: Life::Counting,
        };
        self.tallies.insert(key, tally);
        self.tally_later(key, now);
        slot
    }

    /// Plans the next report, a period after `from`.
    fn tally_later(&mut self, id: TallyId, from: Duration) {
        if let Some(tally) = self.tallies.get_mut(&id)
            && let Some(every) = tally.statistics.every_ms
        {
            tally.due = from + Duration::from_millis(every.max(1));
            self.timers.at(tally.due, Timer::Tally(id));
        }
    }

    /// The plan's own tallies report from the time when the switch first forwards.
    pub(super) fn start_static_tallies(&mut self) {
        let ids: Vec<TallyId> = (self.tallies.iter())
            .filter(|(id, t)| matches!(id, TallyId::Static(..)) && t.reported)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.tally_later(id, self.now);
        }
    }

    /// The counted criterion under which a flow is made: the one whose question it answers, or of its
    /// manager's the highest that has its tuple.
    pub(super) fn criterion_over(&self, owner: &Owner, asked: Option<u32>, key: &FlowKey) -> u32 {
        let counts = |id: u32| self.tallies.contains_key(&TallyId::Manager(id));
        if let Some(id) = asked.filter(|id| self.criteria_ids.contains_key(id)) {
            return if counts(id) { id } else { 0 };
        }
        // Managers' tallies come last.
        let last = self.tallies.last_key_value().map(|(id, _)| *id);
        if !matches!(last, Some(TallyId::Manager(_))) {
            return 0;
        }
        let sets = self.services.get(usize::from(key.service));
        let Some(set) = sets.and_then(|s| s.criteria.get(owner)) else {
            return 0;
        };
        (set.entries.iter())
            .filter(|e| e.part == key.part && counts(e.entry))
            .filter(|e| crate::cover::cube_has_flow(&e.cube, &key.tuple, key.kind))
            .max_by_key(|e| e.priority)
            .map_or(0, |e| e.entry)
    }

    /// An affinity has counted more: so has its criterion.
    pub(super) fn tally_fixed(&mut self, criterion: u32, more: Totals) {
        if criterion != 0
            && let Some(tally) = self.tallies.get_mut(&TallyId::Manager(criterion))
        {
            tally.fixed = plus(tally.fixed, more);
        }
    }

    /// The agent has led a fragment past a criterion's entry, which the switch does not count.
    pub(super) fn tally_fragment(&mut self, id: TallyId, more: Totals) {
        if let Some(tally) = self.tallies.get_mut(&id) {
            tally.offset = plus(tally.offset, more);
        }
    }

    /// Notes which entries count a packet that goes back to the switch: on a target whose counters see
    /// packet-out's header, each of them counts it, at whatever stage.
    pub(super) fn note_headers(&mut self, packet: &Packet) {
        let Some(view) = packet::view(&packet.bytes) else {
            return;
        };
        for met in self.walk_on(&view, packet.meta) {
            match met {
                Met::Flow(at, part) => {
                    let flow = self.store.get_mut(at);
                    if let Some(direction) = flow.and_then(|flow| flow.direction_mut(part)) {
                        direction.resumed = direction.resumed.wrapping_add(1);
                    }
                }
                Met::Criterion(id) => {
                    if let Some(tally) = self.tallies.get_mut(&id) {
                        tally.resumed += 1;
                    }
                }
            }
        }
    }

    /// A criterion is no more: its last words come when the switch has let go of so many entries.
    pub(super) fn end_tally(&mut self, id: u32, entries: u32) {
        let Some(tally) = self.tallies.get_mut(&TallyId::Manager(id)) else {
            return;
        };
        if tally.life != Life::Counting {
            return;
        }
        tally.life = Life::Going(entries);
        if entries == 0 || self.link == Link::Down {
            self.tally_drains(id);
        }
    }

    /// The switch has let go of one of a criterion's entries.
    pub(super) fn tally_entry_gone(&mut self, id: u32) {
        let Some(tally) = self.tallies.get_mut(&TallyId::Manager(id)) else {
            return;
        };
        let Life::Going(left) = tally.life else {
            return;
        };
        tally.life = Life::Going(left.saturating_sub(1));
        if left <= 1 {
            self.tally_drains(id);
        }
    }

    fn tally_drains(&mut self, id: u32) {
        let id = TallyId::Manager(id);
        if let Some(tally) = self.tallies.get_mut(&id) {
            tally.life = Life::Draining(0);
        }
        let due = self.now + self.target.drain;
        self.timers.at(due, Timer::Tally(id));
    }

    /// Time to report, or to say the last words.
    pub(super) fn tally_due(&mut self, id: TallyId, due: Duration) {
        let Some(tally) = self.tallies.get(&id) else {
            return;
        };
        match tally.life {
            Life::Going(_) => return,
            Life::Draining(_) => {}
            Life::Counting => {
                let Some(every) = tally.statistics.every_ms else {
                    return;
                };
                if tally.due != due {
                    // Its period is another one now.
                    return;
                }
                let every = Duration::from_millis(every.max(1));
                self.tally_later(id, super::watch::latest_before(due, every, self.now));
            }
        }
        if self.link == Link::Down {
            if tally_is_over(self.tallies.get(&id)) {
                self.tally_over(id, false);
            }
            return;
        }
        if let TallyId::Manager(criterion) = id {
            let under: Vec<FlowRef> = (self.store.iter())
                .filter(|(_, f)| f.criterion == criterion && f.directions().any(|d| d.slot != 0))
                .map(|(at, _)| at)
                .collect();
            for at in under {
                self.read_cells(at, Purpose::Refresh);
            }
        }
        self.read_tally(id, Purpose::Tally);
    }

    pub(super) fn tally_cell(&self, id: TallyId) -> Option<Cell> {
        let tally = self.tallies.get(&id)?;
        Self::cell(tally.share.service, tally.part, tally.slot)
    }

    /// Every tally's id, for a refresh.
    pub(super) fn tally_ids(&self) -> Vec<TallyId> {
        self.tallies.keys().copied().collect()
    }

    /// Its cell has been read, or could not be.
    pub(super) fn tally_read(&mut self, id: TallyId, holds: Option<Totals>, report: bool) {
        let now = self.now;
        let Some(tally) = self.tallies.get_mut(&id) else {
            return;
        };
        if let Some(holds) = holds {
            tally.holds = holds;
        }
        if !report {
            return;
        }
        match (tally.life, holds) {
            (Life::Draining(tries), None) if tries < TRIES => {
                tally.life = Life::Draining(tries + 1);
                self.timers.at(now + RETRY, Timer::Tally(id));
            }
            (Life::Draining(_), _) => self.tally_over(id, holds.is_some()),
            (_, Some(_)) => self.tally_report(id, false),
            (_, None) => {}
        }
    }

    fn tally_over(&mut self, id: TallyId, is_known: bool) {
        self.tally_report(id, true);
        let Some(tally) = self.tallies.remove(&id) else {
            return;
        };
        if let Some(s) = self.service(tally.share.service) {
            let slots = s.criteria_slots(tally.part);
            if is_known {
                slots.release(tally.slot, tally.holds);
            } else {
                slots.hold_back(tally.slot);
            }
        }
    }

    fn tally_report(&mut self, id: TallyId, last: bool) {
        let (now, header) = (self.now, self.header());
        let Some(tally) = self.tallies.get_mut(&id) else {
            return;
        };
        if !tally.reported {
            return;
        }
        tally.sequence += 1;
        let report = CriterionReport {
            id: tally.number,
            part: tally.part,
            sequence: tally.sequence,
            last,
            totals: plus(tally.own(header), tally.fixed),
            age_ms: millis(now.saturating_sub(tally.since)),
        };
        let share = tally.share;
        self.tell(share, AgentBody::CriterionReport(report));
    }

    /// What the switch's cells hold now that it is there again.
    pub(super) fn rebase_tallies(&mut self, holds: impl Fn(&Cell) -> Totals) {
        let header = self.header();
        for tally in self.tallies.values_mut() {
            if let Some(cell) = Self::cell(tally.share.service, tally.part, tally.slot) {
                tally.rebase(holds(&cell), header);
            }
        }
    }

    /// The switch is gone, and with it what was awaited of it: entries' ends, and readings.
    pub(super) fn tallies_cut_short(&mut self) {
        let going: Vec<u32> = (self.tallies.iter())
            .filter_map(|(id, t)| match (id, t.life) {
                (TallyId::Manager(id), Life::Going(_) | Life::Draining(_)) => Some(*id),
                _ => None,
            })
            .collect();
        for id in going {
            self.tally_drains(id);
        }
    }

    /// Packets that met a floor on the switch, as last read.
    pub(super) fn floor_packets(&self) -> u64 {
        let header = self.header();
        let floors = (self.tallies.iter())
            .filter(|(id, t)| matches!(id, TallyId::Static(..)) && !t.reported);
        floors.map(|(_, t)| t.own(header).packets).sum()
    }
}

fn tally_is_over(tally: Option<&Tally>) -> bool {
    tally.is_some_and(|t| matches!(t.life, Life::Draining(_)))
}
