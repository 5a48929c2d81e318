//! `signalbox run`: a policy as a running service: switch, agent and managers in one process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use signalbox_lower::plan::{Plan, PortPlan};
use signalbox_lower::planning::CPU_PORT;
use signalbox_switch::Quirks;
use signalbox_switch::ports::{CaptureFile, InterfacePort, PcapInput, PcapPort, Port};

use super::switch_flags::QuirksOf;
use super::{ErrorFormat, policy_input};
use crate::control::{self, Server};
use crate::failure::Failure;
use crate::image::{self, Compiled};
use crate::service::{Pipeline, RunningTarget, Service, TargetName};
use crate::{files, signals};

/// What `run` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The policy
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// The Linux interface of a port; by number or name. Ports without one are down
    #[arg(long = "port", value_name = "PORT=IFACE")]
    ports: Vec<String>,
    /// Read a port's packets from a pcap file
    #[arg(long = "pcap-in", value_name = "PORT=FILE")]
    pcap_in: Vec<String>,
    /// Write what leaves by the ports that have no interface to DIR/PORT-NAME.pcap
    #[arg(long, value_name = "DIR")]
    pcap_out: Option<PathBuf>,
    /// What runs the P4: switch, bmv2, or p4runtime://HOST:PORT
    #[arg(long, default_value = "switch", value_name = "TARGET")]
    target: TargetName,
    /// The device id at a p4runtime:// target; simple_switch_grpc's own default is 0
    #[arg(long, default_value_t = 0, value_name = "ID")]
    device_id: u64,
    /// What a p4runtime:// target takes as its device config, when that is not bmv2 JSON
    #[arg(long, value_name = "FILE", conflicts_with = "no_pipeline_push")]
    device_config: Option<PathBuf>,
    /// The pipeline is on the p4runtime:// target already
    #[arg(long)]
    no_pipeline_push: bool,
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

/// Runs until a signal ends it, or the target goes away.
pub fn run(arguments: &Arguments, format: ErrorFormat) -> Result<(), Failure> {
    let policy = policy_input::load(&arguments.policy, format)?;
    let compiled = image::compile_for(policy, arguments.cpu_port)?;
    let attached = Attached::of(arguments, &compiled.lowered.plan)?;
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
    let result = runtime.block_on(serve(arguments, compiled, attached));
    // Nothing that still runs is worth waiting for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(
    arguments: &Arguments,
    compiled: Compiled,
    attached: Attached,
) -> Result<(), Failure> {
    let plan = &compiled.lowered.plan;
    // Ports are opened before anything has begun, and attached when everything is ready.
    let ports = match &arguments.target {
        TargetName::Switch => attached.open(plan, arguments.pcap_out.as_deref())?,
        _ => Vec::new(),
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
    let pipeline = match (&arguments.device_config, arguments.no_pipeline_push) {
        (_, true) => Pipeline::Running,
        (Some(path), false) => Pipeline::Push {
            device_config: files::read_bytes(path)?,
        },
        (None, false) => Pipeline::Push {
            device_config: compiled.image.json.clone().into_bytes(),
        },
    };
    let policy = plan.policy.clone();
    let mut service = Service::start(&compiled, target, pipeline).await?;
    if arguments.target == TargetName::Switch {
        service.attach(ports)?;
    }
    let path = match &arguments.control {
        Some(path) => path.clone(),
        None => control::folder().join(format!("{policy}.sock")),
    };
    let view = service.view();
    let _control = Server::start(&path, move |request| {
        let view = view.clone();
        async move { view.answer(request).await }
    })?;
    eprintln!(
        "signalbox {policy}: running; `signalbox status --control {}`",
        path.display()
    );
    tokio::select! {
        ended = signals::ended() => ended.map_err(Failure::failed),
        failure = service.failed() => Err(failure),
    }
}

/// Open ports with their numbers.
type NumberedPorts = Vec<(u16, Box<dyn Port>)>;

/// What the command line says of the ports.
struct Attached {
    /// By port number.
    by_port: BTreeMap<u16, Source>,
}

enum Source {
    Interface(String),
    Capture(PathBuf),
}

impl Attached {
    fn of(arguments: &Arguments, plan: &Plan) -> Result<Self, Failure> {
        let mut by_port = BTreeMap::new();
        let interfaces = arguments.ports.iter().map(|text| ("--port", text));
        let captures = arguments.pcap_in.iter().map(|text| ("--pcap-in", text));
        for (flag, text) in interfaces.chain(captures) {
            let (port, what) = text
                .split_once('=')
                .filter(|(port, what)| !port.is_empty() && !what.is_empty())
                .ok_or_else(|| {
                    Failure::Usage(format!(
                        "`{flag} {text}`: expected PORT={}",
                        if flag == "--port" { "IFACE" } else { "FILE" }
                    ))
                })?;
            let number = port_number(plan, port).ok_or_else(|| {
                let known: Vec<String> = plan
                    .ports
                    .iter()
                    .map(|port| format!("{} ({})", port.number, port.name))
                    .collect();
                Failure::Usage(format!(
                    "`{flag} {text}`: the policy has no port `{port}`; it has {}",
                    known.join(", ")
                ))
            })?;
            let source = if flag == "--port" {
                Source::Interface(what.to_owned())
            } else {
                Source::Capture(PathBuf::from(what))
            };
            if by_port.insert(number, source).is_some() {
                return Err(Failure::Usage(format!("port {number} is given twice")));
            }
        }
        let remote = matches!(arguments.target, TargetName::P4Runtime(_));
        let files = !arguments.pcap_in.is_empty() || arguments.pcap_out.is_some();
        if remote && !by_port.is_empty() {
            return Err(Failure::Usage("`--port` and `--pcap-in` are for targets that are started here; a p4runtime:// target has its own ports".to_owned()));
        }
        if files && arguments.target != TargetName::Switch {
            return Err(Failure::Usage(
                "`--pcap-in` and `--pcap-out` need `--target switch`".to_owned(),
            ));
        }
        if !remote && (arguments.device_config.is_some() || arguments.no_pipeline_push) {
            return Err(Failure::Usage(
                "`--device-config` and `--no-pipeline-push` need a p4runtime:// target".to_owned(),
            ));
        }
        Ok(Self { by_port })
    }

    fn interfaces(&self) -> Vec<(u16, String)> {
        self.by_port
            .iter()
            .filter_map(|(number, source)| match source {
                Source::Interface(name) => Some((*number, name.clone())),
                Source::Capture(_) => None,
            })
            .collect()
    }

    /// Opens the ports of the embedded switch; nothing has begun if one of them fails.
    fn open(&self, plan: &Plan, pcap_out: Option<&Path>) -> Result<NumberedPorts, Failure> {
        if let Some(folder) = pcap_out {
            files::make_folder(folder)?;
        }
        let mut opened: NumberedPorts = Vec::new();
        for port in &plan.ports {
            let source = self.by_port.get(&port.number);
            if let Some(Source::Interface(name)) = source {
                let interface = InterfacePort::open(name).map_err(Failure::failed)?;
                for warning in interface.warnings() {
                    eprintln!("signalbox: warning: {warning}");
                }
                opened.push((port.number, Box::new(interface)));
                continue;
            }
            let input = match source {
                Some(Source::Capture(path)) => {
                    Some(PcapInput::open(path).map_err(Failure::failed)?)
                }
                _ => None,
            };
            let output = match pcap_out {
                Some(folder) => Some(capture(folder, port)?),
                None => None,
            };
            if input.is_none() && output.is_none() {
                eprintln!(
                    "signalbox: warning: port {} ({}) has no interface; it is down",
                    port.number, port.name
                );
                continue;
            }
            opened.push((
                port.number,
                Box::new(PcapPort::new(input, output, Box::new(since_epoch))),
            ));
        }
        Ok(opened)
    }
}

fn capture(folder: &Path, port: &PortPlan) -> Result<CaptureFile, Failure> {
    CaptureFile::create(&folder.join(format!("{}-{}.pcap", port.number, port.name)))
        .map_err(Failure::failed)
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn port_number(plan: &Plan, text: &str) -> Option<u16> {
    plan.ports
        .iter()
        .find(|port| port.name == text || text.parse() == Ok(port.number))
        .map(|port| port.number)
}
