//! What directives and macros leave of a text.

use super::{PreprocessOptions, expand::spell, preprocess};
use crate::source::MapSources;

fn run(sources: &MapSources, options: &PreprocessOptions) -> (String, String) {
    let done = preprocess(sources, "a.p4", options);
    let words: Vec<String> = done.tokens.iter().map(|t| spell(t, &done.map)).collect();
    (
        words.join(" ").trim_end().to_owned(),
        done.diagnostics.render_short(&done.map),
    )
}

fn check(text: &str, expected: &str) {
    let (left, errors) = run(
        &MapSources::new().with("a.p4", text),
        &PreprocessOptions::default(),
    );
    assert_eq!((left.as_str(), errors.as_str()), (expected, ""), "{text}");
}

fn check_error(text: &str, expected: &str) {
    let (_, errors) = run(
        &MapSources::new().with("a.p4", text),
        &PreprocessOptions::default(),
    );
    assert_eq!(errors, expected, "{text}");
}

#[test]
fn macros_expand_with_arguments_strings_and_pasting() {
    check("#define A 1 + A\nA", "1 + A");
    check("#define F(x, y) x * y\nF(a, F(b, c))", "a * b * c");
    check("#define F(x) x\n#define G F\nG(3) F", "3 F");
    check("#define F(x) x + 1\nF (\n  2\n)", "2 + 1");
    check("#define S(x) #x\nS(a  + \"b\")", "\"a + \\\"b\\\"\"");
    check(
        "#define J(a, b) a##_##b\n#define K J(c, d)\nJ(x, y) K",
        "x_y c_d",
    );
    check("#define W 8\n#define C(n) W##w##n\nbit<W>", "bit < 8 >");
    check(
        "#define V(first, ...) f(first, __VA_ARGS__)\nV(1, 2, 3)",
        "f ( 1 , 2 , 3 )",
    );
    check("#define N() n\nN()", "n");
    check("#define A B\n#define B A\nA B", "A B");
    check("#define A 1\n#undef A\nA", "A");
    check("#define LONG 1 \\\n  + 2\nLONG", "1 + 2");
    check("__LINE__\n __FILE__", "1 \"a.p4\"");
}

#[test]
fn conditions_choose_text_and_left_out_text_may_be_anything() {
    check("#if 1 + 1 == 2 && !defined(X)\na\n#else\nb\n#endif", "a");
    check(
        "#ifdef X\na\n#elif 0\nb\n#elif UNKNOWN || 3 > 2\nc\n#else\nd\n#endif",
        "c",
    );
    check(
        "#ifndef X\n#define X 20200408\n#endif\n#if X >= 20200408\ny\n#endif",
        "y",
    );
    check(
        "#if 0\n#if 1\na\n#else\nb\n#endif\n'12ab $ /\n#include <none>\n#bad\n#endif\nc",
        "c",
    );
    check(
        "#if 0 && 1 / 0\n#endif\n#if (1 ? 2 : 0) << 3 == 16\na\n#endif",
        "a",
    );
    check("#if 1 >> 0\na\n#endif", "a");
}

#[test]
fn files_are_found_beside_the_file_then_on_the_paths_then_among_our_own() {
    let sources = MapSources::new()
        .with(
            "a.p4",
            "#include \"d/b.p4\"\n#define H <c.p4>\n#include H\n#include <core.p4>\na",
        )
        .with("d/b.p4", "#include \"../e.p4\"\nb")
        .with("e.p4", "#pragma once\n#include \"e.p4\"\ne")
        .with("inc/c.p4", "c")
        .with("inc/core.p4", "core");
    let options = PreprocessOptions {
        include_paths: vec!["inc/".into()],
        ..Default::default()
    };
    assert_eq!(
        run(&sources, &options),
        ("e b c core a".into(), String::new())
    );
}

#[test]
fn macros_come_from_the_command_line() {
    let options = PreprocessOptions {
        defines: vec![
            ("A".into(), "1 + 2".into()),
            ("bad name".into(), "1".into()),
        ],
        ..Default::default()
    };
    let (left, errors) = run(&MapSources::new().with("a.p4", "A"), &options);
    assert_eq!(left, "1 + 2");
    assert_eq!(
        errors,
        "<command line>:1:9: error: `bad name` is not a name that a macro can have\n"
    );
}

#[test]
fn line_directives_move_the_places_of_what_follows() {
    check_error(
        "#line 40 \"b.p4\"\n\n#error oh no",
        "b.p4:41:8: error: oh no\n",
    );
    check_error(
        "x\n# 7 \"c.p4\" 1 3\n#if\n#endif",
        "c.p4:7:4: error: expected a value, found the end of the condition\n",
    );
}

#[test]
fn what_is_wrong_with_a_directive_is_an_error_at_its_place() {
    check_error(
        "#if 1\na",
        "a.p4:1:1: error: a condition that is not closed\n",
    );
    check_error("#endif", "a.p4:1:2: error: `#endif` without `#if`\n");
    check_error(
        "#if 1\n#else\n#else\n#endif",
        "a.p4:3:2: error: `#else` behind `#else`\n",
    );
    check_error(
        "#if 1 / 0\n#endif",
        "a.p4:1:7: error: division by zero in a condition\n",
    );
    check_error(
        "#if 1 +\n#endif",
        "a.p4:1:8: error: expected a value, found the end of the condition\n",
    );
    check_error(
        "#include <none.p4>",
        "a.p4:1:10: error: cannot find the included file `none.p4`\n",
    );
    check_error(
        "#include none",
        "a.p4:1:2: error: `#include` needs a file's name\n",
    );
    check_error(
        "#define F(a) a\nF(1, 2)",
        "a.p4:2:1: error: macro `F` takes 1 arguments, found 2\n",
    );
    check_error(
        "#define F(a) a\nF(1",
        "a.p4:2:1: error: the arguments of macro `F` are not closed\n",
    );
    check_error(
        "#define A 1\n#define A 2",
        "a.p4:2:9: warning: macro `A` is defined again with another body\n",
    );
    check_error("#frob", "a.p4:1:2: error: unknown directive `#frob`\n");
    check_error(
        "#define F(a) a ## +\nF(b)",
        "a.p4:2:1: error: `##` makes `b+`, which is no token\n",
    );
    check_error("#warning not yet", "a.p4:1:10: warning: not yet\n");
}

#[test]
fn a_file_that_includes_itself_without_end_is_one_error() {
    check_error(
        "#include \"a.p4\"",
        "a.p4:1:10: error: `a.p4` includes itself without end\n",
    );
    let sources = MapSources::new()
        .with("a.p4", "#include \"b.p4\"")
        .with("b.p4", "#include \"a.p4\"");
    let (_, errors) = run(&sources, &PreprocessOptions::default());
    assert_eq!(errors.lines().count(), 1, "{errors}");
    check("#ifndef A\n#define A\n#include \"a.p4\"\nx\n#endif", "x");
}

#[test]
fn macros_that_explode_are_an_error() {
    let mut text = String::from("#define A0 x x\n");
    for n in 1..40 {
        text.push_str(&format!("#define A{n} A{} A{}\n", n - 1, n - 1));
    }
    text.push_str("A39\n");
    let (_, errors) = run(
        &MapSources::new().with("a.p4", text),
        &PreprocessOptions::default(),
    );
    assert!(errors.contains("expands to too many tokens"), "{errors}");
    let nested = format!("#define F(x) x\n{}1{}", "F(".repeat(500), ")".repeat(500));
    let (_, errors) = run(
        &MapSources::new().with("a.p4", nested),
        &PreprocessOptions::default(),
    );
    assert!(
        errors.contains("macro calls are nested too deeply"),
        "{errors}"
    );
}
