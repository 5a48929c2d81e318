//! From the state a device is in to the state it should be in, in as few updates as possible. A
//! pure function: it knows neither device nor client.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    catalog::Catalog,
    proto::p4::v1::{
        self, ActionProfileGroup, Entity, FieldMatch, TableEntry, Update, entity::Entity as E,
        field_match::FieldMatchType, p4_data, packet_replication_engine_entry as pre, replica,
        table_action, update::Type,
    },
    value,
};

/// What makes two entities the same one, whatever they hold. The order is the order in which
/// things must exist: replication, members, groups, then entries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Identity {
    MulticastGroup(u32),
    CloneSession(u32),
    ValueSet(u32),
    Digest(u32),
    Register(u32, i64),
    Meter(u32, i64),
    Member(u32, u32),
    Group(u32, u32),
    Default(u32),
    Entry(u32, Vec<MatchKey>, i32),
}

/// A match in canonical form, to be compared.
type MatchKey = (u32, u8, Vec<u8>, Vec<u8>);

/// How an entity comes to be and goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    /// INSERT, MODIFY, DELETE.
    Full,
    /// It is always there and can only be modified.
    Fixed,
}

/// The updates that turn `actual` into `desired`, in an order in which every device takes them:
/// entries that must go, then groups that shrink or go before the members they used, then what
/// entries need, then entries in the order in which `desired` has them.
///
/// Compared are keys, actions, time-outs and metadata, in canonical form; not counters. Entries of
/// the program itself (`is_const`; devices before 1.4 do not say so: see [`Catalog::is_constant`]) are
/// left alone, and so are default actions, registers, meters,
/// value sets and digests that `desired` does not name. An entity that `desired` has twice counts
/// as its last.
pub fn reconcile(desired: &[Entity], actual: &[Entity]) -> Vec<Update> {
    let desired = by_identity(desired);
    let actual = by_identity(actual);
    let (mut entries_out, mut changes, mut rest_out) = (Vec::new(), Vec::new(), Vec::new());

    for (identity, (_, entity)) in &actual {
        if desired.contains_key(identity) || life(identity) == Life::Fixed || is_const(entity) {
            continue;
        }
        let update = update(Type::Delete, key_only(entity));
        match identity {
            Identity::Entry(..) => entries_out.push(update),
            _ => rest_out.push((identity.clone(), update)),
        }
    }
    for (identity, (place, entity)) in &desired {
        let kind = match actual.get(identity) {
            Some((_, present)) if same_content(entity, present) => continue,
            Some((_, present)) if is_const(present) => continue,
            Some(_) => Type::Modify,
            None if life(identity) == Life::Fixed => Type::Modify,
            None => Type::Insert,
        };
        changes.push((rank(identity), *place, update(kind, (*entity).clone())));
    }
    changes.sort_by_key(|(rank, place, _)| (*rank, *place));
    // Users go before what they use.
    rest_out.sort_by(|(a, _), (b, _)| b.cmp(a));

    entries_out
        .into_iter()
        .chain(changes.into_iter().map(|(_, _, update)| update))
        .chain(rest_out.into_iter().map(|(_, update)| update))
        .collect()
}

impl Catalog {
    /// Whether P4Info says that nobody can change the entity: entries of tables with `const entries`,
    /// and constant default actions.
    pub fn is_constant(&self, entity: &Entity) -> bool {
        let Some(E::TableEntry(entry)) = &entity.entity else {
            return false;
        };
        self.tables.get(entry.table_id).is_some_and(|table| {
            if entry.is_default_action {
                table.const_default_action.is_some()
            } else {
                table.is_const
            }
        })
    }
}

fn update(kind: Type, entity: Entity) -> Update {
    Update {
        r#type: kind as i32,
        entity: Some(entity),
    }
}

fn by_identity(entities: &[Entity]) -> BTreeMap<Identity, (usize, &Entity)> {
    entities
        .iter()
        .enumerate()
        .filter_map(|(place, entity)| Some((identity(entity)?, (place, entity))))
        .collect()
}

fn identity(entity: &Entity) -> Option<Identity> {
    Some(match entity.entity.as_ref()? {
        E::TableEntry(entry) if entry.is_default_action => Identity::Default(entry.table_id),
        E::TableEntry(entry) => {
            Identity::Entry(entry.table_id, match_keys(&entry.r#match), entry.priority)
        }
        E::ActionProfileMember(m) => Identity::Member(m.action_profile_id, m.member_id),
        E::ActionProfileGroup(g) => Identity::Group(g.action_profile_id, g.group_id),
        E::PacketReplicationEngineEntry(e) => match e.r#type.as_ref()? {
            pre::Type::MulticastGroupEntry(g) => Identity::MulticastGroup(g.multicast_group_id),
            pre::Type::CloneSessionEntry(c) => Identity::CloneSession(c.session_id),
        },
        E::ValueSetEntry(v) => Identity::ValueSet(v.value_set_id),
        E::DigestEntry(d) => Identity::Digest(d.digest_id),
        E::RegisterEntry(r) => Identity::Register(r.register_id, r.index.as_ref()?.index),
        E::MeterEntry(m) => Identity::Meter(m.meter_id, m.index.as_ref()?.index),
        // Counts are not state that anybody wants back, and externs are unknown here.
        E::CounterEntry(_)
        | E::DirectCounterEntry(_)
        | E::DirectMeterEntry(_)
        | E::ExternEntry(_) => return None,
    })
}

/// The place of a kind among the changes.
fn rank(identity: &Identity) -> u8 {
    match identity {
        Identity::MulticastGroup(_) | Identity::CloneSession(_) => 0,
        Identity::ValueSet(_) | Identity::Digest(_) => 1,
        Identity::Register(..) | Identity::Meter(..) => 2,
        Identity::Member(..) => 3,
        Identity::Group(..) => 4,
        Identity::Default(_) | Identity::Entry(..) => 5,
    }
}

fn life(identity: &Identity) -> Life {
    match identity {
        Identity::ValueSet(_)
        | Identity::Digest(_)
        | Identity::Register(..)
        | Identity::Meter(..)
        | Identity::Default(_) => Life::Fixed,
        _ => Life::Full,
    }
}

fn is_const(entity: &Entity) -> bool {
    matches!(&entity.entity, Some(E::TableEntry(entry)) if entry.is_const)
}

/// What a DELETE needs.
fn key_only(entity: &Entity) -> Entity {
    let entity = match entity.entity.as_ref() {
        Some(E::TableEntry(entry)) => E::TableEntry(TableEntry {
            table_id: entry.table_id,
            r#match: entry.r#match.clone(),
            priority: entry.priority,
            ..TableEntry::default()
        }),
        Some(other) => other.clone(),
        None => return Entity::default(),
    };
    Entity {
        entity: Some(entity),
    }
}

fn canonical(bytes: &[u8]) -> Vec<u8> {
    value::canonical(bytes).to_vec()
}

fn match_keys(fields: &[FieldMatch]) -> Vec<MatchKey> {
    let mut keys: Vec<MatchKey> = fields
        .iter()
        .filter_map(|field| {
            let (kind, a, b) = match field.field_match_type.as_ref()? {
                FieldMatchType::Exact(m) => (0, canonical(&m.value), Vec::new()),
                FieldMatchType::Ternary(m) => (1, canonical(&m.value), canonical(&m.mask)),
                FieldMatchType::Lpm(m) => {
                    (2, canonical(&m.value), m.prefix_len.to_be_bytes().to_vec())
                }
                FieldMatchType::Range(m) => (3, canonical(&m.low), canonical(&m.high)),
                FieldMatchType::Optional(m) => (4, canonical(&m.value), Vec::new()),
                FieldMatchType::Other(any) => {
                    (5, any.type_url.clone().into_bytes(), any.value.clone())
                }
            };
            Some((field.field_id, kind, a, b))
        })
        .collect();
    keys.sort();
    keys
}

fn canonical_action(action: &v1::Action) -> (u32, BTreeSet<(u32, Vec<u8>)>) {
    let params = action
        .params
        .iter()
        .map(|p| (p.param_id, canonical(&p.value)))
        .collect();
    (action.action_id, params)
}

fn same_action(a: Option<&v1::Action>, b: Option<&v1::Action>) -> bool {
    a.map(canonical_action) == b.map(canonical_action)
}

fn same_table_action(a: &TableEntry, b: &TableEntry) -> bool {
    use table_action::Type as T;
    let kind = |entry: &TableEntry| entry.action.as_ref().and_then(|a| a.r#type.clone());
    match (kind(a), kind(b)) {
        (Some(T::Action(a)), Some(T::Action(b))) => same_action(Some(&a), Some(&b)),
        (Some(T::ActionProfileActionSet(a)), Some(T::ActionProfileActionSet(b))) => {
            a.action_selection_mode == b.action_selection_mode
                && a.size_semantics == b.size_semantics
                && same_action(a.group_action.as_ref(), b.group_action.as_ref())
                && a.action_profile_actions.len() == b.action_profile_actions.len()
                && a.action_profile_actions
                    .iter()
                    .zip(&b.action_profile_actions)
                    .all(|(a, b)| {
                        a.weight == b.weight
                            && a.watch_kind == b.watch_kind
                            && same_action(a.action.as_ref(), b.action.as_ref())
                    })
        }
        (a, b) => a == b,
    }
}

fn replicas(replicas: &[v1::Replica]) -> Vec<(Vec<u8>, u32)> {
    #[allow(deprecated, reason = "devices may still answer so")]
    let port = |replica: &v1::Replica| match &replica.port_kind {
        Some(replica::PortKind::Port(port)) => canonical(port),
        Some(replica::PortKind::EgressPort(port)) => canonical(&port.to_be_bytes()),
        None => Vec::new(),
    };
    let mut list: Vec<_> = replicas.iter().map(|r| (port(r), r.instance)).collect();
    list.sort();
    list
}

fn group_members(group: &ActionProfileGroup) -> BTreeMap<u32, i32> {
    group
        .members
        .iter()
        .map(|m| (m.member_id, m.weight))
        .collect()
}

fn same_content(a: &Entity, b: &Entity) -> bool {
    match (a.entity.as_ref(), b.entity.as_ref()) {
        (Some(E::TableEntry(a)), Some(E::TableEntry(b))) => {
            same_table_action(a, b)
                && a.idle_timeout_ns == b.idle_timeout_ns
                && a.metadata == b.metadata
                && (a.meter_config.is_none() || a.meter_config == b.meter_config)
        }
        (Some(E::ActionProfileMember(a)), Some(E::ActionProfileMember(b))) => {
            same_action(a.action.as_ref(), b.action.as_ref())
        }
        (Some(E::ActionProfileGroup(a)), Some(E::ActionProfileGroup(b))) => {
            group_members(a) == group_members(b)
        }
        (Some(E::PacketReplicationEngineEntry(a)), Some(E::PacketReplicationEngineEntry(b))) => {
            match (&a.r#type, &b.r#type) {
                (
                    Some(pre::Type::MulticastGroupEntry(a)),
                    Some(pre::Type::MulticastGroupEntry(b)),
                ) => replicas(&a.replicas) == replicas(&b.replicas) && a.metadata == b.metadata,
                (Some(pre::Type::CloneSessionEntry(a)), Some(pre::Type::CloneSessionEntry(b))) => {
                    replicas(&a.replicas) == replicas(&b.replicas)
                        && a.class_of_service == b.class_of_service
                        && a.packet_length_bytes == b.packet_length_bytes
                }
                _ => false,
            }
        }
        (Some(E::ValueSetEntry(a)), Some(E::ValueSetEntry(b))) => {
            let members = |v: &v1::ValueSetEntry| {
                v.members
                    .iter()
                    .map(|m| match_keys(&m.r#match))
                    .collect::<BTreeSet<_>>()
            };
            members(a) == members(b)
        }
        (Some(E::RegisterEntry(a)), Some(E::RegisterEntry(b))) => {
            let bits = |r: &v1::RegisterEntry| match r.data.as_ref().and_then(|d| d.data.as_ref()) {
                Some(p4_data::Data::Bitstring(bits)) => Some(canonical(bits)),
                _ => None,
            };
            a.data == b.data || (bits(a).is_some() && bits(a) == bits(b))
        }
        (Some(E::MeterEntry(a)), Some(E::MeterEntry(b))) => a.config == b.config,
        (a, b) => a == b,
    }
}
