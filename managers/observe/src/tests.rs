use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use signalbox_agent::flow::{PacketKind, Part, Tuple};
use signalbox_agent::message::{
    CriterionReport, DirectionReport, Report, ReportCause, Statistics, Totals,
};
use signalbox_manager::{Choice, Decide, Opening, Record, Reported};

use crate::scenarios::observed;
use crate::{Observe, Stamped, json};

/// 2026-03-01 12:34:56.789 UTC.
pub(crate) const RECEIVED: u64 = 1_772_368_496_789;

fn tuple(src: [u8; 4], sport: u16, dst: [u8; 4], dport: u16) -> Tuple {
    Tuple {
        src: IpAddr::from(src),
        dst: IpAddr::from(dst),
        proto: 6,
        sport,
        dport,
    }
}

pub(crate) fn report() -> Report {
    Report {
        flow: 0x0102_0304_0506,
        forward: Some(DirectionReport {
            tuple: tuple([203, 0, 113, 9], 40_000, [203, 0, 113, 80], 443),
            translated: None,
            totals: Totals {
                packets: 0x0a_0b0c,
                bytes: 0x0d_0e0f_1011,
            },
            tcp_flags: 0x13,
        }),
        reply: None,
        cookie: Bytes::new(),
        sequence: 7,
        cause: ReportCause::Period,
        last: false,
        age_ms: 20_000,
        idle_ms: 500,
    }
}

/// A translated flow with both of its directions.
pub(crate) fn translated() -> Report {
    let mut report = report();
    let inside = tuple([10, 0, 0, 7], 40_000, [192, 0, 2, 80], 443);
    let outside = Tuple {
        src: IpAddr::from([203, 0, 113, 100]),
        sport: 1024,
        ..inside
    };
    report.forward = Some(DirectionReport {
        tuple: inside,
        translated: Some(outside),
        totals: Totals {
            packets: 3,
            bytes: 300,
        },
        tcp_flags: 2,
    });
    report.reply = Some(DirectionReport {
        tuple: outside.reversed(),
        translated: Some(inside.reversed()),
        totals: Totals {
            packets: 2,
            bytes: 200,
        },
        tcp_flags: 0,
    });
    report
}

pub(crate) fn record(report: Report, closed: bool) -> Record {
    Record {
        agent: "agent-1".into(),
        service: "meter".into(),
        stage: 2,
        of: Reported::Flow {
            report: Box::new(report),
            closed,
        },
    }
}

pub(crate) fn flow_record() -> Record {
    record(report(), false)
}

pub(crate) fn criterion_record() -> Record {
    Record {
        of: Reported::Criterion(CriterionReport {
            id: 3,
            part: Part::Forward,
            sequence: 5,
            last: false,
            totals: Totals {
                packets: 1 << 40,
                bytes: 1 << 50,
            },
            age_ms: 60_000,
        }),
        ..flow_record()
    }
}

pub(crate) fn stamped(record: Record) -> Stamped {
    Stamped {
        received_ms: RECEIVED,
        record,
    }
}

fn line(record: Record) -> String {
    let mut out = Vec::new();
    json::line("web", &stamped(record), &mut out);
    String::from_utf8(out).unwrap()
}

// A1.11
#[test]
fn a_flows_line_has_its_fields_in_one_order() {
    assert_eq!(
        line(flow_record()),
        concat!(
            r#"{"time":"2026-03-01T12:34:56.789Z","policy":"web","agent":"agent-1","service":"meter","#,
            r#""flow":1108152157446,"sequence":7,"cause":"period","closed":false,"last":false,"#,
            r#""start":"2026-03-01T12:34:36.789Z","end":"2026-03-01T12:34:56.289Z","#,
            r#""forward":{"src":"203.0.113.9","sport":40000,"dst":"203.0.113.80","dport":443,"#,
            r#""proto":6,"packets":658188,"bytes":56070443025,"tcp_flags":19}}"#,
            "\n"
        )
    );
}

// A1.11
#[test]
fn a_translated_flows_line_tells_both_directions_before_and_after() {
    let value: Value = serde_json::from_str(&line(record(translated(), true))).unwrap();
    assert_eq!(value["closed"], true);
    assert_eq!(value["forward"]["src"], "10.0.0.7");
    assert_eq!(value["forward"]["translated"]["src"], "203.0.113.100");
    assert_eq!(value["forward"]["translated"]["sport"], 1024);
    assert_eq!(value["reply"]["dst"], "203.0.113.100");
    assert_eq!(value["reply"]["translated"]["dst"], "10.0.0.7");
    assert_eq!(value["reply"]["packets"], 2);
}

// A1.8, A1.11
#[test]
fn a_criterions_line_has_totals_of_more_than_32_bits_and_a_sequence_number() {
    assert_eq!(
        line(criterion_record()),
        concat!(
            r#"{"time":"2026-03-01T12:34:56.789Z","policy":"web","agent":"agent-1","service":"meter","#,
            r#""criterion":3,"part":"forward","sequence":5,"last":false,"#,
            r#""start":"2026-03-01T12:33:56.789Z","end":"2026-03-01T12:34:56.789Z","#,
            r#""packets":1099511627776,"bytes":1125899906842624}"#,
            "\n"
        )
    );
}

// A1.11
#[test]
fn every_cause_of_a_report_has_its_word() {
    for (cause, word) in [
        (ReportCause::Period, "period"),
        (ReportCause::Closed, "closed"),
        (ReportCause::Expired, "expired"),
        (ReportCause::Deleted, "deleted"),
        (ReportCause::HardLease, "hard_lease"),
    ] {
        let mut report = report();
        report.cause = cause;
        let value: Value = serde_json::from_str(&line(record(report, false))).unwrap();
        assert_eq!(value["cause"], word);
    }
}

#[test]
fn a_flow_older_than_the_clock_begins_at_its_epoch_and_ends_not_before_it() {
    let mut report = report();
    (report.age_ms, report.idle_ms) = (u64::MAX, u64::MAX);
    let value: Value = serde_json::from_str(&line(record(report, false))).unwrap();
    assert_eq!(value["start"], "1970-01-01T00:00:00.000Z");
    assert_eq!(value["end"], "1970-01-01T00:00:00.000Z");
}

fn decided(change: impl FnOnce(&mut signalbox_lower::plan::ServicePlan)) -> Choice {
    let mut plan = observed();
    change(&mut plan.services[0]);
    let mut observe = Observe::new(&plan.services[0]).unwrap();
    let packet = Bytes::new();
    let opening = Opening {
        flow: tuple([203, 0, 113, 9], 40_000, [203, 0, 113, 80], 443),
        kind: PacketKind::Whole,
        ingress_port: 1,
        packet: &packet,
    };
    observe.decide(Duration::ZERO, &opening, &|_| false)
}

// A1.1
#[test]
fn only_what_the_policy_asks_is_asked_of_the_agent() {
    for (every_ms, on_close, flags) in [
        (Some(10_000), true, true),
        (None, true, false),
        (Some(1_000), false, false),
    ] {
        let choice = decided(|s| {
            let plan = s.observe.as_mut().unwrap();
            (plan.every_ms, plan.on_close, plan.flags) = (every_ms, on_close, flags);
        });
        let Choice::Install(decided) = choice else {
            panic!("a flow is counted");
        };
        let wanted = Statistics {
            count: true,
            every_ms,
            on_close,
            flags,
        };
        assert_eq!(decided.statistics, Some(wanted));
    }
}

// A1.1
#[test]
fn without_per_flow_no_flow_is_counted_by_itself() {
    let choice = decided(|s| s.observe.as_mut().unwrap().per_flow = false);
    assert_eq!(choice, Choice::Fallback);
}

#[test]
fn a_service_of_another_kind_is_not_observed() {
    let plan = signalbox_agent::testing::plan();
    assert!(Observe::new(&plan.services[0]).is_none());
}
