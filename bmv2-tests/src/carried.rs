//! What crosses the CPU port before a packet, as p4/lib defines it, and the numbers in it.

/// The numbers of `packet_in.kind` that scenarios look for.
#[allow(missing_docs, reason = "the names say it")]
pub mod kind {
    pub const INTEREST: u64 = 1;
    pub const NOTICE: u64 = 2;
    pub const LOCAL: u64 = 3;
    pub const ARP: u64 = 4;
    pub const NDP: u64 = 5;
    pub const FRAGMENT: u64 = 6;
    pub const ICMP_ERROR: u64 = 7;
    pub const TTL: u64 = 8;
    pub const GLEAN: u64 = 9;
    pub const UNRESOLVED: u64 = 10;
    pub const UNDELIVERED: u64 = 12;
}

/// The cells of the counter `drops`.
#[allow(missing_docs, reason = "the names say it")]
pub mod drop {
    pub const NOT_READY: i64 = 1;
    pub const BAD_PACKET_OUT: i64 = 2;
    pub const UNKNOWN_PORT: i64 = 3;
    pub const NOT_IP: i64 = 4;
    pub const MALFORMED: i64 = 5;
    pub const WRONG_MAC: i64 = 6;
    pub const NO_ROUTE: i64 = 7;
    pub const NOT_SERVED: i64 = 9;
    pub const SERVICE: i64 = 10;
}

/// What crosses the CPU port with a packet, in the order of the header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "the fields of p4/lib's packet_in and packet_out"
)]
pub struct Carried {
    pub kind: u64,
    pub part: u64,
    pub reply: u64,
    pub answered: u64,
    pub mark_set: u64,
    pub mark: u64,
    pub stage: u64,
    pub port: u64,
    pub next_hop: u64,
    pub tunnel: u64,
    pub notices: u64,
    pub entry: u64,
}

impl Carried {
    /// The fields' names.
    pub fn names() -> [&'static str; 12] {
        [
            "kind", "part", "reply", "answered", "mark_set", "mark", "stage", "port", "next_hop",
            "tunnel", "notices", "entry",
        ]
    }

    /// Their values, in the same order.
    pub fn values(&self) -> [u64; 12] {
        [
            self.kind,
            self.part,
            self.reply,
            self.answered,
            self.mark_set,
            self.mark,
            self.stage,
            self.port,
            self.next_hop,
            self.tunnel,
            self.notices,
            self.entry,
        ]
    }

    /// The header of a packet-in, and the frame after it.
    pub fn parse(bytes: &[u8]) -> (Carried, &[u8]) {
        let mut number = 0u128;
        let mut carried = Carried::default();
        for byte in &bytes[1..HEADER] {
            number = number << 8 | u128::from(*byte);
        }
        // The header's 136 bits are one byte more than a number has.
        let mut at = 128;
        let mut take = |width: u32| {
            at -= width;
            (number >> at) as u64 & ((1 << width) - 1)
        };
        carried.kind = u64::from(bytes[0] >> 1);
        carried.part = u64::from(bytes[0] & 1) << 1 | take(1);
        for (field, width) in [
            (&mut carried.reply, 1),
            (&mut carried.answered, 1),
            (&mut carried.mark_set, 1),
            (&mut carried.mark, 6),
            (&mut carried.stage, 6),
            (&mut carried.port, 16),
            (&mut carried.next_hop, 16),
            (&mut carried.tunnel, 16),
            (&mut carried.notices, 32),
            (&mut carried.entry, 32),
        ] {
            *field = take(width);
        }
        (carried, &bytes[HEADER..])
    }

    /// The header of a packet-out.
    pub fn bytes(&self) -> [u8; HEADER] {
        let widths = [7, 2, 1, 1, 1, 6, 6, 16, 16, 16, 32, 32];
        let (mut bytes, mut at) = ([0; HEADER], 0);
        for (value, width) in self.values().into_iter().zip(widths) {
            for bit in (0..width).rev() {
                bytes[at / 8] |= ((value >> bit & 1) as u8) << (7 - at % 8);
                at += 1;
            }
        }
        bytes
    }

    /// As the answer to this packet: go on where it was diverted, without diverting there again.
    #[must_use]
    pub fn resumed(self) -> Carried {
        Carried {
            kind: 1,
            answered: 1,
            ..self
        }
    }
}

/// The length of `packet_in` and `packet_out`, in bytes.
pub const HEADER: usize = 17;
