//! Services that are divided among managers: what can divide them, and the proof that the parts fit.

use super::check;

const NETWORK: &str = "network {\n  port 1 clients { address 203.0.113.1/24 }\n  port 2 rack { address 10.0.1.1/24 }\n}\n";
const LOW: &str = "ip.src in 0.0.0.0/1";
const HIGH: &str = "ip.src in 128.0.0.0/1";

/// A policy with one service of a kind and these clauses, named `s`, and these lines of managers.
fn with(kind: &str, clauses: &str, managers: &str) -> String {
    let pool = if kind == "balance" {
        "pool web { 10.0.1.10:8080 }\n"
    } else {
        ""
    };
    format!("{NETWORK}{pool}service s : {kind} {{\n{clauses}\n}}\nmanagers {{\n{managers}\n}}\n")
}

const BALANCE: &str = "match tcp.dst 203.0.113.80:443\npick from @web by weighted";
const GATE: &str = "match tcp.dst 10.0.1.10:443\nallow ip";
const NAT: &str = "match ip.src in 10.0.1.0/24 and not ip.dst in 10.0.0.0/8\nsource 203.0.113.100";

fn two(one: &str, two: &str) -> String {
    format!("a serves s where {one}\nb serves s where {two}")
}

/// The notes of a policy's errors.
fn notes(text: &str) -> Vec<String> {
    let checked = signalbox_policy::check(text, "t.policy");
    checked
        .diagnostics
        .iter()
        .flat_map(|d| d.notes.clone())
        .collect()
}

// A7.2
#[test]
fn parts_that_cover_all_once_are_a_division() {
    for (kind, clauses) in [("balance", BALANCE), ("gate", GATE), ("nat", NAT)] {
        let halves = two("ip.src in 10.0.1.0/25", "not ip.src in 10.0.1.0/25");
        check(&with(kind, clauses, &halves), &[]);
    }
    for (kind, clauses, managers) in [
        ("balance", BALANCE, "a serves s where ip"),
        (
            "balance",
            BALANCE,
            &two("tcp.src in 0..32767", "tcp.src in 32768..65535"),
        ),
        (
            "gate",
            GATE,
            &two("tcp.dst 443 and ip.src in 0.0.0.0/1", HIGH),
        ),
        ("observe", "match tcp or udp", &two("tcp", "udp")),
        (
            "observe",
            "match tcp",
            &two("tcp.src 80 or tcp.dst 80", "not (tcp.src 80 or tcp.dst 80)"),
        ),
        // One direction only is counted.
        (
            "observe",
            "match tcp.dst 80 and not tcp.src 80",
            &two(LOW, HIGH),
        ),
        (
            "nat",
            "match ip.src in 10.0.1.0/28\none-to-one 10.0.1.0/28 = 203.0.113.16/28",
            &two("ip.src in 10.0.1.0/29", "ip.src in 10.0.1.8/29"),
        ),
        (
            "nat",
            "match tcp.dst 203.0.113.90:80\ndestination 10.0.1.20:8080",
            &two(LOW, HIGH),
        ),
    ] {
        check(&with(kind, clauses, managers), &[]);
    }
}

// A7.2
#[test]
fn a_packet_that_no_part_has_is_shown() {
    let text = with("balance", BALANCE, &two(LOW, "ip.src in 192.0.0.0/2"));
    check(&text, &["error unasked-packets ip.src in 192.0.0.0/2"]);
    assert_eq!(
        notes(&text),
        ["nobody is asked about `tcp syn 128.0.0.0:40000 -> 203.0.113.80:443 on clients`"]
    );
    let text = with("gate", GATE, &two(LOW, "ip.src in 192.0.0.0/2"));
    assert_eq!(
        notes(&text),
        ["nobody is asked about `tcp syn 128.0.0.0:40000 -> 10.0.1.10:443 on clients`"]
    );
}

// A7.1, A7.2
#[test]
fn a_packet_that_two_parts_have_is_shown() {
    let text = with(
        "nat",
        NAT,
        &two("ip.src in 10.0.1.0/25", "ip.src in 10.0.1.0/24"),
    );
    check(&text, &["error overlapping-parts ip.src in 10.0.1.0/24"]);
    let shown = notes(&text);
    assert_eq!(shown.len(), 1);
    assert!(
        shown[0].contains("both parts have `") && shown[0].contains(" 10.0.1."),
        "{shown:?}"
    );
}

// A7.6
#[test]
fn a_meters_part_with_one_direction_of_a_flow_is_shown() {
    let text = with("observe", "match tcp", &two(LOW, HIGH));
    check(&text, &["error divided-flow ip.src in 128.0.0.0/1"]);
    let shown = notes(&text);
    assert!(
        shown[0].contains("what it answers is of the other"),
        "{shown:?}"
    );
}

// A7.6
#[test]
fn what_is_not_alike_in_both_directions_divides_nothing() {
    for (kind, clauses, part, field) in [
        ("balance", BALANCE, "ip.dst 203.0.113.80", "ip.dst"),
        ("balance", BALANCE, "tcp.dst 443", "tcp.dst"),
        ("balance", BALANCE, "tcp.syn", "tcp.syn"),
        ("balance", BALANCE, "port clients", "port"),
        (
            "balance",
            &format!("{BALANCE}\nstick source 1h"),
            "tcp.src in 0..9",
            "tcp.src",
        ),
        ("gate", GATE, "tcp.flags syn", "tcp.flags"),
        ("nat", NAT, "tcp", "tcp"),
        ("nat", NAT, "ip.dst in 0.0.0.0/1", "ip.dst"),
        (
            "observe",
            "match icmp",
            "icmp.type echo-request",
            "icmp.type",
        ),
    ] {
        let text = with(kind, clauses, &two(part, "ip.src in 0.0.0.0/0"));
        check(&text, &[&format!("error cannot-divide {field}")]);
    }
}

// A7.2
#[test]
fn a_part_without_a_packet_is_an_error() {
    let parts = two("ip.src in 172.16.0.0/12", "not ip.src in 172.16.0.0/12");
    check(
        &with("nat", NAT, &parts),
        &["error empty-part ip.src in 172.16.0.0/12"],
    );
}

#[test]
fn a_service_is_served_as_a_whole_or_in_parts() {
    let check = |managers: &str, expect: &[&str]| {
        check(&with("balance", BALANCE, managers), expect);
    };
    check("a serves s where ip\nb serves s", &["error served-twice s"]);
    check("a serves s\nb serves s where ip", &["error served-twice s"]);
    check(
        "a serves s where ip.src in 0.0.0.0/1\na serves s where ip.src in 128.0.0.0/1",
        &["error served-twice s"],
    );
    check(
        "a serves s where ip.src in @nobody\nb serves s where ip",
        &["error unknown-name @nobody"],
    );
}

#[test]
fn a_manager_may_have_several_lines() {
    let text = format!(
        "{NETWORK}pool web {{ 10.0.1.10:8080 }}\nservice m : observe {{ match udp }}\n\
         service s : balance {{ {} }}\ncascade m > s\n\
         managers {{\na serves m\na serves s where {LOW}\nb serves s where {HIGH}\n}}\n",
        BALANCE.replace('\n', "; ")
    );
    check(&text, &[]);
    let policy = signalbox_policy::check(&text, "t.policy").policy.unwrap();
    assert_eq!(policy.managers[0].serves.len(), 2);
}

#[test]
fn a_meter_that_asks_nobody_is_not_divided() {
    check(
        &with(
            "observe",
            "match tcp\ncount packets, bytes\nreport every 10s",
            &two(LOW, HIGH),
        ),
        &["error needs-no-manager s"],
    );
}

// A7.7
#[test]
fn parts_need_outside_ports_each() {
    let few = NAT.replace("203.0.113.100", "203.0.113.100 ports 2000..2002");
    let halves = two("ip.src in 10.0.1.0/25", "not ip.src in 10.0.1.0/25");
    check(&with("nat", &few, &halves), &["error too-few-ports s"]);
}
