//! Types, type arguments and type parameters, and the look ahead that tells type arguments from
//! comparisons.

use num_bigint::BigInt;

use super::{Parsed, Parser};
use crate::diagnostics::Diagnostic;
use crate::front::ast::{Expr, ExprKind, Ident, IntLit, Path, Type, TypeKind};
use crate::front::token::TokenKind;
use crate::source::Span;

/// How many dimensions a stack may have.
const MAX_DIMENSIONS: usize = 16;
/// How deep the look ahead goes into nested type arguments.
const MAX_LOOK: usize = 32;

impl Parser {
    /// A type as it stands before a variable, field or parameter.
    pub(super) fn ty(&mut self) -> Parsed<Type> {
        self.nested(Self::ty_here)
    }

    fn ty_here(&mut self) -> Parsed<Type> {
        let element = self.ty_without_size()?;
        self.dimensions(element)
    }

    /// `[size]` behind a type, any number of times.
    pub(super) fn dimensions(&mut self, mut ty: Type) -> Parsed<Type> {
        let mut dimensions = 0;
        while self.at_symbol("[") {
            dimensions += 1;
            if dimensions > MAX_DIMENSIONS {
                return Err(self.unexpected("a name"));
            }
            self.at += 1;
            let size = self.enclosed(Self::expr)?;
            self.expect("]")?;
            let span = self.since(ty.span);
            ty = Type {
                span,
                kind: TypeKind::Stack {
                    element: Box::new(ty),
                    size: Box::new(size),
                },
            };
        }
        Ok(ty)
    }

    fn ty_without_size(&mut self) -> Parsed<Type> {
        let start = self.peek().span;
        let simple = match self.peek().word() {
            Some("bool") => Some(TypeKind::Bool),
            Some("error") => Some(TypeKind::Error),
            Some("match_kind") => Some(TypeKind::MatchKind),
            Some("string") => Some(TypeKind::String),
            Some("int") if !self.peek_at(1).is_symbol("<") => Some(TypeKind::Int),
            Some("bit") if !self.peek_at(1).is_symbol("<") => {
                Some(TypeKind::Bit(Box::new(one(start))))
            }
            _ => None,
        };
        if let Some(kind) = simple {
            self.at += 1;
            return Ok(Type { span: start, kind });
        }
        let kind = match self.peek().word() {
            Some("bit") => TypeKind::Bit(self.width()?),
            Some("int") => TypeKind::SignedInt(self.width()?),
            Some("varbit") => TypeKind::Varbit(self.width()?),
            Some("tuple") => {
                self.at += 1;
                TypeKind::Tuple(self.type_args()?)
            }
            Some("list") if self.peek_at(1).is_symbol("<") => {
                self.at += 2;
                let element = self.type_arg()?;
                self.expect(">")?;
                TypeKind::List(Box::new(element))
            }
            _ => {
                let path = self.path("a type")?;
                let args = if self.at_symbol("<") {
                    self.type_args()?
                } else {
                    Vec::new()
                };
                TypeKind::Named { path, args }
            }
        };
        Ok(Type {
            span: self.since(start),
            kind,
        })
    }

    /// `bit<width>` and the like: the keyword and the width. `>` ends the width.
    fn width(&mut self) -> Parsed<Box<Expr>> {
        self.at += 1;
        self.expect("<")?;
        let outer = std::mem::replace(&mut self.no_greater, true);
        let width = self.expr();
        self.no_greater = outer;
        let width = width?;
        self.expect(">")?;
        Ok(Box::new(width))
    }

    /// `<T, …>`
    pub(super) fn type_args(&mut self) -> Parsed<Vec<Type>> {
        self.expect("<")?;
        self.separated(">", false, Self::type_arg)
    }

    fn type_arg(&mut self) -> Parsed<Type> {
        let span = self.peek().span;
        if self.take_word("_") {
            return Ok(Type {
                span,
                kind: TypeKind::DontCare,
            });
        }
        if self.take_word("void") {
            return Ok(Type {
                span,
                kind: TypeKind::Void,
            });
        }
        self.ty()
    }

    /// A type or `void`.
    pub(super) fn return_type(&mut self) -> Parsed<Type> {
        let span = self.peek().span;
        if self.take_word("void") {
            return Ok(Type {
                span,
                kind: TypeKind::Void,
            });
        }
        self.ty()
    }

    /// `<A, B>` behind a declared name, if there; the names become types of the current scope.
    pub(super) fn type_params(&mut self) -> Parsed<Vec<Ident>> {
        if !self.take_symbol("<") {
            return Ok(Vec::new());
        }
        let names = self.separated(">", false, |p| p.name("a type parameter's name"))?;
        if names.is_empty() {
            let span = self.previous();
            self.report(Diagnostic::error(
                span,
                "expected a type parameter's name, found `>`",
            ));
        }
        for name in &names {
            self.scopes.declare_type(&name.name);
        }
        Ok(names)
    }

    /// A named type from a path already read.
    pub(super) fn named_type(path: Path, args: Vec<Type>, span: Span) -> Type {
        Type {
            span,
            kind: TypeKind::Named { path, args },
        }
    }

    /// Whether a word at this index begins a type that is no plain name.
    pub(super) fn base_type_at(&self, index: usize) -> bool {
        match self.token_at(index).word() {
            Some("bit" | "bool" | "int" | "match_kind" | "string" | "tuple" | "varbit") => true,
            Some("error") => !self.token_at(index + 1).is_symbol("."),
            Some("list") => self.token_at(index + 1).is_symbol("<"),
            _ => false,
        }
    }

    /// If the tokens from `<` at `open` on look like type arguments, the index behind the closing `>`.
    pub(super) fn look_past_type_args(&self, open: usize) -> Option<usize> {
        self.look_args(open, 0)
    }

    fn look_args(&self, open: usize, depth: usize) -> Option<usize> {
        if depth > MAX_LOOK || !self.token_at(open).is_symbol("<") {
            return None;
        }
        let mut at = open + 1;
        if self.token_at(at).is_symbol(">") {
            return Some(at + 1);
        }
        loop {
            at = match self.token_at(at).word() {
                Some("_" | "void") => at + 1,
                _ => self.look_type(at, depth + 1)?,
            };
            match self.token_at(at).kind {
                TokenKind::Symbol(">") => return Some(at + 1),
                TokenKind::Symbol(",") => at += 1,
                _ => return None,
            }
        }
    }

    /// If the tokens at `start` look like a type, the index behind it.
    pub(super) fn look_past_type(&self, start: usize) -> Option<usize> {
        self.look_type(start, 0)
    }

    fn look_type(&self, start: usize, depth: usize) -> Option<usize> {
        if depth > MAX_LOOK {
            return None;
        }
        let mut at = match self.token_at(start).word() {
            Some("bool" | "error" | "match_kind" | "string") => start + 1,
            Some("bit" | "int" | "varbit") if self.token_at(start + 1).is_symbol("<") => {
                self.look_width(start + 2)?
            }
            Some("bit" | "int") => start + 1,
            Some("tuple") => self.look_args(start + 1, depth)?,
            Some("list") if self.token_at(start + 1).is_symbol("<") => {
                self.look_args(start + 1, depth)?
            }
            _ => {
                let at = start + usize::from(self.token_at(start).is_symbol("."));
                let name = self.token_at(at).word()?;
                if crate::front::token::is_reserved(name) {
                    return None;
                }
                if self.token_at(at + 1).is_symbol("<") {
                    self.look_args(at + 1, depth)?
                } else {
                    at + 1
                }
            }
        };
        let mut dimensions = 0;
        while self.token_at(at).is_symbol("[") && dimensions <= MAX_DIMENSIONS {
            at = self.matching(at)?;
            dimensions += 1;
        }
        Some(at)
    }

    /// The index behind the `>` that ends a width.
    fn look_width(&self, start: usize) -> Option<usize> {
        let mut at = start;
        loop {
            match &self.token_at(at).kind {
                TokenKind::Symbol(">") => return Some(at + 1),
                TokenKind::Symbol("(") => at = self.matching(at)?,
                TokenKind::Word(_) | TokenKind::Int(_) => at += 1,
                TokenKind::Symbol("." | "+" | "-" | "*" | "/" | "%") => at += 1,
                _ => return None,
            }
        }
    }
}

/// The width that `bit` alone has.
fn one(span: Span) -> Expr {
    let lit = IntLit {
        value: BigInt::from(1),
        width: None,
        signed: false,
        base: 10,
        text: "1".into(),
    };
    Expr {
        span,
        kind: ExprKind::Int(lit),
    }
}
