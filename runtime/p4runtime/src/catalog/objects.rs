//! The objects of a program as the catalog keeps them: with widths and kinds resolved.

use std::fmt;

use super::Named;
use crate::value::Width;

/// How a key matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "P4's own words")]
pub enum MatchKind {
    Exact,
    Lpm,
    Ternary,
    Range,
    Optional,
}

impl fmt::Display for MatchKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MatchKind::Exact => "exact",
            MatchKind::Lpm => "lpm",
            MatchKind::Ternary => "ternary",
            MatchKind::Range => "range",
            MatchKind::Optional => "optional",
        })
    }
}

/// A key of a table or of a value set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldInfo {
    /// Unique in its table.
    pub id: u32,
    /// As in the P4 text, or its `@name`.
    pub name: String,
    /// How many bits.
    pub width: Width,
    /// How it matches.
    pub kind: MatchKind,
}

/// Where a table may use an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In entries and as default.
    Both,
    /// `@tableonly`.
    Entries,
    /// `@defaultonly`.
    Default,
    /// Once for a group of a one-shot.
    Group,
}

/// An action of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActionUse {
    /// The action's id.
    pub action: u32,
    /// Where it may be used.
    pub scope: Scope,
}

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableInfo {
    /// Its id.
    pub id: u32,
    /// Its full name.
    pub name: String,
    /// Its short name.
    pub alias: String,
    /// Its keys in order.
    pub fields: Vec<FieldInfo>,
    /// Its actions in order.
    pub actions: Vec<ActionUse>,
    /// Entries that fit.
    pub size: i64,
    /// Whether entries may have an idle time-out.
    pub ages: bool,
    /// Whether entries need a priority: some key is ternary, range or optional.
    pub has_priority: bool,
    /// The id of its action profile.
    pub profile: Option<u32>,
    /// The id of its direct counter.
    pub direct_counter: Option<u32>,
    /// The id of its direct meter.
    pub direct_meter: Option<u32>,
    /// Whether all its entries come with the program.
    pub is_const: bool,
    /// The default action, when it cannot be changed.
    pub const_default_action: Option<u32>,
}

impl TableInfo {
    /// A key by name.
    pub fn field(&self, name: &str) -> Option<&FieldInfo> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// A key by id.
    pub fn field_with_id(&self, id: u32) -> Option<&FieldInfo> {
        self.fields.iter().find(|field| field.id == id)
    }

    /// How the table uses an action, if it does.
    pub fn action_scope(&self, action: u32) -> Option<Scope> {
        self.actions
            .iter()
            .find(|used| used.action == action)
            .map(|used| used.scope)
    }
}

/// A parameter of an action, or a field of a packet header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamInfo {
    /// Unique in its action or header.
    pub id: u32,
    /// As in the P4 text.
    pub name: String,
    /// How many bits.
    pub width: Width,
}

/// An action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionInfo {
    /// Its id.
    pub id: u32,
    /// Its full name.
    pub name: String,
    /// Its short name.
    pub alias: String,
    /// The parameters that the controller gives, in order.
    pub params: Vec<ParamInfo>,
}

impl ActionInfo {
    /// A parameter by name.
    pub fn param(&self, name: &str) -> Option<&ParamInfo> {
        self.params.iter().find(|param| param.name == name)
    }

    /// A parameter by id.
    pub fn param_with_id(&self, id: u32) -> Option<&ParamInfo> {
        self.params.iter().find(|param| param.id == id)
    }
}

/// An action profile or selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileInfo {
    /// Its id.
    pub id: u32,
    /// Its full name.
    pub name: String,
    /// Its short name.
    pub alias: String,
    /// The tables that use it.
    pub tables: Vec<u32>,
    /// Whether it has groups.
    pub selector: bool,
    /// Members that fit.
    pub size: i64,
    /// The greatest size of a group, by `sum_of_members`; 0 for any.
    pub max_group_size: i32,
    /// A group's size is the number of its members; else it is the sum of their weights.
    pub sum_of_members: bool,
    /// The greatest weight of a member where `sum_of_members`; 0 for any.
    pub max_member_weight: i32,
    /// Members have no weights: the only one is 0.
    pub weights_disallowed: bool,
}

/// An indirect counter or meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayInfo {
    /// Its id.
    pub id: u32,
    /// Its full name.
    pub name: String,
    /// Its short name.
    pub alias: String,
    /// How many cells it has.
    pub size: i64,
    /// `CounterSpec.Unit` or `MeterSpec.Unit`.
    pub unit: i32,
}

/// A direct counter or meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectInfo {
    /// Its id.
    pub id: u32,
    /// Its full name.
    pub name: String,
    /// Its short name.
    pub alias: String,
    /// The id of its table.
    pub table: u32,
    /// `CounterSpec.Unit` or `MeterSpec.Unit`.
    pub unit: i32,
}

/// A register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterInfo {
    /// Its id.
    pub id: u32,
    /// Its full name.
    pub name: String,
    /// Its short name.
    pub alias: String,
    /// How many cells it has.
    pub size: i64,
    /// A cell's bits, for `bit<W>`; `None` for any other type.
    pub width: Option<usize>,
}

/// A parser value set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueSetInfo {
    /// Its id.
    pub id: u32,
    /// Its full name.
    pub name: String,
    /// Its short name.
    pub alias: String,
    /// The fields of a member.
    pub fields: Vec<FieldInfo>,
    /// Members that fit.
    pub size: i32,
}

/// An object of which only name and id matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainInfo {
    /// Its id.
    pub id: u32,
    /// Its full name.
    pub name: String,
    /// Its short name.
    pub alias: String,
}

/// `packet_in` or `packet_out`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderInfo {
    /// Its id.
    pub id: u32,
    /// Its full name.
    pub name: String,
    /// Its short name.
    pub alias: String,
    /// Its fields in order.
    pub fields: Vec<ParamInfo>,
}

macro_rules! named {
    ($($t:ty),*) => {$(
        impl Named for $t {
            fn id(&self) -> u32 { self.id }
            fn name(&self) -> &str { &self.name }
            fn alias(&self) -> &str { &self.alias }
        }
    )*};
}
named!(
    TableInfo,
    ActionInfo,
    ProfileInfo,
    ArrayInfo,
    DirectInfo,
    RegisterInfo,
    ValueSetInfo,
    PlainInfo,
    HeaderInfo
);
