//! The formatter: one clause a line, two spaces a block, one space between tokens, comments kept.
//!
//! It prints the tokens it was given and never adds or drops one, but for semicolons; the layout from
//! the parser says where lines begin. Formatting twice is formatting once, and a formatted policy
//! checks to the same model.

use crate::lex::{Comment, Punct, Token, TokenKind};
use crate::model::Span;
use crate::parse::{Parse, parse};

/// Lines are kept to this many characters where a comma, `and` or `or` allows a break.
const WIDTH: usize = 100;

/// Formats a policy's text. A text with syntax errors is returned as it is.
pub fn fmt(text: &str) -> String {
    let parse = parse(text);
    if parse.errors.is_empty() {
        Printer::new(text, &parse).print()
    } else {
        text.to_owned()
    }
}

/// The tokens of a place on one line, as the formatter writes them.
pub(crate) fn one_line(text: &str, tokens: &[Token], span: Span) -> String {
    let mut out = String::new();
    let mut before: Option<&Token> = None;
    let first = tokens.partition_point(|t| t.span.start < span.start);
    let inside = tokens
        .iter()
        .skip(first)
        .take_while(|t| t.kind != TokenKind::End && t.span.end <= span.end);
    for token in inside {
        if before.is_some_and(|b| spaced(text, b, token)) {
            out.push(' ');
        }
        out.push_str(text.get(token.span.start..token.span.end).unwrap_or(""));
        before = Some(token);
    }
    out
}

fn word<'a>(text: &'a str, token: &Token) -> &'a str {
    text.get(token.span.start..token.span.end).unwrap_or("")
}

/// Whether a space stands between two tokens of one line.
fn spaced(text: &str, left: &Token, right: &Token) -> bool {
    use Punct::*;
    let tight = |p: Punct| matches!(p, Range | Slash | Plus);
    match (&left.kind, &right.kind) {
        (TokenKind::Punct(OpenParen), _) | (_, TokenKind::Punct(CloseParen | Comma)) => false,
        (TokenKind::Punct(OpenBrace), TokenKind::Punct(CloseBrace)) => false,
        (TokenKind::Punct(p), _) if tight(*p) => false,
        (_, TokenKind::Punct(p)) if tight(*p) => false,
        // `maglev(flow)`, but `not (…)`, `and (…)`.
        (TokenKind::Word, TokenKind::Punct(OpenParen)) => {
            matches!(
                word(text, left),
                "not" | "and" | "or" | "match" | "allow" | "deny" | "where"
            )
        }
        _ => true,
    }
}

/// What a token is to the layout.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Role {
    /// Begins a clause or an item.
    starts: bool,
    /// Begins an item.
    item: bool,
    /// Opens a block whose clauses stand on lines of their own.
    opens: bool,
    /// Closes such a block.
    closes: bool,
}

/// One line of the result.
struct Line {
    indent: usize,
    text: String,
    /// Whether the source has a blank line before it.
    blank_before: bool,
    role: Role,
    comment: bool,
    /// Whether the next token may follow on this line.
    open: bool,
}

struct Printer<'a> {
    text: &'a str,
    tokens: &'a [Token],
    roles: Vec<Role>,
    lines: Vec<Line>,
    /// Comments not yet printed.
    comments: &'a [Comment],
    indent: usize,
    /// Braces of values that are open.
    lists: Vec<List>,
    /// The end of what was last printed, in the source.
    last_end: usize,
}

/// An open `{` of a list of values.
struct List {
    /// The indent of the line on which it stands.
    indent: usize,
    /// A comment stands in it, so that its elements and its end stand on lines of their own.
    broken: bool,
}

impl<'a> Printer<'a> {
    fn new(text: &'a str, parse: &'a Parse) -> Printer<'a> {
        let mut printer = Printer {
            text,
            tokens: &parse.tokens,
            roles: roles(parse),
            lines: Vec::new(),
            comments: &parse.comments,
            indent: 0,
            lists: Vec::new(),
            last_end: 0,
        };
        printer.join_short_blocks(parse);
        printer
    }

    /// A block inside a block with one clause stays on one line, and so does an empty one.
    fn join_short_blocks(&mut self, parse: &Parse) {
        let blocks = &parse.layout.blocks;
        for (open, close) in blocks {
            let nested = blocks.iter().any(|(o, c)| o < open && close < c);
            let clauses = self.roles.get(open + 1..*close).unwrap_or(&[]);
            let starts = clauses.iter().filter(|r| r.starts).count();
            let most = usize::from(nested);
            let place = |i: usize| self.tokens.get(i).map_or(0, |t| t.span.start);
            let (from, to) = (place(*open), place(*close));
            let commented = self
                .comments
                .iter()
                .any(|c| from < c.span.start && c.span.start < to);
            let blocky = clauses.iter().any(|r| r.opens);
            if starts > most || commented || blocky || self.width_of_block(*open, *close) > WIDTH {
                continue;
            }
            if let Some(role) = self.roles.get_mut(*open) {
                role.opens = false;
            }
            if let Some(role) = self.roles.get_mut(*close) {
                role.closes = false;
            }
            for role in self.roles.get_mut(open + 1..*close).unwrap_or(&mut []) {
                role.starts = false;
            }
        }
    }

    /// How long the line would be on which the block stands.
    fn width_of_block(&self, open: usize, close: usize) -> usize {
        let before = self.roles.get(..open).unwrap_or(&[]);
        let first = before.iter().rposition(|r| r.starts).unwrap_or(0);
        let tokens = self.tokens.get(first..=close).unwrap_or(&[]);
        2 + tokens
            .iter()
            .map(|t| word(self.text, t).chars().count() + 1)
            .sum::<usize>()
    }

    fn print(mut self) -> String {
        let mut before: Option<&Token> = None;
        for i in 0..self.tokens.len() {
            let Some(token) = self.tokens.get(i) else {
                break;
            };
            let role = self.roles.get(i).copied().unwrap_or_default();
            let ends = role.starts
                || role.closes
                || matches!(
                    token.kind,
                    TokenKind::End | TokenKind::Punct(Punct::Semicolon)
                );
            self.comments_before(token.span.start, !ends && i > 0);
            if token.kind == TokenKind::Punct(Punct::Semicolon) {
                continue;
            }
            if token.kind == TokenKind::End {
                break;
            }
            if role.closes {
                self.indent = self.indent.saturating_sub(1);
            }
            let closed = match token.kind {
                TokenKind::Punct(Punct::CloseBrace) if !role.closes => self.lists.pop(),
                _ => None,
            };
            if role.starts || role.closes {
                self.line(self.indent * 2, token.span.start, role);
            } else if let Some(list) = closed.filter(|l| l.broken) {
                self.line(list.indent, token.span.start, role);
            } else if !self.lines.last().is_some_and(|l| l.open) {
                self.line(self.continued(), token.span.start, role);
            } else if before.is_some_and(|b| spaced(self.text, b, token)) {
                let breakable = before.is_some_and(|b| b.kind == TokenKind::Punct(Punct::Comma))
                    || matches!(word(self.text, token), "and" | "or");
                if breakable && self.column() + 1 + self.chunk_width(i) > WIDTH {
                    self.line(self.continued(), self.last_end, Role::default());
                } else {
                    self.push(" ");
                }
            }
            self.push(word(self.text, token));
            if token.kind == TokenKind::Punct(Punct::OpenBrace) && !role.opens {
                self.lists.push(List {
                    indent: self.lines.last().map_or(0, |l| l.indent),
                    broken: false,
                });
            }
            self.last_end = token.span.end;
            if role.opens {
                self.indent += 1;
                if let Some(line) = self.lines.last_mut() {
                    line.role.opens = true;
                }
            }
            before = Some(token);
        }
        self.assemble()
    }

    /// The indent of a line that continues a clause.
    fn continued(&self) -> usize {
        match self.lists.last() {
            Some(list) if list.broken => list.indent + 2,
            _ => self.indent * 2 + 2,
        }
    }

    /// Prints the comments that stand before a byte of the source; `inside` a clause they go with it.
    fn comments_before(&mut self, byte: usize, inside: bool) {
        while let Some((comment, rest)) = self.comments.split_first() {
            if comment.span.start >= byte {
                break;
            }
            self.comments = rest;
            if let Some(list) = self.lists.last_mut() {
                list.broken = true;
            }
            let body = self
                .text
                .get(comment.span.start..comment.span.end)
                .unwrap_or("")
                .trim_end();
            if comment.own_line || !self.lines.last().is_some_and(|l| l.open) {
                let indent = if inside {
                    self.continued()
                } else {
                    self.indent * 2
                };
                self.line(indent, comment.span.start, Role::default());
                if let Some(line) = self.lines.last_mut() {
                    line.comment = true;
                }
            } else {
                self.push(" ");
            }
            self.push(body);
            self.last_end = comment.span.end;
            if let Some(line) = self.lines.last_mut() {
                line.open = false;
            }
        }
    }

    fn line(&mut self, indent: usize, source: usize, role: Role) {
        let between = self.text.get(self.last_end..source).unwrap_or("");
        self.lines.push(Line {
            indent,
            text: String::new(),
            blank_before: between.matches('\n').count() > 1,
            role,
            comment: false,
            open: true,
        });
    }

    fn push(&mut self, text: &str) {
        if let Some(line) = self.lines.last_mut() {
            line.text.push_str(text);
        }
    }

    fn column(&self) -> usize {
        self.lines
            .last()
            .map_or(0, |l| l.indent + l.text.chars().count())
    }

    /// How wide the text from this token to the next place where a line may break is. What stands in
    /// parentheses or braces is broken only if it must be.
    fn chunk_width(&self, from: usize) -> usize {
        let mut width = 0;
        let mut depth = 0usize;
        let mut before: Option<&Token> = None;
        for (token, role) in self.tokens.iter().zip(&self.roles).skip(from) {
            if let Some(before) = before {
                let breaks = before.kind == TokenKind::Punct(Punct::Comma)
                    || matches!(word(self.text, token), "and" | "or");
                let end = role.starts || role.closes || token.kind == TokenKind::End;
                if end || (breaks && depth == 0) {
                    break;
                }
                width += usize::from(spaced(self.text, before, token));
            }
            match token.kind {
                TokenKind::Punct(Punct::OpenBrace | Punct::OpenParen) => depth += 1,
                TokenKind::Punct(Punct::CloseBrace | Punct::CloseParen) => {
                    depth = depth.saturating_sub(1);
                }
                _ => {}
            }
            width += word(self.text, token).chars().count();
            before = Some(token);
        }
        width
    }

    /// Joins the lines. Items are set apart by a blank line, except lists of one-line items; other
    /// blank lines stay, one at a time, but not at the edges of a block.
    fn assemble(self) -> String {
        let mut blanks: Vec<bool> = Vec::with_capacity(self.lines.len());
        let mut before: Option<&Line> = None;
        let mut last_item: Option<(usize, &str)> = None;
        for (i, line) in self.lines.iter().enumerate() {
            let edge = before.is_none_or(|b| b.role.opens) || line.role.closes;
            blanks.push(line.blank_before && !edge);
            if line.role.item {
                let keyword = line.text.split(' ').next().unwrap_or("");
                let together = last_item.is_some_and(|(at, k)| at + 1 == i && k == keyword);
                if last_item.is_some() && !together {
                    // Comments that stand right above the item go with it.
                    let comments = self.lines.get(..i).unwrap_or(&[]).iter().rev();
                    let mut first = i;
                    for above in comments.take_while(|l| l.comment && l.indent == 0) {
                        if blanks.get(first).copied().unwrap_or(false) {
                            break;
                        }
                        let _ = above;
                        first -= 1;
                    }
                    if let Some(blank) = blanks.get_mut(first) {
                        *blank = true;
                    }
                }
                last_item = Some((i, keyword));
            }
            before = Some(line);
        }
        let mut out = String::new();
        for (line, blank) in self.lines.iter().zip(blanks) {
            if blank && !out.is_empty() {
                out.push('\n');
            }
            for _ in 0..line.indent {
                out.push(' ');
            }
            out.push_str(&line.text);
            out.push('\n');
        }
        out
    }
}

fn roles(parse: &Parse) -> Vec<Role> {
    let mut roles = vec![Role::default(); parse.tokens.len()];
    let mut set = |i: usize, change: fn(&mut Role)| roles.get_mut(i).map_or((), change);
    parse
        .layout
        .starts
        .iter()
        .for_each(|i| set(*i, |r| r.starts = true));
    parse
        .layout
        .items
        .iter()
        .for_each(|i| set(*i, |r| r.item = true));
    for (open, close) in &parse.layout.blocks {
        set(*open, |r| r.opens = true);
        set(*close, |r| r.closes = true);
    }
    roles
}
