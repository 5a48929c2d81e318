//! What the compiler says of wrong programs: where, what was found, and what would help.

use crate::{compile_text, program};

/// The findings as `line: message` for a program with this ingress.
fn findings(locals: &str, ingress: &str) -> Vec<String> {
    findings_of(&program(locals, ingress))
}

fn findings_of(text: &str) -> Vec<String> {
    let (diagnostics, sources) = match compile_text(text) {
        Ok(compiled) => (compiled.diagnostics, compiled.sources),
        Err(failed) => (failed.diagnostics, failed.sources),
    };
    diagnostics
        .render_short(&sources)
        .lines()
        .map(|line| {
            let mut parts = line.splitn(4, ':');
            let at = parts.nth(3).unwrap_or(line);
            at.trim().to_string()
        })
        .collect()
}

/// What one ingress gives: each of the findings, in order.
fn check(ingress: &str, expected: &[&str]) {
    assert_eq!(findings("", ingress), expected, "{ingress}");
}

#[test]
fn names_that_mean_nothing() {
    check("hdr.h.z = 1;", &["error: `h_t` has no field `z`"]);
    check("hdr.q.a = 1;", &["error: `headers_t` has no field `q`"]);
    check("nothing = 1;", &["error: `nothing` is not declared here"]);
    check("f(1);", &["error: `f` is not declared here"]);
    check(
        "hdr.h.a = HashAlgorithm.crc33;",
        &["error: `HashAlgorithm` has no member `crc33`"],
    );
    check(
        "if (s.parser_error == error.NoMatsch) { }",
        &["error: there is no error `NoMatsch`"],
    );
}

#[test]
fn types_that_do_not_fit() {
    check(
        "hdr.h.a = m.y;",
        &["error: this is `bit<16>`, not `bit<8>`"],
    );
    check("hdr.h.a = m.t;", &["error: this is `bool`, not `bit<8>`"]);
    check(
        "hdr.h.a = hdr.h.b + m.y;",
        &["error: `+` can't take `bit<8>` and `bit<16>`"],
    );
    check("if (hdr.h.a) { }", &["error: this is `bit<8>`, not `bool`"]);
    check(
        "m.t = hdr.h.a == m.y;",
        &["error: `==` can't take `bit<8>` and `bit<16>`"],
    );
    check(
        "hdr.h.a = hdr.h.w[8:0];",
        &["error: this is `bit<9>`, not `bit<8>`"],
    );
    check(
        "hdr.h.a = hdr.h.a[8:1];",
        &["error: bit 8 is outside of `bit<8>`"],
    );
    check(
        "hdr.h.a = hdr.h.b / hdr.h.c;",
        &[
            "error: `/` works only on numbers known at compile time, and on unsigned ones by powers of two",
        ],
    );
    check(
        "hdr.h = hdr.k; hdr.h = hdr.h.a;",
        &["error: this is `bit<8>`, not `h_t`"],
    );
}

#[test]
fn numbers_that_lose_bits_are_told() {
    check(
        "hdr.h.a = 300;",
        &["warning: the value `300` does not fit in `bit<8>` and becomes `44`"],
    );
    check(
        "hdr.h.a = -1;",
        &["warning: the negative value `-1` becomes `255` as `bit<8>`"],
    );
    check(
        "hdr.h.w = (bit<32>)(0xc000 | m.y[13:0]);",
        &["warning: the value `49152` does not fit in `bit<14>` and becomes `0`"],
    );
    check(
        "hdr.h.a = hdr.h.b << 9;",
        &["warning: shifting 8 bits by 9 leaves nothing of them"],
    );
}

#[test]
fn places_that_cannot_be_written() {
    let text =
        program("", "f(1);").replacen("control I", "void f(in bit<8> x) { x = 2; }\ncontrol I", 1);
    assert_eq!(
        findings_of(&text),
        ["error: `x` is an `in` parameter and can't be written"]
    );
    let text = program("", "g(hdr.h.a + 1);").replacen(
        "control I",
        "void g(inout bit<8> x) { x = 2; }\ncontrol I",
        1,
    );
    assert_eq!(findings_of(&text), ["error: this can't be written"]);
    let text =
        program("", "LIMIT = 3;").replacen("control I", "const bit<8> LIMIT = 2;\ncontrol I", 1);
    assert_eq!(
        findings_of(&text),
        ["error: `LIMIT` is a constant and can't be written"]
    );
}

#[test]
fn tables_that_make_no_sense() {
    let locals = "action a(bit<8> x) { } table t { key = { hdr.h.a: exact; } actions = { a; } default_action = a(); }";
    assert_eq!(
        findings(locals, "t.apply();"),
        ["error: the argument for `x` is missing"]
    );
    let locals = "action a() { } table t { key = { hdr.h.a: exact; } actions = { a; } default_action = NoAction(); }";
    assert_eq!(
        findings(locals, "t.apply();"),
        ["error: the action `NoAction` is not in the list of the table's actions"]
    );
    let locals = "table t { key = { hdr.h.a: exakt; } actions = { NoAction; } }";
    assert_eq!(
        findings(locals, "t.apply();"),
        ["error: `exakt` is no match kind"]
    );
    let locals = "table t { key = { hdr.h.a + 1: exact; } actions = { NoAction; } }";
    assert_eq!(
        findings(locals, "t.apply();"),
        ["error: this key needs a name"]
    );
    let locals = "table t { key = { hdr.h.a: exact; } actions = { NoAction; } sice = 3; }";
    assert_eq!(
        findings(locals, "t.apply();"),
        ["error: v1model has no table property `sice`"]
    );
    let locals = "table t { key = { hdr.h.a: lpm; hdr.h.b: lpm; } actions = { NoAction; } }";
    assert_eq!(
        findings(locals, "t.apply();"),
        ["error: the table `I.t` has more than one key of kind `lpm`"]
    );
    let locals = "table t { key = { hdr.h.a: exact; } actions = { NoAction; } const entries = { 1 &&& 3: NoAction(); } }";
    assert_eq!(
        findings(locals, "t.apply();"),
        ["error: this can't stand for the key `hdr.h.a`, which is matched by `exact`"]
    );
    let locals =
        "table t { key = { hdr.h.a: exact; } actions = { NoAction; } } action b() { t.apply(); }";
    assert_eq!(
        findings(locals, "b();"),
        ["error: a table can be applied only in the body of a control"]
    );
}

#[test]
fn what_is_not_reached_is_checked_too() {
    let locals = "action a() { hdr.h.a = m.y; } table t { key = { hdr.h.zz: exact; } actions = { NoAction; } }";
    assert_eq!(
        findings(locals, ""),
        [
            "error: `h_t` has no field `zz`",
            "error: this is `bit<16>`, not `bit<8>`"
        ]
    );
    let text = program("", "").replacen("control I", "bit<8> unused(in bit<16> x) { return x; }\ncontrol Lost(in bit<8> y) { apply { y.z(); } }\ncontrol I", 1);
    assert_eq!(
        findings_of(&text),
        [
            "error: this is `bit<16>`, not `bit<8>`",
            "error: `bit<8>` has no method `z`"
        ]
    );
    check(
        "if (false) { hdr.h.a = true; }",
        &["error: this is `bool`, not `bit<8>`"],
    );
}

#[test]
fn what_the_target_cannot_do_is_named() {
    let text = program("", "").replacen(
        "apply { p.emit(hdr); }",
        "apply { if (hdr.h.a == 1) { p.emit(hdr); } }",
        1,
    );
    assert_eq!(
        findings_of(&text),
        ["error: the deparser can't decide what to emit; make headers invalid in egress instead"]
    );
    let text = program("", "").replacen(
        "struct headers_t { h_t h; h_t k; }",
        "header odd_t { bit<3> x; } struct headers_t { h_t h; h_t k; odd_t o; }",
        1,
    );
    assert_eq!(
        findings_of(&text),
        ["error: the header `odd_t` has 3 bits, which is no whole number of bytes"]
    );
    check(
        "bit<8> i = hdr.h.a; for (bit<8> j = 0; j < i; j = j + 1) { }",
        &["error: only loops whose number of rounds is known at compile time are supported"],
    );
    check(
        "clone(CloneType.E2E, 1);",
        &["error: a clone of kind `E2E` can't be made in ingress"],
    );
    check(
        "resubmit<bit<8>>(hdr.h.a);",
        &["error: the extern function `resubmit` is not supported"],
    );
}

#[test]
fn two_things_of_a_kind_can_not_have_one_name() {
    let twice = |locals: &str, ingress: &str, expected: &str| {
        assert_eq!(findings(locals, ingress), [expected], "{locals}");
    };
    let tables = "@name(\"x\") table t { key = { hdr.h.a: exact; } actions = { NoAction; } }
        @name(\"x\") table u { key = { hdr.h.a: exact; } actions = { NoAction; } }";
    twice(
        tables,
        "t.apply(); u.apply();",
        "error: two tables have the name `I.x`",
    );
    twice(
        "@name(\"x\") counter(8, CounterType.packets) a; @name(\"x\") direct_counter(CounterType.bytes) b;",
        "a.count(1);",
        "error: two counters have the name `I.x`",
    );
    twice(
        "@name(\"x\") action a() { } @name(\"x\") action b() { } table t { actions = { a; b; } default_action = a; }",
        "t.apply();",
        "error: two actions have the name `I.x`",
    );
    let twins = program("", "Q.apply(hdr); Q.apply(hdr);").replacen(
        "control I",
        "control Q(inout headers_t hdr) { counter(8, CounterType.packets) c; apply { c.count(1); } }\ncontrol I",
        1,
    );
    assert_eq!(
        findings_of(&twins),
        ["error: two counters have the name `I.Q.c`"]
    );
}

#[test]
fn one_action_in_two_tables_with_other_arguments_is_no_clash() {
    let locals = "action a(in bit<8> x, bit<8> y) { hdr.h.a = x + y; }
        table t { key = { hdr.h.a: exact; } actions = { a(1); NoAction; } }
        table u { key = { hdr.h.a: exact; } actions = { a(2); NoAction; } }";
    assert!(findings(locals, "t.apply(); u.apply();").is_empty());
}

#[test]
fn ids_that_can_not_be() {
    let action = |params: &str| {
        let locals = format!(
            "const bit<32> five = 5; action a({params}) {{ }} table t {{ key = {{ hdr.h.a: exact; }} actions = {{ a; NoAction; }} }}"
        );
        findings(&locals, "t.apply();")
    };
    assert_eq!(
        action("@id(3) bit<8> x, @id(3) bit<8> y"),
        ["error: the id 3 is given twice"]
    );
    assert_eq!(action("@id(0) bit<8> x"), ["error: 0 is no id"]);
    assert_eq!(
        action("@id(five) bit<8> x"),
        ["error: `@id` needs one number"]
    );
    assert_eq!(
        findings(
            "@id(5) counter(8, CounterType.bytes) a; @id(5) counter(8, CounterType.bytes) b;",
            "a.count(1);"
        ),
        ["error: `I.b`: the id 5 is asked for twice"]
    );
}

#[test]
fn entries_and_properties_that_do_not_go_together() {
    let table = |actions: &str, rest: &str| {
        let locals = format!(
            "action a() {{ }} table t {{ key = {{ hdr.h.a: ternary; }} actions = {{ {actions} }} default_action = NoAction; {rest} }}"
        );
        findings(&locals, "t.apply();")
    };
    assert_eq!(
        table("@defaultonly a; NoAction;", "const entries = { 1: a(); }"),
        ["error: `a` is listed with `@defaultonly`"]
    );
    assert_eq!(
        table("a; NoAction;", "const entries = { priority = 3: 1: a(); }"),
        ["error: an entry of a constant list can't have a priority"]
    );
    assert_eq!(
        table("a; NoAction;", "implementation = action_profile(8);"),
        ["error: this object needs a name for controllers"]
    );
    check(
        "switch (hdr.h.a) { default: { } 1: { hdr.h.b = 1; } }",
        &["error: no case can follow `default`"],
    );
    assert_eq!(
        findings("@name(5) action a() { }", "a();"),
        ["error: `@name` needs one string"]
    );
}

#[test]
fn a_program_without_a_package_is_none() {
    assert_eq!(
        findings_of("#include <core.p4>\n"),
        ["error: the program has no package `main`"]
    );
}

#[test]
fn one_mistake_in_a_control_with_many_instances_is_told_once() {
    let text = program("", "a.apply(hdr); b.apply(hdr);").replacen(
        "control I",
        "control Q(inout headers_t hdr)(bit<8> n) { apply { hdr.h.a = n ++ n; } }\ncontrol I",
        1,
    );
    let text = text.replacen(
        "    apply {\na.apply",
        "Q(1) a; Q(2) b; apply {\na.apply",
        1,
    );
    assert_eq!(
        findings_of(&text),
        ["error: this is `bit<16>`, not `bit<8>`"]
    );
}

#[test]
fn an_excerpt_shows_the_place_and_the_way_out() {
    let failed = compile_text(&program("", "hdr.h.a = m.y;")).unwrap_err();
    let text = failed.diagnostics.render(&failed.sources, false);
    assert!(
        text.contains("hdr.h.a = m.y;")
            && text.contains("expected `bit<8>`")
            && text.contains("cast it: `(bit<8>) …`"),
        "{text}"
    );
}

#[test]
fn functions_that_can_end_without_a_value() {
    let with = |body: &str| {
        let text = program("", "hdr.h.a = f(1);");
        findings_of(&text.replacen(
            "control I",
            &format!("bit<8> f(in bit<8> x) {{ {body} }}\ncontrol I"),
            1,
        ))
    };
    let error = ["error: this function can end without returning a value"];
    assert_eq!(with("if (x == 1) { return 2; }"), error);
    assert_eq!(with("switch (x) { 1: { return 2; } }"), error);
    assert!(with("if (x == 1) { return 2; } else { return 3; }").is_empty());
    assert!(with("switch (x) { 1: { return 2; } default: { return 3; } }").is_empty());
}

#[test]
fn meters_of_tables_that_are_not_there() {
    let locals = |ty: &str, meters: &str| {
        format!(
            "direct_meter<{ty}>(MeterType.bytes) dm; action a() {{ dm.read(m.x); }} \
             table t {{ key = {{ hdr.h.a: exact; }} actions = {{ a; }} default_action = a(); {meters} }}"
        )
    };
    assert_eq!(
        findings(&locals("bit<8>", ""), "t.apply();"),
        ["error: this meter is attached to no table"]
    );
    assert_eq!(
        findings(&locals("bit<2>", "meters = dm;"), "t.apply();")[0],
        "error: this is `bit<8>`, not `bit<2>`"
    );
    assert!(findings(&locals("bit<8>", "meters = dm;"), "t.apply();").is_empty());
}

#[test]
fn next_of_a_stack_outside_of_extract() {
    let text = program("", "")
        .replacen("h_t k; }", "h_t k; h_t[2] v; }", 1)
        .replacen(
            "transition accept;",
            "hdr.v.next.setValid(); transition accept;",
            1,
        );
    assert_eq!(
        findings_of(&text),
        ["error: `next` of a stack is supported only as the argument of `extract`"]
    );
}

#[test]
fn field_lists_that_can_not_be() {
    let with = |fields: &str| {
        let text = program("", "resubmit_preserving_field_list(3);");
        findings_of(&text.replacen(
            "bit<8> x; bit<16> y;",
            &format!("bit<8> x; bit<16> y; {fields}"),
            1,
        ))
    };
    assert_eq!(
        with("@field_list(3) h_t kept;")[0],
        "error: the target can't preserve headers, only fields of metadata"
    );
    assert_eq!(
        with("@field_list(nothing) bit<8> kept;")[0],
        "error: `@field_list` needs numbers, constants or members of an enum with numbers"
    );
}

#[test]
fn a_generic_type_that_contains_itself() {
    let text = program("", "").replacen(
        "header h_t",
        "struct S<T> { S<S<T>> x; }\nstruct U { S<bit<8>> x; }\nheader h_t",
        1,
    );
    assert!(findings_of(&text).contains(&"error: `S` can't contain itself".to_string()));
}
