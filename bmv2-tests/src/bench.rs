//! One target with an image on it, and what a scenario does with it: write entries, send packets, see
//! what comes out, read counters. Calls wait; the connection's tasks run behind them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use signalbox_lower::entries::{Match, PlannedEntry, Value as Planned, prefix_number};
use signalbox_lower::plan::Criterion;
use signalbox_p4runtime::proto::p4::config::v1::P4Info;
use signalbox_p4runtime::proto::p4::v1::set_forwarding_pipeline_config_request::Action;
use signalbox_p4runtime::proto::p4::v1::write_request::Atomicity;
use signalbox_p4runtime::proto::p4::v1::{
    CloneSessionEntry, CounterEntry, Entity, Index, PacketIn, PacketReplicationEngineEntry,
    Replica, TableEntry, Update, entity, packet_replication_engine_entry, replica, update,
};
use signalbox_p4runtime::value::Value;
use signalbox_p4runtime::{
    Catalog, Client, Event, RpcError, Session, Standing, WriteError, WriteOptions,
};
use signalbox_switch::runner::SwitchHandle;
use signalbox_switch::trace::{Event as Traced, Trace};
use signalbox_switch::{Output, Switch};
use tokio::runtime::Runtime;

use crate::carried::HEADER;
pub use crate::carried::{Carried, drop, kind};
use crate::image::Image;
use crate::targets::{Packets, Started, Target};
use crate::world::{Neighbour, World};

/// How long something that must come may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one packet came to, counted packets included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// What left, each with its port; the CPU port's begin with their header.
    pub out: Vec<(u16, Vec<u8>)>,
    /// Packets dropped, by reason.
    pub drops: BTreeMap<i64, u64>,
    /// The P4 control that said so, where a service dropped it and the switch is in this process.
    pub dropped_by: Option<String>,
}

/// One target with a pipeline.
pub struct Bench {
    /// The surroundings.
    pub world: World,
    /// The target.
    pub target: Target,
    catalog: Arc<Catalog>,
    client: Client,
    send: Box<dyn Fn(u16, Vec<u8>) + Send>,
    sent: Receiver<(u16, Vec<u8>)>,
    to_agent: Receiver<PacketIn>,
    idle: Receiver<Vec<TableEntry>>,
    switch: Option<SwitchHandle>,
    // Dropped last: the target's tasks run on it.
    _keep: Vec<Box<dyn std::any::Any + Send>>,
    runtime: Runtime,
}

impl Bench {
    /// Starts a target and loads the image; nothing is installed yet.
    pub fn bare(target: Target, image: &Image, world: &World) -> Bench {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let ports: Vec<u16> = image.plan.ports.iter().map(|port| port.number).collect();
        let Started {
            transport,
            device_id,
            packets: ports,
            switch,
            keep,
        } = runtime.block_on(target.start(&ports));
        let (packets, to_agent) = channel();
        let (notices, idle) = channel();
        let client = runtime.block_on(async {
            let session = Session::new(device_id, 1);
            let (client, mut events) = Client::open(transport, session).await.unwrap();
            assert_eq!(events.standing(), Standing::Primary);
            tokio::spawn(async move {
                while let Ok(event) = events.next().await {
                    // The scenario may be over before its events.
                    match event {
                        Event::Packet(packet) => drop(packets.send(packet)),
                        Event::Idle(entries) => drop(notices.send(entries)),
                        Event::Refused(error) => eprintln!("refused: {error:?}"),
                        Event::Standing(_) | Event::Digest(_) => {}
                    }
                }
            });
            client
        });
        let load = load(&client, &image.p4info, image.json.as_bytes());
        runtime.block_on(load).unwrap();
        let Packets { send, sent } = runtime.block_on(ports);
        Bench {
            world: world.clone(),
            target,
            catalog: Catalog::shared(image.p4info.clone()).unwrap(),
            client,
            send,
            sent,
            to_agent,
            idle,
            switch,
            _keep: keep,
            runtime,
        }
    }

    /// As [`Bench::bare`], with everything installed that an agent and its managers install at start-up:
    /// the plan's entries, next hops and routes to the client and the servers, the managers'
    /// criteria, the clone session, and `ready`.
    pub fn ready(target: Target, image: &Image, world: &World) -> Bench {
        let mut neighbours = vec![world.client];
        neighbours.extend(&world.servers);
        Bench::ready_with(target, image, world, &neighbours)
    }

    /// The same with other neighbours; static routes lead to those of their routers that are among them.
    pub fn ready_with(
        target: Target,
        image: &Image,
        world: &World,
        neighbours: &[Neighbour],
    ) -> Bench {
        let bench = Bench::bare(target, image, world);
        let plan = &bench.world.plan;
        let mut entries = plan.static_entries();
        for neighbour in neighbours {
            entries.push(next_hop_entry(neighbour));
            entries.push(route_entry(neighbour));
        }
        for route in &plan.routes {
            let via = neighbours.iter().find(|one| one.address == route.via);
            entries.extend(via.map(|via| PlannedEntry {
                matches: vec![("dst", Match::Lpm(route.prefix))],
                ..route_entry(via)
            }));
        }
        for service in &plan.services {
            for part in std::iter::once(&service.forward).chain(&service.reply) {
                let criteria = part.criteria.iter().filter(|one| !one.is_static());
                entries.extend(criteria.flat_map(|one| asking(part, one)));
            }
        }
        entries.push(plan.ready_entry());
        bench.install(&entries);
        bench.add_clone_session();
        bench
    }

    /// Inserts entries.
    pub fn install(&self, entries: &[PlannedEntry]) {
        let result = self.write(update::Type::Insert, entries);
        if let Err(error) = result {
            panic!("{}", error.explain(&self.catalog, 5));
        }
    }

    /// Inserts entries that the target is to report when no packet has met them for so long.
    pub fn install_ageing(&self, entries: &[PlannedEntry], after: Duration) {
        let after = i64::try_from(after.as_nanos()).unwrap();
        let updates = entries.iter().map(|entry| TableEntry {
            idle_timeout_ns: after,
            ..self.encode(entry)
        });
        let updates = updates.map(|entry| update(update::Type::Insert, entry));
        let written = self.client.write(updates.collect());
        if let Err(error) = self.runtime.block_on(written) {
            panic!("{}", error.explain(&self.catalog, 5));
        }
    }

    /// Inserts all entries, or none.
    ///
    /// # Errors
    /// The target's refusal.
    pub fn install_as_one(&self, entries: &[PlannedEntry]) -> Result<(), WriteError> {
        let updates = entries.iter().map(|entry| self.encode(entry));
        let updates = updates.map(|entry| update(update::Type::Insert, entry));
        let options = WriteOptions {
            atomicity: Atomicity::RollbackOnError,
            ..WriteOptions::default()
        };
        self.runtime
            .block_on(self.client.write_with(updates.collect(), options))
    }

    /// Deletes entries.
    pub fn remove(&self, entries: &[PlannedEntry]) {
        let result = self.write(update::Type::Delete, entries);
        if let Err(error) = result {
            panic!("{}", error.explain(&self.catalog, 5));
        }
    }

    /// Writes entries.
    ///
    /// # Errors
    /// The target's refusals.
    pub fn write(&self, how: update::Type, entries: &[PlannedEntry]) -> Result<(), WriteError> {
        let updates = entries
            .iter()
            .map(|entry| update(how, self.encode(entry)))
            .collect();
        self.runtime.block_on(self.client.write(updates))
    }

    fn encode(&self, entry: &PlannedEntry) -> TableEntry {
        let bits = self.world.plan.address_bits;
        let mut builder = self.catalog.entry(&entry.table).priority(entry.priority);
        for (name, key) in &entry.matches {
            builder = match *key {
                Match::Exact(value) => builder.exact(name, Value::from(value.number(bits).0)),
                Match::Ternary { value, mask } => builder.ternary(
                    name,
                    Value::from(value.number(bits).0),
                    Value::from(mask.mask_number(bits).0),
                ),
                Match::Lpm(prefix) => {
                    let (value, length) = prefix_number(prefix, bits);
                    builder.lpm(name, Value::from(value), usize::from(length))
                }
            };
        }
        let params = entry
            .params
            .iter()
            .map(|(name, value)| (*name, Value::from(value.number(bits).0)));
        builder.action(&entry.action, params).build().unwrap()
    }

    #[allow(
        deprecated,
        reason = "simple_switch_grpc takes the number, not the bytes"
    )]
    fn add_clone_session(&self) {
        let plan = &self.world.plan;
        let session = CloneSessionEntry {
            session_id: plan.notice_session,
            replicas: vec![Replica {
                instance: 1,
                port_kind: Some(replica::PortKind::EgressPort(u32::from(plan.cpu_port))),
                ..Replica::default()
            }],
            ..CloneSessionEntry::default()
        };
        let entry = PacketReplicationEngineEntry {
            r#type: Some(packet_replication_engine_entry::Type::CloneSessionEntry(
                session,
            )),
        };
        let update = Update {
            r#type: update::Type::Insert as i32,
            entity: Some(Entity {
                entity: Some(entity::Entity::PacketReplicationEngineEntry(entry)),
            }),
        };
        self.runtime
            .block_on(self.client.write(vec![update]))
            .unwrap();
    }

    /// Lets a frame arrive at a port.
    pub fn send(&self, port: u16, frame: &[u8]) {
        (self.send)(port, frame.to_vec());
    }

    /// The next frame that leaves, which must leave by this port.
    pub fn expect(&self, port: u16) -> Vec<u8> {
        match self.sent.recv_timeout(PATIENCE) {
            Ok((by, frame)) => {
                assert_eq!(by, port, "the frame left by port {by}: {frame:02x?}");
                frame
            }
            Err(_) => panic!(
                "no frame left by port {port}; dropped: {:?}, to the agent: {:?}",
                self.drops(),
                self.to_agent.try_recv()
            ),
        }
    }

    /// The next packet for the agent.
    pub fn expect_to_agent(&self) -> (Carried, Vec<u8>) {
        match self.to_agent.recv_timeout(PATIENCE) {
            Ok(packet) => self.carried(&packet),
            Err(_) => panic!(
                "nothing came to the agent; dropped: {:?}, left: {:?}",
                self.drops(),
                self.sent.try_recv()
            ),
        }
    }

    /// What a packet for the agent carries, and the packet.
    fn carried(&self, packet: &PacketIn) -> (Carried, Vec<u8>) {
        let header = self.catalog.header("packet_in").unwrap();
        let of = |name: &str| {
            let value = header.get(&packet.metadata, name).unwrap();
            value.to_u64().unwrap()
        };
        let carried = Carried {
            kind: of("kind"),
            part: of("part"),
            reply: of("reply"),
            answered: of("answered"),
            mark_set: of("mark_set"),
            mark: of("mark"),
            stage: of("stage"),
            port: of("port"),
            next_hop: of("next_hop"),
            tunnel: of("tunnel"),
            notices: of("notices"),
            entry: of("entry"),
        };
        (carried, packet.payload.to_vec())
    }

    /// Lets one frame arrive and says what it came to: on the embedded switch at once, past ports and
    /// P4Runtime, else by waiting for what comes out or is counted. At port 510 the frame begins with
    /// the header of a packet-out. What is dropped is dropped, whether or not the agent is shown it.
    pub fn pass(&self, port: u16, frame: &[u8]) -> Pass {
        match &self.switch {
            Some(switch) => {
                let frame = frame.to_vec();
                let pass = switch.call_blocking(move |switch, now| step(switch, now, port, &frame));
                pass.unwrap()
            }
            None => self.pass_by_ports(port, frame),
        }
    }

    fn pass_by_ports(&self, port: u16, frame: &[u8]) -> Pass {
        let before: BTreeMap<i64, i64> = self.drops().into_iter().collect();
        if port == self.world.plan.cpu_port {
            let (carried, packet) = Carried::parse(frame);
            self.packet_out(&carried, packet);
        } else {
            self.send(port, frame);
        }
        let mut pass = Pass {
            out: Vec::new(),
            drops: BTreeMap::new(),
            dropped_by: None,
        };
        let end = Instant::now() + PATIENCE;
        while pass.out.is_empty() && pass.drops.is_empty() {
            assert!(
                Instant::now() < end,
                "port {port}: nothing became of {frame:02x?}"
            );
            pass.out
                .extend(self.sent.recv_timeout(Duration::from_millis(3)));
            while let Ok(packet) = self.to_agent.try_recv() {
                let (carried, packet) = self.carried(&packet);
                if carried.kind == kind::UNDELIVERED {
                    continue;
                }
                let bytes = [&carried.bytes()[..], &packet].concat();
                pass.out.push((self.world.plan.cpu_port, bytes));
            }
            if pass.out.is_empty() {
                pass.drops = self
                    .drops()
                    .into_iter()
                    .map(|(reason, after)| (reason, after - before.get(&reason).unwrap_or(&0)))
                    .filter(|(_, packets)| *packets > 0)
                    .map(|(reason, packets)| (reason, packets.unsigned_abs()))
                    .collect();
            }
        }
        pass
    }

    /// Fails if anything comes out by a port or to the agent.
    pub fn expect_nothing(&self) {
        let wait = match self.target {
            Target::Embedded | Target::Quirks => Duration::from_millis(30),
            Target::Grpc => Duration::from_millis(100),
            Target::Bmv2 => Duration::from_millis(300),
        };
        match self.sent.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) => {}
            other => panic!("something left: {other:02x?}"),
        }
        if let Ok(packet) = self.to_agent.try_recv() {
            panic!("something came to the agent: {packet:02x?}");
        }
    }

    /// Sends a packet as the agent.
    pub fn packet_out(&self, carried: &Carried, frame: &[u8]) {
        let header = self.catalog.header("packet_out").unwrap();
        let values = carried.values();
        let fields = Carried::names()
            .into_iter()
            .zip(values)
            .map(|(name, value)| (name, Value::from(u128::from(value))));
        let metadata = header.pack(fields).unwrap();
        self.runtime
            .block_on(self.client.packet_out(frame.to_vec(), metadata))
            .unwrap();
    }

    /// Packets and bytes in one cell of a counter.
    pub fn counter(&self, name: &str, index: i64) -> (i64, i64) {
        let counter_id = self.catalog.counters.named(name).unwrap().id;
        let filter = vec![counter_cell(counter_id, index)];
        let found = self.runtime.block_on(self.client.read_all(filter)).unwrap();
        match found.into_iter().next().and_then(|one| one.entity) {
            Some(entity::Entity::CounterEntry(entry)) => {
                let data = entry.data.unwrap_or_default();
                (data.packet_count, data.byte_count)
            }
            other => panic!("{other:?} is no counter"),
        }
    }

    /// Packets and bytes in some cells of a counter of the embedded switch, added up.
    ///
    /// # Panics
    /// It is another target.
    pub fn cells(&self, name: &str, cells: Vec<usize>) -> (u64, u64) {
        let name = name.to_owned();
        let sum = move |switch: &mut Switch, _| {
            let counter = switch.schema().counter(&name).unwrap();
            let values = (cells.iter()).map(|cell| switch.counter_read(counter, *cell).unwrap());
            values.fold((0, 0), |(packets, bytes), value| {
                (packets + value.packets, bytes + value.bytes)
            })
        };
        let switch = self.switch.as_ref().expect("the embedded switch");
        switch.call_blocking(sum).unwrap()
    }

    /// Packets dropped, by reason.
    pub fn drops(&self) -> Vec<(i64, i64)> {
        let counter_id = self.catalog.counters.named("Ingress.drops").unwrap().id;
        let filters = (1..=10).map(|index| counter_cell(counter_id, index));
        let read = self.client.read_all(filters.collect());
        let found = self.runtime.block_on(read).unwrap();
        found
            .into_iter()
            .filter_map(|one| match one.entity {
                Some(entity::Entity::CounterEntry(cell)) => {
                    Some((cell.index?.index, cell.data?.packet_count))
                }
                _ => None,
            })
            .filter(|(_, packets)| *packets > 0)
            .collect()
    }

    /// Sends a frame that must be dropped for this reason, and counted so.
    pub fn expect_drop(&self, port: u16, frame: &[u8], reason: i64) {
        self.expect_counted(port, frame, reason);
        if let Ok(packet) = self.to_agent.try_recv() {
            panic!("something came to the agent: {packet:02x?}");
        }
    }

    /// Sends a frame that must be dropped for this reason, counted so, and shown to the agent as it is.
    pub fn expect_undelivered(&self, port: u16, frame: &[u8], reason: i64) {
        self.expect_counted(port, frame, reason);
        let (carried, packet) = self.expect_to_agent();
        assert_eq!(carried.kind, kind::UNDELIVERED);
        assert_eq!(carried.port, u64::from(port));
        assert_eq!(packet, frame);
    }

    fn expect_counted(&self, port: u16, frame: &[u8], reason: i64) {
        let before = self.counter("Ingress.drops", reason).0;
        self.send(port, frame);
        let end = Instant::now() + PATIENCE;
        let mut after = before;
        while after == before && Instant::now() < end {
            after = self.counter("Ingress.drops", reason).0;
        }
        assert_eq!(after, before + 1, "dropped: {:?}", self.drops());
        // What is counted has left ingress; nothing may follow it out.
        match self.sent.recv_timeout(Duration::from_millis(20)) {
            Err(RecvTimeoutError::Timeout) => {}
            other => panic!("something left: {other:02x?}"),
        }
    }

    /// Waits until the target has reported all of these entries as idle.
    pub fn expect_idle(&self, entries: &[PlannedEntry]) {
        let end = Instant::now() + PATIENCE;
        let mut awaited: Vec<TableEntry> = entries.iter().map(|one| self.encode(one)).collect();
        while !awaited.is_empty() {
            assert!(Instant::now() < end, "not reported: {awaited:?}");
            if let Ok(notice) = self.idle.recv_timeout(Duration::from_millis(100)) {
                awaited.retain(|one| {
                    let of_it = |idle: &TableEntry| {
                        (idle.table_id, &idle.r#match) == (one.table_id, &one.r#match)
                    };
                    !notice.iter().any(of_it)
                });
            }
        }
    }
}

fn update(how: update::Type, entry: TableEntry) -> Update {
    Update {
        r#type: how as i32,
        entity: Some(Entity {
            entity: Some(entity::Entity::TableEntry(entry)),
        }),
    }
}

fn counter_cell(counter_id: u32, index: i64) -> Entity {
    Entity {
        entity: Some(entity::Entity::CounterEntry(CounterEntry {
            counter_id,
            index: Some(Index { index }),
            data: None,
        })),
    }
}

/// One frame through a switch, and the drops that it counted.
fn step(switch: &mut Switch, now: u64, port: u16, frame: &[u8]) -> Pass {
    let counter = switch.schema().counter("Ingress.drops").unwrap();
    let drops = |switch: &Switch| {
        let cell = |cell| switch.counter_read(counter, cell).unwrap().packets;
        (0..16).map(cell).collect::<Vec<_>>()
    };
    let before = drops(switch);
    let mut output = Output::new();
    // As the switch's own P4Runtime server: the header of a packet-out is not counted.
    let length = match port {
        510 => frame.len() - HEADER,
        _ => frame.len(),
    };
    let trace = switch.step_traced(now, port, frame, Some(length as u32), &mut output);
    let after = drops(switch);
    let counted = after
        .iter()
        .zip(before)
        .map(|(after, before)| after - before);
    let drops: BTreeMap<i64, u64> = (0..)
        .zip(counted)
        .filter(|(_, packets)| *packets > 0)
        .collect();
    let shown =
        |port: u16, bytes: &[u8]| port == 510 && Carried::parse(bytes).0.kind == kind::UNDELIVERED;
    let out = (output.packets())
        .filter(|one| !shown(one.port, one.bytes))
        .map(|one| (one.port, one.bytes.to_vec()))
        .collect();
    let dropped_by = drops
        .contains_key(&drop::SERVICE)
        .then(|| dropping_control(&trace));
    Pass {
        out,
        drops,
        dropped_by,
    }
}

/// The control whose action was the last one of a service, on the way of a frame that one dropped.
fn dropping_control(trace: &Trace) -> String {
    let mut actions = trace.events.iter().rev().filter_map(|event| match event {
        Traced::Action { name, .. } => Some(name.as_str()),
        _ => None,
    });
    let last = actions.find(|name| name.ends_with(".discard") || name.ends_with(".ask"));
    let (control, _) = last.expect("a service's action").rsplit_once('.').unwrap();
    control.to_owned()
}

async fn load(client: &Client, p4info: &P4Info, json: &[u8]) -> Result<(), RpcError> {
    let json = json.to_vec();
    client
        .set_pipeline(Action::VerifyAndCommit, p4info.clone(), json, 7)
        .await
}

/// A number as a parameter or key of that width.
pub fn bits(value: impl Into<u64>, width: u16) -> Planned {
    Planned::Bits {
        value: value.into(),
        width,
    }
}

fn mac(bytes: [u8; 6]) -> Planned {
    let number = bytes
        .into_iter()
        .fold(0u64, |number, byte| number << 8 | u64::from(byte));
    bits(number, 48)
}

/// The next hop to a neighbour, by a link that takes any packet of a test: the evaluator knows no MTU.
pub fn next_hop_entry(neighbour: &Neighbour) -> PlannedEntry {
    PlannedEntry {
        table: "Ingress.next_hop".into(),
        matches: vec![("next_hop", Match::Exact(bits(neighbour.next_hop, 16)))],
        priority: 0,
        action: "Ingress.send".into(),
        params: vec![
            ("port", bits(neighbour.port, 9)),
            ("src", mac(neighbour.router_mac)),
            ("dst", mac(neighbour.mac)),
            ("mtu", bits(9000u16, 16)),
        ],
    }
}

/// The route to a neighbour, by its next hop.
pub fn route_entry(neighbour: &Neighbour) -> PlannedEntry {
    PlannedEntry {
        table: "Ingress.route".into(),
        matches: vec![("dst", Match::Lpm(neighbour.address.into()))],
        priority: 0,
        action: "Ingress.to_next_hop".into(),
        params: vec![("id", bits(neighbour.next_hop, 16))],
    }
}

/// The entries by which a manager asks for the packets of a criterion.
fn asking(part: &signalbox_lower::plan::PartPlan, criterion: &Criterion) -> Vec<PlannedEntry> {
    ask_entries(part, criterion, ALL_EVENTS, 0)
}

/// The event that is in every packet.
pub const ALL_EVENTS: u16 = 512;

/// The entries by which a manager asks for packets, and for notices, of a criterion.
pub fn ask_entries(
    part: &signalbox_lower::plan::PartPlan,
    criterion: &Criterion,
    packet_events: u16,
    notice_events: u16,
) -> Vec<PlannedEntry> {
    let control = part.criteria_table.rsplit_once('.').unwrap().0;
    criterion
        .cubes
        .iter()
        .map(|cube| PlannedEntry {
            table: part.criteria_table.clone(),
            matches: cube.matches(),
            priority: 1000,
            action: format!("{control}.ask"),
            params: vec![
                ("packet_events", bits(packet_events, 10)),
                ("notice_events", bits(notice_events, 10)),
                ("else_drop", bits(0u8, 1)),
                ("entry", bits(criterion.id, 32)),
                ("slot", bits(criterion.id, 32)),
            ],
        })
        .collect()
}
