//! A gate whose manager dies: agent and manager are processes of their own.

use std::path::PathBuf;
use std::time::Duration;

use super::gated::{Gated, POLICY, SERVER, counted, url};
use crate::SIGNALBOX;
use crate::needs::has;
use crate::process::{Process, wait_until};
use crate::processes::{ask, start};

const NEEDS: [&str; 7] = ["root", "ip", "curl", "python3", "sysctl", "kill", "cat"];

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
    let folder = &gated.wired.folder;
    let policy = folder.write("gated.policy", POLICY);
    let mut command = gated.wired.at_switch.command(SIGNALBOX);
    command.arg("agent").arg(policy);
    command.args(["--port", "1=port1", "--port", "2=port2"]);
    let (_agent, _) = start("agent", command, folder);
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
