//! What every store keeps to, on the one in memory and on a real etcd; and what becomes of calls to an etcd that is
//! slow, full, wiped or away.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    reason = "test code: a failure is to stop the test with its place; what is shared is not all used here"
)]

#[path = "../../../../bmv2-tests/src/etcd.rs"]
mod etcd;
#[path = "../../../../bmv2-tests/src/needs.rs"]
mod needs;
#[path = "../../../../bmv2-tests/src/process.rs"]
mod process;

mod outages;
mod rounds;
mod stores;
