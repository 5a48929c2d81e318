//! Conditions on packets: `or` binds weakest, then `and`, then `not`; and the values in them.

use super::{Parsed, Parser, Recover};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::lex::{Punct, TokenKind};
use crate::tree::*;

impl Parser<'_> {
    pub(super) fn expr(&mut self) -> Parsed<Expr> {
        self.nested(|p| p.joined("or", Expr::Or, Self::conjunction))
    }

    fn conjunction(&mut self) -> Parsed<Expr> {
        self.joined("and", Expr::And, Self::unary)
    }

    /// One part, or several with the word between them.
    fn joined(
        &mut self,
        word: &str,
        join: fn(Vec<Expr>) -> Expr,
        part: fn(&mut Self) -> Parsed<Expr>,
    ) -> Parsed<Expr> {
        let first = part(self)?;
        if !self.is_word(word) {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.eat_word(word) {
            parts.push(part(self)?);
        }
        Ok(join(parts))
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let start = self.span();
        if self.eat_word("not") {
            let inner = self.nested(Self::unary)?;
            return Ok(Expr::Not(Box::new(inner), self.span_since(start)));
        }
        if self.eat(Punct::OpenParen) {
            let inner = self.expr()?;
            self.expect(Punct::CloseParen)?;
            return Ok(inner);
        }
        self.test().map(Expr::Test)
    }

    fn test(&mut self) -> Parsed<Test> {
        let span = self.span();
        let Some(word) = self.word().filter(|_| !self.next_begins()) else {
            return self.expected("a condition such as `ip.src in 10.0.0.0/8`");
        };
        let Some(field) = Field::named(word) else {
            let mut d = Diagnostic::error(
                "unknown-field",
                span,
                format!("`{word}` is not a field of a packet"),
            );
            let names = FIELDS.iter().map(|(name, _)| *name);
            d = match did_you_mean(word, names.clone()) {
                Some(meant) => d.help(format!("did you mean `{meant}`?")),
                None => d.help(format!(
                    "fields are {}",
                    names.collect::<Vec<_>>().join(", ")
                )),
            };
            self.errors.push(d);
            return Err(Recover);
        };
        self.bump();
        let mut negated = false;
        let mut value = None;
        if field.takes_value() {
            match () {
                () if self.eat(Punct::NotEqual) => negated = true,
                () if self.eat(Punct::Equal) || self.eat_word("in") => {}
                () => {}
            }
            value = Some(self.value(field)?);
        } else if self.is(Punct::Equal) || self.is(Punct::NotEqual) || self.is_word("in") {
            let message = format!("`{word}` is a condition by itself and is compared with nothing");
            self.errors
                .push(Diagnostic::error("no-value", self.span(), message));
            return Err(Recover);
        }
        Ok(Test {
            field,
            field_span: span,
            negated,
            value,
            span: self.span_since(span),
        })
    }

    fn value(&mut self, field: Field) -> Parsed<Spanned<Value>> {
        let what = match field {
            Field::InPort => "a port's name",
            Field::IpSrc | Field::IpDst => "an address, a prefix, a range or @SET",
            Field::IpProto => "a protocol's name or number",
            Field::TcpFlags => "flags such as `syn` or `syn/syn+ack`",
            Field::IcmpType => "an ICMP type's name or number",
            _ => "a port, a range, ADDRESS:PORT or a list",
        };
        let start = self.span();
        if self.next_begins() {
            return self.expected(what);
        }
        let value = match self.kind() {
            TokenKind::Word if field == Field::TcpFlags => {
                let set = self.flags()?;
                let of = if self.eat(Punct::Slash) {
                    Some(self.flags()?)
                } else {
                    None
                };
                Value::Flags(set, of)
            }
            TokenKind::Word => {
                let word = self.slice(start);
                if ["and", "or", "not", "in"].contains(&word) {
                    return self.expected(what);
                }
                self.bump();
                Value::Word(word.to_owned())
            }
            TokenKind::Punct(Punct::OpenBrace) => self
                .nested(|p| {
                    p.expect(Punct::OpenBrace)?;
                    p.elements(|p| p.value(field))
                })
                .map(Value::List)?,
            _ => return self.simple_value(what),
        };
        Ok(Spanned {
            value,
            span: self.span_since(start),
        })
    }

    /// A number, an address, a prefix, a range, an endpoint or a set's name.
    pub(super) fn simple_value(&mut self, what: &str) -> Parsed<Spanned<Value>> {
        let start = self.span();
        let value = match self.kind() {
            TokenKind::Number(low) => {
                self.bump();
                if self.eat(Punct::Range) {
                    let high = self.number("the end of the range")?;
                    Value::NumberRange(*low, high.value)
                } else {
                    Value::Number(*low)
                }
            }
            TokenKind::Address(low) => {
                self.bump();
                if self.eat(Punct::Range) {
                    let high = self.literal("the end of the range", |k| match k {
                        TokenKind::Address(a) => Some(*a),
                        _ => None,
                    })?;
                    Value::AddressRange(*low, high.value)
                } else {
                    Value::Address(*low)
                }
            }
            TokenKind::Prefix(address, length) => {
                self.bump();
                Value::Prefix(*address, *length)
            }
            TokenKind::Endpoint(address, port) => {
                self.bump();
                Value::Endpoint(*address, *port)
            }
            TokenKind::At => {
                let name = self.slice(start).trim_start_matches('@').to_owned();
                self.bump();
                Value::Set(name)
            }
            _ => return self.expected(what),
        };
        Ok(Spanned {
            value,
            span: self.span_since(start),
        })
    }

    /// `{ VALUE, … }` of a `set`.
    pub(super) fn list(&mut self) -> Parsed<Vec<Spanned<Value>>> {
        self.expect(Punct::OpenBrace)?;
        self.elements(|p| p.simple_value("an address, a prefix or a range"))
    }

    /// Elements after an opening brace, up to and with the closing one; a comma may end them.
    fn elements(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Parsed<Spanned<Value>>,
    ) -> Parsed<Vec<Spanned<Value>>> {
        let mut out = Vec::new();
        while !self.eat(Punct::CloseBrace) {
            out.push(element(self)?);
            if !self.eat(Punct::Comma) && !self.is(Punct::CloseBrace) {
                return self.expected("`,` or `}`");
            }
        }
        Ok(out)
    }

    /// `A+B+…`
    pub(super) fn flags(&mut self) -> Parsed<Vec<Name>> {
        let mut out = vec![self.name("a flag")?];
        while self.eat(Punct::Plus) {
            out.push(self.name("a flag")?);
        }
        Ok(out)
    }
}
