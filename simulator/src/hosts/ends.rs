//! The two ends of a flow: their addresses, ports, and what each of them sends.

use std::net::IpAddr;

use signalbox_agent::flow::Tuple;
use signalbox_agent::testing::SERVICE;

use super::{Flow, Packet};

pub(super) const REMOTE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));
pub(super) const CLIENT_PORTS: u16 = 2_000;
pub(super) const REMOTE_PORTS: u16 = 1_000;

/// The port that a host is behind.
fn port_of(host: IpAddr) -> u16 {
    match host {
        IpAddr::V4(a) if a.octets()[..3] == [10, 0, 1] => 2,
        IpAddr::V4(a) if a.octets()[..3] == [10, 0, 2] => 3,
        _ => 1,
    }
}

/// The tuple of a flow's number. Two neighbouring flows from inside share their inside port. Clients have one
/// address, or four.
pub(super) fn tuple(number: usize, nat: bool, clients: bool) -> Tuple {
    let n = number as u16;
    if !nat {
        let client = IpAddr::from([203, 0, 113, 8 + (number % 4) as u8]);
        return Tuple {
            src: if clients { client } else { REMOTE },
            dst: SERVICE.into(),
            proto: 6,
            sport: CLIENT_PORTS + n,
            dport: 443,
        };
    }
    let hosts = [[10, 0, 1, 10], [10, 0, 2, 10], [10, 0, 2, 11]];
    Tuple {
        src: hosts[number / 2 % hosts.len()].into(),
        dst: REMOTE,
        proto: 6,
        sport: 40_000 + n / 2,
        dport: REMOTE_PORTS + n,
    }
}

impl Flow {
    /// Its opener sends.
    pub(super) fn opener(&self, flags: u8) -> Packet {
        Packet {
            agent: self.agent,
            port: port_of(self.tuple.src),
            tuple: self.tuple,
            flags,
        }
    }

    /// The other end sends, if it has heard of it.
    pub(super) fn other(&self, flags: u8) -> Option<Packet> {
        let (address, port) = self.to?;
        let back = self.tuple.reversed();
        let tuple = match self.nat {
            true => Tuple {
                dst: address,
                dport: port,
                ..back
            },
            false => Tuple {
                src: address,
                sport: port,
                ..back
            },
        };
        Some(Packet {
            agent: self.agent,
            port: port_of(tuple.src),
            tuple,
            flags,
        })
    }
}
