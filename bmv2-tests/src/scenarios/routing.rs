//! Where packets go that no service has an opinion on.

use std::net::SocketAddr;

use super::scenarios;
use crate::bench::{Bench, drop, kind, next_hop_entry, route_entry};
use crate::frames::{Path, flags};
use crate::scenarios::balance::assert_routed;
use crate::world::Setting;

scenarios! {
    a_route_leads_to_its_neighbour;
    a_connected_address_without_a_neighbour_is_gleaned;
    a_route_without_its_next_hop_is_unresolved;
    our_own_addresses_are_not_served;
    a_destination_without_a_route_is_dropped_and_shown_to_the_agent;
}

/// The way from the first server to the client for what is no reply of the service. Filters let it pass
/// as part of a connection.
fn past_the_service(bench: &Bench) -> Path {
    let mut path = bench.world.from_server(0, 5_353);
    if bench.world.has(Setting::Balance) {
        path.from.set_port(path.from.port() ^ 1);
    }
    path
}

fn a_route_leads_to_its_neighbour(bench: &Bench) {
    let world = &bench.world;
    let path = past_the_service(bench);
    let ip_end = if path.to.is_ipv4() { 34 } else { 54 };
    let mut frames = vec![path.tcp(flags::ACK, b""), path.tcp(flags::ACK, b"data")];
    if world.has(Setting::Balance) {
        frames.push(path.udp(b"question"));
    }
    for frame in frames {
        bench.send(world.servers[0].port, &frame);
        let sent = bench.expect(world.client.port);
        assert_routed(&sent, &world.client, path.from, path.to);
        assert_eq!(
            sent[ip_end..],
            frame[ip_end..],
            "nothing behind the IP header has changed"
        );
    }
}

fn a_connected_address_without_a_neighbour_is_gleaned(bench: &Bench) {
    let world = &bench.world;
    bench.remove(&[route_entry(&world.client)]);
    let frame = past_the_service(bench).tcp(flags::ACK, b"data");
    bench.send(world.servers[0].port, &frame);
    let (carried, packet) = bench.expect_to_agent();
    assert_eq!(carried.kind, kind::GLEAN);
    assert_eq!(
        carried.next_hop,
        u64::from(world.client.port),
        "the port to resolve on"
    );
    assert_eq!(carried.port, u64::from(world.servers[0].port));
    assert_eq!(packet, frame);
}

fn a_route_without_its_next_hop_is_unresolved(bench: &Bench) {
    let world = &bench.world;
    bench.remove(&[next_hop_entry(&world.client)]);
    let frame = past_the_service(bench).tcp(flags::ACK, b"data");
    bench.send(world.servers[0].port, &frame);
    let (carried, packet) = bench.expect_to_agent();
    assert_eq!(carried.kind, kind::UNRESOLVED);
    assert_eq!(carried.next_hop, u64::from(world.client.next_hop));
    assert_eq!(packet, frame);
}

fn our_own_addresses_are_not_served(bench: &Bench) {
    let world = &bench.world;
    let to = |address| {
        let mut path = past_the_service(bench);
        path.to = SocketAddr::new(address, 22);
        path.tcp(flags::ACK, b"")
    };
    let port = world.servers[0].port;
    bench.expect_undelivered(port, &to(world.router()), drop::NOT_SERVED);
    if world.has(Setting::Balance) {
        // A service's address is no host's.
        bench.expect_drop(port, &to(world.service.ip()), drop::NOT_SERVED);
    }
}

fn a_destination_without_a_route_is_dropped_and_shown_to_the_agent(bench: &Bench) {
    let world = &bench.world;
    let mut path = past_the_service(bench);
    path.to.set_ip(match path.to {
        SocketAddr::V4(_) => [192, 0, 2, 200].into(),
        SocketAddr::V6(_) => [0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1].into(),
    });
    bench.expect_undelivered(
        world.servers[0].port,
        &path.tcp(flags::ACK, b""),
        drop::NO_ROUTE,
    );
}
