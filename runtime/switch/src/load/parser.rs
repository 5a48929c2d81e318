//! The parser: states, operations, select keys and transitions.

use super::Loader;
use super::at::{At, Result};
use crate::code::emit::low_words;
use crate::code::expr::{Num, Target};
use crate::code::layout::Slot;
use crate::code::op::Op;
use crate::code::program::{
    Case, CaseTest, Entry, ParseOp, ParseState, SelectPart, SelectSource, SetShape,
};
use num_bigint::BigInt;
use rustc_hash::FxHashMap;

impl Loader {
    /// Reads the parser and gives its first state.
    pub(super) fn read_parser(&mut self, root: &At) -> Result<Option<u32>> {
        let parsers = root.get("parsers")?;
        let list = parsers.list()?;
        if list.len() > 1 {
            return Err(parsers.unsupported("more than one parser"));
        }
        let Some(parser) = list.first() else {
            return Ok(None);
        };
        let states = parser.get("parse_states")?.list()?;
        let mut names = FxHashMap::default();
        for (i, state) in states.iter().enumerate() {
            names.insert(state.get("name")?.str()?.to_owned(), i as u32);
        }
        for state in &states {
            let state = self.state(state, &names)?;
            self.states.push(state);
        }
        match parser.maybe("init_state") {
            Some(start) => next_state(&start, &names),
            None => Ok(None),
        }
    }

    fn state(&mut self, at: &At, names: &FxHashMap<String, u32>) -> Result<ParseState> {
        let mut ops = Vec::new();
        for op in at.list_of("parser_ops")? {
            // Assignments in a row are one run of code.
            let joins = matches!(ops.last(), Some(ParseOp::Run(_))) && is_code(&op)?;
            if joins {
                self.emitter.code.pop();
            }
            let here = self.emitter.here();
            match self.parser_op(&op)? {
                ParseOp::Run(entry) if joins && entry == here => {}
                op => ops.push(op),
            }
            self.emitter.release();
        }
        let mut key = self.select_key(at)?;
        let bits: u32 = key.iter().map(|part| part.width.next_multiple_of(8)).sum();
        let words = bits.div_ceil(64);
        // The first field is the highest; each is padded to whole bytes.
        let mut shift = bits;
        for part in &mut key {
            shift -= part.width.next_multiple_of(8);
            part.shift = shift;
        }
        let mut cases = Vec::new();
        let mut default = None;
        for transition in at.list_of("transitions")? {
            let next = next_state(&transition.get("next_state")?, names)?;
            let kind = transition
                .maybe("type")
                .map_or(Ok("default"), |kind| kind.str())?;
            let old_style = transition.value.get("type").is_none();
            let value = transition.get("value")?;
            let is_default = kind == "default" && (!old_style || value.value == "default");
            if is_default {
                default = next;
                continue;
            }
            let mask = match transition.maybe("mask") {
                Some(mask) => self.select_words(&mask, bits)?,
                None => low_words(&((BigInt::from(1) << bits) - 1), words),
            };
            let test = match kind {
                "parse_vset" => self.set_case(&value, &key, words, mask)?,
                "hexstr" | "default" => {
                    let value = self.select_words(&value, bits)?;
                    let value = value.iter().zip(&mask).map(|(v, m)| v & m).collect();
                    CaseTest::Value { value, mask }
                }
                other => return Err(transition.unsupported(other)),
            };
            cases.push(Case { test, next });
        }
        let name = at.get("name")?.str()?.to_owned();
        let narrow = cases.iter().map(|case: &Case| match &case.test {
            CaseTest::Value { value, mask } => match (value.as_slice(), mask.as_slice()) {
                ([value], [mask]) => Some((*value, *mask, case.next)),
                _ => None,
            },
            CaseTest::Set { .. } => None,
        });
        let narrow = narrow.collect();
        Ok(ParseState {
            name,
            narrow,
            ops,
            key,
            key_words: words,
            cases,
            default,
        })
    }

    fn select_words(&self, at: &At, bits: u32) -> Result<Vec<u64>> {
        let value = at.hex()?;
        if value.sign() == num_bigint::Sign::Minus || value.bits() > u64::from(bits) {
            return Err(at.invalid(&format!("a value of {bits} bits, the key's width")));
        }
        Ok(low_words(&value, bits.div_ceil(64)))
    }

    fn set_case(
        &mut self,
        at: &At,
        key: &[SelectPart],
        words: u32,
        mask: Vec<u64>,
    ) -> Result<CaseTest> {
        let Some(set) = self.schema.value_set(at.str()?) else {
            return Err(at.invalid("the name of a value set"));
        };
        let shape = SetShape {
            fields: key.iter().map(|p| (p.width, p.shift)).collect(),
            words,
        };
        let schema = self.schema.value_sets.get_mut(set.index());
        let known = self.set_shapes.get_mut(set.index());
        if let (Some(schema), Some(known)) = (schema, known) {
            if known.words != 0 && known.fields != shape.fields {
                return Err(at.unsupported("a value set in two states with different keys"));
            }
            schema.widths = key.iter().map(|part| part.width as usize).collect();
            *known = shape;
        }
        Ok(CaseTest::Set { set: set.0, mask })
    }

    fn select_key(&mut self, at: &At) -> Result<Vec<SelectPart>> {
        let mut key = Vec::new();
        for part in at.list_of("transition_key")? {
            let kind = part.get("type")?;
            let value = part.get("value")?;
            let (source, width) = match kind.str()? {
                "field" => {
                    let place = self.field(&value)?;
                    (SelectSource::Place(place), place.width)
                }
                kind @ ("stack_field" | "union_stack_field") => {
                    let (header, field, place) = match kind {
                        "stack_field" => self.stack_field(&value)?,
                        _ => self.union_stack_field(&value)?,
                    };
                    let entry = self.emitter.here();
                    let num = Num::FieldOf(Box::new(header), field);
                    let place = self.emitter.place(&num, place.width);
                    self.emitter.push(Op::End);
                    self.emitter.release();
                    (SelectSource::Computed { entry, place }, place.width)
                }
                "lookahead" => {
                    let (offset, bits) = lookahead(&value)?;
                    (SelectSource::Lookahead { offset, bits }, bits)
                }
                other => return Err(kind.unsupported(other)),
            };
            key.push(SelectPart {
                source,
                width,
                shift: 0,
            });
        }
        Ok(key)
    }

    fn parser_op(&mut self, at: &At) -> Result<ParseOp> {
        let op_at = at.get("op")?;
        let params = at.get("parameters")?;
        Ok(match op_at.str()? {
            "extract" => self.extract(&params, None)?,
            "extract_VL" => {
                let length = self.computed(&params.at(1)?)?;
                self.extract(&params, Some(length))?
            }
            "set" => {
                let (target, _) = self.target(&params.at(0)?, &[])?;
                let source = params.at(1)?;
                if source.get("type")?.str()? == "lookahead" {
                    let (offset, bits) = lookahead(&source.get("value")?)?;
                    let Target::Place(target) = target else {
                        return Err(params
                            .at(0)?
                            .unsupported("a lookahead into a stack's field"));
                    };
                    return Ok(ParseOp::SetLookahead {
                        target,
                        offset,
                        bits,
                    });
                }
                // A field of variable length is set from another one.
                if let (Ok(target), Ok(source)) =
                    (self.varbit(&params.at(0)?), self.varbit(&source))
                {
                    let entry = self.emitter.here();
                    self.emitter
                        .effect(crate::code::program::Effect::AssignVarbit { target, source });
                    self.emitter.push(Op::End);
                    return Ok(ParseOp::Run(entry));
                }
                let value = self.num(&source, &[])?;
                let entry = self.emitter.here();
                self.emitter.assign(&target, &value);
                self.emitter.push(Op::End);
                ParseOp::Run(entry)
            }
            "verify" => {
                let condition = self.bool(&params.at(0)?, &[])?;
                let error = self.num(&params.at(1)?, &[])?;
                let entry = self.emitter.here();
                let condition = self.emitter.decide(&condition);
                let error = self.emitter.value(&error);
                self.emitter.push(Op::End);
                ParseOp::Verify {
                    entry,
                    condition,
                    error,
                }
            }
            "shift" => {
                let bytes = params.at(0)?;
                let bytes = if bytes.value.is_u64() {
                    bytes.count()?
                } else {
                    bytes.get("value")?.count()?
                };
                let entry = self.emitter.here();
                let bits = self.emitter.constant(&BigInt::from(bytes * 8), 1);
                self.emitter.push(Op::End);
                ParseOp::Advance { entry, bits }
            }
            "advance" => {
                let (entry, bits) = self.computed(&params.at(0)?)?;
                ParseOp::Advance { entry, bits }
            }
            "primitive" => {
                let primitive = params.at(0)?;
                ParseOp::Run(self.code_of(&[primitive], &[])?)
            }
            other => return Err(op_at.unsupported(other)),
        })
    }

    /// Code that computes a number of 64 bits; more bits count as too many.
    fn computed(&mut self, at: &At) -> Result<(Entry, Slot)> {
        let num = self.num(at, &[])?;
        let bounded = Num::SaturateUnsigned(Box::new(num), 32);
        let entry = self.emitter.here();
        let slot = self.emitter.value(&bounded);
        self.emitter.push(Op::End);
        Ok((entry, slot))
    }

    fn extract(&mut self, params: &At, length: Option<(Entry, Slot)>) -> Result<ParseOp> {
        let what = params.at(0)?;
        let kind = what.get("type")?;
        let value = what.get("value")?;
        Ok(match kind.str()? {
            "regular" => {
                let header = self.header(&value)?;
                let has_varbit = self.layout.header(header).varbit.is_some();
                match length {
                    Some((entry, bits)) if has_varbit => ParseOp::ExtractVarbit {
                        header,
                        entry,
                        bits,
                    },
                    Some(_) => {
                        return Err(value.invalid("a header with a field of variable length"));
                    }
                    None => ParseOp::Extract(header),
                }
            }
            "stack" => match self.layout.stack_names.get(value.str()?) {
                Some(stack) => ParseOp::ExtractStack {
                    stack: *stack,
                    varbit: length,
                },
                None => return Err(value.invalid("the name of a header stack")),
            },
            "union_stack" => {
                let (stack, member) = self.union_member(&value)?;
                ParseOp::ExtractUnionStack {
                    stack,
                    member,
                    varbit: length,
                }
            }
            other => return Err(kind.unsupported(other)),
        })
    }
}

/// Whether an operation is nothing but code.
fn is_code(op: &At) -> Result<bool> {
    Ok(match op.get("op")?.str()? {
        "primitive" => true,
        "set" => op.get("parameters")?.at(1)?.get("type")?.str()? != "lookahead",
        _ => false,
    })
}

fn next_state(at: &At, names: &FxHashMap<String, u32>) -> Result<Option<u32>> {
    if at.is_null() {
        return Ok(None);
    }
    match names.get(at.str()?) {
        Some(state) => Ok(Some(*state)),
        None => Err(at.invalid("the name of a parse state")),
    }
}

fn lookahead(at: &At) -> Result<(u32, u32)> {
    let (offset, bits) = (at.at(0)?.count()?, at.at(1)?);
    match bits.count()? {
        n if (1..=65536).contains(&n) => Ok((offset as u32, n as u32)),
        _ => Err(bits.invalid("a width from 1 to 65536 bits")),
    }
}
