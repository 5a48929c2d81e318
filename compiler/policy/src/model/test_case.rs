//! A policy's own tests: packets to send and what must become of them.

use std::net::IpAddr;

use super::{PoolIndex, ServiceIndex, Span};

/// One `test` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestCase {
    /// What it says it shows.
    pub name: String,
    /// What is sent, and what must become of it, in order.
    pub steps: Vec<Step>,
    /// Where it stands.
    pub span: Span,
}

/// A packet and its fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is sent.
    pub send: Send,
    /// All must hold; at least one.
    pub expect: Vec<Expect>,
    /// Where the `send` stands.
    pub span: Span,
}

/// What a step sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Send {
    /// A packet that is spelled out.
    Packet(SendPacket),
    /// The answer to the packet that left last: its addresses and ports change places, an echo request
    /// becomes a reply. What it left in (a tunnel) is taken off first.
    Answer {
        /// The number of the ingress port.
        port: u16,
        /// TCP flags; `None` for SYN and ACK to a SYN, else ACK.
        flags: Option<u8>,
        /// TTL or hop limit, 1 to 255. Default 64.
        ttl: u8,
        /// Bytes after the transport header, 0 to 1400. Default 0.
        payload: u16,
    },
}

/// A packet to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendPacket {
    /// The number of the ingress port.
    pub port: u16,
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// The transport.
    pub transport: Transport,
    /// TTL or hop limit, 1 to 255. Default 64.
    pub ttl: u8,
    /// Bytes after the transport header, 0 to 1400. Default 0.
    pub payload: u16,
}

/// The transport header of a sent packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment.
    Tcp {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
        /// Flags, bit 0 FIN to bit 7 CWR.
        flags: u8,
    },
    /// A UDP datagram.
    Udp {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
    },
    /// An ICMP or ICMPv6 echo request.
    Echo {
        /// Its identifier.
        identifier: u16,
    },
    /// An ICMP or ICMPv6 echo reply.
    EchoReply {
        /// Its identifier.
        identifier: u16,
    },
}

/// What must become of a sent packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It leaves nowhere.
    Drop {
        /// By this service; `None` by anything.
        by: Option<ServiceIndex>,
    },
    /// It goes to some server of the pool: translated, or unchanged by a dispatching service.
    Server {
        /// The pool.
        pool: PoolIndex,
        /// This one of its servers, by place.
        server: Option<usize>,
    },
    /// It leaves by a port.
    Forward {
        /// The port's number.
        port: u16,
        /// With a source among these.
        from: Option<Ends>,
        /// With this destination address, and port if given.
        to: Option<(IpAddr, Option<u16>)>,
    },
    /// An observe service counts it.
    Count {
        /// The service.
        service: ServiceIndex,
    },
    /// A manager is asked about it.
    Manager {
        /// The manager's place among [`Policy::managers`].
        manager: usize,
    },
    /// A service's manager is asked about it.
    Interest {
        /// The service.
        service: ServiceIndex,
    },
    /// The switch's own agent answers it (echo).
    Reply,
}

/// Addresses that one end of a packet may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The first.
    pub first: IpAddr,
    /// The last, of the same family.
    pub last: IpAddr,
    /// The port, or the identifier of an echo request; `None` for any.
    pub port: Option<u16>,
}
