//! Packet sets as binary decision diagrams over the bits of the header fields, one diagram a family.
//!
//! Bits of a field are ordered from the highest, so that a prefix is a path; the fields that guard
//! others (kind, protocol) stand first, which keeps diagrams and their path covers small.

use biodivine_lib_bdd::{Bdd, BddPartialValuation, BddVariable, BddVariableSet};

use crate::{Cube, Family, Header, PacketKind, PacketSets, Ternary};

/// The space of packets of one or both families, and the operations on its sets.
#[derive(Debug)]
pub struct Bdds {
    v4: Space,
    v6: Space,
    families: Vec<Family>,
}

/// A set of packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    v4: Bdd,
    v6: Bdd,
}

#[derive(Debug)]
struct Space {
    family: Family,
    variables: BddVariableSet,
    names: Vec<BddVariable>,
}

/// A field's bits, as right-aligned value and mask.
type Field = (u32, u128, u128);

fn fields(cube: &Cube) -> [Field; 9] {
    let bits = cube.family.bits();
    let wide8 = |t: Ternary<u8>| (t.value as u128, t.mask as u128);
    let wide16 = |t: Ternary<u16>| (t.value as u128, t.mask as u128);
    let field = |bits, (value, mask)| (bits, value, mask);
    [
        field(2, wide8(cube.kind)),
        field(8, wide8(cube.proto)),
        field(9, wide16(cube.in_port)),
        field(bits, (cube.dst.value, cube.dst.mask)),
        field(16, wide16(cube.dst_port)),
        field(bits, (cube.src.value, cube.src.mask)),
        field(16, wide16(cube.src_port)),
        field(8, wide8(cube.tcp_flags)),
        field(8, wide8(cube.icmp_type)),
    ]
}

impl Space {
    fn new(family: Family) -> Space {
        let bits: u32 = fields(&Cube::all(family)).iter().map(|f| f.0).sum();
        let variables = BddVariableSet::new_anonymous(bits as u16);
        let names = variables.variables();
        Space {
            family,
            variables,
            names,
        }
    }

    fn cube(&self, cube: &Cube) -> Bdd {
        let mut clause = BddPartialValuation::empty();
        let mut names = self.names.iter();
        for (bits, value, mask) in fields(cube) {
            for (bit, name) in (0..bits).rev().zip(&mut names) {
                if mask >> bit & 1 == 1 {
                    clause.set_value(*name, value >> bit & 1 == 1);
                }
            }
        }
        self.variables.mk_conjunctive_clause(&clause)
    }

    /// The box of a path: `bit` tells each variable's value, `None` where it does not matter.
    fn read(&self, bit: impl Fn(BddVariable) -> Option<bool>) -> Cube {
        let mut names = self.names.iter();
        let mut read = |bits: u32| {
            let (mut value, mut mask) = (0u128, 0u128);
            for (_, name) in (0..bits).zip(&mut names) {
                value <<= 1;
                mask <<= 1;
                if let Some(one) = bit(*name) {
                    mask |= 1;
                    value |= one as u128;
                }
            }
            (value, mask)
        };
        let narrow8 = |(v, m): (u128, u128)| Ternary::<u8>::masked(v as u8, m as u8);
        let narrow16 = |(v, m): (u128, u128)| Ternary::<u16>::masked(v as u16, m as u16);
        let wide = |(v, m): (u128, u128)| Ternary::<u128>::masked(v, m);
        let bits = self.family.bits();
        // The order is that of `fields`.
        Cube {
            family: self.family,
            kind: narrow8(read(2)),
            proto: narrow8(read(8)),
            in_port: narrow16(read(9)),
            dst: wide(read(bits)),
            dst_port: narrow16(read(16)),
            src: wide(read(bits)),
            src_port: narrow16(read(16)),
            tcp_flags: narrow8(read(8)),
            icmp_type: narrow8(read(8)),
        }
    }

    fn witness(&self, set: &Bdd) -> Option<Header> {
        let values = set.first_valuation()?;
        let point = self.read(|v| Some(values.value(v)));
        Some(Header {
            family: self.family,
            in_port: point.in_port.value,
            src: point.src.value,
            dst: point.dst.value,
            proto: point.proto.value,
            kind: match point.kind.value {
                0 => PacketKind::Whole,
                1 => PacketKind::FirstFragment,
                2 => PacketKind::LaterFragment,
                _ => PacketKind::IcmpError,
            },
            src_port: point.src_port.value,
            dst_port: point.dst_port.value,
            tcp_flags: point.tcp_flags.value,
            icmp_type: point.icmp_type.value,
        })
    }
}

impl Bdds {
    /// The space of these families' packets.
    pub fn new(families: &[Family]) -> Bdds {
        Bdds {
            v4: Space::new(Family::V4),
            v6: Space::new(Family::V6),
            families: families.to_vec(),
        }
    }

    fn constant(&self, space: &Space, value: bool) -> Bdd {
        if value && self.families.contains(&space.family) {
            space.variables.mk_true()
        } else {
            space.variables.mk_false()
        }
    }
}

impl PacketSets for Bdds {
    type Set = Set;

    fn empty(&self) -> Set {
        Set {
            v4: self.constant(&self.v4, false),
            v6: self.constant(&self.v6, false),
        }
    }

    fn all(&self) -> Set {
        Set {
            v4: self.constant(&self.v4, true),
            v6: self.constant(&self.v6, true),
        }
    }

    fn cube(&self, cube: &Cube) -> Set {
        let mut set = self.empty();
        if self.families.contains(&cube.family) {
            match cube.family {
                Family::V4 => set.v4 = self.v4.cube(cube),
                Family::V6 => set.v6 = self.v6.cube(cube),
            }
        }
        set
    }

    fn union(&self, a: &Set, b: &Set) -> Set {
        Set {
            v4: a.v4.or(&b.v4),
            v6: a.v6.or(&b.v6),
        }
    }

    fn intersect(&self, a: &Set, b: &Set) -> Set {
        Set {
            v4: a.v4.and(&b.v4),
            v6: a.v6.and(&b.v6),
        }
    }

    fn minus(&self, a: &Set, b: &Set) -> Set {
        Set {
            v4: a.v4.and_not(&b.v4),
            v6: a.v6.and_not(&b.v6),
        }
    }

    fn is_empty(&self, a: &Set) -> bool {
        a.v4.is_false() && a.v6.is_false()
    }

    fn witness(&self, a: &Set) -> Option<Header> {
        self.v4.witness(&a.v4).or_else(|| self.v6.witness(&a.v6))
    }

    fn cubes(&self, a: &Set, limit: usize) -> Option<Vec<Cube>> {
        let mut out = Vec::new();
        for (space, set) in [(&self.v4, &a.v4), (&self.v6, &a.v6)] {
            for path in set.sat_clauses() {
                if out.len() >= limit {
                    return None;
                }
                out.push(space.read(|v| path.get_value(v)));
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp_port(port: u16) -> Cube {
        Cube {
            proto: Ternary::<u8>::exact(6),
            dst_port: Ternary::<u16>::exact(port),
            ..Cube::all(Family::V4)
        }
    }

    #[test]
    fn a_set_and_its_complement_share_nothing_and_leave_nothing_out() {
        let sets = Bdds::new(&[Family::V4]);
        let web = sets.union_of(&[tcp_port(80), tcp_port(443)]);
        let rest = sets.complement(&web);
        assert!(sets.is_empty(&sets.intersect(&web, &rest)));
        assert_eq!(sets.union(&web, &rest), sets.all());
        assert!(sets.is_subset(&sets.cube(&tcp_port(80)), &web));
        assert!(!sets.is_subset(&web, &sets.cube(&tcp_port(80))));
    }

    #[test]
    fn a_witness_lies_in_its_set_and_follows_wishes_where_it_can() {
        let sets = Bdds::new(&[Family::V4, Family::V6]);
        let web = sets.union_of(&[tcp_port(80), tcp_port(443)]);
        let wish = Cube {
            src: Ternary::<u128>::exact(7),
            ..Cube::all(Family::V4)
        };
        let wishes = [tcp_port(22), wish, tcp_port(443)];
        let packet = sets.witness_like(&web, &wishes).unwrap();
        assert_eq!((packet.src, packet.dst_port, packet.proto), (7, 443, 6));
        assert!(sets.witness(&sets.empty()).is_none());
    }

    #[test]
    fn a_path_cover_is_the_set_again() {
        let sets = Bdds::new(&[Family::V4, Family::V6]);
        let not_web = sets.complement(&sets.cube(&tcp_port(80)));
        let cubes = sets.cubes(&not_web, 100).unwrap();
        assert_eq!(sets.union_of(&cubes), not_web);
        assert_eq!(sets.cubes(&not_web, 3), None);
    }

    #[test]
    fn the_other_family_is_outside_a_space_of_one() {
        let sets = Bdds::new(&[Family::V4]);
        assert!(sets.is_empty(&sets.cube(&Cube::all(Family::V6))));
        assert_eq!(sets.witness(&sets.feasible()).unwrap().family, Family::V4);
    }

    #[test]
    fn no_feasible_datagram_has_tcp_flags() {
        let sets = Bdds::new(&[Family::V4, Family::V6]);
        let odd = Cube {
            proto: Ternary::<u8>::exact(17),
            tcp_flags: Ternary::<u8>::masked(2, 2),
            ..Cube::all(Family::V6)
        };
        assert!(sets.is_empty(&sets.intersect(&sets.feasible(), &sets.cube(&odd))));
    }
}
