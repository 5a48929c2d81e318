//! Directives: the lines that begin with `#`.

use std::sync::Arc;

use super::{Condition, FrameKind, MAX_INCLUDE_DEPTH, MAX_INCLUDES, Macro, Preprocessor};
use crate::diagnostics::Diagnostic;
use crate::front::token::{Token, TokenKind};
use crate::source::{Sources, Span};

impl Preprocessor<'_> {
    /// Obeys one directive; `line` is what stands behind `#`.
    pub(super) fn directive(&mut self, hash: &Token, line: Vec<Token>) {
        let mut tokens = line.into_iter();
        let Some(name) = tokens.next() else { return };
        let rest: Vec<Token> = tokens.collect();
        // No branch inside of text that is left out is active, so the innermost tells.
        let skipping = self
            .file_frame()
            .is_some_and(|f| f.conditions.last().is_some_and(|c| !c.active));
        match name.word() {
            Some("if") => {
                let active = !skipping && self.condition(&name, &rest);
                self.open_condition(hash.span.to(name.span), skipping, active);
            }
            Some(word @ ("ifdef" | "ifndef")) => {
                let mut active = false;
                if !skipping {
                    match rest.first().and_then(Token::word) {
                        Some(found) => active = self.is_defined(found) == (word == "ifdef"),
                        None => self.error(name.span, format!("`#{word}` needs a name")),
                    }
                    self.nothing_behind(word, rest.get(1));
                }
                self.open_condition(hash.span.to(name.span), skipping, active);
            }
            Some(word @ ("elif" | "else")) => self.next_branch(word, &name, &rest),
            Some("endif") => {
                let popped = self.file_frame().and_then(|f| f.conditions.pop());
                if popped.is_none() {
                    self.error(name.span, "`#endif` without `#if`");
                }
            }
            _ if skipping => {}
            Some("include") => self.include(&name, &rest),
            Some("define") => self.define(&name, &rest),
            Some("undef") => {
                match rest.first().map(|t| (t, t.word())) {
                    Some((_, Some(word))) => {
                        self.macros.remove(word);
                    }
                    Some((token, None)) => {
                        self.error(
                            token.span,
                            format!("expected a macro's name, found {}", token.describe()),
                        );
                    }
                    None => self.error(name.span, "`#undef` needs a name"),
                }
                self.nothing_behind("undef", rest.get(1));
            }
            Some(word @ ("error" | "warning")) => {
                let text = match (rest.first(), rest.last()) {
                    (Some(first), Some(last)) => {
                        self.map.text(first.span.to(last.span)).trim().to_owned()
                    }
                    _ => String::new(),
                };
                let message = if text.is_empty() {
                    format!("`#{word}`")
                } else {
                    text
                };
                let span = rest
                    .first()
                    .zip(rest.last())
                    .map_or(name.span, |(a, b)| a.span.to(b.span));
                let made = if word == "error" {
                    Diagnostic::error(span, message)
                } else {
                    Diagnostic::warning(span, message)
                };
                self.diagnostics.push(made.with_code("preprocessor"));
            }
            Some("line") => self.line_directive(&name, &rest),
            Some("pragma") => {
                let once = rest.first().and_then(Token::word) == Some("once");
                if let Some(path) = self
                    .file_frame()
                    .map(|f| Arc::clone(&f.path))
                    .filter(|_| once)
                {
                    self.once.insert(path);
                }
            }
            Some(word) => {
                let message = format!("unknown directive `#{word}`");
                self.error(name.span, message);
            }
            // `# 12 "file.p4"` is what other preprocessors leave in place of `#line`.
            None if matches!(name.kind, TokenKind::Int(_)) => {
                let mut all = vec![name.clone()];
                all.extend(rest);
                all.truncate(2);
                self.line_directive(&name, &all);
            }
            None => self.error(
                name.span,
                format!("expected a directive, found {}", name.describe()),
            ),
        }
    }

    fn nothing_behind(&mut self, directive: &str, token: Option<&Token>) {
        if let Some(token) = token {
            self.diagnostics.push(
                Diagnostic::warning(
                    token.span,
                    format!("{} behind `#{directive}` is ignored", token.describe()),
                )
                .with_code("preprocessor"),
            );
        }
    }

    pub(super) fn is_defined(&self, name: &str) -> bool {
        self.macros.contains_key(name) || matches!(name, "__FILE__" | "__LINE__")
    }

    fn open_condition(&mut self, span: Span, skipping: bool, active: bool) {
        if let Some(file) = self.file_frame() {
            // In text that is left out no branch may be read, so it counts as read already.
            file.conditions.push(Condition {
                span,
                active,
                taken: skipping || active,
                in_else: false,
            });
        }
    }

    fn next_branch(&mut self, word: &str, name: &Token, rest: &[Token]) {
        let Some(mut condition) = self.file_frame().and_then(|f| f.conditions.pop()) else {
            self.error(name.span, format!("`#{word}` without `#if`"));
            return;
        };
        if condition.in_else {
            self.diagnostics.push(
                Diagnostic::error(name.span, format!("`#{word}` behind `#else`"))
                    .with_code("preprocessor")
                    .with_label(condition.span, "of this condition"),
            );
        }
        condition.active = false;
        if word == "else" {
            condition.active = !condition.taken;
            condition.in_else = true;
        } else if !condition.taken {
            condition.active = self.condition(name, rest);
        }
        condition.taken |= condition.active;
        if let Some(file) = self.file_frame() {
            file.conditions.push(condition);
        }
    }

    fn line_directive(&mut self, name: &Token, rest: &[Token]) {
        let rest = self.expand_all(rest.to_vec());
        let (line, path) = match rest.as_slice() {
            [
                Token {
                    kind: TokenKind::Int(line),
                    ..
                },
            ] => (line, None),
            [
                Token {
                    kind: TokenKind::Int(line),
                    ..
                },
                Token {
                    kind: TokenKind::Str(path),
                    ..
                },
            ] => (line, Some(Arc::clone(path))),
            _ => {
                self.error(
                    name.span,
                    "`#line` needs a number and, if wanted, a file's name in quotes",
                );
                return;
            }
        };
        let Ok(line) = u32::try_from(&line.value) else {
            self.error(name.span, "the line's number is too large");
            return;
        };
        if let Some(file) = self.file_frame().map(|f| f.file) {
            let (_, end) = self.map.line_range(name.span);
            self.map
                .mark_line(file, u32::try_from(end + 1).unwrap_or(u32::MAX), line, path);
        }
    }

    fn define(&mut self, define: &Token, rest: &[Token]) {
        let mut tokens = rest.iter().peekable();
        let Some(name) = tokens.next() else {
            self.error(define.span, "`#define` needs a name");
            return;
        };
        let Some(word) = name.word() else {
            self.error(
                name.span,
                format!("expected a macro's name, found {}", name.describe()),
            );
            return;
        };
        if matches!(word, "defined" | "__FILE__" | "__LINE__") {
            self.error(name.span, format!("`{word}` cannot be defined"));
            return;
        }
        let mut params = None;
        let mut variadic = false;
        if tokens.peek().is_some_and(|t| t.is_symbol("(") && !t.spaced) {
            tokens.next();
            let mut list: Vec<Arc<str>> = Vec::new();
            loop {
                let Some(token) = tokens.next() else {
                    self.error(
                        name.span,
                        format!("the parameters of macro `{word}` are not closed"),
                    );
                    return;
                };
                match &token.kind {
                    TokenKind::Symbol(")") if list.is_empty() => break,
                    TokenKind::Word(param) if !list.contains(param) => list.push(Arc::clone(param)),
                    TokenKind::Symbol("...") => {
                        list.push("__VA_ARGS__".into());
                        variadic = true;
                    }
                    _ => {
                        self.error(
                            token.span,
                            format!("expected a parameter's name, found {}", token.describe()),
                        );
                        return;
                    }
                }
                match tokens.next() {
                    Some(t) if t.is_symbol(")") => break,
                    Some(t) if t.is_symbol(",") && !variadic => {}
                    found => {
                        let span = found.map_or(token.span, |t| t.span);
                        self.error(span, "expected `,` or `)` behind a macro's parameter");
                        return;
                    }
                }
            }
            params = Some(list);
        }
        let body: Vec<Token> = tokens.cloned().collect();
        let made = Macro {
            params,
            variadic,
            body,
            span: name.span,
        };
        if let Some(old) = self.macros.get(word)
            && !same_macro(old, &made)
        {
            let old = old.span;
            self.diagnostics.push(
                Diagnostic::warning(
                    name.span,
                    format!("macro `{word}` is defined again with another body"),
                )
                .with_code("macro")
                .with_label(old, "defined here before"),
            );
        }
        self.macros.insert(word.into(), made);
    }

    fn include(&mut self, include: &Token, rest: &[Token]) {
        let direct = matches!(
            rest.first().map(|t| &t.kind),
            Some(TokenKind::Str(_) | TokenKind::Symbol("<"))
        );
        let tokens = if direct {
            rest.to_vec()
        } else {
            self.expand_all(rest.to_vec())
        };
        let (name, quoted, span) = match tokens.as_slice() {
            [
                Token {
                    kind: TokenKind::Str(name),
                    span,
                    ..
                },
                ..,
            ] => (name.to_string(), true, *span),
            [open, .., close] if open.is_symbol("<") && close.is_symbol(">") => {
                let inner = Span {
                    start: open.span.end,
                    end: close.span.start,
                    file: open.span.file,
                };
                let text = if direct {
                    self.map.text(inner).trim().to_owned()
                } else {
                    spelling(&tokens, &self.map)
                };
                (text, false, open.span.to(close.span))
            }
            _ => {
                self.diagnostics.push(
                    Diagnostic::error(include.span, "`#include` needs a file's name")
                        .with_code("include")
                        .with_help("write `#include <file>` or `#include \"file\"`"),
                );
                return;
            }
        };
        let files: Vec<Arc<str>> = self
            .frames
            .iter()
            .filter_map(|f| match &f.kind {
                FrameKind::File(file) => Some(Arc::clone(&file.path)),
                FrameKind::Expansion(_) => None,
            })
            .collect();
        let here = files.last().map_or("", |p| p);
        let Some((path, text)) = self.find(&name, quoted, here) else {
            let mut error =
                Diagnostic::error(span, format!("cannot find the included file `{name}`"))
                    .with_code("no-such-file");
            if !self.options.include_paths.is_empty() {
                error = error.with_help(format!(
                    "looked in {}",
                    self.options.include_paths.join(", ")
                ));
            }
            self.diagnostics.push(error);
            return;
        };
        if self.once.contains(path.as_str()) {
            return;
        }
        self.includes += 1;
        let repeats = files.iter().filter(|f| ***f == *path).count();
        if repeats >= 4 || files.len() >= MAX_INCLUDE_DEPTH || self.includes > MAX_INCLUDES {
            let message = if repeats > 0 {
                format!("`{path}` includes itself without end")
            } else {
                format!("includes are nested too deeply at `{path}`")
            };
            let chain: Vec<&str> = files.iter().rev().take(6).rev().map(|f| &**f).collect();
            self.diagnostics.push(
                Diagnostic::error(span, message)
                    .with_code("include")
                    .with_help(format!("the way here is {} -> {path}", chain.join(" -> ")))
                    .with_help("guard the file with `#ifndef`"),
            );
            return;
        }
        self.enter_file(&path, &text);
    }

    fn find(&self, name: &str, quoted: bool, here: &str) -> Option<(String, Arc<str>)> {
        let mut candidates = Vec::new();
        if name.starts_with('/') {
            candidates.push(name.to_owned());
        } else {
            if quoted {
                let folder = here.rfind('/').and_then(|at| here.get(..=at)).unwrap_or("");
                candidates.push(normalise(&format!("{folder}{name}")));
            }
            for folder in &self.options.include_paths {
                candidates.push(normalise(&format!(
                    "{}/{name}",
                    folder.trim_end_matches('/')
                )));
            }
        }
        for path in candidates {
            if let Some(text) = self.sources.read(&path) {
                return Some((path, text));
            }
        }
        Some((name.to_owned(), self.standard.read(name)?))
    }
}

/// A path without `.` and, where it can be, `..`.
fn normalise(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            "" if !parts.is_empty() => {}
            ".." if parts.last().is_some_and(|p| !matches!(*p, ".." | "")) => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}

/// What stands between the first and last token, which came out of a macro.
fn spelling(tokens: &[Token], map: &crate::source::SourceMap) -> String {
    let inner = tokens.get(1..tokens.len().saturating_sub(1)).unwrap_or(&[]);
    inner.iter().map(|t| super::expand::spell(t, map)).collect()
}

fn same_macro(a: &Macro, b: &Macro) -> bool {
    a.params == b.params
        && a.body.len() == b.body.len()
        && a.body.iter().zip(&b.body).all(|(a, b)| a.kind == b.kind)
}
