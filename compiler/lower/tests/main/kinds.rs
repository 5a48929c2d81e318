//! Policies with services of every kind. What the tests need of nat, observe and dispatch is made by hand:
//! a text says the conditions, and the kinds are put in their place.

use std::net::IpAddr;

use ipnet::IpNet;
use signalbox_policy::model::{
    Bounds, Criteria, Fallback, Inbound, Keep, Nat, NatDestination, NatLeases, NatSource, Observe,
    Policy, ServiceKind, Way,
};

use crate::frames::ip;
use crate::rig::checked;

/// A service of the text, which stands there as a filter with one rule, becomes another kind with that
/// rule's condition.
pub fn turn(policy: &mut Policy, service: &str, kind: impl FnOnce(Criteria) -> ServiceKind) {
    let found = policy.services.iter_mut().find(|s| s.name == service);
    let found = found.unwrap();
    let ServiceKind::Filter(filter) = &found.kind else {
        panic!("{service} is no filter")
    };
    found.kind = kind(filter.rules[0].criteria.clone());
}

/// A nat service that does nothing yet.
fn nat(criteria: Criteria) -> Nat {
    Nat {
        criteria,
        source: None,
        destination: None,
        destinations: Vec::new(),
        leases: NatLeases::default(),
        hold_back: std::time::Duration::from_secs(120),
        per_source: None,
        inbound: Inbound::Answers,
        fallback: Fallback::Drop,
        bounds: Bounds::default(),
    }
}

/// Ports of one outside address.
pub fn ports(criteria: Criteria, outside: &str) -> Nat {
    let addresses = vec![(ip(outside), ip(outside))];
    Nat {
        source: Some(NatSource::Ports {
            addresses,
            first_port: 1024,
            last_port: 65_535,
        }),
        ..nat(criteria)
    }
}

/// Ports stay, addresses move from one prefix to another.
pub fn one_to_one(criteria: Criteria, inside: &str, outside: &str) -> Nat {
    let net = |s: &str| -> IpNet { s.parse().unwrap() };
    let pairs = vec![(net(inside), net(outside))];
    Nat {
        source: Some(NatSource::OneToOne { pairs }),
        ..nat(criteria)
    }
}

/// The destination is translated to another.
pub fn destination(criteria: Criteria, from: &str, to: &str, port: Option<u16>) -> Nat {
    let address: IpAddr = ip(to);
    Nat {
        destination: Some(NatDestination { address, port }),
        destinations: vec![ip(from)],
        ..nat(criteria)
    }
}

/// Counts, each flow by itself or all together.
pub fn observe(criteria: Criteria, per_flow: bool) -> ServiceKind {
    ServiceKind::Observe(Observe {
        criteria,
        per_flow,
        flags: true,
        every: None,
        on_close: true,
        keep: Keep::default(),
        bounds: Bounds::default(),
        fallback: Fallback::Route,
    })
}

/// A balance service of the text gets another way to its servers.
pub fn by(policy: &mut Policy, service: &str, way: Way) {
    let found = policy.services.iter_mut().find(|s| s.name == service);
    let ServiceKind::Balance(balance) = &mut found.unwrap().kind else {
        panic!("{service} is no balance service")
    };
    balance.way = way;
}

/// All kinds in one cascade, in front of a rack and for hosts inside.
pub fn everything() -> Policy {
    let mut policy = checked(
        "
network {
  port 1 outside { address 203.0.113.1/24 }
  port 2 inside { address 10.0.1.1/24 }
  port 3 rack { address 10.0.2.1/24 }
}
pool web { 10.0.2.10:8080 }
service guard : filter { deny ip.src in 198.51.100.0/24 }
service web-lb : balance { match tcp.dst 203.0.113.80:80 pick from @web by round-robin }
service egress : filter { deny ip.src in 10.0.1.0/24 }
service flows : filter { deny ip.src in 0.0.0.0/0 }
cascade guard > web-lb > egress > flows
managers { lb-1 serves web-lb }
",
    );
    policy.name = "everything".into();
    turn(&mut policy, "egress", |c| {
        ServiceKind::Nat(ports(c, "203.0.113.100"))
    });
    turn(&mut policy, "flows", |c| observe(c, true));
    policy
}

/// The same in both families.
pub fn everything6() -> Policy {
    let mut policy = checked(
        "
network {
  port 1 outside { address 203.0.113.1/24 address 2001:db8:1::1/64 }
  port 2 inside { address 10.0.1.1/24 address 2001:db8:2::1/64 }
  port 3 rack { address 10.0.2.1/24 address 2001:db8:3::1/64 }
}
pool web { [2001:db8:3::10]:8080 }
service guard : filter { deny ip.src in 198.51.100.0/24 }
service web-lb : balance { match tcp.dst [2001:db8:1::80]:80 pick from @web by round-robin }
service egress : filter { deny ip.src in 2001:db8:2::/64 }
service egress4 : filter { deny ip.src in 10.0.1.0/24 }
service flows : filter { deny ip.src in ::/0 }
cascade guard > web-lb > egress > egress4 > flows
managers { lb-1 serves web-lb }
",
    );
    policy.name = "everything6".into();
    turn(&mut policy, "egress", |c| {
        ServiceKind::Nat(ports(c, "2001:db8:1::100"))
    });
    turn(&mut policy, "egress4", |c| {
        ServiceKind::Nat(one_to_one(c, "10.0.1.0/26", "203.0.113.192/26"))
    });
    turn(&mut policy, "flows", |c| observe(c, false));
    policy
}

/// A service for each way of dispatch, over IPv4.
pub fn dispatching() -> Policy {
    let mut policy = checked(
        "
network {
  port 1 clients { address 203.0.113.1/24 }
  port 2 rack { address 10.0.2.1/24 }
}
pool web { 10.0.2.10:80 }
pool more { 10.0.2.11:80 }
pool names { 10.0.2.12:53 }
service by-mac : balance { match tcp.dst 203.0.113.80:80 pick from @web by round-robin }
service by-ipip : balance { match tcp.dst 203.0.113.81:80 pick from @more by round-robin }
service by-gue : balance { match udp.dst 203.0.113.82:53 pick from @names by round-robin }
cascade by-mac > by-ipip > by-gue
managers { lb-1 serves by-mac, by-ipip, by-gue }
",
    );
    policy.name = "dispatching".into();
    ways(&mut policy);
    policy
}

/// The same over IPv6, with servers of both families.
pub fn dispatching6() -> Policy {
    let mut policy = checked(
        "
network {
  port 1 clients { address 203.0.113.1/24 address 2001:db8:1::1/64 }
  port 2 rack { address 10.0.2.1/24 address 2001:db8:3::1/64 }
}
pool web { 10.0.2.10:80 }
pool web6 { [2001:db8:3::10]:80 }
pool names { 10.0.2.12:53 }
service by-mac : balance { match tcp.dst 203.0.113.80:80 pick from @web by round-robin }
service by-ipip : balance { match tcp.dst [2001:db8:1::81]:80 pick from @web6 by round-robin }
service by-gue : balance { match udp.dst 203.0.113.82:53 pick from @names by round-robin }
cascade by-mac > by-ipip > by-gue
managers { lb-1 serves by-mac, by-ipip, by-gue }
",
    );
    policy.name = "dispatching6".into();
    ways(&mut policy);
    policy
}

fn ways(policy: &mut Policy) {
    by(policy, "by-mac", Way::Mac);
    by(policy, "by-ipip", Way::Ipip);
    by(policy, "by-gue", Way::Gue);
}
