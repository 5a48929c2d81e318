//! The gate manager with an agent on a stand-in switch: segments in, segments out.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use signalbox_agent::Input as ToTheAgent;
use signalbox_agent::WriteError;
use signalbox_agent::flow::events;
use signalbox_agent::message::AgentBody;
use signalbox_agent::packet::{TYPE_IPV4, frame};
use signalbox_agent::testing::{World, gate, plan as site, port_mac};
use signalbox_lower::plan::{
    Criterion, CriterionAction, Cube, Kind, LookPlan, Masked, MaskedAddr, Plan, SharePlan,
};
use signalbox_manager::segment::{ACK, FIN, Options, PSH, RST, SYN, Segment};
use signalbox_manager::{Input, Manager, Output, ServiceStatus};

use crate::{GateService, Outside};

mod pair;
mod replication;

const CLIENT: (IpAddr, u16) = (IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9)), 40_000);
const SERVER: (IpAddr, u16) = (IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 1, 10)), 22);
const ISN: u32 = 1000;
const SERVER_ISN: u32 = 9_000_000;

struct Fixed(u8);

impl Outside for Fixed {
    fn utc(&mut self) -> u64 {
        1_795_651_200
    }

    fn secret(&mut self) -> [u8; 16] {
        self.0 += 1;
        [self.0; 16]
    }
}

fn end(address: IpAddr) -> Option<MaskedAddr> {
    Some(MaskedAddr {
        value: address,
        mask: [255; 4].into(),
    })
}

fn plan() -> Plan {
    let mut plan = site();
    let service = &mut plan.services[0];
    service.name = "admin".into();
    service.kind = Kind::Gate;
    service.shares = vec![SharePlan::whole("gate-1")];
    service.balance = None;
    service.addresses = Vec::new();
    service.limits.half_open_ms = service.limits.idle_ms;
    let ask = |cube: Cube| {
        vec![Criterion {
            id: 1,
            label: "match".into(),
            priority: 1000,
            action: CriterionAction::Ask {
                packet_events: events::ALL,
                notice_events: 0,
            },
            cubes: vec![Cube {
                proto: Some(Masked {
                    value: 6,
                    mask: 0xff,
                }),
                kind: Some(Masked { value: 0, mask: 3 }),
                ..cube
            }],
        }]
    };
    let port = Some(Masked {
        value: SERVER.1,
        mask: 0xffff,
    });
    service.forward.criteria = ask(Cube {
        dst: end(SERVER.0),
        dport: port,
        ..Cube::default()
    });
    if let Some(reply) = &mut service.reply {
        reply.criteria = ask(Cube {
            src: end(SERVER.0),
            sport: port,
            ..Cube::default()
        });
    }
    service.gate = Some(gate());
    plan.managers[0].name = "gate-1".into();
    plan.managers[0].serves = vec!["admin".into()];
    plan
}

fn manager(plan: &Plan, epoch: u64) -> Manager {
    let gate = GateService::new(&plan.services[0], Box::new(Fixed(epoch as u8 * 16))).unwrap();
    Manager::new(
        "gate-1",
        plan,
        vec![("admin".into(), 0, epoch, Box::new(gate))],
    )
    .with_instance(epoch)
}

/// An agent and a manager, with nothing lost between them.
struct Net {
    plan: Plan,
    world: World,
    manager: Manager,
    session: u64,
    /// Packets that the agent has asked about.
    asked: usize,
    /// What was denied.
    denied: usize,
}

impl Net {
    fn new() -> Self {
        Self::of(plan())
    }

    fn of(plan: Plan) -> Self {
        let mut net = Self {
            world: World::new(plan.clone()),
            manager: manager(&plan, 1),
            plan,
            session: 0,
            asked: 0,
            denied: 0,
        };
        net.connect();
        net
    }

    fn connect(&mut self) {
        self.session += 1;
        self.world.feed(ToTheAgent::SessionOpened(self.session));
        self.tell(Input::Connected(self.session));
        self.settle();
        self.pass(Duration::from_millis(5));
    }

    /// The manager dies.
    fn kill(&mut self) {
        self.world.feed(ToTheAgent::SessionClosed(self.session));
        self.world.said.clear();
        self.manager = manager(&self.plan, 2);
    }

    /// It dies, and another one starts.
    fn restart(&mut self) {
        self.kill();
        self.connect();
    }

    fn tell(&mut self, input: Input) {
        for output in self.manager.handle(self.world.now, input) {
            if let Output::Message(session, message) = output
                && session == self.session
            {
                self.world.feed(ToTheAgent::Message(session, message));
            }
        }
    }

    fn settle(&mut self) {
        while !self.world.said.is_empty() {
            for (session, message) in std::mem::take(&mut self.world.said) {
                match &message.body {
                    AgentBody::Interest(_) => self.asked += 1,
                    AgentBody::Denied(_) => self.denied += 1,
                    _ => {}
                }
                if session == self.session {
                    self.tell(Input::Message(session, message));
                }
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.world.now + time;
        while self.world.now < end {
            let agent = self.world.agent.next_deadline();
            let due = agent.into_iter().chain(self.manager.next_deadline()).min();
            let next = due
                .unwrap_or(end)
                .clamp(self.world.now + Duration::from_millis(1), end);
            self.world.advance(next - self.world.now);
            self.tell(Input::Tick);
            self.settle();
        }
    }

    /// A segment comes from its source; what leaves the switch.
    fn send(&mut self, s: &Segment) -> Vec<Segment> {
        self.come(s);
        self.settle();
        self.left()
    }

    /// A segment comes, and the manager has not heard of it.
    fn come(&mut self, s: &Segment) {
        let port = if s.src.0 == CLIENT.0 { 1 } else { 2 };
        let bytes: Bytes = frame(port_mac(port), [0xaa; 6], TYPE_IPV4, &s.emit()).into();
        self.world.receive(port, &bytes);
    }

    fn left(&mut self) -> Vec<Segment> {
        std::mem::take(&mut self.world.left)
            .into_iter()
            .filter_map(|(port, bytes)| {
                let (s, _) = Segment::parse_frame(&bytes)?;
                assert_eq!(port, if s.dst.0 == CLIENT.0 { 1 } else { 2 });
                Some(s)
            })
            .collect()
    }

    fn status(&self) -> ServiceStatus {
        self.manager.status().services.remove(0)
    }

    fn count(&self, what: &str) -> u64 {
        self.status().counted.get(what).copied().unwrap_or(0)
    }

    /// Client and server connect; the cookie.
    fn connected(&mut self) -> u32 {
        let mut syn = client(SYN, ISN, 0, b"");
        syn.options.mss = Some(1460);
        syn.options.window_scale = Some(7);
        let cookie = self.send(&syn)[0].seq;
        let left = self.send(&client(ACK, ISN + 1, cookie + 1, b""));
        assert_eq!(
            (left[0].dst, left[0].flags, left[0].seq),
            (SERVER, SYN, ISN)
        );
        let mut syn_ack = server(SYN | ACK, SERVER_ISN, ISN + 1, b"");
        syn_ack.options.mss = Some(1460);
        syn_ack.options.window_scale = Some(7);
        let left = self.send(&syn_ack);
        assert_eq!((left[0].dst, left[0].flags), (SERVER, ACK));
        cookie
    }
}

fn segment(src: (IpAddr, u16), flags: u8, seq: u32, ack: u32, payload: &'static [u8]) -> Segment {
    Segment {
        src,
        dst: if src == CLIENT { SERVER } else { CLIENT },
        seq,
        ack,
        flags,
        window: 1000,
        options: Options::default(),
        payload: Bytes::from_static(payload),
    }
}

fn client(flags: u8, seq: u32, ack: u32, payload: &'static [u8]) -> Segment {
    segment(CLIENT, flags, seq, ack, payload)
}

fn server(flags: u8, seq: u32, ack: u32, payload: &'static [u8]) -> Segment {
    segment(SERVER, flags, seq, ack, payload)
}

/// Both directions pass through the switch, in the numbers that each end knows.
fn talks(net: &mut Net, cookie: u32) {
    let left = net.send(&client(ACK | PSH, ISN + 1, cookie + 1, b"hello"));
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!((left[0].seq, left[0].ack), (ISN + 1, SERVER_ISN + 1));
    let left = net.send(&server(ACK | PSH, SERVER_ISN + 1, ISN + 6, b"hi"));
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!((left[0].seq, left[0].ack), (cookie + 1, ISN + 6));
    assert_eq!(left[0].payload, &b"hi"[..]);
}

// A3.8
#[test]
fn once_the_switch_has_a_connection_no_packet_of_it_is_asked_about() {
    let mut net = Net::new();
    let cookie = net.connected();
    assert_eq!(net.asked, 3, "SYN, acknowledgement, the server's answer");
    for _ in 0..100 {
        talks(&mut net, cookie);
    }
    assert_eq!(net.asked, 3);
    assert_eq!(net.count("switched over"), 1);
    assert_eq!(net.count("proxied"), 0);
    assert_eq!(net.status().flows, 1);
}

// A3.13
#[test]
fn a_connection_of_the_switch_outlives_its_manager_and_its_entries() {
    let mut net = Net::new();
    let cookie = net.connected();
    net.restart();
    let asked = net.asked;
    talks(&mut net, cookie);
    assert_eq!(net.asked, asked);
    assert_eq!(net.status().flows, 1, "the agent has told of it");
    // It was idle for longer than its lease, and goes on: the cookie has what rebuilds both directions (A8.7).
    net.pass(Duration::from_millis(
        net.plan.services[0].limits.idle_ms + 200_000,
    ));
    assert_eq!(net.world.agent.counters().leases_expired, 1);
    talks(&mut net, cookie);
    assert!(net.asked > asked);
    assert_eq!(net.count("strange segment"), 0);
}

// A3.13
#[test]
fn with_no_manager_at_all_the_switchs_connections_go_on_and_nobody_else_gets_past() {
    let mut net = Net::new();
    let cookie = net.connected();
    let mut other = client(SYN, ISN, 0, b"");
    other.src.1 += 1;
    let others = net.send(&other)[0].seq;
    net.kill();
    let mut told = Vec::new();
    for _ in 0..3 {
        talks(&mut net, cookie);
        let mut ack = client(ACK | PSH, ISN + 1, others + 1, b"hello");
        ack.src.1 += 1;
        assert_eq!(net.send(&other), []);
        assert_eq!(net.send(&ack), []);
        // Its criteria end meanwhile.
        net.pass(Duration::from_secs(3));
        told.extend(net.left().into_iter().map(|s| (s.dst, s.flags, s.seq)));
    }
    assert_eq!(told, [(other.src, RST, others + 1)]);
}

// A3.2
#[test]
fn the_tuple_of_a_closed_connection_opens_anew_through_the_gate() {
    let mut net = Net::new();
    let cookie = net.connected();
    net.send(&client(ACK | FIN, ISN + 1, cookie + 1, b""));
    net.send(&server(ACK | FIN, SERVER_ISN + 1, ISN + 2, b""));
    net.send(&client(ACK, ISN + 2, cookie + 2, b""));
    net.pass(Duration::from_secs(1));
    let left = net.send(&client(SYN, ISN + 50_000, 0, b""));
    assert_eq!((left[0].dst, left[0].flags), (CLIENT, SYN | ACK));
    assert_eq!(left.len(), 1, "the server hears nothing of it: {left:?}");
    // What follows is of the new connection, whatever is remembered of the old one.
    let cookie = left[0].seq;
    let left = net.send(&client(ACK, ISN + 50_001, cookie + 1, b""));
    assert_eq!((left[0].dst, left[0].flags), (SERVER, SYN));
    assert_eq!(left[0].seq, ISN + 50_000);
}

// A3.13
#[test]
fn of_a_connection_that_was_half_way_both_ends_are_reset() {
    let mut net = Net::new();
    let cookie = net.send(&client(SYN, ISN, 0, b""))[0].seq;
    net.send(&client(ACK, ISN + 1, cookie + 1, b""));
    net.restart();
    // What the agent knew of it is lost on the way.
    net.left();
    // The server answers the SYN that the former manager has sent.
    let left = net.send(&server(SYN | ACK, SERVER_ISN, ISN + 1, b""));
    assert_eq!(
        (left[0].dst, left[0].flags, left[0].seq),
        (SERVER, RST, ISN + 1)
    );
    // The client speaks: a cookie of the former manager's key is none.
    net.send(&client(ACK | PSH, ISN + 1, cookie + 1, b"hello"));
    net.pass(Duration::from_millis(100));
    let left = net.left();
    let reset = |dst| left.iter().any(|s| s.dst == dst && s.flags & RST != 0);
    assert!(reset(CLIENT) && reset(SERVER), "{left:?}");
}

/// Where a connection can be, by what comes once a cookie is given, and how far client and server have come then: the
/// numbers that they wait for beyond the first ones, for the server if it knows of it at all.
type Place = (&'static str, fn(u32) -> Vec<Segment>, u32, Option<u32>);

const UNHEARD: &str = "nobody has heard the acknowledgement";
const LOOKING: &str = "its first data are waited for";

const PLACES: [Place; 6] = [
    (UNHEARD, |cookie| vec![acknowledged(cookie)], 0, None),
    (LOOKING, |cookie| vec![acknowledged(cookie)], 0, None),
    (
        "the server does not answer",
        |cookie| vec![acknowledged(cookie)],
        0,
        Some(0),
    ),
    (
        "data have brought the cookie and the server does not answer",
        |cookie| vec![hello(cookie)],
        0,
        Some(0),
    ),
    (
        "both are there and say nothing",
        |cookie| vec![acknowledged(cookie), small_syn_ack()],
        0,
        Some(0),
    ),
    (
        "both have said something",
        |cookie| {
            vec![
                acknowledged(cookie),
                small_syn_ack(),
                hello(cookie),
                server(ACK | PSH, SERVER_ISN + 1, ISN + 6, b"hi"),
            ]
        },
        2,
        Some(5),
    ),
];

/// The plan in which a connection comes there.
fn plan_for(place: &str, mut plan: Plan) -> Plan {
    if place == LOOKING {
        let gate = plan.services[0].gate.as_mut().unwrap();
        gate.look = vec![LookPlan::HttpHost(Vec::new())];
    }
    plan
}

/// The client's handshake is complete.
fn acknowledged(cookie: u32) -> Segment {
    client(ACK, ISN + 1, cookie + 1, b"")
}

/// Its first data.
fn hello(cookie: u32) -> Segment {
    client(ACK | PSH, ISN + 1, cookie + 1, b"hello")
}

/// Who is to be reset, with which number.
fn resets(left: Vec<Segment>) -> Vec<((IpAddr, u16), u32)> {
    let resets = left.into_iter().filter(|s| s.flags & RST != 0);
    let mut resets: Vec<_> = resets.map(|s| (s.dst, s.seq)).collect();
    resets.sort_unstable();
    resets
}

/// Those of a connection at a place.
fn due(cookie: u32, of_client: u32, of_server: Option<u32>) -> Vec<((IpAddr, u16), u32)> {
    let server = of_server.map(|said| (SERVER, ISN + 1 + said));
    (server.into_iter())
        .chain([(CLIENT, cookie + 1 + of_client)])
        .collect()
}

/// With it a connection stays with the manager.
fn small_syn_ack() -> Segment {
    let mut syn_ack = server(SYN | ACK, SERVER_ISN, ISN + 1, b"");
    syn_ack.options.mss = Some(900);
    syn_ack
}

// A3.13
#[test]
fn wherever_a_connection_is_when_its_manager_dies_both_ends_are_reset_though_they_wait() {
    for (place, comes, of_client, of_server) in PLACES {
        for is_next in [true, false] {
            let mut net = Net::of(plan_for(place, plan()));
            let cookie = net.send(&client(SYN, ISN, 0, b""))[0].seq;
            for segment in comes(cookie) {
                net.come(&segment);
                if place != UNHEARD {
                    net.settle();
                }
            }
            net.left();
            net.kill();
            if is_next {
                net.connect();
            } else {
                net.pass(Duration::from_secs(4));
            }
            let expected = due(cookie, of_client, of_server);
            assert_eq!(
                resets(net.left()),
                expected,
                "{place}, another manager: {is_next}"
            );
        }
    }
}

// A3.11
#[test]
fn a_switch_that_has_no_room_leaves_the_connection_to_the_manager() {
    let mut net = Net::new();
    net.world.switch.refuses = |update| {
        matches!(update.entry, signalbox_agent::entry::Entry::Fixed(_)).then_some(WriteError::Full)
    };
    let cookie = net.connected();
    assert_eq!(
        (net.denied, net.count("denied"), net.count("proxied")),
        (1, 1, 1)
    );
    let left = net.send(&client(ACK | PSH, ISN + 1, cookie + 1, b"hello"));
    let data = left.iter().find(|s| s.dst == SERVER).unwrap();
    assert_eq!((data.seq, &data.payload[..]), (ISN + 1, &b"hello"[..]));
    let left = net.send(&server(ACK | PSH, SERVER_ISN + 1, ISN + 6, b"hi"));
    let data = left.iter().find(|s| s.dst == CLIENT).unwrap();
    assert_eq!((data.seq, &data.payload[..]), (cookie + 1, &b"hi"[..]));
}

// A3.4
#[test]
fn a_flood_leaves_nothing_in_agent_and_manager() {
    let mut net = Net::new();
    let before = net.world.agent.in_use();
    for n in 0..5_000u32 {
        let mut syn = client(SYN, n, 0, b"");
        syn.src.1 = 1024 + n as u16;
        let left = net.send(&syn);
        assert!(left.iter().all(|s| s.dst.0 == CLIENT.0));
    }
    assert_eq!(net.count("syn"), 5_000);
    assert_eq!((net.status().flows, net.count("proxied")), (0, 0));
    assert_eq!(net.world.agent.in_use(), before);
    let counters = net.world.agent.counters();
    assert_eq!((counters.flows, counters.fixed.most), (0, 0));
    // A3.5
    let mut net = net;
    let cookie = net.connected();
    talks(&mut net, cookie);
}
