//! Who decides for which service: from the policy's managers to the plan's shares.

use signalbox_policy::model::{self, Manager, NatSource, Part, Policy, ServiceIndex};

use super::{millis, ranges};
use crate::cubes;
use crate::plan::{
    Asks, BackupPlan, Criterion, ManagerPlan, OutsidePlan, Replicate, ServicePlan, SharePlan,
};

/// The shares of a service, of which the rest is planned.
pub(super) fn shares(policy: &Policy, service: ServiceIndex, plan: &ServicePlan) -> Vec<SharePlan> {
    let reply = (plan.reply.as_ref()).map_or(&[][..], |reply| &reply.criteria);
    (policy.shares_of(service))
        .map(|(_, manager, part)| SharePlan {
            manager: manager.name.clone(),
            backup: backup(policy, manager),
            asks: part.map(|part| Asks {
                forward: cut(policy, &plan.forward.criteria, &part.forward),
                reply: cut(policy, reply, &part.reply),
            }),
            part: part.map(|part| part.criteria.text.clone()),
            outside: part.and_then(outside),
        })
        .collect()
}

/// How many entries the parts of a divided service come to, in one direction.
pub(super) fn cubes(policy: &Policy, service: ServiceIndex, reply: bool) -> usize {
    let parts = policy.shares_of(service).filter_map(|(_, _, part)| part);
    let of = |part: &Part| {
        if reply {
            part.reply.len()
        } else {
            part.forward.len()
        }
    };
    parts.map(of).sum()
}

/// The criterion that asks, cut down to a part.
fn cut(policy: &Policy, criteria: &[Criterion], part: &[model::Cube]) -> Vec<Criterion> {
    (criteria.iter())
        .filter(|criterion| !criterion.is_static() && !part.is_empty())
        .map(|criterion| Criterion {
            cubes: cubes::entries(part, policy.families),
            ..criterion.clone()
        })
        .collect()
}

fn outside(part: &Part) -> Option<OutsidePlan> {
    match part.outside.as_ref()? {
        NatSource::Ports {
            addresses,
            first_port,
            last_port,
        } => Some(OutsidePlan {
            addresses: ranges(addresses),
            first_port: *first_port,
            last_port: *last_port,
        }),
        NatSource::OneToOne { .. } => None,
    }
}

fn backup(policy: &Policy, manager: &Manager) -> Option<BackupPlan> {
    let backup = manager.backup.as_ref()?;
    Some(BackupPlan {
        manager: policy.managers.get(backup.manager)?.name.clone(),
        after_ms: millis(backup.after),
        replicate: backup.replicate.map(|replicate| match replicate {
            model::Replicate::Sync => Replicate::Sync,
            model::Replicate::Async => Replicate::Async,
        }),
    })
}

/// The managers, with what each decides for first and stands by for.
pub(super) fn managers(policy: &Policy) -> Vec<ManagerPlan> {
    let names = |services: &[ServiceIndex]| -> Vec<String> {
        (services.iter())
            .filter_map(|index| policy.service(*index))
            .map(|service| service.name.clone())
            .collect()
    };
    (policy.managers.iter().enumerate())
        .map(|(place, manager)| {
            let mut backs: Vec<ServiceIndex> = (policy.managers.iter())
                .filter(|first| (first.backup.as_ref()).is_some_and(|b| b.manager == place))
                .flat_map(|first| first.serves.iter().copied())
                .collect();
            backs.sort_unstable();
            backs.dedup();
            ManagerPlan {
                name: manager.name.clone(),
                serves: names(&manager.serves),
                backs: names(&backs),
            }
        })
        .collect()
}
