//! Outside tuples: who has which, since when nobody has, and which are free.
//!
//! A mapping stands for an inside address and port towards every remote (RFC 4787, REQ-1), as long as a flow
//! has it; then its tuple rests. It knows neither flows nor agents: only how many have a tuple.

use std::collections::VecDeque;
use std::hash::Hasher;
use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;
use siphasher::sip::SipHasher13;

use crate::blocks::Blocks;
use crate::ports::Range;
use crate::space::Space;
use crate::subscribers::Subscribers;

/// Outside addresses that are used at most; the policy allows no more.
const MAX_ADDRESSES: usize = 1 << 16;

/// A protocol with ports, or identifiers in their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6 echo, by identifier (RFC 5508, REQ-1).
    Icmp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Icmp];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

/// An address and a port of it.
pub type End = (IpAddr, u16);

/// Why an inside tuple gets no outside one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// None is free that it could have.
    Exhausted,
    /// Its address has as many as it may have.
    Limited,
}

/// What an agent's claim has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is noted.
    Granted,
    /// The tuple is that of another inside tuple, which keeps it; the claim is a hold on it and no more.
    OfAnother(End),
    /// The inside tuple has another one, which it keeps; this one is held and not given out.
    HasAnother(End),
    /// The tuple is none of these.
    Foreign,
}

/// Names an outside tuple: protocol, number of the address, port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct TupleId(u64);

impl TupleId {
    fn new(protocol: Protocol, address: u16, port: u16) -> Self {
        Self((protocol as u64) << 32 | u64::from(address) << 16 | u64::from(port))
    }

    fn protocol(self) -> Protocol {
        match self.0 >> 32 {
            0 => Protocol::Tcp,
            1 => Protocol::Udp,
            _ => Protocol::Icmp,
        }
    }

    fn address(self) -> u16 {
        (self.0 >> 16) as u16
    }

    fn port(self) -> u16 {
        self.0 as u16
    }
}

/// An outside tuple that is not free.
#[derive(Debug)]
struct Mapping {
    /// Whose it is.
    subscriber: u32,
    /// The inside port.
    port: u16,
    /// Only the decision that made it has it, and no agent may have carried that out.
    fresh: bool,
    /// Flows that have it; without any it rests.
    flows: u32,
    /// In milliseconds, if it rests.
    until: u64,
}

/// What of an address is used in a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// The address.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// Tuples that are mapped.
    pub mapped: u32,
    /// Tuples that are free.
    pub free: u32,
    /// Tuples that rest.
    pub resting: u32,
}

impl signalbox_manager::Blocks for Outside {
    fn count(&self) -> u32 {
        Blocks::divided(self.range).count()
    }

    fn name(&self, block: u32) -> String {
        let range = Blocks::divided(self.range).range(block);
        format!("{}-{}", range.first, range.last)
    }

    fn allow(&mut self, blocks: u64) {
        if !self.is_shared {
            self.divide();
        }
        for space in &mut self.spaces {
            space.allow(blocks);
        }
    }

    fn wants_more(&self) -> bool {
        self.is_shared && self.spaces.iter().any(Space::is_tight)
    }

    fn unused(&self) -> u64 {
        (self.spaces.iter()).fold(u64::MAX, |set, space| set & space.untaken())
    }
}

/// Outside addresses, and what is mapped to them.
#[derive(Debug)]
pub struct Outside {
    addresses: Vec<IpAddr>,
    range: Range,
    /// One block of all, until the tuples are shared.
    blocks: Blocks,
    is_shared: bool,
    hold_back: u64,
    per_source: Option<u32>,
    numbers: FxHashMap<IpAddr, u16>,
    /// By protocol.
    spaces: [Space; 3],
    mappings: FxHashMap<TupleId, Mapping>,
    /// Inside tuples besides the one whose it is that agents use an outside tuple for, once a flow.
    disputed: FxHashMap<TupleId, Vec<End>>,
    /// Outside tuples that an inside one has besides the one that new flows get, by what agents claim.
    seconds: FxHashMap<u64, Vec<TupleId>>,
    /// By inside port and protocol of a subscriber.
    by_inside: FxHashMap<u64, TupleId>,
    subscribers: Subscribers,
    resting: VecDeque<(u64, TupleId)>,
    now: Duration,
    seed: u64,
    drawn: u64,
}

impl Outside {
    /// All tuples of `addresses` and `range`, free; at most the first 65,536 addresses. `hold_back` is in
    /// milliseconds. Which port is given out depends on nothing but the order of requests and the seed.
    pub fn new(
        addresses: impl Iterator<Item = IpAddr>,
        range: Range,
        hold_back: u64,
        per_source: Option<u32>,
        seed: u64,
    ) -> Self {
        let mut addresses: Vec<IpAddr> = addresses.take(MAX_ADDRESSES).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let count = u32::try_from(addresses.len()).unwrap_or(0);
        let blocks = Blocks::whole(range);
        let space = || Space::new(blocks, count);
        Self {
            numbers: addresses.iter().copied().zip(0..=u16::MAX).collect(),
            addresses,
            range,
            blocks,
            is_shared: false,
            hold_back,
            per_source,
            spaces: [space(), space(), space()],
            mappings: FxHashMap::default(),
            disputed: FxHashMap::default(),
            seconds: FxHashMap::default(),
            by_inside: FxHashMap::default(),
            subscribers: Subscribers::default(),
            resting: VecDeque::new(),
            now: Duration::ZERO,
            seed,
            drawn: 0,
        }
    }

    /// Gives out ports in another order.
    pub fn reseed(&mut self, seed: u64) {
        self.seed = seed;
    }

    /// Whether every tuple may be given out that is free.
    pub fn has_all(&self) -> bool {
        self.spaces.iter().all(Space::has_all)
    }

    /// Cuts the tuples into blocks that managers share. Nothing is given out before some are allowed.
    fn divide(&mut self) {
        self.is_shared = true;
        self.blocks = Blocks::divided(self.range);
        let count = u32::try_from(self.addresses.len()).unwrap_or(0);
        for space in &mut self.spaces {
            *space = Space::new(self.blocks, count);
        }
        let taken: Vec<(TupleId, bool)> = (self.mappings.iter())
            .map(|(id, mapping)| (*id, mapping.flows > 0))
            .collect();
        for (id, is_mapped) in taken {
            self.space_mut(id.protocol()).take(id.address(), id.port());
            self.count(id, i32::from(is_mapped), i32::from(!is_mapped));
        }
    }

    /// Time has passed: what has rested is free.
    pub fn tick(&mut self, now: Duration) {
        self.now = self.now.max(now);
        let now = u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX);
        while let Some((until, id)) = self.resting.front().copied().filter(|(u, _)| *u <= now) {
            self.resting.pop_front();
            // It may have been taken up again since, and rest anew.
            if (self.mappings.get(&id)).is_some_and(|m| m.flows == 0 && m.until == until) {
                self.free(id);
            }
        }
    }

    /// Whether an address is one of these.
    pub fn has(&self, address: IpAddr) -> bool {
        self.numbers.contains_key(&address)
    }

    /// Their family.
    pub fn is_ipv4(&self) -> bool {
        self.addresses.first().is_some_and(IpAddr::is_ipv4)
    }

    /// Tuples of a protocol that are mapped.
    pub fn mapped(&self, protocol: Protocol) -> usize {
        self.space(protocol).mapped
    }

    /// The outside tuple of an inside one, for one flow more: the one that it has, or a new one.
    pub fn map(&mut self, protocol: Protocol, inside: End) -> Result<End, Refusal> {
        self.tick(self.now);
        let (address, port) = inside;
        let subscriber = self.subscribers.find(address);
        if let Some(id) = subscriber
            .and_then(|s| self.by_inside.get(&inside_key(protocol, s, port)))
            .copied()
        {
            self.one_more(id);
            return self.end_of(id).ok_or(Refusal::Exhausted);
        }
        let mapped = self.subscribers.mapped(subscriber);
        if self.per_source.is_some_and(|most| mapped >= most) {
            return Err(Refusal::Limited);
        }
        let paired = self.subscribers.outside(subscriber).filter(|_| mapped > 0);
        let number = match paired {
            Some(number) => number,
            None => match self.address_for(protocol, inside) {
                Some(number) => number,
                None => {
                    self.space_mut(protocol).exhausted();
                    return Err(Refusal::Exhausted);
                }
            },
        };
        let random = self.random();
        let space = self.space_mut(protocol);
        let Some(drawn) = space.draw(number, port, random) else {
            space.exhausted();
            return Err(Refusal::Exhausted);
        };
        let id = TupleId::new(protocol, number, drawn);
        let subscriber = self.subscribers.enter(address, number);
        self.insert(id, subscriber, port, true);
        self.by_inside
            .insert(inside_key(protocol, subscriber, port), id);
        self.end_of(id).ok_or(Refusal::Exhausted)
    }

    /// The inside tuple that a mapped outside tuple stands for.
    pub fn owner(&self, protocol: Protocol, outside: End) -> Option<End> {
        let mapping = self.mappings.get(&self.id(protocol, outside)?)?;
        (mapping.flows > 0).then_some(())?;
        Some((self.subscribers.address(mapping.subscriber)?, mapping.port))
    }

    /// A flow more has an outside tuple that is mapped.
    pub fn hold(&mut self, protocol: Protocol, outside: End) {
        if let Some(id) = self.id(protocol, outside) {
            self.one_more(id);
        }
    }

    /// An agent has a flow that was decided before, and so the tuple is taken.
    pub fn claim(&mut self, protocol: Protocol, outside: End, inside: End) -> Claim {
        let Some(id) = self.id(protocol, outside) else {
            return Claim::Foreign;
        };
        let (address, port) = inside;
        let number = id.address();
        match self
            .mappings
            .get(&id)
            .map(|m| (m.flows, m.subscriber, m.port))
        {
            None => {
                if !self.space_mut(protocol).take(number, outside.1) {
                    return Claim::Foreign;
                }
                let subscriber = self.subscribers.enter(address, number);
                self.insert(id, subscriber, port, false);
            }
            Some((0, former, _)) => {
                // Nobody else has it: whoever claims it takes it up.
                let subscriber = self.subscribers.enter(address, number);
                self.subscribers.leave(former);
                if let Some(mapping) = self.mappings.get_mut(&id) {
                    *mapping = Mapping {
                        subscriber,
                        port,
                        fresh: false,
                        flows: 1,
                        until: 0,
                    };
                }
                self.count(id, 1, -1);
                self.subscribers.map(subscriber, 1);
            }
            Some((_, subscriber, of)) => {
                self.one_more(id);
                let owner = self.subscribers.address(subscriber);
                if let Some(owner) = owner.filter(|owner| (*owner, of) != inside) {
                    self.disputed.entry(id).or_default().push(inside);
                    return Claim::OfAnother((owner, of));
                }
            }
        }
        let Some(subscriber) = self.subscribers.find(address) else {
            return Claim::Granted;
        };
        let key = inside_key(protocol, subscriber, port);
        let first = *self.by_inside.entry(key).or_insert(id);
        match self.end_of(first).filter(|_| first != id) {
            Some(first) => {
                let seconds = self.seconds.entry(key).or_default();
                if !seconds.contains(&id) {
                    seconds.push(id);
                }
                Claim::HasAnother(first)
            }
            None => Claim::Granted,
        }
    }

    /// A flow has ended everywhere; `carried_out` is false if no agent has ever had it. Without another one,
    /// its tuple rests.
    pub fn end(&mut self, protocol: Protocol, outside: End, inside: End, carried_out: bool) {
        let Some(id) = self.id(protocol, outside) else {
            return;
        };
        let Some(mapping) = self.mappings.get_mut(&id).filter(|m| m.flows > 0) else {
            return;
        };
        let owner = (self.subscribers.address(mapping.subscriber)).map(|a| (a, mapping.port));
        mapping.flows -= 1;
        let flows = mapping.flows as usize;
        if owner != Some(inside) {
            self.disputes_no_more(id, inside);
        }
        if flows > 0 {
            if self.disputed.get(&id).is_some_and(|all| all.len() == flows) {
                self.pass_on(id);
            }
            return;
        }
        let Some(mapping) = self.mappings.get_mut(&id) else {
            return;
        };
        let now = u64::try_from(self.now.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        mapping.until = now.saturating_add(self.hold_back);
        let (subscriber, port, until) = (mapping.subscriber, mapping.port, mapping.until);
        let unused = mapping.fresh && !carried_out;
        self.unlink(inside_key(protocol, subscriber, port), id);
        self.count(id, -1, 1);
        self.subscribers.map(subscriber, -1);
        if unused {
            self.free(id);
        } else {
            self.resting.push_back((until, id));
        }
    }

    /// A flow has ended that had an outside tuple besides the one whose that is.
    fn disputes_no_more(&mut self, id: TupleId, inside: End) {
        let Some(all) = self.disputed.get_mut(&id) else {
            return;
        };
        if let Some(at) = all.iter().position(|end| *end == inside) {
            all.swap_remove(at);
        }
        if all.is_empty() {
            self.disputed.remove(&id);
        }
    }

    /// An inside tuple has this outside one no more; where it has others, new flows get one of those.
    fn unlink(&mut self, key: u64, id: TupleId) {
        let Some(seconds) = self.seconds.get_mut(&key) else {
            if self.by_inside.get(&key) == Some(&id) {
                self.by_inside.remove(&key);
            }
            return;
        };
        seconds.retain(|second| *second != id);
        if self.by_inside.get(&key) == Some(&id) {
            match seconds.is_empty() {
                true => self.by_inside.remove(&key),
                false => self.by_inside.insert(key, seconds.remove(0)),
            };
        }
        if seconds.is_empty() {
            self.seconds.remove(&key);
        }
    }

    /// An outside tuple is only used besides: it is that inside tuple's from now on.
    fn pass_on(&mut self, id: TupleId) {
        let Some(mut all) = self.disputed.remove(&id) else {
            return;
        };
        let Some((address, port)) = all.first().copied() else {
            return;
        };
        all.retain(|end| *end != (address, port));
        if !all.is_empty() {
            self.disputed.insert(id, all);
        }
        let next = self.subscribers.enter(address, id.address());
        let Some(mapping) = self.mappings.get_mut(&id) else {
            return;
        };
        let former = std::mem::replace(&mut mapping.subscriber, next);
        let key = inside_key(id.protocol(), former, mapping.port);
        mapping.port = port;
        self.unlink(key, id);
        let key = inside_key(id.protocol(), next, port);
        self.by_inside.entry(key).or_insert(id);
        self.subscribers.map(next, 1);
        self.subscribers.map(former, -1);
        self.subscribers.leave(former);
    }

    /// Whether a flow that has ended may have its outside tuple again: nobody else has had it since, and its
    /// inside tuple has no other.
    pub fn stands(&self, protocol: Protocol, outside: End, inside: End) -> bool {
        let Some((id, mapping)) =
            (self.id(protocol, outside)).and_then(|id| Some((id, self.mappings.get(&id)?)))
        else {
            return false;
        };
        let owner = (self.subscribers.address(mapping.subscriber)).map(|a| (a, mapping.port));
        let key = inside_key(protocol, mapping.subscriber, mapping.port);
        owner == Some(inside) && self.by_inside.get(&key).is_none_or(|has| *has == id)
    }

    /// What is used, by address and protocol; of many addresses only those that are used.
    pub fn uses(&self) -> Vec<Use> {
        const MANY: usize = 64;
        let of = |address: IpAddr, number: u16| {
            (Protocol::ALL.into_iter()).filter_map(move |protocol| {
                let space = self.space(protocol);
                let (mapped, resting, free) = (space.address(number))
                    .map_or((0, 0, space.room()), |a| (a.mapped, a.resting, a.free()));
                (mapped + resting > 0 || self.addresses.len() <= MANY).then_some(Use {
                    address,
                    protocol,
                    mapped,
                    free,
                    resting,
                })
            })
        };
        (self.addresses.iter().zip(0..=u16::MAX))
            .flat_map(|(address, number)| of(*address, number))
            .collect()
    }

    /// The address for an inside one that has none: by a hash that is equal on every machine, or if that has
    /// no port left, another that has.
    fn address_for(&self, protocol: Protocol, inside: End) -> Option<u16> {
        let mut hasher = SipHasher13::new();
        match inside.0 {
            IpAddr::V4(a) => hasher.write(&a.octets()),
            IpAddr::V6(a) => hasher.write(&a.octets()),
        }
        let hash = hasher.finish();
        let space = self.space(protocol);
        let sides = self.range.sides(inside.1);
        let count = self.addresses.len() as u128;
        let first = u16::try_from((u128::from(hash) * count) >> 64).ok()?;
        if sides.iter().any(|side| space.has_room(first, *side)) {
            return Some(first);
        }
        sides.iter().find_map(|side| space.any(*side, hash))
    }

    fn insert(&mut self, id: TupleId, subscriber: u32, port: u16, fresh: bool) {
        self.mappings.insert(
            id,
            Mapping {
                subscriber,
                port,
                fresh,
                flows: 1,
                until: 0,
            },
        );
        self.count(id, 1, 0);
        self.subscribers.map(subscriber, 1);
    }

    fn one_more(&mut self, id: TupleId) {
        if let Some(mapping) = self.mappings.get_mut(&id).filter(|m| m.flows > 0) {
            mapping.flows += 1;
            mapping.fresh = false;
        }
    }

    /// Nobody has it any more, nor is it held back.
    fn free(&mut self, id: TupleId) {
        let Some(mapping) = self.mappings.remove(&id) else {
            return;
        };
        self.subscribers.leave(mapping.subscriber);
        let space = self.space_mut(id.protocol());
        space.give_back(id.address(), id.port());
        self.count(id, 0, -1);
    }

    fn count(&mut self, id: TupleId, mapped: i32, resting: i32) {
        let space = self.space_mut(id.protocol());
        space.count(id.address(), mapped, resting);
    }

    fn id(&self, protocol: Protocol, outside: End) -> Option<TupleId> {
        let number = *self.numbers.get(&outside.0)?;
        Some(TupleId::new(protocol, number, outside.1))
    }

    fn end_of(&self, id: TupleId) -> Option<End> {
        let address = self.addresses.get(usize::from(id.address()))?;
        Some((*address, id.port()))
    }

    fn space(&self, protocol: Protocol) -> &Space {
        let [tcp, udp, icmp] = &self.spaces;
        match protocol {
            Protocol::Tcp => tcp,
            Protocol::Udp => udp,
            Protocol::Icmp => icmp,
        }
    }

    fn space_mut(&mut self, protocol: Protocol) -> &mut Space {
        let [tcp, udp, icmp] = &mut self.spaces;
        match protocol {
            Protocol::Tcp => tcp,
            Protocol::Udp => udp,
            Protocol::Icmp => icmp,
        }
    }

    /// The next of a series of numbers that nobody can foretell who does not know the seed.
    fn random(&mut self) -> u64 {
        self.drawn += 1;
        let mut hasher = SipHasher13::new_with_keys(self.seed, 0x6e61_7400);
        hasher.write_u64(self.drawn);
        hasher.finish()
    }
}

fn inside_key(protocol: Protocol, subscriber: u32, port: u16) -> u64 {
    (protocol as u64) << 48 | u64::from(subscriber) << 16 | u64::from(port)
}
