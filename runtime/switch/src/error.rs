//! What can go wrong with a pipeline or with a control operation.

use crate::{
    ActionId, ActionProfileId, CounterId, GroupId, MemberId, MeterId, RegisterId, TableId,
    ValueSetId,
};

/// Why a bmv2 JSON was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The text is no JSON.
    #[error("line {line}, column {column}: not JSON: {message}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What the JSON parser says.
        message: String,
    },
    /// The JSON says something that makes no pipeline.
    #[error("{at}: expected {expected}, found {found}")]
    Invalid {
        /// JSON pointer (RFC 6901) to the place.
        at: String,
        /// What should stand there.
        expected: String,
        /// What stands there, shortened.
        found: String,
    },
    /// The JSON is right but asks for something this switch does not do.
    #[error("{at}: `{what}` is not supported")]
    Unsupported {
        /// JSON pointer (RFC 6901) to the place.
        at: String,
        /// The feature's name as the JSON writes it.
        what: String,
    },
}

/// Why a control operation was refused. No refused operation has any effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No pipeline is loaded.
    #[error("no pipeline is loaded")]
    NoPipeline,
    /// The index names no table of the pipeline.
    #[error("no such table (index {})", .0.0)]
    NoSuchTable(TableId),
    /// The index names no action of the pipeline.
    #[error("no such action (index {})", .0.0)]
    NoSuchAction(ActionId),
    /// The index names no counter array.
    #[error("no such counter (index {})", .0.0)]
    NoSuchCounter(CounterId),
    /// The index names no meter array.
    #[error("no such meter (index {})", .0.0)]
    NoSuchMeter(MeterId),
    /// The index names no register array.
    #[error("no such register (index {})", .0.0)]
    NoSuchRegister(RegisterId),
    /// The index names no action profile.
    #[error("no such action profile (index {})", .0.0)]
    NoSuchActionProfile(ActionProfileId),
    /// The index names no value set.
    #[error("no such value set (index {})", .0.0)]
    NoSuchValueSet(ValueSetId),
    /// The member is not in the profile.
    #[error("no such member ({})", .0.0)]
    NoSuchMember(MemberId),
    /// The group is not in the profile.
    #[error("no such group ({})", .0.0)]
    NoSuchGroup(GroupId),
    /// The table, profile or value set holds as many as it may.
    #[error("`{name}` is full: it holds {size} entries")]
    TableFull {
        /// Its name.
        name: String,
        /// Its size.
        size: usize,
    },
    /// An entry with this key (and priority), or an object with this id, is there already.
    #[error("it exists already")]
    AlreadyExists,
    /// There is no such entry or object.
    #[error("not found")]
    NotFound,
    /// The key has another number of fields than the table.
    #[error("the key has {found} fields instead of {expected}")]
    BadKeyLength {
        /// Fields of the table's key.
        expected: usize,
        /// Fields given.
        found: usize,
    },
    /// A field of the key is not right.
    #[error("key field `{field}`: {why}")]
    BadKey {
        /// The field's name.
        field: String,
        /// What is wrong.
        why: BadField,
    },
    /// The action is not one of the table's or the profile's.
    #[error("action `{action}` is not one of `{table}`")]
    ForeignAction {
        /// The action's name.
        action: String,
        /// The table's or profile's name.
        table: String,
    },
    /// The action has another number of parameters.
    #[error("action `{action}` takes {expected} parameters, not {found}")]
    BadParameterCount {
        /// The action's name.
        action: String,
        /// Parameters it has.
        expected: usize,
        /// Parameters given.
        found: usize,
    },
    /// A parameter's value is wider than the parameter.
    #[error("parameter `{parameter}` of `{action}`: {value} does not fit into {width} bits")]
    ParameterTooWide {
        /// The action's name.
        action: String,
        /// The parameter's name.
        parameter: String,
        /// The value given.
        value: crate::Bits,
        /// The parameter's width in bits.
        width: usize,
    },
    /// A table with ternary, range or optional keys wants a priority above 0, any other wants 0.
    #[error("priority {given} is out of place: {expected}")]
    BadPriority {
        /// The priority given.
        given: i32,
        /// What is expected.
        expected: &'static str,
    },
    /// The table has an action profile and takes members or groups, or has none and takes actions.
    #[error("`{table}` takes {expected}")]
    WrongEntryKind {
        /// The table's name.
        table: String,
        /// What it takes.
        expected: &'static str,
    },
    /// The table's entries are `const` in P4.
    #[error("the entries of `{0}` are constant")]
    ConstTable(String),
    /// The table's default action is `const` in P4.
    #[error("the default action of `{0}` is constant")]
    ConstDefaultAction(String),
    /// The table has no `support_timeout`.
    #[error("`{0}` does not support idle timeouts")]
    NoTimeout(String),
    /// The table has no direct counter or meter.
    #[error("`{table}` has no direct {what}")]
    NoDirectResource {
        /// The table's name.
        table: String,
        /// `counter` or `meter`.
        what: &'static str,
    },
    /// The index is outside the array.
    #[error("index {index} is outside `{name}`, which has {size} cells")]
    IndexOutOfRange {
        /// The array's name.
        name: String,
        /// The index given.
        index: usize,
        /// The array's size.
        size: usize,
    },
    /// The value is wider than what it is written to.
    #[error("{value} does not fit into {width} bits")]
    ValueTooWide {
        /// The value given.
        value: crate::Bits,
        /// The width in bits.
        width: usize,
    },
    /// A meter wants as many rates as its type has (two), in rising order.
    #[error("bad meter configuration: {0}")]
    BadMeterConfig(&'static str),
    /// The member is used by an entry or a group, or the group by an entry.
    #[error("it is still in use")]
    InUse,
    /// The profile has no selector, so it has no groups.
    #[error("`{0}` has no groups")]
    NoSelector(String),
    /// Clone sessions have ids from 1 to 32767, multicast groups from 1 to 65535.
    #[error("id {id} is outside 1 to {max}")]
    BadId {
        /// The id given.
        id: u32,
        /// The greatest that is allowed.
        max: u32,
    },
}

/// What is wrong with a field of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadField {
    /// The field has another match kind.
    #[error("it takes {expected} matches")]
    Kind {
        /// The kind it has.
        expected: crate::MatchKind,
    },
    /// A value is too wide.
    #[error("{value} does not fit into {width} bits")]
    TooWide {
        /// The value given.
        value: crate::Bits,
        /// The field's width in bits.
        width: usize,
    },
    /// The value has bits outside the mask or prefix.
    #[error("the value has bits outside its mask")]
    OutsideMask,
    /// The prefix is longer than the field.
    #[error("a prefix of {prefix_len} bits in a field of {width}")]
    PrefixTooLong {
        /// The prefix length given.
        prefix_len: usize,
        /// The field's width in bits.
        width: usize,
    },
    /// The lower end of the range is above its upper end.
    #[error("the range is empty")]
    EmptyRange,
}
