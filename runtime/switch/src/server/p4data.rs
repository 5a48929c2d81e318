//! Values of any P4 type ↔ the core's bits: cells of registers and samples of digests. A value of
//! a compound type is its members' bits, in the order of declaration.

use signalbox_p4runtime::{
    Catalog,
    proto::p4::{
        config::v1::{
            P4BitstringLikeTypeSpec, P4DataTypeSpec, P4TypeInfo, p4_bitstring_like_type_spec,
            p4_data_type_spec::TypeSpec, p4_new_type_spec::Representation,
        },
        v1::{P4Data, P4Header, P4StructLike, p4_data::Data},
    },
};

use super::{
    keys::checked,
    refusal::{Outcome, Refusal},
};
use crate::Bits;

/// The type of a register's cells.
pub(super) fn register_spec(catalog: &Catalog, id: u32) -> Option<&P4DataTypeSpec> {
    catalog
        .p4info()
        .registers
        .iter()
        .find(|r| r.preamble.as_ref().is_some_and(|p| p.id == id))?
        .type_spec
        .as_ref()
}

/// The type of a digest's samples.
pub(super) fn digest_spec(catalog: &Catalog, id: u32) -> Option<&P4DataTypeSpec> {
    catalog
        .p4info()
        .digests
        .iter()
        .find(|d| d.preamble.as_ref().is_some_and(|p| p.id == id))?
        .type_spec
        .as_ref()
}

fn types(catalog: &Catalog) -> &P4TypeInfo {
    static NONE: std::sync::OnceLock<P4TypeInfo> = std::sync::OnceLock::new();
    catalog
        .p4info()
        .type_info
        .as_ref()
        .unwrap_or_else(|| NONE.get_or_init(P4TypeInfo::default))
}

fn unsupported(what: &str) -> Refusal {
    Refusal::unimplemented(format!("values of type {what} are not supported"))
}

/// The value of one cell.
pub(super) fn cell_from_core(
    catalog: &Catalog,
    spec: Option<&P4DataTypeSpec>,
    value: &Bits,
) -> Outcome<P4Data> {
    from_core(catalog, spec, &mut std::iter::once(value.clone()))
}

/// A value whose leaves come one by one.
pub(super) fn from_core(
    catalog: &Catalog,
    spec: Option<&P4DataTypeSpec>,
    bits: &mut dyn Iterator<Item = Bits>,
) -> Outcome<P4Data> {
    let types = types(catalog);
    let mut next = || bits.next().unwrap_or_else(|| Bits::from(0u64));
    let data = match spec.and_then(|s| s.type_spec.as_ref()) {
        None => Data::Bitstring(next().as_bytes().to_vec()),
        Some(TypeSpec::Bitstring(spec)) => Data::Bitstring(leaf(spec, &next())),
        Some(TypeSpec::Bool(_)) => Data::Bool(!next().is_zero()),
        Some(TypeSpec::SerializableEnum(_)) => Data::EnumValue(next().as_bytes().to_vec()),
        Some(TypeSpec::Enum(named)) => {
            let index = next().to_u64().and_then(|n| usize::try_from(n).ok());
            let member = types
                .enums
                .get(&named.name)
                .zip(index)
                .and_then(|(spec, index)| spec.members.get(index))
                .ok_or_else(|| unsupported(&format!("enum `{}`", named.name)))?;
            Data::Enum(member.name.clone())
        }
        Some(TypeSpec::NewType(named)) => {
            let representation = types
                .new_types
                .get(&named.name)
                .and_then(|t| t.representation.as_ref());
            return match representation {
                Some(Representation::OriginalType(spec)) => from_core(catalog, Some(spec), bits),
                _ => Ok(bitstring(next().as_bytes().to_vec())),
            };
        }
        Some(TypeSpec::Struct(named)) => {
            let spec = types
                .structs
                .get(&named.name)
                .ok_or_else(|| unsupported(&format!("struct `{}`", named.name)))?;
            let members = spec
                .members
                .iter()
                .map(|member| from_core(catalog, member.type_spec.as_ref(), bits))
                .collect::<Outcome<_>>()?;
            Data::Struct(P4StructLike { members })
        }
        Some(TypeSpec::Tuple(tuple)) => {
            let members = tuple
                .members
                .iter()
                .map(|spec| from_core(catalog, Some(spec), bits))
                .collect::<Outcome<_>>()?;
            Data::Tuple(P4StructLike { members })
        }
        Some(TypeSpec::Header(named)) => {
            let spec = types
                .headers
                .get(&named.name)
                .ok_or_else(|| unsupported(&format!("header `{}`", named.name)))?;
            Data::Header(P4Header {
                is_valid: true,
                bitstrings: spec
                    .members
                    .iter()
                    .filter_map(|member| member.type_spec.as_ref())
                    .map(|spec| leaf(spec, &next()))
                    .collect(),
            })
        }
        Some(TypeSpec::Error(_)) => return Err(unsupported("error")),
        Some(TypeSpec::HeaderUnion(_)) => return Err(unsupported("header_union")),
        Some(TypeSpec::HeaderStack(_) | TypeSpec::HeaderUnionStack(_)) => {
            return Err(unsupported("stack"));
        }
    };
    Ok(P4Data { data: Some(data) })
}

fn bitstring(bytes: Vec<u8>) -> P4Data {
    P4Data {
        data: Some(Data::Bitstring(bytes)),
    }
}

/// Canonical bytes of bit<W> or int<W>.
fn leaf(spec: &P4BitstringLikeTypeSpec, value: &Bits) -> Vec<u8> {
    let Some(p4_bitstring_like_type_spec::TypeSpec::Int(int)) = &spec.type_spec else {
        return value.as_bytes().to_vec();
    };
    let width = usize::try_from(int.bitwidth).unwrap_or(0);
    if width == 0 || value.bit_length() < width {
        // Not negative; its top bit must not look like a sign.
        let mut bytes = value.as_bytes().to_vec();
        if bytes.first().is_some_and(|byte| byte & 0x80 != 0) {
            bytes.insert(0, 0);
        }
        return bytes;
    }
    let mut bytes = value.as_bytes().to_vec();
    let surplus = bytes.len() * 8 - width;
    if let Some(first) = bytes.first_mut() {
        *first |= !(0xffu32 >> surplus) as u8;
    }
    while matches!(bytes.as_slice(), [0xff, next, ..] if next & 0x80 != 0) {
        bytes.remove(0);
    }
    bytes
}

/// The bits of one cell, from a value of the cell's type.
pub(super) fn cell_to_core(
    catalog: &Catalog,
    spec: Option<&P4DataTypeSpec>,
    data: &P4Data,
) -> Outcome<Bits> {
    let mismatch = |expected: &str| {
        Err(Refusal::invalid(format!(
            "the data is not of the declared type: expected {expected}"
        )))
    };
    let data = data
        .data
        .as_ref()
        .ok_or_else(|| Refusal::invalid("the data is empty"))?;
    match (spec.and_then(|s| s.type_spec.as_ref()), data) {
        (None, Data::Bitstring(bytes)) => Ok(Bits::from(bytes.as_slice())),
        (Some(TypeSpec::Bitstring(spec)), Data::Bitstring(bytes)) => leaf_to_core(spec, bytes),
        (Some(TypeSpec::Bool(_)), Data::Bool(b)) => Ok(Bits::from(u64::from(*b))),
        (Some(TypeSpec::SerializableEnum(_)), Data::EnumValue(bytes)) if !bytes.is_empty() => {
            Ok(Bits::from(bytes.as_slice()))
        }
        (Some(TypeSpec::NewType(named)), data) => {
            let representation = types(catalog)
                .new_types
                .get(&named.name)
                .and_then(|t| t.representation.as_ref());
            match (representation, data) {
                (Some(Representation::OriginalType(spec)), data) => cell_to_core(
                    catalog,
                    Some(spec),
                    &P4Data {
                        data: Some(data.clone()),
                    },
                ),
                (_, Data::Bitstring(bytes)) if !bytes.is_empty() => {
                    Ok(Bits::from(bytes.as_slice()))
                }
                _ => mismatch("a bitstring"),
            }
        }
        (None | Some(TypeSpec::Bitstring(_)), _) => mismatch("a bitstring"),
        (Some(TypeSpec::Bool(_)), _) => mismatch("a bool"),
        (Some(TypeSpec::SerializableEnum(_)), _) => mismatch("an enum value"),
        _ => Err(unsupported("a compound type in a register")),
    }
}

fn leaf_to_core(spec: &P4BitstringLikeTypeSpec, bytes: &[u8]) -> Outcome<Bits> {
    use p4_bitstring_like_type_spec::TypeSpec as T;
    let width = |w: i32| usize::try_from(w).unwrap_or(0);
    match &spec.type_spec {
        Some(T::Bit(bit)) => checked(bytes, width(bit.bitwidth)),
        Some(T::Int(int)) => {
            let width = width(int.bitwidth);
            let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
            if !negative {
                return checked(bytes, width.saturating_sub(1));
            }
            // All bits from the sign upwards are ones; drop those beyond the width.
            let mut inverse: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
            if inverse.iter().all(|byte| *byte == 0) {
                inverse = vec![0];
            }
            checked(&inverse, width.saturating_sub(1))?;
            let len = width.div_ceil(8);
            let mut kept: Vec<u8> = std::iter::repeat_n(0xff, len.saturating_sub(bytes.len()))
                .chain(bytes.iter().copied().skip(bytes.len().saturating_sub(len)))
                .collect();
            if let Some(first) = kept.first_mut() {
                *first &= (0xffu32 >> (len * 8 - width)) as u8;
            }
            Ok(Bits::from(kept.as_slice()))
        }
        _ => Err(unsupported("varbit")),
    }
}

#[cfg(test)]
mod tests {
    use signalbox_p4runtime::proto::p4::config::v1::{P4BitTypeSpec, P4Info, P4IntTypeSpec};

    use super::*;

    fn spec(type_spec: p4_bitstring_like_type_spec::TypeSpec) -> P4DataTypeSpec {
        P4DataTypeSpec {
            type_spec: Some(TypeSpec::Bitstring(P4BitstringLikeTypeSpec {
                type_spec: Some(type_spec),
                ..P4BitstringLikeTypeSpec::default()
            })),
        }
    }

    #[test]
    fn signed_cells_are_canonical_both_ways() {
        let catalog = Catalog::new(P4Info::default()).unwrap();
        let int = |bitwidth| {
            spec(p4_bitstring_like_type_spec::TypeSpec::Int(P4IntTypeSpec {
                bitwidth,
            }))
        };
        for (width, core, wire) in [
            (8, 0x9du64, &[0x9du8][..]),
            (12, 0xd1d, &[0xfd, 0x1d]),
            (16, 0xffff, &[0xff]),
            (16, 0x0080, &[0x00, 0x80]),
            (32, 0xffff_ff7f, &[0xff, 0x7f]),
            (12, 0, &[0]),
        ] {
            let spec = int(width);
            let data = cell_from_core(&catalog, Some(&spec), &Bits::from(core)).unwrap();
            assert_eq!(data, bitstring(wire.to_vec()), "int<{width}> {core:#x}");
            let back = cell_to_core(&catalog, Some(&spec), &data).unwrap();
            assert_eq!(back, Bits::from(core), "int<{width}> {wire:x?}");
        }
        assert!(cell_to_core(&catalog, Some(&int(8)), &bitstring(vec![0, 0x80])).is_err());
        assert!(cell_to_core(&catalog, Some(&int(8)), &bitstring(vec![0xff, 0x7f])).is_err());
    }

    #[test]
    fn an_unsigned_cell_must_fit() {
        let catalog = Catalog::new(P4Info::default()).unwrap();
        let spec = spec(p4_bitstring_like_type_spec::TypeSpec::Bit(P4BitTypeSpec {
            bitwidth: 9,
        }));
        assert!(cell_to_core(&catalog, Some(&spec), &bitstring(vec![1, 0xff])).is_ok());
        assert!(cell_to_core(&catalog, Some(&spec), &bitstring(vec![2, 0])).is_err());
        assert!(cell_to_core(&catalog, Some(&spec), &bitstring(vec![])).is_err());
    }
}
