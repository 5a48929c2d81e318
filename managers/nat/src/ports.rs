//! The ports (or ICMP identifiers) of one outside address in one protocol.
//!
//! A port goes to an inside port of its own parity while there is one (RFC 4787, REQ-4), and to one of its
//! own range, below 1,024 or not (REQ-3). Which one of those is left to the caller's random number.

use crate::pool::Pool;

/// The first port that is not a system port (RFC 6335, section 6).
const FIRST_USER_PORT: u16 = 1024;

/// Ports of one parity and one side of 1,024: every other number from `first` on.
#[derive(Debug)]
struct Class {
    first: u16,
    size: u32,
    pool: Pool,
}

/// The side of 1,024 that a port is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// 0 to 1,023.
    Low,
    /// 1,024 to 65,535.
    High,
}

impl Side {
    /// The side of a port.
    pub fn of(port: u16) -> Self {
        if port < FIRST_USER_PORT {
            Self::Low
        } else {
            Self::High
        }
    }
}

/// The bounds of what is given out.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// The lowest port.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl Range {
    /// The sides on which an inside port may find an outside one, best first. An unprivileged port never
    /// becomes a privileged one while the range has others (RFC 4787, REQ-3 a).
    pub fn sides(self, inside: u16) -> &'static [Side] {
        match Side::of(inside) {
            Side::Low => &[Side::Low, Side::High],
            Side::High if self.last >= FIRST_USER_PORT => &[Side::High],
            Side::High => &[Side::Low],
        }
    }

    /// On which side and of which parity an inside port may find an outside one, best first.
    pub fn classes(self, inside: u16) -> impl Iterator<Item = (Side, bool)> {
        let odd = inside & 1 == 1;
        let sides = self.sides(inside).iter();
        sides.flat_map(move |side| [(*side, odd), (*side, !odd)])
    }

    /// How many ports it has on a side.
    pub fn count(self, side: Side) -> u32 {
        let (first, last) = self.on(side);
        (u32::from(last) + 1).saturating_sub(u32::from(first))
    }

    fn on(self, side: Side) -> (u16, u16) {
        match side {
            Side::Low => (self.first, self.last.min(FIRST_USER_PORT - 1)),
            Side::High => (self.first.max(FIRST_USER_PORT), self.last),
        }
    }

    fn class(self, side: Side, odd: bool) -> Class {
        let (first, last) = self.on(side);
        let first = u32::from(first) + u32::from((first & 1 == 1) != odd);
        let size = (u32::from(last) + 2).saturating_sub(first) / 2;
        Class {
            first: u16::try_from(first).unwrap_or(u16::MAX),
            size,
            pool: Pool::new(size),
        }
    }
}

/// The ports of an outside address in a protocol.
#[derive(Debug)]
pub struct Ports {
    range: Range,
    low: [Class; 2],
    high: [Class; 2],
}

impl Ports {
    /// All ports of the range, free.
    pub fn new(range: Range) -> Self {
        let both = |side| [range.class(side, false), range.class(side, true)];
        Self {
            range,
            low: both(Side::Low),
            high: both(Side::High),
        }
    }

    /// Takes a free port of a side and a parity.
    pub fn draw(&mut self, side: Side, odd: bool, random: u64) -> Option<u16> {
        let class = self.class(side, odd);
        let number = class.pool.pick(random)?;
        class.pool.take(number);
        Some(class.first + 2 * number)
    }

    /// Whether every port is free.
    pub fn is_whole(&self) -> bool {
        [Side::Low, Side::High]
            .into_iter()
            .all(|side| self.free(side) == self.range.count(side))
    }

    /// Takes a certain port, if it is one of the range and free.
    pub fn take(&mut self, port: u16) -> bool {
        let class = self.class(Side::of(port), port & 1 == 1);
        (class.number(port)).is_some_and(|number| class.pool.take(number))
    }

    /// Gives a port back.
    pub fn give_back(&mut self, port: u16) {
        let class = self.class(Side::of(port), port & 1 == 1);
        if let Some(number) = class.number(port) {
            class.pool.give_back(number);
        }
    }

    /// Ports that are free on a side.
    pub fn free(&self, side: Side) -> u32 {
        let classes = match side {
            Side::Low => &self.low,
            Side::High => &self.high,
        };
        classes.iter().map(|c| c.pool.free()).sum()
    }

    fn class(&mut self, side: Side, odd: bool) -> &mut Class {
        let [even_class, odd_class] = match side {
            Side::Low => &mut self.low,
            Side::High => &mut self.high,
        };
        if odd { odd_class } else { even_class }
    }
}

impl Class {
    fn number(&self, port: u16) -> Option<u16> {
        let number = port.checked_sub(self.first)? / 2;
        (u32::from(number) < self.size).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(ports: &mut Ports, inside: u16) -> Vec<u16> {
        let range = ports.range;
        let mut seed = 7u64;
        std::iter::from_fn(|| {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (range.classes(inside)).find_map(|(side, odd)| ports.draw(side, odd, seed))
        })
        .collect()
    }

    // A2.12
    #[test]
    fn parity_is_kept_until_only_the_other_is_left_and_every_port_is_given_out_once() {
        for (first, last) in [(1024, 1123), (2000, 2000), (1025, 1031), (65_000, 65_535)] {
            for inside in [40_000, 40_001] {
                let mut ports = Ports::new(Range { first, last });
                let of_parity = (first..=last).filter(|p| p & 1 == inside & 1).count();
                let given = drain(&mut ports, inside);
                let kept = given.iter().take_while(|p| **p & 1 == inside & 1).count();
                assert_eq!(kept, of_parity, "{first}..{last} for {inside}");
                let mut sorted = given.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (first..=last).collect::<Vec<_>>());
            }
        }
    }

    // A2.12
    #[test]
    fn an_unprivileged_port_never_becomes_a_privileged_one() {
        let range = Range {
            first: 1000,
            last: 1100,
        };
        let given = drain(&mut Ports::new(range), 5000);
        assert_eq!(given.len(), 1100 - 1023);
        assert!(given.iter().all(|p| *p >= 1024));
        // A privileged one stays so while it can.
        let given = drain(&mut Ports::new(range), 53);
        assert_eq!(given.len(), 101);
        assert!(given[..24].iter().all(|p| *p < 1024));
        // There may be no others.
        let low = Range {
            first: 600,
            last: 700,
        };
        assert_eq!(drain(&mut Ports::new(low), 5000).len(), 101);
    }

    #[test]
    fn a_port_outside_the_range_is_not_taken_and_one_of_it_once() {
        let mut ports = Ports::new(Range {
            first: 1024,
            last: 1031,
        });
        for port in [0, 1023, 1032, 65_535] {
            assert!(!ports.take(port));
            ports.give_back(port);
        }
        assert!(ports.take(1030) && !ports.take(1030));
        assert_eq!(ports.free(Side::High), 7);
        ports.give_back(1030);
        assert!(ports.take(1030));
        assert_eq!(ports.free(Side::Low), 0);
    }
}
