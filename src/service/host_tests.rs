//! What the pipeline leaves to the agent, with a real switch between them: fragments, ICMP errors, spent TTLs.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use signalbox_agent::packet::{self, checksum, frame};
use signalbox_switch::ports::MemoryPort;
use signalbox_switch::runner::SwitchHandle;

use super::*;
use crate::image;

const POLICY: &str = "
network {
  port 1 clients { address 203.0.113.1/24; mac 02:00:00:00:00:01 }
  port 2 servers { address 10.0.1.1/24; mac 02:00:00:00:00:02 }
  neighbour 203.0.113.9 at 02:00:00:00:01:09
  neighbour 10.0.1.10 at 02:00:00:00:02:10
}
pool names { 10.0.1.10:5353 }
service dns : balance {
  match udp.dst 203.0.113.80:53
  pick from @names by weighted
}
managers { dns-1 serves dns }
";

const CLIENT: [u8; 4] = [203, 0, 113, 9];
const SERVICE: [u8; 4] = [203, 0, 113, 80];
const SERVER: [u8; 4] = [10, 0, 1, 10];

/// An IPv4 header, checksum right.
fn header(
    (src, dst): ([u8; 4], [u8; 4]),
    proto: u8,
    ttl: u8,
    fragment: u16,
    length: usize,
) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend_from_slice(&u16::try_from(20 + length).unwrap().to_be_bytes());
    ip.extend_from_slice(&[0x12, 0x34]);
    ip.extend_from_slice(&fragment.to_be_bytes());
    ip.extend_from_slice(&[ttl, proto, 0, 0]);
    ip.extend_from_slice(&src);
    ip.extend_from_slice(&dst);
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip
}

fn ipv4(ends: ([u8; 4], [u8; 4]), proto: u8, ttl: u8, fragment: u16, body: &[u8]) -> Vec<u8> {
    let mut ip = header(ends, proto, ttl, fragment, body.len());
    ip.extend_from_slice(body);
    ip
}

/// The checksum over a UDP datagram as it stands: 0 if the one in it is right.
fn udp_sum(src: [u8; 4], dst: [u8; 4], datagram: &[u8]) -> u16 {
    let length = u16::try_from(datagram.len()).unwrap().to_be_bytes();
    checksum(&[&src, &dst, &[0, 17], &length, datagram])
}

/// A datagram of 48 bytes from the client's port 4000 to the service.
fn datagram() -> Vec<u8> {
    let mut udp = Vec::new();
    for word in [4000u16, 53, 48, 0] {
        udp.extend_from_slice(&word.to_be_bytes());
    }
    udp.extend((0..40u8).map(|n| n.wrapping_mul(37)));
    let sum = udp_sum(CLIENT, SERVICE, &udp);
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    udp
}

struct Wires {
    switch: SwitchHandle,
    left: Receiver<(u16, Vec<u8>)>,
}

impl Wires {
    fn send(&self, port: u16, ip: &[u8]) {
        let mac = [2, 0, 0, 0, 0, u8::try_from(port).unwrap()];
        let bytes = frame(mac, [2, 0, 0, 0, 9, 9], packet::TYPE_IPV4, ip);
        self.switch.inject(port, bytes).unwrap();
    }

    /// The next IP packet to leave, and its port.
    fn next(&self) -> (u16, Vec<u8>) {
        let (port, frame) = self.left.recv_timeout(Duration::from_secs(10)).unwrap();
        (port, frame[14..].to_vec())
    }
}

// A10.7, A6.22
#[test]
fn fragments_errors_and_spent_ttls_come_through_the_switch_as_they_should() {
    let checked = signalbox_policy::check(POLICY, "dns.policy");
    let compiled = image::compile(checked.policy.unwrap()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let service = runtime.block_on(Service::start_embedded(&compiled));
    let service = service.unwrap();
    let switch = service.view().switch().cloned().unwrap();
    let (tell, left) = channel();
    for number in [1, 2] {
        let tell = tell.clone();
        let port = MemoryPort::new(move |frame: &[u8]| {
            let _ = tell.send((number, frame.to_vec()));
        });
        switch.add_port(number, Box::new(port)).unwrap();
    }
    let wires = Wires { switch, left };

    // The last fragment comes first, and the flow is new.
    let udp = datagram();
    let (first, last) = udp.split_at(24);
    wires.send(1, &ipv4((CLIENT, SERVICE), 17, 64, 3, last));
    wires.send(1, &ipv4((CLIENT, SERVICE), 17, 64, 0x2000, first));
    let mut arrived = Vec::new();
    for expected in [0x2000u16, 3] {
        let (port, ip) = wires.next();
        assert_eq!(port, 2);
        assert_eq!(checksum(&[&ip[..20]]), 0);
        assert_eq!(ip[6..8], expected.to_be_bytes());
        assert_eq!(
            (&ip[12..16], &ip[16..20], ip[8]),
            (&CLIENT[..], &SERVER[..], 63)
        );
        arrived.extend_from_slice(&ip[20..]);
    }
    assert_eq!(
        arrived[..4],
        [4000u16.to_be_bytes(), 5353u16.to_be_bytes()].concat()
    );
    assert_eq!(udp_sum(CLIENT, SERVER, &arrived), 0);
    assert_eq!(arrived[8..], udp[8..]);

    // The server has nobody at that port.
    let mut error = vec![3, 3, 0, 0, 0, 0, 0, 0];
    error.extend(ipv4((CLIENT, SERVER), 17, 63, 0, &arrived));
    let sum = checksum(&[&error]);
    error[2..4].copy_from_slice(&sum.to_be_bytes());
    wires.send(2, &ipv4((SERVER, CLIENT), 1, 64, 0, &error));
    let (port, ip) = wires.next();
    assert_eq!(
        (port, &ip[12..16], &ip[16..20]),
        (1, &SERVICE[..], &CLIENT[..])
    );
    assert_eq!((checksum(&[&ip[..20]]), checksum(&[&ip[20..]])), (0, 0));
    assert_eq!(ip[20..22], [3, 3]);
    assert_eq!(ip[28..], ipv4((CLIENT, SERVICE), 17, 63, 0, &udp));

    // A traceroute's first packet.
    let probe = ipv4((CLIENT, SERVICE), 17, 1, 0, &udp);
    wires.send(1, &probe);
    let (port, ip) = wires.next();
    assert_eq!(
        (port, &ip[12..16], &ip[16..20]),
        (1, &[203, 0, 113, 1][..], &CLIENT[..])
    );
    assert_eq!((checksum(&[&ip[..20]]), checksum(&[&ip[20..]])), (0, 0));
    assert_eq!(ip[20..22], [11, 0]);
    assert_eq!(ip[28..], probe);

    let flows = runtime.block_on(async { service.view().agent().flows().await.unwrap() });
    assert_eq!(flows.len(), 1);
    let counted = (flows[0].forward.packets, flows[0].forward.bytes);
    assert_eq!(counted, (2, 2 * 34 + 48), "both fragments, to the byte");
}
