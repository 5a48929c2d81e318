//! Values as the wire has them: unsigned integers of any width as the shortest big-endian
//! byte string (P4Runtime 1.5, "Bytestrings"). It knows widths, and nothing of names.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use thiserror::Error;

/// Why a byte string is not a value of its type.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValueError {
    /// No byte at all; zero is one zero byte.
    #[error("an empty byte string is not a value")]
    Empty,
    /// The value needs more bits than the type has.
    #[error("`{value}` needs {bits} bits, and {width} are there")]
    TooWide {
        /// What was given.
        value: Value,
        /// Bits that it needs.
        bits: usize,
        /// Bits of the type.
        width: usize,
    },
}

/// How many bits a value may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// An unsigned integer of so many bits.
    Bits(usize),
    /// A translated string (`sdn_string`): any bytes, not canonicalised.
    String,
}

impl Width {
    /// The width that a P4Info `bitwidth` stands for: 0 is a translated string.
    pub fn of_bitwidth(bitwidth: i32) -> Width {
        match usize::try_from(bitwidth) {
            Ok(0) | Err(_) => Width::String,
            Ok(bits) => Width::Bits(bits),
        }
    }
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Width::Bits(bits) => write!(f, "bit<{bits}>"),
            Width::String => f.write_str("string"),
        }
    }
}

/// An unsigned integer of any width, in canonical form; or a translated string.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(Vec<u8>);

impl Value {
    /// The integer that big-endian bytes spell; leading zeros do not matter, no byte is zero.
    pub fn from_be_bytes(bytes: &[u8]) -> Value {
        let bytes = canonical(bytes);
        Value(if bytes.is_empty() {
            vec![0]
        } else {
            bytes.to_vec()
        })
    }

    /// A translated string: the bytes as they are.
    pub fn string(text: &str) -> Value {
        Value(text.as_bytes().to_vec())
    }

    /// The largest value of so many bits; also the mask that compares everything.
    pub fn ones(width: usize) -> Value {
        Value::prefix_mask(width, width)
    }

    /// The mask of the `len` highest of `width` bits.
    pub fn prefix_mask(width: usize, len: usize) -> Value {
        let len = len.min(width);
        let bytes = width.div_ceil(8);
        let pad = bytes * 8 - width;
        let mask: Vec<u8> = (0..bytes)
            .map(|i| {
                (0..8)
                    .filter(|bit| {
                        let place = i * 8 + bit;
                        place >= pad && place < pad + len
                    })
                    .map(|bit| 0x80u8 >> bit)
                    .sum()
            })
            .collect();
        Value::from_be_bytes(&mask)
    }

    /// The bits that are set in both.
    #[must_use]
    pub fn and(&self, mask: &Value) -> Value {
        let len = self.0.len().min(mask.0.len());
        let tail = |v: &Value| v.0.get(v.0.len() - len..).unwrap_or_default().to_vec();
        let both: Vec<u8> = tail(self)
            .into_iter()
            .zip(tail(mask))
            .map(|(a, b)| a & b)
            .collect();
        Value::from_be_bytes(&both)
    }

    /// The canonical bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The canonical bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Whether every bit is zero.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// The number, if it has at most 64 bits.
    pub fn to_u64(&self) -> Option<u64> {
        to_u128(&self.0).and_then(|n| u64::try_from(n).ok())
    }

    /// The number, if it has at most 128 bits.
    pub fn to_u128(&self) -> Option<u128> {
        to_u128(&self.0)
    }

    /// Checks the value against a type.
    ///
    /// # Errors
    /// The value needs more bits.
    pub fn check(&self, width: Width) -> Result<(), ValueError> {
        check(&self.0, width)
    }
}

/// The same number without leading zero bytes; one byte is left if there was one.
pub fn canonical(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let start = zeros.min(bytes.len().saturating_sub(1));
    bytes.get(start..).unwrap_or_default()
}

/// Drops leading zero bytes in place.
pub fn canonicalise(bytes: &mut Vec<u8>) {
    let surplus = bytes.len() - canonical(bytes).len();
    if surplus > 0 {
        bytes.drain(..surplus);
    }
}

/// How many bits a number needs; zero needs none.
pub fn bit_length(bytes: &[u8]) -> usize {
    match canonical(bytes) {
        [] | [0] => 0,
        [first, rest @ ..] => rest.len() * 8 + 8 - first.leading_zeros() as usize,
    }
}

/// Checks a byte string as received: any length is accepted whose value fits.
///
/// # Errors
/// It is empty, or its value does not fit; the protocol's code for both is OUT_OF_RANGE.
pub fn check(bytes: &[u8], width: Width) -> Result<(), ValueError> {
    let Width::Bits(width) = width else {
        return Ok(());
    };
    if bytes.is_empty() {
        return Err(ValueError::Empty);
    }
    let bits = bit_length(bytes);
    if bits > width {
        return Err(ValueError::TooWide {
            value: Value::from_be_bytes(bytes),
            bits,
            width,
        });
    }
    Ok(())
}

/// The number that a byte string spells, if it has at most 128 bits.
pub fn to_u128(bytes: &[u8]) -> Option<u128> {
    let bytes = canonical(bytes);
    (bytes.len() <= 16).then(|| bytes.iter().fold(0, |n, byte| (n << 8) | u128::from(*byte)))
}

/// The shortest two's complement string of an `int<W>` (only inside `P4Data`).
pub fn signed(n: i128) -> Vec<u8> {
    let bytes = n.to_be_bytes();
    let fill = if n < 0 { 0xff } else { 0 };
    let surplus = bytes
        .windows(2)
        .take_while(|pair| matches!(pair, [a, b] if *a == fill && (b & 0x80) == (fill & 0x80)))
        .count();
    bytes.get(surplus..).unwrap_or_default().to_vec()
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_u64() {
            Some(n) if n < 65_536 => write!(f, "{n}"),
            _ => {
                f.write_str("0x")?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! value_from_integer {
    ($($t:ty),*) => {$(
        impl From<$t> for Value {
            fn from(n: $t) -> Value {
                Value::from_be_bytes(&n.to_be_bytes())
            }
        }
    )*};
}
value_from_integer!(u8, u16, u32, u64, u128, usize);

impl From<bool> for Value {
    fn from(b: bool) -> Value {
        Value(vec![u8::from(b)])
    }
}

impl From<Ipv4Addr> for Value {
    fn from(address: Ipv4Addr) -> Value {
        Value::from_be_bytes(&address.octets())
    }
}

impl From<Ipv6Addr> for Value {
    fn from(address: Ipv6Addr) -> Value {
        Value::from_be_bytes(&address.octets())
    }
}

impl From<IpAddr> for Value {
    fn from(address: IpAddr) -> Value {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

/// A MAC address, or any other byte array.
impl<const N: usize> From<[u8; N]> for Value {
    fn from(bytes: [u8; N]) -> Value {
        Value::from_be_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_examples_of_byte_strings_hold() {
        for (width, bytes, fits) in [
            (8, &[0x63][..], true),
            (16, &[0x00, 0x63], true),
            (16, &[0x30, 0x64], true),
            (16, &[0x00, 0x30, 0x64], true),
            (12, &[0x00, 0x00, 0x63], true),
            (8, &[0x01, 0x63], false),
            (8, &[], false),
            (16, &[0x01, 0x00, 0x63], false),
            (12, &[0x10, 0x63], false),
        ] {
            assert_eq!(
                check(bytes, Width::Bits(width)).is_ok(),
                fits,
                "{bytes:?} as bit<{width}>"
            );
        }
        assert_eq!(signed(0x63), [0x63]);
        assert_eq!(signed(-0x63), [0x9d]);
        assert_eq!(signed(-739), [0xfd, 0x1d]);
        assert_eq!(signed(0), [0]);
        assert_eq!(signed(-128), [0x80]);
        assert_eq!(signed(128), [0, 0x80]);
    }

    #[test]
    fn integers_take_their_shortest_form() {
        assert_eq!(Value::from(0u32).as_bytes(), [0]);
        assert_eq!(Value::from(0x0100u64).as_bytes(), [1, 0]);
        assert_eq!(Value::from([0, 0, 0, 0, 0, 7]).as_bytes(), [7]);
        assert_eq!(
            Value::from(Ipv4Addr::new(10, 0, 1, 2)).as_bytes(),
            [10, 0, 1, 2]
        );
    }

    #[test]
    fn masks_of_odd_widths_are_right_aligned() {
        assert_eq!(Value::ones(9).as_bytes(), [1, 0xff]);
        assert_eq!(Value::prefix_mask(9, 1).as_bytes(), [1, 0]);
        assert_eq!(Value::prefix_mask(32, 20).as_bytes(), [0xff, 0xff, 0xf0, 0]);
        assert!(Value::prefix_mask(32, 0).is_zero());
        assert_eq!(
            Value::from(0x1234u32).and(&Value::from(0xffu32)).to_u64(),
            Some(0x34)
        );
    }
}
