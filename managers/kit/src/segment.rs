//! TCP segments in IP packets: a checked view and a plain builder, with the two options that services here
//! understand. It knows no connection.

use std::net::IpAddr;

use bytes::Bytes;
use signalbox_agent::packet::{self, ETHERNET, View, checksum, proto};

/// FIN.
pub const FIN: u8 = 1;
/// SYN.
pub const SYN: u8 = 2;
/// RST.
pub const RST: u8 = 4;
/// PSH.
pub const PSH: u8 = 8;
/// ACK.
pub const ACK: u8 = 16;

/// The greatest shift of a window (RFC 7323, section 2.3).
pub const MAX_SHIFT: u8 = 14;

/// Options of a SYN that are understood; others are passed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Longest segment that the sender takes, in bytes of payload (RFC 9293, section 3.7.1).
    pub mss: Option<u16>,
    /// How far the sender's windows are to be shifted, 0 to 14: a greater value counts as 14 (RFC 7323,
    /// section 2.3).
    pub window_scale: Option<u8>,
}

impl Options {
    /// Reads options. The second value is false if one has an impossible length: those before it count, and
    /// nothing after it does (RFC 9293, section 3.1, MUST-7).
    #[must_use]
    pub fn parse(mut bytes: &[u8]) -> (Self, bool) {
        let mut options = Self::default();
        loop {
            bytes = match bytes {
                // The end of the list, or of the header.
                [] | [0, ..] => return (options, true),
                // No operation.
                [1, rest @ ..] => rest,
                [kind, length, ..] => {
                    let length = usize::from(*length);
                    let Some((option, rest)) = bytes.split_at_checked(length.max(2)) else {
                        return (options, false);
                    };
                    match (kind, option) {
                        (_, _) if length < 2 => return (options, false),
                        (2, [_, _, a, b]) => options.mss = Some(u16::from_be_bytes([*a, *b])),
                        (3, [_, _, shift]) => options.window_scale = Some((*shift).min(MAX_SHIFT)),
                        (2 | 3, _) => return (options, false),
                        _ => {}
                    }
                    rest
                }
                [_] => return (options, false),
            };
        }
    }

    fn emit(self, tcp: &mut Vec<u8>) {
        if let Some(mss) = self.mss {
            tcp.extend_from_slice(&[2, 4]);
            tcp.extend_from_slice(&mss.to_be_bytes());
        }
        if let Some(shift) = self.window_scale {
            tcp.extend_from_slice(&[1, 3, 3, shift]);
        }
    }
}

/// A TCP segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Source address and port.
    pub src: (IpAddr, u16),
    /// Destination address and port; of the source's family.
    pub dst: (IpAddr, u16),
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// The window field as it is on the wire.
    pub window: u16,
    /// Options; of a SYN.
    pub options: Options,
    /// Payload.
    pub payload: Bytes,
}

impl Segment {
    /// Reads an IP packet (no Ethernet header); `None` if it is no whole TCP segment. Checksums are not
    /// looked at.
    #[must_use]
    pub fn parse(ip: &Bytes) -> Option<Self> {
        Self::read(ip, &packet::view_at(ip, 0)?).map(|(segment, _)| segment)
    }

    /// Reads a frame that a switch has diverted; `None` if it has no whole TCP segment. The second value is
    /// false if an option is malformed.
    #[must_use]
    pub fn parse_frame(frame: &Bytes) -> Option<(Self, bool)> {
        Self::read(frame, &packet::view(frame)?)
    }

    fn read(bytes: &Bytes, view: &View) -> Option<(Self, bool)> {
        let View { tuple, l4, end, .. } = *view;
        if tuple.proto != proto::TCP {
            return None;
        }
        let header = bytes.get(l4..l4.checked_add(20)?)?;
        let word = |at: usize| -> Option<u32> {
            let bytes: [u8; 4] = header.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_be_bytes(bytes))
        };
        let offset = usize::from(header.get(12)? >> 4) * 4;
        let payload = bytes.get(l4 + offset.max(20)..end)?;
        let (options, whole) = Options::parse(bytes.get(l4 + 20..l4 + offset).unwrap_or_default());
        let segment = Self {
            src: (tuple.src, tuple.sport),
            dst: (tuple.dst, tuple.dport),
            seq: word(4)?,
            ack: word(8)?,
            flags: *header.get(13)?,
            window: u16::try_from(word(12)? & 0xffff).ok()?,
            options,
            payload: bytes.slice_ref(payload),
        };
        Some((segment, whole && offset >= 20))
    }

    /// Whether the checksum of a frame's TCP segment holds (RFC 9293, section 3.1, MUST-3).
    #[must_use]
    pub fn checksum_holds(frame: &[u8]) -> bool {
        let Some(View { tuple, l4, end, .. }) = packet::view(frame) else {
            return false;
        };
        let Some(tcp) = frame.get(l4..end).filter(|_| l4 > ETHERNET) else {
            return false;
        };
        checksum(&[&pseudo(tuple.src, tuple.dst, tcp.len()), tcp]) == 0
    }

    /// What it takes of the sequence space: payload, SYN and FIN.
    #[must_use]
    pub fn length(&self) -> u32 {
        let counted = |flag| u32::from(self.flags & flag != 0);
        let payload = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        payload.saturating_add(counted(SYN) + counted(FIN))
    }

    /// The RST that a connection which is not there answers this segment with (RFC 9293, section 3.10.7.1);
    /// nothing answers a RST.
    #[must_use]
    pub fn refusal(&self) -> Option<Self> {
        if self.flags & RST != 0 {
            return None;
        }
        let (seq, ack, flags) = if self.flags & ACK != 0 {
            (self.ack, 0, RST)
        } else {
            (0, self.seq.wrapping_add(self.length()), RST | ACK)
        };
        Some(Self {
            src: self.dst,
            dst: self.src,
            seq,
            ack,
            flags,
            window: 0,
            options: Options::default(),
            payload: Bytes::new(),
        })
    }

    /// Writes it as an IP packet.
    #[must_use]
    pub fn emit(&self) -> Bytes {
        let header = if self.src.0.is_ipv4() { 20 } else { 40 };
        let mut out = Vec::with_capacity(header + 28 + self.payload.len());
        out.resize(header, 0);
        out.extend_from_slice(&self.src.1.to_be_bytes());
        out.extend_from_slice(&self.dst.1.to_be_bytes());
        out.extend_from_slice(&self.seq.to_be_bytes());
        out.extend_from_slice(&self.ack.to_be_bytes());
        out.extend_from_slice(&[0x50, self.flags]);
        out.extend_from_slice(&self.window.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        self.options.emit(&mut out);
        let words = u8::try_from((out.len() - header) / 4).unwrap_or(5);
        put(&mut out, header + 12, &[words << 4]);
        out.extend_from_slice(&self.payload);
        let tcp = out.get(header..).unwrap_or_default();
        let length = u16::try_from(tcp.len()).unwrap_or(u16::MAX);
        let sum = checksum(&[&pseudo(self.src.0, self.dst.0, tcp.len()), tcp]);
        put(&mut out, header + 16, &sum.to_be_bytes());
        match (self.src.0, self.dst.0) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                put(&mut out, 0, &[0x45]);
                put(&mut out, 2, &length.saturating_add(20).to_be_bytes());
                put(&mut out, 6, &[0x40, 0, 64, proto::TCP]);
                put(&mut out, 12, &src.octets());
                put(&mut out, 16, &dst.octets());
                let sum = checksum(&[out.get(..20).unwrap_or_default()]);
                put(&mut out, 10, &sum.to_be_bytes());
            }
            (src, dst) => {
                put(&mut out, 0, &[0x60]);
                put(&mut out, 4, &length.to_be_bytes());
                put(&mut out, 6, &[proto::TCP, 64]);
                put(&mut out, 8, &as_v6(src).octets());
                put(&mut out, 24, &as_v6(dst).octets());
            }
        }
        out.into()
    }
}

/// The pseudo header that a checksum covers, in the form of IPv6 for both families: what an IPv4 one lacks is
/// zero in it, and its words are summed in any order.
fn pseudo(src: IpAddr, dst: IpAddr, length: usize) -> [u8; 40] {
    let plain = |a: IpAddr| match a {
        IpAddr::V4(a) => a.to_ipv6_compatible(),
        IpAddr::V6(a) => a,
    };
    packet::pseudo_v6(plain(src), plain(dst), proto::TCP, length)
}

fn as_v6(a: IpAddr) -> std::net::Ipv6Addr {
    match a {
        IpAddr::V4(a) => a.to_ipv6_mapped(),
        IpAddr::V6(a) => a,
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(to) = bytes.get_mut(at..at + value.len()) {
        to.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(src: &str, dst: &str) -> Segment {
        Segment {
            src: (src.parse().unwrap(), 61440),
            dst: (dst.parse().unwrap(), 80),
            seq: 7,
            ack: 9,
            flags: ACK | PSH,
            window: 1234,
            options: Options::default(),
            payload: Bytes::from_static(b"GET / HTTP/1.0\r\n!"),
        }
    }

    #[test]
    fn a_segment_is_read_as_it_was_written_and_its_checksums_hold() {
        for (src, dst) in [("10.0.1.1", "10.0.1.10"), ("fd00::1", "fd00::2")] {
            let mut s = segment(src, dst);
            for options in [(None, None), (Some(1460), None), (Some(536), Some(7))] {
                (s.options.mss, s.options.window_scale) = options;
                let ip = s.emit();
                assert_eq!(Segment::parse(&ip), Some(s.clone()));
                if ip[0] >> 4 == 4 {
                    assert_eq!(checksum(&[&ip[..20]]), 0);
                }
                let ether_type = packet::addresses(&ip).unwrap().2;
                let mut frame = packet::frame([1; 6], [2; 6], ether_type, &ip);
                assert!(Segment::checksum_holds(&frame));
                assert_eq!(
                    Segment::parse_frame(&frame.clone().into()),
                    Some((s.clone(), true))
                );
                let parsed = etherparse::PacketHeaders::from_ethernet_slice(&frame).unwrap();
                let etherparse::TransportHeader::Tcp(tcp) = parsed.transport.unwrap() else {
                    panic!("no TCP");
                };
                let wanted = match parsed.net.unwrap() {
                    etherparse::NetHeaders::Ipv4(ip, _) => tcp.calc_checksum_ipv4(&ip, &s.payload),
                    etherparse::NetHeaders::Ipv6(ip, _) => tcp.calc_checksum_ipv6(&ip, &s.payload),
                    _ => panic!("no IP"),
                };
                assert_eq!(wanted.unwrap(), tcp.checksum);
                *frame.last_mut().unwrap() ^= 1;
                assert!(!Segment::checksum_holds(&frame));
            }
        }
    }

    #[test]
    fn options_are_read_up_to_the_one_that_makes_no_sense() {
        let read = |bytes: &[u8]| {
            let (o, whole) = Options::parse(bytes);
            (o.mss, o.window_scale, whole)
        };
        assert_eq!(
            read(&[2, 4, 5, 180, 1, 3, 3, 7]),
            (Some(1460), Some(7), true)
        );
        // SACK permitted and timestamps are passed over.
        let linux = [
            2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 9,
        ];
        assert_eq!(read(&linux), (Some(1460), Some(9), true));
        assert_eq!(read(&[3, 3, 200, 0, 9, 9]), (None, Some(14), true));
        for bad in [
            &[2, 0][..],
            &[2, 1],
            &[2],
            &[2, 4, 5],
            &[3, 4, 1, 1],
            &[2, 3, 9],
            &[9, 40, 0],
        ] {
            let bytes = [&[3, 3, 2], bad].concat();
            assert_eq!(read(&bytes), (None, Some(2), false), "{bad:?}");
        }
    }

    #[test]
    fn a_cut_segment_is_none() {
        let ip = segment("10.0.1.1", "10.0.1.10").emit();
        let frame = Bytes::from(packet::frame([1; 6], [2; 6], packet::TYPE_IPV4, &ip));
        for n in 0..frame.len() {
            assert_eq!(Segment::parse_frame(&frame.slice(..n)), None);
            assert!(!Segment::checksum_holds(&frame[..n]));
        }
    }
}
