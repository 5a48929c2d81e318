//! What `run` and `agent` have in common: a target with its ports, an agent on it, a control socket, and
//! staying until there is a reason to end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Args;
use signalbox_lower::planning::CPU_PORT;
use signalbox_observe::Reports;
use signalbox_switch::Quirks;

use super::reports::ReportArgs;
use super::run_ports::Attached;
use super::switch_flags::QuirksOf;
use super::{ErrorFormat, policy_input};
use crate::control::{self, Server};
use crate::failure::Failure;
use crate::image::{self, Compiled};
use crate::service::{Door, Pipeline, Replay, RunningTarget, Service, TargetName, View};
use crate::{files, output, signals};

/// What both take.
#[derive(Debug, Args)]
pub struct Serving {
    /// The policy
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// The Linux interface of a port; by number or name. Ports without one are down
    #[arg(long = "port", value_name = "PORT=IFACE")]
    pub ports: Vec<String>,
    /// Read a port's packets from a pcap file
    #[arg(long = "pcap-in", value_name = "PORT=FILE")]
    pub pcap_in: Vec<String>,
    /// Write what leaves by the ports that have no interface to DIR/PORT-NAME.pcap
    #[arg(long, value_name = "DIR")]
    pub pcap_out: Option<PathBuf>,
    /// What runs the P4: switch, bmv2, or p4runtime://HOST:PORT
    #[arg(long, default_value = "switch", value_name = "TARGET")]
    pub target: TargetName,
    /// The device id at a p4runtime:// target; simple_switch_grpc's own default is 0
    #[arg(long, default_value_t = 0, value_name = "ID")]
    device_id: u64,
    /// What a p4runtime:// target takes as its device config, when that is not bmv2 JSON
    #[arg(long, value_name = "FILE", conflicts_with = "no_pipeline_push")]
    pub device_config: Option<PathBuf>,
    /// The pipeline is on the p4runtime:// target already
    #[arg(long)]
    pub no_pipeline_push: bool,
    /// The target's port that leads to the agent, 1 to 510
    #[arg(long, value_name = "PORT", default_value_t = CPU_PORT)]
    cpu_port: u16,
    /// Let the embedded switch behave as this target does, limits included
    #[arg(long, value_enum, value_name = "TARGET")]
    quirks: Option<QuirksOf>,
    /// Where `status` and `flows` ask
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
}

/// An agent that runs without managers.
#[derive(Debug)]
pub struct Alone<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where managers come in.
    pub listen: SocketAddr,
}

/// Runs until a signal ends it, the target goes away, or all of the input has been read. With `alone` the
/// managers are somewhere else.
pub fn run(
    arguments: &Serving,
    alone: Option<&Alone<'_>>,
    reported: Option<&ReportArgs>,
    format: ErrorFormat,
) -> Result<(), Failure> {
    let policy = policy_input::load(&arguments.policy, format)?;
    let compiled = image::compile_for(policy, arguments.cpu_port)?;
    let attached = Attached::of(arguments, &compiled.lowered.plan)?;
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
    let mut reports = Reports::default();
    let going = (reported, &mut reports);
    let result = runtime.block_on(serve(arguments, alone, compiled, attached, going));
    // Nothing that still runs is worth waiting for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    // But what the managers were told is.
    reports.finish(Duration::from_secs(1));
    result
}

async fn serve(
    arguments: &Serving,
    alone: Option<&Alone<'_>>,
    compiled: Compiled,
    attached: Attached,
    (reported, reports): (Option<&ReportArgs>, &mut Reports),
) -> Result<(), Failure> {
    let plan = &compiled.lowered.plan;
    let policy = plan.policy.clone();
    // First of all, so that a second `run` of the policy is refused before it has touched anything:
    // interfaces, captures, or the target, whose one writer it would become.
    let path = match &arguments.control {
        Some(path) => path.clone(),
        None => match alone {
            Some(alone) => control::default_path(&format!("{policy}-{}", alone.name))?,
            None => control::default_path(&policy)?,
        },
    };
    let running: Arc<OnceLock<View>> = Arc::default();
    let asked = Arc::clone(&running);
    let _control = Server::start(&path, move |request| {
        let view = asked.get().cloned();
        async move {
            match view {
                Some(view) => view.answer(request).await,
                None => Err("the service is still starting".to_owned()),
            }
        }
    })?;
    if let Some(reported) = reported {
        reported.open(&policy, reports)?;
    }
    // A port that is taken is found before the target has been touched.
    let door = match alone {
        Some(alone) => Some(Door::open(alone.listen).await?),
        None => None,
    };
    // Ports are opened before anything has begun, and attached when everything is ready.
    let links = attached.links()?;
    let (ports, replay) = match &arguments.target {
        TargetName::Switch => attached.open(plan)?,
        _ => (Vec::new(), Replay::default()),
    };
    for warning in links.warnings() {
        output::warn(warning);
    }
    let pipeline = match (&arguments.device_config, arguments.no_pipeline_push) {
        (_, true) => Pipeline::Running,
        (Some(path), false) => Pipeline::Push {
            device_config: files::read_bytes(path)?,
        },
        (None, false) => compiled.pipeline(),
    };
    let target = match &arguments.target {
        TargetName::Switch => {
            let numbers = ports.iter().map(|(number, _)| *number).collect();
            let quirks = arguments
                .quirks
                .map(|QuirksOf::SimpleSwitchGrpc| Quirks::simple_switch_grpc());
            RunningTarget::embedded(numbers, plan.cpu_port, quirks).await?
        }
        TargetName::Bmv2 => RunningTarget::bmv2(&attached.interfaces(), plan.cpu_port).await?,
        TargetName::P4Runtime(address) => {
            RunningTarget::remote(address, arguments.device_id).await?
        }
    };
    let plan = Arc::new(plan.clone());
    let mut service = match alone {
        Some(alone) => Service::start_agent(alone.name, plan, &compiled, target, pipeline).await?,
        None => Service::start_reporting(&compiled, target, pipeline, reports).await?,
    };
    let listening = door.as_ref().map(Door::address);
    if let Some(door) = door {
        service.let_in(door);
    }
    service.watch(links);
    if arguments.target == TargetName::Switch {
        service.attach(ports)?;
    }
    let view = service.view();
    // It is set nowhere else.
    let _ = running.set(view.clone());
    let path = path.display();
    output::note(&match (alone, listening) {
        (Some(Alone { name, .. }), Some(at)) => format!(
            "signalbox {policy}: agent {name} is running, managers come in at {at}; `signalbox status --control {path}`\n"
        ),
        _ => format!("signalbox {policy}: running; `signalbox status --control {path}`\n"),
    });
    tokio::select! {
        ended = signals::ended() => ended.map_err(Failure::failed),
        failure = service.failed() => Err(failure),
        result = replayed(replay, view, attached.ends()) => result,
    }
}

/// Lets the inputs arrive. Comes back only if `run` is to end with them.
async fn replayed(replay: Replay, view: View, ends: bool) -> Result<(), Failure> {
    if !replay.is_empty() {
        let result = replay.run(view.clone()).await;
        if ends {
            result?;
            return all_written(&view).await;
        }
        // What could not be read has been said; that the service ends is seen elsewhere.
    }
    std::future::pending().await
}

/// Fails if something that left by a port is not in its file, because the disk is full for example.
async fn all_written(view: &View) -> Result<(), Failure> {
    let Some(switch) = view.switch() else {
        return Ok(());
    };
    let (ports, _) = switch.port_counters().await.map_err(Failure::failed)?;
    match ports.values().map(|port| port.send_failed).sum::<u64>() {
        0 => Ok(()),
        lost => Err(Failure::Failed(format!(
            "{lost} packets could not be written to the folder of `--pcap-out`"
        ))),
    }
}
