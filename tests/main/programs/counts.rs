//! What observe reports of real programs' flows, against tcpdump at the switch's port.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::capture::{Ends, Tally};
use super::office::{Office, SERVERS, SERVICE, dig};
use super::wired::ends;
use super::{alone, needs_of};
use crate::process::wait_until;

const NEEDS: [&str; 12] = [
    "root", "ip", "curl", "python3", "tcpdump", "ping", "ethtool", "sysctl", "kill", "iperf3",
    "dig", "dnsmasq",
];

/// Opens a connection, sends a byte now and then, and says how it ended.
const TALKER: &str = "
import socket, sys, time
talk = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5, (\"\", int(sys.argv[3])))
print('open', flush=True)
talk.send(b'GET /')
for _ in range(200):
    time.sleep(0.1)
    try:
        talk.send(b'x')
    except ConnectionError as error:
        print(type(error).__name__)
        break
";

/// Asks, and hangs up with a RST before it has read the answer.
const HANGS_UP: &str = "
import socket, struct, sys
talk = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5, (\"\", int(sys.argv[3])))
talk.send(b'GET /name HTTP/1.0\\r\\n')
talk.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
talk.close()
";

fn tally(way: &Value) -> (Ends, Tally) {
    let number = |name: &str| way[name].as_u64().unwrap();
    let address = |name: &str| way[name].as_str().unwrap().parse().unwrap();
    let ends = Ends {
        src: address("src"),
        sport: number("sport") as u16,
        dst: address("dst"),
        dport: number("dport") as u16,
        proto: number("proto") as u8,
    };
    let tally = Tally {
        packets: number("packets"),
        bytes: number("bytes"),
    };
    (ends, tally)
}

/// Flows that end by FIN, RST and expiry, and one that is deleted.
fn reports_equal_the_capture(target: &str) {
    let mut office = Office::start(target, false);
    // What brought the office up is over, and its flows are gone.
    let meter_is_empty = |office: &Office| office.wired.flows("meter").is_empty();
    wait_until(
        "the end of the first flows",
        Duration::from_secs(30),
        || meter_is_empty(&office),
    );
    let before = office.wired.reports("meter").len();
    let folder = &office.wired.folder;
    let filter = "ip and host 10.1.0.10";
    let mut inside =
        super::capture::Capture::start(&office.wired.at_switch, "port1", filter, folder);
    let filter = "tcp port 8080 and not host 203.0.113.1";
    let mut outside =
        super::capture::Capture::start(&office.wired.at_switch, "port3", filter, folder);

    // FIN, by itself and through the balanced service; a server that refuses; RST; expiry.
    let (_, server) = SERVERS[0];
    let direct = format!("http://{server}:8080/name");
    assert_eq!(
        office.curl_with(&office.a, &direct, &["--local-port", "41001"]),
        "server-1\n"
    );
    let refused = format!("http://{server}:9/");
    assert_eq!(
        office.curl_with(&office.a, &refused, &["--local-port", "41002"]),
        ""
    );
    let hangs_up = ["python3", "-c", HANGS_UP, server, "8080", "41003"];
    assert!(office.a.run(&hangs_up).status.success());
    dig(&office.a, server, &["-b", "10.1.0.10#41004"]);
    assert!(
        office
            .a
            .run(&["ping", "-c", "4", "-i", "0.1", server])
            .status
            .success()
    );

    // Deletion: the server of a balanced connection hangs, its checks fail, and `on-death reset` acts.
    let a = office.a.clone();
    let talks = ["python3", "-c", TALKER, SERVICE, "80", "41005"];
    office.wired.program("talker", &a, &talks);
    let mut chosen = None;
    wait_until("the balanced flow", Duration::from_secs(10), || {
        let flows = office.wired.flows("web-lb");
        let flow = flows.iter().find(|flow| flow["flow"]["sport"] == 41005);
        chosen = flow.and_then(|flow| flow["server"].as_str().map(str::to_owned));
        chosen.is_some()
    });
    let web = format!("web-{}", chosen.unwrap());
    office.wired.started(&web).signal("STOP");
    let said = ends(office.wired.started("talker"), Duration::from_secs(20));
    assert!(
        said.contains("ConnectionResetError") || said.contains("BrokenPipeError"),
        "{said}"
    );
    wait_until("the end of all flows", Duration::from_secs(30), || {
        meter_is_empty(&office)
    });

    // Each direction is a flow of its own; the last report of each has all of it.
    let (inside, outside) = (inside.stop_by_ends(), outside.stop_by_ends());
    let mut reported: BTreeMap<Ends, Tally> = BTreeMap::new();
    let mut causes: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for report in office.wired.reports("meter").iter().skip(before) {
        let (ends, tally) = tally(&report["forward"]);
        causes
            .entry(ends.sport)
            .or_default()
            .push(report["cause"].as_str().unwrap().to_owned());
        if report["last"] == true {
            let sum = reported.entry(ends).or_default();
            sum.packets += tally.packets;
            sum.bytes += tally.bytes;
        }
    }
    assert!(inside.len() >= 12, "{inside:#?}");
    assert_eq!(reported, inside);
    for (port, cause) in [(41001, "closed"), (41003, "closed"), (41004, "expired")] {
        assert!(
            causes[&port].iter().any(|one| one == cause),
            "{port}: {causes:?}"
        );
    }

    // The deleted flow, as the balance service reports it: what went on to the server, and came back.
    let reports = office.wired.reports("web-lb");
    let is_deleted =
        |report: &&Value| report["cause"] == "deleted" && report["forward"]["sport"] == 41005;
    let deleted = reports
        .iter()
        .find(is_deleted)
        .expect("a report of the deleted flow");
    let (from_a, forward) = tally(&deleted["forward"]);
    let (_, reply) = tally(&deleted["reply"]);
    assert_eq!(from_a.sport, 41005);
    let hidden = |ends: &Ends| ends.dst.to_string() == deleted["forward"]["translated"]["dst"];
    let direct: Vec<u16> = office
        .wired
        .reports("egress")
        .iter()
        .filter(|report| report["forward"]["sport"] != 41005)
        .filter_map(|report| report["forward"]["translated"]["sport"].as_u64())
        .map(|port| port as u16)
        .collect();
    let on_wire: Vec<_> = outside
        .iter()
        .filter(|(ends, _)| ends.dport == 8080 && hidden(ends) && !direct.contains(&ends.sport))
        .collect();
    assert_eq!(on_wire.len(), 1, "{outside:#?}");
    let (went, packets) = on_wire[0];
    assert_eq!(forward, *packets);
    assert_eq!(reply, outside[&went.reversed()]);
}

// A1.2, A1.4, A1.5, A1.6
#[test]
fn reports_of_real_flows_equal_tcpdumps_to_the_packet_and_byte() {
    let test = "reports_of_real_flows_equal_tcpdumps_to_the_packet_and_byte";
    if needs_of(test, "switch", &NEEDS) {
        reports_equal_the_capture("switch");
    }
}

#[test]
fn reports_of_real_flows_equal_tcpdumps_with_bmv2s_limits() {
    let test = "reports_of_real_flows_equal_tcpdumps_with_bmv2s_limits";
    if needs_of(test, "quirks", &NEEDS) {
        reports_equal_the_capture("quirks");
    }
}

#[test]
fn reports_of_real_flows_equal_tcpdumps_on_bmv2() {
    let test = "reports_of_real_flows_equal_tcpdumps_on_bmv2";
    if needs_of(test, "bmv2", &NEEDS) {
        let _alone = alone();
        reports_equal_the_capture("bmv2");
    }
}
