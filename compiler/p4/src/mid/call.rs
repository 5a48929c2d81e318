//! Calls: which parameter takes which argument, and how functions, actions and blocks are put in the
//! place of their calls so that arguments are copied in and out as section 6.8 wants.

use std::rc::Rc;
use std::sync::Arc;

use crate::front::ast::{self, ExprKind, TypeKind};
use crate::ir::StmtKind;
use crate::source::Span;

use super::lower::{Inside, Lower, Part};
use super::operand::{Object, Operand, OperandKind};
use super::scope::{ActionDef, BlockInstance, Entity, FunctionDef, Scope, TableDef};
use super::types::{Ty, TyKind};

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
                Some(Entity::Functions(functions)) => {
                    self.call_function(scope, &functions, path, type_args, args, span)
                }
                Some(Entity::Action(action)) => {
                    self.call_action(scope, &action, args, span);
                    self.void()
                }
                Some(
                    Entity::Extern(_)
                    | Entity::Parser(..)
                    | Entity::Control(..)
                    | Entity::Package(..),
                ) => self.construct_expr(scope, path, type_args, args, span),
                Some(Entity::Poison) | None => self.poison(),
                Some(other) => self.bad(
                    path.span,
                    format!(
                        "`{}` is {} and can't be called",
                        path.name,
                        other.describe()
                    ),
                ),
            },
            ExprKind::Member { base, member } => {
                self.call_member(scope, base, member, type_args, args, span)
            }
            ExprKind::Type(ty) => {
                if let TypeKind::Named {
                    path,
                    args: type_args,
                } = &ty.kind
                {
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

    pub fn construct_expr(
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
    pub fn applied_table(
        &mut self,
        scope: &Scope<'a>,
        callee: &'a ast::Expr,
    ) -> Option<Rc<TableDef<'a>>> {
        let ExprKind::Member { base, member } = &callee.kind else {
            return None;
        };
        let ExprKind::Path(path) = &base.kind else {
            return None;
        };
        match scope.find(path.name.as_str()) {
            Some(Entity::Table(table)) if member.as_str() == "apply" => Some(table),
            _ => None,
        }
    }

    pub fn call_member(
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
                    if let Some(block) = self.direct_instance(scope, path, span) {
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
            OperandKind::Object(object) => {
                self.call_method(scope, &object, operand.ty, member, type_args, args, span)
            }
            _ => self.builtin_method(scope, operand, base.span, member, args, span),
        }
    }

    /// The instance that `Type.apply(…)` makes: one for each place of each instance around it.
    fn direct_instance(
        &mut self,
        scope: &Scope<'a>,
        path: &'a ast::Path,
        span: Span,
    ) -> Option<Rc<BlockInstance<'a>>> {
        let key = (Arc::clone(&self.prefix), span);
        if let Some(known) = self.names.applied_directly.get(&key) {
            return Some(Rc::clone(known));
        }
        let name = self.qualified(path.name.as_str());
        match self.construct(scope, path, &[], &[], &name, Vec::new(), span)? {
            Object::Block(block) => {
                self.note_instance(&block);
                self.names.applied_directly.insert(key, Rc::clone(&block));
                Some(block)
            }
            _ => None,
        }
    }

    /// `T.minSizeInBits()` and its kin (section 9).
    pub fn type_method(&mut self, ty: Ty, member: &ast::Ident, span: Span) -> Operand<'a> {
        let (bits, bytes) = match member.as_str() {
            "minSizeInBits" => (self.types.least_size_in_bits(ty), false),
            "maxSizeInBits" => (self.types.size_in_bits(ty), false),
            "minSizeInBytes" => (self.types.least_size_in_bits(ty), true),
            "maxSizeInBytes" => (self.types.size_in_bits(ty), true),
            _ => {
                let name = self.types.name(ty);
                return self.bad(
                    member.span,
                    format!("the type `{name}` has no method `{member}`"),
                );
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
    pub fn builtin_method(
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
            (
                OperandKind::Header(_) | OperandKind::HeaderValue(_) | OperandKind::Union(_),
                "isValid",
            ) => {
                let value = self
                    .validity(&operand)
                    .unwrap_or_else(|| self.ir.exprs.bool(false));
                let ty = self.types.bool();
                self.no_arguments(args, count_wanted, member);
                return Operand::value(ty, value);
            }
            (OperandKind::Header(header), "setValid") => {
                self.emit(span, StmtKind::SetValid(*header))
            }
            (OperandKind::Header(header), "setInvalid") => {
                self.emit(span, StmtKind::SetInvalid(*header))
            }
            (OperandKind::Stack(stack), "push_front" | "pop_front") => {
                let [
                    ast::Argument {
                        value: Some(count), ..
                    },
                ] = args
                else {
                    return self.bad(span, format!("`{member}` needs one argument"));
                };
                if let Some(count) = self.constant_u32(scope, count, "the number of elements") {
                    let push = member.as_str() == "push_front";
                    self.emit(
                        span,
                        if push {
                            StmtKind::Push(*stack, count)
                        } else {
                            StmtKind::Pop(*stack, count)
                        },
                    );
                }
                return self.void();
            }
            (_, "minSizeInBits" | "maxSizeInBits" | "minSizeInBytes" | "maxSizeInBytes") => {
                return self.type_method(operand.ty, member, span);
            }
            _ => {
                let name = self.types.name(operand.ty);
                return self.bad(
                    base_span.to(member.span),
                    format!("`{name}` has no method `{member}`"),
                );
            }
        }
        self.no_arguments(args, count_wanted, member);
        self.void()
    }

    pub fn no_arguments(&mut self, args: &[ast::Argument], wanted: usize, member: &ast::Ident) {
        if args.len() > wanted {
            self.error(member.span, format!("`{member}` takes no arguments"));
        }
    }

    pub fn call_function(
        &mut self,
        scope: &Scope<'a>,
        functions: &Rc<Vec<FunctionDef<'a>>>,
        path: &'a ast::Path,
        type_args: &'a [ast::Type],
        args: &'a [ast::Argument],
        span: Span,
    ) -> Operand<'a> {
        let exact = functions
            .iter()
            .find(|f| f.proto.params.len() == args.len());
        let Some(def) = exact.or_else(|| functions.first()).copied() else {
            return self.poison();
        };
        let globals = self.globals.clone();
        let what = format!("`{}`", path.name);
        let Some(bound) = self.bind(
            scope,
            &globals,
            &what,
            &def.proto.params,
            &def.proto.type_params,
            type_args,
            args,
            span,
        ) else {
            return self.poison();
        };
        if def.body.is_none() && self.dead == 0 && self.part != Part::Parser {
            self.ir.calls_externs |= path.name.as_str() != "static_assert";
        }
        match def.body {
            Some(body) => self
                .deeper(span, |this| this.inline_function(&def, body, &bound, span))
                .unwrap_or_else(|| self.poison()),
            None => self.call_extern(&def, bound, span),
        }
    }

    /// An action called directly.
    pub fn call_action(
        &mut self,
        scope: &Scope<'a>,
        def: &Rc<ActionDef<'a>>,
        args: &'a [ast::Argument],
        span: Span,
    ) {
        let what = format!("the action `{}`", def.action.name);
        if self.part == Part::Parser {
            self.error(span, "an action can't be called in a parser");
            return;
        }
        if self.inside == Inside::Function {
            self.error(span, "an action can't be called in a function");
            return;
        }
        let Some(bound) = self.bind(
            scope,
            &def.scope,
            &what,
            &def.action.params,
            &[],
            &[],
            args,
            span,
        ) else {
            return;
        };
        if self.dead == 0 && self.inside == Inside::Body {
            def.used.set(true);
        }
        self.deeper(span, |this| this.inline_action(def, &bound, span));
    }
}
