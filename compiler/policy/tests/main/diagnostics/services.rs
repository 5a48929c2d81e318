//! Errors in services, the cascade, managers and tests.

use super::{balance, check, filter, help, test};
use crate::texts::{BALANCE, NETWORK, POOL};

#[test]
fn services_have_kinds_that_this_version_can_do() {
    check(
        &format!("{NETWORK}service f : fitler {{ }}\n"),
        &["error unknown-word fitler"],
    );
}

#[test]
fn service_names_are_unique_in_the_program_too() {
    let two = |a: &str, b: &str| {
        format!(
            "{NETWORK}service {a} : filter {{ default deny }}\nservice {b} : filter {{ default deny }}\n\
             cascade {a} > {b}\n"
        )
    };
    check(
        &two("a", "a"),
        &["error duplicate-name a", "error twice-in-cascade a"],
    );
    check(&two("a-b", "a_b"), &["error duplicate-name a_b"]);
    check(
        &two("web", "web-reply"),
        &["error duplicate-name web-reply"],
    );
    check(&two("table", "b"), &["error reserved-name table"]);
}

// A4.7
#[test]
fn the_cascade_names_every_service_once() {
    let services = "service a : filter { default deny }\nservice b : filter { default deny }\n";
    let with = |cascade: &str| format!("{NETWORK}{services}{cascade}\n");
    check(&with("cascade a > b"), &[]);
    check(&with(""), &["error no-cascade b"]);
    check(&with("cascade a"), &["error not-in-cascade b"]);
    check(&with("cascade a > b > c"), &["error unknown-name c"]);
    check(&with("cascade a > b > a"), &["error twice-in-cascade a"]);
    check(
        &with("cascade a > b\ncascade b > a"),
        &["error repeated-clause cascade"],
    );
}

#[test]
fn more_than_32_services_do_not_compile() {
    let names: Vec<String> = (0..33).map(|i| format!("s{i}")).collect();
    let services: String = names
        .iter()
        .map(|n| format!("service {n} : filter {{ default deny }}\n"))
        .collect();
    let text = format!("{NETWORK}{services}cascade {}\n", names.join(" > "));
    check(&text, &["error too-many-services s32"]);
}

// A4.7
#[test]
fn overlapping_rules_that_disagree_come_with_a_witness() {
    let text = filter("deny tcp.dst 80..90\nallow tcp.dst 88 and ip.src in 192.0.2.0/24");
    check(
        &text,
        &["error contradiction allow tcp.dst 88 and ip.src in 192.0.2.0/24"],
    );
    let checked = signalbox_policy::check(&text, "test.policy");
    assert_eq!(
        checked.diagnostics[0].notes,
        ["both match `tcp syn 192.0.2.0:40000 -> 203.0.113.80:88 on clients`"]
    );
    check(
        &filter(
            "deny tcp.dst 80..90 and not ip.src in 192.0.2.0/24\nallow tcp.dst 88 and ip.src in 192.0.2.0/24\ndefault deny",
        ),
        &["warning redundant deny tcp.dst 80..90 and not ip.src in 192.0.2.0/24"],
    );
}

#[test]
fn rules_that_change_nothing_are_warned_of() {
    check(
        &filter("deny ip.src in 10.0.0.0/8\ndeny ip.src in 10.1.0.0/16 and tcp"),
        &["warning redundant deny ip.src in 10.1.0.0/16 and tcp"],
    );
    check(
        &filter("allow tcp.dst 80"),
        &["warning redundant allow tcp.dst 80"],
    );
    check(&filter("allow tcp.dst 80\ndefault deny"), &[]);
    check(&filter(""), &["warning empty-filter f"]);
}

#[test]
fn conditions_that_nothing_matches_are_errors() {
    check(
        &filter("deny tcp and udp"),
        &["error matches-nothing tcp and udp"],
    );
    check(
        &filter("deny tcp.dst 80 and not tcp"),
        &["error matches-nothing tcp.dst 80 and not tcp"],
    );
    check(&filter("deny ipv6"), &["error matches-nothing ipv6"]);
}

#[test]
fn values_fit_their_fields() {
    check(&filter("deny ip.src 80"), &["error wrong-value 80"]);
    check(
        &filter("deny ip.dst 192.0.2.1:80"),
        &["error wrong-value 192.0.2.1:80"],
    );
    check(&filter("deny tcp.dst 70000"), &["error out-of-range 70000"]);
    check(
        &filter("deny tcp.dst 90..80"),
        &["error out-of-range 90..80"],
    );
    check(&filter("deny ip.proto 256"), &["error out-of-range 256"]);
    check(&filter("deny ip.proto tpc"), &["error unknown-word tpc"]);
    check(
        &filter("deny icmp.type eco-request"),
        &["error unknown-word eco-request"],
    );
    check(&filter("deny port client"), &["error unknown-name client"]);
    check(&filter("deny tcp.flags sny"), &["error unknown-word sny"]);
    check(
        &filter("deny tcp.flags syn/ack"),
        &["error bad-flags tcp.flags syn/ack"],
    );
    check(&filter("deny tcp.flags 2"), &["error wrong-value 2"]);
    check(
        &filter("deny ip.src in 10.0.0.1/8"),
        &["error host-bits 10.0.0.1/8"],
    );
    check(&filter("deny tcp 80"), &["error syntax 80"]);
    check(
        &filter("deny ip.source in 10.0.0.0/8"),
        &["error unknown-field ip.source"],
    );
    assert_eq!(
        help(&filter("deny ip.dst 192.0.2.1:80")),
        "address and port together: `tcp.dst 192.0.2.1:80`"
    );
}

#[test]
fn a_condition_too_big_for_a_table_is_refused() {
    // Spread so that no two of them are neighbours.
    let apart: Vec<String> = (0..1_100u32)
        .map(|i| {
            std::net::Ipv4Addr::from(0x0a00_0000 | i.wrapping_mul(0x9e37_79b9) >> 8).to_string()
        })
        .collect();
    let set = format!("set s = {{ {} }}\n", apart.join(", "));
    check(
        &format!("{set}{}", filter("deny ip.src in @s")),
        &["error too-many-entries ip.src in @s"],
    );
    check(
        &filter(
            "deny tcp.src in 1..65534 and tcp.dst in 1..65534 and ip.src in 10.0.0.1..10.255.255.254",
        ),
        &[
            "error too-many-entries tcp.src in 1..65534 and tcp.dst in 1..65534 and ip.src in 10.0.0.1..10.255.255.254",
        ],
    );
}

#[test]
fn a_balance_service_says_what_it_matches_and_how_it_picks() {
    check(
        &balance("pick from @web by weighted"),
        &["error missing-clause b"],
    );
    check(
        &balance("match tcp.dst 203.0.113.80:443"),
        &["warning unused web", "error missing-clause b"],
    );
    let with = |pick: &str| {
        balance(&format!(
            "match tcp.dst 203.0.113.80:443\npick from @web by {pick}"
        ))
    };
    check(&with("maglev(flow)"), &[]);
    check(&with("maglev(source)"), &[]);
    check(&with("round-robin"), &[]);
    check(&with("maglev"), &["error missing-argument maglev"]);
    check(&with("maglev(port)"), &["error unknown-word port"]);
    check(&with("weighted(flow)"), &["error no-value flow"]);
    check(&with("wieghted"), &["error unknown-word wieghted"]);
    check(&with("least-connections"), &[]);
    check(&with("least-connections(flow)"), &["error no-value flow"]);
    check(&with("sticky"), &["error unknown-word sticky"]);
    check(
        &with("weighted\nallow ip"),
        &["error misplaced-clause allow"],
    );
    check(
        &with("weighted\nkeep idle 5m, idle 6m"),
        &["error repeated-clause idle"],
    );
    check(
        &with("weighted\nkeep idle 500ms"),
        &["error out-of-range 500ms"],
    );
    check(
        &with("weighted\nkeep idel 5m"),
        &["error unknown-word idel"],
    );
    check(
        &with("weighted\nfallback pass"),
        &["error unknown-word pass"],
    );
    check(
        &with("weighted\nfallback route\nfallback drop"),
        &["error repeated-clause fallback drop"],
    );
}

#[test]
fn a_balance_service_matches_exact_addresses_and_ports() {
    let with = |m: &str| balance(&format!("match {m}\npick from @web by weighted"));
    let find = |code: &str, m: &str| check(&with(m), &[&format!("error {code} {m}")]);
    find("open-destination", "tcp.dst 443");
    find("open-destination", "ip.dst 203.0.113.80");
    find(
        "open-destination",
        "tcp.dst 443..444 and ip.dst 203.0.113.80 or icmp",
    );
    find("flags-in-match", "tcp.dst 203.0.113.80:443 and tcp.syn");
    find("own-address", "tcp.dst 203.0.113.1:443");
    find("service-is-server", "tcp.dst 10.0.1.10:443");
    check(
        &with("tcp.dst in { 203.0.113.80:80, 203.0.113.80:443 } and not ip.src in 192.0.2.0/24"),
        &[],
    );
    check(
        &with("tcp.dst 203.0.113.80:80\nmatch udp.dst 203.0.113.80:80"),
        &[],
    );
}

#[test]
fn a_service_of_one_family_has_a_pool_of_that_family() {
    let text = "network { port 1 a { address 10.0.1.1/24\n address 2001:db8:1::1/64 } }\n\
                pool web { 10.0.1.10:80 }\n\
                service b : balance { match tcp.dst [2001:db8::80]:80\n pick from @web by weighted }\n\
                managers { m serves b }\n";
    check(text, &["error family tcp.dst [2001:db8::80]:80"]);
}

// A4.7
#[test]
fn two_balance_services_share_neither_packets_nor_servers() {
    let two = |m: &str, pool: &str| {
        format!(
            "{NETWORK}{POOL}pool other {{ 10.0.1.20:80 }}\n\
             service a : balance {{ match tcp.dst 203.0.113.80:443\n pick from @web by weighted }}\n\
             service b : balance {{ match {m}\n pick from @{pool} by weighted }}\n\
             cascade a > b\nmanagers {{ m serves a, b }}\n"
        )
    };
    check(&two("tcp.dst 203.0.113.81:443", "other"), &[]);
    check(
        &two("tcp.dst 203.0.113.80:443 and ip.src 192.0.2.1", "other"),
        &["error same-packets tcp.dst 203.0.113.80:443 and ip.src 192.0.2.1"],
    );
    check(
        &two("tcp.dst 203.0.113.81:443", "web"),
        &["warning unused other", "error shared-server b"],
    );
    check(
        &two("udp.dst 203.0.113.81:443", "web"),
        &["warning unused other"],
    );
}

#[test]
fn a_filter_below_a_translating_service_is_warned_of() {
    check(
        &format!(
            "{NETWORK}{POOL}{BALANCE}service f : filter {{ deny ip.src 192.0.2.1 }}\ncascade web-lb > f\n"
        ),
        &["warning below-translation f"],
    );
}

#[test]
fn managers_serve_what_needs_one() {
    let services = format!(
        "{NETWORK}{POOL}service web-lb : balance {{ match tcp.dst 203.0.113.80:443\n pick from @web by weighted }}\n\
         service f : filter {{ deny ip.src 192.0.2.1 }}\ncascade f > web-lb\n"
    );
    let with = |managers: &str| format!("{services}{managers}\n");
    check(&with(""), &["error no-manager web-lb"]);
    check(&with("managers { m serves web-lb }"), &[]);
    check(
        &with("managers { m serves web-lb, f }"),
        &["error needs-no-manager f"],
    );
    check(
        &with("managers { m serves web-lb, web-lb }"),
        &["error served-twice web-lb"],
    );
    check(
        &with("managers { m serves web-bl }"),
        &["error no-manager web-lb", "error unknown-name web-bl"],
    );
    check(
        &with("managers { m serves web-lb\n n serves web-lb }"),
        &["error served-twice web-lb"],
    );
}

// A9.1
#[test]
fn a_manager_has_one_backup_that_is_another_one() {
    let services = format!(
        "{NETWORK}{POOL}service web-lb : balance {{ match tcp.dst 203.0.113.80:443\n pick from @web by weighted }}\n\
         service m : observe {{ match udp }}\ncascade m > web-lb\n"
    );
    let with = |backups: &str| {
        let managers = "lb-1 serves web-lb\nlb-2 serves m";
        format!("{services}managers {{ {managers}\n{backups} }}\n")
    };
    for fine in [
        "backup lb-1 with lb-2",
        "backup lb-1 with spare after 300ms",
        "backup lb-1 with lb-2 after 1h\nbackup lb-2 with lb-1",
        "backup lb-1 with lb-2 replicate sync\nbackup lb-2 with lb-1 after 1s replicate async",
    ] {
        check(&with(fine), &[]);
    }
    let errors = [
        ("backup lb-3 with lb-2", "unknown-name lb-3"),
        ("backup lb-1 with lb-1", "own-backup lb-1"),
        ("backup lb-1 with lb-2 after 299ms", "out-of-range 299ms"),
        ("backup lb-1 with lb-2 after 3601s", "out-of-range 3601s"),
        ("backup lb-1 with lb-2 replicate snyc", "unknown-word snyc"),
        (
            "backup lb-1 with lb-2\nbackup lb-1 with x",
            "repeated-clause lb-1",
        ),
        ("backup lb-1 with x\nbackup x with lb-2", "serves-nothing x"),
    ];
    for (backups, error) in errors {
        check(&with(backups), &[&format!("error {error}")]);
    }
}

#[test]
fn tests_send_and_expect_what_there_is() {
    let send = "send tcp syn 192.0.2.1:1 -> 203.0.113.80:443 on clients";
    check(&test(&format!("{send}\nexpect server in @web")), &[]);
    check(&test(send), &[&format!("error nothing-expected {send}")]);
    check(&test("expect drop"), &["error nothing-sent expect drop"]);
    check(&test(""), &["error empty-test \"t\""]);
    check(
        &test(&format!("{send}\nexpect drop by gaurd")),
        &["error unknown-name gaurd"],
    );
    check(
        &test(&format!("{send}\nexpect forward on rack")),
        &["error unknown-name rack"],
    );
    check(
        &test(&format!("{send}\nexpect manager lb-2")),
        &["error unknown-name lb-2"],
    );
    check(
        &test(&format!("{send}\nexpect server 10.9.9.9:1 in @web")),
        &["error unknown-name 10.9.9.9:1"],
    );
    check(
        &test(&format!("{send} ttl 0\nexpect drop")),
        &["error out-of-range 0"],
    );
    check(
        &test(&format!("{send} payload 1401\nexpect drop")),
        &["error out-of-range 1401"],
    );
    check(
        &test("send tcp syn 192.0.2.1 -> 203.0.113.80:443 on clients\nexpect drop"),
        &["error no-port 192.0.2.1"],
    );
    check(
        &test("send udp syn 192.0.2.1:1 -> 203.0.113.80:443 on clients\nexpect drop"),
        &["error no-value syn"],
    );
    check(
        &test("send icmp 192.0.2.1 -> 203.0.113.80 on clients\nexpect drop"),
        &["error missing-argument icmp"],
    );
    check(
        &test("send udp 192.0.2.1:1 -> [2001:db8::1]:1 on clients\nexpect drop"),
        &["error family [2001:db8::1]:1"],
    );
}
