//! Packets as people write them: a witness reads like a `send` clause of a test.

use signalbox_proofs::{Cube, Family, Header, PacketKind, Ternary};

use crate::model::{Network, address_bits};
use crate::tree::FLAGS;

/// What a witness should look like where there is a choice: a client's first packet.
pub(super) fn wishes(network: &Network) -> Vec<Cube> {
    let v4 = Cube::all(Family::V4);
    let v6 = Cube::all(Family::V6);
    let host = |text: &str| {
        text.parse().map_or(Ternary::<u128>::ANY, |ip| {
            Ternary::<u128>::exact(address_bits(ip))
        })
    };
    let exact = |text: &str, mask| Ternary::<u128>::masked(host(text).value, mask);
    let mut out = vec![
        v4,
        Cube {
            kind: Ternary::<u8>::masked(0, 3),
            ..v4
        },
        Cube {
            kind: Ternary::<u8>::masked(0, 3),
            ..v6
        },
        Cube {
            proto: Ternary::<u8>::exact(6),
            ..v4
        },
        Cube {
            proto: Ternary::<u8>::exact(6),
            ..v6
        },
        Cube {
            tcp_flags: Ternary::<u8>::exact(2),
            ..v4
        },
        Cube {
            tcp_flags: Ternary::<u8>::exact(2),
            ..v6
        },
        Cube {
            src_port: Ternary::<u16>::exact(40_000),
            ..v4
        },
        Cube {
            src_port: Ternary::<u16>::exact(40_000),
            ..v6
        },
        Cube {
            dst_port: Ternary::<u16>::exact(80),
            ..v4
        },
        Cube {
            dst_port: Ternary::<u16>::exact(80),
            ..v6
        },
        Cube {
            src: exact("198.51.100.7", u32::MAX.into()),
            ..v4
        },
        Cube {
            src: exact("2001:db8:ffff::7", u128::MAX),
            ..v6
        },
        Cube {
            dst: exact("203.0.113.80", u32::MAX.into()),
            ..v4
        },
        Cube {
            dst: exact("2001:db8::80", u128::MAX),
            ..v6
        },
    ];
    for port in &network.ports {
        let in_port = Ternary::<u16>::masked(port.number, 0x1ff);
        out.extend([Cube { in_port, ..v4 }, Cube { in_port, ..v6 }]);
    }
    out
}

/// The packet in the words of the policy language.
pub(super) fn describe(h: &Header, network: &Network) -> String {
    let (src, dst) = (h.family.address(h.src), h.family.address(h.dst));
    let endpoint = |ip: std::net::IpAddr, port| std::net::SocketAddr::new(ip, port).to_string();
    let kind = match h.kind {
        PacketKind::Whole => "",
        PacketKind::FirstFragment => ", a first fragment",
        PacketKind::LaterFragment => ", a later fragment",
        PacketKind::IcmpError => ", an ICMP error",
    };
    let port = network
        .port(h.in_port)
        .map_or_else(|| h.in_port.to_string(), |p| p.name.clone());
    let has_ports = !matches!(h.kind, PacketKind::LaterFragment | PacketKind::IcmpError);
    let body = match (h.proto, h.family) {
        (6, _) if has_ports => {
            let set: Vec<&str> = FLAGS
                .iter()
                .filter(|(_, bit)| h.tcp_flags & bit != 0)
                .map(|(name, _)| *name)
                .collect();
            let flags = if set.is_empty() {
                "none".to_owned()
            } else {
                set.join("+")
            };
            format!(
                "tcp {flags} {} -> {}",
                endpoint(src, h.src_port),
                endpoint(dst, h.dst_port)
            )
        }
        (17, _) if has_ports => {
            format!(
                "udp {} -> {}",
                endpoint(src, h.src_port),
                endpoint(dst, h.dst_port)
            )
        }
        (1, Family::V4) | (58, Family::V6) if h.kind != PacketKind::LaterFragment => {
            format!("icmp type {} {src} -> {dst}", h.icmp_type)
        }
        (proto, _) => format!("ip proto {proto} {src} -> {dst}"),
    };
    format!("`{body} on {port}`{kind}")
}
