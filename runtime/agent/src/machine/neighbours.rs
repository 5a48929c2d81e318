//! Who is where on the attached networks: resolution, ageing, and the packets that wait for it.
//!
//! A neighbour has an id in the `next_hop` table and a host route to it. Both go in when it has answered
//! and out when it no longer does; the packets that asked for it wait in a short queue. How one is asked
//! and answers is the business of `arp` and `ndp`.

mod plans;
mod uses;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use rustc_hash::FxHashMap;
use signalbox_lower::plan::Plan;

use super::icmp::Problem;
use super::store::FlowRef;
use super::timers::Timer;
use super::writer::Token;
use super::{Agent, Link, Output, WriteError};
use crate::counters::Drop;
use crate::entry::{Change, Entry, Packet, PacketMeta, packet_in, packet_out};
use crate::packet;

/// Between two requests for one neighbour.
const RETRY: Duration = Duration::from_secs(1);
/// Requests without an answer after which a neighbour counts as gone.
const TRIES: u8 = 3;
/// How long an answer is believed.
const AGE: Duration = Duration::from_secs(300);
/// After this time a neighbour that has not answered is asked for again, if packets are dispatched to it.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// After this time the switch is asked again to take a neighbour's entries that it refused.
const REFUSED_RETRY: Duration = Duration::from_secs(10);
/// Packets that may come back from a switch that has had the neighbour's entries for long: they were on
/// their way when it got them. More than that, and it has them no longer.
const ON_THEIR_WAY: u32 = 256;
/// Packets that wait for one neighbour.
const QUEUE: usize = 32;
/// Packets that wait for all of them.
const QUEUE_ALL: usize = 2048;
/// Neighbours at once; the pipeline's tables hold 16,384.
const MAX: usize = 16_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The policy says where it is.
    Static,
    /// Named by a route, and nobody has asked for it yet.
    Unknown,
    /// Asked so many times.
    Asking(u8),
    /// It has answered.
    Known { until: Duration },
    /// Its answer is old; asked again so many times.
    Probing(u8),
}

/// A neighbour's two entries on the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entries {
    Out,
    /// So many answers of the switch are awaited; whether it has refused one.
    Going {
        awaited: u8,
        refused: bool,
    },
    /// Both are in; so many packets have come back all the same.
    In {
        returned: u32,
    },
    /// The switch would not take one: packets are dropped until it does.
    Refused,
}

/// What waits for a neighbour.
#[derive(Debug)]
enum Waiting {
    /// Goes on at the route.
    Pipeline(Packet),
    /// An IP packet of our own.
    Own(Bytes),
}

#[derive(Debug)]
struct Neighbour {
    id: u16,
    port: u16,
    mac: Option<[u8; 6]>,
    state: State,
    entries: Entries,
    /// A route names its id: it keeps it.
    named: bool,
    /// Affinities and criteria that dispatch to it: it keeps its id while there are any.
    users: u32,
    waiting: VecDeque<Waiting>,
    /// Flows that go in when its entries are in.
    flows: Vec<FlowRef>,
    due: Duration,
}

/// All neighbours.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    by_address: BTreeMap<IpAddr, Neighbour>,
    by_id: FxHashMap<u16, IpAddr>,
    next_id: u16,
    free: Vec<u16>,
    waiting: usize,
}

impl Neighbours {
    /// The plan's static neighbours and the routers that its routes name.
    pub fn new(plan: &Plan) -> Self {
        let mut all = Self::default();
        for n in &plan.neighbours {
            if let Some(neighbour) = all.add(n.address, n.port) {
                neighbour.mac = Some(n.mac);
                neighbour.state = State::Static;
                neighbour.named = true;
            }
        }
        for route in &plan.routes {
            if let Some(neighbour) = all.add(route.via, route.port) {
                neighbour.named = true;
            }
        }
        all
    }

    fn add(&mut self, address: IpAddr, port: u16) -> Option<&mut Neighbour> {
        if !self.by_address.contains_key(&address) {
            if self.by_address.len() >= MAX {
                return None;
            }
            let id = match self.free.pop() {
                Some(id) => id,
                None => {
                    self.next_id = self.next_id.checked_add(1)?;
                    self.next_id
                }
            };
            return self.add_with_id(address, port, id);
        }
        self.by_address.get_mut(&address)
    }

    fn add_with_id(&mut self, address: IpAddr, port: u16, id: u16) -> Option<&mut Neighbour> {
        self.next_id = self.next_id.max(id);
        self.by_id.insert(id, address);
        self.by_address.insert(
            address,
            Neighbour {
                id,
                port,
                mac: None,
                state: State::Unknown,
                entries: Entries::Out,
                named: false,
                users: 0,
                waiting: VecDeque::new(),
                flows: Vec::new(),
                due: Duration::ZERO,
            },
        );
        self.by_address.get_mut(&address)
    }

    pub fn address_of(&self, id: u16) -> Option<IpAddr> {
        self.by_id.get(&id).copied()
    }

    fn by_id_mut(&mut self, id: u16) -> Option<&mut Neighbour> {
        self.by_address.get_mut(self.by_id.get(&id)?)
    }

    fn forget(&mut self, id: u16) {
        if let Some(address) = self.by_id.remove(&id) {
            self.by_address.remove(&address);
            self.free.push(id);
        }
    }
}

impl Agent {
    pub(super) fn port_mac(&self, port: u16) -> Option<[u8; 6]> {
        (self.plan.ports.iter())
            .find(|p| p.number == port)
            .map(|p| p.mac)
    }

    /// Whether an address is the switch's own, on any port.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        (self.plan.ports.iter()).any(|p| p.addresses.iter().any(|net| net.addr() == address))
    }

    /// Whether the agent answers for an address on a port: the port's own and every service's.
    pub(super) fn answers_for(&self, port: u16, address: IpAddr) -> bool {
        let own = (self.plan.ports.iter())
            .any(|p| p.number == port && p.addresses.iter().any(|net| net.addr() == address));
        own || (self.plan.services.iter()).any(|s| s.addresses.contains(&address))
    }

    /// The port and neighbour that lead to an address: connected networks and routes, longest prefix first.
    pub(super) fn next_hop(&self, to: IpAddr) -> Option<(u16, IpAddr)> {
        next_hop_by(&self.plan, to)
    }

    #[cfg(test)]
    pub(super) fn neighbours_known(&self) -> usize {
        self.neighbours.by_address.len()
    }

    /// Whether all of these next hops can have ids.
    pub(super) fn neighbours_have_room(&self, to: &[IpAddr]) -> bool {
        let known = &self.neighbours.by_address;
        let mut new: Vec<IpAddr> = (to.iter())
            .filter_map(|to| self.next_hop(*to))
            .map(|(_, via)| via)
            .filter(|via| !known.contains_key(via))
            .collect();
        new.sort();
        new.dedup();
        known.len() + new.len() <= MAX
    }

    /// A packet that the pipeline could not send on for want of a neighbour.
    pub(super) fn unresolved(&mut self, mut packet: Packet) {
        let target = if packet.meta.kind == packet_in::GLEAN {
            packet::view(&packet.bytes).map(|v| (v.tuple.dst, packet.meta.next_hop))
        } else {
            let id = packet.meta.next_hop;
            (self.neighbours.address_of(id))
                .and_then(|a| Some((a, self.neighbours.by_address.get(&a)?.port)))
        };
        let Some((address, port)) = target else {
            return self.counters.drop(Drop::Malformed, 1);
        };
        if self.port_mac(port).is_none() || is_broadcast(&self.plan, port, address) {
            return self.counters.drop(Drop::NotWanted, 1);
        }
        // It goes on where the route is looked up again.
        packet.meta.next_hop = 0;
        self.wait(address, port, Waiting::Pipeline(packet));
    }

    /// Sends an IP packet of the agent's own or of a manager's.
    pub(super) fn send_ip(&mut self, port: Option<u16>, ip: Bytes) {
        let Some((_, dst, _)) = packet::addresses(&ip) else {
            return self.counters.drop(Drop::Malformed, 1);
        };
        let hop = match (self.next_hop(dst), port) {
            (Some((p, via)), Some(wanted)) if p == wanted => Some((p, via)),
            (_, Some(wanted)) => Some((wanted, dst)),
            (hop, None) => hop,
        };
        match hop {
            Some((port, via)) => self.wait(via, port, Waiting::Own(ip)),
            None => self.counters.drop(Drop::NoRoute, 1),
        }
    }

    fn wait(&mut self, address: IpAddr, port: u16, what: Waiting) {
        // Nobody is made known for a packet that cannot wait: an entry that nobody asks for would stay.
        let full = self.neighbours.waiting >= QUEUE_ALL;
        if full && !self.neighbours.by_address.contains_key(&address) {
            return self.counters.drop(Drop::NeighbourQueueFull, 1);
        }
        let Some(neighbour) = self.neighbours.add(address, port) else {
            return self.counters.drop(Drop::NeighbourQueueFull, 1);
        };
        let ready = match (&what, &mut neighbour.entries) {
            (Waiting::Own(_), _) => neighbour.mac.is_some(),
            (Waiting::Pipeline(_), Entries::In { returned }) => {
                *returned += 1;
                if *returned > ON_THEIR_WAY {
                    return self.entries_lost(address);
                }
                true
            }
            (Waiting::Pipeline(packet), Entries::Refused) => {
                self.counters.drop(Drop::Unresolved, 1);
                return self.tell_sender(Problem::HostUnreachable, packet);
            }
            (Waiting::Pipeline(_), Entries::Out | Entries::Going { .. }) => false,
        };
        if ready {
            let (port, mac) = (neighbour.port, neighbour.mac);
            return self.dispatch_waiting(port, mac, what);
        }
        if full || neighbour.waiting.len() >= QUEUE {
            return self.counters.drop(Drop::NeighbourQueueFull, 1);
        }
        neighbour.waiting.push_back(what);
        let unknown = neighbour.state == State::Unknown;
        self.neighbours.waiting += 1;
        if unknown {
            self.ask(address);
        }
    }

    /// Packets go on and come back: whatever the switch has said, the entries are not there. They are
    /// written again; the packet that showed it ends here, or it would go round for ever.
    fn entries_lost(&mut self, address: IpAddr) {
        self.counters.drop(Drop::Unresolved, 1);
        self.write_entries(address);
    }

    fn dispatch_waiting(&mut self, port: u16, mac: Option<[u8; 6]>, what: Waiting) {
        match what {
            Waiting::Pipeline(mut packet) => {
                packet.meta.kind = packet_out::ROUTE;
                self.packet_out(packet);
            }
            Waiting::Own(ip) => {
                let (Some(src), Some(dst), Some((.., ether_type))) =
                    (self.port_mac(port), mac, packet::addresses(&ip))
                else {
                    return self.counters.drop(Drop::Malformed, 1);
                };
                self.send_frame(port, packet::frame(dst, src, ether_type, &ip));
            }
        }
    }

    pub(super) fn send_frame(&mut self, port: u16, frame: Vec<u8>) {
        self.packet_out(Packet {
            meta: PacketMeta {
                kind: packet_out::SEND,
                port,
                ..PacketMeta::default()
            },
            bytes: frame.into(),
        });
    }

    /// Sends one request and plans the next.
    fn ask(&mut self, address: IpAddr) {
        let now = self.now;
        let Some(neighbour) = self.neighbours.by_address.get_mut(&address) else {
            return;
        };
        neighbour.state = match neighbour.state {
            State::Unknown => State::Asking(1),
            State::Asking(n) => State::Asking(n + 1),
            State::Known { .. } => State::Probing(1),
            State::Probing(n) => State::Probing(n + 1),
            State::Static => return,
        };
        neighbour.due = now + RETRY;
        let port = neighbour.port;
        self.timers.at(now + RETRY, Timer::Neighbour(address));
        let Some(mac) = self.port_mac(port) else {
            return;
        };
        let frame = match address {
            IpAddr::V4(target) => {
                let Some(IpAddr::V4(own)) = self.source_for(port, address) else {
                    return;
                };
                super::arp::arp_frame(1, [0xff; 6], mac, own, [0; 6], target)
            }
            IpAddr::V6(target) => {
                let Some(IpAddr::V6(own)) = self.source_for(port, address) else {
                    return;
                };
                super::ndp::solicitation(mac, own, target)
            }
        };
        // With the switch away nobody can be asked, and no packet is lost by that.
        if matches!(self.link, Link::Ready | Link::Opening) {
            self.send_frame(port, frame);
        }
    }

    /// The own address of a port from which an address is spoken to.
    pub(super) fn source_for(&self, port: u16, target: IpAddr) -> Option<IpAddr> {
        let port = self.plan.ports.iter().find(|p| p.number == port)?;
        let same = |net: &&IpNet| net.addr().is_ipv4() == target.is_ipv4();
        (port.addresses.iter().find(|net| net.contains(&target)))
            .or_else(|| port.addresses.iter().find(same))
            .map(IpNet::addr)
    }

    pub(super) fn neighbour_due(&mut self, address: IpAddr) {
        let now = self.now;
        let Some(neighbour) = self.neighbours.by_address.get_mut(&address) else {
            return;
        };
        if now < neighbour.due {
            return;
        }
        if let (State::Known { until }, Entries::Refused) = (neighbour.state, neighbour.entries) {
            neighbour.due = until;
            self.timers.at(until, Timer::Neighbour(address));
            if until > now {
                return self.write_entries(address);
            }
            return self.ask(address);
        }
        match neighbour.state {
            State::Asking(n) | State::Probing(n) if n >= TRIES => self.gone(address),
            State::Asking(_) | State::Probing(_) => self.ask(address),
            State::Known { until } if until <= now => self.ask(address),
            State::Unknown if neighbour.users > 0 => self.ask(address),
            State::Known { .. } | State::Unknown | State::Static => {}
        }
    }

    /// A neighbour does not answer.
    fn gone(&mut self, address: IpAddr) {
        let Some(neighbour) = self.neighbours.by_address.get_mut(&address) else {
            return;
        };
        let waited = std::mem::take(&mut neighbour.waiting);
        let dropped = waited.len();
        let there = matches!(
            neighbour.entries,
            Entries::In { .. } | Entries::Going { .. }
        );
        let entries = there.then(|| entries_of(address, neighbour)).flatten();
        neighbour.entries = Entries::Out;
        neighbour.mac = None;
        neighbour.state = State::Unknown;
        let (id, named) = (neighbour.id, neighbour.named);
        let flows = std::mem::take(&mut neighbour.flows);
        let used = neighbour.users > 0;
        if used {
            neighbour.due = self.now + ASK_AGAIN;
            let due = neighbour.due;
            self.timers.at(due, Timer::Neighbour(address));
        }
        self.neighbours.waiting -= dropped.min(self.neighbours.waiting);
        self.counters.drop(Drop::Unresolved, dropped as u64);
        if let Some([next_hop, route]) = entries {
            for entry in [route, next_hop] {
                self.writer.push(Change::Delete, entry, Token::None);
            }
        }
        if !named && !used {
            self.neighbours.forget(id);
        }
        self.tell_senders(waited);
        let error = WriteError::Refused(format!("next hop {address} does not answer"));
        self.tell_flows(flows, Some(&error));
    }

    /// A neighbour that was asked has answered.
    pub(super) fn answered(&mut self, port: u16, address: IpAddr, mac: [u8; 6]) {
        let Some(neighbour) = self.neighbours.by_address.get_mut(&address) else {
            return;
        };
        let asked = matches!(neighbour.state, State::Asking(_) | State::Probing(_));
        if !asked || neighbour.port != port || mac.first().is_none_or(|b| b & 1 == 1) {
            return;
        }
        self.known(address, mac);
        let Some(neighbour) = self.neighbours.by_address.get_mut(&address) else {
            return;
        };
        let (own, rest): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut neighbour.waiting)
            .into_iter()
            .partition(|w| matches!(w, Waiting::Own(_)));
        neighbour.waiting = rest;
        self.neighbours.waiting -= own.len().min(self.neighbours.waiting);
        for what in own {
            self.dispatch_waiting(port, Some(mac), what);
        }
    }

    /// A neighbour that is known has been heard to say where it is, unasked (RFC 826: a pair that is in
    /// the table already is brought up to date, whatever the packet wants).
    pub(super) fn heard(&mut self, port: u16, address: IpAddr, mac: [u8; 6]) {
        let Some(neighbour) = self.neighbours.by_address.get(&address) else {
            return;
        };
        let known = matches!(neighbour.state, State::Known { .. } | State::Probing(_));
        let moved = neighbour.mac.is_some_and(|old| old != mac);
        if known && moved && neighbour.port == port && mac.first().is_some_and(|b| b & 1 == 0) {
            self.known(address, mac);
        }
    }

    /// Where a neighbour is; the switch learns it too.
    fn known(&mut self, address: IpAddr, mac: [u8; 6]) {
        let now = self.now;
        let Some(neighbour) = self.neighbours.by_address.get_mut(&address) else {
            return;
        };
        let changed = neighbour.mac.replace(mac) != Some(mac);
        neighbour.state = State::Known { until: now + AGE };
        neighbour.due = now + AGE;
        let entries = neighbour.entries;
        self.timers.at(now + AGE, Timer::Neighbour(address));
        match entries {
            Entries::Out | Entries::Refused => self.write_entries(address),
            Entries::Going { .. } | Entries::In { .. } if changed => {
                if let Some([next_hop, _]) = self.neighbour_entries(address) {
                    self.writer.push(Change::Modify, next_hop, Token::None);
                }
            }
            Entries::Going { .. } | Entries::In { .. } => {}
        }
    }

    /// Puts a neighbour's entries onto the switch; those that are there already stay.
    fn write_entries(&mut self, address: IpAddr) {
        let Some(entries) = self.neighbour_entries(address) else {
            return;
        };
        let Some(neighbour) = self.neighbours.by_address.get_mut(&address) else {
            return;
        };
        neighbour.entries = Entries::Going {
            awaited: 2,
            refused: false,
        };
        let id = neighbour.id;
        for entry in entries {
            self.insert(entry, Token::Neighbour(id));
        }
    }

    fn neighbour_entries(&self, address: IpAddr) -> Option<[Entry; 2]> {
        let neighbour = self.neighbours.by_address.get(&address)?;
        let [mut next_hop, route] = entries_of(address, neighbour)?;
        if let Entry::NextHop { src_mac, .. } = &mut next_hop {
            *src_mac = self.port_mac(neighbour.port)?;
        }
        Some([next_hop, route])
    }

    pub(super) fn neighbour_installed(&mut self, id: u16, result: &Result<(), WriteError>) {
        let Some(address) = self.neighbours.address_of(id) else {
            return;
        };
        let Some(neighbour) = self.neighbours.by_address.get_mut(&address) else {
            return;
        };
        let Entries::Going { awaited, refused } = neighbour.entries else {
            return;
        };
        let refused = refused || result.is_err();
        if let Err(error) = result {
            let line = format!("no route to neighbour {address}: {error}");
            self.out.push(Output::Log(line));
        }
        if awaited > 1 {
            let awaited = awaited - 1;
            neighbour.entries = Entries::Going { awaited, refused };
            return;
        }
        let waiting = std::mem::take(&mut neighbour.waiting);
        let flows = std::mem::take(&mut neighbour.flows);
        let (port, mac) = (neighbour.port, neighbour.mac);
        self.neighbours.waiting -= waiting.len().min(self.neighbours.waiting);
        if refused {
            // A route to a next hop that is not there would send every packet round and round.
            let due = self.now + REFUSED_RETRY;
            neighbour.entries = Entries::Refused;
            neighbour.due = due;
            self.timers.at(due, Timer::Neighbour(address));
            if let Some([next_hop, route]) = self.neighbour_entries(address) {
                for entry in [route, next_hop] {
                    self.writer.push(Change::Delete, entry, Token::None);
                }
            }
            self.counters.drop(Drop::Unresolved, waiting.len() as u64);
            self.tell_senders(waiting);
            let text = format!("the switch does not take next hop {address}");
            return self.tell_flows(flows, Some(&WriteError::Refused(text)));
        }
        neighbour.entries = Entries::In { returned: 0 };
        for what in waiting {
            self.dispatch_waiting(port, mac, what);
        }
        self.tell_flows(flows, None);
    }

    /// Everything that the switch should hold of neighbours and routes to them.
    pub(super) fn neighbour_state(&mut self) -> Vec<Entry> {
        let addresses: Vec<IpAddr> = self.neighbours.by_address.keys().copied().collect();
        let mut entries = Vec::new();
        for address in addresses {
            if let Some(pair) = self.neighbour_entries(address) {
                entries.extend(pair);
                if let Some(n) = self.neighbours.by_address.get_mut(&address) {
                    n.entries = Entries::In { returned: 0 };
                }
            }
        }
        entries.extend(self.static_routes());
        entries
    }

    /// Takes over the neighbours of an agent before this one, and asks each whether it is still there. Its
    /// flows so lose no packet to a resolution that was done before.
    pub(super) fn adopt_neighbours(&mut self, found: &[Entry]) {
        let now = self.now;
        let next_hops: FxHashMap<u16, (u16, [u8; 6])> = (found.iter())
            .filter_map(|e| match e {
                Entry::NextHop {
                    id, port, dst_mac, ..
                } => Some((*id, (*port, *dst_mac))),
                _ => None,
            })
            .collect();
        for entry in found {
            let Entry::Route { prefix, next_hop } = entry else {
                continue;
            };
            let Some((port, mac)) = next_hops.get(next_hop).copied() else {
                continue;
            };
            let address = prefix.addr();
            if prefix.prefix_len() != prefix.max_prefix_len() || self.port_mac(port).is_none() {
                continue;
            }
            let all = &mut self.neighbours;
            let neighbour = match all.by_id.get(next_hop) {
                Some(holder) if *holder != address => continue,
                Some(_) => all.by_address.get_mut(&address),
                None if all.by_address.contains_key(&address) => continue,
                None => all.add_with_id(address, port, *next_hop),
            };
            if let Some(n) = neighbour
                && n.port == port
                && n.state == State::Unknown
            {
                n.mac = Some(mac);
                n.state = State::Known { until: now };
                n.due = now + RETRY;
                self.timers.at(now + RETRY, Timer::Neighbour(address));
            }
        }
        let all = &mut self.neighbours;
        all.free = (1..=all.next_id)
            .filter(|id| !all.by_id.contains_key(id))
            .collect();
    }

    /// The switch is gone, and the packets that wait with it.
    pub(super) fn drop_waiting(&mut self) {
        let mut dropped = 0;
        for n in self.neighbours.by_address.values_mut() {
            dropped += n.waiting.len();
            n.waiting.clear();
            n.flows.clear();
            n.entries = Entries::Out;
        }
        self.neighbours.waiting = 0;
        self.counters.drop(Drop::NoSwitch, dropped as u64);
    }
}

/// See [`Agent::next_hop`].
pub(super) fn next_hop_by(plan: &Plan, to: IpAddr) -> Option<(u16, IpAddr)> {
    let connected = (plan.ports.iter()).flat_map(|p| {
        p.addresses
            .iter()
            .map(move |net| (net.trunc(), p.number, to))
    });
    let routes = (plan.routes.iter()).map(|r| (r.prefix, r.port, r.via));
    connected
        .chain(routes)
        .filter(|(net, ..)| net.contains(&to))
        .max_by_key(|(net, ..)| net.prefix_len())
        .map(|(_, port, via)| (port, via))
}

fn entries_of(address: IpAddr, neighbour: &Neighbour) -> Option<[Entry; 2]> {
    let dst_mac = neighbour.mac?;
    Some([
        Entry::NextHop {
            id: neighbour.id,
            port: neighbour.port,
            src_mac: [0; 6],
            dst_mac,
        },
        Entry::Route {
            prefix: IpNet::from(address),
            next_hop: neighbour.id,
        },
    ])
}

fn is_broadcast(plan: &Plan, port: u16, address: IpAddr) -> bool {
    let IpAddr::V4(_) = address else { return false };
    (plan.ports.iter().filter(|p| p.number == port))
        .flat_map(|p| &p.addresses)
        .any(|net| {
            net.prefix_len() < 31 && (net.broadcast() == address || net.network() == address)
        })
}
