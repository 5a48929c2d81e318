//! The server's name in a TLS ClientHello (RFC 8446, section 4.1.2; RFC 6066, section 3), also in several
//! records. It reads no more of a handshake than that.

use super::Name;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The longest fragment of a record (RFC 8446, section 5.1).
const RECORD: usize = 1 << 14;

/// The host name that the hello asks for. `hello` takes what the records carry.
pub fn name<'a>(stream: &[u8], hello: &'a mut Vec<u8>) -> Name<'a> {
    if !records(stream, hello) {
        return Name::None;
    }
    let wanted = match hello.as_slice() {
        [CLIENT_HELLO, a, b, c, ..] => u32::from_be_bytes([0, *a, *b, *c]) as usize,
        [] | [CLIENT_HELLO, ..] => return Name::More,
        _ => return Name::None,
    };
    if wanted > super::MOST {
        return Name::None;
    }
    match hello.get(4..4 + wanted) {
        Some(body) => server_name(body).map_or(Name::None, Name::Is),
        None => Name::More,
    }
}

/// Gathers what handshake records carry; false if something else is among them.
fn records(mut stream: &[u8], hello: &mut Vec<u8>) -> bool {
    loop {
        let (kind, major) = (stream.first(), stream.get(1));
        if kind.is_some_and(|k| *k != HANDSHAKE) || major.is_some_and(|m| *m != 3) {
            // What follows a whole hello is of no interest.
            return !hello.is_empty() && is_whole(hello);
        }
        let [_, _, _, a, b, rest @ ..] = stream else {
            return true;
        };
        let length = usize::from(u16::from_be_bytes([*a, *b]));
        if length == 0 || length > RECORD {
            return false;
        }
        hello.extend_from_slice(rest.get(..length.min(rest.len())).unwrap_or_default());
        let Some(next) = rest.get(length..) else {
            return true;
        };
        stream = next;
    }
}

fn is_whole(hello: &[u8]) -> bool {
    matches!(hello, [_, a, b, c, rest @ ..] if rest.len() >= u32::from_be_bytes([0, *a, *b, *c]) as usize)
}

/// What a length of so many bytes before it tells, and what follows.
fn vector(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(width)?;
    let length = length.iter().fold(0, |n, b| n << 8 | usize::from(*b));
    rest.split_at_checked(length)
}

fn number(bytes: &[u8]) -> Option<(u16, &[u8])> {
    match bytes {
        [a, b, rest @ ..] => Some((u16::from_be_bytes([*a, *b]), rest)),
        _ => None,
    }
}

fn server_name(body: &[u8]) -> Option<&[u8]> {
    // Version and random, then session id, cipher suites, compression methods.
    let (_, rest) = body.split_at_checked(34)?;
    let (_, rest) = vector(rest, 1)?;
    let (_, rest) = vector(rest, 2)?;
    let (_, rest) = vector(rest, 1)?;
    let (mut extensions, _) = vector(rest, 2)?;
    while !extensions.is_empty() {
        let (kind, rest) = number(extensions)?;
        let (content, rest) = vector(rest, 2)?;
        extensions = rest;
        if kind != 0 {
            continue;
        }
        let (mut names, _) = vector(content, 2)?;
        while let [kind, rest @ ..] = names {
            let (name, rest) = vector(rest, 2)?;
            names = rest;
            if *kind == 0 {
                return Some(name);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_length(width: usize, content: &[u8]) -> Vec<u8> {
        [&(content.len() as u32).to_be_bytes()[4 - width..], content].concat()
    }

    /// A hello for this name, in records of so many bytes.
    fn hello(name: Option<&str>, record: usize) -> Vec<u8> {
        let mut extensions = vec![0, 43, 0, 3, 2, 3, 4];
        if let Some(name) = name {
            let entry = [vec![0], with_length(2, name.as_bytes())].concat();
            extensions.extend([0, 0]);
            extensions.extend(with_length(2, &with_length(2, &entry)));
        }
        extensions.extend([0, 16, 0, 0]);
        let body = [
            vec![3, 3],
            vec![7; 32],
            with_length(1, &[9; 32]),
            with_length(2, &[0x13, 1]),
            with_length(1, &[0]),
            with_length(2, &extensions),
        ]
        .concat();
        let message = [vec![CLIENT_HELLO], with_length(3, &body)].concat();
        (message.chunks(record))
            .flat_map(|piece| [vec![HANDSHAKE, 3, 1], with_length(2, piece)].concat())
            .collect()
    }

    fn found(stream: &[u8]) -> Option<Result<Vec<u8>, ()>> {
        match name(stream, &mut Vec::new()) {
            Name::More => None,
            Name::Is(name) => Some(Ok(name.to_vec())),
            Name::None => Some(Err(())),
        }
    }

    #[test]
    fn the_name_is_found_across_segments_and_records() {
        for record in [1, 7, 100, 4000] {
            let stream = hello(Some("www.example.org"), record);
            for n in 0..stream.len() {
                assert_eq!(
                    found(&stream[..n]),
                    None,
                    "{n} bytes in records of {record}"
                );
            }
            let wanted = Some(Ok(b"www.example.org".to_vec()));
            assert_eq!(found(&stream), wanted);
            // Early data follow in records of their own.
            assert_eq!(found(&[&stream[..], &[23, 3, 3, 0, 1, 0]].concat()), wanted);
        }
    }

    #[test]
    fn what_is_no_hello_with_a_name_is_known_as_such() {
        assert_eq!(found(&hello(None, 4000)), Some(Err(())));
        for bad in [
            &b"GET / HTTP/1.1"[..],
            &[22, 2, 0],
            &[22, 3, 1, 0, 0],
            &[22, 3, 1, 0, 1, 2],
            &[22, 3, 1, 0, 4, 1, 255, 0, 0],
        ] {
            assert_eq!(found(bad), Some(Err(())), "{bad:?}");
        }
        // Cut lengths within it are no panic and no name.
        let whole = hello(Some("www.example.org"), 4000);
        for at in 5..whole.len() {
            let mut broken = whole.clone();
            broken[at] = broken[at].wrapping_add(100);
            let _ = found(&broken);
        }
    }
}
