//! Variables: where values of every type are kept, and how they are copied.

use std::sync::Arc;

use num_bigint::BigInt;

use crate::ir::{
    self, BinaryOp, Handle, Header, HeaderRef, HeaderType, Stack, StmtKind, Type, Union, UnionType,
    mask_of,
};
use crate::source::Span;

use super::lower::Lower;
use super::operand::{Operand, OperandKind};
use super::types::{FieldDef, Ty, TyKind};

impl<'a> Lower<'a> {
    /// A new variable. Its name is made unique.
    pub fn variable(&mut self, ty: Ty, name: &str, span: Span) -> Operand<'a> {
        if !self.goes_on(span) {
            return self.poison();
        }
        let kind = match self.types[ty].clone() {
            TyKind::Struct(_) => {
                let fields = self.types.fields(ty).map(<[_]>::to_vec).unwrap_or_default();
                let parts = fields
                    .iter()
                    .map(|f| self.variable(f.ty, &format!("{name}.{}", f.name), span))
                    .collect();
                OperandKind::Parts(parts)
            }
            TyKind::Tuple(types) => {
                let parts = types
                    .iter()
                    .enumerate()
                    .map(|(n, ty)| self.variable(*ty, &format!("{name}.f{n}"), span))
                    .collect();
                OperandKind::Parts(parts)
            }
            TyKind::Header(_) => {
                OperandKind::Header(HeaderRef::Instance(self.new_header(ty, name, span)))
            }
            TyKind::Union(_) => OperandKind::Union(self.new_union(ty, name, span)),
            TyKind::Stack(element, size) => match self.new_stack(element, size, name, span) {
                Some(stack) => OperandKind::Stack(stack),
                None => return self.poison(),
            },
            TyKind::Unknown => return self.poison(),
            _ => match self.types.scalar(ty) {
                Some(Type::Varbit(_)) => {
                    self.unsupported(
                        span,
                        "variables of variable width are not supported outside of headers",
                    );
                    return self.poison();
                }
                Some(Type::Bits { width: 0, .. }) => {
                    self.unsupported(span, "variables of no bits are not supported");
                    return self.poison();
                }
                Some(scalar) => OperandKind::Place(self.scalar(name, scalar)),
                None => {
                    let ty_name = self.types.name(ty);
                    return self.bad(
                        span,
                        format!("there can't be a variable of type `{ty_name}`"),
                    );
                }
            },
        };
        Operand::new(ty, kind)
    }

    /// A new header, not in any packet yet.
    pub fn new_header(&mut self, ty: Ty, name: &str, span: Span) -> Handle<Header> {
        let ty = self.flat_type(ty, span);
        let name = self.header_names.give(name);
        self.ir.headers.append(Header {
            name,
            ty,
            metadata: false,
        })
    }

    fn new_union(&mut self, ty: Ty, name: &str, span: Span) -> Handle<Union> {
        let fields = self.types.fields(ty).map(<[_]>::to_vec).unwrap_or_default();
        let union_ty = match self.names.union_types.get(&ty).copied() {
            Some(known) => known,
            None => {
                let members = fields
                    .iter()
                    .map(|f| (Arc::clone(&f.name), self.flat_type(f.ty, span)))
                    .collect();
                let wanted = self
                    .types
                    .structure(ty)
                    .map(|s| Arc::clone(&s.control_plane_name))
                    .unwrap_or_default();
                let name = self.names.union_type_names.give(&wanted);
                let made = self.ir.union_types.append(UnionType { name, members });
                self.names.union_types.insert(ty, made);
                made
            }
        };
        let name = self.header_names.give(name);
        let members = fields
            .iter()
            .map(|f| self.new_header(f.ty, &format!("{name}.{}", f.name), span))
            .collect();
        self.ir.unions.append(Union {
            name,
            ty: union_ty,
            members,
        })
    }

    fn new_stack(
        &mut self,
        element: Ty,
        size: u32,
        name: &str,
        span: Span,
    ) -> Option<Handle<Stack>> {
        if let TyKind::Union(_) = self.types[element] {
            self.unsupported(span, "stacks of header unions are not supported");
            return None;
        }
        let ty = self.flat_type(element, span);
        let name = self.header_names.give(name);
        let elements = (0..size)
            .map(|n| self.new_header(element, &format!("{name}[{n}]"), span))
            .collect();
        Some(self.ir.stacks.append(Stack { name, ty, elements }))
    }

    /// The flat form of a header's type. Types of one name, in different places or of one generic
    /// type, stay apart.
    pub fn flat_type(&mut self, ty: Ty, span: Span) -> Handle<HeaderType> {
        let Some(def) = self.types.structure(ty).cloned() else {
            return self.ir.headers[self.ir.scalars].ty;
        };
        if let Some(known) = self.names.flat_types.get(&ty) {
            return *known;
        }
        let mut fields = Vec::new();
        self.flatten("", &def.fields, &mut fields);
        let bits: u64 = fields.iter().map(|f| u64::from(f.ty.width())).sum();
        if !bits.is_multiple_of(8) {
            self.report(
                crate::diagnostics::Diagnostic::error(
                    def.span,
                    format!(
                        "the header `{}` has {bits} bits, which is no whole number of bytes",
                        def.name
                    ),
                )
                .with_code("unsupported")
                .with_help(format!("add a field of {} bits", 8 - bits % 8)),
            );
        }
        if fields
            .iter()
            .filter(|f| matches!(f.ty, Type::Varbit(_)))
            .count()
            > 1
        {
            self.unsupported(
                span,
                format!(
                    "the header `{}` has more than one field of variable width",
                    def.name
                ),
            );
        }
        let name = self.names.header_type_names.give(&def.control_plane_name);
        let made = self.ir.header_types.append(HeaderType { name, fields });
        self.names.flat_types.insert(ty, made);
        made
    }

    fn flatten(&mut self, prefix: &str, fields: &[FieldDef], out: &mut Vec<ir::Field>) {
        for field in fields {
            let name = format!("{prefix}{}", field.name);
            if let TyKind::Struct(_) = self.types[field.ty] {
                let inner = self
                    .types
                    .fields(field.ty)
                    .map(<[_]>::to_vec)
                    .unwrap_or_default();
                self.flatten(&format!("{name}."), &inner, out);
            } else if let Some(ty) = self.types.scalar(field.ty) {
                let alias = super::annotation::string_annotation(&field.annotations, "alias");
                out.push(ir::Field {
                    name: name.into(),
                    ty,
                    alias,
                });
            }
        }
    }

    /// Copies a value into a place. Both have the same type, or the value is of `int`.
    pub fn assign(&mut self, to: &Operand<'a>, from: Operand<'a>, span: Span) {
        if to.is_poison() || from.is_poison() || *to == from {
            return;
        }
        match (&to.kind, &from.kind) {
            (OperandKind::Place(place), _) => {
                let value = self.value_of(&from, span);
                if self.ir.exprs.ty(value) != self.place_type(*place) {
                    return;
                }
                self.emit(span, StmtKind::Assign { to: *place, value });
            }
            (OperandKind::Slice(place, hi, lo), _) => {
                let ty = self.place_type(*place);
                let value = self.value_of(&from, span);
                let whole = self.read(*place);
                let window = mask_of(hi - lo + 1) << *lo;
                let keep = self.ir.exprs.number(&(mask_of(ty.width()) - &window), ty);
                let kept = self.ir.exprs.binary(BinaryOp::And, whole, keep);
                let wide = self.ir.exprs.cast(Type::bits(ty.width()), value);
                let wide = self.ir.exprs.cast(ty, wide);
                let by = self.ir.exprs.bits(u64::from(*lo), 32);
                let moved = self.ir.exprs.binary(BinaryOp::Shl, wide, by);
                let value = self.ir.exprs.binary(BinaryOp::Or, kept, moved);
                self.emit(span, StmtKind::Assign { to: *place, value });
            }
            (OperandKind::Header(to), OperandKind::Header(from)) => {
                self.emit(
                    span,
                    StmtKind::CopyHeader {
                        to: *to,
                        from: *from,
                    },
                );
            }
            (OperandKind::Header(header), OperandKind::HeaderValue(None)) => {
                self.emit(span, StmtKind::SetInvalid(*header));
            }
            (OperandKind::Header(header), OperandKind::HeaderValue(Some(fields))) => {
                let fields = self.apart(to, fields, span);
                self.emit(span, StmtKind::SetValid(*header));
                for (position, field) in fields.into_iter().enumerate() {
                    let place = self.nth_field(to.clone(), position, span);
                    self.assign(&place, field, span);
                }
            }
            (OperandKind::Parts(places), OperandKind::Parts(values)) => {
                let values = self.apart(to, values, span);
                for (place, value) in places.clone().iter().zip(values) {
                    self.assign(place, value, span);
                }
            }
            (OperandKind::Stack(to), OperandKind::Stack(from)) => {
                self.emit(
                    span,
                    StmtKind::CopyStack {
                        to: *to,
                        from: *from,
                    },
                );
            }
            (OperandKind::Union(to), OperandKind::Union(from)) => {
                self.emit(
                    span,
                    StmtKind::CopyUnion {
                        to: *to,
                        from: *from,
                    },
                );
            }
            (OperandKind::Union(union), OperandKind::HeaderValue(None)) => {
                for member in self.ir.unions[*union].members.clone() {
                    self.emit(span, StmtKind::SetInvalid(HeaderRef::Instance(member)));
                }
            }
            _ => self.unsupported(span, "this assignment is not supported"),
        }
    }

    /// The values, saved first if writing `to` piece by piece would change one not yet read.
    fn apart(&mut self, to: &Operand<'a>, values: &[Operand<'a>], span: Span) -> Vec<Operand<'a>> {
        let writes = self.reads_of(to);
        if values
            .iter()
            .any(|value| self.reads_of(value).overlaps(&writes))
        {
            return values.iter().map(|value| self.save(value, span)).collect();
        }
        values.to_vec()
    }

    /// A copy of the operand that nothing else can change.
    pub fn save(&mut self, operand: &Operand<'a>, span: Span) -> Operand<'a> {
        self.save_as(operand, "tmp", span)
    }

    /// A copy of the operand, in a variable of this name.
    pub fn save_as(&mut self, operand: &Operand<'a>, name: &str, span: Span) -> Operand<'a> {
        if self.is_constant(operand) || operand.is_poison() {
            return operand.clone();
        }
        match &operand.kind {
            OperandKind::Value(value) if matches!(self.ir.exprs[*value], ir::Expr::Param(..)) => {
                operand.clone()
            }
            OperandKind::Parts(parts) => {
                let parts = parts
                    .iter()
                    .map(|part| self.save_as(part, name, span))
                    .collect();
                Operand::new(operand.ty, OperandKind::Parts(parts))
            }
            OperandKind::HeaderValue(Some(parts)) => {
                let parts = parts
                    .iter()
                    .map(|part| self.save_as(part, name, span))
                    .collect();
                Operand::new(operand.ty, OperandKind::HeaderValue(Some(parts)))
            }
            OperandKind::Record(fields, dots) => {
                let fields = fields
                    .iter()
                    .map(|(n, value, at)| (Arc::clone(n), self.save_as(value, name, *at), *at))
                    .collect();
                Operand::new(operand.ty, OperandKind::Record(fields, *dots))
            }
            OperandKind::OpenList(parts) => {
                let parts = parts
                    .iter()
                    .map(|part| self.save_as(part, name, span))
                    .collect();
                Operand::new(operand.ty, OperandKind::OpenList(parts))
            }
            OperandKind::Object(_) => operand.clone(),
            _ => {
                let copy = self.variable(operand.ty, name, span);
                self.assign(&copy, operand.clone(), span);
                copy
            }
        }
    }

    /// A place whose header is chosen now and not when it is used.
    pub fn pin(&mut self, operand: Operand<'a>, span: Span) -> Operand<'a> {
        match operand.kind {
            OperandKind::Header(HeaderRef::Element(stack, index)) => {
                let index = self.pin_index(index, span);
                Operand::new(
                    operand.ty,
                    OperandKind::Header(HeaderRef::Element(stack, index)),
                )
            }
            OperandKind::Place(place) => {
                let place = self.pin_place(place, span);
                Operand::new(operand.ty, OperandKind::Place(place))
            }
            OperandKind::Slice(place, hi, lo) => {
                let place = self.pin_place(place, span);
                Operand::new(operand.ty, OperandKind::Slice(place, hi, lo))
            }
            OperandKind::Parts(parts) => {
                let parts = parts.into_iter().map(|part| self.pin(part, span)).collect();
                Operand::new(operand.ty, OperandKind::Parts(parts))
            }
            _ => operand,
        }
    }

    /// Chooses a place's header before the statements from `mark` on, which may change its index. How
    /// many statements that took.
    pub fn pin_before(&mut self, place: &mut Operand<'a>, mark: usize, span: Span) -> usize {
        if mark >= self.block.len() {
            return 0;
        }
        let (pinned, mut pinning) = self.collect(|this| this.pin(place.clone(), span));
        *place = pinned;
        let taken = pinning.len();
        let later = self.block.split_off(mark);
        self.block.append(&mut pinning);
        self.block.extend(later);
        taken
    }

    fn pin_place(&mut self, place: ir::Place, span: Span) -> ir::Place {
        match place.header {
            HeaderRef::Element(stack, index) => {
                let index = self.pin_index(index, span);
                ir::Place {
                    header: HeaderRef::Element(stack, index),
                    ..place
                }
            }
            _ => place,
        }
    }

    fn pin_index(&mut self, index: Handle<ir::Expr>, span: Span) -> Handle<ir::Expr> {
        if self.ir.exprs.is_constant(index) || matches!(self.ir.exprs[index], ir::Expr::Param(..)) {
            return index;
        }
        let ty = self.ir.exprs.ty(index);
        let kept = self.temporary(ty);
        self.emit(
            span,
            StmtKind::Assign {
                to: kept,
                value: index,
            },
        );
        self.read(kept)
    }

    /// Gives the headers in a new `out` parameter their first state: invalid.
    pub fn invalidate(&mut self, operand: &Operand<'a>, span: Span) {
        let mut headers = Vec::new();
        operand.leaves(&mut |leaf| match &leaf.kind {
            OperandKind::Header(header) => headers.push(*header),
            OperandKind::Stack(stack) => {
                headers.extend(
                    self.ir.stacks[*stack]
                        .elements
                        .iter()
                        .map(|h| HeaderRef::Instance(*h)),
                );
            }
            OperandKind::Union(union) => {
                headers.extend(
                    self.ir.unions[*union]
                        .members
                        .iter()
                        .map(|h| HeaderRef::Instance(*h)),
                );
            }
            _ => {}
        });
        for header in headers {
            self.emit(span, StmtKind::SetInvalid(header));
        }
    }

    /// A number of `width` bits.
    pub fn number(&mut self, value: u64, width: u32) -> Handle<ir::Expr> {
        self.ir
            .exprs
            .number(&BigInt::from(value), Type::bits(width))
    }
}
