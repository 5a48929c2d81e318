//! Direct counters and meters as entities of their own: cells that belong to table entries.

use signalbox_p4runtime::proto::p4::v1::{
    CounterData, DirectCounterEntry, DirectMeterEntry, TableEntry, update,
};

use super::{
    arrays::{counter_message, counter_value, meter_message, meter_rates},
    binding::BoundTable,
    entries::{bound, find, key, restore_direct},
    entry_messages::identity,
    refusal::{Outcome, Refusal},
    state::Loaded,
    write::{Target, note},
};
use crate::{EntryHandle, EntryView, Switch};

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
    let rates = direct.config.as_ref().map(meter_rates).transpose()?;
    let Some(handle) = handle else {
        if t.quirks.no_pi_extensions {
            return Err(Refusal::unimplemented(
                "simple_switch_grpc has no direct resources on default entries",
            ));
        }
        let old = t.switch.default_meter(core)?;
        t.switch.default_meter_set(core, rates)?;
        note(&mut t.undo, move |switch, _| {
            switch.default_meter_set(core, old)
        });
        return Ok(());
    };
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
        |table, entry, view| {
            let rates = match view {
                Some(view) => view.meter,
                None => switch.default_meter(table.core).ok().flatten(),
            };
            give(DirectMeterEntry {
                table_entry: Some(entry),
                config: rates.map(|rates| meter_message(&rates)),
                counter_data: None,
            });
        },
    )
}
