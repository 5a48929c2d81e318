//! The whole road: policy text to image, and the set-up of flows through switch, agent and manager in
//! one process.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench that cannot run is to stop with its place"
)]

mod running;

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use running::Running;
use signalbox::image;
use signalbox_policy::model::Policy;
use signalbox_policy::testing;
use tokio::runtime::Runtime;

/// Flows of one service; below the size of its tables.
const FLOWS: u64 = 50_000;

fn examples() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the examples")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "policy"))
        .collect();
    paths.sort();
    paths
}

fn policy(text: &str) -> Policy {
    signalbox_policy::check(text, "web.policy")
        .policy
        .expect("a policy without errors")
}

fn compile(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy to image");
    for path in examples() {
        let text = std::fs::read_to_string(&path).expect("the example");
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| image::compile(policy(black_box(&text))).expect("an image"));
        });
    }
    group.finish();
}

/// A filter far longer than the examples': every rule is proved against all others.
fn check(criterion: &mut Criterion) {
    const RULES: u32 = 2_000;
    let rules: String = (0..RULES)
        .map(|i| {
            let source = std::net::Ipv4Addr::from(0x0b00_0000 | i.wrapping_mul(0x9e37_79b9) >> 8);
            format!("  deny ip.src {source} and tcp.dst {}\n", i % 1_000)
        })
        .collect();
    let text = format!(
        "network {{\n  port 1 clients {{ address 203.0.113.1/24 }}\n}}\n\nservice guard : filter {{\n{rules}}}\n"
    );
    let mut group = criterion.benchmark_group("policy check");
    group.sample_size(10);
    group.bench_function(BenchmarkId::from_parameter("2000 rules"), |bencher| {
        bencher.iter(|| policy(black_box(&text)));
    });
    group.finish();
}

/// The network of the clients, and how many of them there are.
const CLIENTS: (u32, u64) = (0xcb00_7102, 200);

fn flows(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let prepared = {
        let mut policy = running::policy("examples/web.policy");
        // The clients are hosts that the tests would name; every one is known.
        let known = testing::prepared(&policy).network.neighbours;
        policy.network.neighbours = known;
        policy
    };
    let compiled = running::compiled(&prepared);
    let mut group = criterion.benchmark_group("flow set-up in one process");
    group
        .throughput(Throughput::Elements(1))
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10);
    group.bench_function("balance", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut took = Duration::ZERO;
            let mut done = 0;
            while done < iterations {
                let now = FLOWS.min(iterations - done);
                let syns =
                    running::segments(&prepared, CLIENTS, [203, 0, 113, 80], now, running::SYN);
                took += Running::start(&runtime, &compiled).open(&runtime, &syns, false);
                done += now;
            }
            took
        });
    });
    group.finish();
}

criterion_group!(benches, compile, check, flows);
criterion_main!(benches);
