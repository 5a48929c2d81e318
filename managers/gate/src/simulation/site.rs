//! Everything between the two hosts: lines, switch, agent, and the manager with its gate.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use signalbox_agent::adjust::Adjust;
use signalbox_agent::flow::{PacketKind, Part, Tuple};
use signalbox_agent::message::{Action, CarriedState, Decision};
use signalbox_agent::packet::{frame, proto};
use signalbox_agent::testing;
use signalbox_lower::plan::{GatePlan, LookPlan};
use signalbox_manager::Decided;
use signalbox_manager::proxy::{Diverted, Question, Step};
use signalbox_manager::segment::{RST, Segment};

use super::Tally;
use super::host::Host;
use super::line::adjusted;
use super::story::{Dice, Story, Temper};
use crate::cookie::Announced;
use crate::gate::Gate;

const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 9), 40_000);
const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 5), 22);
/// How long the agent holds a packet.
const HOLD: Duration = Duration::from_millis(200);

const fn flow() -> Tuple {
    Tuple {
        src: IpAddr::V4(CLIENT.0),
        dst: IpAddr::V4(SERVER.0),
        proto: proto::TCP,
        sport: CLIENT.1,
        dport: SERVER.1,
    }
}

enum Event {
    /// A frame that a host has sent reaches the switch.
    Switch(Part, Bytes),
    /// A frame reaches a host: the way `Part` leads to it.
    Host(Part, Bytes),
    /// A host wants to act; the number tells whether it still does.
    Wake(usize, u64),
    /// The manager hears of a packet, or of a denial.
    Asked(u64, u64, Part, Bytes),
    Denied(u64),
    /// The agent hears of a step.
    Told(u64, Step),
    /// A packet of the manager's own is at the switch.
    Injected(Part, Bytes),
    /// The next entry is in.
    Written,
    /// The agent holds a packet no longer, or asks again.
    Due(u64, bool),
    /// The gate wants to be ticked.
    Tick,
    Dies,
    Starts,
    Listens,
}

struct At(Duration, u64, Event);

impl PartialEq for At {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for At {}
impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for At {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// What the switch and its agent know of the flow.
#[derive(Default)]
struct Entries {
    reply: Option<Adjust>,
    forward: Option<Adjust>,
    wanted: Option<(Adjust, Adjust)>,
    /// Packets that wait until all is in.
    held: Vec<(Part, Bytes)>,
}

pub struct Site {
    story: Story,
    dice: Dice,
    now: Duration,
    events: BinaryHeap<Reverse<At>>,
    count: u64,
    hosts: [Host; 2],
    wakes: [u64; 2],
    entries: Entries,
    questions: BTreeMap<u64, (Part, Bytes)>,
    asked: u64,
    /// The manager; absent while it is dead. Messages of a former one are not heard.
    gate: Option<Gate>,
    life: u64,
    /// What the manager remembers of the flow.
    remembered: Option<Box<Decided>>,
    to_manager: Duration,
    to_agent: Duration,
    tally: Tally,
    reached: bool,
    problem: Option<String>,
    verbose: bool,
}

fn plan(story: &Story) -> GatePlan {
    let mut plan = testing::gate();
    plan.bounds.proxied = 10;
    GatePlan {
        look: (story.looks)
            .then(|| LookPlan::Bytes {
                offset: 0,
                value: b"LOOK".to_vec(),
                mask: vec![255; 4],
            })
            .into_iter()
            .collect(),
        mss_v4: story.mss,
        mss_v6: story.mss,
        window_scale: story.scale,
        buffer: story.buffer,
        hand_over_ms: story.hand_over.as_millis() as u64,
        proxied_idle_ms: 60_000,
        ..plan
    }
}

/// What the server's SYN-ACK will say.
fn said(story: &Story) -> Announced {
    let bits = usize::BITS - story.server.receive.leading_zeros();
    Announced {
        mss: story.server.mtu as u16 - 40,
        scale: Some(bits.saturating_sub(16) as u8),
    }
}

fn stream(length: usize, seed: u64, begins: &[u8]) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let mut bytes: Vec<u8> = (0..length).map(|_| dice.next() as u8).collect();
    let n = begins.len().min(length);
    bytes[..n].copy_from_slice(&begins[..n]);
    bytes
}

impl Site {
    pub fn new(story: Story, verbose: bool) -> Self {
        let begins: &[u8] = if story.wrong { b"NOOK" } else { b"LOOK" };
        let seed = story.seed;
        let client = stream(story.client.bytes, seed ^ 1, begins);
        let server = stream(story.server.bytes, seed ^ 2, b"");
        let hosts = [
            Host::new(CLIENT.0, seed ^ 3, story.client.clone(), client),
            Host::new(SERVER.0, seed ^ 4, story.server.clone(), server),
        ];
        let mut gate = Gate::new(plan(&story), [seed as u8; 16]);
        gate.clock(Duration::ZERO, 0);
        if story.known {
            gate.heard(
                (SERVER.0.into(), SERVER.1),
                said(&story),
                story.server.receive.min(65_535) as u16,
            );
        }
        let mut site = Self {
            dice: Dice::new(seed ^ 5),
            now: Duration::ZERO,
            events: BinaryHeap::new(),
            count: 0,
            hosts,
            wakes: [0; 2],
            entries: Entries::default(),
            questions: BTreeMap::new(),
            asked: 0,
            gate: Some(gate),
            life: 0,
            remembered: None,
            to_manager: Duration::ZERO,
            to_agent: Duration::ZERO,
            tally: Tally::default(),
            reached: false,
            problem: None,
            verbose,
            story,
        };
        if site.story.temper != Temper::Refuses {
            site.at(Duration::ZERO, Event::Listens);
        }
        site.hosts[0].connect(SERVER, CLIENT.1);
        if let Some((dies, after)) = site.story.dies {
            site.at(dies, Event::Dies);
            site.at(dies + after, Event::Starts);
        }
        site.at(Duration::ZERO, Event::Wake(0, 0));
        site
    }

    pub fn now(&self) -> Duration {
        self.now
    }

    pub fn events(&self) -> u64 {
        self.count
    }

    fn at(&mut self, when: Duration, event: Event) {
        self.count += 1;
        self.events.push(Reverse(At(when, self.count, event)));
    }

    fn say(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            println!("{:>12.6} {}", self.now.as_secs_f64(), text());
        }
    }

    fn show(&self, what: &str, frame: &Bytes) {
        self.say(|| match Segment::parse_frame(frame) {
            Some((s, _)) => format!(
                "{what} :{} seq {} ack {} flags {:02x} win {} {:?} len {}",
                s.src.1,
                s.seq,
                s.ack,
                s.flags,
                s.window,
                s.options,
                s.payload.len()
            ),
            None => format!("{what} {frame:?}"),
        });
    }

    /// Whether there is nothing left that could go wrong.
    pub fn is_over(&self) -> bool {
        self.problem.is_some()
            || (self.hosts[0].is_over()
                && (self.hosts[1].is_over() || (!self.hosts[1].was_open && self.server_idle()))
                && self.gate.as_ref().is_some_and(|g| g.proxied() == 0))
    }

    fn server_idle(&self) -> bool {
        use smoltcp::socket::tcp::State;
        matches!(self.hosts[1].state(), State::Listen | State::Closed)
    }

    pub fn state(&self) -> String {
        let [c, s] = &self.hosts;
        format!(
            "client {:?} sent {} received {} end {}, server {:?} sent {} received {} end {}, gate {:?}",
            c.state(),
            c.sent,
            c.received.len(),
            c.saw_end,
            s.state(),
            s.sent,
            s.received.len(),
            s.saw_end,
            self.gate.as_ref().map(|g| g.counts().all())
        )
    }

    /// Lets the next thing happen; false if there is none.
    pub fn step(&mut self) -> Result<bool, String> {
        let Some(Reverse(At(when, _, event))) = self.events.pop() else {
            return Ok(false);
        };
        self.now = self.now.max(when);
        match event {
            Event::Switch(part, frame) => self.arrives(part, frame),
            Event::Host(part, frame) => {
                let h = usize::from(part == Part::Forward);
                self.show(
                    if h == 0 {
                        "            > client"
                    } else {
                        "            > server"
                    },
                    &frame,
                );
                if h == 1 {
                    self.server_sees(&frame);
                }
                self.hosts[h].receive(&frame);
                self.act(h);
            }
            Event::Wake(h, number) if number == self.wakes[h] => self.act(h),
            Event::Wake(..) => {}
            Event::Asked(life, request, part, frame) => self.asked(life, request, part, &frame),
            Event::Denied(life) => {
                if life == self.life
                    && let Some(gate) = &mut self.gate
                {
                    self.remembered = None;
                    gate.denied(&flow());
                    self.carry_out();
                }
            }
            Event::Told(life, step) => self.told(life, step),
            Event::Injected(part, frame) => self.pass(part, frame),
            Event::Written => self.written(),
            Event::Due(request, again) => self.due(request, again),
            Event::Tick => {
                if let Some(gate) = &mut self.gate {
                    gate.tick(self.now);
                    self.carry_out();
                }
            }
            Event::Dies => {
                self.tally.add("manager died", 1);
                self.say(|| "the manager dies".into());
                self.count_gate();
                self.gate = None;
                self.life += 1;
                self.remembered = None;
            }
            Event::Starts => self.starts(),
            Event::Listens => {
                self.hosts[1].listen(SERVER.1);
                self.act(1);
            }
        }
        match self.problem.take() {
            Some(problem) => Err(problem),
            None => Ok(true),
        }
    }

    fn starts(&mut self) {
        let mut gate = Gate::new(plan(&self.story), [self.story.seed as u8 ^ 0x55; 16]);
        gate.clock(self.now, 0);
        gate.follows(self.now);
        let wanted = (self.entries.forward.zip(self.entries.reply)).or(self.entries.wanted);
        if let Some((forward, reply)) = wanted {
            // The agent lists what it holds.
            gate.adopted(&flow());
            let deltas = crate::connection::Deltas { forward, reply };
            self.remembered = Some(Box::new(crate::host::decided(flow(), &deltas)));
        }
        self.say(|| "another manager starts".into());
        self.gate = Some(gate);
    }

    /// No client's segment may reach the server before its handshake is complete, and none that will not do.
    fn server_sees(&mut self, frame: &Bytes) {
        let reset = Segment::parse_frame(frame).is_some_and(|(s, _)| s.flags & RST != 0);
        self.reached |= !reset;
        if self.story.wrong && !reset {
            self.problem = Some("the server has seen a client that may not come in".into());
        }
    }

    fn act(&mut self, h: usize) {
        let frames = self.hosts[h].step(self.now);
        let part = if h == 0 { Part::Forward } else { Part::Reply };
        for frame in frames {
            self.show(if h == 0 { "client >" } else { "server >" }, &frame);
            self.send(frame, move |frame| Event::Switch(part, frame), h == 1);
        }
        self.wakes[h] += 1;
        let number = self.wakes[h];
        if let Some(at) = self.hosts[h].next(self.now) {
            let at = at.max(self.now + Duration::from_micros(10));
            self.at(at, Event::Wake(h, number));
        }
    }

    /// Over a line with the weather of the day.
    fn send(&mut self, frame: Bytes, event: impl Fn(Bytes) -> Event, servers: bool) {
        let dead = match self.story.temper {
            Temper::Dead => true,
            Temper::Late(until) => self.now < until,
            _ => false,
        };
        if servers && dead {
            return;
        }
        let w = self.story.weather;
        let calm = self.now >= self.story.quiet;
        let times = match (
            calm,
            self.dice.percent(w.loss),
            self.dice.percent(w.doubled),
        ) {
            (true, ..) => 1,
            (_, true, _) => 0,
            (_, _, doubled) => 1 + u64::from(doubled),
        };
        for _ in 0..times {
            let jitter = if calm { 0 } else { w.jitter.as_micros() as u64 };
            let late = w.delay + self.dice.micros(0, jitter);
            self.at(self.now + late, event(frame.clone()));
        }
    }

    /// A frame is at the switch.
    fn arrives(&mut self, part: Part, frame: Bytes) {
        let entry = match part {
            Part::Forward => self.entries.forward,
            Part::Reply => self.entries.reply,
        };
        if let Some(by) = entry {
            return self.leaves(part, adjusted(&frame, by));
        }
        if self.entries.wanted.is_some() {
            return self.entries.held.push((part, frame));
        }
        self.asked += 1;
        let request = self.asked;
        self.questions.insert(request, (part, frame.clone()));
        self.at(self.now + HOLD / 2, Event::Due(request, true));
        self.at(self.now + HOLD, Event::Due(request, false));
        self.ask(request, part, frame);
    }

    fn ask(&mut self, request: u64, part: Part, frame: Bytes) {
        let late = self.dice.micros(20, 3_000);
        self.to_manager = self.to_manager.max(self.now + late);
        self.at(
            self.to_manager,
            Event::Asked(self.life, request, part, frame),
        );
    }

    /// A frame past the gate's stage, from an entry or the manager.
    fn pass(&mut self, part: Part, frame: Bytes) {
        let entry = match part {
            Part::Forward => self.entries.forward,
            Part::Reply => self.entries.reply,
        };
        // What comes from the manager is not diverted, but it meets the entry like any other.
        let frame = entry.map_or(frame.clone(), |by| adjusted(&frame, by));
        self.leaves(part, frame);
    }

    fn leaves(&mut self, part: Part, frame: Bytes) {
        self.send(frame, move |f| Event::Host(part, f), part == Part::Forward);
    }

    fn due(&mut self, request: u64, again: bool) {
        if again {
            if let Some((part, frame)) = self.questions.get(&request).cloned() {
                self.ask(request, part, frame);
            }
        } else {
            // The floor: it is dropped.
            self.questions.remove(&request);
        }
    }

    /// The manager, as the kit has it: what it remembers it says again, the rest is the gate's.
    fn asked(&mut self, life: u64, request: u64, part: Part, frame: &Bytes) {
        let Some(gate) = self.gate.as_mut().filter(|_| life == self.life) else {
            return;
        };
        let question = Question { way: 0, request };
        if let Some(decided) = self.remembered.clone()
            && !gate.has(&flow())
        {
            let step = Step::HandOver {
                decided,
                last: (question, Decision::Resume),
                held: Vec::new(),
            };
            return self.tell(step);
        }
        let flow = match part {
            Part::Forward => flow(),
            Part::Reply => flow().reversed(),
        };
        gate.tick(self.now);
        gate.packet(
            self.now,
            &Diverted {
                question,
                part,
                flow,
                kind: PacketKind::Whole,
                packet: frame,
                state: CarriedState::default(),
            },
        );
        self.carry_out();
    }

    fn carry_out(&mut self) {
        let Some(gate) = &mut self.gate else { return };
        let (steps, next) = (gate.steps(), gate.next());
        for step in steps {
            if let Step::HandOver { decided, .. } = &step {
                self.remembered = Some(decided.clone());
            }
            self.tell(step);
        }
        if let Some(next) = next {
            self.at(next.max(self.now), Event::Tick);
        }
    }

    fn tell(&mut self, step: Step) {
        let late = self.dice.micros(20, 3_000);
        self.to_agent = self.to_agent.max(self.now + late);
        self.at(self.to_agent, Event::Told(self.life, step));
    }

    fn told(&mut self, life: u64, step: Step) {
        if life != self.life {
            return;
        }
        match step {
            Step::Answer { question, decision } => match decision {
                Decision::Consume | Decision::Drop => {
                    self.questions.remove(&question.request);
                }
                other => self.problem = Some(format!("an answer without affinities: {other:?}")),
            },
            Step::HandOver {
                decided,
                last,
                held,
            } => self.install(&decided, last, held),
            Step::Inject { part, packet, .. } => {
                let frame: Bytes =
                    frame([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1], 0x0800, &packet).into();
                self.show("        gate >", &frame);
                let late = self.dice.micros(5, 300);
                self.at(self.now + late, Event::Injected(part, frame));
            }
        }
    }

    fn install(&mut self, decided: &Decided, last: (Question, Decision), held: Vec<Question>) {
        let adjust = |actions: &[Action]| match actions {
            [Action::Adjust(a)] => *a,
            other => panic!("{other:?}"),
        };
        let wanted = (
            adjust(&decided.forward.1),
            adjust(&decided.reply.as_ref().unwrap().1),
        );
        let is_in = self.entries.forward.is_some() && self.entries.reply.is_some();
        if !is_in && self.entries.wanted.is_none() {
            if self.story.denies {
                // Nothing of it has any effect, and what was held takes the floor.
                for question in held.into_iter().chain([last.0]) {
                    self.questions.remove(&question.request);
                }
                self.to_manager = self.to_manager.max(self.now + Duration::from_micros(50));
                return self.at(self.to_manager, Event::Denied(self.life));
            }
            self.say(|| format!("the agent installs {wanted:?}"));
            self.entries.wanted = Some(wanted);
            let late = self.dice.micros(50, 6_000);
            self.at(self.now + late, Event::Written);
        }
        let all = std::iter::once(last).chain(held.into_iter().map(|q| (q, Decision::Resume)));
        for (question, decision) in all {
            let Some((part, frame)) = self.questions.remove(&question.request) else {
                continue;
            };
            match decision {
                Decision::Resume if is_in => self.pass(part, frame),
                Decision::Resume => self.entries.held.push((part, frame)),
                _ => {}
            }
        }
    }

    fn written(&mut self) {
        let Some((forward, reply)) = self.entries.wanted else {
            return;
        };
        if self.entries.reply.is_none() {
            self.entries.reply = Some(reply);
            let late = self.dice.micros(50, 3_000);
            return self.at(self.now + late, Event::Written);
        }
        self.entries.forward = Some(forward);
        self.entries.wanted = None;
        self.say(|| "the switch has it".into());
        for (part, frame) in std::mem::take(&mut self.entries.held) {
            self.pass(part, frame);
        }
    }

    fn count_gate(&mut self) {
        let counts = self
            .gate
            .as_ref()
            .map(|g| g.counts().all())
            .unwrap_or_default();
        for (what, n) in counts {
            self.tally.add(&format!("gate: {what}"), n);
        }
    }

    /// What the hosts have got of each other.
    pub fn verdict(mut self) -> Result<Tally, String> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        self.count_gate();
        let begins: &[u8] = if self.story.wrong { b"NOOK" } else { b"LOOK" };
        let sent = [
            stream(self.story.client.bytes, self.story.seed ^ 1, begins),
            stream(self.story.server.bytes, self.story.seed ^ 2, b""),
        ];
        let mut whole = 0;
        for (h, name) in [(0, "client"), (1, "server")] {
            let (host, peer) = (&self.hosts[h], &self.hosts[1 - h]);
            let stream = &sent[1 - h][..peer.sent];
            if !stream.starts_with(&host.received) {
                return Err(format!(
                    "the {name} has received what was never sent: {}",
                    self.state()
                ));
            }
            if host.saw_end && host.received != stream {
                return Err(format!(
                    "the {name} has read an end that was none: {}",
                    self.state()
                ));
            }
            if host.saw_end && host.received.len() == sent[1 - h].len() {
                whole += 1;
            }
            self.tally
                .add("a host's TCP was woken", u64::from(host.slept));
            self.tally
                .add("numbers wrapped", u64::from(host.has_wrapped()));
        }
        self.tally.add("both streams whole", u64::from(whole == 2));
        self.tally.add("server reached", u64::from(self.reached));
        if self.story.is_fair() && whole != 2 {
            return Err(format!("nothing stood in its way: {}", self.state()));
        }
        Ok(self.tally)
    }
}
