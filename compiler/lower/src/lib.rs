//! Checked policy to P4 text and plan.
//!
//! [`lower`] is pure: the same policy gives the same bytes. It writes a short program that instantiates
//! the controls of p4/lib in cascade order, and says in a [`Plan`] what the program's tables are to
//! hold. It does not know how P4 is parsed or run, nor who writes the entries.

pub mod cubes;
pub mod diff;
pub mod entries;
pub mod library;
pub mod names;
pub mod plan;
pub mod planning;
pub mod program;

use std::collections::BTreeMap;

use plan::Plan;
use signalbox_policy::model::Policy;

/// A policy as a program and what to install in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lowered {
    /// The main program's text; it includes the files of `sources`, and core.p4 and v1model.p4.
    pub p4: String,
    /// File name to text of what the program includes, without core.p4 and v1model.p4.
    pub sources: BTreeMap<String, String>,
    /// What the program's tables are to hold.
    pub plan: Plan,
}

/// Why a checked policy cannot be lowered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// A balance service names a pool that is not there: the policy was not checked.
    #[error("service `{service}` picks from a pool that does not exist")]
    NoPool {
        /// The service.
        service: String,
    },
    /// The target's CPU port is one of the policy's ports.
    #[error("the CPU port cannot be {port}: the policy's port `{name}` has that number")]
    CpuPortTaken {
        /// The CPU port.
        port: u16,
        /// The policy's port.
        name: String,
    },
    /// v1model has no such port.
    #[error("the CPU port cannot be {port}: expected 1 to {}", planning::LAST_PORT)]
    CpuPortRange {
        /// The CPU port.
        port: u16,
    },
    /// The agent has no room to answer for so many addresses.
    #[error(
        "the switch and its services have addresses that need {needed} entries of `{table}`; at most {limit} are possible: use ranges that are whole prefixes"
    )]
    TooManyAddresses {
        /// The table.
        table: &'static str,
        /// Entries that they come to.
        needed: usize,
        /// The bound.
        limit: usize,
    },
    /// More criteria than a table can be made for.
    #[error("service `{service}` needs {needed} ternary entries; at most {limit} are possible")]
    TooManyEntries {
        /// The service.
        service: String,
        /// Entries that its criteria and floor come to.
        needed: usize,
        /// The bound.
        limit: usize,
    },
}

/// Turns a checked policy into a P4 program and its plan, for a target whose CPU port is 510.
///
/// # Errors
/// What the pipeline cannot match, or has no room for; see [`LowerError`].
pub fn lower(policy: &Policy) -> Result<Lowered, LowerError> {
    lower_for(policy, planning::CPU_PORT)
}

/// The same for a target with that CPU port, 1 to 510.
///
/// # Errors
/// As [`lower`]; and when one of the policy's ports has that number.
pub fn lower_for(policy: &Policy, cpu_port: u16) -> Result<Lowered, LowerError> {
    let mut plan = planning::plan(policy, cpu_port)?;
    entries::check_room(&plan)?;
    let sources = library::sources(&plan);
    let (p4, program_id) = program::write(policy, &plan, &sources);
    plan.program_id = program_id;
    Ok(Lowered { p4, sources, plan })
}

#[cfg(test)]
mod tests;
