//! How a share of a service passes from its manager to the one that stands by for it, and back.
//!
//! Nobody says that a manager is dead: its criteria end with their lease, and from then on those of its backup
//! match, which lie below. The first packet that an agent asks the backup about is how the backup hears of it. It
//! takes the next epoch and shows it to all agents, so that the first one is denied wherever it may still be
//! heard; has them list what they hold; and decides when they have. A manager that is back takes the next epoch in
//! turn, and its backup, seeing that, steps back.
//!
//! Where each of the two reaches agents that the other does not, both have a reason to decide. They would raise
//! epochs for ever: so the first one waits before it takes its share back, each time twice as long.

use std::time::Duration;

use signalbox_agent::message::ManagerBody;

use super::services::first_number;
use super::{Manager, Output};
use crate::memory::AgentId;
use crate::session::SessionId;

/// How long agents may take to list what they hold, before who has taken over decides without.
const LISTS: Duration = Duration::from_secs(5);
/// Between taking a share back and taking it back again: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Without having taken it back for so long, it begins with the first pause again.
const CALM: Duration = Duration::from_secs(60);

/// A share's passing from one manager to another, as this one sees it.
#[derive(Debug, Default)]
pub(crate) struct Passing {
    /// Until then nothing is decided before every agent has listed what it holds.
    pub lists_until: Option<Duration>,
    /// The highest epoch that was heard of before the share was claimed.
    pub told: u64,
    /// When it takes back what another one has taken, and over which epoch.
    retake: Option<(Duration, u64)>,
    /// When it did last, and how long it waits from then on.
    taken: Duration,
    pause: Duration,
}

impl Passing {
    /// When something is due.
    pub(super) fn next(&self) -> Option<Duration> {
        let retake = self.retake.map(|(at, _)| at);
        [self.lists_until, retake].into_iter().flatten().min()
    }
}

impl Manager {
    /// An agent has told of the highest epoch of a share that it has seen.
    pub(super) fn heard(&mut self, index: usize, told: u64) {
        let now = self.now;
        let (Some(offer), Some(service)) =
            (self.offers.get_mut(index), self.services.get_mut(index))
        else {
            return;
        };
        if offer.learning {
            service.passing.told = service.passing.told.max(told);
            return;
        }
        if told <= offer.epoch {
            return;
        }
        if !offer.backup {
            let passing = &mut service.passing;
            if now >= passing.taken + CALM {
                passing.pause = Duration::ZERO;
            }
            let at = now.max(passing.taken + passing.pause);
            let over = passing.retake.map_or(told, |(_, over)| over.max(told));
            passing.retake = Some((at, over));
            return self.retake(index);
        }
        offer.epoch = told;
        if !offer.stands_by {
            offer.stands_by = true;
            service.passing.lists_until = None;
            let text = format!(
                "{}: its own manager is back (epoch {told}); `{}` stands by again",
                offer.service, self.name
            );
            self.out.push(Output::Log(text));
            self.stepped_back(index);
            // Whoever decides is asked again.
            self.waiting.retain(|w| w.service != index);
        }
        self.show(index);
    }

    /// An agent asks a manager that stands by: nobody above it asks to be asked any more.
    pub(super) fn asked(&mut self, index: usize, told: u64, agent: &str) {
        let Some(offer) = self.offers.get(index) else {
            return;
        };
        // What was asked under an older epoch is answered by now.
        if offer.stands_by && !offer.learning && told >= offer.epoch {
            self.take(index, told, &format!("agent `{agent}` asks its backup"));
        }
    }

    /// Takes a share back, if it is time.
    pub(super) fn retake(&mut self, index: usize) {
        let now = self.now;
        let Some(service) = self.services.get_mut(index) else {
            return;
        };
        let passing = &mut service.passing;
        if passing.lists_until.is_some_and(|until| until <= now) {
            passing.lists_until = None;
        }
        let Some((_, over)) = passing.retake.take_if(|(at, _)| *at <= now) else {
            return;
        };
        passing.taken = now;
        passing.pause = (passing.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.take(index, over, "another manager had it");
    }

    /// Takes over from whoever has decided for a share, under its next epoch after `told`.
    pub(super) fn take(&mut self, index: usize, told: u64, why: &str) {
        let (Some(offer), Some(service)) = (self.offers.get(index), self.services.get_mut(index))
        else {
            return;
        };
        service.memory.reigns_anew(self.opened);
        let told = told.max(service.held.epoch()).max(offer.epoch);
        let epoch = offer.epoch_after(told);
        let mut why = why.to_owned();
        if offer.backup {
            let known = self.replica(index);
            why.extend(known.map(|known| format!("; {known}")));
            self.presume_dead(index);
        } else {
            // The other one has decided meanwhile.
            self.wish_to_recall(Some(index));
        }
        self.reign(index, epoch, &why);
    }

    /// Decides for a share from now on, under this epoch.
    pub(super) fn reign(&mut self, index: usize, epoch: u64, why: &str) {
        let now = self.now;
        let (Some(offer), Some(service)) =
            (self.offers.get_mut(index), self.services.get_mut(index))
        else {
            return;
        };
        offer.epoch = epoch;
        offer.stands_by = false;
        service.memory.number_from(first_number(offer.epoch));
        self.ways.list_anew(Some(index));
        service.passing.lists_until = Some(now + LISTS);
        // With the first epoch nobody has gone before.
        if epoch > 1
            && let Some(proxy) = service.decide.proxy()
        {
            proxy.follows(now);
        }
        self.out.push(Output::Log(format!(
            "{}: `{}` decides from now on, epoch {epoch}: {why}",
            offer.service, self.name
        )));
        // What has died while it stood by.
        if let Some(service) = self.services.get_mut(index) {
            service.died(now);
        }
        for agent in 0..self.agents.len() {
            self.expect(AgentId(agent), index);
        }
        self.took(index);
        self.show(index);
        for id in self.ways.ids() {
            let Some((agent, former)) = self.ways.agent(id) else {
                continue;
            };
            // What an agent does not list from here on it holds no more.
            self.opened += 1;
            let session = self.opened;
            self.ways.with(id, |way| {
                way.agent = Some((agent, session));
                way.session.list_again(now, index);
            });
            for waiting in &mut self.waiting {
                if (waiting.to.agent, waiting.to.session) == (agent, former) {
                    waiting.to.session = session;
                }
            }
        }
    }

    /// Says goodbye for all that it decides or would decide: its criteria end at once, and not with their lease.
    pub fn farewell(&mut self, now: Duration) -> Vec<Output> {
        self.now = self.now.max(now);
        let open: Vec<SessionId> = self.ways.known().map(|(id, _)| id).collect();
        for id in open {
            for index in 0..self.offers.len() {
                self.say(id, index, ManagerBody::Goodbye);
            }
        }
        std::mem::take(&mut self.out)
    }

    /// Shows all agents the epoch of a share.
    fn show(&mut self, index: usize) {
        let now = self.now;
        for id in self.ways.ids() {
            (self.ways).with(id, |way| way.session.beat_now(now, index));
        }
    }
}
