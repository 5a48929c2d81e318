//! Tables with their keys, defaults and entries.

use num_bigint::BigInt;
use serde_json::{Value, json};

use crate::ir::{EntryKey, Handle, Key, KeyValue, MatchKind, Table, mask_of};

use super::{Writer, hex};

/// The size of a table that asks for none.
pub(super) const DEFAULT_SIZE: u64 = 1024;

fn match_type(kind: MatchKind) -> &'static str {
    match kind {
        MatchKind::Exact | MatchKind::Selector => "exact",
        MatchKind::Lpm => "lpm",
        MatchKind::Ternary | MatchKind::Optional => "ternary",
        MatchKind::Range => "range",
    }
}

impl Writer<'_> {
    pub(super) fn table(
        &mut self,
        handle: Handle<Table>,
        next_tables: Value,
        base_default_next: Option<String>,
    ) -> Value {
        let program = self.program;
        let table = &program.tables[handle];
        let keys: Vec<&Key> = table
            .keys
            .iter()
            .filter(|k| k.kind != MatchKind::Selector)
            .collect();
        if keys.iter().filter(|k| k.kind == MatchKind::Lpm).count() > 1 {
            self.unsupported(
                table.span,
                format!(
                    "the table `{}` has more than one key of kind `lpm`",
                    table.names.name
                ),
            );
        }
        let whole = ["range", "ternary", "lpm"]
            .into_iter()
            .find(|kind| keys.iter().any(|k| match_type(k.kind) == *kind));
        let mut out = json!({
            "name": &*table.names.name,
            "id": self.tables,
            "source_info": self.source_info(table.span),
            "key": keys.iter().map(|key| self.key(key)).collect::<Vec<_>>(),
            "match_type": whole.unwrap_or("exact"),
        });
        self.tables += 1;
        let Some(object) = out.as_object_mut() else {
            return out;
        };
        let mut put = |key: &str, value: Value| {
            object.insert(key.to_string(), value);
        };
        match table.profile {
            None => put("type", json!("simple")),
            Some(profile) => {
                let selector = program.profiles[profile].selector.is_some();
                put(
                    "type",
                    json!(if selector { "indirect_ws" } else { "indirect" }),
                );
                put(
                    "action_profile",
                    json!(&*program.profiles[profile].names.name),
                );
            }
        }
        let size = match &table.entries {
            Some(entries) if !entries.list.is_empty() => entries.list.len() as u64,
            _ => table.size.unwrap_or(DEFAULT_SIZE),
        };
        put("max_size", json!(size));
        put("with_counters", json!(table.counter.is_some()));
        put("support_timeout", json!(table.support_timeout));
        put(
            "direct_meters",
            json!(table.meter.map(|m| &*program.direct_meters[m].names.name)),
        );
        put(
            "action_ids",
            json!(
                table
                    .actions
                    .iter()
                    .map(|a| self.action_id(a.action))
                    .collect::<Vec<_>>()
            ),
        );
        put(
            "actions",
            json!(
                table
                    .actions
                    .iter()
                    .map(|a| &*program.actions[a.action].names.name)
                    .collect::<Vec<_>>()
            ),
        );
        put("base_default_next", json!(base_default_next));
        put("next_tables", next_tables);
        if table.profile.is_none() {
            let data: Vec<String> = table.default.arguments.iter().map(|v| hex(v, 0)).collect();
            put(
                "default_entry",
                json!({
                    "action_id": self.action_id(table.default.action),
                    "action_const": table.default.constant,
                    "action_data": data,
                    "action_entry_const": table.default.constant,
                }),
            );
        }
        if let Some(entries) = &table.entries {
            if !entries.list.is_empty() {
                let list = self.entries(table, &keys);
                put("entries", list);
            }
            if table.profile.is_some() && !entries.list.is_empty() {
                self.unsupported(
                    table.span,
                    "entries of a table with an action profile are not supported by the target",
                );
            }
        }
        out
    }

    fn key(&self, key: &Key) -> Value {
        let target = match key.value {
            KeyValue::Field(place) => match place.header {
                crate::ir::HeaderRef::Instance(header) => self.field_of(header, place.field),
                _ => Value::Null,
            },
            KeyValue::Valid(header) => json!([&*self.program.headers[header].name, "$valid$"]),
        };
        json!({ "match_type": match_type(key.kind), "name": &*key.name, "target": target, "mask": null })
    }

    pub(super) fn key_width(&self, key: &Key) -> u32 {
        match key.value {
            KeyValue::Field(place) => self.place_type(place).width(),
            KeyValue::Valid(_) => 1,
        }
    }

    fn entries(&self, table: &Table, keys: &[&Key]) -> Value {
        let Some(entries) = &table.entries else {
            return Value::Null;
        };
        // The order of the program decides where no priority is written; a larger written one wins,
        // while for bmv2 the smaller one does.
        let highest = entries.list.iter().filter_map(|e| e.priority.clone()).max();
        let list = entries.list.iter().enumerate().map(|(position, entry)| {
            let match_key: Vec<Value> = keys
                .iter()
                .zip(&entry.keys)
                .map(|(key, value)| self.entry_key(key, value))
                .collect();
            let data: Vec<String> = entry.arguments.iter().map(|v| hex(v, 0)).collect();
            let priority = match (&entry.target_priority, &entry.priority, &highest) {
                (Some(priority), ..) => priority.clone(),
                (None, Some(priority), Some(highest)) if entries.largest_wins => {
                    highest - priority + 1u32
                }
                (None, Some(priority), _) => priority.clone(),
                _ => BigInt::from(position + 1),
            };
            let priority = i64::try_from(priority).unwrap_or(i64::MAX);
            json!({
                "source_info": self.source_info(entry.span),
                "match_key": match_key,
                "action_entry": { "action_id": self.action_id(entry.action), "action_data": data },
                "priority": priority,
            })
        });
        Value::Array(list.collect())
    }

    fn entry_key(&self, key: &Key, value: &EntryKey) -> Value {
        let width = self.key_width(key);
        let text = |value: &BigInt| hex(value, width);
        let (zero, full) = (BigInt::from(0), mask_of(width));
        match match_type(key.kind) {
            "lpm" => {
                let (value, mask) = match value {
                    EntryKey::Exact(value) => (value, &full),
                    EntryKey::Masked(value, mask) => (value, mask),
                    EntryKey::Any | EntryKey::Range(..) => (&zero, &zero),
                };
                let length: u32 = mask
                    .magnitude()
                    .iter_u32_digits()
                    .map(u32::count_ones)
                    .sum();
                json!({ "match_type": "lpm", "key": text(value), "prefix_length": length })
            }
            "ternary" => {
                let (value, mask) = match value {
                    EntryKey::Exact(value) => (value, &full),
                    EntryKey::Masked(value, mask) => (value, mask),
                    EntryKey::Any | EntryKey::Range(..) => (&zero, &zero),
                };
                json!({ "match_type": "ternary", "key": text(value), "mask": text(mask) })
            }
            "range" => {
                let (low, high) = match value {
                    EntryKey::Exact(value) => (value, value),
                    EntryKey::Range(low, high) => (low, high),
                    EntryKey::Any | EntryKey::Masked(..) => (&zero, &full),
                };
                json!({ "match_type": "range", "start": text(low), "end": text(high) })
            }
            _ => {
                let value = if let EntryKey::Exact(value) = value {
                    value
                } else {
                    &zero
                };
                json!({ "match_type": "exact", "key": text(value) })
            }
        }
    }
}
