//! Every message survives the wire, and what makes no sense does not pass it.

use std::time::Duration;

use prost::Message;
use signalbox_agent::flow::{PacketKind, Tuple};
use signalbox_agent::message::Action;
use signalbox_agent::testing::backed;
use signalbox_lower::plan::{Plan, Replicate};

use super::*;
use crate::peer::VERSION;
use crate::{Choice, Decide, Input, Manager, Opening, Served};

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

/// Every flow goes on as it is.
struct Pass;

impl Decide for Pass {
    fn decide(&mut self, _: Duration, opening: &Opening<'_>, _: &dyn Fn(&Tuple) -> bool) -> Choice {
        Choice::Install(Decided {
            forward: (opening.flow, vec![Action::Forward]),
            reply: None,
            leases: None,
            statistics: None,
            cookie: bytes::Bytes::new(),
        })
    }
}

/// What the other manager of a pair may say in one of its lives, the first message being a greeting.
fn life(other: &str, plan: &Plan, instance: u64) -> Vec<PeerMessage> {
    let told = |sequence, leads, body| {
        PeerMessage::Telling(Telling {
            stream: 1,
            sequence,
            service: "web-lb".into(),
            share: 0,
            epoch: 7,
            leads,
            body,
        })
    };
    let flow = |state| Told::Flow(Arc::new(flow(state)));
    let held = ToldState::Held(vec!["agent-1".into(), "agent-9".into()]);
    vec![
        PeerMessage::Hello(PeerHello {
            version: VERSION,
            manager: other.into(),
            plan_hash: signalbox_agent::plan_hash(plan),
            instance,
            heard: true,
            open: true,
            have: (0, 0),
        }),
        told(1, true, Told::Begin),
        told(2, true, flow(held)),
        told(3, true, Told::Whole { request: 1 }),
        told(4, false, flow(ToldState::Gone)),
        told(5, true, flow(ToldState::Refused)),
        PeerMessage::Ack {
            stream: 1,
            sequence: 1,
        },
        PeerMessage::Recall {
            service: "web-lb".into(),
            share: 0,
            request: instance,
        },
        PeerMessage::Old {
            service: "web-lb".into(),
            share: 0,
            epoch: 1,
        },
    ]
}

/// Changes a byte or two of a message.
fn change(bytes: &mut Vec<u8>, draw: &mut impl FnMut(usize) -> usize) {
    for _ in 0..=draw(2) {
        let at = draw(bytes.len() + 1);
        match (draw(6), bytes.get_mut(at)) {
            (0, Some(_)) => drop(bytes.remove(at)),
            (1, Some(byte)) => *byte = [0, 1, 0x7f, 0x80, 0xff][draw(5)],
            (2, _) | (_, None) => bytes.insert(at, 0xff),
            (_, Some(byte)) => *byte ^= 1 << draw(8),
        }
    }
}

#[test]
fn a_message_that_is_changed_on_the_way_is_refused_or_taken_and_never_panics() {
    let mut plan = backed(1_000);
    let backup = plan.services[0].shares[0].backup.as_mut();
    backup.unwrap().replicate = Some(Replicate::Sync);
    let mut state = 1u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    for (own, other) in [("lb-1", "lb-2"), ("lb-2", "lb-1")] {
        let served: Vec<Served> = vec![("web-lb".into(), 0, 0, Box::new(Pass))];
        let mut manager = Manager::new(own, &plan, served);
        let mut now = Duration::ZERO;
        let (mut taken, mut refused) = (0, 0);
        for instance in 1..=1_000 {
            manager.handle(now, Input::PeerConnected(7));
            for said in &life(other, &plan, instance) {
                let mut bytes = write(said).encode_to_vec();
                if draw(4) == 0 {
                    change(&mut bytes, &mut draw);
                }
                let message = pb::Message::decode(&*bytes).ok();
                let Some(heard) = message.and_then(|message| read(message).ok()) else {
                    refused += 1;
                    continue;
                };
                taken += usize::from(heard != *said);
                assert_eq!(read(write(&heard)), Ok(heard.clone()));
                manager.handle(now, Input::Peer(7, heard));
                now += Duration::from_millis(20);
                manager.handle(now, Input::Tick);
            }
            manager.handle(now, Input::PeerDisconnected(7));
        }
        assert!(
            taken > 300 && refused > 300,
            "{taken} taken, {refused} refused"
        );
        let link = manager.status().links.remove(0);
        assert!(link.counts.learned > 400, "{link:?}");
    }
}
