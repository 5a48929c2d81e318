//! Calls: which parameter takes which argument, and how functions, actions and blocks are put in the
//! place of their calls so that arguments are copied in and out as section 6.8 wants.

use std::rc::Rc;
use std::sync::Arc;

use crate::diagnostics::Diagnostic;
use crate::front::ast::{self, Direction, ExprKind, TypeKind};
use crate::ir::{Block, Expr, Label, Stmt, StmtKind};
use crate::source::Span;

use super::effects::Footprint;
use super::lower::{Inside, Lower, Part, ReturnTarget};
use super::operand::{Object, Operand, OperandKind};
use super::scope::{ActionDef, BlockInstance, Entity, FunctionDef, Scope, TableDef};
use super::types::{Ty, TyKind};

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
    /// `callee(args)` as an expression or a statement.
    pub fn call(
        &mut self,
        scope: &Scope<'a>,
        callee: &'a ast::Expr,
        type_args: &'a [ast::Type],
        args: &'a [ast::Argument],
        span: Span,
    ) -> Operand<'a> {
        match &callee.kind {
            ExprKind::Path(path) => match self.lookup(scope, path) {
                Some(Entity::Functions(functions)) => self.call_function(scope, &functions, path, type_args, args, span),
                Some(Entity::Action(action)) => {
                    self.call_action(scope, &action, args, span);
                    self.void()
                }
                Some(Entity::Extern(_) | Entity::Parser(..) | Entity::Control(..) | Entity::Package(..)) => {
                    self.construct_expr(scope, path, type_args, args, span)
                }
                Some(Entity::Poison) | None => self.poison(),
                Some(other) => self.bad(path.span, format!("`{}` is {} and can't be called", path.name, other.describe())),
            },
            ExprKind::Member { base, member } => self.call_member(scope, base, member, type_args, args, span),
            ExprKind::Type(ty) => {
                if let TypeKind::Named { path, args: type_args } = &ty.kind {
                    return self.construct_expr(scope, path, type_args, args, span);
                }
                self.bad(callee.span, "this can't be called")
            }
            _ => self.bad(callee.span, "this can't be called"),
        }
    }

    pub fn void(&mut self) -> Operand<'a> {
        let ty = self.types.make(TyKind::Void);
        Operand::new(ty, OperandKind::Parts(Vec::new()))
    }

    fn construct_expr(
        &mut self,
        scope: &Scope<'a>,
        path: &'a ast::Path,
        type_args: &'a [ast::Type],
        args: &'a [ast::Argument],
        span: Span,
    ) -> Operand<'a> {
        let name = self.qualified(path.name.as_str());
        match self.construct(scope, path, type_args, args, &name, Vec::new(), span) {
            Some(object) => {
                let ty = self.types.unknown();
                Operand::new(ty, OperandKind::Object(object))
            }
            None => self.poison(),
        }
    }

    /// The table, if the callee is `table.apply`.
    pub fn applied_table(&mut self, scope: &Scope<'a>, callee: &'a ast::Expr) -> Option<Rc<TableDef<'a>>> {
        let ExprKind::Member { base, member } = &callee.kind else { return None };
        let ExprKind::Path(path) = &base.kind else { return None };
        match scope.find(path.name.as_str()) {
            Some(Entity::Table(table)) if member.as_str() == "apply" => Some(table),
            _ => None,
        }
    }

    fn call_member(
        &mut self,
        scope: &Scope<'a>,
        base: &'a ast::Expr,
        member: &'a ast::Ident,
        type_args: &'a [ast::Type],
        args: &'a [ast::Argument],
        span: Span,
    ) -> Operand<'a> {
        if let ExprKind::Path(path) = &base.kind {
            match scope.find(path.name.as_str()) {
                Some(Entity::Table(table)) => {
                    if member.as_str() == "apply" {
                        self.apply_table(&table, args, span, crate::ir::After::Nothing);
                    } else {
                        self.error(member.span, format!("a table has no method `{member}`"));
                    }
                    return self.void();
                }
                Some(Entity::Control(..) | Entity::Parser(..)) if member.as_str() == "apply" => {
                    let name = self.qualified(path.name.as_str());
                    if let Some(Object::Block(block)) = self.construct(scope, path, &[], &[], &name, Vec::new(), span) {
                        self.note_instance(&block);
                        self.apply_block(scope, &block, args, span);
                    }
                    return self.void();
                }
                Some(Entity::Type(ty)) => return self.type_method(ty, member, span),
                _ => {}
            }
        }
        if let ExprKind::Type(ty) = &base.kind {
            let ty = self.resolve_type(scope, ty);
            return self.type_method(ty, member, span);
        }
        let operand = self.expr(scope, base);
        match operand.kind.clone() {
            OperandKind::Poison => self.poison(),
            OperandKind::Object(Object::Block(block)) => {
                if member.as_str() == "apply" {
                    self.apply_block(scope, &block, args, span);
                    self.void()
                } else {
                    self.bad(member.span, format!("there is no method `{member}`"))
                }
            }
            OperandKind::Object(object) => self.call_method(scope, &object, operand.ty, member, type_args, args, span),
            _ => self.builtin_method(scope, operand, base.span, member, args, span),
        }
    }

    /// `T.minSizeInBits()` and its kin (section 9).
    fn type_method(&mut self, ty: Ty, member: &ast::Ident, span: Span) -> Operand<'a> {
        let (bits, bytes) = match member.as_str() {
            "minSizeInBits" => (self.types.least_size_in_bits(ty), false),
            "maxSizeInBits" => (self.types.size_in_bits(ty), false),
            "minSizeInBytes" => (self.types.least_size_in_bits(ty), true),
            "maxSizeInBytes" => (self.types.size_in_bits(ty), true),
            _ => {
                let name = self.types.name(ty);
                return self.bad(member.span, format!("the type `{name}` has no method `{member}`"));
            }
        };
        match bits {
            Some(bits) => self.int(if bytes { bits.div_ceil(8) } else { bits }.into()),
            None => {
                let name = self.types.name(ty);
                self.bad(span, format!("`{name}` has no size"))
            }
        }
    }

    /// Methods of headers, stacks and unions.
    fn builtin_method(
        &mut self,
        scope: &Scope<'a>,
        operand: Operand<'a>,
        base_span: Span,
        member: &ast::Ident,
        args: &'a [ast::Argument],
        span: Span,
    ) -> Operand<'a> {
        let count_wanted = usize::from(matches!(member.as_str(), "push_front" | "pop_front"));
        match (&operand.kind, member.as_str()) {
            (OperandKind::Header(_) | OperandKind::HeaderValue(_) | OperandKind::Union(_), "isValid") => {
                let value = self.validity(&operand).unwrap_or_else(|| self.ir.exprs.bool(false));
                let ty = self.types.bool();
                self.no_arguments(args, count_wanted, member);
                return Operand::value(ty, value);
            }
            (OperandKind::Header(header), "setValid") => self.emit(span, StmtKind::SetValid(*header)),
            (OperandKind::Header(header), "setInvalid") => self.emit(span, StmtKind::SetInvalid(*header)),
            (OperandKind::Stack(stack), "push_front" | "pop_front") => {
                let [ast::Argument { value: Some(count), .. }] = args else {
                    return self.bad(span, format!("`{member}` needs one argument"));
                };
                if let Some(count) = self.constant_u32(scope, count, "the number of elements") {
                    let push = member.as_str() == "push_front";
                    self.emit(span, if push { StmtKind::Push(*stack, count) } else { StmtKind::Pop(*stack, count) });
                }
                return self.void();
            }
            (_, "minSizeInBits" | "maxSizeInBits" | "minSizeInBytes" | "maxSizeInBytes") => {
                return self.type_method(operand.ty, member, span);
            }
            _ => {
                let name = self.types.name(operand.ty);
                return self.bad(base_span.to(member.span), format!("`{name}` has no method `{member}`"));
            }
        }
        self.no_arguments(args, count_wanted, member);
        self.void()
    }

    fn no_arguments(&mut self, args: &[ast::Argument], wanted: usize, member: &ast::Ident) {
        if args.len() > wanted {
            self.error(member.span, format!("`{member}` takes no arguments"));
        }
    }

    /// Gives each parameter its argument.
    #[expect(clippy::too_many_arguments, reason = "a call consists of that many parts")]
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
        if type_args.len() > type_params.len() || (!type_args.is_empty() && type_args.len() < type_params.len()) {
            self.error(span, format!("{what} has {} type parameters, {} are given", type_params.len(), type_args.len()));
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
                    None => format!("{what} takes {} arguments, {} are given", params.len(), args.len()),
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
            let mark = self.block.len();
            let at = slot.map_or(span, |arg| arg.span);
            let value = match slot {
                Some(ast::Argument { value: Some(value), .. }) => {
                    if matches!(param.direction, Direction::Out | Direction::InOut) {
                        self.check_writable(scope, value);
                    }
                    Some(self.expr(scope, value))
                }
                Some(_) => None,
                None => match &param.default {
                    Some(default) => {
                        let globals = self.globals.clone();
                        Some(self.expr(&globals, default))
                    }
                    None if param.annotations.iter().any(|a| a.name.as_str() == "optional") => {
                        let ty = self.types.unknown();
                        Some(Operand::new(ty, OperandKind::Default))
                    }
                    None => {
                        let report = Diagnostic::error(span, format!("the argument for `{}` is missing", param.name))
                            .with_label(param.span, "this parameter");
                        self.report(report);
                        return None;
                    }
                },
            };
            for (earlier, param) in values.iter_mut().zip(params) {
                if let (Some(value), Direction::In | Direction::None) = (earlier.as_mut(), param.direction) {
                    *value = self.protect(value.clone(), mark, at);
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
                Some(value) if matches!(value.kind, OperandKind::Object(_) | OperandKind::Default) => value,
                Some(value) => {
                    let value = self.coerce(value, ty, *at);
                    if matches!(param.direction, Direction::Out | Direction::InOut) && !value.is_lvalue() {
                        let report = Diagnostic::error(*at, "this can't be written")
                            .with_note_here(format!("`{}` of {what} is written by the call", param.name));
                        self.report(report);
                    }
                    value
                }
                None if param.direction == Direction::Out => self.variable(ty, param.name.as_str(), *at),
                None => self.bad(*at, format!("`_` can't be given for `{}`", param.name)),
            });
        }
        Some(Bound { values: out, spans, types })
    }

    /// What type parameters stand for where that was not written.
    fn infer(&mut self, params: &'a [ast::Param], type_params: &'a [ast::Ident], types: &Scope<'a>, values: &[Option<Operand<'a>>]) {
        for type_param in type_params {
            if types.find_here(type_param.as_str()).is_some() {
                continue;
            }
            let mut found = None;
            for (param, value) in params.iter().zip(values) {
                let TypeKind::Named { path, args } = &param.ty.kind else { continue };
                let Some(value) = value else { continue };
                if path.name.name != type_param.name || !args.is_empty() || value.is_poison() {
                    continue;
                }
                let open = matches!(value.kind, OperandKind::Int(_)) || matches!(self.types[value.ty], TyKind::Unknown);
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

    /// Refuses to write to constants, `in` parameters and the like.
    pub fn check_writable(&mut self, scope: &Scope<'a>, expr: &'a ast::Expr) {
        match &expr.kind {
            ExprKind::Path(path) => {
                if let Some(Entity::Value(_, Some(reason))) = scope.find(path.name.as_str()) {
                    self.error(expr.span, format!("`{}` is {reason} and can't be written", path.name));
                }
            }
            ExprKind::Member { base, .. } | ExprKind::Index { base, .. } | ExprKind::Slice { base, .. } | ExprKind::PlusSlice { base, .. } => {
                self.check_writable(scope, base);
            }
            _ => {}
        }
    }

    /// Whether it costs nothing to write the operand out each time it is used.
    fn is_simple(&self, operand: &Operand<'a>) -> bool {
        let mut simple = true;
        operand.leaves(&mut |leaf| {
            if let OperandKind::Value(value) = leaf.kind {
                simple &= matches!(
                    self.ir.exprs[value],
                    Expr::Const { .. } | Expr::Bool(_) | Expr::Param(..) | Expr::Read(_) | Expr::IsValid(_)
                );
            }
        });
        simple
    }

    /// Arguments as the callee sees them, and what to copy back. By reference where nobody can tell.
    fn pass(&mut self, params: &'a [ast::Param], bound: &Bound<'a>, copy_outputs: bool) -> (Vec<Operand<'a>>, CopyOut<'a>) {
        let footprints: Vec<Footprint> = bound.values.iter().map(|value| self.reads_of(value)).collect();
        let overlaps = |position: usize, outputs_only: bool| {
            footprints.iter().zip(params).enumerate().any(|(other, (footprint, param))| {
                let is_output = matches!(param.direction, Direction::Out | Direction::InOut);
                other != position
                    && (is_output || !outputs_only)
                    && footprints.get(position).is_some_and(|mine| mine.overlaps(footprint))
            })
        };
        let mut values = Vec::new();
        let mut copies = Vec::new();
        for (position, (param, (value, span))) in params.iter().zip(bound.values.iter().zip(&bound.spans)).enumerate() {
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
                    if copy_outputs || overlaps(position, false) || matches!(value.kind, OperandKind::Slice(..)) {
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

    fn copy_out(&mut self, copies: CopyOut<'a>, span: Span) {
        for (place, value) in copies {
            self.assign(&place, value, span);
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

    fn call_function(
        &mut self,
        scope: &Scope<'a>,
        functions: &Rc<Vec<FunctionDef<'a>>>,
        path: &'a ast::Path,
        type_args: &'a [ast::Type],
        args: &'a [ast::Argument],
        span: Span,
    ) -> Operand<'a> {
        let exact = functions.iter().find(|f| f.proto.params.len() == args.len());
        let Some(def) = exact.or_else(|| functions.first()).copied() else { return self.poison() };
        let globals = self.globals.clone();
        let what = format!("`{}`", path.name);
        let Some(bound) =
            self.bind(scope, &globals, &what, &def.proto.params, &def.proto.type_params, type_args, args, span)
        else {
            return self.poison();
        };
        match def.body {
            Some(body) => self
                .deeper(span, |this| this.inline_function(&def, body, &bound, span))
                .unwrap_or_else(|| self.poison()),
            None => self.call_extern(&def, bound, span),
        }
    }

    /// Puts a function's body in the place of its call.
    pub fn inline_function(&mut self, def: &FunctionDef<'a>, body: &'a ast::Block, bound: &Bound<'a>, span: Span) -> Operand<'a> {
        self.names.reached.insert(Arc::clone(&def.proto.name.name));
        let ty = match &def.proto.ret {
            Some(ty) => self.resolve_type(&bound.types, ty),
            None => self.types.make(TyKind::Void),
        };
        let (values, copies) = self.pass(&def.proto.params, bound, false);
        let inner = bound.types.inside();
        for (param, value) in def.proto.params.iter().zip(values) {
            self.put_param(&inner, param, value);
        }
        let outer = std::mem::replace(&mut self.inside, Inside::Function);
        let loops = std::mem::take(&mut self.loops);
        let result = self.body(&inner, body, Some(ty), span);
        self.inside = outer;
        self.loops = loops;
        self.copy_out(copies, span);
        match result {
            Some(value) => value,
            None if matches!(self.types[ty], TyKind::Void) => self.void(),
            None => self.poison(),
        }
    }

    /// The statements of a function, action or block, which `return` leaves.
    pub fn body(&mut self, scope: &Scope<'a>, body: &'a ast::Block, ty: Option<Ty>, span: Span) -> Option<Operand<'a>> {
        let label = self.label();
        self.returns.push(ReturnTarget { label, used: false, ty, slot: None });
        let ((), block) = self.collect(|this| this.statements(&scope.inside(), &body.stmts));
        let target = self.returns.pop()?;
        let wants_value = ty.is_some_and(|ty| !matches!(self.types[ty], TyKind::Void | TyKind::Unknown));
        if wants_value && !target.used {
            self.error(body.span, "this function ends without returning a value");
        }
        self.finish_labelled(label, block, span);
        target.slot
    }

    /// Emits a block that may be left by its label; without the label where structure says the same.
    pub fn finish_labelled(&mut self, label: Label, block: Block, span: Span) {
        let (mut block, _) = structure(block, label);
        if mentions(&block, label) {
            self.emit(span, StmtKind::Labelled(label, block));
        } else {
            self.block.append(&mut block);
        }
    }

    /// An action called directly.
    pub fn call_action(&mut self, scope: &Scope<'a>, def: &Rc<ActionDef<'a>>, args: &'a [ast::Argument], span: Span) {
        let what = format!("the action `{}`", def.action.name);
        if self.part == Part::Parser {
            self.error(span, "an action can't be called in a parser");
            return;
        }
        if self.inside == Inside::Function {
            self.error(span, "an action can't be called in a function");
            return;
        }
        let Some(bound) = self.bind(scope, &def.scope, &what, &def.action.params, &[], &[], args, span) else { return };
        if self.dead == 0 && self.inside == Inside::Body {
            def.used.set(true);
        }
        self.deeper(span, |this| this.inline_action(def, &bound, span));
    }

    /// Puts an action's body in the place of its call.
    pub fn inline_action(&mut self, def: &Rc<ActionDef<'a>>, bound: &Bound<'a>, span: Span) {
        let (values, copies) = self.pass(&def.action.params, bound, true);
        let lower = |this: &mut Self, values: &[Operand<'a>]| {
            let inner = def.scope.inside();
            for (param, value) in def.action.params.iter().zip(values) {
                this.put_param(&inner, param, value.clone());
            }
            let outer = std::mem::replace(&mut this.inside, Inside::Action);
            let prefix = std::mem::replace(&mut this.prefix, Arc::clone(&def.prefix));
            let loops = std::mem::take(&mut this.loops);
            let ((), block) = this.collect(|this| {
                this.body(&inner, &def.action.body, None, span);
            });
            this.inside = outer;
            this.prefix = prefix;
            this.loops = loops;
            block
        };
        let mut block = lower(self, &values);
        // What the body writes may be what an argument reads; then the argument needs a copy.
        let mut writes = Footprint::default();
        writes.writes(&self.ir, &block);
        let mut again = values.clone();
        let mut changed = false;
        for ((param, value), at) in def.action.params.iter().zip(&mut again).zip(&bound.spans) {
            if matches!(param.direction, Direction::In | Direction::None) && writes.overlaps(&self.reads_of(value)) {
                let name = self.qualified(param.name.as_str());
                *value = self.save_as(value, &name, *at);
                changed = true;
            }
        }
        if changed {
            block = lower(self, &again);
        }
        self.block.append(&mut block);
        self.copy_out(copies, span);
    }

    /// Applies a parser or control.
    pub fn apply_block(&mut self, scope: &Scope<'a>, block: &Rc<BlockInstance<'a>>, args: &'a [ast::Argument], span: Span) {
        use super::scope::BlockKind;
        if self.inside != Inside::Body {
            self.error(span, "a parser or control can be applied only in the body of another");
            return;
        }
        let (params, what) = match block.kind {
            BlockKind::Parser(_, p) => (&p.params, "parser"),
            BlockKind::Control(_, c) => (&c.params, "control"),
            BlockKind::Package(..) => {
                self.error(span, "a package can't be applied");
                return;
            }
        };
        let what = format!("the {what} `{}`", block.kind.name());
        let globals = self.globals.clone();
        let Some(bound) = self.bind(scope, &globals, &what, params, &[], &[], args, span) else { return };
        let is_parser = matches!(block.kind, BlockKind::Parser(..));
        if is_parser != (self.part == Part::Parser) {
            self.error(span, if is_parser { "a parser can be applied only in parsers" } else { "a control can be applied only in controls" });
            return;
        }
        let outer = std::mem::replace(&mut self.prefix, Arc::clone(&block.prefix));
        let (values, copies) = self.pass(params, &bound, false);
        self.deeper(span, |this| this.enter_block(block, values, span));
        self.prefix = outer;
        self.copy_out(copies, span);
    }
}

/// Whether a statement leaves the block of the label.
fn mentions(block: &[Stmt], label: Label) -> bool {
    use crate::ir::After;
    block.iter().any(|stmt| match &stmt.kind {
        StmtKind::Break(to) => *to == label,
        StmtKind::Labelled(_, inner) => mentions(inner, label),
        StmtKind::If { then, otherwise, .. } => mentions(then, label) || mentions(otherwise, label),
        StmtKind::Apply { after: After::HitOrMiss { hit, miss }, .. } => mentions(hit, label) || mentions(miss, label),
        StmtKind::Apply { after: After::ByAction { cases, otherwise }, .. } => {
            cases.iter().any(|(_, block)| mentions(block, label)) || mentions(otherwise, label)
        }
        _ => false,
    })
}

/// Whether the end of the block can't be reached.
fn ends(block: &[Stmt]) -> bool {
    block.last().is_some_and(|stmt| match &stmt.kind {
        StmtKind::Break(_) | StmtKind::Exit => true,
        StmtKind::If { then, otherwise, .. } => ends(then) && ends(otherwise),
        _ => false,
    })
}

/// The block without breaks to the label where they lead to the block's own end: what stands behind
/// an `if` that leaves on one side moves to the other side. The flag says whether the end of the
/// block, before the change, was reached only by breaks.
fn structure(block: Block, label: Label) -> (Block, bool) {
    let mut out = Block::new();
    let mut rest = block.into_iter();
    while let Some(stmt) = rest.next() {
        match stmt.kind {
            StmtKind::Break(to) if to == label => return (out, true),
            StmtKind::Break(_) | StmtKind::Exit => {
                out.push(stmt);
                return (out, true);
            }
            StmtKind::If { condition, mut then, mut otherwise } if mentions(&then, label) || mentions(&otherwise, label) => {
                let tail: Block = rest.collect();
                if tail.is_empty() || ends(&then) || ends(&otherwise) {
                    if !tail.is_empty() {
                        if ends(&then) {
                            otherwise.extend(tail);
                        } else {
                            then.extend(tail);
                        }
                    }
                    let (then, _) = structure(then, label);
                    let (otherwise, _) = structure(otherwise, label);
                    out.push(Stmt { span: stmt.span, kind: StmtKind::If { condition, then, otherwise } });
                    return (out, false);
                }
                out.push(Stmt { span: stmt.span, kind: StmtKind::If { condition, then, otherwise } });
                let (tail, _) = structure(tail, label);
                out.extend(tail);
                return (out, false);
            }
            _ => out.push(stmt),
        }
    }
    (out, false)
}
