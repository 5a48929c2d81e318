//! The scenarios: what the generated pipeline of any policy with a balance service must be seen to do.

mod admission;
mod balance;
mod notices;
mod routing;

pub use balance::flow_entries;

use crate::bench::Bench;
use crate::image::Image;
use crate::targets::{Need, Target};

/// One scenario.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// What it shows, as a name.
    pub name: &'static str,
    /// What it needs of the target.
    pub needs: &'static [Need],
    /// Runs it.
    pub run: fn(Target, &Image),
}

/// Shorthand for a scenario on a bench with everything installed.
macro_rules! scenarios {
    ($($name:ident $(needs $($need:ident),+)?;)*) => {
        /// Every scenario of this file.
        pub(super) const ALL: &[super::Scenario] = &[$(
            super::Scenario {
                name: stringify!($name),
                needs: &[$($(crate::targets::Need::$need),+)?],
                run: |target, image| $name(&crate::bench::Bench::ready(target, image)),
            },
        )*];
    };
}
use scenarios;

/// Every scenario.
pub fn all() -> Vec<Scenario> {
    let mut all = admission::OWN.to_vec();
    for file in [admission::ALL, balance::ALL, routing::ALL, notices::ALL] {
        all.extend(file);
    }
    all
}

/// The slot of fixed affinities that scenarios count in.
fn slot(bench: &Bench) -> u32 {
    bench.world.balance().forward.first_fixed_slot() + 3
}
