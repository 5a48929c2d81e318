//! A fixed affinity's way in: acceptance, then the reply entry, then the forward one, then the packets.
//!
//! A request is taken whole or not at all (SEMANTICS, "Denied with a reason"): everything is checked before
//! anything changes, and what the switch refuses half-way is taken back. A flow that is alive is never
//! evicted for another one that wants its tuple.

use std::sync::Arc;
use std::time::Duration;

use super::accept::{Step, Wanted, Wish, is_counted};
use super::flow_record::{Act, Cookie, Direction, Flow, Moment, Phase, Progress, Terms, Transit};
use super::limits::watches_answers;
use super::shares::{Owner, Share};
use super::store::FlowRef;
use super::timers::{About, Timer, on_grid};
use super::tunnels::{Hop, Way};
use super::writer::Token;
use super::{Agent, SessionId, WriteError};
use crate::entry::Change;
use crate::flow::{FlowKey, Part, events};
use crate::message::{AgentBody, Denied, FixedAffinity, Reason, ReportCause, Subject, Totals};

/// Periodic reports come together so many times a period: they are spread over it, and yet read in few reads.
const REPORT_GROUPS: u32 = 64;

/// The question that an installation answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// The entry that diverted the packet.
    pub entry: u32,
    /// The packet's flow.
    pub key: FlowKey,
    /// Whether the packet may be the flow's first: of TCP, a SYN.
    pub begins: bool,
}

/// A request that is being carried out.
struct Request<'a> {
    share: Share,
    manager: &'a Arc<str>,
    subject: Subject,
    asked: Option<Asked>,
    batch: Option<u64>,
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
        asked: Option<Asked>,
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
        let batch = (wanted.len() > 1).then(|| {
            self.next_batch += 1;
            self.next_batch
        });
        let request = Request {
            share,
            manager,
            subject,
            asked,
            batch,
        };
        for (flow, step) in wanted.iter().zip(steps) {
            match step {
                Step::Renew(at) => self.renew(at, &request, flow),
                Step::Install { instead_of } => {
                    for at in instead_of {
                        self.end(at, ReportCause::Deleted, 0);
                    }
                    self.install_flow(&request, flow);
                }
            }
        }
        true
    }

    /// An accepted action as the switch knows it: a way to a server is in use from now on.
    fn act(&mut self, wish: Wish, partner: Option<&FixedAffinity>) -> Act {
        match wish {
            Wish::Forward => Act::Forward,
            Wish::Discard => Act::Discard,
            Wish::Translate(to) if partner.is_some_and(|p| p.tuple.reversed() == to) => {
                Act::AsPartner
            }
            Wish::Translate(to) => Act::Translate(Box::new(to)),
            Wish::Adjust(by) => Act::Adjust(by),
            Wish::Dispatch(to, tunnel) => match self.take_hop(to, tunnel) {
                Some((next_hop, tunnel)) => Act::Dispatch { next_hop, tunnel },
                // Acceptance has seen the way and the room.
                None => Act::Discard,
            },
        }
    }

    fn direction(
        &mut self,
        service: u8,
        wanted: Option<(&FixedAffinity, Wish)>,
        partner: Option<&FixedAffinity>,
    ) -> Option<Box<Direction>> {
        let (a, wish) = wanted?;
        let act = self.act(wish, partner);
        let state = self.service(service)?;
        *state.fixed(a.part) += 1;
        let cell = if is_counted(a) {
            // `room` has seen that there is one; without it, the flow would go uncounted.
            state.slots(a.part).allocate().unwrap_or_default()
        } else {
            (0, Totals::default())
        };
        Some(Box::new(Direction::new(
            a.tuple, a.kind, act, a.interest, cell,
        )))
    }

    fn terms(
        &mut self,
        service: u8,
        (manager, epoch): (&Arc<str>, u64),
        a: &FixedAffinity,
    ) -> Arc<Terms> {
        let limits = self
            .plan
            .services
            .get(usize::from(service))
            .map(|s| &s.limits);
        let watch_answer = limits.is_some_and(watches_answers);
        self.store.shared(Terms {
            manager: manager.clone(),
            epoch,
            leases: a.leases,
            track_close: a.track_close,
            statistics: a.statistics,
            watch_answer,
        })
    }

    /// Sets out to install a flow for which there is room.
    fn install_flow(&mut self, request: &Request<'_>, wanted: &Wanted<'_>) {
        let Request { share, manager, .. } = *request;
        let service = share.service;
        let (f, r) = (wanted.forward.map(|(a, _)| a), wanted.reply.map(|(a, _)| a));
        let forward = self.direction(service, wanted.forward, r);
        let reply = self.direction(service, wanted.reply, f);
        let first = if reply.is_some() {
            Part::Reply
        } else {
            Part::Forward
        };
        // Its manager has opened both of the connections that it joins: nobody has yet to answer, and
        // whoever asked, the client began.
        let joined = wanted
            .directions()
            .any(|(_, wish)| matches!(wish, Wish::Adjust(_)));
        let progress = if forward.is_some() && reply.is_some() && !joined {
            Progress::HalfOpen
        } else {
            Progress::Established
        };
        let a = wanted.first;
        let asked = request.asked.filter(|q| {
            let same = |a: &FixedAffinity| {
                (a.part, a.tuple, a.kind) == (q.key.part, q.key.tuple, q.key.kind)
            };
            f.is_some_and(same) || r.is_some_and(same)
        });
        let key = asked.map_or(
            FlowKey {
                service,
                part: a.part,
                tuple: a.tuple,
                kind: a.kind,
            },
            |q| q.key,
        );
        let owner = Owner {
            share,
            manager: manager.clone(),
        };
        let criterion = self.criterion_over(&owner, asked.map(|q| q.entry), &key);
        let now = Moment::from(self.now);
        let flow = Flow {
            number: a.flow,
            terms: self.terms(service, (manager, self.epoch(share)), a),
            forward,
            reply,
            cookie: Cookie::from(&*a.cookie),
            transit: Some(Box::new(Transit {
                subject: Some(request.subject),
                batch: request.batch,
                ..Transit::default()
            })),
            created: now,
            active: now,
            look: Moment::default(),
            report: Moment::default(),
            share: share.number,
            criterion,
            report_sequence: 0,
            service,
            phase: Phase::Installing(first),
            progress,
            // A packet in mid-flow does not tell who began.
            opener: asked
                .filter(|q| !joined && q.begins)
                .map_or(Part::Forward, |q| q.key.part),
            looking: false,
            reset: false,
            in_rest: false,
        };
        if let Some(at) = self.store.insert(flow) {
            if let Some(batch) = request.batch {
                self.batches.entry(batch).or_default().push(at);
            }
            self.enter_half_open(at);
            self.count_fixed();
            self.start_writing(at);
        }
    }

    /// A flow whose other side has yet to answer counts as half open.
    fn enter_half_open(&mut self, at: FlowRef) {
        let now = self.now;
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        let Some(source) = flow.direction(flow.opener).map(|d| d.tuple.src) else {
            return;
        };
        if flow.progress != Progress::HalfOpen {
            return;
        }
        let service = usize::from(flow.service);
        if let (Some(state), Some(plan)) = (
            self.services.get_mut(service),
            self.plan.services.get(service),
        ) {
            flow.in_rest = state.door.enter(&plan.limits, now, source);
        }
        self.counters.half_open.add(1);
    }

    /// It does no more: the other side has answered, or the flow is over.
    pub(super) fn leave_half_open(&mut self, at: FlowRef) {
        let Some(flow) = self.store.get(at) else {
            return;
        };
        let Some(source) = flow.direction(flow.opener).map(|d| d.tuple.src) else {
            return;
        };
        if flow.progress != Progress::HalfOpen {
            return;
        }
        if let Some(state) = self.services.get_mut(usize::from(flow.service)) {
            state.door.leave(source, flow.in_rest);
        }
        self.counters.half_open.sub(1);
    }

    /// Writes a flow's first entry, once the way to its next hop is there.
    pub(super) fn start_writing(&mut self, at: FlowRef) {
        let Some(flow) = self.store.get(at) else {
            return;
        };
        let Phase::Installing(part) = flow.phase else {
            return;
        };
        let hops: Vec<Hop> = flow.directions().filter_map(|d| hop_of(&d.act)).collect();
        for hop in hops {
            match self.await_hop(at, hop) {
                Way::There => {}
                Way::Awaited => return,
                Way::Never(error) => return self.take_back(at, part, &error),
            }
        }
        self.write_direction(at, part);
    }

    /// The way to a flow's next hop, which it waited for, will not be there.
    pub(super) fn no_way(&mut self, at: FlowRef, error: &WriteError) {
        if let Some(Phase::Installing(part)) = self.store.get(at).map(|f| f.phase) {
            self.take_back(at, part, error);
        }
    }

    /// Whether a flow that is there is the one that is wanted.
    pub(super) fn is_same(&self, at: FlowRef, wanted: &Wanted<'_>) -> bool {
        let Some(flow) = self.store.get(at) else {
            return false;
        };
        let is_same_key = |w: Option<(&FixedAffinity, Wish)>, part| {
            w.map(|(a, _)| (a.tuple, a.kind)) == flow.direction(part).map(|d| (d.tuple, d.kind))
        };
        is_same_key(wanted.forward, Part::Forward)
            && is_same_key(wanted.reply, Part::Reply)
            && flow.progress != Progress::Closed
    }

    /// A flow that is there already: nothing is lost or doubled (A1.7).
    fn renew(&mut self, at: FlowRef, request: &Request<'_>, wanted: &Wanted<'_>) {
        let now = self.now;
        // Its end is told under its newest number; a lower one comes late.
        if (self.store.get(at)).is_some_and(|f| f.number < wanted.first.flow) {
            self.store.renumber(at, wanted.first.flow);
        }
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        if matches!(flow.phase, Phase::Installing(_)) {
            // Its manager knows the flow by its last question.
            flow.transit_mut().subject = Some(request.subject);
            return;
        }
        let (service, decided_for, first) = (flow.service, flow.share(), wanted.first);
        let tracked = flow.terms.track_close != first.track_close
            || flow.terms.statistics.flags != first.statistics.flags;
        let every = flow.terms.statistics.every_ms;
        let leases_differ = flow.terms.leases != first.leases;
        let (f, r) = (wanted.forward.map(|(a, _)| a), wanted.reply.map(|(a, _)| a));
        let new = [
            (Part::Reply, wanted.reply, f),
            (Part::Forward, wanted.forward, r),
        ]
        .map(|(part, w, p)| (part, w.map(|(a, wish)| (a.interest, self.act(wish, p)))));
        let epoch = self.epoch(decided_for);
        let terms = self.terms(service, (request.manager, epoch), first);
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        flow.active = now.into();
        flow.cookie = Cookie::from(&*first.cookie);
        flow.terms = terms;
        let (mut changed, mut left) = (Vec::new(), Vec::new());
        for (part, w) in new {
            if let (Some((interest, act)), Some(d)) = (w, flow.direction_mut(part)) {
                if d.act != act || d.interest != interest || tracked {
                    changed.push(part);
                }
                left.extend(hop_of(&d.act));
                d.act = act;
                d.interest = interest;
            }
        }
        for part in changed {
            self.modify_direction(at, part);
        }
        for hop in left {
            self.leave_hop(hop);
        }
        if leases_differ {
            self.look_later(at);
        }
        if first.statistics.every_ms != every {
            self.report_first(at);
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
        flow.active = now.into();
        let held = flow.take_held();
        if let Some(forward) = &flow.forward {
            self.legs.remove(flow.service, forward.tuple);
        }
        let batch = flow.transit.take().and_then(|t| t.batch);
        let service = flow.service;
        self.counters.flows += 1;
        if let Some(batch) = batch {
            let open = |at: &FlowRef| {
                (self.store.get(*at)).is_some_and(|f| matches!(f.phase, Phase::Installing(_)))
            };
            if !self
                .batches
                .get(&batch)
                .is_some_and(|all| all.iter().any(open))
            {
                self.batches.remove(&batch);
            }
        }
        self.unreserve(&held, service);
        for packet in held {
            self.resume_into(at, packet);
        }
        if let Some(flow) = self.store.get_mut(at) {
            // What the agent sent itself is no sign of life.
            for d in flow.directions_mut() {
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
        if let Some(ms) = flow.terms.leases.hard_ms {
            let due = self.now + Duration::from_millis(ms);
            self.timers.at(due, Timer::Flow(at, About::Hard));
        }
        self.report_first(at);
    }

    /// Plans a flow's first periodic report: at a place in the period that its number says, so that flows
    /// which come together do not report together (A1.9).
    fn report_first(&mut self, at: FlowRef) {
        let now = self.now;
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        let Some(every) = flow.terms.statistics.every_ms else {
            flow.report = Moment::default();
            return;
        };
        let every = Duration::from_millis(every.max(1));
        // Fibonacci hashing: the golden ratio spreads numbers that follow each other.
        let spread = flow.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let parts = u32::try_from(spread % u64::from(REPORT_GROUPS)).unwrap_or(0) + 1;
        let grid = every / REPORT_GROUPS;
        let due = on_grid(now + grid * (parts - 1), grid).max(now + Duration::from_millis(1));
        flow.report = due.into();
        self.timers.at(due, Timer::Flow(at, About::Report));
    }

    /// The switch has refused one direction: nothing of the flow stays, nor of the request's other flows.
    fn take_back(&mut self, at: FlowRef, part: Part, error: &WriteError) {
        self.leave_half_open(at);
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        let share = flow.share();
        let service = share.service;
        let held = flow.take_held();
        let transit = flow.transit_mut();
        transit.refused = true;
        let (subject, batch) = (transit.subject, transit.batch);
        let reply_is_in = part == Part::Forward && flow.reply.is_some();
        if reply_is_in {
            flow.phase = Phase::Ending {
                cause: ReportCause::Deleted,
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
        let siblings = batch.and_then(|batch| self.batches.remove(&batch));
        for at in siblings.into_iter().flatten() {
            if let Some(flow) = self.store.get_mut(at) {
                flow.transit_mut().refused = true;
            }
            self.end(at, ReportCause::Deleted, 0);
        }
    }

    /// Gives back what a removed flow had in tables, slots and ways to servers.
    pub(super) fn release(&mut self, flow: &Flow) {
        for part in flow.parts() {
            let Some(d) = flow.direction(part) else {
                continue;
            };
            if let Some(s) = self.service(flow.service) {
                s.slots(part).release(d.slot, d.holds);
                *s.fixed(part) = s.fixed(part).saturating_sub(1);
            }
            if let Some(hop) = hop_of(&d.act) {
                self.leave_hop(hop);
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

/// The way to a server that a direction uses.
pub(super) fn hop_of(act: &Act) -> Option<Hop> {
    match act {
        Act::Dispatch { next_hop, tunnel } => Some((*next_hop, *tunnel)),
        _ => None,
    }
}
