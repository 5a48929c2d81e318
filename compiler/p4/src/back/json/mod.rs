//! bmv2 JSON, format version 2.23, as `docs/JSON_format.md` of bmv2 describes it. The order of
//! objects and members is fixed, so equal programs give equal bytes.

mod action;
mod expr;
mod header;
mod parser;
mod pipeline;
mod resource;
mod table;

use std::cell::RefCell;
use std::sync::Arc;

use num_bigint::{BigInt, Sign};
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Map, Value, json};

use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::ir::{Action, Handle, Place, Program, Table, Type, UniqueNames};
use crate::source::{SourceMap, Span};

/// The version of the format, `[major, minor]`.
pub const VERSION: [u32; 2] = [2, 23];

/// Writes a program. `name` is what the image says the program is called.
///
/// # Errors
///
/// What bmv2 cannot do although v1model allows it.
pub fn write(program: &Program, sources: &SourceMap, name: &str) -> Result<Value, Diagnostics> {
    let mut writer = Writer {
        program,
        sources,
        diagnostics: Diagnostics::new(),
        extra_scalars: Vec::new(),
        used: RefCell::default(),
        actions: Vec::new(),
        action_ids: FxHashMap::default(),
        taken: UniqueNames::default(),
        tables: 0,
        conditionals: 0,
        profiles: 0,
    };
    writer.take_names();
    let parsers = writer.parsers();
    writer.table_actions();
    let ingress = writer.pipeline(0);
    let egress = writer.pipeline(1);
    let field_lists = writer.field_lists();
    let (calculations, checksums, learn_lists) = (
        writer.calculations(),
        writer.checksums(),
        writer.learn_lists(),
    );
    let meters = writer.meters();
    let actions = std::mem::take(&mut writer.actions);
    let mut root = Map::new();
    let mut put = |key: &str, value: Value| root.insert(key.to_string(), value);
    // After everything that names a field.
    put("header_types", writer.header_types());
    put("headers", writer.headers());
    put("header_stacks", writer.header_stacks());
    put("header_union_types", writer.union_types());
    put("header_unions", writer.unions());
    put("header_union_stacks", json!([]));
    put("field_lists", field_lists);
    put("errors", writer.errors());
    put("enums", writer.enums());
    put("parsers", parsers);
    put("parse_vsets", writer.value_sets());
    put("deparsers", writer.deparsers());
    put("meter_arrays", meters);
    put("counter_arrays", writer.counters());
    put("register_arrays", writer.registers());
    put("calculations", calculations);
    put("learn_lists", learn_lists);
    put("actions", Value::Array(actions));
    put("pipelines", json!([ingress, egress]));
    put("checksums", checksums);
    put("force_arith", json!([]));
    put("extern_instances", json!([]));
    put("field_aliases", writer.field_aliases());
    put("program", json!(name));
    put(
        "__meta__",
        json!({ "version": VERSION, "compiler": concat!("signalbox-p4 ", env!("CARGO_PKG_VERSION")) }),
    );
    if writer.diagnostics.has_errors() {
        Err(writer.diagnostics)
    } else {
        Ok(Value::Object(root))
    }
}

struct Writer<'a> {
    program: &'a Program,
    sources: &'a SourceMap,
    diagnostics: Diagnostics,
    /// Scalars that only this back end needs: which application of a table is running.
    extra_scalars: Vec<(Arc<str>, u32)>,
    /// The scalars that anything names; the others need not be there.
    used: RefCell<FxHashSet<u32>>,
    /// Actions written so far; the position is the id.
    actions: Vec<Value>,
    action_ids: FxHashMap<Handle<Action>, usize>,
    /// Names of tables, conditionals and actions.
    taken: UniqueNames,
    tables: usize,
    conditionals: usize,
    profiles: usize,
}

/// How many characters of the source a node shows. Whole statements, which may be whole programs on
/// one line, would make images grow with the square of the program.
const MAX_FRAGMENT: usize = 160;

impl Writer<'_> {
    fn unsupported(&mut self, span: Span, message: impl Into<String>) {
        self.diagnostics
            .push(Diagnostic::error(span, message).with_code("unsupported"));
    }

    /// Reserves the names that the program itself gives.
    fn take_names(&mut self) {
        for (_, table) in self.program.tables.iter() {
            self.taken.reserve(&table.names.name);
        }
        for (_, action) in self.program.actions.iter() {
            self.taken.reserve(&action.names.name);
        }
    }

    /// A new name like this one.
    fn fresh(&mut self, wanted: &str) -> String {
        self.taken.give(wanted).to_string()
    }

    /// A name made of the place in the source.
    fn place_name(&self, span: Span) -> String {
        let at = self.sources.location(span);
        let file = at.path.rsplit('/').next().unwrap_or(at.path);
        let stem = file.split('.').next().unwrap_or(file);
        let stem: String = stem
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        format!("{stem}{}", at.line)
    }

    /// Where something is, as bmv2 shows it in its log.
    fn source_info(&self, span: Span) -> Value {
        let at = self.sources.location(span);
        let text = self.sources.text(span);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or("").trim_end();
        let mut fragment: String = first.chars().take(MAX_FRAGMENT).collect();
        if lines.next().is_some() || fragment.len() < first.len() {
            fragment.push_str(" ...");
        }
        json!({ "filename": at.path, "line": at.line, "column": at.column, "source_fragment": fragment })
    }

    fn table_name(&self, table: Handle<Table>) -> &str {
        &self.program.tables[table].names.name
    }

    /// `[header, field]` of a place whose header is known.
    fn field_of(&self, header: Handle<crate::ir::Header>, field: u32) -> Value {
        if header == self.program.scalars {
            self.used.borrow_mut().insert(field);
        }
        let header = &self.program.headers[header];
        let ty = &self.program.header_types[header.ty];
        json!([
            &*header.name,
            ty.fields.get(field as usize).map_or("", |f| &*f.name)
        ])
    }

    fn place_type(&self, place: Place) -> Type {
        use crate::ir::HeaderRef;
        let ty = match place.header {
            HeaderRef::Instance(h) => self.program.headers[h].ty,
            HeaderRef::Last(s) | HeaderRef::Next(s) | HeaderRef::Element(s, _) => {
                self.program.stacks[s].ty
            }
        };
        self.program.header_types[ty]
            .fields
            .get(place.field as usize)
            .map_or(Type::Bool, |f| f.ty)
    }
}

/// A number as the format writes it: `0x` and an even number of digits for at least `width` bits;
/// with a minus before it if negative.
fn hex(value: &BigInt, width: u32) -> String {
    let digits = (width.div_ceil(8) * 2) as usize;
    let text = value.magnitude().to_str_radix(16);
    let sign = if value.sign() == Sign::Minus { "-" } else { "" };
    let text = if text.len() % 2 == 1 {
        format!("0{text}")
    } else {
        text
    };
    format!("{sign}0x{text:0>digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fill_whole_bytes() {
        assert_eq!(hex(&BigInt::from(1), 9), "0x0001");
        assert_eq!(hex(&BigInt::from(0x1ff), 9), "0x01ff");
        assert_eq!(hex(&BigInt::from(0), 0), "0x00");
        assert_eq!(hex(&BigInt::from(-3), 8), "-0x03");
    }
}
