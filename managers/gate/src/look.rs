//! A look at the client's first data before the server is touched: the name in a TLS ClientHello, the host of
//! an HTTP request, a pattern of bytes. Pure: takes the first bytes of a stream, as many as are there, and
//! says whether they will do, will not, or do not tell yet.

mod http;
mod tls;

use signalbox_lower::plan::{HostPattern, LookPlan};

/// What the first bytes of a stream say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// More are needed.
    More,
    /// They are what the policy wants.
    Good,
    /// They are not, whatever comes.
    Bad,
}

/// What was found of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name<'a> {
    /// Not all of it is there.
    More,
    /// This is it.
    Is(&'a [u8]),
    /// There is none, or the bytes are something else.
    None,
}

/// Bytes that are looked at, at most: a longer ClientHello or head of a request is bad.
pub const MOST: usize = 16 * 1024;

/// What a stream's beginning is by these clauses, of which one is enough; without a clause it is good.
#[must_use]
pub fn look(clauses: &[LookPlan], stream: &[u8]) -> Seen {
    if clauses.is_empty() {
        return Seen::Good;
    }
    let mut seen = Seen::Bad;
    for clause in clauses {
        let of_name = |name: Name<'_>, patterns: &[HostPattern]| match name {
            Name::More => Seen::More,
            Name::Is(name) if patterns.iter().any(|p| fits(p, name)) => Seen::Good,
            Name::Is(_) | Name::None => Seen::Bad,
        };
        match match clause {
            LookPlan::TlsName(patterns) => {
                let mut hello = Vec::new();
                of_name(tls::name(stream, &mut hello), patterns)
            }
            LookPlan::HttpHost(patterns) => of_name(http::host(stream), patterns),
            LookPlan::Bytes {
                offset,
                value,
                mask,
            } => bytes(stream, usize::from(*offset), value, mask),
        } {
            Seen::Good => return Seen::Good,
            Seen::More => seen = Seen::More,
            Seen::Bad => {}
        }
    }
    if seen == Seen::More && stream.len() >= MOST {
        return Seen::Bad;
    }
    seen
}

fn bytes(stream: &[u8], offset: usize, value: &[u8], mask: &[u8]) -> Seen {
    let there = stream.get(offset..).unwrap_or_default();
    let differs = there
        .iter()
        .zip(value)
        .zip(mask)
        .any(|((b, v), m)| b & m != *v);
    if differs {
        Seen::Bad
    } else if there.len() < value.len() {
        Seen::More
    } else {
        Seen::Good
    }
}

/// Names are compared without regard to case (RFC 4343), and one dot at the end does not count.
fn fits(pattern: &HostPattern, name: &[u8]) -> bool {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let name = if pattern.below {
        match name.iter().position(|b| *b == b'.') {
            Some(dot) if dot > 0 => name.get(dot + 1..).unwrap_or_default(),
            _ => return false,
        }
    } else {
        name
    };
    name.eq_ignore_ascii_case(pattern.name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn pattern(text: &str) -> HostPattern {
        let below = text.strip_prefix("*.");
        HostPattern {
            name: below.unwrap_or(text).into(),
            below: below.is_some(),
        }
    }

    #[test]
    fn a_pattern_fits_its_name_or_exactly_one_label_more() {
        let fits = |p: &str, name: &str| fits(&pattern(p), name.as_bytes());
        assert!(fits("example.org", "Example.ORG") && fits("example.org", "example.org."));
        assert!(!fits("example.org", "www.example.org"));
        assert!(fits("*.example.org", "www.example.org"));
        for no in [
            "example.org",
            "a.b.example.org",
            ".example.org",
            "wwwexample.org",
            "",
        ] {
            assert!(!fits("*.example.org", no), "{no}");
        }
    }

    #[test]
    fn a_pattern_of_bytes_is_known_as_soon_as_one_differs() {
        let ssh = [LookPlan::Bytes {
            offset: 2,
            value: b"SSH\0-".to_vec(),
            mask: vec![255, 255, 255, 0, 255],
        }];
        for (stream, seen) in [
            (&b""[..], Seen::More),
            (b"xxSS", Seen::More),
            (b"xxST", Seen::Bad),
            (b"xxSSHx-", Seen::Good),
            (b"xxSSHx- and more", Seen::Good),
            (b"xxSSHxx", Seen::Bad),
        ] {
            assert_eq!(look(&ssh, stream), seen, "{stream:?}");
        }
    }

    #[test]
    fn one_clause_is_enough_and_none_is_good_at_once() {
        let clauses = [
            LookPlan::HttpHost(vec![pattern("example.org")]),
            LookPlan::Bytes {
                offset: 0,
                value: b"SSH-".to_vec(),
                mask: vec![255; 4],
            },
        ];
        assert_eq!(look(&[], b""), Seen::Good);
        assert_eq!(look(&clauses, b"SS"), Seen::More);
        assert_eq!(look(&clauses, b"SSH-2.0"), Seen::Good);
        assert_eq!(
            look(&clauses, b"GET / HTTP/1.1\r\nHost: example.org\r\n"),
            Seen::Good
        );
        assert_eq!(
            look(&clauses, b"GET / HTTP/1.1\r\nHost: example.com\r\n"),
            Seen::Bad
        );
        let endless = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; MOST]].concat();
        assert_eq!(look(&clauses, &endless), Seen::Bad, "patience ends");
    }
}
