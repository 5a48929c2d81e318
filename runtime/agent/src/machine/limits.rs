//! How many new flows a service lets in: at once and in a second, in all and of one source (the plan's
//! limits). It only counts; a flow that is established is never touched.
//!
//! Rates are a generic cell rate algorithm on the agent's clock, with room for one second's flows. Sources
//! are remembered while they have half-open flows or have not their whole rate again; when there is no room
//! for another one, all further sources share one place, so that a flood of invented sources costs no memory
//! and shuts out only sources that were not there before.

use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;
use signalbox_lower::plan::Limits;

/// Sources of a service that are remembered one by one.
const SOURCES: usize = 65_536;
/// Between two attempts to forget sources when there is no room.
const SWEEP: Duration = Duration::from_millis(100);
const SECOND: u64 = 1_000_000_000;

/// Which limit a new flow is beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beyond {
    HalfOpen,
    HalfOpenOfSource,
    Rate,
    RateOfSource,
}

/// When the next flow would be due if all came evenly, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    next: u64,
}

impl Rate {
    /// From when the flow after one now would be due; `None` if there is none for it now.
    fn after(self, now: u64, per_second: u32) -> Option<Self> {
        let step = SECOND.checked_div(u64::from(per_second))?;
        let next = self.next.max(now) + step;
        (next - now <= SECOND).then_some(Self { next })
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Source {
    half_open: u32,
    rate: Rate,
}

/// A service's door.
#[derive(Debug, Default)]
pub(super) struct Door {
    half_open: u32,
    rate: Rate,
    sources: FxHashMap<IpAddr, Source>,
    /// All sources for which there was no room.
    rest: Source,
    sweep: Duration,
}

/// Whether the limits have anything to do with half-open flows.
pub(super) fn watches_answers(limits: &Limits) -> bool {
    limits.half_open.is_some() || limits.half_open_per_source.is_some()
}

fn by_source(limits: &Limits) -> bool {
    limits.half_open_per_source.is_some() || limits.new_per_second_per_source.is_some()
}

impl Door {
    /// Lets a new flow in that a manager is to be asked about: it counts as half open, until [`Self::leave`]
    /// takes what this returns. Beyond a limit, nothing changes.
    pub fn admit(
        &mut self,
        limits: &Limits,
        now: Duration,
        source: IpAddr,
    ) -> Result<bool, Beyond> {
        let at = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX / 2);
        if limits.half_open.is_some_and(|most| self.half_open >= most) {
            return Err(Beyond::HalfOpen);
        }
        let rate = match limits.new_per_second {
            Some(most) => self.rate.after(at, most).ok_or(Beyond::Rate)?,
            None => self.rate,
        };
        let in_rest = by_source(limits) && self.has_no_room(now, source);
        if by_source(limits) {
            let known = self.sources.get(&source).copied().unwrap_or_default();
            let mut state = if in_rest { self.rest } else { known };
            let most = limits.half_open_per_source;
            if most.is_some_and(|most| state.half_open >= most) {
                return Err(Beyond::HalfOpenOfSource);
            }
            if let Some(most) = limits.new_per_second_per_source {
                state.rate = state.rate.after(at, most).ok_or(Beyond::RateOfSource)?;
            }
            *self.source(source, in_rest) = state;
        }
        self.rate = rate;
        self.count(limits, source, in_rest);
        Ok(in_rest)
    }

    /// A flow is half open from now on, whatever the limits.
    pub fn enter(&mut self, limits: &Limits, now: Duration, source: IpAddr) -> bool {
        let in_rest = by_source(limits) && self.has_no_room(now, source);
        self.count(limits, source, in_rest);
        in_rest
    }

    fn count(&mut self, limits: &Limits, source: IpAddr, in_rest: bool) {
        self.half_open += 1;
        if by_source(limits) {
            self.source(source, in_rest).half_open += 1;
        }
    }

    /// A flow is half open no more.
    pub fn leave(&mut self, source: IpAddr, in_rest: bool) {
        self.half_open = self.half_open.saturating_sub(1);
        let state = if in_rest {
            Some(&mut self.rest)
        } else {
            self.sources.get_mut(&source)
        };
        if let Some(state) = state {
            state.half_open = state.half_open.saturating_sub(1);
        }
    }

    fn source(&mut self, source: IpAddr, in_rest: bool) -> &mut Source {
        if in_rest {
            return &mut self.rest;
        }
        self.sources.entry(source).or_default()
    }

    /// Whether a source must share its place. Makes room if it can.
    fn has_no_room(&mut self, now: Duration, source: IpAddr) -> bool {
        if self.sources.len() < SOURCES || self.sources.contains_key(&source) {
            return false;
        }
        if now >= self.sweep {
            self.sweep = now + SWEEP;
            let at = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX / 2);
            (self.sources).retain(|_, s| s.half_open > 0 || s.rate.next > at);
        }
        self.sources.len() >= SOURCES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        crate::testing::plan().services[0].limits.clone()
    }

    fn source(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn a_rate_lets_one_seconds_flows_in_at_once_and_then_one_at_its_time() {
        let limits = Limits {
            new_per_second: Some(4),
            ..limits()
        };
        let mut door = Door::default();
        let mut ask = |ms: u64| {
            let now = Duration::from_millis(10_000 + ms);
            door.admit(&limits, now, source(1)).is_ok()
        };
        assert_eq!([0; 5].map(&mut ask), [true, true, true, true, false]);
        assert_eq!([249, 250, 251].map(&mut ask), [false, true, false]);
    }

    #[test]
    fn a_rate_of_nothing_lets_nothing_in() {
        let limits = Limits {
            new_per_second: Some(0),
            ..limits()
        };
        let mut door = Door::default();
        let got = door.admit(&limits, Duration::from_secs(9), source(1));
        assert_eq!(got, Err(Beyond::Rate));
    }

    #[test]
    fn a_flood_of_invented_sources_is_bounded_in_memory_and_lets_known_ones_be() {
        let limits = Limits {
            new_per_second_per_source: Some(2),
            half_open_per_source: Some(10),
            ..limits()
        };
        let mut door = Door::default();
        let now = Duration::from_secs(1);
        assert!(door.admit(&limits, now, source(0)).is_ok());
        let admitted = (1..200_000).filter(|n| door.admit(&limits, now, source(*n)).is_ok());
        // Each that has a place, and two for all others together.
        assert_eq!(admitted.count(), SOURCES - 1 + 2);
        assert_eq!(door.sources.len(), SOURCES);
        assert!(
            door.admit(&limits, now, source(0)).is_ok(),
            "its second one"
        );

        // Half a second later they are still half open; when they have left, others find room.
        for n in 1..200_000 {
            door.leave(source(n), false);
        }
        let later = now + Duration::from_secs(2);
        assert!(door.admit(&limits, later, source(300_000)).is_ok());
        assert!(door.sources.len() < 10, "{}", door.sources.len());
    }
}
