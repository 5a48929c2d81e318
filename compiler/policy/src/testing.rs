//! A policy's own tests: the packets they send, and whether what became of them was expected.
//!
//! The same tests run on the evaluator ([`run`]) and on anything else that takes a frame and tells
//! its fate ([`run_on`]), such as the embedded switch. So that a test needs no hosts, every
//! neighbour it can meet is taken as known: see [`prepared`].

mod frames;

use std::net::{IpAddr, SocketAddr};

use crate::eval::{DropReason, Evaluator, Message, Outcome, Part, Resume};
use crate::model::{
    Expect, Fallback, Mac, Neighbour, Policy, Pool, ServiceIndex, ServiceKind, Span, Step, TestCase,
};
pub use frames::packet;

/// What one test came to.
#[derive(Clone, Debug)]
pub struct TestResult {
    /// The test's name.
    pub name: String,
    /// Where it stands in the policy.
    pub span: Span,
    /// What was not as expected; empty if the test passed.
    pub failures: Vec<Failure>,
}

impl TestResult {
    /// Whether all was as expected.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// One thing that was not as expected.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The `send` after which it was.
    pub span: Span,
    /// What was expected, and what was seen.
    pub message: String,
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// The services whose managers were asked about it, in order.
    pub asked: Vec<ServiceIndex>,
    /// What became of it in the end.
    pub end: End,
}

/// What became of a frame in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It left by a port.
    Forwarded {
        /// The port's number.
        port: u16,
        /// The frame as it left.
        frame: Vec<u8>,
    },
    /// It was dropped.
    Dropped(DroppedBy),
    /// The agent answered it.
    Replied,
    /// The agent has it and does not answer its sender.
    AtAgent(Message),
}

/// Who dropped a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DroppedBy {
    /// A service.
    Service(ServiceIndex),
    /// The pipeline around the services.
    Pipeline(DropReason),
    /// The target does not tell; no `by` holds.
    Unknown,
}

/// Something that policy tests can run on.
pub trait Target {
    /// Forgets everything that earlier tests did.
    fn reset(&mut self);
    /// Sends a frame in by a port, and waits for its end.
    fn send(&mut self, port: u16, frame: &[u8]) -> Fate;
}

/// Runs a policy's tests on the evaluator, in the order of the text.
pub fn run(policy: &Policy) -> Vec<TestResult> {
    let policy = prepared(policy);
    let mut target = OnEvaluator {
        policy: &policy,
        evaluator: Evaluator::new(&policy),
    };
    run_on(&policy, &mut target)
}

/// Runs a policy's tests on a target. The target must run [`prepared`]'s policy.
pub fn run_on(policy: &Policy, target: &mut dyn Target) -> Vec<TestResult> {
    policy
        .tests
        .iter()
        .map(|test| run_test(policy, test, target))
        .collect()
}

fn run_test(policy: &Policy, test: &TestCase, target: &mut dyn Target) -> TestResult {
    target.reset();
    let mut failures = Vec::new();
    for step in &test.steps {
        let fate = target.send(step.send.port, &packet(policy, &step.send));
        for message in judge(policy, step, &fate) {
            failures.push(Failure {
                span: step.span,
                message,
            });
        }
    }
    TestResult {
        name: test.name.clone(),
        span: test.span,
        failures,
    }
}

/// The policy with a static neighbour for every host that its tests can meet: servers, routers, and
/// the connected hosts that the tests name. What the policy says itself stays.
pub fn prepared(policy: &Policy) -> Policy {
    let mut out = policy.clone();
    let servers = policy
        .pools
        .iter()
        .flat_map(|p| p.servers.iter().map(|s| s.address));
    let routers = policy.network.routes.iter().map(|r| r.via);
    let sends = policy
        .tests
        .iter()
        .flat_map(|t| &t.steps)
        .flat_map(|s| [s.send.src, s.send.dst]);
    let own = policy.owned_addresses();
    for address in servers.chain(routers).chain(sends) {
        let known = out.network.neighbours.iter().any(|n| n.address == address);
        let port = policy.network.port_of(address).map(|p| p.number);
        if let (Some(port), false, false) = (port, known, own.contains(&address)) {
            out.network.neighbours.push(Neighbour {
                address,
                mac: neighbour_mac(address),
                port,
                span: Span::default(),
            });
        }
    }
    out
}

/// The Ethernet address that tests give a host: `02:48` and the last four bytes of its address.
pub fn neighbour_mac(address: IpAddr) -> Mac {
    let bits = crate::model::address_bits(address) as u32;
    let [a, b, c, d] = bits.to_be_bytes();
    Mac([0x02, 0x48, a, b, c, d])
}

struct OnEvaluator<'p> {
    policy: &'p Policy,
    evaluator: Evaluator<'p>,
}

impl Target for OnEvaluator<'_> {
    fn reset(&mut self) {
        self.evaluator = Evaluator::new(self.policy);
    }

    fn send(&mut self, port: u16, frame: &[u8]) -> Fate {
        let mut asked = Vec::new();
        let mut outcome = self.evaluator.receive(port, frame);
        // Each pass answers one service, and a service is asked once: the loop ends.
        while let Outcome::ToAgent {
            message: Message::Interest,
            stage: Some((service, part)),
            reply,
            packet,
        } = &outcome
        {
            if asked.contains(service) {
                break;
            }
            asked.push(*service);
            let resume = Resume {
                port,
                part: *part,
                service: *service,
                reply: *reply,
                answered: true,
            };
            if self.decide(*service, *part, packet) || self.fallback(*service) == Fallback::Route {
                outcome = self.evaluator.resume(&packet.clone(), resume);
            } else {
                return Fate {
                    asked: asked.clone(),
                    end: End::Dropped(DroppedBy::Service(*service)),
                };
            }
        }
        Fate {
            asked,
            end: self.end(outcome),
        }
    }
}

impl OnEvaluator<'_> {
    /// Stands in for a manager: the first server that takes new flows and can tell this one from the
    /// client's others, for a flow's first packet. In mid-flow no server is ever chosen.
    fn decide(&mut self, service: ServiceIndex, part: Part, packet: &[u8]) -> bool {
        let Some((flow, flags)) = self.evaluator.flow(packet) else {
            return false;
        };
        let first = flow.proto != 6 || flags & 0x16 == 2;
        if !first || part != Part::Forward {
            return false;
        }
        let servers: Vec<(IpAddr, u16)> = (self.pool(service).iter())
            .flat_map(|pool| &pool.servers)
            .filter(|server| server.weight > 0)
            .map(|server| (server.address, server.port))
            .collect();
        (servers.into_iter())
            .any(|(address, port)| self.evaluator.balance(service, flow, address, port))
    }

    fn end(&self, outcome: Outcome) -> End {
        match outcome {
            Outcome::Forward { port, packet } => End::Forwarded {
                port,
                frame: packet,
            },
            Outcome::Drop {
                service: Some(service),
                ..
            } => End::Dropped(DroppedBy::Service(service)),
            Outcome::Drop {
                reason,
                service: None,
            } => End::Dropped(DroppedBy::Pipeline(reason)),
            // The agent answers echoes. Of its own connections none is open in a test.
            Outcome::ToAgent {
                message: Message::Local,
                packet,
                ..
            } if self.is_echo(&packet) => End::Replied,
            Outcome::ToAgent { message, .. } => End::AtAgent(message),
        }
    }

    fn is_echo(&self, frame: &[u8]) -> bool {
        let flow = self.evaluator.flow(frame);
        flow.is_some_and(|(key, _)| matches!(key.proto, 1 | 58))
    }

    fn pool(&self, service: ServiceIndex) -> Option<&Pool> {
        match &self.policy.service(service)?.kind {
            ServiceKind::Balance(b) => self.policy.pool(b.pool),
            ServiceKind::Filter(_) | ServiceKind::Nat(_) | ServiceKind::Observe(_) => None,
        }
    }

    fn fallback(&self, service: ServiceIndex) -> Fallback {
        match self.policy.service(service).map(|s| &s.kind) {
            Some(ServiceKind::Balance(b)) => b.fallback,
            Some(ServiceKind::Nat(n)) => n.fallback,
            Some(ServiceKind::Observe(o)) => o.fallback,
            _ => Fallback::Drop,
        }
    }
}

/// What of a step's expectations a fate does not meet.
pub fn judge(policy: &Policy, step: &Step, fate: &Fate) -> Vec<String> {
    step.expect
        .iter()
        .filter(|expect| !holds(policy, expect, fate))
        .map(|expect| {
            format!(
                "expected {}, but {}",
                expected(policy, expect),
                describe(policy, fate)
            )
        })
        .collect()
}

fn holds(policy: &Policy, expect: &Expect, fate: &Fate) -> bool {
    match (expect, &fate.end) {
        // The agent has no answer to a spent TTL, nor to what is none of its own connections'.
        (Expect::Drop { by: None }, end) => matches!(
            end,
            End::Dropped(_) | End::AtAgent(Message::Ttl | Message::Local)
        ),
        (Expect::Drop { by: Some(service) }, End::Dropped(by)) => match by {
            DroppedBy::Service(s) => s == service,
            DroppedBy::Pipeline(_) | DroppedBy::Unknown => false,
        },
        (Expect::Interest { service }, _) => fate.asked.contains(service),
        (Expect::Manager { manager }, _) => policy
            .managers
            .get(*manager)
            .is_some_and(|m| fate.asked.iter().any(|s| m.serves.contains(s))),
        (Expect::Reply, end) => *end == End::Replied,
        (Expect::Forward { port, to }, End::Forwarded { port: by, frame }) => {
            let (address, number) = frames::destination(frame).unzip();
            let fits = |(ip, p): &(IpAddr, Option<u16>)| {
                address == Some(*ip) && p.is_none_or(|p| number.flatten() == Some(p))
            };
            port == by && to.as_ref().is_none_or(fits)
        }
        (Expect::Server { pool, server }, End::Forwarded { frame, .. }) => {
            let Some((address, Some(port))) = frames::destination(frame) else {
                return false;
            };
            let servers = policy.pool(*pool).map_or(&[][..], |p| &p.servers);
            servers.iter().enumerate().any(|(i, s)| {
                (s.address, s.port) == (address, port) && server.is_none_or(|wanted| wanted == i)
            })
        }
        _ => false,
    }
}

fn service_name(policy: &Policy, service: ServiceIndex) -> &str {
    policy.service(service).map_or("?", |s| &s.name)
}

fn port_name(policy: &Policy, number: u16) -> String {
    policy
        .network
        .port(number)
        .map_or_else(|| number.to_string(), |p| p.name.clone())
}

fn endpoint(ip: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| ip.to_string(), |p| SocketAddr::new(ip, p).to_string())
}

fn expected(policy: &Policy, expect: &Expect) -> String {
    match expect {
        Expect::Drop { by: None } => "a drop".to_owned(),
        Expect::Drop { by: Some(s) } => format!("a drop by `{}`", service_name(policy, *s)),
        Expect::Server { pool, server } => {
            let pool = policy.pool(*pool);
            let name = pool.map_or("?", |p| &p.name);
            let server = server.and_then(|i| pool?.servers.get(i));
            server.map_or_else(
                || format!("a server in @{name}"),
                |s| format!("server `{}`", s.name),
            )
        }
        Expect::Forward { port, to } => {
            let to = to.map_or(String::new(), |(ip, p)| format!(" to {}", endpoint(ip, p)));
            format!("it on port `{}`{to}", port_name(policy, *port))
        }
        Expect::Manager { manager } => {
            format!(
                "manager `{}` to be asked",
                policy.managers.get(*manager).map_or("?", |m| &m.name)
            )
        }
        Expect::Interest { service } => {
            format!(
                "the manager of `{}` to be asked",
                service_name(policy, *service)
            )
        }
        Expect::Reply => "an answer".to_owned(),
    }
}

fn describe(policy: &Policy, fate: &Fate) -> String {
    let end = match &fate.end {
        End::Forwarded { port, frame } => {
            let to = frames::destination(frame)
                .map_or(String::new(), |(ip, p)| format!(" to {}", endpoint(ip, p)));
            format!("it left on port `{}`{to}", port_name(policy, *port))
        }
        End::Dropped(DroppedBy::Service(s)) => {
            format!("it was dropped by `{}`", service_name(policy, *s))
        }
        End::Dropped(DroppedBy::Pipeline(reason)) => format!("it was dropped: {}", why(*reason)),
        End::Dropped(DroppedBy::Unknown) => "nothing more was seen of it".to_owned(),
        End::Replied => "it was answered".to_owned(),
        End::AtAgent(message) => format!("it stayed with the agent ({message:?})").to_lowercase(),
    };
    match fate.asked.as_slice() {
        [] => format!("{end}, and no manager was asked"),
        asked => {
            let names: Vec<String> = asked
                .iter()
                .map(|s| format!("`{}`", service_name(policy, *s)))
                .collect();
            format!(
                "{end}, after the manager of {} was asked",
                names.join(" and ")
            )
        }
    }
}

fn why(reason: DropReason) -> &'static str {
    match reason {
        DropReason::BadPacketOut => "the agent handed it back wrongly",
        DropReason::UnknownPort => "it came by an unknown port",
        DropReason::NotIp => "it is not of a family that the policy speaks",
        DropReason::Malformed => "it is malformed",
        DropReason::WrongMac => "it was not addressed to the switch",
        DropReason::NoRoute => "no route leads to its destination",
        DropReason::NoNextHop => "its next hop is not there",
        DropReason::NotServed => "it is for an address of the policy, and no service took it",
        DropReason::Service => "a service dropped it",
    }
}
