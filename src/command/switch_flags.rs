//! The flags of `signalbox switch`: those of simple_switch_grpc, and ours.
//!
//! General options come first, target options after `--`, as in bmv2. What simple_switch_grpc can do
//! and this switch cannot is an error that says so; what only has no meaning here is a warning.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};

use crate::failure::Failure;

/// The general options.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A bmv2 JSON to start with
    #[arg(value_name = "JSON")]
    pub program: Option<PathBuf>,
    /// Attach interface IFACE as port PORT; can appear several times
    #[arg(short = 'i', long = "interface", value_name = "PORT@IFACE", value_parser = parse_interface)]
    pub interfaces: Vec<(u16, String)>,
    /// Write what passes each interface to IFACE_in.pcap and IFACE_out.pcap in DIR
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = ".")]
    pub pcap: Option<PathBuf>,
    /// Read packets from IFACE_in.pcap and write them to IFACE_out.pcap, after SECONDS
    #[arg(long, value_name = "SECONDS")]
    pub use_files: Option<u64>,
    /// Taken and ignored: there is no Thrift server here
    #[arg(long, value_name = "PORT")]
    pub thrift_port: Option<u16>,
    /// The device id of P4Runtime
    #[arg(long, default_value_t = 0, value_name = "ID")]
    pub device_id: u64,
    /// Not supported: there are no nanomsg events
    #[arg(long, value_name = "SOCKET", hide = true)]
    pub nanolog: Option<String>,
    /// Log to standard output
    #[arg(long)]
    pub log_console: bool,
    /// Log to FILE
    #[arg(long, value_name = "FILE", conflicts_with = "log_console")]
    pub log_file: Option<PathBuf>,
    /// The least severe messages logged; `trace` has each packet's way through the pipeline
    #[arg(short = 'L', long, value_enum, default_value_t = LogLevel::Trace)]
    pub log_level: LogLevel,
    /// Write the log out after each message
    #[arg(long)]
    pub log_flush: bool,
    /// Taken and ignored: the log is one file, which grows
    #[arg(long, value_name = "BYTES")]
    pub log_file_max_size: Option<u64>,
    /// Taken and ignored: the log is one file, which grows
    #[arg(long, value_name = "COUNT")]
    pub log_file_max_files: Option<u64>,
    /// Taken and ignored: learning and ageing are told over P4Runtime
    #[arg(long, value_name = "SOCKET")]
    pub notifications_addr: Option<String>,
    /// Not supported: packets come by interfaces, files, or the DataplaneInterface
    #[arg(long, value_name = "SOCKET", hide = true)]
    pub packet_in: Option<String>,
    /// Write each packet's way through the pipeline to standard output: `text`, or `json`, an object a line
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub trace: Option<TraceFormat>,
    /// Write the traces to FILE instead
    #[arg(long, value_name = "FILE", requires = "trace")]
    pub trace_file: Option<PathBuf>,
    /// Not supported: state is not restored
    #[arg(long, value_name = "FILE", hide = true)]
    pub restore_state: Option<PathBuf>,
    /// Log this many bytes of each packet that arrives or leaves
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    pub dump_packet_data: usize,
    /// Print the newest bmv2 JSON format version that is understood, and end
    #[arg(long)]
    pub json_version: bool,
    /// Print the version, and end
    #[arg(short = 'v', long)]
    pub version: bool,
    /// Start without a program; a P4Runtime client brings one
    #[arg(long)]
    pub no_p4: bool,
    /// The most interfaces that can be attached
    #[arg(long, default_value_t = 512, value_name = "COUNT")]
    pub max_port_count: usize,
    /// Behave as this target does, limits included
    #[arg(long, value_enum, value_name = "TARGET")]
    pub quirks: Option<QuirksOf>,
    /// Target options: `-- --grpc-server-addr 127.0.0.1:9559 --cpu-port 510`; `-- --help` lists them
    #[arg(last = true, value_name = "TARGET OPTIONS")]
    pub target: Vec<String>,
}

/// A target whose limits can be reproduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum QuirksOf {
    /// bmv2's simple_switch_grpc
    #[value(name = "simple_switch_grpc")]
    SimpleSwitchGrpc,
}

/// How traces are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TraceFormat {
    /// For people.
    Text,
    /// One object a packet and line.
    Json,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// What a user should look at.
    Warn,
    /// What began and ended.
    Info,
    /// More.
    Debug,
    /// Each packet's way.
    Trace,
}

/// The target options, after `--`.
#[derive(Debug, Parser, Default)]
#[command(name = "signalbox switch … --", no_binary_name = true)]
pub struct TargetOptions {
    /// Not supported: modules of other programs cannot be loaded
    #[arg(long, value_name = "FILES", hide = true)]
    load_modules: Option<String>,
    /// Not supported: programs can always be replaced
    #[arg(long, hide = true)]
    disable_swap: bool,
    /// Where the P4Runtime server listens; beyond loopback only with --grpc-server-ssl
    #[arg(long, value_name = "ADDRESS:PORT")]
    grpc_server_addr: Option<String>,
    /// TLS for the P4Runtime server
    #[arg(long, requires = "grpc_server_cert", requires = "grpc_server_key")]
    pub grpc_server_ssl: bool,
    /// The authority that clients' certificates are checked against (PEM)
    #[arg(long, value_name = "FILE")]
    pub grpc_server_cacert: Option<PathBuf>,
    /// The server's certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub grpc_server_cert: Option<PathBuf>,
    /// The server's key (PEM)
    #[arg(long, value_name = "FILE")]
    pub grpc_server_key: Option<PathBuf>,
    /// Clients must show a certificate
    #[arg(long, requires = "grpc_server_cacert")]
    pub grpc_server_with_client_auth: bool,
    /// The port of packet-in and packet-out, 1 to 511; none without it
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=511))]
    pub cpu_port: Option<u16>,
    /// The value of egress_spec that drops
    #[arg(long, value_name = "PORT", default_value_t = 511, value_parser = clap::value_parser!(u16).range(0..=511))]
    pub drop_port: u16,
    /// Where the DataplaneInterface server listens, by which packets come and go without interfaces
    #[arg(long, value_name = "ADDRESS:PORT")]
    dp_grpc_server_addr: Option<String>,
    /// Priority queues of a port
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub priority_queues: u16,
    /// Taken and ignored: groups are not bounded here
    #[arg(long, value_name = "COUNT")]
    max_mc_groups: Option<u32>,
    /// Taken and ignored
    #[arg(long, value_name = "COUNT")]
    max_l1_entries: Option<u32>,
    /// Taken and ignored
    #[arg(long, value_name = "COUNT")]
    max_l2_entries: Option<u32>,
}

/// Everything that was asked for, checked.
#[derive(Debug)]
pub struct Flags {
    /// Where the P4Runtime server listens.
    pub grpc: SocketAddr,
    /// Where the DataplaneInterface server listens.
    pub dataplane: Option<SocketAddr>,
    /// The target options.
    pub target: TargetOptions,
    /// What to tell the user before the start.
    pub warnings: Vec<String>,
}

fn parse_interface(text: &str) -> Result<(u16, String), String> {
    let (port, name) = text
        .split_once('@')
        .ok_or("expected PORT@IFACE, as in 1@eth1")?;
    let port: u16 = port
        .parse()
        .map_err(|_| format!("`{port}` is not a port number"))?;
    if name.is_empty() {
        return Err("the interface's name is missing after `@`".to_owned());
    }
    if port > 511 {
        return Err(format!(
            "port {port} does not fit the 9 bits of a v1model port (0 to 511)"
        ));
    }
    Ok((port, name.to_owned()))
}

/// Reads `ADDRESS:PORT`. Without keys an address beyond loopback is narrowed to loopback, and said so.
fn listen_address(
    option: &str,
    text: &str,
    secured: bool,
    warnings: &mut Vec<String>,
) -> Result<SocketAddr, Failure> {
    let text = text.strip_prefix("tcp://").unwrap_or(text);
    let named = text
        .strip_prefix("localhost:")
        .map(|port| format!("127.0.0.1:{port}"));
    let address: SocketAddr = named.as_deref().unwrap_or(text).parse().map_err(|_| {
        Failure::Usage(format!(
            "`{option} {text}`: expected ADDRESS:PORT, as in 127.0.0.1:9559"
        ))
    })?;
    if secured || address.ip().is_loopback() {
        return Ok(address);
    }
    let loopback = match address.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    let narrowed = SocketAddr::new(loopback, address.port());
    if !address.ip().is_unspecified() {
        return Err(Failure::Usage(format!(
            "`{option} {address}`: without keys nothing listens beyond loopback; use {narrowed}, or give --grpc-server-ssl with --grpc-server-cert and --grpc-server-key"
        )));
    }
    warnings.push(format!("`{option} {address}`: listening at {narrowed} only, since there are no keys (--grpc-server-ssl)"));
    Ok(narrowed)
}

impl Arguments {
    /// Checks the flags and parses the target options.
    ///
    /// # Errors
    /// One line that names the flag; clap's own text for the target options.
    pub fn check(&self) -> Result<Flags, Failure> {
        let target =
            TargetOptions::try_parse_from(&self.target).unwrap_or_else(|error| error.exit());
        let absent = [
            (
                "--restore-state",
                self.restore_state.is_some(),
                "state cannot be restored from a file",
            ),
            (
                "--nanolog",
                self.nanolog.is_some(),
                "there are no nanomsg events; packet traces come by `-L trace`",
            ),
            (
                "--packet-in",
                self.packet_in.is_some(),
                "packets come by interfaces, by `--use-files`, or by `-- --dp-grpc-server-addr`",
            ),
            (
                "--disable-swap",
                target.disable_swap,
                "a P4Runtime client can always bring another program",
            ),
            (
                "--load-modules",
                target.load_modules.is_some(),
                "modules cannot be loaded",
            ),
        ];
        if let Some((flag, _, why)) = absent.iter().find(|(_, given, _)| *given) {
            return Err(Failure::Usage(format!("`{flag}` is not supported: {why}")));
        }
        if self.program.is_none() && !self.no_p4 {
            return Err(Failure::Usage(
                "expected a bmv2 JSON file, or `--no-p4`".to_owned(),
            ));
        }
        if self.interfaces.len() > self.max_port_count {
            return Err(Failure::Usage(format!(
                "{} interfaces are more than --max-port-count {}",
                self.interfaces.len(),
                self.max_port_count
            )));
        }
        for (index, (port, name)) in self.interfaces.iter().enumerate() {
            if self
                .interfaces
                .iter()
                .skip(index + 1)
                .any(|(other, _)| other == port)
            {
                return Err(Failure::Usage(format!("port {port} is given twice")));
            }
            if Some(*port) == target.cpu_port {
                return Err(Failure::Usage(format!(
                    "port {port} is the CPU port and cannot have an interface (`{name}`)"
                )));
            }
        }
        let mut warnings = Vec::new();
        if self.thrift_port.is_some() {
            warnings.push(
                "`--thrift-port`: there is no Thrift server here; everything is done by P4Runtime"
                    .to_owned(),
            );
        }
        if self.notifications_addr.is_some() {
            warnings.push(
                "`--notifications-addr`: there are no nanomsg events here; learning and ageing are told over P4Runtime"
                    .to_owned(),
            );
        }
        if self.log_file_max_size.is_some() || self.log_file_max_files.is_some() {
            warnings.push(
                "`--log-file-max-size`, `--log-file-max-files`: the log is one file here, which grows"
                    .to_owned(),
            );
        }
        let secured = target.grpc_server_ssl;
        let asked = target
            .grpc_server_addr
            .as_deref()
            .unwrap_or("127.0.0.1:9559");
        let grpc = listen_address("--grpc-server-addr", asked, secured, &mut warnings)?;
        let dataplane = match target.dp_grpc_server_addr.as_deref() {
            Some(text) => Some(listen_address(
                "--dp-grpc-server-addr",
                text,
                false,
                &mut warnings,
            )?),
            None => None,
        };
        Ok(Flags {
            grpc,
            dataplane,
            target,
            warnings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn check(line: &str) -> Result<Flags, String> {
        let line = Line::try_parse_from(std::iter::once("switch").chain(line.split_whitespace()))
            .map_err(|e| e.to_string())?;
        line.arguments.check().map_err(|failure| match failure {
            Failure::Usage(text) => text,
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn a_line_written_for_simple_switch_grpc_is_understood() {
        let flags = check("--no-p4 --device-id 3 -i 1@veth0 -i 2@veth2 --thrift-port 9090 --log-console -L info --dump-packet-data 20 --pcap=out -- --grpc-server-addr 0.0.0.0:50051 --cpu-port 510 --dp-grpc-server-addr 127.0.0.1:50052").unwrap();
        assert_eq!(flags.grpc.to_string(), "127.0.0.1:50051");
        assert_eq!(flags.dataplane.unwrap().port(), 50052);
        assert_eq!(flags.target.cpu_port, Some(510));
        assert_eq!(flags.warnings.len(), 2);
        let flags = check("--no-p4 --log-file x --log-file-max-size 1000 --log-file-max-files 2 --notifications-addr ipc:///tmp/x.ipc").unwrap();
        assert_eq!(flags.warnings.len(), 2);
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        assert!(
            check("--no-p4 --restore-state x")
                .unwrap_err()
                .contains("`--restore-state` is not supported")
        );
        assert!(
            check("--no-p4 --packet-in ipc:///tmp/x.ipc")
                .unwrap_err()
                .contains("`--packet-in` is not supported")
        );
        assert!(check("").unwrap_err().contains("--no-p4"));
        assert!(
            check("--no-p4 -i veth0")
                .unwrap_err()
                .contains("PORT@IFACE")
        );
        assert!(
            check("--no-p4 -i 1@a -i 1@b")
                .unwrap_err()
                .contains("port 1 is given twice")
        );
        assert!(
            check("--no-p4 -i 510@a -- --cpu-port 510")
                .unwrap_err()
                .contains("CPU port")
        );
        assert!(
            check("--no-p4 -- --grpc-server-addr 192.0.2.1:9559")
                .unwrap_err()
                .contains("loopback")
        );
    }
}
