//! The demo: real TCP connections from hosts in memory through a running service, and what came of
//! them.
//!
//! It is given a switch's ports and a view of the service behind it; how these are started, and how
//! the report is asked for, is the command's business.

mod cast;
mod latency;
mod report;
mod segment;
mod steps;
mod traffic;

use std::time::Duration;

use signalbox_switch::runner::Stopped;

use crate::hosts::HostError;

pub use report::{FirstPacket, Report, ServerShare, TracedStep};
pub use traffic::run;

/// What the manager of a service has met since the service started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ManagerTraffic {
    /// First packets of flows that the manager was asked about: one a flow.
    pub interest_packets: u64,
    /// Questions about a flow's first packet that it had answered before: the agent asks again when
    /// an answer is late, and clients repeat their SYN.
    pub repeated_interest_packets: u64,
    /// Packets of flows that had been decided on, and still reached the agent.
    pub established_packets: u64,
}

/// What the demo wants to know of the service that it sends traffic through.
pub trait ServiceView {
    /// True when the pipeline is ready, the criteria are in, and every server has passed its check.
    fn is_ready(&self) -> bool;
    /// What the manager has met so far; called when no connection is under way.
    fn manager_traffic(&self) -> ManagerTraffic;
}

/// How much traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Connections in all.
    pub connections: u32,
    /// Connections that are under way at one time, at most; the clients share them.
    pub at_once: u32,
    /// Client hosts, 1 to 100.
    pub clients: u8,
    /// The size of the page that every server answers with, in bytes.
    pub page: usize,
    /// How long to wait for the service, and then for all connections.
    pub limit: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections: 1_000,
            at_once: 64,
            clients: 4,
            page: 4_096,
            limit: Duration::from_secs(60),
        }
    }
}

/// Why the demo could not be run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The policy balances nothing.
    #[error("the policy has no balance service with an address and a port to connect to")]
    NoService,
    /// A server or client has no place.
    #[error("no port of the policy leads to {0}")]
    NoPort(String),
    /// A host could not be made or used.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The switch has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The service did not get ready.
    #[error("the service was not ready after {0} s")]
    NotReady(u64),
}
