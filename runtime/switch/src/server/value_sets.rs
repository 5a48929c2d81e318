//! Parser value sets: written as a whole, read as a whole.

use signalbox_p4runtime::{
    Code,
    proto::p4::v1::{ValueSetEntry, ValueSetMember, update},
};

use super::{
    keys,
    refusal::{Outcome, Refusal},
    state::Loaded,
    write::{Target, note},
};
use crate::{Match, Switch, ValueSetId};

fn unknown(id: u32) -> Refusal {
    Refusal::invalid(format!("there is no value set with id {id:#010x}"))
}

pub(super) fn write(t: &mut Target<'_>, kind: update::Type, entry: &ValueSetEntry) -> Outcome<()> {
    if t.quirks.no_pi_extensions {
        return Err(Refusal::unimplemented(
            "ValueSet writes are not supported yet",
        ));
    }
    if kind != update::Type::Modify {
        return Err(Refusal::invalid("a value set can only be modified"));
    }
    let id = entry.value_set_id;
    let info = t.loaded.catalog.value_sets.get(id);
    let bound = t.loaded.binding.value_sets.get(&id);
    let (Some(info), Some((core, bound_keys))) = (info, bound) else {
        return Err(unknown(id));
    };
    let (core, place) = (*core, format!("value set `{}`", info.alias));
    let size = usize::try_from(info.size).unwrap_or(0);
    if entry.members.len() > size {
        return Err(Refusal::new(
            Code::ResourceExhausted,
            format!(
                "{place}: {} members do not fit into {size}",
                entry.members.len()
            ),
        ));
    }
    let mut wanted: Vec<Vec<Match>> = Vec::with_capacity(entry.members.len());
    for member in &entry.members {
        let member = keys::to_core(&info.alias, bound_keys, &member.r#match)?;
        if wanted.contains(&member) {
            return Err(Refusal::new(
                Code::AlreadyExists,
                format!("{place}: a member is in it twice"),
            ));
        }
        wanted.push(member);
    }
    let old = t.switch.value_set_members(core)?;
    if let Err(error) = replace(t.switch, core, &old, &wanted) {
        // Back to what was there; that fitted before.
        let now = t.switch.value_set_members(core)?;
        replace(t.switch, core, &now, &old)?;
        return Err(Refusal::from(error).at(&place));
    }
    note(&mut t.undo, move |switch, _| {
        let now = switch.value_set_members(core)?;
        replace(switch, core, &now, &old)
    });
    Ok(())
}

fn replace(
    switch: &mut Switch,
    set: ValueSetId,
    old: &[Vec<Match>],
    new: &[Vec<Match>],
) -> Result<(), crate::ControlError> {
    for member in old {
        if !new.contains(member) {
            switch.value_set_delete(set, member)?;
        }
    }
    for member in new {
        if !old.contains(member) {
            switch.value_set_insert(set, member.clone())?;
        }
    }
    Ok(())
}

pub(super) fn read(
    switch: &Switch,
    loaded: &Loaded,
    filter: &ValueSetEntry,
    mut give: impl FnMut(ValueSetEntry),
) -> Outcome<()> {
    let ids: Vec<u32> = match filter.value_set_id {
        0 => loaded.catalog.value_sets.iter().map(|v| v.id).collect(),
        id => vec![id],
    };
    for id in ids {
        let (core, bound_keys) = loaded
            .binding
            .value_sets
            .get(&id)
            .ok_or_else(|| unknown(id))?;
        give(ValueSetEntry {
            value_set_id: id,
            members: switch
                .value_set_members(*core)?
                .iter()
                .map(|member| ValueSetMember {
                    r#match: keys::from_core(bound_keys, member),
                })
                .collect(),
        });
    }
    Ok(())
}
