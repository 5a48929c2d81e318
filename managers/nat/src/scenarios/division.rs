//! Two managers of one nat service: each gives out its own outside tuples, before and after a division.

use std::collections::BTreeSet;

use signalbox_lower::plan::{Asks, ManagerPlan, NatSource, OutsidePlan};

use super::*;

/// One outside address with the ports 5000 to 5007, for the hosts 10.0.1.0/24 and 10.0.2.0/24.
pub(super) fn whole() -> Plan {
    let mut plan = site(Inbound::Mapped);
    let nat = plan.services[0].nat.as_mut().unwrap();
    nat.source = ports("203.0.113.100", "203.0.113.100", 5000, 5007);
    plan
}

/// nat-1 has 10.0.1.0/24 and the lower half of the ports, nat-2 10.0.2.0/24 and the upper one.
fn halves() -> Plan {
    let mut plan = whole();
    plan.managers.push(ManagerPlan {
        name: "nat-2".into(),
        serves: vec!["egress".into()],
        backs: Vec::new(),
    });
    let service = &plan.services[0];
    let Some(NatSource::Ports { addresses, .. }) = service.nat.as_ref().unwrap().source.clone()
    else {
        panic!("it has ports")
    };
    let share = |manager: &str, inside: &str, (first, mask): (u16, u16)| {
        let mut forward = vec![service.forward.criteria[0].clone()];
        forward[0].cubes[0].src = address(inside, 24);
        let replies = &service.reply.as_ref().unwrap().criteria;
        let mut reply: Vec<Criterion> =
            replies.iter().filter(|c| !c.is_static()).cloned().collect();
        reply[0].cubes[0].dport = Some(Masked { value: first, mask });
        SharePlan {
            asks: Some(Asks { forward, reply }),
            outside: Some(OutsidePlan {
                addresses: addresses.clone(),
                first_port: first,
                last_port: first + 3,
            }),
            ..SharePlan::whole(manager)
        }
    };
    plan.services[0].shares = vec![
        share("nat-1", "10.0.1.0", (5000, 0xfffc)),
        share("nat-2", "10.0.2.0", (5004, 0xfffc)),
    ];
    plan
}

pub(super) fn served(plan: &Plan, share: u32) -> Vec<signalbox_manager::Served> {
    let service = plan.services[0].of_share(share);
    let nat = Nat::new(&service).unwrap().seeded(u64::from(share));
    vec![("egress".into(), share, 0, Box::new(nat))]
}

/// An agent and its managers, by their sessions, with nothing lost between them.
pub(super) struct Pair {
    pub agent: World,
    pub managers: BTreeMap<u64, Manager>,
}

impl Pair {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut pair = Self {
            agent: World::new(plan.clone()),
            managers: BTreeMap::new(),
        };
        pair.join(1, Manager::new("nat-1", plan, served(plan, 0)));
        pair
    }

    pub(super) fn join(&mut self, session: u64, manager: Manager) {
        self.managers.insert(session, manager);
        self.agent.feed(ToTheAgent::SessionOpened(session));
        self.tell(session, Input::Connected(session));
        self.advance(Duration::from_millis(5));
    }

    pub(super) fn tell(&mut self, session: u64, input: Input) {
        let Some(manager) = self.managers.get_mut(&session) else {
            return;
        };
        for output in manager.handle(self.agent.now, input) {
            match output {
                Output::Message(to, message) => {
                    self.agent.feed(ToTheAgent::Message(to, message));
                }
                // Managers call each other by their sessions.
                Output::Peer(to, message) => self.tell(to, Input::Peer(session, message)),
                _ => {}
            }
        }
    }

    fn settle(&mut self) {
        while !self.agent.said.is_empty() {
            for (session, message) in std::mem::take(&mut self.agent.said) {
                self.tell(session, Input::Message(session, message));
            }
        }
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.agent.advance(by);
        for session in self.managers.keys().copied().collect::<Vec<_>>() {
            self.tell(session, Input::Tick);
        }
        self.settle();
    }

    /// The service is divided: nat-1 goes on with its part, nat-2 comes.
    fn divide(&mut self) {
        let plan = halves();
        self.agent.apply(plan.clone());
        self.agent.said.clear();
        let mut first = self.managers.remove(&1).unwrap();
        first.replan(self.agent.now, &plan, served(&plan, 0));
        self.join(3, first);
        self.join(4, Manager::new("nat-2", &plan, served(&plan, 1)));
    }

    /// A datagram from inside to a resolver; the outside port that it leaves with.
    pub(super) fn out(&mut self, src: &str, sport: u16) -> Option<u16> {
        self.out_to(src, sport, 53)
    }

    /// The same to a port of the remote.
    fn out_to(&mut self, src: &str, sport: u16, remote_port: u16) -> Option<u16> {
        let flow = flow(17, src, sport, REMOTE, remote_port);
        self.agent
            .receive(port_of(flow.src), &tcp(port_of(flow.src), &flow, 0, b""));
        self.settle();
        let left = self.agent.take_left();
        left.first().map(|(_, to)| to.sport)
    }

    /// The inside end to which a datagram to an outside port comes.
    fn inward(&mut self, remote_port: u16, outside: u16) -> Option<(IpAddr, u16)> {
        let flow = flow(17, REMOTE, remote_port, "203.0.113.100", outside);
        self.agent.receive(1, &tcp(1, &flow, 0, b""));
        self.settle();
        let left = self.agent.take_left();
        left.first().map(|(_, to)| (to.dst, to.dport))
    }
}

#[test]
fn a7_7_each_manager_gives_out_its_own_ports_and_answers_for_them() {
    let plan = halves();
    let mut pair = Pair::new(&plan);
    pair.join(4, Manager::new("nat-2", &plan, served(&plan, 1)));
    for (host, range) in [(A, 5000..5004), (B, 5004..5008)] {
        let given: BTreeSet<u16> = (0..4).map(|n| pair.out(host, 4000 + n).unwrap()).collect();
        assert_eq!(given, range.collect());
        assert_eq!(pair.out(host, 5000), None, "and none of the other's");
    }
    // A7.6: whoever calls an outside port asks the manager that has given it out.
    for (host, n) in [(A, 0), (B, 1)] {
        let port = pair.out(host, 4000 + n).unwrap();
        assert_eq!(pair.inward(7000, port), Some((ip(host), 4000 + n)));
    }
}

// A7.3, A7.4
#[test]
fn a7_7_a_division_gives_no_port_out_that_a_flow_has() {
    let mut pair = Pair::new(&whole());
    // Six of the eight ports, wherever they fall.
    let old: Vec<(&str, u16, u16)> = [
        (A, 4000),
        (A, 4001),
        (A, 4002),
        (B, 4000),
        (B, 4001),
        (B, 4002),
    ]
    .map(|(host, sport)| (host, sport, pair.out(host, sport).unwrap()))
    .to_vec();
    pair.divide();
    for (host, sport, port) in &old {
        assert_eq!(pair.out(host, *sport), Some(*port), "it goes on");
        assert_eq!(pair.inward(53, *port), Some((ip(host), *sport)));
    }
    let taken: BTreeSet<u16> = old.iter().map(|(_, _, port)| *port).collect();
    let mut free: BTreeSet<u16> = (5000..5008).filter(|p| !taken.contains(p)).collect();
    for n in 0..3 {
        for (host, range) in [(A, 5000..5004), (B, 5004..5008)] {
            // To another port: the agent would see no contradiction.
            if let Some(port) = pair.out_to(host, 4100 + n, 54) {
                assert!(range.contains(&port), "{port} is the other's");
                assert!(free.remove(&port), "{port} is somebody's");
            }
        }
    }
    assert!(free.is_empty(), "what is free is given out: {free:?}");
    for session in [3, 4] {
        let outside = pair.managers[&session].status().services.remove(0).outside;
        let mapped: u64 = outside.iter().map(|o| o.mappings).sum();
        assert_eq!(mapped, 4, "each knows who has its ports");
    }
    // Each flow's end reaches who has its port; then it rests there, and is free again.
    pair.advance(Duration::from_secs(700));
    let mapped: u64 = (pair.managers.values())
        .flat_map(|m| m.status().services.remove(0).outside)
        .map(|o| o.mappings)
        .sum();
    assert_eq!(mapped, 0);
    for _ in 0..10 {
        pair.advance(SECOND * 20);
    }
    let again: BTreeSet<u16> = (0..4).filter_map(|n| pair.out(A, 6000 + n)).collect();
    assert_eq!(again, (5000..5004).collect());
}
