//! Counter cells: which are free, and what the free ones hold. Cells are never set back, so a cell's next
//! user counts from what it finds there.

use rustc_hash::FxHashMap;

use crate::message::Totals;

/// The counter cells of one part of a service that one sort of entries may use.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// Given back, with what each was read to hold last.
    free: Vec<(u32, Totals)>,
    first: u32,
    next: u32,
    end: u32,
    /// What cells were found to hold when the switch came up, and nobody has given back since.
    found: FxHashMap<u32, Totals>,
    /// Not in use, but nobody knows what they hold.
    doubtful: Vec<u32>,
}

impl Slots {
    /// So many cells from `first` on.
    pub fn new(first: u32, count: u32) -> Self {
        Self {
            first,
            next: first,
            end: first.saturating_add(count),
            ..Self::default()
        }
    }

    /// Whether both are the same cells.
    pub fn has_range_of(&self, other: &Self) -> bool {
        (self.first, self.end) == (other.first, other.end)
    }

    /// Whether a cell is one of these.
    pub fn has(&self, slot: u32) -> bool {
        (self.first..self.end).contains(&slot)
    }

    /// A cell and what it holds already.
    pub fn allocate(&mut self) -> Option<(u32, Totals)> {
        let (slot, held) = match self.free.pop() {
            Some(free) => free,
            None if self.next < self.end => {
                self.next += 1;
                (self.next - 1, Totals::default())
            }
            None => return None,
        };
        Some((slot, self.found.remove(&slot).unwrap_or(held)))
    }

    /// Gives a cell back, with what was read last.
    pub fn release(&mut self, slot: u32, holds: Totals) {
        // Another plan may have other cells.
        if self.has(slot) {
            // It was in use when the switch came up, and has counted since.
            self.found.remove(&slot);
            self.free.push((slot, holds));
        }
    }

    /// Keeps back a cell whose last value could not be read: its next user would count wrong.
    pub fn hold_back(&mut self, slot: u32) {
        if self.has(slot) {
            self.doubtful.push(slot);
        }
    }

    /// How many cells are free.
    pub fn room(&self) -> usize {
        self.free.len() + (self.end - self.next) as usize
    }

    /// How many cells are not: those whose last value is doubtful among them.
    pub fn in_use(&self) -> usize {
        (self.end - self.first) as usize - self.room()
    }

    /// Forgets what the cells held: all of them are about to be read.
    pub fn forget(&mut self) {
        self.found.clear();
        for (_, holds) in &mut self.free {
            *holds = Totals::default();
        }
        let doubtful = self
            .doubtful
            .drain(..)
            .map(|slot| (slot, Totals::default()));
        self.free.extend(doubtful);
    }

    /// Notes what a cell was found to hold.
    pub fn found(&mut self, slot: u32, holds: Totals) {
        self.found.insert(slot, holds);
    }

    /// Takes cells that found entries use already.
    pub fn take(&mut self, used: &[u32]) {
        let used: rustc_hash::FxHashSet<u32> = used.iter().copied().collect();
        let top = used.iter().map(|s| s + 1).max().unwrap_or(0);
        self.next = top.clamp(self.first, self.end);
        self.free = (self.first..self.next)
            .filter(|s| !used.contains(s))
            .map(|s| (s, Totals::default()))
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_slot_comes_back_with_what_it_holds() {
        let mut slots = Slots::new(1, 1);
        assert_eq!(slots.allocate(), Some((1, Totals::default())));
        assert_eq!(slots.allocate(), None);
        let held = Totals {
            packets: 3,
            bytes: 180,
        };
        slots.release(1, held);
        assert_eq!(slots.allocate(), Some((1, held)));
    }

    #[test]
    fn a_cell_that_was_in_use_when_the_switch_came_up_comes_back_with_what_it_was_read_to_hold_last()
     {
        let mut slots = Slots::new(1, 1);
        slots.allocate();
        let then = Totals {
            packets: 3,
            bytes: 180,
        };
        let last = Totals {
            packets: 9,
            bytes: 540,
        };
        slots.forget();
        slots.found(1, then);
        slots.release(1, last);
        assert_eq!(slots.allocate(), Some((1, last)));
    }

    #[test]
    fn what_the_switch_was_found_to_hold_counts_and_not_what_was_read_before() {
        let mut slots = Slots::new(1, 1);
        slots.allocate();
        let (old, new) = (
            Totals {
                packets: 3,
                bytes: 180,
            },
            Totals {
                packets: 1,
                bytes: 60,
            },
        );
        slots.release(1, old);
        slots.forget();
        slots.found(1, new);
        assert_eq!(slots.allocate(), Some((1, new)));
    }
}
