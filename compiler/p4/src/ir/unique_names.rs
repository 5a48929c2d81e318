//! Names that must differ from each other: a name that is taken gets a number behind it.

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// The names given so far, each with the last number put behind it.
#[derive(Debug, Clone, Default)]
pub struct UniqueNames {
    taken: FxHashMap<Arc<str>, u32>,
}

impl UniqueNames {
    /// Takes a name out of use.
    pub fn reserve(&mut self, name: &str) {
        self.taken.entry(name.into()).or_insert(1);
    }

    /// The name asked for, or the first free one of `name_2`, `name_3` and so on.
    pub fn give(&mut self, wanted: &str) -> Arc<str> {
        let Some(last) = self.taken.get(wanted).copied() else {
            let name: Arc<str> = wanted.into();
            self.taken.insert(Arc::clone(&name), 1);
            return name;
        };
        let mut number = last;
        loop {
            number = number.saturating_add(1);
            let name: Arc<str> = format!("{wanted}_{number}").into();
            if !self.taken.contains_key(&name) {
                self.taken.insert(Arc::clone(&name), 1);
                self.taken.insert(wanted.into(), number);
                return name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_given_once() {
        let mut names = UniqueNames::default();
        names.reserve("a");
        let given: Vec<Arc<str>> = ["a", "b", "a_2", "a", "b", "b_2"]
            .into_iter()
            .map(|n| names.give(n))
            .collect();
        let given: Vec<&str> = given.iter().map(|n| &**n).collect();
        assert_eq!(given, ["a_2", "b", "a_2_2", "a_3", "b_2", "b_2_2"]);
    }
}
