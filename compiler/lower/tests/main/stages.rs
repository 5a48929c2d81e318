//! Filter, balance, routing, and the way to the agent and back.

use crate::WEB;
use crate::frames::{Seen, frame, ip, look, mac, tuple};
use crate::rig::{Meta, Out, Rig, Tuple, bits, checked, one_agent, one_port, tail};
use signalbox_lower::entries::PlannedEntry;

const CLIENT: &str = "203.0.113.9";
const SERVICE: &str = "203.0.113.80";
const SERVER: &str = "10.0.1.10";

/// The client's flow to the service, and what it becomes.
fn flow(sport: u16) -> (Tuple, Tuple) {
    (
        tuple(CLIENT, sport, SERVICE, 80, 6),
        tuple(CLIENT, sport, SERVER, 8080, 6),
    )
}

/// The server's flow to the client, and what it becomes.
fn reply(sport: u16) -> (Tuple, Tuple) {
    (
        tuple(SERVER, 8080, CLIENT, sport, 6),
        tuple(SERVICE, 80, CLIENT, sport, 6),
    )
}

fn client(sport: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(1, flow(sport).0, flags, 64, payload)
}

/// Ways to the server and to the client.
fn routed() -> Rig {
    let mut rig = Rig::new(WEB);
    rig.route("10.0.1.10/32", 3, 2);
    rig.route("203.0.113.9/32", 1, 1);
    rig
}

// A4.3
#[test]
fn a_rule_drops_and_counts_and_the_default_lets_pass() {
    let mut rig = routed();
    rig.dropped(
        1,
        &frame(1, tuple("198.51.100.7", 1, SERVICE, 80, 6), 2, 64, b""),
        10,
        "denied",
    );
    assert_eq!(rig.counted("Cascade.guard.stats", 1), 1);
    rig.forwarded(
        1,
        &frame(1, tuple(CLIENT, 5, SERVER, 9, 17), 0, 64, b"x"),
        2,
    );
    assert_eq!(rig.counted("Cascade.guard.stats", 2), 1);
}

// A4.4
#[test]
fn a_packet_resumes_where_it_left_and_no_earlier_stage_acts_twice() {
    let mut rig = routed();
    let syn = client(40_000, 2, b"");
    let (meta, bytes) = rig.diverted(1, &syn);
    assert_eq!(
        meta,
        Meta {
            kind: 1,
            part: 2,
            stage: 2,
            port: 1,
            entry: 77,
            ..Meta::default()
        }
    );
    assert_eq!((&bytes, rig.counted("Cascade.guard.stats", 2)), (&syn, 1));
    assert_eq!(
        one_agent(rig.packet_out(meta, &bytes)),
        (meta, bytes.clone()),
        "unanswered"
    );
    let (from, to) = flow(40_000);
    rig.translate("web_lb", from, to, (0, 0));
    let answer = Meta {
        answered: 1,
        ..meta
    };
    let out = one_port(rig.packet_out(answer, &bytes), 2);
    assert_eq!(
        look(&out),
        Seen {
            from: (ip(CLIENT), 40_000),
            to: (ip(SERVER), 8080),
            ttl: 63,
            payload: Vec::new(),
        }
    );
    assert_eq!(
        (&out[..6], &out[6..12]),
        (&[2, 0xaa, 0, 0, 0, 3][..], &mac(2)[..])
    );
    assert_eq!(rig.counted("Cascade.guard.stats", 2), 1);
    assert_eq!(rig.counted("Cascade.web_lb.stats", 5000), 1);
}

// A4.4
#[test]
fn an_answered_packet_without_an_entry_leaves_the_stage_only() {
    let mut rig = routed();
    let (meta, bytes) = rig.diverted(1, &client(40_000, 2, b""));
    // The service's address is ours, and nobody took the packet.
    assert_eq!(
        rig.packet_out(
            Meta {
                answered: 1,
                ..meta
            },
            &bytes
        ),
        []
    );
    assert_eq!(rig.drops(9), 1);
}

// A6.17
#[test]
fn an_established_flow_passes_in_both_directions() {
    let mut rig = routed();
    rig.translate("web_lb", flow(40_000).0, flow(40_000).1, (0, 0));
    rig.translate("web_lb_reply", reply(40_000).0, reply(40_000).1, (0, 0));
    let there = look(&rig.forwarded(1, &client(40_000, 24, b"GET /"), 2));
    assert_eq!(
        (there.to, there.payload),
        ((ip(SERVER), 8080), b"GET /".to_vec())
    );
    let back = frame(2, reply(40_000).0, 24, 64, b"200 OK");
    let back = look(&rig.forwarded(2, &back, 1));
    assert_eq!(
        (back.from, back.payload),
        ((ip(SERVICE), 80), b"200 OK".to_vec())
    );
    assert_eq!(rig.counted("Cascade.web_lb_reply.stats", 5000), 1);
}

#[test]
fn a_servers_unknown_packet_asks_in_the_reply_part() {
    let mut rig = routed();
    let packet = frame(2, reply(41_000).0, 18, 64, b"");
    let (meta, bytes) = rig.diverted(2, &packet);
    assert_eq!(
        meta,
        Meta {
            kind: 1,
            part: 1,
            stage: 2,
            port: 2,
            entry: 77,
            ..Meta::default()
        }
    );
    assert_eq!(bytes, packet);
    rig.translate("web_lb_reply", reply(41_000).0, reply(41_000).1, (0, 0));
    let out = one_port(
        rig.packet_out(
            Meta {
                answered: 1,
                ..meta
            },
            &bytes,
        ),
        1,
    );
    assert_eq!(look(&out).from, (ip(SERVICE), 80));
}

#[test]
fn a_packet_of_interest_is_diverted_as_the_stage_found_it() {
    let mut rig = routed();
    rig.translate("web_lb", flow(40_000).0, flow(40_000).1, (1, 0));
    let fin = client(40_000, 17, b"");
    let (meta, bytes) = rig.diverted(1, &fin);
    assert_eq!((meta.kind, meta.entry, &bytes), (1, 5, &fin));
    let out = one_port(
        rig.packet_out(
            Meta {
                answered: 1,
                ..meta
            },
            &bytes,
        ),
        2,
    );
    assert_eq!(look(&out).to, (ip(SERVER), 8080));
    assert_eq!(
        rig.counted("Cascade.web_lb.stats", 5000),
        1,
        "counted where it goes on, only"
    );
    rig.forwarded(1, &client(40_000, 16, b""), 2);
}

#[test]
fn data_is_an_event_only_where_there_are_bytes() {
    let mut rig = routed();
    rig.translate("web_lb", flow(40_000).0, flow(40_000).1, (128, 0));
    rig.forwarded(1, &client(40_000, 16, b""), 2);
    let mut padded = client(40_000, 16, b"");
    padded.extend([0; 6]);
    rig.forwarded(1, &padded, 2);
    assert_eq!(rig.diverted(1, &client(40_000, 16, b"x")).0.entry, 5);
}

/// A notice is the packet as it arrived, cut short; the packet itself goes on.
// A10.3
#[test]
fn a_notice_is_a_cut_copy_and_the_packet_goes_on() {
    let mut rig = routed();
    rig.translate("web_lb", flow(40_000).0, flow(40_000).1, (1, 4));
    let rst = client(40_000, 20, &[9; 400]);
    let check = |out: Vec<Out>| {
        let notice = Meta {
            kind: 2,
            part: 2,
            stage: 2,
            port: 1,
            notices: 2,
            entry: 5,
            ..Meta::default()
        };
        assert_eq!(out.len(), 2, "{out:?}");
        assert!(
            out.iter()
                .any(|o| matches!(o, Out::Port(2, b) if look(b).payload == [9; 400]))
        );
        let cut = out.iter().find_map(|o| match o {
            Out::Agent(meta, bytes) => Some((*meta, bytes.clone())),
            Out::Port(..) => None,
        });
        cut.filter(|(meta, bytes)| *meta == notice && bytes.len() == 128)
            .map(|(_, b)| b)
            .unwrap()
    };
    assert_eq!(check(rig.send(1, &rst)), rst[..128]);
    // With FIN the packet is asked for first; its notice follows when it resumes.
    let both = client(40_000, 21, &[9; 400]);
    let (meta, bytes) = rig.diverted(1, &both);
    assert_eq!(
        check(rig.packet_out(
            Meta {
                answered: 1,
                ..meta
            },
            &bytes
        )),
        both[..128]
    );
}

/// A criterion of web-lb's that matches the client's packets to the service, above the plan's own.
fn interested(rig: &mut Rig, packet: u16, notice: u16, else_drop: u8) {
    let mut params = tail((packet, notice), 9);
    params.insert(2, ("else_drop", bits(else_drop, 1)));
    rig.insert(&PlannedEntry {
        table: "Cascade.web_lb.wildcard".into(),
        matches: Vec::new(),
        priority: 2000,
        action: "Cascade.web_lb.ask".into(),
        params,
    });
}

// A10.2
#[test]
fn a_match_whose_events_lie_outside_the_interest_takes_the_static_action_or_else_goes_on() {
    const SYN: u16 = 2;
    let stats = "Cascade.web_lb.stats";
    let to_server = || frame(1, tuple(CLIENT, 7, SERVER, 8080, 6), 16, 64, b"x");
    for else_drop in [0, 1] {
        let mut rig = routed();
        interested(&mut rig, SYN, 0, else_drop);
        // In mid-flow nobody is asked: the static action drops it, or the packet is the next stage's.
        if else_drop == 1 {
            rig.dropped(1, &to_server(), 10, "the static action");
        } else {
            rig.forwarded(1, &to_server(), 2);
        }
        assert_eq!(rig.counted(stats, 9), 1, "counted by its match");
        // What is of interest is asked about whatever the static action says, and counted when it goes on.
        let (meta, bytes) = rig.diverted(1, &client(7, 2, b""));
        assert_eq!((meta.kind, meta.entry), (1, 5));
        assert_eq!(rig.counted(stats, 9), 1);
        rig.translate("web_lb", flow(7).0, flow(7).1, (0, 0));
        let answer = Meta {
            answered: 1,
            ..meta
        };
        assert_eq!(
            look(&one_port(rig.packet_out(answer, &bytes), 2)).to.0,
            ip(SERVER)
        );
    }
    // A notice alone changes nothing of a packet's way: it tells of the packets that are dropped, too.
    let mut rig = routed();
    interested(&mut rig, 0, SYN, 1);
    let syn = frame(1, tuple(CLIENT, 7, SERVER, 8080, 6), 2, 64, b"");
    let (meta, _) = one_agent(rig.send(1, &syn));
    assert_eq!((meta.kind, meta.entry, rig.drops(10)), (2, 5, 1));
    rig.dropped(1, &to_server(), 10, "neither");
}

#[test]
fn a_notice_keeps_its_place_while_its_packet_waits_for_a_neighbour() {
    let mut rig = Rig::new(WEB);
    rig.translate("web_lb", flow(40_000).0, flow(40_000).1, (0, 4));
    let rst = client(40_000, 20, b"x");
    let (gleaned, bytes) = rig.diverted(1, &rst);
    let carried = Meta {
        part: 2,
        stage: 2,
        port: 1,
        notices: 2,
        entry: 5,
        ..Meta::default()
    };
    let expected = Meta {
        kind: 9,
        next_hop: 2,
        ..carried
    };
    assert_eq!(gleaned, expected);
    rig.route("10.0.1.10/32", 7, 2);
    let on = Meta { kind: 3, ..carried };
    let out = rig.packet_out(on, &bytes);
    let notice = Meta { kind: 2, ..carried };
    let is_notice = |o: &Out| matches!(o, Out::Agent(meta, _) if *meta == notice);
    assert!(out.iter().any(is_notice), "{out:?}");
    assert!(out.iter().any(|o| matches!(o, Out::Port(2, _))));
}

#[test]
fn a_packet_without_a_route_brings_its_notices_to_the_agent_and_makes_no_copy() {
    let mut rig = Rig::new(WEB);
    let (from, to) = (flow(40_000).0, tuple("192.0.2.1", 1, "192.0.2.2", 2, 6));
    rig.translate("web_lb", from, to, (0, 4));
    let (meta, bytes) = rig.diverted(1, &client(40_000, 20, b"x"));
    let expected = Meta {
        kind: 12,
        part: 2,
        stage: 2,
        port: 1,
        notices: 2,
        entry: 5,
        ..Meta::default()
    };
    assert_eq!(meta, expected);
    assert_eq!(look(&bytes).to, (ip("192.0.2.2"), 2));
    assert_eq!(rig.drops(7), 1);
}

// A10.4
#[test]
fn fixed_actions_do_what_they_say() {
    let mut rig = routed();
    let static_ones = &tail((0, 0), 0)[2..];
    rig.fix("web_lb", flow(1).0, "discard", static_ones);
    rig.dropped(1, &client(1, 2, b""), 10, "discard");
    rig.fix("web_lb", flow(2).0, "forward", &tail((0, 0), 0));
    rig.dropped(
        1,
        &client(2, 2, b""),
        9,
        "forward: on to routing, which has no way to our own address",
    );
    let dispatch = |id: u16| {
        [
            vec![("next_hop", bits(id, 16)), ("tunnel", bits(0u8, 16))],
            tail((0, 0), 0),
        ]
        .concat()
    };
    rig.fix("web_lb", flow(3).0, "dispatch", &dispatch(3));
    let out = rig.forwarded(1, &client(3, 2, b""), 2);
    assert_eq!(
        (look(&out).to.0, &out[..6]),
        (ip(SERVICE), &[2, 0xaa, 0, 0, 0, 3][..])
    );
    rig.fix("web_lb", flow(4).0, "dispatch", &dispatch(99));
    rig.dropped(1, &client(4, 2, b""), 8, "dispatch to nowhere");
}

#[test]
fn the_agent_resolves_neighbours() {
    let mut rig = Rig::new(WEB);
    rig.translate("web_lb", flow(40_000).0, flow(40_000).1, (0, 0));
    // In a connected subnet: with the port to ask on, and already translated, but with its TTL.
    let (meta, bytes) = rig.diverted(1, &client(40_000, 16, b"x"));
    assert_eq!(
        meta,
        Meta {
            kind: 9,
            port: 1,
            next_hop: 2,
            ..Meta::default()
        }
    );
    assert_eq!(
        (look(&bytes).to, look(&bytes).ttl),
        ((ip(SERVER), 8080), 64)
    );
    // A route whose neighbour is not known.
    rig.route_only("10.0.1.10/32", 7);
    let (unresolved, bytes) = rig.diverted(1, &client(40_000, 16, b"x"));
    assert_eq!(
        unresolved,
        Meta {
            kind: 10,
            port: 1,
            next_hop: 7,
            ..Meta::default()
        }
    );
    let resume = Meta {
        kind: 3,
        ..unresolved
    };
    assert_eq!(rig.packet_out(resume, &bytes), []);
    assert_eq!(rig.drops(8), 1, "still not there");
    rig.route("10.9.0.0/16", 7, 2);
    assert_eq!(look(&one_port(rig.packet_out(resume, &bytes), 2)).ttl, 63);
    assert_eq!(
        look(&rig.forwarded(1, &client(40_000, 16, b"x"), 2)).ttl,
        63
    );
    rig.undelivered(
        2,
        &frame(2, tuple("10.0.1.50", 1, "192.0.2.1", 2, 17), 0, 64, b""),
        7,
        "no route",
    );
}

#[test]
fn without_services_it_is_a_router() {
    let mut policy = checked(WEB);
    policy.services.clear();
    let mut rig = Rig::load(&policy).started();
    rig.route("10.0.2.7/32", 1, 2);
    let out = rig.forwarded(
        1,
        &frame(1, tuple("10.0.1.7", 1, "10.0.2.7", 2, 6), 2, 9, b"x"),
        2,
    );
    assert_eq!(look(&out).ttl, 8);
}
