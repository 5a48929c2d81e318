//! The agent on a stand-in switch, with a manager that says what the test wants.

mod acceptance;
mod adjusting;
mod cascade;
mod counting;
mod direct;
mod division;
mod errors;
mod flooding;
mod fragments;
mod frames;
mod heard;
mod host;
mod interests;
mod leases;
mod legs;
mod limits;
mod oracle;
mod outcomes;
mod plans;
mod quotes;
mod refusals;
mod site;
mod startup;
mod statistics;
mod undelivered;
mod walking;

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use signalbox_lower::plan::{CriterionAction, Plan, ServicePlan};

use super::{Input, SessionId};
use crate::flow::{PacketKind, Part, Tuple};
use crate::message::*;
use crate::target::Target;
use crate::testing::{World, backed, client, flags, observed, plan, tcp};

const LB: SessionId = 1;
const METER: SessionId = 2;
const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn say(w: &mut World, session: SessionId, epoch: u64, body: ManagerBody) {
    say_of(w, session, 0, epoch, body);
}

/// Says something about another service.
fn say_about(w: &mut World, session: SessionId, service: &str, body: ManagerBody) {
    let service = if matches!(body, ManagerBody::Hello(_)) {
        ""
    } else {
        service
    };
    w.feed(Input::Message(
        session,
        ToAgent {
            service: service.into(),
            share: 0,
            epoch: 1,
            body,
        },
    ));
}

/// Says something about a share of the service.
fn say_of(w: &mut World, session: SessionId, share: u32, epoch: u64, body: ManagerBody) {
    let service = if matches!(body, ManagerBody::Hello(_)) {
        ""
    } else {
        "web-lb"
    };
    w.feed(Input::Message(
        session,
        ToAgent {
            service: service.into(),
            share,
            epoch,
            body,
        },
    ));
}

fn hello(manager: &str, epoch: u64) -> ManagerBody {
    ManagerBody::Hello(Hello {
        instance: 0,
        version: VERSION,
        manager: manager.into(),
        plan_hash: 0,
        claims: vec![Claim {
            service: "web-lb".into(),
            share: 0,
            epoch,
            standby: false,
        }],
    })
}

/// The plan's own criteria.
fn criteria(plan: &Plan, version: u64) -> Criteria {
    criteria_of(&plan.services[0], version)
}

/// A service's own criteria.
fn criteria_of(service: &ServicePlan, version: u64) -> Criteria {
    let reply = service.reply.as_ref().map(|r| (Part::Reply, r));
    let parts = [(Part::Forward, &service.forward)];
    let list = parts
        .into_iter()
        .chain(reply)
        .flat_map(|(part, p)| {
            p.criteria.iter().map(move |c| {
                let CriterionAction::Ask {
                    packet_events,
                    notice_events,
                } = c.action
                else {
                    panic!("a question")
                };
                Criterion {
                    id: c.id,
                    part,
                    priority: c.priority,
                    interest: InterestMask {
                        packet_events,
                        notice_events,
                    },
                    asking: Asking::OnceAFlow,
                    action: StaticAction::Drop,
                    statistics: Statistics::default(),
                    needs: vec![Capability::Translate],
                    cubes: c.cubes.clone(),
                }
            })
        })
        .collect();
    Criteria { version, list }
}

/// A world with a manager that has said hello and given its criteria.
fn served() -> World {
    served_with(plan())
}

fn served_with(plan: Plan) -> World {
    served_on(plan, Target::switch())
}

/// The same on some target.
fn served_on(plan: Plan, target: Target) -> World {
    let mut w = World::down(plan.clone(), target);
    w.switch_up();
    w.feed(Input::SessionOpened(LB));
    say(&mut w, LB, 1, hello("lb-1", 1));
    say(&mut w, LB, 1, ManagerBody::Criteria(criteria(&plan, 1)));
    w.said.clear();
    w
}

/// The manager of the second service, `meter`, says hello.
fn meter_comes(w: &mut World) {
    w.feed(Input::SessionOpened(METER));
    let hello = Hello {
        instance: 0,
        version: VERSION,
        manager: "meter-1".into(),
        plan_hash: 0,
        claims: vec![Claim {
            service: "meter".into(),
            share: 0,
            epoch: 1,
            standby: false,
        }],
    };
    say_about(w, METER, "meter", ManagerBody::Hello(hello));
}

/// And gives its criteria; what they do not ask about passes.
fn meter_serves(w: &mut World) {
    meter_comes(w);
    let mut criteria = criteria_of(&observed().services[1], 1);
    for one in &mut criteria.list {
        one.action = StaticAction::Pass;
    }
    say_about(w, METER, "meter", ManagerBody::Criteria(criteria));
}

fn beat(w: &mut World, version: u64) {
    say(
        w,
        LB,
        1,
        ManagerBody::Heartbeat(Heartbeat {
            sequence: 1,
            criteria_version: version,
        }),
    );
}

/// Time passes, with heartbeats.
fn pass(w: &mut World, seconds: u32) {
    for _ in 0..seconds {
        beat(w, 1);
        w.advance(S);
    }
}

/// Takes the interests that the agent has sent.
fn interests(w: &mut World) -> Vec<Interest> {
    let (interests, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut w.said)
        .into_iter()
        .partition(|(_, m)| matches!(m.body, AgentBody::Interest(_)));
    w.said = rest;
    interests
        .into_iter()
        .filter_map(|(_, m)| match m.body {
            AgentBody::Interest(i) => Some(i),
            _ => None,
        })
        .collect()
}

fn reports(w: &World) -> Vec<Report> {
    w.said
        .iter()
        .filter_map(|(_, m)| match &m.body {
            AgentBody::Report(r) => Some((**r).clone()),
            _ => None,
        })
        .collect()
}

fn denials(w: &World) -> Vec<(Subject, Reason)> {
    w.said
        .iter()
        .filter_map(|(_, m)| match &m.body {
            AgentBody::Denied(d) => Some((d.subject, d.reason)),
            _ => None,
        })
        .collect()
}

const SERVER: ([u8; 4], u16) = ([10, 0, 1, 10], 8080);

/// Both directions of a balanced flow.
fn balanced(flow: Tuple, number: u64, server: ([u8; 4], u16)) -> Vec<FixedAffinity> {
    let to = Tuple {
        dst: IpAddr::from(server.0),
        dport: server.1,
        ..flow
    };
    let make = |part, tuple: Tuple, other: Tuple| FixedAffinity {
        part,
        tuple,
        kind: PacketKind::Whole,
        actions: vec![Action::Translate(other.reversed())],
        flow: number,
        partner: Some(other),
        cookie: Bytes::from_static(b"web"),
        leases: Leases {
            half_open_ms: Some(10_000),
            idle_ms: Some(60_000),
            closed_ms: Some(5_000),
            hard_ms: None,
        },
        interest: InterestMask::default(),
        track_close: true,
        statistics: Statistics {
            count: true,
            every_ms: None,
            on_close: true,
            flags: false,
        },
    };
    vec![
        make(Part::Forward, flow, to.reversed()),
        make(Part::Reply, to.reversed(), flow),
    ]
}

fn verdict(w: &mut World, request: u64, decision: Decision, affinities: Vec<FixedAffinity>) {
    say(
        w,
        LB,
        1,
        ManagerBody::Verdict(Verdict {
            request,
            decision,
            affinities,
        }),
    );
}

/// A client's SYN is answered with `SERVER`; the flow is in.
fn connect(w: &mut World, port: u16) -> Tuple {
    let flow = client(9, port);
    w.receive(1, &tcp(1, &flow, flags::SYN, b""));
    let asked = interests(w);
    assert_eq!(asked.len(), 1);
    let affinities = balanced(flow, u64::from(port), SERVER);
    verdict(w, asked[0].request, Decision::Resume, affinities);
    flow
}

fn to_server(flow: Tuple) -> Tuple {
    Tuple {
        dst: IpAddr::from(SERVER.0),
        dport: SERVER.1,
        ..flow
    }
}
