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
        let service = Service::start_embedded(&compiled).await.unwrap();
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

/// Waits until two managers beside an agent say this of their link.
async fn linked(view: &View, state: signalbox_manager::LinkState, managers: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let all = view.manager_statuses().await;
        let links: Vec<_> = all.iter().flat_map(|m| &m.links).collect();
        if links.len() == managers && links.iter().all(|l| l.state == state) {
            return;
        }
        assert!(Instant::now() < deadline, "{links:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn managers_of_one_process_share_decisions_also_after_another_policy() {
    use signalbox_manager::LinkState;

    use crate::control::Request;

    let backup = "lb-1 serves web-lb, web6-lb\n  backup lb-1 with lb-2 replicate";
    let with = |how: &str| WEB6.replace("lb-1 serves web-lb, web6-lb", &format!("{backup} {how}"));
    let policy = signalbox_policy::check(&with("sync"), "web6.policy")
        .policy
        .unwrap();
    let compiled = image::compile(policy).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let service = Service::start_embedded(&compiled).await.unwrap();
        let view = service.view();
        linked(&view, LinkState::InSync, 2).await;
        let wanted = Wanted {
            file: "web6.policy".to_owned(),
            text: with("async"),
            dry_run: false,
        };
        view.answer(Request::Apply(wanted)).await.unwrap();
        linked(&view, LinkState::InSync, 2).await;
        view.stop_manager("lb-2").unwrap();
        linked(&view, LinkState::Away, 1).await;
    });
}
