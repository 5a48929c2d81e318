//! Everything a controller writes beside table entries: counters, meters, registers, value sets,
//! action profiles, multicast groups and clone sessions.

use signalbox_p4runtime::proto::p4::v1::{
    ActionProfileAction, ActionProfileActionSet, ActionProfileGroup, ActionProfileMember,
    CloneSessionEntry, CounterData, CounterEntry, FieldMatch, Index, MeterConfig, MeterEntry,
    MulticastGroupEntry, P4Data, PacketReplicationEngineEntry, RegisterEntry, Replica, TableAction,
    ValueSetEntry, ValueSetMember, action_profile_group,
    entity::Entity as E,
    field_match::{Exact, FieldMatchType},
    p4_data::Data,
    packet_replication_engine_entry::Type as Pre,
    replica::PortKind,
    table_action,
    update::Type,
};

use super::*;

fn at(index: i64) -> Option<Index> {
    Some(Index { index })
}

#[tokio::test]
async fn indirect_counters_count_and_are_set() {
    let lab = Lab::start().await;
    let seen = lab.catalog.counters.named("seen").unwrap().id;
    for _ in 0..2 {
        lab.packet(5, &frame(1, 2, 0x800)).await;
    }
    let cell = |index, packets, bytes| {
        E::CounterEntry(CounterEntry {
            counter_id: seen,
            index,
            data: Some(CounterData {
                packet_count: packets,
                byte_count: bytes,
            }),
        })
    };
    let filter = |counter_id, index| {
        E::CounterEntry(CounterEntry {
            counter_id,
            index,
            data: None,
        })
    };
    assert_eq!(lab.read(filter(seen, at(5))).await, [cell(at(5), 2, 120)]);
    let whole: Vec<_> = (0..16)
        .map(|n| {
            cell(
                at(n),
                if n == 5 { 2 } else { 0 },
                if n == 5 { 120 } else { 0 },
            )
        })
        .collect();
    assert_eq!(lab.read(filter(seen, None)).await, whole);
    assert_eq!(lab.read(filter(0, None)).await.len(), 16);
    lab.write(vec![update(Type::Modify, cell(at(5), 7, 8))])
        .await
        .unwrap();
    assert_eq!(lab.read(filter(seen, at(5))).await, [cell(at(5), 7, 8)]);
    lab.write(vec![update(Type::Modify, cell(None, 0, 0))])
        .await
        .unwrap();
    assert_eq!(lab.read(filter(seen, at(5))).await, [cell(at(5), 0, 0)]);
    for (update, expected) in [
        (update(Type::Modify, cell(at(16), 0, 0)), Code::OutOfRange),
        (
            update(Type::Modify, cell(at(-1), 0, 0)),
            Code::InvalidArgument,
        ),
        (
            update(Type::Modify, cell(at(1), -1, 0)),
            Code::InvalidArgument,
        ),
        (
            update(Type::Insert, cell(at(1), 0, 0)),
            Code::InvalidArgument,
        ),
    ] {
        assert_eq!(lab.refused(update).await.0, expected);
    }
    assert_eq!(
        lab.read_refused(filter(seen, at(16))).await.0,
        Code::OutOfRange
    );
    assert_eq!(
        lab.read_refused(filter(0, at(1))).await.0,
        Code::InvalidArgument
    );
    assert_eq!(
        lab.read_refused(filter(42, None)).await.0,
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn meters_read_back_their_rates() {
    let lab = Lab::start().await;
    let meter_id = lab.catalog.meters.named("limit").unwrap().id;
    let entry = |config| {
        E::MeterEntry(MeterEntry {
            meter_id,
            index: at(3),
            config,
            counter_data: None,
        })
    };
    let config = MeterConfig {
        cir: 123_456_789,
        cburst: 10,
        pir: 987_654_321,
        pburst: 20,
        eburst: 0,
    };
    assert_eq!(lab.read(entry(None)).await, [entry(None)]);
    lab.write(vec![update(Type::Modify, entry(Some(config)))])
        .await
        .unwrap();
    assert_eq!(lab.read(entry(None)).await, [entry(Some(config))]);
    lab.write(vec![update(Type::Modify, entry(None))])
        .await
        .unwrap();
    assert_eq!(lab.read(entry(None)).await, [entry(None)]);
    for bad in [
        MeterConfig {
            eburst: 1,
            ..config
        },
        MeterConfig { pir: 1, ..config },
        MeterConfig {
            cburst: -1,
            ..config
        },
    ] {
        let (code, _) = lab.refused(update(Type::Modify, entry(Some(bad)))).await;
        assert_eq!(code, Code::InvalidArgument);
    }
}

#[tokio::test]
async fn registers_are_read_and_written() {
    let lab = Lab::start().await;
    let id = |name| lab.catalog.registers.named(name).unwrap().id;
    let cell = |register_id, index, bytes: Option<&[u8]>| {
        E::RegisterEntry(RegisterEntry {
            register_id,
            index: at(index),
            data: bytes.map(|bytes| P4Data {
                data: Some(Data::Bitstring(bytes.to_vec())),
            }),
        })
    };
    let (last, signed) = (id("last"), id("signed_cells"));
    lab.packet(1, &frame(1, 2, 0x0806)).await;
    assert_eq!(
        lab.read(cell(last, 0, None)).await,
        [cell(last, 0, Some(&[0x08, 0x06]))]
    );
    assert_eq!(
        lab.read(cell(signed, 0, None)).await,
        [cell(signed, 0, Some(&[0xff]))]
    );
    lab.write(vec![
        update(Type::Modify, cell(last, 7, Some(&[0, 0, 1, 2, 3, 4]))),
        update(Type::Modify, cell(signed, 1, Some(&[0xfd, 0x1d]))),
    ])
    .await
    .unwrap();
    assert_eq!(
        lab.read(cell(last, 7, None)).await,
        [cell(last, 7, Some(&[1, 2, 3, 4]))]
    );
    assert_eq!(
        lab.read(cell(signed, 1, None)).await,
        [cell(signed, 1, Some(&[0xfd, 0x1d]))]
    );
    for (cell, expected) in [
        (cell(last, 8, Some(&[1])), Code::OutOfRange),
        (cell(last, 1, Some(&[1, 0, 0, 0, 0])), Code::OutOfRange),
        (cell(last, 1, None), Code::InvalidArgument),
        (
            E::RegisterEntry(RegisterEntry {
                register_id: last,
                index: at(1),
                data: Some(P4Data {
                    data: Some(Data::Bool(true)),
                }),
            }),
            Code::InvalidArgument,
        ),
    ] {
        let (code, message) = lab.refused(update(Type::Modify, cell)).await;
        assert_eq!(code, expected, "{message}");
    }
    let whole = RegisterEntry {
        register_id: 0,
        ..RegisterEntry::default()
    };
    assert_eq!(lab.read(E::RegisterEntry(whole)).await.len(), 12);
}

#[tokio::test]
async fn value_sets_steer_the_parser() {
    let lab = Lab::start().await;
    let value_set_id = lab.catalog.value_sets.named("special_types").unwrap().id;
    let set = |values: &[u16]| {
        E::ValueSetEntry(ValueSetEntry {
            value_set_id,
            members: values
                .iter()
                .map(|value| ValueSetMember {
                    r#match: vec![FieldMatch {
                        field_id: 1,
                        field_match_type: Some(FieldMatchType::Exact(Exact {
                            value: value.to_be_bytes().to_vec(),
                        })),
                    }],
                })
                .collect(),
        })
    };
    assert_eq!(lab.packet(1, &frame(1, 2, 0x22f3)).await[0].0, 0);
    lab.write(vec![update(Type::Modify, set(&[0x22f3, 0x893b]))])
        .await
        .unwrap();
    assert_eq!(lab.packet(1, &frame(1, 2, 0x22f3)).await[0].0, 7);
    assert_eq!(lab.read(set(&[])).await, [set(&[0x22f3, 0x893b])]);
    for (values, expected) in [
        (&[1u16, 1][..], Code::AlreadyExists),
        (&[1, 2, 3, 4, 5], Code::ResourceExhausted),
    ] {
        let mut values = values.to_vec();
        // Canonical values, so that only the set itself is wrong.
        values.iter_mut().for_each(|value| *value += 0x100);
        let (code, message) = lab.refused(update(Type::Modify, set(&values))).await;
        assert_eq!(code, expected, "{message}");
    }
    assert_eq!(
        lab.refused(update(Type::Insert, set(&[]))).await.0,
        Code::InvalidArgument
    );
    lab.write(vec![update(Type::Modify, set(&[]))])
        .await
        .unwrap();
    assert_eq!(lab.packet(1, &frame(1, 2, 0x22f3)).await[0].0, 0);
}

fn member(lab: &Lab, member_id: u32, port: u16) -> ActionProfileMember {
    ActionProfileMember {
        action_profile_id: lab.catalog.profiles.named("choice").unwrap().id,
        member_id,
        action: Some(
            lab.catalog
                .action_call("forward", [("port", port.into())])
                .unwrap(),
        ),
    }
}

fn group(lab: &Lab, group_id: u32, members: &[(u32, i32)]) -> ActionProfileGroup {
    ActionProfileGroup {
        action_profile_id: lab.catalog.profiles.named("choice").unwrap().id,
        group_id,
        members: members
            .iter()
            .map(|(member_id, weight)| action_profile_group::Member {
                member_id: *member_id,
                weight: *weight,
                watch_kind: None,
            })
            .collect(),
        max_size: 0,
    }
}

fn spread(lab: &Lab, action: table_action::Type) -> TableEntry {
    let mut entry = lab
        .catalog
        .entry("spread")
        .exact("std.egress_spec", 0u8)
        .build_key()
        .unwrap();
    entry.action = Some(TableAction {
        r#type: Some(action),
    });
    entry
}

#[tokio::test]
async fn groups_choose_among_their_members() {
    let lab = Lab::start().await;
    let members = [member(&lab, 1, 2), member(&lab, 2, 3)];
    let group_of = |members: &[(u32, i32)]| E::ActionProfileGroup(group(&lab, 1, members));
    let inserts = members
        .iter()
        .cloned()
        .map(|m| update(Type::Insert, E::ActionProfileMember(m)))
        .collect();
    lab.write(inserts).await.unwrap();
    lab.write(vec![update(Type::Insert, group_of(&[(1, 1), (2, 1)]))])
        .await
        .unwrap();
    let entry = spread(&lab, table_action::Type::ActionProfileGroupId(1));
    lab.write(vec![insert(entry.clone())]).await.unwrap();

    let mut ports = std::collections::BTreeSet::new();
    for dst in 0..40 {
        ports.insert(lab.packet(1, &frame(dst, 2, 0x800)).await[0].0);
    }
    assert_eq!(ports.into_iter().collect::<Vec<_>>(), [2, 3]);
    assert_eq!(
        lab.read(E::ActionProfileMember(ActionProfileMember::default()))
            .await,
        members.clone().map(E::ActionProfileMember)
    );
    assert_eq!(
        lab.read(E::ActionProfileGroup(ActionProfileGroup::default()))
            .await,
        [group_of(&[(1, 1), (2, 1)])]
    );
    let of_spread = TableEntry {
        table_id: lab.id("spread"),
        ..TableEntry::default()
    };
    assert_eq!(lab.entries(of_spread).await, [entry]);

    let gone = |m: &ActionProfileMember| update(Type::Delete, E::ActionProfileMember(m.clone()));
    for (update, expected) in [
        (gone(&members[0]), Code::FailedPrecondition),
        (
            update(Type::Delete, group_of(&[])),
            Code::FailedPrecondition,
        ),
        (update(Type::Modify, group_of(&[(9, 1)])), Code::NotFound),
        (
            update(Type::Modify, group_of(&[(1, 0)])),
            Code::InvalidArgument,
        ),
        (
            update(Type::Modify, group_of(&[(1, 1), (1, 2)])),
            Code::InvalidArgument,
        ),
        (update(Type::Insert, group_of(&[])), Code::AlreadyExists),
        (
            update(Type::Insert, E::ActionProfileMember(members[0].clone())),
            Code::AlreadyExists,
        ),
        (gone(&member(&lab, 5, 1)), Code::NotFound),
    ] {
        let (code, message) = lab.refused(update).await;
        assert_eq!(code, expected, "{message}");
    }
    lab.write(vec![update(Type::Modify, group_of(&[(2, 3)]))])
        .await
        .unwrap();
    lab.write(vec![gone(&members[0])]).await.unwrap();
    assert_eq!(lab.packet(1, &frame(4, 2, 0x800)).await[0].0, 3);
}

#[tokio::test]
async fn one_shots_read_back_as_written_and_leave_nothing_behind() {
    let lab = Lab::start().await;
    let forward = |port: u16| {
        Some(
            lab.catalog
                .action_call("forward", [("port", port.into())])
                .unwrap(),
        )
    };
    let set = |ports: &[u16]| {
        table_action::Type::ActionProfileActionSet(ActionProfileActionSet {
            action_profile_actions: ports
                .iter()
                .map(|port| ActionProfileAction {
                    action: forward(*port),
                    weight: 2,
                    watch_kind: None,
                })
                .collect(),
            ..ActionProfileActionSet::default()
        })
    };
    let of_spread = TableEntry {
        table_id: lab.id("spread"),
        ..TableEntry::default()
    };
    // The same action twice stays two.
    let entry = spread(&lab, set(&[4, 4, 5]));
    lab.write(vec![insert(entry.clone())]).await.unwrap();
    assert_eq!(
        lab.entries(of_spread.clone()).await,
        std::slice::from_ref(&entry)
    );
    let port = lab.packet(1, &frame(1, 2, 0x800)).await[0].0;
    assert!([4, 5].contains(&port), "{port}");
    assert_eq!(
        lab.refused(insert(entry.clone())).await.0,
        Code::AlreadyExists
    );
    let (code, message) = lab
        .refused(update(
            Type::Insert,
            E::ActionProfileMember(member(&lab, 60, 2)),
        ))
        .await;
    assert_eq!(code, Code::InvalidArgument, "{message}");

    let changed = spread(&lab, set(&[6]));
    lab.write(vec![modify(changed.clone())]).await.unwrap();
    assert_eq!(
        lab.entries(of_spread.clone()).await,
        std::slice::from_ref(&changed)
    );
    assert_eq!(lab.packet(1, &frame(1, 2, 0x800)).await[0].0, 6);
    // A batch that fails keeps the one-shot that it had replaced.
    let bad = insert(lab.l2(1, 1));
    let batch = vec![modify(spread(&lab, set(&[5]))), bad.clone(), bad];
    let error = lab
        .batch(batch, Atomicity::RollbackOnError)
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::Unknown, "{error}");
    assert_eq!(
        lab.entries(of_spread.clone()).await,
        std::slice::from_ref(&changed)
    );
    assert_eq!(lab.packet(1, &frame(1, 2, 0x800)).await[0].0, 6);
    lab.write(vec![delete(changed)]).await.unwrap();
    // Now the profile is free for members of one's own.
    lab.write(vec![update(
        Type::Insert,
        E::ActionProfileMember(member(&lab, 60, 2)),
    )])
    .await
    .unwrap();
    let (code, message) = lab.refused(insert(entry)).await;
    assert_eq!(code, Code::InvalidArgument, "{message}");
}

fn replica(port: &[u8], instance: u32) -> Replica {
    Replica {
        port_kind: Some(PortKind::Port(port.to_vec())),
        instance,
        backup_replicas: Vec::new(),
    }
}

fn pre(entry: Pre) -> E {
    E::PacketReplicationEngineEntry(PacketReplicationEngineEntry {
        r#type: Some(entry),
    })
}

#[tokio::test]
async fn groups_and_one_shots_are_as_large_as_p4info_allows() {
    use signalbox_p4runtime::proto::p4::config::v1::action_profile::{
        SelectorSizeSemantics, SumOfMembers,
    };
    use signalbox_p4runtime::proto::p4::v1::{Action as Call, action::Param};
    let lab = Lab::start().await;
    let forward = Call {
        action_id: lab.catalog.actions.named("forward").unwrap().id,
        params: vec![Param {
            param_id: 1,
            value: vec![1],
        }],
    };
    let one_shot = |weights: &[i32], mode: i32, semantics: i32| {
        let actions = weights.iter().map(|weight| ActionProfileAction {
            action: Some(forward.clone()),
            weight: *weight,
            ..ActionProfileAction::default()
        });
        let set = ActionProfileActionSet {
            action_profile_actions: actions.collect(),
            action_selection_mode: mode,
            size_semantics: semantics,
            ..ActionProfileActionSet::default()
        };
        let mut entry = lab
            .catalog
            .entry("spread")
            .exact("std.egress_spec", 5u8)
            .action("forward", [("port", value(1))])
            .build()
            .unwrap();
        entry.action = Some(TableAction {
            r#type: Some(table_action::Type::ActionProfileActionSet(set)),
        });
        entry
    };
    let with =
        async |change: &dyn Fn(&mut signalbox_p4runtime::proto::p4::config::v1::ActionProfile)| {
            let mut info = lab.catalog.p4info().clone();
            change(&mut info.action_profiles[0]);
            lab.client
                .set_pipeline(Action::VerifyAndCommit, info, JSON.into(), 1)
                .await
                .unwrap();
        };
    let tried = async |entry: TableEntry| match lab.write(vec![insert(entry.clone())]).await {
        Ok(()) => {
            lab.write(vec![delete(entry)]).await.unwrap();
            Code::Ok
        }
        Err(mut error) => error.failures.remove(0).code,
    };
    use Code::{InvalidArgument, Ok as Fine, Unimplemented};

    with(&|profile| profile.max_group_size = 4).await;
    assert_eq!(tried(one_shot(&[1, 3], 1, 1)).await, Fine);
    assert_eq!(tried(one_shot(&[2, 3], 0, 0)).await, InvalidArgument);
    assert_eq!(tried(one_shot(&[1], 2, 0)).await, Unimplemented, "random");
    assert_eq!(tried(one_shot(&[1], 0, 2)).await, Unimplemented, "members");
    assert_eq!(tried(one_shot(&[1], 9, 0)).await, InvalidArgument);

    with(&|profile| {
        profile.max_group_size = 2;
        profile.selector_size_semantics = Some(SelectorSizeSemantics::SumOfMembers(SumOfMembers {
            max_member_weight: 10,
        }));
    })
    .await;
    assert_eq!(tried(one_shot(&[9, 10], 0, 2)).await, Fine);
    assert_eq!(tried(one_shot(&[1, 1, 1], 0, 0)).await, InvalidArgument);
    assert_eq!(tried(one_shot(&[11], 0, 0)).await, InvalidArgument);

    with(&|profile| profile.weights_disallowed = true).await;
    assert_eq!(tried(one_shot(&[0, 0], 0, 0)).await, Fine);
    assert_eq!(tried(one_shot(&[1], 0, 0)).await, InvalidArgument);
}

#[tokio::test]
async fn multicast_groups_flood() {
    let lab = Lab::start().await;
    let group = |id, replicas: &[Replica]| {
        pre(Pre::MulticastGroupEntry(MulticastGroupEntry {
            multicast_group_id: id,
            replicas: replicas.to_vec(),
            metadata: b"m".to_vec(),
        }))
    };
    // Port 0 is a port.
    let flood = group(9, &[replica(&[0], 1), replica(&[2], 1), replica(&[2], 2)]);
    lab.write(vec![update(Type::Insert, flood.clone())])
        .await
        .unwrap();
    let entry = lab
        .catalog
        .entry("l2")
        .exact("hdr.ethernet.dst", 0x0au8)
        .action("flood", [("group", value(9))])
        .insert()
        .unwrap();
    lab.write(vec![entry]).await.unwrap();
    let ports: Vec<u16> = lab
        .packet(1, &frame(0x0a, 2, 0x800))
        .await
        .iter()
        .map(|p| p.0)
        .collect();
    assert_eq!(ports, [0, 2, 2]);
    assert_eq!(lab.read(group(0, &[])).await, std::slice::from_ref(&flood));
    assert_eq!(lab.read(group(9, &[])).await, std::slice::from_ref(&flood));
    for (update, expected) in [
        (update(Type::Insert, flood.clone()), Code::AlreadyExists),
        (update(Type::Insert, group(0, &[])), Code::InvalidArgument),
        (
            update(
                Type::Insert,
                group(3, &[replica(&[1], 1), replica(&[1], 1)]),
            ),
            Code::InvalidArgument,
        ),
        (
            update(Type::Insert, group(3, &[replica(&[1], 70_000)])),
            Code::InvalidArgument,
        ),
        (update(Type::Modify, group(3, &[])), Code::NotFound),
        (update(Type::Delete, group(3, &[])), Code::NotFound),
    ] {
        let (code, message) = lab.refused(update).await;
        assert_eq!(code, expected, "{message}");
    }
    lab.write(vec![update(Type::Modify, group(9, &[replica(&[3], 0)]))])
        .await
        .unwrap();
    assert_eq!(lab.packet(1, &frame(0x0a, 2, 0x800)).await[0].0, 3);
    lab.write(vec![update(Type::Delete, group(9, &[]))])
        .await
        .unwrap();
    assert_eq!(lab.packet(1, &frame(0x0a, 2, 0x800)).await, []);
}

#[tokio::test]
async fn clone_sessions_read_back_as_written() {
    let lab = Lab::start().await;
    let session = |id, replicas: &[Replica], length| {
        pre(Pre::CloneSessionEntry(CloneSessionEntry {
            session_id: id,
            replicas: replicas.to_vec(),
            class_of_service: 2,
            packet_length_bytes: length,
        }))
    };
    // The controller's number of the CPU port.
    let to_cpu = session(1, &[replica(&[0xff, 0xff, 0xff, 0xfd], 1)], 64);
    lab.write(vec![update(Type::Insert, to_cpu.clone())])
        .await
        .unwrap();
    assert_eq!(
        lab.read(session(0, &[], 0)).await,
        std::slice::from_ref(&to_cpu)
    );
    let kept = lab
        .runner
        .handle()
        .call(|switch, _| switch.clone_session(1).cloned())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(kept.replicas[0].port, CPU_PORT);
    assert_eq!(kept.truncate, Some(64));
    for (update, expected) in [
        (update(Type::Insert, to_cpu.clone()), Code::AlreadyExists),
        (
            update(Type::Insert, session(0, &[], 0)),
            Code::InvalidArgument,
        ),
        (
            update(Type::Insert, session(32_768, &[], 0)),
            Code::InvalidArgument,
        ),
        (
            update(Type::Insert, session(2, &[], -1)),
            Code::InvalidArgument,
        ),
    ] {
        let (code, message) = lab.refused(update).await;
        assert_eq!(code, expected, "{message}");
    }
    lab.write(vec![update(Type::Delete, to_cpu)]).await.unwrap();
    assert_eq!(lab.read(session(0, &[], 0)).await, []);
}
