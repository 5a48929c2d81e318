//! Shared state: who is alive, who decides what and with which epoch, and who has which outside ports. Never on
//! a packet's way.
//!
//! A [`StateStore`] is a small ordered map with compare-and-swap: [`MemoryStore`] for the managers of one process,
//! [`EtcdStore`] for those of many machines. It does not know what its keys mean.

mod etcd;
mod memory;
mod round;

use async_trait::async_trait;
use bytes::Bytes;

pub use etcd::{BadEndpoints, Endpoints, EtcdStore};
pub use memory::MemoryStore;
pub use round::{Alive, BlockRound, Found, Round, ShareFound, ShareRound, carry_out};

/// Why a store has not done what was asked, and which one it is. A swap that has ended so may have been made or not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Nothing answers there, or what answers has no leader.
    #[error("no etcd answers at {at}: {why}")]
    Unreachable {
        /// HOST:PORT.
        at: String,
        /// What was tried.
        why: String,
    },
    /// No answer in time.
    #[error("etcd at {at} has not answered within {ms} ms")]
    Slow {
        /// HOST:PORT.
        at: String,
        /// The deadline.
        ms: u64,
    },
    /// It takes nothing new (its NOSPACE alarm).
    #[error(
        "etcd at {at} is full: compact and defragment it or give it a larger `--quota-backend-bytes`, then \
         `etcdctl alarm disarm`"
    )]
    Full {
        /// HOST:PORT.
        at: String,
    },
    /// It wants somebody else to ask.
    #[error("etcd at {at} denies it: {why}")]
    Denied {
        /// HOST:PORT.
        at: String,
        /// Its words.
        why: String,
    },
    /// Anything else that it said.
    #[error("etcd at {at} answers: {why}")]
    Failed {
        /// HOST:PORT.
        at: String,
        /// Its words.
        why: String,
    },
}

/// How long a key lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Until it is taken out.
    Lasting,
    /// As long as this user of the store: it goes when the store is told to leave, and some seconds after it was
    /// dropped, its process has died, or the way to it has broken.
    Bound,
}

/// A small ordered map with compare-and-swap. Every call ends within a few seconds, whatever the store does.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// A key's value.
    ///
    /// # Errors
    /// The store has not said.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StateError>;

    /// Sets a key to `new` if its value is `old`; says whether it was. `None` stands for absence.
    ///
    /// # Errors
    /// The store has not said whether it has done so.
    async fn swap(
        &self,
        key: &str,
        old: Option<&[u8]>,
        new: Option<Bytes>,
        life: Life,
    ) -> Result<bool, StateError>;

    /// Keys that begin so, in order, with their values.
    ///
    /// # Errors
    /// The store has not said all of them.
    async fn list(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, StateError>;

    /// Takes out what is bound to this user of the store, as far as that can be done now.
    async fn leave(&self);

    /// Where it is, for people.
    fn place(&self) -> String;
}
