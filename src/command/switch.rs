//! `signalbox switch`: the embedded switch as a program of its own, with P4Runtime, in the place of
//! simple_switch_grpc.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use signalbox_switch::dataplane::Dataplane;
use signalbox_switch::ports::{
    CaptureFile, Direction, InterfacePort, PcapInput, PcapPort, Port, TapPort,
};
use signalbox_switch::runner::{RealClock, Runner};
use signalbox_switch::server::{Device, ListenOptions, TlsFiles, listen};
use signalbox_switch::{Config, Pipeline, Quirks, Switch};

use super::switch_flags::{Arguments, Flags, LogLevel, QuirksOf};
use super::switch_log::{Log, TraceFile, watch};
use crate::failure::Failure;
use crate::files;
use crate::signals;

/// The newest bmv2 JSON format version that the switch loads.
const JSON_VERSION: &str = "2.23";

/// Runs until a signal ends it.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.json_version {
        println!("{JSON_VERSION}");
        return Ok(());
    }
    if arguments.version {
        println!(env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    let flags = arguments.check()?;
    captures_elsewhere(arguments)?;
    for warning in &flags.warnings {
        eprintln!("signalbox: warning: {warning}");
    }
    let pipeline = match &arguments.program {
        Some(path) => Some(load(path)?),
        None => None,
    };
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
    runtime.block_on(serve(arguments, &flags, pipeline))
}

fn load(path: &Path) -> Result<Pipeline, Failure> {
    let text = files::read_text(path)?;
    Pipeline::parse(&text)
        .map_err(|error| Failure::Input(format!("signalbox: `{}`: {error}", path.display())))
}

/// The switch's settings as the flags have them.
fn config(arguments: &Arguments, flags: &Flags) -> Config {
    let mut ports: Vec<u16> = arguments.interfaces.iter().map(|(port, _)| *port).collect();
    ports.sort_unstable();
    Config {
        ports,
        drop_port: flags.target.drop_port,
        cpu_port: flags.target.cpu_port,
        priority_queues: flags.target.priority_queues,
        quirks: match arguments.quirks {
            Some(QuirksOf::SimpleSwitchGrpc) => Quirks::simple_switch_grpc(),
            None => Quirks::default(),
        },
        ..Config::default()
    }
}

/// Refuses to write captures over the files that packets are read from.
fn captures_elsewhere(arguments: &Arguments) -> Result<(), Failure> {
    let (Some(_), Some(folder)) = (arguments.use_files, &arguments.pcap) else {
        return Ok(());
    };
    for (_, name) in &arguments.interfaces {
        let read = format!("{name}_in.pcap");
        let written = folder.join(&read);
        let same = match (Path::new(&read).canonicalize(), written.canonicalize()) {
            (Ok(read), Ok(written)) => read == written,
            _ => false,
        };
        if same {
            return Err(Failure::Usage(format!(
                "`--pcap` would write over `{read}`, which `--use-files` reads: name another folder"
            )));
        }
    }
    Ok(())
}

async fn serve(
    arguments: &Arguments,
    flags: &Flags,
    pipeline: Option<Pipeline>,
) -> Result<(), Failure> {
    let mut switch = Switch::new(config(arguments, flags));
    if let Some(pipeline) = pipeline {
        switch.swap(pipeline);
    }
    // Interfaces are opened first: when one is missing, nothing has begun.
    let log = Log::open(arguments)?;
    let trace = TraceFile::open(arguments)?;
    let mut ports = Vec::new();
    if arguments.use_files.is_none() && flags.dataplane.is_none() {
        for (number, name) in &arguments.interfaces {
            let port = InterfacePort::open(name).map_err(Failure::failed)?;
            for warning in port.warnings() {
                eprintln!("signalbox: warning: {warning}");
            }
            ports.push((
                *number,
                watched(Box::new(port), *number, name, arguments, &log)?,
            ));
        }
    }
    let runner = Runner::start(switch, Box::new(RealClock::start())).map_err(Failure::failed)?;
    let handle = runner.handle();
    let options = signalbox_switch::server::Options {
        device_id: arguments.device_id,
        ..signalbox_switch::server::Options::default()
    };
    let device = Device::start(handle.clone(), options)
        .await
        .map_err(Failure::failed)?;
    let tls = match (
        &flags.target.grpc_server_cert,
        &flags.target.grpc_server_key,
    ) {
        (Some(certificate), Some(key)) if flags.target.grpc_server_ssl => Some(TlsFiles {
            certificate: certificate.clone(),
            key: key.clone(),
            ca_certificate: flags.target.grpc_server_cacert.clone(),
            client_auth: flags.target.grpc_server_with_client_auth,
        }),
        _ => None,
    };
    let listening = listen(
        device.clone(),
        None,
        ListenOptions {
            address: flags.grpc,
            tls,
            exposed: false,
        },
    )
    .await
    .map_err(Failure::failed)?;
    let _dataplane = match flags.dataplane {
        Some(address) => {
            let reserved = [
                flags.target.drop_port,
                flags.target.cpu_port.unwrap_or(flags.target.drop_port),
            ];
            let numbers = (0..=511).filter(|number| !reserved.contains(number));
            let dataplane = Dataplane::attach(handle.clone(), arguments.device_id, numbers)
                .map_err(Failure::failed)?;
            let options = ListenOptions {
                address,
                tls: None,
                exposed: false,
            };
            Some(
                listen(device, Some(dataplane), options)
                    .await
                    .map_err(Failure::failed)?,
            )
        }
        None => None,
    };
    watch(&handle, log.traces(arguments.log_level), trace)?;
    handle.add_ports(ports).map_err(Failure::failed)?;
    eprintln!("signalbox: P4Runtime at {}", listening.address());
    if let Some(seconds) = arguments.use_files {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let mut files = Vec::new();
        for (number, name) in &arguments.interfaces {
            let input =
                PcapInput::open(Path::new(&format!("{name}_in.pcap"))).map_err(Failure::failed)?;
            let output = CaptureFile::create(Path::new(&format!("{name}_out.pcap")))
                .map_err(Failure::failed)?;
            let port = PcapPort::new(Some(input), Some(output), Box::new(since_epoch));
            files.push((
                *number,
                watched(Box::new(port), *number, name, arguments, &log)?,
            ));
        }
        // Together: what one file's packets cause goes to the others, and none must be missing.
        handle.add_ports(files).map_err(Failure::failed)?;
    }
    signals::ended().await.map_err(Failure::failed)
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// The port with what `--pcap` and `--dump-packet-data` want to see.
fn watched(
    port: Box<dyn Port>,
    number: u16,
    name: &str,
    arguments: &Arguments,
    log: &Log,
) -> Result<Box<dyn Port>, Failure> {
    let mut port = port;
    if let Some(folder) = &arguments.pcap {
        let mut input = CaptureFile::create(&folder.join(format!("{name}_in.pcap")))
            .map_err(Failure::failed)?;
        let mut output = CaptureFile::create(&folder.join(format!("{name}_out.pcap")))
            .map_err(Failure::failed)?;
        port = Box::new(TapPort::new(port, move |direction, packet: &[u8]| {
            let file = match direction {
                Direction::In => &mut input,
                Direction::Out => &mut output,
            };
            // Written out at once, as bmv2 does: whoever reads along wants to see it. A full disk
            // must not stop the switch.
            let _ = file
                .write(since_epoch(), packet)
                .and_then(|()| file.flush());
        }));
    }
    if arguments.dump_packet_data > 0 && arguments.log_level >= LogLevel::Info {
        let log = log.clone();
        let most = arguments.dump_packet_data;
        port = Box::new(TapPort::new(port, move |direction, packet: &[u8]| {
            let way = match direction {
                Direction::In => "received",
                Direction::Out => "sent",
            };
            let hex: String = packet
                .iter()
                .take(most)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            log.line(&format!(
                "port {number}: {way} {} bytes: {hex}",
                packet.len()
            ));
        }));
    }
    Ok(port)
}
