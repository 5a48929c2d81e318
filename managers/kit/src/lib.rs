//! What every service manager needs: sessions to many agents, criteria and heartbeats, memory of flows,
//! health checks through the switch, and a place for shared state.
//!
//! [`Manager`] is all of it as a deterministic state machine; [`shell`] drives it on a clock and channels. A
//! service's own decisions come in as a [`Decide`]; nothing here knows any one service.

pub mod decide;
pub mod health;
pub mod manager;
pub mod memory;
pub mod peer;
pub mod proxy;
mod react;
pub mod record;
mod replica;
pub mod segment;
mod service;
pub mod session;
pub mod shell;
pub mod state;
mod turned_down;

pub use decide::{
    Blocks, Choice, Decide, Decided, Opening, OutsideStatus, Reaction, Target, TargetStatus,
};
pub use manager::{
    AliveStatus, BlockStatus, Input, LinkCounts, LinkState, LinkStatus, Manager, Output, Served,
    ServiceStatus, Status, StoreCounts, StoreStatus,
};
pub use record::{Record, Reported};
pub use service::Counts;
