//! Nat services: what they translate, and what follows from it for the packets that come back.
//!
//! The plan takes the reply criteria from here, so that nothing else can be installed for a service,
//! and the checker takes them to find services that would claim one outside tuple.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use signalbox_proofs::{Cube, Family, Ternary, absorb, prefix_mask, range_to_ternary};

use super::{Bounds, Criteria, Fallback, address_bits};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// The kinds of packets that have a transport header: whole ones and first fragments.
const HAS_TRANSPORT: Ternary<u8> = Ternary::<u8>::masked(0, 2);

/// A nat service: it translates the source, the destination or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat {
    /// The flows it translates, in the direction of their first packets.
    pub criteria: Criteria,
    /// What becomes of the source.
    pub source: Option<NatSource>,
    /// What becomes of the destination; with a source too, it is a twice NAT.
    pub destination: Option<NatDestination>,
    /// Where the destination is translated: the addresses that the condition names one by one, ascending,
    /// each once. The service stands for them; those of a prefix belong to somebody else.
    pub destinations: Vec<IpAddr>,
    /// Idle leases.
    pub leases: NatLeases,
    /// How long an outside tuple rests before it is given out again. Default 120 s.
    pub hold_back: Duration,
    /// Outside tuples of one inside address at once. Default without a bound.
    pub per_source: Option<u32>,
    /// Which packets from outside may come in. Default only answers.
    pub inbound: Inbound,
    /// What happens without a manager's answer. Default drop.
    pub fallback: Fallback,
    /// Bounds of new flows.
    pub bounds: Bounds,
}

/// What becomes of a flow's source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NatSource {
    /// A port of one of these addresses.
    Ports {
        /// The outside addresses as ranges of one family, first to last, ascending, disjoint; at least one.
        addresses: Vec<(IpAddr, IpAddr)>,
        /// The lowest port or ICMP identifier that is given out. Default 1024.
        first_port: u16,
        /// The highest. Default 65535.
        last_port: u16,
    },
    /// An address of its own for each inside address; ports stay.
    OneToOne {
        /// Inside and outside prefix of one length and family; disjoint.
        pairs: Vec<(IpNet, IpNet)>,
    },
}

/// What becomes of a flow's destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatDestination {
    /// The new address.
    pub address: IpAddr,
    /// The new port; `None` if it stays.
    pub port: Option<u16>,
}

/// Idle leases of translated flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatLeases {
    /// Default 2 h 4 min (RFC 5382).
    pub tcp_established: Duration,
    /// Default 4 min (RFC 5382).
    pub tcp_transitory: Duration,
    /// Default 5 min (RFC 4787).
    pub udp: Duration,
    /// Default 60 s (RFC 5508).
    pub icmp: Duration,
}

impl Default for NatLeases {
    fn default() -> NatLeases {
        NatLeases {
            tcp_established: Duration::from_secs(7_440),
            tcp_transitory: Duration::from_secs(240),
            udp: Duration::from_secs(300),
            icmp: Duration::from_secs(60),
        }
    }
}

/// Which packets from outside may come in to an outside tuple.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Inbound {
    /// Only answers.
    #[default]
    Answers,
    /// Anybody's, while the tuple is mapped.
    Mapped,
}

impl NatSource {
    /// The outside address that stands for an inside one, one to one.
    pub fn outside_of(&self, inside: IpAddr) -> Option<IpAddr> {
        let (from, to) = self.pairs().find(|(from, _)| from.contains(&inside))?;
        Some(moved(inside, *from, *to))
    }

    /// The inside address that an outside one stands for, one to one.
    pub fn inside_of(&self, outside: IpAddr) -> Option<IpAddr> {
        let (to, from) = self.pairs().find(|(_, from)| from.contains(&outside))?;
        Some(moved(outside, *from, *to))
    }

    fn pairs(&self) -> impl Iterator<Item = &(IpNet, IpNet)> {
        let pairs = match self {
            NatSource::OneToOne { pairs } => pairs.as_slice(),
            NatSource::Ports { .. } => &[],
        };
        pairs.iter()
    }
}

impl Nat {
    /// The replies it translates back, and what else comes in at its outside tuples. Derived for the
    /// plan (reply criteria); none lies in another.
    ///
    /// With a new source: the destination is an outside tuple, of TCP and UDP by port and of ICMP echo
    /// by identifier (RFC 5508), where the condition lets that protocol through; one to one any
    /// protocol. With a new destination: the source is that one. With both: both.
    pub fn reply_cubes(&self) -> Vec<Cube> {
        let cubes = match (&self.source, &self.destination) {
            (Some(source), None) => self.to_outside(source, true),
            (None, Some(destination)) => self.answers_of(destination, None),
            (Some(source), Some(destination)) => {
                let from = self.answers_of(destination, Some(source));
                let to = self.to_outside(source, true);
                to.iter()
                    .flat_map(|a| from.iter().filter_map(|b| a.intersect(b)))
                    .collect()
            }
            (None, None) => Vec::new(),
        };
        absorb(cubes)
    }

    /// Packets from inside to an outside tuple, which is the other end of a hairpin (RFC 4787, section
    /// 6): the reply part must leave them to the forward part. Empty where the condition excludes them,
    /// and where the destination is translated, which leaves no other end inside.
    pub fn hairpin_cubes(&self) -> Vec<Cube> {
        let (Some(source), None) = (&self.source, &self.destination) else {
            return Vec::new();
        };
        // Echo requests to an outside tuple are the agent's, so no echo reply comes to one from inside.
        let outside = self.to_outside(source, false);
        let both = outside.iter().flat_map(|a| {
            let matched = self.criteria.cubes.iter();
            matched.filter_map(|b| a.intersect(b))
        });
        absorb(both.collect())
    }

    /// Whether its manager is asked about packets of [`Nat::reply_cubes`] without an affinity; else they
    /// are dropped. A service that translates the destination only asks: they come from inside, and so
    /// there is nothing to keep closed.
    pub fn asks_about_replies(&self) -> bool {
        match self.source {
            Some(NatSource::Ports { .. }) => self.inbound == Inbound::Mapped,
            Some(NatSource::OneToOne { .. }) | None => true,
        }
    }

    /// Whether echo requests to an address that it stands for are translated, and so not the agent's to
    /// answer: to an outside address that is one host's, or to a destination whose condition lets them
    /// through.
    pub fn translates_echo_to(&self, address: IpAddr) -> bool {
        let family = Family::of(address);
        let (proto, request) = match family {
            Family::V4 => (1, 8),
            Family::V6 => (58, 128),
        };
        let forward = self
            .destination
            .map(|_| self.criteria.cubes.iter().copied());
        let mut cubes = self
            .reply_cubes()
            .into_iter()
            .chain(forward.into_iter().flatten());
        cubes.any(|c| {
            c.family == family
                && c.dst.matches(address_bits(address))
                && c.proto.matches(proto)
                && c.icmp_type.matches(request)
        })
    }

    /// The addresses it stands for, ascending, each once; at most [`super::MAX_ADDRESSES`] if checked.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let ranges = self.outside_ranges();
        let outside = ranges.iter().flat_map(|(first, last)| {
            let family = Family::of(*first);
            let bits = address_bits(*first)..=address_bits(*last);
            bits.map(move |b| family.address(b))
        });
        let mut all: Vec<IpAddr> = outside.chain(self.destinations.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether it stands for the address.
    pub fn owns(&self, address: IpAddr) -> bool {
        let bits = address_bits(address);
        let outside = self.outside_ranges().into_iter().any(|(first, last)| {
            first.is_ipv4() == address.is_ipv4()
                && (address_bits(first)..=address_bits(last)).contains(&bits)
        });
        outside || self.destinations.binary_search(&address).is_ok()
    }

    /// The outside addresses, first to last each, in the order of the policy.
    pub fn outside_ranges(&self) -> Vec<(IpAddr, IpAddr)> {
        match &self.source {
            None => Vec::new(),
            Some(NatSource::Ports { addresses, .. }) => addresses.clone(),
            Some(NatSource::OneToOne { pairs }) => pairs
                .iter()
                .map(|(_, outside)| (outside.network(), last_of(*outside)))
                .collect(),
        }
    }

    /// Packets to the outside tuples of a source; `echo` says whether those of ICMP are among them.
    fn to_outside(&self, source: &NatSource, echo: bool) -> Vec<Cube> {
        match source {
            NatSource::OneToOne { pairs } => pairs
                .iter()
                .map(|(_, outside)| to_prefix(*outside))
                .collect(),
            NatSource::Ports {
                addresses,
                first_port,
                last_port,
            } => {
                let ports = range_to_ternary(16, (*first_port).into(), (*last_port).into());
                let mut out = Vec::new();
                for (first, last) in addresses {
                    let family = Family::of(*first);
                    let protocols = [
                        (TCP, Ternary::<u8>::ANY),
                        (UDP, Ternary::<u8>::ANY),
                        (echo_protocol(family), echo_reply(family)),
                    ];
                    let wanted = protocols.iter().filter(|(proto, icmp)| {
                        (echo || icmp.is_any()) && self.lets_through(family, *proto)
                    });
                    let prefixes =
                        range_to_ternary(family.bits(), address_bits(*first), address_bits(*last));
                    for (proto, icmp_type) in wanted {
                        for dst in &prefixes {
                            out.extend(ports.iter().map(|port| Cube {
                                dst: *dst,
                                proto: Ternary::<u8>::exact(*proto),
                                kind: HAS_TRANSPORT,
                                dst_port: narrow(*port),
                                icmp_type: *icmp_type,
                                ..Cube::all(family)
                            }));
                        }
                    }
                }
                out
            }
        }
    }

    /// Packets from the new destination that answer what the condition lets through. What the source
    /// is translated to is left open here, but for ports that stay.
    fn answers_of(&self, to: &NatDestination, source: Option<&NatSource>) -> Vec<Cube> {
        let family = Family::of(to.address);
        let mut out = Vec::new();
        for cube in self.criteria.cubes.iter().filter(|c| c.family == family) {
            let request = Ternary::<u8>::exact(if family == Family::V4 { 8 } else { 128 });
            let icmp_type = match cube.icmp_type {
                any if any.is_any() => any,
                kind if kind.intersect(request).is_some() => echo_reply(family),
                // Of ICMP only echo has anything by which an answer is known.
                _ => continue,
            };
            let answer = Cube {
                src: Ternary::<u128>::masked(address_bits(to.address), family.full_mask()),
                dst: match source {
                    None => cube.src,
                    Some(_) => Ternary::<u128>::ANY,
                },
                proto: cube.proto,
                kind: cube.kind,
                src_port: cube.dst_port,
                dst_port: match source {
                    Some(NatSource::Ports { .. }) => Ternary::<u16>::ANY,
                    None | Some(NatSource::OneToOne { .. }) => cube.src_port,
                },
                icmp_type,
                ..Cube::all(family)
            };
            match to.port {
                None => out.push(answer),
                Some(port) => {
                    let protocols = [TCP, UDP].into_iter();
                    out.extend(
                        protocols
                            .filter(|p| cube.proto.matches(*p))
                            .map(|proto| Cube {
                                proto: Ternary::<u8>::exact(proto),
                                kind: HAS_TRANSPORT,
                                src_port: Ternary::<u16>::exact(port),
                                ..answer
                            }),
                    );
                }
            }
        }
        out
    }

    fn lets_through(&self, family: Family, proto: u8) -> bool {
        let mut cubes = self.criteria.cubes.iter();
        cubes.any(|c| c.family == family && c.proto.matches(proto))
    }
}

/// The address at the same place of another prefix of the same length.
fn moved(address: IpAddr, from: IpNet, to: IpNet) -> IpAddr {
    let place = address_bits(address).wrapping_sub(address_bits(from.network()));
    let family = Family::of(to.addr());
    family.address(address_bits(to.network()).wrapping_add(place))
}

/// The last address of a prefix.
fn last_of(net: IpNet) -> IpAddr {
    let family = Family::of(net.addr());
    let host = family.full_mask() & !prefix_mask(family.bits(), net.prefix_len().into());
    family.address(address_bits(net.network()) | host)
}

fn to_prefix(net: IpNet) -> Cube {
    let family = Family::of(net.addr());
    let mask = prefix_mask(family.bits(), net.prefix_len().into());
    Cube {
        dst: Ternary::<u128>::masked(address_bits(net.network()), mask),
        ..Cube::all(family)
    }
}

fn echo_protocol(family: Family) -> u8 {
    match family {
        Family::V4 => 1,
        Family::V6 => 58,
    }
}

fn echo_reply(family: Family) -> Ternary<u8> {
    Ternary::<u8>::exact(match family {
        Family::V4 => 0,
        Family::V6 => 129,
    })
}

fn narrow(port: Ternary<u128>) -> Ternary<u16> {
    Ternary::<u16>::masked(port.value as u16, port.mask as u16)
}
