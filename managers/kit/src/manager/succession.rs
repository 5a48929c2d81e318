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

use super::services::first_number;
use super::{Away, Manager, Output, Served};
use crate::decide::Decide;
use crate::memory::Life;
use crate::react::Ports;
use crate::service::{Service, criteria_of};
use crate::session::{Offer, SessionId};

impl Manager {
    /// Takes, for each service whose epoch nobody else gives, the one after the highest that the first agent
    /// has told of.
    pub(super) fn learn_epochs(&mut self, id: SessionId, welcome: &Welcome) {
        for index in 0..self.offers.len() {
            let Some(offer) = self.offers.get(index) else {
                return;
            };
            let told = (welcome.shares.iter())
                .filter(|s| s.service == offer.service && s.share == offer.share)
                .map(|s| s.epoch)
                .max()
                .unwrap_or(0);
            // It has the share by now, and the agent believes the epoch that it has taken to be somebody else's.
            let left = (self.ways.get(id)).is_some_and(|way| way.session.left_unclaimed(index));
            if left && !offer.learning && told == offer.epoch {
                self.heard(index, told + 1);
                continue;
            }
            if offer.backup || offer.learning || !offer.learns || offer.epoch != 0 {
                self.heard(index, told);
                continue;
            }
            let (Some(offer), Some(service)) =
                (self.offers.get_mut(index), self.services.get_mut(index))
            else {
                return;
            };
            let told = told.max(service.held.epoch());
            offer.epoch = offer.epoch_after(told);
            if told > 0
                && let Some(proxy) = service.decide.proxy()
            {
                proxy.follows(self.now);
            }
            service.memory.number_from(first_number(offer.epoch));
            self.out.push(Output::Log(format!(
                "{}: epoch {} (agent `{}` has seen {told})",
                offer.service, offer.epoch, welcome.agent
            )));
            self.took(index);
        }
    }

    /// Another plan, with decisions for each service that the manager serves by it. Sessions are closed, to
    /// be opened with the new plan. What was decided is remembered, and a service whose decisions can take
    /// over its new plan keeps them.
    pub fn replan(&mut self, now: Duration, plan: &Plan, services: Vec<Served>) -> Vec<Output> {
        self.now = self.now.max(now);
        for id in self.ways.ids() {
            self.disconnected(id);
            self.out.push(Output::Close(id));
        }
        self.unlink();
        self.plan = plan.clone();
        self.plan_hash = signalbox_agent::plan_hash(plan);
        self.ports = Ports::new(plan);
        self.by_name.clear();
        // Agents list what they hold when they are back, and their questions come again.
        self.ways.list_anew(None);
        self.waiting.clear();
        self.forget_round();
        let recalled: Vec<usize> = (0..self.offers.len())
            .filter(|index| self.is_recalling(*index) || self.is_learning(*index))
            .collect();
        let mut unlearned = Vec::new();
        let mut old: Vec<Option<(Offer, Service)>> = (std::mem::take(&mut self.offers).into_iter())
            .zip(std::mem::take(&mut self.services))
            .map(Some)
            .collect();
        let away = std::mem::take(&mut self.away);
        for (name, share, epoch, decide) in services {
            let of_it = |same: &dyn Fn(&Offer) -> bool| {
                (old.iter()).position(|o| {
                    (o.as_ref()).is_some_and(|(offer, _)| *offer.service == *name && same(offer))
                })
            };
            let backs = |share: u32| {
                (plan.services.iter())
                    .find(|s| s.name == name)
                    .and_then(|s| s.share(share))
                    .is_some_and(|share| share.is_backup(&self.name))
            };
            // The share that it decides for may have another number in another division.
            let own = |offer: &Offer| !offer.backup && !backs(share);
            let place = of_it(&|offer| offer.share == share).or_else(|| of_it(&own));
            let before = place.and_then(|at| Some((at, old.get_mut(at)?.take()?)));
            let Some((place, (offer, service))) = before else {
                self.add((&name, share), epoch, epoch == 0, 1, decide);
                continue;
            };
            let index = self.services.len();
            let (epoch, learns) = if offer.share == share {
                (offer.epoch, offer.learns)
            } else {
                (epoch, epoch == 0)
            };
            self.add((&name, share), epoch, learns, offer.version + 1, decide);
            let service_plan = plan.services.iter().find(|s| s.name == name);
            if let (Some(new), Some(service_plan)) = (self.services.get_mut(index), service_plan) {
                let mut service = service;
                // Another share's blocks are others, though their names are alike.
                if offer.share == share {
                    keep_blocks(new, &mut service);
                }
                succeed(new, service, &service_plan.of_share(share), plan, self.now);
                new.memory.number_from(first_number(epoch));
            }
            if recalled.contains(&place) {
                unlearned.push((index, offer.learning));
            }
            let stands_by = self.offers.get(index).is_some_and(|o| o.stands_by);
            if stands_by && !offer.stands_by {
                self.stepped_back(index);
            }
            // What its criteria need may be another thing now.
            if let (Some(offer), Some(service), Some(service_plan)) = (
                self.offers.get_mut(index),
                self.services.get(index),
                service_plan,
            ) {
                offer.criteria = criteria_of(service_plan, share, &*service.decide, offer.backup);
            }
            self.allow(index);
            let of_it = away.iter().filter(|a| a.service == place);
            self.away.extend(of_it.map(|a| Away {
                service: index,
                ..*a
            }));
        }
        self.link();
        for (index, learning) in unlearned {
            if learning {
                self.learn_first(Some(index));
            }
            self.wish_to_recall(Some(index));
        }
        std::mem::take(&mut self.out)
    }
}

/// What a service's blocks are called, if it has such.
fn block_names(decide: &mut dyn Decide) -> Vec<String> {
    decide.blocks().map_or_else(Vec::new, |blocks| {
        (0..blocks.count()).map(|n| blocks.name(n)).collect()
    })
}

/// A share goes on with its blocks if they are the same by another plan.
fn keep_blocks(new: &mut Service, old: &mut Service) {
    if block_names(&mut *old.decide) == block_names(&mut *new.decide) {
        new.held = std::mem::take(&mut old.held);
    }
}

/// Gives a service of another plan what the former one has: its memory, its counts, and its decisions if they
/// take the plan over. Others are told of every flow that is remembered.
fn succeed(new: &mut Service, mut old: Service, of: &ServicePlan, plan: &Plan, now: Duration) {
    new.counts = old.counts;
    new.passing.told = old.passing.told;
    new.memory = old.memory;
    new.reactions = old.reactions;
    old.decide.tick(now);
    if old.decide.update(of) {
        new.decide = old.decide;
        new.checker = old.checker;
        new.checker.update(plan, &new.decide.targets());
        return;
    }
    new.decide.tick(now);
    for (life, decided) in new.memory.decisions() {
        new.decide.adopted(decided);
        if life == Life::Gone {
            // What such a flow has had rests for a while.
            new.decide.ended(decided);
        }
    }
}
