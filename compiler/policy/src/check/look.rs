//! What a gate's clients must say first: names of hosts, or bytes.

use std::net::IpAddr;

use super::Checker;
use crate::diagnostic::Diagnostic;
use crate::model::{HostPattern, Look};
use crate::tree::{LookClause, Spanned};

/// The last place at which bytes may begin: a connection is kept that far before it is looked at.
const MOST_OFFSET: u16 = 4_032;
/// Bytes that are compared at most.
const MOST_BYTES: usize = 64;
/// The longest name of a host, and the longest label of one (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;
/// Names of one clause.
const MOST_NAMES: usize = 1_000;

impl Checker<'_> {
    pub(super) fn look(&mut self, clause: &LookClause) -> Option<Look> {
        if clause.what.value == "bytes" {
            return self.bytes(clause);
        }
        if let Some(extra) = clause.values.get(MOST_NAMES) {
            self.report(
                Diagnostic::error("too-many-entries", extra.span, "these are too many names")
                    .label(format!("expected at most {MOST_NAMES}"))
                    .help("write `*.` before a name that others are below"),
            );
            return None;
        }
        let mut patterns: Vec<HostPattern> = Vec::new();
        for value in &clause.values {
            let Some(pattern) = self.pattern(&clause.what.value, value) else {
                continue;
            };
            if patterns.contains(&pattern) {
                self.report(
                    Diagnostic::warning("redundant", value.span, "this name is there twice")
                        .help("leave it out"),
                );
            } else {
                patterns.push(pattern);
            }
        }
        Some(match clause.what.value.as_str() {
            "tls.name" => Look::TlsName(patterns),
            _ => Look::HttpHost(patterns),
        })
    }

    /// A host's name, or `*.` and one.
    fn pattern(&mut self, what: &str, text: &Spanned<String>) -> Option<HostPattern> {
        let lower = text.value.to_ascii_lowercase();
        let whole = lower.strip_suffix('.').unwrap_or(&lower);
        let (below, name) = match whole.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, whole),
        };
        let fits = |label: &str| {
            (1..=LONGEST_LABEL).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        let bad = |why: &str| {
            Diagnostic::error(
                "bad-host",
                text.span,
                format!("`{}` is not a host's name", text.value),
            )
            .label(why.to_owned())
        };
        let address = name.parse::<IpAddr>().is_ok();
        let d = if address && what == "tls.name" {
            bad("TLS clients name hosts, and no addresses")
                .note("RFC 6066, section 3")
                .help("match by `ip.dst`, or leave it out")
        } else if address && !below {
            return Some(HostPattern {
                name: name.to_owned(),
                below,
            });
        } else if let Some((host, port)) = name.rsplit_once(':')
            && port.bytes().all(|b| b.is_ascii_digit())
        {
            bad("expected a name without a port").help(format!("write `\"{host}\"`"))
        } else if name.contains('*') {
            bad("`*` stands for one label, the first one")
                .help("write `\"*.example.org\"` for the hosts right below a name")
        } else if name.is_empty() || name.len() > LONGEST_NAME || !name.split('.').all(fits) {
            bad("a name has labels of letters, digits and `-`, with `.` between them")
                .help("international names are written as `xn--…`")
        } else {
            return Some(HostPattern {
                name: name.to_owned(),
                below,
            });
        };
        self.report(d);
        None
    }

    fn bytes(&mut self, clause: &LookClause) -> Option<Look> {
        let text = clause.values.first()?;
        let mut value = self.unescaped(text)?;
        if !(1..=MOST_BYTES).contains(&value.len()) {
            self.report(
                Diagnostic::error(
                    "out-of-range",
                    text.span,
                    format!("these are {} bytes", value.len()),
                )
                .label(format!("expected 1 to {MOST_BYTES}")),
            );
            return None;
        }
        let mask = match &clause.mask {
            None => vec![0xff; value.len()],
            Some(text) => {
                let mask = self.unescaped(text)?;
                if mask.len() != value.len() {
                    self.report(
                        Diagnostic::error(
                            "bad-mask",
                            text.span,
                            format!("the mask has {} bytes, and the value {}", mask.len(), value.len()),
                        )
                        .help("write `\\xff` for each byte that counts, `\\x00` for one that does not"),
                    );
                    return None;
                }
                mask
            }
        };
        if mask.iter().all(|m| *m == 0) {
            let span = clause.mask.as_ref().map_or(text.span, |m| m.span);
            self.report(
                Diagnostic::error("bad-mask", span, "no bit of the value counts")
                    .help("leave the clause out: then the data are not looked at"),
            );
            return None;
        }
        value.iter_mut().zip(&mask).for_each(|(v, m)| *v &= m);
        let offset = match &clause.at {
            None => 0,
            Some(at) => match u16::try_from(at.value) {
                Ok(offset) if offset <= MOST_OFFSET => offset,
                _ => {
                    self.report(
                        Diagnostic::error(
                            "out-of-range",
                            at.span,
                            format!("`{}` is out of range", at.value),
                        )
                        .label(format!("expected 0 to {MOST_OFFSET}")),
                    );
                    return None;
                }
            },
        };
        Some(Look::Bytes {
            offset,
            value,
            mask,
        })
    }

    /// The bytes of a text, with `\xNN`, `\r`, `\n`, `\t` and `\\` for those that cannot be written.
    fn unescaped(&mut self, text: &Spanned<String>) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut rest = text.value.bytes();
        while let Some(byte) = rest.next() {
            if byte != b'\\' {
                out.push(byte);
                continue;
            }
            let hex = |b: Option<u8>| char::from(b?).to_digit(16);
            let read = match rest.next() {
                Some(b'\\') => Some(b'\\'),
                Some(b'r') => Some(b'\r'),
                Some(b'n') => Some(b'\n'),
                Some(b't') => Some(b'\t'),
                Some(b'x') => hex(rest.next())
                    .zip(hex(rest.next()))
                    .and_then(|(high, low)| u8::try_from(high << 4 | low).ok()),
                _ => None,
            };
            match read {
                Some(byte) => out.push(byte),
                None => {
                    self.report(
                        Diagnostic::error("bad-escape", text.span, "`\\` means nothing here")
                            .help("write `\\xNN` for a byte in hexadecimal, `\\r`, `\\n`, `\\t`, or `\\\\`"),
                    );
                    return None;
                }
            }
        }
        Some(out)
    }
}
