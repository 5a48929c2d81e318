//! Two agents, and processes of a gate's manager and of the one that stands by for it, with what they say to each
//! other on its way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use signalbox_agent::message::{ToAgent, ToManager};
use signalbox_agent::testing::with_backup;
use signalbox_lower::plan::Replicate;
use signalbox_manager::peer::PeerMessage;
use signalbox_manager::{LinkState, LinkStatus, Served};

use super::*;

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// The first process of each manager, by which agents and managers know it.
pub(super) const GATE_1: u64 = 1;
pub(super) const GATE_2: u64 = 2;

/// The server's window scale; the policy has told clients 7.
pub(super) const SCALE: u8 = 3;

/// gate-2 stands by for gate-1.
pub(super) fn backed(replicate: Option<Replicate>) -> Plan {
    with_backup(plan(), "gate-2", 1_000, replicate)
}

/// What is on its way: from and to whom.
enum Word {
    Up(usize, u64, ToManager),
    Down(u64, usize, ToAgent),
    Across(u64, u64, PeerMessage),
}

pub(super) struct Pair {
    pub plan: Plan,
    now: Duration,
    pub agents: Vec<World>,
    pub managers: BTreeMap<u64, Manager>,
    links: BTreeSet<(u64, u64)>,
    words: VecDeque<Word>,
    /// Managers that hear and say nothing.
    pub hung: BTreeSet<u64>,
    /// So many words arrive yet, and then none.
    pub fuse: usize,
    /// Packets that agents have asked about.
    pub asked: usize,
}

impl Pair {
    /// Both managers, each with a session to each agent, and a way between them.
    pub fn new(plan: Plan) -> Self {
        let mut pair = Self {
            agents: (0..2).map(|a| agent(a, &plan)).collect(),
            plan,
            now: Duration::ZERO,
            managers: BTreeMap::new(),
            links: BTreeSet::new(),
            words: VecDeque::new(),
            hung: BTreeSet::new(),
            fuse: usize::MAX,
            asked: 0,
        };
        pair.start(GATE_1, "gate-1");
        pair.start(GATE_2, "gate-2");
        pair.link(GATE_1, GATE_2);
        pair.pass(5 * MS);
        pair
    }

    /// The same, once all is quiet.
    pub fn calm(plan: Plan) -> Self {
        let mut pair = Self::new(plan);
        pair.pass(2 * SECOND);
        if let Some(link) = pair.managers[&GATE_1].status().links.first() {
            assert_eq!(link.state, LinkState::InSync);
        }
        pair
    }

    /// A process that knows nothing.
    pub fn start(&mut self, m: u64, name: &str) {
        let key = Fixed(u8::try_from(m).unwrap() * 16);
        let gate = GateService::new(&self.plan.services[0], Box::new(key)).unwrap();
        let served: Vec<Served> = vec![("admin".into(), 0, 0, Box::new(gate))];
        let manager = Manager::new(name, &self.plan, served).with_instance(m);
        self.managers.insert(m, manager);
        for a in 0..self.agents.len() {
            self.agents[a].feed(ToTheAgent::SessionOpened(m));
            self.tell(m, Input::Connected(a as u64));
        }
        self.settle();
    }

    pub fn link(&mut self, m: u64, n: u64) {
        self.links.extend([(m, n), (n, m)]);
        self.tell(m, Input::PeerConnected(n));
        self.tell(n, Input::PeerConnected(m));
        self.settle();
    }

    /// The process dies, and with it all that it has said and nobody has heard.
    pub fn kill(&mut self, m: u64) {
        self.managers.remove(&m);
        self.words.retain(|word| match word {
            Word::Up(_, to, _) => *to != m,
            Word::Down(from, ..) => *from != m,
            Word::Across(from, to, _) => ![from, to].contains(&&m),
        });
        let others: Vec<u64> = (self.links.iter())
            .filter(|(of, _)| *of == m)
            .map(|(_, other)| *other)
            .collect();
        self.links.retain(|(of, with)| ![of, with].contains(&&m));
        for other in others {
            self.tell(other, Input::PeerDisconnected(m));
        }
        for agent in &mut self.agents {
            agent.feed(ToTheAgent::SessionClosed(m));
        }
        self.settle();
    }

    /// An agent and its switch start anew, with nothing.
    pub fn forget(&mut self, a: usize) {
        self.agents[a] = agent(a, &self.plan);
        self.agents[a].now = self.now;
        let all: Vec<u64> = self.managers.keys().copied().collect();
        for m in all {
            self.tell(m, Input::Disconnected(a as u64));
            self.agents[a].feed(ToTheAgent::SessionOpened(m));
            self.tell(m, Input::Connected(a as u64));
        }
        self.settle();
    }

    fn tell(&mut self, m: u64, input: Input) {
        let Some(manager) = self.managers.get_mut(&m) else {
            return;
        };
        for output in manager.handle(self.now, input) {
            match output {
                Output::Message(a, message) => {
                    self.words.push_back(Word::Down(m, a as usize, message));
                }
                Output::Peer(to, message) if self.links.contains(&(m, to)) => {
                    self.words.push_back(Word::Across(m, to, message));
                }
                _ => {}
            }
        }
    }

    /// Everything that is on its way arrives.
    pub fn settle(&mut self) {
        loop {
            for (a, agent) in self.agents.iter_mut().enumerate() {
                for (m, message) in std::mem::take(&mut agent.said) {
                    self.asked += usize::from(matches!(message.body, AgentBody::Interest(_)));
                    self.words.push_back(Word::Up(a, m, message));
                }
            }
            let arrives = self.words.iter().position(|word| match word {
                Word::Up(_, m, _) | Word::Across(_, m, _) => !self.hung.contains(m),
                Word::Down(..) => true,
            });
            let Some(at) = arrives.filter(|_| self.fuse > 0) else {
                return;
            };
            self.fuse -= 1;
            match self.words.remove(at) {
                Some(Word::Up(a, m, message)) => self.tell(m, Input::Message(a as u64, message)),
                Some(Word::Across(from, to, said)) => self.tell(to, Input::Peer(from, said)),
                Some(Word::Down(m, a, message)) => {
                    self.agents[a].feed(ToTheAgent::Message(m, message));
                }
                None => {}
            }
        }
    }

    pub fn pass(&mut self, time: Duration) {
        self.settle();
        let end = self.now + time;
        while self.now < end {
            let live = |m: &&u64| !self.hung.contains(m);
            let all: Vec<u64> = self.managers.keys().filter(live).copied().collect();
            let agents = self.agents.iter().filter_map(|a| a.agent.next_deadline());
            let due = (all.iter()).filter_map(|m| self.managers[m].next_deadline());
            let next = agents.chain(due).min().unwrap_or(end);
            self.now = next.clamp(self.now + MS, end);
            for agent in &mut self.agents {
                agent.advance(self.now.saturating_sub(agent.now));
            }
            for m in all {
                self.tell(m, Input::Tick);
            }
            self.settle();
        }
    }

    /// The criteria's lease passes, and a little.
    pub fn pass_lease(&mut self) {
        self.pass(Duration::from_millis(self.plan.services[0].lease_ms(0)) + 50 * MS);
    }

    /// A segment comes at an agent, and nobody has heard of it.
    pub fn come(&mut self, a: usize, s: &Segment) {
        let port = if s.src.0 == CLIENT.0 { 1 } else { 2 };
        let bytes: Bytes = frame(port_mac(port), [0xaa; 6], TYPE_IPV4, &s.emit()).into();
        self.agents[a].receive(port, &bytes);
    }

    /// A segment comes at an agent; what leaves its switch.
    pub fn send(&mut self, a: usize, s: &Segment) -> Vec<Segment> {
        self.come(a, s);
        self.settle();
        self.left(a)
    }

    pub fn left(&mut self, a: usize) -> Vec<Segment> {
        (std::mem::take(&mut self.agents[a].left).into_iter())
            .filter_map(|(_, bytes)| Some(Segment::parse_frame(&bytes)?.0))
            .collect()
    }

    pub fn status(&self, m: u64) -> ServiceStatus {
        self.managers[&m].status().services.remove(0)
    }

    pub fn count(&self, m: u64, what: &str) -> u64 {
        self.status(m).counted.get(what).copied().unwrap_or(0)
    }

    /// Whether a manager stands by, and its epoch.
    pub fn standing(&self, m: u64) -> (bool, u64) {
        let status = self.status(m);
        (status.stands_by, status.epoch)
    }

    pub fn link_of(&self, m: u64) -> LinkStatus {
        self.managers[&m].status().links.remove(0)
    }

    /// A client at this port completes its handshake; the server has been sent a SYN. The cookie.
    pub fn called(&mut self, a: usize, port: u16) -> u32 {
        let mut syn = of(port, client(SYN, ISN, 0, b""));
        syn.options.mss = Some(1460);
        syn.options.window_scale = Some(7);
        let cookie = self.send(a, &syn)[0].seq;
        let left = self.send(a, &of(port, client(ACK, ISN + 1, cookie + 1, b"")));
        assert_eq!(
            (left[0].dst, left[0].flags, left[0].seq),
            (SERVER, SYN, ISN)
        );
        cookie
    }

    /// Client and server connect; the cookie.
    pub fn connected(&mut self, a: usize, port: u16) -> u32 {
        let cookie = self.called(a, port);
        let left = self.send(a, &syn_ack(port));
        assert_eq!((left[0].dst, left[0].flags), (SERVER, ACK));
        cookie
    }

    /// Whether an agent lets both directions pass, in the numbers that each end knows.
    pub fn talks(&mut self, a: usize, port: u16, cookie: u32) -> bool {
        let said = of(port, client(ACK | PSH, ISN + 1, cookie + 1, b"hello"));
        let to_server = self.send(a, &said);
        let said = of(port, server(ACK | PSH, SERVER_ISN + 1, ISN + 6, b"hi"));
        let to_client = self.send(a, &said);
        let numbers = |s: &Segment| (s.dst, s.flags, s.seq, s.ack, s.payload.len());
        let all: Vec<_> = to_server.iter().chain(&to_client).map(numbers).collect();
        let client = (CLIENT.0, port);
        all == [
            (SERVER, ACK | PSH, ISN + 1, SERVER_ISN + 1, 5),
            (client, ACK | PSH, cookie + 1, ISN + 6, 2),
        ]
    }
}

fn agent(number: usize, plan: &Plan) -> World {
    World::named(&format!("agent-{}", number + 1), plan.clone())
}

/// The same of a client's other port.
pub(super) fn of(port: u16, mut s: Segment) -> Segment {
    let end = if s.src == SERVER {
        &mut s.dst
    } else {
        &mut s.src
    };
    end.1 = port;
    s
}

pub(super) fn syn_ack(port: u16) -> Segment {
    let mut s = of(port, server(SYN | ACK, SERVER_ISN, ISN + 1, b""));
    s.options.mss = Some(1460);
    s.options.window_scale = Some(SCALE);
    s
}
