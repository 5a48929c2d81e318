use crate::diagnostics::Diagnostics;
use crate::front::print::print_program;
use crate::front::{PreprocessOptions, ast::Program, parse_program};
use crate::source::{MapSources, SourceMap};

const EVERYTHING: &str = include_str!("../../../tests/front-corpus/everything.p4");

fn read(text: &str) -> (Program, SourceMap, Diagnostics) {
    parse_program(&MapSources::new().with("a.p4", text), "a.p4", &PreprocessOptions::default())
}

/// The tree without places.
fn shape(program: &Program) -> String {
    let text = format!("{program:#?}");
    text.lines().filter(|line| !line.trim_start().starts_with("span: @")).collect::<Vec<_>>().join("\n")
}

fn prints_to_the_same_tree(text: &str) {
    let (program, map, diagnostics) = read(text);
    assert!(diagnostics.is_empty(), "{}", diagnostics.render(&map, false));
    let printed = print_program(&program);
    let (again, map, diagnostics) = read(&printed);
    assert!(diagnostics.is_empty(), "{}\n{printed}", diagnostics.render(&map, false));
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
