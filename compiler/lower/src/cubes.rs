//! Boxes of packets as ternary entries.
//!
//! In a dual-stack program both families share the address keys, an IPv4 address as ::ffff:a.b.c.d. A
//! box of IPv6 packets whose addresses are free would take in the IPv4 packets too, so it is cut into
//! boxes that leave the mapped prefix out; a pair of boxes that differ only in family becomes one.

use std::net::IpAddr;

use signalbox_policy::model::{self, Families, Family};

use crate::plan::{Cube, Masked, MaskedAddr};

/// The prefix of mapped addresses, and its mask: the upper 96 bits.
const MAPPED: u128 = 0xffff << 32;
const MAPPED_MASK: u128 = !0 << 32;

/// The entries that match what the boxes match.
#[must_use]
pub fn entries(cubes: &[model::Cube], families: Families) -> Vec<Cube> {
    let mut out = Vec::new();
    for cube in cubes {
        match (families, cube.family) {
            (Families::V4, Family::V4) => out.push(entry(cube, None)),
            (Families::V4, Family::V6) => {} // no such packet gets to a stage
            (Families::Dual, family) => {
                let twin = |family| model::Cube { family, ..*cube };
                let free = cube.src.is_any() && cube.dst.is_any();
                if free && family == Family::V4 && cubes.contains(&twin(Family::V6)) {
                    out.push(entry(cube, None));
                } else if free && family == Family::V6 && cubes.contains(&twin(Family::V4)) {
                    // Its twin stands for both.
                } else if family == Family::V4 {
                    // Any address at all still has to be an IPv4 one.
                    let src = free.then(|| masked(Family::V4, 0, 0));
                    out.push(entry(cube, src));
                } else {
                    out.extend(without_mapped(cube));
                }
            }
        }
    }
    out
}

/// The entries of an IPv6 box that leave out every packet with mapped addresses.
fn without_mapped(cube: &model::Cube) -> Vec<Cube> {
    let overlaps = |value: u128, mask: u128| (MAPPED ^ value) & mask & MAPPED_MASK == 0;
    if !overlaps(cube.src.value, cube.src.mask) || !overlaps(cube.dst.value, cube.dst.mask) {
        return vec![entry(cube, None)];
    }
    // One entry for each free bit of the upper 96: this bit differs from the mapped prefix's, the free
    // bits above it do not.
    let mut out = Vec::new();
    let (mut value, mut mask) = (cube.src.value, cube.src.mask);
    for bit in (32..128).rev().map(|i| 1u128 << i) {
        if mask & bit == 0 {
            let src = masked(Family::V6, value | (!MAPPED & bit), mask | bit);
            out.push(entry(cube, Some(src)));
            value |= MAPPED & bit;
            mask |= bit;
        }
    }
    out
}

fn entry(cube: &model::Cube, src: Option<MaskedAddr>) -> Cube {
    let address =
        |t: model::Ternary<u128>| (!t.is_any()).then(|| masked(cube.family, t.value, t.mask));
    let wide = |t: model::Ternary<u16>| {
        (!t.is_any()).then_some(Masked {
            value: t.value,
            mask: t.mask,
        })
    };
    let narrow = |t: model::Ternary<u8>| {
        (!t.is_any()).then_some(Masked {
            value: t.value,
            mask: t.mask,
        })
    };
    Cube {
        in_port: (!cube.in_port.is_any()).then_some(cube.in_port.value),
        src: src.or_else(|| address(cube.src)),
        dst: address(cube.dst),
        proto: narrow(cube.proto),
        sport: wide(cube.src_port),
        dport: wide(cube.dst_port),
        flags: narrow(cube.tcp_flags),
        icmp: narrow(cube.icmp_type),
        kind: narrow(cube.kind),
    }
}

fn masked(family: Family, value: u128, mask: u128) -> MaskedAddr {
    MaskedAddr {
        value: family.address(value),
        mask: family.address(mask),
    }
}

/// An address in the width of a program's address keys.
#[must_use]
pub fn widen(address: IpAddr, address_bits: u16) -> u128 {
    match address {
        IpAddr::V4(a) if address_bits == 32 => u128::from(u32::from(a)),
        IpAddr::V4(a) => MAPPED | u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

/// A mask of an address in the width of a program's address keys: of a mapped address the prefix
/// counts, so that a mask of zero still tells the families apart.
#[must_use]
pub fn widen_mask(mask: IpAddr, address_bits: u16) -> u128 {
    match mask {
        IpAddr::V4(m) if address_bits == 32 => u128::from(u32::from(m)),
        IpAddr::V4(m) => MAPPED_MASK | u128::from(u32::from(m)),
        IpAddr::V6(m) => u128::from(m),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_policy::model::Ternary;

    fn hits(cubes: &[Cube], src: IpAddr, dst: IpAddr) -> usize {
        let fits = |m: Option<MaskedAddr>, a| {
            m.is_none_or(|m| {
                let mask = widen_mask(m.mask, 128);
                widen(a, 128) & mask == widen(m.value, 128) & mask
            })
        };
        cubes
            .iter()
            .filter(|c| fits(c.src, src) && fits(c.dst, dst))
            .count()
    }

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    #[test]
    fn an_ipv6_box_with_free_addresses_takes_in_no_ipv4_packet() {
        let mut cube = model::Cube::all(Family::V6);
        cube.proto = Ternary::<u8>::exact(6);
        let got = entries(&[cube], Families::Dual);
        assert_eq!(got.len(), 96);
        assert_eq!(hits(&got, ip("10.0.0.1"), ip("10.0.0.2")), 0);
        for src in [
            "2001:db8::1",
            "::1",
            "fe80::1",
            "::fffe:0:1",
            "0:0:0:1:0:ffff:102:304",
        ] {
            assert_eq!(hits(&got, ip(src), ip("2001:db8::2")), 1, "{src}");
        }
    }

    #[test]
    fn an_ipv6_box_with_a_real_address_is_one_entry() {
        let mut cube = model::Cube::all(Family::V6);
        cube.dst = Ternary::<u128>::exact(model::address_bits(ip("2001:db8::5")));
        assert_eq!(entries(&[cube], Families::Dual).len(), 1);
    }

    #[test]
    fn boxes_that_differ_only_in_family_become_one_entry() {
        let both = [model::Cube::all(Family::V4), model::Cube::all(Family::V6)];
        assert_eq!(entries(&both, Families::Dual), vec![Cube::default()]);
        assert_eq!(entries(&both, Families::V4), vec![Cube::default()]);
    }

    #[test]
    fn an_ipv4_box_with_free_addresses_takes_in_no_ipv6_packet() {
        let got = entries(&[model::Cube::all(Family::V4)], Families::Dual);
        assert_eq!(hits(&got, ip("10.0.0.1"), ip("10.0.0.2")), 1);
        assert_eq!(hits(&got, ip("2001:db8::1"), ip("2001:db8::2")), 0);
    }
}
