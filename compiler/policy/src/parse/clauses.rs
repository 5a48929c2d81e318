//! Clauses: one line of a block each.

use std::net::IpAddr;
use std::time::Duration;

use super::{Parsed, Parser};
use crate::lex::{Punct, TokenKind};
use crate::model::Span;
use crate::tree::*;

pub(super) const NETWORK_WORDS: [&str; 3] = ["port", "route", "neighbour"];
const PORT_WORDS: [&str; 3] = ["address", "mac", "mtu"];
/// Others begin a server.
pub(super) const POOL_WORDS: [&str; 1] = ["check"];
/// All begin with a name.
pub(super) const MANAGER_WORDS: [&str; 0] = [];
pub(super) const TEST_WORDS: [&str; 2] = ["send", "expect"];

impl Parser<'_> {
    pub(super) fn address(&mut self, what: &str) -> Parsed<Spanned<IpAddr>> {
        self.literal(what, |k| match k {
            TokenKind::Address(a) => Some(*a),
            _ => None,
        })
    }

    pub(super) fn prefix(&mut self, what: &str) -> Parsed<Spanned<(IpAddr, u8)>> {
        self.literal(what, |k| match k {
            TokenKind::Prefix(a, length) => Some((*a, *length)),
            _ => None,
        })
    }

    /// `ADDRESS[:PORT]`
    pub(super) fn endpoint(&mut self, what: &str) -> Parsed<Spanned<(IpAddr, Option<u16>)>> {
        self.literal(what, |k| match k {
            TokenKind::Endpoint(a, port) => Some((*a, Some(*port))),
            TokenKind::Address(a) => Some((*a, None)),
            _ => None,
        })
    }

    pub(super) fn duration(&mut self) -> Parsed<Spanned<Duration>> {
        self.literal("a time such as `10s`", |k| match k {
            TokenKind::Duration(d) => Some(*d),
            _ => None,
        })
    }

    pub(super) fn set_name(&mut self, what: &str) -> Parsed<Name> {
        let span = self.span();
        if *self.kind() != TokenKind::At {
            return self.expected(what);
        }
        let value = self.slice(span).trim_start_matches('@').to_owned();
        self.bump();
        Ok(Spanned { value, span })
    }

    pub(super) fn network_clause(&mut self) -> Parsed<NetworkClause> {
        match self.word() {
            Some("port") => {
                self.bump();
                let number = self.number("the port's number")?;
                let name = self.name("the port's name")?;
                let clauses = self.block(&PORT_WORDS, Self::port_clause)?;
                Ok(NetworkClause::Port {
                    number,
                    name,
                    clauses,
                })
            }
            Some("route") => {
                self.bump();
                let prefix = self.prefix("the destinations as ADDRESS/LENGTH")?;
                self.expect_word("via")?;
                let via = self.address("the next hop's address")?;
                Ok(NetworkClause::Route { prefix, via })
            }
            Some("neighbour") => {
                self.bump();
                let address = self.address("the neighbour's address")?;
                self.expect_word("at")?;
                let mac = self.mac()?;
                let on = if self.eat_word("on") {
                    Some(self.name("a port's name")?)
                } else {
                    None
                };
                Ok(NetworkClause::Neighbour { address, mac, on })
            }
            _ => self.expected_word("a clause of `network`", &NETWORK_WORDS),
        }
    }

    fn mac(&mut self) -> Parsed<Spanned<crate::model::Mac>> {
        self.literal(
            "an Ethernet address such as 02:00:00:00:00:01",
            |k| match k {
                TokenKind::Mac(mac) => Some(*mac),
                _ => None,
            },
        )
    }

    fn port_clause(&mut self) -> Parsed<PortClause> {
        let span = self.span();
        match self.word() {
            Some("address") => {
                self.bump();
                Ok(PortClause::Address(
                    self.prefix("the switch's own address as ADDRESS/LENGTH")?,
                ))
            }
            Some("mac") => {
                self.bump();
                Ok(PortClause::Mac(self.mac()?))
            }
            Some("mtu") => {
                self.bump();
                Ok(PortClause::Mtu(self.number("a number of bytes")?))
            }
            Some("vlan") => {
                self.bump();
                self.number("a VLAN's number")?;
                Ok(PortClause::Vlan(self.span_since(span)))
            }
            _ => self.expected_word("a clause of `port`", &PORT_WORDS),
        }
    }

    pub(super) fn pool_clause(&mut self) -> Parsed<PoolClause> {
        let span = self.span();
        if self.eat_word("check") {
            let kind = self.name("`tcp`, `http` or `load`")?;
            let path = match self.kind() {
                TokenKind::Text(text) => {
                    let path = Spanned {
                        value: text.clone(),
                        span: self.span(),
                    };
                    self.bump();
                    Some(path)
                }
                _ => None,
            };
            let mut options = Vec::new();
            while let Some("every" | "timeout" | "rise" | "fall") = self.word() {
                let name = self.name("an option")?;
                let value = self.literal("a number or a time", |k| match k {
                    TokenKind::Number(n) => Some(Quantity::Number(*n)),
                    TokenKind::Duration(d) => Some(Quantity::Time(*d)),
                    _ => None,
                })?;
                options.push((name, value));
            }
            return Ok(PoolClause::Check {
                kind,
                path,
                options,
                span: self.span_since(span),
            });
        }
        let name = match self.word() {
            Some(_) => Some(self.name("a server's name")?),
            None => None,
        };
        let endpoint = self.endpoint("a server as ADDRESS:PORT, or `check`")?;
        let weight = if self.eat_word("weight") {
            Some(self.number("a weight")?)
        } else {
            None
        };
        Ok(PoolClause::Server {
            name,
            endpoint,
            weight,
        })
    }

    pub(super) fn manager_clause(&mut self) -> Parsed<ManagerClause> {
        let span = self.span();
        // `backup` may also be a manager's name.
        if self.is_word("backup") && *self.kind_ahead(1) == TokenKind::Word {
            let next = self
                .tokens
                .get(self.at + 1)
                .map_or("", |t| self.slice(t.span));
            if next != "serves" {
                self.bump();
                let name = self.name("a manager's name")?;
                self.expect_word("with")?;
                let with = self.name("a manager's name")?;
                let mut after = None;
                if self.eat_word("after") {
                    after = Some(self.duration()?);
                }
                let mut replicate = None;
                if self.eat_word("replicate") {
                    replicate = Some(self.name("`sync` or `async`")?);
                }
                return Ok(ManagerClause::Backup {
                    name,
                    with,
                    after,
                    replicate,
                    span,
                });
            }
        }
        let name = self.name("a manager's name")?;
        self.expect_word("serves")?;
        let mut services = vec![self.name("a service's name")?];
        while self.eat(Punct::Comma) {
            services.push(self.name("a service's name")?);
        }
        let part = if self.eat_word("where") {
            Some(self.expr()?)
        } else {
            None
        };
        Ok(ManagerClause::Serves {
            name,
            services,
            part,
        })
    }

    pub(super) fn test_clause(&mut self) -> Parsed<TestClause> {
        match self.word() {
            Some("send") => self.send(),
            Some("expect") => self.expectation(),
            _ => self.expected_word("a clause of a test", &TEST_WORDS),
        }
    }

    fn send(&mut self) -> Parsed<TestClause> {
        let start = self.span();
        self.expect_word("send")?;
        let proto = match self.word() {
            Some("answer") => return self.answer(start),
            Some("tcp" | "udp" | "icmp") => self.name("a protocol")?,
            _ => {
                let known = ["tcp", "udp", "icmp", "answer"];
                return self.expected_word("what can be sent", &known);
            }
        };
        let mut words = Vec::new();
        if *self.kind() == TokenKind::Word {
            words = self.flags()?;
        }
        let from = self.endpoint("the source address")?;
        self.expect(Punct::Arrow)?;
        let to = self.endpoint("the destination address")?;
        self.expect_word("on")?;
        let on = self.name("a port's name")?;
        let mut options = Vec::new();
        while let Some("ttl" | "payload" | "id") = self.word() {
            let name = self.name("an option")?;
            options.push((name, self.number("a number")?));
        }
        let span = self.span_since(start);
        Ok(TestClause::Send(SendClause {
            proto,
            words,
            from,
            to,
            on,
            options,
            span,
        }))
    }

    /// `answer [FLAGS] on PORT [OPTION NUMBER]…`
    fn answer(&mut self, start: Span) -> Parsed<TestClause> {
        self.expect_word("answer")?;
        let mut flags = Vec::new();
        if *self.kind() == TokenKind::Word && !self.is_word("on") {
            flags = self.flags()?;
        }
        self.expect_word("on")?;
        let on = self.name("a port's name")?;
        let mut options = Vec::new();
        while let Some("ttl" | "payload") = self.word() {
            let name = self.name("an option")?;
            options.push((name, self.number("a number")?));
        }
        Ok(TestClause::Answer(AnswerClause {
            flags,
            on,
            options,
            span: self.span_since(start),
        }))
    }

    fn expectation(&mut self) -> Parsed<TestClause> {
        let start = self.span();
        self.expect_word("expect")?;
        let kinds = [
            "drop", "server", "forward", "count", "manager", "interest", "reply",
        ];
        let Some(word) = self.word().filter(|w| kinds.contains(w)) else {
            return self.expected_word("something to expect", &kinds);
        };
        self.bump();
        let body = match word {
            "drop" => {
                let by = self.eat_word("by");
                ExpectBody::Drop(if by {
                    Some(self.name("a service's name")?)
                } else {
                    None
                })
            }
            "server" => {
                let named = if self.is_word("in") {
                    None
                } else {
                    Some(self.endpoint("`in`, or a server as ADDRESS:PORT")?)
                };
                self.expect_word("in")?;
                ExpectBody::Server(named, self.set_name("a pool as @NAME")?)
            }
            "forward" => {
                self.expect_word("on")?;
                let on = self.name("a port's name")?;
                let from = if self.eat_word("from") {
                    Some(self.simple_value("an address, a range, a prefix or ADDRESS:PORT")?)
                } else {
                    None
                };
                let to = if self.eat_word("to") {
                    Some(self.endpoint("an address")?)
                } else {
                    None
                };
                ExpectBody::Forward { on, from, to }
            }
            "count" => {
                self.expect_word("by")?;
                ExpectBody::Count(self.name("a service's name")?)
            }
            "manager" => ExpectBody::Manager(self.name("a manager's name")?),
            "interest" => {
                self.expect_word("of")?;
                ExpectBody::Interest(self.name("a service's name")?)
            }
            _ => ExpectBody::Reply,
        };
        Ok(TestClause::Expect(ExpectClause {
            body,
            span: self.span_since(start),
        }))
    }
}
