//! The evaluator against the switch: the same policy, the same decisions, the same packets. They must
//! agree on every packet: the port and the bytes, what goes to the agent and why, or the drop's reason.
//!
//! What is random is drawn from a seed, so that a failing case is a seed to run again.

mod cascades;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use signalbox_lower::entries::{Match, PlannedEntry, Value};
use signalbox_policy::eval::{Dispatch, Evaluator, FlowKey, Outcome, Part, Resume, Tunnel};
use signalbox_policy::model::{Mac, NatSource, ServiceIndex, ServiceKind};

pub use cascades::cascade;
pub use verdicts::Interleaving;

use crate::bench::{Bench, Carried, bits, kind};
use crate::frames::{
    Path, arp_request, extend, flags, fragment_header, neighbour_message, options,
};
use crate::image::Image;
use crate::scenarios::flow_entries;
use crate::targets::Target;
use crate::world::{Neighbour, World, host_of, neighbour};

/// A source of numbers (xorshift64*, Vigna 2016).
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    /// Numbers that depend on `seed` alone.
    pub fn new(seed: u64) -> Draw {
        // Zero is the one state that never changes; neighbouring seeds should differ soon.
        Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

const PREFIXES: [&str; 6] = [
    "203.0.113.0/28",
    "203.0.113.8/29",
    "10.0.1.0/24",
    "10.0.0.0/8",
    "198.51.100.0/24",
    "203.0.113.9",
];

/// The text of a random policy: filters and balance services on three ports. Some are not valid; the
/// caller lets the checker decide.
pub fn policy(draw: &mut Draw) -> String {
    let dual = draw.once_in(4);
    let six = |text: &'static str| if dual { text } else { "" };
    let mut text = format!(
        "network {{\n  port 1 clients {{ address 203.0.113.1/24 {} }}\n  \
         port 2 rack-a {{ address 10.0.1.1/24 {} }}\n  port 3 rack-b {{ address 10.0.2.1/24 }}\n  \
         route 198.51.0.0/16 via 203.0.113.254\n}}\n",
        six("address 2001:db8:1::1/64"),
        six("address 2001:db8:2::1/64"),
    );
    let mut cascade = Vec::new();
    let mut serves = Vec::new();
    for number in 0..1 + draw.below(2) {
        let _ = writeln!(text, "pool pool-{number} {{");
        let proto = draw.pick(&["tcp", "tcp", "udp"]);
        for server in 0..1 + draw.below(3) {
            let rack = 1 + draw.below(2);
            let port = 8000 + number * 10;
            let _ = writeln!(text, "  10.0.{rack}.{}:{port}", 10 + server);
        }
        let narrow = match draw.below(3) {
            0 => format!(" and not ip.src in {}", draw.pick(&PREFIXES)),
            1 => " and port clients".to_owned(),
            _ => String::new(),
        };
        let endpoint = |port: u16| format!("203.0.113.8{number}:{port}");
        let endpoints = match draw.below(3) {
            0 => endpoint(80),
            1 => endpoint(443),
            _ => format!("{{ {}, {} }}", endpoint(80), endpoint(443)),
        };
        let fallback = draw.pick(&["", "  fallback route\n", "  fallback drop\n"]);
        let _ = write!(
            text,
            "}}\nservice lb-{number} : balance {{\n  match {proto}.dst {}{narrow}\n  \
             pick from @pool-{number} by round-robin\n{fallback}}}\n",
            endpoints,
        );
        cascade.push(format!("lb-{number}"));
        serves.push(format!("lb-{number}"));
    }
    for number in 0..draw.below(4) {
        let (default, verb) = draw.pick(&[("allow", "deny"), ("allow", "deny"), ("deny", "allow")]);
        let _ = writeln!(
            text,
            "service guard-{number} : filter {{\n  default {default}"
        );
        for _ in 0..1 + draw.below(3) {
            let _ = writeln!(text, "  {verb} {}", condition(draw, dual, 2));
        }
        text.push_str("}\n");
        cascade.insert(draw.below(cascade.len() + 1), format!("guard-{number}"));
    }
    let _ = writeln!(
        text,
        "cascade {}\nmanagers {{\n  lb serves {}\n}}",
        cascade.join(" > "),
        serves.join(", ")
    );
    text
}

fn condition(draw: &mut Draw, dual: bool, depth: usize) -> String {
    if depth > 0 && draw.once_in(3) {
        let joint = draw.pick(&["and", "or", "and not"]);
        let (left, right) = (
            condition(draw, dual, depth - 1),
            condition(draw, dual, depth - 1),
        );
        return format!("({left} {joint} {right})");
    }
    let six = if dual && draw.once_in(3) {
        return draw
            .pick(&["ipv6", "ip.src in 2001:db8:1::/64", "ip.dst 2001:db8:2::10"])
            .to_owned();
    } else {
        ""
    };
    let test = match draw.below(9) {
        0 => format!("ip.src in {}", draw.pick(&PREFIXES)),
        1 => format!("ip.dst in {}", draw.pick(&PREFIXES)),
        2 => "tcp.dst in { 22, 80..443 }".to_owned(),
        3 => "udp".to_owned(),
        4 => format!(
            "tcp.flags {}",
            draw.pick(&["syn/syn+ack", "fin+ack", "rst", "none/syn"])
        ),
        5 => "icmp.type echo-request".to_owned(),
        6 => format!("port {}", draw.pick(&["clients", "rack-a"])),
        7 => format!("tcp.src {}", draw.pick(&["8000", "8010", "1024..40000"])),
        _ => format!("ip.proto {}", draw.pick(&["udp", "47", "6"])),
    };
    format!("{six}{test}")
}

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

    /// A random frame and the port that it comes in by.
    pub fn frame(&self, draw: &mut Draw) -> (u16, Vec<u8>) {
        let from = draw.pick(&self.hosts);
        let in_port = if draw.once_in(12) {
            draw.below(5) as u16
        } else {
            from.port
        };
        let mut addresses: Vec<IpAddr> = self.hosts.iter().map(|host| host.address).collect();
        addresses.extend(self.image.plan.service_addresses());
        // The services get most of it.
        addresses.extend(self.image.plan.service_addresses());
        addresses.extend(self.image.plan.service_addresses());
        addresses.extend(self.image.plan.own_addresses());
        addresses.extend(
            ["198.51.100.7", "192.0.2.1", "10.0.1.77"].map(|one| one.parse::<IpAddr>().unwrap()),
        );
        addresses.retain(|one| one.is_ipv4() == from.address.is_ipv4());
        let ports = [
            80, 443, 8000, 8010, 22, 40_000, 40_001, 40_002, 40_003, 40_004, 40_005, 40_006,
            40_007, 61_450,
        ];
        let mut source = from.address;
        if source.is_ipv4() && draw.once_in(8) {
            source = [198, 51, 100, 7].into();
        }
        let router = self
            .image
            .plan
            .ports
            .iter()
            .find(|port| port.number == in_port);
        let mut to_mac = router.map_or(from.router_mac, |port| port.mac);
        if draw.once_in(20) {
            to_mac[4] ^= 1;
        }
        let path = Path {
            from_mac: from.mac,
            to_mac,
            from: SocketAddr::new(source, draw.pick(&ports)),
            to: SocketAddr::new(draw.pick(&addresses), draw.pick(&ports)),
            ttl: draw.pick(&[64, 64, 64, 64, 64, 64, 2, 1, 0]),
        };
        let payload = vec![draw.below(256) as u8; draw.pick(&[0, 0, 1, 5, 64, 700])];
        let mut frame = match draw.below(12) {
            0..=6 => {
                let all = [
                    flags::SYN,
                    flags::ACK,
                    flags::ACK | flags::PSH,
                    flags::FIN | flags::ACK,
                    flags::RST,
                    0,
                    0x3f,
                ];
                path.tcp(draw.pick(&all), &payload)
            }
            7..=9 => path.udp(&payload),
            10 => {
                let mut frame = path.echo(draw.pick(&ports), &payload);
                // Other types: replies, errors, and what has no meaning.
                if draw.once_in(2) {
                    let icmp = if path.from.is_ipv4() { 34 } else { 54 };
                    frame[icmp] = draw.pick(&[0, 1, 3, 4, 5, 11, 12, 13, 129, 135, 200]);
                }
                frame
            }
            _ => match (path.from.ip(), path.to.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => arp_request(path.from_mac, from, to),
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    let kind = draw.pick(&[133, 134, 135, 135, 136, 137, 143]);
                    neighbour_message(kind, path.from_mac, from, to)
                }
                _ => unreachable!("of one family"),
            },
        };
        if frame[12..14] == [8, 0] && draw.once_in(16) {
            // A fragment: the first one, or a later one.
            frame[20..22].copy_from_slice(&draw.pick(&[[0x20, 0], [0x20, 9], [0, 9]]));
            mend_header_checksum(&mut frame);
        }
        if frame[12..14] == [0x86, 0xdd] && draw.once_in(3) {
            let headers: Vec<(u8, Vec<u8>)> =
                (0..1 + draw.below(5)).map(|_| extension(draw)).collect();
            frame = extend(&frame, &headers);
        }
        self.damage(draw, &mut frame);
        (in_port, frame)
    }

    /// Now and then a frame is cut, or some of its bytes are others.
    fn damage(&self, draw: &mut Draw, frame: &mut Vec<u8>) {
        if draw.once_in(12) {
            frame.truncate(draw.below(frame.len() + 1));
        }
        if !frame.is_empty() && draw.once_in(8) {
            for _ in 0..1 + draw.below(2) {
                let at = draw.below(frame.len().min(100));
                let values = [
                    0, 1, 6, 17, 0x45, 0x46, 0x55, 0xff, 0x20, 8, 43, 44, 51, 58, 60, 0x60,
                ];
                frame[at] = draw.pick(&values);
            }
            if frame.len() > 34 && frame[12..14] == [8, 0] && draw.below(4) > 0 {
                mend_header_checksum(frame);
            }
        }
    }

    /// Sends a frame into both, and says in a word what became of it.
    ///
    /// # Errors
    /// They disagree: both of their accounts.
    pub fn compare(&self, port: u16, frame: &[u8]) -> Result<&'static str, String> {
        let expected = self.evaluator.receive(port, frame);
        let (found, carried) = self.switch(port, frame);
        self.judge(&expected, &found)
            .map_err(|why| format!("port {port}, frame {frame:02x?}\n{why}"))?;
        // What a manager is asked about comes back with its answer.
        if let (
            Outcome::ToAgent {
                stage: Some((service, part)),
                reply,
                dispatch,
                packet,
                ..
            },
            Some(carried),
        ) = (&expected, carried)
        {
            let from = Resume {
                port,
                part: *part,
                service: *service,
                reply: *reply,
                answered: true,
                dispatch: *dispatch,
            };
            let expected = self.evaluator.resume(packet, from);
            let mut bytes = carried.resumed().bytes().to_vec();
            bytes.extend_from_slice(packet);
            let (found, _) = self.switch(510, &bytes);
            self.judge(&expected, &found)
                .map_err(|why| format!("resumed at {from:?}, frame {packet:02x?}\n{why}"))?;
        }
        Ok(match expected {
            Outcome::Drop { .. } => "dropped",
            Outcome::ToAgent { .. } => "to the agent",
            Outcome::Forward { .. } | Outcome::Tunnelled { .. } => "forwarded",
        })
    }

    fn judge(&self, expected: &Outcome, found: &Outcome) -> Result<(), String> {
        let same = match (expected, found) {
            (Outcome::Tunnelled { tunnel, .. }, Outcome::Forward { port, packet }) => {
                unwrapped(*tunnel, *port, packet).as_ref() == Some(expected)
            }
            // Over P4Runtime a service's drops are seen by reason alone.
            (
                Outcome::Drop { reason: a, .. },
                Outcome::Drop {
                    reason: b,
                    service: None,
                },
            ) if self.bench.target != Target::Embedded => a == b,
            _ => expected == found,
        };
        if same {
            return Ok(());
        }
        Err(format!(
            "evaluator: {expected:02x?}\nswitch:    {found:02x?}"
        ))
    }

    /// The service that a P4 control stands for.
    fn service_of(&self, control: &str) -> ServiceIndex {
        let services = &self.image.plan.services;
        let place = services.iter().position(|service| {
            let mut parts = std::iter::once(&service.forward).chain(&service.reply);
            parts.any(|part| part.criteria_table.rsplit_once('.').unwrap().0 == control)
        });
        ServiceIndex(place.unwrap_or_else(|| panic!("`{control}` is no service's")))
    }

    /// One pass through the switch, told in the evaluator's words.
    fn switch(&self, port: u16, frame: &[u8]) -> (Outcome, Option<Carried>) {
        let pass = self.bench.pass(port, frame);
        match pass.out.as_slice() {
            [] => {
                let reason = reasons()
                    .into_iter()
                    .find(|reason| pass.drops.contains_key(&(*reason as i64)))
                    .unwrap_or_else(|| panic!("a drop without a reason: {frame:02x?}"));
                let service = pass.dropped_by.map(|control| self.service_of(&control));
                (Outcome::Drop { reason, service }, None)
            }
            [(510, bytes)] => {
                let (carried, packet) = Carried::parse(bytes);
                let part = if carried.part == 1 {
                    Part::Reply
                } else {
                    Part::Forward
                };
                let stage = (carried.kind == kind::INTEREST)
                    .then(|| (ServiceIndex(carried.stage as usize - 1), part));
                let dispatch = stage.and_then(|_| self.carried_dispatch(&carried));
                let outcome = Outcome::ToAgent {
                    message: message(carried.kind),
                    stage,
                    reply: carried.reply == 1,
                    dispatch,
                    packet: packet.to_vec(),
                };
                (outcome, Some(carried))
            }
            [(port, packet)] => (
                Outcome::Forward {
                    port: *port,
                    packet: packet.clone(),
                },
                None,
            ),
            several => panic!("{} packets came of one", several.len()),
        }
    }
}

/// What left by a tunnel, in the evaluator's words.
fn unwrapped(tunnel: Tunnel, port: u16, frame: &[u8]) -> Option<Outcome> {
    let (to, protocol, mut at): (IpAddr, u8, usize) = match frame.get(12..14)? {
        [8, 0] => (
            <[u8; 4]>::try_from(frame.get(30..34)?).ok()?.into(),
            *frame.get(23)?,
            34,
        ),
        _ => (
            <[u8; 16]>::try_from(frame.get(38..54)?).ok()?.into(),
            *frame.get(20)?,
            54,
        ),
    };
    let inner = match (tunnel, protocol) {
        (Tunnel::Ipip, inner) => inner,
        (Tunnel::Gue, 17) if frame.get(at + 2..at + 4)? == 6080u16.to_be_bytes() => {
            at += 12;
            *frame.get(at - 3)?
        }
        _ => return None,
    };
    let kind = match inner {
        4 => [8, 0],
        41 => [0x86, 0xdd],
        _ => return None,
    };
    Some(Outcome::Tunnelled {
        port,
        tunnel,
        to,
        packet: [&frame[..12], &kind, frame.get(at..)?].concat(),
    })
}

/// A random extension header: padding of any length, a fragment, authentication, or none that is known.
fn extension(draw: &mut Draw) -> (u8, Vec<u8>) {
    match draw.below(8) {
        0..=4 => {
            let units = draw.pick(&[1, 1, 1, 2, 5, 32, 33]);
            options(draw.pick(&[0, 43, 60]), units)
        }
        5 => fragment_header(draw.pick(&[0, 0, 8]), draw.once_in(2)),
        6 => {
            // RFC 4302, 2.2: the length in units of four bytes, less two.
            let mut bytes = vec![0; 15];
            bytes[0] = 2;
            (51, bytes)
        }
        _ => (draw.pick(&[50, 59, 135, 253]), vec![0; 7]),
    }
}

fn reasons() -> [signalbox_policy::eval::DropReason; 9] {
    use signalbox_policy::eval::DropReason::*;
    [
        BadPacketOut,
        UnknownPort,
        NotIp,
        Malformed,
        WrongMac,
        NoRoute,
        NoNextHop,
        NotServed,
        Service,
    ]
}

fn message(number: u64) -> signalbox_policy::eval::Message {
    use signalbox_policy::eval::Message::*;
    [
        Interest, Local, Arp, Ndp, Fragment, IcmpError, Ttl, Glean, Unresolved,
    ]
    .into_iter()
    .find(|one| *one as u64 == number)
    .unwrap_or_else(|| panic!("message {number}"))
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

fn mend_header_checksum(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let length = usize::from(frame[14] & 15) * 4;
    let end = (14 + length).min(frame.len());
    let mut sum: u32 = frame[14..end]
        .chunks(2)
        .map(|two| u32::from(two[0]) << 8 | two.get(1).map_or(0, |low| u32::from(*low)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}
