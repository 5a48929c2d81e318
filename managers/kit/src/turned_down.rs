//! Questions that were answered with nothing to install, for as long as they may come again.
//!
//! An agent that waits puts its question a second time, carries out the answer that comes first, and passes
//! over the other. Another answer to the same question would thus be remembered, and carried out by
//! nobody. Does not know why a question was turned down.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;
use signalbox_agent::message::Decision;

use crate::session::SessionId;

/// A question that is on its way for longer has been given up, and so has its late answer.
const KEEP: Duration = Duration::from_secs(10);
/// Beyond that the oldest are forgotten: a flood of questions is to take some megabytes at most.
const MOST: usize = 1 << 16;

/// A question's number in a session.
type Question = (SessionId, u64);

/// What such questions were answered with.
#[derive(Debug, Default)]
pub(crate) struct TurnedDown {
    answers: FxHashMap<Question, Decision>,
    order: VecDeque<(Duration, Question)>,
}

impl TurnedDown {
    /// The answer that a question has got already.
    pub fn answer(&self, question: Question) -> Option<Decision> {
        self.answers.get(&question).copied()
    }

    /// Forgets a session's questions: they do not come again.
    pub fn session_over(&mut self, session: SessionId) {
        self.answers.retain(|(of, _), _| *of != session);
        self.order.retain(|(_, (of, _))| *of != session);
    }

    /// Notes an answer, and forgets old ones.
    pub fn note(&mut self, now: Duration, question: Question, answer: Decision) {
        while let Some((at, oldest)) = self.order.front().copied()
            && (now >= at + KEEP || self.order.len() >= MOST)
        {
            self.order.pop_front();
            self.answers.remove(&oldest);
        }
        if self.answers.insert(question, answer).is_none() {
            self.order.push_back((now, question));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_forgotten_by_age_and_beyond_their_bound() {
        let mut all = TurnedDown::default();
        let early = Duration::from_secs(1);
        all.note(early, (7, 1), Decision::Drop);
        all.note(early + KEEP / 2, (7, 2), Decision::Fallback);
        assert_eq!(all.answer((7, 1)), Some(Decision::Drop));
        assert_eq!(all.answer((8, 1)), None, "another session's");
        all.note(early + KEEP, (7, 3), Decision::Drop);
        assert_eq!(all.answer((7, 1)), None);
        assert_eq!(all.answer((7, 2)), Some(Decision::Fallback));
        all.note(early + KEEP, (8, 1), Decision::Drop);
        all.session_over(7);
        assert_eq!(all.answer((7, 2)), None);
        assert_eq!(all.answer((8, 1)), Some(Decision::Drop));
        for n in 0..MOST as u64 {
            all.note(early + KEEP, (9, n), Decision::Drop);
        }
        assert_eq!((all.answers.len(), all.order.len()), (MOST, MOST));
        assert_eq!(all.answer((8, 1)), None);
        assert_eq!(all.answer((9, 0)), Some(Decision::Drop));
    }
}
