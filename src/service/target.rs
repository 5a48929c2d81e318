//! What runs the P4 of a service: the embedded switch, bmv2 as a process of ours, or a device
//! somewhere that speaks P4Runtime.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use signalbox_lower::plan::Plan;
use signalbox_p4runtime::Transport;
use signalbox_p4runtime::grpc::Grpc;
use signalbox_switch::runner::{RealClock, Runner, SwitchHandle};
use signalbox_switch::server::{Device, DeviceCounters, Options};
use signalbox_switch::{Config, Quirks, Switch};
use tokio::process::{Child, Command};

use crate::failure::Failure;

/// The device id of the targets that we start ourselves.
const DEVICE_ID: u64 = 1;

/// How long a device may take to answer at first.
const PATIENCE: Duration = Duration::from_secs(10);

/// A target as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetName {
    /// The embedded switch.
    Switch,
    /// A `simple_switch_grpc` that is started and ended with the service.
    Bmv2,
    /// A device at HOST:PORT.
    P4Runtime(String),
}

impl FromStr for TargetName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "switch" => Ok(Self::Switch),
            "bmv2" => Ok(Self::Bmv2),
            _ => match text.strip_prefix("p4runtime://") {
                Some(address)
                    if address.rsplit_once(':').is_some_and(|(host, port)| {
                        !host.is_empty() && port.parse::<u16>().is_ok()
                    }) =>
                {
                    Ok(Self::P4Runtime(address.to_owned()))
                }
                _ => Err(format!(
                    "expected `switch`, `bmv2` or `p4runtime://HOST:PORT`, found `{text}`"
                )),
            },
        }
    }
}

/// A running target.
pub struct RunningTarget {
    /// The way to it.
    pub transport: Arc<dyn Transport>,
    /// Its P4Runtime device id.
    pub device_id: u64,
    /// Its bounds and habits.
    pub habits: signalbox_agent::Target,
    embedded: Option<Embedded>,
    process: Option<Child>,
}

struct Embedded {
    device: Device,
    runner: Runner,
}

impl RunningTarget {
    /// Starts an embedded switch with a plan's ports, which are attached later.
    ///
    /// # Errors
    /// The system gives no thread.
    pub async fn of_plan(plan: &Plan) -> Result<Self, Failure> {
        let ports = plan.ports.iter().map(|port| port.number).collect();
        Self::embedded(ports, plan.cpu_port, None).await
    }

    /// Starts the embedded switch; it is to have these ports, which are attached later.
    ///
    /// # Errors
    /// The system gives no thread.
    pub async fn embedded(
        ports: Vec<u16>,
        cpu_port: u16,
        quirks: Option<Quirks>,
    ) -> Result<Self, Failure> {
        let config = Config {
            ports,
            cpu_port: Some(cpu_port),
            quirks: quirks.unwrap_or_default(),
            ..Config::default()
        };
        let runner = Runner::start(Switch::new(config), Box::new(RealClock::start()))
            .map_err(Failure::failed)?;
        let options = Options {
            device_id: DEVICE_ID,
            ..Options::default()
        };
        let device = Device::start(runner.handle(), options)
            .await
            .map_err(Failure::failed)?;
        let habits = match quirks {
            Some(_) => signalbox_agent::Target::simple_switch_grpc(),
            None => signalbox_agent::Target::switch(),
        };
        Ok(Self {
            transport: Arc::new(device.clone()),
            device_id: DEVICE_ID,
            habits,
            embedded: Some(Embedded { device, runner }),
            process: None,
        })
    }

    /// Starts `simple_switch_grpc` on these interfaces.
    ///
    /// # Errors
    /// It is not on PATH, ended at once (its last words are in the error), or did not answer in time.
    pub async fn bmv2(interfaces: &[(u16, String)], cpu_port: u16) -> Result<Self, Failure> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut command = mortal("simple_switch_grpc").ok_or_else(|| {
            Failure::Failed(
                "`simple_switch_grpc` is not on PATH; install bmv2, or use `--target switch`"
                    .to_owned(),
            )
        })?;
        command.args(["--no-p4", "--device-id", &DEVICE_ID.to_string()]);
        for (number, name) in interfaces {
            command.args(["-i", &format!("{number}@{name}")]);
        }
        // Thrift listens somewhere in any case; a port of its own keeps two of them apart.
        command.args(["--thrift-port", &free_port()?.to_string()]);
        command.args([
            "--",
            "--grpc-server-addr",
            &address,
            "--cpu-port",
            &cpu_port.to_string(),
        ]);
        let log = tempfile_for_log()?;
        let output = std::fs::File::create(&log).map_err(Failure::failed)?;
        let errors = output.try_clone().map_err(Failure::failed)?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                Failure::Failed(format!("cannot start `simple_switch_grpc`: {error}"))
            })?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let transport = loop {
            if let Some(status) = child.try_wait().map_err(Failure::failed)? {
                let words = std::fs::read_to_string(&log).unwrap_or_default();
                let last = words
                    .lines()
                    .rev()
                    .find(|line| !line.trim().is_empty())
                    .unwrap_or("it said nothing")
                    .to_owned();
                // Only a log.
                let _ = std::fs::remove_file(&log);
                return Err(Failure::Failed(format!(
                    "`simple_switch_grpc` ended at once ({status}): {last}"
                )));
            }
            match Grpc::connect(&address, None, Duration::from_secs(1)).await {
                Ok(grpc) => break grpc,
                Err(error) if tokio::time::Instant::now() > deadline => {
                    return Err(Failure::failed(error));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        // The process keeps its open file; nobody else needs the name.
        let _ = std::fs::remove_file(&log);
        Ok(Self {
            transport: Arc::new(transport),
            device_id: DEVICE_ID,
            habits: signalbox_agent::Target::simple_switch_grpc(),
            embedded: None,
            process: Some(child),
        })
    }

    /// A device that somebody else keeps running, reached in any way.
    pub fn over(
        transport: Arc<dyn Transport>,
        device_id: u64,
        habits: signalbox_agent::Target,
    ) -> Self {
        Self {
            transport,
            device_id,
            habits,
            embedded: None,
            process: None,
        }
    }

    /// Connects to a device that runs already.
    ///
    /// # Errors
    /// Nobody answers there.
    pub async fn remote(address: &str, device_id: u64) -> Result<Self, Failure> {
        let transport = Grpc::connect(address, None, PATIENCE)
            .await
            .map_err(Failure::failed)?;
        // A device may not know the call; what is not known of a device is taken to be as with bmv2.
        let server = match transport.capabilities(device_id).await {
            Ok(capabilities) => capabilities.server,
            Err(_) => None,
        };
        let habits = match server {
            Some(name) if name.starts_with("signalbox/") => signalbox_agent::Target::switch(),
            _ => signalbox_agent::Target::simple_switch_grpc(),
        };
        Ok(Self::over(Arc::new(transport), device_id, habits))
    }

    /// Whether somebody else keeps it running.
    pub fn is_remote(&self) -> bool {
        self.embedded.is_none() && self.process.is_none()
    }

    /// The way to the embedded switch, if that is the target.
    pub fn switch(&self) -> Option<SwitchHandle> {
        self.embedded
            .as_ref()
            .map(|embedded| embedded.runner.handle())
    }

    /// What the embedded switch's P4Runtime server counted.
    pub fn device_counters(&self) -> Option<DeviceCounters> {
        self.embedded
            .as_ref()
            .map(|embedded| embedded.device.counters())
    }

    /// Waits until the process of the target ends; forever for others.
    pub async fn ended(&mut self) -> String {
        match &mut self.process {
            Some(child) => match child.wait().await {
                Ok(status) => format!("`simple_switch_grpc` has ended ({status})"),
                Err(error) => format!("`simple_switch_grpc` is lost: {error}"),
            },
            None => std::future::pending().await,
        }
    }
}

/// A command for a program on PATH that ends when we do, even if we are killed: `kill_on_drop` is not
/// reached then. util-linux's setpriv asks the system for that; without it the program is started as
/// it is. The system looks at the thread that starts it, so that must be one that stays.
fn mortal(program: &str) -> Option<Command> {
    let program = on_path(program)?;
    let able = |setpriv: &PathBuf| {
        std::process::Command::new(setpriv)
            .args(["--pdeathsig", "KILL", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    Some(match on_path("setpriv").filter(able) {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL"]).arg(program);
            command
        }
        None => Command::new(program),
    })
}

/// Where a program is on PATH.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| {
            file.metadata()
                .is_ok_and(|about| about.is_file() && about.mode() & 0o111 != 0)
        })
}

fn free_port() -> Result<u16, Failure> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Failure::Failed(format!("no free TCP port on loopback: {error}")))
}

fn tempfile_for_log() -> Result<PathBuf, Failure> {
    Ok(std::env::temp_dir().join(format!(
        "signalbox-bmv2-{}-{}.log",
        std::process::id(),
        free_port()?
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_named_as_the_manual_says() {
        assert_eq!("switch".parse(), Ok(TargetName::Switch));
        assert_eq!(
            "p4runtime://[::1]:9559".parse(),
            Ok(TargetName::P4Runtime("[::1]:9559".to_owned()))
        );
        for wrong in [
            "",
            "bmv3",
            "p4runtime://",
            "p4runtime://host",
            "p4runtime://host:99999",
            "host:9559",
        ] {
            assert!(wrong.parse::<TargetName>().is_err(), "{wrong}");
        }
    }
}
