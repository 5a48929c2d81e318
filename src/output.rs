//! What commands print. A reader that has seen enough (`| head`) is no failure, and never a panic.

use std::io::{self, ErrorKind, Write};

use crate::failure::Failure;

/// Prints `text` to standard output, as it is. When nobody reads any more, nothing is printed and the
/// command goes on: its exit code says what came of its work.
///
/// # Errors
/// One line when it cannot be written for another reason, a full disk for example.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::Failed(format!(
            "cannot write to standard output: {error}"
        ))),
    }
}

/// Prints `text` and the end of a line to standard output; see [`print`].
///
/// # Errors
/// As [`print`].
pub fn line(text: impl std::fmt::Display) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Prints `text` to standard error, as it is. There is nowhere to tell that it failed.
pub fn note(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints a warning to standard error, on one line.
pub fn warn(text: impl std::fmt::Display) {
    note(&format!("signalbox: warning: {text}\n"));
}
