//! What the compiler has to say about a program: one [`Diagnostic`] a finding, collected for the
//! whole of a compilation and shown with excerpts of the source or as JSON. Messages are lower
//! case, without a full stop, with the user's words in backticks.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use crate::source::{SourceMap, Span};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is produced.
    Error,
    /// Something is produced, but perhaps not what was meant.
    Warning,
}

/// A second place that matters to a diagnostic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// What is there.
    pub text: String,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A short name that does not change when the wording does, for tools and tests.
    pub code: Option<&'static str>,
    /// Where it is; nothing when it has no place in a text (a file that can't be read).
    pub span: Option<Span>,
    /// What is wrong: what was found.
    pub message: String,
    /// What stands at `span`: usually what was expected.
    pub label: Option<String>,
    /// Other places.
    pub labels: Vec<Label>,
    /// How to mend it.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error at a place.
    #[must_use]
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: None,
            span: Some(span),
            message: message.into(),
            label: None,
            labels: Vec::new(),
            help: Vec::new(),
        }
    }

    /// A warning at a place.
    #[must_use]
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(span, message)
        }
    }

    /// An error without a place.
    #[must_use]
    pub fn error_without_place(message: impl Into<String>) -> Self {
        Self {
            span: None,
            ..Self::error(Span::default(), message)
        }
    }

    /// With a stable name.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// With a word at the main place: what was expected there.
    #[must_use]
    pub fn with_note_here(mut self, text: impl Into<String>) -> Self {
        self.label = Some(text.into());
        self
    }

    /// With another place.
    #[must_use]
    pub fn with_label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// With advice.
    #[must_use]
    pub fn with_help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }
}

/// All findings of a compilation, in the order of their making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// No findings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a finding.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    /// Adds all of another collection.
    pub fn extend(&mut self, other: Diagnostics) {
        self.list.extend(other.list);
    }

    /// Adds an error.
    pub fn error(&mut self, span: Span, message: impl Into<String>) {
        self.push(Diagnostic::error(span, message));
    }

    /// Adds a warning.
    pub fn warning(&mut self, span: Span, message: impl Into<String>) {
        self.push(Diagnostic::warning(span, message));
    }

    /// Whether anything is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|d| d.severity == Severity::Error)
    }

    /// How many errors there are.
    #[must_use]
    pub fn error_count(&self) -> usize {
        self.list
            .iter()
            .filter(|d| d.severity == Severity::Error)
            .count()
    }

    /// Whether there is nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many findings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The findings.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// Orders the findings by place; those without a place come first.
    pub fn sort(&mut self) {
        self.list.sort_by_key(|d| d.span.map(|s| (s.file, s.start)));
    }

    /// The findings for people, with source excerpts, ending in a line feed; with terminal colours
    /// if asked. Empty when there are none.
    #[must_use]
    pub fn render(&self, sources: &SourceMap, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut out = String::new();
        for diagnostic in &self.list {
            out.push_str(&renderer.render(&[report(diagnostic, sources)]));
            out.push_str("\n\n");
        }
        if out.ends_with("\n\n") {
            out.pop();
        }
        out
    }

    /// One line a finding: `path:line:column: error: message`.
    #[must_use]
    pub fn render_short(&self, sources: &SourceMap) -> String {
        let mut out = String::new();
        for diagnostic in &self.list {
            if let Some(span) = diagnostic.span {
                let at = sources.location(span);
                out.push_str(&format!("{}:{}:{}: ", at.path, at.line, at.column));
            }
            out.push_str(&format!(
                "{}: {}\n",
                severity_word(diagnostic.severity),
                diagnostic.message
            ));
        }
        out
    }

    /// The findings for tools: a list of objects with `severity`, `code`, `message`, `file`, `line`,
    /// `column`, `end_line`, `end_column`, `label`, `labels`, `help`; lines and columns from 1,
    /// columns in characters, the end exclusive.
    #[must_use]
    pub fn to_json(&self, sources: &SourceMap) -> Value {
        Value::Array(
            self.list
                .iter()
                .map(|d| diagnostic_json(d, sources))
                .collect(),
        )
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn report<'a>(diagnostic: &'a Diagnostic, sources: &'a SourceMap) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut title = level.primary_title(diagnostic.message.as_str());
    if let Some(code) = diagnostic.code {
        title = title.id(code);
    }
    let mut group = Group::with_title(title);
    if let Some(span) = diagnostic.span {
        // One excerpt for the lines around the main place, one for each label far from it.
        let mut near = Vec::new();
        let mut far = Vec::new();
        let mut whole = span;
        for label in &diagnostic.labels {
            if label.span.file == span.file && label.span.start.abs_diff(span.start) < 4000 {
                whole = whole.to(label.span);
                near.push(label);
            } else {
                far.push(label);
            }
        }
        let mut excerpt = Excerpt::new(sources, whole);
        excerpt.mark(AnnotationKind::Primary, span, diagnostic.label.as_deref());
        for label in near {
            excerpt.mark(AnnotationKind::Context, label.span, Some(&label.text));
        }
        group = group.element(excerpt.snippet);
        for label in far {
            let mut excerpt = Excerpt::new(sources, label.span);
            excerpt.mark(AnnotationKind::Context, label.span, Some(&label.text));
            group = group.element(excerpt.snippet);
        }
    }
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    group
}

/// The lines of one file around a place. Only these go to the renderer, so that its cost does not
/// grow with the file.
struct Excerpt<'a> {
    snippet: Snippet<'a, annotate_snippets::Annotation<'a>>,
    text: &'a str,
    start: usize,
}

impl<'a> Excerpt<'a> {
    fn new(sources: &'a SourceMap, span: Span) -> Self {
        let (start, end) = sources.line_range(span);
        let text = sources.file_text(span.file).get(start..end).unwrap_or("");
        let at = sources.location(Span::new(span.file, start, start));
        let at_span = sources.location(span);
        let snippet = Snippet::source(text)
            .line_start(at.line as usize)
            .path(at_span.path);
        Self {
            snippet,
            text,
            start,
        }
    }

    fn mark(&mut self, kind: AnnotationKind, span: Span, text: Option<&'a str>) {
        let clamp = |offset: u32| {
            let mut at = (offset as usize)
                .saturating_sub(self.start)
                .min(self.text.len());
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let (from, to) = (clamp(span.start), clamp(span.end));
        let mut annotation = kind.span(from..to.max(from));
        if let Some(text) = text {
            annotation = annotation.label(text);
        }
        let snippet = std::mem::replace(&mut self.snippet, Snippet::source(""));
        self.snippet = snippet.annotation(annotation);
    }
}

fn diagnostic_json(diagnostic: &Diagnostic, sources: &SourceMap) -> Value {
    let mut object = json!({
        "severity": severity_word(diagnostic.severity),
        "code": diagnostic.code,
        "message": diagnostic.message,
    });
    if let Some(span) = diagnostic.span {
        merge(&mut object, place_json(span, sources));
    }
    let labels: Vec<Value> = diagnostic
        .labels
        .iter()
        .map(|label| {
            let mut entry = json!({ "text": label.text });
            merge(&mut entry, place_json(label.span, sources));
            entry
        })
        .collect();
    merge(
        &mut object,
        json!({ "label": diagnostic.label, "labels": labels, "help": diagnostic.help }),
    );
    object
}

fn place_json(span: Span, sources: &SourceMap) -> Value {
    let from = sources.location(span);
    let to = sources.location(span.after());
    json!({
        "file": from.path,
        "line": from.line,
        "column": from.column,
        "end_line": to.line,
        "end_column": to.column,
    })
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
