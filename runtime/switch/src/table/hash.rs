//! An open-addressing index from hashes to places; the keys themselves stay with their owner.

/// Mixes words to 64 bits; with a seed, so that nobody outside can choose collisions.
#[inline]
pub(crate) fn hash_words(words: &[u64], seed: u64) -> u64 {
    words.iter().fold(seed, |hash, word| mix(hash, *word))
}

#[inline]
pub(crate) fn mix(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word) * 0x9e37_79b9_7f4a_7c15;
    (product as u64) ^ ((product >> 64) as u64)
}

/// Slots hold the upper half of the hash and the place plus one; 0 is free.
#[derive(Clone, Debug, Default)]
pub(crate) struct HashIndex {
    slots: Vec<u64>,
    len: usize,
    /// The only place while `len` is 1: then there is nothing to hash for.
    only: u32,
}

#[expect(
    clippy::indexing_slicing,
    reason = "every index is masked with the power of two that is the length"
)]
impl HashIndex {
    /// The place whose hash is right and that `is` confirms.
    #[inline]
    pub(crate) fn find(&self, hash: impl FnOnce() -> u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        if self.len <= 1 {
            return (self.len == 1 && is(self.only)).then_some(self.only);
        }
        let hash = hash();
        let mask = self.slots.len() - 1;
        let tag = hash >> 32;
        let mut at = tag as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            if slot >> 32 == tag {
                let place = (slot as u32).wrapping_sub(1);
                if is(place) {
                    return Some(place);
                }
            }
            at = (at + 1) & mask;
        }
    }

    pub(crate) fn insert(&mut self, hash: u64, place: u32) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            let old = std::mem::take(&mut self.slots);
            self.slots = vec![0; (old.len() * 2).max(8)];
            for slot in old.into_iter().filter(|slot| *slot != 0) {
                self.put(slot);
            }
        }
        self.put((hash >> 32) << 32 | u64::from(place.wrapping_add(1)));
        self.len += 1;
        self.only = place;
    }

    fn put(&mut self, slot: u64) {
        let mask = self.slots.len() - 1;
        let mut at = (slot >> 32) as usize & mask;
        while self.slots[at] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    /// Replaces a place by another of the same key.
    pub(crate) fn replace(&mut self, hash: u64, from: u32, to: u32) {
        if let Some(at) = self.position(hash, from) {
            self.slots[at] = (hash >> 32) << 32 | u64::from(to.wrapping_add(1));
            self.only = to;
        }
    }

    pub(crate) fn remove(&mut self, hash: u64, place: u32) {
        let Some(mut hole) = self.position(hash, place) else {
            return;
        };
        let mask = self.slots.len() - 1;
        // Move later slots of the same run back, so that no search ends early.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let slot = self.slots[at];
            if slot == 0 {
                break;
            }
            let home = (slot >> 32) as usize & mask;
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = 0;
        self.len -= 1;
        if self.len == 1 {
            let left = self.slots.iter().find(|slot| **slot != 0);
            self.only = left.map_or(0, |slot| (*slot as u32).wrapping_sub(1));
        }
    }

    fn position(&self, hash: u64, place: u32) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let mask = self.slots.len() - 1;
        let wanted = (hash >> 32) << 32 | u64::from(place.wrapping_add(1));
        let mut at = (hash >> 32) as usize & mask;
        loop {
            match self.slots[at] {
                0 => return None,
                slot if slot == wanted => return Some(at),
                _ => at = (at + 1) & mask,
            }
        }
    }
}
