//! One connection that a gate stands between: the client's leg, the server's leg, and what passes between them
//! until the switch takes over. Pure: segments and the time go in, steps come out.
//!
//! The client's initial sequence number is also the one that the server sees, so that the two legs count the
//! client's bytes alike. The server's bytes are counted by the cookie on one leg and by the server on the
//! other; the difference is what the switch adds once the connection is its own.
//!
//! A connection takes nothing from a client but the data that are looked at, and from a server nothing at all,
//! before it knows whether the switch takes it over: what it has not acknowledged it need not carry (A3.11). A
//! FIN above all stays with its sender, so that the agent sees both.

use std::time::Duration;

use signalbox_agent::adjust::Adjust;
use signalbox_agent::flow::{Part, Tuple};
use signalbox_agent::message::{CarriedState, Decision};
use signalbox_lower::plan::GatePlan;
use signalbox_manager::proxy::{Question, Step};
use signalbox_manager::segment::{ACK, Options, RST, SYN, Segment};

use crate::cookie::{Announced, Offered};
use crate::counts::Counts;
use crate::leg::{Heard, Leg, Taking, Words};
use crate::look::{Seen, look};

mod open;
mod relay;

/// Packets that are held for the switch; of more, the oldest is let go, and comes again.
const HELD: usize = 16;
/// How long an agent may take to deny what it was told to install.
const GRACE: Duration = Duration::from_secs(1);

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The client's first data are looked at. The server knows nothing.
    Looking,
    /// The server has been sent a SYN.
    Connecting,
    /// The server is there. What was taken from the client is on its way to it.
    Draining,
    /// Everything goes through the manager, and stays so.
    Proxied,
    /// The switch has it; only a denial brings it back.
    HandedOver,
}

/// Whether a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It does.
    Alive,
    /// It is over.
    Over,
}

/// The deltas that make one connection of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deltas {
    /// For the client's packets.
    pub forward: Adjust,
    /// For the server's packets.
    pub reply: Adjust,
}

/// What a connection is told with everything that happens.
pub struct Context<'a> {
    /// The time.
    pub now: Duration,
    /// The policy's values.
    pub plan: &'a GatePlan,
    /// How long a hand-over may wait for another manager's word.
    pub word: Duration,
    /// What is counted.
    pub counts: &'a mut Counts,
    /// What is to be done.
    pub steps: &'a mut Vec<Step>,
}

impl Context<'_> {
    fn answer(&mut self, question: Question, decision: Decision) {
        self.steps.push(Step::Answer { question, decision });
    }
}

/// A packet's way, so that others can go it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The session of the agent that has seen it.
    pub session: u64,
    /// What crossed the stages before.
    pub state: CarriedState,
}

/// A connection's state.
#[derive(Debug)]
pub struct Connection {
    flow: Tuple,
    phase: Phase,
    /// The initial numbers: the client's, the cookie, the server's.
    isn: u32,
    cookie: u32,
    server_isn: u32,
    offered: Offered,
    announced: Announced,
    /// The server's own window scale; absent without scaling on its leg.
    server_scale: Option<u8>,
    client: Leg,
    server: Leg,
    client_way: Way,
    server_way: Option<Way>,
    held: Vec<Question>,
    /// When the phase must be over.
    until: Duration,
    /// When a segment of the client, and of the server, was last there.
    heard: [Duration; 2],
    /// Ends that were asked whether they are there since then.
    probed: [bool; 2],
    /// The switch may have carried a packet of it.
    was_handed: bool,
    /// When the gate ticks it; the gate's own.
    pub armed: Duration,
}

impl Connection {
    /// A client has acknowledged a cookie: its handshake is complete. `seq` are its next number and ours.
    #[must_use]
    pub fn new(
        cx: &mut Context<'_>,
        flow: Tuple,
        (isn, cookie): (u32, u32),
        (offered, announced): (Offered, Announced),
        client_way: Way,
    ) -> Self {
        let mut client = Leg::new(
            cookie.wrapping_add(1),
            isn.wrapping_add(1),
            offered.mss.min(announced.mss),
        );
        let scaled = offered.scale.is_some() && announced.scale.is_some();
        if let Some(shift) = offered.scale.filter(|_| scaled) {
            client.set_shift(shift);
        }
        let mut connection = Self {
            flow,
            phase: Phase::Looking,
            isn,
            cookie,
            server_isn: 0,
            offered,
            announced,
            server_scale: None,
            client,
            server: Leg::new(isn, 0, offered.mss),
            client_way,
            server_way: None,
            held: Vec::new(),
            until: cx.now + Duration::from_millis(cx.plan.speak_ms),
            heard: [cx.now; 2],
            probed: [false; 2],
            was_handed: false,
            armed: Duration::ZERO,
        };
        // What the SYN-ACK has offered.
        let offered = connection.client_room(cx).min(65_535);
        let _ = connection.client.ack(offered);
        if cx.plan.look.is_empty() {
            connection.phase = Phase::Connecting;
        }
        connection
    }

    /// The acknowledgement that opened it has been heard, and with it the client's window.
    pub fn begin(&mut self, cx: &mut Context<'_>) {
        if cx.plan.look.is_empty() {
            self.connect(cx);
        }
    }

    /// Whether this is the server's answer to our SYN.
    #[must_use]
    pub fn expects(&self, s: &Segment) -> bool {
        self.phase == Phase::Connecting && s.ack == self.isn.wrapping_add(1)
    }

    /// Where it is in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The window scale that both ends of the client's leg use.
    fn scaled(&self) -> bool {
        self.offered.scale.is_some() && self.announced.scale.is_some()
    }

    /// When it wants to be ticked.
    #[must_use]
    pub fn next(&self, plan: &GatePlan) -> Duration {
        if self.phase == Phase::HandedOver {
            return self.until;
        }
        if self.phase != Phase::Proxied {
            let timers = [self.client.timer(), self.server.timer()];
            return timers.into_iter().flatten().fold(self.until, Duration::min);
        }
        let timers = [
            self.client.timer(),
            self.server.timer(),
            self.probe_due(plan),
        ];
        timers
            .into_iter()
            .flatten()
            .fold(self.idle(plan), Duration::min)
    }

    /// A segment from either end.
    pub fn packet(
        &mut self,
        cx: &mut Context<'_>,
        part: Part,
        question: Question,
        s: &Segment,
        state: CarriedState,
    ) -> Fate {
        let end = usize::from(part == Part::Reply);
        self.note(cx.now, end);
        let way = Way {
            session: question.way,
            state,
        };
        match part {
            Part::Forward => self.client_way = way,
            Part::Reply => self.server_way = Some(way),
        }
        if part == Part::Reply && self.phase == Phase::Connecting {
            return self.server_answers(cx, question, s);
        }
        if part == Part::Reply && self.phase == Phase::Looking {
            // The server cannot know of this connection.
            cx.answer(question, Decision::Drop);
            return Fate::Alive;
        }
        let taking = match self.phase {
            Phase::Looking => Taking::Data,
            Phase::Proxied => Taking::All,
            Phase::Connecting | Phase::Draining | Phase::HandedOver => Taking::Nothing,
        };
        let (client_room, server_room) = (self.client_room(cx), self.server_room(cx));
        let heard = match part {
            Part::Forward => {
                let sink = self.server.buffer_mut();
                self.client.hear(cx.now, s, client_room, taking, sink)
            }
            Part::Reply => {
                let sink = self.client.buffer_mut();
                self.server.hear(cx.now, s, server_room, taking, sink)
            }
        };
        let (left, answer) = match heard {
            Heard::Reset => {
                cx.answer(question, Decision::Consume);
                cx.counts.add(match part {
                    Part::Forward => "client reset",
                    Part::Reply => "server reset",
                });
                // The other end is told.
                return self.reset(cx, part == Part::Reply, part == Part::Forward);
            }
            Heard::Beyond if self.was_handed => {
                // Something has passed by us while the switch had it: nobody knows what.
                cx.answer(question, Decision::Consume);
                cx.counts.add("torn");
                return self.reset(cx, true, true);
            }
            Heard::Answer | Heard::Beyond => (false, true),
            Heard::Nothing => (false, false),
            Heard::Fine { left, answer } => (left, answer),
        };
        if self.phase == Phase::Draining && self.is_drained() {
            let decision = if part == Part::Reply || left {
                // It brings the other end the window as it really is.
                Decision::Resume
            } else {
                Decision::Consume
            };
            self.hand_over(cx, question, decision);
            return Fate::Alive;
        }
        if left && self.phase != Phase::Proxied {
            self.hold(cx, question);
        } else {
            cx.answer(question, Decision::Consume);
        }
        self.go_on(cx, answer.then_some(part))
    }

    /// What follows from what was heard; `answer` says who is to get an acknowledgement in any case.
    fn go_on(&mut self, cx: &mut Context<'_>, answer: Option<Part>) -> Fate {
        if self.phase == Phase::Looking {
            self.say_ack(cx, answer);
            match look(&cx.plan.look, self.server.buffer_mut().make_contiguous()) {
                Seen::More => return Fate::Alive,
                Seen::Good => self.connect(cx),
                Seen::Bad => {
                    cx.counts.add("look refused");
                    return self.reset(cx, true, false);
                }
            }
            return Fate::Alive;
        }
        self.relay(cx, answer)
    }

    fn say_ack(&mut self, cx: &mut Context<'_>, to: Option<Part>) {
        let words = match to {
            Some(Part::Forward) => self.client.ack(self.client_room(cx)),
            Some(Part::Reply) => self.server.ack(self.server_room(cx)),
            None => return,
        };
        // The one who asked is answered: what came forward is answered in the reply part.
        match to {
            Some(Part::Forward) => self.to_client(cx, words),
            _ => self.to_server(cx, words),
        }
    }

    /// A packet that goes on once the switch can carry it.
    fn hold(&mut self, cx: &mut Context<'_>, question: Question) {
        if self.held.contains(&question) {
            return;
        }
        if self.held.len() >= HELD {
            let oldest = self.held.remove(0);
            cx.counts.add("let go");
            cx.answer(oldest, Decision::Consume);
        }
        self.held.push(question);
    }

    fn let_go(&mut self, cx: &mut Context<'_>) {
        for question in std::mem::take(&mut self.held) {
            cx.answer(question, Decision::Consume);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, cx: &mut Context<'_>) -> Fate {
        if self.phase == Phase::HandedOver {
            return if cx.now >= self.until {
                Fate::Over
            } else {
                Fate::Alive
            };
        }
        if cx.now >= self.until {
            match self.phase {
                Phase::Looking => {
                    cx.counts.add("silent");
                    return self.reset(cx, true, false);
                }
                Phase::Connecting => {
                    cx.counts.add("server silent");
                    return self.reset(cx, true, true);
                }
                Phase::Draining => {
                    cx.counts.add("not in time");
                    self.stay(cx);
                }
                Phase::Proxied | Phase::HandedOver => {}
            }
        }
        if self.phase == Phase::Proxied {
            if cx.now >= self.idle(cx.plan) {
                cx.counts.add("idle");
                return self.reset(cx, true, true);
            }
            self.probe(cx);
        }
        if self.phase == Phase::Connecting {
            return self.call_again(cx);
        }
        let (client_room, server_room) = (self.client_room(cx), self.server_room(cx));
        let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
        let alive = self.client.timeout(cx.now, client_room, &mut to_client)
            & self.server.timeout(cx.now, server_room, &mut to_server);
        to_client.into_iter().for_each(|w| self.to_client(cx, w));
        to_server.into_iter().for_each(|w| self.to_server(cx, w));
        if !alive {
            cx.counts.add("gave up");
            return self.reset(cx, true, true);
        }
        Fate::Alive
    }

    /// Ends the connection; says which ends are told.
    fn reset(&mut self, cx: &mut Context<'_>, client: bool, server: bool) -> Fate {
        self.let_go(cx);
        if client {
            let words = self.client.reset();
            self.to_client(cx, words);
        }
        // Before it was called it must hear of nothing (A3.2).
        if server && !matches!(self.phase, Phase::Looking) {
            let words = self.server.reset();
            let words = if self.phase == Phase::Connecting {
                Words {
                    ack: 0,
                    flags: RST,
                    ..words
                }
            } else {
                words
            };
            self.to_server(cx, words);
        }
        Fate::Over
    }

    fn to_client(&self, cx: &mut Context<'_>, words: Words) {
        let way = self.server_way.unwrap_or(self.client_way);
        let shift = self.announced.scale.filter(|_| self.scaled()).unwrap_or(0);
        let flow = self.flow.reversed();
        cx.steps.push(Step::Inject {
            way: self.client_way.session,
            part: Part::Reply,
            like: self.server_way.map(|_| way.state),
            packet: segment(&flow, words, shift, Options::default()).emit(),
        });
    }

    fn to_server(&self, cx: &mut Context<'_>, words: Words) {
        let shift = (self.server_scale.and(self.offered.scale)).unwrap_or(0);
        self.to_server_with(cx, segment(&self.flow, words, shift, Options::default()));
    }

    fn to_server_with(&self, cx: &mut Context<'_>, segment: Segment) {
        cx.steps.push(Step::Inject {
            way: self
                .server_way
                .map_or(self.client_way.session, |w| w.session),
            part: Part::Forward,
            like: Some(self.client_way.state),
            packet: segment.emit(),
        });
    }
}

fn segment(flow: &Tuple, words: Words, shift: u8, options: Options) -> Segment {
    Segment {
        src: (flow.src, flow.sport),
        dst: (flow.dst, flow.dport),
        seq: words.seq,
        ack: words.ack,
        flags: words.flags,
        window: u16::try_from(words.window >> shift).unwrap_or(u16::MAX),
        options,
        payload: words.payload,
    }
}
