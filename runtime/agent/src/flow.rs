//! Flows as agents and managers name them: tuples, directions, packet kinds and events.
//!
//! Nothing here knows how a packet looks on the wire or how an entry is written.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One direction of a flow. For ICMP echo the identifier stands where the pipeline puts it:
/// a request has it as `sport`, a reply as `dport`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol number.
    pub proto: u8,
    /// Source port, or 0 where the protocol has none.
    pub sport: u16,
    /// Destination port, or 0 where the protocol has none.
    pub dport: u16,
}

impl Tuple {
    /// The same flow seen from the other end.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            proto: self.proto,
            sport: self.dport,
            dport: self.sport,
        }
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn end(f: &mut fmt::Formatter<'_>, addr: IpAddr, port: u16) -> fmt::Result {
            match addr {
                IpAddr::V4(a) => write!(f, "{a}:{port}"),
                IpAddr::V6(a) => write!(f, "[{a}]:{port}"),
            }
        }
        match self.proto {
            6 => f.write_str("tcp ")?,
            17 => f.write_str("udp ")?,
            1 => f.write_str("icmp ")?,
            58 => f.write_str("icmpv6 ")?,
            other => write!(f, "protocol {other} ")?,
        }
        end(f, self.src, self.sport)?;
        f.write_str(" -> ")?;
        end(f, self.dst, self.dport)
    }
}

/// A direction of a service. The numbers are the pipeline's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Packets on their way back.
    Reply = 1,
    /// Packets on their way out.
    Forward = 2,
}

impl Part {
    /// Reads the pipeline's number.
    #[must_use]
    pub fn from_number(n: u8) -> Option<Self> {
        match n {
            1 => Some(Self::Reply),
            2 => Some(Self::Forward),
            _ => None,
        }
    }

    /// The other direction.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Reply => Self::Forward,
            Self::Forward => Self::Reply,
        }
    }
}

/// What a packet is. The numbers are the pipeline's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PacketKind {
    /// A packet that is no fragment and no ICMP error.
    #[default]
    Whole = 0,
    /// A fragment with offset 0.
    FirstFragment = 1,
    /// Any later fragment.
    LaterFragment = 2,
    /// An ICMP or ICMPv6 error.
    IcmpError = 3,
}

impl PacketKind {
    /// Reads the pipeline's number.
    #[must_use]
    pub fn from_number(n: u8) -> Option<Self> {
        match n {
            0 => Some(Self::Whole),
            1 => Some(Self::FirstFragment),
            2 => Some(Self::LaterFragment),
            3 => Some(Self::IcmpError),
            _ => None,
        }
    }

    /// As what a packet takes the stages: a first fragment meets what its whole packet would.
    #[must_use]
    pub fn at_stages(self) -> Self {
        match self {
            Self::FirstFragment => Self::Whole,
            other => other,
        }
    }
}

/// Event bits, as in the pipeline's `events` field.
pub mod events {
    /// TCP FIN.
    pub const FIN: u16 = 1;
    /// TCP SYN.
    pub const SYN: u16 = 2;
    /// TCP RST.
    pub const RST: u16 = 4;
    /// TCP PSH.
    pub const PSH: u16 = 8;
    /// TCP ACK.
    pub const ACK: u16 = 16;
    /// TCP URG.
    pub const URG: u16 = 32;
    /// A payload; every UDP packet.
    pub const DATA: u16 = 64;
    /// DATA until the agent turns it off for that flow.
    pub const FIRST_DATA: u16 = 128;
    /// A fragment.
    pub const FRAGMENT: u16 = 256;
    /// Every packet.
    pub const ALL: u16 = 512;
}

/// What names one fixed entry within a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// Index of the service in the plan (stage minus 1).
    pub service: u8,
    /// Direction.
    pub part: Part,
    /// The exact match.
    pub tuple: Tuple,
    /// The kind of packet that it matches.
    pub kind: PacketKind,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_reads_like_a_flow_and_turns_round() {
        let t = Tuple {
            src: IpAddr::from([203, 0, 113, 9]),
            dst: IpAddr::from([203, 0, 113, 80]),
            proto: 6,
            sport: 40000,
            dport: 443,
        };
        assert_eq!(t.to_string(), "tcp 203.0.113.9:40000 -> 203.0.113.80:443");
        assert_eq!(t.reversed().reversed(), t);
        assert_eq!(t.reversed().sport, 443);
    }
}
