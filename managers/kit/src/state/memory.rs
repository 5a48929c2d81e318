//! A store in memory, for the managers of one process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Life, StateError, StateStore};

type Map = BTreeMap<String, (Bytes, Option<u64>)>;

#[derive(Debug, Default)]
struct Shared {
    map: Map,
    users: u64,
}

/// A store of one process. Clones are the same user of it; [`MemoryStore::another`] is another one.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    user: Arc<User>,
}

/// Somebody to whom keys can be bound.
#[derive(Debug, Default)]
struct User {
    shared: Arc<Mutex<Shared>>,
    number: u64,
}

impl User {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self) {
        let number = Some(self.number);
        self.shared().map.retain(|_, (_, bound)| *bound != number);
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.leave();
    }
}

impl MemoryStore {
    /// Another user of the same store.
    #[must_use]
    pub fn another(&self) -> Self {
        let number = {
            let mut shared = self.user.shared();
            shared.users += 1;
            shared.users
        };
        let shared = Arc::clone(&self.user.shared);
        Self {
            user: Arc::new(User { shared, number }),
        }
    }

    /// Takes the next epoch of a share of a service: higher than any that was taken so.
    #[must_use]
    pub fn raise_epoch(&self, service: &str, share: u32) -> u64 {
        let mut shared = self.user.shared();
        let key = format!("epoch/{service}/{share}");
        let old = shared.map.get(&key).map(|(value, _)| value);
        let number = (old.and_then(|b| (&**b).try_into().ok())).map_or(0, u64::from_be_bytes);
        let next = number + 1;
        let new = Bytes::copy_from_slice(&next.to_be_bytes());
        shared.map.insert(key, (new, None));
        next
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StateError> {
        let shared = self.user.shared();
        Ok(shared.map.get(key).map(|(value, _)| value.clone()))
    }

    async fn swap(
        &self,
        key: &str,
        old: Option<&[u8]>,
        new: Option<Bytes>,
        life: Life,
    ) -> Result<bool, StateError> {
        let mut shared = self.user.shared();
        if shared.map.get(key).map(|(value, _)| &**value) != old {
            return Ok(false);
        }
        let bound = (life == Life::Bound).then_some(self.user.number);
        match new {
            Some(new) => shared.map.insert(key.to_owned(), (new, bound)),
            None => shared.map.remove(key),
        };
        Ok(true)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, StateError> {
        let shared = self.user.shared();
        Ok((shared.map.range(prefix.to_owned()..))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, (value, _))| (key.clone(), value.clone()))
            .collect())
    }

    async fn leave(&self) {
        self.user.leave();
    }

    fn place(&self) -> String {
        "in this process".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_is_taken_once() {
        let store = MemoryStore::default();
        assert_eq!(store.raise_epoch("web", 0), 1);
        assert_eq!(store.clone().raise_epoch("web", 0), 2);
        assert_eq!(store.another().raise_epoch("web", 0), 3);
        assert_eq!(store.raise_epoch("web", 1), 1);
    }
}
