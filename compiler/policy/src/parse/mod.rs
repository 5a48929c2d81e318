//! Tokens to a syntax tree. Never fails: it returns what could be read and a list of errors, and
//! goes on at the next clause, or at the next item where a brace is missing.
//!
//! An item begins with one of seven words. Such a word in the first column ends every open block,
//! so that a missing brace spoils one item and not the rest of the file.

mod clauses;
mod expr;
mod gate;
mod items;
mod services;

use crate::diagnostic::{Diagnostic, did_you_mean, one_of};
use crate::lex::{self, Comment, Punct, Token, TokenKind};
use crate::model::Span;
use crate::tree::{File, Layout, Name, Spanned};

/// A text taken apart.
#[derive(Clone, Debug)]
pub struct Parse {
    /// What could be read.
    pub file: File,
    /// What could not.
    pub errors: Vec<Diagnostic>,
    /// Its tokens; the last is the end.
    pub tokens: Vec<Token>,
    /// Its comments.
    pub comments: Vec<Comment>,
    /// Its lines and blocks.
    pub layout: Layout,
}

/// Reads a policy's text.
pub fn parse(text: &str) -> Parse {
    let (tokens, comments) = lex::tokens(text);
    let mut parser = Parser::new(text, &tokens);
    let file = parser.file();
    let Parser {
        errors, mut layout, ..
    } = parser;
    layout.starts.sort_unstable();
    layout.starts.dedup();
    Parse {
        file,
        errors,
        tokens,
        comments,
        layout,
    }
}

/// The words that begin an item.
pub(crate) const ITEM_WORDS: [&str; 7] = [
    "network", "set", "pool", "service", "cascade", "managers", "test",
];

/// Parentheses and `not` may nest this deep.
const MAX_DEPTH: u32 = 64;

/// An error was reported; go on at the next clause.
pub(super) struct Recover;
pub(super) type Parsed<T> = Result<T, Recover>;

pub(super) struct Parser<'a> {
    text: &'a str,
    tokens: &'a [Token],
    /// How many braces and parentheses are open before each token, and whether an item begins there.
    nesting: Vec<(u32, bool)>,
    at: usize,
    errors: Vec<Diagnostic>,
    layout: Layout,
    depth: u32,
    /// The first token of the clause or item that is being read.
    clause: usize,
    /// The words that begin clauses of the block that is being read.
    clause_words: &'static [&'static str],
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, tokens: &'a [Token]) -> Parser<'a> {
        let mut nesting = Vec::with_capacity(tokens.len());
        let mut open = 0u32;
        for token in tokens {
            let word = text.get(token.span.start..token.span.end).unwrap_or("");
            let first_column = token.span.start == 0
                || text
                    .as_bytes()
                    .get(token.span.start - 1)
                    .is_some_and(|b| *b == b'\n');
            let item = token.kind == TokenKind::Word && first_column && ITEM_WORDS.contains(&word);
            if item {
                open = 0;
            }
            nesting.push((open, item));
            match token.kind {
                TokenKind::Punct(Punct::OpenBrace | Punct::OpenParen) => open += 1,
                TokenKind::Punct(Punct::CloseBrace | Punct::CloseParen) => {
                    open = open.saturating_sub(1);
                }
                _ => {}
            }
        }
        Parser {
            text,
            tokens,
            nesting,
            at: 0,
            errors: Vec::new(),
            layout: Layout::default(),
            depth: 0,
            clause: 0,
            clause_words: &[],
        }
    }

    /// The current token's kind; the end repeats for ever.
    fn kind(&self) -> &'a TokenKind {
        self.kind_ahead(0)
    }

    fn kind_ahead(&self, by: usize) -> &'a TokenKind {
        self.tokens
            .get(self.at + by)
            .map_or(&TokenKind::End, |t| &t.kind)
    }

    fn span(&self) -> Span {
        let end = Span {
            start: self.text.len(),
            end: self.text.len(),
        };
        self.tokens.get(self.at).map_or(end, |t| t.span)
    }

    /// From a token that was read to the last one read.
    fn span_since(&self, start: Span) -> Span {
        let last = self
            .at
            .checked_sub(1)
            .and_then(|i| self.tokens.get(i))
            .map(|t| t.span.end);
        Span {
            start: start.start,
            end: last.unwrap_or(start.end).max(start.end),
        }
    }

    fn slice(&self, span: Span) -> &'a str {
        self.text.get(span.start..span.end).unwrap_or("")
    }

    /// The current token if it is a word.
    fn word(&self) -> Option<&'a str> {
        (*self.kind() == TokenKind::Word).then(|| self.slice(self.span()))
    }

    fn is_word(&self, word: &str) -> bool {
        self.word() == Some(word)
    }

    fn is(&self, punct: Punct) -> bool {
        *self.kind() == TokenKind::Punct(punct)
    }

    fn bump(&mut self) {
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
    }

    fn eat(&mut self, punct: Punct) -> bool {
        let found = self.is(punct);
        if found {
            self.bump();
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.bump();
        }
        found
    }

    /// What stands here, for a message.
    fn found(&self) -> String {
        match self.kind() {
            TokenKind::End => "the end of the file".to_owned(),
            _ => format!("`{}`", self.slice(self.span())),
        }
    }

    /// Whether the next line has begun within a clause.
    fn on_next_line(&self) -> bool {
        self.at > self.clause && self.tokens.get(self.at).is_some_and(|t| t.first_on_line)
    }

    /// Whether a word of the next line begins a clause or an item, so that this one has ended early.
    fn next_begins(&self) -> bool {
        let item = self.nesting.get(self.at).is_some_and(|n| n.1);
        let clause = self.word().is_some_and(|w| self.clause_words.contains(&w));
        self.on_next_line() && (item || clause)
    }

    /// Where something is missing: here, or after the last word if the line ends there.
    fn missing_at(&self) -> Span {
        let last = self.at.checked_sub(1).and_then(|i| self.tokens.get(i));
        match last {
            Some(last) if self.on_next_line() => Span {
                start: last.span.end,
                end: last.span.end,
            },
            _ => self.span(),
        }
    }

    /// Reports that something else was expected here.
    fn expected<T>(&mut self, what: &str) -> Parsed<T> {
        let diagnostic = match self.kind() {
            TokenKind::Bad(reason) => Diagnostic::error("bad-token", self.span(), reason.clone()),
            _ => Diagnostic::error(
                "syntax",
                self.missing_at(),
                format!("expected {what}, found {}", self.found()),
            ),
        };
        self.errors
            .push(diagnostic.label(format!("expected {what}")));
        Err(Recover)
    }

    /// Reports a word that is none of these.
    fn expected_word<T>(&mut self, what: &str, words: &[&str]) -> Parsed<T> {
        let Some(found) = self.word() else {
            return self.expected(&one_of(words));
        };
        let message = format!("`{found}` is not {what}");
        let mut d = Diagnostic::error("unknown-word", self.span(), message)
            .label(format!("expected {}", one_of(words)));
        if let Some(meant) = did_you_mean(found, words.iter().copied()) {
            d = d.help(format!("did you mean `{meant}`?"));
        }
        self.errors.push(d);
        Err(Recover)
    }

    fn expect(&mut self, punct: Punct) -> Parsed<Span> {
        let span = self.span();
        if self.eat(punct) {
            Ok(span)
        } else {
            self.expected(&format!("`{}`", punct.text()))
        }
    }

    fn expect_word(&mut self, word: &str) -> Parsed<Span> {
        let span = self.span();
        if self.eat_word(word) {
            Ok(span)
        } else {
            self.expected(&format!("`{word}`"))
        }
    }

    /// A name, which does not have the `.` of a field; that is reported, and the name taken.
    fn name(&mut self, what: &str) -> Parsed<Name> {
        if self.next_begins() {
            return self.expected(what);
        }
        self.any_name(what)
    }

    /// A name that may also be a word that begins a clause.
    fn any_name(&mut self, what: &str) -> Parsed<Name> {
        let span = self.span();
        let Some(word) = self.word() else {
            return self.expected(what);
        };
        if word.contains('.') {
            self.errors.push(
                Diagnostic::error("bad-name", span, format!("`{word}` is not a name"))
                    .label("a name has letters, digits, `_`, and single `-` between those")
                    .help(format!("call it `{}`", word.replace('.', "-"))),
            );
        }
        let value = word.to_owned();
        self.bump();
        Ok(Spanned { value, span })
    }

    /// A token that `read` makes something of.
    fn literal<T>(
        &mut self,
        what: &str,
        read: impl Fn(&TokenKind) -> Option<T>,
    ) -> Parsed<Spanned<T>> {
        let span = self.span();
        match read(self.kind()) {
            Some(value) => {
                self.bump();
                Ok(Spanned { value, span })
            }
            None => self.expected(what),
        }
    }

    fn number(&mut self, what: &str) -> Parsed<Spanned<u64>> {
        self.literal(what, |k| match k {
            TokenKind::Number(n) => Some(*n),
            _ => None,
        })
    }

    /// `{ CLAUSE… }`, of clauses that begin with `words`; reports and skips those that do not parse.
    fn block<T>(
        &mut self,
        words: &'static [&'static str],
        clause: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let open = self.at;
        self.expect(Punct::OpenBrace)?;
        let around = (self.clause, self.clause_words);
        self.clause_words = words;
        let clauses = self.clauses(open, clause);
        (self.clause, self.clause_words) = around;
        Ok(clauses)
    }

    /// Clauses up to and with the brace that closes the one at `open`.
    fn clauses<T>(
        &mut self,
        open: usize,
        mut clause: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Vec<T> {
        let mut out = Vec::new();
        loop {
            let item = self.nesting.get(self.at).is_some_and(|n| n.1);
            if self.is(Punct::CloseBrace) {
                self.layout.blocks.push((open, self.at));
                self.bump();
                return out;
            }
            if *self.kind() == TokenKind::End || item {
                let span = self.tokens.get(open).map_or(self.span(), |t| t.span);
                let found = self.found();
                self.errors.push(
                    Diagnostic::error(
                        "unclosed",
                        self.span(),
                        format!("expected `}}`, found {found}"),
                    )
                    .label("expected `}` before this")
                    .related(span, "this block is not closed"),
                );
                // The block stands as far as it was read.
                return out;
            }
            if self.eat(Punct::Semicolon) {
                continue;
            }
            let before = self.at;
            self.clause = before;
            self.layout.starts.push(before);
            match clause(self) {
                Ok(value) => out.push(value),
                Err(Recover) => self.skip_clause(before),
            }
        }
    }

    /// Skips to what may be the next clause of the block in which the token `start` stands.
    fn skip_clause(&mut self, start: usize) {
        let depth = self.nesting.get(start).map_or(0, |n| n.0);
        if self.at == start {
            self.bump();
        }
        while let Some(token) = self.tokens.get(self.at) {
            let (open, item) = self.nesting.get(self.at).copied().unwrap_or((0, true));
            let closes = token.kind == TokenKind::Punct(Punct::CloseBrace) && open <= depth;
            let next = open <= depth
                && (token.first_on_line || token.kind == TokenKind::Punct(Punct::Semicolon));
            let block = token.kind == TokenKind::Punct(Punct::OpenBrace);
            if token.kind == TokenKind::End || item || closes || (next && !block) {
                return;
            }
            self.bump();
        }
    }

    /// Counts nesting, so that no text overflows the stack.
    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= MAX_DEPTH {
            let message = format!("conditions nest deeper than {MAX_DEPTH}");
            self.errors
                .push(Diagnostic::error("too-deep", self.span(), message));
            return Err(Recover);
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }
}
