//! Another plan for an agent that runs: what it covers stays, what it no longer covers ends.
//!
//! With the same program only entries change: new ones go in before old ones go out, so that packets which
//! both plans treat alike never meet a gap. Another program needs another pipeline: the agent lets what is
//! under way come to its end, has the pipeline loaded, takes its flows, neighbours and criteria over to the
//! new plan's tables, and opens the pipeline when all of them are in again, as at a start.
//!
//! Managers work from the agent's plan or not at all: their sessions end, and open again once they have the
//! new one. Their criteria live on meanwhile, as far as the new plan covers them, until their lease ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use signalbox_lower::diff::Edits;
use signalbox_lower::plan::{PartPlan, Plan};

use super::accept::adjusts;
use super::criteria::CriteriaSet;
use super::flow_record::{Flow, Phase, minus};
use super::neighbours::next_hop_by;
use super::shares::{Owner, Share, Tenure};
use super::slots::Slots;
use super::store::FlowRef;
use super::timers::Timer;
use super::watch::Purpose;
use super::writer::Token;
use super::{Agent, Found, Link, Output, Service, SessionId, WriteError};
use crate::cover::{covers_cube, covers_flow};
use crate::entry::{Cell, Change, Entry, FixedAction};
use crate::flow::{Part, Tuple};
use crate::message::{Reason, ReportCause, Totals};

/// A plan that waits for its program.
#[derive(Debug)]
pub(super) struct Coming {
    plan: Arc<Plan>,
    /// The switch has been told; until it has answered, nothing is said to it.
    loading: bool,
}

/// What has become of a plan's coming into force.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PlanChange {
    /// Flows that go on.
    pub kept: usize,
    /// Flows that were ended because the plan no longer covers them.
    pub ended: usize,
    /// Updates that the switch has refused, as it put it.
    pub refused: Vec<String>,
}

/// A change whose entries are on their way.
#[derive(Debug)]
pub(super) struct Entering {
    change: PlanChange,
    /// Updates that the switch has not answered.
    awaited: usize,
}

/// A service's index in the old plan and in the new one.
type Places = BTreeMap<u8, u8>;

pub(super) fn part_of(plan: &Plan, service: u8, part: Part) -> Option<&PartPlan> {
    let service = plan.services.get(usize::from(service))?;
    match part {
        Part::Forward => Some(&service.forward),
        Part::Reply => service.reply.as_ref(),
    }
}

/// Where the services of one plan are in another; those of another name or kind are others.
fn places(old: &Plan, new: &Plan) -> Places {
    let new_at = |name: &str, kind| {
        (new.services.iter())
            .position(|s| s.name == name && s.kind == kind)
            .and_then(|at| u8::try_from(at).ok())
    };
    (old.services.iter().zip(0u8..))
        .filter_map(|(service, at)| Some((at, new_at(&service.name, service.kind)?)))
        .collect()
}

impl Agent {
    /// A new plan has come.
    pub(super) fn new_plan(&mut self, plan: Arc<Plan>) {
        let busy = self.coming.is_some() || self.entering.is_some();
        if self.link != Link::Ready || busy {
            let why = if busy {
                "another plan is coming into force; apply this one afterwards"
            } else {
                "the switch is away; apply the policy when it is back"
            };
            return self.out.push(Output::PlanRefused(why.into()));
        }
        if plan.program_id == self.plan.program_id {
            return self.enter(plan);
        }
        // The last counts before a switch that may begin from zero.
        for at in self.store.refs() {
            if (self.store.get(at)).is_some_and(|f| f.phase == Phase::Live) {
                self.read_cells(at, Purpose::Refresh);
            }
        }
        let loading = false;
        self.coming = Some(Coming { plan, loading });
    }

    /// Whether the switch is between two programs: nothing that it has sent can be understood.
    pub(super) fn is_between_programs(&self) -> bool {
        self.coming.as_ref().is_some_and(|c| c.loading)
    }

    /// Whether writes wait for another program.
    pub(super) fn writes_wait(&self) -> bool {
        self.coming.is_some()
    }

    /// Has the program loaded once nothing is under way.
    pub(super) fn load_when_quiet(&mut self) {
        if let Some(coming) = &mut self.coming
            && !coming.loading
            && self.writer.is_idle()
            && self.reads.is_idle()
        {
            coming.loading = true;
            let plan = coming.plan.clone();
            let cells = self.moves_cells(&plan);
            self.out.push(Output::LoadProgram { cells });
        }
    }

    /// Whether flows that stay have other counter cells by another plan.
    fn moves_cells(&self, plan: &Plan) -> bool {
        let range = |p: &PartPlan| (p.first_fixed_slot(), p.fixed_size);
        (places(&self.plan, plan).into_iter()).any(|(from, to)| {
            [Part::Forward, Part::Reply].into_iter().any(|part| {
                let old = part_of(&self.plan, from, part).map(range);
                let new = part_of(plan, to, part).map(range);
                old != new
            })
        })
    }

    /// The switch would not take the program: all is as before.
    pub(super) fn program_refused(&mut self, reason: String) {
        if self.coming.take().is_some() {
            self.out.push(Output::PlanRefused(reason));
        }
    }

    /// The switch runs the program, shut, and this is on it.
    pub(super) fn program_loaded(&mut self, found: Found, kept: bool) {
        let Some(Coming { plan, .. }) = self.coming.take() else {
            return;
        };
        self.out.push(Output::PlanTaken);
        self.lose_touch();
        self.forget_ended();
        let places = places(&self.plan, &plan);
        let (change, moved) =
            self.replace_plan(plan, &places, |agent, plan| agent.take_over(plan, &places));
        self.count_fixed();
        self.entering = Some(Entering { change, awaited: 0 });
        if !kept {
            let cells: FxHashMap<_, _> = found.cells.iter().copied().collect();
            self.found_cells(&cells);
            self.begin_cells(&moved, &cells);
            self.rebase(&cells);
        }
        self.adopt_neighbours(&found.neighbours);
        self.adopt_tunnels(&found.neighbours);
        self.bring_in_line();
    }

    /// The pipeline is open: a plan with another program is in force.
    pub(super) fn opened_with_plan(&mut self) {
        if let Some(Entering { change, .. }) = self.entering.take() {
            self.out.push(Output::PlanInForce(change));
        }
    }

    /// The switch went away in the middle.
    pub(super) fn plan_cut_short(&mut self) {
        if self.coming.take().is_some() {
            let why = "the switch went away; the former policy stays";
            self.out.push(Output::PlanRefused(why.into()));
        }
        if let Some(Entering { mut change, .. }) = self.entering.take() {
            let why = "the switch went away in the middle: what is left follows when it is back";
            change.refused.push(why.into());
            self.out.push(Output::PlanInForce(change));
        }
    }

    /// A plan with the same program comes into force in place.
    fn enter(&mut self, plan: Arc<Plan>) {
        let before = self.standing_entries();
        // The same program has the same tables in the same order; a service may still be another one.
        let mut places = places(&self.plan, &plan);
        places.retain(|from, to| from == to);
        let (change, ()) = self.replace_plan(plan, &places, |agent, plan| {
            agent.begin_others(plan, &places);
        });
        self.start_static_tallies();
        self.out.push(Output::PlanTaken);
        let after = self.standing_entries();
        let edits = Edits::between(&before, &after, Entry::table_key);
        let removed = edits.removed.into_iter().rev();
        let updates = (edits.added.into_iter().map(|e| (Change::Insert, e)))
            .chain(edits.changed.into_iter().map(|(_, e)| (Change::Modify, e)))
            .chain(removed.map(|e| (Change::Delete, e)));
        let mut awaited = 0;
        for (how, entry) in updates {
            awaited += 1;
            self.writer.push(how, entry, Token::Plan);
        }
        // These tell of themselves.
        self.write_static_neighbours();
        self.entering = Some(Entering { change, awaited });
        if awaited == 0 {
            self.opened_with_plan();
        }
    }

    /// What comes into force with any plan; `services` brings the services' own state in line, after what
    /// the plan does not cover has ended.
    fn replace_plan<T>(
        &mut self,
        plan: Arc<Plan>,
        places: &Places,
        services: impl FnOnce(&mut Self, &Plan) -> T,
    ) -> (PlanChange, T) {
        let old = self.plan.clone();
        let change = self.end_uncovered(&plan, places);
        self.forget_refusals();
        self.dismiss();
        let place = |service| places.get(&service).copied();
        self.legs.move_services(place);
        self.heard.move_services(place);
        let done = services(self, &plan);
        self.retarget_tallies(&old, &plan, places);
        self.retarget_neighbours(&plan);
        self.plan_hash = crate::plan_hash(&plan);
        self.plan = plan;
        self.retarget_tunnels();
        self.move_shares();
        self.drop_strangers();
        (change, done)
    }

    /// Services that are others than those in their places before begin with nothing.
    fn begin_others(&mut self, plan: &Plan, places: &Places) {
        for (service, at) in plan.services.iter().zip(0u8..) {
            if places.contains_key(&at) {
                continue;
            }
            self.end_criteria(at, |_| false);
            if let Some(state) = self.service(at) {
                state.name = service.name.as_str().into();
                state.shares = BTreeMap::from([(0, Tenure::default())]);
            }
        }
    }

    /// The switch has answered for one of a plan's entries.
    pub(super) fn plan_written(&mut self, result: Result<(), WriteError>) {
        let Some(entering) = &mut self.entering else {
            return;
        };
        if let Err(error) = result {
            entering.change.refused.push(error.to_string());
        }
        entering.awaited = entering.awaited.saturating_sub(1);
        if entering.awaited == 0 {
            self.opened_with_plan();
        }
    }

    /// What the plan and its neighbours have on the switch, in the order in which it must be written.
    fn standing_entries(&self) -> Vec<Entry> {
        let statics = self.plan.static_entries();
        let mut entries: Vec<Entry> = statics.into_iter().map(Entry::Static).collect();
        entries.extend(self.neighbours_standing());
        entries.extend(self.tunnels_standing());
        entries
    }

    /// Ends every flow that a plan no longer covers, or has no room for.
    fn end_uncovered(&mut self, plan: &Plan, places: &Places) -> PlanChange {
        let mut change = PlanChange::default();
        let mut by_service: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        let mut fixed: FxHashMap<(u8, Part), u32> = FxHashMap::default();
        for at in self.store.refs() {
            let Some(flow) = self.store.get(at) else {
                continue;
            };
            if matches!(flow.phase, Phase::Ending { .. } | Phase::Draining { .. }) {
                continue;
            }
            let to = places.get(&flow.service).copied();
            let fits = to.is_some_and(|to| {
                let has_room = |part: Part| {
                    let count = fixed.get(&(to, part)).copied().unwrap_or(0);
                    flow.direction(part).is_none()
                        || part_of(plan, to, part).is_some_and(|p| count < p.fixed_size)
                };
                self.is_covered(plan, to, flow) && has_room(Part::Forward) && has_room(Part::Reply)
            });
            if let Some(to) = to.filter(|_| fits) {
                for part in [Part::Forward, Part::Reply] {
                    if flow.direction(part).is_some() {
                        *fixed.entry((to, part)).or_default() += 1;
                    }
                }
                change.kept += 1;
                continue;
            }
            let name = self.services.get(usize::from(flow.service));
            if let Some(name) = name.map(|s| s.name.clone()) {
                *by_service.entry(name).or_default() += 1;
            }
            change.ended += 1;
            self.end(at, ReportCause::Deleted, 0);
        }
        for (service, flows) in by_service {
            self.out.push(Output::Log(format!(
                "{service}: {flows} flows have ended that the new policy does not cover"
            )));
        }
        change
    }

    /// Whether a plan lets a service keep a flow: by the rules that would let it install the flow now.
    fn is_covered(&self, plan: &Plan, service: u8, flow: &Flow) -> bool {
        [Part::Forward, Part::Reply].into_iter().all(|part| {
            let Some(d) = flow.direction(part) else {
                return true;
            };
            let covers = |part, tuple: Tuple| {
                part_of(plan, service, part)
                    .is_some_and(|p| p.fixed.is_some() && covers_flow(&p.criteria, &tuple, d.kind))
            };
            let does = match flow.action(part) {
                Some(FixedAction::Translate(to)) => covers(part.other(), to.reversed()),
                Some(FixedAction::Dispatch { next_hop, .. }) => {
                    self.still_leads(plan, service, flow.action(part), next_hop)
                }
                Some(FixedAction::Adjust(_)) => adjusts(plan, service),
                Some(FixedAction::Forward | FixedAction::Discard) | None => true,
            };
            covers(part, d.tuple) && does
        })
    }

    /// Whether a plan still lets a service dispatch there, and the way is the same.
    fn still_leads(
        &self,
        plan: &Plan,
        service: u8,
        action: Option<FixedAction>,
        next_hop: u16,
    ) -> bool {
        let Some((server, _)) = action.and_then(|action| self.hop_of_entry(action)) else {
            return false;
        };
        let pool = (plan.services.get(usize::from(service))).and_then(|s| s.balance.as_ref());
        let is_server = pool.is_none_or(|b| b.servers.iter().any(|s| s.address == server));
        let via = next_hop_by(plan, server).map(|(_, via)| via);
        is_server
            && via == self.neighbours.address_of(next_hop)
            && self.neighbour_stays(plan, next_hop)
    }

    /// Ends every session: managers come back when they have the new plan.
    fn dismiss(&mut self) {
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in sessions {
            self.session_closed(id);
            let text = "the agent has another plan from now on".to_owned();
            self.send_away(id, Reason::WrongPlan, text);
        }
    }

    /// Criteria that the plan in force does not let their manager have end now. What is left stays until
    /// the manager says what it wants by this plan.
    fn drop_strangers(&mut self) {
        let plan = self.plan.clone();
        for service in (0u8..).take(plan.services.len()) {
            let Some(of) = plan.services.get(usize::from(service)) else {
                continue;
            };
            let owners: Vec<Owner> = (self.services.get(usize::from(service)))
                .map_or_else(Vec::new, |s| s.criteria.keys().cloned().collect());
            let serving: Vec<Owner> = (owners.into_iter())
                .filter(|owner| self.serves(&owner.manager, owner.share))
                .collect();
            self.end_criteria(service, |(owner, entries)| {
                let (forward, reply) = of.asks(owner.share.number);
                serving.contains(owner)
                    && entries.iter().all(|e| {
                        let asks = match e.part {
                            Part::Forward => forward,
                            Part::Reply => reply,
                        };
                        covers_cube(asks, &e.cube)
                    })
            });
            let left = self.service(service).map(|s| s.criteria.values_mut());
            left.into_iter()
                .flatten()
                .for_each(CriteriaSet::forget_version);
            if let Some(next) = self.criteria_until(service) {
                self.timers.at(next, Timer::Criteria(service));
            }
        }
        self.count_criteria();
    }

    /// Takes services, criteria and flows over to the places that they have in another plan. Returns the
    /// directions that have other counter cells from now on.
    fn take_over(&mut self, plan: &Plan, places: &Places) -> Vec<(FlowRef, Part)> {
        let mut old: BTreeMap<u8, Service> = (std::mem::take(&mut self.services).into_iter())
            .zip(0u8..)
            .map(|(service, at)| (at, service))
            .collect();
        let back: BTreeMap<u8, u8> = places.iter().map(|(from, to)| (*to, *from)).collect();
        for (service, at) in plan.services.iter().zip(0u8..) {
            let fresh = Service::new(service);
            let kept = back.get(&at).and_then(|from| old.remove(from));
            self.services.push(match kept {
                None => fresh,
                Some(kept) => Service {
                    criteria: moved_criteria(kept.criteria, at),
                    shares: kept.shares,
                    fixed: kept.fixed,
                    slots: kept.slots,
                    criteria_slots: kept.criteria_slots,
                    door: kept.door,
                    ..fresh
                },
            });
        }
        self.criteria_ids.retain(|_, origin| {
            let to = places.get(&origin.owner.share.service);
            if let Some(to) = to {
                origin.owner.share.service = *to;
            }
            to.is_some()
        });
        // Flows of services that are gone have ended.
        self.store
            .move_services(|from| places.get(&from).copied().unwrap_or(from));
        let mut moved = Vec::new();
        for (service, at) in plan.services.iter().zip(0u8..) {
            for (part, part_plan) in [
                (Part::Forward, Some(&service.forward)),
                (Part::Reply, service.reply.as_ref()),
            ] {
                self.resize_slots(at, part, part_plan, &mut moved);
            }
        }
        moved
    }

    /// Directions that have got other cells count from what those hold.
    fn begin_cells(&mut self, moved: &[(FlowRef, Part)], cells: &FxHashMap<Cell, Totals>) {
        let header = self.target.header();
        for (at, part) in moved {
            let Some(flow) = self.store.get_mut(*at) else {
                continue;
            };
            let service = flow.service;
            let Some(d) = flow.direction_mut(*part) else {
                continue;
            };
            let holds = (Self::cell(service, *part, d.slot))
                .and_then(|cell| cells.get(&cell).copied())
                .unwrap_or_default();
            d.offset = minus(d.totals(header), holds);
            d.resumed = 0;
            d.holds = holds;
        }
    }

    /// Counter cells of a part in another place or number: its flows get new ones, and their totals go on.
    fn resize_slots(
        &mut self,
        service: u8,
        part: Part,
        plan: Option<&PartPlan>,
        moved: &mut Vec<(FlowRef, Part)>,
    ) {
        let mut wanted = plan.map_or_else(Slots::default, |p| {
            Slots::new(p.first_fixed_slot(), p.fixed_size)
        });
        let same = (self.service(service)).is_none_or(|s| s.slots(part).has_range_of(&wanted));
        if same {
            return;
        }
        let flows: Vec<FlowRef> = (self.store.iter())
            .filter(|(_, f)| f.service == service)
            .map(|(at, _)| at)
            .collect();
        for at in flows {
            let direction = (self.store.get_mut(at)).and_then(|f| f.direction_mut(part));
            if let Some(d) = direction.filter(|d| d.slot != 0) {
                d.slot = wanted.allocate().map_or(0, |(slot, _)| slot);
                moved.push((at, part));
            }
        }
        // Managers' criteria have cells beside these: they come again, with their managers.
        self.end_criteria(service, |_| false);
        if let Some(plan) = plan {
            let fresh = super::tallies::criteria_slots(plan);
            if let Some(s) = self.service(service) {
                *s.criteria_slots(part) = fresh;
            }
        }
        if let Some(s) = self.service(service) {
            *s.slots(part) = wanted;
        }
    }
}

/// Criteria of a service that has another place.
fn moved_criteria(
    criteria: BTreeMap<Owner, CriteriaSet>,
    service: u8,
) -> BTreeMap<Owner, CriteriaSet> {
    (criteria.into_iter())
        .map(|(owner, mut set)| {
            for entry in &mut set.entries {
                entry.service = service;
            }
            let share = Share {
                service,
                ..owner.share
            };
            (Owner { share, ..owner }, set)
        })
        .collect()
}
