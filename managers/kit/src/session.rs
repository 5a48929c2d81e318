//! One session with one agent: greeting, criteria by version, heartbeats, and the agent's list of what it
//! holds. Pure: takes messages and the time, returns messages.
//!
//! Everything it says may be lost or doubled: the greeting is repeated until it is answered, the list asked
//! for until it is whole, and every heartbeat names the criteria's version, so that an agent that lacks them
//! asks for them (A8.5, A8.6).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use signalbox_agent::message::{
    AgentBody, Claim, Criteria, Criterion, Heartbeat, Hello, ManagerBody, Reason, ToAgent,
    ToManager, VERSION,
};

/// Names a session with an agent.
pub type SessionId = u64;

/// Between two greetings.
const GREET: Duration = Duration::from_millis(500);
/// How long the pieces of a list may take to arrive.
const LIST: Duration = Duration::from_secs(5);

/// A service as a session needs it.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The service's name.
    pub service: Arc<str>,
    /// The share of it; 0 if it is not divided.
    pub share: u32,
    /// The manager's epoch for it.
    pub epoch: u64,
    /// Whether the epoch follows from what agents tell, because nobody else gives it.
    pub learns: bool,
    /// Whether the share is another manager's, and this one is its backup.
    pub backup: bool,
    /// Whether the share has a manager and a backup, of which this one is either.
    pub paired: bool,
    /// Whether the other one decides for it, as far as this one has heard.
    pub stands_by: bool,
    /// Whether this one does not claim it yet: it has no criteria before it has heard what the other one knows.
    pub learning: bool,
    /// The criteria's version; above 0.
    pub version: u64,
    /// The criteria.
    pub criteria: Vec<Criterion>,
    /// From one heartbeat to the next.
    pub beat: Duration,
}

impl Offer {
    /// The epoch under which this manager takes the share over from `told`. A manager and its backup that do not
    /// hear of each other must not take the same one, which nobody would deny to either: the manager's own
    /// are odd, its backup's even.
    #[must_use]
    pub fn epoch_after(&self, told: u64) -> u64 {
        let next = told.saturating_add(1);
        let odd = next % 2 == 1;
        next.saturating_add(u64::from(self.paired && odd == self.backup))
    }
}

/// What a message to a session has brought, besides what the manager looks at itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing.
    None,
    /// The session has just opened.
    Opened,
    /// The agent has listed all that it holds of the offer with this index.
    Listed(usize),
}

/// The pieces of an agent's list.
#[derive(Debug, Default)]
struct List {
    /// When it is asked for; `None` when it is whole.
    next: Option<Duration>,
    request: u64,
    pieces: BTreeSet<u32>,
    /// Known once the last piece has come.
    count: Option<usize>,
}

#[derive(Debug)]
struct Beat {
    next: Duration,
    list: List,
    sequence: u64,
    /// The version that this agent is given: raised if it holds a newer one.
    version: u64,
}

/// A session's state.
#[derive(Debug)]
pub struct Session {
    manager: Arc<str>,
    plan_hash: u64,
    instance: u64,
    agent: Option<Arc<str>>,
    greet: Duration,
    /// Offers that were not claimed yet by the last greeting.
    unclaimed: Vec<usize>,
    beats: Vec<Beat>,
    refused: Option<(Reason, String)>,
}

impl Session {
    /// A session that is about to greet. Heartbeats of `offers` are indexed alike.
    #[must_use]
    pub fn new(
        now: Duration,
        manager: Arc<str>,
        instance: u64,
        plan_hash: u64,
        offers: &[Offer],
    ) -> Self {
        Self {
            manager,
            instance,
            plan_hash,
            agent: None,
            greet: now,
            unclaimed: Vec::new(),
            beats: (offers.iter())
                .map(|offer| Beat {
                    next: now,
                    list: List::default(),
                    sequence: 0,
                    version: offer.version,
                })
                .collect(),
            refused: None,
        }
    }

    /// The agent's name, once it has answered.
    #[must_use]
    pub fn agent(&self) -> Option<&Arc<str>> {
        self.agent.as_ref()
    }

    /// Whether the agent was not greeted as whose share it is.
    #[must_use]
    pub fn left_unclaimed(&self, offer: usize) -> bool {
        self.unclaimed.contains(&offer)
    }

    /// Why the agent refused the session, if it did.
    #[must_use]
    pub fn refused(&self) -> Option<&(Reason, String)> {
        self.refused.as_ref()
    }

    /// When it wants to be ticked.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        if self.refused.is_some() {
            return None;
        }
        match self.agent {
            None => Some(self.greet),
            Some(_) => (self.beats.iter())
                .flat_map(|b| [Some(b.next).filter(|at| *at < Duration::MAX), b.list.next])
                .flatten()
                .min(),
        }
    }

    /// Says what is due.
    pub fn tick(&mut self, now: Duration, offers: &[Offer], out: &mut Vec<ToAgent>) {
        if self.refused.is_some() {
            return;
        }
        if self.agent.is_none() {
            if now >= self.greet {
                self.greet = now + GREET;
                let learning = offers.iter().enumerate().filter(|(_, o)| o.learning);
                self.unclaimed = learning.map(|(index, _)| index).collect();
                out.push(self.hello(offers));
            }
            return;
        }
        for (beat, offer) in self.beats.iter_mut().zip(offers) {
            if now >= beat.next {
                beat.next = now + offer.beat;
                beat.sequence += 1;
                let heartbeat = Heartbeat {
                    sequence: beat.sequence,
                    criteria_version: beat.version,
                };
                out.push(to(offer, ManagerBody::Heartbeat(heartbeat)));
            }
            // What was decided before, by this manager or another, is not decided again.
            if beat.list.next.is_some_and(|at| now >= at) {
                let request = beat.list.request + 1;
                beat.list = List {
                    next: Some(now + LIST),
                    request,
                    ..List::default()
                };
                out.push(to(offer, ManagerBody::ListAffinities { request }));
            }
        }
    }

    fn hello(&self, offers: &[Offer]) -> ToAgent {
        ToAgent {
            service: "".into(),
            share: 0,
            epoch: 0,
            body: ManagerBody::Hello(Hello {
                version: VERSION,
                manager: self.manager.clone(),
                plan_hash: self.plan_hash,
                instance: self.instance,
                claims: (offers.iter())
                    .map(|o| Claim {
                        service: o.service.clone(),
                        share: o.share,
                        epoch: o.epoch,
                        standby: o.stands_by,
                    })
                    .collect(),
            }),
        }
    }

    /// The criteria of an offer that is claimed only now.
    pub(crate) fn criteria(&self, index: usize, offer: &Offer) -> Option<ToAgent> {
        self.agent.as_ref()?;
        Some(criteria(offer, self.beats.get(index)?.version))
    }

    /// Has the agent told at once of an offer's epoch, as with every heartbeat.
    pub(crate) fn beat_now(&mut self, now: Duration, offer: usize) {
        if let Some(beat) = self.beats.get_mut(offer) {
            beat.next = now;
        }
    }

    /// Asks the agent once more for all that it holds of an offer.
    pub(crate) fn list_again(&mut self, now: Duration, offer: usize) {
        if let Some(beat) = self.beats.get_mut(offer) {
            beat.list.next = Some(now);
        }
    }

    /// Takes in a message as far as it is the session's own business.
    pub fn handle(
        &mut self,
        now: Duration,
        message: &ToManager,
        offers: &[Offer],
        out: &mut Vec<ToAgent>,
    ) -> News {
        let own =
            (offers.iter()).position(|o| o.service == message.service && o.share == message.share);
        let beat = own.and_then(|at| self.beats.get_mut(at));
        match &message.body {
            AgentBody::Welcome(welcome) => {
                if self.agent.is_some() {
                    return News::None;
                }
                self.agent = Some(welcome.agent.clone());
                for (beat, offer) in self.beats.iter_mut().zip(offers) {
                    if offer.learning {
                        beat.next = Duration::MAX;
                        continue;
                    }
                    out.push(criteria(offer, beat.version));
                    beat.next = now;
                    // Whoever stands by would have to be told of every flow's end to know it.
                    beat.list.next = (!offer.stands_by).then_some(now);
                }
                self.tick(now, offers, out);
                News::Opened
            }
            AgentBody::Refused { reason, text } => {
                self.refused = Some((*reason, text.clone()));
                News::None
            }
            AgentBody::Resync { have_version } => {
                if let Some((beat, offer)) = beat.zip(own.and_then(|at| offers.get(at))) {
                    if *have_version >= beat.version {
                        beat.version = have_version + 1;
                    }
                    out.push(criteria(offer, beat.version));
                }
                News::None
            }
            AgentBody::Affinities {
                request,
                piece,
                last,
                ..
            } => {
                let whole = beat.is_some_and(|b| b.list.takes(*request, *piece, *last));
                own.filter(|_| whole).map_or(News::None, News::Listed)
            }
            _ => News::None,
        }
    }
}

impl List {
    /// Notes a piece; says whether the list has just become whole.
    fn takes(&mut self, request: u64, piece: u32, last: bool) -> bool {
        if self.next.is_none() || request != self.request {
            return false;
        }
        self.pieces.insert(piece);
        if last {
            self.count = usize::try_from(piece).ok().map(|n| n + 1);
        }
        let whole = self.count == Some(self.pieces.len());
        if whole {
            self.next = None;
            self.pieces.clear();
        }
        whole
    }
}

fn to(offer: &Offer, body: ManagerBody) -> ToAgent {
    ToAgent {
        service: offer.service.clone(),
        share: offer.share,
        epoch: offer.epoch,
        body,
    }
}

fn criteria(offer: &Offer, version: u64) -> ToAgent {
    let list = offer.criteria.clone();
    to(offer, ManagerBody::Criteria(Criteria { version, list }))
}

#[cfg(test)]
mod tests {
    use signalbox_agent::message::Welcome;

    use super::*;

    fn hear(session: &mut Session, offers: &[Offer], body: AgentBody) -> (News, Vec<ToAgent>) {
        let message = ToManager {
            service: "web-lb".into(),
            share: 0,
            epoch: 1,
            body,
        };
        let mut out = Vec::new();
        let news = session.handle(Duration::ZERO, &message, offers, &mut out);
        (news, out)
    }

    fn requests(said: &[ToAgent]) -> Vec<u64> {
        (said.iter())
            .filter_map(|m| match m.body {
                ManagerBody::ListAffinities { request } => Some(request),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a8_6_a_list_is_asked_for_until_every_piece_of_it_has_come() {
        let offers = [Offer {
            service: "web-lb".into(),
            share: 0,
            epoch: 1,
            learns: false,
            backup: false,
            paired: false,
            stands_by: false,
            learning: false,
            version: 1,
            criteria: Vec::new(),
            beat: Duration::from_secs(1),
        }];
        let mut session = Session::new(Duration::ZERO, "lb-1".into(), 0, 0, &offers);
        let welcome = AgentBody::Welcome(Welcome {
            version: VERSION,
            agent: "agent-1".into(),
            plan_hash: 0,
            shares: Vec::new(),
        });
        let (news, said) = hear(&mut session, &offers, welcome);
        assert_eq!((news, requests(&said)), (News::Opened, vec![1]));
        let piece = |request, piece, last| AgentBody::Affinities {
            request,
            piece,
            list: Vec::new(),
            last,
        };
        // The piece in the middle is lost, and the first one doubled.
        for (number, last) in [(0, false), (0, false), (2, true)] {
            let (news, _) = hear(&mut session, &offers, piece(1, number, last));
            assert_eq!(news, News::None);
        }
        let mut said = Vec::new();
        session.tick(LIST, &offers, &mut said);
        assert_eq!(requests(&said), [2]);
        for (request, number, last, wanted) in [
            (1, 1, false, News::None),
            (2, 1, true, News::None),
            (2, 0, false, News::Listed(0)),
            (2, 0, false, News::None),
        ] {
            let (news, _) = hear(&mut session, &offers, piece(request, number, last));
            assert_eq!(news, wanted);
        }
        let mut said = Vec::new();
        session.tick(LIST * 3, &offers, &mut said);
        assert!(requests(&said).is_empty());
    }
}
