//! The plan: what a policy needs installed, by service and manager, next to the P4 program.
//!
//! It is the agent's and the managers' whole knowledge of a policy: names of tables, static
//! entries, criteria, addresses. It knows nothing of the policy's syntax and nothing of P4Info ids.

mod share;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use share::{Asks, BackupPlan, OutsidePlan, Replicate, SharePlan};

/// Everything that an agent and its managers need to run one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The policy's name (its file's stem).
    pub policy: String,
    /// Identifies the program that this plan belongs to; the `ready` entry's key.
    pub program_id: u32,
    /// Width of the program's addresses: 32 (IPv4 only) or 128 (both families, IPv4 mapped).
    pub address_bits: u16,
    /// The switch port that leads to the agent.
    pub cpu_port: u16,
    /// The clone session that carries notices.
    pub notice_session: u32,
    /// The switch's ports.
    pub ports: Vec<PortPlan>,
    /// Static routes; connected prefixes come from the ports' addresses.
    pub routes: Vec<RoutePlan>,
    /// Static neighbours.
    pub neighbours: Vec<NeighbourPlan>,
    /// The services in cascade order: stage 1 first.
    pub services: Vec<ServicePlan>,
    /// The managers.
    pub managers: Vec<ManagerPlan>,
}

/// One port of the switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortPlan {
    /// The port's number in the switch, 1 to 509.
    pub number: u16,
    /// The port's name in the policy.
    pub name: String,
    /// The switch's own addresses on it, each with its connected prefix.
    pub addresses: Vec<IpNet>,
    /// Longest IP packet that leaves by it, in bytes.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// The switch's own MAC address on it (derived from policy name and port when the policy gives none).
    #[serde(with = "mac_text")]
    pub mac: [u8; 6],
}

fn default_mtu() -> u16 {
    1500
}

/// A static route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutePlan {
    /// Destinations.
    pub prefix: IpNet,
    /// The router, on the subnet of `port`.
    pub via: IpAddr,
    /// The port that `via` is connected to.
    pub port: u16,
}

/// A neighbour whose MAC address the policy states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourPlan {
    /// Its address.
    pub address: IpAddr,
    /// Its MAC address.
    #[serde(with = "mac_text")]
    pub mac: [u8; 6],
    /// The port that it is on.
    pub port: u16,
}

/// What a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Static allow and deny rules.
    Filter,
    /// Chooses a server for each connection.
    Balance,
    /// Translates addresses and ports.
    Nat,
    /// Answers for servers until a client has shown that it may come in.
    Gate,
    /// Counts flows and reports them.
    Observe,
}

/// What happens to packets that a service's manager does not answer for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// The packet is dropped.
    Drop,
    /// The packet leaves this service only and goes on.
    Route,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// The service's name in the policy.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Its place in the cascade, 1 first; also its number in packet-in metadata and (minus 1) in the notice bitmap.
    pub stage: u8,
    /// Who decides for it; the index is the share's number. Empty for a filter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<SharePlan>,
    /// The tables of its forward part.
    pub forward: PartPlan,
    /// The tables of its reply part, for translating kinds and gates.
    pub reply: Option<PartPlan>,
    /// Addresses that belong to the service: the agent answers ARP, NDP and echo for them.
    pub addresses: Vec<IpAddr>,
    /// The floor's action.
    pub fallback: Fallback,
    /// Leases and limits.
    pub limits: Limits,
    /// What the balance manager needs; absent for other kinds.
    pub balance: Option<BalancePlan>,
    /// What the nat manager needs; absent for other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<NatPlan>,
    /// What the gate manager needs; absent for other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GatePlan>,
    /// What the observe manager needs; absent for other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observe: Option<ObservePlan>,
}

/// One direction of a service: its tables and what they may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartPlan {
    /// P4Info name of the exact table; a filter has none.
    pub fixed: Option<String>,
    /// Number of fixed affinities it holds.
    pub fixed_size: u32,
    /// P4Info name of the ternary table.
    pub criteria_table: String,
    /// Number of ternary entries it holds.
    pub criteria_size: u32,
    /// P4Info name of the indirect counter that `slot` indexes; `fixed_size + criteria_size + 1` cells.
    pub stats: String,
    /// What the service may match: the bounds of every fixed affinity, the criteria its manager installs, and static rules.
    pub criteria: Vec<Criterion>,
}

/// A set of packets and what happens to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Criterion {
    /// Its number within the service, from 1.
    pub id: u32,
    /// A name for people: the clause it comes from.
    pub label: String,
    /// P4Runtime priority: the higher wins.
    pub priority: i32,
    /// Static action of a rule, or what the manager is asked.
    pub action: CriterionAction,
    /// The set: a packet is in it when any cube covers it.
    pub cubes: Vec<Cube>,
}

/// What a criterion does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CriterionAction {
    /// On to the next stage.
    Pass,
    /// Drop.
    Discard,
    /// Ask the service's manager; masks are event bits.
    Ask {
        /// Events for which the packet itself is sent and held.
        packet_events: u16,
        /// Events for which only a notice is sent.
        notice_events: u16,
    },
}

/// One ternary entry's match; an absent field matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cube {
    /// Ingress port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_port: Option<u16>,
    /// Source prefix or masked address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src: Option<MaskedAddr>,
    /// Destination prefix or masked address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst: Option<MaskedAddr>,
    /// IP protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proto: Option<Masked<u8>>,
    /// Source port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sport: Option<Masked<u16>>,
    /// Destination port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dport: Option<Masked<u16>>,
    /// TCP flags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Masked<u8>>,
    /// ICMP or ICMPv6 type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Masked<u8>>,
    /// Packet kind: 0 whole, 1 first fragment, 2 later fragment, 3 ICMP error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Masked<u8>>,
}

/// A value and the bits of it that count; bits outside the mask are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masked<T> {
    /// The bits to match.
    pub value: T,
    /// Ones where they count.
    pub mask: T,
}

/// An address and the bits of it that count, both of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskedAddr {
    /// The bits to match.
    pub value: IpAddr,
    /// Ones where they count. A mask of zero still tells the families apart in dual-stack programs.
    pub mask: IpAddr,
}

/// Leases, time-outs and bounds of a service; times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Idle lease of an established flow.
    pub idle_ms: u64,
    /// Idle lease of a flow that has closed.
    pub closed_ms: u64,
    /// Idle lease until the other side has answered.
    pub half_open_ms: u64,
    /// How long a diverted packet is held for its verdict.
    pub hold_ms: u64,
    /// Packets held at once.
    pub hold_packets: u32,
    /// Bytes held at once.
    pub hold_bytes: u32,
    /// Lease of criteria, renewed by heartbeats.
    pub criteria_lease_ms: u64,
    /// Flows at once that the other side has not answered; none is without a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_open: Option<u32>,
    /// The same for the flows of one source address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_open_per_source: Option<u32>,
    /// New flows in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_per_second: Option<u32>,
    /// The same for the flows of one source address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_per_second_per_source: Option<u32>,
}

/// A pool and how one of its servers is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalancePlan {
    /// The pool's name.
    pub pool: String,
    /// The scheme.
    pub pick: Pick,
    /// The servers, in the policy's order.
    pub servers: Vec<ServerPlan>,
    /// How they are checked.
    pub check: Option<CheckPlan>,
    /// A source keeps its server until it has had no flow for so long; absent without stickiness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stick_ms: Option<u64>,
    /// How long a server that comes back takes to reach its weight; 0 at once.
    #[serde(default)]
    pub slow_start_ms: u64,
    /// How packets get to the server.
    #[serde(default)]
    pub way: Way,
    /// What becomes of the flows of a server that has died.
    #[serde(default)]
    pub on_death: OnDeath,
}

/// How packets get to their server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Destination address and port become the server's, and replies are translated back.
    #[default]
    Translate,
    /// Unchanged, to the server's MAC address; the server has the service's address, and answers the
    /// client directly.
    Mac,
    /// In an IP tunnel (RFC 2003, RFC 2473) to the server, which answers the client directly.
    Ipip,
    /// In a UDP tunnel (Generic UDP Encapsulation, version 0) to the server, which answers the client directly.
    Gue,
}

/// What becomes of the flows of a server that has died.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDeath {
    /// They stay with it until they are idle.
    #[default]
    Keep,
    /// Their packets are dropped.
    Drop,
    /// The next packet of each is answered with a RST.
    Reset,
}

/// How a nat service translates: the source, the destination or both (twice).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatPlan {
    /// What becomes of the source.
    pub source: Option<NatSource>,
    /// What becomes of the destination.
    pub destination: Option<NatDestination>,
    /// Idle leases by protocol.
    pub leases: NatLeases,
    /// How long an outside address and port rests after its last flow, before it is given out again.
    pub hold_back_ms: u64,
    /// Outside tuples that one inside address may have at once; absent without a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_source: Option<u32>,
    /// Which packets from outside may come in.
    pub inbound: Inbound,
}

/// What becomes of the source of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NatSource {
    /// It gets a port of one of these addresses.
    Ports {
        /// The outside addresses, ascending.
        addresses: Vec<AddressRange>,
        /// The lowest port (or ICMP identifier) that is given out.
        first_port: u16,
        /// The highest.
        last_port: u16,
    },
    /// Each inside address has an outside address of its own, and ports stay.
    OneToOne {
        /// Prefixes of equal length: an address becomes the one at the same place in the other.
        pairs: Vec<Pair>,
    },
}

/// Addresses from `first` to `last`, both of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRange {
    /// The first.
    pub first: IpAddr,
    /// The last.
    pub last: IpAddr,
}

/// An inside prefix and the outside prefix that stands for it, of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The inside prefix.
    pub inside: IpNet,
    /// The outside prefix.
    pub outside: IpNet,
}

/// What becomes of the destination of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatDestination {
    /// The new address.
    pub address: IpAddr,
    /// The new port; absent if it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// Idle leases of translated flows; times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatLeases {
    /// TCP that both sides have spoken on (RFC 5382 REQ-5: at least 2 h 4 min).
    pub tcp_established_ms: u64,
    /// TCP half open, closing or reset (RFC 5382 REQ-5: at least 4 min).
    pub tcp_transitory_ms: u64,
    /// UDP (RFC 4787 REQ-5: at least 2 min, 5 min recommended), and protocols without ports.
    pub udp_ms: u64,
    /// ICMP queries (RFC 5508 REQ-2: at least 60 s).
    pub icmp_ms: u64,
}

/// Which packets from outside may come in to an outside tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inbound {
    /// Only answers: from addresses and ports that the inside has sent to (address and port-dependent
    /// filtering, RFC 4787 section 5).
    Answers,
    /// Anybody's, while the tuple is mapped (endpoint-independent filtering).
    Mapped,
}

/// Whom a gate service lets through, and how; times in milliseconds.
///
/// The forward part's first criterion asks about the connections that some clause allows at some time,
/// the reply part's first one about the server's packets of those; what else the service matches is
/// dropped by the second one of each, and never asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatePlan {
    /// Who may come in, and when: any of these.
    pub allow: Vec<AllowPlan>,
    /// What becomes of other clients' packets.
    pub refuse: Refuse,
    /// What the client's first data must be: any of these; empty if they are not looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub look: Vec<LookPlan>,
    /// Bounds of connections.
    pub bounds: GateBounds,
    /// The largest segment that clients over IPv4 are told, in bytes (RFC 9293, section 3.7.1).
    pub mss_v4: u16,
    /// The same for clients over IPv6.
    pub mss_v6: u16,
    /// The shift of the windows that clients are told while the server's is not known (RFC 7323,
    /// section 2.2), 0 to 14.
    pub window_scale: u8,
    /// Bytes kept for one connection and direction at once.
    pub buffer: u32,
    /// How long the server may take to answer the SYN.
    pub connect_ms: u64,
    /// How long the client may take to send the data that are looked at.
    pub speak_ms: u64,
    /// How long both ends may take, once they have answered, until the switch can take over.
    pub hand_over_ms: u64,
    /// How long a connection that goes through the manager is kept without a segment.
    pub proxied_idle_ms: u64,
}

/// Who may come in, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowPlan {
    /// A name for people: the clause.
    pub label: String,
    /// The connections, in the client's direction: any of these; all lie within the first criterion.
    pub cubes: Vec<Cube>,
    /// When; absent for always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<WhenPlan>,
}

/// Times of a week, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhenPlan {
    /// The first second of the day, 0 to 86,399.
    pub from_s: u32,
    /// One past the last, 1 to 86,400; if it is not after `from_s`, the time ends on the next day.
    pub to_s: u32,
    /// The days on which it begins: bit 0 is Monday, bit 6 Sunday.
    pub days: u8,
}

/// What becomes of the packets of a client that may not come in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refuse {
    /// Nothing is answered.
    #[default]
    Drop,
    /// A RST is answered.
    Reset,
}

/// What a client's first data may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LookPlan {
    /// A TLS ClientHello for one of these names (RFC 6066, section 3).
    TlsName(Vec<HostPattern>),
    /// An HTTP/1 request whose `Host` is one of these (RFC 9110, section 7.2), its port left out.
    HttpHost(Vec<HostPattern>),
    /// These bytes at this place of the stream.
    Bytes {
        /// Where, from the first byte.
        offset: u16,
        /// The bytes, 1 to 64; zero where the mask is.
        value: Vec<u8>,
        /// Ones where they count; as long as the value.
        mask: Vec<u8>,
    },
}

/// A host's name, or all names that have one label more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPattern {
    /// The name in lower case, without a dot at its end.
    pub name: String,
    /// Whether the names that have exactly one label before it are meant (RFC 6125, section 6.4.3), and
    /// not itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub below: bool,
}

/// Bounds of a gate's connections; absent without a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateBounds {
    /// Connections at once, those that the switch forwards among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// The same for one source address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_per_source: Option<u32>,
    /// Completed handshakes in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_per_second: Option<u32>,
    /// The same for one source address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_per_second_per_source: Option<u32>,
    /// Connections at once that go through the manager.
    pub proxied: u32,
}

/// What an observe service counts and when it reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservePlan {
    /// Whether each flow is counted by itself; else only all that the criteria match together.
    pub per_flow: bool,
    /// Whether reports tell the TCP flags of the packets that met the manager or the agent.
    pub flags: bool,
    /// Period of reports; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
    /// Whether a flow's end is reported.
    pub on_close: bool,
}

/// How a server is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    /// Each in turn.
    RoundRobin,
    /// Each in turn, in proportion to the weights.
    Weighted,
    /// Maglev hashing of the 5-tuple.
    MaglevFlow,
    /// Maglev hashing of the source address.
    MaglevSource,
    /// The server with the fewest flows for its weight.
    LeastConnections,
}

/// One server of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPlan {
    /// A name for people: the policy's, or `address:port`.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its weight; 0 takes no new flows.
    pub weight: u32,
}

/// A health check; times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckPlan {
    /// What is asked.
    pub kind: CheckKind,
    /// From one check to the next.
    pub every_ms: u64,
    /// A check without an answer by then has failed.
    pub timeout_ms: u64,
    /// Successes in a row that bring a server back.
    pub rise: u32,
    /// Failures in a row that take a server out.
    pub fall: u32,
}

/// What a health check asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// The server completes a handshake.
    Tcp,
    /// The server answers a GET of this path with a status below 400.
    Http {
        /// The path.
        path: String,
    },
    /// As `Http`, and the answer's body begins with the server's load, a whole number from 0 to 100: its
    /// weight counts by what is left (100 takes no new flows).
    Load {
        /// The path.
        path: String,
    },
}

/// One manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerPlan {
    /// Its name in the policy.
    pub name: String,
    /// The services that it decides for first.
    pub serves: Vec<String>,
    /// The services that it stands by for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backs: Vec<String>,
}

/// MAC addresses as people write them: `02:53:42:00:00:01`.
mod mac_text {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(mac: &[u8; 6], out: S) -> Result<S::Ok, S::Error> {
        let [a, b, c, d, e, f] = mac;
        out.collect_str(&format_args!(
            "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"
        ))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<[u8; 6], D::Error> {
        let text = String::deserialize(input)?;
        let bytes: Option<Vec<u8>> = text
            .split(':')
            .map(|part| u8::from_str_radix(part, 16).ok())
            .collect();
        bytes
            .and_then(|b| b.try_into().ok())
            .ok_or_else(|| D::Error::custom(format!("`{text}` is no MAC address")))
    }
}
