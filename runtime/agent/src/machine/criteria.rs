//! Wildcard affinities: what managers want to be asked about, and for how long.
//!
//! One heartbeat renews all criteria of (manager, service); the floor beneath is a static entry and not
//! kept here, so that nothing can remove it.

use std::sync::Arc;
use std::time::Duration;

use super::timers::Timer;
use super::writer::Token;
use super::{Agent, SessionId, WriteError};
use crate::cover::covers_cube;
use crate::entry::{Change, CriterionAct, CriterionEntry, Entry};
use crate::flow::Part;
use crate::message::{AgentBody, Criteria, Criterion, Heartbeat, Reason};

/// Entry ids of managers' criteria; the plan's own are below, fixed entries' above.
pub(super) const FIRST_ID: u32 = 0x4000_0000;
const LAST_ID: u32 = 0x7fff_ffff;

/// Floors and static rules have their own priorities below and above.
const FLOOR_PRIORITY: i32 = 1;

/// What one manager has installed for one service.
#[derive(Debug, Default)]
pub(super) struct CriteriaSet {
    pub version: u64,
    pub until: Duration,
    pub entries: Vec<CriterionEntry>,
}

impl Agent {
    pub(super) fn heartbeat(
        &mut self,
        id: SessionId,
        service: u8,
        manager: &Arc<str>,
        beat: Heartbeat,
    ) {
        let until = self.now + self.criteria_lease(service);
        let set = self
            .service(service)
            .and_then(|s| s.criteria.get_mut(manager));
        let have = match set {
            Some(set) => {
                if set.version == beat.criteria_version {
                    set.until = until;
                }
                set.version
            }
            None => 0,
        };
        if have == beat.criteria_version {
            let ack = Heartbeat {
                sequence: beat.sequence,
                criteria_version: have,
            };
            self.send(id, service, AgentBody::HeartbeatAck(ack));
        } else {
            self.send(id, service, AgentBody::Resync { have_version: have });
        }
    }

    fn criteria_lease(&self, service: u8) -> Duration {
        let ms = self
            .plan
            .services
            .get(usize::from(service))
            .map_or(0, |s| s.limits.criteria_lease_ms);
        Duration::from_millis(ms)
    }

    pub(super) fn criteria(
        &mut self,
        id: SessionId,
        service: u8,
        manager: &Arc<str>,
        new: &Criteria,
    ) {
        let installed = (self.services.get(usize::from(service)))
            .and_then(|s| s.criteria.get(manager))
            .map_or(0, |set| set.version);
        if new.version <= installed {
            // Doubled or overtaken on its way: the newer one stands.
            return;
        }
        if let Err((reason, text)) = self.check_criteria(service, &new.list) {
            return self.deny(id, service, new.version, reason, text);
        }
        let mut old = self
            .service(service)
            .and_then(|s| s.criteria.remove(manager))
            .unwrap_or_default()
            .entries;
        let mut entries = Vec::new();
        let mut added = Vec::new();
        for criterion in &new.list {
            // Cubes of one criterion share an id.
            let mut entry_id = None;
            for cube in &criterion.cubes {
                let kept = old.iter().position(|e| {
                    e.part == criterion.part && e.priority == criterion.priority && e.cube == *cube
                });
                let mut entry = match kept {
                    Some(at) => old.swap_remove(at),
                    None => CriterionEntry {
                        service,
                        part: criterion.part,
                        cube: cube.clone(),
                        priority: criterion.priority,
                        action: CriterionAct::Pass,
                        entry: 0,
                        slot: 0,
                    },
                };
                let number = *entry_id.get_or_insert(if entry.entry == 0 {
                    self.new_criterion_id()
                } else {
                    entry.entry
                });
                let action = act(criterion);
                let change = match kept {
                    None => Some(Change::Insert),
                    Some(_) if entry.action != action || entry.entry != number => {
                        Some(Change::Modify)
                    }
                    Some(_) => None,
                };
                entry.action = action;
                entry.entry = number;
                self.criteria_ids.insert(number, (service, criterion.id));
                if let Some(change) = change {
                    added.push((change, entry.clone()));
                }
                entries.push(entry);
            }
        }
        // New ones first: nothing that both versions ask for is missed meanwhile.
        for (change, entry) in added {
            self.criteria_pending += 1;
            let token = Token::Criterion(service, entry.entry);
            self.writer.push(change, Entry::Criterion(entry), token);
        }
        for entry in old {
            self.writer
                .push(Change::Delete, Entry::Criterion(entry), Token::None);
        }
        let until = self.now + self.criteria_lease(service);
        if let Some(s) = self.service(service) {
            s.criteria.insert(
                manager.clone(),
                CriteriaSet {
                    version: new.version,
                    until,
                    entries,
                },
            );
        }
        self.timers.at(until, Timer::Criteria(service));
        self.count_criteria();
    }

    fn new_criterion_id(&mut self) -> u32 {
        let id = self.next_criterion;
        self.next_criterion = if id == LAST_ID { FIRST_ID } else { id + 1 };
        id
    }

    fn check_criteria(&self, service: u8, list: &[Criterion]) -> Result<(), (Reason, String)> {
        for part in [Part::Forward, Part::Reply] {
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
            let mine = list.iter().filter(|c| c.part == part);
            for criterion in mine {
                if criterion.priority <= FLOOR_PRIORITY {
                    return Err((
                        Reason::Malformed,
                        format!("criterion {} is not above the floor", criterion.id),
                    ));
                }
                for cube in &criterion.cubes {
                    if !covers_cube(&plan.criteria, cube) {
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

    /// Ends criteria whose lease is over. Fixed affinities made under them live on (A9.4).
    pub(super) fn criteria_due(&mut self, service: u8) {
        let now = self.now;
        let Some(state) = self.service(service) else {
            return;
        };
        let over: Vec<Arc<str>> = (state.criteria.iter())
            .filter(|(_, set)| set.until <= now)
            .map(|(manager, _)| manager.clone())
            .collect();
        let next = (state.criteria.values())
            .filter(|set| set.until > now)
            .map(|set| set.until)
            .min();
        let mut gone = Vec::new();
        for manager in over {
            if let Some(set) = state.criteria.remove(&manager) {
                gone.extend(set.entries);
            }
        }
        self.counters.leases_expired += gone.len() as u64;
        for entry in gone {
            self.criteria_ids.remove(&entry.entry);
            self.writer
                .push(Change::Delete, Entry::Criterion(entry), Token::None);
        }
        if let Some(next) = next {
            self.timers.at(next, Timer::Criteria(service));
        }
        self.count_criteria();
    }

    /// Those count that the switch has acknowledged.
    pub(super) fn count_criteria(&mut self) {
        let now: usize = (self.services.iter().flat_map(|s| s.criteria.values()))
            .map(|set| set.entries.len())
            .sum();
        let now = now.saturating_sub(self.criteria_pending);
        self.counters.criteria.set(now);
    }

    /// Every criterion that should be on the switch.
    pub(super) fn criteria_entries(&self) -> Vec<Entry> {
        (self.services.iter().flat_map(|s| s.criteria.values()))
            .flat_map(|set| set.entries.iter().cloned().map(Entry::Criterion))
            .collect()
    }

    pub(super) fn criterion_written(
        &mut self,
        service: u8,
        entry: u32,
        result: &Result<(), WriteError>,
    ) {
        self.criteria_pending = self.criteria_pending.saturating_sub(1);
        let Err(error) = result else {
            return self.count_criteria();
        };
        let reason = match error {
            WriteError::Full => Reason::TableFull,
            _ => Reason::TargetRefused,
        };
        let text = format!("a criterion was not installed: {error}");
        let mut version = 0;
        if let Some(state) = self.service(service) {
            for set in state.criteria.values_mut() {
                if set.entries.iter().any(|e| e.entry == entry) {
                    set.entries.retain(|e| e.entry != entry);
                    version = set.version;
                }
            }
        }
        self.count_criteria();
        self.denied(reason);
        self.tell(
            service,
            AgentBody::Denied(crate::message::Denied {
                request: version,
                reason,
                text,
            }),
        );
    }
}

fn act(criterion: &Criterion) -> CriterionAct {
    let mask = criterion.interest;
    if mask.packet_events == 0 && mask.notice_events == 0 {
        return if criterion.else_drop {
            CriterionAct::Discard
        } else {
            CriterionAct::Pass
        };
    }
    CriterionAct::Ask {
        packet_events: mask.packet_events,
        notice_events: mask.notice_events,
        else_drop: criterion.else_drop,
    }
}
