//! Flows as people look for them: what several services do to one connection, put together.
//!
//! An agent knows flows a service each. [`connections`] joins those of a cascade by their tuples, and
//! [`search`] finds the joined ones by any part of a tuple, before and after each translation. Pure
//! functions; where the flows come from is the command's business.

mod join;
pub mod search;

use serde::{Deserialize, Serialize};
use signalbox_agent::flow::Tuple;
use signalbox_agent::listing::{FlowState, FlowStatus};
use signalbox_agent::message::Totals;

pub use join::connections;

/// What one service does to a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What the agent knows.
    #[serde(flatten)]
    pub flow: FlowStatus,
    /// The server's name in the policy, if the flow goes to one.
    pub server: Option<String>,
    /// Whether it is a flow of the connection's way back: services that keep no pair see the two
    /// directions as two flows.
    #[serde(default)]
    pub way_back: bool,
}

impl Step {
    /// The tuple that a packet leaves the service with.
    pub fn out(&self) -> Tuple {
        self.flow.translated.unwrap_or(self.flow.flow)
    }

    /// Every tuple that packets of the flow have before or after the service, either way.
    pub fn tuples(&self) -> impl Iterator<Item = Tuple> {
        let back = self.flow.back.into_iter();
        // A reply leaves with the ends of the forward match.
        let gives = (self.flow.back).map(|_| self.flow.flow.reversed());
        [self.flow.flow, self.out()]
            .into_iter()
            .chain(back)
            .chain(gives)
    }
}

/// One connection through the cascade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Connection {
    /// As the first service meets it.
    pub flow: Tuple,
    /// The same for people.
    pub text: String,
    /// How far it has come, as the first service has it.
    pub state: FlowState,
    /// Since it was installed at the first service, in milliseconds.
    pub age_ms: u64,
    /// What went out, as the first service has counted.
    pub forward: Totals,
    /// What came back.
    pub reply: Totals,
    /// The server, where some service sends it to one.
    pub server: Option<String>,
    /// What each service does to it, in the order of the cascade.
    pub steps: Vec<Step>,
}
