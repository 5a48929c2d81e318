//! Reports of a running service, as a reader of the file and a collector get them.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::Duration;

use netflow_parser::variable_versions::field_value::{DataNumber, FieldValue};
use netflow_parser::variable_versions::ipfix::FlowSetBody;
use netflow_parser::variable_versions::ipfix::lookup::{IANAIPFixField, IPFixField};
use netflow_parser::{NetflowPacket, NetflowParser};
use serde_json::Value;

use crate::commands::{code, errors, signalbox, text};
use crate::process::Folder;
use crate::running::{pcap, policy_of_files, segment};

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A client's port, packets and bytes, from the client's direction of a flow.
type Counted = BTreeMap<u64, (u64, u64)>;

fn number(value: &FieldValue) -> u64 {
    match value {
        FieldValue::DataNumber(DataNumber::U16(n)) => u64::from(*n),
        FieldValue::DataNumber(DataNumber::U64(n)) => *n,
        other => panic!("{other:?} is no number that was sent"),
    }
}

/// What a collector that others wrote has read of these datagrams.
fn collected(datagrams: &[Vec<u8>]) -> Counted {
    let mut collector = NetflowParser::default();
    let mut counted = Counted::new();
    for datagram in datagrams {
        let result = collector.parse_bytes(datagram);
        assert!(result.error.is_none(), "{:?}", result.error);
        for packet in result.packets {
            let NetflowPacket::IPFix(packet) = packet else {
                panic!("IPFIX was sent");
            };
            for set in packet.flowsets {
                let FlowSetBody::Data(data) = set.body else {
                    assert!(!matches!(set.body, FlowSetBody::NoTemplate(_)));
                    continue;
                };
                for record in &data.fields {
                    let field = |wanted: IANAIPFixField| {
                        let of = IPFixField::IANA(wanted);
                        let found = record.iter().find(|(name, _)| *name == of);
                        number(&found.unwrap().1)
                    };
                    if field(IANAIPFixField::DestinationTransportPort) == 80 {
                        let port = field(IANAIPFixField::SourceTransportPort);
                        let packets = field(IANAIPFixField::PacketTotalCount);
                        let octets = field(IANAIPFixField::Layer2octetTotalCount);
                        counted.insert(port, (packets, octets));
                    }
                }
            }
        }
    }
    counted
}

// A1.2, A1.6, A1.11, A1.12
#[test]
fn closed_flows_of_a_capture_are_reported_to_a_file_and_a_collector_as_the_capture_has_them() {
    let folder = Folder::new();
    let policy = policy_of_files(&folder);
    let mut packets = Vec::new();
    let mut wanted = Counted::new();
    for port in 10_000..10_020u16 {
        let acks = u64::from(port % 5);
        let middle = (0..acks).map(|_| ACK);
        for flags in std::iter::once(SYN).chain(middle).chain([RST]) {
            packets.push((packets.len() as u64 * 20_000, segment(port, flags)));
        }
        wanted.insert(u64::from(port), (2 + acks, 54 * (2 + acks)));
    }
    // Half a second in which the last reports arrive: flows that nobody closes, so that none is made.
    let end = packets.len() as u64 * 20_000;
    packets.extend((1..6u16).map(|n| (end + u64::from(n) * 100_000, segment(30_000 + n, SYN))));
    let input = folder.write("clients.pcap", pcap(&packets));
    let lines = folder.file("flows.jsonl");
    let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = collector.local_addr().unwrap().to_string();
    let output = signalbox(&[
        "run",
        text(&policy),
        "--pcap-in",
        &format!("clients={}", text(&input)),
        "--pcap-out",
        text(&folder.file("out")),
        "--control",
        text(&folder.file("control.sock")),
        "--report-json",
        text(&lines),
        "--report-ipfix",
        &address,
    ]);
    assert_eq!(code(&output), 0, "{}", errors(&output));

    let mut written = Counted::new();
    for line in std::fs::read_to_string(&lines).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["service"], &line["cause"]),
            (&"web-lb".into(), &"closed".into())
        );
        let way = &line["forward"];
        assert_eq!(way["translated"]["dst"], "10.0.1.10");
        let field = |name: &str| way[name].as_u64().unwrap();
        written.insert(field("sport"), (field("packets"), field("bytes")));
    }
    assert_eq!(written, wanted);

    // All of it has been sent, or never will be.
    collector
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let mut datagrams = Vec::new();
    let mut buffer = [0; 2048];
    while let Ok(length) = collector.recv(&mut buffer) {
        datagrams.push(buffer[..length].to_vec());
    }
    assert_eq!(collected(&datagrams), wanted);
}
