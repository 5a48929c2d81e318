//! What a program brings itself: default actions, and entries that are there from the start.

use super::tables::{Parts, reset_default};
use super::{ActionCall, Entry, EntryAction, Result};
use crate::code::program::{Program, Table};
use crate::exec::state::State;
use crate::schema::TableSchema;
use crate::table::{Cold, TableState};
use crate::{LoadError, Quirks, Switch, TableId};

/// The program's entries for a table as the control plane would write them.
fn entries<'a>(
    table: &'a Table,
    schema: &'a TableSchema,
    quirks: Quirks,
) -> impl Iterator<Item = (Entry, &'a str)> {
    // In the JSON the lowest number wins; in P4Runtime the highest does, and the last entry has 1
    // ("Constant Tables"). PI takes the distance to the highest number there is.
    let last = table.entries.iter().map(|entry| entry.priority).max();
    let top = match last {
        Some(last) if !quirks.initial_priorities_from_top => last.saturating_add(1),
        _ => i32::MAX,
    };
    table.entries.iter().map(move |entry| {
        let written = Entry {
            key: entry.key.clone(),
            priority: if schema.has_priority {
                top - entry.priority
            } else {
                0
            },
            action: EntryAction::Call(ActionCall {
                action: entry.action.action,
                params: entry.action.params.clone(),
            }),
            idle_timeout: 0,
            metadata: Vec::new(),
        };
        (written, entry.at.as_str())
    })
}

/// Gives a table that is starting its default action and the entries of the program.
pub(crate) fn start_table(
    program: &Program,
    table: &Table,
    schema: &TableSchema,
    quirks: Quirks,
    state: &mut TableState,
) -> std::result::Result<(), LoadError> {
    let parts = Parts {
        program,
        table,
        schema,
    };
    reset_default(&parts, state);
    state.const_entries = schema.const_entries;
    for (entry, at) in entries(table, schema, quirks) {
        let invalid = |found: String| LoadError::Invalid {
            at: at.to_owned(),
            expected: format!("an entry for `{}`", schema.name),
            found,
        };
        let key = parts
            .key(&entry.key, entry.priority)
            .map_err(|e| invalid(e.to_string()))?;
        if state.find(&key, entry.priority).is_some() {
            return Err(invalid("another entry with the same key".into()));
        }
        let (run, data) = parts
            .run(&State::default(), &entry.action)
            .map_err(|e| invalid(e.to_string()))?;
        let cold = Cold {
            key: None,
            priority: entry.priority,
            idle_timeout: entry.idle_timeout,
            metadata: entry.metadata.into(),
            initial: true,
            next_look: 0,
        };
        state.insert(run, &data, key, cold, 0);
    }
    Ok(())
}

impl Switch {
    /// The entries that the program gave the table, whatever has become of them since.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn table_initial(&self, table: TableId) -> Result<Vec<Entry>> {
        let parts = Parts::of(self.program()?, table)?;
        entries(parts.table, parts.schema, self.config.quirks)
            .map(|(entry, _)| {
                let key = parts.key(&entry.key, entry.priority)?.key;
                Ok(Entry { key, ..entry })
            })
            .collect()
    }
}
