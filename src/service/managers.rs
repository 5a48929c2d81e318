//! The managers of a plan: built here and nowhere else, whether they run beside their agent or each as a
//! process of its own; and the sessions with their agents, opened again whenever one ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use signalbox_agent::channel::{self, ManagerChannel};
use signalbox_agent::grpc;
use signalbox_agent::message::Reason;
use signalbox_agent::shell as agent_shell;
use signalbox_balance::Balance;
use signalbox_gate::{GateService, Outside};
use signalbox_lower::plan::{Kind, ManagerPlan, Plan, ServicePlan};
use signalbox_manager::shell::{self as manager_shell, End, Sharing, Tap};
use signalbox_manager::state::StateStore;
use signalbox_manager::{Decide, Manager, Served};
use signalbox_nat::Nat;
use signalbox_observe::Observe;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::tries::{DIAL, OTHER_PLAN, Tries, dialled};
use crate::failure::Failure;

/// Between two tries to open a session at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What decides for a gate; `None` if nothing can.
pub type Gates = fn(&ServicePlan) -> Option<Box<dyn Decide>>;

/// The gates' own manager.
pub fn gates(service: &ServicePlan) -> Option<Box<dyn Decide>> {
    Some(Box::new(GateService::new(service, Box::new(System))?))
}

/// A way to an agent.
#[derive(Debug, Clone)]
pub enum Way {
    /// In this process.
    Here(agent_shell::Handle),
    /// At HOST:PORT.
    At(String),
}

impl Way {
    fn name(&self) -> &str {
        match self {
            Self::Here(_) => "in this process",
            Self::At(address) => address,
        }
    }

    async fn dial(&self) -> Result<ManagerChannel, String> {
        match self {
            Self::Here(agent) => {
                let (agent_end, manager_end) = channel::memory();
                agent.attach(Box::new(agent_end));
                Ok(Box::new(manager_end))
            }
            Self::At(address) => {
                let url = format!("http://{address}");
                let connection = tokio::time::timeout(DIAL, grpc::connect(&url)).await;
                Ok(Box::new(dialled("agent", connection)?))
            }
        }
    }
}

/// A manager and its sessions. Dropping it ends both without a word to anybody, as its death would.
pub struct RunningManager {
    name: String,
    handle: manager_shell::Handle,
    task: JoinHandle<()>,
    sessions: Vec<JoinHandle<()>>,
    replanned: Arc<Notify>,
    states: States,
    gates: Gates,
}

impl Drop for RunningManager {
    fn drop(&mut self) {
        self.sessions.iter().for_each(JoinHandle::abort);
        self.task.abort();
    }
}

/// What ways are like, in words, by the names of who is at their other end.
#[derive(Debug, Clone, Default)]
pub struct States(Arc<Mutex<BTreeMap<String, String>>>);

impl States {
    pub(super) fn set(&self, way: &str, state: &str) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.insert(way.to_owned(), state.to_owned());
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, String> {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.clone()
    }
}

/// What a manager must know besides its plan.
pub struct Standing<'a> {
    /// Tells its process from others of the manager's name; 0 where there can be none.
    pub instance: u64,
    /// The epoch that it takes for a share of a service; 0 to take it from what agents tell.
    pub epoch: &'a dyn Fn(&str, u32) -> u64,
    /// Where it says that it cannot go on.
    pub fatal: mpsc::UnboundedSender<Failure>,
    /// What its records go into.
    pub tap: Tap,
    /// What decides for its gates.
    pub gates: Gates,
    /// What it shares with other managers.
    pub store: Option<Arc<dyn StateStore>>,
}

impl RunningManager {
    /// Starts a manager of a plan, with a session to each agent.
    pub fn start(
        plan: &Plan,
        manager: &ManagerPlan,
        standing: Standing<'_>,
        ways: Vec<Way>,
    ) -> Self {
        let decisions = decisions(manager, plan, standing.epoch, standing.gates);
        let machine = Manager::new(&manager.name, plan, decisions).with_instance(standing.instance);
        let ends = standing.fatal.clone();
        let sharing = standing.store.map(|store| Sharing {
            store,
            // Who should hear it may be gone, too.
            ends: Box::new(move |text| {
                let _ = ends.send(Failure::Failed(text));
            }),
        });
        let (handle, task) = manager_shell::start_tapped(machine, standing.tap, sharing);
        let replanned = Arc::new(Notify::new());
        let states = States::default();
        let sessions = ways
            .into_iter()
            .map(|way| {
                tokio::spawn(
                    Sessions {
                        manager: manager.name.clone(),
                        way,
                        handle: handle.clone(),
                        replanned: Arc::clone(&replanned),
                        states: states.clone(),
                        fatal: standing.fatal.clone(),
                    }
                    .keep(),
                )
            })
            .collect();
        Self {
            name: manager.name.clone(),
            handle,
            task,
            sessions,
            replanned,
            states,
            gates: standing.gates,
        }
    }

    /// What can be asked of it.
    pub fn handle(&self) -> &manager_shell::Handle {
        &self.handle
    }

    /// What the ways to its agents are like, by their names.
    pub fn ways(&self) -> BTreeMap<String, String> {
        self.states.all()
    }

    /// What gives it another plan, in which it must be.
    pub fn replanning(&self, plan: &Arc<Plan>, epoch: &dyn Fn(&str, u32) -> u64) -> Replanning {
        let manager = plan.managers.iter().find(|m| m.name == self.name);
        Replanning {
            decisions: manager.map_or_else(Vec::new, |m| decisions(m, plan, epoch, self.gates)),
            plan: Arc::clone(plan),
            handle: self.handle.clone(),
            replanned: Arc::clone(&self.replanned),
        }
    }
}

/// Another plan on its way to a manager.
pub struct Replanning {
    plan: Arc<Plan>,
    decisions: Vec<Served>,
    handle: manager_shell::Handle,
    replanned: Arc<Notify>,
}

impl Replanning {
    /// Gives it to the manager; its sessions are opened anew at once.
    ///
    /// # Errors
    /// The manager has stopped.
    pub async fn run(self) -> Result<(), String> {
        let given = self.handle.replan(self.plan, self.decisions).await;
        self.replanned.notify_waiters();
        given.map_err(|error| error.to_string())
    }
}

/// One way to an agent, kept open.
struct Sessions {
    manager: String,
    way: Way,
    handle: manager_shell::Handle,
    replanned: Arc<Notify>,
    states: States,
    fatal: mpsc::UnboundedSender<Failure>,
}

impl Sessions {
    async fn keep(self) {
        let mut tries = Tries::new(LONGEST_PAUSE);
        let mut before = String::new();
        loop {
            // Whoever waits from here on hears of a plan that comes while a session is being tried.
            let replanned = self.replanned.notified();
            let mut replanned = std::pin::pin!(replanned);
            replanned.as_mut().enable();
            tries.begin();
            let problem = match self.way.dial().await {
                Err(problem) => problem,
                Ok(channel) => {
                    self.states.set(self.way.name(), "connected");
                    match self.handle.session(channel).await {
                        Ok(End::Replanned) => continue,
                        Ok(End::Gone) => "the session has ended".to_owned(),
                        Ok(End::Refused(reason, text)) => match self.refused(reason, text) {
                            Some(problem) => problem,
                            None => return,
                        },
                        // The manager has stopped.
                        Err(_) => return,
                    }
                }
            };
            self.states.set(self.way.name(), &problem);
            tries.end();
            // While a policy is being applied, agents have it before their managers do.
            let may_pass = problem == OTHER_PLAN && before != problem;
            before.clone_from(&problem);
            if !may_pass && tries.is_news(&problem) {
                tracing::warn!(
                    "{}: agent {}: {problem}; trying again",
                    self.manager,
                    self.way.name()
                );
            }
            tokio::select! {
                () = tries.pause() => {}
                () = replanned => tries.hasten(),
            }
        }
    }

    /// What an agent's refusal means; `None` if there is nothing to come back for.
    fn refused(&self, reason: Reason, text: String) -> Option<String> {
        let at = self.way.name();
        let end = match reason {
            Reason::WrongPlan => {
                return Some(OTHER_PLAN.to_owned());
            }
            Reason::Superseded => format!("agent {at}: {text}; this one ends"),
            Reason::WrongVersion => format!("agent {at}: {text}"),
            _ => return Some(text),
        };
        // Who should hear it may be gone, too.
        let _ = self.fatal.send(Failure::Failed(end));
        None
    }
}

/// A number that nobody outside this process knows.
fn secret() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0)
}

/// The clock and the keys of this machine, for gates.
struct System;

impl Outside for System {
    fn utc(&mut self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }

    fn secret(&mut self) -> [u8; 16] {
        (u128::from(secret()) << 64 | u128::from(secret())).to_be_bytes()
    }
}

/// What a manager serves, with the epoch that it takes for each.
fn decisions(
    manager: &ManagerPlan,
    plan: &Plan,
    epoch: &dyn Fn(&str, u32) -> u64,
    gates: Gates,
) -> Vec<Served> {
    let mut list = Vec::new();
    for service in &plan.services {
        for (number, share) in service.shares_of(&manager.name) {
            let service = &*service.of_share(number);
            let decide: Option<Box<dyn Decide>> = match service.kind {
                Kind::Balance => Balance::new(service).map(|b| Box::new(b) as _),
                Kind::Nat => Nat::new(service).map(|nat| Box::new(nat.seeded(secret())) as _),
                Kind::Observe => Observe::new(service).map(|o| Box::new(o) as _),
                Kind::Gate => gates(service),
                Kind::Filter => None,
            };
            // A backup takes its epochs from those that it follows on.
            let epoch = match share.is_backup(&manager.name) {
                true => 0,
                false => epoch(&service.name, number),
            };
            list.extend(decide.map(|decide| (service.name.clone(), number, epoch, decide)));
        }
    }
    list
}
