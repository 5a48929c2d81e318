//! P4 text to syntax tree: preprocessor, lexer, parser and the printer that turns a tree back into
//! text. It does no I/O and knows no names' meanings.

pub mod ast;
mod ast_decl;
mod lexer;
mod parse;
mod preprocess;
pub mod print;
mod token;

pub use preprocess::PreprocessOptions;

use crate::diagnostics::Diagnostics;
use crate::source::{SourceMap, Sources};

/// Reads the program whose text is at `main`. Included files come from `sources`, and `core.p4` and
/// `v1model.p4`, unless found there, from the project's own. The program holds whatever could be
/// read; it is whole only when the diagnostics have no errors.
#[must_use]
pub fn parse_program(
    sources: &dyn Sources,
    main: &str,
    options: &PreprocessOptions,
) -> (ast::Program, SourceMap, Diagnostics) {
    let done = preprocess::preprocess(sources, main, options);
    let (program, syntax) = parse::parse(done.tokens);
    let mut diagnostics = done.diagnostics;
    diagnostics.extend(syntax);
    (program, done.map, diagnostics)
}
