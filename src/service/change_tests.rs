//! Another program under a running cascade of observe, balance and nat, with a real switch: what is established
//! goes on, and nothing is forgotten or counted twice.

mod division;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use signalbox_agent::flow::Tuple;
use signalbox_agent::listing::FlowStatus;
use signalbox_agent::packet::{self, checksum, frame};
use signalbox_switch::ports::MemoryPort;
use signalbox_switch::runner::SwitchHandle;

use super::*;
use crate::control::Request;
use crate::image;

const POLICY: &str = "
network {
  port 1 clients { address 203.0.113.1/24; mac 02:00:00:00:00:01 }
  port 2 servers { address 10.0.1.1/24; mac 02:00:00:00:00:02 }
  neighbour 203.0.113.9 at 02:00:00:00:01:09
  neighbour 10.0.1.10 at 02:00:00:00:02:10
  neighbour 10.0.1.50 at 02:00:00:00:02:50
}
pool names { 10.0.1.10:5353 }
service meter : observe { match udp; count packets, bytes per flow }
service dns : balance { match udp.dst 203.0.113.80:53; pick from @names by weighted }
service egress : nat { match ip.src 10.0.1.50; source 203.0.113.100 }
cascade meter > dns > egress
managers { one serves meter, dns, egress }
";

const CLIENT: [u8; 4] = [203, 0, 113, 9];
const SERVICE: [u8; 4] = [203, 0, 113, 80];
const SERVER: [u8; 4] = [10, 0, 1, 10];
const INSIDE: [u8; 4] = [10, 0, 1, 50];
const FLOWS: u16 = 20;
/// Bytes of a datagram's frame: its payload is the name of its flow and way.
const FRAME: u64 = 14 + 20 + 8 + 4;

/// Which packets: to or from the balanced service, or out and back through nat; and a flow's number.
type Way = (u8, u8);
const TO_SERVICE: u8 = 0;
const FROM_SERVER: u8 = 1;
const OUT: u8 = 2;
const BACK: u8 = 3;

/// A datagram without a UDP checksum, which RFC 768 lets be.
fn datagram(way: Way, (src, sport): ([u8; 4], u16), (dst, dport): ([u8; 4], u16)) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0];
    ip.extend(src.into_iter().chain(dst));
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    for word in [sport, dport, 12, 0] {
        ip.extend_from_slice(&word.to_be_bytes());
    }
    ip.extend_from_slice(&[0xab, way.0, way.1, 0]);
    ip
}

struct Site {
    switch: SwitchHandle,
    left: Receiver<Vec<u8>>,
    sent: u64,
    /// What has left, by flow and way.
    arrived: BTreeMap<Way, u64>,
    /// Outside ports, by flow.
    outside: BTreeMap<u8, u16>,
}

impl Site {
    fn at(switch: SwitchHandle) -> Self {
        let (tell, left) = channel();
        for number in [1, 2] {
            let tell = tell.clone();
            let port = MemoryPort::new(move |frame: &[u8]| {
                let _ = tell.send(frame.to_vec());
            });
            switch.add_port(number, Box::new(port)).unwrap();
        }
        Self {
            switch,
            left,
            sent: 0,
            arrived: BTreeMap::new(),
            outside: BTreeMap::new(),
        }
    }

    fn send(&mut self, way: Way) {
        let n = u16::from(way.1);
        let outside = self.outside.get(&way.1).copied().unwrap_or(0);
        let (port, ip) = match way.0 {
            TO_SERVICE => (1, datagram(way, (CLIENT, 4000 + n), (SERVICE, 53))),
            FROM_SERVER => (2, datagram(way, (SERVER, 5353), (CLIENT, 4000 + n))),
            OUT => (2, datagram(way, (INSIDE, 5000 + n), (CLIENT, 7000))),
            _ => (
                1,
                datagram(way, (CLIENT, 7000), ([203, 0, 113, 100], outside)),
            ),
        };
        let mac = [2, 0, 0, 0, 0, port];
        let bytes = frame(mac, [2, 0, 0, 0, 9, 9], packet::TYPE_IPV4, &ip);
        self.switch.inject(port.into(), bytes).unwrap();
        self.sent += 1;
    }

    fn send_all(&mut self, ways: &[u8]) {
        for n in 0..FLOWS as u8 {
            for way in ways {
                self.send((*way, n));
            }
        }
    }

    fn take(&mut self, patience: Duration) -> bool {
        let Ok(frame) = self.left.recv_timeout(patience) else {
            return false;
        };
        // The agent's own frames are no datagrams of ours.
        if let [0xab, way, n, 0] = frame[42..] {
            *self.arrived.entry((way, n)).or_default() += 1;
            if way == OUT {
                let sport = packet::view(&frame).unwrap().tuple.sport;
                let known = *self.outside.entry(n).or_insert(sport);
                assert_eq!(known, sport, "the outside port of flow {n}");
            }
        }
        true
    }

    /// Waits until all that was sent has left or is counted as dropped by a switch that is not ready; says how
    /// many were.
    fn settle(&mut self) -> u64 {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            while self.take(Duration::from_millis(20)) {}
            let dropped = self.dropped();
            let left: u64 = self.arrived.values().sum();
            if left + dropped == self.sent {
                return dropped;
            }
            assert!(
                Instant::now() < end,
                "{left} left, {dropped} dropped of {}",
                self.sent
            );
        }
    }

    /// Packets that found the pipeline shut.
    fn dropped(&self) -> u64 {
        let read = self.switch.call_blocking(|switch, _| {
            let counter = switch.schema().counter("Ingress.drops").unwrap();
            let cells = (0..16).map(|cell| switch.counter_read(counter, cell).unwrap().packets);
            cells.sum()
        });
        read.unwrap()
    }

    /// Packets that have left on these ways, and the bytes with which they came.
    fn left_by(&self, ways: &[u8], n: Option<u8>) -> (u64, u64) {
        let these = |way: &Way| ways.contains(&way.0) && n.is_none_or(|n| n == way.1);
        let packets = (self.arrived.iter()).filter(|(way, _)| these(way));
        let packets = packets.map(|(_, packets)| packets).sum();
        (packets, packets * FRAME)
    }

    /// Every service's counts are what has left, to the packet and byte.
    fn assert_counted(&self, flows: &[FlowStatus]) {
        let mut metered = (0, 0);
        for flow in flows {
            let forward = (flow.forward.packets, flow.forward.bytes);
            let reply = (flow.reply.packets, flow.reply.bytes);
            let expected = match flow.service.as_str() {
                "dns" => {
                    let n = Some((flow.flow.sport - 4000) as u8);
                    [TO_SERVICE, FROM_SERVER].map(|way| self.left_by(&[way], n))
                }
                "egress" => {
                    let n = Some((flow.flow.sport - 5000) as u8);
                    [OUT, BACK].map(|way| self.left_by(&[way], n))
                }
                _ => {
                    metered.0 += forward.0 + reply.0;
                    metered.1 += forward.1 + reply.1;
                    continue;
                }
            };
            assert_eq!([forward, reply], expected, "{flow:?}");
        }
        let all = [TO_SERVICE, FROM_SERVER, OUT, BACK];
        assert_eq!(metered, self.left_by(&all, None), "what meter has counted");
    }
}

/// What a flow is, without how long and how much.
fn decided(flows: &[FlowStatus]) -> Vec<(String, Tuple, Option<Tuple>, Option<Tuple>)> {
    let of = |f: &FlowStatus| (f.service.clone(), f.flow, f.translated, f.back);
    flows.iter().map(of).collect()
}

// A1.2, A1.7, A2.14, A4.6
#[test]
fn another_program_under_a_running_cascade_loses_no_affinity_tuple_or_count() {
    let checked = signalbox_policy::check(POLICY, "site.policy");
    let compiled = image::compile(checked.policy.unwrap()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let service = runtime.block_on(Service::start_embedded(&compiled));
    let service = service.unwrap();
    let mut site = Site::at(service.view().switch().cloned().unwrap());
    let flows = || runtime.block_on(async { service.view().agent().flows().await.unwrap() });
    let interests = || {
        let status = async { service.view().agent().status(false).await.unwrap() };
        runtime.block_on(status).counters.interests
    };

    // All flows, and some packets of each.
    for ways in [&[TO_SERVICE, OUT][..], &[FROM_SERVER, BACK]] {
        site.send_all(ways);
        assert_eq!(site.settle(), 0);
    }
    let all = [TO_SERVICE, FROM_SERVER, OUT, BACK];
    site.send_all(&all);
    assert_eq!(site.settle(), 0);
    let before = flows();
    // A connection is one flow of dns or egress, and two of meter.
    assert_eq!(before.len(), 2 * 3 * usize::from(FLOWS));
    site.assert_counted(&before);
    let asked = interests();

    // A filter before all of them moves every stage; packets keep coming.
    let changed = POLICY
        .replace(
            "service meter",
            "service late : filter { deny icmp }\nservice meter",
        )
        .replace("cascade meter", "cascade late > meter");
    let wanted = Wanted {
        file: "site.policy".into(),
        text: changed,
        dry_run: false,
    };
    let view = service.view().clone();
    let applying = runtime.spawn(async move { view.answer(Request::Apply(wanted)).await });
    let mut n = 0;
    while !applying.is_finished() {
        for way in all {
            site.send((way, n % FLOWS as u8));
        }
        n = n.wrapping_add(1);
        std::thread::sleep(Duration::from_millis(1));
    }
    let report = runtime.block_on(applying).unwrap().unwrap();
    let applied = &report["applied"];
    assert_eq!(applied["program"], true, "{report}");
    assert_eq!(applied["kept"], before.len(), "{report}");
    assert_eq!(applied["ended"], 0, "{report}");
    assert!(applied["gap_us"].as_u64() > Some(0), "{report}");
    assert_eq!(applied["refused"].as_array().map(Vec::len), Some(0));

    // What came while the pipeline was shut is dropped and counted; everything else has gone on.
    let shut = site.settle();
    site.send_all(&all);
    assert_eq!(site.settle(), shut, "established flows go on");
    let after = flows();
    assert_eq!(decided(&after), decided(&before));
    site.assert_counted(&after);
    assert_eq!(interests(), asked, "no manager was asked again");
}
