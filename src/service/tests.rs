//! The start of a service.

use super::*;
use crate::image;

/// Both families, and so two services.
const WEB6: &str = include_str!("../../examples/web6.policy");

#[test]
fn a_service_has_started_when_the_criteria_of_all_its_services_are_in() {
    let policy = signalbox_policy::check(WEB6, "web6.policy").policy.unwrap();
    let compiled = image::compile(policy).unwrap();
    let plan = &compiled.lowered.plan;
    // Requests by both families, and replies from two servers of each.
    assert!(criteria_are_in(plan, 1, 6));
    assert!(
        !criteria_are_in(plan, 1, 3),
        "one service is still on its floor"
    );
    assert!(!criteria_are_in(plan, 0, 6), "a manager is not there");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let entries = runtime.block_on(async {
        let numbers = plan.ports.iter().map(|port| port.number).collect();
        let target = RunningTarget::embedded(numbers, plan.cpu_port, None)
            .await
            .unwrap();
        let pipeline = Pipeline::Push {
            device_config: compiled.image.json.clone().into_bytes(),
        };
        let service = Service::start(&compiled, target, pipeline).await.unwrap();
        let status = service.view().agent().status(false).await.unwrap();
        status.counters.criteria.now
    });
    assert_eq!(entries, 6);
}

#[test]
fn a_gate_is_decided_by_its_own_manager_and_other_services_are_not() {
    let text = include_str!("../../examples/gate.policy");
    let policy = signalbox_policy::check(text, "gate.policy").policy.unwrap();
    let plan = signalbox_lower::lower(&policy).unwrap().plan;
    for service in &plan.services {
        let is_gate = service.gate.is_some();
        assert_eq!(
            managers::gates(service).is_some(),
            is_gate,
            "{}",
            service.name
        );
    }
    assert!(plan.services.iter().any(|s| s.gate.is_some()));
}
