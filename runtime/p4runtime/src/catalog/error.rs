//! What can be wrong with a name, or with a value that is given to a name.

use std::fmt;

use thiserror::Error;

use super::MatchKind;
use crate::value::{ValueError, Width};

/// The kinds of object that a program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the words say it")]
pub enum Kind {
    Table,
    Action,
    ActionProfile,
    Counter,
    DirectCounter,
    Meter,
    DirectMeter,
    Register,
    ValueSet,
    Digest,
    PacketHeader,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Table => "table",
            Kind::Action => "action",
            Kind::ActionProfile => "action profile",
            Kind::Counter => "counter",
            Kind::DirectCounter => "direct counter",
            Kind::Meter => "meter",
            Kind::DirectMeter => "direct meter",
            Kind::Register => "register",
            Kind::ValueSet => "value set",
            Kind::Digest => "digest",
            Kind::PacketHeader => "packet header",
        })
    }
}

/// A name, id or value that does not fit the program.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CatalogError {
    /// No object has the name.
    #[error("there is no {kind} `{name}`{}", did_you_mean(.near))]
    Unknown {
        /// What was looked for.
        kind: Kind,
        /// The name that was given.
        name: String,
        /// Names that resemble it, nearest first.
        near: Vec<String>,
    },
    /// Several objects end in the name.
    #[error("`{name}` may be {}: give more of the {kind}'s name", list(.candidates, "or"))]
    Ambiguous {
        /// What was looked for.
        kind: Kind,
        /// The name that was given.
        name: String,
        /// The full names that end in it.
        candidates: Vec<String>,
    },
    /// No object has the id.
    #[error("there is no {kind} with id {id:#010x}")]
    UnknownId {
        /// What was looked for.
        kind: Kind,
        /// The id that was given.
        id: u32,
    },
    /// Two objects of P4Info have one id, or one has none.
    #[error("id {id:#010x} of {kind} `{name}` is zero or was given before")]
    BadId {
        /// The later object's kind.
        kind: Kind,
        /// The later object's name.
        name: String,
        /// The id.
        id: u32,
    },
    /// P4Info refers to an object that it does not have.
    #[error("`{from}` refers to {kind} {id:#010x}, which does not exist")]
    Dangling {
        /// The object that refers.
        from: String,
        /// What it refers to.
        kind: Kind,
        /// The id of what is missing.
        id: u32,
    },
    /// A table's key is of a kind that no P4Runtime message has.
    #[error("key `{field}` of `{table}` has match kind `{kind}`, which is not supported")]
    MatchKind {
        /// The table or value set.
        table: String,
        /// The key.
        field: String,
        /// Its match kind.
        kind: String,
    },
    /// The table lacks the match field.
    #[error("`{table}` has no match field `{field}`: it has {}", list(.fields, "and"))]
    UnknownField {
        /// The table.
        table: String,
        /// The field's name as given.
        field: String,
        /// The names that it has.
        fields: Vec<String>,
    },
    /// The action is none of the table's.
    #[error("`{table}` has no action `{action}`: it has {}", list(.actions, "and"))]
    NotInTable {
        /// The table.
        table: String,
        /// The action's name as given.
        action: String,
        /// The names that it has.
        actions: Vec<String>,
    },
    /// The action may only be the default, or only be in entries.
    #[error("action `{action}` of `{table}` is {scope}")]
    Scope {
        /// The table.
        table: String,
        /// The action.
        action: String,
        /// Where it may be used.
        scope: &'static str,
    },
    /// The action lacks the parameter.
    #[error("action `{action}` has no parameter `{param}`: it has {}", list(.params, "and"))]
    UnknownParam {
        /// The action.
        action: String,
        /// The parameter's name as given.
        param: String,
        /// The names that it has.
        params: Vec<String>,
    },
    /// An action's parameter got no value, or two.
    #[error("action `{action}`: parameter `{param}` has {found} values instead of one")]
    ParamCount {
        /// The action.
        action: String,
        /// The parameter.
        param: String,
        /// How many values it got.
        found: usize,
    },
    /// A field was given twice.
    #[error("match field `{field}` of `{table}` is given twice")]
    FieldTwice {
        /// The table.
        table: String,
        /// The field.
        field: String,
    },
    /// An exact field was left out.
    #[error("match field `{field}` of `{table}` is exact and has no value")]
    FieldMissing {
        /// The table.
        table: String,
        /// The field.
        field: String,
    },
    /// The field's kind is another.
    #[error("match field `{field}` of `{table}` is {expected}: it takes no {found} match")]
    FieldKind {
        /// The table.
        table: String,
        /// The field.
        field: String,
        /// Its kind.
        expected: MatchKind,
        /// The kind that was given.
        found: MatchKind,
    },
    /// The value does not fit.
    #[error("`{name}` of `{owner}`, a {width}: {error}")]
    Value {
        /// The table, action or header.
        owner: String,
        /// The field or parameter.
        name: String,
        /// Its type.
        width: Width,
        /// What is wrong.
        error: ValueError,
    },
    /// A prefix is longer than its field, or a range is empty.
    #[error("match field `{field}` of `{table}`: {problem}")]
    Field {
        /// The table.
        table: String,
        /// The field.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// A priority where none may be, or none where one must be.
    #[error("`{table}`: {problem}")]
    Priority {
        /// The table.
        table: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// An entry without action.
    #[error("an entry of `{0}` needs an action")]
    NoAction(String),
    /// The table's ageing does not fit.
    #[error("`{0}` was compiled without `support_timeout`: its entries do not age")]
    NoTimeout(String),
    /// A packet header's fields were not given one for one.
    #[error("`{header}` has {expected} fields, and {found} values are given")]
    HeaderLength {
        /// The header.
        header: String,
        /// How many fields it has.
        expected: usize,
        /// How many values were given.
        found: usize,
    },
    /// A packet header's field got no value.
    #[error("field `{field}` of `{header}` has no value")]
    HeaderField {
        /// The header.
        header: String,
        /// The field.
        field: String,
    },
}

fn did_you_mean(near: &[String]) -> String {
    if near.is_empty() {
        String::new()
    } else {
        format!(": did you mean {}?", list(near, "or"))
    }
}

fn list(names: &[String], last: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => "none".to_owned(),
        Some((only, [])) => only.clone(),
        Some((end, rest)) => format!("{} {last} {end}", rest.join(", ")),
    }
}
