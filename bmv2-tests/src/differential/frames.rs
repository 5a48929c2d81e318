//! Random frames: most of them for the services and from hosts that are there, some of them damaged.

use std::net::{IpAddr, SocketAddr};

use super::{Draw, Pair};
use crate::frames::{
    Path, arp_request, extend, flags, fragment_header, neighbour_message, options,
};

impl Pair<'_> {
    /// A random frame and the port that it comes in by.
    pub fn frame(&self, draw: &mut Draw) -> (u16, Vec<u8>) {
        let from = draw.pick(&self.hosts);
        let in_port = if draw.once_in(12) {
            draw.below(5) as u16
        } else {
            from.port
        };
        let mut addresses: Vec<IpAddr> = self.hosts.iter().map(|host| host.address).collect();
        addresses.extend(self.image.plan.service_addresses());
        // The services get most of it.
        addresses.extend(self.image.plan.service_addresses());
        addresses.extend(self.image.plan.service_addresses());
        addresses.extend(self.image.plan.own_addresses());
        addresses.extend(
            ["198.51.100.7", "192.0.2.1", "10.0.1.77"].map(|one| one.parse::<IpAddr>().unwrap()),
        );
        addresses.retain(|one| one.is_ipv4() == from.address.is_ipv4());
        let ports = [
            80, 443, 8000, 8010, 22, 40_000, 40_001, 40_002, 40_003, 40_004, 40_005, 40_006,
            40_007, 61_450,
        ];
        let mut source = from.address;
        if source.is_ipv4() && draw.once_in(8) {
            source = [198, 51, 100, 7].into();
        }
        let router = self
            .image
            .plan
            .ports
            .iter()
            .find(|port| port.number == in_port);
        let mut to_mac = router.map_or(from.router_mac, |port| port.mac);
        if draw.once_in(20) {
            to_mac[4] ^= 1;
        }
        let path = Path {
            from_mac: from.mac,
            to_mac,
            from: SocketAddr::new(source, draw.pick(&ports)),
            to: SocketAddr::new(draw.pick(&addresses), draw.pick(&ports)),
            ttl: draw.pick(&[64, 64, 64, 64, 64, 64, 2, 1, 0]),
        };
        let payload = vec![draw.below(256) as u8; draw.pick(&[0, 0, 1, 5, 64, 700])];
        let mut frame = match draw.below(12) {
            0..=6 => {
                let all = [
                    flags::SYN,
                    flags::ACK,
                    flags::ACK | flags::PSH,
                    flags::FIN | flags::ACK,
                    flags::RST,
                    0,
                    0x3f,
                ];
                path.tcp(draw.pick(&all), &payload)
            }
            7..=9 => path.udp(&payload),
            10 => {
                let mut frame = path.echo(draw.pick(&ports), &payload);
                // Other types: replies, errors, and what has no meaning.
                if draw.once_in(2) {
                    let icmp = if path.from.is_ipv4() { 34 } else { 54 };
                    frame[icmp] = draw.pick(&[0, 1, 3, 4, 5, 11, 12, 13, 129, 135, 200]);
                }
                frame
            }
            _ => match (path.from.ip(), path.to.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => arp_request(path.from_mac, from, to),
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    let kind = draw.pick(&[133, 134, 135, 135, 136, 137, 143]);
                    neighbour_message(kind, path.from_mac, from, to)
                }
                _ => unreachable!("of one family"),
            },
        };
        if frame[12..14] == [8, 0] && draw.once_in(16) {
            // A fragment: the first one, or a later one.
            frame[20..22].copy_from_slice(&draw.pick(&[[0x20, 0], [0x20, 9], [0, 9]]));
            mend_header_checksum(&mut frame);
        }
        if frame[12..14] == [0x86, 0xdd] && draw.once_in(3) {
            let headers: Vec<(u8, Vec<u8>)> =
                (0..1 + draw.below(5)).map(|_| extension(draw)).collect();
            frame = extend(&frame, &headers);
        }
        self.damage(draw, &mut frame);
        (in_port, frame)
    }

    /// Now and then a frame is cut, or some of its bytes are others.
    fn damage(&self, draw: &mut Draw, frame: &mut Vec<u8>) {
        if draw.once_in(12) {
            frame.truncate(draw.below(frame.len() + 1));
        }
        if !frame.is_empty() && draw.once_in(8) {
            for _ in 0..1 + draw.below(2) {
                let at = draw.below(frame.len().min(100));
                let values = [
                    0, 1, 6, 17, 0x45, 0x46, 0x55, 0xff, 0x20, 8, 43, 44, 51, 58, 60, 0x60,
                ];
                frame[at] = draw.pick(&values);
            }
            if frame.len() > 34 && frame[12..14] == [8, 0] && draw.below(4) > 0 {
                mend_header_checksum(frame);
            }
        }
    }
}

/// A random extension header: padding of any length, a fragment, authentication, or none that is known.
fn extension(draw: &mut Draw) -> (u8, Vec<u8>) {
    match draw.below(8) {
        0..=4 => {
            let units = draw.pick(&[1, 1, 1, 2, 5, 32, 33]);
            options(draw.pick(&[0, 43, 60]), units)
        }
        5 => fragment_header(draw.pick(&[0, 0, 8]), draw.once_in(2)),
        6 => {
            // RFC 4302, 2.2: the length in units of four bytes, less two.
            let mut bytes = vec![0; 15];
            bytes[0] = 2;
            (51, bytes)
        }
        _ => (draw.pick(&[50, 59, 135, 253]), vec![0; 7]),
    }
}

fn mend_header_checksum(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let length = usize::from(frame[14] & 15) * 4;
    let end = (14 + length).min(frame.len());
    let mut sum: u32 = frame[14..end]
        .chunks(2)
        .map(|two| u32::from(two[0]) << 8 | two.get(1).map_or(0, |low| u32::from(*low)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}
