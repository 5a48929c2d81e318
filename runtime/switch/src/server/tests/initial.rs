//! Entries that a program brings itself: constant ones, initial ones, and what becomes of both when
//! another program takes over.

use signalbox_p4runtime::proto::p4::{
    config::v1::P4Info,
    v1::{
        CounterData, DirectCounterEntry, Index, P4Data, RegisterEntry, entity::Entity as E,
        p4_data, update::Type,
    },
};

use super::*;

impl Lab {
    /// An entry of the tables whose key is the ingress port.
    fn at_port(&self, table: &str, port: u16, priority: i32, to: Option<u64>) -> TableEntry {
        let entry = self
            .catalog
            .entry(table)
            .ternary("std.ingress_port", port, 0x1ffu16)
            .priority(priority);
        match to {
            Some(port) => entry.action("forward", [("port", value(port))]),
            None => entry.action("drop", []),
        }
        .build()
        .unwrap()
    }

    async fn table(&self, table: &str) -> Vec<TableEntry> {
        self.entries(TableEntry {
            table_id: self.id(table),
            ..TableEntry::default()
        })
        .await
    }

    async fn reconcile(&self, info: P4Info, json: String) -> Result<(), RpcError> {
        self.client
            .set_pipeline(Action::ReconcileAndCommit, info, json.into(), 9)
            .await
    }
}

/// The same program in another dress, so that it is a new pipeline.
fn dressed() -> String {
    format!(" {JSON}")
}

#[tokio::test]
async fn priorities_of_the_programs_entries_count_down_to_one() {
    for (quirks, expected) in [
        (Quirks::default(), [3, 2, 1]),
        (
            Quirks::simple_switch_grpc(),
            [i32::MAX - 1, i32::MAX - 2, i32::MAX - 3],
        ),
    ] {
        let lab = Lab::with(quirks).await;
        let mut found: Vec<i32> = lab
            .table("ordered")
            .await
            .iter()
            .map(|e| e.priority)
            .collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn a_constant_table_can_be_read_and_not_written() {
    let lab = Lab::start().await;
    let entries = lab
        .entries(TableEntry {
            table_id: lab.id("fixed_ports"),
            ..TableEntry::default()
        })
        .await;
    assert_eq!(entries.len(), 1);
    assert!(entries[0].is_const);
    let entry = |port: u8| {
        lab.catalog
            .entry("fixed_ports")
            .exact("std.ingress_port", port)
            .action("drop", [])
            .build()
            .unwrap()
    };
    for update in [insert(entry(1)), modify(entry(9)), delete(entry(9))] {
        let (code, message) = lab.refused(update).await;
        assert_eq!(code, Code::PermissionDenied, "{message}");
    }
}

#[tokio::test]
async fn a_table_with_initial_entries_is_written_like_any_other() {
    let mut lab = Lab::start().await;
    let sent = async |lab: &Lab, port| lab.packet(port, &frame(5, 9, 0x800)).await;
    assert_eq!(lab.table("initial").await.len(), 2);
    assert!(lab.table("initial").await.iter().all(|e| !e.is_const));
    assert_eq!(sent(&lab, 20).await, []);
    lab.write(vec![
        insert(lab.at_port("initial", 22, 7, Some(3))),
        modify(lab.at_port("initial", 20, 2, Some(4))),
        delete(lab.at_port("initial", 21, 1, None)),
    ])
    .await
    .unwrap();
    assert_eq!(sent(&lab, 22).await[0].0, 3);
    assert_eq!(sent(&lab, 20).await[0].0, 4);
    assert_eq!(sent(&lab, 21).await[0].0, 0);
    // The same while a saved pipeline waits for its commit.
    lab.push(Action::VerifyAndSave, 2).await.unwrap();
    lab.write(vec![delete(lab.at_port("initial", 20, 2, None))])
        .await
        .unwrap();
    lab.client.commit_pipeline().await.unwrap();
    assert_eq!(lab.table("initial").await.len(), 1);

    let lab = Lab::with(Quirks::simple_switch_grpc()).await;
    let (code, _) = lab
        .refused(insert(lab.at_port("initial", 22, 7, Some(3))))
        .await;
    assert_eq!(code, Code::PermissionDenied);
}

#[tokio::test]
async fn a_failed_batch_takes_back_what_it_counted_at_a_constant_entry() {
    let lab = Lab::start().await;
    let mut counted = lab
        .catalog
        .entry("fixed_ports")
        .exact("std.ingress_port", 9u8)
        .action("drop", [])
        .build()
        .unwrap();
    counted.action = None;
    counted.counter_data = Some(CounterData {
        packet_count: 9,
        byte_count: 0,
    });
    let fails = delete(lab.l2(99, 1));
    let error = lab
        .batch(
            vec![modify(counted.clone()), fails],
            Atomicity::RollbackOnError,
        )
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::Unknown, "{error}");
    let read = lab.entries(counted).await;
    assert_eq!(read[0].counter_data, Some(CounterData::default()));
}

#[tokio::test]
async fn reconciling_carries_the_difference_to_the_programs_own_entries() {
    let lab = Lab::start().await;
    lab.write(vec![
        insert(lab.at_port("initial", 22, 7, Some(3))),
        modify(lab.at_port("initial", 20, 2, Some(4))),
        delete(lab.at_port("initial", 21, 1, None)),
    ])
    .await
    .unwrap();
    lab.packet(9, &frame(5, 9, 0x800)).await;
    let before = lab.table("initial").await;
    lab.reconcile(lab.catalog.p4info().clone(), dressed())
        .await
        .unwrap();
    let mut after = lab.table("initial").await;
    after.sort_by_key(|entry| entry.priority);
    let mut sorted = before;
    sorted.sort_by_key(|entry| entry.priority);
    assert_eq!(after, sorted);
    // A constant entry keeps what it counted.
    let counters = lab
        .entries(TableEntry {
            table_id: lab.id("fixed_ports"),
            counter_data: Some(CounterData::default()),
            ..TableEntry::default()
        })
        .await;
    assert_eq!(counters[0].counter_data.unwrap().packet_count, 1);
}

#[tokio::test]
async fn reconciling_lets_a_program_change_what_nobody_touched() {
    let lab = Lab::start().await;
    // Counts of the default entry, which nobody wrote.
    lab.packet(1, &frame(5, 9, 0x800)).await;
    // The new program drops what the old one's `filter` let pass, lacks a table, and its register.
    let mut info = lab.catalog.p4info().clone();
    info.tables
        .retain(|t| t.preamble.as_ref().unwrap().alias != "ordered");
    info.registers
        .retain(|r| r.preamble.as_ref().unwrap().alias != "signed_cells");
    let mut json: serde_json::Value = serde_json::from_str(JSON).unwrap();
    let actions = json["actions"].as_array().unwrap();
    let id_of = |name: &str| {
        let action = actions.iter().find(|a| a["name"] == name).unwrap();
        action["id"].clone()
    };
    let drop = id_of("In.drop");
    let tables = json["pipelines"][0]["tables"].as_array_mut().unwrap();
    let filter = tables
        .iter_mut()
        .find(|t| t["name"] == "In.filter")
        .unwrap();
    filter["default_entry"]["action_id"] = drop;
    lab.write(vec![
        // Written and reset again: the program's own.
        modify(
            lab.catalog
                .entry("filter")
                .default_action()
                .action("drop", [])
                .build()
                .unwrap(),
        ),
        modify(TableEntry {
            table_id: lab.id("filter"),
            is_default_action: true,
            ..TableEntry::default()
        }),
    ])
    .await
    .unwrap();
    // The program itself has written -1 to a cell of `signed_cells`.
    let cells = RegisterEntry {
        register_id: lab.catalog.registers.named("signed_cells").unwrap().id,
        index: Some(Index { index: 0 }),
        data: Some(P4Data {
            data: Some(p4_data::Data::Bitstring(vec![0])),
        }),
    };
    let error = lab
        .reconcile(info.clone(), json.to_string())
        .await
        .unwrap_err();
    assert!(error.message.contains("signed_cells"), "{error}");
    lab.write(vec![update(Type::Modify, E::RegisterEntry(cells))])
        .await
        .unwrap();
    lab.reconcile(info, json.to_string()).await.unwrap();
    assert_eq!(lab.packet(1, &frame(5, 9, 0x800)).await, []);
    let counted = DirectCounterEntry {
        table_entry: Some(TableEntry {
            table_id: lab.id("l2"),
            is_default_action: true,
            ..TableEntry::default()
        }),
        data: None,
    };
    let read = lab.read(E::DirectCounterEntry(counted)).await;
    let E::DirectCounterEntry(counter) = &read[0] else {
        panic!("no counter");
    };
    assert_eq!(counter.data.unwrap().packet_count, 2);
}
