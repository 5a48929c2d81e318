//! A service that is divided among two manager processes while it is in use.

use serde_json::Value;

use super::place::{self, Place};
use super::{SOON, ask};
use crate::needs::has;
use crate::process::wait_until;

/// What a manager says of the service at port 80: the share's number, its decisions, and the flows that it knows.
fn share(place: &Place, manager: &str) -> Option<(u64, u64, u64)> {
    let status = ask(&["status"], place.control(manager));
    let services = status.pointer("/managers/0/services")?.as_array()?.clone();
    let of = services.iter().find(|s| s["service"] == "web-lb")?;
    let number = |value: &Value| value.as_u64();
    Some((
        number(&of["share"])?,
        number(&of["counts"]["decided"])?,
        number(&of["targets"][0]["flows"])?,
    ))
}

// A7.1, A7.3, A7.4
#[test]
fn a_service_is_divided_among_two_processes_and_a_download_goes_on() {
    if !has(
        "a_service_is_divided_among_two_processes_and_a_download_goes_on",
        &place::NEEDS,
    ) {
        return;
    }
    let place = Place::start(false);
    // lb-1 has decided about it; by the division it is lb-2's.
    let mut download = place.download(80);
    let divided = place::POLICY.replace(
        "  lb-1 serves web-lb\n  lb-2 serves web-two\n",
        "  lb-1 serves web-lb where tcp.src in 0..32767\n  lb-2 serves web-lb where tcp.src in 32768..65535\n  lb-2 serves web-two\n",
    );
    let said = place.apply(&divided);
    assert!(said.contains("the P4 program stays"), "{said}");
    assert!(
        said.contains("lb-2 where tcp.src in 32768..65535"),
        "{said}"
    );
    wait_until("both shares, and the download at the second", SOON, || {
        share(&place, "lb-1").is_some_and(|s| s.0 == 0)
            && share(&place, "lb-2").is_some_and(|s| (s.0, s.2) == (1, 1))
    });
    let decided = |manager| share(&place, manager).unwrap().1;
    let before = (decided("lb-1"), decided("lb-2"));
    assert_eq!(before.1, 0, "it is not decided again");
    wait_until("a new connection", SOON, || {
        place.fetch_from(20_000, 80) == "200"
    });
    wait_until("another", SOON, || place.fetch_from(50_000, 80) == "200");
    assert_eq!(decided("lb-1"), before.0 + 1);
    assert_eq!(decided("lb-2"), 1);
    download.assert_whole();
    wait_until("its end is told to the second", SOON, || {
        share(&place, "lb-2").is_some_and(|s| s.2 == 0)
    });
}
