//! Frames for `send`, and what is read of frames that come back.

use std::net::IpAddr;

use super::neighbour_mac;
use crate::eval::{Tunnel, ones_complement_sum};
use crate::model::{Mac, Policy, SendPacket, ServiceKind, Transport, Way};

/// The frame that a `send` puts on the wire: from the sender's (or its router's) Ethernet address to
/// the port's, with right checksums; the payload counts 0, 1, 2, ….
pub fn packet(policy: &Policy, send: &SendPacket) -> Vec<u8> {
    let payload: Vec<u8> = (0..send.payload).map(|i| i as u8).collect();
    let addresses = [octets(send.src), octets(send.dst)].concat();
    let v6 = send.src.is_ipv6();
    let (proto, body) = transport(send, v6, &addresses, &payload);
    let port = policy.network.port(send.port);
    let mut frame = port.map_or([0xff; 6], |p| p.mac().0).to_vec();
    frame.extend(neighbour_mac(send.src).0);
    if v6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend((body.len() as u16).to_be_bytes());
        frame.extend([proto, send.ttl]);
    } else {
        frame.extend([0x08, 0x00]);
        let mut header = vec![0x45, 0];
        header.extend((body.len() as u16 + 20).to_be_bytes());
        // No identification, "don't fragment", and room for the checksum.
        header.extend([0, 0, 0x40, 0, send.ttl, proto, 0, 0]);
        let checksum = !ones_complement_sum([&header[..], &addresses]);
        put(&mut header, 10, checksum);
        frame.extend(header);
    }
    frame.extend(addresses);
    frame.extend(body);
    frame
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// Protocol, and header with payload.
fn transport(send: &SendPacket, v6: bool, addresses: &[u8], payload: &[u8]) -> (u8, Vec<u8>) {
    let (proto, mut body, checksum_at) = match send.transport {
        Transport::Tcp { src, dst, flags } => {
            let mut body = [src.to_be_bytes(), dst.to_be_bytes()].concat();
            // Sequence 1; acknowledgement 1 if that flag is set.
            let acknowledged = u8::from(flags & 16 != 0);
            body.extend([
                0,
                0,
                0,
                1,
                0,
                0,
                0,
                acknowledged,
                0x50,
                flags,
                0xff,
                0xff,
                0,
                0,
                0,
                0,
            ]);
            (6, body, 16)
        }
        Transport::Udp { src, dst } => {
            let mut body = [src.to_be_bytes(), dst.to_be_bytes()].concat();
            body.extend((payload.len() as u16 + 8).to_be_bytes());
            body.extend([0, 0]);
            (17, body, 6)
        }
        Transport::Echo { identifier } => echo(v6, if v6 { 128 } else { 8 }, identifier),
        Transport::EchoReply { identifier } => echo(v6, if v6 { 129 } else { 0 }, identifier),
    };
    body.extend(payload);
    let length = (body.len() as u32).to_be_bytes();
    let pseudo = [addresses, &length, &[0, 0, 0, proto]].concat();
    // ICMP for IPv4 is the one without a pseudo header.
    let pseudo = if proto == 1 { &[][..] } else { &pseudo };
    let checksum = match !ones_complement_sum([pseudo, &body]) {
        0 if proto == 17 => 0xffff,
        checksum => checksum,
    };
    put(&mut body, checksum_at, checksum);
    (proto, body)
}

fn echo(v6: bool, kind: u8, identifier: u16) -> (u8, Vec<u8>, usize) {
    let [high, low] = identifier.to_be_bytes();
    (
        if v6 { 58 } else { 1 },
        vec![kind, 0, 0, 0, high, low, 0, 1],
        2,
    )
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// What a test reads of a packet that left. What a balance service put into a tunnel is out of it again.
pub(super) struct Seen {
    /// The Ethernet address that it went to.
    pub mac: Mac,
    /// The tunnel's other end.
    pub tunnel: Option<IpAddr>,
    pub src: IpAddr,
    pub dst: IpAddr,
    /// The TCP or UDP port, or the identifier of an echo request.
    pub sport: Option<u16>,
    /// The TCP or UDP port, or the identifier of an echo reply.
    pub dport: Option<u16>,
    proto: u8,
    /// TCP flags.
    flags: u8,
}

impl Seen {
    /// Whether it is an echo request.
    pub fn is_echo_request(&self) -> bool {
        matches!(self.proto, 1 | 58) && self.sport.is_some()
    }

    /// The transport header of an answer.
    pub fn answer(&self, flags: Option<u8>) -> Option<Transport> {
        match (self.proto, self.sport, self.dport) {
            (6, Some(src), Some(dst)) => Some(Transport::Tcp {
                src: dst,
                dst: src,
                // SYN and ACK to a SYN, else ACK.
                flags: flags.unwrap_or(if self.flags & 0x12 == 2 { 0x12 } else { 0x10 }),
            }),
            (17, Some(src), Some(dst)) => Some(Transport::Udp { src: dst, dst: src }),
            (1 | 58, Some(identifier), None) => Some(Transport::EchoReply { identifier }),
            _ => None,
        }
    }
}

/// An IP header without options or extension headers, and what comes after it.
struct Ip<'f> {
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    body: &'f [u8],
}

/// UDP port of Generic UDP Encapsulation.
const GUE: u16 = 6_080;

/// Reads a frame, of the form that [`packet`] makes, as it left.
pub(super) fn read(policy: &Policy, frame: &[u8]) -> Option<Seen> {
    let mac = Mac(frame.get(..6)?.try_into().ok()?);
    let outer = ip(frame.get(14..)?)?;
    let to_server = policy.services.iter().any(|s| match &s.kind {
        ServiceKind::Balance(b) if matches!(b.way, Way::Ipip | Way::Gue) => {
            let servers = policy.pool(b.pool).map_or(&[][..], |p| &p.servers);
            servers.iter().any(|s| s.address == outer.dst)
        }
        _ => false,
    });
    let inner = match outer.proto {
        4 | 41 if to_server => ip(outer.body),
        // Source and destination port, length, checksum, and four bytes of GUE.
        17 if to_server && half(outer.body, 2) == Some(GUE) => outer.body.get(12..).and_then(ip),
        _ => None,
    };
    let tunnel = inner.is_some().then_some(outer.dst);
    let packet = inner.unwrap_or(outer);
    let (mut sport, mut dport, mut flags) = (None, None, 0);
    match packet.proto {
        6 | 17 => {
            (sport, dport) = (half(packet.body, 0), half(packet.body, 2));
            if packet.proto == 6 {
                flags = *packet.body.get(13)?;
            }
        }
        1 | 58 => match packet.body.first() {
            Some(8 | 128) => sport = half(packet.body, 4),
            Some(0 | 129) => dport = half(packet.body, 4),
            _ => {}
        },
        _ => {}
    }
    Some(Seen {
        mac,
        tunnel,
        src: packet.src,
        dst: packet.dst,
        sport,
        dport,
        proto: packet.proto,
        flags,
    })
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn ip(bytes: &[u8]) -> Option<Ip<'_>> {
    match bytes.first()? >> 4 {
        4 => {
            let four = |at: usize| <[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok();
            Some(Ip {
                src: four(12)?.into(),
                dst: four(16)?.into(),
                proto: *bytes.get(9)?,
                body: bytes.get(20..)?,
            })
        }
        6 => {
            let sixteen = |at: usize| <[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok();
            Some(Ip {
                src: sixteen(8)?.into(),
                dst: sixteen(24)?.into(),
                proto: *bytes.get(6)?,
                body: bytes.get(40..)?,
            })
        }
        _ => None,
    }
}

/// The frame of a tunnel's packet: around the IP packet of `frame` headers from the switch's own address
/// on the port to the tunnel's other end. What a test does not look at is plain: a source port that no
/// flow chose, and no identification.
pub(super) fn in_tunnel(
    policy: &Policy,
    port: u16,
    tunnel: Tunnel,
    to: IpAddr,
    frame: &[u8],
) -> Vec<u8> {
    let (ethernet, inner) = frame.split_at_checked(14).unwrap_or((frame, &[]));
    let family = crate::model::Family::of(to);
    let own = policy.network.port(port).and_then(|p| p.address(family));
    let own = own.unwrap_or_else(|| family.address(0));
    let carried: u8 = if inner.first().is_some_and(|b| b >> 4 == 6) {
        41
    } else {
        4
    };
    let mut body = Vec::new();
    let proto = match tunnel {
        Tunnel::Ipip => carried,
        Tunnel::Gue => {
            body.extend(49_152u16.to_be_bytes());
            body.extend(GUE.to_be_bytes());
            body.extend((inner.len() as u16).saturating_add(12).to_be_bytes());
            body.extend([0, 0, 0, carried, 0, 0]);
            17
        }
    };
    body.extend(inner);
    let length = body.len() as u16;
    let mut out = ethernet.get(..12).unwrap_or(&[]).to_vec();
    if to.is_ipv6() {
        out.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        out.extend(length.to_be_bytes());
        out.extend([proto, 64]);
        out.extend(octets(own));
        out.extend(octets(to));
    } else {
        out.extend([0x08, 0x00]);
        let mut header = vec![0x45, 0];
        header.extend(length.saturating_add(20).to_be_bytes());
        header.extend([0, 0, 0x40, 0, 64, proto, 0, 0]);
        header.extend(octets(own));
        header.extend(octets(to));
        let checksum = !ones_complement_sum([&header[..]]);
        put(&mut header, 10, checksum);
        out.extend(header);
    }
    out.extend(body);
    out
}
