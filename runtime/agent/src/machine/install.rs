//! A fixed affinity's way in: acceptance, then the reply entry, then the forward one, then the packets.
//!
//! A request is taken whole or not at all (SEMANTICS, "Denied with a reason"): everything is checked before
//! anything changes, and what the switch refuses half-way is taken back. A flow that is alive is never
//! evicted for another one that wants its tuple.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashSet;

use super::shares::Share;
use super::store::{Direction, Flow, FlowRef, MAX_FLOWS, Phase, Progress};
use super::timers::Timer;
use super::writer::Token;
use super::{Agent, Link, SessionId, WriteError};
use crate::cover::covers_flow;
use crate::entry::{Change, FixedAction};
use crate::flow::{FlowKey, Part, Tuple, events};
use crate::message::{
    Action, AgentBody, COOKIE_MAX, Denied, FixedAffinity, Reason, ReportCause, Subject, Totals,
    Tunnel,
};

type Refusal = (Reason, String);

/// What an accepted affinity does. A next hop gets its id only when the whole request is accepted.
#[derive(Debug, Clone, Copy)]
enum Act {
    Entry(FixedAction),
    Dispatch(IpAddr),
}

/// The directions of one flow in a request, checked.
struct Wanted<'a> {
    first: &'a FixedAffinity,
    forward: Option<(&'a FixedAffinity, Act)>,
    reply: Option<(&'a FixedAffinity, Act)>,
}

impl Wanted<'_> {
    fn directions(&self) -> impl Iterator<Item = (&FixedAffinity, Act)> {
        self.forward.iter().chain(&self.reply).copied()
    }

    /// The forward match that says which flow it is, also where only the reply is wanted.
    fn forward_tuple(&self) -> Option<Tuple> {
        (self.forward.map(|(a, _)| a.tuple)).or_else(|| self.reply.and_then(|(a, _)| a.partner))
    }
}

/// What becomes of one flow of a request.
enum Step {
    /// It is there already.
    Renew(FlowRef),
    /// It goes in; the dead ones in its place, or its own former self, go before.
    Install { instead_of: Vec<FlowRef> },
}

fn is_counted(a: &FixedAffinity) -> bool {
    a.statistics.count || a.leases.idle_ms.is_some() || a.actions.contains(&Action::Count)
}

impl Agent {
    /// Installs all of the affinities, or denies all of them: `false`.
    pub(super) fn install(
        &mut self,
        id: SessionId,
        share: Share,
        manager: &Arc<str>,
        subject: Subject,
        affinities: &[FixedAffinity],
    ) -> bool {
        let service = share.service;
        let accepted = self.accept(affinities, service).and_then(|wanted| {
            let steps = self.steps(service, &wanted)?;
            Ok((wanted, steps))
        });
        let (wanted, steps) = match accepted {
            Ok(accepted) => accepted,
            Err((reason, text)) => {
                self.deny(id, share, subject, reason, text);
                return false;
            }
        };
        let together = wanted.len();
        for (flow, step) in wanted.iter().zip(steps) {
            match step {
                Step::Renew(at) => self.renew(at, flow),
                Step::Install { instead_of } => {
                    for at in instead_of {
                        self.end(at, ReportCause::Deleted, 0);
                    }
                    self.install_flow(share, manager, subject, flow, together > 1);
                }
            }
        }
        true
    }

    /// Says what each flow of a request needs, and that there is room for all of it. Changes nothing.
    fn steps(&mut self, service: u8, wanted: &[Wanted<'_>]) -> Result<Vec<Step>, Refusal> {
        let mut seen: FxHashSet<FlowKey> = FxHashSet::default();
        let mut steps = Vec::with_capacity(wanted.len());
        for flow in wanted {
            let mut there: Vec<FlowRef> = Vec::new();
            for (a, _) in flow.directions() {
                let key = FlowKey {
                    service,
                    part: a.part,
                    tuple: a.tuple,
                    kind: a.kind,
                };
                if !seen.insert(key) {
                    return Err((
                        Reason::Malformed,
                        format!("two flows of the request want `{}`", a.tuple),
                    ));
                }
                let Some(at) = self.store.find(&key) else {
                    continue;
                };
                if let Some(holder) = self.store.get(at)
                    && holder.progress != Progress::Closed
                    && let Some(forward) = holder.forward.as_ref().map(|d| d.tuple)
                    && Some(forward) != flow.forward_tuple()
                {
                    return Err((
                        Reason::Conflict,
                        format!("`{}` belongs to `{forward}`, which is alive", a.tuple),
                    ));
                }
                if !there.contains(&at) {
                    there.push(at);
                }
            }
            steps.push(match there.as_slice() {
                [at] if self.is_same(*at, flow) => Step::Renew(*at),
                _ => Step::Install { instead_of: there },
            });
        }
        self.room(service, wanted.iter().zip(&steps))?;
        Ok(steps)
    }

    /// Whether tables, slots, store and neighbours have room for what goes in.
    fn room<'a, 'b: 'a>(
        &mut self,
        service: u8,
        flows: impl Iterator<Item = (&'a Wanted<'b>, &'a Step)>,
    ) -> Result<(), Refusal> {
        let full = |text: String| Err((Reason::TableFull, text));
        let mut installs = 0;
        let mut entries = [(Part::Forward, 0u32, 0usize), (Part::Reply, 0, 0)];
        let mut hops = Vec::new();
        for (flow, step) in flows {
            let install = matches!(step, Step::Install { .. });
            installs += usize::from(install);
            for (a, act) in flow.directions() {
                if let Act::Dispatch(to) = act
                    && !hops.contains(&to)
                {
                    hops.push(to);
                }
                for (part, fixed, slots) in &mut entries {
                    if install && *part == a.part {
                        *fixed += 1;
                        *slots += usize::from(is_counted(a));
                    }
                }
            }
        }
        for (part, fixed, slots) in entries {
            let size = self.part_plan(service, part).map_or(0, |p| p.fixed_size);
            let Some(s) = self.service(service) else {
                continue;
            };
            if fixed > 0 && s.fixed(part).saturating_add(fixed) > size {
                return full(format!("the table holds {size} fixed affinities"));
            }
            if slots > s.slots(part).room() {
                return full("no counter slot is free".to_owned());
            }
        }
        if self.store.len() + installs > MAX_FLOWS {
            return full("the agent holds no more flows".to_owned());
        }
        if !self.neighbours_have_room(&hops) {
            return full("the agent knows no more neighbours".to_owned());
        }
        Ok(())
    }

    fn accept<'a>(
        &self,
        affinities: &'a [FixedAffinity],
        service: u8,
    ) -> Result<Vec<Wanted<'a>>, Refusal> {
        if !affinities.is_empty() && !matches!(self.link, Link::Ready | Link::Opening) {
            return Err((Reason::NoSwitch, "the switch is away".into()));
        }
        let mut wanted: Vec<Wanted<'a>> = Vec::new();
        for affinity in affinities {
            let act = self.accept_one(service, affinity)?;
            let at = match wanted.iter().position(|w| w.first.flow == affinity.flow) {
                Some(at) => at,
                None => {
                    wanted.push(Wanted {
                        first: affinity,
                        forward: None,
                        reply: None,
                    });
                    wanted.len() - 1
                }
            };
            let Some(flow) = wanted.get_mut(at) else {
                continue;
            };
            let place = match affinity.part {
                Part::Forward => &mut flow.forward,
                Part::Reply => &mut flow.reply,
            };
            if place.replace((affinity, act)).is_some() {
                return Err((
                    Reason::Malformed,
                    format!("flow {} has two of one direction", affinity.flow),
                ));
            }
        }
        for flow in &wanted {
            if let (Some((f, _)), Some((r, _))) = (&flow.forward, &flow.reply)
                && (f.partner.is_some_and(|p| p != r.tuple)
                    || r.partner.is_some_and(|p| p != f.tuple))
            {
                return Err((
                    Reason::Malformed,
                    format!("the directions of flow {} are not partners", f.flow),
                ));
            }
        }
        Ok(wanted)
    }

    /// Checks one affinity against the plan (DESIGN.md, invariant 7) and the target.
    fn accept_one(&self, service: u8, a: &FixedAffinity) -> Result<Act, Refusal> {
        let not_covered = || {
            (
                Reason::NotCovered,
                format!("the policy gives this service no say over `{}`", a.tuple),
            )
        };
        let part = self.part_plan(service, a.part).ok_or_else(not_covered)?;
        if part.fixed.is_none() || !covers_flow(&part.criteria, &a.tuple, a.kind) {
            return Err(not_covered());
        }
        if a.statistics.flags {
            return Err((
                Reason::Unsupported,
                "the agent does not note TCP flags".into(),
            ));
        }
        if a.cookie.len() > COOKIE_MAX {
            return Err((
                Reason::Malformed,
                format!("a cookie has at most {COOKIE_MAX} bytes"),
            ));
        }
        let act = self.accept_actions(a)?;
        if let Act::Entry(FixedAction::Translate(to)) = act {
            // Where it leads, the other direction must be the service's own to bring back.
            let covered = self
                .part_plan(service, a.part.other())
                .is_some_and(|p| covers_flow(&p.criteria, &to.reversed(), a.kind));
            if !covered || to.proto != a.tuple.proto {
                return Err((
                    Reason::NotCovered,
                    format!("the policy does not let this service translate to `{to}`"),
                ));
            }
        }
        Ok(act)
    }

    fn accept_actions(&self, a: &FixedAffinity) -> Result<Act, Refusal> {
        let unsupported = |what: &str| (Reason::Unsupported, format!("the target cannot {what}"));
        let mut result = None;
        for action in &a.actions {
            let next = match action {
                Action::Count => continue,
                Action::Forward => Act::Entry(FixedAction::Forward),
                Action::Drop => Act::Entry(FixedAction::Discard),
                Action::Translate(to) => Act::Entry(FixedAction::Translate(*to)),
                Action::Dispatch { tunnel, .. } if *tunnel != Tunnel::None => {
                    return Err(unsupported("wrap packets in tunnels"));
                }
                Action::Dispatch { next_hop, .. } => {
                    if !self.reaches(*next_hop) {
                        return Err((
                            Reason::NotCovered,
                            format!("no port leads to next hop {next_hop}"),
                        ));
                    }
                    Act::Dispatch(*next_hop)
                }
                Action::Adjust { .. } => {
                    return Err(unsupported("adjust sequence numbers"));
                }
                Action::MarkDscp(_) => return Err(unsupported("mark packets")),
            };
            if result.replace(next).is_some() {
                return Err((
                    Reason::Malformed,
                    "an affinity does one of forward, drop, dispatch and translate".into(),
                ));
            }
        }
        Ok(result.unwrap_or(Act::Entry(FixedAction::Forward)))
    }

    /// An accepted action as the switch knows it: a next hop has its id from now on.
    fn entry_action(&mut self, act: Act) -> FixedAction {
        match act {
            Act::Entry(action) => action,
            Act::Dispatch(to) => match self.next_hop_id(to) {
                Some(next_hop) => FixedAction::Dispatch { next_hop },
                // Acceptance has seen the way and the room.
                None => FixedAction::Discard,
            },
        }
    }

    fn direction(&mut self, service: u8, w: Option<(&FixedAffinity, Act)>) -> Option<Direction> {
        let (a, act) = w?;
        let action = self.entry_action(act);
        let state = self.service(service)?;
        *state.fixed(a.part) += 1;
        let (slot, base) = if is_counted(a) {
            // `room` has seen that there is one; without it, the flow would go uncounted.
            state.slots(a.part).allocate().unwrap_or_default()
        } else {
            (0, Totals::default())
        };
        Some(Direction {
            tuple: a.tuple,
            kind: a.kind,
            action,
            interest: a.interest,
            slot,
            base,
            carried: Totals::default(),
            holds: base,
            totals: Totals::default(),
            resumed: 0,
            watched: 0,
            fin: false,
            moved: false,
        })
    }

    /// Sets out to install a flow for which there is room.
    fn install_flow(
        &mut self,
        share: Share,
        manager: &Arc<str>,
        subject: Subject,
        wanted: &Wanted<'_>,
        together: bool,
    ) {
        let service = share.service;
        let forward = self.direction(service, wanted.forward);
        let reply = self.direction(service, wanted.reply);
        let first = if reply.is_some() {
            Part::Reply
        } else {
            Part::Forward
        };
        let progress = if forward.is_some() && reply.is_some() {
            Progress::HalfOpen
        } else {
            Progress::Established
        };
        let a = wanted.first;
        let flow = Flow {
            service,
            share: share.number,
            number: a.flow,
            manager: manager.clone(),
            epoch: self.epoch(share),
            cookie: a.cookie.clone(),
            forward,
            reply,
            phase: Phase::Installing(first),
            progress,
            leases: a.leases,
            track_close: a.track_close,
            statistics: a.statistics,
            subject: Some(subject),
            together,
            refused: false,
            retries: 0,
            created: self.now,
            active: self.now,
            look: Duration::ZERO,
            looking: false,
            report_sequence: 0,
            held: Vec::new(),
        };
        if let Some(at) = self.store.insert(flow) {
            self.count_fixed();
            self.write_direction(at, first);
        }
    }

    /// Whether a flow that is there is the one that is wanted.
    fn is_same(&self, at: FlowRef, wanted: &Wanted<'_>) -> bool {
        let Some(flow) = self.store.get(at) else {
            return false;
        };
        let is_same_key = |w: &Option<(&FixedAffinity, Act)>, d: &Option<Direction>| {
            w.map(|(a, _)| (a.tuple, a.kind)) == d.as_ref().map(|d| (d.tuple, d.kind))
        };
        is_same_key(&wanted.forward, &flow.forward)
            && is_same_key(&wanted.reply, &flow.reply)
            && flow.progress != Progress::Closed
    }

    /// A flow that is there already: nothing is lost or doubled (A1.7).
    fn renew(&mut self, at: FlowRef, wanted: &Wanted<'_>) {
        let now = self.now;
        let actions = [(Part::Reply, wanted.reply), (Part::Forward, wanted.forward)]
            .map(|(part, w)| (part, w.map(|(a, act)| (a.interest, self.entry_action(act)))));
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        if matches!(flow.phase, Phase::Installing(_)) {
            return;
        }
        flow.active = now;
        flow.number = wanted.first.flow;
        flow.cookie = wanted.first.cookie.clone();
        let leases_differ = flow.leases != wanted.first.leases;
        flow.leases = wanted.first.leases;
        flow.statistics = wanted.first.statistics;
        let mut changed = Vec::new();
        let tracked = flow.track_close != wanted.first.track_close;
        flow.track_close = wanted.first.track_close;
        for (part, w) in actions {
            if let (Some((interest, action)), Some(d)) = (w, flow.direction_mut(part))
                && (d.action != action || d.interest != interest || tracked)
            {
                d.action = action;
                d.interest = interest;
                changed.push(part);
            }
        }
        for part in changed {
            self.modify_direction(at, part);
        }
        if leases_differ {
            self.look_later(at);
        }
    }

    pub(super) fn modify_direction(&mut self, at: FlowRef, part: Part) {
        if let Some(entry) = self.store.get(at).and_then(|f| f.entry(at, part)) {
            self.writer.push(Change::Modify, entry, Token::None);
        }
    }

    fn write_direction(&mut self, at: FlowRef, part: Part) {
        if let Some(entry) = self.store.get(at).and_then(|f| f.entry(at, part)) {
            self.insert(entry, Token::Install(at, part));
        }
    }

    /// The switch has answered for one direction.
    pub(super) fn installed(&mut self, at: FlowRef, part: Part, result: Result<(), WriteError>) {
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        if flow.phase != Phase::Installing(part) {
            // Deleted meanwhile.
            return;
        }
        match result {
            Ok(()) if part == Part::Reply && flow.forward.is_some() => {
                flow.phase = Phase::Installing(Part::Forward);
                self.write_direction(at, Part::Forward);
            }
            Ok(()) => self.live(at),
            Err(error) => self.take_back(at, part, &error),
        }
    }

    fn live(&mut self, at: FlowRef) {
        let now = self.now;
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        flow.phase = Phase::Live;
        flow.active = now;
        let held = std::mem::take(&mut flow.held);
        let service = flow.service;
        let half_open = flow.progress == Progress::HalfOpen;
        self.counters.flows += 1;
        if half_open {
            self.counters.half_open.add(1);
        }
        self.unreserve(&held, service);
        for packet in held {
            self.resume_into(at, packet);
        }
        if let Some(flow) = self.store.get_mut(at) {
            // What the agent sent itself is no sign of life.
            for d in [&mut flow.forward, &mut flow.reply].into_iter().flatten() {
                d.watched = d.resumed;
            }
        }
        self.look_later(at);
        self.start_timers(at);
    }

    /// Hard lease and periodic reports run from the moment when a flow is in, or would be.
    pub(super) fn start_timers(&mut self, at: FlowRef) {
        let Some(flow) = self.store.get(at) else {
            return;
        };
        let (hard, every) = (flow.leases.hard_ms, flow.statistics.every_ms);
        if let Some(ms) = hard {
            let due = self.now + Duration::from_millis(ms);
            self.timers.at(due, Timer::Hard(at));
        }
        if let Some(ms) = every {
            let due = self.now + Duration::from_millis(ms.max(1));
            self.timers.at(due, Timer::Report(at));
        }
    }

    /// The switch has refused one direction: nothing of the flow stays, nor of the request's other flows.
    fn take_back(&mut self, at: FlowRef, part: Part, error: &WriteError) {
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        let (share, subject, created) = (flow.share(), flow.subject, flow.created);
        let service = share.service;
        let (manager, together) = (flow.manager.clone(), flow.together);
        let held = std::mem::take(&mut flow.held);
        flow.refused = true;
        let reply_is_in = part == Part::Forward && flow.reply.is_some();
        if reply_is_in {
            flow.phase = Phase::Ending {
                cause: ReportCause::Deleted,
                request: 0,
                pending: 1,
            };
            self.store.unlink(at);
            self.delete_direction(at, Part::Reply);
        } else if let Some(flow) = self.store.remove(at) {
            self.release(&flow);
        }
        let reason = match error {
            WriteError::Full => Reason::TableFull,
            _ => Reason::TargetRefused,
        };
        self.denied(reason);
        if let Some(subject) = subject {
            let text = format!("the switch refused the flow: {error}");
            let denied = Denied {
                subject,
                reason,
                text,
            };
            self.tell(share, AgentBody::Denied(denied));
        }
        self.floor_all(held, service);
        if together {
            let siblings: Vec<FlowRef> = (self.store.iter())
                .filter(|(_, f)| f.share() == share && f.subject == subject)
                .filter(|(_, f)| f.created == created && f.manager == manager && f.together)
                .map(|(at, _)| at)
                .collect();
            for at in siblings {
                if let Some(flow) = self.store.get_mut(at) {
                    flow.refused = true;
                }
                self.end(at, ReportCause::Deleted, 0);
            }
        }
    }

    /// Gives back what a removed flow had in tables and slots.
    pub(super) fn release(&mut self, flow: &Flow) {
        for part in [Part::Forward, Part::Reply] {
            if let Some(d) = flow.direction(part)
                && let Some(s) = self.service(flow.service)
            {
                s.slots(part).release(d.slot, d.holds);
                *s.fixed(part) = s.fixed(part).saturating_sub(1);
            }
        }
        self.count_fixed();
    }

    pub(super) fn count_fixed(&mut self) {
        let now = self.services.iter().flat_map(|s| s.fixed).sum::<u32>();
        self.counters.fixed.set(now as usize);
    }

    /// FIRST-DATA is DATA until the manager has seen it once: then the entry asks no more.
    pub(super) fn first_data(&mut self, at: FlowRef, part: Part, seen: u16) {
        let Some(d) = (self.store.get_mut(at)).and_then(|f| f.direction_mut(part)) else {
            return;
        };
        let mask = d.interest.packet_events | d.interest.notice_events;
        if seen & mask & events::FIRST_DATA == 0 {
            return;
        }
        d.interest.packet_events &= !events::FIRST_DATA;
        d.interest.notice_events &= !events::FIRST_DATA;
        self.modify_direction(at, part);
    }
}
