//! Sets of packets as decision diagrams, for proofs about criteria: overlap, cover, witness.
//!
//! A packet is a point in a space of header fields ([`Header`]); criteria are unions of ternary
//! boxes in it ([`Cube`]). Nothing here knows a policy's syntax, services or P4.

mod cube;

pub use cube::{Cube, Family, Header, PacketKind, Ternary, prefix_mask, range_to_ternary};
