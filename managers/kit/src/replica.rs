//! The two directions of a way between a manager and its backup: what is told, numbered, kept until it is
//! acknowledged and told again where that is wanted; and what is heard, once and in order. Pure.
//!
//! What waits to be told are flows' numbers and not messages: a flow is told as it stands when its turn comes, so
//! that a long backlog costs eight bytes a flow. Beyond a bound it is forgotten, and all flows are told. It
//! does not know what a flow is.

use std::collections::VecDeque;
use std::time::Duration;

use crate::memory::Change;
use crate::peer::Telling;

/// Messages that may be on their way at once.
const WINDOW: usize = 1_024;
/// Changes that may wait.
const BACKLOG: usize = 1 << 16;
/// When the oldest message is told again, at first and at most.
const AGAIN: Duration = Duration::from_millis(200);
const LONGEST_AGAIN: Duration = Duration::from_secs(5);
/// What may be acknowledged together, and how long it may wait for that.
const TOGETHER: u64 = 64;
const SOON: Duration = Duration::from_millis(20);

/// What is to be told next.
#[derive(Debug)]
pub(crate) enum Item {
    /// That all flows of a share follow.
    Begin,
    /// A change.
    Change(Change),
    /// That it was all; the wish for it that it answers.
    Whole(u64),
}

/// An [`Item`] and what it is of.
#[derive(Debug)]
pub(crate) struct Due {
    pub share: usize,
    pub item: Item,
    /// Its place among all changes; of the end of a walk, that of the last change before it began.
    position: Option<u64>,
    since: Duration,
}

#[derive(Debug)]
struct Sent {
    telling: Telling,
    position: Option<u64>,
    since: Duration,
    /// The share of which it is the end of a walk.
    whole: Option<usize>,
}

#[derive(Debug)]
struct Queued {
    since: Duration,
    share: usize,
    position: u64,
    change: Change,
}

/// All flows of a share on their way.
#[derive(Debug)]
struct Walk {
    share: usize,
    begun: bool,
    numbers: std::vec::IntoIter<u64>,
    request: u64,
    position: u64,
}

/// What an acknowledgement has brought.
#[derive(Debug, Default)]
pub(crate) struct Acked {
    /// Whether it is of anything new.
    pub any: bool,
    /// To be told again.
    pub again: Vec<Telling>,
    /// Shares of which the other has everything now.
    pub whole: Vec<usize>,
}

/// What a manager tells another one.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    stream: u64,
    sequence: u64,
    on_the_way: VecDeque<Sent>,
    queue: VecDeque<Queued>,
    walks: Vec<Walk>,
    pushed: u64,
    acked: u64,
    again: Option<(Duration, Duration)>,
    /// The oldest message was told again: what came after it may have been lost, too.
    probed: bool,
    overflown: bool,
    most: u64,
}

impl Due {
    /// How long a change has waited.
    pub fn waited(&self, now: Duration) -> Option<Duration> {
        (self.position.is_some() && matches!(self.item, Item::Change(_)))
            .then(|| now.saturating_sub(self.since))
    }
}

impl Outgoing {
    /// A change of a share. Returns its place among all changes.
    pub fn push(&mut self, now: Duration, share: usize, change: Change) -> u64 {
        self.pushed += 1;
        self.most = self.most.max(self.behind());
        if self.queue.len() >= BACKLOG {
            self.queue.clear();
            self.overflown = true;
        }
        if !self.overflown {
            self.queue.push_back(Queued {
                since: now,
                share,
                position: self.pushed,
                change,
            });
        }
        self.pushed
    }

    /// The place of the last change.
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// The place of the last change that is acknowledged, with all before it.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Changes that are not acknowledged.
    pub fn behind(&self) -> u64 {
        self.pushed - self.acked
    }

    /// The most that ever were.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// Since when the oldest change waits that is not acknowledged.
    pub fn oldest(&self) -> Option<Duration> {
        let sent = self.on_the_way.iter().find(|s| s.position.is_some());
        (sent.map(|s| s.since)).or_else(|| self.queue.front().map(|q| q.since))
    }

    /// Whether so many changes have come that they were forgotten: every share is to be told from the start.
    pub fn overflown(&mut self) -> bool {
        std::mem::take(&mut self.overflown)
    }

    /// All flows of a share are to be told. Takes the place of an earlier walk: with what is on its way of that, the
    /// other one does not have everything.
    pub fn walk(&mut self, share: usize, numbers: Vec<u64>, request: u64) {
        for sent in &mut self.on_the_way {
            sent.whole.take_if(|of| *of == share);
        }
        let former = self.walks.extract_if(.., |w| w.share == share);
        let request = former.map(|w| w.request).fold(request, u64::max);
        self.walks.push(Walk {
            share,
            begun: false,
            numbers: numbers.into_iter(),
            request,
            position: self.pushed,
        });
    }

    /// Whether all flows of a share will be told, and none has been yet.
    pub fn will_walk(&self, share: usize) -> bool {
        self.walks.iter().any(|w| w.share == share && !w.begun)
    }

    /// Has a walk that is under way answer a wish; says whether there is one.
    pub fn answers(&mut self, share: usize, request: u64) -> bool {
        let walk = self.walks.iter_mut().find(|w| w.share == share);
        if let Some(walk) = walk {
            walk.request = walk.request.max(request);
            return true;
        }
        false
    }

    /// Nothing more is told of a share.
    pub fn leave(&mut self, share: usize) {
        self.walks.retain(|w| w.share != share);
        self.queue.retain(|q| q.share != share);
        if self.queue.is_empty() {
            let last = self.pushed;
            self.passed(Some(last));
        }
    }

    /// What is to be told next, if there is room on the way.
    pub fn next(&mut self) -> Option<Due> {
        if self.on_the_way.len() >= WINDOW {
            return None;
        }
        if let Some(queued) = self.queue.pop_front() {
            return Some(Due {
                share: queued.share,
                item: Item::Change(queued.change),
                position: Some(queued.position),
                since: queued.since,
            });
        }
        let walk = self.walks.first_mut()?;
        let share = walk.share;
        let due = |item, position| {
            Some(Due {
                share,
                item,
                position,
                since: Duration::ZERO,
            })
        };
        if !std::mem::replace(&mut walk.begun, true) {
            return due(Item::Begin, None);
        }
        if let Some(number) = walk.numbers.next() {
            return due(Item::Change(Change::Of(number)), None);
        }
        let (request, position) = (walk.request, walk.position);
        self.walks.remove(0);
        let last = self.walks.is_empty().then_some(position);
        due(Item::Whole(request), last)
    }

    /// It is told so. The stream's number and its own are put in here.
    pub fn sent(&mut self, now: Duration, due: &Due, mut telling: Telling) -> Telling {
        self.sequence += 1;
        telling.stream = self.stream;
        telling.sequence = self.sequence;
        self.again.get_or_insert((now + AGAIN, AGAIN));
        self.on_the_way.push_back(Sent {
            telling: telling.clone(),
            position: due.position,
            since: due.since,
            whole: matches!(due.item, Item::Whole(_)).then_some(due.share),
        });
        telling
    }

    /// There is nothing to tell of it any more.
    pub fn skipped(&mut self, due: &Due) {
        self.passed(due.position);
    }

    fn passed(&mut self, position: Option<u64>) {
        match self.on_the_way.back_mut() {
            Some(last) => last.position = last.position.max(position),
            None => self.acked = self.acked.max(position.unwrap_or(0)),
        }
    }

    /// The other one has taken in all of a stream up to this number.
    pub fn ack(&mut self, now: Duration, (stream, sequence): (u64, u64)) -> Acked {
        let mut brought = Acked::default();
        if stream != self.stream {
            return brought;
        }
        let mut any = false;
        while let Some(sent) = (self.on_the_way).pop_front_if(|s| s.telling.sequence <= sequence) {
            any = true;
            self.acked = self.acked.max(sent.position.unwrap_or(0));
            brought.whole.extend(sent.whole);
        }
        brought.any = any;
        if any {
            self.again = (!self.on_the_way.is_empty()).then_some((now + AGAIN, AGAIN));
            if std::mem::take(&mut self.probed) {
                brought.again = self.unacknowledged();
            }
        }
        brought
    }

    fn unacknowledged(&self) -> Vec<Telling> {
        self.on_the_way.iter().map(|s| s.telling.clone()).collect()
    }

    /// What is to be told again because nobody has answered: the oldest message, ever more seldom.
    pub fn again(&mut self, now: Duration) -> Option<Telling> {
        let (at, pause) = self.again.as_mut()?;
        if *at > now {
            return None;
        }
        *pause = (*pause * 2).min(LONGEST_AGAIN);
        *at = now + *pause;
        self.probed = true;
        Some(self.on_the_way.front()?.telling.clone())
    }

    /// When that is.
    pub fn next_again(&self) -> Option<Duration> {
        self.again.map(|(at, _)| at)
    }

    /// The way is gone; what waits for it stays.
    pub fn closed(&mut self) {
        self.again = None;
    }

    /// There is a way again, and this is what the other one has. Returns what it had not got, if it can go on
    /// from there; else it is another stream, and everything has to be told anew.
    pub fn opened(&mut self, now: Duration, have: (u64, u64)) -> Option<Acked> {
        let (stream, sequence) = have;
        let first = (self.on_the_way.front()).map_or(self.sequence + 1, |s| s.telling.sequence);
        let goes_on = stream == self.stream
            && stream != 0
            && !self.overflown
            && (first..=self.sequence + 1).contains(&(sequence.saturating_add(1)));
        if goes_on {
            let mut acked = self.ack(now, have);
            self.probed = false;
            self.again = (!self.on_the_way.is_empty()).then_some((now + AGAIN, AGAIN));
            acked.again = self.unacknowledged();
            return Some(acked);
        }
        self.stream = self.stream.max(stream).saturating_add(1);
        self.sequence = 0;
        self.on_the_way.clear();
        self.queue.clear();
        self.walks.clear();
        self.again = None;
        self.probed = false;
        self.overflown = false;
        None
    }
}

/// What a manager hears of another one.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    stream: u64,
    sequence: u64,
    owed: u64,
    ack: Option<Duration>,
}

impl Incoming {
    /// Another process: nothing is known of its streams.
    pub fn another(&mut self) {
        *self = Self::default();
    }

    /// How far it is, for a greeting.
    pub fn have(&self) -> (u64, u64) {
        (self.stream, self.sequence)
    }

    /// Whether a message is the next one. If so, it is to be acknowledged: at once, or with others.
    pub fn takes(&mut self, now: Duration, telling: &Telling, at_once: bool) -> bool {
        if telling.stream > self.stream && telling.sequence == 1 {
            self.stream = telling.stream;
            self.sequence = 0;
        }
        if telling.stream != self.stream {
            return false;
        }
        let is_next = telling.sequence == self.sequence + 1;
        let known = telling.sequence <= self.sequence;
        if is_next {
            self.sequence += 1;
            self.owed += 1;
        }
        if is_next || known {
            let at = if at_once || known || self.owed >= TOGETHER {
                now
            } else {
                now + SOON
            };
            self.ack = Some(self.ack.map_or(at, |before| before.min(at)));
        }
        is_next
    }

    /// The acknowledgement that is due: of the stream, up to the number.
    pub fn acks(&mut self, now: Duration) -> Option<(u64, u64)> {
        self.ack.take_if(|at| *at <= now)?;
        self.owed = 0;
        Some(self.have())
    }

    /// When one is due.
    pub fn next(&self) -> Option<Duration> {
        self.ack
    }
}

#[cfg(test)]
mod tests;
