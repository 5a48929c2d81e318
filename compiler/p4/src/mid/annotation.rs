//! Annotations as written become annotations as meant, and what those with a meaning say.

use std::sync::Arc;

use num_bigint::BigInt;
use num_traits::ToPrimitive;

use crate::diagnostics::Diagnostic;
use crate::front::ast::{self, AnnotationBody, AnnotationTokenKind, ExprKind};
use crate::ir::{Annotation, AnnotationArgument};
use crate::source::Span;

use super::lower::Lower;
use super::operand::{Operand, OperandKind};
use super::scope::{Entity, Scope};
use super::types::TyKind;

impl<'a> Lower<'a> {
    /// Annotations as they are kept. Unstructured bodies stay text, but for `@name`, which is evaluated.
    pub fn annotations(
        &mut self,
        scope: &Scope<'a>,
        list: &'a [ast::Annotation],
    ) -> Vec<Annotation> {
        list.iter()
            .map(|annotation| self.annotation(scope, annotation))
            .collect()
    }

    fn annotation(&mut self, scope: &Scope<'a>, annotation: &'a ast::Annotation) -> Annotation {
        let name = Arc::clone(&annotation.name.name);
        match &annotation.body {
            AnnotationBody::None => {
                if matches!(&*name, "name" | "id") {
                    self.error(annotation.span, format!("`@{name}` says nothing"));
                }
                Annotation::Unstructured {
                    name,
                    body: None,
                    string: None,
                }
            }
            AnnotationBody::Unstructured(tokens) if &*name == "name" => {
                let string = self.text_of(scope, tokens);
                if string.is_none() {
                    self.error(annotation.span, "`@name` needs one string");
                }
                Annotation::Unstructured {
                    name,
                    body: None,
                    string,
                }
            }
            AnnotationBody::Unstructured(tokens) if &*name == "field_list" => {
                let arguments = tokens
                    .split(|token| token.kind == AnnotationTokenKind::Symbol(",".into()))
                    .map(|part| self.listed_number(scope, part, annotation.span))
                    .collect();
                Annotation::List { name, arguments }
            }
            AnnotationBody::Unstructured(tokens) => {
                if &*name == "id" && !is_id(tokens) {
                    let report = Diagnostic::error(annotation.span, "`@id` needs one number")
                        .with_note_here("expected an integer literal of at most 32 bits");
                    self.report(report);
                }
                let texts: Vec<String> =
                    tokens.iter().map(|token| token_text(&token.kind)).collect();
                let string = match tokens.as_slice() {
                    [
                        ast::AnnotationToken {
                            kind: AnnotationTokenKind::String(text),
                            ..
                        },
                    ] => Some(Arc::clone(text)),
                    _ => None,
                };
                let body = if texts.is_empty() {
                    None
                } else {
                    Some(texts.join(" ").into())
                };
                Annotation::Unstructured { name, body, string }
            }
            AnnotationBody::Expressions(list) => {
                let arguments = list
                    .iter()
                    .map(|e| self.annotation_argument(scope, e))
                    .collect();
                Annotation::List { name, arguments }
            }
            AnnotationBody::KeyValues(pairs) => {
                let arguments = pairs
                    .iter()
                    .map(|pair| {
                        (
                            Arc::clone(&pair.name.name),
                            self.annotation_argument(scope, &pair.value),
                        )
                    })
                    .collect();
                Annotation::Pairs { name, arguments }
            }
        }
    }

    /// One number of `@field_list(…)`: written out, a constant, or a member of an enum with numbers.
    fn listed_number(
        &mut self,
        scope: &Scope<'a>,
        tokens: &'a [ast::AnnotationToken],
        span: Span,
    ) -> AnnotationArgument {
        use AnnotationTokenKind::{Int, Symbol, Word};
        let kinds: Vec<&AnnotationTokenKind> = tokens.iter().map(|token| &token.kind).collect();
        let found = match kinds.as_slice() {
            [Int(number)] => return AnnotationArgument::Number(number.value.clone()),
            [Word(name)] => match scope.find(name) {
                Some(Entity::Value(operand, _)) => self.constant_of(&operand),
                _ => None,
            },
            [Word(name), Symbol(dot), Word(member)] if &**dot == "." => match scope.find(name) {
                Some(Entity::Type(ty)) => match self.types[ty] {
                    TyKind::SerEnum(def) => {
                        let members = &self.types.enums[def].members;
                        let found = members.iter().find(|(known, _)| known == member);
                        found.map(|(_, number)| number.clone())
                    }
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        };
        match found {
            Some(number) => AnnotationArgument::Number(number),
            None => {
                let at = tokens.first().map_or(span, |token| token.span);
                self.error(
                    at,
                    "`@field_list` needs numbers, constants or members of an enum with numbers",
                );
                AnnotationArgument::Bool(false)
            }
        }
    }

    /// The text that tokens make: string literals and constants, joined by `++`.
    fn text_of(&mut self, scope: &Scope<'a>, tokens: &[ast::AnnotationToken]) -> Option<Arc<str>> {
        let mut text = String::new();
        for (position, token) in tokens.iter().enumerate() {
            match &token.kind {
                AnnotationTokenKind::Symbol(plus) if position % 2 == 1 && &**plus == "++" => {}
                AnnotationTokenKind::String(part) if position % 2 == 0 => text.push_str(part),
                AnnotationTokenKind::Word(word) if position % 2 == 0 => match scope.find(word) {
                    Some(Entity::Value(
                        Operand {
                            kind: OperandKind::String(part),
                            ..
                        },
                        _,
                    )) => text.push_str(&part),
                    _ => return None,
                },
                _ => return None,
            }
        }
        (tokens.len() % 2 == 1).then(|| text.into())
    }

    /// Says so when two of these ids are the same, or one is none.
    pub fn distinct_ids(&mut self, ids: &[(Option<u32>, Span)]) {
        for (position, (id, span)) in ids.iter().enumerate() {
            let Some(id) = id else { continue };
            if *id == 0 {
                self.error(*span, "0 is no id");
            }
            let before = ids.iter().take(position).find(|(i, _)| i == &Some(*id));
            if let Some((_, first)) = before {
                let report = Diagnostic::error(*span, format!("the id {id} is given twice"))
                    .with_label(*first, "first here");
                self.report(report);
            }
        }
    }

    fn annotation_argument(
        &mut self,
        scope: &Scope<'a>,
        expr: &'a ast::Expr,
    ) -> AnnotationArgument {
        if let ExprKind::String(text) = &expr.kind {
            return AnnotationArgument::String(Arc::clone(text));
        }
        let operand = self.expr(scope, expr);
        match &operand.kind {
            OperandKind::Int(value) => return AnnotationArgument::Number(value.clone()),
            OperandKind::String(text) => return AnnotationArgument::String(Arc::clone(text)),
            OperandKind::Value(value) => {
                if let Some(value) = self.ir.exprs.constant(*value) {
                    return AnnotationArgument::Number(value.clone());
                }
                if let Some(value) = self.ir.exprs.constant_bool(*value) {
                    return AnnotationArgument::Bool(value);
                }
            }
            _ => {}
        }
        if !operand.is_poison() {
            self.error(
                expr.span,
                "the argument of an annotation must be known at compile time",
            );
        }
        AnnotationArgument::Bool(false)
    }
}

/// Whether the body of an `@id` is a number that can be one.
fn is_id(tokens: &[ast::AnnotationToken]) -> bool {
    match tokens {
        [
            ast::AnnotationToken {
                kind: AnnotationTokenKind::Int(lit),
                ..
            },
        ] => lit.value.to_u32().is_some(),
        _ => false,
    }
}

fn token_text(kind: &AnnotationTokenKind) -> String {
    match kind {
        AnnotationTokenKind::String(text) => {
            let mut out = String::from("\"");
            for c in text.chars() {
                match c {
                    '\\' => out.push_str("\\\\"),
                    '"' => out.push_str("\\\""),
                    '\n' => out.push_str("\\n"),
                    '\t' => out.push_str("\\t"),
                    '\r' => out.push_str("\\r"),
                    c => out.push(c),
                }
            }
            out.push('"');
            out
        }
        AnnotationTokenKind::Int(lit) => lit.text.to_string(),
        AnnotationTokenKind::Word(text) | AnnotationTokenKind::Symbol(text) => text.to_string(),
    }
}

/// What `@name` says.
pub fn name_annotation(annotations: &[Annotation]) -> Option<Arc<str>> {
    string_annotation(annotations, "name")
}

/// What an annotation with one string says.
pub fn string_annotation(annotations: &[Annotation], wanted: &str) -> Option<Arc<str>> {
    annotations
        .iter()
        .find(|a| a.name() == wanted)
        .and_then(|a| match a {
            Annotation::Unstructured { string, .. } => string.clone(),
            Annotation::List { arguments, .. } => match arguments.as_slice() {
                [AnnotationArgument::String(text)] => Some(Arc::clone(text)),
                _ => None,
            },
            Annotation::Pairs { .. } => None,
        })
}

/// The numbers that an annotation lists.
pub fn number_annotation(annotations: &[Annotation], wanted: &str) -> Option<Vec<BigInt>> {
    annotations
        .iter()
        .find(|a| a.name() == wanted)
        .and_then(|a| match a {
            Annotation::Unstructured {
                body: Some(body), ..
            } => body
                .split(',')
                .map(|part| parse_number(part.trim()))
                .collect(),
            Annotation::List { arguments, .. } => arguments
                .iter()
                .map(|argument| match argument {
                    AnnotationArgument::Number(value) => Some(value.clone()),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
}

fn parse_number(text: &str) -> Option<BigInt> {
    let digits = text
        .split_once(['w', 's'])
        .map_or(text, |(_, digits)| digits);
    let (base, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, digits.get(2..)?),
        Some("0b" | "0B") => (2, digits.get(2..)?),
        Some("0o" | "0O") => (8, digits.get(2..)?),
        _ => (10, digits),
    };
    BigInt::parse_bytes(digits.replace('_', "").as_bytes(), base)
}

/// What `@id` says.
pub fn id_annotation(annotations: &[Annotation]) -> Option<u32> {
    number_annotation(annotations, "id")?.first()?.to_u32()
}
