//! The scenarios: what the generated pipeline of any policy must be seen to do, and what each asks of
//! the policy and needs of the target.

mod admission;
mod ageing;
mod balance;
mod filter;
mod notices;
mod routing;
mod writing;

pub use balance::flow_entries;

use crate::bench::Bench;
use crate::image::Image;
use crate::targets::{Need, Target};
use crate::world::{Setting, World};

/// One scenario.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// What it shows, as a name.
    pub name: &'static str,
    /// The policies that it is about.
    pub settings: &'static [Setting],
    /// What it needs of the target.
    pub needs: &'static [Need],
    /// Runs it.
    pub run: fn(Target, &Image, &World),
}

/// Shorthand for a scenario on a bench with everything installed.
macro_rules! scenarios {
    ($($name:ident $(in $($setting:ident),+)? $(needs $($need:ident),+)?;)*) => {
        /// Every scenario of this file.
        pub(super) const ALL: &[super::Scenario] = &[$(
            super::Scenario {
                name: stringify!($name),
                settings: &[$($(crate::world::Setting::$setting),+)?],
                needs: &[$($(crate::targets::Need::$need),+)?],
                run: |target, image, world| $name(&crate::bench::Bench::ready(target, image, world)),
            },
        )*];
    };
}
use scenarios;

/// Every scenario.
pub fn all() -> Vec<Scenario> {
    let files = [
        admission::OWN,
        admission::ALL,
        ageing::ALL,
        balance::ALL,
        filter::OWN,
        filter::ALL,
        notices::ALL,
        routing::ALL,
        writing::ALL,
    ];
    files.concat()
}

/// The slot of fixed affinities that scenarios count in.
fn slot(bench: &Bench) -> u32 {
    bench.world.balance().forward.first_fixed_slot() + 3
}
