//! Types of P4 programs as the checker sees them. Equal types are held once, so comparing types is
//! comparing handles; declared types are equal only to themselves.

use std::sync::Arc;

use num_bigint::BigInt;

use crate::front::ast;
use crate::ir::{Annotation, Arena, Handle, Type, UniqueArena};
use crate::source::Span;

/// A type.
pub type Ty = Handle<TyKind>;

/// What a type is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TyKind {
    Void,
    Bool,
    /// Integers of any size, known at compile time.
    Int,
    Bits {
        width: u32,
        signed: bool,
    },
    Varbit(u32),
    String,
    Error,
    MatchKind,
    /// An enumeration without a representation.
    Enum(Handle<EnumDef>),
    /// An enumeration with a representation.
    SerEnum(Handle<EnumDef>),
    New(Handle<NewDef>),
    Struct(Handle<StructDef>),
    Header(Handle<StructDef>),
    Union(Handle<StructDef>),
    Stack(Ty, u32),
    Tuple(Vec<Ty>),
    List(Ty),
    /// An extern object, by name.
    Extern(Arc<str>, Vec<Ty>),
    /// A parser, control or package, by name.
    Block(Arc<str>),
    /// What is left open: `_`, or the type of something that is wrong.
    Unknown,
}

/// A struct, header or header union.
#[derive(Debug, Clone)]
pub struct StructDef {
    pub name: Arc<str>,
    pub control_plane_name: Arc<str>,
    pub fields: Vec<FieldDef>,
    pub annotations: Vec<Annotation>,
    /// How many scalars it consists of.
    pub leaves: u64,
    pub span: Span,
}

/// A field of one.
#[derive(Debug, Clone)]
pub struct FieldDef {
    pub name: Arc<str>,
    pub ty: Ty,
    pub annotations: Vec<Annotation>,
    pub span: Span,
}

/// An enumeration.
#[derive(Debug, Clone)]
pub struct EnumDef {
    pub name: Arc<str>,
    pub members: Vec<(Arc<str>, BigInt)>,
    /// Its representation.
    pub underlying: Option<Ty>,
}

/// A type made with `type`.
#[derive(Debug, Clone)]
pub struct NewDef {
    pub name: Arc<str>,
    pub underlying: Ty,
    pub annotations: Vec<Annotation>,
    /// What `@p4runtime_translation` says: the address, and the width or nothing for a string.
    pub translation: Option<(Arc<str>, Option<u32>)>,
}

/// A generic struct that waits for its arguments.
#[derive(Clone)]
pub struct GenericStruct<'a> {
    pub decl: &'a ast::Decl,
    pub body: &'a ast::StructLike,
}

/// All types.
#[derive(Debug, Clone, Default)]
pub struct Types {
    kinds: UniqueArena<TyKind>,
    pub structs: Arena<StructDef>,
    pub enums: Arena<EnumDef>,
    pub news: Arena<NewDef>,
}

impl std::ops::Index<Ty> for Types {
    type Output = TyKind;
    fn index(&self, ty: Ty) -> &TyKind {
        &self.kinds[ty]
    }
}

impl Types {
    pub fn make(&mut self, kind: TyKind) -> Ty {
        self.kinds.insert(kind).0
    }

    pub fn bits(&mut self, width: u32) -> Ty {
        self.make(TyKind::Bits {
            width,
            signed: false,
        })
    }

    pub fn unknown(&mut self) -> Ty {
        self.make(TyKind::Unknown)
    }

    pub fn bool(&mut self) -> Ty {
        self.make(TyKind::Bool)
    }

    /// The type as an error message shows it.
    pub fn name(&self, ty: Ty) -> String {
        match &self[ty] {
            TyKind::Void => "void".into(),
            TyKind::Bool => "bool".into(),
            TyKind::Int => "int".into(),
            TyKind::Bits {
                width,
                signed: false,
            } => format!("bit<{width}>"),
            TyKind::Bits {
                width,
                signed: true,
            } => format!("int<{width}>"),
            TyKind::Varbit(width) => format!("varbit<{width}>"),
            TyKind::String => "string".into(),
            TyKind::Error => "error".into(),
            TyKind::MatchKind => "match_kind".into(),
            TyKind::Enum(def) | TyKind::SerEnum(def) => self.enums[*def].name.to_string(),
            TyKind::New(def) => self.news[*def].name.to_string(),
            TyKind::Struct(def) | TyKind::Header(def) | TyKind::Union(def) => {
                self.structs[*def].name.to_string()
            }
            TyKind::Stack(element, size) => format!("{}[{size}]", self.name(*element)),
            TyKind::Tuple(parts) => format!("tuple<{}>", self.names(parts)),
            TyKind::List(element) => format!("list<{}>", self.name(*element)),
            TyKind::Extern(name, args) if args.is_empty() => name.to_string(),
            TyKind::Extern(name, args) => format!("{name}<{}>", self.names(args)),
            TyKind::Block(name) => name.to_string(),
            TyKind::Unknown => "_".into(),
        }
    }

    fn names(&self, types: &[Ty]) -> String {
        types
            .iter()
            .map(|ty| self.name(*ty))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The fields of a struct, header or union.
    pub fn fields(&self, ty: Ty) -> Option<&[FieldDef]> {
        match self[ty] {
            TyKind::Struct(def) | TyKind::Header(def) | TyKind::Union(def) => {
                Some(&self.structs[def].fields)
            }
            _ => None,
        }
    }

    /// The declaration of a struct, header or union.
    pub fn structure(&self, ty: Ty) -> Option<&StructDef> {
        match self[ty] {
            TyKind::Struct(def) | TyKind::Header(def) | TyKind::Union(def) => {
                Some(&self.structs[def])
            }
            _ => None,
        }
    }

    /// The type behind `type` and behind an enumeration's representation.
    pub fn representation(&self, ty: Ty) -> Ty {
        match self[ty] {
            TyKind::New(def) => self.representation(self.news[def].underlying),
            TyKind::SerEnum(def) => self.enums[def].underlying.unwrap_or(ty),
            _ => ty,
        }
    }

    /// How a value of the type is stored, if it is one scalar.
    pub fn scalar(&self, ty: Ty) -> Option<Type> {
        match self[self.representation(ty)] {
            TyKind::Bool => Some(Type::Bool),
            TyKind::Bits { width, signed } => Some(Type::Bits { width, signed }),
            TyKind::Varbit(width) => Some(Type::Varbit(width)),
            TyKind::Error | TyKind::Enum(_) => Some(Type::bits(32)),
            _ => None,
        }
    }

    /// The size in bits of a value whose parts all have a width: the sum; unions take the greatest.
    pub fn size_in_bits(&self, ty: Ty) -> Option<u64> {
        match &self[ty] {
            TyKind::Struct(_) | TyKind::Header(_) => {
                let mut sum = 0;
                for field in self.fields(ty)? {
                    sum += self.size_in_bits(field.ty)?;
                }
                Some(sum)
            }
            TyKind::Union(_) => {
                let mut most = 0;
                for field in self.fields(ty)? {
                    most = most.max(self.size_in_bits(field.ty)?);
                }
                Some(most)
            }
            TyKind::Stack(element, size) => Some(self.size_in_bits(*element)? * u64::from(*size)),
            TyKind::Tuple(parts) => parts.iter().map(|part| self.size_in_bits(*part)).sum(),
            TyKind::Error | TyKind::Enum(_) => None,
            _ => self.scalar(ty).map(|t| u64::from(t.width())),
        }
    }

    /// How many scalars a value consists of.
    pub fn leaves(&self, ty: Ty) -> u64 {
        match &self[ty] {
            TyKind::Struct(def) | TyKind::Header(def) | TyKind::Union(def) => {
                self.structs[*def].leaves
            }
            TyKind::Stack(element, size) => self.leaves(*element).saturating_mul(u64::from(*size)),
            TyKind::Tuple(parts) => parts
                .iter()
                .map(|part| self.leaves(*part))
                .fold(0, u64::saturating_add),
            _ => 1,
        }
    }

    /// The smallest size in bits: as [`Self::size_in_bits`], with varbits empty and unions at their least.
    pub fn least_size_in_bits(&self, ty: Ty) -> Option<u64> {
        match &self[ty] {
            TyKind::Struct(_) | TyKind::Header(_) => {
                let mut sum = 0;
                for field in self.fields(ty)? {
                    sum += self.least_size_in_bits(field.ty)?;
                }
                Some(sum)
            }
            TyKind::Union(_) => Some(
                self.fields(ty)?
                    .iter()
                    .filter_map(|f| self.least_size_in_bits(f.ty))
                    .min()
                    .unwrap_or(0),
            ),
            TyKind::Stack(element, size) => {
                Some(self.least_size_in_bits(*element)? * u64::from(*size))
            }
            TyKind::Varbit(_) => Some(0),
            _ => self.size_in_bits(ty),
        }
    }
}
