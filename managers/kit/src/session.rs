//! One session with one agent: greeting, criteria by version, heartbeats. Pure: takes messages and the time,
//! returns messages.
//!
//! Everything it says may be lost or doubled: the greeting is repeated until it is answered, and every
//! heartbeat names the criteria's version, so that an agent that lacks them asks for them (A8.5, A8.6).

use std::sync::Arc;
use std::time::Duration;

use signalbox_agent::message::{
    AgentBody, Criteria, Criterion, Heartbeat, Hello, ManagerBody, ToAgent, VERSION,
};

/// Between two greetings.
const GREET: Duration = Duration::from_millis(500);

/// A service as a session needs it.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The service's name.
    pub service: Arc<str>,
    /// The manager's epoch for it.
    pub epoch: u64,
    /// The criteria's version; above 0.
    pub version: u64,
    /// The criteria.
    pub criteria: Vec<Criterion>,
    /// From one heartbeat to the next.
    pub beat: Duration,
}

#[derive(Debug)]
struct Beat {
    next: Duration,
    sequence: u64,
    /// The version that this agent is given: raised if it holds a newer one.
    version: u64,
}

/// A session's state.
#[derive(Debug)]
pub struct Session {
    manager: Arc<str>,
    plan_hash: u64,
    agent: Option<Arc<str>>,
    greet: Duration,
    beats: Vec<Beat>,
    refused: Option<String>,
}

impl Session {
    /// A session that is about to greet. Heartbeats of `offers` are indexed alike.
    #[must_use]
    pub fn new(now: Duration, manager: Arc<str>, plan_hash: u64, offers: &[Offer]) -> Self {
        Self {
            manager,
            plan_hash,
            agent: None,
            greet: now,
            beats: (offers.iter())
                .map(|offer| Beat {
                    next: now,
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

    /// Why the agent refused the session, if it did.
    #[must_use]
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// When it wants to be ticked.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        if self.refused.is_some() {
            return None;
        }
        match self.agent {
            None => Some(self.greet),
            Some(_) => self.beats.iter().map(|b| b.next).min(),
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
        }
    }

    fn hello(&self, offers: &[Offer]) -> ToAgent {
        ToAgent {
            service: "".into(),
            epoch: 0,
            body: ManagerBody::Hello(Hello {
                version: VERSION,
                manager: self.manager.clone(),
                plan_hash: self.plan_hash,
                services: (offers.iter())
                    .map(|o| (o.service.clone(), o.epoch))
                    .collect(),
            }),
        }
    }

    /// Takes in a message if it is the session's own business; says whether the session has just opened.
    pub fn handle(
        &mut self,
        now: Duration,
        service: &str,
        body: &AgentBody,
        offers: &[Offer],
        out: &mut Vec<ToAgent>,
    ) -> bool {
        match body {
            AgentBody::Welcome(welcome) => {
                let opened = self.agent.is_none();
                self.agent = Some(welcome.agent.clone());
                if opened {
                    for (beat, offer) in self.beats.iter_mut().zip(offers) {
                        out.push(criteria(offer, beat.version));
                        beat.next = now;
                    }
                    self.tick(now, offers, out);
                }
                opened
            }
            AgentBody::Refused { text, .. } => {
                self.refused = Some(text.clone());
                false
            }
            AgentBody::Resync { have_version } => {
                let mut own = (self.beats.iter_mut().zip(offers))
                    .filter(|(_, offer)| &*offer.service == service);
                if let Some((beat, offer)) = own.next() {
                    if *have_version >= beat.version {
                        beat.version = have_version + 1;
                    }
                    out.push(criteria(offer, beat.version));
                }
                false
            }
            _ => false,
        }
    }
}

fn to(offer: &Offer, body: ManagerBody) -> ToAgent {
    ToAgent {
        service: offer.service.clone(),
        epoch: offer.epoch,
        body,
    }
}

fn criteria(offer: &Offer, version: u64) -> ToAgent {
    let list = offer.criteria.clone();
    to(offer, ManagerBody::Criteria(Criteria { version, list }))
}
