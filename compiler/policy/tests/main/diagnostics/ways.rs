//! Errors in what balance services say of their servers: ways, deaths, stickiness, limits; and MTUs.

use super::{balance, check, help};
use crate::texts::{DUAL_NETWORK, NETWORK, POOL};

fn with(clause: &str) -> String {
    balance(&format!(
        "match tcp.dst 203.0.113.80:443\npick from @web by least-connections\n{clause}"
    ))
}

/// The same, with servers that listen on the matched port.
fn dispatched(clause: &str) -> String {
    with(clause).replace(":8080", ":443")
}

#[test]
fn the_clauses_about_servers_take_their_own_words() {
    check(
        &with("stick source 10m\nslow-start 30s\non-death reset"),
        &[],
    );
    check(&with("stick flow 10m"), &["error syntax flow"]);
    check(&with("stick source 100ms"), &["error out-of-range 100ms"]);
    check(&with("way tunnel"), &["error unknown-word tunnel"]);
    check(&with("on-death restart"), &["error unknown-word restart"]);
    check(
        &with("way translate\nway translate"),
        &["error repeated-clause way translate"],
    );
    check(
        &with("source 203.0.113.100"),
        &["error misplaced-clause source"],
    );
    check(&with("limit 1000/s, 10 half-open per source"), &[]);
    check(
        &with("limit 5 tuples per source"),
        &["error unknown-word tuples"],
    );
    check(
        &with("on-death reset").replace("tcp.dst", "udp.dst"),
        &["error no-tcp on-death reset"],
    );
}

#[test]
fn a_dispatched_packet_keeps_its_port() {
    for way in ["mac", "ipip", "gue"] {
        check(&dispatched(&format!("way {way}")), &[]);
        let text = with(&format!("way {way}"));
        let error = format!("error port-translation way {way}");
        check(&text, &[&error, &error]);
        assert_eq!(
            help(&text),
            "write `10.0.1.10:443` in the pool, or use `way translate`"
        );
    }
    let two =
        dispatched("way mac").replace("203.0.113.80:443", "{ 203.0.113.80:443, 203.0.113.80:80 }");
    check(
        &two,
        &["error port-translation tcp.dst { 203.0.113.80:443, 203.0.113.80:80 }"],
    );
}

#[test]
fn what_direct_return_hides_cannot_be_limited() {
    check(
        &dispatched("way gue\nkeep half-open 5s"),
        &["error no-half-open keep half-open 5s"],
    );
    check(
        &dispatched("way gue\nlimit 100 half-open"),
        &["error no-half-open 100 half-open"],
    );
    check(&dispatched("way gue\nlimit 100/s per source"), &[]);
}

#[test]
fn a_mac_address_leads_no_further_than_the_subnet() {
    let routed = dispatched("way mac").replace(
        "route 0.0.0.0/0 via 203.0.113.254",
        "route 10.9.0.0/16 via 10.0.1.254",
    );
    let routed = routed.replace("10.0.2.10:443", "10.9.0.10:443");
    check(&routed, &["error unreachable way mac"]);
    check(&routed.replace("way mac", "way ipip"), &[]);
}

#[test]
fn two_services_may_share_a_server_that_answers_clients_itself() {
    let two = |way: &str| {
        format!(
            "{NETWORK}{POOL}service a : balance {{\nmatch tcp.dst 203.0.113.80:8080\npick from @web by weighted\n{way}\n}}\n\
             service b : balance {{\nmatch tcp.dst 203.0.113.81:8080\npick from @web by weighted\n{way}\n}}\n\
             cascade a > b\nmanagers {{ m serves a, b }}\n"
        )
    };
    check(&two("way ipip"), &[]);
    check(&two(""), &["error shared-server b"]);
    let filter = two("way mac").replace(
        "cascade a > b",
        "service f : filter { deny udp }\ncascade a > b > f",
    );
    check(&filter, &[]);
}

#[test]
fn a_check_of_the_load_needs_a_path() {
    let check_is = |text: &str| {
        format!(
            "{NETWORK}pool web {{ 10.0.1.10:80\n {text} }}\nservice b : balance {{\nmatch tcp.dst 203.0.113.80:80\npick from @web by weighted\n}}\nmanagers {{ m serves b }}\n"
        )
    };
    check(&check_is("check load \"/load\" every 2s"), &[]);
    check(&check_is("check load"), &["error missing-argument load"]);
    check(
        &check_is("check load \"load\""),
        &["error bad-path \"load\""],
    );
    check(
        &check_is("check laod \"/load\""),
        &["error unknown-word laod"],
    );
}

#[test]
fn an_mtu_is_one_that_links_have() {
    let v4 = |mtu: &str| {
        NETWORK.replace("203.0.113.1/24 }", &format!("203.0.113.1/24; {mtu} }}"))
            + "service f : filter { deny udp }\n"
    };
    check(&v4("mtu 68"), &[]);
    check(&v4("mtu 65535"), &[]);
    check(&v4("mtu 67"), &["error out-of-range 67"]);
    check(&v4("mtu 65536"), &["error out-of-range 65536"]);
    check(&v4("mtu 1500; mtu 1400"), &["error repeated-clause 1400"]);
    let dual = |mtu: &str| {
        DUAL_NETWORK.replace("1::1/64 }", &format!("1::1/64; {mtu} }}"))
            + "service f : filter { deny udp }\n"
    };
    check(&dual("mtu 1280"), &[]);
    check(&dual("mtu 1279"), &["error out-of-range 1279"]);
    let policy = crate::texts::policy(&v4("mtu 1400"));
    assert_eq!(
        (policy.network.ports[0].mtu, policy.network.ports[1].mtu),
        (1400, 1500)
    );
}
