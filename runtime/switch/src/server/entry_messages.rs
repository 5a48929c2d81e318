//! Reading table entries: the core's entries as messages, as they were written.

use signalbox_p4runtime::proto::p4::v1::{
    TableAction, TableEntry, table_action, table_entry::IdleTimeout,
};

use super::{
    actions,
    arrays::{counter_message, meter_message},
    binding::BoundTable,
    entries::bound,
    keys,
    refusal::{Outcome, Refusal},
    state::Loaded,
};
use crate::{EntryAction, EntryHandle, EntryView, Micros, Switch, TableId};

/// Rounded up, so that an entry never ages too early.
pub(super) fn micros(ns: i64) -> Micros {
    u64::try_from(ns).unwrap_or(0).div_ceil(1000)
}

/// The controller's own data, and what the core's microseconds lose of the time-out, in one
/// string: read-write symmetry wants them back as they were.
pub(super) fn pack_metadata(entry: &TableEntry) -> Vec<u8> {
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
pub(super) fn identity(table: &BoundTable, view: &EntryView) -> TableEntry {
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

/// An entry with all that can be written, its direct resources included.
pub(super) fn whole(
    loaded: &Loaded,
    table: &BoundTable,
    view: &EntryView,
    now: Micros,
) -> TableEntry {
    let wanted = Wanted {
        counter: table.has_counter,
        meter: table.has_meter,
        last_hit: false,
    };
    let mut entry = message(loaded, table, view, now, wanted);
    entry.is_const = false;
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
    if filter.meter_config.is_some() && table.has_meter {
        let rates = switch.default_meter(table.core)?;
        entry.meter_config = rates.map(|rates| meter_message(&rates));
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
