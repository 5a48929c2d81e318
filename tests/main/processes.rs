//! Agent and managers as processes of their own, and policies that are changed while they run.

mod division;
mod downloads;
mod failover;
mod place;
mod state;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::SIGNALBOX;
use crate::commands::{POLICY, assert_one_line, code, errors, free_port, signalbox, text};
use crate::needs::has;
use crate::process::{Folder, Process, wait_until};
use place::Place;

const SOON: Duration = Duration::from_secs(60);

/// Starts a process of `signalbox` with a control socket, and waits until it says that it runs.
pub fn start(name: &str, mut command: Command, folder: &Folder) -> (Process, PathBuf) {
    let control = folder.file(&format!("{name}.sock"));
    command.arg("--control").arg(&control);
    let mut process = Process::start(name, command, folder);
    wait_until(name, SOON, || {
        let printed = process.printed();
        assert!(process.ended().is_none(), "{name} has ended: {printed}");
        printed.contains("running")
    });
    (process, control)
}

/// `signalbox WORDS…` on this machine.
fn command(words: &[&str]) -> Command {
    let mut command = Command::new(SIGNALBOX);
    command.args(words);
    command
}

/// What a control socket answers, or `null` while it does not.
pub fn ask(words: &[&str], control: &Path) -> Value {
    let mut all = words.to_vec();
    all.extend(["--json", "--control", text(control)]);
    let output = signalbox(&all);
    match code(&output) {
        0 => serde_json::from_slice(&output.stdout).unwrap(),
        _ => Value::Null,
    }
}

/// `signalbox apply` of a policy to these control sockets.
pub fn apply(policy: &Path, controls: &[&Path], words: &[&str]) -> Output {
    let mut all = vec!["apply", text(policy)];
    all.extend(words);
    for control in controls {
        all.extend(["--control", text(control)]);
    }
    signalbox(&all)
}

fn printed(output: &Output) -> String {
    assert_eq!(code(output), 0, "{}", errors(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An agent of the policy on the embedded switch, all of whose ports are down.
struct Agent {
    process: Process,
    control: PathBuf,
    address: String,
}

impl Agent {
    fn start(name: &str, policy: &Path, folder: &Folder) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let words = ["agent", text(policy), "--name", name, "--listen", &address];
        let (process, control) = start(name, command(&words), folder);
        Self {
            process,
            control,
            address,
        }
    }

    /// How many managers have a session, and how many entries of theirs are in.
    fn served(&self) -> (u64, u64) {
        let status = ask(&["status"], &self.control);
        let number = |path| status.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        (
            number("/agent/managers"),
            number("/agent/counters/criteria/now"),
        )
    }
}

fn manager(
    name: &str,
    manager: &str,
    policy: &Path,
    agents: &[&Agent],
    folder: &Folder,
) -> (Process, PathBuf) {
    let mut words = vec!["manager", manager, text(policy)];
    for agent in agents {
        words.extend(["--agent", &agent.address]);
    }
    start(name, command(&words), folder)
}

fn epoch(control: &Path) -> u64 {
    let status = ask(&["status"], control);
    let epoch = status.pointer("/managers/0/services/0/epoch");
    epoch.and_then(Value::as_u64).unwrap_or(0)
}

#[test]
fn wrong_usage_of_agent_manager_and_apply_is_one_line_that_says_what_to_do() {
    let folder = Folder::new();
    let policy = folder.write("web.policy", POLICY);
    let policy = text(&policy);
    // Beyond loopback there are no keys.
    let output = signalbox(&["agent", policy, "--listen", "0.0.0.0:9570"]);
    assert_eq!(code(&output), 2);
    assert!(errors(&output).contains("loopback"), "{}", errors(&output));
    assert!(errors(&output).contains("keys"), "{}", errors(&output));
    // A manager that the policy does not have.
    let output = signalbox(&["manager", "lb-9", policy, "--agent", "127.0.0.1:1"]);
    assert_eq!(code(&output), 2);
    let said = errors(&output);
    assert!(said.contains("`lb-9`") && said.contains("`lb-1`"), "{said}");
    assert_eq!(code(&signalbox(&["manager", "lb-1", policy])), 2);
    let output = signalbox(&["manager", "lb-1", policy, "--agent", "nowhere"]);
    assert_eq!(code(&output), 2);
    // A port that somebody has.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let control = folder.file("agent.sock");
    let output = signalbox(&[
        "agent",
        policy,
        "--listen",
        &address,
        "--control",
        text(&control),
    ]);
    assert_one_line_but_warnings(&output, &[&address]);
    assert!(!control.exists());
    // Nobody to apply to.
    let nowhere = folder.file("nowhere.sock");
    let output = apply(Path::new(policy), &[&nowhere], &[]);
    assert_one_line(&output, &[text(&nowhere)]);
}

/// As [`assert_one_line`], but ports without an interface may be told of.
fn assert_one_line_but_warnings(output: &Output, words: &[&str]) {
    let said = errors(output);
    assert_eq!(code(output), 1, "{said}");
    let lines: Vec<&str> = said.lines().filter(|l| !l.contains("warning")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    for word in words {
        assert!(lines[0].contains(word), "`{word}` in: {said}");
    }
}

#[test]
fn a_policy_with_errors_or_of_another_name_changes_nothing() {
    let folder = Folder::new();
    let policy = folder.write("web.policy", POLICY);
    let agent = Agent::start("agent-1", &policy, &folder);
    let before = ask(&["status"], &agent.control);
    let bad = folder.write("bad/web.policy", POLICY.replace("@web by", "@wbe by"));
    let output = apply(&bad, &[&agent.control], &[]);
    assert_eq!(code(&output), 3, "{}", errors(&output));
    assert!(errors(&output).contains("`wbe`"), "{}", errors(&output));
    let other = folder.write("other.policy", POLICY);
    let output = apply(&other, &[&agent.control], &[]);
    assert_one_line(&output, &["`web`", "`other`"]);
    // One socket of two is wrong: the other is not touched either.
    let more = folder.write("more/web.policy", POLICY.replace("8080", "8081"));
    let nowhere = folder.file("nowhere.sock");
    let output = apply(&more, &[&agent.control, &nowhere], &[]);
    assert_one_line(&output, &[text(&nowhere)]);
    assert_eq!(
        printed(&apply(&policy, &[&agent.control], &[])).trim(),
        "agent agent-1 of web: nothing changes"
    );
    let after = ask(&["status"], &agent.control);
    assert_eq!(before["agent"], after["agent"]);
}

#[test]
fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let folder = Folder::new();
    let policy = folder.write("web.policy", POLICY);
    let agent = Agent::start("agent-1", &policy, &folder);
    let (_manager, control) = manager("lb-1", "lb-1", &policy, &[&agent], &folder);
    wait_until("the manager", SOON, || agent.served().0 == 1);
    let changed = POLICY
        .replace("  10.0.1.10:8080\n", "  10.0.1.10:8080\n  10.0.1.11:8080\n")
        .replace(
            "cascade web-lb",
            "service guard : filter {\n  deny udp\n}\ncascade guard > web-lb",
        );
    let changed = folder.write("new/web.policy", changed);
    let both = [agent.control.as_path(), control.as_path()];
    for _ in 0..2 {
        let would = printed(&apply(&changed, &both, &["--dry-run"]));
        for line in [
            "+ service guard",
            "+ web-lb: server 10.0.1.11:8080",
            "another P4 program",
        ] {
            assert_eq!(would.matches(line).count(), 2, "`{line}` for both: {would}");
        }
    }
    let output = apply(&changed, &both, &["--dry-run", "--json"]);
    let list: Value = serde_json::from_str(&printed(&output)).unwrap();
    assert_eq!(list[0]["role"], "agent");
    assert_eq!(list[1]["name"], "lb-1");
    assert_eq!(list[0]["program"], true);
    assert_eq!(list[0]["applied"], Value::Null);
    // Then it does what it has said.
    let output = apply(&changed, &both, &["--json"]);
    let list: Value = serde_json::from_str(&printed(&output)).unwrap();
    assert_eq!(list[0]["applied"]["program"], true);
    assert!(list[0]["applied"]["gap_us"].as_u64().unwrap() > 0);
    wait_until("the manager with its new plan", SOON, || {
        agent.served().0 == 1
    });
    let status = ask(&["status"], &control);
    let targets = status.pointer("/managers/0/services/0/targets").unwrap();
    assert_eq!(targets.as_array().unwrap().len(), 2);
    assert_eq!(epoch(&control), 1, "it is the same manager");
    let again = printed(&apply(&changed, &both, &[]));
    assert_eq!(again.matches("nothing changes").count(), 2, "{again}");
}

#[test]
fn a_manager_of_another_policy_is_refused_until_the_policies_are_one() {
    let folder = Folder::new();
    let policy = folder.write("web.policy", POLICY);
    let agent = Agent::start("agent-1", &policy, &folder);
    let other = folder.write("other/web.policy", POLICY.replace("8080", "8081"));
    let (mut process, control) = manager("lb-1", "lb-1", &other, &[&agent], &folder);
    wait_until("the refusal", SOON, || {
        process.printed().contains("another plan")
    });
    assert!(process.ended().is_none(), "it waits for the policy");
    assert_eq!(agent.served(), (0, 0));
    let refused = ask(&["status"], &agent.control);
    let refused = &refused["agent"]["counters"]["refused_logins"];
    assert!(refused.as_u64().is_some_and(|n| n > 0), "{refused}");
    let status = ask(&["status"], &control);
    let state = status["agents"][0]["state"].as_str().unwrap().to_owned();
    assert!(state.contains("another plan"), "{state}");
    printed(&apply(&policy, &[&control], &[]));
    wait_until("the session", SOON, || agent.served() == (1, 2));
}

#[test]
fn a_manager_that_starts_again_is_not_denied_and_of_two_the_later_one_stays() {
    let folder = Folder::new();
    let policy = folder.write("web.policy", POLICY);
    let agents = [
        Agent::start("agent-1", &policy, &folder),
        Agent::start("agent-2", &policy, &folder),
    ];
    let both: Vec<&Agent> = agents.iter().collect();
    let all_served = || agents.iter().all(|a| a.served() == (1, 2));
    let (mut first, control) = manager("first", "lb-1", &policy, &both, &folder);
    wait_until("both agents", SOON, all_served);
    assert_eq!(epoch(&control), 1);
    first.kill();
    let (mut second, control) = manager("second", "lb-1", &policy, &both, &folder);
    wait_until("both agents again", SOON, || {
        all_served() && epoch(&control) == 2
    });
    let (mut third, control) = manager("third", "lb-1", &policy, &both, &folder);
    let status = second.wait(SOON);
    assert_eq!(status.code(), Some(1), "{}", second.printed());
    let said = second.printed();
    let last = said.lines().last().unwrap();
    assert!(
        last.contains("started later") && last.contains("`lb-1`"),
        "{said}"
    );
    wait_until("both agents with the third", SOON, || {
        all_served() && epoch(&control) == 3
    });
    // It stays so: nobody takes anything from anybody.
    std::thread::sleep(Duration::from_secs(4));
    assert!(third.ended().is_none(), "{}", third.printed());
    assert_eq!(epoch(&control), 3);
    for agent in &agents {
        let status = ask(&["status"], &agent.control);
        let denials = &status["agent"]["counters"]["denials"];
        assert_eq!(denials.get("old_epoch"), None, "{denials}");
    }
}

#[test]
fn a_manager_finds_its_agent_again_when_that_is_back() {
    let folder = Folder::new();
    let policy = folder.write("web.policy", POLICY);
    let mut agent = Agent::start("agent-1", &policy, &folder);
    let (process, _) = manager("lb-1", "lb-1", &policy, &[&agent], &folder);
    wait_until("the session", SOON, || agent.served() == (1, 2));
    agent.process.kill();
    wait_until("that it is noticed", SOON, || {
        process.printed().contains("no agent answers")
    });
    let words = ["agent", text(&policy), "--listen", &agent.address];
    let (again, control) = start("again", command(&words), &folder);
    agent.process = again;
    agent.control = control;
    wait_until("the session", SOON, || agent.served() == (1, 2));
    // One line an event, however often it was tried.
    let said = process.printed();
    assert_eq!(said.matches("no agent answers").count(), 1, "{said}");
}

// A9.4, A9.11
#[test]
fn each_process_may_die_and_established_flows_go_on() {
    if !has(
        "each_process_may_die_and_established_flows_go_on",
        &place::NEEDS,
    ) {
        return;
    }
    let mut place = Place::start(true);
    // A manager dies: its flows go on, those of the other manager are set up, its own new ones are not.
    let mut download = place.download(80);
    place.kill("lb-1");
    assert_eq!(place.fetch(81, 10), "200", "the other manager's service");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(
        place.fetch(80, 2),
        "000",
        "its criteria have ended with their lease"
    );
    download.assert_whole();
    place.start_manager("lb-1");
    wait_until("the manager that is back", SOON, || {
        place.fetch(80, 2) == "200"
    });

    // The agent dies, and the switch stands still: what is established goes on, nothing new comes in, and
    // nothing ends.
    let mut download = place.download(80);
    assert_eq!(place.fetch(81, 10), "200");
    place.kill("agent");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(place.fetch(81, 2), "000", "nobody answers for new flows");
    download.assert_whole();
    place.start_agent();
    let back = Instant::now();
    // It has taken over what it found, and ends it by its lease: idle for 6 s, looked at twice a lease.
    assert!(!place.flows(&[]).is_empty(), "flows of before are known");
    wait_until("the end of what is overdue", SOON, || {
        place.flows(&[]).is_empty()
    });
    assert!(
        back.elapsed() < Duration::from_secs(12),
        "{:?}",
        back.elapsed()
    );
    wait_until("the managers", SOON, || place.fetch(81, 2) == "200");

    // The switch dies, and with it everything on it; all comes back by itself.
    place.kill("switch");
    place.start_switch();
    wait_until("the service on a new switch", SOON, || {
        place.fetch(80, 2) == "200"
    });
}

#[test]
fn a_change_of_entries_loses_not_one_packet_of_a_download() {
    if !has(
        "a_change_of_entries_loses_not_one_packet_of_a_download",
        &place::NEEDS,
    ) {
        return;
    }
    let place = Place::start(false);
    place.offloads_off();
    let mut captures = place.watch();
    let mut download = place.download(80);
    let changed = place::POLICY
        .replace("  10.0.1.10:8080 weight 1\n", "  10.0.1.10:8080 weight 2\n  10.0.1.12:8080\n")
        .replace("  deny udp\n", "  deny udp\n  deny tcp.dst in 2000..3000\n")
        .replace("}\n\npool web", "  route 198.51.100.0/24 via 10.0.1.12\n  neighbour 10.0.1.12 at 02:00:00:00:00:12 on rack-a\n}\n\npool web");
    let said = place.apply(&changed);
    for line in [
        "+ route 198.51.100.0/24",
        "+ neighbour 10.0.1.12",
        "+ guard: criterion deny tcp.dst",
        "server 10.0.1.10:8080: weight 1 -> weight 2",
        "the P4 program stays",
        " 0 have ended",
    ] {
        assert!(said.contains(line), "`{line}` in: {said}");
    }
    // And back, and again.
    place.apply(place::POLICY);
    place.apply(&changed);
    assert_eq!(place.fetch(80, 10), "200", "new connections find a manager");
    assert!(download.is_running(), "the changes came while it ran");
    download.assert_whole();
    let [clients, rack] = place::counted(&mut captures);
    assert_eq!(clients, rack, "packets there and back at the two ports");
    assert!(clients.1 > 2_000, "{clients:?}");
}

// A4.6
#[test]
fn a_connection_lives_through_a_change_of_the_program() {
    if !has(
        "a_connection_lives_through_a_change_of_the_program",
        &place::NEEDS,
    ) {
        return;
    }
    let place = Place::start(false);
    let mut download = place.download(80);
    let flow = |place: &Place| place.flows(&["tcp", ":80"]);
    let before = flow(&place);
    assert_eq!(before.len(), 1, "{before:?}");
    let changed = place::POLICY
        .replace(
            "cascade",
            "service late : filter {\n  deny icmp\n}\n\ncascade",
        )
        .replace(
            "guard > web-lb > web-two",
            "guard > web-lb > web-two > late",
        );
    let said = place.apply(&changed);
    for line in [
        "+ service late",
        "another P4 program",
        "forwarded nothing for at most",
        " 1 go on, 0 have ended",
    ] {
        assert!(said.contains(line), "`{line}` in: {said}");
    }
    let after = flow(&place);
    assert_eq!(after.len(), 1, "{after:?}");
    assert_eq!(after[0]["flow"], before[0]["flow"]);
    let packets = |list: &[Value]| list[0]["reply"]["packets"].as_u64().unwrap();
    assert!(packets(&after) >= packets(&before), "running totals run on");
    assert!(after[0]["age_ms"].as_u64() > before[0]["age_ms"].as_u64());
    wait_until("a manager for new connections", SOON, || {
        place.fetch(80, 2) == "200"
    });
    assert!(download.is_running(), "the change came while it ran");
    download.assert_whole();
    // A service less, while another connection lives.
    let mut download = place.download(81);
    place.apply(place::POLICY);
    download.assert_whole();
}

#[test]
fn a_flow_is_found_by_what_a_service_made_of_it_and_one_of_a_removed_server_ends() {
    let name = "a_flow_is_found_by_what_a_service_made_of_it_and_one_of_a_removed_server_ends";
    if !has(name, &place::NEEDS) {
        return;
    }
    let place = Place::start(false);
    let mut download = place.download(80);
    for parts in [
        &["203.0.113.80"][..],
        &["tcp", "10.0.1.10:8080"],
        &["203.0.113.9", ":8080"],
        &["lb-1"],
    ] {
        let found = place.flows(parts);
        assert_eq!(found.len(), 1, "{parts:?}");
        let step = &found[0]["steps"][0];
        assert_eq!(
            (&step["service"], &step["manager"]),
            (&"web-lb".into(), &"lb-1".into())
        );
        assert_eq!(step["epoch"], 1);
    }
    assert!(place.flows(&["10.0.1.99"]).is_empty());
    let other = place::POLICY.replace("  10.0.1.10:8080 weight 1\n", "  10.0.1.13:8080 weight 1\n");
    let said = place.apply(&other);
    assert!(said.contains("1 have ended"), "{said}");
    assert!(place.flows(&["10.0.1.10"]).is_empty());
    download.stop();
}

#[test]
fn a_service_is_moved_to_another_manager_and_the_policy_says_so_where_it_is_wanted() {
    let folder = Folder::new();
    let text_before = POLICY.replace("  lb-1 serves web-lb\n", "  lb-1 serves web-lb  # first\n");
    let policy = folder.write("web.policy", &text_before);
    let agent = Agent::start("agent-1", &policy, &folder);
    let (_first, control) = manager("lb-1", "lb-1", &policy, &[&agent], &folder);
    wait_until("the session", SOON, || agent.served() == (1, 2));
    let agent_alone = ["--control", text(&agent.control)];
    let words = |part: &'static str, to: &'static str| ["move", text(&policy), part, to];
    for (part, to, says) in [
        ("web-lb", "lb-1", "serves `web-lb` already"),
        ("web-lb/1", "lb-2", "has no part 1"),
        ("nat", "lb-2", "it has web-lb"),
        ("web-lb/x", "lb-2", "expected SERVICE or SERVICE/NUMBER"),
    ] {
        let output = signalbox(&[&words(part, to)[..], &agent_alone].concat());
        assert_eq!(code(&output), 2);
        assert!(errors(&output).contains(says), "{}", errors(&output));
    }
    // lb-1 would serve nothing any more.
    let both = [&agent_alone[..], &["--control", text(&control)]].concat();
    let output = signalbox(&[&words("web-lb", "lb-2")[..], &both].concat());
    assert_eq!(code(&output), 1);
    assert!(
        errors(&output).contains("end this one first"),
        "{}",
        errors(&output)
    );
    let output = signalbox(&[&words("web-lb", "lb-2")[..], &agent_alone].concat());
    let said = errors(&output);
    assert_eq!(code(&output), 0, "{said}");
    assert!(
        said.contains("line 18: lb-2 serves web-lb  # first"),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&policy).unwrap(), text_before);
    let output = signalbox(&[&words("web-lb", "lb-2")[..], &agent_alone, &["--write"]].concat());
    assert_eq!(code(&output), 0, "{}", errors(&output));
    let (_second, _) = manager("lb-2", "lb-2", &policy, &[&agent], &folder);
    wait_until("the other one", SOON, || agent.served() == (1, 2));
    let output = signalbox(&words("web-lb", "lb-2"));
    assert!(errors(&output).contains("`lb-2` serves `web-lb` already"));
}
