//! Variations of [`plan`]: direct return, a manager that stands by, and an observe service beneath the balancer.

use signalbox_lower::plan::{
    AllowPlan, BackupPlan, CriterionAction, Cube, Fallback, GateBounds, GatePlan, Kind,
    ManagerPlan, ObservePlan, Plan, Refuse, Replicate, ServicePlan, SharePlan, Way,
};

use super::{all, ask, plan};

/// The plan with servers that answer clients directly.
#[must_use]
pub fn direct(way: Way) -> Plan {
    let mut plan = plan();
    for service in &mut plan.services {
        service.reply = None;
        if let Some(balance) = &mut service.balance {
            balance.way = way;
        }
    }
    plan
}

/// The plan with a manager `lb-2` that stands by for `lb-1` and takes over after so many milliseconds.
#[must_use]
pub fn backed(after_ms: u64) -> Plan {
    with_backup(plan(), "lb-2", after_ms, None)
}

/// A plan with one more manager, which stands by for all others, takes over after so many milliseconds, and is told
/// of decisions where `replicate` says so.
#[must_use]
pub fn with_backup(
    mut plan: Plan,
    manager: &str,
    after_ms: u64,
    replicate: Option<Replicate>,
) -> Plan {
    plan.managers.push(ManagerPlan {
        name: manager.into(),
        serves: Vec::new(),
        backs: plan.services.iter().map(|s| s.name.clone()).collect(),
    });
    for share in plan.services.iter_mut().flat_map(|s| &mut s.shares) {
        share.backup = Some(BackupPlan {
            manager: manager.into(),
            after_ms,
            replicate,
        });
    }
    plan
}

/// A gate that lets everybody in and looks at nothing.
#[must_use]
pub fn gate() -> GatePlan {
    GatePlan {
        allow: vec![AllowPlan {
            label: "allow".into(),
            cubes: vec![Cube::default()],
            when: None,
        }],
        refuse: Refuse::Drop,
        look: Vec::new(),
        bounds: GateBounds {
            connections: None,
            connections_per_source: None,
            new_per_second: None,
            new_per_second_per_source: None,
            proxied: 100,
        },
        mss_v4: 1460,
        mss_v6: 1440,
        window_scale: 7,
        buffer: 32_768,
        connect_ms: 5_000,
        speak_ms: 10_000,
        hand_over_ms: 10_000,
        proxied_idle_ms: 300_000,
    }
}

/// The plan with an observe service `meter` at stage 2, of manager `meter-1`: every flow of whole packets,
/// with flags and reports every 10 s and on close.
#[must_use]
pub fn observed() -> Plan {
    with_meter(true)
}

/// The same, but only what all packets come to is counted.
#[must_use]
pub fn totalled() -> Plan {
    with_meter(false)
}

fn with_meter(per_flow: bool) -> Plan {
    let mut plan = plan();
    let Some(web) = plan.services.first().cloned() else {
        return plan;
    };
    let mut criterion = ask(
        1,
        Cube {
            kind: all(0, 3),
            ..Cube::default()
        },
    );
    if !per_flow {
        criterion.action = CriterionAction::Pass;
    }
    let table = |name: &str| format!("Cascade.meter.{name}");
    let mut forward = web.forward.clone();
    forward.fixed = Some(table("fixed"));
    forward.criteria_table = table("wildcard");
    forward.stats = table("stats");
    forward.criteria = vec![criterion];
    plan.services.push(ServicePlan {
        name: "meter".into(),
        kind: Kind::Observe,
        stage: 2,
        shares: vec![SharePlan::whole("meter-1")],
        forward,
        reply: None,
        addresses: Vec::new(),
        fallback: Fallback::Route,
        balance: None,
        observe: Some(ObservePlan {
            per_flow,
            flags: true,
            every_ms: Some(10_000),
            on_close: true,
        }),
        ..web
    });
    plan.managers.push(ManagerPlan {
        name: "meter-1".into(),
        serves: vec!["meter".into()],
        backs: Vec::new(),
    });
    plan
}
