//! What another manager says, to a manager of a balance, a gate and a nat service and to the one that stands by
//! for it.

use std::sync::OnceLock;
use std::time::Duration;

use prost::Message;
use signalbox_agent::flow::{PacketKind, Part, Tuple, events};
use signalbox_agent::message::{
    AgentBody, CarriedState, Interest, ManagerBody, ToManager, VERSION as AGENTS, Welcome,
};
use signalbox_balance::Balance;
use signalbox_gate::{GateService, Outside};
use signalbox_lower::plan::{Kind, Plan};
use signalbox_manager::peer::{PeerHello, PeerMessage, VERSION, wire};
use signalbox_manager::{Decide, Input, Manager, Output, Served};
use signalbox_nat::Nat;

/// `one` decides and `two` stands by.
const POLICY: &str = include_str!("peers.policy");
const NAMES: [&str; 2] = ["one", "two"];

/// The other manager, and the agent.
const PEER: u64 = 7;
const AGENT: u64 = 1;

/// Between two messages.
const STEP: Duration = Duration::from_millis(50);

/// Says to a manager what another one may: see [`remembers`].
pub fn peer_messages(data: &[u8]) {
    let _ = remembers(data);
}

/// How many flows a manager remembers after this. The first byte says which one hears it, 0 the one that decides;
/// then come messages, each after its length in two bytes. What is none ends the way, as it does with gRPC.
pub fn remembers(data: &[u8]) -> usize {
    let Some((who, mut rest)) = data.split_first() else {
        return 0;
    };
    let plan = plan();
    let who = usize::from(who & 1);
    let mut talk = Talk::new(plan, who);
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (said, after) = after.split_at(length);
        rest = after;
        let Some(message) = read(said) else {
            talk.hear(Input::PeerDisconnected(PEER));
            talk.greet(plan, who);
            continue;
        };
        talk.hear(Input::Peer(PEER, message));
    }
    talk.calm();
    let status = talk.manager.status();
    status.services.iter().map(|service| service.flows).sum()
}

/// A message, if it is one; what is understood is written as it was understood.
fn read(said: &[u8]) -> Option<PeerMessage> {
    let message = wire::pb::Message::decode(said).ok()?;
    let message = wire::read(message).ok()?;
    assert_eq!(wire::read(wire::write(&message)), Ok(message.clone()));
    Some(message)
}

/// A manager in the midst of its work.
struct Talk {
    now: Duration,
    manager: Manager,
}

impl Talk {
    /// It has an agent, which holds nothing, and the other manager is there. If it decides, it has done so once.
    fn new(plan: &Plan, who: usize) -> Self {
        let mut talk = Self {
            now: Duration::ZERO,
            manager: Manager::new(NAMES[who], plan, served(plan)),
        };
        talk.hear(Input::Connected(AGENT));
        let welcome = Welcome {
            version: AGENTS,
            agent: "agent-1".into(),
            plan_hash: signalbox_agent::plan_hash(plan),
            shares: Vec::new(),
        };
        talk.hear_agent("", AgentBody::Welcome(welcome));
        talk.greet(plan, who);
        if who == 0 {
            // What the other one does not tell in time is not waited for.
            talk.calm();
            talk.hear_agent("web-lb", AgentBody::Interest(interest()));
        }
        talk
    }

    /// The other one comes, and both know it.
    fn greet(&mut self, plan: &Plan, who: usize) {
        self.hear(Input::PeerConnected(PEER));
        let hello = PeerHello {
            version: VERSION,
            manager: NAMES[1 - who].into(),
            plan_hash: signalbox_agent::plan_hash(plan),
            instance: 1,
            heard: true,
            open: true,
            have: (0, 0),
        };
        self.hear(Input::Peer(PEER, PeerMessage::Hello(hello)));
    }

    fn hear_agent(&mut self, service: &str, body: AgentBody) {
        let message = ToManager {
            service: service.into(),
            share: 0,
            epoch: 0,
            body,
        };
        self.hear(Input::Message(AGENT, message));
    }

    /// It hears something, and a little later what is due is done. What it says to the other one can be read.
    fn hear(&mut self, input: Input) {
        let mut said = self.manager.handle(self.now, input);
        self.now += STEP;
        said.extend(self.manager.handle(self.now, Input::Tick));
        for output in said {
            match output {
                Output::Peer(_, message) => {
                    assert!(read(&wire::write(&message).encode_to_vec()).is_some());
                }
                Output::Message(_, message) => {
                    if let ManagerBody::ListAffinities { request } = message.body {
                        let nothing = AgentBody::Affinities {
                            request,
                            piece: 0,
                            list: Vec::new(),
                            last: true,
                        };
                        self.hear_agent(&message.service, nothing);
                    }
                }
                _ => {}
            }
        }
    }

    /// Nobody says anything for a while.
    fn calm(&mut self) {
        for _ in 0..50 {
            self.hear(Input::Tick);
        }
    }
}

/// A client opens a connection.
fn interest() -> Interest {
    Interest {
        request: 1,
        stage: 2,
        part: Part::Forward,
        flow: Tuple {
            src: [203, 0, 113, 9].into(),
            dst: [203, 0, 113, 80].into(),
            proto: 6,
            sport: 40_000,
            dport: 443,
        },
        kind: PacketKind::Whole,
        events: events::ALL | events::SYN,
        packet: Vec::new().into(),
        state: CarriedState::default(),
    }
}

fn served(plan: &Plan) -> Vec<Served> {
    let mut served: Vec<Served> = Vec::new();
    for service in &plan.services {
        let decide: Option<Box<dyn Decide>> = match service.kind {
            Kind::Balance => Balance::new(service).map(|b| Box::new(b) as _),
            Kind::Nat => Nat::new(service).map(|n| Box::new(n.seeded(1)) as _),
            Kind::Gate => GateService::new(service, Box::new(Still)).map(|g| Box::new(g) as _),
            _ => None,
        };
        served.extend(decide.map(|decide| (service.name.clone(), 0, 0, decide)));
    }
    served
}

/// A clock that stands still, and keys that everybody knows.
struct Still;

impl Outside for Still {
    fn utc(&mut self) -> u64 {
        1_795_651_200
    }

    fn secret(&mut self) -> [u8; 16] {
        [7; 16]
    }
}

fn plan() -> &'static Plan {
    static PLAN: OnceLock<Plan> = OnceLock::new();
    PLAN.get_or_init(|| {
        let policy = signalbox_policy::check(POLICY, "peers.policy").policy;
        let lowered = policy.and_then(|policy| signalbox_lower::lower(&policy).ok());
        lowered.expect("the policy beside this").plan
    })
}
