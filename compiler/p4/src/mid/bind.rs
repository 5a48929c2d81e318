//! Which parameter takes which argument, and how it is passed: by reference where nobody can tell,
//! otherwise copied in and out as section 6.8 wants.

use crate::diagnostics::Diagnostic;
use crate::front::ast::{self, Direction, ExprKind, TypeKind};
use crate::ir::{Expr, StmtKind};
use crate::source::Span;

use super::effects::Footprint;
use super::lower::Lower;
use super::operand::{Operand, OperandKind};
use super::scope::{Entity, Scope};
use super::types::TyKind;

/// The arguments of a call, one for each parameter.
pub struct Bound<'a> {
    pub values: Vec<Operand<'a>>,
    pub spans: Vec<Span>,
    /// What the type parameters stand for.
    pub types: Scope<'a>,
}

/// What to do when a call is over: these places take these values.
pub type CopyOut<'a> = Vec<(Operand<'a>, Operand<'a>)>;

impl<'a> Lower<'a> {
    /// Gives each parameter its argument.
    #[expect(
        clippy::too_many_arguments,
        reason = "a call consists of that many parts"
    )]
    pub fn bind(
        &mut self,
        scope: &Scope<'a>,
        declared_in: &Scope<'a>,
        what: &str,
        params: &'a [ast::Param],
        type_params: &'a [ast::Ident],
        type_args: &'a [ast::Type],
        args: &'a [ast::Argument],
        span: Span,
    ) -> Option<Bound<'a>> {
        let types = declared_in.inside();
        if type_args.len() > type_params.len()
            || (!type_args.is_empty() && type_args.len() < type_params.len())
        {
            self.error(
                span,
                format!(
                    "{what} has {} type parameters, {} are given",
                    type_params.len(),
                    type_args.len()
                ),
            );
            return None;
        }
        for (param, arg) in type_params.iter().zip(type_args) {
            let ty = self.resolve_type(scope, arg);
            types.put(&param.name, Entity::Type(ty), param.span);
        }
        let mut slots: Vec<Option<&'a ast::Argument>> = vec![None; params.len()];
        for (position, arg) in args.iter().enumerate() {
            let slot = match &arg.name {
                Some(name) => params.iter().position(|p| p.name.name == name.name),
                None => Some(position),
            };
            let Some(slot) = slot.and_then(|slot| slots.get_mut(slot)) else {
                let message = match &arg.name {
                    Some(name) => format!("{what} has no parameter `{name}`"),
                    None => format!(
                        "{what} takes {} arguments, {} are given",
                        params.len(),
                        args.len()
                    ),
                };
                self.error(arg.span, message);
                return None;
            };
            if slot.is_some() {
                self.error(arg.span, "this parameter is given twice");
                return None;
            }
            *slot = Some(arg);
        }
        let mut values: Vec<Option<Operand<'a>>> = Vec::new();
        let mut spans = Vec::new();
        for (param, slot) in params.iter().zip(&slots) {
            let mut mark = self.block.len();
            let at = slot.map_or(span, |arg| arg.span);
            let value = match slot {
                Some(ast::Argument {
                    value: Some(value), ..
                }) => {
                    let written = matches!(param.direction, Direction::Out | Direction::InOut);
                    if written && !self.check_writable(scope, value) {
                        return None;
                    }
                    Some(self.expr(scope, value))
                }
                Some(_) => None,
                None => match &param.default {
                    Some(default) => {
                        let globals = self.globals.clone();
                        Some(self.expr(&globals, default))
                    }
                    None if param
                        .annotations
                        .iter()
                        .any(|a| a.name.as_str() == "optional") =>
                    {
                        let ty = self.types.unknown();
                        Some(Operand::new(ty, OperandKind::Default))
                    }
                    None => {
                        let report = Diagnostic::error(
                            span,
                            format!("the argument for `{}` is missing", param.name),
                        )
                        .with_label(param.span, "this parameter");
                        self.report(report);
                        return None;
                    }
                },
            };
            for (earlier, param) in values.iter_mut().zip(params) {
                match (earlier.as_mut(), param.direction) {
                    (Some(value), Direction::In | Direction::None) => {
                        *value = self.protect(value.clone(), mark, at);
                    }
                    (Some(value), Direction::Out | Direction::InOut) => {
                        mark += self.pin_before(value, mark, at);
                    }
                    (None, _) => {}
                }
            }
            values.push(value);
            spans.push(at);
        }
        self.infer(params, type_params, &types, &values);
        let mut out = Vec::with_capacity(values.len());
        for ((param, value), at) in params.iter().zip(values).zip(&spans) {
            let ty = self.resolve_type(&types, &param.ty);
            out.push(match value {
                Some(value)
                    if matches!(value.kind, OperandKind::Object(_) | OperandKind::Default) =>
                {
                    value
                }
                Some(value) => {
                    let value = self.coerce(value, ty, *at);
                    if matches!(param.direction, Direction::Out | Direction::InOut)
                        && !value.is_lvalue()
                    {
                        let report =
                            Diagnostic::error(*at, "this can't be written").with_note_here(
                                format!("`{}` of {what} is written by the call", param.name),
                            );
                        self.report(report);
                        return None;
                    }
                    value
                }
                None if param.direction == Direction::Out => {
                    self.variable(ty, param.name.as_str(), *at)
                }
                None => self.bad(*at, format!("`_` can't be given for `{}`", param.name)),
            });
        }
        Some(Bound {
            values: out,
            spans,
            types,
        })
    }

    /// What type parameters stand for where that was not written.
    pub fn infer(
        &mut self,
        params: &'a [ast::Param],
        type_params: &'a [ast::Ident],
        types: &Scope<'a>,
        values: &[Option<Operand<'a>>],
    ) {
        for type_param in type_params {
            if types.find_here(type_param.as_str()).is_some() {
                continue;
            }
            let mut found = None;
            for (param, value) in params.iter().zip(values) {
                let TypeKind::Named { path, args } = &param.ty.kind else {
                    continue;
                };
                let Some(value) = value else { continue };
                if path.name.name != type_param.name || !args.is_empty() || value.is_poison() {
                    continue;
                }
                let open = matches!(value.kind, OperandKind::Int(_))
                    || matches!(self.types[value.ty], TyKind::Unknown);
                if found.is_none() || !open {
                    found = Some(value.ty);
                    if !open {
                        break;
                    }
                }
            }
            let ty = found.unwrap_or_else(|| self.types.unknown());
            types.put(&type_param.name, Entity::Type(ty), type_param.span);
        }
    }

    /// Refuses to write to constants, `in` parameters and the like; whether writing is allowed.
    pub fn check_writable(&mut self, scope: &Scope<'a>, expr: &'a ast::Expr) -> bool {
        match &expr.kind {
            ExprKind::Path(path) => {
                if let Some(Entity::Value(_, Some(reason))) = scope.find(path.name.as_str()) {
                    self.error(
                        expr.span,
                        format!("`{}` is {reason} and can't be written", path.name),
                    );
                    return false;
                }
                true
            }
            ExprKind::Member { base, .. }
            | ExprKind::Index { base, .. }
            | ExprKind::Slice { base, .. }
            | ExprKind::PlusSlice { base, .. } => self.check_writable(scope, base),
            _ => true,
        }
    }

    /// Whether it costs nothing to write the operand out each time it is used.
    pub fn is_simple(&self, operand: &Operand<'a>) -> bool {
        let mut simple = true;
        operand.leaves(&mut |leaf| {
            if let OperandKind::Value(value) = leaf.kind {
                simple &= matches!(
                    self.ir.exprs[value],
                    Expr::Const { .. }
                        | Expr::Bool(_)
                        | Expr::Param(..)
                        | Expr::Read(_)
                        | Expr::IsValid(_)
                );
            }
        });
        simple
    }

    /// Arguments as the callee sees them, and what to copy back. By reference where nobody can tell.
    pub fn pass(
        &mut self,
        params: &'a [ast::Param],
        bound: &Bound<'a>,
        copy_outputs: bool,
    ) -> (Vec<Operand<'a>>, CopyOut<'a>) {
        let footprints: Vec<Footprint> = bound
            .values
            .iter()
            .map(|value| self.reads_of(value))
            .collect();
        let overlaps = |position: usize, outputs_only: bool| {
            footprints
                .iter()
                .zip(params)
                .enumerate()
                .any(|(other, (footprint, param))| {
                    let is_output = matches!(param.direction, Direction::Out | Direction::InOut);
                    other != position
                        && (is_output || !outputs_only)
                        && footprints
                            .get(position)
                            .is_some_and(|mine| mine.overlaps(footprint))
                })
        };
        let mut values = Vec::new();
        let mut copies = Vec::new();
        for (position, (param, (value, span))) in params
            .iter()
            .zip(bound.values.iter().zip(&bound.spans))
            .enumerate()
        {
            let name = self.qualified(param.name.as_str());
            values.push(match param.direction {
                Direction::None if matches!(value.kind, OperandKind::Object(_)) => value.clone(),
                Direction::None | Direction::In => {
                    if self.is_simple(value) && !overlaps(position, true) {
                        value.clone()
                    } else {
                        self.save_as(value, &name, *span)
                    }
                }
                Direction::Out | Direction::InOut => {
                    let place = self.pin(value.clone(), *span);
                    if copy_outputs
                        || overlaps(position, false)
                        || matches!(value.kind, OperandKind::Slice(..))
                    {
                        let copy = self.variable(value.ty, &name, *span);
                        if param.direction == Direction::InOut {
                            self.assign(&copy, value.clone(), *span);
                        } else {
                            self.invalidate(&copy, *span);
                        }
                        copies.push((place, copy.clone()));
                        copy
                    } else {
                        if param.direction == Direction::Out {
                            self.invalidate(&place, *span);
                        }
                        place
                    }
                }
            });
        }
        (values, copies)
    }

    pub fn copy_out(&mut self, copies: CopyOut<'a>, span: Span) {
        for (place, value) in copies {
            self.assign(&place, value, span);
        }
    }

    /// Copies out what the innermost call has pending: it is over.
    pub fn copy_out_last(&mut self, span: Span) {
        let Some(copies) = self.pending.pop() else {
            return;
        };
        // `exit` has copied them out.
        if !matches!(
            self.block.last().map(|stmt| &stmt.kind),
            Some(StmtKind::Exit)
        ) {
            self.copy_out(copies, span);
        }
    }

    /// A parameter in the scope of its body.
    pub fn put_param(&mut self, scope: &Scope<'a>, param: &'a ast::Param, value: Operand<'a>) {
        let reason = match param.direction {
            Direction::In => Some("an `in` parameter"),
            Direction::None => Some("a parameter without direction"),
            Direction::Out | Direction::InOut => None,
        };
        let entity = match value.kind {
            OperandKind::Object(object) => Entity::Object(object),
            _ => Entity::Value(value, reason),
        };
        self.declare(scope, &param.name, entity);
    }
}
