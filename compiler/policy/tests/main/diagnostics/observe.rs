//! Errors in observe services.

use super::check;
use crate::texts::NETWORK;

fn observe(clauses: &str) -> String {
    format!("{NETWORK}service o : observe {{\n{clauses}\n}}\nmanagers {{ m serves o }}\n")
}

#[test]
fn an_observe_service_says_what_it_counts_and_when_it_reports() {
    check(&observe("match ip"), &[]);
    check(
        &observe(
            "match tcp\ncount packets, bytes, flags per flow\nreport every 10s, on close\nkeep idle 1m, closed 5s\nfallback drop",
        ),
        &[],
    );
    check(
        &observe("match tcp.flags syn/syn+ack\ncount packets, bytes\nreport every 10s"),
        &[],
    );
    check(
        &observe("count packets, bytes per flow"),
        &["error missing-clause o"],
    );
    check(
        &observe("match ip\nallow ip"),
        &["error misplaced-clause allow"],
    );
    check(
        &observe("match ip\nlimit 5/s, 200000 flows, 2/s per source"),
        &[],
    );
    check(
        &observe("match ip\nlimit 5 half-open"),
        &["error unknown-word half-open"],
    );
    check(
        &format!("{NETWORK}service o : observe {{ match ip }}\n"),
        &["error no-manager o"],
    );
}

#[test]
fn what_is_counted_and_reported_makes_sense() {
    let with = |clause: &str| observe(&format!("match ip\n{clause}"));
    check(
        &with("count packets"),
        &[
            "error missing-clause o",
            "error incomplete-count count packets",
        ],
    );
    check(
        &with("count packets per flow"),
        &["error incomplete-count count packets per flow"],
    );
    check(
        &with("count packets, octets per flow"),
        &["error unknown-word octets"],
    );
    check(
        &with("count packets, bytes, bytes per flow"),
        &["error repeated-clause bytes"],
    );
    check(
        &with("count packets, bytes, flags\nreport every 10s"),
        &["error no-flows flags"],
    );
    check(&with("count packets, bytes"), &["error missing-clause o"]);
    check(
        &with("count packets, bytes\nreport on close"),
        &["error no-flows report on close"],
    );
    check(
        &with("count packets, bytes\nreport every 10s\nkeep idle 5m\nfallback drop"),
        &[
            "error no-flows keep idle 5m",
            "error no-flows fallback drop",
        ],
    );
    check(
        &with("count packets, bytes\nreport every 10s\nlimit 5 flows"),
        &["error no-flows 5 flows"],
    );
    check(&with("report every 100ms"), &["error out-of-range 100ms"]);
    check(
        &with("report every 10s, every 20s"),
        &["error repeated-clause every"],
    );
    check(&with("report on open"), &["error unknown-word open"]);
    check(&with("report hourly"), &["error unknown-word hourly"]);
    check(
        &with("keep half-open 5s"),
        &["error unknown-word half-open"],
    );
    check(&observe("match tcp.syn"), &["error flags-in-match tcp.syn"]);
}

#[test]
fn the_end_of_a_flow_is_reported_unless_the_policy_says_when() {
    let model = |clause: &str| {
        let policy = crate::texts::policy(&observe(&format!("match ip\n{clause}")));
        match &policy.services[0].kind {
            signalbox_policy::model::ServiceKind::Observe(o) => (o.every, o.on_close, o.per_flow),
            other => panic!("{other:?}"),
        }
    };
    let ten = std::time::Duration::from_secs(10);
    assert_eq!(model(""), (None, true, true));
    assert_eq!(model("report every 10s"), (Some(ten), false, true));
    assert_eq!(model("report on close, every 10s"), (Some(ten), true, true));
    assert_eq!(
        model("count packets, bytes\nreport every 10s"),
        (Some(ten), false, false)
    );
}
