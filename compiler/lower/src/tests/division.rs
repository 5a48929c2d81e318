//! What a divided service comes to in the plan.

use std::net::IpAddr;

use signalbox_policy::model::{Header, PacketKind};

use crate::lower;
use crate::plan::{Criterion, CriterionAction, OutsidePlan, Plan, ServicePlan};

fn plan(service: &str, managers: &str) -> Plan {
    let text = format!(
        "network {{\n port 1 clients {{ address 203.0.113.1/24 }}\n port 2 rack {{ address 10.0.1.1/24 }}\n}}\n\
         pool web {{ 10.0.1.10:8080 }}\n{service}\nmanagers {{\n{managers}\n}}\n"
    );
    let checked = signalbox_policy::check(&text, "t.policy");
    let policy = checked
        .policy
        .unwrap_or_else(|| panic!("{:#?}\n{text}", checked.diagnostics));
    lower(&policy).unwrap().plan
}

const BALANCE: &str =
    "service s : balance { match tcp.dst 203.0.113.80:443; pick from @web by weighted }";
const HALVES: &str = "a serves s where ip.src in 0.0.0.0/1\nb serves s where ip.src in 128.0.0.0/1";

fn matches(criteria: &[Criterion], h: &Header) -> bool {
    let addr = |m: &Option<crate::plan::MaskedAddr>, bits: u128| {
        m.is_none_or(|m| m.covers(h.family.address(bits)))
    };
    (criteria.iter().flat_map(|c| &c.cubes)).any(|c| {
        addr(&c.src, h.src)
            && addr(&c.dst, h.dst)
            && c.proto.is_none_or(|m| h.proto & m.mask == m.value)
            && c.sport.is_none_or(|m| h.src_port & m.mask == m.value)
            && c.dport.is_none_or(|m| h.dst_port & m.mask == m.value)
    })
}

fn packet(src: &str, sport: u16, dst: &str, dport: u16) -> Header {
    let bits = |text: &str| match text.parse::<IpAddr>().unwrap() {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    };
    Header {
        family: signalbox_policy::model::Family::V4,
        in_port: 1,
        src: bits(src),
        dst: bits(dst),
        proto: 6,
        kind: PacketKind::Whole,
        src_port: sport,
        dst_port: dport,
        tcp_flags: 2,
        icmp_type: 0,
    }
}

/// The shares whose managers are asked about a packet, in one direction.
fn asked(service: &ServicePlan, reply: bool, h: &Header) -> Vec<u32> {
    (0..service.shares.len() as u32)
        .filter(|share| {
            let (forward, back) = service.asks(*share);
            matches(if reply { back } else { forward }, h)
        })
        .collect()
}

// A7.1, A7.6
#[test]
fn a_flow_and_its_replies_are_asked_about_in_one_share() {
    let plan = plan(BALANCE, HALVES);
    let service = &plan.services[0];
    assert_eq!(
        service
            .shares
            .iter()
            .map(|s| &*s.manager)
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    for (client, share) in [
        ("9.9.9.9", 0),
        ("127.255.255.255", 0),
        ("128.0.0.1", 1),
        ("203.0.113.9", 1),
    ] {
        let there = packet(client, 4000, "203.0.113.80", 443);
        let back = packet("10.0.1.10", 8080, client, 4000);
        assert_eq!(asked(service, false, &there), [share], "{client}");
        assert_eq!(asked(service, true, &back), [share], "{client}");
    }
}

#[test]
fn a_share_asks_with_the_services_own_numbers_and_priorities() {
    let plan = plan(BALANCE, HALVES);
    let service = &plan.services[0];
    for share in &service.shares {
        let asks = share.asks.as_ref().unwrap();
        let whole = &service.forward.criteria[0];
        assert_eq!(asks.forward.len(), 1);
        assert_eq!(
            (
                asks.forward[0].id,
                asks.forward[0].priority,
                &asks.forward[0].action
            ),
            (whole.id, whole.priority, &whole.action)
        );
        assert!(matches!(whole.action, CriterionAction::Ask { .. }));
    }
    assert_eq!(
        service.shares[0].part.as_deref(),
        Some("ip.src in 0.0.0.0/1")
    );
}

// A7.7, A7.6
#[test]
fn outside_tuples_and_what_comes_to_them_are_divided_with_the_parts() {
    let nat = "service s : nat {\n match ip.src in 10.0.1.0/24 and not ip.dst in 10.0.0.0/8\n source 203.0.113.100\n inbound mapped\n}";
    let managers =
        "a serves s where ip.src in 10.0.1.0/25\nb serves s where ip.src in 10.0.1.128/25";
    let plan = plan(nat, managers);
    let service = &plan.services[0];
    let outside: Vec<&OutsidePlan> = (service.shares.iter())
        .filter_map(|s| s.outside.as_ref())
        .collect();
    assert_eq!(
        [
            (outside[0].first_port, outside[0].last_port),
            (outside[1].first_port, outside[1].last_port)
        ],
        [(1024, 33_279), (33_280, 65_535)]
    );
    for (port, share) in [(1024, 0), (33_279, 0), (33_280, 1), (65_535, 1)] {
        let comes = packet("9.9.9.9", 80, "203.0.113.100", port);
        assert_eq!(asked(service, true, &comes), [share], "{port}");
    }
    let own = service.of_share(1);
    assert_eq!(own.name, "s");
    assert_ne!(own.nat, service.nat);
    assert_eq!(
        service.nat.as_ref().unwrap().per_source,
        own.nat.as_ref().unwrap().per_source
    );
}

// A9.1
#[test]
fn a_backup_is_in_the_share_and_in_its_managers_list() {
    let managers = format!("{HALVES}\nbackup a with b after 1500ms\nbackup b with spare");
    let plan = plan(BALANCE, &managers);
    let backups: Vec<_> = (plan.services[0].shares.iter())
        .map(|s| s.backup.clone().map(|b| (b.manager, b.after_ms)))
        .collect();
    assert_eq!(
        backups,
        [Some(("b".into(), 1_500)), Some(("spare".into(), 3_000))]
    );
    let list: Vec<_> = (plan.managers.iter())
        .map(|m| (m.name.as_str(), m.serves.len(), m.backs.len()))
        .collect();
    assert_eq!(list, [("a", 1, 0), ("b", 1, 1), ("spare", 0, 1)]);
}

// A7.3
#[test]
fn another_division_is_no_other_program_and_says_what_changes() {
    let (one, two) = (plan(BALANCE, "a serves s"), plan(BALANCE, HALVES));
    assert_eq!(one.program_id, two.program_id);
    let changes = crate::diff::diff(&one, &two).changes();
    let texts: Vec<String> = (changes.iter())
        .map(|c| {
            format!(
                "{} {} -> {}",
                c.what,
                c.from.as_deref().unwrap_or(""),
                c.to.as_deref().unwrap_or("")
            )
        })
        .collect();
    assert!(
        texts.contains(&"managers a -> a, b".to_owned()),
        "{texts:?}"
    );
    assert!(
        texts.iter().any(|t| t.starts_with("division ")
            && t.contains("b where ip.src in 128.0.0.0/1 (2 entries)")),
        "{texts:?}"
    );
}
