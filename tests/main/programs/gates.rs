//! Real programs through a gate: what they send and get, what the server sees, and what the manager does not.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::capture::Capture;
use super::gated::{Gated, NOWHERE, SERVER, STRANGER, asked, counted, sha256, url};
use super::wired::printed;
use super::{alone, needs_of};
use crate::needs::find;
use crate::process::{Process, wait_until};

const NEEDS: [&str; 11] = [
    "root",
    "ip",
    "curl",
    "python3",
    "tcpdump",
    "ethtool",
    "sysctl",
    "kill",
    "cat",
    "sha256sum",
    "openssl",
];

/// The size of what goes through a gate; bmv2 takes some seconds for 10 MB.
fn big(target: &str) -> usize {
    match target {
        "bmv2" => 10_000_000,
        _ => 100_000_000,
    }
}

/// What the manager and the agent were asked about so far: nothing of a connection that the switch has.
fn asked_so_far(gated: &Gated) -> (u64, u64) {
    let status = gated.wired.status();
    let misses = &status["agent"]["counters"]["misses"];
    (asked(&status, "door"), misses.as_u64().expect("a count"))
}

/// 100 MB down and 100 MB up, of which the manager sees the first packets only.
fn a_download_and_an_upload(target: &str) {
    let gated = Gated::start(target, big(target));
    let wanted = sha256(&gated.big);
    let before = counted(&gated.wired.status(), "door", "switched over");

    let got = gated.wired.folder.file("got");
    let got_name = got.to_str().unwrap().to_owned();
    let mut download = gated.client.command("curl");
    download.args(["-sS", "-f", "-m", "60", "-o", &got_name, &url("big")]);
    let mut download = Process::start("download", download, &gated.wired.folder);
    wait_until("the switch to have it", Duration::from_secs(20), || {
        counted(&gated.wired.status(), "door", "switched over") > before
    });
    let start = asked_so_far(&gated);
    let status = download.wait(Duration::from_secs(60));
    assert!(status.success(), "{}", download.printed());
    assert_eq!(sha256(&got), wanted, "the download");
    assert_eq!(asked_so_far(&gated), start, "of the rest nobody was asked");

    let output = gated.curl(&["-m", "60", "-H", "Expect:", "-T", &got_name, &url("up")]);
    let digest = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(digest, wanted, "the upload: {output:?}");

    let status = gated.wired.status();
    assert_eq!(counted(&status, "door", "switched over"), before + 2);
    assert_eq!(counted(&status, "door", "proxied"), 0);
    // Three connections, of which each has some packets until the switch has it.
    assert!(asked(&status, "door") < 40, "{status}");
    // Whoever asks the switch sees both, with what they have carried.
    let flows = gated.wired.flows("door");
    let most = |direction: &str| {
        let bytes = flows.iter().map(|f| f[direction]["bytes"].as_u64());
        bytes.flatten().max().unwrap_or(0)
    };
    let size = big(target) as u64;
    assert!(most("forward") > size && most("reply") > size, "{flows:?}");
}

/// The server sees nothing of who may not come in, nor of who says the wrong thing; who may meets a TLS
/// server, and a closed port as a closed port.
fn who_may_and_who_may_not(target: &str) {
    let mut gated = Gated::start(target, 1000);
    let mut capture = gated.capture(&format!("host {STRANGER} or port 443"));
    let output = gated.curl(&["-m", "2", "--interface", STRANGER, &url("name")]);
    assert_eq!(output.status.code(), Some(28), "no answer: {output:?}");

    let folder = &gated.wired.folder;
    let [key, cert] = ["key.pem", "cert.pem"].map(|name| folder.file(name));
    let [key, cert] = [key.to_str().unwrap(), cert.to_str().unwrap()].map(str::to_owned);
    printed(
        &gated.server,
        &[
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=example.org",
            "-addext",
            "subjectAltName=DNS:example.org,DNS:www.example.org",
            "-keyout",
            &key,
            "-out",
            &cert,
        ],
    );
    let server = gated.server.clone();
    gated.wired.program(
        "tls",
        &server,
        &[
            "openssl", "s_server", "-accept", "443", "-cert", &cert, "-key", &key, "-www",
        ],
    );
    wait_until("the TLS server", Duration::from_secs(20), || {
        gated.wired.started("tls").printed().contains("ACCEPT")
    });
    let ask = |host: &str| {
        let (at, url) = (format!("{host}:443:{SERVER}"), format!("https://{host}/"));
        gated.curl(&["-m", "10", "--cacert", &cert, "--resolve", &at, &url])
    };
    let output = ask("www.example.net");
    assert!(output.stdout.is_empty());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("reset"), "another site: {said}");
    assert_eq!(capture.stop_by_ends().len(), 0, "packets at the server");

    for host in ["example.org", "www.example.org"] {
        let output = ask(host);
        let page = String::from_utf8_lossy(&output.stdout);
        assert!(page.contains("s_server -accept 443"), "{host}: {output:?}");
    }

    // Nobody listens there, and the client hears of it at once: while it connects, or right after.
    let output = gated.curl(&["-m", "10", &format!("http://{SERVER}:81/")]);
    let code = output.status.code();
    assert!(matches!(code, Some(7 | 56)), "refused or reset: {output:?}");

    let status = gated.wired.status();
    assert_eq!(counted(&status, "named", "look refused"), 1);
    assert_eq!(counted(&status, "named", "switched over"), 2);
    assert_eq!(counted(&status, "door", "server refused"), 1);
    assert_eq!(
        counted(&status, "door", "not allowed"),
        0,
        "the switch does that"
    );
}

/// 200 connections that are all open before the first is used.
fn many_at_once(target: &str) {
    let gated = Gated::start(target, 1000);
    let before = counted(&gated.wired.status(), "door", "switched over");
    let words = [SERVER, "80", "200", "server"];
    let good = gated.script("many.py", include_str!("gated_many.py"), &words);
    assert_eq!(good, "200", "connections with the right answer");
    let status = gated.wired.status();
    assert_eq!(counted(&status, "door", "switched over") - before, 200);
    assert_eq!(counted(&status, "door", "proxied"), 0);
}

/// Connections that follow each other on one tuple, each as soon as the one before is closed.
fn one_after_the_other(target: &str) {
    let gated = Gated::start(target, 1000);
    let before = counted(&gated.wired.status(), "door", "switched over");
    let words = [SERVER, "100"];
    let good = gated.script("again.py", include_str!("gated_again.py"), &words);
    assert_eq!(good, "100", "connections with the right answer");
    let status = gated.wired.status();
    // A SYN right behind the last FIN finds the switch's entries as they were; they fit what it opens, too.
    let anew = counted(&status, "door", "switched over") - before;
    assert!(anew > 50, "{anew} of 100 were decided anew");
}

/// A client of a flooded gate: when it began, in seconds since 1970, and how long the handshake took.
struct Attempt {
    began: f64,
    took: f64,
}

/// Floods come one at a time: they are what a machine of two processors can take.
static ONE_FLOOD: Mutex<()> = Mutex::new(());

/// A flood of SYNs of nobody, ten clients a second, and what there was before it.
struct Flood {
    program: Process,
    clients: Process,
    capture: Capture,
    resident: u64,
    before: Value,
    // Near the end, so that it outlives its programs.
    gated: Gated,
    _alone: MutexGuard<'static, ()>,
}

impl Flood {
    /// `count` SYNs begin to come in, so many a second.
    fn begin(target: &str, count: &str, rate: &str) -> Self {
        let alone = ONE_FLOOD.lock().unwrap_or_else(PoisonError::into_inner);
        let gated = Gated::start(target, 1000);
        // As large as it gets with some connections.
        gated.script(
            "many.py",
            include_str!("gated_many.py"),
            &[SERVER, "80", "20", "server"],
        );
        let capture = gated.capture(&format!("net {NOWHERE}"));
        let resident = gated.wired.resident();
        let before = gated.wired.status();
        let folder = &gated.wired.folder;
        let start = |name: &str, text: &str, words: &[&str]| {
            let script = folder.write(&format!("{name}.py"), text);
            let mut program = gated.client.command("python3");
            program.arg(script).args(words);
            Process::start(name, program, folder)
        };
        let words = [SERVER, "80", count, rate];
        let program = start("flood", include_str!("gated_flood.py"), &words);
        let stop = folder.file("stop");
        let words = [SERVER, stop.to_str().unwrap()];
        let clients = start("clients", include_str!("gated_impatient.py"), &words);
        Self {
            program,
            clients,
            capture,
            resident,
            before,
            gated,
            _alone: alone,
        }
    }

    /// When all of it was sent, in the clients' time, and how long that took.
    fn ended(&mut self) -> (f64, f64) {
        let status = self.program.wait(Duration::from_secs(60));
        assert!(status.success(), "{}", self.program.printed());
        let printed = self.program.printed();
        let (ended, took) = printed.trim().split_once(' ').unwrap();
        (ended.parse().unwrap(), took.parse().unwrap())
    }

    /// When nothing of it waits at the switch's port any more.
    fn taken(&self) -> f64 {
        let received = || {
            let status = self.gated.wired.status();
            (
                std::time::Instant::now(),
                status["ports"][0]["received"].as_u64().unwrap(),
            )
        };
        let mut before = received();
        wait_until("the rest of the flood", Duration::from_secs(40), || {
            std::thread::sleep(Duration::from_millis(300));
            let now = received();
            let (since, count) = std::mem::replace(&mut before, now);
            let rate = (now.1 - count) as f64 / (now.0 - since).as_secs_f64();
            // Clients send some dozens a second.
            rate < 500.0
        });
        std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64()
    }

    /// No more clients come; each has been served at last.
    fn clients(&mut self) -> Vec<Attempt> {
        self.gated.wired.folder.write("stop", "");
        let status = self.clients.wait(Duration::from_secs(60));
        let printed = self.clients.printed();
        assert!(status.success(), "{printed}");
        let attempt = |line: &str| {
            let mut words = line.split(' ');
            let mut number = || words.next().unwrap().parse().unwrap();
            let (began, took) = (number(), number());
            assert_eq!(words.next(), Some("good"), "{line}");
            Attempt { began, took }
        };
        printed.lines().map(attempt).collect()
    }

    /// What must be so after any flood, which may leave this much memory in use: queues at their fullest. Says how
    /// many of its SYNs were answered, at most.
    fn has_left_nothing(mut self, clients: usize, memory: u64) -> u64 {
        let status = self.gated.wired.status();
        let answered = counted(&status, "door", "syn") - counted(&self.before, "door", "syn");
        let grown = self.gated.wired.resident().saturating_sub(self.resident);
        assert!(grown < memory, "memory has grown by {grown} bytes");
        let counters = &status["agent"]["counters"];
        let most = counters["fixed"]["most"].as_u64().unwrap();
        let connections = 2 * (22 + clients as u64);
        assert!(most <= connections, "{most} entries in the fixed table");
        // The manager has no question left, and none came twice.
        assert_eq!(counters["late_verdicts"], counters["unanswered"]);
        assert_eq!(counters["interests_repeated"], 0);
        assert_eq!(counted(&status, "door", "proxied"), 0);
        let seen = self.capture.stop_by_ends().len();
        assert_eq!(seen, 0, "flows of the flood at the server");
        wait_until("the last client's end", Duration::from_secs(10), || {
            self.gated.connections() == 0
        });
        answered
    }
}

/// While SYNs of nobody come in, clients get in within a second, and nothing grows.
fn a_flood(target: &str) {
    let (count, rate) = match target {
        "bmv2" => ("2000", "500"),
        _ => ("12000", "3000"),
    };
    let mut flood = Flood::begin(target, count, rate);
    let (_, took) = flood.ended();
    assert!(took < 8.0, "the flood was thin: {count} SYNs in {took} s");
    let clients = flood.clients();
    let late = clients.iter().map(|c| c.took).filter(|took| *took >= 1.0);
    let late: Vec<f64> = late.collect();
    assert!(late.is_empty(), "{late:?} of {}", clients.len());
    let answered = flood.has_left_nothing(clients.len(), 8_000_000);
    let sent: u64 = count.parse().unwrap();
    assert!(answered >= sent, "{answered} of {sent}");
}

/// SYNs of nobody come in that are more than switch, agent and manager take. SYNs are lost then, clients' among
/// them; but who tries again gets in, and as soon as it is over all do at once.
// A3.4, A3.5
#[test]
fn after_a_flood_that_is_too_much_clients_get_in_at_once() {
    let test = "after_a_flood_that_is_too_much_clients_get_in_at_once";
    if !needs_of(test, "switch", &NEEDS) {
        return;
    }
    let mut flood = Flood::begin("switch", "80000", "20000");
    let (ended, _) = flood.ended();
    let taken = flood.taken();
    std::thread::sleep(Duration::from_secs(2));
    let clients = flood.clients();
    let within_a_second = |from: f64, to: f64| {
        let of = clients.iter().filter(|c| (from..to).contains(&c.began));
        let (good, late): (Vec<_>, Vec<_>) = of.map(|c| c.took).partition(|took| *took < 1.0);
        (good.len(), late)
    };
    let (good, late) = within_a_second(0.0, ended);
    assert!(good > 0, "nobody got in during the flood: {late:?}");
    let (good, late) = within_a_second(taken, f64::INFINITY);
    assert!(good > 10 && late.is_empty(), "{good}, {late:?}");
    flood.has_left_nothing(clients.len(), 16_000_000);
}

/// An ssh server speaks first, and its client waits for that.
fn ssh(target: &str) {
    let mut gated = Gated::start(target, 1000);
    let folder = &gated.wired.folder;
    let [host_key, key] = ["host-key", "key"].map(|name| folder.file(name));
    for key in [&host_key, &key] {
        let words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f"];
        let words = [&words[..], &[key.to_str().unwrap()]].concat();
        printed(&gated.client, &words);
    }
    let key = key.to_str().unwrap().to_owned();
    let config = format!(
        "HostKey {}\nAuthorizedKeysFile {key}.pub\nStrictModes no\nPermitRootLogin yes\n\
         PidFile none\nUsePAM no\n",
        host_key.display()
    );
    let config = folder.write("sshd.conf", config);
    // sshd gives up its rights there; a running system has it, a container may not.
    std::fs::create_dir_all("/run/sshd").unwrap();
    let program = find("sshd").unwrap();
    let server = gated.server.clone();
    let words = [
        program.to_str().unwrap(),
        "-D",
        "-e",
        "-f",
        config.to_str().unwrap(),
    ];
    gated.wired.program("sshd", &server, &words);
    wait_until("sshd", Duration::from_secs(20), || {
        gated
            .wired
            .started("sshd")
            .printed()
            .contains("listening on 0.0.0.0")
    });
    let to = format!("root@{SERVER}");
    let said = printed(
        &gated.client,
        &[
            "ssh",
            "-F",
            "none",
            "-i",
            &key,
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            &to,
            "seq 100000 | sha256sum",
        ],
    );
    let wanted = printed(&gated.client, &["sh", "-c", "seq 100000 | sha256sum"]);
    assert_eq!(said, wanted);
    let status = gated.wired.status();
    assert_eq!(
        counted(&status, "door", "switched over"),
        counted(&status, "door", "opened")
    );
    assert_eq!(counted(&status, "door", "proxied"), 0);
}

macro_rules! tests {
    ($($scenario:ident [$($tool:literal),*] => $switch:ident, $quirks:ident, $bmv2:ident;)*) => {$(
        #[test]
        fn $switch() {
            if needs_of(stringify!($switch), "switch", &[&NEEDS[..], &[$($tool),*]].concat()) {
                $scenario("switch");
            }
        }

        #[test]
        fn $quirks() {
            if needs_of(stringify!($quirks), "quirks", &[&NEEDS[..], &[$($tool),*]].concat()) {
                $scenario("quirks");
            }
        }

        #[test]
        fn $bmv2() {
            if needs_of(stringify!($bmv2), "bmv2", &[&NEEDS[..], &[$($tool),*]].concat()) {
                let _alone = alone();
                $scenario("bmv2");
            }
        }
    )*};
}

tests! {
    // A3.6, A3.8, A3.9
    a_download_and_an_upload [] =>
        a_gate_sees_the_start_of_a_download_and_of_an_upload,
        a_gate_sees_the_start_of_a_download_and_of_an_upload_with_bmv2s_limits,
        a_gate_sees_the_start_of_a_download_and_of_an_upload_on_bmv2;
    // A3.1, A3.2, A3.12
    who_may_and_who_may_not [] =>
        a_server_behind_a_gate_sees_only_who_may_come_in,
        a_server_behind_a_gate_sees_only_who_may_come_in_with_bmv2s_limits,
        a_server_behind_a_gate_sees_only_who_may_come_in_on_bmv2;
    // A3.8
    many_at_once [] =>
        two_hundred_connections_at_once_are_each_handed_over,
        two_hundred_connections_at_once_are_each_handed_over_with_bmv2s_limits,
        two_hundred_connections_at_once_are_each_handed_over_on_bmv2;
    // A3.8, A6.15
    one_after_the_other [] =>
        a_port_that_is_used_again_at_once_is_another_connection,
        a_port_that_is_used_again_at_once_is_another_connection_with_bmv2s_limits,
        a_port_that_is_used_again_at_once_is_another_connection_on_bmv2;
    // A3.2, A3.3, A3.4, A3.5
    a_flood [] =>
        clients_get_in_during_a_flood_and_nothing_grows,
        clients_get_in_during_a_flood_and_nothing_grows_with_bmv2s_limits,
        clients_get_in_during_a_flood_and_nothing_grows_on_bmv2;
    // A3.6, A3.8
    ssh ["ssh", "sshd", "ssh-keygen"] =>
        ssh_passes_a_gate_though_its_server_speaks_first,
        ssh_passes_a_gate_though_its_server_speaks_first_with_bmv2s_limits,
        ssh_passes_a_gate_though_its_server_speaks_first_on_bmv2;
}
