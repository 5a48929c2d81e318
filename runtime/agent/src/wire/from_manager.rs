//! A manager's messages.

use super::WireError::{self, Missing, Range};
use super::criterion::{read_criterion, write_criterion};
use super::parts::{
    read_affinity, read_kind, read_part, read_some_tuple, read_state, small, write_affinity,
    write_kind, write_part, write_state, write_tuple,
};
use super::pb::{self, from_manager::Body};
use crate::message::{
    Claim, Criteria, Decision, Heartbeat, Hello, Inject, ManagerBody, Place, ToAgent, Verdict,
    Which,
};

/// Writes a manager's message.
#[must_use]
pub fn write_from_manager(m: &ToAgent) -> pb::FromManager {
    let body = match &m.body {
        ManagerBody::Hello(h) => Body::Hello(pb::Hello {
            version: h.version,
            manager: h.manager.to_string(),
            plan_hash: h.plan_hash,
            instance: h.instance,
            claims: (h.claims.iter())
                .map(|claim| pb::Claim {
                    service: claim.service.to_string(),
                    share: claim.share,
                    epoch: claim.epoch,
                    standby: claim.standby,
                })
                .collect(),
        }),
        ManagerBody::Heartbeat(h) => Body::Heartbeat(pb::Heartbeat {
            sequence: h.sequence,
            criteria_version: h.criteria_version,
        }),
        ManagerBody::Criteria(c) => Body::Criteria(pb::Criteria {
            version: c.version,
            list: c.list.iter().map(write_criterion).collect(),
        }),
        ManagerBody::Verdict(v) => Body::Verdict(pb::Verdict {
            request: v.request,
            decision: match v.decision {
                Decision::Resume => pb::Decision::Resume,
                Decision::Consume => pb::Decision::Consume,
                Decision::Drop => pb::Decision::Discard,
                Decision::Fallback => pb::Decision::Fallback,
            } as i32,
            affinities: v.affinities.iter().map(write_affinity).collect(),
        }),
        ManagerBody::Install {
            request,
            affinities,
        } => Body::Install(pb::Install {
            request: *request,
            affinities: affinities.iter().map(write_affinity).collect(),
        }),
        ManagerBody::Delete { request, which } => Body::Delete(pb::Delete {
            request: *request,
            which: Some(match which {
                Which::Match { part, tuple, kind } => pb::delete::Which::Match(pb::FlowMatch {
                    part: write_part(*part),
                    r#match: Some(write_tuple(tuple)),
                    kind: write_kind(*kind),
                }),
                Which::Flow(n) => pb::delete::Which::Flow(*n),
                Which::All => pb::delete::Which::All(true),
            }),
        }),
        ManagerBody::Inject(i) => Body::Inject(pb::Inject {
            request: i.request,
            packet: i.packet.clone(),
            r#where: Some(match i.place {
                Place::Port(p) => pb::inject::Where::Port(p.into()),
                Place::Route => pb::inject::Where::Route(true),
                Place::Stage {
                    stage,
                    part,
                    state,
                    answered,
                } => pb::inject::Where::Stage(pb::StageEntry {
                    stage: stage.into(),
                    part: write_part(part),
                    state: Some(write_state(&state)),
                    answered,
                }),
            }),
        }),
        ManagerBody::ListAffinities { request } => {
            Body::ListAffinities(pb::ListAffinities { request: *request })
        }
        ManagerBody::Goodbye => Body::Goodbye(pb::Goodbye {}),
    };
    pb::FromManager {
        service: m.service.to_string(),
        share: m.share,
        epoch: m.epoch,
        body: Some(body),
    }
}

/// Reads a manager's message.
///
/// # Errors
/// A field is missing or out of range.
pub fn read_from_manager(m: pb::FromManager) -> Result<ToAgent, WireError> {
    let body = match m.body.ok_or(Missing("body"))? {
        Body::Hello(h) => ManagerBody::Hello(Hello {
            version: h.version,
            manager: h.manager.into(),
            plan_hash: h.plan_hash,
            instance: h.instance,
            claims: (h.claims.into_iter())
                .map(|claim| Claim {
                    service: claim.service.into(),
                    share: claim.share,
                    epoch: claim.epoch,
                    standby: claim.standby,
                })
                .collect(),
        }),
        Body::Heartbeat(h) => ManagerBody::Heartbeat(Heartbeat {
            sequence: h.sequence,
            criteria_version: h.criteria_version,
        }),
        Body::Criteria(c) => {
            if c.version == 0 {
                return Err(Range("version"));
            }
            ManagerBody::Criteria(Criteria {
                version: c.version,
                list: c
                    .list
                    .iter()
                    .map(read_criterion)
                    .collect::<Result<_, _>>()?,
            })
        }
        Body::Verdict(v) => ManagerBody::Verdict(Verdict {
            request: v.request,
            decision: match pb::Decision::try_from(v.decision) {
                Ok(pb::Decision::Resume) => Decision::Resume,
                Ok(pb::Decision::Consume) => Decision::Consume,
                Ok(pb::Decision::Discard) => Decision::Drop,
                Ok(pb::Decision::Fallback) => Decision::Fallback,
                _ => return Err(Range("decision")),
            },
            affinities: (v.affinities.iter())
                .map(read_affinity)
                .collect::<Result<_, _>>()?,
        }),
        Body::Install(i) => ManagerBody::Install {
            request: i.request,
            affinities: (i.affinities.iter())
                .map(read_affinity)
                .collect::<Result<_, _>>()?,
        },
        Body::Delete(d) => ManagerBody::Delete {
            request: d.request,
            which: match d.which.ok_or(Missing("which"))? {
                pb::delete::Which::Match(f) => Which::Match {
                    part: read_part(f.part)?,
                    tuple: read_some_tuple(f.r#match.as_ref())?,
                    kind: read_kind(f.kind)?,
                },
                pb::delete::Which::Flow(n) => Which::Flow(n),
                pb::delete::Which::All(true) => Which::All,
                pb::delete::Which::All(false) => return Err(Range("all")),
            },
        },
        Body::Inject(i) => ManagerBody::Inject(Inject {
            request: i.request,
            packet: i.packet,
            place: match i.r#where.ok_or(Missing("where"))? {
                pb::inject::Where::Port(p) => Place::Port(small(p, "port")?),
                pb::inject::Where::Route(true) => Place::Route,
                pb::inject::Where::Route(false) => return Err(Range("route")),
                pb::inject::Where::Stage(s) => Place::Stage {
                    stage: small(s.stage, "stage")?,
                    part: read_part(s.part)?,
                    state: read_state(s.state.as_ref().ok_or(Missing("state"))?)?,
                    answered: s.answered,
                },
            },
        }),
        Body::ListAffinities(l) => ManagerBody::ListAffinities { request: l.request },
        Body::Goodbye(_) => ManagerBody::Goodbye,
    };
    Ok(ToAgent {
        service: m.service.into(),
        share: m.share,
        epoch: m.epoch,
        body,
    })
}
