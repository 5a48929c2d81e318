//! What a story takes place on: the plan of one or two services, with leases of seconds so that stories are
//! short, and the managers that decide for them.

use std::net::IpAddr;
use std::time::Duration;

use signalbox_agent::flow::events;
use signalbox_agent::testing::plan;
use signalbox_balance::Balance;
use signalbox_lower::plan::{
    AddressRange, BackupPlan, Criterion, CriterionAction, Cube, Inbound, Kind, ManagerPlan, Masked,
    MaskedAddr, NatLeases, NatPlan, NatSource, Plan, ServicePlan, SharePlan,
};
use signalbox_manager::{Decide, Manager};
use signalbox_nat::Nat;

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
    /// Whether it stands by for the other one of the service.
    pub backup: bool,
}

/// The managers of a setup.
#[must_use]
pub fn roles(setup: &Setup) -> Vec<Role> {
    let all = [
        (setup.balance, "lb-1", BALANCE, false),
        (setup.balance && setup.backed, "lb-2", BALANCE, true),
        (setup.nat, "nat-1", NAT, false),
        (setup.nat && setup.backed, "nat-2", NAT, true),
    ];
    (all.into_iter().filter(|(there, ..)| *there))
        .map(|(_, name, service, backup)| Role {
            name,
            service,
            backup,
        })
        .collect()
}

/// The plan of a setup.
#[must_use]
pub fn plan_of(setup: &Setup) -> Plan {
    let mut plan = plan();
    let mut balance = plan.services.remove(0);
    balance.limits.idle_ms = millis(IDLE);
    balance.limits.closed_ms = 1_000;
    balance.limits.half_open_ms = millis(HALF_OPEN);
    balance.limits.criteria_lease_ms = millis(LEASE);
    let mut services = Vec::new();
    if setup.nat {
        services.push(nat_of(&balance, setup.ports));
    }
    if setup.balance {
        services.insert(0, balance);
    }
    for (service, stage) in services.iter_mut().zip(1..) {
        service.stage = stage;
        let of_it = |r: &&Role| r.service == service.name;
        let (mut share, roles) = (SharePlan::whole(""), roles(setup));
        for role in roles.iter().filter(of_it) {
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
        service.shares = vec![share];
    }
    plan.services = services;
    plan.managers = (roles(setup).into_iter())
        .map(|role| {
            let service = vec![role.service.to_owned()];
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

/// A process of a manager that knows nothing yet. `number` tells it from others, and the later is higher.
#[must_use]
pub fn process(role: &Role, plan: &Plan, number: u64, shared: bool) -> Manager {
    let service = plan.services.iter().find(|s| s.name == role.service);
    let decide: Option<Box<dyn Decide>> = match role.service {
        NAT => service
            .and_then(Nat::new)
            .map(|nat| Box::new(nat.seeded(number)) as _),
        _ => service
            .and_then(Balance::new)
            .map(|balance| Box::new(balance) as _),
    };
    let served = (decide.into_iter())
        .map(|decide| (role.service.to_owned(), 0, 0, decide))
        .collect();
    let manager = Manager::new(role.name, plan, served).with_instance(number);
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
    let outside = |last| IpAddr::from([203, 0, 113, last]);
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
        dst: masked([203, 0, 113, 100], 31),
        ..Cube::default()
    };
    let mut service = ServicePlan {
        name: NAT.into(),
        kind: Kind::Nat,
        balance: None,
        nat: Some(NatPlan {
            source: Some(NatSource::Ports {
                addresses: vec![AddressRange {
                    first: outside(100),
                    last: outside(101),
                }],
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
        addresses: vec![outside(100), outside(101)],
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

/// How many criteria a manager of a service has installed at each agent.
#[must_use]
pub fn criteria(plan: &Plan, service: &str) -> usize {
    let asks = |c: &&Criterion| matches!(c.action, CriterionAction::Ask { .. });
    (plan.services.iter().filter(|s| s.name == service))
        .flat_map(|s| {
            s.forward
                .criteria
                .iter()
                .chain(s.reply.iter().flat_map(|r| &r.criteria))
        })
        .filter(asks)
        .map(|c| c.cubes.len())
        .sum()
}
