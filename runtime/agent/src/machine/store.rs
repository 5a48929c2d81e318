//! The affinity store: flows, each with up to two fixed entries, and the ways to find them.
//!
//! It keeps them; what happens to them is decided in `install`, `ending` and `watch`. The indices hold
//! numbers of four bytes and look the keys up in the flows themselves, and flows stand in pages, so that
//! growing copies nothing.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use super::flow_record::{Flow, Terms};
use crate::flow::{FlowKey, Part};

/// Names a flow of the store; stale ones are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FlowRef {
    index: u32,
    generation: u32,
}

/// Bits of an entry id: top bit set, generation 8, index 22, part 1.
const FIXED_BIT: u32 = 0x8000_0000;
const INDEX_BITS: u32 = 22;
/// Flows that a store can hold.
pub(super) const MAX_FLOWS: usize = 1 << INDEX_BITS;
/// Flows in a page.
const PAGE: usize = 1 << PAGE_BITS;
const PAGE_BITS: u32 = 10;
/// Different terms that are kept for flows to come.
const TERMS: usize = 32;

impl FlowRef {
    /// The id that packets of this flow's entry carry.
    pub fn entry_id(self, part: Part) -> u32 {
        FIXED_BIT | ((self.generation & 0xff) << (INDEX_BITS + 1)) | self.code(part)
    }

    /// Index and part in one number.
    fn code(self, part: Part) -> u32 {
        (self.index << 1) | u32::from(part == Part::Forward)
    }
}

fn part_of(code: u32) -> Part {
    if code & 1 == 1 {
        Part::Forward
    } else {
        Part::Reply
    }
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    flow: Option<Flow>,
}

/// All flows.
#[derive(Debug, Default)]
pub(super) struct Store {
    pages: Vec<Vec<Place>>,
    places: usize,
    free: Vec<u32>,
    /// Codes of directions, by their keys.
    by_key: HashTable<u32>,
    /// Indices of flows, by service and the manager's number.
    by_number: HashTable<u32>,
    live: usize,
    /// Terms that flows were made on lately.
    terms: Vec<Arc<Terms>>,
}

fn hash(what: &impl std::hash::Hash) -> u64 {
    FxBuildHasher.hash_one(what)
}

fn place(pages: &[Vec<Place>], index: u32) -> Option<&Place> {
    let index = index as usize;
    pages.get(index >> PAGE_BITS)?.get(index % PAGE)
}

fn key_at(pages: &[Vec<Place>], code: u32) -> Option<FlowKey> {
    place(pages, code >> 1)?.flow.as_ref()?.key(part_of(code))
}

fn number_at(pages: &[Vec<Place>], index: u32) -> Option<(u8, u64)> {
    let flow = place(pages, index)?.flow.as_ref()?;
    Some((flow.service, flow.number))
}

impl Store {
    pub fn len(&self) -> usize {
        self.live
    }

    /// Terms, shared with other flows that have the same.
    pub fn shared(&mut self, terms: Terms) -> Arc<Terms> {
        if let Some(known) = self.terms.iter().find(|t| ***t == terms) {
            return known.clone();
        }
        if self.terms.len() == TERMS {
            self.terms.remove(0);
        }
        let terms = Arc::new(terms);
        self.terms.push(terms.clone());
        terms
    }

    fn place_mut(&mut self, index: u32) -> Option<&mut Place> {
        let index = index as usize;
        (self.pages.get_mut(index >> PAGE_BITS)?).get_mut(index % PAGE)
    }

    /// A place that nobody has; `None` when the store is full.
    fn free_index(&mut self) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        if self.places == MAX_FLOWS {
            return None;
        }
        if self.places.is_multiple_of(PAGE) {
            self.pages.push(Vec::with_capacity(PAGE));
        }
        self.pages.last_mut()?.push(Place::default());
        self.places += 1;
        u32::try_from(self.places - 1).ok()
    }

    /// Adds a flow under the keys of its directions; `None` when the store is full.
    pub fn insert(&mut self, flow: Flow) -> Option<FlowRef> {
        let index = self.free_index()?;
        let keys = [Part::Forward, Part::Reply].map(|part| (part, flow.key(part)));
        let number = (flow.service, flow.number);
        let place = self.place_mut(index)?;
        place.generation = place.generation.wrapping_add(1);
        place.flow = Some(flow);
        let at = FlowRef {
            index,
            generation: place.generation,
        };
        let pages = &self.pages;
        for (part, key) in keys {
            let Some(key) = key else { continue };
            let same = |code: &u32| key_at(pages, *code) == Some(key);
            let hash_of = |code: &u32| key_at(pages, *code).map_or(0, |k| hash(&k));
            match self.by_key.find_mut(hash(&key), same) {
                Some(code) => *code = at.code(part),
                None => {
                    self.by_key
                        .insert_unique(hash(&key), at.code(part), hash_of);
                }
            }
        }
        let hash_of = |index: &u32| number_at(pages, *index).map_or(0, |n| hash(&n));
        (self.by_number).insert_unique(hash(&number), index, hash_of);
        self.live += 1;
        Some(at)
    }

    pub fn get(&self, at: FlowRef) -> Option<&Flow> {
        let place = place(&self.pages, at.index)?;
        (place.generation == at.generation).then_some(place.flow.as_ref())?
    }

    pub fn get_mut(&mut self, at: FlowRef) -> Option<&mut Flow> {
        let place = self.place_mut(at.index)?;
        (place.generation == at.generation).then_some(place.flow.as_mut())?
    }

    fn reference(&self, index: u32) -> Option<FlowRef> {
        let place = place(&self.pages, index)?;
        place.flow.as_ref()?;
        Some(FlowRef {
            index,
            generation: place.generation,
        })
    }

    pub fn find(&self, key: &FlowKey) -> Option<FlowRef> {
        let same = |code: &u32| key_at(&self.pages, *code).as_ref() == Some(key);
        let code = self.by_key.find(hash(key), same)?;
        self.reference(code >> 1)
    }

    /// The flows of a service to which a manager has given that number.
    pub fn numbered(&self, service: u8, number: u64) -> Vec<FlowRef> {
        let wanted = (service, number);
        (self.by_number.iter_hash(hash(&wanted)))
            .filter(|index| number_at(&self.pages, **index) == Some(wanted))
            .filter_map(|index| self.reference(*index))
            .collect()
    }

    /// Gives a flow another number.
    pub fn renumber(&mut self, at: FlowRef, number: u64) {
        if self.get(at).is_none_or(|f| f.number == number) {
            return;
        }
        self.forget_number(at);
        let Some(flow) = self.get_mut(at) else { return };
        flow.number = number;
        let key = (flow.service, number);
        let pages = &self.pages;
        let hash_of = |index: &u32| number_at(pages, *index).map_or(0, |n| hash(&n));
        (self.by_number).insert_unique(hash(&key), at.index, hash_of);
    }

    fn forget_number(&mut self, at: FlowRef) {
        if let Some(key) = number_at(&self.pages, at.index)
            && let Ok(entry) = (self.by_number).find_entry(hash(&key), |i| *i == at.index)
        {
            entry.remove();
        }
    }

    /// Whose entry a packet met.
    pub fn by_entry_id(&self, id: u32) -> Option<(FlowRef, Part)> {
        if id & FIXED_BIT == 0 {
            return None;
        }
        let index = (id >> 1) & ((1 << INDEX_BITS) - 1);
        let at = self.reference(index)?;
        let same = at.generation & 0xff == (id & !FIXED_BIT) >> (INDEX_BITS + 1);
        same.then_some((at, part_of(id)))
    }

    /// Frees the flow's keys for a successor; the flow itself stays.
    pub fn unlink(&mut self, at: FlowRef) {
        let Some(flow) = self.get(at) else { return };
        let keys = [Part::Forward, Part::Reply].map(|part| (part, flow.key(part)));
        for (part, key) in keys {
            let Some(key) = key else { continue };
            let own = |code: &u32| *code == at.code(part);
            if let Ok(entry) = self.by_key.find_entry(hash(&key), own) {
                entry.remove();
            }
        }
    }

    pub fn remove(&mut self, at: FlowRef) -> Option<Flow> {
        self.get(at)?;
        self.unlink(at);
        self.forget_number(at);
        let flow = self.place_mut(at.index)?.flow.take()?;
        self.free.push(at.index);
        self.live -= 1;
        Some(flow)
    }

    pub fn iter(&self) -> impl Iterator<Item = (FlowRef, &Flow)> {
        let places = self.pages.iter().flatten();
        places.enumerate().filter_map(|(i, place)| {
            let flow = place.flow.as_ref()?;
            let at = FlowRef {
                index: u32::try_from(i).ok()?,
                generation: place.generation,
            };
            Some((at, flow))
        })
    }

    /// Gives every flow's service another place. None of them may be on its way out.
    pub fn move_services(&mut self, to: impl Fn(u8) -> u8) {
        for flow in (self.pages.iter_mut().flatten()).filter_map(|p| p.flow.as_mut()) {
            flow.service = to(flow.service);
        }
        self.by_key.clear();
        self.by_number.clear();
        for at in self.refs() {
            let pages = &self.pages;
            for part in [Part::Forward, Part::Reply] {
                if let Some(key) = key_at(pages, at.code(part)) {
                    let hash_of = |code: &u32| key_at(pages, *code).map_or(0, |k| hash(&k));
                    (self.by_key).insert_unique(hash(&key), at.code(part), hash_of);
                }
            }
            if let Some(number) = number_at(pages, at.index) {
                let hash_of = |index: &u32| number_at(pages, *index).map_or(0, |n| hash(&n));
                (self.by_number).insert_unique(hash(&number), at.index, hash_of);
            }
        }
    }

    pub fn refs(&self) -> Vec<FlowRef> {
        self.iter().map(|(at, _)| at).collect()
    }
}
