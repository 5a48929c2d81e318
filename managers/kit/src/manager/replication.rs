//! What a manager tells the other one of its decisions, as they are made.
//!
//! Who decides for a share tells all that it remembers once, and from then on every change. With `sync` a verdict
//! that brings a new decision waits until the other has acknowledged it, so that nothing takes effect that the
//! other does not know; but not longer than the manager's criteria would live without it, and not at all while
//! the other is away: a dead backup must not stop the service.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use signalbox_agent::message::{ManagerBody, Verdict};

use super::peers::Link;
use super::{Manager, Output, keep};
use crate::memory::Change;
use crate::peer::{PeerId, PeerMessage, Telling, Told, ToldFlow, ToldState};
use crate::replica::{Acked, Item};
use crate::session::SessionId;

/// A verdict that waits for the other manager's word.
#[derive(Debug)]
pub(super) struct Held {
    index: usize,
    epoch: u64,
    /// The flow, and the change that must be acknowledged.
    number: u64,
    position: u64,
    until: Duration,
    way: SessionId,
    verdict: Verdict,
}

impl Link {
    /// A verdict about a flow is due that brings these changes. Returns the change that the other must
    /// acknowledge first, if there is one.
    fn changed(
        &mut self,
        now: Duration,
        index: usize,
        number: u64,
        changes: Vec<Change>,
    ) -> Option<u64> {
        let duty = self.duties.iter().find(|d| d.index == index)?;
        let (sync, leads) = (duty.sync, duty.leads.is_some());
        let known = self.holds.get(&(index, number)).copied();
        let mut position = known;
        for change in changes {
            position = Some(self.out.pushed());
            if leads {
                position = Some(self.out.push(now, index, change));
            }
        }
        let position = position.filter(|_| sync)?;
        if leads && self.way.is_some() && !self.late {
            self.holds.insert((index, number), position);
            return Some(position);
        }
        self.unwaited = self.out.pushed();
        self.counts.without += 1;
        None
    }
}

impl Manager {
    /// Answers a question about a flow, if it has a number: at once, or once the other manager knows the decision.
    pub(super) fn verdict(
        &mut self,
        way: SessionId,
        index: usize,
        number: Option<u64>,
        verdict: Verdict,
    ) {
        let number = number.filter(|_| !verdict.affinities.is_empty());
        let epoch = self.offers.get(index).map_or(0, |o| o.epoch);
        let has = |l: &&mut Link| l.duties.iter().any(|d| d.index == index);
        let link = self.links.iter_mut().find(has);
        if let (Some(number), Some(link), Some(service)) =
            (number, link, self.services.get_mut(index))
        {
            let changes = service.memory.changes();
            if let Some(position) = link.changed(self.now, index, number, changes) {
                let after = link.duty(index).map_or(Duration::ZERO, |d| d.after);
                return link.held.push_back(Held {
                    index,
                    epoch,
                    number,
                    position,
                    until: self.now + after,
                    way,
                    verdict,
                });
            }
        }
        self.say(way, index, ManagerBody::Verdict(verdict));
    }

    /// Tells what there is to tell, and lets verdicts go that have waited long enough.
    pub(super) fn replicate(&mut self) {
        let mut links = std::mem::take(&mut self.links);
        for link in &mut links {
            self.recall(link);
            self.lead(link);
            self.tell(link);
            self.let_go(link);
            self.acknowledge(link);
        }
        self.links = links;
        self.greet_peers();
    }

    /// Begins to tell of shares that this manager decides for, and ends with others.
    fn lead(&mut self, link: &mut Link) {
        let now = self.now;
        let anew = link.way.is_some() && link.out.overflown();
        for duty in &mut link.duties {
            let (Some(offer), Some(service)) = (
                self.offers.get(duty.index),
                self.services.get_mut(duty.index),
            ) else {
                continue;
            };
            let changes = service.memory.changes();
            duty.old.take_if(|epoch| *epoch != offer.epoch);
            let decides =
                !offer.stands_by && offer.epoch > 0 && duty.recall.is_none() && duty.old.is_none();
            let epoch = decides.then_some(offer.epoch);
            if epoch != duty.leads && duty.leads.take().is_some() {
                link.out.leave(duty.index);
            }
            if let Some(epoch) = epoch.filter(|_| link.way.is_some())
                && (duty.leads.is_none() || anew)
            {
                duty.leads = Some(epoch);
                duty.whole = false;
                let numbers = service.memory.numbers();
                link.out.walk(duty.index, numbers, duty.answered);
            } else if duty.leads.is_some() {
                for change in changes {
                    link.out.push(now, duty.index, change);
                }
            }
        }
    }

    fn tell(&mut self, link: &mut Link) {
        let now = self.now;
        let Some(way) = link.way else { return };
        if let Some(telling) = link.out.again(now) {
            (self.out).push(Output::Peer(way, PeerMessage::Telling(telling)));
        }
        let forgotten = self.tell_due(link, way);
        if !forgotten.is_empty() {
            self.tell_anew(link, &forgotten);
            self.tell_due(link, way);
        }
    }

    /// Tells what there is to tell. Returns shares with changes that can be told no more.
    fn tell_due(&mut self, link: &mut Link, way: PeerId) -> BTreeSet<usize> {
        let now = self.now;
        let mut forgotten = BTreeSet::new();
        while let Some(due) = link.out.next() {
            let told = match &due.item {
                Item::Begin => Some(Told::Begin),
                Item::Whole(request) => Some(Told::Whole { request: *request }),
                Item::Change(change) => self.told(due.share, change),
            };
            let leads = (link.duty(due.share)).is_some_and(|d| d.leads.is_some());
            let (Some(body), Some(offer)) = (told, self.offers.get(due.share)) else {
                link.out.skipped(&due);
                let keep = (self.services.get(due.share)).map(|s| keep(s.limits.idle_ms));
                if due
                    .waited(now)
                    .zip(keep)
                    .is_some_and(|(waited, keep)| waited >= keep)
                {
                    forgotten.insert(due.share);
                }
                continue;
            };
            let telling = Telling {
                stream: 0,
                sequence: 0,
                service: offer.service.clone(),
                share: offer.share,
                epoch: offer.epoch,
                leads,
                body,
            };
            link.counts.told += 1;
            let telling = link.out.sent(now, &due, telling);
            (self.out).push(Output::Peer(way, PeerMessage::Telling(telling)));
        }
        forgotten
    }

    /// Changes have waited so long that their flows may have ended and been forgotten meanwhile: only all that is
    /// remembered says so.
    fn tell_anew(&self, link: &mut Link, shares: &BTreeSet<usize>) {
        for share in shares.iter().copied() {
            let Some(service) = self
                .services
                .get(share)
                .filter(|_| !link.out.will_walk(share))
            else {
                continue;
            };
            let numbers = service.memory.numbers();
            let answered = link.duty(share).map_or(0, |duty| {
                duty.whole = false;
                duty.answered
            });
            link.out.walk(share, numbers, answered);
        }
    }

    /// A flow as it stands now; nothing if another one has taken its place.
    fn told(&self, index: usize, change: &Change) -> Option<Told> {
        let service = self.services.get(index)?;
        let flow = match change {
            Change::Gone(was) | Change::Refused(was) => ToldFlow {
                decided: service.settled(&was.0),
                kind: was.1,
                state: match change {
                    Change::Gone(_) => ToldState::Gone,
                    _ => ToldState::Refused,
                },
            },
            Change::Of(number) => {
                let flow = service.memory.get(*number)?;
                let agents = (flow.holders()).filter_map(|a| self.agents.get(a.0).cloned());
                let agents: Vec<_> = agents.collect();
                ToldFlow {
                    decided: service.settled(&flow.decided),
                    kind: flow.kind,
                    state: match agents.is_empty() {
                        true => ToldState::Gone,
                        false => ToldState::Held(agents),
                    },
                }
            }
        };
        Some(Told::Flow(Arc::new(flow)))
    }

    /// Lets verdicts go whose decisions the other knows, and all if it does not say so in time.
    fn let_go(&mut self, link: &mut Link) {
        let now = self.now;
        let was_late = link.late;
        let overdue = link.held.front().is_some_and(|held| held.until <= now);
        link.late |= overdue;
        let alone = link.late || link.way.is_none();
        while let Some(held) =
            (link.held).pop_front_if(|held| alone || link.out.acked() >= held.position)
        {
            if link.out.acked() < held.position {
                link.unwaited = link.out.pushed();
                link.counts.without += 1;
            }
            if link.holds.get(&(held.index, held.number)) == Some(&held.position) {
                link.holds.remove(&(held.index, held.number));
            }
            // Another one has decided since.
            let same = |o: &crate::session::Offer| o.epoch == held.epoch && !o.stands_by;
            if self.offers.get(held.index).is_some_and(same) {
                self.say(held.way, held.index, ManagerBody::Verdict(held.verdict));
            }
        }
        if link.late && !was_late {
            let text = format!(
                "`{}` does not acknowledge decisions: going on without it",
                link.peer
            );
            self.out.push(Output::Log(text));
        }
        let in_sync = link.is_in_sync();
        if in_sync != link.was_in_sync {
            link.was_in_sync = in_sync;
            let sync = link.duties.iter().any(|d| d.sync && d.leads.is_some());
            if in_sync && sync {
                let text = format!("`{}` knows every decision", link.peer);
                self.out.push(Output::Log(text));
            }
        }
    }

    /// A way to an agent is gone, and with it the verdicts that waited: no agent ever carries them out.
    pub(super) fn unsaid(&mut self, way: SessionId) {
        for link in &mut self.links {
            let (unsaid, rest): (VecDeque<Held>, _) = std::mem::take(&mut link.held)
                .into_iter()
                .partition(|held| held.way == way);
            link.held = rest;
            for held in unsaid {
                if link.holds.get(&(held.index, held.number)) == Some(&held.position) {
                    link.holds.remove(&(held.index, held.number));
                }
                let service = self.services.get_mut(held.index);
                if let Some(service) = service
                    && let Some((decided, never)) =
                        (service.memory).denied(self.now, way, held.verdict.request, false)
                {
                    match never {
                        true => service.decide.refused(&decided),
                        false => service.decide.ended(&decided),
                    }
                }
            }
        }
    }

    fn acknowledge(&mut self, link: &mut Link) {
        if let Some(way) = link.way
            && let Some((stream, sequence)) = link.heard.acks(self.now)
        {
            let ack = PeerMessage::Ack { stream, sequence };
            self.out.push(Output::Peer(way, ack));
        }
    }

    /// Nothing waits for the manager whose place this one takes, unless it shows that it is there.
    pub(super) fn presume_dead(&mut self, index: usize) {
        for link in &mut self.links {
            link.late |= link.duties.iter().any(|d| d.index == index);
        }
    }

    /// There is a way to the other: it is told what it has not got.
    pub(super) fn link_opened(&mut self, at: usize, have: (u64, u64)) {
        let now = self.now;
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        link.late = false;
        for duty in &mut link.duties {
            if let Some(recall) = &mut duty.recall {
                recall.next = now;
            }
        }
        match link.out.opened(now, have) {
            Some(acked) => self.acked(at, acked),
            None => {
                // Everything is told anew.
                for duty in &mut link.duties {
                    duty.leads = None;
                    duty.whole = false;
                    duty.answered = 0;
                }
            }
        }
    }

    pub(super) fn acked(&mut self, at: usize, acked: Acked) {
        let now = self.now;
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        if link.late && acked.any {
            // Once acknowledgements come soon enough again, verdicts wait for them.
            let bound = link
                .duties
                .iter()
                .map(|d| d.after)
                .min()
                .unwrap_or_default()
                / 2;
            link.late = (link.out.oldest()).is_some_and(|since| now >= since + bound);
        }
        for index in acked.whole {
            if let Some(duty) = link.duty(index) {
                duty.whole |= duty.leads.is_some();
            }
        }
        if let Some(way) = link.way {
            let again = acked.again.into_iter().map(PeerMessage::Telling);
            (self.out).extend(again.map(|m| Output::Peer(way, m)));
        }
    }

    /// When something of a link is due.
    pub(super) fn next_of_link(&self, link: &Link) -> Option<Duration> {
        let recalls = (link.duties.iter())
            .filter_map(|d| d.recall.as_ref())
            .flat_map(|r| [r.until, link.way.map(|_| r.next)]);
        let claims = (link.duties.iter())
            .filter(|d| self.has_learned(d))
            .map(|_| Some(self.now));
        let held = link.held.front().map(|h| h.until);
        let own = [
            held,
            link.out.next_again().filter(|_| link.way.is_some()),
            link.heard.next().filter(|_| link.way.is_some()),
        ];
        recalls.chain(claims).chain(own).flatten().min()
    }
}
