//! Agents on stand-in switches, managers with their backups, who may divide services and divide them anew, lines
//! between them that lose, double and delay, and hosts with flows, in one process, on one clock, and out of one
//! seed.
//!
//! A [`story::Story`] follows from its seed: who is there, and what happens when. [`run::run`] plays it on a
//! [`net::Net`], whose [`watch::Watch`] compares what leaves the switches, and what agents hold, with what
//! docs/semantics.md promises. A story that breaks a promise is made as short as it can be
//! ([`shrink::shrink`]) and told in words. Nothing here decides anything: agents and managers are the real
//! machines. A [`bug::Bug`] is put between them to show that it would be found.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a failure is to stop the story with its place"
)]

pub mod bug;
pub mod division;
pub mod hosts;
pub mod link;
pub mod net;
pub mod random;
pub mod run;
pub mod shrink;
pub mod site;
pub mod story;
pub mod telling;
pub mod transcript;
pub mod watch;

#[cfg(test)]
mod tests;
