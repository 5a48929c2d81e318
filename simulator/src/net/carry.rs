//! What is said on its way: from a manager to an agent, from an agent to a manager, and out of a switch.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use signalbox_agent::flow::Part;
use signalbox_agent::message::{AgentBody, Interest, ManagerBody, ToManager};
use signalbox_agent::{Input as ToTheAgent, packet};
use signalbox_manager::state::{self, Found, Round, StateError};
use signalbox_manager::{Input, Output};

use super::{AGAIN, Net};
use crate::bug::Bug;
use crate::link::{Link, Sent};
use crate::site;
use crate::transcript;

/// More than ever happens at one moment.
const STORM: usize = 1_000;

impl Net {
    /// A manager hears of something.
    pub(super) fn tell(&mut self, m: usize, input: Input) {
        let Some(process) = &mut self.processes[m] else {
            return;
        };
        if process.hung {
            return process.pending.push(input);
        }
        let out = process.machine.handle(self.now, input);
        self.carry(m, out);
    }

    fn note_some(&mut self, line: impl FnOnce() -> Option<String>) {
        if let Some(line) = self.transcript.is_some().then(line).flatten() {
            self.note(|| line);
        }
    }

    fn link_of(&self, m: usize, session: u64) -> Option<usize> {
        let has = |l: &Link| l.session.as_ref().is_some_and(|s| s.id == session);
        (self.links.iter())
            .find(|((_, of), link)| *of == m && has(link))
            .map(|((a, _), _)| *a)
    }

    /// What a manager wants done.
    pub(super) fn carry(&mut self, m: usize, out: Vec<Output>) {
        let mut answers = Vec::new();
        for output in out {
            match output {
                Output::Message(session, message) => {
                    self.waited(m, &message);
                    let Some(a) = self.link_of(m, session) else {
                        continue;
                    };
                    self.said += 1;
                    let order = self.said;
                    let process = self.processes[m].as_mut().unwrap();
                    if !message.service.is_empty() && message.epoch != process.epoch {
                        process.epoch = message.epoch;
                        process.knows.clear();
                    }
                    let sent = Sent {
                        by: process.number,
                        order,
                        epoch: message.epoch,
                        knew: process.knows.clone(),
                        message,
                    };
                    self.push_down(a, m, sent);
                }
                Output::Close(session) | Output::Refused { session, .. } => {
                    if let Some(a) = self.link_of(m, session) {
                        self.disconnect(a, m);
                        self.links.get_mut(&(a, m)).unwrap().again = self.now + AGAIN;
                    }
                }
                Output::Opened { .. } | Output::Log(_) | Output::Record(_) => {}
                Output::Peer(id, message) => self.across(m, id, message),
                Output::PeerRefused { .. } | Output::PeerClose(_) => self.part(m, false),
                Output::Store(round) => answers.push((round.number, self.store(m, &round))),
                // The later process goes on by itself.
                Output::End(_) => {}
            }
        }
        for (number, answer) in answers {
            self.tell(m, Input::Store(number, answer));
        }
    }

    /// What the store answers a manager; away, it answers nothing for some seconds, by the story's number.
    fn store(&self, m: usize, round: &Round) -> Result<Found, StateError> {
        let slot = self.now.as_secs() / 3 + 1;
        let dice = (self.seed + 1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_mul(slot)
            >> 61;
        if self.store_goes_away && dice < 3 {
            return Err(StateError::Slow {
                at: "memory".to_owned(),
                ms: 2_000,
            });
        }
        let process = self.processes[m].as_ref().unwrap();
        let future = pin!(state::carry_out(&process.store, round));
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(mut answer) => {
                let shares = answer.iter_mut().flat_map(|found| &mut found.shares);
                for share in shares.filter(|_| self.has(Bug::BlocksOfOthers)) {
                    share.held |= share.others;
                }
                answer
            }
            Poll::Pending => panic!("memory answers at once"),
        }
    }

    fn push_down(&mut self, a: usize, m: usize, sent: Sent) {
        let all = match &mut self.mischief {
            Some(mischief) => mischief.down(self.now, a, m, self.agents.len(), &self.watch, sent),
            None => vec![(a, sent)],
        };
        for (a, sent) in all {
            let link = self.links.get_mut(&(a, m)).unwrap();
            if let (true, Some(session)) = (link.carries(), link.session.as_mut()) {
                session.down.push(self.now, sent);
            }
        }
    }

    fn push_up(&mut self, a: usize, session: u64, message: ToManager) {
        let of = (0..self.roles.len()).find(|m| self.link_of(*m, session) == Some(a));
        let Some(m) = of else { return };
        let all = match &mut self.mischief {
            Some(mischief) => mischief.up(&self.roles, a, m, message),
            None => vec![(m, message)],
        };
        for (m, message) in all {
            let link = self.links.get_mut(&(a, m)).unwrap();
            if let Some(session) = &mut link.session {
                session.welcomed |= matches!(message.body, AgentBody::Welcome(_));
                if link.cut.is_none() {
                    session.up.push(self.now, message);
                }
            }
        }
    }

    /// Everything that is due now.
    pub fn settle(&mut self) {
        for round in 0.. {
            if round > STORM {
                let text = "messages beget messages without end".to_owned();
                return self.watch.broken(self.now, ("bounded", text));
            }
            let mut quiet = true;
            for a in 0..self.agents.len() {
                for (session, message) in std::mem::take(&mut self.agents[a].said) {
                    quiet = false;
                    self.push_up(a, session, message);
                }
                for session in std::mem::take(&mut self.agents[a].closed) {
                    let of = (0..self.roles.len()).find(|m| self.link_of(*m, session) == Some(a));
                    if let Some(m) = of {
                        self.disconnect(a, m);
                        self.links.get_mut(&(a, m)).unwrap().again = self.now + AGAIN;
                    }
                }
            }
            for (a, m) in self.links.keys().copied().collect::<Vec<_>>() {
                while let Some((id, message)) = self.pop_up(a, m) {
                    quiet = false;
                    self.deliver_up(a, m, id, message);
                }
                while let Some((id, sent)) = self.pop_down(a, m) {
                    quiet = false;
                    self.deliver_down(a, m, id, &sent);
                }
            }
            quiet &= !self.deliver_across();
            self.packets();
            if quiet {
                return;
            }
        }
    }

    fn pop_up(&mut self, a: usize, m: usize) -> Option<(u64, ToManager)> {
        self.processes[m].as_ref().filter(|p| !p.hung)?;
        let session = self.links.get_mut(&(a, m))?.session.as_mut()?;
        Some((session.id, session.up.pop(self.now)?))
    }

    fn pop_down(&mut self, a: usize, m: usize) -> Option<(u64, Sent)> {
        let session = self.links.get_mut(&(a, m))?.session.as_mut()?;
        Some((session.id, session.down.pop(self.now)?))
    }

    fn deliver_up(&mut self, a: usize, m: usize, id: u64, message: ToManager) {
        if let AgentBody::Interest(interest) = &message.body
            && interest.request != 0
        {
            self.asks(a, m, interest);
        }
        let manager = self.roles[m].name;
        self.note_some(|| transcript::heard(a, manager, &message));
        let listed = matches!(&message.body, AgentBody::Affinities { last: true, .. });
        self.tell(m, Input::Message(id, message));
        if let Some(process) = self.processes[m].as_mut().filter(|_| listed) {
            process.knows.insert(a);
        }
    }

    /// An agent asks a manager.
    fn asks(&mut self, a: usize, m: usize, interest: &Interest) {
        let role = &self.roles[m];
        let text = || format!("agent {a} asks {} about {}", role.name, interest.flow);
        if role.backup && self.hosts.calm {
            self.watch.broken(self.now, ("A9.1", text()));
        }
        let from = match interest.part {
            Part::Forward => interest.flow.src,
            Part::Reply => interest.flow.dst,
        };
        let division = self.division_of(a);
        let share = division.of(role.service == site::NAT, from);
        if division.who(share) != role.who {
            let text = format!("{}, whose share is {share}", text());
            self.watch.broken(self.now, ("A7.1", text));
        }
    }

    fn deliver_down(&mut self, a: usize, m: usize, id: u64, sent: &Sent) {
        let welcomed = (self.links[&(a, m)].session.as_ref()).is_some_and(|s| s.welcomed);
        let hello = matches!(sent.message.body, ManagerBody::Hello(_));
        let old = !hello && welcomed && self.watch.shown(a, sent);
        let decides = matches!(
            sent.message.body,
            ManagerBody::Verdict(_) | ManagerBody::Install { .. }
        );
        let manager = self.roles[m].name;
        self.note_some(|| transcript::said(manager, a, &sent.message));
        self.agents[a].switch.log.clear();
        let before = self.agents[a].switch.fixed.clone();
        self.agents[a].feed(ToTheAgent::Message(id, sent.message.clone()));
        if old && decides && self.agents[a].switch.fixed != before {
            let text = format!(
                "agent {a} has carried out what {} said under epoch {}",
                self.roles[m].name, sent.epoch
            );
            self.watch.broken(self.now, ("A9.9", text));
        }
        (self.watch).goes_on(self.now, a, &before, &self.agents[a], &self.hosts);
        if !hello && !old {
            for other in 0..self.roles.len() {
                let same = self.same(m, other);
                if let Some(process) = self.processes[other].as_mut().filter(|_| same)
                    && process.number != sent.by
                    && (decides || process.epoch < sent.epoch)
                {
                    process.knows.remove(&a);
                }
            }
        }
        self.look(Some((a, sent)));
    }

    pub(super) fn look(&mut self, sent: Option<(usize, &Sent)>) {
        let nat = (self.plan.services.iter()).position(|s| s.name == site::NAT);
        if let Some(nat) = nat.and_then(|n| u8::try_from(n).ok()) {
            let division = sent.map_or(self.division, |(a, _)| self.division_of(a));
            (self.watch).tuples(self.now, nat, division, &self.agents, sent);
        }
    }

    /// What has left the switches.
    fn packets(&mut self) {
        for a in 0..self.agents.len() {
            for (port, frame) in std::mem::take(&mut self.agents[a].left) {
                let Some(view) = packet::view(&frame) else {
                    continue;
                };
                self.note(|| transcript::left(a, &view));
                if let Err(broken) = self.hosts.arrives(self.now, port, &view.tuple, view.flags) {
                    self.watch.broken(self.now, broken);
                }
            }
        }
    }
}
