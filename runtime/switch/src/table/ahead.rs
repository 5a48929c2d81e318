//! Look-ups in several exact tables at once: those that a program asks with the same fields, one after the
//! other. The first one that a packet comes to also finds what the others hold for the same key, so that
//! memory is waited for once and not once a table.
//!
//! What was found holds for one step of the switch: between steps, entries may change.

use super::{Glance, TableState, hash_words};
use crate::code::program::Table;
use crate::exec::machine::MAX_KEY;

/// Tables of a group; more are in another one.
const MOST: usize = 16;

/// Entries of a table from which on its memory is worth waiting for in company.
const MANY: usize = 1024;

/// Tables with the same key, and the last key that one of them was asked with.
#[derive(Clone, Debug)]
struct Group {
    tables: Vec<u32>,
    /// The step that `key` is of.
    step: u64,
    key: [u64; MAX_KEY],
}

/// What was found ahead.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ahead {
    step: u64,
    groups: Vec<Group>,
    /// Each table's group.
    of: Vec<Option<u32>>,
    /// Each table's place plus one; 0 is none.
    places: Vec<u32>,
    /// The group that is being looked up, the words of its key and their hash.
    group: usize,
    words: usize,
    hash: u64,
    seen: [Glance; MOST],
}

impl Ahead {
    /// For these tables.
    pub(crate) fn new(tables: &[Table]) -> Self {
        let mut ahead = Ahead {
            of: vec![None; tables.len()],
            places: vec![0; tables.len()],
            ..Ahead::default()
        };
        for (index, table) in tables.iter().enumerate() {
            let same = |other: &Group| {
                let first = other.tables.first().and_then(|t| tables.get(*t as usize));
                other.tables.len() < MOST && first.is_some_and(|t| t.packs_like(table))
            };
            if !table.exact || table.key_words == 0 || !table.pack_others.is_empty() {
                continue;
            }
            let known = ahead.groups.iter().position(same);
            let group = known.unwrap_or(ahead.groups.len());
            if known.is_none() {
                ahead.groups.push(Group {
                    tables: Vec::new(),
                    step: 0,
                    key: [0; MAX_KEY],
                });
            }
            if let (Some(of), Some(place)) = (ahead.groups.get_mut(group), ahead.of.get_mut(index))
            {
                of.tables.push(index as u32);
                *place = Some(group as u32);
            }
        }
        ahead
    }

    /// Entries may have changed.
    #[inline]
    pub(crate) fn next_step(&mut self) {
        self.step += 1;
    }

    /// The place of the entry of table `index` that `key` (packed) hits.
    #[inline]
    pub(crate) fn lookup(
        &mut self,
        tables: &[TableState],
        index: usize,
        key: &[u64],
    ) -> Option<u32> {
        let company = |group: &u32| {
            let group = self.groups.get(*group as usize);
            group.is_some_and(|group| group.tables.len() > 1 || group.step == self.step)
        };
        if !self.of.get(index)?.as_ref().is_some_and(company) {
            return tables.get(index)?.lookup(key);
        }
        if self.begin(tables, index, key) {
            self.find(tables);
        }
        self.found(index)
    }

    /// As [`Ahead::lookup`], but where memory must be waited for it only has it fetched, and says so: what
    /// follows, a while later, is [`Ahead::fetch_records`], and again later [`Ahead::settle`].
    #[inline]
    pub(crate) fn waits(&mut self, tables: &[TableState], index: usize, key: &[u64]) -> bool {
        let group = self.of.get(index).copied().flatten();
        let group = group.and_then(|group| self.groups.get(group as usize));
        let large = |table: &u32| {
            let table = tables.get(*table as usize);
            table.is_some_and(|table| table.len() >= MANY)
        };
        let waits = group.is_some_and(|group| group.tables.iter().any(large))
            && self.begin(tables, index, key);
        if waits {
            self.fetch_buckets(tables);
        }
        waits
    }

    /// Whether `key` is another one than the last of this step.
    #[inline]
    fn begin(&mut self, tables: &[TableState], index: usize, key: &[u64]) -> bool {
        let Some(Some(at)) = self.of.get(index) else {
            return false;
        };
        let at = *at as usize;
        let Some(group) = self.groups.get_mut(at) else {
            return false;
        };
        let Some(last) = group.key.get_mut(..key.len()) else {
            return false;
        };
        if group.step == self.step && last == key {
            return false;
        }
        group.step = self.step;
        last.copy_from_slice(key);
        let seed = tables.get(index).map_or(0, |table| table.seed);
        self.group = at;
        self.words = key.len();
        self.hash = hash_words(key, seed);
        true
    }

    /// Looks the key up in all of its group.
    #[inline]
    pub(crate) fn find(&mut self, tables: &[TableState]) {
        self.fetch_buckets(tables);
        self.fetch_records(tables);
        self.settle(tables);
    }

    /// Has the buckets fetched that the key's hash leads to.
    #[inline]
    pub(crate) fn fetch_buckets(&self, tables: &[TableState]) {
        let group = self.groups.get(self.group);
        for index in group.map_or(&[][..], |group| &group.tables) {
            if let Some(table) = tables.get(*index as usize) {
                table.fetch_bucket(self.hash);
            }
        }
    }

    /// Reads the buckets, and has the records fetched that they lead to.
    #[inline]
    pub(crate) fn fetch_records(&mut self, tables: &[TableState]) {
        let group = self.groups.get(self.group);
        let list = group.map_or(&[][..], |group| &group.tables);
        for (seen, index) in self.seen.iter_mut().zip(list) {
            if let Some(table) = tables.get(*index as usize) {
                *seen = table.glance(self.hash);
                if let Glance::Perhaps(at) = *seen {
                    table.records.fetch(at);
                }
            }
        }
    }

    /// Writes down what was found.
    #[inline]
    pub(crate) fn settle(&mut self, tables: &[TableState]) {
        let Some(group) = self.groups.get(self.group) else {
            return;
        };
        let key = group.key.get(..self.words).unwrap_or_default();
        for (seen, index) in self.seen.iter().zip(&group.tables) {
            let index = *index as usize;
            if let (Some(table), Some(place)) = (tables.get(index), self.places.get_mut(index)) {
                let at = match *seen {
                    Glance::Nothing => None,
                    Glance::Perhaps(at) if table.has_key(at, key) => Some(at),
                    _ => table.lookup_hashed(self.hash, key),
                };
                *place = at.map_or(0, |at| at + 1);
            }
        }
    }

    /// The place that was found last for a table.
    #[inline]
    pub(crate) fn found(&self, index: usize) -> Option<u32> {
        self.places.get(index)?.checked_sub(1)
    }
}
