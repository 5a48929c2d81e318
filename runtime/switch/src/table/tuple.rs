//! Tuple space search for ternary, range and longest-prefix tables: entries with one mask form a
//! group with a hash index; groups are tried by falling greatest rank, until no group can do better.
//!
//! The result is that of a linear scan: the highest rank wins, then the lowest place.

use super::hash::{HashIndex, mix};
use super::key::CompiledKey;
use super::sieve::Sieve;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

const NONE: u32 = u32::MAX;

/// From so many groups on, the sieve is worth asking.
const SIEVED: usize = 3;

#[derive(Clone, Debug)]
struct Group {
    mask: Box<[u64]>,
    /// The words of the mask that are not 0.
    parts: Vec<(u32, u64)>,
    index: HashIndex,
    /// How many entries there are of each rank.
    ranks: BTreeMap<i32, usize>,
    best: i32,
}

#[derive(Clone, Debug)]
pub(crate) struct TupleSpace {
    /// Words that are compared under the mask; ranges follow.
    masked_words: usize,
    /// The words that some mask asks for, and those of ranges, as bits.
    needed: u64,
    key_words: usize,
    /// The ranges: first word and number of words.
    ranges: Vec<(u32, u32)>,
    groups: Vec<Group>,
    by_mask: FxHashMap<Box<[u64]>, usize>,
    /// Groups by falling best rank.
    order: Vec<u32>,
    sieve: Sieve,
    /// The next entry with the same value and mask, by falling rank and rising place.
    next: Vec<u32>,
    rank: Vec<i32>,
    high: Vec<u64>,
}

#[expect(
    clippy::indexing_slicing,
    reason = "places and groups come from this structure itself"
)]
impl TupleSpace {
    pub(crate) fn new(masked_words: usize, key_words: usize, ranges: Vec<(u32, u32)>) -> Self {
        TupleSpace {
            masked_words,
            needed: 0,
            key_words,
            ranges,
            groups: Vec::new(),
            by_mask: FxHashMap::default(),
            order: Vec::new(),
            sieve: Sieve::new(masked_words),
            next: Vec::new(),
            rank: Vec::new(),
            high: Vec::new(),
        }
    }

    #[inline]
    pub(crate) fn needed(&self) -> u64 {
        self.needed
    }

    fn note_needed(&mut self) {
        let masked = self
            .groups
            .iter()
            .flat_map(|group| &group.parts)
            .map(|(word, _)| *word);
        let ranges = self.masked_words as u32..self.key_words as u32;
        self.needed = masked
            .chain(ranges)
            .fold(0, |needed, word| needed | 1 << (word & 63));
    }

    #[inline]
    pub(crate) fn lookup(
        &self,
        key: &[u64],
        keys: &[u64],
        stride: usize,
        seed: u64,
    ) -> Option<u32> {
        if self.order.len() >= SIEVED && !self.sieve.passes(key, seed) {
            return None;
        }
        let mut best = NONE;
        let mut best_rank = i32::MIN;
        for group in &self.order {
            let group = &self.groups[*group as usize];
            if best != NONE && best_rank > group.best {
                break;
            }
            let Some(mut at) = self.head(group, key, keys, stride, seed) else {
                continue;
            };
            while at != NONE {
                let rank = self.rank[at as usize];
                if best != NONE && (rank < best_rank || (rank == best_rank && at > best)) {
                    break;
                }
                if self.in_ranges(at, key, keys, stride) {
                    best = at;
                    best_rank = rank;
                    break;
                }
                at = self.next[at as usize];
            }
        }
        (best != NONE).then_some(best)
    }

    /// The first entry of `group` whose value is that of `key` under the group's mask.
    #[inline]
    fn head(
        &self,
        group: &Group,
        key: &[u64],
        keys: &[u64],
        stride: usize,
        seed: u64,
    ) -> Option<u32> {
        let hash = || hash_parts(&group.parts, key, seed);
        group.index.find(hash, |at| {
            let at = at as usize * stride;
            let value = &keys[at..at + stride];
            group
                .parts
                .iter()
                .all(|(word, mask)| value[*word as usize] == key[*word as usize] & mask)
        })
    }

    #[inline]
    fn in_ranges(&self, at: u32, key: &[u64], keys: &[u64], stride: usize) -> bool {
        let per_entry = self.key_words - self.masked_words;
        self.ranges.iter().all(|(first, words)| {
            let (first, words) = (*first as usize, *words as usize);
            let low = &keys[at as usize * stride + first..][..words];
            let high = &self.high[at as usize * per_entry + first - self.masked_words..][..words];
            let value = &key[first..first + words];
            // The highest word comes last.
            value.iter().rev().ge(low.iter().rev()) && value.iter().rev().le(high.iter().rev())
        })
    }

    pub(crate) fn find(
        &self,
        key: &CompiledKey,
        priority: i32,
        keys: &[u64],
        stride: usize,
        seed: u64,
    ) -> Option<u32> {
        let group = self.by_mask.get(&key.mask[..self.masked_words])?;
        let mut at = self.head(&self.groups[*group], &key.value, keys, stride, seed)?;
        let rank = key.rank(priority);
        let per_entry = self.key_words - self.masked_words;
        while at != NONE {
            let i = at as usize;
            let same_ranges = keys[i * stride + self.masked_words..i * stride + self.key_words]
                == key.value[self.masked_words..]
                && self.high[i * per_entry..(i + 1) * per_entry] == key.high[..];
            if self.rank[i] == rank && same_ranges {
                return Some(at);
            }
            at = self.next[i];
        }
        None
    }

    pub(crate) fn insert(
        &mut self,
        at: u32,
        key: &CompiledKey,
        rank: i32,
        keys: &[u64],
        stride: usize,
        seed: u64,
    ) {
        let n = self.masked_words;
        let i = at as usize;
        let per_entry = self.key_words - n;
        if self.next.len() <= i {
            self.next.resize(i + 1, NONE);
            self.rank.resize(i + 1, 0);
            self.high.resize((i + 1) * per_entry, 0);
        }
        self.next[i] = NONE;
        self.rank[i] = rank;
        self.high[i * per_entry..(i + 1) * per_entry].copy_from_slice(&key.high);
        let mask: Box<[u64]> = key.mask[..n].into();
        let group = match self.by_mask.get(&mask) {
            Some(group) => *group,
            None => {
                let group = self.groups.len();
                self.groups.push(Group {
                    mask: mask.clone(),
                    parts: parts(&mask),
                    index: HashIndex::default(),
                    ranks: BTreeMap::new(),
                    best: rank,
                });
                self.by_mask.insert(mask, group);
                self.order.push(group as u32);
                self.note_needed();
                group
            }
        };
        let hash = hash_parts(&self.groups[group].parts, &key.value, seed);
        match self.head(&self.groups[group], &key.value, keys, stride, seed) {
            None => self.groups[group].index.insert(hash, at),
            Some(head) if self.before(at, head) => {
                self.next[i] = head;
                self.groups[group].index.replace(hash, head, at);
            }
            Some(head) => {
                let mut previous = head;
                while self.next[previous as usize] != NONE
                    && self.before(self.next[previous as usize], at)
                {
                    previous = self.next[previous as usize];
                }
                self.next[i] = self.next[previous as usize];
                self.next[previous as usize] = at;
            }
        }
        *self.groups[group].ranks.entry(rank).or_default() += 1;
        self.reorder(group);
        if self.sieve.narrow(&key.mask[..n]) {
            self.sieve.add(&key.value, seed);
        } else {
            self.fill_sieve(keys, stride, seed);
        }
    }

    /// Adds every value to an empty sieve. Entries with one value and mask count once.
    fn fill_sieve(&mut self, keys: &[u64], stride: usize, seed: u64) {
        for at in self.groups.iter().flat_map(|group| group.index.places()) {
            let at = at as usize * stride;
            self.sieve.add(&keys[at..at + stride], seed);
        }
    }

    /// Whether the entry at `a` is tried before the one at `b`.
    fn before(&self, a: u32, b: u32) -> bool {
        let (rank_a, rank_b) = (self.rank[a as usize], self.rank[b as usize]);
        rank_a > rank_b || (rank_a == rank_b && a < b)
    }

    pub(crate) fn remove(
        &mut self,
        at: u32,
        key: &CompiledKey,
        rank: i32,
        keys: &[u64],
        stride: usize,
        seed: u64,
    ) {
        let n = self.masked_words;
        let Some(group) = self.by_mask.get(&key.mask[..n]).copied() else {
            return;
        };
        let hash = hash_parts(&self.groups[group].parts, &key.value, seed);
        let Some(head) = self.head(&self.groups[group], &key.value, keys, stride, seed) else {
            return;
        };
        let next = self.next[at as usize];
        if head == at {
            if next == NONE {
                self.groups[group].index.remove(hash, at);
            } else {
                self.groups[group].index.replace(hash, at, next);
            }
        } else {
            let mut previous = head;
            while previous != NONE && self.next[previous as usize] != at {
                previous = self.next[previous as usize];
            }
            if previous != NONE {
                self.next[previous as usize] = next;
            }
        }
        self.next[at as usize] = NONE;
        let ranks = &mut self.groups[group].ranks;
        if let Some(count) = ranks.get_mut(&rank) {
            *count -= 1;
            if *count == 0 {
                ranks.remove(&rank);
            }
        }
        if ranks.is_empty() {
            self.drop_group(group);
        } else {
            self.reorder(group);
        }
    }

    fn drop_group(&mut self, group: usize) {
        self.by_mask.remove(&self.groups[group].mask);
        self.order.retain(|g| *g as usize != group);
        self.groups.swap_remove(group);
        let moved = self.groups.len();
        if moved != group {
            for g in &mut self.order {
                if *g as usize == moved {
                    *g = group as u32;
                }
            }
            if let Some(index) = self.by_mask.get_mut(&self.groups[group].mask) {
                *index = group;
            }
        }
        self.note_needed();
        if self.groups.is_empty() {
            self.sieve = Sieve::new(self.masked_words);
        }
    }

    /// Puts a group whose ranks have changed at its place in the order.
    fn reorder(&mut self, group: usize) {
        let best = self.groups[group]
            .ranks
            .keys()
            .next_back()
            .copied()
            .unwrap_or(i32::MIN);
        let known = self.groups[group].best == best;
        self.groups[group].best = best;
        let placed = self
            .order
            .windows(2)
            .all(|pair| self.groups[pair[0] as usize].best >= self.groups[pair[1] as usize].best);
        if !known || !placed {
            let groups = &self.groups;
            self.order
                .sort_by_key(|g| std::cmp::Reverse(groups[*g as usize].best));
        }
    }
}

/// The words of a mask that are not 0.
pub(super) fn parts(mask: &[u64]) -> Vec<(u32, u64)> {
    let words = mask.iter().enumerate().filter(|(_, mask)| **mask != 0);
    words.map(|(word, mask)| (word as u32, *mask)).collect()
}

#[expect(
    clippy::indexing_slicing,
    reason = "parts are made from a mask as long as the key"
)]
#[inline]
pub(super) fn hash_parts(parts: &[(u32, u64)], key: &[u64], seed: u64) -> u64 {
    parts.iter().fold(seed, |hash, (word, mask)| {
        mix(hash, key[*word as usize] & mask)
    })
}
