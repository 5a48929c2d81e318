//! What becomes of packets at dispatching, translating and observing services, pass by pass.

use std::net::IpAddr;

use signalbox_policy::eval::{
    Dispatch, DropReason, Evaluator, FixedAction, FlowKey, Message, Outcome, Part, Resume, Tunnel,
};
use signalbox_policy::model::{Mac, Policy, ServiceIndex};

use crate::frames::{mac, tcp};
use crate::texts::{NETWORK, POOL, policy};

const FIRST: ServiceIndex = ServiceIndex(0);
const SECOND: ServiceIndex = ServiceIndex(1);
const SERVER: Mac = Mac([2, 0, 0, 0, 1, 10]);
const CLIENT: &str = "192.0.2.9:4000";
const SERVICE: &str = "203.0.113.80:443";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A balance service that dispatches this way, and a meter below it.
fn dispatching(way: &str) -> Policy {
    let pool = POOL.replace(":8080", ":443");
    policy(&format!(
        "{NETWORK}{pool}service web-lb : balance {{\nmatch tcp.dst {SERVICE}\npick from @web by weighted\nway {way}\n}}\n\
         service meter : observe {{ match tcp }}\ncascade web-lb > meter\nmanagers {{ m serves web-lb, meter }}\n"
    ))
}

/// The evaluator with the client's flow sent to the first server.
fn decided(policy: &Policy) -> (Evaluator<'_>, Vec<u8>) {
    let mut e = Evaluator::new(policy);
    let frame = tcp(mac(policy, 1), CLIENT, SERVICE, true, b"");
    let (flow, _) = e.flow(&frame).unwrap();
    assert!(e.balance(FIRST, flow, ip("10.0.1.10"), 443));
    (e, frame)
}

fn dropped(reason: DropReason, service: Option<ServiceIndex>) -> Outcome {
    Outcome::Drop { reason, service }
}

// A4.4
#[test]
fn a_chosen_next_hop_still_holds_after_a_later_service_was_asked() {
    let policy = dispatching("gue");
    let (mut e, frame) = decided(&policy);
    e.learn(ip("10.0.1.10"), 2, SERVER);
    let chosen = Dispatch {
        next_hop: ip("10.0.1.10"),
        tunnel: Some(Tunnel::Gue),
    };
    let asked = Outcome::ToAgent {
        message: Message::Interest,
        stage: Some((SECOND, Part::Forward)),
        reply: false,
        dispatch: Some(chosen),
        packet: frame.clone(),
    };
    assert_eq!(e.receive(1, &frame), asked);
    let resume = |dispatch| Resume {
        port: 1,
        part: Part::Forward,
        service: SECOND,
        reply: false,
        answered: true,
        dispatch,
    };
    match e.resume(&frame, resume(Some(chosen))) {
        Outcome::Tunnelled {
            port: 2,
            tunnel: Tunnel::Gue,
            to,
            packet,
        } => {
            assert_eq!(to, ip("10.0.1.10"));
            assert_eq!(packet[..6], SERVER.0);
            // The packet within is the client's, with one hop spent.
            assert_eq!(packet[26..], frame[26..]);
            assert_eq!(packet[22], frame[22] - 1);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        e.resume(&frame, resume(None)),
        dropped(DropReason::NotServed, None)
    );
}

// A10.4
#[test]
fn dispatch_to_nowhere_drops() {
    for way in ["mac", "ipip", "gue"] {
        let policy = dispatching(way);
        let (mut e, frame) = decided(&policy);
        e.set_manager(SECOND, false);
        assert_eq!(
            e.receive(1, &frame),
            dropped(DropReason::NoNextHop, None),
            "{way}"
        );
        e.learn(ip("10.0.1.10"), 2, SERVER);
        assert!(
            !matches!(e.receive(1, &frame), Outcome::Drop { .. }),
            "{way}"
        );
    }
}

#[test]
fn a_tunnel_to_a_server_behind_a_router_leaves_to_the_router() {
    let text = format!(
        "{}pool web {{ 10.9.0.10:443 }}\nservice web-lb : balance {{\nmatch tcp.dst {SERVICE}\n\
         pick from @web by weighted\nway ipip\n}}\nmanagers {{ m serves web-lb }}\n",
        NETWORK.replace(
            "route 0.0.0.0/0 via 203.0.113.254",
            "route 10.9.0.0/16 via 10.0.1.254"
        )
    );
    let policy = policy(&text);
    let mut e = Evaluator::new(&policy);
    let frame = tcp(mac(&policy, 1), CLIENT, SERVICE, true, b"");
    let (flow, _) = e.flow(&frame).unwrap();
    assert!(e.balance(FIRST, flow, ip("10.9.0.10"), 443));
    assert_eq!(e.receive(1, &frame), dropped(DropReason::NoNextHop, None));
    e.learn(ip("10.0.1.254"), 2, SERVER);
    match e.receive(1, &frame) {
        Outcome::Tunnelled {
            port: 2,
            to,
            packet,
            ..
        } => {
            assert_eq!((to, &packet[..6]), (ip("10.9.0.10"), &SERVER.0[..]));
        }
        other => panic!("{other:?}"),
    }
}

/// Two nat services, inner and outer, of one cascade.
fn two_nats() -> Policy {
    policy(&format!(
        "{NETWORK}service inner : nat {{\nmatch ip.src in 10.0.1.0/24\nsource 10.0.2.200\n}}\n\
         service outer : nat {{\nmatch ip.src in 10.0.2.0/24\nsource 203.0.113.100\n}}\n\
         cascade inner > outer\nmanagers {{ m serves inner, outer }}\n"
    ))
}

// A4.1, A4.5, A4.8
#[test]
fn translations_apply_in_the_cascades_order_and_are_undone_in_reverse() {
    let policy = two_nats();
    let mut e = Evaluator::new(&policy);
    e.learn(ip("203.0.113.254"), 1, SERVER);
    e.learn(ip("10.0.1.10"), 2, SERVER);
    let out = tcp(mac(&policy, 2), "10.0.1.10:4000", "192.0.2.9:80", true, b"");
    let (flow, _) = e.flow(&out).unwrap();
    let between = FlowKey {
        src: ip("10.0.2.200"),
        sport: 5000,
        ..flow
    };
    let outside = FlowKey {
        src: ip("203.0.113.100"),
        sport: 6000,
        ..flow
    };
    // Whichever is decided first.
    assert!(e.translate(SECOND, Part::Forward, between, outside));
    assert!(e.translate(FIRST, Part::Forward, flow, between));
    let leaves = |outcome: Outcome| match outcome {
        Outcome::Forward { port, packet } => (port, e.flow(&packet).unwrap().0),
        other => panic!("{other:?}"),
    };
    assert_eq!(leaves(e.receive(2, &out)), (1, outside));
    let back = tcp(
        mac(&policy, 1),
        "192.0.2.9:80",
        "203.0.113.100:6000",
        false,
        b"",
    );
    assert_eq!(leaves(e.receive(1, &back)), (2, flow.reversed()));
}

#[test]
fn a_translation_never_takes_another_flows_answers() {
    let policy = two_nats();
    let mut e = Evaluator::new(&policy);
    let frame = |port: u16| {
        let from = format!("10.0.1.10:{port}");
        tcp(mac(&policy, 2), &from, "192.0.2.9:80", true, b"")
    };
    let to = |flow| FlowKey {
        src: ip("10.0.2.200"),
        sport: 5000,
        ..flow
    };
    let (one, _) = e.flow(&frame(4000)).unwrap();
    let (two, _) = e.flow(&frame(4001)).unwrap();
    assert!(e.translate(FIRST, Part::Forward, one, to(one)));
    assert!(e.translate(FIRST, Part::Forward, one, to(one)));
    assert!(!e.translate(FIRST, Part::Forward, two, to(two)));
}

// A10.5
#[test]
fn without_managers_nat_is_closed_and_observe_lets_packets_pass() {
    let policy = policy(&format!(
        "{NETWORK}service meter : observe {{ match ip }}\n\
         service egress : nat {{\nmatch ip.src in 10.0.1.0/24\nsource 203.0.113.100\n}}\n\
         cascade meter > egress\nmanagers {{ m serves meter, egress }}\n"
    ));
    let mut e = Evaluator::new(&policy);
    e.set_manager(FIRST, false);
    e.set_manager(SECOND, false);
    let out = tcp(mac(&policy, 2), "10.0.1.10:4000", "192.0.2.9:80", true, b"");
    assert_eq!(
        e.receive(2, &out),
        dropped(DropReason::Service, Some(SECOND))
    );
    let uninvited = tcp(
        mac(&policy, 1),
        "192.0.2.9:80",
        "203.0.113.100:5000",
        true,
        b"",
    );
    assert_eq!(
        e.receive(1, &uninvited),
        dropped(DropReason::Service, Some(SECOND))
    );
    let below = tcp(
        mac(&policy, 1),
        "192.0.2.9:80",
        "203.0.113.100:80",
        true,
        b"",
    );
    assert_eq!(e.receive(1, &below), dropped(DropReason::NotServed, None));
    // What no service but the meter matches goes on, and is not counted by flow.
    e.learn(ip("10.0.1.10"), 2, SERVER);
    let other = tcp(mac(&policy, 1), "192.0.2.9:80", "10.0.1.10:22", true, b"");
    let (outcome, counted) = e.receive_counted(1, &other);
    assert!(
        matches!(outcome, Outcome::Forward { port: 2, .. }),
        "{outcome:?}"
    );
    assert_eq!(counted, []);
    let (flow, _) = e.flow(&other).unwrap();
    e.observe(FIRST, flow);
    assert_eq!(e.receive_counted(1, &other).1, [FIRST]);
    e.install(FIRST, Part::Forward, flow, FixedAction::Discard);
    assert_eq!(
        e.receive(1, &other),
        dropped(DropReason::Service, Some(FIRST))
    );
}
