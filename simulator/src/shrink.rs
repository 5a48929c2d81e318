//! Takes away from a story that breaks a promise whatever it can do without.

use std::time::Duration;

use signalbox_agent::channel::Faults;

use crate::bug::Bug;
use crate::run::run;
use crate::story::{Setup, Story};
use crate::watch::Violation;

/// Stories that are played at most.
const PLAYED: usize = 500;

/// The shortest story found that breaks the same promise, and how it does; `None` if this one breaks none.
#[must_use]
pub fn shrink(story: &Story, bug: Option<Bug>) -> Option<(Story, Violation)> {
    let violation = run(story, bug).err()?;
    let mut best = (story.clone(), violation);
    let mut left = PLAYED;
    let mut shorter = |best: &mut (Story, Violation), story: Story| {
        if left == 0 || story == best.0 {
            return false;
        }
        left -= 1;
        match run(&story, bug) {
            Err(v) if v.statement == best.1.statement => {
                *best = (story, v);
                true
            }
            _ => false,
        }
    };
    for setup in simpler(&story.setup) {
        let story = Story {
            setup: setup(&best.0.setup),
            ..best.0.clone()
        };
        shorter(&mut best, story);
    }
    let mut size = best.0.steps.len().div_ceil(2);
    loop {
        let (mut at, mut any) = (0, false);
        while at < best.0.steps.len() {
            let gone = |keep_time| without(&best.0, at, size, keep_time);
            let (later, sooner) = (gone(true), gone(false));
            match shorter(&mut best, later) || shorter(&mut best, sooner) {
                true => any = true,
                false => at += size,
            }
        }
        if size > 1 {
            size = size.div_ceil(2);
        } else if !any {
            return Some(best);
        }
    }
}

/// A story without some of its steps. What comes after them comes when it came, or by so much sooner.
fn without(story: &Story, at: usize, size: usize, keep_time: bool) -> Story {
    let mut story = story.clone();
    let end = (at + size).min(story.steps.len());
    let gone: Duration = story.steps.drain(at..end).map(|step| step.wait).sum();
    if let Some(next) = story.steps.get_mut(at).filter(|_| keep_time) {
        next.wait += gone;
    }
    story
}

/// Setups in which less can go wrong. Agents and managers stay, since events name them by their place.
fn simpler(_: &Setup) -> [fn(&Setup) -> Setup; 5] {
    [
        |s| Setup {
            replicate: None,
            ..s.clone()
        },
        |s| Setup {
            lines: Faults::none(),
            ..s.clone()
        },
        |s| Setup {
            dead_stay_dead: false,
            ..s.clone()
        },
        |s| Setup {
            shared: s.shared.map(|_| false),
            ..s.clone()
        },
        |s| Setup {
            shared: None,
            ..s.clone()
        },
    ]
}
