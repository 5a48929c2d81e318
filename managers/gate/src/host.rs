//! A gate as a service of a manager: the clock, keys and the switch's flows come in, decisions go out.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use signalbox_agent::adjust::Adjust;
use signalbox_agent::flow::Tuple;
use signalbox_agent::message::{Action, Capability, FixedAffinity, Leases};
use signalbox_lower::plan::{Replicate, ServicePlan};
use signalbox_manager::proxy::{Diverted, Proxy, Step};
use signalbox_manager::{Choice, Decide, Decided, Opening};

use crate::connection::Deltas;
use crate::gate::Gate;

/// How long a key makes cookies.
const KEY: Duration = Duration::from_secs(3600);
/// How often the time of day is asked for: clocks are set.
const CLOCK: Duration = Duration::from_secs(10);

/// What a gate cannot know by itself.
pub trait Outside: Send {
    /// Seconds since 1970-01-01, UTC.
    fn utc(&mut self) -> u64;

    /// Bytes that nobody can guess.
    fn secret(&mut self) -> [u8; 16];
}

/// A gate in a manager.
pub struct GateService {
    gate: Gate,
    leases: Leases,
    outside: Box<dyn Outside>,
    rotate: Duration,
    clock: Duration,
}

impl GateService {
    /// The gate of a plan's service; `None` if the service is none.
    #[must_use]
    pub fn new(service: &ServicePlan, mut outside: Box<dyn Outside>) -> Option<Self> {
        let mut gate = Gate::new(service.gate.clone()?, outside.secret());
        gate.clock(Duration::ZERO, outside.utc());
        gate.waits_for_word(word(service));
        Some(Self {
            gate,
            leases: leases(service),
            outside,
            rotate: KEY,
            clock: CLOCK,
        })
    }
}

/// A handshake is complete before the switch hears of it.
fn leases(service: &ServicePlan) -> Leases {
    Leases {
        half_open_ms: None,
        idle_ms: Some(service.limits.idle_ms),
        closed_ms: Some(service.limits.closed_ms),
        hard_ms: None,
    }
}

/// How long a backup's word is waited for at most.
fn word(service: &ServicePlan) -> Duration {
    let backups = service.shares.iter().filter_map(|s| s.backup.as_ref());
    let sync = backups.filter(|b| b.replicate == Some(Replicate::Sync));
    Duration::from_millis(sync.map(|b| b.after_ms).max().unwrap_or(0))
}

/// What the switch is to do with a flow. Its cookie has what rebuilds both directions.
#[must_use]
pub fn decided(flow: Tuple, deltas: &Deltas) -> Decided {
    Decided {
        forward: (flow, vec![Action::Adjust(deltas.forward)]),
        reply: Some((flow.reversed(), vec![Action::Adjust(deltas.reply)])),
        leases: None,
        statistics: None,
        cookie: written(&deltas.reply),
    }
}

/// The reply's deltas: what is added to its numbers, and how far its window is shifted.
fn written(reply: &Adjust) -> Bytes {
    let mut bytes = reply.sequence.to_be_bytes().to_vec();
    bytes.extend(reply.window_shift.to_be_bytes());
    bytes.into()
}

fn read(cookie: &[u8]) -> Option<Adjust> {
    let (sequence, shift) = cookie.split_first_chunk::<4>()?;
    let [shift] = shift else { return None };
    Some(Adjust {
        sequence: u32::from_be_bytes(*sequence),
        acknowledgement: 0,
        window_shift: i8::from_be_bytes([*shift]),
    })
}

impl Decide for GateService {
    fn tick(&mut self, now: Duration) {
        if now >= self.rotate {
            self.rotate = now + KEY;
            self.gate.key(now, self.outside.secret());
        }
        if now >= self.clock {
            self.clock = now + CLOCK;
            self.gate.clock(now, self.outside.utc());
        }
        self.gate.tick(now);
    }

    fn next(&self) -> Option<Duration> {
        // Neither clock nor keys need anybody to be woken: they are seen to before anything that uses them.
        self.gate.next()
    }

    fn update(&mut self, service: &ServicePlan) -> bool {
        let Some(plan) = service.gate.clone() else {
            return false;
        };
        self.gate.update(plan);
        self.gate.waits_for_word(word(service));
        self.leases = leases(service);
        true
    }

    fn decide(&mut self, _: Duration, _: &Opening<'_>, _: &dyn Fn(&Tuple) -> bool) -> Choice {
        // Every packet goes to the proxy.
        Choice::Drop
    }

    fn proxy(&mut self) -> Option<&mut dyn Proxy> {
        Some(self)
    }

    fn is_proxy(&self) -> bool {
        true
    }

    fn way_back(&self, forward: &FixedAffinity) -> Vec<Action> {
        read(&forward.cookie).map_or_else(Vec::new, |reply| vec![Action::Adjust(reply)])
    }

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::Adjust]
    }

    fn ended(&mut self, decided: &Decided) {
        self.gate.ended(&decided.forward.0);
    }

    fn refused(&mut self, decided: &Decided) {
        self.gate.denied(&decided.forward.0);
    }

    fn adopted(&mut self, decided: &Decided) {
        self.gate.adopted(&decided.forward.0);
    }

    fn counted(&self) -> BTreeMap<&'static str, u64> {
        let mut counted = self.gate.counts().all();
        counted.insert("proxied", self.gate.proxied() as u64);
        counted
    }
}

impl Proxy for GateService {
    fn has(&self, flow: &Tuple) -> bool {
        self.gate.has(flow)
    }

    fn packet(&mut self, now: Duration, packet: &Diverted<'_>) {
        self.gate.packet(now, packet);
    }

    fn steps(&mut self) -> Vec<Step> {
        let mut steps = self.gate.steps();
        for step in &mut steps {
            if let Step::HandOver { decided, .. } = step {
                decided.leases = Some(self.leases);
            }
        }
        steps
    }

    fn follows(&mut self, now: Duration) {
        self.gate.follows(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_brings_back_what_the_switch_does_with_replies() {
        for (sequence, window_shift) in [(0, 0), (u32::MAX, 14), (77, -14)] {
            let reply = Adjust {
                sequence,
                acknowledgement: 0,
                window_shift,
            };
            assert_eq!(read(&written(&reply)), Some(reply));
        }
        assert_eq!(read(b"long and wrong"), None);
        assert_eq!(read(b""), None);
    }
}
