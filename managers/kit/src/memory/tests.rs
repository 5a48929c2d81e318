//! What is remembered through a change of who decides.

use bytes::Bytes;
use signalbox_agent::message::Action;
use signalbox_agent::testing::client;

use super::*;

const S: Duration = Duration::from_secs(1);

fn to(session: u64) -> Recipient {
    Recipient {
        agent: AgentId(0),
        session,
        question: None,
    }
}

/// The client's flow, sent to this server.
fn decided(server: u8) -> Decided {
    let client = client(9, 2000);
    let server = Tuple {
        dst: [10, 0, 1, server].into(),
        dport: 8080,
        ..client
    };
    Decided {
        forward: (client, vec![Action::Translate(server)]),
        reply: Some((
            server.reversed(),
            vec![Action::Translate(client.reversed())],
        )),
        leases: None,
        statistics: None,
        cookie: Bytes::new(),
    }
}

#[test]
fn a9_7_what_an_agent_holds_no_more_is_told_though_it_is_forgotten_at_once() {
    let mut memory = Memory::new(S, 0);
    memory.note_changes(true);
    memory.remember(decided(1), PacketKind::Whole, to(1), None);
    memory.changes();
    // Another one has decided since the agent's first session, and in its second one the flow is not listed.
    memory.reigns_anew(1);
    assert_eq!(memory.lost(S, AgentId(0), 2), [decided(1)]);
    assert!(memory.is_empty());
    let gone = |change: &Change| matches!(change, Change::Gone(was) if was.0 == decided(1));
    assert!(memory.changes().iter().any(gone));
}

#[test]
fn what_no_agent_has_spoken_of_since_another_decided_is_of_a_former_reign() {
    let mut memory = Memory::new(S, 0);
    memory.remember(decided(1), PacketKind::Whole, to(1), None);
    assert!(!memory.is_of_former_reign(&decided(2), PacketKind::Whole));
    memory.reigns_anew(1);
    assert!(memory.is_of_former_reign(&decided(2), PacketKind::Whole));
    memory.remember(decided(1), PacketKind::Whole, to(2), None);
    assert!(!memory.is_of_former_reign(&decided(2), PacketKind::Whole));
}
