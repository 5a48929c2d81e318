//! A fixed affinity's way in: acceptance, then the reply entry, then the forward one, then the packets.
//!
//! A request is taken whole or not at all (SEMANTICS, "Denied with a reason"); what the switch refuses
//! half-way is taken back.

use std::sync::Arc;
use std::time::Duration;

use super::store::{Direction, Flow, FlowRef, MAX_FLOWS, Phase, Progress};
use super::timers::Timer;
use super::writer::Token;
use super::{Agent, Link, SessionId, WriteError};
use crate::cover::covers_flow;
use crate::entry::{Change, FixedAction};
use crate::flow::{FlowKey, Part, events};
use crate::message::{
    Action, AgentBody, COOKIE_MAX, Denied, FixedAffinity, Reason, ReportCause, Totals, Tunnel,
};

type Refusal = (Reason, String);

/// The directions of one flow in a request, checked.
struct Wanted<'a> {
    first: &'a FixedAffinity,
    forward: Option<(&'a FixedAffinity, FixedAction)>,
    reply: Option<(&'a FixedAffinity, FixedAction)>,
}

impl Wanted<'_> {
    fn directions(&self) -> impl Iterator<Item = (&FixedAffinity, FixedAction)> {
        self.forward.iter().chain(&self.reply).copied()
    }
}

impl Agent {
    /// Installs all of the affinities, or denies all of them: `false`.
    pub(super) fn install(
        &mut self,
        id: SessionId,
        service: u8,
        manager: &Arc<str>,
        request: u64,
        affinities: &[FixedAffinity],
    ) -> bool {
        let wanted = match self.accept(service, affinities) {
            Ok(wanted) => wanted,
            Err((reason, text)) => {
                self.deny(id, service, request, reason, text);
                return false;
            }
        };
        for flow in wanted {
            if let Err((reason, text)) = self.install_flow(service, manager, request, &flow) {
                self.deny(id, service, request, reason, text);
                return false;
            }
        }
        true
    }

    fn accept<'a>(
        &mut self,
        service: u8,
        affinities: &'a [FixedAffinity],
    ) -> Result<Vec<Wanted<'a>>, Refusal> {
        if !affinities.is_empty() && !matches!(self.link, Link::Ready | Link::Opening) {
            return Err((Reason::NoSwitch, "the switch is away".into()));
        }
        let mut wanted: Vec<Wanted<'a>> = Vec::new();
        for affinity in affinities {
            let action = self.accept_one(service, affinity)?;
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
            if place.replace((affinity, action)).is_some() {
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
    fn accept_one(&mut self, service: u8, a: &FixedAffinity) -> Result<FixedAction, Refusal> {
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
        if a.cookie.len() > COOKIE_MAX {
            return Err((
                Reason::Malformed,
                format!("a cookie has at most {COOKIE_MAX} bytes"),
            ));
        }
        let action = self.accept_actions(a)?;
        if let FixedAction::Translate(to) = action {
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
        Ok(action)
    }

    fn accept_actions(&mut self, a: &FixedAffinity) -> Result<FixedAction, Refusal> {
        let unsupported = |what: &str| (Reason::Unsupported, format!("the target cannot {what}"));
        let mut result = None;
        for action in &a.actions {
            let next = match action {
                Action::Count => continue,
                Action::Forward => FixedAction::Forward,
                Action::Drop => FixedAction::Discard,
                Action::Translate(to) => FixedAction::Translate(*to),
                Action::Dispatch { tunnel, .. } if *tunnel != Tunnel::None => {
                    return Err(unsupported("wrap packets in tunnels"));
                }
                Action::Dispatch { next_hop, .. } => {
                    let id = self.next_hop_id(*next_hop).ok_or_else(|| {
                        (
                            Reason::NotCovered,
                            format!("no port leads to next hop {next_hop}"),
                        )
                    })?;
                    FixedAction::Dispatch { next_hop: id }
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
        Ok(result.unwrap_or(FixedAction::Forward))
    }

    fn install_flow(
        &mut self,
        service: u8,
        manager: &Arc<str>,
        request: u64,
        wanted: &Wanted<'_>,
    ) -> Result<(), Refusal> {
        let keys = wanted.directions().map(|(a, _)| FlowKey {
            service,
            part: a.part,
            tuple: a.tuple,
            kind: a.kind,
        });
        let mut there: Vec<FlowRef> = keys.filter_map(|k| self.store.find(&k)).collect();
        there.dedup();
        if let [at] = there.as_slice()
            && self.renew(*at, wanted)
        {
            return Ok(());
        }
        for at in there {
            self.end(at, ReportCause::Deleted, 0);
        }

        self.room(service, wanted)?;
        let mut make = |w: &Option<(&FixedAffinity, FixedAction)>| -> Result<_, Refusal> {
            let Some((a, action)) = w else {
                return Ok(None);
            };
            let counted = a.statistics.count
                || a.leases.idle_ms.is_some()
                || a.actions.contains(&Action::Count);
            let (slot, base) = if counted {
                self.service(service)
                    .and_then(|s| s.slots(a.part).allocate())
                    .ok_or((Reason::TableFull, "no counter slot is free".to_owned()))?
            } else {
                (0, Totals::default())
            };
            if let Some(s) = self.service(service) {
                *s.fixed(a.part) += 1;
            }
            Ok(Some(Direction {
                tuple: a.tuple,
                kind: a.kind,
                action: *action,
                interest: a.interest,
                slot,
                base,
                carried: Totals::default(),
                holds: base,
                totals: Totals::default(),
                resumed: 0,
                watched: 0,
                fin: false,
            }))
        };
        let forward = make(&wanted.forward)?;
        let reply = make(&wanted.reply)?;
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
            number: a.flow,
            manager: manager.clone(),
            cookie: a.cookie.clone(),
            forward,
            reply,
            phase: Phase::Installing(first),
            progress,
            leases: a.leases,
            track_close: a.track_close,
            statistics: a.statistics,
            request,
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
        Ok(())
    }

    /// Whether tables and slots have room for a flow.
    fn room(&mut self, service: u8, wanted: &Wanted<'_>) -> Result<(), Refusal> {
        for (a, _) in wanted.directions() {
            let size = self.part_plan(service, a.part).map_or(0, |p| p.fixed_size);
            let used = self.service(service).map_or(0, |s| *s.fixed(a.part));
            if used >= size {
                return Err((
                    Reason::TableFull,
                    format!("the table holds {size} fixed affinities"),
                ));
            }
        }
        if self.store.len() >= MAX_FLOWS {
            return Err((Reason::TableFull, "the agent holds no more flows".into()));
        }
        Ok(())
    }

    /// A flow that is there already: nothing is lost or doubled (A1.7). `false` if it is another flow on
    /// the same tuple.
    fn renew(&mut self, at: FlowRef, wanted: &Wanted<'_>) -> bool {
        let now = self.now;
        let Some(flow) = self.store.get_mut(at) else {
            return false;
        };
        let is_same_key = |w: &Option<(&FixedAffinity, FixedAction)>, d: &Option<Direction>| {
            w.map(|(a, _)| (a.tuple, a.kind)) == d.as_ref().map(|d| (d.tuple, d.kind))
        };
        if !is_same_key(&wanted.forward, &flow.forward) || !is_same_key(&wanted.reply, &flow.reply)
        {
            return false;
        }
        if matches!(flow.phase, Phase::Installing(_)) {
            return true;
        }
        if flow.progress == Progress::Closed {
            return false;
        }
        flow.active = now;
        flow.number = wanted.first.flow;
        flow.cookie = wanted.first.cookie.clone();
        flow.leases = wanted.first.leases;
        flow.statistics = wanted.first.statistics;
        let mut changed = Vec::new();
        let tracked = flow.track_close != wanted.first.track_close;
        flow.track_close = wanted.first.track_close;
        for (part, w) in [(Part::Reply, wanted.reply), (Part::Forward, wanted.forward)] {
            if let (Some((a, action)), Some(d)) = (w, flow.direction_mut(part))
                && (d.action != action || d.interest != a.interest || tracked)
            {
                d.action = action;
                d.interest = a.interest;
                changed.push(part);
            }
        }
        for part in changed {
            self.modify_direction(at, part);
        }
        true
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
        let hard = flow.leases.hard_ms;
        let every = flow.statistics.every_ms;
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
        if let Some(ms) = hard {
            self.timers
                .at(now + Duration::from_millis(ms), Timer::Hard(at));
        }
        if let Some(ms) = every {
            self.timers
                .at(now + Duration::from_millis(ms.max(1)), Timer::Report(at));
        }
    }

    /// The switch has refused one direction: nothing of the flow stays.
    fn take_back(&mut self, at: FlowRef, part: Part, error: &WriteError) {
        if part == Part::Forward
            && let Some(entry) = self.store.get(at).and_then(|f| f.entry(at, Part::Reply))
        {
            self.writer.push(Change::Delete, entry, Token::None);
        }
        let Some(flow) = self.store.remove(at) else {
            return;
        };
        let reason = match error {
            WriteError::Full => Reason::TableFull,
            _ => Reason::TargetRefused,
        };
        self.release(&flow);
        self.denied(reason);
        self.tell(
            flow.service,
            AgentBody::Denied(Denied {
                request: flow.request,
                reason,
                text: format!("the switch refused the flow: {error}"),
            }),
        );
        self.floor_all(flow.held, flow.service);
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
