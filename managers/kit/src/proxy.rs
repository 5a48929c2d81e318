//! What a service implements that answers packets itself before it decides: a proxy, whose flows are its own
//! business until it hands them over to the switch.
//!
//! It is asked about every packet that no entry and no remembered decision covers. A flow that it hands over is
//! remembered like any other decision (A8.7), and packets that were on their way meanwhile get that decision
//! again: an agent installs what is missing, and lets nothing go on before it is in. So nobody needs to
//! acknowledge an installation.

use std::time::Duration;

use bytes::Bytes;
use signalbox_agent::flow::{PacketKind, Part, Tuple};
use signalbox_agent::message::{CarriedState, Decision, Interest};

use crate::decide::Decided;
use crate::session::SessionId;

/// Names a packet that an agent holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Question {
    /// The session of the agent.
    pub way: SessionId,
    /// The agent's number for it.
    pub request: u64,
}

/// A packet that an agent holds for a proxy.
#[derive(Debug, Clone, Copy)]
pub struct Diverted<'a> {
    /// Names it in the answer. An agent that has no answer yet may ask again.
    pub question: Question,
    /// Direction.
    pub part: Part,
    /// Its flow, as the stage saw it.
    pub flow: Tuple,
    /// What it is.
    pub kind: PacketKind,
    /// From its Ethernet header on.
    pub packet: &'a Bytes,
    /// What crossed the stages before.
    pub state: CarriedState,
}

impl<'a> Diverted<'a> {
    /// What an agent asks about.
    pub(crate) fn of(way: SessionId, interest: &'a Interest) -> Self {
        Self {
            question: Question {
                way,
                request: interest.request,
            },
            part: interest.part,
            flow: interest.flow,
            kind: interest.kind,
            packet: &interest.packet,
            state: interest.state,
        }
    }
}

/// What a proxy wants done; steps are carried out in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A packet's fate.
    Answer {
        /// The packet.
        question: Question,
        /// What becomes of it.
        decision: Decision,
    },
    /// The flow is the switch's from now on.
    HandOver {
        /// What the switch is to do.
        decided: Box<Decided>,
        /// The packet that brought it about, and what becomes of it.
        last: (Question, Decision),
        /// Packets that go on once the switch can carry them.
        held: Vec<Question>,
    },
    /// Send this: into the service's own stage, which does not divert it.
    Inject {
        /// The session of the agent that sends it.
        way: SessionId,
        /// The way that it goes.
        part: Part,
        /// A packet that this one goes the way of; without one, it goes as from whoever its source names.
        like: Option<CarriedState>,
        /// From its IP header on.
        packet: Bytes,
    },
}

/// A service that answers packets itself. No I/O, no clock, no randomness but what it is given.
pub trait Proxy {
    /// Whether a flow, by its forward match, is the proxy's own now, whatever is remembered of it.
    fn has(&self, flow: &Tuple) -> bool;

    /// A packet. What becomes of it may be told at once or later.
    fn packet(&mut self, now: Duration, packet: &Diverted<'_>);

    /// What is to be done, since it was last asked.
    fn steps(&mut self) -> Vec<Step>;

    /// Another manager served this service before, whose flows the proxy does not know.
    fn follows(&mut self, _now: Duration) {}
}
