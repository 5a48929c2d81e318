//! A service: target and agent, and in one process its managers, too.
//!
//! Across machines the same parts run with gRPC between them: `signalbox agent` is a service without
//! managers that listens for them, `signalbox manager` is one manager ([`ManagerProcess`]). Nothing here
//! decides anything.

#[cfg(test)]
mod change_tests;
mod changes;
mod gate_stand_in;
#[cfg(test)]
mod host_tests;
mod links;
mod manager_process;
mod managers;
mod peers;
pub mod policy_test;
mod replay;
mod target;
#[cfg(test)]
mod tests;
mod tries;
mod view;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use signalbox_agent::channel::AgentChannel;
use signalbox_agent::grpc;
use signalbox_agent::shell::{self as agent_shell, AgentError};
use signalbox_lower::plan::{Criterion, Plan};
use signalbox_observe::Reports;
use signalbox_switch::ports::Port;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use changes::Wanted;
pub use links::Links;
pub use manager_process::ManagerProcess;
pub use peers::{Meeting, PeerDoor};
pub use replay::Replay;
pub use signalbox_agent::shell::Pipeline;
pub use target::{RunningTarget, TargetName};
pub use view::View;

use crate::failure::Failure;
use crate::image::Compiled;

/// How long agent and managers may take at the start.
const START: Duration = Duration::from_secs(20);

/// The name of an agent that runs together with its managers.
const AGENT: &str = "agent-1";

/// How long the cause of an end may come after the end itself.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A running service. Dropping it stops everything.
pub struct Service {
    view: View,
    target: RunningTarget,
    agent_task: JoinHandle<Result<(), AgentError>>,
    link_task: Option<JoinHandle<()>>,
    door: Option<Door>,
}

/// Where managers of other processes come in.
pub struct Door {
    address: SocketAddr,
    sessions: mpsc::UnboundedReceiver<AgentChannel>,
    server: JoinHandle<()>,
}

impl Door {
    /// Listens on an address of loopback. Managers that come before the agent is there wait.
    ///
    /// # Errors
    /// The address is not one of loopback, or cannot be had.
    pub async fn open(address: SocketAddr) -> Result<Self, Failure> {
        if !address.ip().is_loopback() {
            return Err(Failure::Usage(format!(
                "`--listen {address}`: expected an address of loopback, 127.0.0.1 or [::1]: whoever reaches an agent decides for its services, and there are no keys yet to tell who may"
            )));
        }
        let (tx, sessions) = mpsc::unbounded_channel();
        let (address, server) = grpc::serve(address, tx).await.map_err(Failure::failed)?;
        Ok(Self {
            address,
            sessions,
            server,
        })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.view.end_managers();
        // The agent is not to take the end of its switch for a loss.
        self.agent_task.abort();
        if let Some(task) = &self.link_task {
            task.abort();
        }
    }
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

    /// The same with a switch in this process, for which it was compiled.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub async fn start_embedded(compiled: &Compiled) -> Result<Self, Failure> {
        let target = RunningTarget::of_plan(&compiled.lowered.plan).await?;
        Self::start(compiled, target, compiled.pipeline()).await
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
        let service = Self::start_agent(AGENT, plan, compiled, target, pipeline).await?;
        service.manage(reports).await
    }

    /// Starts them as for a policy's tests: with a plan that was changed, in what concerns agent and
    /// managers, and with gates that let in who may come in.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub async fn start_plan(
        plan: Arc<Plan>,
        compiled: &Compiled,
        target: RunningTarget,
        pipeline: Pipeline,
    ) -> Result<Self, Failure> {
        let mut service = Self::start_agent(AGENT, plan, compiled, target, pipeline).await?;
        service.view.decide_gates(gate_stand_in::gates);
        service.manage(&Reports::default()).await
    }

    async fn manage(self, reports: &Reports) -> Result<Self, Failure> {
        let service = self;
        service.view.start_managers(reports);
        service.wait_for_criteria().await?;
        Ok(service)
    }

    /// Starts an agent of that name on a running target, without managers, and waits until the pipeline
    /// forwards.
    ///
    /// # Errors
    /// One line: the target refused something, or did not get ready in time.
    pub async fn start_agent(
        name: &str,
        plan: Arc<Plan>,
        compiled: &Compiled,
        target: RunningTarget,
        pipeline: Pipeline,
    ) -> Result<Self, Failure> {
        let options = agent_shell::Options {
            name: name.to_owned(),
            plan: Arc::clone(&plan),
            p4info: compiled.image.p4info.clone(),
            pipeline: pipeline.clone(),
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
        let own_image = pipeline == compiled.pipeline();
        let view = View::new(plan, agent, target.switch(), pipeline, own_image);
        Ok(Self {
            view,
            target,
            agent_task,
            link_task: None,
            door: None,
        })
    }

    /// Lets managers of other processes in.
    pub fn let_in(&mut self, mut door: Door) {
        let agent = self.view.agent().clone();
        let (_, closed) = mpsc::unbounded_channel();
        let mut sessions = std::mem::replace(&mut door.sessions, closed);
        tokio::spawn(async move {
            while let Some(session) = sessions.recv().await {
                agent.attach(session);
            }
        });
        self.view.listens_at(door.address);
        self.door = Some(door);
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
        let Some(switch) = self.view.switch() else {
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
        if self.view.watch(&links) && !links.is_empty() {
            self.link_task = Some(tokio::spawn(links.watch()));
        }
    }

    /// Waits until the service cannot go on, and says why.
    pub async fn failed(&mut self) -> Failure {
        let agent = self.view.agent().clone();
        // A device that somebody else keeps running may come back, and an agent by itself waits for it: its
        // managers and what it knows of flows are not to go for that.
        let waits = self.door.is_some() && self.target.is_remote();
        tokio::select! {
            result = &mut self.agent_task => return ended(result),
            what = self.target.ended() => return Failure::Failed(what),
            () = agent.lost(), if !waits => {}
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
        let plan = self.view.plan();
        if plan.managers.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + START;
        loop {
            let status = self.view.agent().status(false).await;
            let status = status.map_err(Failure::failed)?;
            let entries = status.counters.criteria.now;
            if criteria_are_in(&plan, status.managers, entries) {
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
/// criterion, for every share of a service, and as many of who stands by for it.
fn criteria_are_in(plan: &Plan, managers: usize, entries: u64) -> bool {
    let of = |criteria: &[Criterion]| -> usize {
        let asking = criteria.iter().filter(|criterion| !criterion.is_static());
        asking.map(|criterion| criterion.cubes.len()).sum()
    };
    let shares = (plan.services.iter())
        .flat_map(|service| (0u32..).zip(&service.shares).map(move |of| (service, of)));
    let wanted: usize = shares
        .map(|(service, (number, share))| {
            let (forward, reply) = service.asks(number);
            (of(forward) + of(reply)) * (1 + usize::from(share.backup.is_some()))
        })
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
