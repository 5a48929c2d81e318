//! The syntax tree: what was written, with places, before any name is resolved.
//!
//! It holds only what parsed; what did not is in the list of errors. Together with the tokens and
//! the [`Layout`] nothing of the text is lost, which is what the formatter needs.

use std::net::IpAddr;
use std::time::Duration;

use crate::model::{Mac, Span};

/// Something and its place.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    /// What was written.
    pub value: T,
    /// Where.
    pub span: Span,
}

/// A name as written, without `@`.
pub type Name = Spanned<String>;

/// A whole file.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// What it declares, in order.
    pub items: Vec<Item>,
}

/// One declaration.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each is its type")]
pub enum Item {
    Network(NetworkItem),
    Set(SetItem),
    Pool(PoolItem),
    Service(ServiceItem),
    Cascade(CascadeItem),
    Managers(ManagersItem),
    Test(TestItem),
}

/// `network { … }`
#[derive(Clone, Debug)]
pub struct NetworkItem {
    /// Its clauses.
    pub clauses: Vec<NetworkClause>,
    /// The keyword.
    pub span: Span,
}

/// One clause of a network.
#[derive(Clone, Debug)]
pub enum NetworkClause {
    /// `port NUMBER NAME { … }`
    Port {
        /// The number.
        number: Spanned<u64>,
        /// The name.
        name: Name,
        /// What stands in the braces.
        clauses: Vec<PortClause>,
    },
    /// `route PREFIX via ADDRESS`
    Route {
        /// Destinations.
        prefix: Spanned<(IpAddr, u8)>,
        /// The next hop.
        via: Spanned<IpAddr>,
    },
    /// `neighbour ADDRESS at MAC [on PORT]`
    Neighbour {
        /// Its address.
        address: Spanned<IpAddr>,
        /// Its Ethernet address.
        mac: Spanned<Mac>,
        /// The port's name.
        on: Option<Name>,
    },
}

/// One clause of a port.
#[derive(Clone, Debug)]
pub enum PortClause {
    /// `address ADDRESS/LENGTH`
    Address(Spanned<(IpAddr, u8)>),
    /// `mac MAC`
    Mac(Spanned<Mac>),
    /// `mtu NUMBER`
    Mtu(Spanned<u64>),
    /// `vlan NUMBER`, which this version refuses.
    Vlan(Span),
}

/// `set NAME = { … }`
#[derive(Clone, Debug)]
pub struct SetItem {
    /// The name.
    pub name: Name,
    /// The elements.
    pub elements: Vec<Spanned<Value>>,
}

/// `pool NAME { … }`
#[derive(Clone, Debug)]
pub struct PoolItem {
    /// The name.
    pub name: Name,
    /// Its clauses.
    pub clauses: Vec<PoolClause>,
}

/// One clause of a pool.
#[derive(Clone, Debug)]
pub enum PoolClause {
    /// `[NAME] ADDRESS:PORT [weight NUMBER]`
    Server {
        /// The name, if given.
        name: Option<Name>,
        /// Address and port; without a port the checker complains.
        endpoint: Spanned<(IpAddr, Option<u16>)>,
        /// The weight, if given.
        weight: Option<Spanned<u64>>,
    },
    /// `check KIND [PATH] [OPTION VALUE]…`
    Check {
        /// `tcp`, `http` or `load`.
        kind: Name,
        /// The path of `http` and `load`.
        path: Option<Spanned<String>>,
        /// `every`, `timeout`, `rise`, `fall`.
        options: Vec<(Name, Spanned<Quantity>)>,
        /// All of it.
        span: Span,
    },
}

/// A number or a time.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "each is its type")]
pub enum Quantity {
    Number(u64),
    Time(Duration),
}

/// `service NAME : KIND { … }`
#[derive(Clone, Debug)]
pub struct ServiceItem {
    /// The name.
    pub name: Name,
    /// The kind.
    pub kind: Name,
    /// Its clauses; empty for kinds that this version does not read.
    pub clauses: Vec<ServiceClause>,
}

/// One clause of a service, with the place of its keyword.
#[derive(Clone, Debug)]
pub struct ServiceClause {
    /// The keyword as written, such as `match`.
    pub keyword: Name,
    /// All of it.
    pub span: Span,
    /// What it says.
    pub body: ClauseBody,
}

/// What a clause of a service says.
#[derive(Clone, Debug)]
pub enum ClauseBody {
    /// `match EXPR`
    Match(Expr),
    /// `allow EXPR`, `deny EXPR`
    Rule(Expr),
    /// `allow EXPR [from TIME to TIME] [on DAYS]`
    Allow(Expr, WhenClause),
    /// `look WHAT VALUES [mask MASK] [at OFFSET]`
    Look(LookClause),
    /// `mss N`, `window-scale N`, `buffer N`
    Number(Spanned<u64>),
    /// `pick from @POOL by METHOD[(ARGUMENT)]`
    Pick {
        /// The pool.
        pool: Name,
        /// The method.
        method: Name,
        /// Its argument.
        argument: Option<Name>,
    },
    /// `keep WHAT TIME, …`
    Keep(Vec<(Name, Spanned<Duration>)>),
    /// `fallback WHAT`
    Fallback(Name),
    /// `default WHAT`
    Default(Name),
    /// `source ADDRESSES, … [ports LOW..HIGH]`
    Source {
        /// Addresses, ranges and prefixes; what else stands there is refused.
        addresses: Vec<Spanned<Value>>,
        /// The ports that are given out.
        ports: Option<Spanned<(u64, u64)>>,
    },
    /// `one-to-one INSIDE = OUTSIDE`, prefixes or single addresses.
    OneToOne {
        /// The inside prefix.
        inside: Spanned<(IpAddr, u8)>,
        /// The outside prefix.
        outside: Spanned<(IpAddr, u8)>,
    },
    /// `destination ADDRESS[:PORT]`
    Destination(Spanned<(IpAddr, Option<u16>)>),
    /// `hold-back TIME`, `slow-start TIME`, `stick source TIME`, `connect within TIME`
    Time(Spanned<Duration>),
    /// `inbound WHAT`, `way WHAT`, `on-death WHAT`, `refuse WHAT`
    Choice(Name),
    /// `limit N[/s] [WHAT] [per source], …`
    Limits(Vec<Limit>),
    /// `count WHAT, … [per flow]`
    Count {
        /// `packets`, `bytes`, `flags`.
        what: Vec<Name>,
        /// Whether `per flow` was said.
        per_flow: bool,
    },
    /// `report every TIME, on close`
    Report {
        /// `every TIME`, each with its keyword.
        every: Vec<(Name, Spanned<Duration>)>,
        /// `on WHAT`
        on: Vec<Name>,
    },
}

/// When something holds, as far as it is said.
#[derive(Clone, Debug)]
pub struct WhenClause {
    /// First and last time of day, in seconds.
    pub hours: Option<Spanned<(u32, u32)>>,
    /// Days and ranges of days; empty if nothing is said.
    pub days: Vec<(Name, Option<Name>)>,
}

/// What first data are looked at, and what they must be.
#[derive(Clone, Debug)]
pub struct LookClause {
    /// `tls.name`, `http.host` or `bytes`.
    pub what: Name,
    /// Names, or one text of bytes.
    pub values: Vec<Spanned<String>>,
    /// The bits of the bytes that count.
    pub mask: Option<Spanned<String>>,
    /// Where the bytes stand.
    pub at: Option<Spanned<u64>>,
}

/// `N[/s] [WHAT] [per source]`
#[derive(Clone, Debug)]
pub struct Limit {
    /// The number.
    pub count: Spanned<u64>,
    /// Whether it is one a second (`/s`).
    pub rate: bool,
    /// What is counted: `half-open`, `tuples`, `connections`, `proxied`; nothing for new flows.
    pub what: Option<Name>,
    /// Whether it holds for each source.
    pub per_source: bool,
    /// All of it.
    pub span: Span,
}

/// `cascade A > B > C`
#[derive(Clone, Debug)]
pub struct CascadeItem {
    /// The names, in order.
    pub names: Vec<Name>,
    /// The keyword.
    pub span: Span,
}

/// `managers { … }`
#[derive(Clone, Debug)]
pub struct ManagersItem {
    /// Its clauses.
    pub clauses: Vec<ManagerClause>,
    /// The keyword.
    pub span: Span,
}

/// One clause of the managers.
#[derive(Clone, Debug)]
pub enum ManagerClause {
    /// `NAME serves SERVICE, … [where EXPR]`
    Serves {
        /// The manager.
        name: Name,
        /// The services.
        services: Vec<Name>,
        /// The part of each that it serves.
        part: Option<Expr>,
    },
    /// `backup NAME with NAME [after TIME] [replicate sync|async]`
    Backup {
        /// The first one.
        name: Name,
        /// Who takes its place.
        with: Name,
        /// How long after its last sign of life.
        after: Option<Spanned<Duration>>,
        /// When the other knows of its decisions.
        replicate: Option<Name>,
        /// The keyword.
        span: Span,
    },
}

/// `test "…" { … }`
#[derive(Clone, Debug)]
pub struct TestItem {
    /// What it says it shows.
    pub name: Spanned<String>,
    /// Its clauses.
    pub clauses: Vec<TestClause>,
}

/// One clause of a test.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each is its type")]
pub enum TestClause {
    Send(SendClause),
    Answer(AnswerClause),
    Expect(ExpectClause),
}

/// `send answer [FLAGS] on PORT [OPTION NUMBER]…`
#[derive(Clone, Debug)]
pub struct AnswerClause {
    /// Flags of TCP.
    pub flags: Vec<Name>,
    /// The ingress port's name.
    pub on: Name,
    /// `ttl`, `payload`.
    pub options: Vec<(Name, Spanned<u64>)>,
    /// All of it.
    pub span: Span,
}

/// `send PROTO [FLAGS] FROM -> TO on PORT [OPTION NUMBER]…`
#[derive(Clone, Debug)]
pub struct SendClause {
    /// `tcp`, `udp` or `icmp`.
    pub proto: Name,
    /// Flags of TCP, or `echo`.
    pub words: Vec<Name>,
    /// Source.
    pub from: Spanned<(IpAddr, Option<u16>)>,
    /// Destination.
    pub to: Spanned<(IpAddr, Option<u16>)>,
    /// The ingress port's name.
    pub on: Name,
    /// `ttl`, `payload`, `id`.
    pub options: Vec<(Name, Spanned<u64>)>,
    /// All of it.
    pub span: Span,
}

/// `expect …`
#[derive(Clone, Debug)]
pub struct ExpectClause {
    /// What is expected.
    pub body: ExpectBody,
    /// All of it.
    pub span: Span,
}

/// What is expected.
#[derive(Clone, Debug)]
pub enum ExpectBody {
    /// `drop [by SERVICE]`
    Drop(Option<Name>),
    /// `server [ADDRESS:PORT] in @POOL`
    Server(Option<Spanned<(IpAddr, Option<u16>)>>, Name),
    /// `forward on PORT [from ADDRESSES] [to ADDRESS[:PORT]]`
    Forward {
        /// The port's name.
        on: Name,
        /// An address, a range, a prefix or an endpoint; what else stands there is refused.
        from: Option<Spanned<Value>>,
        /// The destination.
        to: Option<Spanned<(IpAddr, Option<u16>)>>,
    },
    /// `count by SERVICE`
    Count(Name),
    /// `manager NAME`
    Manager(Name),
    /// `interest of SERVICE`
    Interest(Name),
    /// `reply`
    Reply,
}

/// A condition on packets.
#[derive(Clone, Debug)]
pub enum Expr {
    /// Any of two or more. Flat, so that the depth of a tree is that of the text's parentheses.
    Or(Vec<Expr>),
    /// All of two or more.
    And(Vec<Expr>),
    /// The opposite.
    Not(Box<Expr>, Span),
    /// One test of one field.
    Test(Test),
}

impl Expr {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Expr::Or(parts) | Expr::And(parts) => {
                let (first, last) = (parts.first(), parts.last());
                Span {
                    start: first.map_or(0, |e| e.span().start),
                    end: last.map_or(0, |e| e.span().end),
                }
            }
            Expr::Not(_, span) => *span,
            Expr::Test(test) => test.span,
        }
    }
}

/// One test of one field.
#[derive(Clone, Debug)]
pub struct Test {
    /// The field.
    pub field: Field,
    /// The field as written.
    pub field_span: Span,
    /// Whether it was `!=`.
    pub negated: bool,
    /// What it is compared with; `None` for tests like `tcp`.
    pub value: Option<Spanned<Value>>,
    /// All of it.
    pub span: Span,
}

/// A field of a packet, or a test that stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the field of that name in `FIELDS`")]
pub enum Field {
    InPort,
    Ip,
    Ipv4,
    Ipv6,
    IpSrc,
    IpDst,
    IpProto,
    Tcp,
    TcpSrc,
    TcpDst,
    TcpFlags,
    /// One flag, as its bit.
    TcpFlag(u8),
    Udp,
    UdpSrc,
    UdpDst,
    Icmp,
    IcmpType,
}

/// All fields by name.
pub const FIELDS: [(&str, Field); 22] = [
    ("port", Field::InPort),
    ("ip", Field::Ip),
    ("ipv4", Field::Ipv4),
    ("ipv6", Field::Ipv6),
    ("ip.src", Field::IpSrc),
    ("ip.dst", Field::IpDst),
    ("ip.proto", Field::IpProto),
    ("tcp", Field::Tcp),
    ("tcp.src", Field::TcpSrc),
    ("tcp.dst", Field::TcpDst),
    ("tcp.flags", Field::TcpFlags),
    ("tcp.fin", Field::TcpFlag(1)),
    ("tcp.syn", Field::TcpFlag(2)),
    ("tcp.rst", Field::TcpFlag(4)),
    ("tcp.psh", Field::TcpFlag(8)),
    ("tcp.ack", Field::TcpFlag(16)),
    ("tcp.urg", Field::TcpFlag(32)),
    ("udp", Field::Udp),
    ("udp.src", Field::UdpSrc),
    ("udp.dst", Field::UdpDst),
    ("icmp", Field::Icmp),
    ("icmp.type", Field::IcmpType),
];

/// The TCP flags by name.
pub const FLAGS: [(&str, u8); 9] = [
    ("none", 0),
    ("fin", 1),
    ("syn", 2),
    ("rst", 4),
    ("psh", 8),
    ("ack", 16),
    ("urg", 32),
    ("ece", 64),
    ("cwr", 128),
];

impl Field {
    /// The field of that name.
    pub fn named(name: &str) -> Option<Field> {
        FIELDS.iter().find(|(n, _)| *n == name).map(|(_, f)| *f)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        FIELDS
            .iter()
            .find(|(_, f)| *f == self)
            .map_or("", |(n, _)| n)
    }

    /// Whether it is compared with something, or is a test by itself.
    pub fn takes_value(self) -> bool {
        !matches!(
            self,
            Field::Ip
                | Field::Ipv4
                | Field::Ipv6
                | Field::Tcp
                | Field::TcpFlag(_)
                | Field::Udp
                | Field::Icmp
        )
    }
}

/// What a field is compared with, or an element of a set.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each is its type")]
pub enum Value {
    Number(u64),
    NumberRange(u64, u64),
    Address(IpAddr),
    AddressRange(IpAddr, IpAddr),
    Prefix(IpAddr, u8),
    Endpoint(IpAddr, u16),
    /// `@NAME`
    Set(String),
    /// A word, such as a port's or protocol's name.
    Word(String),
    /// `A+B[/C+D]`: of the flags C and D (or of A and B) exactly A and B are set.
    Flags(Vec<Name>, Option<Vec<Name>>),
    /// `{ … }`
    List(Vec<Spanned<Value>>),
}

/// Where lines begin and blocks open and close, as places among the tokens; for the formatter.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// First tokens of items and clauses, ascending.
    pub starts: Vec<usize>,
    /// First tokens of items only, ascending.
    pub items: Vec<usize>,
    /// Opening and closing brace of every block.
    pub blocks: Vec<(usize, usize)>,
}
