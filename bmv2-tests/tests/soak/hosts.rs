//! What hosts send, and what they answer to what reaches them. A packet carries its serial number and how
//! often it may yet be answered; hosts remember nothing.

use std::net::{IpAddr, SocketAddr};

use bmv2_tests::differential::Draw;
use bmv2_tests::frames::{Path, flags};
use signalbox_agent::flow::Tuple;
use signalbox_agent::packet;
use signalbox_agent::testing::port_mac;

/// What a packet says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    /// No two packets have the same.
    pub serial: u64,
    /// Answers to answers.
    pub turns: u8,
}

/// A packet of a host.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// The port that it comes in by.
    pub port: u16,
    pub flow: Tuple,
    pub flags: u8,
    pub ttl: u8,
    pub turns: u8,
}

/// A new conversation's first packet.
pub fn opening(draw: &mut Draw) -> Sent {
    let client = |draw: &mut Draw| format!("203.0.113.{}", 9 + draw.below(20));
    let inside = |draw: &mut Draw| format!("10.0.{}.{}", 1 + draw.below(2), 50 + draw.below(20));
    let port = |draw: &mut Draw| 1024 + draw.below(60_000) as u16;
    let end = draw.pick(&[0u8, 1, 1, 2, 3, 5, 8]);
    let mut sent = Sent {
        port: 1,
        flow: tuple("203.0.113.9", "10.0.1.10", 6, 0, 0),
        flags: flags::SYN,
        ttl: 64,
        turns: end,
    };
    let from_clients = |draw: &mut Draw, to: &str, proto, dport| {
        let (from, sport) = (client(draw), port(draw));
        tuple(&from, to, proto, sport, dport)
    };
    match draw.below(20) {
        0..=5 => sent.flow = from_clients(draw, "203.0.113.80", 6, 443),
        6..=8 => sent.flow = from_clients(draw, "203.0.113.53", 17, 53),
        9..=12 => {
            let (from, to, sport) = (inside(draw), client(draw), port(draw));
            let proto = draw.pick(&[6, 6, 17, 1]);
            let dport = if proto == 1 { 0 } else { 80 };
            sent.port = rack(&from);
            sent.flow = tuple(&from, &to, proto, sport, dport);
        }
        13 | 14 => sent.flow = from_clients(draw, "203.0.113.90", 6, 25),
        // What finds nobody: no flow in mid-flow, no tuple, no route, a blocked source, no hops left, nobody home.
        15 => {
            sent.flow = from_clients(draw, "203.0.113.80", 6, 443);
            sent.flags = flags::ACK;
        }
        16 => {
            let sport = port(draw);
            sent.flow = from_clients(draw, "203.0.113.100", 17, 1024 + sport % 1024);
        }
        17 => {
            let sport = port(draw);
            sent.flow = tuple("203.0.113.66", "203.0.113.80", 6, sport, 443);
        }
        18 => {
            sent.flow = from_clients(draw, "203.0.113.80", 6, 443);
            sent.ttl = 1;
        }
        _ => {
            let sport = port(draw);
            let to = draw.pick(&["198.18.0.1", "203.0.113.200"]);
            sent.flow = from_clients(draw, to, 17, sport);
        }
    }
    sent
}

/// The answer to a packet that a host on this port got.
pub fn answer(draw: &mut Draw, port: u16, flow: Tuple, flags: u8, turns: u8) -> Option<Sent> {
    // Some fall silent.
    let turns = turns.checked_sub(1).filter(|_| !draw.once_in(12))?;
    let flags = match turns {
        _ if flags & flags::SYN != 0 && flags & flags::ACK == 0 => flags::SYN | flags::ACK,
        _ if draw.once_in(20) => flags::RST,
        0 | 1 => flags::FIN | flags::ACK,
        _ => flags::ACK,
    };
    Some(Sent {
        port,
        flow: flow.reversed(),
        flags,
        ttl: 64,
        turns,
    })
}

/// The frame of a packet.
pub fn frame(sent: &Sent, serial: u64) -> Vec<u8> {
    let flow = &sent.flow;
    let path = Path {
        from_mac: [2, 9, 9, 9, 9, 9],
        to_mac: port_mac(sent.port),
        from: SocketAddr::new(flow.src, flow.sport),
        to: SocketAddr::new(flow.dst, flow.dport),
        ttl: sent.ttl,
    };
    let mut payload = serial.to_be_bytes().to_vec();
    payload.push(sent.turns);
    payload.resize(9 + (serial % 90) as usize, 0);
    match flow.proto {
        6 => path.tcp(sent.flags, &payload),
        17 => path.udp(&payload),
        _ => {
            let mut frame = path.echo(flow.sport | flow.dport, &payload);
            if flow.sport == 0 {
                frame[34] = 0;
            }
            frame
        }
    }
}

/// What a packet of a host says of itself; `None` of an ICMP error.
pub fn note(frame: &[u8], view: &packet::View) -> Option<Note> {
    let at = match view.tuple.proto {
        6 => view.l4 + 20,
        17 => view.l4 + 8,
        1 if matches!(view.icmp, 0 | 8) => view.l4 + 8,
        _ => return None,
    };
    let serial = frame.get(at..at + 8)?.try_into().ok()?;
    Some(Note {
        serial: u64::from_be_bytes(serial),
        turns: *frame.get(at + 8)?,
    })
}

fn rack(address: &str) -> u16 {
    if address.starts_with("10.0.1.") { 2 } else { 3 }
}

fn tuple(src: &str, dst: &str, proto: u8, sport: u16, dport: u16) -> Tuple {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    Tuple {
        src: ip(src),
        dst: ip(dst),
        proto,
        sport,
        dport,
    }
}
