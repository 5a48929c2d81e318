//! ICMP echo and UDP datagrams of a host.

use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress};

/// An echo reply that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pong {
    /// Who answered.
    pub from: IpAddr,
    /// The identifier of the request.
    pub identifier: u16,
    /// The sequence number of the request.
    pub sequence: u16,
    /// The data, as they came back.
    pub data: Vec<u8>,
}

/// A UDP datagram that came to a client's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub from: SocketAddr,
    /// The host's port that it came to.
    pub local_port: u16,
    /// Its data.
    pub data: Vec<u8>,
}

/// An echo request from `source` to `to`, as the bytes of an ICMP or ICMPv6 message.
pub(super) fn request(
    source: IpAddr,
    to: IpAddr,
    identifier: u16,
    sequence: u16,
    data: &[u8],
) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    match (source, to) {
        (IpAddr::V6(source), IpAddr::V6(to)) => {
            let message = Icmpv6Repr::EchoRequest {
                ident: identifier,
                seq_no: sequence,
                data,
            };
            let mut bytes = vec![0; message.buffer_len()];
            let mut packet = Icmpv6Packet::new_unchecked(&mut bytes);
            message.emit(&source, &to, &mut packet, &checksums);
            bytes
        }
        _ => {
            let message = Icmpv4Repr::EchoRequest {
                ident: identifier,
                seq_no: sequence,
                data,
            };
            let mut bytes = vec![0; message.buffer_len()];
            let mut packet = Icmpv4Packet::new_unchecked(&mut bytes);
            message.emit(&mut packet, &checksums);
            bytes
        }
    }
}

/// The echo reply in the bytes of an ICMP or ICMPv6 message, if it is one.
pub(super) fn reply(from: IpAddress, to: Option<IpAddr>, bytes: &[u8]) -> Option<Pong> {
    let checksums = ChecksumCapabilities::default();
    let (identifier, sequence, data) = match (from, to) {
        (IpAddress::Ipv4(_), _) => {
            let packet = Icmpv4Packet::new_checked(bytes).ok()?;
            match Icmpv4Repr::parse(&packet, &checksums).ok()? {
                Icmpv4Repr::EchoReply {
                    ident,
                    seq_no,
                    data,
                } => (ident, seq_no, data.to_vec()),
                _ => return None,
            }
        }
        (IpAddress::Ipv6(from), Some(IpAddr::V6(to))) => {
            let packet = Icmpv6Packet::new_checked(bytes).ok()?;
            match Icmpv6Repr::parse(&from, &to, &packet, &checksums).ok()? {
                Icmpv6Repr::EchoReply {
                    ident,
                    seq_no,
                    data,
                } => (ident, seq_no, data.to_vec()),
                _ => return None,
            }
        }
        _ => return None,
    };
    Some(Pong {
        from: from.into(),
        identifier,
        sequence,
        data,
    })
}
