//! The policy language: text to a checked [`Policy`](model::Policy), diagnostics, formatter,
//! evaluator and policy tests.
//!
//! Everything here is pure: text in, values out; no files, clocks or randomness, and no P4.
//! The steps are the modules: `lex` (text to tokens), `parse` (tokens to tree), `check` (tree to
//! model), and beside them `format`, `eval` and `testing`.

mod check;
pub mod diagnostic;
pub mod eval;
pub mod format;
pub mod lex;
pub mod model;
pub mod parse;
pub mod render;
pub mod testing;
pub mod tree;

pub use check::check;
pub use format::fmt;

use diagnostic::Diagnostic;
use model::Policy;

/// What [`check`] found: a policy if there was no error, and everything there is to say.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The checked policy; `None` when a diagnostic is an error.
    pub policy: Option<Policy>,
    /// Errors and warnings in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}
