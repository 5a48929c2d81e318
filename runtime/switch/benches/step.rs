//! The speed of the packet path on the pipeline of examples/web.policy: TCP packets of established
//! connections, each of which hits its fixed affinity and is translated and routed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench that cannot be set up has nothing better to do than to stop"
)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use signalbox_p4::source::MapSources;
use signalbox_switch::{ActionCall, Bits, Config, Entry, Match, Output, Pipeline, Switch};
use std::hint::black_box;

const SERVICE: u64 = 0xcb00_7150;
const SERVER: u64 = 0x0a00_010a;

/// The image of examples/web.policy, and the number that its `ready` entry wants.
fn image() -> (String, u64) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/web.policy");
    let text = std::fs::read_to_string(path).expect("the example");
    let checked = signalbox_policy::check(&text, "web.policy");
    let lowered = signalbox_lower::lower(&checked.policy.expect("a right policy")).expect("P4");
    let mut sources = MapSources::new().with("web.p4", lowered.p4.as_str());
    for (name, text) in &lowered.sources {
        sources.insert(name.as_str(), text.as_str());
    }
    let options = signalbox_p4::Options::default();
    let compiled = signalbox_p4::compile(&sources, "web.p4", &options).expect("an image");
    (compiled.image.json, u64::from(lowered.plan.program_id))
}

fn ternary(value: u64, mask: u64) -> Match {
    Match::Ternary {
        value: Bits::from(value),
        mask: Bits::from(mask),
    }
}

fn insert(
    switch: &mut Switch,
    table: &str,
    key: Vec<Match>,
    priority: i32,
    action: &str,
    params: &[u64],
) {
    let schema = switch.schema();
    let table = schema.table(table).expect(table);
    let action = schema.table_action(table, action).expect(action);
    let call = ActionCall::new(action, params.iter().map(|value| Bits::from(*value)));
    switch
        .table_insert(0, table, Entry::new(key, priority, call))
        .expect("a new entry");
}

/// Source address and port of a connection.
fn client(flow: u64) -> (u64, u64) {
    (
        0xc612_0000 + flow / 4,
        1024 + flow % 4 * 1000 + flow % 50_000,
    )
}

/// A switch with the entries of a running service and `flows` connections.
fn switch(json: &str, program: u64, flows: u64) -> Switch {
    let mut switch = Switch::new(Config {
        cpu_port: Some(510),
        ..Config::default()
    });
    switch.swap(Pipeline::parse(json).expect("a pipeline"));
    let exact = Match::exact;
    insert(
        &mut switch,
        "Ingress.ready",
        vec![exact(program)],
        0,
        "Ingress.go",
        &[],
    );
    for port in 1..4 {
        insert(
            &mut switch,
            "Ingress.port",
            vec![exact(port)],
            0,
            "Ingress.own",
            &[port],
        );
        let own = ternary(0x0a00_0001 + (port << 8), 0xffff_ffff);
        let key = vec![own, Match::Any, Match::Any, Match::Any];
        insert(
            &mut switch,
            "Ingress.host",
            key,
            10,
            "Ingress.divert_local",
            &[],
        );
        let hop = vec![exact(port)];
        insert(
            &mut switch,
            "Ingress.next_hop",
            hop,
            0,
            "Ingress.send",
            &[port, port, 100 + port, 1500],
        );
    }
    for (value, prefix_len, hop) in [
        (0u64, 0, 1),
        (0xcb00_7100, 24, 1),
        (0x0a00_0100, 24, 2),
        (0x0a00_0200, 24, 3),
        (SERVER, 32, 2),
    ] {
        let prefix = Match::Lpm {
            value: Bits::from(value),
            prefix_len,
        };
        insert(
            &mut switch,
            "Ingress.route",
            vec![prefix],
            0,
            "Ingress.to_next_hop",
            &[hop],
        );
    }
    let wildcard = |matches: &[(usize, u64, u64)]| {
        let mut key = vec![Match::Any; 9];
        for (field, value, mask) in matches {
            key[*field] = ternary(*value, *mask);
        }
        key
    };
    let guard = "Cascade.guard.wildcard";
    for (value, mask) in [(0xc000_0242, 0xffff_ffff), (0xc633_6400, 0xffff_ff00)] {
        let key = wildcard(&[(1, value, mask)]);
        insert(
            &mut switch,
            guard,
            key,
            1000,
            "Cascade.guard.discard",
            &[1, 1],
        );
    }
    insert(
        &mut switch,
        guard,
        wildcard(&[]),
        1,
        "Cascade.guard.pass",
        &[2, 2],
    );
    let ask = [512, 0, 0, 1, 1];
    let key = wildcard(&[(2, SERVICE, 0xffff_ffff), (3, 6, 0xff), (5, 80, 0xffff)]);
    insert(
        &mut switch,
        "Cascade.web_lb.wildcard",
        key,
        1000,
        "Cascade.web_lb.ask",
        &ask,
    );
    for server in [SERVER, SERVER + 0x100, SERVER + 0x101] {
        let key = wildcard(&[(1, server, 0xffff_ffff), (3, 6, 0xff), (4, 80, 0xffff)]);
        let action = "Cascade.web_lb_reply.ask";
        insert(
            &mut switch,
            "Cascade.web_lb_reply.criteria",
            key,
            1000,
            action,
            &ask,
        );
    }
    for flow in 0..flows {
        let (source, port) = client(flow);
        let key = [source, SERVICE, 6, port, 80, 0].map(exact).to_vec();
        let to = [source, SERVER, port, 80, 0, 0, 1, 10 + flow];
        insert(
            &mut switch,
            "Cascade.web_lb.fixed",
            key,
            0,
            "Cascade.web_lb.translate",
            &to,
        );
        let key = [SERVER, source, 6, 80, port, 0].map(exact).to_vec();
        let to = [SERVICE, source, 80, port, 0, 0, 1, 10 + flow];
        let action = "Cascade.web_lb_reply.translate";
        insert(
            &mut switch,
            "Cascade.web_lb_reply.fixed",
            key,
            0,
            action,
            &to,
        );
    }
    switch
}

/// A TCP acknowledgement with 20 bytes of data, of that connection.
fn packet(flow: u64) -> Vec<u8> {
    let (source, port) = client(flow);
    let mut packet = vec![0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 2, 8, 0];
    packet.extend([0x45, 0, 0, 60, 0, 1, 0x40, 0, 64, 6, 0, 0]);
    packet.extend((source as u32).to_be_bytes());
    packet.extend((SERVICE as u32).to_be_bytes());
    let sum: u32 = packet[14..34]
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    packet[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet.extend((port as u16).to_be_bytes());
    packet.extend([
        0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0x12, 0x34, 0, 0,
    ]);
    packet.extend([0; 20]);
    packet
}

fn step(criterion: &mut Criterion) {
    let (json, program) = image();
    let mut group = criterion.benchmark_group("step");
    group.throughput(Throughput::Elements(1));
    for flows in [100u64, 10_000] {
        let mut switch = switch(&json, program, flows);
        let mut out = Output::new();
        // Packets of the connections in no order; only what differs is changed in one buffer, as
        // packets come out of a warm receive buffer.
        let packets: Vec<Vec<u8>> = (0..flows).map(|i| packet(i * 7919 % flows)).collect();
        let differs = |packet: &[u8]| -> [u8; 12] { packet[24..36].try_into().unwrap() };
        let heads: Vec<[u8; 12]> = packets.iter().map(|packet| differs(packet)).collect();
        let mut buffer = packets[0].clone();
        let mut next = 0;
        group.bench_function(BenchmarkId::new("fixed affinities", flows), |bencher| {
            bencher.iter(|| {
                buffer[24..36].copy_from_slice(&heads[next]);
                next = if next + 1 == heads.len() { 0 } else { next + 1 };
                out.clear();
                switch.step(1, 1, black_box(&buffer), &mut out);
                assert_eq!(out.packets().len(), 1);
            });
        });
    }
    group.finish();
}

fn load(criterion: &mut Criterion) {
    let (json, _) = image();
    criterion.bench_function("load examples/web.policy's image", |bencher| {
        bencher.iter(|| Pipeline::parse(black_box(&json)).expect("a pipeline"));
    });
}

criterion_group!(benches, step, load);
criterion_main!(benches);
