//! The place where the processes run: a client, two servers, and between them a switch with an agent and
//! two managers, each a process of its own in the switch's namespace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{SOON, apply, ask, printed, start};
use crate::SIGNALBOX;
use crate::commands::text;
use crate::lab::{Lab, Space};
use crate::process::{Folder, Process, wait_until};
use crate::programs::capture::Capture;

/// What it needs of the machine.
pub const NEEDS: [&str; 9] = [
    "root", "ip", "curl", "python3", "sysctl", "kill", "cat", "tcpdump", "ethtool",
];

/// Two services, a manager each. Leases are short, so that their ends can be waited for.
pub const POLICY: &str = "\
network {
  port 1 clients { address 203.0.113.1/24 }
  port 2 rack-a  { address 10.0.1.1/24 }
  port 3 rack-b  { address 10.0.2.1/24 }
}

pool web {
  10.0.1.10:8080 weight 1
}

pool two {
  10.0.2.10:8080
}

service guard : filter {
  deny udp
}

service web-lb : balance {
  match tcp.dst 203.0.113.80:80
  pick  from @web by weighted
  keep  idle 6s, closed 1s
}

service web-two : balance {
  match tcp.dst 203.0.113.80:81
  pick  from @two by round-robin
  keep  idle 6s, closed 1s
}

cascade guard > web-lb > web-two

managers {
  lb-1 serves web-lb
  lb-2 serves web-two
}
";

/// The same, and each manager stands by for the other.
pub fn backed() -> String {
    POLICY.replace(
        "  lb-2 serves web-two\n",
        "  lb-2 serves web-two\n  backup lb-1 with lb-2 after 1s\n  backup lb-2 with lb-1 after 1s\n",
    )
}

/// The client's port of a download from the service at port 80.
const DOWNLOADER: u16 = 40_000;

/// Size of a download in bytes, and of a second of it.
const BIG: usize = 4_000_000;
const RATE: &str = "400k";

/// Everything that runs.
pub struct Place {
    // In the order of their end: programs before the namespaces they run in.
    running: BTreeMap<&'static str, Process>,
    controls: BTreeMap<&'static str, PathBuf>,
    servers: Vec<(Space, Process)>,
    client: Space,
    switch_space: Space,
    external: bool,
    /// Whether lb-1 listens for lb-2.
    linked: bool,
    folder: Folder,
    _lab: Lab,
}

impl Place {
    /// Builds it all and waits until both services serve. With `external` the switch is a process of its
    /// own, which lives on without its agent.
    pub fn start(external: bool) -> Self {
        Self::start_with(POLICY, external, false)
    }

    /// The same with another policy, of the same services, in which the two managers may share decisions.
    pub fn start_with(policy: &str, external: bool, linked: bool) -> Self {
        let folder = Folder::new();
        let lab = Lab::new();
        let client = lab.space("client");
        let switch_space = lab.space("switch");
        lab.cable(&client, "eth0", &switch_space, "port1");
        client.address("eth0", "203.0.113.9/24", Some("203.0.113.1"));
        let mut servers = Vec::new();
        for (number, name) in [(1, "one"), (2, "two")] {
            let space = lab.space(name);
            lab.cable(
                &space,
                "eth0",
                &switch_space,
                &format!("port{}", number + 1),
            );
            let subnet = format!("10.0.{number}");
            let router = format!("{subnet}.1");
            space.address("eth0", &format!("{subnet}.10/24"), Some(&router));
            let mut command = space.command("python3");
            command
                .args(["-m", "http.server", "8080", "--directory"])
                .arg(fill(&folder, name));
            let process = Process::start(name, command, &folder);
            servers.push((space, process));
        }
        folder.write("web.policy", policy);
        let mut place = Self {
            running: BTreeMap::new(),
            controls: BTreeMap::new(),
            servers,
            client,
            switch_space,
            external,
            linked,
            folder,
            _lab: lab,
        };
        if external {
            place.start_switch();
        }
        place.start_agent();
        place.start_manager("lb-1");
        place.start_manager("lb-2");
        for port in [80, 81] {
            wait_until("both services", SOON, || place.fetch(port, 2) == "200");
        }
        // The fetches are over, and their leases soon.
        wait_until("a calm start", SOON, || place.flows(&[]).is_empty());
        place
    }

    /// Starts the switch as a process of its own.
    pub fn start_switch(&mut self) {
        let mut command = self.switch_space.command(SIGNALBOX);
        command.arg("switch");
        for port in 1..=3 {
            command.args(["-i", &format!("{port}@port{port}")]);
        }
        command.args(["--no-p4", "--", "--cpu-port", "64"]);
        command.args(["--grpc-server-addr", "127.0.0.1:9559"]);
        let process = Process::start("switch", command, &self.folder);
        self.running.insert("switch", process);
        wait_until("the switch", SOON, || {
            let output = self.switch_space.run(&["cat", "/proc/net/tcp"]);
            // 9559 in hexadecimal, as the kernel lists who listens.
            String::from_utf8_lossy(&output.stdout).contains(":2557 00000000:0000 0A")
        });
    }

    /// Starts the agent.
    pub fn start_agent(&mut self) {
        let mut command = self.switch_space.command(SIGNALBOX);
        command.arg("agent").arg(self.folder.file("web.policy"));
        if self.external {
            command.args(["--target", "p4runtime://127.0.0.1:9559", "--cpu-port", "64"]);
        } else {
            for port in 1..=3 {
                command.args(["--port", &format!("{port}=port{port}")]);
            }
        }
        self.begin("agent", command);
    }

    /// Starts a manager.
    pub fn start_manager(&mut self, name: &'static str) {
        self.start_manager_with(name, &[]);
    }

    /// The same with more words.
    pub fn start_manager_with(&mut self, name: &'static str, words: &[&str]) {
        let mut command = self.switch_space.command(SIGNALBOX);
        command
            .args(["manager", name])
            .arg(self.folder.file("web.policy"));
        command.args(["--agent", "127.0.0.1:9570"]).args(words);
        if self.linked {
            command.args(match name {
                "lb-1" => ["--listen", "127.0.0.1:9580"],
                _ => ["--peer", "lb-1=127.0.0.1:9580"],
            });
        }
        self.begin(name, command);
    }

    fn begin(&mut self, name: &'static str, command: Command) {
        let (process, control) = start(name, command, &self.folder);
        self.running.insert(name, process);
        self.controls.insert(name, control);
    }

    /// Ends a process at once, by SIGKILL.
    pub fn kill(&mut self, name: &str) {
        self.running.get_mut(name).unwrap().kill();
    }

    /// Ends a process in order.
    pub fn end(&mut self, name: &str) {
        self.running.get_mut(name).unwrap().end(SOON);
    }

    /// The status that curl gets from the service at this port, `000` without an answer in so many seconds.
    pub fn fetch(&self, port: u16, seconds: u32) -> String {
        self.curl(port, &["-m", &seconds.to_string()])
    }

    /// The same from a port of the client's own choice, in two seconds.
    pub fn fetch_from(&self, from: u16, port: u16) -> String {
        self.curl(port, &["-m", "2", "--local-port", &from.to_string()])
    }

    fn curl(&self, port: u16, words: &[&str]) -> String {
        let url = format!("http://203.0.113.80:{port}/name");
        let quietly = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}"];
        let words = [&quietly, words, &[&*url]].concat();
        String::from_utf8_lossy(&self.client.run(&words).stdout).into_owned()
    }

    /// Kills lb-1, for which lb-2 stands by, and waits until port 80 is served again.
    pub fn fail_over(&mut self) {
        self.kill("lb-1");
        let died = Instant::now();
        wait_until("the backup", SOON, || self.fetch(80, 1) == "200");
        let outage = died.elapsed();
        // The lease of a second, the request that was under way when it ended, and a slow machine.
        println!(
            "new connections failed for at most {} ms",
            outage.as_millis()
        );
        assert!(outage < Duration::from_secs(6), "{outage:?}");
    }

    /// Starts a download that takes some ten seconds, and waits for its first bytes.
    pub fn download(&self, port: u16) -> Download {
        let file = self.folder.file(&format!("download-{port}"));
        let _ = std::fs::remove_file(&file);
        let mut command = self.client.command("curl");
        command
            .args(["-sS", "-f", "-m", "120", "--limit-rate", RATE, "-o"])
            .arg(&file)
            .arg(format!("http://203.0.113.80:{port}/big"));
        if port == 80 {
            command.args(["--local-port", &DOWNLOADER.to_string()]);
        }
        let server = if port == 80 { "one" } else { "two" };
        let download = Download {
            process: Process::start(&format!("curl-{port}"), command, &self.folder),
            original: self.folder.file(server).join("big"),
            file,
        };
        wait_until("the first bytes", SOON, || {
            download
                .file
                .metadata()
                .is_ok_and(|about| about.len() > 100_000)
        });
        download
    }

    /// What `signalbox flows PARTS… --json` lists.
    pub fn flows(&self, parts: &[&str]) -> Vec<Value> {
        let mut words = vec!["flows"];
        words.extend(parts);
        let list = ask(&words, &self.controls["agent"]);
        list.as_array().cloned().unwrap_or_default()
    }

    /// Applies a policy to agent and managers; what was said. Whatever starts later starts with it.
    pub fn apply(&self, policy: &str) -> String {
        let path = self.folder.write("new/web.policy", policy);
        let controls: Vec<&Path> = self.controls.values().map(PathBuf::as_path).collect();
        let said = printed(&apply(&path, &controls, &[]));
        self.folder.write("web.policy", policy);
        said
    }

    /// The control socket of a process.
    pub fn control(&self, name: &str) -> &Path {
        &self.controls[name]
    }

    /// Starts to count what of the download passes the switch's ports to clients and to its server.
    pub fn watch(&self) -> [Capture; 2] {
        let filter = format!("tcp port {DOWNLOADER}");
        ["port1", "port2"]
            .map(|port| Capture::start(&self.switch_space, port, &filter, &self.folder))
    }

    /// Has every segment be a packet of its own, so that packets can be counted.
    pub fn offloads_off(&self) {
        let hosts =
            std::iter::once(&self.client).chain(self.servers.iter().map(|(space, _)| space));
        hosts.for_each(|host| host.offloads_off("eth0"));
    }
}

/// Packets of the download towards its server and back, at the port to clients and at that to the server.
pub fn counted(captures: &mut [Capture; 2]) -> [(u64, u64); 2] {
    let [clients, rack] = captures;
    let (clients, rack) = (clients.stop(), rack.stop());
    let (there, back) = clients.by_client_port[&DOWNLOADER];
    // The reading takes everything for an answer that is not for the service's own address.
    let at_rack = |port| rack.by_client_port[&port].1.packets;
    [
        (there.packets, back.packets),
        (at_rack(8080), at_rack(DOWNLOADER)),
    ]
}

/// A curl that runs beside the test.
pub struct Download {
    process: Process,
    file: PathBuf,
    original: PathBuf,
}

impl Download {
    /// Whether there is more to come.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Waits for its end, and fails unless it has brought the server's file, byte for byte.
    pub fn assert_whole(&mut self) {
        let status = self.process.wait(Duration::from_secs(150));
        assert!(status.success(), "{}", self.process.printed());
        let same = std::fs::read(&self.file).unwrap() == std::fs::read(&self.original).unwrap();
        assert!(same, "{} differs", text(&self.file));
    }

    /// Ends it.
    pub fn stop(&mut self) {
        self.process.kill();
    }
}

/// Makes a server's folder: its name, and a big file of numbers that look like chance.
fn fill(folder: &Folder, name: &str) -> PathBuf {
    let path = folder.file(name);
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("name"), name).unwrap();
    let mut big = name.as_bytes().to_vec();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    while big.len() < BIG {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        big.extend_from_slice(&state.to_be_bytes());
    }
    std::fs::write(path.join("big"), big).unwrap();
    path
}
