//! Expressions. What they stand for is an [`Operand`]; what they do on the way (calls) is emitted
//! into the current block, in the order of evaluation of P4_16 section 8.1.

use std::sync::Arc;

use num_bigint::BigInt;
use num_traits::ToPrimitive;

use crate::diagnostics::Diagnostic;
use crate::front::ast::{self, BinaryOp, ExprKind, TypeKind, UnaryOp};
use crate::ir::{self, Expr, Handle, HeaderRef, Place, StmtKind, Type};
use crate::source::Span;

use super::effects::Footprint;
use super::lower::{Lower, Part};
use super::operand::{Operand, OperandKind};
use super::scope::{Entity, Scope};
use super::types::{Ty, TyKind};

impl<'a> Lower<'a> {
    /// What an expression stands for.
    pub fn expr(&mut self, scope: &Scope<'a>, expr: &'a ast::Expr) -> Operand<'a> {
        let Some(operand) = self.deeper(expr.span, |this| this.expr_inner(scope, expr)) else {
            return self.poison();
        };
        operand
    }

    fn expr_inner(&mut self, scope: &Scope<'a>, expr: &'a ast::Expr) -> Operand<'a> {
        match &expr.kind {
            ExprKind::Bool(value) => {
                let ty = self.types.bool();
                let value = self.ir.exprs.bool(*value);
                Operand::value(ty, value)
            }
            ExprKind::Int(lit) => self.literal(lit, expr.span),
            ExprKind::String(text) => {
                let ty = self.types.make(TyKind::String);
                Operand::new(ty, OperandKind::String(Arc::clone(text)))
            }
            ExprKind::Path(path) => self.path(scope, path),
            ExprKind::This => {
                self.unsupported(expr.span, "`this` is not supported");
                self.poison()
            }
            ExprKind::Type(ty) => {
                let ty = self.resolve_type(scope, ty);
                let name = self.types.name(ty);
                self.bad(expr.span, format!("the type `{name}` is no value"))
            }
            ExprKind::Dots => {
                let ty = self.types.unknown();
                Operand::new(ty, OperandKind::Default)
            }
            ExprKind::InvalidHeader => {
                let ty = self.types.unknown();
                Operand::new(ty, OperandKind::HeaderValue(None))
            }
            ExprKind::List(items) => self.list(scope, items),
            ExprKind::Record { fields, dots } => {
                let mut values: Vec<(Arc<str>, Operand<'a>, Span)> = Vec::new();
                for field in fields {
                    let mark = self.block.len();
                    let value = self.expr(scope, &field.value);
                    for (_, earlier, span) in &mut values {
                        *earlier = self.protect(earlier.clone(), mark, *span);
                    }
                    values.push((Arc::clone(&field.name.name), value, field.span));
                }
                let ty = self.types.unknown();
                Operand::new(ty, OperandKind::Record(values, *dots))
            }
            ExprKind::Index { base, index } => self.index(scope, base, index, expr.span),
            ExprKind::Slice { base, hi, lo } => {
                let base_operand = self.expr(scope, base);
                let (Some(hi), Some(lo)) =
                    (self.constant_u32(scope, hi, "the bound of a slice"), self.constant_u32(scope, lo, "the bound of a slice"))
                else {
                    return self.poison();
                };
                self.slice(base_operand, hi, lo, expr.span)
            }
            ExprKind::PlusSlice { base, lo, width } => self.plus_slice(scope, base, lo, width, expr.span),
            ExprKind::Member { base, member } => self.member(scope, base, member, expr.span),
            ExprKind::Unary { op, operand } => {
                let operand = self.expr(scope, operand);
                self.unary(*op, operand, expr.span)
            }
            ExprKind::Binary { op, left, right } => self.binary_expr(scope, *op, left, right, expr.span),
            ExprKind::Ternary { condition, then, otherwise } => {
                self.ternary(scope, condition, then, otherwise, expr.span)
            }
            ExprKind::Cast { ty, operand } => {
                let to = self.resolve_type(scope, ty);
                let operand = self.expr(scope, operand);
                self.cast(operand, to, expr.span)
            }
            ExprKind::Call { callee, type_args, args } => self.call(scope, callee, type_args, args, expr.span),
        }
    }

    fn literal(&mut self, lit: &ast::IntLit, span: Span) -> Operand<'a> {
        let Some(width) = lit.width else { return self.int(lit.value.clone()) };
        if width > super::resolve::MAX_WIDTH {
            return self.bad(span, format!("a width of {width} bits is more than is supported"));
        }
        let ty = self.types.make(TyKind::Bits { width, signed: lit.signed });
        self.fit(&lit.value, ty, span)
    }

    fn path(&mut self, scope: &Scope<'a>, path: &'a ast::Path) -> Operand<'a> {
        match self.lookup(scope, path) {
            Some(Entity::Value(operand, _)) => operand,
            Some(Entity::Object(object)) => {
                let ty = self.types.unknown();
                Operand::new(ty, OperandKind::Object(object))
            }
            Some(Entity::Poison) | None => self.poison(),
            Some(other) => {
                let report = Diagnostic::error(path.span, format!("`{}` is {}", path.name, other.describe()))
                    .with_note_here("expected a value");
                self.report(report);
                self.poison()
            }
        }
    }

    fn list(&mut self, scope: &Scope<'a>, items: &'a [ast::Expr]) -> Operand<'a> {
        let mut parts: Vec<Operand<'a>> = Vec::new();
        let mut open = false;
        for item in items {
            if matches!(item.kind, ExprKind::Dots) {
                open = true;
                continue;
            }
            let mark = self.block.len();
            let part = self.expr(scope, item);
            for earlier in &mut parts {
                *earlier = self.protect(earlier.clone(), mark, item.span);
            }
            parts.push(part);
        }
        if open {
            let ty = self.types.unknown();
            return Operand::new(ty, OperandKind::OpenList(parts));
        }
        let types = parts.iter().map(|part| part.ty).collect();
        let ty = self.types.make(TyKind::Tuple(types));
        Operand::new(ty, OperandKind::Parts(parts))
    }

    /// The operand, kept in a variable if the statements behind `mark` change what it reads.
    pub fn protect(&mut self, operand: Operand<'a>, mark: usize, span: Span) -> Operand<'a> {
        let Some(later) = self.block.get(mark..).filter(|later| !later.is_empty()) else {
            return operand;
        };
        let mut writes = Footprint::default();
        writes.writes(&self.ir, later);
        if writes.overlaps(&self.reads_of(&operand)) {
            let (saved, mut saving) = self.collect(|this| this.save(&operand, span));
            let at = mark.min(self.block.len());
            let later = self.block.split_off(at);
            self.block.append(&mut saving);
            self.block.extend(later);
            return saved;
        }
        operand
    }

    /// What an operand reads.
    pub fn reads_of(&self, operand: &Operand<'a>) -> Footprint {
        let mut reads = Footprint::default();
        operand.leaves(&mut |leaf| match &leaf.kind {
            OperandKind::Value(value) => reads.reads(&self.ir, *value),
            OperandKind::Place(place) | OperandKind::Slice(place, ..) => {
                reads.place(&self.ir, *place);
                self.reads_of_header(place.header, &mut reads);
            }
            OperandKind::Header(header) => {
                reads.header(&self.ir, *header, super::effects::Part::All);
                self.reads_of_header(*header, &mut reads);
            }
            OperandKind::Stack(stack) => {
                for element in &self.ir.stacks[*stack].elements {
                    reads.header(&self.ir, HeaderRef::Instance(*element), super::effects::Part::All);
                }
            }
            OperandKind::Union(union) => {
                for member in &self.ir.unions[*union].members {
                    reads.header(&self.ir, HeaderRef::Instance(*member), super::effects::Part::All);
                }
            }
            _ => {}
        });
        reads
    }

    fn reads_of_header(&self, header: HeaderRef, reads: &mut Footprint) {
        if let HeaderRef::Element(_, index) = header {
            reads.reads(&self.ir, index);
        }
    }

    /// The scalar that the operand holds now. Says so if it is none.
    pub fn value_of(&mut self, operand: &Operand<'a>, span: Span) -> Handle<Expr> {
        match &operand.kind {
            OperandKind::Value(value) => *value,
            OperandKind::Place(place) => self.read(*place),
            OperandKind::Slice(place, hi, lo) => {
                let whole = self.read(*place);
                self.ir.exprs.slice(whole, *hi, *lo)
            }
            OperandKind::Int(value) => {
                if self.dead == 0 {
                    let report = Diagnostic::error(span, format!("the width of `{value}` is not known here"))
                        .with_help(format!("write it with its width, as in `32w{value}`"));
                    self.report(report);
                }
                self.ir.exprs.bits(0, 32)
            }
            OperandKind::Poison => self.poison_value(operand.ty),
            _ => {
                let name = self.types.name(operand.ty);
                self.error(span, format!("a single value is needed here, not `{name}`"));
                self.poison_value(operand.ty)
            }
        }
    }

    fn poison_value(&mut self, ty: Ty) -> Handle<Expr> {
        let scalar = self.types.scalar(ty).unwrap_or(Type::bits(1));
        match scalar {
            Type::Bool => self.ir.exprs.bool(false),
            Type::Bits { .. } => self.ir.exprs.number(&BigInt::from(0), scalar),
            Type::Varbit(_) => self.ir.exprs.bits(0, 1),
        }
    }

    /// An expression that must be a truth value.
    pub fn condition(&mut self, scope: &Scope<'a>, expr: &'a ast::Expr) -> Handle<Expr> {
        let operand = self.expr(scope, expr);
        self.truth(operand, expr.span)
    }

    /// An operand that must be a truth value.
    pub fn truth(&mut self, operand: Operand<'a>, span: Span) -> Handle<Expr> {
        let ty = self.types.bool();
        let operand = self.coerce(operand, ty, span);
        if operand.is_poison() {
            return self.ir.exprs.bool(false);
        }
        let value = self.value_of(&operand, span);
        if self.ir.exprs.ty(value) == Type::Bool { value } else { self.ir.exprs.bool(false) }
    }

    fn index(&mut self, scope: &Scope<'a>, base: &'a ast::Expr, index: &'a ast::Expr, span: Span) -> Operand<'a> {
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
                return self.bad(index.span, format!("the index {constant} is out of range: there are {count} elements"));
            };
            return match base_operand.kind {
                OperandKind::Stack(stack) => {
                    let TyKind::Stack(element, _) = self.types[base_operand.ty] else { return self.poison() };
                    match self.ir.stacks[stack].elements.get(position) {
                        Some(header) => Operand::new(element, OperandKind::Header(HeaderRef::Instance(*header))),
                        None => self.poison(),
                    }
                }
                OperandKind::Parts(mut parts) => parts.swap_remove(position),
                _ => self.poison(),
            };
        }
        let OperandKind::Stack(stack) = base_operand.kind else {
            return self.bad(index.span, "the index into a tuple must be known at compile time");
        };
        let TyKind::Stack(element, _) = self.types[base_operand.ty] else { return self.poison() };
        let index = self.value_of(&index_operand, index.span);
        if self.ir.exprs.ty(index) == Type::Bool {
            return self.bad(span, "an index must be a number");
        }
        Operand::new(element, OperandKind::Header(HeaderRef::Element(stack, index)))
    }

    fn slice(&mut self, base: Operand<'a>, hi: u32, lo: u32, span: Span) -> Operand<'a> {
        if base.is_poison() {
            return base;
        }
        if lo > hi {
            return self.bad(span, format!("the slice [{hi}:{lo}] has its bounds the wrong way round"));
        }
        let ty = self.types.bits(hi - lo + 1);
        if let OperandKind::Int(value) = &base.kind {
            let value = self.ir.exprs.number(&(value >> lo), Type::bits(hi - lo + 1));
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
            OperandKind::Slice(place, _, inner) => Operand::new(ty, OperandKind::Slice(place, hi + inner, lo + inner)),
            _ => {
                let value = self.value_of(&base, span);
                let value = self.ir.exprs.slice(value, hi, lo);
                Operand::value(ty, value)
            }
        }
    }

    fn plus_slice(
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
        let Some(width) = self.constant_u32(scope, width, "the width of a slice") else { return self.poison() };
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
            return self.bad(base.span, "only an unsigned number can be sliced at a place that is not constant");
        }
        let shifted = self.ir.exprs.binary(ir::BinaryOp::Shr, value, lo_value);
        let value = self.ir.exprs.cast(Type::bits(width), shifted);
        let ty = self.types.bits(width);
        Operand::value(ty, value)
    }

    fn member(&mut self, scope: &Scope<'a>, base: &'a ast::Expr, member: &'a ast::Ident, span: Span) -> Operand<'a> {
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

    fn error_constant(&mut self, member: &ast::Ident) -> Operand<'a> {
        let Some(number) = self.ir.errors.iter().position(|name| *name == member.name) else {
            let similar = self.ir.errors.iter().find(|n| super::scope::edit_distance(n, member.as_str()) < 4).cloned();
            let mut report = Diagnostic::error(member.span, format!("there is no error `{member}`"));
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

    fn type_member(&mut self, ty: Ty, member: &ast::Ident) -> Operand<'a> {
        match self.types[ty] {
            TyKind::Error => self.error_constant(member),
            TyKind::Enum(def) | TyKind::SerEnum(def) => {
                let found = self.types.enums[def].members.iter().find(|(name, _)| *name == member.name);
                let Some((_, value)) = found else {
                    let name = self.types.name(ty);
                    let known: Vec<String> =
                        self.types.enums[def].members.iter().map(|(name, _)| format!("`{name}`")).collect();
                    let report = Diagnostic::error(member.span, format!("`{name}` has no member `{member}`"))
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
                self.bad(member.span, format!("the type `{name}` has no member `{member}`"))
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
        let position = self.types.fields(operand.ty).and_then(|f| f.iter().position(|f| f.name == member.name));
        let Some(position) = position else {
            let name = self.types.name(operand.ty);
            let similar = self.types.fields(operand.ty).and_then(|fields| {
                fields
                    .iter()
                    .map(|f| (super::scope::edit_distance(&f.name, member.as_str()), Arc::clone(&f.name)))
                    .min()
                    .filter(|(distance, _)| *distance <= 2)
            });
            let mut report = Diagnostic::error(member.span, format!("`{name}` has no field `{member}`"));
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
        let Some(ty) = self.types.fields(operand.ty).and_then(|f| f.get(position)).map(|f| f.ty) else {
            return self.poison();
        };
        match operand.kind {
            OperandKind::Parts(mut parts) | OperandKind::HeaderValue(Some(mut parts)) if position < parts.len() => {
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
    fn header_field(&mut self, header: HeaderRef, ty: Ty, position: usize) -> Operand<'a> {
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

    fn header_part(&mut self, header: HeaderRef, ty: Ty, flat: &mut u32) -> Operand<'a> {
        if let TyKind::Struct(_) = self.types[ty] {
            let fields = self.types.fields(ty).map(<[_]>::to_vec).unwrap_or_default();
            let parts = fields.iter().map(|f| self.header_part(header, f.ty, flat)).collect();
            return Operand::new(ty, OperandKind::Parts(parts));
        }
        let place = Place { header, field: *flat };
        *flat += 1;
        Operand::new(ty, OperandKind::Place(place))
    }

    /// How many fields of a flat header a field of this type takes.
    pub fn flat_fields(&self, ty: Ty) -> u32 {
        match self.types[ty] {
            TyKind::Struct(_) => {
                self.types.fields(ty).map_or(0, |fields| fields.iter().map(|f| self.flat_fields(f.ty)).sum())
            }
            _ => 1,
        }
    }

    fn stack_member(&mut self, stack: Handle<ir::Stack>, ty: Ty, member: &ast::Ident, span: Span) -> Operand<'a> {
        let TyKind::Stack(element, size) = self.types[ty] else { return self.poison() };
        match member.as_str() {
            "next" | "last" if self.part != Part::Parser => {
                self.bad(span, format!("`{member}` of a stack can be used in parsers only"))
            }
            "next" => Operand::new(element, OperandKind::Header(HeaderRef::Next(stack))),
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
                let report = Diagnostic::error(member.span, format!("a header stack has no member `{member}`"))
                    .with_help("it has `next`, `last`, `lastIndex`, `size`, `push_front` and `pop_front`");
                self.report(report);
                self.poison()
            }
        }
    }

    fn binary_expr(
        &mut self,
        scope: &Scope<'a>,
        op: BinaryOp,
        left: &'a ast::Expr,
        right: &'a ast::Expr,
        span: Span,
    ) -> Operand<'a> {
        if matches!(op, BinaryOp::And | BinaryOp::Or) {
            let a = self.condition(scope, left);
            let (b, rest) = self.collect(|this| this.condition(scope, right));
            let ty = self.types.bool();
            if rest.is_empty() {
                let op = if op == BinaryOp::And { ir::BinaryOp::LogicalAnd } else { ir::BinaryOp::LogicalOr };
                let value = self.ir.exprs.binary(op, a, b);
                return Operand::value(ty, value);
            }
            // The right side does something, so it must not run when the left side decides.
            let result = self.temporary(Type::Bool);
            self.emit(span, StmtKind::Assign { to: result, value: a });
            let mut inner = rest;
            inner.push(ir::Stmt { span, kind: StmtKind::Assign { to: result, value: b } });
            let first = self.read(result);
            let condition = if op == BinaryOp::And { first } else { self.ir.exprs.not(first) };
            self.emit(span, StmtKind::If { condition, then: inner, otherwise: Vec::new() });
            return Operand::new(ty, OperandKind::Place(result));
        }
        let a = self.expr(scope, left);
        let mark = self.block.len();
        let b = self.expr(scope, right);
        let a = self.protect(a, mark, left.span);
        self.binary(op, a, left.span, b, right.span, span)
    }

    fn ternary(
        &mut self,
        scope: &Scope<'a>,
        condition: &'a ast::Expr,
        then: &'a ast::Expr,
        otherwise: &'a ast::Expr,
        span: Span,
    ) -> Operand<'a> {
        let condition = self.condition(scope, condition);
        let known = self.ir.exprs.constant_bool(condition);
        let (a, mut first) = self.collect(|this| this.expr(scope, then));
        let (b, mut second) = self.collect(|this| this.expr(scope, otherwise));
        if let Some(known) = known {
            let (chosen, mut block) = if known { (a, first) } else { (b, second) };
            self.block.append(&mut block);
            return chosen;
        }
        let ty = if matches!(a.kind, OperandKind::Int(_)) || matches!(self.types[a.ty], TyKind::Unknown) { b.ty } else { a.ty };
        if matches!(self.types[ty], TyKind::Int) {
            return self.bad(span, "the width of the result is not known: write one of the numbers with its width");
        }
        let (a, b) = (self.coerce(a, ty, then.span), self.coerce(b, ty, otherwise.span));
        if a.is_poison() || b.is_poison() {
            return self.poison();
        }
        let scalar = self.types.scalar(ty);
        if let (Some(Type::Bool | Type::Bits { .. }), true, true) = (scalar, first.is_empty(), second.is_empty()) {
            let (a, b) = (self.value_of(&a, then.span), self.value_of(&b, otherwise.span));
            let value = self.ir.exprs.select(condition, a, b);
            return Operand::value(ty, value);
        }
        let result = self.variable(ty, "tmp", span);
        let ((), mut store) = self.collect(|this| this.assign(&result, a, then.span));
        first.append(&mut store);
        let ((), mut store) = self.collect(|this| this.assign(&result, b, otherwise.span));
        second.append(&mut store);
        self.emit(span, StmtKind::If { condition, then: first, otherwise: second });
        result
    }

    fn unary(&mut self, op: UnaryOp, operand: Operand<'a>, span: Span) -> Operand<'a> {
        if operand.is_poison() {
            return operand;
        }
        if op == UnaryOp::Not {
            let value = self.truth(operand, span);
            let value = self.ir.exprs.not(value);
            let ty = self.types.bool();
            return Operand::value(ty, value);
        }
        if let OperandKind::Int(value) = &operand.kind {
            let value = match op {
                UnaryOp::Minus => -value,
                UnaryOp::Complement => -value - 1,
                UnaryOp::Plus | UnaryOp::Not => value.clone(),
            };
            return self.int(value);
        }
        let ty = self.arithmetic_type(operand.ty);
        if !matches!(self.types[ty], TyKind::Bits { .. }) {
            let name = self.types.name(operand.ty);
            return self.bad(span, format!("`{}` needs a number, not `{name}`", op.symbol()));
        }
        let value = self.value_of(&operand, span);
        let value = match op {
            UnaryOp::Minus => self.ir.exprs.unary(ir::UnaryOp::Negate, value),
            UnaryOp::Complement => self.ir.exprs.unary(ir::UnaryOp::Complement, value),
            UnaryOp::Plus | UnaryOp::Not => value,
        };
        Operand::value(ty, value)
    }
}
