//! `signalbox run` as an operator meets it: what it refuses, what it notices, how it ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::SIGNALBOX;
use crate::commands::{
    POLICY, assert_one_line, code, errors, free_port, signalbox, switch_at, text,
};
use crate::lab::Lab;
use crate::needs::has;
use crate::process::{Folder, Process, run, wait_until};

/// A running service that is asked at `control`.
struct Service {
    process: Process,
    control: PathBuf,
}

impl Service {
    /// Starts `signalbox run` and waits until it answers.
    fn start(name: &str, mut command: Command, folder: &Folder) -> Self {
        let control = folder.file(&format!("{name}.sock"));
        command.arg("--control").arg(&control);
        let mut process = Process::start(name, command, folder);
        wait_until(name, Duration::from_secs(60), || {
            let printed = process.printed();
            assert!(process.ended().is_none(), "run has ended: {printed}");
            printed.contains(": running;")
        });
        Self { process, control }
    }

    fn ask(&self, words: &[&str]) -> Value {
        let mut arguments = words.to_vec();
        arguments.extend(["--json", "--control", text(&self.control)]);
        let output = signalbox(&arguments);
        assert_eq!(code(&output), 0, "{}", errors(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Waits until it has ended with 1 and one line that says all of `words`.
    fn assert_ends_with(&mut self, words: &[&str]) {
        let status = self.process.wait(Duration::from_secs(60));
        let printed = self.process.printed();
        assert_eq!(status.code(), Some(1), "{printed}");
        let last = printed
            .lines()
            .filter(|line| line.starts_with("signalbox: "))
            .collect::<Vec<_>>();
        assert_eq!(last.len(), 1, "one line: {printed}");
        for word in words {
            assert!(last[0].contains(word), "`{word}` in: {printed}");
        }
    }
}

/// `signalbox run` of a policy on a switch with P4Runtime at this port, whose CPU port is 64.
fn run_on(port: u16, policy: &Path) -> Command {
    let mut command = Command::new(SIGNALBOX);
    let target = format!("p4runtime://127.0.0.1:{port}");
    command
        .arg("run")
        .arg(policy)
        .args(["--target", &target, "--cpu-port", "64"]);
    command
}

#[test]
fn a_second_run_is_refused_and_the_first_goes_on() {
    let folder = Folder::new();
    let port = free_port();
    let _switch = switch_at(port, "64", &folder);
    let policy = folder.write("web.policy", POLICY);
    let mut first = Service::start("first", run_on(port, &policy), &folder);
    let mut second = run_on(port, &policy);
    second.arg("--control").arg(&first.control);
    let output = run(&mut second, Duration::from_secs(60));
    assert_one_line(&output, &["running already", text(&first.control)]);
    // Nor are its files touched.
    let kept = folder.write("out/1-clients.pcap", "a capture of yesterday");
    let output = signalbox(&[
        "run",
        text(&policy),
        "--pcap-out",
        text(kept.parent().unwrap()),
        "--control",
        text(&first.control),
    ]);
    assert_one_line(&output, &["running already"]);
    assert_eq!(std::fs::read(&kept).unwrap(), b"a capture of yesterday");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(first.ask(&["status"])["agent"]["ready"], true);
    assert!(first.process.ended().is_none());
}

#[test]
fn a_service_whose_switch_is_taken_over_ends_with_one_line() {
    let folder = Folder::new();
    let port = free_port();
    let _switch = switch_at(port, "64", &folder);
    let policy = folder.write("web.policy", POLICY);
    let mut first = Service::start("first", run_on(port, &policy), &folder);
    let mut second = Service::start("second", run_on(port, &policy), &folder);
    first.assert_ends_with(&["another controller"]);
    assert_eq!(second.ask(&["status"])["agent"]["ready"], true);
    assert!(second.process.ended().is_none());
}

#[test]
fn a_target_that_hangs_ends_run_with_one_line() {
    let folder = Folder::new();
    let port = free_port();
    let switch = switch_at(port, "64", &folder);
    let policy = folder.write("web.policy", POLICY);
    let mut service = Service::start("run", run_on(port, &policy), &folder);
    switch.signal("STOP");
    service.assert_ends_with(&["the target"]);
    let printed = service.process.printed();
    assert!(printed.contains("not answered"), "the reason: {printed}");
}

#[test]
fn a_target_whose_packets_do_not_reach_the_agent_is_one_line() {
    let folder = Folder::new();
    let port = free_port();
    let _switch = switch_at(port, "65", &folder);
    let policy = folder.write("web.policy", POLICY);
    let mut command = run_on(port, &policy);
    command.arg("--control").arg(folder.file("control.sock"));
    let output = run(&mut command, Duration::from_secs(60));
    assert_one_line(&output, &["port 64", "did not come back"]);
}

#[test]
fn a_control_path_that_is_a_file_of_the_users_is_refused() {
    let folder = Folder::new();
    let policy = folder.write("web.policy", POLICY);
    let file = folder.write("notes", "dear diary");
    let output = signalbox(&["run", text(&policy), "--control", text(&file)]);
    assert_one_line(&output, &[text(&file)]);
    assert_eq!(std::fs::read(&file).unwrap(), b"dear diary");
    let nowhere = folder.file("no/such/control.sock");
    let output = signalbox(&["run", text(&policy), "--control", text(&nowhere)]);
    assert_one_line(&output, &[text(&nowhere)]);
    assert!(!folder.file("no").exists());
}

#[test]
fn one_interface_cannot_be_two_ports() {
    let folder = Folder::new();
    let policy = folder.write("web.policy", POLICY);
    let control = folder.file("control.sock");
    let output = signalbox(&[
        "run",
        text(&policy),
        "--port",
        "1=lo",
        "--port",
        "rack=lo",
        "--control",
        text(&control),
    ]);
    assert_eq!(code(&output), 2, "{}", errors(&output));
    assert!(errors(&output).contains("`lo`"), "{}", errors(&output));
}

/// A pcap file of these packets, with their times in microseconds.
pub fn pcap(packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for (time, bytes) in packets {
        let length = bytes.len() as u32;
        for word in [
            (time / 1_000_000) as u32,
            (time % 1_000_000) as u32,
            length,
            length,
        ] {
            file.extend(word.to_le_bytes());
        }
        file.extend(bytes);
    }
    file
}

/// The packets of a pcap file.
fn packets(file: &[u8]) -> Vec<Vec<u8>> {
    assert_eq!(file[..4], [0xa1, 0xb2, 0xc3, 0xd4], "as our writer has it");
    let mut packets = Vec::new();
    let mut rest = &file[24..];
    while rest.len() >= 16 {
        let length = u32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
        packets.push(rest[16..16 + length].to_vec());
        rest = &rest[16 + length..];
    }
    packets
}

fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2);
    words
        .map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |byte| u32::from(*byte)))
        .sum()
}

fn folded(sum: u32) -> [u8; 2] {
    let sum = (sum & 0xffff) + (sum >> 16);
    (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
}

/// A SYN to the service from this port of a client.
fn syn(port: u16) -> Vec<u8> {
    segment(port, 2)
}

/// A TCP segment without a payload to the service, 54 bytes long.
pub fn segment(port: u16, flags: u8) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
    ip.extend([203, 0, 113, 9, 203, 0, 113, 80]);
    let checksum = folded(sum(&ip));
    ip[10..12].copy_from_slice(&checksum);
    let mut tcp = port.to_be_bytes().to_vec();
    tcp.extend([
        0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0,
    ]);
    let checksum = folded(sum(&ip[12..20]) + 6 + 20 + sum(&tcp));
    tcp[16..18].copy_from_slice(&checksum);
    let mut frame = vec![2, 0x53, 0x42, 0, 0, 1, 2, 0, 0, 0, 9, 9, 8, 0];
    frame.extend(ip);
    frame.extend(tcp);
    frame
}

/// The policy with the Ethernet addresses that nobody could be asked for.
pub fn policy_of_files(folder: &Folder) -> PathBuf {
    let policy = POLICY.replace(
        "rack    { address 10.0.1.1/24 }\n",
        "rack    { address 10.0.1.1/24 }\n  neighbour 10.0.1.10 at 02:00:00:00:01:10 on rack\n",
    );
    folder.write("web.policy", policy)
}

/// Runs the policy on these captures at port 1 and gives what it said, and what left by port 2.
fn replayed(folder: &Folder, capture: &[u8]) -> (Output, Vec<Vec<u8>>) {
    let policy = policy_of_files(folder);
    let input = folder.write("clients.pcap", capture);
    let out = folder.file("out");
    let output = signalbox(&[
        "run",
        text(&policy),
        "--pcap-in",
        &format!("clients={}", text(&input)),
        "--pcap-out",
        text(&out),
        "--control",
        text(&folder.file("control.sock")),
    ]);
    let sent = std::fs::read(out.join("2-rack.pcap")).unwrap();
    let tcp = |frame: &Vec<u8>| frame[12..14] == [8, 0] && frame[23] == 6;
    (output, packets(&sent).into_iter().filter(tcp).collect())
}

#[test]
fn run_ends_when_its_captures_are_read_and_a_burst_loses_nothing() {
    let folder = Folder::new();
    // All at one time, and more than an agent may hold.
    let burst: Vec<_> = (0..6_000u16)
        .map(|n| (7_000_000, syn(10_000 + n)))
        .collect();
    let (output, sent) = replayed(&folder, &pcap(&burst));
    assert_eq!(code(&output), 0, "{}", errors(&output));
    assert_eq!(sent.len(), burst.len());
}

#[test]
fn a_capture_that_breaks_off_is_told_of_and_ends_with_1() {
    let folder = Folder::new();
    let mut capture = pcap(&[(1, syn(1_001)), (2, syn(1_002)), (3, syn(1_003))]);
    capture.truncate(capture.len() - 7);
    let (output, sent) = replayed(&folder, &capture);
    assert_eq!(code(&output), 1, "{}", errors(&output));
    let said = errors(&output);
    assert!(said.contains("clients.pcap`, packet 3"), "{said}");
    assert_eq!(sent.len(), 2, "what could be read");
}

#[test]
fn an_output_never_overwrites_an_input() {
    let folder = Folder::new();
    let policy = policy_of_files(&folder);
    let content = pcap(&[(1, syn(1_001))]);
    let input = folder.write("2-rack.pcap", &content);
    let output = signalbox(&[
        "run",
        text(&policy),
        "--pcap-in",
        &format!("1={}", text(&input)),
        "--pcap-out",
        text(input.parent().unwrap()),
        "--control",
        text(&folder.file("control.sock")),
    ]);
    assert_eq!(code(&output), 2, "{}", errors(&output));
    assert!(
        errors(&output).contains("2-rack.pcap"),
        "{}",
        errors(&output)
    );
    assert_eq!(std::fs::read(&input).unwrap(), content);
}

#[test]
fn flows_are_found_by_their_servers_name_and_not_by_their_counts() {
    let folder = Folder::new();
    let policy = policy_of_files(&folder);
    let named = std::fs::read_to_string(&policy)
        .unwrap()
        .replace("  10.0.1.10:8080", "  web-1 10.0.1.10:8080");
    std::fs::write(&policy, named).unwrap();
    let input = folder.write("clients.pcap", pcap(&[(1, syn(1_001)), (2, syn(2_002))]));
    let mut command = Command::new(SIGNALBOX);
    command
        .arg("run")
        .arg(&policy)
        .args(["--pcap-in", &format!("1={}", text(&input))]);
    // Without --pcap-out it stays, to be looked at.
    let service = Service::start("run", command, &folder);
    wait_until("the flows", Duration::from_secs(20), || {
        service.ask(&["flows"]).as_array().unwrap().len() == 2
    });
    let found = |what: &str| service.ask(&["flows", what]).as_array().unwrap().len();
    assert_eq!(found("web-1"), 2);
    assert_eq!(found("web-2"), 0);
    assert_eq!(found(":2002"), 1);
    assert_eq!(found("packets"), 0);
    assert_eq!(service.ask(&["flows"])[0]["server"], "web-1");
    let table = signalbox(&["flows", "--control", text(&service.control)]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert_eq!(
        table.matches("203.0.113.9:1001 -> 203.0.113.80:80").count(),
        1,
        "{table}"
    );
    assert!(!table.contains("src="), "{table}");
}

#[test]
fn status_tells_an_interface_that_is_down_or_gone() {
    if !has(
        "status_tells_an_interface_that_is_down_or_gone",
        &["root", "ip", "sysctl"],
    ) {
        return;
    }
    let folder = Folder::new();
    let lab = Lab::new();
    let (switch, hosts) = (lab.space("switch"), lab.space("hosts"));
    lab.cable(&hosts, "eth0", &switch, "port1");
    lab.cable(&hosts, "eth1", &switch, "port2");
    let ip = |words: &[&str]| {
        let mut all = vec!["ip", "link"];
        all.extend(words);
        let output = switch.run(&all);
        assert!(output.status.success(), "{output:?}");
    };
    ip(&["set", "port2", "down"]);
    let policy = folder.write("web.policy", POLICY);
    let mut command = switch.command(SIGNALBOX);
    command
        .arg("run")
        .arg(&policy)
        .args(["--port", "1=port1", "--port", "2=port2"]);
    let service = Service::start("run", command, &folder);
    let printed = service.process.printed();
    assert!(printed.contains("`port2` is down"), "{printed}");
    let up = || {
        let ports = service.ask(&["status"])["ports"].clone();
        (ports[0]["up"] == true, ports[1]["up"] == true)
    };
    assert_eq!(up(), (true, false));
    ip(&["set", "port2", "up"]);
    wait_until("port 2", Duration::from_secs(5), || up() == (true, true));
    ip(&["del", "port1"]);
    wait_until("port 1 to go", Duration::from_secs(5), || {
        service.process.printed().contains("`port1` is gone")
    });
    assert_eq!(up(), (false, true));
}

#[test]
fn a_killed_run_leaves_no_bmv2_behind() {
    let needs = ["root", "ip", "sysctl", "setpriv", "simple_switch_grpc"];
    if !has("a_killed_run_leaves_no_bmv2_behind", &needs) {
        return;
    }
    let folder = Folder::new();
    let lab = Lab::new();
    let (switch, hosts) = (lab.space("switch"), lab.space("hosts"));
    lab.cable(&hosts, "eth0", &switch, "port1");
    let policy = folder.write("web.policy", POLICY);
    let mut command = switch.command(SIGNALBOX);
    command
        .arg("run")
        .arg(&policy)
        .args(["--target", "bmv2", "--port", "1=port1"]);
    let mut service = Service::start("run", command, &folder);
    assert_eq!(switch.processes().len(), 2, "run and bmv2");
    service.process.kill();
    wait_until("bmv2's end", Duration::from_secs(10), || {
        switch.processes().is_empty()
    });
}

/// Runs `signalbox` with a standard output, or error, that nobody reads.
fn unread(arguments: &[&str], errors_too: bool) -> (i32, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(SIGNALBOX);
    command.args(arguments).stdin(Stdio::null());
    if errors_too {
        command.stderr(writer.try_clone().unwrap());
    } else {
        command.stderr(Stdio::piped());
    }
    let output = command.stdout(writer).spawn().unwrap();
    let output = output.wait_with_output().unwrap();
    (code(&output), errors(&output))
}

#[test]
fn a_closed_pipe_is_no_failure_and_no_panic() {
    let folder = Folder::new();
    let test = "\ntest \"a new connection is asked about\" {\n  \
        send tcp syn 203.0.113.9:40000 -> 203.0.113.80:80 on clients\n  expect interest of web-lb\n}\n";
    let policy = folder.write("good.policy", format!("{POLICY}{test}"));
    let bad = folder.write("bad.policy", POLICY.replace("@web", "@wbe"));
    for flags in [&["--on", "evaluator"][..], &["--on", "evaluator", "--json"]] {
        let mut arguments = vec!["test", text(&policy)];
        arguments.extend(flags);
        let (code, said) = unread(&arguments, false);
        assert_eq!((code, said.as_str()), (0, ""));
    }
    assert_eq!(unread(&["check", text(&bad)], true).0, 3);
    assert_eq!(unread(&["status", "--control", "/nonexistent"], true).0, 1);
}

#[test]
fn check_tells_of_every_policy() {
    let folder = Folder::new();
    let bad = folder.write("bad.policy", POLICY.replace("@web", "@wbe"));
    let good = folder.write("good.policy", POLICY);
    let missing = folder.file("missing.policy");
    let output = signalbox(&["check", text(&bad), text(&missing), text(&good)]);
    assert_eq!(code(&output), 3, "{}", errors(&output));
    let said = errors(&output);
    assert!(
        said.contains("wbe") && said.contains("missing.policy"),
        "{said}"
    );
    let output = signalbox(&["check", text(&missing), text(&good)]);
    assert_one_line(&output, &["missing.policy"]);
}

#[test]
fn fmt_keeps_links_and_permissions() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let folder = Folder::new();
    let real = folder.write("real.policy", POLICY.replace("  pick  from", " pick from"));
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o600)).unwrap();
    let link = folder.file("link.policy");
    symlink("real.policy", &link).unwrap();
    let before = std::fs::read(&real).unwrap();
    let output = signalbox(&["fmt", text(&link)]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
    assert_ne!(std::fs::read(&real).unwrap(), before);
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(real.metadata().unwrap().mode() & 0o777, 0o600);
}
