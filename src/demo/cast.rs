//! Who takes part: a host for each server of the plan, and clients on a port without servers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use signalbox_lower::plan::{Plan, PortPlan, ServerPlan};

use super::DemoError;
use crate::hosts::{Host, Page, Speaks};

/// Addresses of a subnet that are tried for clients, counted from its first.
const CLIENTS_FROM: u8 = 10;

/// Hosts and where they are.
pub(super) struct Cast {
    /// The address and port that clients connect to.
    pub service: SocketAddr,
    /// Names and weights of the servers, in the plan's order.
    pub servers: Vec<(String, u32)>,
    /// Hosts of servers, each with its switch port.
    pub server_hosts: Vec<(u16, Host)>,
    /// Where the servers listen.
    pub listening: BTreeSet<SocketAddr>,
    /// Whether the service's manager checks the servers.
    pub checked: bool,
    /// Hosts of clients, each with its switch port.
    pub client_hosts: Vec<(u16, Host)>,
}

impl Cast {
    /// Takes the first balance service of the plan.
    pub fn of(plan: &Plan, clients: u8, page: usize) -> Result<Self, DemoError> {
        let (service, servers, checked) = service(plan).ok_or(DemoError::NoService)?;
        let mut by_address: BTreeMap<IpAddr, Vec<&ServerPlan>> = BTreeMap::new();
        for server in servers {
            by_address.entry(server.address).or_default().push(server);
        }
        let mut server_hosts = Vec::new();
        let mut listening = BTreeSet::new();
        for (address, servers) in by_address {
            let (port, prefix_length, router) = place(plan, address)?;
            let name = servers.first().map_or("", |server| server.name.as_str());
            let mut host = Host::new(name, mac(address), &[(address, prefix_length)], &[router])?;
            for server in servers {
                host.serve(&server.name, server.port, Speaks::Http(Page::Named(page)));
                listening.insert(SocketAddr::new(address, server.port));
            }
            server_hosts.push((port.number, host));
        }
        let client_hosts = client_hosts(plan, service, &server_hosts, clients)?;
        Ok(Self {
            service,
            servers: servers
                .iter()
                .map(|server| (server.name.clone(), server.weight))
                .collect(),
            server_hosts,
            listening,
            checked,
            client_hosts,
        })
    }
}

/// The address and port of the first balance service, its servers, and whether they are checked.
fn service(plan: &Plan) -> Option<(SocketAddr, &[ServerPlan], bool)> {
    plan.services.iter().find_map(|service| {
        let balance = service.balance.as_ref()?;
        let to = service
            .forward
            .criteria
            .iter()
            .flat_map(|criterion| &criterion.cubes)
            .find_map(|cube| Some(SocketAddr::new(cube.dst?.value, cube.dport?.value)))?;
        Some((to, balance.servers.as_slice(), balance.check.is_some()))
    })
}

/// The port whose subnet an address is in, the subnet's prefix length, and the switch's address there.
fn place(plan: &Plan, address: IpAddr) -> Result<(&PortPlan, u8, IpAddr), DemoError> {
    plan.ports
        .iter()
        .flat_map(|port| port.addresses.iter().map(move |own| (port, own)))
        .filter(|(_, own)| own.contains(&address))
        .max_by_key(|(_, own)| own.prefix_len())
        .map(|(port, own)| (port, own.prefix_len(), own.addr()))
        .ok_or_else(|| DemoError::NoPort(format!("server {address}")))
}

/// Clients of the service's family, on the first port that no server is on.
fn client_hosts(
    plan: &Plan,
    service: SocketAddr,
    server_hosts: &[(u16, Host)],
    clients: u8,
) -> Result<Vec<(u16, Host)>, DemoError> {
    let (port, own) = plan
        .ports
        .iter()
        .filter(|port| server_hosts.iter().all(|(at, _)| *at != port.number))
        .flat_map(|port| port.addresses.iter().map(move |own| (port, own)))
        .find(|(_, own)| own.addr().is_ipv4() == service.is_ipv4())
        .ok_or_else(|| DemoError::NoPort("clients".to_owned()))?;
    let mut taken: BTreeSet<IpAddr> = plan.routes.iter().map(|route| route.via).collect();
    taken.extend(plan.neighbours.iter().map(|neighbour| neighbour.address));
    taken.extend(plan.services.iter().flat_map(|one| &one.addresses));
    taken.extend(
        plan.ports
            .iter()
            .flat_map(|one| one.addresses.iter().map(|own| own.addr())),
    );
    let mut hosts = Vec::new();
    for offset in CLIENTS_FROM..=u8::MAX {
        if hosts.len() == usize::from(clients) {
            break;
        }
        let address = offset_address(own.network(), offset);
        if !own.contains(&address) || taken.contains(&address) {
            continue;
        }
        let name = format!("client-{}", hosts.len() + 1);
        let host = Host::new(
            &name,
            mac(address),
            &[(address, own.prefix_len())],
            &[own.addr()],
        )?;
        hosts.push((port.number, host));
    }
    if hosts.is_empty() {
        return Err(DemoError::NoPort("clients".to_owned()));
    }
    Ok(hosts)
}

fn offset_address(network: IpAddr, offset: u8) -> IpAddr {
    match network {
        IpAddr::V4(network) => (u32::from(network).saturating_add(offset.into()))
            .to_be_bytes()
            .into(),
        IpAddr::V6(network) => (u128::from(network).saturating_add(offset.into()))
            .to_be_bytes()
            .into(),
    }
}

/// A locally administered Ethernet address that no two hosts of the demo share.
fn mac(address: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => (u128::from(address) as u32).to_be_bytes(),
    };
    [0x02, 0x0d, a, b, c, d]
}
