//! Tests of the `signalbox` program from outside: its commands, and real programs that talk to each
//! other through it. What a test needs of the machine it asks for by name, and is skipped by name
//! where that is missing.

mod commands;
mod lab;
mod needs;
mod process;
mod programs;
