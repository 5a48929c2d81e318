//! Frames as hosts send them, and what comes out taken apart with all checksums verified, by etherparse.

use std::net::IpAddr;

use etherparse::{
    Icmpv4Type, Icmpv6Type, NetHeaders, PacketBuilder, PacketHeaders, TransportHeader,
};

use crate::rig::Tuple;

pub const HOST: [u8; 6] = [2, 0, 0, 0, 0, 9];

pub fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

/// A tuple from two `address port` pairs.
pub fn tuple(src: &str, sport: u16, dst: &str, dport: u16, proto: u8) -> Tuple {
    Tuple(ip(src), ip(dst), proto, sport, dport)
}

/// Our own address on a port.
pub fn mac(port: u16) -> [u8; 6] {
    [2, 0x53, 0x42, 0, 0, port as u8]
}

/// A frame that is for us on `port`, with a tuple's transport header.
pub fn frame(port: u16, flow: Tuple, flags: u8, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let Tuple(src, dst, proto, sport, dport) = flow;
    let ethernet = PacketBuilder::ethernet2(HOST, mac(port));
    let step = match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => ethernet.ipv4(s.octets(), d.octets(), ttl),
        (IpAddr::V6(s), IpAddr::V6(d)) => ethernet.ipv6(s.octets(), d.octets(), ttl),
        _ => panic!("families mixed"),
    };
    let mut out = Vec::new();
    match proto {
        6 => {
            let mut tcp = etherparse::TcpHeader::new(sport, dport, 1000, 4096);
            (tcp.fin, tcp.syn, tcp.rst) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
            (tcp.psh, tcp.ack) = (flags & 8 != 0, flags & 16 != 0);
            step.tcp_header(tcp).write(&mut out, payload).unwrap();
        }
        17 => step.udp(sport, dport).write(&mut out, payload).unwrap(),
        1 => step
            .icmpv4_raw(8, 0, word(sport, dport))
            .write(&mut out, payload)
            .unwrap(),
        58 => step
            .icmpv6_raw(128, 0, word(sport, dport))
            .write(&mut out, payload)
            .unwrap(),
        other => panic!("no frames of protocol {other}"),
    }
    out
}

/// An ICMP message of a type, with four bytes of its own.
pub fn icmp(port: u16, src: &str, dst: &str, kind: u8, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(HOST, mac(port));
    let mut out = Vec::new();
    match (ip(src), ip(dst)) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let step = ethernet
                .ipv4(s.octets(), d.octets(), ttl)
                .icmpv4_raw(kind, 0, [0; 4]);
            step.write(&mut out, payload).unwrap();
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let step = ethernet
                .ipv6(s.octets(), d.octets(), ttl)
                .icmpv6_raw(kind, 0, [0; 4]);
            step.write(&mut out, payload).unwrap();
        }
        _ => panic!("families mixed"),
    }
    out
}

/// An echo reply with an identifier; sequence 1.
pub fn pong(port: u16, src: &str, dst: &str, identifier: u16, payload: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(HOST, mac(port));
    let mut out = Vec::new();
    match (ip(src), ip(dst)) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let step = ethernet.ipv4(s.octets(), d.octets(), 64);
            let step = step.icmpv4_raw(0, 0, word(identifier, 1));
            step.write(&mut out, payload).unwrap();
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let step = ethernet.ipv6(s.octets(), d.octets(), 64);
            let step = step.icmpv6_raw(129, 0, word(identifier, 1));
            step.write(&mut out, payload).unwrap();
        }
        _ => panic!("families mixed"),
    }
    out
}

fn word(a: u16, b: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (a.to_be_bytes(), b.to_be_bytes());
    [a, b, c, d]
}

/// What a frame is, once it was found sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub from: (IpAddr, u16),
    pub to: (IpAddr, u16),
    pub ttl: u8,
    pub payload: Vec<u8>,
}

/// Takes a frame apart; panics if a checksum is wrong. An echo's identifier stands as the source port.
pub fn look(frame: &[u8]) -> Seen {
    let headers =
        PacketHeaders::from_ethernet_slice(frame).unwrap_or_else(|e| panic!("{e}: {frame:02x?}"));
    let payload = headers.payload.slice();
    let (net, transport) = (headers.net.as_ref().unwrap(), headers.transport.as_ref());
    let (src, dst, ttl) = match net {
        NetHeaders::Ipv4(ip, _) => {
            assert_eq!(
                ip.header_checksum,
                ip.calc_header_checksum(),
                "IPv4 checksum"
            );
            (
                IpAddr::from(ip.source),
                IpAddr::from(ip.destination),
                ip.time_to_live,
            )
        }
        NetHeaders::Ipv6(ip, _) => (
            IpAddr::from(ip.source),
            IpAddr::from(ip.destination),
            ip.hop_limit,
        ),
        _ => panic!("not IP"),
    };
    let (sport, dport) = match (transport, net) {
        (Some(TransportHeader::Tcp(tcp)), NetHeaders::Ipv4(ip, _)) => {
            assert_eq!(
                Ok(tcp.checksum),
                tcp.calc_checksum_ipv4(ip, payload),
                "TCP checksum"
            );
            (tcp.source_port, tcp.destination_port)
        }
        (Some(TransportHeader::Tcp(tcp)), NetHeaders::Ipv6(ip, _)) => {
            assert_eq!(
                Ok(tcp.checksum),
                tcp.calc_checksum_ipv6(ip, payload),
                "TCP checksum"
            );
            (tcp.source_port, tcp.destination_port)
        }
        (Some(TransportHeader::Udp(udp)), NetHeaders::Ipv4(ip, _)) => {
            let sum = udp.calc_checksum_ipv4(ip, payload);
            assert!(udp.checksum == 0 || Ok(udp.checksum) == sum, "UDP checksum");
            (udp.source_port, udp.destination_port)
        }
        (Some(TransportHeader::Udp(udp)), NetHeaders::Ipv6(ip, _)) => {
            assert_eq!(
                Ok(udp.checksum),
                udp.calc_checksum_ipv6(ip, payload),
                "UDP checksum"
            );
            (udp.source_port, udp.destination_port)
        }
        (Some(TransportHeader::Icmpv4(icmp)), _) => {
            assert_eq!(
                icmp.checksum,
                icmp.icmp_type.calc_checksum(payload),
                "ICMP checksum"
            );
            match icmp.icmp_type {
                Icmpv4Type::EchoRequest(echo) | Icmpv4Type::EchoReply(echo) => (echo.id, 0),
                _ => (0, 0),
            }
        }
        (Some(TransportHeader::Icmpv6(icmp)), NetHeaders::Ipv6(ip, _)) => {
            let sum = icmp
                .icmp_type
                .calc_checksum(ip.source, ip.destination, payload);
            assert_eq!(Ok(icmp.checksum), sum, "ICMPv6 checksum");
            match icmp.icmp_type {
                Icmpv6Type::EchoRequest(echo) | Icmpv6Type::EchoReply(echo) => (echo.id, 0),
                _ => (0, 0),
            }
        }
        _ => (0, 0),
    };
    Seen {
        from: (src, sport),
        to: (dst, dport),
        ttl,
        payload: payload.to_vec(),
    }
}

/// Computes an IPv4 header's checksum anew, after a test has changed it.
pub fn seal(frame: &mut [u8]) {
    let end = 14 + usize::from(frame[14] & 15) * 4;
    frame[24..26].fill(0);
    let sum = frame[14..end]
        .chunks(2)
        .fold(0u32, |n, w| n + u32::from(u16::from_be_bytes([w[0], w[1]])));
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    frame[24..26].copy_from_slice(&(!(folded as u16)).to_be_bytes());
}
