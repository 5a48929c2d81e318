//! A gate among other services: what does not get to it, what leads past it, what a flood meets first.

use super::check;
use crate::texts::{NETWORK, POOL};

/// The services in this cascade, all served; `door` stands before the address of `web-lb`.
fn site(services: &str, cascade: &str) -> String {
    let served = cascade.replace(" > ", ", ");
    format!("{NETWORK}{POOL}{services}cascade {cascade}\nmanagers {{ m serves {served} }}\n")
}

const DOOR: &str = "service door : gate { match tcp.dst 203.0.113.80:443 allow ip }\n";
const SERVERS: &str =
    "service door : gate { match tcp.dst 8080 and ip.dst in 10.0.0.0/16 allow ip }\n";
const WEB: &str =
    "service web-lb : balance { match tcp.dst 203.0.113.80:443 pick from @web by weighted }\n";

#[test]
fn a_gate_stands_above_what_translates_its_packets() {
    check(&site(&format!("{DOOR}{WEB}"), "door > web-lb"), &[]);
    check(
        &site(&format!("{DOOR}{WEB}"), "web-lb > door"),
        &["error past-gate tcp.dst 203.0.113.80:443"],
    );
    let forward = "service fwd : nat { match tcp.dst 203.0.113.81:22 destination 10.0.1.5:22 }\n";
    let public = "service door : gate { match tcp.dst 203.0.113.81:22 allow ip }\n";
    check(
        &site(&format!("{public}{forward}"), "door > fwd"),
        &["warning unused web"],
    );
    check(
        &site(&format!("{public}{forward}"), "fwd > door"),
        &[
            "warning unused web",
            "error past-gate tcp.dst 203.0.113.81:22",
        ],
    );
}

// A3.4
#[test]
fn what_keeps_flows_above_a_gate_is_warned_of_since_a_flood_meets_it_first() {
    check(
        &site(&format!("{SERVERS}{WEB}"), "web-lb > door"),
        &["warning before-gate web-lb"],
    );
    let forward = "service fwd : nat { match tcp.dst 203.0.113.81:22 destination 10.0.1.5:22 }\n";
    let inside = "service door : gate { match tcp.dst 10.0.1.5:22 allow ip }\n";
    check(
        &site(&format!("{inside}{forward}"), "fwd > door"),
        &["warning unused web", "warning before-gate fwd"],
    );
    let meter = |clauses: &str| format!("{DOOR}{WEB}service meter : observe {{ {clauses} }}\n");
    check(
        &site(&meter("match tcp.dst 443"), "meter > door > web-lb"),
        &["warning before-gate meter"],
    );
    // Without flows there is nothing to fill.
    let all = "match ip\ncount packets, bytes\nreport every 10s";
    check(&site(&meter(all), "meter > door > web-lb"), &[]);
    // The gate's answers are packets, too.
    let below = "door > meter > web-lb";
    check(
        &site(&meter("match tcp"), below),
        &["warning before-gate meter"],
    );
    check(&site(&meter("match tcp.dst 203.0.113.80:443"), below), &[]);
}

// A3.1
#[test]
fn what_leads_to_a_server_past_its_gate_is_found() {
    check(
        &site(&format!("{SERVERS}{WEB}"), "door > web-lb"),
        &["warning past-gate web-lb"],
    );
    // Another gate may stand there.
    let public = DOOR.replace("door", "public");
    check(
        &site(&format!("{SERVERS}{public}{WEB}"), "door > public > web-lb"),
        &[],
    );
    let mapped = "service egress : nat { match ip.src in 10.0.1.0/26 one-to-one 10.0.1.0/26 = 203.0.113.64/26 }\n";
    let one =
        |to: &str| format!("service door : gate {{ match tcp.dst {to}:22 allow ip }}\n{mapped}");
    for (to, order) in [
        ("10.0.1.5", "door > egress"),
        ("10.0.1.5", "egress > door"),
        ("203.0.113.70", "door > egress"),
    ] {
        check(
            &site(&one(to), order),
            &[
                "warning unused web",
                &format!("error past-gate tcp.dst {to}:22"),
            ],
        );
    }
    check(
        &site(&one("10.0.1.100"), "door > egress"),
        &["warning unused web"],
    );
}

#[test]
fn a_gate_below_a_source_translation_is_warned_of() {
    let egress = "service egress : nat { match ip.src in 10.0.0.0/8 and not ip.dst in 10.0.0.0/8\n\
                  source 203.0.113.100 }\n";
    let outside = "service door : gate { match tcp.dst 192.0.2.1:22 allow ip }\n";
    check(
        &site(&format!("{outside}{egress}"), "door > egress"),
        &["warning unused web"],
    );
    check(
        &site(&format!("{outside}{egress}"), "egress > door"),
        &[
            "warning unused web",
            "warning translated-source door",
            "warning before-gate egress",
        ],
    );
}

#[test]
fn a_gate_needs_the_packets_of_servers_that_answer_directly() {
    let pool = POOL.replace(":8080", ":443");
    let mac = WEB.replace("by weighted", "by weighted\n way mac");
    let text = |cascade: &str| site(&format!("{DOOR}{mac}"), cascade).replace(POOL, &pool);
    check(&text("door > web-lb"), &["warning direct-return door"]);
    check(
        &text("web-lb > door"),
        &["warning direct-return door", "warning before-gate web-lb"],
    );
}

#[test]
fn two_gates_may_stand_before_one_server_and_filters_anywhere() {
    let again = DOOR.replace("door", "inner");
    let filter = "service guard : filter { deny ip.src in 198.51.100.0/24 }\n";
    check(
        &format!(
            "{NETWORK}{DOOR}{again}{filter}cascade guard > door > inner\nmanagers {{ m serves door, inner }}\n"
        )
        .replace("80:443", "80:443 or tcp.dst 10.0.1.5:22"),
        &[],
    );
    check(
        &format!(
            "{NETWORK}{POOL}{DOOR}{WEB}{filter}cascade door > guard > web-lb\nmanagers {{ m serves door, web-lb }}\n"
        ),
        &[],
    );
}
