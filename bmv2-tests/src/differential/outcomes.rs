//! What became of a frame on the switch, in the evaluator's words, and whether the two agree.

use std::net::IpAddr;

use signalbox_policy::eval::{DropReason, Message, Outcome, Part, Resume, Tunnel};
use signalbox_policy::model::ServiceIndex;

use super::Pair;
use crate::bench::{Carried, kind};
use crate::targets::Target;

impl Pair<'_> {
    /// Sends a frame into both, and says in a word what became of it.
    ///
    /// # Errors
    /// They disagree: both of their accounts.
    pub fn compare(&self, port: u16, frame: &[u8]) -> Result<&'static str, String> {
        let expected = self.evaluator.receive(port, frame);
        let (found, carried) = self.switch(port, frame);
        self.judge(&expected, &found)
            .map_err(|why| format!("port {port}, frame {frame:02x?}\n{why}"))?;
        // What a manager is asked about comes back with its answer.
        if let (Some((from, packet)), Some(carried)) = (asked(port, &expected), carried) {
            let expected = self.evaluator.resume(packet, from);
            let mut bytes = carried.resumed().bytes().to_vec();
            bytes.extend_from_slice(packet);
            let (found, _) = self.switch(510, &bytes);
            self.judge(&expected, &found)
                .map_err(|why| format!("resumed at {from:?}, frame {packet:02x?}\n{why}"))?;
        }
        Ok(match expected {
            Outcome::Drop { .. } => "dropped",
            Outcome::ToAgent { .. } => "to the agent",
            Outcome::Forward { .. } | Outcome::Tunnelled { .. } => "forwarded",
        })
    }

    pub(super) fn judge(&self, expected: &Outcome, found: &Outcome) -> Result<(), String> {
        let same = match (expected, found) {
            (Outcome::Tunnelled { tunnel, .. }, Outcome::Forward { port, packet }) => {
                unwrapped(*tunnel, *port, packet).as_ref() == Some(expected)
            }
            // Over P4Runtime a service's drops are seen by reason alone.
            (
                Outcome::Drop { reason: a, .. },
                Outcome::Drop {
                    reason: b,
                    service: None,
                },
            ) if self.bench.target != Target::Embedded => a == b,
            _ => expected == found,
        };
        if same {
            return Ok(());
        }
        Err(format!(
            "evaluator: {expected:02x?}\nswitch:    {found:02x?}"
        ))
    }

    /// The service that a P4 control stands for.
    fn service_of(&self, control: &str) -> ServiceIndex {
        let services = &self.image.plan.services;
        let place = services.iter().position(|service| {
            let mut parts = std::iter::once(&service.forward).chain(&service.reply);
            parts.any(|part| part.criteria_table.rsplit_once('.').unwrap().0 == control)
        });
        ServiceIndex(place.unwrap_or_else(|| panic!("`{control}` is no service's")))
    }

    /// One pass through the switch, told in the evaluator's words.
    pub(super) fn switch(&self, port: u16, frame: &[u8]) -> (Outcome, Option<Carried>) {
        let pass = self.bench.pass(port, frame);
        match pass.out.as_slice() {
            [] => {
                let reason = reasons()
                    .into_iter()
                    .find(|reason| pass.drops.contains_key(&(*reason as i64)))
                    .unwrap_or_else(|| panic!("a drop without a reason: {frame:02x?}"));
                let service = pass.dropped_by.map(|control| self.service_of(&control));
                (Outcome::Drop { reason, service }, None)
            }
            [(510, bytes)] => {
                let (carried, packet) = Carried::parse(bytes);
                let part = if carried.part == 1 {
                    Part::Reply
                } else {
                    Part::Forward
                };
                let stage = (carried.kind == kind::INTEREST)
                    .then(|| (ServiceIndex(carried.stage as usize - 1), part));
                let dispatch = stage.and_then(|_| self.carried_dispatch(&carried));
                let outcome = Outcome::ToAgent {
                    message: message(carried.kind),
                    stage,
                    reply: carried.reply == 1,
                    dispatch,
                    packet: packet.to_vec(),
                };
                (outcome, Some(carried))
            }
            [(port, packet)] => (
                Outcome::Forward {
                    port: *port,
                    packet: packet.clone(),
                },
                None,
            ),
            several => panic!("{} packets came of one", several.len()),
        }
    }
}

/// Where a packet that came in by this port goes on once its manager has answered, and the packet.
pub(super) fn asked(port: u16, outcome: &Outcome) -> Option<(Resume, &[u8])> {
    let Outcome::ToAgent {
        stage: Some((service, part)),
        reply,
        dispatch,
        packet,
        ..
    } = outcome
    else {
        return None;
    };
    let from = Resume {
        port,
        part: *part,
        service: *service,
        reply: *reply,
        answered: true,
        dispatch: *dispatch,
    };
    Some((from, packet))
}

/// What left by a tunnel, in the evaluator's words.
fn unwrapped(tunnel: Tunnel, port: u16, frame: &[u8]) -> Option<Outcome> {
    let (to, protocol, mut at): (IpAddr, u8, usize) = match frame.get(12..14)? {
        [8, 0] => (
            <[u8; 4]>::try_from(frame.get(30..34)?).ok()?.into(),
            *frame.get(23)?,
            34,
        ),
        _ => (
            <[u8; 16]>::try_from(frame.get(38..54)?).ok()?.into(),
            *frame.get(20)?,
            54,
        ),
    };
    let inner = match (tunnel, protocol) {
        (Tunnel::Ipip, inner) => inner,
        (Tunnel::Gue, 17) if frame.get(at + 2..at + 4)? == 6080u16.to_be_bytes() => {
            at += 12;
            *frame.get(at - 3)?
        }
        _ => return None,
    };
    let kind = match inner {
        4 => [8, 0],
        41 => [0x86, 0xdd],
        _ => return None,
    };
    Some(Outcome::Tunnelled {
        port,
        tunnel,
        to,
        packet: [&frame[..12], &kind, frame.get(at..)?].concat(),
    })
}

fn reasons() -> [DropReason; 9] {
    use DropReason::*;
    [
        BadPacketOut,
        UnknownPort,
        NotIp,
        Malformed,
        WrongMac,
        NoRoute,
        NoNextHop,
        NotServed,
        Service,
    ]
}

fn message(number: u64) -> Message {
    use Message::*;
    [
        Interest, Local, Arp, Ndp, Fragment, IcmpError, Ttl, Glean, Unresolved,
    ]
    .into_iter()
    .find(|one| *one as u64 == number)
    .unwrap_or_else(|| panic!("message {number}"))
}
