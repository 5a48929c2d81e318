//! The ways to other managers: who is there, and who may be. By the policy a manager and its backup share the
//! decisions of what one of them decides and the other stands by for; of what they say then `replication` and
//! `recollection` know.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::Serialize;
use signalbox_lower::plan::{Plan, Replicate};

use super::replication::Held;
use super::{Manager, Output};
use crate::peer::{PeerHello, PeerId, PeerMessage, PeerReason, VERSION};
use crate::replica::{Incoming, Outgoing};
use crate::session::Offer;

/// Between two greetings, and how long one may not be answered.
const GREET: Duration = Duration::from_millis(500);
const SILENT: Duration = Duration::from_secs(5);

/// A way on which somebody may be.
#[derive(Debug)]
pub(super) struct Door {
    greet: Duration,
    until: Duration,
    /// The link whose it is, once it is known who is there.
    link: Option<usize>,
}

/// What this manager wants to know of another one's memory.
#[derive(Debug)]
pub(super) struct Recall {
    pub request: u64,
    /// When it decides without; not known before it could decide at all.
    pub until: Option<Duration>,
    pub next: Duration,
}

/// A share that the two have in common.
#[derive(Debug)]
pub(super) struct Duty {
    /// Its place among the manager's services.
    pub index: usize,
    pub sync: bool,
    /// How long the backup's word is waited for: as long as its manager's criteria live without him.
    pub after: Duration,
    /// The epoch under which the other is told of what this one decides.
    pub leads: Option<u64>,
    /// An epoch of this manager's that the other knows to be old.
    pub old: Option<u64>,
    /// Whether the other has all of it.
    pub whole: bool,
    pub recall: Option<Recall>,
    pub requests: u64,
    /// The highest wish of the other that was answered.
    pub answered: u64,
    /// The other's tellings of all flows, counted up.
    pub telling: u32,
    /// Whether the last one is a decider's, and complete.
    pub led: bool,
    pub complete: bool,
}

/// What was counted of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LinkCounts {
    /// Pieces that the other was told.
    pub told: u64,
    /// Pieces that the other has told.
    pub learned: u64,
    /// Changes that took effect before the backup knew, though it should have.
    pub without: u64,
    /// Pieces of the other's that were older than what this one knows.
    pub old: u64,
    /// Pieces of shares that the two do not have in common.
    pub unknown: u64,
}

/// Where a link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// The other one is not there.
    Away,
    /// There are decisions that the other one does not know yet, or does not take.
    Behind,
    /// Each knows what the other one has decided.
    InSync,
}

/// A link's state, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkStatus {
    /// The other manager.
    pub manager: String,
    /// Where it stands.
    pub state: LinkState,
    /// Since when it has been there or away, in seconds.
    pub for_s: u64,
    /// Changes that the other has not acknowledged.
    pub behind: u64,
    /// The most that there ever were.
    pub most_behind: u64,
    /// How long the oldest of them has been waiting, in milliseconds.
    pub oldest_ms: u64,
    /// What was counted.
    #[serde(flatten)]
    pub counts: LinkCounts,
}

/// The other one of a pair, and what the two have in common.
#[derive(Debug)]
pub(super) struct Link {
    pub peer: Arc<str>,
    pub way: Option<PeerId>,
    pub since: Duration,
    instance: u64,
    pub duties: Vec<Duty>,
    pub out: Outgoing,
    pub heard: Incoming,
    /// When it was heard last.
    pub heard_at: Duration,
    pub held: VecDeque<Held>,
    /// Flows whose verdicts are held, and for which change.
    pub holds: FxHashMap<(usize, u64), u64>,
    /// It has not acknowledged in time: nothing waits for it until it has caught up.
    pub late: bool,
    pub was_in_sync: bool,
    /// The last change that took effect without its word.
    pub unwaited: u64,
    pub counts: LinkCounts,
}

impl Link {
    /// Whether the other is there and has all that this one has decided, but for what waits for its word.
    pub fn is_in_sync(&self) -> bool {
        let told = |d: &Duty| d.old.is_none() && (d.leads.is_none() || d.whole);
        let waits = (self.duties.iter()).any(|d| d.sync && d.leads.is_some());
        self.way.is_some()
            && !self.late
            && self.duties.iter().all(told)
            && if waits {
                self.out.acked() >= self.unwaited
            } else {
                self.out.behind() == 0
            }
    }

    pub fn duty(&mut self, index: usize) -> Option<&mut Duty> {
        self.duties.iter_mut().find(|d| d.index == index)
    }
}

/// The links of a manager by its plan, one for each manager that it shares decisions with.
pub(super) fn links_of(name: &str, plan: &Plan, offers: &[Offer]) -> Vec<Link> {
    let mut by_peer: BTreeMap<&str, Vec<Duty>> = BTreeMap::new();
    for (index, offer) in offers.iter().enumerate() {
        let service = plan.services.iter().find(|s| s.name == *offer.service);
        let Some(share) = service.and_then(|s| s.share(offer.share)) else {
            continue;
        };
        let Some((backup, how)) = (share.backup.as_ref()).and_then(|b| Some((b, b.replicate?)))
        else {
            continue;
        };
        let other = if backup.manager == name {
            &share.manager
        } else {
            &backup.manager
        };
        by_peer.entry(other).or_default().push(Duty {
            index,
            sync: how == Replicate::Sync,
            after: Duration::from_millis(backup.after_ms),
            leads: None,
            old: None,
            whole: false,
            recall: None,
            requests: 0,
            answered: 0,
            telling: 0,
            led: false,
            complete: false,
        });
    }
    (by_peer.into_iter())
        .map(|(peer, duties)| Link {
            peer: peer.into(),
            way: None,
            since: Duration::ZERO,
            instance: 0,
            duties,
            out: Outgoing::default(),
            heard: Incoming::default(),
            heard_at: Duration::ZERO,
            held: VecDeque::new(),
            holds: FxHashMap::default(),
            late: false,
            was_in_sync: false,
            unwaited: 0,
            counts: LinkCounts::default(),
        })
        .collect()
}

impl Manager {
    /// Makes the links of its plan, and has its services note what changes.
    pub(super) fn link(&mut self) {
        self.links = links_of(&self.name, &self.plan, &self.offers);
        for (index, service) in self.services.iter_mut().enumerate() {
            let mut duties = self.links.iter().flat_map(|l| &l.duties);
            service
                .memory
                .note_changes(duties.any(|d| d.index == index));
        }
    }

    /// Ends all ways to other managers.
    pub(super) fn unlink(&mut self) {
        for id in std::mem::take(&mut self.doors).into_keys() {
            self.out.push(Output::PeerClose(id));
        }
    }

    pub(super) fn peer_connected(&mut self, id: PeerId) {
        self.peer_gone(id);
        let door = Door {
            greet: self.now,
            until: self.now + SILENT,
            link: None,
        };
        self.doors.insert(id, door);
    }

    pub(super) fn peer_gone(&mut self, id: PeerId) {
        self.doors.remove(&id);
        let now = self.now;
        let Some(link) = self.links.iter_mut().find(|l| l.way == Some(id)) else {
            return;
        };
        link.way = None;
        link.since = now;
        link.out.closed();
        let text = format!("the link to `{}` is gone", link.peer);
        self.out.push(Output::Log(text));
    }

    /// Another manager has said something.
    pub(super) fn peer_said(&mut self, id: PeerId, message: PeerMessage) {
        let Some(door) = self.doors.get(&id) else {
            return;
        };
        let link = door.link;
        match (message, link) {
            (PeerMessage::Hello(hello), _) => self.greeted(id, &hello),
            (PeerMessage::Refused { reason, text }, _) => {
                self.peer_gone(id);
                self.out.push(Output::PeerRefused {
                    peer: id,
                    reason,
                    text,
                });
            }
            (message, Some(link)) => self.link_said(link, message),
            // What comes before a greeting is told again.
            (_, None) => {}
        }
    }

    fn greeted(&mut self, id: PeerId, hello: &PeerHello) {
        let now = self.now;
        let at = self.links.iter().position(|l| l.peer == hello.manager);
        let (reason, text) = match at.and_then(|at| Some((at, self.links.get_mut(at)?))) {
            _ if hello.version != VERSION => (
                PeerReason::Version,
                format!("it speaks version {}, not {VERSION}", hello.version),
            ),
            None => (
                PeerReason::Stranger,
                format!(
                    "by the policy `{}` shares no decisions with `{}`",
                    self.name, hello.manager
                ),
            ),
            _ if hello.plan_hash != self.plan_hash => (
                PeerReason::Plan,
                format!("`{}` works from another plan", hello.manager),
            ),
            Some((_, link)) if link.way.is_some_and(|way| way != id) => {
                if hello.instance > link.instance {
                    if let Some(former) = link.way {
                        let text = format!("a later process of `{}` is there", hello.manager);
                        self.refuse_peer(former, PeerReason::Superseded, text);
                    }
                    return self.greeted(id, hello);
                }
                let text = format!("`{}` is there already", hello.manager);
                match hello.instance == link.instance {
                    true => (PeerReason::Twice, text),
                    false => (PeerReason::Superseded, text),
                }
            }
            Some((at, link)) => {
                if link.instance != hello.instance {
                    link.instance = hello.instance;
                    link.heard.another();
                }
                let opens = hello.heard && link.way.is_none();
                if opens {
                    link.way = Some(id);
                    link.since = now;
                    link.heard_at = now;
                    let text = format!("linked to `{}`", link.peer);
                    self.out.push(Output::Log(text));
                }
                if let Some(door) = self.doors.get_mut(&id) {
                    door.link = Some(at);
                    if !hello.open {
                        door.greet = now;
                    }
                }
                if opens {
                    self.link_opened(at, hello.have);
                }
                return;
            }
        };
        self.refuse_peer(id, reason, text);
    }

    fn refuse_peer(&mut self, id: PeerId, reason: PeerReason, text: String) {
        *self.peers_refused.entry(reason).or_default() += 1;
        self.out
            .push(Output::Log(format!("a manager is refused: {text}")));
        let refused = PeerMessage::Refused { reason, text };
        self.out.push(Output::Peer(id, refused));
        self.peer_gone(id);
        self.out.push(Output::PeerClose(id));
    }

    /// Greets, and gives up who does not answer.
    pub(super) fn greet_peers(&mut self) {
        let now = self.now;
        let mut silent = Vec::new();
        for (id, door) in &mut self.doors {
            let link = door.link.and_then(|at| self.links.get(at));
            if link.is_none() && door.until <= now {
                silent.push(*id);
            } else if door.greet <= now {
                let open = link.is_some_and(|l| l.way == Some(*id));
                door.greet = if open { Duration::MAX } else { now + GREET };
                let hello = PeerHello {
                    version: VERSION,
                    manager: self.name.clone(),
                    plan_hash: self.plan_hash,
                    instance: self.instance,
                    heard: link.is_some(),
                    open,
                    have: link.map_or((0, 0), |l| l.heard.have()),
                };
                self.out.push(Output::Peer(*id, PeerMessage::Hello(hello)));
            }
        }
        for id in silent {
            self.refuse_peer(id, PeerReason::Silent, "it does not say who it is".into());
        }
    }

    /// When something of the links is due.
    pub(super) fn next_of_peers(&self) -> Option<Duration> {
        let doors = self.doors.values().map(|door| match door.link {
            Some(_) => door.greet,
            None => door.greet.min(door.until),
        });
        let links = (self.links.iter()).filter_map(|l| self.next_of_link(l));
        doors.chain(links).filter(|at| *at < Duration::MAX).min()
    }

    /// The links' state, for people.
    pub(super) fn link_statuses(&self) -> Vec<LinkStatus> {
        (self.links.iter())
            .map(|link| LinkStatus {
                manager: link.peer.to_string(),
                state: match link.way {
                    None => LinkState::Away,
                    Some(_) if link.is_in_sync() => LinkState::InSync,
                    Some(_) => LinkState::Behind,
                },
                for_s: self.now.saturating_sub(link.since).as_secs(),
                behind: link.out.behind(),
                most_behind: link.out.most(),
                oldest_ms: (link.out.oldest()).map_or(0, |since| {
                    let age = self.now.saturating_sub(since);
                    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
                }),
                counts: link.counts,
            })
            .collect()
    }
}
