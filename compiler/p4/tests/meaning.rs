//! What single constructs become: the parts of an image that matter to them.

use crate::{compile_text, outline_of, program};

/// The lines of the outline that contain the words, without leading blanks.
fn lines(text: &str, words: &str) -> Vec<String> {
    outline_of(text)
        .lines()
        .map(str::trim)
        .filter(|line| line.contains(words))
        .map(str::to_string)
        .collect()
}

/// The primitives of ingress's only action.
fn primitives(locals: &str, ingress: &str) -> Vec<String> {
    let outline = outline_of(&program(locals, ingress));
    let mut lines = outline
        .lines()
        .skip_while(|line| !line.starts_with("action "));
    lines.next();
    lines
        .take_while(|line| {
            line.starts_with("  ") && line.trim().starts_with(|c: char| c.is_ascii_digit())
        })
        .map(|line| line.trim().split_once(' ').unwrap().1.to_string())
        .collect()
}

#[test]
fn arithmetic_is_cut_only_where_it_would_be_noticed() {
    assert_eq!(
        primitives("", "hdr.h.a = hdr.h.b + hdr.h.c + 1;"),
        ["assign h.a, ((h.b + h.c) + 1)"]
    );
    assert_eq!(
        primitives("", "hdr.h.a = (hdr.h.b + hdr.h.c) >> 1;"),
        ["assign h.a, (((h.b + h.c) & 255) >> 1)"]
    );
    assert_eq!(
        primitives(
            "",
            "if (hdr.h.a - hdr.h.b == 255) { hdr.h.c = 1; } hdr.h.d = 2;"
        ),
        [
            "_jump_if_zero b2d((((h.a - h.b) & 255) == 255)), 2",
            "assign h.c, 1",
            "assign h.d, 2"
        ]
    );
}

#[test]
fn dividing_by_a_power_of_two_is_shifting_and_masking() {
    assert_eq!(
        primitives("", "hdr.h.a = hdr.h.b / 4; hdr.h.c = hdr.h.d % 8;"),
        ["assign h.a, (h.b >> 2)", "assign h.c, (h.d & 7)"]
    );
}

#[test]
fn members_of_an_enum_are_made_of_earlier_ones() {
    let text = program("", "hdr.h.a = (bit<8>) Two.second;").replacen(
        "header h_t",
        "enum bit<8> Two { first = 3, second = first + 1 }\nheader h_t",
        1,
    );
    assert_eq!(lines(&text, "assign"), ["0 assign h.a, 4"]);
}

#[test]
fn a_tuple_can_be_compared_with_a_list_of_numbers() {
    assert_eq!(
        primitives(
            "",
            "tuple<bit<8>, bit<8>> x = { hdr.h.a, hdr.h.b }; m.x = 1; if (x == { 1, 3 }) { hdr.h.c = 1; }"
        ),
        [
            "assign scalars.meta.x, 1",
            "_jump_if_zero b2d(((h.a == 1) and (h.b == 3))), 3",
            "assign h.c, 1"
        ]
    );
}

#[test]
fn a_slice_on_the_left_changes_only_its_bits() {
    assert_eq!(
        primitives("", "hdr.h.a[5:2] = hdr.h.b[3:0];"),
        ["assign h.a, ((h.a & 195) | ((h.b & 15) << 2))"]
    );
}

#[test]
fn what_is_known_is_put_in_place_and_variables_vanish() {
    assert_eq!(
        primitives(
            "",
            "bit<8> x = 3; bit<8> y = x + 4; hdr.h.a = y; if (x == 3) { hdr.h.b = hdr.h.a; } else { hdr.h.c = 1; }"
        ),
        ["assign h.a, 7", "assign h.b, h.a"]
    );
}

#[test]
fn an_argument_that_the_callee_changes_through_another_parameter_is_copied() {
    let text = program("", "add(hdr.h.a, hdr.h.a);").replacen(
        "control I",
        "void add(inout bit<8> x, in bit<8> y) { x = x + 1; x = x + y; }\ncontrol I",
        1,
    );
    let assigns = lines(&text, "assign");
    assert_eq!(
        assigns,
        [
            "0 assign scalars.I.x, h.a",
            "1 assign scalars.I.x, (h.a + 1)",
            "2 assign scalars.I.x, (scalars.I.x + h.a)",
            "3 assign h.a, scalars.I.x",
        ]
    );
}

#[test]
fn an_argument_of_an_action_keeps_the_value_it_had_at_the_call() {
    let locals = "action a(in bit<8> v) { hdr.h.a = 9; hdr.h.b = v; }";
    assert_eq!(
        primitives(locals, "a(hdr.h.a);"),
        [
            "assign scalars.I.v, h.a",
            "assign h.a, 9",
            "assign h.b, scalars.I.v"
        ]
    );
}

#[test]
fn operands_are_evaluated_from_left_to_right() {
    let text = program("", "hdr.h.b = hdr.h.a + bump(hdr.h.a);").replacen(
        "control I",
        "bit<8> bump(inout bit<8> x) { x = x + 1; return x; }\ncontrol I",
        1,
    );
    let assigns = lines(&text, "assign");
    assert_eq!(assigns.first().unwrap(), "0 assign scalars.tmp, h.a");
    assert!(
        assigns
            .last()
            .unwrap()
            .starts_with("2 assign h.b, (scalars.tmp + "),
        "{assigns:?}"
    );
}

#[test]
fn a_call_behind_and_runs_only_when_the_left_side_holds() {
    let text = program("", "if (hdr.h.a == 1 && bump(hdr.h.b)) { hdr.h.c = 1; }").replacen(
        "control I",
        "bool bump(inout bit<8> x) { x = x + 1; return x > 3; }\ncontrol I",
        1,
    );
    assert_eq!(
        lines(&text, "h.b"),
        [
            "2 assign h.b, (h.b + 1)",
            "3 assign scalars.result, b2d((h.b > 3))"
        ]
    );
    assert!(
        lines(&text, "_jump_if_zero")
            .first()
            .unwrap()
            .starts_with("1 _jump_if_zero")
    );
}

#[test]
fn a_return_is_only_an_edge() {
    let locals = "table t { key = { hdr.h.a: exact; } actions = { NoAction; } } table u { key = { hdr.h.b: exact; } actions = { NoAction; } }";
    let text = program(
        locals,
        "if (t.apply().hit) { return; } u.apply(); hdr.h.c = 1;",
    );
    assert_eq!(lines(&text, "__HIT__"), ["__HIT__ -> end"]);
    assert_eq!(lines(&text, "__MISS__"), ["__MISS__ -> I.u"]);
}

#[test]
fn a_condition_that_is_known_leaves_nothing() {
    let text = program("", "q.apply(hdr);").replacen(
        "control I",
        "control Q(inout headers_t hdr)(bool on) { action a() {} table t { key = { hdr.h.a: exact; } actions = { a; } }\n\
         apply { if (on) { t.apply(); } else { hdr.h.b = 1; } } }\ncontrol I",
        1,
    );
    let text = text.replacen("    apply {\nq.apply", "Q(false) q; apply {\nq.apply", 1);
    let compiled = compile_text(&text).unwrap();
    assert!(compiled.image.p4info.tables.is_empty());
    assert_eq!(lines(&text, "assign"), ["0 assign h.b, 1"]);
}

#[test]
fn a_table_behind_a_return_or_exit_is_nowhere() {
    let locals = "table t { key = { hdr.h.a: exact; } actions = { NoAction; } }";
    for leave in [
        "return;",
        "exit;",
        "if (hdr.h.b == 1) { exit; } else { return; }",
        "{ if (8w1 == 1) { return; } }",
    ] {
        let text = program(locals, &format!("hdr.h.b = 1; {leave} t.apply();"));
        let compiled = compile_text(&text).unwrap();
        assert!(compiled.image.p4info.tables.is_empty(), "{leave}");
        assert_eq!(lines(&text, "table I.t"), [""; 0], "{leave}");
    }
}

#[test]
fn a_controller_is_told_of_types_once_something_might_have_one() {
    let types = |locals: &str, ingress: &str| {
        let compiled = compile_text(&program(locals, ingress)).unwrap();
        compiled.image.p4info.type_info.is_some()
    };
    assert!(!types("", "hdr.h.a = 1;"));
    assert!(types("", "mark_to_drop(s);"));
    assert!(types("action_profile(8) unused;", ""));
}

#[test]
fn a_table_applied_in_two_places_finds_its_way_back() {
    let locals = "action set(bit<8> v) { hdr.h.d = v; } table t { key = { hdr.h.a: exact; } actions = { set; NoAction; } }";
    let text = program(
        locals,
        "if (hdr.h.b == 1) { if (t.apply().hit) { hdr.h.c = 1; } } else { if (t.apply().hit) { hdr.h.c = 2; } else { hdr.h.c = 3; } }",
    );
    let outline = outline_of(&text);
    assert_eq!(outline.matches("table I.t(").count(), 1, "{outline}");
    assert_eq!(lines(&text, "scalars.I.t.applied ==").len(), 2, "{outline}");
    assert_eq!(
        lines(&text, "assign scalars.I.t.applied").len(),
        2,
        "{outline}"
    );
}

#[test]
fn a_select_without_default_ends_in_the_error_no_match() {
    let text = program("", "").replacen(
        "transition accept;",
        "transition select(hdr.h.a) { 1: accept; }",
        1,
    );
    assert_eq!(lines(&text, "verify"), ["verify false, 2"]);
    assert_eq!(lines(&text, "default -> no_match"), ["default -> no_match"]);
}

#[test]
fn a_range_in_a_select_becomes_masks() {
    let text = program("", "").replacen("transition accept;", "transition select(hdr.h.a) { 3 .. 6: next; _: accept; } } state next { p.extract(hdr.k); transition accept;", 1);
    assert_eq!(
        lines(&text, "-> next"),
        [
            "h.a = 0x03 -> next",
            "h.a = 0x04 &&& 0xfe -> next",
            "h.a = 0x06 -> next"
        ]
    );
}

#[test]
fn a_loop_with_known_bounds_is_written_out() {
    assert_eq!(
        primitives(
            "",
            "for (bit<8> i = 0; i < 3; i = i + 1) { hdr.h.a = hdr.h.a + i; }"
        ),
        ["assign h.a, (h.a + 1)", "assign h.a, (h.a + 2)"]
    );
}

#[test]
fn a_loop_can_be_left_early() {
    let done = primitives(
        "",
        "hdr.h.c = 1; for (bit<8> i in 1..2) { if (hdr.h.a == i) { break; } hdr.h.b = i; }",
    );
    assert_eq!(
        done,
        [
            "assign h.c, 1",
            "_jump_if_zero b2d((h.a != 1)), 5",
            "assign h.b, 1",
            "_jump_if_zero b2d((h.a != 2)), 5",
            "assign h.b, 2",
        ]
    );
}

#[test]
fn a_key_that_is_no_field_is_computed_before_the_table() {
    let locals = "table t { key = { hdr.h.a + 1: exact @name(\"next\"); hdr.h.isValid(): exact; } actions = { NoAction; } }";
    let text = program(locals, "t.apply();");
    assert_eq!(
        lines(&text, "assign"),
        ["0 assign scalars.I.t.key, (h.a + 1)"]
    );
    assert_eq!(
        lines(&text, "table I.t"),
        ["table I.t(scalars.I.t.key: exact, h.$valid$: exact) simple of 1024"]
    );
}

#[test]
fn emitting_a_header_if_it_is_valid_is_emitting_it() {
    let text = program("", "").replacen(
        "apply { p.emit(hdr); }",
        "apply { if (hdr.h.isValid()) { p.emit(hdr.h); } p.emit(hdr.k); }",
        1,
    );
    assert_eq!(lines(&text, "deparser"), ["deparser [\"h\",\"k\"]"]);
}

#[test]
fn conditions_around_a_checksum_become_its_own() {
    let text = program("", "").replacen(
        "control C(inout headers_t hdr, inout meta_t m) { apply { } }",
        "control C(inout headers_t hdr, inout meta_t m) { apply { if (hdr.k.isValid()) { update_checksum(hdr.h.a == 1, { hdr.h.b, 8w7 }, m.y, HashAlgorithm.csum16); } } }",
        1,
    );
    assert_eq!(
        lines(&text, "update"),
        ["update scalars.meta.y by calc_0 if (d2b(k.$valid$) and (h.a == 1))"]
    );
    assert_eq!(lines(&text, "calc_0:"), ["calc_0: csum16 of h.b, 7"]);
}

#[test]
fn the_standard_includes_need_no_file() {
    assert!(
        compile_text(&program("", "mark_to_drop(s);"))
            .unwrap()
            .diagnostics
            .is_empty()
    );
}

#[test]
fn a_signed_field_takes_only_numbers_that_it_holds() {
    let text =
        program("", "hdr.h.s = hdr.h.s + 1;").replacen("bit<8> a;", "bit<8> a; int<8> s;", 1);
    assert_eq!(
        lines(&text, "assign"),
        ["0 assign h.s, ((h.s + 1) two_comp_mod 8)"]
    );
}

#[test]
fn what_a_call_changed_is_copied_out_before_exit() {
    let locals = "action a(inout bit<8> x) { x = 5; exit; }";
    let text = program(locals, "a(hdr.h.a);");
    assert_eq!(lines(&text, "assign"), ["0 assign h.a, 5"]);
}

#[test]
fn an_action_that_exits_serves_one_way_of_copying_out() {
    let text = program(
        "Q() q; R() r; table t { key = { hdr.h.b: exact; } actions = { quit; } }",
        "q.apply(hdr.h.a, hdr.h.a); t.apply();",
    )
    .replacen(
        "control I",
        "action quit() { exit; }\n\
         control Q(inout bit<8> x, in bit<8> y) { table u { key = { y: exact; } actions = { quit; } } apply { x = 1; u.apply(); } }\n\
         control R() { apply { } }\n\
         control I",
        1,
    );
    let failed = compile_text(&text).unwrap_err();
    let said = failed.diagnostics.render_short(&failed.sources);
    assert!(
        said.contains("`quit`, which can `exit`, is used in two places"),
        "{said}"
    );
}

#[test]
fn an_index_on_the_left_is_the_one_from_before_the_right_side() {
    let text = program("", "bit<8> i = hdr.h.a; hdr.v[i].n = bump(i);")
        .replacen("h_t k; }", "h_t k; v_t[4] v; }", 1)
        .replacen(
            "struct headers_t",
            "header v_t { bit<8> n; }\nbit<8> bump(inout bit<8> i) { i = i + 1; return 9; }\nstruct headers_t",
            1,
        );
    assert_eq!(lines(&text, "assign"), ["0 assign v[h.a].#0, 9"]);
}

#[test]
fn looking_ahead_wants_all_of_it_even_where_nothing_is_used() {
    let start = "transition accept;";
    let unused = program("", "").replacen(
        start,
        "bit<16> z = p.lookahead<bit<16>>(); transition accept;",
        1,
    );
    assert_eq!(lines(&unused, "lookahead").len(), 1);
    let part = program("", "").replacen(
        start,
        "transition select(p.lookahead<tuple<bit<12>, bit<4>>>()[1]) { 1: accept; _: reject; }",
        1,
    );
    assert_eq!(
        lines(&part, "lookahead"),
        ["set scalars.tmp, lookahead(0, 16)"]
    );
}

#[test]
fn a_state_called_no_match_is_not_where_failed_selects_go() {
    let text = program("", "").replacen(
        "transition accept;",
        "transition select(hdr.h.a) { 1: no_match; } } state no_match { p.extract(hdr.k); transition accept;",
        1,
    );
    assert_eq!(
        lines(&text, "default -> no_match"),
        ["default -> no_match_2"]
    );
}

#[test]
fn programs_can_ask_for_the_target() {
    assert_eq!(
        primitives(
            "",
            "\n#ifdef __TARGET_BMV2__\nhdr.h.a = __TARGET_BMV2__;\n#endif\n"
        ),
        ["assign h.a, 1"]
    );
}
