//! Each error at its place. A finding is written `severity code excerpt`.

use signalbox_policy::diagnostic::Severity;
use signalbox_policy::render::{Format, render};

mod division;
mod follow_ups;
mod gate;
mod gate_place;
mod nat;
mod observe;
mod services;
mod ways;

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
    let expect = |address: &str, code: &str| {
        check(&on(address), &[&format!("error {code} {address}")]);
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
fn no_host_has_an_address_that_a_connected_subnet_reserves() {
    for address in ["10.0.1.0", "10.0.1.255"] {
        check(
            &network(&format!("route 10.9.0.0/16 via {address}")),
            &[&format!("error bad-address {address}")],
        );
        check(
            &network(&format!("neighbour {address} at 02:00:00:00:00:09")),
            &[&format!("error bad-address {address}")],
        );
        check(
            &pool(&format!("10.0.1.10:80\n{address}:80")),
            &[&format!("error bad-address {address}:80")],
        );
    }
    for address in ["203.0.113.0", "203.0.113.255"] {
        check(
            &balance(&format!(
                "match tcp.dst {address}:443\npick from @web by weighted"
            )),
            &[&format!("error bad-address tcp.dst {address}:443")],
        );
    }
    // Both addresses of a /31 are hosts', and a subnet that is not connected is anybody's.
    check(
        &network("port 2 b { address 10.0.2.0/31 }\nroute 10.9.0.0/16 via 10.0.2.1"),
        &[],
    );
    check(
        &balance("match tcp.dst 192.0.2.255:443\npick from @web by weighted"),
        &[],
    );
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
        &set("10.0.0.0/16, 10.0.0.0/8, 2001:db8::/32, 10.255.0.1, 2001:db8::7, 2001:db9::"),
        &[
            "warning redundant 10.255.0.1",
            "warning redundant 2001:db8::7",
        ],
    );
    check(
        &set("10.0.0.9..10.0.0.1"),
        &["error bad-range 10.0.0.9..10.0.0.1"],
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
fn names_have_no_dots_as_fields_have() {
    let text = format!("{NETWORK}service a.b : filter {{ default deny }}\n");
    check(&text, &["error bad-name a.b"]);
    assert_eq!(help(&text), "call it `a-b`");
    check(
        &network("port 2 x.y { address 10.0.2.1/24 }"),
        &["error bad-name x.y"],
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

#[test]
fn columns_count_characters() {
    let text = "\u{feff}# Schlüssel, grün\nservice f : filter { # ü€\u{10348}\n  default deny; deny 🔑 ip }\n";
    let at = |byte| signalbox_policy::render::line_column(text, byte);
    assert_eq!(at(0), (1, 1));
    assert_eq!(at("\u{feff}".len()), (1, 2));
    assert_eq!(at(text.find("default").unwrap()), (3, 3));
    let key = text.find('🔑').unwrap();
    assert_eq!(at(key), (3, 22));
    assert_eq!(at(key + 2), (3, 22), "inside a character");
    assert_eq!(at(text.find(" ip }").unwrap()), (3, 23));
    assert_eq!(at(text.len()), (4, 1));
    assert_eq!(at(text.len() + 9), (4, 1));
    assert_eq!(signalbox_policy::render::line_column("a\nbü", 5), (2, 3));
    let checked = signalbox_policy::check(text, "grün.policy");
    let show = |format| render(&checked.diagnostics, text, "grün.policy", format);
    assert!(
        show(Format::Plain).contains("grün.policy:3:22: error[bad-token]"),
        "{}",
        show(Format::Plain)
    );
    assert!(show(Format::Human { colour: false }).contains("grün.policy:3:22\n"));
    assert!(show(Format::Json).contains("\"column\":22"));
}
