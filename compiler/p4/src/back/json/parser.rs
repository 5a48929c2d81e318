//! The parser, its value sets, and the deparser.

use num_bigint::BigInt;
use serde_json::{Value, json};

use crate::ir::{
    CaseMatch, Expr, HeaderRef, Place, State, Stmt, StmtKind, Target, Transition, Type, mask_of,
};

use super::{Writer, hex};

impl Writer<'_> {
    pub(super) fn parsers(&mut self) -> Value {
        let program = self.program;
        let Some(start) = program.parser.start else {
            return json!([]);
        };
        // Only states that can be reached are written, in the order of the program.
        let mut reached = vec![false; program.parser.states.len()];
        let mut open = vec![start];
        while let Some(state) = open.pop() {
            let Some(seen) = reached.get_mut(state.index()) else {
                continue;
            };
            if std::mem::replace(seen, true) {
                continue;
            }
            let targets: Vec<Target> = match &program.parser.states[state].transition {
                Transition::Direct(target) => vec![*target],
                Transition::Select { cases, .. } => cases.iter().map(|c| c.target).collect(),
            };
            open.extend(targets.into_iter().filter_map(|t| match t {
                Target::State(s) => Some(s),
                Target::Accept => None,
            }));
        }
        let mut states = Vec::new();
        for (handle, state) in program.parser.states.iter() {
            if reached.get(handle.index()).copied().unwrap_or(false) {
                let value = self.state(states.len(), state);
                states.push(value);
            }
        }
        json!([{
            "name": "parser",
            "id": 0,
            "init_state": &*program.parser.states[start].name,
            "parse_states": states,
        }])
    }

    fn state(&mut self, id: usize, state: &State) -> Value {
        let ops: Vec<Value> = state
            .body
            .iter()
            .filter_map(|stmt| self.parser_op(stmt))
            .collect();
        let (transitions, key) = match &state.transition {
            Transition::Direct(target) => (
                vec![self.transition(&CaseMatch::Default, &[], *target)],
                Vec::new(),
            ),
            Transition::Select { keys, cases } => {
                let widths: Vec<u32> = keys
                    .iter()
                    .map(|key| self.place_type(*key).width())
                    .collect();
                let transitions = cases
                    .iter()
                    .map(|c| self.transition(&c.matches, &widths, c.target))
                    .collect();
                (
                    transitions,
                    keys.iter().map(|key| self.select_key(*key)).collect(),
                )
            }
        };
        json!({
            "name": &*state.name,
            "id": id,
            "parser_ops": ops,
            "transitions": transitions,
            "transition_key": key,
        })
    }

    fn select_key(&self, key: Place) -> Value {
        match key.header {
            HeaderRef::Last(stack) => {
                let stack = &self.program.stacks[stack];
                let fields = &self.program.header_types[stack.ty].fields;
                let field = fields.get(key.field as usize).map_or("", |f| &*f.name);
                json!({ "type": "stack_field", "value": [&*stack.name, field] })
            }
            _ => self.target(key),
        }
    }

    fn transition(&self, matches: &CaseMatch, widths: &[u32], target: Target) -> Value {
        let next = match target {
            Target::State(state) => json!(&*self.program.parser.states[state].name),
            Target::Accept => Value::Null,
        };
        match matches {
            CaseMatch::Default => {
                json!({ "type": "default", "value": null, "mask": null, "next_state": next })
            }
            CaseMatch::Set(set) => json!({
                "type": "parse_vset",
                "value": &*self.program.value_sets[*set].names.name,
                "mask": null,
                "next_state": next,
            }),
            CaseMatch::Values(values) => {
                // Each key fills whole bytes.
                let (mut value, mut mask, mut bits) = (BigInt::from(0), BigInt::from(0), 0);
                let mut exact = true;
                for ((v, m), width) in values.iter().zip(widths) {
                    let bytes = width.div_ceil(8) * 8;
                    value = (value << bytes) | v;
                    mask = (mask << bytes) | m;
                    bits += bytes;
                    exact &= *m == mask_of(*width);
                }
                let mask = if exact {
                    Value::Null
                } else {
                    json!(hex(&mask, bits))
                };
                json!({ "type": "hexstr", "value": hex(&value, bits), "mask": mask, "next_state": next })
            }
        }
    }

    fn parser_op(&mut self, stmt: &Stmt) -> Option<Value> {
        match &stmt.kind {
            StmtKind::Extract { to, length } => {
                let header = match to {
                    HeaderRef::Instance(h) => {
                        json!({ "type": "regular", "value": &*self.program.headers[*h].name })
                    }
                    HeaderRef::Next(stack)
                    | HeaderRef::Last(stack)
                    | HeaderRef::Element(stack, _) => {
                        json!({ "type": "stack", "value": &*self.program.stacks[*stack].name })
                    }
                };
                Some(match length {
                    None => json!({ "op": "extract", "parameters": [header] }),
                    Some(length) => {
                        let length = json!({ "type": "expression", "value": self.number(*length) });
                        json!({ "op": "extract_VL", "parameters": [header, length] })
                    }
                })
            }
            StmtKind::Advance(bits) => {
                let bits = match self.program.exprs[*bits] {
                    Expr::Const { .. } | Expr::Read(_) => self.argument(*bits),
                    _ => json!({ "type": "expression", "value": self.number(*bits) }),
                };
                Some(json!({ "op": "advance", "parameters": [bits] }))
            }
            StmtKind::Lookahead { to, width } => Some(json!({
                "op": "set",
                "parameters": [self.target(*to), { "type": "lookahead", "value": [0, width] }],
            })),
            StmtKind::Verify { condition, error } => Some(
                json!({ "op": "verify", "parameters": [self.value(*condition), self.value(*error)] }),
            ),
            StmtKind::Assign { to, value }
                if Self::is_plain(*to) && !matches!(self.place_type(*to), Type::Varbit(_)) =>
            {
                let source = match self.program.exprs[*value] {
                    // The source of a field by an expression is written with one wrapper less than in actions.
                    Expr::Read(place) if Self::is_plain(place) => self.argument(*value),
                    Expr::Const { .. } | Expr::Bool(_) => self.argument(*value),
                    _ => json!({ "type": "expression", "value": self.number(*value) }),
                };
                Some(json!({ "op": "set", "parameters": [self.target(*to), source] }))
            }
            _ => {
                let primitive = self.simple(stmt)?;
                Some(json!({ "op": "primitive", "parameters": [primitive] }))
            }
        }
    }

    pub(super) fn value_sets(&self) -> Value {
        let sets = self.program.value_sets.iter().map(|(handle, set)| {
            json!({
                "name": &*set.names.name,
                "id": handle.index(),
                "compressed_bitwidth": set.fields.iter().map(|f| f.width).sum::<u32>(),
                "max_size": set.size,
            })
        });
        Value::Array(sets.collect())
    }

    pub(super) fn deparsers(&self) -> Value {
        let order: Vec<&str> = self
            .program
            .deparser
            .iter()
            .map(|h| &*self.program.headers[*h].name)
            .collect();
        json!([{
            "name": "deparser",
            "id": 0,
            "source_info": self.source_info(self.program.deparser_span),
            "order": order,
            "primitives": [],
        }])
    }
}
