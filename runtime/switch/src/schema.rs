//! What a loaded pipeline offers to the control plane: names, widths, kinds and sizes.
//!
//! An index (`TableId` and the like) is valid for the pipeline whose schema gave it; the next
//! `load` or `swap` makes all of them stale.

use crate::Bits;
use indexmap::IndexMap;
use std::fmt;

macro_rules! index_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            #[allow(dead_code, reason = "not every index is used inside the crate")]
            pub(crate) fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index_type!(
    /// A table, by its place in [`Schema::tables`].
    TableId
);
index_type!(
    /// An action, by its place in [`Schema::actions`]. P4 actions that p4c copied into several
    /// tables are several actions of one name: find one by [`Schema::table_action`].
    ActionId
);
index_type!(
    /// A counter array, by its place in [`Schema::counters`].
    CounterId
);
index_type!(
    /// A meter array, by its place in [`Schema::meters`].
    MeterId
);
index_type!(
    /// A register array, by its place in [`Schema::registers`].
    RegisterId
);
index_type!(
    /// An action profile, by its place in [`Schema::action_profiles`].
    ActionProfileId
);
index_type!(
    /// A parser value set, by its place in [`Schema::value_sets`].
    ValueSetId
);
index_type!(
    /// A digest (bmv2: learn list), by its place in [`Schema::digests`].
    DigestId
);

/// The control plane's view of a pipeline. Names are those of the JSON, which are P4's full ones
/// without a leading dot, such as `Ingress.web_lb.fixed`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// The tables of all pipelines, those that p4c made from statements (`hidden`) included.
    pub tables: Vec<TableSchema>,
    /// The actions.
    pub actions: Vec<ActionSchema>,
    /// The counter arrays; direct ones have their table.
    pub counters: Vec<CounterSchema>,
    /// The meter arrays; direct ones have their table.
    pub meters: Vec<MeterSchema>,
    /// The register arrays.
    pub registers: Vec<RegisterSchema>,
    /// The action profiles and selectors.
    pub action_profiles: Vec<ActionProfileSchema>,
    /// The parser value sets.
    pub value_sets: Vec<ValueSetSchema>,
    /// The digests.
    pub digests: Vec<DigestSchema>,
    /// The headers that packets may have, metadata left out.
    pub headers: Vec<HeaderSchema>,
    /// Errors of the P4 program, value by name.
    pub errors: IndexMap<String, u64>,
}

/// A header of packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderSchema {
    /// The name of its instance.
    pub name: String,
    /// Names and widths in bits of its fields, in order.
    pub fields: Vec<(String, usize)>,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    /// Full name.
    pub name: String,
    /// `ingress` or `egress`.
    pub pipeline: String,
    /// The key's fields in order.
    pub key: Vec<KeyField>,
    /// The actions its entries may use, without those that only the default may.
    pub actions: Vec<ActionId>,
    /// Entries it holds at most.
    pub size: usize,
    /// Whether entries have a priority: some key is ternary, range or optional.
    pub has_priority: bool,
    /// Whether entries may have an idle timeout.
    pub support_timeout: bool,
    /// The entries are `const`: none can be inserted, changed or deleted.
    pub const_entries: bool,
    /// The default action is `const`.
    pub const_default_action: bool,
    /// The direct counter.
    pub direct_counter: Option<CounterId>,
    /// The direct meter.
    pub direct_meter: Option<MeterId>,
    /// The profile whose members and groups its entries name.
    pub action_profile: Option<ActionProfileId>,
}

/// A field of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyField {
    /// Its name as P4Info has it.
    pub name: String,
    /// Width in bits.
    pub width: usize,
    /// How it matches.
    pub kind: MatchKind,
}

/// How a key's field matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MatchKind {
    /// Equal.
    Exact,
    /// Equal under a mask.
    Ternary,
    /// Equal in the leading bits.
    Lpm,
    /// Between two bounds, both included.
    Range,
    /// Equal, or anything.
    Optional,
}

impl fmt::Display for MatchKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MatchKind::Exact => "exact",
            MatchKind::Ternary => "ternary",
            MatchKind::Lpm => "lpm",
            MatchKind::Range => "range",
            MatchKind::Optional => "optional",
        })
    }
}

/// An action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionSchema {
    /// Full name.
    pub name: String,
    /// The parameters that the control plane gives, in order.
    pub params: Vec<ParamSchema>,
}

/// A parameter of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamSchema {
    /// Its name.
    pub name: String,
    /// Width in bits.
    pub width: usize,
}

/// A counter array. Every cell counts packets and bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterSchema {
    /// Full name.
    pub name: String,
    /// Cells (0 for direct ones).
    pub size: usize,
    /// The table whose entries it counts, if it is direct.
    pub table: Option<TableId>,
}

/// A meter array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterSchema {
    /// Full name.
    pub name: String,
    /// Cells (0 for direct ones).
    pub size: usize,
    /// Whether it meters bytes; packets otherwise.
    pub bytes: bool,
    /// The table whose entries it meters, if it is direct.
    pub table: Option<TableId>,
}

/// A register array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterSchema {
    /// Full name.
    pub name: String,
    /// Cells.
    pub size: usize,
    /// Width of a cell in bits.
    pub width: usize,
}

/// An action profile, with or without selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionProfileSchema {
    /// Full name.
    pub name: String,
    /// Members it holds at most.
    pub size: usize,
    /// Whether it has groups.
    pub selector: bool,
    /// The tables that use it.
    pub tables: Vec<TableId>,
}

/// A parser value set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueSetSchema {
    /// Full name.
    pub name: String,
    /// Members it holds at most.
    pub size: usize,
    /// Widths in bits of the fields of a member.
    pub widths: Vec<usize>,
}

/// A digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestSchema {
    /// Full name.
    pub name: String,
    /// Widths in bits of the fields of a sample.
    pub widths: Vec<usize>,
}

fn position<T>(list: &[T], found: impl Fn(&T) -> bool) -> Option<u32> {
    list.iter()
        .position(found)
        .and_then(|i| u32::try_from(i).ok())
}

impl Schema {
    /// The table of that full name.
    pub fn table(&self, name: &str) -> Option<TableId> {
        position(&self.tables, |t| t.name == name).map(TableId)
    }

    /// The action of that full name among a table's own (entry and default) actions.
    pub fn table_action(&self, table: TableId, action: &str) -> Option<ActionId> {
        let table = self.tables.get(table.index())?;
        table.actions.iter().copied().find(|id| {
            self.actions
                .get(id.index())
                .is_some_and(|a| a.name == action)
        })
    }

    /// The counter array of that full name.
    pub fn counter(&self, name: &str) -> Option<CounterId> {
        position(&self.counters, |c| c.name == name).map(CounterId)
    }

    /// The meter array of that full name.
    pub fn meter(&self, name: &str) -> Option<MeterId> {
        position(&self.meters, |m| m.name == name).map(MeterId)
    }

    /// The register array of that full name.
    pub fn register(&self, name: &str) -> Option<RegisterId> {
        position(&self.registers, |r| r.name == name).map(RegisterId)
    }

    /// The action profile of that full name.
    pub fn action_profile(&self, name: &str) -> Option<ActionProfileId> {
        position(&self.action_profiles, |p| p.name == name).map(ActionProfileId)
    }

    /// The value set of that full name.
    pub fn value_set(&self, name: &str) -> Option<ValueSetId> {
        position(&self.value_sets, |v| v.name == name).map(ValueSetId)
    }

    /// The digest of that full name.
    pub fn digest(&self, name: &str) -> Option<DigestId> {
        position(&self.digests, |d| d.name == name).map(DigestId)
    }
}

impl Match {
    /// An exact match of a small value.
    pub fn exact(value: u64) -> Match {
        Match::Exact(Bits::from(value))
    }
}

use crate::Match;
