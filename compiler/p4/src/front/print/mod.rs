//! Syntax tree to P4 text. The text parses to the same tree, but for places; comments, macros and
//! redundant parentheses are gone, since the tree does not hold them.

mod decl;
mod expr;
mod stmt;

use super::ast::{Annotation, AnnotationBody, AnnotationTokenKind, Decl, Expr, Program};

/// A program as P4 text, four spaces a level, ending in a line feed.
#[must_use]
pub fn print_program(program: &Program) -> String {
    let mut printer = Printer::default();
    for (index, decl) in program.decls.iter().enumerate() {
        if index > 0 {
            printer.out.push('\n');
        }
        printer.decl(decl);
    }
    printer.out
}

/// One declaration as P4 text, as [`print_program`] has it.
#[must_use]
pub fn print_decl(decl: &Decl) -> String {
    let mut printer = Printer::default();
    printer.decl(decl);
    printer.out
}

/// An expression as P4 text on one line.
#[must_use]
pub fn print_expr(expr: &Expr) -> String {
    let mut printer = Printer::default();
    printer.expr(expr);
    printer.out
}

#[derive(Default)]
struct Printer {
    out: String,
    level: usize,
}

impl Printer {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn indent(&mut self) {
        for _ in 0..self.level {
            self.out.push_str("    ");
        }
    }

    /// One line that `write` fills.
    fn line(&mut self, write: impl FnOnce(&mut Self)) {
        self.indent();
        write(self);
        self.out.push('\n');
    }

    /// `{`, the lines that `write` makes one level deeper, and `}` without a line feed.
    fn braces(&mut self, write: impl FnOnce(&mut Self)) {
        self.put("{\n");
        self.level += 1;
        write(self);
        self.level -= 1;
        self.indent();
        self.put("}");
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.put(", ");
            }
            write(self, item);
        }
    }

    /// Annotations, each followed by a space.
    fn annotations(&mut self, annotations: &[Annotation]) {
        for annotation in annotations {
            self.annotation(annotation);
            self.put(" ");
        }
    }

    /// Annotations, each after a space.
    fn annotations_behind(&mut self, annotations: &[Annotation]) {
        for annotation in annotations {
            self.put(" ");
            self.annotation(annotation);
        }
    }

    fn annotation(&mut self, annotation: &Annotation) {
        self.put("@");
        self.put(annotation.name.as_str());
        match &annotation.body {
            AnnotationBody::None => {}
            AnnotationBody::Unstructured(tokens) => {
                self.put("(");
                for (index, token) in tokens.iter().enumerate() {
                    // Two `>` in a row were apart or not: the tree does not say, and it makes no difference.
                    if index > 0 {
                        self.put(" ");
                    }
                    match &token.kind {
                        AnnotationTokenKind::String(text) => self.string(text),
                        AnnotationTokenKind::Int(lit) => self.put(&lit.text),
                        AnnotationTokenKind::Word(text) | AnnotationTokenKind::Symbol(text) => {
                            self.put(text)
                        }
                    }
                }
                self.put(")");
            }
            AnnotationBody::Expressions(exprs) => {
                self.put("[");
                self.list(exprs, |p, e| p.expr(e));
                self.put("]");
            }
            AnnotationBody::KeyValues(list) => {
                self.put("[");
                self.list(list, |p, e| p.named_expr(e));
                self.put("]");
            }
        }
    }

    fn string(&mut self, text: &str) {
        self.put("\"");
        for c in text.chars() {
            match c {
                '"' => self.put("\\\""),
                '\\' => self.put("\\\\"),
                '\n' => self.put("\\n"),
                '\t' => self.put("\\t"),
                '\r' => self.put("\\r"),
                c => self.out.push(c),
            }
        }
        self.put("\"");
    }
}
