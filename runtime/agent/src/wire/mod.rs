//! The protobuf form of the affinity protocol: [`pb`] is generated from proto/affinity.proto, and the
//! functions here check what comes in and write what goes out.
//!
//! A message that makes no sense is an error here and nowhere later: past this border every value is in
//! its range.

mod criterion;
mod from_agent;
mod from_manager;
mod parts;

/// The generated types.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "generated code; proto/affinity.proto documents it"
)]
pub mod pb {
    tonic::include_proto!("signalbox.affinity.v1");
}

pub use from_agent::{read_from_agent, write_from_agent};
pub use from_manager::{read_from_manager, write_from_manager};
pub use parts::{read_affinity, write_affinity};

/// Why a protobuf message is not one of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field that must be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field's value is outside its range.
    #[error("`{0}` is out of range")]
    Range(&'static str),
}

#[cfg(test)]
mod tests;
