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
    /// A static rule of a service.
    Service,
    /// Longer than the next hop's link takes.
    TooBig,
    /// A fragment for the agent itself, or of a datagram whose first fragment was for it.
    Fragment,
    /// A fragment that the switch has had already.
    FragmentDuplicate,
    /// A fragment of a datagram whose fragments overlap or contradict each other (RFC 5722).
    FragmentOverlap,
    /// A fragment of a datagram whose first one is too short for the transport header (RFC 1858).
    FragmentTiny,
    /// A fragment whose first one did not come in time.
    FragmentTimeout,
    /// A fragment for which there was no room.
    FragmentsFull,
    /// An ICMP error that quotes nothing known.
    IcmpError,
    /// An ICMP error above the rate at which they are translated.
    IcmpErrorRate,
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

/// Why the agent did not tell a sender what became of its packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Withheld {
    /// There were too many errors.
    Rate,
    /// The packet was an ICMP error itself.
    AboutError,
    /// It was a fragment other than the first.
    AboutFragment,
    /// It came as, or was sent to, a broadcast or multicast.
    AboutGroup,
    /// Its source is no single host, or is the switch itself.
    NoSender,
    /// The switch has no address of that family to speak from.
    NoAddress,
}

/// What the agent sends of its own to say that a packet ended here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    /// TTL or hop limit has run out.
    TimeExceeded,
    /// No route, no neighbour, or nobody at that port.
    Unreachable,
    /// Longer than a link takes.
    TooBig,
    /// A RST: TCP to a port of the switch that nobody has.
    Reset,
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
    /// RSTs for what a manager carried on when it died.
    pub legs_cut: u64,
    /// Times the switch went away.
    pub switch_lost: u64,
    /// Updates that the switch refused.
    pub refused_updates: u64,
    /// ICMP errors and RSTs sent, by kind.
    pub errors_sent: BTreeMap<Sent, u64>,
    /// ICMP errors that were not sent, by reason.
    pub errors_withheld: BTreeMap<Withheld, u64>,
    /// ICMP errors about known flows, sent on to the end that they concern.
    pub errors_translated: u64,
    /// ICMP errors about flows that no service translates, sent on as they were.
    pub errors_routed: u64,
    /// Fragments sent on.
    pub fragments: u64,
    /// Datagrams of which fragments are followed.
    pub datagrams: Gauge,
    /// Datagrams that were given up before they were complete, for want of room.
    pub datagrams_evicted: u64,
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
