//! What only a gate's clauses have: times of a week, and what first data must be.

use super::{Parsed, Parser};
use crate::lex::{Punct, TokenKind};
use crate::tree::*;

impl Parser<'_> {
    /// `[from TIME to TIME] [on DAY[..DAY], …]`
    pub(super) fn when(&mut self) -> Parsed<WhenClause> {
        let mut hours = None;
        if self.eat_word("from") {
            let start = self.span();
            let from = self.clock()?;
            self.expect_word("to")?;
            let to = self.clock()?;
            hours = Some(Spanned {
                value: (from.value, to.value),
                span: self.span_since(start),
            });
        }
        let mut days = Vec::new();
        if self.eat_word("on") {
            days = self.listed(|p| {
                let day = p.name("a day such as `mon`")?;
                let last = if p.eat(Punct::Range) {
                    Some(p.name("the last day")?)
                } else {
                    None
                };
                Ok((day, last))
            })?;
        }
        Ok(WhenClause { hours, days })
    }

    fn clock(&mut self) -> Parsed<Spanned<u32>> {
        self.literal("a time of day such as `08:00`", |k| match k {
            TokenKind::Clock(seconds) => Some(*seconds),
            _ => None,
        })
    }

    /// `tls.name`, `http.host` or `bytes`, and what it is compared with.
    pub(super) fn look(&mut self) -> Parsed<LookClause> {
        const WHAT: [&str; 3] = ["tls.name", "http.host", "bytes"];
        let span = self.span();
        let Some(word) = self.word().filter(|w| WHAT.contains(w)) else {
            return self.expected_word("what can be looked at", &WHAT);
        };
        self.bump();
        let what = Spanned {
            value: word.to_owned(),
            span,
        };
        if word == "bytes" {
            let values = vec![self.text_literal("the bytes in double quotes")?];
            let mask = match self.eat_word("mask") {
                true => Some(self.text_literal("the bits that count in double quotes")?),
                false => None,
            };
            let at = match self.eat_word("at") {
                true => Some(self.number("a place in the data")?),
                false => None,
            };
            return Ok(LookClause {
                what,
                values,
                mask,
                at,
            });
        }
        let one = "a name in double quotes";
        let values = if self.eat_word("in") || self.eat(Punct::Equal) || self.is(Punct::OpenBrace) {
            self.texts(one)?
        } else {
            vec![self.text_literal(one)?]
        };
        Ok(LookClause {
            what,
            values,
            mask: None,
            at: None,
        })
    }

    /// One text, or several in braces.
    fn texts(&mut self, what: &str) -> Parsed<Vec<Spanned<String>>> {
        if !self.eat(Punct::OpenBrace) {
            return Ok(vec![self.text_literal(what)?]);
        }
        let mut out = vec![self.text_literal(what)?];
        while self.eat(Punct::Comma) {
            if self.is(Punct::CloseBrace) {
                break;
            }
            out.push(self.text_literal(what)?);
        }
        self.expect(Punct::CloseBrace)?;
        Ok(out)
    }

    fn text_literal(&mut self, what: &str) -> Parsed<Spanned<String>> {
        self.literal(what, |k| match k {
            TokenKind::Text(text) => Some(text.clone()),
            _ => None,
        })
    }
}
