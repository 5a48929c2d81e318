//! Look-ups in several exact tables at once: those that a program asks with the same fields, one after the
//! other. The first one that a packet comes to also finds what the others hold for the same key, so that
//! memory is waited for once and not once a table.
//!
//! What was found holds for one step of the switch: between steps, entries may change.

use std::hint::black_box;

use super::{Glance, TableState, hash_words};
use crate::code::program::Table;
use crate::exec::machine::MAX_KEY;

/// Tables of a group; more are looked up one by one.
const MOST: usize = 16;

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
}

impl Ahead {
    /// For these tables.
    pub(crate) fn new(tables: &[Table]) -> Self {
        let mut ahead = Ahead {
            step: 0,
            groups: Vec::new(),
            of: vec![None; tables.len()],
            places: vec![0; tables.len()],
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
            if let (Some(group), Some(of)) = (ahead.groups.get_mut(group), ahead.of.get_mut(index))
            {
                group.tables.push(index as u32);
                *of = known.map(|at| at as u32);
            }
        }
        // The first of each group was not told, since nobody knew that others would come.
        for (at, group) in ahead.groups.iter().enumerate() {
            if let [first, _, ..] = group.tables.as_slice()
                && let Some(of) = ahead.of.get_mut(*first as usize)
            {
                *of = Some(at as u32);
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
        let Some(Some(group)) = self.of.get(index) else {
            return tables.get(index)?.lookup(key);
        };
        let group = self.groups.get_mut(*group as usize)?;
        let last = group.key.get_mut(..key.len())?;
        if group.step != self.step || last != key {
            group.step = self.step;
            last.copy_from_slice(key);
            find_all(&group.tables, tables, key, &mut self.places);
        }
        self.places.get(index)?.checked_sub(1)
    }
}

/// Looks `key` up in all of a group. What comes first only touches memory, so that the processor fetches
/// what all tables need at once: their buckets, then their records.
fn find_all(group: &[u32], tables: &[TableState], key: &[u64], places: &mut [u32]) {
    let table = |index: &u32| tables.get(*index as usize);
    let seed = group.first().and_then(table).map_or(0, |table| table.seed);
    let hash = hash_words(key, seed);
    let touched = group
        .iter()
        .filter_map(table)
        .fold(0, |word, table| word ^ table.touch_index(hash));
    black_box(touched);
    let mut seen = [Glance::Nothing; MOST];
    let mut touched = 0;
    for (seen, table) in seen.iter_mut().zip(group.iter().map(table)) {
        if let Some(table) = table {
            *seen = table.glance(hash);
            if let Glance::Perhaps(at) = *seen {
                touched ^= table.touch(at);
            }
        }
    }
    black_box(touched);
    for (seen, index) in seen.iter().zip(group) {
        if let (Some(table), Some(place)) = (table(index), places.get_mut(*index as usize)) {
            let at = match *seen {
                Glance::Nothing => None,
                Glance::Perhaps(at) if table.has_key(at, key) => Some(at),
                _ => table.lookup_hashed(hash, key),
            };
            *place = at.map_or(0, |at| at + 1);
        }
    }
}
