//! Packets in the parser and the deparser: extracting, looking ahead, skipping and emitting.

use crate::front::ast;
use crate::ir::{Expr, Handle, HeaderRef, StmtKind, Type};
use crate::source::Span;

use super::lower::{Lower, Part};
use super::operand::{Operand, OperandKind};
use super::scope::Scope;
use super::types::{Ty, TyKind};

/// How many bits a parser may look ahead at once.
const MAX_LOOK: u32 = 65_536;

impl<'a> Lower<'a> {
    pub fn packet_in(
        &mut self,
        scope: &Scope<'a>,
        member: &'a ast::Ident,
        type_args: &'a [ast::Type],
        args: &'a [ast::Argument],
        span: Span,
    ) -> Operand<'a> {
        if self.part != Part::Parser {
            return self.bad(span, "a packet can be read only in the parser");
        }
        match (member.as_str(), args) {
            ("extract", [header]) => self.extract(scope, header, None, type_args, span),
            ("extract", [header, length]) => {
                self.extract(scope, header, Some(length), type_args, span)
            }
            (
                "advance",
                [
                    ast::Argument {
                        value: Some(bits), ..
                    },
                ],
            ) => {
                let operand = self.expr(scope, bits);
                let ty = self.types.bits(32);
                let operand = self.coerce(operand, ty, bits.span);
                let bits = self.argument(Some(&operand), bits.span);
                self.emit(span, StmtKind::Advance(bits));
                self.void()
            }
            ("lookahead", []) => {
                let [ty] = type_args else {
                    return self.bad(
                        span,
                        "`lookahead` needs the type of what is read: `lookahead<…>()`",
                    );
                };
                let resolved = self.resolve_type(scope, ty);
                self.look(resolved, ty.span)
            }
            ("length", []) => {
                self.unsupported(span, "`packet_in.length` is not supported by the target");
                self.poison()
            }
            (other @ ("extract" | "advance" | "lookahead" | "length"), _) => self.bad(
                span,
                format!("`{other}` can't take {} arguments", args.len()),
            ),
            _ => self.bad(member.span, format!("`packet_in` has no method `{member}`")),
        }
    }

    pub fn extract(
        &mut self,
        scope: &Scope<'a>,
        header: &'a ast::Argument,
        length: Option<&'a ast::Argument>,
        type_args: &'a [ast::Type],
        span: Span,
    ) -> Operand<'a> {
        let operand = match &header.value {
            Some(value) => {
                if !self.check_writable(scope, value) {
                    return self.void();
                }
                self.extracted(scope, value)
            }
            None => match type_args {
                [ty] => {
                    let resolved = self.resolve_type(scope, ty);
                    self.variable(resolved, "skipped", ty.span)
                }
                _ => {
                    return self.bad(
                        span,
                        "the type of the header to skip is not known: write `extract<…>(_)`",
                    );
                }
            },
        };
        let to = match operand.kind {
            OperandKind::Header(to) => to,
            OperandKind::Poison => return self.void(),
            _ => {
                let name = self.types.name(operand.ty);
                return self.bad(
                    header.span,
                    format!("only a header can be extracted, not `{name}`"),
                );
            }
        };
        let ty = self.header_type(to);
        let varying = self.ir.header_types[ty]
            .fields
            .iter()
            .any(|f| matches!(f.ty, Type::Varbit(_)));
        let length = match length {
            Some(length) if !varying => {
                return self.bad(length.span, "this header has no field of variable width");
            }
            Some(ast::Argument {
                value: Some(value), ..
            }) => {
                let operand = self.expr(scope, value);
                let ty = self.types.bits(32);
                let operand = self.coerce(operand, ty, value.span);
                Some(self.argument(Some(&operand), value.span))
            }
            Some(_) => return self.bad(span, "the length can't be left out"),
            None if varying => {
                return self.bad(span, "this header has a field of variable width; give its length in bits as a second argument");
            }
            None => None,
        };
        if matches!(to, HeaderRef::Element(..) | HeaderRef::Last(_)) {
            return self.bad(
                header.span,
                "a header can't be extracted here; use `next` or a constant index",
            );
        }
        self.emit(span, StmtKind::Extract { to, length });
        self.void()
    }

    /// What is extracted into: the only place where `next` of a stack may stand.
    fn extracted(&mut self, scope: &Scope<'a>, value: &'a ast::Expr) -> Operand<'a> {
        if let ast::ExprKind::Member { base, member } = &value.kind
            && member.as_str() == "next"
        {
            let operand = self.expr(scope, base);
            if let (OperandKind::Stack(stack), TyKind::Stack(element, _)) =
                (&operand.kind, &self.types[operand.ty])
            {
                return Operand::new(*element, OperandKind::Header(HeaderRef::Next(*stack)));
            }
        }
        self.expr(scope, value)
    }

    /// What lies ahead in the packet, as a value of the type. It is read as one number, so that a
    /// packet that does not hold all of it is an error and one that holds it is not.
    pub fn look(&mut self, ty: Ty, span: Span) -> Operand<'a> {
        let mut width = 0;
        if !self.look_width(ty, &mut width, span) {
            return self.poison();
        }
        if width > MAX_LOOK {
            self.unsupported(
                span,
                format!("`lookahead` of more than {MAX_LOOK} bits is not supported"),
            );
            return self.poison();
        }
        let to = self.temporary(Type::bits(width));
        self.emit(span, StmtKind::Lookahead { to, width });
        if self.types.scalar(ty) == Some(Type::bits(width)) {
            return Operand::new(ty, OperandKind::Place(to));
        }
        let whole = self.read(to);
        self.look_part(ty, whole, &mut width)
    }

    /// Adds the width of a type that can be looked ahead at; false, with an error, for others.
    fn look_width(&mut self, ty: Ty, width: &mut u32, span: Span) -> bool {
        match self.types[ty].clone() {
            TyKind::Struct(_) | TyKind::Header(_) => {
                let fields = self.types.fields(ty).map(<[_]>::to_vec).unwrap_or_default();
                fields.iter().all(|f| self.look_width(f.ty, width, span))
            }
            TyKind::Tuple(types) => types.iter().all(|ty| self.look_width(*ty, width, span)),
            TyKind::Unknown => false,
            _ => match self.types.scalar(ty) {
                Some(scalar @ (Type::Bool | Type::Bits { .. })) if scalar.width() > 0 => {
                    *width = width.saturating_add(scalar.width());
                    true
                }
                _ => {
                    let name = self.types.name(ty);
                    self.error(
                        span,
                        format!("`lookahead` can't read a value of type `{name}`"),
                    );
                    false
                }
            },
        }
    }

    /// The value of the type whose first bit is the highest of the lowest `left` bits.
    fn look_part(&mut self, ty: Ty, whole: Handle<Expr>, left: &mut u32) -> Operand<'a> {
        match self.types[ty].clone() {
            TyKind::Struct(_) | TyKind::Header(_) => {
                let fields = self.types.fields(ty).map(<[_]>::to_vec).unwrap_or_default();
                let parts = fields
                    .iter()
                    .map(|f| self.look_part(f.ty, whole, left))
                    .collect();
                let kind = match self.types[ty] {
                    TyKind::Header(_) => OperandKind::HeaderValue(Some(parts)),
                    _ => OperandKind::Parts(parts),
                };
                Operand::new(ty, kind)
            }
            TyKind::Tuple(types) => {
                let parts = types
                    .iter()
                    .map(|ty| self.look_part(*ty, whole, left))
                    .collect();
                Operand::new(ty, OperandKind::Parts(parts))
            }
            _ => {
                let Some(scalar) = self.types.scalar(ty) else {
                    return self.poison();
                };
                let low = left.saturating_sub(scalar.width());
                let bits = self.ir.exprs.slice(whole, left.saturating_sub(1), low);
                *left = low;
                let value = self.ir.exprs.cast(scalar, bits);
                Operand::value(ty, value)
            }
        }
    }

    pub fn packet_out(
        &mut self,
        scope: &Scope<'a>,
        member: &'a ast::Ident,
        args: &'a [ast::Argument],
        span: Span,
    ) -> Operand<'a> {
        let (
            "emit",
            [
                ast::Argument {
                    value: Some(value), ..
                },
            ],
        ) = (member.as_str(), args)
        else {
            return self.bad(
                span,
                "`packet_out` has only the method `emit`, with one argument",
            );
        };
        if self.part != Part::Deparser {
            return self.bad(span, "a packet can be written only in the deparser");
        }
        let operand = self.expr(scope, value);
        self.emit_operand(&operand, value.span);
        self.void()
    }

    pub fn emit_operand(&mut self, operand: &Operand<'a>, span: Span) {
        match &operand.kind {
            OperandKind::Parts(parts) => {
                for part in parts {
                    self.emit_operand(part, span);
                }
            }
            OperandKind::Header(HeaderRef::Instance(header)) => {
                self.emit(span, StmtKind::Emit(*header))
            }
            OperandKind::Stack(stack) => {
                for element in self.ir.stacks[*stack].elements.clone() {
                    self.emit(span, StmtKind::Emit(element));
                }
            }
            OperandKind::Union(union) => {
                for member in self.ir.unions[*union].members.clone() {
                    self.emit(span, StmtKind::Emit(member));
                }
            }
            OperandKind::Poison => {}
            _ => {
                let name = self.types.name(operand.ty);
                self.error(span, format!("only headers can be emitted, not `{name}`"));
            }
        }
    }
}
