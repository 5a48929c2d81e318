//! One manager of a policy as a process of its own, with sessions to agents elsewhere.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use signalbox_lower::plan::{ManagerPlan, Plan};
use signalbox_manager::shell::Tap;
use signalbox_manager::state::StateStore;
use tokio::sync::mpsc;

use super::changes::{self, Wanted};
use super::managers::{RunningManager, Standing, Way, gates};
use super::peers::{self, Meeting, PeerDoor};
use crate::control::Request;
use crate::failure::Failure;

/// What the last messages of a process have to get to the network.
const LEAVE: Duration = Duration::from_millis(100);

/// A running manager. Clones see the same one.
#[derive(Clone)]
pub struct ManagerProcess(Arc<Inner>);

struct Inner {
    name: String,
    plan: RwLock<Arc<Plan>>,
    manager: RunningManager,
    meeting: Meeting,
    peers: peers::Running,
    started: Instant,
}

/// Epochs come from the agents, and from the store where there is one.
fn told_by_agents(_service: &str, _share: u32) -> u64 {
    0
}

/// Later starts have higher numbers; two in one millisecond differ by their process ids.
fn instance() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
    (ms << 16) | u64::from(std::process::id() & 0xffff)
}

fn of_plan<'a>(plan: &'a Plan, name: &str) -> Result<&'a ManagerPlan, String> {
    plan.managers
        .iter()
        .find(|m| m.name == name)
        .ok_or_else(|| {
            let names: Vec<String> = (plan.managers.iter())
                .map(|m| format!("`{}`", m.name))
                .collect();
            let there = match names.as_slice() {
                [] => "it has none".to_owned(),
                names => format!("it has {}", names.join(", ")),
            };
            format!("policy `{}` has no manager `{name}`; {there}", plan.policy)
        })
}

impl ManagerProcess {
    /// Whether the policy has a manager of that name, which meets others there.
    ///
    /// # Errors
    /// It has not, but may have others; or the manager shares decisions with others and does not meet them, or
    /// the other way round.
    pub fn check(plan: &Plan, name: &str, meeting: &Meeting) -> Result<(), Failure> {
        of_plan(plan, name).map_err(Failure::Usage)?;
        meeting.check(plan, name).map_err(Failure::Usage)
    }

    /// Starts the manager of that name; what ends it comes out of the receiver. The door is where it listens for
    /// other managers, if it does.
    ///
    /// # Errors
    /// The policy has none of that name.
    pub fn start(
        plan: Arc<Plan>,
        name: &str,
        agents: &[String],
        (meeting, door): (Meeting, Option<PeerDoor>),
        tap: Tap,
        store: Option<Arc<dyn StateStore>>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Failure>), Failure> {
        let manager = of_plan(&plan, name).map_err(Failure::Usage)?;
        let (fatal, ends) = mpsc::unbounded_channel();
        let standing = Standing {
            instance: instance(),
            epoch: &told_by_agents,
            fatal,
            tap,
            gates,
            store,
        };
        let ways = agents.iter().cloned().map(Way::At).collect();
        let manager = RunningManager::start(&plan, manager, standing, ways);
        let peers = peers::Running::start(name, manager.handle(), door, &meeting.peers);
        let inner = Inner {
            name: name.to_owned(),
            plan: RwLock::new(plan),
            manager,
            meeting,
            peers,
            started: Instant::now(),
        };
        Ok((Self(Arc::new(inner)), ends))
    }

    /// Says goodbye to its agents, so that its backup is asked at once.
    pub async fn farewell(&self) {
        // One that has stopped has nothing to say any more.
        if self.0.manager.handle().farewell().await.is_ok() {
            // Nobody answers a goodbye; this is for it to leave the process.
            tokio::time::sleep(LEAVE).await;
        }
    }

    fn plan(&self) -> Arc<Plan> {
        let plan = self.0.plan.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&plan)
    }

    /// Answers a request of the control socket.
    ///
    /// # Errors
    /// One line for the asker.
    pub async fn answer(&self, request: Request) -> Result<Value, String> {
        let nothing = |what: &str| {
            let name = &self.0.name;
            Err(format!(
                "this is manager `{name}`, which has no {what}; ask an agent's control socket"
            ))
        };
        match request {
            Request::Status => self.status().await,
            Request::Apply(wanted) => self.apply(&wanted).await,
            Request::Flows => nothing("flows"),
            Request::Drain {
                pool,
                server,
                drained,
            } => {
                let handle = self.0.manager.handle();
                let services = handle.drain(&pool, &server, drained).await?;
                Ok(json!({ "services": services }))
            }
            Request::ManagerStop { .. } => nothing("managers"),
        }
    }

    async fn status(&self) -> Result<Value, String> {
        let mut status = (self.0.manager.handle().status().await).map_err(|e| e.to_string())?;
        let store = status.store.take();
        let agents: Vec<Value> = (self.0.manager.ways().into_iter())
            .map(|(address, state)| json!({ "address": address, "state": state }))
            .collect();
        let mut said = json!({
            "role": "manager",
            "name": self.0.name,
            "policy": self.plan().policy,
            "uptime_s": self.0.started.elapsed().as_secs(),
            "agents": agents,
            "managers": [status],
        });
        if let Some(said) = said.as_object_mut() {
            said.extend(store.map(|store| ("store".to_owned(), json!(store))));
            let listen = self.0.peers.listen;
            said.extend(listen.map(|at| ("listen".to_owned(), json!(at))));
            let states = self.0.peers.states.all();
            let peers: Vec<Value> = (self.0.meeting.peers.iter())
                .map(|(name, address)| {
                    json!({ "manager": name, "address": address, "state": states.get(name) })
                })
                .collect();
            if !peers.is_empty() {
                said.insert("peers".to_owned(), json!(peers));
            }
        }
        Ok(said)
    }

    async fn apply(&self, wanted: &Wanted) -> Result<Value, String> {
        let old = self.plan();
        let new = Arc::new(wanted.compile(&old).await?.lowered.plan);
        of_plan(&new, &self.0.name).map_err(|error| format!("{error}: end this one first"))?;
        (self.0.meeting.check(&new, &self.0.name))
            .map_err(|error| format!("{error}: start this one again with that"))?;
        if !wanted.dry_run && !changes::is_same(&old, &new) {
            let replanning = self.0.manager.replanning(&new, &told_by_agents);
            replanning.run().await?;
            let mut plan = self.0.plan.write().unwrap_or_else(PoisonError::into_inner);
            *plan = Arc::clone(&new);
        }
        let mut report = changes::report(&old, &new, &[], None);
        if let Some(report) = report.as_object_mut() {
            report.insert("role".to_owned(), json!("manager"));
            report.insert("name".to_owned(), json!(self.0.name));
        }
        Ok(report)
    }
}
