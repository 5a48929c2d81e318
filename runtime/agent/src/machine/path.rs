//! Which flows a packet meets on its way through the stages, from the agent's own store: the order of the
//! pipeline, without its criteria.

use signalbox_lower::plan::Kind;

use super::Agent;
use super::store::FlowRef;
use crate::entry::FixedAction;
use crate::flow::{FlowKey, PacketKind, Part, Tuple};

/// A stage on a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stop {
    /// Index of the service in the plan.
    pub service: u8,
    pub part: Part,
    /// The packet's flow as this stage sees it.
    pub tuple: Tuple,
    /// The fixed affinity that it meets there.
    pub flow: Option<FlowRef>,
}

impl Agent {
    /// The way of a packet that arrives as `tuple`.
    pub(super) fn path(&self, tuple: Tuple, kind: PacketKind) -> Vec<Stop> {
        let count = self.services.len();
        let replies = (0..count).rev().map(|i| (Part::Reply, i));
        let forwards = (0..count).map(|i| (Part::Forward, i));
        let mut stops = Vec::with_capacity(count);
        let (mut tuple, mut reply) = (tuple, false);
        for (part, index) in replies.chain(forwards) {
            let (Some(plan), Ok(service)) = (self.plan.services.get(index), u8::try_from(index))
            else {
                continue;
            };
            let always = matches!(plan.kind, Kind::Filter | Kind::Observe);
            let is_skipped = match part {
                Part::Reply => plan.reply.is_none(),
                Part::Forward => reply && !always,
            };
            if is_skipped {
                continue;
            }
            let key = FlowKey {
                service,
                part,
                tuple,
                kind,
            };
            let flow = self.store.find(&key);
            stops.push(Stop {
                service,
                part,
                tuple,
                flow,
            });
            let met = flow.and_then(|at| self.store.get(at));
            match met.and_then(|f| f.action(part)) {
                Some(FixedAction::Translate(to)) => {
                    tuple = to;
                    reply |= part == Part::Reply;
                }
                Some(FixedAction::Adjust(_)) => reply |= part == Part::Reply,
                Some(FixedAction::Discard) => break,
                _ => {}
            }
        }
        stops
    }
}
