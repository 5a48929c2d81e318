//! Real programs through the switch: curl, ping and Python's web server in network namespaces, with
//! `signalbox run` between them.

pub mod capture;
pub mod counts;
pub mod documents;
pub mod gated;
pub mod gates;
pub mod gates_alone;
pub mod gue;
pub mod office;
pub mod site;
pub mod translated;
pub mod wired;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::needs::has;
use crate::process::wait_until;
use site::{Fetched, SERVERS, Site};

const NEEDS: [&str; 9] = [
    "root", "ip", "curl", "python3", "tcpdump", "ping", "ethtool", "sysctl", "kill",
];

/// The share in percent that the weights 2:1:1 promise to each server.
const SHARES: [f64; 3] = [50.0, 25.0, 25.0];

/// bmv2 carries some thousand packets a second on a core: its tests run one at a time.
static ONE_BMV2: Mutex<()> = Mutex::new(());

fn needs(test: &str, target: &str) -> bool {
    needs_of(test, target, &NEEDS)
}

/// Waits until no other test has a bmv2.
fn alone() -> MutexGuard<'static, ()> {
    ONE_BMV2.lock().unwrap_or_else(PoisonError::into_inner)
}

fn needs_of(test: &str, target: &str, needs: &[&str]) -> bool {
    let mut needs = needs.to_vec();
    if target == "bmv2" {
        needs.push("simple_switch_grpc");
    }
    has(test, &needs)
}

/// 300 requests, each answered by the server that the weights say, each counted once.
fn requests_are_balanced_and_counted(target: &str) {
    let site = Site::start(target);
    let mut capture = site.capture("port1", "tcp and host 203.0.113.80");
    let mut by_server = BTreeMap::new();
    // Ports of our own choice, each used once: what is counted below is known by them, and Linux may
    // give one a second time in a run that takes long.
    for client_port in 20_000..20_300 {
        let fetched = site.fetch_from(client_port, "name");
        assert_eq!(fetched.status, "200", "{}", fetched.problem);
        let name = String::from_utf8(fetched.body).unwrap();
        assert!(SERVERS.contains(&name.as_str()), "body {name:?}");
        *by_server.entry(name).or_insert(0u32) += 1;
    }
    for (server, share) in SERVERS.iter().zip(SHARES) {
        let got = f64::from(by_server.get(*server).copied().unwrap_or(0)) / 3.0;
        assert!(
            (got - share).abs() <= 10.0,
            "{server} got {got} %: {by_server:?}"
        );
    }

    let seen = capture.stop();
    let status = site.status();
    assert_eq!(seen.distinct_syns(), 300);
    assert_eq!(status.interests, 300, "one question for each distinct SYN");
    assert_eq!(
        status.interest_packets - status.interests_repeated,
        300,
        "interest packets at the manager, questions put again apart: {status:?}"
    );
    assert_eq!((status.decided, status.mid_flow), (300, 0), "{status:?}");
    // Of an established flow only a SYN sent again may come by, and most meet their entry.
    assert!(
        status.misses - status.interests + status.overtaken <= seen.repeated_syns(),
        "packets of established flows at the agent: {status:?}, {} SYNs sent again",
        seen.repeated_syns()
    );

    let flows = site.flows();
    assert_eq!(flows.len(), 300, "flows listed");
    for (client_port, (forward, reply)) in &seen.by_client_port {
        let counted = &flows[client_port];
        assert_eq!(
            &counted.0, forward,
            "packets and bytes from client port {client_port}"
        );
        assert_eq!(
            &counted.1, reply,
            "packets and bytes to client port {client_port}"
        );
    }

    let ping = site
        .client
        .run(&["ping", "-c", "3", "-i", "0.2", "-W", "2", "203.0.113.80"]);
    assert!(
        ping.status.success(),
        "{}",
        String::from_utf8_lossy(&ping.stdout)
    );
}

/// 50 MB arrive as they were sent, with the hosts' offloads as Linux sets them; bmv2 cannot have those.
fn a_download_arrives_whole(target: &str) {
    let site = Site::start(target);
    if target != "bmv2" {
        for (host, interface) in site.interfaces() {
            let offloads = host.offloads(&interface);
            for offload in ["tx-checksumming", "tcp-segmentation-offload"] {
                let line = format!("{offload}: on");
                assert!(offloads.contains(&line), "{interface}: {offloads}");
            }
        }
    }
    let fetched: Fetched = site.fetch("big");
    assert_eq!(fetched.status, "200", "{}", fetched.problem);
    assert_eq!(fetched.body.len(), site::BIG);
    site.assert_whole(&fetched.body);
}

/// A server's death costs its own connections and no others.
fn a_dead_server_gets_no_new_connection(target: &str) {
    let mut site = Site::start(target);
    let mut downloads: Vec<_> = (0..6).map(|number| site.slow_download(number)).collect();
    for download in &downloads {
        wait_until("the first bytes", Duration::from_secs(20), || {
            download.server().is_some()
        });
    }
    let dead = SERVERS[1];
    site.kill_server(dead);
    // A check every second, a time-out of half a second, two failures in a row.
    std::thread::sleep(Duration::from_secs(4));
    for _ in 0..40 {
        let fetched = site.fetch("name");
        assert_eq!(fetched.status, "200", "{}", fetched.problem);
        assert_ne!(String::from_utf8_lossy(&fetched.body), dead);
    }
    let printed = site.switch.printed();
    assert!(
        printed.contains("server-b is down"),
        "the operator is told: {printed}"
    );
    let mut unharmed = 0;
    for download in &mut downloads {
        if download.server().as_deref() != Some(dead) {
            site.assert_whole(&download.finish());
            unharmed += 1;
        }
    }
    assert!(unharmed >= 3, "{unharmed} downloads from the other servers");
}

/// With the manager dead, what is established goes on and what is new is dropped.
fn a_dead_manager_leaves_established_flows_alone(target: &str) {
    let site = Site::start(target);
    let mut downloads: Vec<_> = (0..3).map(|number| site.slow_download(number)).collect();
    for download in &downloads {
        wait_until("the first bytes", Duration::from_secs(20), || {
            download.server().is_some()
        });
    }
    site.stop_manager();
    let refused = site.fetch_within("name", "4");
    assert_eq!(refused.status, "000", "a new connection meets the floor");
    for download in &mut downloads {
        site.assert_whole(&download.finish());
    }
    let refused = site.fetch_within("name", "2");
    assert_eq!(
        refused.status, "000",
        "a new connection still meets the floor"
    );
}

macro_rules! on_targets {
    ($($scenario:ident => $switch:ident, $bmv2:ident;)*) => {$(
        #[test]
        fn $switch() {
            if needs(stringify!($switch), "switch") {
                $scenario("switch");
            }
        }

        #[test]
        fn $bmv2() {
            if needs(stringify!($bmv2), "bmv2") {
                let _alone = alone();
                $scenario("bmv2");
            }
        }
    )*};
}

on_targets! {
    // A1.2, A6.1, A6.5, A6.17
    requests_are_balanced_and_counted =>
        three_hundred_requests_are_balanced_and_counted, three_hundred_requests_are_balanced_and_counted_on_bmv2;
    a_download_arrives_whole =>
        a_download_of_50_mb_arrives_whole, a_download_of_50_mb_arrives_whole_on_bmv2;
    // A6.11, A6.13
    a_dead_server_gets_no_new_connection =>
        a_killed_server_gets_no_new_connection, a_killed_server_gets_no_new_connection_on_bmv2;
    // A9.4, A9.10
    a_dead_manager_leaves_established_flows_alone =>
        a_killed_manager_leaves_established_flows_alone, a_killed_manager_leaves_established_flows_alone_on_bmv2;
}
