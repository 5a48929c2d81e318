//! The options that say where managers' reports go.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;

use clap::Args;
use signalbox_observe::Reports;

use crate::failure::Failure;

/// Where reports go; nowhere by default.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Append reports to a file, a JSON object a line; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub report_json: Option<PathBuf>,
    /// Send reports to an IPFIX collector, over UDP
    #[arg(long, value_name = "HOST:PORT")]
    pub report_ipfix: Option<String>,
}

impl ReportArgs {
    /// Adds the sinks that were asked for.
    ///
    /// # Errors
    /// One line: a file cannot be opened, a collector's address is none.
    pub fn open(&self, policy: &str, reports: &mut Reports) -> Result<(), Failure> {
        if let Some(path) = &self.report_json {
            let name = format!("--report-json {}", path.display());
            let writer: Box<dyn Write + Send> = if path.as_os_str() == "-" {
                Box::new(io::stdout())
            } else {
                let file = OpenOptions::new().append(true).create(true).open(path);
                Box::new(file.map_err(|error| cannot(&name, &error))?)
            };
            reports
                .add_json(&name, policy, writer)
                .map_err(|error| cannot(&name, &error))?;
        }
        if let Some(collector) = &self.report_ipfix {
            let name = format!("--report-ipfix {collector}");
            let socket = connect(collector).map_err(|error| cannot(&name, &error))?;
            reports
                .add_ipfix(&name, policy, socket)
                .map_err(|error| cannot(&name, &error))?;
        }
        Ok(())
    }
}

fn cannot(name: &str, error: &io::Error) -> Failure {
    Failure::Failed(format!("{name}: {error}"))
}

/// A socket that talks to the collector only, at the first of its addresses that there is a way to.
fn connect(collector: &str) -> io::Result<UdpSocket> {
    let addresses = collector.to_socket_addrs().map_err(|error| {
        let expected = "expected HOST:PORT, such as 192.0.2.1:4739";
        io::Error::new(error.kind(), format!("{error}; {expected}"))
    })?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        let own: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let connected = UdpSocket::bind(own).and_then(|socket| {
            socket.connect(address)?;
            Ok(socket)
        });
        match connected {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(report_json: Option<&str>, report_ipfix: Option<&str>) -> Result<(), Failure> {
        let arguments = ReportArgs {
            report_json: report_json.map(PathBuf::from),
            report_ipfix: report_ipfix.map(str::to_owned),
        };
        arguments.open("web", &mut Reports::default())
    }

    #[test]
    fn a_collector_without_a_port_and_a_file_that_cannot_be_are_refused_with_the_option() {
        assert!(opened(None, None).is_ok());
        assert!(opened(None, Some("127.0.0.1:4739")).is_ok());
        for (json, ipfix, wanted) in [
            (None, Some("127.0.0.1"), "--report-ipfix 127.0.0.1: "),
            (None, Some("127.0.0.1:99999"), "expected HOST:PORT"),
            (Some("/"), None, "--report-json /: "),
        ] {
            let Err(Failure::Failed(text)) = opened(json, ipfix) else {
                panic!("{wanted} is missing");
            };
            assert!(text.contains(wanted), "{text}");
        }
    }
}
