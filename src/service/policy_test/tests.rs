//! The same policy tests on the evaluator and on the switch, with the real managers.

use super::*;
use signalbox_policy::testing::{prepared, run, run_on};

const NETWORK: &str = "
network {
  port 1 clients { address 203.0.113.1/24 }
  port 2 rack-a { address 10.0.1.1/24 }
}
pool web { 10.0.1.10:8080 }
service web-lb : balance { match tcp.dst 203.0.113.80:443; pick from @web by weighted }
managers { lb-1 serves web-lb }
";

/// What does not hold of each step's expectations: on the evaluator, and on the switch the same.
fn failures(services: &str, steps: &str) -> Vec<String> {
    failures_in(NETWORK, services, steps)
}

fn failures_in(network: &str, services: &str, steps: &str) -> Vec<String> {
    let text = format!("{network}{services}\ntest \"t\" {{\n{steps}\n}}\n");
    let policy = signalbox_policy::check(&text, "t.policy").policy.unwrap();
    let messages = |results: Vec<signalbox_policy::testing::TestResult>| {
        let failures = results.into_iter().flat_map(|test| test.failures);
        failures.map(|f| f.message).collect::<Vec<_>>()
    };
    let on_evaluator = messages(run(&policy));
    let mut target = OnSwitch::new(prepared(&policy)).unwrap();
    let on_switch = messages(run_on(&policy, &mut target));
    assert!(target.problem().is_none());
    assert_eq!(on_switch, on_evaluator);
    on_evaluator
}

#[test]
fn unknown_packets_in_mid_flow_take_the_fallback() {
    let network = NETWORK.replace("by weighted", "by weighted; fallback route");
    let unknown =
        |flags: &str| format!("send tcp {flags} 10.0.1.10:8080 -> 203.0.113.9:40000 on rack-a\n");
    let to_service = |flags: &str| {
        format!("send tcp {flags} 203.0.113.9:40000 -> 203.0.113.80:443 on clients\n")
    };
    for flags in ["ack", "syn+ack", "rst"] {
        let steps = unknown(flags) + "expect forward on clients";
        assert_eq!(failures_in(&network, "cascade web-lb", &steps), [""; 0]);
        let steps = unknown(flags) + "expect drop by web-lb";
        assert_eq!(failures("cascade web-lb", &steps), [""; 0]);
    }
    let steps = to_service("syn+rst") + "expect drop by web-lb";
    assert_eq!(failures("cascade web-lb", &steps), [""; 0]);
}

#[test]
fn a_drop_for_want_of_a_route_is_not_a_drop_by_the_filter_before_it() {
    let services = "service g : filter { default deny; allow udp }\ncascade g > web-lb";
    assert_eq!(
        failures(
            services,
            "send udp 203.0.113.9:1 -> 9.9.9.9:2 on clients\nexpect drop by g\nexpect drop"
        ),
        [
            "expected a drop by `g`, but it was dropped: no route leads to its destination, and no manager was asked"
        ]
    );
    assert!(
        failures(
            services,
            "send tcp syn 203.0.113.9:1 -> 9.9.9.9:2 on clients\nexpect drop by g"
        )
        .is_empty()
    );
}

#[test]
fn a_notice_of_a_packet_that_is_dropped_later_asks_nobody() {
    let steps = "send tcp syn 203.0.113.9:1 -> 203.0.113.80:443 on clients\nexpect server in @web\n\
                 send tcp fin+ack 203.0.113.9:1 -> 203.0.113.80:443 on clients\n\
                 expect drop by late\nexpect interest of web-lb";
    assert_eq!(
        failures(
            "service late : filter { deny tcp.fin }\ncascade web-lb > late",
            steps
        ),
        [
            "expected the manager of `web-lb` to be asked, but it was dropped by `late`, and no manager was asked"
        ]
    );
}

#[test]
fn only_echo_is_answered_at_the_switchs_own_addresses() {
    let steps = "send tcp syn 203.0.113.9:1 -> 203.0.113.1:61441 on clients\nexpect drop\n\
                 send udp 203.0.113.9:1 -> 203.0.113.1:61441 on clients\nexpect drop\n\
                 send udp 203.0.113.9:1 -> 203.0.113.1:61441 on clients\nexpect reply\n\
                 send icmp echo 203.0.113.9 -> 203.0.113.1 on clients\nexpect reply";
    assert_eq!(
        failures("", steps),
        ["expected an answer, but it stayed with the agent (local), and no manager was asked"]
    );
}

#[test]
fn a_packet_that_the_agent_keeps_was_dropped_by_no_service() {
    let steps = "send udp 203.0.113.9:1 -> 203.0.113.1:61441 on clients\nexpect drop by g\n\
                 send udp 203.0.113.9:1 -> 10.0.1.10:1 on clients ttl 1\nexpect drop by g";
    let found = failures("service g : filter { deny udp }\ncascade g > web-lb", steps);
    assert_eq!(found.len(), 2, "{found:?}");
}

// A7.1, A7.6, A7.7
#[test]
fn of_two_managers_the_one_whose_part_it_is_is_asked_on_the_switch_as_on_the_evaluator() {
    let policy = include_str!("../../../examples/divided.policy");
    let policy = signalbox_policy::check(policy, "divided.policy")
        .policy
        .unwrap();
    let mut target = OnSwitch::new(prepared(&policy)).unwrap();
    for results in [run(&policy), run_on(&policy, &mut target)] {
        assert_eq!(results.len(), policy.tests.len());
        for test in results {
            assert!(test.passed(), "{}: {:?}", test.name, test.failures);
        }
    }
    assert!(target.problem().is_none());
}

// A7.1
#[test]
fn a_test_says_which_manager_was_asked() {
    let network = NETWORK.replace(
        "lb-1 serves web-lb",
        "lb-1 serves web-lb where ip.src in 0.0.0.0/1; lb-2 serves web-lb where ip.src in 128.0.0.0/1",
    );
    let steps = "send tcp syn 203.0.113.9:1 -> 203.0.113.80:443 on clients\nexpect manager lb-1";
    let found = failures_in(&network, "", steps);
    assert_eq!(
        found,
        [
            "expected manager `lb-1` to be asked, but it left on port `rack-a` to 10.0.1.10:8080, after the manager of `web-lb` was asked: `lb-2`"
        ]
    );
}

// A7.1, A7.6
#[test]
fn gates_and_meters_can_be_divided_and_ask_one_manager_about_both_directions() {
    let network = NETWORK.replace("managers { lb-1 serves web-lb }", "");
    let services = "service meter : observe { match tcp }\n\
        service door : gate { match tcp.dst 10.0.1.10:443; allow ip }\n\
        cascade meter > door > web-lb\n\
        managers {\n\
        a serves web-lb\n\
        low serves door where ip.src in 0.0.0.0/1\n\
        high serves door where ip.src in 128.0.0.0/1\n\
        web serves meter where tcp.src 443 or tcp.dst 443\n\
        rest serves meter where not (tcp.src 443 or tcp.dst 443)\n\
        }";
    let steps = "send tcp syn 203.0.113.9:40000 -> 10.0.1.10:443 on clients\n\
        expect manager web\nexpect manager high\nexpect count by meter\n\
        send answer on rack-a\nexpect manager web\nexpect forward on clients\n\
        send tcp syn 100.64.0.9:40000 -> 10.0.1.10:443 on clients\nexpect manager low\n\
        send tcp syn 203.0.113.9:40001 -> 10.0.1.10:80 on clients\nexpect manager rest";
    assert_eq!(failures_in(&network, services, steps), [""; 0]);
}

/// Three networks of both families.
const OFFICE: &str = "
network {
  port 1 internet { address 203.0.113.1/24 address 2001:db8:1::1/64 }
  port 2 inside { address 10.0.1.1/24 address fd00:1::1/64 }
  port 3 servers { address 10.0.2.1/24 address fd00:2::1/64 }
}
";

/// A nat service with these clauses, whose test holds on both.
#[track_caller]
fn translates(clauses: &str, steps: &str) {
    let service = format!("service n : nat {{\n{clauses}\n}}\nmanagers {{ m serves n }}");
    assert_eq!(failures_in(OFFICE, &service, steps), [""; 0]);
}

// A2.3, A2.8, A2.10
#[test]
fn a_source_gets_an_outside_port_and_answers_come_home() {
    for (source, inside, outside, remote) in [
        ("203.0.113.100", "10.0.1.7", "203.0.113.100", "203.0.113.9"),
        (
            "2001:db8:1::100",
            "fd00:1::7",
            "2001:db8:1::100",
            "2001:db8:1::9",
        ),
    ] {
        let end = |address: &str, port: u16| match address.contains(':') {
            true => format!("[{address}]:{port}"),
            false => format!("{address}:{port}"),
        };
        let (here, there) = (end(inside, 5000), end(remote, 53));
        let family = match inside.contains(':') {
            true => "ipv6 and not ip.dst in fd00::/8",
            false => "ipv4 and not ip.dst in 10.0.0.0/8",
        };
        translates(
            &format!("match port inside and {family}\nsource {source}"),
            &format!(
                "send udp {here} -> {there} on inside payload 30\nexpect interest of n\n\
                 expect forward on internet from {outside} to {there}\n\
                 send answer on internet payload 9\nexpect forward on inside from {there} to {here}\n\
                 send tcp syn {here} -> {there} on inside\nexpect forward on internet from {outside} to {there}\n\
                 send answer on internet\nexpect forward on inside from {there} to {here}\n\
                 send icmp echo {inside} -> {remote} on inside id 77\nexpect forward on internet from {outside}\n\
                 send answer on internet\nexpect forward on inside from {remote} to {}",
                end(inside, 77)
            ),
        );
    }
}

// A2.4
#[test]
fn a_destination_becomes_a_host_inside_and_answers_in_the_name_that_was_called() {
    for (clauses, called, becomes) in [
        (
            "match tcp.dst 203.0.113.80:8022\ndestination 10.0.2.5:22",
            "203.0.113.80:8022",
            "10.0.2.5:22",
        ),
        (
            "match ip.dst 203.0.113.80\ndestination 10.0.2.5",
            "203.0.113.80:22",
            "10.0.2.5:22",
        ),
        (
            "match tcp.dst [2001:db8:1::80]:443\ndestination [fd00:2::5]:8443",
            "[2001:db8:1::80]:443",
            "[fd00:2::5]:8443",
        ),
    ] {
        let client = if called.starts_with('[') {
            "[2001:db8:1::9]:4000"
        } else {
            "203.0.113.9:4000"
        };
        translates(
            clauses,
            &format!(
                "send tcp syn {client} -> {called} on internet\nexpect interest of n\n\
                 expect forward on servers from {client} to {becomes}\n\
                 send answer on servers\nexpect forward on internet from {called} to {client}\n\
                 send tcp ack {client} -> {called} on internet payload 5\n\
                 expect forward on servers from {client} to {becomes}"
            ),
        );
    }
}

// A2.5
#[test]
fn one_to_one_leads_out_and_in_and_answers_both_ways() {
    for (clauses, host, outside, remote) in [
        (
            "match ip.src in 10.0.1.8/29\none-to-one 10.0.1.8/29 = 203.0.113.160/29",
            "10.0.1.10:4000",
            "203.0.113.162:4000",
            "203.0.113.9:80",
        ),
        (
            "match ip.src fd00:1::10\none-to-one fd00:1::10 = 2001:db8:1::10",
            "[fd00:1::10]:4000",
            "[2001:db8:1::10]:4000",
            "[2001:db8:1::9]:80",
        ),
    ] {
        translates(
            clauses,
            &format!(
                "send tcp syn {host} -> {remote} on inside\nexpect forward on internet from {outside} to {remote}\n\
                 send answer on internet\nexpect forward on inside from {remote} to {host}\n\
                 send udp {remote} -> {outside} on internet\nexpect forward on inside from {remote} to {host}\n\
                 send answer on inside payload 7\nexpect forward on internet from {outside} to {remote}"
            ),
        );
    }
}

// A2.6
#[test]
fn twice_translates_both_ends_there_and_back() {
    for (clauses, called, from, becomes, client) in [
        (
            "match tcp.dst 203.0.113.80:80\nsource 10.0.2.200\ndestination 10.0.2.5:8080",
            "203.0.113.80:80",
            "10.0.2.200",
            "10.0.2.5:8080",
            "203.0.113.9:4000",
        ),
        (
            "match tcp.dst [2001:db8:1::80]:80\nsource fd00:2::200\ndestination [fd00:2::5]:8080",
            "[2001:db8:1::80]:80",
            "fd00:2::200",
            "[fd00:2::5]:8080",
            "[2001:db8:1::9]:4000",
        ),
    ] {
        translates(
            clauses,
            &format!(
                "send tcp syn {client} -> {called} on internet\nexpect interest of n\n\
                 expect forward on servers from {from} to {becomes}\n\
                 send answer on servers\nexpect forward on internet from {called} to {client}\n\
                 send tcp ack {client} -> {called} on internet payload 5\n\
                 expect forward on servers from {from} to {becomes}"
            ),
        );
    }
}
