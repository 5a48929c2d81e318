//! Small hosts in memory: real TCP, UDP and ICMP end points (smoltcp) on the ports of a switch.
//!
//! The demo and the tests without root use them in place of machines. They know Ethernet and IP
//! and nothing of switches, policies or agents: a [`Network`] joins them to switch ports by two
//! functions. Time is handed in, so that a run can be repeated.

mod capture;
mod client;
mod device;
mod echo;
mod faults;
mod host;
mod network;
mod server;

pub use capture::Capture;
pub use client::{ConnectionId, Ending, Finished};
pub use echo::{Datagram, Pong};
pub use faults::Faults;
pub use host::{Host, HostError};
pub use network::{Arrival, Arrivals, HostIndex, Network, Watched};
pub use server::{Page, ServerCounters, ServerId, Speaks};

#[cfg(test)]
mod tests;
