//! A change of plan under traffic, as `signalbox apply` makes it: the agents get the new one first and then the managers,
//! one after the other. What is divided otherwise then must go on as it was.

use std::collections::BTreeSet;
use std::time::Duration;

use signalbox_agent::entry::FixedAction;
use signalbox_agent::flow::Part;
use signalbox_agent::listing::{FlowState, FlowStatus};
use signalbox_agent::testing::flags;
use signalbox_lower::plan::Plan;
use signalbox_manager::ServiceStatus;

use super::Net;
use crate::division::Division;
use crate::hosts::Packet;
use crate::link::Link;
use crate::site;

/// Who goes by a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Party {
    Agent(usize),
    Manager(usize),
}

/// A change that is under way.
#[derive(Debug)]
pub(super) struct Change {
    plan: Plan,
    division: Division,
    /// Who goes by the former plan, and until when.
    left: Vec<(Duration, Party)>,
}

impl Net {
    /// Services are divided otherwise from now on. Everybody hears of it so long after the one before.
    pub fn divide(&mut self, division: Division, pace: Duration) {
        self.hurry();
        let plan = site::plan_of(&self.setup, division);
        let agents = (0..self.agents.len()).map(Party::Agent);
        let managers = (0..self.roles.len()).map(Party::Manager);
        let times = (0u32..).map(|n| self.now + pace * n);
        let left = times.zip(agents.chain(managers)).collect();
        (self.watch).divided(&self.agents, &self.hosts, self.division, division);
        self.change = Some(Change {
            plan: std::mem::replace(&mut self.plan, plan),
            division: std::mem::replace(&mut self.division, division),
            left,
        });
        if let Some(mischief) = &mut self.mischief {
            mischief.divided = true;
        }
        self.take_over();
    }

    /// Whoever has not heard of the new plan hears of it now.
    pub(super) fn hurry(&mut self) {
        let now = self.now;
        for (at, _) in self.change.iter_mut().flat_map(|c| &mut c.left) {
            *at = now;
        }
        self.take_over();
    }

    fn former(&self, party: Party) -> Option<&Change> {
        let waits = |(at, who): &(Duration, Party)| *who == party && *at > self.now;
        (self.change.as_ref()).filter(|change| change.left.iter().any(waits))
    }

    /// The plan that somebody starts with.
    pub(super) fn plan_of(&self, party: Party) -> &Plan {
        self.former(party).map_or(&self.plan, |change| &change.plan)
    }

    /// The division that an agent goes by: the former one until it has the new plan, also when others have it in the same
    /// moment.
    pub(super) fn division_of(&self, a: usize) -> Division {
        let waits = |change: &&Change| change.left.iter().any(|(_, who)| *who == Party::Agent(a));
        let former = self.change.as_ref().filter(waits);
        former.map_or(self.division, |change| change.division)
    }

    fn hears(&self, party: Party) -> bool {
        match party {
            Party::Agent(_) => true,
            Party::Manager(m) => !self.processes[m].as_ref().is_some_and(|p| p.hung),
        }
    }

    /// When somebody hears of the new plan.
    pub(super) fn next_change(&self) -> Option<Duration> {
        let left = self.change.iter().flat_map(|change| &change.left);
        let due = left.filter(|(_, party)| self.hears(*party));
        due.map(|(at, _)| *at).min()
    }

    /// Everybody whose turn it is goes by the new plan.
    pub(super) fn take_over(&mut self) {
        while let Some(change) = &self.change {
            let is_due = |(at, who): &(Duration, Party)| *at <= self.now && self.hears(*who);
            let Some(place) = change.left.iter().position(is_due) else {
                if change.left.is_empty() {
                    self.change = None;
                }
                return;
            };
            let party = self.change.as_mut().map(|c| c.left.remove(place).1);
            match party {
                Some(Party::Agent(a)) => self.agent_takes_over(a),
                Some(Party::Manager(m)) => self.manager_takes_over(m),
                None => {}
            }
            self.settle();
        }
    }

    fn agent_takes_over(&mut self, a: usize) {
        self.note(|| format!("agent {a} has the new plan"));
        let world = &mut self.agents[a];
        let before = world.switch.fixed.clone();
        world.apply(self.plan.clone());
        if world.switch.fixed != before {
            let text = format!("agent {a} has other flows with the new plan");
            self.watch.broken(self.now, ("A7.3", text));
        }
        self.look(None);
    }

    fn manager_takes_over(&mut self, m: usize) {
        let role = self.roles[m].clone();
        self.note(|| format!("{} has the new plan", role.name));
        let Some(process) = &mut self.processes[m] else {
            return;
        };
        let served = site::served(&role, &self.plan, process.number);
        let out = process.machine.replan(self.now, &self.plan, served);
        process.knows.clear();
        self.carry(m, out);
        // It calls its agents at once.
        for a in 0..self.agents.len() {
            self.links.get_mut(&(a, m)).unwrap().again = self.now;
            self.connect(a, m);
        }
    }

    /// Whether nothing goes wrong, and everybody has met who goes by the same plan.
    fn is_settled(&self) -> bool {
        let met = |l: &Link| l.session.as_ref().is_some_and(|s| s.welcomed);
        self.change.is_none() && self.hosts.calm && self.links.values().all(met)
    }

    /// Whether a packet in mid-flow is of a flow that some agent holds, while all is well. One whose outside end is
    /// another part's since a change is its agent's only: elsewhere the manager of its source is asked about it.
    pub fn is_known(&self, packet: &Packet) -> bool {
        let is_own = |action, nat| match action {
            FixedAction::Translate(to) if nat => {
                let share = self.division.of(true, packet.tuple.src);
                self.division.gives(share, to.src)
            }
            _ => true,
        };
        let mut held = self.agents.iter().flat_map(|w| &w.switch.fixed);
        let syn = packet.flags & flags::SYN != 0;
        let is_held = held.any(|(key, entry)| {
            let service = self.plan.services.get(usize::from(key.service));
            (key.part, key.tuple) == (Part::Forward, packet.tuple)
                && is_own(entry.action, service.is_some_and(|s| s.nat.is_some()))
        });
        !syn && is_held && self.is_settled()
    }

    /// While nothing goes wrong and everybody goes by one plan, each flow that agents hold is one manager's. One that
    /// is just ending may be nobody's.
    pub fn deciders(&mut self) {
        if !self.is_settled() {
            return;
        }
        let held: Vec<FlowStatus> = self.agents.iter().flat_map(|w| w.agent.flows()).collect();
        let decide = self.roles.iter().zip(&self.processes);
        let known: Vec<ServiceStatus> = (decide.filter(|(role, _)| !role.backup))
            .filter_map(|(_, process)| Some(process.as_ref()?.machine.status().services))
            .flatten()
            .collect();
        for service in &self.plan.services {
            let name = &service.name;
            let ends = |ending: bool| {
                let of_it = held.iter().filter(|f| f.service == *name);
                let ends = of_it.filter(|f| ending || f.state != FlowState::Ending);
                ends.filter_map(|flow| match service.nat {
                    Some(_) => flow.translated.map(|to| (to.src, to.sport)),
                    None => Some((flow.flow.src, flow.flow.sport)),
                })
                .collect::<BTreeSet<_>>()
                .len() as u64
            };
            let known = known.iter().filter(|s| s.service == *name).map(|s| {
                let outside: u64 = s.outside.iter().map(|o| o.mappings).sum();
                outside + s.targets.iter().map(|t| t.flows).sum::<u64>()
            });
            let (live, known, all) = (ends(false), known.sum::<u64>(), ends(true));
            if !(live..=all).contains(&known) {
                let text = format!(
                    "agents hold {live} to {all} flows of {name}, and {known} are somebody's"
                );
                return self.watch.broken(self.now, ("A7.5", text));
            }
        }
    }
}
