//! The command line of Signalbox.
fn main() {}
