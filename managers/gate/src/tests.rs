//! A gate, segment by segment: what it answers, what the server sees, and what is counted.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use signalbox_agent::adjust::Adjust;
use signalbox_agent::flow::{PacketKind, Part, Tuple};
use signalbox_agent::message::{Action, CarriedState, Decision};
use signalbox_agent::packet::frame;
use signalbox_agent::testing;
use signalbox_lower::plan::{AllowPlan, Cube, GatePlan, LookPlan, MaskedAddr, Refuse, WhenPlan};
use signalbox_manager::Decided;
use signalbox_manager::proxy::{Diverted, Question, Step};
use signalbox_manager::segment::{ACK, FIN, Options, PSH, RST, SYN, Segment};

use crate::gate::Gate;

mod bad_input;
mod opening;
mod switching;

const CLIENT: (IpAddr, u16) = (IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9)), 40_000);
const SERVER: (IpAddr, u16) = (IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 1, 5)), 22);
const ISN: u32 = 0xffff_fff0;
const SERVER_ISN: u32 = 0x8000_0005;
const SECOND: Duration = Duration::from_secs(1);

/// Clients of 192.0.2.0/24 may come in.
fn plan() -> GatePlan {
    GatePlan {
        allow: vec![AllowPlan {
            label: "allow".into(),
            cubes: vec![Cube {
                src: Some(MaskedAddr {
                    value: [192, 0, 2, 0].into(),
                    mask: [255, 255, 255, 0].into(),
                }),
                ..Cube::default()
            }],
            when: None,
        }],
        ..testing::gate()
    }
}

fn looking() -> GatePlan {
    GatePlan {
        look: vec![LookPlan::Bytes {
            offset: 0,
            value: b"SSH-".to_vec(),
            mask: vec![255; 4],
        }],
        ..plan()
    }
}

/// What came out at one time.
#[derive(Debug, Default)]
struct Said {
    /// The fate of the packet itself; none while it is held.
    decision: Option<Decision>,
    /// Packets' fates in order, with those that were held before.
    answers: Vec<(u64, Decision)>,
    to_client: Vec<Segment>,
    to_server: Vec<Segment>,
    handed: Option<Decided>,
}

impl Said {
    fn client(&self) -> &Segment {
        assert_eq!(self.to_client.len(), 1, "{self:?}");
        &self.to_client[0]
    }

    fn server(&self) -> &Segment {
        assert_eq!(self.to_server.len(), 1, "{self:?}");
        &self.to_server[0]
    }

    fn is_silent(&self) -> bool {
        self.to_client.is_empty() && self.to_server.is_empty() && self.handed.is_none()
    }
}

struct Site {
    gate: Gate,
    now: Duration,
    request: u64,
    /// The cookie that the client got last.
    cookie: u32,
}

fn flow() -> Tuple {
    Tuple {
        src: CLIENT.0,
        dst: SERVER.0,
        proto: 6,
        sport: CLIENT.1,
        dport: SERVER.1,
    }
}

fn segment(src: (IpAddr, u16), dst: (IpAddr, u16), flags: u8, seq: u32, ack: u32) -> Segment {
    Segment {
        src,
        dst,
        seq,
        ack,
        flags,
        window: 1000,
        options: Options::default(),
        payload: Bytes::new(),
    }
}

/// A segment of the client; `seq` counts from its initial number.
fn client(flags: u8, seq: u32, ack: u32) -> Segment {
    segment(CLIENT, SERVER, flags, ISN.wrapping_add(seq), ack)
}

/// A segment of the server; `seq` and `ack` count from the initial numbers.
fn server(flags: u8, seq: u32, ack: u32) -> Segment {
    let seq = SERVER_ISN.wrapping_add(seq);
    segment(SERVER, CLIENT, flags, seq, ISN.wrapping_add(ack))
}

fn with(payload: &'static [u8], segment: Segment) -> Segment {
    Segment {
        payload: Bytes::from_static(payload),
        ..segment
    }
}

fn syn() -> Segment {
    Segment {
        options: Options {
            mss: Some(1460),
            window_scale: Some(3),
        },
        ..client(SYN, 0, 0)
    }
}

fn syn_ack() -> Segment {
    Segment {
        options: Options {
            mss: Some(1460),
            window_scale: Some(7),
        },
        ..server(SYN | ACK, 0, 1)
    }
}

impl Site {
    fn new(plan: GatePlan) -> Self {
        let mut gate = Gate::new(plan, [3; 16]);
        gate.clock(Duration::ZERO, 1_795_651_200);
        Self {
            gate,
            now: SECOND,
            request: 0,
            cookie: 0,
        }
    }

    fn frame(&mut self, bytes: Bytes, part: Part, flow: Tuple) -> Said {
        self.request += 1;
        let question = Question {
            way: 1,
            request: self.request,
        };
        self.gate.packet(
            self.now,
            &Diverted {
                question,
                part,
                flow,
                kind: PacketKind::Whole,
                packet: &bytes,
                state: CarriedState {
                    ingress_port: 1,
                    ..CarriedState::default()
                },
            },
        );
        self.said()
    }

    /// A segment arrives.
    fn hear(&mut self, s: &Segment) -> Said {
        let part = if s.src == SERVER {
            Part::Reply
        } else {
            Part::Forward
        };
        let flow = Tuple {
            src: s.src.0,
            dst: s.dst.0,
            proto: 6,
            sport: s.src.1,
            dport: s.dst.1,
        };
        let bytes = frame([2; 6], [4; 6], 0x0800, &s.emit()).into();
        self.frame(bytes, part, flow)
    }

    fn said(&mut self) -> Said {
        let mut said = Said::default();
        for step in self.gate.steps() {
            match step {
                Step::Answer { question, decision } => {
                    said.answers.push((question.request, decision));
                }
                Step::HandOver {
                    decided,
                    last,
                    held,
                } => {
                    said.handed = Some(*decided);
                    said.answers.push((last.0.request, last.1));
                    said.answers
                        .extend(held.iter().map(|q| (q.request, Decision::Resume)));
                }
                Step::Inject { part, packet, .. } => {
                    let s = Segment::parse(&packet).unwrap();
                    match part {
                        Part::Reply => said.to_client.push(s),
                        Part::Forward => said.to_server.push(s),
                    }
                }
            }
        }
        let own = said
            .answers
            .iter()
            .find(|(request, _)| *request == self.request);
        said.decision = own.map(|(_, decision)| *decision);
        said
    }

    /// Time passes, from one deadline to the next.
    fn wait(&mut self, time: Duration) -> Said {
        let end = self.now + time;
        while let Some(next) = self.gate.next().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.gate.tick(self.now);
        }
        self.now = end;
        self.gate.tick(end);
        // No packet came in.
        self.request = u64::MAX;
        let said = self.said();
        self.request = 1 << 40;
        said
    }

    /// The client's SYN, and the cookie that it gets.
    fn knock(&mut self) -> Segment {
        let said = self.hear(&syn());
        let answer = said.client().clone();
        assert_eq!(
            (said.decision, answer.flags),
            (Some(Decision::Consume), SYN | ACK)
        );
        self.cookie = answer.seq;
        answer
    }

    /// The client's handshake.
    fn enter(&mut self) -> Said {
        self.knock();
        self.hear(&client(ACK, 1, self.cookie.wrapping_add(1)))
    }

    /// The client's next number for us.
    fn next(&self) -> u32 {
        self.cookie.wrapping_add(1)
    }

    fn count(&self, what: &str) -> u64 {
        self.gate.counts().get(what)
    }
}
