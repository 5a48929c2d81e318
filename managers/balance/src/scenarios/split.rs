//! A manager and its backup of which each reaches agents that the other does not: both decide, and what they make
//! of each other's word.

use bytes::Bytes;
use signalbox_agent::flow::{PacketKind, Part, events};
use signalbox_agent::message::{CarriedState, Denied, Interest, Reason, Subject};
use signalbox_lower::plan::Replicate;

use super::failover::{lease, standing};
use super::replication::{replicated, two};
use super::*;

const MS: Duration = Duration::from_millis(1);

/// A question about a client's flow.
fn question(request: u64, flow: Tuple) -> AgentBody {
    AgentBody::Interest(Interest {
        request,
        stage: 1,
        part: Part::Forward,
        flow,
        kind: PacketKind::Whole,
        events: events::ALL | events::SYN,
        packet: Bytes::new(),
        state: CarriedState::default(),
    })
}

#[test]
fn a9_7_a_verdict_that_waits_for_the_backup_when_its_agent_goes_is_taken_back() {
    let plan = replicated(Replicate::Sync);
    let mut net = two(&plan, 2, Faults::none());
    net.hung.insert(1);
    let flow = client(9, 2000);
    assert_eq!(net.send(0, &flow, flags::SYN), None);
    assert_eq!(net.live(0), 1);
    net.cut(0, 0);
    assert_eq!(net.live(0), 0, "no agent ever carries it out");
    net.hung.remove(&1);
    net.advance(30 * MS);
    assert_eq!(net.live(1), 0, "and the other one knows that");
    assert!(net.send(1, &client(9, 2001), flags::SYN).is_some());
    assert_eq!((net.live(0), net.live(1)), (1, 1));
}

// A6.1: the flow comes to an agent that the first one reaches.
#[test]
fn a9_8_what_the_backup_has_decided_since_is_newer_than_what_the_first_one_decided_before() {
    let plan = replicated(Replicate::Sync);
    let mut net = two(&plan, 2, Faults::none());
    // lb-1's verdict does not arrive, and then agent 0 is out of its reach.
    net.down.retain(|(of, _)| *of != (0, 0));
    let flow = client(9, 2000);
    assert_eq!(net.send(0, &flow, flags::SYN), None);
    assert_eq!(net.live(0), 1);
    net.cut(0, 0);
    net.advance(lease(&plan));
    // Servers take turns: this decision is another one.
    net.send(0, &client(8, 2000), flags::SYN);
    let server = net.send(0, &flow, flags::SYN);
    assert!(server.is_some());
    net.advance(lease(&plan) / 2);
    assert!(!standing(&net, 0).0, "it decides for agent 1");
    assert_eq!(net.send(1, &flow, flags::ACK), server);
    assert!(net.counts(0).mid_flow_known > 0, "as lb-1 says");
}

// A9.8
#[test]
fn what_an_agent_listed_before_it_went_away_does_not_speak_against_what_the_backup_tells_of_it() {
    let plan = replicated(Replicate::Sync);
    let mut net = two(&plan, 2, Faults::none());
    net.cut(0, 0);
    net.advance(lease(&plan));
    let flow = client(9, 2000);
    let server = net.send(0, &flow, flags::SYN);
    assert!(server.is_some());
    net.advance(lease(&plan) / 2);
    assert!(!standing(&net, 0).0, "it decides for agent 1");
    assert_eq!(net.live(0), 1, "agent 0 holds it");
    assert_eq!(net.send(1, &flow, flags::SYN), server);
}

#[test]
fn a9_9_a_denial_of_what_was_said_under_an_old_epoch_takes_back_nothing_that_was_said_since() {
    let plan = replicated(Replicate::Async);
    let mut net = two(&plan, 1, Faults::none());
    net.hear(0, 0, question(90, client(9, 2000)));
    net.settle();
    assert_eq!(net.live(0), 1);
    let denial = |reason| {
        AgentBody::Denied(Denied {
            subject: Subject::Verdict(90),
            reason,
            text: String::new(),
        })
    };
    net.hear(0, 0, denial(Reason::OldEpoch));
    assert_eq!(net.live(0), 1);
    net.hear(0, 0, denial(Reason::TableFull));
    assert_eq!(net.live(0), 0);
}
