//! bmv2's DataplaneInterface: packets in and out of a switch over gRPC, so that a test harness needs
//! neither root nor interfaces. A server for our switch, and a client for ours and bmv2's.

mod client;
mod server;

#[cfg(test)]
mod tests;

pub use client::{DataplaneClient, DataplaneError, DataplaneReceiver, DataplaneSender};
pub use server::Dataplane;

/// The service's messages, generated at build time from our own .proto file.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "generated code"
)]
pub mod proto {
    tonic::include_proto!("p4.bm");
}
