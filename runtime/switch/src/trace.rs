//! What one packet met on its way: parser states, lookups, actions, drops, deparser; as text
//! (`Display`) and as JSON (`serde`).

use crate::{Bits, DropReason, Match};
use std::fmt;

/// The way of one packet, and of every packet made from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Trace {
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// A place in the P4 text.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Source {
    /// File name as the compiler saw it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 0, as p4c writes it.
    pub column: u32,
    /// The beginning of the text there.
    pub fragment: String,
}

/// The entry that a lookup hit.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TableEntry {
    /// Its handle.
    pub handle: String,
    /// Its key in canonical form.
    pub key: Vec<Match>,
    /// Its priority; high wins.
    pub priority: i32,
}

/// One thing that happened to a packet.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields say what they are")]
pub enum Event {
    /// A packet arrived.
    Packet { port: u16, bytes: usize },
    /// The parser entered a state.
    State { name: String },
    /// A header was extracted.
    Extract {
        header: String,
        fields: Vec<(String, Bits)>,
    },
    /// The parser stopped with an error, at that many bytes.
    ParserError { error: String, offset: usize },
    /// A checksum was verified.
    Checksum { name: String, right: bool },
    /// A pipeline began.
    Pipeline { name: &'static str },
    /// A condition was evaluated.
    Condition {
        name: String,
        result: bool,
        source: Option<Source>,
    },
    /// A table was looked up.
    Table {
        name: String,
        key: Vec<(String, Bits)>,
        hit: bool,
        entry: Option<TableEntry>,
        action: Option<String>,
        source: Option<Source>,
    },
    /// An action began.
    Action {
        name: String,
        params: Vec<(String, Bits)>,
        source: Option<Source>,
    },
    /// A primitive of the action that began last.
    Primitive { op: String, source: Option<Source> },
    /// `log_msg`.
    Log { text: String },
    /// `exit`.
    Exit,
    /// A copy by a clone session.
    Clone { session: u16, egress: bool },
    /// Copies by a multicast group.
    Multicast { group: u16 },
    /// A digest was generated.
    Digest { name: String, values: Vec<Bits> },
    /// The packet enters ingress again, as it arrived.
    Resubmit,
    /// The packet enters ingress again, as it would have left.
    Recirculate,
    /// The packet, or a copy, was dropped.
    Drop { reason: DropReason },
    /// Headers were emitted.
    Deparse { headers: Vec<String> },
    /// A packet left.
    Output { port: u16, bytes: usize },
}

/// Takes events; the one that takes none compiles away.
pub(crate) trait Tracer {
    /// Whether events are wanted.
    const ON: bool;
    fn event(&mut self, event: impl FnOnce() -> Event);
}

/// No trace.
pub(crate) struct Silent;

impl Tracer for Silent {
    const ON: bool = false;
    #[inline(always)]
    fn event(&mut self, _: impl FnOnce() -> Event) {}
}

impl Tracer for Trace {
    const ON: bool = true;
    fn event(&mut self, event: impl FnOnce() -> Event) {
        self.events.push(event());
    }
}

fn pairs(values: &[(String, Bits)]) -> String {
    let values: Vec<String> = values
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    values.join(" ")
}

fn place(source: &Option<Source>) -> String {
    source
        .as_ref()
        .map_or_else(String::new, |s| format!("  [{}:{}]", s.file, s.line))
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Match::Exact(value) => write!(f, "{value}"),
            Match::Ternary { value, mask } => write!(f, "{value}&&&{mask}"),
            Match::Lpm { value, prefix_len } => write!(f, "{value}/{prefix_len}"),
            Match::Range { low, high } => write!(f, "{low}..{high}"),
            Match::Any => f.write_str("*"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Packet { port, bytes } => write!(f, "packet of {bytes} bytes on port {port}"),
            Event::State { name } => write!(f, "  state {name}"),
            Event::Extract { header, fields } => {
                write!(f, "    extract {header}: {}", pairs(fields))
            }
            Event::ParserError { error, offset } => {
                write!(f, "    parser error {error} at byte {offset}")
            }
            Event::Checksum { name, right } => {
                write!(
                    f,
                    "  checksum {name} is {}",
                    if *right { "right" } else { "wrong" }
                )
            }
            Event::Pipeline { name } => write!(f, "{name}"),
            Event::Condition {
                name,
                result,
                source,
            } => match source {
                Some(source) => {
                    write!(
                        f,
                        "  if {} is {result}  [{}:{}]",
                        source.fragment, source.file, source.line
                    )
                }
                None => write!(f, "  if {name} is {result}"),
            },
            Event::Table {
                name,
                key,
                hit,
                entry,
                action,
                source,
            } => {
                let outcome = if *hit { "hit" } else { "miss" };
                write!(f, "  table {name}: {outcome}")?;
                if !key.is_empty() {
                    write!(f, ", key {}", pairs(key))?;
                }
                if let Some(entry) = entry {
                    let key: Vec<String> = entry.key.iter().map(Match::to_string).collect();
                    write!(f, ", entry {} ({})", entry.handle, key.join(" "))?;
                    if entry.priority != 0 {
                        write!(f, " priority {}", entry.priority)?;
                    }
                }
                write!(
                    f,
                    " -> {}{}",
                    action.as_deref().unwrap_or("nothing"),
                    place(source)
                )
            }
            Event::Action {
                name,
                params,
                source,
            } => {
                write!(f, "    action {name}({}){}", pairs(params), place(source))
            }
            Event::Primitive { op, source } => match source {
                Some(s) => write!(f, "      {op}: {}  [{}:{}]", s.fragment, s.file, s.line),
                None => write!(f, "      {op}"),
            },
            Event::Log { text } => write!(f, "      log: {text}"),
            Event::Exit => write!(f, "      exit"),
            Event::Clone { session, egress } => {
                let pipeline = if *egress { "egress" } else { "ingress" };
                write!(f, "  clone at the end of {pipeline}, session {session}")
            }
            Event::Multicast { group } => write!(f, "  multicast to group {group}"),
            Event::Digest { name, values } => {
                let values: Vec<String> = values.iter().map(Bits::to_string).collect();
                write!(f, "  digest {name}: {}", values.join(" "))
            }
            Event::Resubmit => write!(f, "  resubmit"),
            Event::Recirculate => write!(f, "  recirculate"),
            Event::Drop { reason } => write!(f, "  drop ({})", reason.name()),
            Event::Deparse { headers } => write!(f, "  deparse {}", headers.join(" ")),
            Event::Output { port, bytes } => write!(f, "out on port {port}, {bytes} bytes"),
        }
    }
}

impl fmt::Display for Trace {
    /// One line an event, indented by what it belongs to.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.events
            .iter()
            .try_for_each(|event| writeln!(f, "{event}"))
    }
}
