//! What a gate comes to in plan and program.

use signalbox_policy::model::{
    Allow, Families, GATE_KEEP, Gate, GateBounds, GateTimes, HostPattern, Look, Policy, Refuse,
    ServiceIndex, ServiceKind, Span, Way, When,
};

use super::{cascade, criteria, prefix_cube, service_cube};
use crate::entries::PlannedEntry;
use crate::lower;
use crate::plan::{CriterionAction, GatePlan, Kind, Limits, ServicePlan, SharePlan};

fn allow(prefix: &str, when: Option<When>) -> Allow {
    let to = service_cube("203.0.113.80", 443);
    let both = prefix_cube(prefix).intersect(&to).unwrap();
    Allow {
        criteria: criteria(&format!("ip.src in {prefix}"), vec![both]),
        when,
        span: Span::default(),
    }
}

fn gate() -> Gate {
    Gate {
        criteria: criteria(
            "tcp.dst 203.0.113.80:443",
            vec![service_cube("203.0.113.80", 443)],
        ),
        allow: vec![
            allow("192.0.2.0/24", None),
            allow(
                "192.0.2.64/26",
                Some(When {
                    from: 8 * 3_600,
                    to: 18 * 3_600,
                    days: 0b001_1111,
                }),
            ),
        ],
        refuse: Refuse::Drop,
        look: Vec::new(),
        bounds: GateBounds::default(),
        mss: None,
        window_scale: 7,
        times: GateTimes::default(),
        keep: GATE_KEEP,
        buffer: 32_768,
    }
}

/// The cascade of the other tests with a gate in the place of its first filter.
fn with(gate: Gate) -> Policy {
    let mut policy = cascade(Families::V4);
    policy.services[0].kind = ServiceKind::Gate(gate);
    policy.services[0].name = "admin".into();
    policy.managers[0].serves.insert(0, ServiceIndex(0));
    policy
}

fn planned(gate: Gate) -> (ServicePlan, Vec<PlannedEntry>) {
    let plan = lower(&with(gate)).unwrap().plan;
    let entries = plan.static_entries();
    (plan.services[0].clone(), entries)
}

fn gate_plan(policy: &Policy) -> GatePlan {
    lower(policy).unwrap().plan.services[0]
        .gate
        .clone()
        .unwrap()
}

// A3.1
#[test]
fn whom_no_clause_allows_is_dropped_by_the_switch_and_others_are_asked_about() {
    let (plan, entries) = planned(gate());
    assert_eq!(
        (plan.kind, &*plan.shares),
        (Kind::Gate, &[SharePlan::whole("lb-1")][..])
    );
    let ask = CriterionAction::Ask {
        packet_events: 512,
        notice_events: 0,
    };
    let forward = &plan.forward.criteria;
    assert_eq!(forward[0].action, ask);
    assert_eq!(forward[1].action, CriterionAction::Discard);
    // The second clause lies within the first.
    assert_eq!(forward[0].cubes.len(), 1);
    let source = forward[0].cubes[0].src.unwrap();
    assert_eq!(source.value.to_string(), "192.0.2.0");
    assert_eq!(forward[1].cubes[0].src, None);
    assert!(forward[0].priority > forward[1].priority);
    // With its manager dead the gate is shut to all, and so it is to those not allowed.
    let drops: Vec<_> = entries
        .iter()
        .filter(|e| e.table == "Cascade.admin.wildcard")
        .map(|e| (e.action.as_str(), e.priority))
        .collect();
    assert_eq!(
        drops,
        [("Cascade.admin.discard", 500), ("Cascade.admin.discard", 1)]
    );
}

#[test]
fn a_gates_replies_are_its_own_packets_turned_round() {
    let (plan, _) = planned(gate());
    let reply = plan.reply.unwrap();
    let (asked, shut) = (&reply.criteria[0].cubes[0], &reply.criteria[1].cubes[0]);
    assert_eq!(asked.src.unwrap().value.to_string(), "203.0.113.80");
    assert_eq!(asked.sport.unwrap().value, 443);
    assert_eq!(asked.dst.unwrap().value.to_string(), "192.0.2.0");
    assert_eq!((asked.dport, asked.in_port), (None, None));
    assert_eq!(shut.dst, None);
    assert_eq!(reply.criteria[1].action, CriterionAction::Discard);
    assert!(plan.addresses.is_empty(), "it stands for no address");
}

#[test]
fn a_connection_that_has_been_handed_over_is_never_half_open() {
    let (plan, _) = planned(gate());
    let Limits {
        idle_ms,
        half_open_ms,
        closed_ms,
        ..
    } = plan.limits;
    assert_eq!(
        (idle_ms, half_open_ms, closed_ms),
        (7_440_000, 7_440_000, 10_000)
    );
}

#[test]
fn a_gates_manager_is_told_times_bounds_and_what_to_look_at() {
    let name = HostPattern {
        name: "example.org".into(),
        below: true,
    };
    let policy = with(Gate {
        look: vec![Look::TlsName(vec![name])],
        bounds: GateBounds {
            connections_per_source: Some(100),
            ..GateBounds::default()
        },
        refuse: Refuse::Reset,
        ..gate()
    });
    let plan = gate_plan(&policy);
    assert_eq!(
        serde_json::to_value(&plan).unwrap(),
        serde_json::json!({
            "allow": [
                {
                    "label": "allow ip.src in 192.0.2.0/24",
                    "cubes": [{
                        "src": { "value": "192.0.2.0", "mask": "255.255.255.0" },
                        "dst": { "value": "203.0.113.80", "mask": "255.255.255.255" },
                        "proto": { "value": 6, "mask": 255 },
                        "dport": { "value": 443, "mask": 65535 },
                    }],
                },
                {
                    "label": "allow ip.src in 192.0.2.64/26 from 08:00 to 18:00 on mon, tue, wed, thu, fri",
                    "cubes": [{
                        "src": { "value": "192.0.2.64", "mask": "255.255.255.192" },
                        "dst": { "value": "203.0.113.80", "mask": "255.255.255.255" },
                        "proto": { "value": 6, "mask": 255 },
                        "dport": { "value": 443, "mask": 65535 },
                    }],
                    "when": { "from_s": 28800, "to_s": 64800, "days": 31 },
                },
            ],
            "refuse": "reset",
            "look": [{ "tls_name": [{ "name": "example.org", "below": true }] }],
            "bounds": { "connections_per_source": 100, "proxied": 10000 },
            "mss_v4": 1460,
            "mss_v6": 1440,
            "window_scale": 7,
            "buffer": 32768,
            "connect_ms": 5000,
            "speak_ms": 10000,
            "hand_over_ms": 10000,
            "proxied_idle_ms": 300_000,
        })
    );
    let back: GatePlan = serde_json::from_value(serde_json::to_value(&plan).unwrap()).unwrap();
    assert_eq!(back, plan);
}

// A3.7
#[test]
fn clients_are_told_segments_that_fit_every_port_and_a_tunnel_behind_the_gate() {
    let mut policy = with(gate());
    policy.network.ports[1].mtu = 1_400;
    let small = gate_plan(&policy);
    assert_eq!((small.mss_v4, small.mss_v6), (1_360, 1_340));
    let ServiceKind::Balance(balance) = &mut policy.services[1].kind else {
        panic!("no balance service")
    };
    balance.way = Way::Gue;
    assert_eq!(gate_plan(&policy).mss_v4, 1_360 - 32);
    let said = gate_plan(&with(Gate {
        mss: Some(1_200),
        ..gate()
    }));
    assert_eq!((said.mss_v4, said.mss_v6), (1_200, 1_200));
}
