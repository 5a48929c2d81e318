//! A cascade of filter, observe, balance and nat in one process: the set-up of connections, packets of
//! established ones, and what their periodic reports cost.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench that cannot run is to stop with its place"
)]

mod running;

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use running::{ACK, ROUTED, Running, SYN, segments};
use signalbox::image::Compiled;
use signalbox_policy::model::Policy;
use tokio::runtime::Runtime;

/// Connections that are set up before another service takes over; each is a flow of three services.
const NEW: u64 = 50_000;
/// Established connections.
const ESTABLISHED: u64 = 100_000;
/// The service that they call.
const SERVICE: [u8; 4] = [10, 1, 0, 80];
/// From one report of a connection to the next, as the policy says.
const PERIOD: Duration = Duration::from_secs(10);

fn set_up(criterion: &mut Criterion, runtime: &Runtime, policy: &Policy, compiled: &Compiled) {
    let mut group = criterion.benchmark_group("flow set-up in one process");
    group
        .throughput(Throughput::Elements(1))
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10);
    group.bench_function("cascade", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut took = Duration::ZERO;
            let mut done = 0;
            while done < iterations {
                let now = NEW.min(iterations - done);
                let syns = segments(policy, ROUTED, SERVICE, now, SYN);
                took += Running::start(runtime, compiled).open(runtime, &syns, false);
                done += now;
            }
            took
        });
    });
    group.finish();
}

/// Packets of established connections, with the entries that agent and managers have made.
fn packets(criterion: &mut Criterion, running: &Running, policy: &Policy) {
    let mut group = criterion.benchmark_group("step");
    group.throughput(Throughput::Elements(1));
    // Those that fit in the processor's caches show what is left when memory is not waited for.
    for in_use in [ESTABLISHED, ESTABLISHED / 1000] {
        group.bench_function(format!("cascade, connections/{in_use}"), |bencher| {
            bencher.iter_custom(|iterations| {
                let packets = segments(policy, ROUTED, SERVICE, ESTABLISHED, ACK);
                running.carry(packets, in_use, iterations)
            });
        });
    }
    group.finish();
}

/// Processor time of this process.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("procfs");
    let (_, after) = stat.rsplit_once(')').expect("a name in parentheses");
    let mut ticks = after.split_whitespace().skip(11);
    let mut next = || -> u64 {
        let field = ticks.next().expect("a field");
        field.parse().expect("a number")
    };
    // Hundredths of a second, user's and system's.
    Duration::from_millis((next() + next()) * 10)
}

/// The processor time of a period in which every connection is reported, both directions: all that switch,
/// agent and managers do then.
fn reports(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("processor time of 10 s with reports");
    group
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_millis(1))
        .sample_size(10);
    group.bench_function(format!("connections/{ESTABLISHED}"), |bencher| {
        bencher.iter_custom(|iterations| {
            let begin = processor();
            std::thread::sleep(PERIOD * iterations as u32);
            processor() - begin
        });
    });
    group.finish();
}

fn cascade(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let policy = running::policy("benches/cascade.policy");
    let compiled = running::compiled(&policy);
    set_up(criterion, &runtime, &policy, &compiled);
    let running = Running::start(&runtime, &compiled);
    running.open(
        &runtime,
        &segments(&policy, ROUTED, SERVICE, ESTABLISHED, SYN),
        true,
    );
    packets(criterion, &running, &policy);
    reports(criterion);
}

criterion_group!(benches, cascade);
criterion_main!(benches);
