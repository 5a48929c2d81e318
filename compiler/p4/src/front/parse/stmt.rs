//! Statements and blocks.

use super::{Failed, MAX_HEIGHT, Parsed, Parser};
use crate::diagnostics::Diagnostic;
use crate::front::ast::{
    Annotation, BinaryOp, Block, Expr, ExprKind, ForCollection, ForIn, ForLoop, Stmt, StmtKind,
    SwitchCase,
};
use crate::front::token::TokenKind;
use crate::source::Span;

impl Parser {
    /// `{ … }` with annotations before it.
    pub(super) fn block(&mut self) -> Parsed<Block> {
        let start = self.peek().span;
        let annotations = self.annotations()?;
        self.block_with(start, annotations)
    }

    fn block_with(&mut self, start: Span, annotations: Vec<Annotation>) -> Parsed<Block> {
        let depth = self.scopes.depth();
        self.scopes.enter();
        let stmts = self.nested(|p| p.braced(Self::stmt));
        self.scopes.back_to(depth);
        Ok(Block {
            span: self.since(start),
            annotations,
            stmts: stmts?,
        })
    }

    /// A statement or a declaration in a block.
    pub(super) fn stmt(&mut self) -> Parsed<Stmt> {
        let depth = self.scopes.depth();
        let result = self.nested(Self::stmt_here);
        if result.is_err() {
            self.scopes.back_to(depth);
        }
        result
    }

    fn stmt_here(&mut self) -> Parsed<Stmt> {
        let start = self.peek().span;
        let annotations = self.annotations()?;
        let made = |p: &Self, kind| {
            Ok(Stmt {
                span: p.since(start),
                kind,
            })
        };
        if self.at_symbol("{") {
            let block = self.block_with(start, annotations)?;
            return made(self, StmtKind::Block(block));
        }
        if self.at_word("for") {
            let kind = self.for_loop(annotations)?;
            return made(self, kind);
        }
        if self.at_word("const") || self.declaration_ahead() {
            let decl = self.local_decl(start, annotations)?;
            return made(self, StmtKind::Decl(Box::new(decl)));
        }
        if let Some(first) = annotations.first() {
            let span = first.span;
            self.report(
                Diagnostic::error(span, "an annotation cannot stand before this statement")
                    .with_help("annotate a block, `for` or declaration"),
            );
        }
        if self.take_symbol(";") {
            return made(self, StmtKind::Empty);
        }
        let kind = match self.peek().word() {
            Some("if") => return self.if_chain(),
            Some("switch") => self.switch()?,
            Some("return") => {
                self.at += 1;
                let value = if self.at_symbol(";") {
                    None
                } else {
                    Some(self.expr()?)
                };
                self.expect_semicolon()?;
                StmtKind::Return(value)
            }
            Some(word @ ("exit" | "break" | "continue")) => {
                let kind = match word {
                    "exit" => StmtKind::Exit,
                    "break" => StmtKind::Break,
                    _ => StmtKind::Continue,
                };
                self.at += 1;
                self.expect_semicolon()?;
                kind
            }
            Some("else") => {
                let span = self.peek().span;
                self.report(Diagnostic::error(span, "`else` without `if`"));
                return Err(Failed);
            }
            _ => {
                let kind = self.assignment_or_call()?;
                self.expect_semicolon()?;
                kind
            }
        };
        made(self, kind)
    }

    /// Whether what stands here is a variable or an instance and not an assignment or a call: a type
    /// with a name, or with arguments and a name, behind it.
    pub(super) fn declaration_ahead(&self) -> bool {
        let Some(end) = self.look_past_type(self.at) else {
            return self.base_type_at(self.at);
        };
        let behind = end - self.at;
        if self.name_at(behind) {
            return true;
        }
        if self.peek_at(behind).is_symbol("(") {
            return self.matching(end).is_some_and(|after| {
                self.name_at(after - self.at) && !self.token_at(after).line_start
            });
        }
        self.base_type_at(self.at)
    }

    /// An assignment or a call without the semicolon.
    fn assignment_or_call(&mut self) -> Parsed<StmtKind> {
        if !self.name_at(0) && !self.at_symbol(".") && !self.at_word("this") {
            return Err(self.unexpected("a statement"));
        }
        // No operator can follow the left side, so it is a postfix expression.
        let target = self.nested(Self::postfix_expr)?;
        if let Some((op, length)) = self.assignment_operator() {
            self.at += length;
            if !is_lvalue(&target) {
                self.report(
                    Diagnostic::error(target.span, "this cannot be assigned to")
                        .with_note_here("expected a variable, field, stack element or slice"),
                );
            }
            let value = self.expr()?;
            return Ok(StmtKind::Assign { op, target, value });
        }
        if matches!(target.kind, ExprKind::Call { .. }) {
            return Ok(StmtKind::Call(target));
        }
        Err(self.unexpected("`=` or `(`"))
    }

    fn assignment_operator(&self) -> Option<(Option<BinaryOp>, usize)> {
        let TokenKind::Symbol(symbol) = self.peek().kind else {
            return None;
        };
        let op = match symbol {
            "=" => return Some((None, 1)),
            "*=" => BinaryOp::Mul,
            "/=" => BinaryOp::Div,
            "%=" => BinaryOp::Mod,
            "+=" => BinaryOp::Add,
            "-=" => BinaryOp::Sub,
            "|+|=" => BinaryOp::AddSat,
            "|-|=" => BinaryOp::SubSat,
            "<<=" => BinaryOp::Shl,
            "&=" => BinaryOp::BitAnd,
            "|=" => BinaryOp::BitOr,
            "^=" => BinaryOp::BitXor,
            ">" if self.peek_at(1).is_symbol(">=") && !self.peek_at(1).spaced => {
                return Some((Some(BinaryOp::Shr), 2));
            }
            _ => return None,
        };
        Some((Some(op), 1))
    }

    /// `if … else if … else …`, however long, without recursion along the chain.
    fn if_chain(&mut self) -> Parsed<Stmt> {
        let before = self.chain;
        let mut links: Vec<(Span, Expr, Stmt)> = Vec::new();
        let mut last: Option<Stmt> = None;
        let outcome = loop {
            let start = self.peek().span;
            self.at += 1;
            let link = self.if_link();
            let (condition, then) = match link {
                Ok(link) => link,
                Err(failed) => break Err(failed),
            };
            links.push((start, condition, then));
            if !self.take_word("else") {
                break Ok(());
            }
            if !self.at_word("if") {
                match self.stmt() {
                    Ok(stmt) => last = Some(stmt),
                    Err(failed) => break Err(failed),
                }
                break Ok(());
            }
            self.chain += 1;
            if self.chain > MAX_HEIGHT {
                let span = self.peek().span;
                self.report(Diagnostic::error(
                    span,
                    format!("more than {MAX_HEIGHT} links of `else if`"),
                ));
                break Err(Failed);
            }
        };
        self.chain = before;
        outcome?;
        let end = self.previous();
        let mut stmt = last;
        for (start, condition, then) in links.into_iter().rev() {
            let kind = StmtKind::If {
                condition,
                then: Box::new(then),
                otherwise: stmt.map(Box::new),
            };
            stmt = Some(Stmt {
                span: start.to(end),
                kind,
            });
        }
        stmt.ok_or(Failed)
    }

    fn if_link(&mut self) -> Parsed<(Expr, Stmt)> {
        self.expect("(")?;
        let condition = self.expr()?;
        self.expect(")")?;
        Ok((condition, self.stmt()?))
    }

    fn switch(&mut self) -> Parsed<StmtKind> {
        self.at += 1;
        self.expect("(")?;
        let subject = self.expr()?;
        self.expect(")")?;
        let cases = self.braced(|p| {
            let start = p.peek().span;
            let label = if p.take_word("default") {
                None
            } else {
                Some(p.expr()?)
            };
            p.expect(":")?;
            let body = if p.at_symbol("{") || p.at_symbol("@") {
                Some(p.block()?)
            } else {
                None
            };
            Ok(SwitchCase {
                span: p.since(start),
                label,
                body,
            })
        })?;
        Ok(StmtKind::Switch { subject, cases })
    }

    fn for_loop(&mut self, annotations: Vec<Annotation>) -> Parsed<StmtKind> {
        let depth = self.scopes.depth();
        self.scopes.enter();
        let result = self.for_loop_here(annotations);
        self.scopes.back_to(depth);
        result
    }

    fn for_loop_here(&mut self, annotations: Vec<Annotation>) -> Parsed<StmtKind> {
        self.at += 1;
        self.expect("(")?;
        let mut init = Vec::new();
        while !self.at_symbol(";") {
            let start = self.peek().span;
            let var_annotations = self.annotations()?;
            if init.is_empty() && self.for_in_ahead() {
                return self.for_in(annotations, var_annotations);
            }
            let kind = if self.declaration_ahead() {
                StmtKind::Decl(Box::new(self.variable(start, var_annotations)?))
            } else {
                self.assignment_or_call()?
            };
            init.push(Stmt {
                span: self.since(start),
                kind,
            });
            if !self.take_symbol(",") {
                break;
            }
        }
        self.expect(";")?;
        let condition = self.expr()?;
        self.expect(";")?;
        let update = self.separated(")", false, |p| {
            let start = p.peek().span;
            let kind = p.assignment_or_call()?;
            Ok(Stmt {
                span: p.since(start),
                kind,
            })
        })?;
        let body = self.stmt()?;
        Ok(StmtKind::For(Box::new(ForLoop {
            annotations,
            init,
            condition,
            update,
            body,
        })))
    }

    /// `T name in` or `name in`
    fn for_in_ahead(&self) -> bool {
        if self.name_at(0) && self.peek_at(1).word() == Some("in") {
            return true;
        }
        self.look_past_type(self.at).is_some_and(|end| {
            self.name_at(end - self.at) && self.token_at(end + 1).word() == Some("in")
        })
    }

    fn for_in(
        &mut self,
        annotations: Vec<Annotation>,
        var_annotations: Vec<Annotation>,
    ) -> Parsed<StmtKind> {
        let ty = if self.peek_at(1).word() == Some("in") {
            None
        } else {
            Some(self.ty()?)
        };
        let name = self.name("a variable's name")?;
        self.expect_word("in")?;
        let first = self.expr()?;
        let collection = if self.take_symbol("..") {
            ForCollection::Range(first, self.expr()?)
        } else {
            ForCollection::Expr(first)
        };
        self.expect(")")?;
        self.scopes.declare_value(&name.name);
        let body = self.stmt()?;
        Ok(StmtKind::ForIn(Box::new(ForIn {
            annotations,
            var_annotations,
            ty,
            name,
            collection,
            body,
        })))
    }
}

fn is_lvalue(expr: &Expr) -> bool {
    matches!(
        expr.kind,
        ExprKind::Path(_)
            | ExprKind::This
            | ExprKind::Member { .. }
            | ExprKind::Index { .. }
            | ExprKind::Slice { .. }
            | ExprKind::PlusSlice { .. }
    )
}
