//! Every message survives the wire, and what makes no sense does not pass it.

use signalbox_agent::flow::{PacketKind, Tuple};
use signalbox_agent::message::Action;

use super::*;

fn tuple(port: u16) -> Tuple {
    Tuple {
        src: [203, 0, 113, 9].into(),
        dst: [198, 51, 100, 1].into(),
        proto: 6,
        sport: port,
        dport: 80,
    }
}

fn flow(state: ToldState) -> ToldFlow {
    ToldFlow {
        decided: Decided {
            forward: (tuple(2000), vec![Action::Translate(tuple(2001))]),
            reply: Some((
                tuple(2001).reversed(),
                vec![Action::Translate(tuple(2000).reversed())],
            )),
            leases: Some(Leases {
                half_open_ms: Some(1),
                idle_ms: Some(2),
                closed_ms: None,
                hard_ms: Some(u64::MAX),
            }),
            statistics: Some(Statistics {
                count: true,
                every_ms: Some(100),
                on_close: true,
                flags: false,
            }),
            cookie: vec![7; 256].into(),
        },
        kind: PacketKind::Whole,
        state,
    }
}

fn telling(body: Told) -> PeerMessage {
    PeerMessage::Telling(Telling {
        stream: 3,
        sequence: u64::MAX,
        service: "web-lb".into(),
        share: 2,
        epoch: 5,
        leads: true,
        body,
    })
}

#[test]
fn every_message_survives_the_wire() {
    let mut messages = vec![
        PeerMessage::Hello(PeerHello {
            version: 1,
            manager: "lb-1".into(),
            plan_hash: u64::MAX,
            instance: 7,
            heard: true,
            open: false,
            have: (3, 9),
        }),
        PeerMessage::Ack {
            stream: 3,
            sequence: 9,
        },
        PeerMessage::Recall {
            service: "web-lb".into(),
            share: 2,
            request: 8,
        },
        PeerMessage::Old {
            service: "web-lb".into(),
            share: 2,
            epoch: 4,
        },
        telling(Told::Begin),
        telling(Told::Whole { request: 8 }),
    ];
    for (reason, _) in REASONS {
        let text = "because".to_owned();
        messages.push(PeerMessage::Refused { reason, text });
    }
    let held = ToldState::Held(vec!["agent-1".into(), "agent-2".into()]);
    for state in [held, ToldState::Gone, ToldState::Refused] {
        messages.push(telling(Told::Flow(Arc::new(flow(state.clone())))));
        let mut one_way = flow(state);
        one_way.decided.reply = None;
        messages.push(telling(Told::Flow(Arc::new(one_way))));
    }
    for message in messages {
        assert_eq!(read(write(&message)), Ok(message));
    }
}

#[test]
fn what_makes_no_sense_is_an_error_that_names_the_field() {
    let broken = |change: &dyn Fn(&mut pb::Flow)| {
        let held = ToldState::Held(vec!["agent-1".into()]);
        let mut flow = write_flow(&flow(held));
        change(&mut flow);
        read_flow(flow).unwrap_err().to_string()
    };
    assert_eq!(broken(&|f| f.forward = None), "`forward` is missing");
    assert_eq!(
        broken(&|f| f.forward = f.reply.clone()),
        "`forward` is out of range"
    );
    assert_eq!(
        broken(&|f| f.reply = f.forward.clone()),
        "`reply` is out of range"
    );
    assert_eq!(broken(&|f| f.agents.clear()), "`agents` is out of range");
    let crowd = vec![String::new(); 1_001];
    assert_eq!(
        broken(&|f| f.agents = crowd.clone()),
        "`agents` is out of range"
    );
    assert_eq!(broken(&|f| f.state = 9), "`state` is out of range");
    let long = |f: &mut pb::Flow| {
        if let Some(forward) = &mut f.forward {
            forward.cookie = vec![0; 257].into();
        }
    };
    assert_eq!(broken(&long), "`forward` is out of range");
    let refused = pb::Refused {
        reason: 99,
        text: String::new(),
    };
    let body = Some(pb::message::Body::Refused(refused));
    assert_eq!(
        read(pb::Message { body }).unwrap_err().to_string(),
        "`reason` is out of range"
    );
    assert_eq!(
        read(pb::Message { body: None }).unwrap_err().to_string(),
        "`body` is missing"
    );
}
