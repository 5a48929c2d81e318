//! What may enter the cascade, and what leaves it for the agent or for nowhere.

use std::net::{IpAddr, SocketAddr};

use super::{Scenario, scenarios};
use crate::bench::{Bench, Carried, drop, kind};
use crate::frames::{Path, arp_request, flags, look};
use crate::image::Image;
use crate::targets::Target;

pub(super) const OWN: &[Scenario] = &[Scenario {
    name: "nothing_passes_before_ready",
    needs: &[],
    run: nothing_passes_before_ready,
}];

scenarios! {
    arp_goes_to_the_agent_unchanged;
    what_is_not_ip_is_dropped;
    damaged_packets_are_dropped;
    a_frame_for_another_mac_is_dropped;
    a_port_that_the_policy_lacks_is_dropped;
    echo_to_our_addresses_goes_to_the_agent;
    a_spent_ttl_goes_to_the_agent;
    fragments_and_icmp_errors_go_to_the_agent;
    a_packet_out_without_an_order_is_dropped;
    what_the_agent_sends_leaves_as_it_is;
}

fn nothing_passes_before_ready(target: Target, image: &Image) {
    let bench = Bench::bare(target, image);
    bench.install(&bench.world.plan.static_entries());
    let path = bench.world.to_service(40_000);
    bench.expect_drop(
        bench.world.client.port,
        &path.tcp(flags::SYN, b""),
        drop::NOT_READY,
    );
    let arp = arp_request(
        path.from_mac,
        [203, 0, 113, 9].into(),
        [203, 0, 113, 1].into(),
    );
    bench.expect_drop(bench.world.client.port, &arp, drop::NOT_READY);
    let order = Carried {
        kind: 2,
        port: bench.world.client.port.into(),
        ..Carried::default()
    };
    bench.packet_out(&order, &path.tcp(flags::SYN, b""));
    bench.expect_nothing();
}

/// The client's ARP request for the switch's address.
fn arp(bench: &Bench) -> Option<Vec<u8>> {
    let IpAddr::V4(client) = bench.world.client.address else {
        return None;
    };
    let port = bench.world.port(bench.world.client.port);
    let own = port.addresses.iter().find_map(|own| match own.addr() {
        IpAddr::V4(own) => Some(own),
        IpAddr::V6(_) => None,
    })?;
    Some(arp_request(bench.world.client.mac, client, own))
}

fn arp_goes_to_the_agent_unchanged(bench: &Bench) {
    let Some(frame) = arp(bench) else { return };
    bench.send(bench.world.client.port, &frame);
    let (carried, packet) = bench.expect_to_agent();
    let expected = Carried {
        kind: kind::ARP,
        port: bench.world.client.port.into(),
        ..Carried::default()
    };
    assert_eq!(carried, expected);
    assert_eq!(packet, frame);
}

fn what_is_not_ip_is_dropped(bench: &Bench) {
    let port = bench.world.client.port;
    let tcp = bench.world.to_service(40_000).tcp(flags::SYN, b"");
    let mut tagged = tcp.clone();
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    bench.expect_drop(port, &tagged, drop::NOT_IP);
    let mut lldp = tcp;
    lldp[12..14].copy_from_slice(&[0x88, 0xcc]);
    bench.expect_drop(port, &lldp, drop::NOT_IP);
}

fn damaged_packets_are_dropped(bench: &Bench) {
    let port = bench.world.client.port;
    let good = bench.world.to_service(40_000).tcp(flags::SYN, b"some data");
    let mut damaged = Vec::new();
    // Cut short in the IP header, in the TCP header, in the data.
    damaged.extend([20, 40, good.len() - 4].map(|length| good[..length].to_vec()));
    let mut change = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        damaged.push(frame);
    };
    // Version and header length, total length, header checksum.
    for first in [0x55, 0x44, 0x40, 0x4f] {
        change(14, first);
    }
    change(16, 0xff);
    change(17, 19);
    change(24, good[24] ^ 1);
    for frame in damaged {
        bench.expect_drop(port, &frame, drop::MALFORMED);
    }
    bench.send(port, &good);
    assert_eq!(
        bench.expect_to_agent().0.kind,
        kind::INTEREST,
        "the undamaged one"
    );
}

fn a_frame_for_another_mac_is_dropped(bench: &Bench) {
    let mut path = bench.world.to_service(40_000);
    path.to_mac[5] ^= 1;
    bench.expect_drop(
        bench.world.client.port,
        &path.tcp(flags::SYN, b""),
        drop::WRONG_MAC,
    );
}

fn a_port_that_the_policy_lacks_is_dropped(bench: &Bench) {
    let frame = bench.world.to_service(40_000).tcp(flags::SYN, b"");
    bench.expect_drop(77, &frame, drop::UNKNOWN_PORT);
}

fn echo_to_our_addresses_goes_to_the_agent(bench: &Bench) {
    let mut path = bench.world.to_service(0);
    if path.to.is_ipv6() {
        return;
    }
    let own = bench.world.port(bench.world.client.port).addresses[0].addr();
    for address in [path.to.ip(), own] {
        path.to = SocketAddr::new(address, 0);
        let frame = path.echo(9, b"payload");
        bench.send(bench.world.client.port, &frame);
        let (carried, packet) = bench.expect_to_agent();
        assert_eq!(carried.kind, kind::LOCAL);
        assert_eq!(packet, frame);
    }
}

fn a_spent_ttl_goes_to_the_agent(bench: &Bench) {
    for ttl in [0, 1] {
        let path = Path {
            ttl,
            ..bench.world.to_service(40_000)
        };
        let frame = path.tcp(flags::SYN, b"");
        bench.send(bench.world.client.port, &frame);
        let (carried, packet) = bench.expect_to_agent();
        assert_eq!(carried.kind, kind::TTL);
        assert_eq!(packet, frame);
    }
}

/// Sets the fragment field of an IPv4 frame, with the checksum that belongs to it.
fn fragment(frame: &[u8], field: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[20..22].copy_from_slice(&field.to_be_bytes());
    frame[24..26].fill(0);
    let mut sum: u32 = frame[14..34]
        .chunks(2)
        .map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !(sum as u16);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn fragments_and_icmp_errors_go_to_the_agent(bench: &Bench) {
    let port = bench.world.client.port;
    let path = bench.world.to_service(40_000);
    if path.to.is_ipv6() {
        return;
    }
    let whole = path.tcp(flags::ACK, &[7; 64]);
    for field in [0x2000, 0x2008, 0x0008] {
        let frame = fragment(&whole, field);
        bench.send(port, &frame);
        let (carried, packet) = bench.expect_to_agent();
        assert_eq!(carried.kind, kind::FRAGMENT, "fragment field {field:#x}");
        assert_eq!(packet, frame);
    }
    let mut unreachable = path.echo(9, &[0; 28]);
    unreachable[34] = 3;
    bench.send(port, &unreachable);
    assert_eq!(bench.expect_to_agent().0.kind, kind::ICMP_ERROR);
}

fn a_packet_out_without_an_order_is_dropped(bench: &Bench) {
    let frame = bench.world.to_service(40_000).tcp(flags::SYN, b"");
    let before = bench.counter("Ingress.drops", drop::BAD_PACKET_OUT).0;
    bench.packet_out(&Carried::default(), &frame);
    let part_zero = Carried {
        kind: 1,
        ..Carried::default()
    };
    bench.packet_out(&part_zero, &frame);
    bench.expect_nothing();
    let after = bench.counter("Ingress.drops", drop::BAD_PACKET_OUT).0;
    assert_eq!(after, before + 2);
}

fn what_the_agent_sends_leaves_as_it_is(bench: &Bench) {
    let order = Carried {
        kind: 2,
        port: bench.world.client.port.into(),
        ..Carried::default()
    };
    let frame = bench
        .world
        .to_service(40_000)
        .reversed()
        .tcp(flags::RST, b"");
    bench.packet_out(&order, &frame);
    let sent = bench.expect(bench.world.client.port);
    assert_eq!(sent, frame);
    look(&sent);
    if let Some(frame) = arp(bench) {
        bench.packet_out(&order, &frame);
        assert_eq!(bench.expect(bench.world.client.port), frame);
    }
}
