//! What reaches the shell's one task, by two ways. What the switch sends of its own accord can be any
//! amount, and waits in a short queue that drops what does not fit; answers, managers' words and
//! questions have one of their own, so that no flood keeps them waiting. Of the short queue, SYNs get half:
//! anybody can send them, and what they are answered with, ARP and notices must get through.

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
use crate::packet;

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

/// Of them, so many may be SYNs.
const OPENINGS: usize = WAITING / 2;

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
        // Whatever waits counts here: once the queue is half full it is all the same what filled it.
        let is_crowded = self.sender.capacity() <= WAITING - OPENINGS;
        let refused = if is_crowded && opens(&heard) {
            Some(heard)
        } else {
            let sent = self.sender.try_send((generation, heard));
            sent.err().map(|error| error.into_inner().1)
        };
        if let Some(Heard::Packet(_)) = refused {
            self.overrun.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Packets for which there was no room.
    pub fn overrun(&self) -> u64 {
        self.overrun.load(Ordering::Relaxed)
    }
}

/// Whether it is a packet that opens a TCP connection.
fn opens(heard: &Heard) -> bool {
    let Heard::Packet(packet) = heard else {
        return false;
    };
    packet::view(&packet.payload).is_some_and(|view| view.flags & 0x12 == 0x02)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{client, flags, tcp};

    // When more packets come to the agent than it can take
    #[tokio::test]
    async fn syns_fill_half_of_the_queue_and_what_answers_them_the_rest() {
        let (ear, queue) = Ear::new();
        let hear = |flags| {
            let payload = tcp(1, &client(9, 1000), flags, b"");
            let packet = PacketIn {
                payload,
                ..PacketIn::default()
            };
            ear.hear(1, Heard::Packet(packet));
        };
        for _ in 0..WAITING {
            hear(flags::SYN);
        }
        assert_eq!((queue.len(), ear.overrun()), (OPENINGS, 512));
        for flags in [flags::ACK, flags::SYN | flags::ACK].repeat(WAITING / 4) {
            hear(flags);
        }
        assert_eq!((queue.len(), ear.overrun()), (WAITING, 512));
        hear(flags::ACK);
        assert_eq!((queue.len(), ear.overrun()), (WAITING, 513));
    }

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
