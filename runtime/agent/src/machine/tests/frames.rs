//! Packets as hosts would send them, made and judged with etherparse, which shares no code with the agent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use etherparse::checksum::Sum16BitWords;
use etherparse::{
    IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6Header, Ipv6RawExtHeader,
    PacketBuilder, TcpHeader,
};

use crate::flow::Tuple;
use crate::packet;
use crate::testing::port_mac;

pub const HOST_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x77];

/// What a packet is like beyond its flow.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub ttl: u8,
    /// Words of IPv4 options, or units of IPv6 destination options.
    pub options: u8,
    pub identification: u16,
    pub tcp_flags: u8,
    /// TCP's sequence and acknowledgement number and its window.
    pub numbers: (u32, u32, u16),
    /// The sender has computed no UDP checksum.
    pub no_checksum: bool,
}

pub const PLAIN: Shape = Shape {
    ttl: 64,
    options: 0,
    identification: 0x1234,
    tcp_flags: 0x10,
    numbers: (0x0102_0304, 0, 512),
    no_checksum: false,
};

fn ip_headers(tuple: &Tuple, shape: &Shape) -> IpHeaders {
    match (tuple.src, tuple.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let options = vec![1; usize::from(shape.options) * 4];
            let mut header = Ipv4Header::new(
                0,
                shape.ttl,
                IpNumber(tuple.proto),
                src.octets(),
                dst.octets(),
            )
            .unwrap();
            header.identification = shape.identification;
            header.dont_fragment = false;
            header.options = options.as_slice().try_into().unwrap();
            IpHeaders::Ipv4(header, Ipv4Extensions::default())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let header = Ipv6Header {
                hop_limit: shape.ttl,
                source: src.octets(),
                destination: dst.octets(),
                ..Ipv6Header::default()
            };
            let mut more = Ipv6Extensions::default();
            if shape.options > 0 {
                let bytes = vec![0; usize::from(shape.options) * 8 - 2];
                more.hop_by_hop_options =
                    Some(Ipv6RawExtHeader::new_raw(IpNumber(0), &bytes).unwrap());
            }
            IpHeaders::Ipv6(header, more)
        }
        _ => panic!("one family"),
    }
}

/// An IP packet of a flow, every checksum right.
pub fn ip_packet(tuple: &Tuple, shape: &Shape, payload: &[u8]) -> Vec<u8> {
    let step = PacketBuilder::ip(ip_headers(tuple, shape));
    let mut out = Vec::new();
    let identifier = tuple.sport | tuple.dport;
    let reply = tuple.sport == 0 && tuple.dport != 0;
    match tuple.proto {
        6 => {
            let (sequence, acknowledgement, window) = shape.numbers;
            let mut tcp = TcpHeader::new(tuple.sport, tuple.dport, sequence, window);
            tcp.acknowledgment_number = acknowledgement;
            tcp.fin = shape.tcp_flags & 1 != 0;
            tcp.syn = shape.tcp_flags & 2 != 0;
            tcp.rst = shape.tcp_flags & 4 != 0;
            tcp.ack = shape.tcp_flags & 16 != 0;
            step.tcp_header(tcp).write(&mut out, payload).unwrap();
        }
        17 => {
            let at = step.size(0);
            step.udp(tuple.sport, tuple.dport)
                .write(&mut out, payload)
                .unwrap();
            if shape.no_checksum {
                out[at + 6..at + 8].fill(0);
            }
        }
        1 if reply => step
            .icmpv4_echo_reply(identifier, 7)
            .write(&mut out, payload)
            .unwrap(),
        1 => step
            .icmpv4_echo_request(identifier, 7)
            .write(&mut out, payload)
            .unwrap(),
        58 if reply => step
            .icmpv6_echo_reply(identifier, 7)
            .write(&mut out, payload)
            .unwrap(),
        58 => step
            .icmpv6_echo_request(identifier, 7)
            .write(&mut out, payload)
            .unwrap(),
        other => panic!("protocol {other}"),
    }
    out
}

/// A frame to a port of ours.
pub fn framed(port: u16, ip: &[u8]) -> Bytes {
    let kind = if ip[0] >> 4 == 4 {
        packet::TYPE_IPV4
    } else {
        packet::TYPE_IPV6
    };
    packet::frame(port_mac(port), HOST_MAC, kind, ip).into()
}

fn sum_v6(src: Ipv6Addr, dst: Ipv6Addr, body: &[u8]) -> u16 {
    Sum16BitWords::new()
        .add_16bytes(src.octets())
        .add_16bytes(dst.octets())
        .add_4bytes((body.len() as u32).to_be_bytes())
        .add_4bytes([0, 0, 0, 58])
        .add_slice(body)
        .ones_complement()
        .to_be()
}

fn sum_v4(bytes: &[u8]) -> u16 {
    Sum16BitWords::new()
        .add_slice(bytes)
        .ones_complement()
        .to_be()
}

/// An ICMP error as a router sends it; it quotes the first `room` bytes of `about`.
pub fn icmp_error(
    (kind, code, word): (u8, u8, u32),
    from: IpAddr,
    to: IpAddr,
    about: &[u8],
    room: usize,
) -> Vec<u8> {
    let mut body = vec![kind, code, 0, 0];
    body.extend_from_slice(&word.to_be_bytes());
    body.extend_from_slice(&about[..room.min(about.len())]);
    let shape = Shape { ttl: 60, ..PLAIN };
    let proto = if from.is_ipv4() { 1 } else { 58 };
    let tuple = Tuple {
        src: from,
        dst: to,
        proto,
        sport: 0,
        dport: 0,
    };
    let sum = match (from, to) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => sum_v6(src, dst, &body),
        _ => sum_v4(&body),
    };
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut out = Vec::new();
    let mut headers = ip_headers(&tuple, &shape);
    headers.set_payload_len(body.len()).unwrap();
    if let IpHeaders::Ipv6(header, _) = &mut headers {
        header.next_header = IpNumber(58);
    }
    headers.write(&mut out).unwrap();
    out.extend_from_slice(&body);
    out
}

/// An ICMP error taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Error {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub ttl: u8,
    pub kind: u8,
    pub code: u8,
    pub word: u32,
    pub quote: Vec<u8>,
}

/// Takes an ICMP error in its frame apart, and asserts that header and message have the right checksums.
#[track_caller]
pub fn sound_error(frame: &[u8]) -> Error {
    let ip = &frame[14..];
    let v4 = ip[0] >> 4 == 4;
    let (src, dst, ttl, body): (IpAddr, IpAddr, u8, &[u8]) = if v4 {
        assert_eq!(frame[12..14], [8, 0]);
        let header = usize::from(ip[0] & 15) * 4;
        assert_eq!(sum_v4(&ip[..header]), 0, "IPv4 header checksum");
        assert_eq!(ip[9], 1);
        let length = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        assert_eq!(length, ip.len(), "total length");
        let at = |i: usize| Ipv4Addr::new(ip[i], ip[i + 1], ip[i + 2], ip[i + 3]).into();
        assert_eq!(sum_v4(&ip[header..]), 0, "ICMP checksum");
        (at(12), at(16), ip[8], &ip[header..])
    } else {
        assert_eq!(frame[12..14], [0x86, 0xdd]);
        assert_eq!(ip[6], 58);
        let length = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
        assert_eq!(length, ip.len() - 40, "payload length");
        let at = |i: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&ip[i..i + 16]).unwrap());
        assert_eq!(sum_v6(at(8), at(24), &ip[40..]), 0, "ICMPv6 checksum");
        (at(8).into(), at(24).into(), ip[7], &ip[40..])
    };
    Error {
        src,
        dst,
        ttl,
        kind: body[0],
        code: body[1],
        word: u32::from_be_bytes([body[4], body[5], body[6], body[7]]),
        quote: body[8..].to_vec(),
    }
}

/// Cuts an IP packet without extension headers into fragments of so many bytes, multiples of eight.
pub fn cut(ip: &[u8], identification: u32, sizes: &[usize]) -> Vec<Vec<u8>> {
    let v4 = ip[0] >> 4 == 4;
    let header = if v4 { usize::from(ip[0] & 15) * 4 } else { 40 };
    let body = &ip[header..];
    let mut out = Vec::new();
    let mut from = 0;
    let mut sizes = sizes.iter().copied();
    while from < body.len() {
        let size = sizes.next().unwrap_or(body.len()).max(8);
        let to = (from + size).min(body.len());
        let more = to < body.len();
        let mut f = ip[..header].to_vec();
        if v4 {
            let length = (header + to - from) as u16;
            f[2..4].copy_from_slice(&length.to_be_bytes());
            f[4..6].copy_from_slice(&(identification as u16).to_be_bytes());
            let word = (from / 8) as u16 | if more { 0x2000 } else { 0 };
            f[6..8].copy_from_slice(&word.to_be_bytes());
            f[10..12].fill(0);
            let sum = sum_v4(&f);
            f[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            let length = (8 + to - from) as u16;
            f[4..6].copy_from_slice(&length.to_be_bytes());
            f.extend_from_slice(&[f[6], 0]);
            f[6] = 44;
            f.extend_from_slice(&(from as u16 | u16::from(more)).to_be_bytes());
            f.extend_from_slice(&identification.to_be_bytes());
        }
        f.extend_from_slice(&body[from..to]);
        out.push(f);
        from = to;
    }
    out
}

/// Puts fragments, in their frames, together again: the packet as it would have been in one piece. Asserts
/// that they are of one datagram and leave no gap.
#[track_caller]
pub fn joined(frames: &[Bytes]) -> Vec<u8> {
    let mut pieces: Vec<(usize, bool, &[u8])> = Vec::new();
    let mut head: Option<Vec<u8>> = None;
    for frame in frames {
        let ip = &frame[14..];
        let v4 = ip[0] >> 4 == 4;
        let (mut header, from, more, body) = if v4 {
            let length = usize::from(ip[0] & 15) * 4;
            assert_eq!(sum_v4(&ip[..length]), 0, "IPv4 header checksum");
            let word = u16::from_be_bytes([ip[6], ip[7]]);
            (
                ip[..length].to_vec(),
                usize::from(word & 0x1fff) * 8,
                word & 0x2000 != 0,
                &ip[length..],
            )
        } else {
            assert_eq!(ip[6], 44);
            let word = u16::from_be_bytes([ip[42], ip[43]]);
            let mut header = ip[..40].to_vec();
            header[6] = ip[40];
            (header, usize::from(word & 0xfff8), word & 1 != 0, &ip[48..])
        };
        if v4 {
            header[2..4].fill(0);
            header[6..8].fill(0);
            header[10..12].fill(0);
        } else {
            header[4..6].fill(0);
        }
        assert_eq!(*head.get_or_insert(header.clone()), header, "one datagram");
        pieces.push((from, more, body));
    }
    pieces.sort_by_key(|(from, ..)| *from);
    let mut out = head.unwrap();
    let header = out.len();
    for (from, more, body) in &pieces {
        assert_eq!(out.len() - header, *from, "no gap");
        out.extend_from_slice(body);
        assert_eq!(*more, *from != pieces.last().unwrap().0);
    }
    let v4 = out[0] >> 4 == 4;
    if v4 {
        let length = out.len() as u16;
        out[2..4].copy_from_slice(&length.to_be_bytes());
        let sum = sum_v4(&out[..header]);
        out[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        let length = (out.len() - 40) as u16;
        out[4..6].copy_from_slice(&length.to_be_bytes());
    }
    out
}
