//! A gate in one process: complete hand-overs, from a client's SYN until both directions are the switch's; and
//! how fast data go through a connection that the switch has, beside one without a gate.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench that cannot run is to stop with its place"
)]

mod running;

use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use running::{ACK, ROUTED, Running, SYN, filled, segments};
use signalbox::image::Compiled;
use signalbox_policy::model::Policy;
use tokio::runtime::Runtime;

/// Connections that are handed over before another service takes over; below the size of its tables.
const NEW: u64 = 30_000;
/// Connections that are being set up at once.
const UNDER_WAY: usize = 256;
/// Connections that the switch has while packets are timed.
const ESTABLISHED: u64 = 10_000;
/// Data of a segment where the MTU is 1500, in bytes.
const FULL: u16 = 1460;
const GATED: [u8; 4] = [10, 0, 1, 5];
const OPEN: [u8; 4] = [10, 0, 1, 6];

/// The time from the first SYN until the last connection's handshake has reached its server, which is when its
/// entries are in.
fn hand_over(running: &Running, runtime: &Runtime, syns: &[Vec<u8>]) -> Duration {
    let mut syns = syns.iter();
    let mut under_way = 0;
    let begin = Instant::now();
    loop {
        while under_way < UNDER_WAY
            && let Some(syn) = syns.next()
        {
            running.inject(1, syn.clone());
            under_way += 1;
        }
        if under_way == 0 {
            return begin.elapsed();
        }
        let (port, packet) = running.next(runtime);
        match (port, packet[47] & (SYN | ACK)) {
            (1, flags) if flags == SYN | ACK => running.inject(1, running::answer(packet, ACK)),
            (2, SYN) => running.inject(2, running::answer(packet, SYN | ACK)),
            (2, ACK) => under_way -= 1,
            other => panic!("a segment that nobody waits for: {other:?}"),
        }
    }
}

fn hand_overs(criterion: &mut Criterion, runtime: &Runtime, policy: &Policy, compiled: &Compiled) {
    let mut group = criterion.benchmark_group("gate in one process");
    group
        .throughput(Throughput::Elements(1))
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10);
    group.bench_function("hand over", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut took = Duration::ZERO;
            let mut done = 0;
            while done < iterations {
                let now = NEW.min(iterations - done);
                let syns = segments(policy, ROUTED, GATED, now, SYN);
                took += hand_over(&Running::start(runtime, compiled), runtime, &syns);
                done += now;
            }
            took
        });
    });
    group.finish();
}

/// Full segments of the clients' uploads to one server or the other.
fn packets(criterion: &mut Criterion, running: &Running, policy: &Policy) {
    let mut group = criterion.benchmark_group("step");
    group.throughput(Throughput::Bytes(FULL as u64));
    for (name, to) in [("gate, the switch has it", GATED), ("gate, past it", OPEN)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let packets = filled(policy, ROUTED, to, ESTABLISHED, ACK, FULL);
                running.carry(packets, ESTABLISHED, iterations)
            });
        });
    }
    group.finish();
}

fn gate(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let policy = running::policy("benches/gate.policy");
    let compiled = running::compiled(&policy);
    hand_overs(criterion, &runtime, &policy, &compiled);
    let running = Running::start(&runtime, &compiled);
    hand_over(
        &running,
        &runtime,
        &segments(&policy, ROUTED, GATED, ESTABLISHED, SYN),
    );
    packets(criterion, &running, &policy);
}

criterion_group!(benches, gate);
criterion_main!(benches);
