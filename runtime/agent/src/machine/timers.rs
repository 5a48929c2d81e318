//! The agent's timers: heaps of deadlines. Nothing is ever cancelled; whoever is woken checks whether it
//! still has a reason. Flows have a heap of their own, of small entries, out of which those that have lost
//! their reason are swept when they are the greater part.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::time::Duration;

use super::flow_record::Moment;
use super::store::FlowRef;
use super::tallies::TallyId;
use crate::flow::Part;

/// What a deadline is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A held packet's question.
    Question(u64),
    /// Forgets that a question had timed out.
    Forget(u64),
    /// Something about a flow.
    Flow(FlowRef, About),
    /// Criteria leases of a service.
    Criteria(u8),
    /// What a criterion has counted is to be reported, or is all that it will ever count.
    Tally(TallyId),
    /// A neighbour wants attention.
    Neighbour(IpAddr),
    /// The oldest datagram of which fragments are followed.
    Fragments,
    /// What managers carry on may be idle.
    Legs,
}

/// What a flow's deadline is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    /// It may be idle.
    Idle,
    /// Its hard lease.
    Hard,
    /// Its periodic report.
    Report,
    /// An entry that the switch would not delete is tried again.
    Remove(Part),
    /// It has left the pipeline.
    Drained,
}

/// Fewer deadlines than this are never swept.
const FEW: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Duration, u64, Timer)>>,
    sequence: u64,
    flows: BinaryHeap<Reverse<(Moment, FlowRef, About)>>,
    /// How many deadlines of flows the last sweep has left.
    swept: usize,
}

impl Timers {
    pub fn at(&mut self, when: Duration, timer: Timer) {
        if let Timer::Flow(at, about) = timer {
            return self.flows.push(Reverse((when.into(), at, about)));
        }
        self.sequence += 1;
        self.heap.push(Reverse((when, self.sequence, timer)));
    }

    pub fn next(&self) -> Option<Duration> {
        let others = self.heap.peek().map(|Reverse((when, ..))| *when);
        let flows = (self.flows.peek()).map(|Reverse((when, ..))| Duration::from(*when));
        others.into_iter().chain(flows).min()
    }

    /// The next deadline that has come, and when it was.
    pub fn due(&mut self, now: Duration) -> Option<(Duration, Timer)> {
        let next = self.next().filter(|when| *when <= now)?;
        let other = (self.heap.peek()).is_some_and(|Reverse((when, ..))| *when == next);
        if other {
            return (self.heap.pop()).map(|Reverse((when, _, timer))| (when, timer));
        }
        let Reverse((when, at, about)) = self.flows.pop()?;
        Some((when.into(), Timer::Flow(at, about)))
    }

    /// Whether so many deadlines have come since the last sweep that another one is worth its cost.
    pub fn wants_sweep(&self) -> bool {
        self.flows.len() > FEW + 2 * self.swept
    }

    /// Lets go of deadlines that have no reason any more.
    pub fn sweep(&mut self, has_reason: impl Fn(Moment, FlowRef, About) -> bool) {
        (self.flows).retain(|Reverse((when, at, about))| has_reason(*when, *at, *about));
        self.swept = self.flows.len();
        self.flows.shrink_to(FEW + 2 * self.swept);
    }

    /// Deadlines of flows, those without a reason among them.
    pub fn of_flows(&self) -> usize {
        self.flows.len()
    }
}

/// The next multiple of `grid` from `when` on: deadlines that need not be exact come together, so that
/// what they read is read at once.
pub(super) fn on_grid(when: Duration, grid: Duration) -> Duration {
    let (when_ns, grid_ns) = (when.as_nanos(), grid.as_nanos());
    if grid_ns == 0 {
        return when;
    }
    let rounded = when_ns.div_ceil(grid_ns) * grid_ns;
    u64::try_from(rounded).map_or(when, Duration::from_nanos)
}
