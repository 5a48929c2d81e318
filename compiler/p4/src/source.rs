//! Source texts and places in them. Texts come in through [`Sources`], so that the compiler itself
//! never opens a file; a [`Span`] is a range of bytes of one text as it was handed in, whatever the
//! preprocessor made of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// One text of a [`SourceMap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct FileId(pub u32);

/// A range of bytes in one source text. What a macro produced has the place of the macro's use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Span {
    /// The text.
    pub file: FileId,
    /// Its first byte.
    pub start: u32,
    /// The byte behind its last; never less than `start`.
    pub end: u32,
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}:{}..{}", self.file.0, self.start, self.end)
    }
}

impl Span {
    /// A range of bytes of one file.
    #[must_use]
    pub fn new(file: FileId, start: usize, end: usize) -> Self {
        let start = u32::try_from(start).unwrap_or(u32::MAX);
        Self {
            file,
            start,
            end: u32::try_from(end).unwrap_or(u32::MAX).max(start),
        }
    }

    /// The smallest span over both; `self` alone when they lie in different files.
    #[must_use]
    pub fn to(self, other: Span) -> Span {
        if self.file != other.file {
            return self;
        }
        Span {
            file: self.file,
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// The empty span just behind this one.
    #[must_use]
    pub fn after(self) -> Span {
        Span {
            start: self.end,
            ..self
        }
    }
}

/// Where the compiler gets texts from.
pub trait Sources {
    /// The text at a path, or nothing if there is none. Paths use `/`.
    fn read(&self, path: &str) -> Option<Arc<str>>;
}

/// Texts held in memory, by path.
#[derive(Debug, Clone, Default)]
pub struct MapSources {
    texts: BTreeMap<String, Arc<str>>,
}

impl MapSources {
    /// No texts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text, in place of one with the same path.
    pub fn insert(&mut self, path: impl Into<String>, text: impl Into<Arc<str>>) {
        self.texts.insert(path.into(), text.into());
    }

    /// The same with a text added.
    #[must_use]
    pub fn with(mut self, path: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        self.insert(path, text);
        self
    }
}

impl Sources for MapSources {
    fn read(&self, path: &str) -> Option<Arc<str>> {
        self.texts.get(path).cloned()
    }
}

/// The project's own `core.p4` and `v1model.p4`, by those names. [`crate::front::parse_program`]
/// looks here last, so a source of the same name on an include path wins.
#[must_use]
pub fn standard_includes() -> MapSources {
    MapSources::new()
        .with("core.p4", include_str!("../../../p4/include/core.p4"))
        .with("v1model.p4", include_str!("../../../p4/include/v1model.p4"))
}

/// A place that a person can find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location<'a> {
    /// The file's path, or what the last `#line` before the place called it.
    pub path: &'a str,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

/// What a `#line` directive said: from this byte on, the text counts as that line of that file.
#[derive(Debug, Clone)]
struct LineMark {
    offset: u32,
    line: u32,
    path: Option<Arc<str>>,
}

#[derive(Debug, Clone)]
struct SourceFile {
    path: Arc<str>,
    text: Arc<str>,
    line_starts: Vec<u32>,
    marks: Vec<LineMark>,
}

impl SourceFile {
    /// The line of a byte, from 0.
    fn row(&self, at: u32) -> usize {
        self.line_starts
            .partition_point(|start| *start <= at)
            .max(1)
            - 1
    }
}

/// All texts that took part in one compilation. A text that is included twice is here once.
#[derive(Debug, Clone, Default)]
pub struct SourceMap {
    files: Vec<SourceFile>,
}

impl SourceMap {
    /// Adds a text, or finds the one already there under this path with the same contents.
    pub fn add(&mut self, path: &str, text: &Arc<str>) -> FileId {
        if let Some(at) = self
            .files
            .iter()
            .position(|f| &*f.path == path && f.text == *text)
        {
            return FileId(u32::try_from(at).unwrap_or(u32::MAX));
        }
        let mut line_starts = vec![0];
        line_starts.extend(
            text.bytes()
                .enumerate()
                .filter(|(_, b)| *b == b'\n')
                .map(|(at, _)| u32::try_from(at + 1).unwrap_or(u32::MAX)),
        );
        self.files.push(SourceFile {
            path: path.into(),
            text: Arc::clone(text),
            line_starts,
            marks: Vec::new(),
        });
        FileId(u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX))
    }

    /// Notes a `#line`: the byte at `offset` begins line `line` of `path` (of the same file when
    /// no path is given).
    pub fn mark_line(&mut self, file: FileId, offset: u32, line: u32, path: Option<Arc<str>>) {
        if let Some(file) = self.files.get_mut(file.0 as usize)
            && file.marks.iter().all(|m| m.offset < offset)
        {
            file.marks.push(LineMark { offset, line, path });
        }
    }

    /// The whole text of a file; empty for an unknown file.
    #[must_use]
    pub fn file_text(&self, file: FileId) -> &str {
        self.files.get(file.0 as usize).map_or("", |f| &f.text)
    }

    /// The path of a file as it was handed in.
    #[must_use]
    pub fn file_path(&self, file: FileId) -> &str {
        self.files.get(file.0 as usize).map_or("", |f| &f.path)
    }

    /// The paths of all files, in the order of their first reading.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|f| &*f.path)
    }

    /// The source text of a span; empty when the span fits no text.
    #[must_use]
    pub fn text(&self, span: Span) -> &str {
        self.file_text(span.file)
            .get(span.start as usize..span.end as usize)
            .unwrap_or("")
    }

    /// Where a span begins, as `#line` directives would have it.
    #[must_use]
    pub fn location(&self, span: Span) -> Location<'_> {
        let Some(file) = self.files.get(span.file.0 as usize) else {
            return Location {
                path: "",
                line: 1,
                column: 1,
            };
        };
        let row = file.row(span.start);
        let start = file.line_starts.get(row).copied().unwrap_or(0) as usize;
        let before = file.text.get(start..span.start as usize).unwrap_or("");
        let mut path = &*file.path;
        let mut line = u32::try_from(row + 1).unwrap_or(u32::MAX);
        for mark in file.marks.iter().take_while(|m| m.offset <= span.start) {
            let mark_row = file.row(mark.offset);
            line = mark
                .line
                .saturating_add(u32::try_from(row.saturating_sub(mark_row)).unwrap_or(0));
            if let Some(name) = &mark.path {
                path = name;
            }
        }
        let column = u32::try_from(before.chars().count()).unwrap_or(u32::MAX - 1) + 1;
        Location { path, line, column }
    }

    /// The bytes from the start of the line of `span.start` to the end of the line of `span.end`.
    pub(crate) fn line_range(&self, span: Span) -> (usize, usize) {
        let Some(file) = self.files.get(span.file.0 as usize) else {
            return (0, 0);
        };
        let row = file.row(span.start);
        let start = file.line_starts.get(row).copied().unwrap_or(0) as usize;
        let next = file
            .line_starts
            .partition_point(|start| *start < span.end.max(span.start + 1));
        let end = file
            .line_starts
            .get(next)
            .map_or(file.text.len(), |s| *s as usize - 1);
        (start, end.max(start))
    }
}
