//! One-to-one translation: an address of a prefix becomes the one at the same place in another.

use std::net::IpAddr;

use ipnet::IpNet;
use signalbox_lower::plan::Pair;

/// The outside address that stands for an inside one.
pub fn outward(pairs: &[Pair], inside: IpAddr) -> Option<IpAddr> {
    (pairs.iter()).find_map(|p| moved(p.inside, p.outside, inside))
}

/// The inside address that an outside one stands for.
pub fn inward(pairs: &[Pair], outside: IpAddr) -> Option<IpAddr> {
    (pairs.iter()).find_map(|p| moved(p.outside, p.inside, outside))
}

fn moved(from: IpNet, to: IpNet, address: IpAddr) -> Option<IpAddr> {
    match (from, to, address) {
        (IpNet::V4(from), IpNet::V4(to), IpAddr::V4(a)) if from.contains(&a) => {
            let place = a.to_bits() & from.hostmask().to_bits();
            Some(IpAddr::from((to.network().to_bits() | place).to_be_bytes()))
        }
        (IpNet::V6(from), IpNet::V6(to), IpAddr::V6(a)) if from.contains(&a) => {
            let place = a.to_bits() & from.hostmask().to_bits();
            Some(IpAddr::from((to.network().to_bits() | place).to_be_bytes()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A2.5
    #[test]
    fn an_address_keeps_its_place_in_the_prefix_both_ways() {
        let pair = |inside: &str, outside: &str| Pair {
            inside: inside.parse().unwrap(),
            outside: outside.parse().unwrap(),
        };
        let pairs = [
            pair("10.0.1.0/24", "203.0.113.0/24"),
            pair("10.9.9.9/32", "198.51.100.7/32"),
            pair("fd00:1::/64", "2001:db8:7::/64"),
        ];
        for (inside, outside) in [
            ("10.0.1.0", "203.0.113.0"),
            ("10.0.1.77", "203.0.113.77"),
            ("10.9.9.9", "198.51.100.7"),
            ("fd00:1::a:b", "2001:db8:7::a:b"),
        ] {
            let (inside, outside) = (inside.parse().unwrap(), outside.parse().unwrap());
            assert_eq!(outward(&pairs, inside), Some(outside));
            assert_eq!(inward(&pairs, outside), Some(inside));
        }
        for other in ["10.0.2.1", "fd00:2::1", "203.0.113.1"] {
            assert_eq!(outward(&pairs, other.parse().unwrap()), None, "{other}");
        }
    }
}
