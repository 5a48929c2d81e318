//! A gate whose manager dies: agent and manager are processes of their own.

use std::path::PathBuf;
use std::time::Duration;

use super::gated::{Gated, POLICY, SERVER, counted, url};
use crate::SIGNALBOX;
use crate::needs::has;
use crate::process::{Process, wait_until};
use crate::processes::{ask, start};

const NEEDS: [&str; 7] = ["root", "ip", "curl", "python3", "sysctl", "kill", "cat"];

/// Starts the agent of a policy.
fn agent(gated: &Gated, policy: &str) -> Process {
    let folder = &gated.wired.folder;
    let policy = folder.write("gated.policy", policy);
    let mut command = gated.wired.at_switch.command(SIGNALBOX);
    command.arg("agent").arg(policy);
    command.args(["--port", "1=port1", "--port", "2=port2"]);
    let (agent, _) = start("agent", command, folder);
    agent
}

/// Starts the gate's manager.
fn manager(gated: &Gated, name: &str) -> (Process, PathBuf) {
    let mut command = gated.wired.at_switch.command(SIGNALBOX);
    let policy = gated.wired.folder.file("gated.policy");
    command.args(["manager", "gate-1"]).arg(policy);
    command.args(["--agent", "127.0.0.1:9570"]);
    start(name, command, &gated.wired.folder)
}

// A3.13
#[test]
fn a_killed_manager_leaves_the_switchs_connections_alone_and_the_next_one_resets_the_others() {
    let test =
        "a_killed_manager_leaves_the_switchs_connections_alone_and_the_next_one_resets_the_others";
    if !has(test, &NEEDS) {
        return;
    }
    let mut gated = Gated::prepare("switch", 3_000_000);
    let _agent = agent(&gated, POLICY);
    let (mut first, control) = manager(&gated, "first");
    gated.wait_for_service();

    // One that the switch has, one that stays with the manager, and some at any point of their lives.
    let got = gated.wired.folder.file("got");
    let mut download = gated.client.command("curl");
    download.args(["-sS", "-f", "-m", "60", "--limit-rate", "500k", "-o"]);
    download.arg(&got).arg(url("big"));
    let mut download = Process::start("download", download, &gated.wired.folder);
    let server = gated.server.clone();
    let script = |name: &str, text: &str| gated.wired.folder.write(name, text);
    let ticker = script("ticker.py", include_str!("gated_ticker.py"));
    let callers = script("callers.py", include_str!("gated_callers.py"));
    let [ticker, callers] = [ticker, callers].map(|path| path.to_str().unwrap().to_owned());
    gated
        .wired
        .program("ticker", &server, &["python3", &ticker]);
    wait_until("the ticker", Duration::from_secs(20), || {
        gated
            .wired
            .started("ticker")
            .printed()
            .contains("listening 81")
    });
    let client = gated.client.clone();
    gated
        .wired
        .program("callers", &client, &["python3", &callers, SERVER, "40"]);
    wait_until("ticks and fetches", Duration::from_secs(20), || {
        let printed = gated.wired.started("callers").printed();
        printed.contains("ticker: tick") && printed.contains("fetch: good")
    });
    wait_until("a word to who is silent", Duration::from_secs(20), || {
        gated
            .wired
            .started("ticker")
            .printed()
            .contains("heard: hello")
    });
    wait_until("the download", Duration::from_secs(20), || {
        got.metadata().is_ok_and(|about| about.len() > 100_000)
    });
    let status = ask(&["status"], &control);
    assert!(counted(&status, "door", "proxied") >= 1, "{status}");
    assert!(
        counted(&status, "door", "smaller segments") >= 1,
        "{status}"
    );
    // A moment that differs from run to run.
    let chance = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_micros() % 100;
    std::thread::sleep(Duration::from_millis(u64::from(chance)));
    first.kill();
    std::thread::sleep(Duration::from_secs(1));
    let silent = gated.wired.started("callers").printed();
    assert!(!silent.contains("done"), "{silent}");

    let (_second, control) = manager(&gated, "second");
    let limit = Duration::from_secs(60);
    wait_until("an end of all that was under way", limit, || {
        gated.wired.started("callers").printed().contains("done")
    });
    let printed = gated.wired.started("callers").printed();
    let became = |what: &str| printed.lines().filter(|line| *line == what).count();
    assert_eq!(became("ticker: ConnectionResetError"), 1, "{printed}");
    // One on which neither end says anything is found, too.
    assert_eq!(became("silent: ConnectionResetError"), 1, "{printed}");
    let server = gated.wired.started("ticker").printed();
    assert!(server.contains("silent: ConnectionResetError"), "{server}");
    // None hangs, and none is told anything wrong.
    let (good, reset) = (became("fetch: good"), became("fetch: ConnectionResetError"));
    assert_eq!(good + reset, 160, "{printed}");
    assert!(reset <= 4, "of those under way: {printed}");

    let status = download.wait(Duration::from_secs(60));
    assert!(status.success(), "{}", download.printed());
    let same = std::fs::read(&got).unwrap() == std::fs::read(&gated.big).unwrap();
    assert!(same, "the download differs");
    wait_until(
        "the server to be left by all",
        Duration::from_secs(10),
        || gated.connections() == 0,
    );
    let status = ask(&["status"], &control);
    assert_eq!(counted(&status, "door", "proxied"), 0, "{status}");
}

/// How long after a manager's death its clients are reset at the latest: criteria end after 3 s.
const LEASE: Duration = Duration::from_secs(4);

// A3.13
#[test]
fn clients_that_wait_for_their_server_to_speak_are_reset_when_the_manager_is_killed() {
    let test = "clients_that_wait_for_their_server_to_speak_are_reset_when_the_manager_is_killed";
    if !has(test, &NEEDS) {
        return;
    }
    let mut gated = Gated::prepare("switch", 1000);
    let patient = POLICY
        .replace("hand-over", "connect within 1m\n  hand-over")
        .replace("look", "speak within 1m\n  look");
    let _agent = agent(&gated, &patient);
    let script = |name: &str, text: &str| {
        let path = gated.wired.folder.write(name, text);
        path.to_str().unwrap().to_owned()
    };
    let mute = script("mute.py", include_str!("gated_mute.py"));
    let waiting = script("waiting.py", include_str!("gated_waiting.py"));
    let server = gated.server.clone();
    gated.wired.program("mute", &server, &["python3", &mute]);
    wait_until("who is mute", Duration::from_secs(20), || {
        gated.wired.started("mute").printed().contains("listening")
    });
    // Their criteria end, or another process comes before that.
    for (round, is_next) in [(1, false), (2, true)] {
        let (mut first, control) = manager(&gated, &format!("first-{round}"));
        gated.wait_for_service();
        // One goes through the manager, the server of one does not answer, and of one the first data are awaited.
        let mut command = gated.client.command("python3");
        command.args([&waiting, SERVER, "22", "81", "443"]);
        let mut clients = Process::start(&format!("waiting-{round}"), command, &gated.wired.folder);
        wait_until("clients that wait", Duration::from_secs(20), || {
            let status = ask(&["status"], &control);
            let proxied = |gate| counted(&status, gate, "proxied");
            let accepted = gated.wired.started("mute").printed();
            (proxied("door"), proxied("named")) == (2, 1)
                && counted(&status, "door", "smaller segments") == 1
                && accepted.matches("accepted").count() == round
                && clients.printed().matches("waits").count() == 3
        });
        first.kill();
        let killed = std::time::Instant::now();
        let _next = is_next.then(|| manager(&gated, "next"));
        let status = clients.wait(Duration::from_secs(20));
        let took = killed.elapsed();
        let printed = clients.printed();
        assert!(status.success(), "{printed}");
        for port in [22, 81, 443] {
            let reset = format!("{port} ConnectionResetError");
            assert!(printed.contains(&reset), "{reset}: {printed}");
        }
        assert!(took < LEASE, "{took:?}");
        // Nor does the server wait.
        wait_until("the server's end", Duration::from_secs(2), || {
            let server = gated.wired.started("mute").printed();
            server.matches("ConnectionResetError").count() == round
        });
    }
}
