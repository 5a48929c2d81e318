//! The checked policy: names resolved, defaults filled in, criteria normalised to cubes.
//!
//! What stands here is consistent: every index is in range, every range was checked, and what this
//! version cannot do was refused. It says what is wanted, not how a switch is made to do it.

mod division;
mod gate;
mod manager;
mod nat;
mod test_case;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
pub use signalbox_proofs::{Cube, Family, Header, PacketKind, Ternary};

pub use division::Part;
pub(crate) use gate::backwards;
pub use gate::{
    Allow, DAY, DAYS, GATE_KEEP, Gate, GateBounds, GateTimes, HostPattern, Look, Refuse, When,
};
pub use manager::{Backup, Manager, Replicate};
pub use nat::{Inbound, Nat, NatDestination, NatLeases, NatSource};
pub use test_case::{Ends, Expect, Send, SendPacket, Step, TestCase, Transport};

/// The number of services a policy may have; the notice bitmap has one bit for each.
pub const MAX_SERVICES: usize = 32;
/// The number of parts that a service may be divided into.
pub const MAX_SHARES: usize = 64;
/// The number of cubes that one criterion may come to, over both families.
pub const MAX_CUBES: usize = 1_000;
/// The number of addresses that the services of a policy may stand for.
pub const MAX_ADDRESSES: usize = 65_536;
/// The highest port number a policy may use; 510 is the CPU port and 511 drops.
pub const MAX_PORT: u16 = 509;

/// A place in the policy's text, in bytes. Places never make two policies differ: all are equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl PartialEq for Span {
    fn eq(&self, _: &Span) -> bool {
        true
    }
}
impl Eq for Span {}

/// A checked policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The file's name without directory and `.policy`, with every character that cannot stand in an
    /// identifier replaced by `_`; `core` and `v1model`, which P4 includes, have `_policy` added.
    pub name: String,
    /// Which families the policy speaks: IPv6 only if some address in it is IPv6.
    pub families: Families,
    /// Ports, routes and neighbours.
    pub network: Network,
    /// Named sets of addresses, in the order of the text.
    pub sets: Vec<AddressSet>,
    /// Pools of servers, in the order of the text.
    pub pools: Vec<Pool>,
    /// Services in cascade order: `services[i].index == ServiceIndex(i)`, precedence `i + 1`.
    pub services: Vec<Service>,
    /// Managers, in the order of the text.
    pub managers: Vec<Manager>,
    /// The policy's own tests, in the order of the text.
    pub tests: Vec<TestCase>,
}

impl Policy {
    /// The pool a balance service picks from.
    pub fn pool(&self, index: PoolIndex) -> Option<&Pool> {
        self.pools.get(index.0)
    }

    /// The service of that index.
    pub fn service(&self, index: ServiceIndex) -> Option<&Service> {
        self.services.get(index.0)
    }

    /// The service of that name.
    pub fn service_named(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|s| s.name == name)
    }

    /// The addresses the agent answers for (ARP, NDP, echo): the ports' own and the services',
    /// in ascending order, each once.
    pub fn owned_addresses(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = self
            .network
            .ports
            .iter()
            .flat_map(|p| p.addresses.iter().map(|a| a.addr()))
            .chain(self.services.iter().flat_map(Service::addresses))
            .collect();
        all.sort();
        all.dedup();
        all
    }
}

/// Which families of IP a policy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Families {
    /// IPv4 only: no IPv6 tables are made, and IPv6 packets are dropped.
    V4,
    /// IPv4 and IPv6.
    Dual,
}

impl Families {
    /// The families, IPv4 first.
    pub fn list(self) -> &'static [Family] {
        match self {
            Families::V4 => &[Family::V4],
            Families::Dual => &[Family::V4, Family::V6],
        }
    }
}

/// The network around the switch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Ports, in the order of the text; numbers and names are unique.
    pub ports: Vec<Port>,
    /// Static routes, in the order of the text. Connected subnets are not among them.
    pub routes: Vec<Route>,
    /// Static neighbours, in the order of the text; the agent resolves all others.
    pub neighbours: Vec<Neighbour>,
}

impl Network {
    /// The port of that number.
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|p| p.number == number)
    }

    /// The port of that name.
    pub fn port_named(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|p| p.name == name)
    }

    /// Which of a connected subnet's addresses that no host may have this is, if it is one: the
    /// subnet itself, or its IPv4 broadcast address. Subnets of two addresses and of one have neither.
    pub fn reserved(&self, address: IpAddr) -> Option<(IpNet, &'static str)> {
        self.ports
            .iter()
            .flat_map(|p| &p.addresses)
            .find_map(|subnet| Some((subnet.trunc(), reserved_in(*subnet, address)?)))
    }

    /// The port whose connected subnet holds the address, by longest prefix.
    pub fn port_of(&self, address: IpAddr) -> Option<&Port> {
        self.ports
            .iter()
            .flat_map(|p| p.addresses.iter().map(move |a| (p, a)))
            .filter(|(_, a)| a.contains(&address))
            .max_by_key(|(_, a)| a.prefix_len())
            .map(|(p, _)| p)
    }

    /// Where a packet to `address` goes: the next hop and its port, by longest prefix over connected
    /// subnets and static routes. `None` is a routing miss, which drops.
    pub fn next_hop(&self, address: IpAddr) -> Option<(IpAddr, &Port)> {
        let connected = self
            .ports
            .iter()
            .flat_map(|p| p.addresses.iter().map(move |a| (p, a)))
            .filter(|(_, a)| a.contains(&address))
            .map(|(p, a)| (a.prefix_len(), address, p));
        let routed = self
            .routes
            .iter()
            .filter(|r| r.prefix.contains(&address))
            .filter_map(|r| Some((r.prefix.prefix_len(), r.via, self.port(r.port)?)));
        // A static route never has a connected subnet's prefix (checked), so ties cannot happen.
        connected
            .chain(routed)
            .max_by_key(|(length, ..)| *length)
            .map(|(_, via, p)| (via, p))
    }
}

/// What keeps a host in the subnet from having the address, if something does.
pub(crate) fn reserved_in(subnet: IpNet, address: IpAddr) -> Option<&'static str> {
    if subnet.max_prefix_len() - subnet.prefix_len() <= 1 {
        None
    } else if address == subnet.network() {
        Some("the subnet itself")
    } else if address.is_ipv4() && address == subnet.broadcast() {
        Some("its broadcast address")
    } else {
        None
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One port of the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The data plane's number, 1 to [`MAX_PORT`].
    pub number: u16,
    /// The name the policy gives it.
    pub name: String,
    /// The switch's own addresses there, each with its connected subnet; host bits are kept.
    pub addresses: Vec<IpNet>,
    /// Longest IP packet that leaves by it, in bytes, 68 to 65535. Default 1500.
    pub mtu: u16,
    /// The Ethernet address if the policy gives one; see [`Port::mac`].
    pub mac_given: Option<Mac>,
    /// Where the port is declared.
    pub span: Span,
}

impl Port {
    /// The port's Ethernet address: the given one, else `02:53:42:00:hh:ll` with the port's number.
    pub fn mac(&self) -> Mac {
        let [high, low] = self.number.to_be_bytes();
        self.mac_given
            .unwrap_or(Mac([0x02, 0x53, 0x42, 0, high, low]))
    }

    /// The port's own address in a family: the first of that family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses
            .iter()
            .map(|a| a.addr())
            .find(|a| Family::of(*a) == family)
    }
}

/// A static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destinations, without host bits; no two routes and no connected subnet have the same.
    pub prefix: IpNet,
    /// The next hop, an address in a connected subnet.
    pub via: IpAddr,
    /// The port of that subnet.
    pub port: u16,
    /// Where it stands.
    pub span: Span,
}

/// A static neighbour: never resolved, never aged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address, in a connected subnet of the port.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: Mac,
    /// The port it is on.
    pub port: u16,
    /// Where it stands.
    pub span: Span,
}

/// A named set of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSet {
    /// Its name, without `@`.
    pub name: String,
    /// Prefixes, in the order of the text; single addresses are /32 or /128, ranges were split.
    pub prefixes: Vec<IpNet>,
    /// Where it is declared.
    pub span: Span,
}

/// A pool of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name, without `@`.
    pub name: String,
    /// Servers, in the order of the text; all of one family; (address, port) is unique; at least one.
    pub servers: Vec<Server>,
    /// How their health is checked; `None` takes every server for alive.
    pub check: Option<Check>,
    /// Where it is declared.
    pub span: Span,
}

/// One server of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name: the given one, else `ADDRESS:PORT`. Unique in the pool.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// The port it listens on, 1 to 65535.
    pub port: u16,
    /// Its share, 0 to 65535; 0 drains it. Default 1.
    pub weight: u32,
    /// Where it stands.
    pub span: Span,
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is asked.
    pub kind: CheckKind,
    /// Time between the starts of two checks. Default 2 s.
    pub every: Duration,
    /// How long an answer may take; not above `every`. Default 1 s, or `every` if that is shorter.
    pub timeout: Duration,
    /// Successes in a row that bring a server back, 1 to 100. Default 2.
    pub rise: u32,
    /// Failures in a row that take it out, 1 to 100. Default 3.
    pub fall: u32,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// A TCP connection opens.
    Tcp,
    /// `GET path` over HTTP/1.1 is answered with a status from 200 to 399.
    Http {
        /// The request's target; begins with `/`.
        path: String,
    },
    /// As `Http`, and the body begins with the load in percent, 0 to 100.
    Load {
        /// The request's target; begins with `/`.
        path: String,
    },
}

/// A service's place among [`Policy::services`]: 0 is precedence 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceIndex(pub usize);

/// A pool's place among [`Policy::pools`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolIndex(pub usize);

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name; unique also after `-` became `_`.
    pub name: String,
    /// Its place in the cascade.
    pub index: ServiceIndex,
    /// What it does.
    pub kind: ServiceKind,
    /// Where it is declared.
    pub span: Span,
}

impl Service {
    /// The addresses it stands for, ascending, each once: the agent answers ARP, NDP and echo for them.
    pub fn addresses(&self) -> Vec<IpAddr> {
        match &self.kind {
            ServiceKind::Balance(b) => {
                let mut all: Vec<IpAddr> = b.destinations.iter().map(|d| d.address).collect();
                all.dedup();
                all
            }
            ServiceKind::Nat(n) => n.addresses(),
            ServiceKind::Filter(_) | ServiceKind::Gate(_) | ServiceKind::Observe(_) => Vec::new(),
        }
    }

    /// Whether it stands for the address.
    pub fn owns(&self, address: IpAddr) -> bool {
        match &self.kind {
            ServiceKind::Balance(b) => b.destinations.iter().any(|d| d.address == address),
            ServiceKind::Nat(n) => n.owns(address),
            ServiceKind::Filter(_) | ServiceKind::Gate(_) | ServiceKind::Observe(_) => false,
        }
    }

    /// Its precedence: 1 applies first.
    pub fn precedence(&self) -> u8 {
        (self.index.0 as u8).saturating_add(1)
    }

    /// What happens without a manager's answer; a filter asks none, and never takes it. A gate stays shut.
    pub fn fallback(&self) -> Fallback {
        match &self.kind {
            ServiceKind::Balance(b) => b.fallback,
            ServiceKind::Nat(n) => n.fallback,
            ServiceKind::Observe(o) => o.fallback,
            ServiceKind::Filter(_) | ServiceKind::Gate(_) => Fallback::Drop,
        }
    }

    /// Whether it changes addresses. Such a service has a reply part; so has a gate, which changes none.
    pub fn translates(&self) -> bool {
        match &self.kind {
            ServiceKind::Balance(balance) => balance.way == Way::Translate,
            ServiceKind::Nat(_) => true,
            ServiceKind::Filter(_) | ServiceKind::Gate(_) | ServiceKind::Observe(_) => false,
        }
    }
}

/// What a service does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// Spreads new flows over a pool of servers.
    Balance(Balance),
    /// Lets packets through or drops them, each by itself.
    Filter(Filter),
    /// Answers for servers until a client has shown that it may come in.
    Gate(Gate),
    /// Translates addresses and ports.
    Nat(Nat),
    /// Counts flows and reports them.
    Observe(Observe),
}

/// A balance service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// What it matches. Every cube has TCP or UDP and the pool's family; destination addresses and
    /// ports that differ in a few bits may share one.
    pub criteria: Criteria,
    /// The addresses and ports it stands for, ascending, each once; at most [`MAX_CUBES`].
    pub destinations: Vec<Destination>,
    /// The pool.
    pub pool: PoolIndex,
    /// How a server is chosen for a new flow.
    pub pick: Pick,
    /// How long flows are kept.
    pub keep: Keep,
    /// What happens without a manager's answer. Default drop.
    pub fallback: Fallback,
    /// How long a source without flows keeps its server. Default: no stickiness.
    pub stick: Option<Duration>,
    /// How long a server that comes back takes to reach its weight. Default 0.
    pub slow_start: Duration,
    /// How packets get to the server. Default by translation.
    pub way: Way,
    /// What becomes of the flows of a server that dies. Default: they stay.
    pub on_death: OnDeath,
    /// Bounds of new flows.
    pub bounds: Bounds,
}

/// How packets get to their server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Way {
    /// The destination becomes the server's address and port.
    #[default]
    Translate,
    /// Unchanged, to the server's MAC address.
    Mac,
    /// In an IP tunnel.
    Ipip,
    /// In a UDP tunnel (GUE).
    Gue,
}

/// What becomes of the flows of a server that dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnDeath {
    /// They stay with it until they are idle.
    #[default]
    Keep,
    /// Their packets are dropped.
    Drop,
    /// The next packet of each is answered with a RST.
    Reset,
}

/// Bounds of a service's flows; `None` is without a bound, but for `flows`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Flows at once, 1 to 4,194,304: the size of the service's tables. Default 65,536.
    pub flows: Option<u32>,
    /// Flows at once that the other side has not answered.
    pub half_open: Option<u32>,
    /// The same for one source address.
    pub half_open_per_source: Option<u32>,
    /// New flows in a second.
    pub new_per_second: Option<u32>,
    /// The same for one source address.
    pub new_per_second_per_source: Option<u32>,
}

/// An observe service: it counts and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observe {
    /// What it counts.
    pub criteria: Criteria,
    /// Whether each flow is counted by itself. Default yes.
    pub per_flow: bool,
    /// Whether reports tell TCP flags.
    pub flags: bool,
    /// Period of reports. Default none.
    pub every: Option<Duration>,
    /// Whether a flow's end is reported. Default yes.
    pub on_close: bool,
    /// How long flows are kept.
    pub keep: Keep,
    /// Bounds of flows.
    pub bounds: Bounds,
    /// What happens without a manager's answer. Default route: nothing is counted by flow.
    pub fallback: Fallback,
}

impl Balance {
    /// The replies it translates back: packets whose source is a server of the pool, one cube a
    /// server and protocol. Derived for the plan (reply criteria).
    pub fn reply_cubes(&self, pool: &Pool) -> Vec<Cube> {
        let mut protos: Vec<u8> = self.destinations.iter().map(|d| d.proto).collect();
        protos.sort_unstable();
        protos.dedup();
        let mut out = Vec::new();
        for proto in protos {
            for server in &pool.servers {
                let family = Family::of(server.address);
                let mut cube = Cube::all(family);
                cube.src =
                    Ternary::<u128>::masked(address_bits(server.address), family.full_mask());
                cube.proto = Ternary::<u8>::exact(proto);
                cube.src_port = Ternary::<u16>::exact(server.port);
                out.push(cube);
            }
        }
        out.dedup();
        out
    }
}

/// An address as right-aligned bits.
pub fn address_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u32::from(a) as u128,
        IpAddr::V6(a) => u128::from(a),
    }
}

/// An address that a service stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// The address.
    pub address: IpAddr,
    /// 6 for TCP, 17 for UDP.
    pub proto: u8,
    /// The port.
    pub port: u16,
}

/// How a balance service chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pick {
    /// Each server in turn, weights ignored (0 still drains).
    RoundRobin,
    /// In turn by weight.
    Weighted,
    /// Consistent hashing; weights count.
    Maglev {
        /// What is hashed.
        by: HashBy,
    },
    /// The server with the fewest flows for its weight.
    LeastConnections,
}

/// What Maglev hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashBy {
    /// Both addresses, both ports and the protocol.
    Flow,
    /// The source address only.
    Source,
}

/// How long a service's flows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Keep {
    /// Without a packet in either direction, 1 s to 24 h. Default 5 min.
    pub idle: Duration,
    /// After both FINs or a RST, 1 s to 24 h. Default 10 s.
    pub closed: Duration,
    /// Until the other side has answered, 1 s to 24 h. Default 10 s.
    pub half_open: Duration,
}

impl Default for Keep {
    fn default() -> Keep {
        Keep {
            idle: Duration::from_secs(300),
            closed: Duration::from_secs(10),
            half_open: Duration::from_secs(10),
        }
    }
}

/// What a service's floor does: no manager answers, or none is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// The packet is dropped.
    Drop,
    /// The packet leaves this service as it came, and goes on to the next.
    Route,
}

/// A filter service. Its rules never contradict each other, so their order means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The rules, in the order of the text.
    pub rules: Vec<Rule>,
    /// What happens to a packet that no rule matches. Default allow.
    pub default: FilterVerdict,
}

/// One rule of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it says.
    pub verdict: FilterVerdict,
    /// Of which packets.
    pub criteria: Criteria,
    /// Where it stands.
    pub span: Span,
}

/// What a filter says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FilterVerdict {
    /// The packet goes on to the next service.
    Allow,
    /// The packet is dropped.
    Deny,
}

/// What a clause matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Criteria {
    /// The expression as the formatter writes it, on one line.
    pub text: String,
    /// The same set of packets as a union of boxes, in a fixed order; boxes may overlap, none lies in
    /// another; not empty; at most [`MAX_CUBES`]. A family-neutral expression has boxes for each
    /// family the policy speaks. A box that matches transport fields pins `proto` and keeps `kind` to
    /// packets that have them.
    pub cubes: Vec<Cube>,
    /// Where the expression stands.
    pub span: Span,
}

impl Criteria {
    /// Whether the packet matches.
    pub fn matches(&self, header: &Header) -> bool {
        self.cubes.iter().any(|c| c.matches(header))
    }
}
