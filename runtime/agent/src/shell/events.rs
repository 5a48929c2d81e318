//! What reaches the shell's one task, by two ways. What the switch sends of its own accord can be any
//! amount, and waits in a short queue that drops what does not fit; answers, managers' words and
//! questions have one of their own, so that no flood keeps them waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use signalbox_p4runtime::proto::p4::v1::{PacketIn, TableEntry};
use tokio::sync::{mpsc, oneshot};

use super::Status;
use super::device::{Loaded, Lost, Up};
use super::program::{Applied, NewPolicy};
use crate::listing::FlowStatus;
use crate::machine::{SessionId, WriteError};
use crate::message::{ToAgent, Totals};

/// One event. Those of a switch name the connection that they belong to.
pub(super) enum Event {
    Connected(Box<Result<Up, Lost>>),
    Lost {
        generation: u64,
        reason: String,
    },
    /// It is time to see whether packets find their way, for the so-manieth time.
    Prove {
        generation: u64,
        tried: u32,
    },
    /// Another controller has become the primary.
    TakenOver {
        generation: u64,
        reason: String,
    },
    Reconciled {
        generation: u64,
    },
    Written {
        generation: u64,
        batch: u64,
        results: Vec<Result<(), WriteError>>,
    },
    Read {
        generation: u64,
        read: u64,
        totals: Vec<Option<Totals>>,
    },
    Message(SessionId, ToAgent),
    ManagerGone(SessionId),
    Status {
        fresh: bool,
        reply: oneshot::Sender<Status>,
    },
    /// Another policy.
    Apply {
        policy: Box<NewPolicy>,
        reply: oneshot::Sender<Result<Applied, String>>,
    },
    /// The switch has got another program, or not.
    Loaded {
        generation: u64,
        loaded: Box<Result<Loaded, String>>,
    },
    Flows {
        reply: oneshot::Sender<Vec<FlowStatus>>,
    },
}

/// What the switch sends unasked.
pub(super) enum Heard {
    Packet(PacketIn),
    /// Entries that have been idle, as the program in force then has them.
    Idle(Vec<TableEntry>),
}

/// Packets and notices that wait for the agent; more are dropped and counted. The agent takes some
/// 20,000 a second, so this is the twentieth of a second that a question may take at most.
const WAITING: usize = 1024;

/// The switch's end of the short queue.
#[derive(Clone)]
pub(super) struct Ear {
    sender: mpsc::Sender<(u64, Heard)>,
    overrun: Arc<AtomicU64>,
}

impl Ear {
    pub fn new() -> (Self, mpsc::Receiver<(u64, Heard)>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let overrun = Arc::default();
        (Self { sender, overrun }, receiver)
    }

    /// Passes on what a connection has brought, if there is room.
    pub fn hear(&self, generation: u64, heard: Heard) {
        if let Err(error) = self.sender.try_send((generation, heard))
            && let (_, Heard::Packet(_)) = error.into_inner()
        {
            self.overrun.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Packets for which there was no room.
    pub fn overrun(&self) -> u64 {
        self.overrun.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // When more packets come to the agent than it can take
    #[tokio::test]
    async fn packets_beyond_the_queue_are_dropped_and_counted_and_the_first_ones_kept() {
        let (ear, mut queue) = Ear::new();
        for n in 0..WAITING + 5 {
            let packet = PacketIn {
                payload: n.to_be_bytes().to_vec().into(),
                ..PacketIn::default()
            };
            ear.hear(1, Heard::Packet(packet));
        }
        ear.hear(1, Heard::Idle(Vec::new()));
        assert_eq!(ear.overrun(), 5, "notices of idle entries are no packets");
        let mut next = 0;
        while let Ok((_, Heard::Packet(packet))) = queue.try_recv() {
            assert_eq!(packet.payload[..], usize::to_be_bytes(next));
            next += 1;
        }
        assert_eq!(next, WAITING);
    }
}
