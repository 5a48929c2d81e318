//! The command line of Signalbox, and the pieces that put switch, agent and managers together.
//!
//! This crate does the I/O: files, sockets, terminals, processes. It knows nothing of how a policy
//! is compiled, a packet is switched or a server is chosen.

pub mod command;
pub mod control;
pub mod demo;
pub mod failure;
pub mod files;
pub mod flows;
pub mod hosts;
pub mod image;
pub mod output;
pub mod service;
pub mod signals;
