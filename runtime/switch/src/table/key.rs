//! A control plane's key, checked against the table's schema and packed as packets' keys are.

use crate::code::layout::mask;
use crate::code::program::Table;
use crate::error::BadField;
use crate::schema::{MatchKind, TableSchema};
use crate::{Bits, ControlError, Match};

/// A packed key: `value` under `mask`; the words of range fields hold the lower bounds in `value`
/// and the upper ones in `high`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompiledKey {
    pub(crate) value: Vec<u64>,
    pub(crate) mask: Vec<u64>,
    pub(crate) high: Vec<u64>,
    /// The key in canonical form.
    pub(crate) key: Vec<Match>,
    /// The prefix length, if the table orders by it.
    pub(crate) prefix: Option<u32>,
}

impl CompiledKey {
    /// What orders entries that match the same packet: the highest wins.
    pub(crate) fn rank(&self, priority: i32) -> i32 {
        self.prefix.map_or(priority, |prefix| prefix as i32)
    }
}

/// Checks and packs `key`.
pub(crate) fn compile(
    table: &Table,
    schema: &TableSchema,
    key: &[Match],
) -> Result<CompiledKey, ControlError> {
    if key.len() != schema.key.len() || key.is_empty() {
        return Err(ControlError::BadKeyLength {
            expected: schema.key.len(),
            found: key.len(),
        });
    }
    let words = table.key_words as usize;
    let mut compiled = CompiledKey {
        value: vec![0; words],
        mask: vec![0; words],
        high: vec![0; words.saturating_sub(table.range_start as usize)],
        key: Vec::with_capacity(key.len()),
        prefix: (!table.exact && !schema.has_priority).then_some(0),
    };
    for ((field, part), given) in schema.key.iter().zip(&table.key).zip(key) {
        let bad = |why| ControlError::BadKey {
            field: field.name.clone(),
            why,
        };
        let width = field.width;
        let fits = |bits: &Bits| match bits.fits(width) {
            true => Ok(bits.to_words(width)),
            false => Err(bad(BadField::TooWide {
                value: bits.clone(),
                width,
            })),
        };
        let ones = || (0..width.div_ceil(64)).map(move |i| mask((width - i * 64).min(64) as u32));
        let all: Vec<u64> = ones().collect();
        let none = vec![0; all.len()];
        let (canonical, value, field_mask, high) = match (field.kind, given) {
            (MatchKind::Exact | MatchKind::Optional, Match::Exact(bits)) => {
                (Match::Exact(bits.clone()), fits(bits)?, all, None)
            }
            (MatchKind::Ternary, Match::Exact(bits)) => {
                let full = Bits::from_words(&all);
                (
                    Match::Ternary {
                        value: bits.clone(),
                        mask: full,
                    },
                    fits(bits)?,
                    all,
                    None,
                )
            }
            (MatchKind::Lpm, Match::Exact(bits)) => {
                let canonical = Match::Lpm {
                    value: bits.clone(),
                    prefix_len: width,
                };
                if let Some(prefix) = &mut compiled.prefix {
                    *prefix = width as u32;
                }
                (canonical, fits(bits)?, all, None)
            }
            (MatchKind::Ternary | MatchKind::Optional, Match::Ternary { value, mask }) => {
                let (words, mask_words) = (fits(value)?, fits(mask)?);
                if words.iter().zip(&mask_words).any(|(v, m)| v & !m != 0) {
                    return Err(bad(BadField::OutsideMask));
                }
                let canonical = if mask.is_zero() {
                    Match::Any
                } else {
                    given.clone()
                };
                if field.kind == MatchKind::Optional && !mask.is_zero() && mask_words != all {
                    return Err(bad(BadField::Kind {
                        expected: field.kind,
                    }));
                }
                (canonical, words, mask_words, None)
            }
            (MatchKind::Lpm, Match::Lpm { value, prefix_len }) => {
                let prefix_len = *prefix_len;
                if prefix_len > width {
                    return Err(bad(BadField::PrefixTooLong { prefix_len, width }));
                }
                let words = fits(value)?;
                let mask_words: Vec<u64> = (0..words.len())
                    .map(|i| {
                        let bits = (width - i * 64).min(64);
                        // Bits of this word that the prefix leaves out.
                        let free = (width - prefix_len).saturating_sub(i * 64).min(bits);
                        mask(bits as u32) & !mask(free as u32)
                    })
                    .collect();
                if words.iter().zip(&mask_words).any(|(v, m)| v & !m != 0) {
                    return Err(bad(BadField::OutsideMask));
                }
                if let Some(prefix) = &mut compiled.prefix {
                    *prefix = prefix_len as u32;
                }
                let canonical = if prefix_len == 0 {
                    Match::Any
                } else {
                    given.clone()
                };
                (canonical, words, mask_words, None)
            }
            (MatchKind::Range, Match::Range { low, high }) => {
                let (low_words, high_words) = (fits(low)?, fits(high)?);
                if low > high {
                    return Err(bad(BadField::EmptyRange));
                }
                let whole = low.is_zero() && high_words == all;
                let canonical = if whole { Match::Any } else { given.clone() };
                (canonical, low_words, none, Some(high_words))
            }
            (MatchKind::Range, Match::Any) => (Match::Any, none.clone(), none, Some(all)),
            (MatchKind::Ternary | MatchKind::Lpm | MatchKind::Optional, Match::Any) => {
                (Match::Any, none.clone(), none, None)
            }
            _ => {
                return Err(bad(BadField::Kind {
                    expected: field.kind,
                }));
            }
        };
        for (i, value) in value.iter().enumerate() {
            let word = part.word as usize + i;
            let of_program = part
                .mask
                .as_ref()
                .and_then(|m| m.get(i))
                .copied()
                .unwrap_or(u64::MAX);
            if let Some(target) = compiled.value.get_mut(word) {
                *target |= (value & of_program) << part.shift;
            }
            let bits = field_mask.get(i).copied().unwrap_or(0) & of_program;
            if let Some(target) = compiled.mask.get_mut(word) {
                *target |= bits << part.shift;
            }
            if let Some(high) = &high
                && let Some(at) = word.checked_sub(table.range_start as usize)
                && let (Some(target), Some(high)) = (compiled.high.get_mut(at), high.get(i))
            {
                *target = *high;
            }
        }
        compiled.key.push(canonical);
    }
    Ok(compiled)
}
