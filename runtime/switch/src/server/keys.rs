//! P4Runtime's matches ↔ the core's, with the rules of canonical form (P4Runtime 1.5,
//! "Match Format"): what does not matter is left out, and no value has bits that do not matter.

use signalbox_p4runtime::{
    Code, Value,
    catalog::MatchKind,
    proto::p4::v1::{
        FieldMatch,
        field_match::{self, FieldMatchType},
    },
    value::{self, Width},
};

use super::{
    binding::BoundKey,
    refusal::{Outcome, Refusal},
};
use crate::{Bits, Match, MatchKind as CoreKind};

/// One match a field of the core's key, from the fields that the message has.
pub(super) fn to_core(
    owner: &str,
    keys: &[BoundKey],
    fields: &[FieldMatch],
) -> Outcome<Vec<Match>> {
    let mut matches: Vec<Option<Match>> = vec![None; keys.len()];
    for field in fields {
        let Some(key) = keys.iter().find(|key| key.field.id == field.field_id) else {
            return Err(Refusal::invalid(format!(
                "`{owner}` has no match field with id {}",
                field.field_id
            )));
        };
        let found = one_to_core(key, field).map_err(|refusal| {
            refusal.at(&format!("match field `{}` of `{owner}`", key.field.name))
        })?;
        match matches.get_mut(key.place) {
            Some(slot @ None) => *slot = Some(found),
            _ => {
                return Err(Refusal::invalid(format!(
                    "match field `{}` of `{owner}` is given twice",
                    key.field.name
                )));
            }
        }
    }
    for key in keys {
        if let Some(slot @ None) = matches.get_mut(key.place) {
            if key.field.kind == MatchKind::Exact {
                return Err(Refusal::invalid(format!(
                    "match field `{}` of `{owner}` is exact and is missing",
                    key.field.name
                )));
            }
            *slot = Some(Match::Any);
        }
    }
    Ok(matches
        .into_iter()
        .map(|m| m.unwrap_or(Match::Any))
        .collect())
}

fn one_to_core(key: &BoundKey, field: &FieldMatch) -> Outcome<Match> {
    let kind = key.field.kind;
    match (kind, field.field_match_type.as_ref()) {
        (_, None) => Err(Refusal::invalid("it has no value")),
        (MatchKind::Exact, Some(FieldMatchType::Exact(m))) => {
            let bits = bits(&m.value, key)?;
            Ok(match key.core {
                CoreKind::Ternary => full(bits, key.width),
                _ => Match::Exact(bits),
            })
        }
        (MatchKind::Optional, Some(FieldMatchType::Optional(m))) => {
            let bits = bits(&m.value, key)?;
            Ok(match key.core {
                CoreKind::Ternary => full(bits, key.width),
                _ => Match::Exact(bits),
            })
        }
        (MatchKind::Ternary, Some(FieldMatchType::Ternary(m))) => {
            let (value, mask) = (bits(&m.value, key)?, bits(&m.mask, key)?);
            if mask.is_zero() {
                return Err(Refusal::invalid(
                    "a mask of zeros matches everything: leave the field out",
                ));
            }
            if !within(&value, &mask) {
                return Err(Refusal::invalid(format!(
                    "value {value} has bits outside its mask {mask}"
                )));
            }
            Ok(Match::Ternary { value, mask })
        }
        (MatchKind::Lpm, Some(FieldMatchType::Lpm(m))) => {
            let value = bits(&m.value, key)?;
            let prefix_len = usize::try_from(m.prefix_len).unwrap_or(0);
            if prefix_len == 0 {
                return Err(Refusal::invalid(
                    "a prefix of no bits matches everything: leave the field out",
                ));
            }
            if prefix_len > key.width {
                return Err(Refusal::invalid(format!(
                    "a prefix of {prefix_len} bits in a field of {}",
                    key.width
                )));
            }
            let mask = Bits::from(Value::prefix_mask(key.width, prefix_len).as_bytes());
            if !within(&value, &mask) {
                return Err(Refusal::invalid(format!(
                    "value {value} has bits after its prefix of {prefix_len} bits"
                )));
            }
            Ok(match key.core {
                CoreKind::Ternary => Match::Ternary { value, mask },
                _ => Match::Lpm { value, prefix_len },
            })
        }
        (MatchKind::Range, Some(FieldMatchType::Range(m))) => {
            let (low, high) = (bits(&m.low, key)?, bits(&m.high, key)?);
            if low > high {
                return Err(Refusal::invalid(format!(
                    "the range {low} to {high} is empty"
                )));
            }
            if low.is_zero() && high.as_bytes() == Value::ones(key.width).as_bytes() {
                return Err(Refusal::invalid(
                    "the whole range matches everything: leave the field out",
                ));
            }
            Ok(Match::Range { low, high })
        }
        (_, Some(other)) => Err(Refusal::invalid(format!(
            "it takes {kind} matches, not {}",
            match other {
                FieldMatchType::Exact(_) => "exact",
                FieldMatchType::Ternary(_) => "ternary",
                FieldMatchType::Lpm(_) => "lpm",
                FieldMatchType::Range(_) => "range",
                FieldMatchType::Optional(_) => "optional",
                FieldMatchType::Other(_) => "other",
            }
        ))),
    }
}

fn full(value: Bits, width: usize) -> Match {
    Match::Ternary {
        value,
        mask: Bits::from(Value::ones(width).as_bytes()),
    }
}

fn bits(bytes: &[u8], key: &BoundKey) -> Outcome<Bits> {
    checked(bytes, key.width)
}

/// A byte string of any length whose value fits.
pub(super) fn checked(bytes: &[u8], width: usize) -> Outcome<Bits> {
    match value::check(bytes, Width::Bits(width)) {
        Ok(()) => Ok(Bits::from(bytes)),
        Err(error) => Err(Refusal::new(Code::OutOfRange, error.to_string())),
    }
}

/// Whether every bit of the value is in the mask.
fn within(value: &Bits, mask: &Bits) -> bool {
    let (value, mask) = (value.as_bytes(), mask.as_bytes());
    let longer = value.len().saturating_sub(mask.len());
    value.iter().take(longer).all(|byte| *byte == 0)
        && value
            .iter()
            .rev()
            .zip(mask.iter().rev())
            .all(|(v, m)| v & !m == 0)
}

/// The message's fields for a key of the core, in P4Info's order, without those that match
/// everything.
pub(super) fn from_core(keys: &[BoundKey], matches: &[Match]) -> Vec<FieldMatch> {
    keys.iter()
        .filter_map(|key| {
            let kind = one_from_core(key, matches.get(key.place)?)?;
            Some(FieldMatch {
                field_id: key.field.id,
                field_match_type: Some(kind),
            })
        })
        .collect()
}

fn one_from_core(key: &BoundKey, found: &Match) -> Option<FieldMatchType> {
    let bytes = |bits: &Bits| bits.as_bytes().to_vec();
    Some(match (key.field.kind, found) {
        (MatchKind::Exact, Match::Any) => {
            FieldMatchType::Exact(field_match::Exact { value: vec![0] })
        }
        (_, Match::Any) => return None,
        (MatchKind::Exact, Match::Exact(value) | Match::Ternary { value, .. }) => {
            FieldMatchType::Exact(field_match::Exact {
                value: bytes(value),
            })
        }
        (MatchKind::Optional, Match::Ternary { mask, .. }) if mask.is_zero() => return None,
        (MatchKind::Optional, Match::Exact(value) | Match::Ternary { value, .. }) => {
            FieldMatchType::Optional(field_match::Optional {
                value: bytes(value),
            })
        }
        (_, Match::Exact(value)) => FieldMatchType::Ternary(field_match::Ternary {
            value: bytes(value),
            mask: Value::ones(key.width).into_bytes(),
        }),
        (_, Match::Ternary { mask, .. }) if mask.is_zero() => return None,
        (MatchKind::Lpm, Match::Ternary { value, mask }) => {
            // Only prefixes were let in; the mask's ones are its length.
            let ones: u32 = mask.as_bytes().iter().map(|byte| byte.count_ones()).sum();
            FieldMatchType::Lpm(field_match::Lpm {
                value: bytes(value),
                prefix_len: i32::try_from(ones).unwrap_or(i32::MAX),
            })
        }
        (_, Match::Ternary { value, mask }) => FieldMatchType::Ternary(field_match::Ternary {
            value: bytes(value),
            mask: bytes(mask),
        }),
        (_, Match::Lpm { prefix_len: 0, .. }) => return None,
        (_, Match::Lpm { value, prefix_len }) => FieldMatchType::Lpm(field_match::Lpm {
            value: bytes(value),
            prefix_len: i32::try_from(*prefix_len).unwrap_or(i32::MAX),
        }),
        (_, Match::Range { low, high }) => {
            if low.is_zero() && high.as_bytes() == Value::ones(key.width).as_bytes() {
                return None;
            }
            FieldMatchType::Range(field_match::Range {
                low: bytes(low),
                high: bytes(high),
            })
        }
    })
}
