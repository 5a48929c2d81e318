//! The agent's timers: a heap of deadlines. Nothing is ever cancelled; whoever is woken checks whether it
//! still has a reason.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::time::Duration;

use super::store::FlowRef;
use crate::flow::Part;

/// What a deadline is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A held packet's question.
    Question(u64),
    /// Forgets that a question had timed out.
    Forget(u64),
    /// A flow may be idle.
    Idle(FlowRef),
    /// A flow's hard lease.
    Hard(FlowRef),
    /// A flow's periodic report.
    Report(FlowRef),
    /// An entry that the switch would not delete is tried again.
    Remove(FlowRef, Part),
    /// A removed flow has left the pipeline.
    Drained(FlowRef),
    /// Criteria leases of a service.
    Criteria(u8),
    /// A neighbour wants attention.
    Neighbour(IpAddr),
    /// The oldest datagram of which fragments are followed.
    Fragments,
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Duration, u64, Timer)>>,
    sequence: u64,
}

impl Timers {
    pub fn at(&mut self, when: Duration, timer: Timer) {
        self.sequence += 1;
        self.heap.push(Reverse((when, self.sequence, timer)));
    }

    pub fn next(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse((when, ..))| *when)
    }

    pub fn due(&mut self, now: Duration) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, _, timer))| timer)
    }
}
