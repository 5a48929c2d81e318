//! Observe: it counts what goes on, and changes nothing.

use signalbox_policy::model::{Fallback, Policy, ServiceKind};

use crate::frames::{frame, ip, look, tuple};
use crate::kinds::{everything, observe, turn};
use crate::rig::{Meta, Out, Rig, Tuple, checked, one_port, tail};

const CLIENT: &str = "203.0.113.9";
const HOST: &str = "10.0.1.7";

fn policy(per_flow: bool) -> Policy {
    let mut policy = checked(
        "
network {
  port 1 outside { address 203.0.113.1/24 }
  port 2 inside { address 10.0.1.1/24 }
}
service flows : filter { deny tcp }
cascade flows
",
    );
    turn(&mut policy, "flows", |c| observe(c, per_flow));
    policy
}

fn routed(mut rig: Rig) -> Rig {
    rig.route("203.0.113.9/32", 1, 1);
    rig.route("10.0.1.7/32", 2, 2);
    rig
}

fn there(sport: u16) -> Tuple {
    tuple(CLIENT, sport, HOST, 80, 6)
}

fn back(sport: u16) -> Tuple {
    tuple(HOST, 80, CLIENT, sport, 6)
}

fn count(rig: &mut Rig, flow: Tuple, slot: u32) {
    rig.fix("flows", flow, "forward", &tail((0, 0), slot));
}

// A1.2
#[test]
fn each_direction_of_a_flow_is_counted_to_the_packet_and_the_byte() {
    let mut rig = routed(Rig::load(&policy(true)).started());
    let syn = frame(1, there(4000), 2, 64, b"");
    // The manager is asked about the first packet, which counts where it goes on.
    let (meta, bytes) = rig.diverted(1, &syn);
    let interest = Meta {
        kind: 1,
        part: 2,
        stage: 1,
        port: 1,
        entry: 77,
        ..Meta::default()
    };
    assert_eq!(meta, interest);
    count(&mut rig, there(4000), 5000);
    count(&mut rig, back(4000), 5001);
    let resume = Meta {
        answered: 1,
        ..meta
    };
    let out = one_port(rig.packet_out(resume, &bytes), 2);
    assert_eq!(look(&out).payload, b"");
    assert_eq!(rig.counted("Cascade.flows.stats", 5000), 1);
    let before = rig.totals("Cascade.flows.stats", 5000);
    let mut sent = [(0, 0); 2];
    for i in 0..50usize {
        let payload = vec![7; i * 13];
        let up = frame(1, there(4000), 24, 64, &payload);
        let down = frame(2, back(4000), 24, 64, &payload[..i]);
        for (total, bytes) in sent.iter_mut().zip([up.len(), down.len()]) {
            *total = (total.0 + 1, total.1 + bytes as u64);
        }
        let up_seen = look(&rig.forwarded(1, &up, 2));
        assert_eq!((up_seen.to, up_seen.payload), ((ip(HOST), 80), payload));
        rig.forwarded(2, &down, 1);
    }
    let after = rig.totals("Cascade.flows.stats", 5000);
    assert_eq!((after.0 - before.0, after.1 - before.1), sent[0]);
    assert_eq!(rig.totals("Cascade.flows.stats", 5001), sent[1]);
}

// A1.1
#[test]
fn what_the_policy_does_not_ask_for_is_not_counted() {
    let mut rig = routed(Rig::load(&policy(true)).started());
    rig.forwarded(1, &frame(1, tuple(CLIENT, 5, HOST, 53, 17), 0, 64, b"x"), 2);
    let cells = rig.plan.services[0].forward.cells() as usize;
    assert!((0..cells).all(|cell| rig.counted("Cascade.flows.stats", cell) == 0));
}

#[test]
fn all_together_nobody_is_asked_and_the_criterions_cell_counts() {
    let mut rig = routed(Rig::unmanaged(&policy(false)));
    let packets: Vec<_> = (0..20)
        .map(|i| frame(1, there(4000 + i), 24, 64, &vec![1; usize::from(i)]))
        .collect();
    for packet in &packets {
        rig.forwarded(1, packet, 2);
    }
    let bytes = packets.iter().map(|p| p.len() as u64).sum();
    assert_eq!(rig.totals("Cascade.flows.stats", 1), (20, bytes));
}

// A1.10
#[test]
fn the_same_packets_leave_with_and_without_counting() {
    let mut none = policy(true);
    none.services.clear();
    let mut none = routed(Rig::load(&none).started());
    let mut all = routed(Rig::unmanaged(&policy(false)));
    let mut each = routed(Rig::load(&policy(true)).started());
    count(&mut each, there(4000), 5000);
    count(&mut each, back(4000), 5001);
    for i in 0..40usize {
        let up = frame(1, there(4000), 24, 64, &vec![3; i]);
        let down = frame(2, back(4000), 24, 64, &vec![4; i]);
        for (port, packet) in [(1, up), (2, down)] {
            let expected = none.send(port, &packet);
            assert_eq!(expected, all.send(port, &packet));
            assert_eq!(expected, each.send(port, &packet));
        }
    }
}

#[test]
fn without_a_manager_packets_go_on_uncounted_by_flow_unless_the_policy_drops() {
    let mut open = routed(Rig::unmanaged(&policy(true)));
    let packet = frame(1, there(4000), 2, 64, b"");
    open.forwarded(1, &packet, 2);
    let mut closed = policy(true);
    let ServiceKind::Observe(observe) = &mut closed.services[0].kind else {
        panic!("no observe service")
    };
    observe.fallback = Fallback::Drop;
    let mut closed = routed(Rig::unmanaged(&closed));
    closed.dropped(1, &packet, 10, "the floor");
}

// A4.8
#[test]
fn a_reply_is_observed_with_the_addresses_that_the_client_knows() {
    let mut rig = Rig::load(&everything()).started();
    rig.route("10.0.1.7/32", 2, 2);
    let inside = tuple("203.0.113.9", 443, HOST, 4000, 6);
    let outside = tuple("203.0.113.9", 443, "203.0.113.100", 1024, 6);
    rig.translate("egress_reply", outside, inside, (0, 0));
    rig.fix("flows", inside, "forward", &tail((0, 512), 6000));
    let packet = frame(1, outside, 16, 64, b"answer");
    let out = rig.send(1, &packet);
    let home = out.iter().find_map(|o| match o {
        Out::Port(2, bytes) => Some(look(bytes)),
        _ => None,
    });
    assert_eq!(home.unwrap().to, (ip(HOST), 4000));
    // Its notice goes by the entry; the packet in it is the one that arrived.
    let notice = out.iter().find_map(|o| match o {
        Out::Agent(meta, bytes) => Some((meta.stage, meta.reply, meta.notices, bytes.clone())),
        Out::Port(..) => None,
    });
    assert_eq!(notice, Some((4, 1, 8, packet.clone())));
    assert_eq!(
        rig.totals("Cascade.flows.stats", 6000),
        (1, packet.len() as u64)
    );
}
