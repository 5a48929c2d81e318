//! Whether a plan's criteria let a service install something: plain cube arithmetic.

use std::net::IpAddr;

use signalbox_lower::plan::{Criterion, Cube, Masked, MaskedAddr};

use crate::flow::{PacketKind, Tuple};

/// Whether some cube of the criteria covers a fixed affinity. What an affinity does not say (ingress port,
/// flags, ICMP type) does not count.
#[must_use]
pub fn covers_flow(criteria: &[Criterion], tuple: &Tuple, kind: PacketKind) -> bool {
    criteria
        .iter()
        .flat_map(|c| &c.cubes)
        .any(|cube| cube_has_flow(cube, tuple, kind))
}

/// Whether one cube covers a fixed affinity.
#[must_use]
pub fn cube_has_flow(cube: &Cube, tuple: &Tuple, kind: PacketKind) -> bool {
    has_addr(cube.src, tuple.src)
        && has_addr(cube.dst, tuple.dst)
        && cube.proto.is_none_or(|m| tuple.proto & m.mask == m.value)
        && cube.sport.is_none_or(|m| tuple.sport & m.mask == m.value)
        && cube.dport.is_none_or(|m| tuple.dport & m.mask == m.value)
        && cube.kind.is_none_or(|m| (kind as u8) & m.mask == m.value)
}

/// What a criterion may say of a packet beyond its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aspect {
    /// The port that it came in by.
    pub in_port: u16,
    /// TCP flags, else 0.
    pub flags: u8,
    /// ICMP type, else 0.
    pub icmp: u8,
    /// Its kind.
    pub kind: PacketKind,
}

/// Whether one cube covers a packet.
#[must_use]
pub fn cube_has_packet(cube: &Cube, tuple: &Tuple, of: &Aspect) -> bool {
    cube_has_flow(cube, tuple, of.kind)
        && cube.in_port.is_none_or(|p| p == of.in_port)
        && cube.flags.is_none_or(|m| of.flags & m.mask == m.value)
        && cube.icmp.is_none_or(|m| of.icmp & m.mask == m.value)
}

/// Whether some cube of the criteria covers all of `inner`. One that only several together cover is
/// not recognised: managers install the plan's own cubes or parts of them.
#[must_use]
pub fn covers_cube(criteria: &[Criterion], inner: &Cube) -> bool {
    criteria
        .iter()
        .flat_map(|c| &c.cubes)
        .any(|outer| cube_covers(outer, inner))
}

fn cube_covers(outer: &Cube, inner: &Cube) -> bool {
    (outer.in_port.is_none() || outer.in_port == inner.in_port)
        && addr_covers(outer.src, inner.src)
        && addr_covers(outer.dst, inner.dst)
        && covers(outer.proto, inner.proto)
        && covers(outer.sport, inner.sport)
        && covers(outer.dport, inner.dport)
        && covers(outer.flags, inner.flags)
        && covers(outer.icmp, inner.icmp)
        && covers(outer.kind, inner.kind)
}

fn covers<T: Copy + Into<u32>>(outer: Option<Masked<T>>, inner: Option<Masked<T>>) -> bool {
    let Some(o) = outer else { return true };
    let (ov, om): (u32, u32) = (o.value.into(), o.mask.into());
    let (iv, im) = inner.map_or((0, 0), |i| (i.value.into(), i.mask.into()));
    om & im == om && iv & om == ov
}

fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

fn has_addr(masked: Option<MaskedAddr>, addr: IpAddr) -> bool {
    masked.is_none_or(|m| {
        m.value.is_ipv4() == addr.is_ipv4() && bits(addr) & bits(m.mask) == bits(m.value)
    })
}

fn addr_covers(outer: Option<MaskedAddr>, inner: Option<MaskedAddr>) -> bool {
    let Some(o) = outer else { return true };
    inner.is_some_and(|i| {
        o.value.is_ipv4() == i.value.is_ipv4()
            && bits(o.mask) & bits(i.mask) == bits(o.mask)
            && bits(i.value) & bits(o.mask) == bits(o.value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(value: [u8; 4], mask: [u8; 4]) -> Option<MaskedAddr> {
        Some(MaskedAddr {
            value: value.into(),
            mask: mask.into(),
        })
    }

    #[test]
    fn a_wider_cube_covers_a_narrower_one_and_not_the_other_way_round() {
        let wide = Cube {
            dst: addr([10, 0, 0, 0], [255, 0, 0, 0]),
            ..Cube::default()
        };
        let narrow = Cube {
            dst: addr([10, 1, 0, 0], [255, 255, 0, 0]),
            dport: Some(Masked {
                value: 80,
                mask: 0xffff,
            }),
            ..Cube::default()
        };
        assert!(cube_covers(&wide, &narrow));
        assert!(!cube_covers(&narrow, &wide));
        assert!(cube_covers(&Cube::default(), &wide));
    }
}
