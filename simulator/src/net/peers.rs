//! The ways between managers that share decisions, and what each is known to know: what it has acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use signalbox_agent::channel::{FaultLine, Faults};
use signalbox_agent::entry::FixedAction;
use signalbox_agent::flow::{Part, Tuple};
use signalbox_agent::message::{Action, FixedAffinity, ManagerBody, ToAgent};
use signalbox_lower::plan::Replicate;
use signalbox_manager::peer::{PeerMessage, Told, ToldFlow, ToldState};
use signalbox_manager::{Input, LinkState};

use super::{AGAIN, Net};
use crate::bug::Bug;
use crate::transcript;

/// A decision: a flow, and what it is translated to.
type Decision = (Tuple, Tuple);
/// What was told, by its place in a stream: a decision, if it is of one, and whether it was made.
type Tellings = BTreeMap<(u64, u64), Option<(Decision, bool)>>;

/// A way between two managers' processes; the first one is the service's own.
#[derive(Debug)]
pub struct Way {
    id: u64,
    /// Towards the second one, and towards the first.
    lines: [FaultLine<PeerMessage>; 2],
}

/// What is between two managers.
#[derive(Debug, Default)]
pub struct Peers {
    way: Option<Way>,
    /// Somebody has broken it.
    parted: bool,
    again: Duration,
    /// What each was told by number, and not acknowledged yet; and what it knows.
    told: [Tellings; 2],
    known: [BTreeSet<Decision>; 2],
}

fn decision(actions: &[Action], tuple: Tuple) -> Option<Decision> {
    actions.iter().find_map(|a| match a {
        Action::Translate(to) => Some((tuple, *to)),
        _ => None,
    })
}

fn told_of(flow: &ToldFlow) -> Option<(Decision, bool)> {
    let (tuple, actions) = &flow.decided.forward;
    let made = flow.state != ToldState::Refused;
    Some((decision(actions, *tuple)?, made))
}

impl Net {
    /// The pair that a manager is one of, by its first, and which of the two it is.
    fn pair(&self, m: usize) -> Option<(usize, usize)> {
        let first = m - usize::from(self.roles[m].backup);
        self.peers
            .contains_key(&first)
            .then_some((first, m - first))
    }

    /// Managers that share decisions meet, where both are there.
    pub(super) fn meet(&mut self) {
        for first in self.peers.keys().copied().collect::<Vec<_>>() {
            let there = [first, first + 1].map(|m| self.processes[m].is_some());
            let peers = self.peers.get_mut(&first).unwrap();
            if peers.way.is_some() || peers.parted || peers.again > self.now || there != [true; 2] {
                continue;
            }
            self.sessions += 1;
            let id = self.sessions;
            let line = |n| {
                let seed = self.lines.seed.wrapping_add((id << 8) + 64 + n);
                FaultLine::new(Faults { seed, ..self.lines })
            };
            peers.way = Some(Way {
                id,
                lines: [line(0), line(1)],
            });
            for m in [first, first + 1] {
                self.tell(m, Input::PeerConnected(id));
            }
        }
    }

    /// The way between two managers breaks; until it is mended, if `stays`.
    pub fn part(&mut self, m: usize, stays: bool) {
        let Some((first, _)) = self.pair(m) else {
            return;
        };
        let peers = self.peers.get_mut(&first).unwrap();
        peers.parted |= stays;
        peers.again = self.now + AGAIN;
        if let Some(way) = peers.way.take() {
            for m in [first, first + 1] {
                self.tell(m, Input::PeerDisconnected(way.id));
            }
        }
    }

    /// It is mended.
    pub fn rejoin(&mut self, m: usize) {
        if let Some((first, _)) = self.pair(m) {
            self.peers.get_mut(&first).unwrap().parted = false;
        }
    }

    /// A manager's process is gone, and what it knew.
    pub(super) fn forget(&mut self, m: usize) {
        self.part(m, false);
        if let Some((first, own)) = self.pair(m) {
            let peers = self.peers.get_mut(&first).unwrap();
            peers.told[own].clear();
            peers.known[own].clear();
        }
    }

    /// A manager says something to the other one.
    pub(super) fn across(&mut self, m: usize, id: u64, message: PeerMessage) {
        let Some((first, own)) = self.pair(m) else {
            return;
        };
        let now = self.now;
        let peers = self.peers.get_mut(&first).unwrap();
        let Some(way) = peers.way.as_mut().filter(|way| way.id == id) else {
            return;
        };
        match &message {
            PeerMessage::Telling(telling) => {
                let flow = match &telling.body {
                    Told::Flow(flow) => told_of(flow),
                    _ => None,
                };
                if let Some((decision, true)) = flow {
                    peers.known[own].insert(decision);
                }
                let key = (telling.stream, telling.sequence);
                peers.told[1 - own].insert(key, flow);
            }
            PeerMessage::Ack { stream, sequence } => {
                let (told, known) = (&mut peers.told[own], &mut peers.known[own]);
                for (_, flow) in told.extract_if(..=(*stream, *sequence), |_, _| true) {
                    match flow {
                        Some((decision, true)) => known.insert(decision),
                        Some((decision, false)) => known.remove(&decision),
                        None => false,
                    };
                }
            }
            _ => {}
        }
        let forged = match (&mut self.mischief, &message) {
            (Some(mischief), PeerMessage::Telling(telling)) if mischief.bug == Bug::AckInvented => {
                let (stream, sequence) = (telling.stream, telling.sequence);
                way.lines[1 - own].push(now, PeerMessage::Ack { stream, sequence });
                mischief.loses()
            }
            _ => false,
        };
        if !forged {
            way.lines[own].push(now, message);
        }
    }

    /// A manager's verdict is on its way. Whoever waits for the other's word, and has it in step, lets none go that
    /// the other does not know, unless an agent carries it out already.
    pub(super) fn waited(&mut self, m: usize, message: &ToAgent) {
        let ManagerBody::Verdict(verdict) = &message.body else {
            return;
        };
        let Some((first, own)) = self
            .pair(m)
            .filter(|_| self.setup.replicate == Some(Replicate::Sync))
        else {
            return;
        };
        let is_forward = |a: &&FixedAffinity| a.part == Part::Forward;
        let forward = verdict.affinities.iter().find(is_forward);
        let Some((tuple, to)) = forward.and_then(|a| decision(&a.actions, a.tuple)) else {
            return;
        };
        let links = (self.processes[m].as_ref()).map(|p| p.machine.status().links);
        let in_sync = links.is_some_and(|l| l.iter().all(|l| l.state == LinkState::InSync));
        let held = self.agents.iter().any(|world| {
            (world.switch.fixed.iter()).any(|(key, entry)| {
                let translates = matches!(entry.action, FixedAction::Translate(is) if is == to);
                key.part == Part::Forward && key.tuple == tuple && translates
            })
        });
        let known = self.peers[&first].known[1 - own].contains(&(tuple, to));
        if in_sync && !held && !known {
            let text = format!(
                "{} lets {tuple} go to {}, and the other one does not know",
                self.roles[m].name, to.dst
            );
            self.watch.broken(self.now, ("A9.7", text));
        }
    }

    /// What managers say to each other arrives; says whether anything has.
    pub(super) fn deliver_across(&mut self) -> bool {
        let mut any = false;
        for first in self.peers.keys().copied().collect::<Vec<_>>() {
            for own in [0, 1] {
                let to = first + 1 - own;
                while self.processes[to].as_ref().is_some_and(|p| !p.hung)
                    && let Some(way) = &mut self.peers.get_mut(&first).unwrap().way
                    && let Some(message) = way.lines[own].pop(self.now)
                {
                    any = true;
                    let id = way.id;
                    let names = [first + own, to].map(|m| self.roles[m].name);
                    self.note(|| transcript::crossed(names[0], names[1], &message));
                    self.tell(to, Input::Peer(id, message));
                }
            }
        }
        any
    }

    /// When something arrives, or managers may meet again.
    pub(super) fn next_across(&self) -> Option<Duration> {
        let due = self.peers.iter().flat_map(|(first, peers)| {
            let awake = |m: usize| self.processes[m].as_ref().is_some_and(|p| !p.hung);
            let again = peers.way.is_none() && !peers.parted && peers.again > self.now;
            let lines = peers
                .way
                .iter()
                .flat_map(|way| way.lines.iter().enumerate());
            let lines = lines
                .filter(move |(own, _)| awake(first + 1 - own))
                .filter_map(|(_, line)| line.next());
            lines.chain(again.then_some(peers.again))
        });
        due.min()
    }

    /// From now on nothing is lost, and what was late arrives.
    pub(super) fn calm_across(&mut self) {
        let now = self.now;
        for peers in self.peers.values_mut() {
            peers.parted = false;
            for line in peers.way.iter_mut().flat_map(|way| &mut way.lines) {
                let mut calm = FaultLine::new(Faults::none());
                while let Some(message) = line.pop(Duration::MAX) {
                    calm.push(now, message);
                }
                *line = calm;
            }
        }
    }
}
