use crate::diagnostics::Diagnostics;
use crate::front::{PreprocessOptions, ast::Program, parse_program};
use crate::source::{MapSources, SourceMap};

fn read(text: &str) -> (Program, SourceMap, Diagnostics) {
    parse_program(&MapSources::new().with("a.p4", text), "a.p4", &PreprocessOptions::default())
}

#[test]
fn the_standard_includes_parse_in_both_dialects() {
    for version in ["", "#define V1MODEL_VERSION 20200408\n"] {
        let (program, map, diagnostics) = read(&format!("{version}#include <v1model.p4>\n"));
        assert!(diagnostics.is_empty(), "{}", diagnostics.render(&map, false));
        assert!(program.decls.len() > 50);
    }
}
