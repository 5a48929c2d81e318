//! Sequence numbers: positions on a circle of 2^32 (RFC 9293, section 3.4). All comparisons of numbers are
//! made here.

/// Whether `a` lies before `b`. The two are less than 2^31 apart.
#[must_use]
pub fn before(a: u32, b: u32) -> bool {
    // The upper half of the circle lies behind.
    b.wrapping_sub(a).wrapping_sub(1) < 0x7fff_ffff
}

/// Whether `a` lies before `b` or is `b`.
#[must_use]
pub fn upto(a: u32, b: u32) -> bool {
    !before(b, a)
}

/// The one that lies further on.
#[must_use]
pub fn later(a: u32, b: u32) -> u32 {
    if before(a, b) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A3.9
    #[test]
    fn numbers_are_in_order_also_where_they_wrap() {
        for start in [0, 5, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, u32::MAX] {
            for step in [1u32, 2, 1000, 0x7fff_ffff] {
                let next = start.wrapping_add(step);
                assert!(before(start, next) && !before(next, start));
                assert!(upto(start, next) && !upto(next, start));
                assert_eq!(later(start, next), next);
                assert_eq!(later(next, start), next);
            }
            assert!(!before(start, start) && upto(start, start));
        }
    }
}
