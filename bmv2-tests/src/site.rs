//! A whole site in memory on any target: agent and manager as `signalbox run` starts them, a client and
//! three web servers on smoltcp, and what they do to each other.
//!
//! The tests of real programs run the same policy in network namespaces; this needs neither root nor
//! interfaces.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use signalbox::control::Request;
use signalbox::hosts::{
    Arrivals, ConnectionId, Ending, Faults, Host, HostIndex, Network, Page, ServerId, Speaks,
    Watched,
};
use signalbox::image;
use signalbox::service::{RunningTarget, Service};
use signalbox_lower::plan::{BalancePlan, CheckKind, OnDeath};
use signalbox_switch::Switch;
use signalbox_switch::runner::SwitchHandle;
use tokio::runtime::Runtime;

use crate::image::{Compiler, Image};
use crate::targets::{Packets, Started, Target};

/// The policy, shared with the tests of real programs.
const POLICY: &str = include_str!("../site.policy");

/// The servers' names.
const SERVERS: [&str; 3] = ["server-a", "server-b", "server-c"];

/// The share in percent that the weights 2:1:1 promise to each server.
const SHARES: [f64; 3] = [50.0, 25.0, 25.0];

/// Packets and layer-2 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    packets: u64,
    bytes: u64,
}

/// What crossed the clients' port of one connection.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    from_client: Tally,
    to_client: Tally,
    syns: u64,
}

/// By the client's port.
type SeenBy = Arc<Mutex<BTreeMap<u16, Seen>>>;

/// A service with its surroundings.
pub struct Site {
    network: Network,
    client: HostIndex,
    servers: Vec<(HostIndex, ServerId)>,
    seen: SeenBy,
    next_port: u16,
    service: Service,
    // After the service that uses it, before the runtime that it runs on.
    _keep: Vec<Box<dyn std::any::Any + Send>>,
    /// Where the switch is in this process.
    switch: Option<SwitchHandle>,
    runtime: Runtime,
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn to_service() -> SocketAddr {
    SocketAddr::new(address("203.0.113.80"), 80)
}

/// Puts what leaves a target's ports where the hosts look for it.
fn pump(sent: Receiver<(u16, Vec<u8>)>, arrivals: Arrivals) {
    std::thread::spawn(move || {
        let mut sinks = BTreeMap::new();
        for (port, frame) in sent {
            let sink = sinks.entry(port).or_insert_with(|| arrivals.sink(port));
            sink(&frame);
        }
    });
}

impl Site {
    /// Starts everything, and waits until the servers have been checked.
    fn start(target: Target, compiler: Compiler, speaks: &Speaks) -> Self {
        let speaks = [speaks.clone(), speaks.clone(), speaks.clone()];
        Self::start_with(target, compiler, speaks, |_| {})
    }

    /// The same with what each server speaks, and something changed in the balance service's plan.
    fn start_with(
        target: Target,
        compiler: Compiler,
        speaks: [Speaks; 3],
        change: impl FnOnce(&mut BalancePlan),
    ) -> Self {
        let checked = signalbox_policy::check(POLICY, "site.policy");
        let mut compiled = image::compile(checked.policy.unwrap()).unwrap();
        if compiler == Compiler::P4c {
            let theirs = Image::of("site.policy", POLICY, compiler);
            compiled.image.json = theirs.json;
            compiled.image.p4info = theirs.p4info;
        }
        let services = &mut compiled.lowered.plan.services;
        change(
            services
                .iter_mut()
                .find_map(|s| s.balance.as_mut())
                .unwrap(),
        );
        let plan = &compiled.lowered.plan;
        let ports: Vec<u16> = plan.ports.iter().map(|port| port.number).collect();
        let runtime = Runtime::new().unwrap();
        let (service, packets, keep, switch) = runtime.block_on(async {
            let Started {
                transport,
                device_id,
                packets,
                keep,
                switch,
            } = target.start(&ports).await;
            let running = RunningTarget::over(transport, device_id, target.habits());
            let service = Service::start(&compiled, running, compiled.pipeline());
            let service = service.await.unwrap();
            (service, packets.await, keep, switch)
        });
        let Packets { send, sent } = packets;
        let (mut network, arrivals) = Network::new(send);
        pump(sent, arrivals);
        let host = |name: &str, number: u8, own: &str, router: &str| {
            let mac = [2, 0, 0, 0, 1, number];
            Host::new(name, mac, &[(address(own), 24)], &[address(router)]).unwrap()
        };
        let client = network.attach(1, host("client", 1, "203.0.113.9", "203.0.113.1"));
        let mut servers = Vec::new();
        for ((number, name), speaks) in (1u8..).zip(SERVERS).zip(speaks) {
            let own = format!("10.0.{number}.10");
            let router = format!("10.0.{number}.1");
            let mut host = host(name, number + 1, &own, &router);
            let server = host.serve(name, 8080, speaks);
            servers.push((network.attach(u16::from(number) + 1, host), server));
        }
        let seen = SeenBy::default();
        let tallies = Arc::clone(&seen);
        network.set_watch(move |watched| tally(&mut tallies.lock().unwrap(), watched));
        let mut site = Self {
            network,
            client,
            servers,
            seen,
            next_port: 40_000,
            service,
            _keep: keep,
            switch,
            runtime,
        };
        // A server counts as up until a check has failed: so let each be checked first.
        site.pass(Duration::from_millis(1_200));
        site.wait_for_servers("up", &SERVERS);
        site
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        self.network.run_until(time, |_| false);
    }

    /// Waits until the manager gives new connections to these servers and no others.
    fn wait_for_servers(&mut self, what: &str, wanted: &[&str]) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let status = self.ask(Request::Status);
            let servers = &status["managers"][0]["services"][0]["targets"];
            let up: Vec<&str> = servers
                .as_array()
                .unwrap()
                .iter()
                .filter(|server| server["up"] == true)
                .map(|server| server["name"].as_str().unwrap())
                .collect();
            if up == wanted {
                return;
            }
            assert!(Instant::now() < end, "not {what}: {servers}");
            self.pass(Duration::from_millis(50));
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
fn tally(seen: &mut BTreeMap<u16, Seen>, watched: Watched<'_>) {
    let frame = watched.frame;
    if watched.port != 1 || frame[12..14] != [8, 0] || frame[23] != 6 {
        return;
    }
    let tcp = 14 + usize::from(frame[14] & 15) * 4;
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let tally = if watched.to_switch {
        let seen = seen.entry(port(tcp)).or_default();
        seen.syns += u64::from(frame[tcp + 13] & 2 != 0);
        &mut seen.from_client
    } else {
        &mut seen.entry(port(tcp + 2)).or_default().to_client
    };
    tally.packets += 1;
    tally.bytes += frame.len() as u64;
}

fn number(from: &Value, path: &str) -> u64 {
    let found = from.pointer(path).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no {path} in {from}"))
}

/// 300 requests, each answered by the server that the weights say, each counted once, and nothing of an
/// established flow at agent or manager.
pub fn three_hundred_requests_are_balanced_and_counted(target: Target, compiler: Compiler) {
    let mut site = Site::start(target, compiler, &Speaks::Http(Page::Named(600)));
    for _ in 0..300 {
        let port = site.port();
        site.client().get(port, to_service()).unwrap();
        site.run_until("room", |host| host.open_connections() < 8);
    }
    site.run_until("the last answers", |host| host.open_connections() == 0);
    let finished = site.client().take_finished();
    let mut by_server = BTreeMap::new();
    for one in &finished {
        assert!(one.is_good_http(), "{:?} after {:?}", one.ending, one.took);
        *by_server
            .entry(one.server().unwrap().to_owned())
            .or_insert(0) += 1;
    }
    assert_eq!(finished.len(), 300);
    for (server, share) in SERVERS.iter().zip(SHARES) {
        let got = f64::from(by_server[*server]) / 3.0;
        assert!((got - share).abs() <= 10.0, "{server} got {got} %");
    }

    // The last packets of the last connection may still be on their way.
    site.pass(Duration::from_millis(300));
    let status = site.ask(Request::Status);
    let seen = site.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 300, "connections at the clients' port");
    let repeated_syns: u64 = seen.values().map(|one| one.syns - 1).sum();
    check_questions(&status, repeated_syns);

    let flows = site.ask(Request::Flows);
    let flows = flows.as_array().unwrap();
    assert_eq!(flows.len(), 300);
    for flow in flows {
        let client_port = number(flow, "/flow/sport") as u16;
        let counted = |direction: &str| Tally {
            packets: number(flow, &format!("/{direction}/packets")),
            bytes: number(flow, &format!("/{direction}/bytes")),
        };
        let seen = &seen[&client_port];
        assert_eq!(counted("forward"), seen.from_client, "from {client_port}");
        assert_eq!(counted("reply"), seen.to_client, "to {client_port}");
    }
}

/// One question for each of 300 first packets; what else came by were SYNs sent again.
fn check_questions(status: &Value, repeated_syns: u64) {
    let agent = |name: &str| number(status, &format!("/agent/counters/{name}"));
    let manager = |name: &str| number(status, &format!("/managers/0/services/0/counts/{name}"));
    assert_eq!(agent("interests"), 300, "one question for each flow");
    assert_eq!(
        manager("interest_packets") - agent("interests_repeated"),
        300,
        "interest packets at the manager, questions put again apart"
    );
    assert_eq!(manager("decided"), 300);
    let mid_flow = manager("mid_flow_known") + manager("mid_flow_unknown");
    assert_eq!(mid_flow, 0, "packets of established flows at the manager");
    let late = agent("misses") - agent("interests") + agent("overtaken");
    assert!(
        late <= repeated_syns,
        "{late} packets of established flows at the agent, {repeated_syns} SYNs sent again"
    );
}

/// How much a download is on this target: 50 MB, and what takes some seconds on one that carries a few
/// thousand packets a second.
fn download_of(target: Target) -> u32 {
    match target {
        Target::Embedded => 50_000_000,
        Target::Quirks => 20_000_000,
        Target::Grpc | Target::Bmv2 => 8_000_000,
    }
}

/// A big page arrives as it was sent, and the service's address answers a ping.
pub fn a_download_arrives_whole_and_pings_are_answered(target: Target, compiler: Compiler) {
    let bytes: Arc<[u8]> = (0..download_of(target))
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let page = Speaks::Http(Page::Bytes(Arc::clone(&bytes)));
    let mut site = Site::start(target, compiler, &page);
    let port = site.port();
    site.client().get(port, to_service()).unwrap();
    site.run_until("the download", |host| host.open_connections() == 0);
    let finished = site.client().take_finished();
    let [download] = finished.as_slice() else {
        panic!("{} downloads", finished.len());
    };
    assert_eq!(
        (download.ending, download.status()),
        (Ending::Completed, Some(200)),
        "after {:?} with {} bytes",
        download.took,
        download.received.len()
    );
    assert!(
        download.body() == Some(&bytes),
        "the download is not what was sent"
    );
    site.client()
        .ping(to_service().ip(), 77, 1, b"are you there")
        .unwrap();
    let mut pongs = Vec::new();
    site.run_until("a pong", |host| {
        pongs.extend(host.take_pongs());
        !pongs.is_empty()
    });
    assert_eq!(
        (pongs[0].from, pongs[0].identifier),
        (to_service().ip(), 77)
    );
}

/// A server's death costs its own connections and no others; the manager's costs none, and what is new
/// then meets the floor.
pub fn deaths_harm_nobody_else(target: Target, compiler: Compiler) {
    let mut site = Site::start(target, compiler, &Speaks::Lines);
    let talks: Vec<(ConnectionId, String)> = (0..8).map(|_| site.talk()).collect();
    let dead = SERVERS[1];
    assert!(talks.iter().any(|(_, server)| server == dead));
    let (host, server) = site.servers[1];
    site.network.host(host).unwrap().stop(server);
    site.wait_for_servers("taken out", &[SERVERS[0], SERVERS[2]]);
    for _ in 0..20 {
        assert_ne!(site.talk().1, dead);
    }
    let alive: Vec<ConnectionId> = talks
        .iter()
        .filter(|(_, server)| server != dead)
        .map(|(id, _)| *id)
        .collect();
    assert!(alive.len() >= 5, "{talks:?}");
    for id in &alive {
        assert!(
            site.answers(*id),
            "a connection to a living server was harmed"
        );
    }

    site.service.view().stop_manager("lb-1").unwrap();
    for round in 0..2 {
        let port = site.port();
        let new = site
            .client()
            .connect(port, to_service(), b"hello\n")
            .unwrap();
        let client = site.client;
        let established = site.network.run_until(Duration::from_secs(2), |network| {
            network.host(client).unwrap().is_established(new)
        });
        assert!(
            !established,
            "round {round}: a new connection does not meet the floor"
        );
    }
    for id in &alive {
        assert!(site.answers(*id), "an established connection was harmed");
    }
}

/// A server falls silent: the next packet on each of its connections is answered with a reset that the
/// client's TCP accepts, and no other connection is harmed (A6.16).
pub fn connections_to_a_silent_server_are_reset(target: Target, compiler: Compiler) {
    let speaks = [Speaks::Lines, Speaks::Lines, Speaks::Lines];
    let mut site = Site::start_with(target, compiler, speaks, |plan| {
        plan.on_death = OnDeath::Reset;
    });
    let talks: Vec<(ConnectionId, String)> = (0..8).map(|_| site.talk()).collect();
    let silence = |seed| Faults::new(seed, 1000, 0, 0);
    site.network.set_faults(3, silence(1), silence(2));
    site.wait_for_servers("taken out", &[SERVERS[0], SERVERS[2]]);
    site.pass(Duration::from_millis(200));
    assert!(site.client().take_finished().is_empty(), "nobody has asked");
    let (lost, kept): (Vec<_>, Vec<_>) = (talks.into_iter()).partition(|(_, s)| s == SERVERS[1]);
    assert!(!lost.is_empty());
    for (id, _) in &lost {
        site.client().send(*id, b"again\n");
        let client = site.client;
        let over = site.network.run_until(Duration::from_secs(3), |network| {
            network.host(client).unwrap().received(*id).is_none()
        });
        assert!(over, "a connection to the silent server goes on waiting");
    }
    for finished in site.client().take_finished() {
        assert_eq!(finished.ending, Ending::Reset);
    }
    for (id, _) in &kept {
        assert!(site.answers(*id), "a connection to another was harmed");
    }
    for _ in 0..4 {
        assert_ne!(site.talk().1, SERVERS[1]);
    }
    let counts = &site.ask(Request::Status)["managers"][0]["services"][0]["counts"];
    assert_eq!(number(counts, "/doomed"), lost.len() as u64);
    assert!(number(counts, "/resets") >= lost.len() as u64);
}

/// Sets how many fixed affinities the switch takes of the balance service in each direction.
fn limit_tables(switch: &SwitchHandle, most: usize) {
    let limit = move |switch: &mut Switch, _| {
        for part in ["web_lb", "web_lb_reply"] {
            let table = switch.schema().table(&format!("Cascade.{part}.fixed"));
            switch.table_set_capacity(table.unwrap(), most).unwrap();
        }
    };
    switch.call_blocking(limit).unwrap();
}

/// The switch's tables are full: a new connection takes the fallback and is counted, those that are in go
/// on, and when there is room again the next one gets through.
pub fn a_full_table_keeps_new_connections_out_and_no_other(target: Target, compiler: Compiler) {
    let mut site = Site::start(target, compiler, &Speaks::Lines);
    let switch = site.switch.clone().expect("a switch in this process");
    limit_tables(&switch, 4);
    let talks: Vec<ConnectionId> = (0..4).map(|_| site.talk().0).collect();
    let port = site.port();
    let fifth = site
        .client()
        .connect(port, to_service(), b"hello\n")
        .unwrap();
    let client = site.client;
    let opened = site.network.run_until(Duration::from_secs(2), |network| {
        network.host(client).unwrap().is_established(fifth)
    });
    assert!(!opened, "a fifth connection got through a table for four");
    for id in &talks {
        assert!(site.answers(*id), "a connection that was in was harmed");
    }
    let status = site.ask(Request::Status);
    let counted = |name: &str| number(&status, &format!("/agent/counters/{name}"));
    let denied = counted("denials/table_full");
    assert!(denied >= 1 && counted("drops/floor") == denied, "{status}");
    assert_eq!(counted("fixed/now"), 8);
    limit_tables(&switch, 100);
    site.talk();
}

/// Servers say how busy they are, and new connections go where there is room (A6.12).
pub fn new_connections_go_where_servers_report_room(target: Target, compiler: Compiler) {
    let says = |load: &str| Speaks::Http(Page::Bytes(load.as_bytes().into()));
    let speaks = [says("0"), says("100"), says("50\n")];
    let mut site = Site::start_with(target, compiler, speaks, |plan| {
        let check = plan.check.as_mut().unwrap();
        let path = "/".to_owned();
        check.kind = CheckKind::Load { path };
    });
    let loads = |site: &Site| -> Vec<Value> {
        let status = site.ask(Request::Status);
        let targets = &status["managers"][0]["services"][0]["targets"];
        let load = |t: &Value| t["load"].clone();
        targets.as_array().unwrap().iter().map(load).collect()
    };
    let end = Instant::now() + Duration::from_secs(10);
    while loads(&site) != [0, 100, 50] {
        assert!(Instant::now() < end, "{:?}", loads(&site));
        site.pass(Duration::from_millis(50));
    }
    for _ in 0..45 {
        let port = site.port();
        site.client().get(port, to_service()).unwrap();
        site.run_until("an answer", |host| host.open_connections() == 0);
    }
    let status = site.ask(Request::Status);
    let chosen = |n: usize| {
        number(
            &status,
            &format!("/managers/0/services/0/targets/{n}/chosen"),
        )
    };
    // Weights 2:1:1, of which all, nothing and a half is left.
    assert_eq!([chosen(0), chosen(1), chosen(2)], [36, 0, 9]);
}
