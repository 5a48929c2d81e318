//! What a gate's affinity does to TCP headers once both of its connections have become one: deltas of the
//! two numbers, and a shift of the window. It knows values, not packets.

use std::fmt;

/// The largest shift of a window, in bits (RFC 7323, section 2.3).
pub const WINDOW_SHIFT_MAX: i8 = 14;

/// Deltas modulo 2^32, and a shift.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Adjust {
    /// Added to the sequence number.
    pub sequence: u32,
    /// Added to the acknowledgement number of a segment that has one.
    pub acknowledgement: u32,
    /// From -[`WINDOW_SHIFT_MAX`] to [`WINDOW_SHIFT_MAX`]: how far the window of a segment other than a SYN,
    /// whose window is never scaled (RFC 7323, section 2.2), moves to the left; to the right if negative.
    pub window_shift: i8,
}

impl Adjust {
    /// This one, then another. Shifts add up modulo 2^8, as in the pipeline; those of the gates on one flow
    /// come to the difference of two window scales.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        Self {
            sequence: self.sequence.wrapping_add(next.sequence),
            acknowledgement: self.acknowledgement.wrapping_add(next.acknowledgement),
            window_shift: self.window_shift.wrapping_add(next.window_shift),
        }
    }

    /// What leads the numbers back. The window stays: nobody can put back what a shift has cut off, and
    /// nobody looks for it in a quoted packet.
    #[must_use]
    pub fn undone(self) -> Self {
        Self {
            sequence: self.sequence.wrapping_neg(),
            acknowledgement: self.acknowledgement.wrapping_neg(),
            window_shift: 0,
        }
    }

    /// A window after the shift: at most what the field holds, and never more than the receiver offers.
    #[must_use]
    pub fn window(self, window: u16) -> u16 {
        let by = u32::from(self.window_shift.unsigned_abs());
        if self.window_shift < 0 {
            window.checked_shr(by).unwrap_or(0)
        } else if window > u16::MAX.checked_shr(by).unwrap_or(0) {
            u16::MAX
        } else {
            window.checked_shl(by).unwrap_or(0)
        }
    }
}

/// `seq +5 ack +4294967291 window <<7`; what changes nothing is left out.
impl fmt::Display for Adjust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = self.window_shift.unsigned_abs();
        let parts = [
            (self.sequence != 0).then(|| format!("seq +{}", self.sequence)),
            (self.acknowledgement != 0).then(|| format!("ack +{}", self.acknowledgement)),
            (self.window_shift > 0).then(|| format!("window <<{by}")),
            (self.window_shift < 0).then(|| format!("window >>{by}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        match parts.is_empty() {
            true => f.write_str("nothing"),
            false => f.write_str(&parts.join(" ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shifted(window: u16, window_shift: i8) -> u16 {
        let by = Adjust {
            window_shift,
            ..Adjust::default()
        };
        by.window(window)
    }

    #[test]
    fn a_window_is_shifted_up_to_what_its_field_holds_and_rounded_down() {
        assert_eq!(shifted(0x0203, 7), 0xffff);
        assert_eq!(shifted(0x01ff, 7), 0xff80);
        assert_eq!(shifted(0, 14), 0);
        assert_eq!(shifted(1, 14), 0x4000);
        assert_eq!(shifted(4, 14), 0xffff);
        assert_eq!(shifted(0xffff, -7), 0x01ff);
        assert_eq!(shifted(127, -7), 0);
        assert_eq!(shifted(0x1234, 0), 0x1234);
    }

    #[test]
    fn shifts_that_no_window_has_are_harmless() {
        for shift in i8::MIN..=i8::MAX {
            assert_eq!(shifted(0, shift), 0);
            if shift > 15 {
                assert_eq!(shifted(1, shift), 0xffff);
            }
            if shift < -15 {
                assert_eq!(shifted(0xffff, shift), 0);
            }
        }
    }

    #[test]
    fn what_is_done_and_undone_leaves_the_numbers_as_they_were() {
        let one = Adjust {
            sequence: 0xffff_fff0,
            acknowledgement: 17,
            window_shift: 0,
        };
        assert_eq!(one.then(one.undone()), Adjust::default());
    }

    #[test]
    fn it_is_listed_by_what_it_changes() {
        let text = |sequence, acknowledgement, window_shift| {
            Adjust {
                sequence,
                acknowledgement,
                window_shift,
            }
            .to_string()
        };
        assert_eq!(text(0, 0, 0), "nothing");
        assert_eq!(text(5, u32::MAX, 7), "seq +5 ack +4294967295 window <<7");
        assert_eq!(text(0, 0, -3), "window >>3");
    }
}
