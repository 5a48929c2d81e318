//! Carries out what services want that answer packets themselves.

use signalbox_agent::flow::{PacketKind, Part};
use signalbox_agent::message::{CarriedState, Decision, Inject, ManagerBody, Place, Verdict};
use signalbox_agent::packet;

use super::{Manager, SessionId};
use crate::decide::Decided;
use crate::memory::{Life, Recipient};
use crate::proxy::{Question, Step};

impl Manager {
    /// Does what a service's proxy wants done, if it is one.
    pub(super) fn proxy_steps(&mut self, index: usize) {
        let steps = (self.services.get_mut(index))
            .and_then(|s| s.decide.proxy())
            .map(|proxy| proxy.steps())
            .unwrap_or_default();
        for step in steps {
            match step {
                Step::Answer { question, decision } => self.answer(index, question, decision),
                Step::HandOver {
                    decided,
                    last,
                    held,
                } => self.hand_over(index, *decided, last, held),
                Step::Inject {
                    way,
                    part,
                    like,
                    packet,
                } => {
                    let source = packet::addresses(&packet).map(|(src, ..)| src);
                    let port = source.and_then(|src| self.ports.towards(src));
                    let state = CarriedState {
                        reply: part == Part::Reply,
                        notices: 0,
                        entry: 0,
                        ..like.unwrap_or(CarriedState {
                            ingress_port: port.unwrap_or(0),
                            ..CarriedState::default()
                        })
                    };
                    let stage = self.services.get(index).map_or(0, |s| s.stage);
                    self.injected += 1;
                    let inject = Inject {
                        request: self.injected,
                        packet,
                        place: Place::Stage {
                            stage,
                            part,
                            state,
                            answered: true,
                        },
                    };
                    self.say(way, index, ManagerBody::Inject(inject));
                }
            }
        }
    }

    fn answer(&mut self, index: usize, question: Question, decision: Decision) {
        let verdict = Verdict {
            request: question.request,
            decision,
            affinities: Vec::new(),
        };
        self.say(question.way, index, ManagerBody::Verdict(verdict));
    }

    fn recipient(&self, question: Question) -> Option<Recipient> {
        let (agent, session) = self.ways.agent(question.way)?;
        Some(Recipient {
            agent,
            session,
            question: Some((question.way, question.request)),
        })
    }

    /// The flow is remembered as any that was decided, and every packet of it that an agent holds brings the
    /// affinities with its answer: whichever comes first installs them.
    fn hand_over(
        &mut self,
        index: usize,
        decided: Decided,
        (last, decision): (Question, Decision),
        held: Vec<Question>,
    ) {
        let Some(to) = self.recipient(last) else {
            // Its agent is away, and with it all that it held: nobody carries it out.
            if let Some(service) = self.services.get_mut(index) {
                service.decide.refused(&decided);
            }
            return;
        };
        let others: Vec<(SessionId, Recipient)> = (held.iter())
            .filter(|q| q.way != last.way)
            .filter_map(|q| Some((q.way, self.recipient(*q)?)))
            .collect();
        let Some(service) = self.services.get_mut(index) else {
            return;
        };
        service.counts.decided += 1;
        let (number, former) = service
            .memory
            .remember(decided, PacketKind::Whole, to, None);
        for flow in former {
            if flow.life != Life::Gone {
                service.decide.ended(&flow.decided);
            }
        }
        for (_, to) in others {
            service.memory.given(number, to, None);
        }
        let all = std::iter::once((last, decision)).chain(
            held.into_iter()
                .map(|question| (question, Decision::Resume)),
        );
        for (question, decision) in all {
            let agent = self.recipient(question).map(|to| to.agent);
            let affinities = agent
                .and_then(|agent| Some(self.services.get(index)?.affinities(number, agent)))
                .unwrap_or_default();
            let verdict = Verdict {
                request: question.request,
                decision,
                affinities,
            };
            self.verdict(question.way, index, Some(number), verdict);
        }
    }
}
