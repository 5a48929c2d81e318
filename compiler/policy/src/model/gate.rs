//! Gate services: whom they let through to a server, and what follows from it for the server's packets.
//!
//! A gate changes no address. Its manager opens a connection with the client before the server sees
//! anything of it; here stands only what it goes by.

use std::fmt;
use std::time::Duration;

use signalbox_proofs::{Cube, absorb};

use super::{Criteria, Keep, Span};

/// The days of the week, Monday first, as they are written.
pub const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Seconds of a day.
pub const DAY: u32 = 86_400;

/// A gate service: it stands before servers and lets through whom its clauses allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The connections that it answers, in the client's direction: of TCP, each cube with a destination
    /// and a port.
    pub criteria: Criteria,
    /// Who may come in; at least one. Whom no clause names is never let in.
    pub allow: Vec<Allow>,
    /// What becomes of the packets of a client that may not come in. Default drop.
    pub refuse: Refuse,
    /// What the client's first data must be; empty if it is not looked at, else any of them will do.
    pub look: Vec<Look>,
    /// Bounds of connections.
    pub bounds: GateBounds,
    /// The largest segment that clients are told, in bytes; default from the ports' MTU.
    pub mss: Option<u16>,
    /// The shift of the windows that clients are told (RFC 7323, section 2), 0 to 14. Default 7. Towards a
    /// server that is known the gate takes the server's.
    pub window_scale: u8,
    /// How long its times are.
    pub times: GateTimes,
    /// How long connections are kept that the switch forwards. Default idle 2 h 4 min, closed 10 s.
    pub keep: Keep,
    /// Bytes that are kept for one connection and direction at once. Default 32 KiB.
    pub buffer: u32,
}

/// Who may come in, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    /// Which of the connections that the service matches; its cubes lie within the service's.
    pub criteria: Criteria,
    /// When; always if absent.
    pub when: Option<When>,
    /// Where the clause stands.
    pub span: Span,
}

/// Times of a week, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    /// The first second of the day, 0 to 86,399.
    pub from: u32,
    /// One past the last, 1 to 86,400. Not after `from`, the time ends on the next day.
    pub to: u32,
    /// The days on which it begins; bit 0 is Monday. Not empty.
    pub days: u8,
}

/// What becomes of the packets of a client that may not come in, though somebody of its address might.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Refuse {
    /// Nothing is answered.
    #[default]
    Drop,
    /// A RST is answered.
    Reset,
}

/// What a client's first data may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// A TLS ClientHello for one of these names (RFC 6066, section 3).
    TlsName(Vec<HostPattern>),
    /// An HTTP/1 request whose `Host` is one of these (RFC 9110, section 7.2).
    HttpHost(Vec<HostPattern>),
    /// These bytes at this place.
    Bytes {
        /// Where, from the first byte of the stream.
        offset: u16,
        /// The bytes, 1 to 64; zero where the mask is.
        value: Vec<u8>,
        /// Ones where they count; as long.
        mask: Vec<u8>,
    },
}

/// A host's name, or all names that have one label more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    /// The name in lower case, without a dot at its end.
    pub name: String,
    /// Whether `*.` stood before it: exactly one more label (RFC 6125, section 6.4.3).
    pub below: bool,
}

/// Bounds of a gate's connections; `None` is without a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateBounds {
    /// Connections at once, those that the switch forwards among them.
    pub connections: Option<u32>,
    /// The same for one source address.
    pub connections_per_source: Option<u32>,
    /// Completed handshakes in a second.
    pub new_per_second: Option<u32>,
    /// The same for one source address.
    pub new_per_second_per_source: Option<u32>,
    /// Connections at once that go through the manager. Default 10,000.
    pub proxied: u32,
}

impl Default for GateBounds {
    fn default() -> GateBounds {
        GateBounds {
            connections: None,
            connections_per_source: None,
            new_per_second: None,
            new_per_second_per_source: None,
            proxied: 10_000,
        }
    }
}

/// The times of a gate's connections, each 1 s to 24 h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateTimes {
    /// For the server to answer. Default 5 s.
    pub connect: Duration,
    /// For the client's first data, where they are looked at. Default 10 s.
    pub speak: Duration,
    /// For the switch to take the connection over, once both ends have answered. Default 10 s.
    pub hand_over: Duration,
    /// Without a segment from either end while the connection goes through the manager. Default 5 min.
    pub proxied: Duration,
}

impl Default for GateTimes {
    fn default() -> GateTimes {
        GateTimes {
            connect: Duration::from_secs(5),
            speak: Duration::from_secs(10),
            hand_over: Duration::from_secs(10),
            proxied: Duration::from_secs(300),
        }
    }
}

/// How long a gate keeps connections if the policy does not say. RFC 9293, section 3.8.4: hosts that keep
/// idle connections alive speak every two hours.
pub const GATE_KEEP: Keep = Keep {
    idle: Duration::from_secs(7_440),
    closed: Duration::from_secs(10),
    half_open: Duration::from_secs(7_440),
};

impl Allow {
    /// The clause as the formatter writes it, on one line.
    pub fn text(&self) -> String {
        let when = self.when.map_or(String::new(), |w| format!(" {w}"));
        format!("allow {}{when}", self.criteria.text)
    }
}

impl When {
    /// Every day.
    pub const ALL_DAYS: u8 = 0x7f;
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |s: u32| format!("{:02}:{:02}", s / 3_600, s / 60 % 60);
        let whole = (self.from, self.to) == (0, DAY);
        if !whole {
            write!(f, "from {} to {}", clock(self.from), clock(self.to))?;
        }
        if self.days != When::ALL_DAYS {
            let days = DAYS.iter().enumerate();
            let names: Vec<&str> = days
                .filter(|(i, _)| self.days >> i & 1 == 1)
                .map(|(_, name)| *name)
                .collect();
            let space = if whole { "" } else { " " };
            write!(f, "{space}on {}", names.join(", "))?;
        }
        Ok(())
    }
}

impl Gate {
    /// The connections that somebody may open, whatever the time; none of these lies in another.
    pub fn allowed_cubes(&self) -> Vec<Cube> {
        let all = self.allow.iter().flat_map(|a| &a.criteria.cubes);
        absorb(all.copied().collect())
    }

    /// The server's packets of such connections.
    pub fn reply_cubes(&self) -> Vec<Cube> {
        backwards(&self.allowed_cubes())
    }

    /// The server's packets to anybody.
    pub fn all_reply_cubes(&self) -> Vec<Cube> {
        backwards(&self.criteria.cubes)
    }
}

/// The packets of the other direction: they come by any port.
pub(crate) fn backwards(cubes: &[Cube]) -> Vec<Cube> {
    let back = cubes.iter().map(|c| Cube {
        src: c.dst,
        dst: c.src,
        proto: c.proto,
        kind: c.kind,
        src_port: c.dst_port,
        dst_port: c.src_port,
        ..Cube::all(c.family)
    });
    absorb(back.collect())
}
