//! What reaches the shell's one task.

use signalbox_p4runtime::ClientError;
use signalbox_p4runtime::proto::p4::v1::PacketIn;
use tokio::sync::oneshot;

use super::Status;
use super::device::{Lost, Up};
use crate::flow::FlowKey;
use crate::listing::FlowStatus;
use crate::machine::{SessionId, WriteError};
use crate::message::{ToAgent, Totals};

/// One event. Those of a switch name the connection that they belong to.
pub(super) enum Event {
    Connected(Box<Result<Up, Lost>>),
    Lost {
        generation: u64,
        reason: ClientError,
    },
    Packet {
        generation: u64,
        packet: PacketIn,
    },
    Idle {
        generation: u64,
        keys: Vec<FlowKey>,
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
    Flows {
        reply: oneshot::Sender<Vec<FlowStatus>>,
    },
}
