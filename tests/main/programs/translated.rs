//! Real programs through translation: from inside by NAT, by NAT behind balance, and by a hairpin.

use std::time::Duration;

use serde_json::Value;

use super::office::{Office, SERVERS, SERVICE, WAYS_TO_SEND, dig, iperf3, name_server, traceroute};
use super::wired::printed;
use super::{alone, needs_of};
use crate::process::wait_until;

const NEEDS: [&str; 12] = [
    "root",
    "ip",
    "curl",
    "python3",
    "ping",
    "ethtool",
    "sysctl",
    "kill",
    "traceroute",
    "iperf3",
    "dig",
    "dnsmasq",
];

/// curl, ping, traceroute, iperf3 and dig reach a server by its own address, from a shared one.
fn by_the_servers_own_addresses(target: &str) {
    let mut office = Office::start(target, true);
    let (name, address) = SERVERS[0];
    let url = format!("http://{address}:8080/name");
    assert_eq!(office.curl(&office.a, &url), format!("{name}\n"));
    // The web server writes down who asks.
    let asked_by = office.wired.started(&format!("web-{name}")).printed();
    let asked_by: Vec<&str> = asked_by
        .lines()
        .filter(|line| line.contains("\"GET /name") && !line.starts_with("203.0.113.1 "))
        .collect();
    assert!(!asked_by.is_empty(), "somebody asked");
    for line in asked_by {
        let outside = line.starts_with("203.0.113.100 ") || line.starts_with("203.0.113.101 ");
        assert!(outside, "an inside address was seen outside: {line}");
    }

    let ping = printed(
        &office.a,
        &["ping", "-c", "3", "-i", "0.2", "-W", "2", address],
    );
    assert!(ping.contains(" 0% packet loss"), "{ping}");

    let way = ["10.1.0.1", "203.0.113.254", address];
    assert_eq!(traceroute(&office.a, &[], address), way, "by UDP");
    assert_eq!(
        traceroute(&office.a, &["-I"], address),
        way,
        "by echo requests"
    );

    for flags in [&["+notcp"][..], &["+tcp"]] {
        assert_eq!(dig(&office.a, address, flags), name, "{flags:?}");
    }
    for way in WAYS_TO_SEND {
        iperf3(&office.a, address, way);
    }
    let outside = office.wired.flows("egress");
    assert!(!outside.is_empty());
    for flow in outside {
        let from = flow["translated"]["src"].as_str().unwrap();
        assert!(from.starts_with("203.0.113.10"), "{flow}");
    }
}

/// The same programs by the office's own address for both servers: balanced first, translated then.
fn by_the_offices_address(target: &str) {
    let mut office = Office::start(target, true);
    let first = office.curl(&office.a, &format!("http://{SERVICE}/name"));
    let (server, _) = SERVERS
        .into_iter()
        .find(|(name, _)| first == format!("{name}\n"))
        .expect("a server's name");
    // Both services had their part in it: a server was chosen, and the inside address stayed inside.
    let asked_by = office.wired.started(&format!("web-{server}")).printed();
    assert!(asked_by.contains("203.0.113.10"), "{asked_by}");
    assert!(!asked_by.contains("10.1.0."), "{asked_by}");

    let ping = printed(
        &office.a,
        &["ping", "-c", "3", "-i", "0.2", "-W", "2", SERVICE],
    );
    assert!(ping.contains(" 0% packet loss"), "{ping}");

    // The router's error quotes a packet that was translated twice, and comes back as one about the
    // sender's own. Who speaks from behind the service, without being the server, shows the switch's address.
    let way = ["10.1.0.1", "10.1.0.1", SERVICE];
    assert_eq!(traceroute(&office.a, &["-T", "-p", "80"], SERVICE), way);

    for flags in [&["+notcp"][..], &["+tcp"]] {
        let answer = dig(&office.a, SERVICE, flags);
        assert!(
            SERVERS.iter().any(|(name, _)| *name == answer),
            "{flags:?}: {answer}"
        );
    }
    for way in WAYS_TO_SEND {
        iperf3(&office.a, SERVICE, way);
    }
    let hidden = |flow: &Value| flow["flow"]["dport"] == 5201;
    let hidden = office
        .wired
        .flows("egress")
        .iter()
        .filter(|flow| hidden(flow))
        .count();
    let balanced = office.wired.flows("speed-lb").len();
    assert!(
        balanced >= 8 && hidden == balanced,
        "{balanced} balanced, {hidden} hidden"
    );
}

/// Two inside hosts talk by their outside addresses.
fn by_a_hairpin(target: &str) {
    let mut office = Office::start(target, true);
    let (a, b) = (office.a.clone(), office.b.clone());

    // Addresses of their own.
    let folder = office.wired.folder.write("inside/name", "inside\n");
    let folder = folder.parent().unwrap().to_str().unwrap().to_owned();
    let web = [
        "python3",
        "-u",
        "-m",
        "http.server",
        "8080",
        "--directory",
        &folder,
    ];
    office.wired.program("web-inside", &a, &web);
    office
        .wired
        .program("speed-inside", &a, &["iperf3", "-s", "-B", "10.1.0.20"]);
    let own = [
        "--interface",
        "10.2.0.20",
        "--retry",
        "5",
        "--retry-connrefused",
    ];
    let url = "http://203.0.113.20:8080/name";
    assert_eq!(office.curl_with(&b, url, &own), "inside\n");
    let asked_by = office.wired.started("web-inside").printed();
    assert!(
        asked_by.contains("203.0.113.21 "),
        "the asker's outside address: {asked_by}"
    );
    let ping = printed(
        &b,
        &[
            "ping",
            "-I",
            "10.2.0.20",
            "-c",
            "3",
            "-i",
            "0.2",
            "-W",
            "2",
            "203.0.113.20",
        ],
    );
    assert!(ping.contains(" 0% packet loss"), "{ping}");

    // A shared address: what `a` has opened to the outside with port 5053 is where `b` finds it.
    let (_, outside) = SERVERS[0];
    dig(&a, outside, &["-b", "10.1.0.10#5053"]);
    let flows = office.wired.flows("egress");
    let opened = flows.iter().find(|flow| flow["flow"]["sport"] == 5053);
    let opened = &opened.expect("the flow of dig")["translated"];
    let (address, port) = (opened["src"].as_str().unwrap(), opened["sport"].to_string());
    office
        .wired
        .program("dns-inside", &a, &name_server("inside", &["--port=5053"]));
    let dns = office.wired.started("dns-inside");
    wait_until("dnsmasq", Duration::from_secs(10), || {
        dns.printed().contains("started")
    });
    assert_eq!(dig(&b, address, &["-p", &port]), "inside");
    let asked_by = office.wired.started("dns-inside").printed();
    assert!(!asked_by.contains("from 10.2.0.10"), "{asked_by}");
    assert!(asked_by.contains("from 203.0.113.10"), "{asked_by}");
}

macro_rules! tests {
    ($($scenario:ident => $switch:ident, $quirks:ident, $bmv2:ident;)*) => {$(
        #[test]
        fn $switch() {
            if needs_of(stringify!($switch), "switch", &NEEDS) {
                $scenario("switch");
            }
        }

        #[test]
        fn $quirks() {
            if needs_of(stringify!($quirks), "quirks", &NEEDS) {
                $scenario("quirks");
            }
        }

        #[test]
        fn $bmv2() {
            if needs_of(stringify!($bmv2), "bmv2", &NEEDS) {
                let _alone = alone();
                $scenario("bmv2");
            }
        }
    )*};
}

tests! {
    // A2.3, A2.7, A2.8, A2.9
    by_the_servers_own_addresses =>
        programs_reach_a_server_through_nat,
        programs_reach_a_server_through_nat_with_bmv2s_limits,
        programs_reach_a_server_through_nat_on_bmv2;
    // A4.8, A2.9
    by_the_offices_address =>
        programs_reach_a_server_through_nat_behind_balance,
        programs_reach_a_server_through_nat_behind_balance_with_bmv2s_limits,
        programs_reach_a_server_through_nat_behind_balance_on_bmv2;
    // A2.13
    by_a_hairpin =>
        programs_of_two_inside_hosts_meet_through_a_hairpin,
        programs_of_two_inside_hosts_meet_through_a_hairpin_with_bmv2s_limits,
        programs_of_two_inside_hosts_meet_through_a_hairpin_on_bmv2;
}
