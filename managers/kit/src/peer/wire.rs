//! The protobuf form of what managers say to each other: what comes in is checked, what goes out is written. Past
//! this border every value is in its range.

use std::sync::Arc;

use signalbox_agent::flow::Part;
use signalbox_agent::message::{FixedAffinity, InterestMask, Leases, Statistics};
use signalbox_agent::wire::WireError::{self, Missing, Range};
use signalbox_agent::wire::{read_affinity, write_affinity};

use super::{PeerHello, PeerMessage, PeerReason, Telling, Told, ToldFlow, ToldState};
use crate::decide::Decided;

/// The generated types.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "generated code; proto/replication.proto documents it"
)]
pub mod pb {
    tonic::include_proto!("signalbox.replication.v1");
}

/// Agents that may hold one flow, and the bytes of a decision's cookie.
const AGENTS: usize = 1_000;
const COOKIE: usize = 256;

/// A message for the wire.
#[must_use]
pub fn write(message: &PeerMessage) -> pb::Message {
    use pb::message::Body;
    let body = match message {
        PeerMessage::Hello(hello) => Body::Hello(pb::Hello {
            version: hello.version,
            manager: hello.manager.to_string(),
            plan_hash: hello.plan_hash,
            instance: hello.instance,
            heard: hello.heard,
            open: hello.open,
            have_stream: hello.have.0,
            have_sequence: hello.have.1,
        }),
        PeerMessage::Refused { reason, text } => Body::Refused(pb::Refused {
            reason: write_reason(*reason).into(),
            text: text.clone(),
        }),
        PeerMessage::Telling(telling) => Body::Telling(write_telling(telling)),
        PeerMessage::Ack { stream, sequence } => Body::Ack(pb::Ack {
            stream: *stream,
            sequence: *sequence,
        }),
        PeerMessage::Recall {
            service,
            share,
            request,
        } => Body::Recall(pb::Recall {
            service: service.to_string(),
            share: *share,
            request: *request,
        }),
        PeerMessage::Old {
            service,
            share,
            epoch,
        } => Body::Old(pb::Old {
            service: service.to_string(),
            share: *share,
            epoch: *epoch,
        }),
    };
    pb::Message { body: Some(body) }
}

/// A message from the wire.
///
/// # Errors
/// A field is missing or out of its range.
pub fn read(message: pb::Message) -> Result<PeerMessage, WireError> {
    use pb::message::Body;
    Ok(match message.body.ok_or(Missing("body"))? {
        Body::Hello(hello) => PeerMessage::Hello(PeerHello {
            version: hello.version,
            manager: hello.manager.into(),
            plan_hash: hello.plan_hash,
            instance: hello.instance,
            heard: hello.heard,
            open: hello.open,
            have: (hello.have_stream, hello.have_sequence),
        }),
        Body::Refused(refused) => PeerMessage::Refused {
            reason: read_reason(refused.reason)?,
            text: refused.text,
        },
        Body::Telling(telling) => PeerMessage::Telling(read_telling(telling)?),
        Body::Ack(ack) => PeerMessage::Ack {
            stream: ack.stream,
            sequence: ack.sequence,
        },
        Body::Recall(recall) => PeerMessage::Recall {
            service: recall.service.into(),
            share: recall.share,
            request: recall.request,
        },
        Body::Old(old) => PeerMessage::Old {
            service: old.service.into(),
            share: old.share,
            epoch: old.epoch,
        },
    })
}

const REASONS: [(PeerReason, pb::Reason); 6] = [
    (PeerReason::Version, pb::Reason::Version),
    (PeerReason::Plan, pb::Reason::Plan),
    (PeerReason::Stranger, pb::Reason::Stranger),
    (PeerReason::Superseded, pb::Reason::Superseded),
    (PeerReason::Twice, pb::Reason::Twice),
    (PeerReason::Silent, pb::Reason::Silent),
];

fn write_reason(reason: PeerReason) -> pb::Reason {
    let same = REASONS.iter().find(|(own, _)| *own == reason);
    same.map_or(pb::Reason::Unspecified, |(_, wire)| *wire)
}

fn read_reason(number: i32) -> Result<PeerReason, WireError> {
    let same = REASONS.iter().find(|(_, wire)| *wire as i32 == number);
    same.map(|(own, _)| *own).ok_or(Range("reason"))
}

fn write_telling(telling: &Telling) -> pb::Telling {
    use pb::telling::Body;
    pb::Telling {
        stream: telling.stream,
        sequence: telling.sequence,
        service: telling.service.to_string(),
        share: telling.share,
        epoch: telling.epoch,
        leads: telling.leads,
        body: Some(match &telling.body {
            Told::Begin => Body::Begin(pb::Begin {}),
            Told::Flow(flow) => Body::Flow(write_flow(flow)),
            Told::Whole { request } => Body::Whole(pb::Whole { request: *request }),
        }),
    }
}

fn read_telling(telling: pb::Telling) -> Result<Telling, WireError> {
    use pb::telling::Body;
    Ok(Telling {
        stream: telling.stream,
        sequence: telling.sequence,
        service: telling.service.into(),
        share: telling.share,
        epoch: telling.epoch,
        leads: telling.leads,
        body: match telling.body.ok_or(Missing("body"))? {
            Body::Begin(pb::Begin {}) => Told::Begin,
            Body::Flow(flow) => Told::Flow(Arc::new(read_flow(flow)?)),
            Body::Whole(whole) => Told::Whole {
                request: whole.request,
            },
        },
    })
}

fn write_flow(flow: &ToldFlow) -> pb::Flow {
    let decided = &flow.decided;
    let partner = decided.reply.as_ref().map(|(tuple, _)| *tuple);
    let forward = FixedAffinity {
        part: Part::Forward,
        tuple: decided.forward.0,
        kind: flow.kind,
        actions: decided.forward.1.clone(),
        flow: 0,
        partner,
        cookie: decided.cookie.clone(),
        leases: decided.leases.unwrap_or_default(),
        interest: InterestMask::default(),
        track_close: false,
        statistics: decided.statistics.unwrap_or_default(),
    };
    let reply = decided
        .reply
        .as_ref()
        .map(|(tuple, actions)| FixedAffinity {
            part: Part::Reply,
            tuple: *tuple,
            kind: flow.kind,
            actions: actions.clone(),
            flow: 0,
            partner: Some(decided.forward.0),
            cookie: bytes::Bytes::new(),
            leases: Leases::default(),
            interest: InterestMask::default(),
            track_close: false,
            statistics: Statistics::default(),
        });
    let (state, agents) = match &flow.state {
        ToldState::Held(agents) => (pb::State::Held, agents.as_slice()),
        ToldState::Gone => (pb::State::Gone, &[][..]),
        ToldState::Refused => (pb::State::TakenBack, &[][..]),
    };
    pb::Flow {
        forward: Some(write_affinity(&forward)),
        reply: reply.as_ref().map(write_affinity),
        state: state.into(),
        agents: agents.iter().map(ToString::to_string).collect(),
    }
}

fn read_flow(flow: pb::Flow) -> Result<ToldFlow, WireError> {
    let forward = read_affinity(flow.forward.as_ref().ok_or(Missing("forward"))?)?;
    let reply = flow.reply.as_ref().map(read_affinity).transpose()?;
    if forward.part != Part::Forward || forward.cookie.len() > COOKIE {
        return Err(Range("forward"));
    }
    let fits = |reply: &FixedAffinity| reply.part == Part::Reply && reply.kind == forward.kind;
    if !reply.as_ref().is_none_or(fits) {
        return Err(Range("reply"));
    }
    let state = match pb::State::try_from(flow.state) {
        Ok(pb::State::Held) if (1..=AGENTS).contains(&flow.agents.len()) => {
            ToldState::Held(flow.agents.into_iter().map(Arc::from).collect())
        }
        Ok(pb::State::Held) => return Err(Range("agents")),
        Ok(pb::State::Gone) => ToldState::Gone,
        Ok(pb::State::TakenBack) => ToldState::Refused,
        _ => return Err(Range("state")),
    };
    Ok(ToldFlow {
        decided: Decided {
            forward: (forward.tuple, forward.actions),
            reply: reply.map(|reply| (reply.tuple, reply.actions)),
            leases: Some(forward.leases),
            statistics: Some(forward.statistics),
            cookie: forward.cookie,
        },
        kind: forward.kind,
        state,
    })
}

#[cfg(test)]
mod tests;
