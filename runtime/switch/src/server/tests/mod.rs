//! The server over the in-process transport, on a program with one of everything.

mod entries;
mod grpc;
mod initial;
mod objects;
mod pipeline;
mod quirks;
mod stream;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use signalbox_p4runtime::{
    Catalog, Client, Code, Event, Events, RpcError, Session, Standing, Transport, Value,
    WriteError,
    client::uint128,
    proto::p4::v1::{
        Entity, ReadRequest, TableEntry, Update, WriteRequest, entity,
        set_forwarding_pipeline_config_request::Action, update, write_request::Atomicity,
    },
    text,
};

use super::{Device, Options};
use crate::{
    Config, Micros, Quirks, Switch,
    ports::MemoryPort,
    runner::{Clock, Runner},
};

pub(super) const JSON: &str = include_str!("fixture.json");
pub(super) const INFO: &str = include_str!("fixture.p4info.txtpb");
const CPU_PORT: u16 = 510;

/// A clock that the test moves.
#[derive(Clone, Default)]
struct TestClock(Arc<AtomicU64>);

impl Clock for TestClock {
    fn now(&self) -> Micros {
        self.0.load(Ordering::SeqCst)
    }
}

type Sent = Arc<Mutex<Vec<(u16, Vec<u8>)>>>;

/// A running switch with ports in memory, its server, and a controller that is primary.
struct Lab {
    runner: Runner,
    clock: TestClock,
    device: Device,
    catalog: Arc<Catalog>,
    client: Client,
    events: Events,
    sent: Sent,
}

impl Lab {
    async fn start() -> Lab {
        Lab::with(Quirks::default()).await
    }

    async fn with(quirks: Quirks) -> Lab {
        let mut lab = Lab::bare(quirks).await;
        lab.push(Action::VerifyAndCommit, 7).await.unwrap();
        lab
    }

    /// Without pipeline.
    async fn bare(quirks: Quirks) -> Lab {
        let config = Config {
            cpu_port: Some(CPU_PORT),
            quirks,
            ..Config::default()
        };
        let clock = TestClock::default();
        let runner = Runner::start(Switch::new(config), Box::new(clock.clone())).unwrap();
        let handle = runner.handle();
        let sent = Sent::default();
        for port in 0..8 {
            let sent = Arc::clone(&sent);
            let sink = move |packet: &[u8]| sent.lock().unwrap().push((port, packet.to_vec()));
            handle
                .add_port(port, Box::new(MemoryPort::new(sink)))
                .unwrap();
        }
        let device = Device::start(handle, Options::default()).await.unwrap();
        let (client, events) = Client::open(Arc::new(device.clone()), Session::new(1, 10))
            .await
            .unwrap();
        assert_eq!(events.standing(), Standing::Primary);
        Lab {
            runner,
            clock,
            device,
            catalog: Catalog::shared(text::parse_p4info(INFO).unwrap()).unwrap(),
            client,
            events,
            sent,
        }
    }

    async fn push(&mut self, action: Action, cookie: u64) -> Result<(), RpcError> {
        self.client
            .set_pipeline(
                action,
                self.catalog.p4info().clone(),
                JSON.as_bytes().to_vec(),
                cookie,
            )
            .await
    }

    /// Lets a packet arrive and gives what leaves by the ports because of it.
    async fn packet(&self, port: u16, packet: &[u8]) -> Vec<(u16, Vec<u8>)> {
        self.runner.handle().inject(port, packet.to_vec()).unwrap();
        self.settle().await
    }

    /// Waits until the switch has done what it was asked, and gives what left since the last time.
    async fn settle(&self) -> Vec<(u16, Vec<u8>)> {
        self.runner.handle().call(|_, _| ()).await.unwrap();
        std::mem::take(&mut self.sent.lock().unwrap())
    }

    async fn event(&mut self) -> Event {
        tokio::time::timeout(Duration::from_secs(5), self.events.next())
            .await
            .expect("an event within 5 seconds")
            .unwrap()
    }

    async fn write(&self, updates: Vec<Update>) -> Result<(), WriteError> {
        self.client.write(updates).await
    }

    /// Writes one update, and gives code and message of its refusal.
    async fn refused(&self, update: Update) -> (Code, String) {
        let mut error = self.client.write(vec![update]).await.unwrap_err();
        let failure = error.failures.remove(0);
        (failure.code, failure.message)
    }

    async fn read(&self, filter: entity::Entity) -> Vec<entity::Entity> {
        self.client
            .read_all(vec![entity_of(filter)])
            .await
            .unwrap()
            .into_iter()
            .filter_map(|e| e.entity)
            .collect()
    }

    async fn read_refused(&self, filter: entity::Entity) -> (Code, String) {
        let error = self
            .client
            .read_all(vec![entity_of(filter)])
            .await
            .unwrap_err();
        let update = error.updates.first().expect("an error a filter").clone();
        (
            signalbox_p4runtime::rpc::code_of(update.canonical_code),
            update.message,
        )
    }

    /// The entries of a table, or of all.
    async fn entries(&self, filter: TableEntry) -> Vec<TableEntry> {
        self.read(entity::Entity::TableEntry(filter))
            .await
            .into_iter()
            .map(|e| match e {
                entity::Entity::TableEntry(entry) => entry,
                other => panic!("not an entry: {other:?}"),
            })
            .collect()
    }

    /// A whole batch in one call.
    async fn batch(&self, updates: Vec<Update>, atomicity: Atomicity) -> Result<(), RpcError> {
        self.device
            .write(Arc::new(WriteRequest {
                device_id: 1,
                election_id: Some(uint128(10)),
                updates,
                atomicity: atomicity as i32,
                ..WriteRequest::default()
            }))
            .await
    }

    fn id(&self, table: &str) -> u32 {
        self.catalog.table(table).unwrap().id
    }

    fn l2(&self, dst: u64, port: u16) -> TableEntry {
        self.catalog
            .entry("l2")
            .exact("hdr.ethernet.dst", dst)
            .action("forward", [("port", port.into())])
            .build()
            .unwrap()
    }
}

fn entity_of(entity: entity::Entity) -> Entity {
    Entity {
        entity: Some(entity),
    }
}

fn update(kind: update::Type, entity: entity::Entity) -> Update {
    Update {
        r#type: kind as i32,
        entity: Some(entity_of(entity)),
    }
}

fn insert(entry: TableEntry) -> Update {
    update(update::Type::Insert, entity::Entity::TableEntry(entry))
}

fn modify(entry: TableEntry) -> Update {
    update(update::Type::Modify, entity::Entity::TableEntry(entry))
}

fn delete(entry: TableEntry) -> Update {
    update(update::Type::Delete, entity::Entity::TableEntry(entry))
}

/// An Ethernet frame of 60 bytes.
fn frame(dst: u64, src: u64, kind: u16) -> Vec<u8> {
    let mut bytes = dst.to_be_bytes()[2..].to_vec();
    bytes.extend_from_slice(&src.to_be_bytes()[2..]);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.resize(60, 0);
    bytes
}

fn value(n: u64) -> Value {
    Value::from(n)
}

async fn raw_read(device: &Device, request: ReadRequest) -> Result<(), RpcError> {
    use futures::TryStreamExt;
    let stream = device.read(request).await?;
    stream.try_for_each(|_| async { Ok(()) }).await
}
