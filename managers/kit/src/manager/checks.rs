//! Health checks of a manager's services: they go out through one agent, come back by any, and what they find the
//! service hears.

use bytes::Bytes;
use signalbox_agent::message::{Inject, ManagerBody, Place};

use super::{Manager, Output};
use crate::health::Verdict as Health;
use crate::session::SessionId;

impl Manager {
    /// The agent through which checks go: the first one that is there.
    pub(super) fn speaker(&self) -> Option<SessionId> {
        self.ways.known().next().map(|(id, _)| id)
    }

    /// Sends what is due.
    pub(super) fn check(&mut self) {
        let now = self.now;
        let Some(speaker) = self.speaker() else {
            return;
        };
        for index in 0..self.services.len() {
            // What it says before it has claimed the share is denied.
            let learning = self.is_learning(index);
            let Some(service) = self.services.get_mut(index).filter(|_| !learning) else {
                continue;
            };
            if service.checker.next().is_some_and(|at| at <= now) {
                let steps = service.checker.tick(now);
                self.checked(speaker, index, steps);
            }
        }
    }

    /// A packet for the manager itself has come by an agent.
    pub(super) fn arrived(&mut self, id: SessionId, packet: &Bytes) {
        let now = self.now;
        for index in 0..self.services.len() {
            let steps = (self.services.get_mut(index))
                .map(|s| s.checker.arrived(now, packet))
                .unwrap_or_default();
            self.checked(id, index, steps);
        }
    }

    /// Carries out what checks want: packets out, and news to the service.
    fn checked(&mut self, id: SessionId, index: usize, steps: Vec<Health>) {
        for step in steps {
            match step {
                Health::Send(packet) => {
                    self.injected += 1;
                    let inject = Inject {
                        request: self.injected,
                        packet,
                        place: Place::Route,
                    };
                    self.say(id, index, ManagerBody::Inject(inject));
                }
                Health::Loaded { target, percent } => {
                    if let Some(service) = self.services.get_mut(index) {
                        service.decide.load(target, percent);
                    }
                }
                Health::Changed { target, up } => {
                    if let Some(service) = self.services.get_mut(index) {
                        service.decide.health(target, up);
                        // Whoever stands by ends nobody's flows.
                        if !up && !self.offers.get(index).is_some_and(|o| o.stands_by) {
                            service.died(self.now);
                        }
                        let status = service.decide.status();
                        let name = status.get(target).map_or("", |t| t.name.as_str());
                        let word = if up { "up" } else { "down" };
                        let offer = self.offers.get(index).map_or("", |o| &o.service);
                        self.out
                            .push(Output::Log(format!("{offer}: {name} is {word}")));
                    }
                }
            }
        }
    }
}
