//! When which entry is to be looked at for idleness: a sweep costs what is due, and not what the table
//! holds.
//!
//! Nothing here is told of hits. Who comes up may have been hit since, and then is to be looked at later.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::Micros;

/// A look at an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Look {
    /// Not before.
    pub(crate) due: Micros,
    /// The entry's place in its table.
    pub(crate) at: u32,
    /// The place's generation; another entry may have it by then.
    pub(crate) generation: u32,
}

/// The looks at a table's entries that are to come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ageing(BinaryHeap<Reverse<Look>>);

impl Ageing {
    /// Adds a look.
    pub(crate) fn add(&mut self, look: Look) {
        self.0.push(Reverse(look));
    }

    /// The next look, if it is due.
    pub(crate) fn due(&mut self, now: Micros) -> Option<Look> {
        let Reverse(first) = self.0.peek()?;
        if first.due > now {
            return None;
        }
        self.0.pop().map(|Reverse(look)| look)
    }

    /// Forgets looks that `current` says are of no use any more, once they could outnumber the others:
    /// there are at most `live` of those.
    pub(crate) fn prune(&mut self, live: usize, current: impl Fn(&Look) -> bool) {
        if self.0.len() > 2 * live + 64 {
            self.0.retain(|Reverse(look)| current(look));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_of_entries_that_are_gone_do_not_pile_up() {
        let mut ageing = Ageing::default();
        // One entry, inserted and deleted all the time, with a timeout that never comes.
        for generation in 0..100_000 {
            ageing.add(Look {
                due: 1 << 40,
                at: 0,
                generation,
            });
            ageing.prune(1, |look| look.generation == generation);
            assert!(ageing.0.len() <= 67);
        }
        assert_eq!(ageing.due((1 << 40) - 1), None);
        let left: Vec<u32> = std::iter::from_fn(|| ageing.due(1 << 40))
            .map(|look| look.generation)
            .collect();
        assert_eq!(left.last(), Some(&99_999));
    }
}
