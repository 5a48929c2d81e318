//! From what is there to what should be: as few updates as possible, in an order that devices take.

use signalbox_p4runtime::{
    Catalog,
    proto::p4::v1::{
        ActionProfileGroup, ActionProfileMember, Entity, FieldMatch, MulticastGroupEntry,
        PacketReplicationEngineEntry, Replica, TableEntry, Update, action_profile_group,
        entity::Entity as E, field_match::FieldMatchType, packet_replication_engine_entry as pre,
        replica::PortKind,
    },
    reconcile,
};

use super::catalog;

fn entity(entity: E) -> Entity {
    Entity {
        entity: Some(entity),
    }
}

fn fixed(catalog: &Catalog, src: u32, next_hop: u16) -> TableEntry {
    catalog
        .entry("web_lb.fixed")
        .exact("src", src)
        .exact("sport", 80u16)
        .action(
            "to_server",
            [("dst", 9u32.into()), ("next_hop", next_hop.into())],
        )
        .build()
        .unwrap()
}

fn entry(catalog: &Catalog, src: u32, next_hop: u16) -> Entity {
    entity(E::TableEntry(fixed(catalog, src, next_hop)))
}

fn group(id: u32, members: &[u32]) -> Entity {
    entity(E::ActionProfileGroup(ActionProfileGroup {
        action_profile_id: 1,
        group_id: id,
        members: members
            .iter()
            .map(|id| action_profile_group::Member {
                member_id: *id,
                weight: 1,
                watch_kind: None,
            })
            .collect(),
        max_size: 0,
    }))
}

fn member(id: u32) -> Entity {
    entity(E::ActionProfileMember(ActionProfileMember {
        action_profile_id: 1,
        member_id: id,
        action: None,
    }))
}

fn multicast(id: u32, port: Vec<u8>) -> Entity {
    entity(E::PacketReplicationEngineEntry(
        PacketReplicationEngineEntry {
            r#type: Some(pre::Type::MulticastGroupEntry(MulticastGroupEntry {
                multicast_group_id: id,
                replicas: vec![Replica {
                    port_kind: Some(PortKind::Port(port)),
                    ..Replica::default()
                }],
                metadata: Vec::new(),
            })),
        },
    ))
}

fn told(catalog: &Catalog, updates: &[Update]) -> Vec<String> {
    updates.iter().map(|u| catalog.describe_update(u)).collect()
}

#[test]
fn nothing_is_done_where_nothing_differs() {
    let catalog = catalog();
    let desired = [
        entry(&catalog, 1, 1),
        entry(&catalog, 2, 2),
        multicast(3, vec![5]),
    ];
    // The device orders as it likes, pads as it likes, and adds counts.
    let mut padded = fixed(&catalog, 2, 2);
    padded.r#match.reverse();
    for FieldMatch {
        field_match_type, ..
    } in &mut padded.r#match
    {
        if let Some(FieldMatchType::Exact(exact)) = field_match_type {
            exact.value.insert(0, 0);
        }
    }
    padded.counter_data = Some(Default::default());
    let actual = [
        multicast(3, vec![0, 5]),
        entity(E::TableEntry(padded)),
        entry(&catalog, 1, 1),
    ];
    assert_eq!(reconcile(&desired, &actual), []);
}

#[test]
fn entries_come_go_and_change() {
    let catalog = catalog();
    let desired = [
        entry(&catalog, 5, 1),
        entry(&catalog, 1, 1),
        entry(&catalog, 2, 7),
    ];
    let mut constant = fixed(&catalog, 8, 1);
    constant.is_const = true;
    let actual = [
        entry(&catalog, 1, 1),
        entry(&catalog, 2, 2),
        entry(&catalog, 3, 3),
        entity(E::TableEntry(constant)),
    ];
    assert_eq!(
        told(&catalog, &reconcile(&desired, &actual)),
        [
            "delete web_lb.fixed src=3 sport=80",
            "insert web_lb.fixed src=5 sport=80 -> to_server(dst=9, next_hop=1)",
            "modify web_lb.fixed src=2 sport=80 -> to_server(dst=9, next_hop=7)",
        ]
    );
}

#[test]
fn users_follow_what_they_use_and_go_before_it() {
    let catalog = catalog();
    let desired = [
        entry(&catalog, 1, 1),
        group(2, &[10]),
        member(10),
        multicast(4, vec![1]),
    ];
    let actual = [
        entry(&catalog, 9, 9),
        member(11),
        group(1, &[11]),
        group(2, &[11]),
        multicast(3, vec![1]),
    ];
    assert_eq!(
        told(&catalog, &reconcile(&desired, &actual)),
        [
            "delete web_lb.fixed src=9 sport=80",
            "insert multicast group 4",
            "insert member 10 of 0x00000001",
            "modify group 2 of 0x00000001",
            "insert web_lb.fixed src=1 sport=80 -> to_server(dst=9, next_hop=1)",
            "delete group 1 of 0x00000001",
            "delete member 11 of 0x00000001",
            "delete multicast group 3",
        ]
    );
}

#[test]
fn a_default_action_is_modified_and_never_deleted() {
    let catalog = catalog();
    let default = |action: &str| {
        let entry = catalog
            .entry("web_lb.wildcard")
            .default_action()
            .action(action, [])
            .build()
            .unwrap();
        entity(E::TableEntry(entry))
    };
    assert_eq!(
        told(&catalog, &reconcile(&[default("discard")], &[])),
        ["modify web_lb.wildcard default -> discard()"]
    );
    assert_eq!(reconcile(&[default("discard")], &[default("discard")]), []);
    assert_eq!(reconcile(&[], &[default("discard")]), []);
}
