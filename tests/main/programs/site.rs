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

/// The closed lease is long, so that a closed flow is still listed when the test looks.
pub const POLICY: &str = "\
network {
  port 1 clients { address 203.0.113.1/24 }
  port 2 rack-a  { address 10.0.1.1/24 }
  port 3 rack-b  { address 10.0.2.1/24 }
  port 4 rack-c  { address 10.0.3.1/24 }
}

set blocked = { 192.0.2.0/24 }

pool web {
  server-a 10.0.1.10:8080 weight 2
  server-b 10.0.2.10:8080
  server-c 10.0.3.10:8080
  check tcp every 1s timeout 500ms
}

service guard : filter {
  deny ip.src in @blocked
}

service web-lb : balance {
  match tcp.dst 203.0.113.80:80
  pick  from @web by weighted
  keep  idle 5m, closed 5m
}

cascade guard > web-lb

managers {
  lb-1 serves web-lb
}
";

/// What curl brought.
pub struct Fetched {
    /// The status code, `000` without an answer.
    pub status: String,
    /// The body.
    pub body: Vec<u8>,
    /// What curl said.
    pub problem: String,
}

/// The counters that the tests look at.
pub struct Status {
    /// Questions put to the manager.
    pub interests: u64,
    /// Packets that met no fixed affinity and were diverted by criteria.
    pub misses: u64,
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
        let mut servers = Vec::new();
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

    /// Fetches a file of the service with curl.
    pub fn fetch(&self, file: &str) -> Fetched {
        self.fetch_within(file, "60")
    }

    /// As [`Site::fetch`], but gives up after this many seconds.
    pub fn fetch_within(&self, file: &str, seconds: &str) -> Fetched {
        let body = self.folder.file("fetched");
        let _ = std::fs::remove_file(&body);
        let url = format!("http://203.0.113.80/{file}");
        let output = self.client.run(&[
            "curl",
            "-sS",
            "-m",
            seconds,
            "-o",
            body.to_str().unwrap(),
            "-w",
            "%{http_code}",
            &url,
        ]);
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
        let number = |name: &str| {
            let counter = status.pointer(&format!("/agent/counters/{name}"));
            counter
                .and_then(Value::as_u64)
                .unwrap_or_else(|| panic!("no {name} in {status}"))
        };
        Status {
            interests: number("interests"),
            misses: number("misses"),
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
fn ask(control: &PathBuf, what: &str) -> Option<Value> {
    let mut command = Command::new(SIGNALBOX);
    command.args([what, "--json", "--control"]).arg(control);
    let output = run(&mut command, Duration::from_secs(20));
    if !output.status.success() {
        return None;
    }
    serde_json::from_slice(&output.stdout).ok()
}
