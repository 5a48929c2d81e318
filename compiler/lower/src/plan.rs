//! The plan: what a policy needs installed, by service and manager, next to the P4 program.
//!
//! It is the agent's and the managers' whole knowledge of a policy: names of tables, static
//! entries, criteria, addresses. It knows nothing of the policy's syntax and nothing of P4Info ids.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

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
    /// The switch's own MAC address on it (derived from policy name and port when the policy gives none).
    #[serde(with = "mac_text")]
    pub mac: [u8; 6],
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
    /// The manager that decides for it, if it has one.
    pub manager: Option<String>,
    /// The tables of its forward part.
    pub forward: PartPlan,
    /// The tables of its reply part, for translating kinds.
    pub reply: Option<PartPlan>,
    /// Addresses that belong to the service: the agent answers ARP, NDP and echo for them.
    pub addresses: Vec<IpAddr>,
    /// The floor's action.
    pub fallback: Fallback,
    /// Leases and limits.
    pub limits: Limits,
    /// What the balance manager needs; absent for other kinds.
    pub balance: Option<BalancePlan>,
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
}

/// One manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerPlan {
    /// Its name in the policy.
    pub name: String,
    /// The services that it decides for.
    pub serves: Vec<String>,
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
