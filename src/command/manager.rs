//! `signalbox manager`: one manager of a policy, with sessions to agents in other processes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Args;
use signalbox_lower::plan::Plan;
use signalbox_manager::state::{Endpoints, EtcdStore, StateStore};
use signalbox_observe::Reports;

use super::reports::ReportArgs;
use super::{ErrorFormat, policy_input};
use crate::control::{self, Server};
use crate::failure::Failure;
use crate::service::{ManagerProcess, Meeting, PeerDoor};
use crate::{image, output, signals};

/// What `manager` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The manager's name in the policy
    #[arg(value_name = "NAME")]
    name: String,
    /// The policy
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// An agent of the policy; once for each
    #[arg(long = "agent", value_name = "HOST:PORT", required = true, value_parser = address)]
    agents: Vec<String>,
    /// Where a manager with which it shares decisions comes in; an address of loopback
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Where a manager with which it shares decisions listens; once for each
    #[arg(long = "peer", value_name = "NAME=HOST:PORT", value_parser = peer)]
    peers: Vec<(String, String)>,
    /// Where `status` and `apply` ask
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// A store that the policy's managers share
    #[arg(long, value_name = "etcd://HOST:PORT[,HOST:PORT…]")]
    state: Option<Endpoints>,
    #[command(flatten)]
    reports: ReportArgs,
}

fn address(text: &str) -> Result<String, String> {
    let is_one = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if is_one {
        Ok(text.to_owned())
    } else {
        Err("expected HOST:PORT".to_owned())
    }
}

fn peer(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, at)) if !name.is_empty() && address(at).is_ok() => {
            Ok((name.to_owned(), at.to_owned()))
        }
        _ => Err("expected NAME=HOST:PORT".to_owned()),
    }
}

/// Runs until a signal ends it, or another process has taken its place.
pub fn run(arguments: &Arguments, format: ErrorFormat) -> Result<(), Failure> {
    let policy = policy_input::load(&arguments.policy, format)?;
    let mut twice = arguments.agents.clone();
    twice.sort();
    if let Some(pair) = twice.windows(2).find(|pair| pair.first() == pair.last()) {
        return Err(Failure::Usage(format!(
            "`--agent {}` is given twice",
            pair.first().map_or("", String::as_str)
        )));
    }
    let plan = image::compile(policy)?.lowered.plan;
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
    let mut reports = Reports::default();
    let result = runtime.block_on(serve(arguments, plan, &mut reports));
    // Nothing that still runs is worth waiting for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    // But what the manager was told is.
    reports.finish(Duration::from_secs(1));
    result
}

async fn serve(arguments: &Arguments, plan: Plan, reports: &mut Reports) -> Result<(), Failure> {
    let (name, policy) = (&arguments.name, plan.policy.clone());
    let path = match &arguments.control {
        Some(path) => path.clone(),
        None => control::default_path(&format!("{policy}-{name}"))?,
    };
    let meeting = Meeting {
        listen: arguments.listen,
        peers: arguments.peers.clone(),
    };
    ManagerProcess::check(&plan, name, &meeting)?;
    let door = match meeting.listen {
        Some(address) => Some(PeerDoor::open(address).await?),
        None => None,
    };
    let manager: Arc<OnceLock<ManagerProcess>> = Arc::default();
    let asked = Arc::clone(&manager);
    let _control = Server::start(&path, move |request| {
        let manager = asked.get().cloned();
        async move {
            match manager {
                Some(manager) => manager.answer(request).await,
                None => Err("the manager is still starting".to_owned()),
            }
        }
    })?;
    arguments.reports.open(&policy, reports)?;
    let store = (arguments.state.clone())
        .map(|places| EtcdStore::new(places, &format!("signalbox/{policy}/")))
        .map(|store| Arc::new(store) as Arc<dyn StateStore>);
    let (running, mut ends) = ManagerProcess::start(
        Arc::new(plan),
        name,
        &arguments.agents,
        (meeting, door),
        reports.tap(),
        store,
    )?;
    // It is set nowhere else.
    let _ = manager.set(running.clone());
    output::note(&format!(
        "signalbox {policy}: manager {name} is running; `signalbox status --control {}`\n",
        path.display()
    ));
    tokio::select! {
        ended = signals::ended() => {
            running.farewell().await;
            ended.map_err(Failure::failed)
        }
        failure = ends.recv() => {
            Err(failure.unwrap_or_else(|| Failure::Failed("the manager has stopped".to_owned())))
        }
    }
}
