//! Tokens to syntax tree: recursive descent over the whole grammar of P4_16 (section "P4 grammar"),
//! with precedence climbing for expressions. A syntax error is reported once where it is found, and
//! parsing goes on behind the statement or declaration that holds it.
//!
//! Where the grammar needs to know whether a name is a type, [`Scopes`] remembers what has been
//! declared so far, and elsewhere a look at the tokens ahead decides.

mod annotation;
mod behaviour;
mod decl;
mod expr;
mod scope;
mod stmt;
mod table;
#[cfg(test)]
mod tests;
mod types;

use super::ast::{Decl, Ident, Path, Program};
use super::token::{Token, TokenKind, is_reserved};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::source::Span;
use scope::Scopes;

/// How deep constructs may be nested in each other, so that neither this parser nor a walk over
/// the tree can run out of stack.
const MAX_NESTING: usize = 96;
/// How high an expression may grow by long chains of operators, and how long `else if` may go on.
const MAX_HEIGHT: usize = 400;
/// After so many syntax errors the rest of the text is left alone.
const MAX_ERRORS: usize = 50;

/// Stands for an error that has been reported already.
#[derive(Debug, Clone, Copy)]
struct Failed;

type Parsed<T> = Result<T, Failed>;

/// Parses a program from what the preprocessor left. The tree holds what could be read even when
/// there are errors.
#[must_use]
pub fn parse(tokens: Vec<Token>) -> (Program, Diagnostics) {
    let end = tokens.last().map_or(Span::default(), |t| t.span.after());
    let mut parser = Parser {
        tokens,
        at: 0,
        end: Token {
            kind: TokenKind::End,
            span: end,
            spaced: true,
            line_start: true,
            final_word: true,
        },
        diagnostics: Diagnostics::new(),
        last_error_at: None,
        scopes: Scopes::new(),
        nesting: 0,
        chain: 0,
        height: 0,
        no_greater: false,
    };
    let program = parser.program();
    (program, parser.diagnostics)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    end: Token,
    diagnostics: Diagnostics,
    /// The token of the last error: a second error there says nothing new.
    last_error_at: Option<usize>,
    scopes: Scopes,
    /// How many constructs are open.
    nesting: usize,
    /// How many links of `else if` are open.
    chain: usize,
    /// The height of the expression that was read last.
    height: usize,
    /// Whether `>` ends the expression, which stands between angle brackets.
    no_greater: bool,
}

/// Reading tokens.
impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&self.end)
    }

    fn peek_at(&self, offset: usize) -> &Token {
        self.tokens.get(self.at + offset).unwrap_or(&self.end)
    }

    fn token_at(&self, index: usize) -> &Token {
        self.tokens.get(index).unwrap_or(&self.end)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if self.at < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    fn at_end(&self) -> bool {
        matches!(self.peek().kind, TokenKind::End)
    }

    fn at_symbol(&self, symbol: &str) -> bool {
        self.peek().is_symbol(symbol)
    }

    fn at_word(&self, word: &str) -> bool {
        self.peek().word() == Some(word)
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = self.at_symbol(symbol);
        self.at += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.at_word(word);
        self.at += usize::from(found);
        found
    }

    /// The place of the token before this one.
    fn previous(&self) -> Span {
        self.at
            .checked_sub(1)
            .and_then(|i| self.tokens.get(i))
            .unwrap_or(&self.end)
            .span
    }

    /// From `start` to the last token read.
    fn since(&self, start: Span) -> Span {
        start.to(self.previous())
    }

    fn expect(&mut self, symbol: &str) -> Parsed<Span> {
        if self.at_symbol(symbol) {
            return Ok(self.next().span);
        }
        Err(self.unexpected(&format!("`{symbol}`")))
    }

    fn expect_word(&mut self, word: &str) -> Parsed<Span> {
        if self.at_word(word) {
            return Ok(self.next().span);
        }
        Err(self.unexpected(&format!("`{word}`")))
    }

    /// A semicolon. One forgotten at the end of a line is reported and taken as written.
    fn expect_semicolon(&mut self) -> Parsed<()> {
        if self.take_symbol(";") {
            return Ok(());
        }
        let next = self.peek();
        if (next.line_start || next.is_symbol("}")) && !next.is_symbol("{") {
            let found = next.describe();
            let place = self.previous();
            self.report(
                Diagnostic::error(place, format!("expected `;`, found {found}"))
                    .with_note_here("expected `;` behind this"),
            );
            return Ok(());
        }
        Err(self.unexpected("`;`"))
    }

    /// Whether a name stands at this distance.
    fn name_at(&self, offset: usize) -> bool {
        self.peek_at(offset).word().is_some_and(|w| !is_reserved(w))
    }

    /// A name; `what` says whose, for the message.
    fn name(&mut self, what: &str) -> Parsed<Ident> {
        match &self.peek().kind {
            TokenKind::Word(word) if !is_reserved(word) => {
                let ident = Ident {
                    name: word.clone(),
                    span: self.peek().span,
                };
                self.at += 1;
                Ok(ident)
            }
            TokenKind::Word(word) if &**word != "_" => {
                let (span, word) = (self.peek().span, word.clone());
                self.report(
                    Diagnostic::error(span, format!("expected {what}, found keyword `{word}`"))
                        .with_note_here(format!("expected {what}"))
                        .with_help(format!("`{word}` is a reserved word; choose another name")),
                );
                Err(Failed)
            }
            _ => Err(self.unexpected(what)),
        }
    }

    /// A name with or without a dot before it.
    fn path(&mut self, what: &str) -> Parsed<Path> {
        let start = self.peek().span;
        let absolute = self.take_symbol(".");
        let name = self.name(what)?;
        Ok(Path {
            span: start.to(name.span),
            absolute,
            name,
        })
    }

    /// The index behind the bracket that closes the one at `open`, as far as one can tell without
    /// parsing: nothing when a `;` or the end comes first.
    fn matching(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        let mut at = open;
        loop {
            match &self.token_at(at).kind {
                TokenKind::Symbol("(" | "[" | "{") => depth += 1,
                TokenKind::Symbol(")" | "]" | "}") => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return Some(at + 1);
                    }
                }
                TokenKind::Symbol(";") | TokenKind::End => return None,
                _ => {}
            }
            at += 1;
        }
    }
}

/// Reporting errors and getting past them.
impl Parser {
    fn report(&mut self, diagnostic: Diagnostic) {
        if self.last_error_at == Some(self.at) {
            return;
        }
        self.last_error_at = Some(self.at);
        self.diagnostics.push(diagnostic.with_code("syntax"));
        if self.diagnostics.error_count() == MAX_ERRORS {
            self.diagnostics
                .push(Diagnostic::error_without_place(format!(
                    "{MAX_ERRORS} syntax errors: the rest of the program is not looked at"
                )));
            self.at = self.tokens.len();
        }
    }

    /// Reports the token that is here where something else should be.
    fn unexpected(&mut self, expected: &str) -> Failed {
        let token = self.peek().clone();
        let message = format!("expected {expected}, found {}", token.describe());
        let mut error =
            Diagnostic::error(token.span, message).with_note_here(format!("expected {expected}"));
        if let TokenKind::Malformed(what) = &token.kind {
            if what.starts_with("a string") {
                error = error.with_help("close the string with `\"`");
            } else if what.starts_with("a comment") {
                error = error.with_help("close the comment with `*/`");
            }
        }
        self.report(error);
        Failed
    }

    /// Runs `parse` one level deeper.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.nesting >= MAX_NESTING {
            let span = self.peek().span;
            self.report(
                Diagnostic::error(span, format!("nested more than {MAX_NESTING} levels deep"))
                    .with_help("split it, with variables or actions of its own"),
            );
            return Err(Failed);
        }
        self.nesting += 1;
        let result = parse(self);
        self.nesting -= 1;
        result
    }

    /// Runs `parse` with `>` an operator again, as between parentheses.
    fn enclosed<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        let outer = std::mem::replace(&mut self.no_greater, false);
        let result = parse(self);
        self.no_greater = outer;
        result
    }

    /// Skips to behind the next `;`, or to the `}` that closes what we are in; blocks are skipped
    /// whole, and a block ends the search too.
    fn skip_item(&mut self) {
        let mut depth = 0_usize;
        loop {
            let token = self.peek();
            if matches!(token.kind, TokenKind::End) {
                return;
            }
            if depth == 0 && token.line_start && self.starts_item() {
                return;
            }
            match &self.peek().kind {
                TokenKind::Symbol("{") => depth += 1,
                TokenKind::Symbol("}") => {
                    if depth == 0 {
                        return;
                    }
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        self.take_symbol(";");
                        return;
                    }
                }
                TokenKind::Symbol(";") if depth == 0 => {
                    self.at += 1;
                    return;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Whether a word stands here that can only begin a declaration or statement.
    fn starts_item(&self) -> bool {
        let declares = matches!(
            self.peek().word(),
            Some(
                "action"
                    | "const"
                    | "control"
                    | "extern"
                    | "header"
                    | "header_union"
                    | "match_kind"
                    | "package"
                    | "parser"
                    | "struct"
                    | "table"
                    | "typedef"
                    | "enum"
                    | "transition"
                    | "return"
                    | "exit"
                    | "switch"
                    | "if"
                    | "for"
            )
        );
        declares
            || (self.at_word("apply") && self.peek_at(1).is_symbol("{"))
            || (self.at_word("state") && self.name_at(1) && self.peek_at(2).is_symbol("{"))
    }

    /// `{ item item … }`; what can't be read is skipped.
    fn braced<T>(&mut self, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let open = self.expect("{")?;
        self.items_until_close(open, &mut item)
    }

    /// Items up to the `}` that belongs to the brace at `open`.
    fn items_until_close<T>(
        &mut self,
        open: Span,
        item: &mut dyn FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        loop {
            if self.take_symbol("}") {
                return Ok(items);
            }
            if self.at_end() {
                return Err(self.unclosed("}", open));
            }
            let before = self.at;
            match item(self) {
                Ok(value) => items.push(value),
                Err(Failed) => {
                    if self.at == before {
                        self.at += 1;
                    }
                    self.skip_item();
                }
            }
        }
    }

    fn unclosed(&mut self, close: &str, open: Span) -> Failed {
        let token = self.peek().clone();
        self.report(
            Diagnostic::error(
                token.span,
                format!("expected `{close}`, found {}", token.describe()),
            )
            .with_note_here(format!("expected `{close}`"))
            .with_label(open, "to close this"),
        );
        Failed
    }

    /// `item, item, …` up to a closing bracket, which is taken too. `trailing` allows a last comma.
    fn separated<T>(
        &mut self,
        close: &str,
        trailing: bool,
        mut item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        if self.take_symbol(close) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.take_symbol(close) {
                return Ok(items);
            }
            if !self.at_symbol(",") {
                return Err(self.unexpected(&format!("`,` or `{close}`")));
            }
            self.at += 1;
            if trailing && self.take_symbol(close) {
                return Ok(items);
            }
        }
    }
}

impl Parser {
    fn program(&mut self) -> Program {
        let mut decls: Vec<Decl> = Vec::new();
        while !self.at_end() {
            if self.take_symbol(";") {
                continue;
            }
            let before = self.at;
            match self.top_level() {
                Ok(Some(decl)) => decls.push(decl),
                Ok(None) => {}
                Err(Failed) => {
                    self.scopes.back_to_top();
                    self.nesting = 0;
                    self.chain = 0;
                    if self.at == before {
                        self.at += 1;
                    }
                    self.skip_item();
                    // A brace that closes nothing was opened by what could not be read.
                    self.take_symbol("}");
                }
            }
        }
        Program { decls }
    }
}
