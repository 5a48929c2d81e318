//! Who decides for a service: its shares, each with its manager, the one that stands by, and what is the
//! share's own. It does not know why a service is divided as it is.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{AddressRange, Criterion, NatSource, ServicePlan};

/// A part of what a service decides about, and who decides. A service that is not divided has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharePlan {
    /// The manager that decides for it.
    pub manager: String,
    /// Who stands by for that manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupPlan>,
    /// What its manager is asked about; absent if the service is not divided, and it is asked about all that
    /// the service asks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<Asks>,
    /// The part's condition, for people; absent if the service is not divided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// The outside tuples that are its own, of a divided nat service that gives them out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<OutsidePlan>,
}

impl SharePlan {
    /// The one share of a service that is not divided.
    #[must_use]
    pub fn whole(manager: &str) -> Self {
        Self {
            manager: manager.to_owned(),
            backup: None,
            asks: None,
            part: None,
            outside: None,
        }
    }

    /// Whether a manager stands by for it.
    #[must_use]
    pub fn is_backup(&self, manager: &str) -> bool {
        let backup = self.backup.as_ref();
        backup.is_some_and(|backup| backup.manager == manager)
    }
}

impl ServicePlan {
    /// The share of that number.
    #[must_use]
    pub fn share(&self, number: u32) -> Option<&SharePlan> {
        self.shares.get(usize::try_from(number).ok()?)
    }

    /// The shares that a manager decides or stands by for, with their numbers.
    pub fn shares_of(&self, manager: &str) -> impl Iterator<Item = (u32, &SharePlan)> {
        (0..)
            .zip(&self.shares)
            .filter(move |(_, share)| share.manager == manager || share.is_backup(manager))
    }

    /// The lease of criteria for a share, in milliseconds; its manager's and its backup's are alike, so that
    /// each hears of the other as soon.
    #[must_use]
    pub fn lease_ms(&self, number: u32) -> u64 {
        (self.share(number))
            .and_then(|share| share.backup.as_ref())
            .map_or(self.limits.criteria_lease_ms, |backup| backup.after_ms)
    }

    /// The service as the manager of a share decides for it: with the share's own outside tuples.
    #[must_use]
    pub fn of_share(&self, number: u32) -> Cow<'_, Self> {
        let Some(outside) = self.share(number).and_then(|share| share.outside.clone()) else {
            return Cow::Borrowed(self);
        };
        let mut own = self.clone();
        if let Some(nat) = &mut own.nat {
            nat.source = Some(NatSource::Ports {
                addresses: outside.addresses,
                first_port: outside.first_port,
                last_port: outside.last_port,
            });
        }
        Cow::Owned(own)
    }

    /// What the manager of a share is asked about, in the forward and in the reply part; with the service's
    /// other criteria, which ask nobody, where it is not divided.
    #[must_use]
    pub fn asks(&self, share: u32) -> (&[Criterion], &[Criterion]) {
        match self.share(share).and_then(|share| share.asks.as_ref()) {
            Some(asks) => (&asks.forward, &asks.reply),
            None => (
                &self.forward.criteria,
                (self.reply.as_ref()).map_or(&[], |reply| &reply.criteria),
            ),
        }
    }
}

/// What the manager of a share is asked about: cut out of the service's own criteria that ask, with their
/// numbers and priorities.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asks {
    /// In the forward part.
    pub forward: Vec<Criterion>,
    /// In the reply part.
    pub reply: Vec<Criterion>,
}

/// Who stands by for a manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPlan {
    /// Its name.
    pub manager: String,
    /// Lease of the first one's criteria, in milliseconds, 300 to 3,600,000: how long after its last sign of
    /// life the other takes its place.
    pub after_ms: u64,
    /// Whether it is told of decisions as they are made; else it learns them from agents when it takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicate: Option<Replicate>,
}

/// When a backup knows of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replicate {
    /// Before it takes effect.
    Sync,
    /// Soon after.
    Async,
}

/// The outside tuples of a share of a nat service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsidePlan {
    /// The outside addresses, ascending.
    pub addresses: Vec<AddressRange>,
    /// The lowest port (or ICMP identifier) that is given out.
    pub first_port: u16,
    /// The highest.
    pub last_port: u16,
}
