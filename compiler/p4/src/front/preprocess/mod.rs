//! The preprocessor (P4_16 section 6.2, and what C's preprocessor adds that P4 programs use): works on
//! tokens, so that every token keeps its place in the text it came from, through includes. What a
//! macro's body supplies has the place of the macro's use.

mod condition;
mod directive;
mod expand;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::lexer::{lex, lex_at};
use super::token::{Token, TokenKind};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::source::{FileId, MapSources, SourceMap, Sources, Span, standard_includes};

/// How deep files may include files.
const MAX_INCLUDE_DEPTH: usize = 64;
/// How many files one program may include, repeats counted.
const MAX_INCLUDES: usize = 10_000;
/// How many tokens macros may produce in one program.
const MAX_EXPANSION: usize = 2_000_000;
/// How deep macro calls may stand in the arguments of macro calls.
const MAX_ARGUMENT_DEPTH: usize = 48;

/// What a command line says to the preprocessor.
#[derive(Debug, Clone)]
pub struct PreprocessOptions {
    /// `-D`: macros and their bodies. `-D X` alone means the body `1`.
    pub defines: Vec<(String, String)>,
    /// `-I`: folders in which included files are looked for, in order.
    pub include_paths: Vec<String>,
    /// Whether the project's own `core.p4` and `v1model.p4` are found when no folder has them.
    pub standard_includes: bool,
}

impl Default for PreprocessOptions {
    fn default() -> Self {
        Self {
            defines: Vec::new(),
            include_paths: Vec::new(),
            standard_includes: true,
        }
    }
}

/// A macro.
#[derive(Debug, Clone, PartialEq)]
struct Macro {
    /// The parameters of a function-like macro.
    params: Option<Vec<Arc<str>>>,
    /// Whether the last parameter takes all remaining arguments (`...`, named `__VA_ARGS__`).
    variadic: bool,
    body: Vec<Token>,
    /// Where its name is defined.
    span: Span,
}

/// A list of tokens being read: a file, or what a macro expanded to.
struct Frame {
    tokens: Arc<[Token]>,
    at: usize,
    kind: FrameKind,
}

enum FrameKind {
    File(FileFrame),
    Expansion(Arc<str>),
}

struct FileFrame {
    path: Arc<str>,
    file: FileId,
    /// The open `#if`s of this file.
    conditions: Vec<Condition>,
}

struct Condition {
    /// Where its `#if` is.
    span: Span,
    /// Whether the text is read now.
    active: bool,
    /// Whether a branch has been read already.
    taken: bool,
    /// Whether `#else` has been seen.
    in_else: bool,
}

struct Preprocessor<'a> {
    sources: &'a dyn Sources,
    standard: MapSources,
    options: &'a PreprocessOptions,
    map: SourceMap,
    diagnostics: Diagnostics,
    macros: BTreeMap<Arc<str>, Macro>,
    once: BTreeSet<Arc<str>>,
    frames: Vec<Frame>,
    includes: usize,
    expanded: usize,
    argument_depth: usize,
    out: Vec<Token>,
}

/// What the preprocessor leaves.
pub struct Preprocessed {
    /// The tokens, without directives; the last is always the end token.
    pub tokens: Vec<Token>,
    /// All texts that were read.
    pub map: SourceMap,
    /// What was wrong with directives and macros.
    pub diagnostics: Diagnostics,
}

/// Runs the preprocessor on the text at `main`.
#[must_use]
pub fn preprocess(sources: &dyn Sources, main: &str, options: &PreprocessOptions) -> Preprocessed {
    let mut pp = Preprocessor {
        sources,
        standard: if options.standard_includes {
            standard_includes()
        } else {
            MapSources::new()
        },
        options,
        map: SourceMap::default(),
        diagnostics: Diagnostics::new(),
        macros: BTreeMap::new(),
        once: BTreeSet::new(),
        frames: Vec::new(),
        includes: 0,
        expanded: 0,
        argument_depth: 0,
        out: Vec::new(),
    };
    pp.run(main);
    Preprocessed {
        tokens: pp.out,
        map: pp.map,
        diagnostics: pp.diagnostics,
    }
}

impl Preprocessor<'_> {
    fn run(&mut self, main: &str) {
        let mut end = Span::default();
        match self.sources.read(main) {
            Some(text) => {
                self.enter_file(main, &text);
                end = Span::new(FileId(0), text.len(), text.len());
                self.predefined_macros();
                self.command_line_macros();
                while let Some(token) = self.next_token() {
                    self.out.push(token);
                }
            }
            None => self.diagnostics.push(
                Diagnostic::error_without_place(format!("cannot read `{main}`"))
                    .with_code("no-such-file"),
            ),
        }
        self.out.push(Token {
            kind: TokenKind::End,
            span: end,
            spaced: true,
            line_start: true,
            final_word: true,
        });
    }

    fn enter_file(&mut self, path: &str, text: &Arc<str>) {
        let file = self.map.add(path, text);
        let tokens = lex(file, text).into();
        let kind = FrameKind::File(FileFrame {
            path: path.into(),
            file,
            conditions: Vec::new(),
        });
        self.frames.push(Frame {
            tokens,
            at: 0,
            kind,
        });
    }

    /// What p4c's compiler for the same target defines too, so that programs can ask for it.
    fn predefined_macros(&mut self) {
        let name = "__TARGET_BMV2__";
        let text: Arc<str> = format!("#define {name} 1\n").into();
        let file = self.map.add("<built in>", &text);
        let span = Span::new(file, 8, 8 + name.len());
        let definition = Macro {
            params: None,
            variadic: false,
            body: lex_at("1", span),
            span,
        };
        self.macros.insert(name.into(), definition);
    }

    fn command_line_macros(&mut self) {
        for (name, body) in &self.options.defines {
            let text: Arc<str> = format!("#define {name} {body}\n").into();
            let file = self.map.add("<command line>", &text);
            let span = Span::new(file, 8, 8 + name.len());
            let valid = matches!(
                &lex(file, name)[..],
                [Token {
                    kind: TokenKind::Word(_),
                    ..
                }]
            );
            if !valid {
                self.diagnostics.push(
                    Diagnostic::error(
                        span,
                        format!("`{name}` is not a name that a macro can have"),
                    )
                    .with_code("macro"),
                );
                continue;
            }
            let body = lex_at(body, span);
            let definition = Macro {
                params: None,
                variadic: false,
                body,
                span,
            };
            self.macros.insert(name.as_str().into(), definition);
        }
    }

    /// The next token of the program: directives obeyed, macros expanded.
    fn next_token(&mut self) -> Option<Token> {
        loop {
            let token = self.next_raw()?;
            if let Some(token) = self.expand_or_return(token) {
                return Some(token);
            }
        }
    }

    /// The next token with directives obeyed but macros left alone. Leaves finished frames.
    fn next_raw(&mut self) -> Option<Token> {
        loop {
            let frame = self.frames.last_mut()?;
            let Some(token) = frame.tokens.get(frame.at).cloned() else {
                self.leave_frame();
                continue;
            };
            frame.at += 1;
            if let FrameKind::File(file) = &frame.kind {
                if token.line_start && token.is_symbol("#") {
                    let line = self.rest_of_line();
                    self.directive(&token, line);
                    continue;
                }
                if file.conditions.last().is_some_and(|c| !c.active) {
                    continue;
                }
            }
            return Some(token);
        }
    }

    /// The tokens up to the end of the line, taken from the current file.
    fn rest_of_line(&mut self) -> Vec<Token> {
        let mut line = Vec::new();
        if let Some(frame) = self.frames.last_mut() {
            while let Some(token) = frame.tokens.get(frame.at) {
                if token.line_start {
                    break;
                }
                line.push(token.clone());
                frame.at += 1;
            }
        }
        line
    }

    fn leave_frame(&mut self) {
        if let Some(Frame {
            kind: FrameKind::File(file),
            ..
        }) = self.frames.pop()
        {
            for condition in file.conditions {
                self.diagnostics.push(
                    Diagnostic::error(condition.span, "a condition that is not closed")
                        .with_code("preprocessor")
                        .with_help("add `#endif`"),
                );
            }
        }
    }

    fn error(&mut self, span: Span, message: impl Into<String>) {
        self.diagnostics
            .push(Diagnostic::error(span, message).with_code("preprocessor"));
    }

    /// The file that is being read.
    fn file_frame(&mut self) -> Option<&mut FileFrame> {
        self.frames
            .iter_mut()
            .rev()
            .find_map(|f| match &mut f.kind {
                FrameKind::File(file) => Some(file),
                FrameKind::Expansion(_) => None,
            })
    }
}
