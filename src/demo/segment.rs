//! As much of a TCP/IPv4 or TCP/IPv6 frame as tells which connection it belongs to.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket,
};

/// A TCP segment without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub syn: bool,
    pub ack: bool,
}

impl Segment {
    /// Reads an Ethernet frame; `None` when it is not whole or not TCP.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let frame = EthernetFrame::new_checked(frame).ok()?;
        match frame.ethertype() {
            EthernetProtocol::Ipv4 => {
                let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
                let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
                let is_tcp = packet.next_header() == IpProtocol::Tcp;
                Self::within(source, destination, is_tcp.then(|| packet.payload())?)
            }
            EthernetProtocol::Ipv6 => {
                let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
                let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
                let is_tcp = packet.next_header() == IpProtocol::Tcp;
                Self::within(source, destination, is_tcp.then(|| packet.payload())?)
            }
            _ => None,
        }
    }

    /// True of the first packet of a connection.
    pub fn opens(&self) -> bool {
        self.syn && !self.ack
    }

    fn within(source: IpAddr, destination: IpAddr, payload: &[u8]) -> Option<Self> {
        let packet = TcpPacket::new_checked(payload).ok()?;
        Some(Self {
            source: SocketAddr::new(source, packet.src_port()),
            destination: SocketAddr::new(destination, packet.dst_port()),
            syn: packet.syn(),
            ack: packet.ack(),
        })
    }
}
