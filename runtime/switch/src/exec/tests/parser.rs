//! Extraction, selection, stacks, variable lengths, errors.

use crate::sample::{Sample, assign, expr, field, hex, once, send};
use crate::{Bits, ControlError, Match, Output};
use serde_json::{Value, json};

fn extract(header: &str) -> Value {
    json!({"op": "extract", "parameters": [{"type": "regular", "value": header}]})
}

/// A state, with `[value, mask, next]` cases.
fn state(
    name: &str,
    ops: Value,
    key: Value,
    cases: &[(Value, Value, Value)],
    default: Value,
) -> Value {
    let mut transitions: Vec<Value> = cases
        .iter()
        .map(|(value, mask, next)| json!({"type": "hexstr", "value": value, "mask": mask, "next_state": next}))
        .collect();
    transitions
        .push(json!({"type": "default", "value": null, "mask": null, "next_state": default}));
    json!({"name": name, "id": 9, "parser_ops": ops, "transition_key": key, "transitions": transitions})
}

#[test]
fn fields_of_odd_widths_come_out_as_they_went_in() {
    let mut sample = Sample::new();
    sample.header(
        "h",
        &[
            ("a", 1),
            ("b", 3),
            ("c", 13),
            ("d", 48),
            ("e", 128),
            ("f", 63),
            ("g", 200),
        ],
    );
    let packet: Vec<u8> = (0..57).map(|i| (i as u8).wrapping_mul(37)).collect();
    sample.run(
        0,
        json!([assign(field("h", "c"), expr("+", field("h", "c"), hex(0)))]),
    );
    assert_eq!(once(&mut sample.switch(), 3, &packet), vec![(0, packet)]);
}

#[test]
fn a_select_with_masks_takes_the_first_case_that_matches() {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 12), ("b", 4)]);
    sample.header_type("x_t", &[("v", 8)]);
    sample.header_of("x", "x_t").header_of("y", "x_t");
    let key = json!([field("h", "a"), field("h", "b")]);
    *sample.at("/parsers/0/parse_states/0") = state(
        "start",
        json!([extract("h")]),
        key,
        // Each field is padded to whole bytes.
        &[
            (json!("0x0abc05"), Value::Null, json!("x")),
            (json!("0x000005"), json!("0x00000f"), json!("y")),
        ],
        Value::Null,
    );
    sample.push(
        "/parsers/0/parse_states",
        state("x", json!([extract("x")]), json!([]), &[], Value::Null),
    );
    sample.push(
        "/parsers/0/parse_states",
        state("y", json!([extract("y")]), json!([]), &[], Value::Null),
    );
    sample.run(
        0,
        json!([
            assign(field("x", "v"), hex(0xaa)),
            assign(field("y", "v"), hex(0xbb)),
        ]),
    );
    let mut switch = sample.switch();
    assert_eq!(
        once(&mut switch, 0, &[0xab, 0xc5, 1, 2])[0].1,
        [0xab, 0xc5, 0xaa, 2]
    );
    assert_eq!(
        once(&mut switch, 0, &[0xab, 0xd5, 1, 2])[0].1,
        [0xab, 0xd5, 0xbb, 2]
    );
    assert_eq!(
        once(&mut switch, 0, &[0xab, 0xc6, 1, 2])[0].1,
        [0xab, 0xc6, 1, 2]
    );
}

#[test]
fn a_key_wider_than_128_bits_is_compared_whole() {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 128), ("b", 20), ("c", 4)]);
    sample.header_type("x_t", &[("v", 8)]);
    sample.header_of("x", "x_t");
    // `b` is 0x01230 in three bytes, `c` is 4 in one.
    let value = format!("0x{}0012304", "11".repeat(16)).replace("0012304", "00123004");
    *sample.at("/parsers/0/parse_states/0") = state(
        "start",
        json!([extract("h")]),
        json!([field("h", "a"), field("h", "b"), field("h", "c")]),
        &[(json!(value), Value::Null, json!("x"))],
        Value::Null,
    );
    sample.push(
        "/parsers/0/parse_states",
        state("x", json!([extract("x")]), json!([]), &[], Value::Null),
    );
    sample.run(0, json!([assign(field("x", "v"), hex(0xaa))]));
    let mut switch = sample.switch();
    let mut packet = vec![0x11; 16];
    packet.extend([0x01, 0x23, 0x04, 7]);
    assert_eq!(once(&mut switch, 0, &packet)[0].1[19], 0xaa);
    packet[0] = 0x12;
    assert_eq!(once(&mut switch, 0, &packet)[0].1[19], 7);
}

#[test]
fn lookahead_and_advance_read_without_eating_and_eat_without_reading() {
    let mut sample = Sample::new();
    sample.scalar("seen", 16);
    sample.parser_op(json!({"op": "set", "parameters": [
        field("scalars", "seen"), {"type": "lookahead", "value": [8, 16]}]}));
    sample.parser_op(json!({"op": "advance", "parameters": [{"type": "hexstr", "value": "0x10"}]}));
    sample.header("h", &[("a", 16)]);
    sample.run(
        0,
        json!([assign(field("h", "a"), field("scalars", "seen"))]),
    );
    let out = once(&mut sample.switch(), 0, &[1, 2, 3, 4, 5]);
    assert_eq!(
        out[0].1,
        [2, 3, 5],
        "the header holds what stood after the first byte"
    );
}

#[test]
fn truncated_packets_go_on_with_an_error_and_are_counted() {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 16)]).header("i", &[("b", 32)]);
    sample.run(
        0,
        json!([
            assign(field("h", "a"), field("standard_metadata", "parser_error")),
            send(hex(7)),
        ]),
    );
    let mut switch = sample.switch();
    let mut out = Output::new();
    switch.step(0, 1, &[1, 2, 3, 4], &mut out);
    // `h` was extracted, `i` was not; the rest is payload.
    assert_eq!(out.packets().next().unwrap().bytes, [0, 1, 3, 4]);
    assert_eq!(
        (out.drops.parser_errors, switch.drops().parser_errors),
        (1, 1)
    );
    assert_eq!(once(&mut switch, 1, &[]), vec![(7, vec![])]);
}

#[test]
fn verify_stops_with_its_own_error() {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 8)]);
    sample.parser_op(json!({"op": "verify", "parameters": [
        {"type": "expression", "value": {"op": "==", "left": field("h", "a"), "right": hex(1)}},
        hex(42)]}));
    sample.header("i", &[("b", 8)]);
    sample.run(
        0,
        json!([assign(
            field("h", "a"),
            field("standard_metadata", "parser_error")
        )]),
    );
    let mut switch = sample.switch();
    assert_eq!(once(&mut switch, 0, &[1, 5])[0].1, [0, 5]);
    assert_eq!(once(&mut switch, 0, &[2, 5])[0].1, [42, 5]);
}

/// A stack of three one-byte headers; the parser takes elements while the high bit is set.
fn stack() -> Sample {
    let mut sample = Sample::new();
    sample.header_type("e_t", &[("more", 1), ("v", 7)]);
    for i in 0..3 {
        sample.header_of(&format!("s[{i}]"), "e_t");
    }
    sample.push(
        "/header_stacks",
        json!({"name": "s", "id": 0, "header_type": "e_t", "size": 3,
        "header_ids": [2, 3, 4]}),
    );
    *sample.at("/parsers/0/parse_states/0") = state(
        "start",
        json!([{"op": "extract", "parameters": [{"type": "stack", "value": "s"}]}]),
        json!([{"type": "stack_field", "value": ["s", "more"]}]),
        &[(json!("0x01"), Value::Null, json!("start"))],
        Value::Null,
    );
    sample
}

fn of_stack() -> Value {
    json!({"type": "header_stack", "value": "s"})
}

#[test]
fn a_stack_fills_up_and_then_errs() {
    let mut sample = stack();
    let last = json!({"type": "expression", "value": {"op": "last_stack_index", "left": null, "right": of_stack()}});
    sample.run(
        0,
        json!([
            assign(field("s[0]", "v"), last),
            send(field("standard_metadata", "parser_error")),
        ]),
    );
    let mut switch = sample.switch();
    assert_eq!(
        once(&mut switch, 0, &[0x80, 0x81, 2, 9]),
        vec![(0, vec![0x82, 0x81, 2, 9])]
    );
    assert_eq!(
        once(&mut switch, 0, &[0x80, 0x81, 0x82, 9]),
        vec![(3, vec![0x82, 0x81, 0x82, 9])]
    );
    assert_eq!(once(&mut switch, 0, &[5, 9]), vec![(0, vec![0, 9])]);
}

#[test]
fn push_and_pop_move_elements_and_their_validity() {
    let push = |n| json!({"op": "push", "parameters": [of_stack(), hex(n)]});
    let pop = |n| json!({"op": "pop", "parameters": [of_stack(), hex(n)]});
    let valid =
        |n: &str| json!({"op": "add_header", "parameters": [{"type": "header", "value": n}]});
    for (code, expected) in [
        (
            json!([push(1), valid("s[0]"), assign(field("s[0]", "v"), hex(9))]),
            vec![9, 0x81, 2, 7],
        ),
        (json!([push(2)]), vec![0x81, 7]),
        (json!([push(5)]), vec![7]),
        (json!([pop(1)]), vec![2, 7]),
        (json!([pop(9)]), vec![7]),
        (json!([push(1), pop(1)]), vec![0x81, 2, 7]),
    ] {
        let mut sample = stack();
        sample.run(0, code.clone());
        assert_eq!(
            once(&mut sample.switch(), 0, &[0x81, 2, 7])[0].1,
            expected,
            "{code}"
        );
    }
}

#[test]
fn an_element_by_a_variable_index_can_be_read_and_written() {
    let mut sample = stack();
    sample.scalar("i", 8);
    let element = |index: Value| {
        json!({"type": "expression", "value": {"type": "expression", "value": {"op": "access_field",
            "left": {"type": "expression", "value": {"op": "dereference_header_stack",
                "left": of_stack(), "right": index}}, "right": 1}}})
    };
    sample.run(
        0,
        json!([
            assign(field("scalars", "i"), expr("-", field("s[0]", "v"), hex(1))),
            assign(
                element(field("scalars", "i")),
                expr("+", element(field("scalars", "i")), hex(5))
            ),
        ]),
    );
    let mut switch = sample.switch();
    assert_eq!(once(&mut switch, 0, &[0x82, 3])[0].1, [0x82, 8]);
    // Outside of the stack nothing is read or written.
    assert_eq!(once(&mut switch, 0, &[0xff, 3])[0].1, [0xff, 3]);
}

#[test]
fn a_field_of_variable_length_is_extracted_emitted_and_assigned() {
    let mut sample = Sample::new();
    sample.header("h", &[("n", 8)]);
    sample.header_type("v_t", &[("a", 8), ("o", 0), ("b", 8)]);
    sample.header_of("v", "v_t").header_of("w", "v_t");
    let bits = expr("*", field("h", "n"), hex(8));
    sample.parser_op(
        json!({"op": "extract_VL", "parameters": [{"type": "regular", "value": "v"}, bits]}),
    );
    sample.run(
        0,
        json!([
            {"op": "add_header", "parameters": [{"type": "header", "value": "w"}]},
            {"op": "assign_VL", "parameters": [field("w", "o"), field("v", "o")]},
        ]),
    );
    let mut switch = sample.switch();
    let out = once(&mut switch, 0, &[3, 0xa, 1, 2, 3, 0xb, 99]);
    assert_eq!(out[0].1, [3, 0xa, 1, 2, 3, 0xb, 0, 1, 2, 3, 0, 99]);
    let out = once(&mut switch, 0, &[0, 0xa, 0xb, 99]);
    assert_eq!(out[0].1, [0, 0xa, 0xb, 0, 0, 99]);
    // Too short for what it announces.
    assert_eq!(once(&mut switch, 0, &[200, 1, 2])[0].1, [200, 0, 0, 1, 2]);
}

#[test]
fn a_value_set_decides_by_what_the_control_plane_put_in() {
    let mut sample = Sample::new();
    sample.header("h", &[("a", 12), ("b", 4)]);
    sample.header_type("x_t", &[("v", 8)]);
    sample.header_of("x", "x_t");
    sample.push(
        "/parse_vsets",
        json!({"name": "vs", "id": 0, "compressed_bitwidth": 16, "max_size": 2}),
    );
    let mut start = state(
        "start",
        json!([extract("h")]),
        json!([field("h", "a"), field("h", "b")]),
        &[],
        Value::Null,
    );
    start["transitions"].as_array_mut().unwrap().insert(
        0,
        json!({"type": "parse_vset", "value": "vs", "mask": null, "next_state": "x"}),
    );
    *sample.at("/parsers/0/parse_states/0") = start;
    sample.push(
        "/parsers/0/parse_states",
        state("x", json!([extract("x")]), json!([]), &[], Value::Null),
    );
    sample.run(0, json!([assign(field("x", "v"), hex(0xaa))]));
    let mut switch = sample.switch();
    let set = switch.schema().value_set("vs").unwrap();
    assert_eq!(switch.schema().value_sets[0].widths, [12, 4]);
    assert_eq!(once(&mut switch, 0, &[0x12, 0x34, 5])[0].1, [0x12, 0x34, 5]);
    let member = vec![
        Match::exact(0x123),
        Match::Ternary {
            value: Bits::from(4u64),
            mask: Bits::from(4u64),
        },
    ];
    switch.value_set_insert(set, member.clone()).unwrap();
    assert_eq!(
        switch.value_set_insert(set, member.clone()),
        Err(ControlError::AlreadyExists)
    );
    assert_eq!(
        once(&mut switch, 0, &[0x12, 0x34, 5])[0].1,
        [0x12, 0x34, 0xaa]
    );
    assert_eq!(once(&mut switch, 0, &[0x12, 0x33, 5])[0].1, [0x12, 0x33, 5]);
    switch.value_set_delete(set, &member).unwrap();
    assert_eq!(once(&mut switch, 0, &[0x12, 0x34, 5])[0].1, [0x12, 0x34, 5]);
}

#[test]
fn a_union_has_one_valid_member_at_most() {
    let mut sample = Sample::new();
    sample
        .header_type("x_t", &[("v", 8)])
        .header_type("y_t", &[("w", 16)]);
    sample.header_of("u.x", "x_t").header_of("u.y", "y_t");
    sample.push(
        "/header_union_types",
        json!({"name": "u_t", "id": 0, "headers": [["x", "x_t"], ["y", "y_t"]]}),
    );
    sample.push(
        "/header_unions",
        json!({"name": "u", "id": 0, "union_type": "u_t", "header_ids": [2, 3]}),
    );
    sample.parser_op(extract("u.x"));
    let valid = json!({"type": "expression", "value": {"op": "valid_union", "left": null,
        "right": {"type": "header_union", "value": "u"}}});
    sample.run(0, json!([
        {"op": "add_header", "parameters": [{"type": "header", "value": "u.y"}]},
        assign(field("u.y", "w"), json!({"type": "expression", "value": {"op": "b2d", "left": null, "right": valid}})),
    ]));
    assert_eq!(once(&mut sample.switch(), 0, &[1, 9])[0].1, [0, 1, 9]);
}

#[test]
fn a_parser_that_goes_round_without_eating_ends() {
    let mut sample = Sample::new();
    *sample.at("/parsers/0/parse_states/0/transitions/0/next_state") = json!("start");
    sample.run(0, json!([send(field("standard_metadata", "parser_error"))]));
    assert_eq!(once(&mut sample.switch(), 0, &[1])[0].0, 5);
}
