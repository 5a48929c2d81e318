//! The expressions of `#if` and `#elif`: integers of 128 bits, C's operators, `defined`; a name that
//! is no macro counts as 0.

use super::Preprocessor;
use crate::diagnostics::Diagnostic;
use crate::front::lexer::int_token;
use crate::front::token::{Token, TokenKind};
use crate::source::Span;

/// How deep an expression may be nested.
const MAX_DEPTH: usize = 64;

impl Preprocessor<'_> {
    /// Whether the condition behind `#if` holds; false, with an error, when it makes no sense.
    pub(super) fn condition(&mut self, directive: &Token, tokens: &[Token]) -> bool {
        let mut replaced = Vec::new();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            if token.word() != Some("defined") {
                replaced.push(token.clone());
                continue;
            }
            let parenthesised = tokens.get(at).is_some_and(|t| t.is_symbol("("));
            let name = tokens
                .get(at + usize::from(parenthesised))
                .and_then(Token::word);
            let closed = !parenthesised || tokens.get(at + 2).is_some_and(|t| t.is_symbol(")"));
            let (Some(name), true) = (name, closed) else {
                self.error(token.span, "`defined` needs a name, as in `defined(NAME)`");
                return false;
            };
            replaced.push(int_token(u32::from(self.is_defined(name)), token));
            at += if parenthesised { 3 } else { 1 };
        }
        let expanded = self.expand_all(replaced);
        let end = tokens.last().map_or(directive.span, |t| t.span).after();
        let mut evaluator = Evaluator {
            tokens: &expanded,
            at: 0,
            end,
            depth: 0,
        };
        let result = evaluator
            .ternary(true)
            .and_then(|value| match evaluator.peek() {
                None => Ok(value),
                Some(token) => Err(Wrong::new(
                    token.span,
                    format!("expected an operator, found {}", token.describe()),
                )),
            });
        match result {
            Ok(value) => value != 0,
            Err(wrong) => {
                self.diagnostics
                    .push(Diagnostic::error(wrong.span, wrong.message).with_code("preprocessor"));
                false
            }
        }
    }
}

struct Wrong {
    span: Span,
    message: String,
}

impl Wrong {
    fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
        }
    }
}

struct Evaluator<'a> {
    tokens: &'a [Token],
    at: usize,
    end: Span,
    depth: usize,
}

impl<'a> Evaluator<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = self.peek().is_some_and(|t| t.is_symbol(symbol));
        self.at += usize::from(found);
        found
    }

    /// The operator here, with `>>` put together from its two tokens, how tightly it binds, and its length.
    fn operator(&self) -> Option<(&'static str, u8, usize)> {
        let TokenKind::Symbol(symbol) = self.peek()?.kind else {
            return None;
        };
        let second = self.tokens.get(self.at + 1);
        if symbol == ">" && second.is_some_and(|t| t.is_symbol(">") && !t.spaced) {
            return Some((">>", 8, 2));
        }
        let binds = match symbol {
            "||" => 1,
            "&&" => 2,
            "|" => 3,
            "^" => 4,
            "&" => 5,
            "==" | "!=" => 6,
            "<" | "<=" | ">" | ">=" => 7,
            "<<" => 8,
            "+" | "-" => 9,
            "*" | "/" | "%" => 10,
            _ => return None,
        };
        Some((symbol, binds, 1))
    }

    /// `live` is false where the value does not matter, so that `0 && 1 / 0` is no error.
    fn ternary(&mut self, live: bool) -> Result<i128, Wrong> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let span = self.peek().map_or(self.end, |t| t.span);
            return Err(Wrong::new(span, "the condition is nested too deeply"));
        }
        let condition = self.binary(1, live)?;
        let mut value = condition;
        if self.take("?") {
            let then = self.ternary(live && condition != 0)?;
            if !self.take(":") {
                let span = self.peek().map_or(self.end, |t| t.span);
                return Err(Wrong::new(span, "expected `:`"));
            }
            let otherwise = self.ternary(live && condition == 0)?;
            value = if condition != 0 { then } else { otherwise };
        }
        self.depth -= 1;
        Ok(value)
    }

    fn binary(&mut self, least: u8, live: bool) -> Result<i128, Wrong> {
        let mut left = self.unary(live)?;
        while let Some((symbol, binds, length)) = self.operator() {
            if binds < least {
                break;
            }
            let span = self.peek().map_or(self.end, |t| t.span);
            self.at += length;
            let needed = live
                && match symbol {
                    "&&" => left != 0,
                    "||" => left == 0,
                    _ => true,
                };
            let right = self.binary(binds + 1, needed)?;
            left = match apply(symbol, left, right) {
                Some(value) => value,
                None if !live => 0,
                None if matches!(symbol, "/" | "%") && right == 0 => {
                    return Err(Wrong::new(span, "division by zero in a condition"));
                }
                None => return Err(Wrong::new(span, "the value of a condition is too large")),
            };
        }
        Ok(left)
    }

    fn unary(&mut self, live: bool) -> Result<i128, Wrong> {
        let mut operators = Vec::new();
        loop {
            let Some(token) = self.peek() else {
                return Err(Wrong::new(
                    self.end,
                    "expected a value, found the end of the condition",
                ));
            };
            match token.kind {
                TokenKind::Symbol(symbol @ ("!" | "~" | "-" | "+")) => {
                    operators.push(symbol);
                    self.at += 1;
                }
                _ => break,
            }
        }
        let mut value = self.primary(live)?;
        for operator in operators.into_iter().rev() {
            value = match operator {
                "!" => i128::from(value == 0),
                "~" => !value,
                "-" => value.wrapping_neg(),
                _ => value,
            };
        }
        Ok(value)
    }

    fn primary(&mut self, live: bool) -> Result<i128, Wrong> {
        let Some(token) = self.peek() else {
            return Err(Wrong::new(
                self.end,
                "expected a value, found the end of the condition",
            ));
        };
        self.at += 1;
        match &token.kind {
            TokenKind::Int(lit) => i128::try_from(&lit.value)
                .map_err(|_| Wrong::new(token.span, "the value of a condition is too large")),
            TokenKind::Word(_) => Ok(0),
            TokenKind::Symbol("(") => {
                let value = self.ternary(live)?;
                if self.take(")") {
                    return Ok(value);
                }
                let span = self.peek().map_or(self.end, |t| t.span);
                Err(Wrong::new(span, "expected `)`"))
            }
            _ => Err(Wrong::new(
                token.span,
                format!("expected a value, found {}", token.describe()),
            )),
        }
    }
}

fn apply(symbol: &str, left: i128, right: i128) -> Option<i128> {
    let flag = |b: bool| Some(i128::from(b));
    match symbol {
        "||" => flag(left != 0 || right != 0),
        "&&" => flag(left != 0 && right != 0),
        "|" => Some(left | right),
        "^" => Some(left ^ right),
        "&" => Some(left & right),
        "==" => flag(left == right),
        "!=" => flag(left != right),
        "<" => flag(left < right),
        "<=" => flag(left <= right),
        ">" => flag(left > right),
        ">=" => flag(left >= right),
        "<<" => u32::try_from(right)
            .ok()
            .and_then(|by| left.checked_shl(by)),
        ">>" => u32::try_from(right)
            .ok()
            .and_then(|by| left.checked_shr(by)),
        "+" => left.checked_add(right),
        "-" => left.checked_sub(right),
        "*" => left.checked_mul(right),
        "/" => left.checked_div(right),
        "%" => left.checked_rem(right),
        _ => None,
    }
}
