//! How a manager follows on another one of its name, and on its own former plan.
//!
//! Epochs without a shared store: a process that starts knows no epoch and takes the one after the highest
//! that an agent tells it, so that what it says is never old. It does so again whenever an agent tells of a
//! higher one: that agent was out of reach at the start, and remembers an epoch of some process before this
//! one. Two processes of one name would so outbid each other without end; therefore not epochs but the
//! start of their processes decides between them. An agent that has a session with the later one refuses
//! the earlier one, which ends (`Reason::Superseded`), and it is the same one everywhere.

use std::time::Duration;

use signalbox_agent::message::Welcome;
use signalbox_lower::plan::{Plan, ServicePlan};

use super::{Away, Manager, Output, first_number};
use crate::decide::Decide;
use crate::service::Service;
use crate::session::{Offer, SessionId};

impl Manager {
    /// Takes, for each service whose epoch nobody else gives, the one after the highest that agents have
    /// told of.
    pub(super) fn learn_epochs(&mut self, welcome: &Welcome) {
        for (offer, service) in self.offers.iter_mut().zip(&mut self.services) {
            if !offer.learns {
                continue;
            }
            let told = (welcome.shares.iter())
                .filter(|s| s.service == offer.service && s.share == offer.share)
                .map(|s| s.epoch)
                .max()
                .unwrap_or(0);
            if offer.epoch != 0 && told <= offer.epoch {
                continue;
            }
            offer.epoch = told.saturating_add(1);
            service.memory.number_from(first_number(offer.epoch));
            self.out.push(Output::Log(format!(
                "{}: epoch {} (agent `{}` has seen {told})",
                offer.service, offer.epoch, welcome.agent
            )));
        }
    }

    /// Another plan, with the decisions of each service that the manager serves by it. Sessions are closed,
    /// to be opened with the new plan. What was decided is remembered; a service of which the plan says what
    /// it said before goes on as it is.
    pub fn replan(
        &mut self,
        now: Duration,
        plan: &Plan,
        services: Vec<(String, u64, Box<dyn Decide>)>,
    ) -> Vec<Output> {
        self.now = self.now.max(now);
        let sessions: Vec<SessionId> = self.ways.keys().copied().collect();
        for id in sessions {
            self.disconnected(id);
            self.out.push(Output::Close(id));
        }
        let former = std::mem::replace(&mut self.plan, plan.clone());
        self.plan_hash = signalbox_agent::plan_hash(plan);
        self.by_name.clear();
        let mut old: Vec<Option<(Offer, Service)>> = (std::mem::take(&mut self.offers).into_iter())
            .zip(std::mem::take(&mut self.services))
            .map(Some)
            .collect();
        let away = std::mem::take(&mut self.away);
        for (name, epoch, decide) in services {
            let place = (old.iter())
                .position(|o| o.as_ref().is_some_and(|(offer, _)| *offer.service == *name));
            let before = place.and_then(|at| Some((at, old.get_mut(at)?.take()?)));
            let Some((place, (offer, service))) = before else {
                self.add(&name, epoch, epoch == 0, 1, decide);
                continue;
            };
            let index = self.services.len();
            let version = offer.version + 1;
            let same = is_same(&former, plan, &name);
            self.add(&name, offer.epoch, offer.learns, version, decide);
            if let Some(new) = self.services.get_mut(index) {
                if same {
                    *new = service;
                } else {
                    succeed(new, service, self.now);
                }
                let of_it = away.iter().filter(|a| a.service == place);
                self.away.extend(of_it.map(|a| Away {
                    service: index,
                    ..*a
                }));
            }
        }
        std::mem::take(&mut self.out)
    }
}

/// Whether two plans say the same of a service, as far as its manager is concerned.
fn is_same(old: &Plan, new: &Plan, name: &str) -> bool {
    let of = |plan: &Plan| -> Option<ServicePlan> {
        let service = plan.services.iter().find(|s| s.name == name)?;
        Some(ServicePlan {
            stage: 0,
            ..service.clone()
        })
    };
    // Checks are sent from the ports' addresses.
    of(old) == of(new) && old.ports == new.ports && old.routes == new.routes
}

/// Gives a service with new decisions what the former ones have left.
fn succeed(new: &mut Service, old: Service, now: Duration) {
    new.checker.start_at(now);
    let (targets, stood) = (old.decide.targets(), old.decide.status());
    for (number, target) in new.decide.targets().iter().enumerate() {
        let same = |t: &crate::decide::Target| (t.address, t.port) == (target.address, target.port);
        let was = (targets.iter().position(same)).and_then(|at| stood.get(at));
        if was.is_some_and(|s| !s.up) {
            new.decide.health(number, false);
            new.checker.carry(number, false);
        }
    }
    new.counts = old.counts;
    new.memory = old.memory;
    for decided in new.memory.held() {
        new.decide.adopted(decided);
    }
}
