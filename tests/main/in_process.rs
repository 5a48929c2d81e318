//! The scenario of `programs` without root: the same policy with switch, agent and manager in this
//! process, and hosts in memory in place of machines.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use signalbox::control::Request;
use signalbox::hosts::{ConnectionId, Host, HostIndex, Network, Page, ServerId, Speaks, Watched};
use signalbox::image;
use signalbox::service::{Pipeline, RunningTarget, Service};
use signalbox_switch::Quirks;
use signalbox_switch::ports::{MemoryPort, Port};
use tokio::runtime::Runtime;

use crate::programs::capture::Tally;
use crate::programs::site::{POLICY, SERVERS};

/// A service with its surroundings.
struct World {
    network: Network,
    client: HostIndex,
    servers: Vec<(HostIndex, ServerId)>,
    /// By the client's port: frames from the client and to it, at the switch.
    seen: Arc<Mutex<BTreeMap<u16, (Tally, Tally)>>>,
    service: Service,
    runtime: Runtime,
    next_port: u16,
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn to_service() -> SocketAddr {
    SocketAddr::new(address("203.0.113.80"), 80)
}

impl World {
    /// Starts everything, and waits until the servers have been checked.
    fn start(speaks: &Speaks, quirks: Option<Quirks>) -> Self {
        let policy = signalbox_policy::check(POLICY, "site.policy")
            .policy
            .unwrap();
        let compiled = image::compile(policy).unwrap();
        let plan = &compiled.lowered.plan;
        let runtime = Runtime::new().unwrap();
        let service = runtime.block_on(async {
            let numbers = plan.ports.iter().map(|port| port.number).collect();
            let target = RunningTarget::embedded(numbers, plan.cpu_port, quirks)
                .await
                .unwrap();
            let pipeline = Pipeline::Push {
                device_config: compiled.image.json.clone().into_bytes(),
            };
            Service::start(&compiled, target, pipeline).await.unwrap()
        });
        let switch = service.view().switch().cloned().unwrap();
        let (mut network, arrivals) =
            Network::new(move |port, frame| switch.inject(port, frame).unwrap());
        let ports = plan.ports.iter().map(|port| {
            let sink = MemoryPort::new(arrivals.sink(port.number));
            (port.number, Box::new(sink) as Box<dyn Port>)
        });
        service.attach(ports.collect()).unwrap();
        let host = |name: &str, number: u8, own: &str, router: &str| {
            let mac = [2, 0, 0, 0, 1, number];
            Host::new(name, mac, &[(address(own), 24)], &[address(router)]).unwrap()
        };
        let client = network.attach(1, host("client", 1, "203.0.113.9", "203.0.113.1"));
        let mut servers = Vec::new();
        for (number, name) in (1u8..).zip(SERVERS) {
            let own = format!("10.0.{number}.10");
            let router = format!("10.0.{number}.1");
            let mut host = host(name, number + 1, &own, &router);
            let server = host.serve(name, 8080, speaks.clone());
            servers.push((network.attach(u16::from(number) + 1, host), server));
        }
        let seen: Arc<Mutex<BTreeMap<u16, (Tally, Tally)>>> = Arc::default();
        let tallies = Arc::clone(&seen);
        network.set_watch(move |watched| tally(&mut tallies.lock().unwrap(), watched));
        network.run_until(Duration::from_millis(1_500), |_| false);
        Self {
            network,
            client,
            servers,
            seen,
            service,
            runtime,
            next_port: 40_000,
        }
    }

    fn client(&mut self) -> &mut Host {
        self.network.host(self.client).unwrap()
    }

    fn port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Host) -> bool) {
        let client = self.client;
        let over = self.network.run_until(Duration::from_secs(60), |network| {
            done(network.host(client).unwrap())
        });
        assert!(over, "waited in vain for {what}");
    }

    fn ask(&self, request: Request) -> Value {
        let view = self.service.view();
        self.runtime.block_on(view.answer(request)).unwrap()
    }

    /// Opens a connection that stays, and gives the name of the server that answers on it.
    fn talk(&mut self) -> (ConnectionId, String) {
        let port = self.port();
        let id = self
            .client()
            .connect(port, to_service(), b"hello\n")
            .unwrap();
        self.run_until("an answer", |host| {
            host.received(id).is_none_or(|heard| heard.ends_with(b"\n"))
        });
        let heard = self
            .client()
            .received(id)
            .expect("an open connection")
            .to_vec();
        let text = String::from_utf8(heard).unwrap();
        (id, text.split_once(": hello\n").unwrap().0.to_owned())
    }

    /// Whether a connection still answers.
    fn answers(&mut self, id: ConnectionId) -> bool {
        let before = self.client().received(id).map_or(0, <[u8]>::len);
        self.client().send(id, b"again\n");
        let client = self.client;
        self.network.run_until(Duration::from_secs(3), |network| {
            let heard = network.host(client).unwrap().received(id);
            heard.is_some_and(|heard| heard.len() > before && heard.ends_with(b"again\n"))
        })
    }
}

/// Counts what crosses the clients' port between the client and the service by TCP.
fn tally(seen: &mut BTreeMap<u16, (Tally, Tally)>, watched: Watched<'_>) {
    let frame = watched.frame;
    if watched.port != 1 || frame[12..14] != [8, 0] || frame[23] != 6 {
        return;
    }
    let tcp = 14 + usize::from(frame[14] & 15) * 4;
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let tally = if watched.to_switch {
        &mut seen.entry(port(tcp)).or_default().0
    } else {
        &mut seen.entry(port(tcp + 2)).or_default().1
    };
    tally.packets += 1;
    tally.bytes += frame.len() as u64;
}

fn tally_of(flow: &Value, direction: &str) -> Tally {
    let number = |name: &str| {
        let found = flow.pointer(&format!("/{direction}/{name}"));
        found
            .and_then(Value::as_u64)
            .unwrap_or_else(|| panic!("no {direction} {name} in {flow}"))
    };
    Tally {
        packets: number("packets"),
        bytes: number("bytes"),
    }
}

fn requests_are_balanced_and_counted(quirks: Option<Quirks>) {
    let mut world = World::start(&Speaks::Http(Page::Named(600)), quirks);
    for _ in 0..300 {
        let port = world.port();
        world.client().get(port, to_service()).unwrap();
        world.run_until("room", |host| host.open_connections() < 8);
    }
    world.run_until("the last answers", |host| host.open_connections() == 0);
    let finished = world.client().take_finished();
    let mut by_server = BTreeMap::new();
    for one in &finished {
        assert!(one.is_good_http(), "{:?} after {:?}", one.ending, one.took);
        *by_server
            .entry(one.server().unwrap().to_owned())
            .or_insert(0) += 1;
    }
    assert_eq!(finished.len(), 300);
    for (server, share) in SERVERS.iter().zip([50.0, 25.0, 25.0]) {
        let got = f64::from(by_server[*server]) / 3.0;
        assert!((got - share).abs() <= 10.0, "{server} got {got} %");
    }

    // The last packets of the last connection may still be on their way.
    world
        .network
        .run_until(Duration::from_millis(300), |_| false);
    let status = world.ask(Request::Status);
    let counters = &status["agent"]["counters"];
    assert_eq!(counters["interests"], 300);
    assert_eq!(
        counters["misses"], 300,
        "a packet of an established flow met the agent"
    );
    let flows = world.ask(Request::Flows);
    let flows = flows.as_array().unwrap();
    assert_eq!(flows.len(), 300);
    let seen = world.seen.lock().unwrap();
    for flow in flows {
        let client_port = flow["flow"]["sport"].as_u64().unwrap() as u16;
        let counted = (tally_of(flow, "forward"), tally_of(flow, "reply"));
        assert_eq!(counted, seen[&client_port], "client port {client_port}");
    }
}

#[test]
fn three_hundred_requests_are_balanced_and_counted_in_process() {
    requests_are_balanced_and_counted(None);
}

#[test]
fn three_hundred_requests_are_balanced_and_counted_with_the_limits_of_bmv2() {
    requests_are_balanced_and_counted(Some(Quirks::simple_switch_grpc()));
}

#[test]
fn a_download_arrives_whole_and_pings_are_answered_in_process() {
    let bytes: Arc<[u8]> = (0..4_000_000u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut world = World::start(&Speaks::Http(Page::Bytes(Arc::clone(&bytes))), None);
    let port = world.port();
    world.client().get(port, to_service()).unwrap();
    world.run_until("the download", |host| host.open_connections() == 0);
    let finished = world.client().take_finished();
    assert!(finished[0].is_good_http() || finished[0].body().is_some());
    assert!(
        finished[0].body() == Some(&bytes),
        "the download is not what was sent"
    );
    world
        .client()
        .ping(to_service().ip(), 77, 1, b"are you there")
        .unwrap();
    let mut pongs = Vec::new();
    world.run_until("a pong", |host| {
        pongs.extend(host.take_pongs());
        !pongs.is_empty()
    });
    assert_eq!(
        (pongs[0].from, pongs[0].identifier),
        (to_service().ip(), 77)
    );
}

#[test]
fn the_death_of_a_server_and_of_the_manager_harm_nobody_else_in_process() {
    let mut world = World::start(&Speaks::Lines, None);
    let talks: Vec<(ConnectionId, String)> = (0..8).map(|_| world.talk()).collect();
    let dead = SERVERS[1];
    assert!(talks.iter().any(|(_, server)| server == dead));
    let (host, server) = world.servers[1];
    world.network.host(host).unwrap().stop(server);
    // A check every second, a time-out of half a second, three failures in a row.
    world.network.run_until(Duration::from_secs(5), |_| false);
    for _ in 0..20 {
        assert_ne!(world.talk().1, dead);
    }
    let alive: Vec<ConnectionId> = talks
        .iter()
        .filter(|(_, server)| server != dead)
        .map(|(id, _)| *id)
        .collect();
    assert!(alive.len() >= 5, "{talks:?}");
    for id in &alive {
        assert!(
            world.answers(*id),
            "a connection to a living server was harmed"
        );
    }

    world.service.view().stop_manager("lb-1").unwrap();
    for round in 0..2 {
        let port = world.port();
        let new = world
            .client()
            .connect(port, to_service(), b"hello\n")
            .unwrap();
        let client = world.client;
        let established = world.network.run_until(Duration::from_secs(3), |network| {
            network.host(client).unwrap().is_established(new)
        });
        assert!(
            !established,
            "round {round}: a new connection does not meet the floor"
        );
    }
    for id in &alive {
        assert!(world.answers(*id), "an established connection was harmed");
    }
}
