//! Writing table entries and default actions: what must hold of a message, and what the core gets.

use signalbox_p4runtime::{
    Code,
    proto::p4::v1::{TableEntry, table_action, update},
};

use super::{
    actions::{self, Use},
    arrays::{counter_value, meter_rates},
    binding::BoundTable,
    entry_messages::{micros, pack_metadata},
    keys, profiles,
    refusal::{Outcome, Refusal},
    state::Loaded,
    write::{Target, note},
};
use crate::{Entry, EntryAction, EntryHandle, EntryView, Match, Switch, TableId};

/// A table by its P4Info id.
pub(super) fn bound(loaded: &Loaded, table_id: u32) -> Outcome<&BoundTable> {
    loaded.binding.tables.get(&table_id).ok_or_else(|| {
        Refusal::invalid(if table_id == 0 {
            "the entry has no table id".to_owned()
        } else {
            format!("there is no table with id {table_id:#010x}")
        })
    })
}

pub(super) fn write(t: &mut Target<'_>, kind: update::Type, entry: &TableEntry) -> Outcome<()> {
    let table = bound(t.loaded, entry.table_id)?;
    let place = format!("table `{}`", table.info.alias);
    let outcome = if entry.is_default_action {
        write_default(t, kind, entry)
    } else {
        match kind {
            update::Type::Insert => insert(t, entry),
            update::Type::Modify => modify(t, entry),
            update::Type::Delete => delete(t, entry),
            update::Type::Unspecified => Err(Refusal::invalid("the update has no type")),
        }
    };
    outcome.map_err(|refusal| refusal.at(&place))
}

/// What of an entry's message must hold whatever the update.
fn check(t: &Target<'_>, entry: &TableEntry) -> Outcome<()> {
    let table = bound(t.loaded, entry.table_id)?;
    if entry.is_const {
        return Err(Refusal::invalid("`is_const` is for the device to set"));
    }
    if entry.time_since_last_hit.is_some() {
        return Err(Refusal::invalid(
            "`time_since_last_hit` is only for reading",
        ));
    }
    if entry.idle_timeout_ns < 0 {
        return Err(Refusal::invalid("`idle_timeout_ns` is negative"));
    }
    if entry.idle_timeout_ns != 0 && !table.info.ages {
        return Err(Refusal::invalid(
            "its entries do not age: the table has no `support_timeout`",
        ));
    }
    if entry.meter_config.is_some() && !table.has_meter {
        return Err(Refusal::invalid("it has no direct meter"));
    }
    if entry.counter_data.is_some() && !table.has_counter {
        return Err(Refusal::invalid("it has no direct counter"));
    }
    if entry.meter_counter_data.is_some() {
        return Err(Refusal::unimplemented("meters do not count by colour here"));
    }
    Ok(())
}

/// Key and priority as the core has them.
pub(super) fn key(table: &BoundTable, entry: &TableEntry) -> Outcome<Vec<Match>> {
    match (table.info.has_priority, entry.priority) {
        (true, ..=0) => {
            return Err(Refusal::invalid(format!(
                "priority {} is not above 0, as ternary, range and optional keys need it",
                entry.priority
            )));
        }
        (false, priority) if priority != 0 => {
            return Err(Refusal::invalid(format!(
                "priority {priority} is not 0, as exact and lpm keys need it"
            )));
        }
        _ => {}
    }
    keys::to_core(&table.info.alias, &table.keys, &entry.r#match)
}

fn not_immutable(t: &Target<'_>, table: &BoundTable) -> Outcome<()> {
    if table.info.is_const {
        return Err(Refusal::denied("its entries are constant"));
    }
    if t.quirks.no_pi_extensions && table.initial {
        return Err(Refusal::denied(
            "simple_switch_grpc takes a table with initial entries for constant",
        ));
    }
    Ok(())
}

fn insert(t: &mut Target<'_>, entry: &TableEntry) -> Outcome<()> {
    check(t, entry)?;
    let table = bound(t.loaded, entry.table_id)?;
    not_immutable(t, table)?;
    if table.keys.is_empty() {
        return Err(Refusal::invalid(
            "it has no key, so it has no entries but the default one",
        ));
    }
    let (core, key) = (table.core, key(table, entry)?);
    let rates = entry.meter_config.as_ref().map(meter_rates).transpose()?;
    let counter = entry.counter_data.as_ref().map(counter_value).transpose()?;
    let Some(action) = entry.action.as_ref().and_then(|a| a.r#type.as_ref()) else {
        return Err(Refusal::invalid("the entry has no action"));
    };
    // Looked for first, so that a one-shot makes no members for an entry that is there already.
    if t.switch.table_find(core, &key, entry.priority).is_ok() {
        return Err(Refusal::new(
            Code::AlreadyExists,
            "an entry with this key is there already: modify it",
        ));
    }
    let action = to_core_action(t, entry.table_id, action)?;
    let written = Entry {
        key: key.clone(),
        priority: entry.priority,
        action: action.clone(),
        idle_timeout: micros(entry.idle_timeout_ns),
        metadata: pack_metadata(entry),
    };
    let handle = match t.switch.table_insert(t.now, core, written) {
        Ok(handle) => handle,
        Err(error) => {
            profiles::drop_one_shot(t, entry.table_id, &action);
            return Err(full(t, error.into()));
        }
    };
    if let Some(rates) = rates {
        t.switch.entry_meter_set(core, handle, Some(rates))?;
    }
    if let Some(value) = counter {
        t.switch.entry_counter_set(core, handle, value)?;
    }
    let priority = entry.priority;
    note(&mut t.undo, move |switch, _| {
        let handle = switch.table_find(core, &key, priority)?;
        switch.table_delete(core, handle)
    });
    Ok(())
}

/// simple_switch_grpc does not say why its switch refused an entry.
fn full(t: &Target<'_>, refusal: Refusal) -> Refusal {
    if t.quirks.no_pi_extensions && refusal.code == Code::ResourceExhausted {
        return Refusal::new(Code::Unknown, "Error when adding match entry to target");
    }
    refusal
}

fn modify(t: &mut Target<'_>, entry: &TableEntry) -> Outcome<()> {
    check(t, entry)?;
    let table = bound(t.loaded, entry.table_id)?;
    let (core, has_meter) = (table.core, table.has_meter);
    let key = key(table, entry)?;
    let handle = find(t.switch, core, &key, entry.priority)?;
    let immutable = not_immutable(t, table);
    let rates = entry.meter_config.as_ref().map(meter_rates).transpose()?;
    let counter = entry.counter_data.as_ref().map(counter_value).transpose()?;
    let old = t.switch.table_get(core, handle)?;
    let mut replaced = None;
    let writable = immutable.is_ok();

    let given = entry.action.as_ref().and_then(|a| a.r#type.as_ref());
    match (given, immutable) {
        (Some(_), Err(refusal)) => return Err(refusal),
        (None, Err(_)) => {}
        (given, Ok(())) => {
            let action = match given {
                Some(given) => to_core_action(t, entry.table_id, given)?,
                None => old.entry.action.clone(),
            };
            let written = t.switch.table_modify(
                t.now,
                core,
                handle,
                action.clone(),
                micros(entry.idle_timeout_ns),
                pack_metadata(entry),
            );
            if let Err(error) = written {
                if action != old.entry.action {
                    profiles::drop_one_shot(t, entry.table_id, &action);
                }
                return Err(full(t, error.into()));
            }
            replaced = (action != old.entry.action).then(|| old.entry.action.clone());
        }
    }
    // Noted before the old one-shot goes: taking back is in reverse, and an entry needs its group.
    note(&mut t.undo, move |switch, now| {
        let handle = switch.table_find(core, &old.entry.key, old.entry.priority)?;
        // Of a constant entry only the direct resources were changed.
        if writable {
            switch.table_modify(
                now,
                core,
                handle,
                old.entry.action.clone(),
                old.entry.idle_timeout,
                old.entry.metadata.clone(),
            )?;
        }
        restore_direct(switch, core, handle, &old)
    });
    if let Some(action) = replaced {
        profiles::drop_one_shot(t, entry.table_id, &action);
    }
    if has_meter {
        t.switch.entry_meter_set(core, handle, rates)?;
    }
    if let Some(value) = counter {
        t.switch.entry_counter_set(core, handle, value)?;
    }
    Ok(())
}

fn delete(t: &mut Target<'_>, entry: &TableEntry) -> Outcome<()> {
    let table = bound(t.loaded, entry.table_id)?;
    if entry.is_const {
        return Err(Refusal::invalid("`is_const` is for the device to set"));
    }
    not_immutable(t, table)?;
    let core = table.core;
    let key = key(table, entry)?;
    let handle = find(t.switch, core, &key, entry.priority)?;
    let old = t.switch.table_get(core, handle)?;
    t.switch.table_delete(core, handle)?;
    let action = old.entry.action.clone();
    note(&mut t.undo, move |switch, now| {
        let handle = switch.table_insert(now, core, old.entry.clone())?;
        restore_direct(switch, core, handle, &old)
    });
    profiles::drop_one_shot(t, entry.table_id, &action);
    Ok(())
}

pub(super) fn restore_direct(
    switch: &mut Switch,
    table: TableId,
    handle: EntryHandle,
    old: &EntryView,
) -> Result<(), crate::ControlError> {
    if let Some(counter) = old.counter {
        switch.entry_counter_set(table, handle, counter)?;
    }
    match old.meter {
        Some(_) => switch.entry_meter_set(table, handle, old.meter),
        // A table without meters refuses, and has nothing to be restored.
        None => {
            let _ = switch.entry_meter_set(table, handle, None);
            Ok(())
        }
    }
}

fn write_default(t: &mut Target<'_>, kind: update::Type, entry: &TableEntry) -> Outcome<()> {
    if kind != update::Type::Modify {
        return Err(Refusal::invalid(
            "the default entry is always there: it can only be modified",
        ));
    }
    check(t, entry)?;
    let table = bound(t.loaded, entry.table_id)?;
    if !entry.r#match.is_empty() || entry.priority != 0 {
        return Err(Refusal::invalid(
            "the default entry has neither match fields nor priority",
        ));
    }
    if entry.idle_timeout_ns != 0 {
        return Err(Refusal::invalid("the default entry does not age"));
    }
    if t.quirks.no_pi_extensions && (entry.counter_data.is_some() || entry.meter_config.is_some()) {
        return Err(Refusal::unimplemented(
            "simple_switch_grpc has no direct resources on default entries",
        ));
    }
    if table.info.profile.is_some() {
        // "Default Entry": constant for tables with an action profile.
        let code = if t.quirks.no_pi_extensions {
            Code::InvalidArgument
        } else {
            Code::PermissionDenied
        };
        return Err(Refusal::new(
            code,
            "it has an action profile, so its default action is constant",
        ));
    }
    let core = table.core;
    let action = match entry.action.as_ref().and_then(|a| a.r#type.as_ref()) {
        None => None,
        Some(table_action::Type::Action(action)) => Some(EntryAction::Call(actions::to_core(
            table,
            action,
            Use::Default,
        )?)),
        Some(_) => {
            return Err(Refusal::invalid(
                "the default entry takes an action, not a member or group",
            ));
        }
    };
    if table.info.const_default_action.is_some() {
        return Err(Refusal::denied("its default action is constant"));
    }
    let counter = entry.counter_data.as_ref().map(counter_value).transpose()?;
    let rates = entry.meter_config.as_ref().map(meter_rates).transpose()?;
    let reset = action.is_none();
    let old = t.switch.table_default(core)?;
    let old_meter = t.switch.default_meter(core).ok();
    let old_counter = t.switch.default_counter(core).ok();
    t.switch.table_set_default(core, action)?;
    if let Some(value) = counter
        .or(reset.then(Default::default))
        .filter(|_| table.has_counter)
    {
        t.switch.default_counter_set(core, value)?;
    }
    if table.has_meter {
        t.switch.default_meter_set(core, rates)?;
    }
    let defaults = &mut t.loaded.notes.defaults;
    if reset {
        defaults.remove(&entry.table_id);
    } else {
        defaults.insert(entry.table_id, pack_metadata(entry));
    }
    note(&mut t.undo, move |switch, _| {
        switch.table_set_default(core, old)?;
        if let Some(value) = old_counter {
            switch.default_counter_set(core, value)?;
        }
        match old_meter {
            Some(rates) => switch.default_meter_set(core, rates),
            None => Ok(()),
        }
    });
    Ok(())
}

pub(super) fn find(
    switch: &Switch,
    table: TableId,
    key: &[Match],
    priority: i32,
) -> Outcome<EntryHandle> {
    switch.table_find(table, key, priority).map_err(|error| {
        let refusal = Refusal::from(error);
        if refusal.code == Code::NotFound {
            return Refusal::new(Code::NotFound, "there is no entry with this key");
        }
        refusal
    })
}

fn to_core_action(
    t: &mut Target<'_>,
    table_id: u32,
    action: &table_action::Type,
) -> Outcome<EntryAction> {
    let table = bound(t.loaded, table_id)?;
    match (action, table.info.profile) {
        (table_action::Type::Action(action), None) => Ok(EntryAction::Call(actions::to_core(
            table,
            action,
            Use::Entry,
        )?)),
        (table_action::Type::Action(_), Some(_)) => Err(Refusal::invalid(
            "it takes members and groups of its action profile, not actions",
        )),
        (_, None) => Err(Refusal::invalid(
            "it has no action profile: it takes actions, not members and groups",
        )),
        (action, Some(profile)) => profiles::entry_action(t, table_id, profile, action),
    }
}
