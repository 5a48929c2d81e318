//! A site of three services in a row: a filter, a translation of inside sources, a balanced address.
//!
//! Flows are put into the agent's store as they are when they are live; the tests are of what the agent
//! does with packets that the switch leaves to it.

use std::net::IpAddr;

use bytes::Bytes;
use signalbox_lower::plan::{
    Criterion, CriterionAction, Cube, Fallback, Kind, Masked, MaskedAddr, NeighbourPlan, PartPlan,
    Plan, PortPlan, ServicePlan, SharePlan,
};

use crate::entry::{FixedAction, Packet, PacketMeta};
use crate::flow::{PacketKind, Part, Tuple, events};
use crate::machine::flow_record::{Act, Cookie, Direction, Flow, Moment, Phase, Progress, Terms};
use crate::machine::store::FlowRef;
use crate::machine::{Agent, Input};
use crate::message::{InterestMask, Leases, Statistics, Totals};
use crate::testing::{World, plan, port_mac};

/// Indices of the services.
pub const NAT: u8 = 1;
pub const BALANCED: u8 = 2;

pub const OUTSIDE: u16 = 1;
pub const INSIDE: u16 = 2;
pub const SERVERS: u16 = 3;

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The site's addresses in one family.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub remote: IpAddr,
    /// A router beyond `remote`'s network.
    pub far_router: IpAddr,
    pub inside: IpAddr,
    pub other_inside: IpAddr,
    pub inside_router: IpAddr,
    pub server: IpAddr,
    pub server_router: IpAddr,
    /// The balanced address.
    pub service: IpAddr,
    /// The address that inside sources get.
    pub translated: IpAddr,
    /// Our own, by port.
    pub own: [IpAddr; 3],
}

pub fn addresses(v6: bool) -> Addresses {
    let pick = |four: &str, six: &str| ip(if v6 { six } else { four });
    Addresses {
        remote: pick("203.0.113.9", "2001:db8:1::9"),
        far_router: pick("203.0.113.254", "2001:db8:1::fe"),
        inside: pick("10.0.1.10", "fd00:1::10"),
        other_inside: pick("10.0.1.11", "fd00:1::11"),
        inside_router: pick("10.0.1.254", "fd00:1::fe"),
        server: pick("10.0.2.10", "fd00:2::10"),
        server_router: pick("10.0.2.254", "fd00:2::fe"),
        service: pick("203.0.113.80", "2001:db8:1::80"),
        translated: pick("203.0.113.100", "2001:db8:1::100"),
        own: [
            pick("203.0.113.1", "2001:db8:1::1"),
            pick("10.0.1.1", "fd00:1::1"),
            pick("10.0.2.1", "fd00:2::1"),
        ],
    }
}

fn is(address: IpAddr) -> Option<MaskedAddr> {
    let mask = if address.is_ipv4() {
        ip("255.255.255.255")
    } else {
        ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
    };
    Some(MaskedAddr {
        value: address,
        mask,
    })
}

fn within(address: &str, mask: &str) -> Option<MaskedAddr> {
    Some(MaskedAddr {
        value: ip(address),
        mask: ip(mask),
    })
}

pub fn rule(id: u32, priority: i32, action: CriterionAction, cubes: Vec<Cube>) -> Criterion {
    Criterion {
        id,
        label: "rule".into(),
        priority,
        action,
        cubes,
    }
}

fn ask() -> CriterionAction {
    CriterionAction::Ask {
        packet_events: events::ALL,
        notice_events: 0,
    }
}

fn part(name: &str, criteria: Vec<Criterion>) -> PartPlan {
    PartPlan {
        fixed: Some(format!("Cascade.{name}.fixed")),
        fixed_size: 1024,
        criteria_table: format!("Cascade.{name}.wildcard"),
        criteria_size: 1024,
        stats: format!("Cascade.{name}.stats"),
        criteria,
    }
}

/// The filter drops UDP to port 666 and source quenches, and what comes from 198.51.100.0/24.
pub fn site_plan() -> Plan {
    let mut plan = plan();
    let (four, six) = (addresses(false), addresses(true));
    plan.address_bits = 128;
    plan.routes = Vec::new();
    plan.ports = [
        (OUTSIDE, "outside"),
        (INSIDE, "inside"),
        (SERVERS, "servers"),
    ]
    .into_iter()
    .map(|(number, name)| PortPlan {
        number,
        name: name.into(),
        addresses: [(four, 24), (six, 64)]
            .map(|(a, length)| ipnet::IpNet::new(a.own[usize::from(number) - 1], length).unwrap())
            .to_vec(),
        mtu: 1400 + number,
        mac: port_mac(number),
    })
    .collect();
    plan.neighbours = [four, six]
        .iter()
        .flat_map(|a| {
            [
                (a.remote, OUTSIDE),
                (a.far_router, OUTSIDE),
                (a.inside, INSIDE),
                (a.other_inside, INSIDE),
                (a.inside_router, INSIDE),
                (a.server, SERVERS),
                (a.server_router, SERVERS),
            ]
        })
        .map(|(address, port)| NeighbourPlan {
            address,
            mac: [4, 0, 0, 0, 0, port as u8],
            port,
        })
        .collect();
    let template = plan.services[0].clone();
    let service = |name: &str, kind, stage, forward, reply, addresses| ServicePlan {
        name: name.into(),
        kind,
        stage,
        shares: match kind {
            Kind::Filter => Vec::new(),
            _ => vec![SharePlan::whole("lb-1")],
        },
        forward,
        reply,
        addresses,
        fallback: if kind == Kind::Filter {
            Fallback::Route
        } else {
            Fallback::Drop
        },
        balance: template.balance.clone().filter(|_| kind == Kind::Balance),
        ..template.clone()
    };
    let masked = |value: u8, mask: u8| Some(Masked { value, mask });
    let quench = Cube {
        proto: masked(1, 0xff),
        icmp: masked(4, 0xff),
        kind: masked(1, 1),
        ..Cube::default()
    };
    let port_666 = Cube {
        proto: masked(17, 0xff),
        dport: Some(Masked {
            value: 666,
            mask: 0xffff,
        }),
        kind: masked(0, 2),
        ..Cube::default()
    };
    let blocked = Cube {
        src: within("198.51.100.0", "255.255.255.0"),
        ..Cube::default()
    };
    let guard = vec![
        rule(1, 1000, CriterionAction::Discard, vec![quench]),
        rule(2, 1000, CriterionAction::Discard, vec![port_666]),
        rule(3, 1000, CriterionAction::Discard, vec![blocked]),
        rule(4, 1, CriterionAction::Pass, vec![Cube::default()]),
    ];
    let from_inside = [
        within("10.0.1.0", "255.255.255.0"),
        within("fd00:1::", "ffff:ffff:ffff:ffff::"),
    ]
    .map(|src| Cube {
        src,
        ..Cube::default()
    });
    let to = |v4: IpAddr, v6: IpAddr| {
        [v4, v6]
            .map(|dst| Cube {
                dst: is(dst),
                ..Cube::default()
            })
            .to_vec()
    };
    let from_server = [four.server, six.server].map(|src| Cube {
        src: is(src),
        ..Cube::default()
    });
    plan.services = vec![
        ServicePlan {
            forward: PartPlan {
                fixed: None,
                ..part("guard", guard)
            },
            ..service(
                "guard",
                Kind::Filter,
                1,
                part("guard", vec![]),
                None,
                vec![],
            )
        },
        service(
            "nat",
            Kind::Nat,
            2,
            part("nat", vec![rule(1, 1000, ask(), from_inside.to_vec())]),
            Some(part(
                "nat_reply",
                vec![rule(
                    1,
                    1000,
                    CriterionAction::Discard,
                    to(four.translated, six.translated),
                )],
            )),
            vec![four.translated, six.translated],
        ),
        service(
            "web-lb",
            Kind::Balance,
            3,
            part(
                "web_lb",
                vec![rule(1, 1000, ask(), to(four.service, six.service))],
            ),
            Some(part(
                "web_lb_reply",
                vec![rule(1, 1000, ask(), from_server.to_vec())],
            )),
            vec![four.service, six.service],
        ),
    ];
    plan.managers[0].serves = vec!["nat".into(), "web-lb".into()];
    plan
}

pub fn site() -> World {
    World::new(site_plan())
}

/// Puts a live flow into the agent's store: both directions, or the forward one alone.
pub fn put(
    agent: &mut Agent,
    service: u8,
    forward: (Tuple, FixedAction),
    reply: Option<(Tuple, FixedAction)>,
) -> FlowRef {
    let slot = agent.store.len() as u32 + 1;
    let direction = |(tuple, action)| {
        let act = match action {
            FixedAction::Forward => Act::Forward,
            FixedAction::Discard => Act::Discard,
            FixedAction::Dispatch { next_hop, tunnel } => Act::Dispatch { next_hop, tunnel },
            FixedAction::Translate(to) => Act::Translate(Box::new(to)),
            FixedAction::Adjust(by) => Act::Adjust(by),
        };
        let cell = (slot, Totals::default());
        let interest = InterestMask::default();
        Box::new(Direction::new(
            tuple,
            PacketKind::Whole,
            act,
            interest,
            cell,
        ))
    };
    let terms = agent.store.shared(Terms {
        epoch: 0,
        manager: "lb-1".into(),
        leases: Leases {
            half_open_ms: None,
            idle_ms: None,
            closed_ms: None,
            hard_ms: None,
        },
        track_close: false,
        statistics: Statistics::default(),
        watch_answer: false,
    });
    let flow = Flow {
        number: u64::from(slot),
        terms,
        forward: Some(direction(forward)),
        reply: reply.map(direction),
        cookie: Cookie::from(&[][..]),
        transit: None,
        created: Moment::default(),
        active: Moment::default(),
        look: Moment::default(),
        report: Moment::default(),
        share: 0,
        criterion: 0,
        report_sequence: 0,
        service,
        phase: Phase::Live,
        progress: Progress::Established,
        opener: Part::Forward,
        looking: false,
        reset: false,
        in_rest: false,
    };
    agent.store.insert(flow).unwrap()
}

/// A translated flow: `from` becomes `to`, and the answers to `to` become those to `from`.
pub fn translate(w: &mut World, service: u8, from: Tuple, to: Tuple) -> FlowRef {
    put(
        &mut w.agent,
        service,
        (from, FixedAction::Translate(to)),
        Some((to.reversed(), FixedAction::Translate(from.reversed()))),
    )
}

pub fn flow(proto: u8, (src, sport): (IpAddr, u16), (dst, dport): (IpAddr, u16)) -> Tuple {
    let icmp = matches!(proto, 1 | 58);
    Tuple {
        src,
        dst,
        proto: if icmp && src.is_ipv6() { 58 } else { proto },
        sport,
        // An echo request has its identifier as source port.
        dport: if icmp { 0 } else { dport },
    }
}

/// A packet-in of that kind.
pub fn arrives(w: &mut World, kind: u8, port: u16, bytes: &Bytes) {
    w.feed(Input::PacketIn(Packet {
        meta: PacketMeta {
            kind,
            port,
            ..PacketMeta::default()
        },
        bytes: bytes.clone(),
    }));
}

/// What one direction of a flow has counted.
pub fn counted(w: &World, at: FlowRef, part: Part) -> Totals {
    let flow = w.agent.store.get(at).unwrap();
    flow.direction(part).unwrap().totals(0)
}
