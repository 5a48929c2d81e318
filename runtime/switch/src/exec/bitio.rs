//! Bits in and out of bytes, most significant first.

use crate::code::layout::mask;

/// `bits` (up to 64) from bit `offset` on. The caller has checked that they are there; what is not
/// reads as 0.
pub(crate) fn read(data: &[u8], offset: usize, bits: u32) -> u64 {
    let first = offset / 8;
    let skip = (offset % 8) as u32;
    if skip + bits <= 64
        && let Some(Ok(bytes)) = data.get(first..first + 8).map(<[u8; 8]>::try_from)
    {
        let word = u64::from_be_bytes(bytes);
        return if bits == 0 {
            0
        } else {
            (word >> (64 - skip - bits)) & mask(bits)
        };
    }
    let count = (skip + bits).div_ceil(8) as usize;
    let mut value: u128 = 0;
    for i in 0..count {
        value = value << 8 | u128::from(data.get(first + i).copied().unwrap_or(0));
    }
    (value >> (count as u32 * 8 - skip - bits)) as u64 & mask(bits)
}

/// Any number of bits from bit `offset` on into `words`, the lowest first; `words` above them are
/// left alone.
pub(crate) fn read_wide(data: &[u8], offset: usize, bits: u32, words: &mut [u64]) {
    let mut left = bits;
    for word in words.iter_mut() {
        let take = left.min(64);
        if take == 0 {
            break;
        }
        left -= take;
        *word = read(data, offset + left as usize, take);
    }
}

/// Appends bits to bytes.
pub(crate) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    /// Bits in `pending`: 0 to 63.
    count: u32,
}

impl<'a> BitWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        BitWriter {
            out,
            pending: 0,
            count: 0,
        }
    }

    /// Appends the lowest `bits` (up to 64) of `value`, whose higher bits are 0.
    #[inline]
    pub(crate) fn push(&mut self, value: u64, bits: u32) {
        let total = self.count + bits;
        if total < 64 {
            self.pending = self.pending << bits | value;
            self.count = total;
            return;
        }
        let rest = total - 64;
        let room = bits - rest;
        let full = if room >= 64 {
            value >> rest
        } else {
            self.pending << room | value >> rest
        };
        self.out.extend_from_slice(&full.to_be_bytes());
        self.pending = value & mask(rest);
        self.count = rest;
    }

    /// Appends the lowest `bits` of many words.
    pub(crate) fn push_words(&mut self, words: &[u64], bits: u32) {
        let top = bits.div_ceil(64) as usize;
        for i in (0..top).rev() {
            let width = if i + 1 == top {
                bits - 64 * i as u32
            } else {
                64
            };
            let word = words.get(i).copied().unwrap_or(0);
            self.push(word & mask(width), width);
        }
    }

    /// Writes what is pending; a byte that is not full is filled up with zeros.
    pub(crate) fn finish(self) {
        let bytes = self.count.div_ceil(8) as usize;
        if bytes > 0 {
            let aligned = (self.pending << (64 - self.count)).to_be_bytes();
            self.out.extend(aligned.iter().take(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_reads_back(fields in prop::collection::vec((any::<u64>(), 1u32..=64), 1..20)) {
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes);
            for (value, bits) in &fields {
                writer.push(value & mask(*bits), *bits);
            }
            writer.finish();
            let mut offset = 0;
            for (value, bits) in &fields {
                prop_assert_eq!(read(&bytes, offset, *bits), value & mask(*bits));
                offset += *bits as usize;
            }
            prop_assert_eq!(bytes.len(), offset.div_ceil(8));
        }

        #[test]
        fn wide_values_read_back(words in prop::collection::vec(any::<u64>(), 1..6), lead in 0u32..9) {
            let bits = words.len() as u32 * 64 - 3;
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes);
            writer.push(0, lead);
            writer.push_words(&words, bits);
            writer.finish();
            let mut back = vec![0; words.len()];
            read_wide(&bytes, lead as usize, bits, &mut back);
            let mut expected = words.clone();
            *expected.last_mut().unwrap() &= mask(61);
            prop_assert_eq!(back, expected);
        }
    }
}
