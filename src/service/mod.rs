//! A whole service in one process: target, agent and managers, joined by in-memory channels.
//!
//! Across machines the same parts run with gRPC between them; nothing here decides anything.

#[cfg(test)]
mod host_tests;
mod links;
pub mod policy_test;
mod replay;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signalbox_agent::channel;
use signalbox_agent::listing::FlowStatus;
use signalbox_agent::shell::{self as agent_shell, AgentError};
use signalbox_balance::Balance;
use signalbox_lower::plan::{CriterionAction, Kind, ManagerPlan, Plan};
use signalbox_manager::state::{MemoryStore, StateStore, raise_epoch};
use signalbox_manager::{Decide, Manager, shell as manager_shell};
use signalbox_nat::Nat;
use signalbox_observe::{Observe, Reports, export::Watch};
use signalbox_switch::ports::{LinkState, Port, PortCounters};
use signalbox_switch::runner::SwitchHandle;
use tokio::task::JoinHandle;

pub use links::Links;
pub use replay::Replay;
pub use signalbox_agent::shell::Pipeline;
pub use target::{RunningTarget, TargetName};

use crate::control::Request;
use crate::failure::Failure;
use crate::image::Compiled;

/// How long agent and managers may take at the start.
const START: Duration = Duration::from_secs(20);

/// How long the cause of an end may come after the end itself.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A running service. Dropping it stops everything.
pub struct Service {
    view: View,
    target: RunningTarget,
    agent_task: JoinHandle<Result<(), AgentError>>,
    link_task: Option<JoinHandle<()>>,
}

impl Drop for Service {
    fn drop(&mut self) {
        // The agent is not to take the end of its switch for a loss.
        self.agent_task.abort();
        if let Some(task) = &self.link_task {
            task.abort();
        }
    }
}

/// What can be asked of a running service. Clones see the same one, and keep its agent alive.
#[derive(Clone)]
pub struct View {
    plan: Arc<Plan>,
    agent: agent_shell::Handle,
    switch: Option<SwitchHandle>,
    managers: Arc<Mutex<BTreeMap<String, RunningManager>>>,
    links: Arc<OnceLock<Links>>,
    reports: Watch,
    started: Instant,
}

/// A manager and its task.
struct RunningManager {
    handle: manager_shell::Handle,
    task: JoinHandle<()>,
}

impl Service {
    /// Starts agent and managers on a running target, and waits until the pipeline forwards and the
    /// managers' criteria are in.
    ///
    /// # Errors
    /// One line: the target refused something, or did not get ready in time.
    pub async fn start(
        compiled: &Compiled,
        target: RunningTarget,
        pipeline: Pipeline,
    ) -> Result<Self, Failure> {
        Self::start_reporting(compiled, target, pipeline, &Reports::default()).await
    }

    /// The same, with what the managers are told of counts going out.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub async fn start_reporting(
        compiled: &Compiled,
        target: RunningTarget,
        pipeline: Pipeline,
        reports: &Reports,
    ) -> Result<Self, Failure> {
        let plan = Arc::new(compiled.lowered.plan.clone());
        Self::start_all(plan, compiled, target, pipeline, reports).await
    }

    /// The same with a plan that was changed, in what concerns agent and managers.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub async fn start_plan(
        plan: Arc<Plan>,
        compiled: &Compiled,
        target: RunningTarget,
        pipeline: Pipeline,
    ) -> Result<Self, Failure> {
        Self::start_all(plan, compiled, target, pipeline, &Reports::default()).await
    }

    async fn start_all(
        plan: Arc<Plan>,
        compiled: &Compiled,
        target: RunningTarget,
        pipeline: Pipeline,
        reports: &Reports,
    ) -> Result<Self, Failure> {
        let options = agent_shell::Options {
            name: "agent-1".to_owned(),
            plan: Arc::clone(&plan),
            p4info: compiled.image.p4info.clone(),
            pipeline,
            target: target.habits.clone(),
            device_id: target.device_id,
            election_id: election_id(),
        };
        let (agent, mut agent_task) =
            agent_shell::start(options, Arc::clone(&target.transport)).map_err(Failure::failed)?;
        tokio::select! {
            ready = tokio::time::timeout(START, agent.ready()) => {
                let ready = ready.map_err(|_| Failure::Failed(format!("the target is not ready after {} s", START.as_secs())))?;
                if ready.is_err() {
                    return Err(ended(agent_task.await));
                }
            }
            result = &mut agent_task => return Err(ended(result)),
        }
        let store = MemoryStore::default();
        let mut managers = BTreeMap::new();
        for manager in &plan.managers {
            let (agent_end, manager_end) = channel::memory();
            agent.attach(Box::new(agent_end));
            let machine = Manager::new(&manager.name, &plan, decisions(manager, &plan, &store));
            let (handle, task) = manager_shell::start_tapped(machine, reports.tap());
            handle.attach(Box::new(manager_end));
            managers.insert(manager.name.clone(), RunningManager { handle, task });
        }
        let view = View {
            plan,
            agent,
            switch: target.switch(),
            managers: Arc::new(Mutex::new(managers)),
            links: Arc::default(),
            reports: reports.watch(),
            started: Instant::now(),
        };
        let service = Self {
            view,
            target,
            agent_task,
            link_task: None,
        };
        service.wait_for_criteria().await?;
        Ok(service)
    }

    /// What can be asked of it.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// Gives the embedded switch its ports; packets arrive from now on.
    ///
    /// # Errors
    /// The target is another, or has ended.
    pub fn attach(&self, ports: Vec<(u16, Box<dyn Port>)>) -> Result<(), Failure> {
        let Some(switch) = &self.view.switch else {
            return Err(Failure::Failed(
                "only the embedded switch takes ports".to_owned(),
            ));
        };
        for (number, port) in ports {
            switch.add_port(number, port).map_err(Failure::failed)?;
        }
        Ok(())
    }

    /// Shows what becomes of the ports' interfaces in `status` and in the log. To be called once.
    pub fn watch(&mut self, links: Links) {
        if self.view.links.set(links.clone()).is_ok() && !links.is_empty() {
            self.link_task = Some(tokio::spawn(links.watch()));
        }
    }

    /// Waits until the service cannot go on, and says why.
    pub async fn failed(&mut self) -> Failure {
        let agent = self.view.agent.clone();
        tokio::select! {
            result = &mut self.agent_task => return ended(result),
            what = self.target.ended() => return Failure::Failed(what),
            () = agent.lost() => {}
        }
        // Who knows more than that may be about to say it.
        tokio::select! {
            biased;
            result = &mut self.agent_task => ended(result),
            what = self.target.ended() => Failure::Failed(what),
            () = tokio::time::sleep(LAST_WORDS) => Failure::Failed("the target has gone away".to_owned()),
        }
    }

    /// Until each criterion of a manager is installed, packets would meet the floor.
    async fn wait_for_criteria(&self) -> Result<(), Failure> {
        if self.view.plan.managers.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + START;
        loop {
            let status = self
                .view
                .agent
                .status(false)
                .await
                .map_err(Failure::failed)?;
            let entries = status.counters.criteria.now;
            if criteria_are_in(&self.view.plan, status.managers, entries) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::Failed(
                    "the managers' criteria were not installed in time".to_owned(),
                ));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Whether so many managers and entries of theirs are all that a plan has: an entry a cube of each
/// criterion, for every service that a manager serves.
fn criteria_are_in(plan: &Plan, managers: usize, entries: u64) -> bool {
    let served = plan.services.iter().filter(|service| {
        let mut managers = plan.managers.iter();
        managers.any(|manager| manager.serves.contains(&service.name))
    });
    let wanted: usize = served
        .flat_map(|service| std::iter::once(&service.forward).chain(&service.reply))
        .flat_map(|part| &part.criteria)
        .filter(|criterion| matches!(criterion.action, CriterionAction::Ask { .. }))
        .map(|criterion| criterion.cubes.len())
        .sum();
    managers == plan.managers.len() && entries >= wanted as u64
}

/// Later starts have higher numbers, so that a new agent takes over from one that hangs.
fn election_id() -> u128 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |since| since.as_millis().max(1))
}

fn ended(result: Result<Result<(), AgentError>, tokio::task::JoinError>) -> Failure {
    match result {
        Ok(Ok(())) => Failure::Failed("the agent has stopped".to_owned()),
        Ok(Err(error)) => Failure::failed(error),
        Err(error) => Failure::Failed(format!("the agent has stopped: {error}")),
    }
}

/// A number that nobody outside this process knows.
fn secret() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0)
}

/// The decisions of each service that a manager serves, with the epoch that it takes for it.
fn decisions(
    manager: &ManagerPlan,
    plan: &Plan,
    store: &dyn StateStore,
) -> Vec<(String, u64, Box<dyn Decide>)> {
    plan.services
        .iter()
        .filter(|service| manager.serves.contains(&service.name))
        .filter_map(|service| {
            let decide: Box<dyn Decide> = match service.kind {
                Kind::Balance => Box::new(Balance::new(service)?),
                Kind::Nat => Box::new(Nat::new(service)?.seeded(secret())),
                Kind::Observe => Box::new(Observe::new(service)?),
                Kind::Filter => return None,
            };
            let epoch = raise_epoch(store, &service.name, 0);
            Some((service.name.clone(), epoch, decide))
        })
        .collect()
}

impl View {
    /// The way to the embedded switch, if that is the target.
    pub fn switch(&self) -> Option<&SwitchHandle> {
        self.switch.as_ref()
    }

    /// The plan that runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The agent.
    pub fn agent(&self) -> &agent_shell::Handle {
        &self.agent
    }

    fn managers(&self) -> MutexGuard<'_, BTreeMap<String, RunningManager>> {
        self.managers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The managers' own state, by name.
    pub async fn manager_statuses(&self) -> Vec<signalbox_manager::Status> {
        let mut statuses = Vec::new();
        let handles: Vec<manager_shell::Handle> = self
            .managers()
            .values()
            .map(|manager| manager.handle.clone())
            .collect();
        for handle in handles {
            if let Ok(status) = handle.status().await {
                statuses.push(status);
            }
        }
        statuses
    }

    /// Ends a manager as if it had died: without a word to anybody.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn stop_manager(&self, name: &str) -> Result<(), String> {
        let mut managers = self.managers();
        match managers.remove(name) {
            Some(manager) => {
                manager.task.abort();
                Ok(())
            }
            None if managers.is_empty() => {
                Err(format!("no manager `{name}` is running; there is none"))
            }
            None => {
                let running: Vec<&str> = managers.keys().map(String::as_str).collect();
                Err(format!(
                    "no manager `{name}` is running; there is {}",
                    running.join(", ")
                ))
            }
        }
    }

    /// Answers a request of the control socket.
    ///
    /// # Errors
    /// One line for the asker.
    pub async fn answer(&self, request: Request) -> Result<Value, String> {
        match request {
            Request::Status => self.status().await,
            Request::Flows => {
                let flows = self
                    .agent
                    .flows()
                    .await
                    .map_err(|error| error.to_string())?;
                flows.iter().map(|flow| self.flow(flow)).collect()
            }
            Request::ManagerStop { name } => self.stop_manager(&name).map(|()| Value::Null),
        }
    }

    /// A flow as the agent knows it, with the name of its server.
    fn flow(&self, flow: &FlowStatus) -> Result<Value, String> {
        let mut row = serde_json::to_value(flow).map_err(|error| error.to_string())?;
        if let Some(row) = row.as_object_mut() {
            row.insert("server".to_owned(), json!(self.server(flow)));
        }
        Ok(row)
    }

    /// The server's name in the policy, if the flow goes to one.
    fn server(&self, flow: &FlowStatus) -> Option<&str> {
        let to = flow.translated?;
        let mut services = self.plan.services.iter();
        let balance = services
            .find(|service| service.name == flow.service)?
            .balance
            .as_ref()?;
        // A flow of which only the way back is known comes from its server.
        let ends = [(to.dst, to.dport), (flow.flow.src, flow.flow.sport)];
        balance
            .servers
            .iter()
            .find(|server| ends.contains(&(server.address, server.port)))
            .map(|server| server.name.as_str())
    }

    /// Everything that `signalbox status` shows.
    async fn status(&self) -> Result<Value, String> {
        let agent = self
            .agent
            .status(true)
            .await
            .map_err(|error| error.to_string())?;
        let managers = self.manager_statuses().await;
        let mut status = json!({
            "policy": self.plan.policy,
            "uptime_s": self.started.elapsed().as_secs(),
            "agent": agent,
            "managers": managers,
        });
        let reports = self.reports.counts();
        if let Some(status) = status.as_object_mut().filter(|_| !reports.is_empty()) {
            status.insert("reports".to_owned(), json!(reports));
        }
        if let Some(switch) = &self.switch {
            let (ports, elsewhere) = switch
                .port_counters()
                .await
                .map_err(|error| error.to_string())?;
            let drops = switch
                .call(|switch, _| {
                    let drops = switch.drops();
                    let by_reason: BTreeMap<&str, u64> = drops.iter().map(|(reason, count)| (reason.name(), count)).collect();
                    json!({ "by_reason": by_reason, "parser_errors": drops.parser_errors, "checksum_errors": drops.checksum_errors })
                })
                .await
                .map_err(|error| error.to_string())?;
            if let Some(status) = status.as_object_mut() {
                let switch = json!({ "drops": drops, "undelivered": elsewhere });
                status.insert("switch".to_owned(), switch);
                status.insert("ports".to_owned(), self.ports(Some(&ports)));
            }
        } else if self.links.get().is_some_and(|links| !links.is_empty())
            && let Some(status) = status.as_object_mut()
        {
            status.insert("ports".to_owned(), self.ports(None));
        }
        Ok(status)
    }

    /// The ports, with what the embedded switch has counted at them.
    fn ports(&self, counters: Option<&BTreeMap<u16, PortCounters>>) -> Value {
        self.plan
            .ports
            .iter()
            .map(|port| {
                let link = self.links.get().and_then(|links| links.of(port.number));
                let attached = match counters {
                    Some(counters) => counters.contains_key(&port.number),
                    None => link.is_some(),
                };
                let mut row = json!({
                    "number": port.number,
                    "name": port.name,
                    "interface": link.map(|link| link.name()),
                    "up": attached && link.is_none_or(|link| link.state() == LinkState::Up),
                });
                let Some(counters) = counters else { return row };
                let counted = counters.get(&port.number).copied().unwrap_or_default();
                if let (Some(row), Ok(Value::Object(counted))) =
                    (row.as_object_mut(), serde_json::to_value(counted))
                {
                    row.extend(counted);
                }
                row
            })
            .collect()
    }
}
