//! Expressions, arguments and keysets.

use super::{Failed, MAX_HEIGHT, Parsed, Parser};
use crate::diagnostics::Diagnostic;
use crate::front::ast::{
    Argument, BinaryOp, Expr, ExprKind, Keyset, KeysetKind, Path, Type, TypeKind, UnaryOp,
};
use crate::front::token::{Token, TokenKind, is_reserved};
use crate::source::Span;

impl Parser {
    /// Any expression.
    pub(super) fn expr(&mut self) -> Parsed<Expr> {
        self.nested(Self::expr_here)
    }

    fn expr_here(&mut self) -> Parsed<Expr> {
        let condition = self.binary(1)?;
        if !self.take_symbol("?") {
            return Ok(condition);
        }
        let mut height = self.height;
        let then = self.enclosed(Self::expr)?;
        height = height.max(self.height);
        self.expect(":")?;
        let otherwise = self.expr()?;
        self.grow(height, condition.span)?;
        Ok(Expr {
            span: self.since(condition.span),
            kind: ExprKind::Ternary {
                condition: Box::new(condition),
                then: Box::new(then),
                otherwise: Box::new(otherwise),
            },
        })
    }

    /// Notes that a node stands over the last expression and one of height `other`.
    fn grow(&mut self, other: usize, span: Span) -> Parsed<()> {
        self.height = self.height.max(other) + 1;
        if self.height > MAX_HEIGHT {
            self.report(
                Diagnostic::error(
                    span,
                    format!("an expression of more than {MAX_HEIGHT} levels"),
                )
                .with_help("split it with variables"),
            );
            return Err(Failed);
        }
        Ok(())
    }

    /// The operator here and how many tokens it is long.
    fn binary_operator(&self) -> Option<(BinaryOp, usize)> {
        let TokenKind::Symbol(symbol) = self.peek().kind else {
            return None;
        };
        let op = match symbol {
            "*" => BinaryOp::Mul,
            "/" => BinaryOp::Div,
            "%" => BinaryOp::Mod,
            "+" => BinaryOp::Add,
            "-" => BinaryOp::Sub,
            "|+|" => BinaryOp::AddSat,
            "|-|" => BinaryOp::SubSat,
            "++" => BinaryOp::Concat,
            "<<" => BinaryOp::Shl,
            "<" => BinaryOp::Lt,
            "<=" => BinaryOp::Le,
            "==" => BinaryOp::Eq,
            "!=" => BinaryOp::Ne,
            "&" => BinaryOp::BitAnd,
            "^" => BinaryOp::BitXor,
            "|" => BinaryOp::BitOr,
            "&&" => BinaryOp::And,
            "||" => BinaryOp::Or,
            ">" | ">=" if self.no_greater => return None,
            ">=" => BinaryOp::Ge,
            ">" => {
                let second = self.peek_at(1);
                match second.kind {
                    TokenKind::Symbol(">") if !second.spaced => return Some((BinaryOp::Shr, 2)),
                    TokenKind::Symbol(">=") if !second.spaced => return None,
                    _ => BinaryOp::Gt,
                }
            }
            _ => return None,
        };
        Some((op, 1))
    }

    fn binary(&mut self, least: u8) -> Parsed<Expr> {
        let mut left = self.unary()?;
        while let Some((op, length)) = self.binary_operator() {
            if op.precedence() < least {
                break;
            }
            let height = self.height;
            self.at += length;
            let right = self.binary(op.precedence() + 1)?;
            self.grow(height, left.span)?;
            left = Expr {
                span: left.span.to(right.span),
                kind: ExprKind::Binary {
                    op,
                    left: Box::new(left),
                    right: Box::new(right),
                },
            };
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let op = match self.peek().kind {
            TokenKind::Symbol("!") => UnaryOp::Not,
            TokenKind::Symbol("~") => UnaryOp::Complement,
            TokenKind::Symbol("-") => UnaryOp::Minus,
            TokenKind::Symbol("+") => UnaryOp::Plus,
            TokenKind::Symbol("(") if self.cast_ahead() => return self.nested(Self::cast),
            _ => return self.postfix_expr(),
        };
        let start = self.next().span;
        let operand = self.nested(Self::unary)?;
        self.grow(0, start)?;
        Ok(Expr {
            span: self.since(start),
            kind: ExprKind::Unary {
                op,
                operand: Box::new(operand),
            },
        })
    }

    fn cast(&mut self) -> Parsed<Expr> {
        let start = self.expect("(")?;
        let ty = self.enclosed(Self::ty)?;
        self.expect(")")?;
        let operand = self.unary()?;
        self.grow(0, start)?;
        Ok(Expr {
            span: self.since(start),
            kind: ExprKind::Cast {
                ty: Box::new(ty),
                operand: Box::new(operand),
            },
        })
    }

    /// Whether the parenthesis here holds a type and not an expression.
    fn cast_ahead(&self) -> bool {
        let inner = self.at + 1;
        let Some(close) = self.look_past_type(inner) else {
            return false;
        };
        if !self.token_at(close).is_symbol(")") {
            return false;
        }
        let behind = self.token_at(close + 1);
        if self.base_type_at(inner) {
            return !behind.is_symbol(".");
        }
        let dot = usize::from(self.token_at(inner).is_symbol("."));
        let name = self.token_at(inner + dot).word().unwrap_or("");
        let known = self.scopes.is_type(name);
        if known == Some(true) {
            return starts_operand(behind)
                || matches!(behind.kind, TokenKind::Symbol("(" | "-" | "+"));
        }
        // A value in parentheses can't stand before an operand, so a name that does is meant as a type.
        self.token_at(inner + dot + 1).is_symbol("<") || (known.is_none() && starts_operand(behind))
    }

    pub(super) fn postfix_expr(&mut self) -> Parsed<Expr> {
        let mut expr = self.primary()?;
        loop {
            let start = expr.span;
            let kind = match self.peek().kind {
                TokenKind::Symbol(".") => {
                    self.at += 1;
                    let member = self.name("a member's name")?;
                    self.grow(0, start)?;
                    ExprKind::Member {
                        base: Box::new(expr),
                        member,
                    }
                }
                TokenKind::Symbol("[") => self.subscript(expr)?,
                TokenKind::Symbol("(") if can_be_called(&expr) => self.call(expr, Vec::new())?,
                TokenKind::Symbol("<") if can_be_called(&expr) => match self.type_args_ahead(&expr)
                {
                    Some("(") => {
                        let types = self.enclosed(Self::type_args)?;
                        self.call(expr, types)?
                    }
                    Some(_) => {
                        let types = self.enclosed(Self::type_args)?;
                        let ExprKind::Path(path) = expr.kind else {
                            return Err(self.unexpected("an operator"));
                        };
                        let ty = Self::named_type(path, types, self.since(start));
                        ExprKind::Type(Box::new(ty))
                    }
                    None => return Ok(expr),
                },
                _ => return Ok(expr),
            };
            expr = Expr {
                span: self.since(start),
                kind,
            };
        }
    }

    fn subscript(&mut self, base: Expr) -> Parsed<ExprKind> {
        let start = base.span;
        let mut height = self.height;
        self.expect("[")?;
        let first = self.enclosed(Self::expr)?;
        height = height.max(self.height);
        let base = Box::new(base);
        let kind = if self.take_symbol(":") {
            let lo = Box::new(self.enclosed(Self::expr)?);
            ExprKind::Slice {
                base,
                hi: Box::new(first),
                lo,
            }
        } else if self.take_symbol("+:") {
            let width = Box::new(self.enclosed(Self::expr)?);
            ExprKind::PlusSlice {
                base,
                lo: Box::new(first),
                width,
            }
        } else {
            ExprKind::Index {
                base,
                index: Box::new(first),
            }
        };
        if !self.at_symbol("]") {
            let expected = if matches!(kind, ExprKind::Index { .. }) {
                "`]` or `:`"
            } else {
                "`]`"
            };
            return Err(self.unexpected(expected));
        }
        self.at += 1;
        self.grow(height, start)?;
        Ok(kind)
    }

    fn call(&mut self, callee: Expr, type_args: Vec<Type>) -> Parsed<ExprKind> {
        let start = callee.span;
        let mut height = self.height;
        self.expect("(")?;
        let args = self.arguments_until_close(&mut height)?;
        self.grow(height, start)?;
        Ok(ExprKind::Call {
            callee: Box::new(callee),
            type_args,
            args,
        })
    }

    /// `( … )` of a call or an instantiation.
    pub(super) fn arguments(&mut self) -> Parsed<Vec<Argument>> {
        self.expect("(")?;
        self.arguments_until_close(&mut 0)
    }

    fn arguments_until_close(&mut self, height: &mut usize) -> Parsed<Vec<Argument>> {
        self.enclosed(|p| {
            p.separated(")", false, |p| {
                let argument = p.argument();
                *height = (*height).max(p.height);
                argument
            })
        })
    }

    fn argument(&mut self) -> Parsed<Argument> {
        let start = self.peek().span;
        let mut name = None;
        if self.name_at(0) && self.peek_at(1).is_symbol("=") {
            name = Some(self.name("a parameter's name")?);
            self.at += 1;
        }
        let value = if self.take_word("_") {
            None
        } else {
            Some(self.expr()?)
        };
        Ok(Argument {
            span: self.since(start),
            name,
            value,
        })
    }

    /// If `<` here opens type arguments and no comparison, what follows them: `(` or `.`.
    fn type_args_ahead(&self, base: &Expr) -> Option<&'static str> {
        let end = self.look_past_type_args(self.at)?;
        let named = matches!(base.kind, ExprKind::Path(_));
        match self.token_at(end).kind {
            TokenKind::Symbol("(") => self.plausible_type_args(end).then_some("("),
            TokenKind::Symbol(".") if named => Some("."),
            _ => None,
        }
    }

    /// `f(a < b, c > (d))` could be one call with two type arguments. It is not, if they are plain
    /// names and one of them is no type.
    fn plausible_type_args(&self, end: usize) -> bool {
        let inside = self.tokens.get(self.at + 1..end - 1).unwrap_or(&[]);
        let plain = inside
            .iter()
            .all(|t| t.is_symbol(",") || t.word().is_some_and(|w| !is_reserved(w)));
        let several = inside.iter().any(|t| t.is_symbol(","));
        !(plain && several)
            || inside
                .iter()
                .filter_map(Token::word)
                .all(|w| self.scopes.is_type(w) == Some(true))
    }

    fn primary(&mut self) -> Parsed<Expr> {
        self.height = 1;
        let token = self.peek().clone();
        let start = token.span;
        let kind = match &token.kind {
            TokenKind::Int(lit) => ExprKind::Int(lit.clone()),
            TokenKind::Str(text) => ExprKind::String(text.clone()),
            TokenKind::Symbol("{#}") => ExprKind::InvalidHeader,
            TokenKind::Symbol("...") => ExprKind::Dots,
            TokenKind::Symbol("{") => return self.nested(|p| p.enclosed(Self::list)),
            TokenKind::Symbol("(") => {
                self.at += 1;
                let mut inner = self.enclosed(Self::expr)?;
                if !self.at_symbol(")") {
                    let failed = if self.at_end() {
                        self.unclosed(")", start)
                    } else {
                        self.unexpected("`)`")
                    };
                    return Err(failed);
                }
                self.at += 1;
                inner.span = self.since(start);
                return Ok(inner);
            }
            TokenKind::Symbol(".") => {
                let path = self.path("a name")?;
                return Ok(Expr {
                    span: path.span,
                    kind: ExprKind::Path(path),
                });
            }
            TokenKind::Word(word) => match &**word {
                "true" => ExprKind::Bool(true),
                "false" => ExprKind::Bool(false),
                "this" => ExprKind::This,
                "error" if self.peek_at(1).is_symbol(".") => ExprKind::Type(Box::new(Type {
                    span: start,
                    kind: TypeKind::Error,
                })),
                _ if self.base_type_at(self.at) => {
                    let ty = self.ty()?;
                    if !self.at_symbol(".") {
                        return Err(self.unexpected("`.` behind the type"));
                    }
                    self.height = 1;
                    return Ok(Expr {
                        span: ty.span,
                        kind: ExprKind::Type(Box::new(ty)),
                    });
                }
                _ if !is_reserved(word) => {
                    let name = self.name("a name")?;
                    let path = Path {
                        span: start,
                        absolute: false,
                        name,
                    };
                    return Ok(Expr {
                        span: start,
                        kind: ExprKind::Path(path),
                    });
                }
                _ => return Err(self.unexpected("an expression")),
            },
            _ => return Err(self.unexpected("an expression")),
        };
        self.at += 1;
        Ok(Expr { span: start, kind })
    }

    /// `{ a, b }` or `{ a = x, b = y }`
    fn list(&mut self) -> Parsed<Expr> {
        let start = self.expect("{")?;
        let mut height = 0;
        let record = self.name_at(0) && self.peek_at(1).is_symbol("=");
        let kind = if record {
            let mut dots = false;
            let fields = self.separated("}", true, |p| {
                if p.take_symbol("...") {
                    dots = true;
                    if !p.at_symbol("}") && !p.peek_at(1).is_symbol("}") {
                        return Err(p.unexpected("`}` behind `...`"));
                    }
                    return Ok(None);
                }
                let field = p.named_expr().map(Some);
                height = height.max(p.height);
                field
            })?;
            ExprKind::Record {
                fields: fields.into_iter().flatten().collect(),
                dots,
            }
        } else {
            ExprKind::List(self.separated("}", true, |p| {
                let element = p.expr();
                height = height.max(p.height);
                element
            })?)
        };
        self.grow(height, start)?;
        Ok(Expr {
            span: self.since(start),
            kind,
        })
    }

    /// The keyset of a case or an entry: one or several in parentheses.
    pub(super) fn keysets(&mut self) -> Parsed<Vec<Keyset>> {
        if self.at_symbol("(") {
            let close = self.matching(self.at);
            if close.is_some_and(|at| self.token_at(at).is_symbol(":")) {
                self.at += 1;
                return self.enclosed(|p| p.separated(")", false, Self::keyset));
            }
        }
        Ok(vec![self.keyset()?])
    }

    fn keyset(&mut self) -> Parsed<Keyset> {
        let start = self.peek().span;
        let kind = if self.take_word("default") {
            KeysetKind::Default
        } else if self.take_word("_") {
            KeysetKind::DontCare
        } else {
            let first = self.expr()?;
            if self.take_symbol("&&&") {
                KeysetKind::Mask(first, self.expr()?)
            } else if self.take_symbol("..") {
                KeysetKind::Range(first, self.expr()?)
            } else {
                KeysetKind::Value(first)
            }
        };
        Ok(Keyset {
            span: self.since(start),
            kind,
        })
    }
}

/// Whether a token can only begin an operand, not continue an expression.
fn starts_operand(token: &Token) -> bool {
    match &token.kind {
        TokenKind::Word(word) => {
            !is_reserved(word)
                || matches!(&**word, "true" | "false" | "this" | "error" | "bit" | "int")
        }
        TokenKind::Int(_) | TokenKind::Str(_) => true,
        TokenKind::Symbol(symbol) => matches!(*symbol, "{" | "{#}" | "~" | "!" | "..."),
        _ => false,
    }
}

fn can_be_called(expr: &Expr) -> bool {
    matches!(expr.kind, ExprKind::Path(_) | ExprKind::Member { .. })
}
