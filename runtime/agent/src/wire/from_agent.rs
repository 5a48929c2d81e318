//! An agent's messages.

use super::WireError::{self, Missing, Range};
use super::parts::{
    read_affinity, read_events, read_kind, read_optional_tuple, read_part, read_reason,
    read_some_tuple, read_state, read_totals, small, write_affinity, write_kind, write_part,
    write_reason, write_state, write_totals, write_tuple,
};
use super::pb::{self, from_agent::Body};
use crate::message::{
    AgentBody, CriterionReport, Denied, DirectionReport, Ended, Heartbeat, InstalledAffinity,
    Interest, Report, ReportCause, ShareEpoch, Subject, ToManager, Welcome,
};

/// Writes an agent's message.
#[must_use]
pub fn write_from_agent(m: &ToManager) -> pb::FromAgent {
    let body = match &m.body {
        AgentBody::Welcome(w) => Body::Welcome(pb::Welcome {
            version: w.version,
            agent: w.agent.to_string(),
            plan_hash: w.plan_hash,
            shares: (w.shares.iter())
                .map(|s| pb::ShareEpoch {
                    service: s.service.to_string(),
                    share: s.share,
                    epoch: s.epoch,
                })
                .collect(),
        }),
        AgentBody::Refused { reason, text } => Body::Refused(pb::Refused {
            reason: write_reason(*reason),
            text: text.clone(),
        }),
        AgentBody::Interest(i) => Body::Interest(pb::Interest {
            request: i.request,
            stage: i.stage.into(),
            part: write_part(i.part),
            flow: Some(write_tuple(&i.flow)),
            kind: write_kind(i.kind),
            reply: i.state.reply,
            events: i.events.into(),
            entry: i.state.entry,
            packet: i.packet.clone(),
            state: Some(write_state(&i.state)),
        }),
        AgentBody::Report(r) => Body::Report(pb::Report {
            flow: r.flow,
            forward: r.forward.as_ref().map(write_direction),
            reply: r.reply.as_ref().map(write_direction),
            cookie: r.cookie.clone(),
            sequence: r.sequence,
            cause: match r.cause {
                ReportCause::Period => pb::ReportCause::Period,
                ReportCause::Closed => pb::ReportCause::FlowClosed,
                ReportCause::Expired => pb::ReportCause::LeaseExpired,
                ReportCause::Deleted => pb::ReportCause::FlowDeleted,
                ReportCause::HardLease => pb::ReportCause::HardLeaseExpired,
            } as i32,
            r#final: r.last,
            age_ms: r.age_ms,
            idle_ms: r.idle_ms,
        }),
        AgentBody::CriterionReport(r) => Body::CriterionReport(pb::CriterionReport {
            id: r.id,
            part: write_part(r.part),
            sequence: r.sequence,
            r#final: r.last,
            totals: Some(write_totals(r.totals)),
            age_ms: r.age_ms,
        }),
        AgentBody::Denied(d) => Body::Denied(pb::Denied {
            reason: write_reason(d.reason),
            text: d.text.clone(),
            subject: Some(write_subject(d.subject)),
        }),
        AgentBody::Expired(e) => Body::Expired(write_ended(e)),
        AgentBody::Deleted(e) => Body::Deleted(write_ended(e)),
        AgentBody::HeartbeatAck(h) => Body::HeartbeatAck(pb::HeartbeatAck {
            sequence: h.sequence,
            criteria_version: h.criteria_version,
        }),
        AgentBody::Resync { have_version } => Body::Resync(pb::Resync {
            have_version: *have_version,
        }),
        AgentBody::Affinities {
            request,
            piece,
            list,
            last,
        } => Body::Affinities(pb::Affinities {
            request: *request,
            piece: *piece,
            list: (list.iter())
                .map(|i| pb::InstalledAffinity {
                    affinity: Some(write_affinity(&i.affinity)),
                    age_ms: i.age_ms,
                    packets: i.totals.packets,
                    bytes: i.totals.bytes,
                    established: i.established,
                    closed: i.closed,
                    share: i.share,
                })
                .collect(),
            last: *last,
        }),
        AgentBody::Arrived { packet, port } => Body::Arrived(pb::Arrived {
            packet: packet.clone(),
            port: (*port).into(),
        }),
    };
    pb::FromAgent {
        service: m.service.to_string(),
        share: m.share,
        epoch: m.epoch,
        body: Some(body),
    }
}

fn write_direction(d: &DirectionReport) -> pb::DirectionReport {
    pb::DirectionReport {
        r#match: Some(write_tuple(&d.tuple)),
        translated: d.translated.as_ref().map(write_tuple),
        totals: Some(write_totals(d.totals)),
        tcp_flags: d.tcp_flags.into(),
    }
}

fn read_direction(d: Option<&pb::DirectionReport>) -> Result<Option<DirectionReport>, WireError> {
    d.map(|d| {
        Ok(DirectionReport {
            tuple: read_some_tuple(d.r#match.as_ref())?,
            translated: read_optional_tuple(d.translated.as_ref())?,
            totals: read_totals(d.totals.as_ref()),
            tcp_flags: small(d.tcp_flags, "tcp_flags")?,
        })
    })
    .transpose()
}

fn write_subject(subject: Subject) -> pb::denied::Subject {
    use pb::denied::Subject as S;
    match subject {
        Subject::Verdict(n) => S::Verdict(n),
        Subject::Install(n) => S::Install(n),
        Subject::Delete(n) => S::Delete(n),
        Subject::Inject(n) => S::Inject(n),
        Subject::List(n) => S::ListAffinities(n),
        Subject::Criteria(n) => S::Criteria(n),
        Subject::Heartbeat(n) => S::Heartbeat(n),
        Subject::Goodbye => S::Goodbye(pb::Goodbye {}),
    }
}

fn read_subject(subject: Option<pb::denied::Subject>) -> Result<Subject, WireError> {
    use pb::denied::Subject as S;
    Ok(match subject.ok_or(Missing("subject"))? {
        S::Verdict(n) => Subject::Verdict(n),
        S::Install(n) => Subject::Install(n),
        S::Delete(n) => Subject::Delete(n),
        S::Inject(n) => Subject::Inject(n),
        S::ListAffinities(n) => Subject::List(n),
        S::Criteria(n) => Subject::Criteria(n),
        S::Heartbeat(n) => Subject::Heartbeat(n),
        S::Goodbye(_) => Subject::Goodbye,
    })
}

fn write_ended(e: &Ended) -> pb::Ended {
    pb::Ended {
        flow: e.flow,
        forward: e.forward.as_ref().map(write_tuple),
        reply: e.reply.as_ref().map(write_tuple),
        cookie: e.cookie.clone(),
        request: e.request,
    }
}

fn read_ended(e: pb::Ended) -> Result<Ended, WireError> {
    Ok(Ended {
        flow: e.flow,
        forward: read_optional_tuple(e.forward.as_ref())?,
        reply: read_optional_tuple(e.reply.as_ref())?,
        cookie: e.cookie,
        request: e.request,
    })
}

/// Reads an agent's message.
///
/// # Errors
/// A field is missing or out of range.
pub fn read_from_agent(m: pb::FromAgent) -> Result<ToManager, WireError> {
    let body = match m.body.ok_or(Missing("body"))? {
        Body::Welcome(w) => AgentBody::Welcome(Welcome {
            version: w.version,
            agent: w.agent.into(),
            plan_hash: w.plan_hash,
            shares: (w.shares.into_iter())
                .map(|s| ShareEpoch {
                    service: s.service.into(),
                    share: s.share,
                    epoch: s.epoch,
                })
                .collect(),
        }),
        Body::Refused(r) => AgentBody::Refused {
            reason: read_reason(r.reason)?,
            text: r.text,
        },
        Body::Interest(i) => AgentBody::Interest(Interest {
            request: i.request,
            stage: small(i.stage, "stage")?,
            part: read_part(i.part)?,
            flow: read_some_tuple(i.flow.as_ref())?,
            kind: read_kind(i.kind)?,
            events: read_events(i.events)?,
            packet: i.packet,
            state: read_state(i.state.as_ref().ok_or(Missing("state"))?)?,
        }),
        Body::Report(r) => AgentBody::Report(Box::new(Report {
            flow: r.flow,
            forward: read_direction(r.forward.as_ref())?,
            reply: read_direction(r.reply.as_ref())?,
            cookie: r.cookie,
            sequence: r.sequence,
            cause: match pb::ReportCause::try_from(r.cause) {
                Ok(pb::ReportCause::Period) => ReportCause::Period,
                Ok(pb::ReportCause::FlowClosed) => ReportCause::Closed,
                Ok(pb::ReportCause::LeaseExpired) => ReportCause::Expired,
                Ok(pb::ReportCause::FlowDeleted) => ReportCause::Deleted,
                Ok(pb::ReportCause::HardLeaseExpired) => ReportCause::HardLease,
                _ => return Err(Range("cause")),
            },
            last: r.r#final,
            age_ms: r.age_ms,
            idle_ms: r.idle_ms,
        })),
        Body::CriterionReport(r) => AgentBody::CriterionReport(CriterionReport {
            id: r.id,
            part: read_part(r.part)?,
            sequence: r.sequence,
            last: r.r#final,
            totals: read_totals(r.totals.as_ref()),
            age_ms: r.age_ms,
        }),
        Body::Denied(d) => AgentBody::Denied(Denied {
            subject: read_subject(d.subject)?,
            reason: read_reason(d.reason)?,
            text: d.text,
        }),
        Body::Expired(e) => AgentBody::Expired(read_ended(e)?),
        Body::Deleted(e) => AgentBody::Deleted(read_ended(e)?),
        Body::HeartbeatAck(h) => AgentBody::HeartbeatAck(Heartbeat {
            sequence: h.sequence,
            criteria_version: h.criteria_version,
        }),
        Body::Resync(r) => AgentBody::Resync {
            have_version: r.have_version,
        },
        Body::Affinities(a) => AgentBody::Affinities {
            request: a.request,
            piece: a.piece,
            list: (a.list.iter())
                .map(|i| {
                    Ok(InstalledAffinity {
                        affinity: read_affinity(i.affinity.as_ref().ok_or(Missing("affinity"))?)?,
                        share: i.share,
                        age_ms: i.age_ms,
                        totals: crate::message::Totals {
                            packets: i.packets,
                            bytes: i.bytes,
                        },
                        established: i.established,
                        closed: i.closed,
                    })
                })
                .collect::<Result<_, WireError>>()?,
            last: a.last,
        },
        Body::Arrived(a) => AgentBody::Arrived {
            packet: a.packet,
            port: small(a.port, "port")?,
        },
    };
    Ok(ToManager {
        service: m.service.into(),
        share: m.share,
        epoch: m.epoch,
        body,
    })
}
