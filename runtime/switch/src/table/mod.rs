//! Tables: entries with their action data, and the indices that find them.
//!
//! An entry keeps its place (its index) while it lives; the lowest free place is taken first, since
//! ties of priority go to the lowest place, as in bmv2. Keys come packed by the loader's plan.

mod ageing;
mod ahead;
mod hash;
mod key;
mod memory;
mod records;
mod sieve;
mod tuple;

#[cfg(test)]
mod tests;

use ageing::{Ageing, Look};
pub(crate) use ahead::Ahead;
pub(crate) use hash::{Glance, HashIndex, hash_words};
pub(crate) use key::{CompiledKey, compile};
pub(crate) use memory::prefetch;
use records::Records;
pub(crate) use records::halves;
use tuple::TupleSpace;

use crate::Micros;
use crate::code::program::Table;
use crate::control::{CounterValue, MeterRate};
use crate::meter::Meter;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What a hit runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// Nothing at all, and without a next node of its own.
    Nothing,
    /// The table's action by its own index, with the entry's data.
    Action(u32),
    Member(u32),
    Group(u32),
}

impl Run {
    #[inline]
    fn to_word(self) -> u64 {
        match self {
            Run::Nothing => 0,
            Run::Action(number) => 1 << 32 | u64::from(number),
            Run::Member(number) => 2 << 32 | u64::from(number),
            Run::Group(number) => 3 << 32 | u64::from(number),
        }
    }

    #[inline]
    pub(crate) fn from_word(word: u64) -> Self {
        let number = word as u32;
        match word >> 32 {
            0 => Run::Nothing,
            1 => Run::Action(number),
            2 => Run::Member(number),
            _ => Run::Group(number),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Hot {
    pub(crate) run: Run,
    pub(crate) last_hit: u64,
}

/// What the packet path does not read, and cannot be told from the record.
#[derive(Clone, Debug)]
pub(crate) struct Cold {
    /// The key, where its packed form is not all of it: in every table that is not plainly exact.
    pub(crate) key: Option<Box<CompiledKey>>,
    pub(crate) priority: i32,
    pub(crate) idle_timeout: Micros,
    pub(crate) metadata: Box<[u8]>,
    pub(crate) initial: bool,
    /// When it is next looked at for idleness; 0 without a timeout.
    pub(crate) next_look: Micros,
}

#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one a table, and a box would cost each look-up a line more"
)]
enum Index {
    Exact(HashIndex),
    Tuple(TupleSpace),
}

#[derive(Clone, Debug)]
pub(crate) struct TableState {
    seed: u64,
    records: Records,
    cold: Vec<Option<Box<Cold>>>,
    generations: Vec<u32>,
    meters: Vec<Option<Box<Meter>>>,
    ageing: Ageing,
    free: BinaryHeap<Reverse<u32>>,
    len: usize,
    index: Index,
    /// Whether a packed key tells all of a key.
    plain: bool,
    pub(crate) default: Run,
    pub(crate) default_data: Vec<u64>,
    pub(crate) default_counter: CounterValue,
    pub(crate) default_meter: Option<Box<Meter>>,
    pub(crate) const_entries: bool,
    /// What the table holds, where somebody knows better than the JSON.
    pub(crate) capacity: Option<usize>,
}

#[expect(
    clippy::indexing_slicing,
    reason = "places come from this table's own index and handles that were checked"
)]
impl TableState {
    pub(crate) fn new(table: &Table, seed: u64, ranges: Vec<(u32, u32)>) -> Self {
        let key_words = table.key_words as usize;
        TableState {
            seed,
            records: Records::new(
                key_words,
                table.data_words as usize,
                table.narrow,
                table.count,
            ),
            cold: Vec::new(),
            generations: Vec::new(),
            meters: Vec::new(),
            ageing: Ageing::default(),
            free: BinaryHeap::new(),
            len: 0,
            index: if table.exact {
                Index::Exact(HashIndex::default())
            } else {
                Index::Tuple(TupleSpace::new(
                    table.range_start as usize,
                    key_words,
                    ranges,
                ))
            },
            plain: table.exact && table.key.iter().all(|part| part.mask.is_none()),
            default: Run::Nothing,
            default_data: Vec::new(),
            default_counter: CounterValue::default(),
            default_meter: None,
            const_entries: false,
            capacity: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The words of the key that a lookup reads, as bits.
    #[inline]
    pub(crate) fn needed(&self) -> u64 {
        match &self.index {
            Index::Exact(_) => u64::MAX,
            Index::Tuple(space) => space.needed(),
        }
    }

    /// The place of the entry that `key` (packed) hits.
    #[inline]
    pub(crate) fn lookup(&self, key: &[u64]) -> Option<u32> {
        match &self.index {
            Index::Exact(_) => self.lookup_hashed(hash_words(key, self.seed), key),
            Index::Tuple(space) => {
                let (keys, stride) = (self.records.keys(), self.records.stride());
                space.lookup(key, keys, stride, self.seed)
            }
        }
    }

    /// The same in a plainly exact table, with the key's hash.
    #[inline]
    fn lookup_hashed(&self, hash: u64, key: &[u64]) -> Option<u32> {
        let Index::Exact(index) = &self.index else {
            return self.lookup(key);
        };
        index.find(|| hash, |at| self.has_key(at, key))
    }

    /// Has fetched what a hash leads to in the index.
    #[inline]
    fn fetch_bucket(&self, hash: u64) {
        if let Index::Exact(index) = &self.index {
            index.fetch(hash);
        }
    }

    /// What the index alone says of a hash.
    #[inline]
    fn glance(&self, hash: u64) -> Glance {
        match &self.index {
            Index::Exact(index) => index.glance(hash),
            Index::Tuple(_) => Glance::Unclear,
        }
    }

    /// Whether the entry at a place has that key.
    #[inline]
    fn has_key(&self, at: u32, key: &[u64]) -> bool {
        let first = at as usize * self.records.stride();
        let known = &self.records.keys()[first..first + key.len()];
        known.iter().zip(key).all(|(a, b)| a == b)
    }

    #[inline]
    pub(crate) fn hot(&self, at: u32) -> Hot {
        self.records.hot(at)
    }

    /// What a hit needs of an entry: see [`Records::record`].
    #[inline]
    pub(crate) fn record(&mut self, at: u32) -> &mut [u64] {
        self.records.record(at)
    }

    pub(crate) fn meter_mut(&mut self, at: u32) -> Option<&mut Meter> {
        self.meters[at as usize].as_deref_mut()
    }

    pub(crate) fn set_meter(&mut self, at: u32, rates: Option<[MeterRate; 2]>) {
        self.meters[at as usize] = rates.map(|rates| Box::new(Meter::new(rates)));
    }

    pub(crate) fn meter_rates(&self, at: u32) -> Option<[MeterRate; 2]> {
        self.meters[at as usize].as_ref().map(|meter| meter.rates())
    }

    pub(crate) fn counter(&self, at: u32) -> CounterValue {
        self.records.counter(at)
    }

    pub(crate) fn set_counter(&mut self, at: u32, value: CounterValue) {
        self.records.set_counter(at, value);
    }

    pub(crate) fn reset_counters(&mut self) {
        for at in 0..self.records.len() as u32 {
            self.records.set_counter(at, CounterValue::default());
        }
        self.default_counter = CounterValue::default();
    }

    pub(crate) fn cold(&self, at: u32) -> Option<&Cold> {
        self.cold.get(at as usize)?.as_deref()
    }

    pub(crate) fn cold_mut(&mut self, at: u32) -> Option<&mut Cold> {
        self.cold.get_mut(at as usize)?.as_deref_mut()
    }

    pub(crate) fn generation(&self, at: u32) -> u32 {
        self.generations.get(at as usize).copied().unwrap_or(0)
    }

    /// The places in use, in rising order.
    pub(crate) fn places(&self) -> impl Iterator<Item = u32> + '_ {
        self.cold
            .iter()
            .enumerate()
            .filter(|(_, cold)| cold.is_some())
            .map(|(at, _)| at as u32)
    }

    /// The place of the entry with exactly this key and priority.
    pub(crate) fn find(&self, key: &CompiledKey, priority: i32) -> Option<u32> {
        match &self.index {
            Index::Exact(_) => self.lookup(&key.value),
            Index::Tuple(space) => {
                let (keys, stride) = (self.records.keys(), self.records.stride());
                space.find(key, priority, keys, stride, self.seed)
            }
        }
    }

    /// The packed key of an entry.
    pub(crate) fn packed(&self, at: u32) -> &[u64] {
        self.records.key(at)
    }

    /// The data that an entry's action has, one word or more for each parameter.
    pub(crate) fn data(&self, at: u32) -> Vec<u64> {
        self.records.data(at)
    }

    /// Adds an entry that is not there yet. `cold.key` is set from `key` if it is needed.
    pub(crate) fn insert(
        &mut self,
        run: Run,
        data: &[u64],
        key: CompiledKey,
        mut cold: Cold,
        now: u64,
    ) -> u32 {
        let at = match self.free.pop() {
            Some(Reverse(at)) => at,
            None => {
                self.records.push();
                self.cold.push(None);
                self.generations.push(0);
                self.meters.push(None);
                (self.cold.len() - 1) as u32
            }
        };
        self.records.set_key(at, &key.value);
        self.records.set_run(at, run);
        self.records.set_data(at, data);
        self.records.touch(at, now);
        self.records.set_counter(at, CounterValue::default());
        self.meters[at as usize] = None;
        let (keys, stride) = (self.records.keys(), self.records.stride());
        match &mut self.index {
            Index::Exact(index) => index.insert(hash_words(&key.value, self.seed), at),
            Index::Tuple(space) => {
                let rank = key.rank(cold.priority);
                space.insert(at, &key, rank, keys, stride, self.seed);
            }
        }
        cold.key = (!self.plain).then(|| Box::new(key));
        let timeout = cold.idle_timeout;
        self.cold[at as usize] = Some(Box::new(cold));
        self.len += 1;
        self.set_timeout(at, timeout, now);
        at
    }

    /// Starts an entry's idle timer; without one where the timeout is 0.
    pub(crate) fn set_timeout(&mut self, at: u32, timeout: Micros, now: Micros) {
        let due = match timeout {
            0 => 0,
            _ => now.saturating_add(timeout),
        };
        self.records.touch(at, now);
        if let Some(cold) = self.cold_mut(at) {
            cold.idle_timeout = timeout;
        }
        self.look_again(at, due);
    }

    /// The entry is looked at for idleness then, and not before; not at all if that is 0.
    fn look_again(&mut self, at: u32, due: Micros) {
        let generation = self.generation(at);
        if let Some(cold) = self.cold_mut(at) {
            cold.next_look = due;
        }
        if due != 0 {
            self.ageing.add(Look {
                due,
                at,
                generation,
            });
        }
    }

    /// Calls `idle` with place and generation of each entry that was idle for its timeout, and again after
    /// every further one, in the order of places.
    pub(crate) fn sweep(&mut self, now: Micros, mut idle: impl FnMut(u32, u32)) {
        let mut found: Vec<(u32, u32)> = Vec::new();
        while let Some(look) = self.ageing.due(now) {
            let last_hit = match self.cold(look.at) {
                Some(_) if is_current(&self.cold, &self.generations, &look) => {
                    self.hot(look.at).last_hit
                }
                _ => continue,
            };
            let timeout = self.cold(look.at).map_or(0, |cold| cold.idle_timeout);
            let due = last_hit.saturating_add(timeout);
            if due > now {
                self.look_again(look.at, due);
            } else {
                found.push((look.at, look.generation));
                self.look_again(look.at, now.saturating_add(timeout));
            }
        }
        let (cold, generations) = (&self.cold, &self.generations);
        self.ageing
            .prune(self.len, |look| is_current(cold, generations, look));
        found.sort_unstable();
        for (at, generation) in found {
            idle(at, generation);
        }
    }

    /// Replaces what an entry runs.
    pub(crate) fn set_run(&mut self, at: u32, run: Run, data: &[u64]) {
        self.records.set_run(at, run);
        self.records.set_data(at, data);
    }

    pub(crate) fn remove(&mut self, at: u32) -> Option<Cold> {
        let cold = *self.cold.get_mut(at as usize)?.take()?;
        let (keys, stride) = (self.records.keys(), self.records.stride());
        match &mut self.index {
            Index::Exact(index) => index.remove(hash_words(self.records.key(at), self.seed), at),
            Index::Tuple(space) => {
                if let Some(key) = &cold.key {
                    let rank = key.rank(cold.priority);
                    space.remove(at, key, rank, keys, stride, self.seed);
                }
            }
        }
        self.generations[at as usize] = self.generations[at as usize].wrapping_add(1);
        self.meters[at as usize] = None;
        self.free.push(Reverse(at));
        self.len -= 1;
        Some(cold)
    }
}

/// Whether a look is the one that its entry waits for.
fn is_current(cold: &[Option<Box<Cold>>], generations: &[u32], look: &Look) -> bool {
    let at = look.at as usize;
    let awaited = cold.get(at).and_then(|c| c.as_ref()).map(|c| c.next_look);
    awaited == Some(look.due) && generations.get(at) == Some(&look.generation)
}
