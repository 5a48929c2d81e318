//! What happens between and after the pipelines: drops, copies, and packets that come again.

use crate::sample::{Sample, assign, field, hex, once, primitive, send};
use crate::{CloneSession, Config, DigestId, DropReason, Output, Quirks, Replica};
use serde_json::{Value, json};

fn standard(name: &str) -> Value {
    field("standard_metadata", name)
}

/// A header of one byte, a scalar `m`, and field list 1 of just `m`.
fn sample() -> Sample {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 8)]);
    sample.scalar("m", 8);
    sample.push(
        "/field_lists",
        json!({"id": 1, "name": "kept", "elements": [field("scalars", "m")]}),
    );
    sample
}

fn mirror(port: u16) -> CloneSession {
    CloneSession {
        replicas: vec![Replica { port, instance: 0 }],
        ..CloneSession::default()
    }
}

#[test]
fn an_untouched_packet_leaves_by_port_zero() {
    let mut switch = Sample::new().switch();
    assert_eq!(once(&mut switch, 5, &[1, 2, 3]), vec![(0, vec![1, 2, 3])]);
}

#[test]
fn a_switch_without_pipeline_drops_everything() {
    let mut switch = crate::Switch::new(Config::default());
    assert!(once(&mut switch, 5, &[1]).is_empty());
    assert_eq!(switch.drops().get(DropReason::NoPipeline), 1);
}

#[test]
fn mark_to_drop_drops_in_either_pipeline_and_can_be_taken_back() {
    let drop = primitive(
        "mark_to_drop",
        json!([{"type": "header", "value": "standard_metadata"}]),
    );
    let mut sample = Sample::new();
    sample.run(0, json!([drop]));
    let mut switch = sample.switch_with(Config {
        drop_port: 300,
        ..Config::default()
    });
    assert!(once(&mut switch, 0, &[1]).is_empty());
    assert_eq!(switch.drops().get(DropReason::Ingress), 1);
    sample.run(0, json!([send(hex(3))]));
    assert_eq!(once(&mut sample.switch(), 0, &[1]), vec![(3, vec![1])]);
    sample.run(1, json!([drop]));
    let mut switch = sample.switch();
    assert!(once(&mut switch, 0, &[1]).is_empty());
    assert_eq!(switch.drops().get(DropReason::Egress), 1);
}

#[test]
fn an_ingress_clone_is_the_packet_as_it_arrived_with_the_listed_metadata() {
    let mut sample = sample();
    let clone = primitive("clone_ingress_pkt_to_egress", json!([hex(5), hex(1)]));
    sample.run(
        0,
        json!([
            clone,
            assign(field("scalars", "m"), hex(0x77)),
            assign(field("h", "a"), hex(0x99)),
            send(hex(2)),
        ]),
    );
    // Egress tells the copy from the original.
    sample.header_of("mark", "h_t");
    sample.run(
        1,
        json!([
            primitive("add_header", json!([{"type": "header", "value": "mark"}])),
            assign(field("mark", "a"), standard("instance_type")),
            {"op": "add_to_field", "parameters": [field("mark", "a"), field("scalars", "m")]},
        ]),
    );
    let mut switch = sample.switch();
    assert_eq!(
        once(&mut switch, 1, &[1, 0xff]),
        vec![(2, vec![0x99, 0x77, 0xff])],
        "no session yet"
    );
    assert_eq!(switch.drops().get(DropReason::NoCloneSession), 1);
    switch.clone_session_create(5, mirror(9)).unwrap();
    let out = once(&mut switch, 1, &[1, 0xff]);
    assert_eq!(
        out,
        vec![(9, vec![1, 0x78, 0xff]), (2, vec![0x99, 0x77, 0xff])]
    );
    let cut = CloneSession {
        truncate: Some(2),
        ..mirror(9)
    };
    switch.clone_session_modify(5, cut).unwrap();
    assert_eq!(once(&mut switch, 1, &[1, 0xff])[0].1, [1, 0x78]);
}

#[test]
fn a_clone_is_sent_even_when_the_original_drops() {
    let mut sample = sample();
    sample.run(
        0,
        json!([
            primitive("clone_ingress_pkt_to_egress", json!([hex(5), hex(0)])),
            primitive(
                "mark_to_drop",
                json!([{"type": "header", "value": "standard_metadata"}])
            ),
        ]),
    );
    let mut switch = sample.switch();
    switch.clone_session_create(5, mirror(9)).unwrap();
    assert_eq!(once(&mut switch, 1, &[1]), vec![(9, vec![1])]);
}

#[test]
fn an_egress_clone_is_the_packet_as_it_leaves_and_passes_egress_again() {
    let mut sample = sample();
    let clone = primitive("clone_egress_pkt_to_egress", json!([hex(5), hex(1)]));
    // Only the original is cloned.
    let condition = json!({"name": "first", "id": 0, "true_next": "tbl_run1", "false_next": null,
        "expression": {"type": "expression", "value": {"op": "==",
            "left": standard("instance_type"), "right": hex(0)}}});
    sample.run(
        0,
        json!([send(hex(2)), assign(field("scalars", "m"), hex(3))]),
    );
    sample.run(
        1,
        json!([
            {"op": "add_to_field", "parameters": [field("h", "a"), field("scalars", "m")]}, clone,
        ]),
    );
    sample.push("/pipelines/1/conditionals", condition);
    *sample.at("/pipelines/1/init_table") = json!("first");
    let mut switch = sample.switch();
    switch.clone_session_create(5, mirror(9)).unwrap();
    assert_eq!(
        once(&mut switch, 1, &[1, 7]),
        vec![(2, vec![4, 7]), (9, vec![4, 7])]
    );
}

#[test]
fn clones_of_clones_end() {
    let mut sample = sample();
    sample.run(
        1,
        json!([primitive(
            "clone_egress_pkt_to_egress",
            json!([hex(5), hex(0)])
        )]),
    );
    let mut switch = sample.switch_with(Config {
        max_passes: 10,
        ..Config::default()
    });
    switch.clone_session_create(5, mirror(9)).unwrap();
    assert_eq!(once(&mut switch, 1, &[1]).len(), 11);
    assert_eq!(switch.drops().get(DropReason::PassLimit), 1);
}

/// Runs `code` in ingress while `instance_type` is 0, and then counts `h.a` up.
fn again(pipeline: usize, code: Value) -> Sample {
    let mut sample = sample();
    let name = if pipeline == 0 {
        "tbl_run0"
    } else {
        "tbl_run1"
    };
    if pipeline == 1 {
        sample.run(
            0,
            json!([send(hex(2)), {"op": "add_to_field", "parameters": [field("h", "a"), hex(16)]}]),
        );
    }
    sample.run(pipeline, code);
    let condition = json!({"name": "first", "id": 0, "true_next": name, "false_next": null,
        "expression": {"type": "expression", "value": {"op": "==",
            "left": standard("instance_type"), "right": hex(0)}}});
    sample.push(&format!("/pipelines/{pipeline}/conditionals"), condition);
    *sample.at(&format!("/pipelines/{pipeline}/init_table")) = json!("first");
    sample
}

#[test]
fn a_resubmitted_packet_comes_again_as_it_arrived() {
    let mut sample = again(
        0,
        json!([
            assign(field("scalars", "m"), hex(3)),
            assign(field("h", "a"), hex(0x55)),
            primitive("resubmit", json!([hex(1)])),
        ]),
    );
    sample.run(
        1,
        json!([
            {"op": "add_to_field", "parameters": [field("h", "a"), field("scalars", "m")]},
        ]),
    );
    assert_eq!(
        once(&mut sample.switch(), 1, &[1, 7]),
        vec![(0, vec![4, 7])]
    );
}

#[test]
fn a_recirculated_packet_comes_again_as_it_would_have_left() {
    let sample = again(
        1,
        json!([
            {"op": "add_to_field", "parameters": [field("h", "a"), hex(1)]},
            primitive("recirculate", json!([hex(1)])),
        ]),
    );
    // Instance type 4 passes ingress, which sets it to 0: egress recirculates again.
    let mut switch = sample.switch_with(Config {
        max_passes: 3,
        ..Config::default()
    });
    assert!(once(&mut switch, 1, &[1, 7]).is_empty());
    assert_eq!(switch.drops().get(DropReason::PassLimit), 1);
}

#[test]
fn multicast_makes_copies_with_their_instance() {
    let mut sample = sample();
    sample.run(0, json!([assign(standard("mcast_grp"), hex(4))]));
    sample.run(
        1,
        json!([
            assign(field("h", "a"), standard("egress_rid")),
            {"op": "add_to_field", "parameters": [field("h", "a"), standard("instance_type")]},
        ]),
    );
    let mut switch = sample.switch();
    assert!(once(&mut switch, 1, &[1]).is_empty());
    assert_eq!(switch.drops().get(DropReason::EmptyMulticastGroup), 1);
    let replicas = vec![
        Replica {
            port: 2,
            instance: 10,
        },
        Replica {
            port: 3,
            instance: 20,
        },
    ];
    switch.multicast_create(4, replicas).unwrap();
    assert_eq!(
        once(&mut switch, 1, &[1, 8]),
        vec![(2, vec![15, 8]), (3, vec![25, 8])]
    );
}

#[test]
fn a_digest_carries_the_values_at_the_end_of_ingress() {
    let mut sample = sample();
    sample.push(
        "/learn_lists",
        json!({"id": 3, "name": "seen", "elements": [field("h", "a"), field("scalars", "m")]}),
    );
    sample.run(
        0,
        json!([
            primitive("generate_digest", json!([hex(1), hex(3)])),
            assign(field("scalars", "m"), hex(9)),
        ]),
    );
    let mut switch = sample.switch();
    let mut out = Output::new();
    switch.step(0, 0, &[5], &mut out);
    assert_eq!(out.digests.len(), 1);
    assert_eq!(out.digests[0].digest, DigestId(0));
    assert_eq!(out.digests[0].values, [5u64.into(), 9u64.into()]);
    assert_eq!(switch.schema().digests[0].widths, [8, 8]);
}

#[test]
fn truncate_cuts_what_leaves() {
    let mut sample = sample();
    sample.run(1, json!([primitive("truncate", json!([hex(3)]))]));
    let mut switch = sample.switch();
    assert_eq!(once(&mut switch, 0, &[1, 2, 3, 4, 5])[0].1, [1, 2, 3]);
    assert_eq!(once(&mut switch, 0, &[1, 2])[0].1, [1, 2]);
}

#[test]
fn timestamps_and_ports_are_what_simple_switch_sets() {
    let mut sample = Sample::new();
    sample.header(
        "h",
        &[
            ("in", 16),
            ("time", 48),
            ("len", 32),
            ("out", 16),
            ("spec", 16),
            ("enq", 32),
        ],
    );
    sample.run(
        0,
        json!([
            send(hex(6)),
            assign(field("h", "in"), standard("ingress_port"))
        ]),
    );
    sample.run(
        1,
        json!([
            assign(field("h", "time"), standard("ingress_global_timestamp")),
            assign(field("h", "len"), standard("packet_length")),
            assign(field("h", "out"), standard("egress_port")),
            assign(field("h", "spec"), standard("egress_spec")),
            assign(field("h", "enq"), standard("enq_timestamp")),
        ]),
    );
    let mut switch = sample.switch();
    let mut out = Output::new();
    switch.step(0x1234, 5, &[0; 30], &mut out);
    let bytes = out.packets().next().unwrap().bytes;
    assert_eq!(bytes[..2], [0, 5]);
    assert_eq!(bytes[2..8], [0, 0, 0, 0, 0x12, 0x34]);
    assert_eq!(bytes[8..12], [0, 0, 0, 30]);
    assert_eq!(bytes[12..16], [0, 6, 0, 0], "512 does not fit into 9 bits");
    assert_eq!(bytes[16..20], [0, 0, 0x12, 0x34]);
}

#[test]
fn a_packet_out_is_as_long_as_its_packet_before_and_after_its_header_goes() {
    let mut sample = Sample::new();
    sample.header("out", &[("port", 32)]);
    sample.header("h", &[("ingress", 32), ("egress", 32)]);
    let out = json!([{"type": "header", "value": "out"}]);
    sample.run(
        0,
        json!([
            primitive("remove_header", out),
            assign(field("h", "ingress"), standard("packet_length")),
            send(hex(6)),
        ]),
    );
    sample.run(
        1,
        json!([assign(field("h", "egress"), standard("packet_length"))]),
    );
    for (quirk, ingress) in [(false, 60), (true, 64)] {
        let mut switch = sample.switch_with(Config {
            quirks: Quirks {
                count_packet_out_header: quirk,
                ..Quirks::default()
            },
            ..Config::default()
        });
        let mut out = Output::new();
        switch.step_counted(0, 510, &[0; 64], 60, &mut out);
        let bytes = out.packets().next().unwrap().bytes;
        assert_eq!(bytes.len(), 60);
        assert_eq!(bytes[..8], [0, 0, 0, ingress, 0, 0, 0, 60]);
    }
}

#[test]
fn a_priority_without_queue_takes_the_highest_queue_or_drops_as_simple_switch_does() {
    let mut sample = Sample::new();
    sample.run(
        0,
        json!([assign(standard("priority"), hex(2)), send(hex(6))]),
    );
    for quirk in [false, true] {
        for queues in [1, 3] {
            let mut switch = sample.switch_with(Config {
                priority_queues: queues,
                quirks: Quirks {
                    drop_high_priorities: quirk,
                    ..Quirks::default()
                },
                ..Config::default()
            });
            let sent = once(&mut switch, 0, &[1]).len();
            assert_eq!(sent, usize::from(!quirk || queues == 3));
        }
    }
}

#[test]
fn a_load_that_fails_leaves_the_old_pipeline_running() {
    let mut sample = Sample::new();
    sample.run(0, json!([send(hex(6))]));
    let mut switch = sample.switch();
    sample.run(0, json!([primitive("frobnicate", json!([]))]));
    let error = switch.load(&sample.text()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/actions/1/primitives/0/op: `frobnicate` is not supported"
    );
    assert_eq!(once(&mut switch, 0, &[1])[0].0, 6);
}

#[test]
fn garbage_never_panics() {
    let mut sample = sample();
    sample.header("i", &[("x", 24), ("y", 100), ("z", 4)]);
    sample.run(
        0,
        json!([primitive(
            "clone_ingress_pkt_to_egress",
            json!([hex(5), hex(1)])
        )]),
    );
    let mut switch = sample.switch();
    switch.clone_session_create(5, mirror(9)).unwrap();
    for length in 0..200usize {
        let packet: Vec<u8> = (0..length).map(|i| (i * 7919 + length) as u8).collect();
        assert_eq!(once(&mut switch, length as u16, &packet).len(), 2);
    }
    assert!(once(&mut switch, 1, &vec![0; 70_000]).is_empty());
    assert_eq!(switch.drops().get(DropReason::TooLong), 1);
}
