//! The commands, one file each: what it takes, what it prints, how it ends.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the input is wrong, 4 a test failed.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

mod agent;
mod apply;
mod check;
mod compile;
mod demo;
mod drain;
mod flows;
mod fmt;
mod listing;
mod manager;
mod manager_stop;
mod move_part;
mod p4;
mod policy_input;
mod reports;
mod run;
mod run_ports;
mod serving;
mod status;
mod switch;
mod switch_flags;
mod switch_log;
mod test;

/// Turns a short policy file into a running network service on programmable switches.
#[derive(Debug, Parser)]
#[command(name = "signalbox", version, about)]
struct CommandLine {
    /// How errors in policies and programs are printed.
    #[arg(long, global = true, value_enum, default_value_t = ErrorFormat::Human)]
    error_format: ErrorFormat,
    #[command(subcommand)]
    command: Command,
}

/// How diagnostics are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ErrorFormat {
    /// With excerpts of the source.
    Human,
    /// A line each: FILE:LINE:COLUMN: text.
    Plain,
    /// A JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what is wrong with policies
    Check(check::Arguments),
    /// Write policies in their one form
    Fmt(fmt::Arguments),
    /// Write what a policy becomes: P4, P4Info, bmv2 JSON, plan
    Compile(compile::Arguments),
    /// Run policies' own tests
    Test(test::Arguments),
    /// Run a policy: switch, agent and managers
    Run(Box<run::Arguments>),
    /// Run a policy's agent on its target; managers are processes of their own
    Agent(Box<agent::Arguments>),
    /// Run one manager of a policy, with sessions to agents
    Manager(manager::Arguments),
    /// Bring another text of a policy into force where it runs
    Apply(apply::Arguments),
    /// Give a service, or a part of a divided one, to another manager where the policy runs
    Move(move_part::Arguments),
    /// Make a thousand TCP connections through a load balancer in this process
    Demo(demo::Arguments),
    /// Compile P4 programs
    P4(p4::Arguments),
    /// Run the embedded switch, in the place of simple_switch_grpc
    Switch(Box<switch_flags::Arguments>),
    /// Show what runs and its counters
    Status(status::Arguments),
    /// Let no new flows go to a server of a pool, or let them again
    Drain(drain::Arguments),
    /// List the flows that a running service's agent knows
    Flows(flows::Arguments),
    /// End one manager of a running service, as if it had died
    #[command(hide = true)]
    ManagerStop(manager_stop::Arguments),
}

/// Runs the command that the process's arguments name.
pub fn main() -> ExitCode {
    let line = CommandLine::parse();
    let format = line.error_format;
    log_to_stderr(&line.command);
    let result = match line.command {
        Command::Check(arguments) => check::run(&arguments, format),
        Command::Fmt(arguments) => fmt::run(&arguments, format),
        Command::Compile(arguments) => compile::run(&arguments, format),
        Command::Test(arguments) => test::run(&arguments, format),
        Command::Run(arguments) => run::run(&arguments, format),
        Command::Agent(arguments) => agent::run(&arguments, format),
        Command::Manager(arguments) => manager::run(&arguments, format),
        Command::Apply(arguments) => apply::run(&arguments, format),
        Command::Move(arguments) => move_part::run(&arguments, format),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::P4(arguments) => p4::run(&arguments, format),
        Command::Switch(arguments) => switch::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Drain(arguments) => drain::run(&arguments),
        Command::Flows(arguments) => flows::run(&arguments),
        Command::ManagerStop(arguments) => manager_stop::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Lets the parts say what an operator wants to know: a server that is down, an entry that was refused.
/// `RUST_LOG` says how much of it; by default what runs says more than what only computes.
fn log_to_stderr(command: &Command) {
    let default = match command {
        Command::Run(_) | Command::Agent(_) | Command::Manager(_) | Command::Switch(_) => {
            "warn,signalbox=info"
        }
        _ => "error",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    // Only a program that has begun to log already has another subscriber.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // It would say so on standard error, and panic where that is what has gone.
        .log_internal_errors(false)
        .try_init();
}
