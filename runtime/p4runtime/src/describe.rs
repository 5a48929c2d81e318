//! Messages in names, for logs and errors: one line, short names, small numbers in decimal.

use std::fmt::Write;

use crate::{
    catalog::Catalog,
    proto::p4::v1::{
        self, Entity, FieldMatch, TableEntry, Update, entity, field_match::FieldMatchType,
        packet_replication_engine_entry as pre, table_action, update,
    },
    value::Value,
};

impl Catalog {
    /// `insert web_lb.fixed src=0x0a000001 … -> forward(entry=7)`; ids that P4Info does not have
    /// are printed as numbers.
    pub fn describe_update(&self, update: &Update) -> String {
        let verb = match update.r#type() {
            update::Type::Unspecified => "(no type)",
            update::Type::Insert => "insert",
            update::Type::Modify => "modify",
            update::Type::Delete => "delete",
        };
        match &update.entity {
            Some(entity) => format!("{verb} {}", self.describe(entity)),
            None => format!("{verb} nothing"),
        }
    }

    /// An entity in names.
    pub fn describe(&self, entity: &Entity) -> String {
        use entity::Entity as E;
        let short = |alias: Option<&str>, id: u32| match alias {
            Some(alias) => alias.to_owned(),
            None => format!("{id:#010x}"),
        };
        let at = |index: Option<&v1::Index>| match index {
            Some(index) => format!("[{}]", index.index),
            None => "[*]".to_owned(),
        };
        let profile = |id| short(self.profiles.get(id).map(|p| p.alias.as_str()), id);
        match &entity.entity {
            None => "nothing".to_owned(),
            Some(E::TableEntry(entry)) => self.describe_entry(entry),
            Some(E::ActionProfileMember(m)) => {
                format!("member {} of {}", m.member_id, profile(m.action_profile_id))
            }
            Some(E::ActionProfileGroup(g)) => {
                format!("group {} of {}", g.group_id, profile(g.action_profile_id))
            }
            Some(E::MeterEntry(m)) => format!(
                "meter {}{}",
                short(
                    self.meters.get(m.meter_id).map(|m| m.alias.as_str()),
                    m.meter_id
                ),
                at(m.index.as_ref())
            ),
            Some(E::CounterEntry(c)) => format!(
                "counter {}{}",
                short(
                    self.counters.get(c.counter_id).map(|c| c.alias.as_str()),
                    c.counter_id
                ),
                at(c.index.as_ref())
            ),
            Some(E::RegisterEntry(r)) => format!(
                "register {}{}",
                short(
                    self.registers.get(r.register_id).map(|r| r.alias.as_str()),
                    r.register_id
                ),
                at(r.index.as_ref())
            ),
            Some(E::DirectCounterEntry(c)) => match &c.table_entry {
                Some(entry) => format!("counter of {}", self.describe_entry(entry)),
                None => "direct counter".to_owned(),
            },
            Some(E::DirectMeterEntry(m)) => match &m.table_entry {
                Some(entry) => format!("meter of {}", self.describe_entry(entry)),
                None => "direct meter".to_owned(),
            },
            Some(E::PacketReplicationEngineEntry(e)) => match &e.r#type {
                Some(pre::Type::MulticastGroupEntry(g)) => {
                    format!("multicast group {}", g.multicast_group_id)
                }
                Some(pre::Type::CloneSessionEntry(c)) => format!("clone session {}", c.session_id),
                None => "packet replication engine".to_owned(),
            },
            Some(E::ValueSetEntry(v)) => format!(
                "value set {}",
                short(
                    self.value_sets
                        .get(v.value_set_id)
                        .map(|v| v.alias.as_str()),
                    v.value_set_id
                )
            ),
            Some(E::DigestEntry(d)) => format!(
                "digest {}",
                short(
                    self.digests.get(d.digest_id).map(|d| d.alias.as_str()),
                    d.digest_id
                )
            ),
            Some(E::ExternEntry(e)) => format!("extern {:#010x}", e.extern_id),
        }
    }

    /// A table entry in names.
    pub fn describe_entry(&self, entry: &TableEntry) -> String {
        let table = self.tables.get(entry.table_id);
        let mut text = match table {
            Some(table) => table.alias.clone(),
            None => format!("table {:#010x}", entry.table_id),
        };
        if entry.is_default_action {
            text.push_str(" default");
        }
        for field in &entry.r#match {
            let name = table
                .and_then(|t| t.field_with_id(field.field_id))
                .map_or_else(|| field.field_id.to_string(), |f| f.name.clone());
            let _ = write!(text, " {name}{}", describe_match(field));
        }
        if entry.priority != 0 {
            let _ = write!(text, " priority {}", entry.priority);
        }
        match entry.action.as_ref().and_then(|a| a.r#type.as_ref()) {
            None => {}
            Some(table_action::Type::Action(action)) => {
                let _ = write!(text, " -> {}", self.describe_action(action));
            }
            Some(table_action::Type::ActionProfileMemberId(id)) => {
                let _ = write!(text, " -> member {id}");
            }
            Some(table_action::Type::ActionProfileGroupId(id)) => {
                let _ = write!(text, " -> group {id}");
            }
            Some(table_action::Type::ActionProfileActionSet(set)) => {
                let _ = write!(text, " -> {} actions", set.action_profile_actions.len());
            }
        }
        text
    }

    /// An action call in names.
    pub fn describe_action(&self, action: &v1::Action) -> String {
        let info = self.actions.get(action.action_id);
        let mut text = match info {
            Some(info) => info.alias.clone(),
            None => format!("action {:#010x}", action.action_id),
        };
        let arguments: Vec<String> = action
            .params
            .iter()
            .map(|param| {
                let name = info
                    .and_then(|i| i.param_with_id(param.param_id))
                    .map_or_else(|| param.param_id.to_string(), |p| p.name.clone());
                format!("{name}={}", Value::from_be_bytes(&param.value))
            })
            .collect();
        let _ = write!(text, "({})", arguments.join(", "));
        text
    }
}

fn describe_match(field: &FieldMatch) -> String {
    let value = |bytes: &[u8]| Value::from_be_bytes(bytes).to_string();
    match &field.field_match_type {
        Some(FieldMatchType::Exact(m)) => format!("={}", value(&m.value)),
        Some(FieldMatchType::Optional(m)) => format!("={}", value(&m.value)),
        Some(FieldMatchType::Ternary(m)) => format!("={}&{}", value(&m.value), value(&m.mask)),
        Some(FieldMatchType::Lpm(m)) => format!("={}/{}", value(&m.value), m.prefix_len),
        Some(FieldMatchType::Range(m)) => format!("={}..{}", value(&m.low), value(&m.high)),
        Some(FieldMatchType::Other(_)) => "=(other)".to_owned(),
        None => "=(nothing)".to_owned(),
    }
}
