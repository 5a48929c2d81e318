//! Decisions, one flow at a time, without agents.

use signalbox_agent::flow::PacketKind;
use signalbox_agent::packet::{TYPE_IPV4, TYPE_IPV6};
use signalbox_agent::testing::plan;
use signalbox_lower::plan::{Kind, NatDestination, NatLeases, NatPlan};

use super::*;

mod inbound;
mod limits;
mod mapping;
mod model;
mod schemes;

const SECOND: Duration = Duration::from_secs(1);

pub fn leases() -> NatLeases {
    NatLeases {
        tcp_established_ms: 7_440_000,
        tcp_transitory_ms: 240_000,
        udp_ms: 300_000,
        icmp_ms: 60_000,
    }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn ports(first: &str, last: &str, first_port: u16, last_port: u16) -> Option<NatSource> {
    Some(NatSource::Ports {
        addresses: vec![AddressRange {
            first: ip(first),
            last: ip(last),
        }],
        first_port,
        last_port,
    })
}

pub fn nat_plan(source: Option<NatSource>, destination: Option<NatDestination>) -> NatPlan {
    NatPlan {
        source,
        destination,
        leases: leases(),
        hold_back_ms: 120_000,
        per_source: None,
        inbound: Inbound::Answers,
    }
}

pub fn service(nat: NatPlan) -> ServicePlan {
    ServicePlan {
        name: "egress".into(),
        kind: Kind::Nat,
        balance: None,
        nat: Some(nat),
        ..plan().services.remove(0)
    }
}

pub fn nat(plan: NatPlan) -> Nat {
    Nat::new(&service(plan)).unwrap()
}

/// Two outside addresses with ports 1024 to 65535.
pub fn egress() -> Nat {
    nat(nat_plan(
        ports("203.0.113.100", "203.0.113.101", 1024, 65_535),
        None,
    ))
}

pub fn flow(proto: u8, src: &str, sport: u16, dst: &str, dport: u16) -> Tuple {
    Tuple {
        src: ip(src),
        dst: ip(dst),
        proto,
        sport,
        dport,
    }
}

/// An ICMP packet of a type in its frame, as far as a manager looks.
pub fn icmp(flow: &Tuple, kind: u8) -> Bytes {
    let identifier = flow.sport.max(flow.dport).to_be_bytes();
    let mut body = vec![kind, 0, 0, 0];
    body.extend_from_slice(&identifier);
    body.extend_from_slice(&[0, 1]);
    let (kind, ip) = match (flow.src, flow.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut ip = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, flow.proto, 0, 0];
            ip.extend_from_slice(&src.octets());
            ip.extend_from_slice(&dst.octets());
            (TYPE_IPV4, ip)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut ip = vec![0x60, 0, 0, 0, 0, 8, flow.proto, 64];
            ip.extend_from_slice(&src.octets());
            ip.extend_from_slice(&dst.octets());
            (TYPE_IPV6, ip)
        }
        _ => panic!("two families"),
    };
    packet::frame([1; 6], [2; 6], kind, &[ip, body].concat()).into()
}

pub fn ask_with(
    nat: &mut Nat,
    flow: Tuple,
    packet: &Bytes,
    taken: &dyn Fn(&Tuple) -> bool,
) -> Choice {
    let now = nat.now;
    nat.decide(
        now,
        &Opening {
            flow,
            kind: PacketKind::Whole,
            ingress_port: 2,
            packet,
        },
        taken,
    )
}

/// What becomes of a flow; of ICMP and ICMPv6, of an echo request.
pub fn ask(nat: &mut Nat, flow: Tuple) -> Choice {
    let packet = match flow.proto {
        1 => icmp(&flow, 8),
        58 => icmp(&flow, 128),
        _ => Bytes::new(),
    };
    ask_with(nat, flow, &packet, &|_| false)
}

pub fn decided(choice: Choice) -> Decided {
    match choice {
        Choice::Install(decided) => decided,
        other => panic!("not translated: {other:?}"),
    }
}

pub fn target(decided: &Decided) -> Tuple {
    match decided.forward.1.as_slice() {
        [Action::Translate(to)] => *to,
        other => panic!("{other:?}"),
    }
}

/// What a flow becomes, once it is sure that its replies are led back to it.
pub fn to(nat: &mut Nat, flow: Tuple) -> Tuple {
    let decided = decided(ask(nat, flow));
    let to = target(&decided);
    assert_eq!(decided.forward.0, flow);
    let reply = (to.reversed(), vec![Action::Translate(flow.reversed())]);
    assert_eq!(decided.reply, Some(reply));
    to
}
