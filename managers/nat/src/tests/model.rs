//! A manager with agents that come, go, end flows and lose them, against a simple model: an outside tuple
//! has one inside tuple while any agent holds it, and nobody for its hold-back after that.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use signalbox_agent::flow::{Part, events};
use signalbox_agent::message::{
    AgentBody, CarriedState, Decision, Ended, FixedAffinity, InstalledAffinity, Interest,
    ManagerBody, ToManager, VERSION, Welcome,
};
use signalbox_manager::{Input, Manager, Output};

use super::*;

const AGENTS: usize = 3;
const HOLD_BACK: Duration = Duration::from_secs(120);
const PER_SOURCE: usize = 6;
/// Of each outside address; few, so that they are given out again.
const PORTS: std::ops::RangeInclusive<u16> = 2000..=2019;

#[derive(Debug, Clone)]
enum Event {
    /// A first packet of an inside host and port to a remote, at an agent.
    Open(usize, u8, u16, u8),
    /// A first packet of a remote to the outside tuple of an inside host and port.
    Inbound(usize, u8, u16, u8),
    /// An agent ends a flow, whether somebody hears it or not.
    End(usize, usize),
    Disconnect(usize),
    Connect(usize),
    /// The manager dies and another one starts; every agent finds it.
    Restart,
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let open = (0..AGENTS, 0u8..4, 0u16..5, 0u8..3);
    prop_oneof![
        8 => open.clone().prop_map(|(a, h, p, r)| Event::Open(a, h, p, r)),
        2 => open.prop_map(|(a, h, p, r)| Event::Inbound(a, h, p, r)),
        7 => (0..AGENTS, any::<prop::sample::Index>().prop_map(|i| i.index(1000)))
            .prop_map(|(a, i)| Event::End(a, i)),
        1 => (0..AGENTS).prop_map(Event::Disconnect),
        2 => (0..AGENTS).prop_map(Event::Connect),
        1 => Just(Event::Restart),
        4 => (0u64..60_000).prop_map(Event::Wait),
    ]
}

/// What an agent holds: forward affinities by their match.
type Held = BTreeMap<Tuple, FixedAffinity>;

struct Agent {
    session: Option<u64>,
    held: Held,
}

struct Site {
    plan: signalbox_lower::plan::Plan,
    manager: Manager,
    agents: Vec<Agent>,
    now: Duration,
    epoch: u64,
    sessions: u64,
    requests: u64,
    /// Outside tuples that nobody has, since when, and whose they were.
    rests: BTreeMap<(IpAddr, u16), (Duration, (IpAddr, u16))>,
    /// Outside tuples that somebody has had.
    given: BTreeSet<(IpAddr, u16)>,
    installs: usize,
}

fn outside(a: &FixedAffinity) -> (IpAddr, u16) {
    match a.actions.as_slice() {
        [Action::Translate(to)] => (to.src, to.sport),
        other => panic!("{other:?}"),
    }
}

fn inside(a: &FixedAffinity) -> (IpAddr, u16) {
    (a.tuple.src, a.tuple.sport)
}

impl Site {
    fn new() -> Self {
        let mut nat = nat_plan(
            ports(
                "203.0.113.100",
                "203.0.113.101",
                *PORTS.start(),
                *PORTS.end(),
            ),
            None,
        );
        nat.inbound = Inbound::Mapped;
        nat.per_source = Some(PER_SOURCE as u32);
        let mut plan = plan();
        plan.services = vec![service(nat)];
        let mut site = Self {
            manager: manager(&plan, 1),
            plan,
            agents: (0..AGENTS)
                .map(|_| Agent {
                    session: None,
                    held: Held::new(),
                })
                .collect(),
            now: Duration::ZERO,
            epoch: 1,
            sessions: 0,
            requests: 0,
            rests: BTreeMap::new(),
            given: BTreeSet::new(),
            installs: 0,
        };
        for a in 0..AGENTS {
            site.connect(a);
        }
        site
    }

    fn feed(&mut self, input: Input) {
        let out = self.manager.handle(self.now, input);
        self.carry(out);
    }

    fn say(&mut self, a: usize, body: AgentBody) {
        if let Some(session) = self.agents[a].session {
            let message = ToManager {
                service: "egress".into(),
                share: 0,
                epoch: self.epoch,
                body,
            };
            self.feed(Input::Message(session, message));
        }
    }

    fn carry(&mut self, out: Vec<Output>) {
        for output in out {
            let Output::Message(session, message) = output else {
                continue;
            };
            let Some(a) = (self.agents.iter()).position(|agent| agent.session == Some(session))
            else {
                continue;
            };
            match message.body {
                ManagerBody::Hello(_) => self.say(
                    a,
                    AgentBody::Welcome(Welcome {
                        version: VERSION,
                        agent: format!("agent-{a}").into(),
                        plan_hash: 0,
                        shares: Vec::new(),
                    }),
                ),
                ManagerBody::ListAffinities { request } => {
                    let list = (self.agents[a].held.values())
                        .map(|affinity| InstalledAffinity {
                            affinity: affinity.clone(),
                            share: 0,
                            age_ms: 0,
                            totals: Default::default(),
                            established: true,
                            closed: false,
                        })
                        .collect();
                    self.say(
                        a,
                        AgentBody::Affinities {
                            request,
                            piece: 0,
                            list,
                            last: true,
                        },
                    );
                }
                ManagerBody::Verdict(verdict) => {
                    for affinity in verdict.affinities {
                        assert_eq!(verdict.decision, Decision::Resume);
                        if affinity.part == Part::Forward {
                            self.install(a, affinity);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// The model: what an agent installs must not be anybody else's.
    fn install(&mut self, a: usize, new: FixedAffinity) {
        let (x, i) = (outside(&new), inside(&new));
        self.installs += 1;
        let mut known = false;
        for held in self.agents.iter().flat_map(|agent| agent.held.values()) {
            if outside(held) == x {
                assert_eq!(inside(held), i, "A2.14: {x:?} is given out twice");
                known = true;
            }
            if inside(held) == i {
                assert_eq!(outside(held), x, "A2.10: {i:?} has two outside tuples");
            }
            if held.tuple.src == i.0 {
                assert_eq!(outside(held).0, x.0, "A2.11: {} is not paired", i.0);
            }
        }
        // Whatever rests or is held unknown to the model, what was never given out is free.
        let mut same = PORTS.filter(|port| port % 2 == i.1 % 2);
        let none = same.all(|port| self.given.contains(&(x.0, port)));
        assert!(x.1 % 2 == i.1 % 2 || none, "A2.12: {i:?} becomes {x:?}");
        self.given.insert(x);
        if !known && let Some((since, was)) = self.rests.remove(&x) {
            // The same inside tuple may go on with it: its flow does, or an agent that is away may hold it.
            let over = self.now >= since + HOLD_BACK;
            assert!(over || was == i, "A2.15: {x:?} rests since {since:?}");
        }
        self.agents[a].held.insert(new.tuple, new);
        let all = self.agents.iter().flat_map(|agent| agent.held.values());
        let of_source: BTreeSet<_> = all.filter(|h| h.tuple.src == i.0).map(outside).collect();
        assert!(of_source.len() <= PER_SOURCE, "A2.16: {} has too many", i.0);
    }

    fn connect(&mut self, a: usize) {
        if self.agents[a].session.is_none() {
            self.sessions += 1;
            self.agents[a].session = Some(self.sessions);
            self.feed(Input::Connected(self.sessions));
        }
    }

    fn ask(&mut self, a: usize, part: Part, flow: Tuple) {
        if self.agents[a].session.is_none() {
            return;
        }
        self.requests += 1;
        let interest = Interest {
            request: self.requests,
            stage: 1,
            part,
            flow,
            kind: PacketKind::Whole,
            events: events::ALL | events::SYN,
            packet: Bytes::new(),
            state: CarriedState::default(),
        };
        self.say(a, AgentBody::Interest(interest));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wait(ms) => {
                self.now += Duration::from_millis(ms);
                self.feed(Input::Tick);
            }
            Event::Open(a, host, port, remote) => {
                let t = Tuple {
                    src: IpAddr::from([10, 0, 1, host]),
                    dst: IpAddr::from([192, 0, 2, remote]),
                    proto: 6,
                    sport: 40_000 + port,
                    dport: 80,
                };
                if !self.agents[a].held.contains_key(&t) {
                    self.ask(a, Part::Forward, t);
                }
            }
            Event::Inbound(a, host, port, remote) => {
                let wanted = (IpAddr::from([10, 0, 1, host]), 40_000 + port);
                let mut all = self.agents.iter().flat_map(|agent| agent.held.values());
                let Some(x) = all.find(|h| inside(h) == wanted).map(outside) else {
                    return;
                };
                let t = Tuple {
                    src: IpAddr::from([192, 0, 2, 100 + remote]),
                    dst: x.0,
                    proto: 6,
                    sport: 999,
                    dport: x.1,
                };
                let forward = Tuple {
                    src: wanted.0,
                    sport: wanted.1,
                    ..t.reversed()
                };
                if !self.agents[a].held.contains_key(&forward) {
                    self.ask(a, Part::Reply, t);
                    let connected = self.agents[a].session.is_some();
                    assert_eq!(self.agents[a].held.contains_key(&forward), connected);
                }
            }
            Event::End(a, n) => {
                let agent = &mut self.agents[a];
                let keys: Vec<Tuple> = agent.held.keys().copied().collect();
                let Some(ended) = (!keys.is_empty())
                    .then(|| agent.held.remove(&keys[n % keys.len()]))
                    .flatten()
                else {
                    return;
                };
                let x = outside(&ended);
                if !(self.agents.iter()).any(|agent| agent.held.values().any(|h| outside(h) == x)) {
                    self.rests.insert(x, (self.now, inside(&ended)));
                }
                self.say(
                    a,
                    AgentBody::Expired(Ended {
                        flow: ended.flow,
                        forward: Some(ended.tuple),
                        reply: ended.partner,
                        cookie: ended.cookie,
                        request: 0,
                    }),
                );
            }
            Event::Disconnect(a) => {
                if let Some(session) = self.agents[a].session.take() {
                    self.feed(Input::Disconnected(session));
                }
            }
            Event::Connect(a) => self.connect(a),
            Event::Restart => {
                self.epoch += 1;
                self.manager = manager(&self.plan, self.epoch);
                // What rests only the dead one knew.
                self.rests.clear();
                for a in 0..AGENTS {
                    self.agents[a].session = None;
                }
                for a in 0..AGENTS {
                    self.connect(a);
                }
            }
        }
    }

    /// Everything ends, and rests: then all is free.
    fn end(mut self) {
        for a in 0..AGENTS {
            self.connect(a);
            while !self.agents[a].held.is_empty() {
                self.happen(Event::End(a, 0));
            }
        }
        self.happen(Event::Wait(120_001));
        let status = self.manager.status();
        let status = &status.services[0];
        for row in &status.outside {
            assert_eq!(
                (row.mappings, row.held_back, row.free),
                (0, 0, 20),
                "{row:?}"
            );
        }
        assert_eq!(status.counted.get("contradictions"), None);
    }
}

fn manager(plan: &signalbox_lower::plan::Plan, epoch: u64) -> Manager {
    let nat = Nat::new(&plan.services[0]).unwrap().seeded(epoch);
    Manager::new(
        "nat-1",
        plan,
        vec![("egress".into(), 0, epoch, Box::new(nat))],
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    // A2.10, A2.11, A2.12, A2.14, A2.15, A2.16
    #[test]
    fn whatever_happens_an_outside_tuple_has_one_inside_host_at_a_time(
        events in proptest::collection::vec(event(), 1..150),
    ) {
        let mut site = Site::new();
        for event in events {
            site.happen(event);
        }
        site.end();
    }
}

#[test]
fn the_model_sees_flows() {
    let mut site = Site::new();
    for n in 0..20 {
        site.happen(Event::Open(n % 3, (n % 4) as u8, (n / 4) as u16, 0));
    }
    site.happen(Event::Inbound(0, 1, 1, 2));
    assert_eq!(site.installs, 21);
    site.end();
}
