//! Why a command ends without success: its exit code and the line for the user.

use std::fmt;
use std::process::ExitCode;

use crate::output;

/// A failure with the exit code that it stands for.
#[derive(Debug)]
pub enum Failure {
    /// Something did not work: exit code 1, one line.
    Failed(String),
    /// The command line is wrong: exit code 2, one line.
    Usage(String),
    /// The input is wrong: exit code 3; the text may have many lines and is printed as it is.
    Input(String),
    /// A test failed: exit code 4; what failed has been printed.
    Test,
}

impl Failure {
    /// A failure of exit code 1.
    pub fn failed(what: impl fmt::Display) -> Self {
        Self::Failed(what.to_string())
    }

    /// What there is to say, with the end of its last line.
    pub fn text(&self) -> String {
        match self {
            Self::Failed(line) | Self::Usage(line) => format!("signalbox: {line}\n"),
            Self::Input(text) => format!("{}\n", text.trim_end()),
            Self::Test => String::new(),
        }
    }

    /// Prints what there is to say and gives the exit code.
    pub fn report(&self) -> ExitCode {
        output::note(&self.text());
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Input(_) => 3,
            Self::Test => 4,
        })
    }
}
