//! Two-rate three-colour meters (RFC 2698, colour-blind), with bmv2's arithmetic.

use crate::Micros;
use crate::control::{MeterColor, MeterRate};

/// A meter with its buckets. All is computed from one origin, the start of the switch, so that
/// rounding does not add up.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    rates: [MeterRate; 2],
    tokens: [u64; 2],
    /// Tokens that had come since the start when the bucket was last looked at.
    seen: [u64; 2],
}

impl Meter {
    /// Full buckets; the committed rate comes first.
    pub(crate) fn new(rates: [MeterRate; 2]) -> Self {
        Meter {
            rates,
            tokens: rates.map(|rate| rate.burst),
            seen: [0; 2],
        }
    }

    pub(crate) fn rates(&self) -> [MeterRate; 2] {
        self.rates
    }

    /// The colour of `units` (bytes, or one packet) at `now`.
    pub(crate) fn color(&mut self, now: Micros, units: u64) -> MeterColor {
        let [committed, peak] = &mut self.tokens;
        let [committed_seen, peak_seen] = &mut self.seen;
        let [committed_rate, peak_rate] = &self.rates;
        if !take(peak_rate, peak, peak_seen, now, units) {
            return MeterColor::Red;
        }
        if !take(committed_rate, committed, committed_seen, now, units) {
            return MeterColor::Yellow;
        }
        MeterColor::Green
    }
}

fn take(rate: &MeterRate, tokens: &mut u64, seen: &mut u64, now: Micros, units: u64) -> bool {
    let since_start = (now as f64 * rate.per_micro) as u64;
    *tokens = tokens
        .saturating_add(since_start.saturating_sub(*seen))
        .min(rate.burst);
    *seen = since_start.max(*seen);
    match tokens.checked_sub(units) {
        Some(rest) => {
            *tokens = rest;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_green_then_yellow_then_red_and_time_heals_it() {
        let committed = MeterRate {
            per_micro: 0.001,
            burst: 2,
        };
        let peak = MeterRate {
            per_micro: 0.002,
            burst: 4,
        };
        let mut meter = Meter::new([committed, peak]);
        let mut colors = || meter.color(0, 1);
        assert_eq!([colors(), colors()], [MeterColor::Green; 2]);
        assert_eq!([colors(), colors()], [MeterColor::Yellow; 2]);
        assert_eq!(colors(), MeterColor::Red);
        assert_eq!(meter.color(1_000, 1), MeterColor::Green);
        assert_eq!(meter.color(1_000, 1), MeterColor::Yellow);
    }
}
