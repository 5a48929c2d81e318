//! The nat manager with agents on stand-in switches: packets in, packets out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use signalbox_agent::Input as ToTheAgent;
use signalbox_agent::flow::{PacketKind, Tuple, events};
use signalbox_agent::message::{Capability, ManagerBody};
use signalbox_agent::testing::{World, flags, plan, port_mac, tcp};
use signalbox_lower::plan::{
    Criterion, CriterionAction, Cube, Inbound, Masked, MaskedAddr, Plan, ServicePlan, SharePlan,
};
use signalbox_manager::{Input, Manager, Output, ServiceStatus};

use crate::Nat;
use crate::tests::{icmp, ip, nat_plan, ports, service};

mod division;
mod ends;
mod flows;
mod replication;
mod restarts;
mod shared;
mod twice;

const SECOND: Duration = Duration::from_secs(1);

/// One manager and its agents, with nothing lost between them.
struct Net {
    plan: Plan,
    now: Duration,
    agents: Vec<World>,
    manager: Manager,
    epoch: u64,
    /// Sessions as each agent numbers them.
    sessions: Vec<Option<u64>>,
    next: u64,
    /// What the manager has said to agents.
    said: Vec<ManagerBody>,
}

fn address(text: &str, bits: u8) -> Option<MaskedAddr> {
    Some(MaskedAddr {
        value: ip(text),
        mask: IpAddr::from((u32::MAX << (32 - bits)).to_be_bytes()),
    })
}

fn criterion(id: u32, priority: i32, action: CriterionAction, cube: Cube) -> Criterion {
    Criterion {
        id,
        label: "match".into(),
        priority,
        action,
        cubes: vec![Cube {
            kind: Some(Masked { value: 0, mask: 3 }),
            ..cube
        }],
    }
}

/// Inside hosts 10.0.1.10, 10.0.2.10 and 10.0.2.11; outside addresses 203.0.113.100 and .101; a remote,
/// 203.0.113.9.
fn site(inbound: Inbound) -> Plan {
    let mut nat = nat_plan(ports("203.0.113.100", "203.0.113.101", 1024, 65_535), None);
    nat.inbound = inbound;
    let ask = CriterionAction::Ask {
        packet_events: events::ALL,
        notice_events: 0,
    };
    let inside = Cube {
        src: address("10.0.0.0", 8),
        ..Cube::default()
    };
    let outside = Cube {
        dst: address("203.0.113.100", 31),
        ..Cube::default()
    };
    let hairpin = Cube {
        dst: outside.dst,
        ..inside
    };
    let mut plan = plan();
    let mut service: ServicePlan = service(nat);
    service.shares = vec![SharePlan::whole("nat-1")];
    service.addresses = vec![ip("203.0.113.100"), ip("203.0.113.101")];
    service.forward.criteria = vec![criterion(1, 1000, ask.clone(), inside)];
    let others = match inbound {
        Inbound::Answers => CriterionAction::Discard,
        Inbound::Mapped => ask,
    };
    if let Some(reply) = &mut service.reply {
        reply.criteria = vec![
            criterion(2, 1001, CriterionAction::Pass, hairpin),
            criterion(3, 1000, others, outside),
        ];
    }
    plan.managers[0].name = "nat-1".into();
    plan.managers[0].serves = vec!["egress".into()];
    plan.services = vec![service];
    plan
}

fn manager(plan: &Plan, epoch: u64) -> Manager {
    let nat = Nat::new(&plan.services[0]).unwrap().seeded(epoch);
    Manager::new(
        "nat-1",
        plan,
        vec![("egress".into(), 0, epoch, Box::new(nat))],
    )
}

impl Net {
    fn new(plan: &Plan, agents: usize) -> Self {
        let mut net = Self {
            plan: plan.clone(),
            now: Duration::ZERO,
            agents: (1..=agents)
                .map(|n| World::named(&format!("agent-{n}"), plan.clone()))
                .collect(),
            manager: manager(plan, 1),
            epoch: 1,
            sessions: vec![None; agents],
            next: 0,
            said: Vec::new(),
        };
        for a in 0..agents {
            net.mend(a);
        }
        net.advance(Duration::from_millis(5));
        net
    }

    fn tell(&mut self, input: Input) {
        let out = self.manager.handle(self.now, input);
        for output in out {
            let Output::Message(session, message) = output else {
                continue;
            };
            self.said.push(message.body.clone());
            if let Some(a) = self.sessions.iter().position(|s| *s == Some(session)) {
                self.agents[a].feed(ToTheAgent::Message(session, message));
            }
        }
    }

    /// The way between an agent and the manager breaks.
    fn cut(&mut self, a: usize) {
        if let Some(session) = self.sessions[a].take() {
            self.agents[a].feed(ToTheAgent::SessionClosed(session));
            self.agents[a].said.clear();
            self.tell(Input::Disconnected(session));
        }
    }

    /// It is mended, but nothing has been said yet.
    fn mend(&mut self, a: usize) {
        self.next += 1;
        let session = self.next;
        self.sessions[a] = Some(session);
        self.agents[a].feed(ToTheAgent::SessionOpened(session));
        self.tell(Input::Connected(session));
    }

    /// The manager dies, and another one starts of which these agents know.
    fn restart(&mut self, agents: &[usize]) {
        for a in 0..self.agents.len() {
            self.cut(a);
        }
        self.epoch += 1;
        self.manager = manager(&self.plan, self.epoch);
        for a in agents {
            self.mend(*a);
        }
    }

    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            for a in 0..self.agents.len() {
                for (session, message) in std::mem::take(&mut self.agents[a].said) {
                    quiet = false;
                    if self.sessions[a] == Some(session) {
                        self.tell(Input::Message(session, message));
                    }
                }
            }
            if quiet {
                return;
            }
        }
    }

    /// Time passes, from one deadline to the next, in steps of at least a millisecond.
    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while self.now < end {
            let agents = self.agents.iter().filter_map(|w| w.agent.next_deadline());
            let due = agents.chain(self.manager.next_deadline()).min();
            let soon = self.now + Duration::from_millis(1);
            self.now = due.unwrap_or(end).max(soon).min(end);
            for world in &mut self.agents {
                let lag = self.now.saturating_sub(world.now);
                world.advance(lag);
            }
            self.tell(Input::Tick);
            self.settle();
        }
    }

    /// A packet comes in at an agent's switch; what leaves it, as port and flow.
    fn send(&mut self, a: usize, port: u16, frame: &bytes::Bytes) -> Vec<(u16, Tuple)> {
        self.agents[a].receive(port, frame);
        self.settle();
        self.agents[a].take_left()
    }

    /// The same for a packet of one of the hosts.
    fn pass(&mut self, a: usize, flow: &Tuple, flags: u8) -> Option<Tuple> {
        let port = port_of(flow.src);
        let frame = match flow.proto {
            1 => ping(port, flow),
            _ => tcp(port, flow, flags, b""),
        };
        let left = self.send(a, port, &frame);
        assert!(left.len() <= 1, "{left:?}");
        left.first().map(|(out, to)| {
            assert_eq!(*out, port_of(to.dst), "{to}");
            *to
        })
    }

    fn status(&self) -> ServiceStatus {
        self.manager.status().services.remove(0)
    }

    /// Outside tuples that are mapped, and that rest.
    fn tuples(&self) -> (u64, u64) {
        let outside = self.status().outside;
        let of = |f: fn(&signalbox_manager::OutsideStatus) -> u64| outside.iter().map(f).sum();
        (of(|o| o.mappings), of(|o| o.held_back))
    }

    fn counted(&self) -> BTreeMap<&'static str, u64> {
        self.status().counted
    }
}

/// The port that a host is behind.
fn port_of(host: IpAddr) -> u16 {
    match host {
        IpAddr::V4(a) if a.octets()[..3] == [10, 0, 1] => 2,
        IpAddr::V4(a) if a.octets()[..3] == [10, 0, 2] => 3,
        _ => 1,
    }
}

/// An echo request, or with the identifier as destination port a reply.
fn ping(port: u16, flow: &Tuple) -> bytes::Bytes {
    let mut frame = icmp(flow, if flow.dport == 0 { 8 } else { 0 }).to_vec();
    frame[..6].copy_from_slice(&port_mac(port));
    frame.into()
}

const A: &str = "10.0.1.10";
const B: &str = "10.0.2.10";
const REMOTE: &str = "203.0.113.9";

fn flow(proto: u8, src: &str, sport: u16, dst: &str, dport: u16) -> Tuple {
    crate::tests::flow(proto, src, sport, dst, dport)
}

fn is_outside(t: &Tuple) -> bool {
    [ip("203.0.113.100"), ip("203.0.113.101")].contains(&t.src)
}
