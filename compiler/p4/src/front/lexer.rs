//! Text to tokens (P4_16 section 6.4). Comments vanish, a backslash at a line's end joins two lines,
//! and what is malformed becomes a token too, so that text which the preprocessor leaves out may
//! contain anything.

use std::sync::Arc;

use num_bigint::BigInt;

use super::ast::IntLit;
use super::token::{Token, TokenKind};
use crate::source::{FileId, Span};

/// Longer literals are refused: their conversion takes time that grows with the square of their length.
const MAX_DIGITS: usize = 5_000;

/// All operators and delimiters, longest first.
const SYMBOLS: &[&str] = &[
    "|+|=", "|-|=", "{#}", "&&&", "...", "<<=", "|+|", "|-|", "&&", "||", "==", "!=", "<=", ">=",
    "<<", "++", "..", "+:", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "##", "+", "-", "*",
    "/", "%", "&", "|", "^", "!", "~", "<", ">", "=", "?", ":", ";", ",", ".", "(", ")", "[", "]",
    "{", "}", "@", "#",
];

/// The tokens of one text, without an end token.
#[must_use]
pub fn lex(file: FileId, text: &str) -> Vec<Token> {
    Lexer {
        file,
        text,
        at: 0,
        out: Vec::new(),
        spaced: false,
        line_start: true,
        in_directive: false,
    }
    .run()
}

struct Lexer<'a> {
    file: FileId,
    text: &'a str,
    at: usize,
    out: Vec<Token>,
    spaced: bool,
    line_start: bool,
    /// Whether this line began with `#`: then a string ends with it at the latest.
    in_directive: bool,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take_while(&mut self, mut accept: impl FnMut(char) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).unwrap_or("")
    }

    fn push(&mut self, start: usize, kind: TokenKind) {
        if self.line_start {
            self.in_directive = matches!(kind, TokenKind::Symbol("#"));
        }
        self.out.push(Token {
            kind,
            span: Span::new(self.file, start, self.at),
            spaced: self.spaced,
            line_start: self.line_start,
            final_word: false,
        });
        self.spaced = false;
        self.line_start = false;
    }

    fn malformed(&mut self, start: usize, what: &str) {
        self.push(start, TokenKind::Malformed(what.into()));
    }

    fn run(mut self) -> Vec<Token> {
        if self.rest().starts_with('\u{feff}') {
            self.at += '\u{feff}'.len_utf8();
        }
        while let Some(c) = self.peek() {
            let start = self.at;
            match c {
                '\n' => {
                    self.at += 1;
                    self.spaced = true;
                    self.line_start = true;
                }
                '\\' if self.join_lines() => self.spaced = true,
                c if c.is_whitespace() => {
                    self.at += c.len_utf8();
                    self.spaced = true;
                }
                '/' if self.rest().starts_with("//") => {
                    self.line_comment();
                    self.spaced = true;
                }
                '/' if self.rest().starts_with("/*") => {
                    self.spaced = true;
                    match self.rest().get(2..).and_then(|r| r.find("*/")) {
                        Some(len) => self.at += len + 4,
                        None => {
                            self.at = self.text.len();
                            self.malformed(start, "a comment that is not closed");
                        }
                    }
                }
                '"' => self.string(start),
                c if c.is_ascii_digit() => self.number(start),
                c if c.is_ascii_alphabetic() || c == '_' => {
                    let word = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
                    self.push(start, TokenKind::Word(word.into()));
                }
                c => match SYMBOLS.iter().find(|s| self.rest().starts_with(**s)) {
                    Some(symbol) => {
                        self.at += symbol.len();
                        self.push(start, TokenKind::Symbol(symbol));
                    }
                    None => {
                        self.at += c.len_utf8();
                        self.push(start, TokenKind::Stray(c));
                    }
                },
            }
        }
        self.out
    }

    /// Skips a backslash and the line feed behind it.
    fn join_lines(&mut self) -> bool {
        for join in ["\\\n", "\\\r\n"] {
            if self.rest().starts_with(join) {
                self.at += join.len();
                return true;
            }
        }
        false
    }

    fn line_comment(&mut self) {
        loop {
            self.take_while(|c| c != '\n' && c != '\\');
            match self.peek() {
                Some('\\') => {
                    if !self.join_lines() {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn string(&mut self, start: usize) {
        self.at += 1;
        let mut value = String::new();
        loop {
            let in_directive = self.in_directive;
            value.push_str(
                self.take_while(|c| !(matches!(c, '"' | '\\') || in_directive && c == '\n')),
            );
            match self.peek() {
                Some('"') => {
                    self.at += 1;
                    self.push(start, TokenKind::Str(value.into()));
                    return;
                }
                Some('\\') => {
                    if self.join_lines() {
                        continue;
                    }
                    self.at += 1;
                    match self.peek() {
                        Some(c @ ('"' | '\\')) => {
                            self.at += 1;
                            value.push(c);
                        }
                        Some(c @ ('n' | 't' | 'r')) => {
                            self.at += 1;
                            value.push(match c {
                                'n' => '\n',
                                't' => '\t',
                                _ => '\r',
                            });
                        }
                        // Any other escape stays as it is written.
                        _ => value.push('\\'),
                    }
                }
                _ => {
                    self.malformed(start, "a string that is not closed");
                    return;
                }
            }
        }
    }

    /// `[width (w|s)] [0x|0b|0o|0d] digits`, with underscores anywhere behind the first digit.
    fn number(&mut self, start: usize) {
        let run = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        match parse_int(run) {
            Ok(lit) => self.push(start, TokenKind::Int(lit)),
            Err(what) => self.malformed(start, &what),
        }
    }
}

/// An integer literal from its text; on failure, what is wrong with it.
fn parse_int(text: &str) -> Result<IntLit, String> {
    if text.len() > MAX_DIGITS {
        return Err(format!("an integer of more than {MAX_DIGITS} digits"));
    }
    let malformed = || format!("a malformed integer `{text}`");
    let (width, signed, digits) = match text.find(['w', 's']) {
        Some(at) => {
            let (width, rest) = text.split_at_checked(at).ok_or_else(malformed)?;
            let width: String = width.chars().filter(|c| *c != '_').collect();
            if !width.bytes().all(|b| b.is_ascii_digit()) {
                return Err(malformed());
            }
            let width = width
                .parse::<u32>()
                .map_err(|_| format!("an integer of too large a width in `{text}`"))?;
            (
                Some(width),
                rest.starts_with('s'),
                rest.get(1..).ok_or_else(malformed)?,
            )
        }
        None => (None, false, text),
    };
    let prefix = |p: [&str; 2]| p.iter().find_map(|p| digits.strip_prefix(p));
    let (base, digits) = if let Some(rest) = prefix(["0x", "0X"]) {
        (16, rest)
    } else if let Some(rest) = prefix(["0b", "0B"]) {
        (2, rest)
    } else if let Some(rest) = prefix(["0o", "0O"]) {
        (8, rest)
    } else if let Some(rest) = prefix(["0d", "0D"]) {
        (10, rest)
    } else {
        (10, digits)
    };
    let digits: Vec<u8> = digits.bytes().filter(|b| *b != b'_').collect();
    if digits.is_empty() {
        return Err(malformed());
    }
    let value = BigInt::parse_bytes(&digits, u32::from(base)).ok_or_else(malformed)?;
    Ok(IntLit {
        value,
        width,
        signed,
        base,
        text: text.into(),
    })
}

/// The tokens of a text that stands in no file of the program (a macro from the command line, two
/// tokens pasted together), all at one place.
#[must_use]
pub(super) fn lex_at(text: &str, span: Span) -> Vec<Token> {
    let mut tokens = lex(span.file, text);
    for token in &mut tokens {
        token.span = span;
        token.line_start = false;
    }
    tokens
}

/// A word token at a place.
#[must_use]
pub(super) fn int_token(value: u32, at: &Token) -> Token {
    let lit = IntLit {
        value: BigInt::from(value),
        width: None,
        signed: false,
        base: 10,
        text: value.to_string().into(),
    };
    Token {
        kind: TokenKind::Int(lit),
        ..at.clone()
    }
}

/// A string token at a place.
#[must_use]
pub(super) fn string_token(value: &str, at: &Token) -> Token {
    Token {
        kind: TokenKind::Str(Arc::from(value)),
        ..at.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<String> {
        lex(FileId(0), text).iter().map(Token::describe).collect()
    }

    #[test]
    fn integers_keep_width_sign_base_and_value() {
        let lit = |text: &str| match &lex(FileId(0), text)[..] {
            [
                Token {
                    kind: TokenKind::Int(lit),
                    ..
                },
            ] => (lit.value.to_string(), lit.width, lit.signed, lit.base),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(lit("8w0xF_F"), ("255".into(), Some(8), false, 16));
        assert_eq!(lit("16s0b1_0"), ("2".into(), Some(16), true, 2));
        assert_eq!(lit("0o17"), ("15".into(), None, false, 8));
        assert_eq!(lit("017"), ("17".into(), None, false, 10));
        assert_eq!(lit("0d9"), ("9".into(), None, false, 10));
        let big = "340282366920938463463374607431768211456";
        assert_eq!(lit(big), (big.into(), None, false, 10));
    }

    #[test]
    fn malformed_literals_and_comments_say_what_is_wrong() {
        assert_eq!(kinds("12ab"), ["a malformed integer `12ab`"]);
        assert_eq!(kinds("8w"), ["a malformed integer `8w`"]);
        assert_eq!(
            kinds("99999999999w1"),
            ["an integer of too large a width in `99999999999w1`"]
        );
        assert_eq!(kinds("\"abc\nx"), ["a string that is not closed"]);
        assert_eq!(
            kinds("#a \"b\nc \"d\ne\""),
            [
                "`#`",
                "`a`",
                "a string that is not closed",
                "`c`",
                "string \"d\\ne\""
            ]
        );
        assert_eq!(kinds("a /* b"), ["`a`", "a comment that is not closed"]);
        assert_eq!(kinds("a $ b"), ["`a`", "character `$`", "`b`"]);
    }

    #[test]
    fn operators_are_cut_longest_first_and_right_angles_one_by_one() {
        assert_eq!(kinds("a|+|=b"), ["`a`", "`|+|=`", "`b`"]);
        assert_eq!(kinds("x>>=1"), ["`x`", "`>`", "`>=`", "`1`"]);
        assert_eq!(kinds("0..5"), ["`0`", "`..`", "`5`"]);
        assert_eq!(kinds("{#}&&&...+:"), ["`{#}`", "`&&&`", "`...`", "`+:`"]);
    }

    #[test]
    fn strings_resolve_escapes_and_joined_lines_count_as_space() {
        assert_eq!(
            lex(FileId(0), r#""a\"b\\\n\q""#)[0].kind,
            TokenKind::Str("a\"b\\\n\\q".into())
        );
        let tokens = lex(FileId(0), "a \\\n b // c \\\n d\ne");
        assert_eq!(
            tokens.iter().map(|t| t.line_start).collect::<Vec<_>>(),
            [true, false, true]
        );
    }
}
