//! The switch comes and goes: what is on it is taken over, brought in line, and opened last of all.
//!
//! The agent's state outlives the switch's absence. On a switch that was never away, entries of an agent
//! before this one are adopted: their flows go on, and end by their leases.

use rustc_hash::FxHashMap;

use super::flow_record::{Act, Cookie, Direction, Flow, Moment, Phase, Progress, Terms};
use super::install::hop_of;
use super::limits::watches_answers;
use super::shares::home;
use super::slots::Slots;
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
        self.forget_ended();
        let cells: FxHashMap<Cell, Totals> = found.cells.into_iter().collect();
        self.found_cells(&cells);
        self.adopt_neighbours(&found.neighbours);
        self.adopt_tunnels(&found.neighbours);
        if self.store.len() == 0 {
            self.adopt(&found.fixed, &cells);
        } else {
            self.rebase(&cells);
        }
        self.bring_in_line();
    }

    /// Has the switch hold what it should.
    pub(super) fn bring_in_line(&mut self) {
        self.link = Link::Reconciling;
        self.forget_refusals();
        self.drop_unused_tunnels();
        let mut desired = self.neighbour_state();
        desired.extend(self.tunnel_entries());
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
                self.start_static_tallies();
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
        self.tallies_cut_short();
        self.batches.clear();
        self.drop_fragments();
        for at in self.store.refs() {
            let Some(flow) = self.store.get_mut(at) else {
                continue;
            };
            flow.looking = false;
            let (held, service) = (flow.take_held(), flow.service);
            if let Phase::Installing(_) = flow.phase {
                // Decided is decided: it goes in when the switch is back.
                flow.phase = Phase::Live;
                flow.transit = None;
                self.counters.flows += 1;
                self.start_timers(at);
            }
            self.unreserve(&held, service);
            self.counters
                .drop(crate::counters::Drop::NoSwitch, held.len() as u64);
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
        for s in &mut self.services {
            (s.slots.iter_mut().chain(&mut s.criteria_slots)).for_each(Slots::forget);
        }
        for (cell, holds) in cells {
            if let Some(s) = self.services.get_mut(usize::from(cell.service)) {
                let fixed = s.slots(cell.part).has(cell.slot);
                let slots = if fixed {
                    s.slots(cell.part)
                } else {
                    s.criteria_slots(cell.part)
                };
                slots.found(cell.slot, *holds);
            }
        }
        self.rebase_tallies(|cell| cells.get(cell).copied().unwrap_or_default());
    }

    /// A switch that has started afresh has empty cells: running totals go on from where they were.
    pub(super) fn rebase(&mut self, cells: &FxHashMap<Cell, Totals>) {
        let header = self.target.header();
        for at in self.store.refs() {
            let Some(flow) = self.store.get_mut(at) else {
                continue;
            };
            let service = flow.service;
            for part in flow.parts() {
                let Some(d) = flow.direction_mut(part) else {
                    continue;
                };
                let holds = Self::cell(service, part, d.slot)
                    .and_then(|cell| cells.get(&cell).copied())
                    .unwrap_or_default();
                d.rebase(holds, header);
            }
        }
    }

    /// Takes over the flows of an agent before this one. A translating or adjusting entry without its partner, one that
    /// the plan does not cover any more, or that leads to where nobody is known, is not wanted and goes.
    fn adopt(&mut self, found: &[FixedEntry], cells: &FxHashMap<Cell, Totals>) {
        let by_key: FxHashMap<FlowKey, &FixedEntry> = found.iter().map(|e| (e.key, e)).collect();
        let mut used: FxHashMap<(u8, Part), Vec<u32>> = FxHashMap::default();
        let mut flows = Vec::new();
        for forward in found.iter().filter(|e| e.key.part == Part::Forward) {
            let reply = match forward.action {
                FixedAction::Translate(to) => {
                    let reply_key = FlowKey {
                        part: Part::Reply,
                        tuple: to.reversed(),
                        ..forward.key
                    };
                    let home = FixedAction::Translate(forward.key.tuple.reversed());
                    match by_key.get(&reply_key) {
                        Some(reply) if reply.action == home => Some(**reply),
                        _ => continue,
                    }
                }
                // A gate translates nothing, and adjusts both directions.
                FixedAction::Adjust(_) => {
                    let reply_key = FlowKey {
                        part: Part::Reply,
                        tuple: forward.key.tuple.reversed(),
                        ..forward.key
                    };
                    match by_key.get(&reply_key) {
                        Some(reply) if matches!(reply.action, FixedAction::Adjust(_)) => {
                            Some(**reply)
                        }
                        _ => continue,
                    }
                }
                FixedAction::Forward | FixedAction::Discard | FixedAction::Dispatch { .. } => None,
            };
            let entries = || [Some(*forward), reply].into_iter().flatten();
            let covered = entries().all(|e| {
                self.part_plan(e.key.service, e.key.part)
                    .is_some_and(|p| covers_flow(&p.criteria, &e.key.tuple, e.key.kind))
            });
            if !covered || entries().any(|e| !self.leads_somewhere(&e)) {
                continue;
            }
            for e in entries() {
                used.entry((e.key.service, e.key.part))
                    .or_default()
                    .push(e.slot);
            }
            flows.push((*forward, reply));
        }
        for ((service, part), slots) in &used {
            if let Some(s) = self.service(*service) {
                s.slots(*part).take(slots);
            }
        }
        for (forward, reply) in flows {
            self.adopt_flow(&forward, reply.as_ref(), cells);
        }
        self.count_fixed();
    }

    /// Whether an entry's next hop and tunnel are those that were taken over.
    fn leads_somewhere(&self, e: &FixedEntry) -> bool {
        let FixedAction::Dispatch { next_hop, tunnel } = e.action else {
            return true;
        };
        let via = self.neighbours.address_of(next_hop);
        let server = match tunnel {
            0 => via,
            _ => self.tunnels.of(tunnel).map(|(server, _)| server),
        };
        let leads = server.and_then(|to| self.next_hop(to)).map(|(_, via)| via);
        via.is_some() && leads == via
    }

    fn adopt_flow(
        &mut self,
        forward: &FixedEntry,
        reply: Option<&FixedEntry>,
        cells: &FxHashMap<Cell, Totals>,
    ) {
        let service = forward.key.service;
        let plan = self.plan.clone();
        let Some(plan) = plan.services.get(usize::from(service)) else {
            return;
        };
        let limits = &plan.limits;
        let terms = Terms {
            manager: "".into(),
            epoch: 0,
            leases: Leases {
                half_open_ms: Some(limits.half_open_ms),
                idle_ms: Some(limits.idle_ms),
                closed_ms: Some(limits.closed_ms),
                hard_ms: None,
            },
            track_close: true,
            statistics: Statistics {
                count: true,
                every_ms: None,
                on_close: true,
                flags: false,
            },
            watch_answer: watches_answers(limits),
        };
        let direction = |e: &FixedEntry| {
            let holds = Self::cell(service, e.key.part, e.slot)
                .and_then(|cell| cells.get(&cell).copied())
                .unwrap_or_default();
            let act = match e.action {
                FixedAction::Forward => Act::Forward,
                FixedAction::Discard => Act::Discard,
                FixedAction::Dispatch { next_hop, tunnel } => Act::Dispatch { next_hop, tunnel },
                FixedAction::Translate(_) => Act::AsPartner,
                FixedAction::Adjust(by) => Act::Adjust(by),
            };
            let (tuple, kind) = (e.key.tuple, e.key.kind);
            let cell = (e.slot, holds);
            let mut d = Direction::new(tuple, kind, act, InterestMask::default(), cell);
            // Its totals go on from what it has counted.
            d.offset = Totals::default();
            d.look();
            Box::new(d)
        };
        let now = Moment::from(self.now);
        let mut flow = Flow {
            number: 0,
            forward: Some(direction(forward)),
            reply: reply.map(direction),
            terms: self.store.shared(terms),
            cookie: Cookie::from(&[][..]),
            transit: None,
            created: now,
            active: now,
            look: Moment::default(),
            report: Moment::default(),
            share: 0,
            criterion: 0,
            report_sequence: 0,
            service,
            phase: Phase::Live,
            progress: Progress::Established,
            opener: Part::Forward,
            looking: false,
            reset: false,
            in_rest: false,
        };
        flow.share = home(plan, &flow);
        let parts: Vec<Part> = flow.parts().collect();
        let hops: Vec<_> = flow.directions().filter_map(|d| hop_of(&d.act)).collect();
        if self.store.insert(flow).is_some() {
            for hop in hops {
                self.keep_hop(hop);
            }
            if let Some(s) = self.service(service) {
                for part in parts {
                    *s.fixed(part) += 1;
                }
            }
        }
    }
}
