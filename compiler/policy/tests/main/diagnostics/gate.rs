//! Errors in gate services.

use super::{check, help};
use crate::texts::NETWORK;

/// A gate of these clauses before a server.
fn gate(clauses: &str) -> String {
    let network = NETWORK.trim_end().trim_end_matches('}');
    format!(
        "{network}}}\nset staff = {{ 192.0.2.0/24 }}\nservice admin : gate {{\n match tcp.dst 10.0.1.5:22\n{clauses}\n}}\nmanagers {{ m serves admin }}\n"
    )
}

/// The same with somebody let in.
fn with(clause: &str) -> String {
    gate(&format!("allow ip.src in @staff\n{clause}"))
}

/// A gate with another match.
fn matching(clause: &str) -> String {
    format!(
        "{NETWORK}service admin : gate {{\n {clause}\n allow ip\n}}\nmanagers {{ m serves admin }}\n"
    )
}

#[test]
fn a_gate_may_say_everything_that_it_can() {
    check(&with(""), &[]);
    check(
        &gate(
            "allow ip.src in @staff from 08:00 to 18:00 on mon..fri\n\
             allow ip.src in 198.51.100.0/24 and port clients\n\
             allow ip.src 203.0.113.9 on sat, sun\n\
             limit 1000/s, 20/s per source, 5000 connections, 100 connections per source, 2000 proxied\n\
             look tls.name in { \"example.org\", \"*.example.org\" }\n\
             look http.host \"example.org\"\n\
             look bytes \"\\x16\\x03\" mask \"\\xff\\xff\" at 0\n\
             refuse reset\n\
             connect within 5s\n\
             speak within 10s\n\
             hand-over within 10s\n\
             keep idle 1h, closed 10s, proxied 1m\n\
             mss 1400\n\
             window-scale 7\n\
             buffer 65536",
        ),
        &[],
    );
}

#[test]
fn a_gate_says_what_it_stands_before_and_who_may_come_in() {
    check(
        &format!("{NETWORK}service admin : gate {{ allow ip }}\nmanagers {{ m serves admin }}\n"),
        &["error missing-clause admin"],
    );
    let nobody = format!(
        "{NETWORK}service admin : gate {{ match tcp.dst 10.0.1.5:22 }}\nmanagers {{ m serves admin }}\n"
    );
    check(&nobody, &["error missing-clause admin"]);
    assert_eq!(
        help(&nobody),
        "say who may come in, such as `allow ip.src in 192.0.2.0/24`; everybody: `allow ip`"
    );
    check(
        &format!("{NETWORK}service admin : gate {{ match tcp.dst 10.0.1.5:22 allow ip }}\n"),
        &["error no-manager admin"],
    );
}

#[test]
fn a_gate_stands_before_the_tcp_ports_of_servers() {
    for bad in [
        "match ip.dst 10.0.1.5",
        "match udp.dst 10.0.1.5:53",
        "match tcp.dst 10.0.1.5:22 or icmp and ip.dst 10.0.1.5",
    ] {
        check(
            &matching(bad),
            &[&format!("error not-tcp {}", &bad["match ".len()..])],
        );
    }
    for open in [
        "match tcp.dst 22",
        "match tcp and ip.dst 10.0.1.5",
        "match tcp",
    ] {
        check(
            &matching(open),
            &[&format!(
                "error open-destination {}",
                &open["match ".len()..]
            )],
        );
    }
    check(
        &matching("match port clients and tcp.dst 10.0.1.5:22"),
        &["error port-in-match port clients and tcp.dst 10.0.1.5:22"],
    );
    check(
        &matching("match tcp.dst 10.0.1.5:22 and tcp.syn"),
        &["error flags-in-match tcp.dst 10.0.1.5:22 and tcp.syn"],
    );
    check(&matching("match tcp.dst 22 and ip.dst in 10.0.1.0/24"), &[]);
    check(
        &matching("match tcp.dst 10.0.1.1:22"),
        &["error own-address tcp.dst 10.0.1.1:22"],
    );
}

#[test]
fn a_gate_before_an_address_that_is_nowhere_is_warned_of() {
    check(
        &matching("match tcp.dst 10.0.9.5:22").replace("route 0.0.0.0/0 via 203.0.113.254", ""),
        &["warning unreachable tcp.dst 10.0.9.5:22"],
    );
}

#[test]
fn a_clause_allows_some_of_what_the_gate_matches() {
    check(
        &gate("allow tcp.dst 443"),
        &["warning unused staff", "error matches-nothing tcp.dst 443"],
    );
    check(
        &gate("allow udp and ip.src in @staff"),
        &["error matches-nothing udp and ip.src in @staff"],
    );
    check(
        &gate("allow tcp.syn and ip.src in @staff"),
        &["error flags-in-match tcp.syn and ip.src in @staff"],
    );
    check(
        &with("deny ip.src in 192.0.2.7"),
        &["error misplaced-clause deny"],
    );
}

#[test]
fn times_are_times_of_a_week() {
    let at = |when: &str| gate(&format!("allow ip.src in @staff {when}"));
    check(&at("from 22:00 to 06:00"), &[]);
    check(&at("from 00:00 to 24:00 on fri..mon"), &[]);
    check(&at("from 18:00 to 00:00"), &[]);
    check(
        &at("from 08:00 to 08:00"),
        &["error bad-time 08:00 to 08:00"],
    );
    check(
        &at("from 24:00 to 08:00"),
        &["error bad-time 24:00 to 08:00"],
    );
    check(&at("from 08:00"), &["error syntax "]);
    check(&at("from 8:00 to 9:00"), &["error bad-token 8:00"]);
    check(&at("from 25:00 to 09:00"), &["error bad-token 25:00"]);
    check(&at("on monday"), &["error unknown-word monday"]);
    check(&at("on mon..wed, tue"), &["error repeated-clause tue"]);
    check(&at("on sat..mon, mon"), &["error repeated-clause mon"]);
}

#[test]
fn an_allow_that_changes_nothing_is_warned_of() {
    check(
        &with("allow ip.src in 192.0.2.64/26"),
        &["warning redundant allow ip.src in 192.0.2.64/26"],
    );
    check(
        &with("allow ip.src in 192.0.2.64/26 from 08:00 to 18:00"),
        &["warning redundant allow ip.src in 192.0.2.64/26 from 08:00 to 18:00"],
    );
    check(
        &with("allow ip.src in 192.0.2.0/23 from 08:00 to 18:00"),
        &[],
    );
    // Two of one time cover a third one; other times cover nothing.
    check(
        &gate(
            "allow ip.src in @staff on mon\n\
             allow ip.src in 192.0.2.0/25 on tue\n\
             allow ip.src in 192.0.2.128/25 on tue\n\
             allow ip.src in 192.0.2.64/26 on wed\n\
             allow ip.src in 192.0.2.64/26 on tue",
        ),
        &["warning redundant allow ip.src in 192.0.2.64/26 on tue"],
    );
    // Of two that are equal one stays.
    check(
        &with("allow ip.src in @staff"),
        &["warning redundant allow ip.src in @staff"],
    );
}

#[test]
fn what_is_limited_is_said_and_said_once() {
    check(&with("limit 100"), &["error bad-limit 100"]);
    check(
        &with("limit 100 connections per source, 50 connections per source"),
        &["error repeated-clause 50 connections per source"],
    );
    check(
        &with("limit 100 half-open"),
        &["error unknown-word half-open"],
    );
    check(
        &with("limit 100/s connections"),
        &["error bad-limit connections"],
    );
    check(
        &with("limit 100 proxied per source"),
        &["error bad-limit proxied"],
    );
    check(&with("limit 0 connections"), &["error out-of-range 0"]);
    check(
        &with("limit 1000001 proxied"),
        &["error out-of-range 1000001"],
    );
}

#[test]
fn what_is_looked_at_is_a_hosts_name_or_bytes() {
    let look = |what: &str| with(&format!("look {what}"));
    check(&look("tls.name \"EXAMPLE.org.\""), &[]);
    for bad in [
        "\"\"",
        "\"*\"",
        "\"a.*.org\"",
        "\"*.*.org\"",
        "\"exa mple.org\"",
        "\"a..b\"",
        "\"example.org:443\"",
        "\"192.0.2.1\"",
        "\"2001:db8::1\"",
    ] {
        check(
            &look(&format!("tls.name {bad}")),
            &[&format!("error bad-host {bad}")],
        );
    }
    check(&look("http.host \"192.0.2.1\""), &[]);
    assert_eq!(
        help(&look("http.host \"example.org:8080\"")),
        "write `\"example.org\"`"
    );
    check(
        &look("tls.name in { \"a.org\", \"A.org\" }"),
        &["warning redundant \"A.org\""],
    );
    check(
        &look("tls.names \"a.org\""),
        &["error unknown-word tls.names"],
    );
    check(&look("tls.name example.org"), &["error syntax example.org"]);
    check(&look("bytes \"\""), &["error out-of-range \"\""]);
    check(
        &look(&format!("bytes \"{}\"", "a".repeat(65))),
        &[&format!("error out-of-range \"{}\"", "a".repeat(65))],
    );
    check(&look("bytes \"\\q\""), &["error bad-escape \"\\q\""]);
    check(&look("bytes \"\\x1\""), &["error bad-escape \"\\x1\""]);
    check(
        &look("bytes \"ab\" mask \"\\xff\""),
        &["error bad-mask \"\\xff\""],
    );
    check(
        &look("bytes \"a\" mask \"\\x00\""),
        &["error bad-mask \"\\x00\""],
    );
    check(&look("bytes \"a\" at 5000"), &["error out-of-range 5000"]);
}

#[test]
fn numbers_and_times_of_a_gate_are_in_range() {
    check(&with("window-scale 15"), &["error out-of-range 15"]);
    check(&with("buffer 100"), &["error out-of-range 100"]);
    check(&with("mss 100"), &["error out-of-range 100"]);
    check(&with("mss 1461"), &["warning mss-above-mtu 1461"]);
    check(&with("connect within 500ms"), &["error out-of-range 500ms"]);
    check(&with("connect 5s"), &["error syntax 5s"]);
    check(&with("hand-over within 25h"), &["error out-of-range 25h"]);
    check(
        &with("keep half-open 5s"),
        &["error unknown-word half-open"],
    );
    check(&with("refuse reject"), &["error unknown-word reject"]);
    check(
        &with("mss 1000\nmss 1200"),
        &["error repeated-clause mss 1200"],
    );
    check(&with("speak within 5s"), &["error no-look speak within 5s"]);
    let shut = with("fallback route");
    check(&shut, &["error misplaced-clause fallback"]);
    check(
        &with("pick from @web by weighted"),
        &["error misplaced-clause pick"],
    );
}

#[test]
fn a_clause_of_a_gate_does_not_belong_in_another_kind() {
    for clause in ["look tls.name \"a.org\"", "refuse drop", "buffer 4096"] {
        let word = clause.split(' ').next().unwrap();
        check(
            &format!("{NETWORK}service f : filter {{\n default deny\n {clause}\n}}\n"),
            &[&format!("error misplaced-clause {word}")],
        );
    }
    check(
        &format!(
            "{NETWORK}service f : filter {{\n allow ip.src in 10.0.0.0/8 from 08:00 to 18:00\n}}\n"
        ),
        &["error unknown-word from"],
    );
}
