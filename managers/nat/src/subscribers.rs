//! Inside addresses that have outside tuples: which outside address each is paired with (RFC 4787, REQ-2),
//! and how many tuples it has.

use std::net::IpAddr;

use rustc_hash::FxHashMap;

/// One inside address.
#[derive(Debug)]
struct Subscriber {
    address: IpAddr,
    /// The number of its outside address.
    outside: u16,
    /// Tuples that are mapped.
    mapped: u32,
    /// Tuples that are mapped or rest: while there are any, its number means it.
    tuples: u32,
}

/// Inside addresses by number.
#[derive(Debug, Default)]
pub struct Subscribers {
    list: Vec<Subscriber>,
    vacant: Vec<u32>,
    by_address: FxHashMap<IpAddr, u32>,
}

impl Subscribers {
    /// Its number, if it has tuples.
    pub fn find(&self, address: IpAddr) -> Option<u32> {
        self.by_address.get(&address).copied()
    }

    /// The inside address with a number.
    pub fn address(&self, number: u32) -> Option<IpAddr> {
        self.get(number).map(|s| s.address)
    }

    /// Tuples of it that are mapped.
    pub fn mapped(&self, number: Option<u32>) -> u32 {
        number.and_then(|n| self.get(n)).map_or(0, |s| s.mapped)
    }

    /// The number of the outside address that it had last.
    pub fn outside(&self, number: Option<u32>) -> Option<u16> {
        number.and_then(|n| self.get(n)).map(|s| s.outside)
    }

    /// It gets a tuple of this outside address, which is its own from now on if it has none mapped.
    pub fn enter(&mut self, address: IpAddr, outside: u16) -> u32 {
        let number = match self.find(address) {
            Some(number) => number,
            None => {
                let subscriber = Subscriber {
                    address,
                    outside,
                    mapped: 0,
                    tuples: 0,
                };
                let number = match self.vacant.pop() {
                    Some(number) => number,
                    None => u32::try_from(self.list.len()).unwrap_or(u32::MAX),
                };
                match self.get_mut(number) {
                    Some(place) => *place = subscriber,
                    None => self.list.push(subscriber),
                }
                self.by_address.insert(address, number);
                number
            }
        };
        if let Some(s) = self.get_mut(number) {
            if s.mapped == 0 {
                s.outside = outside;
            }
            s.tuples += 1;
        }
        number
    }

    /// A tuple of it is mapped, or no more.
    pub fn map(&mut self, number: u32, by: i32) {
        if let Some(s) = self.get_mut(number) {
            s.mapped = s.mapped.saturating_add_signed(by);
        }
    }

    /// A tuple of it is free.
    pub fn leave(&mut self, number: u32) {
        let Some(s) = self.get_mut(number) else {
            return;
        };
        s.tuples = s.tuples.saturating_sub(1);
        if s.tuples == 0 {
            let address = s.address;
            self.by_address.remove(&address);
            self.vacant.push(number);
        }
    }

    fn get(&self, number: u32) -> Option<&Subscriber> {
        self.list.get(number as usize)
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut Subscriber> {
        self.list.get_mut(number as usize)
    }
}
