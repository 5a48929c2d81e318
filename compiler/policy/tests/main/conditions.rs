//! The boxes of a condition hold exactly the packets that the condition describes: a random condition
//! is evaluated directly, as a tree of tests, and by its boxes.

use std::fmt;

use proptest::prelude::*;
use signalbox_policy::check;
use signalbox_policy::model::{Family, Header, PacketKind, ServiceKind};

use crate::texts::{DUAL_NETWORK, NETWORK};

#[derive(Clone, Debug)]
enum Condition {
    Or(Box<Condition>, Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
    /// Many side by side, each as it stands or not, joined by `or` (`true`) or `and`.
    Flat(bool, Vec<(bool, Test)>),
    Test(Test),
}

#[derive(Clone, Debug)]
enum Test {
    /// Source or destination in an IPv4 prefix of the length.
    V4(bool, u32, u32),
    V6(bool, u128, u32),
    /// Of TCP or UDP, source or destination, in a range.
    Port(bool, bool, u16, u16),
    NotPort(bool, u16),
    /// Of TCP, destination address and port, one of two.
    Endpoints(u32, u16, u32, u16),
    Proto(u8, u8),
    Tcp,
    Udp,
    Icmp,
    Ipv4,
    Flags(u8, u8),
    Syn,
    IcmpType(u8, u8),
    InPort(bool),
}

fn mask(bits: u32, length: u32) -> u128 {
    let all = if bits == 128 {
        u128::MAX
    } else {
        (1 << bits) - 1
    };
    if length == 0 {
        0
    } else {
        all & (all << (bits - length))
    }
}

fn flag_names(bits: u8) -> String {
    let names = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
    let set: Vec<&str> = names
        .iter()
        .enumerate()
        .filter(|(i, _)| bits >> i & 1 == 1)
        .map(|(_, n)| *n)
        .collect();
    if set.is_empty() {
        "none".to_owned()
    } else {
        set.join("+")
    }
}

fn ip4(bits: u32) -> std::net::Ipv4Addr {
    bits.into()
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |dst: &bool| if *dst { "dst" } else { "src" };
        match self {
            Test::V4(dst, a, length) => {
                let net = ip4(a & mask(32, *length) as u32);
                write!(f, "ip.{} in {net}/{length}", side(dst))
            }
            Test::V6(dst, a, length) => {
                let net = std::net::Ipv6Addr::from(a & mask(128, *length));
                write!(f, "ip.{} in {net}/{length}", side(dst))
            }
            Test::Port(udp, dst, a, b) => {
                let proto = if *udp { "udp" } else { "tcp" };
                write!(f, "{proto}.{} in {}..{}", side(dst), a.min(b), a.max(b))
            }
            Test::NotPort(udp, a) => write!(f, "{}.dst != {a}", if *udp { "udp" } else { "tcp" }),
            Test::Endpoints(a, p, b, q) => {
                write!(f, "tcp.dst in {{ {}:{p}, {}:{q} }}", ip4(*a), ip4(*b))
            }
            Test::Proto(a, b) => write!(f, "ip.proto in {{ {a}, {b} }}"),
            Test::Tcp => f.write_str("tcp"),
            Test::Udp => f.write_str("udp"),
            Test::Icmp => f.write_str("icmp"),
            Test::Ipv4 => f.write_str("ipv4"),
            Test::Flags(value, mask) => {
                write!(
                    f,
                    "tcp.flags {}/{}",
                    flag_names(value & mask),
                    flag_names(*mask)
                )
            }
            Test::Syn => f.write_str("tcp.syn"),
            Test::IcmpType(a, b) => write!(f, "icmp.type in {}..{}", a.min(b), a.max(b)),
            Test::InPort(first) => f.write_str(if *first {
                "port clients"
            } else {
                "port != clients"
            }),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Or(a, b) => write!(f, "({a}) or ({b})"),
            Condition::And(a, b) => write!(f, "({a}) and ({b})"),
            Condition::Not(a) => write!(f, "not ({a})"),
            Condition::Flat(or, tests) => {
                for (i, (yes, test)) in tests.iter().enumerate() {
                    let word = match (i, or) {
                        (0, _) => "",
                        (_, true) => " or ",
                        (_, false) => " and ",
                    };
                    write!(f, "{word}{}{test}", if *yes { "" } else { "not " })?;
                }
                Ok(())
            }
            Condition::Test(t) => t.fmt(f),
        }
    }
}

impl Test {
    fn holds(&self, h: &Header) -> bool {
        let transport = !matches!(h.kind, PacketKind::LaterFragment | PacketKind::IcmpError);
        let is = |udp: &bool| transport && h.proto == if *udp { 17 } else { 6 };
        let icmp = h.proto == if h.family == Family::V4 { 1 } else { 58 };
        match self {
            Test::V4(dst, a, length) => {
                let address = if *dst { h.dst } else { h.src };
                h.family == Family::V4 && (address ^ u128::from(*a)) & mask(32, *length) == 0
            }
            Test::V6(dst, a, length) => {
                let address = if *dst { h.dst } else { h.src };
                h.family == Family::V6 && (address ^ a) & mask(128, *length) == 0
            }
            Test::Port(udp, dst, a, b) => {
                let port = if *dst { h.dst_port } else { h.src_port };
                is(udp) && port >= *a.min(b) && port <= *a.max(b)
            }
            Test::NotPort(udp, a) => !(is(udp) && h.dst_port == *a),
            Test::Endpoints(a, p, b, q) => {
                let at = |a: &u32, p: &u16| h.dst == u128::from(*a) && h.dst_port == *p;
                is(&false) && h.family == Family::V4 && (at(a, p) || at(b, q))
            }
            Test::Proto(a, b) => h.proto == *a || h.proto == *b,
            Test::Tcp => h.proto == 6,
            Test::Udp => h.proto == 17,
            Test::Icmp => icmp,
            Test::Ipv4 => h.family == Family::V4,
            Test::Flags(value, mask) => is(&false) && h.tcp_flags & mask == value & mask,
            Test::Syn => is(&false) && h.tcp_flags & 2 != 0,
            Test::IcmpType(a, b) => {
                let has_type = h.kind != PacketKind::LaterFragment;
                icmp && has_type && h.icmp_type >= *a.min(b) && h.icmp_type <= *a.max(b)
            }
            Test::InPort(first) => (h.in_port == 1) == *first,
        }
    }
}

impl Condition {
    fn holds(&self, h: &Header) -> bool {
        match self {
            Condition::Or(a, b) => a.holds(h) || b.holds(h),
            Condition::And(a, b) => a.holds(h) && b.holds(h),
            Condition::Not(a) => !a.holds(h),
            Condition::Flat(true, tests) => tests.iter().any(|(yes, t)| t.holds(h) == *yes),
            Condition::Flat(false, tests) => tests.iter().all(|(yes, t)| t.holds(h) == *yes),
            Condition::Test(t) => t.holds(h),
        }
    }
}

/// A few addresses and ports, so that tests and packets meet often.
fn v4() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(0x0a00_010a),
        Just(0x0a00_0203),
        Just(0xcb00_7150),
        any::<u32>()
    ]
}

fn v6() -> impl Strategy<Value = u128> {
    prop_oneof![
        Just(0x2001_0db8 << 96 | 0x80),
        Just(0x2001_0db9 << 96),
        any::<u128>()
    ]
}

fn number() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0u16), Just(80), Just(443), Just(65_535), any::<u16>()]
}

fn proto() -> impl Strategy<Value = u8> {
    prop_oneof![Just(6u8), Just(17), Just(1), Just(58), any::<u8>()]
}

fn test(dual: bool) -> impl Strategy<Value = Test> {
    let v6_test = (any::<bool>(), v6(), 0u32..=128).prop_map(|(d, a, l)| Test::V6(d, a, l));
    let v4_test = (any::<bool>(), v4(), 0u32..=32).prop_map(|(d, a, l)| Test::V4(d, a, l));
    let address = if dual {
        prop_oneof![v4_test, v6_test].boxed()
    } else {
        v4_test.boxed()
    };
    prop_oneof![
        4 => address,
        3 => (any::<bool>(), any::<bool>(), number(), number()).prop_map(|(u, d, a, b)| Test::Port(u, d, a, b)),
        1 => (any::<bool>(), number()).prop_map(|(u, a)| Test::NotPort(u, a)),
        1 => (v4(), number(), v4(), number()).prop_map(|(a, p, b, q)| Test::Endpoints(a, p, b, q)),
        1 => (proto(), proto()).prop_map(|(a, b)| Test::Proto(a, b)),
        2 => prop_oneof![Just(Test::Tcp), Just(Test::Udp), Just(Test::Icmp), Just(Test::Ipv4), Just(Test::Syn)],
        1 => (any::<u8>(), 1u8..).prop_map(|(v, m)| Test::Flags(v, m)),
        1 => (0u8..20, 0u8..20).prop_map(|(a, b)| Test::IcmpType(a, b)),
        1 => any::<bool>().prop_map(Test::InPort),
    ]
}

fn condition(dual: bool) -> impl Strategy<Value = Condition> {
    let flat = (
        any::<bool>(),
        proptest::collection::vec((any::<bool>(), test(dual)), 1..5),
    );
    let flat = flat.prop_map(|(or, tests)| Condition::Flat(or, tests));
    prop_oneof![test(dual).prop_map(Condition::Test), flat].prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Condition::Or(a.into(), b.into())),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Condition::And(a.into(), b.into())),
            inner.prop_map(|a| Condition::Not(a.into())),
        ]
    })
}

/// Packets that can exist.
fn header(dual: bool) -> impl Strategy<Value = Header> {
    let addresses = (v4(), v4(), v6(), v6(), any::<bool>());
    let rest = (
        proto(),
        0u8..3,
        number(),
        number(),
        any::<u8>(),
        0u8..20,
        1u16..3,
    );
    (addresses, rest).prop_map(
        move |((a, b, c, d, six), (proto, kind, sport, dport, flags, kind_of_icmp, port))| {
            let family = if dual && six { Family::V6 } else { Family::V4 };
            let (src, dst) = if family == Family::V6 {
                (c, d)
            } else {
                (a.into(), b.into())
            };
            let icmp = proto == if family == Family::V4 { 1 } else { 58 };
            let mut h = Header {
                family,
                in_port: port,
                src,
                dst,
                proto,
                kind: [
                    PacketKind::Whole,
                    PacketKind::FirstFragment,
                    PacketKind::LaterFragment,
                ][kind as usize],
                src_port: if matches!(proto, 6 | 17) { sport } else { 0 },
                dst_port: if matches!(proto, 6 | 17) { dport } else { 0 },
                tcp_flags: if proto == 6 { flags } else { 0 },
                icmp_type: if icmp { kind_of_icmp } else { 0 },
            };
            let error = match family {
                Family::V4 => matches!(h.icmp_type, 3 | 4 | 5 | 11 | 12),
                Family::V6 => (1..=4).contains(&h.icmp_type),
            };
            if h.kind == PacketKind::LaterFragment {
                (h.src_port, h.dst_port, h.tcp_flags, h.icmp_type) = (0, 0, 0, 0);
            } else if h.kind == PacketKind::Whole && icmp && error {
                h.kind = PacketKind::IcmpError;
            }
            h
        },
    )
}

fn boxes_are_the_condition(
    network: &str,
    condition: &Condition,
    packets: &[Header],
) -> Result<(), TestCaseError> {
    let text = format!("{network}\nservice f : filter {{ deny {condition} }}\n");
    let checked = check(&text, "t.policy");
    let errors: Vec<&str> = checked
        .diagnostics
        .iter()
        .filter(|d| d.severity == signalbox_policy::diagnostic::Severity::Error)
        .map(|d| d.code)
        .collect();
    let criteria = match (&checked.policy, errors.as_slice()) {
        (Some(policy), []) => match &policy.services[0].kind {
            ServiceKind::Filter(filter) => Some(filter.rules[0].criteria.clone()),
            _ => None,
        },
        (None, ["matches-nothing"]) => None,
        (None, ["too-many-entries"]) => return Ok(()),
        other => return Err(TestCaseError::fail(format!("{other:?} in {text}"))),
    };
    for h in packets {
        let by_boxes = criteria.as_ref().is_some_and(|c| c.matches(h));
        prop_assert_eq!(by_boxes, condition.holds(h), "{} for {:?}", condition, h);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn boxes_hold_what_an_ipv4_condition_says(
        condition in condition(false),
        packets in proptest::collection::vec(header(false), 60),
    ) {
        boxes_are_the_condition(NETWORK, &condition, &packets)?;
    }

    #[test]
    fn boxes_hold_what_a_dual_condition_says(
        condition in condition(true),
        packets in proptest::collection::vec(header(true), 60),
    ) {
        boxes_are_the_condition(DUAL_NETWORK, &condition, &packets)?;
    }
}

fn cubes(condition: &str) -> usize {
    let text = format!("{NETWORK}service f : filter {{ deny {condition} }}\n");
    let policy = crate::texts::policy(&text);
    match &policy.services[0].kind {
        ServiceKind::Filter(filter) => filter.rules[0].criteria.cubes.len(),
        _ => 0,
    }
}

#[test]
fn conditions_come_to_no_more_entries_than_they_need() {
    assert_eq!(cubes("ip.src in 10.0.0.0/8"), 1);
    assert_eq!(cubes("ip.src in { 10.0.0.0/9, 10.128.0.0/9 }"), 1);
    assert_eq!(cubes("not ip.src in 10.0.0.0/8"), 8);
    assert_eq!(cubes("tcp.dst in { 80, 443 }"), 2);
    assert_eq!(cubes("ip.src in 10.0.0.0/8 or tcp.dst 22"), 2);
    assert_eq!(cubes("tcp.dst in 1024..65535"), 6);
    assert_eq!(cubes("tcp.dst 80 and (ip.src in 10.0.0.0/8 or ip)"), 1);
}
