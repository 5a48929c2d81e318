//! Multicast groups and clone sessions. The messages are kept as they were written, so that they
//! read back the same; the core gets ports and instances.

use std::collections::BTreeSet;

use signalbox_p4runtime::{
    Code,
    proto::p4::v1::{
        self, CloneSessionEntry, MulticastGroupEntry, PacketReplicationEngineEntry,
        packet_replication_engine_entry::Type, replica::PortKind, update,
    },
    value,
};

use super::{
    refusal::{Outcome, Refusal},
    state::Loaded,
    write::{Target, note},
};
use crate::{CloneSession, Replica};

/// The controller's number for the CPU port, where it is not the device's own.
const SDN_PORT_CPU: u128 = 0xffff_fffd;

pub(super) fn write(
    t: &mut Target<'_>,
    kind: update::Type,
    entry: &PacketReplicationEngineEntry,
) -> Outcome<()> {
    match entry.r#type.as_ref() {
        Some(Type::MulticastGroupEntry(group)) => write_group(t, kind, group).map_err(|refusal| {
            refusal.at(&format!("multicast group {}", group.multicast_group_id))
        }),
        Some(Type::CloneSessionEntry(session)) => write_session(t, kind, session)
            .map_err(|refusal| refusal.at(&format!("clone session {}", session.session_id))),
        None => Err(Refusal::invalid("the replication entry is empty")),
    }
}

fn write_group(t: &mut Target<'_>, kind: update::Type, group: &MulticastGroupEntry) -> Outcome<()> {
    let id = small_id(group.multicast_group_id, u16::MAX)?;
    let present = t
        .loaded
        .notes
        .multicast
        .get(&group.multicast_group_id)
        .cloned();
    let before = present
        .as_ref()
        .map(|old| replicas(t, &old.replicas))
        .transpose()?;
    match (kind, before) {
        (update::Type::Insert, Some(_)) => return Err(already()),
        (update::Type::Insert, None) => {
            let replicas = replicas(t, &group.replicas)?;
            t.switch.multicast_create(id, replicas)?;
            note(&mut t.undo, move |switch, _| switch.multicast_delete(id));
        }
        (update::Type::Modify, Some(before)) => {
            let replicas = replicas(t, &group.replicas)?;
            t.switch.multicast_modify(id, replicas)?;
            note(&mut t.undo, move |switch, _| {
                switch.multicast_modify(id, before)
            });
        }
        (update::Type::Delete, Some(before)) => {
            t.switch.multicast_delete(id)?;
            t.loaded.notes.multicast.remove(&group.multicast_group_id);
            note(&mut t.undo, move |switch, _| {
                switch.multicast_create(id, before)
            });
            return Ok(());
        }
        (update::Type::Unspecified, _) => return Err(untyped()),
        (_, None) => return Err(absent()),
    }
    t.loaded
        .notes
        .multicast
        .insert(group.multicast_group_id, group.clone());
    Ok(())
}

fn write_session(
    t: &mut Target<'_>,
    kind: update::Type,
    session: &CloneSessionEntry,
) -> Outcome<()> {
    let id = small_id(session.session_id, 32_767)?;
    let present = t.loaded.notes.clones.get(&session.session_id).cloned();
    let before = present
        .as_ref()
        .map(|old| core_session(t, old))
        .transpose()?;
    match (kind, before) {
        (update::Type::Insert, Some(_)) => return Err(already()),
        (update::Type::Insert, None) => {
            let core = core_session(t, session)?;
            t.switch.clone_session_create(id, core)?;
            note(&mut t.undo, move |switch, _| {
                switch.clone_session_delete(id)
            });
        }
        (update::Type::Modify, Some(before)) => {
            let core = core_session(t, session)?;
            t.switch.clone_session_modify(id, core)?;
            note(&mut t.undo, move |switch, _| {
                switch.clone_session_modify(id, before)
            });
        }
        (update::Type::Delete, Some(before)) => {
            t.switch.clone_session_delete(id)?;
            t.loaded.notes.clones.remove(&session.session_id);
            note(&mut t.undo, move |switch, _| {
                switch.clone_session_create(id, before)
            });
            return Ok(());
        }
        (update::Type::Unspecified, _) => return Err(untyped()),
        (_, None) => return Err(absent()),
    }
    t.loaded
        .notes
        .clones
        .insert(session.session_id, session.clone());
    Ok(())
}

fn already() -> Refusal {
    Refusal::new(Code::AlreadyExists, "it exists already")
}

fn absent() -> Refusal {
    Refusal::new(Code::NotFound, "it does not exist")
}

fn untyped() -> Refusal {
    Refusal::invalid("the update has no type")
}

fn small_id(id: u32, max: u16) -> Outcome<u16> {
    match u16::try_from(id) {
        Ok(id) if id > 0 && id <= max => Ok(id),
        _ => Err(Refusal::invalid(format!("its id is not in 1 to {max}"))),
    }
}

fn core_session(t: &Target<'_>, session: &CloneSessionEntry) -> Outcome<CloneSession> {
    let truncate = u32::try_from(session.packet_length_bytes)
        .map_err(|_| Refusal::invalid("`packet_length_bytes` is negative"))?;
    if t.quirks.no_pi_extensions {
        if truncate != 0 {
            return Err(Refusal::unimplemented(
                "simple_switch_grpc does not truncate clones",
            ));
        }
        if session.class_of_service != 0 {
            return Err(Refusal::unimplemented(
                "simple_switch_grpc has no class of service for clones",
            ));
        }
    }
    Ok(CloneSession {
        replicas: replicas(t, &session.replicas)?,
        truncate: (truncate > 0).then_some(truncate),
        class_of_service: session.class_of_service,
    })
}

fn replicas(t: &Target<'_>, list: &[v1::Replica]) -> Outcome<Vec<Replica>> {
    let mut seen = BTreeSet::new();
    list.iter()
        .map(|replica| {
            if !replica.backup_replicas.is_empty() {
                return Err(Refusal::unimplemented("backup replicas are not supported"));
            }
            let port = port(t, replica)?;
            let instance = u16::try_from(replica.instance).map_err(|_| {
                Refusal::invalid(format!("instance {} is above 65535", replica.instance))
            })?;
            if !seen.insert((port, instance)) {
                return Err(Refusal::invalid(format!(
                    "port {port} with instance {instance} is in it twice"
                )));
            }
            Ok(Replica { port, instance })
        })
        .collect()
}

fn port(t: &Target<'_>, replica: &v1::Replica) -> Outcome<u16> {
    #[allow(deprecated, reason = "controllers still use it")]
    let number = match &replica.port_kind {
        Some(PortKind::EgressPort(port)) => u128::from(*port),
        Some(PortKind::Port(bytes)) => {
            if bytes.is_empty() {
                return Err(Refusal::invalid("a replica has an empty port"));
            }
            value::to_u128(bytes).unwrap_or(u128::MAX)
        }
        None => return Err(Refusal::invalid("a replica has no port")),
    };
    if t.quirks.no_pi_extensions && number == 0 {
        return Err(Refusal::invalid(
            "simple_switch_grpc takes port 0 for an unset port",
        ));
    }
    match (number, t.switch.config().cpu_port) {
        (SDN_PORT_CPU, Some(cpu)) => Ok(cpu),
        _ => u16::try_from(number)
            .map_err(|_| Refusal::invalid(format!("there is no port {number:#x}"))),
    }
}

pub(super) fn read(
    loaded: &Loaded,
    filter: &PacketReplicationEngineEntry,
    no_wildcards: bool,
    mut give: impl FnMut(Type),
) -> Outcome<()> {
    let wildcard = |id: u32| {
        if id == 0 && no_wildcards {
            return Err(Refusal::unimplemented(
                "simple_switch_grpc reads replication entries only one by one",
            ));
        }
        Ok(id == 0)
    };
    match &filter.r#type {
        Some(Type::MulticastGroupEntry(group)) => {
            let id = group.multicast_group_id;
            let all = wildcard(id)?;
            for (other, group) in &loaded.notes.multicast {
                if all || *other == id {
                    give(Type::MulticastGroupEntry(group.clone()));
                }
            }
            Ok(())
        }
        Some(Type::CloneSessionEntry(session)) => {
            let id = session.session_id;
            let all = wildcard(id)?;
            for (other, session) in &loaded.notes.clones {
                if all || *other == id {
                    give(Type::CloneSessionEntry(session.clone()));
                }
            }
            Ok(())
        }
        None => Err(Refusal::invalid(
            "the replication entry names neither multicast groups nor clone sessions",
        )),
    }
}
