//! Conversions: the implicit ones of assignments and arguments, and casts.

use std::sync::Arc;

use num_bigint::BigInt;
use num_traits::{Signed, Zero};

use crate::diagnostics::Diagnostic;
use crate::ir::Type;
use crate::source::Span;

use super::lower::Lower;
use super::operand::{Operand, OperandKind};
use super::types::{Ty, TyKind};

impl<'a> Lower<'a> {
    /// The operand as a value of type `to`, if P4 converts it without a cast (section 8.11.2); an
    /// error otherwise.
    pub fn coerce(&mut self, operand: Operand<'a>, to: Ty, span: Span) -> Operand<'a> {
        if operand.ty == to
            && !matches!(
                operand.kind,
                OperandKind::Record(..) | OperandKind::OpenList(_) | OperandKind::Default
            )
        {
            return operand;
        }
        if operand.is_poison() || self.types[to] == TyKind::Unknown {
            return operand;
        }
        let from = operand.ty;
        match (operand.kind, self.types[to].clone()) {
            (OperandKind::Int(value), TyKind::Bits { .. }) => self.fit(&value, to, span),
            (OperandKind::Int(value), TyKind::New(_) | TyKind::SerEnum(_) | TyKind::Bool) => {
                let name = self.types.name(to);
                let report = Diagnostic::error(span, format!("`{value}` is no `{name}`"))
                    .with_note_here(format!("expected `{name}`, found `int`"))
                    .with_help(format!("cast it: `({name}) {value}`"));
                self.report(report);
                self.poison()
            }
            (OperandKind::Default, _) => self.default_value(to, span),
            (
                OperandKind::Parts(parts),
                TyKind::Struct(_) | TyKind::Header(_) | TyKind::Tuple(_),
            ) if matches!(self.types[from], TyKind::Tuple(_) | TyKind::List(_)) => {
                self.parts_to(parts, false, to, span)
            }
            (OperandKind::Parts(parts), TyKind::List(element)) => {
                let parts = parts
                    .into_iter()
                    .map(|part| self.coerce(part, element, span))
                    .collect();
                Operand::new(to, OperandKind::Parts(parts))
            }
            (OperandKind::OpenList(parts), _) => self.parts_to(parts, true, to, span),
            (OperandKind::Record(fields, dots), _) => self.record_to(fields, dots, to, span),
            (OperandKind::HeaderValue(None), TyKind::Header(_)) => {
                Operand::new(to, OperandKind::HeaderValue(None))
            }
            (OperandKind::HeaderValue(None), TyKind::Union(_)) => {
                Operand::new(to, OperandKind::HeaderValue(None))
            }
            (kind, _) => {
                // An enumeration with a representation goes where its representation goes.
                if let TyKind::SerEnum(def) = self.types[from]
                    && self.types.enums[def].underlying == Some(to)
                {
                    let value = self.value_of(&Operand::new(from, kind), span);
                    return Operand::value(to, value);
                }
                let (from, to_name) = (self.types.name(from), self.types.name(to));
                let mut report =
                    Diagnostic::error(span, format!("this is `{from}`, not `{to_name}`"))
                        .with_code("type")
                        .with_note_here(format!("expected `{to_name}`"));
                if self.types.scalar(to).is_some()
                    && from != "int"
                    && self.castable_names(&from, &to_name)
                {
                    report = report.with_help(format!("cast it: `({to_name}) …`"));
                }
                self.report(report);
                self.poison()
            }
        }
    }

    fn castable_names(&self, from: &str, to: &str) -> bool {
        let number = |name: &str| name.starts_with("bit<") || name.starts_with("int<");
        number(from) && number(to)
    }

    /// A number of type `int` as a value of type `to`; warns when bits are lost.
    pub fn fit(&mut self, value: &BigInt, to: Ty, span: Span) -> Operand<'a> {
        let Some(ty) = self.types.scalar(to) else {
            return self.poison();
        };
        if !ty.holds(value) {
            let name = self.types.name(to);
            let kept = ty.wrap(value);
            if value.is_negative() && !ty.is_signed() {
                self.report(
                    Diagnostic::warning(
                        span,
                        format!("the negative value `{value}` becomes `{kept}` as `{name}`"),
                    )
                    .with_code("mismatch"),
                );
            } else {
                self.report(
                    Diagnostic::warning(
                        span,
                        format!(
                            "the value `{value}` does not fit in `{name}` and becomes `{kept}`"
                        ),
                    )
                    .with_code("mismatch"),
                );
            }
        }
        let value = self.ir.exprs.number(value, ty);
        Operand::value(to, value)
    }

    fn parts_to(&mut self, parts: Vec<Operand<'a>>, open: bool, to: Ty, span: Span) -> Operand<'a> {
        let wanted: Vec<Ty> = match &self.types[to] {
            TyKind::Tuple(parts) => parts.clone(),
            TyKind::Struct(_) | TyKind::Header(_) => self
                .types
                .fields(to)
                .map(|f| f.iter().map(|f| f.ty).collect())
                .unwrap_or_default(),
            TyKind::Stack(..) => {
                self.unsupported(
                    span,
                    "a value for a whole header stack is not supported; assign its elements",
                );
                return self.poison();
            }
            _ => {
                let name = self.types.name(to);
                return self.bad(span, format!("a list of values is no `{name}`"));
            }
        };
        if parts.len() > wanted.len() || (parts.len() < wanted.len() && !open) {
            let name = self.types.name(to);
            return self.bad(
                span,
                format!(
                    "`{name}` needs {} values, {} are given",
                    wanted.len(),
                    parts.len()
                ),
            );
        }
        let mut given = parts.into_iter();
        let mut out = Vec::with_capacity(wanted.len());
        for ty in wanted {
            out.push(match given.next() {
                Some(part) => self.coerce(part, ty, span),
                None => self.default_value(ty, span),
            });
        }
        self.assemble(to, out)
    }

    fn record_to(
        &mut self,
        fields: Vec<(Arc<str>, Operand<'a>, Span)>,
        dots: bool,
        to: Ty,
        span: Span,
    ) -> Operand<'a> {
        let Some(wanted) = self.types.fields(to).map(<[_]>::to_vec) else {
            let name = self.types.name(to);
            return self.bad(
                span,
                format!("`{name}` has no fields that could be given by name"),
            );
        };
        if let TyKind::Union(_) = self.types[to] {
            self.unsupported(
                span,
                "a value for a whole header union is not supported; assign its members",
            );
            return self.poison();
        }
        for (name, _, at) in &fields {
            if !wanted.iter().any(|f| f.name == *name) {
                let ty = self.types.name(to);
                self.error(*at, format!("`{ty}` has no field `{name}`"));
            }
        }
        let mut out = Vec::with_capacity(wanted.len());
        for field in wanted {
            let mut matching = fields.iter().filter(|(name, ..)| *name == field.name);
            match matching.next() {
                Some((_, value, at)) => {
                    let value = self.coerce(value.clone(), field.ty, *at);
                    out.push(value);
                }
                None if dots => {
                    let value = self.default_value(field.ty, span);
                    out.push(value);
                }
                None => {
                    let ty = self.types.name(to);
                    return self.bad(
                        span,
                        format!("the field `{}` of `{ty}` is missing", field.name),
                    );
                }
            }
            if let Some((_, _, at)) = matching.next() {
                self.error(*at, format!("the field `{}` is given twice", field.name));
            }
        }
        self.assemble(to, out)
    }

    /// Fields as a struct, tuple or valid header.
    fn assemble(&mut self, to: Ty, fields: Vec<Operand<'a>>) -> Operand<'a> {
        let kind = match self.types[to] {
            TyKind::Header(_) => OperandKind::HeaderValue(Some(fields)),
            _ => OperandKind::Parts(fields),
        };
        Operand::new(to, kind)
    }

    /// The default value of a type (section 7.3).
    pub fn default_value(&mut self, ty: Ty, span: Span) -> Operand<'a> {
        match self.types[ty].clone() {
            TyKind::Int => self.int(BigInt::zero()),
            TyKind::Header(_) | TyKind::Union(_) => {
                Operand::new(ty, OperandKind::HeaderValue(None))
            }
            TyKind::Struct(_) | TyKind::Tuple(_) => {
                let parts: Vec<Ty> = match &self.types[ty] {
                    TyKind::Tuple(parts) => parts.clone(),
                    _ => self
                        .types
                        .fields(ty)
                        .map(|f| f.iter().map(|f| f.ty).collect())
                        .unwrap_or_default(),
                };
                let parts = parts
                    .into_iter()
                    .map(|part| self.default_value(part, span))
                    .collect();
                Operand::new(ty, OperandKind::Parts(parts))
            }
            _ => match self.types.scalar(ty) {
                Some(Type::Bool) => {
                    let value = self.ir.exprs.bool(false);
                    Operand::value(ty, value)
                }
                Some(scalar @ Type::Bits { .. }) => {
                    let value = self.ir.exprs.number(&BigInt::zero(), scalar);
                    Operand::value(ty, value)
                }
                _ => {
                    let name = self.types.name(ty);
                    self.unsupported(
                        span,
                        format!("`{name}` has no default value that is supported"),
                    );
                    self.poison()
                }
            },
        }
    }

    /// `(to) operand`
    pub fn cast(&mut self, operand: Operand<'a>, to: Ty, span: Span) -> Operand<'a> {
        if operand.is_poison() || operand.ty == to {
            return operand;
        }
        if matches!(self.types[to], TyKind::Unknown) {
            return self.poison();
        }
        // A newtype converts from and to what it is made of, and a chain of them in several steps.
        let (from_repr, to_repr) = (
            self.types.representation(operand.ty),
            self.types.representation(to),
        );
        let changes_name = from_repr != operand.ty || to_repr != to;
        match (
            &operand.kind,
            self.types[from_repr].clone(),
            self.types[to_repr].clone(),
        ) {
            (OperandKind::Int(value), _, TyKind::Bits { .. }) => {
                let value = value.clone();
                let fitted = self.fit(&value, to_repr, span);
                Operand { ty: to, ..fitted }
            }
            (OperandKind::Int(value), _, TyKind::Int) => {
                let value = value.clone();
                self.int(value)
            }
            (OperandKind::Int(value), _, TyKind::Bool)
                if value.is_zero() || *value == BigInt::from(1) =>
            {
                let value = self.ir.exprs.bool(!value.is_zero());
                Operand::value(to, value)
            }
            (
                _,
                TyKind::Bits { width, signed },
                TyKind::Bits {
                    width: w2,
                    signed: s2,
                },
            ) => {
                if width != w2 && signed != s2 && !changes_name {
                    let (from, to_name) = (self.types.name(operand.ty), self.types.name(to));
                    return self.bad(
                        span,
                        format!("a cast from `{from}` to `{to_name}` changes both width and sign; do one after the other"),
                    );
                }
                let value = self.value_of(&operand, span);
                let value = self.ir.exprs.cast(
                    Type::Bits {
                        width: w2,
                        signed: s2,
                    },
                    value,
                );
                Operand::value(to, value)
            }
            (
                _,
                TyKind::Bits {
                    width: 1,
                    signed: false,
                },
                TyKind::Bool,
            ) => {
                let value = self.value_of(&operand, span);
                let value = self.ir.exprs.cast(Type::Bool, value);
                Operand::value(to, value)
            }
            (
                _,
                TyKind::Bool,
                TyKind::Bits {
                    width: 1,
                    signed: false,
                },
            ) => {
                let value = self.value_of(&operand, span);
                let value = self.ir.exprs.cast(Type::bits(1), value);
                Operand::value(to, value)
            }
            (_, TyKind::Bits { .. }, TyKind::Int) if self.constant_of(&operand).is_some() => {
                let value = self.constant_of(&operand).unwrap_or_default();
                self.int(value)
            }
            (_, a, b) if a == b && from_repr == to_repr && self.types.scalar(to).is_some() => {
                let value = self.value_of(&operand, span);
                Operand::value(to, value)
            }
            (
                OperandKind::Parts(_)
                | OperandKind::Record(..)
                | OperandKind::OpenList(_)
                | OperandKind::HeaderValue(None)
                | OperandKind::Default,
                ..,
            ) => self.coerce(operand, to, span),
            _ => {
                let (from, to) = (self.types.name(operand.ty), self.types.name(to));
                self.bad(span, format!("`{from}` can't be cast to `{to}`"))
            }
        }
    }
}
