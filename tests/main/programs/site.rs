//! The place where the programs run: a client, three web servers, and the switch between them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::capture::{Capture, Tally};
use crate::SIGNALBOX;
use crate::lab::{Lab, Space};
use crate::process::{Folder, Process, run, wait_until};

/// The servers' names, which are also the bodies of their file `name`.
pub const SERVERS: [&str; 3] = ["server-a", "server-b", "server-c"];

/// The size of the file `big`, in bytes.
pub const BIG: usize = 50_000_000;

/// The policy of the site; the scenarios with hosts in memory have the same.
pub const POLICY: &str = include_str!("../../../bmv2-tests/site.policy");

/// What curl brought.
pub struct Fetched {
    /// The status code, `000` without an answer.
    pub status: String,
    /// The body.
    pub body: Vec<u8>,
    /// What curl said.
    pub problem: String,
}

/// The counters that the tests look at: the agent's, then the manager's.
#[derive(Debug)]
pub struct Status {
    /// Questions put to the manager, one a flow.
    pub interests: u64,
    /// Questions put again because no answer came.
    pub interests_repeated: u64,
    /// Packets that met no fixed affinity and were diverted by criteria.
    pub misses: u64,
    /// Packets that were diverted although their flow's entries were in.
    pub overtaken: u64,
    /// Packets that the manager was asked about.
    pub interest_packets: u64,
    /// Of those, first packets of new flows.
    pub decided: u64,
    /// Of those, packets in mid-flow.
    pub mid_flow: u64,
}

/// Everything that runs; all of it ends when dropped.
pub struct Site {
    // In the order of their end: programs before the namespaces they run in.
    servers: Vec<(&'static str, Process)>,
    /// `signalbox run`.
    pub switch: Process,
    /// The client's namespace.
    pub client: Space,
    switch_space: Space,
    server_spaces: Vec<Space>,
    control: PathBuf,
    folder: Folder,
    _lab: Lab,
}

impl Site {
    /// Builds it all and waits until every server is served.
    pub fn start(target: &str) -> Self {
        let folder = Folder::new();
        let lab = Lab::new();
        let client = lab.space("client");
        let switch_space = lab.space("switch");
        lab.cable(&client, "eth0", &switch_space, "port1");
        client.address("eth0", "203.0.113.9/24", Some("203.0.113.1"));
        let (mut servers, mut server_spaces) = (Vec::new(), Vec::new());
        for (index, name) in SERVERS.into_iter().enumerate() {
            let space = lab.space(name);
            let port = format!("port{}", index + 2);
            lab.cable(&space, "eth0", &switch_space, &port);
            let subnet = format!("10.0.{}", index + 1);
            let router = format!("{subnet}.1");
            space.address("eth0", &format!("{subnet}.10/24"), Some(&router));
            if target == "bmv2" {
                space.offloads_off("eth0");
                switch_space.offloads_off(&port);
            }
            let mut command = space.command("python3");
            command
                .args(["-m", "http.server", "8080", "--directory"])
                .arg(fill(&folder, name));
            servers.push((name, Process::start(name, command, &folder)));
            server_spaces.push(space);
        }
        if target == "bmv2" {
            client.offloads_off("eth0");
            switch_space.offloads_off("port1");
        }
        let policy = folder.write("web.policy", POLICY);
        let control = folder.file("control.sock");
        let mut command = switch_space.command(SIGNALBOX);
        command.arg("run").arg(&policy);
        for port in 1..=4 {
            command.args(["--port", &format!("{port}=port{port}")]);
        }
        command
            .args(["--target", target, "--control"])
            .arg(&control);
        let switch = Process::start("signalbox-run", command, &folder);
        let mut site = Self {
            servers,
            switch,
            client,
            switch_space,
            server_spaces,
            control,
            folder,
            _lab: lab,
        };
        site.wait_for_service();
        site
    }

    fn wait_for_service(&mut self) {
        let control = self.control.clone();
        let switch = &mut self.switch;
        wait_until("signalbox run", Duration::from_secs(60), || {
            assert!(switch.ended().is_none(), "signalbox run has ended");
            ask(&control, "status").is_some()
        });
        // A connection before the first checks have passed may be dropped; these are not counted on.
        std::thread::sleep(Duration::from_millis(1500));
    }

    /// Both ends of every cable.
    pub fn interfaces(&self) -> Vec<(&Space, String)> {
        let hosts = std::iter::once(&self.client).chain(&self.server_spaces);
        let ports = (1..=4).map(|port| (&self.switch_space, format!("port{port}")));
        hosts
            .map(|host| (host, "eth0".to_owned()))
            .chain(ports)
            .collect()
    }

    /// Fetches a file of the service with curl.
    pub fn fetch(&self, file: &str) -> Fetched {
        self.fetch_within(file, "60")
    }

    /// As [`Site::fetch`], from this port of the client.
    pub fn fetch_from(&self, client_port: u16, file: &str) -> Fetched {
        self.curl(
            file,
            &["-m", "60", "--local-port", &client_port.to_string()],
        )
    }

    /// As [`Site::fetch`], but gives up after this many seconds.
    pub fn fetch_within(&self, file: &str, seconds: &str) -> Fetched {
        self.curl(file, &["-m", seconds])
    }

    fn curl(&self, file: &str, flags: &[&str]) -> Fetched {
        let body = self.folder.file("fetched");
        let _ = std::fs::remove_file(&body);
        let url = format!("http://203.0.113.80/{file}");
        let mut words = vec!["curl", "-sS", "-o", body.to_str().unwrap()];
        words.extend(["-w", "%{http_code}", &url]);
        words.extend(flags);
        let output = self.client.run(&words);
        Fetched {
            status: String::from_utf8_lossy(&output.stdout).into_owned(),
            body: std::fs::read(&body).unwrap_or_default(),
            problem: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts a download of `big` that takes about eight seconds, and minutes at most where the switch
    /// is slow.
    pub fn slow_download(&self, number: u32) -> Download {
        let file = self.folder.file(&format!("download-{number}"));
        let mut command = self.client.command("curl");
        command
            .args(["-sS", "-f", "-m", "240", "--limit-rate", "6M", "-o"])
            .arg(&file)
            .arg("http://203.0.113.80/big");
        let name = format!("curl-{number}");
        Download {
            process: Process::start(&name, command, &self.folder),
            file,
        }
    }

    /// Fails unless these are the bytes of one server's `big`, by SHA-256.
    pub fn assert_whole(&self, bytes: &[u8]) {
        let name = first_line(bytes).unwrap_or_default();
        let original = self.folder.file(&name).join("big");
        let got = self.folder.write("arrived", bytes);
        let digest = |file: &PathBuf| {
            let output = run(Command::new("sha256sum").arg(file), Duration::from_secs(60));
            String::from_utf8_lossy(&output.stdout)
                .split_whitespace()
                .next()
                .map(str::to_owned)
        };
        assert_eq!(
            digest(&got),
            digest(&original),
            "SHA-256 of the download from {name:?}"
        );
    }

    /// Ends a server's program at once.
    pub fn kill_server(&mut self, name: &str) {
        self.servers.retain(|(one, _)| *one != name);
    }

    /// Ends the manager as if it had died.
    pub fn stop_manager(&self) {
        let mut command = Command::new(SIGNALBOX);
        command
            .args(["manager-stop", "lb-1", "--control"])
            .arg(&self.control);
        let output = run(&mut command, Duration::from_secs(10));
        assert!(output.status.success(), "{output:?}");
    }

    /// Starts tcpdump at an interface of the switch.
    pub fn capture(&self, interface: &str, filter: &str) -> Capture {
        Capture::start(&self.switch_space, interface, filter, &self.folder)
    }

    /// What `signalbox status --json` says.
    pub fn status(&self) -> Status {
        let status = ask(&self.control, "status").unwrap();
        let number = |place: &str, name: &str| {
            let counter = status.pointer(&format!("{place}/{name}"));
            counter
                .and_then(Value::as_u64)
                .unwrap_or_else(|| panic!("no {name} in {status}"))
        };
        let agent = |name| number("/agent/counters", name);
        let manager = |name| number("/managers/0/services/0/counts", name);
        Status {
            interests: agent("interests"),
            interests_repeated: agent("interests_repeated"),
            misses: agent("misses"),
            overtaken: agent("overtaken"),
            interest_packets: manager("interest_packets"),
            decided: manager("decided"),
            mid_flow: manager("mid_flow_known") + manager("mid_flow_unknown"),
        }
    }

    /// What `signalbox flows --json` says: packets and bytes of both directions by the client's port.
    pub fn flows(&self) -> BTreeMap<u16, (Tally, Tally)> {
        let listing = ask(&self.control, "flows").unwrap();
        let flows = listing.as_array().expect("a list of flows");
        flows
            .iter()
            .map(|flow| {
                let number = |path: &str| {
                    flow.pointer(path)
                        .and_then(Value::as_u64)
                        .unwrap_or_else(|| panic!("no {path} in {flow}"))
                };
                let tally = |direction: &str| Tally {
                    packets: number(&format!("/{direction}/packets")),
                    bytes: number(&format!("/{direction}/bytes")),
                };
                let client_port = number("/flow/sport") as u16;
                (client_port, (tally("forward"), tally("reply")))
            })
            .collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // With `--target bmv2` it has a child that only it can end.
        self.switch.end(Duration::from_secs(10));
    }
}

/// A curl that runs beside the test.
pub struct Download {
    process: Process,
    file: PathBuf,
}

impl Download {
    /// The server that it comes from, once the first bytes are there.
    pub fn server(&self) -> Option<String> {
        first_line(&std::fs::read(&self.file).ok()?)
    }

    /// Waits for its end and gives what it brought.
    pub fn finish(&mut self) -> Vec<u8> {
        let status = self.process.wait(Duration::from_secs(250));
        assert!(status.success(), "{}", self.process.printed());
        std::fs::read(&self.file).unwrap()
    }
}

fn first_line(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().take(64).position(|byte| *byte == b'\n')?;
    String::from_utf8(bytes[..end].to_vec()).ok()
}

/// Makes a server's folder: its name, and a big file that starts with it.
fn fill(folder: &Folder, name: &str) -> PathBuf {
    let path = folder.file(name);
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("name"), name).unwrap();
    let mut big = format!("{name}\n").into_bytes();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    while big.len() < BIG {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        big.extend_from_slice(&state.to_be_bytes());
    }
    big.truncate(BIG);
    std::fs::write(path.join("big"), big).unwrap();
    path
}

/// Asks a running service; `None` when it does not answer.
pub fn ask(control: &PathBuf, what: &str) -> Option<Value> {
    let mut command = Command::new(SIGNALBOX);
    command.args([what, "--json", "--control"]).arg(control);
    let output = run(&mut command, Duration::from_secs(20));
    if !output.status.success() {
        return None;
    }
    serde_json::from_slice(&output.stdout).ok()
}
