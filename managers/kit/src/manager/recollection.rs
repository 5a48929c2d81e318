//! What another manager tells is taken in here: the decisions of the one that decides, by the one that stands
//! by; and by who has just begun to decide, what the other one remembers.
//!
//! Epochs say who is right: what is older than what this manager goes by is denied. Who has begun to
//! decide asks once for what was decided before, waits a bounded time for it, and takes of it what it does not
//! know better.

use std::sync::Arc;
use std::time::Duration;

use super::peers::{Link, Recall};
use super::{Away, Manager, Output, keep};
use crate::memory::AgentId;
use crate::peer::{PeerMessage, Telling, Told, ToldFlow, ToldState};

/// Between two wishes for what the other remembers.
const ASK: Duration = Duration::from_millis(500);

/// How what is told is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// By who decides, to who stands by: it is so.
    Decider,
    /// Of former times, or of agents that are out of reach: it may be so.
    Memory,
}

impl Manager {
    /// The other manager of a link has said something.
    pub(super) fn link_said(&mut self, at: usize, message: PeerMessage) {
        let now = self.now;
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        link.heard_at = now;
        match message {
            PeerMessage::Telling(telling) => self.hear_telling(at, telling),
            PeerMessage::Ack { stream, sequence } => {
                let acked = link.out.ack(now, (stream, sequence));
                self.acked(at, acked);
            }
            PeerMessage::Recall {
                service,
                share,
                request,
            } => {
                let Some(index) = self.by_name.get(&(service, share)).copied() else {
                    link.counts.unknown += 1;
                    return;
                };
                let Some(duty) = link.duties.iter_mut().find(|d| d.index == index) else {
                    link.counts.unknown += 1;
                    return;
                };
                if request <= duty.answered {
                    return;
                }
                duty.answered = request;
                if !link.out.answers(index, request)
                    && let Some(service) = self.services.get(index)
                {
                    link.out.walk(index, service.memory.numbers(), request);
                }
            }
            PeerMessage::Old {
                service,
                share,
                epoch,
            } => {
                let index = self.by_name.get(&(service, share)).copied();
                if let Some(duty) = index.and_then(|index| link.duty(index))
                    && duty.leads == Some(epoch)
                {
                    duty.old = Some(epoch);
                    let text = format!(
                        "`{}` knows a newer epoch than {epoch}, and takes no decisions of it",
                        link.peer
                    );
                    self.out.push(Output::Log(text));
                }
            }
            PeerMessage::Hello(_) | PeerMessage::Refused { .. } => {}
        }
    }

    fn hear_telling(&mut self, at: usize, telling: Telling) {
        let now = self.now;
        let key = (telling.service.clone(), telling.share);
        let index = self.by_name.get(&key).copied();
        if let Some(index) = index.filter(|index| self.is_learning(*index)) {
            self.heard(index, telling.epoch);
        }
        let Some(link) = self.links.get_mut(at) else {
            return;
        };
        let duty = index.and_then(|i| link.duties.iter_mut().find(|d| d.index == i));
        let at_once =
            !matches!(telling.body, Told::Flow(_)) || duty.as_ref().is_some_and(|d| d.sync);
        if !link.heard.takes(now, &telling, at_once) {
            return;
        }
        link.counts.learned += 1;
        let (Some(duty), Some(offer)) = (duty, index.and_then(|i| self.offers.get(i))) else {
            link.counts.unknown += 1;
            return;
        };
        let newer = telling.epoch > offer.epoch;
        let leads = telling.leads && (newer || telling.epoch == offer.epoch && offer.stands_by);
        let word = if leads && offer.stands_by {
            Word::Decider
        } else if leads || duty.recall.is_some() {
            // Who decides as well goes by what its own agents list.
            Word::Memory
        } else {
            if telling.leads {
                link.counts.old += 1;
                if let Some(way) = link.way {
                    let old = PeerMessage::Old {
                        service: telling.service,
                        share: telling.share,
                        epoch: telling.epoch,
                    };
                    self.out.push(Output::Peer(way, old));
                }
            }
            return;
        };
        let (index, number) = (duty.index, duty.telling);
        match telling.body {
            Told::Begin => {
                duty.telling = duty.telling.wrapping_add(1).max(1);
                duty.led = word == Word::Decider;
                duty.complete = false;
            }
            Told::Flow(flow) => self.take_in(index, Arc::unwrap_or_clone(flow), word, number),
            Told::Whole { request } => {
                // A telling whose beginning was an elder one's says nothing of what it does not contain.
                duty.complete = duty.led && word == Word::Decider;
                let all = duty.complete && offer.stands_by;
                if (duty.recall.as_ref()).is_some_and(|r| r.request <= request) {
                    duty.recall = None;
                }
                if let Some(service) = self.services.get_mut(index).filter(|_| all) {
                    for decided in service.memory.told_whole(now, number) {
                        service.decide.ended(&decided);
                    }
                }
            }
        }
    }

    fn take_in(&mut self, index: usize, flow: ToldFlow, word: Word, telling: u32) {
        let now = self.now;
        let agents = match &flow.state {
            ToldState::Held(names) => names.iter().map(|name| self.named(name)).collect(),
            ToldState::Gone | ToldState::Refused => Vec::new(),
        };
        if word == Word::Memory {
            return self.recollect(index, flow, agents, telling);
        }
        let Some(service) = self.services.get_mut(index) else {
            return;
        };
        let ToldFlow {
            decided,
            kind,
            state,
        } = flow;
        let known = service.memory.same(&decided, kind);
        match (state, known) {
            (ToldState::Held(_), Some(number)) => {
                let memory = &mut service.memory;
                if let Some(flow) = memory.retold(number, &agents, telling) {
                    service.decide.adopted(&flow.decided);
                }
            }
            (ToldState::Held(_), None) => {
                service.learn(decided, kind, &agents, telling);
            }
            (ToldState::Gone, Some(number)) => {
                if let Some(flow) = service.memory.told_gone(now, number, false) {
                    service.decide.ended(&flow.decided);
                }
            }
            (ToldState::Gone, None) => service.rest(now, decided, kind),
            (ToldState::Refused, Some(number)) => {
                if let Some(decided) = service.memory.told_refused(number) {
                    service.decide.ended(&decided);
                }
            }
            (ToldState::Refused, None) => {}
        }
    }

    /// Takes in what the other one remembers of former times, if nothing newer is known here of such a flow: what
    /// this one decided before the other one took its place is older. Agents that have listed what they hold do not
    /// hold it.
    fn recollect(&mut self, index: usize, flow: ToldFlow, mut agents: Vec<AgentId>, telling: u32) {
        let now = self.now;
        agents.retain(|agent| !self.ways.has_listed(*agent, index));
        let Some(service) = self.services.get_mut(index) else {
            return;
        };
        let ToldFlow { decided, kind, .. } = flow;
        if flow.state == ToldState::Gone
            && let Some(number) = service.memory.same(&decided, kind)
        {
            // What is known only by the other's word is over by its word.
            if let Some(flow) = service.memory.told_gone(now, number, true) {
                service.decide.ended(&flow.decided);
            }
            return;
        }
        let memory = &service.memory;
        let is_known = memory.knows(&decided, kind)
            && (memory.same(&decided, kind).is_some()
                || !memory.is_of_former_reign(&decided, kind));
        if is_known || flow.state == ToldState::Refused {
            return;
        }
        if agents.is_empty() {
            return service.rest(now, decided, kind);
        }
        service.learn(decided, kind, &agents, telling);
        for agent in agents {
            self.expect(agent, index);
        }
    }

    /// The agent of that name, whether it has ever been there or not.
    fn named(&mut self, name: &Arc<str>) -> AgentId {
        let at = self.agents.iter().position(|known| known == name);
        if at.is_none() {
            self.agents.push(name.clone());
        }
        AgentId(at.unwrap_or(self.agents.len() - 1))
    }

    /// What an agent holds by another manager's word it holds until it lists what it has; if it is not there, it
    /// has two idle leases to come.
    pub(super) fn expect(&mut self, agent: AgentId, index: usize) {
        let there = self.ways.to(agent).is_some();
        let known = (self.away.iter()).any(|a| (a.agent, a.service) == (agent, index));
        let Some(service) = self.services.get(index) else {
            return;
        };
        if !there && !known && service.decide.hold_back().is_none() {
            self.away.push(Away {
                until: self.now + keep(service.limits.idle_ms),
                agent,
                service: index,
            });
        }
    }

    /// Whether this manager stands by for another one that tells it of a share.
    pub(super) fn is_told(&self, index: usize) -> bool {
        self.offers.get(index).is_some_and(|o| o.stands_by)
            && (self.links.iter().flat_map(|l| &l.duties)).any(|d| d.index == index)
    }

    /// Whether a share waits for what the other manager remembers of it.
    pub(super) fn is_recalling(&self, index: usize) -> bool {
        (self.links.iter().flat_map(|l| &l.duties)).any(|d| d.index == index && d.recall.is_some())
    }

    /// What was decided before this manager decides is to be asked for; of every share that it has in common
    /// with another, or of one.
    pub(super) fn wish_to_recall(&mut self, of: Option<usize>) {
        let now = self.now;
        let duties = self.links.iter_mut().flat_map(|l| &mut l.duties);
        for duty in duties.filter(|d| of.is_none_or(|index| d.index == index)) {
            duty.requests += 1;
            duty.recall = Some(Recall {
                request: duty.requests,
                until: None,
                next: now,
            });
        }
    }

    /// Asks the other for what it remembers, and gives up when it does not say it in time.
    pub(super) fn recall(&mut self, link: &mut Link) {
        let now = self.now;
        let there = self.ways.known().next().is_some();
        for duty in &mut link.duties {
            let Some(recall) = &mut duty.recall else {
                continue;
            };
            let Some(offer) = self.offers.get(duty.index) else {
                continue;
            };
            if there {
                recall.until.get_or_insert(now + duty.after);
            }
            if recall.until.is_some_and(|until| until <= now) {
                duty.recall = None;
                // Who stands by is told everything sooner or later.
                if !offer.stands_by || offer.learning {
                    let text = format!(
                        "{}: `{}` has not told in time what it remembers; deciding without",
                        offer.service, link.peer
                    );
                    self.out.push(Output::Log(text));
                }
                continue;
            }
            if let Some(way) = link.way.filter(|_| recall.next <= now) {
                recall.next = now + ASK;
                let wish = PeerMessage::Recall {
                    service: offer.service.clone(),
                    share: offer.share,
                    request: recall.request,
                };
                self.out.push(Output::Peer(way, wish));
            }
        }
    }

    /// How far what another manager has told is to be relied on, for who takes its place.
    pub(super) fn replica(&self, index: usize) -> Option<String> {
        let link = (self.links.iter()).find(|l| l.duties.iter().any(|d| d.index == index))?;
        let duty = link.duties.iter().find(|d| d.index == index)?;
        let ms = self.now.saturating_sub(link.heard_at).as_millis();
        Some(match duty.complete {
            true => format!(
                "what `{}` has decided is known up to {ms} ms ago",
                link.peer
            ),
            false => format!("`{}` has not told all that it had decided", link.peer),
        })
    }
}
