//! What no entry of a ternary table can match, told at once: all masks have some bits in common (a
//! service's address and protocol, say), and a key that no entry has there needs no further search.

use super::tuple::{hash_parts, parts};

/// Bits of the set; it says nothing any more when most of them are set.
const BITS: usize = 1024;

/// The values that entries have under what their masks have in common, as a Bloom filter of one hash.
#[derive(Clone, Debug)]
pub(crate) struct Sieve {
    /// The common mask, and its words that are not 0.
    mask: Vec<u64>,
    parts: Vec<(u32, u64)>,
    values: [u64; BITS / 64],
}

impl Sieve {
    /// Of a table without entries whose keys have so many words.
    pub(crate) fn new(words: usize) -> Self {
        let mask = vec![u64::MAX; words];
        Sieve {
            parts: parts(&mask),
            mask,
            values: [0; BITS / 64],
        }
    }

    /// Whether an entry may match `key`.
    #[inline]
    pub(crate) fn passes(&self, key: &[u64], seed: u64) -> bool {
        let (word, bit) = place(hash_parts(&self.parts, key, seed));
        self.values.get(word).is_none_or(|word| word & bit != 0)
    }

    /// Takes up an entry's mask; `false` if its entries must all be added anew, since less is common now.
    pub(crate) fn narrow(&mut self, mask: &[u64]) -> bool {
        let mut same = true;
        for (common, mask) in self.mask.iter_mut().zip(mask) {
            same &= *common & mask == *common;
            *common &= mask;
        }
        if !same {
            self.parts = parts(&self.mask);
            self.values = [0; BITS / 64];
        }
        same
    }

    /// Adds the value of an entry. None is taken away: what has gone only lets more through.
    pub(crate) fn add(&mut self, value: &[u64], seed: u64) {
        let (word, bit) = place(hash_parts(&self.parts, value, seed));
        if let Some(word) = self.values.get_mut(word) {
            *word |= bit;
        }
    }
}

#[inline]
fn place(hash: u64) -> (usize, u64) {
    let bit = (hash >> 32) as usize % BITS;
    (bit / 64, 1 << (bit % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_entry_may_match_passes_and_almost_nothing_else_does() {
        let mut sieve = Sieve::new(2);
        assert!(!sieve.passes(&[0, 0], 1), "there is no entry");
        assert!(!sieve.narrow(&[0xffff_0000, 0xff]));
        sieve.add(&[0xabcd_0000, 6], 1);
        assert!(sieve.narrow(&[u64::MAX, 0xff]), "nothing less is common");
        sieve.add(&[0xabce_1234, 17], 1);
        assert!(sieve.passes(&[0xabcd_9999, 6], 1));
        assert!(sieve.passes(&[0xabce_0000, 17], 1));
        let through = |proto| {
            (0..10_000u64)
                .filter(move |i| *i != 0xabcd && *i != 0xabce)
                .map(move |i| [i << 16, proto])
        };
        let passing = through(6)
            .chain(through(17))
            .filter(|key| sieve.passes(key, 1))
            .count();
        assert!(passing < 200, "{passing} of 20,000 by chance");
        // A mask without a common bit: whatever comes may match.
        assert!(!sieve.narrow(&[0, 0]));
        sieve.add(&[0, 0], 1);
        assert!(sieve.passes(&[1, 2], 1));
    }
}
