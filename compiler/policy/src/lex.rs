//! Text to tokens, with every comment kept: the first step of reading a policy.
//!
//! Addresses, prefixes, endpoints, durations and numbers are single tokens, so that the parser never
//! looks at characters. Lexing never fails: what makes no sense becomes a [`TokenKind::Bad`] token
//! that says why.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while1};
use nom::character::complete::{char, satisfy};
use nom::combinator::{opt, recognize, value};
use nom::multi::many0_count;
use nom::sequence::{delimited, pair, preceded};
use nom::{IResult, Parser};

use crate::model::{Mac, Span};

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it stands, in bytes.
    pub span: Span,
    /// Whether it is the first token of its line.
    pub first_on_line: bool,
}

/// A comment, from `#` to the end of its line.
#[derive(Clone, Debug, PartialEq)]
pub struct Comment {
    /// Where it stands, without the line break.
    pub span: Span,
    /// Whether nothing but blanks stands before it on its line.
    pub own_line: bool,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenKind {
    /// A keyword, a name or a field such as `ip.src`.
    Word,
    /// `@name`.
    At,
    /// A whole number.
    Number(u64),
    /// A number with `ms`, `s`, `m` or `h`, or several: `2h4m`.
    Duration(Duration),
    /// A number a second: `1000/s`.
    Rate(u64),
    /// A time of day such as `08:00`, in seconds; 24:00 is the day's end.
    Clock(u32),
    /// An address.
    Address(IpAddr),
    /// `ADDRESS/LENGTH`, host bits kept.
    Prefix(IpAddr, u8),
    /// `ADDRESS:PORT`, IPv6 as `[ADDRESS]:PORT`.
    Endpoint(IpAddr, u16),
    /// An Ethernet address.
    Mac(Mac),
    /// A string in double quotes, without them.
    Text(String),
    /// Punctuation.
    Punct(Punct),
    /// Nothing that can be used, and why.
    Bad(String),
    /// The end of the text.
    End,
}

/// Punctuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is its own text, see `Punct::text`")]
pub enum Punct {
    OpenBrace,
    CloseBrace,
    OpenParen,
    CloseParen,
    Comma,
    Semicolon,
    Colon,
    Assign,
    Equal,
    NotEqual,
    Greater,
    Arrow,
    Range,
    Slash,
    Plus,
}

const PUNCTS: [(&str, Punct); 15] = [
    ("->", Punct::Arrow),
    ("..", Punct::Range),
    ("==", Punct::Equal),
    ("!=", Punct::NotEqual),
    ("{", Punct::OpenBrace),
    ("}", Punct::CloseBrace),
    ("(", Punct::OpenParen),
    (")", Punct::CloseParen),
    (",", Punct::Comma),
    (";", Punct::Semicolon),
    (":", Punct::Colon),
    ("=", Punct::Assign),
    (">", Punct::Greater),
    ("/", Punct::Slash),
    ("+", Punct::Plus),
];

impl Punct {
    /// How it is written.
    pub fn text(self) -> &'static str {
        PUNCTS
            .iter()
            .find(|(_, p)| *p == self)
            .map_or("", |(t, _)| t)
    }
}

/// All tokens of a text, the last one [`TokenKind::End`], and all its comments, in order.
pub fn tokens(text: &str) -> (Vec<Token>, Vec<Comment>) {
    let mut out = Vec::new();
    let mut comments = Vec::new();
    let mut rest = text;
    let mut first_on_line = true;
    while let Some(c) = rest.chars().next() {
        let start = text.len() - rest.len();
        let span = |left: &str| Span {
            start,
            end: text.len() - left.len(),
        };
        if c == '\n' {
            first_on_line = true;
            rest = skip(rest, 1);
        } else if c.is_whitespace() || c == '\u{feff}' {
            rest = skip(rest, c.len_utf8());
        } else if let Ok((left, _)) = comment(rest) {
            comments.push(Comment {
                span: span(left),
                own_line: first_on_line,
            });
            rest = left;
        } else {
            let (left, kind) = match token(rest) {
                Ok((left, kind)) if left.len() < rest.len() => (left, kind),
                _ => {
                    let reason = format!("`{c}` means nothing here");
                    (skip(rest, c.len_utf8()), TokenKind::Bad(reason))
                }
            };
            out.push(Token {
                kind,
                span: span(left),
                first_on_line,
            });
            first_on_line = false;
            rest = left;
        }
    }
    let end = Span {
        start: text.len(),
        end: text.len(),
    };
    out.push(Token {
        kind: TokenKind::End,
        span: end,
        first_on_line: true,
    });
    (out, comments)
}

fn skip(text: &str, bytes: usize) -> &str {
    text.get(bytes..).unwrap_or("")
}

fn comment(i: &str) -> IResult<&str, &str> {
    recognize(pair(char('#'), take_while(|c| c != '\n' && c != '\r'))).parse(i)
}

fn token(i: &str) -> IResult<&str, TokenKind> {
    alt((
        text_literal,
        at_name,
        bracketed,
        literal,
        name,
        punct,
        bad_number,
    ))
    .parse(i)
}

fn punct(i: &str) -> IResult<&str, TokenKind> {
    for (text, punct) in PUNCTS {
        let found: IResult<&str, Punct> = value(punct, tag(text)).parse(i);
        if let Ok((left, p)) = found {
            return Ok((left, TokenKind::Punct(p)));
        }
    }
    Err(nom::Err::Error(nom::error::Error::new(
        i,
        nom::error::ErrorKind::Alt,
    )))
}

fn text_literal(i: &str) -> IResult<&str, TokenKind> {
    let (left, _) = char('"')(i)?;
    let (left, body) = take_while(|c| c != '"' && c != '\n')(left)?;
    let (left, close) = opt(char('"')).parse(left)?;
    let kind = match close {
        Some(_) => TokenKind::Text(body.to_owned()),
        None => TokenKind::Bad("this text has no closing `\"` on its line".to_owned()),
    };
    Ok((left, kind))
}

/// A name: a letter, then letters, digits, `_`, and single `-` or `.` between those.
fn name_text(i: &str) -> IResult<&str, &str> {
    let part = || take_while1(|c: char| c.is_ascii_alphanumeric() || c == '_');
    recognize((
        satisfy(|c| c.is_ascii_alphabetic() || c == '_'),
        take_while(|c: char| c.is_ascii_alphanumeric() || c == '_'),
        many0_count(pair(satisfy(|c| c == '-' || c == '.'), part())),
    ))
    .parse(i)
}

fn name(i: &str) -> IResult<&str, TokenKind> {
    value(TokenKind::Word, name_text).parse(i)
}

fn at_name(i: &str) -> IResult<&str, TokenKind> {
    value(TokenKind::At, preceded(char('@'), name_text)).parse(i)
}

/// `[2001:db8::1]:80`, or an address in brackets alone.
fn bracketed(i: &str) -> IResult<&str, TokenKind> {
    let inside = take_while1(|c: char| c.is_ascii_hexdigit() || c == ':' || c == '.');
    let (left, inner) = delimited(char('['), inside, char(']')).parse(i)?;
    let (left, port) = opt(preceded(
        char(':'),
        take_while1(|c: char| c.is_ascii_digit()),
    ))
    .parse(left)?;
    let kind = match (inner.parse::<Ipv6Addr>(), port) {
        (Err(_), _) => TokenKind::Bad(format!("`{inner}` is not an IPv6 address")),
        (Ok(a), None) => TokenKind::Address(IpAddr::V6(a)),
        (Ok(a), Some(port)) => endpoint(IpAddr::V6(a), port),
    };
    Ok((left, kind))
}

fn endpoint(address: IpAddr, port: &str) -> TokenKind {
    match port.parse::<u16>() {
        Ok(port) => TokenKind::Endpoint(address, port),
        Err(_) => TokenKind::Bad(format!("`{port}` is not a port: ports are 0 to 65535")),
    }
}

/// A run of characters that literals are made of; `..` ends it.
fn run(i: &str) -> (&str, &str) {
    let mut end = 0;
    let mut before = ' ';
    for (at, c) in i.char_indices() {
        let fits = c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '/' | '_');
        if !fits || (c == '.' && before == '.') {
            break;
        }
        before = c;
        end = at + 1;
    }
    let mut run = i.get(..end).unwrap_or("");
    // `..` and a lone `:` or `.` at the end belong to what follows, `::` to the address.
    while run.ends_with('.') || run.ends_with('/') || (run.ends_with(':') && !run.ends_with("::")) {
        run = run.get(..run.len() - 1).unwrap_or("");
    }
    (run, skip(i, run.len()))
}

/// An address, prefix, endpoint, Ethernet address, duration, time of day or number, as long as can be.
fn literal(i: &str) -> IResult<&str, TokenKind> {
    let (run, left) = run(i);
    match classify(run) {
        Some(kind) => Ok((left, kind)),
        None => Err(nom::Err::Error(nom::error::Error::new(
            i,
            nom::error::ErrorKind::Digit,
        ))),
    }
}

fn classify(run: &str) -> Option<TokenKind> {
    if let Ok(n) = run.parse::<u64>() {
        return Some(TokenKind::Number(n));
    }
    if let Ok(address) = run.parse::<IpAddr>() {
        return Some(TokenKind::Address(address));
    }
    if let Some(mac) = mac(run) {
        return Some(TokenKind::Mac(mac));
    }
    if let Some(rate) = rate(run) {
        return Some(rate);
    }
    if let Some(clock) = clock(run) {
        return Some(clock);
    }
    if let Some((address, length)) = run.split_once('/') {
        let address = address.parse::<IpAddr>().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        return Some(match length.parse::<u8>() {
            Ok(length) if length <= most => TokenKind::Prefix(address, length),
            _ => TokenKind::Bad(format!(
                "`/{length}` is not a prefix length: 0 to {most} here"
            )),
        });
    }
    if let Some((address, port)) = run.split_once(':')
        && let Ok(address) = address.parse::<Ipv4Addr>()
    {
        return Some(endpoint(IpAddr::V4(address), port));
    }
    duration(run)
}

fn mac(run: &str) -> Option<Mac> {
    let mut bytes = [0u8; 6];
    let mut parts = run.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|p| p.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(Mac(bytes))
}

/// `08:00`.
fn clock(run: &str) -> Option<TokenKind> {
    let two = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    let (hours, minutes) = run.split_once(':')?;
    if !two(hours) || !two(minutes) {
        return None;
    }
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = hours * 3_600 + minutes * 60;
    Some(if minutes < 60 && seconds <= 86_400 {
        TokenKind::Clock(seconds)
    } else {
        TokenKind::Bad(format!("`{run}` is not a time of day: 00:00 to 24:00"))
    })
}

/// `1000/s`.
fn rate(run: &str) -> Option<TokenKind> {
    let (number, unit) = run.split_once('/')?;
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if !unit.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    Some(match (number.parse(), unit) {
        (Ok(n), "s") => TokenKind::Rate(n),
        (Err(_), "s") => TokenKind::Bad(format!("`{number}` is too big a number")),
        _ => TokenKind::Bad(format!(
            "`{run}` is not a rate: write a number a second, `{number}/s`"
        )),
    })
}

/// `2s`, or several with units that get smaller: `2h4m`.
fn duration(run: &str) -> Option<TokenKind> {
    if run.is_empty() {
        return None;
    }
    let mut total = Some(0u64);
    let mut left = run;
    let mut before = u64::MAX;
    while !left.is_empty() {
        let after = left.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = left.get(..left.len() - after.len())?;
        let rest = after.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let unit: u64 = match after.get(..after.len() - rest.len())? {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        if digits.is_empty() || unit >= before {
            return None;
        }
        let part = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
        total = total
            .zip(part)
            .and_then(|(sum, part)| sum.checked_add(part));
        (left, before) = (rest, unit);
    }
    Some(match total {
        Some(ms) => TokenKind::Duration(Duration::from_millis(ms)),
        None => TokenKind::Bad(format!("`{run}` is too long a time")),
    })
}

/// What begins like a literal and is none.
fn bad_number(i: &str) -> IResult<&str, TokenKind> {
    let (run, left) = run(i);
    if run.is_empty() {
        return Err(nom::Err::Error(nom::error::Error::new(
            i,
            nom::error::ErrorKind::Digit,
        )));
    }
    let reason = if run.bytes().all(|b| b.is_ascii_digit()) {
        format!("`{run}` is too big a number")
    } else if run.contains('/') {
        format!("`{run}` is not a prefix: write ADDRESS/LENGTH, such as 10.0.0.0/8")
    } else if run.contains('.') || run.contains(':') {
        format!("`{run}` is not an address")
    } else {
        format!("`{run}` is neither a number nor a time (`ms`, `s`, `m`, `h`)")
    };
    Ok((left, TokenKind::Bad(reason)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<TokenKind> {
        let (mut tokens, _) = tokens(text);
        tokens.pop();
        tokens.into_iter().map(|t| t.kind).collect()
    }

    fn v4(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn literals_are_single_tokens() {
        use TokenKind::*;
        assert_eq!(kinds("10.0.0.1"), [Address(v4("10.0.0.1"))]);
        assert_eq!(kinds("10.0.0.1/24"), [Prefix(v4("10.0.0.1"), 24)]);
        assert_eq!(kinds("10.0.0.1:80"), [Endpoint(v4("10.0.0.1"), 80)]);
        assert_eq!(kinds("[2001:db8::1]:80"), [Endpoint(v4("2001:db8::1"), 80)]);
        assert_eq!(kinds("2001:db8::/32"), [Prefix(v4("2001:db8::"), 32)]);
        assert_eq!(kinds("fe80::"), [Address(v4("fe80::"))]);
        assert_eq!(
            kinds("02:00:00:00:00:0a"),
            [Mac(super::Mac([2, 0, 0, 0, 0, 10]))]
        );
        assert_eq!(kinds("5m"), [Duration(std::time::Duration::from_secs(300))]);
        assert_eq!(kinds("web-lb ip.src @blocked"), [Word, Word, At]);
        assert_eq!(
            kinds("2h4m"),
            [Duration(std::time::Duration::from_secs(7_440))]
        );
        for bad in ["4m2h", "5m5m", "2hm", "99999999999999999h1s"] {
            assert!(matches!(kinds(bad)[..], [Bad(_)]), "{bad}");
        }
        assert_eq!(kinds("1000/s 64"), [Rate(1000), Number(64)]);
        assert_eq!(kinds("08:30 24:00"), [Clock(30_600), Clock(86_400)]);
        assert_eq!(kinds("mon..fri").len(), 3);
        for bad in ["24:01", "12:60", "8:00", "99:00"] {
            assert!(matches!(kinds(bad)[..], [Bad(_)]), "{bad}");
        }
        assert!(matches!(kinds("1000/m")[..], [Bad(_)]));
        assert!(matches!(kinds("1000/24")[..], [Bad(_)]));
    }

    #[test]
    fn ranges_and_colons_end_a_literal() {
        use TokenKind::*;
        let range = Punct(super::Punct::Range);
        assert_eq!(
            kinds("1024..65535"),
            [Number(1024), range.clone(), Number(65535)]
        );
        assert_eq!(
            kinds("10.0.0.1..10.0.0.3"),
            [Address(v4("10.0.0.1")), range, Address(v4("10.0.0.3"))]
        );
        assert_eq!(kinds("a: b"), [Word, Punct(super::Punct::Colon), Word]);
        assert_eq!(kinds("a->b"), [Word, Punct(super::Punct::Arrow), Word]);
        let slash = Punct(super::Punct::Slash);
        assert_eq!(
            kinds("syn/syn+ack"),
            [Word, slash, Word, Punct(super::Punct::Plus), Word]
        );
    }

    #[test]
    fn what_is_nothing_says_why() {
        let why = |text| match kinds(text).as_slice() {
            [TokenKind::Bad(why)] => why.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(why("10.0.0.300"), "`10.0.0.300` is not an address");
        assert_eq!(
            why("10.0.0.1:70000"),
            "`70000` is not a port: ports are 0 to 65535"
        );
        assert_eq!(
            why("10.0.0.0/33"),
            "`/33` is not a prefix length: 0 to 32 here"
        );
        assert_eq!(
            why("99999999999999999999"),
            "`99999999999999999999` is too big a number"
        );
        assert_eq!(
            why("5d"),
            "`5d` is neither a number nor a time (`ms`, `s`, `m`, `h`)"
        );
        assert_eq!(why("\"open"), "this text has no closing `\"` on its line");
        assert_eq!(why("€"), "`€` means nothing here");
    }

    #[test]
    fn comments_are_kept_with_their_place() {
        let (_, comments) = tokens("# one\nset a = {} # two\n");
        let own: Vec<bool> = comments.iter().map(|c| c.own_line).collect();
        assert_eq!(own, [true, false]);
    }
}
