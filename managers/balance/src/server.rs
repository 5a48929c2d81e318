//! One server's standing: what the policy says of it, what its checks say, and how much of the new flows it
//! should get now.

use std::net::IpAddr;
use std::time::Duration;

use signalbox_lower::plan::ServerPlan;

/// Steps of a slow start: a server that comes back counts with an eighth of its weight at first, and with an
/// eighth more after each eighth of the time.
pub(crate) const STEPS: u32 = 8;

/// One server's standing.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub name: String,
    pub address: IpAddr,
    pub port: u16,
    pub weight: u32,
    /// Whether an operator wants no new flows there, whatever its weight.
    pub drained: bool,
    /// Whether the plan names it; one that it names no more is there for its old flows.
    pub listed: bool,
    pub up: bool,
    /// As it reported last, in percent.
    pub load: Option<u8>,
    /// When its slow start began, while that lasts.
    pub start: Option<Duration>,
    pub chosen: u64,
    pub flows: u64,
}

impl Server {
    pub fn new(plan: &ServerPlan) -> Self {
        Self {
            name: plan.name.clone(),
            address: plan.address,
            port: plan.port,
            weight: plan.weight,
            drained: false,
            listed: true,
            up: true,
            load: None,
            start: None,
            chosen: 0,
            flows: 0,
        }
    }

    /// What it is told apart by, wherever its place in the pool.
    pub fn endpoint(&self) -> (IpAddr, u16) {
        (self.address, self.port)
    }

    /// The same as text, which is hashed: part of the protocol between managers of one service.
    pub fn identity(&self) -> String {
        format!("{}/{}", self.address, self.port)
    }

    /// Whether it may get a new flow at all.
    pub fn is_open(&self) -> bool {
        self.up && !self.drained && self.weight > 0 && self.load != Some(100)
    }

    /// How much of the new flows it should get, in shares that only compare with those of the other servers:
    /// 800 for each unit of weight that is not loaded and not in its slow start. In hundredths, so that a
    /// load counts also for a server of weight 1.
    pub fn share(&self, now: Duration, slow: Duration, by_weight: bool) -> u32 {
        if !self.is_open() {
            return 0;
        }
        let weight = if by_weight { self.weight } else { 1 };
        let free = 100 - u32::from(self.load.unwrap_or(0).min(99));
        weight
            .saturating_mul(free)
            .saturating_mul(self.step(now, slow))
    }

    /// Which step of its slow start it is at, 1 to [`STEPS`].
    fn step(&self, now: Duration, slow: Duration) -> u32 {
        let Some(start) = self.start.filter(|_| !slow.is_zero()) else {
            return STEPS;
        };
        let past = now.saturating_sub(start).as_nanos() * u128::from(STEPS) / slow.as_nanos();
        u32::try_from(past).map_or(STEPS, |n| (n + 1).min(STEPS))
    }

    /// When its slow start takes its next step. A slow start that is over is forgotten.
    pub fn next_step(&mut self, now: Duration, slow: Duration) -> Option<Duration> {
        let start = self.start?;
        let step = self.step(now, slow);
        if step >= STEPS {
            self.start = None;
            return None;
        }
        // Rounded up: a moment too early would be the same step again.
        let after = slow.saturating_mul(step) / STEPS + Duration::from_nanos(1);
        Some(start.saturating_add(after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(weight: u32) -> Server {
        Server::new(&ServerPlan {
            name: "web-1".into(),
            address: IpAddr::from([10, 0, 1, 10]),
            port: 80,
            weight,
        })
    }

    // A6.14
    #[test]
    fn a_slow_start_rises_to_the_weight_in_eight_even_steps() {
        let mut s = server(2);
        let slow = Duration::from_secs(8);
        let begin = Duration::from_secs(100);
        s.start = Some(begin);
        let full = server(2).share(begin, slow, true);
        let mut shares = Vec::new();
        let mut now = begin;
        loop {
            shares.push(s.share(now, slow, true) * STEPS / full);
            let Some(next) = s.next_step(now, slow) else {
                break;
            };
            assert!(next > now && next <= now + Duration::from_millis(1001));
            now = next;
        }
        assert_eq!(shares, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(now - begin <= slow);
    }

    // A6.12
    #[test]
    fn a_load_counts_by_what_is_left_and_a_full_server_gets_nothing() {
        let mut s = server(1);
        let share = |s: &Server| s.share(Duration::ZERO, Duration::ZERO, true);
        let full = share(&s);
        for load in 0..=100u8 {
            s.load = Some(load);
            assert_eq!(share(&s) * 100, full * (100 - u32::from(load)), "{load}");
        }
        assert!(!s.is_open() && s.up);
    }
}
