//! A policy's own tests: the packets they send, and whether what became of them was expected.
//!
//! The same tests run on the evaluator ([`run`]) and on anything else that takes a frame and tells
//! its fate ([`run_on`]), such as the embedded switch. So that a test needs no hosts, every
//! neighbour it can meet is taken as known: see [`prepared`].

mod frames;
mod judge;
mod on_evaluator;
mod stand_ins;
mod translation;

use std::net::IpAddr;

use crate::eval::{DropReason, Message};
use crate::model::{
    Mac, Neighbour, Policy, Send, SendPacket, ServiceIndex, ServiceKind, Span, TestCase,
};
pub use frames::packet;
pub use judge::judge;
use on_evaluator::OnEvaluator;
pub use translation::{End as FlowEnd, inward, outward};

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
    /// The managers that were asked, by their places among the policy's, in order.
    pub managers: Vec<usize>,
    /// The observe services that counted it.
    pub counted: Vec<ServiceIndex>,
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
        /// The frame as it left, in its tunnel if it went into one.
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
    let mut target = OnEvaluator::new(&policy);
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
    let mut left: Option<Vec<u8>> = None;
    for step in &test.steps {
        let mut fail = |message| {
            failures.push(Failure {
                span: step.span,
                message,
            });
        };
        let (port, frame) = match &step.send {
            Send::Packet(send) => (send.port, packet(policy, send)),
            Send::Answer { port, .. } => match answer(policy, &step.send, left.as_deref()) {
                Some(send) => (*port, packet(policy, &send)),
                None => {
                    fail("expected a packet to answer, but none has left that can be".to_owned());
                    continue;
                }
            },
        };
        let fate = target.send(port, &frame);
        judge(policy, step, &fate).into_iter().for_each(&mut fail);
        if let End::Forwarded { frame, .. } = fate.end {
            left = Some(frame);
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
    let steps = policy.tests.iter().flat_map(|t| &t.steps);
    let sends: Vec<IpAddr> = steps
        .flat_map(|s| match &s.send {
            Send::Packet(send) => vec![send.src, send.dst],
            Send::Answer { .. } => Vec::new(),
        })
        .collect();
    let translated = policy.services.iter().flat_map(|s| match &s.kind {
        ServiceKind::Nat(nat) => {
            let source = nat.source.as_ref();
            let inside = sends.iter().filter_map(|to| source?.inside_of(*to));
            nat.destination
                .map(|d| d.address)
                .into_iter()
                .chain(inside)
                .collect()
        }
        _ => Vec::new(),
    });
    let own = policy.owned_addresses();
    for address in servers
        .chain(routers)
        .chain(translated)
        .chain(sends.iter().copied())
    {
        let known = out.network.neighbours.iter().any(|n| n.address == address);
        let port = policy.network.port_of(address).map(|p| p.number);
        if let (Some(port), false, Err(_)) = (port, known, own.binary_search(&address)) {
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

/// The answer to a frame that left.
fn answer(policy: &Policy, send: &Send, left: Option<&[u8]>) -> Option<SendPacket> {
    let Send::Answer {
        port,
        flags,
        ttl,
        payload,
    } = send
    else {
        return None;
    };
    let seen = frames::read(policy, left?)?;
    Some(SendPacket {
        port: *port,
        src: seen.dst,
        dst: seen.src,
        transport: seen.answer(*flags)?,
        ttl: *ttl,
        payload: *payload,
    })
}

/// The Ethernet address that tests give a host: `02:48` and the last four bytes of its address.
pub fn neighbour_mac(address: IpAddr) -> Mac {
    let bits = crate::model::address_bits(address) as u32;
    let [a, b, c, d] = bits.to_be_bytes();
    Mac([0x02, 0x48, a, b, c, d])
}
