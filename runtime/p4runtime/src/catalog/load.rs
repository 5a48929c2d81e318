//! P4Info → catalog: resolves kinds, widths and references once, so that nobody has to again.

use super::{
    ActionInfo, ActionUse, ArrayInfo, Catalog, CatalogError, DirectInfo, FieldInfo, HeaderInfo,
    Kind, MatchKind, ParamInfo, PlainInfo, ProfileInfo, RegisterInfo, Scope, Section, TableInfo,
    ValueSetInfo,
};
use crate::{
    proto::p4::config::v1::{
        self as p4, P4DataTypeSpec, P4Info, Preamble, action_ref, match_field,
        p4_bitstring_like_type_spec, p4_data_type_spec, table,
    },
    value::Width,
};

struct Head {
    id: u32,
    name: String,
    alias: String,
}

fn head(preamble: Option<&Preamble>) -> Head {
    let Some(preamble) = preamble else {
        return Head {
            id: 0,
            name: "(no preamble)".to_owned(),
            alias: String::new(),
        };
    };
    let alias = if preamble.alias.is_empty() {
        &preamble.name
    } else {
        &preamble.alias
    };
    Head {
        id: preamble.id,
        name: preamble.name.clone(),
        alias: alias.clone(),
    }
}

macro_rules! with_head {
    ($preamble:expr, $t:ident { $($rest:tt)* }) => {{
        let Head { id, name, alias } = head($preamble.as_ref());
        $t { id, name, alias, $($rest)* }
    }};
}

pub(super) fn load(info: P4Info) -> Result<Catalog, CatalogError> {
    let direct_counters = Section::new(
        Kind::DirectCounter,
        info.direct_counters
            .iter()
            .map(|c| {
                with_head!(
                    c.preamble,
                    DirectInfo {
                        table: c.direct_table_id,
                        unit: c.spec.map_or(0, |spec| spec.unit),
                    }
                )
            })
            .collect(),
    )?;
    let direct_meters = Section::new(
        Kind::DirectMeter,
        info.direct_meters
            .iter()
            .map(|m| {
                with_head!(
                    m.preamble,
                    DirectInfo {
                        table: m.direct_table_id,
                        unit: m.spec.map_or(0, |spec| spec.unit),
                    }
                )
            })
            .collect(),
    )?;
    let actions = Section::new(Kind::Action, info.actions.iter().map(action).collect())?;
    let tables = info
        .tables
        .iter()
        .map(|t| table(t, &direct_counters, &direct_meters))
        .collect::<Result<Vec<_>, _>>()?;
    let value_sets = info
        .value_sets
        .iter()
        .map(|v| {
            let name = head(v.preamble.as_ref()).name;
            Ok(with_head!(
                v.preamble,
                ValueSetInfo {
                    fields: fields(&name, &v.r#match)?,
                    size: v.size,
                }
            ))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let catalog = Catalog {
        tables: Section::new(Kind::Table, tables)?,
        actions,
        profiles: Section::new(
            Kind::ActionProfile,
            info.action_profiles
                .iter()
                .map(|p| {
                    with_head!(
                        p.preamble,
                        ProfileInfo {
                            tables: p.table_ids.clone(),
                            selector: p.with_selector,
                            size: p.size,
                            max_group_size: p.max_group_size,
                            sum_of_members: sum_of_members(p).is_some(),
                            max_member_weight: sum_of_members(p)
                                .map_or(0, |members| members.max_member_weight),
                            weights_disallowed: p.weights_disallowed,
                        }
                    )
                })
                .collect(),
        )?,
        counters: Section::new(
            Kind::Counter,
            info.counters
                .iter()
                .map(|c| {
                    with_head!(
                        c.preamble,
                        ArrayInfo {
                            size: c.size,
                            unit: c.spec.map_or(0, |spec| spec.unit),
                        }
                    )
                })
                .collect(),
        )?,
        direct_counters,
        meters: Section::new(
            Kind::Meter,
            info.meters
                .iter()
                .map(|m| {
                    with_head!(
                        m.preamble,
                        ArrayInfo {
                            size: m.size,
                            unit: m.spec.map_or(0, |spec| spec.unit),
                        }
                    )
                })
                .collect(),
        )?,
        direct_meters,
        registers: Section::new(
            Kind::Register,
            info.registers
                .iter()
                .map(|r| {
                    with_head!(
                        r.preamble,
                        RegisterInfo {
                            size: i64::from(r.size),
                            width: r.type_spec.as_ref().and_then(bit_width),
                        }
                    )
                })
                .collect(),
        )?,
        value_sets: Section::new(Kind::ValueSet, value_sets)?,
        digests: Section::new(
            Kind::Digest,
            info.digests
                .iter()
                .map(|d| with_head!(d.preamble, PlainInfo {}))
                .collect(),
        )?,
        headers: Section::new(
            Kind::PacketHeader,
            info.controller_packet_metadata
                .iter()
                .map(|h| {
                    with_head!(
                        h.preamble,
                        HeaderInfo {
                            fields: h
                                .metadata
                                .iter()
                                .map(|m| ParamInfo {
                                    id: m.id,
                                    name: m.name.clone(),
                                    width: Width::of_bitwidth(m.bitwidth),
                                })
                                .collect(),
                        }
                    )
                })
                .collect(),
        )?,
        info,
    };
    check_references(&catalog)?;
    Ok(catalog)
}

fn bit_width(spec: &P4DataTypeSpec) -> Option<usize> {
    let Some(p4_data_type_spec::TypeSpec::Bitstring(bits)) = &spec.type_spec else {
        return None;
    };
    let width = match bits.type_spec.as_ref()? {
        p4_bitstring_like_type_spec::TypeSpec::Bit(bit) => bit.bitwidth,
        p4_bitstring_like_type_spec::TypeSpec::Int(int) => int.bitwidth,
        p4_bitstring_like_type_spec::TypeSpec::Varbit(_) => return None,
    };
    usize::try_from(width).ok()
}

fn action(a: &p4::Action) -> ActionInfo {
    with_head!(
        a.preamble,
        ActionInfo {
            params: a
                .params
                .iter()
                .map(|p| ParamInfo {
                    id: p.id,
                    name: p.name.clone(),
                    width: Width::of_bitwidth(p.bitwidth),
                })
                .collect(),
        }
    )
}

fn fields(owner: &str, fields: &[p4::MatchField]) -> Result<Vec<FieldInfo>, CatalogError> {
    fields
        .iter()
        .map(|field| {
            let bad = |kind: String| CatalogError::MatchKind {
                table: owner.to_owned(),
                field: field.name.clone(),
                kind,
            };
            let kind = match &field.r#match {
                Some(match_field::Match::MatchType(kind)) => {
                    match match_field::MatchType::try_from(*kind) {
                        Ok(match_field::MatchType::Exact) => MatchKind::Exact,
                        Ok(match_field::MatchType::Lpm) => MatchKind::Lpm,
                        Ok(match_field::MatchType::Ternary) => MatchKind::Ternary,
                        Ok(match_field::MatchType::Range) => MatchKind::Range,
                        Ok(match_field::MatchType::Optional) => MatchKind::Optional,
                        Ok(match_field::MatchType::Unspecified) | Err(_) => {
                            return Err(bad(format!("number {kind}")));
                        }
                    }
                }
                Some(match_field::Match::OtherMatchType(kind)) => return Err(bad(kind.clone())),
                None => return Err(bad("none".to_owned())),
            };
            Ok(FieldInfo {
                id: field.id,
                name: field.name.clone(),
                width: Width::of_bitwidth(field.bitwidth),
                kind,
            })
        })
        .collect()
}

fn table(
    t: &p4::Table,
    counters: &Section<DirectInfo>,
    meters: &Section<DirectInfo>,
) -> Result<TableInfo, CatalogError> {
    let name = head(t.preamble.as_ref()).name;
    let fields = fields(&name, &t.match_fields)?;
    let some = |id: u32| (id != 0).then_some(id);
    let direct = |section: &Section<DirectInfo>| {
        t.direct_resource_ids
            .iter()
            .copied()
            .find(|id| section.get(*id).is_some())
    };
    Ok(with_head!(
        t.preamble,
        TableInfo {
            has_priority: fields.iter().any(|field| {
                matches!(
                    field.kind,
                    MatchKind::Ternary | MatchKind::Range | MatchKind::Optional
                )
            }),
            fields,
            actions: t
                .action_refs
                .iter()
                .map(|a| ActionUse {
                    action: a.id,
                    scope: match a.scope() {
                        action_ref::Scope::TableAndDefault => Scope::Both,
                        action_ref::Scope::TableOnly => Scope::Entries,
                        action_ref::Scope::DefaultOnly => Scope::Default,
                        action_ref::Scope::GroupAction => Scope::Group,
                    },
                })
                .collect(),
            size: t.size,
            ages: t.idle_timeout_behavior() == table::IdleTimeoutBehavior::NotifyControl,
            profile: some(t.implementation_id),
            direct_counter: direct(counters),
            direct_meter: direct(meters),
            is_const: t.is_const_table,
            const_default_action: some(t.const_default_action_id),
        }
    ))
}

fn sum_of_members(profile: &p4::ActionProfile) -> Option<&p4::action_profile::SumOfMembers> {
    match &profile.selector_size_semantics {
        Some(p4::action_profile::SelectorSizeSemantics::SumOfMembers(members)) => Some(members),
        _ => None,
    }
}

fn check_references(catalog: &Catalog) -> Result<(), CatalogError> {
    let dangling = |from: &str, kind, id| CatalogError::Dangling {
        from: from.to_owned(),
        kind,
        id,
    };
    for table in catalog.tables.iter() {
        for used in &table.actions {
            if catalog.actions.get(used.action).is_none() {
                return Err(dangling(&table.name, Kind::Action, used.action));
            }
        }
        if let Some(id) = table.profile
            && catalog.profiles.get(id).is_none()
        {
            return Err(dangling(&table.name, Kind::ActionProfile, id));
        }
        if let Some(id) = table.const_default_action
            && catalog.actions.get(id).is_none()
        {
            return Err(dangling(&table.name, Kind::Action, id));
        }
    }
    for table in &catalog.p4info().tables {
        for id in &table.direct_resource_ids {
            // Ids from 0x80000000 on are those of other externs, which P4Info describes elsewhere.
            let kind = match catalog.direct_meters.get(*id) {
                None if *id >> 31 == 0 => Kind::DirectCounter,
                _ => continue,
            };
            if catalog.direct_counters.get(*id).is_none() {
                let name = head(table.preamble.as_ref()).name;
                return Err(dangling(&name, kind, *id));
            }
        }
    }
    for profile in catalog.profiles.iter() {
        for id in &profile.tables {
            if catalog.tables.get(*id).is_none() {
                return Err(dangling(&profile.name, Kind::Table, *id));
            }
        }
    }
    for direct in catalog
        .direct_counters
        .iter()
        .chain(catalog.direct_meters.iter())
    {
        if catalog.tables.get(direct.table).is_none() {
            return Err(dangling(&direct.name, Kind::Table, direct.table));
        }
    }
    Ok(())
}
