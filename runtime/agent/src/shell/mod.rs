//! The thin shell around the state machine: one task that feeds it from the switch, the managers and the
//! clock, and carries out what it says.
//!
//! There is no task a flow. While a write travels, all that happens gathers for the next one; that is
//! what carries set-up rates.

mod device;
mod events;
mod program;
mod proof;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use signalbox_lower::plan::Plan;
use signalbox_p4runtime::proto::p4::config::v1::P4Info;
use signalbox_p4runtime::{CatalogError, Transport};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::channel::{AgentChannel, Sender};
use crate::counters::{Counters, Drop};
use crate::listing::FlowStatus;
use crate::machine::{Agent, Input, Output, SessionId};
use crate::message::ToManager;
use crate::target::Target;

use device::{Device, Lost};
use events::{Ear, Event, Heard};
pub use program::{Applied, NewPolicy};
use program::{Coming, Program};

/// Whether the agent gives the switch its pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pipeline {
    /// It does, unless the same one runs there already.
    Push {
        /// What the target wants: bmv2's JSON.
        device_config: Vec<u8>,
    },
    /// Somebody else has; it must have the same P4Info.
    Running,
}

/// What an agent needs to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name, unique in the policy's network.
    pub name: String,
    /// What it carries out.
    pub plan: Arc<Plan>,
    /// The plan's program.
    pub p4info: P4Info,
    /// How the pipeline gets onto the switch.
    pub pipeline: Pipeline,
    /// What the target is like.
    pub target: Target,
    /// The device behind the transport.
    pub device_id: u64,
    /// The agent is the only writer: its election id must be the highest.
    pub election_id: u128,
}

/// Why an agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The image is not the plan's.
    #[error("the program does not fit its plan: {0}")]
    Program(#[from] CatalogError),
    /// The switch could not be reached, or refused something at the start.
    #[error("{0}")]
    Switch(String),
    /// Another controller has taken the switch over, or was there first.
    #[error("{0}")]
    Role(String),
    /// It was stopped.
    #[error("the agent has stopped")]
    Stopped,
}

impl From<Lost> for AgentError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Program(error) => Self::Program(error),
            Lost::Switch(text) => Self::Switch(text),
            Lost::Role(text) => Self::Role(text),
        }
    }
}

/// An agent's state for `signalbox status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The agent's name.
    pub agent: String,
    /// The policy's name.
    pub policy: String,
    /// Whether the switch forwards.
    pub ready: bool,
    /// Managers with a session now.
    pub managers: usize,
    /// What was counted.
    pub counters: Counters,
}

/// What can be asked of a running agent. Clones share it; dropping the last one stops the agent.
#[derive(Debug, Clone)]
pub struct Handle {
    name: Arc<str>,
    events: mpsc::UnboundedSender<Event>,
    sessions: mpsc::UnboundedSender<AgentChannel>,
    ready: watch::Receiver<bool>,
    _alive: Arc<watch::Sender<()>>,
}

impl Handle {
    /// The agent's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a manager's session.
    pub fn attach(&self, channel: AgentChannel) {
        let _ = self.sessions.send(channel);
    }

    /// Where sessions come in, for [`crate::grpc::serve`].
    #[must_use]
    pub fn sessions(&self) -> mpsc::UnboundedSender<AgentChannel> {
        self.sessions.clone()
    }

    /// Waits until the switch forwards.
    ///
    /// # Errors
    /// The agent has stopped; the task's own result says why.
    pub async fn ready(&self) -> Result<(), AgentError> {
        let mut ready = self.ready.clone();
        ready
            .wait_for(|r| *r)
            .await
            .map(|_| ())
            .map_err(|_| AgentError::Stopped)
    }

    /// Waits until the switch is lost after it was ready, or the agent has stopped.
    pub async fn lost(&self) {
        let mut ready = self.ready.clone();
        if ready.wait_for(|r| *r).await.is_ok() {
            // An error means that the agent has stopped.
            let _ = ready.wait_for(|r| !*r).await;
        }
    }

    /// Its state. With `fresh`, counters are read from the switch before.
    ///
    /// # Errors
    /// The agent has stopped.
    pub async fn status(&self, fresh: bool) -> Result<Status, AgentError> {
        let (tx, rx) = oneshot::channel();
        let query = Event::Status { fresh, reply: tx };
        self.events.send(query).map_err(|_| AgentError::Stopped)?;
        rx.await.map_err(|_| AgentError::Stopped)
    }

    /// Gives it another policy, and waits until that is in force.
    ///
    /// # Errors
    /// One line: nothing has changed, or the switch went away in the middle.
    pub async fn apply(&self, policy: NewPolicy) -> Result<Applied, String> {
        let (tx, rx) = oneshot::channel();
        let stopped = || AgentError::Stopped.to_string();
        let policy = Box::new(policy);
        let event = Event::Apply { policy, reply: tx };
        self.events.send(event).map_err(|_| stopped())?;
        rx.await.map_err(|_| stopped())?
    }

    /// Its flows, with counts read from the switch now.
    ///
    /// # Errors
    /// The agent has stopped.
    pub async fn flows(&self) -> Result<Vec<FlowStatus>, AgentError> {
        let (tx, rx) = oneshot::channel();
        (self.events.send(Event::Flows { reply: tx })).map_err(|_| AgentError::Stopped)?;
        rx.await.map_err(|_| AgentError::Stopped)
    }
}

/// Starts an agent on a tokio runtime. The task ends with an error if the start fails; once the switch
/// forwards, a lost switch is reported in the log and tried again until it is back, or belongs to
/// another controller.
///
/// # Errors
/// The P4Info contradicts itself.
pub fn start(
    options: Options,
    transport: Arc<dyn Transport>,
) -> Result<(Handle, tokio::task::JoinHandle<Result<(), AgentError>>), AgentError> {
    let program = Program::new(&NewPolicy {
        plan: options.plan.clone(),
        p4info: options.p4info.clone(),
        pipeline: options.pipeline.clone(),
    })?;
    let (events_tx, events) = mpsc::unbounded_channel();
    let (sessions_tx, sessions) = mpsc::unbounded_channel();
    let (ready_tx, ready) = watch::channel(false);
    let (alive, gone) = watch::channel(());
    let handle = Handle {
        name: options.name.as_str().into(),
        events: events_tx.clone(),
        sessions: sessions_tx,
        ready,
        _alive: Arc::new(alive),
    };
    let (ear, heard) = Ear::new();
    let shell = Shell {
        agent: Agent::new(&options.name, options.plan.clone(), options.target.clone()),
        start: Instant::now(),
        device: Device::new(&options, transport, program, events_tx.clone(), ear.clone()),
        events_tx,
        ear,
        managers: BTreeMap::new(),
        next_session: 0,
        ready: ready_tx,
        was_ready: false,
        proving: false,
        queries: Vec::new(),
        next_queries: Vec::new(),
        refreshed: false,
        coming: None,
        options,
    };
    let task = tokio::spawn(shell.run(events, heard, sessions, gone));
    Ok((handle, task))
}

struct Shell {
    agent: Agent,
    start: Instant,
    device: Device,
    events_tx: mpsc::UnboundedSender<Event>,
    ear: Ear,
    managers: BTreeMap<SessionId, Box<dyn Sender<ToManager>>>,
    next_session: SessionId,
    ready: watch::Sender<bool>,
    was_ready: bool,
    /// The pipeline is open, and no packet has come back yet.
    proving: bool,
    /// Questions that wait for the counters that are being read.
    queries: Vec<Event>,
    /// Those that came meanwhile wait for the next reading, all for the same one.
    next_queries: Vec<Event>,
    /// The reading is done.
    refreshed: bool,
    /// Another policy is on its way.
    coming: Option<Box<Coming>>,
    options: Options,
}

/// Events that are taken together before their outputs' writes start.
const GATHER: usize = 256;

impl Shell {
    async fn run(
        mut self,
        mut events: mpsc::UnboundedReceiver<Event>,
        mut heard: mpsc::Receiver<(u64, Heard)>,
        mut sessions: mpsc::UnboundedReceiver<AgentChannel>,
        mut gone: watch::Receiver<()>,
    ) -> Result<(), AgentError> {
        self.device.connect(Duration::ZERO);
        let mut gathered = Vec::with_capacity(GATHER);
        let mut arrived = Vec::with_capacity(GATHER);
        loop {
            let deadline = self.agent.next_deadline();
            let at = deadline.map_or_else(
                || Instant::now() + Duration::from_secs(3600),
                |d| self.start + d,
            );
            tokio::select! {
                n = events.recv_many(&mut gathered, GATHER) => {
                    if n == 0 {
                        return Ok(());
                    }
                    for event in gathered.drain(..) {
                        self.event(event).await?;
                    }
                }
                _ = heard.recv_many(&mut arrived, GATHER) => {
                    for (generation, heard) in arrived.drain(..) {
                        self.heard(generation, heard).await;
                    }
                }
                Some(channel) = sessions.recv() => self.attach(channel).await,
                () = tokio::time::sleep_until(at) => self.feed(Input::Tick).await,
                changed = gone.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
            }
            if std::mem::take(&mut self.refreshed) {
                self.answer_queries().await;
            }
        }
    }

    async fn heard(&mut self, generation: u64, heard: Heard) {
        if !self.device.is_current(generation) {
            return;
        }
        match heard {
            Heard::Packet(packet) => match self.device.packet_in(packet) {
                Some(packet) if proof::is_back(&packet) => self.proven(),
                Some(packet) => self.feed(Input::PacketIn(packet)).await,
                None => {}
            },
            Heard::Idle(entries) => {
                let keys = self.device.idle(&entries);
                self.feed(Input::IdleNotice(keys)).await;
            }
        }
    }

    async fn attach(&mut self, channel: AgentChannel) {
        self.next_session += 1;
        let id = self.next_session;
        let (tx, mut rx) = channel.split();
        self.managers.insert(id, tx);
        let events = self.events_tx.clone();
        tokio::spawn(async move {
            while let Some(message) = rx.recv().await {
                if events.send(Event::Message(id, message)).is_err() {
                    return;
                }
            }
            let _ = events.send(Event::ManagerGone(id));
        });
        self.feed(Input::SessionOpened(id)).await;
    }

    async fn event(&mut self, event: Event) -> Result<(), AgentError> {
        match event {
            Event::Connected(up) => match *up {
                Ok(up) => {
                    let found = self.device.connected(up);
                    self.feed(Input::SwitchUp(found)).await;
                }
                Err(lost) => {
                    // It is only tried again what may come back.
                    if !self.was_ready || matches!(lost, Lost::Role(_)) {
                        return Err(lost.into());
                    }
                    self.device.connect(device::RETRY);
                }
            },
            Event::Lost { generation, reason } => {
                if self.device.lost(generation) {
                    let _ = self.ready.send(false);
                    self.proving = false;
                    if !self.was_ready {
                        return Err(AgentError::Switch(reason));
                    }
                    self.feed(Input::SwitchDown { reason }).await;
                    self.device.connect(device::RETRY);
                }
            }
            Event::TakenOver { generation, reason } => {
                if self.device.is_current(generation) {
                    return Err(AgentError::Role(reason));
                }
            }
            Event::Prove { generation, tried } => {
                if self.proving && self.device.is_current(generation) {
                    let cpu_port = self.options.plan.cpu_port;
                    if tried == proof::TRIES {
                        return Err(AgentError::Switch(format!(
                            "packets do not reach the agent: what the switch was to send to its port {cpu_port} did not come back; is that its CPU port?"
                        )));
                    }
                    self.device.prove(cpu_port, tried).await;
                }
            }
            Event::Reconciled { generation } => {
                if self.device.is_current(generation) {
                    self.feed(Input::Reconciled).await;
                }
            }
            Event::Written {
                generation,
                batch,
                results,
            } => {
                if self.device.is_current(generation) {
                    self.feed(Input::WriteDone { batch, results }).await;
                }
            }
            Event::Read {
                generation,
                read,
                totals,
            } => {
                if self.device.is_current(generation) {
                    self.feed(Input::ReadDone { read, totals }).await;
                }
            }
            Event::Apply { policy, reply } => match Program::new(&policy) {
                Err(error) => {
                    let error = AgentError::Program(error);
                    let _ = reply.send(Err(error.to_string()));
                }
                Ok(_) if self.coming.is_some() || self.proving => {
                    let text = "the agent is busy with its start or another policy; try again";
                    let _ = reply.send(Err(text.to_owned()));
                }
                Ok(program) => {
                    let plan = policy.plan.clone();
                    self.coming = Some(Box::new(Coming {
                        policy: *policy,
                        program,
                        reply,
                        shut: None,
                    }));
                    self.feed(Input::NewPlan(plan)).await;
                }
            },
            Event::Loaded { generation, loaded } => {
                if self.device.is_current(generation) {
                    let input = match *loaded {
                        Ok(loaded) => {
                            if let Some(coming) = &mut self.coming {
                                coming.shut = Some((loaded.shut, loaded.reconciled));
                            }
                            let kept = loaded.kept;
                            let found = self.device.loaded(loaded);
                            Input::ProgramLoaded { found, kept }
                        }
                        Err(reason) => Input::ProgramRefused { reason },
                    };
                    self.feed(input).await;
                }
            }
            Event::Message(id, message) => self.feed(Input::Message(id, message)).await,
            Event::ManagerGone(id) => {
                self.managers.remove(&id);
                self.feed(Input::SessionClosed(id)).await;
            }
            Event::Status { fresh: true, .. } | Event::Flows { .. } if self.agent.is_ready() => {
                if self.queries.is_empty() {
                    self.queries.push(event);
                    self.feed(Input::Refresh).await;
                } else {
                    self.next_queries.push(event);
                }
            }
            Event::Status { .. } | Event::Flows { .. } => self.answer(event),
        }
        Ok(())
    }

    async fn feed(&mut self, input: Input) {
        let outputs = self.agent.handle(self.start.elapsed(), input);
        for output in outputs {
            match output {
                Output::Reconcile(desired) => self.device.reconcile(desired),
                Output::Write { batch, updates } => self.device.write(batch, &updates),
                Output::Read { read, cells } => self.device.read(read, cells),
                Output::PacketOut(packet) => self.device.packet_out(packet).await,
                Output::Message(id, message) => {
                    if let Some(manager) = self.managers.get(&id) {
                        // A manager that is gone is noticed by the end of what it sends.
                        let _ = manager.send(message);
                    }
                }
                Output::CloseSession(id) => {
                    self.managers.remove(&id);
                }
                Output::Ready => {
                    self.proving = true;
                    self.device.prove(self.options.plan.cpu_port, 0).await;
                }
                Output::LoadProgram { cells } => {
                    if let Some(coming) = &self.coming {
                        let cells = cells || !self.options.target.keeps_cells;
                        self.device.load(coming.program.clone(), cells);
                    }
                }
                Output::PlanTaken => {
                    if let Some(coming) = &self.coming {
                        self.options.plan = coming.policy.plan.clone();
                        self.device.use_program(coming.program.clone());
                    }
                }
                Output::PlanInForce(change) => {
                    if let Some(coming) = self.coming.take() {
                        coming.done(change);
                    }
                }
                Output::PlanRefused(why) => {
                    if let Some(coming) = self.coming.take() {
                        let _ = coming.reply.send(Err(why));
                    }
                }
                Output::Refreshed => self.refreshed = true,
                Output::Unusable(reason) => self.device.give_up(reason),
                Output::Log(line) => tracing::warn!(agent = %self.options.name, "{line}"),
            }
        }
    }

    /// The switch forwards, and asks.
    fn proven(&mut self) {
        if std::mem::take(&mut self.proving) {
            self.was_ready = true;
            let _ = self.ready.send(true);
        }
    }

    /// The counters have been read, or the switch is gone and they cannot be.
    async fn answer_queries(&mut self) {
        for query in std::mem::take(&mut self.queries) {
            self.answer(query);
        }
        self.queries = std::mem::take(&mut self.next_queries);
        if !self.queries.is_empty() {
            self.feed(Input::Refresh).await;
        }
    }

    fn answer(&self, query: Event) {
        match query {
            Event::Status { reply, .. } => {
                let mut counters = self.agent.counters();
                counters.drop(Drop::Overrun, self.ear.overrun());
                let _ = reply.send(Status {
                    agent: self.options.name.clone(),
                    policy: self.options.plan.policy.clone(),
                    ready: self.agent.is_ready(),
                    managers: self.managers.len(),
                    counters,
                });
            }
            Event::Flows { reply } => {
                let _ = reply.send(self.agent.flows());
            }
            _ => {}
        }
    }
}
