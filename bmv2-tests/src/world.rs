//! Who lives around the switch in a scenario, taken from a plan: a client, the servers, their MACs,
//! and what a scenario asks of a policy before it runs on it.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use signalbox_lower::plan::{CriterionAction, Kind, PartPlan, Plan, PortPlan, ServicePlan};
use signalbox_policy::eval::{DropReason, Evaluator, Outcome};
use signalbox_policy::model::Mac;

use crate::frames::{Path, flags};
use crate::image::Image;

/// What a scenario asks of a policy and its surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// Clients connect to a balance service.
    Balance,
    /// They do so by IPv4.
    Ipv4,
    /// They do so by IPv6.
    Ipv6,
    /// A filter denies some source address of their family.
    DeniedSource,
    /// Connections are opened to the servers' side only: filters drop a server's SYN.
    OneWay,
}

/// A neighbour of the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// The port that it is on.
    pub port: u16,
    /// The switch's MAC address on that port.
    pub router_mac: [u8; 6],
    /// The id of its next hop.
    pub next_hop: u16,
}

/// The surroundings of one plan's switch, for those who talk to one of its services.
#[derive(Debug, Clone)]
pub struct World {
    /// The plan.
    pub plan: Plan,
    /// The balance service that clients talk to, by its place in the plan.
    balance: Option<usize>,
    /// A client on the first port without servers.
    pub client: Neighbour,
    /// The service's servers, in the plan's order.
    pub servers: Vec<Neighbour>,
    /// Their ports.
    pub server_ports: Vec<u16>,
    /// Where clients connect to.
    pub service: SocketAddr,
    one_way: bool,
}

impl World {
    /// The surroundings of each balance service of a policy that translates, and whose servers are
    /// neighbours. Without one, a host on the second port takes the part of both service and server.
    ///
    /// # Panics
    /// The plan has no port without servers.
    pub fn all(image: &Image) -> Vec<World> {
        let plan = &image.plan;
        let mut worlds: Vec<World> = (0..plan.services.len())
            .filter(|index| is_about(plan, &plan.services[*index]))
            .map(|index| World::of_balance(plan, index))
            .collect();
        if worlds.is_empty() {
            let host = SocketAddr::new(host_of(plan.ports[1].addresses[0], 10), 443);
            worlds.push(World::with(plan, None, host, &[host]));
        }
        for world in &mut worlds {
            world.one_way = world.is_one_way(image);
        }
        worlds
    }

    fn of_balance(plan: &Plan, index: usize) -> World {
        let service = &plan.services[index];
        let cube = &service.forward.criteria[0].cubes[0];
        let to = SocketAddr::new(cube.dst.unwrap().value, cube.dport.unwrap().value);
        let servers = service.balance.as_ref().unwrap().servers.iter();
        let servers: Vec<SocketAddr> = servers
            .map(|one| SocketAddr::new(one.address, one.port))
            .collect();
        World::with(plan, Some(index), to, &servers)
    }

    fn with(
        plan: &Plan,
        balance: Option<usize>,
        service: SocketAddr,
        servers: &[SocketAddr],
    ) -> World {
        let server_ports = servers.iter().map(SocketAddr::port).collect();
        let servers: Vec<Neighbour> = (10..)
            .zip(servers)
            .map(|(id, server)| neighbour(plan, server.ip(), id))
            .collect();
        let port = plan
            .ports
            .iter()
            .find(|port| servers.iter().all(|server| server.port != port.number))
            .expect("a port without servers");
        let subnet = address_of(port, service.is_ipv4());
        World {
            client: neighbour(plan, host_of(subnet, 9), 1),
            server_ports,
            servers,
            service,
            balance,
            plan: plan.clone(),
            one_way: false,
        }
    }

    /// What this is called in reports.
    pub fn name(&self) -> String {
        match self.balance {
            Some(index) => format!("{}/{}", self.plan.policy, self.plan.services[index].name),
            None => self.plan.policy.clone(),
        }
    }

    /// Whether this is as a scenario asks.
    pub fn has(&self, setting: Setting) -> bool {
        match setting {
            Setting::Balance => self.balance.is_some(),
            Setting::Ipv4 => self.service.is_ipv4(),
            Setting::Ipv6 => self.service.is_ipv6(),
            Setting::DeniedSource => self.denied_source().is_some(),
            Setting::OneWay => self.one_way,
        }
    }

    /// What the policy says of a client's SYN and of a server's.
    fn is_one_way(&self, image: &Image) -> bool {
        let mut evaluator = Evaluator::new(&image.policy);
        for one in self.servers.iter().chain([&self.client]) {
            evaluator.learn(one.address, one.port, Mac(one.mac));
        }
        let opened = self.to_service(40_000).tcp(flags::SYN, b"");
        let refused = self.from_server(0, 40_000).tcp(flags::SYN, b"");
        let opened = evaluator.receive(self.client.port, &opened);
        let refused = evaluator.receive(self.servers[0].port, &refused);
        matches!(opened, Outcome::Forward { .. })
            && matches!(
                refused,
                Outcome::Drop {
                    reason: DropReason::Service,
                    ..
                }
            )
    }

    /// The client's packets to the service, from this port.
    pub fn to_service(&self, client_port: u16) -> Path {
        Path {
            from_mac: self.client.mac,
            to_mac: self.client.router_mac,
            from: SocketAddr::new(self.client.address, client_port),
            to: self.service,
            ttl: 64,
        }
    }

    /// A server's packets to the client, at this port.
    pub fn from_server(&self, server: usize, client_port: u16) -> Path {
        let neighbour = self.servers[server];
        Path {
            from_mac: neighbour.mac,
            to_mac: neighbour.router_mac,
            from: SocketAddr::new(neighbour.address, self.server_ports[server]),
            to: SocketAddr::new(self.client.address, client_port),
            ttl: 64,
        }
    }

    /// The balance service that clients talk to.
    ///
    /// # Panics
    /// There is none.
    pub fn balance(&self) -> &ServicePlan {
        &self.plan.services[self.balance.expect("a balance service")]
    }

    /// The first filter, if there is one.
    pub fn filter(&self) -> Option<&ServicePlan> {
        self.plan
            .services
            .iter()
            .find(|service| service.kind == Kind::Filter)
    }

    /// A source address of the service's family that the first filter denies, whatever else the packet is.
    pub fn denied_source(&self) -> Option<IpAddr> {
        let criteria = &self.filter()?.forward.criteria;
        criteria
            .iter()
            .filter(|one| one.action == CriterionAction::Discard)
            .flat_map(|one| &one.cubes)
            .filter_map(|cube| Some(cube.src?.value))
            .find(|source| source.is_ipv4() == self.service.is_ipv4())
    }

    /// The reply part of the balance service.
    pub fn reply(&self) -> &PartPlan {
        self.balance().reply.as_ref().unwrap()
    }

    /// The plan of a port.
    pub fn port(&self, number: u16) -> &PortPlan {
        self.plan
            .ports
            .iter()
            .find(|port| port.number == number)
            .unwrap()
    }

    /// The switch's own address, of the service's family, on the clients' port.
    pub fn router(&self) -> IpAddr {
        address_of(self.port(self.client.port), self.service.is_ipv4()).addr()
    }
}

/// Why scenarios cannot be about a policy, if they cannot. They know filters and balance services that
/// translate; packets that another service asks about would be none of theirs.
pub fn left_out(image: &Image) -> Option<String> {
    let plan = &image.plan;
    let mut services = plan.services.iter();
    let stranger = services.find(|one| one.kind != Kind::Filter && !is_about(plan, one))?;
    let name = &stranger.name;
    Some(match &stranger.balance {
        None => format!("{name} is {:?}", stranger.kind).to_lowercase(),
        Some(_) if stranger.reply.is_none() => format!("{name} dispatches"),
        Some(_) => format!("{name} has servers behind a router"),
    })
}

/// Whether scenarios can be about a service: it balances by translation, over neighbours.
fn is_about(plan: &Plan, service: &ServicePlan) -> bool {
    let is_neighbour = |address: &IpAddr| {
        let mut own = plan.ports.iter().flat_map(|port| &port.addresses);
        own.any(|own| own.contains(address))
    };
    let servers = service.balance.iter().flat_map(|balance| &balance.servers);
    let mut servers = servers.map(|server| &server.address);
    service.balance.is_some() && service.reply.is_some() && servers.all(is_neighbour)
}

fn address_of(port: &PortPlan, ipv4: bool) -> IpNet {
    let mut addresses = port.addresses.iter();
    let own = addresses.find(|own| own.addr().is_ipv4() == ipv4);
    *own.expect("a client's subnet of the service's family")
}

/// The host of that number in a subnet.
pub fn host_of(subnet: IpNet, number: u8) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(network) => (u32::from(network) + u32::from(number))
            .to_be_bytes()
            .into(),
        IpAddr::V6(network) => (u128::from(network) + u128::from(number))
            .to_be_bytes()
            .into(),
    }
}

/// A neighbour at this address, with a next hop of this id.
pub fn neighbour(plan: &Plan, address: IpAddr, next_hop: u16) -> Neighbour {
    let port = plan
        .ports
        .iter()
        .find(|port| port.addresses.iter().any(|own| own.contains(&address)))
        .unwrap_or_else(|| panic!("no port leads to {address}"));
    let low = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => (u128::from(address) as u32).to_be_bytes(),
    };
    Neighbour {
        address,
        mac: [2, 0x0d, low[0], low[1], low[2], low[3]],
        port: port.number,
        router_mac: port.mac,
        next_hop,
    }
}
