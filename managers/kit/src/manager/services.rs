//! What a manager starts with: its services, their decisions and epochs.

use std::sync::Arc;
use std::time::Duration;

use super::{Held, Manager, Passing, keep};
use crate::decide::Decide;
use crate::health::Checker;
use crate::memory::Memory;
use crate::react::Reactions;
use crate::service::{Counts, Service, criteria_of};
use crate::session::Offer;
use crate::turned_down::TurnedDown;

impl Manager {
    /// Tells this process from others of the manager's name: of two, the one with the higher number has the
    /// agents' sessions. 0 for a manager that cannot be there twice.
    #[must_use]
    pub fn with_instance(mut self, instance: u64) -> Self {
        self.instance = instance;
        self
    }

    pub(super) fn add(
        &mut self,
        (service, share): (&str, u32),
        epoch: u64,
        learns: bool,
        version: u64,
        mut decide: Box<dyn Decide>,
    ) {
        if epoch > 1
            && let Some(proxy) = decide.proxy()
        {
            proxy.follows(self.now);
        }
        let plan = &self.plan;
        let place = plan.managers.iter().position(|m| *m.name == *self.name);
        let Some(s) = plan.services.iter().find(|s| s.name == service) else {
            return;
        };
        let name: Arc<str> = service.into();
        let backup = (s.share(share)).is_some_and(|share| share.is_backup(&self.name));
        let paired = (s.share(share)).is_some_and(|share| share.backup.is_some());
        let lease = s.lease_ms(share);
        let index = self.services.len();
        self.by_name.insert((name.clone(), share), index);
        self.offers.push(Offer {
            service: name,
            share,
            epoch,
            learns,
            backup,
            paired,
            stands_by: backup,
            learning: false,
            version,
            criteria: criteria_of(s, share, &*decide, backup),
            beat: Duration::from_millis((lease / 3).max(1)),
        });
        let keep = (decide.hold_back()).unwrap_or_else(|| keep(s.limits.idle_ms));
        self.services.push(Service {
            // Several managers may check one server from one address.
            checker: Checker::new(
                plan,
                &decide.targets(),
                place.unwrap_or(0) + index * plan.managers.len(),
            ),
            limits: s.limits.clone(),
            stage: s.stage,
            decide,
            memory: Memory::new(keep, first_number(epoch)),
            counts: Counts::default(),
            reactions: Reactions::default(),
            turned_down: TurnedDown::default(),
            passing: Passing::default(),
            held: Held::default(),
        });
        self.took(index);
    }
}

/// The numbers of the flows that are decided under an epoch: those of another one do not look like them.
pub(super) fn first_number(epoch: u64) -> u64 {
    epoch << 40
}
