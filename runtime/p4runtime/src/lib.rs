//! The P4Runtime protocol: types, client, encoding, reconciliation.
//!
//! Everything here knows P4Info and the wire, and nothing of policies. The
//! generated messages are in [`proto`]; [`text`] reads and prints P4Info.

pub mod proto;
pub mod text;
