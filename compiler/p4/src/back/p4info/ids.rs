//! Ids and aliases. An id is the kind of thing in the upper byte and a hash of the full name in the
//! lower three; an alias is the shortest end of a name that no other name has. Both as p4c computes
//! them, so that a controller written for its P4Info works with ours.

use std::collections::{BTreeMap, BTreeSet};

/// The upper byte of an id: what it names (P4Runtime, `P4Ids.Prefix`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    Action = 0x01,
    Table = 0x02,
    ValueSet = 0x03,
    PacketHeader = 0x04,
    ActionProfile = 0x11,
    Counter = 0x12,
    DirectCounter = 0x13,
    Meter = 0x14,
    DirectMeter = 0x15,
    Register = 0x16,
    Digest = 0x17,
}

/// A clash of ids that the program asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Two things have the same `@id`.
    #[error("the id {0} is asked for twice")]
    Twice(u32),
    /// The upper byte of an `@id` says something else than what it stands on.
    #[error("the id {0:#x} has the upper byte of another kind of thing")]
    WrongKind(u32),
}

/// All names that the control plane sees, with their ids.
#[derive(Debug, Default)]
pub struct Symbols {
    ids: BTreeMap<(Kind, String), Option<u32>>,
    taken: BTreeSet<u32>,
    /// How many names end in these components, joined from the end.
    endings: BTreeMap<Vec<String>, usize>,
    names: BTreeSet<String>,
}

impl Symbols {
    /// Adds a name, with the id that the program asks for, if any.
    ///
    /// # Errors
    ///
    /// If the id clashes with another or with the kind.
    pub fn add(&mut self, kind: Kind, name: &str, wanted: Option<u32>) -> Result<(), IdError> {
        if self.ids.contains_key(&(kind, name.to_string())) {
            return Ok(());
        }
        let mut given = None;
        if let Some(wanted) = wanted {
            let prefix = (kind as u32) << 24;
            let own = wanted & 0xff00_0000;
            if own != 0 && own != prefix {
                return Err(IdError::WrongKind(wanted));
            }
            let id = wanted | prefix;
            if !self.taken.insert(id) {
                return Err(IdError::Twice(wanted));
            }
            given = Some(id);
        }
        self.ids.insert((kind, name.to_string()), given);
        if self.names.insert(name.to_string()) {
            let mut ending = Vec::new();
            for component in name.rsplit('.') {
                ending.push(component.to_string());
                *self.endings.entry(ending.clone()).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Gives an id to every name that has none. In the order of the names, for a hash that is taken
    /// moves to the next free number.
    pub fn assign(&mut self) {
        for ((kind, name), id) in &mut self.ids {
            if id.is_some() {
                continue;
            }
            let mut hash = hash(name);
            let prefix = (*kind as u32) << 24;
            let mut candidate = prefix | (hash & 0x00ff_ffff);
            while !self.taken.insert(candidate) {
                hash = hash.wrapping_add(1);
                candidate = prefix | (hash & 0x00ff_ffff);
            }
            *id = Some(candidate);
        }
    }

    /// The id of a name; 0 for one that was not added.
    pub fn id(&self, kind: Kind, name: &str) -> u32 {
        self.ids
            .get(&(kind, name.to_string()))
            .copied()
            .flatten()
            .unwrap_or(0)
    }

    /// The alias of a name.
    pub fn alias(&self, name: &str) -> String {
        let mut ending = Vec::new();
        for component in name.rsplit('.') {
            ending.push(component.to_string());
            if self.endings.get(&ending).copied().unwrap_or(0) < 2 {
                break;
            }
        }
        ending.reverse();
        ending.join(".")
    }
}

/// Jenkins's one-at-a-time hash.
fn hash(name: &str) -> u32 {
    let mut hash: u32 = 0;
    for byte in name.bytes() {
        hash = hash.wrapping_add(u32::from(byte));
        hash = hash.wrapping_add(hash << 10);
        hash ^= hash >> 6;
    }
    hash = hash.wrapping_add(hash << 3);
    hash ^= hash >> 11;
    hash.wrapping_add(hash << 15)
}

/// Ids of parameters, match fields and the like: 1, 2, 3 …, but for those that the program gives.
pub fn small_ids(given: &[Option<u32>]) -> Vec<u32> {
    let mut taken: BTreeSet<u32> = given.iter().flatten().copied().collect();
    let mut index = 1;
    given
        .iter()
        .map(|given| match given {
            Some(id) => {
                index += 1;
                *id
            }
            None => {
                while taken.contains(&index) {
                    index += 1;
                }
                taken.insert(index);
                index
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_p4c() {
        let mut symbols = Symbols::default();
        for (kind, name) in [
            (Kind::Action, "NoAction"),
            (Kind::Table, "I.web_lb.fx"),
            (Kind::Counter, "I.guard.slots"),
        ] {
            symbols.add(kind, name, None).unwrap();
        }
        symbols.assign();
        assert_eq!(symbols.id(Kind::Action, "NoAction"), 21_257_015);
        assert_eq!(symbols.id(Kind::Table, "I.web_lb.fx"), 43_936_304);
        assert_eq!(symbols.id(Kind::Counter, "I.guard.slots"), 317_607_268);
    }

    #[test]
    fn an_alias_is_the_shortest_end_that_no_other_name_has() {
        let mut symbols = Symbols::default();
        for name in ["I.a.t", "I.b.t", "I.c"] {
            symbols.add(Kind::Table, name, None).unwrap();
        }
        assert_eq!(symbols.alias("I.a.t"), "a.t");
        assert_eq!(symbols.alias("I.c"), "c");
    }

    #[test]
    fn an_id_of_the_program_is_kept_and_a_clash_is_told() {
        let mut symbols = Symbols::default();
        symbols.add(Kind::Table, "t", Some(7)).unwrap();
        assert_eq!(
            symbols.add(Kind::Table, "u", Some(7)),
            Err(IdError::Twice(7))
        );
        assert_eq!(
            symbols.add(Kind::Table, "v", Some(0x0100_0001)),
            Err(IdError::WrongKind(0x0100_0001))
        );
        assert_eq!(symbols.id(Kind::Table, "t"), 0x0200_0007);
    }

    #[test]
    fn small_ids_count_round_those_that_are_given() {
        assert_eq!(
            small_ids(&[None, Some(5), None, None, None, None]),
            [1, 5, 2, 3, 4, 6]
        );
    }
}
