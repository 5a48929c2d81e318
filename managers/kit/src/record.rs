//! What agents have counted, as it leaves a manager: for people and collectors, not for decisions.

use std::sync::Arc;

use signalbox_agent::message::{CriterionReport, Report};

/// A report, and who made it about what.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The agent that counted.
    pub agent: Arc<str>,
    /// The service for which it did.
    pub service: Arc<str>,
    /// The service's place in the cascade, from 1.
    pub stage: u8,
    /// What it counted.
    pub of: Reported,
}

/// What was counted.
#[derive(Debug, Clone, PartialEq)]
pub enum Reported {
    /// A flow's packets.
    Flow {
        /// The agent's words.
        report: Box<Report>,
        /// Whether the flow had closed (both FINs, or a RST) by then, as far as the manager knows: the last
        /// report of such a flow comes when its lease has run out.
        closed: bool,
    },
    /// The packets of a criterion, with those of the flows under it.
    Criterion(CriterionReport),
}
