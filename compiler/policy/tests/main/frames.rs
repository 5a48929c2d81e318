//! Frames for the evaluator, made and judged with etherparse, which shares no code with it.

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use signalbox_policy::model::{Mac, Policy};

pub const HOST: [u8; 6] = [2, 0, 0, 0, 0, 0x77];

pub fn mac(policy: &Policy, port: u16) -> [u8; 6] {
    policy
        .network
        .port(port)
        .map(|p| p.mac())
        .unwrap_or(Mac([0; 6]))
        .0
}

fn builder(
    dst: [u8; 6],
    from: &str,
    to: &str,
    ttl: u8,
) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    let ethernet = PacketBuilder::ethernet2(HOST, dst);
    match (from.parse().unwrap(), to.parse().unwrap()) {
        (std::net::IpAddr::V4(a), std::net::IpAddr::V4(b)) => {
            ethernet.ipv4(a.octets(), b.octets(), ttl)
        }
        (std::net::IpAddr::V6(a), std::net::IpAddr::V6(b)) => {
            ethernet.ipv6(a.octets(), b.octets(), ttl)
        }
        _ => panic!("{from} and {to} are of one family"),
    }
}

/// `ADDRESS:PORT`, split at the last colon.
fn split(endpoint: &str) -> (String, u16) {
    let (ip, port) = endpoint.rsplit_once(':').unwrap();
    (
        ip.trim_matches(['[', ']']).to_owned(),
        port.parse().unwrap(),
    )
}

pub fn tcp(dst: [u8; 6], from: &str, to: &str, syn: bool, payload: &[u8]) -> Vec<u8> {
    let ((a, p), (b, q)) = (split(from), split(to));
    let step = builder(dst, &a, &b, 64).tcp(p, q, 1_000, 4_096);
    let step = if syn { step.syn() } else { step.ack(7) };
    let mut out = Vec::new();
    step.write(&mut out, payload).unwrap();
    out
}

pub fn udp(dst: [u8; 6], from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    let ((a, p), (b, q)) = (split(from), split(to));
    let mut out = Vec::new();
    builder(dst, &a, &b, 64)
        .udp(p, q)
        .write(&mut out, payload)
        .unwrap();
    out
}

pub fn echo(dst: [u8; 6], from: &str, to: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let step = builder(dst, from, to, 64);
    if from.contains(':') {
        step.icmpv6_echo_request(5, 6)
            .write(&mut out, b"abc")
            .unwrap();
    } else {
        step.icmpv4_echo_request(5, 6)
            .write(&mut out, b"abc")
            .unwrap();
    }
    out
}

/// Asserts that every checksum is right; a UDP checksum of zero over IPv4 is taken as none.
#[track_caller]
pub fn sound(frame: &[u8]) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let net = packet.net.as_ref().unwrap();
    if let NetSlice::Ipv4(ip) = net {
        let header = ip.header().to_header();
        assert_eq!(
            header.header_checksum,
            header.calc_header_checksum(),
            "IPv4 header checksum"
        );
    }
    let (found, right) = match (packet.transport.as_ref().unwrap(), net) {
        (TransportSlice::Tcp(tcp), NetSlice::Ipv4(ip)) => {
            let right = tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination());
            (tcp.checksum(), right.unwrap())
        }
        (TransportSlice::Tcp(tcp), NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let right = tcp.to_header().calc_checksum_ipv6_raw(
                header.source(),
                header.destination(),
                tcp.payload(),
            );
            (tcp.checksum(), right.unwrap())
        }
        (TransportSlice::Udp(udp), _) if udp.checksum() == 0 => (0, 0),
        (TransportSlice::Udp(udp), NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let right = udp.to_header().calc_checksum_ipv4_raw(
                header.source(),
                header.destination(),
                udp.payload(),
            );
            (udp.checksum(), right.unwrap())
        }
        (TransportSlice::Udp(udp), NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let right = udp.to_header().calc_checksum_ipv6_raw(
                header.source(),
                header.destination(),
                udp.payload(),
            );
            (udp.checksum(), right.unwrap())
        }
        _ => (0, 0),
    };
    assert_eq!(found, right, "transport checksum");
}

/// `PROTO FROM -> TO ttl TTL`, with the Ethernet addresses checked by the caller.
pub fn summary(frame: &[u8]) -> String {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let (a, b, ttl) = match packet.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let h = ip.header();
            (
                h.source_addr().to_string(),
                h.destination_addr().to_string(),
                h.ttl(),
            )
        }
        NetSlice::Ipv6(ip) => {
            let h = ip.header();
            (
                h.source_addr().to_string(),
                h.destination_addr().to_string(),
                h.hop_limit(),
            )
        }
        other => panic!("{other:?}"),
    };
    match packet.transport.as_ref().unwrap() {
        TransportSlice::Tcp(t) => {
            format!(
                "tcp {a}:{} -> {b}:{} ttl {ttl}",
                t.source_port(),
                t.destination_port()
            )
        }
        TransportSlice::Udp(u) => {
            format!(
                "udp {a}:{} -> {b}:{} ttl {ttl}",
                u.source_port(),
                u.destination_port()
            )
        }
        _ => format!("icmp {a} -> {b} ttl {ttl}"),
    }
}
