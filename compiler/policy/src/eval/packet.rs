//! From a frame's bytes to what stages match, exactly as the pipeline's parser does it: the same
//! states, the same errors, the same lengths.

use signalbox_proofs::PacketKind;

/// What the parser took the frame for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Other,
    Ip,
    Arp,
    Ndp,
}

/// What stages match and change. Addresses are right aligned and of the frame's own family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub src: u128,
    pub dst: u128,
    pub proto: u8,
    pub sport: u16,
    pub dport: u16,
    pub flags: u8,
    pub icmp: u8,
    pub kind: PacketKind,
}

/// The transport header that was parsed, by the place where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer4 {
    None,
    Tcp(usize),
    Udp(usize),
    Icmp { at: usize, echo: bool },
}

/// A frame taken apart.
#[derive(Clone, Debug)]
pub(super) struct Parsed {
    pub class: Class,
    pub v6: bool,
    /// Cut short, or a header checksum that does not hold, or lengths that contradict each other.
    pub malformed: bool,
    /// Only cut short, or something else that the parser itself calls an error.
    pub parser_error: bool,
    pub ttl: u8,
    pub flow: Flow,
    pub layer4: Layer4,
}

/// The prefix of IPv4 addresses mapped into IPv6, its upper 96 bits.
const MAPPED: u128 = 0xffff;
const ETHERNET: usize = 14;

/// The frame ended before the header did.
struct TooShort;

/// Reads forward through the frame.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<Header<'a>, TooShort> {
        let end = self.at.checked_add(length).ok_or(TooShort)?;
        let bytes = self.bytes.get(self.at..end).ok_or(TooShort)?;
        let header = Header { bytes, at: self.at };
        self.at = end;
        Ok(header)
    }

    fn peek(&self, length: usize) -> Result<Header<'a>, TooShort> {
        Cursor {
            bytes: self.bytes,
            at: self.at,
        }
        .take(length)
    }
}

/// A header's bytes and where it begins.
#[derive(Clone, Copy)]
struct Header<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Header<'_> {
    /// Big-endian number; places are constants within the length that was taken.
    fn number(&self, from: usize, length: usize) -> u128 {
        let bytes = self.bytes.iter().skip(from).take(length);
        bytes.fold(0, |n, b| n << 8 | u128::from(*b))
    }

    fn byte(&self, at: usize) -> u8 {
        self.number(at, 1) as u8
    }

    fn half(&self, at: usize) -> u16 {
        self.number(at, 2) as u16
    }
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    out: Parsed,
    /// Bytes of the IP packet after the headers parsed so far; as in the pipeline it wraps below zero,
    /// and what is above 65535 is malformed.
    rest: u32,
    /// Where the IP packet ends in the frame, by its own account.
    ip_end: u32,
    checksum_holds: bool,
    extensions: u8,
}

/// Takes a frame apart; `dual` programs know IPv6.
pub(super) fn parse(frame: &[u8], dual: bool) -> Parsed {
    let flow = Flow {
        src: 0,
        dst: 0,
        proto: 0,
        sport: 0,
        dport: 0,
        flags: 0,
        icmp: 0,
        kind: PacketKind::Whole,
    };
    let mut parser = Parser {
        cursor: Cursor {
            bytes: frame,
            at: 0,
        },
        out: Parsed {
            class: Class::Other,
            v6: false,
            malformed: false,
            parser_error: false,
            ttl: 0,
            flow,
            layer4: Layer4::None,
        },
        rest: 0,
        ip_end: 0,
        checksum_holds: true,
        extensions: 0,
    };
    let short = parser.ethernet(dual).is_err();
    let mut out = parser.out;
    out.parser_error = short;
    out.malformed = short
        || !parser.checksum_holds
        || parser.rest > 65_535
        || parser.ip_end as usize > frame.len();
    out
}

impl Parser<'_> {
    fn ethernet(&mut self, dual: bool) -> Result<(), TooShort> {
        let header = self.cursor.take(ETHERNET)?;
        match header.half(12) {
            0x0800 => self.ipv4(),
            0x86dd if dual => self.ipv6(),
            0x0806 => {
                self.out.class = Class::Arp;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn length_nonsense(&mut self) -> Result<(), TooShort> {
        self.rest = u32::MAX;
        Ok(())
    }

    fn ipv4(&mut self) -> Result<(), TooShort> {
        self.out.class = Class::Ip;
        let header = self.cursor.take(20)?;
        let (version, words) = (header.byte(0) >> 4, header.byte(0) & 15);
        let total = u32::from(header.half(2));
        let fragment = header.half(6);
        let (more, offset) = (fragment & 0x2000 != 0, fragment & 0x1fff);
        let flow = &mut self.out.flow;
        flow.src = header.number(12, 4);
        flow.dst = header.number(16, 4);
        flow.proto = header.byte(9);
        self.out.ttl = header.byte(8);
        self.ip_end = total + ETHERNET as u32;
        self.rest = total.wrapping_sub(20);
        if version != 4 || words < 5 {
            return self.length_nonsense();
        }
        if words == 5 {
            self.checksum_holds = holds(header.half(10), sum([header.bytes]));
        } else {
            let options = self.cursor.take(usize::from(words - 5) * 4)?;
            self.rest = self.rest.wrapping_sub(u32::from(words - 5) * 4);
            self.checksum_holds = holds(header.half(10), sum([header.bytes, options.bytes]));
        }
        if more || offset != 0 {
            self.out.flow.kind = PacketKind::LaterFragment;
            if offset != 0 {
                return Ok(());
            }
            self.out.flow.kind = PacketKind::FirstFragment;
        }
        match self.out.flow.proto {
            6 => self.tcp(),
            17 => self.udp(),
            1 => self.icmp(false),
            _ => Ok(()),
        }
    }

    fn ipv6(&mut self) -> Result<(), TooShort> {
        self.out.class = Class::Ip;
        self.out.v6 = true;
        let header = self.cursor.take(40)?;
        let payload = u32::from(header.half(4));
        let flow = &mut self.out.flow;
        flow.proto = header.byte(6);
        flow.src = header.number(8, 16);
        flow.dst = header.number(24, 16);
        self.out.ttl = header.byte(7);
        self.ip_end = payload + 54;
        self.rest = payload;
        let mapped = |address: u128| address >> 32 == MAPPED;
        if header.byte(0) >> 4 != 6 || mapped(flow.src) || mapped(flow.dst) {
            return self.length_nonsense();
        }
        self.ipv6_next()
    }

    /// At most four extension headers; what has more, or a very long one, is matched by its addresses
    /// only.
    fn ipv6_next(&mut self) -> Result<(), TooShort> {
        loop {
            match self.out.flow.proto {
                6 => return self.tcp(),
                17 => return self.udp(),
                58 => return self.icmp(true),
                _ if self.extensions == 4 => return Ok(()),
                proto @ (0 | 43 | 51 | 60) => {
                    let head = self.cursor.peek(2)?;
                    let length = usize::from(head.byte(1));
                    if length >= 32 {
                        return Ok(()); // longer than any in use: as if it were a fifth
                    }
                    // Authentication counts in words, the others in pairs of words.
                    self.extension(head, if proto == 51 { 4 } else { 8 } * length + 8)?;
                }
                44 => {
                    let head = self.cursor.peek(8)?;
                    self.extension(head, 8)?;
                    let field = head.half(2);
                    let (offset, more) = (field >> 3, field & 1 != 0);
                    if offset != 0 {
                        self.out.flow.kind = PacketKind::LaterFragment;
                        return Ok(());
                    }
                    if more {
                        self.out.flow.kind = PacketKind::FirstFragment;
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    fn extension(&mut self, head: Header<'_>, length: usize) -> Result<(), TooShort> {
        self.cursor.take(length)?;
        self.rest = self.rest.wrapping_sub(length as u32);
        self.out.flow.proto = head.byte(0);
        self.extensions += 1;
        Ok(())
    }

    fn icmp(&mut self, v6: bool) -> Result<(), TooShort> {
        let header = self.cursor.take(4)?;
        let kind = header.byte(0);
        self.out.flow.icmp = kind;
        self.out.layer4 = Layer4::Icmp {
            at: header.at,
            echo: false,
        };
        self.rest = self.rest.wrapping_sub(4);
        let (request, reply) = if v6 { (128, 129) } else { (8, 0) };
        if kind == request || kind == reply {
            let echo = self.cursor.take(4)?;
            self.rest = self.rest.wrapping_sub(4);
            self.out.layer4 = Layer4::Icmp {
                at: header.at,
                echo: true,
            };
            let flow = &mut self.out.flow;
            let place = if kind == request {
                &mut flow.sport
            } else {
                &mut flow.dport
            };
            *place = echo.half(0);
            return Ok(());
        }
        let whole = self.out.flow.kind == PacketKind::Whole;
        if v6 && whole && (133..=137).contains(&kind) && self.out.ttl == 255 {
            self.out.class = Class::Ndp;
        }
        let error = if v6 {
            (1..=4).contains(&kind)
        } else {
            matches!(kind, 3 | 4 | 5 | 11 | 12)
        };
        if whole && error {
            self.out.flow.kind = PacketKind::IcmpError;
        }
        Ok(())
    }

    fn udp(&mut self) -> Result<(), TooShort> {
        let header = self.cursor.take(8)?;
        self.out.flow.sport = header.half(0);
        self.out.flow.dport = header.half(2);
        self.out.layer4 = Layer4::Udp(header.at);
        self.rest = self.rest.wrapping_sub(8);
        Ok(())
    }

    fn tcp(&mut self) -> Result<(), TooShort> {
        let header = self.cursor.take(20)?;
        self.out.flow.sport = header.half(0);
        self.out.flow.dport = header.half(2);
        self.out.flow.flags = header.byte(13);
        self.out.layer4 = Layer4::Tcp(header.at);
        let words = u32::from(header.byte(12) >> 4);
        self.rest = self.rest.wrapping_sub(words * 4);
        if words < 5 {
            self.length_nonsense()
        } else {
            Ok(())
        }
    }
}

/// Whether an IPv4 header's checksum is the computed one, given the sum with it. The sum cannot tell
/// the two forms of zero apart, and 0xffff is never computed.
fn holds(checksum: u16, sum: u16) -> bool {
    sum == 0xffff && checksum != 0xffff
}

/// The ones' complement sum of 16-bit words (RFC 1071), folded.
pub(crate) fn sum<'b>(parts: impl IntoIterator<Item = &'b [u8]>) -> u16 {
    let mut total = 0u64;
    for part in parts {
        for pair in part.chunks(2) {
            let [high, low] = [pair.first(), pair.get(1)].map(|b| b.copied().unwrap_or(0));
            total += u64::from(u16::from_be_bytes([high, low]));
        }
    }
    fold(total)
}

/// Brings the carries of a ones' complement sum round.
pub(super) fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}
