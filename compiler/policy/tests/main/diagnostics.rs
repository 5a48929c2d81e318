//! Each error at its place. A finding is written `severity code excerpt`.

use signalbox_policy::diagnostic::Severity;
use signalbox_policy::render::{Format, render};

use crate::texts::{BALANCE, NETWORK, POOL};

/// Checks that exactly these findings are made, in the order of the text.
#[track_caller]
fn check(text: &str, expect: &[&str]) {
    let checked = signalbox_policy::check(text, "test.policy");
    let found: Vec<String> = checked
        .diagnostics
        .iter()
        .map(|d| {
            let severity = match d.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            let excerpt = text[d.span.start..d.span.end].lines().next().unwrap_or("");
            format!("{severity} {} {excerpt}", d.code)
        })
        .collect();
    assert_eq!(found, expect, "in\n{:.2000}", text);
    let errors = found.iter().any(|f| f.starts_with("error"));
    assert_eq!(
        checked.policy.is_none(),
        errors,
        "a policy exactly when there is no error"
    );
}

/// The first finding's help.
fn help(text: &str) -> String {
    let checked = signalbox_policy::check(text, "test.policy");
    checked
        .diagnostics
        .into_iter()
        .find_map(|d| d.help)
        .unwrap_or_default()
}

/// A network, and a filter of these clauses.
fn filter(clauses: &str) -> String {
    format!("{NETWORK}service f : filter {{\n{clauses}\n}}\n")
}

fn balance(clauses: &str) -> String {
    format!("{NETWORK}{POOL}service b : balance {{\n{clauses}\n}}\nmanagers {{ m serves b }}\n")
}

fn network(clauses: &str) -> String {
    format!(
        "network {{\n port 1 a {{ address 10.0.1.1/24 }}\n{clauses}\n}}\nservice f : filter {{ default deny }}\n"
    )
}

fn pool(clauses: &str) -> String {
    format!(
        "{NETWORK}pool web {{\n{clauses}\n}}\nservice b : balance {{\n match tcp.dst 203.0.113.80:443\n \
         pick from @web by weighted\n}}\nmanagers {{ m serves b }}\n"
    )
}

fn test(clauses: &str) -> String {
    format!("{NETWORK}{POOL}{BALANCE}test \"t\" {{\n{clauses}\n}}\n")
}

#[test]
fn a_sound_policy_has_no_findings() {
    check(&format!("{NETWORK}{POOL}{BALANCE}"), &[]);
    check(&filter("deny ip.src in 198.51.100.0/24"), &[]);
}

#[test]
fn a_policy_with_nothing_in_it_has_no_port() {
    check("", &["error no-ports ", "warning no-services "]);
}

#[test]
fn ports_have_numbers_from_1_to_509_once_each() {
    check(
        &network("port 0 b { address 10.0.2.1/24 }"),
        &["error port-number 0"],
    );
    check(
        &network("port 510 b { address 10.0.2.1/24 }"),
        &["error port-number 510"],
    );
    check(
        &network("port 1 b { address 10.0.2.1/24 }"),
        &["error duplicate-port 1"],
    );
    check(
        &network("port 2 a { address 10.0.2.1/24 }"),
        &["error duplicate-name a"],
    );
    check(&network("port 2 b { }"), &["warning no-address 2 b"]);
}

#[test]
fn interface_addresses_are_hosts_in_disjoint_subnets() {
    let on = |address: &str| network(&format!("port 2 b {{ address {address} }}"));
    let find = |code: &str, at: &str| {
        [
            format!("error {code} {at}"),
            "warning no-address 2 b".into(),
        ]
    };
    let expect = |address: &str, code: &str| {
        let mut all = find(code, address);
        // The warning stands at the port, before its address.
        all.reverse();
        let text = on(address);
        check(&text, &all.iter().map(String::as_str).collect::<Vec<_>>());
    };
    expect("10.0.1.129/25", "overlapping-subnets");
    expect("10.0.0.0/16", "bad-address");
    expect("10.0.2.255/24", "bad-address");
    expect("224.0.0.1/24", "bad-address");
    expect("127.0.0.1/8", "bad-address");
    expect("10.9.9.9/0", "bad-address");
    check(&on("10.0.2.0/31"), &[]);
}

#[test]
fn vlans_are_a_stated_error() {
    check(
        &network("port 2 b { address 10.0.2.1/24\n vlan 7 }"),
        &["error unsupported vlan 7"],
    );
}

#[test]
fn ethernet_addresses_are_unicast() {
    check(
        &network("port 2 b { address 10.0.2.1/24\n mac 01:00:5e:00:00:01 }"),
        &["error bad-mac 01:00:5e:00:00:01"],
    );
    check(
        &network("neighbour 10.0.1.9 at ff:ff:ff:ff:ff:ff"),
        &["error bad-mac ff:ff:ff:ff:ff:ff"],
    );
}

#[test]
fn routes_lead_to_a_connected_next_hop_once() {
    check(
        &network("route 10.9.0.0/16 via 10.8.0.1"),
        &["error unreachable 10.8.0.1"],
    );
    check(
        &network("route 10.9.0.0/16 via 10.0.1.1"),
        &["error own-address 10.0.1.1"],
    );
    check(
        &network("route 10.9.0.1/16 via 10.0.1.2"),
        &["error host-bits 10.9.0.1/16"],
    );
    check(
        &network("route 10.0.1.0/24 via 10.0.1.2"),
        &["error duplicate-route 10.0.1.0/24"],
    );
    check(
        &network("route 2001:db8::/32 via 10.0.1.2"),
        &["error family 10.0.1.2"],
    );
    check(
        &network("route 10.9.0.0/16 via 10.0.1.2\nroute 10.9.0.0/16 via 10.0.1.3"),
        &["error duplicate-route 10.9.0.0/16"],
    );
    check(
        &network("route 10.0.1.1/32 via 10.0.1.2"),
        &["error route-to-owned 10.0.1.1/32 via 10.0.1.2"],
    );
    assert_eq!(
        help(&network("route 10.9.0.1/16 via 10.0.1.2")),
        "write `10.9.0.0/16`"
    );
}

#[test]
fn neighbours_are_on_their_ports_subnet() {
    let mac = "02:00:00:00:00:09";
    check(
        &network(&format!("neighbour 10.7.0.9 at {mac}")),
        &["error unreachable 10.7.0.9"],
    );
    check(
        &network(&format!("neighbour 10.0.1.9 at {mac} on b")),
        &["error unknown-name b"],
    );
    check(
        &network(&format!(
            "port 2 b {{ address 10.0.2.1/24 }}\nneighbour 10.0.1.9 at {mac} on b"
        )),
        &["error wrong-port b"],
    );
    check(
        &network(&format!(
            "neighbour 10.0.1.9 at {mac}\nneighbour 10.0.1.9 at {mac}"
        )),
        &["error duplicate-neighbour 10.0.1.9"],
    );
}

#[test]
fn sets_hold_addresses_and_warn_of_repetition() {
    let set = |elements: &str| format!("set s = {{ {elements} }}\n{}", filter("deny ip.src in @s"));
    check(
        &set("10.0.0.0/8, 10.1.0.0/16"),
        &["warning redundant 10.1.0.0/16"],
    );
    check(
        &set("10.0.0.9..10.0.0.1"),
        &[
            "error bad-range 10.0.0.9..10.0.0.1",
            "error matches-nothing ip.src in @s",
        ],
    );
    check(
        &set("10.0.0.1/8, 192.0.2.1"),
        &["error host-bits 10.0.0.1/8"],
    );
    check(&set("80, 192.0.2.1"), &["error bad-element 80"]);
    check(&set(""), &["error matches-nothing ip.src in @s"]);
    check(
        &format!(
            "set s = {{ 10.0.0.1 }}\nset s = {{ 10.0.0.2 }}\n{}",
            filter("deny ip.src in @s")
        ),
        &["error duplicate-name s"],
    );
}

#[test]
fn what_is_declared_and_never_used_is_a_warning() {
    check(
        &format!("set s = {{ 192.0.2.1 }}\n{POOL}{}", filter("default deny")),
        &["warning unused s", "warning unused web"],
    );
}

#[test]
fn servers_are_reachable_hosts_with_ports_once_each() {
    check(
        &pool("10.0.1.10:80\n10.0.1.10:80"),
        &["error duplicate-server 10.0.1.10:80"],
    );
    check(
        &pool("10.0.1.10:80\n10.0.1.11"),
        &["error no-port 10.0.1.11"],
    );
    check(
        &pool("10.0.1.10:80\n10.0.1.11:0"),
        &["error no-port 10.0.1.11:0"],
    );
    check(
        &pool("10.0.1.10:80\n10.0.1.1:80"),
        &["error own-address 10.0.1.1:80"],
    );
    check(
        &pool("10.0.1.10:80 weight 65536"),
        &["error out-of-range 65536"],
    );
    check(&pool("10.0.1.10:80 weight 0"), &["error no-weight web"]);
    check(
        &pool("a 10.0.1.10:80\na 10.0.1.11:80"),
        &["error duplicate-name a"],
    );
    check(
        &pool("10.0.1.10:80\n[2001:db8::9]:80"),
        &["error unreachable [2001:db8::9]:80"],
    );
    check(&pool(""), &["error empty-pool web"]);
    check(
        "network { port 1 a { address 10.0.1.1/24 } }\npool web { 10.9.0.1:80 }\n",
        &[
            "warning no-services n",
            "error empty-pool web",
            "warning unused web",
            "error unreachable 10.9.0.1:80",
        ],
    );
}

#[test]
fn health_checks_have_sensible_times() {
    let check_with = |options: &str, expect: &[&str]| {
        check(&pool(&format!("10.0.1.10:80\ncheck {options}")), expect);
    };
    check_with("http \"/alive\" every 5s timeout 500ms rise 1 fall 1", &[]);
    check_with("htpp", &["error unknown-word htpp"]);
    check_with("http \"alive\"", &["error bad-path \"alive\""]);
    check_with("tcp every 2", &["error wrong-unit 2"]);
    check_with("tcp every 10ms", &["error out-of-range 10ms"]);
    check_with("tcp every 2s timeout 3s", &["error out-of-range 3s"]);
    check_with("tcp rise 0", &["error out-of-range 0"]);
    check_with("tcp every 2s every 3s", &["error repeated-clause every"]);
    check_with("tcp\ncheck tcp", &["error repeated-clause check tcp"]);
}

#[test]
fn names_that_are_nothing_get_a_proposal() {
    let text = format!("{NETWORK}{POOL}{}", BALANCE.replace("@web", "@wbe"));
    check(&text, &["warning unused web", "error unknown-name @wbe"]);
    assert_eq!(help(&text), "did you mean `web`?");
}

#[test]
fn services_have_kinds_that_this_version_can_do() {
    check(
        &format!("{NETWORK}service f : fitler {{ }}\n"),
        &["error unknown-word fitler"],
    );
    for kind in ["nat", "gate", "observe"] {
        check(
            &format!("{NETWORK}service s : {kind} {{ match ip\n whatever {{ 7 }} }}\n"),
            &[&format!("error unsupported {kind}")],
        );
    }
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
    check(
        &with("least-connections"),
        &["error unsupported least-connections"],
    );
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
        &with("managers { m serves web-lb where ip.src in 0.0.0.0/1 }"),
        &["error unsupported ip.src in 0.0.0.0/1"],
    );
    check(
        &with("managers { m serves web-lb\n n serves web-lb }"),
        &["error unsupported n"],
    );
    check(
        &with("managers { m serves web-lb\n backup m with n after 3s }"),
        &["error unsupported backup m with n after 3s"],
    );
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

#[test]
fn all_errors_of_a_file_are_found_and_none_is_made_up() {
    let text = format!(
        "{NETWORK}set blocked = {{ 192.0.2.300 }}\npool web {{\n 10.0.1.10:8080 wieght 2\n 10.0.2.10:8080\n}}\n\
         service f : filter {{\n deny ip.src in @blocked\n dney tcp\n allow udp.dst 99999\n}}\n{BALANCE}\
         cascade f > web-lb > web-lb\n"
    );
    check(
        &text,
        &[
            "error bad-token 192.0.2.300",
            "error syntax 2",
            "error unknown-word dney",
            "error out-of-range 99999",
            "error twice-in-cascade web-lb",
        ],
    );
}

#[test]
fn a_missing_brace_spoils_one_item_only() {
    check(
        &format!("{NETWORK}pool web {{\n 10.0.1.10:8080\n{BALANCE}set s = {{ 80 }}\n"),
        &["error unclosed service", "error bad-element 80"],
    );
}

#[test]
fn an_error_reads_well_in_every_format() {
    let text = "network {\n  port 1 a { address 10.0.1.1/24 }\n}\nservice f : filter {\n  deny ip.sorc 10.0.0.1\n}\n";
    let checked = signalbox_policy::check(text, "web.policy");
    let show = |format| render(&checked.diagnostics, text, "web.policy", format);
    assert_eq!(
        show(Format::Human { colour: false }),
        "\
error[unknown-field]: `ip.sorc` is not a field of a packet
 --> web.policy:5:8
  |
5 |   deny ip.sorc 10.0.0.1
  |        ^^^^^^^
  |
  = help: did you mean `ip.src`?

"
    );
    assert_eq!(
        show(Format::Plain),
        "web.policy:5:8: error[unknown-field]: `ip.sorc` is not a field of a packet; did you mean `ip.src`?\n"
    );
    let json: serde_json::Value = serde_json::from_str(&show(Format::Json)).unwrap();
    assert_eq!(json["code"], "unknown-field");
    assert_eq!(
        (
            json["place"]["line"].as_u64(),
            json["place"]["column"].as_u64()
        ),
        (Some(5), Some(8))
    );
    assert_eq!(json["help"], "did you mean `ip.src`?");
}
