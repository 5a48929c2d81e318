//! Values of any width as they cross the control API: unsigned, big-endian, canonical.

use std::fmt;

/// An unsigned value of any width, kept as big-endian bytes without leading zero bytes (zero is
/// one zero byte): the canonical form of P4Runtime (1.3, section 8.4). A value carries no width;
/// whoever takes one checks that it fits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Bits(Box<[u8]>);

impl Bits {
    /// The value of big-endian `bytes`; leading zeros are dropped, no bytes at all mean zero.
    pub fn from_be_bytes(bytes: &[u8]) -> Self {
        let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
        match bytes.get(start..) {
            Some(rest) if !rest.is_empty() => Bits(rest.into()),
            _ => Bits(Box::new([0])),
        }
    }

    /// The canonical big-endian bytes: never empty, no leading zero byte unless the value is zero.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The value in exactly `len` big-endian bytes, padded at the front; `None` if it needs more.
    pub fn to_be_bytes_padded(&self, len: usize) -> Option<Vec<u8>> {
        if self.is_zero() {
            return Some(vec![0; len]);
        }
        let pad = len.checked_sub(self.0.len())?;
        let mut bytes = vec![0; pad];
        bytes.extend_from_slice(&self.0);
        Some(bytes)
    }

    /// The number of bits the value needs (0 for zero).
    pub fn bit_length(&self) -> usize {
        match self.0.first() {
            None | Some(0) => 0,
            Some(first) => self.0.len() * 8 - first.leading_zeros() as usize,
        }
    }

    /// Whether the value fits into `width` bits.
    pub fn fits(&self, width: usize) -> bool {
        self.bit_length() <= width
    }

    /// Whether the value is zero.
    pub fn is_zero(&self) -> bool {
        self.bit_length() == 0
    }

    /// The value as `u64`, if it fits.
    pub fn to_u64(&self) -> Option<u64> {
        u64::try_from(self.to_u128()?).ok()
    }

    /// The value as `u128`, if it fits.
    pub fn to_u128(&self) -> Option<u128> {
        (self.0.len() <= 16).then(|| {
            self.0
                .iter()
                .fold(0, |value, byte| (value << 8) | u128::from(*byte))
        })
    }

    /// The value as little-endian 64-bit words: exactly `ceil(width / 64)` of them, cut at the top
    /// when it does not fit (check with [`Bits::fits`] first).
    pub(crate) fn to_words(&self, width: usize) -> Vec<u64> {
        let mut words = vec![0u64; width.div_ceil(64)];
        for (i, byte) in self.0.iter().rev().enumerate() {
            if let Some(word) = words.get_mut(i / 8) {
                *word |= u64::from(*byte) << (i % 8 * 8);
            }
        }
        words
    }

    /// The value of little-endian 64-bit words.
    pub(crate) fn from_words(words: &[u64]) -> Self {
        let bytes: Vec<u8> = words
            .iter()
            .rev()
            .flat_map(|word| word.to_be_bytes())
            .collect();
        Bits::from_be_bytes(&bytes)
    }
}

impl From<u64> for Bits {
    fn from(value: u64) -> Self {
        Bits::from_be_bytes(&value.to_be_bytes())
    }
}

impl From<u128> for Bits {
    fn from(value: u128) -> Self {
        Bits::from_be_bytes(&value.to_be_bytes())
    }
}

impl From<&[u8]> for Bits {
    fn from(bytes: &[u8]) -> Self {
        Bits::from_be_bytes(bytes)
    }
}

impl PartialOrd for Bits {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bits {
    /// Numeric order.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0.len(), &self.0).cmp(&(other.0.len(), &other.0))
    }
}

impl fmt::Display for Bits {
    /// `0x…` in lower case, without leading zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0.iter();
        write!(f, "0x{:x}", bytes.next().copied().unwrap_or(0))?;
        bytes.try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Bits {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_canonical_whatever_their_padding() {
        assert_eq!(Bits::from_be_bytes(&[0, 0, 1, 2]), Bits::from(0x102u64));
        assert_eq!(Bits::from_be_bytes(&[]).as_bytes(), &[0]);
        assert_eq!(Bits::from(0u64).as_bytes(), &[0]);
        assert_eq!(Bits::from(0x102u64).to_string(), "0x102");
        assert_eq!(Bits::from(0u64).to_string(), "0x0");
    }

    #[test]
    fn lengths_and_paddings_are_exact() {
        assert_eq!(Bits::from(0x1ffu64).bit_length(), 9);
        assert!(Bits::from(0u64).fits(0));
        assert!(!Bits::from(4u64).fits(2));
        assert_eq!(Bits::from(7u64).to_be_bytes_padded(3), Some(vec![0, 0, 7]));
        assert_eq!(Bits::from(0x10000u64).to_be_bytes_padded(2), None);
        assert_eq!(
            Bits::from(u128::MAX).to_words(128),
            vec![u64::MAX, u64::MAX]
        );
        assert_eq!(Bits::from_words(&[5, 0]), Bits::from(5u64));
    }
}
