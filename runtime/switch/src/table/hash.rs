//! An index from hashes to places, in buckets of one cache line; the keys themselves stay with their owner.

use super::memory::{prefer_huge, prefetch};

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

/// Entries of a bucket.
const WIDTH: usize = 8;

/// A cache line of entries, the free ones last. What finds no room goes to the next bucket: a search ends at
/// the first bucket that is not full.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Bucket {
    /// The upper halves of the hashes.
    tags: [u32; WIDTH],
    /// Places plus one; 0 is free.
    places: [u32; WIDTH],
}

impl Bucket {
    /// The entries with that tag, as bits; without a branch for each, since none could be foreseen.
    #[inline]
    fn matching(&self, tag: u32) -> u32 {
        let entries = self.tags.iter().zip(&self.places).enumerate();
        entries.fold(0, |found, (i, (known, place))| {
            found | u32::from((*known == tag) & (*place != 0)) << i
        })
    }

    #[inline]
    fn full(&self) -> bool {
        let [.., last] = self.places;
        last != 0
    }

    fn len(&self) -> usize {
        self.places.iter().filter(|place| **place != 0).count()
    }
}

/// What a bucket says of a hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Glance {
    /// No entry has it.
    #[default]
    Nothing,
    /// If any, the entry at that place.
    Perhaps(u32),
    /// Several may, or one elsewhere.
    Unclear,
}

/// Where an entry is: its bucket and its number in it.
type Position = (usize, usize);

#[derive(Clone, Debug, Default)]
pub(crate) struct HashIndex {
    /// A power of two of them; home is where the tag points.
    buckets: Vec<Bucket>,
    len: usize,
    /// The only place while `len` is 1: then there is nothing to hash for.
    only: u32,
}

#[inline]
fn tag_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[expect(
    clippy::indexing_slicing,
    reason = "every bucket is masked with the power of two that is their number, every entry is below WIDTH"
)]
impl HashIndex {
    #[inline]
    fn mask(&self) -> usize {
        self.buckets.len() - 1
    }

    /// The place whose hash is right and that `is` confirms.
    #[inline]
    pub(crate) fn find(&self, hash: impl FnOnce() -> u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        if self.len <= 1 {
            return (self.len == 1 && is(self.only)).then_some(self.only);
        }
        let tag = tag_of(hash());
        let mut at = tag as usize & self.mask();
        loop {
            let bucket = &self.buckets[at];
            let mut found = bucket.matching(tag);
            while found != 0 {
                let place = bucket.places[found.trailing_zeros() as usize % WIDTH] - 1;
                if is(place) {
                    return Some(place);
                }
                found &= found - 1;
            }
            if !bucket.full() {
                return None;
            }
            at = (at + 1) & self.mask();
        }
    }

    /// Has the hash's bucket fetched.
    #[inline]
    pub(crate) fn fetch(&self, hash: u64) {
        let home = (tag_of(hash) as usize) & self.buckets.len().wrapping_sub(1);
        if let Some(bucket) = self.buckets.get(home) {
            prefetch(bucket);
        }
    }

    /// What the hash's bucket alone says, without a branch for each of its entries.
    #[inline]
    pub(crate) fn glance(&self, hash: u64) -> Glance {
        let tag = tag_of(hash);
        let home = tag as usize & self.buckets.len().wrapping_sub(1);
        let Some(bucket) = self.buckets.get(home) else {
            return Glance::Nothing;
        };
        // A free entry has tag 0: who finds that more than once looks closer.
        let tags = bucket.tags.iter().enumerate();
        let found = tags.fold(0u32, |found, (i, known)| {
            found | u32::from(*known == tag) << i
        });
        if found == 0 {
            return if bucket.full() {
                Glance::Unclear
            } else {
                Glance::Nothing
            };
        }
        let place = bucket.places[found.trailing_zeros() as usize % WIDTH];
        if found & (found - 1) == 0 && place != 0 {
            Glance::Perhaps(place - 1)
        } else {
            Glance::Unclear
        }
    }

    /// All places, in no order.
    pub(crate) fn places(&self) -> impl Iterator<Item = u32> + '_ {
        let entries = self.buckets.iter().flat_map(|bucket| bucket.places);
        entries.filter_map(|place| place.checked_sub(1))
    }

    pub(crate) fn insert(&mut self, hash: u64, place: u32) {
        // At three quarters a seventh of all buckets is full.
        if (self.len + 1) * 4 > self.buckets.len() * WIDTH * 3 {
            let old = std::mem::take(&mut self.buckets);
            let number = (old.len() * 2).max(1);
            self.buckets = Vec::with_capacity(number);
            prefer_huge(self.buckets.spare_capacity_mut());
            self.buckets.resize(number, Bucket::default());
            for bucket in &old {
                for (tag, place) in bucket.tags.iter().zip(&bucket.places) {
                    if *place != 0 {
                        self.put(*tag, *place);
                    }
                }
            }
        }
        self.put(tag_of(hash), place.wrapping_add(1));
        self.len += 1;
        self.only = place;
    }

    fn put(&mut self, tag: u32, place: u32) {
        let mut at = tag as usize & self.mask();
        while self.buckets[at].full() {
            at = (at + 1) & self.mask();
        }
        let bucket = &mut self.buckets[at];
        let entry = bucket.len();
        bucket.tags[entry] = tag;
        bucket.places[entry] = place;
    }

    /// Replaces a place by another of the same key.
    pub(crate) fn replace(&mut self, hash: u64, from: u32, to: u32) {
        if let Some((at, entry)) = self.position(hash, from) {
            self.buckets[at].places[entry] = to.wrapping_add(1);
            self.only = to;
        }
    }

    pub(crate) fn remove(&mut self, hash: u64, place: u32) {
        let Some(mut hole) = self.position(hash, place) else {
            return;
        };
        // Entries that found no room where the hole is now move up, so that no search ends before them.
        let mut at = hole.0;
        while self.buckets[at].full() {
            at = (at + 1) & self.mask();
            let (way, bucket) = (self.distance(hole.0, at), &self.buckets[at]);
            let moves = (0..bucket.len())
                .find(|entry| self.distance(bucket.tags[*entry] as usize, at) >= way);
            if let Some(entry) = moves {
                let (tag, place) = (bucket.tags[entry], bucket.places[entry]);
                let to = &mut self.buckets[hole.0];
                to.tags[hole.1] = tag;
                to.places[hole.1] = place;
                hole = (at, entry);
            }
        }
        let bucket = &mut self.buckets[hole.0];
        let last = bucket.len() - 1;
        bucket.tags[hole.1] = bucket.tags[last];
        bucket.places[hole.1] = bucket.places[last];
        bucket.tags[last] = 0;
        bucket.places[last] = 0;
        self.len -= 1;
        if self.len == 1 {
            let left = self.buckets.iter().map(|bucket| bucket.places[0]);
            self.only = left.max().unwrap_or(0).wrapping_sub(1);
        }
    }

    /// From one bucket on to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & self.mask()
    }

    fn position(&self, hash: u64, place: u32) -> Option<Position> {
        if self.len == 0 {
            return None;
        }
        let wanted = place.wrapping_add(1);
        let mut at = tag_of(hash) as usize & self.mask();
        loop {
            let bucket = &self.buckets[at];
            if let Some(entry) = bucket.places.iter().position(|place| *place == wanted) {
                return Some((at, entry));
            }
            if !bucket.full() {
                return None;
            }
            at = (at + 1) & self.mask();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Few different homes, so that buckets overflow into each other.
        #[test]
        fn an_index_finds_what_was_put_in_and_not_taken_out(
            steps in prop::collection::vec((any::<bool>(), 0u32..200, 0u64..6), 0..400)
        ) {
            let mut index = HashIndex::default();
            let mut known = BTreeMap::new();
            for (insert, place, home) in steps {
                match known.remove(&place) {
                    Some(hash) if !insert => index.remove(hash, place),
                    Some(hash) => drop(known.insert(place, hash)),
                    None => {
                        let hash = home << 32 | u64::from(place) << 40;
                        index.insert(hash, place);
                        known.insert(place, hash);
                    }
                }
                for (place, hash) in &known {
                    prop_assert_eq!(index.find(|| *hash, |at| at == *place), Some(*place));
                }
                prop_assert_eq!(index.find(|| home << 32, |_| false), None);
                prop_assert_eq!(index.len, known.len());
            }
        }
    }
}
