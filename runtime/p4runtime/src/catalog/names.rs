//! Look-up by id and by full name, alias or unique suffix, with suggestions for what is not found.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::{CatalogError, Kind};

/// What every object has.
pub trait Named {
    /// The id, unique in the whole program.
    fn id(&self) -> u32;
    /// The full name.
    fn name(&self) -> &str;
    /// The short name.
    fn alias(&self) -> &str;
}

/// The objects of one kind, in P4Info's order.
#[derive(Debug)]
pub struct Section<T> {
    kind: Kind,
    items: Vec<T>,
    by_id: FxHashMap<u32, usize>,
    by_name: FxHashMap<String, usize>,
}

/// Whether `suffix` is `name`, or what follows one of its dots.
pub(super) fn is_suffix(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix)
        .is_some_and(|head| head.is_empty() || head.ends_with('.'))
}

impl<T: Named> Section<T> {
    pub(super) fn new(kind: Kind, items: Vec<T>) -> Result<Section<T>, CatalogError> {
        let mut by_id = FxHashMap::default();
        let mut by_name = FxHashMap::default();
        for (index, item) in items.iter().enumerate() {
            if item.id() == 0 || by_id.insert(item.id(), index).is_some() {
                return Err(CatalogError::BadId {
                    kind,
                    name: item.name().to_owned(),
                    id: item.id(),
                });
            }
        }
        // A full name goes before another object's alias.
        for (index, item) in items.iter().enumerate() {
            by_name.insert(item.name().to_owned(), index);
        }
        for (index, item) in items.iter().enumerate() {
            if !item.alias().is_empty() {
                by_name.entry(item.alias().to_owned()).or_insert(index);
            }
        }
        Ok(Section {
            kind,
            items,
            by_id,
            by_name,
        })
    }

    /// All of them, in P4Info's order.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.items.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The one with the id.
    pub fn get(&self, id: u32) -> Option<&T> {
        self.items.get(*self.by_id.get(&id)?)
    }

    /// The one with the id.
    ///
    /// # Errors
    /// There is none.
    pub fn with_id(&self, id: u32) -> Result<&T, CatalogError> {
        self.get(id).ok_or(CatalogError::UnknownId {
            kind: self.kind,
            id,
        })
    }

    /// The one with the full name, the alias, or the unique suffix.
    ///
    /// # Errors
    /// None or several have it.
    pub fn named(&self, name: &str) -> Result<&T, CatalogError> {
        if let Some(item) = self.by_name.get(name).and_then(|i| self.items.get(*i)) {
            return Ok(item);
        }
        let matching: Vec<&T> = self
            .items
            .iter()
            .filter(|item| is_suffix(item.name(), name))
            .collect();
        match matching.as_slice() {
            [item] => Ok(item),
            [] => Err(CatalogError::Unknown {
                kind: self.kind,
                name: name.to_owned(),
                near: near(name, self.items.iter().flat_map(|i| [i.alias(), i.name()])),
            }),
            several => Err(CatalogError::Ambiguous {
                kind: self.kind,
                name: name.to_owned(),
                candidates: several.iter().map(|i| i.name().to_owned()).collect(),
            }),
        }
    }
}

/// At most three of the names that resemble `name`, nearest first.
fn near<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let limit = name.chars().count().div_ceil(3).max(2);
    let mut found: BTreeMap<(usize, &str), ()> = BTreeMap::new();
    for candidate in names {
        let last = candidate.rsplit('.').next().unwrap_or(candidate);
        let distance = strsim::damerau_levenshtein(name, candidate)
            .min(strsim::damerau_levenshtein(name, last));
        if distance <= limit {
            found.insert((distance, candidate), ());
        }
    }
    let mut names: Vec<String> = found.into_keys().map(|(_, n)| n.to_owned()).collect();
    // An alias and the full name that ends in it are one suggestion.
    let all = names.clone();
    names.retain(|n| !all.iter().any(|m| m != n && is_suffix(n, m)));
    names.truncate(3);
    names
}
