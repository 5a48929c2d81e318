//! What a service implements: one decision a flow, as a function of its own state and what it is given.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use signalbox_agent::flow::{PacketKind, Tuple};
use signalbox_agent::message::{Action, Capability, FixedAffinity, Leases, Statistics};
use signalbox_lower::plan::{CheckPlan, ServicePlan};

use crate::proxy::Proxy;

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

/// What becomes of the flows of a target that has gone down. They end; none moves to another target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Their packets are dropped, until they have been idle for a lease or a SYN opens them anew.
    Drop,
    /// The client's next packet is answered with a RST, and the flow is deleted. What is not TCP is dropped.
    Reset,
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
    /// Its load in percent, if it has reported one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<u8>,
    /// Flows that it was chosen for.
    pub chosen: u64,
    /// Of those, flows that have not ended.
    pub flows: u64,
}

/// What is left of the tuples of an outside address in one protocol, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutsideStatus {
    /// The address.
    pub address: IpAddr,
    /// `tcp`, `udp` or `icmp`.
    pub protocol: &'static str,
    /// Ports or identifiers that are given out.
    pub mappings: u64,
    /// Those that can be.
    pub free: u64,
    /// Those that rest after their last flow.
    pub held_back: u64,
}

/// What a service gives out, in blocks that managers share through a store; at most 64 of them. Sets of blocks are
/// bits, the first block's the lowest.
pub trait Blocks {
    /// How many there are.
    fn count(&self) -> u32;

    /// What a block is called, the same on every machine.
    fn name(&self, block: u32) -> String;

    /// From now on it gives out only what is in these. Before it is told of any, it has all.
    fn allow(&mut self, blocks: u64);

    /// Whether there is little left in those that it may use.
    fn wants_more(&self) -> bool;

    /// Blocks of which nothing is given out, nor rests.
    fn unused(&self) -> u64;
}

/// A service's decisions. No I/O, no clock, no randomness: two managers that were told the same say the
/// same.
pub trait Decide: Send {
    /// What time it is. Told before anything else that happens then is.
    fn tick(&mut self, _now: Duration) {}

    /// When it wants to be told the time even if nothing happens.
    fn next(&self) -> Option<Duration> {
        None
    }

    /// Takes over a changed plan of its service, keeping what it knows, and says whether it has: else others
    /// take its place, and are told of the flows that it has decided. Targets are numbered anew.
    fn update(&mut self, _service: &ServicePlan) -> bool {
        false
    }

    /// Decides about a new flow. `taken` tells whether a reply match belongs to another flow that is
    /// alive: then replies could not be told apart, and the decision must be another. (One that takes it
    /// nevertheless counts as [`Choice::Fallback`].)
    fn decide(
        &mut self,
        now: Duration,
        opening: &Opening<'_>,
        taken: &dyn Fn(&Tuple) -> bool,
    ) -> Choice;

    /// Whether flows may also be opened from the other side: by a packet of the reply part.
    fn opens_inbound(&self) -> bool {
        false
    }

    /// Decides about a flow that is opened from the other side; `opening.flow` is its reply match, and
    /// must be that of the decision. Asked only of a service that [`Decide::opens_inbound`].
    fn decide_inbound(&mut self, _now: Duration, _opening: &Opening<'_>) -> Choice {
        Choice::Fallback
    }

    /// For a service whose decisions take something that no other flow may have until every agent that
    /// got them has told of the flow's end (an outside address and port): how long that rests afterwards,
    /// and a decision is remembered. Such a service is asked only once every agent has listed what it
    /// holds, and what an agent holds that is away it holds until it is back, however long that takes.
    fn hold_back(&self) -> Option<Duration> {
        None
    }

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

    /// What it gives out, in blocks; `None` if it gives out nothing that others could.
    fn blocks(&mut self) -> Option<&mut dyn Blocks> {
        None
    }

    /// The service as one that answers packets itself; `None` if it decides once a flow.
    fn proxy(&mut self) -> Option<&mut dyn Proxy> {
        None
    }

    /// Whether it is one: its criteria ask about every packet.
    fn is_proxy(&self) -> bool {
        false
    }

    /// What happens to the packets of the other direction of a flow that an agent tells of.
    fn way_back(&self, forward: &FixedAffinity) -> Vec<Action> {
        vec![Action::Translate(forward.tuple.reversed())]
    }

    /// A flow that was decided is gone from every agent.
    fn ended(&mut self, _decided: &Decided) {}

    /// A decision that no agent has carried out.
    fn refused(&mut self, decided: &Decided) {
        self.ended(decided);
    }

    /// A flow that was decided before this manager started, as an agent tells it; or one that had
    /// [`Decide::ended`] and goes on.
    fn adopted(&mut self, _decided: &Decided) {}

    /// What to check. Asked at the start and after an update.
    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    /// The target with that number has gone up or down.
    fn health(&mut self, _target: usize, _up: bool) {}

    /// The target with that number has reported its load, 0 to 100 percent.
    fn load(&mut self, _target: usize, _percent: u8) {}

    /// Drains a server of a pool, or puts it back: no new flow goes to one that is drained, and old ones live
    /// on. Says whether the service chooses from that pool.
    ///
    /// # Errors
    /// The pool has no such server; the names of those that it has.
    fn drain(&mut self, _pool: &str, _server: &str, _drained: bool) -> Result<bool, Vec<String>> {
        Ok(false)
    }

    /// What becomes of the flows of a target that has gone down; `None` if they live on.
    fn reaction(&self) -> Option<Reaction> {
        None
    }

    /// Whether a flow's target is down.
    fn is_dead(&self, _decided: &Decided) -> bool {
        false
    }

    /// Its targets, for people.
    fn status(&self) -> Vec<TargetStatus> {
        Vec::new()
    }

    /// Its outside addresses, for people.
    fn outside(&self) -> Vec<OutsideStatus> {
        Vec::new()
    }

    /// What it has counted itself, by name: flows that it did not take, by reason.
    fn counted(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::new()
    }

    /// Lines for the operator since it was last asked.
    fn news(&mut self) -> Vec<String> {
        Vec::new()
    }
}
