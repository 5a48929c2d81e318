//! Primitives of actions.

use crate::sample::{Sample, assign, expr, field, hex, once, primitive, send};
use crate::{
    Bits, ControlError, CounterId, CounterValue, DropReason, MeterRate, Output, RegisterId,
};
use serde_json::json;

fn header(name: &str) -> serde_json::Value {
    json!({"type": "header", "value": name})
}

#[test]
fn the_usual_p4c_forms_of_arithmetic_give_what_p4_says() {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 8), ("b", 8), ("c", 16)]);
    let and = |a, m| expr("&", a, hex(m));
    sample.run(
        0,
        json!([
            assign(
                field("h", "c"),
                and(expr("-", field("h", "a"), field("h", "b")), 0xffff)
            ),
            assign(
                field("h", "a"),
                and(expr("*", field("h", "a"), field("h", "b")), 0xff)
            ),
            assign(
                field("h", "b"),
                expr("usat_cast", expr("+", field("h", "b"), hex(200)), hex(8))
            ),
        ]),
    );
    assert_eq!(
        once(&mut sample.switch(), 0, &[3, 100, 0, 0])[0].1,
        [44, 255, 0xff, 0x9f]
    );
}

#[test]
fn signed_fields_compare_and_shift_with_their_sign() {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 8), ("b", 8)]);
    sample.signed_scalar("s", 8);
    let less = expr("<", field("scalars", "s"), hex(0));
    sample.run(
        0,
        json!([
            assign(
                field("scalars", "s"),
                expr("two_comp_mod", field("h", "a"), hex(8))
            ),
            assign(field("h", "a"), expr(">>", field("scalars", "s"), hex(1))),
            assign(field("h", "b"), expr("b2d", json!(null), less)),
        ]),
    );
    let mut switch = sample.switch();
    assert_eq!(once(&mut switch, 0, &[0xfe, 9])[0].1, [0xff, 1]);
    assert_eq!(once(&mut switch, 0, &[0x7e, 9])[0].1, [0x3f, 0]);
}

#[test]
fn headers_come_go_and_are_copied() {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 8)]);
    sample.header_of("i", "h_t").header_of("j", "h_t");
    sample.run(
        0,
        json!([
            primitive("add_header", json!([header("i")])),
            assign(field("i", "a"), hex(5)),
            primitive("assign_header", json!([header("j"), header("i")])),
            primitive("remove_header", json!([header("h")])),
            primitive("assign_header", json!([header("i"), header("h")])),
        ]),
    );
    sample.run(
        1,
        json!([assign(
            field("j", "a"),
            field("standard_metadata", "packet_length")
        )]),
    );
    assert_eq!(
        once(&mut sample.switch(), 0, &[1, 2, 3]),
        vec![(0, vec![3, 2, 3])]
    );
}

#[test]
fn jumps_skip_primitives_and_endless_ones_drop() {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 8)]);
    let zero = expr("==", field("h", "a"), hex(0));
    sample.run(
        0,
        json!([
            primitive(
                "_jump_if_zero",
                json!([expr("b2d", json!(null), zero), hex(3)])
            ),
            assign(field("h", "a"), hex(1)),
            primitive("_jump", json!([hex(4)])),
            assign(field("h", "a"), hex(2)),
        ]),
    );
    let mut switch = sample.switch();
    assert_eq!(once(&mut switch, 0, &[0])[0].1, [1]);
    assert_eq!(once(&mut switch, 0, &[9])[0].1, [2]);
    let mut sample = Sample::new();
    sample.run(0, json!([primitive("_jump", json!([hex(0)]))]));
    let mut switch = sample.switch();
    assert!(once(&mut switch, 0, &[9]).is_empty());
    assert_eq!(switch.drops().get(DropReason::Assertion), 1);
}

#[test]
fn an_indirect_counter_counts_packets_and_the_length_it_is_told() {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 8)]);
    sample.push(
        "/counter_arrays",
        json!({"name": "c", "id": 0, "size": 4, "is_direct": false}),
    );
    let array = json!({"type": "counter_array", "value": "c"});
    sample.run(
        0,
        json!([primitive("count", json!([array, field("h", "a")]))]),
    );
    let mut switch = sample.switch();
    once(&mut switch, 0, &[3, 0, 0, 0]);
    once(&mut switch, 0, &[4]);
    let mut out = Output::new();
    switch.step_counted(0, 0, &[3, 0, 0, 0], 1, &mut out);
    let read = |index| switch.counter_read(CounterId(0), index);
    assert_eq!(
        read(3),
        Ok(CounterValue {
            packets: 2,
            bytes: 5
        })
    );
    assert_eq!(read(2), Ok(CounterValue::default()));
    assert!(matches!(
        read(4),
        Err(ControlError::IndexOutOfRange { size: 4, .. })
    ));
}

#[test]
fn registers_keep_values_of_any_width() {
    let mut sample = Sample::new();
    sample.header("h", &[("i", 8), ("v", 152)]);
    sample.scalar("old", 152);
    sample.push(
        "/register_arrays",
        json!({"name": "r", "id": 0, "size": 2, "bitwidth": 152}),
    );
    let array = json!({"type": "register_array", "value": "r"});
    sample.run(
        0,
        json!([
            primitive(
                "register_read",
                json!([field("scalars", "old"), array, field("h", "i")])
            ),
            primitive(
                "register_write",
                json!([array, field("h", "i"), field("h", "v")])
            ),
            assign(field("h", "v"), field("scalars", "old")),
        ]),
    );
    let mut switch = sample.switch();
    let packet: Vec<u8> = (1..=20).collect();
    let zero = [vec![1], vec![0; 19]].concat();
    assert_eq!(once(&mut switch, 0, &packet)[0].1, zero);
    assert_eq!(once(&mut switch, 0, &packet)[0].1, packet);
    let register = RegisterId(0);
    assert_eq!(
        switch.register_read(register, 1),
        Ok(Bits::from_be_bytes(&packet[1..]))
    );
    switch
        .register_write(register, 1, Bits::from(7u64))
        .unwrap();
    assert_eq!(once(&mut switch, 0, &packet)[0].1[19], 7);
    let wide = Bits::from_be_bytes(&[1; 20]);
    assert!(matches!(
        switch.register_write(register, 0, wide),
        Err(ControlError::ValueTooWide { .. })
    ));
}

#[test]
fn a_meter_colours_packets() {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 8)]);
    sample.push(
        "/meter_arrays",
        json!({"name": "m", "id": 0, "size": 1, "is_direct": false,
        "rate_count": 2, "type": "packets"}),
    );
    let array = json!({"type": "meter_array", "value": "m"});
    sample.run(
        0,
        json!([primitive(
            "execute_meter",
            json!([array, hex(0), field("h", "a")])
        )]),
    );
    let mut switch = sample.switch();
    let meter = switch.schema().meter("m").unwrap();
    assert_eq!(
        once(&mut switch, 0, &[9])[0].1,
        [0],
        "green while no rate is set"
    );
    let rate = |per_micro, burst| MeterRate { per_micro, burst };
    switch
        .meter_set(meter, 0, Some([rate(1e-6, 1), rate(1e-6, 2)]))
        .unwrap();
    let colors: Vec<u8> = (0..3).map(|_| once(&mut switch, 0, &[9])[0].1[0]).collect();
    assert_eq!(colors, [0, 1, 2]);
    assert!(
        switch
            .meter_set(meter, 0, Some([rate(2.0, 1), rate(1.0, 2)]))
            .is_err()
    );
}

#[test]
fn hash_is_base_plus_hash_modulo_max_and_leaves_invalid_headers_out() {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 16), ("b", 16), ("sum", 16)]);
    sample.header_of("absent", "h_t");
    let input = json!([field("h", "a"), field("absent", "a"), field("h", "b"),
        {"type": "hexstr", "value": "0x1", "bitwidth": 16}]);
    sample.push(
        "/calculations",
        json!({"name": "c", "id": 0, "algo": "csum16", "input": input}),
    );
    let hash = |base: u64, max: u64| {
        let calculation = json!({"type": "calculation", "value": "c"});
        primitive(
            "modify_field_with_hash_based_offset",
            json!([field("h", "sum"), hex(base), calculation, hex(max)]),
        )
    };
    sample.run(0, json!([hash(0, 65536)]));
    assert_eq!(
        once(&mut sample.switch(), 0, &[0x12, 0x34, 0xff, 0xff, 0, 0])[0].1[4..],
        [0xed, 0xca]
    );
    let mut other = Sample::new();
    *other.at("") = serde_json::from_str(&sample.text()).unwrap();
    other.run(0, json!([hash(100, 0)]));
    assert_eq!(
        once(&mut other.switch(), 0, &[0x12, 0x34, 0xff, 0xff, 0, 0])[0].1[4..],
        [0, 100]
    );
}

#[test]
fn checksums_are_verified_on_the_way_in_and_updated_on_the_way_out() {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 16), ("sum", 16)]);
    sample.push(
        "/calculations",
        json!({"name": "c", "id": 0, "algo": "csum16", "input": [field("h", "a")]}),
    );
    let checksum = |id: u32, verify: bool| {
        json!({"name": format!("s{id}"), "id": id, "target": ["h", "sum"], "type": "generic",
            "calculation": "c", "verify": verify, "update": !verify,
            "if_cond": {"type": "expression", "value": {"op": "!=",
                "left": field("h", "a"), "right": hex(9)}}})
    };
    sample
        .push("/checksums", checksum(0, true))
        .push("/checksums", checksum(1, false));
    sample.run(
        0,
        json!([send(field("standard_metadata", "checksum_error"))]),
    );
    let mut switch = sample.switch();
    assert_eq!(
        once(&mut switch, 0, &[0, 1, 0xff, 0xfe]),
        vec![(0, vec![0, 1, 0xff, 0xfe])]
    );
    assert_eq!(
        once(&mut switch, 0, &[0, 1, 0, 0]),
        vec![(1, vec![0, 1, 0xff, 0xfe])]
    );
    assert_eq!(
        once(&mut switch, 0, &[0, 9, 0, 0]),
        vec![(0, vec![0, 9, 0, 0])]
    );
    assert_eq!(switch.drops().checksum_errors, 1);
}

#[test]
fn exit_ends_ingress_but_not_egress() {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 8), ("b", 8)]);
    sample.run(0, json!([primitive("exit", json!([]))]));
    sample.run(0, json!([assign(field("h", "a"), hex(1))]));
    sample.run(1, json!([assign(field("h", "b"), hex(2))]));
    assert_eq!(once(&mut sample.switch(), 0, &[0, 0])[0].1, [0, 2]);
}

#[test]
fn an_assertion_that_fails_drops_the_packet() {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 8)]);
    sample.run(
        0,
        json!([primitive(
            "assert",
            json!([expr("==", field("h", "a"), hex(1))])
        )]),
    );
    let mut switch = sample.switch();
    assert_eq!(once(&mut switch, 0, &[1]).len(), 1);
    assert_eq!(once(&mut switch, 0, &[2]).len(), 0);
    assert_eq!(switch.drops().get(DropReason::Assertion), 1);
}

#[test]
fn random_numbers_stay_within_their_bounds() {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 8)]);
    sample.run(
        0,
        json!([primitive(
            "modify_field_rng_uniform",
            json!([field("h", "a"), hex(3), hex(5)])
        )]),
    );
    let mut switch = sample.switch();
    let seen: std::collections::BTreeSet<u8> = (0..100)
        .map(|_| once(&mut switch, 0, &[0])[0].1[0])
        .collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [3, 4, 5]);
}

#[test]
fn a_trace_tells_the_way_in_words_and_in_json() {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 8)]);
    let args = json!({"type": "parameters_vector", "value": [field("h", "a")]});
    sample.run(
        0,
        json!([
            primitive(
                "log_msg",
                json!([{"type": "string", "value": "a is {}"}, args])
            ),
            send(hex(4)),
        ]),
    );
    let mut out = Output::new();
    let trace = sample.switch().step_traced(0, 2, &[7, 8], None, &mut out);
    let text = trace.to_string();
    for line in [
        "packet of 2 bytes on port 2",
        "extract h: a=0x7",
        "table tbl_run0: miss -> run0",
        "log: a is 7",
        "deparse h",
        "out on port 4, 2 bytes",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    let json = serde_json::to_value(&trace).unwrap();
    assert_eq!(
        json["events"][0],
        json!({"event": "packet", "port": 2, "bytes": 2})
    );
}
