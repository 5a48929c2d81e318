//! The whole road: policy text to image, and the set-up of flows through switch, agent and manager in
//! one process.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench that cannot run is to stop with its place"
)]

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use signalbox::image::{self, Compiled};
use signalbox::service::{Pipeline, RunningTarget, Service};
use signalbox_policy::model::{Policy, SendPacket, Transport};
use signalbox_policy::testing;
use signalbox_switch::ports::MemoryPort;
use tokio::runtime::Runtime;

/// SYNs on their way at once; a busy service sees many.
const OUTSTANDING: u64 = 512;
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

/// A service whose hosts are all known, without health checks; what leaves comes out of `left`.
struct Running {
    service: Service,
    left: Receiver<()>,
}

fn start(runtime: &Runtime, compiled: &Compiled) -> Running {
    let mut plan = compiled.lowered.plan.clone();
    for balance in plan
        .services
        .iter_mut()
        .filter_map(|service| service.balance.as_mut())
    {
        balance.check = None;
    }
    let numbers: Vec<u16> = plan.ports.iter().map(|port| port.number).collect();
    let service = runtime.block_on(async {
        let target = RunningTarget::embedded(numbers.clone(), plan.cpu_port, None)
            .await
            .expect("a target");
        let pipeline = Pipeline::Push {
            device_config: compiled.image.json.clone().into_bytes(),
        };
        Service::start_plan(Arc::new(plan), compiled, target, pipeline)
            .await
            .expect("a service")
    });
    let (tell, left) = channel();
    let ports = numbers
        .into_iter()
        .map(|number| {
            let tell = tell.clone();
            let sink = move |_: &[u8]| {
                let _ = tell.send(());
            };
            (number, Box::new(MemoryPort::new(sink)) as _)
        })
        .collect();
    service.attach(ports).expect("the ports");
    Running { service, left }
}

/// The first packet of that flow.
fn syn(policy: &Policy, flow: u64) -> Vec<u8> {
    let send = SendPacket {
        port: 1,
        src: std::net::Ipv4Addr::from(0xcb00_7102 + (flow % 200) as u32).into(),
        dst: std::net::Ipv4Addr::new(203, 0, 113, 80).into(),
        transport: Transport::Tcp {
            src: 10_000 + (flow / 200) as u16,
            dst: 80,
            flags: 2,
        },
        ttl: 64,
        payload: 0,
    };
    testing::packet(policy, &send)
}

/// How long it takes until the first packets of `flows` new flows have left to their servers.
fn set_up(running: &Running, packets: &[Vec<u8>]) -> Duration {
    let view = running.service.view();
    let switch = view.switch().expect("the embedded switch");
    let begin = Instant::now();
    let (mut sent, mut left) = (0u64, 0u64);
    while left < packets.len() as u64 {
        while sent < packets.len() as u64 && sent - left < OUTSTANDING {
            switch
                .inject(1, packets[sent as usize].clone())
                .expect("a running switch");
            sent += 1;
        }
        running
            .left
            .recv_timeout(Duration::from_secs(5))
            .expect("every flow is set up");
        left += 1;
    }
    begin.elapsed()
}

fn flows(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/web.policy"))
        .expect("the example");
    let prepared = {
        let mut policy = policy(&text);
        // The clients are hosts that the tests would name; every one is known.
        let known = testing::prepared(&policy).network.neighbours;
        policy.network.neighbours = known;
        policy
    };
    let compiled = image::compile(prepared.clone()).expect("an image");
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
                let packets: Vec<Vec<u8>> = (0..now).map(|flow| syn(&prepared, flow)).collect();
                let running = start(&runtime, &compiled);
                took += set_up(&running, &packets);
                done += now;
            }
            took
        });
    });
    group.finish();
}

criterion_group!(benches, compile, check, flows);
criterion_main!(benches);
