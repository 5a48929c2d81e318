//! The values that control operations take and give.

use crate::{ActionId, Bits, Micros, TableId};

/// What one field of a key must be. The field's kind decides which forms it takes; `Any` is taken
/// by every kind but exact.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// Equal; for exact and optional fields.
    Exact(Bits),
    /// Equal under `mask`; the value has no bit outside it.
    Ternary {
        /// The value.
        value: Bits,
        /// The mask.
        mask: Bits,
    },
    /// The leading `prefix_len` bits are equal; the value has no bit after them.
    Lpm {
        /// The value.
        value: Bits,
        /// The prefix length in bits.
        prefix_len: usize,
    },
    /// Between `low` and `high`, both included.
    Range {
        /// The least value.
        low: Bits,
        /// The greatest value.
        high: Bits,
    },
    /// Anything.
    Any,
}

/// A table entry as the control plane writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// One match a field of the table's key.
    pub key: Vec<Match>,
    /// P4Runtime's sense: the highest wins. Above 0 for tables with ternary, range or optional
    /// keys ([`crate::schema::TableSchema::has_priority`]), 0 for all others.
    pub priority: i32,
    /// What happens on a hit.
    pub action: EntryAction,
    /// After how long without a hit the entry is reported; 0 is never.
    pub idle_timeout: Micros,
    /// Bytes that the control plane keeps with the entry; the switch does not look at them.
    pub metadata: Vec<u8>,
}

impl Entry {
    /// An entry without idle timeout and metadata.
    pub fn new(key: Vec<Match>, priority: i32, action: impl Into<EntryAction>) -> Self {
        Entry {
            key,
            priority,
            action: action.into(),
            idle_timeout: 0,
            metadata: Vec::new(),
        }
    }
}

/// What an entry does on a hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryAction {
    /// An action, for tables without action profile.
    Call(ActionCall),
    /// A member of the table's action profile.
    Member(MemberId),
    /// A group of the table's action selector.
    Group(GroupId),
}

impl From<ActionCall> for EntryAction {
    fn from(call: ActionCall) -> Self {
        EntryAction::Call(call)
    }
}

/// An action with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionCall {
    /// The action.
    pub action: ActionId,
    /// One value a parameter.
    pub params: Vec<Bits>,
}

impl ActionCall {
    /// A call.
    pub fn new(action: ActionId, params: impl IntoIterator<Item = Bits>) -> Self {
        ActionCall {
            action,
            params: params.into_iter().collect(),
        }
    }
}

/// An entry of one table; stays valid until the entry is deleted, and names no other after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryHandle {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl std::fmt::Display for EntryHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// An entry as it stands in its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryView {
    /// Its handle.
    pub handle: EntryHandle,
    /// As written; the key is in canonical form (for instance a full prefix, a zero mask as `Any`).
    pub entry: Entry,
    /// Written by the program (`entries = { … }`), not by the control plane.
    pub initial: bool,
    /// When it was last hit, inserted or had its idle timer restarted.
    pub last_hit: Micros,
    /// The direct counter's value, if the table has one.
    pub counter: Option<CounterValue>,
    /// The direct meter's rates, if the table has one and they are set.
    pub meter: Option<[MeterRate; 2]>,
}

/// A counter cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CounterValue {
    /// Packets.
    pub packets: u64,
    /// Bytes, of whole packets as they arrived (see [`crate::Switch::step_counted`]).
    pub bytes: u64,
}

/// One rate of a two-rate three-colour meter (RFC 2698): first the committed, then the peak rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeterRate {
    /// Units (packets or bytes) a microsecond.
    pub per_micro: f64,
    /// Burst size in units.
    pub burst: u64,
}

impl Eq for MeterRate {}

/// What a meter says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MeterColor {
    /// Within the committed rate (0).
    Green,
    /// Within the peak rate (1).
    Yellow,
    /// Above it (2).
    Red,
}

/// A member of an action profile; the control plane chooses the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(pub u32);

/// A group of an action selector; the control plane chooses the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u32);

/// One copy that a multicast group or clone session makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Replica {
    /// The port.
    pub port: u16,
    /// The copy's `egress_rid`.
    pub instance: u16,
}

/// What a clone session makes of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloneSession {
    /// The copies.
    pub replicas: Vec<Replica>,
    /// Copies are cut to this many bytes before egress sees them; `None` leaves them whole.
    pub truncate: Option<u32>,
    /// Kept for the control plane; the core has no queues.
    pub class_of_service: u32,
}

/// A member of a parser value set: one match a field.
pub type ValueSetMember = Vec<Match>;

/// An entry that was not hit for its idle timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleNotice {
    /// The table.
    pub table: TableId,
    /// The entry.
    pub entry: EntryHandle,
}
