//! Reading a policy for a command: the text, its diagnostics printed, the checked policy.

use std::io::IsTerminal;
use std::path::Path;

use signalbox_policy::model::Policy;
use signalbox_policy::render::{Format, render};

use super::ErrorFormat;
use crate::failure::Failure;
use crate::files;
use crate::output;

impl ErrorFormat {
    /// The same for policies; colours where standard error is a terminal.
    pub fn for_policies(self) -> Format {
        match self {
            Self::Human => Format::Human {
                colour: std::io::stderr().is_terminal(),
            },
            Self::Plain => Format::Plain,
            Self::Json => Format::Json,
        }
    }
}

/// Reads and checks the policy at `path`; prints warnings.
///
/// # Errors
/// [`Failure::Input`] with all diagnostics when there is an error among them.
pub fn load(path: &Path, format: ErrorFormat) -> Result<Policy, Failure> {
    let text = files::read_text(path)?;
    let file_name = path.display().to_string();
    let checked = signalbox_policy::check(&text, &file_name);
    let report = render(
        &checked.diagnostics,
        &text,
        &file_name,
        format.for_policies(),
    );
    match checked.policy {
        Some(policy) => {
            output::note(&report);
            Ok(policy)
        }
        None => Err(Failure::Input(report)),
    }
}
