//! Who decides: a service's shares, the epoch of each, and whom a packet or an event is told to.
//!
//! A service that is divided among managers has a share for each part of the division; one that is not
//! divided has share 0. Epochs, holders and criteria are each share's own.

use std::sync::Arc;

use signalbox_lower::plan::{OutsidePlan, ServicePlan, SharePlan};

use super::flow_record::Flow;
use super::tunnels::Hop;
use super::{Agent, SessionId};
use crate::cover::covers_flow;
use crate::flow::{FlowKey, PacketKind, Part, Tuple};

/// A share of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share {
    /// Index of the service in the plan.
    pub service: u8,
    /// Its number; 0 if the service is not divided.
    pub number: u32,
}

/// Who decides for a share.
#[derive(Debug, Default)]
pub(super) struct Tenure {
    /// The highest epoch that any manager has shown.
    pub epoch: u64,
    /// The session of the manager that showed it.
    pub holder: Option<SessionId>,
}

/// Whose criteria: a manager's, for a share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    pub share: Share,
    pub manager: Arc<str>,
}

/// Where the packets of a criterion's entries come from.
#[derive(Debug)]
pub(super) struct Origin {
    pub owner: Owner,
    /// The manager's own number for the criterion.
    pub number: u32,
    /// Every packet is a question of its own.
    pub every_packet: bool,
    /// The uses of next hops that its entries have or had.
    pub hops: Vec<Hop>,
}

/// The share that a flow belongs to: by its outside tuple where those are divided, since nobody else must
/// give that out, else by what its first packet is like.
pub(super) fn home(service: &ServicePlan, flow: &Flow) -> u32 {
    let has = |share: &SharePlan| {
        let (forward, reply) = (flow.forward.as_deref(), flow.reply.as_deref());
        match (&share.outside, reply) {
            (Some(outside), Some(reply)) => has_outside(outside, &reply.tuple),
            _ => match (forward, reply) {
                (Some(d), _) => asks(share, Part::Forward, &d.tuple, d.kind),
                (None, Some(d)) => asks(share, Part::Reply, &d.tuple, d.kind),
                (None, None) => false,
            },
        }
    };
    let found = (0u32..).zip(&service.shares).find(|(_, share)| has(share));
    found.map_or(0, |(number, _)| number)
}

/// The share whose manager the plan has asked about such packets.
fn asked(service: &ServicePlan, key: &FlowKey) -> u32 {
    let kind = key.kind.at_stages();
    let found = (0u32..)
        .zip(&service.shares)
        .find(|(_, share)| asks(share, key.part, &key.tuple, kind));
    found.map_or(0, |(number, _)| number)
}

fn asks(share: &SharePlan, part: Part, tuple: &Tuple, kind: PacketKind) -> bool {
    share.asks.as_ref().is_none_or(|asks| {
        let criteria = match part {
            Part::Forward => &asks.forward,
            Part::Reply => &asks.reply,
        };
        covers_flow(criteria, tuple, kind)
    })
}

/// Whether packets with this tuple come to an outside tuple of a share.
fn has_outside(outside: &OutsidePlan, comes: &Tuple) -> bool {
    (outside.first_port..=outside.last_port).contains(&comes.dport)
        && outside.addresses.iter().any(|range| {
            range.first.is_ipv4() == comes.dst.is_ipv4()
                && (range.first..=range.last).contains(&comes.dst)
        })
}

impl Agent {
    pub(super) fn tenure(&self, share: Share) -> Option<&Tenure> {
        let service = self.services.get(usize::from(share.service))?;
        service.shares.get(&share.number)
    }

    pub(super) fn epoch(&self, share: Share) -> u64 {
        self.tenure(share).map_or(0, |t| t.epoch)
    }

    /// Whoever decides for a share now, or else for another of the service: flows belong to the
    /// service, and outlive a division of it.
    pub(super) fn holder(&self, share: Share) -> Option<SessionId> {
        let service = self.services.get(usize::from(share.service))?;
        let own = service.shares.get(&share.number).and_then(|t| t.holder);
        own.or_else(|| service.shares.values().find_map(|t| t.holder))
    }

    /// Gives each flow to the share that has flows like it by the plan in force: what becomes of it is told to
    /// whoever serves that, and its packets are asked about there.
    pub(super) fn move_shares(&mut self) {
        let plan = self.plan.clone();
        for at in self.store.refs() {
            let Some(flow) = self.store.get_mut(at) else {
                continue;
            };
            if let Some(service) = plan.services.get(usize::from(flow.service)) {
                flow.share = home(service, flow);
            }
        }
    }

    pub(super) fn session_of(&self, manager: &str) -> Option<SessionId> {
        (self.sessions.iter())
            .find(|(_, s)| s.manager.as_deref() == Some(manager))
            .map(|(id, _)| *id)
    }

    /// Whom to ask about a packet of a service that an entry has met: the manager whose criterion it
    /// is, unless a newer epoch has come since; of a flow's own entry whoever decides for its share; of one
    /// that is gone meanwhile whoever decides for the share that such packets are of. Without its manager a
    /// criterion leads to nobody else while its lease lasts, and after that to the backup's.
    pub(super) fn asker(&self, key: &FlowKey, entry: u32) -> Option<(Share, SessionId)> {
        let service = key.service;
        let origin = self.criteria_ids.get(&entry).map(|o| &o.owner);
        if let Some(owner) = origin.filter(|o| o.share.service == service) {
            let installed = (self.services.get(usize::from(service)))
                .and_then(|s| s.criteria.get(owner))
                .map_or(0, |set| set.epoch);
            let own = (installed >= self.epoch(owner.share))
                .then(|| self.session_of(&owner.manager))
                .flatten();
            let session = own.or_else(|| self.tenure(owner.share)?.holder)?;
            return Some((owner.share, session));
        }
        let flow = (self.store.by_entry_id(entry)).and_then(|(at, _)| self.store.get(at));
        let number = match flow.filter(|f| f.service == service) {
            Some(flow) => flow.share,
            None => asked(self.plan.services.get(usize::from(service))?, key),
        };
        let share = Share { service, number };
        Some((share, self.tenure(share)?.holder?))
    }

    /// A session decides for nothing any more.
    pub(super) fn vacate(&mut self, id: SessionId) {
        for tenure in (self.services.iter_mut()).flat_map(|s| s.shares.values_mut()) {
            if tenure.holder == Some(id) {
                tenure.holder = None;
            }
        }
    }

    /// A manager's goodbye: its criteria end now, as if their lease were over.
    pub(super) fn goodbye(&mut self, id: SessionId, share: Share, manager: &Arc<str>) {
        let now = self.now;
        if let Some(service) = self.services.get_mut(usize::from(share.service)) {
            let manager = manager.clone();
            if let Some(set) = service.criteria.get_mut(&Owner { share, manager }) {
                set.until = now;
            }
            if let Some(tenure) = service.shares.get_mut(&share.number)
                && tenure.holder == Some(id)
            {
                tenure.holder = None;
            }
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            // What it may yet say is no claim.
            session.standby.insert(share);
        }
        self.criteria_due(share.service);
    }
}
