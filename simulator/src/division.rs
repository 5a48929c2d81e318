//! How the services of a story are divided: between two managers of each, by a bit of the address that its flows
//! come from. It says who has what; what that means for agents and managers is in the plan.

use std::net::{IpAddr, Ipv4Addr};

use signalbox_lower::plan::MaskedAddr;

use crate::random::Random;

/// The bits that clients, and hosts inside, are told apart by.
const CUTS: [(u32, u32); 2] = [(1, 1), (2, 0x100)];
/// The first of the outside addresses.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 100);

/// Who has which share of each service. Its managers are the first one and the second one, each with a backup
/// or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Division {
    /// One of them has all.
    Whole(usize),
    /// Each has a half: share 0 the addresses that do not have the bit, share 1 those that do.
    Halves {
        /// Which bit.
        cut: usize,
        /// Who has share 0.
        first: usize,
    },
}

impl Division {
    /// Any.
    pub fn any(random: &mut Random) -> Self {
        match random.below(3) {
            0 => Self::Whole(random.below(2)),
            _ => Self::halves(random),
        }
    }

    /// Any in halves.
    pub fn halves(random: &mut Random) -> Self {
        Self::Halves {
            cut: random.below(CUTS.len()),
            first: random.below(2),
        }
    }

    /// How many shares there are.
    #[must_use]
    pub fn shares(self) -> u32 {
        match self {
            Self::Whole(_) => 1,
            Self::Halves { .. } => 2,
        }
    }

    /// Which one of the two managers has a share.
    #[must_use]
    pub fn who(self, share: u32) -> usize {
        match self {
            Self::Whole(who) => who,
            Self::Halves { first, .. } => first ^ usize::from(share != 0),
        }
    }

    /// What one of the two has.
    #[must_use]
    pub fn share(self, who: usize) -> Option<u32> {
        (0..self.shares()).find(|share| self.who(*share) == who)
    }

    /// The bit that decides about flows to a service, or from inside; 0 if none does.
    fn bit(self, nat: bool) -> u32 {
        match self {
            Self::Whole(_) => 0,
            Self::Halves { cut, .. } if nat => CUTS[cut].1,
            Self::Halves { cut, .. } => CUTS[cut].0,
        }
    }

    /// The addresses of a share; `None` if it has all.
    #[must_use]
    pub fn addresses(self, nat: bool, share: u32) -> Option<MaskedAddr> {
        let bit = self.bit(nat);
        (bit != 0).then(|| MaskedAddr {
            value: Ipv4Addr::from_bits(bit * share).into(),
            mask: Ipv4Addr::from_bits(bit).into(),
        })
    }

    /// The share that flows from an address are in.
    #[must_use]
    pub fn of(self, nat: bool, from: IpAddr) -> u32 {
        match from {
            IpAddr::V4(a) => u32::from(a.to_bits() & self.bit(nat) != 0),
            IpAddr::V6(_) => 0,
        }
    }

    /// The first and the last outside address of a share.
    #[must_use]
    pub fn outside(self, share: u32) -> (IpAddr, IpAddr) {
        let at = |n: u32| Ipv4Addr::from_bits(OUTSIDE.to_bits() + n).into();
        match self {
            Self::Whole(_) => (at(0), at(1)),
            Self::Halves { .. } => (at(share), at(share)),
        }
    }

    /// Whether an outside address is a share's.
    #[must_use]
    pub fn gives(self, share: u32, outside: IpAddr) -> bool {
        let (first, last) = self.outside(share);
        (first..=last).contains(&outside)
    }
}
