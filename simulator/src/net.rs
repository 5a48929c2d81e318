//! Agents, managers' processes and the ways between them, on one clock. Everything that is due happens in the
//! same order every time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use signalbox_agent::channel::Faults;
use signalbox_agent::testing::{World, tcp};
use signalbox_agent::{Agent, Input as ToTheAgent, Target};
use signalbox_lower::plan::Plan;
use signalbox_manager::state::MemoryStore;
use signalbox_manager::{Input, Manager};

use crate::bug::{Bug, Mischief};
use crate::division::Division;
use crate::hosts::{Hosts, Packet};
use crate::link::{Cut, Link, Session};
use crate::site::{self, Role};
use crate::story::Setup;
use crate::transcript;
use crate::watch::Watch;

mod carry;
mod divide;
mod peers;
mod time;

use divide::Party;

/// A manager that was turned away comes back after so long.
const AGAIN: Duration = Duration::from_millis(500);

/// A manager's process.
pub struct Process {
    /// The machine.
    pub machine: Manager,
    /// Tells processes apart; the later is higher.
    pub number: u64,
    /// It hears and says nothing.
    pub hung: bool,
    /// What it will hear of when it goes on.
    pending: Vec<Input>,
    /// The epoch that it speaks under.
    epoch: u64,
    /// Agents of which it knows all that they hold.
    knows: BTreeSet<usize>,
    /// What it shares with others.
    store: MemoryStore,
}

/// All of it.
pub struct Net {
    /// The time.
    pub now: Duration,
    /// The plan.
    pub plan: Plan,
    /// How it divides the services.
    pub division: Division,
    change: Option<divide::Change>,
    setup: Setup,
    /// The managers.
    pub roles: Vec<Role>,
    /// The agents, with their switches.
    pub agents: Vec<World>,
    /// A process of each manager, if there is one.
    pub processes: Vec<Option<Process>>,
    /// By agent and manager.
    pub links: BTreeMap<(usize, usize), Link>,
    /// What is between managers that share decisions, by the first one of each pair.
    peers: BTreeMap<usize, peers::Peers>,
    /// The hosts.
    pub hosts: Hosts,
    /// What is promised.
    pub watch: Watch,
    /// What is sent and said, if somebody wants to read it.
    pub transcript: Option<Vec<String>>,
    pub(crate) mischief: Option<Mischief>,
    pub(crate) lines: Faults,
    /// What managers share, if they do, and whether it is away now and then.
    store: Option<MemoryStore>,
    store_goes_away: bool,
    seed: u64,
    sessions: u64,
    started: u64,
    said: u64,
}

impl Net {
    /// Everybody of a setup, connected.
    #[must_use]
    pub fn new(setup: &Setup, bug: Option<Bug>, seed: u64) -> Self {
        let division = setup.division.unwrap_or(Division::Whole(0));
        let plan = site::plan_of(setup, division);
        let roles = site::roles(setup);
        let agents = (0..setup.agents).map(|a| site::agent(a, &plan)).collect();
        let pairs = (0..setup.agents).flat_map(|a| (0..roles.len()).map(move |m| (a, m)));
        let mut net = Self {
            now: Duration::ZERO,
            links: pairs.map(|pair| (pair, Link::default())).collect(),
            processes: roles.iter().map(|_| None).collect(),
            peers: (roles.iter().enumerate())
                .filter(|(_, role)| role.backup && setup.replicate.is_some())
                .map(|(backup, _)| (backup - 1, peers::Peers::default()))
                .collect(),
            plan,
            division,
            change: None,
            setup: setup.clone(),
            roles,
            agents,
            hosts: Hosts {
                calm: setup.lines.delay == 0,
                parted: false,
                clients: setup.division.is_some(),
                flows: BTreeMap::new(),
            },
            watch: Watch::new(setup.shared.is_some()),
            transcript: None,
            mischief: bug.map(|bug| Mischief::new(bug, seed)),
            lines: setup.lines,
            store: setup.shared.map(|_| MemoryStore::default()),
            store_goes_away: setup.shared == Some(true),
            seed,
            sessions: 0,
            started: seed << 16,
            said: 0,
        };
        for m in 0..net.roles.len() {
            net.start(m);
        }
        net.meet();
        net.settle();
        net
    }

    /// A new process of a manager.
    pub fn start(&mut self, m: usize) {
        if self.processes[m].is_some() {
            return;
        }
        self.started += 1;
        let shared = self.store.is_some();
        let plan = self.plan_of(Party::Manager(m));
        self.processes[m] = Some(Process {
            machine: site::process(&self.roles[m], plan, self.started, shared),
            store: self.store.clone().unwrap_or_default().another(),
            number: self.started,
            hung: false,
            pending: Vec::new(),
            epoch: 0,
            knows: BTreeSet::new(),
        });
        for a in 0..self.agents.len() {
            self.connect(a, m);
        }
    }

    /// A manager's process dies.
    pub fn kill(&mut self, m: usize) {
        self.processes[m] = None;
        self.forget(m);
        for a in 0..self.agents.len() {
            if self.has(Bug::LeaseIgnored) {
                let session = self.links.get_mut(&(a, m)).and_then(|l| l.session.take());
                if let (Some(s), Some(mischief)) = (session, &mut self.mischief) {
                    mischief.haunts(a, m, s.id);
                }
                continue;
            }
            self.disconnect(a, m);
        }
    }

    /// A manager says goodbye and ends.
    pub fn stop(&mut self, m: usize) {
        let now = self.now;
        if let Some(process) = self.processes[m].as_mut().filter(|p| !p.hung) {
            let out = process.machine.farewell(now);
            self.carry(m, out);
            self.settle();
        }
        self.kill(m);
    }

    /// It hears and says nothing.
    pub fn hang(&mut self, m: usize) {
        if let Some(process) = &mut self.processes[m] {
            process.hung = true;
        }
    }

    /// It goes on, with all that it did not hear.
    pub fn go_on(&mut self, m: usize) {
        let Some(process) = &mut self.processes[m] else {
            return;
        };
        process.hung = false;
        for input in std::mem::take(&mut process.pending) {
            self.tell(m, input);
        }
    }

    /// An agent's process dies, and a new one finds the switch as it was.
    pub fn restart(&mut self, a: usize) {
        for m in 0..self.roles.len() {
            self.disconnect(a, m);
        }
        let plan = std::sync::Arc::new(self.plan_of(Party::Agent(a)).clone());
        let world = &mut self.agents[a];
        world.agent = Agent::new(&format!("agent-{}", a + 1), plan, Target::switch());
        world.said.clear();
        world.closed.clear();
        world.switch_up();
        self.watch.restarted(a);
    }

    /// An agent and its switch start anew, with nothing.
    pub fn wipe(&mut self, a: usize) {
        for m in 0..self.roles.len() {
            self.disconnect(a, m);
        }
        let now = self.now;
        self.agents[a] = site::agent(a, self.plan_of(Party::Agent(a)));
        self.agents[a].now = now;
        self.watch.restarted(a);
        self.look(None);
    }

    /// Breaks a way.
    pub fn cut(&mut self, a: usize, m: usize, cut: Cut) {
        if self.links[&(a, m)].cut.is_some() {
            return;
        }
        let told = cut == Cut::Noticed && !self.has(Bug::SessionNotClosed);
        if told {
            self.disconnect(a, m);
        }
        let link = self.links.get_mut(&(a, m)).unwrap();
        link.cut = Some(if told { Cut::Noticed } else { Cut::Silent });
    }

    /// Mends it.
    pub fn mend(&mut self, a: usize, m: usize) {
        if !self.has(Bug::SessionNotClosed) {
            self.links.get_mut(&(a, m)).unwrap().cut = None;
        }
    }

    /// From now on nothing goes wrong.
    pub fn peace(&mut self, dead_stay_dead: bool) {
        self.lines = Faults::none();
        self.store_goes_away = false;
        let now = self.now;
        for session in self.links.values_mut().filter_map(|l| l.session.as_mut()) {
            session.calm(now);
        }
        self.calm_across();
        for (a, m) in self.links.keys().copied().collect::<Vec<_>>() {
            self.mend(a, m);
        }
        self.hurry();
        for m in 0..self.roles.len() {
            self.go_on(m);
            let other = (0..self.roles.len()).find(|other| *other != m && self.same(*other, m));
            let replaced = other.is_some_and(|other| self.processes[other].is_some());
            if !(dead_stay_dead && replaced) {
                self.start(m);
            }
        }
        self.settle();
    }

    /// Whether a manager is another one, or the one that stands by for it, or the other way round.
    fn same(&self, m: usize, other: usize) -> bool {
        let of = |m: usize| (self.roles[m].service, self.roles[m].who);
        of(m) == of(other)
    }

    /// Whether managers share a store.
    pub fn is_shared(&self) -> bool {
        self.store.is_some()
    }

    /// Adds a line to the transcript.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.transcript {
            lines.push(format!("{:>12.3?}  {}", self.now, line()));
        }
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.mischief.as_ref().is_some_and(|m| m.bug == bug)
    }

    pub(super) fn connect(&mut self, a: usize, m: usize) {
        let (link, alive) = (&self.links[&(a, m)], self.processes[m].is_some());
        let ready = link.session.is_none() && link.carries() && link.again <= self.now;
        if !ready || !alive {
            return;
        }
        self.sessions += 1;
        let id = self.sessions;
        let link = self.links.get_mut(&(a, m)).unwrap();
        link.session = Some(Session::new(id, self.lines));
        self.agents[a].feed(ToTheAgent::SessionOpened(id));
        self.tell(m, Input::Connected(id));
    }

    pub(super) fn disconnect(&mut self, a: usize, m: usize) {
        let link = self.links.get_mut(&(a, m)).unwrap();
        if let Some(session) = link.session.take() {
            self.agents[a].feed(ToTheAgent::SessionClosed(session.id));
            self.tell(m, Input::Disconnected(session.id));
        }
    }

    /// A host sends a packet.
    pub fn send(&mut self, packet: Packet) {
        self.note(|| transcript::sent(&packet));
        let frame = tcp(packet.port, &packet.tuple, packet.flags, b"");
        self.agents[packet.agent].receive(packet.port, &frame);
        self.settle();
    }
}
