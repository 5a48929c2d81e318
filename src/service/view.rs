//! What can be asked of a running service, and what it can be told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use serde_json::{Value, json};
use signalbox_agent::listing::FlowStatus;
use signalbox_agent::shell::{self as agent_shell, NewPolicy, Pipeline};
use signalbox_lower::plan::{ManagerPlan, Plan};
use signalbox_manager::state::MemoryStore;
use signalbox_observe::Reports;
use signalbox_observe::export::{Taps, Watch};
use signalbox_switch::ports::{LinkState, PortCounters};
use signalbox_switch::runner::SwitchHandle;
use tokio::sync::mpsc;

use super::Links;
use super::changes::{self, Wanted};
use super::managers::{Gates, Replanning, RunningManager, Standing, Way, gates};
use super::peers;
use crate::control::Request;
use crate::flows::Step;

/// A running service as others see it. Clones see the same one, and keep its agent alive.
#[derive(Clone)]
pub struct View {
    plan: Arc<RwLock<Arc<Plan>>>,
    agent: agent_shell::Handle,
    switch: Option<SwitchHandle>,
    managers: Arc<Mutex<BTreeMap<String, RunningManager>>>,
    /// Epochs of the managers in this process.
    store: MemoryStore,
    pipeline: Pipeline,
    /// The pipeline is what the policy compiles to, and not made by somebody else of its P4.
    own_image: bool,
    /// One policy is applied at a time.
    applying: Arc<tokio::sync::Mutex<()>>,
    /// Where managers' reports go.
    taps: Arc<Mutex<Taps>>,
    reports: Arc<OnceLock<Watch>>,
    links: Arc<OnceLock<Links>>,
    listen: Arc<OnceLock<SocketAddr>>,
    gates: Gates,
    started: Instant,
}

impl View {
    pub(super) fn new(
        plan: Arc<Plan>,
        agent: agent_shell::Handle,
        switch: Option<SwitchHandle>,
        pipeline: Pipeline,
        own_image: bool,
    ) -> Self {
        Self {
            plan: Arc::new(RwLock::new(plan)),
            agent,
            switch,
            managers: Arc::default(),
            store: MemoryStore::default(),
            pipeline,
            own_image,
            applying: Arc::default(),
            taps: Arc::default(),
            reports: Arc::default(),
            links: Arc::default(),
            listen: Arc::default(),
            gates,
            started: Instant::now(),
        }
    }

    /// Who decides for gates, in managers that start from now on.
    pub(super) fn decide_gates(&mut self, gates: Gates) {
        self.gates = gates;
    }

    /// Starts the plan's managers beside the agent.
    pub(super) fn start_managers(&self, reports: &Reports) {
        // They are set once.
        let _ = self.reports.set(reports.watch());
        *self.taps.lock().unwrap_or_else(PoisonError::into_inner) = reports.taps();
        let plan = self.plan();
        for manager in &plan.managers {
            self.start_manager(&plan, manager);
        }
        self.join_managers(&plan);
    }

    /// Those that share decisions have a way to each other.
    fn join_managers(&self, plan: &Plan) {
        let managers = self.managers();
        for (one, other) in peers::pairs(plan) {
            if let (Some(one), Some(other)) = (managers.get(one), managers.get(other)) {
                peers::join(one.handle(), other.handle());
            }
        }
    }

    fn start_manager(&self, plan: &Plan, manager: &ManagerPlan) {
        // Nobody else has the name here, so nothing can be fatal.
        let (fatal, _) = mpsc::unbounded_channel();
        let standing = Standing {
            instance: 0,
            epoch: &|service, share| self.store.raise_epoch(service, share),
            fatal,
            tap: (self.taps.lock())
                .unwrap_or_else(PoisonError::into_inner)
                .tap(),
            gates: self.gates,
            store: None,
        };
        let way = Way::Here(self.agent.clone());
        let running = RunningManager::start(plan, manager, standing, vec![way]);
        self.managers().insert(manager.name.clone(), running);
    }

    /// Ends the managers without a word, and their reports with them.
    pub(super) fn end_managers(&self) {
        self.managers().clear();
        *self.taps.lock().unwrap_or_else(PoisonError::into_inner) = Taps::default();
    }

    /// The interfaces of its ports; says whether these are the first.
    pub(super) fn watch(&self, links: &Links) -> bool {
        self.links.set(links.clone()).is_ok()
    }

    /// Where managers of other processes come in.
    pub(super) fn listens_at(&self, address: SocketAddr) {
        // It is set once.
        let _ = self.listen.set(address);
    }

    /// The way to the embedded switch, if that is the target.
    pub fn switch(&self) -> Option<&SwitchHandle> {
        self.switch.as_ref()
    }

    /// The plan that runs.
    pub fn plan(&self) -> Arc<Plan> {
        let plan = self.plan.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&plan)
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
        let handles: Vec<_> = (self.managers().values())
            .map(|manager| manager.handle().clone())
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
                drop(manager);
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
            Request::Flows => self.flows().await,
            Request::Apply(wanted) => self.apply(&wanted).await,
            Request::Drain {
                pool,
                server,
                drained,
            } => self.drain(&pool, &server, drained).await,
            Request::ManagerStop { name } => self.stop_manager(&name).map(|()| Value::Null),
        }
    }

    /// Has the managers beside the agent drain a server, or put it back.
    async fn drain(&self, pool: &str, server: &str, drained: bool) -> Result<Value, String> {
        let handles: Vec<_> = (self.managers().values())
            .map(|manager| manager.handle().clone())
            .collect();
        let mut services = 0;
        for handle in handles {
            services += handle.drain(pool, server, drained).await?;
        }
        Ok(json!({ "services": services }))
    }

    /// The flows as the agent knows them, with the names of their servers.
    async fn flows(&self) -> Result<Value, String> {
        let flows = self.agent.flows().await.map_err(|e| e.to_string())?;
        let plan = self.plan();
        let steps: Vec<Step> = (flows.into_iter())
            .map(|flow| Step {
                server: server(&plan, &flow).map(str::to_owned),
                flow,
                way_back: false,
            })
            .collect();
        serde_json::to_value(steps).map_err(|error| error.to_string())
    }

    /// Brings another policy into force: agent first, then the managers beside it, whose sessions the
    /// agent has ended.
    async fn apply(&self, wanted: &Wanted) -> Result<Value, String> {
        let _one = self.applying.lock().await;
        let old = self.plan();
        let compiled = wanted.compile(&old).await?;
        let new = Arc::new(compiled.lowered.plan.clone());
        let program = old.program_id != new.program_id;
        if program && !self.own_image {
            return Err("the policy needs another P4 program, and this target runs what somebody else has made of it: start again with that".to_owned());
        }
        let mut applied = None;
        if !wanted.dry_run && !changes::is_same(&old, &new) {
            let pipeline = match &self.pipeline {
                Pipeline::Push { .. } if self.own_image => compiled.pipeline(),
                other => other.clone(),
            };
            let policy = NewPolicy {
                plan: Arc::clone(&new),
                p4info: compiled.image.p4info.clone(),
                pipeline,
            };
            applied = Some(self.agent.apply(policy).await?);
            *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&new);
            self.replan_managers(&old, &new).await;
        }
        let mut notes = Vec::new();
        for port in &new.ports {
            let known = old.ports.iter().any(|p| p.number == port.number);
            if !known && self.switch.is_some() {
                notes.push(format!(
                    "port {} ({}) has no interface until this is started again with `--port {}=IFACE`",
                    port.number, port.name, port.number
                ));
            }
        }
        let mut report = changes::report(&old, &new, &notes, applied.as_ref());
        if let Some(report) = report.as_object_mut() {
            report.insert("role".to_owned(), json!(self.role()));
            let name = self.agent.name().to_owned();
            report.insert("name".to_owned(), json!(name));
        }
        Ok(report)
    }

    /// The managers beside the agent get its plan; those that it does not have end, and new ones start.
    async fn replan_managers(&self, old: &Plan, plan: &Arc<Plan>) {
        if self.listen.get().is_some() {
            return;
        }
        let mut replannings: Vec<Replanning> = Vec::new();
        {
            let mut managers = self.managers();
            managers.retain(|name, _| plan.managers.iter().any(|m| m.name == *name));
            let epoch = |service: &str, share: u32| self.store.raise_epoch(service, share);
            replannings.extend(managers.values().map(|m| m.replanning(plan, &epoch)));
        }
        for replanning in replannings {
            // A manager that has stopped needs no plan.
            let _ = replanning.run().await;
        }
        for manager in &plan.managers {
            // One that was stopped by hand stays so.
            let known = old.managers.iter().any(|m| m.name == manager.name);
            if !known && !self.managers().contains_key(&manager.name) {
                self.start_manager(plan, manager);
            }
        }
        self.join_managers(plan);
    }

    fn role(&self) -> &'static str {
        if self.listen.get().is_some() {
            "agent"
        } else {
            "run"
        }
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
            "role": self.role(),
            "name": self.agent.name(),
            "listen": self.listen.get(),
            "policy": self.plan().policy,
            "uptime_s": self.started.elapsed().as_secs(),
            "agent": agent,
            "managers": managers,
        });
        let reports = self.reports.get().map(Watch::counts).unwrap_or_default();
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
        self.plan()
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

/// The server's name in the policy, if the flow goes to one.
fn server<'a>(plan: &'a Plan, flow: &FlowStatus) -> Option<&'a str> {
    let mut services = plan.services.iter();
    let balance = services
        .find(|service| service.name == flow.service)?
        .balance
        .as_ref()?;
    if let Some(to) = flow.next_hop {
        let mut servers = balance.servers.iter();
        return (servers.find(|server| server.address == to)).map(|server| server.name.as_str());
    }
    let to = flow.translated?;
    // A flow of which only the way back is known comes from its server.
    let ends = [(to.dst, to.dport), (flow.flow.src, flow.flow.sport)];
    balance
        .servers
        .iter()
        .find(|server| ends.contains(&(server.address, server.port)))
        .map(|server| server.name.as_str())
}
