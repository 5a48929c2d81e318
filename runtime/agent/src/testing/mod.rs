//! For tests of agents and managers: a plan, packets, and a stand-in for a switch with the agent on top.
//!
//! [`FakeSwitch`] applies entries as the generated pipeline does, to the depth of tuples; checksums and TTLs
//! are the real switch's business. [`World`] runs an agent on it, on a clock that the test drives.

mod fake_switch;
mod plans;
mod world;

use std::net::IpAddr;

use bytes::Bytes;
use signalbox_lower::plan::{
    BalancePlan, Criterion, CriterionAction, Cube, Fallback, Kind, Limits, ManagerPlan, Masked,
    MaskedAddr, OnDeath, PartPlan, Pick, Plan, PortPlan, RoutePlan, ServerPlan, ServicePlan,
    SharePlan, Way,
};

use crate::flow::{Tuple, events};
use crate::packet::{TYPE_IPV4, frame};

pub use fake_switch::{FakeSwitch, Fate};
pub use plans::{backed, direct, gate, observed, totalled, with_backup};
pub use world::World;

/// TCP's FIN, SYN, RST and ACK flags.
pub mod flags {
    /// FIN.
    pub const FIN: u8 = 1;
    /// SYN.
    pub const SYN: u8 = 2;
    /// RST.
    pub const RST: u8 = 4;
    /// ACK.
    pub const ACK: u8 = 16;
}

/// The service's address in [`plan`].
pub const SERVICE: [u8; 4] = [203, 0, 113, 80];

fn all<T>(value: T, mask: T) -> Option<Masked<T>> {
    Some(Masked { value, mask })
}

fn host(address: IpAddr) -> Option<MaskedAddr> {
    Some(MaskedAddr {
        value: address,
        mask: IpAddr::from([255; 4]),
    })
}

fn ask(id: u32, cube: Cube) -> Criterion {
    Criterion {
        id,
        label: "match".into(),
        priority: 1000,
        action: CriterionAction::Ask {
            packet_events: events::ALL,
            notice_events: 0,
        },
        cubes: vec![cube],
    }
}

/// The MAC address of a port of [`plan`].
#[must_use]
pub fn port_mac(port: u16) -> [u8; 6] {
    [2, 0, 0, 0, 0, u8::try_from(port).unwrap_or(0)]
}

/// One balance service, 203.0.113.80:443, in front of three servers of weights 2, 1, 1; clients on port 1,
/// servers on ports 2 and 3, another network behind a router on port 3.
#[must_use]
pub fn plan() -> Plan {
    let servers: Vec<ServerPlan> = [(1, 10, 2), (2, 10, 1), (2, 11, 1)]
        .into_iter()
        .map(|(net, host, weight)| ServerPlan {
            name: format!("web-{net}-{host}"),
            address: IpAddr::from([10, 0, net, host]),
            port: 8080,
            weight,
        })
        .collect();
    let service = IpAddr::from(SERVICE);
    let part = |name: &str, criteria: Vec<Criterion>| PartPlan {
        fixed: Some(format!("Cascade.{name}.fixed")),
        fixed_size: 65_536,
        criteria_table: format!("Cascade.{name}.wildcard"),
        criteria_size: 4096,
        stats: format!("Cascade.{name}.stats"),
        criteria,
    };
    let forward = ask(
        1,
        Cube {
            dst: host(service),
            proto: all(6, 0xff),
            dport: all(443, 0xffff),
            kind: all(0, 3),
            ..Cube::default()
        },
    );
    let replies = (servers.iter().zip(1..))
        .map(|(s, id)| {
            ask(
                id,
                Cube {
                    src: host(s.address),
                    proto: all(6, 0xff),
                    sport: all(s.port, 0xffff),
                    kind: all(0, 3),
                    ..Cube::default()
                },
            )
        })
        .collect();
    let net = |text: &str| text.parse().ok();
    let ports = [
        (1, "clients", "203.0.113.1/24"),
        (2, "rack-a", "10.0.1.1/24"),
        (3, "rack-b", "10.0.2.1/24"),
    ];
    Plan {
        policy: "web".into(),
        program_id: 0x1234_5678,
        address_bits: 32,
        cpu_port: 510,
        notice_session: 1,
        ports: (ports.into_iter())
            .map(|(number, name, address)| PortPlan {
                number,
                name: name.into(),
                addresses: net(address).into_iter().collect(),
                mtu: 1500,
                mac: port_mac(number),
            })
            .collect(),
        routes: (net("192.0.2.0/24").into_iter())
            .map(|prefix| RoutePlan {
                prefix,
                via: IpAddr::from([10, 0, 2, 254]),
                port: 3,
            })
            .collect(),
        neighbours: Vec::new(),
        services: vec![ServicePlan {
            name: "web-lb".into(),
            kind: Kind::Balance,
            stage: 1,
            shares: vec![SharePlan::whole("lb-1")],
            forward: part("web_lb", vec![forward]),
            reply: Some(part("web_lb_reply", replies)),
            addresses: vec![service],
            fallback: Fallback::Drop,
            limits: Limits {
                idle_ms: 300_000,
                closed_ms: 10_000,
                half_open_ms: 10_000,
                hold_ms: 200,
                hold_packets: 64,
                hold_bytes: 65_536,
                criteria_lease_ms: 3_000,
                half_open: None,
                half_open_per_source: None,
                new_per_second: None,
                new_per_second_per_source: None,
            },
            balance: Some(BalancePlan {
                pool: "web".into(),
                pick: Pick::Weighted,
                servers,
                check: None,
                stick_ms: None,
                slow_start_ms: 0,
                way: Way::default(),
                on_death: OnDeath::default(),
            }),
            nat: None,
            gate: None,
            observe: None,
        }],
        managers: vec![ManagerPlan {
            name: "lb-1".into(),
            serves: vec!["web-lb".into()],
            backs: Vec::new(),
        }],
    }
}

/// A client's flow to the service.
#[must_use]
pub fn client(host: u8, port: u16) -> Tuple {
    Tuple {
        src: IpAddr::from([203, 0, 113, host]),
        dst: IpAddr::from(SERVICE),
        proto: 6,
        sport: port,
        dport: 443,
    }
}

/// A TCP packet in a frame for a port of ours; IPv4, checksums zero.
#[must_use]
pub fn tcp(port: u16, tuple: &Tuple, flags: u8, payload: &[u8]) -> Bytes {
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (tuple.src, tuple.dst) else {
        return Bytes::new();
    };
    let length = u16::try_from(40 + payload.len()).unwrap_or(u16::MAX);
    let mut ip = vec![0x45, 0];
    ip.extend_from_slice(&length.to_be_bytes());
    ip.extend_from_slice(&[0, 0, 0, 0, 64, tuple.proto, 0, 0]);
    ip.extend_from_slice(&src.octets());
    ip.extend_from_slice(&dst.octets());
    ip.extend_from_slice(&tuple.sport.to_be_bytes());
    ip.extend_from_slice(&tuple.dport.to_be_bytes());
    ip.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    ip.extend_from_slice(payload);
    frame(port_mac(port), [0xaa; 6], TYPE_IPV4, &ip).into()
}
