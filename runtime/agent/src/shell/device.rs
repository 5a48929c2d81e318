//! The switch's side of the shell: connects, brings the pipeline, reads what is there, and turns the state
//! machine's wishes into calls. Every result comes back as an event.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use signalbox_p4runtime::proto::p4::v1::get_forwarding_pipeline_config_request::ResponseType;
use signalbox_p4runtime::proto::p4::v1::set_forwarding_pipeline_config_request::Action;
use signalbox_p4runtime::proto::p4::v1::{Entity, PacketIn, TableEntry, entity, update};
use signalbox_p4runtime::{
    CatalogError, Client, ClientError, Code, Event as FromSwitch, Events, RpcError, Session,
    Standing, Transport, WriteOptions, reconcile,
};
use tokio::sync::mpsc;

use tokio::time::Instant;

use super::events::{Ear, Event, Heard};
use super::program::Program;
use super::{Options, Pipeline, proof};
use crate::encode::{Encoder, of_table, totals};
use crate::entry::{Cell, Entry, Packet, Update};
use crate::flow::FlowKey;
use crate::machine::{Found, WriteError};

/// Between two tries to reach a switch that was lost.
pub(super) const RETRY: Duration = Duration::from_millis(500);

/// Between two questions whether the switch still answers. An HTTP/2 ping would do, too, but servers
/// built on gRPC's C++ library end the connection when more than two come within five minutes.
const ASK: Duration = Duration::from_secs(3);

/// How long it may keep silent.
const SILENCE: Duration = Duration::from_secs(10);

/// Why there is no switch.
#[derive(Debug)]
pub(super) enum Lost {
    Program(CatalogError),
    Switch(String),
    /// Another controller is the switch's one writer now: there is nothing to come back to.
    Role(String),
}

/// What it means that the switch says so of us.
fn taken_over(standing: Standing) -> Option<String> {
    match standing {
        Standing::Primary => None,
        Standing::Backup { primary } => Some(format!(
            "another controller owns the switch (election id {primary})"
        )),
        Standing::NoPrimary { highest } => Some(format!(
            "another controller has owned the switch with a higher election id ({highest})"
        )),
    }
}

impl From<CatalogError> for Lost {
    fn from(error: CatalogError) -> Self {
        Self::Program(error)
    }
}

impl From<ClientError> for Lost {
    fn from(error: ClientError) -> Self {
        Self::Switch(format!("the switch cannot be reached: {error}"))
    }
}

fn refused(what: &str) -> impl FnOnce(RpcError) -> Lost + '_ {
    move |error| Lost::Switch(format!("the switch refused {what}: {error}"))
}

/// A switch with the right pipeline, and what is on it.
#[derive(Debug)]
pub(super) struct Up {
    client: Client,
    generation: u64,
    actual: Vec<Entity>,
    found: Found,
}

/// A switch that has got another program while it was connected.
#[derive(Debug)]
pub(super) struct Loaded {
    actual: Vec<Entity>,
    pub found: Found,
    /// Since when it forwards nothing.
    pub shut: Instant,
    /// Whether it has kept what it held.
    pub reconciled: bool,
    /// Whether that is so of its counter cells, which have not been read.
    pub kept: bool,
}

pub(super) struct Device {
    transport: Arc<dyn Transport>,
    program: Program,
    events: mpsc::UnboundedSender<Event>,
    ear: Ear,
    session: Session,
    batch: usize,
    generation: u64,
    client: Option<Client>,
    actual: Vec<Entity>,
}

impl Device {
    pub fn new(
        options: &Options,
        transport: Arc<dyn Transport>,
        program: Program,
        events: mpsc::UnboundedSender<Event>,
        ear: Ear,
    ) -> Self {
        Self {
            transport,
            program,
            events,
            ear,
            session: Session::new(options.device_id, options.election_id),
            batch: options.target.batch,
            generation: 0,
            client: None,
            actual: Vec::new(),
        }
    }

    /// Sets out for the switch, after a pause.
    pub fn connect(&mut self, after: Duration) {
        self.generation += 1;
        let approach = Approach {
            transport: self.transport.clone(),
            program: self.program.clone(),
            events: self.events.clone(),
            ear: self.ear.clone(),
            session: self.session.clone(),
            generation: self.generation,
        };
        let events = self.events.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let up = approach.run().await;
            let _ = events.send(Event::Connected(Box::new(up)));
        });
    }

    /// From here on entries and packets are this program's.
    pub fn use_program(&mut self, program: Program) {
        self.program = program;
    }

    /// Gives the switch another program, where it may, and reads what it has kept; its counter cells only if
    /// `cells` must be read.
    pub fn load(&self, program: Program, cells: bool) {
        let Some(client) = self.client.clone() else {
            return;
        };
        let (events, generation) = (self.events.clone(), self.generation);
        tokio::spawn(async move {
            let loaded = Box::new(load(&client, &program, cells).await);
            let _ = events.send(Event::Loaded { generation, loaded });
        });
    }

    /// The other program is there.
    pub fn loaded(&mut self, loaded: Loaded) -> Found {
        self.actual = loaded.actual;
        loaded.found
    }

    /// Keys of idle entries.
    pub fn idle(&self, entries: &[TableEntry]) -> Vec<FlowKey> {
        (entries.iter())
            .filter_map(|e| self.program.encoder.decode_key(e))
            .collect()
    }

    pub fn connected(&mut self, up: Up) -> Found {
        self.client = Some(up.client);
        self.generation = up.generation;
        self.actual = up.actual;
        up.found
    }

    /// Whether the connection that was lost is the one in use.
    pub fn lost(&mut self, generation: u64) -> bool {
        if !self.is_current(generation) {
            return false;
        }
        self.client = None;
        true
    }

    /// Ends the connection from this side: the switch is not as it must be.
    pub fn give_up(&self, reason: String) {
        let generation = self.generation;
        let _ = self.events.send(Event::Lost { generation, reason });
    }

    /// Sends the packet that is to come back, and says when to look.
    pub async fn prove(&self, cpu_port: u16, tried: u32) {
        self.packet_out(proof::packet(cpu_port)).await;
        let (events, generation) = (self.events.clone(), self.generation);
        tokio::spawn(async move {
            tokio::time::sleep(proof::EVERY).await;
            let tried = tried + 1;
            let _ = events.send(Event::Prove { generation, tried });
        });
    }

    pub fn is_current(&self, generation: u64) -> bool {
        generation == self.generation
    }

    pub fn packet_in(&self, packet: PacketIn) -> Option<Packet> {
        match self.program.encoder.packet_in(packet) {
            Ok(packet) => Some(packet),
            Err(error) => {
                tracing::warn!(%error, "a packet-in is not of this program");
                None
            }
        }
    }

    pub async fn packet_out(&self, packet: Packet) {
        let Some(client) = &self.client else { return };
        match self.program.encoder.packet_out(packet) {
            Ok(packet) => {
                let Err(error) = client.try_packet_out(packet.clone()) else {
                    return;
                };
                // The way is full for the moment; when it is closed, the stream's end says so.
                if error.code == Code::ResourceExhausted {
                    let _ = client.packet_out(packet.payload, packet.metadata).await;
                }
            }
            Err(error) => tracing::warn!(%error, "a packet-out does not fit this program"),
        }
    }

    pub fn reconcile(&mut self, desired: Vec<Entry>) {
        let Some(client) = self.client.clone() else {
            return;
        };
        let (encoder, events) = (self.program.encoder.clone(), self.events.clone());
        let (generation, actual) = (self.generation, std::mem::take(&mut self.actual));
        tokio::spawn(async move {
            match bring_in_line(&client, &encoder, &desired, &actual).await {
                Ok(()) => {
                    let _ = events.send(Event::Reconciled { generation });
                }
                Err(error) => {
                    let reason = match error {
                        Lost::Switch(text) | Lost::Role(text) => text,
                        Lost::Program(error) => error.to_string(),
                    };
                    let _ = events.send(Event::Lost { generation, reason });
                }
            }
        });
    }

    pub fn write(&self, batch: u64, updates: &[Update]) {
        let Some(client) = self.client.clone() else {
            return;
        };
        let mut results: Vec<Result<(), WriteError>> = Vec::with_capacity(updates.len());
        let mut places = Vec::with_capacity(updates.len());
        let mut encoded = Vec::with_capacity(updates.len());
        for (place, update) in updates.iter().enumerate() {
            match self.program.encoder.update(update) {
                Ok(update) => {
                    places.push(place);
                    encoded.push(update);
                    results.push(Ok(()));
                }
                Err(error) => results.push(Err(WriteError::Refused(error.to_string()))),
            }
        }
        let options = WriteOptions {
            chunk: self.batch,
            ..WriteOptions::default()
        };
        let (events, generation) = (self.events.clone(), self.generation);
        tokio::spawn(async move {
            if let Err(error) = client.write_with(encoded, options).await {
                for failure in error.failures {
                    let place = places.get(failure.index).copied();
                    if let Some(result) = place.and_then(|p| results.get_mut(p)) {
                        *result = Err(match failure.code {
                            Code::AlreadyExists => WriteError::AlreadyExists,
                            Code::NotFound => WriteError::NotFound,
                            Code::ResourceExhausted => WriteError::Full,
                            _ => WriteError::Refused(failure.message),
                        });
                    }
                }
            }
            let _ = events.send(Event::Written {
                generation,
                batch,
                results,
            });
        });
    }

    pub fn read(&self, read: u64, cells: Vec<Cell>) {
        let Some(client) = self.client.clone() else {
            return;
        };
        let encoder = self.program.encoder.clone();
        let filters = cells.iter().map(|c| encoder.cell(*c)).collect();
        let events = self.events.clone();
        let generation = self.generation;
        tokio::spawn(async move {
            let read_cells = match client.read_all(filters).await {
                Ok(entities) => entities,
                Err(error) => {
                    tracing::warn!(%error, "counters cannot be read");
                    Vec::new()
                }
            };
            let by_cell: HashMap<Cell, _> = (read_cells.iter())
                .filter_map(|e| match e.entity.as_ref()? {
                    entity::Entity::CounterEntry(c) => Some((encoder.decode_cell(c)?.0, totals(c))),
                    _ => None,
                })
                .collect();
            let totals = cells.iter().map(|c| by_cell.get(c).copied()).collect();
            let _ = events.send(Event::Read {
                generation,
                read,
                totals,
            });
        });
    }
}

/// What it takes to reach a switch.
struct Approach {
    transport: Arc<dyn Transport>,
    program: Program,
    events: mpsc::UnboundedSender<Event>,
    ear: Ear,
    session: Session,
    generation: u64,
}

impl Approach {
    async fn run(self) -> Result<Up, Lost> {
        let (client, from_switch) =
            Client::open(self.transport.clone(), self.session.clone()).await?;
        if let Some(what) = taken_over(from_switch.standing()) {
            return Err(Lost::Role(what));
        }
        let fresh = self.pipeline(&client).await?;
        let (actual, found) = if fresh {
            (Vec::new(), Found::default())
        } else {
            read(&client, &self.program.encoder, true).await?
        };
        let device_id = self.session.device_id;
        tokio::spawn(async move {
            let silent = silent(self.transport.as_ref(), device_id);
            listen(from_switch, silent, self.generation, self.events, self.ear).await;
        });
        Ok(Up {
            client,
            generation: self.generation,
            actual,
            found,
        })
    }

    /// Makes sure that the right pipeline runs; says whether it was put there just now.
    async fn pipeline(&self, client: &Client) -> Result<bool, Lost> {
        let running = match client.get_pipeline(ResponseType::P4infoAndCookie).await {
            // bmv2's way to say that there is none.
            Err(error) if error.code == Code::FailedPrecondition => None,
            running => running.map_err(refused("to tell its pipeline"))?,
        };
        let program = &self.program;
        let same = running.as_ref().is_some_and(|config| {
            let cookie = config.cookie.as_ref().map(|c| c.cookie);
            let same_info = config.p4info.as_ref() == Some(&program.p4info);
            match program.pipeline {
                Pipeline::Push { .. } => cookie == Some(program.cookie) && same_info,
                Pipeline::Running => same_info,
            }
        });
        match &program.pipeline {
            _ if same => Ok(false),
            Pipeline::Push { device_config } => {
                client
                    .set_pipeline(
                        Action::VerifyAndCommit,
                        program.p4info.clone(),
                        device_config.clone(),
                        program.cookie,
                    )
                    .await
                    .map_err(refused("the pipeline"))?;
                Ok(true)
            }
            Pipeline::Running => Err(Lost::Switch(
                "the switch runs another pipeline than the policy's".into(),
            )),
        }
    }
}

async fn read(
    client: &Client,
    encoder: &Encoder,
    with_cells: bool,
) -> Result<(Vec<Entity>, Found), Lost> {
    let all = Entity {
        entity: Some(entity::Entity::TableEntry(TableEntry::default())),
    };
    let actual = (client.read_all(vec![all]).await).map_err(refused("to show its entries"))?;
    let cells = if with_cells {
        (client.read_all(encoder.all_cells()).await).map_err(refused("to show its counters"))?
    } else {
        Vec::new()
    };
    let entries = || {
        (actual.iter()).filter_map(|e| match e.entity.as_ref()? {
            entity::Entity::TableEntry(t) => Some(t),
            _ => None,
        })
    };
    let fixed = entries().filter_map(|t| encoder.decode_fixed(t)).collect();
    let neighbours = entries()
        .filter_map(|t| encoder.decode_neighbour(t))
        .collect();
    let cells = (cells.iter())
        .filter_map(|e| match e.entity.as_ref()? {
            entity::Entity::CounterEntry(c) => encoder.decode_cell(c),
            _ => None,
        })
        .filter(|(_, t)| t.packets != 0)
        .collect();
    let found = Found {
        fixed,
        neighbours,
        cells,
    };
    Ok((actual, found))
}

async fn load(client: &Client, program: &Program, cells: bool) -> Result<Loaded, String> {
    let Pipeline::Push { device_config } = &program.pipeline else {
        return Err(
            "the policy needs another pipeline, which somebody else puts onto this target: put it there and start again".into(),
        );
    };
    let set = |action| {
        client.set_pipeline(
            action,
            program.p4info.clone(),
            device_config.clone(),
            program.cookie,
        )
    };
    // Not every target can keep what it holds, nor keep all of it in every program.
    let shut = Instant::now();
    if set(Action::ReconcileAndCommit).await.is_ok()
        && let Ok((actual, found)) = read(client, &program.encoder, cells).await
    {
        return Ok(Loaded {
            actual,
            found,
            shut,
            reconciled: true,
            kept: !cells,
        });
    }
    let shut = Instant::now();
    (set(Action::VerifyAndCommit).await)
        .map_err(|error| format!("the switch refused the pipeline: {error}"))?;
    Ok(Loaded {
        actual: Vec::new(),
        found: Found::default(),
        shut,
        reconciled: false,
        kept: false,
    })
}

async fn bring_in_line(
    client: &Client,
    encoder: &Encoder,
    desired: &[Entry],
    actual: &[Entity],
) -> Result<(), Lost> {
    // A clone session cannot be read back everywhere: it is written, and may be there.
    let session = encoder.clone_session();
    let write = |kind: update::Type| signalbox_p4runtime::proto::p4::v1::Update {
        r#type: kind as i32,
        entity: Some(session.clone()),
    };
    if client
        .write(vec![write(update::Type::Insert)])
        .await
        .is_err()
    {
        (client.write(vec![write(update::Type::Modify)]).await)
            .map_err(|e| Lost::Switch(format!("the switch refused the clone session: {e}")))?;
    }
    let mut wanted = encoder.statics()?;
    for entry in desired {
        wanted.push(of_table(encoder.entry(entry)?));
    }
    // The ready entry stays if it is there: established flows go on while the agent is back to work.
    let ready = of_table(encoder.entry(&Entry::Ready)?);
    if is_there(&ready, actual) {
        wanted.push(ready);
    }
    let updates = reconcile(&wanted, actual);
    client
        .write(updates)
        .await
        .map_err(|e| Lost::Switch(format!("the switch refused static entries: {e}")))
}

fn is_there(wanted: &Entity, actual: &[Entity]) -> bool {
    let table = |e: &Entity| match e.entity.as_ref() {
        Some(entity::Entity::TableEntry(t)) => Some((t.table_id, t.r#match.clone())),
        _ => None,
    };
    let wanted = table(wanted);
    actual.iter().any(|e| table(e) == wanted)
}

/// Ends when the switch does not answer. Any answer is one: a device need not know the call.
async fn silent(transport: &dyn Transport, device_id: u64) -> String {
    loop {
        tokio::time::sleep(ASK).await;
        let answer = transport.capabilities(device_id);
        if tokio::time::timeout(SILENCE, answer).await.is_err() {
            return format!("it has not answered for {} s", SILENCE.as_secs());
        }
    }
}

async fn listen(
    mut from_switch: Events,
    silent: impl Future<Output = String>,
    generation: u64,
    events: mpsc::UnboundedSender<Event>,
    ear: Ear,
) {
    let mut silent = std::pin::pin!(silent);
    loop {
        let next = tokio::select! {
            biased;
            next = from_switch.next() => next,
            reason = &mut silent => {
                let _ = events.send(Event::Lost { generation, reason });
                return;
            }
        };
        match next {
            Ok(FromSwitch::Packet(packet)) => ear.hear(generation, Heard::Packet(packet)),
            Ok(FromSwitch::Idle(entries)) => ear.hear(generation, Heard::Idle(entries)),
            Ok(FromSwitch::Refused(error)) => {
                tracing::warn!(message = error.message, "the switch refused a packet");
            }
            Ok(FromSwitch::Standing(standing)) => {
                if let Some(reason) = taken_over(standing) {
                    let _ = events.send(Event::TakenOver { generation, reason });
                    return;
                }
            }
            Ok(FromSwitch::Digest(_)) => {}
            Err(error) => {
                let reason = error.to_string();
                let _ = events.send(Event::Lost { generation, reason });
                return;
            }
        }
        if events.is_closed() {
            return;
        }
    }
}
