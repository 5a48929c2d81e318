//! Tokens as the lexer makes them, the preprocessor rearranges them and the parser reads them.
//! Keywords are words like any other here, because a macro may have a keyword's name; which words
//! can't be names is said by [`is_reserved`].

use std::sync::Arc;

use super::ast::IntLit;
use crate::source::Span;

/// One token with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it is written; for what comes out of a macro's body, where the macro is used.
    pub span: Span,
    /// Whether white space or a comment stands before it.
    pub spaced: bool,
    /// Whether it is the first of its line.
    pub line_start: bool,
    /// Whether the preprocessor must leave this word alone from now on.
    pub final_word: bool,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenKind {
    /// An identifier, a keyword or `_`.
    Word(Arc<str>),
    /// An integer literal.
    Int(IntLit),
    /// A string literal, escapes resolved.
    Str(Arc<str>),
    /// An operator or delimiter. `>>` and `>>=` are two tokens each, since type arguments end in `>`.
    Symbol(&'static str),
    /// A character that P4 has no use for. It may stand in an annotation.
    Stray(char),
    /// A malformed literal or comment, and what is wrong with it.
    Malformed(Arc<str>),
    /// The end of the program.
    End,
}

impl Token {
    /// Whether it is this operator or delimiter.
    #[must_use]
    pub fn is_symbol(&self, symbol: &str) -> bool {
        matches!(&self.kind, TokenKind::Symbol(s) if *s == symbol)
    }

    /// The word, if it is one.
    #[must_use]
    pub fn word(&self) -> Option<&str> {
        match &self.kind {
            TokenKind::Word(word) => Some(word),
            _ => None,
        }
    }

    /// The token for a message: in backticks, or in words where backticks would not help.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.kind {
            TokenKind::Word(word) if is_reserved(word) && &**word != "_" => {
                format!("keyword `{word}`")
            }
            TokenKind::Word(word) => format!("`{word}`"),
            TokenKind::Int(lit) => format!("`{}`", lit.text),
            TokenKind::Str(text) => format!("string \"{}\"", shortened(text)),
            TokenKind::Symbol(symbol) => format!("`{symbol}`"),
            TokenKind::Stray(c) => format!("character `{}`", c.escape_debug()),
            TokenKind::Malformed(what) => what.to_string(),
            TokenKind::End => "the end of the file".to_owned(),
        }
    }
}

fn shortened(text: &str) -> String {
    let mut out: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() {
        out.push('…');
    }
    out
}

/// Whether a word can't be a name. `actions`, `apply`, `entries`, `key`, `list`, `priority`, `state`
/// and `type` can (P4_16 section 6.4.1 and `nonTypeName` of its grammar).
#[must_use]
pub fn is_reserved(word: &str) -> bool {
    matches!(
        word,
        "_" | "abstract"
            | "action"
            | "bit"
            | "bool"
            | "break"
            | "const"
            | "continue"
            | "control"
            | "default"
            | "else"
            | "enum"
            | "error"
            | "exit"
            | "extern"
            | "false"
            | "for"
            | "header"
            | "header_union"
            | "if"
            | "in"
            | "inout"
            | "int"
            | "match_kind"
            | "out"
            | "package"
            | "parser"
            | "return"
            | "select"
            | "string"
            | "struct"
            | "switch"
            | "table"
            | "this"
            | "transition"
            | "true"
            | "tuple"
            | "typedef"
            | "value_set"
            | "varbit"
            | "void"
    )
}
