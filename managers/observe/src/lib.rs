//! The observe manager: has every flow of its service counted, and says where reports go.
//!
//! [`Observe`] is a service's decisions: each flow is counted by itself and goes on. What agents then
//! report leaves a manager as records, of this kind of service or any other; [`export`] writes them, as
//! JSON lines ([`json`]) or IPFIX ([`ipfix`]). docs/observe.md has the fields.

pub mod export;
pub mod ipfix;
pub mod json;
mod time;

use std::time::Duration;

use bytes::Bytes;
use signalbox_agent::flow::Tuple;
use signalbox_agent::message::{Action, Leases, Statistics};
use signalbox_lower::plan::{Limits, ObservePlan, ServicePlan};
use signalbox_manager::{Choice, Decide, Decided, Opening, Record};

pub use export::{Counts, Reports};

/// A record and when it was received. The agent's times are relative to that.
#[derive(Debug, Clone, PartialEq)]
pub struct Stamped {
    /// Milliseconds since 1970-01-01 00:00 UTC.
    pub received_ms: u64,
    /// What was received.
    pub record: Record,
}

/// The decisions of one observe service.
#[derive(Debug)]
pub struct Observe {
    plan: ObservePlan,
    limits: Limits,
}

impl Observe {
    /// The decisions for a service of the plan; `None` if it is of another kind.
    #[must_use]
    pub fn new(service: &ServicePlan) -> Option<Self> {
        Some(Self {
            plan: service.observe.clone()?,
            limits: service.limits.clone(),
        })
    }
}

impl Decide for Observe {
    fn decide(
        &mut self,
        _now: Duration,
        opening: &Opening<'_>,
        _taken: &dyn Fn(&Tuple) -> bool,
    ) -> Choice {
        if !self.plan.per_flow {
            // The agent counts what the criteria match together, and asks about nothing.
            return Choice::Fallback;
        }
        Choice::Install(Decided {
            // One direction by itself: the other one is a flow of its own, as IPFIX counts them.
            forward: (opening.flow, vec![Action::Forward, Action::Count]),
            reply: None,
            leases: Some(Leases {
                // Nobody answers a single direction, so that it is never half open.
                half_open_ms: None,
                idle_ms: Some(self.limits.idle_ms),
                closed_ms: Some(self.limits.closed_ms),
                hard_ms: None,
            }),
            statistics: Some(Statistics {
                count: true,
                every_ms: self.plan.every_ms,
                on_close: self.plan.on_close,
                flags: self.plan.flags,
            }),
            cookie: Bytes::new(),
        })
    }

    fn opens_in_mid_flow(&self) -> bool {
        true
    }

    /// A flow that has expired and goes on is another one: its totals start again.
    fn stands(&self, _decided: &Decided) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod scenarios;
