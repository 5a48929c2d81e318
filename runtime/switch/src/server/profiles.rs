//! Action profiles: members, groups, and one-shots, whose members and groups are the server's own.

use std::collections::BTreeSet;

use signalbox_p4runtime::{
    Code,
    catalog::ProfileInfo,
    proto::p4::v1::{
        Action, ActionProfileActionSet, ActionProfileGroup, ActionProfileMember,
        action_profile_action, action_profile_action_set, action_profile_group, table_action,
        update,
    },
};

use super::{
    actions::{self, Use},
    binding::BoundTable,
    entries,
    refusal::{Outcome, Refusal},
    state::Loaded,
    write::{Target, note},
};
use crate::{ActionCall, ActionProfileId, EntryAction, GroupId, MemberId, Switch};

fn profile(loaded: &Loaded, id: u32) -> Outcome<(&ProfileInfo, ActionProfileId)> {
    match (
        loaded.catalog.profiles.get(id),
        loaded.binding.profiles.get(&id),
    ) {
        (Some(info), Some(core)) => Ok((info, *core)),
        _ => Err(Refusal::invalid(format!(
            "there is no action profile with id {id:#010x}"
        ))),
    }
}

/// Any table of the profile: all of them have the same actions.
fn a_table<'a>(loaded: &'a Loaded, info: &ProfileInfo) -> Outcome<&'a BoundTable> {
    let id = info.tables.first().copied().unwrap_or(0);
    entries::bound(loaded, id)
}

/// One-shots and hand-made members do not mix in a profile.
fn not_one_shot(loaded: &Loaded, id: u32) -> Outcome<()> {
    if loaded
        .notes
        .one_shots
        .range((id, 0)..=(id, u32::MAX))
        .next()
        .is_some()
    {
        return Err(Refusal::invalid(
            "its entries were written as one-shots, which do not mix with members and groups",
        ));
    }
    Ok(())
}

pub(super) fn write_member(
    t: &mut Target<'_>,
    kind: update::Type,
    member: &ActionProfileMember,
) -> Outcome<()> {
    let (info, core) = profile(t.loaded, member.action_profile_id)?;
    let place = format!("member {} of `{}`", member.member_id, info.alias);
    let id = MemberId(member.member_id);
    let write = |t: &mut Target<'_>| -> Outcome<()> {
        if member.member_id == 0 {
            return Err(Refusal::invalid("0 is not a member id"));
        }
        not_one_shot(t.loaded, member.action_profile_id)?;
        let old = || -> Outcome<ActionCall> {
            let members = t.switch.members(core)?;
            let found = members.into_iter().find(|(other, _)| *other == id);
            found
                .map(|(_, action)| action)
                .ok_or_else(|| Refusal::new(Code::NotFound, "it does not exist"))
        };
        if kind == update::Type::Delete {
            let old = old()?;
            t.switch.member_delete(core, id)?;
            note(&mut t.undo, move |switch, _| {
                switch.member_create(core, id, old)
            });
            return Ok(());
        }
        let (info, _) = profile(t.loaded, member.action_profile_id)?;
        let action = member
            .action
            .as_ref()
            .ok_or_else(|| Refusal::invalid("it has no action"))?;
        let action = actions::to_core(a_table(t.loaded, info)?, action, Use::Entry)?;
        match kind {
            update::Type::Insert => {
                t.switch.member_create(core, id, action)?;
                note(&mut t.undo, move |switch, _| switch.member_delete(core, id));
            }
            update::Type::Modify => {
                let old = old()?;
                t.switch.member_modify(core, id, action)?;
                note(&mut t.undo, move |switch, _| {
                    switch.member_modify(core, id, old)
                });
            }
            _ => return Err(Refusal::invalid("the update has no type")),
        }
        Ok(())
    };
    write(t).map_err(|refusal| refusal.at(&place))
}

pub(super) fn write_group(
    t: &mut Target<'_>,
    kind: update::Type,
    group: &ActionProfileGroup,
) -> Outcome<()> {
    let (info, core) = profile(t.loaded, group.action_profile_id)?;
    let (place, info) = (
        format!("group {} of `{}`", group.group_id, info.alias),
        info.clone(),
    );
    group_update(t, kind, group, &info, core).map_err(|refusal| refusal.at(&place))
}

fn group_update(
    t: &mut Target<'_>,
    kind: update::Type,
    group: &ActionProfileGroup,
    info: &ProfileInfo,
    core: ActionProfileId,
) -> Outcome<()> {
    if group.group_id == 0 {
        return Err(Refusal::invalid("0 is not a group id"));
    }
    if !info.selector {
        return Err(Refusal::invalid("the action profile has no selector"));
    }
    not_one_shot(t.loaded, group.action_profile_id)?;
    let (id, slot) = (
        GroupId(group.group_id),
        (group.action_profile_id, group.group_id),
    );
    let present = t.loaded.notes.groups.get(&slot).cloned();
    let missing = || Refusal::new(Code::NotFound, "it does not exist");
    match kind {
        update::Type::Insert => {
            if present.is_some() {
                return Err(Refusal::new(Code::AlreadyExists, "it exists already"));
            }
            let members = members_of(group, info)?;
            t.switch.group_create(core, id, &members)?;
            t.loaded.notes.groups.insert(slot, group.clone());
            note(&mut t.undo, move |switch, _| switch.group_delete(core, id));
        }
        update::Type::Modify => {
            let old = present.ok_or_else(missing)?;
            if group.max_size != old.max_size {
                return Err(Refusal::invalid(format!(
                    "`max_size` cannot change from {} to {}",
                    old.max_size, group.max_size
                )));
            }
            let members = members_of(group, info)?;
            t.switch.group_modify(core, id, &members)?;
            let before = members_of(&old, info)?;
            t.loaded.notes.groups.insert(slot, group.clone());
            note(&mut t.undo, move |switch, _| {
                switch.group_modify(core, id, &before)
            });
        }
        update::Type::Delete => {
            let old = present.ok_or_else(missing)?;
            let before = members_of(&old, info)?;
            t.switch.group_delete(core, id)?;
            t.loaded.notes.groups.remove(&slot);
            note(&mut t.undo, move |switch, _| {
                switch.group_create(core, id, &before)
            });
        }
        update::Type::Unspecified => return Err(Refusal::invalid("the update has no type")),
    }
    Ok(())
}

/// What a member's weight means to the core.
fn weight_of(weight: i32, info: &ProfileInfo) -> Outcome<u32> {
    if info.weights_disallowed {
        return match weight {
            0 => Ok(1),
            _ => Err(Refusal::invalid(format!(
                "weight {weight} is not 0: P4Info disallows weights"
            ))),
        };
    }
    if info.sum_of_members && info.max_member_weight > 0 && weight > info.max_member_weight {
        return Err(Refusal::invalid(format!(
            "weight {weight} is above P4Info's `max_member_weight` {}",
            info.max_member_weight
        )));
    }
    match u32::try_from(weight) {
        Ok(weight) if weight > 0 => Ok(weight),
        _ => Err(Refusal::invalid(format!("weight {weight} is not above 0"))),
    }
}

/// A group's size as P4Info counts it.
fn size_of(weights: impl Iterator<Item = u32>, info: &ProfileInfo) -> u64 {
    weights
        .map(|weight| {
            if info.sum_of_members {
                1
            } else {
                u64::from(weight)
            }
        })
        .sum()
}

fn members_of(group: &ActionProfileGroup, info: &ProfileInfo) -> Outcome<Vec<(MemberId, u32)>> {
    let mut seen = BTreeSet::new();
    let mut members = Vec::with_capacity(group.members.len());
    for member in &group.members {
        if !seen.insert(member.member_id) {
            return Err(Refusal::invalid(format!(
                "member {} is in it twice: give it a weight",
                member.member_id
            )));
        }
        let watched = match &member.watch_kind {
            Some(action_profile_group::member::WatchKind::WatchPort(port)) => !port.is_empty(),
            #[allow(deprecated, reason = "to refuse what is deprecated")]
            Some(action_profile_group::member::WatchKind::Watch(port)) => *port != 0,
            None => false,
        };
        if watched {
            return Err(Refusal::unimplemented("ports are not watched here"));
        }
        members.push((MemberId(member.member_id), weight_of(member.weight, info)?));
    }
    if info.max_group_size > 0 && !(1..=info.max_group_size).contains(&group.max_size) {
        return Err(Refusal::invalid(format!(
            "`max_size` is {}, and P4Info wants 1 to {}",
            group.max_size, info.max_group_size
        )));
    }
    if group.max_size < 0 {
        return Err(Refusal::invalid("`max_size` is negative"));
    }
    let size = size_of(members.iter().map(|(_, weight)| *weight), info);
    if group.max_size > 0 && size > u64::from(group.max_size.unsigned_abs()) {
        return Err(Refusal::new(
            Code::ResourceExhausted,
            format!(
                "its size is {size}, above its `max_size` {}",
                group.max_size
            ),
        ));
    }
    Ok(members)
}

/// What an entry of an indirect table points to; a one-shot is made here.
pub(super) fn entry_action(
    t: &mut Target<'_>,
    table_id: u32,
    profile_id: u32,
    action: &table_action::Type,
) -> Outcome<EntryAction> {
    let (info, core) = profile(t.loaded, profile_id)?;
    match action {
        table_action::Type::ActionProfileMemberId(id) => {
            not_one_shot(t.loaded, profile_id)?;
            Ok(EntryAction::Member(MemberId(*id)))
        }
        table_action::Type::ActionProfileGroupId(id) => {
            if !info.selector {
                return Err(Refusal::invalid("its action profile has no groups"));
            }
            not_one_shot(t.loaded, profile_id)?;
            Ok(EntryAction::Group(GroupId(*id)))
        }
        table_action::Type::ActionProfileActionSet(set) => {
            if !info.selector {
                return Err(Refusal::invalid(
                    "its action profile has no selector, which one-shots need",
                ));
            }
            one_shot(t, table_id, profile_id, core, set)
        }
        table_action::Type::Action(_) => Err(Refusal::invalid("it takes members and groups")),
    }
}

fn one_shot(
    t: &mut Target<'_>,
    table_id: u32,
    profile_id: u32,
    core: ActionProfileId,
    set: &ActionProfileActionSet,
) -> Outcome<EntryAction> {
    if set.group_action.is_some() {
        return Err(Refusal::unimplemented("group actions are not supported"));
    }
    let (info, _) = profile(t.loaded, profile_id)?;
    let info = info.clone();
    if !t.quirks.no_pi_extensions {
        check_semantics(set, &info)?;
    }
    let notes = &t.loaded.notes;
    let own: BTreeSet<u32> = notes
        .one_shots
        .range((profile_id, 0)..=(profile_id, u32::MAX))
        .flat_map(|((_, group), set)| one_shot_members(*group, set))
        .collect();
    let foreign = t
        .switch
        .members(core)?
        .iter()
        .any(|(member, _)| !own.contains(&member.0));
    if foreign {
        return Err(Refusal::invalid(
            "its action profile has members of its own, which do not mix with one-shots",
        ));
    }
    let table = entries::bound(t.loaded, table_id)?;
    let mut calls = Vec::with_capacity(set.action_profile_actions.len());
    for action in &set.action_profile_actions {
        let watched = match &action.watch_kind {
            Some(action_profile_action::WatchKind::WatchPort(port)) => !port.is_empty(),
            #[allow(deprecated, reason = "to refuse what is deprecated")]
            Some(action_profile_action::WatchKind::Watch(port)) => *port != 0,
            None => false,
        };
        if watched {
            return Err(Refusal::unimplemented("ports are not watched here"));
        }
        let given: &Action = action
            .action
            .as_ref()
            .ok_or_else(|| Refusal::invalid("an action of its one-shot is missing"))?;
        calls.push((
            actions::to_core(table, given, Use::Entry)?,
            weight_of(action.weight, &info)?,
        ));
    }
    let size = size_of(calls.iter().map(|(_, weight)| *weight), &info);
    if info.max_group_size > 0 && size > u64::from(info.max_group_size.unsigned_abs()) {
        let code = if t.quirks.no_pi_extensions {
            Code::ResourceExhausted
        } else {
            Code::InvalidArgument
        };
        return Err(Refusal::new(
            code,
            format!(
                "the size of its one-shot is {size}, above P4Info's `max_group_size` {}",
                info.max_group_size
            ),
        ));
    }
    let group = free_block(&own, calls.len())?;
    let mut members = Vec::with_capacity(calls.len());
    for (index, (call, weight)) in calls.into_iter().enumerate() {
        let id = MemberId(group.saturating_add(u32::try_from(index).unwrap_or(u32::MAX)));
        if let Err(error) = t.switch.member_create(core, id, call) {
            remove(t.switch, core, None, members.iter().map(|(id, _)| *id));
            return Err(error.into());
        }
        members.push((id, weight));
    }
    if let Err(error) = t.switch.group_create(core, GroupId(group), &members) {
        remove(t.switch, core, None, members.iter().map(|(id, _)| *id));
        return Err(error.into());
    }
    t.loaded
        .notes
        .one_shots
        .insert((profile_id, group), set.clone());
    note(&mut t.undo, move |switch, _| {
        remove(
            switch,
            core,
            Some(GroupId(group)),
            members.into_iter().map(|(id, _)| id),
        );
        Ok(())
    });
    Ok(EntryAction::Group(GroupId(group)))
}

/// Selectors hash, and count as P4Info says: what a one-shot asks for must be that.
fn check_semantics(set: &ActionProfileActionSet, info: &ProfileInfo) -> Outcome<()> {
    use action_profile_action_set::{ActionSelectionMode as Mode, SizeSemantics as Size};
    match Mode::try_from(set.action_selection_mode) {
        Ok(Mode::DefaultModeDeterminedByActionSelector | Mode::Hash) => {}
        Ok(Mode::Random) => {
            return Err(Refusal::unimplemented(
                "selectors hash here, and choose nothing at random",
            ));
        }
        Err(_) => {
            return Err(Refusal::invalid(format!(
                "there is no action selection mode {}",
                set.action_selection_mode
            )));
        }
    }
    let other = match Size::try_from(set.size_semantics) {
        Ok(Size::DefaultSizeDeterminedByActionSelector) => false,
        Ok(Size::SumOfWeights) => info.sum_of_members,
        Ok(Size::SumOfMembers) => !info.sum_of_members,
        Err(_) => {
            return Err(Refusal::invalid(format!(
                "there are no size semantics {}",
                set.size_semantics
            )));
        }
    };
    if other {
        return Err(Refusal::unimplemented(
            "the size of a group is counted as P4Info says, not group by group",
        ));
    }
    Ok(())
}

/// A one-shot's group has the number of its first member; the others follow.
fn one_shot_members(group: u32, set: &ActionProfileActionSet) -> std::ops::Range<u32> {
    let count = u32::try_from(set.action_profile_actions.len()).unwrap_or(u32::MAX);
    group..group.saturating_add(count.max(1))
}

/// The lowest free numbers in a row.
fn free_block(used: &BTreeSet<u32>, count: usize) -> Outcome<u32> {
    let count = u32::try_from(count.max(1)).unwrap_or(u32::MAX);
    let mut start = 1u32;
    for id in used {
        if id.saturating_sub(start) >= count {
            break;
        }
        start = id.saturating_add(1);
    }
    match start.checked_add(count) {
        Some(_) => Ok(start),
        None => Err(Refusal::new(
            Code::ResourceExhausted,
            "no member ids are left",
        )),
    }
}

fn remove(
    switch: &mut Switch,
    core: ActionProfileId,
    group: Option<GroupId>,
    members: impl Iterator<Item = MemberId>,
) {
    if let Some(group) = group {
        // What is not there need not be removed.
        let _ = switch.group_delete(core, group);
    }
    for member in members {
        let _ = switch.member_delete(core, member);
    }
}

/// Removes the members and group of a one-shot that no entry has any more.
pub(super) fn drop_one_shot(t: &mut Target<'_>, table_id: u32, action: &EntryAction) {
    let EntryAction::Group(group) = action else {
        return;
    };
    let Ok(table) = entries::bound(t.loaded, table_id) else {
        return;
    };
    let Some(profile_id) = table.info.profile else {
        return;
    };
    let Ok((_, core)) = profile(t.loaded, profile_id) else {
        return;
    };
    let Some(set) = t.loaded.notes.one_shots.remove(&(profile_id, group.0)) else {
        return;
    };
    let group = *group;
    let range = one_shot_members(group.0, &set);
    let old: Vec<(MemberId, ActionCall)> = t
        .switch
        .members(core)
        .unwrap_or_default()
        .into_iter()
        .filter(|(id, _)| range.contains(&id.0))
        .collect();
    let weights: Vec<u32> = set
        .action_profile_actions
        .iter()
        .map(|a| u32::try_from(a.weight).unwrap_or(1).max(1))
        .collect();
    remove(t.switch, core, Some(group), old.iter().map(|(id, _)| *id));
    note(&mut t.undo, move |switch, _| {
        let mut members = Vec::with_capacity(old.len());
        for ((id, action), weight) in old.into_iter().zip(weights) {
            switch.member_create(core, id, action)?;
            members.push((id, weight));
        }
        switch.group_create(core, group, &members)
    });
}

pub(super) fn read_members(
    switch: &Switch,
    loaded: &Loaded,
    filter: &ActionProfileMember,
    mut give: impl FnMut(ActionProfileMember),
) -> Outcome<()> {
    for id in profiles(loaded, filter.action_profile_id, filter.member_id)? {
        let (info, core) = profile(loaded, id)?;
        if not_one_shot(loaded, id).is_err() {
            continue;
        }
        let table = a_table(loaded, info)?;
        for (member, call) in switch.members(core)? {
            if filter.member_id == 0 || filter.member_id == member.0 {
                give(ActionProfileMember {
                    action_profile_id: id,
                    member_id: member.0,
                    action: actions::from_core(table, &call),
                });
            }
        }
    }
    Ok(())
}

pub(super) fn read_groups(
    loaded: &Loaded,
    filter: &ActionProfileGroup,
    mut give: impl FnMut(ActionProfileGroup),
) -> Outcome<()> {
    for id in profiles(loaded, filter.action_profile_id, filter.group_id)? {
        for group in loaded.notes.groups.range((id, 0)..=(id, u32::MAX)) {
            if filter.group_id == 0 || filter.group_id == group.1.group_id {
                give(group.1.clone());
            }
        }
    }
    Ok(())
}

fn profiles(loaded: &Loaded, id: u32, part: u32) -> Outcome<Vec<u32>> {
    if id != 0 {
        profile(loaded, id)?;
        return Ok(vec![id]);
    }
    if part != 0 {
        return Err(Refusal::invalid(
            "a read of all action profiles takes no member or group id",
        ));
    }
    Ok(loaded.catalog.profiles.iter().map(|p| p.id).collect())
}
