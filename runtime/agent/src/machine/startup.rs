//! The switch comes and goes: what is on it is taken over, brought in line, and opened last of all.
//!
//! The agent's state outlives the switch's absence. On a switch that was never away, entries of an agent
//! before this one are adopted: their flows go on, and end by their leases (DESIGN.md, invariant 5).

use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::store::{Direction, Flow, Phase, Progress};
use super::writer::Token;
use super::{Agent, Found, Link, Output, WriteError};
use crate::cover::covers_flow;
use crate::entry::{Cell, Entry, FixedAction, FixedEntry};
use crate::flow::{FlowKey, Part};
use crate::message::{InterestMask, Leases, Statistics, Totals};

impl Agent {
    pub(super) fn switch_up(&mut self, found: Found) {
        if self.link != Link::Down {
            self.switch_down("it came up again without having gone");
        }
        let cells: FxHashMap<Cell, Totals> = found.cells.iter().copied().collect();
        self.forget_ended();
        self.found_cells(&cells);
        if self.store.len() == 0 {
            self.adopt(&found.fixed, &cells);
        } else {
            self.rebase(&cells);
        }
        self.bring_in_line(&found);
    }

    /// Has the switch hold what it should, on top of what it does.
    pub(super) fn bring_in_line(&mut self, found: &Found) {
        self.link = Link::Reconciling;
        self.adopt_neighbours(&found.neighbours);
        let mut desired = self.neighbour_state();
        desired.extend(self.criteria_entries());
        for (at, flow) in self.store.iter() {
            for part in [Part::Reply, Part::Forward] {
                if flow.direction(part).is_some() {
                    desired.extend(flow.entry(at, part));
                }
            }
        }
        self.out.push(Output::Reconcile(desired));
    }

    pub(super) fn reconciled(&mut self) {
        if self.link != Link::Reconciling {
            return;
        }
        self.link = Link::Opening;
        for at in self.store.refs() {
            self.look_later(at);
        }
        self.insert(Entry::Ready, Token::Ready);
    }

    pub(super) fn opened(&mut self, result: &Result<(), WriteError>) {
        match result {
            Ok(()) => {
                self.link = Link::Ready;
                self.out.push(Output::Ready);
                self.opened_with_plan();
            }
            Err(error) => self.out.push(Output::Unusable(format!(
                "the switch refused the entry that opens the pipeline: {error}"
            ))),
        }
    }

    pub(super) fn switch_down(&mut self, reason: &str) {
        if self.link == Link::Down {
            return;
        }
        self.plan_cut_short();
        self.counters.switch_lost += 1;
        self.lose_touch();
        self.out
            .push(Output::Log(format!("the switch is gone: {reason}")));
    }

    /// What was under way to the switch is not any more.
    pub(super) fn lose_touch(&mut self) {
        self.link = Link::Down;
        self.writer.clear();
        for _ in 0..self.reads.clear() {
            self.out.push(Output::Refreshed);
        }
        self.criteria_cut_short();
        self.drop_held();
        self.drop_waiting();
        for at in self.store.refs() {
            let Some(flow) = self.store.get_mut(at) else {
                continue;
            };
            flow.looking = false;
            if let Phase::Installing(_) = flow.phase {
                // Decided is decided: it goes in when the switch is back.
                flow.phase = Phase::Live;
                let held = std::mem::take(&mut flow.held);
                let service = flow.service;
                self.counters.flows += 1;
                if flow.progress == Progress::HalfOpen {
                    self.counters.half_open.add(1);
                }
                self.start_timers(at);
                self.unreserve(&held, service);
                self.counters
                    .drop(crate::counters::Drop::NoSwitch, held.len() as u64);
            }
        }
    }

    /// Flows on their way out when the switch went away are gone with it.
    pub(super) fn forget_ended(&mut self) {
        for at in self.store.refs() {
            let ended = self
                .store
                .get(at)
                .is_some_and(|f| matches!(f.phase, Phase::Ending { .. } | Phase::Draining { .. }));
            if ended {
                self.finish(at);
            }
        }
    }

    /// What the switch's cells hold, those that are free included: their next flows count from there.
    pub(super) fn found_cells(&mut self, cells: &FxHashMap<Cell, Totals>) {
        for slots in self.services.iter_mut().flat_map(|s| &mut s.slots) {
            slots.forget();
        }
        for (cell, holds) in cells {
            if let Some(s) = self.services.get_mut(usize::from(cell.service)) {
                s.slots(cell.part).found(cell.slot, *holds);
            }
        }
    }

    /// A switch that has started afresh has empty cells: running totals go on from where they were.
    pub(super) fn rebase(&mut self, cells: &FxHashMap<Cell, Totals>) {
        for at in self.store.refs() {
            let Some(flow) = self.store.get_mut(at) else {
                continue;
            };
            let service = flow.service;
            for part in [Part::Forward, Part::Reply] {
                let Some(d) = flow.direction_mut(part) else {
                    continue;
                };
                let holds = Self::cell(service, part, d.slot)
                    .and_then(|cell| cells.get(&cell).copied())
                    .unwrap_or_default();
                if std::mem::take(&mut d.moved) {
                    d.carried = d.totals;
                    d.base = holds;
                    d.resumed = 0;
                } else if holds.packets < d.holds.packets {
                    d.carried = d.totals;
                    d.base = Totals::default();
                    d.resumed = 0;
                }
                d.holds = holds;
            }
        }
    }

    /// Takes over the flows of an agent before this one. An entry without its partner, or one that the
    /// plan does not cover any more, is not wanted and goes.
    fn adopt(&mut self, found: &[FixedEntry], cells: &FxHashMap<Cell, Totals>) {
        let by_key: FxHashMap<FlowKey, &FixedEntry> = found.iter().map(|e| (e.key, e)).collect();
        let mut used: FxHashMap<(u8, Part), Vec<u32>> = FxHashMap::default();
        let mut flows = Vec::new();
        for forward in found.iter().filter(|e| e.key.part == Part::Forward) {
            let FixedAction::Translate(to) = forward.action else {
                continue;
            };
            let reply_key = FlowKey {
                part: Part::Reply,
                tuple: to.reversed(),
                ..forward.key
            };
            let Some(reply) = by_key.get(&reply_key) else {
                continue;
            };
            let covered = [forward, *reply].into_iter().all(|e| {
                self.part_plan(e.key.service, e.key.part)
                    .is_some_and(|p| covers_flow(&p.criteria, &e.key.tuple, e.key.kind))
            });
            if !covered || reply.action != FixedAction::Translate(forward.key.tuple.reversed()) {
                continue;
            }
            for e in [forward, *reply] {
                used.entry((e.key.service, e.key.part))
                    .or_default()
                    .push(e.slot);
            }
            flows.push((*forward, **reply));
        }
        for ((service, part), slots) in &used {
            if let Some(s) = self.service(*service) {
                s.slots(*part).take(slots);
            }
        }
        for (forward, reply) in flows {
            self.adopt_flow(&forward, &reply, cells);
        }
        self.count_fixed();
    }

    fn adopt_flow(
        &mut self,
        forward: &FixedEntry,
        reply: &FixedEntry,
        cells: &FxHashMap<Cell, Totals>,
    ) {
        let service = forward.key.service;
        let Some(plan) = self.plan.services.get(usize::from(service)) else {
            return;
        };
        let leases = Leases {
            half_open_ms: Some(plan.limits.half_open_ms),
            idle_ms: Some(plan.limits.idle_ms),
            closed_ms: Some(plan.limits.closed_ms),
            hard_ms: None,
        };
        let direction = |e: &FixedEntry| {
            let holds = Self::cell(service, e.key.part, e.slot)
                .and_then(|cell| cells.get(&cell).copied())
                .unwrap_or_default();
            Direction {
                tuple: e.key.tuple,
                kind: e.key.kind,
                action: e.action,
                interest: InterestMask::default(),
                slot: e.slot,
                base: Totals::default(),
                carried: Totals::default(),
                holds,
                totals: holds,
                resumed: 0,
                watched: holds.packets,
                fin: false,
                moved: false,
            }
        };
        let flow = Flow {
            service,
            share: 0,
            number: 0,
            manager: "".into(),
            epoch: 0,
            cookie: Bytes::new(),
            forward: Some(direction(forward)),
            reply: Some(direction(reply)),
            phase: Phase::Live,
            progress: Progress::Established,
            leases,
            track_close: true,
            statistics: Statistics {
                count: true,
                every_ms: None,
                on_close: true,
                flags: false,
            },
            subject: None,
            together: false,
            refused: false,
            retries: 0,
            created: self.now,
            active: self.now,
            look: Duration::ZERO,
            looking: false,
            report_sequence: 0,
            held: Vec::new(),
        };
        if self.store.insert(flow).is_some()
            && let Some(s) = self.service(service)
        {
            *s.fixed(Part::Forward) += 1;
            *s.fixed(Part::Reply) += 1;
        }
    }
}
