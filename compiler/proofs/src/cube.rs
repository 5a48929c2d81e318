//! The fields that criteria can match, as a concrete point and as a ternary box.
//!
//! Addresses of both families are held in 128 bits; an IPv4 address stands in the low 32, and
//! [`Family`] says which of the two a point or box is about. A field that a packet does not have
//! (ports of an ICMP message, TCP flags of a UDP datagram) reads as zero.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Internet protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4; addresses use the low 32 bits.
    V4,
    /// IPv6; addresses use all 128 bits.
    V6,
}

impl Family {
    /// The number of bits of an address: 32 or 128.
    pub fn bits(self) -> u32 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// The mask of a whole address, right aligned.
    pub fn full_mask(self) -> u128 {
        match self {
            Family::V4 => u32::MAX as u128,
            Family::V6 => u128::MAX,
        }
    }

    /// The family of an address.
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The address that these right-aligned bits stand for; of IPv4 only the low 32 bits count.
    pub fn address(self, bits: u128) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(bits as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(bits)),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// What a packet is to the stages: criteria match it, else a later fragment's payload or a quoted
/// tuple could match a port range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum PacketKind {
    /// Not a fragment, and not an ICMP error.
    Whole = 0,
    /// The first fragment of several: it has the transport header.
    FirstFragment = 1,
    /// A later fragment: it has no transport header.
    LaterFragment = 2,
    /// An ICMP error message that quotes another packet.
    IcmpError = 3,
}

/// A value and the bits of it that matter. Bits outside the mask are always zero in the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ternary<T> {
    /// The bits to be equal, zero outside the mask.
    pub value: T,
    /// Ones where the bit matters; zero matches everything.
    pub mask: T,
}

macro_rules! ternary {
    ($($t:ty),*) => {$(
        impl Ternary<$t> {
            /// Matches every value.
            pub const ANY: Self = Self { value: 0, mask: 0 };

            /// Matches one value only.
            pub const fn exact(value: $t) -> Self {
                Self { value, mask: <$t>::MAX }
            }

            /// Matches where `mask` is one; bits of `value` outside it are dropped.
            pub const fn masked(value: $t, mask: $t) -> Self {
                Self { value: value & mask, mask }
            }

            /// Whether no bit matters.
            pub const fn is_any(&self) -> bool {
                self.mask == 0
            }

            /// What both match, `None` if nothing does.
            pub const fn intersect(self, other: Self) -> Option<Self> {
                if (self.value ^ other.value) & self.mask & other.mask != 0 {
                    return None;
                }
                Some(Self { value: self.value | other.value, mask: self.mask | other.mask })
            }

            /// Whether `value` matches.
            pub const fn matches(&self, value: $t) -> bool {
                value & self.mask == self.value
            }
        }
    )*};
}
ternary!(u8, u16, u128);

/// One packet as criteria see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Header {
    /// IPv4 or IPv6.
    pub family: Family,
    /// The ingress port's number, 9 bits.
    pub in_port: u16,
    /// Source address, right aligned.
    pub src: u128,
    /// Destination address, right aligned.
    pub dst: u128,
    /// IP protocol, or IPv6 upper-layer protocol after extension headers.
    pub proto: u8,
    /// Whole, fragment or ICMP error.
    pub kind: PacketKind,
    /// TCP or UDP source port; the identifier of an ICMP echo request.
    pub src_port: u16,
    /// TCP or UDP destination port; the identifier of an ICMP echo reply.
    pub dst_port: u16,
    /// TCP flags, CWR ECE URG ACK PSH RST SYN FIN from the highest bit.
    pub tcp_flags: u8,
    /// ICMP or ICMPv6 type.
    pub icmp_type: u8,
}

/// A box of packets of one family: every field ternary.
///
/// A cube that matches a transport field also pins `proto` (and, where it matters, `kind`), so
/// that it can be installed as a table entry as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cube {
    /// IPv4 or IPv6.
    pub family: Family,
    /// Ingress port; 9 bits, the mask is within 0x1ff.
    pub in_port: Ternary<u16>,
    /// Source address, right aligned; for IPv4 the mask is within the low 32 bits.
    pub src: Ternary<u128>,
    /// Destination address, right aligned; for IPv4 the mask is within the low 32 bits.
    pub dst: Ternary<u128>,
    /// IP protocol.
    pub proto: Ternary<u8>,
    /// [`PacketKind`] as a number; the mask is within 0x3.
    pub kind: Ternary<u8>,
    /// TCP or UDP source port.
    pub src_port: Ternary<u16>,
    /// TCP or UDP destination port.
    pub dst_port: Ternary<u16>,
    /// TCP flags.
    pub tcp_flags: Ternary<u8>,
    /// ICMP type.
    pub icmp_type: Ternary<u8>,
}

impl Cube {
    /// The box of all packets of a family.
    pub const fn all(family: Family) -> Cube {
        Cube {
            family,
            in_port: Ternary::<u16>::ANY,
            src: Ternary::<u128>::ANY,
            dst: Ternary::<u128>::ANY,
            proto: Ternary::<u8>::ANY,
            kind: Ternary::<u8>::ANY,
            src_port: Ternary::<u16>::ANY,
            dst_port: Ternary::<u16>::ANY,
            tcp_flags: Ternary::<u8>::ANY,
            icmp_type: Ternary::<u8>::ANY,
        }
    }

    /// Whether the packet lies in the box.
    pub fn matches(&self, h: &Header) -> bool {
        self.family == h.family
            && self.in_port.matches(h.in_port)
            && self.src.matches(h.src)
            && self.dst.matches(h.dst)
            && self.proto.matches(h.proto)
            && self.kind.matches(h.kind as u8)
            && self.src_port.matches(h.src_port)
            && self.dst_port.matches(h.dst_port)
            && self.tcp_flags.matches(h.tcp_flags)
            && self.icmp_type.matches(h.icmp_type)
    }

    /// The packets of both boxes, `None` if there are none.
    pub fn intersect(&self, other: &Cube) -> Option<Cube> {
        if self.family != other.family {
            return None;
        }
        Some(Cube {
            family: self.family,
            in_port: self.in_port.intersect(other.in_port)?,
            src: self.src.intersect(other.src)?,
            dst: self.dst.intersect(other.dst)?,
            proto: self.proto.intersect(other.proto)?,
            kind: self.kind.intersect(other.kind)?,
            src_port: self.src_port.intersect(other.src_port)?,
            dst_port: self.dst_port.intersect(other.dst_port)?,
            tcp_flags: self.tcp_flags.intersect(other.tcp_flags)?,
            icmp_type: self.icmp_type.intersect(other.icmp_type)?,
        })
    }

    /// Whether every packet of `other` lies in this box.
    pub fn covers(&self, other: &Cube) -> bool {
        self.intersect(other).as_ref() == Some(other)
    }

    /// Each field's mask as a value that is looked at whole.
    fn masks(&self) -> Cube {
        Cube {
            family: self.family,
            in_port: Ternary::<u16>::exact(self.in_port.mask),
            src: Ternary::<u128>::exact(self.src.mask),
            dst: Ternary::<u128>::exact(self.dst.mask),
            proto: Ternary::<u8>::exact(self.proto.mask),
            kind: Ternary::<u8>::exact(self.kind.mask),
            src_port: Ternary::<u16>::exact(self.src_port.mask),
            dst_port: Ternary::<u16>::exact(self.dst_port.mask),
            tcp_flags: Ternary::<u8>::exact(self.tcp_flags.mask),
            icmp_type: Ternary::<u8>::exact(self.icmp_type.mask),
        }
    }

    /// Of two results of [`Cube::masks`]: whether this looks at no bit that the other does not.
    fn within(&self, other: &Cube) -> bool {
        self.family == other.family
            && self.in_port.value & !other.in_port.value == 0
            && self.src.value & !other.src.value == 0
            && self.dst.value & !other.dst.value == 0
            && self.proto.value & !other.proto.value == 0
            && self.kind.value & !other.kind.value == 0
            && self.src_port.value & !other.src_port.value == 0
            && self.dst_port.value & !other.dst_port.value == 0
            && self.tcp_flags.value & !other.tcp_flags.value == 0
            && self.icmp_type.value & !other.icmp_type.value == 0
    }

    /// The box with these masks, a result of [`Cube::masks`], around this box.
    fn under(&self, masks: &Cube) -> Cube {
        let wide16 = |t: Ternary<u16>, m: Ternary<u16>| Ternary::<u16>::masked(t.value, m.value);
        let wide128 =
            |t: Ternary<u128>, m: Ternary<u128>| Ternary::<u128>::masked(t.value, m.value);
        let wide8 = |t: Ternary<u8>, m: Ternary<u8>| Ternary::<u8>::masked(t.value, m.value);
        Cube {
            family: self.family,
            in_port: wide16(self.in_port, masks.in_port),
            src: wide128(self.src, masks.src),
            dst: wide128(self.dst, masks.dst),
            proto: wide8(self.proto, masks.proto),
            kind: wide8(self.kind, masks.kind),
            src_port: wide16(self.src_port, masks.src_port),
            dst_port: wide16(self.dst_port, masks.dst_port),
            tcp_flags: wide8(self.tcp_flags, masks.tcp_flags),
            icmp_type: wide8(self.icmp_type, masks.icmp_type),
        }
    }
}

/// The mask of a prefix in a field of `bits` bits, right aligned.
pub fn prefix_mask(bits: u32, length: u32) -> u128 {
    let length = length.min(bits);
    let all = if bits >= 128 {
        u128::MAX
    } else {
        (1u128 << bits) - 1
    };
    let low = bits - length;
    if low >= 128 { 0 } else { all >> low << low }
}

/// Splits an inclusive range of a field of `bits` bits into the fewest prefixes, ascending.
/// An empty range (`low > high`) gives none.
pub fn range_to_ternary(bits: u32, low: u128, high: u128) -> Vec<Ternary<u128>> {
    let mut out = Vec::new();
    let mut at = low;
    while at <= high {
        let mut free = at.trailing_zeros().min(bits);
        // The largest aligned block that starts here and does not pass the end.
        while free > 0 && block_end(at, free) > high {
            free -= 1;
        }
        out.push(Ternary::<u128>::masked(at, prefix_mask(bits, bits - free)));
        match block_end(at, free).checked_add(1) {
            Some(next) => at = next,
            None => break,
        }
    }
    out
}

/// Makes a union of boxes shorter without changing it: drops boxes that another covers, keeping the
/// order of the rest.
///
/// A box covers another if its masks are part of the other's, and the other's values under its masks
/// are its own. So boxes of equal masks are held in one set, and each box is looked up, cut down to
/// every smaller group of masks: the work grows with boxes times groups, and groups are few.
pub fn absorb(mut cubes: Vec<Cube>) -> Vec<Cube> {
    let mut seen = HashSet::with_capacity(cubes.len());
    cubes.retain(|cube| seen.insert(*cube));
    let groups: HashSet<Cube> = cubes.iter().map(Cube::masks).collect();
    let mut wider: HashMap<Cube, Vec<Cube>> = HashMap::with_capacity(groups.len());
    for masks in &groups {
        let parts = groups.iter().filter(|g| *g != masks && g.within(masks));
        wider.insert(*masks, parts.copied().collect());
    }
    cubes.retain(|cube| {
        let wider = wider.get(&cube.masks()).map_or(&[][..], Vec::as_slice);
        !wider.iter().any(|masks| seen.contains(&cube.under(masks)))
    });
    cubes
}

fn block_end(start: u128, free: u32) -> u128 {
    if free >= 128 {
        u128::MAX
    } else {
        start | ((1u128 << free) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_becomes_the_fewest_prefixes() {
        let split = |low, high| {
            range_to_ternary(16, low, high)
                .iter()
                .map(|t| (t.value, t.mask))
                .collect::<Vec<_>>()
        };
        assert_eq!(split(80, 80), [(80, 0xffff)]);
        assert_eq!(split(0, 65535), [(0, 0)]);
        assert_eq!(split(1024, 65535).len(), 6);
        assert_eq!(split(1, 65534).len(), 30);
        assert_eq!(split(5, 4), []);
    }

    #[test]
    fn a_range_to_the_very_end_of_an_ipv6_address_ends() {
        let last = range_to_ternary(128, u128::MAX - 1, u128::MAX);
        assert_eq!(
            last,
            [Ternary::<u128>::masked(u128::MAX - 1, u128::MAX - 1)]
        );
        assert_eq!(range_to_ternary(128, 0, u128::MAX), [Ternary::<u128>::ANY]);
    }

    #[test]
    fn a_covered_box_is_absorbed_wherever_it_stands() {
        let all = Cube::all(Family::V4);
        let tcp = Cube {
            proto: Ternary::<u8>::exact(6),
            ..all
        };
        let web = Cube {
            dst_port: Ternary::<u16>::exact(80),
            ..tcp
        };
        assert_eq!(absorb(vec![web, tcp, web]), [tcp]);
        let udp = Cube {
            proto: Ternary::<u8>::exact(17),
            ..all
        };
        assert_eq!(absorb(vec![web, udp, web, tcp, udp]), [udp, tcp]);
        assert_eq!(absorb(vec![web, all, tcp]), [all]);
        assert!(tcp.covers(&web) && !web.covers(&tcp));
        assert_eq!(Cube::all(Family::V6).intersect(&tcp), None);
    }
}
