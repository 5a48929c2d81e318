//! Tests of one field as unions of boxes, and their exact opposites.
//!
//! A test on a transport field is guarded: `tcp.dst 80` is "TCP, with a transport header, to port
//! 80", so its opposite holds for everything that is not TCP. The opposite of a test is again ranges,
//! so no union grows more than it must.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use signalbox_proofs::{Cube, Family, Ternary, absorb, range_to_ternary};

use super::formula::{MAX_UNION, TooMany};
use crate::model::address_bits;

/// Inclusive ranges of a field's values.
pub(super) type Ranges = Vec<(u128, u128)>;

/// Ranges for each family.
#[derive(Clone, Debug, Default)]
pub(super) struct OfFamily {
    pub v4: Ranges,
    pub v6: Ranges,
}

impl OfFamily {
    fn of(&self, family: Family) -> &Ranges {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

/// Which of two: source or destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

/// A test with its values resolved.
#[derive(Clone, Debug)]
pub(super) enum Test {
    /// Every packet.
    Everything,
    /// Packets of one family.
    Family(Family),
    /// An address in one of the ranges of its family.
    Address(Side, OfFamily),
    /// A protocol in the ranges of the family.
    Protocol(OfFamily),
    /// A TCP or UDP port in the ranges, or an address with a port.
    Port(PortTest),
    /// TCP flags: of `mask` exactly `value` are set.
    Flags { value: u8, mask: u8 },
    /// An ICMP type in the ranges of the family. A later fragment has none.
    IcmpType(OfFamily),
    /// One of the ports, out of all that the policy declares; packets come by no other.
    InPort {
        wanted: Vec<u16>,
        declared: Vec<u16>,
    },
}

/// A test of a TCP or UDP port.
#[derive(Clone, Debug)]
pub(super) struct PortTest {
    pub proto: u8,
    pub side: Side,
    pub ranges: Ranges,
    pub endpoints: Vec<(IpAddr, u16)>,
}

impl Test {
    /// The packets of these families for which the test holds (`holds`), or those for which it does
    /// not.
    pub(super) fn cubes(&self, families: &[Family], holds: bool) -> Result<Vec<Cube>, TooMany> {
        let mut out = Vec::new();
        for family in families {
            self.of_family(*family, holds, &mut out)?;
        }
        Ok(out)
    }

    fn of_family(&self, family: Family, holds: bool, out: &mut Vec<Cube>) -> Result<(), TooMany> {
        let all = Cube::all(family);
        match self {
            Test::Everything => out.extend(holds.then_some(all)),
            Test::Family(wanted) => out.extend(((family == *wanted) == holds).then_some(all)),
            Test::Address(side, ranges) => {
                let bits = family.bits();
                let wanted = wanted(bits, ranges.of(family), holds)?;
                out.extend(ternaries(bits, &wanted).map(|t| with_address(all, *side, t)));
            }
            Test::Protocol(ranges) => protocol(family, ranges.of(family), holds, out)?,
            Test::Port(test) if holds => test.yes(family, out)?,
            Test::Port(test) => test.no(family, out)?,
            Test::Flags { value, mask } => flags(family, *value, *mask, holds, out)?,
            Test::IcmpType(ranges) => icmp_type(family, ranges.of(family), holds, out)?,
            Test::InPort { wanted, declared } => {
                let mut ports: Vec<u16> = declared
                    .iter()
                    .copied()
                    .filter(|n| wanted.contains(n) == holds)
                    .collect();
                ports.sort_unstable();
                out.extend(ports.into_iter().map(|number| Cube {
                    in_port: Ternary::<u16>::masked(number, 0x1ff),
                    ..all
                }));
            }
        }
        Ok(())
    }

    /// Whether [`Test::unite`] and [`Test::narrow`] can do anything with it.
    pub(super) fn joins(&self) -> bool {
        matches!(self, Test::Address(..) | Test::Port(_))
    }

    /// Makes this test hold where either does, if one test can say so; else gives the other back.
    pub(super) fn unite(&mut self, other: Test) -> Option<Test> {
        match (self, other) {
            (Test::Address(side, ranges), Test::Address(same, more)) if *side == same => {
                ranges.v4.extend(more.v4);
                ranges.v6.extend(more.v6);
            }
            (Test::Port(test), Test::Port(more)) if test.same_field(&more) => {
                test.ranges.extend(more.ranges);
                test.endpoints.extend(more.endpoints);
            }
            (_, other) => return Some(other),
        }
        None
    }

    /// Makes this test hold where both do, if one test can say so; else gives the other back.
    pub(super) fn narrow(&mut self, other: Test) -> Option<Test> {
        match (self, other) {
            (Test::Address(side, ranges), Test::Address(same, more)) if *side == same => {
                ranges.v4 = common(std::mem::take(&mut ranges.v4), more.v4);
                ranges.v6 = common(std::mem::take(&mut ranges.v6), more.v6);
            }
            (Test::Port(test), Test::Port(more))
                if test.same_field(&more)
                    && test.endpoints.is_empty()
                    && more.endpoints.is_empty() =>
            {
                test.ranges = common(std::mem::take(&mut test.ranges), more.ranges);
            }
            (_, other) => return Some(other),
        }
        None
    }
}

/// The ranges, sorted and merged, or what they leave out; refused where they are too many to be wanted.
fn wanted(bits: u32, ranges: &Ranges, holds: bool) -> Result<Ranges, TooMany> {
    let ranges = merged(ranges.clone());
    let ranges = if holds {
        ranges
    } else {
        complement(bits, &ranges)
    };
    if ranges.len() > MAX_UNION {
        Err(TooMany)
    } else {
        Ok(ranges)
    }
}

/// Sorted, disjoint and not adjacent.
fn merged(mut ranges: Ranges) -> Ranges {
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
fn complement(bits: u32, ranges: &Ranges) -> Ranges {
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

/// What two lists of ranges have in common, merged.
fn common(a: Ranges, b: Ranges) -> Ranges {
    let (a, b) = (merged(a), merged(b));
    let mut out = Vec::new();
    let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
    while let (Some((low, high)), Some((from, to))) = (a.peek(), b.peek()) {
        let (first, last) = (*low.max(from), *high.min(to));
        if first <= last {
            out.push((first, last));
        }
        if high < to {
            a.next();
        } else {
            b.next();
        }
    }
    out
}

fn ternaries(bits: u32, ranges: &Ranges) -> impl Iterator<Item = Ternary<u128>> {
    ranges
        .iter()
        .flat_map(move |(low, high)| range_to_ternary(bits, *low, *high))
}

fn as_u16(t: Ternary<u128>) -> Ternary<u16> {
    Ternary::<u16>::masked(t.value as u16, t.mask as u16)
}

fn as_u8(t: Ternary<u128>) -> Ternary<u8> {
    Ternary::<u8>::masked(t.value as u8, t.mask as u8)
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

fn exactly(number: impl Into<u128>) -> Ranges {
    let number = number.into();
    vec![(number, number)]
}

fn protocol(
    family: Family,
    ranges: &Ranges,
    holds: bool,
    out: &mut Vec<Cube>,
) -> Result<(), TooMany> {
    let all = Cube::all(family);
    let wanted = wanted(8, ranges, holds)?;
    out.extend(ternaries(8, &wanted).map(|t| Cube {
        proto: as_u8(t),
        ..all
    }));
    Ok(())
}

/// The kinds of packets that have a transport header: whole ones and first fragments.
const HAS_TRANSPORT: Ternary<u8> = Ternary::<u8>::masked(0, 2);

/// Packets of a protocol that have its header.
fn inside(family: Family, proto: u8) -> Cube {
    Cube {
        proto: Ternary::<u8>::exact(proto),
        kind: HAS_TRANSPORT,
        ..Cube::all(family)
    }
}

/// All others.
fn outside(family: Family, proto: u8, out: &mut Vec<Cube>) -> Result<(), TooMany> {
    protocol(family, &exactly(proto), false, out)?;
    out.push(Cube {
        kind: Ternary::<u8>::masked(2, 2),
        ..Cube::all(family)
    });
    Ok(())
}

impl PortTest {
    fn same_field(&self, other: &PortTest) -> bool {
        (self.proto, self.side) == (other.proto, other.side)
    }

    fn endpoints(&self, family: Family) -> impl Iterator<Item = (u128, u128)> {
        self.endpoints
            .iter()
            .filter(move |(ip, _)| Family::of(*ip) == family)
            .map(|(ip, port)| (address_bits(*ip), (*port).into()))
    }

    fn yes(&self, family: Family, out: &mut Vec<Cube>) -> Result<(), TooMany> {
        let inside = inside(family, self.proto);
        let ranges = wanted(16, &self.ranges, true)?;
        let mut yes: Vec<Cube> = ternaries(16, &ranges)
            .map(|t| with_port(inside, self.side, as_u16(t)))
            .collect();
        yes.extend(self.endpoints(family).map(|(address, port)| {
            let port = Ternary::<u16>::exact(port as u16);
            let host = Ternary::<u128>::masked(address, family.full_mask());
            with_address(with_port(inside, self.side, port), self.side, host)
        }));
        if yes.len() > MAX_UNION {
            return Err(TooMany);
        }
        out.extend(absorb(yes));
        Ok(())
    }

    /// Packets of another protocol, and those to none of the ports and endpoints: either the ports
    /// that no endpoint has, and for each other port the addresses without it, or the same with
    /// addresses and ports changing places; whichever is shorter.
    fn no(&self, family: Family, out: &mut Vec<Cube>) -> Result<(), TooMany> {
        outside(family, self.proto, out)?;
        let ranges = merged(self.ranges.clone());
        let listed = |port: u128| {
            let after = ranges.partition_point(|(low, _)| *low <= port);
            after
                .checked_sub(1)
                .and_then(|i| ranges.get(i))
                .is_some_and(|(_, high)| port <= *high)
        };
        let mut hosts_of: BTreeMap<u128, BTreeSet<u128>> = BTreeMap::new();
        let mut ports_of: BTreeMap<u128, BTreeSet<u128>> = BTreeMap::new();
        for (address, port) in self.endpoints(family).filter(|(_, port)| !listed(*port)) {
            hosts_of.entry(port).or_default().insert(address);
            ports_of.entry(address).or_default().insert(port);
        }
        let (bits, inside) = (family.bits(), inside(family, self.proto));
        let address = |cube, t| with_address(cube, self.side, t);
        let port = |cube, t| with_port(cube, self.side, as_u16(t));
        let by_port = {
            let named = hosts_of
                .keys()
                .map(|p| (*p, *p))
                .chain(ranges.iter().copied());
            let free = complement(16, &merged(named.collect()));
            let mut cubes: Vec<Cube> = ternaries(16, &free).map(|t| port(inside, t)).collect();
            for (ports, hosts) in classes(&hosts_of) {
                let elsewhere = complement(bits, &hosts);
                let elsewhere: Vec<_> = ternaries(bits, &elsewhere).collect();
                for p in ternaries(16, &ports) {
                    cubes.extend(elsewhere.iter().map(|a| address(port(inside, p), *a)));
                }
            }
            cubes
        };
        let by_address = {
            let named = merged(ports_of.keys().map(|a| (*a, *a)).collect());
            let unlisted = complement(16, &ranges);
            let others = complement(bits, &named);
            let others: Vec<_> = ternaries(bits, &others).collect();
            let mut cubes = Vec::new();
            for p in ternaries(16, &unlisted) {
                cubes.extend(others.iter().map(|a| address(port(inside, p), *a)));
            }
            for (hosts, ports) in classes(&ports_of) {
                let listed = ports.iter().chain(&ranges).copied().collect();
                let unlisted = complement(16, &merged(listed));
                let unlisted: Vec<_> = ternaries(16, &unlisted).collect();
                for a in ternaries(bits, &hosts) {
                    cubes.extend(unlisted.iter().map(|p| port(address(inside, a), *p)));
                }
            }
            cubes
        };
        let shorter = if by_address.len() < by_port.len() {
            by_address
        } else {
            by_port
        };
        if shorter.len() > MAX_UNION {
            return Err(TooMany);
        }
        out.extend(shorter);
        Ok(())
    }
}

/// Keys that have the same values, as ranges of both.
fn classes(map: &BTreeMap<u128, BTreeSet<u128>>) -> Vec<(Ranges, Ranges)> {
    let mut keys: BTreeMap<&BTreeSet<u128>, Ranges> = BTreeMap::new();
    for (key, values) in map {
        keys.entry(values).or_default().push((*key, *key));
    }
    keys.into_iter()
        .map(|(values, keys)| {
            (
                merged(keys),
                merged(values.iter().map(|v| (*v, *v)).collect()),
            )
        })
        .collect()
}

fn flags(
    family: Family,
    value: u8,
    mask: u8,
    holds: bool,
    out: &mut Vec<Cube>,
) -> Result<(), TooMany> {
    let inside = inside(family, 6);
    if holds {
        out.extend((value & !mask == 0).then(|| Cube {
            tcp_flags: Ternary::<u8>::masked(value, mask),
            ..inside
        }));
        return Ok(());
    }
    outside(family, 6, out)?;
    let bits = (0..8).map(|b| 1u8 << b).filter(|b| mask & b != 0);
    out.extend(bits.map(|bit| Cube {
        tcp_flags: Ternary::<u8>::masked(!value, bit),
        ..inside
    }));
    Ok(())
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

fn icmp_type(
    family: Family,
    ranges: &Ranges,
    holds: bool,
    out: &mut Vec<Cube>,
) -> Result<(), TooMany> {
    let proto = icmp_protocol(family);
    let all = Cube::all(family);
    if !holds {
        protocol(family, &exactly(proto), false, out)?;
        out.push(Cube {
            kind: Ternary::<u8>::masked(2, 3),
            ..all
        });
    }
    let types = wanted(8, ranges, holds)?;
    // Whole and first fragments have kind 0 and 1; an error, whole or not, has kind 3 or 1.
    let errors = icmp_errors(family);
    let others = complement(8, &errors);
    for (part, kind) in [
        (others, HAS_TRANSPORT),
        (errors, Ternary::<u8>::masked(1, 1)),
    ] {
        let types = common(types.clone(), part);
        out.extend(ternaries(8, &types).map(|t| Cube {
            icmp_type: as_u8(t),
            kind,
            proto: Ternary::<u8>::exact(proto),
            ..all
        }));
    }
    Ok(())
}
