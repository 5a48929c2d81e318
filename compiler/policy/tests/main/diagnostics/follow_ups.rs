//! One slip, one message: what is missing is reported where it is missing, and nothing that follows from
//! an error is reported as another.

use signalbox_policy::render::{Format, render};

use super::{balance, check, filter, network, pool, test};
use crate::texts::NETWORK;

/// The places of all findings, as `LINE:COLUMN code`.
fn places(text: &str) -> Vec<String> {
    let checked = signalbox_policy::check(text, "t");
    render(&checked.diagnostics, text, "t", Format::Plain)
        .lines()
        .map(|line| {
            let mut parts = line.splitn(4, [':', ']']);
            let (_, row, column) = (parts.next(), parts.next(), parts.next());
            let code = parts.next().unwrap_or("").rsplit('[').next().unwrap_or("");
            format!("{}:{} {code}", row.unwrap_or(""), column.unwrap_or(""))
        })
        .map(|place| place.split(']').next().unwrap_or("").to_owned())
        .collect()
}

#[test]
fn what_is_missing_at_the_end_of_a_line_is_reported_there() {
    let net = "network { port 1 a { address 10.0.1.1/24 } }\n";
    let of = |clauses: &str| places(&format!("{net}service f : filter {{\n{clauses}\n}}\n"));
    assert_eq!(
        of("deny ip.src\ndeny tcp.dst"),
        ["3:12 syntax", "4:13 syntax"]
    );
    assert_eq!(of("deny\nallow tcp"), ["3:5 syntax"]);
    assert_eq!(of("deny tcp and\ndeny udp"), ["3:13 syntax"]);
    assert_eq!(of("deny tcp.flags\ndeny udp"), ["3:15 syntax"]);
    assert_eq!(of("deny ip.src in { 10.0.0.1\n10.0.0.2 }"), ["3:26 syntax"]);
    let route = "network {\n port 1 a { address 10.0.1.1/24 }\n route 10.9.0.0/16\n route 10.8.0.0/16 via 10.0.1.2\n}\n";
    assert_eq!(places(route), ["3:19 syntax"]);
    let pick = "service b : balance {\n match tcp.dst 192.0.2.1:80\n pick from @web by\n keep idle 5m\n}\npool web { 10.0.1.9:80 }\nmanagers { m serves b }\n";
    assert_eq!(places(&format!("{net}{pick}")), ["4:19 syntax"]);
    let cascade = "cascade f >\nservice f : filter { default deny }\n";
    assert_eq!(places(&format!("{net}{cascade}")), ["2:12 syntax"]);
}

#[test]
fn a_value_may_stand_on_the_next_line() {
    check(
        &filter(
            "deny\n ip.src in\n {\n 198.51.100.7,\n 198.51.100.9\n }\n and\n port\n clients\n default\n allow",
        ),
        &[],
    );
}

#[test]
fn a_server_that_was_refused_is_not_missing_too() {
    check(&pool("10.0.1.10"), &["error no-port 10.0.1.10"]);
    check(
        &pool("10.0.1.10:80 weight 0\n10.0.1.11"),
        &["error no-port 10.0.1.11"],
    );
}

#[test]
fn an_element_that_was_refused_leaves_no_empty_set() {
    check(
        &format!("set s = {{ 80 }}\n{}", filter("deny ip.src in @s and tcp")),
        &["error bad-element 80"],
    );
}

#[test]
fn a_subnet_that_was_refused_leaves_nothing_out_of_reach() {
    check(
        &network(
            "port 2 b { address 10.0.2.0/24 }\nroute 10.9.0.0/16 via 10.0.2.9\nneighbour 10.0.2.9 at 02:00:00:00:00:09",
        ),
        &["error bad-address 10.0.2.0/24"],
    );
    check(
        &network("prot 2 b { address 10.0.2.1/24 }\nroute 10.9.0.0/16 via 10.0.2.9"),
        &["error unknown-word prot"],
    );
    // An error elsewhere makes no address reachable.
    check(
        &format!(
            "{}set s = {{ 10.0.0.300 }}\n",
            network("route 10.9.0.0/16 via 10.0.2.9")
        ),
        &["error unreachable 10.0.2.9", "error bad-token 10.0.0.300"],
    );
}

#[test]
fn ports_with_impossible_numbers_are_not_the_same_port() {
    check(
        &network("port 70000 b { address 10.0.2.1/24 }\nport 70001 c { address 10.0.3.1/24 }"),
        &["error port-number 70000", "error port-number 70001"],
    );
}

#[test]
fn ipv6_in_a_policy_of_ipv4_is_called_that() {
    let message = |condition: &str| {
        let text = filter(&format!("deny {condition}"));
        signalbox_policy::check(&text, "t").diagnostics[0]
            .message
            .clone()
    };
    let only_v6 = "this matches IPv6 packets only, and the policy speaks IPv4";
    assert_eq!(message("ipv6"), only_v6);
    assert_eq!(message("icmp.type packet-too-big"), only_v6);
    assert_eq!(message("ipv6 and ipv4"), "no packet can match this");
}

#[test]
fn a_rule_is_useless_whatever_order_the_others_stand_in() {
    let narrow = "deny ip.src in 10.1.0.0/16 and tcp";
    check(
        &filter(&format!("{narrow}\ndeny ip.src in 10.0.0.0/8")),
        &[&format!("warning redundant {narrow}")],
    );
    check(
        &filter("deny tcp.dst 80..90\ndeny tcp.dst 85..95\ndeny tcp.dst 91..99"),
        &["warning redundant deny tcp.dst 85..95"],
    );
    // Of a chain, each covered by its neighbours, not all can go.
    check(
        &filter(
            "deny udp.dst 1..3\ndeny udp.dst 3..5\ndeny udp.dst 4..7\ndeny udp.dst 6..9\ndeny udp.dst 8..10",
        ),
        &[
            "warning redundant deny udp.dst 3..5",
            "warning redundant deny udp.dst 6..9",
        ],
    );
    // Of two that say the same, the later one can go.
    check(
        &filter("deny udp\ndeny ip.proto udp"),
        &["warning redundant deny ip.proto udp"],
    );
    // By every port there is comes every packet.
    check(
        &filter("deny tcp\ndeny port != rack-a\ndeny port in { rack-a }"),
        &["warning redundant deny tcp"],
    );
}

#[test]
fn every_pair_of_rules_that_contradict_is_shown_up_to_a_bound() {
    let pairs = |n: usize| {
        let allow: String = (0..n).map(|i| format!("allow tcp.src {i}\n")).collect();
        let deny: String = (0..n).map(|i| format!("deny tcp.dst {i}\n")).collect();
        let text = filter(&format!("{allow}{deny}"));
        let found = signalbox_policy::check(&text, "t").diagnostics;
        found.iter().filter(|d| d.code == "contradiction").count()
    };
    assert_eq!(pairs(3), 9);
    assert_eq!(pairs(20), 100);
}

#[test]
fn neighbouring_destinations_are_exact_ones() {
    let with = |m: &str| balance(&format!("match {m}\npick from @web by weighted"));
    let destinations = |m: &str| {
        let policy = crate::texts::policy(&with(m));
        match &policy.services[0].kind {
            signalbox_policy::model::ServiceKind::Balance(b) => b
                .destinations
                .iter()
                .map(|d| format!("{}:{}", d.address, d.port))
                .collect::<Vec<_>>(),
            _ => Vec::new(),
        }
    };
    assert_eq!(
        destinations("ip.dst 203.0.113.80 and tcp.dst in { 80, 81 }"),
        ["203.0.113.80:80", "203.0.113.80:81"]
    );
    assert_eq!(
        destinations("ip.dst in { 203.0.113.80, 203.0.113.81 } and tcp.dst 80"),
        ["203.0.113.80:80", "203.0.113.81:80"]
    );
    assert_eq!(
        destinations("ip.dst 203.0.113.80 and tcp.dst 8000..8010").len(),
        11
    );
    check(
        &with("ip.dst 203.0.113.80 and tcp.dst 0..1"),
        &["error bad-address ip.dst 203.0.113.80 and tcp.dst 0..1"],
    );
    let open = "ip.dst in 198.18.0.0/16 and tcp.dst 80";
    check(&with(open), &[&format!("error open-destination {open}")]);
    // More than a service may stand for, in boxes that are each small.
    let many: Vec<String> = (0..1_299)
        .map(|i| format!("198.18.{}.{}:80", i / 250, i % 250 + 1))
        .collect();
    let list = format!("tcp.dst in {{ {} }}", many.join(", "));
    check(&with(&list), &[&format!("error too-many-entries {list}")]);
}

#[test]
fn a_test_says_what_it_expects_on_one_line_or_several() {
    let send = "send tcp syn 192.0.2.1:1 -> 203.0.113.80:443 on clients";
    check(
        &test(&format!("{send}\nexpect drop by\nexpect server in @web")),
        &["error syntax "],
    );
    assert!(NETWORK.contains("clients"));
}
