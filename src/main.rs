//! The `signalbox` program; everything is in the library, by command.

use std::process::ExitCode;

fn main() -> ExitCode {
    signalbox::command::main()
}
