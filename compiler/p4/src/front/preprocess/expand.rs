//! Macro expansion, with `#` and `##`. A macro is not expanded inside its own expansion.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Frame, FrameKind, MAX_ARGUMENT_DEPTH, MAX_EXPANSION, Macro, Preprocessor};
use crate::diagnostics::Diagnostic;
use crate::front::lexer::{int_token, lex_at, string_token};
use crate::front::token::{Token, TokenKind};
use crate::source::{SourceMap, Span};

impl Preprocessor<'_> {
    /// Gives the token back if it is no macro; otherwise begins to read what the macro stands for.
    pub(super) fn expand_or_return(&mut self, mut token: Token) -> Option<Token> {
        let TokenKind::Word(word) = &token.kind else {
            return Some(token);
        };
        if token.final_word {
            return Some(token);
        }
        let word = Arc::clone(word);
        match &*word {
            "__LINE__" => {
                let line = self.map.location(token.span).line;
                return Some(int_token(line, &token));
            }
            "__FILE__" => {
                let path = self.map.location(token.span).path.to_owned();
                return Some(string_token(&path, &token));
            }
            _ => {}
        }
        let Some(definition) = self.macros.get(&word).cloned() else {
            return Some(token);
        };
        let being_expanded = self
            .frames
            .iter()
            .any(|f| matches!(&f.kind, FrameKind::Expansion(n) if *n == word));
        if being_expanded {
            token.final_word = true;
            return Some(token);
        }
        let body = match &definition.params {
            None => self.substitute(&definition, &BTreeMap::new(), token.span),
            Some(params) => {
                if !self.parenthesis_follows() {
                    return Some(token);
                }
                let (args, end) = self.arguments(&token)?;
                let args = self.bind(&token, &definition, params, args)?;
                self.substitute(&definition, &args, token.span.to(end))
            }
        };
        self.expanded = self.expanded.saturating_add(body.len() + 1);
        if self.expanded > MAX_EXPANSION {
            // Reading stops here: what follows would only repeat the error.
            self.diagnostics.push(
                Diagnostic::error(
                    token.span,
                    format!("macro `{word}` expands to too many tokens"),
                )
                .with_code("macro")
                .with_label(definition.span, "defined here"),
            );
            self.frames.clear();
            return None;
        }
        let mut body = body;
        if let Some(first) = body.first_mut() {
            first.spaced = token.spaced;
            first.line_start = token.line_start;
        }
        self.frames.push(Frame {
            tokens: body.into(),
            at: 0,
            kind: FrameKind::Expansion(word),
        });
        None
    }

    /// Expands a list of tokens by itself, as if nothing followed it.
    pub(super) fn expand_all(&mut self, tokens: Vec<Token>) -> Vec<Token> {
        if self.argument_depth >= MAX_ARGUMENT_DEPTH {
            if let Some(first) = tokens.first() {
                self.error(first.span, "macro calls are nested too deeply");
            }
            return Vec::new();
        }
        // The frames below stay, so that macros being expanded remain so, but can't be read from.
        self.argument_depth += 1;
        let below = std::mem::take(&mut self.frames);
        for frame in &below {
            if let FrameKind::Expansion(name) = &frame.kind {
                let kind = FrameKind::Expansion(Arc::clone(name));
                self.frames.push(Frame {
                    tokens: Vec::new().into(),
                    at: 0,
                    kind,
                });
            }
        }
        let floor = self.frames.len();
        self.frames.push(Frame {
            tokens: tokens.into(),
            at: 0,
            kind: FrameKind::Expansion("".into()),
        });
        let mut out = Vec::new();
        while self.frames.len() > floor {
            let Some(frame) = self.frames.last_mut() else {
                break;
            };
            match frame.tokens.get(frame.at).cloned() {
                Some(token) => {
                    frame.at += 1;
                    if let Some(token) = self.expand_or_return(token) {
                        out.push(token);
                    }
                }
                None => {
                    self.frames.pop();
                }
            }
        }
        self.argument_depth -= 1;
        self.frames = if self.expanded > MAX_EXPANSION {
            Vec::new()
        } else {
            below
        };
        out
    }

    /// Whether `(` is the next token, in this frame or those around it.
    fn parenthesis_follows(&self) -> bool {
        for frame in self.frames.iter().rev() {
            if let Some(token) = frame.tokens.get(frame.at) {
                return token.is_symbol("(");
            }
            if matches!(frame.kind, FrameKind::File(_)) {
                return false;
            }
        }
        false
    }

    /// The arguments of a call, from `(` to `)`, and the place of `)`.
    fn arguments(&mut self, name: &Token) -> Option<(Vec<Vec<Token>>, Span)> {
        let mut args = vec![Vec::new()];
        let mut depth = 0_usize;
        loop {
            let Some(token) = self.next_argument_token() else {
                self.error(
                    name.span,
                    format!("the arguments of macro {} are not closed", name.describe()),
                );
                return None;
            };
            match &token.kind {
                TokenKind::Symbol("(") => {
                    depth += 1;
                    if depth == 1 {
                        continue;
                    }
                }
                TokenKind::Symbol(")") => {
                    depth -= 1;
                    if depth == 0 {
                        return Some((args, token.span));
                    }
                }
                TokenKind::Symbol(",") if depth == 1 => {
                    args.push(Vec::new());
                    continue;
                }
                _ => {}
            }
            if let Some(last) = args.last_mut() {
                last.push(token);
            }
        }
    }

    /// The next token of an argument: does not leave the file in which the call stands.
    fn next_argument_token(&mut self) -> Option<Token> {
        loop {
            let lowest = self.frames.len() == 1;
            let frame = self.frames.last_mut()?;
            if let Some(token) = frame.tokens.get(frame.at).cloned() {
                frame.at += 1;
                if matches!(frame.kind, FrameKind::File(_))
                    && token.line_start
                    && token.is_symbol("#")
                {
                    let line = self.rest_of_line();
                    self.directive(&token, line);
                    continue;
                }
                let skipped = self
                    .file_frame()
                    .is_some_and(|f| f.conditions.last().is_some_and(|c| !c.active));
                if skipped {
                    continue;
                }
                return Some(token);
            }
            // The frames that `expand_all` starts from have no name and are a border too.
            match &frame.kind {
                FrameKind::Expansion(name) if !name.is_empty() && !lowest => {
                    self.frames.pop();
                }
                _ => return None,
            }
        }
    }

    fn bind(
        &mut self,
        name: &Token,
        definition: &Macro,
        params: &[Arc<str>],
        mut args: Vec<Vec<Token>>,
    ) -> Option<BTreeMap<Arc<str>, Vec<Token>>> {
        if params.is_empty() && matches!(args.as_slice(), [only] if only.is_empty()) {
            args.clear();
        }
        if definition.variadic {
            let fixed = params.len() - 1;
            if args.len() > params.len() {
                let mut last = Vec::new();
                for (index, arg) in args.drain(fixed..).enumerate() {
                    if index > 0 {
                        last.push(Token {
                            kind: TokenKind::Symbol(","),
                            ..name.clone()
                        });
                    }
                    last.extend(arg);
                }
                args.push(last);
            } else if args.len() == fixed {
                args.push(Vec::new());
            }
        }
        if args.len() != params.len() {
            self.diagnostics.push(
                Diagnostic::error(
                    name.span,
                    format!(
                        "macro {} takes {} arguments, found {}",
                        name.describe(),
                        params.len(),
                        args.len()
                    ),
                )
                .with_code("macro")
                .with_label(definition.span, "defined here"),
            );
            return None;
        }
        Some(params.iter().cloned().zip(args).collect())
    }

    /// The macro's body with its parameters replaced, at the place of the call.
    fn substitute(
        &mut self,
        definition: &Macro,
        args: &BTreeMap<Arc<str>, Vec<Token>>,
        call: Span,
    ) -> Vec<Token> {
        let mut expanded: BTreeMap<Arc<str>, Vec<Token>> = BTreeMap::new();
        let mut out: Vec<Token> = Vec::new();
        let mut paste = false;
        let mut tokens = definition.body.iter().peekable();
        while let Some(token) = tokens.next() {
            if token.is_symbol("##") && !out.is_empty() {
                paste = true;
                continue;
            }
            let place = |mut t: Token| {
                t.span = call;
                t
            };
            let function_like = definition.params.is_some();
            let mut piece = match &token.kind {
                TokenKind::Symbol("#")
                    if function_like && tokens.peek().is_some_and(|t| is_param(t, args)) =>
                {
                    let arg = tokens
                        .next()
                        .and_then(Token::word)
                        .and_then(|w| args.get(w));
                    let text = arg.map_or_else(String::new, |arg| spell_all(arg, &self.map));
                    vec![place(string_token(&text, token))]
                }
                TokenKind::Word(word) if args.contains_key(word) => {
                    let pasted = paste || tokens.peek().is_some_and(|t| t.is_symbol("##"));
                    let arg = args.get(word).cloned().unwrap_or_default();
                    let mut arg = if pasted {
                        arg
                    } else if let Some(done) = expanded.get(word) {
                        done.clone()
                    } else {
                        let done = self.expand_all(arg);
                        expanded.insert(Arc::clone(word), done.clone());
                        done
                    };
                    if let Some(first) = arg.first_mut() {
                        first.spaced = token.spaced;
                    }
                    arg
                }
                _ => vec![place(token.clone())],
            };
            if std::mem::take(&mut paste)
                && !piece.is_empty()
                && let Some(left) = out.pop()
            {
                let right = piece.remove(0);
                let text = format!("{}{}", spell(&left, &self.map), spell(&right, &self.map));
                let mut joined = lex_at(&text, call);
                if let Some(first) = joined.first_mut() {
                    first.spaced = left.spaced;
                }
                if joined.len() != 1
                    || matches!(
                        joined.first(),
                        Some(Token {
                            kind: TokenKind::Malformed(_),
                            ..
                        })
                    )
                {
                    self.error(call, format!("`##` makes `{text}`, which is no token"));
                }
                out.append(&mut joined);
            }
            for mut token in piece {
                token.line_start = false;
                out.push(token);
            }
            if out.len() > MAX_EXPANSION {
                break;
            }
        }
        out
    }
}

fn is_param(token: &Token, args: &BTreeMap<Arc<str>, Vec<Token>>) -> bool {
    token.word().is_some_and(|word| args.contains_key(word))
}

/// A token as text.
pub(super) fn spell(token: &Token, map: &SourceMap) -> String {
    match &token.kind {
        TokenKind::Word(word) => word.to_string(),
        TokenKind::Int(lit) => lit.text.to_string(),
        TokenKind::Str(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        TokenKind::Symbol(symbol) => (*symbol).to_owned(),
        TokenKind::Stray(c) => c.to_string(),
        TokenKind::Malformed(_) => map.text(token.span).to_owned(),
        TokenKind::End => String::new(),
    }
}

fn spell_all(tokens: &[Token], map: &SourceMap) -> String {
    let mut out = String::new();
    for (index, token) in tokens.iter().enumerate() {
        if index > 0 && token.spaced {
            out.push(' ');
        }
        out.push_str(&spell(token, map));
    }
    out
}
