//! A switch with hosts at its ports, on any target: what the larger sites of the tests are made of.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::site::ask;
use crate::SIGNALBOX;
use crate::lab::{Lab, Space};
use crate::process::{Folder, Process, wait_until};

/// Hosts, cables, programs and a switch; all of it ends when dropped.
pub struct Wired {
    // In the order of their end: programs before the namespaces they run in.
    programs: Vec<(String, Process)>,
    switch: Option<Process>,
    /// The namespace of the switch; its port N is the interface `portN`.
    pub at_switch: Space,
    control: PathBuf,
    /// The test's folder.
    pub folder: Folder,
    target: String,
    keeps_offloads: bool,
    ports: Vec<u16>,
    lab: Lab,
}

impl Wired {
    /// A switch without ports. `target` is `switch`, `quirks` (the same with bmv2's limits) or `bmv2`.
    /// Where a test compares packets, `keeps_offloads` is false: what is captured is then what is on
    /// the wire, and no segment longer than that. bmv2 cannot have offloads at all.
    pub fn new(target: &str, keeps_offloads: bool) -> Self {
        let folder = Folder::new();
        let lab = Lab::new();
        Self {
            programs: Vec::new(),
            switch: None,
            at_switch: lab.space("switch"),
            control: folder.file("control.sock"),
            folder,
            target: target.to_owned(),
            keeps_offloads: keeps_offloads && target != "bmv2",
            ports: Vec::new(),
            lab,
        }
    }

    /// A host without cables.
    pub fn host(&self, name: &str) -> Space {
        self.lab.space(name)
    }

    /// A cable from a host's interface `eth0` to this port of the switch.
    pub fn port(&mut self, number: u16, host: &Space) {
        let port = format!("port{number}");
        self.lab.cable(host, "eth0", &self.at_switch, &port);
        if !self.keeps_offloads {
            host.offloads_off("eth0");
            self.at_switch.offloads_off(&port);
        }
        self.ports.push(number);
    }

    /// A cable between two hosts.
    pub fn cable(&self, a: &Space, at_a: &str, b: &Space, at_b: &str) {
        self.lab.cable(a, at_a, b, at_b);
        if !self.keeps_offloads {
            a.offloads_off(at_a);
            b.offloads_off(at_b);
        }
    }

    /// Starts a program at a host.
    pub fn program(&mut self, name: &str, host: &Space, words: &[&str]) {
        let (program, arguments) = words.split_first().unwrap();
        let mut command = host.command(program);
        command.args(arguments);
        let process = Process::start(name, command, &self.folder);
        self.programs.push((name.to_owned(), process));
    }

    /// A program that was started under this name.
    pub fn started(&mut self, name: &str) -> &mut Process {
        let found = self.programs.iter_mut().find(|(one, _)| one == name);
        &mut found.unwrap().1
    }

    /// Runs the policy, writing reports to [`Wired::reports`], and waits until it answers.
    pub fn run(&mut self, name: &str, policy: &str) {
        let policy = self.folder.write(name, policy);
        let mut command = self.at_switch.command(SIGNALBOX);
        command.arg("run").arg(policy);
        for number in &self.ports {
            command.args(["--port", &format!("{number}=port{number}")]);
        }
        match self.target.as_str() {
            "quirks" => command.args(["--target", "switch", "--quirks", "simple_switch_grpc"]),
            target => command.args(["--target", target]),
        };
        command.arg("--control").arg(&self.control);
        command
            .arg("--report-json")
            .arg(self.folder.file("flows.jsonl"));
        let mut switch = Process::start("signalbox-run", command, &self.folder);
        wait_until("signalbox run", Duration::from_secs(60), || {
            assert!(switch.ended().is_none(), "{}", switch.printed());
            ask(&self.control, "status").is_some()
        });
        self.switch = Some(switch);
    }

    /// The memory that `signalbox run` has resident, in bytes.
    pub fn resident(&self) -> u64 {
        let id = self.switch.as_ref().expect("it runs").id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        kilobytes.unwrap().parse::<u64>().unwrap() * 1024
    }

    /// What `signalbox status --json` says.
    pub fn status(&self) -> Value {
        ask(&self.control, "status").expect("status answers")
    }

    /// What this service does to the connections that `signalbox flows --json` lists.
    pub fn flows(&self, service: &str) -> Vec<Value> {
        let listing = ask(&self.control, "flows").expect("flows answers");
        let connections = listing.as_array().expect("a list of connections");
        let steps = connections
            .iter()
            .flat_map(|connection| connection["steps"].as_array().expect("its steps"));
        let of_service = steps.filter(|step| step["service"] == service);
        of_service.cloned().collect()
    }

    /// The reports of this service that were written so far.
    pub fn reports(&self, service: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.file("flows.jsonl")).unwrap_or_default();
        // The last line may be on its way.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let lines = text[..whole].lines();
        let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["service"] == service).collect()
    }
}

impl Drop for Wired {
    fn drop(&mut self) {
        // With `--target bmv2` it has a child that only it can end.
        if let Some(switch) = &mut self.switch {
            switch.end(Duration::from_secs(10));
        }
    }
}

/// Runs a program at a host and gives what it printed; it must succeed.
pub fn printed(host: &Space, words: &[&str]) -> String {
    let output = host.run(words);
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {out}{err}");
    out
}

/// Ends a program by name where the test wants it to end: waits until it does.
pub fn ends(process: &mut Process, within: Duration) -> String {
    let status = process.wait(within);
    assert!(status.success(), "{}", process.printed());
    process.printed()
}

/// Runs `ip` with its arguments in a host.
pub fn ip(host: &Space, words: &str) -> bool {
    let words: Vec<&str> = std::iter::once("ip").chain(words.split(' ')).collect();
    host.run(&words).status.success()
}

/// A setting of a host's kernel.
pub fn set(host: &Space, setting: &str) {
    printed(host, &["sysctl", "-qw", setting]);
}
