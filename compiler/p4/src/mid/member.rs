//! Parts of values: members of types, fields, elements and slices.

use std::sync::Arc;

use num_traits::ToPrimitive;

use crate::diagnostics::Diagnostic;
use crate::front::ast::{self, ExprKind, TypeKind};
use crate::ir::{self, Handle, HeaderRef, Place, Type};
use crate::source::Span;

use super::lower::{Lower, Part};
use super::operand::{Operand, OperandKind};
use super::scope::{Entity, Scope};
use super::types::{Ty, TyKind};

impl<'a> Lower<'a> {
    pub fn index(
        &mut self,
        scope: &Scope<'a>,
        base: &'a ast::Expr,
        index: &'a ast::Expr,
        span: Span,
    ) -> Operand<'a> {
        let base_operand = self.expr(scope, base);
        let mark = self.block.len();
        let index_operand = self.expr(scope, index);
        let base_operand = self.protect(base_operand, mark, base.span);
        if base_operand.is_poison() || index_operand.is_poison() {
            return self.poison();
        }
        let constant = self.constant_of(&index_operand);
        let count = match (&base_operand.kind, &self.types[base_operand.ty]) {
            (OperandKind::Stack(stack), _) => self.ir.stacks[*stack].elements.len(),
            (OperandKind::Parts(parts), TyKind::Tuple(_) | TyKind::List(_)) => parts.len(),
            _ => {
                let name = self.types.name(base_operand.ty);
                return self.bad(base.span, format!("`{name}` can't be indexed"));
            }
        };
        if let Some(constant) = constant {
            let Some(position) = constant.to_usize().filter(|p| *p < count) else {
                return self.bad(
                    index.span,
                    format!("the index {constant} is out of range: there are {count} elements"),
                );
            };
            return match base_operand.kind {
                OperandKind::Stack(stack) => {
                    let TyKind::Stack(element, _) = self.types[base_operand.ty] else {
                        return self.poison();
                    };
                    match self.ir.stacks[stack].elements.get(position) {
                        Some(header) => {
                            Operand::new(element, OperandKind::Header(HeaderRef::Instance(*header)))
                        }
                        None => self.poison(),
                    }
                }
                OperandKind::Parts(mut parts) => parts.swap_remove(position),
                _ => self.poison(),
            };
        }
        let OperandKind::Stack(stack) = base_operand.kind else {
            return self.bad(
                index.span,
                "the index into a tuple must be known at compile time",
            );
        };
        let TyKind::Stack(element, _) = self.types[base_operand.ty] else {
            return self.poison();
        };
        let index = self.value_of(&index_operand, index.span);
        if self.ir.exprs.ty(index) == Type::Bool {
            return self.bad(span, "an index must be a number");
        }
        Operand::new(
            element,
            OperandKind::Header(HeaderRef::Element(stack, index)),
        )
    }

    pub fn slice(&mut self, base: Operand<'a>, hi: u32, lo: u32, span: Span) -> Operand<'a> {
        if base.is_poison() {
            return base;
        }
        if lo > hi {
            return self.bad(
                span,
                format!("the slice [{hi}:{lo}] has its bounds the wrong way round"),
            );
        }
        let ty = self.types.bits(hi - lo + 1);
        if let OperandKind::Int(value) = &base.kind {
            let value = self
                .ir
                .exprs
                .number(&(value >> lo), Type::bits(hi - lo + 1));
            return Operand::value(ty, value);
        }
        let Some(Type::Bits { width, .. }) = self.types.scalar(base.ty) else {
            let name = self.types.name(base.ty);
            return self.bad(span, format!("`{name}` has no bits to slice"));
        };
        if hi >= width {
            let name = self.types.name(base.ty);
            return self.bad(span, format!("bit {hi} is outside of `{name}`"));
        }
        match base.kind {
            OperandKind::Place(place) => Operand::new(ty, OperandKind::Slice(place, hi, lo)),
            OperandKind::Slice(place, _, inner) => {
                Operand::new(ty, OperandKind::Slice(place, hi + inner, lo + inner))
            }
            _ => {
                let value = self.value_of(&base, span);
                let value = self.ir.exprs.slice(value, hi, lo);
                Operand::value(ty, value)
            }
        }
    }

    pub fn plus_slice(
        &mut self,
        scope: &Scope<'a>,
        base: &'a ast::Expr,
        lo: &'a ast::Expr,
        width: &'a ast::Expr,
        span: Span,
    ) -> Operand<'a> {
        let base_operand = self.expr(scope, base);
        let mark = self.block.len();
        let lo_operand = self.expr(scope, lo);
        let base_operand = self.protect(base_operand, mark, base.span);
        let Some(width) = self.constant_u32(scope, width, "the width of a slice") else {
            return self.poison();
        };
        if base_operand.is_poison() || lo_operand.is_poison() {
            return self.poison();
        }
        if width == 0 {
            return self.bad(span, "a slice needs at least one bit");
        }
        if let Some(lo) = self.constant_of(&lo_operand).and_then(|lo| lo.to_u32()) {
            return self.slice(base_operand, lo.saturating_add(width - 1), lo, span);
        }
        let value = self.value_of(&base_operand, base.span);
        let lo_value = self.value_of(&lo_operand, lo.span);
        if !matches!(self.ir.exprs.ty(value), Type::Bits { signed: false, .. }) {
            return self.bad(
                base.span,
                "only an unsigned number can be sliced at a place that is not constant",
            );
        }
        let shifted = self.ir.exprs.binary(ir::BinaryOp::Shr, value, lo_value);
        let value = self.ir.exprs.cast(Type::bits(width), shifted);
        let ty = self.types.bits(width);
        Operand::value(ty, value)
    }

    pub fn member(
        &mut self,
        scope: &Scope<'a>,
        base: &'a ast::Expr,
        member: &'a ast::Ident,
        span: Span,
    ) -> Operand<'a> {
        match &base.kind {
            ExprKind::Type(ty) => {
                if ty.kind == TypeKind::Error {
                    return self.error_constant(member);
                }
                let ty = self.resolve_type(scope, ty);
                return self.type_member(ty, member);
            }
            ExprKind::Path(path) => {
                if let Some(Entity::Type(ty)) = scope.find(path.name.as_str()) {
                    return self.type_member(ty, member);
                }
            }
            ExprKind::Call { callee, args, .. } => {
                if let Some(table) = self.applied_table(scope, callee) {
                    return self.apply_result(&table, args, member, span);
                }
            }
            _ => {}
        }
        let operand = self.expr(scope, base);
        self.field(operand, member, span)
    }

    pub fn error_constant(&mut self, member: &ast::Ident) -> Operand<'a> {
        let Some(number) = self.ir.errors.iter().position(|name| *name == member.name) else {
            let similar = self
                .ir
                .errors
                .iter()
                .find(|n| super::scope::edit_distance(n, member.as_str()) < 4)
                .cloned();
            let mut report =
                Diagnostic::error(member.span, format!("there is no error `{member}`"));
            if let Some(similar) = similar {
                report = report.with_help(format!("is `{similar}` meant?"));
            }
            self.report(report);
            return self.poison();
        };
        let ty = self.types.make(TyKind::Error);
        let value = self.ir.exprs.bits(number as u64, 32);
        Operand::value(ty, value)
    }

    pub fn type_member(&mut self, ty: Ty, member: &ast::Ident) -> Operand<'a> {
        match self.types[ty] {
            TyKind::Error => self.error_constant(member),
            TyKind::Enum(def) | TyKind::SerEnum(def) => {
                let found = self.types.enums[def]
                    .members
                    .iter()
                    .find(|(name, _)| *name == member.name);
                let Some((_, value)) = found else {
                    let name = self.types.name(ty);
                    let known: Vec<String> = self.types.enums[def]
                        .members
                        .iter()
                        .map(|(name, _)| format!("`{name}`"))
                        .collect();
                    let report = Diagnostic::error(
                        member.span,
                        format!("`{name}` has no member `{member}`"),
                    )
                    .with_help(format!("its members are {}", known.join(", ")));
                    self.report(report);
                    return self.poison();
                };
                let value = value.clone();
                let scalar = self.types.scalar(ty).unwrap_or(Type::bits(32));
                let value = self.ir.exprs.number(&value, scalar);
                Operand::value(ty, value)
            }
            TyKind::Unknown => self.poison(),
            _ => {
                let name = self.types.name(ty);
                self.bad(
                    member.span,
                    format!("the type `{name}` has no member `{member}`"),
                )
            }
        }
    }

    /// `operand.member`
    pub fn field(&mut self, operand: Operand<'a>, member: &ast::Ident, span: Span) -> Operand<'a> {
        if operand.is_poison() {
            return operand;
        }
        if let OperandKind::Stack(stack) = operand.kind {
            return self.stack_member(stack, operand.ty, member, span);
        }
        let position = self
            .types
            .fields(operand.ty)
            .and_then(|f| f.iter().position(|f| f.name == member.name));
        let Some(position) = position else {
            let name = self.types.name(operand.ty);
            let similar = self.types.fields(operand.ty).and_then(|fields| {
                fields
                    .iter()
                    .map(|f| {
                        (
                            super::scope::edit_distance(&f.name, member.as_str()),
                            Arc::clone(&f.name),
                        )
                    })
                    .min()
                    .filter(|(distance, _)| *distance <= 2)
            });
            let mut report =
                Diagnostic::error(member.span, format!("`{name}` has no field `{member}`"));
            if let Some((_, similar)) = similar {
                report = report.with_help(format!("is `{similar}` meant?"));
            }
            self.report(report);
            return self.poison();
        };
        self.nth_field(operand, position, span)
    }

    /// The field at a position of a struct, header or union.
    pub fn nth_field(&mut self, operand: Operand<'a>, position: usize, span: Span) -> Operand<'a> {
        let Some(ty) = self
            .types
            .fields(operand.ty)
            .and_then(|f| f.get(position))
            .map(|f| f.ty)
        else {
            return self.poison();
        };
        match operand.kind {
            OperandKind::Parts(mut parts) | OperandKind::HeaderValue(Some(mut parts))
                if position < parts.len() =>
            {
                parts.swap_remove(position)
            }
            OperandKind::Header(header) => self.header_field(header, operand.ty, position),
            OperandKind::HeaderValue(None) => self.default_value(ty, span),
            OperandKind::Union(union) => match self.ir.unions[union].members.get(position) {
                Some(member) => Operand::new(ty, OperandKind::Header(HeaderRef::Instance(*member))),
                None => self.poison(),
            },
            _ => self.poison(),
        }
    }

    /// A field of a header, by its position in the declaration. Nested structs take several fields of
    /// the flat header.
    pub fn header_field(&mut self, header: HeaderRef, ty: Ty, position: usize) -> Operand<'a> {
        let fields = self.types.fields(ty).map(<[_]>::to_vec).unwrap_or_default();
        let mut flat = 0;
        for field in fields.iter().take(position) {
            flat += self.flat_fields(field.ty);
        }
        match fields.get(position) {
            Some(field) => self.header_part(header, field.ty, &mut flat),
            None => self.poison(),
        }
    }

    pub fn header_part(&mut self, header: HeaderRef, ty: Ty, flat: &mut u32) -> Operand<'a> {
        if let TyKind::Struct(_) = self.types[ty] {
            let fields = self.types.fields(ty).map(<[_]>::to_vec).unwrap_or_default();
            let parts = fields
                .iter()
                .map(|f| self.header_part(header, f.ty, flat))
                .collect();
            return Operand::new(ty, OperandKind::Parts(parts));
        }
        let place = Place {
            header,
            field: *flat,
        };
        *flat += 1;
        Operand::new(ty, OperandKind::Place(place))
    }

    /// How many fields of a flat header a field of this type takes.
    pub fn flat_fields(&self, ty: Ty) -> u32 {
        match self.types[ty] {
            TyKind::Struct(_) => self.types.fields(ty).map_or(0, |fields| {
                fields.iter().map(|f| self.flat_fields(f.ty)).sum()
            }),
            _ => 1,
        }
    }

    pub fn stack_member(
        &mut self,
        stack: Handle<ir::Stack>,
        ty: Ty,
        member: &ast::Ident,
        span: Span,
    ) -> Operand<'a> {
        let TyKind::Stack(element, size) = self.types[ty] else {
            return self.poison();
        };
        match member.as_str() {
            "next" | "last" if self.part != Part::Parser => self.bad(
                span,
                format!("`{member}` of a stack can be used in parsers only"),
            ),
            "next" => {
                self.unsupported(
                    span,
                    "`next` of a stack is supported only as the argument of `extract`",
                );
                self.poison()
            }
            "last" => Operand::new(element, OperandKind::Header(HeaderRef::Last(stack))),
            "lastIndex" => {
                let value = self.ir.exprs.last_index(stack);
                let ty = self.types.bits(32);
                Operand::value(ty, value)
            }
            "size" => {
                let value = self.ir.exprs.bits(u64::from(size), 32);
                let ty = self.types.bits(32);
                Operand::value(ty, value)
            }
            _ => {
                let report = Diagnostic::error(
                    member.span,
                    format!("a header stack has no member `{member}`"),
                )
                .with_help(
                    "it has `next`, `last`, `lastIndex`, `size`, `push_front` and `pop_front`",
                );
                self.report(report);
                self.poison()
            }
        }
    }
}
