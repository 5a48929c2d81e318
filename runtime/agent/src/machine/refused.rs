//! Criteria that cannot go in: their manager asks for them with every heartbeat, and the answer seldom changes.
//! They are denied once a session, and tried again with a growing pause.

use std::time::Duration;

use super::shares::Owner;
use super::{Agent, SessionId};
use crate::message::{Criteria, Reason, Subject};

/// Before the second attempt; it doubles with each.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause is this many times [`FIRST`].
const LONGEST: u32 = 64;

/// What was refused, and when it is tried again.
#[derive(Debug)]
pub(super) struct Refusal {
    criteria: Criteria,
    reason: Reason,
    text: String,
    pause: Duration,
    again: Duration,
    /// Who has been told.
    told: SessionId,
}

impl Agent {
    fn refusal(&mut self, owner: &Owner) -> Option<&mut Refusal> {
        self.service(owner.share.service)?.refusals.get_mut(owner)
    }

    /// Whether the version that a heartbeat names is not to be asked for yet.
    pub(super) fn is_put_off(&mut self, owner: &Owner, version: u64) -> bool {
        let now = self.now;
        (self.refusal(owner)).is_some_and(|r| r.criteria.version == version && now < r.again)
    }

    /// Whether these criteria are not to be tried yet; a session that does not know is told why.
    pub(super) fn puts_off(&mut self, id: SessionId, owner: &Owner, new: &Criteria) -> bool {
        let now = self.now;
        let Some(refusal) = self.refusal(owner) else {
            return false;
        };
        if refusal.criteria != *new || now >= refusal.again {
            return false;
        }
        if std::mem::replace(&mut refusal.told, id) != id {
            let (reason, text) = (refusal.reason, refusal.text.clone());
            self.deny(
                id,
                owner.share,
                Subject::Criteria(new.version),
                reason,
                text,
            );
        }
        true
    }

    /// Criteria have been refused, here or by the switch. `id` is the session that is told.
    pub(super) fn put_off(
        &mut self,
        id: SessionId,
        owner: &Owner,
        criteria: Criteria,
        (reason, text): (Reason, String),
    ) {
        let now = self.now;
        let Some(service) = self.service(owner.share.service) else {
            return;
        };
        let before = (service.refusals.remove(owner)).filter(|r| r.criteria == criteria);
        let pause = (before.as_ref()).map_or(FIRST, |r| (r.pause * 2).min(FIRST * LONGEST));
        let is_told = before.is_some_and(|r| r.told == id && r.reason == reason);
        let version = criteria.version;
        let refusal = Refusal {
            criteria,
            reason,
            text: text.clone(),
            pause,
            again: now + pause,
            told: id,
        };
        service.refusals.insert(owner.clone(), refusal);
        if !is_told {
            self.deny(id, owner.share, Subject::Criteria(version), reason, text);
        }
    }

    /// Criteria are in, or others are wanted.
    pub(super) fn accepted(&mut self, owner: &Owner) {
        if let Some(service) = self.service(owner.share.service) {
            service.refusals.remove(owner);
        }
    }

    /// Another switch or another plan may take what the former one refused.
    pub(super) fn forget_refusals(&mut self) {
        for service in &mut self.services {
            service.refusals.clear();
        }
    }
}
