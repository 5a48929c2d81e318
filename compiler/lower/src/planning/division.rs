//! Who decides for which service: from the policy's managers to the plan's shares.

use signalbox_policy::model::{self, Manager, Policy, ServiceIndex};

use super::millis;
use crate::plan::{BackupPlan, ManagerPlan, Replicate, SharePlan};

/// The shares of a service.
pub(super) fn shares(policy: &Policy, service: ServiceIndex) -> Vec<SharePlan> {
    (policy.manager_of(service).into_iter())
        .map(|manager| SharePlan {
            backup: backup(policy, manager),
            ..SharePlan::whole(&manager.name)
        })
        .collect()
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
