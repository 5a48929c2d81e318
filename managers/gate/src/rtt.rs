//! How long to wait for an acknowledgement (RFC 6298).

use std::time::Duration;

/// Before anything was measured (section 2.1), and at least (section 2.4).
const FIRST: Duration = Duration::from_secs(1);
/// At most (section 2.5).
const MOST: Duration = Duration::from_secs(60);

/// The estimate of one leg's round trip.
#[derive(Debug, Clone, Copy)]
pub struct Rtt {
    smooth: Option<(Duration, Duration)>,
    timeout: Duration,
}

impl Default for Rtt {
    fn default() -> Self {
        Self {
            smooth: None,
            timeout: FIRST,
        }
    }
}

impl Rtt {
    /// The retransmission time-out.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A round trip of a segment that was sent once (section 3, Karn's algorithm).
    pub fn measured(&mut self, sample: Duration) {
        let (smooth, variance) = match self.smooth {
            // Section 2.2.
            None => (sample, sample / 2),
            // Section 2.3, with alpha 1/8 and beta 1/4.
            Some((smooth, variance)) => (
                smooth * 7 / 8 + sample / 8,
                variance * 3 / 4 + smooth.abs_diff(sample) / 4,
            ),
        };
        self.smooth = Some((smooth, variance));
        self.timeout = (smooth + variance * 4).clamp(FIRST, MOST);
    }

    /// Nothing came in time (section 5.5).
    pub fn backed_off(&mut self) {
        self.timeout = (self.timeout * 2).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_out_follows_what_is_measured_and_doubles_without_an_answer() {
        let ms = Duration::from_millis;
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(), ms(1000));
        rtt.measured(ms(800));
        assert_eq!(rtt.timeout(), ms(800 + 4 * 400));
        for _ in 0..50 {
            rtt.measured(ms(800));
        }
        assert!(rtt.timeout() < ms(1010), "{:?}", rtt.timeout());
        for doubled in [2, 4, 8, 16, 32] {
            rtt.backed_off();
            assert!(rtt.timeout() >= ms(1000 * doubled));
        }
        rtt.backed_off();
        assert_eq!(rtt.timeout(), ms(60_000));
        rtt.measured(ms(20));
        assert!(rtt.timeout() < ms(60_000));
    }
}
