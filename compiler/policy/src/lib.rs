//! The policy language: text to a checked [`Policy`](model::Policy), diagnostics, formatter,
//! evaluator and policy tests.
//!
//! Everything here is pure: text in, values out; no files, clocks or randomness, and no P4.

pub mod model;

use model::Policy;

/// What [`check`] found: a policy if there was no error, and everything there is to say.
#[derive(Debug)]
pub struct Checked {
    /// The checked policy; `None` when a diagnostic is an error.
    pub policy: Option<Policy>,
}

/// Checks a policy's text. `file_name` appears in diagnostics and gives the policy its name.
pub fn check(_text: &str, _file_name: &str) -> Checked {
    Checked { policy: None }
}
