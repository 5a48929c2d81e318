//! Functions, actions, parsers and controls in the place of their calls.

use std::rc::Rc;
use std::sync::Arc;

use crate::front::ast::{self, Direction};
use crate::ir::{Block, Label, Stmt, StmtKind};
use crate::source::Span;

use super::bind::Bound;
use super::effects::Footprint;
use super::lower::{Inside, Lower, Part, ReturnTarget};
use super::operand::Operand;
use super::scope::{ActionDef, BlockInstance, FunctionDef, Scope};
use super::types::{Ty, TyKind};

impl<'a> Lower<'a> {
    /// Puts a function's body in the place of its call.
    pub fn inline_function(
        &mut self,
        def: &FunctionDef<'a>,
        body: &'a ast::Block,
        bound: &Bound<'a>,
        span: Span,
    ) -> Operand<'a> {
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
        self.pending.push(copies);
        let result = self.body(&inner, body, Some(ty), span);
        self.inside = outer;
        self.loops = loops;
        self.copy_out_last(span);
        match result {
            Some(value) => value,
            None if matches!(self.types[ty], TyKind::Void) => self.void(),
            None => self.poison(),
        }
    }

    /// The statements of a function, action or block, which `return` leaves.
    pub fn body(
        &mut self,
        scope: &Scope<'a>,
        body: &'a ast::Block,
        ty: Option<Ty>,
        span: Span,
    ) -> Option<Operand<'a>> {
        let label = self.label();
        self.returns.push(ReturnTarget {
            label,
            used: false,
            ty,
            slot: None,
        });
        let ((), block) = self.collect(|this| this.statements(&scope.inside(), &body.stmts));
        let target = self.returns.pop()?;
        let wants_value =
            ty.is_some_and(|ty| !matches!(self.types[ty], TyKind::Void | TyKind::Unknown));
        if wants_value && !always_returns(&body.stmts) {
            let message = if target.used {
                "this function can end without returning a value"
            } else {
                "this function ends without returning a value"
            };
            self.error(body.span, message);
        }
        self.finish_labelled(label, block, span);
        target.slot
    }

    /// Emits a block that may be left by its label; without the label where structure says the same.
    pub fn finish_labelled(&mut self, label: Label, block: Block, span: Span) {
        let mut block = structure(block, label, 0);
        if mentions(&block, label) {
            self.emit(span, StmtKind::Labelled(label, block));
        } else {
            self.block.append(&mut block);
        }
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
        self.pending.push(copies);
        let mut block = lower(self, &values);
        // What the body writes may be what an argument reads; then the argument needs a copy.
        let mut writes = Footprint::default();
        writes.writes(&self.ir, &block);
        let mut again = values.clone();
        let mut changed = false;
        for ((param, value), at) in def.action.params.iter().zip(&mut again).zip(&bound.spans) {
            if matches!(param.direction, Direction::In | Direction::None)
                && writes.overlaps(&self.reads_of(value))
            {
                let name = self.qualified(param.name.as_str());
                *value = self.save_as(value, &name, *at);
                changed = true;
            }
        }
        if changed {
            block = lower(self, &again);
        }
        self.block.append(&mut block);
        self.copy_out_last(span);
    }

    /// Applies a parser or control.
    pub fn apply_block(
        &mut self,
        scope: &Scope<'a>,
        block: &Rc<BlockInstance<'a>>,
        args: &'a [ast::Argument],
        span: Span,
    ) {
        use super::scope::BlockKind;
        if self.inside != Inside::Body {
            self.error(
                span,
                "a parser or control can be applied only in the body of another",
            );
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
        let Some(bound) = self.bind(scope, &globals, &what, params, &[], &[], args, span) else {
            return;
        };
        let is_parser = matches!(block.kind, BlockKind::Parser(..));
        if is_parser != (self.part == Part::Parser) {
            self.error(
                span,
                if is_parser {
                    "a parser can be applied only in parsers"
                } else {
                    "a control can be applied only in controls"
                },
            );
            return;
        }
        let outer = std::mem::replace(&mut self.prefix, Arc::clone(&block.prefix));
        let (values, copies) = self.pass(params, &bound, false);
        self.pending.push(copies);
        self.deeper(span, |this| this.enter_block(block, values, span));
        self.prefix = outer;
        self.copy_out_last(span);
    }
}

/// Whether a statement leaves the block of the label.
fn mentions(block: &[Stmt], label: Label) -> bool {
    use crate::ir::After;
    block.iter().any(|stmt| match &stmt.kind {
        StmtKind::Break(to) => *to == label,
        StmtKind::Labelled(_, inner) => mentions(inner, label),
        StmtKind::If {
            then, otherwise, ..
        } => mentions(then, label) || mentions(otherwise, label),
        StmtKind::Apply {
            after: After::HitOrMiss { hit, miss },
            ..
        } => mentions(hit, label) || mentions(miss, label),
        StmtKind::Apply {
            after: After::ByAction { cases, otherwise },
            ..
        } => cases.iter().any(|(_, block)| mentions(block, label)) || mentions(otherwise, label),
        _ => false,
    })
}

/// Whether the end of the block can't be reached.
fn ends(block: &[Stmt]) -> bool {
    block.last().is_some_and(|stmt| match &stmt.kind {
        StmtKind::Break(_) | StmtKind::Exit => true,
        StmtKind::If {
            then, otherwise, ..
        } => ends(then) && ends(otherwise),
        _ => false,
    })
}

/// Whether every way through the statements returns or exits, whatever the conditions are.
fn always_returns(stmts: &[ast::Stmt]) -> bool {
    use crate::front::ast::StmtKind;
    stmts.iter().any(|stmt| match &stmt.kind {
        StmtKind::Return(_) | StmtKind::Exit => true,
        StmtKind::Block(block) => always_returns(&block.stmts),
        StmtKind::If {
            then,
            otherwise: Some(otherwise),
            ..
        } => {
            always_returns(std::slice::from_ref(then))
                && always_returns(std::slice::from_ref(otherwise))
        }
        StmtKind::Switch { cases, .. } => {
            cases.iter().any(|case| case.label.is_none())
                && cases
                    .iter()
                    .filter_map(|case| case.body.as_ref())
                    .all(|body| always_returns(&body.stmts))
        }
        _ => false,
    })
}

/// Whether there is an `exit` anywhere in the block.
pub fn leaves_by_exit(block: &[Stmt]) -> bool {
    block.iter().any(|stmt| match &stmt.kind {
        StmtKind::Exit => true,
        StmtKind::If {
            then, otherwise, ..
        } => leaves_by_exit(then) || leaves_by_exit(otherwise),
        StmtKind::Labelled(_, inner) => leaves_by_exit(inner),
        _ => false,
    })
}

/// How deep [`structure`] nests what stands behind an `if` that leaves. Many of them in a row, as
/// generated code has, would otherwise make a program as deep as it is long.
const MAX_NESTING: u32 = 64;

/// The block without breaks to the label where they lead to the block's own end: what stands behind
/// an `if` that leaves on one side moves to the other side. Breaks that lie too deep stay.
fn structure(block: Block, label: Label, depth: u32) -> Block {
    if depth >= MAX_NESTING {
        return block;
    }
    let mut out = Block::new();
    let mut rest = block.into_iter();
    while let Some(stmt) = rest.next() {
        match stmt.kind {
            StmtKind::Break(to) if to == label => return out,
            StmtKind::Break(_) | StmtKind::Exit => {
                out.push(stmt);
                return out;
            }
            StmtKind::If {
                condition,
                mut then,
                mut otherwise,
            } if mentions(&then, label) || mentions(&otherwise, label) => {
                let tail: Block = rest.collect();
                let movable = tail.is_empty() || ends(&then) || ends(&otherwise);
                let mut behind = Block::new();
                if movable {
                    if ends(&then) {
                        otherwise.extend(tail);
                    } else {
                        then.extend(tail);
                    }
                    then = structure(then, label, depth + 1);
                    otherwise = structure(otherwise, label, depth + 1);
                } else {
                    behind = structure(tail, label, depth + 1);
                }
                out.push(Stmt {
                    span: stmt.span,
                    kind: StmtKind::If {
                        condition,
                        then,
                        otherwise,
                    },
                });
                out.extend(behind);
                return out;
            }
            _ => out.push(stmt),
        }
    }
    out
}
