//! What may enter the cascade, and what leaves it for the agent or for nowhere.

use std::net::{IpAddr, SocketAddr};

use super::{Scenario, scenarios};
use crate::bench::{Bench, Carried, drop, kind};
use crate::frames::{
    Path, arp_request, extend, flags, fragment_header, look, neighbour_message, options,
};
use crate::image::Image;
use crate::targets::Target;
use crate::world::{Setting, World};

pub(super) const OWN: &[Scenario] = &[Scenario {
    name: "nothing_passes_before_ready",
    settings: &[],
    needs: &[],
    run: nothing_passes_before_ready,
}];

scenarios! {
    neighbour_discovery_goes_to_the_agent_unchanged;
    what_is_not_ip_is_dropped;
    damaged_packets_are_dropped;
    a_frame_for_another_mac_is_dropped;
    a_port_that_the_policy_lacks_is_dropped;
    echo_to_our_addresses_goes_to_the_agent;
    a_spent_ttl_goes_to_the_agent;
    fragments_and_icmp_errors_go_to_the_agent;
    extension_headers_are_looked_through in Balance, Ipv6;
    a_packet_out_without_an_order_is_dropped;
    what_the_agent_sends_leaves_as_it_is;
}

fn nothing_passes_before_ready(target: Target, image: &Image, world: &World) {
    let bench = Bench::bare(target, image, world);
    bench.install(&bench.world.plan.static_entries());
    let path = bench.world.to_service(40_000);
    bench.expect_drop(
        bench.world.client.port,
        &path.tcp(flags::SYN, b""),
        drop::NOT_READY,
    );
    let (_, question) = neighbour_question(&bench);
    bench.expect_drop(bench.world.client.port, &question, drop::NOT_READY);
    let order = Carried {
        kind: 2,
        port: bench.world.client.port.into(),
        ..Carried::default()
    };
    bench.packet_out(&order, &path.tcp(flags::SYN, b""));
    bench.expect_nothing();
}

/// The client's question for the switch's MAC address, by ARP or NDP, and what the agent gets it as.
fn neighbour_question(bench: &Bench) -> (u64, Vec<u8>) {
    let world = &bench.world;
    match (world.client.address, world.router()) {
        (IpAddr::V4(client), IpAddr::V4(own)) => {
            (kind::ARP, arp_request(world.client.mac, client, own))
        }
        (IpAddr::V6(client), IpAddr::V6(own)) => {
            let frame = neighbour_message(135, world.client.mac, client, own);
            (kind::NDP, frame)
        }
        mixed => panic!("{mixed:?} are of two families"),
    }
}

fn neighbour_discovery_goes_to_the_agent_unchanged(bench: &Bench) {
    let (kind, frame) = neighbour_question(bench);
    bench.send(bench.world.client.port, &frame);
    let (carried, packet) = bench.expect_to_agent();
    let expected = Carried {
        kind,
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
    let world = &bench.world;
    let good = world.to_service(40_000).tcp(flags::SYN, b"some data");
    let mut damaged = Vec::new();
    // Where the TCP header is; frames are cut short in the IP header, in the TCP header, in the data.
    let tcp = if world.service.is_ipv4() { 34 } else { 54 };
    damaged.extend([20, tcp + 6, good.len() - 4].map(|length| good[..length].to_vec()));
    let mut change = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        damaged.push(frame);
    };
    if world.service.is_ipv4() {
        // Version and header length, total length, header checksum.
        for first in [0x55, 0x44, 0x40, 0x4f] {
            change(14, first);
        }
        change(16, 0xff);
        change(17, 19);
        change(24, good[24] ^ 1);
    } else {
        // Version, payload length: more than there is, and less than a TCP header.
        for first in [0x40, 0x50, 0x70] {
            change(14, first);
        }
        change(18, 0xff);
        change(19, 19);
    }
    // The TCP header's length.
    change(tcp + 12, 0x40);
    for frame in damaged {
        bench.expect_drop(world.client.port, &frame, drop::MALFORMED);
    }
    bench.send(world.client.port, &good);
    if world.has(Setting::Balance) {
        let (carried, _) = bench.expect_to_agent();
        assert_eq!(carried.kind, kind::INTEREST, "the undamaged one");
    } else {
        bench.expect(world.servers[0].port);
    }
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
    let world = &bench.world;
    let mut ours = vec![world.router()];
    if world.has(Setting::Balance) {
        ours.push(world.service.ip());
    }
    for address in ours {
        let mut path = world.to_service(0);
        path.to = SocketAddr::new(address, 0);
        let frame = path.echo(9, b"payload");
        bench.send(world.client.port, &frame);
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
    let whole = path.tcp(flags::ACK, &[7; 64]);
    let mut unreachable = path.echo(9, &[0; 28]);
    let fragments = if path.to.is_ipv4() {
        unreachable[34] = 3;
        [0x2000, 0x2008, 0x0008].map(|field| fragment(&whole, field))
    } else {
        unreachable[54] = 1;
        [(0, true), (8, true), (8, false)]
            .map(|(offset, more)| extend(&whole, &[fragment_header(offset, more)]))
    };
    for (number, frame) in (1..).zip(fragments) {
        bench.send(port, &frame);
        let (carried, packet) = bench.expect_to_agent();
        assert_eq!(carried.kind, kind::FRAGMENT, "fragment {number}");
        assert_eq!(packet, frame);
    }
    bench.send(port, &unreachable);
    assert_eq!(bench.expect_to_agent().0.kind, kind::ICMP_ERROR);
}

/// IPv6 puts up to four headers before TCP; the flow is the same.
fn extension_headers_are_looked_through(bench: &Bench) {
    let path = bench.world.to_service(40_000);
    let syn = path.tcp(flags::SYN, b"");
    let whole_in_a_fragment = vec![fragment_header(0, false)];
    for headers in [
        vec![options(0, 1)],
        vec![
            options(0, 1),
            options(43, 3),
            options(60, 1),
            options(60, 31),
        ],
        whole_in_a_fragment,
    ] {
        let frame = extend(&syn, &headers);
        bench.send(bench.world.client.port, &frame);
        let (carried, packet) = bench.expect_to_agent();
        assert_eq!(carried.kind, kind::INTEREST, "{headers:02x?}");
        assert_eq!(carried.stage, u64::from(bench.world.balance().stage));
        assert_eq!(packet, frame);
    }
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
    let (_, question) = neighbour_question(bench);
    bench.packet_out(&order, &question);
    assert_eq!(bench.expect(bench.world.client.port), question);
}
