//! Frames as a host would send them, and an independent look at those that come out (etherparse).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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

/// A TCP header's numbers, window and options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number, also where the ACK flag is not set.
    pub acknowledgement: u32,
    /// Window, as it stands in the header.
    pub window: u16,
    /// Options, padded to a multiple of four bytes.
    pub options: Vec<u8>,
}

impl Default for Numbers {
    fn default() -> Numbers {
        Numbers {
            sequence: 1000,
            acknowledgement: 0,
            window: 4096,
            options: Vec::new(),
        }
    }
}

impl Path {
    /// A TCP segment.
    pub fn tcp(&self, flags: u8, payload: &[u8]) -> Vec<u8> {
        self.segment(flags, &Numbers::default(), payload)
    }

    /// A TCP segment with these numbers.
    pub fn segment(&self, flags: u8, numbers: &Numbers, payload: &[u8]) -> Vec<u8> {
        let (from, to) = (self.from.port(), self.to.port());
        let mut tcp = etherparse::TcpHeader::new(from, to, numbers.sequence, numbers.window);
        tcp.acknowledgment_number = numbers.acknowledgement;
        tcp.set_options_raw(&numbers.options).unwrap();
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
        let builder = PacketBuilder::ethernet2(self.from_mac, self.to_mac);
        let mut frame = Vec::new();
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => builder
                .ipv4(from.octets(), to.octets(), self.ttl)
                .icmpv4_echo_request(identifier, 1)
                .write(&mut frame, payload),
            (IpAddr::V6(from), IpAddr::V6(to)) => builder
                .ipv6(from.octets(), to.octets(), self.ttl)
                .icmpv6_echo_request(identifier, 1)
                .write(&mut frame, payload),
            _ => panic!("{self:?} mixes families"),
        }
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

/// A neighbour solicitation for `target` from a host (RFC 4861, 4.3), or with type 136 the advertisement.
pub fn neighbour_message(
    icmp_type: u8,
    from_mac: [u8; 6],
    from: Ipv6Addr,
    target: Ipv6Addr,
) -> Vec<u8> {
    let low = &target.octets()[13..];
    let group: [u8; 16] = [&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff], low]
        .concat()
        .try_into()
        .unwrap();
    let mut body = target.octets().to_vec();
    // The sender's link-layer address.
    body.extend([if icmp_type == 136 { 2 } else { 1 }, 1]);
    body.extend(from_mac);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from_mac, [0x33, 0x33, 0xff, low[0], low[1], low[2]])
        .ipv6(from.octets(), group, 255)
        .icmpv6_raw(icmp_type, 0, [0; 4])
        .write(&mut frame, &body)
        .unwrap();
    frame
}

/// Puts extension headers before the payload of an IPv6 frame: each its protocol number and its bytes
/// but for the first, which names the next header.
pub fn extend(frame: &[u8], headers: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut chain = Vec::new();
    for (index, (_, bytes)) in headers.iter().enumerate() {
        chain.push(headers.get(index + 1).map_or(frame[20], |(next, _)| *next));
        chain.extend_from_slice(bytes);
    }
    let mut extended = [&frame[..54], &chain, &frame[54..]].concat();
    if let Some((first, _)) = headers.first() {
        extended[20] = *first;
    }
    let length = u16::from_be_bytes([frame[18], frame[19]]) + chain.len() as u16;
    extended[18..20].copy_from_slice(&length.to_be_bytes());
    extended
}

/// Hop-by-hop (0), routing (43) or destination options (60) of `units` times eight bytes, all padding.
pub fn options(protocol: u8, units: u8) -> (u8, Vec<u8>) {
    let mut bytes = vec![0; usize::from(units) * 8 - 1];
    bytes[0] = units - 1;
    if protocol != 43 {
        // PadN over all the rest, in pieces of at most 255 bytes.
        let mut at = 1;
        while at < bytes.len() {
            let length = (bytes.len() - at - 2).min(255);
            bytes[at] = 1;
            bytes[at + 1] = length as u8;
            at += 2 + length;
        }
    }
    (protocol, bytes)
}

/// A fragment header (RFC 8200, 4.5): offset in units of eight bytes, and whether more follow.
pub fn fragment_header(offset: u16, more: bool) -> (u8, Vec<u8>) {
    let field = (offset << 3 | u16::from(more)).to_be_bytes();
    (44, vec![0, field[0], field[1], 0, 0, 0, 7])
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
        Some(TransportHeader::Icmpv6(icmp)) => {
            let Some(NetHeaders::Ipv6(ip, _)) = headers.net.as_ref() else {
                panic!("ICMPv6 without IPv6: {frame:02x?}");
            };
            let right = icmp
                .icmp_type
                .calc_checksum(ip.source, ip.destination, payload)
                .unwrap();
            assert_eq!(icmp.checksum, right, "ICMPv6 checksum");
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
