//! Dividing a service among managers: what each is asked about, both ways, and which outside tuples are its.
//!
//! A part is a condition on the first packets of flows. What answers them is asked about in the same part: by
//! the condition with source and destination exchanged, or, where the source is translated, by the outside
//! tuples that the part has for itself.

use std::net::IpAddr;

use signalbox_proofs::{Cube, Family, Header, Ternary, absorb, prefix_mask};

use super::gate::backwards;
use super::{
    Criteria, Manager, Nat, NatSource, Policy, Pool, Service, ServiceIndex, ServiceKind,
    address_bits,
};

/// What a manager of a divided service is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The condition.
    pub criteria: Criteria,
    /// The packets of the service's forward part that it is asked about; none lies in another.
    pub forward: Vec<Cube>,
    /// Those of its reply part.
    pub reply: Vec<Cube>,
    /// The outside addresses and ports that it gives out, of a nat service that has ports.
    pub outside: Option<NatSource>,
}

impl Policy {
    /// Who decides for a service, in the order of the policy's managers, each with its part if the service is
    /// divided.
    pub fn shares_of(
        &self,
        service: ServiceIndex,
    ) -> impl Iterator<Item = (usize, &Manager, Option<&Part>)> {
        (self.managers.iter().enumerate())
            .filter(move |(_, m)| m.serves.contains(&service))
            .map(move |(place, m)| (place, m, m.part_of(service)))
    }

    /// The manager that a service asks about a packet that its criteria match, by its place among the
    /// managers.
    pub fn asked_about(
        &self,
        service: ServiceIndex,
        reply: bool,
        packet: &Header,
    ) -> Option<usize> {
        let mut shares = self.shares_of(service);
        let found = shares.find(|(_, _, part)| {
            part.is_none_or(|part| {
                let cubes = if reply { &part.reply } else { &part.forward };
                cubes.iter().any(|cube| cube.matches(packet))
            })
        });
        found.map(|(place, ..)| place)
    }
}

impl Service {
    /// What it asks managers about: packets of its forward and of its reply part.
    pub fn asks(&self, pools: &[Pool]) -> (Vec<Cube>, Vec<Cube>) {
        match &self.kind {
            ServiceKind::Filter(_) => (Vec::new(), Vec::new()),
            ServiceKind::Observe(observe) if !observe.per_flow => (Vec::new(), Vec::new()),
            ServiceKind::Observe(observe) => (observe.criteria.cubes.clone(), Vec::new()),
            ServiceKind::Gate(gate) => (gate.allowed_cubes(), gate.reply_cubes()),
            ServiceKind::Nat(nat) => {
                let reply = nat.asks_about_replies().then(|| nat.reply_cubes());
                (nat.criteria.cubes.clone(), reply.unwrap_or_default())
            }
            ServiceKind::Balance(balance) => {
                let pool = pools.get(balance.pool.0).filter(|_| self.translates());
                let reply = pool.map(|pool| balance.reply_cubes(pool));
                (balance.criteria.cubes.clone(), reply.unwrap_or_default())
            }
        }
    }

    /// The part of what it asks about whose flows a condition matches.
    pub fn part(&self, pools: &[Pool], criteria: Criteria, outside: Option<NatSource>) -> Part {
        let (forward, reply) = self.asks(pools);
        let reply = match (&self.kind, &outside) {
            (ServiceKind::Nat(nat), Some(_)) if nat.asks_about_replies() => {
                let own = Nat {
                    source: outside.clone(),
                    ..nat.clone()
                };
                own.reply_cubes()
            }
            (ServiceKind::Nat(nat), None) => meet(&reply, &nat.answers_to(&criteria.cubes)),
            _ => meet(&reply, &backwards(&criteria.cubes)),
        };
        Part {
            forward: meet(&forward, &criteria.cubes),
            reply,
            outside,
            criteria,
        }
    }
}

impl Nat {
    /// What answers packets of these flows, as it looks before it is translated back, as far as their source
    /// and protocol tell.
    fn answers_to(&self, flows: &[Cube]) -> Vec<Cube> {
        let Some(NatSource::OneToOne { pairs }) = &self.source else {
            return backwards(flows);
        };
        let outside = pairs.iter().flat_map(|(inside, outside)| {
            let family = Family::of(inside.addr());
            let prefix = prefix_mask(family.bits(), inside.prefix_len().into());
            let from = Ternary::<u128>::masked(address_bits(inside.network()), prefix);
            let to = address_bits(outside.network());
            flows
                .iter()
                .filter(move |flow| flow.family == family)
                .filter_map(move |flow| {
                    let src = flow.src.intersect(from)?;
                    let value = (src.value & !prefix) | (to & prefix);
                    let src = Ternary::<u128>::masked(value, src.mask);
                    Some(Cube { src, ..*flow })
                })
        });
        backwards(&outside.collect::<Vec<_>>())
    }

    /// The outside addresses and ports for each of so many parts: whole addresses if there are enough, else
    /// slices of the ports, each of an even number, so that parity can be kept, and the last with what is
    /// left. `None` if it gives out no ports; empty if there are too few.
    pub fn slices(&self, parts: usize) -> Option<Vec<NatSource>> {
        let Some(NatSource::Ports {
            addresses,
            first_port,
            last_port,
        }) = &self.source
        else {
            return None;
        };
        let parts = parts as u128;
        let size =
            |(first, last): &(IpAddr, IpAddr)| address_bits(*last) - address_bits(*first) + 1;
        let count: u128 = addresses.iter().map(size).sum();
        if count >= parts {
            let of = |part: u128| NatSource::Ports {
                addresses: pick(addresses, count * part / parts, count * (part + 1) / parts),
                first_port: *first_port,
                last_port: *last_port,
            };
            return Some((0..parts).map(of).collect());
        }
        let ports = u128::from(*last_port) - u128::from(*first_port) + 1;
        let each = (ports / parts) & !1;
        if each == 0 {
            return Some(Vec::new());
        }
        let at = |part: u128| u128::from(*first_port) + each * part;
        let of = |part: u128| NatSource::Ports {
            addresses: addresses.clone(),
            first_port: at(part) as u16,
            last_port: if part + 1 == parts {
                *last_port
            } else {
                (at(part + 1) - 1) as u16
            },
        };
        Some((0..parts).map(of).collect())
    }
}

/// The addresses from one place to before another, counted over all ranges.
fn pick(ranges: &[(IpAddr, IpAddr)], from: u128, to: u128) -> Vec<(IpAddr, IpAddr)> {
    let mut out = Vec::new();
    let mut start = 0u128;
    for (first, last) in ranges {
        let family = Family::of(*first);
        let (low, high) = (address_bits(*first), address_bits(*last));
        let end = start + (high - low + 1);
        let (a, b) = (from.max(start), to.min(end));
        if a < b {
            let address = |place: u128| family.address(low + (place - start));
            out.push((address(a), address(b - 1)));
        }
        start = end;
    }
    out
}

/// The packets of both unions; none of these boxes lies in another.
fn meet(one: &[Cube], two: &[Cube]) -> Vec<Cube> {
    let both = (one.iter()).flat_map(|a| two.iter().filter_map(|b| a.intersect(b)));
    absorb(both.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nat(source: &str) -> Nat {
        let text = format!(
            "network {{ port 1 a {{ address 10.0.0.1/8 }}\n port 2 b {{ address 203.0.113.1/24 }} }}\n\
             service n : nat {{ match ip.src in 10.0.0.0/29 and not ip.dst in 10.0.0.0/8\n {source} }}\n\
             managers {{ m serves n }}\n"
        );
        let checked = crate::check(&text, "t.policy");
        let policy = checked
            .policy
            .unwrap_or_else(|| panic!("{:#?}", checked.diagnostics));
        match &policy.services[0].kind {
            ServiceKind::Nat(nat) => nat.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Slices as `first-last first port-last port`.
    fn slices(source: &str, parts: usize) -> Vec<String> {
        let slices = nat(source).slices(parts).unwrap();
        let text = |slice: NatSource| match slice {
            NatSource::Ports {
                addresses,
                first_port,
                last_port,
            } => {
                let ranges: Vec<String> =
                    addresses.iter().map(|(a, b)| format!("{a}-{b}")).collect();
                format!("{} {first_port}-{last_port}", ranges.join(","))
            }
            NatSource::OneToOne { .. } => panic!("no ports"),
        };
        slices.into_iter().map(text).collect()
    }

    // A7.7
    #[test]
    fn whole_addresses_are_divided_where_there_are_enough_and_else_ports_in_even_numbers() {
        assert_eq!(
            slices("source 203.0.113.100..203.0.113.104", 2),
            [
                "203.0.113.100-203.0.113.101 1024-65535",
                "203.0.113.102-203.0.113.104 1024-65535"
            ]
        );
        assert_eq!(
            slices("source 203.0.113.100", 3),
            [
                "203.0.113.100-203.0.113.100 1024-22527",
                "203.0.113.100-203.0.113.100 22528-44031",
                "203.0.113.100-203.0.113.100 44032-65535"
            ]
        );
        assert_eq!(
            slices("source 203.0.113.100 ports 1000..1006", 3),
            [
                "203.0.113.100-203.0.113.100 1000-1001",
                "203.0.113.100-203.0.113.100 1002-1003",
                "203.0.113.100-203.0.113.100 1004-1006"
            ]
        );
        assert!(slices("source 203.0.113.100 ports 1000..1004", 3).is_empty());
    }

    #[test]
    fn answers_to_a_part_of_the_pairs_come_to_the_addresses_at_the_same_places() {
        let nat = nat("one-to-one 10.0.0.0/29 = 203.0.113.8/29");
        let odd = Cube {
            src: Ternary::<u128>::masked(1, 1),
            ..Cube::all(Family::V4)
        };
        let answers = nat.answers_to(&[odd]);
        assert_eq!(answers.len(), 1);
        for host in 8..16 {
            let to = Header {
                family: Family::V4,
                in_port: 2,
                src: 7,
                dst: address_bits([203, 0, 113, host].into()),
                proto: 6,
                kind: signalbox_proofs::PacketKind::Whole,
                src_port: 1,
                dst_port: 2,
                tcp_flags: 0,
                icmp_type: 0,
            };
            assert_eq!(answers[0].matches(&to), host % 2 == 1, "{host}");
        }
    }
}
