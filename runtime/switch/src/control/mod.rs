//! The control plane of a running switch: entries, counters, meters, registers, groups.
//!
//! All of it is by typed index (see [`crate::Schema`]) and value; a refused operation has no effect.

mod arrays;
mod initial;
mod profiles;
mod replication;
mod tables;
mod values;

pub(crate) use tables::key_of;

pub(crate) use initial::start_table;
pub use values::{
    ActionCall, CloneSession, CounterValue, Entry, EntryAction, EntryHandle, EntryView, GroupId,
    IdleNotice, Match, MemberId, MeterColor, MeterRate, Replica, ValueSetMember,
};

/// What control operations give.
pub(crate) type Result<T> = std::result::Result<T, crate::ControlError>;
