//! Who may come in, when, and how many of one source: the policy's `allow` and `limit` clauses. It knows
//! connections by their tuples and nothing of TCP.
//!
//! Only completed handshakes are counted, so that nobody can use up what belongs to another source.

use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;
use signalbox_agent::cover::cube_has_flow;
use signalbox_agent::flow::{PacketKind, Tuple};
use signalbox_lower::plan::{AllowPlan, GateBounds, WhenPlan};

/// Sources that are counted; one more is refused.
const SOURCES: usize = 131_072;
const DAY: u64 = 86_400;
const SECOND: Duration = Duration::from_secs(1);

/// Why a connection may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No clause names it.
    NotAllowed,
    /// A clause does, at another time.
    NotNow,
    /// There are as many as may be at once.
    Connections,
    /// As many of its source.
    SourceConnections,
    /// So many have come within a second.
    Rate,
    /// So many of its source.
    SourceRate,
    /// No more sources can be counted.
    Sources,
}

/// Connections that have come within the second that began at `since`.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    since: Duration,
    count: u32,
}

impl Rate {
    fn now(&mut self, now: Duration) -> &mut u32 {
        if now >= self.since + SECOND {
            self.since = now;
            self.count = 0;
        }
        &mut self.count
    }
}

#[derive(Debug, Default)]
struct Source {
    connections: u32,
    rate: Rate,
}

/// The clauses, and what they count.
#[derive(Debug)]
pub struct Rules {
    allow: Vec<AllowPlan>,
    bounds: GateBounds,
    connections: u32,
    rate: Rate,
    sources: FxHashMap<IpAddr, Source>,
    swept: Duration,
}

impl Rules {
    /// The rules of a policy.
    #[must_use]
    pub fn new(allow: Vec<AllowPlan>, bounds: GateBounds) -> Self {
        Self {
            allow,
            bounds,
            connections: 0,
            rate: Rate::default(),
            sources: FxHashMap::default(),
            swept: Duration::ZERO,
        }
    }

    /// Other rules from now on; what is counted stays.
    pub fn update(&mut self, allow: Vec<AllowPlan>, bounds: GateBounds) {
        self.allow = allow;
        self.bounds = bounds;
    }

    /// Whether a clause lets a connection in that comes by `port`; `utc` are seconds since 1970-01-01.
    ///
    /// # Errors
    /// None does, or not now.
    pub fn allows(&self, flow: &Tuple, port: u16, utc: u64) -> Result<(), Refused> {
        let mut refused = Refused::NotAllowed;
        for allow in &self.allow {
            let has = (allow.cubes.iter()).any(|cube| {
                cube_has_flow(cube, flow, PacketKind::Whole)
                    && cube.in_port.is_none_or(|p| p == port)
            });
            if has && allow.when.is_none_or(|when| is_within(&when, utc)) {
                return Ok(());
            }
            if has {
                refused = Refused::NotNow;
            }
        }
        Err(refused)
    }

    /// Whether the limits let one more connection of this source in. Nothing is counted.
    ///
    /// # Errors
    /// One of them does not.
    pub fn room(&mut self, now: Duration, source: IpAddr) -> Result<(), Refused> {
        let GateBounds {
            connections,
            connections_per_source,
            new_per_second,
            new_per_second_per_source,
            ..
        } = self.bounds;
        let full = |bound: Option<u32>, count: u32| bound.is_some_and(|bound| count >= bound);
        if full(connections, self.connections) {
            return Err(Refused::Connections);
        }
        if full(new_per_second, *self.rate.now(now)) {
            return Err(Refused::Rate);
        }
        if let Some(s) = self.sources.get_mut(&source) {
            if full(connections_per_source, s.connections) {
                return Err(Refused::SourceConnections);
            }
            if full(new_per_second_per_source, *s.rate.now(now)) {
                return Err(Refused::SourceRate);
            }
            return Ok(());
        }
        if self.sources.len() >= SOURCES {
            self.sweep(now);
        }
        if full(connections_per_source, 0) {
            return Err(Refused::SourceConnections);
        }
        if full(new_per_second_per_source, 0) {
            return Err(Refused::SourceRate);
        }
        if self.sources.len() >= SOURCES {
            return Err(Refused::Sources);
        }
        Ok(())
    }

    /// A connection of this source has come in, now and for the first time.
    pub fn enter(&mut self, now: Duration, source: IpAddr) {
        *self.rate.now(now) += 1;
        self.adopt(source);
        if let Some(s) = self.sources.get_mut(&source) {
            *s.rate.now(now) += 1;
        }
    }

    /// There is a connection of this source that came in before.
    pub fn adopt(&mut self, source: IpAddr) {
        self.connections += 1;
        self.sources.entry(source).or_default().connections += 1;
    }

    /// One of its connections is over.
    pub fn leave(&mut self, now: Duration, source: IpAddr) {
        self.connections = self.connections.saturating_sub(1);
        if let Some(s) = self.sources.get_mut(&source) {
            s.connections = s.connections.saturating_sub(1);
        }
        self.sweep(now);
    }

    /// Forgets sources that have no connection and had none within the last second.
    fn sweep(&mut self, now: Duration) {
        if now >= self.swept + SECOND {
            self.swept = now;
            (self.sources).retain(|_, s| s.connections > 0 || now < s.rate.since + SECOND);
        }
    }

    /// Connections, and sources that are counted.
    #[must_use]
    pub fn counted(&self) -> (u32, usize) {
        (self.connections, self.sources.len())
    }
}

fn is_within(when: &WhenPlan, utc: u64) -> bool {
    let second = u32::try_from(utc % DAY).unwrap_or(0);
    // The first of January 1970 was a Thursday.
    let today = (utc / DAY + 3) % 7;
    let has = |day: u64| when.days >> (day % 7) & 1 == 1;
    let (from, to) = (when.from_s, when.to_s);
    if from < to {
        return has(today) && (from..to).contains(&second);
    }
    // It ends on the day after it began.
    (second >= from && has(today)) || (second < to && has(today + 6))
}

#[cfg(test)]
mod tests {
    use signalbox_lower::plan::{Cube, MaskedAddr};

    use super::*;

    fn allow(net: [u8; 4], when: Option<WhenPlan>) -> AllowPlan {
        AllowPlan {
            label: "allow".into(),
            cubes: vec![Cube {
                src: Some(MaskedAddr {
                    value: net.into(),
                    mask: [255, 255, 255, 0].into(),
                }),
                ..Cube::default()
            }],
            when,
        }
    }

    fn flow(source: [u8; 4]) -> Tuple {
        Tuple {
            src: source.into(),
            dst: [10, 0, 1, 5].into(),
            proto: 6,
            sport: 40_000,
            dport: 22,
        }
    }

    const NO_BOUNDS: GateBounds = GateBounds {
        connections: None,
        connections_per_source: None,
        new_per_second: None,
        new_per_second_per_source: None,
        proxied: 10_000,
    };

    /// Seconds of 2026-11-26, a Thursday, at this hour; days and hours may go beyond.
    fn at(days: i64, hour: i64, second: i64) -> u64 {
        (1_795_651_200 + days * 86_400 + hour * 3600 + second) as u64
    }

    // A3.1
    #[test]
    fn a_source_comes_in_when_a_clause_names_it_and_its_time() {
        let office = WhenPlan {
            from_s: 8 * 3600,
            to_s: 18 * 3600,
            days: 0b001_1111,
        };
        let night = WhenPlan {
            from_s: 22 * 3600,
            to_s: 6 * 3600,
            days: 0b001_0000,
        };
        let list = vec![
            allow([192, 0, 2, 0], None),
            allow([198, 51, 100, 0], Some(office)),
            allow([203, 0, 113, 0], Some(night)),
        ];
        let rules = Rules::new(list, NO_BOUNDS);
        let may = |source, utc| rules.allows(&flow(source), 1, utc);
        assert_eq!(may([192, 0, 2, 9], 0), Ok(()));
        assert_eq!(may([192, 0, 3, 9], 0), Err(Refused::NotAllowed));
        let staff = [198, 51, 100, 7];
        for (day, hour, second, in_time) in [
            (0, 8, 0, true),
            (0, 8, -1, false),
            (0, 17, 3599, true),
            (0, 18, 0, false),
            (1, 12, 0, true),
            (2, 12, 0, false),
            (3, 12, 0, false),
            (4, 12, 0, true),
        ] {
            let wanted = if in_time {
                Ok(())
            } else {
                Err(Refused::NotNow)
            };
            assert_eq!(
                may(staff, at(day, hour, second)),
                wanted,
                "day {day} {hour}:{second}"
            );
        }
        // The night of Friday ends on Saturday.
        for (day, hour, in_time) in [
            (0, 23, false),
            (1, 5, false),
            (1, 23, true),
            (2, 5, true),
            (2, 7, false),
            (2, 23, false),
        ] {
            let wanted = if in_time {
                Ok(())
            } else {
                Err(Refused::NotNow)
            };
            assert_eq!(
                may([203, 0, 113, 1], at(day, hour, 0)),
                wanted,
                "day {day} {hour}"
            );
        }
    }

    #[test]
    fn limits_hold_for_each_source_and_for_all() {
        let bounds = GateBounds {
            connections: Some(5),
            connections_per_source: Some(3),
            new_per_second: Some(4),
            new_per_second_per_source: Some(2),
            ..NO_BOUNDS
        };
        let mut rules = Rules::new(Vec::new(), bounds);
        let (a, b, c) = (
            [192, 0, 2, 1].into(),
            [192, 0, 2, 2].into(),
            [192, 0, 2, 3].into(),
        );
        let s = Duration::from_secs;
        let come = |rules: &mut Rules, now, source| {
            rules
                .room(now, source)
                .inspect(|()| rules.enter(now, source))
        };
        assert_eq!(come(&mut rules, s(1), a), Ok(()));
        assert_eq!(come(&mut rules, s(1), a), Ok(()));
        assert_eq!(come(&mut rules, s(1), a), Err(Refused::SourceRate));
        assert_eq!(come(&mut rules, s(1), b), Ok(()));
        assert_eq!(come(&mut rules, s(1), b), Ok(()));
        assert_eq!(come(&mut rules, s(1), c), Err(Refused::Rate));
        assert_eq!(come(&mut rules, s(2), a), Ok(()));
        assert_eq!(come(&mut rules, s(2), a), Err(Refused::Connections));
        rules.leave(s(2), b);
        assert_eq!(come(&mut rules, s(2), a), Err(Refused::SourceConnections));
        rules.leave(s(2), a);
        assert_eq!(come(&mut rules, s(2), a), Ok(()));
    }

    // A3.4
    #[test]
    fn sources_that_have_left_are_forgotten_and_their_number_is_bounded() {
        let mut rules = Rules::new(Vec::new(), NO_BOUNDS);
        let s = Duration::from_secs;
        for n in 0..SOURCES as u32 {
            let source = IpAddr::from(n.to_be_bytes());
            assert_eq!(rules.room(s(1), source), Ok(()));
            rules.enter(s(1), source);
        }
        let next = IpAddr::from([255; 4]);
        assert_eq!(rules.room(s(1), next), Err(Refused::Sources));
        assert_eq!(
            rules.room(s(1), IpAddr::from([0; 4])),
            Ok(()),
            "known ones come in"
        );
        for n in 0..SOURCES as u32 {
            rules.leave(s(1), IpAddr::from(n.to_be_bytes()));
        }
        assert_eq!(rules.room(s(3), next), Ok(()));
        assert_eq!(rules.counted(), (0, 0));
    }
}
