//! What a manager and the one that stands by for it say to each other, and the way between them.
//!
//! Both say the same things: whoever decides for a share of a service tells the other of its decisions, and
//! each may ask the other for what it remembers. Any message may be lost, doubled or late. What is told is
//! numbered and acknowledged; a greeting is repeated until it is answered, and so is the question for what
//! the other remembers. This module knows nothing of what becomes of a decision.

use std::sync::Arc;

use serde::Serialize;
use signalbox_agent::channel::{Channel, Memory};
use signalbox_agent::flow::PacketKind;
use tokio::sync::mpsc;

use crate::decide::Decided;

pub mod grpc;
pub mod wire;

/// Names a way to another manager.
pub type PeerId = u64;

/// The version of what is said here.
pub const VERSION: u32 = 1;

/// Anything that one manager says to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMessage {
    /// Who it is.
    Hello(PeerHello),
    /// It will not have the other; the way ends.
    Refused {
        /// Why.
        reason: PeerReason,
        /// The same for people.
        text: String,
    },
    /// A piece of what it knows.
    Telling(Telling),
    /// It has taken in all of a stream up to this number.
    Ack {
        /// The stream.
        stream: u64,
        /// The number.
        sequence: u64,
    },
    /// Tell all that you remember of this share.
    Recall {
        /// The service.
        service: Arc<str>,
        /// The share of it.
        share: u32,
        /// Names the wish; a later one of the same share has a higher number.
        request: u64,
    },
    /// What was told of this share is older than what it knows.
    Old {
        /// The service.
        service: Arc<str>,
        /// The share of it.
        share: u32,
        /// The epoch that was told.
        epoch: u64,
    },
}

/// Opens a way; both sides say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerHello {
    /// [`VERSION`].
    pub version: u32,
    /// Its name in the policy.
    pub manager: Arc<str>,
    /// Hash of its plan; must equal the other's.
    pub plan_hash: u64,
    /// Tells processes of one name apart; a later one has a higher number.
    pub instance: u64,
    /// Whether it has heard the other's, and so knows what it has of it.
    pub heard: bool,
    /// Whether it has heard that the other has heard: the way is open.
    pub open: bool,
    /// If it has heard the other: the stream that it has from it, and how far; zeros for none.
    pub have: (u64, u64),
}

/// A piece of what a manager knows of a share. Pieces of a stream are numbered from 1 without a gap, and
/// are taken in in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// The stream; one that begins later has a higher number.
    pub stream: u64,
    /// Its place there.
    pub sequence: u64,
    /// The service.
    pub service: Arc<str>,
    /// The share of it.
    pub share: u32,
    /// The teller's epoch for it.
    pub epoch: u64,
    /// Whether the teller decides for it; if not, this is what it remembers of former times.
    pub leads: bool,
    /// What is told.
    pub body: Told,
}

/// What is told of a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// All that it remembers follows.
    Begin,
    /// A flow as it stands now.
    Flow(Arc<ToldFlow>),
    /// That was all since the last [`Told::Begin`].
    Whole {
        /// The highest [`PeerMessage::Recall`] that it answers; 0 for none.
        request: u64,
    },
}

/// A decision, and what has become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldFlow {
    /// The decision, with its leases and statistics.
    pub decided: Decided,
    /// What it is for.
    pub kind: PacketKind,
    /// What has become of it.
    pub state: ToldState,
}

/// What has become of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToldState {
    /// These agents hold it, or are about to.
    Held(Vec<Arc<str>>),
    /// No agent holds it any more.
    Gone,
    /// It was taken back: no agent has ever carried it out.
    Refused,
}

/// Why a manager will not have another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerReason {
    /// It speaks another version.
    Version,
    /// It works from another plan.
    Plan,
    /// By the plan the two share no decisions.
    Stranger,
    /// A later process of its name is there.
    Superseded,
    /// It is there already, by another way.
    Twice,
    /// It has not said who it is.
    Silent,
}

/// One end of a way between two managers.
pub type PeerChannel = Box<dyn Channel<PeerMessage, PeerMessage>>;

/// Both ends of a way in memory.
#[must_use]
pub fn memory() -> (
    Memory<PeerMessage, PeerMessage>,
    Memory<PeerMessage, PeerMessage>,
) {
    let (to_second, from_first) = mpsc::unbounded_channel();
    let (to_first, from_second) = mpsc::unbounded_channel();
    (
        Memory::new(to_second, from_second),
        Memory::new(to_first, from_first),
    )
}
