//! Between a manager and people: what they are told of it, and which servers they have it drain.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::shared::{BlockStatus, StoreStatus};
use super::{LinkStatus, Manager};
use crate::decide::{OutsideStatus, TargetStatus};
use crate::peer::PeerReason;
use crate::service::Counts;
use crate::session::Offer;

/// A service's state, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceStatus {
    /// Its name.
    pub service: String,
    /// The number of the share, if the service is divided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<u32>,
    /// What the share is, in the policy's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// This manager's epoch for it.
    pub epoch: u64,
    /// Whether it only stands by for another manager, which decides.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stands_by: bool,
    /// Flows remembered.
    pub flows: usize,
    /// What was counted.
    pub counts: Counts,
    /// Its targets.
    pub targets: Vec<TargetStatus>,
    /// Its outside addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<OutsideStatus>,
    /// Its blocks of outside ports, where managers share a store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<BlockStatus>,
    /// What it has counted itself, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub counted: BTreeMap<&'static str, u64>,
}

/// A manager's state, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Its name.
    pub manager: String,
    /// Agents with an open session.
    pub agents: Vec<String>,
    /// The store that it shares with others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreStatus>,
    /// Its services.
    pub services: Vec<ServiceStatus>,
    /// Other managers with which it shares decisions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkStatus>,
    /// Managers that it would not have, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub peers_refused: BTreeMap<PeerReason, u64>,
}

impl Manager {
    /// Its state, for people.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            manager: self.name.to_string(),
            agents: (self.ways.iter())
                .filter_map(|(_, w)| w.session.agent().map(ToString::to_string))
                .collect(),
            store: self.store_status(),
            services: (self.services.iter().zip(&self.offers).enumerate())
                .map(|(index, (s, offer))| (index, s, offer, self.part(offer)))
                .map(|(index, s, offer, part)| ServiceStatus {
                    service: offer.service.to_string(),
                    share: part.as_ref().map(|_| offer.share),
                    part,
                    epoch: offer.epoch,
                    stands_by: offer.stands_by,
                    flows: s.memory.len(),
                    counts: s.counts,
                    targets: s.decide.status(),
                    outside: s.decide.outside(),
                    blocks: self.block_status(index),
                    counted: s.decide.counted(),
                })
                .collect(),
            links: self.link_statuses(),
            peers_refused: self.peers_refused.clone(),
        }
    }

    /// What a share is, if its service is divided.
    fn part(&self, offer: &Offer) -> Option<String> {
        let mut services = self.plan.services.iter();
        let service = services.find(|s| s.name == *offer.service)?;
        service.share(offer.share)?.part.clone()
    }

    /// Drains a server of a pool in every service that chooses from it, or puts it back
    /// ([`Decide::drain`](crate::Decide::drain)); says how many services that are.
    ///
    /// # Errors
    /// One line: the pool has no such server.
    pub fn drain(
        &mut self,
        now: Duration,
        pool: &str,
        server: &str,
        drained: bool,
    ) -> Result<usize, String> {
        self.now = self.now.max(now);
        let mut count = 0;
        for service in &mut self.services {
            service.decide.tick(self.now);
            match service.decide.drain(pool, server, drained) {
                Ok(is_of_it) => count += usize::from(is_of_it),
                Err(names) => {
                    return Err(format!(
                        "pool `{pool}` has no server `{server}`; it has {}",
                        names.join(", ")
                    ));
                }
            }
        }
        Ok(count)
    }
}
