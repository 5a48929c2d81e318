//! What the control plane sees of a program besides the things themselves: names, annotations,
//! types that were given a name, packet headers, and the package.

use std::sync::Arc;

use num_bigint::BigInt;

use super::arena::Handle;
use super::{
    Action, Counter, DigestList, DirectCounter, DirectMeter, Meter, Profile, Register, Table,
    ValueSet,
};

/// The name and the annotations of a thing.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// The full name, with dots.
    pub name: Arc<str>,
    /// The id by `@id`, if one is written.
    pub id: Option<u32>,
    /// All annotations, in order.
    pub annotations: Vec<Annotation>,
}

/// An annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Annotation {
    /// `@name` or `@name(…)`: the text of the body, and its words.
    Unstructured {
        /// The name behind `@`.
        name: Arc<str>,
        /// The body without its parentheses; nothing when none were written.
        body: Option<Arc<str>>,
        /// The text, if the body is one string literal.
        string: Option<Arc<str>>,
    },
    /// `@name[a, b]`
    List {
        /// The name behind `@`.
        name: Arc<str>,
        /// The arguments.
        arguments: Vec<AnnotationArgument>,
    },
    /// `@name[k = a]`
    Pairs {
        /// The name behind `@`.
        name: Arc<str>,
        /// Keys and arguments.
        arguments: Vec<(Arc<str>, AnnotationArgument)>,
    },
}

impl Annotation {
    /// The name behind `@`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Unstructured { name, .. }
            | Self::List { name, .. }
            | Self::Pairs { name, .. } => name,
        }
    }
}

/// An argument of a structured annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnnotationArgument {
    /// A string.
    String(Arc<str>),
    /// A number.
    Number(BigInt),
    /// A truth value.
    Bool(bool),
}

/// Something that the control plane sees.
#[derive(Debug, Clone)]
pub enum ControlPlaneItem {
    /// A table.
    Table(Handle<Table>),
    /// An action.
    Action(Handle<Action>),
    /// A counter.
    Counter(Handle<Counter>),
    /// A table's counter.
    DirectCounter(Handle<DirectCounter>),
    /// A meter.
    Meter(Handle<Meter>),
    /// A table's meter.
    DirectMeter(Handle<DirectMeter>),
    /// A register.
    Register(Handle<Register>),
    /// An action profile or selector.
    Profile(Handle<Profile>),
    /// A value set.
    ValueSet(Handle<ValueSet>),
    /// A digest.
    Digest(Handle<DigestList>),
    /// A header between controller and switch.
    PacketHeader(PacketHeader),
}

/// A header with `@controller_header`.
#[derive(Debug, Clone)]
pub struct PacketHeader {
    /// The name by which the control plane knows it: `packet_in` or `packet_out`.
    pub controller_name: Arc<str>,
    /// The name of the type, and its annotations.
    pub names: Names,
    /// Its fields: name, width as the control plane sees it, name of its type if made with `type`,
    /// id by `@id`, annotations.
    pub fields: Vec<PacketHeaderField>,
}

/// A field of a [`PacketHeader`].
#[derive(Debug, Clone)]
pub struct PacketHeaderField {
    /// Whether `@hidden` keeps it from the control plane. It takes an id all the same.
    pub hidden: bool,
    /// Its name.
    pub name: Arc<str>,
    /// As the control plane sees it; 0 for a string.
    pub width: u32,
    /// The name of its type, if that was made with `type`.
    pub type_name: Option<Arc<str>>,
    /// The id by `@id`, if one is written.
    pub id: Option<u32>,
    /// Its annotations.
    pub annotations: Vec<Annotation>,
}

/// A type as the control plane sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of P4_16 section 7")]
pub enum DataType {
    Bool,
    Bits { width: u32, signed: bool },
    Varbit(u32),
    Error,
    Tuple(Vec<DataType>),
    Struct(Arc<str>),
    Header(Arc<str>),
    Union(Arc<str>),
    HeaderStack(Arc<str>, u32),
    UnionStack(Arc<str>, u32),
    Enum(Arc<str>),
    SerializableEnum(Arc<str>),
    New(Arc<str>),
}

/// A type that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeDefinition {
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub kind: TypeDefinitionKind,
    /// Its annotations.
    pub annotations: Vec<Annotation>,
}

/// What a type with a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeDefinitionKind {
    /// A struct, by its fields.
    Struct(Vec<(Arc<str>, DataType)>),
    /// A header, by its fields.
    Header(Vec<(Arc<str>, DataType)>),
    /// A header union, by its members and their types.
    Union(Vec<(Arc<str>, Arc<str>)>),
    /// An enumeration.
    Enum(Vec<Arc<str>>),
    /// An enumeration with a representation of so many bits.
    SerializableEnum(u32, Vec<(Arc<str>, BigInt)>),
    /// All errors.
    Error(Vec<Arc<str>>),
    /// Made with `type` from this one.
    New(DataType),
    /// Made with `type` and `@p4runtime_translation`: the address, and how many bits the control
    /// plane uses, or nothing for a string.
    Translated(Arc<str>, Option<u32>),
}

/// The annotations of the package's instance.
#[derive(Debug, Clone, Default)]
pub struct PackageInfo {
    /// In order.
    pub annotations: Vec<Annotation>,
    /// What `@pkginfo` says.
    pub info: Vec<(Arc<str>, Arc<str>)>,
    /// What `@platform_property` says.
    pub platform: Vec<(Arc<str>, BigInt)>,
}
