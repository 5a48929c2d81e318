//! What goes into the agent's state machine and what comes out.

use std::sync::Arc;

use signalbox_lower::plan::Plan;

use super::plan_change::PlanChange;
use crate::entry::{Cell, Entry, FixedEntry, Packet, Update};
use crate::flow::FlowKey;
use crate::message::{ToAgent, ToManager, Totals};

/// Names a manager's session; the shell gives the numbers.
pub type SessionId = u64;

/// What is found on a switch when it comes up.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Fixed entries.
    pub fixed: Vec<FixedEntry>,
    /// Next hops, routes to them, and tunnels.
    pub neighbours: Vec<Entry>,
    /// Counter cells that are not zero.
    pub cells: Vec<(Cell, Totals)>,
}

/// Why an update failed, as far as the agent acts on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteError {
    /// An insert of what is there.
    AlreadyExists,
    /// A change of what is not there.
    NotFound,
    /// The table has no room.
    Full,
    /// Anything else, as the switch put it.
    Refused(String),
}

/// Anything that happens to an agent.
#[derive(Debug, Clone)]
pub enum Input {
    /// A switch with the right pipeline is connected, and this is on it.
    SwitchUp(Found),
    /// The answer to [`Output::Reconcile`].
    Reconciled,
    /// The switch is gone.
    SwitchDown {
        /// For people.
        reason: String,
    },
    /// A packet from the switch.
    PacketIn(Packet),
    /// The answer to [`Output::Write`], one result an update.
    WriteDone {
        /// The write.
        batch: u64,
        /// In the order of the updates.
        results: Vec<Result<(), WriteError>>,
    },
    /// The answer to [`Output::Read`]; `None` where the cell could not be read.
    ReadDone {
        /// The read.
        read: u64,
        /// In the order of the cells.
        totals: Vec<Option<Totals>>,
    },
    /// The switch says that these entries have been idle. Only a wake-up.
    IdleNotice(Vec<FlowKey>),
    /// A manager has connected.
    SessionOpened(SessionId),
    /// A manager's connection is gone.
    SessionClosed(SessionId),
    /// A manager has said something.
    Message(SessionId, ToAgent),
    /// Another plan is to come into force. [`Output::PlanInForce`] or [`Output::PlanRefused`] answers.
    NewPlan(Arc<Plan>),
    /// The answer to [`Output::LoadProgram`]: the program of the new plan runs, shut, and this is on the
    /// switch.
    ProgramLoaded {
        /// What is on the switch; with `kept` without its counter cells.
        found: Found,
        /// The switch has kept its counter cells as they were.
        kept: bool,
    },
    /// The other answer: the switch would not take it, and runs the former one.
    ProgramRefused {
        /// For people.
        reason: String,
    },
    /// Reads every counter cell in use, so that listings are fresh; [`Output::Refreshed`] answers.
    Refresh,
    /// Time has passed.
    Tick,
}

/// Anything that an agent wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Make the switch hold the plan's static entries and exactly these others, then say
    /// [`Input::Reconciled`].
    Reconcile(Vec<Entry>),
    /// Apply these updates in order; each may fail alone.
    Write {
        /// Names the write in the answer.
        batch: u64,
        /// The updates; no two of one entry.
        updates: Vec<Update>,
    },
    /// Read these cells.
    Read {
        /// Names the read in the answer.
        read: u64,
        /// The cells.
        cells: Vec<Cell>,
    },
    /// Send a packet to the switch.
    PacketOut(Packet),
    /// Say something to a manager.
    Message(SessionId, ToManager),
    /// End a session, after all messages to it are out.
    CloseSession(SessionId),
    /// The switch forwards: everything is in.
    Ready,
    /// Give the switch the new plan's program, take over what is on the switch where it can be, and say
    /// [`Input::ProgramLoaded`] or [`Input::ProgramRefused`].
    LoadProgram {
        /// Whether the counter cells must be read even if the switch keeps them: some flows' cells are
        /// others from now on.
        cells: bool,
    },
    /// From here on all entries are those of the new plan.
    PlanTaken,
    /// The new plan is in force: all that it needs is in.
    PlanInForce(PlanChange),
    /// The new plan does not come into force now, and why.
    PlanRefused(String),
    /// A [`Input::Refresh`] is done: all is read, or the switch is gone.
    Refreshed,
    /// The switch refuses what it cannot go without. Take it for lost: [`Input::SwitchDown`] follows.
    Unusable(String),
    /// One line for the operator.
    Log(String),
}
