//! What a gate does on one thread: SYNs answered, and complete hand-overs of two handshakes each.
//! SIGNALBOX wants 50,000 of the first and 5,000 of the second a second.
#![allow(clippy::unwrap_used, reason = "a bench, like a test, may panic")]

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use signalbox_agent::flow::{PacketKind, Part, Tuple};
use signalbox_agent::message::CarriedState;
use signalbox_agent::packet::{TYPE_IPV4, frame};
use signalbox_agent::testing;
use signalbox_gate::Gate;
use signalbox_manager::proxy::{Diverted, Question, Step};
use signalbox_manager::segment::{ACK, Options, SYN, Segment};

const SERVER: (IpAddr, u16) = (IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 1, 5)), 22);
const AT: Duration = Duration::from_secs(1);
const BATCH: u32 = 1000;

fn gate() -> Gate {
    let mut plan = testing::gate();
    plan.bounds.proxied = 10_000;
    Gate::new(plan, [7; 16])
}

fn client(n: u32) -> (IpAddr, u16) {
    let [_, a, b, c] = n.to_be_bytes();
    (IpAddr::from([192, a, b, c]), 40_000)
}

fn segment(
    src: (IpAddr, u16),
    dst: (IpAddr, u16),
    flags: u8,
    seq: u32,
    ack: u32,
) -> (Tuple, Bytes) {
    let options = Options {
        mss: (flags & SYN != 0).then_some(1460),
        window_scale: (flags & SYN != 0).then_some(7),
    };
    let s = Segment {
        src,
        dst,
        seq,
        ack,
        flags,
        window: 1000,
        options,
        payload: Bytes::new(),
    };
    let flow = Tuple {
        src: src.0,
        dst: dst.0,
        proto: 6,
        sport: src.1,
        dport: dst.1,
    };
    (flow, frame([2; 6], [4; 6], TYPE_IPV4, &s.emit()).into())
}

fn hear(gate: &mut Gate, part: Part, (flow, packet): &(Tuple, Bytes)) -> Vec<Step> {
    let packet = Diverted {
        question: Question { way: 1, request: 1 },
        part,
        flow: *flow,
        kind: PacketKind::Whole,
        packet,
        state: CarriedState::default(),
    };
    gate.packet(AT, &packet);
    gate.steps()
}

/// The first segment that the gate sends.
fn said(steps: &[Step]) -> Segment {
    let packet = steps.iter().find_map(|step| match step {
        Step::Inject { packet, .. } => Some(packet),
        _ => None,
    });
    Segment::parse(packet.unwrap()).unwrap()
}

fn syns(c: &mut Criterion) {
    let syns: Vec<_> = (0..BATCH)
        .map(|n| segment(client(n), SERVER, SYN, n, 0))
        .collect();
    let mut gate = gate();
    let mut group = c.benchmark_group("gate");
    group.throughput(Throughput::Elements(u64::from(BATCH)));
    group.bench_function("syn", |b| {
        b.iter(|| {
            for syn in &syns {
                black_box(hear(&mut gate, Part::Forward, syn));
            }
        });
    });
    // SYN, acknowledgement, the server's answer: parsed, checked, decided and answered.
    group.bench_function("hand over", |b| {
        b.iter_batched(
            self::gate,
            |mut gate| {
                for n in 0..BATCH {
                    let (client, server_isn) = (client(n), n.wrapping_mul(77));
                    let syn = segment(client, SERVER, SYN, n, 0);
                    let cookie = said(&hear(&mut gate, Part::Forward, &syn)).seq;
                    let ack = segment(client, SERVER, ACK, n + 1, cookie.wrapping_add(1));
                    hear(&mut gate, Part::Forward, &ack);
                    let answer = segment(SERVER, client, SYN | ACK, server_isn, n + 1);
                    let steps = hear(&mut gate, Part::Reply, &answer);
                    assert!(steps.iter().any(|s| matches!(s, Step::HandOver { .. })));
                }
                gate
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, syns);
criterion_main!(benches);
