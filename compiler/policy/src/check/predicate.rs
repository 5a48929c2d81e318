//! The algebra behind conditions: tests as unions of boxes, with their exact complements, and their
//! combination into one union.
//!
//! A test on a transport field is guarded: `tcp.dst 80` is "TCP, with a transport header, to port
//! 80", so its opposite holds for everything that is not TCP. Negation is pushed down to the tests,
//! whose opposites are ranges again; so no union grows more than it must.

use std::net::IpAddr;

use signalbox_proofs::{Cube, Family, Ternary, absorb, range_to_ternary};

use crate::model::address_bits;

/// Inclusive ranges of a field's values.
pub(super) type Ranges = Vec<(u128, u128)>;

/// A test and its opposite.
#[derive(Clone, Debug)]
pub(super) struct Literal {
    pub yes: Vec<Cube>,
    pub no: Vec<Cube>,
}

/// A condition with resolved tests.
#[derive(Clone, Debug)]
pub(super) enum Formula {
    Or(Box<Formula>, Box<Formula>),
    And(Box<Formula>, Box<Formula>),
    Not(Box<Formula>),
    Test(Literal),
}

/// A product of unions came to more boxes than anybody can want.
#[derive(Debug)]
pub(super) struct TooMany;

/// Pairs of boxes looked at for one `and`; more is refused before it costs time.
const MAX_PRODUCT: usize = 4_000_000;
/// Boxes an intermediate union may have.
const MAX_UNION: usize = 8_000;

impl Formula {
    /// The packets for which the condition holds (`holds`), or those for which it does not.
    pub(super) fn cubes(&self, holds: bool) -> Result<Vec<Cube>, TooMany> {
        match self {
            Formula::Test(literal) => Ok(if holds {
                literal.yes.clone()
            } else {
                literal.no.clone()
            }),
            Formula::Not(inner) => inner.cubes(!holds),
            Formula::And(a, b) if holds => product(&a.cubes(true)?, &b.cubes(true)?),
            Formula::And(a, b) => union(a.cubes(false)?, b.cubes(false)?),
            Formula::Or(a, b) if holds => union(a.cubes(true)?, b.cubes(true)?),
            Formula::Or(a, b) => product(&a.cubes(false)?, &b.cubes(false)?),
        }
    }
}

fn union(mut a: Vec<Cube>, b: Vec<Cube>) -> Result<Vec<Cube>, TooMany> {
    a.extend(b);
    if a.len() > MAX_UNION {
        Err(TooMany)
    } else {
        Ok(absorb(a))
    }
}

fn product(a: &[Cube], b: &[Cube]) -> Result<Vec<Cube>, TooMany> {
    if a.len().saturating_mul(b.len()) > MAX_PRODUCT {
        return Err(TooMany);
    }
    let both: Vec<Cube> = a
        .iter()
        .flat_map(|x| b.iter().filter_map(|y| x.intersect(y)))
        .collect();
    if both.len() > MAX_UNION {
        Err(TooMany)
    } else {
        Ok(absorb(both))
    }
}

/// Sorted, disjoint and not adjacent.
pub(super) fn merged(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut out: Ranges = Vec::new();
    for (low, high) in ranges {
        match out.last_mut() {
            Some((_, end)) if end.checked_add(1).is_none_or(|next| low <= next) => {
                *end = (*end).max(high);
            }
            _ => out.push((low, high)),
        }
    }
    out
}

/// What merged ranges leave out of a field of `bits` bits.
pub(super) fn complement(bits: u32, ranges: &Ranges) -> Ranges {
    let last = if bits >= 128 {
        u128::MAX
    } else {
        (1 << bits) - 1
    };
    let mut out = Vec::new();
    let mut from = Some(0u128);
    for (low, high) in ranges {
        if let Some(from) = from
            && from < *low
        {
            out.push((from, low - 1));
        }
        from = high.checked_add(1).filter(|next| *next <= last);
    }
    if let Some(from) = from {
        out.push((from, last));
    }
    out
}

fn ternaries(bits: u32, ranges: &Ranges) -> Vec<Ternary<u128>> {
    ranges
        .iter()
        .flat_map(|(low, high)| range_to_ternary(bits, *low, *high))
        .collect()
}

fn as_u16(t: Ternary<u128>) -> Ternary<u16> {
    Ternary::<u16>::masked(t.value as u16, t.mask as u16)
}

fn as_u8(t: Ternary<u128>) -> Ternary<u8> {
    Ternary::<u8>::masked(t.value as u8, t.mask as u8)
}

/// Which of two: source or destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

fn with_address(cube: Cube, side: Side, address: Ternary<u128>) -> Cube {
    match side {
        Side::Source => Cube {
            src: address,
            ..cube
        },
        Side::Destination => Cube {
            dst: address,
            ..cube
        },
    }
}

fn with_port(cube: Cube, side: Side, port: Ternary<u16>) -> Cube {
    match side {
        Side::Source => Cube {
            src_port: port,
            ..cube
        },
        Side::Destination => Cube {
            dst_port: port,
            ..cube
        },
    }
}

/// Everything, or nothing.
pub(super) fn constant(families: &[Family], value: bool) -> Literal {
    let all: Vec<Cube> = families.iter().map(|f| Cube::all(*f)).collect();
    if value {
        Literal {
            yes: all,
            no: vec![],
        }
    } else {
        Literal {
            yes: vec![],
            no: all,
        }
    }
}

/// One family of those.
pub(super) fn family(families: &[Family], wanted: Family) -> Literal {
    let (yes, no) = families
        .iter()
        .map(|f| Cube::all(*f))
        .partition(|c| c.family == wanted);
    Literal { yes, no }
}

/// An address in one of the ranges of its family.
pub(super) fn address(families: &[Family], side: Side, v4: Ranges, v6: Ranges) -> Literal {
    let (v4, v6) = (merged(v4), merged(v6));
    let mut literal = Literal {
        yes: vec![],
        no: vec![],
    };
    for family in families {
        let ranges = if *family == Family::V4 { &v4 } else { &v6 };
        let bits = family.bits();
        let cubes = |ranges: &Ranges| -> Vec<Cube> {
            let all = Cube::all(*family);
            ternaries(bits, ranges)
                .into_iter()
                .map(|t| with_address(all, side, t))
                .collect()
        };
        literal.yes.extend(cubes(ranges));
        literal.no.extend(cubes(&complement(bits, ranges)));
    }
    literal
}

/// A protocol in the ranges of the family.
pub(super) fn protocol(families: &[Family], of: impl Fn(Family) -> Ranges) -> Literal {
    let mut literal = Literal {
        yes: vec![],
        no: vec![],
    };
    for family in families {
        let ranges = merged(of(*family));
        let cubes = |ranges: &Ranges| -> Vec<Cube> {
            let all = Cube::all(*family);
            ternaries(8, ranges)
                .into_iter()
                .map(|t| Cube {
                    proto: as_u8(t),
                    ..all
                })
                .collect()
        };
        literal.yes.extend(cubes(&ranges));
        literal.no.extend(cubes(&complement(8, &ranges)));
    }
    literal
}

/// The kinds of packets that have a transport header: whole ones and first fragments.
const HAS_TRANSPORT: Ternary<u8> = Ternary::<u8>::masked(0, 2);

/// Packets of a protocol that have its header, and all others.
fn guard(family: Family, proto: u8) -> (Cube, Vec<Cube>) {
    let all = Cube::all(family);
    let inside = Cube {
        proto: Ternary::<u8>::exact(proto),
        kind: HAS_TRANSPORT,
        ..all
    };
    let mut outside: Vec<Cube> = protocol(&[family], |_| vec![(proto.into(), proto.into())]).no;
    outside.push(Cube {
        kind: Ternary::<u8>::masked(2, 2),
        ..all
    });
    (inside, outside)
}

/// A TCP or UDP port in the ranges, or an address with a port.
pub(super) fn port(
    families: &[Family],
    proto: u8,
    side: Side,
    ranges: Ranges,
    endpoints: &[(IpAddr, u16)],
) -> Result<Literal, TooMany> {
    let ranges = merged(ranges);
    let mut literal = Literal {
        yes: vec![],
        no: vec![],
    };
    for family in families {
        let (inside, outside) = guard(*family, proto);
        let cubes = |ranges: &Ranges| -> Vec<Cube> {
            ternaries(16, ranges)
                .into_iter()
                .map(|t| with_port(inside, side, as_u16(t)))
                .collect()
        };
        let mut yes = cubes(&ranges);
        let mut no = outside.clone();
        no.extend(cubes(&complement(16, &ranges)));
        for (ip, number) in endpoints
            .iter()
            .filter(|(ip, _)| Family::of(*ip) == *family)
        {
            let (bits, exact) = (family.bits(), (*number).into());
            let here = address_bits(*ip);
            let host = Ternary::<u128>::masked(here, family.full_mask());
            yes.push(with_address(
                with_port(inside, side, Ternary::<u16>::exact(*number)),
                side,
                host,
            ));
            let mut not = outside.clone();
            not.extend(cubes(&complement(16, &vec![(exact, exact)])));
            let elsewhere = complement(bits, &vec![(here, here)]);
            let away = ternaries(bits, &elsewhere);
            not.extend(away.into_iter().map(|t| with_address(inside, side, t)));
            no = product(&no, &not)?;
        }
        literal.yes.extend(absorb(yes));
        literal.no.extend(no);
    }
    Ok(literal)
}

/// TCP flags: of `mask` exactly `value` are set.
pub(super) fn flags(families: &[Family], value: u8, mask: u8) -> Literal {
    let mut literal = Literal {
        yes: vec![],
        no: vec![],
    };
    for family in families {
        let (inside, outside) = guard(*family, 6);
        if value & !mask == 0 {
            literal.yes.push(Cube {
                tcp_flags: Ternary::<u8>::masked(value, mask),
                ..inside
            });
        }
        literal.no.extend(outside);
        for bit in (0..8).map(|b| 1u8 << b).filter(|b| mask & b != 0) {
            literal.no.push(Cube {
                tcp_flags: Ternary::<u8>::masked(!value, bit),
                ..inside
            });
        }
    }
    literal
}

/// The ICMP protocol of a family.
pub(super) fn icmp_protocol(family: Family) -> u8 {
    match family {
        Family::V4 => 1,
        Family::V6 => 58,
    }
}

/// ICMP types that report an error about another packet.
fn icmp_errors(family: Family) -> Ranges {
    match family {
        Family::V4 => vec![(3, 5), (11, 12)],
        Family::V6 => vec![(1, 4)],
    }
}

/// An ICMP type in the ranges of the family. A later fragment has none.
pub(super) fn icmp_type(families: &[Family], of: impl Fn(Family) -> Ranges) -> Literal {
    let mut literal = Literal {
        yes: vec![],
        no: vec![],
    };
    for family in families {
        let proto = icmp_protocol(*family);
        let all = Cube::all(*family);
        let icmp = Cube {
            proto: Ternary::<u8>::exact(proto),
            ..all
        };
        let ranges = merged(of(*family));
        // Whole and first fragments have kind 0 and 1; an error, whole or not, has kind 3 or 1.
        let cubes = |ranges: &Ranges| -> Vec<Cube> {
            let mut out = Vec::new();
            let errors = icmp_errors(*family);
            let others = complement(8, &errors);
            for (part, kind) in [
                (others, HAS_TRANSPORT),
                (errors, Ternary::<u8>::masked(1, 1)),
            ] {
                let common = common(ranges, &part);
                out.extend(ternaries(8, &common).into_iter().map(|t| Cube {
                    icmp_type: as_u8(t),
                    kind,
                    ..icmp
                }));
            }
            out
        };
        literal.yes.extend(cubes(&ranges));
        literal
            .no
            .extend(protocol(&[*family], |_| vec![(proto.into(), proto.into())]).no);
        literal.no.push(Cube {
            kind: Ternary::<u8>::masked(2, 3),
            ..all
        });
        literal.no.extend(cubes(&complement(8, &ranges)));
    }
    literal
}

fn common(a: &Ranges, b: &Ranges) -> Ranges {
    let mut out: Ranges = a
        .iter()
        .flat_map(|(l, h)| b.iter().map(move |(m, i)| (*l.max(m), *h.min(i))))
        .filter(|(l, h)| l <= h)
        .collect();
    out.sort_unstable();
    out
}

/// One of the ports, out of all that the policy declares; packets come by no other.
pub(super) fn in_port(families: &[Family], wanted: &[u16], declared: &[u16]) -> Literal {
    let cubes = |numbers: Vec<u16>| -> Vec<Cube> {
        families
            .iter()
            .flat_map(|f| {
                let all = Cube::all(*f);
                numbers.iter().map(move |n| Cube {
                    in_port: Ternary::<u16>::masked(*n, 0x1ff),
                    ..all
                })
            })
            .collect()
    };
    let (mut yes, mut no): (Vec<u16>, Vec<u16>) = declared.iter().partition(|n| wanted.contains(n));
    yes.sort_unstable();
    no.sort_unstable();
    Literal {
        yes: cubes(yes),
        no: cubes(no),
    }
}
