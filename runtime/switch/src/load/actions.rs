//! Actions and their primitives.

use super::at::{At, Result};
use super::expr::Typed;
use super::{Loader, source};
use crate::code::expr::{BinOp, HeaderRef, Num, Target};
use crate::code::layout::{Place, Slot};
use crate::code::op::Op;
use crate::code::program::{Action, Effect, Entry, StackRef};
use crate::schema::{ActionId, ActionSchema, ParamSchema};
use crate::{CounterId, MeterId, RegisterId};
use num_bigint::BigInt;

/// A jump to a primitive that may not have been compiled yet.
struct Jump {
    op: usize,
    primitive: usize,
}

impl Loader {
    pub(super) fn read_actions(&mut self, root: &At) -> Result<()> {
        for at in root.list_of("actions")? {
            let id = self.actions.len() as u32;
            let mut params = Vec::new();
            let mut places = Vec::new();
            let mut slot = self.param_base;
            for param in at.list_of("runtime_data")? {
                let width = param.get("bitwidth")?.count()?;
                params.push(ParamSchema {
                    name: param.get("name")?.str()?.to_owned(),
                    width,
                });
                let place = Place::unsigned(slot, width as u32);
                slot += place.words() as Slot;
                places.push(place);
            }
            let primitives = at.list_of("primitives")?;
            let entry = self.emitter.here();
            let starts = self.primitives(&primitives, &places)?;
            let traced = starts
                .into_iter()
                .zip(&primitives)
                .map(|(start, at)| {
                    let op = at.get("op").and_then(|op| op.str().map(str::to_owned));
                    Ok((start, source(at), op?))
                })
                .collect::<Result<_>>()?;
            let name = at.get("name")?.str()?.to_owned();
            if self.action_ids.insert(at.get("id")?.u64()?, id).is_some() {
                return Err(at.get("id")?.invalid("an id of its own"));
            }
            self.schema.actions.push(ActionSchema { name, params });
            self.action_params.push(places);
            self.actions.push(Action {
                id: ActionId(id),
                entry,
                empty: matches!(self.emitter.code.get(entry as usize), Some(Op::End)),
                param_words: u32::from(slot - self.param_base),
                source: source(&at),
                primitives: traced,
            });
        }
        Ok(())
    }

    /// Compiles primitives that stand outside of an action.
    pub(super) fn code_of(&mut self, primitives: &[At], locals: &[Place]) -> Result<Entry> {
        let entry = self.emitter.here();
        self.primitives(primitives, locals)?;
        Ok(entry)
    }

    fn primitives(&mut self, primitives: &[At], locals: &[Place]) -> Result<Vec<Entry>> {
        let mut starts = Vec::new();
        let mut jumps = Vec::new();
        for at in primitives {
            starts.push(self.emitter.here());
            self.primitive(at, locals, &mut jumps, primitives.len())?;
            self.emitter.release();
        }
        let end = self.emitter.here();
        for jump in jumps {
            let to = starts.get(jump.primitive).copied().unwrap_or(end);
            if let Some(Op::Jump { to: target } | Op::JumpIfZero { to: target, .. }) =
                self.emitter.code.get_mut(jump.op)
            {
                *target = to;
            }
        }
        self.emitter.push(Op::End);
        Ok(starts)
    }

    fn primitive(
        &mut self,
        at: &At,
        locals: &[Place],
        jumps: &mut Vec<Jump>,
        count: usize,
    ) -> Result<()> {
        let op_at = at.get("op")?;
        let op = op_at.str()?;
        let params = at.get("parameters")?.list()?;
        let param = |i: usize| match params.get(i) {
            Some(param) => Ok(param.clone()),
            None => Err(at.invalid(&format!("`{op}` with more than {i} parameters"))),
        };
        match op {
            "assign" | "modify_field" => {
                let (target, _) = self.target(&param(0)?, locals)?;
                let value = self.num(&param(1)?, locals)?;
                self.emitter.assign(&target, &value);
            }
            "add_to_field" | "subtract_from_field" => {
                let (target, _) = self.target(&param(0)?, locals)?;
                let a = self.num(&param(0)?, locals)?;
                let b = self.num(&param(1)?, locals)?;
                let op = if op == "add_to_field" {
                    BinOp::Add
                } else {
                    BinOp::Sub
                };
                self.emitter
                    .assign(&target, &Num::Binary(op, Box::new(a), Box::new(b)));
            }
            "add" | "subtract" | "bit_xor" | "bit_or" | "bit_and" | "shift_left"
            | "shift_right" => {
                let (target, _) = self.target(&param(0)?, locals)?;
                let a = self.num(&param(1)?, locals)?;
                let b = self.num(&param(2)?, locals)?;
                let op = match op {
                    "add" => BinOp::Add,
                    "subtract" => BinOp::Sub,
                    "bit_xor" => BinOp::Xor,
                    "bit_or" => BinOp::Or,
                    "bit_and" => BinOp::And,
                    "shift_left" => BinOp::Shl,
                    _ => BinOp::Shr,
                };
                self.emitter
                    .assign(&target, &Num::Binary(op, Box::new(a), Box::new(b)));
            }
            "assign_VL" => {
                let (target, source) = (self.varbit(&param(0)?)?, self.varbit(&param(1)?)?);
                self.emitter.effect(Effect::AssignVarbit { target, source });
            }
            "assign_header" | "copy_header" => {
                let target = self.header_ref(&param(0)?, locals)?;
                let source = self.header_ref(&param(1)?, locals)?;
                self.assign_header(target, source);
            }
            "assign_union" => {
                let (target, source) = (self.union(&param(0)?)?, self.union(&param(1)?)?);
                for (target, source) in target.into_iter().zip(source) {
                    self.emitter.effect(Effect::AssignHeader { target, source });
                }
            }
            "assign_header_stack" | "assign_union_stack" => {
                let target = self.stack_ref(&param(0)?)?;
                let source = self.stack_ref(&param(1)?)?;
                if self.depth(target) != self.depth(source) {
                    return Err(param(1)?.invalid("a stack of the same size"));
                }
                self.emitter.effect(Effect::AssignStack { target, source });
            }
            "push" | "pop" => {
                let stack = self.stack_ref(&param(0)?)?;
                let count = self.value(&param(1)?, locals)?;
                self.emitter.effect(match op {
                    "push" => Effect::Push { stack, count },
                    _ => Effect::Pop { stack, count },
                });
            }
            "add_header" | "add_header_fast" | "remove_header" => {
                let valid = op != "remove_header";
                let effect = match self.header_ref(&param(0)?, locals)? {
                    HeaderRef::Fixed(header) if valid => Effect::AddHeader { header },
                    HeaderRef::Fixed(header) => Effect::RemoveHeader { header },
                    header => Effect::SetValidDynamic { header, valid },
                };
                self.emitter.effect(effect);
            }
            "_jump" => {
                let primitive = self.jump_target(&param(0)?, count)?;
                jumps.push(Jump {
                    op: self.emitter.code.len(),
                    primitive,
                });
                self.emitter.push(Op::Jump { to: 0 });
            }
            "_jump_if_zero" => {
                let condition = match self.typed(&param(0)?, locals)? {
                    Typed::Num(num) => {
                        let num = crate::code::expr::Bool::FromNum(Box::new(num));
                        self.emitter.decide(&num)
                    }
                    Typed::Bool(value) => self.emitter.decide(&value),
                    _ => return Err(param(0)?.invalid("a condition")),
                };
                let primitive = self.jump_target(&param(1)?, count)?;
                jumps.push(Jump {
                    op: self.emitter.code.len(),
                    primitive,
                });
                self.emitter.push(Op::JumpIfZero {
                    a: condition,
                    to: 0,
                });
            }
            "exit" => self.emitter.effect(Effect::Exit),
            "assert" | "assume" => {
                let condition = self.bool(&param(0)?, locals)?;
                let condition = self.emitter.decide(&condition);
                self.emitter.effect(Effect::Assert { condition });
            }
            "log_msg" => {
                let format = param(0)?.get("value")?.str()?.to_owned();
                let mut args = Vec::new();
                for arg in param(1)?.get("value")?.list()? {
                    let num = self.num(&arg, locals)?;
                    let width = match &num {
                        Num::Load(place) => place.width,
                        _ => 64,
                    };
                    args.push(self.emitter.place(&num, width));
                }
                self.emitter.effect(Effect::Log { format, args });
            }
            "mark_to_drop" | "drop" => {
                let standard = self.standard;
                if let Some(standard) = standard {
                    let drop = Num::Load(Place::unsigned(self.drop_slot, 16));
                    self.emitter
                        .assign(&Target::Place(standard.egress_spec), &drop);
                    let none = Num::Const(BigInt::ZERO);
                    self.emitter
                        .assign(&Target::Place(standard.mcast_grp), &none);
                }
            }
            "count" => {
                let counter = self.named(&param(0)?, |s, n| s.counter(n), "a counter array")?;
                self.indirect_counter(&param(0)?, counter)?;
                let index = self.value(&param(1)?, locals)?;
                self.emitter.effect(Effect::Count { counter, index });
            }
            "execute_meter" => {
                let meter: MeterId = self.named(&param(0)?, |s, n| s.meter(n), "a meter array")?;
                let index = self.value(&param(1)?, locals)?;
                self.with_target(&param(2)?, locals, |target| Effect::Meter {
                    meter,
                    index,
                    target,
                })?;
            }
            "register_read" => {
                let register: RegisterId =
                    self.named(&param(1)?, |s, n| s.register(n), "a register array")?;
                let index = self.value(&param(2)?, locals)?;
                self.with_target(&param(0)?, locals, |target| Effect::RegisterRead {
                    register,
                    index,
                    target,
                })?;
            }
            "register_write" => {
                let register: RegisterId =
                    self.named(&param(0)?, |s, n| s.register(n), "a register array")?;
                let index = self.value(&param(1)?, locals)?;
                let value = self.num(&param(2)?, locals)?;
                let width = self
                    .schema
                    .registers
                    .get(register.index())
                    .map_or(0, |r| r.width);
                let source = self.emitter.place(&value, width as u32);
                self.emitter.effect(Effect::RegisterWrite {
                    register,
                    index,
                    source,
                });
            }
            "generate_digest" => {
                let id = self.constant(&param(1)?)?;
                let Some(digest) = self.digests.iter().position(|d| d.id == id) else {
                    return Err(param(1)?.invalid("the id of a learn list"));
                };
                self.emitter.effect(Effect::Digest {
                    digest: digest as u32,
                });
            }
            "clone_ingress_pkt_to_egress" | "clone_egress_pkt_to_egress" => {
                let session = self.value(&param(0)?, locals)?;
                let field_list = self.value(&param(1)?, locals)?;
                self.emitter.effect(Effect::Clone {
                    session,
                    field_list,
                });
            }
            "resubmit" => {
                let field_list = self.value(&param(0)?, locals)?;
                self.emitter.effect(Effect::Resubmit { field_list });
            }
            "recirculate" => {
                let field_list = self.value(&param(0)?, locals)?;
                self.emitter.effect(Effect::Recirculate { field_list });
            }
            "truncate" => {
                let length = self.value(&param(0)?, locals)?;
                self.emitter.effect(Effect::Truncate { length });
            }
            "modify_field_rng_uniform" => {
                let low = self.value(&param(1)?, locals)?;
                let high = self.value(&param(2)?, locals)?;
                self.with_target(&param(0)?, locals, |target| Effect::Random {
                    low,
                    high,
                    target,
                })?;
            }
            "modify_field_with_hash_based_offset" => {
                let base = self.value(&param(1)?, locals)?;
                let name = param(2)?.get("value")?;
                let Some(calculation) = self.calculation_names.get(name.str()?).copied() else {
                    return Err(name.invalid("the name of a calculation"));
                };
                let max = self.value(&param(3)?, locals)?;
                self.with_target(&param(0)?, locals, |target| Effect::Hash {
                    calculation,
                    base,
                    max,
                    target,
                })?;
            }
            "no_op" => {}
            _ => return Err(op_at.unsupported(op)),
        }
        Ok(())
    }

    fn assign_header(&mut self, target: HeaderRef, source: HeaderRef) {
        self.emitter.effect(match (target, source) {
            (HeaderRef::Fixed(target), HeaderRef::Fixed(source)) => {
                Effect::AssignHeader { target, source }
            }
            (target, source) => Effect::AssignHeaderDynamic { target, source },
        });
    }

    /// A word with the value, cut to 64 bits.
    fn value(&mut self, at: &At, locals: &[Place]) -> Result<Slot> {
        let num = self.num(at, locals)?;
        Ok(self.emitter.value(&num))
    }

    fn constant(&self, at: &At) -> Result<u64> {
        match self.num(at, &[])? {
            Num::Const(n) => u64::try_from(n).map_err(|_| at.invalid("a number of 64 bits")),
            _ => Err(at.unsupported("an id that is not constant")),
        }
    }

    fn jump_target(&self, at: &At, count: usize) -> Result<usize> {
        match usize::try_from(self.constant(at)?) {
            Ok(primitive) if primitive <= count => Ok(primitive),
            _ => Err(at.invalid("the index of a primitive of this action")),
        }
    }

    fn named<T>(
        &self,
        at: &At,
        find: impl Fn(&crate::Schema, &str) -> Option<T>,
        what: &str,
    ) -> Result<T> {
        let name = at.get("value")?;
        match find(&self.schema, name.str()?) {
            Some(found) => Ok(found),
            None => Err(name.invalid(&format!("the name of {what}"))),
        }
    }

    fn indirect_counter(&self, at: &At, counter: CounterId) -> Result<()> {
        match self.schema.counters.get(counter.index()) {
            Some(schema) if schema.size == 0 => {
                Err(at.unsupported("counting into an array of no cells"))
            }
            _ => Ok(()),
        }
    }

    /// An effect that writes to a field; by way of a temporary if the field is found at run time.
    fn with_target(
        &mut self,
        at: &At,
        locals: &[Place],
        effect: impl FnOnce(Place) -> Effect,
    ) -> Result<()> {
        match self.target(at, locals)? {
            (Target::Place(place), _) => self.emitter.effect(effect(place)),
            (target, width) => {
                let words = width.div_ceil(64).max(1);
                let place = Place::unsigned(self.emitter.temp(words), width);
                // An effect that does nothing, such as a read out of range, leaves the field alone.
                let present = self.num(at, locals)?;
                self.emitter.assign(&Target::Place(place), &present);
                self.emitter.effect(effect(place));
                self.emitter.assign(&target, &Num::Load(place));
            }
        }
        Ok(())
    }

    fn union(&self, at: &At) -> Result<Vec<u32>> {
        match self.typed(at, &[])? {
            Typed::Union(union) => Ok(self
                .layout
                .unions
                .get(union as usize)
                .cloned()
                .unwrap_or_default()),
            _ => Err(at.invalid("a header union")),
        }
    }

    fn depth(&self, stack: StackRef) -> Option<usize> {
        let stack = match stack {
            StackRef::Headers(stack) => self.layout.stacks.get(stack as usize),
            StackRef::Unions(stack) => self.layout.union_stacks.get(stack as usize),
        };
        stack.map(|stack| stack.elements.len())
    }
}
