//! Reports as JSON lines: one object a report, its fields always in the same order. Pure.

use std::net::IpAddr;

use serde::Serialize;
use signalbox_agent::flow::{Part, Tuple};
use signalbox_agent::message::{CriterionReport, DirectionReport, Report, ReportCause};
use signalbox_manager::Reported;

use crate::Stamped;
use crate::time::{Span, rfc3339};

/// A flow's report.
#[derive(Serialize)]
struct FlowLine<'a> {
    time: String,
    policy: &'a str,
    agent: &'a str,
    service: &'a str,
    flow: u64,
    sequence: u64,
    cause: &'static str,
    closed: bool,
    last: bool,
    start: String,
    end: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    forward: Option<DirectionFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<DirectionFields>,
}

/// One direction of a flow.
#[derive(Serialize)]
struct DirectionFields {
    #[serde(flatten)]
    tuple: Ends,
    proto: u8,
    packets: u64,
    bytes: u64,
    tcp_flags: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    translated: Option<Ends>,
}

#[derive(Serialize)]
struct Ends {
    src: IpAddr,
    sport: u16,
    dst: IpAddr,
    dport: u16,
}

/// A criterion's report.
#[derive(Serialize)]
struct CriterionLine<'a> {
    time: String,
    policy: &'a str,
    agent: &'a str,
    service: &'a str,
    criterion: u32,
    part: Part,
    sequence: u64,
    last: bool,
    start: String,
    end: String,
    packets: u64,
    bytes: u64,
}

/// Adds a record's line to `out`, its line break included.
pub fn line(policy: &str, stamped: &Stamped, out: &mut Vec<u8>) {
    let written = match &stamped.record.of {
        Reported::Flow { report, closed } => {
            serde_json::to_writer(&mut *out, &flow(policy, stamped, report, *closed))
        }
        Reported::Criterion(report) => {
            serde_json::to_writer(&mut *out, &criterion(policy, stamped, report))
        }
    };
    // A vector takes everything, and these types have a JSON form.
    if written.is_ok() {
        out.push(b'\n');
    }
}

fn flow<'a>(policy: &'a str, stamped: &'a Stamped, report: &Report, closed: bool) -> FlowLine<'a> {
    let span = Span::of_flow(stamped, report);
    FlowLine {
        time: rfc3339(stamped.received_ms),
        policy,
        agent: &stamped.record.agent,
        service: &stamped.record.service,
        flow: report.flow,
        sequence: report.sequence,
        cause: match report.cause {
            ReportCause::Period => "period",
            ReportCause::Closed => "closed",
            ReportCause::Expired => "expired",
            ReportCause::Deleted => "deleted",
            ReportCause::HardLease => "hard_lease",
        },
        closed,
        last: report.last,
        start: rfc3339(span.start_ms),
        end: rfc3339(span.end_ms),
        forward: report.forward.as_ref().map(direction),
        reply: report.reply.as_ref().map(direction),
    }
}

fn direction(report: &DirectionReport) -> DirectionFields {
    DirectionFields {
        tuple: ends(&report.tuple),
        proto: report.tuple.proto,
        packets: report.totals.packets,
        bytes: report.totals.bytes,
        tcp_flags: report.tcp_flags,
        translated: report.translated.as_ref().map(ends),
    }
}

fn ends(tuple: &Tuple) -> Ends {
    Ends {
        src: tuple.src,
        sport: tuple.sport,
        dst: tuple.dst,
        dport: tuple.dport,
    }
}

fn criterion<'a>(
    policy: &'a str,
    stamped: &'a Stamped,
    report: &CriterionReport,
) -> CriterionLine<'a> {
    let span = Span::of_criterion(stamped, report.age_ms);
    CriterionLine {
        time: rfc3339(stamped.received_ms),
        policy,
        agent: &stamped.record.agent,
        service: &stamped.record.service,
        criterion: report.id,
        part: report.part,
        sequence: report.sequence,
        last: report.last,
        start: rfc3339(span.start_ms),
        end: rfc3339(span.end_ms),
        packets: report.totals.packets,
        bytes: report.totals.bytes,
    }
}
