//! Two hundred downloads through two switches side by side, each with its agent, two managers that stand by for each
//! other, and etcd, all processes of their own; one after the other is taken away, and new connections are counted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{SOON, ask, start};
use crate::SIGNALBOX;
use crate::lab::{Lab, Space};
use crate::needs::has;
use crate::process::{Folder, Process, wait_until};

/// What it needs of the machine.
const NEEDS: [&str; 6] = ["root", "ip", "python3", "sysctl", "kill", "etcd"];

/// A service in two parts, each manager's part the other one's to take over after a second.
const POLICY: &str = "\
network {
  port 1 clients { address 203.0.113.1/24 }
  port 2 rack-a  { address 10.0.1.1/24 }
  port 3 rack-b  { address 10.0.2.1/24 }
}

pool web {
  10.0.1.10:8080
  10.0.2.10:8080
}

service web-lb : balance {
  match tcp.dst 203.0.113.80:80
  pick  from @web by round-robin
  keep  idle 8s, closed 1s
}

cascade web-lb

managers {
  lb-1 serves web-lb where ip.src in 203.0.113.0/25
  lb-2 serves web-lb where not (ip.src in 203.0.113.0/25)
  backup lb-1 with lb-2 after 1s replicate sync
  backup lb-2 with lb-1 after 1s replicate sync
}
";

/// The policy's `after`, in seconds.
const AFTER: f64 = 1.0;

/// What a busy machine may add to any time, in seconds.
const SLACK: f64 = 2.0;

/// The clients: one of lb-1's part, one of lb-2's.
const CLIENTS: [&str; 2] = ["203.0.113.9", "203.0.113.209"];

/// Downloads of each of them.
const EACH: usize = 100;

/// Hosts, their addresses, the router and the switches' port that they have.
const HOSTS: [(&str, &[&str], &str); 3] = [
    ("client", &CLIENTS, "203.0.113.1"),
    ("one", &["10.0.1.10"], "10.0.1.1"),
    ("two", &["10.0.2.10"], "10.0.2.1"),
];

/// Everything that runs.
struct Site {
    // In the order of their end: programs before the namespaces they run in.
    running: BTreeMap<String, Process>,
    controls: BTreeMap<String, PathBuf>,
    hosts: Vec<Space>,
    site: Space,
    folder: Folder,
    _lab: Lab,
}

impl Site {
    fn start() -> Self {
        let (folder, lab) = (Folder::new(), Lab::new());
        let site = lab.space("site");
        let mut hosts = Vec::new();
        for (port, (name, addresses, router)) in (1..).zip(HOSTS) {
            let host = lab.space(name);
            // Answers may come by the other switch than the one that questions go to, and a cable that is cut leads
            // nowhere.
            for setting in ["rp_filter=0", "ignore_routes_with_linkdown=1"] {
                for which in ["all", "default"] {
                    let setting = format!("net.ipv4.conf.{which}.{setting}");
                    assert!(host.run(&["sysctl", "-qw", &setting]).status.success());
                }
            }
            for address in addresses {
                host.address("lo", &format!("{address}/32"), None);
            }
            for switch in ["1", "2"] {
                let eth = format!("eth{switch}");
                lab.cable(&host, &eth, &site, &format!("s{switch}p{port}"));
                // The way by the second switch is for when the first one's has gone.
                let words = ["ip", "route", "add", "default", "via", router, "dev", &eth];
                let words = [&words[..], &["onlink", "metric", switch]].concat();
                let output = host.run(&words);
                assert!(output.status.success(), "{output:?}");
            }
            hosts.push(host);
        }
        folder.write("web.policy", POLICY);
        let mut place = Self {
            running: BTreeMap::new(),
            controls: BTreeMap::new(),
            hosts,
            site,
            folder,
            _lab: lab,
        };
        place.start_etcd();
        (1..=2).for_each(|n| place.start_switch(n));
        (1..=2).for_each(|n| place.start_agent(n));
        place.start_manager("lb-1");
        place.start_manager("lb-2");
        for name in ["lb-1", "lb-2"] {
            wait_until("the link, the agents and the store", SOON, || {
                place.is_ready(name)
            });
        }
        place.start_servers();
        place
    }

    fn start_etcd(&mut self) {
        let mut command = self.site.command("etcd");
        let (client, peer) = ("http://127.0.0.1:2379", "http://127.0.0.1:2380");
        command
            .args(["--name", "test", "--log-level", "error", "--data-dir"])
            .arg(self.folder.file("etcd"))
            .args(["--listen-client-urls", client, "--advertise-client-urls"])
            .args([client, "--listen-peer-urls", peer])
            .args(["--initial-advertise-peer-urls", peer])
            .args(["--initial-cluster", "test=http://127.0.0.1:2380"])
            .args(["--heartbeat-interval", "50", "--election-timeout", "250"]);
        self.keep("etcd", Process::start("etcd", command, &self.folder));
    }

    fn start_switch(&mut self, number: u16) {
        let name = format!("switch-{number}");
        let mut command = self.site.command(SIGNALBOX);
        command.arg("switch");
        for port in 1..=3 {
            command.args(["-i", &format!("{port}@s{number}p{port}")]);
        }
        let grpc = format!("127.0.0.1:{}", 9558 + number);
        command.args(["--no-p4", "--", "--cpu-port", "64", "--grpc-server-addr"]);
        command.arg(grpc);
        self.keep(&name, Process::start(&name, command, &self.folder));
        // As the kernel lists who listens.
        let listens = format!(":{:04X} 00000000:0000 0A", 9558 + number);
        wait_until("the switch", SOON, || {
            let output = self.site.run(&["cat", "/proc/net/tcp"]);
            String::from_utf8_lossy(&output.stdout).contains(&listens)
        });
    }

    fn start_agent(&mut self, number: u16) {
        let name = format!("agent-{number}");
        let mut command = self.site.command(SIGNALBOX);
        command.arg("agent").arg(self.folder.file("web.policy"));
        let target = format!("p4runtime://127.0.0.1:{}", 9558 + number);
        let listen = format!("127.0.0.1:{}", 9569 + number);
        command.args(["--target", &target, "--cpu-port", "64"]);
        command.args(["--name", &name, "--listen", &listen]);
        self.begin(&name, command);
    }

    fn start_manager(&mut self, name: &str) {
        let mut command = self.site.command(SIGNALBOX);
        command
            .args(["manager", name])
            .arg(self.folder.file("web.policy"));
        command.args(["--agent", "127.0.0.1:9570", "--agent", "127.0.0.1:9571"]);
        command.args(["--state", "etcd://127.0.0.1:2379"]);
        command.args(match name {
            "lb-1" => ["--listen", "127.0.0.1:9580"],
            _ => ["--peer", "lb-1=127.0.0.1:9580"],
        });
        self.begin(name, command);
    }

    fn start_servers(&mut self) {
        let script = (self.folder).write("server.py", include_str!("downloads_server.py"));
        for (host, (name, addresses, _)) in self.hosts.clone().iter().zip(HOSTS).skip(1) {
            let mut command = host.command("python3");
            command.arg(&script).args(addresses);
            self.keep(name, Process::start(name, command, &self.folder));
        }
    }

    /// Starts one of the client's scripts with the service's address, these words and the client's addresses.
    fn start_client(&mut self, name: &str, script: &str, words: &[&str]) {
        let script = self.folder.write(&format!("{name}.py"), script);
        let mut command = self.hosts[0].command("python3");
        command.arg(script).args(["203.0.113.80", "80"]).args(words);
        command.args(CLIENTS);
        self.keep(name, Process::start(name, command, &self.folder));
    }

    fn begin(&mut self, name: &str, command: std::process::Command) {
        let (process, control) = start(name, command, &self.folder);
        self.keep(name, process);
        self.controls.insert(name.to_owned(), control);
    }

    fn keep(&mut self, name: &str, process: Process) {
        self.running.insert(name.to_owned(), process);
    }

    fn process(&mut self, name: &str) -> &mut Process {
        self.running.get_mut(name).unwrap()
    }

    fn status(&self, name: &str) -> serde_json::Value {
        ask(&["status"], &self.controls[name])
    }

    /// Whether a manager has both agents, the other manager, and the store.
    fn is_ready(&self, manager: &str) -> bool {
        let status = self.status(manager);
        let agents = status["agents"].as_array().cloned().unwrap_or_default();
        agents.len() == 2
            && agents.iter().all(|agent| agent["state"] == "connected")
            && status["managers"][0]["links"][0]["state"] == "in_sync"
            && status["store"]["reachable"] == true
    }

    /// A number in the status of a process.
    fn number(&self, name: &str, path: &str) -> u64 {
        let status = self.status(name);
        status
            .pointer(path)
            .and_then(serde_json::Value::as_u64)
            .unwrap_or(0)
    }

    /// How many packets in mid-flow a manager was asked about whose flow it knew.
    fn known_in_mid_flow(&self, manager: &str) -> u64 {
        let status = self.status(manager);
        let services = status.pointer("/managers/0/services");
        let services = services.and_then(|list| list.as_array()).unwrap().iter();
        let known = services.filter_map(|s| s["counts"]["mid_flow_known"].as_u64());
        known.sum()
    }

    /// Every try of the prober so far: whose it was, when it began, and whether it was answered in time.
    fn tries(&self) -> Vec<(String, f64, bool)> {
        let printed = self.running["prober"].printed();
        let lines = printed.lines().filter_map(|line| {
            let mut words = line.split(' ');
            let (source, begin) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
            Some((source, begin, words.next()? != "-"))
        });
        lines.collect()
    }

    /// The longest time since `from` between two tries of this client, one after the other, that were answered.
    fn outage(&self, client: &str, from: f64) -> f64 {
        let mut good: Vec<f64> = (self.tries().into_iter())
            .filter(|(source, begin, good)| source == client && *begin > from - 0.2 && *good)
            .map(|(_, begin, _)| begin)
            .collect();
        good.sort_by(f64::total_cmp);
        let steps = good.windows(2).map(|pair| pair[1] - pair[0]);
        steps.fold(0.0, f64::max)
    }

    /// Whether the client's last tries, of the last half of a second and more, were all answered.
    fn is_calm(&self, client: &str) -> bool {
        let tries = self.tries();
        let last = tries.iter().rev().filter(|(source, _, _)| source == client);
        let last: Vec<_> = last.take(15).collect();
        last.len() == 15
            && last
                .iter()
                .all(|(_, begin, good)| *good && now() - begin < 2.0)
    }

    /// What the downloads' client has printed that begins with this word: whose it was, a time and the rest.
    fn said(&self, word: &str, from: f64) -> Vec<(String, f64, String)> {
        let printed = self.running["downloads"].printed();
        let lines = printed.lines().filter_map(|line| {
            let mut words = line.splitn(4, ' ');
            let is_it = words.next()? == word;
            let (source, at) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
            is_it.then_some((source, at, words.next()?.to_owned()))
        });
        lines.filter(|(_, at, _)| *at > from - 0.5).collect()
    }

    /// Does something to the site, waits until it is at ease again, but for `seconds` at least, and prints what it
    /// meant. Gives the outage of each client's new connections, in seconds.
    fn event(&mut self, what: &str, seconds: u64, act: impl FnOnce(&mut Self)) -> [f64; 2] {
        let from = now();
        act(self);
        std::thread::sleep(Duration::from_secs(seconds));
        wait_until(what, SOON, || {
            CLIENTS.iter().all(|client| self.is_calm(client))
        });
        let outages = CLIENTS.map(|client| self.outage(client, from));
        let pauses = self.said("pause", from);
        let pauses = pauses
            .iter()
            .filter_map(|(_, _, length)| length.parse().ok());
        let broken = self.said("broken", from);
        println!(
            "{what}: {:.2} s and {:.2} s without new connections, {} of {} downloads broken, longest pause {:.2} s",
            outages[0],
            outages[1],
            broken.len(),
            2 * EACH,
            pauses.fold(0.0, f64::max),
        );
        assert!(broken.is_empty(), "{what}: {broken:?}");
        outages
    }
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs_f64()
}

// A8.3, A8.7, A9.2, A9.4, A9.6, A9.7, A9.8, A9.11
#[test]
fn two_hundred_downloads_outlive_a_manager_the_store_an_agent_and_a_link() {
    if !has(
        "two_hundred_downloads_outlive_a_manager_the_store_an_agent_and_a_link",
        &NEEDS,
    ) {
        return;
    }
    let mut site = Site::start();
    site.start_client("prober", include_str!("downloads_prober.py"), &[]);
    wait_until("the service", SOON, || {
        CLIENTS.iter().all(|client| site.is_calm(client))
    });
    let each = EACH.to_string();
    site.start_client("downloads", include_str!("downloads_client.py"), &[&each]);
    wait_until("all downloads", SOON, || {
        site.running["downloads"].printed().contains("up\n")
    });

    let outages = site.event("nothing happens", 2, |_| {});
    assert!(outages.iter().all(|o| *o < SLACK), "{outages:?}");

    // lb-2 has the downloads of lb-1 from here on, and all that follows comes to it.
    let outages = site.event("a manager is killed", 2, |site| site.process("lb-1").kill());
    assert!(outages[0] < AFTER + SLACK, "its part: {outages:?}");
    assert!(outages[1] < SLACK, "the other part: {outages:?}");

    // A manager looks at the store every 5 s, and waits for 2 s.
    let outages = site.event("etcd hangs", 1, |site| {
        site.process("etcd").signal("STOP");
        wait_until("its silence", SOON, || {
            site.status("lb-2")["store"]["reachable"] == false
        });
    });
    assert!(outages.iter().all(|o| *o < SLACK), "{outages:?}");

    let outages = site.event("an agent is killed and started again", 1, |site| {
        site.process("agent-1").kill();
        site.start_agent(1);
    });
    assert!(outages.iter().all(|o| *o < 3.0 + SLACK), "{outages:?}");

    // Every cable to the first switch is cut, and routes lead by the second.
    assert_eq!(site.number("agent-2", "/agent/counters/flows"), 0);
    let outages = site.event("links move to the other switch", 3, |site| {
        for port in ["s1p1", "s1p2", "s1p3"] {
            let output = site.site.run(&["ip", "link", "set", port, "down"]);
            assert!(output.status.success(), "{output:?}");
        }
    });
    assert!(outages.iter().all(|o| *o < SLACK), "{outages:?}");
    assert!(site.known_in_mid_flow("lb-2") >= 2 * EACH as u64);
    assert!(site.number("agent-2", "/agent/counters/flows") >= 2 * EACH as u64);

    let outages = site.event("the manager is back, and etcd", 2, |site| {
        site.process("etcd").signal("CONT");
        site.start_manager("lb-1");
        wait_until("its link", SOON, || site.is_ready("lb-1"));
    });
    assert!(outages.iter().all(|o| *o < SLACK), "{outages:?}");

    let downloads = site.process("downloads");
    downloads.interrupt();
    downloads.wait(SOON);
    let printed = downloads.printed();
    let last = printed.lines().last().unwrap();
    println!("{last}");
    assert!(
        last.starts_with(&format!("whole {} ", 2 * EACH)),
        "{printed}"
    );
}
