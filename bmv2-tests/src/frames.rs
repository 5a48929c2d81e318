//! Frames as a host would send them, and an independent look at those that come out (etherparse).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};

/// TCP flags by their bits.
#[allow(missing_docs, reason = "the names say it")]
pub mod flags {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const PSH: u8 = 8;
    pub const ACK: u8 = 16;
    pub const URG: u8 = 32;
}

/// Where a frame comes from and goes to, and its TTL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// Ethernet source.
    pub from_mac: [u8; 6],
    /// Ethernet destination.
    pub to_mac: [u8; 6],
    /// IP source and its port.
    pub from: SocketAddr,
    /// IP destination and its port.
    pub to: SocketAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
}

impl Path {
    /// A TCP segment.
    pub fn tcp(&self, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut tcp = etherparse::TcpHeader::new(self.from.port(), self.to.port(), 1000, 4096);
        tcp.fin = flags & flags::FIN != 0;
        tcp.syn = flags & flags::SYN != 0;
        tcp.rst = flags & flags::RST != 0;
        tcp.psh = flags & flags::PSH != 0;
        tcp.ack = flags & flags::ACK != 0;
        tcp.urg = flags & flags::URG != 0;
        let builder = PacketBuilder::ethernet2(self.from_mac, self.to_mac);
        let mut frame = Vec::new();
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => builder
                .ipv4(from.octets(), to.octets(), self.ttl)
                .tcp_header(tcp)
                .write(&mut frame, payload),
            (IpAddr::V6(from), IpAddr::V6(to)) => builder
                .ipv6(from.octets(), to.octets(), self.ttl)
                .tcp_header(tcp)
                .write(&mut frame, payload),
            _ => panic!("{self:?} mixes families"),
        }
        .unwrap();
        frame
    }

    /// A UDP datagram; without checksum only over IPv4.
    pub fn udp(&self, payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2(self.from_mac, self.to_mac);
        let (source, destination) = (self.from.port(), self.to.port());
        let mut frame = Vec::new();
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => builder
                .ipv4(from.octets(), to.octets(), self.ttl)
                .udp(source, destination)
                .write(&mut frame, payload),
            (IpAddr::V6(from), IpAddr::V6(to)) => builder
                .ipv6(from.octets(), to.octets(), self.ttl)
                .udp(source, destination)
                .write(&mut frame, payload),
            _ => panic!("{self:?} mixes families"),
        }
        .unwrap();
        frame
    }

    /// An ICMP echo request; the ports do not matter.
    pub fn echo(&self, identifier: u16, payload: &[u8]) -> Vec<u8> {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (self.from.ip(), self.to.ip()) else {
            panic!("{self:?} is not IPv4");
        };
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(self.from_mac, self.to_mac)
            .ipv4(from.octets(), to.octets(), self.ttl)
            .icmpv4_echo_request(identifier, 1)
            .write(&mut frame, payload)
            .unwrap();
        frame
    }

    /// The way back.
    #[must_use]
    pub fn reversed(&self) -> Path {
        Path {
            from_mac: self.to_mac,
            to_mac: self.from_mac,
            from: self.to,
            to: self.from,
            ttl: self.ttl,
        }
    }
}

/// An ARP request for `target` from a host.
pub fn arp_request(from_mac: [u8; 6], from: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(from_mac);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(from_mac);
    frame.extend(from.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// A frame taken apart, with every checksum verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its way; ports are 0 where it has none.
    pub path: Path,
    /// IP protocol.
    pub protocol: u8,
    /// What follows the last header that was understood.
    pub payload: Vec<u8>,
}

/// Takes a frame apart.
///
/// # Panics
/// It is no sound IP packet, or a checksum is wrong.
pub fn look(frame: &[u8]) -> Seen {
    let headers = PacketHeaders::from_ethernet_slice(frame)
        .unwrap_or_else(|error| panic!("{error} in {frame:02x?}"));
    let payload = headers.payload.slice();
    let (source, destination, protocol, ttl) = match headers.net.as_ref() {
        Some(NetHeaders::Ipv4(ip, _)) => {
            assert_eq!(
                ip.header_checksum,
                ip.calc_header_checksum(),
                "IPv4 checksum"
            );
            (
                IpAddr::from(ip.source),
                IpAddr::from(ip.destination),
                ip.protocol.0,
                ip.time_to_live,
            )
        }
        Some(NetHeaders::Ipv6(ip, _)) => (
            IpAddr::from(ip.source),
            IpAddr::from(ip.destination),
            ip.next_header.0,
            ip.hop_limit,
        ),
        other => panic!("{other:?} is not IP"),
    };
    let ports = match &headers.transport {
        Some(TransportHeader::Tcp(tcp)) => {
            let right = match headers.net.as_ref() {
                Some(NetHeaders::Ipv4(ip, _)) => tcp.calc_checksum_ipv4(ip, payload),
                Some(NetHeaders::Ipv6(ip, _)) => tcp.calc_checksum_ipv6(ip, payload),
                _ => unreachable!(),
            };
            assert_eq!(tcp.checksum, right.unwrap(), "TCP checksum");
            (tcp.source_port, tcp.destination_port)
        }
        Some(TransportHeader::Udp(udp)) => {
            let right = match headers.net.as_ref() {
                Some(NetHeaders::Ipv4(ip, _)) => udp.calc_checksum_ipv4(ip, payload),
                Some(NetHeaders::Ipv6(ip, _)) => udp.calc_checksum_ipv6(ip, payload),
                _ => unreachable!(),
            };
            if udp.checksum != 0 {
                assert_eq!(udp.checksum, right.unwrap(), "UDP checksum");
            }
            (udp.source_port, udp.destination_port)
        }
        Some(TransportHeader::Icmpv4(icmp)) => {
            let right = icmp.icmp_type.calc_checksum(payload);
            assert_eq!(icmp.checksum, right, "ICMP checksum");
            (0, 0)
        }
        _ => (0, 0),
    };
    let mac = |at: usize| frame[at..at + 6].try_into().unwrap();
    Seen {
        path: Path {
            from_mac: mac(6),
            to_mac: mac(0),
            from: SocketAddr::new(source, ports.0),
            to: SocketAddr::new(destination, ports.1),
            ttl,
        },
        protocol,
        payload: payload.to_vec(),
    }
}
