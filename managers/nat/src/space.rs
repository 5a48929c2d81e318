//! The ports of all outside addresses in one protocol: which are free, and whether they may be given out. It does
//! not know who has the others.

use rustc_hash::FxHashMap;

use crate::blocks::Blocks;
use crate::pool::Pool;
use crate::ports::{Ports, Range, Side};

/// An address of which some port is not free.
#[derive(Debug, Clone, Copy, Default)]
pub struct Address {
    /// Ports that are mapped.
    pub mapped: u32,
    /// Ports that rest.
    pub resting: u32,
    /// Ports that may be given out, below 1,024 and above.
    free: [u32; 2],
}

impl Address {
    /// Ports that may be given out.
    pub fn free(&self) -> u32 {
        let [low, high] = self.free;
        low + high
    }
}

/// The ports of one protocol.
#[derive(Debug)]
pub struct Space {
    blocks: Blocks,
    /// The blocks that may be given out of, and how many ports of an address they have, below 1,024 and above.
    allowed: u64,
    room: [u32; 2],
    addresses: u32,
    used: FxHashMap<u16, Address>,
    /// By address and block, where some port is not free.
    ports: FxHashMap<u32, Ports>,
    /// Addresses with a free port below 1,024, and with one above.
    open: [Pool; 2],
    /// Ports that are not free, by block.
    taken: Vec<u32>,
    /// Ports that are mapped.
    pub mapped: usize,
    tight: bool,
}

impl Space {
    /// All ports of so many addresses, free and to be given out.
    pub fn new(blocks: Blocks, addresses: u32) -> Self {
        let mut space = Self {
            blocks,
            allowed: 0,
            room: [0; 2],
            addresses,
            used: FxHashMap::default(),
            ports: FxHashMap::default(),
            open: [Pool::new(0), Pool::new(0)],
            taken: vec![0; blocks.count() as usize],
            mapped: 0,
            tight: false,
        };
        space.allow(blocks.all());
        space
    }

    /// Only ports of these blocks are given out from now on.
    pub fn allow(&mut self, set: u64) {
        let set = set & self.blocks.all();
        if set != self.allowed {
            self.change_allowed(set);
        }
        let free = self.used.values().map(Address::free).min();
        self.tight = free.unwrap_or(u32::MAX).min(self.room()) < self.little();
    }

    fn change_allowed(&mut self, set: u64) {
        self.allowed = set;
        self.room = [Side::Low, Side::High].map(|side| self.blocks.room(set, side));
        self.open = (self.room).map(|room| Pool::new(if room > 0 { self.addresses } else { 0 }));
        for (number, address) in &mut self.used {
            let free = |side| {
                let of = |block| match self.ports.get(&key(*number, block)) {
                    Some(ports) => ports.free(side),
                    None => self.blocks.range(block).count(side),
                };
                self.blocks.from(set, 0).map(of).sum()
            };
            address.free = [free(Side::Low), free(Side::High)];
            for (open, free) in self.open.iter_mut().zip(address.free) {
                if free == 0 {
                    open.take(*number);
                }
            }
        }
    }

    /// Whether an address has few ports left that may be given out, and others could.
    pub fn is_tight(&self) -> bool {
        self.tight && !self.has_all()
    }

    /// Whether every port may be given out that is free.
    pub fn has_all(&self) -> bool {
        self.allowed == self.blocks.all()
    }

    /// An address is out of ports.
    pub fn exhausted(&mut self) {
        self.tight = true;
    }

    /// The blocks of which no port is taken.
    pub fn untaken(&self) -> u64 {
        (self.taken.iter().enumerate())
            .filter(|(_, taken)| **taken == 0)
            .fold(0, |set, (block, _)| set | 1 << block)
    }

    /// Takes a free port of an address for an inside one.
    pub fn draw(&mut self, number: u16, inside: u16, random: u64) -> Option<u16> {
        for (side, odd) in self.blocks.whole_range().classes(inside) {
            if !self.has_room(number, side) {
                continue;
            }
            for block in self.blocks.from(self.allowed, random) {
                let range = self.blocks.range(block);
                if range.count(side) > 0
                    && let Some(port) = self.ports(number, block, range).draw(side, odd, random)
                {
                    self.took(number, block, side);
                    return Some(port);
                }
            }
        }
        None
    }

    /// Takes a certain port, whether or not it may be given out, if it is one of the range and free.
    pub fn take(&mut self, number: u16, port: u16) -> bool {
        let range = self.blocks.whole_range();
        if port < range.first || port > range.last {
            return false;
        }
        let block = self.blocks.of(port);
        let range = self.blocks.range(block);
        let took = self.ports(number, block, range).take(port);
        if took {
            self.took(number, block, Side::of(port));
        }
        took
    }

    /// Gives a port back that was taken.
    pub fn give_back(&mut self, number: u16, port: u16) {
        let (block, side) = (self.blocks.of(port), Side::of(port));
        let Some(ports) = self.ports.get_mut(&key(number, block)) else {
            return;
        };
        ports.give_back(port);
        if ports.is_whole() {
            self.ports.remove(&key(number, block));
        }
        self.change(number, block, side, 1);
    }

    /// Notes that so many ports of an address are mapped or rest, and whether it has free ones now.
    pub fn count(&mut self, number: u16, mapped: i32, resting: i32) {
        self.mapped = self.mapped.saturating_add_signed(mapped as isize);
        let Some(address) = self.used.get_mut(&number) else {
            return;
        };
        address.mapped = address.mapped.saturating_add_signed(mapped);
        address.resting = address.resting.saturating_add_signed(resting);
        for (open, free) in self.open.iter_mut().zip(address.free) {
            if free > 0 {
                open.give_back(number);
            } else {
                open.take(number);
            }
        }
        if address.mapped + address.resting == 0 {
            self.used.remove(&number);
        }
    }

    /// What of an address is not free, if anything.
    pub fn address(&self, number: u16) -> Option<Address> {
        self.used.get(&number).copied()
    }

    /// Ports of an address that may be given out while none is taken.
    pub fn room(&self) -> u32 {
        let [low, high] = self.room;
        low + high
    }

    /// Whether an address has a free port on a side.
    pub fn has_room(&self, number: u16, side: Side) -> bool {
        let [low, high] = self.used.get(&number).map_or(self.room, |a| a.free);
        match side {
            Side::Low => low > 0,
            Side::High => high > 0,
        }
    }

    /// An address with a free port on a side, by a random number.
    pub fn any(&self, side: Side, random: u64) -> Option<u16> {
        let [low, high] = &self.open;
        match side {
            Side::Low => low.pick(random),
            Side::High => high.pick(random),
        }
    }

    fn ports(&mut self, number: u16, block: u32, range: Range) -> &mut Ports {
        (self.ports.entry(key(number, block))).or_insert_with(|| Ports::new(range))
    }

    fn took(&mut self, number: u16, block: u32, side: Side) {
        self.change(number, block, side, -1);
    }

    /// A port of a block has been given back, or taken.
    fn change(&mut self, number: u16, block: u32, side: Side, by: i32) {
        if let Some(taken) = self.taken.get_mut(block as usize) {
            *taken = taken.saturating_add_signed(-by);
        }
        let room = self.room;
        let address = self.used.entry(number).or_insert(Address {
            free: room,
            ..Address::default()
        });
        if self.allowed >> block & 1 == 1 {
            let [low, high] = &mut address.free;
            let free = match side {
                Side::Low => low,
                Side::High => high,
            };
            *free = free.saturating_add_signed(by);
        }
        let free = address.free();
        self.tight |= free < self.little();
    }

    /// Below so many free ports of an address more are wanted: half of what is claimed ahead.
    fn little(&self) -> u32 {
        (self.blocks.count() / 8).max(1) * self.blocks.size() / 2
    }
}

fn key(number: u16, block: u32) -> u32 {
    u32::from(number) << 6 | block
}
