//! What lowering must keep to, on small policies made by hand, and the golden files of the examples.

mod division;
mod gates;
mod golden;
mod invariants;
mod kinds;

use std::net::IpAddr;
use std::time::Duration;

use signalbox_policy::model::{
    Balance, Bounds, Check, CheckKind, Criteria, Cube, Destination, Fallback, Families, Family,
    Filter, FilterVerdict, Keep, Manager, Neighbour, Network, OnDeath, Pick, Policy, Pool,
    PoolIndex, Port, Route, Rule, Server, Service, ServiceIndex, ServiceKind, Span, Ternary, Way,
    address_bits,
};

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn criteria(text: &str, cubes: Vec<Cube>) -> Criteria {
    Criteria {
        text: text.into(),
        cubes,
        span: Span::default(),
    }
}

fn prefix_cube(prefix: &str) -> Cube {
    let net: ipnet::IpNet = prefix.parse().unwrap();
    let mut cube = Cube::all(Family::of(net.addr()));
    cube.src = Ternary::<u128>::masked(address_bits(net.network()), address_bits(net.netmask()));
    cube
}

fn service_cube(address: &str, port: u16) -> Cube {
    let mut cube = Cube::all(Family::of(ip(address)));
    cube.dst = Ternary::<u128>::masked(address_bits(ip(address)), cube.family.full_mask());
    cube.proto = Ternary::<u8>::exact(6);
    cube.dst_port = Ternary::<u16>::exact(port);
    cube
}

/// A policy with two ports and no services.
fn router(families: Families) -> Policy {
    let port = |number: u16, name: &str, v4: &str, v6: &str| Port {
        number,
        name: name.into(),
        addresses: match families {
            Families::V4 => vec![v4.parse().unwrap()],
            Families::Dual => vec![v4.parse().unwrap(), v6.parse().unwrap()],
        },
        mtu: 1500,
        mac_given: None,
        span: Span::default(),
    };
    Policy {
        name: "router".into(),
        families,
        network: Network {
            ports: vec![
                port(1, "left", "203.0.113.1/24", "2001:db8:1::1/64"),
                port(2, "right", "10.0.1.1/24", "2001:db8:2::1/64"),
            ],
            routes: vec![Route {
                prefix: "192.0.2.0/24".parse().unwrap(),
                via: ip("10.0.1.9"),
                port: 2,
                span: Span::default(),
            }],
            neighbours: vec![Neighbour {
                address: ip("10.0.1.9"),
                mac: signalbox_policy::model::Mac([2, 0, 0, 0, 0, 9]),
                port: 2,
                span: Span::default(),
            }],
        },
        sets: Vec::new(),
        pools: Vec::new(),
        services: Vec::new(),
        managers: Vec::new(),
        tests: Vec::new(),
    }
}

/// The same with a filter, a balance service, and another of each, in that order.
fn cascade(families: Families) -> Policy {
    let mut policy = router(families);
    policy.pools = vec![Pool {
        name: "web".into(),
        servers: vec![
            Server {
                name: "a".into(),
                address: ip("10.0.1.10"),
                port: 8080,
                weight: 2,
                span: Span::default(),
            },
            Server {
                name: "b".into(),
                address: ip("10.0.1.11"),
                port: 8080,
                weight: 1,
                span: Span::default(),
            },
        ],
        check: Some(Check {
            kind: CheckKind::Tcp,
            every: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
        }),
        span: Span::default(),
    }];
    let filter = |default| {
        ServiceKind::Filter(Filter {
            rules: vec![Rule {
                verdict: FilterVerdict::Deny,
                criteria: criteria(
                    "ip.src in @blocked",
                    vec![prefix_cube("198.51.100.0/24"), prefix_cube("192.0.2.66/32")],
                ),
                span: Span::default(),
            }],
            default,
        })
    };
    let balance = |port, fallback| {
        ServiceKind::Balance(Balance {
            criteria: criteria(
                &format!("tcp.dst 203.0.113.80:{port}"),
                vec![service_cube("203.0.113.80", port)],
            ),
            destinations: vec![Destination {
                address: ip("203.0.113.80"),
                proto: 6,
                port,
            }],
            pool: PoolIndex(0),
            pick: Pick::Weighted,
            keep: Keep::default(),
            fallback,
            stick: None,
            slow_start: std::time::Duration::ZERO,
            way: Way::default(),
            on_death: OnDeath::default(),
            bounds: Bounds::default(),
        })
    };
    let kinds = [
        ("guard", filter(FilterVerdict::Allow)),
        ("web-lb", balance(443, Fallback::Drop)),
        ("table", filter(FilterVerdict::Deny)),
        ("alt", balance(80, Fallback::Route)),
    ];
    policy.services = kinds
        .into_iter()
        .enumerate()
        .map(|(i, (name, kind))| Service {
            name: name.into(),
            index: ServiceIndex(i),
            kind,
            span: Span::default(),
        })
        .collect();
    policy.managers = vec![Manager {
        name: "lb-1".into(),
        serves: vec![ServiceIndex(1), ServiceIndex(3)],
        parts: Vec::new(),
        backup: None,
        span: Span::default(),
    }];
    policy
}
