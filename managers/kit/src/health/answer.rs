//! HTTP answers, as far as a check reads them: the status, and of a load report the number its body begins with.
//!
//! A function of the bytes that have come so far; nothing is kept beyond [`room`].

use signalbox_lower::plan::CheckKind;

/// What an answer says so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Not enough of it is there.
    More,
    /// The server is well; with a load report, its load in percent.
    Good(Option<u8>),
    /// An error, or nothing that a check understands.
    Bad,
}

/// Longest start of an answer that is kept, in bytes.
pub(super) fn room(kind: &CheckKind) -> usize {
    match kind {
        CheckKind::Tcp => 0,
        CheckKind::Http { .. } => 64,
        CheckKind::Load { .. } => 4096,
    }
}

/// Reads what is there of an answer; `ended` when no more will come.
pub(super) fn read(kind: &CheckKind, answer: &[u8], ended: bool) -> Answer {
    let ended = ended || answer.len() >= room(kind);
    let said = match (status(answer), kind) {
        (None, _) => Answer::More,
        (Some(code), CheckKind::Load { .. }) if (200..400).contains(&code) => load(answer, ended),
        (Some(_), CheckKind::Load { .. }) => Answer::Bad,
        (Some(code), _) if (100..400).contains(&code) => Answer::Good(None),
        (Some(_), _) => Answer::Bad,
    };
    if said == Answer::More && ended {
        return Answer::Bad;
    }
    said
}

/// The status code of `HTTP/x.y NNN`, once enough of the line is there (RFC 9112, section 4).
fn status(answer: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(answer.get(..12)?).ok()?;
    let (version, code) = text.split_once(' ')?;
    version.starts_with("HTTP/").then_some(())?;
    code.parse().ok()
}

/// The whole number from 0 to 100 that the body begins with. It counts once it is certain that no digit
/// follows: by another byte, by Content-Length, or by the end.
fn load(answer: &[u8], ended: bool) -> Answer {
    let Some((head, body)) = split(answer) else {
        return Answer::More;
    };
    let mut length = None;
    for line in head.split(|b| *b == b'\n') {
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            // A chunk's size would look like a load; RFC 9112, section 6.1, forbids it towards HTTP/1.0.
            return Answer::Bad;
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let value = std::str::from_utf8(value.get(1..).unwrap_or_default());
            match value.map(|v| v.trim().parse::<usize>()) {
                Ok(Ok(n)) => length = Some(n),
                _ => return Answer::Bad,
            }
        }
    }
    let whole = ended || length.is_some_and(|n| body.len() >= n);
    let body = body
        .get(..length.unwrap_or(usize::MAX).min(body.len()))
        .unwrap_or_default();
    let digits = body.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits > 3 {
        return Answer::Bad;
    }
    if digits == body.len() && !whole {
        return Answer::More;
    }
    let percent = (body.get(..digits))
        .and_then(|d| std::str::from_utf8(d).ok())
        .and_then(|d| d.parse::<u16>().ok())
        .and_then(|n| u8::try_from(n).ok())
        .filter(|n| *n <= 100);
    percent.map_or(Answer::Bad, |n| Answer::Good(Some(n)))
}

/// Header lines and body. A lone LF ends a line, too (RFC 9112, section 2.2).
fn split(answer: &[u8]) -> Option<(&[u8], &[u8])> {
    for at in 0..answer.len() {
        for end in [&b"\r\n\r\n"[..], b"\n\n"] {
            if let Some(body) = answer.get(at..).and_then(|rest| rest.strip_prefix(end)) {
                return Some((answer.get(..at)?, body));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(answer: &str, ended: bool) -> Answer {
        let path = "/load".to_owned();
        read(&CheckKind::Load { path }, answer.as_bytes(), ended)
    }

    #[test]
    fn a6_12_a_load_is_a_whole_number_from_0_to_100_at_the_start_of_the_body() {
        for (body, says) in [
            ("0", Answer::Good(Some(0))),
            ("100", Answer::Good(Some(100))),
            ("42\r\n", Answer::Good(Some(42))),
            ("7%", Answer::Good(Some(7))),
            ("35.9 of 100", Answer::Good(Some(35))),
            ("101", Answer::Bad),
            ("1000", Answer::Bad),
            ("99999999999999999999", Answer::Bad),
            ("-1", Answer::Bad),
            (" 5", Answer::Bad),
            ("", Answer::Bad),
            ("busy", Answer::Bad),
            ("{\"load\": 5}", Answer::Bad),
        ] {
            for head in [
                "HTTP/1.0 200 OK\r\nServer: x\r\n\r\n",
                "HTTP/1.1 200 OK\n\n",
                &format!(
                    "HTTP/1.1 200 OK\r\ncontent-LENGTH:  {} \r\n\r\n",
                    body.len()
                ),
            ] {
                assert_eq!(said(&format!("{head}{body}"), true), says, "{head}{body}");
            }
        }
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n42\r\n0\r\n\r\n";
        assert_eq!(said(answer, true), Answer::Bad, "a chunk's size is no load");
        for status in ["404 Not Found", "503 Busy", "100 Continue"] {
            assert_eq!(
                said(&format!("HTTP/1.1 {status}\r\n\r\n5"), true),
                Answer::Bad
            );
        }
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n5";
        assert_eq!(said(answer, true), Answer::Bad);
    }

    #[test]
    fn a_number_counts_only_when_no_digit_can_follow() {
        let head = "HTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(said(&format!("{head}5"), false), Answer::More);
        assert_eq!(said(&format!("{head}5\n"), false), Answer::Good(Some(5)));
        let known = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n5";
        assert_eq!(said(known, false), Answer::More);
        assert_eq!(said(&format!("{known}0"), false), Answer::Good(Some(50)));
        for n in 0..head.len() {
            let part = head.get(..n).unwrap();
            assert_eq!(said(part, false), Answer::More, "{n}");
        }
        // Headers without an end are not gathered for ever.
        let endless = format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(1000));
        assert_eq!(said(&endless, false), Answer::Bad);
    }
}
