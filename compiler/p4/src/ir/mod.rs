//! The program between checking and writing: everything is inlined, specialised and flat.
//!
//! # Rules
//!
//! - **Names are gone.** Things refer to each other by [`Handle`]s. What the control plane calls a
//!   thing is a string on that thing, made once, in `mid`.
//! - **Numbers have a width.** Every [`Expr`] has a [`Type`]; arithmetic wraps at its width, and
//!   constants are always within the range of their type. A back end whose numbers have no width
//!   must cut.
//! - **Expressions have no side effects** and mean what they say at the moment when their statement
//!   runs. Equal expressions are one expression, so a handle is a value number.
//! - **Variables are fields.** A scalar variable or a scalar of the user's metadata is a field of the
//!   header [`Program::scalars`]; a header variable is a header that is never emitted. A variable
//!   belongs to one inlined copy of its block, so it has no other users.
//! - **Calls are gone.** Functions, actions called directly, controls and parsers are in place; their
//!   arguments were copied in and out wherever that can be told from passing them by reference.
//! - **Actions of tables remain**, once for each set of arguments bound in the program. Their
//!   parameters are [`Expr::Param`].
//! - **Nothing is left out.** What the IR cannot say is an error in `mid`, and what a back end cannot
//!   write is an error there.

pub mod arena;
pub mod control_plane;
pub mod expr;
pub mod exprs;
pub mod stmt;
pub mod unique_names;

use std::sync::Arc;

use num_bigint::BigInt;

use crate::source::Span;

pub use arena::{Arena, Handle, UniqueArena};
pub use control_plane::{
    Annotation, AnnotationArgument, ControlPlaneItem, DataType, Names, PackageInfo, PacketHeader,
    PacketHeaderField, TypeDefinition,
};
pub use expr::{BinaryOp, Expr, HeaderRef, Place, Type, UnaryOp, mask as mask_of};
pub use exprs::Exprs;
pub use stmt::{After, Block, Label, Primitive, Stmt, StmtKind};
pub use unique_names::UniqueNames;

/// A whole program for v1model.
#[derive(Debug, Clone)]
pub struct Program {
    /// All expressions.
    pub exprs: Exprs,
    /// The types of headers.
    pub header_types: Arena<HeaderType>,
    /// All headers, elements of stacks and members of unions included.
    pub headers: Arena<Header>,
    /// All stacks.
    pub stacks: Arena<Stack>,
    /// The types of unions.
    pub union_types: Arena<UnionType>,
    /// All unions.
    pub unions: Arena<Union>,
    /// The header that holds scalars; its type is its own.
    pub scalars: Handle<Header>,
    /// The standard metadata.
    pub standard_metadata: Handle<Header>,
    /// The names of the errors; the position is the number.
    pub errors: Vec<Arc<str>>,
    /// The enumerations without a representation; the position of a member is its number.
    pub enums: Vec<(Arc<str>, Vec<Arc<str>>)>,
    /// The parser.
    pub parser: Parser,
    /// Value sets of the parser.
    pub value_sets: Arena<ValueSet>,
    /// `[ingress, egress]`
    pub controls: [Control; 2],
    /// Tables of both controls.
    pub tables: Arena<Table>,
    /// Actions of those tables.
    pub actions: Arena<Action>,
    /// Counters that are not direct.
    pub counters: Arena<Counter>,
    /// Meters that are not direct.
    pub meters: Arena<Meter>,
    /// Counters of tables.
    pub direct_counters: Arena<DirectCounter>,
    /// Meters of tables.
    pub direct_meters: Arena<DirectMeter>,
    /// Registers.
    pub registers: Arena<Register>,
    /// Action profiles and selectors.
    pub profiles: Arena<Profile>,
    /// What hashes and checksums are computed over.
    pub calculations: Arena<Calculation>,
    /// Checksums, in the order of their statements: those to verify, then those to update.
    pub checksums: Vec<Checksum>,
    /// What clones and recirculated packets keep.
    pub field_lists: Arena<FieldList>,
    /// What digests carry.
    pub digests: Arena<DigestList>,
    /// The headers that the deparser emits, in order.
    pub deparser: Vec<Handle<Header>>,
    /// Where the deparser is.
    pub deparser_span: Span,
    /// What the control plane sees, in the order of its declaration.
    pub control_plane: Vec<ControlPlaneItem>,
    /// Whether live code calls an extern function.
    pub calls_externs: bool,
    /// Types that the control plane needs to know.
    pub type_definitions: Vec<TypeDefinition>,
    /// The package's annotations.
    pub package: PackageInfo,
}

/// The fields that headers of one kind have.
#[derive(Debug, Clone)]
pub struct HeaderType {
    /// Its name.
    pub name: Arc<str>,
    /// Its fields, in order.
    pub fields: Vec<Field>,
}

/// One field.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name; with dots for what was nested.
    pub name: Arc<str>,
    /// Its type.
    pub ty: Type,
    /// What the target calls it besides, by `@alias`.
    pub alias: Option<Arc<str>>,
}

/// A header.
#[derive(Debug, Clone)]
pub struct Header {
    /// Its name.
    pub name: Arc<str>,
    /// Its type.
    pub ty: Handle<HeaderType>,
    /// Whether it is metadata: always valid, never in a packet.
    pub metadata: bool,
}

/// A stack of headers.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Its name.
    pub name: Arc<str>,
    /// The type of its elements.
    pub ty: Handle<HeaderType>,
    /// Its elements, first to last.
    pub elements: Vec<Handle<Header>>,
}

/// The members that unions of one kind have.
#[derive(Debug, Clone)]
pub struct UnionType {
    /// Its name.
    pub name: Arc<str>,
    /// The members' names and types.
    pub members: Vec<(Arc<str>, Handle<HeaderType>)>,
}

/// A union of headers, of which at most one is valid.
#[derive(Debug, Clone)]
pub struct Union {
    /// Its name.
    pub name: Arc<str>,
    /// Its type.
    pub ty: Handle<UnionType>,
    /// Its members.
    pub members: Vec<Handle<Header>>,
}

/// The parser: a graph of states.
#[derive(Debug, Clone, Default)]
pub struct Parser {
    /// All states.
    pub states: Arena<State>,
    /// The first state.
    pub start: Option<Handle<State>>,
    /// Where it is.
    pub span: Span,
}

/// A state.
#[derive(Debug, Clone)]
pub struct State {
    /// Its name; unique.
    pub name: Arc<str>,
    /// What it does: no [`StmtKind::If`], [`StmtKind::Apply`], labels or breaks.
    pub body: Block,
    /// Where it goes.
    pub transition: Transition,
    /// Where it is.
    pub span: Span,
}

/// Where a state goes.
#[derive(Debug, Clone)]
pub enum Transition {
    /// Always there.
    Direct(Target),
    /// By the first case that matches; one always does.
    Select {
        /// What is looked at.
        keys: Vec<Place>,
        /// The cases, in order.
        cases: Vec<Case>,
    },
}

/// A state, or an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// This state.
    State(Handle<State>),
    /// The end.
    Accept,
}

/// One case of a select.
#[derive(Debug, Clone)]
pub struct Case {
    /// What matches.
    pub matches: CaseMatch,
    /// Where to go.
    pub target: Target,
}

/// What a case matches.
#[derive(Debug, Clone)]
pub enum CaseMatch {
    /// Value and mask for each key, both within its width.
    Values(Vec<(BigInt, BigInt)>),
    /// Whatever is in the value set.
    Set(Handle<ValueSet>),
    /// Everything.
    Default,
}

/// A value set of the parser.
#[derive(Debug, Clone)]
pub struct ValueSet {
    /// Its name and annotations.
    pub names: Names,
    /// How many members it holds at most.
    pub size: u64,
    /// What a member is made of: name (empty when it is no struct), width in bits, kind of match and
    /// annotations.
    pub fields: Vec<ValueSetField>,
    /// Where it is.
    pub span: Span,
}

/// One part of a value set's member.
#[derive(Debug, Clone)]
pub struct ValueSetField {
    /// Its name; empty when the member is one number.
    pub name: Arc<str>,
    /// In bits.
    pub width: u32,
    /// By `@match`; exact when none is written.
    pub match_kind: MatchKind,
    /// The id by `@id`, if one is written.
    pub id: Option<u32>,
    /// Its annotations.
    pub annotations: Vec<Annotation>,
}

/// Ingress or egress.
#[derive(Debug, Clone, Default)]
pub struct Control {
    /// What it does.
    pub body: Block,
    /// Where it is.
    pub span: Span,
}

/// How a key is matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of core.p4 and v1model.p4")]
pub enum MatchKind {
    Exact,
    Lpm,
    Ternary,
    Range,
    Optional,
    /// Not matched: the input of an action selector.
    Selector,
}

/// A table.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name and annotations.
    pub names: Names,
    /// Its key.
    pub keys: Vec<Key>,
    /// Its actions, in order.
    pub actions: Vec<TableAction>,
    /// What runs when nothing matches.
    pub default: DefaultAction,
    /// The size asked for, if any.
    pub size: Option<u64>,
    /// The entries written in the program.
    pub entries: Option<Entries>,
    /// Its counter.
    pub counter: Option<Handle<DirectCounter>>,
    /// Its meter.
    pub meter: Option<Handle<DirectMeter>>,
    /// Its action profile or selector.
    pub profile: Option<Handle<Profile>>,
    /// Whether the target tells of idle entries.
    pub support_timeout: bool,
    /// Whether the control plane does not see it.
    pub hidden: bool,
    /// Where it is.
    pub span: Span,
}

/// One part of a key.
#[derive(Debug, Clone)]
pub struct Key {
    /// What the control plane calls it.
    pub name: Arc<str>,
    /// How it is matched.
    pub kind: MatchKind,
    /// What is matched.
    pub value: KeyValue,
    /// As the control plane sees it; 0 for a string.
    pub width: u32,
    /// The name of its type, if that was made with `type`.
    pub type_name: Option<Arc<str>>,
    /// The id by `@id`, if one is written.
    pub id: Option<u32>,
    /// Its annotations.
    pub annotations: Vec<Annotation>,
    /// Where it is.
    pub span: Span,
}

/// What a key looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyValue {
    /// A field.
    Field(Place),
    /// The validity of a header.
    Valid(Handle<Header>),
}

/// An action in a table's list.
#[derive(Debug, Clone)]
pub struct TableAction {
    /// The action.
    pub action: Handle<Action>,
    /// Where it may stand.
    pub scope: ActionScope,
    /// The annotations in the list.
    pub annotations: Vec<Annotation>,
}

/// Where an action may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionScope {
    /// In entries and as the default.
    Both,
    /// In entries.
    TableOnly,
    /// As the default.
    DefaultOnly,
}

/// What runs when nothing matches.
#[derive(Debug, Clone)]
pub struct DefaultAction {
    /// The action.
    pub action: Handle<Action>,
    /// Its arguments, in order.
    pub arguments: Vec<BigInt>,
    /// Whether the control plane may not change it.
    pub constant: bool,
}

/// Entries of a table written in the program.
#[derive(Debug, Clone)]
pub struct Entries {
    /// Whether the whole list is constant.
    pub constant: bool,
    /// Whether the entry with the largest priority wins, and not the one with the smallest.
    pub largest_wins: bool,
    /// In order.
    pub list: Vec<Entry>,
}

/// An entry written in the program.
#[derive(Debug, Clone)]
pub struct Entry {
    /// One for each key.
    pub keys: Vec<EntryKey>,
    /// The action.
    pub action: Handle<Action>,
    /// Its arguments, in order.
    pub arguments: Vec<BigInt>,
    /// Its priority; nothing in a constant list, where the order decides.
    pub priority: Option<BigInt>,
    /// The priority by the bmv2 annotation `@priority`: the smaller one wins.
    pub target_priority: Option<BigInt>,
    /// Whether this entry is constant.
    pub constant: bool,
    /// Where it is.
    pub span: Span,
}

/// What one key of an entry matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKey {
    /// One value.
    Exact(BigInt),
    /// Value and mask.
    Masked(BigInt, BigInt),
    /// From, to.
    Range(BigInt, BigInt),
    /// Everything.
    Any,
}

/// An action of a table.
#[derive(Debug, Clone)]
pub struct Action {
    /// Its name and annotations.
    pub names: Names,
    /// The parameters that entries give.
    pub params: Vec<Param>,
    /// What it does.
    pub body: Block,
    /// Whether the control plane does not see it.
    pub hidden: bool,
    /// Whether no table lists it: it is here only because the control plane sees it.
    pub unlisted: bool,
    /// Where it is.
    pub span: Span,
}

/// A parameter of an action.
#[derive(Debug, Clone)]
pub struct Param {
    /// Its name.
    pub name: Arc<str>,
    /// Its type.
    pub ty: Type,
    /// As the control plane sees it; 0 for a string or an enumeration without a representation.
    pub width: u32,
    /// The name of its type, if that was made with `type` or is an enumeration without a representation.
    pub type_name: Option<Arc<str>>,
    /// The id by `@id`, if one is written.
    pub id: Option<u32>,
    /// Its annotations.
    pub annotations: Vec<Annotation>,
}

/// What a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of v1model.p4")]
pub enum Unit {
    Packets,
    Bytes,
    Both,
}

/// A counter that is not direct.
#[derive(Debug, Clone)]
pub struct Counter {
    /// Its name and annotations.
    pub names: Names,
    /// How many cells it has.
    pub size: u64,
    /// What it counts.
    pub unit: Unit,
    /// Where it is.
    pub span: Span,
}

/// A meter that is not direct.
#[derive(Debug, Clone)]
pub struct Meter {
    /// Its name and annotations.
    pub names: Names,
    /// How many cells it has.
    pub size: u64,
    /// What it measures; never both.
    pub unit: Unit,
    /// Where it is.
    pub span: Span,
}

/// A counter of a table.
#[derive(Debug, Clone)]
pub struct DirectCounter {
    /// Its name and annotations.
    pub names: Names,
    /// What it counts.
    pub unit: Unit,
    /// Its table, once that is known.
    pub table: Option<Handle<Table>>,
    /// Where it is.
    pub span: Span,
}

/// A meter of a table.
#[derive(Debug, Clone)]
pub struct DirectMeter {
    /// Its name and annotations.
    pub names: Names,
    /// What it measures; never both.
    pub unit: Unit,
    /// Its table, once that is known.
    pub table: Option<Handle<Table>>,
    /// The field that takes the colour, once that is known.
    pub target: Option<Place>,
    /// Where it is.
    pub span: Span,
}

/// A register.
#[derive(Debug, Clone)]
pub struct Register {
    /// Its name and annotations.
    pub names: Names,
    /// How many cells it has.
    pub size: u64,
    /// The type of a cell.
    pub ty: Type,
    /// The type of a cell as the control plane sees it.
    pub data_type: DataType,
    /// Where it is.
    pub span: Span,
}

/// An action profile or selector.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its name and annotations.
    pub names: Names,
    /// How many members it holds at most.
    pub size: u64,
    /// The hash of a selector.
    pub selector: Option<HashAlgorithm>,
    /// Its tables.
    pub tables: Vec<Handle<Table>>,
    /// Where it is.
    pub span: Span,
}

/// How a hash is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of v1model.p4")]
pub enum HashAlgorithm {
    Crc32,
    Crc32Custom,
    Crc16,
    Crc16Custom,
    Random,
    Identity,
    Csum16,
    Xor16,
}

impl HashAlgorithm {
    /// By its name in v1model.p4.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "crc32" => Self::Crc32,
            "crc32_custom" => Self::Crc32Custom,
            "crc16" => Self::Crc16,
            "crc16_custom" => Self::Crc16Custom,
            "random" => Self::Random,
            "identity" => Self::Identity,
            "csum16" => Self::Csum16,
            "xor16" => Self::Xor16,
            _ => return None,
        })
    }

    /// Its name in v1model.p4 and in bmv2.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "crc32",
            Self::Crc32Custom => "crc32_custom",
            Self::Crc16 => "crc16",
            Self::Crc16Custom => "crc16_custom",
            Self::Random => "random",
            Self::Identity => "identity",
            Self::Csum16 => "csum16",
            Self::Xor16 => "xor16",
        }
    }
}

/// What a hash or a checksum is computed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calculation {
    /// How.
    pub algorithm: HashAlgorithm,
    /// Of what: fields and constants, one after the other without padding.
    pub input: Vec<Input>,
    /// Whether the rest of the packet follows.
    pub payload: bool,
    /// Where it is.
    pub span: Span,
}

/// One part of the input of a calculation or list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A field.
    Field(Place),
    /// A number of so many bits.
    Number(BigInt, u32),
}

/// A checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// Its field.
    pub target: Place,
    /// How and of what.
    pub calculation: Handle<Calculation>,
    /// When.
    pub condition: Handle<Expr>,
    /// Whether it is verified after the parser, rather than updated before the deparser.
    pub verify: bool,
    /// Where it is.
    pub span: Span,
}

/// What clones and recirculated packets keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldList {
    /// Its number in `@field_list`; nothing for the empty list.
    pub number: Option<u32>,
    /// Fields of the user's metadata.
    pub fields: Vec<Place>,
}

/// What a digest carries.
#[derive(Debug, Clone)]
pub struct DigestList {
    /// Its name in the control plane.
    pub name: Arc<str>,
    /// Its fields.
    pub fields: Vec<Place>,
    /// As the control plane sees it.
    pub data_type: DataType,
}
