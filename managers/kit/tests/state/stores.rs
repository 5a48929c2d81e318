//! The suite that every store passes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use signalbox_manager::state::{EtcdStore, Life, MemoryStore, StateStore};

use crate::etcd::Etcd;
use crate::needs::has;
use crate::process::Folder;

/// Another user of the same store each time.
pub type Users<'a> = &'a dyn Fn() -> Arc<dyn StateStore>;

/// Runs a check on the store in memory, and on an etcd of its own.
pub fn on_both(test: &str, check: impl AsyncFn(Users<'_>)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let memory = MemoryStore::default();
    runtime.block_on(check(&|| Arc::new(memory.another())));
    if !has(test, &["etcd"]) {
        return;
    }
    let folder = Folder::new();
    let etcd = Etcd::start(&folder, None);
    let place = format!("etcd://{}", etcd.address());
    runtime.block_on(check(&|| {
        Arc::new(EtcdStore::new(place.parse().unwrap(), "signalbox/test/"))
    }));
}

fn bytes(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

async fn swap(store: &dyn StateStore, key: &str, old: Option<&str>, new: Option<&str>) -> bool {
    let old = old.map(str::as_bytes);
    (store
        .swap(key, old, new.and_then(bytes), Life::Lasting)
        .await)
        .unwrap()
}

#[test]
fn a_key_is_set_only_by_who_knows_what_it_was() {
    on_both(
        "a_key_is_set_only_by_who_knows_what_it_was",
        async |users| {
            let (a, b) = (users(), users());
            assert_eq!(a.get("k").await, Ok(None));
            assert!(!swap(&*a, "k", Some("x"), Some("y")).await);
            assert!(swap(&*a, "k", None, Some("x")).await);
            assert!(!swap(&*b, "k", None, Some("y")).await);
            assert!(swap(&*b, "k", Some("x"), Some("y")).await);
            assert!(!swap(&*a, "k", Some("x"), None).await);
            assert_eq!(a.get("k").await, Ok(bytes("y")));
            assert!(swap(&*a, "k", Some("y"), None).await);
            assert_eq!(b.get("k").await, Ok(None));
            assert!(
                swap(&*b, "k", None, Some("")).await,
                "an empty value is one"
            );
            assert_eq!(b.get("k").await, Ok(bytes("")));
        },
    );
}

#[test]
fn of_many_who_set_a_key_at_once_one_does() {
    on_both("of_many_who_set_a_key_at_once_one_does", async |users| {
        let mut won = 0;
        let mut tasks = Vec::new();
        for n in 0..8 {
            let user = users();
            tasks.push(tokio::spawn(async move {
                swap(&*user, "k", None, Some(&n.to_string())).await
            }));
        }
        for task in tasks {
            won += u32::from(task.await.unwrap());
        }
        assert_eq!(won, 1);
    });
}

#[test]
fn a_list_has_what_begins_so_in_order_however_much_that_is() {
    on_both(
        "a_list_has_what_begins_so_in_order_however_much_that_is",
        async |users| {
            let store = users();
            for key in ["b/2", "b/10", "a/1", "c", "b", "b0"] {
                assert!(swap(&*store, key, None, Some(key)).await);
            }
            let keys = |list: Vec<(String, Bytes)>| -> Vec<String> {
                list.into_iter()
                    .map(|(key, value)| {
                        assert_eq!(value, key.as_bytes());
                        key
                    })
                    .collect()
            };
            assert_eq!(keys(store.list("b/").await.unwrap()), ["b/10", "b/2"]);
            let all = ["a/1", "b", "b/10", "b/2", "b0", "c"];
            assert_eq!(keys(users().list("").await.unwrap()), all);
            assert!(store.list("d").await.unwrap().is_empty());
            // More than etcd is asked for at a time.
            for n in 0..1100 {
                let key = format!("many/{n:04}");
                assert!(swap(&*store, &key, None, Some(&key)).await);
            }
            let many = keys(store.list("many/").await.unwrap());
            assert_eq!(many.len(), 1100);
            assert!(many.is_sorted());
        },
    );
}

#[test]
fn what_is_bound_goes_with_its_user_and_nothing_else_does() {
    on_both(
        "what_is_bound_goes_with_its_user_and_nothing_else_does",
        async |users| {
            let (a, b, witness) = (users(), users(), users());
            for (user, key) in [(&a, "alive/a"), (&b, "alive/b")] {
                let bound = user.swap(key, None, bytes("here"), Life::Bound).await;
                assert_eq!(bound, Ok(true));
            }
            assert!(swap(&*a, "epoch", None, Some("7")).await);
            // One leaves in order, the other without a word.
            a.leave().await;
            assert_eq!(witness.get("alive/a").await, Ok(None));
            assert_eq!(witness.get("alive/b").await, Ok(bytes("here")));
            // It may come back.
            let bound = a.swap("alive/a", None, bytes("again"), Life::Bound).await;
            assert_eq!(bound, Ok(true));
            drop(b);
            let dropped = Instant::now();
            while witness.get("alive/b").await != Ok(None) {
                assert!(dropped.elapsed() < Duration::from_secs(20));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            // The lease of who is there has been renewed meanwhile.
            assert_eq!(witness.get("alive/a").await, Ok(bytes("again")));
            assert_eq!(witness.get("epoch").await, Ok(bytes("7")));
        },
    );
}
