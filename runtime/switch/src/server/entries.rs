//! Table entries, default actions and direct resources: P4Runtime's messages ↔ the core's values.

use signalbox_p4runtime::{
    Code,
    proto::p4::v1::{
        CounterData, DirectCounterEntry, DirectMeterEntry, TableAction, TableEntry, table_action,
        table_entry::IdleTimeout, update,
    },
};

use super::{
    actions::{self, Use},
    arrays::{counter_message, counter_value, meter_message, meter_rates},
    binding::BoundTable,
    keys, profiles,
    refusal::{Outcome, Refusal},
    state::Loaded,
    write::{Target, note},
};
use crate::{Entry, EntryAction, EntryHandle, EntryView, Match, Micros, Switch, TableId};

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
fn key(table: &BoundTable, entry: &TableEntry) -> Outcome<Vec<Match>> {
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
        switch.table_modify(
            now,
            core,
            handle,
            old.entry.action.clone(),
            old.entry.idle_timeout,
            old.entry.metadata.clone(),
        )?;
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

fn restore_direct(
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
        None => Ok(switch.entry_meter_set(table, handle, None).unwrap_or(())),
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
    if entry.meter_config.is_some() {
        return Err(Refusal::unimplemented("the default entry has no meter"));
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
    let reset = action.is_none();
    let old = t.switch.table_default(core)?;
    let old_counter = t.switch.default_counter(core).ok();
    t.switch.table_set_default(core, action)?;
    if let Some(value) = counter
        .or(reset.then(Default::default))
        .filter(|_| table.has_counter)
    {
        t.switch.default_counter_set(core, value)?;
    }
    let metadata = if reset {
        Vec::new()
    } else {
        pack_metadata(entry)
    };
    t.loaded.notes.defaults.insert(entry.table_id, metadata);
    note(&mut t.undo, move |switch, _| {
        switch.table_set_default(core, old)?;
        match old_counter {
            Some(value) => switch.default_counter_set(core, value),
            None => Ok(()),
        }
    });
    Ok(())
}

fn find(switch: &Switch, table: TableId, key: &[Match], priority: i32) -> Outcome<EntryHandle> {
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

/// Rounded up, so that an entry never ages too early.
fn micros(ns: i64) -> Micros {
    u64::try_from(ns).unwrap_or(0).div_ceil(1000)
}

/// The controller's own data, and what the core's microseconds lose of the time-out, in one
/// string: read-write symmetry wants them back as they were.
fn pack_metadata(entry: &TableEntry) -> Vec<u8> {
    #[allow(deprecated, reason = "still to be returned as written")]
    let cookie = entry.controller_metadata;
    let surplus = entry.idle_timeout_ns % 1000;
    if cookie == 0 && surplus == 0 {
        if entry.metadata.is_empty() {
            return Vec::new();
        }
        let mut bytes = vec![0];
        bytes.extend_from_slice(&entry.metadata);
        return bytes;
    }
    let mut bytes = vec![1];
    bytes.extend_from_slice(&cookie.to_be_bytes());
    bytes.extend_from_slice(&entry.idle_timeout_ns.to_be_bytes());
    bytes.extend_from_slice(&entry.metadata);
    bytes
}

fn unpack_metadata(bytes: &[u8], entry: &mut TableEntry) {
    match bytes {
        [0, metadata @ ..] => entry.metadata = metadata.to_vec(),
        [1, rest @ ..] => {
            let Some((cookie, rest)) = rest.split_first_chunk::<8>() else {
                return;
            };
            let Some((timeout, metadata)) = rest.split_first_chunk::<8>() else {
                return;
            };
            #[allow(deprecated, reason = "still to be returned as written")]
            {
                entry.controller_metadata = u64::from_be_bytes(*cookie);
            }
            entry.idle_timeout_ns = i64::from_be_bytes(*timeout);
            entry.metadata = metadata.to_vec();
        }
        _ => {}
    }
}

/// What a reader wants of an entry beyond its definition.
#[derive(Clone, Copy, Default)]
struct Wanted {
    counter: bool,
    meter: bool,
    last_hit: bool,
}

/// Key, priority, time-out and metadata: what names an entry.
fn identity(table: &BoundTable, view: &EntryView) -> TableEntry {
    let mut entry = TableEntry {
        table_id: table.info.id,
        r#match: keys::from_core(&table.keys, &view.entry.key),
        priority: view.entry.priority,
        idle_timeout_ns: i64::try_from(view.entry.idle_timeout.saturating_mul(1000))
            .unwrap_or(i64::MAX),
        ..TableEntry::default()
    };
    unpack_metadata(&view.entry.metadata, &mut entry);
    entry
}

fn message(
    loaded: &Loaded,
    table: &BoundTable,
    view: &EntryView,
    now: Micros,
    wanted: Wanted,
) -> TableEntry {
    let mut entry = identity(table, view);
    entry.is_const = view.initial && table.info.is_const;
    entry.action = from_core_action(loaded, table, &view.entry.action);
    if wanted.counter {
        entry.counter_data = view.counter.map(counter_message);
    }
    if wanted.meter {
        entry.meter_config = view.meter.map(|rates| meter_message(&rates));
    }
    if wanted.last_hit {
        let elapsed = now.saturating_sub(view.last_hit).saturating_mul(1000);
        entry.time_since_last_hit = Some(IdleTimeout {
            elapsed_ns: i64::try_from(elapsed).unwrap_or(i64::MAX),
        });
    }
    entry
}

fn from_core_action(
    loaded: &Loaded,
    table: &BoundTable,
    action: &EntryAction,
) -> Option<TableAction> {
    let kind = match action {
        EntryAction::Call(call) => table_action::Type::Action(actions::from_core(table, call)?),
        EntryAction::Member(id) => table_action::Type::ActionProfileMemberId(id.0),
        EntryAction::Group(id) => match table
            .info
            .profile
            .and_then(|profile| loaded.notes.one_shots.get(&(profile, id.0)))
        {
            Some(set) => table_action::Type::ActionProfileActionSet(set.clone()),
            None => table_action::Type::ActionProfileGroupId(id.0),
        },
    };
    Some(TableAction { r#type: Some(kind) })
}

/// The entries that a filter selects.
pub(super) fn read(
    switch: &Switch,
    loaded: &Loaded,
    now: Micros,
    filter: &TableEntry,
    mut give: impl FnMut(TableEntry),
) -> Outcome<()> {
    let wanted = Wanted {
        counter: filter.counter_data.is_some(),
        meter: filter.meter_config.is_some(),
        last_hit: filter.time_since_last_hit.is_some(),
    };
    if filter.meter_counter_data.is_some() {
        return Err(Refusal::unimplemented("meters do not count by colour here"));
    }
    if filter.table_id == 0 {
        let bare = TableEntry {
            counter_data: filter.counter_data,
            meter_config: filter.meter_config,
            time_since_last_hit: filter.time_since_last_hit,
            ..TableEntry::default()
        };
        if *filter != bare {
            return Err(Refusal::invalid(
                "a read of all tables takes no other filter",
            ));
        }
        for info in loaded.catalog.tables.iter() {
            let table = bound(loaded, info.id)?;
            let wanted = Wanted {
                last_hit: wanted.last_hit && info.ages,
                ..wanted
            };
            all(switch, loaded, table, now, wanted, &mut give)?;
        }
        return Ok(());
    }
    let table = bound(loaded, filter.table_id)?;
    let place = format!("table `{}`", table.info.alias);
    if wanted.last_hit && !table.info.ages {
        return Err(Refusal::invalid(format!(
            "{place}: its entries do not age: the table has no `support_timeout`"
        )));
    }
    if filter.is_default_action {
        give(read_default(switch, loaded, table, filter)?);
        return Ok(());
    }
    if filter.r#match.is_empty() {
        return all(switch, loaded, table, now, wanted, |entry| {
            if selected(filter, &entry) {
                give(entry);
            }
        });
    }
    let key = keys::to_core(&table.info.alias, &table.keys, &filter.r#match)
        .map_err(|refusal| refusal.at(&place))?;
    let give_view = |view: &EntryView, give: &mut dyn FnMut(TableEntry)| {
        let entry = message(loaded, table, view, now, wanted);
        if selected(filter, &entry) {
            give(entry);
        }
    };
    if table.info.has_priority && filter.priority == 0 {
        for handle in switch.table_entries(table.core)? {
            let view = switch.table_get(table.core, handle)?;
            if keys::from_core(&table.keys, &view.entry.key) == keys::from_core(&table.keys, &key) {
                give_view(&view, &mut give);
            }
        }
        return Ok(());
    }
    if let Ok(handle) = switch.table_find(table.core, &key, filter.priority) {
        give_view(&switch.table_get(table.core, handle)?, &mut give);
    }
    Ok(())
}

fn all(
    switch: &Switch,
    loaded: &Loaded,
    table: &BoundTable,
    now: Micros,
    wanted: Wanted,
    mut give: impl FnMut(TableEntry),
) -> Outcome<()> {
    for handle in switch.table_entries(table.core)? {
        let view = switch.table_get(table.core, handle)?;
        give(message(loaded, table, &view, now, wanted));
    }
    Ok(())
}

fn selected(filter: &TableEntry, entry: &TableEntry) -> bool {
    use table_action::Type::Action;
    let action_id = |e: &TableEntry| match e.action.as_ref().and_then(|a| a.r#type.as_ref()) {
        Some(Action(action)) => action.action_id,
        _ => 0,
    };
    #[allow(deprecated, reason = "still a filter")]
    let cookie =
        filter.controller_metadata == 0 || filter.controller_metadata == entry.controller_metadata;
    cookie
        && (filter.priority == 0 || filter.priority == entry.priority)
        && (filter.metadata.is_empty() || filter.metadata == entry.metadata)
        && (action_id(filter) == 0 || action_id(filter) == action_id(entry))
}

fn read_default(
    switch: &Switch,
    loaded: &Loaded,
    table: &BoundTable,
    filter: &TableEntry,
) -> Outcome<TableEntry> {
    let mut entry = TableEntry {
        table_id: table.info.id,
        is_default_action: true,
        action: switch
            .table_default(table.core)?
            .and_then(|action| from_core_action(loaded, table, &action)),
        is_const: table.info.const_default_action.is_some(),
        ..TableEntry::default()
    };
    if let Some(bytes) = loaded.notes.defaults.get(&table.info.id) {
        unpack_metadata(bytes, &mut entry);
    }
    if filter.counter_data.is_some() && table.has_counter {
        entry.counter_data = Some(counter_message(switch.default_counter(table.core)?));
    }
    Ok(entry)
}

/// The entry that a notice is about; `None` if it has gone.
pub(super) fn of_notice(
    switch: &Switch,
    loaded: &Loaded,
    table: TableId,
    handle: EntryHandle,
    bare: bool,
) -> Option<TableEntry> {
    let bound = loaded
        .binding
        .tables
        .get(loaded.binding.table_ids.get(&table)?)?;
    let mut entry = identity(bound, &switch.table_get(table, handle).ok()?);
    if bare {
        entry.metadata = Vec::new();
    }
    Some(entry)
}

/// The entry that a direct resource belongs to; `None` means the default entry.
fn direct_owner<'a>(
    t: &'a Target<'_>,
    entry: Option<&TableEntry>,
) -> Outcome<(&'a BoundTable, Option<EntryHandle>)> {
    let entry = entry.ok_or_else(|| Refusal::invalid("it has no table entry"))?;
    let table = bound(t.loaded, entry.table_id)?;
    if entry.is_default_action {
        return Ok((table, None));
    }
    let handle = find(t.switch, table.core, &key(table, entry)?, entry.priority)
        .map_err(|refusal| refusal.at(&format!("table `{}`", table.info.alias)))?;
    Ok((table, Some(handle)))
}

pub(super) fn write_counter(
    t: &mut Target<'_>,
    kind: update::Type,
    direct: &DirectCounterEntry,
) -> Outcome<()> {
    if kind != update::Type::Modify {
        return Err(Refusal::invalid("a direct counter can only be modified"));
    }
    let (table, handle) = direct_owner(t, direct.table_entry.as_ref())?;
    if !table.has_counter {
        return Err(Refusal::invalid(format!(
            "table `{}` has no direct counter",
            table.info.alias
        )));
    }
    let Some(data) = &direct.data else {
        return Ok(());
    };
    let (core, value) = (table.core, counter_value(data)?);
    match handle {
        Some(handle) => {
            let old = t.switch.table_get(core, handle)?;
            t.switch.entry_counter_set(core, handle, value)?;
            note(&mut t.undo, move |switch, _| {
                let handle = switch.table_find(core, &old.entry.key, old.entry.priority)?;
                restore_direct(switch, core, handle, &old)
            });
        }
        None if t.quirks.no_pi_extensions => {
            return Err(Refusal::unimplemented(
                "simple_switch_grpc has no direct resources on default entries",
            ));
        }
        None => {
            let old = t.switch.default_counter(core)?;
            t.switch.default_counter_set(core, value)?;
            note(&mut t.undo, move |switch, _| {
                switch.default_counter_set(core, old)
            });
        }
    }
    Ok(())
}

pub(super) fn write_meter(
    t: &mut Target<'_>,
    kind: update::Type,
    direct: &DirectMeterEntry,
) -> Outcome<()> {
    if kind != update::Type::Modify {
        return Err(Refusal::invalid("a direct meter can only be modified"));
    }
    if direct.counter_data.is_some() {
        return Err(Refusal::unimplemented("meters do not count by colour here"));
    }
    let (table, handle) = direct_owner(t, direct.table_entry.as_ref())?;
    if !table.has_meter {
        return Err(Refusal::invalid(format!(
            "table `{}` has no direct meter",
            table.info.alias
        )));
    }
    let core = table.core;
    let Some(handle) = handle else {
        return Err(Refusal::unimplemented("the default entry has no meter"));
    };
    let rates = direct.config.as_ref().map(meter_rates).transpose()?;
    let old = t.switch.table_get(core, handle)?;
    t.switch.entry_meter_set(core, handle, rates)?;
    note(&mut t.undo, move |switch, _| {
        let handle = switch.table_find(core, &old.entry.key, old.entry.priority)?;
        switch.entry_meter_set(core, handle, old.meter)
    });
    Ok(())
}

/// The entries whose direct resource a filter selects, each with what names it.
fn read_direct(
    switch: &Switch,
    loaded: &Loaded,
    filter: Option<&TableEntry>,
    has: impl Fn(&BoundTable) -> bool,
    mut give: impl FnMut(&BoundTable, TableEntry, Option<EntryView>),
) -> Outcome<()> {
    let table_id = filter.map_or(0, |entry| entry.table_id);
    let mut of_table = |table: &BoundTable| -> Outcome<()> {
        for handle in switch.table_entries(table.core)? {
            let view = switch.table_get(table.core, handle)?;
            give(table, identity(table, &view), Some(view));
        }
        Ok(())
    };
    if table_id == 0 {
        for info in loaded.catalog.tables.iter() {
            let table = bound(loaded, info.id)?;
            if has(table) {
                of_table(table)?;
            }
        }
        return Ok(());
    }
    let table = bound(loaded, table_id)?;
    if !has(table) {
        return Err(Refusal::invalid(format!(
            "table `{}` has no such direct resource",
            table.info.alias
        )));
    }
    match filter {
        Some(entry) if entry.is_default_action => {
            let named = TableEntry {
                table_id,
                is_default_action: true,
                ..TableEntry::default()
            };
            give(table, named, None);
        }
        Some(entry) if !entry.r#match.is_empty() || entry.priority != 0 => {
            let place = format!("table `{}`", table.info.alias);
            let view = key(table, entry)
                .and_then(|key| find(switch, table.core, &key, entry.priority))
                .and_then(|handle| Ok(switch.table_get(table.core, handle)?))
                .map_err(|refusal| refusal.at(&place))?;
            give(table, identity(table, &view), Some(view));
        }
        _ => of_table(table)?,
    }
    Ok(())
}

pub(super) fn read_counters(
    switch: &Switch,
    loaded: &Loaded,
    filter: Option<&TableEntry>,
    mut give: impl FnMut(DirectCounterEntry),
) -> Outcome<()> {
    read_direct(
        switch,
        loaded,
        filter,
        |table| table.has_counter,
        |table, entry, view| {
            let data: Option<CounterData> = match view {
                Some(view) => view.counter.map(counter_message),
                None => switch.default_counter(table.core).ok().map(counter_message),
            };
            give(DirectCounterEntry {
                table_entry: Some(entry),
                data,
            });
        },
    )
}

pub(super) fn read_meters(
    switch: &Switch,
    loaded: &Loaded,
    filter: Option<&TableEntry>,
    mut give: impl FnMut(DirectMeterEntry),
) -> Outcome<()> {
    read_direct(
        switch,
        loaded,
        filter,
        |table| table.has_meter,
        |_, entry, view| {
            give(DirectMeterEntry {
                table_entry: Some(entry),
                config: view.and_then(|view| view.meter).map(|r| meter_message(&r)),
                counter_data: None,
            });
        },
    )
}
