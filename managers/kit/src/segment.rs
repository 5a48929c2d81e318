//! TCP segments in IP packets, as far as a health check needs them: a checked view and a plain builder.

use std::net::IpAddr;

use bytes::Bytes;
use signalbox_agent::packet::{self, View, checksum, proto};

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
    /// Payload.
    pub payload: Bytes,
}

impl Segment {
    /// Reads an IP packet (no Ethernet header); `None` if it is no whole TCP segment.
    #[must_use]
    pub fn parse(ip: &Bytes) -> Option<Self> {
        let (.., ether_type) = packet::addresses(ip)?;
        let frame = packet::frame([0; 6], [0; 6], ether_type, ip);
        let View { tuple, l4, end, .. } = packet::view(&frame)?;
        if tuple.proto != proto::TCP {
            return None;
        }
        let header = frame.get(l4..l4 + 20)?;
        let word = |at: usize| -> Option<u32> {
            let bytes: [u8; 4] = header.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_be_bytes(bytes))
        };
        let offset = usize::from(header.get(12)? >> 4) * 4;
        let payload = frame.get(l4 + offset.max(20)..end)?;
        Some(Self {
            src: (tuple.src, tuple.sport),
            dst: (tuple.dst, tuple.dport),
            seq: word(4)?,
            ack: word(8)?,
            flags: *header.get(13)?,
            payload: Bytes::copy_from_slice(payload),
        })
    }

    /// Writes it as an IP packet. A SYN offers an MSS of 1,460.
    #[must_use]
    pub fn emit(&self) -> Bytes {
        let options: &[u8] = if self.flags & SYN != 0 {
            &[2, 4, 5, 180]
        } else {
            &[]
        };
        let mut tcp = Vec::with_capacity(24 + self.payload.len());
        tcp.extend_from_slice(&self.src.1.to_be_bytes());
        tcp.extend_from_slice(&self.dst.1.to_be_bytes());
        tcp.extend_from_slice(&self.seq.to_be_bytes());
        tcp.extend_from_slice(&self.ack.to_be_bytes());
        let words = if options.is_empty() { 0x50 } else { 0x60 };
        tcp.extend_from_slice(&[words, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend_from_slice(options);
        tcp.extend_from_slice(&self.payload);
        let length = u16::try_from(tcp.len()).unwrap_or(u16::MAX);
        let (ip, pseudo): (Vec<u8>, Vec<u8>) = match (self.src.0, self.dst.0) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut ip = vec![0x45, 0];
                ip.extend_from_slice(&(length + 20).to_be_bytes());
                ip.extend_from_slice(&[0, 0, 0x40, 0, 64, proto::TCP, 0, 0]);
                ip.extend_from_slice(&src.octets());
                ip.extend_from_slice(&dst.octets());
                let sum = checksum(&[&ip]).to_be_bytes();
                put(&mut ip, 10, sum);
                let mut pseudo = Vec::with_capacity(12);
                pseudo.extend_from_slice(&src.octets());
                pseudo.extend_from_slice(&dst.octets());
                pseudo.extend_from_slice(&[0, proto::TCP]);
                pseudo.extend_from_slice(&length.to_be_bytes());
                (ip, pseudo)
            }
            (src, dst) => {
                let (src, dst) = (as_v6(src), as_v6(dst));
                let mut ip = vec![0x60, 0, 0, 0];
                ip.extend_from_slice(&length.to_be_bytes());
                ip.extend_from_slice(&[proto::TCP, 64]);
                ip.extend_from_slice(&src.octets());
                ip.extend_from_slice(&dst.octets());
                let pseudo = packet::pseudo_v6(src, dst, proto::TCP, tcp.len()).to_vec();
                (ip, pseudo)
            }
        };
        let sum = checksum(&[&pseudo, &tcp]).to_be_bytes();
        put(&mut tcp, 16, sum);
        let mut out = ip;
        out.extend_from_slice(&tcp);
        out.into()
    }
}

fn as_v6(a: IpAddr) -> std::net::Ipv6Addr {
    match a {
        IpAddr::V4(a) => a.to_ipv6_mapped(),
        IpAddr::V6(a) => a,
    }
}

fn put(bytes: &mut [u8], at: usize, value: [u8; 2]) {
    if let Some(to) = bytes.get_mut(at..at + 2) {
        to.copy_from_slice(&value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_read_as_it_was_written_and_its_checksums_hold() {
        for (src, dst) in [("10.0.1.1", "10.0.1.10"), ("fd00::1", "fd00::2")] {
            let s = Segment {
                src: (src.parse().unwrap(), 61440),
                dst: (dst.parse().unwrap(), 80),
                seq: 7,
                ack: 9,
                flags: ACK | PSH,
                payload: Bytes::from_static(b"GET / HTTP/1.0\r\n"),
            };
            let ip = s.emit();
            assert_eq!(Segment::parse(&ip), Some(s));
            if ip[0] >> 4 == 4 {
                assert_eq!(checksum(&[&ip[..20]]), 0);
            }
        }
    }
}
