//! What the command line of `run` or `agent` says of the policy's ports, and the ports that come of it.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use signalbox_lower::plan::{Plan, PortPlan};
use signalbox_switch::ports::{CaptureFile, InterfacePort, Link, PcapInput, PcapPort, Port};

use super::serving::Serving;
use crate::failure::Failure;
use crate::service::{Links, Replay, TargetName};
use crate::{files, output};

/// Open ports with their numbers.
pub type NumberedPorts = Vec<(u16, Box<dyn Port>)>;

/// What the command line says of the ports.
pub struct Attached {
    /// By port number.
    by_port: BTreeMap<u16, Source>,
    pcap_out: Option<PathBuf>,
}

enum Source {
    Interface(String),
    Capture(PathBuf),
}

impl Attached {
    /// Reads the arguments; nothing is opened.
    ///
    /// # Errors
    /// [`Failure::Usage`] says what does not fit the policy, the target or itself.
    pub fn of(arguments: &Serving, plan: &Plan) -> Result<Self, Failure> {
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
                let taken = by_port.iter().find_map(|(other, source)| match source {
                    Source::Interface(name) if name == what => Some(*other),
                    _ => None,
                });
                match taken {
                    // Given twice, which is said below.
                    Some(other) if other == number => {}
                    Some(other) => return Err(two_ports(what, other, number)),
                    None => {}
                }
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
        let attached = Self {
            by_port,
            pcap_out: arguments.pcap_out.clone(),
        };
        attached.outputs_are_no_inputs(plan)?;
        Ok(attached)
    }

    /// Fails if a file that is read would be written over.
    fn outputs_are_no_inputs(&self, plan: &Plan) -> Result<(), Failure> {
        let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        for port in &plan.ports {
            let Some(output) = self.output(port) else {
                continue;
            };
            let Ok(written) = output.metadata() else {
                continue;
            };
            for source in self.by_port.values() {
                if let Source::Capture(input) = source
                    && input.metadata().is_ok_and(|read| same(&read, &written))
                {
                    return Err(Failure::Usage(format!(
                        "`--pcap-out` would write over the input `{}`; give another folder",
                        input.display()
                    )));
                }
            }
        }
        Ok(())
    }

    /// Whether there comes an end of what arrives that is worth ending for: all of it is from files,
    /// and what leaves is kept.
    pub fn ends(&self) -> bool {
        let captures = |source: &Source| matches!(source, Source::Capture(_));
        self.pcap_out.is_some() && !self.by_port.is_empty() && self.by_port.values().all(captures)
    }

    /// The interfaces by port.
    pub fn interfaces(&self) -> Vec<(u16, String)> {
        self.by_port
            .iter()
            .filter_map(|(number, source)| match source {
                Source::Interface(name) => Some((*number, name.clone())),
                Source::Capture(_) => None,
            })
            .collect()
    }

    /// The same, to be watched.
    ///
    /// # Errors
    /// One is missing, or two names are those of one.
    pub fn links(&self) -> Result<Links, Failure> {
        let mut links: BTreeMap<u16, Link> = BTreeMap::new();
        for (number, name) in self.interfaces() {
            let link = Link::of(&name).map_err(Failure::failed)?;
            if let Some((other, _)) = links.iter().find(|(_, other)| other.is_same(&link)) {
                return Err(two_ports(&name, *other, number));
            }
            links.insert(number, link);
        }
        Ok(Links::new(links))
    }

    /// Where what leaves by a port is written.
    fn output(&self, port: &PortPlan) -> Option<PathBuf> {
        if let Some(Source::Interface(_)) = self.by_port.get(&port.number) {
            return None;
        }
        let file = format!("{}-{}.pcap", port.number, port.name);
        Some(self.pcap_out.as_ref()?.join(file))
    }

    /// Opens the ports of the embedded switch, and what is to arrive at them from files. Inputs and
    /// interfaces come first: nothing is written if one of them cannot be opened.
    ///
    /// # Errors
    /// One line says what cannot be opened.
    pub fn open(&self, plan: &Plan) -> Result<(NumberedPorts, Replay), Failure> {
        let mut opened: NumberedPorts = Vec::new();
        let mut inputs: BTreeMap<u16, PcapInput> = BTreeMap::new();
        for (number, source) in &self.by_port {
            match source {
                Source::Interface(name) => {
                    let interface = InterfacePort::open(name).map_err(Failure::failed)?;
                    for warning in interface.warnings() {
                        output::warn(warning);
                    }
                    opened.push((*number, Box::new(interface)));
                }
                Source::Capture(path) => {
                    inputs.insert(*number, PcapInput::open(path).map_err(Failure::failed)?);
                }
            }
        }
        if let Some(folder) = &self.pcap_out {
            files::make_folder(folder)?;
        }
        let mut replay = Replay::default();
        for port in &plan.ports {
            if let Some(Source::Interface(_)) = self.by_port.get(&port.number) {
                continue;
            }
            let input = inputs.remove(&port.number);
            let output = match self.output(port) {
                Some(path) => Some(CaptureFile::create(&path).map_err(Failure::failed)?),
                None => None,
            };
            if input.is_none() && output.is_none() {
                output::warn(format_args!(
                    "port {} ({}) has no interface; it is down",
                    port.number, port.name
                ));
                continue;
            }
            let files = PcapPort::new(None, output, Box::new(since_epoch));
            let port_of_files: Box<dyn Port> = match input {
                Some(input) => replay.add(port.number, input, files),
                None => Box::new(files),
            };
            opened.push((port.number, port_of_files));
        }
        Ok((opened, replay))
    }
}

fn two_ports(interface: &str, one: u16, other: u16) -> Failure {
    Failure::Usage(format!(
        "interface `{interface}` is given to two ports, {one} and {other}; each needs its own"
    ))
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
