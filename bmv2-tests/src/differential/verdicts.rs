//! Packets of several flows and the verdicts about them, in any order: what goes to a manager waits, and
//! comes back with affinities, to the fallback or never, while other packets pass.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use signalbox_lower::entries::{Match, PlannedEntry, Value};
use signalbox_lower::plan::PartPlan;
use signalbox_p4runtime::proto::p4::v1::update::Type as Change;
use signalbox_policy::eval::{
    Adjust, Dispatch, FixedAction, FlowKey, Outcome, Part, Resume, Tunnel,
};
use signalbox_policy::model::{
    Balance, Cube, Fallback, Family, Nat, NatSource, ServiceIndex, ServiceKind, Way, address_bits,
};
use signalbox_policy::testing::{FlowEnd, inward, outward};

use super::outcomes::asked;
use super::{Draw, Pair};
use crate::bench::{Carried, ask_entries, bits};
use crate::frames::{Numbers, Path, flags};
use crate::image::Image;
use crate::targets::Target;

/// A packet at a manager.
struct Held {
    carried: Carried,
    from: Resume,
    packet: Vec<u8>,
}

/// An affinity of a verdict, and where it belongs.
type Affinity = (Part, FlowKey, FixedAction);

/// A pair whose managers answer at random, and what they have decided.
pub struct Interleaving<'i> {
    pair: Pair<'i>,
    held: Vec<Held>,
    entries: BTreeMap<(ServiceIndex, Part, FlowKey), PlannedEntry>,
    /// Inside ends, by outside tuple.
    given: BTreeMap<(ServiceIndex, u8, IpAddr, u16), FlowEnd>,
}

impl<'i> Interleaving<'i> {
    /// Nothing is decided; some managers may be away.
    pub fn new(image: &'i Image, draw: &mut Draw) -> Self {
        let mut pair = Pair::undecided(Target::Embedded, image);
        for (service, plan) in image.policy.services.iter().zip(&image.plan.services) {
            if !plan.shares.is_empty() && draw.once_in(8) {
                pair.evaluator.set_manager(service.index, false);
                for part in std::iter::once(&plan.forward).chain(&plan.reply) {
                    let asking = part.criteria.iter().filter(|one| !one.is_static());
                    let entries = asking.flat_map(|one| ask_entries(part, one, 512, 0));
                    pair.bench.remove(&entries.collect::<Vec<_>>());
                }
            }
        }
        Self {
            pair,
            held: Vec::new(),
            entries: BTreeMap::new(),
            given: BTreeMap::new(),
        }
    }

    /// A packet arrives, or a verdict does. Says in a word what became of it.
    ///
    /// # Errors
    /// Evaluator and switch disagree: both of their accounts.
    pub fn step(&mut self, draw: &mut Draw) -> Result<&'static str, String> {
        if !self.held.is_empty() && (self.held.len() > 12 || draw.below(5) < 2) {
            let at = draw.below(self.held.len());
            let held = self.held.swap_remove(at);
            return self.answer(draw, held);
        }
        let made = match draw.below(6) {
            0 | 1 => None,
            2 | 3 => self.of_a_new_flow(draw),
            _ => self.of_a_known_flow(draw),
        };
        let (port, frame) = made.unwrap_or_else(|| self.pair.frame(draw));
        self.pass(port, &frame)
            .map_err(|why| format!("port {port}, frame {frame:02x?}\n{why}"))
    }

    /// A packet from a host to what a balance or nat service stands for, or out through one.
    fn of_a_new_flow(&self, draw: &mut Draw) -> Option<(u16, Vec<u8>)> {
        let mut ends: Vec<(IpAddr, u8, u16)> = Vec::new();
        for service in &self.pair.image.policy.services {
            match &service.kind {
                ServiceKind::Balance(balance) => {
                    let destinations = balance.destinations.iter();
                    ends.extend(destinations.map(|to| (to.address, to.proto, to.port)));
                }
                ServiceKind::Nat(nat) => {
                    let proto = draw.pick(&[6, 17, 1]);
                    let mut ports = vec![80, 443, 40_000, 40_001, 40_002];
                    // What its condition names.
                    let named = nat.criteria.cubes.iter().map(|cube| cube.dst_port);
                    ports.extend(
                        named
                            .filter(|one| one.mask == u16::MAX)
                            .map(|one| one.value),
                    );
                    let port = draw.pick(&ports);
                    let own = service.addresses();
                    // Somebody outside, too.
                    let mut to = vec!["198.51.100.7".parse().unwrap()];
                    if !own.is_empty() {
                        to.push(draw.pick(&own));
                    }
                    ends.extend(to.into_iter().map(|to| (to, proto, port)));
                }
                ServiceKind::Gate(gate) => {
                    // What is left open ends as the hosts do.
                    let host = |cube: &Cube| cube.dst.value | (10 & !cube.dst.mask);
                    let to =
                        |cube: &Cube| (cube.family.address(host(cube)), 6, cube.dst_port.value);
                    ends.extend(gate.criteria.cubes.iter().map(to));
                }
                ServiceKind::Filter(_) | ServiceKind::Observe(_) => {}
            }
        }
        if ends.is_empty() {
            return None;
        }
        let (dst, proto, dport) = draw.pick(&ends);
        let from = draw.pick(&self.pair.hosts).address;
        if from.is_ipv4() != dst.is_ipv4() {
            return None;
        }
        let port = 40_000 + draw.below(8) as u16;
        let (proto, sport, dport) = match proto {
            1 if dst.is_ipv4() => (1, port, 0),
            1 => (58, port, 0),
            proto => (proto, port, dport),
        };
        self.frame_of(
            draw,
            FlowKey {
                src: from,
                dst,
                proto,
                sport,
                dport,
            },
        )
    }

    /// A packet of a flow that is decided, in one of its forms.
    fn of_a_known_flow(&self, draw: &mut Draw) -> Option<(u16, Vec<u8>)> {
        let keys: Vec<FlowKey> = self.entries.keys().map(|(.., key)| *key).collect();
        if keys.is_empty() {
            return None;
        }
        let key = draw.pick(&keys);
        self.frame_of(draw, key)
    }

    /// A packet of this flow, and the port that its sender is on.
    fn frame_of(&self, draw: &mut Draw, key: FlowKey) -> Option<(u16, Vec<u8>)> {
        let plan = &self.pair.image.plan;
        let sender = self.pair.hosts.iter().find(|one| one.address == key.src);
        let number = sender.map_or(1, |one| one.port);
        let port = plan.ports.iter().find(|one| one.number == number)?;
        let path = Path {
            from_mac: sender.map_or([2, 9, 9, 9, 9, 9], |one| one.mac),
            to_mac: port.mac,
            from: SocketAddr::new(key.src, key.sport),
            to: SocketAddr::new(key.dst, key.dport),
            ttl: draw.pick(&[64, 64, 64, 64, 2, 1]),
        };
        let payload = vec![7; draw.pick(&[0, 1, 100, 600])];
        let frame = match key.proto {
            6 => {
                let set = [
                    flags::SYN,
                    flags::ACK,
                    flags::SYN | flags::ACK,
                    flags::FIN | flags::ACK,
                    flags::RST,
                ];
                path.segment(draw.pick(&set), &numbers(draw), &payload)
            }
            17 => path.udp(&payload),
            1 | 58 if (key.proto == 1) == key.src.is_ipv4() => {
                let mut frame = path.echo(key.sport | key.dport, &payload);
                if key.sport == 0 {
                    let (at, reply) = if key.proto == 1 { (34, 0) } else { (54, 129) };
                    frame[at] = reply;
                }
                frame
            }
            _ => return None,
        };
        Some((number, frame))
    }

    fn pass(&mut self, port: u16, frame: &[u8]) -> Result<&'static str, String> {
        let (expected, counted) = self.pair.evaluator.receive_counted(port, frame);
        let before = self.counts();
        let (found, carried) = self.pair.switch(port, frame);
        self.pair.judge(&expected, &found)?;
        self.judge_counts(&before, &counted, frame.len())?;
        Ok(self.met(port, &expected, carried))
    }

    /// A packet goes on behind the stage that asked about it.
    fn resume(&mut self, held: &Held) -> Result<&'static str, String> {
        let (expected, counted) = self.pair.evaluator.resume_counted(&held.packet, held.from);
        let mut bytes = held.carried.resumed().bytes().to_vec();
        bytes.extend_from_slice(&held.packet);
        let before = self.counts();
        let (found, carried) = self.pair.switch(510, &bytes);
        let told = |why| {
            let from = held.from;
            format!("resumed at {from:?}, frame {:02x?}\n{why}", held.packet)
        };
        self.pair.judge(&expected, &found).map_err(told)?;
        self.judge_counts(&before, &counted, held.packet.len())
            .map_err(told)?;
        Ok(self.met(held.from.port, &expected, carried))
    }

    /// Notes what waits for a verdict.
    fn met(&mut self, port: u16, outcome: &Outcome, carried: Option<Carried>) -> &'static str {
        if let (Some((from, packet)), Some(carried)) = (asked(port, outcome), carried) {
            self.held.push(Held {
                carried,
                from,
                packet: packet.to_vec(),
            });
            return "asked about";
        }
        match outcome {
            Outcome::ToAgent { .. } => "to the agent",
            Outcome::Drop { .. } => "dropped",
            Outcome::Tunnelled { .. } => "tunnelled",
            Outcome::Forward { .. } => "forwarded",
        }
    }

    /// What observe services have counted on the switch: packets and bytes.
    fn counts(&self) -> BTreeMap<ServiceIndex, (u64, u64)> {
        let plan = &self.pair.image.plan;
        let services = self.pair.image.policy.services.iter().zip(&plan.services);
        let observed = services.filter_map(|(service, planned)| {
            let observe = planned.observe.as_ref()?;
            let cells: Vec<usize> = if observe.per_flow {
                let first = planned.forward.first_fixed_slot() as usize;
                (first..=first + self.entries.len()).collect()
            } else {
                (planned.forward.criteria.iter())
                    .map(|one| one.id as usize)
                    .collect()
            };
            let stats = &planned.forward.stats;
            Some((service.index, self.pair.bench.cells(stats, cells)))
        });
        observed.collect()
    }

    fn judge_counts(
        &self,
        before: &BTreeMap<ServiceIndex, (u64, u64)>,
        counted: &[ServiceIndex],
        length: usize,
    ) -> Result<(), String> {
        for (service, (packets, bytes)) in self.counts() {
            let (packets_before, bytes_before) = before[&service];
            let times = counted.iter().filter(|one| **one == service).count() as u64;
            let found = (packets - packets_before, bytes - bytes_before);
            let expected = (times, times * length as u64);
            if found != expected {
                let name = &self.pair.image.policy.services[service.0].name;
                return Err(format!(
                    "{name}: the evaluator counts {expected:?}, the switch {found:?} packets and bytes"
                ));
            }
        }
        Ok(())
    }

    /// A verdict of any kind.
    fn answer(&mut self, draw: &mut Draw, held: Held) -> Result<&'static str, String> {
        let service = held.from.service;
        let affinities = match draw.below(8) {
            0 => return Ok("dropped by the verdict"),
            1 => None,
            _ => self.decide(draw, &held),
        };
        let Some(affinities) = affinities else {
            let fallback = self.pair.image.policy.service(service).unwrap().fallback();
            return match fallback {
                Fallback::Drop => Ok("dropped by the floor"),
                Fallback::Route => self.resume(&held),
            };
        };
        let mut adjusts = false;
        for (part, key, action) in affinities {
            adjusts |= matches!(action, FixedAction::Adjust(_));
            self.put(service, part, key, action);
        }
        // A late answer installs, and sends nothing.
        if draw.once_in(8) {
            return Ok("late");
        }
        match self.resume(&held)? {
            "forwarded" if adjusts => Ok("adjusted"),
            word => Ok(word),
        }
    }

    /// What a manager may decide, as the affinities that the evaluator has now; none is the fallback.
    fn decide(&mut self, draw: &mut Draw, held: &Held) -> Option<Vec<Affinity>> {
        let (service, part) = (held.from.service, held.from.part);
        let (flow, _) = self.pair.evaluator.flow(&held.packet)?;
        if self.entries.contains_key(&(service, part, flow)) {
            return Some(Vec::new());
        }
        let image = self.pair.image;
        match &image.policy.service(service)?.kind {
            ServiceKind::Observe(_) => {
                self.pair.evaluator.observe(service, flow);
                Some(vec![(part, flow, FixedAction::Forward)])
            }
            ServiceKind::Balance(balance) if part == Part::Forward => {
                self.serve(draw, service, balance, flow)
            }
            ServiceKind::Gate(_) => {
                // Its manager has opened both connections, whoever spoke last.
                let flow = match part {
                    Part::Forward => flow,
                    Part::Reply => flow.reversed(),
                };
                let (there, back) = (deltas(draw), deltas(draw));
                self.pair.evaluator.hand_over(service, flow, there, back);
                Some(vec![
                    (Part::Reply, flow.reversed(), FixedAction::Adjust(back)),
                    (Part::Forward, flow, FixedAction::Adjust(there)),
                ])
            }
            ServiceKind::Nat(nat) => {
                let host = self.host_at(service, nat, flow);
                let to = match part {
                    Part::Forward => {
                        outward(nat, flow, host, || self.give(draw, service, nat, flow))?
                    }
                    Part::Reply => inward(nat, flow, host)?,
                };
                self.translate(service, part, flow, to)
            }
            _ => None,
        }
    }

    fn translate(
        &mut self,
        service: ServiceIndex,
        part: Part,
        flow: FlowKey,
        to: FlowKey,
    ) -> Option<Vec<Affinity>> {
        let taken = self.pair.evaluator.translate(service, part, flow, to);
        taken.then(|| both_ways(part, flow, to))
    }

    fn serve(
        &mut self,
        draw: &mut Draw,
        service: ServiceIndex,
        balance: &Balance,
        flow: FlowKey,
    ) -> Option<Vec<Affinity>> {
        let pool = self.pair.image.policy.pool(balance.pool)?;
        let server = draw.pick(&pool.servers);
        let (address, port) = (server.address, server.port);
        if !(self.pair.evaluator).balance(service, flow, address, port) {
            return None;
        }
        let tunnel = match balance.way {
            Way::Translate => {
                let to = FlowKey {
                    dst: address,
                    dport: port,
                    ..flow
                };
                return Some(both_ways(Part::Forward, flow, to));
            }
            Way::Mac => None,
            Way::Ipip => Some(Tunnel::Ipip),
            Way::Gue => Some(Tunnel::Gue),
        };
        let to = Dispatch {
            next_hop: address,
            tunnel,
        };
        Some(vec![(Part::Forward, flow, FixedAction::Dispatch(to))])
    }

    /// An outside end of a service at random; `None` if it is another inside end's, or the protocol has none.
    fn give(
        &mut self,
        draw: &mut Draw,
        service: ServiceIndex,
        nat: &Nat,
        flow: FlowKey,
    ) -> Option<FlowEnd> {
        let Some(NatSource::Ports {
            addresses,
            first_port,
            last_port,
        }) = &nat.source
        else {
            return None;
        };
        // Of ICMP only an echo request: its identifier stands as the source port.
        let has_ports = matches!(flow.proto, 6 | 17);
        let is_request = matches!(flow.proto, 1 | 58) && flow.sport != 0;
        if !has_ports && !is_request {
            return None;
        }
        let (first, last) = draw.pick(addresses);
        let range = address_bits(last) - address_bits(first) + 1;
        let offset = draw.below(range as usize) as u128;
        let address = Family::of(first).address(address_bits(first) + offset);
        let port = first_port + draw.below(usize::from(last_port - first_port) + 1) as u16;
        let inside = (flow.src, flow.sport);
        let outside = (service, flow.proto, address, port);
        (*self.given.entry(outside).or_insert(inside) == inside).then_some((address, port))
    }

    /// The inside end that has the outside tuple to which a flow goes.
    fn host_at(&self, service: ServiceIndex, nat: &Nat, flow: FlowKey) -> Option<FlowEnd> {
        let paired = (nat.source.as_ref()).and_then(|source| source.inside_of(flow.dst));
        if let Some(host) = paired {
            return Some((host, flow.dport));
        }
        let outside = (service, flow.proto, flow.dst, flow.dport);
        self.given.get(&outside).copied()
    }

    /// Writes an affinity into the switch, with a counter cell of its own.
    fn put(&mut self, service: ServiceIndex, part: Part, key: FlowKey, action: FixedAction) {
        let plan = &self.pair.image.plan.services[service.0];
        let planned: &PartPlan = match part {
            Part::Forward => &plan.forward,
            Part::Reply => plan.reply.as_ref().unwrap(),
        };
        let table = planned.fixed.as_ref().unwrap();
        let control = table.rsplit_once('.').unwrap().0;
        let slot = planned.first_fixed_slot() + self.entries.len() as u32;
        let (name, mut params) = match action {
            FixedAction::Forward => ("forward", Vec::new()),
            FixedAction::Discard => ("discard", Vec::new()),
            FixedAction::Dispatch(to) => {
                let (hop, tunnel) = self.pair.way_to(to);
                let params = vec![("next_hop", bits(hop, 16)), ("tunnel", bits(tunnel, 16))];
                ("dispatch", params)
            }
            FixedAction::Adjust(by) => {
                let params = vec![
                    ("sequence", bits(by.sequence, 32)),
                    ("acknowledgement", bits(by.acknowledgement, 32)),
                    ("window_shift", bits(by.window_shift.cast_unsigned(), 8)),
                ];
                ("adjust", params)
            }
            FixedAction::Translate(to) => {
                let params = vec![
                    ("src", Value::Addr(to.src)),
                    ("dst", Value::Addr(to.dst)),
                    ("sport", bits(to.sport, 16)),
                    ("dport", bits(to.dport, 16)),
                ];
                ("translate", params)
            }
        };
        if action != FixedAction::Discard {
            params.extend([
                ("packet_events", bits(0u8, 10)),
                ("notice_events", bits(0u8, 10)),
            ]);
        }
        params.extend([("entry", bits(1u8, 32)), ("slot", bits(slot, 32))]);
        let entry = PlannedEntry {
            table: table.clone(),
            matches: vec![
                ("src", Match::Exact(Value::Addr(key.src))),
                ("dst", Match::Exact(Value::Addr(key.dst))),
                ("proto", Match::Exact(bits(key.proto, 8))),
                ("sport", Match::Exact(bits(key.sport, 16))),
                ("dport", Match::Exact(bits(key.dport, 16))),
                ("kind", Match::Exact(bits(0u8, 2))),
            ],
            priority: 0,
            action: format!("{control}.{name}"),
            params,
        };
        let place = (service, part, key);
        let change = match self.entries.contains_key(&place) {
            true => Change::Modify,
            false => Change::Insert,
        };
        let written = self.pair.bench.write(change, std::slice::from_ref(&entry));
        written.unwrap_or_else(|error| panic!("{place:?}: {error}"));
        self.entries.insert(place, entry);
    }
}

/// A segment's numbers: anywhere, or where they wrap.
fn numbers(draw: &mut Draw) -> Numbers {
    let number = |draw: &mut Draw| match draw.once_in(2) {
        true => 0u32.wrapping_sub(draw.below(70_000) as u32),
        false => draw.below(1 << 31) as u32,
    };
    Numbers {
        sequence: number(draw),
        acknowledgement: number(draw),
        window: (draw.below(1 << 16) >> draw.below(16)) as u16,
        options: vec![1; 4 * draw.below(11)],
    }
}

/// What a gate may add to one direction.
fn deltas(draw: &mut Draw) -> Adjust {
    Adjust {
        sequence: draw.pick(&[0, 1, 0x7fff_ffff, 0xffff_fff0, 0x1234_5678]),
        acknowledgement: draw.pick(&[0, 0xffff_ffff, 0x8000_0001, 16, 0xedcb_a988]),
        window_shift: draw.below(29) as i8 - 14,
    }
}

/// Both directions of a translation.
fn both_ways(part: Part, flow: FlowKey, to: FlowKey) -> Vec<Affinity> {
    let other = match part {
        Part::Reply => Part::Forward,
        Part::Forward => Part::Reply,
    };
    let home = FixedAction::Translate(flow.reversed());
    vec![
        (other, to.reversed(), home),
        (part, flow, FixedAction::Translate(to)),
    ]
}
