//! Scenarios that run on every target: the embedded switch, the same with bmv2's limits, the same over
//! gRPC, and `simple_switch_grpc` where it is on PATH.
//!
//! A [`bench::Bench`] is one target with a policy's image on it; a scenario sends packets and looks at
//! what comes out. Scenarios say what they need of a target. Nothing here knows how a target works.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "test code: a failure is to stop the scenario with its place"
)]

pub mod bench;
pub mod carried;
pub mod differential;
pub mod frames;
pub mod image;
pub mod needs;
pub mod process;
pub mod scenarios;
pub mod site;
pub mod targets;
pub mod world;
