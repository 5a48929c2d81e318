//! A soak: random arrivals over all services of one cascade, on a clock that runs as fast as it can, until
//! every lease is over; then nothing may be left, and every packet must be accounted for.
//!
//! Agent and manager are the real ones, between the hosts and them stands a switch that moves tuples (the
//! agent's stand-in). Half a minute of that is hours of theirs; `SOAK=1` runs it for ten minutes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a failure is to stop the test with its place"
)]

mod hosts;
mod site;

use std::time::{Duration, Instant};

use site::Site;

/// Resident memory of this process in bytes; `None` where it cannot be told.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// How long, by the wall.
fn length() -> Duration {
    match std::env::var("SOAK").is_ok_and(|value| value == "1") {
        true => Duration::from_secs(600),
        false => Duration::from_secs(25),
    }
}

// A1.2, A1.3, A4.2
#[test]
fn after_random_arrivals_over_all_services_nothing_is_left_and_every_packet_is_accounted_for() {
    let begin = Instant::now();
    let seed = match std::env::var("SIGNALBOX_SEED").ok() {
        Some(seed) => seed.parse().unwrap(),
        None => 1,
    };
    let mut site = Site::new(seed);
    let mut warm = None;
    let mut rounds = 0;
    while rounds < 4 || begin.elapsed() < length() {
        site.round();
        rounds += 1;
        // Tables and buffers have found their sizes after some rounds.
        if rounds == 3 {
            warm = resident();
        }
    }
    println!("{rounds} rounds, {}", site.summary());
    site.met_everything();
    if let (Some(warm), Some(end)) = (warm, resident()) {
        let grown = end.saturating_sub(warm);
        let most = 4 << 20;
        assert!(
            grown < most,
            "grown by {grown} bytes in {} rounds",
            rounds - 3
        );
    }
}
