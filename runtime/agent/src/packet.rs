//! A checked view of the packets that reach an agent, down to the flow and its events.
//!
//! It reads exactly what the pipeline's parser reads, so that agent and switch name a flow alike. Each
//! accessor says `None` on bytes that are not there; nothing here panics.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::flow::{PacketKind, Tuple, events};

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;
/// EtherType of IPv4.
pub const TYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const TYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const TYPE_IPV6: u16 = 0x86dd;
/// An IPv6 extension header with this length field, or a greater one, is not read.
const LONG: usize = 32;
/// IP protocol numbers.
pub mod proto {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}

/// What an agent wants to know of an IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The flow, as the pipeline names it.
    pub tuple: Tuple,
    /// The packet's kind.
    pub kind: PacketKind,
    /// TCP flags, else 0.
    pub flags: u8,
    /// ICMP type, else 0.
    pub icmp: u8,
    /// Its events.
    pub events: u16,
    /// Where the transport header begins, from the first byte of the frame.
    pub l4: usize,
    /// Where the IP packet ends, by its own account.
    pub end: usize,
    /// Where the fragment header of an IPv6 packet begins, 0 without one.
    pub fragment_header: usize,
}

pub(crate) fn u8_at(b: &[u8], at: usize) -> Option<u8> {
    b.get(at).copied()
}

pub(crate) fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    let s = b.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(s.try_into().ok()?))
}

pub(crate) fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    let s = b.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(s.try_into().ok()?))
}

pub(crate) fn mac_at(b: &[u8], at: usize) -> Option<[u8; 6]> {
    b.get(at..at.checked_add(6)?)?.try_into().ok()
}

pub(crate) fn v4_at(b: &[u8], at: usize) -> Option<Ipv4Addr> {
    u32_at(b, at).map(Ipv4Addr::from)
}

pub(crate) fn v6_at(b: &[u8], at: usize) -> Option<Ipv6Addr> {
    let s: [u8; 16] = b.get(at..at.checked_add(16)?)?.try_into().ok()?;
    Some(Ipv6Addr::from(s))
}

/// The EtherType of a frame.
#[must_use]
pub fn ether_type(frame: &[u8]) -> Option<u16> {
    u16_at(frame, 12)
}

/// Reads a frame; `None` if it is no IP packet or is cut before its transport header. Ports of a cut
/// transport header read as 0, as the notices' heads may be short.
#[must_use]
pub fn view(frame: &[u8]) -> Option<View> {
    match ether_type(frame)? {
        TYPE_IPV4 => view_v4(frame, ETHERNET),
        TYPE_IPV6 => view_v6(frame, ETHERNET),
        _ => None,
    }
}

/// Reads the IP packet that begins at `ip`, for example one that an ICMP error quotes: it may be cut.
#[must_use]
pub fn view_at(bytes: &[u8], ip: usize) -> Option<View> {
    match u8_at(bytes, ip)? >> 4 {
        4 => view_v4(bytes, ip),
        6 => view_v6(bytes, ip),
        _ => None,
    }
}

fn view_v4(frame: &[u8], ip: usize) -> Option<View> {
    let first = u8_at(frame, ip)?;
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < 20 {
        return None;
    }
    let total = usize::from(u16_at(frame, ip + 2)?);
    let fragment = u16_at(frame, ip + 6)?;
    let kind = match (fragment & 0x1fff, fragment & 0x2000 != 0) {
        (0, false) => PacketKind::Whole,
        (0, true) => PacketKind::FirstFragment,
        _ => PacketKind::LaterFragment,
    };
    let proto = u8_at(frame, ip + 9)?;
    let src = IpAddr::V4(v4_at(frame, ip + 12)?);
    let dst = IpAddr::V4(v4_at(frame, ip + 16)?);
    if total < header {
        return None;
    }
    Some(transport(
        frame,
        src,
        dst,
        proto,
        kind,
        ip + header,
        ip + total,
    ))
}

fn view_v6(frame: &[u8], ip: usize) -> Option<View> {
    if u8_at(frame, ip)? >> 4 != 6 {
        return None;
    }
    let end = ip + 40 + usize::from(u16_at(frame, ip + 4)?);
    let mut next = u8_at(frame, ip + 6)?;
    let src = IpAddr::V6(v6_at(frame, ip + 8)?);
    let dst = IpAddr::V6(v6_at(frame, ip + 24)?);
    if is_mapped(src) || is_mapped(dst) {
        // It would look like IPv4 to every stage, so the pipeline drops it.
        return None;
    }
    let mut at = ip + 40;
    let mut kind = PacketKind::Whole;
    let mut fragment_header = 0;
    // At most four extension headers; what has more, or a longer one than is in use, keeps the extension's
    // number as its protocol and has no transport header.
    for _ in 0..4 {
        let length = || u8_at(frame, at + 1).map(usize::from);
        let size = match next {
            44 => 8,
            0 | 43 | 51 | 60 if length()? >= LONG => break,
            0 | 43 | 60 => 8 * length()? + 8,
            51 => 4 * length()? + 8,
            _ => break,
        };
        let following = u8_at(frame, at)?;
        if next == 44 {
            if fragment_header == 0 {
                fragment_header = at;
            }
            let word = u16_at(frame, at + 2)?;
            kind = match (word & 0xfff8, word & 1) {
                (0, 0) => kind,
                (0, _) => PacketKind::FirstFragment,
                _ => PacketKind::LaterFragment,
            };
        }
        next = following;
        at += size;
        if kind == PacketKind::LaterFragment {
            break;
        }
    }
    let view = transport(frame, src, dst, next, kind, at, end);
    Some(View {
        fragment_header,
        ..view
    })
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if a.to_ipv4_mapped().is_some())
}

fn transport(
    frame: &[u8],
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    kind: PacketKind,
    l4: usize,
    end: usize,
) -> View {
    let mut v = View {
        tuple: Tuple {
            src,
            dst,
            proto,
            sport: 0,
            dport: 0,
        },
        kind,
        flags: 0,
        icmp: 0,
        events: events::ALL,
        l4,
        end,
        fragment_header: 0,
    };
    if matches!(kind, PacketKind::FirstFragment | PacketKind::LaterFragment) {
        v.events |= events::FRAGMENT;
    }
    if kind == PacketKind::LaterFragment {
        return v;
    }
    match proto {
        proto::TCP => {
            v.tuple.sport = u16_at(frame, l4).unwrap_or(0);
            v.tuple.dport = u16_at(frame, l4 + 2).unwrap_or(0);
            v.flags = u8_at(frame, l4 + 13).unwrap_or(0);
            v.events |= u16::from(v.flags & 0x3f);
            let header = usize::from(u8_at(frame, l4 + 12).unwrap_or(0x50) >> 4) * 4;
            if end > l4 + header {
                v.events |= events::DATA | events::FIRST_DATA;
            }
        }
        proto::UDP => {
            v.tuple.sport = u16_at(frame, l4).unwrap_or(0);
            v.tuple.dport = u16_at(frame, l4 + 2).unwrap_or(0);
            v.events |= events::DATA | events::FIRST_DATA;
        }
        proto::ICMP | proto::ICMPV6 if (proto == proto::ICMP) == src.is_ipv4() => {
            v.icmp = u8_at(frame, l4).unwrap_or(0);
            let identifier = u16_at(frame, l4 + 4).unwrap_or(0);
            match (proto, v.icmp) {
                (proto::ICMP, 8) | (proto::ICMPV6, 128) => v.tuple.sport = identifier,
                (proto::ICMP, 0) | (proto::ICMPV6, 129) => v.tuple.dport = identifier,
                (proto::ICMP, 3 | 4 | 5 | 11 | 12) | (proto::ICMPV6, 1..=4)
                    if kind == PacketKind::Whole =>
                {
                    v.kind = PacketKind::IcmpError;
                }
                _ => {}
            }
        }
        _ => {}
    }
    v
}

/// The Internet checksum (RFC 1071) of several pieces; every piece but the last has even length.
#[must_use]
pub fn checksum(pieces: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for piece in pieces {
        let mut words = piece.chunks_exact(2);
        for word in &mut words {
            if let [a, b] = word {
                sum += u64::from(u16::from_be_bytes([*a, *b]));
            }
        }
        if let [last] = words.remainder() {
            sum += u64::from(*last) << 8;
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// The IPv6 pseudo header (RFC 8200, section 8.1).
#[must_use]
pub fn pseudo_v6(src: Ipv6Addr, dst: Ipv6Addr, next: u8, length: usize) -> [u8; 40] {
    let mut out = [0; 40];
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let bytes = src
        .octets()
        .into_iter()
        .chain(dst.octets())
        .chain(length)
        .chain([0, 0, 0, next]);
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = from;
    }
    out
}

/// Overwrites bytes; out of range is ignored.
pub(crate) fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(to) = at
        .checked_add(bytes.len())
        .and_then(|end| frame.get_mut(at..end))
    {
        to.copy_from_slice(bytes);
    }
}

/// An Ethernet frame.
#[must_use]
pub fn frame(dst: [u8; 6], src: [u8; 6], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ETHERNET + payload.len());
    out.extend_from_slice(&dst);
    out.extend_from_slice(&src);
    out.extend_from_slice(&ether_type.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// Source and destination of an IP packet without Ethernet header, and its EtherType.
#[must_use]
pub fn addresses(ip: &[u8]) -> Option<(IpAddr, IpAddr, u16)> {
    match u8_at(ip, 0)? >> 4 {
        4 => Some((v4_at(ip, 12)?.into(), v4_at(ip, 16)?.into(), TYPE_IPV4)),
        6 => Some((v6_at(ip, 8)?.into(), v6_at(ip, 24)?.into(), TYPE_IPV6)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_packet_is_no_flow_and_no_panic() {
        let mut f = frame([1; 6], [2; 6], TYPE_IPV4, &[0x45, 0, 0, 40]);
        assert_eq!(view(&f), None);
        f.truncate(3);
        assert_eq!(view(&f), None);
        for n in 0..80 {
            let _ = view(&vec![0x45; n]);
            let _ = view(&frame([0; 6], [0; 6], TYPE_IPV6, &vec![0x60; n]));
            let _ = view(&frame([0; 6], [0; 6], TYPE_IPV4, &vec![0x45; n]));
        }
    }

    #[test]
    fn checksum_of_a_known_header_is_right() {
        // RFC 1071's example: the sum of these words is ddf2, its complement 220d.
        assert_eq!(
            checksum(&[&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]]),
            0x220d
        );
    }
}
