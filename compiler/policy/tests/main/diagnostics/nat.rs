//! Errors in nat services, and between them and others.

use super::{check, help};
use crate::texts::{BALANCE, DUAL_NETWORK, NETWORK, POOL};

/// A network, and a nat service of these clauses.
fn nat(clauses: &str) -> String {
    format!("{NETWORK}service n : nat {{\n{clauses}\n}}\nmanagers {{ m serves n }}\n")
}

const MATCH: &str = "match ip.src in 10.0.0.0/8 and not ip.dst in 10.0.0.0/8\n";

fn from_inside(clauses: &str) -> String {
    nat(&format!("{MATCH}{clauses}"))
}

#[test]
fn a_nat_service_says_what_it_matches_and_translates() {
    check(
        &from_inside("source 203.0.113.100..203.0.113.103, 203.0.113.120 ports 1024..65535"),
        &[],
    );
    check(&from_inside("source 203.0.113.96/28"), &[]);
    check(
        &nat("match ip.src in 10.0.1.0/28\none-to-one 10.0.1.0/28 = 203.0.113.96/28"),
        &[],
    );
    check(
        &nat("match ip.src 10.0.1.5\none-to-one 10.0.1.5 = 203.0.113.5"),
        &[],
    );
    check(
        &nat("match tcp.dst 203.0.113.80:443\ndestination 10.0.1.10:8443"),
        &[],
    );
    check(
        &nat("match tcp.dst 203.0.113.80:443\nsource 10.0.1.200\ndestination 10.0.1.10:8443"),
        &[],
    );
    check(&from_inside(""), &["error missing-clause n"]);
    check(&nat("source 203.0.113.100"), &["error missing-clause n"]);
    check(
        &format!("{NETWORK}service n : nat {{\n{MATCH}source 203.0.113.100\n}}\n"),
        &["error no-manager n"],
    );
    check(
        &from_inside("source 203.0.113.100\npick from @web by weighted"),
        &["error misplaced-clause pick"],
    );
}

#[test]
fn the_clauses_of_nat_stand_once_and_take_their_own_words() {
    let with = |clause: &str| from_inside(&format!("source 203.0.113.100\n{clause}"));
    check(
        &with("keep established 2h4m, transitory 4m, udp 5m, icmp 60s"),
        &[],
    );
    check(&with("keep idle 5m"), &["error unknown-word idle"]);
    check(&with("keep udp 5m, udp 6m"), &["error repeated-clause udp"]);
    check(&with("hold-back 120s"), &[]);
    check(&with("hold-back 25h"), &["error out-of-range 25h"]);
    check(&with("inbound mapped"), &[]);
    check(&with("inbound all"), &["error unknown-word all"]);
    check(&with("fallback reset"), &["error unknown-word reset"]);
    check(
        &with("source 203.0.113.101"),
        &["error repeated-clause source 203.0.113.101"],
    );
    check(
        &with(
            "limit 1000/s, 100/s per source, 10000 half-open\nlimit 100 half-open per source, 64 tuples per source",
        ),
        &[],
    );
}

#[test]
fn what_a_limit_bounds_is_always_said() {
    let with = |clause: &str| from_inside(&format!("source 203.0.113.100\n{clause}"));
    check(&with("limit 64"), &["error bad-limit 64"]);
    check(
        &with("limit 64 per source"),
        &["error bad-limit 64 per source"],
    );
    check(&with("limit 64 tuples"), &["error bad-limit tuples"]);
    check(
        &with("limit 64/s half-open"),
        &["error bad-limit half-open"],
    );
    check(&with("limit 64 flows"), &[]);
    check(&with("limit 64 hosts"), &["error unknown-word hosts"]);
    check(
        &with("limit 64 flows per source"),
        &["error bad-limit 64 flows per source"],
    );
    check(&with("limit 4194304 flows"), &[]);
    check(
        &with("limit 4194305 flows"),
        &["error out-of-range 4194305"],
    );
    check(&with("limit 0/s"), &["error out-of-range 0/s"]);
    check(&with("limit 64/m"), &["error bad-token 64/m"]);
    check(
        &with("limit 1/s\nlimit 2/s"),
        &["error repeated-clause 2/s"],
    );
    assert_eq!(
        help(&with("limit 64 per source")),
        "write `limit 64/s` for new flows in a second, `limit 64 flows` for all flows at once, \
         `limit 64 half-open` for flows that the other side has not answered, \
         or `limit 64 tuples per source`"
    );
}

#[test]
fn outside_addresses_are_clean_disjoint_and_few_enough() {
    check(
        &from_inside("source 203.0.113.101..203.0.113.100"),
        &["error bad-range 203.0.113.101..203.0.113.100"],
    );
    check(
        &from_inside("source 203.0.113.100/28"),
        &["error host-bits 203.0.113.100/28"],
    );
    check(&from_inside("source @out"), &["error wrong-value @out"]);
    check(
        &from_inside("source 203.0.113.100:80"),
        &["error wrong-value 203.0.113.100:80"],
    );
    check(
        &from_inside("source 224.0.0.1"),
        &["error bad-address 224.0.0.1"],
    );
    check(
        &from_inside("source 203.0.113.100..203.0.113.103, 203.0.113.102"),
        &["error duplicate-address 203.0.113.102"],
    );
    check(
        &from_inside("source 203.0.113.100, 2001:db8::1"),
        &["error family 2001:db8::1"],
    );
    check(
        &from_inside("source 203.0.113.100 ports 0..9"),
        &["error out-of-range 0..9"],
    );
    check(
        &from_inside("source 203.0.113.100 ports 9..8"),
        &["error out-of-range 9..8"],
    );
    check(&from_inside("source 100.64.0.0/16"), &[]);
    check(
        &from_inside("source 100.64.0.0/15"),
        &["error too-many-addresses 100.64.0.0/15"],
    );
    check(
        &from_inside("source 100.64.0.0/16, 100.65.0.0"),
        &["error too-many-addresses 100.64.0.0/16, 100.65.0.0"],
    );
    let each = |n: u32| {
        format!(
            "service n{n} : nat {{\nmatch ip.src in 10.{n}.0.0/16\nsource 100.{}.0.0/17\n}}\n",
            64 + n
        )
    };
    let many = format!(
        "{NETWORK}{}{}{}cascade n0 > n1 > n2\nmanagers {{ m serves n0, n1, n2 }}\n",
        each(0),
        each(1),
        each(2)
    );
    check(&many, &["error too-many-addresses source 100.66.0.0/17"]);
}

#[test]
fn pairs_are_of_one_length_and_cover_what_is_matched() {
    let one = |pair: &str| nat(&format!("match ip.src in 10.0.1.0/28\none-to-one {pair}"));
    check(
        &one("10.0.1.0/28 = 203.0.113.96/27"),
        &["error unequal-prefixes one-to-one 10.0.1.0/28 = 203.0.113.96/27"],
    );
    check(
        &one("10.0.1.1/28 = 203.0.113.96/28"),
        &["error host-bits 10.0.1.1/28"],
    );
    check(
        &one("10.0.1.0/29 = 203.0.113.96/29"),
        &["error no-pair ip.src in 10.0.1.0/28"],
    );
    assert_eq!(
        help(&one("10.0.1.0/29 = 203.0.113.96/29")),
        "narrow it: `ip.src in 10.0.1.0/29`"
    );
    check(
        &one("10.0.1.0/29 = 203.0.113.96/29\none-to-one 10.0.1.8/29 = 203.0.113.104/29"),
        &[],
    );
    check(
        &one("10.0.1.0/28 = 203.0.113.96/28\none-to-one 10.0.1.8/29 = 203.0.113.112/29"),
        &["error overlapping-prefixes one-to-one 10.0.1.8/29 = 203.0.113.112/29"],
    );
    check(
        &one("10.0.1.0/28 = 10.0.0.0/28\nsource 203.0.113.100"),
        &["error two-sources one-to-one 10.0.1.0/28 = 10.0.0.0/28"],
    );
    check(
        &one("10.0.1.0/28 = 203.0.113.96/28\ninbound answers"),
        &["error open-pair inbound answers"],
    );
    check(
        &one("10.0.1.0/28 = 203.0.113.96/28\nlimit 5 tuples per source"),
        &["error no-tuples 5 tuples per source"],
    );
}

#[test]
fn a_new_destination_can_be_reached_and_answers() {
    let to = |end: &str| {
        nat(&format!(
            "match tcp.dst 203.0.113.80:443\ndestination {end}"
        ))
    };
    check(&to("10.0.1.10"), &[]);
    check(&to("10.0.1.10:0"), &["error no-port 10.0.1.10:0"]);
    check(&to("10.0.1.1:80"), &["error own-address 10.0.1.1:80"]);
    check(
        &to("[2001:db8::1]:80"),
        &["error unreachable [2001:db8::1]:80"],
    );
    check(
        &to("10.0.1.10\ninbound mapped"),
        &["error no-tuples inbound mapped"],
    );
    check(
        &nat("match ip.dst 203.0.113.80\ndestination 10.0.1.10:80"),
        &["error open-protocol ip.dst 203.0.113.80"],
    );
    check(
        &nat("match ip.dst 203.0.113.80\ndestination 10.0.1.10"),
        &[],
    );
    check(
        &nat("match tcp.dst 203.0.113.1:443\ndestination 10.0.1.10"),
        &["error own-address tcp.dst 203.0.113.1:443"],
    );
    // A prefix is a network of somebody else's, and its addresses may be anybody's.
    check(
        &nat("match udp.dst 53 and ip.dst in 203.0.113.0/24\ndestination 10.0.1.53"),
        &[],
    );
}

#[test]
fn one_service_translates_within_one_family() {
    let dual = |clauses: &str| {
        format!("{DUAL_NETWORK}service n : nat {{\n{clauses}\n}}\nmanagers {{ m serves n }}\n")
    };
    check(
        &dual("match port rack-a\nsource 203.0.113.100"),
        &["error family port rack-a"],
    );
    check(
        &dual("match port rack-a and ipv4\nsource 203.0.113.100"),
        &[],
    );
    check(
        &dual("match port rack-a and ipv6\nsource 2001:db8:1::100"),
        &[],
    );
    check(
        &dual("match ip.src in 2001:db8:2::/64\none-to-one 2001:db8:2::/64 = 2001:db8:9::/64"),
        &["error too-many-addresses 2001:db8:9::/64"],
    );
    check(
        &dual("match tcp.dst [2001:db8:1::80]:443\ndestination [2001:db8:2::10]:8443"),
        &[],
    );
}

#[test]
fn a_match_of_single_packets_or_of_everybody_is_told() {
    check(
        &nat("match ip.src in 10.0.0.0/8 and tcp.syn\nsource 203.0.113.100"),
        &["error flags-in-match ip.src in 10.0.0.0/8 and tcp.syn"],
    );
    check(
        &nat("match ip\nsource 203.0.113.100"),
        &["warning from-anywhere ip"],
    );
    check(&nat("match port rack-a\nsource 203.0.113.100"), &[]);
    check(
        &nat("match ip and not ip.dst 203.0.113.100\nsource 203.0.113.100"),
        &[],
    );
}

#[test]
fn outside_addresses_are_nobody_elses() {
    check(
        &from_inside("source 203.0.113.1..203.0.113.3"),
        &["error own-address source 203.0.113.1..203.0.113.3"],
    );
    check(
        &from_inside("source 203.0.113.254"),
        &["error own-address source 203.0.113.254"],
    );
    check(
        &from_inside("source 203.0.113.250..203.0.113.255"),
        &["error bad-address source 203.0.113.250..203.0.113.255"],
    );
    let with_pool = |source: &str| {
        format!(
            "{NETWORK}{POOL}{BALANCE}service n : nat {{\n{MATCH}source {source}\n}}\ncascade web-lb > n\n"
        )
        .replace("serves web-lb", "serves web-lb, n")
    };
    check(
        &with_pool("10.0.1.10"),
        &["error service-is-server source 10.0.1.10"],
    );
}

// A4.7
#[test]
fn two_services_never_claim_one_outside_tuple() {
    let two = |one: &str, two: &str| {
        format!(
            "{NETWORK}service a : nat {{\nmatch ip.src in 10.0.0.0/9\n{one}\n}}\n\
             service b : nat {{\nmatch ip.src in 10.128.0.0/9\n{two}\n}}\n\
             cascade a > b\nmanagers {{ m serves a, b }}\n"
        )
    };
    let same = two(
        "source 203.0.113.100..203.0.113.103",
        "source 203.0.113.103",
    );
    check(&same, &["error same-tuples source 203.0.113.103"]);
    let notes = signalbox_policy::check(&same, "test.policy").diagnostics;
    assert_eq!(
        notes[0].notes,
        ["both would take `tcp syn 198.51.100.7:40000 -> 203.0.113.103:1024 on clients`"]
    );
    check(
        &two(
            "source 203.0.113.100 ports 1024..32767",
            "source 203.0.113.100 ports 32768..65535",
        ),
        &[],
    );
    check(&two("source 203.0.113.100", "source 203.0.113.101"), &[]);
    let apart = two("source 203.0.113.100", "source 203.0.113.100")
        .replace("10.0.0.0/9", "10.0.0.0/8 and tcp")
        .replace("10.128.0.0/9", "10.0.0.0/8 and udp");
    check(&apart, &[]);
    check(
        &two("source 203.0.113.100", "source 203.0.113.101").replace("10.128.0.0/9", "10.1.0.0/16"),
        &["error same-packets ip.src in 10.1.0.0/16"],
    );
}

#[test]
fn outside_tuples_are_no_other_services_address_and_port() {
    let with_balance = |source: &str, port: u16| {
        format!(
            "{NETWORK}{POOL}{BALANCE}service n : nat {{\n{MATCH}source {source}\n}}\ncascade web-lb > n\n"
        )
        .replace("serves web-lb", "serves web-lb, n")
        .replace(":443", &format!(":{port}"))
    };
    check(&with_balance("203.0.113.80", 443), &[]);
    check(
        &with_balance("203.0.113.80", 8443),
        &["error same-tuples source 203.0.113.80"],
    );
    let forwards = |port: u16| {
        format!(
            "{NETWORK}service to : nat {{\nmatch udp.dst 203.0.113.80:{port}\ndestination 10.0.1.53\n}}\n\
             service n : nat {{\n{MATCH}source 203.0.113.80\n}}\n\
             cascade to > n\nmanagers {{ m serves to, n }}\n"
        )
    };
    check(&forwards(53), &[]);
    check(&forwards(5353), &["error same-tuples source 203.0.113.80"]);
}

#[test]
fn a_servers_answers_belong_to_one_service() {
    let text = |end: &str| {
        format!(
            "{NETWORK}{POOL}{BALANCE}service to : nat {{\nmatch tcp.dst 203.0.113.81:80\ndestination {end}\n}}\n\
             cascade web-lb > to\n"
        )
        .replace("serves web-lb", "serves web-lb, to")
    };
    check(
        &text("10.0.1.10:8080"),
        &["error same-tuples destination 10.0.1.10:8080"],
    );
    check(&text("10.0.1.10:8081"), &[]);
    // Into a balance service's own address: each knows the other's packets apart.
    check(&text("203.0.113.80:443"), &[]);
    let same = text("10.0.1.11:80").replace("203.0.113.81:80", "203.0.113.80:443");
    check(&same, &["error same-packets tcp.dst 203.0.113.80:443"]);
}

#[test]
fn services_below_a_translation_are_warned_of_unless_they_translate_too() {
    let text = |last: &str, cascade: &str| {
        format!(
            "{NETWORK}service n : nat {{\n{MATCH}source 203.0.113.100\n}}\n\
             service x : {last}\ncascade {cascade}\nmanagers {{ m serves n }}\n"
        )
    };
    let filter = "filter { deny ip.src in 192.0.2.0/24 }";
    check(&text(filter, "n > x"), &["warning below-translation x"]);
    check(&text(filter, "x > n"), &[]);
    let meter = text("observe { match ip }", "n > x").replace("serves n", "serves n, x");
    check(&meter, &["warning below-translation x"]);
}

#[test]
fn too_many_reply_entries_are_an_error_that_says_what_costs() {
    let scattered: Vec<String> = (0..20)
        .map(|i| format!("203.0.113.{}", 100 + 3 * i))
        .collect();
    let text = from_inside(&format!(
        "source {} ports 1025..65534",
        scattered.join(", ")
    ));
    check(&text, &["error too-many-entries n"]);
}
