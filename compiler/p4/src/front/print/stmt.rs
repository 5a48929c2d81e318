//! Statements and blocks.

use super::Printer;
use crate::front::ast::{Block, ForCollection, ForIn, ForLoop, Stmt, StmtKind};

impl Printer {
    /// A block without indentation before it or a line feed behind it.
    pub(super) fn block(&mut self, block: &Block) {
        self.annotations(&block.annotations);
        self.braces(|p| {
            for stmt in &block.stmts {
                p.stmt(stmt);
            }
        });
    }

    pub(super) fn stmt(&mut self, stmt: &Stmt) {
        if let StmtKind::Decl(decl) = &stmt.kind {
            self.decl(decl);
            return;
        }
        self.line(|p| p.stmt_inline(stmt, true));
    }

    /// A statement without indentation before it or a line feed behind it.
    fn stmt_inline(&mut self, stmt: &Stmt, semicolon: bool) {
        match &stmt.kind {
            StmtKind::Empty => {}
            StmtKind::Block(block) => return self.block(block),
            StmtKind::Decl(decl) => return self.decl_inline(decl, semicolon),
            StmtKind::Assign { op, target, value } => {
                self.expr(target);
                self.put(" ");
                self.put(op.map_or("", |op| op.symbol()));
                self.put("= ");
                self.expr(value);
            }
            StmtKind::Call(call) => self.expr(call),
            StmtKind::If { .. } => return self.if_chain(stmt),
            StmtKind::Switch { subject, cases } => {
                self.put("switch (");
                self.expr(subject);
                self.put(") ");
                self.braces(|p| {
                    for case in cases {
                        p.line(|p| {
                            match &case.label {
                                Some(label) => p.expr(label),
                                None => p.put("default"),
                            }
                            p.put(":");
                            if let Some(body) = &case.body {
                                p.put(" ");
                                p.block(body);
                            }
                        });
                    }
                });
                return;
            }
            StmtKind::Return(value) => {
                self.put("return");
                if let Some(value) = value {
                    self.put(" ");
                    self.expr(value);
                }
            }
            StmtKind::Exit => self.put("exit"),
            StmtKind::Break => self.put("break"),
            StmtKind::Continue => self.put("continue"),
            StmtKind::For(looped) => return self.for_loop(looped),
            StmtKind::ForIn(looped) => return self.for_in(looped),
        }
        if semicolon {
            self.put(";");
        }
    }

    /// `if … else if … else …`, however long, without recursion along the chain.
    fn if_chain(&mut self, first: &Stmt) {
        let mut stmt = first;
        while let StmtKind::If {
            condition,
            then,
            otherwise,
        } = &stmt.kind
        {
            self.put("if (");
            self.expr(condition);
            self.put(") ");
            self.stmt_inline(then, true);
            let Some(next) = otherwise else { return };
            self.put(" else ");
            stmt = next;
        }
        self.stmt_inline(stmt, true);
    }

    fn for_loop(&mut self, looped: &ForLoop) {
        self.annotations(&looped.annotations);
        self.put("for (");
        self.list(&looped.init, |p, s| p.stmt_inline(s, false));
        self.put("; ");
        self.expr(&looped.condition);
        self.put("; ");
        self.list(&looped.update, |p, s| p.stmt_inline(s, false));
        self.put(") ");
        self.stmt_inline(&looped.body, true);
    }

    fn for_in(&mut self, looped: &ForIn) {
        self.annotations(&looped.annotations);
        self.put("for (");
        self.annotations(&looped.var_annotations);
        if let Some(ty) = &looped.ty {
            self.ty(ty);
            self.put(" ");
        }
        self.put(looped.name.as_str());
        self.put(" in ");
        match &looped.collection {
            ForCollection::Expr(expr) => self.expr(expr),
            ForCollection::Range(low, high) => {
                self.expr(low);
                self.put(" .. ");
                self.expr(high);
            }
        }
        self.put(") ");
        self.stmt_inline(&looped.body, true);
    }
}
