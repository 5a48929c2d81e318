//! Sets of packets as decision diagrams, for proofs about criteria: overlap, cover, witness.
//!
//! A packet is a point in a space of header fields ([`Header`]); criteria are unions of ternary
//! boxes in it ([`Cube`]); [`PacketSets`] is the algebra of such sets. Nothing here knows a policy's
//! syntax, services or P4.

mod bdd;
mod cube;

pub use bdd::{Bdds, Set};
pub use cube::{Cube, Family, Header, PacketKind, Ternary, absorb, prefix_mask, range_to_ternary};

/// The algebra of sets of packets. Complements are taken within [`PacketSets::all`].
pub trait PacketSets {
    /// A set of packets.
    type Set: Clone;

    /// No packet.
    fn empty(&self) -> Self::Set;
    /// Every packet of the families this space has, whether or not it can exist.
    fn all(&self) -> Self::Set;
    /// The packets of one box; none if its family is not of this space.
    fn cube(&self, cube: &Cube) -> Self::Set;
    /// The packets of either.
    fn union(&self, a: &Self::Set, b: &Self::Set) -> Self::Set;
    /// The packets of both.
    fn intersect(&self, a: &Self::Set, b: &Self::Set) -> Self::Set;
    /// The packets of `a` that are not of `b`.
    fn minus(&self, a: &Self::Set, b: &Self::Set) -> Self::Set;
    /// Whether there are no packets.
    fn is_empty(&self, a: &Self::Set) -> bool;
    /// Some packet of the set, always the same one; `None` if it is empty.
    fn witness(&self, a: &Self::Set) -> Option<Header>;
    /// The set as disjoint boxes, in a fixed order; `None` if there are more than `limit`.
    fn cubes(&self, a: &Self::Set, limit: usize) -> Option<Vec<Cube>>;

    /// Every packet that is not of `a`.
    fn complement(&self, a: &Self::Set) -> Self::Set {
        self.minus(&self.all(), a)
    }

    /// Whether every packet of `a` is of `b`.
    fn is_subset(&self, a: &Self::Set, b: &Self::Set) -> bool {
        self.is_empty(&self.minus(a, b))
    }

    /// The union of boxes.
    fn union_of(&self, cubes: &[Cube]) -> Self::Set {
        match cubes {
            [] => self.empty(),
            [one] => self.cube(one),
            // Halving keeps both operands of each union small.
            _ => {
                let (left, right) = cubes.split_at(cubes.len() / 2);
                self.union(&self.union_of(left), &self.union_of(right))
            }
        }
    }

    /// A packet of the set that also lies in as many of `wishes` as can be had, earlier ones first.
    fn witness_like(&self, a: &Self::Set, wishes: &[Cube]) -> Option<Header> {
        let mut set = a.clone();
        for wish in wishes {
            let narrower = self.intersect(&set, &self.cube(wish));
            if !self.is_empty(&narrower) {
                set = narrower;
            }
        }
        self.witness(&set)
    }

    /// The packets that can exist: a later fragment has no ports, a UDP datagram no TCP flags.
    fn feasible(&self) -> Self::Set {
        let mut cubes = Vec::new();
        for (family, icmp) in [(Family::V4, 1), (Family::V6, 58)] {
            let zero8 = Ternary::<u8>::exact(0);
            let zero16 = Ternary::<u16>::exact(0);
            let has_l4 = Ternary::<u8>::masked(0, 2);
            let bare = Cube {
                src_port: zero16,
                dst_port: zero16,
                tcp_flags: zero8,
                icmp_type: zero8,
                ..Cube::all(family)
            };
            let proto = |proto, kind| Cube {
                proto: Ternary::<u8>::exact(proto),
                kind,
                ..Cube::all(family)
            };
            cubes.push(Cube {
                kind: Ternary::<u8>::masked(2, 3),
                ..bare
            });
            cubes.push(Cube {
                kind: has_l4,
                ..bare
            });
            cubes.push(Cube {
                icmp_type: zero8,
                ..proto(6, has_l4)
            });
            cubes.push(Cube {
                icmp_type: zero8,
                tcp_flags: zero8,
                ..proto(17, has_l4)
            });
            cubes.push(Cube {
                tcp_flags: zero8,
                ..proto(icmp, has_l4)
            });
            cubes.push(Cube {
                tcp_flags: zero8,
                src_port: zero16,
                dst_port: zero16,
                ..proto(icmp, Ternary::<u8>::masked(3, 3))
            });
        }
        self.union_of(&cubes)
    }
}
