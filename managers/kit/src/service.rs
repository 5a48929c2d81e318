//! One service of a manager: answers to agents' questions, from memory or by asking its [`Decide`].

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use signalbox_agent::flow::{PacketKind, Part, Tuple, events};
use signalbox_agent::message::{
    Action, Asking, Criterion, Decision, FixedAffinity, InstalledAffinity, Interest, InterestMask,
    Leases, StaticAction, Statistics,
};
use signalbox_agent::packet::proto;
use signalbox_lower::plan::{self, CriterionAction, Fallback, Limits, ServicePlan};

use crate::decide::{Choice, Decide, Decided, Opening, Reaction};
use crate::health::Checker;
use crate::manager::{Held, Passing};
use crate::memory::{AgentId, Life, Memory, Recipient, Remembered};
use crate::proxy::Proxy;
use crate::react::{self, Reactions};
use crate::turned_down::TurnedDown;

/// Set in the ids of fixed affinities' entries.
const FIXED_ENTRY: u32 = 0x8000_0000;

/// What a manager has counted of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Packets that agents asked about.
    pub interest_packets: u64,
    /// Of those, first packets that were decided.
    pub decided: u64,
    /// Of those, first packets of flows decided before: retransmissions, and flows new to that agent.
    pub repeated: u64,
    /// Of those, packets in mid-flow of flows that were decided before.
    pub mid_flow_known: u64,
    /// Of those, packets in mid-flow of unknown flows; never given a new decision (A8.4).
    pub mid_flow_unknown: u64,
    /// Flows that found nobody to serve them.
    pub no_choice: u64,
    /// Notices.
    pub notices: u64,
    /// Refusals by agents.
    pub denied: u64,
    /// Live flows that ended because their target had died.
    pub doomed: u64,
    /// Of all such flows' packets, those that were answered with a RST.
    pub resets: u64,
}

/// What becomes of a packet that an agent holds.
pub(crate) struct Answer {
    pub decision: Decision,
    /// What the agent is to install.
    pub affinities: Vec<FixedAffinity>,
    /// The flow is over: this is sent back, and its affinities are deleted.
    pub reset: Option<Reset>,
    /// Forward matches of what this takes the place of, and other agents that hold it yet.
    pub replaced: Vec<(AgentId, Tuple)>,
}

/// The end of a flow whose target has died.
pub(crate) struct Reset {
    /// A RST from the service's address, from its IP header on; none where the client has sent one.
    pub packet: Option<Bytes>,
    /// The flow.
    pub number: u64,
}

/// Who answers for a packet.
pub(crate) enum Asked<'a> {
    /// The service's proxy.
    Proxy(&'a mut dyn Proxy),
    /// What was decided, or whoever decides.
    Memory,
    /// Nobody yet.
    Later,
}

impl Answer {
    fn new(decision: Decision, affinities: Vec<FixedAffinity>) -> Self {
        Self {
            decision,
            affinities,
            reset: None,
            replaced: Vec::new(),
        }
    }
}

pub(crate) struct Service {
    pub limits: Limits,
    /// Its place in the cascade.
    pub stage: u8,
    pub decide: Box<dyn Decide>,
    pub memory: Memory,
    pub checker: Checker,
    pub counts: Counts,
    pub reactions: Reactions,
    pub turned_down: TurnedDown,
    pub passing: Passing,
    /// What the store that managers share has of it.
    pub held: Held,
}

impl Service {
    /// What becomes of a packet that an agent holds, and what it is to install. `None` where that takes a
    /// new decision, and none may be made yet. A question that comes again gets the same answer.
    pub fn answer(
        &mut self,
        now: Duration,
        to: Recipient,
        interest: &Interest,
        may_decide: bool,
    ) -> Option<Answer> {
        if let Some(decision) = to.question.and_then(|q| self.turned_down.answer(q)) {
            return Some(Answer::new(decision, Vec::new()));
        }
        let answer = self.first_answer(now, to, interest, may_decide)?;
        if let Some(question) = to.question
            && answer.affinities.is_empty()
            && answer.reset.is_none()
        {
            self.turned_down.note(now, question, answer.decision);
        }
        Some(answer)
    }

    fn first_answer(
        &mut self,
        now: Duration,
        to: Recipient,
        interest: &Interest,
        may_decide: bool,
    ) -> Option<Answer> {
        let flags = interest.events & (events::SYN | events::ACK | events::RST);
        let tcp = interest.flow.proto == proto::TCP;
        // What quotes a flow, or is a piece of a packet, is no flow's first packet.
        let opens = interest.kind == PacketKind::Whole
            && (interest.part == Part::Forward || self.decide.opens_inbound())
            && (!tcp || flags == events::SYN || self.decide.opens_in_mid_flow());
        if let Some(number) = self.standing(interest, Some(to), opens, tcp) {
            // The same flow gets the same decision (A6.3, A8.7).
            if opens {
                self.counts.repeated += 1;
            } else {
                self.counts.mid_flow_known += 1;
            }
            if let Some(answer) = self.doomed(now, number, to, interest) {
                return Some(answer);
            }
            if let Some(flow) = self.memory.given(number, to, None) {
                self.decide.adopted(&flow.decided);
            }
            let affinities = self.affinities(number, to.agent);
            return Some(Answer::new(Decision::Resume, affinities));
        }
        if !may_decide {
            return None;
        }
        if !opens {
            // What the policy wants of it; never a server that knows nothing of the flow.
            self.counts.mid_flow_unknown += 1;
            return Some(Answer::new(Decision::Fallback, Vec::new()));
        }
        let opening = Opening {
            flow: interest.flow,
            kind: interest.kind,
            ingress_port: interest.state.ingress_port,
            packet: &interest.packet,
        };
        let memory = &self.memory;
        let taken = |reply: &_| memory.taken(*reply, interest.flow, interest.kind);
        let mut choice = match interest.part {
            Part::Forward => self.decide.decide(now, &opening, &taken),
            Part::Reply => self.decide.decide_inbound(now, &opening),
        };
        if let Choice::Install(decided) = &choice
            && memory.in_the_way(interest.part, decided, interest.kind)
        {
            // A new flow must never end one that is alive.
            self.decide.refused(decided);
            choice = Choice::Fallback;
        }
        Some(match choice {
            Choice::Install(decided) => {
                self.counts.decided += 1;
                let (number, former) = self.memory.remember(decided, interest.kind, to, None);
                let affinities = self.affinities(number, to.agent);
                let mut answer = Answer::new(Decision::Resume, affinities);
                for flow in former {
                    if flow.life != Life::Gone {
                        self.decide.ended(&flow.decided);
                    }
                    // Those who carry out the very same go on with it.
                    let goes_on = |agent: &AgentId| {
                        (self.memory.get(number)).is_some_and(|f| f.holders().any(|a| a == *agent))
                    };
                    let others = flow.holders().filter(|agent| !goes_on(agent));
                    (answer.replaced).extend(others.map(|a| (a, flow.decided.forward.0)));
                }
                answer
            }
            Choice::Drop => {
                self.counts.no_choice += 1;
                Answer::new(Decision::Drop, Vec::new())
            }
            Choice::Fallback => {
                self.counts.no_choice += 1;
                Answer::new(Decision::Fallback, Vec::new())
            }
        })
    }

    /// Whose a packet is: a proxy's whose own the flow is, or that nobody has decided about. What this manager
    /// does not know may yet turn out to be decided before it may decide.
    pub fn asked(&mut self, interest: &Interest, may_decide: bool) -> Asked<'_> {
        if !self.decide.is_proxy() {
            return Asked::Memory;
        }
        let forward = match interest.part {
            Part::Forward => interest.flow,
            Part::Reply => interest.flow.reversed(),
        };
        let flags = interest.events & (events::SYN | events::ACK | events::RST);
        let opens = interest.part == Part::Forward && flags == events::SYN;
        let remembered = self.standing(interest, None, opens, true).is_some();
        let own = (self.decide.proxy()).is_some_and(|proxy| proxy.has(&forward));
        if !own && !remembered && !may_decide {
            return Asked::Later;
        }
        if opens && !remembered {
            // A proxy may keep nothing of a SYN: what comes after it would get the old connection's decision.
            let former = self
                .memory
                .take(interest.part, interest.flow, interest.kind);
            if let Some(flow) = former.filter(|flow| flow.life != Life::Gone) {
                self.decide.ended(&flow.decided);
            }
        }
        match self.decide.proxy() {
            Some(proxy) if own || !remembered => Asked::Proxy(proxy),
            _ => Asked::Memory,
        }
    }

    /// What becomes of a packet of a flow whose target has died; `None` if it has not.
    fn doomed(
        &mut self,
        now: Duration,
        number: u64,
        to: Recipient,
        interest: &Interest,
    ) -> Option<Answer> {
        let flow = self.memory.get(number)?;
        let reaction = flow.doom?;
        if reaction == Reaction::Drop || interest.part == Part::Reply {
            // What no agent holds is not installed for its end.
            let install = reaction == Reaction::Drop && flow.life != Life::Gone;
            let affinities = if install {
                self.memory.given(number, to, None);
                self.affinities(number, to.agent)
            } else {
                Vec::new()
            };
            return Some(Answer::new(Decision::Drop, affinities));
        }
        let mut answer = Answer::new(Decision::Consume, Vec::new());
        if interest.events & events::RST != 0 {
            let packet = None;
            answer.reset = Some(Reset { packet, number });
        } else if let Some(packet) = react::reset(&interest.flow, &interest.packet)
            && self.reactions.may_reset(now)
        {
            self.counts.resets += 1;
            let packet = Some(packet);
            answer.reset = Some(Reset { packet, number });
        }
        Some(answer)
    }

    /// A target has gone down: its flows end as the service wants.
    pub fn died(&mut self, now: Duration) {
        if self.decide.reaction().is_none() {
            return;
        }
        let decide = &self.decide;
        for number in self.memory.dead(|decided| decide.is_dead(decided)) {
            self.doom(now, number);
        }
    }

    fn doom(&mut self, now: Duration, number: u64) {
        if let Some(reaction) = self.decide.reaction()
            && self.memory.doom(number, reaction)
        {
            self.counts.doomed += 1;
            self.reactions.add(now, number);
        }
    }

    /// What agents are to be told of doomed flows now.
    pub fn react(&mut self, now: Duration) -> Vec<(AgentId, Vec<FixedAffinity>)> {
        let mut list = Vec::new();
        for number in self.reactions.due(now) {
            if let Some(flow) = self.memory.get(number) {
                for agent in flow.holders() {
                    list.push((agent, self.affinities(number, agent)));
                }
            }
        }
        list
    }

    /// The flow whose decision this packet gets, if one was made that still holds.
    fn standing(
        &self,
        interest: &Interest,
        to: Option<Recipient>,
        opens: bool,
        tcp: bool,
    ) -> Option<u64> {
        let (number, flow) = (self.memory).find(interest.part, interest.flow, interest.kind)?;
        let question = to.and_then(|to| to.question);
        if question.and_then(|q| self.memory.answered(q)) == Some(number) {
            return Some(number);
        }
        let gone = flow.life == Life::Gone;
        if (gone || to.is_some_and(|to| flow.is_left_by(to)))
            && self.decide.hold_back().is_some()
            && (!self.decide.stands(&flow.decided) || self.memory.is_astray(&flow.decided))
        {
            // What it had may be another flow's by now.
            return None;
        }
        // An entry diverts an opening packet itself only once its flow has closed or is doomed.
        let closed = interest.state.entry & FIXED_ENTRY != 0;
        let afresh = if tcp {
            closed || flow.life != Life::Live || flow.doom.is_some()
        } else {
            // A packet does not tell whether it opens a flow or goes on with it.
            gone && (flow.doom.is_some() || !self.decide.stands(&flow.decided))
        };
        (!(opens && afresh)).then_some(number)
    }

    /// A remembered decision as an agent wants it, under the number by which that agent calls it.
    pub fn affinities(&self, number: u64, agent: AgentId) -> Vec<FixedAffinity> {
        let called = self.memory.called(number, agent);
        (self.memory.get(number)).map_or_else(Vec::new, |flow| {
            self.rendered(called.unwrap_or(number), flow)
        })
    }

    fn rendered(&self, number: u64, flow: &Remembered) -> Vec<FixedAffinity> {
        let decided = &flow.decided;
        let reply = decided.reply.as_ref();
        let is_tcp = decided.forward.0.proto == proto::TCP;
        let make = |part, tuple: Tuple, actions: &[Action], partner| {
            let drop = flow.doom == Some(Reaction::Drop);
            let actions = if drop { &[Action::Drop][..] } else { actions };
            let packet_events = match (flow.doom, part) {
                (Some(Reaction::Reset), Part::Forward) => events::ALL,
                // A new connection on the tuple of one that is dropped.
                (Some(Reaction::Drop), Part::Forward) if is_tcp => events::SYN,
                _ => 0,
            };
            let leases = self.leases(decided);
            FixedAffinity {
                part,
                tuple,
                kind: flow.kind,
                actions: actions.to_vec(),
                flow: number,
                partner,
                cookie: decided.cookie.clone(),
                leases: Leases {
                    // Without a way back nobody sees the answer.
                    half_open_ms: leases.half_open_ms.filter(|_| reply.is_some() && !drop),
                    // What is dropped need not be kept for long: the manager remembers it.
                    idle_ms: if drop {
                        leases.closed_ms
                    } else {
                        leases.idle_ms
                    },
                    ..leases
                },
                interest: InterestMask {
                    packet_events,
                    notice_events: 0,
                },
                track_close: is_tcp,
                statistics: statistics(decided),
            }
        };
        let (forward, actions) = &decided.forward;
        let mut list = Vec::with_capacity(2);
        if let Some((tuple, actions)) = reply {
            list.push(make(Part::Reply, *tuple, actions, Some(*forward)));
        }
        let partner = reply.map(|(tuple, _)| *tuple);
        list.push(make(Part::Forward, *forward, actions, partner));
        list
    }

    fn leases(&self, decided: &Decided) -> Leases {
        decided.leases.unwrap_or(Leases {
            half_open_ms: Some(self.limits.half_open_ms),
            idle_ms: Some(self.limits.idle_ms),
            closed_ms: Some(self.limits.closed_ms),
            hard_ms: None,
        })
    }

    /// A decision with nothing left to the plan.
    pub fn settled(&self, decided: &Decided) -> Decided {
        Decided {
            leases: Some(self.leases(decided)),
            statistics: Some(statistics(decided)),
            ..decided.clone()
        }
    }

    /// Takes in what agents hold by another manager's word; what was remembered of the same tuples gives way.
    pub fn learn(&mut self, decided: Decided, kind: PacketKind, agents: &[AgentId], telling: u32) {
        let adopted = decided.clone();
        let former = (self.memory).remember_told(decided, kind, agents, telling);
        for flow in former.iter().filter(|flow| flow.life != Life::Gone) {
            self.decide.ended(&flow.decided);
        }
        self.decide.adopted(&adopted);
    }

    /// Remembers a decision of which another manager knew that no agent holds it any more: what it had rests.
    pub fn rest(&mut self, now: Duration, decided: Decided, kind: PacketKind) {
        if !self.memory.knows(&decided, kind) {
            self.decide.adopted(&decided);
            self.decide.ended(&decided);
            self.memory.remember_gone(now, decided, kind);
        }
    }

    /// Learns a decision that an agent holds already.
    pub fn adopt(&mut self, now: Duration, to: Recipient, installed: &InstalledAffinity) {
        let a = &installed.affinity;
        if a.part != Part::Forward {
            return;
        }
        // What it lists instead of what this manager has said it has never heard, or has been told otherwise.
        if let Some(flow) = self.memory.contradicted(now, to, a) {
            self.decide.ended(&flow);
        }
        let known = (self.memory.find(a.part, a.tuple, a.kind))
            // What nobody holds gives way to what an agent carries out.
            .filter(|(_, f)| f.life != Life::Gone || f.decided.forward.1 == a.actions)
            .map(|(number, f)| (number, f.decided.forward.1 == a.actions, f.doom.is_some()));
        let others = self.decide.hold_back().is_some()
            && match known {
                Some((_, same, _)) => !same,
                None => (a.partner).is_some_and(|r| self.memory.held(r, a.kind)),
            };
        if let Some((number, same, doomed)) = known.filter(|_| !others) {
            if doomed {
                // It may not have heard while it was away.
                self.reactions.add(now, number);
            }
            if let Some(flow) = self.memory.given(number, to, Some(a.flow)) {
                self.decide.adopted(&flow.decided);
            }
            if !doomed && !same && a.actions.contains(&Action::Drop) {
                // Its target died under the manager before this one.
                self.memory.doom(number, Reaction::Drop);
            }
            return;
        }
        let reply = a.partner.map(|partner| (partner, self.decide.way_back(a)));
        let decided = Decided {
            forward: (a.tuple, a.actions.clone()),
            reply,
            leases: Some(a.leases),
            statistics: Some(a.statistics),
            cookie: a.cookie.clone(),
        };
        if others {
            // Two agents carry out what contradicts itself. The first one's stands; what the other's has
            // taken is nobody else's until it is over.
            if self.memory.astray(to, a.flow, decided.clone()) {
                self.decide.adopted(&decided);
            }
            return;
        }
        self.decide.adopted(&decided);
        let (number, former) = self.memory.remember(decided, a.kind, to, Some(a.flow));
        let dead = (self.memory.get(number)).is_some_and(|f| self.decide.is_dead(&f.decided));
        if a.actions.contains(&Action::Drop) {
            // Its target died under the manager before this one.
            self.memory.doom(number, Reaction::Drop);
        } else if dead {
            self.doom(now, number);
        }
        for flow in former {
            if flow.life != Life::Gone {
                self.decide.ended(&flow.decided);
            }
        }
        if installed.closed {
            self.memory.closed(number);
        }
    }
}

fn statistics(decided: &Decided) -> Statistics {
    decided.statistics.unwrap_or(Statistics {
        count: true,
        every_ms: None,
        on_close: true,
        flags: false,
    })
}

/// The plan's criteria that ask the manager of a share, as it installs them: its backup's lie right below.
pub(crate) fn criteria_of(
    service: &ServicePlan,
    share: u32,
    decide: &dyn Decide,
    backup: bool,
) -> Vec<Criterion> {
    let needs = decide.needs();
    let asking = if decide.is_proxy() {
        Asking::EveryPacket
    } else {
        Asking::OnceAFlow
    };
    // A packet that comes back without an affinity must not get past the service.
    let action = match service.fallback {
        // A proxy's own packets have none, and what it does not answer for the agent drops.
        _ if decide.is_proxy() => StaticAction::Pass,
        Fallback::Drop => StaticAction::Drop,
        Fallback::Route => StaticAction::Pass,
    };
    let of_part = |part: Part, criteria: &[plan::Criterion]| -> Vec<Criterion> {
        (criteria.iter())
            .filter_map(|c| match c.action {
                CriterionAction::Ask {
                    packet_events,
                    notice_events,
                } => Some(Criterion {
                    id: c.id,
                    part,
                    priority: c.priority - i32::from(backup),
                    interest: InterestMask {
                        packet_events,
                        notice_events,
                    },
                    asking,
                    action,
                    statistics: Statistics::default(),
                    cubes: c.cubes.clone(),
                    needs: needs.clone(),
                }),
                CriterionAction::Pass | CriterionAction::Discard => None,
            })
            .collect()
    };
    let (forward, reply) = service.asks(share);
    let mut list = of_part(Part::Forward, forward);
    list.extend(of_part(Part::Reply, reply));
    list
}
