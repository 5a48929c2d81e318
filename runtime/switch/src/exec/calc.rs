//! Calculations: gathering the input and the algorithms, with bmv2's parameters.

#![allow(
    clippy::indexing_slicing,
    reason = "every slot indexes a word, and a byte indexes a table of 256"
)]

use super::bitio::BitWriter;
use super::state::State;
use crate::code::layout::{Header, Layout, Slot, Words};
use crate::code::program::{Algorithm, CalcInput, Calculation, Sum};

/// Gathers the input of a calculation into `buffer`.
pub(crate) fn gather(
    calculation: &Calculation,
    layout: &Layout,
    words: &Words,
    payload: &[u8],
    buffer: &mut Vec<u8>,
) {
    buffer.clear();
    let word = |slot: Slot| words[slot as usize];
    let mut with_payload = false;
    let mut writer = BitWriter::new(buffer);
    for input in &calculation.inputs {
        match input {
            CalcInput::Field {
                place,
                valid,
                length,
            } => {
                if valid.is_some_and(|valid| word(valid) == 0) {
                    continue;
                }
                match length {
                    None if place.width <= 64 => writer.push(word(place.slot), place.width),
                    None => writer.push_words(slice(words, place.slot), place.width),
                    Some(length) => {
                        let bits = (word(*length) as u32).min(place.width);
                        writer.push_words(slice(words, place.slot), bits);
                    }
                }
            }
            CalcInput::Constant { words, bits } => writer.push_words(words, *bits),
            CalcInput::Header(header) => {
                let header = layout.header(*header);
                if word(header.valid) != 0 || header.metadata {
                    write_header(header, words, &mut writer);
                }
            }
            CalcInput::Payload => with_payload = true,
        }
    }
    writer.finish();
    // bmv2 puts the payload last, wherever it stands in the list.
    if with_payload {
        buffer.extend_from_slice(payload);
    }
}

fn slice(words: &Words, slot: Slot) -> &[u64] {
    words.get(slot as usize..).unwrap_or_default()
}

/// Writes all fields of a header.
#[inline]
pub(crate) fn write_header(header: &Header, words: &Words, writer: &mut BitWriter) {
    for field in &header.fields {
        let place = field.place;
        match field.length {
            None if place.width <= 64 => {
                writer.push(words[place.slot as usize], place.width);
            }
            None => writer.push_words(slice(words, place.slot), place.width),
            Some(length) => {
                let bits = words[length as usize] as u32;
                writer.push_words(slice(words, place.slot), bits.min(place.width));
            }
        }
    }
}

/// Appends a header to bytes.
#[inline]
pub(crate) fn emit_header(header: &Header, words: &Words, out: &mut Vec<u8>) {
    let Some(emission) = &header.emission else {
        let mut writer = BitWriter::new(out);
        write_header(header, words, &mut writer);
        return writer.finish();
    };
    let start = out.len();
    // The last word may be more than is left.
    out.resize(start + emission.ends.len() * 8, 0);
    let (places, _) = out
        .get_mut(start..)
        .unwrap_or_default()
        .as_chunks_mut::<8>();
    let mut first = 0;
    for (place, last) in places.iter_mut().zip(&emission.ends) {
        let pieces = emission
            .pieces
            .get(first..usize::from(*last))
            .unwrap_or_default();
        let word = pieces.iter().fold(0, |word, piece| {
            word | (words[piece.slot as usize] >> (piece.right & 63)) << (piece.left & 63)
        });
        *place = word.to_be_bytes();
        first = usize::from(*last);
    }
    out.truncate(start + emission.bytes as usize);
}

/// The result of calculation number `index` over `input`.
pub(crate) fn compute(algorithm: Algorithm, input: &[u8], state: &mut State, index: usize) -> u64 {
    match algorithm {
        Algorithm::Csum16 => u64::from(csum16(input)),
        Algorithm::Crc8Custom => crc(input, &CRC8),
        Algorithm::Crc16 | Algorithm::Crc16Custom => crc(input, &CRC16),
        Algorithm::CrcCcitt => crc(input, &CRC_CCITT),
        Algorithm::Crc32 | Algorithm::Crc32Custom => crc(input, &CRC32),
        Algorithm::Crc64Custom => crc(input, &CRC64),
        Algorithm::Xor16 => xor(input, 2),
        Algorithm::Xor32 => xor(input, 4),
        Algorithm::Identity => input
            .iter()
            .take(8)
            .fold(0, |value, byte| value << 8 | u64::from(*byte)),
        // bmv2's default key is all zeros, and nothing in P4 can set another.
        Algorithm::Toeplitz => 0,
        Algorithm::RoundRobin => match state.turns.get_mut(index) {
            Some(turn) => {
                *turn = turn.wrapping_add(1);
                turn.wrapping_sub(1)
            }
            None => 0,
        },
        Algorithm::RoundRobinConsistent => {
            let next = state.turns.get(index).copied().unwrap_or(0);
            let Some(known) = state.remembered_turns.get_mut(index) else {
                return 0;
            };
            if let Some(turn) = known.get(input) {
                return *turn;
            }
            known.insert(input.to_vec(), next);
            if let Some(turn) = state.turns.get_mut(index) {
                *turn += 1;
            }
            next
        }
    }
}

/// The Internet checksum (RFC 1071); an odd last byte is padded with a zero.
pub(crate) fn csum16(input: &[u8]) -> u16 {
    let mut sum: u64 = 0;
    let (words, tail) = input.as_chunks::<4>();
    for word in words {
        sum += u64::from(u32::from_be_bytes(*word));
    }
    let mut last = [0; 4];
    for (place, byte) in last.iter_mut().zip(tail) {
        *place = *byte;
    }
    sum += u64::from(u32::from_be_bytes(last));
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The same over words whose places are known beforehand.
pub(crate) fn sum(sum: &Sum, words: &Words) -> u16 {
    if sum.guard.is_some_and(|guard| words[guard as usize] == 0) {
        return u16::MAX;
    }
    // Any multiple of 16 bits weighs the same in ones' complement, so the columns need no cutting.
    let small = sum.small.iter().fold(0u64, |total, (slot, shift)| {
        total.wrapping_add(words[*slot as usize] << (shift & 63))
    });
    let total = sum
        .parts
        .iter()
        .fold(sum.constant + u128::from(small), |total, (slot, shift)| {
            total + (u128::from(words[*slot as usize]) << shift)
        });
    let (low, carry) = (total as u64).overflowing_add((total >> 64) as u64);
    // Folding once more leaves 34 bits at most.
    let mut total = (low >> 32) + (low & 0xffff_ffff) + u64::from(carry);
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

fn xor(input: &[u8], width: usize) -> u64 {
    input.chunks(width).fold(0, |result, chunk| {
        let value = chunk
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte));
        result ^ value << (8 * (width - chunk.len()))
    })
}

struct Crc {
    bits: u32,
    table: [u64; 256],
    initial: u64,
    reflected: bool,
    last: u64,
}

const fn crc_table(bits: u32, polynomial: u64, reflected: bool) -> [u64; 256] {
    let mut table = [0; 256];
    let top = 1u64 << (bits - 1);
    let all = if bits == 64 {
        u64::MAX
    } else {
        (1 << bits) - 1
    };
    let reversed = polynomial.reverse_bits() >> (64 - bits);
    let mut i = 0;
    while i < 256 {
        let mut value = if reflected {
            i as u64
        } else {
            (i as u64) << (bits - 8)
        };
        let mut bit = 0;
        while bit < 8 {
            value = if reflected {
                if value & 1 != 0 {
                    value >> 1 ^ reversed
                } else {
                    value >> 1
                }
            } else if value & top != 0 {
                (value << 1 ^ polynomial) & all
            } else {
                value << 1 & all
            };
            bit += 1;
        }
        table[i] = value;
        i += 1;
    }
    table
}

static CRC8: Crc = Crc {
    bits: 8,
    table: crc_table(8, 0x07, false),
    initial: 0,
    reflected: false,
    last: 0,
};
static CRC16: Crc = Crc {
    bits: 16,
    table: crc_table(16, 0x8005, true),
    initial: 0,
    reflected: true,
    last: 0,
};
static CRC_CCITT: Crc = Crc {
    bits: 16,
    table: crc_table(16, 0x1021, false),
    initial: 0xffff,
    reflected: false,
    last: 0,
};
static CRC32: Crc = Crc {
    bits: 32,
    table: crc_table(32, 0x04c1_1db7, true),
    initial: 0xffff_ffff,
    reflected: true,
    last: 0xffff_ffff,
};
static CRC64: Crc = Crc {
    bits: 64,
    table: crc_table(64, 0x1b, true),
    initial: 0,
    reflected: true,
    last: 0,
};

fn crc(input: &[u8], crc: &Crc) -> u64 {
    let mut value = crc.initial;
    for byte in input {
        if crc.reflected {
            value = value >> 8 ^ crc.table[(value as u8 ^ byte) as usize];
        } else {
            let index = (value >> (crc.bits - 8)) as u8 ^ byte;
            value = (value << 8 ^ crc.table[index as usize]) & crate::code::layout::mask(crc.bits);
        }
    }
    value ^ crc.last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crcs_give_their_published_check_values() {
        let check = b"123456789";
        assert_eq!(crc(check, &CRC8), 0xf4);
        assert_eq!(crc(check, &CRC16), 0xbb3d);
        assert_eq!(crc(check, &CRC_CCITT), 0x29b1);
        assert_eq!(crc(check, &CRC32), 0xcbf4_3926);
        assert_eq!(crc(check, &CRC64), crc64_bitwise(check));
    }

    fn crc64_bitwise(input: &[u8]) -> u64 {
        input.iter().fold(0, |value: u64, byte| {
            (0..8).fold(value ^ u64::from(*byte), |value, _| {
                if value & 1 == 1 {
                    value >> 1 ^ 0x1bu64.reverse_bits()
                } else {
                    value >> 1
                }
            })
        })
    }

    #[test]
    fn the_internet_checksum_of_a_header_over_itself_is_zero() {
        let header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,
            0xc7,
        ];
        assert_eq!(csum16(&header), 0xb861);
        assert_eq!(csum16(&[1, 2, 3]), !0x0402);
    }

    #[test]
    fn xor_pads_its_last_piece_at_the_end() {
        assert_eq!(xor(&[0xab, 0xcd, 0xef], 2), 0xabcd ^ 0xef00);
    }
}
