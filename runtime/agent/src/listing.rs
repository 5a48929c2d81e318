//! What `signalbox flows` lists: one line a flow, in a form that serialises.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::entry::FixedAction;
use crate::flow::Part;
use crate::flow::Tuple;
use crate::machine::listed::Flow;
use crate::message::Totals;

/// How far a flow has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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

/// One flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlowStatus {
    /// The service that it belongs to.
    pub service: String,
    /// Its forward match, or the reply one if there is no other.
    pub flow: Tuple,
    /// The whole flow, for people.
    pub text: String,
    /// What happens to it: `forward`, `drop`, `dispatch N` or the new tuple.
    pub decision: String,
    /// The tuple after translation.
    pub translated: Option<Tuple>,
    /// What went out.
    pub forward: Totals,
    /// What came back.
    pub reply: Totals,
    /// The manager that decided.
    pub manager: String,
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
    ) -> Option<Self> {
        let part = flow.parts().next()?;
        let tuple = flow.direction(part)?.tuple;
        let action = flow.action(part)?;
        let decision = match action {
            FixedAction::Forward => "forward".to_owned(),
            FixedAction::Discard => "drop".to_owned(),
            FixedAction::Dispatch { next_hop, .. } => format!("dispatch {next_hop}"),
            FixedAction::Translate(to) => to.to_string(),
        };
        let translated = match action {
            FixedAction::Translate(to) => Some(to),
            _ => None,
        };
        let totals =
            |part| (flow.direction(part)).map_or_else(Totals::default, |d| d.totals(header));
        Some(Self {
            service: service.to_string(),
            flow: tuple,
            text: tuple.to_string(),
            decision,
            translated,
            forward: totals(Part::Forward),
            reply: totals(Part::Reply),
            manager: flow.terms.manager.to_string(),
            state,
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        })
    }
}
