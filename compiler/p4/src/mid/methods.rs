//! Methods of the objects of v1model.p4: counters, meters and registers.

use crate::diagnostics::Diagnostic;
use crate::front::ast;
use crate::ir::{DirectMeter, Handle, Primitive, StmtKind, Type};
use crate::source::Span;

use super::lower::{Lower, Part};
use super::operand::{Object, Operand};
use super::scope::{Entity, Scope};
use super::types::Ty;

impl<'a> Lower<'a> {
    /// A call of a method of an extern object.
    #[expect(
        clippy::too_many_arguments,
        reason = "a call consists of that many parts"
    )]
    pub fn call_method(
        &mut self,
        scope: &Scope<'a>,
        object: &Object<'a>,
        _ty: Ty,
        member: &'a ast::Ident,
        type_args: &'a [ast::Type],
        args: &'a [ast::Argument],
        span: Span,
    ) -> Operand<'a> {
        let kind = match object {
            Object::PacketIn => return self.packet_in(scope, member, type_args, args, span),
            Object::PacketOut => return self.packet_out(scope, member, args, span),
            Object::Counter(_) => "counter",
            Object::DirectCounter(_) => "direct_counter",
            Object::Meter(_) => "meter",
            Object::DirectMeter(_) => "direct_meter",
            Object::Register(_) => "register",
            Object::Profile(_) | Object::Block(_) => {
                return self.bad(member.span, format!("there is no method `{member}`"));
            }
        };
        let Some(Entity::Extern(ext)) = self.globals.find(kind) else {
            return self.bad(span, format!("v1model.p4 does not declare `{kind}`"));
        };
        let method = ext
            .methods
            .iter()
            .find(|m| m.proto.name.name == member.name && m.proto.ret.is_some());
        let Some(method) = method else {
            let known: Vec<String> = ext
                .methods
                .iter()
                .filter(|m| m.proto.ret.is_some())
                .map(|m| format!("`{}`", m.proto.name))
                .collect();
            let report =
                Diagnostic::error(member.span, format!("`{kind}` has no method `{member}`"))
                    .with_help(format!("it has {}", known.join(", ")));
            self.report(report);
            return self.poison();
        };
        if !matches!(self.part, Part::Ingress | Part::Egress) {
            self.unsupported(
                span,
                format!("`{kind}` can't be used in {}", self.part.describe()),
            );
            return self.void();
        }
        let inner = self.globals.inside();
        for (position, param) in ext.type_params.iter().enumerate() {
            let known = match object {
                Object::Register(register) if position == 0 => {
                    self.names.registers.get(register).copied()
                }
                Object::DirectMeter(meter) if position == 0 => {
                    self.names.meters.get(meter).copied()
                }
                _ => None,
            };
            let ty = known.unwrap_or_else(|| self.types.unknown());
            inner.put(&param.name, Entity::Type(ty), param.span);
        }
        let what = format!("`{kind}.{member}`");
        let Some(bound) = self.bind(
            scope,
            &inner,
            &what,
            &method.proto.params,
            &method.proto.type_params,
            type_args,
            args,
            span,
        ) else {
            return self.void();
        };
        if bound.values.iter().any(Operand::is_poison) {
            return self.void();
        }
        let arg = |n: usize| bound.values.get(n);
        let at = |n: usize| bound.spans.get(n).copied().unwrap_or(span);
        match (object, member.as_str()) {
            (Object::Counter(counter), "count") => {
                let index = self.argument(arg(0), at(0));
                self.emit(
                    span,
                    StmtKind::Call(Primitive::Count {
                        counter: *counter,
                        index,
                    }),
                );
            }
            // The table counts by itself.
            (Object::DirectCounter(_), "count") => {}
            (Object::Meter(meter), "execute_meter") => {
                let index = self.argument(arg(0), at(0));
                let meter = *meter;
                if let Some(to) = arg(1).cloned() {
                    self.with_result(&to, at(1), |place| Primitive::ExecuteMeter {
                        meter,
                        index,
                        to: place,
                    });
                }
            }
            (Object::DirectMeter(meter), "read") => {
                if let Some(to) = arg(0).cloned() {
                    self.direct_meter(*meter, &to, at(0));
                }
            }
            (Object::Register(register), "read") => {
                let index = self.argument(arg(1), at(1));
                let register = *register;
                if let Some(to) = arg(0).cloned() {
                    self.with_result(&to, span, |place| Primitive::RegisterRead {
                        to: place,
                        register,
                        index,
                    });
                }
            }
            (Object::Register(register), "write") => {
                let (index, value) = (self.argument(arg(0), at(0)), self.argument(arg(1), at(1)));
                self.emit(
                    span,
                    StmtKind::Call(Primitive::RegisterWrite {
                        register: *register,
                        index,
                        value,
                    }),
                );
            }
            _ => self.unsupported(
                span,
                format!("the method `{kind}.{member}` is not supported"),
            ),
        }
        self.void()
    }

    /// The table runs its meter before the action and writes the result to one field, from which each
    /// `read` takes it.
    fn direct_meter(&mut self, meter: Handle<DirectMeter>, to: &Operand<'a>, span: Span) {
        let Some(scalar @ Type::Bits { width, .. }) = self.types.scalar(to.ty) else {
            let name = self.types.name(to.ty);
            self.error(span, format!("the result can't be of type `{name}`"));
            return;
        };
        let target = match self.ir.direct_meters[meter].target {
            Some(target) => target,
            None => {
                let target = self.temporary(Type::bits(width));
                self.ir.direct_meters[meter].target = Some(target);
                self.names.meter_reads.push((meter, span));
                target
            }
        };
        let value = self.read(target);
        let value = self.ir.exprs.cast(scalar, value);
        self.assign(to, Operand::value(to.ty, value), span);
    }

    /// A meter that is read but attached to no table never has a result.
    pub fn check_meters(&mut self) {
        for (meter, span) in self.names.meter_reads.clone() {
            if self.ir.direct_meters[meter].table.is_none() {
                let report = Diagnostic::error(span, "this meter is attached to no table")
                    .with_label(self.ir.direct_meters[meter].span, "this meter")
                    .with_help("write `meters = …;` in the table whose actions read it");
                self.report(report);
            }
        }
    }
}
