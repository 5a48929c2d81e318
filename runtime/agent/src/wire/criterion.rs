//! Criteria: what they match, how they ask, and what happens to the rest.

use super::WireError::{self, Missing, Range};
use super::parts::{
    read_cube, read_dispatch, read_mask, read_part, read_statistics, write_cube, write_dispatch,
    write_mask, write_part, write_statistics,
};
use super::pb::{self, static_action};
use crate::message::{Asking, Capability, Criterion, StaticAction};

/// Ids from here on are fixed entries'.
const IDS: u32 = 1 << 31;

pub(super) fn write_criterion(c: &Criterion) -> pb::Criterion {
    pb::Criterion {
        id: c.id,
        part: write_part(c.part),
        priority: c.priority,
        interest: Some(write_mask(c.interest)),
        asking: match c.asking {
            Asking::OnceAFlow => pb::Asking::OnceAFlow,
            Asking::EveryPacket => pb::Asking::EveryPacket,
        } as i32,
        action: Some(pb::StaticAction {
            action: Some(match c.action {
                StaticAction::Pass => static_action::Action::Pass(pb::Forward {}),
                StaticAction::Drop => static_action::Action::Drop(pb::Drop {}),
                StaticAction::Dispatch { next_hop, tunnel } => {
                    static_action::Action::Dispatch(write_dispatch(next_hop, tunnel))
                }
            }),
        }),
        statistics: Some(write_statistics(c.statistics)),
        cubes: c.cubes.iter().map(write_cube).collect(),
        needs: c.needs.iter().map(|n| write_capability(*n)).collect(),
    }
}

pub(super) fn read_criterion(c: &pb::Criterion) -> Result<Criterion, WireError> {
    if c.id >= IDS {
        return Err(Range("id"));
    }
    let action = (c.action.as_ref()).and_then(|a| a.action.as_ref());
    Ok(Criterion {
        id: c.id,
        part: read_part(c.part)?,
        priority: c.priority,
        interest: read_mask(c.interest.as_ref())?,
        asking: match pb::Asking::try_from(c.asking) {
            Ok(pb::Asking::OnceAFlow) => Asking::OnceAFlow,
            Ok(pb::Asking::EveryPacket) => Asking::EveryPacket,
            Err(_) => return Err(Range("asking")),
        },
        action: match action.ok_or(Missing("action"))? {
            static_action::Action::Pass(_) => StaticAction::Pass,
            static_action::Action::Drop(_) => StaticAction::Drop,
            static_action::Action::Dispatch(d) => {
                let (next_hop, tunnel) = read_dispatch(d)?;
                StaticAction::Dispatch { next_hop, tunnel }
            }
        },
        statistics: read_statistics(c.statistics.as_ref()),
        cubes: c.cubes.iter().map(read_cube).collect::<Result<_, _>>()?,
        needs: (c.needs.iter())
            .map(|n| read_capability(*n))
            .collect::<Result<_, _>>()?,
    })
}

const CAPABILITIES: &[(Capability, pb::Capability)] = &[
    (Capability::Translate, pb::Capability::CanTranslate),
    (Capability::Adjust, pb::Capability::CanAdjust),
    (Capability::Dispatch, pb::Capability::CanDispatch),
    (Capability::Ipip, pb::Capability::CanIpip),
    (Capability::Gue, pb::Capability::CanGue),
    (Capability::MarkDscp, pb::Capability::CanMarkDscp),
];

fn write_capability(c: Capability) -> i32 {
    (CAPABILITIES.iter().find(|(ours, _)| *ours == c)).map_or(0, |(_, theirs)| *theirs as i32)
}

fn read_capability(n: i32) -> Result<Capability, WireError> {
    (CAPABILITIES.iter().find(|(_, theirs)| *theirs as i32 == n))
        .map(|(ours, _)| *ours)
        .ok_or(Range("needs"))
}
