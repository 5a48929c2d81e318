//! Diverted packets: held until their manager's verdict or the time-out, one question a flow.
//!
//! What comes too late or too much (see `room`) takes the service's floor, and is counted.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use signalbox_lower::plan::Fallback;

use super::flow_record::{Flow, Phase, Progress};
use super::install::Asked;
use super::limits::Beyond;
use super::path::Stop;
use super::room::Late;
use super::shares::Share;
use super::store::FlowRef;
use super::timers::Timer;
use super::{Agent, SessionId};
use crate::counters::Drop;
use crate::entry::{Packet, PacketMeta, packet_in, packet_out};
use crate::flow::{FlowKey, Part, events};
use crate::message::{
    AgentBody, CarriedState, Decision, Interest, Reason, ReportCause, Subject, Verdict,
};
use crate::packet::{self, View, proto};

/// Packets of one flow that wait for a verdict.
#[derive(Debug)]
pub(super) struct Question {
    key: FlowKey,
    held: Vec<Packet>,
    deadline: Duration,
    /// Whom it was asked.
    share: Share,
    session: SessionId,
    /// The entry that diverted the first packet.
    entry: u32,
    /// Asked a second time.
    repeated: bool,
    /// It has a place among those about packets that open a connection.
    opens: bool,
    /// It is about a new flow, and counts at the service's door; whether with the rest of the sources.
    door: Option<bool>,
    interest: Interest,
}

impl Question {
    /// Whom it was asked.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The packet that it was asked about.
    pub fn first(&self) -> Option<&Packet> {
        self.held.first()
    }

    fn late(&self) -> Late {
        Late {
            service: self.key.service,
            session: self.session,
            opens: self.opens,
        }
    }
}

impl Agent {
    pub(super) fn diverted(&mut self, packet: Packet) {
        let meta = packet.meta;
        let (Some(view), Some(part)) = (packet::view(&packet.bytes), Part::from_number(meta.part))
        else {
            return self.counters.drop(Drop::Malformed, 1);
        };
        let service = meta.stage.wrapping_sub(1);
        if usize::from(service) >= self.services.len() {
            return self.counters.drop(Drop::Malformed, 1);
        }
        let key = FlowKey {
            service,
            part,
            tuple: view.tuple,
            kind: view.kind,
        };
        self.divert(packet, key, &view);
    }

    /// A packet that a stage wants: of this flow, and with these events.
    pub(super) fn divert(&mut self, packet: Packet, key: FlowKey, view: &View) {
        let meta = packet.meta;
        let (service, part) = (key.service, key.part);
        let mut is_new = false;
        if let Some(at) = self.store.find(&key) {
            let own_entry = meta.entry == at.entry_id(part);
            let state = self.store.get(at).map(|f| (f.phase, f.progress));
            if own_entry {
                self.first_data(at, part, view.events);
            }
            match state {
                Some((Phase::Installing(_), _)) => {
                    if self.reserve(&packet, service, None)
                        && let Some(flow) = self.store.get_mut(at)
                    {
                        flow.transit_mut().held.push(packet);
                    }
                    return;
                }
                Some((Phase::Live, Progress::Closed)) if own_entry && view.flags & 0x12 == 0x02 => {
                    // A new connection on the tuple of a closed one (A6.15).
                    let is_adjusted = self.store.get(at).is_some_and(Flow::is_adjusted);
                    self.end(at, ReportCause::Closed, 0);
                    if is_adjusted {
                        return self.ask_when_gone(at, packet);
                    }
                    is_new = true;
                }
                Some((Phase::Live, _)) if !own_entry => {
                    // It was on its way here while the entry went in.
                    self.counters.overtaken += 1;
                    return self.resume_into(at, packet);
                }
                _ => {}
            }
        } else {
            self.counters.misses += 1;
            is_new = true;
        }
        self.question(packet, key, view, is_new);
    }

    fn question(&mut self, packet: Packet, key: FlowKey, view: &View, is_new: bool) {
        let service = key.service;
        let entry = packet.meta.entry;
        let once = !self.asks_of_every_packet(entry);
        if let Some(request) = self.asked.get(&key).copied().filter(|_| once) {
            if self.reserve(&packet, service, None)
                && let Some(question) = self.questions.get_mut(&request)
            {
                question.held.push(packet);
            }
            return;
        }
        let Some((share, asker)) = self.asker(&key, entry) else {
            self.counters.unanswered += 1;
            self.next_request += 1;
            self.unanswered(self.next_request, &key, &packet);
            return self.floor(packet, service);
        };
        let door = if is_new && once {
            let Ok(in_rest) = self.open_door(service, key.tuple.src) else {
                self.denied(Reason::Limited);
                return self.floor(packet, service);
            };
            Some(in_rest)
        } else {
            None
        };
        let opens = !once && view.flags & 0x12 == 0x02;
        if !self.reserve(&packet, service, Some((asker, opens))) {
            self.leave_door(&key, door);
            return;
        }
        self.next_request += 1;
        let request = self.next_request;
        let interest = Interest {
            request,
            stage: packet.meta.stage,
            part: key.part,
            flow: key.tuple,
            kind: key.kind,
            events: view.events,
            packet: packet.bytes.clone(),
            state: self.carried(&packet.meta),
        };
        let hold = (self.plan.services.get(usize::from(service))).map_or(0, |s| s.limits.hold_ms);
        let deadline = self.now + Duration::from_millis(hold);
        // Where every packet is a question, the flow's next one is another anyhow.
        let due = if once {
            self.asked.insert(key, request);
            self.now + Duration::from_millis(hold / 2)
        } else {
            deadline
        };
        self.timers.at(due, Timer::Question(request));
        self.questions.insert(
            request,
            Question {
                key,
                held: vec![packet],
                deadline,
                share,
                session: asker,
                entry,
                repeated: false,
                opens,
                door,
                interest: interest.clone(),
            },
        );
        self.counters.interests += 1;
        self.send(asker, share, AgentBody::Interest(interest));
    }

    /// Whether every packet that this entry diverts is a question of its own.
    fn asks_of_every_packet(&self, entry: u32) -> bool {
        if let Some(origin) = self.criteria_ids.get(&entry) {
            return origin.every_packet;
        }
        let flow = (self.store.by_entry_id(entry)).and_then(|(at, _)| self.store.get(at));
        flow.is_some_and(Flow::is_adjusted)
    }

    /// Whether the plan's limits let another new flow of a source in.
    fn open_door(&mut self, service: u8, source: IpAddr) -> Result<bool, Beyond> {
        let index = usize::from(service);
        match (self.services.get_mut(index), self.plan.services.get(index)) {
            (Some(state), Some(plan)) => state.door.admit(&plan.limits, self.now, source),
            _ => Ok(false),
        }
    }

    /// A question about a new flow is over.
    fn leave_door(&mut self, key: &FlowKey, door: Option<bool>) {
        if let (Some(in_rest), Some(state)) = (door, self.service(key.service)) {
            state.door.leave(key.tuple.src, in_rest);
        }
    }

    /// What crossed the stages; managers see their own numbers of criteria.
    fn carried(&self, meta: &PacketMeta) -> CarriedState {
        let entry = self
            .criteria_ids
            .get(&meta.entry)
            .map_or(meta.entry, |origin| origin.number);
        CarriedState {
            ingress_port: meta.port,
            reply: meta.reply,
            next_hop: meta.next_hop,
            tunnel: meta.tunnel,
            mark: meta.mark_set.then_some(meta.mark),
            notices: meta.notices,
            entry,
        }
    }

    pub(super) fn fallback(&self, service: u8) -> Fallback {
        (self.plan.services.get(usize::from(service))).map_or(Fallback::Drop, |s| s.fallback)
    }

    /// Drops a diverted packet, and if it is a first fragment the rest of its datagram.
    pub(super) fn let_go(&mut self, packet: &Packet, why: Drop) {
        self.counters.drop(why, 1);
        self.fragment_refused(packet, why);
    }

    /// Lets a packet take the service's floor. One that goes back to the switch meets its flow's entry there,
    /// and not the floor, if an earlier question's late answer has put it in meanwhile; while the entry is on
    /// its way, nobody knows what the packet would meet, and it waits as long as there is room.
    pub(super) fn floor(&mut self, packet: Packet, service: u8) {
        match self.fallback(service) {
            Fallback::Drop => self.let_go(&packet, Drop::Floor),
            Fallback::Route => {
                match self.flow_of_diverted(&packet, service) {
                    Some((at, Phase::Live)) => return self.resume_into(at, packet),
                    Some((at, Phase::Installing(_))) if self.take_room(&packet, service, None) => {
                        if let Some(flow) = self.store.get_mut(at) {
                            flow.transit_mut().held.push(packet);
                        }
                        return;
                    }
                    _ => {}
                }
                self.counters.floor_passed += 1;
                self.resume(packet);
            }
        }
    }

    /// The flow of a diverted packet at the service that wants it, and where its entries are.
    fn flow_of_diverted(&self, packet: &Packet, service: u8) -> Option<(FlowRef, Phase)> {
        let view = packet::view(&packet.bytes)?;
        let key = FlowKey {
            service,
            part: Part::from_number(packet.meta.part)?,
            tuple: view.tuple,
            kind: view.kind.at_stages(),
        };
        let at = self.store.find(&key)?;
        Some((at, self.store.get(at)?.phase))
    }

    /// Lets held packets take the floor.
    pub(super) fn floor_all(&mut self, held: Vec<Packet>, service: u8) {
        self.unreserve(&held, service);
        for packet in held {
            self.floor(packet, service);
        }
    }

    /// Hands a packet back to the stage that diverted it, with all that it carried (A4.4). That stage
    /// does not divert it again.
    pub(super) fn resume(&mut self, mut packet: Packet) {
        if packet.meta.kind == packet_in::FRAGMENT {
            // The switch would not know it for one of its flow.
            return self.fragment_answered(packet);
        }
        packet.meta.kind = packet_out::RESUME;
        packet.meta.answered = true;
        self.counters.resumed += 1;
        self.packet_out(packet);
    }

    /// Resumes a packet that will meet this flow's entry, and notes that it is no sign of life.
    pub(super) fn resume_into(&mut self, at: FlowRef, packet: Packet) {
        // Else that is noted for each entry that it meets.
        let notes_headers = self.target.header() > 0;
        if packet.meta.kind != packet_in::FRAGMENT
            && let Some(part) = Part::from_number(packet.meta.part)
            && let Some(direction) = self.store.get_mut(at).and_then(|f| f.direction_mut(part))
        {
            if !notes_headers {
                direction.resumed = direction.resumed.wrapping_add(1);
            }
            self.note_flags(at, part, packet::view(&packet.bytes).map_or(0, |v| v.flags));
        }
        self.resume(packet);
    }

    pub(super) fn question_due(&mut self, request: u64) {
        let now = self.now;
        let Some(question) = self.questions.get_mut(&request) else {
            return;
        };
        if now < question.deadline {
            // The question or its answer may have been lost.
            let again = (!question.repeated).then(|| question.interest.clone());
            question.repeated = true;
            let (key, entry) = (question.key, question.entry);
            self.timers.at(question.deadline, Timer::Question(request));
            if let Some(interest) = again {
                self.counters.interests_repeated += 1;
                // Its criterion may have ended meanwhile, or the service been divided anew.
                if let Some((share, asker)) = self.asker(&key, entry) {
                    if let Some(question) = self.questions.get_mut(&request) {
                        question.share = share;
                        question.session = asker;
                    }
                    self.send(asker, share, AgentBody::Interest(interest));
                }
            }
            return;
        }
        self.question_over(request);
    }

    /// Nobody has answered a question in time, nor will.
    pub(super) fn question_over(&mut self, request: u64) {
        if let Some(question) = self.questions.remove(&request) {
            self.asked_no_more(request, &question.key);
            self.leave_door(&question.key, question.door);
            self.counters.unanswered += 1;
            self.question_late(request, question.late());
            if let Some(packet) = question.first() {
                self.unanswered(request, &question.key, packet);
            }
            self.floor_all(question.held, question.key.service);
        }
    }

    /// A question is over: the flow's next packet is a new one.
    fn asked_no_more(&mut self, request: u64, key: &FlowKey) {
        if self.asked.get(key) == Some(&request) {
            self.asked.remove(key);
        }
    }

    pub(super) fn verdict(
        &mut self,
        id: SessionId,
        share: Share,
        manager: &Arc<str>,
        verdict: Verdict,
    ) {
        let service = share.service;
        let request = verdict.request;
        let subject = Subject::Verdict(request);
        let known = (self.questions.get(&request)).is_some_and(|q| q.share == share);
        if !known {
            if verdict.decision == Decision::Consume {
                self.consumed_late(id, share, request);
            }
            self.heard.answered(request);
            if self.question_answered_late(request) {
                self.counters.late_verdicts += 1;
                self.install(id, share, manager, subject, &verdict.affinities, None);
            } else {
                self.counters.repeated_verdicts += 1;
            }
            return;
        }
        let Some(question) = self.questions.remove(&request) else {
            return;
        };
        self.asked_no_more(request, &question.key);
        self.leave_door(&question.key, question.door);
        self.leave_opening(question.late());
        let flags = events::SYN | events::ACK;
        let asked = Asked {
            entry: question.entry,
            key: question.key,
            begins: question.key.tuple.proto != proto::TCP
                || question.interest.events & flags == events::SYN,
        };
        let affinities = &verdict.affinities;
        let installed = self.install(id, share, manager, subject, affinities, Some(asked));
        let held = question.held;
        if !installed {
            return self.floor_all(held, service);
        }
        match verdict.decision {
            Decision::Resume => {
                let at = self.store.find(&question.key);
                let installing = at
                    .and_then(|at| self.store.get_mut(at))
                    .filter(|flow| matches!(flow.phase, Phase::Installing(_)));
                if let Some(flow) = installing {
                    flow.transit_mut().held.extend(held);
                    return;
                }
                self.unreserve(&held, service);
                for packet in held {
                    match at {
                        Some(at) => self.resume_into(at, packet),
                        None => self.resume(packet),
                    }
                }
            }
            Decision::Consume | Decision::Drop => {
                self.unreserve(&held, service);
                let why = if verdict.decision == Decision::Drop {
                    Drop::Verdict
                } else {
                    Drop::Consumed
                };
                for packet in &held {
                    if why == Drop::Consumed {
                        self.consumed(id, share, &question.key, packet);
                    }
                    self.let_go(packet, why);
                }
            }
            Decision::Fallback => self.floor_all(held, service),
        }
    }

    /// Lets go of every held packet: the switch is gone, and they with it.
    pub(super) fn drop_held(&mut self) {
        let questions = std::mem::take(&mut self.questions);
        self.asked.clear();
        for (request, question) in questions {
            self.question_late(request, question.late());
            self.leave_door(&question.key, question.door);
            self.unreserve(&question.held, question.key.service);
            self.counters
                .drop(Drop::NoSwitch, question.held.len() as u64);
        }
    }

    /// A copy of a packet that went on: closing flows are noted, and whoever asked is told.
    pub(super) fn noticed(&mut self, packet: &Packet) {
        let Some(view) = packet::view(&packet.bytes) else {
            return self.counters.drop(Drop::Malformed, 1);
        };
        // The clone is the packet as it arrived, and names the entry of the last stage that asked for it. That
        // of any other stage is the one that the packet must have met.
        let last = self.store.by_entry_id(packet.meta.entry);
        let path = self.path(view.tuple, view.kind.at_stages());
        for bit in 0..32u8 {
            if packet.meta.notices & (1 << bit) == 0 || usize::from(bit) >= self.services.len() {
                continue;
            }
            let last = last.filter(|(at, _)| self.store.get(*at).is_some_and(|f| f.service == bit));
            let mut stops = path.iter().filter(|s| s.service == bit);
            let stop = (stops.clone().find(|s| s.flow.is_some())).or_else(|| stops.next_back());
            let met = last.or_else(|| stop.and_then(|s| Some((s.flow?, s.part))));
            if let Some((at, part)) = met {
                self.note_flags(at, part, view.flags);
                self.saw_answer(at, part);
                self.saw_flags(at, part, view.events);
            }
            self.pass_notice(bit, packet, &view, met, stop);
            if let Some((at, part)) = met {
                self.first_data(at, part, view.events);
            }
        }
    }

    /// Tells whoever decides for a service of a packet that went on, unless only the agent wanted to know.
    fn pass_notice(
        &mut self,
        service: u8,
        packet: &Packet,
        view: &packet::View,
        met: Option<(FlowRef, Part)>,
        stop: Option<&Stop>,
    ) {
        let own = met.and_then(|(at, part)| {
            let d = self.store.get(at)?.direction(part)?;
            Some((at.entry_id(part), part, d.tuple, d.interest.notice_events))
        });
        let (entry, part, flow) = match own {
            Some((.., wanted)) if wanted & view.events == 0 => return,
            Some((entry, part, tuple, _)) => (entry, part, tuple),
            None => stop.map_or((packet.meta.entry, Part::Forward, view.tuple), |s| {
                (packet.meta.entry, s.part, s.tuple)
            }),
        };
        let notice = Interest {
            request: 0,
            stage: service + 1,
            part,
            flow,
            kind: view.kind,
            events: view.events,
            packet: packet.bytes.clone(),
            state: self.carried(&packet.meta),
        };
        self.counters.notices += 1;
        let key = FlowKey {
            service,
            part,
            tuple: flow,
            kind: view.kind,
        };
        if let Some((share, asker)) = self.asker(&key, entry) {
            self.send(asker, share, AgentBody::Interest(notice));
        }
    }

    /// TCP flags of a packet that the agent has met, for reports.
    pub(super) fn note_flags(&mut self, at: FlowRef, part: Part, flags: u8) {
        if let Some(d) = (self.store.get_mut(at)).and_then(|f| f.direction_mut(part)) {
            d.tcp_flags |= flags;
        }
    }

    /// A packet of the side that did not open the flow.
    fn saw_answer(&mut self, at: FlowRef, part: Part) {
        let answers = self.store.get(at).is_some_and(|f| {
            f.phase == Phase::Live && f.progress == Progress::HalfOpen && part != f.opener
        });
        if answers {
            self.answered_flow(at);
        }
    }

    fn saw_flags(&mut self, at: FlowRef, part: Part, seen: u16) {
        let Some(flow) = self.store.get_mut(at) else {
            return;
        };
        if !flow.terms.track_close || flow.phase != Phase::Live {
            return;
        }
        let reset = seen & events::RST != 0;
        if flow.progress == Progress::Closed {
            // A FIN has closed the only direction that the agent sees; now the flow is over.
            if reset && !flow.reset {
                flow.reset = true;
                self.modify_direction(at, part);
            }
            return;
        }
        if seen & events::FIN != 0
            && let Some(direction) = flow.direction_mut(part)
        {
            direction.fin = true;
        }
        let all_fins = flow.directions().all(|d| d.fin);
        if reset || all_fins {
            self.closed(at, reset);
        }
    }
}
