//! Types as P4Info carries them.

use num_bigint::BigInt;
use signalbox_p4runtime::proto::p4::config::v1 as p4;

use crate::ir::control_plane::TypeDefinitionKind;
use crate::ir::{DataType, TypeDefinition};

use super::annotation::annotations;

pub fn named(name: &str) -> p4::P4NamedType {
    p4::P4NamedType {
        name: name.to_string(),
    }
}

pub fn small(width: u32) -> i32 {
    i32::try_from(width).unwrap_or(i32::MAX)
}

fn bitstring(ty: p4::p4_bitstring_like_type_spec::TypeSpec) -> p4::P4BitstringLikeTypeSpec {
    p4::P4BitstringLikeTypeSpec {
        type_spec: Some(ty),
        ..Default::default()
    }
}

fn bits(ty: &DataType) -> Option<p4::P4BitstringLikeTypeSpec> {
    use p4::p4_bitstring_like_type_spec::TypeSpec;
    Some(bitstring(match ty {
        DataType::Bits {
            width,
            signed: false,
        } => TypeSpec::Bit(p4::P4BitTypeSpec {
            bitwidth: small(*width),
        }),
        DataType::Bits {
            width,
            signed: true,
        } => TypeSpec::Int(p4::P4IntTypeSpec {
            bitwidth: small(*width),
        }),
        DataType::Varbit(width) => TypeSpec::Varbit(p4::P4VarbitTypeSpec {
            max_bitwidth: small(*width),
        }),
        _ => return None,
    }))
}

/// A type where it is used.
pub fn data_type(ty: &DataType) -> p4::P4DataTypeSpec {
    use p4::p4_data_type_spec::TypeSpec;
    let spec = match ty {
        DataType::Bits { .. } | DataType::Varbit(_) => {
            TypeSpec::Bitstring(bits(ty).unwrap_or_default())
        }
        DataType::Bool => TypeSpec::Bool(p4::P4BoolType {}),
        DataType::Error => TypeSpec::Error(p4::P4ErrorType {}),
        DataType::Tuple(parts) => TypeSpec::Tuple(p4::P4TupleTypeSpec {
            members: parts.iter().map(data_type).collect(),
        }),
        DataType::Struct(name) => TypeSpec::Struct(named(name)),
        DataType::Header(name) => TypeSpec::Header(named(name)),
        DataType::Union(name) => TypeSpec::HeaderUnion(named(name)),
        DataType::HeaderStack(name, size) => TypeSpec::HeaderStack(p4::P4HeaderStackTypeSpec {
            header: Some(named(name)),
            size: small(*size),
        }),
        DataType::UnionStack(name, size) => {
            TypeSpec::HeaderUnionStack(p4::P4HeaderUnionStackTypeSpec {
                header_union: Some(named(name)),
                size: small(*size),
            })
        }
        DataType::Enum(name) => TypeSpec::Enum(named(name)),
        DataType::SerializableEnum(name) => TypeSpec::SerializableEnum(named(name)),
        DataType::New(name) => TypeSpec::NewType(named(name)),
    };
    p4::P4DataTypeSpec {
        type_spec: Some(spec),
    }
}

/// A number in as many bytes as its width needs.
pub fn bytes(value: &BigInt, width: u32) -> Vec<u8> {
    let length = width.div_ceil(8).max(1) as usize;
    let digits = value.magnitude().to_bytes_be();
    let mut out = vec![0; length.saturating_sub(digits.len())];
    out.extend(digits);
    out
}

/// All types that have a name.
pub fn type_info(definitions: &[TypeDefinition]) -> p4::P4TypeInfo {
    let mut info = p4::P4TypeInfo::default();
    for definition in definitions {
        let name = definition.name.to_string();
        match &definition.kind {
            TypeDefinitionKind::Struct(fields) => {
                let members = fields
                    .iter()
                    .map(|(name, ty)| p4::p4_struct_type_spec::Member {
                        name: name.to_string(),
                        type_spec: Some(data_type(ty)),
                    })
                    .collect();
                info.structs.insert(
                    name,
                    p4::P4StructTypeSpec {
                        members,
                        ..Default::default()
                    },
                );
            }
            TypeDefinitionKind::Header(fields) => {
                let members = fields
                    .iter()
                    .map(|(name, ty)| p4::p4_header_type_spec::Member {
                        name: name.to_string(),
                        type_spec: bits(ty),
                    })
                    .collect();
                info.headers.insert(
                    name,
                    p4::P4HeaderTypeSpec {
                        members,
                        ..Default::default()
                    },
                );
            }
            TypeDefinitionKind::Union(members) => {
                let members = members
                    .iter()
                    .map(|(name, ty)| p4::p4_header_union_type_spec::Member {
                        name: name.to_string(),
                        header: Some(named(ty)),
                    })
                    .collect();
                info.header_unions.insert(
                    name,
                    p4::P4HeaderUnionTypeSpec {
                        members,
                        ..Default::default()
                    },
                );
            }
            TypeDefinitionKind::Enum(members) => {
                let members = members
                    .iter()
                    .map(|name| p4::p4_enum_type_spec::Member {
                        name: name.to_string(),
                        ..Default::default()
                    })
                    .collect();
                info.enums.insert(
                    name,
                    p4::P4EnumTypeSpec {
                        members,
                        ..Default::default()
                    },
                );
            }
            TypeDefinitionKind::SerializableEnum(width, members) => {
                let members = members
                    .iter()
                    .map(|(name, value)| p4::p4_serializable_enum_type_spec::Member {
                        name: name.to_string(),
                        value: bytes(value, *width),
                        ..Default::default()
                    })
                    .collect();
                let spec = p4::P4SerializableEnumTypeSpec {
                    underlying_type: Some(p4::P4BitTypeSpec {
                        bitwidth: small(*width),
                    }),
                    members,
                    ..Default::default()
                };
                info.serializable_enums.insert(name, spec);
            }
            TypeDefinitionKind::Error(members) => {
                info.error = Some(p4::P4ErrorTypeSpec {
                    members: members.iter().map(ToString::to_string).collect(),
                });
            }
            TypeDefinitionKind::New(_) | TypeDefinitionKind::Translated(..) => {
                let own = annotations(&definition.annotations, &[]);
                let spec = p4::P4NewTypeSpec {
                    representation: representation(&definition.kind),
                    annotations: own.text,
                    structured_annotations: own.structured,
                    ..Default::default()
                };
                info.new_types.insert(name, spec);
            }
        }
    }
    info
}

fn representation(kind: &TypeDefinitionKind) -> Option<p4::p4_new_type_spec::Representation> {
    use p4::p4_new_type_spec::Representation;
    use p4::p4_new_type_translation::{SdnString, SdnType};
    match kind {
        TypeDefinitionKind::New(ty) => Some(Representation::OriginalType(data_type(ty))),
        TypeDefinitionKind::Translated(uri, width) => {
            let sdn_type = match width {
                Some(width) => SdnType::SdnBitwidth(small(*width)),
                None => SdnType::SdnString(SdnString {}),
            };
            Some(Representation::TranslatedType(p4::P4NewTypeTranslation {
                uri: uri.to_string(),
                sdn_type: Some(sdn_type),
            }))
        }
        _ => None,
    }
}
