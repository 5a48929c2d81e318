//! The host that an HTTP/1 request names (RFC 9112, section 3.2). It reads no more of a request than that.

use super::Name;

/// The longest method and target that are waited for.
const LINE: usize = 8 * 1024;

/// The value of the only `Host` field, without a port. Only once the head of the request is whole is it
/// known that there is no second one, but what follows a good first one is the server's business.
pub fn host(stream: &[u8]) -> Name<'_> {
    let Some((request, mut rest)) = line(stream) else {
        // A method is a token (RFC 9110, section 9.1): anything else is no HTTP.
        let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
        let method = stream.iter().take_while(|b| token(b)).count();
        let may_be = method == stream.len() || (method > 0 && stream.get(method) == Some(&b' '));
        return if may_be && method <= 32 && stream.len() <= LINE {
            Name::More
        } else {
            Name::None
        };
    };
    let mut words = request.split(|b| *b == b' ');
    let is_http = words.next().is_some_and(|m| !m.is_empty())
        && words.next().is_some_and(|t| !t.is_empty())
        && words.next().is_some_and(|v| v.starts_with(b"HTTP/1."))
        && words.next().is_none();
    if !is_http {
        return Name::None;
    }
    loop {
        let Some((field, after)) = line(rest) else {
            return Name::More;
        };
        rest = after;
        if field.is_empty() {
            return Name::None;
        }
        let Some(colon) = field.iter().position(|b| *b == b':') else {
            return Name::None;
        };
        let (name, value) = field.split_at(colon);
        if name.eq_ignore_ascii_case(b"host") {
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            return Name::Is(without_port(value));
        }
    }
}

/// The first line and what follows it; `None` while it has no end. A lone LF ends one, too (RFC 9112,
/// section 2.2).
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let (line, rest) = bytes.split_at(end);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Some((line, rest.get(1..).unwrap_or_default()))
}

fn without_port(host: &[u8]) -> &[u8] {
    // The colons of an IPv6 address stand in brackets.
    match host.iter().rposition(|b| *b == b':') {
        Some(colon) if !host.ends_with(b"]") => host.get(..colon).unwrap_or(host),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_found_whatever_the_pieces_and_nothing_else_is_taken_for_http() {
        let request = b"GET /x HTTP/1.1\r\nAccept: */*\r\nhOST:  Example.org:8080 \r\n\r\n";
        let end = request.len() - 2;
        for n in 0..end {
            assert_eq!(host(&request[..n]), Name::More, "{n} bytes");
        }
        assert_eq!(host(&request[..end]), Name::Is(b"Example.org"));
        assert_eq!(
            host(b"GET / HTTP/1.1\nHost: [fd00::1]\n"),
            Name::Is(b"[fd00::1]")
        );
        assert_eq!(
            host(b"GET / HTTP/1.1\nHost: [fd00::1]:80\n"),
            Name::Is(b"[fd00::1]")
        );
        for bad in [
            &b"GET / HTTP/1.0\r\n\r\n"[..],
            b"GET / HTTP/2.0\r\nHost: a\r\n",
            b"GET /\r\n",
            b"\r\n",
            b"SSH-2.0-x\r\n",
            b"\x16\x03\x01",
            b"GET / HTTP/1.1\r\nno field\r\nHost: a\r\n",
        ] {
            assert_eq!(host(bad), Name::None, "{bad:?}");
        }
    }
}
