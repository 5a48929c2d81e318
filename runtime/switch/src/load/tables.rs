//! Pipelines: tables, conditionals, action calls and action profiles.

use super::at::{At, Result};
use super::calculations::algorithm;
use super::{Loader, source};
use crate::code::emit::low_words;
use crate::code::layout::Place;
use crate::code::program::{
    Branch, Calculation, Call, Condition, Initial, InitialEntry, KeyPart, Node, Pack, PackWord,
    Profile, Table, TableAction,
};
use crate::exec::machine::MAX_KEY;
use crate::schema::{
    ActionId, ActionProfileId, ActionProfileSchema, KeyField, MatchKind, TableId, TableSchema,
};
use crate::{Bits, Match};
use num_bigint::BigInt;
use rustc_hash::FxHashMap;

type Nodes = FxHashMap<String, Node>;

impl Loader {
    /// Reads the pipelines and gives the first nodes of ingress and egress.
    pub(super) fn read_pipelines(&mut self, root: &At) -> Result<(Node, Node)> {
        let (mut ingress, mut egress) = (Node::End, Node::End);
        for at in root.get("pipelines")?.list()? {
            let name = at.get("name")?;
            let start = self.pipeline(&at)?;
            match name.str()? {
                "ingress" => ingress = start,
                "egress" => egress = start,
                other => return Err(name.unsupported(other)),
            }
        }
        Ok((ingress, egress))
    }

    fn pipeline(&mut self, at: &At) -> Result<Node> {
        let (tables, conditions) = (at.list_of("tables")?, at.list_of("conditionals")?);
        let calls = at.list_of("action_calls")?;
        let mut nodes = Nodes::default();
        for (i, table) in tables.iter().enumerate() {
            let node = Node::Table((self.tables.len() + i) as u32);
            if nodes
                .insert(table.get("name")?.str()?.to_owned(), node)
                .is_some()
            {
                return Err(table.get("name")?.invalid("a name of its own"));
            }
        }
        for (i, condition) in conditions.iter().enumerate() {
            let node = Node::Condition((self.conditions.len() + i) as u32);
            nodes.insert(condition.get("name")?.str()?.to_owned(), node);
        }
        for (i, call) in calls.iter().enumerate() {
            let node = Node::Call((self.calls.len() + i) as u32);
            nodes.insert(call.get("name")?.str()?.to_owned(), node);
        }
        for profile in at.list_of("action_profiles")? {
            self.profile(&profile)?;
        }
        let pipeline = at.get("name")?.str()?.to_owned();
        for table in &tables {
            self.table(table, &pipeline, &nodes)?;
        }
        for condition in &conditions {
            let expression = self.bool(&condition.get("expression")?, &[])?;
            let check = self.check(&expression);
            self.branches.push(Branch {
                check,
                then: Self::node(&condition.get("true_next")?, &nodes)?,
                otherwise: Self::node(&condition.get("false_next")?, &nodes)?,
            });
            self.conditions.push(Condition {
                name: condition.get("name")?.str()?.to_owned(),
                source: source(condition),
            });
        }
        for call in &calls {
            let id = call.get("action_id")?;
            let action = self.action(&id)?;
            if self
                .action_params
                .get(action as usize)
                .is_some_and(|p| !p.is_empty())
            {
                return Err(id.invalid("an action without parameters"));
            }
            self.calls.push(Call {
                action,
                next: Self::node(&call.get("next_node")?, &nodes)?,
            });
        }
        Self::node(&at.get("init_table")?, &nodes)
    }

    fn action(&self, id: &At) -> Result<u32> {
        match self.action_ids.get(&id.u64()?) {
            Some(action) => Ok(*action),
            None => Err(id.invalid("the id of an action")),
        }
    }

    fn profile(&mut self, at: &At) -> Result<()> {
        let name = at.get("name")?.str()?.to_owned();
        let selector = match at.maybe("selector") {
            None => None,
            Some(selector) => {
                let algorithm = algorithm(&selector.get("algo")?)?;
                let inputs = self.calc_inputs(&selector.get("input")?)?;
                let index = self.calculations.len() as u32;
                self.calculations.push(Calculation {
                    algorithm,
                    inputs,
                    sum: None,
                });
                Some(index)
            }
        };
        let size = at.maybe("max_size").map_or(Ok(0), |size| size.count())?;
        self.schema.action_profiles.push(ActionProfileSchema {
            name,
            size,
            selector: selector.is_some(),
            tables: Vec::new(),
        });
        self.profiles.push(Profile { selector });
        Ok(())
    }

    fn table(&mut self, at: &At, pipeline: &str, nodes: &Nodes) -> Result<()> {
        let id = TableId(self.tables.len() as u32);
        let name = at.get("name")?.str()?.to_owned();
        let kind = at.get("match_type")?;
        let (exact, priorities) = match kind.str()? {
            "exact" => (true, false),
            "lpm" => (false, false),
            "ternary" | "range" => (false, true),
            other => return Err(kind.unsupported(other)),
        };
        let (fields, mut key) = self.key(at)?;
        let has = |kinds: &[MatchKind]| fields.iter().any(|f| kinds.contains(&f.kind));
        if exact && fields.iter().any(|f| f.kind != MatchKind::Exact) {
            return Err(kind.invalid("the strictest match type of the key"));
        }
        if fields.iter().filter(|f| f.kind == MatchKind::Lpm).count() > 1 && !priorities {
            return Err(at.get("key")?.unsupported("two lpm fields in an lpm table"));
        }
        let has_priority =
            priorities || has(&[MatchKind::Ternary, MatchKind::Range, MatchKind::Optional]);
        let (range_start, key_words) = pack(&fields, &mut key);
        let actions = self.table_actions(at, nodes)?;
        let data_words = actions
            .iter()
            .filter_map(|a| self.actions.get(a.action as usize))
            .map(|a| a.param_words)
            .max()
            .unwrap_or(0);
        let mut places = actions
            .iter()
            .filter_map(|a| self.action_params.get(a.action as usize))
            .flatten();
        let narrow = places.all(|place| (1..=32).contains(&place.width));
        let data_words = if narrow {
            data_words.div_ceil(2)
        } else {
            data_words
        };
        let next = at.get("next_tables")?;
        let outcome = |key: &str| match next.value.get(key) {
            Some(_) => Ok(Some(Self::node(&next.get(key)?, nodes)?)),
            None => Ok(None),
        };
        let (mut next_hit, mut next_miss) = (outcome("__HIT__")?, outcome("__MISS__")?);
        if next_hit.is_some() || next_miss.is_some() {
            // Either may be left out, and then ends the pipeline.
            next_hit = Some(next_hit.unwrap_or(Node::End));
            next_miss = Some(next_miss.unwrap_or(Node::End));
        }
        let base_default_next = match at.value.get("base_default_next") {
            Some(_) => Self::node(&at.get("base_default_next")?, nodes)?,
            None => next_miss.unwrap_or(Node::End),
        };
        let profile = self.table_profile(at, id)?;
        let mut default = None;
        let mut const_default_action = false;
        if let Some(entry) = at.maybe("default_entry") {
            const_default_action =
                entry.flag("action_const", false)? || entry.flag("action_entry_const", false)?;
            default = Some(self.initial(&entry, &actions)?);
        }
        let mut entries = Vec::new();
        for entry in at.list_of("entries")? {
            entries.push(self.initial_entry(&entry, &fields, &actions)?);
        }
        self.schema.tables.push(TableSchema {
            name,
            pipeline: pipeline.to_owned(),
            key: fields,
            actions: actions.iter().map(|a| ActionId(a.action)).collect(),
            size: at.maybe("max_size").map_or(Ok(0), |size| size.count())?,
            has_priority,
            support_timeout: at.flag("support_timeout", false)?,
            const_entries: !entries.is_empty(),
            const_default_action,
            direct_counter: None,
            direct_meter: None,
            action_profile: profile,
        });
        if key_words as usize > MAX_KEY {
            return Err(at.get("key")?.unsupported("a key of more than 64 words"));
        }
        let always = self.emitter.constant(&BigInt::from(1), 1);
        let mut plain = Vec::new();
        let guarded = key.iter().any(|part| part.valid.is_some());
        let mut pack_others = Vec::new();
        for (i, part) in key.iter().enumerate() {
            if part.place.width <= 64 && part.mask.is_none() {
                plain.push(Pack {
                    slot: part.place.slot,
                    guard: part.valid.unwrap_or(always),
                    word: part.word as u16,
                    shift: part.shift as u8,
                });
            } else {
                pack_others.push(i as u32);
            }
        }
        plain.sort_by_key(|part: &Pack| part.word);
        let mut pack_words: Vec<PackWord> = Vec::new();
        for (i, part) in plain.iter().enumerate() {
            match pack_words.last_mut() {
                Some(last) if last.word == part.word => last.end += 1,
                _ => {
                    let first = i as u16;
                    pack_words.push(PackWord {
                        word: part.word,
                        first,
                        end: first + 1,
                    });
                }
            }
        }
        let fixed = match (&default, key.as_slice(), actions.as_slice()) {
            (Some(initial), [], [action])
                if const_default_action && initial.params.is_empty() && profile.is_none() =>
            {
                let counts = at.flag("with_counters", false)?;
                (!counts).then_some((action.action, next_miss.unwrap_or(action.next)))
            }
            _ => None,
        };
        self.tables.push(Table {
            key,
            pack: plain,
            pack_words,
            pack_others,
            guarded,
            fixed,
            key_words,
            range_start,
            exact,
            data_words,
            narrow,
            actions,
            next_hit,
            next_miss,
            base_default_next,
            default,
            entries,
            count: at.flag("with_counters", false)?,
            support_timeout: at.flag("support_timeout", false)?,
            meter: None,
            profile,
            source: source(at),
        });
        Ok(())
    }

    fn table_profile(&mut self, at: &At, table: TableId) -> Result<Option<ActionProfileId>> {
        let kind = at.get("type")?;
        match kind.str()? {
            "simple" => Ok(None),
            "indirect" | "indirect_ws" => {
                let name = at.get("action_profile")?;
                let Some(profile) = self.schema.action_profile(name.str()?) else {
                    return Err(name.invalid("the name of an action profile of this pipeline"));
                };
                if let Some(schema) = self.schema.action_profiles.get_mut(profile.index()) {
                    schema.tables.push(table);
                }
                Ok(Some(profile))
            }
            other => Err(kind.unsupported(other)),
        }
    }

    fn key(&self, at: &At) -> Result<(Vec<KeyField>, Vec<KeyPart>)> {
        let (mut fields, mut parts) = (Vec::new(), Vec::new());
        for part in at.get("key")?.list()? {
            let kind_at = part.get("match_type")?;
            let target = part.get("target")?;
            let (place, valid, kind) = match kind_at.str()? {
                "valid" => {
                    let header = self.header(&target)?;
                    let valid = Place::unsigned(self.layout.header(header).valid, 1);
                    (valid, None, MatchKind::Exact)
                }
                kind => {
                    let kind = match kind {
                        "exact" => MatchKind::Exact,
                        "ternary" => MatchKind::Ternary,
                        "lpm" => MatchKind::Lpm,
                        "range" => MatchKind::Range,
                        "optional" => MatchKind::Optional,
                        other => return Err(kind_at.unsupported(other)),
                    };
                    (self.field(&target)?, self.guard(&target)?, kind)
                }
            };
            let mask = match part.maybe("mask") {
                Some(mask) => Some(low_words(&mask.hex()?, place.words())),
                None => None,
            };
            let name = match part.maybe("name") {
                Some(name) => name.str()?.to_owned(),
                None => match target.value.as_str() {
                    Some(header) => header.to_owned(),
                    None => format!("{}.{}", target.at(0)?.str()?, target.at(1)?.str()?),
                },
            };
            fields.push(KeyField {
                name,
                width: place.width as usize,
                kind,
            });
            parts.push(KeyPart {
                place,
                valid,
                word: 0,
                shift: 0,
                mask,
            });
        }
        Ok((fields, parts))
    }

    fn table_actions(&self, at: &At, nodes: &Nodes) -> Result<Vec<TableAction>> {
        let next = at.get("next_tables")?;
        let mut actions = Vec::new();
        let by_id = at.maybe("action_ids");
        let list = match &by_id {
            Some(ids) => ids.list()?,
            None => at.get("actions")?.list()?,
        };
        for entry in list {
            let action = if by_id.is_some() {
                self.action(&entry)?
            } else {
                let name = entry.str()?;
                match self.schema.actions.iter().position(|a| a.name == name) {
                    Some(action) => action as u32,
                    None => return Err(entry.invalid("the name of an action")),
                }
            };
            let name = self
                .schema
                .actions
                .get(action as usize)
                .map_or("", |a| &a.name);
            let next = match next.value.get(name) {
                Some(_) => Self::node(&next.get(name)?, nodes)?,
                None if next
                    .value
                    .get("__HIT__")
                    .or(next.value.get("__MISS__"))
                    .is_some() =>
                {
                    Node::End
                }
                None => return Err(next.invalid(&format!("an object with `{name}`"))),
            };
            actions.push(TableAction { action, next });
        }
        Ok(actions)
    }

    /// An action with data, as default and const entries have it.
    fn initial(&self, at: &At, actions: &[TableAction]) -> Result<Initial> {
        let id = at.get("action_id")?;
        let action = self.action(&id)?;
        if !actions.iter().any(|a| a.action == action) {
            return Err(id.invalid("the id of an action of this table"));
        }
        let data = at.get("action_data")?;
        let values = data.list()?;
        let schema = self.schema.actions.get(action as usize);
        let widths = schema
            .map(|a| a.params.iter().map(|p| p.width))
            .into_iter()
            .flatten();
        let widths: Vec<usize> = widths.collect();
        if values.len() != widths.len() {
            return Err(data.invalid(&format!("{} values, one a parameter", widths.len())));
        }
        let mut params = Vec::new();
        for (value, width) in values.iter().zip(widths) {
            params.push(bits(value, width)?);
        }
        Ok(Initial {
            action: ActionId(action),
            params,
        })
    }

    fn initial_entry(
        &self,
        at: &At,
        fields: &[KeyField],
        actions: &[TableAction],
    ) -> Result<InitialEntry> {
        let matches = at.get("match_key")?;
        let list = matches.list()?;
        if list.len() != fields.len() {
            return Err(matches.invalid(&format!("{} matches, one a field", fields.len())));
        }
        let mut key = Vec::new();
        for (at, field) in list.iter().zip(fields) {
            key.push(initial_match(at, field)?);
        }
        let priority = at
            .maybe("priority")
            .map_or(Ok(0), |priority| priority.count())?;
        Ok(InitialEntry {
            key,
            priority: i32::try_from(priority).unwrap_or(i32::MAX - 1),
            action: self.initial(&at.get("action_entry")?, actions)?,
            at: at.pointer(),
        })
    }
}

fn initial_match(at: &At, field: &KeyField) -> Result<Match> {
    let value = |key: &str| bits(&at.get(key)?, field.width);
    let kind = at.get("match_type")?;
    Ok(match kind.str()? {
        "exact" => Match::Exact(value("key")?),
        "valid" => {
            let key = at.get("key")?;
            match key.value.as_bool() {
                Some(valid) => Match::exact(u64::from(valid)),
                None => Match::Exact(bits(&key, 1)?),
            }
        }
        "ternary" | "optional" => {
            let all = (BigInt::from(1) << field.width) - 1;
            let mask = at.get("mask")?.hex()? & all;
            // Bits outside the mask mean nothing to bmv2.
            let value = at.get("key")?.hex()? & &mask;
            let words = field.width.div_ceil(64) as u32;
            Match::Ternary {
                value: Bits::from_words(&low_words(&value, words)),
                mask: Bits::from_words(&low_words(&mask, words)),
            }
        }
        "lpm" => {
            let prefix_len = at.get("prefix_length")?.count()?;
            if prefix_len > field.width {
                return Err(at
                    .get("prefix_length")?
                    .invalid("a prefix no longer than the field"));
            }
            let low = field.width - prefix_len;
            let value = (at.get("key")?.hex()? >> low) << low;
            let words = low_words(&value, field.width.div_ceil(64) as u32);
            Match::Lpm {
                value: Bits::from_words(&words),
                prefix_len,
            }
        }
        "range" => Match::Range {
            low: value("start")?,
            high: value("end")?,
        },
        other => return Err(kind.unsupported(other)),
    })
}

fn bits(at: &At, width: usize) -> Result<Bits> {
    let value = at.hex()?;
    if value.sign() == num_bigint::Sign::Minus || value.bits() > width as u64 {
        return Err(at.invalid(&format!("a value of {width} bits")));
    }
    Ok(Bits::from_words(&low_words(
        &value,
        width.div_ceil(64) as u32,
    )))
}

/// Packs the fields of a key into words: small ones share a word, none straddles two, and those
/// that match ranges come last with words of their own. Gives the first range word and the length.
fn pack(fields: &[KeyField], key: &mut [KeyPart]) -> (u32, u32) {
    let mut word = 0;
    let mut used = 64;
    for (field, part) in fields.iter().zip(key.iter_mut()) {
        let width = part.place.width;
        if field.kind == MatchKind::Range {
            continue;
        }
        if width <= 64 && used + width <= 64 {
            part.word = word - 1;
            part.shift = used;
            used += width;
        } else {
            part.word = word;
            part.shift = 0;
            word += part.place.words().max(1);
            used = if width.is_multiple_of(64) {
                64
            } else {
                width % 64
            };
        }
    }
    let range_start = word;
    for (field, part) in fields.iter().zip(key.iter_mut()) {
        if field.kind == MatchKind::Range {
            part.word = word;
            part.shift = 0;
            word += part.place.words().max(1);
        }
    }
    (range_start, word)
}
