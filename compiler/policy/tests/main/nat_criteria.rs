//! What a nat service's reply part may match: nothing but what comes back to it.

use std::net::IpAddr;

use proptest::prelude::*;
use signalbox_policy::model::{Cube, Family, Header, Nat, PacketKind, ServiceKind, address_bits};

use crate::texts::{DUAL_NETWORK, NETWORK, policy};

fn nat_in(network: &str, clauses: &str) -> Nat {
    let text = format!("{network}service n : nat {{\n{clauses}\n}}\nmanagers {{ m serves n }}\n");
    match policy(&text).services.remove(0).kind {
        ServiceKind::Nat(nat) => nat,
        other => panic!("{other:?}"),
    }
}

fn nat(clauses: &str) -> Nat {
    nat_in(NETWORK, clauses)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A whole packet that came in by port 1. Of ICMP, `sport` is a request's identifier and `dport` a
/// reply's.
fn packet(proto: u8, src: &str, sport: u16, dst: &str, dport: u16) -> Header {
    let family = Family::of(ip(src));
    let echo = match (proto, sport) {
        (1, 0) => 0,
        (1, _) => 8,
        (58, 0) => 129,
        (58, _) => 128,
        _ => 0,
    };
    Header {
        family,
        in_port: 1,
        src: address_bits(ip(src)),
        dst: address_bits(ip(dst)),
        proto,
        kind: PacketKind::Whole,
        src_port: sport,
        dst_port: dport,
        tcp_flags: 0,
        icmp_type: echo,
    }
}

fn hit(cubes: &[Cube], header: &Header) -> bool {
    cubes.iter().any(|c| c.matches(header))
}

const EGRESS: &str = "match ip.src in 10.0.0.0/8 and not ip.dst in 10.0.0.0/8\n\
                      source 203.0.113.100..203.0.113.103 ports 2000..3999";

#[test]
fn what_comes_back_to_an_outside_tuple_is_matched_by_protocol_and_port() {
    let cubes = nat(EGRESS).reply_cubes();
    for proto in [6, 17, 1] {
        let to = |dst, dport| {
            hit(
                &cubes,
                &packet(
                    proto,
                    "192.0.2.1",
                    if proto == 1 { 0 } else { 80 },
                    dst,
                    dport,
                ),
            )
        };
        assert!(
            to("203.0.113.100", 2000) && to("203.0.113.103", 3999),
            "{proto}"
        );
        assert!(
            !to("203.0.113.99", 2000) && !to("203.0.113.104", 2000),
            "{proto}"
        );
        assert!(
            !to("203.0.113.100", 1999) && !to("203.0.113.100", 4000),
            "{proto}"
        );
    }
    // Neither an echo request, nor another protocol, nor what has no ports.
    assert!(!hit(
        &cubes,
        &packet(1, "192.0.2.1", 2000, "203.0.113.100", 0)
    ));
    assert!(!hit(
        &cubes,
        &packet(47, "192.0.2.1", 0, "203.0.113.100", 2000)
    ));
    for kind in [PacketKind::LaterFragment, PacketKind::IcmpError] {
        let bare = Header {
            kind,
            ..packet(6, "192.0.2.1", 80, "203.0.113.100", 2000)
        };
        assert!(!hit(&cubes, &bare));
    }
}

#[test]
fn only_protocols_that_can_go_out_come_back() {
    let cubes = nat("match tcp and ip.src in 10.0.0.0/8\nsource 203.0.113.100").reply_cubes();
    assert!(hit(
        &cubes,
        &packet(6, "192.0.2.1", 80, "203.0.113.100", 5000)
    ));
    assert!(!hit(
        &cubes,
        &packet(17, "192.0.2.1", 80, "203.0.113.100", 5000)
    ));
    assert!(!hit(
        &cubes,
        &packet(1, "192.0.2.1", 0, "203.0.113.100", 5000)
    ));
}

#[test]
fn an_address_of_its_own_takes_every_protocol() {
    let nat = nat("match ip.src in 10.0.1.0/28\none-to-one 10.0.1.0/28 = 203.0.113.96/28");
    let cubes = nat.reply_cubes();
    for proto in [6, 17, 47, 50] {
        assert!(hit(
            &cubes,
            &packet(proto, "192.0.2.1", 0, "203.0.113.111", 7)
        ));
        assert!(!hit(
            &cubes,
            &packet(proto, "192.0.2.1", 0, "203.0.113.112", 7)
        ));
    }
    let hairpin = nat.hairpin_cubes();
    assert!(hit(
        &hairpin,
        &packet(47, "10.0.1.3", 0, "203.0.113.100", 0)
    ));
    assert!(!hit(
        &hairpin,
        &packet(47, "10.0.1.16", 0, "203.0.113.100", 0)
    ));
    assert!(nat.owns(ip("203.0.113.96")) && nat.owns(ip("203.0.113.111")));
    assert!(!nat.owns(ip("203.0.113.112")));
    assert_eq!(nat.addresses().len(), 16);
}

#[test]
fn answers_of_a_new_destination_are_told_by_its_address_and_port() {
    let nat = nat(
        "match tcp.dst 203.0.113.80:443 and ip.src in 192.0.2.0/24\ndestination 10.0.1.10:8443",
    );
    let cubes = nat.reply_cubes();
    assert!(hit(
        &cubes,
        &packet(6, "10.0.1.10", 8443, "192.0.2.1", 40_000)
    ));
    assert!(!hit(
        &cubes,
        &packet(6, "10.0.1.10", 443, "192.0.2.1", 40_000)
    ));
    assert!(!hit(
        &cubes,
        &packet(17, "10.0.1.10", 8443, "192.0.2.1", 40_000)
    ));
    assert!(!hit(
        &cubes,
        &packet(6, "10.0.1.10", 8443, "198.51.100.1", 40_000)
    ));
    assert_eq!(nat.hairpin_cubes(), []);
    assert_eq!(nat.addresses(), [ip("203.0.113.80")]);
}

#[test]
fn a_destination_without_a_port_keeps_ports_and_echo_identifiers() {
    let nat = nat("match ip.dst 203.0.113.80\ndestination 10.0.1.10");
    let cubes = nat.reply_cubes();
    assert!(hit(
        &cubes,
        &packet(6, "10.0.1.10", 443, "192.0.2.1", 40_000)
    ));
    assert!(hit(&cubes, &packet(1, "10.0.1.10", 0, "192.0.2.1", 7)));
    let pings = crate::nat_criteria::nat(
        "match icmp.type echo-request and ip.dst 203.0.113.80\ndestination 10.0.1.10",
    );
    assert!(hit(
        &pings.reply_cubes(),
        &packet(1, "10.0.1.10", 0, "192.0.2.1", 7)
    ));
    assert!(!hit(
        &pings.reply_cubes(),
        &packet(1, "10.0.1.10", 7, "192.0.2.1", 0)
    ));
    let web = crate::nat_criteria::nat("match tcp.dst 203.0.113.80:443\ndestination 10.0.1.10");
    assert!(hit(
        &web.reply_cubes(),
        &packet(6, "10.0.1.10", 443, "192.0.2.1", 40_000)
    ));
    assert!(!hit(
        &web.reply_cubes(),
        &packet(6, "10.0.1.10", 80, "192.0.2.1", 40_000)
    ));
}

#[test]
fn answers_of_a_twice_translated_flow_go_from_one_new_end_to_the_other() {
    let twice = nat(
        "match tcp.dst 203.0.113.80:443\nsource 10.0.1.200 ports 2000..2999\ndestination 10.0.1.10:8443",
    );
    let cubes = twice.reply_cubes();
    assert!(hit(
        &cubes,
        &packet(6, "10.0.1.10", 8443, "10.0.1.200", 2500)
    ));
    assert!(!hit(
        &cubes,
        &packet(6, "10.0.1.11", 8443, "10.0.1.200", 2500)
    ));
    assert!(!hit(
        &cubes,
        &packet(6, "10.0.1.10", 8443, "10.0.1.200", 3000)
    ));
    assert!(!hit(
        &cubes,
        &packet(17, "10.0.1.10", 8443, "10.0.1.200", 2500)
    ));
    assert_eq!(twice.hairpin_cubes(), []);
    assert_eq!(twice.addresses(), [ip("10.0.1.200"), ip("203.0.113.80")]);
}

#[test]
fn a_hairpin_comes_from_who_is_inside_and_goes_to_an_outside_tuple() {
    let cubes = nat(EGRESS).hairpin_cubes();
    assert!(hit(
        &cubes,
        &packet(6, "10.0.1.10", 40_000, "203.0.113.100", 2000)
    ));
    assert!(!hit(
        &cubes,
        &packet(6, "192.0.2.1", 40_000, "203.0.113.100", 2000)
    ));
    assert!(!hit(
        &cubes,
        &packet(6, "10.0.1.10", 40_000, "203.0.113.100", 4000)
    ));
    assert!(!hit(
        &cubes,
        &packet(6, "10.0.1.10", 40_000, "203.0.113.99", 2000)
    ));
    let without =
        nat("match ip.src in 10.0.0.0/8 and not ip.dst in 203.0.113.0/24\nsource 203.0.113.100");
    assert_eq!(without.hairpin_cubes(), []);
}

#[test]
fn ipv6_is_translated_alike() {
    let six = nat_in(
        DUAL_NETWORK,
        "match port rack-a and ipv6\nsource 2001:db8:1::100..2001:db8:1::1ff ports 1024..65535",
    );
    let cubes = six.reply_cubes();
    assert!(hit(
        &cubes,
        &packet(17, "2001:db8:9::1", 53, "2001:db8:1::1ff", 1024)
    ));
    assert!(hit(
        &cubes,
        &packet(58, "2001:db8:9::1", 0, "2001:db8:1::100", 5000)
    ));
    assert!(!hit(
        &cubes,
        &packet(17, "2001:db8:9::1", 53, "2001:db8:1::200", 1024)
    ));
    assert_eq!(six.addresses().len(), 256);
    let named = nat_in(
        DUAL_NETWORK,
        "match tcp.dst { [2001:db8:1::80]:80, [2001:db8:1::81]:80 }\ndestination [2001:db8:2::10]:8080",
    );
    assert_eq!(
        named.addresses(),
        [ip("2001:db8:1::80"), ip("2001:db8:1::81")]
    );
}

#[test]
fn only_addresses_that_a_match_names_one_by_one_are_the_services() {
    let owned =
        |condition: &str| nat(&format!("match {condition}\ndestination 10.0.1.53")).addresses();
    assert_eq!(owned("udp.dst 203.0.113.80:53"), [ip("203.0.113.80")]);
    assert_eq!(
        owned("ip.dst in 203.0.113.80..203.0.113.82 and not ip.dst 203.0.113.81"),
        [ip("203.0.113.80"), ip("203.0.113.82")]
    );
    assert_eq!(
        owned("ip.dst in 198.51.100.0/24 or udp.dst 203.0.113.80:53"),
        [ip("203.0.113.80")]
    );
    assert!(owned("udp.dst 53 and not ip.dst 203.0.113.80").is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Reply criteria and `owns` say the same of a random range of addresses and ports.
    #[test]
    fn reply_criteria_are_exactly_the_range(
        first in 100u8..=200, more in 0u8..=40, low in 1u16..=65_535, width in 0u16..=5_000,
        at in 90u8..=245, port in any::<u16>(),
    ) {
        let (last, high) = (first + more, low.saturating_add(width));
        let text = format!(
            "match udp and ip.src in 10.0.0.0/8\nsource 203.0.113.{first}..203.0.113.{last} ports {low}..{high}"
        );
        let nat = nat(&text);
        let dst = format!("203.0.113.{at}");
        let inside = (first..=last).contains(&at);
        prop_assert_eq!(nat.owns(ip(&dst)), inside);
        prop_assert_eq!(nat.addresses().contains(&ip(&dst)), inside);
        for port in [port, low, high, low.wrapping_sub(1), high.wrapping_add(1)] {
            let found = hit(&nat.reply_cubes(), &packet(17, "192.0.2.1", 53, &dst, port));
            prop_assert_eq!(found, inside && (low..=high).contains(&port));
        }
    }
}
