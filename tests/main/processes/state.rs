//! Managers that share an etcd: what `status` shows of it, and what becomes of them when it is away, slow, full or
//! wiped, or when there are two of one name.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use signalbox_manager::state::{EtcdStore, Life, StateError, StateStore};

use super::place::{self, Place};
use super::{Agent, SOON, ask, command, start};
use crate::commands::{POLICY, code, errors, signalbox, text};
use crate::etcd::{Etcd, Wire};
use crate::needs::has;
use crate::process::{Folder, Process, wait_until};

/// lb-2 stands by for lb-1.
fn backed() -> String {
    POLICY.replace(
        "  lb-1 serves web-lb\n",
        "  lb-1 serves web-lb\n  backup lb-1 with lb-2 after 1s\n",
    )
}

/// A manager process with a store.
fn manager(
    process: &str,
    name: &str,
    policy: &Path,
    (agent, state): (&str, &str),
    folder: &Folder,
) -> (Process, PathBuf) {
    let state = format!("etcd://{state}");
    let words = [
        "manager",
        name,
        text(policy),
        "--agent",
        agent,
        "--state",
        &state,
    ];
    start(process, command(&words), folder)
}

/// What a manager says of its store.
fn store(control: &Path) -> Value {
    ask(&["status"], control)["store"].clone()
}

fn count(control: &Path, name: &str) -> u64 {
    store(control)["counts"][name].as_u64().unwrap_or(0)
}

fn alive(control: &Path) -> Vec<String> {
    let list = store(control)["alive"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    (list.iter())
        .map(|alive| alive["manager"].as_str().unwrap().to_owned())
        .collect()
}

fn reachable(control: &Path) -> bool {
    store(control)["reachable"] == true
}

#[test]
fn a_place_of_a_store_that_is_none_is_wrong_usage() {
    let folder = Folder::new();
    let policy = folder.write("web.policy", POLICY);
    for (place, says) in [
        ("127.0.0.1:2379", "expected etcd://HOST:PORT"),
        ("etcd://127.0.0.1", "found `etcd://127.0.0.1`"),
    ] {
        let words = ["manager", "lb-1", text(&policy), "--agent", "127.0.0.1:1"];
        let output = signalbox(&[&words[..], &["--state", place]].concat());
        assert_eq!(code(&output), 2);
        assert!(errors(&output).contains(says), "{}", errors(&output));
    }
}

#[test]
fn status_shows_the_store_and_who_is_alive_while_etcd_dies_returns_and_is_wiped() {
    if !has(
        "status_shows_the_store_and_who_is_alive_while_etcd_dies_returns_and_is_wiped",
        &["etcd"],
    ) {
        return;
    }
    let folder = Folder::new();
    let mut etcd = Etcd::start(&folder, None);
    let policy = folder.write("web.policy", backed());
    let agent = Agent::start("agent-1", &policy, &folder);
    let at = etcd.address();
    let ways = (&*agent.address, &*at);
    let (mut first, one) = manager("lb-1", "lb-1", &policy, ways, &folder);
    let (_second, two) = manager("lb-2", "lb-2", &policy, ways, &folder);
    wait_until("both", SOON, || {
        alive(&one) == ["lb-1", "lb-2"] && alive(&two) == ["lb-1", "lb-2"]
    });
    let shown = store(&one);
    assert_eq!(shown["place"], format!("etcd://{}", etcd.address()));
    assert_eq!(shown["reachable"], true);
    assert!(
        shown["alive"]
            .as_array()
            .unwrap()
            .iter()
            .all(|a| a["same_policy"] == true)
    );
    assert!(agent.served().0 == 2, "{:?}", agent.served());

    etcd.kill();
    wait_until("the loss", SOON, || !reachable(&one) && !reachable(&two));
    assert!(count(&one, "unreachable") > 0);
    let error = store(&one)["last_error"].as_str().unwrap().to_owned();
    assert!(
        error.starts_with(&format!("no etcd answers at {}", etcd.address())),
        "{error}"
    );
    assert_eq!(agent.served().0, 2, "agents notice nothing");

    etcd.wipe();
    etcd.again(&folder);
    wait_until("the return", SOON, || {
        reachable(&one) && alive(&one) == ["lb-1", "lb-2"]
    });
    assert!(count(&one, "refilled") > 0);
    // The epoch that lb-1 had is in the store again.
    let client = EtcdStore::new(
        format!("etcd://{}", etcd.address()).parse().unwrap(),
        "signalbox/web/",
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let share = || runtime.block_on(client.get("share/web-lb/0")).unwrap();
    wait_until("the epoch", SOON, || {
        share().is_some_and(|value| {
            let value: Value = serde_json::from_slice(&value).unwrap();
            value["epoch"] == 1 && value["manager"] == "lb-1"
        })
    });

    // One that is ended says so to the store, too; of one that dies the lease runs out.
    first.interrupt();
    assert!(first.wait(SOON).success());
    let ended = Instant::now();
    wait_until("the goodbye", SOON, || alive(&two) == ["lb-2"]);
    assert!(
        ended.elapsed() < Duration::from_secs(9),
        "before its lease is over"
    );
}

#[test]
fn an_etcd_that_does_not_answer_is_shown_as_slow_and_one_that_is_full_as_full() {
    if !has(
        "an_etcd_that_does_not_answer_is_shown_as_slow_and_one_that_is_full_as_full",
        &["etcd"],
    ) {
        return;
    }
    let folder = Folder::new();
    let etcd = Etcd::start(&folder, Some(256 * 1024));
    let wire = Wire::to(&etcd.address());
    let policy = folder.write("web.policy", backed());
    let agent = Agent::start("agent-1", &policy, &folder);
    let at = wire.address();
    let (mut process, control) = manager("lb-1", "lb-1", &policy, (&agent.address, &at), &folder);
    wait_until("the store", SOON, || reachable(&control));
    wire.cut();
    wait_until("its silence", SOON, || count(&control, "slow") > 0);
    let error = store(&control)["last_error"].as_str().unwrap().to_owned();
    assert!(error.contains("has not answered within 2000 ms"), "{error}");
    assert_eq!(agent.served(), (1, 2), "the manager serves on");
    wire.mend();
    wait_until("its return", SOON, || reachable(&control));

    // It is filled, and then there is something to write.
    let at = format!("etcd://{}", etcd.address());
    let client = EtcdStore::new(at.parse().unwrap(), "others/");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let big = Bytes::from(vec![7; 64 * 1024]);
    let filled = (0..1000).any(|n| {
        let key = n.to_string();
        let put = client.swap(&key, None, Some(big.clone()), Life::Lasting);
        matches!(runtime.block_on(put), Err(StateError::Full { .. }))
    });
    assert!(filled);
    let ways = (&*agent.address, &*etcd.address());
    let (_late, late) = manager("lb-2", "lb-2", &policy, ways, &folder);
    wait_until("the refusal", SOON, || count(&late, "full") > 0);
    let error = store(&late)["last_error"].as_str().unwrap().to_owned();
    assert!(
        error.contains("is full") && error.contains("alarm disarm"),
        "{error}"
    );
    wait_until("both at the agent", SOON, || agent.served().0 == 2);
    assert!(process.ended().is_none());
}

#[test]
fn of_two_managers_of_one_name_the_earlier_ends_even_where_no_agent_tells_it() {
    if !has(
        "of_two_managers_of_one_name_the_earlier_ends_even_where_no_agent_tells_it",
        &["etcd"],
    ) {
        return;
    }
    let folder = Folder::new();
    let etcd = Etcd::start(&folder, None);
    let policy = folder.write("web.policy", POLICY);
    // Nobody listens there.
    let at = etcd.address();
    let ways = ("127.0.0.1:1", &*at);
    let (mut first, control) = manager("first", "lb-1", &policy, ways, &folder);
    wait_until("the first", SOON, || alive(&control) == ["lb-1"]);
    let (mut second, control) = manager("second", "lb-1", &policy, ways, &folder);
    let status = first.wait(SOON);
    assert_eq!(status.code(), Some(1), "{}", first.printed());
    let said = first.printed();
    let last = said.lines().last().unwrap();
    assert!(last.contains("a later process of manager `lb-1`"), "{said}");
    wait_until("the second", SOON, || alive(&control) == ["lb-1"]);
    assert_eq!(count(&control, "twins"), 1);
    assert!(second.ended().is_none());
}

#[test]
fn managers_of_two_versions_of_a_policy_say_so() {
    if !has("managers_of_two_versions_of_a_policy_say_so", &["etcd"]) {
        return;
    }
    let folder = Folder::new();
    let etcd = Etcd::start(&folder, None);
    let policy = folder.write("web.policy", backed());
    let other = folder.write("other/web.policy", backed().replace("8080", "8081"));
    let at = etcd.address();
    let ways = ("127.0.0.1:1", &*at);
    let (one, control) = manager("lb-1", "lb-1", &policy, ways, &folder);
    let (_two, _) = manager("lb-2", "lb-2", &other, ways, &folder);
    wait_until("the difference", SOON, || {
        count(&control, "other_policy") == 1
    });
    assert!(
        one.printed()
            .contains("manager `lb-2` works from another version of the policy"),
        "{}",
        one.printed()
    );
}

// A9.2
#[test]
fn with_a_dead_etcd_a_backup_takes_over_as_soon_as_without_one() {
    if !has(
        "with_a_dead_etcd_a_backup_takes_over_as_soon_as_without_one",
        &place::NEEDS,
    ) {
        return;
    }
    let mut place = Place::start(false);
    place.apply(&place::backed());
    // Nobody listens there.
    for name in ["lb-1", "lb-2"] {
        place.end(name);
        place.start_manager_with(name, &["--state", "etcd://127.0.0.1:1"]);
    }
    wait_until("both services", SOON, || {
        place.fetch(80, 2) == "200" && place.fetch(81, 2) == "200"
    });
    assert!(count(place.control("lb-2"), "unreachable") > 0);
    let mut download = place.download(80);
    place.fail_over();
    download.assert_whole();
}
