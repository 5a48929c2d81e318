//! What is sent and said while a story is played, a line each, for whoever looks for the reason of a broken
//! promise. What is said all the time, heartbeats and reports, is left out.

use signalbox_agent::message::{
    Action, AgentBody, FixedAffinity, ManagerBody, ToAgent, ToManager, Which,
};
use signalbox_agent::packet::View;
use signalbox_agent::testing::flags;
use signalbox_manager::peer::{PeerMessage, Told};

use crate::hosts::Packet;

fn names(of: u8) -> String {
    let all = [
        (flags::SYN, "SYN"),
        (flags::FIN, "FIN"),
        (flags::RST, "RST"),
        (flags::ACK, "ACK"),
    ];
    let set = all.iter().filter(|(flag, _)| of & flag != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
}

/// A host sends.
#[must_use]
pub fn sent(packet: &Packet) -> String {
    let Packet { agent, tuple, .. } = packet;
    format!("{tuple} {} comes to agent {agent}", names(packet.flags))
}

/// A packet has left an agent's switch.
#[must_use]
pub fn left(agent: usize, view: &View) -> String {
    format!("{} {} leaves agent {agent}", view.tuple, names(view.flags))
}

fn affinity(a: &FixedAffinity) -> String {
    let does: Vec<String> = (a.actions.iter())
        .map(|action| match action {
            Action::Translate(to) => format!("becomes {to}"),
            other => format!("{other:?}"),
        })
        .collect();
    format!("flow {}: {} {}", a.flow, a.tuple, does.join(", "))
}

fn all<'a>(list: impl Iterator<Item = &'a FixedAffinity>) -> String {
    list.map(affinity).collect::<Vec<_>>().join("; ")
}

/// A manager has said something that has reached an agent.
#[must_use]
pub fn said(manager: &str, agent: usize, message: &ToAgent) -> Option<String> {
    let what = match &message.body {
        ManagerBody::Heartbeat(_) | ManagerBody::Criteria(_) => return None,
        ManagerBody::Hello(hello) => format!("hello, process {}", hello.instance),
        ManagerBody::Verdict(v) => {
            let (request, decision) = (v.request, v.decision);
            format!(
                "answer {request}: {decision:?} {}",
                all(v.affinities.iter())
            )
        }
        ManagerBody::Install { affinities, .. } => format!("install {}", all(affinities.iter())),
        ManagerBody::Delete { which, .. } => match which {
            Which::Match { tuple, .. } => format!("delete {tuple}"),
            other => format!("delete {other:?}"),
        },
        ManagerBody::ListAffinities { request } => format!("list what you hold ({request})"),
        other => format!("{other:?}"),
    };
    let epoch = message.epoch;
    Some(format!("{manager} to agent {agent}, epoch {epoch}: {what}"))
}

/// An agent has said something that has reached a manager.
#[must_use]
pub fn heard(agent: usize, manager: &str, message: &ToManager) -> Option<String> {
    let what = match &message.body {
        AgentBody::HeartbeatAck(_) | AgentBody::Report(_) => return None,
        AgentBody::Welcome(welcome) => {
            let epochs: Vec<u64> = welcome.shares.iter().map(|s| s.epoch).collect();
            format!("welcome; epochs {epochs:?}")
        }
        AgentBody::Interest(i) => format!("question {}: {} {:?}", i.request, i.flow, i.part),
        AgentBody::Expired(e) => format!("flow {} has expired", e.flow),
        AgentBody::Deleted(e) => format!("flow {} is deleted", e.flow),
        AgentBody::Denied(d) => format!("denied: {:?}: {}", d.subject, d.text),
        AgentBody::Affinities { request, list, .. } => {
            let list = all(list.iter().map(|i| &i.affinity));
            format!("held ({request}): {list}")
        }
        other => format!("{other:?}"),
    };
    let epoch = message.epoch;
    Some(format!("agent {agent} to {manager}, epoch {epoch}: {what}"))
}

/// A manager has said something that has reached the other one.
#[must_use]
pub fn crossed(from: &str, to: &str, message: &PeerMessage) -> String {
    let what = match message {
        PeerMessage::Hello(hello) => {
            let (heard, open) = (hello.heard, hello.open);
            format!(
                "hello, process {}, heard {heard}, open {open}",
                hello.instance
            )
        }
        PeerMessage::Telling(telling) => {
            let body = match &telling.body {
                Told::Flow(flow) => {
                    let (tuple, does) = &flow.decided.forward;
                    format!("{tuple} {does:?}: {:?}", flow.state)
                }
                other => format!("{other:?}"),
            };
            let word = if telling.leads { "tells" } else { "remembers" };
            format!(
                "{word} {}.{}, epoch {}: {body}",
                telling.stream, telling.sequence, telling.epoch
            )
        }
        other => format!("{other:?}"),
    };
    format!("{from} to {to}: {what}")
}
