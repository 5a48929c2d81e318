//! A set of numbers from which any one, a certain one, or one at random can be taken in constant time.
//!
//! It is a permutation with the free numbers in front (a sparse set): nothing is ever searched, however few
//! are free, and only what has been moved takes memory.

use rustc_hash::FxHashMap;

/// The numbers from 0 to `size` - 1, each free or taken.
#[derive(Debug, Default)]
pub struct Pool {
    free: u32,
    /// The number at a place, where that is another than the place's own.
    at: FxHashMap<u16, u16>,
    /// The place of a number, likewise.
    place: FxHashMap<u16, u16>,
}

impl Pool {
    /// `size` free numbers; at most 65,536.
    pub fn new(size: u32) -> Self {
        Self {
            free: size.min(1 << 16),
            ..Self::default()
        }
    }

    /// How many are free.
    pub fn free(&self) -> u32 {
        self.free
    }

    /// A free number, chosen by `random`, which is taken as a fraction of 2^64. It stays free.
    pub fn pick(&self, random: u64) -> Option<u16> {
        if self.free == 0 {
            return None;
        }
        let place = (u128::from(random) * u128::from(self.free)) >> 64;
        Some(self.number_at(u16::try_from(place).unwrap_or(0)))
    }

    /// Takes a number, if it is free.
    pub fn take(&mut self, number: u16) -> bool {
        let place = self.place_of(number);
        let Some(last) = self
            .free
            .checked_sub(1)
            .filter(|last| u32::from(place) <= *last)
        else {
            return false;
        };
        self.swap(place, last);
        self.free = last;
        true
    }

    /// Gives a number back that was taken.
    pub fn give_back(&mut self, number: u16) {
        let place = self.place_of(number);
        if u32::from(place) >= self.free {
            self.swap(place, self.free);
            self.free += 1;
        }
    }

    fn number_at(&self, place: u16) -> u16 {
        self.at.get(&place).copied().unwrap_or(place)
    }

    fn place_of(&self, number: u16) -> u16 {
        self.place.get(&number).copied().unwrap_or(number)
    }

    fn swap(&mut self, one: u16, other: u32) {
        let other = u16::try_from(other).unwrap_or(u16::MAX);
        let (a, b) = (self.number_at(one), self.number_at(other));
        self.put(one, b);
        self.put(other, a);
    }

    fn put(&mut self, place: u16, number: u16) {
        if place == number {
            self.at.remove(&place);
            self.place.remove(&number);
        } else {
            self.at.insert(place, number);
            self.place.insert(number, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_is_free_until_it_is_taken_and_again_when_it_is_given_back(
            size in 1u32..40,
            steps in proptest::collection::vec((any::<bool>(), any::<u64>(), 0u16..40), 0..200),
        ) {
            let mut pool = Pool::new(size);
            let mut free: BTreeSet<u16> = (0..size as u16).collect();
            for (take, random, number) in steps {
                let number = number % size as u16;
                if take {
                    prop_assert_eq!(pool.take(number), free.remove(&number));
                } else {
                    pool.give_back(number);
                    free.insert(number);
                }
                prop_assert_eq!(pool.free() as usize, free.len());
                match pool.pick(random) {
                    Some(n) => prop_assert!(free.contains(&n)),
                    None => prop_assert!(free.is_empty()),
                }
            }
        }
    }

    #[test]
    fn all_65_536_numbers_can_be_taken() {
        let mut pool = Pool::new(1 << 16);
        let mut seen = BTreeSet::new();
        while let Some(number) = pool.pick(0x9e37_79b9_7f4a_7c15) {
            assert!(pool.take(number) && seen.insert(number));
        }
        assert_eq!(seen.len(), 1 << 16);
        pool.give_back(65_535);
        assert_eq!(pool.pick(u64::MAX), Some(65_535));
    }
}
