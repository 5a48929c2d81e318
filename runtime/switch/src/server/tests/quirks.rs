//! With the quirks of simple_switch_grpc: what it lacks is refused as it refuses it.

use signalbox_p4runtime::proto::p4::v1::{
    CloneSessionEntry, CounterEntry, PacketReplicationEngineEntry, RegisterEntry, ValueSetEntry,
    entity::Entity as E,
    field_match::{Exact, FieldMatchType},
    packet_replication_engine_entry::Type as Pre,
    update::Type,
};

use super::*;

#[tokio::test]
async fn what_simple_switch_grpc_lacks_is_unimplemented() {
    let lab = Lab::with(Quirks::simple_switch_grpc()).await;
    let register_id = lab.catalog.registers.named("last").unwrap().id;
    let value_set_id = lab.catalog.value_sets.named("special_types").unwrap().id;
    let counter_id = lab.catalog.counters.named("seen").unwrap().id;
    let register = RegisterEntry {
        register_id,
        ..RegisterEntry::default()
    };
    let set = ValueSetEntry {
        value_set_id,
        ..ValueSetEntry::default()
    };
    let whole = CounterEntry {
        counter_id,
        ..CounterEntry::default()
    };
    let cut = PacketReplicationEngineEntry {
        r#type: Some(Pre::CloneSessionEntry(CloneSessionEntry {
            session_id: 1,
            packet_length_bytes: 64,
            ..CloneSessionEntry::default()
        })),
    };
    for entity in [
        E::RegisterEntry(register.clone()),
        E::ValueSetEntry(set.clone()),
        E::CounterEntry(whole),
    ] {
        let (code, _) = lab.refused(update(Type::Modify, entity)).await;
        assert_eq!(code, Code::Unimplemented);
    }
    let (code, _) = lab
        .refused(update(Type::Insert, E::PacketReplicationEngineEntry(cut)))
        .await;
    assert_eq!(code, Code::Unimplemented);
    for filter in [E::RegisterEntry(register), E::ValueSetEntry(set)] {
        let error = lab
            .client
            .read_all(vec![entity_of(filter)])
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::Unimplemented);
    }
    for atomicity in [Atomicity::RollbackOnError, Atomicity::DataplaneAtomic] {
        let error = lab.batch(vec![], atomicity).await.unwrap_err();
        assert_eq!(error.code, Code::Unimplemented);
    }
}

#[tokio::test]
async fn a_full_table_gives_no_reason_and_the_rest_of_a_batch_is_done() {
    let lab = Lab::with(Quirks::simple_switch_grpc()).await;
    let updates = (1..=9).map(|n| insert(lab.l2(n, 1))).collect();
    let error = lab
        .batch(updates, Atomicity::ContinueOnError)
        .await
        .unwrap_err();
    let last = error.updates.last().unwrap();
    assert_eq!(last.canonical_code, Code::Unknown as i32);
    assert_eq!(last.message, "Error when adding match entry to target");
    let l2 = TableEntry {
        table_id: lab.id("l2"),
        ..TableEntry::default()
    };
    assert_eq!(lab.entries(l2).await.len(), 8);
}

#[tokio::test]
async fn a_bad_byte_string_is_an_invalid_argument_as_with_pi() {
    let lab = Lab::with(Quirks::simple_switch_grpc()).await;
    let mut entry = lab.l2(1, 1);
    entry.r#match[0].field_match_type = Some(FieldMatchType::Exact(Exact { value: vec![] }));
    let (code, _) = lab.refused(insert(entry)).await;
    assert_eq!(code, Code::InvalidArgument);
}
