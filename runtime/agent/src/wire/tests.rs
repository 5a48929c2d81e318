//! Every message survives its protobuf form; nonsense does not get in.

use std::net::IpAddr;

use bytes::Bytes;
use prost::Message;
use signalbox_lower::plan::{Cube, Masked, MaskedAddr};

use super::*;
use crate::flow::{PacketKind, Part, Tuple};
use crate::message::*;

fn tuple(v6: bool) -> Tuple {
    let [src, dst]: [IpAddr; 2] = if v6 {
        ["fd00::1".parse().unwrap(), "fd00::2".parse().unwrap()]
    } else {
        [[203, 0, 113, 9].into(), [203, 0, 113, 80].into()]
    };
    Tuple {
        src,
        dst,
        proto: 6,
        sport: 40_000,
        dport: 443,
    }
}

fn affinity() -> FixedAffinity {
    FixedAffinity {
        part: Part::Reply,
        tuple: tuple(true),
        kind: PacketKind::Whole,
        actions: vec![
            Action::Forward,
            Action::Drop,
            Action::Count,
            Action::MarkDscp(46),
            Action::Translate(tuple(true).reversed()),
            Action::Adjust(Adjust {
                sequence: u32::MAX,
                acknowledgement: 1,
                window_shift: -14,
            }),
            Action::Dispatch {
                next_hop: IpAddr::from([10, 0, 0, 1]),
                tunnel: Tunnel::Gue,
            },
        ],
        flow: u64::MAX,
        partner: Some(tuple(true).reversed()),
        cookie: Bytes::from_static(b"cookie"),
        leases: Leases {
            half_open_ms: Some(1),
            idle_ms: Some(2),
            closed_ms: None,
            hard_ms: Some(4),
        },
        interest: InterestMask {
            packet_events: 1023,
            notice_events: 5,
        },
        track_close: true,
        statistics: Statistics {
            count: true,
            every_ms: Some(10_000),
            on_close: true,
            flags: true,
        },
    }
}

#[test]
fn every_message_of_a_manager_survives_its_protobuf_form() {
    let dispatch = StaticAction::Dispatch {
        next_hop: [10, 0, 0, 1].into(),
        tunnel: Tunnel::Ipip,
    };
    let criterion = |asking, action| Criterion {
        id: 7,
        part: Part::Forward,
        priority: 1000,
        interest: InterestMask {
            packet_events: 512,
            notice_events: 0,
        },
        asking,
        action,
        statistics: affinity().statistics,
        needs: vec![
            Capability::Translate,
            Capability::Adjust,
            Capability::Dispatch,
            Capability::Ipip,
            Capability::Gue,
            Capability::MarkDscp,
        ],
        cubes: vec![
            Cube::default(),
            Cube {
                in_port: Some(3),
                src: Some(MaskedAddr {
                    value: [10, 0, 0, 0].into(),
                    mask: [255, 0, 0, 0].into(),
                }),
                dport: Some(Masked {
                    value: 0x0400,
                    mask: 0xfc00,
                }),
                flags: Some(Masked {
                    value: 2,
                    mask: 0x12,
                }),
                kind: Some(Masked { value: 0, mask: 3 }),
                ..Cube::default()
            },
        ],
    };
    let place = Place::Stage {
        stage: 2,
        part: Part::Reply,
        state: CarriedState {
            ingress_port: 9,
            mark: Some(46),
            ..CarriedState::default()
        },
        answered: true,
    };
    let inject = |place| {
        ManagerBody::Inject(Inject {
            request: 12,
            packet: Bytes::from_static(&[0x45]),
            place,
        })
    };
    let delete = |which| ManagerBody::Delete { request: 1, which };
    let verdict = |decision| {
        ManagerBody::Verdict(Verdict {
            request: 1,
            decision,
            affinities: vec![affinity()],
        })
    };
    for body in [
        ManagerBody::Hello(Hello {
            version: 1,
            manager: "lb-1".into(),
            plan_hash: 9,
            instance: 3,
            claims: vec![Claim {
                service: "web-lb".into(),
                share: 1,
                epoch: 3,
                standby: true,
            }],
        }),
        ManagerBody::Heartbeat(Heartbeat {
            sequence: 8,
            criteria_version: 2,
        }),
        ManagerBody::Criteria(Criteria {
            version: 2,
            list: vec![
                criterion(Asking::OnceAFlow, StaticAction::Pass),
                criterion(Asking::EveryPacket, StaticAction::Drop),
                criterion(Asking::OnceAFlow, dispatch),
            ],
        }),
        verdict(Decision::Resume),
        verdict(Decision::Consume),
        verdict(Decision::Drop),
        verdict(Decision::Fallback),
        ManagerBody::Install {
            request: 4,
            affinities: vec![affinity()],
        },
        delete(Which::All),
        delete(Which::Flow(0)),
        delete(Which::Match {
            part: Part::Forward,
            tuple: tuple(false),
            kind: PacketKind::FirstFragment,
        }),
        inject(Place::Port(2)),
        inject(Place::Route),
        inject(place),
        ManagerBody::ListAffinities { request: 6 },
        ManagerBody::Goodbye,
    ] {
        let message = ToAgent {
            service: "web-lb".into(),
            share: 2,
            epoch: 5,
            body,
        };
        let bytes = write_from_manager(&message).encode_to_vec();
        let read = read_from_manager(pb::FromManager::decode(&*bytes).unwrap());
        assert_eq!(read.unwrap(), message);
    }
}

#[test]
fn every_message_of_an_agent_survives_its_protobuf_form() {
    let ended = Ended {
        flow: 3,
        forward: Some(tuple(false)),
        reply: None,
        cookie: Bytes::from_static(b"x"),
        request: 8,
    };
    let denied = |subject| {
        AgentBody::Denied(Denied {
            subject,
            reason: Reason::TableFull,
            text: "full".into(),
        })
    };
    let report = |cause| {
        AgentBody::Report(Box::new(Report {
            flow: 3,
            forward: Some(DirectionReport {
                tuple: tuple(false),
                translated: Some(tuple(false).reversed()),
                totals: Totals {
                    packets: 1,
                    bytes: u64::MAX,
                },
                tcp_flags: 0x1b,
            }),
            reply: None,
            cookie: Bytes::new(),
            sequence: 2,
            cause,
            last: true,
            age_ms: 77,
            idle_ms: 7,
        }))
    };
    for body in [
        AgentBody::Welcome(Welcome {
            version: 1,
            agent: "agent-1".into(),
            plan_hash: 1,
            shares: vec![ShareEpoch {
                service: "web-lb".into(),
                share: 1,
                epoch: 4,
            }],
        }),
        AgentBody::Refused {
            reason: Reason::WrongPlan,
            text: "no".into(),
        },
        AgentBody::Interest(Interest {
            request: 9,
            stage: 3,
            part: Part::Forward,
            flow: tuple(true),
            kind: PacketKind::IcmpError,
            events: 1023,
            packet: Bytes::from_static(b"frame"),
            state: CarriedState {
                ingress_port: 1,
                reply: true,
                next_hop: 2,
                tunnel: 3,
                mark: Some(0),
                notices: u32::MAX,
                entry: 6,
            },
        }),
        report(ReportCause::Period),
        report(ReportCause::Closed),
        report(ReportCause::Expired),
        report(ReportCause::Deleted),
        report(ReportCause::HardLease),
        AgentBody::CriterionReport(CriterionReport {
            id: 4,
            part: Part::Reply,
            sequence: 1,
            last: false,
            totals: Totals {
                packets: 1,
                bytes: 60,
            },
            age_ms: 5,
        }),
        denied(Subject::Verdict(1)),
        denied(Subject::Install(1)),
        denied(Subject::Delete(1)),
        denied(Subject::Inject(1)),
        denied(Subject::List(1)),
        denied(Subject::Criteria(1)),
        denied(Subject::Heartbeat(1)),
        denied(Subject::Goodbye),
        AgentBody::Expired(ended.clone()),
        AgentBody::Deleted(ended),
        AgentBody::HeartbeatAck(Heartbeat {
            sequence: 1,
            criteria_version: 1,
        }),
        AgentBody::Resync { have_version: 4 },
        AgentBody::Affinities {
            request: 1,
            piece: 3,
            list: vec![InstalledAffinity {
                affinity: affinity(),
                share: 1,
                age_ms: 5,
                totals: Totals::default(),
                established: true,
                closed: false,
            }],
            last: true,
        },
        AgentBody::Arrived {
            packet: Bytes::from_static(b"ip"),
            port: 2,
        },
    ] {
        let message = ToManager {
            service: "web-lb".into(),
            share: 2,
            epoch: 5,
            body,
        };
        let bytes = write_from_agent(&message).encode_to_vec();
        let read = read_from_agent(pb::FromAgent::decode(&*bytes).unwrap());
        assert_eq!(read.unwrap(), message);
    }
}

#[test]
fn nonsense_is_refused_with_the_fields_name() {
    let empty = pb::FromManager::default();
    assert_eq!(read_from_manager(empty), Err(WireError::Missing("body")));
    let mut wide = pb::FromManager {
        service: String::new(),
        share: 0,
        epoch: 0,
        body: Some(pb::from_manager::Body::Inject(pb::Inject {
            request: 0,
            packet: Bytes::new(),
            r#where: Some(pb::inject::Where::Port(70_000)),
        })),
    };
    assert_eq!(
        read_from_manager(wide.clone()),
        Err(WireError::Range("port"))
    );
    let mixed = pb::Tuple {
        src: Bytes::from_static(&[1; 4]),
        dst: Bytes::from_static(&[1; 16]),
        ..pb::Tuple::default()
    };
    wide.body = Some(pb::from_manager::Body::Delete(pb::Delete {
        request: 0,
        which: Some(pb::delete::Which::Match(pb::FlowMatch {
            part: 1,
            r#match: Some(mixed),
            kind: 0,
        })),
    }));
    assert_eq!(read_from_manager(wide), Err(WireError::Range("dst")));
}

#[test]
fn a_denial_says_what_it_denies() {
    let message = pb::FromAgent {
        body: Some(pb::from_agent::Body::Denied(pb::Denied {
            reason: pb::Reason::TableFull as i32,
            text: "full".into(),
            subject: None,
        })),
        ..pb::FromAgent::default()
    };
    assert_eq!(read_from_agent(message), Err(WireError::Missing("subject")));
}
