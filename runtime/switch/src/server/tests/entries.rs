//! Table entries: symmetry of writing and reading, the rules of keys and priorities, defaults,
//! constant tables, direct resources, atomic batches.

use signalbox_p4runtime::proto::p4::v1::{
    Action, CounterData, DirectCounterEntry, DirectMeterEntry, FieldMatch, MeterConfig,
    TableAction,
    action::Param,
    entity::Entity as E,
    field_match::{Exact, FieldMatchType, Ternary},
    table_action,
    table_entry::IdleTimeout,
    update::Type,
};

use super::*;

#[tokio::test]
async fn entries_of_every_kind_read_back_as_written() {
    let lab = Lab::start().await;
    let mut l2 = lab
        .catalog
        .entry("l2")
        .exact("hdr.ethernet.dst", 0x0a0b_0c0d_0e0fu64)
        .action("forward", [("port", value(3))])
        .idle_timeout(Duration::from_nanos(1_500_000_123))
        .metadata(b"cookie".to_vec())
        .build()
        .unwrap();
    #[allow(deprecated)]
    {
        l2.controller_metadata = 77;
    }
    let filter = lab
        .catalog
        .entry("filter")
        .ternary("hdr.ethernet.src", 0x0200u64, 0xff00u64)
        .range("hdr.ethernet.type", 0x800u64, 0x8ffu64)
        .optional("std.ingress_port", Some(2u8))
        .priority(10)
        .action("to_controller", [("reason", value(5))])
        .build()
        .unwrap();
    let everything = lab
        .catalog
        .entry("filter")
        .priority(1)
        .action("NoAction", [])
        .build()
        .unwrap();
    let prefix = lab
        .catalog
        .entry("prefixes")
        .lpm("hdr.ethernet.dst", 0x0a00_0000_0000u64, 8)
        .action("metered_rewrite", [("dst", value(1)), ("port", value(2))])
        .build()
        .unwrap();
    let written = vec![l2, filter, everything, prefix];
    lab.write(written.iter().cloned().map(insert).collect())
        .await
        .unwrap();

    let read: Vec<TableEntry> = lab
        .entries(TableEntry::default())
        .await
        .into_iter()
        .filter(|e| !e.is_const && e.table_id != lab.id("initial"))
        .collect();
    assert_eq!(read, written);
    // By key, and by what else filters.
    let by_key = TableEntry {
        action: None,
        ..written[1].clone()
    };
    assert_eq!(lab.entries(by_key).await, written[1..2]);
    let by_priority = TableEntry {
        table_id: lab.id("filter"),
        priority: 1,
        ..TableEntry::default()
    };
    assert_eq!(lab.entries(by_priority).await, written[2..3]);
    let by_metadata = TableEntry {
        table_id: lab.id("l2"),
        metadata: b"cookie".to_vec(),
        ..TableEntry::default()
    };
    assert_eq!(lab.entries(by_metadata).await, written[..1]);
    let mut by_action = TableEntry {
        table_id: lab.id("filter"),
        action: written[1].action.clone(),
        ..TableEntry::default()
    };
    assert_eq!(lab.entries(by_action.clone()).await, written[1..2]);
    by_action.table_id = 0;
    let (code, message) = lab.read_refused(E::TableEntry(by_action)).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("no other filter"), "{message}");
}

#[tokio::test]
async fn entries_carry_packets_until_they_are_deleted() {
    let lab = Lab::start().await;
    lab.write(vec![insert(lab.l2(0x0a, 3))]).await.unwrap();
    assert_eq!(lab.packet(1, &frame(0x0a, 1, 0x800)).await[0].0, 3);
    lab.write(vec![modify(lab.l2(0x0a, 4))]).await.unwrap();
    assert_eq!(lab.packet(1, &frame(0x0a, 1, 0x800)).await[0].0, 4);
    lab.write(vec![delete(lab.l2(0x0a, 4))]).await.unwrap();
    // simple_switch's way with an untouched packet.
    assert_eq!(lab.packet(1, &frame(0x0a, 1, 0x800)).await[0].0, 0);
}

#[tokio::test]
async fn values_are_taken_in_any_padding_and_given_in_the_shortest() {
    let lab = Lab::start().await;
    let mut entry = lab.l2(0x0a, 3);
    entry.r#match[0].field_match_type = Some(FieldMatchType::Exact(Exact {
        value: vec![0, 0, 0, 0, 0, 0, 0, 0x0a],
    }));
    lab.write(vec![insert(entry.clone())]).await.unwrap();
    assert_eq!(
        lab.entries(TableEntry {
            table_id: lab.id("l2"),
            ..TableEntry::default()
        })
        .await,
        [lab.l2(0x0a, 3)]
    );
    for bad in [vec![], vec![1, 0, 0, 0, 0, 0, 0]] {
        entry.r#match[0].field_match_type = Some(FieldMatchType::Exact(Exact { value: bad }));
        let (code, message) = lab.refused(insert(entry.clone())).await;
        assert_eq!(code, Code::OutOfRange);
        assert!(
            message.contains("table `l2`") && message.contains("`hdr.ethernet.dst`"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn each_mistake_in_an_entry_is_named() {
    let lab = Lab::start().await;
    let good = lab.l2(0x0a, 3);
    let filter = lab
        .catalog
        .entry("filter")
        .ternary("hdr.ethernet.src", 0x0200u64, 0xff00u64)
        .priority(10)
        .action("drop", [])
        .build()
        .unwrap();
    let action = |action_id, params| {
        Some(TableAction {
            r#type: Some(table_action::Type::Action(Action { action_id, params })),
        })
    };
    let forward = lab.catalog.actions.named("forward").unwrap().id;
    let rewrite = lab.catalog.actions.named("rewrite").unwrap().id;
    let no_action = lab.catalog.actions.named("NoAction").unwrap().id;
    let ternary = |value: &[u8], mask: &[u8]| {
        Some(FieldMatchType::Ternary(Ternary {
            value: value.to_vec(),
            mask: mask.to_vec(),
        }))
    };
    let change = |entry: &TableEntry, change: &dyn Fn(&mut TableEntry)| {
        let mut entry = entry.clone();
        change(&mut entry);
        insert(entry)
    };
    let cases: Vec<(Update, Code, &str)> = vec![
        (
            change(&good, &|e| e.table_id = 0),
            Code::InvalidArgument,
            "no table id",
        ),
        (
            change(&good, &|e| e.table_id = 99),
            Code::InvalidArgument,
            "0x00000063",
        ),
        (
            change(&good, &|e| e.r#match.clear()),
            Code::InvalidArgument,
            "`hdr.ethernet.dst` of `l2` is exact and is missing",
        ),
        (
            change(&good, &|e| e.r#match[0].field_id = 9),
            Code::InvalidArgument,
            "no match field with id 9",
        ),
        (
            change(&good, &|e| e.r#match.push(e.r#match[0].clone())),
            Code::InvalidArgument,
            "twice",
        ),
        (
            change(&good, &|e| {
                e.r#match[0].field_match_type = ternary(&[1], &[1])
            }),
            Code::InvalidArgument,
            "takes exact matches, not ternary",
        ),
        (
            change(&good, &|e| e.priority = 1),
            Code::InvalidArgument,
            "priority 1 is not 0",
        ),
        (
            change(&filter, &|e| e.priority = 0),
            Code::InvalidArgument,
            "priority 0 is not above 0",
        ),
        (
            change(&filter, &|e| e.priority = -3),
            Code::InvalidArgument,
            "priority -3",
        ),
        (
            change(&filter, &|e| {
                e.r#match[0].field_match_type = ternary(&[2, 1], &[0xff, 0])
            }),
            Code::InvalidArgument,
            "bits outside its mask",
        ),
        (
            change(&filter, &|e| {
                e.r#match[0].field_match_type = ternary(&[0], &[0])
            }),
            Code::InvalidArgument,
            "leave the field out",
        ),
        (
            change(&good, &|e| e.action = None),
            Code::InvalidArgument,
            "no action",
        ),
        (
            change(&good, &|e| e.action = action(rewrite, vec![])),
            Code::InvalidArgument,
            "none of the actions of `l2`",
        ),
        (
            change(&good, &|e| e.action = action(no_action, vec![])),
            Code::PermissionDenied,
            "only be the default",
        ),
        (
            change(&good, &|e| e.action = action(forward, vec![])),
            Code::InvalidArgument,
            "lacks its parameter `port`",
        ),
        (
            change(&good, &|e| {
                e.action = action(
                    forward,
                    vec![Param {
                        param_id: 4,
                        value: vec![1],
                    }],
                )
            }),
            Code::InvalidArgument,
            "no parameter with id 4",
        ),
        (
            change(&good, &|e| {
                e.action = action(
                    forward,
                    vec![Param {
                        param_id: 1,
                        value: vec![2, 0],
                    }],
                )
            }),
            Code::OutOfRange,
            "parameter `port`",
        ),
        (
            change(&good, &|e| e.is_const = true),
            Code::InvalidArgument,
            "is_const",
        ),
        (
            change(&good, &|e| {
                e.time_since_last_hit = Some(IdleTimeout::default())
            }),
            Code::InvalidArgument,
            "only for reading",
        ),
        (
            change(&filter, &|e| e.idle_timeout_ns = 1),
            Code::InvalidArgument,
            "do not age",
        ),
        (
            change(&filter, &|e| e.counter_data = Some(CounterData::default())),
            Code::InvalidArgument,
            "no direct counter",
        ),
        (
            delete(good.clone()),
            Code::NotFound,
            "no entry with this key",
        ),
        (
            modify(good.clone()),
            Code::NotFound,
            "no entry with this key",
        ),
        (
            update(Type::Unspecified, E::TableEntry(good.clone())),
            Code::InvalidArgument,
            "neither INSERT",
        ),
        (
            Update {
                r#type: Type::Insert as i32,
                entity: None,
            },
            Code::InvalidArgument,
            "no entity",
        ),
    ];
    for (update, expected, words) in cases {
        let (code, message) = lab.refused(update).await;
        assert_eq!(code, expected, "{message}");
        assert!(message.contains(words), "{words:?} is not in {message:?}");
    }
    // None of them had an effect.
    let filter = TableEntry {
        table_id: lab.id("l2"),
        ..TableEntry::default()
    };
    assert_eq!(lab.entries(filter).await, []);
}

#[tokio::test]
async fn a_second_insert_exists_already_and_a_full_table_is_exhausted() {
    let lab = Lab::start().await;
    let entries: Vec<Update> = (1..=8).map(|n| insert(lab.l2(n, 3))).collect();
    lab.write(entries.clone()).await.unwrap();
    let (code, _) = lab.refused(entries[0].clone()).await;
    assert_eq!(code, Code::AlreadyExists);
    let (code, message) = lab.refused(insert(lab.l2(9, 3))).await;
    assert_eq!(code, Code::ResourceExhausted, "{message}");
    let error = lab
        .write((5..=10).map(|n| insert(lab.l2(n, 3))).collect())
        .await
        .unwrap_err();
    let codes: Vec<(usize, Code)> = error.failures.iter().map(|f| (f.index, f.code)).collect();
    assert_eq!(
        codes,
        [
            (0, Code::AlreadyExists),
            (1, Code::AlreadyExists),
            (2, Code::AlreadyExists),
            (3, Code::AlreadyExists),
            (4, Code::ResourceExhausted),
            (5, Code::ResourceExhausted),
        ]
    );
}

#[tokio::test]
async fn the_default_action_is_modified_reset_and_not_in_wildcard_reads() {
    let lab = Lab::start().await;
    let default = TableEntry {
        table_id: lab.id("l2"),
        is_default_action: true,
        ..TableEntry::default()
    };
    let forward = lab
        .catalog
        .entry("l2")
        .default_action()
        .action("forward", [("port", value(6))])
        .build()
        .unwrap();
    lab.write(vec![modify(forward.clone())]).await.unwrap();
    assert_eq!(lab.packet(1, &frame(0x0a, 1, 0x800)).await[0].0, 6);
    assert_eq!(
        lab.entries(default.clone()).await,
        std::slice::from_ref(&forward)
    );
    let all = lab.entries(TableEntry::default()).await;
    assert!(all.iter().all(|e| !e.is_default_action));

    lab.write(vec![modify(default.clone())]).await.unwrap();
    let no_action = lab.catalog.actions.named("NoAction").unwrap().id;
    let read = lab.entries(default.clone()).await;
    let Some(table_action::Type::Action(action)) = read[0].action.clone().unwrap().r#type else {
        panic!("{read:?}");
    };
    assert_eq!(action.action_id, no_action);

    let (code, _) = lab.refused(insert(forward.clone())).await;
    assert_eq!(code, Code::InvalidArgument);
    let (code, _) = lab.refused(delete(default)).await;
    assert_eq!(code, Code::InvalidArgument);
    let mut table_only = lab
        .catalog
        .entry("prefixes")
        .lpm("hdr.ethernet.dst", 1u8, 48)
        .action("metered_forward", [("port", value(1))])
        .build()
        .unwrap();
    table_only.is_default_action = true;
    table_only.r#match.clear();
    let (code, message) = lab.refused(modify(table_only)).await;
    assert_eq!(code, Code::PermissionDenied, "{message}");
    let constant = lab
        .catalog
        .entry("fixed_ports")
        .default_action()
        .action("drop", [])
        .build()
        .unwrap();
    let (code, _) = lab.refused(modify(constant)).await;
    assert_eq!(code, Code::PermissionDenied);
}

#[tokio::test]
async fn the_default_entry_has_a_meter_like_any_other() {
    let lab = Lab::start().await;
    let config = MeterConfig {
        cir: 1,
        cburst: 60,
        pir: 2,
        pburst: 1000,
        eburst: 0,
    };
    let mut default = lab
        .catalog
        .entry("prefixes")
        .default_action()
        .action("metered_drop", [])
        .build()
        .unwrap();
    default.meter_config = Some(config);
    lab.write(vec![modify(default)]).await.unwrap();
    let named = TableEntry {
        table_id: lab.id("prefixes"),
        is_default_action: true,
        ..TableEntry::default()
    };
    let filter = TableEntry {
        meter_config: Some(MeterConfig::default()),
        ..named.clone()
    };
    assert_eq!(lab.entries(filter).await[0].meter_config, Some(config));
    // The first frame of 60 bytes is green, the second is not, and goes to the port that says so.
    assert_eq!(lab.packet(1, &frame(5, 9, 0x800)).await, []);
    assert_eq!(lab.packet(1, &frame(5, 9, 0x800)).await[0].0, 6);
    let direct = DirectMeterEntry {
        table_entry: Some(named.clone()),
        ..DirectMeterEntry::default()
    };
    lab.write(vec![update(
        Type::Modify,
        E::DirectMeterEntry(direct.clone()),
    )])
    .await
    .unwrap();
    assert_eq!(
        lab.read(E::DirectMeterEntry(direct.clone())).await,
        [E::DirectMeterEntry(direct)]
    );
    assert_eq!(lab.packet(1, &frame(5, 9, 0x800)).await, []);

    let ageing = TableEntry {
        time_since_last_hit: Some(IdleTimeout::default()),
        table_id: lab.id("l2"),
        ..named
    };
    let (code, _) = lab.read_refused(E::TableEntry(ageing)).await;
    assert_eq!(code, Code::InvalidArgument);
    // "Default Entry": that of an indirect table is constant.
    let indirect = TableEntry {
        table_id: lab.id("spread"),
        is_default_action: true,
        ..TableEntry::default()
    };
    let (code, _) = lab.refused(modify(indirect)).await;
    assert_eq!(code, Code::PermissionDenied);
}

#[tokio::test]
async fn direct_counters_are_read_set_and_kept_by_a_modify() {
    let lab = Lab::start().await;
    lab.write(vec![insert(lab.l2(0x0a, 3))]).await.unwrap();
    for _ in 0..3 {
        lab.packet(1, &frame(0x0a, 1, 0x800)).await;
    }
    let key = TableEntry {
        action: None,
        ..lab.l2(0x0a, 3)
    };
    let direct = DirectCounterEntry {
        table_entry: Some(key.clone()),
        data: None,
    };
    let counted = |packets, bytes| {
        [E::DirectCounterEntry(DirectCounterEntry {
            table_entry: Some(key.clone()),
            data: Some(CounterData {
                packet_count: packets,
                byte_count: bytes,
            }),
        })]
    };
    assert_eq!(
        lab.read(E::DirectCounterEntry(direct.clone())).await,
        counted(3, 180)
    );
    lab.write(vec![modify(lab.l2(0x0a, 4))]).await.unwrap();
    // All counters of the table, and in the entry itself when asked for.
    let of_table = DirectCounterEntry {
        table_entry: Some(TableEntry {
            table_id: lab.id("l2"),
            ..TableEntry::default()
        }),
        data: None,
    };
    assert_eq!(
        lab.read(E::DirectCounterEntry(of_table)).await,
        counted(3, 180)
    );
    let asked = TableEntry {
        counter_data: Some(CounterData::default()),
        ..key.clone()
    };
    let read = lab.entries(asked).await;
    assert_eq!(read[0].counter_data.unwrap().packet_count, 3);
    assert!(lab.entries(key.clone()).await[0].counter_data.is_none());

    let mut set = direct.clone();
    set.data = Some(CounterData {
        packet_count: 100,
        byte_count: 1000,
    });
    lab.write(vec![update(
        Type::Modify,
        E::DirectCounterEntry(set.clone()),
    )])
    .await
    .unwrap();
    assert_eq!(
        lab.read(E::DirectCounterEntry(direct.clone())).await,
        counted(100, 1000)
    );
    let (code, _) = lab
        .refused(update(Type::Insert, E::DirectCounterEntry(set)))
        .await;
    assert_eq!(code, Code::InvalidArgument);
    let mut absent = direct;
    absent.table_entry = Some(TableEntry {
        action: None,
        ..lab.l2(0x99, 3)
    });
    let (code, _) = lab.read_refused(E::DirectCounterEntry(absent)).await;
    assert_eq!(code, Code::NotFound);
}

#[tokio::test]
async fn direct_meters_follow_their_entries() {
    let lab = Lab::start().await;
    let config = MeterConfig {
        cir: 1000,
        cburst: 200,
        pir: 2000,
        pburst: 400,
        eburst: 0,
    };
    let mut entry = lab
        .catalog
        .entry("prefixes")
        .lpm("hdr.ethernet.dst", 0x0a00_0000_0000u64, 8)
        .action("metered_forward", [("port", value(2))])
        .build()
        .unwrap();
    entry.meter_config = Some(config);
    lab.write(vec![insert(entry.clone())]).await.unwrap();
    let key = TableEntry {
        action: None,
        meter_config: None,
        ..entry.clone()
    };
    let direct = DirectMeterEntry {
        table_entry: Some(key.clone()),
        ..DirectMeterEntry::default()
    };
    let read = lab.read(E::DirectMeterEntry(direct.clone())).await;
    assert_eq!(
        read,
        [E::DirectMeterEntry(DirectMeterEntry {
            config: Some(config),
            ..direct.clone()
        })]
    );
    // A modify without meter config goes back to the default, in which all is green.
    entry.meter_config = None;
    lab.write(vec![modify(entry)]).await.unwrap();
    let read = lab.read(E::DirectMeterEntry(direct.clone())).await;
    assert_eq!(read, [E::DirectMeterEntry(direct)]);
}

#[tokio::test]
async fn an_atomic_batch_leaves_nothing_behind_when_it_fails() {
    let lab = Lab::start().await;
    lab.write(vec![insert(lab.l2(1, 1)), insert(lab.l2(2, 2))])
        .await
        .unwrap();
    lab.packet(1, &frame(1, 9, 0x800)).await;
    let everything = TableEntry {
        table_id: lab.id("l2"),
        counter_data: Some(CounterData::default()),
        ..TableEntry::default()
    };
    let sorted = |mut entries: Vec<TableEntry>| {
        entries.sort_by_key(|e| format!("{:?}", e.r#match));
        entries
    };
    let before = sorted(lab.entries(everything.clone()).await);
    let batch = vec![
        modify(lab.l2(1, 5)),
        delete(lab.l2(1, 5)),
        insert(lab.l2(3, 3)),
        delete(lab.l2(2, 2)),
        insert(lab.l2(2, 7)),
        insert(lab.l2(3, 4)),
    ];
    for atomicity in [Atomicity::RollbackOnError, Atomicity::DataplaneAtomic] {
        let error = lab.batch(batch.clone(), atomicity).await.unwrap_err();
        assert_eq!(error.code, Code::Unknown);
        let codes: Vec<i32> = error.updates.iter().map(|e| e.canonical_code).collect();
        let aborted = Code::Aborted as i32;
        assert_eq!(
            codes,
            [
                aborted,
                aborted,
                aborted,
                aborted,
                aborted,
                Code::AlreadyExists as i32
            ]
        );
        assert_eq!(sorted(lab.entries(everything.clone()).await), before);
    }
    lab.batch(batch[..5].to_vec(), Atomicity::DataplaneAtomic)
        .await
        .unwrap();
    assert_eq!(lab.entries(everything).await.len(), 2);
}

#[tokio::test]
async fn time_since_last_hit_is_told_when_asked_for() {
    let lab = Lab::start().await;
    lab.write(vec![insert(lab.l2(1, 1))]).await.unwrap();
    lab.clock
        .0
        .store(5_000_000, std::sync::atomic::Ordering::SeqCst);
    let asked = TableEntry {
        table_id: lab.id("l2"),
        time_since_last_hit: Some(IdleTimeout::default()),
        ..TableEntry::default()
    };
    let read = lab.entries(asked.clone()).await;
    assert_eq!(
        read[0].time_since_last_hit.unwrap().elapsed_ns,
        5_000_000_000
    );
    let not_ageing = TableEntry {
        table_id: lab.id("filter"),
        ..asked
    };
    let (code, _) = lab.read_refused(E::TableEntry(not_ageing)).await;
    assert_eq!(code, Code::InvalidArgument);
}

#[tokio::test]
async fn a_key_with_an_unknown_kind_of_match_is_refused() {
    let lab = Lab::start().await;
    let mut entry = lab.l2(1, 1);
    entry.r#match[0] = FieldMatch {
        field_id: 1,
        field_match_type: None,
    };
    let (code, message) = lab.refused(insert(entry)).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("no value"), "{message}");
}
