//! A policy's own tests: one that should pass does, and one that should fail does.

use signalbox_policy::model::Send;
use signalbox_policy::testing::run;

use crate::texts::{BALANCE, NETWORK, POOL, policy};

fn results(test: &str) -> Vec<String> {
    let guard = "service guard : filter { deny ip.src in 198.51.100.0/24 }\n";
    let text = format!(
        "{NETWORK}{POOL}{guard}{BALANCE}cascade guard > web-lb\ntest \"t\" {{\n{test}\n}}\n"
    );
    run(&policy(&text))
        .into_iter()
        .flat_map(|t| t.failures)
        .map(|f| f.message)
        .collect()
}

const NEW: &str = "send tcp syn 192.0.2.1:4000 -> 203.0.113.80:443 on clients\n";

#[test]
fn expectations_that_hold_pass() {
    for expect in [
        "expect interest of web-lb",
        "expect manager lb-1",
        "expect server in @web",
        "expect server 10.0.1.10:8080 in @web",
        "expect forward on rack-a",
        "expect forward on rack-a to 10.0.1.10",
        "expect forward on rack-a to 10.0.1.10:8080",
    ] {
        assert_eq!(results(&format!("{NEW}{expect}")), [""; 0], "{expect}");
    }
}

// A8.4
#[test]
fn a_flow_is_remembered_within_a_test() {
    let later = "send tcp ack 192.0.2.1:4000 -> 203.0.113.80:443 on clients payload 9\n\
                 expect server in @web\n\
                 send tcp syn+ack 10.0.1.10:8080 -> 192.0.2.1:4000 on rack-a\n\
                 expect forward on clients to 192.0.2.1:4000";
    assert_eq!(
        results(&format!("{NEW}expect server in @web\n{later}")),
        [""; 0]
    );
    // A8.4: without the first packet, no server is chosen in mid-flow.
    assert_eq!(
        results(
            "send tcp ack 192.0.2.1:4000 -> 203.0.113.80:443 on clients\nexpect drop by web-lb"
        ),
        [""; 0]
    );
}

#[test]
fn expectations_that_do_not_hold_fail_and_say_what_was_seen() {
    assert_eq!(
        results(&format!("{NEW}expect drop")),
        [
            "expected a drop, but it left on port `rack-a` to 10.0.1.10:8080, after the manager of `web-lb` was asked"
        ]
    );
    assert_eq!(
        results(
            "send tcp syn 198.51.100.1:1 -> 203.0.113.80:443 on clients\nexpect server in @web"
        ),
        ["expected a server in @web, but it was dropped by `guard`, and no manager was asked"]
    );
    assert_eq!(
        results("send icmp echo 192.0.2.1 -> 203.0.113.80 on clients\nexpect drop by guard"),
        ["expected a drop by `guard`, but it was answered, and no manager was asked"]
    );
    assert_eq!(
        results("send tcp syn 192.0.2.1:1 -> 203.0.113.80:22 on clients\nexpect drop by guard"),
        [
            "expected a drop by `guard`, but it was dropped: it is for an address of the policy, and no service took it, and no manager was asked"
        ]
    );
}

#[test]
fn the_switch_answers_pings_and_drops_spent_ttls() {
    for test in [
        "send icmp echo 192.0.2.1 -> 203.0.113.1 on clients\nexpect reply",
        "send udp 192.0.2.1:1 -> 10.0.1.9:2 on clients ttl 1\nexpect drop",
        "send udp [2001:db8::1]:1 -> [2001:db8::2]:2 on clients\nexpect drop",
    ] {
        assert_eq!(results(test), [""; 0], "{test}");
    }
}

#[test]
fn pings_of_an_address_that_is_translated_are_its_hosts_to_answer() {
    let ping = |clauses: &str, to: &str, expect: &str| {
        let text = format!(
            "{NETWORK}service n : nat {{\n{clauses}\n}}\nmanagers {{ m serves n }}\ncascade n\n\
             test \"t\" {{\nsend icmp echo 192.0.2.1 -> {to} on clients\nexpect {expect}\n}}\n"
        );
        let failures = run(&policy(&text)).into_iter().flat_map(|t| t.failures);
        failures.map(|f| f.message).collect::<Vec<_>>()
    };
    let ports = "match ip.src in 10.0.1.0/24\nsource 203.0.113.100";
    let pairs = "match ip.src in 10.0.1.0/28\none-to-one 10.0.1.0/28 = 203.0.113.96/28";
    let whole = "match ip.dst in 203.0.113.80\ndestination 10.0.1.10";
    let port = "match tcp.dst 203.0.113.80:22\ndestination 10.0.1.10";
    for (clauses, to, expect) in [
        (ports, "203.0.113.100", "reply"),
        (pairs, "203.0.113.98", "manager m"),
        (whole, "203.0.113.80", "manager m"),
        (port, "203.0.113.80", "reply"),
    ] {
        assert_eq!(ping(clauses, to, expect), [""; 0], "{clauses}");
    }
}

#[test]
fn sent_frames_are_sound() {
    let text = format!(
        "{NETWORK}service f : filter {{ default deny }}\ntest \"t\" {{\n\
         send tcp syn 192.0.2.1:1 -> 10.0.1.9:2 on clients payload 7\nexpect drop\n\
         send udp 192.0.2.1:1 -> 10.0.1.9:2 on clients payload 8\nexpect drop\n\
         send tcp syn [2001:db8::1]:1 -> [2001:db8::2]:2 on clients payload 3\nexpect drop\n\
         send udp [2001:db8::1]:1 -> [2001:db8::2]:2 on clients\nexpect drop\n}}\n"
    );
    let policy = policy(&text);
    for step in &policy.tests[0].steps {
        let Send::Packet(send) = &step.send else {
            panic!("{step:?}");
        };
        crate::frames::sound(&signalbox_policy::testing::packet(&policy, send));
    }
}

/// The network and a service at two endpoints, with this pool and these tests.
fn two_endpoints(pool: &str, tests: &str) -> Vec<String> {
    let text = format!(
        "{NETWORK}pool web {{ {pool} }}\n\
         service web-lb : balance {{\n\
         match tcp.dst in {{ 203.0.113.80:80, 203.0.113.80:443 }}\npick from @web by maglev(source)\n}}\n\
         managers {{ lb-1 serves web-lb }}\ncascade web-lb\ntest \"t\" {{\n{tests}\n}}\n"
    );
    run(&policy(&text))
        .into_iter()
        .flat_map(|t| t.failures)
        .map(|f| f.message)
        .collect()
}

#[test]
fn a_second_connection_from_the_same_port_gets_another_server_or_the_fallback() {
    let both = "send tcp syn 192.0.2.1:4000 -> 203.0.113.80:80 on clients\n\
                expect server 10.0.1.10:8080 in @web\n\
                send tcp syn 192.0.2.1:4000 -> 203.0.113.80:443 on clients\n";
    let first = "send tcp ack 192.0.2.1:4000 -> 203.0.113.80:80 on clients\n\
                 expect server 10.0.1.10:8080 in @web\n";
    let other = format!("{both}expect server 10.0.2.10:8080 in @web\n{first}");
    let pool = "10.0.1.10:8080\n10.0.2.10:8080";
    assert_eq!(two_endpoints(pool, &other), [""; 0]);
    let none = format!("{both}expect drop by web-lb\n{first}");
    assert_eq!(two_endpoints("10.0.1.10:8080", &none), [""; 0]);
}
