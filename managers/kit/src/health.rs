//! Health checks through the switch: a tiny TCP client, pure on a clock, that asks each target whether it
//! lives.
//!
//! A server counts as up at the start: a service serves before the first check is through, and `fall`
//! failed checks take the server out. Checks of many targets are spread over the period. A check that asks
//! for a server's load fails without a number that makes sense, as without an answer.

mod answer;

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use signalbox_lower::entries::AGENT_PORTS;
use signalbox_lower::plan::{CheckKind, CheckPlan, Plan};

use crate::decide::Target;
use crate::segment::{ACK, FIN, Options, PSH, RST, SYN, Segment};
use answer::Answer;

/// A request is repeated so many times within the time-out.
const SENDS: u32 = 3;

/// What a check's own segments may be long.
const MSS: u16 = 1460;

/// What a check wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Send this IP packet by the routes.
    Send(Bytes),
    /// A target has gone up or down.
    Changed {
        /// Its number.
        target: usize,
        /// Whether it is up now.
        up: bool,
    },
    /// A target has reported another load than before.
    Loaded {
        /// Its number.
        target: usize,
        /// 0 to 100.
        percent: u8,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Resting,
    Connecting,
    Asking { answer: Vec<u8> },
}

#[derive(Debug)]
struct Check {
    number: usize,
    server: (IpAddr, u16),
    own: IpAddr,
    plan: CheckPlan,
    phase: Phase,
    sport: u16,
    seq: u32,
    ack: u32,
    /// When this check has failed.
    deadline: Duration,
    /// When something is due: the next check, a repetition, the deadline.
    due: Duration,
    next_check: Duration,
    up: bool,
    streak: u32,
    /// As last reported, in percent.
    load: Option<u8>,
}

/// The checks of one service's targets.
#[derive(Debug, Default)]
pub struct Checker {
    checks: Vec<Check>,
    next_port: u16,
}

impl Checker {
    /// Checks of targets that a port of the plan leads to. `salt` keeps the ports of several checkers
    /// apart.
    #[must_use]
    pub fn new(plan: &Plan, targets: &[Target], salt: usize) -> Self {
        let checks = (targets.iter().enumerate())
            .filter_map(|(number, target)| {
                let share = target.check.every_ms * number as u64 / targets.len().max(1) as u64;
                Some(Check {
                    number,
                    server: (target.address, target.port),
                    own: source_for(plan, target.address)?,
                    plan: target.check.clone(),
                    phase: Phase::Resting,
                    sport: 0,
                    seq: 0,
                    ack: 0,
                    deadline: Duration::ZERO,
                    due: Duration::from_millis(share),
                    next_check: Duration::from_millis(share),
                    up: true,
                    streak: 0,
                    load: None,
                })
            })
            .collect();
        Self {
            checks,
            next_port: u16::try_from(salt * 512 % 4096).unwrap_or(0),
        }
    }

    /// Checks other targets from now on. One that was there before, by address and port, keeps its standing.
    pub fn update(&mut self, plan: &Plan, targets: &[Target]) {
        let former = std::mem::replace(&mut self.checks, Self::new(plan, targets, 0).checks);
        for check in &mut self.checks {
            let same = |c: &&Check| c.server == check.server && c.own == check.own;
            if let Some(before) = former.iter().find(same) {
                check.up = before.up;
                check.streak = before.streak;
                check.load = before.load;
                // A check that is under way is begun anew.
                check.due = before.next_check.max(Duration::from_millis(1));
                check.next_check = check.due;
            }
        }
    }

    /// When it wants to be ticked.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.checks.iter().map(|c| c.due).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration) -> Vec<Verdict> {
        let mut out = Vec::new();
        for check in &mut self.checks {
            if now < check.due {
                continue;
            }
            if check.phase == Phase::Resting {
                self.next_port = (self.next_port + 1) % (u16::MAX - AGENT_PORTS);
                check.begin(now, AGENT_PORTS + self.next_port, &mut out);
            } else if now >= check.deadline {
                check.close(&mut out);
                check.result(now, false, &mut out);
            } else {
                check.send(&mut out);
                check.later(now);
            }
        }
        out
    }

    /// Takes in a packet for one of our addresses (from the IP header on).
    pub fn arrived(&mut self, now: Duration, packet: &Bytes) -> Vec<Verdict> {
        let mut out = Vec::new();
        if let Some(segment) = Segment::parse(packet)
            && let Some(check) = (self.checks.iter_mut()).find(|c| {
                c.phase != Phase::Resting
                    && segment.src == c.server
                    && segment.dst == (c.own, c.sport)
            })
        {
            check.segment(now, &segment, &mut out);
        }
        out
    }
}

impl Check {
    fn begin(&mut self, now: Duration, sport: u16, out: &mut Vec<Verdict>) {
        self.phase = Phase::Connecting;
        self.sport = sport;
        // Any number that a former connection on the same port did not use will do.
        self.seq = u32::try_from(now.as_micros() & 0xffff_ffff)
            .unwrap_or(0)
            .wrapping_mul(64);
        self.ack = 0;
        self.deadline = now + Duration::from_millis(self.plan.timeout_ms);
        self.next_check = now + Duration::from_millis(self.plan.every_ms.max(1));
        self.send(out);
        self.later(now);
    }

    fn later(&mut self, now: Duration) {
        let pause = Duration::from_millis(self.plan.timeout_ms) / SENDS;
        self.due = self.deadline.min(now + pause.max(Duration::from_millis(1)));
    }

    fn emit(&self, seq: u32, flags: u8, payload: Bytes) -> Verdict {
        Verdict::Send(
            Segment {
                src: (self.own, self.sport),
                dst: self.server,
                seq,
                ack: self.ack,
                flags,
                window: u16::MAX,
                options: Options {
                    mss: (flags & SYN != 0).then_some(MSS),
                    window_scale: None,
                },
                payload,
            }
            .emit(),
        )
    }

    fn request(&self) -> Bytes {
        match &self.plan.kind {
            CheckKind::Tcp => Bytes::new(),
            CheckKind::Http { path } => self.get(path, "1.1"),
            // The body of an answer to HTTP/1.0 comes as it is, not in chunks (RFC 9112, section 6.1).
            CheckKind::Load { path } => self.get(path, "1.0"),
        }
    }

    fn get(&self, path: &str, version: &str) -> Bytes {
        let host = match self.server.0 {
            IpAddr::V4(a) => a.to_string(),
            IpAddr::V6(a) => format!("[{a}]"),
        };
        format!(
            "GET {path} HTTP/{version}\r\nHost: {host}:{}\r\nUser-Agent: signalbox\r\nConnection: close\r\n\r\n",
            self.server.1
        )
        .into()
    }

    fn send(&self, out: &mut Vec<Verdict>) {
        match self.phase {
            Phase::Resting => {}
            Phase::Connecting => out.push(self.emit(self.seq, SYN, Bytes::new())),
            Phase::Asking { .. } => {
                out.push(self.emit(self.seq.wrapping_add(1), ACK | PSH, self.request()));
            }
        }
    }

    /// Lets the server forget the connection at once.
    fn close(&self, out: &mut Vec<Verdict>) {
        let sent = match self.phase {
            Phase::Asking { .. } => u32::try_from(self.request().len()).unwrap_or(0),
            _ => 0,
        };
        if self.ack != 0 {
            let seq = self.seq.wrapping_add(1).wrapping_add(sent);
            out.push(self.emit(seq, RST | ACK, Bytes::new()));
        }
    }

    fn segment(&mut self, now: Duration, s: &Segment, out: &mut Vec<Verdict>) {
        let flags = s.flags & (SYN | ACK | RST);
        match &mut self.phase {
            Phase::Resting => {}
            Phase::Connecting => {
                if s.ack != self.seq.wrapping_add(1) || s.flags & ACK == 0 {
                    return;
                }
                if flags & RST != 0 {
                    return self.result(now, false, out);
                }
                if flags == SYN | ACK {
                    self.ack = s.seq.wrapping_add(1);
                    if self.plan.kind == CheckKind::Tcp {
                        self.close(out);
                        self.result(now, true, out);
                    } else {
                        self.phase = Phase::Asking { answer: Vec::new() };
                        self.send(out);
                        self.later(now);
                    }
                }
            }
            Phase::Asking { answer } => {
                if flags & RST != 0 {
                    return self.result(now, false, out);
                }
                // What came before comes again, with or without more; what is ahead will come again in order.
                let seen = usize::try_from(self.ack.wrapping_sub(s.seq)).unwrap_or(usize::MAX);
                let Some(news) = s.payload.get(seen..) else {
                    return;
                };
                let room = answer::room(&self.plan.kind).saturating_sub(answer.len());
                answer.extend(news.iter().take(room));
                let said = answer::read(&self.plan.kind, answer, s.flags & FIN != 0);
                let length = u32::try_from(news.len()).unwrap_or(0);
                self.ack = self.ack.wrapping_add(length);
                match said {
                    Answer::Good(load) => {
                        self.close(out);
                        if let Some(percent) = load.filter(|_| load != self.load) {
                            self.load = load;
                            let target = self.number;
                            out.push(Verdict::Loaded { target, percent });
                        }
                        self.result(now, true, out);
                    }
                    Answer::Bad => {
                        self.close(out);
                        self.result(now, false, out);
                    }
                    Answer::More
                        if length > 0 && matches!(self.plan.kind, CheckKind::Load { .. }) =>
                    {
                        // The rest may wait for this.
                        let asked = u32::try_from(self.request().len()).unwrap_or(0);
                        let seq = self.seq.wrapping_add(1).wrapping_add(asked);
                        out.push(self.emit(seq, ACK, Bytes::new()));
                    }
                    Answer::More => {}
                }
            }
        }
    }

    fn result(&mut self, now: Duration, good: bool, out: &mut Vec<Verdict>) {
        self.phase = Phase::Resting;
        self.due = self.next_check.max(now + Duration::from_millis(1));
        if good == self.up {
            self.streak = 0;
            return;
        }
        self.streak += 1;
        let needed = if good { self.plan.rise } else { self.plan.fall };
        if self.streak >= needed.max(1) {
            self.up = good;
            self.streak = 0;
            out.push(Verdict::Changed {
                target: self.number,
                up: good,
            });
        }
    }
}

/// The switch's own address on the port that leads to an address: connected networks and routes, longest
/// prefix first.
#[must_use]
pub fn source_for(plan: &Plan, to: IpAddr) -> Option<IpAddr> {
    let connected = (plan.ports.iter()).flat_map(|p| {
        p.addresses
            .iter()
            .map(move |net| (net.trunc(), p.number, to))
    });
    let routes = (plan.routes.iter()).map(|r| (r.prefix, r.port, r.via));
    let (_, port, via) = connected
        .chain(routes)
        .filter(|(net, ..)| net.contains(&to))
        .max_by_key(|(net, ..)| net.prefix_len())?;
    let port = plan.ports.iter().find(|p| p.number == port)?;
    (port.addresses.iter())
        .find(|net| net.contains(&via))
        .or_else(|| (port.addresses.iter()).find(|net| net.addr().is_ipv4() == to.is_ipv4()))
        .map(ipnet::IpNet::addr)
}

#[cfg(test)]
mod tests;
