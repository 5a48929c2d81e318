//! What an agent counts (SEMANTICS, "Counters"). The struct is its own JSON form.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::message::Reason;

/// A number that goes up and down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Gauge {
    /// Now.
    pub now: u64,
    /// The most there ever were.
    pub most: u64,
}

impl Gauge {
    /// Sets it.
    pub fn set(&mut self, now: usize) {
        self.now = now as u64;
        self.most = self.most.max(self.now);
    }

    /// Adds to it.
    pub fn add(&mut self, n: u64) {
        self.now += n;
        self.most = self.most.max(self.now);
    }

    /// Takes from it.
    pub fn sub(&mut self, n: u64) {
        self.now = self.now.saturating_sub(n);
    }
}

/// Why the agent dropped a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Drop {
    /// The service's floor drops.
    Floor,
    /// A verdict said so.
    Verdict,
    /// The manager has taken the packet over.
    Consumed,
    /// No room for another held packet.
    HoldFull,
    /// A neighbour did not answer.
    Unresolved,
    /// Too many packets wait for neighbours.
    NeighbourQueueFull,
    /// TTL or hop limit has run out.
    Ttl,
    /// A fragment.
    Fragment,
    /// An ICMP error.
    IcmpError,
    /// The packet makes no sense.
    Malformed,
    /// For an address of the agent, but nobody wants it.
    NotWanted,
    /// No route for a packet of the agent's own.
    NoRoute,
    /// The switch is away.
    NoSwitch,
    /// The switch sends more than the agent can take.
    Overrun,
}

/// Everything an agent counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Ternary entries of managers.
    pub criteria: Gauge,
    /// Fixed affinities: entries, two for a flow with both directions.
    pub fixed: Gauge,
    /// Flows that go in or are in and whose other side has not answered yet, as last seen.
    pub half_open: Gauge,
    /// Packets held now.
    pub held: Gauge,
    /// Packets that fixed affinities counted, as last read.
    pub hits: u64,
    /// Packets that met no fixed affinity and were diverted by criteria.
    pub misses: u64,
    /// Packets that met neither, and took a service's floor on the switch itself, as last read.
    pub floor_hits: u64,
    /// Questions put to managers: one a flow.
    pub interests: u64,
    /// Questions put again because no answer came.
    pub interests_repeated: u64,
    /// Notices passed on.
    pub notices: u64,
    /// Questions without a timely answer; their packets took the floor.
    pub unanswered: u64,
    /// Verdicts that came after the floor: installed, nothing sent.
    pub late_verdicts: u64,
    /// Verdicts of questions that were answered before, ignored.
    pub repeated_verdicts: u64,
    /// Packets that arrived when their flow's entries were in already: later ones may have overtaken them.
    pub overtaken: u64,
    /// Packets sent on after a verdict.
    pub resumed: u64,
    /// Packets that took a floor that lets them pass.
    pub floor_passed: u64,
    /// Flows set up.
    pub flows: u64,
    /// Leases that ran out: fixed affinities' and criteria's.
    pub leases_expired: u64,
    /// Refused logins.
    pub refused_logins: u64,
    /// Packets injected by managers.
    pub injected: u64,
    /// Times the switch went away.
    pub switch_lost: u64,
    /// Updates that the switch refused.
    pub refused_updates: u64,
    /// Denials by reason.
    pub denials: BTreeMap<Reason, u64>,
    /// Packets dropped, by reason.
    pub drops: BTreeMap<Drop, u64>,
}

impl Counters {
    pub(crate) fn drop(&mut self, why: Drop, packets: u64) {
        if packets > 0 {
            *self.drops.entry(why).or_default() += packets;
        }
    }
}
