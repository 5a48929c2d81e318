//! What a service implements: one decision a flow, as a function of its own state and what it is given.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use signalbox_agent::flow::{PacketKind, Tuple};
use signalbox_agent::message::{Action, Capability, Leases, Statistics};
use signalbox_lower::plan::CheckPlan;

/// The first packet of a flow that nobody has decided about.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// The flow, in forward direction.
    pub flow: Tuple,
    /// What the packet is.
    pub kind: PacketKind,
    /// The port that it came in on.
    pub ingress_port: u16,
    /// From its Ethernet header on.
    pub packet: &'a Bytes,
}

/// A flow and what happens to its packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Match and actions of the way out.
    pub forward: (Tuple, Vec<Action>),
    /// Match and actions of the way back, if the service touches it.
    pub reply: Option<(Tuple, Vec<Action>)>,
    /// How long it lives; absent for the service's leases of the plan.
    pub leases: Option<Leases>,
    /// What is counted and reported of it; absent for totals, reported when it closes and at its end.
    pub statistics: Option<Statistics>,
    /// What rebuilds the decision.
    pub cookie: Bytes,
}

/// What becomes of a new flow.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one at a time, and almost always it is the large one"
)]
pub enum Choice {
    /// Its affinities go in and its packets go on.
    Install(Decided),
    /// Its packets are dropped; nothing is remembered.
    Drop,
    /// Its packets take the service's floor; nothing is remembered.
    Fallback,
}

/// Something whose health matters to the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// How it is checked.
    pub check: CheckPlan,
}

/// A target for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TargetStatus {
    /// Its name.
    pub name: String,
    /// Its weight.
    pub weight: u32,
    /// Whether it takes new flows, as far as its checks say.
    pub up: bool,
    /// Flows that it was chosen for.
    pub chosen: u64,
    /// Of those, flows that have not ended.
    pub flows: u64,
}

/// A service's decisions. No I/O, no clock, no randomness: two managers that were told the same say the
/// same.
pub trait Decide: Send {
    /// Decides about a new flow. `taken` tells whether a reply match belongs to another flow that is
    /// alive: then replies could not be told apart, and the decision must be another. (One that takes it
    /// nevertheless counts as [`Choice::Fallback`].)
    fn decide(
        &mut self,
        now: Duration,
        opening: &Opening<'_>,
        taken: &dyn Fn(&Tuple) -> bool,
    ) -> Choice;

    /// Whether any TCP packet opens a flow, in mid-flow too, and not only a SYN: for a service to which a
    /// flow that began before it is a flow like any other.
    fn opens_in_mid_flow(&self) -> bool {
        false
    }

    /// Whether a decision about a flow that no agent holds any more would still be carried out. If not,
    /// the flow's next opening packet is decided afresh.
    fn stands(&self, _decided: &Decided) -> bool {
        true
    }

    /// What its decisions need of a target.
    fn needs(&self) -> Vec<Capability> {
        Vec::new()
    }

    /// A flow that was decided is gone from every agent.
    fn ended(&mut self, _decided: &Decided) {}

    /// A flow that was decided before this manager started, as an agent tells it.
    fn adopted(&mut self, _decided: &Decided) {}

    /// What to check. Asked once.
    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    /// The target with that number has gone up or down.
    fn health(&mut self, _target: usize, _up: bool) {}

    /// Its targets, for people.
    fn status(&self) -> Vec<TargetStatus> {
        Vec::new()
    }
}
