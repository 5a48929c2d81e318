//! What a story takes place on: the plan of one or two services, with leases of seconds so that stories are
//! short, and the managers that decide for them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use signalbox_agent::flow::events;
use signalbox_agent::testing::World;
use signalbox_agent::testing::plan;
use signalbox_balance::Balance;
use signalbox_lower::plan::{
    AddressRange, Asks, BackupPlan, Criterion, CriterionAction, Cube, Inbound, Kind, ManagerPlan,
    Masked, MaskedAddr, NatLeases, NatPlan, NatSource, OutsidePlan, PartPlan, Plan, ServicePlan,
    SharePlan,
};
use signalbox_manager::{Decide, Manager, Served};
use signalbox_nat::Nat;

use crate::division::{Division, OUTSIDE};
use crate::story::Setup;

/// The lease of the criteria of a manager that has a backup; of one without, it is longer.
pub const AFTER: Duration = Duration::from_millis(900);
/// The longest lease of criteria.
pub const LEASE: Duration = Duration::from_millis(1_500);
/// The idle lease of flows.
pub const IDLE: Duration = Duration::from_millis(8_000);
/// The lease of flows that nobody has answered.
pub const HALF_OPEN: Duration = Duration::from_millis(2_000);
/// How long an outside tuple rests.
pub const HOLD_BACK: Duration = Duration::from_millis(5_000);
/// The name of the balance service.
pub const BALANCE: &str = "web-lb";
/// The name of the nat service.
pub const NAT: &str = "egress";

/// A manager's part in the play; its processes come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its name in the plan.
    pub name: &'static str,
    /// Its service.
    pub service: &'static str,
    /// Which one of the service's two it is, or stands by for.
    pub who: usize,
    /// Whether it stands by.
    pub backup: bool,
}

/// The managers of a setup.
#[must_use]
pub fn roles(setup: &Setup) -> Vec<Role> {
    let services = [
        (setup.balance, BALANCE, ["lb-1", "lb-2", "lb-3", "lb-4"]),
        (setup.nat, NAT, ["nat-1", "nat-2", "nat-3", "nat-4"]),
    ];
    let all = services.into_iter().flat_map(|(there, service, names)| {
        (names.into_iter().enumerate()).map(move |(n, name)| Role {
            name,
            service: if there { service } else { "" },
            who: n / 2,
            backup: n % 2 == 1,
        })
    });
    all.filter(|role| !role.service.is_empty())
        .filter(|role| setup.backed || !role.backup)
        .filter(|role| setup.division.is_some() || role.who == 0)
        .collect()
}

/// An agent and its switch, with hosts behind it.
#[must_use]
pub fn agent(a: usize, plan: &Plan) -> World {
    let mut world = World::named(&format!("agent-{}", a + 1), plan.clone());
    let clients = (8..12).map(|n| (IpAddr::from([203, 0, 113, n]), [4, 0, 0, 0, 113, n]));
    world.hosts.extend(clients);
    world
}

/// The plan of a setup, divided so.
#[must_use]
pub fn plan_of(setup: &Setup, division: Division) -> Plan {
    let mut plan = plan();
    let mut balance = plan.services.remove(0);
    balance.limits.idle_ms = millis(IDLE);
    balance.limits.closed_ms = 1_000;
    balance.limits.half_open_ms = millis(HALF_OPEN);
    balance.limits.criteria_lease_ms = millis(LEASE);
    let mut services = Vec::new();
    if setup.nat {
        // Each half has as many as the whole of others.
        let times = 1 + u16::from(setup.division.is_some());
        services.push(nat_of(&balance, setup.ports * times));
    }
    if setup.balance {
        services.insert(0, balance);
    }
    for (service, stage) in services.iter_mut().zip(1..) {
        service.stage = stage;
        let share = |number| share_of(setup, service, division, number);
        service.shares = (0..division.shares()).map(share).collect();
    }
    plan.services = services;
    plan.managers = (roles(setup).into_iter())
        .map(|role| {
            let has = division.share(role.who).map(|_| role.service.to_owned());
            let service = Vec::from_iter(has);
            let (serves, backs) = match role.backup {
                true => (Vec::new(), service),
                false => (service, Vec::new()),
            };
            ManagerPlan {
                name: role.name.into(),
                serves,
                backs,
            }
        })
        .collect();
    plan
}

/// A share of a service: who decides, who stands by, and where the service is divided, about what.
fn share_of(setup: &Setup, service: &ServicePlan, division: Division, number: u32) -> SharePlan {
    let mut share = SharePlan::whole("");
    let of_it = |r: &Role| (r.service, r.who) == (&service.name, division.who(number));
    for role in roles(setup).into_iter().filter(of_it) {
        match role.backup {
            false => share.manager = role.name.into(),
            true => {
                share.backup = Some(BackupPlan {
                    manager: role.name.into(),
                    after_ms: millis(AFTER),
                    replicate: setup.replicate,
                });
            }
        }
    }
    let nat = service.nat.is_some();
    let Some(addresses) = division.addresses(nat, number) else {
        return share;
    };
    let asks = |part: &PartPlan, end: fn(&mut Cube) -> &mut Option<MaskedAddr>| {
        let mut asks: Vec<Criterion> = (part.criteria.iter())
            .filter(|c| !c.is_static())
            .cloned()
            .collect();
        for cube in asks.iter_mut().flat_map(|c| &mut c.cubes) {
            let end = end(cube);
            *end = Some(both(*end, addresses));
        }
        asks
    };
    share.asks = Some(Asks {
        forward: asks(&service.forward, |cube| &mut cube.src),
        reply: (service.reply.as_ref()).map_or_else(Vec::new, |part| asks(part, |c| &mut c.dst)),
    });
    if let Some(NatSource::Ports {
        first_port,
        last_port,
        ..
    }) = service.nat.as_ref().and_then(|nat| nat.source.as_ref())
    {
        let (first, last) = division.outside(number);
        share.outside = Some(OutsidePlan {
            addresses: vec![AddressRange { first, last }],
            first_port: *first_port,
            last_port: *last_port,
        });
    }
    share
}

/// The addresses that are in two sets of which neither excludes the other.
fn both(one: Option<MaskedAddr>, other: MaskedAddr) -> MaskedAddr {
    let (Some(one), bits) = (one, |a: IpAddr| match a {
        IpAddr::V4(a) => a.to_bits(),
        IpAddr::V6(_) => 0,
    }) else {
        return other;
    };
    let or = |a, b| Ipv4Addr::from_bits(bits(a) | bits(b)).into();
    MaskedAddr {
        value: or(one.value, other.value),
        mask: or(one.mask, other.mask),
    }
}

/// What a process of a manager serves by a plan. `number` tells it from others.
#[must_use]
pub fn served(role: &Role, plan: &Plan, number: u64) -> Vec<Served> {
    let service = plan.services.iter().find(|s| s.name == role.service);
    let shares = service.map(|s| (s, s.shares_of(role.name)));
    let shares = shares
        .into_iter()
        .flat_map(|(s, own)| own.map(move |(n, _)| (s.of_share(n), n)));
    shares
        .filter_map(|(service, share)| {
            let decide: Box<dyn Decide> = match role.service {
                NAT => Box::new(Nat::new(&service)?.seeded(number)),
                _ => Box::new(Balance::new(&service)?),
            };
            Some((role.service.to_owned(), share, 0, decide))
        })
        .collect()
}

/// A process of a manager that knows nothing yet. `number` tells it from others, and the later is higher.
#[must_use]
pub fn process(role: &Role, plan: &Plan, number: u64, shared: bool) -> Manager {
    let manager = Manager::new(role.name, plan, served(role, plan, number)).with_instance(number);
    match shared {
        true => manager.with_store("memory"),
        false => manager,
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// Inside hosts 10.0.0.0/8, outside addresses 203.0.113.100 and .101 with so many ports each.
fn nat_of(like: &ServicePlan, ports: u16) -> ServicePlan {
    let (first, last) = Division::Whole(0).outside(0);
    let masked = |address: [u8; 4], bits: u32| {
        Some(MaskedAddr {
            value: address.into(),
            mask: IpAddr::from((u32::MAX << (32 - bits)).to_be_bytes()),
        })
    };
    let criterion = |id, priority, action, cube| Criterion {
        id,
        label: "match".into(),
        priority,
        action,
        cubes: vec![Cube {
            kind: Some(Masked { value: 0, mask: 3 }),
            ..cube
        }],
    };
    let ask = CriterionAction::Ask {
        packet_events: events::ALL,
        notice_events: 0,
    };
    // What the servers of the balance service answer is no flow from inside: it is told by its port.
    let inside = Cube {
        src: masked([10, 0, 0, 0], 8),
        ..Cube::default()
    };
    let to_outside = Cube {
        dst: masked(OUTSIDE.octets(), 31),
        ..Cube::default()
    };
    let mut service = ServicePlan {
        name: NAT.into(),
        kind: Kind::Nat,
        balance: None,
        nat: Some(NatPlan {
            source: Some(NatSource::Ports {
                addresses: vec![AddressRange { first, last }],
                first_port: 2000,
                last_port: 1999 + ports,
            }),
            destination: None,
            leases: NatLeases {
                tcp_established_ms: millis(IDLE),
                tcp_transitory_ms: 2_000,
                udp_ms: 2_000,
                icmp_ms: 2_000,
            },
            hold_back_ms: millis(HOLD_BACK),
            per_source: None,
            inbound: Inbound::Answers,
        }),
        addresses: vec![first, last],
        ..like.clone()
    };
    service.forward.fixed = Some("Cascade.egress.fixed".into());
    service.forward.criteria = vec![criterion(1, 1000, ask, inside)];
    if let Some(reply) = &mut service.reply {
        reply.fixed = Some("Cascade.egress_reply.fixed".into());
        reply.criteria = vec![criterion(3, 1000, CriterionAction::Discard, to_outside)];
    }
    service
}

/// What a manager of a share has installed at each agent.
#[must_use]
pub fn criteria(service: &ServicePlan, share: u32) -> Vec<Cube> {
    let (forward, reply) = service.asks(share);
    let asks = |c: &&Criterion| matches!(c.action, CriterionAction::Ask { .. });
    (forward.iter().chain(reply).filter(asks))
        .flat_map(|c| c.cubes.iter().cloned())
        .collect()
}
