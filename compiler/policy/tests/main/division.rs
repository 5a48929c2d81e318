//! Random divisions against a scan of packets: what the checker takes has one manager for each packet, both
//! ways, and what it refuses has a packet that shows it.

use proptest::prelude::*;
use signalbox_policy::check;
use signalbox_policy::model::{Family, Header, PacketKind, Policy, ServiceIndex};

fn policy(parts: &[(u8, u8, bool)]) -> String {
    let lines: Vec<String> = (parts.iter().enumerate())
        .map(|(n, (first, bits, negated))| {
            let mask = 0xffu8.checked_shl(u32::from(8 - bits)).unwrap_or(0);
            let not = if *negated { "not " } else { "" };
            format!(
                "m{n} serves s where {not}ip.src in {}.0.0.0/{bits}",
                first & mask
            )
        })
        .collect();
    format!(
        "network {{\n port 1 a {{ address 203.0.113.1/24 }}\n port 2 b {{ address 10.0.1.1/24 }}\n}}\n\
         pool web {{ 10.0.1.10:8080 }}\n\
         service s : balance {{ match tcp.dst 203.0.113.80:80; pick from @web by weighted }}\n\
         managers {{\n{}\n}}\n",
        lines.join("\n")
    )
}

/// A client's packet, or the server's to it.
fn packet(client: u8, reply: bool) -> Header {
    let client = u128::from(u32::from_be_bytes([client, 9, 9, 9]));
    let (service, server) = ([203, 0, 113, 80], [10, 0, 1, 10]);
    let bits = |a: [u8; 4]| u128::from(u32::from_be_bytes(a));
    let (src, dst, src_port, dst_port) = match reply {
        false => (client, bits(service), 4000, 80),
        true => (bits(server), client, 8080, 4000),
    };
    Header {
        family: Family::V4,
        in_port: 1,
        src,
        dst,
        proto: 6,
        kind: PacketKind::Whole,
        src_port,
        dst_port,
        tcp_flags: 2,
        icmp_type: 0,
    }
}

/// The managers whose parts have a packet.
fn having(policy: &Policy, reply: bool, h: &Header) -> Vec<usize> {
    (policy.shares_of(ServiceIndex(0)))
        .filter(|(_, _, part)| {
            part.is_none_or(|p| {
                let cubes = if reply { &p.reply } else { &p.forward };
                cubes.iter().any(|c| c.matches(h))
            })
        })
        .map(|(place, ..)| place)
        .collect()
}

/// How many of the parts as written have a client.
fn written(parts: &[(u8, u8, bool)], client: u8) -> usize {
    let has = |(first, bits, negated): &&(u8, u8, bool)| {
        let mask = 0xffu8.checked_shl(u32::from(8 - bits)).unwrap_or(0);
        (client & mask == first & mask) != *negated
    };
    parts.iter().filter(has).count()
}

/// The client's first byte in a packet that a note shows: `… tcp syn A.B.C.D:PORT -> …`.
fn shown(note: &str) -> u8 {
    let packet = note.split('`').nth(1).unwrap();
    let source = packet.split(' ').find(|word| word.contains('.')).unwrap();
    source.split('.').next().unwrap().parse().unwrap()
}

/// Halving a prefix again and again, or prefixes that have nothing to do with each other.
fn parts() -> impl Strategy<Value = Vec<(u8, u8, bool)>> {
    let wild = proptest::collection::vec((any::<u8>(), 0u8..=3, any::<bool>()), 1..4);
    let halves = (any::<u8>(), 1u8..=4).prop_map(|(first, bits)| {
        (1..=bits)
            .map(|b| (first ^ (0x80 >> (b - 1)), b, false))
            .chain([(first, bits, false)])
            .collect()
    });
    let rest = (any::<u8>(), 1u8..=8)
        .prop_map(|(first, bits)| vec![(first, bits, false), (first, bits, true)]);
    prop_oneof![wild, halves, rest]
}

proptest! {
    // A7.1, A7.2, A7.6
    #[test]
    fn a_division_is_taken_exactly_if_each_packet_has_one_manager_both_ways(parts in parts()) {
        let checked = check(&policy(&parts), "t.policy");
        let sound = (0..=255).all(|client| written(&parts, client) == 1)
            && parts.iter().all(|part| (0..=255).any(|c| written(&[*part], c) == 1));
        prop_assert_eq!(checked.policy.is_some(), sound, "{:?}", checked.diagnostics);
        if let Some(policy) = &checked.policy {
            for client in 0..=255 {
                let forward = having(policy, false, &packet(client, false));
                prop_assert_eq!(forward.len(), 1);
                prop_assert_eq!(having(policy, true, &packet(client, true)), forward);
            }
        }
        for d in &checked.diagnostics {
            for note in &d.notes {
                let wrong: fn(usize) -> bool = match d.code {
                    "unasked-packets" => |count| count == 0,
                    "overlapping-parts" => |count| count > 1,
                    _ => continue,
                };
                let count = written(&parts, shown(note));
                prop_assert!(wrong(count), "{} is in {} parts", note, count);
            }
        }
    }
}
