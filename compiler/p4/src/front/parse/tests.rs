//! What the parser makes of whole programs: trees that print back, errors as a user sees them, and
//! no panic on any text.

use proptest::prelude::*;

use crate::diagnostics::Diagnostics;
use crate::front::ast::{DeclKind, ExprKind, StmtKind};
use crate::front::print::print_program;
use crate::front::{PreprocessOptions, ast::Program, parse_program};
use crate::source::{MapSources, SourceMap};

const EVERYTHING: &str = include_str!("../../../tests/front-corpus/everything.p4");

fn read(text: &str) -> (Program, SourceMap, Diagnostics) {
    parse_program(
        &MapSources::new().with("a.p4", text),
        "a.p4",
        &PreprocessOptions::default(),
    )
}

/// The tree without places.
fn shape(program: &Program) -> String {
    let text = format!("{program:?}");
    text.split("span: @")
        .map(|piece| piece.trim_start_matches(|c: char| c.is_ascii_digit() || ":.".contains(c)))
        .collect()
}

fn prints_to_the_same_tree(text: &str) {
    let (program, map, diagnostics) = read(text);
    assert!(
        diagnostics.is_empty(),
        "{}",
        diagnostics.render(&map, false)
    );
    let printed = print_program(&program);
    let (again, map, diagnostics) = read(&printed);
    assert!(
        diagnostics.is_empty(),
        "{}\n{printed}",
        diagnostics.render(&map, false)
    );
    assert_eq!(shape(&program), shape(&again), "{printed}");
    assert_eq!(print_program(&again), printed);
}

#[test]
fn the_standard_includes_parse_in_both_dialects_and_print_to_the_same_tree() {
    for version in ["", "#define V1MODEL_VERSION 20200408\n"] {
        let text = format!("{version}#include <v1model.p4>\n");
        assert!(read(&text).0.decls.len() > 50);
        prints_to_the_same_tree(&text);
    }
}

#[test]
fn every_construct_of_the_grammar_prints_to_the_same_tree() {
    prints_to_the_same_tree(EVERYTHING);
}

/// The first statement of an action with this body.
fn first_statement(body: &str) -> StmtKind {
    let (program, map, diagnostics) = read(&format!("struct T {{}} action a() {{ {body} }}"));
    assert!(
        diagnostics.is_empty(),
        "{}",
        diagnostics.render(&map, false)
    );
    match &program.decls[1].kind {
        DeclKind::Action(action) => action.body.stmts[0].kind.clone(),
        other => panic!("{other:?}"),
    }
}

/// How an expression is read, with a pair of parentheses for every operator.
fn grouped(text: &str) -> String {
    fn group(expr: &crate::front::ast::Expr) -> String {
        match &expr.kind {
            ExprKind::Binary { op, left, right } => {
                format!("({} {} {})", group(left), op.symbol(), group(right))
            }
            ExprKind::Unary { op, operand } => format!("({}{})", op.symbol(), group(operand)),
            ExprKind::Cast { operand, .. } => format!("(cast {})", group(operand)),
            ExprKind::Ternary {
                condition,
                then,
                otherwise,
            } => {
                format!(
                    "({} ? {} : {})",
                    group(condition),
                    group(then),
                    group(otherwise)
                )
            }
            ExprKind::Call {
                callee,
                type_args,
                args,
            } => {
                let args: Vec<String> = args
                    .iter()
                    .map(|a| a.value.as_ref().map_or("_".into(), group))
                    .collect();
                format!(
                    "{}<{}>({})",
                    group(callee),
                    type_args.len(),
                    args.join(", ")
                )
            }
            _ => crate::front::print::print_expr(expr),
        }
    }
    match first_statement(&format!("x = {text};")) {
        StmtKind::Assign { value, .. } => group(&value),
        other => panic!("{other:?}"),
    }
}

#[test]
fn operators_bind_as_the_language_says() {
    assert_eq!(grouped("a + b * c ++ d"), "((a + (b * c)) ++ d)");
    assert_eq!(grouped("a & b == c | d"), "((a & b) == (c | d))");
    assert_eq!(grouped("a << 1 + b >> 2"), "((a << (1 + b)) >> 2)");
    assert_eq!(grouped("a || b && !c == d"), "(a || (b && ((!c) == d)))");
    assert_eq!(grouped("a ? b : c ? d : e"), "(a ? b : (c ? d : e))");
    assert_eq!(grouped("-a.b + ~c[3:0]"), "((-a.b) + (~c[3:0]))");
}

#[test]
fn casts_and_type_arguments_are_told_from_values_and_comparisons() {
    assert_eq!(grouped("(bit<8>) a + b"), "((cast a) + b)");
    assert_eq!(grouped("(T) - b"), "(cast (-b))");
    assert_eq!(grouped("(a) - b"), "(a - b)");
    assert_eq!(grouped("f<T>(a)"), "f<1>(a)");
    assert_eq!(grouped("f<bit<8>, _>(a)"), "f<2>(a)");
    assert_eq!(grouped("f(a < b, c > (d))"), "f<0>((a < b), (c > d))");
    assert_eq!(grouped("a < b && c > (d)"), "((a < b) && (c > d))");
    assert_eq!(grouped("p.lookahead<bit<(8 >> 1)>>()"), "p.lookahead<1>()");
}

#[test]
fn declarations_and_statements_are_told_apart() {
    for (text, declares) in [
        ("T x;", true),
        ("T(1) x;", true),
        ("T<bit<8>> x;", true),
        ("T[3] x;", true),
        ("x[3:0] = 1;", false),
        ("f(1);", false),
        ("f<T>(1);", false),
        ("T.apply(a);", false),
        ("state = key;", false),
    ] {
        assert_eq!(
            matches!(first_statement(text), StmtKind::Decl(_)),
            declares,
            "{text}"
        );
    }
}

/// What a user sees.
fn errors(text: &str) -> String {
    let (_, map, diagnostics) = read(text);
    diagnostics.render(&map, false)
}

#[test]
fn a_forgotten_semicolon_is_shown_where_it_belongs_and_parsing_goes_on() {
    let shown = errors("struct S {\n    bit<8> a\n    bit<8> b;\n}\nheader H { bit<8> 1; }\n");
    assert_eq!(
        shown,
        "error[syntax]: expected `;`, found keyword `bit`
 --> a.p4:2:12
  |
2 |     bit<8> a
  |            ^ expected `;` behind this

error[syntax]: expected a field's name, found `1`
 --> a.p4:5:19
  |
5 | header H { bit<8> 1; }
  |                   ^ expected a field's name
"
    );
}

#[test]
fn several_syntax_errors_of_one_file_are_all_reported() {
    let (program, map, diagnostics) = read(
        "const bit<8> A = ;\ncontrol C() {\n  action a( { }\n  table t { key = { x exact; } size = 3; }\n  \
         apply { y = 1 +; if x { } z = 3; }\n}\nparser P() { state table { } }\nstruct Good { }\n",
    );
    assert_eq!(
        diagnostics.render_short(&map),
        "a.p4:1:18: error: expected an expression, found `;`
a.p4:3:13: error: expected a type, found `{`
a.p4:4:23: error: expected `:`, found `exact`
a.p4:5:18: error: expected an expression, found `;`
a.p4:5:23: error: expected `(`, found `x`
a.p4:7:20: error: expected a state's name, found keyword `table`
"
    );
    assert!(
        program
            .decls
            .iter()
            .any(|d| d.name().is_some_and(|n| n.as_str() == "Good"))
    );
}

#[test]
fn errors_say_how_to_mend_what_is_a_common_slip() {
    for (text, expected) in [
        (
            "bit<8> x = 3;",
            "make it a `const`, or move it into a `control`, `parser` or `action`",
        ),
        ("table t { }", "move it into a `control`"),
        (
            "struct table { }",
            "`table` is a reserved word; choose another name",
        ),
        (
            "enum E { A = 1 }",
            "give the enumeration a type, as in `enum bit<8> E`",
        ),
        ("const string S = \"abc", "close the string with `\"`"),
        (
            "header_type h_t { fields { a : 8; } }",
            "this looks like P4_14, which is another language",
        ),
    ] {
        assert!(errors(text).contains(expected), "{text}\n{}", errors(text));
    }
}

#[test]
fn an_error_in_an_included_file_is_shown_there_and_in_a_macro_where_it_is_used() {
    let sources = MapSources::new()
        .with("a.p4", "#include \"sub/b.p4\"\n#define BAD struct 5\nBAD\n")
        .with("sub/b.p4", "\n  header { }\n");
    let (_, map, diagnostics) = parse_program(&sources, "a.p4", &PreprocessOptions::default());
    assert_eq!(
        diagnostics.render_short(&map),
        "sub/b.p4:2:10: error: expected a name, found `{`\na.p4:3:1: error: expected a name, found `5`\n"
    );
}

#[test]
fn diagnostics_are_offered_as_json() {
    let (_, map, diagnostics) = read("struct S { bit<8> é; }");
    let json = diagnostics.to_json(&map);
    assert_eq!(json[0]["file"], "a.p4");
    assert_eq!(
        (&json[0]["line"], &json[0]["column"]),
        (&1.into(), &19.into())
    );
    assert_eq!(
        json[0]["message"],
        "expected a field's name, found character `é`"
    );
}

#[test]
fn depth_and_length_without_end_are_errors_and_no_overflow() {
    let deep = |open: &str, close: &str| {
        let n = 20_000;
        format!(
            "action a() {{ x = {}1{}; }}",
            open.repeat(n),
            close.repeat(n)
        )
    };
    let texts = [
        deep("(", ")"),
        deep("-", ""),
        deep("(bit<8>)", ""),
        deep("{", "}"),
        deep("f(", ")"),
        deep("a[", "]"),
        deep("1 + ", ""),
        deep("1 ? 2 : ", ""),
        deep("a<", ""),
        format!("action a() {{ {} }}", "{".repeat(20_000)),
        format!("action a() {{ {} }}", "if (a) ".repeat(20_000)),
        format!("action a() {{ {} ; }}", "if (a) ; else ".repeat(20_000)),
        format!("action a() {{ x{} = 1; }}", ".y".repeat(20_000)),
        format!("action a() {{ {} }}", "f(;".repeat(20_000)),
        format!("const {} x = 1;", "tuple<".repeat(20_000)),
        format!("const bit<8>{} x = 1;", "[1]".repeat(20_000)),
        format!("@a{} struct S {{}}", "[".repeat(20_000)),
        format!("action a() {{ {} }}", "for (;;) ".repeat(20_000)),
        "a < ".repeat(20_000),
        "}".repeat(20_000),
    ];
    for text in texts {
        let (_, _, diagnostics) = read(&text);
        assert!(
            diagnostics.has_errors(),
            "{}",
            text.get(..40).unwrap_or(&text)
        );
    }
    // What people and generators write is well within the limits.
    prints_to_the_same_tree(&format!("action a() {{ x = {}1; }}", "1 + ".repeat(300)));
    prints_to_the_same_tree(&format!(
        "action a() {{ {} ; }}",
        "if (a) ; else ".repeat(300)
    ));
    prints_to_the_same_tree(&format!(
        "action a() {{ x = {}1{}; }}",
        "(1 + ".repeat(40),
        ")".repeat(40)
    ));
}

/// A program with some tokens taken away, doubled or exchanged.
fn mutated(edits: &[(usize, usize, u8)]) -> String {
    let mut words: Vec<&str> = EVERYTHING
        .split_inclusive(|c: char| !c.is_ascii_alphanumeric())
        .collect();
    for (at, other, how) in edits {
        let (at, other) = (at % words.len(), other % words.len());
        match how % 4 {
            0 => {
                words.remove(at);
            }
            1 => words.insert(at, words[other]),
            2 => words.swap(at, other),
            _ => words.truncate(words.len() - at.min(words.len() / 8)),
        }
    }
    words.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_front_end_panic(text in any::<String>()) {
        let (_, map, diagnostics) = read(&text);
        let _ = diagnostics.render(&map, false);
    }

    #[test]
    fn no_sequence_of_tokens_makes_the_front_end_panic(
        words in prop::collection::vec(prop::sample::select(EVERYTHING.split_whitespace().collect::<Vec<_>>()), 0..120),
    ) {
        let (_, map, diagnostics) = read(&words.join(" "));
        let _ = diagnostics.render(&map, true);
        let _ = diagnostics.to_json(&map);
    }

    #[test]
    fn a_damaged_program_never_panics_and_prints_to_the_same_tree_if_it_is_still_one(
        edits in prop::collection::vec((any::<usize>(), any::<usize>(), any::<u8>()), 1..4),
    ) {
        let text = mutated(&edits);
        let (program, map, diagnostics) = read(&text);
        let _ = diagnostics.render(&map, false);
        if !diagnostics.has_errors() {
            let printed = print_program(&program);
            let (again, map, diagnostics) = read(&printed);
            prop_assert!(!diagnostics.has_errors(), "{}", diagnostics.render(&map, false));
            prop_assert_eq!(shape(&program), shape(&again));
        }
    }
}
