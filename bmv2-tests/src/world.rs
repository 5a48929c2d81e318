//! Who lives around the switch in a scenario, taken from a plan: a client, the servers, their MACs,
//! and the entries that an agent would write to let packets reach them.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use signalbox_lower::plan::{Criterion, Kind, PartPlan, Plan, PortPlan, ServicePlan};

use crate::frames::Path;

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

/// The surroundings of one plan's switch.
#[derive(Debug, Clone)]
pub struct World {
    /// The plan.
    pub plan: Plan,
    /// A client on the first port without servers.
    pub client: Neighbour,
    /// The first balance service's servers, in the plan's order.
    pub servers: Vec<Neighbour>,
    /// Their ports.
    pub server_ports: Vec<u16>,
    /// Where clients connect to.
    pub service: SocketAddr,
}

impl World {
    /// The surroundings that a plan speaks of. Without a balance service, a host on the second port
    /// takes the part of both service and server.
    ///
    /// # Panics
    /// The plan has no port without servers.
    pub fn of(plan: &Plan) -> World {
        let (service, servers): (SocketAddr, Vec<SocketAddr>) = match balance(plan) {
            Some(service) => {
                let cube = &service.forward.criteria[0].cubes[0];
                let to = SocketAddr::new(cube.dst.unwrap().value, cube.dport.unwrap().value);
                let pool = service.balance.as_ref().unwrap();
                let servers = pool.servers.iter();
                (
                    to,
                    servers
                        .map(|one| SocketAddr::new(one.address, one.port))
                        .collect(),
                )
            }
            None => {
                let host = SocketAddr::new(host_of(plan.ports[1].addresses[0], 10), 443);
                (host, vec![host])
            }
        };
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
        let subnets = port.addresses.iter();
        let subnet = subnets
            .copied()
            .find(|own| own.addr().is_ipv4() == service.is_ipv4());
        let address = host_of(
            subnet.expect("a client's subnet of the service's family"),
            9,
        );
        World {
            client: neighbour(plan, address, 1),
            server_ports,
            servers,
            service,
            plan: plan.clone(),
        }
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

    /// The first balance service.
    ///
    /// # Panics
    /// There is none.
    pub fn balance(&self) -> &ServicePlan {
        balance(&self.plan).expect("a balance service")
    }

    /// The first filter, if there is one.
    pub fn filter(&self) -> Option<&ServicePlan> {
        self.plan
            .services
            .iter()
            .find(|service| service.kind == Kind::Filter)
    }

    /// A source address that the first filter's first `deny` meets.
    pub fn denied_source(&self) -> Option<IpAddr> {
        let criteria: &Vec<Criterion> = &self.filter()?.forward.criteria;
        criteria
            .iter()
            .filter(|one| one.action == signalbox_lower::plan::CriterionAction::Discard)
            .flat_map(|one| &one.cubes)
            .find_map(|cube| Some(cube.src?.value))
    }

    /// The reply part of the first balance service.
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
}

/// The first balance service of a plan.
pub fn balance(plan: &Plan) -> Option<&ServicePlan> {
    plan.services
        .iter()
        .find(|service| service.kind == Kind::Balance)
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
