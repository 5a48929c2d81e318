//! Annotations and documentation as P4Info carries them.

use num_traits::ToPrimitive;
use signalbox_p4runtime::proto::p4::config::v1 as p4;

use crate::ir::{Annotation, AnnotationArgument};

/// Annotations of one thing, in the three forms of P4Info.
#[derive(Default)]
pub struct Annotations {
    pub text: Vec<String>,
    pub structured: Vec<p4::StructuredAnnotation>,
    pub doc: Option<p4::Documentation>,
}

/// All annotations but those that P4Info says otherwise, and those in `without`.
pub fn annotations(list: &[Annotation], without: &[&str]) -> Annotations {
    let mut out = Annotations::default();
    for annotation in list {
        match annotation {
            Annotation::Unstructured { name, body, string } => {
                let doc = match &**name {
                    "brief" => Some(true),
                    "description" => Some(false),
                    _ => None,
                };
                if let (Some(brief), Some(text)) = (doc, string) {
                    let doc = out.doc.get_or_insert_default();
                    if brief {
                        doc.brief = text.to_string();
                    } else {
                        doc.description = text.to_string();
                    }
                    continue;
                }
                if matches!(&**name, "name" | "id") || without.contains(&&**name) {
                    continue;
                }
                out.text.push(match body {
                    Some(body) => format!("@{name}({body})"),
                    None => format!("@{name}"),
                });
            }
            Annotation::List { name, arguments } => {
                let expressions: Vec<_> = arguments.iter().map(expression).collect();
                let body = (!expressions.is_empty()).then_some(
                    p4::structured_annotation::Body::ExpressionList(p4::ExpressionList {
                        expressions,
                    }),
                );
                out.structured.push(structured(name, body));
            }
            Annotation::Pairs { name, arguments } => {
                let kv_pairs = arguments
                    .iter()
                    .map(|(key, value)| p4::KeyValuePair {
                        key: key.to_string(),
                        value: Some(expression(value)),
                    })
                    .collect();
                let body =
                    p4::structured_annotation::Body::KvPairList(p4::KeyValuePairList { kv_pairs });
                out.structured.push(structured(name, Some(body)));
            }
        }
    }
    out
}

fn structured(
    name: &str,
    body: Option<p4::structured_annotation::Body>,
) -> p4::StructuredAnnotation {
    p4::StructuredAnnotation {
        name: name.to_string(),
        body,
        source_location: None,
    }
}

fn expression(argument: &AnnotationArgument) -> p4::Expression {
    use p4::expression::Value;
    let value = match argument {
        AnnotationArgument::String(text) => Value::StringValue(text.to_string()),
        AnnotationArgument::Number(number) => {
            Value::Int64Value(number.to_i64().unwrap_or(i64::MAX))
        }
        AnnotationArgument::Bool(truth) => Value::BoolValue(*truth),
    };
    p4::Expression { value: Some(value) }
}
