//! The control plane of a running switch: entries, counters, meters, registers, groups.
//!
//! All of it is by typed index (see [`crate::Schema`]) and value; a refused operation has no effect.

mod values;

pub use values::{
    ActionCall, CloneSession, CounterValue, Entry, EntryAction, EntryHandle, EntryView, GroupId,
    IdleNotice, Match, MemberId, MeterColor, MeterRate, Replica, ValueSetMember,
};
