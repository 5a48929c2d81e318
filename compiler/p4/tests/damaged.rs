//! Programs with a few tokens changed: the compiler may say what it likes, but it does not panic and
//! does not take long.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::corpus::programs;
use crate::{compile_text, program};

/// Splits a text so that every word and every symbol is a piece.
fn pieces(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for c in text.chars() {
        let word = c.is_alphanumeric() || c == '_';
        match out.last_mut() {
            Some(last) if word && last.chars().all(|l| l.is_alphanumeric() || l == '_') => {
                last.push(c)
            }
            _ => out.push(c.to_string()),
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_program_is_refused_or_compiled(
        which in 0..1000_usize,
        edits in prop::collection::vec((0..4_u8, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
    ) {
        let all = programs();
        let (_, text) = &all[which % all.len()];
        let mut pieces = pieces(text);
        for (edit, at, other) in edits {
            let (at, other) = (at.index(pieces.len()), other.index(pieces.len()));
            match edit {
                0 => { pieces.remove(at); }
                1 => { let copy = pieces[other].clone(); pieces.insert(at, copy); }
                2 => pieces.swap(at, other),
                _ => { let copy = pieces[other].clone(); pieces[at] = copy; }
            }
        }
        let start = Instant::now();
        let _ = compile_text(&pieces.concat());
        prop_assert!(start.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn what_grows_without_end_is_refused() {
    let doubling: String = (1..40)
        .map(|n| {
            format!(
                "bit<8> f{n}(in bit<8> x) {{ return f{0}(x) + f{0}(x + 1); }}\n",
                n - 1
            )
        })
        .collect();
    let text = format!(
        "bit<8> f0(in bit<8> x) {{ return x + 1; }}\n{doubling}\n{}",
        program("", "hdr.h.a = f39(hdr.h.b);")
    );
    let text = text.replacen("#include <core.p4>\n#include <v1model.p4>\n", "", 1);
    let text = format!("#include <core.p4>\n#include <v1model.p4>\n{text}");
    let failed = compile_text(&text).expect_err("it is too large");
    assert!(
        failed
            .diagnostics
            .render_short(&failed.sources)
            .contains("too large"),
        "{}",
        failed.diagnostics.render_short(&failed.sources)
    );

    let loops = "for (bit<16> i = 0; i < 4000; i = i + 1) { for (bit<16> j = 0; j < 4000; j = j + 1) { hdr.h.a = hdr.h.a + 1; } }";
    assert!(compile_text(&program("", loops)).is_err());

    let structs: String = (1..40)
        .map(|n| format!("struct s{n} {{ s{0} a; s{0} b; }}\n", n - 1))
        .collect();
    let text = program("", "").replacen(
        "header h_t",
        &format!("struct s0 {{ bit<8> a; }}\n{structs}header h_t"),
        1,
    );
    assert!(compile_text(&text).is_err());

    let squares: String = (1..40)
        .map(|n| format!("const int c{n} = c{0} * c{0};\n", n - 1))
        .collect();
    let text = program("", "").replacen(
        "header h_t",
        &format!("const int c0 = 1000;\n{squares}header h_t"),
        1,
    );
    assert!(compile_text(&text).is_err());
}

#[test]
fn deep_nesting_is_no_danger() {
    let parens = format!("hdr.h.a = {}hdr.h.b{};", "(".repeat(90), " + 1)".repeat(90));
    let _ = compile_text(&program("", &parens));
    let ifs = format!(
        "{}hdr.h.a = 1;{}",
        "if (hdr.h.b == 1) { ".repeat(45),
        " }".repeat(45)
    );
    let _ = compile_text(&program("", &ifs));
    let calls: String = (1..120)
        .map(|n| format!("bit<8> f{n}(in bit<8> x) {{ return f{}(x); }}\n", n - 1))
        .collect();
    let text = program("", "hdr.h.a = f119(hdr.h.b);").replacen(
        "header h_t",
        &format!("bit<8> f0(in bit<8> x) {{ return x; }}\n{calls}header h_t"),
        1,
    );
    let _ = compile_text(&text);
}

#[test]
fn long_code_is_not_deep_code() {
    let returns: String = (0..3000)
        .map(|n| format!("if (hdr.h.w == {n}) {{ hdr.h.b = 1; return; }}\n"))
        .collect();
    assert!(compile_text(&program("", &returns)).is_ok());
    let cases: String = (0..1000)
        .map(|n| format!("{n}: {} : {{ hdr.h.b = 1; }}\n", n + 1000))
        .collect();
    let switch = format!("switch (hdr.h.w) {{ {cases} default: {{ hdr.h.c = 1; }} }}");
    assert!(compile_text(&program("", &switch)).is_ok());
    let branches: String = (0..1000)
        .map(|n| format!("if (hdr.h.w == {n}) {{ m.x = 1; }}\n"))
        .collect();
    let text = program("", "").replacen(
        "transition accept;",
        &format!("{branches}transition accept;"),
        1,
    );
    assert!(compile_text(&text).is_ok());
}
