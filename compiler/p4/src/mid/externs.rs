//! The functions and methods of core.p4 and v1model.p4.

use std::sync::Arc;

use num_bigint::BigInt;
use num_traits::ToPrimitive;

use crate::diagnostics::Diagnostic;
use crate::ir::{
    Calculation, Checksum, DigestList, Expr, FieldList, Handle, HashAlgorithm, HeaderRef, Input,
    Place, Primitive, StmtKind, Type,
};
use crate::source::Span;

use super::annotation::number_annotation;
use super::bind::Bound;
use super::lower::{Lower, Part};
use super::operand::{Operand, OperandKind};
use super::scope::FunctionDef;

impl<'a> Lower<'a> {
    /// A call of an extern function whose arguments are bound.
    pub fn call_extern(
        &mut self,
        def: &FunctionDef<'a>,
        bound: Bound<'a>,
        span: Span,
    ) -> Operand<'a> {
        let name = def.proto.name.as_str();
        if bound.values.iter().any(Operand::is_poison) {
            return self.void();
        }
        let allowed = match name {
            "verify" => self.part == Part::Parser,
            "verify_checksum" | "verify_checksum_with_payload" => self.part == Part::Verify,
            "update_checksum" | "update_checksum_with_payload" => self.part == Part::Compute,
            "static_assert" => true,
            "log_msg" | "assert" | "assume" => {
                !matches!(self.part, Part::Verify | Part::Compute | Part::Deparser)
            }
            "resubmit_preserving_field_list" => self.part == Part::Ingress,
            "recirculate_preserving_field_list" => self.part == Part::Egress,
            _ => matches!(self.part, Part::Ingress | Part::Egress),
        };
        if !allowed {
            self.error(
                span,
                format!("`{name}` can't be called in {}", self.part.describe()),
            );
            return self.void();
        }
        let arg = |n: usize| bound.values.get(n);
        let at = |n: usize| bound.spans.get(n).copied().unwrap_or(span);
        match (name, bound.values.len()) {
            ("verify", 2) => {
                let condition = self.argument_truth(arg(0), at(0));
                let error = self.argument(arg(1), at(1));
                self.emit(span, StmtKind::Verify { condition, error });
            }
            ("static_assert", _) => return self.static_assert(&bound, span),
            ("mark_to_drop", _) => self.emit(span, StmtKind::Call(Primitive::MarkToDrop)),
            ("hash", 5) => self.hash(&bound, span),
            ("random", 3) => {
                let (low, high) = (self.argument(arg(1), at(1)), self.argument(arg(2), at(2)));
                if let Some(to) = arg(0).cloned() {
                    self.with_result(&to, span, |place| Primitive::Random {
                        to: place,
                        low,
                        high,
                    });
                }
            }
            ("digest", 2) => self.digest(&bound, span),
            ("clone", 2) => self.clone_packet(&bound, None, span),
            ("clone_preserving_field_list", 3) => {
                if let Some(number) = self.list_number(arg(2), at(2)) {
                    self.clone_packet(&bound, Some((number, at(2))), span);
                }
            }
            ("resubmit_preserving_field_list", 1) => {
                if let Some(number) = self.list_number(arg(0), at(0)) {
                    let list = self.field_list(Some(number), at(0));
                    self.emit(span, StmtKind::Call(Primitive::Resubmit { list }));
                }
            }
            ("recirculate_preserving_field_list", 1) => {
                if let Some(number) = self.list_number(arg(0), at(0)) {
                    let list = self.field_list(Some(number), at(0));
                    self.emit(span, StmtKind::Call(Primitive::Recirculate { list }));
                }
            }
            ("truncate", 1) => {
                let length = self.argument(arg(0), at(0));
                self.emit(span, StmtKind::Call(Primitive::Truncate { length }));
            }
            ("assert" | "assume", 1) => {
                let condition = self.argument_truth(arg(0), at(0));
                let primitive = if name == "assert" {
                    Primitive::Assert(condition)
                } else {
                    Primitive::Assume(condition)
                };
                self.emit(span, StmtKind::Call(primitive));
            }
            ("log_msg", _) => self.log_message(&bound, span),
            ("verify_checksum" | "update_checksum", 4) => self.checksum(&bound, false, span),
            ("verify_checksum_with_payload" | "update_checksum_with_payload", 4) => {
                self.checksum(&bound, true, span)
            }
            _ => {
                let mut report = Diagnostic::error(
                    span,
                    format!("the extern function `{name}` is not supported"),
                )
                .with_code("unsupported");
                if let "clone3" | "resubmit" | "recirculate" = name {
                    let better = if name == "clone3" { "clone" } else { name };
                    report = report.with_help(format!("use `{better}_preserving_field_list`"));
                }
                self.report(report);
            }
        }
        self.void()
    }

    /// A scalar argument; a number without a width has 32 bits.
    pub fn argument(&mut self, operand: Option<&Operand<'a>>, span: Span) -> Handle<Expr> {
        match operand.map(|o| (&o.kind, o)) {
            Some((OperandKind::Int(value), _)) => {
                let value = value.clone();
                let ty = self.types.bits(32);
                let operand = self.fit(&value, ty, span);
                self.value_of(&operand, span)
            }
            Some((_, operand)) => {
                let operand = operand.clone();
                self.value_of(&operand, span)
            }
            None => self.number(0, 32),
        }
    }

    pub fn argument_truth(&mut self, operand: Option<&Operand<'a>>, span: Span) -> Handle<Expr> {
        match operand {
            Some(operand) => {
                let operand = operand.clone();
                self.truth(operand, span)
            }
            None => self.ir.exprs.bool(false),
        }
    }

    /// Emits a primitive that writes a place; by way of a variable when the target cannot be written
    /// directly. bmv2's primitives give plain bits, which a signed place can't take.
    pub fn with_result(
        &mut self,
        to: &Operand<'a>,
        span: Span,
        make: impl FnOnce(Place) -> Primitive,
    ) {
        match to.kind {
            OperandKind::Place(
                place @ Place {
                    header: HeaderRef::Instance(_),
                    ..
                },
            ) if !self.place_type(place).is_signed() => {
                self.emit(span, StmtKind::Call(make(place)));
            }
            _ => {
                let Some(scalar) = self.types.scalar(to.ty) else {
                    let name = self.types.name(to.ty);
                    self.error(span, format!("the result can't be of type `{name}`"));
                    return;
                };
                let bits = match scalar {
                    Type::Bits { width, .. } => Type::bits(width),
                    other => other,
                };
                let place = self.temporary(bits);
                self.emit(span, StmtKind::Call(make(place)));
                let value = self.read(place);
                let value = self.ir.exprs.cast(scalar, value);
                self.assign(to, Operand::value(to.ty, value), span);
            }
        }
    }

    pub fn static_assert(&mut self, bound: &Bound<'a>, span: Span) -> Operand<'a> {
        let holds = self.argument_truth(bound.values.first(), span);
        match self.ir.exprs.constant_bool(holds) {
            Some(true) => {}
            Some(false) => {
                let text = match bound.values.get(1).map(|v| &v.kind) {
                    Some(OperandKind::String(text)) => format!(": {text}"),
                    _ => String::new(),
                };
                self.error(span, format!("the assertion does not hold{text}"));
            }
            None => self.error(
                span,
                "the condition of `static_assert` is not known at compile time",
            ),
        }
        let ty = self.types.bool();
        let value = self.ir.exprs.bool(true);
        Operand::value(ty, value)
    }

    pub fn algorithm(
        &mut self,
        operand: Option<&Operand<'a>>,
        span: Span,
    ) -> Option<HashAlgorithm> {
        let found = operand
            .and_then(|o| self.enum_member(o))
            .and_then(|name| HashAlgorithm::named(&name));
        if found.is_none() {
            self.error(
                span,
                "the algorithm must be a member of `HashAlgorithm`, known at compile time",
            );
        }
        found
    }

    pub fn hash(&mut self, bound: &Bound<'a>, span: Span) {
        let [to, algorithm, base, data, max] = bound.values.as_slice() else {
            return;
        };
        let at = |n: usize| bound.spans.get(n).copied().unwrap_or(span);
        let Some(algorithm) = self.algorithm(Some(algorithm), at(1)) else {
            return;
        };
        let mut input = Vec::new();
        self.inputs(data, at(3), true, &mut input);
        let calculation = self.calculation(Calculation {
            algorithm,
            input,
            payload: false,
            span,
        });
        let (base, max) = (
            self.argument(Some(base), at(2)),
            self.argument(Some(max), at(4)),
        );
        let to = to.clone();
        self.with_result(&to, span, |place| Primitive::Hash {
            to: place,
            base,
            calculation,
            max,
        });
    }

    pub fn calculation(&mut self, calculation: Calculation) -> Handle<Calculation> {
        let known = self.ir.calculations.iter().find(|(_, c)| {
            c.algorithm == calculation.algorithm
                && c.input == calculation.input
                && c.payload == calculation.payload
        });
        match known.map(|(handle, _)| handle) {
            Some(handle) => handle,
            None => self.ir.calculations.append(calculation),
        }
    }

    /// The scalars that data consists of; those that are computed go through variables, if there can
    /// be any.
    pub fn inputs(
        &mut self,
        data: &Operand<'a>,
        span: Span,
        variables: bool,
        out: &mut Vec<Input>,
    ) {
        match &data.kind {
            OperandKind::Parts(parts) => {
                for part in parts {
                    self.inputs(part, span, variables, out);
                }
            }
            OperandKind::Record(fields, _) => {
                for (_, field, at) in fields {
                    self.inputs(field, *at, variables, out);
                }
            }
            OperandKind::Header(header) => {
                let count = self.types.fields(data.ty).map_or(0, <[_]>::len);
                for position in 0..count {
                    let field = self.nth_field(
                        Operand::new(data.ty, OperandKind::Header(*header)),
                        position,
                        span,
                    );
                    self.inputs(&field, span, variables, out);
                }
            }
            OperandKind::Place(
                place @ Place {
                    header: HeaderRef::Instance(_),
                    ..
                },
            ) => out.push(Input::Field(*place)),
            OperandKind::Poison => {}
            _ => {
                let value = self.value_of(data, span);
                let ty = self.ir.exprs.ty(value);
                if let Some(number) = self.ir.exprs.constant(value) {
                    let number = Type::bits(ty.width()).wrap(number);
                    out.push(Input::Number(number, ty.width()));
                } else if let Some(truth) = self.ir.exprs.constant_bool(value) {
                    out.push(Input::Number(BigInt::from(u8::from(truth)), 1));
                } else if let Expr::Read(
                    place @ Place {
                        header: HeaderRef::Instance(_),
                        ..
                    },
                ) = self.ir.exprs[value]
                {
                    out.push(Input::Field(place));
                } else if variables {
                    let place = self.input_variable(ty, out.len());
                    self.emit(span, StmtKind::Assign { to: place, value });
                    out.push(Input::Field(place));
                } else {
                    self.unsupported(span, "the data of a checksum must be fields and constants");
                }
            }
        }
    }

    /// The variable for a computed part of a hash's input. The hash reads it at once, so all hashes
    /// share them.
    fn input_variable(&mut self, ty: Type, position: usize) -> Place {
        if let Some(place) = self.names.input_variables.get(&(ty, position)) {
            return *place;
        }
        let place = self.scalar("input", ty);
        self.names.input_variables.insert((ty, position), place);
        place
    }

    pub fn digest(&mut self, bound: &Bound<'a>, span: Span) {
        let [receiver, data] = bound.values.as_slice() else {
            return;
        };
        if self.part != Part::Ingress {
            self.error(span, "`digest` can be called only in ingress");
            return;
        }
        let receiver = self.argument(Some(receiver), span);
        // The target sends what the fields hold at the end of ingress, so they must be copies.
        let mut input = Vec::new();
        let copy = self.copy_of(data, span);
        self.inputs(&copy, span, true, &mut input);
        let mut fields = Vec::new();
        for part in input {
            match part {
                Input::Field(place) => fields.push(place),
                Input::Number(value, width) => {
                    let place = self.temporary(Type::bits(width));
                    let value = self.ir.exprs.number(&value, Type::bits(width));
                    self.emit(span, StmtKind::Assign { to: place, value });
                    fields.push(place);
                }
            }
        }
        let name = match self.types.structure(data.ty) {
            Some(def) => Arc::clone(&def.control_plane_name),
            None => {
                let number = self.names.unnamed_digests;
                self.names.unnamed_digests += 1;
                format!("digest_{number}").into()
            }
        };
        let data_type = self.data_type(data.ty);
        let list = self.ir.digests.append(DigestList {
            name,
            fields,
            data_type,
        });
        self.emit(span, StmtKind::Call(Primitive::Digest { receiver, list }));
    }

    /// A copy even of a plain field.
    pub fn copy_of(&mut self, operand: &Operand<'a>, span: Span) -> Operand<'a> {
        match &operand.kind {
            OperandKind::Parts(parts) => {
                let parts = parts.iter().map(|part| self.copy_of(part, span)).collect();
                Operand::new(operand.ty, OperandKind::Parts(parts))
            }
            _ => self.save_as(operand, "digest", span),
        }
    }

    pub fn clone_packet(&mut self, bound: &Bound<'a>, number: Option<(u32, Span)>, span: Span) {
        let at = |n: usize| bound.spans.get(n).copied().unwrap_or(span);
        let kind = bound.values.first().and_then(|kind| self.enum_member(kind));
        let egress = match kind.as_deref() {
            Some("I2E") => false,
            Some("E2E") => true,
            _ => {
                self.error(at(0), "the kind of a clone must be known at compile time");
                return;
            }
        };
        if egress != (self.part == Part::Egress) {
            let kind = if egress { "E2E" } else { "I2E" };
            self.error(
                at(0),
                format!(
                    "a clone of kind `{kind}` can't be made in {}",
                    self.part.describe()
                ),
            );
            return;
        }
        let session = self.argument(bound.values.get(1), at(1));
        let list = self.field_list(number.map(|(n, _)| n), number.map_or(span, |(_, at)| at));
        self.emit(
            span,
            StmtKind::Call(Primitive::Clone {
                egress,
                session,
                list,
            }),
        );
    }

    pub fn list_number(&mut self, operand: Option<&Operand<'a>>, span: Span) -> Option<u32> {
        let number = operand
            .and_then(|o| self.constant_of(o))
            .and_then(|n| n.to_u32());
        if number.is_none() {
            self.error(
                span,
                "the number of a field list must be known at compile time",
            );
        }
        number
    }

    /// The fields of the user's metadata with `@field_list` of that number.
    pub fn field_list(&mut self, number: Option<u32>, span: Span) -> Handle<FieldList> {
        let mut fields = Vec::new();
        if let (Some(number), Some(metadata)) = (number, self.metadata.clone()) {
            self.listed_fields(&metadata, number, false, &mut fields);
            if fields.is_empty() && self.warned_lists.insert(number) {
                let report = Diagnostic::warning(
                    span,
                    format!("no field of the metadata has `@field_list({number})`"),
                )
                .with_code("invalid");
                self.report(report);
            }
        }
        let wanted = FieldList {
            number: number.filter(|_| !fields.is_empty()),
            fields,
        };
        let known = self
            .ir
            .field_lists
            .iter()
            .find(|(_, list)| **list == wanted)
            .map(|(handle, _)| handle);
        match known {
            Some(handle) => handle,
            None => self.ir.field_lists.append(wanted),
        }
    }

    pub fn listed_fields(
        &mut self,
        operand: &Operand<'a>,
        number: u32,
        listed: bool,
        out: &mut Vec<Place>,
    ) {
        match &operand.kind {
            OperandKind::Parts(parts) => {
                let defs = self
                    .types
                    .fields(operand.ty)
                    .map(<[_]>::to_vec)
                    .unwrap_or_default();
                for (part, def) in parts.iter().zip(defs) {
                    let here = number_annotation(&def.annotations, "field_list")
                        .is_some_and(|n| n.contains(&BigInt::from(number)));
                    match part.kind {
                        OperandKind::Header(_) | OperandKind::Stack(_) | OperandKind::Union(_)
                            if listed || here =>
                        {
                            self.unsupported(
                                def.span,
                                "the target can't preserve headers, only fields of metadata",
                            );
                        }
                        _ => self.listed_fields(part, number, listed || here, out),
                    }
                }
            }
            OperandKind::Place(place) if listed => out.push(*place),
            _ => {}
        }
    }

    pub fn log_message(&mut self, bound: &Bound<'a>, span: Span) {
        let Some(OperandKind::String(format)) = bound.values.first().map(|v| v.kind.clone()) else {
            self.error(span, "the first argument of `log_msg` must be a string");
            return;
        };
        let mut values = Vec::new();
        if let Some(data) = bound.values.get(1) {
            let parts = match &data.kind {
                OperandKind::Parts(parts) => parts.clone(),
                _ => vec![data.clone()],
            };
            for part in parts {
                let value = self.argument(Some(&part), span);
                values.push(value);
            }
        }
        self.emit(
            span,
            StmtKind::Call(Primitive::LogMessage { format, values }),
        );
    }

    pub fn checksum(&mut self, bound: &Bound<'a>, payload: bool, span: Span) {
        let [condition, data, target, algorithm] = bound.values.as_slice() else {
            return;
        };
        let at = |n: usize| bound.spans.get(n).copied().unwrap_or(span);
        let Some(algorithm) = self.algorithm(Some(algorithm), at(3)) else {
            return;
        };
        let condition = self.argument_truth(Some(condition), at(0));
        let mut input = Vec::new();
        self.inputs(data, at(1), false, &mut input);
        let OperandKind::Place(
            target @ Place {
                header: HeaderRef::Instance(_),
                ..
            },
        ) = target.kind
        else {
            self.unsupported(at(2), "the checksum itself must be a field");
            return;
        };
        let calculation = self.calculation(Calculation {
            algorithm,
            input,
            payload,
            span,
        });
        let verify = self.part == Part::Verify;
        self.emit(
            span,
            StmtKind::Checksum(Checksum {
                target,
                calculation,
                condition,
                verify,
                span,
            }),
        );
    }
}
