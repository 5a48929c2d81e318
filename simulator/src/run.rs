//! Plays a story to its end, and looks at what has become of everybody then.

use std::time::Duration;

use signalbox_agent::entry::CriterionEntry;

use crate::bug::Bug;
use crate::hosts::Phase;
use crate::link::Cut;
use crate::net::Net;
use crate::site::{self, HOLD_BACK, IDLE, LEASE};
use crate::story::{Event, Story};
use crate::watch::Violation;

/// Once everything is well again, every agent has criteria within their lease and this.
const CRITERIA: Duration = Duration::from_millis(600);
/// And new flows get through within so long after that: agents' lists are asked for again after 5 s.
const FLOWS: Duration = Duration::from_millis(5_500);
/// A manager that has taken its share back often waits so long before it does so again, whether its backup has
/// died meanwhile or not.
const PAUSE: Duration = Duration::from_secs(10);
/// A host sends its SYN again after so long.
const AGAIN: Duration = Duration::from_secs(1);
/// The numbers of the flows of the end begin here.
const LAST: usize = 500;

/// What has happened, to see that something has.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Flows that were opened.
    pub opened: usize,
    /// Of those, that were established.
    pub established: usize,
    /// Established flows that came to another agent.
    pub moved: usize,
    /// Changes of plan.
    pub divided: usize,
    /// Faults.
    pub faults: usize,
    /// Managers that took over from another one, or back.
    pub takeovers: u64,
    /// How all ended: agents' counts.
    pub fingerprint: String,
}

impl Tally {
    /// Adds another story's, without how it ended.
    pub fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.established += other.established;
        self.moved += other.moved;
        self.divided += other.divided;
        self.faults += other.faults;
        self.takeovers += other.takeovers;
    }
}

/// Plays a story.
///
/// # Errors
/// The first promise that was broken.
pub fn run(story: &Story, bug: Option<Bug>) -> Result<Tally, Violation> {
    play(story, &mut Net::new(&story.setup, bug, story.seed))
}

/// Plays it as far as all is well, and writes down what is sent and said.
#[must_use]
pub fn transcribe(story: &Story, bug: Option<Bug>) -> Vec<String> {
    let mut net = Net::new(&story.setup, bug, story.seed);
    net.transcript = Some(Vec::new());
    // How it ends is known to whoever wants to read this.
    let _ = play(story, &mut net);
    net.transcript.unwrap_or_default()
}

fn play(story: &Story, net: &mut Net) -> Result<Tally, Violation> {
    let mut tally = Tally::default();
    net.advance(Duration::from_millis(20));
    for step in &story.steps {
        net.advance(step.wait);
        happen(net, step.event, &mut tally);
        if tally.divided > 0 && story.setup.calm {
            net.deciders();
        }
        check(net)?;
    }
    net.peace(story.setup.dead_stay_dead);
    if alone(net) {
        net.advance(PAUSE);
    }
    net.advance(LEASE + CRITERIA);
    check(net)?;
    criteria(net, false);
    net.advance(FLOWS);
    for agent in 0..net.agents.len() {
        new_flows(net, agent);
    }
    check(net)?;
    net.advance(2 * IDLE + Duration::from_secs(4));
    check(net)?;
    nothing_left(net);
    criteria(net, true);
    check(net)?;
    tally.established = (net.hosts.flows.values())
        .filter(|f| f.phase != Phase::Opening)
        .count();
    for process in net.processes.iter().flatten() {
        for service in process.machine.status().services {
            tally.takeovers += service.epoch.saturating_sub(1);
            let counts = service.counts;
            tally.fingerprint += &format!("{} {counts:?}\n", process.machine.name());
        }
    }
    for world in &net.agents {
        tally.fingerprint += &format!("{:?}\n", world.agent.counters().denials);
    }
    for flow in net.hosts.flows.values() {
        tally.fingerprint += &format!("{:?} {:?}\n", flow.phase, flow.to);
    }
    Ok(tally)
}

fn check(net: &Net) -> Result<(), Violation> {
    net.watch.violation.clone().map_or(Ok(()), Err)
}

fn happen(net: &mut Net, event: Event, tally: &mut Tally) {
    match event {
        Event::Open { flow, agent, nat } => {
            tally.opened += 1;
            let packet = net.hosts.open(flow, agent, nat);
            net.send(packet);
        }
        Event::Again(flow) => {
            if let Some(packet) = net.hosts.again(flow) {
                net.send(packet);
            }
        }
        Event::Send(flow) => {
            if let Some(packet) = net.hosts.send(flow) {
                let known = tally.divided > 0 && net.is_known(&packet);
                let before = net.hosts.flows[&flow].arrived;
                net.send(packet);
                if known && net.hosts.flows[&flow].arrived == before {
                    let text = format!("{} does not go on at agent {}", packet.tuple, packet.agent);
                    net.watch.broken(net.now, ("A7.4", text));
                }
            }
        }
        Event::Answer(flow) => {
            if let Some(packet) = net.hosts.answer(flow) {
                net.send(packet);
            }
        }
        Event::End { flow, reset } => {
            for packet in net.hosts.end(flow, reset) {
                net.send(packet);
            }
        }
        Event::Move { flow, agent } => {
            if net.hosts.go(flow, agent) {
                tally.moved += 1;
                if let Some(packet) = net.hosts.send(flow) {
                    net.send(packet);
                }
            }
        }
        Event::Elsewhere { flow, agent } => {
            if let Some(packet) = net.hosts.elsewhere(flow, agent) {
                net.send(packet);
            }
        }
        Event::Stranger { agent, port } => net.send(net.hosts.stranger(agent, port)),
        Event::Mend { agent, manager } => net.mend(agent, manager),
        Event::Start(m) => {
            net.start(m);
            net.settle();
        }
        Event::GoOn(m) => net.go_on(m),
        Event::Rejoin(m) => net.rejoin(m),
        Event::Divide { division, pace } => {
            tally.divided += 1;
            net.divide(division, pace);
        }
        Event::Cut { .. }
        | Event::Kill(_)
        | Event::Stop(_)
        | Event::Hang(_)
        | Event::Restart(_)
        | Event::Wipe(_)
        | Event::Part { .. } => {
            net.hosts.calm = false;
            tally.faults += 1;
            fault(net, event);
        }
    }
    net.settle();
}

fn fault(net: &mut Net, event: Event) {
    match event {
        Event::Cut {
            agent,
            manager,
            noticed: true,
        } => net.cut(agent, manager, Cut::Noticed),
        Event::Cut { agent, manager, .. } => net.cut(agent, manager, Cut::Silent),
        Event::Kill(m) => net.kill(m),
        Event::Stop(m) => net.stop(m),
        Event::Hang(m) => net.hang(m),
        Event::Restart(a) => net.restart(a),
        Event::Wipe(a) => net.wipe(a),
        Event::Part { manager, stays } => {
            net.hosts.parted = true;
            net.part(manager, stays);
        }
        _ => {}
    }
}

/// Whether a manager's backup is dead.
fn alone(net: &Net) -> bool {
    (net.roles.iter().zip(&net.processes)).any(|(role, process)| role.backup && process.is_none())
}

/// Every agent has the criteria of some manager of each service; with `every`, of every manager that there is.
fn criteria(net: &mut Net, every: bool) {
    let shares = (0..net.plan.services.len())
        .flat_map(|service| (0..net.division.shares()).map(move |share| (service, share)));
    for (service, share) in shares {
        let plan = &net.plan.services[service];
        let cubes = site::criteria(plan, share);
        let alive = (net.roles.iter().zip(&net.processes))
            .filter(|(role, process)| process.is_some() && role.service == plan.name)
            .filter(|(role, _)| net.division.share(role.who) == Some(share))
            .count();
        let wanted = if every { alive } else { 1 } * cubes.len();
        for (a, world) in net.agents.iter().enumerate() {
            let of_it =
                |c: &&CriterionEntry| usize::from(c.service) == service && cubes.contains(&c.cube);
            let has = world.switch.criteria.iter().filter(of_it).count();
            if has < wanted {
                let name = &plan.name;
                let text =
                    format!("agent {a} has {has} criteria of {name}/{share}, and not {wanted}");
                return net.watch.broken(net.now, ("A8.5", text));
            }
        }
    }
}

/// New flows get through at an agent, of each share of each service.
fn new_flows(net: &mut Net, agent: usize) {
    let mut flows = Vec::new();
    for nat in net.plan.services.iter().map(|s| s.nat.is_some()) {
        let first = LAST + 4 * agent + 2 * usize::from(nat);
        for share in 0..net.division.shares() {
            let of_it = |n: &usize| net.division.of(nat, net.hosts.from(*n, nat)) == share;
            let number = (first..).step_by(17).find(of_it).unwrap();
            flows.push((number, nat));
        }
    }
    for (number, nat) in flows {
        // What a dead manager had is not given out before it has rested, and there may be nothing else.
        let rests = if nat && net.is_shared() {
            HOLD_BACK
        } else {
            Duration::ZERO
        };
        for _ in 0..3 + 2 * rests.as_secs() {
            let packet = net.hosts.open(number, agent, nat);
            net.send(packet);
            if net.hosts.flows[&number].to.is_some() {
                break;
            }
            net.advance(AGAIN);
        }
        if net.hosts.flows[&number].to.is_none() {
            let text = format!("{} gets nowhere", net.hosts.flows[&number].tuple);
            return net.watch.broken(net.now, ("A9.2", text));
        }
        let answer = net.hosts.answer(number);
        answer.into_iter().for_each(|packet| net.send(packet));
    }
}

/// All flows have been idle for longer than their leases.
fn nothing_left(net: &mut Net) {
    for (a, world) in net.agents.iter().enumerate() {
        let held = world.agent.in_use();
        let nothing = signalbox_agent::machine::InUse::default();
        if held != nothing || !world.switch.fixed.is_empty() {
            let text = format!(
                "agent {a} holds {held:?}, its switch {} entries",
                world.switch.fixed.len()
            );
            return net.watch.broken(net.now, ("nothing is left", text));
        }
    }
}
