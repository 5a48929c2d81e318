//! A gate: its connections, and what it answers to packets of none.
//!
//! A SYN leaves nothing behind (A3.3): what a connection needs comes back with the client's acknowledgement. So
//! the table of connections, which is bounded, holds completed handshakes only, and those only until the switch
//! has them.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use signalbox_agent::flow::{PacketKind, Part, Tuple};
use signalbox_agent::message::{CarriedState, Decision};
use signalbox_lower::plan::{GatePlan, Refuse};
use signalbox_manager::proxy::{Diverted, Question, Step};
use signalbox_manager::segment::{ACK, FIN, Options, RST, SYN, Segment};

use crate::connection::{Connection, Context, Fate, Phase, Way};
use crate::cookie::{Announced, Keys, Offered, Opening, Refusal};
use crate::counts::Counts;
use crate::learned::Learned;
use crate::rules::{Refused, Rules};
use crate::strangers::Strangers;

/// How long a gate looks after the flows of the manager before it.
const LEGACY: Duration = Duration::from_secs(300);

/// A gate's whole state.
#[derive(Debug)]
pub struct Gate {
    now: Duration,
    /// UTC at the manager's time 0, in seconds since 1970-01-01.
    epoch: u64,
    plan: GatePlan,
    word: Duration,
    rules: Rules,
    keys: Keys,
    learned: Learned,
    connections: FxHashMap<Tuple, Box<Connection>>,
    /// Of them, those that the switch does not have.
    proxied: usize,
    timers: BTreeSet<(Duration, Tuple)>,
    counts: Counts,
    steps: Vec<Step>,
    strangers: Strangers,
    legacy: Duration,
}

impl Gate {
    /// A gate by this plan, with a key for its cookies. It is told the time of day before anything else.
    #[must_use]
    pub fn new(plan: GatePlan, key: [u8; 16]) -> Self {
        let announced = |mss| Announced {
            mss,
            scale: Some(plan.window_scale),
        };
        Self {
            now: Duration::ZERO,
            epoch: 0,
            rules: Rules::new(plan.allow.clone(), plan.bounds),
            keys: Keys::new(key),
            learned: Learned::new(announced(plan.mss_v4), announced(plan.mss_v6)),
            plan,
            word: Duration::ZERO,
            connections: FxHashMap::default(),
            proxied: 0,
            timers: BTreeSet::new(),
            counts: Counts::default(),
            steps: Vec::new(),
            strangers: Strangers::default(),
            legacy: Duration::ZERO,
        }
    }

    /// Another plan from now on; connections go on.
    pub fn update(&mut self, plan: GatePlan) {
        let announced = |mss| Announced {
            mss,
            scale: Some(plan.window_scale),
        };
        let (v4, v6) = (announced(plan.mss_v4), announced(plan.mss_v6));
        if v4 != self.learned.policy().0 || v6 != self.learned.policy().1 {
            self.learned = Learned::new(v4, v6);
        }
        self.rules.update(plan.allow.clone(), plan.bounds);
        self.plan = plan;
    }

    /// Hand-overs may wait so long for another manager's word before agents hear of them.
    pub fn waits_for_word(&mut self, word: Duration) {
        self.word = word;
    }

    /// The time of day, in seconds since 1970-01-01, UTC.
    pub fn clock(&mut self, now: Duration, utc: u64) {
        self.epoch = utc.saturating_sub(now.as_secs());
    }

    /// New cookies are made with this key.
    pub fn key(&mut self, now: Duration, key: [u8; 16]) {
        self.keys.rotate(now, key);
    }

    /// Another manager was here before, and may have left flows half-way.
    pub fn follows(&mut self, now: Duration) {
        self.legacy = now + LEGACY;
    }

    /// Whether it answers for a flow, by its forward match.
    #[must_use]
    pub fn has(&self, flow: &Tuple) -> bool {
        (self.connections.get(flow)).is_some_and(|c| c.phase() != Phase::HandedOver)
    }

    /// Connections that go through it now.
    #[must_use]
    pub fn proxied(&self) -> usize {
        self.proxied
    }

    /// A server has said this before.
    #[cfg(test)]
    pub(crate) fn heard(&mut self, server: (std::net::IpAddr, u16), said: Announced, window: u16) {
        self.learned.learn(self.now, server, said, window);
    }

    /// What it has counted.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What is to be done, since it was last asked.
    pub fn steps(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.steps)
    }

    /// When it wants to be ticked.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        let first = self.timers.first().map(|(at, _)| *at);
        first.into_iter().chain(self.strangers.next()).min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) {
        self.now = self.now.max(now);
        while let Some((at, flow)) = self.timers.first().copied()
            && at <= self.now
        {
            self.timers.pop_first();
            self.with(flow, |connection, cx| connection.tick(cx));
        }
        while let Some((came, segment)) = self.strangers.due(self.now) {
            self.strange_client(&came, &segment);
        }
    }

    /// A packet that no entry and no remembered decision covers.
    pub fn packet(&mut self, now: Duration, packet: &Diverted<'_>) {
        self.now = self.now.max(now);
        let question = packet.question;
        let flow = match packet.part {
            Part::Forward => packet.flow,
            Part::Reply => packet.flow.reversed(),
        };
        let Some((segment, whole)) =
            Segment::parse_frame(packet.packet).filter(|_| packet.kind == PacketKind::Whole)
        else {
            return self.drop(question, "not a segment");
        };
        if !Segment::checksum_holds(packet.packet) {
            return self.drop(question, "checksum");
        }
        if segment.flags & SYN != 0 && segment.flags & (FIN | RST) != 0 {
            return self.drop(question, "malformed flags");
        }
        if !whole {
            // What stands before it counts (RFC 9293, section 3.1).
            self.counts.add("malformed options");
        }
        let came = Came {
            question,
            part: packet.part,
            flow,
            state: packet.state,
        };
        let opens = packet.part == Part::Forward && segment.flags & (SYN | ACK | RST) == SYN;
        if opens && !self.has(&flow) {
            // The switch had it and has it no more.
            self.forget(&flow);
        }
        if !self.connections.contains_key(&flow) {
            return self.stranger(&came, &segment);
        }
        if packet.part == Part::Reply && segment.flags & (SYN | ACK) == SYN | ACK {
            let said = Connection::server_said(&segment, flow.dst.is_ipv4());
            let known = (self.connections.get(&flow)).is_some_and(|c| c.expects(&segment));
            if known {
                let server = (flow.dst, flow.dport);
                (self.learned).learn(self.now, server, said, segment.window);
            }
        }
        self.hear(&came, &segment);
    }

    /// Lets a connection act, and sees to its timer and its end.
    fn with(&mut self, flow: Tuple, act: impl FnOnce(&mut Connection, &mut Context<'_>) -> Fate) {
        let Some(connection) = self.connections.get_mut(&flow) else {
            return;
        };
        self.timers.remove(&(connection.armed, flow));
        let was = connection.phase();
        let mut cx = Context {
            now: self.now,
            plan: &self.plan,
            word: self.word,
            counts: &mut self.counts,
            steps: &mut self.steps,
        };
        let fate = act(connection, &mut cx);
        let is = connection.phase();
        if fate == Fate::Alive {
            connection.armed = connection.next(&self.plan);
            self.timers.insert((connection.armed, flow));
        } else {
            self.connections.remove(&flow);
        }
        // What the switch has is counted until its end there.
        let proxied = |phase, alive: bool| usize::from(phase != Phase::HandedOver && alive);
        self.proxied += proxied(is, fate == Fate::Alive);
        self.proxied = self.proxied.saturating_sub(proxied(was, true));
        if fate == Fate::Over && is != Phase::HandedOver {
            self.rules.leave(self.now, flow.src);
        }
    }

    fn forget(&mut self, flow: &Tuple) {
        if let Some(connection) = self.connections.remove(flow) {
            self.timers.remove(&(connection.armed, *flow));
        }
    }

    fn answer(&mut self, question: Question, decision: Decision) {
        self.steps.push(Step::Answer { question, decision });
    }

    fn drop(&mut self, question: Question, why: &'static str) {
        self.counts.add(why);
        self.answer(question, Decision::Drop);
    }

    /// A segment of no connection.
    fn stranger(&mut self, came: &Came, s: &Segment) {
        if came.part == Part::Reply {
            return self.strange_server(came, s);
        }
        let utc = self.epoch.saturating_add(self.now.as_secs());
        if let Err(refused) = self.rules.allows(&came.flow, came.state.ingress_port, utc) {
            return self.refuse(came, s, refused);
        }
        match s.flags & (SYN | ACK | RST) {
            SYN => self.syn(came, s),
            ACK => self.acknowledged(came, s),
            RST => self.drop(came.question, "strange reset"),
            _ => self.strange_client(came, s),
        }
    }

    /// Before the handshake the policy says what is answered.
    fn refuse(&mut self, came: &Came, s: &Segment, refused: Refused) {
        self.count_refusal(came, refused);
        if self.plan.refuse == Refuse::Reset {
            self.say_refusal(came, s);
        }
    }

    fn count_refusal(&mut self, came: &Came, refused: Refused) {
        let why = match refused {
            Refused::NotAllowed => "not allowed",
            Refused::NotNow => "not now",
            Refused::Connections => "too many connections",
            Refused::SourceConnections => "too many connections of a source",
            Refused::Rate => "too many a second",
            Refused::SourceRate => "too many a second of a source",
            Refused::Sources => "too many sources",
        };
        self.drop(came.question, why);
    }

    /// A SYN is answered with a cookie, and forgotten (A3.3).
    fn syn(&mut self, came: &Came, s: &Segment) {
        if let Err(refused) = self.rules.room(self.now, came.flow.src) {
            return self.refuse(came, s, refused);
        }
        if !s.payload.is_empty() {
            // The client sends them again, after the handshake (RFC 9293, section 3.4 lets them be queued only).
            self.counts.add("data in a SYN");
        }
        let Options { mss, window_scale } = s.options;
        let offered = Offered::of(came.flow.src, mss, window_scale);
        let server = (came.flow.dst, came.flow.dport);
        let announced = self.learned.announce(server);
        let cookie = self
            .keys
            .make(self.now, &came.opening(s.seq), offered, announced);
        let buffer = u16::try_from(self.plan.buffer).unwrap_or(u16::MAX);
        let window = self
            .learned
            .window(server)
            .map_or(buffer, |w| w.min(buffer));
        self.counts.add("syn");
        self.answer(came.question, Decision::Consume);
        self.inject(
            came,
            Part::Reply,
            Segment {
                src: s.dst,
                dst: s.src,
                seq: cookie,
                ack: s.seq.wrapping_add(1),
                flags: SYN | ACK,
                window,
                options: Options {
                    mss: Some(announced.mss),
                    window_scale: announced.scale.filter(|_| offered.scale.is_some()),
                },
                payload: Bytes::new(),
            },
        );
    }

    /// An acknowledgement that brings a cookie back opens a connection.
    fn acknowledged(&mut self, came: &Came, s: &Segment) {
        let (isn, cookie) = (s.seq.wrapping_sub(1), s.ack.wrapping_sub(1));
        let candidates = (self.learned).candidates(self.now, (came.flow.dst, came.flow.dport));
        let checked = (self.keys).check(self.now, &came.opening(isn), cookie, candidates);
        let (offered, announced) = match checked {
            Ok(known) => known,
            Err(refusal) => {
                if refusal == Refusal::Old {
                    self.counts.add("old cookie");
                } else if self.strangers.wait(self.now, came, s) {
                    return;
                }
                return self.strange_client(came, s);
            }
        };
        if let Err(refused) = self.rules.room(self.now, came.flow.src) {
            // It is established to its client, who might wait for its server for ever.
            self.count_refusal(came, refused);
            return self.say_refusal(came, s);
        }
        if self.proxied >= self.plan.bounds.proxied as usize {
            // Its data bring the cookie back once more.
            return self.drop(came.question, "no room");
        }
        self.rules.enter(self.now, came.flow.src);
        self.counts.add("handshakes");
        let way = Way {
            session: came.question.way,
            state: came.state,
        };
        let mut cx = Context {
            now: self.now,
            plan: &self.plan,
            word: self.word,
            counts: &mut self.counts,
            steps: &mut self.steps,
        };
        let given = (offered, announced);
        let mut connection = Connection::new(&mut cx, came.flow, (isn, cookie), given, way);
        connection.armed = connection.next(&self.plan);
        self.timers.insert((connection.armed, came.flow));
        self.connections.insert(came.flow, Box::new(connection));
        self.proxied += 1;
        self.hear(came, s);
        self.with(came.flow, |connection, cx| {
            connection.begin(cx);
            Fate::Alive
        });
        for (came, segment) in self.strangers.of(&came.flow) {
            if self.has(&came.flow) {
                self.hear(&came, &segment);
            } else {
                self.strange_client(&came, &segment);
            }
        }
    }

    /// A segment of a connection that is there.
    fn hear(&mut self, came: &Came, s: &Segment) {
        let Came {
            part,
            state,
            question,
            flow,
        } = *came;
        self.with(flow, |connection, cx| {
            connection.packet(cx, part, question, s, state)
        });
    }

    /// A segment of a client that belongs to nothing (RFC 9293, section 3.10.7.1).
    fn strange_client(&mut self, came: &Came, s: &Segment) {
        self.drop(came.question, "strange segment");
        self.say_refusal(came, s);
        if self.now < self.legacy && s.flags & (SYN | RST) == 0 && self.may_say() {
            // The manager before this one may have left the server a connection; the client's numbers are its own.
            let reset = Segment {
                flags: RST,
                ack: 0,
                payload: Bytes::new(),
                ..s.clone()
            };
            self.inject(came, Part::Forward, reset);
        }
    }

    /// A segment of a server that belongs to nothing.
    fn strange_server(&mut self, came: &Came, s: &Segment) {
        if s.flags & RST != 0 {
            return self.drop(came.question, "strange reset");
        }
        if s.flags & (SYN | ACK) == SYN {
            return self.drop(came.question, "server opens");
        }
        self.drop(came.question, "strange segment of a server");
        self.say_refusal(came, s);
        if s.flags & SYN == 0 && self.may_say() {
            // Its client may wait for it still, in numbers that are not known. Any segment out of place makes it
            // tell them (RFC 9293, section 3.10.7.4), and then it is reset.
            let question = Segment {
                flags: ACK,
                payload: Bytes::new(),
                options: Options::default(),
                ..s.clone()
            };
            self.inject(came, Part::Reply, question);
        }
    }

    /// Whether there is room for one more answer to a stranger.
    fn may_say(&mut self) -> bool {
        let may = self.strangers.may_answer(self.now);
        if !may {
            self.counts.add("unanswered");
        }
        may
    }

    fn say_refusal(&mut self, came: &Came, s: &Segment) {
        if let Some(refusal) = s.refusal()
            && self.may_say()
        {
            self.inject(came, came.part.other(), refusal);
        }
    }

    fn inject(&mut self, came: &Came, part: Part, segment: Segment) {
        self.steps.push(Step::Inject {
            way: came.question.way,
            part,
            like: (part == came.part).then_some(came.state),
            packet: segment.emit(),
        });
    }

    /// The agent has not taken a flow that was handed over.
    pub fn denied(&mut self, flow: &Tuple) {
        let handed = (self.connections.get(flow)).is_some_and(|c| c.phase() == Phase::HandedOver);
        if handed {
            self.with(*flow, |connection, cx| {
                connection.denied(cx);
                Fate::Alive
            });
        } else if !self.connections.contains_key(flow) {
            self.rules.leave(self.now, flow.src);
        }
    }

    /// A flow that the switch had is over.
    pub fn ended(&mut self, flow: &Tuple) {
        if !self.has(flow) {
            self.forget(flow);
            self.rules.leave(self.now, flow.src);
        }
    }

    /// The switch has a flow that is not known. Another manager has handed it over: what is in hand of that tuple
    /// was over before.
    pub fn adopted(&mut self, flow: &Tuple) {
        if self.has(flow) {
            self.forget(flow);
            self.proxied = self.proxied.saturating_sub(1);
        } else {
            self.rules.adopt(flow.src);
        }
    }
}

/// A packet and where it came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Came {
    pub question: Question,
    pub part: Part,
    /// The flow, in the client's direction.
    pub flow: Tuple,
    pub state: CarriedState,
}

impl Came {
    fn opening(&self, isn: u32) -> Opening {
        Opening {
            client: (self.flow.src, self.flow.sport),
            server: (self.flow.dst, self.flow.dport),
            isn,
        }
    }
}
