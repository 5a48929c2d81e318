//! `signalbox drain`: lets no new flows go to a server of a pool, while old ones live on; or lets them again.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::control::{self, Request};
use crate::failure::Failure;
use crate::output;

/// What `drain` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The pool's name in the policy
    pool: String,
    /// The server, by its name or as ADDRESS:PORT
    server: String,
    /// Let new flows go there again
    #[arg(long)]
    undo: bool,
    /// A control socket of the policy's `run` or `manager`; once for each. Without it, all that run here
    #[arg(long, value_name = "PATH")]
    control: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Asks all managers, whether they decide or stand by, and fails if none of them chooses from that pool.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (pool, server) = (&arguments.pool, &arguments.server);
    let request = Request::Drain {
        pool: pool.clone(),
        server: server.clone(),
        drained: !arguments.undo,
    };
    let mut services = 0;
    for path in control::find_all(&arguments.control)? {
        let answer = control::ask(&path, &request)?;
        services += answer.get("services").and_then(Value::as_u64).unwrap_or(0);
    }
    if services == 0 {
        return Err(Failure::Failed(format!(
            "no manager that was asked chooses from a pool `{pool}`; ask them all, with `--control PATH` for each"
        )));
    }
    if arguments.json {
        return output::line(json!({ "services": services }));
    }
    output::line(if arguments.undo {
        format!("{server} of {pool} gets new flows again")
    } else {
        format!(
            "{server} of {pool} gets no new flows until `--undo`, or until its manager starts anew; \
             `signalbox status` shows how many old ones are left"
        )
    })
}
