//! The P4Runtime server of a switch: arbitration, pipelines, writes, reads and packet I/O.
//!
//! [`DeviceState`] is the whole of it as a pure step over the switch core; [`Device`] is the shell
//! that runs it on the switch's thread and offers it in process; [`listen`] puts gRPC before it.
//! It maps P4Info's ids to the core's objects by name and knows nothing of policies.

mod actions;
mod arbitration;
mod arrays;
mod binding;
mod device;
mod digests;
mod direct;
mod entries;
mod entry_messages;
mod keys;
mod layout;
mod listen;
mod p4data;
mod pipeline;
mod profiles;
mod read;
mod reconcile;
mod refusal;
mod replication;
mod state;
mod streams;
mod value_sets;
mod write;

#[cfg(test)]
mod tests;

pub use arbitration::StreamId;
pub use device::Device;
pub use listen::{ListenError, ListenOptions, Listening, TlsFiles, listen};
pub use pipeline::Candidate;
pub use state::{DeviceCounters, DeviceState, Options};

/// The version of the protocol that the server speaks.
pub const API_VERSION: &str = "1.5.0";
