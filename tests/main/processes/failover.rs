//! Two managers that stand by for each other, killed and started again under traffic.

use std::path::PathBuf;
use std::time::Instant;

use super::place::{self, Place};
use super::{SOON, ask};
use crate::commands::{code, errors, signalbox, text};
use crate::needs::has;
use crate::process::wait_until;

/// What a manager says of the service at port 80: whether it stands by, and its epoch.
fn standing(place: &Place, manager: &str) -> Option<(bool, u64)> {
    let status = ask(&["status"], place.control(manager));
    let services = status.pointer("/managers/0/services")?.as_array()?;
    let of = services.iter().find(|s| s["service"] == "web-lb")?;
    Some((of["stands_by"] == true, of["epoch"].as_u64()?))
}

// A9.1, A9.2, A9.4, A9.8
#[test]
fn a_managers_death_is_felt_by_no_download_and_by_new_connections_for_a_second() {
    if !has(
        "a_managers_death_is_felt_by_no_download_and_by_new_connections_for_a_second",
        &place::NEEDS,
    ) {
        return;
    }
    let mut place = Place::start(false);
    let said = place.apply(&place::backed());
    assert!(said.contains("the P4 program stays"), "{said}");
    wait_until("who stands by", SOON, || {
        standing(&place, "lb-2").is_some_and(|(stands_by, _)| stands_by)
    });
    assert_eq!(place.fetch(80, 2), "200");
    let (_, before) = standing(&place, "lb-1").unwrap();

    let mut download = place.download(80);
    place.fail_over();
    let (stands_by, epoch) = standing(&place, "lb-2").unwrap();
    assert!(!stands_by && epoch > before, "{epoch} after {before}");
    assert_eq!(place.fetch(81, 10), "200", "its own service");

    // A server is drained at every manager that may have to choose, by whoever decides now.
    let controls = ["lb-1", "lb-2"].map(|name| place.control(name).to_owned());
    let drain = |words: &[&str], controls: &[PathBuf]| {
        let mut all = vec!["drain", "web"];
        all.extend(words);
        for control in controls {
            all.extend(["--control", text(control)]);
        }
        signalbox(&all)
    };
    let output = drain(&["10.0.1.99:8080"], &controls[1..]);
    assert_eq!(code(&output), 1);
    assert!(
        errors(&output).contains("it has 10.0.1.10:8080"),
        "{}",
        errors(&output)
    );
    assert_eq!(code(&drain(&["10.0.1.10:8080"], &controls[1..])), 0);
    assert_eq!(place.fetch(80, 1), "000", "its only server is drained");
    assert_eq!(
        code(&drain(&["10.0.1.10:8080", "--undo"], &controls[1..])),
        0
    );
    assert_eq!(place.fetch(80, 10), "200");

    place.start_manager("lb-1");
    wait_until("the first one's return", SOON, || {
        standing(&place, "lb-1").is_some_and(|(stands_by, now)| !stands_by && now > epoch)
            && standing(&place, "lb-2").is_some_and(|(stands_by, _)| stands_by)
    });
    assert_eq!(place.fetch(80, 10), "200");
    download.assert_whole();

    // A9.3: one that is ended says so.
    place.end("lb-1");
    let ended = Instant::now();
    wait_until("the backup", SOON, || place.fetch(80, 1) == "200");
    println!(
        "and after a goodbye for at most {} ms",
        ended.elapsed().as_millis()
    );
}

/// How a manager's link to the other one stands.
fn link(place: &Place, manager: &str) -> Option<String> {
    let status = ask(&["status"], place.control(manager));
    Some(
        status
            .pointer("/managers/0/links/0/state")?
            .as_str()?
            .to_owned(),
    )
}

// A9.7, A9.8
#[test]
fn a_download_outlives_its_agent_and_its_manager_where_the_backup_was_told_of_it() {
    if !has(
        "a_download_outlives_its_agent_and_its_manager_where_the_backup_was_told_of_it",
        &place::NEEDS,
    ) {
        return;
    }
    let replicated = place::POLICY.replace(
        "  lb-2 serves web-two\n",
        "  lb-2 serves web-two\n  backup lb-1 with lb-2 after 1s replicate sync\n",
    );
    let mut place = Place::start_with(&replicated, false, true);
    for manager in ["lb-1", "lb-2"] {
        wait_until("the link", SOON, || {
            link(&place, manager).as_deref() == Some("in_sync")
        });
    }
    let mut download = place.download(80);
    // Nobody is left who holds the flow: neither an agent nor the manager that decided it.
    place.kill("lb-1");
    place.kill("agent");
    place.start_agent();
    wait_until("the backup", SOON, || place.fetch(80, 1) == "200");
    assert_eq!(link(&place, "lb-2").as_deref(), Some("away"));
    assert!(download.is_running());
    wait_until("the download", SOON, || {
        let status = ask(&["status"], place.control("lb-2"));
        let counts = status
            .pointer("/managers/0/services")
            .unwrap()
            .as_array()
            .unwrap();
        (counts.iter()).any(|s| s["counts"]["mid_flow_known"].as_u64() > Some(0))
    });

    // A dead backup does not stop the service, either; and both are in step again.
    place.start_manager("lb-1");
    wait_until("the first one's return", SOON, || {
        standing(&place, "lb-1").is_some_and(|(stands_by, _)| !stands_by)
            && link(&place, "lb-1").as_deref() == Some("in_sync")
    });
    place.kill("lb-2");
    wait_until("the backup's end", SOON, || {
        link(&place, "lb-1").as_deref() == Some("away")
    });
    assert_eq!(place.fetch(80, 2), "200");
    download.assert_whole();
}
