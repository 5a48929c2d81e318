//! Points in time of a record, and how they are written.

use signalbox_agent::message::Report;

use crate::Stamped;

/// When something began and when it was last busy, in milliseconds since 1970; the end is not before the
/// start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub start_ms: u64,
    pub end_ms: u64,
}

impl Span {
    /// A flow's: from its installation to the last time that the agent saw it busy.
    pub fn of_flow(stamped: &Stamped, report: &Report) -> Self {
        let start_ms = stamped.received_ms.saturating_sub(report.age_ms);
        let end_ms = stamped.received_ms.saturating_sub(report.idle_ms);
        Self {
            start_ms,
            end_ms: end_ms.max(start_ms),
        }
    }

    /// A criterion's: until now, since nobody knows when it matched last.
    pub fn of_criterion(stamped: &Stamped, age_ms: u64) -> Self {
        Self {
            start_ms: stamped.received_ms.saturating_sub(age_ms),
            end_ms: stamped.received_ms,
        }
    }
}

/// Milliseconds since 1970 as RFC 3339 writes them, in UTC: `2026-03-01T12:00:00.250Z`.
pub(crate) fn rfc3339(ms: u64) -> String {
    let (seconds, milli) = (ms / 1000, ms % 1000);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // The proleptic Gregorian calendar in eras of 400 years that begin on 1 March.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_the_calendar_has_them() {
        // From `date -u -d @N`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (68_169_599, "1972-02-28T23:59:59.007Z"),
            (68_169_600, "1972-02-29T00:00:00.007Z"),
            (951_868_800, "2000-03-01T00:00:00.007Z"),
            (1_735_689_599, "2024-12-31T23:59:59.007Z"),
            (1_772_368_496, "2026-03-01T12:34:56.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            assert_eq!(rfc3339(seconds * 1000 + 7), text);
        }
    }
}
