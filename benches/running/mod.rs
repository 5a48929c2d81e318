//! A service in this process for benches: switch, agent and managers of a policy, ports that are in memory,
//! and connections through it.

#![allow(dead_code, reason = "no bench needs all of it")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use signalbox::control::Request;
use signalbox::image::{self, Compiled};
use signalbox::service::{RunningTarget, Service};
use signalbox_policy::model::{Policy, SendPacket, Transport};
use signalbox_policy::testing;
use signalbox_switch::Output;
use signalbox_switch::ports::MemoryPort;
use tokio::runtime::Runtime;

/// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// SYNs on their way at once: with their notices fewer than what waits for the agent may be.
const OUTSTANDING: usize = 256;
/// Packets that the switch takes from a port at once.
const BURST: usize = 32;
/// Longer than any packet of a running service takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// The policy of that file below this package.
pub fn policy(path: &str) -> Policy {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = std::fs::read_to_string(path).expect("the policy");
    signalbox_policy::check(&text, "bench.policy")
        .policy
        .expect("a policy without errors")
}

/// A service whose hosts are all known, without health checks, whose agent waits for its managers.
pub struct Running {
    /// The service.
    pub service: Service,
    /// What leaves, with its port.
    left: Receiver<(u16, Vec<u8>)>,
}

impl Running {
    /// Starts it.
    pub fn start(runtime: &Runtime, compiled: &Compiled) -> Self {
        let mut plan = compiled.lowered.plan.clone();
        for service in &mut plan.services {
            if let Some(balance) = &mut service.balance {
                balance.check = None;
            }
            // Nobody sends anything again here, whatever else the machine does meanwhile.
            service.limits.hold_ms = 5_000;
        }
        let numbers: Vec<u16> = plan.ports.iter().map(|port| port.number).collect();
        let service = runtime.block_on(async {
            let target = RunningTarget::of_plan(&plan).await.expect("a target");
            Service::start_plan(Arc::new(plan), compiled, target, compiled.pipeline())
                .await
                .expect("a service")
        });
        let (tell, left) = channel();
        let ports = numbers
            .into_iter()
            .map(|number| {
                let tell = tell.clone();
                let sink = move |packet: &[u8]| {
                    let _ = tell.send((number, packet.to_vec()));
                };
                (number, Box::new(MemoryPort::new(sink)) as _)
            })
            .collect();
        service.attach(ports).expect("the ports");
        Self { service, left }
    }

    /// A packet comes in.
    pub fn inject(&self, port: u16, packet: Vec<u8>) {
        let view = self.service.view();
        let switch = view.switch().expect("the embedded switch");
        switch.inject(port, packet).expect("a running switch");
    }

    /// The next packet that leaves, with its port.
    pub fn next(&self, runtime: &Runtime) -> (u16, Vec<u8>) {
        self.left.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let status = runtime.block_on(self.service.view().answer(Request::Status));
            panic!("nothing leaves any more: {status:?}");
        })
    }

    /// Sends what opens connections in at port 1 and waits until all of it has left, answered with a
    /// SYN-ACK where `answered` says so; the time from the first packet to the last.
    pub fn open(&self, runtime: &Runtime, syns: &[Vec<u8>], answered: bool) -> Duration {
        let mut syns = syns.iter();
        let begin = Instant::now();
        let mut under_way = 0usize;
        loop {
            while under_way < OUTSTANDING
                && let Some(syn) = syns.next()
            {
                self.inject(1, syn.clone());
                under_way += 1;
            }
            if under_way == 0 {
                return begin.elapsed();
            }
            let (port, packet) = self.next(runtime);
            if answered && port != 1 {
                self.inject(port, answer(packet, SYN | ACK));
            } else {
                under_way -= 1;
            }
        }
    }

    /// The time that the switch takes, on its own thread, to carry `count` packets from port 1 to port 2, in
    /// bursts as ports hand them over: those of the first `in_use` of these connections, in no order.
    pub fn carry(&self, in_order: Vec<Vec<u8>>, in_use: u64, count: u64) -> Duration {
        let view = self.service.view();
        let switch = view.switch().expect("the embedded switch");
        let took = switch.call_blocking(move |switch, now| {
            // Only what differs is changed in a few buffers, as packets come out of warm receive buffers.
            let differs = |i: u64| &in_order[(i * 7919 % in_use) as usize][24..36];
            let heads: Vec<[u8; 12]> = (0..in_use)
                .map(|i| differs(i).try_into().expect("12 bytes"))
                .collect();
            let mut buffers = vec![in_order[0].clone(); BURST];
            let mut heads = heads.iter().cycle().take(count as usize).peekable();
            let mut out = Output::new();
            let begin = Instant::now();
            while heads.peek().is_some() {
                let mut burst = 0;
                for (buffer, head) in buffers.iter_mut().zip(&mut heads) {
                    buffer[24..36].copy_from_slice(head);
                    burst += 1;
                }
                let packets = buffers[..burst].iter();
                out.clear();
                switch.burst(now, packets.map(|p| (1, black_box(&**p))), &mut out);
                assert_eq!(out.packets().filter(|p| p.port == 2).count(), burst);
            }
            begin.elapsed()
        });
        took.expect("a running switch")
    }
}

/// Clients behind the router of the benches' own policies: the first address, and how many they are.
pub const ROUTED: (u32, u64) = (0x0a40_0001, 4_000);
/// The flag of that name.
pub const SYN: u8 = 2;
/// The flag of that name.
pub const ACK: u8 = 16;

/// A TCP segment of IPv4 for each of so many connections, from these clients to port 80 of that address: SYNs
/// without payload, others with 20 bytes. They differ in bytes 24 to 36, and in the TCP checksum.
pub fn segments(
    policy: &Policy,
    clients: (u32, u64),
    to: [u8; 4],
    connections: u64,
    flags: u8,
) -> Vec<Vec<u8>> {
    let payload = if flags & SYN == 0 { 20 } else { 0 };
    filled(policy, clients, to, connections, flags, payload)
}

/// The same with so many bytes of payload.
pub fn filled(
    policy: &Policy,
    (first, hosts): (u32, u64),
    to: [u8; 4],
    connections: u64,
    flags: u8,
    payload: u16,
) -> Vec<Vec<u8>> {
    let segment = |n: u64| SendPacket {
        port: 1,
        src: std::net::Ipv4Addr::from(first + (n % hosts) as u32).into(),
        dst: to.into(),
        transport: Transport::Tcp {
            src: 10_000 + (n / hosts) as u16,
            dst: 80,
            flags,
        },
        ttl: 64,
        payload,
    };
    let all = (0..connections).map(segment);
    all.map(|send| testing::packet(policy, &send)).collect()
}

/// What the receiver of a segment answers with these flags: a SYN with another number of its own, both
/// without options and payload. The segment is IPv4's, without IP options.
pub fn answer(packet: Vec<u8>, flags: u8) -> Vec<u8> {
    let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| packet[at + i]));
    let (seq, ack) = (word(38), word(42));
    let counted = u32::from(packet[47] & SYN != 0);
    let own = if flags & 2 == 0 {
        ack
    } else {
        seq ^ 0x5a5a_5a5a
    };
    let mut answer = packet;
    answer.truncate(54);
    let mut swap = |a: usize, b: usize, n: usize| {
        for i in 0..n {
            answer.swap(a + i, b + i);
        }
    };
    swap(0, 6, 6);
    swap(26, 30, 4);
    swap(34, 36, 2);
    answer[16..18].copy_from_slice(&40u16.to_be_bytes());
    answer[22] = 64;
    answer[38..42].copy_from_slice(&own.to_be_bytes());
    answer[42..46].copy_from_slice(&seq.wrapping_add(counted).to_be_bytes());
    answer[46..52].copy_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0]);
    answer[24..26].fill(0);
    let sum = checksum(&answer[14..34], 0);
    answer[24..26].copy_from_slice(&sum.to_be_bytes());
    // The pseudo-header: addresses, protocol 6, 20 bytes.
    let sum = checksum(&answer[26..54], 6 + 20);
    answer[50..52].copy_from_slice(&sum.to_be_bytes());
    answer
}

/// The Internet checksum (RFC 1071) of an even number of bytes and of what goes before them.
fn checksum(bytes: &[u8], before: u32) -> u16 {
    let (pairs, _) = bytes.as_chunks::<2>();
    let sum = pairs.iter().fold(before, |sum, pair| {
        sum + u32::from(u16::from_be_bytes(*pair))
    });
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Resident memory of this process in bytes.
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    let kilobytes: u64 = kilobytes.expect("a figure").parse().expect("a number");
    kilobytes * 1024
}

/// The program and plan of a policy.
pub fn compiled(policy: &Policy) -> Compiled {
    image::compile(policy.clone()).expect("an image")
}
