//! The commands as a user meets them: what they print, and how they end.

use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use signalbox_p4runtime::grpc::Grpc;
use signalbox_p4runtime::proto::p4::v1::get_forwarding_pipeline_config_request::ResponseType;
use signalbox_p4runtime::{Client, Session};

use crate::SIGNALBOX;
use crate::needs::has;
use crate::process::{Folder, Process, run, wait_until};

pub const POLICY: &str = "\
network {
  port 1 clients { address 203.0.113.1/24 }
  port 2 rack    { address 10.0.1.1/24 }
}

pool web {
  10.0.1.10:8080
}

service web-lb : balance {
  match tcp.dst 203.0.113.80:80
  pick  from @web by round-robin
}

cascade web-lb

managers {
  lb-1 serves web-lb
}
";

/// Runs `signalbox` with these arguments to its end.
pub fn signalbox(arguments: &[&str]) -> Output {
    run(
        Command::new(SIGNALBOX).args(arguments),
        Duration::from_secs(60),
    )
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails unless the command ended with 1 and one line that says all of `words`.
pub fn assert_one_line(output: &Output, words: &[&str]) {
    let text = errors(output);
    assert_eq!(code(output), 1, "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "one line: {text}");
    for word in words {
        assert!(text.contains(word), "`{word}` in: {text}");
    }
}

pub fn text(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

/// A loopback port that nobody listens at; another program may take it, but seldom does.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Our switch with its P4Runtime server at a port of loopback.
pub fn switch_at(port: u16, cpu_port: &str, folder: &Folder) -> Process {
    let mut command = Command::new(SIGNALBOX);
    let address = format!("127.0.0.1:{port}");
    command.args([
        "switch",
        "--no-p4",
        "--",
        "--cpu-port",
        cpu_port,
        "--grpc-server-addr",
        &address,
    ]);
    let switch = Process::start("switch", command, folder);
    wait_until("the switch", Duration::from_secs(10), || {
        std::net::TcpStream::connect(&address).is_ok()
    });
    switch
}

#[test]
fn help_is_printed_and_wrong_usage_exits_with_2() {
    let help = signalbox(&["--help"]);
    assert_eq!(code(&help), 0);
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    for command in [
        "check", "fmt", "compile", "test", "run", "agent", "manager", "apply", "demo", "switch",
        "status", "flows", "p4",
    ] {
        assert!(
            text.lines()
                .any(|line| line.trim_start().starts_with(command)),
            "{command}: {text}"
        );
    }
    assert_eq!(code(&signalbox(&[])), 2);
    assert_eq!(code(&signalbox(&["no-such-command"])), 2);
    assert_eq!(code(&signalbox(&["run"])), 2);
    assert_eq!(
        code(&signalbox(&["check", "--no-such-flag", "x.policy"])),
        2
    );
}

#[test]
fn a_policy_with_errors_prints_each_with_its_place_and_exits_with_3() {
    let folder = Folder::new();
    let bad = POLICY
        .replace("from @web by", "from @wbe by")
        .replace("address 10.0.1.1/24", "address 10.0.1.999/24");
    let path = folder.write("bad.policy", bad);
    for command in ["check", "compile", "test"] {
        let mut arguments = vec![command, text(&path)];
        let out = folder.file("out");
        if command == "compile" {
            arguments.extend(["-o", text(&out)]);
        }
        let output = signalbox(&arguments);
        assert_eq!(code(&output), 3, "{command}: {}", errors(&output));
        let said = errors(&output);
        assert!(
            said.contains("bad.policy:3:"),
            "the address's place: {said}"
        );
        assert!(said.contains("bad.policy:12:"), "the pool's place: {said}");
        assert!(
            said.contains("`wbe`") && said.contains("web"),
            "the likely name: {said}"
        );
        assert!(!out.exists(), "{command} wrote something");
    }
}

#[test]
fn a_policy_that_cannot_be_read_is_one_line() {
    let output = signalbox(&["check", "/nonexistent/web.policy"]);
    assert_one_line(&output, &["/nonexistent/web.policy"]);
}

#[test]
fn the_four_files_of_compile_are_written() {
    let folder = Folder::new();
    let path = folder.write("web.policy", POLICY);
    let out = folder.file("out");
    let output = signalbox(&["compile", text(&path), "-o", text(&out)]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
    for name in ["web.p4", "web.p4info.txtpb", "web.json", "web.plan.json"] {
        assert!(out.join(name).metadata().unwrap().len() > 100, "{name}");
    }
}

#[test]
fn a_failing_test_of_a_policy_exits_with_4() {
    let folder = Folder::new();
    let good = "\ntest \"a new connection is asked about\" {\n  \
        send tcp syn 203.0.113.9:40000 -> 203.0.113.80:80 on clients\n  expect interest of web-lb\n}\n";
    let path = folder.write("good.policy", format!("{POLICY}{good}"));
    let output = signalbox(&["test", text(&path)]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
    let bad = good.replace("expect interest of web-lb", "expect drop by web-lb");
    let path = folder.write("bad.policy", format!("{POLICY}{bad}"));
    let output = signalbox(&["test", text(&path)]);
    assert_eq!(code(&output), 4, "{}", errors(&output));
}

#[test]
fn evaluator_and_switch_agree_on_a_second_connection_from_the_same_port() {
    let folder = Folder::new();
    let two = POLICY.replace(
        "tcp.dst 203.0.113.80:80",
        "tcp.dst in { 203.0.113.80:80, 203.0.113.80:443 }",
    );
    let send = |what: &str, port: u16| {
        format!("  send tcp {what} 203.0.113.9:40000 -> 203.0.113.80:{port} on clients\n")
    };
    let test = format!(
        "\ntest \"the first one lives\" {{\n{}  expect server in @web\n{}  expect drop by web-lb\n\
         {}  expect server in @web\n}}\n",
        send("syn", 80),
        send("syn", 443),
        send("ack", 80),
    );
    let path = folder.write("two.policy", format!("{two}{test}"));
    let output = signalbox(&["test", text(&path)]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
}

#[test]
fn a_missing_interface_is_one_line() {
    if !has("a_missing_interface_is_one_line", &["root"]) {
        return;
    }
    let folder = Folder::new();
    let path = folder.write("web.policy", POLICY);
    let output = signalbox(&[
        "run",
        text(&path),
        "--port",
        "1=nosuchif0",
        "--port",
        "2=nosuchif1",
    ]);
    assert_one_line(&output, &["nosuchif0"]);
}

#[test]
fn a_missing_privilege_is_one_line() {
    if !has("a_missing_privilege_is_one_line", &["root", "setpriv"]) {
        return;
    }
    let folder = Folder::new();
    let path = folder.write("web.policy", POLICY);
    // The program may lie where nobody else may look.
    let program = folder.file("signalbox");
    std::fs::copy(SIGNALBOX, &program).unwrap();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["run", text(&path), "--port", "1=lo"])
        // Which is root's.
        .env_remove("XDG_RUNTIME_DIR");
    let output = run(&mut command, Duration::from_secs(60));
    assert_one_line(&output, &["lo", "CAP_NET_RAW"]);
}

#[test]
fn a_busy_port_is_one_line() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let output = signalbox(&["switch", "--no-p4", "--", "--grpc-server-addr", &address]);
    assert_one_line(&output, &[&address]);
}

#[test]
fn a_target_that_is_not_there_is_one_line() {
    let folder = Folder::new();
    let path = folder.write("web.policy", POLICY);
    let target = format!("p4runtime://127.0.0.1:{}", free_port());
    let output = signalbox(&["run", text(&path), "--target", &target]);
    assert_one_line(&output, &["127.0.0.1"]);
}

/// Whether the switch at this port of loopback runs a pipeline.
fn has_pipeline(port: u16) -> bool {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let address = format!("127.0.0.1:{port}");
        let grpc = Grpc::connect(&address, None, Duration::from_secs(5)).await;
        let session = Session::new(0, 1);
        let (client, _events) = Client::open(Arc::new(grpc.unwrap()), session)
            .await
            .unwrap();
        let pipeline = client.get_pipeline(ResponseType::All).await;
        pipeline.unwrap().is_some()
    })
}

#[test]
fn a_pipeline_that_the_target_refuses_is_one_line_and_leaves_nothing() {
    let folder = Folder::new();
    let port = free_port();
    let mut switch = switch_at(port, "510", &folder);
    let path = folder.write("web.policy", POLICY);
    let out = folder.file("out");
    let compiled = signalbox(&["compile", text(&path), "-o", text(&out)]);
    assert_eq!(code(&compiled), 0, "{}", errors(&compiled));
    let image = std::fs::read_to_string(out.join("web.json")).unwrap();
    // No JSON; an image of which half is missing; one that lacks a table of the P4Info.
    let wrong = [
        "{ this is no image".to_owned(),
        image[..image.len() / 2].to_owned(),
        image.replace("Ingress.next_hop", "Ingress.no_hop"),
    ];
    let target = format!("p4runtime://127.0.0.1:{port}");
    let control = folder.file("control.sock");
    let run = |device_config: &std::path::Path| {
        signalbox(&[
            "run",
            text(&path),
            "--target",
            &target,
            "--device-config",
            text(device_config),
            "--control",
            text(&control),
        ])
    };
    for wrong in wrong {
        let output = run(&folder.write("wrong.json", wrong));
        assert_one_line(&output, &["refuse"]);
        assert!(!control.exists(), "the control socket is left");
        assert!(!has_pipeline(port), "a refused pipeline was installed");
    }
    assert!(switch.ended().is_none(), "the switch has ended");
}

#[test]
fn a_target_that_goes_away_ends_run_with_one_line() {
    let folder = Folder::new();
    let port = free_port();
    let mut switch = switch_at(port, "64", &folder);
    let path = folder.write("web.policy", POLICY);
    let control = folder.file("control.sock");
    let mut command = Command::new(SIGNALBOX);
    command
        .args([
            "run",
            text(&path),
            "--target",
            &format!("p4runtime://127.0.0.1:{port}"),
            "--cpu-port",
            "64",
        ])
        .arg("--control")
        .arg(&control);
    let mut service = Process::start("run", command, &folder);
    wait_until("the service", Duration::from_secs(30), || {
        assert!(
            service.ended().is_none(),
            "run has ended: {}",
            service.printed()
        );
        code(&signalbox(&["status", "--control", text(&control)])) == 0
    });
    switch.kill();
    let status = service.wait(Duration::from_secs(30));
    let printed = service.printed();
    assert_eq!(status.code(), Some(1), "{printed}");
    let problems = printed
        .lines()
        .filter(|line| line.starts_with("signalbox: "))
        .count();
    assert_eq!(problems, 1, "one line: {printed}");
    assert!(!control.exists(), "the control socket is left");
}

#[test]
fn status_without_a_service_is_one_line() {
    let output = signalbox(&["status", "--control", "/nonexistent/control.sock"]);
    assert_one_line(&output, &["/nonexistent/control.sock"]);
}

#[test]
fn an_unparsable_p4_program_is_an_error_with_its_place() {
    let folder = Folder::new();
    let path = folder.write("broken.p4", "#include <core.p4>\nheader h { bit<8> a }\n");
    let out = folder.file("out");
    let output = signalbox(&["p4", "compile", text(&path), "-o", text(&out)]);
    assert_eq!(code(&output), 3, "{}", errors(&output));
    assert!(
        errors(&output).contains("broken.p4:2:"),
        "{}",
        errors(&output)
    );
    assert!(!out.join("broken.json").exists());
}

#[test]
fn a_compiled_p4_program_has_its_p4info_as_text_and_as_bytes() {
    use signalbox_p4runtime::proto::p4::config::v1::P4Info;

    let folder = Folder::new();
    let path = folder.write(
        "names.p4",
        include_str!("../../compiler/p4/tests/corpus/names.p4"),
    );
    let out = folder.file("out");
    let output = signalbox(&["p4", "compile", text(&path), "-o", text(&out)]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
    let bytes = std::fs::read(out.join("names.p4info.bin")).unwrap();
    let info = <P4Info as prost::Message>::decode(&*bytes).unwrap();
    let printed = std::fs::read_to_string(out.join("names.p4info.txtpb")).unwrap();
    assert_eq!(
        signalbox_p4runtime::text::parse_p4info(&printed).unwrap(),
        info
    );
    assert!(info.tables.iter().any(|t| t.action_refs.len() == 2));
    assert!(out.join("names.json").exists());
}

#[test]
fn the_demo_makes_a_thousand_connections() {
    let output = run(
        Command::new(SIGNALBOX).args(["demo", "--json"]),
        Duration::from_secs(120),
    );
    assert_eq!(code(&output), 0, "{}", errors(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["connections"], 1000);
    assert_eq!(report["completed"], 1000);
    assert_eq!(report["interest_packets"], 1000);
    assert!(report["repeated_interest_packets"].is_u64());
    assert_eq!(report["established_packets_at_manager"], 0);
    let servers = report["servers"].as_array().unwrap();
    let total: u64 = servers
        .iter()
        .map(|server| server["connections"].as_u64().unwrap())
        .sum();
    assert_eq!(total, 1000);
    let weights: u64 = servers
        .iter()
        .map(|server| server["weight"].as_u64().unwrap())
        .sum();
    for server in servers {
        let share = server["connections"].as_u64().unwrap() as f64 / 1000.0;
        let promised = server["weight"].as_u64().unwrap() as f64 / weights as f64;
        assert!((share - promised).abs() <= 0.1, "{server}");
        assert!(server["bytes"].as_u64().unwrap() > 0, "{server}");
    }
    assert!(report["first_packet_us"]["p50"].as_f64().unwrap() > 0.0);
    assert!(report["first_packet_us"]["p99"].as_f64() >= report["first_packet_us"]["p50"].as_f64());
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
}

/// Sends what arrives at one of two ports out by the other.
const CROSSED: &str = "\
#include <core.p4>
#include <v1model.p4>
struct headers_t { }
struct metadata_t { }
parser P(packet_in p, out headers_t h, inout metadata_t m, inout standard_metadata_t s) {
    state start { transition accept; }
}
control V(inout headers_t h, inout metadata_t m) { apply { } }
control I(inout headers_t h, inout metadata_t m, inout standard_metadata_t s) {
    apply { s.egress_spec = s.ingress_port ^ 1; }
}
control E(inout headers_t h, inout metadata_t m, inout standard_metadata_t s) { apply { } }
control C(inout headers_t h, inout metadata_t m) { apply { } }
control D(packet_out p, in headers_t h) { apply { } }
V1Switch(P(), V(), I(), E(), C(), D()) main;
";

/// A pcap file of so many frames of 60 bytes.
fn pcap(frames: u32) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
    file.extend([0; 8]);
    file.extend(65_535u32.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    for number in 0..frames {
        for word in [0, number, 60, 60] {
            file.extend(word.to_le_bytes());
        }
        file.extend([number as u8; 60]);
    }
    file
}

#[test]
fn packets_of_files_all_arrive_and_each_has_its_trace_in_json() {
    const FRAMES: u32 = 500;
    let folder = Folder::new();
    let program = folder.write("crossed.p4", CROSSED);
    let out = folder.file("out");
    let compiled = signalbox(&["p4", "compile", text(&program), "-o", text(&out)]);
    assert_eq!(code(&compiled), 0, "{}", errors(&compiled));
    let [a, b] = ["a", "b"].map(|name| folder.file(name));
    let file = |port: &std::path::Path, way: &str| format!("{}_{way}.pcap", port.display());
    for port in [&a, &b] {
        std::fs::write(file(port, "in"), pcap(FRAMES)).unwrap();
    }
    let traces = folder.file("traces.json");
    let [at_a, at_b] = [format!("0@{}", text(&a)), format!("1@{}", text(&b))];
    let json = out.join("crossed.json");
    let mut arguments = vec!["switch", text(&json), "--use-files", "0"];
    arguments.extend(["-i", &at_a, "-i", &at_b]);
    let overwriting = [&arguments[..], &["--pcap=/"]].concat();
    let refused = signalbox(&overwriting);
    assert_eq!(code(&refused), 2, "{}", errors(&refused));
    assert!(errors(&refused).contains("--use-files"));
    arguments.extend(["--trace", "json", "--trace-file", text(&traces)]);
    let address = format!("127.0.0.1:{}", free_port());
    arguments.extend(["--", "--grpc-server-addr", &address]);
    let mut command = Command::new(SIGNALBOX);
    command.args(&arguments);
    let _switch = Process::start("switch", command, &folder);
    let whole = u64::try_from(pcap(FRAMES).len()).unwrap();
    for port in [&a, &b] {
        wait_until("all packets", Duration::from_secs(30), || {
            std::fs::metadata(file(port, "out")).is_ok_and(|f| f.len() == whole)
        });
    }
    let text = std::fs::read_to_string(&traces).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2 * FRAMES as usize);
    let events = lines[0]["events"].as_array().unwrap();
    assert_eq!(events[0]["event"], "packet");
    assert!(events.iter().any(|event| event["event"] == "output"));
    assert_eq!(lines[0]["packet"].as_str().unwrap().len(), 120);
}
