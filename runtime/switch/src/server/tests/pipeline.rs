//! Setting the pipeline: every action, refused configs, and what survives.

use signalbox_p4runtime::proto::p4::v1::{
    CounterData, CounterEntry, Index, entity::Entity as E,
    get_forwarding_pipeline_config_request::ResponseType, update::Type,
};

use super::*;

#[tokio::test]
async fn before_any_pipeline_the_answer_is_empty_and_writes_fail_a_precondition() {
    let lab = Lab::bare(Quirks::default()).await;
    assert_eq!(
        lab.client.get_pipeline(ResponseType::All).await.unwrap(),
        None
    );
    let (code, _) = lab.refused(insert(lab.l2(1, 1))).await;
    assert_eq!(code, Code::FailedPrecondition);
    let error = lab
        .client
        .read_all(vec![entity_of(E::TableEntry(TableEntry::default()))])
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition);
    assert_eq!(
        lab.client.commit_pipeline().await.unwrap_err().code,
        Code::NotFound
    );
    assert_eq!(lab.client.capabilities().await.unwrap().version, "1.5.0");
}

#[tokio::test]
async fn the_pipeline_reads_back_in_the_parts_asked_for() {
    let lab = Lab::start().await;
    let get = async |parts| lab.client.get_pipeline(parts).await.unwrap().unwrap();
    let all = get(ResponseType::All).await;
    assert_eq!(all.p4info.as_ref(), Some(lab.catalog.p4info()));
    assert_eq!(all.p4_device_config, JSON.as_bytes());
    assert_eq!(all.cookie.unwrap().cookie, 7);
    let cookie = get(ResponseType::CookieOnly).await;
    assert!(cookie.p4info.is_none() && cookie.p4_device_config.is_empty());
    assert!(get(ResponseType::P4infoAndCookie).await.p4info.is_some());
    assert!(
        get(ResponseType::DeviceConfigAndCookie)
            .await
            .p4info
            .is_none()
    );
}

#[tokio::test]
async fn configs_that_do_not_fit_are_refused_with_the_place_and_change_nothing() {
    let mut lab = Lab::start().await;
    lab.write(vec![insert(lab.l2(1, 1))]).await.unwrap();
    let info = lab.catalog.p4info().clone();
    let set = async |info, json: &str| {
        lab.client
            .set_pipeline(Action::VerifyAndCommit, info, json.into(), 1)
            .await
            .unwrap_err()
    };
    let mut renamed = info.clone();
    renamed.tables[0].preamble.as_mut().unwrap().name = "In.other".to_owned();
    let mut widened = info.clone();
    widened.tables[0].match_fields[0].bitwidth = 24;
    let mut twice = info.clone();
    twice.tables.push(info.tables[0].clone());
    for (info, json, words) in [
        (info.clone(), "not JSON", "does not begin with `{`"),
        (info.clone(), "{ \"tables\": ", "line 1"),
        (renamed, JSON, "`In.other`"),
        (widened, JSON, "has 24 bits in P4Info and 48"),
        (twice, JSON, "was given before"),
    ] {
        let error = set(info, json).await;
        assert_eq!(error.code, Code::InvalidArgument);
        assert!(error.message.contains(words), "{}", error.message);
    }
    lab.push(Action::Verify, 3).await.unwrap();
    assert_eq!(lab.packet(2, &frame(1, 2, 0x800)).await[0].0, 1);
    let config = lab
        .client
        .get_pipeline(ResponseType::CookieOnly)
        .await
        .unwrap();
    assert_eq!(config.unwrap().cookie.unwrap().cookie, 7);
}

#[tokio::test]
async fn a_commit_replays_what_was_written_since_the_save() {
    let mut lab = Lab::start().await;
    lab.write(vec![insert(lab.l2(1, 1))]).await.unwrap();
    lab.push(Action::VerifyAndSave, 8).await.unwrap();
    // Writes and reads are for the saved pipeline, packets still for the running one.
    lab.write(vec![insert(lab.l2(1, 4))]).await.unwrap();
    assert_eq!(lab.packet(2, &frame(1, 2, 0x800)).await[0].0, 1);
    lab.client.commit_pipeline().await.unwrap();
    assert_eq!(lab.packet(2, &frame(1, 2, 0x800)).await[0].0, 4);
    let config = lab
        .client
        .get_pipeline(ResponseType::CookieOnly)
        .await
        .unwrap();
    assert_eq!(config.unwrap().cookie.unwrap().cookie, 8);
    assert_eq!(
        lab.client.commit_pipeline().await.unwrap_err().code,
        Code::NotFound
    );
}

#[tokio::test]
async fn verify_and_commit_clears_and_reconcile_keeps_the_state() {
    let mut lab = Lab::start().await;
    let seen = lab.catalog.counters.named("seen").unwrap().id;
    let count = CounterEntry {
        counter_id: seen,
        index: Some(Index { index: 3 }),
        data: Some(CounterData {
            packet_count: 5,
            byte_count: 50,
        }),
    };
    let filter = CounterEntry {
        data: None,
        ..count
    };
    let entries = [lab.l2(1, 1), lab.l2(2, 2)];
    let default = lab
        .catalog
        .entry("l2")
        .default_action()
        .action("forward", [("port", value(6))])
        .modify()
        .unwrap();
    let mut updates: Vec<Update> = entries.iter().cloned().map(insert).collect();
    updates.push(update(Type::Modify, E::CounterEntry(count)));
    updates.push(default);
    lab.write(updates).await.unwrap();

    // The same program in another dress, so that it is a new pipeline.
    let dressed = format!(" {JSON}");
    let info = lab.catalog.p4info().clone();
    lab.client
        .set_pipeline(Action::ReconcileAndCommit, info.clone(), dressed.into(), 9)
        .await
        .unwrap();
    assert_eq!(lab.packet(3, &frame(2, 9, 0x800)).await[0].0, 2);
    assert_eq!(lab.packet(4, &frame(7, 9, 0x800)).await[0].0, 6);
    let read = lab.read(E::CounterEntry(filter)).await;
    let E::CounterEntry(read) = &read[0] else {
        panic!();
    };
    assert_eq!(read.data.unwrap().packet_count, 6);

    // A program that has no place for the entries is refused, and nothing changes.
    let mut smaller = info;
    smaller.tables[0]
        .action_refs
        .retain(|a| a.id != lab.catalog.actions.named("forward").unwrap().id);
    let error = lab
        .client
        .set_pipeline(Action::ReconcileAndCommit, smaller, JSON.into(), 10)
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(error.message.contains("does not fit"), "{}", error.message);
    assert_eq!(lab.packet(3, &frame(2, 9, 0x800)).await[0].0, 2);

    lab.push(Action::VerifyAndCommit, 11).await.unwrap();
    let l2 = TableEntry {
        table_id: lab.id("l2"),
        ..TableEntry::default()
    };
    assert_eq!(lab.entries(l2).await, []);
}

#[tokio::test]
async fn the_wrapper_of_older_controllers_is_taken_too() {
    let lab = Lab::bare(Quirks::default()).await;
    let mut wrapped = vec![0x08, 0x01, 0x1a];
    let mut length = JSON.len();
    while length >= 0x80 {
        wrapped.push((length as u8 & 0x7f) | 0x80);
        length >>= 7;
    }
    wrapped.push(length as u8);
    wrapped.extend_from_slice(JSON.as_bytes());
    let info = lab.catalog.p4info().clone();
    lab.client
        .set_pipeline(Action::VerifyAndCommit, info, wrapped, 1)
        .await
        .unwrap();
}
