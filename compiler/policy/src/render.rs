//! Diagnostics for people, for one-line logs and for programs.
//!
//! Lines and columns count from 1; columns are characters.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::json;

use crate::diagnostic::{Diagnostic, Severity};
use crate::model::Span;

/// How diagnostics are written (`--error-format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// With excerpts of the text, coloured if asked.
    Human {
        /// Whether to write terminal colours.
        colour: bool,
    },
    /// `FILE:LINE:COLUMN: error[code]: message; help`, one line each.
    Plain,
    /// One JSON object a line.
    Json,
}

/// Writes diagnostics in the order given; the result ends with a line break unless it is empty.
pub fn render(diagnostics: &[Diagnostic], text: &str, file_name: &str, format: Format) -> String {
    let mut out = String::new();
    for d in diagnostics {
        match format {
            Format::Human { colour } => {
                out.push_str(&human(d, text, file_name, colour));
                out.push('\n');
            }
            Format::Plain => out.push_str(&plain(d, text, file_name)),
            Format::Json => out.push_str(&json_line(d, text, file_name)),
        }
        out.push('\n');
    }
    out
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// The line and the column of a byte, both from 1; the column counts characters. A byte inside a
/// character stands where the character begins, one past the end where the text ends.
pub fn line_column(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..floor_boundary(text, byte)).unwrap_or("");
    let line = before.rsplit('\n').next().unwrap_or(before);
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

/// The last border of characters that is not after the byte.
fn floor_boundary(text: &str, byte: usize) -> usize {
    let mut at = byte.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A span that lies in the text, on character borders; an empty one at the end is kept.
fn within(text: &str, span: Span) -> std::ops::Range<usize> {
    let start = floor_boundary(text, span.start);
    let mut end = span.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

fn human(d: &Diagnostic, text: &str, file_name: &str, colour: bool) -> String {
    let level = match d.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut primary = AnnotationKind::Primary.span(within(text, d.span));
    if !d.label.is_empty() {
        primary = primary.label(d.label.as_str());
    }
    let related = d.related.iter().map(|(span, label)| {
        AnnotationKind::Context
            .span(within(text, *span))
            .label(label.as_str())
    });
    let snippet = Snippet::source(text)
        .path(file_name)
        .annotation(primary)
        .annotations(related);
    let mut group: Group<'_> = level
        .primary_title(d.message.as_str())
        .id(d.code)
        .element(snippet);
    for note in &d.notes {
        group = group.element(Level::NOTE.message(note.as_str()));
    }
    if let Some(help) = &d.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    renderer.render(&[group])
}

fn plain(d: &Diagnostic, text: &str, file_name: &str) -> String {
    let (line, column) = line_column(text, d.span.start);
    let mut out = format!(
        "{file_name}:{line}:{column}: {}[{}]: {}",
        word(d.severity),
        d.code,
        d.message
    );
    let more = Some(&d.label)
        .filter(|l| !l.is_empty())
        .into_iter()
        .chain(&d.notes)
        .chain(&d.help);
    for part in more {
        out.push_str("; ");
        out.push_str(part);
    }
    out.replace('\n', " ")
}

fn json_line(d: &Diagnostic, text: &str, file_name: &str) -> String {
    let place = |span: Span| {
        let (line, column) = line_column(text, span.start);
        let (end_line, end_column) = line_column(text, span.end.max(span.start));
        json!({
            "file": file_name, "line": line, "column": column,
            "end_line": end_line, "end_column": end_column,
        })
    };
    let related: Vec<_> = d
        .related
        .iter()
        .map(|(span, label)| json!({ "place": place(*span), "label": label }))
        .collect();
    json!({
        "severity": word(d.severity),
        "code": d.code,
        "message": d.message,
        "place": place(d.span),
        "label": d.label,
        "related": related,
        "notes": d.notes,
        "help": d.help,
    })
    .to_string()
}
