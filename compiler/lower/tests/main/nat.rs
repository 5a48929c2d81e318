//! Address translation: source, destination, one to one, twice and hairpin, each in both directions.

use signalbox_policy::model::{Criteria, Fallback, Inbound, Nat, Policy, ServiceKind};

use crate::frames::{frame, ip, look, pong, tuple};
use crate::kinds::{destination, one_to_one, ports, turn};
use crate::rewriting::numbers;
use crate::rig::{Meta, Rig, Tuple, checked, one_port};

const INSIDE: &str = "10.0.1.7";
const OTHER: &str = "10.0.1.8";
const OUTSIDE: &str = "203.0.113.100";
const REMOTE: &str = "203.0.113.9";
const INSIDE6: &str = "2001:db8:2::7";
const OUTSIDE6: &str = "2001:db8:1::100";
const REMOTE6: &str = "2001:db8:1::9";

/// One nat service, `egress`, whose condition is this.
fn policy(condition: &str, nat: impl FnOnce(Criteria) -> Nat) -> Policy {
    let dual = condition.contains("2001:");
    let (out6, in6) = if dual {
        ("address 2001:db8:1::1/64", "address 2001:db8:2::1/64")
    } else {
        ("", "")
    };
    let mut policy = checked(&format!(
        "
network {{
  port 1 outside {{ address 203.0.113.1/24 {out6} }}
  port 2 inside {{ address 10.0.1.1/24 {in6} }}
}}
service egress : filter {{ deny {condition} }}
cascade egress
"
    ));
    turn(&mut policy, "egress", |c| ServiceKind::Nat(nat(c)));
    policy
}

/// Started, with ways to the hosts of this file.
fn rig(policy: &Policy) -> Rig {
    routed(Rig::load(policy).started())
}

fn routed(mut rig: Rig) -> Rig {
    rig.route("203.0.113.9/32", 1, 1);
    rig.route("10.0.1.7/32", 7, 2);
    rig.route("10.0.1.8/32", 8, 2);
    if rig.plan.address_bits == 128 {
        rig.route("2001:db8:1::9/128", 2, 1);
        rig.route("2001:db8:2::7/128", 9, 2);
    }
    rig
}

/// The way back of a tuple.
fn back(t: Tuple) -> Tuple {
    Tuple(t.1, t.0, t.2, t.4, t.3)
}

/// Both directions of a flow: `from` becomes `to`, and the answer to that the answer to `from`.
fn map(rig: &mut Rig, from: Tuple, to: Tuple) {
    rig.translate("egress", from, to, (0, 0));
    rig.translate("egress_reply", back(to), back(from), (0, 0));
}

/// Sends through flows of a protocol, both ways, and takes apart what comes out.
fn check_flows(policy: &Policy, proto: u8, [inside, outside, remote]: [&str; 3]) {
    let mut rig = rig(policy);
    let echo = proto == 1 || proto == 58;
    let mut n = numbers();
    for i in 0..200u16 {
        let mut next = || (n.next().unwrap() as u16).max(1);
        let (sport, port, dport) = (next(), 1024 + i, if echo { 0 } else { next() });
        let from = tuple(inside, sport, remote, dport, proto);
        let to = tuple(outside, port, remote, dport, proto);
        map(&mut rig, from, to);
        let payload: Vec<u8> = (0..next() % 90).map(|_| next() as u8).collect();
        let mut there = frame(2, from, 24, 3 + (i % 200) as u8, &payload);
        let mut answer = if echo {
            pong(1, remote, outside, port, &payload)
        } else {
            frame(1, back(to), 24, 64, &payload)
        };
        // A sender over IPv4 may leave UDP's checksum out.
        let no_checksum = proto == 17 && ip(inside).is_ipv4() && i % 4 == 0;
        if no_checksum {
            there[40..42].fill(0);
            answer[40..42].fill(0);
        }
        let out = rig.forwarded(2, &there, 1);
        let seen = look(&out);
        assert_eq!((seen.from, seen.to.0), ((ip(outside), port), ip(remote)));
        assert_eq!(
            (seen.ttl, seen.payload),
            (2 + (i % 200) as u8, payload.clone())
        );
        let home = rig.forwarded(1, &answer, 2);
        let seen = look(&home);
        // An echo's identifier stands as the source port, whichever direction it has.
        let (from, to) = if echo {
            ((ip(remote), sport), (ip(inside), 0))
        } else {
            ((ip(remote), dport), (ip(inside), sport))
        };
        assert_eq!((seen.from, seen.to, seen.payload), (from, to, payload));
        if no_checksum {
            assert_eq!((&out[40..42], &home[40..42]), (&[0, 0][..], &[0, 0][..]));
        }
    }
}

// A2.3, A2.7
#[test]
fn a_source_gets_a_port_outside_and_its_answers_come_home_with_sound_checksums() {
    let four = policy("ip.src in 10.0.1.0/24", |c| ports(c, OUTSIDE));
    let six = policy("ip.src in 2001:db8:2::/64", |c| ports(c, OUTSIDE6));
    for proto in [6, 17] {
        check_flows(&four, proto, [INSIDE, OUTSIDE, REMOTE]);
        check_flows(&six, proto, [INSIDE6, OUTSIDE6, REMOTE6]);
        // IPv4 in a program that speaks both.
        check_flows(&six, proto, [INSIDE, OUTSIDE, REMOTE]);
    }
}

// A2.8
#[test]
fn an_echos_identifier_is_translated_and_its_reply_comes_home() {
    let four = policy("ip.src in 10.0.1.0/24", |c| ports(c, OUTSIDE));
    check_flows(&four, 1, [INSIDE, OUTSIDE, REMOTE]);
    let six = policy("ip.src in 2001:db8:2::/64", |c| ports(c, OUTSIDE6));
    check_flows(&six, 58, [INSIDE6, OUTSIDE6, REMOTE6]);
}

// A2.1
#[test]
fn the_first_packet_reaches_the_manager_and_leaves_translated() {
    let mut rig = rig(&policy("ip.src in 10.0.1.0/24", |c| ports(c, OUTSIDE)));
    let from = tuple(INSIDE, 40_000, REMOTE, 443, 6);
    let syn = frame(2, from, 2, 64, b"");
    let (meta, bytes) = rig.diverted(2, &syn);
    let interest = Meta {
        kind: 1,
        part: 2,
        stage: 1,
        port: 2,
        entry: 77,
        ..Meta::default()
    };
    assert_eq!((meta, &bytes), (interest, &syn));
    map(&mut rig, from, tuple(OUTSIDE, 2000, REMOTE, 443, 6));
    let resume = Meta {
        answered: 1,
        ..meta
    };
    let out = look(&one_port(rig.packet_out(resume, &bytes), 1));
    assert_eq!((out.from, out.to), ((ip(OUTSIDE), 2000), (ip(REMOTE), 443)));
}

// When a packet from outside that nobody asked for
#[test]
fn what_nobody_inside_has_called_for_does_not_come_in() {
    let mut rig = rig(&policy("ip.src in 10.0.1.0/24", |c| ports(c, OUTSIDE)));
    let from = tuple(INSIDE, 40_000, REMOTE, 443, 6);
    map(&mut rig, from, tuple(OUTSIDE, 2000, REMOTE, 443, 6));
    for (src, sport, proto, what) in [
        (REMOTE, 443, 17, "another protocol"),
        (REMOTE, 444, 6, "another port"),
        ("203.0.113.10", 443, 6, "another host"),
    ] {
        let packet = frame(1, tuple(src, sport, OUTSIDE, 2000, proto), 2, 64, b"");
        rig.dropped(1, &packet, 10, what);
    }
    assert_eq!(
        (rig.counted("Cascade.egress_reply.stats", 2), rig.drops(10)),
        (3, 3)
    );
    // No tuple that is given out: nobody's, at an address of ours.
    let packet = frame(1, tuple(REMOTE, 443, OUTSIDE, 80, 6), 2, 64, b"");
    rig.dropped(1, &packet, 9, "a port below the range");
}

#[test]
fn with_mapped_inbound_the_manager_is_asked_about_new_remotes() {
    let mut rig = rig(&policy("ip.src in 10.0.1.0/24", |c| Nat {
        inbound: Inbound::Mapped,
        ..ports(c, OUTSIDE)
    }));
    let packet = frame(1, tuple(REMOTE, 443, OUTSIDE, 2000, 17), 0, 64, b"x");
    let (meta, _) = rig.diverted(1, &packet);
    assert_eq!((meta.kind, meta.part, meta.stage), (1, 1, 1));
}

// A2.13
#[test]
fn two_inside_hosts_talk_by_their_outside_addresses() {
    let mut rig = rig(&policy("ip.src in 10.0.1.0/24", |c| ports(c, OUTSIDE)));
    for proto in [6, 17] {
        let to_b = tuple(INSIDE, 4000, OUTSIDE, 2000, proto);
        // Before there is an affinity, the manager of the forward part is asked: nothing is dropped.
        let (meta, _) = rig.diverted(2, &frame(2, to_b, 2, 64, b""));
        assert_eq!((meta.kind, meta.part), (1, 2));
        // Each direction is one entry that translates both ends.
        let at_b = tuple(OUTSIDE, 1999, OTHER, 5000, proto);
        rig.translate("egress", to_b, at_b, (0, 0));
        let to_a = tuple(OTHER, 5000, OUTSIDE, 1999, proto);
        let at_a = tuple(OUTSIDE, 2000, INSIDE, 4000, proto);
        rig.translate("egress_reply", to_a, at_a, (0, 0));
        let there = look(&rig.forwarded(2, &frame(2, to_b, 2, 64, b"hello"), 2));
        assert_eq!(
            (there.from, there.to),
            ((ip(OUTSIDE), 1999), (ip(OTHER), 5000))
        );
        let home = look(&rig.forwarded(2, &frame(2, to_a, 18, 64, b"hi"), 2));
        assert_eq!(
            (home.from, home.to),
            ((ip(OUTSIDE), 2000), (ip(INSIDE), 4000))
        );
    }
    // The same tuple from outside stays closed.
    let packet = frame(1, tuple(REMOTE, 9, OUTSIDE, 2000, 6), 2, 64, b"");
    rig.dropped(1, &packet, 10, "from outside");
}

// A2.4
#[test]
fn a_forwarded_port_leads_inside_and_answers_come_from_the_address_that_was_called() {
    let port = |c| destination(c, "203.0.113.80", INSIDE, Some(22));
    let mut rig = rig(&policy("tcp.dst 203.0.113.80:8022", port));
    let from = tuple(REMOTE, 40_000, "203.0.113.80", 8022, 6);
    let to = tuple(REMOTE, 40_000, INSIDE, 22, 6);
    assert_eq!(rig.diverted(1, &frame(1, from, 2, 64, b"")).0.part, 2);
    map(&mut rig, from, to);
    let there = look(&rig.forwarded(1, &frame(1, from, 2, 64, b""), 2));
    assert_eq!(
        (there.from, there.to),
        ((ip(REMOTE), 40_000), (ip(INSIDE), 22))
    );
    let home = look(&rig.forwarded(2, &frame(2, back(to), 18, 64, b""), 1));
    assert_eq!(
        (home.from, home.to),
        ((ip("203.0.113.80"), 8022), (ip(REMOTE), 40_000))
    );
    // What the server sends from there on a flow that is not known is its manager's.
    let stray = frame(2, tuple(INSIDE, 22, REMOTE, 41_000, 6), 16, 64, b"");
    assert_eq!(rig.diverted(2, &stray).0.part, 1);
}

// A2.5
#[test]
fn one_to_one_takes_any_protocol_in_both_directions() {
    let pair = |c| one_to_one(c, "10.0.1.0/26", "203.0.113.192/26");
    let mut rig = rig(&policy("ip.src in 10.0.1.0/26", pair));
    let outside = "203.0.113.199";
    for proto in [6, 17, 47] {
        let port = |p| if proto == 47 { 0 } else { p };
        let from = tuple(INSIDE, port(500), REMOTE, port(80), proto);
        let to = tuple(outside, port(500), REMOTE, port(80), proto);
        let packet = |on, t: Tuple| {
            if proto != 47 {
                return frame(on, t, 2, 64, b"data");
            }
            // A header of GRE, as far as anybody looks.
            let mut f = frame(on, Tuple(t.0, t.1, 17, 0, 0), 0, 64, b"data");
            f[23] = 47;
            crate::frames::seal(&mut f);
            f
        };
        // From outside too the manager is asked: anybody may call the host inside.
        let (meta, _) = rig.diverted(1, &packet(1, back(to)));
        assert_eq!((meta.kind, meta.part), (1, 1));
        map(&mut rig, from, to);
        let there = look(&rig.forwarded(2, &packet(2, from), 1));
        assert_eq!((there.from.0, there.to.0), (ip(outside), ip(REMOTE)));
        let home = look(&rig.forwarded(1, &packet(1, back(to)), 2));
        assert_eq!((home.from.0, home.to.0), (ip(REMOTE), ip(INSIDE)));
    }
}

// A2.6
#[test]
fn twice_translates_both_ends_in_both_directions() {
    let twice = |c: Criteria| Nat {
        source: ports(c.clone(), "10.0.1.100").source,
        ..destination(c, "203.0.113.80", INSIDE, Some(8080))
    };
    let mut rig = rig(&policy("tcp.dst 203.0.113.80:80", twice));
    let from = tuple(REMOTE, 40_000, "203.0.113.80", 80, 6);
    let to = tuple("10.0.1.100", 1024, INSIDE, 8080, 6);
    map(&mut rig, from, to);
    let there = look(&rig.forwarded(1, &frame(1, from, 2, 64, b"up"), 2));
    assert_eq!(
        (there.from, there.to),
        ((ip("10.0.1.100"), 1024), (ip(INSIDE), 8080))
    );
    let home = look(&rig.forwarded(2, &frame(2, back(to), 18, 64, b"down"), 1));
    assert_eq!(
        (home.from, home.to),
        ((ip("203.0.113.80"), 80), (ip(REMOTE), 40_000))
    );
    // Only the new destination has answers.
    let other = frame(2, tuple(OTHER, 8080, "10.0.1.100", 1024, 6), 18, 64, b"");
    rig.dropped(2, &other, 9, "another host");
    let unknown = frame(2, tuple(INSIDE, 8080, "10.0.1.100", 1025, 6), 18, 64, b"");
    rig.dropped(2, &unknown, 10, "a port that is not given out");
}

#[test]
fn echo_to_an_outside_address_is_the_agents_unless_a_host_inside_has_the_address() {
    let ping = |to| frame(1, tuple(REMOTE, 3, to, 1, 1), 0, 64, b"ping");
    let mut shared = rig(&policy("ip.src in 10.0.1.0/24", |c| ports(c, OUTSIDE)));
    assert_eq!(shared.diverted(1, &ping(OUTSIDE)).0.kind, 3);
    let pair = |c| one_to_one(c, "10.0.1.0/26", "203.0.113.192/26");
    let mut own = rig(&policy("ip.src in 10.0.1.0/26", pair));
    let (meta, _) = own.diverted(1, &ping("203.0.113.199"));
    assert_eq!((meta.kind, meta.part), (1, 1));
    assert_eq!(own.diverted(1, &ping("203.0.113.1")).0.kind, 3);
    let whole = |c| destination(c, "203.0.113.80", INSIDE, None);
    let mut whole = rig(&policy("ip.dst in 203.0.113.80/32", whole));
    let (meta, _) = whole.diverted(1, &ping("203.0.113.80"));
    assert_eq!((meta.kind, meta.part), (1, 2));
    let port = |c| destination(c, "203.0.113.80", INSIDE, Some(22));
    let mut port = rig(&policy("tcp.dst 203.0.113.80:22", port));
    assert_eq!(port.diverted(1, &ping("203.0.113.80")).0.kind, 3);
}

#[test]
fn without_a_manager_nothing_leaves_untranslated_unless_the_policy_says_so() {
    let closed = policy("ip.src in 10.0.1.0/24", |c| ports(c, OUTSIDE));
    let packet = frame(2, tuple(INSIDE, 4000, REMOTE, 80, 6), 2, 64, b"");
    let mut rig = routed(Rig::unmanaged(&closed));
    rig.dropped(2, &packet, 10, "the floor");
    let inbound = frame(1, tuple(REMOTE, 80, OUTSIDE, 4000, 6), 2, 64, b"");
    rig.dropped(1, &inbound, 10, "closed without a manager too");
    let open = policy("ip.src in 10.0.1.0/24", |c| Nat {
        fallback: Fallback::Route,
        ..ports(c, OUTSIDE)
    });
    let mut rig = routed(Rig::unmanaged(&open));
    assert_eq!(look(&rig.forwarded(2, &packet, 1)).from, (ip(INSIDE), 4000));
}
