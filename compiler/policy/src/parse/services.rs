//! Clauses of services. Those of every kind are read in every service; the checker says which are out
//! of place.

use super::{Parsed, Parser};
use crate::lex::{Punct, TokenKind};
use crate::tree::*;

/// The words that begin a clause of some kind of service.
pub(super) const SERVICE_WORDS: [&str; 27] = [
    "match",
    "allow",
    "deny",
    "pick",
    "keep",
    "fallback",
    "default",
    "stick",
    "slow-start",
    "way",
    "on-death",
    "limit",
    "source",
    "one-to-one",
    "destination",
    "hold-back",
    "inbound",
    "count",
    "report",
    "look",
    "refuse",
    "connect",
    "speak",
    "hand-over",
    "mss",
    "window-scale",
    "buffer",
];

/// The words of one kind; `None` for kinds that are not read.
pub(super) fn clauses_of(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "filter" => &["allow", "deny", "default"],
        "balance" => &[
            "match",
            "pick",
            "keep",
            "stick",
            "slow-start",
            "way",
            "on-death",
            "limit",
            "fallback",
        ],
        "nat" => &[
            "match",
            "source",
            "one-to-one",
            "destination",
            "keep",
            "hold-back",
            "inbound",
            "limit",
            "fallback",
        ],
        "gate" => &[
            "match",
            "allow",
            "limit",
            "look",
            "refuse",
            "connect",
            "speak",
            "hand-over",
            "keep",
            "mss",
            "window-scale",
            "buffer",
        ],
        "observe" => &["match", "count", "report", "keep", "fallback"],
        _ => return None,
    })
}

impl Parser<'_> {
    /// A clause of a service whose kind has these words.
    pub(super) fn service_clause(&mut self, words: &[&str]) -> Parsed<ServiceClause> {
        let span = self.span();
        let Some(word) = self.word().filter(|w| SERVICE_WORDS.contains(w)) else {
            return self.expected_word("a clause of such a service", words);
        };
        let keyword = self.name("a clause")?;
        let body = match word {
            "match" => ClauseBody::Match(self.expr()?),
            "allow" if words.contains(&"refuse") => {
                let expr = self.expr()?;
                ClauseBody::Allow(expr, self.when()?)
            }
            "look" => ClauseBody::Look(self.look()?),
            "refuse" => ClauseBody::Choice(self.name("`drop` or `reset`")?),
            "connect" | "speak" | "hand-over" => {
                self.expect_word("within")?;
                ClauseBody::Time(self.duration()?)
            }
            "mss" | "buffer" => ClauseBody::Number(self.number("a number of bytes")?),
            "window-scale" => ClauseBody::Number(self.number("a shift from 0 to 14")?),
            "pick" => self.pick()?,
            "keep" => {
                let what = if words.contains(&"source") {
                    "`established`, `transitory`, `udp` or `icmp`"
                } else if words.contains(&"refuse") {
                    "`idle`, `closed` or `proxied`"
                } else {
                    "`idle`, `closed` or `half-open`"
                };
                ClauseBody::Keep(self.listed(|p| Ok((p.name(what)?, p.duration()?)))?)
            }
            "fallback" => ClauseBody::Fallback(self.name("`drop` or `route`")?),
            "default" => ClauseBody::Default(self.any_name("`allow` or `deny`")?),
            "stick" => {
                // The word also begins a clause of another kind.
                if self.next_begins() {
                    return self.expected("`source`");
                }
                self.expect_word("source")?;
                ClauseBody::Time(self.duration()?)
            }
            "slow-start" | "hold-back" => ClauseBody::Time(self.duration()?),
            "way" => ClauseBody::Choice(self.name("`translate`, `mac`, `ipip` or `gue`")?),
            "on-death" => ClauseBody::Choice(self.name("`keep`, `drop` or `reset`")?),
            "inbound" => ClauseBody::Choice(self.name("`answers` or `mapped`")?),
            "limit" => ClauseBody::Limits(self.listed(Self::limit)?),
            "source" => self.source()?,
            "one-to-one" => {
                let inside = self.net("the inside prefix")?;
                self.expect(Punct::Assign)?;
                let outside = self.net("the outside prefix")?;
                ClauseBody::OneToOne { inside, outside }
            }
            "destination" => ClauseBody::Destination(self.endpoint("an address or ADDRESS:PORT")?),
            "count" => {
                let what = self.listed(|p| p.name("`packets`, `bytes` or `flags`"))?;
                let per_flow = self.eat_word("per");
                if per_flow {
                    self.expect_word("flow")?;
                }
                ClauseBody::Count { what, per_flow }
            }
            "report" => self.report_clause()?,
            _ => ClauseBody::Rule(self.expr()?),
        };
        Ok(ServiceClause {
            keyword,
            span: self.span_since(span),
            body,
        })
    }

    /// One or more with commas between.
    pub(super) fn listed<T>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let mut out = vec![one(self)?];
        while self.eat(Punct::Comma) {
            out.push(one(self)?);
        }
        Ok(out)
    }

    fn pick(&mut self) -> Parsed<ClauseBody> {
        self.expect_word("from")?;
        let pool = self.set_name("a pool as @NAME")?;
        self.expect_word("by")?;
        let method =
            self.name("`round-robin`, `weighted`, `least-connections` or `maglev(flow)`")?;
        let mut argument = None;
        if self.eat(Punct::OpenParen) {
            argument = Some(self.name("`flow` or `source`")?);
            self.expect(Punct::CloseParen)?;
        }
        Ok(ClauseBody::Pick {
            pool,
            method,
            argument,
        })
    }

    fn source(&mut self) -> Parsed<ClauseBody> {
        let what = "an outside address, a range or a prefix";
        let addresses = self.listed(|p| p.simple_value(what))?;
        let ports = if self.eat_word("ports") {
            let start = self.span();
            let low = self.number("a range of ports such as 1024..65535")?;
            self.expect(Punct::Range)?;
            let high = self.number("the end of the range")?;
            Some(Spanned {
                value: (low.value, high.value),
                span: self.span_since(start),
            })
        } else {
            None
        };
        Ok(ClauseBody::Source { addresses, ports })
    }

    /// A prefix, or an address as the prefix that holds only it.
    fn net(&mut self, what: &str) -> Parsed<Spanned<(std::net::IpAddr, u8)>> {
        self.literal(
            &format!("{what} as ADDRESS/LENGTH, or an address"),
            |k| match k {
                TokenKind::Prefix(a, length) => Some((*a, *length)),
                TokenKind::Address(a) => Some((*a, if a.is_ipv4() { 32 } else { 128 })),
                _ => None,
            },
        )
    }

    /// `N[/s] [WHAT] [per source]`
    fn limit(&mut self) -> Parsed<Limit> {
        let start = self.span();
        let what = "a number of flows, or a rate such as `1000/s`";
        let (count, rate) = match self.kind() {
            TokenKind::Rate(n) => (*n, true),
            TokenKind::Number(n) => (*n, false),
            _ => return self.expected(what),
        };
        let count = Spanned {
            value: count,
            span: start,
        };
        self.bump();
        let named = *self.kind() == TokenKind::Word && !self.on_next_line();
        let what = if named && !self.is_word("per") {
            Some(self.name("what is limited, or `per source`")?)
        } else {
            None
        };
        let per_source = self.eat_word("per");
        if per_source {
            self.expect_word("source")?;
        }
        Ok(Limit {
            count,
            rate,
            what,
            per_source,
            span: self.span_since(start),
        })
    }

    /// `every TIME` and `on close`, in any order.
    fn report_clause(&mut self) -> Parsed<ClauseBody> {
        let (mut every, mut on) = (Vec::new(), Vec::new());
        loop {
            match self.word() {
                Some("every") => every.push((self.name("`every`")?, self.duration()?)),
                Some("on") => {
                    self.bump();
                    on.push(self.name("`close`")?);
                }
                _ => return self.expected_word("a time of reports", &["every", "on"]),
            }
            if !self.eat(Punct::Comma) {
                return Ok(ClauseBody::Report { every, on });
            }
        }
    }
}
