//! Many seeds, and bugs that are found.

use std::thread;
use std::time::Instant;

use crate::bug::Bug;
use crate::run::{self, Tally, run};
use crate::shrink::shrink;
use crate::story::Story;
use crate::watch::Violation;

/// Seeds of a run: about a minute on two cores.
const SEEDS: u64 = 20_000;
/// A bug is found within so many.
const FOUND: u64 = 3_000;

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn tell(seed: u64, bug: Option<Bug>) -> String {
    let Some((story, violation)) = shrink(&Story::new(seed), bug) else {
        return format!("seed {seed} breaks nothing");
    };
    let transcript = match environment("SIMULATOR_SEED") {
        Some(_) => run::transcribe(&story, bug).join("\n") + "\n",
        None => String::new(),
    };
    format!(
        "{} is broken at {:?}: {}\n{story}{transcript}again: SIMULATOR_SEED={seed} cargo test -p signalbox-simulator whatever -- --nocapture",
        violation.statement, violation.at, violation.text
    )
}

/// Plays each of these seeds' stories: what has happened in all, and what was broken.
fn play(seeds: impl Iterator<Item = u64>) -> (Tally, Vec<(u64, Violation)>) {
    let mut all = Tally::default();
    let mut bad = Vec::new();
    for seed in seeds {
        match run(&Story::new(seed), None) {
            Ok(tally) => all.add(&tally),
            Err(violation) => bad.push((seed, violation)),
        }
    }
    (all, bad)
}

/// The same on all cores.
fn play_side_by_side(first: u64, seeds: u64) -> (Tally, Vec<(u64, Violation)>) {
    let cores = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let (mut all, mut bad) = (Tally::default(), Vec::new());
    thread::scope(|scope| {
        let parts: Vec<_> = (0..cores)
            .map(|n| scope.spawn(move || play((first + n..first + seeds).step_by(cores as usize))))
            .collect();
        for part in parts {
            let (tally, broken) = part.join().unwrap();
            all.add(&tally);
            bad.extend(broken);
        }
    });
    bad.sort_by_key(|(seed, _)| *seed);
    (all, bad)
}

// A2.3, A2.10, A2.14, A2.15, A6.1, A6.2, A6.3, A7.1, A7.3, A7.4, A7.5, A7.6, A7.7, A8.3, A8.4, A8.5, A8.6, A9.1, A9.2, A9.4, A9.7, A9.8, A9.9, A9.10
#[test]
fn whatever_happens_to_agents_and_managers_flows_keep_what_they_have() {
    if let Some(seed) = environment("SIMULATOR_SEED") {
        println!("{}", Story::new(seed));
        match run(&Story::new(seed), None) {
            Ok(tally) => println!("{tally:#?}"),
            Err(_) => panic!("{}", tell(seed, None)),
        }
        return;
    }
    let first = environment("SIMULATOR_FIRST").unwrap_or(0);
    let seeds = environment("SIMULATOR_SEEDS").unwrap_or(SEEDS);
    let start = Instant::now();
    let (all, bad) = play_side_by_side(first, seeds);
    println!("{seeds} seeds in {:?}: {all:?}", start.elapsed());
    if let Some((seed, _)) = bad.first() {
        let others: Vec<_> = bad.iter().map(|(seed, v)| (seed, v.statement)).collect();
        panic!(
            "{} of {seeds} seeds: {others:?}\n{}",
            bad.len(),
            tell(*seed, None)
        );
    }
    // Much goes wrong, and yet most flows come about.
    assert!(all.established * 2 > all.opened, "{all:?}");
    assert!(
        all.faults as u64 > 3 * seeds && all.takeovers > seeds,
        "{all:?}"
    );
    assert!(all.moved as u64 * 3 > seeds, "{all:?}");
    assert!(all.divided as u64 * 20 > seeds, "{all:?}");
}

#[test]
fn a_seed_is_the_same_story_every_time() {
    for seed in 0..20 {
        let story = Story::new(seed);
        assert_eq!(run(&story, None), run(&Story::new(seed), None));
    }
}

#[test]
fn every_bug_is_found_and_told_as_a_short_story() {
    for bug in Bug::ALL {
        let found = (0..FOUND).find(|seed| run(&Story::new(*seed), Some(bug)).is_err());
        let seed = found.unwrap_or_else(|| panic!("{bug:?} is not found"));
        let (story, _) = shrink(&Story::new(seed), Some(bug)).unwrap();
        println!("{bug:?}: {}", tell(seed, Some(bug)));
        assert!(story.steps.len() <= 10, "{bug:?}: {story}");
        assert_eq!(run(&story, None).err(), None, "it is the bug's doing");
    }
}
