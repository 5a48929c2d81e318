//! Balance: what is asked, how it resumes, what a fixed affinity does.

use std::net::SocketAddr;

use signalbox_lower::entries::{Match, PlannedEntry, Value};
use signalbox_lower::plan::ServicePlan;

use super::{scenarios, slot};
use crate::bench::{ALL_EVENTS, Bench, Carried, bits, drop, kind};
use crate::frames::{Path, flags, look};
use crate::world::Neighbour;

scenarios! {
    a_new_connection_is_asked_about_with_its_state in Balance;
    an_answered_packet_resumes_and_is_counted_with_its_own_length in Balance needs ExactPacketOutBytes;
    an_answered_packet_resumes_into_its_new_affinity in Balance;
    an_answered_packet_without_an_affinity_goes_on in Balance;
    affinities_translate_both_directions in Balance;
    udp_without_a_checksum_stays_without in Balance, Ipv4;
    a_fixed_affinity_beats_the_criteria_and_only_its_own_tuple in Balance;
    a_fixed_affinity_may_discard_and_dispatch in Balance;
    without_criteria_the_floor_drops in Balance;
    an_unknown_reply_is_asked_about in Balance;
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A fixed affinity of a path.
pub(super) fn fixed(
    table: &str,
    path: &Path,
    proto: u8,
    action: &str,
    params: Vec<(&'static str, Value)>,
) -> PlannedEntry {
    let control = table.rsplit_once('.').unwrap().0;
    PlannedEntry {
        table: table.to_owned(),
        matches: vec![
            ("src", Match::Exact(Value::Addr(path.from.ip()))),
            ("dst", Match::Exact(Value::Addr(path.to.ip()))),
            ("proto", Match::Exact(bits(proto, 8))),
            ("sport", Match::Exact(bits(path.from.port(), 16))),
            ("dport", Match::Exact(bits(path.to.port(), 16))),
            ("kind", Match::Exact(bits(0u8, 2))),
        ],
        priority: 0,
        action: format!("{control}.{action}"),
        params,
    }
}

/// Events of interest, entry and slot, as every action of a fixed affinity has them.
pub(super) fn tail(packet: u16, notice: u16, entry: u32, slot: u32) -> Vec<(&'static str, Value)> {
    vec![
        ("packet_events", bits(packet, 10)),
        ("notice_events", bits(notice, 10)),
        ("entry", bits(entry, 32)),
        ("slot", bits(slot, 32)),
    ]
}

fn translation(to: &Path, slot: u32) -> Vec<(&'static str, Value)> {
    let mut params = vec![
        ("src", Value::Addr(to.from.ip())),
        ("dst", Value::Addr(to.to.ip())),
        ("sport", bits(to.from.port(), 16)),
        ("dport", bits(to.to.port(), 16)),
    ];
    params.extend(tail(0, 0, 1, slot));
    params
}

/// Both directions of a flow, as the agent installs them: the reply first.
pub fn flow_entries(
    service: &ServicePlan,
    client: SocketAddr,
    to: SocketAddr,
    server: SocketAddr,
    proto: u8,
    slot: u32,
) -> [PlannedEntry; 2] {
    let path = |from, to| Path {
        from_mac: [0; 6],
        to_mac: [0; 6],
        from,
        to,
        ttl: 64,
    };
    let reply = service.reply.as_ref().unwrap().fixed.as_ref().unwrap();
    let forward = service.forward.fixed.as_ref().unwrap();
    let home = translation(&path(to, client), slot);
    let there = translation(&path(client, server), slot);
    [
        fixed(reply, &path(server, client), proto, "translate", home),
        fixed(forward, &path(client, to), proto, "translate", there),
    ]
}

/// A flow from a client's port to a server of the first balance service.
pub(super) fn flow(bench: &Bench, client_port: u16, server: usize, proto: u8) -> [PlannedEntry; 2] {
    let world = &bench.world;
    let there = world.to_service(client_port);
    let server = world.from_server(server, client_port).from;
    let slot = slot(bench);
    flow_entries(world.balance(), there.from, there.to, server, proto, slot)
}

/// Checks a frame against where it must have gone.
pub(super) fn assert_routed(frame: &[u8], to: &Neighbour, from: SocketAddr, dst: SocketAddr) {
    let seen = look(frame);
    let expected = Path {
        from_mac: to.router_mac,
        to_mac: to.mac,
        from,
        to: dst,
        ttl: 63,
    };
    assert_eq!(seen.path, expected);
}

fn a_new_connection_is_asked_about_with_its_state(bench: &Bench) {
    let frame = bench.world.to_service(40_000).tcp(flags::SYN, b"");
    bench.send(bench.world.client.port, &frame);
    let (carried, packet) = bench.expect_to_agent();
    let balance = bench.world.balance();
    let expected = Carried {
        kind: kind::INTEREST,
        part: 2,
        stage: balance.stage.into(),
        port: bench.world.client.port.into(),
        entry: balance.forward.criteria[0].id.into(),
        ..Carried::default()
    };
    assert_eq!(carried, expected);
    assert_eq!(packet, frame);
    assert_eq!(
        bench.counter(
            &balance.forward.stats,
            balance.forward.criteria[0].id.into()
        ),
        (0, 0),
        "a diverted packet is counted where it resumes"
    );
}

/// Sends a SYN, installs its flow to a server, and hands the SYN back.
fn resume(bench: &Bench, server: usize) -> Vec<u8> {
    let frame = bench.world.to_service(40_000).tcp(flags::SYN, b"");
    bench.send(bench.world.client.port, &frame);
    let (carried, packet) = bench.expect_to_agent();
    bench.install(&flow(bench, 40_000, server, TCP));
    bench.packet_out(&carried.resumed(), &packet);
    let sent = bench.expect(bench.world.servers[server].port);
    let world = &bench.world;
    let to = SocketAddr::new(world.servers[server].address, world.server_ports[server]);
    let from = world.to_service(40_000).from;
    assert_routed(&sent, &world.servers[server], from, to);
    frame
}

fn an_answered_packet_resumes_into_its_new_affinity(bench: &Bench) {
    resume(bench, 0);
    let stats = &bench.world.balance().forward.stats;
    assert_eq!(bench.counter(stats, slot(bench).into()).0, 1);
}

fn an_answered_packet_resumes_and_is_counted_with_its_own_length(bench: &Bench) {
    let frame = resume(bench, 0);
    let stats = &bench.world.balance().forward.stats;
    assert_eq!(
        bench.counter(stats, slot(bench).into()),
        (1, frame.len() as i64)
    );
}

fn an_answered_packet_without_an_affinity_goes_on(bench: &Bench) {
    let frame = bench.world.to_service(40_000).tcp(flags::SYN, b"");
    bench.send(bench.world.client.port, &frame);
    let (carried, packet) = bench.expect_to_agent();
    let before = bench.counter("Ingress.drops", drop::NOT_SERVED).0;
    bench.packet_out(&carried.resumed(), &packet);
    // Nobody has rewritten it: it is still for an address of ours.
    bench.expect_nothing();
    assert_eq!(
        bench.counter("Ingress.drops", drop::NOT_SERVED).0,
        before + 1
    );
    let unanswered = Carried { kind: 1, ..carried };
    bench.packet_out(&unanswered, &packet);
    assert_eq!(
        bench.expect_to_agent(),
        (carried, packet),
        "without `answered` it is asked again"
    );
}

fn affinities_translate_both_directions(bench: &Bench) {
    let world = &bench.world;
    for (server, neighbour) in world.servers.iter().enumerate() {
        for (proto, client_port) in [(TCP, 41_000), (UDP, 42_000)] {
            let client_port = client_port + server as u16;
            bench.install(&flow(bench, client_port, server, proto));
            let there = world.to_service(client_port);
            let back = world.from_server(server, client_port);
            for payload in [&b""[..], b"x", b"an odd length", &[0xff; 1000]] {
                let build = |path: &Path| match proto {
                    TCP => path.tcp(flags::ACK | flags::PSH, payload),
                    _ => path.udp(payload),
                };
                bench.send(world.client.port, &build(&there));
                let sent = bench.expect(neighbour.port);
                assert_routed(&sent, neighbour, there.from, back.from);
                assert_eq!(look(&sent).payload, payload);
                bench.send(neighbour.port, &build(&back));
                let sent = bench.expect(world.client.port);
                assert_routed(&sent, &world.client, there.to, there.from);
                assert_eq!(look(&sent).payload, payload);
            }
        }
    }
}

fn udp_without_a_checksum_stays_without(bench: &Bench) {
    let world = &bench.world;
    let path = world.to_service(42_000);
    bench.install(&flow(bench, 42_000, 0, UDP));
    let mut frame = path.udp(b"data");
    frame[40..42].fill(0);
    bench.send(world.client.port, &frame);
    let sent = bench.expect(world.servers[0].port);
    assert_eq!(sent[40..42], [0, 0]);
    assert_eq!(look(&sent).path.to.ip(), world.servers[0].address);
}

fn a_fixed_affinity_beats_the_criteria_and_only_its_own_tuple(bench: &Bench) {
    let world = &bench.world;
    bench.install(&flow(bench, 40_000, 0, TCP));
    bench.send(
        world.client.port,
        &world.to_service(40_000).tcp(flags::SYN, b""),
    );
    bench.expect(world.servers[0].port);
    bench.send(
        world.client.port,
        &world.to_service(40_001).tcp(flags::SYN, b""),
    );
    assert_eq!(bench.expect_to_agent().0.kind, kind::INTEREST);
    bench.remove(&flow(bench, 40_000, 0, TCP));
    bench.send(
        world.client.port,
        &world.to_service(40_000).tcp(flags::ACK, b""),
    );
    assert_eq!(bench.expect_to_agent().0.kind, kind::INTEREST);
}

fn a_fixed_affinity_may_discard_and_dispatch(bench: &Bench) {
    let world = &bench.world;
    let table = world.balance().forward.fixed.as_ref().unwrap();
    let path = world.to_service(43_000);
    let params = vec![("entry", bits(1u8, 32)), ("slot", bits(slot(bench), 32))];
    bench.install(&[fixed(table, &path, TCP, "discard", params)]);
    bench.expect_drop(world.client.port, &path.tcp(flags::ACK, b""), drop::SERVICE);
    let path = world.to_service(43_001);
    let mut params = vec![
        ("next_hop", bits(world.servers[0].next_hop, 16)),
        ("tunnel", bits(0u8, 16)),
    ];
    params.extend(tail(0, 0, 1, slot(bench)));
    bench.install(&[fixed(table, &path, TCP, "dispatch", params)]);
    bench.send(world.client.port, &path.tcp(flags::ACK, b"data"));
    let sent = bench.expect(world.servers[0].port);
    assert_routed(&sent, &world.servers[0], path.from, path.to);
    let stats = &world.balance().forward.stats;
    assert_eq!(bench.counter(stats, slot(bench).into()).0, 2);
}

fn without_criteria_the_floor_drops(bench: &Bench) {
    let world = &bench.world;
    let balance = world.balance();
    let frame = world.to_service(40_000).tcp(flags::SYN, b"");
    let criteria: Vec<PlannedEntry> = balance
        .forward
        .criteria
        .iter()
        .flat_map(|one| crate::bench::ask_entries(&balance.forward, one, ALL_EVENTS, 0))
        .collect();
    bench.remove(&criteria);
    bench.expect_drop(world.client.port, &frame, drop::SERVICE);
    bench.install(&criteria);
    bench.send(world.client.port, &frame);
    assert_eq!(bench.expect_to_agent().0.kind, kind::INTEREST);
}

fn an_unknown_reply_is_asked_about(bench: &Bench) {
    let world = &bench.world;
    let frame = world.from_server(0, 44_000).tcp(flags::ACK, b"late");
    bench.send(world.servers[0].port, &frame);
    let (carried, packet) = bench.expect_to_agent();
    assert_eq!((carried.kind, carried.part), (kind::INTEREST, 1));
    assert_eq!(carried.stage, u64::from(world.balance().stage));
    assert_eq!(packet, frame);
}
