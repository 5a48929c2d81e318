//! The site: the policy, agent, manager, switch and hosts on one clock, and what must hold when a round's
//! leases are over.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::IpAddr;
use std::time::Duration;

use bmv2_tests::differential::Draw;
use bytes::Bytes;
use signalbox_agent::Input as ToTheAgent;
use signalbox_agent::counters::Drop;
use signalbox_agent::entry::{Packet, packet_in};
use signalbox_agent::machine::InUse;
use signalbox_agent::message::{ToAgent, Totals};
use signalbox_agent::packet;
use signalbox_agent::testing::{Fate, World, port_mac};
use signalbox_balance::Balance;
use signalbox_lower::plan::{Kind, Plan};
use signalbox_manager::{Decide, Input, Manager, Output, Reported, Served};
use signalbox_nat::Nat;
use signalbox_observe::Observe;

use crate::hosts::{self, Sent};

const POLICY: &str = "
network {
  port 1 clients { address 203.0.113.1/24; mac 02:00:00:00:00:01 }
  port 2 rack-a { address 10.0.1.1/24; mac 02:00:00:00:00:02 }
  port 3 rack-b { address 10.0.2.1/24; mac 02:00:00:00:00:03 }
}
set blocked = { 203.0.113.66 }
pool web { 10.0.1.10:8080 weight 2; 10.0.2.10:8080; 10.0.2.11:8080 }
pool names { 10.0.1.11:53; 10.0.2.12:53 }
service guard : filter { deny ip.src in @blocked }
service meter : observe {
  match tcp or udp or icmp
  count packets, bytes, flags per flow
  report every 10s, on close
  keep idle 20s, closed 5s
}
service volume : observe {
  match tcp or udp or icmp
  count packets, bytes
  report every 10s
}
service web-lb : balance {
  match tcp.dst 203.0.113.80:443
  pick from @web by least-connections
  keep idle 30s, closed 5s, half-open 5s
  stick source 20s
}
service dns : balance {
  match udp.dst 203.0.113.53:53
  pick from @names by maglev(source)
  way gue
  keep idle 15s
}
service egress : nat {
  match ip.src in 10.0.0.0/8 and not ip.dst in 10.0.0.0/8 and not tcp.src 8080 and not tcp.src 2525
  source 203.0.113.100..203.0.113.101 ports 1024..1035
  keep established 60s, transitory 10s, udp 15s, icmp 10s
  hold-back 20s
  limit 3 tuples per source
}
service mail : nat {
  match tcp.dst 203.0.113.90:25
  destination 10.0.2.25:2525
  keep established 60s, transitory 10s
}
cascade guard > meter > volume > web-lb > dns > egress > mail
managers { all serves meter, volume, web-lb, dns, egress, mail }
";

const SESSION: u64 = 7;
/// New conversations of a round, and the time in which they come.
const ARRIVALS: usize = 600;
const ROUND: Duration = Duration::from_secs(60);
/// By then all leases of a round are over, and what managers remember of its flows.
const OVER: Duration = Duration::from_secs(600);

/// Something that happens later.
#[derive(Debug)]
enum Later {
    Sends(Sent),
    /// A manager's message that is on its way for long.
    Says(Box<ToAgent>),
    /// The agent loses its switch, which goes on by itself.
    SwitchGoes,
    SwitchReturns,
}

/// Everything on one clock.
pub struct Site {
    world: World,
    manager: Manager,
    draw: Draw,
    now: Duration,
    due: BinaryHeap<Reverse<(Duration, u64)>>,
    later: BTreeMap<u64, Later>,
    next: u64,
    /// Packets sent by hosts so far; the last one's serial number.
    sent: u64,
    /// Serial numbers of those that have left, of this round.
    left: BTreeSet<u64>,
    gone: u64,
    /// ICMP errors that have left.
    errors: u64,
    switch_drops: BTreeMap<&'static str, u64>,
    /// The agent is without its switch.
    away: bool,
    /// What the meter's last reports of flows come to.
    metered: Totals,
    /// What the volume's newest report says.
    volume: Totals,
}

fn decisions(plan: &Plan) -> Vec<Served> {
    let served = plan.services.iter().filter(|s| !s.shares.is_empty());
    served
        .map(|service| {
            let decide: Box<dyn Decide> = match service.kind {
                Kind::Balance => Box::new(Balance::new(service).unwrap()),
                Kind::Nat => Box::new(Nat::new(service).unwrap().seeded(1)),
                Kind::Observe => Box::new(Observe::new(service).unwrap()),
                Kind::Filter | Kind::Gate => {
                    panic!("the site has no gate, and a filter no manager")
                }
            };
            (service.name.clone(), 0, 1, decide)
        })
        .collect()
}

impl Site {
    pub fn new(seed: u64) -> Self {
        let checked = signalbox_policy::check(POLICY, "soak.policy");
        let policy = checked
            .policy
            .unwrap_or_else(|| panic!("{:#?}", checked.diagnostics));
        let plan = signalbox_lower::lower(&policy).unwrap().plan;
        for port in &plan.ports {
            assert_eq!(port.mac, port_mac(port.number));
        }
        let mut world = World::new(plan.clone());
        let hosts = (9..30)
            .map(|n| [203, 0, 113, n])
            .chain((1..3).flat_map(|rack| (10..70).map(move |n| [10, 0, rack, n])));
        world.hosts = hosts
            .map(|a| (IpAddr::from(a), [4, 0, 0, a[1], a[2], a[3]]))
            .collect();
        let manager = Manager::new("all", &plan, decisions(&plan));
        let mut site = Self {
            world,
            manager,
            draw: Draw::new(seed),
            now: Duration::ZERO,
            due: BinaryHeap::new(),
            later: BTreeMap::new(),
            next: 0,
            sent: 0,
            left: BTreeSet::new(),
            gone: 0,
            errors: 0,
            switch_drops: BTreeMap::new(),
            away: false,
            metered: Totals::default(),
            volume: Totals::default(),
        };
        site.world.feed(ToTheAgent::SessionOpened(SESSION));
        site.tell(Input::Connected(SESSION));
        site.run_until(Duration::from_secs(5));
        site
    }

    /// Conversations come, and end; then everything that is about them must end.
    pub fn round(&mut self) {
        let begin = self.now;
        for _ in 0..ARRIVALS {
            let at = begin + ROUND.mul_f64(self.draw.below(1_000_000) as f64 / 1e6);
            let sent = hosts::opening(&mut self.draw);
            self.put(at, Later::Sends(sent));
        }
        let gone = begin + Duration::from_millis(20_000 + self.draw.below(20_000) as u64);
        let wait = Duration::from_millis(1 + self.draw.below(3_000) as u64);
        self.put(gone, Later::SwitchGoes);
        self.put(gone + wait, Later::SwitchReturns);
        self.run_until(begin + ROUND + OVER);
        assert!(self.later.is_empty(), "hosts talk on");
        self.nothing_is_left();
        self.every_packet_is_accounted_for();
        self.left.clear();
        // What the stand-in notes for tests.
        self.world.switch.log.clear();
        self.world.switch.wrapped.clear();
        self.world.lines.clear();
    }

    fn put(&mut self, at: Duration, what: Later) {
        self.next += 1;
        self.due.push(Reverse((at, self.next)));
        self.later.insert(self.next, what);
    }

    /// Time passes, from one thing that happens to the next.
    fn run_until(&mut self, end: Duration) {
        loop {
            let event = self.due.peek().map(|Reverse((at, _))| *at);
            let agent = self.world.agent.next_deadline();
            let next = [event, agent, self.manager.next_deadline()];
            let next = next.into_iter().flatten().min().unwrap_or(end);
            let soon = next.max(self.now);
            if soon > end {
                break;
            }
            // What is due is done by this; a deadline that stays would stop the clock.
            self.now = soon;
            self.world.advance(soon.saturating_sub(self.world.now));
            self.tell(Input::Tick);
            self.settle();
            while let Some(Reverse((at, id))) = self.due.peek().copied() {
                if at > self.now {
                    break;
                }
                self.due.pop();
                match self.later.remove(&id).unwrap() {
                    Later::Sends(sent) => self.send(&sent),
                    Later::Says(message) => {
                        self.world.feed(ToTheAgent::Message(SESSION, *message));
                    }
                    Later::SwitchGoes => {
                        self.away = true;
                        let reason = "gone".to_owned();
                        self.world.feed(ToTheAgent::SwitchDown { reason });
                    }
                    Later::SwitchReturns => {
                        self.away = false;
                        self.world.switch_up();
                    }
                }
                self.settle();
            }
        }
        self.now = end;
        self.world.advance(end.saturating_sub(self.world.now));
        self.settle();
    }

    fn send(&mut self, sent: &Sent) {
        self.sent += 1;
        let frame = Bytes::from(hosts::frame(sent, self.sent));
        if !self.away {
            return self.world.receive(sent.port, &frame);
        }
        for fate in self.world.switch.receive(sent.port, &frame) {
            match fate {
                Fate::Out { port, frame } => self.world.left.push((port, frame)),
                Fate::Dropped(why) => self.world.dropped.push(why),
                // A copy, or what was dropped already.
                Fate::ToAgent(Packet { meta, .. })
                    if matches!(meta.kind, packet_in::NOTICE | packet_in::UNDELIVERED) => {}
                Fate::ToAgent(_) => self.world.dropped.push("for an agent that is away"),
            }
        }
    }

    fn tell(&mut self, input: Input) {
        for output in self.manager.handle(self.now, input) {
            match output {
                Output::Message(session, message) => {
                    assert_eq!(session, SESSION);
                    // Half a second in ten the manager is slow, and whoever waits for it gives up; one message
                    // may be late at any time, and is said again before.
                    let slow = self.now.as_millis() % 10_000 < 500;
                    if slow || self.draw.once_in(200) {
                        let at = self.now + Duration::from_millis(300);
                        self.put(at, Later::Says(Box::new(message)));
                    } else {
                        self.world.feed(ToTheAgent::Message(SESSION, message));
                    }
                }
                Output::Record(record) => match record.of {
                    Reported::Flow { report, .. } if report.last && &*record.service == "meter" => {
                        let forward = report.forward.unwrap();
                        self.metered.packets += forward.totals.packets;
                        self.metered.bytes += forward.totals.bytes;
                    }
                    Reported::Criterion(report) => self.volume = report.totals,
                    Reported::Flow { .. } => {}
                },
                Output::Opened { .. } => {}
                Output::Log(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// What was said is heard, and what has left arrives.
    fn settle(&mut self) {
        loop {
            let said = std::mem::take(&mut self.world.said);
            let left = std::mem::take(&mut self.world.left);
            for why in std::mem::take(&mut self.world.dropped) {
                *self.switch_drops.entry(why).or_default() += 1;
            }
            if said.is_empty() && left.is_empty() {
                return;
            }
            for (session, message) in said {
                self.tell(Input::Message(session, message));
            }
            for (port, frame) in left {
                self.arrived(port, &frame);
            }
        }
    }

    fn arrived(&mut self, port: u16, frame: &Bytes) {
        let Some(view) = packet::view(frame) else {
            return; // an ARP request for somebody who is not there
        };
        let Some(note) = hosts::note(frame, &view) else {
            self.errors += 1;
            return;
        };
        assert!(self.left.insert(note.serial), "{note:?} has left twice");
        self.gone += 1;
        let flow = view.tuple;
        let answer = hosts::answer(&mut self.draw, port, flow, view.flags, note.turns);
        if let Some(answer) = answer {
            let wait = Duration::from_millis(1 + self.draw.below(2_000) as u64);
            self.put(self.now + wait, Later::Sends(answer));
        }
    }

    fn nothing_is_left(&self) {
        let switch = &self.world.switch;
        assert_eq!(switch.fixed, BTreeMap::new(), "entries on the switch");
        assert_eq!(switch.tunnels, BTreeMap::new(), "tunnels on the switch");
        assert_eq!(self.world.agent.in_use(), InUse::default(), "at the agent");
        let counters = self.world.agent.counters();
        let now = [
            counters.fixed.now,
            counters.half_open.now,
            counters.held.now,
        ];
        assert_eq!(now, [0; 3], "affinities, half-open flows, held packets");
        for service in self.manager.status().services {
            let name = &service.service;
            assert_eq!(service.flows, 0, "{name}: flows that the manager remembers");
            for target in service.targets {
                assert_eq!(target.flows, 0, "{name}: flows of {}", target.name);
            }
            for outside in service.outside {
                assert_eq!((outside.mappings, outside.held_back), (0, 0), "{outside:?}");
            }
        }
    }

    fn every_packet_is_accounted_for(&self) {
        let counters = self.world.agent.counters();
        let dropped: u64 = self.switch_drops.values().sum();
        let at_agent: u64 = counters.drops.values().sum();
        // The agent's own errors may find the switch away, and are then among what it has dropped.
        let errors: u64 = counters.errors_sent.values().sum();
        let errors_lost = errors - self.errors;
        let without_switch = counters.drops.get(&Drop::NoSwitch).copied();
        assert!(errors_lost <= without_switch.unwrap_or(0), "ICMP errors");
        assert_eq!(
            self.sent + errors_lost,
            self.gone + dropped + at_agent,
            "sent is not what has left ({}) and was dropped: {:?}, {:?}",
            self.gone,
            self.switch_drops,
            counters.drops
        );
        // The volume counts what the meter counts, and what passes by it when its manager does not answer.
        let volume = self.volume.packets;
        assert_eq!(
            volume,
            self.metered.packets + counters.floor_passed,
            "counts"
        );
        let asked = counters.interests + counters.interests_repeated;
        let services = self.manager.status().services;
        let heard: u64 = services.iter().map(|s| s.counts.interest_packets).sum();
        assert_eq!(asked, heard, "questions");
    }

    /// Traffic that shows nothing would leave nothing behind.
    pub fn met_everything(&self) {
        let counters = self.world.agent.counters();
        let services = self.manager.status().services;
        for service in services.iter().filter(|s| s.service != "volume") {
            let decided = service.counts.decided;
            assert!(decided > 50, "{}: {decided} decided", service.service);
        }
        assert!(self.volume.packets > 1_000, "{:?}", self.volume);
        assert!(counters.unanswered > 10, "always answered in time");
        assert!(counters.late_verdicts > 10, "no answer was late");
        assert!(counters.repeated_verdicts > 10, "no answer came twice");
        assert!(
            counters.errors_sent.len() >= 2,
            "{:?}",
            counters.errors_sent
        );
        let lost = self.switch_drops.get("for an agent that is away");
        assert!(lost.is_some_and(|packets| *packets > 10), "{lost:?}");
        for name in ["exhausted", "per_source"] {
            let counted = services.iter().filter_map(|s| s.counted.get(name));
            assert!(counted.sum::<u64>() > 0, "{name}: never");
        }
    }

    /// One line.
    pub fn summary(&self) -> String {
        let counters = self.world.agent.counters();
        format!(
            "{} packets sent, {} left, {} flows set up, {} questions of which {} without a timely answer, \
             at most {} affinities; dropped {:?} and {:?}",
            self.sent,
            self.gone,
            counters.flows,
            counters.interests,
            counters.unanswered,
            counters.fixed.most,
            self.switch_drops,
            counters.drops
        )
    }
}
