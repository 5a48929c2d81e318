//! Memory of a running cascade: what 1,000,000 fixed affinities take in switch and agent together, with the
//! managers that have decided them in the same process. Prints the figure, writes it
//! where `ci/bench` finds it, and fails above 1 GB.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench that cannot run is to stop with its place"
)]

mod running;

use running::{ROUTED, Running, SYN};
use tokio::runtime::Runtime;

/// Each is a flow of two directions in three services.
const CONNECTIONS: u64 = 1_000_000 / 6 + 1;
const NAME: &str = "memory of 1000000 fixed affinities";
/// Bytes.
const MOST: u64 = 1_000_000_000;

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    let policy = running::policy("benches/cascade.policy");
    let syns = running::segments(&policy, ROUTED, [10, 1, 0, 80], CONNECTIONS, SYN);
    let running = Running::start(&runtime, &running::compiled(&policy));
    let before = running::resident();
    running.open(&runtime, &syns, true);
    let grown = running::resident() - before;
    let megabytes = grown / 1_000_000;
    println!("{NAME}: {megabytes} MB");
    let figure = serde_json::json!([{"bench": NAME, "megabytes": megabytes}]);
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/memory.json");
    std::fs::write(file, figure.to_string()).expect("a figure for ci/bench");
    assert!(grown <= MOST, "{grown} bytes");
}
