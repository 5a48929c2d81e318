//! Our .proto files against the public interface, as `record_public_interface.py` wrote it down.

use std::{collections::BTreeSet, fmt::Write};

use prost_reflect::{Cardinality, EnumDescriptor, Kind, MessageDescriptor};
use signalbox_p4runtime::text::descriptor_pool;

fn type_name(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(kind) => kind.full_name().to_owned(),
        Kind::Bool => "bool".to_owned(),
        Kind::Bytes => "bytes".to_owned(),
        Kind::String => "string".to_owned(),
        Kind::Int32 => "int32".to_owned(),
        Kind::Int64 => "int64".to_owned(),
        Kind::Uint32 => "uint32".to_owned(),
        Kind::Uint64 => "uint64".to_owned(),
        other => format!("{other:?}"),
    }
}

fn message(message: &MessageDescriptor, lines: &mut BTreeSet<String>) {
    let name = message.full_name();
    lines.insert(format!("message {name}"));
    for field in message.fields() {
        let label = match field.cardinality() {
            Cardinality::Repeated => "repeated ",
            _ => "",
        };
        let mut line = format!(
            "field {} = {} {label}{}",
            field.full_name(),
            field.number(),
            type_name(&field.kind())
        );
        if let Some(oneof) = field.containing_oneof() {
            write!(line, " in {}", oneof.name()).unwrap();
        }
        lines.insert(line);
    }
    for nested in message.child_messages() {
        self::message(&nested, lines);
    }
    for kind in message.child_enums() {
        values(&kind, lines);
    }
}

fn values(kind: &EnumDescriptor, lines: &mut BTreeSet<String>) {
    for value in kind.values() {
        let line = format!(
            "value {}.{} = {}",
            kind.full_name(),
            value.name(),
            value.number()
        );
        lines.insert(line);
    }
}

fn ours() -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in descriptor_pool().files() {
        if !["p4.v1", "p4.config.v1", "google.rpc"].contains(&file.package_name()) {
            continue;
        }
        for m in file.messages() {
            message(&m, &mut lines);
        }
        for e in file.enums() {
            values(&e, &mut lines);
        }
        for service in file.services() {
            for method in service.methods() {
                let stream = |yes| if yes { "stream " } else { "" };
                lines.insert(format!(
                    "method {}: {}{} -> {}{}",
                    method.full_name(),
                    stream(method.is_client_streaming()),
                    method.input().full_name(),
                    stream(method.is_server_streaming()),
                    method.output().full_name()
                ));
            }
        }
    }
    lines
}

#[test]
fn names_numbers_and_types_are_those_of_the_public_interface() {
    let public: BTreeSet<String> = include_str!("public_interface.txt")
        .lines()
        .map(str::to_owned)
        .collect();
    let ours = ours();
    let missing: Vec<&String> = public.difference(&ours).collect();
    let surplus: Vec<&String> = ours.difference(&public).collect();
    assert!(missing.is_empty(), "not in ours: {missing:#?}");
    assert!(surplus.is_empty(), "only in ours: {surplus:#?}");
}
