//! Filter, balance, nat and observe on one packet: order, carried state, notices and the way back.

use crate::frames::{frame, ip, look, tuple};
use crate::kinds::everything;
use crate::rig::{Meta, Out, Rig, Tuple, bits, one_agent, tail};
use signalbox_lower::entries::PlannedEntry;

const HOST: &str = "10.0.1.7";
const VIP: &str = "203.0.113.80";
const SERVER: &str = "10.0.2.10";
const OUTSIDE: &str = "203.0.113.100";

/// What a host inside sends to the service, after balance, and after nat.
fn forward(sport: u16) -> [Tuple; 3] {
    [
        tuple(HOST, sport, VIP, 80, 6),
        tuple(HOST, sport, SERVER, 8080, 6),
        tuple(OUTSIDE, 1024, SERVER, 8080, 6),
    ]
}

/// What the server sends, after nat, and after balance.
fn reply(sport: u16) -> [Tuple; 3] {
    forward(sport).map(|Tuple(src, dst, proto, s, d)| Tuple(dst, src, proto, d, s))
}

fn rig() -> Rig {
    let mut rig = Rig::load(&everything()).started();
    rig.route("10.0.2.10/32", 3, 3);
    rig.route("10.0.1.7/32", 2, 2);
    rig
}

/// What a flow's packets become at one of the three stages that managers decide for, with these events.
fn decide(rig: &mut Rig, stage: usize, flow: [Tuple; 3], events: (u16, u16)) {
    let [arrived, balanced, natted] = flow;
    match stage {
        0 => rig.translate("web_lb", arrived, balanced, events),
        1 => rig.translate("egress", balanced, natted, events),
        _ => rig.fix("flows", natted, "forward", &tail(events, 6000)),
    }
}

/// Packets in a cell of a stage's counter.
fn counted(rig: &Rig, control: &str, cell: usize) -> u64 {
    rig.counted(&format!("Cascade.{control}.stats"), cell)
}

/// What a diverted packet's answer says, with the state that it brought.
fn answered(meta: Meta) -> Meta {
    Meta {
        answered: 1,
        ..meta
    }
}

/// The packet that left by a port, and the notice.
fn with_notice(out: Vec<Out>, egress: u16) -> (Vec<u8>, Meta, Vec<u8>) {
    let (mut packet, mut notice) = (None, None);
    assert_eq!(out.len(), 2, "{out:?}");
    for one in out {
        match one {
            Out::Port(port, bytes) if port == egress => packet = Some(bytes),
            Out::Agent(meta, bytes) => notice = Some((meta, bytes)),
            Out::Port(port, _) => panic!("by port {port}"),
        }
    }
    let (meta, bytes) = notice.unwrap();
    (packet.unwrap(), meta, bytes)
}

// A4.4, A4.5
#[test]
fn a_packet_goes_by_the_agent_at_every_stage_and_no_stage_acts_twice() {
    let mut rig = rig();
    let flow = forward(40_000);
    let [arrived, ..] = flow;
    let syn = frame(2, arrived, 2, 64, b"");
    let base = Meta {
        kind: 1,
        part: 2,
        port: 2,
        entry: 77,
        ..Meta::default()
    };

    let (meta, bytes) = rig.diverted(2, &syn);
    assert_eq!((meta, &bytes), (Meta { stage: 2, ..base }, &syn));

    // Each stage wants a notice of every packet.
    decide(&mut rig, 0, flow, (0, 512));
    let (meta, bytes) = one_agent(rig.packet_out(answered(meta), &bytes));
    let at_nat = Meta {
        stage: 3,
        notices: 0b10,
        ..base
    };
    assert_eq!(meta, at_nat);
    let seen = look(&bytes);
    assert_eq!(
        (seen.from, seen.to, seen.ttl),
        ((ip(HOST), 40_000), (ip(SERVER), 8080), 64),
        "as balance left it"
    );

    decide(&mut rig, 1, flow, (0, 512));
    let (meta, bytes) = one_agent(rig.packet_out(answered(meta), &bytes));
    let at_flows = Meta {
        stage: 4,
        notices: 0b110,
        ..base
    };
    assert_eq!(meta, at_flows);
    assert_eq!(look(&bytes).from, (ip(OUTSIDE), 1024), "as nat left it");

    decide(&mut rig, 2, flow, (0, 512));
    let (packet, notice, _) = with_notice(rig.packet_out(answered(meta), &bytes), 3);
    let expected = Meta {
        kind: 2,
        stage: 4,
        notices: 0b1110,
        entry: 5,
        ..base
    };
    assert_eq!(notice, expected, "one clone for three services");
    let seen = look(&packet);
    assert_eq!(
        (seen.from, seen.to, seen.ttl),
        ((ip(OUTSIDE), 1024), (ip(SERVER), 8080), 63)
    );
    for (control, cell) in [
        ("guard", 2),
        ("web_lb", 5000),
        ("egress", 5000),
        ("flows", 6000),
    ] {
        assert_eq!(counted(&rig, control, cell), 1, "{control}");
    }

    // The next one meets nobody, and its notice is the packet as it arrived.
    let data = frame(2, arrived, 24, 64, b"GET /");
    let (packet, notice, copy) = with_notice(rig.send(2, &data), 3);
    assert_eq!((notice, copy), (expected, data));
    assert_eq!(look(&packet).payload, b"GET /");
}

// A4.8
#[test]
fn a_reply_crosses_the_translating_services_in_reverse() {
    let mut rig = rig();
    let [arrived, unnatted, home] = {
        let [client, server, outside] = reply(40_000);
        [outside, server, client]
    };
    let synack = frame(3, arrived, 18, 64, b"");
    rig.dropped(3, &synack, 10, "nobody has called for it");

    // Nat asks for its packets too, for once: the state is carried over the reply part as well.
    rig.translate("egress_reply", arrived, unnatted, (512, 512));
    let (meta, bytes) = rig.diverted(3, &synack);
    let base = Meta {
        kind: 1,
        part: 1,
        port: 3,
        ..Meta::default()
    };
    let at_nat = Meta {
        stage: 3,
        entry: 5,
        ..base
    };
    assert_eq!((meta, &bytes), (at_nat, &synack));

    let (meta, bytes) = one_agent(rig.packet_out(answered(meta), &bytes));
    let at_balance = Meta {
        stage: 2,
        reply: 1,
        notices: 0b100,
        entry: 77,
        ..base
    };
    assert_eq!(meta, at_balance);
    let seen = look(&bytes);
    assert_eq!(
        (seen.from, seen.to),
        ((ip(SERVER), 8080), (ip(HOST), 40_000)),
        "as nat left it"
    );

    rig.translate("web_lb_reply", unnatted, home, (0, 512));
    let (meta, bytes) = one_agent(rig.packet_out(answered(meta), &bytes));
    let at_flows = Meta {
        part: 2,
        stage: 4,
        reply: 1,
        notices: 0b110,
        entry: 77,
        ..base
    };
    assert_eq!(meta, at_flows, "past balance and nat of the forward part");

    rig.fix("flows", home, "forward", &tail((0, 0), 6000));
    let (packet, notice, _) = with_notice(rig.packet_out(answered(meta), &bytes), 2);
    // Its place is that of the last one that asked for it.
    let expected = Meta {
        kind: 2,
        part: 2,
        stage: 4,
        reply: 1,
        notices: 0b110,
        entry: 77,
        ..base
    };
    assert_eq!(notice, expected);
    let seen = look(&packet);
    assert_eq!(
        (seen.from, seen.to),
        ((ip(VIP), 80), (ip(HOST), 40_000)),
        "what the client knows"
    );
    let counted = |control, cell| counted(&rig, control, cell);
    assert_eq!(
        (counted("egress_reply", 5000), counted("flows", 6000)),
        (1, 1)
    );
    assert_eq!((counted("egress", 5000), counted("web_lb", 5000)), (0, 0));
    assert_eq!(counted("guard", 2), 1, "a filter sees replies");
}

// A4.1
#[test]
fn services_apply_in_cascade_order_whatever_the_order_of_installation() {
    let flow = forward(40_000);
    let data = frame(2, flow[0], 24, 64, b"data");
    let mut seen = Vec::new();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
        let mut rig = rig();
        for stage in order {
            decide(&mut rig, stage, flow, (0, 0));
        }
        seen.push(rig.forwarded(2, &data, 3));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1);
    assert_eq!(look(&seen[0]).from, (ip(OUTSIDE), 1024));
}

// A4.2
#[test]
fn fixed_affinities_criteria_and_rules_all_apply_to_one_packet() {
    let mut rig = rig();
    let flow = forward(40_000);
    decide(&mut rig, 0, flow, (0, 512));
    // Another manager's criteria of higher priority want notices only.
    for (control, entry) in [("egress", 90u32), ("flows", 91)] {
        let mut params = tail((0, 512), 9);
        params[2] = ("entry", bits(entry, 32));
        params.insert(2, ("else_drop", bits(0u8, 1)));
        rig.insert(&PlannedEntry {
            table: format!("Cascade.{control}.wildcard"),
            matches: Vec::new(),
            priority: 2000,
            action: format!("Cascade.{control}.ask"),
            params,
        });
    }
    let (packet, notice, _) = with_notice(rig.send(2, &frame(2, flow[0], 24, 64, b"")), 3);
    assert_eq!(look(&packet).to, (ip(SERVER), 8080));
    assert_eq!(
        (notice.notices, notice.stage, notice.entry),
        (0b1110, 4, 91)
    );
    assert_eq!(counted(&rig, "guard", 2), 1);
}

// A4.3
#[test]
fn after_a_drop_the_services_below_see_nothing() {
    let mut rig = rig();
    let flow = forward(40_000);
    let [arrived, _, natted] = flow;
    rig.fix("web_lb", arrived, "discard", &tail((0, 0), 5000)[2..]);
    rig.translate("egress", arrived, natted, (0, 512));
    decide(&mut rig, 1, flow, (0, 512));
    decide(&mut rig, 2, flow, (512, 0));
    rig.dropped(2, &frame(2, arrived, 2, 64, b""), 10, "by balance");
    let denied = tuple("198.51.100.7", 1, VIP, 80, 6);
    rig.dropped(1, &frame(1, denied, 2, 64, b""), 10, "by the filter");
    for control in ["egress", "flows"] {
        let cells = (0..69_633).filter(|c| counted(&rig, control, *c) != 0);
        assert_eq!(cells.count(), 0, "{control}");
    }
}

#[test]
fn a_packet_that_waits_for_its_neighbour_keeps_its_notices_and_leaves_translated() {
    let mut rig = Rig::load(&everything()).started();
    let flow = forward(40_000);
    for stage in 0..3 {
        decide(&mut rig, stage, flow, (0, 512));
    }
    let (meta, bytes) = rig.diverted(2, &frame(2, flow[0], 24, 64, b"x"));
    assert_eq!((meta.kind, meta.notices), (9, 0b1110));
    rig.route("10.0.2.10/32", 3, 3);
    let on = Meta {
        kind: 3,
        next_hop: 0,
        ..meta
    };
    let (packet, notice, _) = with_notice(rig.packet_out(on, &bytes), 3);
    assert_eq!(look(&packet).from, (ip(OUTSIDE), 1024));
    assert_eq!((notice.kind, notice.notices), (2, 0b1110));
    assert_eq!(counted(&rig, "flows", 6000), 1, "once");
}
