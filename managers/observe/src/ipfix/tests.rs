use netflow_parser::variable_versions::field_value::{DurationValue, FieldValue};
use netflow_parser::variable_versions::ipfix::lookup::{IANAIPFixField, IPFixField};
use netflow_parser::{DataNumber, NetflowPacket, NetflowParser};

use super::*;
use crate::tests::{RECEIVED, criterion_record, flow_record, record, report, stamped, translated};

fn template_of(id: u16) -> Template {
    TEMPLATES.into_iter().find(|t| t.id == id).unwrap()
}

fn messages(encoder: &mut Encoder, now_ms: u64, records: &[Stamped]) -> Vec<Vec<u8>> {
    (encoder.encode(now_ms, records).into_iter())
        .map(|m| m.bytes)
        .collect()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The ids of a message's sets.
fn sets(bytes: &[u8]) -> Vec<u16> {
    let mut ids = Vec::new();
    let mut at = HEADER;
    while at < bytes.len() {
        ids.push(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        at += usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
    }
    assert_eq!(at, bytes.len(), "set lengths fill the message");
    ids
}

// A1.12
#[test]
fn a_message_is_rfc_7011s_to_the_byte() {
    let mut encoder = Encoder::new("web");
    let first = messages(&mut encoder, RECEIVED, &[stamped(flow_record())]);
    let [first] = &first[..] else {
        panic!("one message");
    };
    assert_eq!(sets(first), [2, 256]);
    let second = messages(&mut encoder, RECEIVED + 1000, &[stamped(flow_record())]);
    let mut wanted = Vec::new();
    // Header: version, length, export time, sequence (one record before), domain.
    wanted.extend_from_slice(&[0, 10, 0, 84]);
    wanted.extend_from_slice(&1_772_368_497_u32.to_be_bytes());
    wanted.extend_from_slice(&[0, 0, 0, 1]);
    wanted.extend_from_slice(&observation_domain("web", "agent-1").to_be_bytes());
    // Data set.
    wanted.extend_from_slice(&[1, 0, 0, 68]);
    // Start and end.
    wanted.extend_from_slice(&(RECEIVED - 20_000).to_be_bytes());
    wanted.extend_from_slice(&(RECEIVED - 500).to_be_bytes());
    // Flow, observation point, packets, bytes.
    wanted.extend_from_slice(&[0, 0, 1, 2, 3, 4, 5, 6]);
    wanted.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 2]);
    wanted.extend_from_slice(&[0, 0, 0, 0, 0, 0x0a, 0x0b, 0x0c]);
    wanted.extend_from_slice(&[0, 0, 0, 0x0d, 0x0e, 0x0f, 0x10, 0x11]);
    // Ports, protocol, reason, flags, addresses.
    wanted.extend_from_slice(&[0x9c, 0x40, 0x01, 0xbb, 6, 2, 0, 0x13]);
    wanted.extend_from_slice(&[203, 0, 113, 9, 203, 0, 113, 80]);
    assert_eq!(second, [wanted]);
}

// A1.12
#[test]
fn templates_say_what_records_hold() {
    let mut wide = report();
    let forward = wide.forward.as_mut().unwrap();
    (forward.tuple.src, forward.tuple.dst) = (
        "2001:db8::9".parse().unwrap(),
        "2001:db8::80".parse().unwrap(),
    );
    let mut wide_translated = wide.clone();
    let forward = wide_translated.forward.as_mut().unwrap();
    forward.translated = Some(forward.tuple);
    // IPv4 into IPv6: one record has one family.
    let mut mixed = wide_translated.clone();
    let forward = mixed.forward.as_mut().unwrap();
    forward.tuple.src = "203.0.113.9".parse().unwrap();
    forward.tuple.dst = "203.0.113.80".parse().unwrap();
    for (record, id) in [
        (flow_record(), 256),
        (record(wide, false), 257),
        (record(translated(), false), 258),
        (record(wide_translated, false), 259),
        (record(mixed, false), 259),
        (criterion_record(), 260),
    ] {
        let mut made = Vec::new();
        data_records(&stamped(record), &mut made);
        for (template, bytes) in made {
            assert_eq!(template, id);
            let fields = template_of(id).fields.iter().copied().flatten();
            let wanted: usize = fields.map(|(_, length)| usize::from(*length)).sum();
            assert_eq!(bytes.len(), wanted, "template {id}");
        }
    }
    let criterion = template_record(CRITERION);
    let wanted: [u16; 16] = [
        260, 7, 152, 8, 153, 8, 302, 8, 138, 8, 86, 8, 353, 8, 136, 1,
    ];
    let wanted: Vec<u8> = wanted.into_iter().flat_map(u16::to_be_bytes).collect();
    assert_eq!(criterion, wanted);
}

// A1.12
#[test]
fn the_end_reason_tells_a_closed_flow_from_an_idle_one() {
    for (cause, closed, reason) in [
        (ReportCause::Period, false, 2),
        (ReportCause::HardLease, false, 2),
        (ReportCause::Closed, true, 3),
        (ReportCause::Expired, false, 1),
        (ReportCause::Expired, true, 3),
        (ReportCause::Deleted, false, 4),
    ] {
        let mut report = report();
        report.cause = cause;
        assert_eq!(EndReason::of(&report, closed) as u8, reason, "{cause:?}");
    }
}

#[test]
fn templates_come_again_by_time_by_number_of_messages_and_when_asked_for() {
    let mut encoder = Encoder::new("web");
    let mut with_templates = |now: u64| {
        let sent = messages(&mut encoder, now, &[stamped(flow_record())]);
        sets(&sent[0]).contains(&TEMPLATE_SET)
    };
    assert!(with_templates(0));
    assert!(!with_templates(1));
    assert!(!with_templates(TEMPLATES_EVERY_MS - 1));
    assert!(with_templates(TEMPLATES_EVERY_MS));
    for _ in 1..TEMPLATES_EVERY_MESSAGES {
        assert!(!with_templates(TEMPLATES_EVERY_MS));
    }
    assert!(with_templates(TEMPLATES_EVERY_MS));
    encoder.resend_templates();
    let sent = messages(
        &mut encoder,
        TEMPLATES_EVERY_MS,
        &[stamped(flow_record()), stamped(flow_record())],
    );
    assert!(sets(&sent[0]).contains(&TEMPLATE_SET));
}

#[test]
fn each_agent_is_a_domain_with_a_sequence_of_its_own_that_wraps() {
    let mut other = flow_record();
    other.agent = "agent-2".into();
    let mut encoder = Encoder::new("web");
    let one = observation_domain("web", "agent-1");
    let two = observation_domain("web", "agent-2");
    assert_ne!(one, two);
    assert_ne!(one, observation_domain("we", "bagent-1"));
    let batch = [
        stamped(flow_record()),
        stamped(other),
        stamped(flow_record()),
    ];
    encoder.encode(0, &batch);
    encoder.domains.get_mut(&two).unwrap().sequence = u32::MAX;
    encoder.encode(0, &batch);
    let sent: Vec<(u32, u32)> = (messages(&mut encoder, 0, &batch).iter())
        .map(|m| (u32_at(m, 12), u32_at(m, 8)))
        .collect();
    let mut wanted = [(one, 4), (two, 0)];
    wanted.sort_unstable();
    assert_eq!(sent, wanted);
}

#[test]
fn no_message_is_longer_than_a_packet_of_512_bytes_lets_it_be() {
    let batch: Vec<Stamped> = (0..50)
        .map(|n| match n % 3 {
            0 => stamped(flow_record()),
            1 => stamped(criterion_record()),
            _ => stamped(record(translated(), false)),
        })
        .collect();
    let sent = Encoder::new("web").encode(0, &batch);
    assert!(sent.len() > 1);
    for message in &sent {
        assert!(message.bytes.len() <= MESSAGE_MAX);
        sets(&message.bytes);
    }
    // 17 flows, 17 criteria, 16 flows with two directions.
    assert_eq!(sent.iter().map(|m| m.records).sum::<u32>(), 17 + 17 + 32);
}

/// Every data record that somebody else's collector reads of these messages, as IANA's names and its values.
fn collected(sent: &[Vec<u8>]) -> Vec<Vec<(IANAIPFixField, FieldValue)>> {
    let mut collector = NetflowParser::default();
    let mut records = Vec::new();
    for message in sent {
        let result = collector.parse_bytes(message);
        assert!(result.error.is_none(), "{:?}", result.error);
        for packet in result.packets {
            let NetflowPacket::IPFix(packet) = packet else {
                panic!("IPFIX was sent");
            };
            for set in packet.flowsets {
                let netflow_parser::variable_versions::ipfix::FlowSetBody::Data(data) = set.body
                else {
                    continue;
                };
                for fields in data.fields {
                    records.push(
                        (fields.into_iter())
                            .map(|(field, value)| {
                                let IPFixField::IANA(name) = field else {
                                    panic!("{field:?} is not IANA's");
                                };
                                (name, value)
                            })
                            .collect(),
                    );
                }
            }
        }
    }
    records
}

/// A value as a collector's user would write it.
fn text(value: &FieldValue) -> String {
    match value {
        FieldValue::DataNumber(DataNumber::U16(number)) => number.to_string(),
        FieldValue::DataNumber(DataNumber::U64(number)) => number.to_string(),
        FieldValue::Duration(DurationValue::Millis { value, .. }) => value.to_string(),
        FieldValue::Ip4Addr(address) => address.to_string(),
        FieldValue::Ip6Addr(address) => address.to_string(),
        FieldValue::ProtocolType(protocol) => format!("{protocol:?}"),
        FieldValue::FlowEndReason(reason) => format!("{reason:?}"),
        FieldValue::TcpControlBits(bits, _) => u16::from(*bits).to_string(),
        other => panic!("{other:?} is of no type that was sent"),
    }
}

// A1.12
#[test]
fn a_collector_of_others_reads_flows_of_both_families_criteria_and_post_nat_fields() {
    let mut wide = report();
    wide.cause = ReportCause::Expired;
    let forward = wide.forward.as_mut().unwrap();
    forward.tuple.src = "2001:db8::9".parse().unwrap();
    forward.tuple.dst = "2001:db8::80".parse().unwrap();
    let mut wide_translated = wide.clone();
    wide_translated.cause = ReportCause::Deleted;
    let forward = wide_translated.forward.as_mut().unwrap();
    let mut to = forward.tuple;
    to.src = "2001:db8:f::1".parse().unwrap();
    to.sport = 1025;
    forward.translated = Some(to);
    let batch = [
        stamped(flow_record()),
        stamped(record(wide, true)),
        stamped(record(translated(), false)),
        stamped(record(wide_translated, false)),
        stamped(criterion_record()),
    ];
    let sent = messages(&mut Encoder::new("web"), RECEIVED, &batch);
    let collected: Vec<Vec<(String, String)>> = (collected(&sent).iter())
        .map(|fields| {
            (fields.iter())
                .map(|(name, value)| (format!("{name:?}"), text(value)))
                .collect()
        })
        .collect();
    let start = (RECEIVED - 20_000).to_string();
    let end = (RECEIVED - 500).to_string();
    let flow = |packets: &str, octets: &str, ports: [&str; 2], reason: &str, flags: &str| {
        vec![
            ("FlowStartMilliseconds", start.clone()),
            ("FlowEndMilliseconds", end.clone()),
            ("FlowId", 0x0102_0304_0506_u64.to_string()),
            ("ObservationPointId", "2".into()),
            ("PacketTotalCount", packets.into()),
            ("Layer2octetTotalCount", octets.into()),
            ("SourceTransportPort", ports[0].into()),
            ("DestinationTransportPort", ports[1].into()),
            ("ProtocolIdentifier", "Tcp".into()),
            ("FlowEndReason", reason.into()),
            ("TcpControlBits", flags.into()),
        ]
    };
    let v4 = |src: &str, dst: &str| {
        vec![
            ("SourceIpv4address", src.into()),
            ("DestinationIpv4address", dst.into()),
        ]
    };
    let v6 = |src: &str, dst: &str| {
        vec![
            ("SourceIpv6address", src.into()),
            ("DestinationIpv6address", dst.into()),
        ]
    };
    let ports = |src: &str, dst: &str| {
        vec![
            ("PostNaptsourceTransportPort", src.into()),
            ("PostNaptdestinationTransportPort", dst.into()),
        ]
    };
    let (packets, octets) = ("658188", "56070443025");
    let wanted: Vec<Vec<(&str, String)>> = vec![
        [
            flow(packets, octets, ["40000", "443"], "ActiveTimeout", "19"),
            v4("203.0.113.9", "203.0.113.80"),
        ]
        .concat(),
        [
            flow(packets, octets, ["40000", "443"], "EndOfFlow", "19"),
            v6("2001:db8::9", "2001:db8::80"),
        ]
        .concat(),
        [
            flow("3", "300", ["40000", "443"], "ActiveTimeout", "2"),
            v4("10.0.0.7", "192.0.2.80"),
            ports("1024", "443"),
            vec![
                ("PostNatsourceIpv4address", "203.0.113.100".into()),
                ("PostNatdestinationIpv4address", "192.0.2.80".into()),
            ],
        ]
        .concat(),
        [
            flow("2", "200", ["443", "1024"], "ActiveTimeout", "0"),
            v4("192.0.2.80", "203.0.113.100"),
            ports("443", "40000"),
            vec![
                ("PostNatsourceIpv4address", "192.0.2.80".into()),
                ("PostNatdestinationIpv4address", "10.0.0.7".into()),
            ],
        ]
        .concat(),
        [
            flow(packets, octets, ["40000", "443"], "ForcedEnd", "19"),
            v6("2001:db8::9", "2001:db8::80"),
            ports("1025", "443"),
            vec![
                ("PostNatsourceIpv6address", "2001:db8:f::1".into()),
                ("PostNatdestinationIpv6address", "2001:db8::80".into()),
            ],
        ]
        .concat(),
        vec![
            ("FlowStartMilliseconds", (RECEIVED - 60_000).to_string()),
            ("FlowEndMilliseconds", RECEIVED.to_string()),
            ("SelectorId", "3".into()),
            ("ObservationPointId", "2".into()),
            ("PacketTotalCount", (1_u64 << 40).to_string()),
            ("Layer2octetTotalCount", (1_u64 << 50).to_string()),
            ("FlowEndReason", "ActiveTimeout".into()),
        ],
    ];
    assert_eq!(collected.len(), wanted.len());
    for (got, wanted) in collected.iter().zip(&wanted) {
        let got: Vec<(&str, String)> = got.iter().map(|(n, v)| (n.as_str(), v.clone())).collect();
        assert_eq!(&got, wanted);
    }
}
