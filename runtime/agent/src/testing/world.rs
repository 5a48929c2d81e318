//! An agent on a stand-in switch, on a clock that the test drives.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use signalbox_lower::plan::Plan;

use super::fake_switch::{FakeSwitch, Fate};
use crate::flow::Tuple;
use crate::machine::{Agent, Input, Output, PlanChange, SessionId};
use crate::message::ToManager;
use crate::packet;
use crate::target::Target;

/// An agent, its switch, its hosts, and what it has said to managers.
#[derive(Debug)]
pub struct World {
    /// The time.
    pub now: Duration,
    /// The agent.
    pub agent: Agent,
    /// Its switch.
    pub switch: FakeSwitch,
    /// Hosts that answer ARP, with their MAC addresses.
    pub hosts: BTreeMap<IpAddr, [u8; 6]>,
    /// What left the switch: port and frame, without ARP.
    pub left: Vec<(u16, Bytes)>,
    /// Why packets ended in the switch.
    pub dropped: Vec<&'static str>,
    /// What the agent has said and nobody has taken yet.
    pub said: Vec<(SessionId, ToManager)>,
    /// Sessions that the agent has ended.
    pub closed: Vec<SessionId>,
    /// Lines for the operator.
    pub lines: Vec<String>,
    /// Why the agent will not have this switch.
    pub unusable: Option<String>,
    /// Refreshes that are done.
    pub refreshed: usize,
    /// Counter cells cannot be read.
    pub unreadable: bool,
    /// Reads are not answered.
    pub slow_reads: bool,
    /// Plans that came into force, or did not.
    pub plan_changes: Vec<Result<PlanChange, String>>,
    /// How the switch takes another program: not at all, or keeping nothing (`true`).
    pub loads: Option<bool>,
    coming: Option<Arc<Plan>>,
    /// Writes wait here while the switch is slow.
    pub slow: bool,
    waiting: Vec<Output>,
}

impl World {
    /// An agent whose switch has just come up and is open.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self::named("agent-1", plan)
    }

    /// The same for one of several agents; their names tell them apart.
    #[must_use]
    pub fn named(name: &str, plan: Plan) -> Self {
        let mut world = Self::down(plan.clone(), Target::switch());
        world.agent = Agent::new(name, Arc::new(plan), Target::switch());
        world.switch_up();
        world
    }

    /// An agent whose switch is not there yet.
    #[must_use]
    pub fn down(plan: Plan, target: Target) -> Self {
        let plan = Arc::new(plan);
        let mut switch = FakeSwitch::new(plan.clone());
        switch.counts_packet_out_header = target.counts_packet_out_header;
        let hosts = [
            [10, 0, 1, 10],
            [10, 0, 2, 10],
            [10, 0, 2, 11],
            [203, 0, 113, 9],
        ]
        .into_iter()
        .map(|a: [u8; 4]| {
            let [_, b, c, d] = a;
            (IpAddr::from(a), [4, 0, 0, b, c, d])
        })
        .collect();
        Self {
            now: Duration::ZERO,
            agent: Agent::new("agent-1", plan, target),
            switch,
            hosts,
            left: Vec::new(),
            dropped: Vec::new(),
            said: Vec::new(),
            closed: Vec::new(),
            lines: Vec::new(),
            unusable: None,
            refreshed: 0,
            slow_reads: false,
            unreadable: false,
            slow: false,
            plan_changes: Vec::new(),
            loads: Some(false),
            coming: None,
            waiting: Vec::new(),
        }
    }

    /// The switch comes up with what it holds.
    pub fn switch_up(&mut self) {
        let found = self.switch.found();
        self.feed(Input::SwitchUp(found));
    }

    /// The agent is given another plan.
    pub fn apply(&mut self, plan: Plan) {
        let plan = Arc::new(plan);
        self.coming = Some(plan.clone());
        self.feed(Input::NewPlan(plan));
    }

    /// Something happens, and all that follows at once.
    pub fn feed(&mut self, input: Input) {
        let outputs = self.agent.handle(self.now, input);
        for output in outputs {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Write { .. } if self.slow => self.waiting.push(output),
            Output::Write { batch, updates } => {
                let results = updates.iter().map(|u| self.switch.apply(u)).collect();
                self.feed(Input::WriteDone { batch, results });
            }
            Output::Read { .. } if self.slow_reads => self.waiting.push(output),
            Output::Read { read, cells } => {
                let cell = |c| self.switch.cells.get(c).copied().unwrap_or_default();
                let totals = (cells.iter())
                    .map(|c| (!self.unreadable).then(|| cell(c)))
                    .collect();
                self.feed(Input::ReadDone { read, totals });
            }
            Output::Reconcile(desired) => {
                self.switch.reconcile(&desired);
                self.feed(Input::Reconciled);
            }
            Output::PacketOut(packet) => {
                let fates = self.switch.packet_out(packet);
                self.fates(fates);
            }
            Output::Message(session, message) => self.said.push((session, message)),
            Output::CloseSession(session) => self.closed.push(session),
            Output::Ready => {}
            Output::LoadProgram { cells } => {
                let (Some(plan), Some(empty)) = (self.coming.clone(), self.loads) else {
                    let reason = "the switch will not".to_owned();
                    return self.feed(Input::ProgramRefused { reason });
                };
                self.switch.load(&plan, empty);
                let mut found = self.switch.found();
                let kept = !cells && !empty;
                if kept {
                    found.cells.clear();
                }
                self.feed(Input::ProgramLoaded { found, kept });
            }
            Output::PlanTaken => {
                if let Some(plan) = self.coming.take() {
                    self.switch.use_plan(&plan);
                }
            }
            Output::PlanInForce(change) => self.plan_changes.push(Ok(change)),
            Output::PlanRefused(why) => self.plan_changes.push(Err(why)),
            Output::Refreshed => self.refreshed += 1,
            Output::Unusable(reason) => self.unusable = Some(reason),
            Output::Log(line) => self.lines.push(line),
        }
    }

    /// Writes that wait go through.
    pub fn release(&mut self) {
        self.slow = false;
        for output in std::mem::take(&mut self.waiting) {
            self.carry_out(output);
        }
    }

    fn fates(&mut self, fates: Vec<Fate>) {
        for fate in fates {
            match fate {
                Fate::ToAgent(packet) => self.feed(Input::PacketIn(packet)),
                Fate::Dropped(why) => self.dropped.push(why),
                Fate::Out { port, frame } => self.out(port, frame),
            }
        }
    }

    fn out(&mut self, port: u16, frame: Bytes) {
        let target = packet::v4_at(&frame, 38);
        let is_arp = packet::ether_type(&frame) == Some(packet::TYPE_ARP);
        let (true, Some(target)) = (is_arp, target) else {
            return self.left.push((port, frame));
        };
        if packet::u16_at(&frame, 20) != Some(1) {
            return self.left.push((port, frame));
        }
        let asker = packet::mac_at(&frame, 22).zip(packet::v4_at(&frame, 28));
        if let (Some(mac), Some((to, own))) = (self.hosts.get(&target.into()).copied(), asker) {
            let answer = arp(2, to, mac, target, to, own);
            self.receive(port, &answer);
        }
    }

    /// A frame comes in on a port of the switch.
    pub fn receive(&mut self, port: u16, frame: &Bytes) {
        let fates = self.switch.receive(port, frame);
        self.fates(fates);
    }

    /// Time passes, deadline by deadline.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(next) = self.agent.next_deadline().filter(|d| *d <= end) {
            self.now = self.now.max(next);
            self.feed(Input::Tick);
        }
        self.now = end;
        self.feed(Input::Tick);
    }

    /// Takes what left the switch, as port and flow.
    pub fn take_left(&mut self) -> Vec<(u16, Tuple)> {
        std::mem::take(&mut self.left)
            .into_iter()
            .filter_map(|(port, frame)| Some((port, packet::view(&frame)?.tuple)))
            .collect()
    }
}

/// An ARP packet in its frame.
#[must_use]
pub fn arp(
    operation: u8,
    to: [u8; 6],
    mac: [u8; 6],
    sender: Ipv4Addr,
    target_mac: [u8; 6],
    target: Ipv4Addr,
) -> Bytes {
    let mut b = vec![0, 1, 8, 0, 6, 4, 0, operation];
    b.extend_from_slice(&mac);
    b.extend_from_slice(&sender.octets());
    b.extend_from_slice(&target_mac);
    b.extend_from_slice(&target.octets());
    packet::frame(to, mac, packet::TYPE_ARP, &b).into()
}
