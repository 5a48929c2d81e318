//! Actions: lists of primitives with jumps.

use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use crate::ir::{Action, Block, Handle, HeaderRef, Label, Place, Primitive, Stmt, StmtKind, Type};
use crate::source::Span;

use super::{Writer, hex};

/// The primitives of an action while they are made.
#[derive(Default)]
struct Code {
    primitives: Vec<Value>,
    /// Jumps whose target is not known yet: the primitive and the block it leaves.
    jumps: Vec<(usize, Label)>,
    ends: FxHashMap<Label, usize>,
}

impl Writer<'_> {
    /// Writes the program's actions.
    pub(super) fn table_actions(&mut self) {
        let program = self.program;
        for (handle, action) in program.actions.iter() {
            if !action.unlisted {
                let value = self.action(action);
                self.action_ids.insert(handle, self.actions.len());
                self.actions.push(value);
            }
        }
    }

    fn action(&mut self, action: &Action) -> Value {
        let params: Vec<Value> = action
            .params
            .iter()
            .map(|p| json!({ "name": &*p.name, "bitwidth": p.ty.width() }))
            .collect();
        let id = self.actions.len();
        let primitives = self.primitives(&action.body);
        json!({
            "name": &*action.names.name,
            "id": id,
            "runtime_data": params,
            "primitives": primitives,
            "source_info": self.source_info(action.span),
        })
    }

    /// Writes an action that the program does not know; its name and id.
    pub(super) fn hidden_action(&mut self, name: &str, block: &[Stmt], span: Span) -> usize {
        let id = self.actions.len();
        let primitives = self.primitives(block);
        let info = self.source_info(span);
        self.actions.push(json!({
            "name": name,
            "id": id,
            "runtime_data": [],
            "primitives": primitives,
            "source_info": info,
        }));
        id
    }

    pub(super) fn action_id(&self, action: Handle<Action>) -> usize {
        self.action_ids.get(&action).copied().unwrap_or(usize::MAX)
    }

    fn primitives(&mut self, block: &[Stmt]) -> Vec<Value> {
        let mut code = Code::default();
        self.statements(block, true, &mut code);
        let end = code.primitives.len();
        for (at, label) in std::mem::take(&mut code.jumps) {
            let target = code.ends.get(&label).copied().unwrap_or(end);
            set_target(&mut code.primitives, at, target);
        }
        code.primitives
    }

    /// `tail`: nothing of the action comes after the block.
    fn statements(&mut self, block: &[Stmt], tail: bool, code: &mut Code) {
        for (position, stmt) in block.iter().enumerate() {
            self.statement(stmt, tail && position + 1 == block.len(), code);
        }
    }

    fn statement(&mut self, stmt: &Stmt, tail: bool, code: &mut Code) {
        match &stmt.kind {
            StmtKind::If {
                condition,
                then,
                otherwise,
            } => {
                let (condition, then, otherwise): (_, &Block, &Block) =
                    (*condition, then, otherwise);
                let branch = code.primitives.len();
                let condition = self.jump_condition(condition);
                code.primitives.push(self.primitive(
                    "_jump_if_zero",
                    vec![condition, Value::Null],
                    stmt.span,
                ));
                self.statements(then, tail && otherwise.is_empty(), code);
                if otherwise.is_empty() {
                    let after = code.primitives.len();
                    set_target(&mut code.primitives, branch, after);
                } else {
                    let skip = code.primitives.len();
                    let leaves = matches!(
                        then.last(),
                        Some(Stmt {
                            kind: StmtKind::Break(_) | StmtKind::Exit,
                            ..
                        })
                    );
                    if !leaves {
                        code.primitives
                            .push(self.primitive("_jump", vec![Value::Null], stmt.span));
                    }
                    let start = code.primitives.len();
                    set_target(&mut code.primitives, branch, start);
                    self.statements(otherwise, tail, code);
                    let after = code.primitives.len();
                    if !leaves {
                        set_target(&mut code.primitives, skip, after);
                    }
                }
            }
            StmtKind::Labelled(label, inner) => {
                self.statements(inner, false, code);
                code.ends.insert(*label, code.primitives.len());
            }
            StmtKind::Break(label) => {
                code.jumps.push((code.primitives.len(), *label));
                code.primitives
                    .push(self.primitive("_jump", vec![Value::Null], stmt.span));
            }
            StmtKind::Exit => {
                code.primitives
                    .push(self.primitive("exit", Vec::new(), stmt.span));
                // The rest of the action must not run either: jump to its end.
                if !tail {
                    code.jumps.push((code.primitives.len(), Label(u32::MAX)));
                    code.primitives
                        .push(self.primitive("_jump", vec![Value::Null], stmt.span));
                }
            }
            _ => {
                if let Some(primitive) = self.simple(stmt) {
                    code.primitives.push(primitive);
                }
            }
        }
    }

    fn primitive(&self, op: &str, parameters: Vec<Value>, span: Span) -> Value {
        json!({ "op": op, "parameters": parameters, "source_info": self.source_info(span) })
    }

    /// A statement that is one primitive.
    pub(super) fn simple(&mut self, stmt: &Stmt) -> Option<Value> {
        let span = stmt.span;
        let (op, parameters) = match &stmt.kind {
            StmtKind::Assign { to, value } => match self.place_type(*to) {
                Type::Varbit(_) => ("assign_VL", vec![self.target(*to), self.argument(*value)]),
                ty => ("assign", vec![self.target(*to), self.stored(*value, ty)]),
            },
            StmtKind::CopyHeader { to, from } => {
                ("assign_header", vec![self.header(*to), self.header(*from)])
            }
            StmtKind::CopyStack { to, from } => (
                "assign_header_stack",
                vec![self.stack(*to), self.stack(*from)],
            ),
            StmtKind::CopyUnion { to, from } => {
                let union = |u: &Handle<crate::ir::Union>| json!({ "type": "header_union", "value": &*self.program.unions[*u].name });
                ("assign_union", vec![union(to), union(from)])
            }
            StmtKind::SetValid(header) => ("add_header", vec![self.header(*header)]),
            StmtKind::SetInvalid(header) => ("remove_header", vec![self.header(*header)]),
            StmtKind::Push(stack, count) => ("push", vec![self.stack(*stack), count_value(*count)]),
            StmtKind::Pop(stack, count) => ("pop", vec![self.stack(*stack), count_value(*count)]),
            StmtKind::Call(primitive) => return self.call(primitive, span),
            _ => {
                self.unsupported(span, "this is not supported here by the target");
                return None;
            }
        };
        Some(self.primitive(op, parameters, span))
    }

    fn call(&mut self, primitive: &Primitive, span: Span) -> Option<Value> {
        let program = self.program;
        let named = |kind: &str, name: &str| json!({ "type": kind, "value": name });
        let (op, parameters) = match primitive {
            Primitive::Count { counter, index } => (
                "count",
                vec![
                    named("counter_array", &program.counters[*counter].names.name),
                    self.argument(*index),
                ],
            ),
            Primitive::ExecuteMeter { meter, index, to } => {
                let meter = named("meter_array", &program.meters[*meter].names.name);
                (
                    "execute_meter",
                    vec![meter, self.argument(*index), self.target(*to)],
                )
            }
            Primitive::RegisterRead {
                to,
                register,
                index,
            } => {
                let register = named("register_array", &program.registers[*register].names.name);
                (
                    "register_read",
                    vec![self.target(*to), register, self.argument(*index)],
                )
            }
            Primitive::RegisterWrite {
                register,
                index,
                value,
            } => {
                let register = named("register_array", &program.registers[*register].names.name);
                (
                    "register_write",
                    vec![register, self.argument(*index), self.argument(*value)],
                )
            }
            Primitive::Hash {
                to,
                base,
                calculation,
                max,
            } => {
                let calculation = named("calculation", &Self::calculation_name(*calculation));
                let parameters = vec![
                    self.target(*to),
                    self.argument(*base),
                    calculation,
                    self.argument(*max),
                ];
                ("modify_field_with_hash_based_offset", parameters)
            }
            Primitive::Random { to, low, high } => {
                if self.place_type(*to).width() > 64 {
                    self.unsupported(
                        span,
                        "random numbers of more than 64 bits are not supported",
                    );
                }
                (
                    "modify_field_rng_uniform",
                    vec![self.target(*to), self.argument(*low), self.argument(*high)],
                )
            }
            Primitive::Digest { receiver, list } => {
                let id = json!({ "type": "hexstr", "value": hex(&(list.index() + 1).into(), 32) });
                ("generate_digest", vec![self.argument(*receiver), id])
            }
            Primitive::Clone {
                egress,
                session,
                list,
            } => {
                let op = if *egress {
                    "clone_egress_pkt_to_egress"
                } else {
                    "clone_ingress_pkt_to_egress"
                };
                (op, vec![self.argument(*session), list_value(list.index())])
            }
            Primitive::Resubmit { list } => ("resubmit", vec![list_value(list.index())]),
            Primitive::Recirculate { list } => ("recirculate", vec![list_value(list.index())]),
            Primitive::Truncate { length } => ("truncate", vec![self.argument(*length)]),
            Primitive::MarkToDrop => {
                let header = &program.headers[program.standard_metadata].name;
                ("mark_to_drop", vec![named("header", header)])
            }
            Primitive::LogMessage { format, values } => {
                let values: Vec<Value> = values.iter().map(|v| self.argument(*v)).collect();
                let parameters = vec![
                    named("string", format),
                    json!({ "type": "parameters_vector", "value": values }),
                ];
                ("log_msg", parameters)
            }
            Primitive::Assert(condition) => ("assert", vec![self.argument(*condition)]),
            Primitive::Assume(condition) => ("assume", vec![self.argument(*condition)]),
        };
        Some(self.primitive(op, parameters, span))
    }

    /// Whether a place can be named without an expression.
    pub(super) fn is_plain(place: Place) -> bool {
        matches!(place.header, HeaderRef::Instance(_))
    }
}

fn list_value(index: usize) -> Value {
    json!({ "type": "hexstr", "value": hex(&(index + 1).into(), 32) })
}

fn count_value(count: u32) -> Value {
    json!({ "type": "hexstr", "value": hex(&count.into(), 32) })
}

/// Fills in where a jump goes: its last parameter.
fn set_target(primitives: &mut [Value], at: usize, target: usize) {
    let parameters = primitives
        .get_mut(at)
        .and_then(|p| p.get_mut("parameters"))
        .and_then(Value::as_array_mut);
    if let Some(last) = parameters.and_then(|p| p.last_mut()) {
        *last = json!({ "type": "hexstr", "value": hex(&target.into(), 32) });
    }
}
