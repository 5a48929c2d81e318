//! Calls to an etcd that is away, slow, full or wiped.

use std::time::{Duration, Instant};

use bytes::Bytes;
use signalbox_manager::state::{EtcdStore, Life, StateError, StateStore};

use crate::etcd::{Etcd, Wire};
use crate::needs::has;
use crate::process::Folder;

fn run(check: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().unwrap().block_on(check);
}

fn store(places: &str) -> EtcdStore {
    EtcdStore::new(
        format!("etcd://{places}").parse().unwrap(),
        "signalbox/test/",
    )
}

async fn put(store: &EtcdStore, key: &str, value: &'static str) -> Result<bool, StateError> {
    let new = Bytes::from_static(value.as_bytes());
    store.swap(key, None, Some(new), Life::Lasting).await
}

#[test]
fn where_no_etcd_answers_the_error_says_so_at_once_and_when_it_is_back_calls_go_on() {
    if !has(
        "where_no_etcd_answers_the_error_says_so_at_once_and_when_it_is_back_calls_go_on",
        &["etcd"],
    ) {
        return;
    }
    run(async {
        let folder = Folder::new();
        let mut etcd = Etcd::start(&folder, None);
        let store = store(&etcd.address());
        assert_eq!(put(&store, "k", "v").await, Ok(true));
        etcd.kill();
        let asked = Instant::now();
        let error = store.get("k").await.unwrap_err();
        assert!(matches!(error, StateError::Unreachable { .. }), "{error}");
        let text = format!("no etcd answers at {}", etcd.address());
        assert!(error.to_string().starts_with(&text), "{error}");
        assert!(asked.elapsed() < Duration::from_secs(3));
        etcd.again(&folder);
        assert_eq!(store.get("k").await, Ok(Some(Bytes::from_static(b"v"))));
    });
}

#[test]
fn the_next_of_several_endpoints_is_asked_when_one_does_not_answer() {
    if !has(
        "the_next_of_several_endpoints_is_asked_when_one_does_not_answer",
        &["etcd"],
    ) {
        return;
    }
    run(async {
        let folder = Folder::new();
        let etcd = Etcd::start(&folder, None);
        // Nobody listens at port 1.
        let store = store(&format!("127.0.0.1:1,{}", etcd.address()));
        assert_eq!(put(&store, "k", "v").await, Ok(true));
    });
}

#[test]
fn an_etcd_that_does_not_answer_costs_a_call_two_seconds_and_no_more() {
    if !has(
        "an_etcd_that_does_not_answer_costs_a_call_two_seconds_and_no_more",
        &["etcd"],
    ) {
        return;
    }
    run(async {
        let folder = Folder::new();
        let etcd = Etcd::start(&folder, None);
        let wire = Wire::to(&etcd.address());
        let store = store(&wire.address());
        assert_eq!(put(&store, "k", "v").await, Ok(true));
        wire.cut();
        let asked = Instant::now();
        let error = store.get("k").await.unwrap_err();
        assert!(
            matches!(error, StateError::Slow { ms: 2000, .. }),
            "{error}"
        );
        let took = asked.elapsed();
        assert!(took > Duration::from_millis(1900) && took < Duration::from_secs(4));
        wire.mend();
        assert_eq!(store.get("k").await, Ok(Some(Bytes::from_static(b"v"))));
    });
}

#[test]
fn an_etcd_that_is_full_says_so_and_can_still_be_read() {
    if !has(
        "an_etcd_that_is_full_says_so_and_can_still_be_read",
        &["etcd"],
    ) {
        return;
    }
    run(async {
        let folder = Folder::new();
        let etcd = Etcd::start(&folder, Some(256 * 1024));
        let store = store(&etcd.address());
        let big = Bytes::from(vec![7; 64 * 1024]);
        let mut error = None;
        for n in 0..1000 {
            let key = format!("big/{n}");
            let put = store
                .swap(&key, None, Some(big.clone()), Life::Lasting)
                .await;
            error = put.err();
            if error.is_some() {
                break;
            }
        }
        let at = etcd.address();
        assert_eq!(error, Some(StateError::Full { at: at.clone() }));
        // From when its alarm is raised, it takes nothing however small.
        let raised = Instant::now();
        let mut n = 0;
        while put(&store, &format!("small/{n}"), "v").await
            != Err(StateError::Full { at: at.clone() })
        {
            assert!(raised.elapsed() < Duration::from_secs(10));
            n += 1;
        }
        assert_eq!(store.get("big/0").await, Ok(Some(big)));
    });
}

#[test]
fn after_a_wipe_what_is_bound_can_be_set_again() {
    if !has("after_a_wipe_what_is_bound_can_be_set_again", &["etcd"]) {
        return;
    }
    run(async {
        let folder = Folder::new();
        let mut etcd = Etcd::start(&folder, None);
        let store = store(&etcd.address());
        let here = Some(Bytes::from_static(b"here"));
        let set = || store.swap("alive/a", None, here.clone(), Life::Bound);
        assert_eq!(set().await, Ok(true));
        etcd.kill();
        etcd.wipe();
        etcd.again(&folder);
        assert_eq!(store.get("alive/a").await, Ok(None));
        // The lease has gone with the rest.
        assert_eq!(set().await, Ok(true));
        assert_eq!(store.get("alive/a").await, Ok(here.clone()));
    });
}
