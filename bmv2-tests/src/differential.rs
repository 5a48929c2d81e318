//! The evaluator against the switch: the same policy, the same decisions, the same packets. They must
//! agree on every packet: the port and the bytes, what goes to the agent and why, or the drop's reason.
//!
//! What is random is drawn from a seed, so that a failing case is a seed to run again.

mod cascades;
mod draw;
mod frames;
mod outcomes;
mod policies;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use signalbox_lower::entries::{Match, PlannedEntry, Value};
use signalbox_policy::eval::{Dispatch, Evaluator, FlowKey, Tunnel};
use signalbox_policy::model::{Mac, NatSource, ServiceIndex, ServiceKind};

pub use cascades::cascade;
pub use draw::Draw;
pub use policies::policy;
pub use verdicts::Interleaving;

use crate::bench::{Bench, Carried, bits};
use crate::image::Image;
use crate::scenarios::flow_entries;
use crate::targets::Target;
use crate::world::{Neighbour, World, host_of, neighbour};

/// One policy on the evaluator and on the embedded switch, with the same flows decided.
pub struct Pair<'i> {
    image: &'i Image,
    evaluator: Evaluator<'i>,
    bench: Bench,
    hosts: Vec<Neighbour>,
    decided: BTreeSet<(ServiceIndex, FlowKey)>,
    /// Their ids begin at 1.
    tunnels: Vec<(IpAddr, Tunnel)>,
}

impl<'i> Pair<'i> {
    /// The evaluator and the embedded switch, with a few random flows decided.
    pub fn new(image: &'i Image, draw: &mut Draw) -> Pair<'i> {
        Pair::on(Target::Embedded, image, draw)
    }

    /// The same on another target.
    pub fn on(target: Target, image: &'i Image, draw: &mut Draw) -> Pair<'i> {
        let mut pair = Pair::undecided(target, image);
        for _ in 0..8 {
            // Few ports: some client uses one for two of a service's endpoints.
            let port = 40_000 + draw.below(4) as u16;
            pair.decide(draw, port);
        }
        pair
    }

    /// The same without a flow.
    fn undecided(target: Target, image: &'i Image) -> Pair<'i> {
        let hosts = hosts(image);
        let world = &World::all(image)[0];
        let bench = Bench::ready_with(target, image, world, &hosts);
        let mut evaluator = Evaluator::new(&image.policy);
        for host in &hosts {
            evaluator.learn(host.address, host.port, Mac(host.mac));
        }
        Pair {
            image,
            evaluator,
            bench,
            hosts,
            decided: BTreeSet::new(),
            tunnels: Vec::new(),
        }
    }

    /// The next hop and the tunnel of a dispatch; a tunnel that is not there yet is set up.
    fn way_to(&mut self, to: Dispatch) -> (u16, u16) {
        let known = |address| self.hosts.iter().find(|one| one.address == address);
        // A server behind a router is reached by that one.
        let host = known(to.next_hop).or_else(|| {
            let (via, _) = self.image.policy.network.next_hop(to.next_hop)?;
            known(via)
        });
        let host = *host.unwrap_or_else(|| panic!("nobody leads to {}", to.next_hop));
        let Some(kind) = to.tunnel else {
            return (host.next_hop, 0);
        };
        let wanted = (to.next_hop, kind);
        if let Some(at) = self.tunnels.iter().position(|one| *one == wanted) {
            return (host.next_hop, at as u16 + 1);
        }
        self.tunnels.push(wanted);
        let id = self.tunnels.len() as u16;
        let port = self.bench.world.port(host.port);
        let mut own = port.addresses.iter().map(|one| one.addr());
        let own = own.find(|one| one.is_ipv4() == to.next_hop.is_ipv4());
        let name = match kind {
            Tunnel::Ipip => "ipip",
            Tunnel::Gue => "gue",
        };
        // IPv4 ends are 32 bits wide in every program.
        let end = |address: IpAddr| match address {
            IpAddr::V4(address) => bits(u32::from(address), 32),
            IpAddr::V6(_) => Value::Addr(address),
        };
        let family = if to.next_hop.is_ipv4() { 4 } else { 6 };
        self.bench.install(&[PlannedEntry {
            table: "Ingress.tunnel".into(),
            matches: vec![("tunnel", Match::Exact(bits(id, 16)))],
            priority: 0,
            action: format!("Ingress.{name}{family}"),
            params: vec![("src", end(own.unwrap())), ("dst", end(to.next_hop))],
        }]);
        (host.next_hop, id)
    }

    /// The dispatch that a packet for the agent carries.
    fn carried_dispatch(&self, carried: &Carried) -> Option<Dispatch> {
        if let Some(at) = (carried.tunnel as usize).checked_sub(1) {
            let (next_hop, kind) = self.tunnels[at];
            return Some(Dispatch {
                next_hop,
                tunnel: Some(kind),
            });
        }
        let mut hosts = self.hosts.iter();
        let host = hosts.find(|one| u64::from(one.next_hop) == carried.next_hop)?;
        Some(Dispatch {
            next_hop: host.address,
            tunnel: None,
        })
    }

    /// Decides a flow of a random balance service from this client port.
    fn decide(&mut self, draw: &mut Draw, client_port: u16) {
        let services: Vec<ServiceIndex> = self
            .image
            .policy
            .services
            .iter()
            .filter(|service| {
                matches!(service.kind, ServiceKind::Balance(_)) && service.translates()
            })
            .map(|service| service.index)
            .collect();
        if services.is_empty() {
            return;
        }
        let index = draw.pick(&services);
        let service = self.image.policy.service(index).unwrap();
        let ServiceKind::Balance(balance) = &service.kind else {
            return;
        };
        let to = draw.pick(&balance.destinations);
        let pool = self.image.policy.pool(balance.pool).unwrap();
        let server = draw.pick(&pool.servers);
        let same_family: Vec<Neighbour> = self
            .hosts
            .iter()
            .filter(|host| host.address.is_ipv4() == to.address.is_ipv4())
            .copied()
            .collect();
        let client = draw.pick(&same_family).address;
        if client == server.address {
            return;
        }
        let flow = FlowKey {
            src: client,
            dst: to.address,
            proto: to.proto,
            sport: client_port,
            dport: to.port,
        };
        let again = !self.decided.insert((index, flow));
        // A decision that would end another flow is none: on the switch, too, that one must live on.
        if again || !(self.evaluator).balance(index, flow, server.address, server.port) {
            return;
        }
        let plan = self
            .image
            .plan
            .services
            .iter()
            .find(|plan| plan.name == service.name)
            .unwrap();
        let entries = flow_entries(
            plan,
            SocketAddr::new(client, client_port),
            SocketAddr::new(to.address, to.port),
            SocketAddr::new(server.address, server.port),
            to.proto,
            plan.forward.first_fixed_slot(),
        );
        self.bench.install(&entries);
    }
}

/// Servers, routers, hosts behind a translation, and two clients a subnet.
fn hosts(image: &Image) -> Vec<Neighbour> {
    let plan = &image.plan;
    let mut found = BTreeMap::new();
    let mut add = |address: IpAddr| {
        let known =
            plan.own_addresses().contains(&address) || plan.service_addresses().contains(&address);
        let reached = plan
            .ports
            .iter()
            .any(|port| port.addresses.iter().any(|own| own.contains(&address)));
        if reached && !known {
            let id = 10 + found.len() as u16;
            found
                .entry(address)
                .or_insert_with(|| neighbour(plan, address, id));
        }
    };
    for service in &plan.services {
        for server in service.balance.iter().flat_map(|balance| &balance.servers) {
            add(server.address);
        }
    }
    for service in plan.services.iter().filter(|one| one.gate.is_some()) {
        let cubes = service.forward.criteria.iter().flat_map(|one| &one.cubes);
        cubes
            .filter_map(|cube| cube.dst)
            .for_each(|dst| add(dst.value));
    }
    for service in &image.policy.services {
        let ServiceKind::Nat(nat) = &service.kind else {
            continue;
        };
        if let Some(to) = nat.destination {
            add(to.address);
        }
        if let Some(NatSource::OneToOne { pairs }) = &nat.source {
            pairs.iter().for_each(|(inside, _)| add(inside.addr()));
        }
    }
    for route in &plan.routes {
        add(route.via);
    }
    for own in plan.ports.iter().flat_map(|port| &port.addresses) {
        for offset in [9, 20] {
            add(host_of(*own, offset));
        }
    }
    found.into_values().collect()
}
