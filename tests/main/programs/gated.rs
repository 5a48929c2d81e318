//! A server behind gates: a client, the switch, and one host with a web server.
//!
//! ```text
//! client 203.0.113.9, .66 ── port 1 ── switch ── port 2 ── server 10.0.1.10
//! ```

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use super::capture::Capture;
use super::wired::{Wired, printed};
use crate::lab::Space;
use crate::process::{run, wait_until};

/// The server, behind whose gates it stands.
pub const SERVER: &str = "10.0.1.10";

/// An address of the client that may not come in.
pub const STRANGER: &str = "203.0.113.66";

/// Where the flood seems to come from; nobody is there, and the gate would let it in.
pub const NOWHERE: &str = "198.18.0.0/15";

/// One door for what may say anything, and one for TLS.
pub const POLICY: &str = "\
network {
  port 1 clients { address 203.0.113.1/24 }
  port 2 servers { address 10.0.1.1/24 }
  route 198.18.0.0/15 via 203.0.113.9
}

service door : gate {
  match ip.dst 10.0.1.10 and tcp.dst in { 22, 80, 81 }
  allow ip.src in { 203.0.113.9, 198.18.0.0/15 }
  hand-over within 5s
}

service named : gate {
  match tcp.dst 10.0.1.10:443
  allow ip.src 203.0.113.9
  look tls.name in { \"example.org\", \"*.example.org\" }
}

cascade door > named

managers {
  gate-1 serves door, named
}
";

const WEB: &str = include_str!("gated_server.py");

/// All that runs.
pub struct Gated {
    /// Switch, cables and programs.
    pub wired: Wired,
    /// The host at port 1.
    pub client: Space,
    /// The host at port 2.
    pub server: Space,
    /// The server's file `big`, which is also what is uploaded.
    pub big: PathBuf,
}

impl Gated {
    /// Hosts and programs without what is between them. `big` has so many bytes.
    pub fn prepare(target: &str, big: usize) -> Self {
        let mut wired = Wired::new(target, true);
        let [client, server] = ["client", "server"].map(|name| wired.host(name));
        wired.port(1, &client);
        client.address("eth0", "203.0.113.9/24", Some("203.0.113.1"));
        client.address("eth0", &format!("{STRANGER}/24"), None);
        wired.port(2, &server);
        server.address("eth0", &format!("{SERVER}/24"), Some("10.0.1.1"));
        wired.folder.write("files/name", "server");
        let big = wired.folder.write("files/big", noise(big));
        let script = wired.folder.write("server.py", WEB);
        let files = big.parent().unwrap().to_str().unwrap();
        wired.program(
            "web",
            &server,
            &["python3", script.to_str().unwrap(), files],
        );
        wait_until("the web server", Duration::from_secs(20), || {
            let output = server.run(&["curl", "-sS", "-m", "2", "http://127.0.0.1/name"]);
            output.stdout == b"server"
        });
        Self {
            wired,
            client,
            server,
            big,
        }
    }

    /// As [`Gated::prepare`], with `signalbox run` between them, that serves.
    pub fn start(target: &str, big: usize) -> Self {
        let mut gated = Self::prepare(target, big);
        gated.wired.run("gated.policy", POLICY);
        gated.wait_for_service();
        gated
    }

    /// Waits until the web server is reached through its gate.
    pub fn wait_for_service(&self) {
        wait_until("the gate", Duration::from_secs(30), || {
            self.curl(&["-m", "2", &url("name")]).stdout == b"server"
        });
    }

    /// Runs curl at the client.
    pub fn curl(&self, words: &[&str]) -> Output {
        let mut all = vec!["curl", "-sS"];
        all.extend(words);
        self.client.run(&all)
    }

    /// A script of Python at the client, to its end.
    pub fn script(&self, name: &str, text: &str, words: &[&str]) -> String {
        let script = self.wired.folder.write(name, text);
        let mut all = vec!["python3", script.to_str().unwrap()];
        all.extend(words);
        printed(&self.client, &all).trim().to_owned()
    }

    /// Starts tcpdump at the server.
    pub fn capture(&self, filter: &str) -> Capture {
        Capture::start(&self.server, "eth0", filter, &self.wired.folder)
    }

    /// Connections of the server's TCP, from a client's SYN until nothing more can come.
    pub fn connections(&self) -> usize {
        let text = printed(&self.server, &["cat", "/proc/net/tcp"]);
        let state = |line: &str| line.split_whitespace().nth(3).map(str::to_owned);
        let states = text.lines().skip(1).filter_map(state);
        // TIME-WAIT and LISTEN.
        states
            .filter(|state| state != "06" && state != "0A")
            .count()
    }
}

/// What `status` says that this gate has counted.
pub fn counted(status: &Value, gate: &str, what: &str) -> u64 {
    let counted = &service(status, gate)["counted"];
    counted[what].as_u64().unwrap_or(0)
}

/// What the manager was asked about by this gate's stage, in packets.
pub fn asked(status: &Value, gate: &str) -> u64 {
    let counts = &service(status, gate)["counts"];
    counts["interest_packets"].as_u64().expect("a count")
}

fn service<'a>(status: &'a Value, name: &str) -> &'a Value {
    let services = status["managers"][0]["services"].as_array();
    let mut services = services.expect("services").iter();
    let found = services.find(|service| service["service"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {status}"))
}

/// Where the web server's file is.
pub fn url(file: &str) -> String {
    format!("http://{SERVER}/{file}")
}

/// A file's SHA-256.
pub fn sha256(file: &std::path::Path) -> String {
    let output = run(Command::new("sha256sum").arg(file), Duration::from_secs(60));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().expect("a digest").to_owned()
}

/// Bytes that look like chance.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}
