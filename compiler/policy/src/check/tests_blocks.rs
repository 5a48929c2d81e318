//! Test blocks: packets to send and what must become of them.

use std::net::IpAddr;

use super::Checker;
use crate::diagnostic::Diagnostic;
use crate::model::{Expect, Policy, SendPacket, ServiceKind, Step, TestCase, Transport};
use crate::tree::{ExpectBody, Item, Name, SendClause, Spanned, TestClause, TestItem};

impl Checker<'_> {
    pub(super) fn tests(&mut self, policy: &Policy) -> Vec<TestCase> {
        let mut tests: Vec<TestCase> = Vec::new();
        for item in self.items() {
            let Item::Test(item) = item else { continue };
            if let Some(other) = tests.iter().find(|t| t.name == item.name.value) {
                self.report(
                    Diagnostic::error(
                        "duplicate-name",
                        item.name.span,
                        "two tests have the same name",
                    )
                    .related(other.span, "the first one"),
                );
                continue;
            }
            let steps = self.steps(policy, item);
            tests.push(TestCase {
                name: item.name.value.clone(),
                steps,
                span: item.name.span,
            });
        }
        tests
    }

    fn steps(&mut self, policy: &Policy, item: &TestItem) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        let mut sent = false;
        for clause in &item.clauses {
            match clause {
                TestClause::Send(send) => {
                    self.nothing_expected(&steps);
                    sent = true;
                    if let Some(packet) = self.send(policy, send) {
                        steps.push(Step {
                            send: packet,
                            expect: Vec::new(),
                            span: send.span,
                        });
                    }
                }
                TestClause::Expect(expect) => {
                    let resolved = self.expect(policy, &expect.body);
                    match (steps.last_mut(), resolved) {
                        (Some(step), Some(expected)) => step.expect.push(expected),
                        (None, _) if !sent && self.parse.errors.is_empty() => self.report(
                            Diagnostic::error(
                                "nothing-sent",
                                expect.span,
                                "something is expected before anything is sent",
                            )
                            .help("put a `send` before it"),
                        ),
                        _ => {}
                    }
                }
            }
        }
        self.nothing_expected(&steps);
        if item.clauses.is_empty() && self.parse.errors.is_empty() {
            self.error("empty-test", item.name.span, "this test sends nothing");
        }
        steps
    }

    fn nothing_expected(&mut self, steps: &[Step]) {
        let unread =
            self.parse.errors.is_empty() && !crate::diagnostic::has_errors(&self.diagnostics);
        if let (Some(step), true) = (steps.last(), unread)
            && step.expect.is_empty()
        {
            self.report(
                Diagnostic::error(
                    "nothing-expected",
                    step.span,
                    "nothing is expected of this packet",
                )
                .help("put an `expect` after it, such as `expect drop`"),
            );
        }
    }

    fn send(&mut self, policy: &Policy, send: &SendClause) -> Option<SendPacket> {
        let (src, src_port) = send.from.value;
        let (dst, dst_port) = send.to.value;
        if src.is_ipv4() != dst.is_ipv4() {
            self.error(
                "family",
                send.to.span,
                "source and destination are of one family",
            );
            return None;
        }
        let port = self.port_named(policy, &send.on);
        let mut packet = SendPacket {
            port: 0,
            src,
            dst,
            transport: Transport::Udp { src: 0, dst: 0 },
            ttl: 64,
            payload: 0,
        };
        let mut identifier = 1;
        for (name, value) in &send.options {
            let (low, high) = match name.value.as_str() {
                "ttl" => (1, 255),
                "payload" => (0, 1_400),
                _ => (0, 65_535),
            };
            if value.value < low || value.value > high {
                self.report(
                    Diagnostic::error(
                        "out-of-range",
                        value.span,
                        format!("`{}` is out of range", value.value),
                    )
                    .label(format!("expected {low} to {high}")),
                );
            }
            let number = value.value.min(high) as u16;
            match name.value.as_str() {
                "ttl" => packet.ttl = number as u8,
                "payload" => packet.payload = number,
                _ if send.proto.value != "icmp" => {
                    self.error("no-value", name.span, "`id` belongs to `icmp echo` only");
                }
                _ => identifier = number,
            }
        }
        packet.transport = match send.proto.value.as_str() {
            "icmp" => {
                self.echo(send)?;
                Transport::Echo { identifier }
            }
            proto => {
                let from = self.port_needed(&send.from, src_port);
                let to = self.port_needed(&send.to, dst_port);
                let (src, dst) = (from?, to?);
                if proto == "udp" {
                    if let Some(word) = send.words.first() {
                        self.error("no-value", word.span, "UDP has no flags");
                        return None;
                    }
                    Transport::Udp { src, dst }
                } else {
                    let flags = if send.words.is_empty() {
                        16
                    } else {
                        self.flag_bits(&send.words)?
                    };
                    Transport::Tcp { src, dst, flags }
                }
            }
        };
        packet.port = port?;
        Some(packet)
    }

    fn echo(&mut self, send: &SendClause) -> Option<()> {
        match send.words.as_slice() {
            [word] if word.value == "echo" => {}
            [word, ..] => {
                self.unknown_word("an ICMP message to send", word, &["echo"]);
                return None;
            }
            [] => {
                self.report(
                    Diagnostic::error(
                        "missing-argument",
                        send.proto.span,
                        "it is not said which message",
                    )
                    .help("write `send icmp echo …`"),
                );
                return None;
            }
        }
        for end in [&send.from, &send.to] {
            if end.value.1.is_some() {
                self.error("no-value", end.span, "ICMP has no ports");
                return None;
            }
        }
        Some(())
    }

    fn port_needed(
        &mut self,
        end: &Spanned<(IpAddr, Option<u16>)>,
        port: Option<u16>,
    ) -> Option<u16> {
        if port.is_none() {
            self.report(
                Diagnostic::error(
                    "no-port",
                    end.span,
                    format!("`{}` needs a port", end.value.0),
                )
                .label("expected ADDRESS:PORT"),
            );
        }
        port
    }

    fn port_named(&mut self, policy: &Policy, name: &Name) -> Option<u16> {
        let found = policy.network.port_named(&name.value).map(|p| p.number);
        if found.is_none() {
            self.unknown(
                "port",
                name,
                policy.network.ports.iter().map(|p| p.name.as_str()),
            );
        }
        found
    }

    fn expect(&mut self, policy: &Policy, body: &ExpectBody) -> Option<Expect> {
        Some(match body {
            ExpectBody::Reply => Expect::Reply,
            ExpectBody::Drop(None) => Expect::Drop { by: None },
            ExpectBody::Drop(Some(name)) => {
                let service = policy.service_named(&name.value);
                if service.is_none() {
                    self.unknown_service(&policy.services, name);
                }
                Expect::Drop {
                    by: Some(service?.index),
                }
            }
            ExpectBody::Interest(name) => {
                let service = policy.service_named(&name.value);
                if service.is_none() {
                    self.unknown_service(&policy.services, name);
                }
                let service = service?;
                if matches!(service.kind, ServiceKind::Filter(_)) {
                    let message = format!("`{}` is a filter, and asks no manager", name.value);
                    self.error("needs-no-manager", name.span, message);
                    return None;
                }
                Expect::Interest {
                    service: service.index,
                }
            }
            ExpectBody::Manager(name) => {
                let found = policy.managers.iter().position(|m| m.name == name.value);
                if found.is_none() {
                    self.unknown(
                        "manager",
                        name,
                        policy.managers.iter().map(|m| m.name.as_str()),
                    );
                }
                Expect::Manager { manager: found? }
            }
            ExpectBody::Server(named, pool) => {
                let used = self.used_pools.contains(&pool.value);
                let index = self.pool_named(&policy.pools, pool);
                if !used {
                    // Being expected is not being used.
                    self.used_pools.remove(&pool.value);
                }
                let index = index?;
                let servers = policy.pool(index).map_or(&[][..], |p| &p.servers);
                let mut server = None;
                if let Some(named) = named {
                    server = servers.iter().position(|s| {
                        s.address == named.value.0 && named.value.1.is_none_or(|p| p == s.port)
                    });
                    if server.is_none() {
                        let message = format!("pool `{}` has no such server", pool.value);
                        self.error("unknown-name", named.span, message);
                        return None;
                    }
                }
                Expect::Server {
                    pool: index,
                    server,
                }
            }
            ExpectBody::Forward(port, to) => Expect::Forward {
                port: self.port_named(policy, port)?,
                to: to.as_ref().map(|t| t.value),
            },
        })
    }
}
