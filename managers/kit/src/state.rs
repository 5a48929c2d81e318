//! Shared state: who is alive, who decides what, and with which epoch. Never on a packet's way.
//!
//! The store here is in memory, for one process; a shared one implements the same trait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// A small ordered map with compare-and-swap.
pub trait StateStore: Send + Sync {
    /// A key's value.
    fn get(&self, key: &str) -> Option<Bytes>;

    /// Sets a key to `new` if its value is `old`; says whether it was. `None` stands for absence.
    fn swap(&self, key: &str, old: Option<&[u8]>, new: Option<Bytes>) -> bool;

    /// Keys that begin so, in order, with their values.
    fn list(&self, prefix: &str) -> Vec<(String, Bytes)>;
}

/// A store of one process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    map: Arc<Mutex<BTreeMap<String, Bytes>>>,
}

impl StateStore for MemoryStore {
    fn get(&self, key: &str) -> Option<Bytes> {
        let map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        map.get(key).cloned()
    }

    fn swap(&self, key: &str, old: Option<&[u8]>, new: Option<Bytes>) -> bool {
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if map.get(key).map(|v| &**v) != old {
            return false;
        }
        match new {
            Some(new) => map.insert(key.to_owned(), new),
            None => map.remove(key),
        };
        true
    }

    fn list(&self, prefix: &str) -> Vec<(String, Bytes)> {
        let map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        map.range(prefix.to_owned()..)
            .take_while(|(k, _)| k.starts_with(prefix))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }
}

/// Takes the next epoch of a share of a service: higher than any that was taken from this store.
pub fn raise_epoch(store: &dyn StateStore, service: &str, share: u32) -> u64 {
    let key = format!("epoch/{service}/{share}");
    loop {
        let old = store.get(&key);
        let number = (old.as_deref())
            .and_then(|b| b.try_into().ok())
            .map_or(0, u64::from_be_bytes);
        let next = number + 1;
        let new = Bytes::copy_from_slice(&next.to_be_bytes());
        if store.swap(&key, old.as_deref(), Some(new)) {
            return next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_is_taken_once() {
        let store = MemoryStore::default();
        assert_eq!(raise_epoch(&store, "web", 0), 1);
        assert_eq!(raise_epoch(&store.clone(), "web", 0), 2);
        assert_eq!(raise_epoch(&store, "web", 1), 1);
        assert_eq!(store.list("epoch/").len(), 2);
    }
}
