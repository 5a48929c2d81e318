//! A range of ports in blocks, the same on every machine, that managers give to each other and not port by port (the
//! idea of RFC 7422). A block is of every outside address and every protocol.

use crate::ports::{Range, Side};

/// Blocks at most: a set of them is a word.
const MOST: u32 = 64;

/// A range of ports, cut at multiples of a power of two, so that no block lies on both sides of 1,024.
#[derive(Debug, Clone, Copy)]
pub struct Blocks {
    range: Range,
    /// Ports of a block; the first and the last may have fewer.
    size: u32,
    count: u32,
}

impl Blocks {
    /// One block of all.
    pub fn whole(range: Range) -> Self {
        Self {
            range,
            size: 1 << 16,
            count: 1,
        }
    }

    /// As many as a word has bits, or as there are pairs of ports.
    pub fn divided(range: Range) -> Self {
        let count = |size: u32| {
            (u32::from(range.last) / size + 1).saturating_sub(u32::from(range.first) / size)
        };
        let size = (1..16).map(|n| 1 << n).find(|size| count(*size) <= MOST);
        let size = size.unwrap_or(1 << 16);
        Self {
            range,
            size,
            count: count(size),
        }
    }

    /// The ports of all of them.
    pub fn whole_range(&self) -> Range {
        self.range
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Ports of a block.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The block of a port of the range.
    pub fn of(&self, port: u16) -> u32 {
        (u32::from(port) / self.size).saturating_sub(u32::from(self.range.first) / self.size)
    }

    /// The ports of a block.
    pub fn range(&self, block: u32) -> Range {
        let start = (u32::from(self.range.first) / self.size + block) * self.size;
        let port = |at: u32| u16::try_from(at).unwrap_or(u16::MAX);
        Range {
            first: port(start).max(self.range.first),
            last: port(start + (self.size - 1)).min(self.range.last),
        }
    }

    /// All of them, as bits.
    pub fn all(&self) -> u64 {
        if self.count >= MOST {
            u64::MAX
        } else {
            (1 << self.count) - 1
        }
    }

    /// Those of a set, from a random one on.
    pub fn from(&self, set: u64, random: u64) -> impl Iterator<Item = u32> + use<> {
        // Where a port is drawn by the same number its high bits count.
        let start = (random & 0xffff_ffff) as u32 % self.count.max(1);
        let (count, set) = (self.count, set & self.all());
        (start..count)
            .chain(0..start)
            .filter(move |block| set >> block & 1 == 1)
    }

    /// How many ports of a side are in these blocks.
    pub fn room(&self, set: u64, side: Side) -> u32 {
        self.from(set, 0).map(|b| self.range(b).count(side)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_is_in_one_block_and_no_block_on_both_sides_of_1024() {
        for (first, last, count) in [
            (1024, 65_535, 63),
            (0, 65_535, 64),
            (1000, 1100, 51),
            (2000, 2000, 1),
            (2000, 2010, 6),
            (40_001, 40_999, 63),
        ] {
            let range = Range { first, last };
            let blocks = Blocks::divided(range);
            assert_eq!(blocks.count(), count, "{first}-{last}");
            let mut next = u32::from(first);
            for block in 0..blocks.count() {
                let of = blocks.range(block);
                assert_eq!(u32::from(of.first), next);
                assert!((of.first..=of.last).all(|port| blocks.of(port) == block));
                assert!(of.count(Side::Low) == 0 || of.count(Side::High) == 0);
                next = u32::from(of.last) + 1;
            }
            assert_eq!(next, u32::from(last) + 1);
            let both = |set| blocks.room(set, Side::Low) + blocks.room(set, Side::High);
            assert_eq!(both(blocks.all()), u32::from(last - first) + 1);
            assert_eq!(blocks.from(blocks.all(), 7).count() as u32, count);
        }
    }
}
