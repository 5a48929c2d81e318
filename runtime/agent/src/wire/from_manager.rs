//! A manager's messages.

use super::WireError::{self, Missing, Range};
use super::parts::{
    read_affinity, read_cube, read_kind, read_mask, read_part, read_some_tuple, small,
    write_affinity, write_cube, write_kind, write_mask, write_part, write_tuple,
};
use super::pb::{self, from_manager::Body};
use crate::message::{
    Criteria, Criterion, Decision, Heartbeat, Hello, Inject, ManagerBody, Place, ToAgent, Verdict,
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
            services: (h.services.iter())
                .map(|(service, epoch)| pb::ServiceEpoch {
                    service: service.to_string(),
                    epoch: *epoch,
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
            packet: i.packet.clone(),
            r#where: Some(match i.place {
                Place::Port(p) => pb::inject::Where::Port(p.into()),
                Place::Route => pb::inject::Where::Route(true),
                Place::Stage {
                    stage,
                    part,
                    ingress_port,
                } => pb::inject::Where::Stage(pb::StageEntry {
                    stage: stage.into(),
                    part: write_part(part),
                    ingress_port: ingress_port.into(),
                }),
            }),
        }),
        ManagerBody::ListAffinities { request } => {
            Body::ListAffinities(pb::ListAffinities { request: *request })
        }
    };
    pb::FromManager {
        service: m.service.to_string(),
        epoch: m.epoch,
        body: Some(body),
    }
}

fn write_criterion(c: &Criterion) -> pb::Criterion {
    pb::Criterion {
        id: c.id,
        part: write_part(c.part),
        priority: c.priority,
        interest: Some(write_mask(c.interest)),
        action: if c.else_drop {
            pb::StaticAction::Drop
        } else {
            pb::StaticAction::Pass
        } as i32,
        count: c.count,
        cubes: c.cubes.iter().map(write_cube).collect(),
    }
}

fn read_criterion(c: &pb::Criterion) -> Result<Criterion, WireError> {
    if c.id >= 1 << 31 {
        return Err(Range("id"));
    }
    Ok(Criterion {
        id: c.id,
        part: read_part(c.part)?,
        priority: c.priority,
        interest: read_mask(c.interest.as_ref())?,
        else_drop: match pb::StaticAction::try_from(c.action) {
            Ok(pb::StaticAction::Pass) => false,
            Ok(pb::StaticAction::Drop) => true,
            Err(_) => return Err(Range("action")),
        },
        count: c.count,
        cubes: c.cubes.iter().map(read_cube).collect::<Result<_, _>>()?,
    })
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
            services: (h.services.into_iter())
                .map(|s| (s.service.into(), s.epoch))
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
            packet: i.packet,
            place: match i.r#where.ok_or(Missing("where"))? {
                pb::inject::Where::Port(p) => Place::Port(small(p, "port")?),
                pb::inject::Where::Route(true) => Place::Route,
                pb::inject::Where::Route(false) => return Err(Range("route")),
                pb::inject::Where::Stage(s) => Place::Stage {
                    stage: small(s.stage, "stage")?,
                    part: read_part(s.part)?,
                    ingress_port: small(s.ingress_port, "ingress_port")?,
                },
            },
        }),
        Body::ListAffinities(l) => ManagerBody::ListAffinities { request: l.request },
    };
    Ok(ToAgent {
        service: m.service.into(),
        epoch: m.epoch,
        body,
    })
}
