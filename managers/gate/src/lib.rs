//! The gate manager: it answers for servers until a client has shown that it may come in, opens the connection
//! to the server in the client's name, and then leaves both to the switch.
//!
//! [`Gate`] is a small TCP end as a deterministic state machine: packets and the time go in, [`Step`]s come
//! out (docs/gate.md has what passes, packet by packet). [`GateService`] makes a manager's service of it. It
//! knows nothing of other managers, and of the switch only that it adds numbers.
//!
//! [`Step`]: signalbox_manager::proxy::Step

pub mod connection;
pub mod cookie;
pub mod counts;
pub mod gate;
mod host;
pub mod learned;
pub mod leg;
pub mod look;
pub mod rtt;
pub mod rules;
pub mod seq;
mod strangers;

pub use gate::Gate;
pub use host::{GateService, Outside};

#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
