//! Packets side by side: nothing tells them from packets one after the other.

use crate::sample::{Sample, assign, expr, field, hex, param, primitive, send};
use crate::{
    ActionCall, Bits, CloneSession, CounterId, Digest, Drops, Entry, Match, Output, Replica, Switch,
};
use proptest::prelude::*;
use serde_json::json;

/// Keys that packets have; two of three have an entry.
const KEYS: u64 = 3000;

/// Tables large enough to be waited for: two with the same key, one whose key the first may have changed, one
/// with another. Entries do whatever leaves something for after ingress.
fn sample() -> Sample {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 16), ("b", 16)]);
    sample.scalar("m", 8);
    sample.push(
        "/field_lists",
        json!({"id": 1, "name": "kept", "elements": [field("scalars", "m")]}),
    );
    sample.push(
        "/learn_lists",
        json!({"id": 3, "name": "seen", "elements": [field("h", "a"), field("scalars", "m")]}),
    );
    sample.push(
        "/counter_arrays",
        json!({"name": "c", "id": 0, "size": 256, "is_direct": false}),
    );
    sample.push(
        "/register_arrays",
        json!({"name": "r", "id": 0, "size": 1, "bitwidth": 16}),
    );
    let counters = json!({"type": "counter_array", "value": "c"});
    sample.action("nop", &[], json!([]));
    sample.action("to", &[("port", 9)], json!([send(param(0))]));
    sample.action(
        "turn",
        &[("x", 16)],
        json!([
            assign(field("h", "a"), param(0)),
            primitive("count", json!([counters, field("scalars", "m")])),
        ]),
    );
    sample.action(
        "mark",
        &[("x", 8)],
        json!([assign(field("scalars", "m"), param(0))]),
    );
    sample.action(
        "learn",
        &[],
        json!([primitive("generate_digest", json!([hex(1), hex(3)]))]),
    );
    sample.action(
        "copy",
        &[],
        json!([primitive(
            "clone_ingress_pkt_to_egress",
            json!([hex(5), hex(1)])
        )]),
    );
    sample.action(
        "again",
        &[],
        json!([primitive("resubmit", json!([hex(1)]))]),
    );
    let all = ["nop", "to", "turn", "mark", "learn", "copy", "again"];
    for (name, key) in [("one", "a"), ("two", "a"), ("three", "a"), ("four", "b")] {
        sample.table(0, name, "exact", &[("exact", ["h", key])], &all);
    }
    let sum = expr("+", field("h", "b"), field("scalars", "m"));
    sample.run(1, json!([assign(field("h", "b"), sum)]));
    sample
}

/// As [`sample`], but each packet gets the next number of a register.
fn numbered() -> Sample {
    let mut sample = sample();
    let register = json!({"type": "register_array", "value": "r"});
    let next = expr("+", field("h", "b"), hex(1));
    sample.run(
        0,
        json!([
            primitive("register_read", json!([field("h", "b"), register, hex(0)])),
            assign(field("h", "b"), next),
            primitive("register_write", json!([register, hex(0), field("h", "b")])),
        ]),
    );
    sample
}

/// The entries of a seed.
fn filled(sample: &Sample, seed: u64) -> Switch {
    let mut switch = sample.switch();
    let mirror = CloneSession {
        replicas: vec![Replica {
            port: 9,
            instance: 0,
        }],
        ..CloneSession::default()
    };
    switch.clone_session_create(5, mirror).unwrap();
    let tables = ["one", "two", "three", "four"];
    for (number, name) in tables.into_iter().enumerate() {
        for key in (0..KEYS).filter(|key| !(key + number as u64).is_multiple_of(3)) {
            let table = switch.schema().table(name).unwrap();
            let drawn = (key ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15 + 2 * number as u64) >> 40;
            let (action, value) = match drawn % 16 {
                0 => ("learn", None),
                1 => ("copy", None),
                2 => ("again", None),
                3..6 => ("mark", Some(drawn % 251)),
                6..10 => ("turn", Some(drawn % KEYS)),
                _ => ("to", Some(drawn % 500)),
            };
            let action = switch.schema().table_action(table, action).unwrap();
            let call = ActionCall::new(action, value.map(Bits::from));
            let entry = Entry::new(vec![Match::exact(key)], 0, call);
            switch.table_insert(0, table, entry).unwrap();
        }
    }
    switch
}

/// All that is to be seen of a switch and of what has left it.
type Seen = (Vec<(u16, Vec<u8>)>, Vec<Digest>, Drops, Vec<u64>);

fn seen(switch: &Switch, out: &Output) -> Seen {
    let counted = (0..256).map(|cell| switch.counter_read(CounterId(0), cell).unwrap());
    (
        out.packets().map(|p| (p.port, p.bytes.to_vec())).collect(),
        out.digests.clone(),
        *switch.drops(),
        counted.flat_map(|c| [c.packets, c.bytes]).collect(),
    )
}

fn packets() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let whole = (0..KEYS as u16, 0..KEYS as u16, 0..9usize)
        .prop_map(|(a, b, more)| [&a.to_be_bytes()[..], &b.to_be_bytes(), &vec![7; more]].concat());
    let short = prop::collection::vec(any::<u8>(), 0..4);
    prop::collection::vec(prop_oneof![9 => whole, 1 => short], 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_burst_does_what_its_packets_do_one_by_one(
        seed in any::<u64>(),
        packets in packets(),
        bursts in prop::collection::vec(1..20usize, 60),
        in_turn in any::<bool>(),
    ) {
        let sample = if in_turn { numbered() } else { sample() };
        let mut single = filled(&sample, seed);
        let mut expected = Output::new();
        for packet in &packets {
            single.step(1, 2, packet, &mut expected);
        }
        let mut together = filled(&sample, seed);
        let mut out = Output::new();
        let mut left = &packets[..];
        for burst in bursts {
            let (now, later) = left.split_at(burst.min(left.len()));
            together.burst(1, now.iter().map(|p| (2, &**p)), &mut out);
            left = later;
        }
        prop_assert!(left.is_empty());
        prop_assert_eq!(seen(&together, &out), seen(&single, &expected));
    }
}

#[test]
fn packets_without_a_pipeline_are_counted_in_a_burst_too() {
    let mut switch = Switch::new(crate::Config::default());
    let mut out = Output::new();
    switch.burst(0, [(1, &[0; 60][..]), (2, &[0; 60])], &mut out);
    assert_eq!(switch.drops().get(crate::DropReason::NoPipeline), 2);
}
