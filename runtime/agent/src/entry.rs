//! What the agent writes to a switch, in its own words: entries, counter cells and packet headers.
//!
//! `encode` turns these into P4Runtime messages; nothing here knows table names or ids.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use signalbox_lower::entries::{Match, PlannedEntry};
use signalbox_lower::plan::Cube;

use crate::adjust::Adjust;
use crate::flow::{FlowKey, Part, Tuple};

/// What a fixed entry does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FixedAction {
    /// On to the next stage.
    Forward,
    /// Drop.
    Discard,
    /// The whole new tuple.
    Translate(Tuple),
    /// Other sequence and acknowledgement numbers, and another window.
    Adjust(Adjust),
    /// To a next hop by id.
    Dispatch {
        /// Id in the `next_hop` table.
        next_hop: u16,
        /// Id in the `tunnel` table, 0 for none.
        tunnel: u16,
    },
}

/// An exact entry: one direction of one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedEntry {
    /// Service, part and match.
    pub key: FlowKey,
    /// What it does.
    pub action: FixedAction,
    /// Events that divert the packet.
    pub packet_events: u16,
    /// Events that send a notice.
    pub notice_events: u16,
    /// The id that packet-ins carry.
    pub entry: u32,
    /// The counter cell, 0 for none.
    pub slot: u32,
    /// After this time without a hit the switch sends an idle notice.
    pub idle: Option<Duration>,
}

/// What a ternary entry does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CriterionAct {
    /// On to the next stage.
    Pass,
    /// Drop.
    Discard,
    /// Divert or notify by events, else the static action.
    Ask {
        /// Events that divert the packet.
        packet_events: u16,
        /// Events that send a notice.
        notice_events: u16,
        /// Whether other packets are dropped (else they go on).
        else_drop: bool,
    },
    /// Divert or notify by events, else to a next hop.
    Dispatch {
        /// Ids in the `next_hop` and the `tunnel` table; the second 0 for none.
        hop: (u16, u16),
        /// Events that divert the packet.
        packet_events: u16,
        /// Events that send a notice.
        notice_events: u16,
    },
}

/// How a tunnel wraps packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wrap {
    /// IP in IP (RFC 2003, RFC 2473).
    Ipip,
    /// Generic UDP encapsulation, version 0.
    Gue,
}

/// A ternary entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CriterionEntry {
    /// Index of the service in the plan.
    pub service: u8,
    /// Direction.
    pub part: Part,
    /// The match.
    pub cube: Cube,
    /// The higher wins.
    pub priority: i32,
    /// What it does.
    pub action: CriterionAct,
    /// The id that packet-ins carry.
    pub entry: u32,
    /// The counter cell, 0 for none.
    pub slot: u32,
}

/// Any entry that the agent writes while it runs. The plan's static ones are the shell's to install when
/// the switch comes up; the agent writes those that another plan changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// One direction of a flow.
    Fixed(FixedEntry),
    /// A manager's criterion, or a part of one.
    Criterion(CriterionEntry),
    /// A route to a neighbour.
    Route {
        /// Destinations.
        prefix: IpNet,
        /// Id in the `next_hop` table.
        next_hop: u16,
    },
    /// A neighbour.
    NextHop {
        /// Its id.
        id: u16,
        /// The port that it is on.
        port: u16,
        /// The port's own MAC address.
        src_mac: [u8; 6],
        /// Its MAC address.
        dst_mac: [u8; 6],
    },
    /// One of the plan's own.
    Static(PlannedEntry),
    /// The outer headers of a tunnel.
    Tunnel {
        /// Its id; 0 is no tunnel.
        id: u16,
        /// Their kind.
        wrap: Wrap,
        /// Outer source: the switch's own address.
        src: IpAddr,
        /// Outer destination, of the same family.
        dst: IpAddr,
    },
    /// Opens the pipeline; written last of all.
    Ready,
}

/// What names an entry, as far as the agent must keep changes of the same one apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKey {
    /// A fixed entry.
    Fixed(FlowKey),
    /// Ternary entries all share one key a service and part: they change rarely.
    Criteria(u8, Part),
    /// A route.
    Route(IpNet),
    /// A neighbour.
    NextHop(u16),
    /// The plan's own share one key: they change when the plan does.
    Static,
    /// A tunnel.
    Tunnel(u16),
    /// The ready entry.
    Ready,
}

impl Entry {
    /// What names it.
    #[must_use]
    pub fn key(&self) -> EntryKey {
        match self {
            Self::Fixed(e) => EntryKey::Fixed(e.key),
            Self::Criterion(e) => EntryKey::Criteria(e.service, e.part),
            Self::Route { prefix, .. } => EntryKey::Route(*prefix),
            Self::NextHop { id, .. } => EntryKey::NextHop(*id),
            Self::Static(_) => EntryKey::Static,
            Self::Tunnel { id, .. } => EntryKey::Tunnel(*id),
            Self::Ready => EntryKey::Ready,
        }
    }

    /// What tells it apart from every other entry of a switch. A route is one whoever wrote it.
    #[must_use]
    pub fn table_key(&self) -> (String, String, i32) {
        let route = |prefix: &IpNet| ("Ingress.route".to_owned(), prefix.trunc().to_string(), 0);
        match self {
            Self::Route { prefix, .. } => route(prefix),
            Self::Static(entry) => match entry.matches.as_slice() {
                [("dst", Match::Lpm(prefix))] if entry.table == "Ingress.route" => route(prefix),
                _ => entry.key(),
            },
            Self::Criterion(e) => (
                format!("criteria {} {:?}", e.service, e.part),
                format!("{:?}", e.cube),
                e.priority,
            ),
            other => (String::new(), format!("{:?}", other.key()), 0),
        }
    }
}

/// How an entry changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// It is not there yet.
    Insert,
    /// It is there.
    Modify,
    /// It goes.
    Delete,
}

/// One update of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// How.
    pub change: Change,
    /// What.
    pub entry: Entry,
}

/// A counter cell of a service's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell {
    /// Index of the service in the plan.
    pub service: u8,
    /// Direction.
    pub part: Part,
    /// The cell's index.
    pub slot: u32,
}

/// Values of the `kind` field of a packet-in.
pub mod packet_in {
    /// A criterion or affinity diverted it.
    pub const INTEREST: u8 = 1;
    /// A copy; the packet went on.
    pub const NOTICE: u8 = 2;
    /// The host table.
    pub const LOCAL: u8 = 3;
    /// ARP.
    pub const ARP: u8 = 4;
    /// Neighbour discovery.
    pub const NDP: u8 = 5;
    /// A fragment.
    pub const FRAGMENT: u8 = 6;
    /// An ICMP error.
    pub const ICMP_ERROR: u8 = 7;
    /// TTL or hop limit has run out.
    pub const TTL: u8 = 8;
    /// On-link, neighbour unknown; `next_hop` carries the egress port.
    pub const GLEAN: u8 = 9;
    /// A route's next hop has no entry.
    pub const UNRESOLVED: u8 = 10;
    /// Longer than what the next hop's link takes; `next_hop` is its id.
    pub const TOO_BIG: u8 = 11;
    /// No route, or for an address of the switch's own where nobody listens; dropped and counted there.
    pub const UNDELIVERED: u8 = 12;
}

/// Values of the `kind` field of a packet-out.
pub mod packet_out {
    /// Restore the carried state and go on.
    pub const RESUME: u8 = 1;
    /// Straight out of `port`.
    pub const SEND: u8 = 2;
    /// Restore the carried state and go on at the route, past every stage.
    pub const ROUTE: u8 = 3;
}

/// The header of packet-in and packet-out: the same fields in both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PacketMeta {
    /// See [`packet_in`] and [`packet_out`].
    pub kind: u8,
    /// 1 reply, 2 forward, 0 before the stages.
    pub part: u8,
    /// Whether a reply entry has translated it.
    pub reply: bool,
    /// Whether the stage must not divert it again.
    pub answered: bool,
    /// Whether `mark` counts.
    pub mark_set: bool,
    /// DSCP.
    pub mark: u8,
    /// The stage.
    pub stage: u8,
    /// Ingress port; with SEND the egress port.
    pub port: u16,
    /// Next hop, or what `kind` says.
    pub next_hop: u16,
    /// Tunnel.
    pub tunnel: u16,
    /// Notice bitmap.
    pub notices: u32,
    /// Entry id.
    pub entry: u32,
}

/// A packet with its header, from or to the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The header.
    pub meta: PacketMeta,
    /// From the Ethernet header on.
    pub bytes: Bytes,
}
