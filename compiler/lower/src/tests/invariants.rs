//! Statements that hold for every policy's program and plan.

use signalbox_policy::model::Families;

use super::{cascade, router};
use crate::entries::{Match, Value};
use crate::plan::{Fallback, Kind};
use crate::{Lowered, lower};

fn lowered(policy: &signalbox_policy::model::Policy) -> Lowered {
    lower(policy).unwrap()
}

/// The instances that the program applies, in order.
fn applied(p4: &str) -> Vec<&str> {
    p4.lines()
        .filter_map(|l| l.trim().split_once(".apply("))
        .map(|(name, _)| name)
        .collect()
}

// A4.1, A4.8
#[test]
fn the_reply_part_runs_backwards_and_the_forward_part_in_cascade_order() {
    let got = lowered(&cascade(Families::V4));
    assert_eq!(
        applied(&got.p4),
        [
            "admission",
            "alt_reply",
            "web_lb_reply",
            "guard",
            "web_lb",
            "table_",
            "alt",
            "routing",
            "finish"
        ]
    );
}

#[test]
fn an_empty_cascade_is_a_router() {
    let got = lowered(&router(Families::V4));
    assert_eq!(applied(&got.p4), ["admission", "routing", "finish"]);
    assert!(
        !got.sources.contains_key("signalbox/filter.p4")
            && !got.sources.contains_key("signalbox/translate.p4")
    );
    let tables: Vec<_> = got
        .plan
        .static_entries()
        .iter()
        .map(|e| e.table.clone())
        .collect();
    assert!(
        tables.iter().all(|t| t.starts_with("Ingress.")),
        "{tables:?}"
    );
}

#[test]
fn a_policy_of_ipv4_only_makes_no_ipv6_pipeline() {
    assert!(
        !lowered(&cascade(Families::V4))
            .p4
            .contains("#define DUAL_STACK")
    );
    let dual = lowered(&cascade(Families::Dual));
    let define = dual.p4.find("#define DUAL_STACK").unwrap();
    assert!(define < dual.p4.find("#include \"signalbox/types.p4\"").unwrap());
    assert_eq!(dual.plan.address_bits, 128);
}

#[test]
fn the_same_policy_gives_the_same_bytes_and_another_program_another_id() {
    let (a, b) = (
        lowered(&cascade(Families::V4)),
        lowered(&cascade(Families::V4)),
    );
    assert_eq!(a, b);
    let mut other = cascade(Families::V4);
    other.services.truncate(2);
    assert_ne!(a.plan.program_id, lowered(&other).plan.program_id);
    assert!(a.p4.contains(&format!("PROGRAM_ID = 0x{:08x};", a.plan.program_id)));
}

#[test]
fn the_tables_of_the_plan_are_those_of_the_programs_instances() {
    let got = lowered(&cascade(Families::V4));
    let names: Vec<_> = got
        .plan
        .services
        .iter()
        .flat_map(|s| std::iter::once(&s.forward).chain(&s.reply))
        .map(|p| {
            (
                p.fixed.as_deref(),
                p.criteria_table.as_str(),
                p.stats.as_str(),
            )
        })
        .collect();
    assert_eq!(
        names,
        [
            (None, "Cascade.guard.wildcard", "Cascade.guard.stats"),
            (
                Some("Cascade.web_lb.fixed"),
                "Cascade.web_lb.wildcard",
                "Cascade.web_lb.stats"
            ),
            (
                Some("Cascade.web_lb_reply.fixed"),
                "Cascade.web_lb_reply.criteria",
                "Cascade.web_lb_reply.stats"
            ),
            (None, "Cascade.table_.wildcard", "Cascade.table_.stats"),
            (
                Some("Cascade.alt.fixed"),
                "Cascade.alt.wildcard",
                "Cascade.alt.stats"
            ),
            (
                Some("Cascade.alt_reply.fixed"),
                "Cascade.alt_reply.criteria",
                "Cascade.alt_reply.stats"
            ),
        ]
    );
}

/// Every part of every service has an entry of priority 1 that says what the policy falls back to.
#[test]
fn every_part_has_a_floor_with_the_policys_fallback() {
    for families in [Families::V4, Families::Dual] {
        let plan = lowered(&cascade(families)).plan;
        let entries = plan.static_entries();
        for service in &plan.services {
            let action = match service.fallback {
                Fallback::Drop => "discard",
                Fallback::Route => "pass",
            };
            for part in std::iter::once(&service.forward).chain(&service.reply) {
                let floors: Vec<_> = entries
                    .iter()
                    .filter(|e| e.table == part.criteria_table && e.priority == 1)
                    .collect();
                assert!(!floors.is_empty(), "{}", part.criteria_table);
                assert!(
                    floors.iter().all(|e| e.action.ends_with(action)),
                    "{floors:?}"
                );
                if service.kind == Kind::Balance {
                    let asked: Vec<_> = part
                        .criteria
                        .iter()
                        .flat_map(|c| &c.cubes)
                        .map(|c| c.matches())
                        .collect();
                    let floor: Vec<_> = floors.iter().map(|e| e.matches.clone()).collect();
                    assert_eq!(asked, floor);
                }
            }
        }
    }
}

#[test]
fn a_balance_services_criteria_are_left_to_its_manager() {
    let plan = lowered(&cascade(Families::V4)).plan;
    assert!(
        plan.static_entries()
            .iter()
            .all(|e| !e.action.ends_with(".ask"))
    );
}

#[test]
fn every_entry_of_a_rule_carries_the_rules_id_and_counter_cell() {
    let plan = lowered(&cascade(Families::V4)).plan;
    let rules: Vec<_> = plan
        .static_entries()
        .into_iter()
        .filter(|e| e.table == "Cascade.guard.wildcard")
        .map(|e| (e.priority, e.action, e.params))
        .collect();
    let params = |id: u64| {
        let value = Value::Bits {
            value: id,
            width: 32,
        };
        vec![("entry", value), ("slot", value)]
    };
    assert_eq!(
        rules,
        [
            (1000, "Cascade.guard.discard".into(), params(1)),
            (1000, "Cascade.guard.discard".into(), params(1)),
            (1, "Cascade.guard.pass".into(), params(2)),
        ]
    );
}

#[test]
fn ready_is_not_among_the_static_entries() {
    let plan = lowered(&cascade(Families::V4)).plan;
    let ready = plan.ready_entry();
    assert!(plan.static_entries().iter().all(|e| e.table != ready.table));
    let program = Value::Bits {
        value: plan.program_id.into(),
        width: 32,
    };
    assert_eq!(ready.matches, [("program", Match::Exact(program))]);
}

#[test]
fn own_addresses_are_routed_nowhere_and_connected_subnets_to_the_agent() {
    let plan = lowered(&cascade(Families::V4)).plan;
    let routes: Vec<_> = plan
        .static_entries()
        .into_iter()
        .filter(|e| e.table == "Ingress.route")
        .map(|e| {
            let Match::Lpm(prefix) = e.matches[0].1 else {
                panic!("{e:?}")
            };
            format!("{prefix} {}", e.action)
        })
        .collect();
    assert_eq!(
        routes,
        [
            "10.0.1.1/32 Ingress.closed",
            "203.0.113.1/32 Ingress.closed",
            "203.0.113.80/32 Ingress.local",
            "10.0.1.0/24 Ingress.glean",
            "203.0.113.0/24 Ingress.glean",
        ]
    );
}

#[test]
fn echo_to_all_our_addresses_and_the_agents_ports_at_our_own_go_to_the_agent() {
    let plan = lowered(&cascade(Families::Dual)).plan;
    let host: Vec<_> = plan
        .static_entries()
        .into_iter()
        .filter(|e| e.table == "Ingress.host")
        .collect();
    let count = |key: &str| {
        host.iter()
            .filter(|e| e.matches.iter().any(|m| m.0 == key))
            .count()
    };
    // Four port addresses and one of a service; TCP and UDP at the former.
    assert_eq!((count("icmp"), count("dport")), (5, 8));
}

#[test]
fn no_two_static_entries_of_a_table_are_the_same() {
    let mut policy = cascade(Families::Dual);
    // Two ports in one subnet, and an address that is a subnet by itself.
    policy.network.ports[1].addresses = vec![
        "203.0.113.2/24".parse().unwrap(),
        "10.9.9.9/32".parse().unwrap(),
    ];
    let entries = lowered(&policy).plan.static_entries();
    for (i, a) in entries.iter().enumerate() {
        let twin = entries[..i]
            .iter()
            .find(|b| (&b.table, &b.matches, b.priority) == (&a.table, &a.matches, a.priority));
        assert_eq!(twin, None, "{a:?}");
    }
}

#[test]
fn values_fit_their_widths_and_stay_inside_their_masks() {
    for families in [Families::V4, Families::Dual] {
        let plan = lowered(&cascade(families)).plan;
        let bits = plan.address_bits;
        for entry in plan.static_entries() {
            for (key, m) in &entry.matches {
                if let Match::Ternary { value, mask } = m {
                    let ((value, width), (mask, _)) = (value.number(bits), mask.mask_number(bits));
                    assert_eq!(value & !mask, 0, "{key} of {entry:?}");
                    assert!(
                        mask != 0 && (width == 128 || mask >> width == 0),
                        "{key} of {entry:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_plan_survives_json() {
    let plan = lowered(&cascade(Families::Dual)).plan;
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(
        serde_json::from_str::<crate::plan::Plan>(&text).unwrap(),
        plan
    );
}

#[test]
fn an_ipv6_default_route_does_not_catch_ipv4() {
    let mut policy = router(Families::Dual);
    policy.network.routes.clear();
    let of_v4 = |policy: &_| {
        let entries = lowered(policy).plan.static_entries();
        let wanted = Match::Lpm("0.0.0.0/0".parse().unwrap());
        let found = entries.into_iter().find(|e| e.matches == [("dst", wanted)]);
        found.map(|e| e.action)
    };
    assert_eq!(of_v4(&policy).as_deref(), Some("Ingress.unreachable"));
    policy.families = Families::V4;
    assert_eq!(of_v4(&policy), None);
}

#[test]
fn a_policy_may_have_the_name_of_a_library_file() {
    let got = lowered(&router(Families::V4));
    assert!(
        got.sources
            .keys()
            .all(|name| name.starts_with("signalbox/"))
    );
    assert!(got.p4.contains("#include \"signalbox/types.p4\""));
}

#[test]
fn two_rules_that_share_a_box_make_one_entry() {
    let mut policy = cascade(Families::V4);
    for service in &mut policy.services {
        if let signalbox_policy::model::ServiceKind::Filter(filter) = &mut service.kind {
            let again = filter.rules.clone();
            filter.rules.extend(again);
        }
    }
    let entries = lowered(&policy).plan.static_entries();
    let mut keys: Vec<_> = entries
        .iter()
        .map(|e| format!("{} {:?} {}", e.table, e.matches, e.priority))
        .collect();
    let all = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), all);
}

#[test]
fn a_target_may_have_another_cpu_port() {
    let policy = cascade(Families::V4);
    let lowered = crate::lower_for(&policy, 64).unwrap();
    assert!(lowered.p4.contains("CPU_PORT = 64;"));
    assert_eq!(lowered.plan.cpu_port, 64);
    let taken = policy.network.ports[0].number;
    for (port, says) in [
        (taken, "has that number"),
        (0, "1 to 510"),
        (511, "1 to 510"),
    ] {
        let error = crate::lower_for(&policy, port).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
