//! A compiled pipeline: code, parser, tables, control flow, deparser.

use super::expr::{Bool, Num, Target};
use super::layout::{HeaderId, Layout, Place, Slot};
use super::op::Op;
use crate::schema::Schema;
use crate::trace::Source;
use crate::{ActionId, ActionProfileId, CounterId, Match, MeterId, RegisterId};

/// A run of instructions that ends in `Op::End`.
pub(crate) type Entry = u32;

/// What an instruction does that is more than arithmetic on words.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// Exact evaluation, where machine arithmetic could differ.
    Assign {
        target: Target,
        value: Num,
    },
    /// The lowest `words` words of the exact value to `slot`.
    Evaluate {
        slot: Slot,
        words: u32,
        value: Num,
    },
    Decide {
        slot: Slot,
        value: Bool,
    },
    AssignVarbit {
        target: Varbit,
        source: Varbit,
    },
    AssignHeader {
        target: HeaderId,
        source: HeaderId,
    },
    AssignHeaderDynamic {
        target: super::expr::HeaderRef,
        source: super::expr::HeaderRef,
    },
    AssignStack {
        target: StackRef,
        source: StackRef,
    },
    AddHeader {
        header: HeaderId,
    },
    RemoveHeader {
        header: HeaderId,
    },
    SetValidDynamic {
        header: super::expr::HeaderRef,
        valid: bool,
    },
    Push {
        stack: StackRef,
        count: Slot,
    },
    Pop {
        stack: StackRef,
        count: Slot,
    },
    Count {
        counter: CounterId,
        index: Slot,
    },
    Meter {
        meter: MeterId,
        index: Slot,
        target: Place,
    },
    RegisterRead {
        register: RegisterId,
        index: Slot,
        target: Place,
    },
    RegisterWrite {
        register: RegisterId,
        index: Slot,
        source: Place,
    },
    Hash {
        calculation: u32,
        base: Slot,
        max: Slot,
        target: Place,
    },
    Random {
        low: Slot,
        high: Slot,
        target: Place,
    },
    Digest {
        digest: u32,
    },
    Clone {
        session: Slot,
        field_list: Slot,
    },
    Resubmit {
        field_list: Slot,
    },
    Recirculate {
        field_list: Slot,
    },
    Truncate {
        length: Slot,
    },
    Exit,
    Assert {
        condition: Slot,
    },
    Log {
        format: String,
        args: Vec<Place>,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Varbit {
    pub(crate) place: Place,
    pub(crate) length: Slot,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum StackRef {
    Headers(u32),
    Unions(u32),
}

/// A list of fields that clones, resubmits and recirculations keep.
#[derive(Clone, Debug, Default)]
pub(crate) struct FieldList {
    pub(crate) places: Vec<Place>,
}

#[derive(Clone, Debug)]
pub(crate) struct Action {
    pub(crate) id: ActionId,
    pub(crate) entry: Entry,
    /// It does nothing.
    pub(crate) empty: bool,
    /// Words of its parameters.
    pub(crate) param_words: u32,
    pub(crate) source: Option<Source>,
    /// Where each primitive starts, for traces.
    pub(crate) primitives: Vec<(Entry, Option<Source>, String)>,
}

/// A node of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    End,
    Table(u32),
    Condition(u32),
    Call(u32),
}

/// How a condition is found out; the short forms save a run of code.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Check {
    /// A word that is 1 or 0.
    Word(Slot),
    NotWord(Slot),
    Equal(Slot, Slot),
    Unequal(Slot, Slot),
    Test(super::op::Test, Slot, Slot),
    /// So many of `Program::checks`, from the first on, all have to hold.
    Every(u32, u32),
    /// One of them has to hold.
    Some(u32, u32),
    /// Code that leaves 1 or 0 in a word.
    Code(Entry, Slot),
}

/// What a condition does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Branch {
    pub(crate) check: Check,
    pub(crate) then: Node,
    pub(crate) otherwise: Node,
}

/// What a condition is called.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) name: String,
    pub(crate) source: Option<Source>,
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) action: u32,
    pub(crate) next: Node,
}

/// A field of up to 64 bits on its way into a packed key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pack {
    pub(crate) slot: Slot,
    /// A word that is 1 if the field counts, and 0 if it reads as zero.
    pub(crate) guard: Slot,
    pub(crate) word: u16,
    pub(crate) shift: u8,
}

/// The parts of one word of a packed key: a range of `Table::pack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackWord {
    pub(crate) word: u16,
    pub(crate) first: u16,
    pub(crate) end: u16,
}

/// A part of a key: a field and where its bits go in the packed key.
#[derive(Clone, Debug)]
pub(crate) struct KeyPart {
    pub(crate) place: Place,
    /// The field reads as zero unless this word is set.
    pub(crate) valid: Option<Slot>,
    /// The word of the packed key; wide fields take several, starting there.
    pub(crate) word: u32,
    pub(crate) shift: u32,
    /// The program's own mask on this field, one word per word of the field.
    pub(crate) mask: Option<Vec<u64>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) key: Vec<KeyPart>,
    /// The plain parts of the key by word, and the indices of the others in `key`.
    pub(crate) pack: Vec<Pack>,
    pub(crate) pack_words: Vec<PackWord>,
    pub(crate) pack_others: Vec<u32>,
    /// Whether a part of `pack` is a field that may be absent.
    pub(crate) guarded: bool,
    /// A table without key, counters and choice: the action it always runs, and what follows.
    pub(crate) fixed: Option<(u32, Node)>,
    /// Words of the packed key, ranges included, which come last.
    pub(crate) key_words: u32,
    /// The first word that is compared as a range.
    pub(crate) range_start: u32,
    pub(crate) exact: bool,
    /// Words of action data an entry keeps.
    pub(crate) data_words: u32,
    /// No parameter has more than 32 bits, and an entry keeps two in a word.
    pub(crate) narrow: bool,
    pub(crate) actions: Vec<TableAction>,
    pub(crate) next_hit: Option<Node>,
    pub(crate) next_miss: Option<Node>,
    /// Where a table without default action goes on a miss.
    pub(crate) base_default_next: Node,
    pub(crate) default: Option<Initial>,
    pub(crate) entries: Vec<InitialEntry>,
    pub(crate) count: bool,
    pub(crate) support_timeout: bool,
    pub(crate) meter: Option<MeterTarget>,
    pub(crate) profile: Option<ActionProfileId>,
    pub(crate) source: Option<Source>,
}

impl Table {
    /// Whether the same fields make the same packed key.
    pub(crate) fn packs_like(&self, other: &Table) -> bool {
        self.key_words == other.key_words
            && self.pack == other.pack
            && self.pack_words == other.pack_words
            && self.guarded == other.guarded
            && self.pack_others.is_empty()
            && other.pack_others.is_empty()
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct MeterTarget {
    pub(crate) meter: MeterId,
    pub(crate) target: Place,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct TableAction {
    /// Index into `Program::actions`, equal to the ActionId.
    pub(crate) action: u32,
    pub(crate) next: Node,
}

/// An action with data, from the program.
#[derive(Clone, Debug)]
pub(crate) struct Initial {
    pub(crate) action: ActionId,
    pub(crate) params: Vec<crate::Bits>,
}

#[derive(Clone, Debug)]
pub(crate) struct InitialEntry {
    pub(crate) key: Vec<Match>,
    /// As in the JSON: the lowest wins.
    pub(crate) priority: i32,
    pub(crate) action: Initial,
    /// The JSON place, for the error if it cannot be inserted.
    pub(crate) at: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) selector: Option<u32>,
}

// ---- Parser

#[derive(Clone, Debug)]
pub(crate) struct ParseState {
    pub(crate) name: String,
    pub(crate) ops: Vec<ParseOp>,
    pub(crate) key: Vec<SelectPart>,
    /// Words of the select key.
    pub(crate) key_words: u32,
    pub(crate) cases: Vec<Case>,
    /// The cases as value, mask and next state, if the key is one word and no value set is asked.
    pub(crate) narrow: Option<Vec<(u64, u64, Option<u32>)>>,
    /// No state ends the parser.
    pub(crate) default: Option<u32>,
}

#[derive(Clone, Debug)]
pub(crate) enum ParseOp {
    Extract(HeaderId),
    ExtractVarbit {
        header: HeaderId,
        entry: Entry,
        bits: Slot,
    },
    ExtractStack {
        stack: u32,
        varbit: Option<(Entry, Slot)>,
    },
    ExtractUnionStack {
        stack: u32,
        member: usize,
        varbit: Option<(Entry, Slot)>,
    },
    /// Assignments and primitives.
    Run(Entry),
    SetLookahead {
        target: Place,
        offset: u32,
        bits: u32,
    },
    Verify {
        entry: Entry,
        condition: Slot,
        error: Slot,
    },
    Advance {
        entry: Entry,
        bits: Slot,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum SelectSource {
    Place(Place),
    /// The value is computed by code into `slot` first.
    Computed {
        entry: Entry,
        place: Place,
    },
    Lookahead {
        offset: u32,
        bits: u32,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct SelectPart {
    pub(crate) source: SelectSource,
    pub(crate) width: u32,
    /// Bits from the key's low end.
    pub(crate) shift: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) test: CaseTest,
    pub(crate) next: Option<u32>,
}

#[derive(Clone, Debug)]
pub(crate) enum CaseTest {
    /// `key & mask == value`, one word each as the key has.
    Value {
        value: Vec<u64>,
        mask: Vec<u64>,
    },
    Set {
        set: u32,
        mask: Vec<u64>,
    },
}

/// How members of a value set are packed: width and shift per field.
#[derive(Clone, Debug, Default)]
pub(crate) struct SetShape {
    pub(crate) fields: Vec<(u32, u32)>,
    pub(crate) words: u32,
}

// ---- Calculations, checksums, deparser

#[derive(Clone, Debug)]
pub(crate) struct Calculation {
    pub(crate) algorithm: Algorithm,
    pub(crate) inputs: Vec<CalcInput>,
    /// The short way, if there is one.
    pub(crate) sum: Option<Sum>,
}

/// An Internet checksum over words whose places in the input are known beforehand.
#[derive(Clone, Debug)]
pub(crate) struct Sum {
    /// All of the input is there if this word is set, and nothing else.
    pub(crate) guard: Option<Slot>,
    /// Words of up to 32 bits, and how far to shift each for its place in a 16-bit column; few
    /// enough that 64 bits hold their sum.
    pub(crate) small: Vec<(Slot, u32)>,
    /// The other words.
    pub(crate) parts: Vec<(Slot, u32)>,
    /// What constants add.
    pub(crate) constant: u128,
}

#[derive(Clone, Debug)]
pub(crate) enum CalcInput {
    Field {
        place: Place,
        valid: Option<Slot>,
        length: Option<Slot>,
    },
    Constant {
        words: Vec<u64>,
        bits: u32,
    },
    Header(HeaderId),
    Payload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Crc8Custom,
    Crc16,
    Crc16Custom,
    CrcCcitt,
    Crc32,
    Crc32Custom,
    Crc64Custom,
    Csum16,
    Xor16,
    Xor32,
    Identity,
    Toeplitz,
    RoundRobin,
    RoundRobinConsistent,
}

#[derive(Clone, Debug)]
pub(crate) struct Checksum {
    pub(crate) name: String,
    pub(crate) target: Place,
    pub(crate) target_valid: Option<Slot>,
    pub(crate) calculation: u32,
    pub(crate) condition: Option<Check>,
}

/// Standard metadata; what a program leaves out points to a word that nobody reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standard {
    pub(crate) ingress_port: Place,
    pub(crate) egress_spec: Place,
    pub(crate) egress_port: Place,
    pub(crate) packet_length: Place,
    pub(crate) instance_type: Place,
    pub(crate) mcast_grp: Place,
    pub(crate) egress_rid: Place,
    pub(crate) ingress_global_timestamp: Place,
    pub(crate) egress_global_timestamp: Place,
    pub(crate) enq_timestamp: Place,
    pub(crate) enq_qdepth: Place,
    pub(crate) deq_timedelta: Place,
    pub(crate) deq_qdepth: Place,
    pub(crate) qid: Place,
    pub(crate) priority: Place,
    pub(crate) parser_error: Place,
    pub(crate) checksum_error: Place,
}

/// Values of the core library's parser errors in this program.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CoreErrors {
    pub(crate) no_error: u64,
    pub(crate) packet_too_short: u64,
    pub(crate) stack_out_of_bounds: u64,
    pub(crate) header_too_short: u64,
    pub(crate) parser_invalid_argument: u64,
    pub(crate) parser_timeout: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) schema: Schema,
    pub(crate) layout: Layout,
    /// All words as they are before the first packet: constants set, the rest 0.
    pub(crate) words: Vec<u64>,
    pub(crate) param_base: Slot,
    /// The word with the drop port.
    pub(crate) drop_slot: Slot,
    pub(crate) code: Vec<Op>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) actions: Vec<Action>,
    pub(crate) tables: Vec<Table>,
    pub(crate) branches: Vec<Branch>,
    /// The names of the branches, for traces.
    pub(crate) conditions: Vec<Condition>,
    /// The parts of conditions.
    pub(crate) checks: Vec<Check>,
    pub(crate) calls: Vec<Call>,
    pub(crate) profiles: Vec<Profile>,
    pub(crate) ingress: Node,
    pub(crate) egress: Node,
    pub(crate) states: Vec<ParseState>,
    pub(crate) start: Option<u32>,
    pub(crate) set_shapes: Vec<SetShape>,
    pub(crate) calculations: Vec<Calculation>,
    pub(crate) verify: Vec<Checksum>,
    pub(crate) update: Vec<Checksum>,
    pub(crate) deparse: Vec<HeaderId>,
    /// Code that the deparser runs after the checksums.
    pub(crate) deparse_code: Vec<Entry>,
    pub(crate) field_lists: Vec<(u64, FieldList)>,
    /// Learn lists: their JSON ids and fields.
    pub(crate) digests: Vec<Digest>,
    pub(crate) standard: Standard,
    pub(crate) errors: CoreErrors,
    /// Conversion of actions by global id to a table's own index, per table (`u32::MAX`: none).
    pub(crate) local_actions: Vec<Vec<u32>>,
}

impl Program {
    /// Whether nobody can tell in which order the ingress pipeline takes packets that arrive together: there is
    /// nothing that one packet leaves and another one finds. Counters are read by nobody but the control
    /// plane.
    pub(crate) fn forgets(&self) -> bool {
        let stateful = |effect: &Effect| {
            matches!(
                effect,
                Effect::Meter { .. }
                    | Effect::RegisterRead { .. }
                    | Effect::RegisterWrite { .. }
                    | Effect::Random { .. }
            )
        };
        let in_turn = |calculation: &Calculation| {
            use Algorithm::{RoundRobin, RoundRobinConsistent};
            matches!(calculation.algorithm, RoundRobin | RoundRobinConsistent)
        };
        !self.effects.iter().any(stateful)
            && !self.calculations.iter().any(in_turn)
            && self.tables.iter().all(|table| table.meter.is_none())
    }
}

/// A learn list: its id in the JSON and its fields.
#[derive(Clone, Debug)]
pub(crate) struct Digest {
    pub(crate) id: u64,
    pub(crate) places: Vec<Place>,
}
