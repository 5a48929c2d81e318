//! What the device tells of its own accord, and packets from the controller.

use signalbox_p4runtime::{
    packet_out,
    proto::p4::v1::{
        DigestEntry, PacketMetadata, digest_entry::Config as DigestConfig, entity::Entity as E,
        p4_data::Data, stream_error, update::Type,
    },
};

use super::*;

#[tokio::test]
async fn a_packet_in_carries_its_metadata_and_not_its_header() {
    let mut lab = Lab::start().await;
    let entry = lab
        .catalog
        .entry("l2")
        .exact("hdr.ethernet.dst", 0x0au8)
        .action("to_controller", [("reason", value(0x55))])
        .insert()
        .unwrap();
    lab.write(vec![entry]).await.unwrap();
    let sent = frame(0x0a, 2, 0x800);
    assert_eq!(lab.packet(6, &sent).await, []);
    let Event::Packet(packet) = lab.event().await else {
        panic!("no packet");
    };
    assert_eq!(packet.payload, sent);
    let header = lab.catalog.header("packet_in").unwrap();
    assert_eq!(header.unpack_in_order(&packet.metadata).unwrap(), [6, 0x55]);
    assert_eq!(lab.device.counters().packet_ins, 1);
}

#[tokio::test]
async fn a_packet_out_leaves_by_the_port_that_it_names() {
    let lab = Lab::start().await;
    let header = lab.catalog.header("packet_out").unwrap();
    let metadata = header
        .pack([("egress_port", value(5)), ("unused", value(0))])
        .unwrap();
    let sent = frame(1, 2, 0x800);
    lab.client.packet_out(sent.clone(), metadata).await.unwrap();
    assert_eq!(lab.settle().await, [(5, sent)]);
}

#[tokio::test]
async fn a_packet_out_with_wrong_metadata_is_dropped_and_answered_with_an_error() {
    let mut lab = Lab::start().await;
    let one = |metadata_id, value: &[u8]| PacketMetadata {
        metadata_id,
        value: value.to_vec(),
    };
    for (metadata, words) in [
        (vec![one(1, &[5])], "`unused` (id 2) is missing"),
        (vec![one(1, &[5]), one(2, &[])], "`unused`"),
        (vec![one(1, &[2, 0]), one(2, &[0])], "`egress_port`"),
        (vec![one(1, &[5]), one(2, &[0]), one(3, &[0])], "id 3"),
    ] {
        let packet = packet_out(frame(1, 2, 0x800), metadata);
        lab.client.try_packet_out(packet.clone()).unwrap();
        let Event::Refused(error) = lab.event().await else {
            panic!("no error");
        };
        assert_eq!(error.canonical_code, Code::InvalidArgument as i32);
        assert!(error.message.contains(words), "{}", error.message);
        let Some(stream_error::Details::PacketOut(details)) = error.details else {
            panic!("no details");
        };
        assert_eq!(details.packet_out, Some(packet));
    }
    assert_eq!(lab.settle().await, []);
    assert_eq!(lab.device.counters().refused_packet_outs, 4);
}

#[tokio::test]
async fn only_the_primary_sends_and_gets_packets() {
    let mut lab = Lab::start().await;
    let (backup, mut heard) = Client::open(Arc::new(lab.device.clone()), Session::new(1, 9))
        .await
        .unwrap();
    assert_eq!(heard.standing(), Standing::Backup { primary: 10 });
    backup.packet_out(frame(1, 2, 0x800), vec![]).await.unwrap();
    let Event::Refused(error) = heard.next().await.unwrap() else {
        panic!("no error");
    };
    assert_eq!(error.canonical_code, Code::PermissionDenied as i32);
    assert!(
        backup
            .write(vec![insert(lab.l2(1, 1))])
            .await
            .unwrap_err()
            .all_are(Code::PermissionDenied)
    );

    // With a higher id the newcomer takes over, and both are told.
    let (newcomer, new_events) = Client::open(Arc::new(lab.device.clone()), Session::new(1, 11))
        .await
        .unwrap();
    assert_eq!(new_events.standing(), Standing::Primary);
    assert_eq!(
        lab.event().await,
        Event::Standing(Standing::Backup { primary: 11 })
    );
    newcomer.write(vec![insert(lab.l2(1, 1))]).await.unwrap();
    // When it leaves, nobody is promoted.
    drop((newcomer, new_events));
    assert_eq!(
        lab.event().await,
        Event::Standing(Standing::NoPrimary { highest: 11 })
    );
    assert!(lab.write(vec![]).await.is_ok());
    assert!(
        lab.write(vec![insert(lab.l2(2, 1))])
            .await
            .unwrap_err()
            .all_are(Code::PermissionDenied)
    );
}

#[tokio::test]
async fn an_election_id_in_use_ends_the_second_stream() {
    let lab = Lab::start().await;
    let error = Client::open(Arc::new(lab.device.clone()), Session::new(1, 10))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    lab.write(vec![insert(lab.l2(1, 1))]).await.unwrap();
    let error = Client::open(Arc::new(lab.device.clone()), Session::new(2, 11))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no device 2"), "{error}");
}

#[tokio::test]
async fn idle_entries_are_told_by_their_keys() {
    let mut lab = Lab::start().await;
    let entry = lab
        .catalog
        .entry("l2")
        .exact("hdr.ethernet.dst", 0x0au8)
        .action("forward", [("port", value(3))])
        .idle_timeout(Duration::from_secs(2))
        .metadata(b"who".to_vec())
        .build()
        .unwrap();
    lab.write(vec![insert(entry.clone())]).await.unwrap();
    lab.clock.0.store(3_000_000, Ordering::SeqCst);
    let Event::Idle(entries) = lab.event().await else {
        panic!("no notice");
    };
    assert_eq!(
        entries,
        [TableEntry {
            action: None,
            ..entry
        }]
    );
}

fn digest(lab: &Lab, config: Option<DigestConfig>) -> E {
    E::DigestEntry(DigestEntry {
        digest_id: lab.catalog.digests.named("learned_t").unwrap().id,
        config,
    })
}

#[tokio::test]
async fn digests_come_in_lists_without_repetition_until_acknowledged() {
    let mut lab = Lab::start().await;
    let config = Some(DigestConfig {
        max_timeout_ns: 1_000_000_000,
        max_list_size: 2,
        ack_timeout_ns: 60_000_000_000,
    });
    lab.write(vec![update(Type::Insert, digest(&lab, config))])
        .await
        .unwrap();
    assert_eq!(lab.read(digest(&lab, None)).await, [digest(&lab, config)]);
    let (code, _) = lab
        .refused(update(Type::Insert, digest(&lab, config)))
        .await;
    assert_eq!(code, Code::AlreadyExists);

    let learn = |src| frame(1, src, 0x88b5);
    for src in [0x0a, 0x0a, 0x0b] {
        lab.packet(4, &learn(src)).await;
    }
    let Event::Digest(list) = lab.event().await else {
        panic!("no digest");
    };
    let sources: Vec<(Vec<u8>, Vec<u8>)> = list
        .data
        .iter()
        .map(|data| match data.data.as_ref() {
            Some(Data::Struct(s)) => match (&s.members[0].data, &s.members[1].data) {
                (Some(Data::Bitstring(src)), Some(Data::Bitstring(port))) => {
                    (src.clone(), port.clone())
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sources, [(vec![0x0a], vec![4]), (vec![0x0b], vec![4])]);

    // Known until acknowledged; then news again, after the time-out as a list of one.
    lab.packet(4, &learn(0x0a)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    lab.client.acknowledge(&list).await.unwrap();
    lab.packet(4, &learn(0x0b)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    lab.clock.0.store(2_000_000, Ordering::SeqCst);
    let Event::Digest(list) = lab.event().await else {
        panic!("no digest");
    };
    assert_eq!(list.data.len(), 1);

    lab.write(vec![update(Type::Delete, digest(&lab, None))])
        .await
        .unwrap();
    assert_eq!(lab.read(digest(&lab, None)).await, []);
}

#[tokio::test]
async fn a_controller_that_falls_behind_loses_packets_and_not_its_standing() {
    let config = Config {
        cpu_port: Some(CPU_PORT),
        ..Config::default()
    };
    let runner = Runner::start(Switch::new(config), Box::new(TestClock::default())).unwrap();
    let options = Options {
        stream_queue: 3,
        ..Options::default()
    };
    let device = Device::start(runner.handle(), options).await.unwrap();
    let (client, mut events) = Client::open(Arc::new(device.clone()), Session::new(1, 1))
        .await
        .unwrap();
    let info = text::parse_p4info(INFO).unwrap();
    client
        .set_pipeline(Action::VerifyAndCommit, info.clone(), JSON.into(), 0)
        .await
        .unwrap();
    let catalog = Catalog::new(info).unwrap();
    let entry = catalog
        .entry("l2")
        .default_action()
        .action("to_controller", [("reason", value(1))])
        .modify()
        .unwrap();
    client.write(vec![entry]).await.unwrap();
    for _ in 0..10 {
        runner.handle().inject(1, frame(1, 2, 0x800)).unwrap();
    }
    runner.handle().call(|_, _| ()).await.unwrap();
    let (_other, _events) = Client::open(Arc::new(device.clone()), Session::new(1, 2))
        .await
        .unwrap();
    for _ in 0..3 {
        assert!(matches!(events.next().await.unwrap(), Event::Packet(_)));
    }
    assert!(matches!(events.next().await.unwrap(), Event::Standing(_)));
    assert_eq!(device.counters().overrun, 7);
}

#[tokio::test]
async fn two_roles_have_two_primaries_and_both_get_packets() {
    let mut lab = Lab::start().await;
    let session = Session {
        role: "stats".to_owned(),
        ..Session::new(1, 1)
    };
    let (stats, mut events) = Client::open(Arc::new(lab.device.clone()), session)
        .await
        .unwrap();
    assert_eq!(events.standing(), Standing::Primary);
    let entry = lab
        .catalog
        .entry("l2")
        .default_action()
        .action("to_controller", [("reason", value(1))])
        .modify()
        .unwrap();
    stats.write(vec![entry]).await.unwrap();
    lab.packet(1, &frame(1, 2, 0x800)).await;
    assert!(matches!(lab.event().await, Event::Packet(_)));
    assert!(matches!(events.next().await.unwrap(), Event::Packet(_)));
}

#[tokio::test]
async fn a_read_of_an_empty_entity_is_an_invalid_argument_and_the_others_are_answered() {
    let lab = Lab::start().await;
    lab.write(vec![insert(lab.l2(1, 1))]).await.unwrap();
    let request = ReadRequest {
        device_id: 1,
        entities: vec![
            entity_of(E::TableEntry(TableEntry::default())),
            Entity { entity: None },
        ],
        ..ReadRequest::default()
    };
    let error = raw_read(&lab.device, request).await.unwrap_err();
    let codes: Vec<i32> = error.updates.iter().map(|e| e.canonical_code).collect();
    assert_eq!(codes, [0, Code::InvalidArgument as i32]);
    let elsewhere = ReadRequest {
        device_id: 5,
        ..ReadRequest::default()
    };
    let error = raw_read(&lab.device, elsewhere).await.unwrap_err();
    assert_eq!(error.code, Code::NotFound);
}
