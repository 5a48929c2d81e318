//! Types as the control plane sees them.

use std::sync::Arc;

use crate::ir::control_plane::TypeDefinitionKind;
use crate::ir::{DataType, TypeDefinition};

use super::annotation::name_annotation;
use super::lower::Lower;
use super::types::{FieldDef, Ty, TyKind};

impl<'a> Lower<'a> {
    /// The width of a value as the control plane sees it (0 for a string), and the name of its type
    /// if that was made with `type`. Makes the type known.
    pub fn control_plane_type(&mut self, ty: Ty) -> (u32, Option<Arc<str>>) {
        self.data_type(ty);
        let TyKind::New(def) = self.types[ty] else {
            if matches!(self.types[ty], TyKind::Error) {
                return (0, None);
            }
            return (
                self.types.scalar(ty).map_or(0, crate::ir::Type::width),
                None,
            );
        };
        let def = &self.types.news[def];
        let width = match def.translation {
            Some((_, width)) => width.unwrap_or(0),
            None => self.types.scalar(ty).map_or(0, crate::ir::Type::width),
        };
        (width, Some(Arc::clone(&def.name)))
    }

    /// The type as the control plane sees it. Makes the named types in it known.
    pub fn data_type(&mut self, ty: Ty) -> DataType {
        match self.types[ty].clone() {
            TyKind::Bool => DataType::Bool,
            TyKind::Bits { width, signed } => DataType::Bits { width, signed },
            TyKind::Varbit(width) => DataType::Varbit(width),
            TyKind::Error => {
                let members = self.ir.errors.clone();
                self.define("error", TypeDefinitionKind::Error(members), Vec::new());
                DataType::Error
            }
            TyKind::Tuple(parts) => {
                DataType::Tuple(parts.iter().map(|part| self.data_type(*part)).collect())
            }
            TyKind::Struct(def) => {
                let def = self.types.structs[def].clone();
                let fields = self.field_types(&def.fields);
                self.define(
                    &def.control_plane_name,
                    TypeDefinitionKind::Struct(fields),
                    Vec::new(),
                );
                DataType::Struct(def.control_plane_name)
            }
            TyKind::Header(def) => {
                let def = self.types.structs[def].clone();
                let fields = self.field_types(&def.fields);
                self.define(
                    &def.control_plane_name,
                    TypeDefinitionKind::Header(fields),
                    Vec::new(),
                );
                DataType::Header(def.control_plane_name)
            }
            TyKind::Union(def) => {
                let def = self.types.structs[def].clone();
                let members = self
                    .field_types(&def.fields)
                    .into_iter()
                    .map(|(name, ty)| match ty {
                        DataType::Header(header) => (name, header),
                        _ => (name, "".into()),
                    })
                    .collect();
                self.define(
                    &def.control_plane_name,
                    TypeDefinitionKind::Union(members),
                    Vec::new(),
                );
                DataType::Union(def.control_plane_name)
            }
            TyKind::Stack(element, size) => match self.data_type(element) {
                DataType::Union(name) => DataType::UnionStack(name, size),
                DataType::Header(name) => DataType::HeaderStack(name, size),
                other => other,
            },
            TyKind::Enum(def) => {
                let def = self.types.enums[def].clone();
                let members = def
                    .members
                    .iter()
                    .map(|(name, _)| Arc::clone(name))
                    .collect();
                self.define(&def.name, TypeDefinitionKind::Enum(members), Vec::new());
                DataType::Enum(def.name)
            }
            TyKind::SerEnum(id) => {
                let def = self.types.enums[id].clone();
                let width = self.types.scalar(ty).map_or(0, crate::ir::Type::width);
                self.define(
                    &def.name,
                    TypeDefinitionKind::SerializableEnum(width, def.members),
                    Vec::new(),
                );
                DataType::SerializableEnum(def.name)
            }
            TyKind::New(id) => {
                let def = self.types.news[id].clone();
                let mut underlying = def.underlying;
                while let TyKind::New(inner) = self.types[underlying] {
                    underlying = self.types.news[inner].underlying;
                }
                let kind = match def.translation {
                    Some((uri, width)) => TypeDefinitionKind::Translated(uri, width),
                    None => TypeDefinitionKind::New(self.data_type(underlying)),
                };
                let annotations = def
                    .annotations
                    .into_iter()
                    .filter(|a| a.name() != "p4runtime_translation")
                    .collect();
                self.define(&def.name, kind, annotations);
                DataType::New(def.name)
            }
            TyKind::Void
            | TyKind::Int
            | TyKind::String
            | TyKind::MatchKind
            | TyKind::List(_)
            | TyKind::Extern(..)
            | TyKind::Block(_)
            | TyKind::Unknown => DataType::Tuple(Vec::new()),
        }
    }

    fn field_types(&mut self, fields: &[FieldDef]) -> Vec<(Arc<str>, DataType)> {
        fields
            .iter()
            .map(|field| {
                let name =
                    name_annotation(&field.annotations).unwrap_or_else(|| Arc::clone(&field.name));
                (name, self.data_type(field.ty))
            })
            .collect()
    }

    fn define(
        &mut self,
        name: &str,
        kind: TypeDefinitionKind,
        annotations: Vec<crate::ir::Annotation>,
    ) {
        if self.dead == 0 && !self.ir.type_definitions.iter().any(|d| *d.name == *name) {
            self.ir.type_definitions.push(TypeDefinition {
                name: name.into(),
                kind,
                annotations,
            });
        }
    }
}
