//! Tests of the `signalbox` program from outside: its commands, and real programs that talk to each
//! other through it. What a test needs of the machine it asks for by name, and is skipped by name
//! where that is missing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "test code: a failure is to stop the test with its place"
)]

mod commands;
#[path = "../../bmv2-tests/src/etcd.rs"]
mod etcd;
mod flood;
mod grpc;
mod lab;
#[path = "../../bmv2-tests/src/needs.rs"]
mod needs;
#[path = "../../bmv2-tests/src/process.rs"]
mod process;
mod processes;
mod programs;
mod reports;
mod running;
mod semantics;

/// The program under test.
const SIGNALBOX: &str = env!("CARGO_BIN_EXE_signalbox");
