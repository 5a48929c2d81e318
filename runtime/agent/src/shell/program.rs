//! The program that an agent has its switch run, and how another policy takes its place.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use signalbox_lower::plan::Plan;
use signalbox_p4runtime::proto::p4::config::v1::P4Info;
use signalbox_p4runtime::{Catalog, CatalogError};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Pipeline;
use crate::encode::Encoder;
use crate::machine::PlanChange;

/// Another policy for an agent that runs.
#[derive(Debug, Clone)]
pub struct NewPolicy {
    /// Its plan.
    pub plan: Arc<Plan>,
    /// The plan's program.
    pub p4info: P4Info,
    /// How that gets onto the switch, if it is another one.
    pub pipeline: Pipeline,
}

/// What has become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// What has become of the flows.
    #[serde(flatten)]
    pub change: PlanChange,
    /// Whether the switch got another program.
    pub program: bool,
    /// How long the switch forwarded nothing at most, in microseconds: from the moment when it was given the
    /// program until the pipeline was open. 0 with the same program.
    pub gap_us: u64,
    /// Whether the switch itself kept what it held (RECONCILE_AND_COMMIT).
    pub reconciled: bool,
}

/// A program as the device needs it.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub encoder: Encoder,
    pub pipeline: Pipeline,
    pub p4info: P4Info,
    pub cookie: u64,
}

impl Program {
    /// # Errors
    /// The P4Info contradicts itself.
    pub fn new(policy: &NewPolicy) -> Result<Self, CatalogError> {
        let catalog = Catalog::shared(policy.p4info.clone())?;
        Ok(Self {
            encoder: Encoder::new(catalog, policy.plan.clone()),
            pipeline: policy.pipeline.clone(),
            p4info: policy.p4info.clone(),
            cookie: u64::from(policy.plan.program_id),
        })
    }
}

/// A policy on its way.
pub(super) struct Coming {
    pub policy: NewPolicy,
    pub program: Program,
    pub reply: oneshot::Sender<Result<Applied, String>>,
    /// Once the switch has the program: since when it forwards nothing, and whether it kept what it held.
    pub shut: Option<(Instant, bool)>,
}

impl Coming {
    /// It is in force.
    pub fn done(self, change: PlanChange) {
        let (gap, reconciled) = match self.shut {
            Some((since, reconciled)) => (since.elapsed(), reconciled),
            None => (Duration::ZERO, false),
        };
        let applied = Applied {
            change,
            program: self.shut.is_some(),
            gap_us: u64::try_from(gap.as_micros()).unwrap_or(u64::MAX),
            reconciled,
        };
        // Whoever asked may have gone.
        let _ = self.reply.send(Ok(applied));
    }
}
