//! The evaluator as a target of policy tests, with managers that decide at once.

use super::stand_ins::StandIns;
use super::{DroppedBy, End, Fate, Target, frames};
use crate::eval::{Evaluator, Message, Outcome, Resume};
use crate::model::{Fallback, Policy, Service, ServiceIndex};

/// A policy's meaning with managers behind it.
pub(super) struct OnEvaluator<'p> {
    policy: &'p Policy,
    evaluator: Evaluator<'p>,
    managers: StandIns<'p>,
}

impl<'p> OnEvaluator<'p> {
    pub(super) fn new(policy: &'p Policy) -> OnEvaluator<'p> {
        OnEvaluator {
            policy,
            evaluator: Evaluator::new(policy),
            managers: StandIns::new(policy),
        }
    }
}

impl Target for OnEvaluator<'_> {
    fn reset(&mut self) {
        *self = OnEvaluator::new(self.policy);
    }

    fn send(&mut self, port: u16, frame: &[u8]) -> Fate {
        let mut asked: Vec<ServiceIndex> = Vec::new();
        let mut managers = Vec::new();
        let (mut outcome, mut counted) = self.evaluator.receive_counted(port, frame);
        // Each pass answers one service, and a service is asked once: the loop ends.
        while let Outcome::ToAgent {
            message: Message::Interest,
            stage: Some((service, part)),
            reply,
            dispatch,
            packet,
        } = &outcome
        {
            let service = *service;
            if asked.contains(&service) {
                break;
            }
            asked.push(service);
            let manager = self.evaluator.asked_about(port, packet, service, *part);
            managers.extend(manager);
            let resume = Resume {
                port,
                part: *part,
                service,
                reply: *reply,
                answered: true,
                dispatch: *dispatch,
            };
            let decided =
                self.managers
                    .decide(&mut self.evaluator, service, manager, *part, packet);
            let fallback = self.policy.service(service).map(Service::fallback);
            if !decided && fallback != Some(Fallback::Route) {
                return Fate {
                    asked,
                    managers,
                    counted,
                    end: End::Dropped(DroppedBy::Service(service)),
                };
            }
            let (next, more) = self.evaluator.resume_counted(packet, resume);
            counted.extend(more);
            outcome = next;
        }
        Fate {
            asked,
            managers,
            counted,
            end: self.end(outcome),
        }
    }
}

impl OnEvaluator<'_> {
    fn end(&self, outcome: Outcome) -> End {
        match outcome {
            Outcome::Forward { port, packet } => End::Forwarded {
                port,
                frame: packet,
            },
            Outcome::Tunnelled {
                port,
                tunnel,
                to,
                packet,
            } => End::Forwarded {
                port,
                frame: frames::in_tunnel(self.policy, port, tunnel, to, &packet),
            },
            Outcome::Drop {
                service: Some(service),
                ..
            } => End::Dropped(DroppedBy::Service(service)),
            Outcome::Drop {
                reason,
                service: None,
            } => End::Dropped(DroppedBy::Pipeline(reason)),
            // The agent answers echoes. Of its own connections none is open in a test.
            Outcome::ToAgent {
                message: Message::Local,
                packet,
                ..
            } if self.is_echo(&packet) => End::Replied,
            Outcome::ToAgent { message, .. } => End::AtAgent(message),
        }
    }

    fn is_echo(&self, frame: &[u8]) -> bool {
        let flow = self.evaluator.flow(frame);
        flow.is_some_and(|(key, _)| matches!(key.proto, 1 | 58))
    }
}
