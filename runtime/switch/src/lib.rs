//! The switch: bmv2 JSON to a running v1model pipeline that behaves as simple_switch does.
//!
//! [`Switch`] is a pure step, `(state, time, port, packet) → packets`: no thread, clock, lock or
//! I/O is in it. Everything a user names in P4 (tables, counters, …) is found by name in the
//! [`Schema`] and addressed by a typed index from then on. It knows nothing of policies or agents.

pub mod bits;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod error;
pub mod output;
pub mod ports;
pub mod runner;
pub mod schema;
pub mod server;
pub mod trace;

mod code;
mod exec;
mod load;
mod meter;
#[cfg(test)]
mod sample;
mod switch;
mod table;

pub use bits::Bits;
pub use config::{Config, Quirks};
pub use control::{
    ActionCall, CloneSession, CounterValue, Entry, EntryAction, EntryHandle, EntryView, GroupId,
    IdleNotice, Match, MemberId, MeterColor, MeterRate, Replica, ValueSetMember,
};
pub use error::{ControlError, LoadError};
pub use output::{Digest, DropReason, Drops, Output, OutputPacket};
pub use schema::{
    ActionId, ActionProfileId, CounterId, DigestId, MatchKind, MeterId, RegisterId, Schema,
    TableId, ValueSetId,
};
pub use switch::{Pipeline, Switch};

/// Microseconds since the switch started; the unit of every time in this crate.
pub type Micros = u64;
