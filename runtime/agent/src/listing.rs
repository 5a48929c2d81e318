//! What `signalbox flows` lists: one line a flow, in a form that serialises.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::entry::FixedAction;
use crate::flow::Part;
use crate::flow::Tuple;
use crate::machine::listed::Flow;
use crate::message::{Totals, Tunnel};

/// How far a flow has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowState {
    /// Its entries are being written.
    Installing,
    /// The other side has not answered.
    HalfOpen,
    /// Both sides have.
    Established,
    /// Both FINs or a RST were seen.
    Closed,
    /// Its entries are being removed.
    Ending,
}

impl FlowState {
    /// The state in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Installing => "installing",
            Self::HalfOpen => "half_open",
            Self::Established => "established",
            Self::Closed => "closed",
            Self::Ending => "ending",
        }
    }
}

/// One flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowStatus {
    /// The service that it belongs to.
    pub service: String,
    /// The service's place in the cascade, 1 first.
    pub stage: u8,
    /// Its forward match, or the reply one if there is no other.
    pub flow: Tuple,
    /// The whole flow, for people.
    pub text: String,
    /// What happens to it: `forward`, `drop`, `dispatch N`, `adjust` with its deltas, or the new
    /// tuple.
    pub decision: String,
    /// The tuple after translation.
    pub translated: Option<Tuple>,
    /// The server or other next hop that it is dispatched to.
    pub next_hop: Option<IpAddr>,
    /// The match of the other direction, if that is installed.
    pub back: Option<Tuple>,
    /// Whether only the reply match is installed, which then is `flow`.
    pub reply_only: bool,
    /// What went out.
    pub forward: Totals,
    /// What came back.
    pub reply: Totals,
    /// The manager that decided; empty for a flow that an agent has found on its switch.
    pub manager: String,
    /// The epoch under which it decided; 0 for such a flow.
    pub epoch: u64,
    /// How far it has come.
    pub state: FlowState,
    /// Since it was installed, in milliseconds.
    pub age_ms: u64,
}

impl FlowStatus {
    /// `header` bytes are taken off for each packet that the agent resumed.
    pub(crate) fn new(
        flow: &Flow,
        service: &Arc<str>,
        state: FlowState,
        age: Duration,
        header: u64,
        hop: impl Fn(FixedAction) -> Option<(IpAddr, Tunnel)>,
    ) -> Option<Self> {
        let part = flow.parts().next()?;
        let tuple = flow.direction(part)?.tuple;
        let action = flow.action(part)?;
        let hop = hop(action);
        let decision = match action {
            FixedAction::Forward => "forward".to_owned(),
            FixedAction::Discard => "drop".to_owned(),
            FixedAction::Dispatch { next_hop, .. } => match hop {
                None => format!("dispatch {next_hop}"),
                Some((to, Tunnel::None)) => format!("dispatch {to}"),
                Some((to, Tunnel::Ipip)) => format!("dispatch {to} by ipip"),
                Some((to, Tunnel::Gue)) => format!("dispatch {to} by gue"),
            },
            FixedAction::Translate(to) => to.to_string(),
            FixedAction::Adjust(by) => match flow.action(part.other()) {
                Some(FixedAction::Adjust(back)) => format!("adjust {by}, back {back}"),
                _ => format!("adjust {by}"),
            },
        };
        let translated = match action {
            FixedAction::Translate(to) => Some(to),
            _ => None,
        };
        let totals =
            |part| (flow.direction(part)).map_or_else(Totals::default, |d| d.totals(header));
        Some(Self {
            service: service.to_string(),
            stage: flow.service.saturating_add(1),
            flow: tuple,
            text: tuple.to_string(),
            decision,
            translated,
            next_hop: hop.map(|(to, _)| to),
            back: (flow.forward.as_ref()).and(flow.reply.as_ref().map(|d| d.tuple)),
            reply_only: flow.forward.is_none(),
            forward: totals(Part::Forward),
            reply: totals(Part::Reply),
            manager: flow.terms.manager.to_string(),
            epoch: flow.terms.epoch,
            state,
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        })
    }
}
