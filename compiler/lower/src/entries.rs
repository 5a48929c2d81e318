//! The entries that a plan fixes once and for all, in names and typed values.
//!
//! They are written before the `ready` entry and then stay. What depends on the living is the agent's:
//! routes to next hops (it resolves a static route's router or a connected neighbour, chooses the
//! `next_hop` id, and writes `next_hop` and `route` entries), managers' criteria, fixed affinities, and
//! the clone session of notices.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::LowerError;
use crate::cubes::{widen, widen_mask};
use crate::plan::{
    Criterion, CriterionAction, Cube, Fallback, MaskedAddr, PartPlan, Plan, ServicePlan,
};
use crate::planning::{CRITERIA_PRIORITY, FLOOR_PRIORITY};

/// Entries of the system's tables that addresses may take: all of `host`, half of `route`, whose other half
/// is for neighbours.
const ROOM: [(&str, usize); 2] = [("Ingress.host", 1_024), ("Ingress.route", 8_192)];

/// Whether the plan's addresses fit into the system's tables.
///
/// # Errors
/// [`LowerError::TooManyAddresses`].
pub(crate) fn check_room(plan: &Plan) -> Result<(), LowerError> {
    let mut entries = Vec::new();
    plan.host_entries(&mut entries);
    plan.route_entries(&mut entries);
    for (table, limit) in ROOM {
        let needed = entries.iter().filter(|e| e.table == table).count();
        if needed > limit {
            return Err(LowerError::TooManyAddresses {
                table,
                needed,
                limit,
            });
        }
    }
    Ok(())
}

/// Ports from here on, at our own addresses, are the agent's connections (health checks).
pub const AGENT_PORTS: u16 = 61_440;

/// One entry of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedEntry {
    /// P4Info name of the table.
    pub table: String,
    /// Name and match of each key that is not left open.
    pub matches: Vec<(&'static str, Match)>,
    /// P4Runtime priority: high wins; 0 in tables that have none.
    pub priority: i32,
    /// P4Info name of the action.
    pub action: String,
    /// Name and value of each parameter.
    pub params: Vec<(&'static str, Value)>,
}

impl PlannedEntry {
    /// What tells it apart from the other entries of a switch: table, match and priority.
    #[must_use]
    pub fn key(&self) -> (String, String, i32) {
        let matches = format!("{:?}", self.matches);
        (self.table.clone(), matches, self.priority)
    }
}

/// What a key must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// This value.
    Exact(Value),
    /// This value where the mask has ones; both of one shape.
    Ternary {
        /// The bits to match; zero outside the mask.
        value: Value,
        /// Ones where they count.
        mask: Value,
    },
    /// This prefix.
    Lpm(IpNet),
}

/// A number as wide as its key or parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// An address (or its mask), as wide as the plan's `address_bits`.
    Addr(IpAddr),
    /// Anything else.
    Bits {
        /// The number.
        value: u64,
        /// Its width in bits.
        width: u16,
    },
}

impl Value {
    fn bits(value: impl Into<u64>, width: u16) -> Self {
        Self::Bits {
            value: value.into(),
            width,
        }
    }

    /// The number and its width in a program with such addresses; an IPv4 address in a dual-stack
    /// program is mapped.
    #[must_use]
    pub fn number(self, address_bits: u16) -> (u128, u16) {
        match self {
            Self::Addr(a) => (widen(a, address_bits), address_bits),
            Self::Bits { value, width } => (u128::from(value), width),
        }
    }

    /// The same for a mask: an IPv4 mask counts the mapped prefix.
    #[must_use]
    pub fn mask_number(self, address_bits: u16) -> (u128, u16) {
        match self {
            Self::Addr(m) => (widen_mask(m, address_bits), address_bits),
            Self::Bits { value, width } => (u128::from(value), width),
        }
    }
}

/// A prefix's address and length in a program with such addresses.
#[must_use]
pub fn prefix_number(prefix: IpNet, address_bits: u16) -> (u128, u16) {
    let prefix = prefix.trunc();
    let mapped = if prefix.addr().is_ipv4() && address_bits == 128 {
        96
    } else {
        0
    };
    (
        widen(prefix.addr(), address_bits),
        u16::from(prefix.prefix_len()) + mapped,
    )
}

impl Plan {
    /// All static entries but [`Plan::ready_entry`], in the order in which they are to be written.
    #[must_use]
    pub fn static_entries(&self) -> Vec<PlannedEntry> {
        let mut out = Vec::new();
        out.extend(self.ports.iter().map(|p| PlannedEntry {
            table: "Ingress.port".into(),
            matches: vec![("in_port", Match::Exact(Value::bits(p.number, 9)))],
            priority: 0,
            action: "Ingress.own".into(),
            params: vec![("mac", mac(p.mac))],
        }));
        self.host_entries(&mut out);
        self.route_entries(&mut out);
        for service in &self.services {
            for part in std::iter::once(&service.forward).chain(&service.reply) {
                for criterion in part.criteria.iter().filter(|c| c.is_static()) {
                    criterion_entries(part, criterion, &mut out);
                }
                for floor in part.floors(service.fallback) {
                    criterion_entries(part, &floor, &mut out);
                }
            }
        }
        // Two rules of one filter may have a box in common. They say the same, or the policy would not
        // have compiled, so the first one stands for both.
        let mut seen = BTreeSet::new();
        out.retain(|e: &PlannedEntry| seen.insert(e.key()));
        out
    }

    /// The entry that opens the pipeline: written last of all.
    #[must_use]
    pub fn ready_entry(&self) -> PlannedEntry {
        PlannedEntry {
            table: "Ingress.ready".into(),
            matches: vec![("program", Match::Exact(Value::bits(self.program_id, 32)))],
            priority: 0,
            action: "Ingress.go".into(),
            params: Vec::new(),
        }
    }

    /// The switch's own addresses, ascending, each once.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        let addresses = self
            .ports
            .iter()
            .flat_map(|p| &p.addresses)
            .map(|a| a.addr());
        sorted(addresses.collect())
    }

    /// The addresses of all services, ascending, each once.
    #[must_use]
    pub fn service_addresses(&self) -> Vec<IpAddr> {
        sorted(
            self.services
                .iter()
                .flat_map(|s| s.addresses.iter().copied())
                .collect(),
        )
    }

    /// Echo to any address of ours, and the agent's own TCP and UDP ports. Not to an address whose echo
    /// requests a nat service translates: they are the inside host's.
    fn host_entries(&self, out: &mut Vec<PlannedEntry>) {
        let own = self.own_addresses();
        let answered = self.services.iter().flat_map(|s| {
            let addresses = s.addresses.iter().copied();
            addresses.filter(|a| !s.translates_echo_to(*a))
        });
        let all = own.iter().copied().chain(answered).collect();
        let entry = |prefix: IpNet, proto: u8, more: (&'static str, Match)| PlannedEntry {
            table: "Ingress.host".into(),
            matches: vec![
                ("dst", in_prefix(prefix)),
                ("proto", ternary(proto.into(), 0xff, 8)),
                more,
            ],
            priority: CRITERIA_PRIORITY,
            action: "Ingress.divert_local".into(),
            params: Vec::new(),
        };
        for prefix in prefixes(all) {
            let (proto, echo_request) = echo_request(prefix.addr());
            out.push(entry(
                prefix,
                proto,
                ("icmp", ternary(echo_request.into(), 0xff, 8)),
            ));
        }
        for address in own {
            for proto in [6, 17] {
                let ports = ternary(AGENT_PORTS.into(), AGENT_PORTS.into(), 16);
                out.push(entry(address.into(), proto, ("dport", ports)));
            }
        }
    }

    /// Our own and the services' addresses go nowhere, and who asks for what an address of ours alone does
    /// not have is told; connected subnets go to the agent until it knows
    /// the neighbour.
    fn route_entries(&self, out: &mut Vec<PlannedEntry>) {
        let entry = |prefix: IpNet, action: &str, params| PlannedEntry {
            table: "Ingress.route".into(),
            matches: vec![("dst", Match::Lpm(prefix))],
            priority: 0,
            action: format!("Ingress.{action}"),
            params,
        };
        let mut connected: Vec<(IpNet, u16)> = self
            .ports
            .iter()
            .flat_map(|p| p.addresses.iter().map(|a| (a.trunc(), p.number)))
            // A subnet of one address is the address itself.
            .filter(|(subnet, _)| subnet.prefix_len() < subnet.max_prefix_len())
            .collect();
        connected.sort_unstable();
        connected.dedup_by_key(|(subnet, _)| *subnet);
        // In a dual-stack table IPv4 lies within ::/0: a route of IPv6 must not catch it.
        let all_v4 = IpNet::V4(Ipv4Net::default());
        let routed = self.routes.iter().any(|r| r.prefix == all_v4);
        let is_connected = connected.iter().any(|(subnet, _)| *subnet == all_v4);
        if self.address_bits == 128 && !routed && !is_connected {
            out.push(entry(all_v4, "unreachable", Vec::new()));
        }
        // A prefix that is all ours is less than a subnet or a route of the same length, which the agent
        // may write anew: its halves are not.
        let subnets = connected.iter().map(|(subnet, _)| *subnet);
        let taken: BTreeSet<IpNet> = subnets
            .chain(self.routes.iter().map(|r| r.prefix.trunc()))
            .collect();
        let served = self.service_addresses();
        let mut own = self.own_addresses();
        own.retain(|address| served.binary_search(address).is_err());
        for (addresses, action) in [(own, "closed"), (served, "local")] {
            out.extend(
                (prefixes(addresses).into_iter())
                    .flat_map(|prefix| apart(prefix, &taken))
                    .map(|prefix| entry(prefix, action, Vec::new())),
            );
        }
        out.extend(
            connected
                .into_iter()
                .map(|(subnet, port)| entry(subnet, "glean", vec![("port", Value::bits(port, 9))])),
        );
    }
}

impl ServicePlan {
    /// Whether echo requests to an address of its own are translated, and so not the agent's to answer:
    /// those that come in at an outside address, and those to a destination that is translated.
    #[must_use]
    pub fn translates_echo_to(&self, address: IpAddr) -> bool {
        let Some(nat) = &self.nat else { return false };
        let forward = nat.destination.map(|_| &self.forward);
        let (proto, icmp) = echo_request(address);
        self.reply
            .iter()
            .chain(forward)
            .flat_map(|part| &part.criteria)
            .filter(|c| c.action != CriterionAction::Pass)
            .flat_map(|c| &c.cubes)
            .any(|cube| {
                cube.src
                    .is_none_or(|src| src.value.is_ipv4() == address.is_ipv4())
                    && cube.dst.is_none_or(|dst| dst.covers(address))
                    && cube.proto.is_none_or(|m| proto & m.mask == m.value)
                    && cube.icmp.is_none_or(|m| icmp & m.mask == m.value)
            })
    }
}

impl MaskedAddr {
    /// Whether the address has these bits, and is of this family.
    #[must_use]
    pub fn covers(self, address: IpAddr) -> bool {
        match (address, self.value, self.mask) {
            (IpAddr::V4(a), IpAddr::V4(v), IpAddr::V4(m)) => {
                u32::from(a) & u32::from(m) == u32::from(v)
            }
            (IpAddr::V6(a), IpAddr::V6(v), IpAddr::V6(m)) => {
                u128::from(a) & u128::from(m) == u128::from(v)
            }
            _ => false,
        }
    }
}

impl Criterion {
    /// Whether it says itself what happens: then the agent installs it once and for all, and no manager.
    #[must_use]
    pub fn is_static(&self) -> bool {
        !matches!(self.action, CriterionAction::Ask { .. })
    }
}

impl PartPlan {
    /// The floors below criteria that ask a manager: the same packets at the lowest priority, with the
    /// service's fallback. The floor of criterion `i` has the id `criteria.len() + i`.
    #[must_use]
    pub fn floors(&self, fallback: Fallback) -> Vec<Criterion> {
        let first = self.criteria.len() as u32;
        self.criteria
            .iter()
            .filter(|c| !c.is_static())
            .map(|c| Criterion {
                id: first + c.id,
                label: format!("floor of {}", c.label),
                priority: FLOOR_PRIORITY,
                action: match fallback {
                    Fallback::Drop => CriterionAction::Discard,
                    Fallback::Route => CriterionAction::Pass,
                },
                cubes: c.cubes.clone(),
            })
            .collect()
    }

    /// The lowest counter cell that is free for fixed affinities. Cell 0 is nobody's; static criteria and
    /// floors use the cell of their id; managers' criteria find room up to `criteria_size`.
    #[must_use]
    pub fn first_fixed_slot(&self) -> u32 {
        self.criteria_size + 1
    }

    /// The number of counter cells.
    #[must_use]
    pub fn cells(&self) -> u32 {
        self.fixed_size + self.criteria_size + 1
    }
}

/// The entries of a criterion: one a cube, all with its id as entry and as slot.
fn criterion_entries(part: &PartPlan, criterion: &Criterion, out: &mut Vec<PlannedEntry>) {
    let control = part
        .criteria_table
        .rsplit_once('.')
        .map_or("", |(control, _)| control);
    let (name, events) = match criterion.action {
        CriterionAction::Pass => ("pass", None),
        CriterionAction::Discard => ("discard", None),
        CriterionAction::Ask {
            packet_events,
            notice_events,
        } => ("ask", Some((packet_events, notice_events))),
    };
    let mut params = Vec::new();
    if let Some((packet, notice)) = events {
        params.push(("packet_events", Value::bits(packet, 10)));
        params.push(("notice_events", Value::bits(notice, 10)));
        params.push(("else_drop", Value::bits(0u8, 1)));
    }
    params.push(("entry", Value::bits(criterion.id, 32)));
    params.push(("slot", Value::bits(criterion.id, 32)));
    out.extend(criterion.cubes.iter().map(|cube| PlannedEntry {
        table: part.criteria_table.clone(),
        matches: cube.matches(),
        priority: criterion.priority,
        action: format!("{control}.{name}"),
        params: params.clone(),
    }));
}

impl Cube {
    /// The keys of a `wildcard` or `criteria` table that are not left open.
    #[must_use]
    pub fn matches(&self) -> Vec<(&'static str, Match)> {
        let address = |m: MaskedAddr| Match::Ternary {
            value: Value::Addr(m.value),
            mask: Value::Addr(m.mask),
        };
        [
            self.in_port
                .map(|p| ("in_port", ternary(p.into(), 0x1ff, 9))),
            self.src.map(|m| ("src", address(m))),
            self.dst.map(|m| ("dst", address(m))),
            self.proto
                .map(|m| ("proto", ternary(m.value.into(), m.mask.into(), 8))),
            self.sport
                .map(|m| ("sport", ternary(m.value.into(), m.mask.into(), 16))),
            self.dport
                .map(|m| ("dport", ternary(m.value.into(), m.mask.into(), 16))),
            self.flags
                .map(|m| ("flags", ternary(m.value.into(), m.mask.into(), 8))),
            self.icmp
                .map(|m| ("icmp", ternary(m.value.into(), m.mask.into(), 8))),
            self.kind
                .map(|m| ("kind", ternary(m.value.into(), m.mask.into(), 2))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn ternary(value: u64, mask: u64, width: u16) -> Match {
    Match::Ternary {
        value: Value::bits(value & mask, width),
        mask: Value::bits(mask, width),
    }
}

fn in_prefix(prefix: IpNet) -> Match {
    Match::Ternary {
        value: Value::Addr(prefix.network()),
        mask: Value::Addr(prefix.netmask()),
    }
}

/// The protocol and type of an echo request to the address.
fn echo_request(address: IpAddr) -> (u8, u8) {
    if address.is_ipv4() { (1, 8) } else { (58, 128) }
}

/// The addresses as the fewest prefixes that hold them and nothing else, ascending.
fn prefixes(addresses: Vec<IpAddr>) -> Vec<IpNet> {
    let mut out = IpNet::aggregate(&addresses.into_iter().map(IpNet::from).collect());
    out.sort_unstable();
    out
}

/// The prefix, or its halves as often as it takes to be none of those taken. A single address that is
/// taken stays: it is ours.
fn apart(prefix: IpNet, taken: &BTreeSet<IpNet>) -> Vec<IpNet> {
    match prefix.subnets(prefix.prefix_len() + 1) {
        Ok(halves) if taken.contains(&prefix) => halves.flat_map(|h| apart(h, taken)).collect(),
        _ => vec![prefix],
    }
}

fn mac(bytes: [u8; 6]) -> Value {
    Value::bits(
        bytes.into_iter().fold(0u64, |n, b| n << 8 | u64::from(b)),
        48,
    )
}

fn sorted(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
