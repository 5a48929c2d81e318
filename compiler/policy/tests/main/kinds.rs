//! What policy tests show of nat, observe and dispatching services.

use signalbox_policy::testing::run;

use crate::texts::{DUAL_NETWORK, NETWORK, POOL, policy};

/// What does not hold of the steps, in a policy of these services.
fn failures_in(network: &str, services: &str, steps: &str) -> Vec<String> {
    let text = format!("{network}{services}\ntest \"t\" {{\n{steps}\n}}\n");
    let tests = run(&policy(&text)).into_iter().flat_map(|t| t.failures);
    tests.map(|f| f.message).collect()
}

fn failures(services: &str, steps: &str) -> Vec<String> {
    failures_in(NETWORK, services, steps)
}

#[track_caller]
fn holds(services: &str, steps: &str) {
    assert_eq!(failures(services, steps), [""; 0], "{steps}");
}

/// A nat service of these clauses, which stands alone.
fn nat(clauses: &str) -> String {
    format!("service egress : nat {{\n{clauses}\n}}\nmanagers {{ m serves egress }}\n")
}

fn egress(more: &str) -> String {
    nat(&format!(
        "match ip.src in 10.0.0.0/8 and not ip.dst in 10.0.0.0/8\n\
         source 203.0.113.100..203.0.113.103\n{more}"
    ))
}

const OUT: &str = "send tcp syn 10.0.1.10:4000 -> 192.0.2.9:80 on rack-a\n\
                   expect interest of egress\n\
                   expect forward on clients from 203.0.113.100..203.0.113.103 to 192.0.2.9:80\n";

// A2.1, A2.3
#[test]
fn a_new_source_leaves_and_its_answers_come_home() {
    holds(
        &egress(""),
        &format!(
            "{OUT}send answer on clients\nexpect forward on rack-a from 192.0.2.9:80 to 10.0.1.10:4000\n\
             send tcp ack 10.0.1.10:4000 -> 192.0.2.9:80 on rack-a\n\
             expect forward on clients from 203.0.113.96/29\n\
             send udp 10.0.1.10:4000 -> 192.0.2.9:53 on rack-a payload 20\n\
             expect forward on clients from 203.0.113.100..203.0.113.103\n\
             send answer on clients payload 40\nexpect forward on rack-a to 10.0.1.10:4000"
        ),
    );
}

// A2.8
#[test]
fn pings_go_out_by_identifier_and_their_answers_come_home() {
    holds(
        &egress(""),
        "send icmp echo 10.0.1.10 -> 192.0.2.9 on rack-a id 7000\n\
         expect forward on clients from 203.0.113.100..203.0.113.103\n\
         send answer on clients\nexpect forward on rack-a from 192.0.2.9 to 10.0.1.10:7000",
    );
    // An identifier below the ports that are given out becomes another.
    holds(
        &egress(""),
        "send icmp echo 10.0.1.10 -> 192.0.2.9 on rack-a id 7\nexpect forward on clients from 203.0.113.100:1025\n\
         send answer on clients\nexpect forward on rack-a to 10.0.1.10:7",
    );
}

// A2.10
#[test]
fn one_inside_end_has_one_outside_tuple_whoever_it_talks_to() {
    holds(
        &egress(""),
        "send udp 10.0.1.10:4000 -> 192.0.2.9:53 on rack-a\nexpect forward on clients from 203.0.113.100:4000\n\
         send udp 10.0.1.10:4000 -> 192.0.2.10:53 on rack-a\nexpect forward on clients from 203.0.113.100:4000\n\
         send udp 10.0.2.10:4000 -> 192.0.2.10:53 on rack-b\nexpect forward on clients from 203.0.113.100:1024",
    );
}

#[test]
fn nothing_comes_in_to_an_outside_address_unless_it_was_asked_for() {
    let uninvited = "send udp 192.0.2.77:53 -> 203.0.113.100:4000 on clients\n";
    let asked = "send udp 10.0.1.10:4000 -> 192.0.2.9:53 on rack-a\nexpect forward on clients\n";
    holds(&egress(""), &format!("{uninvited}expect drop by egress"));
    holds(
        &egress(""),
        &format!("{asked}{uninvited}expect drop by egress"),
    );
    let mapped = egress("inbound mapped");
    holds(
        &mapped,
        &format!("{uninvited}expect interest of egress\nexpect drop by egress"),
    );
    holds(
        &mapped,
        &format!(
            "{asked}{uninvited}expect interest of egress\nexpect forward on rack-a from 192.0.2.77:53 to 10.0.1.10:4000\n\
             send answer on rack-a\nexpect forward on clients from 203.0.113.100:4000 to 192.0.2.77:53"
        ),
    );
}

// A2.13
#[test]
fn two_inside_hosts_talk_by_outside_addresses() {
    holds(
        &egress(""),
        "send udp 10.0.2.10:5000 -> 192.0.2.9:53 on rack-b\nexpect forward on clients from 203.0.113.100:5000\n\
         send udp 10.0.1.10:4000 -> 203.0.113.100:5000 on rack-a\nexpect interest of egress\n\
         expect forward on rack-b from 203.0.113.100:4000 to 10.0.2.10:5000\n\
         send answer on rack-b\nexpect forward on rack-a from 203.0.113.100:5000 to 10.0.1.10:4000",
    );
    holds(
        &egress(""),
        "send udp 10.0.1.10:4000 -> 203.0.113.100:5000 on rack-a\nexpect drop by egress",
    );
}

// A2.16, A2.17
#[test]
fn a_host_without_a_tuple_left_takes_the_fallback() {
    let two = "send udp 10.0.1.10:4000 -> 192.0.2.9:53 on rack-a\nexpect forward on clients\n\
               send udp 10.0.1.10:4001 -> 192.0.2.9:53 on rack-a\n";
    let other = "send udp 10.0.2.10:4001 -> 192.0.2.9:53 on rack-b\nexpect forward on clients from 203.0.113.100";
    let limited = egress("limit 1 tuples per source");
    holds(&limited, &format!("{two}expect drop by egress\n{other}"));
    let few = egress("").replace("203.0.113.103", "203.0.113.103 ports 5000..5000");
    holds(
        &few,
        &format!("{two}expect drop by egress\n{other}")
            .replace("from 203.0.113.100", "from 203.0.113.101"),
    );
    let open = egress("limit 1 tuples per source\nfallback route");
    holds(
        &open,
        &format!("{two}expect forward on clients from 10.0.1.10:4001"),
    );
}

#[test]
fn protocols_without_ports_or_an_identifier_take_the_fallback() {
    // An echo reply that answers nothing.
    let steps = "send icmp echo 192.0.2.9 -> 10.0.1.10 on clients\nexpect forward on rack-a\n\
                 send answer on rack-a\nexpect drop by egress";
    holds(&egress(""), steps);
}

#[test]
fn in_mid_flow_nothing_new_is_translated() {
    holds(
        &egress(""),
        "send tcp ack 10.0.1.10:4000 -> 192.0.2.9:80 on rack-a\nexpect drop by egress",
    );
}

// A2.5
#[test]
fn one_to_one_works_from_both_sides_with_ports_kept() {
    let pairs = nat("match ip.src in 10.0.1.0/28\none-to-one 10.0.1.0/28 = 203.0.113.96/28");
    holds(
        &pairs,
        "send tcp syn 10.0.1.10:4000 -> 192.0.2.9:80 on rack-a\nexpect forward on clients from 203.0.113.106:4000\n\
         send answer on clients\nexpect forward on rack-a to 10.0.1.10:4000\n\
         send tcp syn 192.0.2.77:999 -> 203.0.113.107:22 on clients\nexpect interest of egress\n\
         expect forward on rack-a from 192.0.2.77:999 to 10.0.1.11:22\n\
         send answer on rack-a\nexpect forward on clients from 203.0.113.107:22 to 192.0.2.77:999\n\
         send tcp syn 10.0.1.10:5000 -> 203.0.113.107:22 on rack-a\n\
         expect forward on rack-a from 203.0.113.106:5000 to 10.0.1.11:22\n\
         send answer on rack-a\nexpect forward on rack-a from 203.0.113.107:22 to 10.0.1.10:5000",
    );
}

// A2.4
#[test]
fn a_new_destination_is_reached_and_answers_as_the_old_one() {
    let forward = nat("match tcp.dst 203.0.113.80:443\ndestination 10.0.1.10:8443");
    holds(
        &forward,
        "send tcp syn 192.0.2.9:4000 -> 203.0.113.80:443 on clients\n\
         expect forward on rack-a from 192.0.2.9:4000 to 10.0.1.10:8443\n\
         send answer on rack-a\nexpect forward on clients from 203.0.113.80:443 to 192.0.2.9:4000\n\
         send icmp echo 192.0.2.9 -> 203.0.113.80 on clients\nexpect reply\n\
         send tcp syn+ack 10.0.1.10:8443 -> 192.0.2.77:1 on rack-a\nexpect drop by egress\n\
         send tcp syn 10.0.1.10:9999 -> 192.0.2.77:1 on rack-a\nexpect forward on clients from 10.0.1.10:9999",
    );
}

// A2.6
#[test]
fn a_twice_translated_flow_has_two_new_ends() {
    let twice =
        nat("match tcp.dst 203.0.113.80:443\nsource 10.0.1.200\ndestination 10.0.1.10:8443");
    holds(
        &twice,
        "send tcp syn 10.0.1.20:4000 -> 203.0.113.80:443 on rack-a\n\
         expect forward on rack-a from 10.0.1.200:4000 to 10.0.1.10:8443\n\
         send answer on rack-a\nexpect forward on rack-a from 203.0.113.80:443 to 10.0.1.20:4000",
    );
}

#[test]
fn ipv6_flows_are_translated_too() {
    let six = "service egress : nat {\nmatch port rack-a and ipv6\nsource 2001:db8:1::100\n}\nmanagers { m serves egress }\n";
    let steps = "send tcp syn [2001:db8:2::10]:4000 -> [2001:db8:1::9]:80 on rack-a\n\
                 expect forward on clients from [2001:db8:1::100]:4000 to [2001:db8:1::9]:80\n\
                 send answer on clients\nexpect forward on rack-a to [2001:db8:2::10]:4000\n\
                 send icmp echo 2001:db8:2::10 -> 2001:db8:1::9 on rack-a id 2000\n\
                 expect forward on clients from [2001:db8:1::100]:2000\n\
                 send answer on clients\nexpect forward on rack-a to [2001:db8:2::10]:2000";
    assert_eq!(failures_in(DUAL_NETWORK, six, steps), [""; 0]);
}

/// A balance service, a nat below it, and a meter above both.
fn three() -> String {
    format!(
        "{POOL}service meter : observe {{\nmatch ip\ncount packets, bytes per flow\n}}\n\
         service web-lb : balance {{\nmatch tcp.dst 203.0.113.80:443\npick from @web by weighted\n}}\n\
         service inner : nat {{\nmatch ip.dst 10.0.1.10 or ip.dst 10.0.2.10\nsource 10.0.2.200\n}}\n\
         cascade meter > web-lb > inner\nmanagers {{ m serves meter, web-lb, inner }}\n"
    )
}

// A4.5, A4.8
#[test]
fn a_reply_crosses_nat_and_balance_in_reverse() {
    holds(
        &three(),
        "send tcp syn 192.0.2.9:4000 -> 203.0.113.80:443 on clients\n\
         expect interest of meter\nexpect interest of web-lb\nexpect interest of inner\n\
         expect server in @web\nexpect forward on rack-a from 10.0.2.200:4000\nexpect count by meter\n\
         send answer on rack-a\nexpect forward on clients from 203.0.113.80:443 to 192.0.2.9:4000\n\
         expect count by meter",
    );
}

#[test]
fn a_meter_counts_what_passes_it_once_it_knows_the_flow() {
    let meter = |clauses: &str| {
        format!(
            "service guard : filter {{ deny udp }}\nservice meter : observe {{\nmatch port clients\n{clauses}\n}}\n\
             cascade guard > meter\nmanagers {{ m serves meter }}\n"
        )
    };
    let steps = "send tcp ack 192.0.2.9:1 -> 10.0.1.9:2 on clients\nexpect interest of meter\nexpect count by meter\n\
                 expect forward on rack-a\n\
                 send tcp ack 10.0.1.9:2 -> 192.0.2.9:1 on rack-a\nexpect forward on clients\n";
    holds(&meter("count packets, bytes per flow"), steps);
    let quiet = steps.replace("expect interest of meter\n", "");
    holds(&meter("count packets, bytes\nreport every 10s"), &quiet);
    assert_eq!(
        failures(
            &meter(""),
            "send tcp ack 10.0.1.9:2 -> 192.0.2.9:1 on rack-a\nexpect count by meter\n\
             send udp 192.0.2.9:1 -> 10.0.1.9:2 on clients\nexpect count by meter"
        ),
        [
            "expected `meter` to count it, but it left on port `clients` to 192.0.2.9:1, and no manager was asked",
            "expected `meter` to count it, but it was dropped by `guard`, and no manager was asked",
        ]
    );
}

/// A balance service that dispatches.
fn dispatching(way: &str) -> String {
    let pool = POOL.replace(":8080", ":443");
    format!(
        "{pool}service web-lb : balance {{\nmatch tcp.dst 203.0.113.80:443\npick from @web by weighted\nway {way}\n}}\n\
         managers {{ m serves web-lb }}\n"
    )
}

// A6.18, A6.19, A6.20, A6.21
#[test]
fn a_dispatched_packet_reaches_its_server_unchanged_and_the_answer_is_nobodys_business() {
    for way in ["mac", "ipip", "gue"] {
        holds(
            &dispatching(way),
            "send tcp syn 192.0.2.9:4000 -> 203.0.113.80:443 on clients\n\
             expect server 10.0.1.10:443 in @web\n\
             expect forward on rack-a from 192.0.2.9:4000 to 203.0.113.80:443\n\
             send tcp ack 192.0.2.9:4000 -> 203.0.113.80:443 on clients payload 100\n\
             expect server 10.0.1.10:443 in @web\n\
             send answer on rack-a\nexpect forward on clients from 203.0.113.80:443 to 192.0.2.9:4000\n\
             send tcp syn 10.0.1.10:443 -> 192.0.2.9:1 on rack-a\nexpect forward on clients from 10.0.1.10:443",
        );
    }
    let other = "send tcp syn 192.0.2.9:4000 -> 203.0.113.80:443 on clients\nexpect server 10.0.2.10:443 in @web";
    let seen = |way: &str| failures(&dispatching(way), other).remove(0);
    assert_eq!(
        seen("mac"),
        "expected server `10.0.2.10:443`, but it left on port `rack-a` to 203.0.113.80:443 at server \
         `10.0.1.10:443`, after the manager of `web-lb` was asked"
    );
    assert!(
        seen("gue").contains("to 203.0.113.80:443 in a tunnel to 10.0.1.10,"),
        "{}",
        seen("gue")
    );
}

#[test]
fn expectations_of_a_source_fail_and_say_which_it_was() {
    assert_eq!(
        failures(
            &egress(""),
            "send udp 10.0.1.10:4000 -> 192.0.2.9:53 on rack-a\nexpect forward on clients from 203.0.113.101\n\
             expect forward on clients from 203.0.113.100:4001"
        ),
        [
            "expected it on port `clients` from 203.0.113.101, but it left on port `clients` from \
             203.0.113.100:4000 to 192.0.2.9:53, after the manager of `egress` was asked",
            "expected it on port `clients` from 203.0.113.100:4001, but it left on port `clients` from \
             203.0.113.100:4000 to 192.0.2.9:53, after the manager of `egress` was asked",
        ]
    );
    assert_eq!(
        failures(
            &egress(""),
            "send udp 192.0.2.9:5 -> 203.0.113.100:4000 on clients\nexpect drop\nsend answer on rack-a\nexpect drop"
        ),
        ["expected a packet to answer, but none has left that can be"]
    );
}
