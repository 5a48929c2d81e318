//! Wildcard affinities: what managers want to be asked about, and for how long.
//!
//! One heartbeat renews all criteria of (manager, share of a service); the floor beneath is a static entry
//! and not kept here, so that nothing can remove it. A new version comes into force whole: the old one's entries go
//! when all of the new one's are in, and come back when the switch refuses one. Two managers may ask for
//! the same packets; the switch then holds one entry for both, until the last of them lets it go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use signalbox_lower::plan::Criterion as PlannedCriterion;

use super::accept::check_period;
use super::shares::{Origin, Owner, Share};
use super::tallies::is_counted;
use super::timers::Timer;
use super::writer::Token;
use super::{Agent, SessionId, WriteError};
use crate::cover::covers_cube;
use crate::entry::{Change, CriterionAct, CriterionEntry, Entry};
use crate::flow::Part;
use crate::message::{
    AgentBody, Asking, Capability, Criteria, Criterion, Heartbeat, Reason, StaticAction,
};

/// Entry ids of managers' criteria; the plan's own are below, fixed entries' above.
pub(super) const FIRST_ID: u32 = 0x4000_0000;
const LAST_ID: u32 = 0x7fff_ffff;

/// Floors and static rules have their own priorities below and above.
const FLOOR_PRIORITY: i32 = 1;

/// What one manager has installed for one share of a service.
#[derive(Debug, Default)]
pub(super) struct CriteriaSet {
    /// The epoch under which it was installed or renewed last.
    pub epoch: u64,
    pub version: u64,
    pub until: Duration,
    pub entries: Vec<CriterionEntry>,
    /// What was in force before, while the switch has not yet taken all of `entries`.
    change: Option<Former>,
}

/// A version on its way out.
#[derive(Debug)]
struct Former {
    /// Tells the switch's answers for this change from those for an earlier one.
    number: u64,
    /// What is to replace it.
    wanted: Criteria,
    version: u64,
    entries: Vec<CriterionEntry>,
    /// Updates that the switch has not answered, and what it has refused.
    awaited: usize,
    refused: Option<WriteError>,
    /// A yet newer version that came meanwhile, from whom and under which epoch.
    next: Option<(SessionId, u64, Criteria)>,
}

impl CriteriaSet {
    fn find(&self, e: &CriterionEntry) -> Option<&CriterionEntry> {
        find(&self.entries, e)
    }

    /// By another plan a manager's versions are others, and a new process of it begins anew.
    pub fn forget_version(&mut self) {
        self.version = 0;
        if let Some(change) = &mut self.change {
            change.version = 0;
            change.next = None;
        }
    }

    /// Entries that the switch has not acknowledged.
    fn pending(&self) -> usize {
        (self.change.as_ref()).map_or(0, |c| c.awaited.min(self.entries.len()))
    }
}

/// The entry of a list that matches the same packets at the same priority.
fn find<'a>(list: &'a [CriterionEntry], e: &CriterionEntry) -> Option<&'a CriterionEntry> {
    list.iter().find(|o| is_same(o, e))
}

fn is_same(a: &CriterionEntry, b: &CriterionEntry) -> bool {
    a.part == b.part && a.priority == b.priority && a.cube == b.cube
}

impl Agent {
    pub(super) fn heartbeat(
        &mut self,
        id: SessionId,
        share: Share,
        manager: &Arc<str>,
        epoch: u64,
        beat: Heartbeat,
    ) {
        let until = self.now + self.criteria_lease(share);
        let manager = manager.clone();
        let owner = Owner { share, manager };
        let is_put_off = self.is_put_off(&owner, beat.criteria_version);
        let set = self
            .service(share.service)
            .and_then(|s| s.criteria.get_mut(&owner));
        let have = match set {
            Some(set) => {
                // Where the wanted version is refused, the former one stays.
                if set.version == beat.criteria_version || is_put_off {
                    set.until = until;
                    set.epoch = epoch;
                }
                set.version
            }
            None => 0,
        };
        if have == beat.criteria_version || is_put_off {
            let ack = Heartbeat {
                sequence: beat.sequence,
                criteria_version: have,
            };
            self.send(id, share, AgentBody::HeartbeatAck(ack));
        } else {
            self.send(id, share, AgentBody::Resync { have_version: have });
        }
    }

    fn criteria_lease(&self, share: Share) -> Duration {
        let service = self.plan.services.get(usize::from(share.service));
        Duration::from_millis(service.map_or(0, |s| s.lease_ms(share.number)))
    }

    pub(super) fn criteria(&mut self, id: SessionId, owner: &Owner, epoch: u64, new: &Criteria) {
        let service = owner.share.service;
        let installed = (self.services.get(usize::from(service)))
            .and_then(|s| s.criteria.get(owner))
            .map_or(0, |set| set.version);
        if new.version <= installed {
            // Doubled or overtaken on its way: the newer one stands.
            return;
        }
        if self.puts_off(id, owner, new) {
            return;
        }
        if let Err(why) = self.check_criteria(owner, &new.list) {
            return self.put_off(id, owner, new.clone(), why);
        }
        let under_way = (self.service(service))
            .and_then(|s| s.criteria.get_mut(owner))
            .and_then(|set| set.change.as_mut());
        if let Some(change) = under_way {
            let newest = change
                .next
                .as_ref()
                .is_none_or(|(.., c)| c.version < new.version);
            if newest {
                change.next = Some((id, epoch, new.clone()));
            }
            return;
        }
        let former = self
            .service(service)
            .and_then(|s| s.criteria.remove(owner))
            .unwrap_or_default();
        let mut entries = Vec::new();
        let mut changed = Vec::new();
        for criterion in &new.list {
            let action = self.criterion_action(criterion);
            // Cubes of one criterion share an id.
            let mut entry_id = None;
            for cube in &criterion.cubes {
                let mut entry = CriterionEntry {
                    service,
                    part: criterion.part,
                    cube: cube.clone(),
                    priority: criterion.priority,
                    action,
                    entry: 0,
                    slot: 0,
                };
                let kept = find(&former.entries, &entry);
                let number = *entry_id.get_or_insert_with(|| {
                    kept.map_or_else(|| self.new_criterion_id(), |k| k.entry)
                });
                entry.entry = number;
                entry.slot = self.criterion_slot(owner, criterion, number);
                let origin = Origin {
                    owner: owner.clone(),
                    number: criterion.id,
                    every_packet: criterion.asking == Asking::EveryPacket,
                    hops: (self.criteria_ids.remove(&number)).map_or_else(Vec::new, |o| o.hops),
                };
                self.criteria_ids.insert(number, origin);
                if kept != Some(&entry) {
                    changed.push((kept.is_some(), entry.clone()));
                }
                entries.push(entry);
            }
            if let CriterionAct::Dispatch { hop, .. } = action {
                // One use, which is given back when the entries are gone.
                match entry_id.and_then(|id| self.criteria_ids.get_mut(&id)) {
                    Some(origin) if !origin.hops.contains(&hop) => origin.hops.push(hop),
                    _ => self.leave_hop(hop),
                }
            }
        }
        // New ones first: nothing that both versions ask for is missed meanwhile.
        let awaited = changed.len();
        self.criteria_changes += 1;
        let number = self.criteria_changes;
        for (is_there, entry) in changed {
            let token = Token::Criterion(owner.clone(), number);
            self.put_criterion(is_there, entry, token);
        }
        let until = self.now + self.criteria_lease(owner.share);
        let set = CriteriaSet {
            epoch,
            version: new.version,
            until,
            entries,
            change: Some(Former {
                number,
                wanted: new.clone(),
                version: former.version,
                entries: former.entries,
                awaited,
                refused: None,
                next: None,
            }),
        };
        if let Some(s) = self.service(service) {
            s.criteria.insert(owner.clone(), set);
        }
        self.timers.at(until, Timer::Criteria(service));
        if awaited == 0 {
            self.criteria_settled(owner);
        }
        self.count_criteria();
    }

    /// How many criteria of a manager's have a cell.
    fn tallies_of(&self, owner: &Owner, part: Part) -> usize {
        let set = (self.services.get(usize::from(owner.share.service)))
            .and_then(|s| s.criteria.get(owner));
        let entries = set.into_iter().flat_map(|set| &set.entries);
        let mut slots: Vec<u32> = (entries.filter(|e| e.part == part && e.slot != 0))
            .map(|e| e.slot)
            .collect();
        slots.sort_unstable();
        slots.dedup();
        slots.len()
    }

    /// Another manager's entry for the same packets.
    fn twin(&self, entry: &CriterionEntry) -> Option<CriterionEntry> {
        (self
            .services
            .get(usize::from(entry.service))?
            .criteria
            .values())
        .find_map(|set| set.find(entry))
        .cloned()
    }

    /// Writes an entry of a set that is not among the service's sets at this moment.
    fn put_criterion(&mut self, is_there: bool, entry: CriterionEntry, token: Token) {
        let change = if is_there || self.twin(&entry).is_some() {
            Change::Modify
        } else {
            Change::Insert
        };
        self.writer.push(change, Entry::Criterion(entry), token);
    }

    /// Lets go of an entry of a set that is not among the service's sets at this moment: it goes, or is
    /// another manager's alone from now on.
    fn drop_criterion(&mut self, entry: CriterionEntry) {
        let id = entry.entry;
        let (change, entry) = match self.twin(&entry) {
            Some(twin) => (Change::Modify, twin),
            None => (Change::Delete, entry),
        };
        let token = Token::CriterionGone(id);
        self.writer.push(change, Entry::Criterion(entry), token);
    }

    /// Lets go of entries of a set that is not among the service's sets at this moment, and of all that
    /// hangs on their ids unless `kept` has them yet.
    fn drop_criteria(&mut self, gone: Vec<CriterionEntry>, kept: &[CriterionEntry]) {
        let mut entries: BTreeMap<u32, u32> = BTreeMap::new();
        for entry in gone {
            let awaited = entries.entry(entry.entry).or_default();
            if find(kept, &entry).is_none() {
                *awaited += 1;
                self.drop_criterion(entry);
            }
        }
        for (id, awaited) in entries {
            let mut left = kept.iter().filter(|e| e.entry == id).peekable();
            let is_gone = left.peek().is_none();
            if left.all(|e| e.slot == 0) {
                self.end_tally(id, awaited);
            }
            if is_gone && let Some(origin) = self.criteria_ids.remove(&id) {
                for hop in origin.hops {
                    self.leave_hop(hop);
                }
            }
        }
    }

    /// What a criterion's entries do; a next hop has its id from now on.
    fn criterion_action(&mut self, criterion: &Criterion) -> CriterionAct {
        let mask = criterion.interest;
        if let StaticAction::Dispatch { next_hop, tunnel } = criterion.action {
            return match self.take_hop(next_hop, tunnel) {
                Some(hop) => CriterionAct::Dispatch {
                    hop,
                    packet_events: mask.packet_events,
                    notice_events: mask.notice_events,
                },
                // `check_criteria` has seen the way and the room.
                None => CriterionAct::Discard,
            };
        }
        let else_drop = criterion.action == StaticAction::Drop;
        if mask.packet_events == 0 && mask.notice_events == 0 {
            return if else_drop {
                CriterionAct::Discard
            } else {
                CriterionAct::Pass
            };
        }
        CriterionAct::Ask {
            packet_events: mask.packet_events,
            notice_events: mask.notice_events,
            else_drop,
        }
    }

    /// The switch has answered for all that a new version needs: the old one goes, or comes back.
    fn criteria_settled(&mut self, owner: &Owner) {
        let service = owner.share.service;
        let set = (self.service(service)).and_then(|s| s.criteria.remove(owner));
        let Some(mut set) = set else { return };
        let Some(former) = set.change.take() else {
            return;
        };
        let gone = if former.refused.is_some() {
            let gone = std::mem::replace(&mut set.entries, former.entries);
            set.version = former.version;
            for entry in &set.entries {
                // What the new version has changed is again what it was.
                if find(&gone, entry).is_some_and(|g| g != entry) {
                    self.put_criterion(true, entry.clone(), Token::None);
                }
            }
            gone
        } else {
            former.entries
        };
        self.drop_criteria(gone, &set.entries);
        if let Some(s) = self.service(service)
            && (set.version != 0 || !set.entries.is_empty())
        {
            s.criteria.insert(owner.clone(), set);
        }
        match former.refused {
            None => self.accepted(owner),
            Some(error) => {
                let reason = match error {
                    WriteError::Full => Reason::TableFull,
                    _ => Reason::TargetRefused,
                };
                let text = format!("a criterion was not installed: {error}");
                let session = self.session_of(&owner.manager);
                match session.or_else(|| self.holder(owner.share)) {
                    Some(id) => self.put_off(id, owner, former.wanted, (reason, text)),
                    None => self.denied(reason),
                }
            }
        }
        if let Some((id, epoch, next)) = former.next {
            self.criteria(id, owner, epoch, &next);
        }
    }

    fn new_criterion_id(&mut self) -> u32 {
        let id = self.next_criterion;
        self.next_criterion = if id == LAST_ID { FIRST_ID } else { id + 1 };
        id
    }

    fn check_criteria(&self, owner: &Owner, list: &[Criterion]) -> Result<(), (Reason, String)> {
        let service = owner.share.service;
        let of = self.plan.services.get(usize::from(service));
        for part in [Part::Forward, Part::Reply] {
            let asks: &[PlannedCriterion] = match (of.map(|s| s.asks(owner.share.number)), part) {
                (Some((forward, _)), Part::Forward) => forward,
                (Some((_, reply)), Part::Reply) => reply,
                (None, _) => &[],
            };
            let wanted: usize = (list.iter().filter(|c| c.part == part))
                .map(|c| c.cubes.len())
                .sum();
            let Some(plan) = self.part_plan(service, part) else {
                if wanted == 0 {
                    continue;
                }
                return Err((
                    Reason::NotCovered,
                    "this service has no reply part".to_owned(),
                ));
            };
            // The floor and the plan's static entries have their place in the same table.
            let floors: usize = plan.criteria.iter().map(|c| c.cubes.len()).sum();
            if wanted + floors > plan.criteria_size as usize {
                return Err((
                    Reason::TableFull,
                    format!(
                        "{} holds {} entries",
                        plan.criteria_table, plan.criteria_size
                    ),
                ));
            }
            let counted = |c: &&Criterion| c.part == part && is_counted(&c.statistics);
            let (counted, free) = (
                list.iter().filter(counted).count(),
                (self.services.get(usize::from(service))).map_or(0, |s| s.criteria_room(part)),
            );
            if counted > free + self.tallies_of(owner, part) {
                return Err((
                    Reason::TableFull,
                    "no counter slot is free for a criterion".to_owned(),
                ));
            }
            let mine = list.iter().filter(|c| c.part == part);
            for criterion in mine {
                self.can_do(service, criterion)?;
                if criterion.priority <= FLOOR_PRIORITY {
                    return Err((
                        Reason::Malformed,
                        format!("criterion {} is not above the floor", criterion.id),
                    ));
                }
                for cube in &criterion.cubes {
                    if !covers_cube(asks, cube) {
                        return Err((
                            Reason::NotCovered,
                            format!("the policy gives no room for criterion {}", criterion.id),
                        ));
                    }
                }
            }
        }
        for (i, criterion) in list.iter().enumerate() {
            let twin = |other: &Criterion| {
                other.part == criterion.part
                    && other.priority == criterion.priority
                    && other.cubes.iter().any(|c| criterion.cubes.contains(c))
            };
            if list.iter().skip(i + 1).any(twin) {
                return Err((
                    Reason::Malformed,
                    format!("criterion {} is there twice", criterion.id),
                ));
            }
        }
        Ok(())
    }

    /// What this agent cannot do for a criterion, or its target for the affinities made under it (A2.2).
    fn can_do(&self, service: u8, criterion: &Criterion) -> Result<(), (Reason, String)> {
        let about = |(reason, text): (Reason, String)| {
            let text = format!("criterion {}: {text}", criterion.id);
            (reason, text)
        };
        let statistics = criterion.statistics;
        if statistics.flags || statistics.on_close {
            let text = "a criterion's reports tell no flags and no flow's end".to_owned();
            return Err(about((Reason::Unsupported, text)));
        }
        check_period(&statistics).map_err(about)?;
        if let StaticAction::Dispatch { next_hop, tunnel } = criterion.action {
            self.can_dispatch(service, next_hop, tunnel)
                .map_err(about)?;
        }
        for need in &criterion.needs {
            match need {
                Capability::Adjust => self.can_adjust(service),
                need => self.can(*need),
            }
            .map_err(about)?;
        }
        Ok(())
    }

    /// Ends criteria whose lease is over. Fixed affinities made under them live on (A9.4).
    pub(super) fn criteria_due(&mut self, service: u8) {
        let now = self.now;
        let Some(state) = self.service(service) else {
            return;
        };
        let over: Vec<Owner> = (state.criteria.iter())
            .filter(|(_, set)| set.until <= now)
            .map(|(owner, _)| owner.clone())
            .collect();
        if !over.is_empty() {
            let is_over = |owner: &Owner| over.contains(owner);
            self.cut_legs(|owner, _| is_over(owner), is_over);
        }
        let gone = self.take_out(service, over);
        self.counters.leases_expired += gone as u64;
        if let Some(next) = self.criteria_until(service) {
            self.timers.at(next, Timer::Criteria(service));
        }
        self.count_criteria();
    }

    /// Ends a service's criteria but those that stay, as if their lease were over.
    pub(super) fn end_criteria(
        &mut self,
        service: u8,
        stays: impl Fn((&Owner, &[CriterionEntry])) -> bool,
    ) {
        let Some(state) = self.service(service) else {
            return;
        };
        let over: Vec<Owner> = (state.criteria.iter())
            .filter(|(owner, set)| {
                let former = set.change.as_ref().map_or(&[][..], |c| &c.entries);
                !stays((owner, &set.entries)) || !stays((owner, former))
            })
            .map(|(owner, _)| owner.clone())
            .collect();
        self.take_out(service, over);
    }

    /// When the next lease of a service's criteria ends.
    pub(super) fn criteria_until(&self, service: u8) -> Option<Duration> {
        let state = self.services.get(usize::from(service))?;
        state.criteria.values().map(|set| set.until).min()
    }

    fn take_out(&mut self, service: u8, over: Vec<Owner>) -> usize {
        let Some(state) = self.service(service) else {
            return 0;
        };
        let mut gone = Vec::new();
        for owner in over {
            if let Some(set) = state.criteria.remove(&owner) {
                let former = set.change.map_or_else(Vec::new, |c| c.entries);
                let only_former = |e: &CriterionEntry| find(&set.entries, e).is_none();
                gone.extend(former.into_iter().filter(only_former));
                gone.extend(set.entries);
            }
        }
        let count = gone.len();
        self.drop_criteria(gone, &[]);
        count
    }

    /// Those count that the switch has acknowledged.
    pub(super) fn count_criteria(&mut self) {
        let now: usize = (self.services.iter().flat_map(|s| s.criteria.values()))
            .map(|set| set.entries.len() - set.pending())
            .sum();
        self.counters.criteria.set(now);
    }

    /// Every criterion that should be on the switch; one entry for those of two managers.
    pub(super) fn criteria_entries(&self) -> Vec<Entry> {
        let mut list: Vec<&CriterionEntry> = Vec::new();
        for service in &self.services {
            let first = list.len();
            let several = service.criteria.len() > 1;
            for entry in service.criteria.values().flat_map(|set| &set.entries) {
                let others = list.get(first..).unwrap_or_default();
                if !several || others.iter().all(|o| !is_same(o, entry)) {
                    list.push(entry);
                }
            }
        }
        (list.into_iter().cloned().map(Entry::Criterion)).collect()
    }

    /// The switch is gone: what was on its way is as good as in, for the next one gets it all.
    pub(super) fn criteria_cut_short(&mut self) {
        let open: Vec<Owner> = (self.services.iter().flat_map(|s| &s.criteria))
            .filter(|(_, set)| set.change.is_some())
            .map(|(owner, _)| owner.clone())
            .collect();
        for owner in open {
            self.criteria_settled(&owner);
        }
    }

    pub(super) fn criterion_written(
        &mut self,
        owner: &Owner,
        number: u64,
        result: Result<(), WriteError>,
    ) {
        let change = (self.service(owner.share.service))
            .and_then(|s| s.criteria.get_mut(owner))
            .and_then(|set| set.change.as_mut())
            .filter(|change| change.number == number);
        let Some(change) = change else { return };
        change.awaited = change.awaited.saturating_sub(1);
        if let Err(error) = result {
            change.refused.get_or_insert(error);
        }
        if change.awaited == 0 {
            self.criteria_settled(owner);
        }
        self.count_criteria();
    }
}
