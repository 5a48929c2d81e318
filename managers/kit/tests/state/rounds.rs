//! Rounds of managers with a store, on every store.

use std::collections::BTreeMap;

use signalbox_manager::state::{
    Alive, BlockRound, Found, Life, Round, ShareRound, StateStore, carry_out,
};

use crate::stores::on_both;

/// Sixteen blocks, of which a manager wants some.
fn blocks(want: u32) -> BlockRound {
    BlockRound {
        names: (0..16).map(|n| format!("{n}")).collect(),
        users: vec!["nat-1".to_owned(), "nat-2".to_owned()],
        held: 0,
        release: 0,
        want,
        among: 0xffff,
        known: Vec::new(),
        take_old: false,
    }
}

fn round(manager: &str, instance: u64, epoch: u64, blocks: BlockRound) -> Round {
    Round {
        number: 1,
        manager: manager.to_owned(),
        alive: Alive {
            instance,
            started: 1_700_000_000,
            plan: "aa".to_owned(),
        },
        shares: vec![ShareRound {
            service: "egress".to_owned(),
            share: 0,
            epoch,
            decides: epoch > 0,
            blocks: Some(blocks),
        }],
    }
}

async fn play(store: &dyn StateStore, round: &Round) -> Found {
    carry_out(store, round).await.unwrap()
}

#[test]
fn managers_hear_of_each_other_and_of_a_later_process_of_their_name() {
    on_both(
        "managers_hear_of_each_other_and_of_a_later_process_of_their_name",
        async |users| {
            let (one, two, later) = (users(), users(), users());
            let first = round("nat-1", 10, 1, blocks(0));
            let alone = play(&*one, &first).await;
            assert!(alone.others.is_empty() && alone.later.is_none());
            let second = play(&*two, &round("nat-2", 11, 0, blocks(0))).await;
            assert_eq!(
                second.others,
                BTreeMap::from([("nat-1".to_owned(), first.alive.clone())])
            );
            assert!(!second.earlier);
            let third = play(&*later, &round("nat-1", 12, 1, blocks(0))).await;
            assert!(third.earlier && third.later.is_none());
            let told = play(&*one, &first).await;
            assert_eq!(told.later.map(|alive| alive.instance), Some(12));
            // Whoever is not the last of its name takes nothing.
            let greedy = play(&*one, &round("nat-1", 10, 9, blocks(4))).await;
            assert_eq!((greedy.shares[0].held, greedy.shares[0].epoch), (0, 0));
            assert_eq!(
                play(&*two, &round("nat-2", 11, 0, blocks(0))).await.shares[0].epoch,
                1
            );
        },
    );
}

#[test]
fn an_epoch_rises_and_never_goes_back() {
    on_both("an_epoch_rises_and_never_goes_back", async |users| {
        let (one, two) = (users(), users());
        let epoch = async |store: &dyn StateStore, name: &str, epoch: u64| {
            let instance = if name == "nat-1" { 1 } else { 2 };
            play(store, &round(name, instance, epoch, blocks(0)))
                .await
                .shares[0]
                .epoch
        };
        assert_eq!(epoch(&*two, "nat-2", 0).await, 0, "nobody has told of one");
        assert_eq!(epoch(&*one, "nat-1", 3).await, 3);
        assert_eq!(epoch(&*two, "nat-2", 4).await, 4);
        assert_eq!(epoch(&*one, "nat-1", 3).await, 4, "a newer one is there");
        assert_eq!(epoch(&*one, "nat-1", 5).await, 5);
        let value = one.get("share/egress/0").await.unwrap().unwrap();
        let wanted = br#"{"epoch":5,"manager":"nat-1","instance":1,"plan":"aa"}"#;
        assert_eq!(&*value, wanted);
        // Whose it is, and whether that process is there yet.
        let of_two = play(&*two, &round("nat-2", 2, 0, blocks(0))).await;
        assert!(!of_two.shares[0].is_orphan);
        let restarted = play(&*one, &round("nat-1", 3, 0, blocks(0))).await;
        assert_eq!(restarted.shares[0].epoch, 5);
        assert!(restarted.shares[0].is_orphan);
    });
}

#[test]
fn a_block_has_one_owner_however_many_want_it() {
    on_both(
        "a_block_has_one_owner_however_many_want_it",
        async |users| {
            let mut tasks = Vec::new();
            for n in 1..=4 {
                let store = users();
                tasks.push(tokio::spawn(async move {
                    let round = round(&format!("nat-{n}"), n, 1, blocks(10));
                    let found = carry_out(&*store, &round).await.unwrap();
                    // The keys are there as long as the store; the user is not.
                    (store, found.shares[0].held)
                }));
            }
            let mut all = 0u64;
            let mut users = Vec::new();
            for task in tasks {
                let (user, held) = task.await.unwrap();
                assert_eq!(all & held, 0, "{all:b} {held:b}");
                all |= held;
                users.push(user);
            }
            assert!(all.count_ones() >= 10, "{all:b}");
        },
    );
}

#[test]
fn what_is_another_ones_is_taken_when_it_is_old_and_its_process_is_gone() {
    on_both(
        "what_is_another_ones_is_taken_when_it_is_old_and_its_process_is_gone",
        async |users| {
            let (one, two) = (users(), users());
            let used = play(&*one, &round("nat-1", 1, 3, blocks(3))).await;
            assert_eq!((used.shares[0].held, used.shares[0].spare), (0b111, 0));
            let mut top = blocks(2);
            top.among = 0xc000;
            let spare = play(&*two, &round("nat-2", 2, 0, top)).await;
            assert_eq!(
                (spare.shares[0].held, spare.shares[0].spare),
                (0xc000, 0xc000)
            );
            // nat-2 takes over.
            let mut wants = blocks(1);
            wants.held = 0xc000;
            let found = play(&*two, &round("nat-2", 2, 4, wants.clone())).await;
            assert_eq!(
                (found.shares[0].held, found.shares[0].others),
                (0xc008, 0b111)
            );
            assert_eq!(found.shares[0].spare, 0, "they are in use");
            wants.take_old = true;
            wants.want = 0;
            // nat-1 may be in use where nat-2 is not heard.
            let found = play(&*two, &round("nat-2", 2, 4, wants.clone())).await;
            assert_eq!(
                (found.shares[0].held, found.shares[0].others),
                (0xc008, 0b111)
            );
            one.leave().await;
            let found = play(&*two, &round("nat-2", 2, 4, wants.clone())).await;
            assert_eq!((found.shares[0].held, found.shares[0].others), (0xc00f, 0));
            // nat-1 is back, and hears that its blocks are another's.
            let one = users();
            let mut back = blocks(1);
            back.held = 0b111;
            let found = play(&*one, &round("nat-1", 3, 5, back)).await;
            assert_eq!(
                (found.shares[0].held, found.shares[0].others),
                (1 << 4, 0xc00f)
            );
            let mut old = blocks(0);
            old.take_old = true;
            let found = play(&*one, &round("nat-1", 3, 5, old.clone())).await;
            assert_eq!(
                (found.shares[0].held, found.shares[0].others),
                (1 << 4, 0xc00f)
            );
            // nat-2 gives back some of what it has used, and ends with the rest; what it has not used is kept.
            let released = BlockRound {
                held: 0xc00f,
                release: 0xc003,
                ..blocks(0)
            };
            play(&*two, &round("nat-2", 2, 0, released)).await;
            let mut top = blocks(2);
            top.among = 0xc000;
            play(&*two, &round("nat-2", 2, 0, top)).await;
            two.leave().await;
            let found = play(&*one, &round("nat-1", 3, 5, old)).await;
            assert_eq!(
                (found.shares[0].held, found.shares[0].others),
                (0b11100, 0xc000)
            );
        },
    );
}

#[test]
fn what_a_manager_had_of_a_share_that_is_another_ones_by_the_policy_is_taken_though_it_lives() {
    on_both(
        "what_a_manager_had_of_a_share_that_is_another_ones_by_the_policy_is_taken_though_it_lives",
        async |users| {
            let (one, two) = (users(), users());
            play(&*one, &round("nat-1", 1, 3, blocks(2))).await;
            let mut spare = blocks(1);
            spare.among = 0x8000;
            play(&*one, &round("nat-1", 1, 0, spare)).await;
            let mut wants = blocks(0);
            wants.take_old = true;
            let found = play(&*two, &round("nat-2", 2, 4, wants.clone())).await;
            assert_eq!((found.shares[0].held, found.shares[0].others), (0, 0x8003));
            wants.users = vec!["nat-2".to_owned()];
            let found = play(&*two, &round("nat-2", 2, 4, wants)).await;
            assert_eq!((found.shares[0].held, found.shares[0].others), (0x8003, 0));
        },
    );
}

#[test]
fn a_store_that_was_wiped_gets_back_what_a_manager_has_and_what_it_knows_of_others() {
    on_both(
        "a_store_that_was_wiped_gets_back_what_a_manager_has_and_what_it_knows_of_others",
        async |users| {
            let (one, two) = (users(), users());
            play(&*one, &round("nat-1", 1, 3, blocks(2))).await;
            let mut again = round("nat-2", 2, 4, blocks(2));
            let found = play(&*two, &again).await;
            assert_eq!(
                (found.shares[0].held, found.shares[0].others),
                (0b1100, 0b11)
            );
            let before = two.list("").await.unwrap();
            for (key, value) in &before {
                let gone = two.swap(key, Some(value), None, Life::Lasting).await;
                assert_eq!(gone, Ok(true));
            }
            again.number = 2;
            again.shares[0].blocks = Some(BlockRound {
                held: found.shares[0].held,
                known: found.shares[0].known.clone(),
                ..blocks(0)
            });
            let found = play(&*two, &again).await;
            assert_eq!(
                (found.shares[0].held, found.shares[0].others),
                (0b1100, 0b11)
            );
            assert_eq!(found.refilled, 6, "itself, the epoch and four blocks");
            let after = two.list("").await.unwrap();
            let others: Vec<_> = (before.into_iter())
                .filter(|(key, _)| key != "alive/nat-1")
                .collect();
            assert_eq!(after, others);
            assert_eq!(play(&*two, &again).await.refilled, 0);
        },
    );
}
