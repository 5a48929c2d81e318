//! Conditions as written to criteria: values are resolved and fitted to their fields.

use std::net::IpAddr;

use ipnet::IpNet;
use signalbox_proofs::{Bdds, Cube, Family, PacketSets};

use super::Checker;
use super::formula::{Formula, MAX_UNION, TooMany};
use super::predicate::{self, OfFamily, PortTest, Ranges, Side};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::format::one_line;
use crate::model::{AddressSet, Criteria, Families, MAX_CUBES, Network, Span, address_bits};
use crate::tree::{Expr, FLAGS, Field, Name, Spanned, Test, Value};

/// What conditions can name.
#[derive(Clone, Copy)]
pub(super) struct Scope<'s> {
    pub network: &'s Network,
    pub sets: &'s [AddressSet],
}

const PROTOCOLS: [(&str, u8); 11] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("ospf", 89),
    ("sctp", 132),
];

/// ICMP types by name: for IPv4 and for IPv6.
const ICMP_TYPES: [(&str, Option<u8>, Option<u8>); 11] = [
    ("echo-reply", Some(0), Some(129)),
    ("unreachable", Some(3), Some(1)),
    ("packet-too-big", None, Some(2)),
    ("redirect", Some(5), Some(137)),
    ("echo-request", Some(8), Some(128)),
    ("router-advertisement", Some(9), Some(134)),
    ("router-solicitation", Some(10), Some(133)),
    ("time-exceeded", Some(11), Some(3)),
    ("parameter-problem", Some(12), Some(4)),
    ("neighbour-solicitation", None, Some(135)),
    ("neighbour-advertisement", None, Some(136)),
];

/// What a value comes to, for one field.
#[derive(Default)]
struct Values {
    v4: Ranges,
    v6: Ranges,
    numbers: Ranges,
    endpoints: Vec<(IpAddr, u16)>,
    words: Vec<Spanned<String>>,
}

impl Checker<'_> {
    /// The criteria of a condition, `None` if something in it is wrong.
    pub(super) fn criteria(&mut self, scope: Scope<'_>, exprs: &[&Expr]) -> Option<Criteria> {
        let (first, last) = (exprs.first()?.span(), exprs.last()?.span());
        let span = Span {
            start: first.start,
            end: last.end,
        };
        // All are looked at before a failure counts, so that all errors are found.
        let parts: Vec<Option<Formula>> = exprs.iter().map(|e| self.formula(scope, e)).collect();
        let mut parts: Vec<Formula> = parts.into_iter().collect::<Option<_>>()?;
        let formula = match (parts.pop(), parts.is_empty()) {
            (Some(only), true) => only,
            (last, _) => {
                parts.extend(last);
                Formula::any(parts)
            }
        };
        let texts: Vec<String> = exprs
            .iter()
            .map(|e| one_line(self.text, &self.parse.tokens, e.span()))
            .collect();
        let text = match texts.as_slice() {
            [one] => one.clone(),
            several => several
                .iter()
                .map(|t| format!("({t})"))
                .collect::<Vec<_>>()
                .join(" or "),
        };
        let cubes = match formula.cubes(self.families.list()) {
            Ok(cubes) if cubes.len() <= MAX_CUBES => cubes,
            Ok(cubes) if cubes.len() <= MAX_UNION => {
                // A cover along the paths of the diagram is sometimes shorter.
                let sets = Bdds::new(self.families.list());
                let shorter = sets.cubes(&sets.union_of(&cubes), MAX_CUBES);
                // Ingress ports are matched whole or not at all.
                let whole = |c: &Cube| c.in_port.is_any() || c.in_port.mask == 0x1ff;
                match shorter {
                    Some(shorter) if shorter.iter().all(whole) => shorter,
                    _ => return self.too_many(span, Some(cubes.len())),
                }
            }
            Ok(cubes) => return self.too_many(span, Some(cubes.len())),
            Err(TooMany) => return self.too_many(span, None),
        };
        if cubes.is_empty() {
            self.matches_nothing(exprs, &formula, span);
            return None;
        }
        Some(Criteria { text, cubes, span })
    }

    fn matches_nothing(&mut self, exprs: &[&Expr], formula: &Formula, span: Span) {
        // What is wrong with a set's elements has been said.
        if exprs.iter().any(|e| self.names_broken_set(e)) {
            return;
        }
        let both = Families::Dual.list();
        let only_v6 =
            self.families == Families::V4 && formula.cubes(both).is_ok_and(|c| !c.is_empty());
        let d = if only_v6 {
            Diagnostic::error(
                "matches-nothing",
                span,
                "this matches IPv6 packets only, and the policy speaks IPv4",
            )
            .note("a policy speaks IPv6 if an IPv6 address stands in it, outside its tests")
            .help("leave it out: IPv6 packets are dropped; or give a port an IPv6 address")
        } else {
            Diagnostic::error("matches-nothing", span, "no packet can match this")
                .help("its parts exclude each other, or a set in it is empty")
        };
        self.report(d);
    }

    fn names_broken_set(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Or(parts) | Expr::And(parts) => parts.iter().any(|e| self.names_broken_set(e)),
            Expr::Not(inner, _) => self.names_broken_set(inner),
            Expr::Test(test) => test.value.as_ref().is_some_and(|v| self.is_broken_set(v)),
        }
    }

    fn is_broken_set(&self, value: &Spanned<Value>) -> bool {
        match &value.value {
            Value::Set(name) => self.broken_sets.contains(name),
            Value::List(elements) => elements.iter().any(|e| self.is_broken_set(e)),
            _ => false,
        }
    }

    pub(super) fn too_many(&mut self, span: Span, count: Option<usize>) -> Option<Criteria> {
        let count = count.map_or("very many".to_owned(), |n| n.to_string());
        self.report(
            Diagnostic::error(
                "too-many-entries",
                span,
                "this condition is too big for a table",
            )
            .label(format!("comes to {count} entries"))
            .note(format!("a condition may come to {MAX_CUBES}"))
            .help("use prefixes instead of ranges, or split the condition"),
        );
        None
    }

    fn formula(&mut self, scope: Scope<'_>, expr: &Expr) -> Option<Formula> {
        match expr {
            Expr::Or(parts) | Expr::And(parts) => {
                // All are looked at before a failure counts, so that all errors are found.
                let parts: Vec<Option<Formula>> =
                    parts.iter().map(|e| self.formula(scope, e)).collect();
                let parts = parts.into_iter().collect::<Option<_>>()?;
                Some(match expr {
                    Expr::Or(_) => Formula::any(parts),
                    _ => Formula::all(parts),
                })
            }
            Expr::Not(inner, _) => Some(Formula::Not(Box::new(self.formula(scope, inner)?))),
            Expr::Test(test) => {
                let formula = Formula::Test(self.test(scope, test)?);
                Some(if test.negated {
                    Formula::Not(Box::new(formula))
                } else {
                    formula
                })
            }
        }
    }

    fn test(&mut self, scope: Scope<'_>, test: &Test) -> Option<predicate::Test> {
        use predicate::Test as Resolved;
        let mut values = Values::default();
        if let Some(value) = &test.value {
            self.collect(scope, test.field, value, &mut values)?;
        }
        let addresses = OfFamily {
            v4: values.v4,
            v6: values.v6,
        };
        let port = |proto, side| {
            Resolved::Port(PortTest {
                proto,
                side,
                ranges: values.numbers.clone(),
                endpoints: values.endpoints.clone(),
            })
        };
        let exactly = |number: u8| (u128::from(number), u128::from(number));
        let both = |of: &dyn Fn(Family) -> Ranges| OfFamily {
            v4: of(Family::V4),
            v6: of(Family::V6),
        };
        let icmp = |f| exactly(predicate::icmp_protocol(f));
        Some(match test.field {
            Field::Ip => Resolved::Everything,
            Field::Ipv4 => Resolved::Family(Family::V4),
            Field::Ipv6 => Resolved::Family(Family::V6),
            Field::IpSrc => Resolved::Address(Side::Source, addresses),
            Field::IpDst => Resolved::Address(Side::Destination, addresses),
            Field::Tcp => Resolved::Protocol(both(&|_| vec![exactly(6)])),
            Field::Udp => Resolved::Protocol(both(&|_| vec![exactly(17)])),
            Field::Icmp => Resolved::Protocol(both(&|f| vec![icmp(f)])),
            Field::TcpSrc => port(6, Side::Source),
            Field::TcpDst => port(6, Side::Destination),
            Field::UdpSrc => port(17, Side::Source),
            Field::UdpDst => port(17, Side::Destination),
            Field::TcpFlag(bit) => Resolved::Flags {
                value: bit,
                mask: bit,
            },
            Field::TcpFlags => {
                let (value, mask) = self.flag_values(test)?;
                Resolved::Flags { value, mask }
            }
            Field::IpProto => {
                let words = self.protocol_words(&values.words)?;
                Resolved::Protocol(both(&|f| {
                    let named = words
                        .iter()
                        .map(|w| if *w == 1 { icmp(f) } else { exactly(*w) });
                    values.numbers.iter().copied().chain(named).collect()
                }))
            }
            Field::IcmpType => {
                let words = self.icmp_words(&values.words)?;
                Resolved::IcmpType(both(&|f| {
                    let named = words
                        .iter()
                        .filter_map(|(v4, v6)| if f == Family::V4 { *v4 } else { *v6 })
                        .map(exactly);
                    values.numbers.iter().copied().chain(named).collect()
                }))
            }
            Field::InPort => {
                let mut wanted = Vec::new();
                for word in &values.words {
                    match scope.network.port_named(&word.value) {
                        Some(port) => wanted.push(port.number),
                        None => {
                            let ports = scope.network.ports.iter().map(|p| p.name.as_str());
                            self.unknown("port", word, ports);
                            return None;
                        }
                    }
                }
                let declared = scope.network.ports.iter().map(|p| p.number).collect();
                Resolved::InPort { wanted, declared }
            }
        })
    }

    /// Fits a value to its field; `None` after reporting that it does not.
    fn collect(
        &mut self,
        scope: Scope<'_>,
        field: Field,
        value: &Spanned<Value>,
        into: &mut Values,
    ) -> Option<()> {
        let most = match field {
            Field::IpProto | Field::IcmpType => 255,
            _ => 65_535,
        };
        let is_address = matches!(field, Field::IpSrc | Field::IpDst);
        let is_port = matches!(
            field,
            Field::TcpSrc | Field::TcpDst | Field::UdpSrc | Field::UdpDst
        );
        let is_number = is_port || matches!(field, Field::IpProto | Field::IcmpType);
        let takes_words = matches!(field, Field::InPort | Field::IpProto | Field::IcmpType);
        match &value.value {
            Value::List(elements) => {
                let mut fine = Some(());
                for element in elements {
                    if self.collect(scope, field, element, into).is_none() {
                        fine = None;
                    }
                }
                fine?;
            }
            Value::Set(name) if is_address => {
                let Some(set) = scope.sets.iter().find(|s| s.name == *name) else {
                    let name = Spanned {
                        value: name.clone(),
                        span: value.span,
                    };
                    self.unknown("set", &name, scope.sets.iter().map(|s| s.name.as_str()));
                    return None;
                };
                self.used_sets.insert(name.clone());
                set.prefixes.iter().for_each(|p| add_prefix(*p, into));
            }
            Value::Address(a) if is_address => add_prefix(IpNet::from(*a), into),
            Value::Prefix(a, length) if is_address => {
                let net = IpNet::new(*a, *length).ok()?;
                if net.trunc() != net {
                    self.host_bits(value, net);
                    return None;
                }
                add_prefix(net, into);
            }
            Value::AddressRange(low, high) if is_address => {
                if low.is_ipv4() != high.is_ipv4() || low > high {
                    self.error(
                        "bad-range",
                        value.span,
                        format!("`{low}..{high}` is not a range of addresses from low to high"),
                    );
                    return None;
                }
                let ranges = if low.is_ipv4() {
                    &mut into.v4
                } else {
                    &mut into.v6
                };
                ranges.push((address_bits(*low), address_bits(*high)));
            }
            Value::Number(n) if is_number => self.numbers(value, *n, *n, most, into)?,
            Value::NumberRange(low, high) if is_number => {
                self.numbers(value, *low, *high, most, into)?;
            }
            Value::Endpoint(a, port) if is_port => into.endpoints.push((*a, *port)),
            Value::Word(word) if takes_words => {
                into.words.push(Spanned {
                    value: word.clone(),
                    span: value.span,
                });
            }
            Value::Flags(..) if field == Field::TcpFlags => {}
            _ => return self.wrong_value(field, value),
        }
        Some(())
    }

    fn wrong_value(&mut self, field: Field, value: &Spanned<Value>) -> Option<()> {
        let expected = match field {
            Field::IpSrc | Field::IpDst => "an address, a prefix, a range or @SET",
            Field::InPort => "a port's name",
            Field::IpProto => "a protocol's name, or a number from 0 to 255",
            Field::IcmpType => "an ICMP type's name, or a number from 0 to 255",
            Field::TcpFlags => "flags such as `syn` or `syn/syn+ack`",
            _ => "a port, a range of ports, ADDRESS:PORT or a list of those",
        };
        let written = self.slice(value.span).to_owned();
        let message = format!("`{}` cannot be compared with `{written}`", field.name());
        let mut d = Diagnostic::error("wrong-value", value.span, message)
            .label(format!("expected {expected}"));
        if let Value::Endpoint(..) = value.value
            && matches!(field, Field::IpSrc | Field::IpDst)
        {
            let side = if field == Field::IpSrc { "src" } else { "dst" };
            d = d.help(format!("address and port together: `tcp.{side} {written}`"));
        }
        self.report(d);
        None
    }

    fn numbers(
        &mut self,
        value: &Spanned<Value>,
        low: u64,
        high: u64,
        most: u64,
        into: &mut Values,
    ) -> Option<()> {
        if low > high || high > most {
            let written = self.slice(value.span).to_owned();
            let what = if low > high {
                "runs backwards"
            } else {
                "is too big"
            };
            self.report(
                Diagnostic::error("out-of-range", value.span, format!("`{written}` {what}"))
                    .label(format!("expected 0 to {most}, low before high")),
            );
            return None;
        }
        into.numbers.push((low.into(), high.into()));
        Some(())
    }

    fn flag_values(&mut self, test: &Test) -> Option<(u8, u8)> {
        let Some(Spanned {
            value: Value::Flags(set, of),
            ..
        }) = &test.value
        else {
            let value = test.value.as_ref()?;
            self.wrong_value(Field::TcpFlags, value);
            return None;
        };
        let value = self.flag_bits(set);
        let mask = match of {
            Some(of) => self.flag_bits(of),
            None => value,
        };
        let (value, mask) = (value?, mask?);
        if value & !mask != 0 {
            self.report(
                Diagnostic::error(
                    "bad-flags",
                    test.span,
                    "a flag that must be set is not looked at",
                )
                .help("after `/` stand all flags that are looked at: `syn/syn+ack`"),
            );
            return None;
        }
        if mask == 0 {
            self.report(
                Diagnostic::error("bad-flags", test.span, "this looks at no flag")
                    .help("say which must be clear: `none/syn+ack`"),
            );
            return None;
        }
        Some((value, mask))
    }

    /// The bits of flags by name.
    pub(super) fn flag_bits(&mut self, names: &[Name]) -> Option<u8> {
        let mut bits = Some(0u8);
        for name in names {
            match FLAGS.iter().find(|(n, _)| *n == name.value) {
                Some((_, bit)) => bits = bits.map(|b| b | bit),
                None => {
                    self.unknown_word("a TCP flag", name, &FLAGS.map(|(n, _)| n));
                    bits = None;
                }
            }
        }
        bits
    }

    fn protocol_words(&mut self, words: &[Spanned<String>]) -> Option<Vec<u8>> {
        let mut out = Some(Vec::new());
        for word in words {
            match PROTOCOLS.iter().find(|(n, _)| *n == word.value) {
                Some((_, number)) => out.iter_mut().for_each(|o| o.push(*number)),
                None => {
                    self.unknown_word("a protocol's name", word, &PROTOCOLS.map(|(n, _)| n));
                    out = None;
                }
            }
        }
        out
    }

    #[allow(
        clippy::type_complexity,
        reason = "a type for IPv4 and one for IPv6, each may lack"
    )]
    fn icmp_words(&mut self, words: &[Spanned<String>]) -> Option<Vec<(Option<u8>, Option<u8>)>> {
        let mut out = Some(Vec::new());
        for word in words {
            match ICMP_TYPES.iter().find(|(n, ..)| *n == word.value) {
                Some((_, v4, v6)) => out.iter_mut().for_each(|o| o.push((*v4, *v6))),
                None => {
                    let names = ICMP_TYPES.map(|(n, ..)| n);
                    self.unknown_word("an ICMP type's name", word, &names);
                    out = None;
                }
            }
        }
        out
    }

    /// Reports a word that is none of those allowed.
    pub(super) fn unknown_word(&mut self, what: &str, word: &Name, words: &[&str]) {
        let mut d = Diagnostic::error(
            "unknown-word",
            word.span,
            format!("`{}` is not {what}", word.value),
        )
        .label(format!("expected {}", crate::diagnostic::one_of(words)));
        if let Some(meant) = did_you_mean(&word.value, words.iter().copied()) {
            d = d.help(format!("did you mean `{meant}`?"));
        }
        self.report(d);
    }
}

fn add_prefix(net: IpNet, into: &mut Values) {
    let family = Family::of(net.addr());
    let low = address_bits(net.network());
    let host =
        family.full_mask() & !signalbox_proofs::prefix_mask(family.bits(), net.prefix_len().into());
    let ranges = if family == Family::V4 {
        &mut into.v4
    } else {
        &mut into.v6
    };
    ranges.push((low, low | host));
}
