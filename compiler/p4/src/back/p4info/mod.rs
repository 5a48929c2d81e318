//! P4Info: what a P4Runtime controller has to know of a program. Names, ids and order are those that
//! p4c gives the same program.

mod annotation;
mod ids;
mod types;

use num_bigint::BigInt;
use signalbox_p4runtime::proto::p4::config::v1 as p4;

use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::ir::{
    Action, ActionScope, Annotation, ControlPlaneItem, Handle, MatchKind, Names, PacketHeader,
    Param, Profile, Program, Table, Unit, ValueSet,
};
use crate::source::Span;

use annotation::annotations;
use ids::{Kind, Symbols, small_ids};
use types::{bytes, data_type, named, small, type_info};

/// The size of a table that asks for none.
const DEFAULT_SIZE: u64 = 1024;

/// Writes the P4Info of a program.
///
/// # Errors
///
/// Ids that the program asks for and that clash.
pub fn write(program: &Program) -> Result<p4::P4Info, Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let mut symbols = Symbols::default();
    for item in &program.control_plane {
        let (kind, names, span) = names(program, item);
        if let Err(error) = symbols.add(kind, &names.name, names.id) {
            let message = format!("`{}`: {error}", names.name);
            diagnostics.push(match span {
                Some(span) => Diagnostic::error(span, message),
                None => Diagnostic::error_without_place(message),
            });
        }
    }
    symbols.assign();
    if diagnostics.has_errors() {
        return Err(diagnostics);
    }
    let writer = Writer { program, symbols };
    let mut info = p4::P4Info {
        pkg_info: Some(writer.package()),
        ..Default::default()
    };
    let mut seen: Vec<u32> = Vec::new();
    for item in &program.control_plane {
        writer.item(item, &mut info, &mut seen);
    }
    let types = type_info(&program.type_definitions);
    // As p4c has it: even empty, once anything was looked at that might have a type.
    let has_types = |item: &ControlPlaneItem| {
        !matches!(
            item,
            ControlPlaneItem::Action(_) | ControlPlaneItem::ValueSet(_)
        )
    };
    if program.calls_externs
        || types != p4::P4TypeInfo::default()
        || program.control_plane.iter().any(has_types)
    {
        info.type_info = Some(types);
    }
    Ok(info)
}

/// What an item is, how it is called, and where it is.
fn names(program: &Program, item: &ControlPlaneItem) -> (Kind, Names, Option<Span>) {
    macro_rules! of {
        ($kind:ident, $things:ident, $handle:expr) => {{
            let thing = &program.$things[*$handle];
            (Kind::$kind, thing.names.clone(), Some(thing.span))
        }};
    }
    match item {
        ControlPlaneItem::Table(h) => of!(Table, tables, h),
        ControlPlaneItem::Action(h) => of!(Action, actions, h),
        ControlPlaneItem::Counter(h) => of!(Counter, counters, h),
        ControlPlaneItem::DirectCounter(h) => of!(DirectCounter, direct_counters, h),
        ControlPlaneItem::Meter(h) => of!(Meter, meters, h),
        ControlPlaneItem::DirectMeter(h) => of!(DirectMeter, direct_meters, h),
        ControlPlaneItem::Register(h) => of!(Register, registers, h),
        ControlPlaneItem::Profile(h) => of!(ActionProfile, profiles, h),
        ControlPlaneItem::ValueSet(h) => of!(ValueSet, value_sets, h),
        ControlPlaneItem::PacketHeader(header) => (Kind::PacketHeader, header.names.clone(), None),
        ControlPlaneItem::Digest(h) => {
            let names = Names {
                name: program.digests[*h].name.clone(),
                ..Names::default()
            };
            (Kind::Digest, names, None)
        }
    }
}

struct Writer<'a> {
    program: &'a Program,
    symbols: Symbols,
}

impl Writer<'_> {
    fn preamble(&self, kind: Kind, names: &Names, without: &[&str]) -> Option<p4::Preamble> {
        let own = annotations(&names.annotations, without);
        Some(p4::Preamble {
            id: self.symbols.id(kind, &names.name),
            name: names.name.to_string(),
            alias: self.symbols.alias(&names.name),
            annotations: own.text,
            doc: own.doc,
            structured_annotations: own.structured,
            ..Default::default()
        })
    }

    fn item(&self, item: &ControlPlaneItem, info: &mut p4::P4Info, seen: &mut Vec<u32>) {
        let program = self.program;
        match item {
            ControlPlaneItem::Table(handle) => {
                let table = &program.tables[*handle];
                if table.hidden {
                    return;
                }
                info.tables.push(self.table(table));
                if let Some(counter) = table.counter {
                    info.direct_counters.push(p4::DirectCounter {
                        preamble: self.preamble(
                            Kind::DirectCounter,
                            &program.direct_counters[counter].names,
                            &[],
                        ),
                        spec: Some(counter_spec(program.direct_counters[counter].unit)),
                        direct_table_id: self.symbols.id(Kind::Table, &table.names.name),
                    });
                }
                if let Some(meter) = table.meter {
                    info.direct_meters.push(p4::DirectMeter {
                        preamble: self.preamble(
                            Kind::DirectMeter,
                            &program.direct_meters[meter].names,
                            &[],
                        ),
                        spec: Some(meter_spec(program.direct_meters[meter].unit)),
                        direct_table_id: self.symbols.id(Kind::Table, &table.names.name),
                    });
                }
            }
            ControlPlaneItem::Action(handle) => {
                let action = &program.actions[*handle];
                let id = self.symbols.id(Kind::Action, &action.names.name);
                if !action.hidden && !seen.contains(&id) {
                    seen.push(id);
                    info.actions.push(self.action(action));
                }
            }
            ControlPlaneItem::Counter(handle) => {
                let counter = &program.counters[*handle];
                info.counters.push(p4::Counter {
                    preamble: self.preamble(Kind::Counter, &counter.names, &[]),
                    spec: Some(counter_spec(counter.unit)),
                    size: i64::try_from(counter.size).unwrap_or(i64::MAX),
                    ..Default::default()
                });
            }
            ControlPlaneItem::Meter(handle) => {
                let meter = &program.meters[*handle];
                info.meters.push(p4::Meter {
                    preamble: self.preamble(Kind::Meter, &meter.names, &[]),
                    spec: Some(meter_spec(meter.unit)),
                    size: i64::try_from(meter.size).unwrap_or(i64::MAX),
                    ..Default::default()
                });
            }
            ControlPlaneItem::Register(handle) => {
                let register = &program.registers[*handle];
                info.registers.push(p4::Register {
                    preamble: self.preamble(Kind::Register, &register.names, &[]),
                    type_spec: Some(data_type(&register.data_type)),
                    size: i32::try_from(register.size).unwrap_or(i32::MAX),
                    ..Default::default()
                });
            }
            ControlPlaneItem::Profile(handle) => info
                .action_profiles
                .push(self.profile(&program.profiles[*handle])),
            ControlPlaneItem::ValueSet(handle) => info
                .value_sets
                .push(self.value_set(&program.value_sets[*handle])),
            ControlPlaneItem::Digest(handle) => {
                let digest = &program.digests[*handle];
                let id = self.symbols.id(Kind::Digest, &digest.name);
                if !seen.contains(&id) {
                    seen.push(id);
                    let names = Names {
                        name: digest.name.clone(),
                        id: None,
                        annotations: Vec::new(),
                    };
                    info.digests.push(p4::Digest {
                        preamble: self.preamble(Kind::Digest, &names, &[]),
                        type_spec: Some(data_type(&digest.data_type)),
                    });
                }
            }
            ControlPlaneItem::PacketHeader(header) => info
                .controller_packet_metadata
                .push(self.packet_header(header)),
            // They come with their tables.
            ControlPlaneItem::DirectCounter(_) | ControlPlaneItem::DirectMeter(_) => {}
        }
    }

    fn table(&self, table: &Table) -> p4::Table {
        let program = self.program;
        let ids = small_ids(&table.keys.iter().map(|k| k.id).collect::<Vec<_>>());
        let match_fields = table
            .keys
            .iter()
            .zip(ids)
            .filter(|(key, _)| key.kind != MatchKind::Selector)
            .map(|(key, id)| {
                match_field(
                    &key.name,
                    id,
                    key.kind,
                    key.width,
                    key.type_name.as_deref(),
                    &key.annotations,
                    &[],
                )
            })
            .collect();
        let action_refs = table
            .actions
            .iter()
            .map(|action| {
                let own = annotations(&action.annotations, &[]);
                let scope = match action.scope {
                    ActionScope::Both => p4::action_ref::Scope::TableAndDefault,
                    ActionScope::TableOnly => p4::action_ref::Scope::TableOnly,
                    ActionScope::DefaultOnly => p4::action_ref::Scope::DefaultOnly,
                };
                p4::ActionRef {
                    id: self.action_id(action.action),
                    annotations: own.text,
                    structured_annotations: own.structured,
                    scope: scope.into(),
                    ..Default::default()
                }
            })
            .collect();
        let default = &table.default;
        let default_id = self.action_id(default.action);
        let params = &program.actions[default.action].params;
        let param_ids = param_ids(params);
        let arguments = params
            .iter()
            .zip(param_ids)
            .zip(&default.arguments)
            .map(
                |((param, param_id), value)| p4::table_action_call::Argument {
                    param_id,
                    value: bytes(value, control_plane_width(param)),
                },
            )
            .collect();
        let mut direct_resource_ids = Vec::new();
        if let Some(counter) = table.counter {
            direct_resource_ids.push(self.symbols.id(
                Kind::DirectCounter,
                &program.direct_counters[counter].names.name,
            ));
        }
        if let Some(meter) = table.meter {
            direct_resource_ids.push(
                self.symbols
                    .id(Kind::DirectMeter, &program.direct_meters[meter].names.name),
            );
        }
        let idle = if table.support_timeout {
            p4::table::IdleTimeoutBehavior::NotifyControl
        } else {
            p4::table::IdleTimeoutBehavior::NoTimeout
        };
        p4::Table {
            preamble: self.preamble(Kind::Table, &table.names, &[]),
            match_fields,
            action_refs,
            const_default_action_id: if default.constant { default_id } else { 0 },
            initial_default_action: Some(p4::TableActionCall {
                action_id: default_id,
                arguments,
            }),
            implementation_id: table.profile.map_or(0, |p| {
                self.symbols
                    .id(Kind::ActionProfile, &program.profiles[p].names.name)
            }),
            direct_resource_ids,
            size: i64::try_from(table.size.unwrap_or(DEFAULT_SIZE)).unwrap_or(i64::MAX),
            idle_timeout_behavior: idle.into(),
            is_const_table: table.entries.as_ref().is_some_and(|e| e.constant),
            has_initial_entries: table.entries.as_ref().is_some_and(|e| !e.list.is_empty()),
            other_properties: None,
        }
    }

    fn action_id(&self, action: Handle<Action>) -> u32 {
        self.symbols
            .id(Kind::Action, &self.program.actions[action].names.name)
    }

    fn action(&self, action: &Action) -> p4::Action {
        let params = action
            .params
            .iter()
            .zip(param_ids(&action.params))
            .map(|(param, id)| {
                let own = annotations(&param.annotations, &[]);
                p4::action::Param {
                    id,
                    name: param.name.to_string(),
                    annotations: own.text,
                    bitwidth: small(param.width),
                    doc: own.doc,
                    type_name: param.type_name.as_deref().map(named),
                    structured_annotations: own.structured,
                    ..Default::default()
                }
            })
            .collect();
        p4::Action {
            preamble: self.preamble(Kind::Action, &action.names, &[]),
            params,
        }
    }

    fn profile(&self, profile: &Profile) -> p4::ActionProfile {
        use p4::action_profile::{SelectorSizeSemantics, SumOfMembers, SumOfWeights};
        const OWN: [&str; 3] = [
            "max_group_size",
            "selector_size_semantics",
            "max_member_weight",
        ];
        let mut tables: Vec<&str> = profile
            .tables
            .iter()
            .map(|t| &*self.program.tables[*t].names.name)
            .collect();
        tables.sort_unstable();
        let number = |wanted: &str| {
            let annotation = profile
                .names
                .annotations
                .iter()
                .find(|a| a.name() == wanted)?;
            match annotation {
                Annotation::Unstructured {
                    body: Some(body), ..
                } => body.parse::<i32>().ok(),
                _ => None,
            }
        };
        let semantics = profile.names.annotations.iter().find_map(|a| match a {
            Annotation::Unstructured {
                name,
                string: Some(text),
                ..
            } if &**name == "selector_size_semantics" => Some(text.to_ascii_lowercase()),
            _ => None,
        });
        let selects = profile.selector.is_some();
        let selector_size_semantics = match semantics.as_deref() {
            Some("sum_of_weights") if selects => {
                Some(SelectorSizeSemantics::SumOfWeights(SumOfWeights {}))
            }
            Some("sum_of_members") if selects => {
                let max_member_weight = number("max_member_weight").unwrap_or(0);
                Some(SelectorSizeSemantics::SumOfMembers(SumOfMembers {
                    max_member_weight,
                }))
            }
            _ => None,
        };
        p4::ActionProfile {
            preamble: self.preamble(Kind::ActionProfile, &profile.names, &OWN),
            table_ids: tables
                .into_iter()
                .map(|name| self.symbols.id(Kind::Table, name))
                .collect(),
            with_selector: selects,
            size: i64::try_from(profile.size).unwrap_or(i64::MAX),
            max_group_size: if selects {
                number("max_group_size").unwrap_or(0)
            } else {
                0
            },
            selector_size_semantics,
            weights_disallowed: false,
        }
    }

    fn value_set(&self, set: &ValueSet) -> p4::ValueSet {
        let ids = small_ids(&set.fields.iter().map(|f| f.id).collect::<Vec<_>>());
        let fields = set
            .fields
            .iter()
            .zip(ids)
            .map(|(field, id)| {
                match_field(
                    &field.name,
                    id,
                    field.match_kind,
                    field.width,
                    None,
                    &field.annotations,
                    &["match"],
                )
            })
            .collect();
        p4::ValueSet {
            preamble: self.preamble(Kind::ValueSet, &set.names, &[]),
            r#match: fields,
            size: i32::try_from(set.size).unwrap_or(i32::MAX),
        }
    }

    fn packet_header(&self, header: &PacketHeader) -> p4::ControllerPacketMetadata {
        let ids = small_ids(&header.fields.iter().map(|f| f.id).collect::<Vec<_>>());
        let metadata = header
            .fields
            .iter()
            .zip(ids)
            .filter(|(field, _)| !field.hidden)
            .map(|(field, id)| {
                let own = annotations(&field.annotations, &[]);
                p4::controller_packet_metadata::Metadata {
                    id,
                    name: field.name.to_string(),
                    annotations: own.text,
                    bitwidth: small(field.width),
                    type_name: field.type_name.as_deref().map(named),
                    structured_annotations: own.structured,
                    ..Default::default()
                }
            })
            .collect();
        let mut preamble = self.preamble(Kind::PacketHeader, &header.names, &[]);
        if let Some(preamble) = &mut preamble {
            preamble.name = header.controller_name.to_string();
            preamble.alias = header.controller_name.to_string();
        }
        p4::ControllerPacketMetadata { preamble, metadata }
    }

    fn package(&self) -> p4::PkgInfo {
        let package = &self.program.package;
        let own = annotations(&package.annotations, &[]);
        let mut info = p4::PkgInfo {
            arch: "v1model".to_string(),
            annotations: own.text,
            doc: own.doc,
            structured_annotations: own.structured,
            ..Default::default()
        };
        for (key, value) in &package.info {
            let value = value.to_string();
            match &**key {
                "name" => info.name = value,
                "version" => info.version = value,
                "organization" => info.organization = value,
                "contact" => info.contact = value,
                "url" => info.url = value,
                "arch" => info.arch = value,
                _ => {}
            }
        }
        if !package.platform.is_empty() {
            let number = |wanted: &str| {
                let found = package.platform.iter().find(|(key, _)| &**key == wanted);
                found
                    .and_then(|(_, value): &(_, BigInt)| i32::try_from(value).ok())
                    .unwrap_or(0)
            };
            info.platform_properties = Some(p4::PlatformProperties {
                multicast_group_table_size: number("multicast_group_table_size"),
                multicast_group_table_total_replicas: number(
                    "multicast_group_table_total_replicas",
                ),
                multicast_group_table_max_replicas_per_entry: number(
                    "multicast_group_table_max_replicas_per_entry",
                ),
            });
        }
        info
    }
}

/// The width of a parameter's value where the control plane gives or sees it. Numbers that stand for
/// strings keep the width they have in the program.
fn control_plane_width(param: &Param) -> u32 {
    match param.width {
        0 => param.ty.width(),
        width => width,
    }
}

fn param_ids(params: &[Param]) -> Vec<u32> {
    small_ids(&params.iter().map(|p| p.id).collect::<Vec<_>>())
}

fn match_field(
    name: &str,
    id: u32,
    kind: MatchKind,
    width: u32,
    type_name: Option<&str>,
    list: &[Annotation],
    without: &[&str],
) -> p4::MatchField {
    use p4::match_field::{Match, MatchType};
    let match_type = match kind {
        MatchKind::Exact => MatchType::Exact,
        MatchKind::Lpm => MatchType::Lpm,
        MatchKind::Ternary => MatchType::Ternary,
        MatchKind::Range => MatchType::Range,
        MatchKind::Optional => MatchType::Optional,
        MatchKind::Selector => MatchType::Unspecified,
    };
    let own = annotations(list, without);
    p4::MatchField {
        id,
        name: name.to_string(),
        annotations: own.text,
        bitwidth: small(width),
        doc: own.doc,
        type_name: type_name.map(named),
        structured_annotations: own.structured,
        r#match: Some(Match::MatchType(match_type.into())),
        ..Default::default()
    }
}

fn counter_spec(unit: Unit) -> p4::CounterSpec {
    use p4::counter_spec::Unit as U;
    let unit = match unit {
        Unit::Packets => U::Packets,
        Unit::Bytes => U::Bytes,
        Unit::Both => U::Both,
    };
    p4::CounterSpec { unit: unit.into() }
}

fn meter_spec(unit: Unit) -> p4::MeterSpec {
    use p4::meter_spec::Unit as U;
    let unit = if unit == Unit::Packets {
        U::Packets
    } else {
        U::Bytes
    };
    p4::MeterSpec {
        unit: unit.into(),
        ..Default::default()
    }
}
