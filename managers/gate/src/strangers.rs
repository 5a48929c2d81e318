//! Segments of no connection that may be early: the first data of a client can overtake the acknowledgement
//! that brings the cookie. They wait for a moment, and their number is bounded.

use std::collections::VecDeque;
use std::time::Duration;

use signalbox_agent::flow::Tuple;
use signalbox_manager::segment::Segment;

use crate::gate::Came;

/// Segments that wait.
const MOST: usize = 256;
/// How long: agents hold packets for longer.
const PATIENCE: Duration = Duration::from_millis(50);
/// Answers to strangers in a window of so long.
const ANSWERS: u32 = 1000;
const WINDOW: Duration = Duration::from_millis(100);

/// Those that wait, and a limit of what is answered.
#[derive(Debug, Default)]
pub struct Strangers {
    waiting: VecDeque<(Duration, Came, Segment)>,
    window: Duration,
    answered: u32,
}

impl Strangers {
    /// Lets one wait; false without room.
    pub fn wait(&mut self, now: Duration, came: &Came, segment: &Segment) -> bool {
        if self.waiting.len() >= MOST {
            return false;
        }
        // An agent that has no answer asks again.
        if !self
            .waiting
            .iter()
            .any(|(_, w, _)| w.question == came.question)
        {
            self.waiting
                .push_back((now + PATIENCE, *came, segment.clone()));
        }
        true
    }

    /// When the first one has waited long enough.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.waiting.front().map(|(at, ..)| *at)
    }

    /// One that has waited long enough.
    pub fn due(&mut self, now: Duration) -> Option<(Came, Segment)> {
        self.waiting.front().filter(|(at, ..)| *at <= now)?;
        self.waiting
            .pop_front()
            .map(|(_, came, segment)| (came, segment))
    }

    /// Those of a flow, in order.
    pub fn of(&mut self, flow: &Tuple) -> Vec<(Came, Segment)> {
        let mut found = Vec::new();
        self.waiting.retain(|(_, came, segment)| {
            let is = came.flow == *flow;
            if is {
                found.push((*came, segment.clone()));
            }
            !is
        });
        found
    }

    /// Whether there is room for one more answer.
    pub fn may_answer(&mut self, now: Duration) -> bool {
        if now >= self.window + WINDOW {
            self.window = now;
            self.answered = 0;
        }
        self.answered = self.answered.saturating_add(1);
        self.answered <= ANSWERS
    }
}
