//! The `signalbox` program; everything is in the library, by command.

use std::process::ExitCode;

/// A flow is made by one thread and forgotten by another, which glibc's allocator is slow at: with it a
/// flow's set-up through a cascade takes 1.9 times as long.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    signalbox::command::main()
}
