//! The protobuf text format of P4Info and of any other message of the protocol.
//! It knows the messages by reflection, and places its errors by line and column.

use std::{fmt::Write, sync::OnceLock};

use miette::Diagnostic;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value,
};
use thiserror::Error;

use crate::proto::{FILE_DESCRIPTOR_SET, p4::config::v1::P4Info};

/// Why a text, or a binary form, is not the message that it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TextError {
    /// The text is not well formed, or names a field that the message lacks.
    #[error("line {line}, column {column}: {message}")]
    Syntax {
        /// Counts from 1.
        line: usize,
        /// Counts characters from 1.
        column: usize,
        /// Byte offset into the text.
        offset: usize,
        /// What was found and what was expected.
        message: String,
    },
    /// The bytes are not that message in protobuf's binary form.
    #[error("not a binary `{message_name}`: {message}")]
    Binary {
        /// The message's full name.
        message_name: String,
        /// What the decoder stumbled over.
        message: String,
    },
    /// The protocol has no message of that name.
    #[error("there is no message `{0}`")]
    UnknownMessage(String),
}

/// Every message of the protocol, for reflection.
pub fn descriptor_pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    // The set is made by our own build script; an unreadable one would leave an
    // empty pool, and every look-up would say so.
    POOL.get_or_init(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap_or_default())
}

/// Prints P4Info as p4c's `.p4info.txtpb` files have it: one field a line, two
/// spaces an indent, fields in the order of their numbers.
pub fn print_p4info(info: &P4Info) -> String {
    print("p4.config.v1.P4Info", info).unwrap_or_default()
}

/// Reads P4Info from the text format. Comments and any layout are accepted.
pub fn parse_p4info(text: &str) -> Result<P4Info, TextError> {
    parse("p4.config.v1.P4Info", text)
}

/// Reads P4Info from protobuf's binary form.
pub fn decode_p4info(bytes: &[u8]) -> Result<P4Info, TextError> {
    P4Info::decode(bytes).map_err(|error| TextError::Binary {
        message_name: "p4.config.v1.P4Info".to_owned(),
        message: error.to_string(),
    })
}

/// Reads P4Info from a file's content, in text or binary form.
///
/// A text that is no P4Info is reported as a text, unless it holds bytes that no text has.
pub fn read_p4info(content: &[u8]) -> Result<P4Info, TextError> {
    match std::str::from_utf8(content) {
        Ok(text) if !text.contains('\0') => match parse_p4info(text) {
            Ok(info) => Ok(info),
            // A small binary P4Info can be valid UTF-8 too.
            Err(error) => decode_p4info(content)
                .ok()
                .filter(|info| text.chars().any(char::is_control) && *info != P4Info::default())
                .ok_or(error),
        },
        _ => decode_p4info(content),
    }
}

/// Prints a message of the protocol, named in full (`p4.v1.TableEntry`).
pub fn print<M: Message>(message_name: &str, message: &M) -> Result<String, TextError> {
    let descriptor = descriptor_pool()
        .get_message_by_name(message_name)
        .ok_or_else(|| TextError::UnknownMessage(message_name.to_owned()))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).map_err(
        |error| TextError::Binary {
            message_name: message_name.to_owned(),
            message: error.to_string(),
        },
    )?;
    let mut text = String::new();
    print_fields(&dynamic, 0, &mut text);
    Ok(text)
}

/// Reads a message of the protocol, named in full, from the text format.
pub fn parse<M: Message + Default>(message_name: &str, text: &str) -> Result<M, TextError> {
    let descriptor = descriptor_pool()
        .get_message_by_name(message_name)
        .ok_or_else(|| TextError::UnknownMessage(message_name.to_owned()))?;
    let dynamic = DynamicMessage::parse_text_format(descriptor, text).map_err(|error| {
        let offset = error
            .labels()
            .and_then(|mut labels| labels.next())
            .map_or(text.len(), |label| label.offset())
            .min(text.len());
        let (line, column) = place(text, offset);
        TextError::Syntax {
            line,
            column,
            offset,
            message: error.to_string(),
        }
    })?;
    M::decode(dynamic.encode_to_vec().as_slice()).map_err(|error| TextError::Binary {
        message_name: message_name.to_owned(),
        message: error.to_string(),
    })
}

/// The layout of C++'s printer, which p4c's files have: an element of a list is a
/// field of its own, and an entry of a map is a message with `key` and `value`.
fn print_fields(message: &DynamicMessage, indent: usize, out: &mut String) {
    for field in message.descriptor().fields() {
        if !message.has_field(&field) {
            continue;
        }
        match message.get_field(&field).as_ref() {
            Value::List(items) => {
                for item in items {
                    print_field(&field, field.name(), item, indent, out);
                }
            }
            Value::Map(entries) => {
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_by(|(a, _), (b, _)| key_order(a).cmp(&key_order(b)));
                let Kind::Message(entry) = field.kind() else {
                    continue;
                };
                for (key, value) in entries {
                    let _ = writeln!(out, "{:indent$}{} {{", "", field.name());
                    let key = Value::from(key.clone());
                    for (field, value) in entry.fields().zip([&key, value]) {
                        print_field(&field, field.name(), value, indent + 2, out);
                    }
                    let _ = writeln!(out, "{:indent$}}}", "");
                }
            }
            value => print_field(&field, field.name(), value, indent, out),
        }
    }
}

fn key_order(key: &MapKey) -> (i128, &str) {
    match key {
        MapKey::Bool(b) => (i128::from(*b), ""),
        MapKey::I32(n) => (i128::from(*n), ""),
        MapKey::I64(n) => (i128::from(*n), ""),
        MapKey::U32(n) => (i128::from(*n), ""),
        MapKey::U64(n) => (i128::from(*n), ""),
        MapKey::String(text) => (0, text),
    }
}

fn print_field(
    field: &FieldDescriptor,
    name: &str,
    value: &Value,
    indent: usize,
    out: &mut String,
) {
    if let Value::Message(inner) = value {
        let _ = writeln!(out, "{:indent$}{name} {{", "");
        print_fields(inner, indent + 2, out);
        let _ = writeln!(out, "{:indent$}}}", "");
        return;
    }
    let _ = write!(out, "{:indent$}{name}: ", "");
    let _ = match value {
        Value::Bool(b) => write!(out, "{b}"),
        Value::I32(n) => write!(out, "{n}"),
        Value::I64(n) => write!(out, "{n}"),
        Value::U32(n) => write!(out, "{n}"),
        Value::U64(n) => write!(out, "{n}"),
        Value::F32(n) => write!(out, "{n}"),
        Value::F64(n) => write!(out, "{n}"),
        Value::String(text) => {
            quote(text.as_bytes(), out);
            Ok(())
        }
        Value::Bytes(bytes) => {
            quote(bytes, out);
            Ok(())
        }
        Value::EnumNumber(number) => match field.kind() {
            Kind::Enum(kind) => match kind.get_value(*number) {
                Some(member) => write!(out, "{}", member.name()),
                None => write!(out, "{number}"),
            },
            _ => write!(out, "{number}"),
        },
        Value::Message(_) | Value::List(_) | Value::Map(_) => Ok(()),
    };
    out.push('\n');
}

/// A quoted string: printable ASCII as it is, the rest as C escapes.
fn quote(bytes: &[u8], out: &mut String) {
    out.push('"');
    for &byte in bytes {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'"' | b'\'' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\{byte:03o}");
            }
        }
    }
    out.push('"');
}

/// Line and column, from 1, of a byte offset.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::p4::config::v1::{
        P4SerializableEnumTypeSpec, Preamble, Table, p4_serializable_enum_type_spec,
    };

    fn sample() -> P4Info {
        P4Info {
            tables: vec![Table {
                preamble: Some(Preamble {
                    id: 0x0200_0001,
                    name: "Ingress.web_lb.fixed".to_owned(),
                    alias: "web_lb.fixed".to_owned(),
                    ..Preamble::default()
                }),
                size: 1024,
                ..Table::default()
            }],
            ..P4Info::default()
        }
    }

    #[test]
    fn p4info_survives_the_text_format() {
        let text = print_p4info(&sample());
        assert_eq!(parse_p4info(&text).unwrap(), sample(), "{text}");
        assert!(
            text.contains("tables {\n  preamble {\n    id: 33554433\n"),
            "{text}"
        );
    }

    #[test]
    fn maps_enums_and_bytes_print_as_p4c_prints_them() {
        let mut info = sample();
        let types = info.type_info.get_or_insert_default();
        for name in ["b_t", "a_t"] {
            types.serializable_enums.insert(
                name.to_owned(),
                P4SerializableEnumTypeSpec {
                    members: vec![p4_serializable_enum_type_spec::Member {
                        name: "it's".to_owned(),
                        value: vec![0, 0x41, 0xff],
                        ..Default::default()
                    }],
                    ..Default::default()
                },
            );
        }
        info.tables[0].idle_timeout_behavior = 1;
        let text = print_p4info(&info);
        assert_eq!(parse_p4info(&text).unwrap(), info, "{text}");
        assert!(
            text.contains("  idle_timeout_behavior: NOTIFY_CONTROL\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "  serializable_enums {\n    key: \"a_t\"\n    value {\n      members {\n        \
                 name: \"it\\'s\"\n        value: \"\\000A\\377\"\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn text_and_binary_files_are_told_apart() {
        let text = print_p4info(&sample());
        assert_eq!(read_p4info(text.as_bytes()).unwrap(), sample());
        assert_eq!(read_p4info(&sample().encode_to_vec()).unwrap(), sample());
    }

    #[test]
    fn an_unknown_field_is_placed_by_line_and_column() {
        let error = parse_p4info("tables {\n  preambel { id: 1 }\n}\n").unwrap_err();
        let TextError::Syntax {
            line,
            column,
            message,
            ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((line, column), (2, 3));
        assert!(message.contains("preambel"), "{message}");
    }

    #[test]
    fn an_unfinished_text_is_placed_at_its_end() {
        let error = parse_p4info("tables {\n  size: 3\n").unwrap_err();
        assert!(error.to_string().starts_with("line 3, column 1"), "{error}");
    }
}
