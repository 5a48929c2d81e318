//! What nat, observe and dispatch come to in plan and program.

use std::time::Duration;

use signalbox_policy::model::{
    Bounds, Fallback, Families, FilterVerdict, Inbound, Nat, NatDestination, NatLeases, NatSource,
    Observe, Policy, ServiceKind, Way,
};

use super::{cascade, criteria, ip, prefix_cube};
use crate::entries::{Match, PlannedEntry};
use crate::plan::{CriterionAction, ServicePlan};
use crate::{LowerError, lower};

fn nat() -> Nat {
    Nat {
        criteria: criteria("ip.src in 10.0.1.0/24", vec![prefix_cube("10.0.1.0/24")]),
        source: Some(NatSource::Ports {
            addresses: vec![(ip("203.0.113.100"), ip("203.0.113.103"))],
            first_port: 1024,
            last_port: 65_535,
        }),
        destination: None,
        destinations: Vec::new(),
        leases: NatLeases::default(),
        hold_back: Duration::from_secs(120),
        per_source: Some(500),
        inbound: Inbound::Answers,
        fallback: Fallback::Drop,
        bounds: Bounds {
            half_open: Some(100),
            ..Bounds::default()
        },
    }
}

fn one_to_one() -> Nat {
    let pairs = vec![(
        "10.0.1.0/26".parse().unwrap(),
        "203.0.113.64/26".parse().unwrap(),
    )];
    Nat {
        source: Some(NatSource::OneToOne { pairs }),
        ..nat()
    }
}

/// The cascade of the other tests with the third service, a filter, in the place of this kind.
fn with(kind: ServiceKind) -> Policy {
    let mut policy = cascade(Families::V4);
    policy.services[2].kind = kind;
    policy.services[2].name = "third".into();
    policy
}

fn third(kind: ServiceKind) -> (ServicePlan, Vec<PlannedEntry>) {
    let plan = lower(&with(kind)).unwrap().plan;
    let entries = plan.static_entries();
    (plan.services[2].clone(), entries)
}

fn actions(entries: &[PlannedEntry], table: &str) -> Vec<(String, i32)> {
    let of_table = entries.iter().filter(|e| e.table == table);
    let mut all: Vec<_> = of_table.map(|e| (e.action.clone(), e.priority)).collect();
    all.dedup();
    all
}

#[test]
fn a_nat_services_hairpins_pass_above_what_keeps_the_outside_closed() {
    let (plan, entries) = third(ServiceKind::Nat(nat()));
    let reply = plan.reply.unwrap();
    let says: Vec<_> = reply
        .criteria
        .iter()
        .map(|c| (c.id, c.priority, c.action.clone()))
        .collect();
    assert_eq!(
        says,
        [
            (1, 1001, CriterionAction::Pass),
            (2, 1000, CriterionAction::Discard)
        ]
    );
    // Both are the agent's own; there is nothing to fall back from.
    assert_eq!(
        actions(&entries, "Cascade.third_reply.criteria"),
        [
            ("Cascade.third_reply.pass".into(), 1001),
            ("Cascade.third_reply.discard".into(), 1000)
        ]
    );
    // The forward part's criteria are its manager's; its floor drops.
    assert_eq!(
        actions(&entries, "Cascade.third.wildcard"),
        [("Cascade.third.discard".into(), 1)]
    );
}

#[test]
fn who_is_asked_about_packets_from_outside_is_what_the_policy_says() {
    let mapped = Nat {
        inbound: Inbound::Mapped,
        ..nat()
    };
    let destination = Nat {
        source: None,
        destination: Some(NatDestination {
            address: ip("10.0.1.7"),
            port: None,
        }),
        ..nat()
    };
    let twice = Nat {
        source: nat().source,
        ..destination.clone()
    };
    for (nat, asks) in [
        (mapped, true),
        (one_to_one(), true),
        (destination, true),
        (twice, false),
    ] {
        let (plan, entries) = third(ServiceKind::Nat(nat));
        let reply = plan.reply.unwrap();
        let last = reply.criteria.last().unwrap();
        assert_eq!(!last.is_static(), asks, "{}", last.label);
        let floor = ("Cascade.third_reply.discard".to_owned(), 1);
        let floors = actions(&entries, "Cascade.third_reply.criteria");
        assert_eq!(floors.contains(&floor), asks, "{floors:?}");
    }
}

/// The evaluator goes by the model, the agent by the plan.
#[test]
fn plan_and_model_agree_on_whose_echo_requests_are() {
    let to = |port| Nat {
        source: None,
        destination: Some(NatDestination {
            address: ip("10.0.1.7"),
            port,
        }),
        destinations: vec![ip("203.0.113.80")],
        criteria: criteria(
            "tcp.dst 203.0.113.80:443",
            vec![super::service_cube("203.0.113.80", 443)],
        ),
        ..nat()
    };
    let mut whole = to(None);
    whole.criteria.cubes[0].proto = signalbox_policy::model::Ternary::<u8>::ANY;
    whole.criteria.cubes[0].dst_port = signalbox_policy::model::Ternary::<u16>::ANY;
    for (nat, address, translated) in [
        (nat(), "203.0.113.100", false),
        (one_to_one(), "203.0.113.70", true),
        (to(Some(22)), "203.0.113.80", false),
        (whole, "203.0.113.80", true),
    ] {
        let (plan, _) = third(ServiceKind::Nat(nat.clone()));
        let got = (
            plan.translates_echo_to(ip(address)),
            nat.translates_echo_to(ip(address)),
        );
        assert_eq!(got, (translated, translated), "{address}");
    }
}

#[test]
fn a_nat_services_leases_and_bounds_are_in_its_limits() {
    let (plan, _) = third(ServiceKind::Nat(nat()));
    let limits = &plan.limits;
    assert_eq!(
        (limits.idle_ms, limits.closed_ms, limits.half_open_ms),
        (7_440_000, 240_000, 240_000)
    );
    assert_eq!((limits.half_open, limits.new_per_second), (Some(100), None));
    let nat = plan.nat.unwrap();
    assert_eq!((nat.per_source, nat.hold_back_ms), (Some(500), 120_000));
}

fn prefixes(entries: &[PlannedEntry], action: &str) -> Vec<String> {
    entries
        .iter()
        .filter(|e| e.action == action)
        .filter_map(|e| match e.matches.first()?.1 {
            Match::Lpm(prefix) => Some(prefix.to_string()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_range_of_outside_addresses_is_one_entry_where_it_is_one_prefix() {
    let (plan, entries) = third(ServiceKind::Nat(nat()));
    assert_eq!(plan.addresses.len(), 4);
    let local = prefixes(&entries, "Ingress.local");
    assert!(local.contains(&"203.0.113.100/30".to_owned()), "{local:?}");
    let echo = entries
        .iter()
        .filter(|e| e.table == "Ingress.host" && e.matches.iter().any(|m| m.0 == "icmp"));
    // Two ports, one address of balance, one prefix of nat.
    assert_eq!(echo.count(), 4);
}

#[test]
fn a_prefix_of_ours_takes_no_place_that_a_route_has() {
    let mut policy = with(ServiceKind::Nat(nat()));
    policy.network.routes[0].prefix = "203.0.113.100/30".parse().unwrap();
    let entries = lower(&policy).unwrap().plan.static_entries();
    let local = prefixes(&entries, "Ingress.local");
    assert!(!local.contains(&"203.0.113.100/30".to_owned()), "{local:?}");
    for half in ["203.0.113.100/31", "203.0.113.102/31"] {
        assert!(local.contains(&half.to_owned()), "{local:?}");
    }
}

#[test]
fn addresses_that_make_too_many_entries_are_an_error_that_says_how_many() {
    let addresses = (0..1100u32)
        .map(|i| std::net::Ipv4Addr::from(0xc612_0001 + i * 2).into())
        .map(|a| (a, a))
        .collect();
    let policy = with(ServiceKind::Nat(Nat {
        source: Some(NatSource::Ports {
            addresses,
            first_port: 1024,
            last_port: 1024,
        }),
        ..nat()
    }));
    let error = lower(&policy).unwrap_err();
    let LowerError::TooManyAddresses { table, needed, .. } = error else {
        panic!("{error}")
    };
    // With two ports' addresses, their TCP and UDP, and balance's address.
    assert_eq!((table, needed), ("Ingress.host", 1100 + 2 + 4 + 1));
}

fn observe(per_flow: bool) -> ServiceKind {
    ServiceKind::Observe(Observe {
        criteria: criteria("ip.src in 10.0.0.0/8", vec![prefix_cube("10.0.0.0/8")]),
        per_flow,
        flags: true,
        every: Some(Duration::from_secs(10)),
        on_close: true,
        keep: signalbox_policy::model::Keep::default(),
        bounds: Bounds::default(),
        fallback: Fallback::Route,
    })
}

#[test]
fn an_observe_service_asks_once_a_flow_or_counts_by_its_criterion() {
    let (plan, entries) = third(observe(true));
    assert!(plan.reply.is_none());
    assert_eq!(plan.observe.unwrap().every_ms, Some(10_000));
    let ask = CriterionAction::Ask {
        packet_events: 512,
        notice_events: 0,
    };
    assert_eq!(plan.forward.criteria[0].action, ask);
    // Without its manager packets go on.
    let floor = ("Cascade.third.pass".to_owned(), 1);
    assert_eq!(actions(&entries, "Cascade.third.wildcard"), [floor]);
    let (_, entries) = third(observe(false));
    let counted = ("Cascade.third.pass".to_owned(), 1000);
    assert_eq!(actions(&entries, "Cascade.third.wildcard"), [counted]);
    let entry = entries.iter().find(|e| e.table == "Cascade.third.wildcard");
    let slot = entry.unwrap().params.iter().find(|p| p.0 == "slot");
    assert_eq!(slot.unwrap().1.number(32), (1, 32));
}

fn dispatching(way: Way) -> crate::Lowered {
    let mut policy = cascade(Families::V4);
    let ServiceKind::Balance(balance) = &mut policy.services[1].kind else {
        panic!("no balance service")
    };
    balance.way = way;
    lower(&policy).unwrap()
}

// A6.21
#[test]
fn a_dispatching_service_has_no_reply_part() {
    for way in [Way::Mac, Way::Ipip, Way::Gue] {
        let got = dispatching(way);
        assert!(got.plan.services[1].reply.is_none());
        assert!(!got.p4.contains("web_lb_reply"));
        assert!(got.p4.contains("alt_reply"), "the other one translates");
    }
    assert!(dispatching(Way::Translate).p4.contains("web_lb_reply"));
}

#[test]
fn only_a_program_that_tunnels_has_tunnels() {
    for (way, tunnels) in [
        (Way::Translate, false),
        (Way::Mac, false),
        (Way::Ipip, true),
        (Way::Gue, true),
    ] {
        let got = dispatching(way);
        assert_eq!(got.p4.contains("#define TUNNELS"), tunnels);
        assert_eq!(got.p4.contains("tunnels.apply(hdr, meta);"), tunnels);
        assert_eq!(got.sources.contains_key("signalbox/tunnel.p4"), tunnels);
    }
}

#[test]
fn a_changed_rule_leaves_the_program_what_it_is() {
    let before = lower(&cascade(Families::V4)).unwrap();
    let mut policy = cascade(Families::V4);
    let ServiceKind::Filter(filter) = &mut policy.services[0].kind else {
        panic!("no filter")
    };
    filter.rules[0].verdict = FilterVerdict::Allow;
    filter.default = FilterVerdict::Deny;
    let after = lower(&policy).unwrap();
    assert_ne!(before.p4, after.p4, "its comments say the rules");
    assert_eq!(before.plan.program_id, after.plan.program_id);
}
