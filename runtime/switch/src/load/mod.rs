//! bmv2 JSON (format 2.x) to a [`Program`].
//!
//! The loader checks every reference and bound, so that nothing a packet does can reach outside
//! the program; what it does not know it refuses by name and place.

mod actions;
mod arrays;
mod at;
mod calculations;
mod expr;
mod headers;
mod parser;
mod standard;
mod tables;

#[cfg(test)]
mod tests;

use crate::LoadError;
use crate::code::emit::Emitter;
use crate::code::expr::Bool;
use crate::code::layout::{Layout, Place, Slot, WORDS};
use crate::code::op::{Op, Test, fuse};
use crate::code::program::{
    Action, Branch, Calculation, Call, Check, Checksum, Condition, CoreErrors, Digest, FieldList,
    Node, ParseState, Profile, Program, SetShape, Table,
};
use crate::schema::{HeaderSchema, Schema};
use crate::trace::Source;
use at::{At, Result};
use rustc_hash::FxHashMap;

/// What is known so far of a program while its JSON is read.
struct Loader {
    layout: Layout,
    emitter: Emitter,
    schema: Schema,
    aliases: Vec<(String, (String, String))>,
    param_base: Slot,
    /// The word that holds the drop port, which the switch sets.
    drop_slot: Slot,
    standard: Option<crate::code::program::Standard>,
    registers: FxHashMap<String, u32>,
    calculation_names: FxHashMap<String, u32>,
    action_ids: FxHashMap<u64, u32>,
    /// Places of the parameters of each action.
    action_params: Vec<Vec<Place>>,
    actions: Vec<Action>,
    tables: Vec<Table>,
    branches: Vec<Branch>,
    conditions: Vec<Condition>,
    checks: Vec<Check>,
    calls: Vec<Call>,
    profiles: Vec<Profile>,
    states: Vec<ParseState>,
    set_shapes: Vec<SetShape>,
    calculations: Vec<Calculation>,
    verify: Vec<Checksum>,
    update: Vec<Checksum>,
    field_lists: Vec<(u64, FieldList)>,
    digests: Vec<Digest>,
    errors: CoreErrors,
}

/// Nesting that is read on the caller's stack; p4c's long sums go deeper.
const SHALLOW: usize = 100;
/// Nesting beyond which a JSON is refused, and the stack that is sure to be enough for it.
const DEEPEST: usize = 6000;
const DEEP_STACK: usize = 512 << 20;

/// Compiles a bmv2 JSON.
pub(crate) fn load(json: &str) -> std::result::Result<Program, LoadError> {
    let depth = nesting(json);
    if depth > DEEPEST {
        return Err(LoadError::Unsupported {
            at: "/".to_owned(),
            what: format!("nesting deeper than {DEEPEST}"),
        });
    }
    if depth <= SHALLOW {
        return load_here(json);
    }
    let refused = || LoadError::Unsupported {
        at: "/".to_owned(),
        what: format!("nesting {depth} deep on a machine short of memory"),
    };
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new()
            .name("load".to_owned())
            .stack_size(DEEP_STACK);
        let thread = builder
            .spawn_scoped(scope, || load_here(json))
            .map_err(|_| refused())?;
        thread.join().map_err(|_| refused())?
    })
}

/// How deep objects and lists nest in a JSON text.
fn nesting(json: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn load_here(json: &str) -> std::result::Result<Program, LoadError> {
    let mut text = serde_json::Deserializer::from_str(json);
    text.disable_recursion_limit();
    let value = <serde_json::Value as serde::Deserialize>::deserialize(&mut text)
        .and_then(|value| text.end().map(|()| value))
        .map_err(|e| LoadError::Syntax {
            line: e.line(),
            column: e.column(),
            message: e.to_string(),
        })?;
    let root = At::root(&value);
    let layout = headers::layout(&root)?;
    // The parameters of actions stand right after what each packet resets; narrow ones come in pairs.
    let param_words = param_words(&root)?.next_multiple_of(2);
    let mut words = vec![0; usize::from(layout.reset_end) + param_words as usize];
    for slot in &layout.always_valid {
        if let Some(word) = words.get_mut(*slot as usize) {
            *word = 1;
        }
    }
    let headers = layout
        .headers
        .iter()
        .filter(|header| !header.metadata)
        .map(|header| HeaderSchema {
            name: header.name.clone(),
            fields: header
                .fields
                .iter()
                .map(|field| (field.name.clone(), field.place.width as usize))
                .collect(),
        })
        .collect();
    let loader = Loader {
        emitter: Emitter::new(&layout, words),
        param_base: layout.reset_end,
        layout,
        drop_slot: 0,
        schema: Schema {
            headers,
            ..Schema::default()
        },
        aliases: Vec::new(),
        standard: None,
        registers: FxHashMap::default(),
        calculation_names: FxHashMap::default(),
        action_ids: FxHashMap::default(),
        action_params: Vec::new(),
        actions: Vec::new(),
        tables: Vec::new(),
        branches: Vec::new(),
        conditions: Vec::new(),
        checks: Vec::new(),
        calls: Vec::new(),
        profiles: Vec::new(),
        states: Vec::new(),
        set_shapes: Vec::new(),
        calculations: Vec::new(),
        verify: Vec::new(),
        update: Vec::new(),
        field_lists: Vec::new(),
        digests: Vec::new(),
        errors: CoreErrors::default(),
    };
    loader.program(&root)
}

/// Words that the parameters of the greediest action take.
fn param_words(root: &At) -> Result<u32> {
    let mut most = 0;
    for action in root.list_of("actions")? {
        let mut words = 0;
        for param in action.list_of("runtime_data")? {
            words += param.get("bitwidth")?.count()?.div_ceil(64) as u32;
        }
        most = most.max(words);
    }
    Ok(most)
}

impl Loader {
    fn program(mut self, root: &At) -> Result<Program> {
        self.drop_slot = self.emitter.reserve(1);
        if let Some(extern_instance) = root.list_of("extern_instances")?.first() {
            let kind = extern_instance.get("type")?.str()?.to_owned();
            return Err(extern_instance.unsupported(kind));
        }
        self.read_errors(root)?;
        self.read_aliases(root)?;
        let standard = self.read_standard()?;
        self.standard = Some(standard);
        self.read_arrays(root)?;
        self.read_calculations(root)?;
        self.read_field_lists(root)?;
        self.read_value_sets(root)?;
        self.read_actions(root)?;
        let start = self.read_parser(root)?;
        let (ingress, egress) = self.read_pipelines(root)?;
        self.bind_direct(root)?;
        self.read_checksums(root)?;
        let (deparse, deparse_code) = self.read_deparser(root)?;
        if self.emitter.words.len() > WORDS {
            return Err(
                root.unsupported("more than 65536 words of headers, metadata and constants")
            );
        }
        let local_actions = self
            .tables
            .iter()
            .map(|table| {
                let mut local = vec![u32::MAX; self.actions.len()];
                for (i, action) in table.actions.iter().enumerate() {
                    if let Some(slot) = local.get_mut(action.action as usize)
                        && *slot == u32::MAX
                    {
                        *slot = i as u32;
                    }
                }
                local
            })
            .collect();
        fuse(&mut self.emitter.code);
        Ok(Program {
            schema: self.schema,
            layout: self.layout,
            words: self.emitter.words,
            param_base: self.param_base,
            drop_slot: self.drop_slot,
            code: self.emitter.code,
            effects: self.emitter.effects,
            actions: self.actions,
            tables: self.tables,
            branches: self.branches,
            conditions: self.conditions,
            checks: self.checks,
            calls: self.calls,
            profiles: self.profiles,
            ingress,
            egress,
            states: self.states,
            start,
            set_shapes: self.set_shapes,
            calculations: self.calculations,
            verify: self.verify,
            update: self.update,
            deparse,
            deparse_code,
            field_lists: self.field_lists,
            digests: self.digests,
            standard,
            errors: self.errors,
            local_actions,
        })
    }

    /// Compiles a condition: to tests of words if it is a plain list of them, else to code.
    fn check(&mut self, condition: &Bool) -> Check {
        let mut parts = Vec::new();
        let every = !matches!(condition, Bool::Or(..));
        flatten(condition, every, &mut parts);
        let checks: Option<Vec<Check>> = parts.iter().map(|part| self.test(part)).collect();
        let count = parts.len() as u32;
        if let Some(checks) = checks {
            if let [check] = checks.as_slice() {
                return *check;
            }
            let first = self.checks.len() as u32;
            self.checks.extend(checks);
            return if every {
                Check::Every(first, count)
            } else {
                Check::Some(first, count)
            };
        }
        let entry = self.emitter.here();
        let result = self.emitter.decide(condition);
        self.emitter.push(Op::End);
        self.emitter.release();
        Check::Code(entry, result)
    }

    /// A condition as one test of words that are there without any code.
    fn test(&mut self, condition: &Bool) -> Option<Check> {
        if let Bool::Not(inner) = condition {
            return Some(match self.test(inner)? {
                Check::Word(slot) => Check::NotWord(slot),
                Check::NotWord(slot) => Check::Word(slot),
                Check::Equal(a, b) => Check::Unequal(a, b),
                Check::Unequal(a, b) => Check::Equal(a, b),
                Check::Test(Test::LtUnsigned, a, b) => Check::Test(Test::LeUnsigned, b, a),
                Check::Test(Test::LeUnsigned, a, b) => Check::Test(Test::LtUnsigned, b, a),
                Check::Test(Test::LtSigned, a, b) => Check::Test(Test::LeSigned, b, a),
                Check::Test(Test::LeSigned, a, b) => Check::Test(Test::LtSigned, b, a),
                _ => return None,
            });
        }
        let entry = self.emitter.here() as usize;
        let result = self.emitter.decide(condition);
        let check = match self.emitter.code.get(entry..).unwrap_or_default() {
            [] => Some(Check::Word(result)),
            [Op::Equal { d, a, b }] if *d == result => Some(Check::Equal(*a, *b)),
            [Op::Unequal { d, a, b }] if *d == result => Some(Check::Unequal(*a, *b)),
            [Op::Test { op, d, a, b }] if *d == result => Some(Check::Test(*op, *a, *b)),
            _ => None,
        };
        self.emitter.code.truncate(entry);
        self.emitter.release();
        check
    }

    fn node(at: &At, nodes: &FxHashMap<String, Node>) -> Result<Node> {
        if at.is_null() {
            return Ok(Node::End);
        }
        match nodes.get(at.str()?) {
            Some(node) => Ok(*node),
            None => Err(at.invalid("the name of a table, conditional or action call")),
        }
    }
}

/// The parts of a conjunction (`every`) or disjunction.
fn flatten<'a>(condition: &'a Bool, every: bool, parts: &mut Vec<&'a Bool>) {
    match condition {
        Bool::And(a, b) if every => {
            flatten(a, every, parts);
            flatten(b, every, parts);
        }
        Bool::Or(a, b) if !every => {
            flatten(a, every, parts);
            flatten(b, every, parts);
        }
        part => parts.push(part),
    }
}

/// Where an object of the program stands in the P4 text, if the JSON says so.
fn source(at: &At) -> Option<Source> {
    let info = at.maybe("source_info")?;
    Some(Source {
        file: info.maybe("filename")?.str().ok()?.to_owned(),
        line: u32::try_from(info.maybe("line")?.u64().ok()?).ok()?,
        column: info
            .maybe("column")
            .and_then(|at| at.u64().ok())
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(0),
        fragment: info
            .maybe("source_fragment")
            .and_then(|at| at.str().ok().map(str::to_owned))
            .unwrap_or_default(),
    })
}
