//! P4Info's ids ↔ the core's indexes, by name, checked once when a pipeline is set. A P4Info that
//! does not belong to its JSON is refused here, with what differs.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use signalbox_p4runtime::{
    Catalog,
    catalog::{FieldInfo, MatchKind, TableInfo},
    value::Width,
};

use crate::{
    ActionId, ActionProfileId, CounterId, DigestId, MatchKind as CoreKind, MeterId, RegisterId,
    Schema, TableId, ValueSetId, schema::ActionSchema,
};

/// A key of a table: where it is in the core's key, and how it matches on both sides.
#[derive(Debug, Clone)]
pub(super) struct BoundKey {
    pub field: FieldInfo,
    /// Place in the core's key.
    pub place: usize,
    /// Width in the core, in bits.
    pub width: usize,
    pub core: CoreKind,
}

/// An action as one table has it.
#[derive(Debug, Clone)]
pub(super) struct BoundAction {
    pub core: ActionId,
    /// For each of the core's parameters in order: P4Info's id, its width, and its name.
    pub params: Vec<BoundParam>,
}

#[derive(Debug, Clone)]
pub(super) struct BoundParam {
    pub id: u32,
    pub name: String,
    /// The narrower of both sides' widths, in bits.
    pub width: usize,
}

#[derive(Debug)]
pub(super) struct BoundTable {
    pub core: TableId,
    pub info: TableInfo,
    /// In P4Info's order.
    pub keys: Vec<BoundKey>,
    pub actions: FxHashMap<u32, BoundAction>,
    /// The way back, for reading.
    pub action_ids: FxHashMap<ActionId, u32>,
    pub has_counter: bool,
    pub has_meter: bool,
    /// With entries of the program: simple_switch_grpc lets nobody write such a table.
    pub initial: bool,
}

#[derive(Debug, Default)]
pub(super) struct Binding {
    pub tables: FxHashMap<u32, BoundTable>,
    pub table_ids: FxHashMap<TableId, u32>,
    pub profiles: FxHashMap<u32, ActionProfileId>,
    pub counters: FxHashMap<u32, CounterId>,
    pub meters: FxHashMap<u32, MeterId>,
    pub registers: FxHashMap<u32, RegisterId>,
    pub value_sets: FxHashMap<u32, (ValueSetId, Vec<BoundKey>)>,
    pub digests: FxHashMap<u32, DigestId>,
    pub digest_ids: BTreeMap<DigestId, u32>,
}

/// Names an object that the JSON lacks.
fn missing(kind: &str, name: &str) -> String {
    format!("P4Info has {kind} `{name}`, and the device config has not")
}

impl Binding {
    pub fn new(catalog: &Catalog, schema: &Schema) -> Result<Binding, String> {
        let mut binding = Binding::default();
        for info in catalog.tables.iter() {
            let core = schema
                .table(&info.name)
                .ok_or_else(|| missing("table", &info.name))?;
            let bound = bind_table(catalog, schema, info, core)?;
            binding.table_ids.insert(core, info.id);
            binding.tables.insert(info.id, bound);
        }
        for info in catalog.profiles.iter() {
            let core = schema
                .action_profile(&info.name)
                .ok_or_else(|| missing("action profile", &info.name))?;
            binding.profiles.insert(info.id, core);
        }
        for info in catalog.counters.iter() {
            let core = schema
                .counter(&info.name)
                .ok_or_else(|| missing("counter", &info.name))?;
            binding.counters.insert(info.id, core);
        }
        for info in catalog.meters.iter() {
            let core = schema
                .meter(&info.name)
                .ok_or_else(|| missing("meter", &info.name))?;
            binding.meters.insert(info.id, core);
        }
        for info in catalog.registers.iter() {
            let core = schema
                .register(&info.name)
                .ok_or_else(|| missing("register", &info.name))?;
            binding.registers.insert(info.id, core);
        }
        for info in catalog.value_sets.iter() {
            let core = schema
                .value_set(&info.name)
                .ok_or_else(|| missing("value set", &info.name))?;
            let widths = schema
                .value_sets
                .get(core.index())
                .map(|set| set.widths.as_slice())
                .unwrap_or_default();
            let keys = bind_members(&info.name, &info.fields, widths)?;
            binding.value_sets.insert(info.id, (core, keys));
        }
        for info in catalog.digests.iter() {
            // p4c names a digest after its type, and another compiler may name it in full.
            let core = schema
                .digest(&info.name)
                .or_else(|| schema.digest(&info.alias))
                .ok_or_else(|| missing("digest", &info.name))?;
            binding.digests.insert(info.id, core);
            binding.digest_ids.insert(core, info.id);
        }
        Ok(binding)
    }
}

fn bind_table(
    catalog: &Catalog,
    schema: &Schema,
    info: &TableInfo,
    core: TableId,
) -> Result<BoundTable, String> {
    let table = schema
        .tables
        .get(core.index())
        .ok_or_else(|| missing("table", &info.name))?;
    if table.key.len() != info.fields.len() {
        return Err(format!(
            "table `{}` has {} match fields in P4Info and {} in the device config",
            info.name,
            info.fields.len(),
            table.key.len()
        ));
    }
    let mut keys = Vec::with_capacity(info.fields.len());
    for (index, field) in info.fields.iter().enumerate() {
        // Compilers differ in what they call a key that is an expression; then its place tells.
        let place = table
            .key
            .iter()
            .position(|key| key.name == field.name)
            .unwrap_or(index);
        let Some(key) = table.key.get(place) else {
            return Err(missing("match field", &field.name));
        };
        check_width(&info.name, &field.name, field.width, key.width)?;
        if !kinds_agree(field.kind, key.kind) {
            return Err(format!(
                "match field `{}` of `{}` is {} in P4Info and {} in the device config",
                field.name, info.name, field.kind, key.kind
            ));
        }
        keys.push(BoundKey {
            field: field.clone(),
            place,
            width: key.width,
            core: key.kind,
        });
    }
    let mut places: Vec<usize> = keys.iter().map(|key| key.place).collect();
    places.sort_unstable();
    places.dedup();
    if places.len() != keys.len() {
        return Err(format!(
            "the match fields of `{}` have other names in P4Info than in the device config",
            info.name
        ));
    }
    let mut actions = FxHashMap::default();
    let mut action_ids = FxHashMap::default();
    for used in &info.actions {
        let Some(action) = catalog.actions.get(used.action) else {
            continue;
        };
        let found = schema
            .table_action(core, &action.name)
            .and_then(|id| Some((id, schema.actions.get(id.index())?)));
        let Some((id, core_action)) = found else {
            return Err(format!(
                "P4Info lets table `{}` use action `{}`, and the device config does not",
                info.name, action.name
            ));
        };
        let params = bind_params(action, core_action)?;
        action_ids.insert(id, action.id);
        actions.insert(action.id, BoundAction { core: id, params });
    }
    Ok(BoundTable {
        core,
        info: info.clone(),
        keys,
        actions,
        action_ids,
        has_counter: info.direct_counter.is_some() && table.direct_counter.is_some(),
        has_meter: info.direct_meter.is_some() && table.direct_meter.is_some(),
        initial: catalog
            .p4info()
            .tables
            .iter()
            .any(|t| t.has_initial_entries && t.preamble.as_ref().is_some_and(|p| p.id == info.id)),
    })
}

fn bind_params(
    action: &signalbox_p4runtime::catalog::ActionInfo,
    core: &ActionSchema,
) -> Result<Vec<BoundParam>, String> {
    if action.params.len() != core.params.len() {
        return Err(format!(
            "action `{}` has {} parameters in P4Info and {} in the device config",
            action.name,
            action.params.len(),
            core.params.len()
        ));
    }
    core.params
        .iter()
        .enumerate()
        .map(|(index, param)| {
            let info = action
                .param(&param.name)
                .or_else(|| action.params.get(index))
                .ok_or_else(|| missing("parameter", &param.name))?;
            check_width(&action.name, &info.name, info.width, param.width)?;
            Ok(BoundParam {
                id: info.id,
                name: info.name.clone(),
                width: narrower(info.width, param.width),
            })
        })
        .collect()
}

fn bind_members(
    owner: &str,
    fields: &[FieldInfo],
    widths: &[usize],
) -> Result<Vec<BoundKey>, String> {
    if fields.len() != widths.len() {
        return Err(format!(
            "value set `{owner}` has {} fields in P4Info and {} in the device config",
            fields.len(),
            widths.len()
        ));
    }
    fields
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(place, (field, width))| {
            check_width(owner, &field.name, field.width, *width)?;
            let core = match field.kind {
                MatchKind::Exact => CoreKind::Exact,
                MatchKind::Lpm => CoreKind::Lpm,
                MatchKind::Ternary => CoreKind::Ternary,
                MatchKind::Range => CoreKind::Range,
                MatchKind::Optional => CoreKind::Optional,
            };
            Ok(BoundKey {
                field: field.clone(),
                place,
                width: *width,
                core,
            })
        })
        .collect()
}

fn narrower(info: Width, core: usize) -> usize {
    match info {
        Width::Bits(bits) => bits.min(core),
        Width::String => core,
    }
}

fn check_width(owner: &str, name: &str, info: Width, core: usize) -> Result<(), String> {
    match info {
        // A translated number may be wider than what the switch has; then values are checked.
        Width::Bits(bits) if bits >= core => Ok(()),
        Width::Bits(bits) => Err(format!(
            "`{name}` of `{owner}` has {bits} bits in P4Info and {core} in the device config"
        )),
        Width::String => Err(format!(
            "`{name}` of `{owner}` is translated to a string, which is not supported"
        )),
    }
}

fn kinds_agree(info: MatchKind, core: CoreKind) -> bool {
    matches!(
        (info, core),
        (MatchKind::Exact, CoreKind::Exact)
            | (MatchKind::Lpm, CoreKind::Lpm)
            | (
                MatchKind::Ternary | MatchKind::Optional | MatchKind::Lpm | MatchKind::Exact,
                CoreKind::Ternary
            )
            | (MatchKind::Range, CoreKind::Range)
            | (MatchKind::Optional, CoreKind::Optional)
    )
}
