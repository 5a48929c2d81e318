//! Frames for `send`, and what is read of frames that come back.

use std::net::IpAddr;

use super::neighbour_mac;
use crate::eval::ones_complement_sum;
use crate::model::{Policy, SendPacket, Transport};

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
        Transport::Echo { identifier } => {
            let mut body = vec![if v6 { 128 } else { 8 }, 0, 0, 0];
            body.extend(identifier.to_be_bytes());
            body.extend([0, 1]);
            (if v6 { 58 } else { 1 }, body, 2)
        }
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

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// Destination address and, of TCP and UDP, port of a frame without IP options or extension headers,
/// as [`packet`] makes them.
pub(super) fn destination(frame: &[u8]) -> Option<(IpAddr, Option<u16>)> {
    let at = |from: usize, length: usize| frame.get(from..from + length);
    let port = |from: usize| Some(u16::from_be_bytes(at(from, 2)?.try_into().ok()?));
    let has_ports = |proto: u8| matches!(proto, 6 | 17);
    match at(12, 2)? {
        [0x08, 0x00] => {
            let ip: [u8; 4] = at(30, 4)?.try_into().ok()?;
            let [proto] = *at(23, 1)? else { return None };
            Some((
                IpAddr::from(ip),
                if has_ports(proto) { port(36) } else { None },
            ))
        }
        [0x86, 0xdd] => {
            let ip: [u8; 16] = at(38, 16)?.try_into().ok()?;
            let [proto] = *at(20, 1)? else { return None };
            Some((
                IpAddr::from(ip),
                if has_ports(proto) { port(56) } else { None },
            ))
        }
        _ => None,
    }
}
