//! RECONCILE_AND_COMMIT: what controllers wrote and packets counted goes over to the new program.
//!
//! Only what was really set goes over, so that a program may change what nobody touched: entries of
//! the program itself as their difference to what it started with, defaults only if somebody wrote
//! them, cells only if they are not zero. Counts are no forwarding state: they end where the new
//! program does not count.

use signalbox_p4runtime::{
    RpcError,
    proto::p4::v1::{
        CounterData, CounterEntry, DirectCounterEntry, DirectMeterEntry, Entity, FieldMatch,
        P4Data, RegisterEntry, TableEntry, Update, entity::Entity as E, p4_data, update,
    },
};

use super::{
    binding::BoundTable,
    entry_messages, keys,
    pipeline::{Candidate, invalid},
    read,
    refusal::Outcome,
    state::{DeviceState, Loaded},
    write::{self, Target},
};
use crate::{CounterValue, Entry, EntryView, Micros, Quirks, Switch};

impl DeviceState {
    /// Takes over the running state: builds the new switch beside the old one, and changes over only
    /// when all that is in the old one fitted into it.
    pub(super) fn reconcile(
        &mut self,
        switch: &mut Switch,
        now: Micros,
        candidate: Candidate,
    ) -> Result<(), RpcError> {
        if let Some(running) = &mut self.running {
            let new = candidate.config();
            if running.config.p4info == new.p4info
                && running.config.p4_device_config == new.p4_device_config
            {
                running.config.cookie = new.cookie;
                self.saved = None;
                return Ok(());
            }
        }
        let mut fresh = Switch::new(switch.config().clone());
        let mut loaded = candidate.start(&mut fresh);
        if let Some(running) = &self.running {
            let old = Side {
                switch,
                loaded: running,
            };
            let updates = old.updates(
                &Side {
                    switch: &fresh,
                    loaded: &loaded,
                },
                now,
            )?;
            let mut target = Target {
                switch: &mut fresh,
                loaded: &mut loaded,
                now,
                // What a target cannot be told over P4Runtime is no reason to lose it.
                quirks: Quirks::default(),
                undo: None,
            };
            for update in updates {
                write::apply(&mut target, &update).map_err(|refusal| {
                    invalid(format!(
                        "the running state does not fit into the new pipeline: {}: {}",
                        running.catalog.describe_update(&update),
                        refusal.message
                    ))
                })?;
            }
        }
        *switch = fresh;
        self.running = Some(loaded);
        self.saved = None;
        Ok(())
    }
}

/// A pipeline with its switch: the old one or the new one.
struct Side<'a> {
    switch: &'a Switch,
    loaded: &'a Loaded,
}

fn update(kind: update::Type, entity: E) -> Update {
    Update {
        r#type: kind as i32,
        entity: Some(Entity {
            entity: Some(entity),
        }),
    }
}

/// The program's entry with these match fields, whatever its priority, which depends on how many
/// entries follow it.
fn with_match<'a>(
    entries: &'a [(Vec<FieldMatch>, Entry)],
    wanted: &[FieldMatch],
) -> Option<&'a Entry> {
    let found = entries.iter().find(|(fields, _)| fields == wanted);
    found.map(|(_, entry)| entry)
}

impl Side<'_> {
    /// The updates that bring this side's state to the new one: what others refer to comes first.
    fn updates(&self, new: &Side<'_>, now: Micros) -> Result<Vec<Update>, RpcError> {
        use signalbox_p4runtime::proto::p4::v1::{
            ActionProfileGroup, ActionProfileMember, DigestEntry, MeterEntry,
            PacketReplicationEngineEntry, ValueSetEntry, packet_replication_engine_entry as pre,
        };
        let before = [
            E::PacketReplicationEngineEntry(PacketReplicationEngineEntry {
                r#type: Some(pre::Type::MulticastGroupEntry(Default::default())),
            }),
            E::PacketReplicationEngineEntry(PacketReplicationEngineEntry {
                r#type: Some(pre::Type::CloneSessionEntry(Default::default())),
            }),
            E::ActionProfileMember(ActionProfileMember::default()),
            E::ActionProfileGroup(ActionProfileGroup::default()),
        ];
        let after = [
            E::DigestEntry(DigestEntry::default()),
            E::ValueSetEntry(ValueSetEntry::default()),
            E::MeterEntry(MeterEntry::default()),
            E::CounterEntry(CounterEntry::default()),
            E::RegisterEntry(RegisterEntry::default()),
        ];
        let mut found = self.others(&before, new, now)?;
        for info in self.loaded.catalog.tables.iter() {
            let (old, new_table) = (
                self.loaded.binding.tables.get(&info.id),
                new.loaded.binding.tables.get(&info.id),
            );
            if let Some(old) = old {
                let initial = match new_table {
                    Some(table) => new.initial(table)?,
                    None => Vec::new(),
                };
                self.entries(old, new_table, &initial, now, &mut found)?;
                self.default_entry(old, new_table, now, &mut found)?;
            }
        }
        found.extend(self.others(&after, new, now)?);
        Ok(found)
    }

    /// What a program's table starts with, by match fields.
    fn initial(&self, table: &BoundTable) -> Outcome<Vec<(Vec<FieldMatch>, Entry)>> {
        let entries = self.switch.table_initial(table.core)?;
        Ok(entries
            .into_iter()
            .map(|entry| (keys::from_core(&table.keys, &entry.key), entry))
            .collect())
    }

    /// All that is no part of a table and was set.
    fn others(&self, filters: &[E], new: &Side<'_>, now: Micros) -> Result<Vec<Update>, RpcError> {
        let mut found: Vec<Entity> = Vec::new();
        for filter in filters {
            read::one(
                self.switch,
                self.loaded,
                now,
                Quirks::default(),
                Some(filter),
                &mut found,
            )?;
        }
        let set = |entity: E| {
            let kind = match &entity {
                E::CounterEntry(entry)
                    if entry.data == Some(CounterData::default()) || !new.counts(entry) =>
                {
                    return None;
                }
                E::MeterEntry(entry) if entry.config.is_none() => return None,
                E::ValueSetEntry(set) if set.members.is_empty() => return None,
                E::RegisterEntry(entry) if is_zero(entry) => return None,
                E::CounterEntry(_)
                | E::MeterEntry(_)
                | E::RegisterEntry(_)
                | E::ValueSetEntry(_) => update::Type::Modify,
                _ => update::Type::Insert,
            };
            Some(update(kind, entity))
        };
        Ok(found.into_iter().filter_map(|e| set(e.entity?)).collect())
    }

    fn counts(&self, cell: &CounterEntry) -> bool {
        let index = cell.index.as_ref().map_or(0, |index| index.index);
        let counter = self.loaded.catalog.counters.get(cell.counter_id);
        counter.is_some_and(|counter| index < counter.size)
    }

    /// A table's entries: those of controllers, and what became of the program's own.
    fn entries(
        &self,
        table: &BoundTable,
        new: Option<&BoundTable>,
        new_initial: &[(Vec<FieldMatch>, Entry)],
        now: Micros,
        found: &mut Vec<Update>,
    ) -> Outcome<()> {
        let initial = self.initial(table)?;
        let mut present = Vec::new();
        for handle in self.switch.table_entries(table.core)? {
            let view = self.switch.table_get(table.core, handle)?;
            let mut entry = entry_messages::whole(self.loaded, table, &view, now);
            let own = with_match(&initial, &entry.r#match)
                .filter(|own| own.priority == view.entry.priority);
            let successor = with_match(new_initial, &entry.r#match);
            if own.is_some() {
                present.push(entry.r#match.clone());
            }
            if own.is_some_and(|own| *own == view.entry) {
                // Untouched: the new program says what becomes of it. What it counted stays with it.
                if let (Some(new), Some(successor)) = (new, successor) {
                    found.extend(direct_only(entry, &view, new, successor));
                }
                continue;
            }
            if !new.is_some_and(|new| new.has_counter)
                || view.counter == Some(CounterValue::default())
            {
                entry.counter_data = None;
            }
            let kind = match successor {
                Some(successor) if own.is_some() || successor.priority == entry.priority => {
                    entry.priority = successor.priority;
                    update::Type::Modify
                }
                _ => update::Type::Insert,
            };
            found.push(update(kind, E::TableEntry(entry)));
        }
        for (fields, _) in initial {
            if present.contains(&fields) {
                continue;
            }
            if let Some(successor) = with_match(new_initial, &fields) {
                let entry = TableEntry {
                    table_id: table.info.id,
                    r#match: fields,
                    priority: successor.priority,
                    ..TableEntry::default()
                };
                found.push(update(update::Type::Delete, E::TableEntry(entry)));
            }
        }
        Ok(())
    }

    /// The default action if somebody wrote it, the default entry's meter and what it counted.
    fn default_entry(
        &self,
        table: &BoundTable,
        new: Option<&BoundTable>,
        now: Micros,
        found: &mut Vec<Update>,
    ) -> Result<(), RpcError> {
        let named = TableEntry {
            table_id: table.info.id,
            is_default_action: true,
            ..TableEntry::default()
        };
        if self.loaded.notes.defaults.contains_key(&table.info.id) {
            let mut read = Vec::new();
            read::one(
                self.switch,
                self.loaded,
                now,
                Quirks::default(),
                Some(&E::TableEntry(named.clone())),
                &mut read,
            )?;
            let written = read.into_iter().filter_map(|e| e.entity);
            found.extend(written.map(|entity| update(update::Type::Modify, entity)));
        }
        let rates = match table.has_meter {
            true => self.switch.default_meter(table.core).ok().flatten(),
            false => None,
        };
        if let Some(rates) = rates {
            let entry = DirectMeterEntry {
                table_entry: Some(named.clone()),
                config: Some(super::arrays::meter_message(&rates)),
                counter_data: None,
            };
            found.push(update(update::Type::Modify, E::DirectMeterEntry(entry)));
        }
        if table.has_counter && new.is_some_and(|new| new.has_counter) {
            let counted = self.switch.default_counter(table.core).unwrap_or_default();
            if counted != CounterValue::default() {
                let entry = DirectCounterEntry {
                    table_entry: Some(named),
                    data: Some(super::arrays::counter_message(counted)),
                };
                found.push(update(update::Type::Modify, E::DirectCounterEntry(entry)));
            }
        }
        Ok(())
    }
}

/// The direct resources of an entry that is the program's own in both programs.
fn direct_only(
    entry: TableEntry,
    view: &EntryView,
    new: &BoundTable,
    successor: &Entry,
) -> Option<Update> {
    let counter_data = entry
        .counter_data
        .filter(|_| new.has_counter && view.counter != Some(CounterValue::default()));
    let meter_config = entry.meter_config.filter(|_| new.has_meter);
    if counter_data.is_none() && meter_config.is_none() {
        return None;
    }
    let entry = TableEntry {
        table_id: entry.table_id,
        r#match: entry.r#match,
        priority: successor.priority,
        counter_data,
        meter_config,
        ..TableEntry::default()
    };
    Some(update(update::Type::Modify, E::TableEntry(entry)))
}

/// Whether a register's cell is as it was at the start.
fn is_zero(entry: &RegisterEntry) -> bool {
    fn zero(data: &P4Data) -> bool {
        use p4_data::Data;
        match &data.data {
            Some(Data::Bitstring(bytes)) => bytes.iter().all(|byte| *byte == 0),
            Some(Data::Bool(value)) => !value,
            Some(Data::Tuple(tuple)) => tuple.members.iter().all(zero),
            Some(Data::Struct(fields)) => fields.members.iter().all(zero),
            None => true,
            _ => false,
        }
    }
    entry.data.as_ref().is_none_or(zero)
}
