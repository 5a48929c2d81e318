//! Test blocks: packets to send and what must become of them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Checker;
use crate::diagnostic::Diagnostic;
use crate::model::{
    Ends, Expect, Family, Policy, Send, SendPacket, ServiceKind, Step, TestCase, Transport,
    address_bits,
};
use crate::tree::{
    AnswerClause, ExpectBody, Item, Name, SendClause, Spanned, TestClause, TestItem, Value,
};

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
                            send: Send::Packet(packet),
                            expect: Vec::new(),
                            span: send.span,
                        });
                    }
                }
                TestClause::Answer(answer) => {
                    self.nothing_expected(&steps);
                    if !sent && self.parse.errors.is_empty() {
                        self.report(
                            Diagnostic::error(
                                "nothing-sent",
                                answer.span,
                                "something is answered before anything is sent",
                            )
                            .help("put a `send` of a packet before it"),
                        );
                    }
                    sent = true;
                    if let Some(send) = self.answer(policy, answer) {
                        steps.push(Step {
                            send,
                            expect: Vec::new(),
                            span: answer.span,
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
            let number = self.option(name, value);
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

    /// The number of an option; reports one out of range.
    fn option(&mut self, name: &Name, value: &Spanned<u64>) -> u16 {
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
        value.value.min(high) as u16
    }

    fn answer(&mut self, policy: &Policy, answer: &AnswerClause) -> Option<Send> {
        let port = self.port_named(policy, &answer.on);
        let flags = if answer.flags.is_empty() {
            None
        } else {
            Some(self.flag_bits(&answer.flags)?)
        };
        let (mut ttl, mut payload) = (64, 0);
        for (name, value) in &answer.options {
            let number = self.option(name, value);
            match name.value.as_str() {
                "ttl" => ttl = number as u8,
                _ => payload = number,
            }
        }
        Some(Send::Answer {
            port: port?,
            flags,
            ttl,
            payload,
        })
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
                let why = match &service.kind {
                    ServiceKind::Filter(_) => Some("is a filter"),
                    ServiceKind::Observe(o) if !o.per_flow => Some("does not count flows"),
                    _ => None,
                };
                if let Some(why) = why {
                    let message = format!("`{}` {why}, and asks no manager", name.value);
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
            ExpectBody::Forward { on, from, to } => {
                let port = self.port_named(policy, on);
                let from = match from {
                    Some(from) => Some(self.ends(from)?),
                    None => None,
                };
                Expect::Forward {
                    port: port?,
                    from,
                    to: to.as_ref().map(|t| t.value),
                }
            }
            ExpectBody::Count(name) => {
                let service = policy.service_named(&name.value);
                if service.is_none() {
                    self.unknown_service(&policy.services, name);
                }
                let service = service?;
                if !matches!(service.kind, ServiceKind::Observe(_)) {
                    let message = format!("`{}` counts no packets by itself", name.value);
                    self.report(
                        Diagnostic::error("counts-nothing", name.span, message)
                            .label("expected an observe service"),
                    );
                    return None;
                }
                Expect::Count {
                    service: service.index,
                }
            }
        })
    }

    /// The sources that an `expect forward … from` allows.
    fn ends(&mut self, from: &Spanned<Value>) -> Option<Ends> {
        let (first, last, port) = match &from.value {
            Value::Address(a) => (*a, *a, None),
            Value::Endpoint(a, port) => (*a, *a, Some(*port)),
            Value::AddressRange(low, high) if low.is_ipv4() == high.is_ipv4() && low <= high => {
                (*low, *high, None)
            }
            Value::Prefix(a, length) => {
                let net = IpNet::new(*a, *length).ok()?;
                let family = Family::of(*a);
                let mask = signalbox_proofs::prefix_mask(family.bits(), (*length).into());
                let first = address_bits(net.network());
                let last = first | (family.full_mask() & !mask);
                (family.address(first), family.address(last), None)
            }
            _ => {
                let written = self.slice(from.span).to_owned();
                self.report(
                    Diagnostic::error(
                        "wrong-value",
                        from.span,
                        format!("`{written}` is not a source"),
                    )
                    .label("expected an address, a range, a prefix or ADDRESS:PORT"),
                );
                return None;
            }
        };
        Some(Ends { first, last, port })
    }
}
