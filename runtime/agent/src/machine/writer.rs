//! Orders the updates of a switch: one write under way at a time, the rest gathers for the next.
//!
//! Gathering is what makes set-up fast: while a write travels, the updates of many flows join the
//! following one. Two updates of one entry never share a write, because P4Runtime lets a server order
//! the updates of a batch as it likes; neither does a tunnel's entry with the flows that use it.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use super::shares::Owner;
use super::store::FlowRef;
use crate::entry::{Change, Entry, Update};
use crate::flow::Part;

/// Whom the result of an update concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// Nobody waits.
    None,
    /// A direction of a flow goes in.
    Install(FlowRef, Part),
    /// A direction of a flow goes out.
    Remove(FlowRef, Part),
    /// A neighbour's entries are in, packets may go.
    Neighbour(u16),
    /// A criterion of a service, in a change of a manager's by its number.
    Criterion(Owner, u64),
    /// An entry of a criterion goes, or becomes another manager's, by its id.
    CriterionGone(u32),
    /// A tunnel's entry is in, flows may go in.
    Tunnel(u16),
    /// The ready entry.
    Ready,
    /// One of the entries that another plan changes.
    Plan,
}

#[derive(Debug, Clone)]
pub(super) struct Op {
    pub update: Update,
    pub token: Token,
}

#[derive(Debug, Default)]
pub(super) struct Writer {
    queue: VecDeque<Op>,
    under_way: Option<(u64, Vec<Op>)>,
    next: u64,
}

impl Writer {
    pub fn push(&mut self, change: Change, entry: Entry, token: Token) {
        self.queue.push_back(Op {
            update: Update { change, entry },
            token,
        });
    }

    /// The next write, if none is under way and something waits.
    pub fn start(&mut self, limit: usize) -> Option<(u64, Vec<Update>)> {
        if self.under_way.is_some() || self.queue.is_empty() {
            return None;
        }
        let mut seen = FxHashSet::default();
        let mut criteria_change: Option<Change> = None;
        // What another plan brings goes in before what it takes away goes out.
        let mut plan_change: Option<Change> = None;
        let mut of_tunnels: Option<bool> = None;
        let mut ops = Vec::with_capacity(self.queue.len().min(limit));
        while let Some(op) = self.queue.front() {
            if ops.len() >= limit.max(1) {
                break;
            }
            let is_tunnel = matches!(op.update.entry, Entry::Tunnel { .. });
            if *of_tunnels.get_or_insert(is_tunnel) != is_tunnel {
                break;
            }
            if matches!(op.update.entry, Entry::Criterion(_)) {
                if criteria_change.is_some_and(|c| c != op.update.change) {
                    break;
                }
                criteria_change = Some(op.update.change);
            } else if op.token == Token::Plan {
                if plan_change.is_some_and(|c| c != op.update.change) {
                    break;
                }
                plan_change = Some(op.update.change);
            } else if !seen.insert(op.update.entry.key()) {
                break;
            }
            ops.extend(self.queue.pop_front());
        }
        self.next += 1;
        let updates = ops.iter().map(|op| op.update.clone()).collect();
        self.under_way = Some((self.next, ops));
        Some((self.next, updates))
    }

    /// The updates of a finished write; `None` for one that is not under way.
    pub fn finish(&mut self, batch: u64) -> Option<Vec<Op>> {
        if self.under_way.as_ref().is_some_and(|(b, _)| *b == batch) {
            return self.under_way.take().map(|(_, ops)| ops);
        }
        None
    }

    /// Whether no write is under way.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_none()
    }

    /// Forgets everything: the switch is gone.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.under_way = None;
    }
}
