//! A client, a server, a switch with its agent, a gate, and a network that loses, delays, doubles and swaps
//! packets, all on one clock and out of one seed.
//!
//! The hosts' TCP is smoltcp's, which knows nothing of ours. Whatever the network does, each host gets the
//! other's bytes exactly or learns that the connection is over, within bounded time, and neither is left with
//! half a connection.

mod host;
mod line;
mod site;
mod story;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use site::Site;
use story::Story;

/// Seeds of a run.
const CASES: u64 = 10_000;
/// Within so long everything is over, whatever has happened.
const OVER: Duration = Duration::from_secs(900);

/// And within so many events.
const EVENTS: u64 = 100_000;

/// What has become of a run.
#[derive(Debug, Default, Clone)]
struct Tally(BTreeMap<String, u64>);

impl Tally {
    fn add(&mut self, what: &str, n: u64) {
        if n > 0 {
            *self.0.entry(what.to_owned()).or_default() += n;
        }
    }

    fn get(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }
}

/// Runs one seed; says what happened, or what must not.
fn run(seed: u64, verbose: bool) -> Result<Tally, String> {
    let story = Story::new(seed);
    if verbose {
        println!("{story:#?}");
    }
    let mut site = Site::new(story.clone(), verbose);
    while !site.is_over() {
        if !site.step()? {
            return Err(format!("nothing happens any more: {}", site.state()));
        }
        if site.events() > EVENTS {
            return Err(format!("a storm of packets: {}", site.state()));
        }
        if site.now() > OVER {
            return Err(format!("stuck after {OVER:?}: {}", site.state()));
        }
    }
    site.verdict()
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

// A3.6, A3.8, A3.9, A3.10, A3.11, A3.12, A3.13
#[test]
fn whatever_the_network_does_the_streams_are_identical_or_reset() {
    if let Some(seed) = environment("SIGNALBOX_SEED") {
        let tally = run(seed, true).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        println!("{:#?}", tally.0);
        return;
    }
    let cases = environment("SIGNALBOX_CASES").unwrap_or(CASES);
    let next = AtomicU64::new(0);
    let work = || {
        let mut tally = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= cases {
                return tally;
            }
            let one = run(seed, false).unwrap_or_else(|error| {
                panic!(
                    "seed {seed}: {error}\nagain: SIGNALBOX_SEED={seed} cargo test -p signalbox-gate --lib whatever -- --nocapture"
                )
            });
            for (what, n) in one.0 {
                tally.add(&what, n);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in all {
            for (what, n) in thread.join().unwrap().0 {
                tally.add(&what, n);
            }
        }
    });
    println!("{cases} seeds: {:#?}", tally.0);
    if cases < 1000 {
        return;
    }
    // The network is hostile, but mostly a connection comes about, and mostly the switch gets it.
    assert!(tally.get("both streams whole") * 2 > cases);
    assert!(tally.get("gate: switched over") * 2 > cases);
    // See `Host::wake`: were the gate to blame, there would be more.
    assert!(tally.get("a host's TCP was woken") * 1000 < cases);
    for seen in [
        "gate: closed",
        "gate: denied",
        "gate: not in time",
        "gate: smaller segments",
        "gate: server refused",
        "gate: server silent",
        "gate: silent",
        "gate: look refused",
        "gate: client reset",
        "gate: server reset",
        "gate: strange segment",
        "gate: strange segment of a server",
        "gate: let go",
        "manager died",
        "numbers wrapped",
    ] {
        assert!(tally.get(seen) > 0, "no seed has shown `{seen}`");
    }
}
